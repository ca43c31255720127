"""Check by file names whether data sets and weights are there; their content is verified when they are read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import List, Sequence, Tuple

from gluon_aff.machine.children import ask
from gluon_aff.machine.findings import Finding, mend, note, ok

PUBLISHED_ROOT = "params"
CLONE_VARIABLE = "GLUON_AFF_OPEN_AFF"
IMAGENET_FOLDER = "~/.mxnet/datasets/imagenet"


@dataclass(frozen=True)
class CIFARFiles:
    """Names of a CIFAR set.

    Attributes:
        gluon_folder: its folder in Gluon's folder of data sets.
        archive: the official archive.
        folder: the folder in the archive.
        files: the files in that folder.
    """

    gluon_folder: str
    archive: str
    folder: str
    files: Tuple[str, ...]


CIFAR = {
    "CIFAR-10": CIFARFiles(
        "cifar10",
        "cifar-10-binary.tar.gz",
        "cifar-10-batches-bin",
        (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"),
    ),
    "CIFAR-100": CIFARFiles("cifar100", "cifar-100-binary.tar.gz", "cifar-100-binary", ("train.bin", "test.bin")),
}


def check_data(data_dirs: Sequence[str]) -> List[Finding]:
    """Return a finding for each data set, and one for each folder of `data_dirs` that holds none of them."""
    found = [_check_cifar(name, data_dirs) for name in CIFAR] + [_check_imagenet(data_dirs)]
    empty = [place for place in data_dirs if not any(_all_in(Path(os.path.expanduser(place))))]
    remedy = "name the folder, or CIFAR's .tar.gz archive itself"
    return found + [mend("--data-dir", f"{place}: neither CIFAR nor ImageNet is there", remedy) for place in empty]


def check_weights() -> Finding:
    """Count the published weight files that are there."""
    clone = os.environ.get(CLONE_VARIABLE, "")
    if clone and not Path(clone).is_dir():
        return mend(
            "weights", f"${CLONE_VARIABLE}={clone} is not a directory", "set it to a clone of open-aff, or unset it"
        )
    answer = ask("published_files", PUBLISHED_ROOT, clone)
    if answer.problem:
        return note("weights", f"not counted: {answer.problem}")
    (head, all_head), (first, all_first) = answer.value["head"], answer.value["first"]
    places = f"{PUBLISHED_ROOT}/" + (f" and {clone}" if clone else "")
    said = f"{head} of {all_head} published files in {places}" + (
        f", {first} of {all_first} of the first release" if first else ""
    )
    if head == 0:
        return note("weights", said, f"they are downloaded when needed; ${CLONE_VARIABLE} can name a clone of open-aff")
    return ok("weights", f"{said}; verified when loaded")


def _check_cifar(name: str, data_dirs: Sequence[str]) -> Finding:
    files = CIFAR[name]
    gluons = Path(os.path.expanduser(os.environ.get("MXNET_HOME", "~/.mxnet"))) / "datasets" / files.gluon_folder
    found = [text for place in (gluons, *_paths(data_dirs)) for text in _cifar_in(files, place)]
    if found:
        return ok(name, f"{'; '.join(found)}; verified when loaded")
    return note(
        name, f"not in {gluons}", f"it is downloaded when training starts; or name {files.archive} with --data-dir"
    )


def _check_imagenet(data_dirs: Sequence[str]) -> Finding:
    default = Path(os.path.expanduser(IMAGENET_FOLDER))
    found = [text for place in (default, *_paths(data_dirs)) for text in _imagenet_in(place)]
    if found:
        return ok("ImageNet", f"{'; '.join(found)}; verified when loaded")
    return note("ImageNet", f"not in {default}", "--data-dir or --rec-train name it; make demo-imagenet does without")


def _cifar_in(files: CIFARFiles, place: Path) -> List[str]:
    """Return descriptions of the parts of a CIFAR set that `place`, an archive or a folder, holds."""
    if place.is_file():
        return [str(place)] if place.name == files.archive else []
    for folder in (place, place / files.folder):
        there = [name for name in files.files if (folder / name).is_file()]
        if there:
            missing = [name for name in files.files if name not in there]
            return [f"{folder}" + (f" (without {', '.join(missing)})" if missing else "")]
    archive = place / files.archive
    return [str(archive)] if archive.is_file() else []


def _imagenet_in(place: Path) -> List[str]:
    """Return descriptions of the parts of ImageNet that `place` holds, in record files or class folders."""
    found = []
    for half in ("train", "val"):
        found += [
            f"{folder / half}.rec" + ("" if (folder / f"{half}.idx").is_file() else f" (without {half}.idx)")
            for folder in (place, place / "rec")
            if (folder / f"{half}.rec").is_file()
        ]
        found += [f"{place / half}/"] if _has_folders(place / half) else []
    return found


def _has_folders(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:  # stops at the first of perhaps a thousand class folders
        return any(entry.is_dir() for entry in entries)


def _all_in(place: Path) -> List[str]:
    return [*(text for files in CIFAR.values() for text in _cifar_in(files, place)), *_imagenet_in(place)]


def _paths(data_dirs: Sequence[str]) -> List[Path]:
    return [Path(os.path.expanduser(place)) for place in data_dirs]
