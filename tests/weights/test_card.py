"""What a file says of its network, against what is done with an image."""

import json

import numpy as np
import pytest
from PIL import Image
from shared_by_tests.cards import card_for

from gluon_aff.data.preprocessing import preprocessing
from gluon_aff.weights.card import Card, card_of, properties


@pytest.mark.parametrize(
    "card",
    [
        card_for("a", 32, 10, dataset="cifar10", names=("Ä", "b, c", *"defghijk")),
        card_for("b", 32, 100, labels="superclass", dataset="cifar100"),
        card_for("c", 224, 1000, dataset="imagenet"),
        card_for("d", 33),
        card_for("e", 480, 1, base_size=512, engine="MXNet 1.9.1", versions="NumPy 1.23.5"),
    ],
    ids=lambda card: card.network,
)
def test_properties_are_text_and_give_the_card_back(card):
    written = properties(card)
    assert all(isinstance(value, str) for value in written.values())
    assert card_of(written) == card


@pytest.mark.parametrize("size", [32, 224])
def test_mean_and_deviation_are_those_of_the_input(size):
    """An image that needs neither resizing nor cropping, but for ImageNet's border."""
    written = properties(card_for("a", size))
    side = 32 if size == 32 else 256
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    made = preprocessing(size == 32, size)(Image.fromarray(pixels))
    border = (side - size) // 2
    inner = pixels[border : border + size, border : border + size] / 255
    expected = (inner - json.loads(written["mean"])) / json.loads(written["std"])
    np.testing.assert_allclose(made, expected.transpose(2, 0, 1), atol=1e-5)


@pytest.mark.parametrize(("size", "shorter"), [(224, 256), (64, 74)])
def test_imagenets_crop(size, shorter):
    crop = properties(card_for("a", size))["crop"]
    assert crop == f"shorter side resized to {shorter}, bilinear; centre {size} x {size} cut out"


@pytest.mark.parametrize(("size", "with_border"), [(320, 352), (331, 363)])
def test_large_inputs_are_cropped_as_efficientnets(size, with_border):
    crop = properties(card_for("a", size))["crop"]
    assert crop == f"centre square, {size} / {with_border} of the shorter side, resized to {size} x {size}, bicubic"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("class_names", text)
            for text in ("{}", "5", "[1, 2]", '["a"]', '"ab"', "[" * 100_000, "nan", '[["a"], "b"]')
        ),
        *(("outputs", text) for text in ("0", "-1", "1e3", "", "\u0662", "9" * 5000)),
        *(("input_size", text) for text in ("0", "-224", "x")),
        *((name, 5) for name in ("network", "labels", "dataset", "weights_git_blob_sha1", "class_names", "outputs")),
    ],
)
def test_what_no_card_says_is_a_value_error_that_names_it(name, value):
    said = properties(Card("own", True, 32, 2, "0" * 40, None, None, ("a", "b")))
    assert card_of(said).names == ("a", "b")
    with pytest.raises(ValueError, match=name):
        card_of({**said, name: value})
