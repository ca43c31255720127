"""Find out which class each label of a data set stands for, and check that two sets agree.

A label is the place of a class folder among the sorted names, so that a missing or an additional folder shifts all
labels after it. Only the names reveal that, not the numbers.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Dict, Iterator, List, Optional, Sequence, Set

from gluon_aff.errors import DataError

WORDNET_ID = re.compile(r"n\d{8}")  # the names of ImageNet's class folders
LONGEST_LINE = 1 << 16  # bytes; a path is shorter on every system
SHOWN = 5  # number of classes that a message names


@dataclass(frozen=True)
class ClassList:
    """Names of the classes that the labels of a data set stand for.

    Attributes:
        source: the folder or file that they come from, for messages.
        names: names of the classes, by label.
        whole: whether these are all classes; a list of images names only classes that have images.
    """

    source: str
    names: Dict[int, str]
    whole: bool

    @property
    def ordered(self) -> List[str]:
        """Return the names in the order of their labels."""
        return [self.names[label] for label in sorted(self.names)]


def class_list(source: str, names: Sequence[str]) -> ClassList:
    """Return the list of all classes, in which the n-th name has label n, counted from 0."""
    return ClassList(source, dict(enumerate(names)), whole=True)


def check_same_classes(training: Optional[ClassList], validation: Optional[ClassList]) -> bool:
    """Check that every label stands for the same class in two sets, and return whether the classes of both are known.

    Raises:
        DataError: both are known, and a label stands for different classes.
    """
    if not training or not validation:
        return False
    different = _different(training, validation)
    if different:
        raise DataError(
            f"{training.source} and {validation.source} have different classes ({named(sorted(different))}), so that "
            "their labels would not be the same: add missing classes, if necessary as empty folders, remove folders "
            "that are not classes, and make record files again with gluon-aff make-records"
        )
    return True


def named(names: Sequence[str]) -> str:
    """Join names for a message, and shorten a long list to its first names."""
    return ", ".join([*names[:SHOWN], *(["..."] if len(names) > SHOWN else [])])


def strangers(names: Sequence[str]) -> List[str]:
    """Return the names that are not WordNet ids if most of the names are, as in ImageNet; otherwise none."""
    others = [name for name in names if not WORDNET_ID.fullmatch(name)]
    return others if 2 * len(others) < len(names) else []


def classes_file(record: str) -> str:
    """Return the path of the file that lists a record file's classes, one per line in the order of their labels."""
    return f"{os.path.splitext(record)[0]}.classes"


def classes_content(names: Sequence[str]) -> bytes:
    """Return the content of a `.classes` file that lists these names."""
    return "".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape")


def read_classes(path: str) -> ClassList:
    """Read a `.classes` file.

    Raises:
        DataError: it cannot be read, or a line is empty or occurs twice.
    """
    names = list(_lines(path))
    if not names or "" in names or len(set(names)) < len(names):
        raise DataError(f"{path} is not a list of classes: write each on a line of its own, once")
    return class_list(path, names)


def record_classes(record: str, labels: int = 0) -> Optional[ClassList]:
    """Return the classes of a record file from the `.classes` file or im2rec's `.lst` file next to it.

    Args:
        record: path of the record file, which does not have to exist.
        labels: number of labels in the record file, 0 if it is not known.

    Returns:
        The classes; None if there is neither file, or if the `.lst` file was not made from class folders.

    Raises:
        DataError: a file cannot be read, or names fewer classes than there are labels.
    """
    path = classes_file(record)
    if os.path.exists(path):
        known = read_classes(path)
        if labels > len(known.names):
            raise DataError(
                f"{path} names {len(known.names)} classes, but {record} has labels up to {labels - 1}: remove the "
                "one that is out of date, or make both again with gluon-aff make-records"
            )
        return known
    images = f"{os.path.splitext(record)[0]}.lst"
    return _listed_classes(images) if os.path.exists(images) else None


def _listed_classes(path: str) -> Optional[ClassList]:
    """Read the classes from a `.lst` file, whose lines are a key, a label and a path `CLASS/IMAGE`, tab-separated."""
    names: Dict[int, str] = {}
    labels: Dict[str, int] = {}
    for line in _lines(path):
        fields = line.split("\t")
        if len(fields) != 3:
            return None
        name = PurePosixPath(fields[2].replace("\\", "/")).parent.name
        try:
            label = int(float(fields[1]))
        except (ValueError, OverflowError):
            return None
        if not name or names.setdefault(label, name) != name or labels.setdefault(name, label) != label:
            return None
    return ClassList(path, names, whole=False) if names else None


def _lines(path: str) -> Iterator[str]:
    try:
        with open(path, "rb") as file:
            for line in iter(lambda: file.readline(LONGEST_LINE), b""):
                yield line.decode("utf-8", "surrogateescape").rstrip("\r\n")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; remove it or copy it again") from None


def _different(training: ClassList, validation: ClassList) -> Set[str]:
    here, there = training.names, validation.names
    different = {name for label in here.keys() & there.keys() if here[label] != there[label] for name in
                 (here[label], there[label])}  # fmt: skip
    labels_here = {name: label for label, name in here.items()}
    labels_there = {name: label for label, name in there.items()}
    different |= {name for name in labels_here.keys() & labels_there.keys() if labels_here[name] != labels_there[name]}
    missing: Set[str] = labels_here.keys() ^ labels_there.keys() if training.whole and validation.whole else set()
    return missing or different
