"""Translate a run's settings into a recipe: network, data and schedule in terms that are common to all releases.

A value is None if the log does not contain it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence

from gluon_aff.errors import InputError
from gluon_aff.models import CIFAR_HOSTS
from gluon_aff.published import PublishedRun, published_runs
from gluon_aff.results.logs import LoggedRun
from gluon_aff.schedule import decay_epochs
from gluon_aff.settings.cifar import CIFARSettings
from gluon_aff.settings.declaration import AFINET, ASSEMBLED, declared
from gluon_aff.settings.imagenet import ImageNetSettings
from gluon_aff.settings.shared import COUNT

Recipe = Dict[str, Any]
FUSION_NAMES = {
    "ASKCFuse": "AFF",
    "ResGlobLocaforGlobLocaCha": "iAFF",
    "ResGlobGlobCha": "Global + Global",
    "ResLocaLocaCha": "Local + Local",
}
# Only these settings decide which network is trained, and on which labels
NETWORK = ("data set", "host", "release", "fusion", "depth", "width", "first fused stage", "labels")
# Further settings of the network, for runs that do not name a listed one
NETWORK_DETAILS = (
    *("network in detail", "deep stem", "channel reduction ratio", "squeeze-and-excitation", "last gamma at zero"),
    "all 152 layers",
)
LABELS_BY_NUMBER = {"20": "superclass", "100": "fine"}


@dataclass(frozen=True)
class Difference:
    """A setting in which two recipes differ."""

    setting: str
    this: Any
    published: Any


def logged_recipe(run: LoggedRun) -> Recipe:
    """Return the recipe of a logged run.

    Raises:
        InputError: the run has no complete settings line, or the line is not one of a training run.
    """
    if run.settings is None:
        raise InputError(_without_settings(run))
    try:
        recipe = _imagenet(run.settings) if "num_gpus" in run.settings else _cifar(run.settings)
        recipe.update(_listed_network(run.settings, recipe))
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise InputError(f"the settings line is not one of a training run ({error})") from None
    if recipe["data set"] == "cifar100" and recipe["labels"] is None:
        recipe["labels"] = LABELS_BY_NUMBER.get(run.header.get("label_values", ""))
    if "images_per_step" in run.header:
        recipe["images per step"] = int(run.header["images_per_step"])
    if "head" in run.header:
        recipe["outputs"] = int(run.header["head"])
    if "data" in run.header:
        recipe["data"] = run.header["data"]
    return recipe


def _without_settings(run: LoggedRun) -> str:
    """Say where the settings of `run` are missing; a text that quotes a log's lines reads like a log without them."""
    if run.settings_line:
        return f"line {run.settings_line} is a settings line (Namespace), but not a complete one"
    assert run.lines  # a run begins with its settings or with figures
    return (
        f"line {run.lines[0]} looks like a training log's, but its run has no settings line (Namespace) before it, so "
        "this may be no log"
    )


def published_recipe(run: PublishedRun) -> Recipe:
    """Return the recipe of a published run, including what its settings line does not contain."""
    recipe = _imagenet(run.settings) if run.dataset == "imagenet" else _cifar(run.settings)
    layers = re.search(r"resne(x?)t(\d+)", run.model)
    assert layers
    return {
        **recipe,
        "labels": run.labels,
        **_host(bool(layers[1]), run.release == "first"),
        "fusion": FUSION_NAMES[run.fusion],
        "depth": int(layers[2]),
        "images per step": run.global_batch,
        "outputs": {"cifar10": 10, "cifar100": 100, "imagenet": 1000}[run.dataset],
        "data": "official",
    }


def unsaid(recipe: Recipe, published: Recipe) -> List[str]:
    """Return the settings of the network that `published` contains and `recipe` does not."""
    return [name for name in NETWORK if recipe.get(name) is None and published.get(name) is not None]


def differences(recipe: Recipe, published: Recipe) -> List[Difference]:
    """Return the settings that both recipes contain and that differ, those of the network first."""
    names = dict.fromkeys([*NETWORK, *published])
    pairs = [Difference(name, recipe.get(name), published.get(name)) for name in names]
    return [pair for pair in pairs if None not in (pair.this, pair.published) and pair.this != pair.published]


def _listed_network(settings: Mapping[str, Any], recipe: Recipe) -> Recipe:
    """Return the network's part of the recipe if --model is listed by `gluon-aff models`; an empty one otherwise."""
    model = str(settings.get("model"))
    if "seed" not in settings or model in CIFAR_HOSTS:
        return {}
    of_network = {*NETWORK, *NETWORK_DETAILS}.intersection(recipe) - {"data set", "labels"}
    for run in published_runs().values():
        if run.model == model:
            known = published_recipe(run)
            return {name: known.get(name) for name in of_network}
    names = (name for name, each in declared(CIFARSettings).items() if AFINET in each.networks)
    own = [f"{name} {settings[name]}" for name in names if settings.get(name) is not None]
    detail = ", ".join(own) or "its own"
    return {**dict.fromkeys(of_network), "host": model, "release": "head", "network in detail": detail}


def _cifar(settings: Mapping[str, Any]) -> Recipe:
    first_release = "askc_type" not in settings
    model = str(settings.get("model", "resnet"))
    named = re.match(r"resnext(\d+)_", model)  # a ResNeXt of the first release, whose name alone says its size
    dataset = settings.get("dataset")
    stepped = not settings.get("cosine")
    epochs = _epochs(settings)
    warmup = int(settings.get("warmup_epochs", 0))
    return {
        "data set": dataset,
        "labels": "cifar10" if dataset == "cifar10" else _labels(settings),
        **_host(model.startswith("resnext"), first_release),
        **({} if named or model in ("resnet", "resnext") else {"host": model}),
        "fusion": None if first_release else _fusion(settings["askc_type"]),
        "network in detail": _details(settings, CIFARSettings, r=(4 if model == "resnet" else 16,)),
        "depth": int(named[1]) if named else (9 if model == "resnext" else 6) * int(settings["blocks"]) + 2,
        "width": None if named else settings.get("channel_times"),
        "first fused stage": settings.get("start_layer"),
        "deep stem": settings.get("deep_stem", False),
        "initial weights": settings.get("init", "xavier"),
        "start": _start(settings.get("resume_from")),
        "epochs": epochs,
        "images per step": settings["batch_size"] * len(str(settings.get("gpus")).split(",")),
        "learning rate": settings.get("lr"),
        "schedule": _steps(settings, epochs, warmup, once=True) if stepped else f"cosine after {warmup} warm-up epochs",
        "optimizer": settings.get("optimizer", "nag"),
        "momentum": settings.get("momentum"),
        "weight decay": settings.get("wd"),
        "no decay of beta, gamma, bias": bool(settings.get("no_wd")) and not stepped,
        **_regularisation(settings, settings.get("mixup", first_release), 20 if first_release else 40),
        "AutoAugment": settings.get("auto_aug", False),
    }


def _imagenet(settings: Mapping[str, Any]) -> Recipe:
    first_release = "num_layer" not in settings
    names = (str(settings.get("model")), str(settings.get("scenario")).lower())
    resnext = any(name.startswith("resnext") for name in names)
    epochs = _epochs(settings)
    warmup = int(settings["warmup_epochs"])
    mode = settings.get("lr_mode")
    records = settings.get("use_rec")
    return {
        "data set": "imagenet",
        "labels": "imagenet",
        **_host(resnext if resnext or "model" in settings else None, first_release),
        "fusion": _fusion(settings["askc_type"]) if settings.get("askc_type") else None,
        "depth": settings.get("num_layer", 50),
        "all 152 layers": bool(settings.get("exact_layers")),
        "first fused stage": settings.get("start_layer", 3),
        "network in detail": _details(settings, ImageNetSettings),
        "channel reduction ratio": settings.get("r") if "exact_layers" in settings else 16,  # constant in the original
        "squeeze-and-excitation": "exact_layers" in settings and resnext and bool(settings.get("use_se")),
        "last gamma at zero": resnext or settings.get("last_gamma"),  # the original passes the flag to the ResNet only
        "input size": settings.get("input_size"),
        "number format": settings.get("dtype"),
        "start": _start(settings.get("resume_params")),
        "teacher": settings.get("teacher") or "none",
        "epochs": epochs,
        "images per step": int(settings["batch_size"]) * max(int(settings["num_gpus"]), 1),
        "learning rate": settings.get("lr"),
        "schedule": _steps(settings, epochs, 0) if mode == "step" else f"{mode} after {warmup} warm-up epochs",
        "optimizer": settings.get("optimizer", "nag"),
        "momentum": settings.get("momentum"),
        "weight decay": settings.get("wd"),
        "no decay of beta, gamma, bias": settings.get("no_wd"),
        **_regularisation(settings, settings["mixup"], settings["mixup_off_epoch"]),
        "AutoAugment": bool(settings.get("auto_aug")) and not records,  # no effect on records
        "record files": records,
    }


def _host(resnext: Optional[bool], first_release: bool) -> Recipe:
    name = None if resnext is None else "ResNeXt" if resnext else "ResNet"
    return {"host": name, "release": "first" if first_release else "head"}


def _details(settings: Mapping[str, Any], kind: type, **usual: Sequence[Any]) -> str:
    """Describe how our options change the original's network.

    `usual` are values of options, besides the defaults, that do not change it.
    """
    usual = {"context": ("bottleneck",), "exact_layers": (True,), **usual}  # exact_layers has its own recipe entry
    changed = [
        f"{name} {settings[name]}"
        for name, each in declared(kind).items()
        if each.new and ASSEMBLED in each.networks and name in settings
        if settings[name] not in (each.default, *usual.get(name, ()))
    ]
    return ", ".join(changed) or "the original's"


def _start(weights: Optional[str]) -> str:
    return "weights of another run" if weights else "scratch"


def _epochs(settings: Mapping[str, Any]) -> int:
    epochs = int(settings["num_epochs"])
    if not COUNT[0] <= epochs <= COUNT[1]:
        raise ValueError(f"num_epochs={epochs}")
    return epochs


def _labels(settings: Mapping[str, Any]) -> Optional[str]:
    """Return CIFAR-100's label set; None for the original's settings, which do not contain it."""
    if "fine_label" not in settings:
        return None
    return "fine" if settings["fine_label"] else "superclass"


def _fusion(flag: str) -> str:
    return FUSION_NAMES.get(flag, flag)


def _steps(settings: Mapping[str, Any], epochs: int, warmup: int, once: bool = False) -> str:
    """Describe when the learning rate is reduced; with `once`, an epoch that is named repeatedly counts once."""
    listed, period = str(settings.get("lr_decay_epoch")), int(settings["lr_decay_period"])
    cuts = decay_epochs(listed, period, epochs, warmup)
    return f"times {settings.get('lr_decay')} at epochs {', '.join(map(str, dict.fromkeys(cuts) if once else cuts))}"


def _regularisation(settings: Mapping[str, Any], mixup: bool, usually_off: int) -> Recipe:
    """Describe mixup, which is off for the last `usually_off` epochs if the log does not say so, and smoothing."""
    off = settings.get("mixup_off_epoch", usually_off)
    return {
        "mixup": f"alpha {settings.get('mixup_alpha', 1):g}" if mixup else "none",
        "mixup off for the last": f"{off} epochs" if mixup else "all epochs",
        "label smoothing": settings.get("label_smoothing", False),
    }
