"""The published figures are held whole: not a digit of them changes without its hash in SHA256SUMS beside this file.

The hashes of six curves were made from the original's own logs, by a parser that shares nothing with this package's:
those of AFF-ResNet-32 (`aff_resnet32_fine`, `aff_resnet32_superclass_run1`, `_run2`, `_aborted1`, `_aborted2`) and
`aff_resnet50`. Each log was first seen to have the git blob SHA-1 that `index.json` gives for it. Then its lines were
written as CSV, every figure as it is printed there; the result was hashed, and was equal to the file in
`logs/published` byte for byte. The other hashes are of the files as they were made from the original repository (at
0bcfd8a and 806562e), whose other logs were not at hand. `paper_tables.json` is also held against the printed tables,
in test_papers.py. From a shell: `cd logs/published && sha256sum -c ../../tests/published/SHA256SUMS`.
"""

import hashlib
from pathlib import Path

import pytest

from gluon_aff.published import FIGURES

SUMS = dict(line.split("  ")[::-1] for line in (Path(__file__).parent / "SHA256SUMS").read_text().splitlines())


def test_every_file_has_its_hash():
    folder = FIGURES.resolve()
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == set(SUMS)


@pytest.mark.parametrize("name", SUMS)
def test_a_file_is_the_one_that_was_published(name):
    assert hashlib.sha256((FIGURES / name).read_bytes()).hexdigest() == SUMS[name]
