"""Which class each label of a set stands for, and whether two sets agree about it.

Labels are the places of the class folders among their sorted names, so a folder that is missing or is none of the
classes shifts all labels after it. The numbers alone do not show that; the names do.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Dict, Iterator, List, Optional, Sequence, Set

from gluon_aff.errors import DataError

WORDNET_ID = re.compile(r"n\d{8}")  # what ImageNet's class folders are called
LONGEST_LINE = 1 << 16  # characters; a path is shorter on every system
SHOWN = 5  # classes that a message names


@dataclass(frozen=True)
class ClassList:
    """Which class each label of a set stands for.

    Attributes:
        source: the folder or file that says so, for messages.
        names: of the classes, by label.
        whole: whether there are no other classes; a list of images knows only those that have some.
    """

    source: str
    names: Dict[int, str]
    whole: bool

    @property
    def ordered(self) -> List[str]:
        """The names in the order of their labels."""
        return [self.names[label] for label in sorted(self.names)]


def class_list(source: str, names: Sequence[str]) -> ClassList:
    """The list of all classes, the n-th of which has label n."""
    return ClassList(source, dict(enumerate(names)), whole=True)


def check_same_classes(training: Optional[ClassList], validation: Optional[ClassList]) -> bool:
    """Whether both sets' classes are known, in which case every label has to stand for the same class in both.

    Raises:
        DataError: one does not.
    """
    if not training or not validation:
        return False
    different = _different(training, validation)
    if different:
        raise DataError(
            f"{training.source} and {validation.source} have different classes ({named(sorted(different))}), so their "
            "labels would not be the same: add what is missing, empty folders if need be, and remove what is no class; "
            "record files are then to be made anew with gluon-aff make-records"
        )
    return True


def named(names: Sequence[str]) -> str:
    """Some names for a message, the first ones of many."""
    return ", ".join([*names[:SHOWN], *(["..."] if len(names) > SHOWN else [])])


def strangers(names: Sequence[str]) -> List[str]:
    """Names that are no WordNet ids where most of the others, as in ImageNet, are."""
    others = [name for name in names if not WORDNET_ID.fullmatch(name)]
    return others if 2 * len(others) < len(names) else []


def classes_file(record: str) -> str:
    """Path of the file with the names of a record file's classes, one a line, in the order of their labels."""
    return f"{os.path.splitext(record)[0]}.classes"


def classes_content(names: Sequence[str]) -> bytes:
    """What such a file holds."""
    return "".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape")


def read_classes(path: str) -> ClassList:
    """Read such a file.

    Raises:
        DataError: it cannot be read, or a line is empty or is there twice.
    """
    names = list(_lines(path))
    if not names or "" in names or len(set(names)) < len(names):
        raise DataError(f"{path} is no list of classes: each has to stand on a line of its own, once")
    return class_list(path, names)


def record_classes(record: str, labels: int = 0) -> Optional[ClassList]:
    """The classes of a record file: by the file of their names, or by the list of images that im2rec makes.

    Args:
        record: path of the record file, which need not be there.
        labels: how many label values it has, as far as that is known.

    Returns:
        None if neither lies beside the record file, or the list is not one of class folders.

    Raises:
        DataError: one cannot be read, or names fewer classes than there are labels.
    """
    path = classes_file(record)
    if os.path.exists(path):
        known = read_classes(path)
        if labels > len(known.names):
            raise DataError(
                f"{path} names {len(known.names)} classes, and {record} has labels up to {labels - 1}: remove the "
                "one that is out of date, or make both anew with gluon-aff make-records"
            )
        return known
    images = f"{os.path.splitext(record)[0]}.lst"
    return _listed_classes(images) if os.path.exists(images) else None


def _listed_classes(path: str) -> Optional[ClassList]:
    """Lines of a list are a key, a label and a path such as `CLASS/IMAGE`, with tabs between."""
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
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            for line in iter(lambda: file.readline(LONGEST_LINE), ""):
                yield line.rstrip("\r\n")
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
