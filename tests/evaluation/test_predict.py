"""Predictions against NumPy, and what goes into them."""

import numpy as np
import pytest
from PIL import Image, ImageFile

from gluon_aff.data.cifar.augmentation import normalise
from gluon_aff.data.image_files import read_image
from gluon_aff.data.imagenet.validation_batches import validation_data
from gluon_aff.data.preprocessing import fitting, normalised, preprocessing
from gluon_aff.errors import GluonAFFError, InputError
from gluon_aff.evaluation.predict import predict
from gluon_aff.models import list_models, model_record

RED = (250, 10, 20)


class Dense:
    """Stands for a network: infers by a dense layer on the pixels."""

    def __init__(self, classes=7, side=32):
        self.weight = np.random.default_rng(0).normal(0, 0.02, (classes, 3 * side * side)).astype("float32")
        self.bias = np.zeros(classes, "float32")

    def __call__(self, images):
        logits = images.reshape(len(images), -1) @ self.weight.T + self.bias
        return lambda: logits


def picture(seed, height=32, width=32):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def saved(folder, count):
    paths = [str(folder / f"{number}.png") for number in range(count)]
    for number, path in enumerate(paths):
        picture(number).save(path)
    return paths


def expected_scores(net, paths):
    images = normalise(np.stack([np.asarray(Image.open(path)) for path in paths])).reshape(len(paths), -1)
    scores = np.exp(images.astype(np.float64) @ net.weight.T)
    return scores / scores.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 50])
def test_scores_are_softmax_the_likeliest_first_in_the_files_order(tmp_path, batch_size):
    net, paths = Dense(), saved(tmp_path, 10)
    found = list(predict(net, paths, preprocessing(True, 32), 3, batch_size))
    assert [prediction.path for prediction in found] == paths
    for prediction, scores in zip(found, expected_scores(net, paths)):
        order = np.argsort(-scores)[:3]
        assert [label for label, _ in prediction.classes] == order.tolist()
        assert [score for _, score in prediction.classes] == pytest.approx(scores[order].tolist(), rel=1e-4)
        assert prediction.error == ""


def test_top_k_beyond_the_classes_gives_all(tmp_path):
    (found,) = predict(Dense(4), saved(tmp_path, 1), preprocessing(True, 32), 10, 8)
    assert sorted(label for label, _ in found.classes) == [0, 1, 2, 3]
    assert sum(score for _, score in found.classes) == pytest.approx(1)


def test_of_equal_scores_the_lowest_label_comes_first(tmp_path):
    net = Dense(5)
    net.weight[:] = 0
    (found,) = predict(net, saved(tmp_path, 1), preprocessing(True, 32), 5, 8)
    assert found.classes == [(label, pytest.approx(0.2)) for label in range(5)]


def test_logits_far_apart_keep_their_order_where_scores_vanish(tmp_path):
    net = Dense(3)
    net.weight[:], net.bias[:] = 0, (-3000, -2000, 0)
    (found,) = predict(net, saved(tmp_path, 1), preprocessing(True, 32), 3, 8)
    assert found.classes == [(2, 1.0), (1, 0.0), (0, 0.0)]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 20])
def test_files_that_are_no_images_have_an_error_and_the_rest_goes_on(tmp_path, monkeypatch, batch_size):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as after an import of GluonCV
    good = saved(tmp_path, 3)
    bad = {
        "missing.png": None,
        "text.jpg": b"not an image\nat all",
        "empty.png": b"",
        "truncated.png": (tmp_path / "0.png").read_bytes()[:700],
    }
    for name, content in bad.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    broken = [str(tmp_path / name) for name in (*bad, "folder")]
    paths = [broken[0], good[0], *broken[1:4], good[1], good[2], broken[4], good[0]]
    found = list(predict(Dense(), paths, preprocessing(True, 32), 2, batch_size))
    assert [prediction.path for prediction in found] == paths
    for prediction in found:
        if prediction.path in broken:
            assert prediction.error.startswith(f"{prediction.path} cannot be read as an image (")
            assert prediction.classes == []
            assert "\n" not in prediction.error
        else:
            assert (prediction.error, len(prediction.classes)) == ("", 2)
    assert found[1].classes == found[-1].classes
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_only_files_that_are_no_images(tmp_path):
    (found,) = predict(Dense(), [str(tmp_path / "none")], preprocessing(True, 32), 2, 4)
    assert "no such file" in found.error
    (found,) = predict(Dense(), [str(tmp_path)], preprocessing(True, 32), 2, 4)
    assert "it is not a regular file" in found.error


@pytest.mark.parametrize("for_cifar", [True, False])
def test_pixels_are_the_centre_or_all_of_the_image(for_cifar):
    """Of a picture of three equal parts, red, green and blue, side by side."""
    parts = np.zeros((100, 300, 3), np.uint8)
    parts[:, :100, 0] = parts[:, 100:200, 1] = parts[:, 200:, 2] = 255
    image = Image.fromarray(parts)
    side = 32 if for_cifar else 96
    centre, whole = (fitting(for_cifar, side, squash)(image) for squash in (False, True))
    assert centre.shape == whole.shape == (side, side, 3)
    assert (centre[:, 1:-1] == (0, 255, 0)).all()
    for third, colour in enumerate(np.eye(3) * 255):
        inner = whole[:, third * side // 3 + 2 : (third + 1) * side // 3 - 2]
        np.testing.assert_allclose(inner, np.broadcast_to(colour, inner.shape), atol=20)
    np.testing.assert_array_equal(preprocessing(for_cifar, side)(image), normalised(centre, for_cifar))


@pytest.mark.parametrize("side", [224, 331])
def test_imagenets_pixels_are_those_of_validation(side, tmp_path):
    """Of a folder's image, in the larger input size too."""
    pixels = np.random.default_rng(0).integers(0, 256, (360, 500, 3), np.uint8)
    (tmp_path / "val" / "a").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "val" / "a" / "image.png")
    ((images, _),) = validation_data(str(tmp_path), side, 1, 0).batches
    np.testing.assert_array_equal(preprocessing(False, side)(Image.fromarray(pixels)), images[0])


def test_no_files():
    assert list(predict(Dense(), [], preprocessing(True, 32), 2, 4)) == []


@pytest.mark.parametrize("limit", [100, 800])  # an error above twice the limit, a warning above it
def test_a_decompression_bomb_has_an_error(tmp_path, monkeypatch, limit):
    monkeypatch.setattr("gluon_aff.data.image_files.MOST_PIXELS", limit)
    (found,) = predict(Dense(), saved(tmp_path, 1), preprocessing(True, 32), 2, 4)
    assert "0.png cannot be read as an image (it has more than 134,217,728 pixels: make it smaller)" in found.error


def test_a_strip_has_an_error_where_resizing_would_fill_the_memory(tmp_path):
    path = tmp_path / "strip.png"
    Image.new("RGB", (60_000, 1), RED).save(path)
    (found,) = predict(Dense(side=224), [str(path)], preprocessing(False, 224), 2, 4)
    assert found.error == f"{path} cannot be used (60000 x 1 pixels are too long and narrow to resize)"
    (found,) = predict(Dense(), [str(path)], preprocessing(True, 32), 2, 4)
    assert len(found.classes) == 2


def test_outputs_that_are_not_finite_name_the_file(tmp_path):
    net = Dense()
    net.bias[:] = np.nan
    with pytest.raises(GluonAFFError, match=r"outputs for .*0\.png are not finite"):
        list(predict(net, saved(tmp_path, 2), preprocessing(True, 32), 2, 4))


@pytest.mark.parametrize(("top_k", "batch_size"), [(0, 4), (1, 0)])
def test_numbers_that_make_no_sense_are_refused_at_once(top_k, batch_size):
    with pytest.raises(InputError, match="must be 1 or more"):
        predict(Dense(), [], preprocessing(True, 32), top_k, batch_size)


def test_cifars_networks_see_a_32_pixel_image_as_in_validation():
    image = picture(0)
    np.testing.assert_array_equal(preprocessing(True, 32)(image), normalise(np.asarray(image)[np.newaxis])[0])


def test_cifars_networks_see_the_centre_square_of_other_images():
    wide = Image.new("RGB", (300, 100), (0, 0, 0))
    wide.paste(RED, (100, 0, 200, 100))
    inner = (slice(None), slice(2, -2), slice(2, -2))
    expected = normalise(np.full((1, 32, 32, 3), RED, np.uint8))[0]
    np.testing.assert_array_equal(preprocessing(True, 32)(wide)[inner], expected[inner])
    checks = Image.fromarray((np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)).convert("RGB")
    grey = normalise(np.full((1, 32, 32, 3), 127, np.uint8))[0]
    np.testing.assert_allclose(preprocessing(True, 32)(checks)[inner], grey[inner], atol=0.05)  # antialiased


def test_imagenets_networks_see_what_validation_shows_them(tmp_path):
    (tmp_path / "a").mkdir()
    for number, size in enumerate([(300, 400), (500, 260), (90, 70)]):
        picture(number, *size).save(tmp_path / "a" / f"{number}.{'png' if number else 'jpg'}")
    ((images, _),) = validation_data(str(tmp_path), 224, 8, 0).batches
    found = [preprocessing(False, 224)(read_image(str(path))) for path in sorted((tmp_path / "a").iterdir())]
    np.testing.assert_allclose(np.stack(found), images, atol=1e-6)


def test_every_model_has_its_preprocessing():
    for name in list_models(published=True):
        size = model_record(name).input_size
        made = preprocessing(size == 32, size)(picture(0, 50, 60))
        assert (made.shape, made.dtype) == ((3, size, size), np.float32)
