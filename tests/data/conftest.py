"""Sample sets shared by the data tests; they are written once per session."""

import pytest

from gluon_aff.data.samples.cifar_layout import write_digits, write_shapes


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples") / "digits"
    write_digits(str(folder))
    return folder


@pytest.fixture(scope="session")
def shapes_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples") / "shapes"
    write_shapes(str(folder), train_images=2000, test_images=500)
    return folder
