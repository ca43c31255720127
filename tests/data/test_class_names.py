import hashlib
from importlib import import_module

import pytest

from gluon_aff.data.class_names import IMAGENET, class_names
from gluon_aff.data.samples.cifar_layout import COLOURS, SHAPES
from gluon_aff.errors import InputError


@pytest.mark.parametrize(
    ("dataset", "fine_label", "count", "some"),
    [
        ("cifar10", False, 10, {0: "airplane", 3: "cat", 5: "dog", 9: "truck"}),
        ("cifar100", False, 20, {0: "aquatic_mammals", 4: "fruit_and_vegetables", 13: "non-insect_invertebrates",
                                 18: "vehicles_1", 19: "vehicles_2"}),
        ("cifar100", True, 100, {0: "apple", 1: "aquarium_fish", 23: "cloud", 41: "lawn_mower", 52: "oak_tree",
                                 67: "ray", 71: "sea", 81: "streetcar", 98: "woman", 99: "worm"}),
        ("imagenet", False, 1000, {0: "tench", 1: "goldfish", 207: "golden retriever", 817: "sports car",
                                   999: "toilet tissue"}),
    ],
)  # fmt: skip
def test_names_in_label_order(dataset, fine_label, count, some):
    names = class_names(dataset, fine_label)
    assert len(names) == count
    assert {label: names[label] for label in some} == some
    assert all(isinstance(name, str) and name for name in names)


@pytest.mark.parametrize(("dataset", "fine_label"), [("cifar10", False), ("cifar100", False), ("cifar100", True)])
def test_cifars_classes_are_in_alphabetical_order_and_distinct(dataset, fine_label):
    names = class_names(dataset, fine_label)
    assert names == sorted(set(names))


def test_cifar_has_as_many_names_as_the_data_labels():
    assert len(class_names("cifar100", True)) == len(SHAPES) * len(COLOURS)
    assert len(class_names("cifar100")) == len(SHAPES)


def test_imagenets_names_are_those_that_were_compared():
    assert hashlib.sha256(IMAGENET.read_bytes()).hexdigest() == (
        "e697a491aa735cc6c2aaf982f8e86e8fc7b0a1ea7750a2cc6a2bdfc1e109012f"
    )


@pytest.mark.engine
def test_imagenets_names_are_gluoncvs():
    import_gluoncv = import_module("gluon_aff.gluon.imports").import_gluoncv  # or it would not be collected without
    attributes = import_gluoncv("gluoncv.data.imagenet.classification").ImageNet1kAttr()
    assert class_names("imagenet") == attributes.classes


def test_imagenets_names_repeat_only_where_words_do():
    names = class_names("imagenet")
    assert {name for name in names if names.count(name) > 1} == {"crane", "maillot"}


def test_unknown_data_set():
    with pytest.raises(InputError, match="did you mean imagenet"):
        class_names("imagnet")
