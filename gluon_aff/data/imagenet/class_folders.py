"""Find the images and labels in class folders, and report entries that are left out."""

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
    """Images found in class folders.

    Attributes:
        samples: path and label of each image, sorted by folder and name.
        classes: the class of each label.
        notes: lines about entries that are left out and classes without images.
    """

    samples: List[Tuple[str, int]]
    classes: ClassList
    notes: Tuple[str, ...]


def class_folders(place: str, layout: str, classes: Optional[ClassList] = None) -> ClassFolders:
    """Find the images in class folders by the endings of their names; hidden entries are skipped.

    Args:
        place: folder that holds the class folders.
        layout: expected layout for messages, such as "val/CLASS/IMAGE".
        classes: the class of each label; None numbers the sorted names of the folders.

    Raises:
        DataError: the folder cannot be read or holds no images, or a class folder is not among the `classes`.
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
    """Return the classes of the class folders in `train`, next to a folder with other images of the same data set.

    Returns:
        The classes; None if `train` does not exist, has no class folders, or is `folder` itself.

    Raises:
        DataError: `train` cannot be read.
    """
    folder = os.path.abspath(folder)
    beside = os.path.join(os.path.dirname(folder), "train")
    return named_folders(beside) if folder != beside and os.path.isdir(beside) else None


def named_folders(place: str) -> Optional[ClassList]:
    """Return the classes that the folders in `place` stand for, even if they are empty; None if there are no folders.

    Raises:
        DataError: `place` cannot be read.
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
            f"{place} has class folders that {classes.source} does not have ({named(unknown)}), so that there are no "
            "labels for them: remove folders that are not classes, or name the training set with --classes"
        )
    return labels


def _entries(place: str) -> Tuple[List[str], List[str]]:
    """Return the names of the folders in `place`, and of everything else there, sorted and without hidden entries."""
    names = sorted(name for name in os.listdir(place) if not name.startswith("."))
    folders = [name for name in names if os.path.isdir(os.path.join(place, name))]
    return folders, sorted(set(names) - set(folders))


def _images(folder: str) -> Tuple[List[str], List[str]]:
    """Return the paths of the images in a class folder, and the kinds of all other entries."""
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
        notes.append(f"{place}: {len(empty):,} classes have no images: {named(empty)}")
    return notes
