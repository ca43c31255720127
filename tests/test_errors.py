"""The error about an unknown name."""

import pytest

from gluon_aff.errors import unknown_name


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("aff_resnet32", "did you mean aff_resnet32_cifar100?"),  # though aff_resnet50 has a higher ratio
        ("aff_resnet5", "did you mean aff_resnet50?"),
        ("resnet50", "did you mean aff_resnet50?"),
        ("zzz", "unknown model 'zzz': gluon-aff models lists them"),
        ("", "unknown model '': gluon-aff models lists them"),
    ],
)
def test_a_name_that_begins_with_what_was_typed_is_suggested_first(name, suggested):
    known = ["aff_resnet50", "aff_resnet32_cifar100_superclass", "aff_resnet32_cifar100"]
    assert suggested in str(unknown_name("model", name, known, "gluon-aff models"))


def test_names_that_begin_with_what_was_typed_stand_first_in_a_long_list():
    known = [f"resnet{i}" for i in range(50)] + ["resnext101", "resnext101_with_a_long_name"]
    listed = str(unknown_name("model", "resnext1", known)).split("the nearest of 52 are ")[1].split(", ")
    assert listed[:3] == ["resnext101", "resnext101_with_a_long_name", "resnet1"]
    assert len(set(listed)) == len(listed) == 5
