"""Names of training runs and of their files, written and read.

A run's name is the original's, such as `cifar100-ASKCFuse-resnet-32-c-4-s-1`; then come the options that the original
does not have, where they are not as usual, as their declarations say (`Option.in_name`).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

from gluon_aff.models import MODELS, cifar_cardinality
from gluon_aff.settings.cifar import CIFARSettings
from gluon_aff.settings.declaration import AFINET, ASSEMBLED, Option, declared
from gluon_aff.settings.imagenet import ORIGINAL_R, ImageNetSettings
from gluon_aff.settings.segmentation import SegmentationSettings
from gluon_aff.settings.shared import CurveSettings, RunSettings, stages_in

LOG, CURVE, CHECKPOINTS = "train_{}.log", "{}_history.png", "{}.checkpoint"  # of the run of that name
IMAGENET_FILES = "imagenet-"  # what their names have before the run's
IMAGENET_RUNS = "ImageNet-"
# Patterns of what stands in names
DATASET, FUSION, MODEL, NUMBER, STAGE = "cifar100|cifar10", r"[\w+-]+?", r"\w+", r"\d{1,4}", r"-?\d{1,7}"
VALUES = {int: r"\d{1,7}", float: r"\d+(?:\.\d+)?(?:e[-+]?\d+)?", str: r"\d{1,3}(?:\+\d{1,3})*"}


@dataclass(frozen=True)
class Scheme:
    """How the runs of a command are named that train networks of one kind.

    Attributes:
        settings: class of the command's settings.
        networks: the kind, as in `Option.networks`; AFINETs stand for all networks that `gluon-aff models` lists.
        template: what all names have, with the names of settings in braces.
        patterns: of those settings; of what older files have there, too.
        usual: values of options that are not said, besides the defaults.
    """

    settings: type
    networks: str
    template: str
    patterns: Mapping[str, str]
    usual: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> List[Option]:
        """Options that a name has where they are not as usual."""
        options = declared(self.settings).values()
        return [each for each in options if each.in_name is not None and self.networks in each.networks]

    @property
    def pattern(self) -> str:
        """Regular expression of the names."""
        named = {name: f"(?P<{name}>{pattern})" for name, pattern in self.patterns.items()}
        return self.template.format(**named) + "".join(map(_part_pattern, self.parts))


SCHEMES = {
    "cifar": Scheme(
        CIFARSettings,
        ASSEMBLED,
        "{dataset}-{again}{askc_type}-{model}-{depth}{groups}-c-{channel_times}-s-{start_layer}",
        {
            **{"dataset": DATASET, "again": "(?:cifar100-)?", "askc_type": FUSION, "model": "resnet|resneXt|inception"},
            **{"depth": NUMBER, "groups": r"(?:-\d+x4)?", "channel_times": NUMBER, "start_layer": STAGE},
        },
    ),
    "imagenet": Scheme(
        ImageNetSettings,
        ASSEMBLED,
        f"{IMAGENET_RUNS}{{askc_type}}-{{model}}--{{num_layer}}-s-{{start_layer}}",  # the original has two dashes
        {"askc_type": FUSION, "model": "resnet|resnext", "num_layer": NUMBER, "start_layer": STAGE},
        usual={"r": ORIGINAL_R},
    ),
    "segmentation": Scheme(
        SegmentationSettings,
        ASSEMBLED,
        "stopsign-{askc_type}-resnet-20-{blocks}-fpn-c-{channel_times}",
        {"askc_type": FUSION, "blocks": NUMBER, "channel_times": NUMBER},
    ),
    "listed cifar": Scheme(CIFARSettings, AFINET, "{dataset}-{model}", {"dataset": DATASET, "model": MODEL}),
    "listed imagenet": Scheme(
        ImageNetSettings,
        AFINET,
        "{data}{model}",
        {"data": f"{IMAGENET_FILES}{IMAGENET_RUNS}|{IMAGENET_FILES}|{IMAGENET_RUNS}", "model": MODEL},
    ),
}


@dataclass(frozen=True)
class RunName:
    """What the name of a run says.

    Attributes:
        scheme: key of `SCHEMES`.
        values: settings by name, with the `depth` of CIFAR's networks.
    """

    scheme: str
    values: Mapping[str, Any]

    def __str__(self) -> str:
        scheme = SCHEMES[self.scheme]
        written = {**self.values, "again": "", "groups": "", "data": IMAGENET_RUNS}
        if self.scheme == "cifar" and self.values["model"] == "resnext":
            written.update(model="resneXt", groups=f"-{cifar_cardinality(self.values['channel_times'])}x4")
        return scheme.template.format(**written) + self.suffix

    @property
    def suffix(self) -> str:
        """The options that come last."""
        said = [each for each in SCHEMES[self.scheme].parts if each.name in self.values]
        return "".join(f"{each.in_name}{self.values[each.name]}".replace(",", "+") for each in said)

    @property
    def dataset(self) -> Optional[str]:
        """Data set of the classes: cifar10, cifar100 or imagenet; None of a network that segments."""
        return self.values.get("dataset") or ("imagenet" if "imagenet" in self.scheme else None)


def name_of(settings: RunSettings) -> RunName:
    """Name of the run of resolved `settings`."""
    (key,) = (
        key
        for key, scheme in SCHEMES.items()
        if scheme.settings is type(settings) and (scheme.networks == AFINET) == settings.named
    )
    scheme = SCHEMES[key]
    values = {name: getattr(settings, name) for name in scheme.patterns if hasattr(settings, name)}
    for each in scheme.parts:
        value = getattr(settings, each.name)
        idle = each.hosts and values["model"] not in each.hosts
        if not idle and value not in (each.default, scheme.usual.get(each.name)):
            values[each.name] = value
    if "stages" in values:
        values["stages"] = ",".join(map(str, stages_in(values["stages"]) or ()))
    return RunName(key, values)


def names_in(text: str) -> List[RunName]:
    """Names of runs that `text`, the name of a file, may have."""
    found = []
    for key, scheme in SCHEMES.items():
        match = re.search(scheme.pattern, text)
        if match and (scheme.networks == ASSEMBLED or match["model"] in MODELS):
            found.append(RunName(key, _values(match.groupdict(), scheme)))
    return found


@dataclass(frozen=True)
class RunPaths:
    """Where the files of a run go.

    Attributes:
        name: what the names of its files have in common.
        checkpoints: their folder; None if there are none.
        log: None if there is none.
        curve: of the errors; None where the recipe draws none.
    """

    name: str
    checkpoints: Optional[str]
    log: Optional[str]
    curve: Optional[str]


def paths_of(settings: RunSettings) -> RunPaths:
    """Where the files of the run of resolved `settings` go."""
    name, log, curve = str(name_of(settings)), None, None
    if isinstance(settings, ImageNetSettings):
        name, log = f"{IMAGENET_FILES}{name}", settings.logging_file
    elif isinstance(settings, CurveSettings):
        log = os.path.join(settings.logging_dir, LOG.format(name)) if settings.logging_dir else None
        curve = os.path.join(settings.save_plot_dir, CURVE.format(name))
    kept = settings.saves and settings.checkpoint_every
    return RunPaths(name, os.path.join(settings.save_dir, CHECKPOINTS.format(name)) if kept else None, log, curve)


def best_file(name: str, score: float, epoch: Optional[int] = None) -> str:
    """File, but for its suffix, of the best weights so far; `score` in 0..1, the error where the `epoch` is told."""
    return f"{score:.4f}-{name}{'' if epoch is None else f'-{epoch}'}-best"


def periodic_file(name: str, epoch: int) -> str:
    """File, but for its suffix, of an epoch's weights, however good they are."""
    return f"{name}-{epoch}"


def best_in(file: str, name: str) -> Optional[Tuple[float, int]]:
    """Score and epoch that the name of a `.params` file says, if it is one of the run's best."""
    found = re.fullmatch(rf"([01]\.\d{{4}})-{re.escape(name)}-(\d+)-best\.params", file)
    return (float(found[1]), int(found[2])) if found else None


def _part_pattern(each: Option) -> str:
    values = VALUES[each.kind]
    if each.choices:
        values = "|".join(re.escape(choice) for choice in each.choices if choice != each.default)
    return f"(?:{each.in_name}(?P<{each.name}>{values}))?"


def _values(found: Mapping[str, Optional[str]], scheme: Scheme) -> Dict[str, Any]:
    options = declared(scheme.settings)
    kinds = {"depth": int, **{name: each.kind for name, each in options.items()}}
    values = {name: kinds[name](text) for name, text in found.items() if name in kinds and text is not None}
    if "model" in values:
        values["model"] = values["model"].lower()
    if "stages" in values:
        values["stages"] = values["stages"].replace("+", ",")
    return values
