"""Class folders: their images, their labels, and what in them is no image."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from gluon_aff.data.image_formats import ENDINGS
from gluon_aff.data.imagenet.class_lists import ClassList, class_list, named
from gluon_aff.errors import DataError


@dataclass(frozen=True)
class ClassFolders:
    """The images in class folders.

    Attributes:
        samples: path and label of each image, sorted by folder and name.
        classes: which class each label stands for.
        notes: what a user should know about them, a line each.
    """

    samples: List[Tuple[str, int]]
    classes: ClassList
    notes: Tuple[str, ...]


def class_folders(place: str, layout: str, classes: Optional[ClassList] = None) -> ClassFolders:
    """The images in class folders, taken by the endings of their names; hidden entries are passed over.

    Args:
        place: folder with the class folders.
        layout: what to name instead, for messages, such as "val/CLASS/IMAGE".
        classes: which label each folder has; its place among the sorted names if None.

    Raises:
        DataError: the folder cannot be read or has no such images, or a class folder is none of the `classes`.
    """
    left_out: Counter[str] = Counter()
    samples: List[Tuple[str, int]] = []
    empty: List[str] = []
    try:
        folders, loose = _entries(place)
        classes = classes or class_list(place, folders)
        labels = _labels(place, folders, classes)
        for folder in folders:
            files, others = _images(os.path.join(place, folder))
            left_out.update(others)
            samples += [(path, labels[folder]) for path in files]
            if not files:
                empty.append(folder)
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}; name a folder with {layout}") from None
    if not folders:
        raise DataError(f"{place} has no class folders: name a folder with {layout}")
    if not samples:
        raise DataError(
            f"{place}: none of its {len(folders)} class folders, such as {folders[0]}, holds an image "
            f"({', '.join(ENDINGS)}): name a folder with {layout}"
        )
    left_out.update(kind for kind in map(_kind, loose) if kind in ENDINGS)
    empty += sorted(set(labels) - set(folders))
    return ClassFolders(samples, classes, tuple(_notes(place, left_out, empty)))


def training_folders_beside(folder: str) -> Optional[ClassList]:
    """The classes of the class folders in `train` beside a folder with other images of a data set.

    Returns:
        None if there are none, or that is the folder itself.

    Raises:
        DataError: `train` cannot be read.
    """
    folder = os.path.abspath(folder)
    beside = os.path.join(os.path.dirname(folder), "train")
    return named_folders(beside) if folder != beside and os.path.isdir(beside) else None


def named_folders(place: str) -> Optional[ClassList]:
    """The classes that the folders in `place` stand for, whatever is in them; None without any.

    Raises:
        DataError: it cannot be read.
    """
    try:
        folders, _ = _entries(place)
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}; name a folder with a folder for each class") from None
    return class_list(place, folders) if folders else None


def _labels(place: str, folders: List[str], classes: ClassList) -> Dict[str, int]:
    labels = {name: label for label, name in classes.names.items()}
    unknown = [folder for folder in folders if folder not in labels]
    if unknown:
        raise DataError(
            f"{place} has class folders that {classes.source} has not ({named(unknown)}), so there is no label for "
            "them: remove what is no class, or name the folder whose classes count with --classes"
        )
    return labels


def _entries(place: str) -> Tuple[List[str], List[str]]:
    """Folders, and what is none, that are not hidden, sorted."""
    names = sorted(name for name in os.listdir(place) if not name.startswith("."))
    folders = [name for name in names if os.path.isdir(os.path.join(place, name))]
    return folders, sorted(set(names) - set(folders))


def _images(folder: str) -> Tuple[List[str], List[str]]:
    """Paths of the images in a class folder, and the kind of everything else there."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    images = [name for name in names if _kind(name) in ENDINGS]
    others = [name for name in names if _kind(name) not in ENDINGS]
    kinds = ["folder" if os.path.isdir(os.path.join(folder, name)) else _kind(name) for name in others]
    return [os.path.join(folder, name) for name in images], kinds


def _kind(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "without an ending"


def _notes(place: str, left_out: Dict[str, int], empty: List[str]) -> List[str]:
    notes = []
    if left_out:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(left_out.items()))
        notes.append(
            f"{place}: {sum(left_out.values()):,} entries are left out ({kinds}): only files in class folders with "
            f"these endings are read: {', '.join(ENDINGS)}"
        )
    if empty:
        notes.append(f"{place}: {len(empty):,} of the classes have no images: {named(empty)}")
    return notes
