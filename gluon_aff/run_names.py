"""Write and read the names of training runs and of their files.

A run has the original's name, such as `cifar100-ASKCFuse-resnet-32-c-4-s-1`. Options that the original lacks follow if
they differ from their defaults, with the text that their declarations give (`Option.in_name`).
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

LOG, CURVE, CHECKPOINTS = "train_{}.log", "{}_history.png", "{}.checkpoint"  # the run's name goes into the braces
IMAGENET_FILES = "imagenet-"  # precedes the run's name in the names of its files
IMAGENET_RUNS = "ImageNet-"
# Regular expressions of the values in names
DATASET, FUSION, MODEL, NUMBER, STAGE = "cifar100|cifar10", r"[\w+-]+?", r"\w+", r"\d{1,4}", r"-?\d{1,7}"
VALUES = {int: r"\d{1,7}", float: r"\d+(?:\.\d+)?(?:e[-+]?\d+)?", str: r"\d{1,3}(?:\+\d{1,3})*"}


@dataclass(frozen=True)
class Scheme:
    """Scheme of the names of runs that one command trains with one kind of networks.

    Attributes:
        settings: class of the command's settings.
        networks: kind of the networks, as in `Option.networks`; AFINET stands for all that `gluon-aff models` lists.
        template: the part that all names have, with the names of settings in braces.
        patterns: regular expressions of these settings, including the forms that older files have.
        usual: values of options that the name leaves out, in addition to the defaults.
    """

    settings: type
    networks: str
    template: str
    patterns: Mapping[str, str]
    usual: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> List[Option]:
        """Return the options that a name states if they differ from their usual values."""
        options = declared(self.settings).values()
        return [each for each in options if each.in_name is not None and self.networks in each.networks]

    @property
    def pattern(self) -> str:
        """Return the regular expression that matches the names."""
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
    """The name of a run, in parts.

    Attributes:
        scheme: key of the scheme in `SCHEMES`.
        values: settings that the name states, by their names, and the `depth` of CIFAR's networks.
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
        """Return the last part of the name, which states options that the original lacks, such as `-r-8-strided`."""
        said = [each for each in SCHEMES[self.scheme].parts if each.name in self.values]
        return "".join(f"{each.in_name}{self.values[each.name]}".replace(",", "+") for each in said)

    @property
    def dataset(self) -> Optional[str]:
        """Return the data set of the classes: cifar10, cifar100 or imagenet; None for segmentation."""
        return self.values.get("dataset") or ("imagenet" if "imagenet" in self.scheme else None)


def name_of(settings: RunSettings) -> RunName:
    """Return the name of the run that resolved `settings` describe."""
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
    """Return all names of runs that the name of a file, `text`, may contain."""
    found = []
    for key, scheme in SCHEMES.items():
        match = re.search(scheme.pattern, text)
        if match and (scheme.networks == ASSEMBLED or match["model"] in MODELS):
            found.append(RunName(key, _values(match.groupdict(), scheme)))
    return found


@dataclass(frozen=True)
class RunPaths:
    """Paths of the files of a run.

    Attributes:
        name: the part that the names of all its files have in common.
        checkpoints: folder of the checkpoints; None if none are written.
        log: path of the log; None if none is written.
        curve: path of the curve of errors; None if the recipe draws none.
    """

    name: str
    checkpoints: Optional[str]
    log: Optional[str]
    curve: Optional[str]


def paths_of(settings: RunSettings) -> RunPaths:
    """Return the paths of the files of the run that resolved `settings` describe."""
    name, log, curve = str(name_of(settings)), None, None
    if isinstance(settings, ImageNetSettings):
        name, log = f"{IMAGENET_FILES}{name}", settings.logging_file
    elif isinstance(settings, CurveSettings):
        log = os.path.join(settings.logging_dir, LOG.format(name)) if settings.logging_dir else None
        curve = os.path.join(settings.save_plot_dir, CURVE.format(name))
    kept = settings.saves and settings.checkpoint_every
    return RunPaths(name, os.path.join(settings.save_dir, CHECKPOINTS.format(name)) if kept else None, log, curve)


def best_file(name: str, score: float, epoch: Optional[int] = None) -> str:
    """Return the file name, without its suffix, of the best weights so far.

    Args:
        name: the part that the names of the run's files have in common.
        score: accuracy or IoU in 0..1; on ImageNet, which gives the `epoch`, the top-1 error.
        epoch: number of the epoch, from 0; None leaves it out of the name.
    """
    return f"{score:.4f}-{name}{'' if epoch is None else f'-{epoch}'}-best"


def periodic_file(name: str, epoch: int) -> str:
    """Return the file name, without its suffix, of the periodic weights of an epoch."""
    return f"{name}-{epoch}"


def best_in(file: str, name: str) -> Optional[Tuple[float, int]]:
    """Return the score and the epoch in the name of a file of the run's best weights; None for other files."""
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
