"""ImageNet's training batches against MXNet's own readers and GluonCV's crops."""

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.stats import ks_2samp

from gluon_aff.data.autoaugment import IMAGENET_POLICIES, apply_policy
from gluon_aff.data.batches import WHOLE, Share
from gluon_aff.data.imagenet.augmentation import (
    ImageDraws,
    augment_file,
    augment_record,
    draw_numbers,
    efficientnet_crop,
    folder_crop,
    record_crop,
    to_draws,
)
from gluon_aff.data.imagenet.images import Box
from gluon_aff.data.imagenet.training_batches import folder_batches, record_batches
from gluon_aff.data.imagenet.validation_batches import folder_validation, record_validation
from gluon_aff.errors import DataError, InputError, TrainingError
from gluon_aff.gluon.imports import import_gluoncv

# The original's of red, green and blue: ImageRecordIter's, and GluonCV's on a scale of 0..1
RECORD_MEAN, RECORD_STD = (123.68, 116.779, 103.939), (58.393, 57.12, 57.375)
FOLDER_MEAN, FOLDER_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SAME = 1e-5  # probability below which two samples are not of one distribution


def picture(seed, height, width):
    spots = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(spots).resize((width, height), Image.Resampling.BICUBIC)


def encoded(pixels, ending=".png"):
    """Of red, green, blue."""
    import cv2

    return cv2.imencode(ending, np.ascontiguousarray(pixels[..., ::-1]))[1].tobytes()


def pack(folder, images, labels, name="train"):
    writer = mx.recordio.MXIndexedRecordIO(str(folder / f"{name}.idx"), str(folder / f"{name}.rec"), "w")
    for number, (image, label) in enumerate(zip(images, labels)):
        writer.write_idx(number, mx.recordio.pack(mx.recordio.IRHeader(0, float(label), number, 0), image))
    writer.close()
    return str(folder / f"{name}.rec"), str(folder / f"{name}.idx")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """23 pictures, each with a label of its own."""
    images = [encoded(np.asarray(picture(number, 40 + number, 60 - number)), ".jpg") for number in range(23)]
    return pack(tmp_path_factory.mktemp("records"), images, range(23))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """23 pictures, each in a class folder of its own; a label is the number of the picture."""
    root = tmp_path_factory.mktemp("folders")
    for number in range(23):
        (root / "train" / f"class{number:02}").mkdir(parents=True)
        picture(number, 40 + number, 60 - number).save(root / "train" / f"class{number:02}" / "picture.jpg")
    return str(root)


def make(kind, request, batch_size=4, seed=3, input_size=24, num_workers=0, **more):
    """Batches of the fixture that is named."""
    data = request.getfixturevalue(kind)
    if kind == "records":
        more.pop("auto_augment", None)
        return record_batches(*data, batch_size, seed, input_size, num_workers, **more)
    return folder_batches(data, batch_size, seed, input_size, more.pop("auto_augment", True), num_workers, **more)


def bytes_of(batches):
    return [(images.tobytes(), labels.tobytes()) for images, labels in batches]


KINDS = ["records", "folders"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_workers_makes_no_difference(kind, request):
    results = []
    for number in (0, 1, 2):
        with make(kind, request, num_workers=number) as batches:
            mx.nd.dot(mx.nd.ones((50, 50)), mx.nd.ones((50, 50))).wait_to_read()
            results.append([bytes_of(batches.epoch(0)), bytes_of(batches.epoch(1))])
    assert results[0] == results[1] == results[2]
    assert results[0][0] != results[0][1]
    assert len(results[0][0]) == 5
    with make(kind, request, seed=4) as batches:
        assert bytes_of(batches.epoch(0)) != results[0][0]


@pytest.mark.parametrize("kind", KINDS)
def test_each_image_once_an_epoch_but_for_the_tail(kind, request):
    batches = make(kind, request)
    assert (len(batches), batches.images, batches.classes) == (5, 23, 23)
    orders = [np.concatenate([labels for _, labels in batches.epoch(number)]) for number in range(3)]
    for labels in orders:
        assert len(labels) == len(np.unique(labels)) == 20
    assert len({tuple(labels) for labels in orders}) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_types(kind, request):
    images, labels = next(make(kind, request).epoch(0))
    assert (images.shape, images.dtype, images.flags.c_contiguous) == ((4, 3, 24, 24), np.float32, True)
    assert (labels.shape, labels.dtype) == ((4,), np.float32)
    assert 0.2 < np.abs(images).mean() < 2


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_normalised_as_in_the_original(kind, request):
    """Taken back, all are whole numbers from 0 to 255."""
    mean, deviation = (RECORD_MEAN, RECORD_STD) if kind == "records" else np.multiply((FOLDER_MEAN, FOLDER_STD), 255)
    images, _ = next(make(kind, request, batch_size=23).epoch(0))
    pixels = images.transpose(0, 2, 3, 1).astype(np.float64) * deviation + mean
    assert np.abs(pixels - np.rint(pixels)).max() < 1e-4
    assert 0 <= np.rint(pixels).min() < 50
    assert 200 < np.rint(pixels).max() <= 255


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_the_batches_before_they_are_normalised(kind, request):
    with make(kind, request) as batches:
        for (images, labels), (pixels, again) in zip(batches.epoch(1), batches.pixels(1)):
            assert pixels.values.dtype == np.uint8
            found = (pixels.values.astype("float64") - pixels.mean) / pixels.std
            np.testing.assert_allclose(found.transpose(0, 3, 1, 2), images, rtol=0, atol=1e-6)
            assert np.array_equal(again, labels)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_augmented_otherwise_in_every_epoch(kind, request):
    epochs = []
    for number in range(2):
        ((images, labels),) = make(kind, request, batch_size=23, auto_augment=False).epoch(number)
        epochs.append(images[np.argsort(labels)])
    assert not any(np.array_equal(*pair) for pair in zip(*epochs))


@pytest.mark.parametrize("kind", KINDS)
def test_shares_make_up_the_whole_batch(kind, request):
    def first(size, share):
        return next(make(kind, request, batch_size=size, share=share).epoch(1))

    parts = [first(4, Share(rank, 2)) for rank in (0, 1)]
    for place, array in enumerate(first(8, WHOLE)):
        np.testing.assert_array_equal(np.concatenate([part[place] for part in parts]), array)


@pytest.mark.parametrize("kind", KINDS)
def test_only_records_are_turned_as_their_exif_data_says(kind, tmp_path):
    """ImageRecordIter did, and Gluon's folders did not: a photograph taken upright is trained on as a PNG of that."""
    import cv2

    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn clockwise shows it upright
    picture(3, 50, 90).save(tmp_path / "photograph.jpg", exif=turned)
    photograph = (tmp_path / "photograph.jpg").read_bytes()
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    as_stored = cv2.imdecode(np.frombuffer(photograph, np.uint8), flags)[..., ::-1]
    seen = []
    for name, image in (
        ("photograph", photograph),
        ("expected", encoded(np.rot90(as_stored, -1) if kind == "records" else as_stored)),
    ):
        (tmp_path / name / "train" / "a").mkdir(parents=True)
        (tmp_path / name / "train" / "a" / "0.png").write_bytes(image)
        batches = (
            record_batches(*pack(tmp_path, [image], [0], name), 1, 0, 32, 0)
            if kind == "records"
            else folder_batches(str(tmp_path / name), 1, 0, 32, False, 0)
        )
        seen.append(bytes_of(batch for number in range(3) for batch in batches.epoch(number)))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_size_makes_no_difference_to_an_image(kind, request):
    """Its augmentation depends on seed, epoch and number; only its place in the order of the epoch is shared."""
    by_label = []
    for batch_size in (1, 23):
        epoch = make(kind, request, batch_size=batch_size).epoch(2)
        pairs = ((image.tobytes(), label) for images, labels in epoch for image, label in
                 zip(images, labels))  # fmt: skip
        by_label.append({label: image for image, label in pairs})
    assert by_label[0] == by_label[1]
    assert len(by_label[0]) == 23


def test_an_epoch_can_be_left_early_and_another_begun(request):
    with make("records", request, num_workers=2) as batches:
        expected = bytes_of(batches.epoch(1))
        for _ in batches.epoch(0):
            break
        assert bytes_of(batches.epoch(1)) == expected


def test_equal_images_are_augmented_differently(tmp_path):
    image = encoded(np.asarray(picture(0, 50, 50)))
    images, _ = next(record_batches(*pack(tmp_path, [image] * 16, [0] * 16), 16, 0, 24, 0).epoch(0))
    assert len({image.tobytes() for image in images}) == 16


def test_numbers_of_an_image_do_not_depend_on_the_others():
    table = draw_numbers(5, 2, range(10))
    np.testing.assert_array_equal(draw_numbers(5, 2, [7, 3]), table[[7, 3]])
    assert len(np.unique(table)) == table.size
    assert (draw_numbers(5, 3, range(10)) != table).all()
    lighting = np.array([to_draws(row).lighting for row in draw_numbers(0, 0, range(4000))])
    axes = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    deviations = 0.1 * np.array([55.46, 4.794, 1.148])
    np.testing.assert_allclose((lighting @ axes).std(axis=0), deviations, rtol=0.05)
    np.testing.assert_allclose((lighting @ axes).mean(axis=0) / deviations, 0, atol=0.06)


def test_numbers_are_translated_into_choices():
    """14 numbers and 5 for each of 10 crops, in this order; a half is neither a flip nor a sign below 0."""
    numbers = np.linspace(0.99, 0.01, 64)
    numbers[:14] = [0.99, 0.1, 0.2, 0.5, 0.49, 0.5, 0.0, 0.75, 0.5, 0.99, 0.3, 0.6, 0.8, 0.9]
    draws = to_draws(numbers)
    assert (draws.policy, draws.uniforms, draws.signs, draws.flip) == (24, (0.1, 0.2), (1, -1), False)
    np.testing.assert_allclose(draws.factors, (0.6, 1.2, 1.0))
    assert draws.order == (2, 1, 0)
    np.testing.assert_array_equal(draws.attempts, numbers[14:].reshape(10, 5))
    # Box and Muller: of a length and an angle, two normally distributed numbers
    lengths, angles = np.sqrt(-2 * np.log([0.7, 0.2])), 2 * np.pi * np.array([0.6, 0.9])
    normal = [*(lengths * np.cos(angles)), lengths[0] * np.sin(angles[0])]
    axes = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    np.testing.assert_allclose(draws.lighting, axes @ (np.array([55.46, 4.794, 1.148]) * 0.1 * normal))
    assert (to_draws(np.full(64, 0.49)).flip, to_draws(np.zeros(64)).policy) == (True, 0)


ATTEMPT = {"area": 0.5, "aspect": 0.25, "swap": 0.0, "row": 0.5, "column": 0.99}


def attempts(*several):
    return np.array([list({**ATTEMPT, **each}.values()) for each in several])


WHOLE_IMAGE = {"area": 1.0, "aspect": 0.5, "row": 0.0, "column": 0.0}


def test_crops_may_be_the_whole_image():
    assert folder_crop(50, 50, 32, attempts(WHOLE_IMAGE)) == (0, 0, 50, 50)
    whole = attempts({**WHOLE_IMAGE, "aspect": (1 - 3 / 4) / (4 / 3 - 3 / 4)})
    assert record_crop(50, 50, whole) == (0, 0, 50, 50)
    with_another = np.concatenate([whole, attempts({})])
    assert efficientnet_crop(352, 352, 320, with_another) == (16, 16, 320, 320)  # the centre instead


def test_crops_are_of_the_area_and_aspect_that_are_drawn():
    """Height times width and width over height, between 0.08 and 1 of the image and 3/4 and 4/3."""
    area, ratio = (0.08 + 0.5 * 0.92) * 300 * 400, 3 / 4 + 0.25 * (4 / 3 - 3 / 4)
    tall, wide = round((area / ratio) ** 0.5), round((area * ratio) ** 0.5)
    assert record_crop(300, 400, attempts({})) == (int(0.99 * (401 - wide)), int(0.5 * (301 - tall)), wide, tall)
    lying = record_crop(300, 400, attempts({"swap": 0.5}))
    assert lying == (int(0.99 * (401 - tall)), int(0.5 * (301 - wide)), tall, wide)
    ratio = np.exp(np.log(3 / 4) + 0.25 * (np.log(4 / 3) - np.log(3 / 4)))
    tall, wide = round((area / ratio) ** 0.5), round((area * ratio) ** 0.5)
    assert folder_crop(300, 400, 32, attempts({})) == (int(0.99 * (401 - wide)), int(0.5 * (301 - tall)), wide, tall)


def test_crops_for_large_inputs_may_be_as_wide_or_as_high_as_the_image():
    """At their largest: two squares, and one of 57 x 25 / 24 = 59.4 pixels in 60, where 58 x 25 / 24 would be 60.4."""
    square = {"area": 1.0, "aspect": (1 - 3 / 4) / (4 / 3 - 3 / 4), "column": 0.5}
    assert efficientnet_crop(300, 60, 320, attempts(square)) == (0, 120, 60, 60)
    assert efficientnet_crop(60, 300, 320, attempts(square)) == (120, 0, 60, 60)
    assert efficientnet_crop(300, 60, 320, attempts({**square, "aspect": 0.5})) == (1, 122, 59, 57)


def test_the_first_crop_that_fits_is_taken():
    too_wide = {"area": 1.0, "aspect": 1.0}
    for crop in (record_crop, lambda *given: folder_crop(*given[:2], 32, given[2])):
        assert crop(300, 300, attempts(too_wide, {}, WHOLE_IMAGE)) == crop(300, 300, attempts({}))
    assert record_crop(300, 300, attempts(too_wide)) is None
    assert folder_crop(300, 200, 150, attempts(too_wide)) == (25, 75, 150, 150)
    assert folder_crop(300, 200, 250, attempts(too_wide)) == (0, 50, 200, 200)


# --- folders: Gluon's transforms ---


def draws_of_nothing(**changes):
    """The whole of a square image, as it is."""
    attempts = np.tile([1.0, 0.5, 0.0, 0.0, 0.0], (10, 1))
    plain = ImageDraws(0, (1.0, 1.0), (1, 1), False, (1.0, 1.0, 1.0), (0, 1, 2), np.zeros(3), attempts)
    return replace(plain, **changes)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("factors", [(1.3, 1, 1), (1, 0.65, 1), (1, 1, 0.7), (0.8, 1.4, 1.35), (1.4, 1.2, 0.6)])
def test_jitter_and_lighting_of_folders_are_gluons(order, factors):
    """Its operators take the factor from a range, which may be a point."""
    pixels = np.asarray(picture(1, 64, 64))
    alpha = (0.2, -0.1, 0.3)
    expected = mx.nd.array(pixels, dtype="uint8")
    operators = (mx.nd.image.random_brightness, mx.nd.image.random_contrast, mx.nd.image.random_saturation)
    for place in order:
        expected = operators[place](expected, factors[place], factors[place])
    expected = mx.nd.image.adjust_lighting(expected, alpha).asnumpy()
    axes = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    lighting = (axes * [55.46, 4.794, 1.148]) @ np.array(alpha)
    draws = draws_of_nothing(factors=factors, order=order, lighting=lighting)
    found = augment_file(pixels[..., ::-1], 64, draws, auto_augment=False)
    difference = np.abs(found.astype(int) - expected.astype(int))
    assert difference.max() <= 1
    assert difference.mean() < 0.01  # the mean grey of the contrast, in another order of summation
    mirrored = augment_file(pixels[..., ::-1], 64, replace(draws, flip=True), auto_augment=False)
    np.testing.assert_array_equal(mirrored, found[:, ::-1])


def distances(found, expected):
    """The probability, for each column, that both are samples of one distribution."""
    return [ks_2samp(a, b).pvalue for a, b in zip(np.transpose(found), np.transpose(expected))]


@pytest.mark.parametrize("shape", [(90, 120), (200, 80), (300, 40)])
def test_crops_of_folders_are_gluons(shape):
    """The narrow one often takes the centre instead."""
    random.seed(1)
    image = mx.nd.zeros((*shape, 3), dtype="uint8")
    expected = [mx.image.random_size_crop(image, (32, 32), (0.08, 1.0), (3 / 4, 4 / 3), 1)[1] for _ in range(1000)]
    found = [folder_crop(*shape, 32, to_draws(row).attempts) for row in draw_numbers(0, 0, range(1500))]
    assert min(distances(found, expected)) > SAME


def test_a_crop_of_a_folder_is_resized_as_gluons():
    pixels = np.asarray(picture(3, 90, 120))
    attempts = np.tile([0.3, 0.7, 0.0, 0.4, 0.6], (10, 1))
    box = folder_crop(90, 120, 32, attempts)
    expected = mx.image.fixed_crop(mx.nd.array(pixels, dtype="uint8"), *box, (32, 32), 1).asnumpy()
    found = augment_file(pixels[..., ::-1], 32, draws_of_nothing(attempts=attempts), auto_augment=False)
    np.testing.assert_array_equal(found, expected)


class Cropped:
    """What a crop is made of, in place of a picture."""

    def __init__(self, width, height):
        self.size = (width, height)

    def crop(self, box):
        left, top, right, bottom = map(round, box)
        return Box(left, top, right - left, bottom - top)


@pytest.mark.parametrize("shape", [(90, 120), (500, 375), (300, 60)])
def test_crops_for_large_inputs_are_gluoncvs(shape):
    random.seed(1)
    crop = import_gluoncv("gluoncv.utils.transforms").EfficientNetRandomCrop(320)
    expected = [crop(Cropped(*shape[::-1])) for _ in range(1000)]
    found = [efficientnet_crop(*shape, 320, to_draws(row).attempts) for row in draw_numbers(0, 0, range(1500))]
    assert min(distances(found, expected)) > SAME


def test_large_inputs_are_resized_and_jittered_by_pillow():
    image = picture(2, 360, 360)
    draws = draws_of_nothing(factors=(1.2, 0.7, 1.3), order=(1, 2, 0), flip=True)
    left, top, width, height = efficientnet_crop(360, 360, 320, draws.attempts)
    part = image.crop((left, top, left + width, top + height))
    expected = part.resize((320, 320), Image.Resampling.BICUBIC).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance, factor in ((ImageEnhance.Contrast, 0.7), (ImageEnhance.Color, 1.3), (ImageEnhance.Brightness, 1.2)):
        expected = enhance(expected).enhance(factor)
    found = augment_file(np.asarray(image)[..., ::-1], 320, draws, auto_augment=False)
    np.testing.assert_array_equal(found, np.asarray(expected))


@pytest.mark.parametrize("policy", [0, 4, 10, 18, 24])
def test_auto_augment_comes_first(policy):
    image = picture(4, 64, 64)
    draws = draws_of_nothing(policy=policy, uniforms=(0.1, 0.1), signs=(1, -1), flip=True)
    expected = apply_policy(image, IMAGENET_POLICIES[policy], (0.1, 0.1), (1, -1))
    found = augment_file(np.asarray(image)[..., ::-1], 64, draws, auto_augment=True)
    np.testing.assert_array_equal(found[:, ::-1], np.asarray(expected))


def test_auto_augment_draws_every_policy_alike():
    draws = [to_draws(row) for row in draw_numbers(0, 0, range(5000))]
    assert np.bincount([draw.policy for draw in draws], minlength=25).min() > 140
    assert abs(np.mean([draw.signs for draw in draws])) < 0.05
    assert abs(np.mean([draw.uniforms for draw in draws]) - 0.5) < 0.02


def test_auto_augment_can_be_left_out(request):
    assert bytes_of(make("folders", request).epoch(0)) != bytes_of(
        make("folders", request, auto_augment=False).epoch(0)
    )


# --- records: ImageRecordIter ---

CROPS = {
    "random_resized_crop": True, "max_aspect_ratio": 4 / 3, "min_aspect_ratio": 3 / 4, "max_random_area": 1,
    "min_random_area": 0.08,
}  # fmt: skip


def by_image_record_iter(folder, pixels, count, size, **options):
    """`count` augmented versions of a picture by MXNet: float32, count x size x size x 3."""
    rec, idx = pack(folder, [encoded(pixels)] * 100, [0] * 100)
    iterator = mx.io.ImageRecordIter(
        path_imgrec=rec, path_imgidx=idx, data_shape=(3, size, size), batch_size=100, preprocess_threads=1,
        verbose=False, **options,
    )  # fmt: skip
    batches = []
    while 100 * len(batches) < count:
        iterator.reset()
        batches += [batch.data[0].asnumpy().transpose(0, 2, 3, 1) for batch in iterator]
    return np.concatenate(batches)


def by_us(pixels, count, size, change=lambda draws: draws):
    rows = (change(to_draws(row)) for row in draw_numbers(0, 0, range(count)))
    return np.stack([augment_record(pixels[..., ::-1], size, draws) for draws in rows]).astype(float)


def without_colours(draws):
    return replace(draws, factors=(1.0, 1.0, 1.0), lighting=np.zeros(3))


@pytest.mark.parametrize("shape", [(100, 140), (180, 60)])
def test_crops_and_flips_of_records_are_those_of_image_record_iter(tmp_path, shape):
    """Red tells the column and green the row, so that the borders of a crop show where it is from."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    pixels = np.stack([columns + 20, rows + 20, 0 * rows], axis=-1).astype(np.uint8)

    def places(images):
        left, right = images[:, 16, 0, 0], images[:, 16, -1, 0]
        top, bottom = images[:, 0, 16, 1], images[:, -1, 16, 1]
        width, height = np.abs(right - left), bottom - top
        places = [np.minimum(left, right), top, width, height, width / height, width * height, left > right]
        return np.stack(places, axis=1)

    expected = places(by_image_record_iter(tmp_path, pixels, 4000, 32, rand_mirror=True, **CROPS))
    found = places(by_us(pixels, 6000, 32, without_colours))
    assert min(distances(found, expected)) > SAME
    np.testing.assert_allclose(found.min(axis=0)[4:6], expected.min(axis=0)[4:6], rtol=0.1)
    np.testing.assert_allclose(found.max(axis=0)[4:6], expected.max(axis=0)[4:6], rtol=0.1)


def test_crops_of_records_lie_within():
    for shape in ((100, 140), (300, 300), (1, 1), (2, 50), (70, 33)):
        boxes = [record_crop(*shape, to_draws(row).attempts) for row in draw_numbers(0, 0, range(300))]
        for left, top, width, height in filter(None, boxes):
            assert 0 <= left <= left + width <= shape[1]
            assert 0 <= top <= top + height <= shape[0]
            assert min(width, height) >= 1


@pytest.mark.parametrize("shape", [(20, 300), (300, 20), (60, 700)])
def test_records_without_a_crop_that_fits(tmp_path, shape):
    """The centre at the scale it has, or enlarged until it is large enough."""
    pixels = np.asarray(picture(5, *shape))
    found = by_us(pixels, 1, 32, lambda draws: replace(without_colours(draws), attempts=np.ones((10, 5)), flip=False))
    tall, wide = (max(side, int(32 / min(shape) * side)) for side in shape)
    resized = mx.image.imresize(mx.nd.array(pixels, dtype="uint8"), wide, tall).asnumpy()
    top, left = (tall - 32) // 2, (wide - 32) // 2
    np.testing.assert_array_equal(found[0], resized[top : top + 32, left : left + 32])


ONLY = {
    "brightness": lambda draws: replace(draws, factors=(draws.factors[0], 1.0, 1.0), lighting=np.zeros(3)),
    "contrast": lambda draws: replace(draws, factors=(1.0, draws.factors[1], 1.0), lighting=np.zeros(3)),
    "saturation": lambda draws: replace(draws, factors=(1.0, 1.0, draws.factors[2]), lighting=np.zeros(3)),
    "pca_noise": lambda draws: replace(draws, factors=(1.0, 1.0, 1.0)),
}


@pytest.mark.parametrize("colour", [(200, 50, 20), (30, 90, 160)])
@pytest.mark.parametrize("operation", ONLY)
def test_colours_of_records_are_those_of_image_record_iter(tmp_path, operation, colour):
    """On one colour, so that an operation, which each draw moves further, shows as the distribution of that colour."""
    pixels = np.full((16, 16, 3), colour, np.uint8)
    strength = 0.1 if operation == "pca_noise" else 0.4
    expected = by_image_record_iter(tmp_path, pixels, 2000, 16, **{operation: strength})
    found = by_us(pixels, 3000, 16, ONLY[operation])
    assert min(distances(found[:, 8, 8], expected[:, 8, 8])) > SAME
    if operation != "pca_noise":
        np.testing.assert_allclose(found.min(axis=0), expected.min(axis=0), atol=1)
        np.testing.assert_allclose(found.max(axis=0), expected.max(axis=0), atol=1)


def test_lighting_of_records_is_added_to_red_green_blue_and_rounded_down():
    pixels = np.full((20, 20, 3), (100, 150, 2), np.uint8)
    lighting = np.array([10.7, -20.2, -5.0])
    attempts = draws_of_nothing().attempts
    found = by_us(pixels, 1, 16, lambda draws: replace(without_colours(draws), lighting=lighting, attempts=attempts))
    np.testing.assert_array_equal(found[0], np.full((16, 16, 3), (110, 129, 0)))


def test_the_whole_chain_of_records_is_that_of_image_record_iter(tmp_path):
    pixels = np.asarray(picture(8, 80, 110))
    means = dict(zip(("mean_r", "mean_g", "mean_b"), RECORD_MEAN))
    deviations = dict(zip(("std_r", "std_g", "std_b"), RECORD_STD))
    colours = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "pca_noise": 0.1}

    def features(images):
        return np.concatenate([images.mean(axis=(1, 2)), images.std(axis=(1, 2)), images[:, 3, 20]], axis=1)

    expected = by_image_record_iter(
        tmp_path, pixels, 2000, 32, rand_mirror=True, **CROPS, **colours, **means, **deviations
    )
    batches = record_batches(*pack(tmp_path, [encoded(pixels)] * 100, [0] * 100), 100, 0, 32, 0)
    found = np.concatenate([next(batches.epoch(number))[0] for number in range(30)]).transpose(0, 2, 3, 1)
    assert min(distances(features(found), features(expected))) > SAME
    np.testing.assert_allclose(found.mean(axis=(0, 1, 2)), expected.mean(axis=(0, 1, 2)), atol=0.05)
    np.testing.assert_allclose(found.std(axis=(0, 1, 2)), expected.std(axis=(0, 1, 2)), rtol=0.05)


# --- validation ---


def test_records_are_validated_by_their_paths(tmp_path, records):
    data = record_validation(*records, 32, 5, 2)
    labels = np.concatenate([labels for _, labels in data.batches])
    assert (data.images, data.classes, data.class_list) == (23, 23, None)
    assert labels.tolist() == list(range(23))
    with pytest.raises(DataError, match=r"none\.rec: No such file"):
        record_validation(str(tmp_path / "none.rec"), records[1], 32, 5, 0)
    with pytest.raises(DataError, match=r"none\.idx: No such file"):
        record_validation(records[0], str(tmp_path / "none.idx"), 32, 5, 0)


def test_large_inputs_are_validated_with_gluoncvs_centre_crop(tmp_path):
    crop = import_gluoncv("gluoncv.utils.transforms").EfficientNetCenterCrop(320)
    (tmp_path / "val" / "a").mkdir(parents=True)
    pictures = [picture(number, 200 + 51 * number, 330 - 40 * number) for number in range(4)]
    for number, image in enumerate(pictures):
        image.save(tmp_path / "val" / "a" / f"{number}.png")
    data = folder_validation(str(tmp_path), 320, 4, 0)
    ((images, _),) = data.batches
    crops = [crop(image).resize((320, 320), Image.Resampling.BICUBIC) for image in pictures]
    mean, std = np.array(FOLDER_MEAN), np.array(FOLDER_STD)
    expected = (np.stack([np.asarray(crop) for crop in crops]) / 255 - mean) / std
    np.testing.assert_allclose(images, expected.transpose(0, 3, 1, 2), atol=1e-5)


# --- trouble ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("numbers", "kind_of_error", "message"),
    [
        ({"batch_size": 24}, DataError, "23 images, fewer than one batch of 24: lower --batch-size"),
        ({"batch_size": 0}, InputError, "--batch-size"),
        ({"input_size": 0}, InputError, "--input-size"),
        ({"classes": 20}, DataError, r"(has label 20, but|has 23 class folders, but) there are 20 classes"),
    ],
)
def test_numbers_that_do_not_fit(kind, numbers, kind_of_error, message, request):
    with pytest.raises(kind_of_error, match=message) as error:
        make(kind, request, **numbers)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_smallest_numbers(kind, request):
    images, labels = next(make(kind, request, batch_size=1, input_size=1).epoch(0))
    assert (images.shape, labels.shape) == ((1, 3, 1, 1), (1,))


@pytest.mark.parametrize("kind", KINDS)
def test_without_opencv_there_is_a_remedy(kind, request, monkeypatch):
    request.getfixturevalue(kind)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match="pip install opencv-python-headless"):
        make(kind, request)


def test_more_classes_than_the_data_has(request):
    assert make("records", request, classes=1000).classes == make("records", request).classes
    assert make("folders", request, classes=1000).classes == make("folders", request).classes


def cut(path, by):
    path.write_bytes(path.read_bytes()[:-by])


def replace_bytes(path, start, new):
    content = bytearray(path.read_bytes())
    content[start : start + len(new)] = new
    path.write_bytes(bytes(content))


RECORD_TROUBLES = {
    "no records": (lambda f: (f / "train.rec").unlink(), r"train\.rec: No such file.*make-records"),
    "no index": (lambda f: (f / "train.idx").unlink(), r"train\.idx: No such file.*make-records"),
    "index is text": (lambda f: (f / "train.idx").write_text("hello"), r"train\.idx is not an index"),
    "index of none": (
        lambda f: (f / "train.idx").write_text(""),
        r"not have the record that .*train\.idx says is at byte 0:",
    ),
    "index of fewer": (
        lambda f: (f / "train.idx").write_text("0\t0\n"),
        r"not have the record that .*train\.idx says is at byte 0:",
    ),
    "index that begins later": (
        lambda f: (f / "train.idx").write_text("0\t4\n"),
        "not have the record that .* says is at byte 0:",
    ),
    "index of others": (
        lambda f: (f / "train.idx").write_text("0\t0\n1\t40\n"),
        "not have the record that .* says is at byte 0:",
    ),
    "file cut": (
        lambda f: cut(f / "train.rec", 3),
        r"train\.rec does not have the record that .*idx says is at byte [\d,]+:",
    ),
    "damaged header": (lambda f: replace_bytes(f / "train.rec", 0, b"RIFF"), r"train\.rec does not have the record"),
    "negative label": (
        lambda f: replace_bytes(f / "train.rec", 12, np.float32(-1).tobytes()),
        "label of image 0 .* not a class",
    ),
    "empty": (lambda f: [(f / name).write_bytes(b"") for name in ("train.rec", "train.idx")], "has no images"),
}


@pytest.mark.parametrize("trouble", RECORD_TROUBLES)
def test_record_files_that_cannot_be_used(tmp_path, trouble):
    make_trouble, message = RECORD_TROUBLES[trouble]
    image = encoded(np.asarray(picture(0, 40, 40)))
    paths = pack(tmp_path, [image] * 6, range(6))
    make_trouble(tmp_path)
    with pytest.raises(DataError, match=message) as error:
        record_batches(*paths, 2, 0, 32, 0)
    assert "\n" not in str(error.value)


def test_of_a_large_record_file_some_headers_are_looked_at_before(tmp_path, monkeypatch):
    """The others when their images are read."""
    monkeypatch.setattr("gluon_aff.data.imagenet.record_files.LOOKS", 3)
    image = encoded(np.asarray(picture(0, 40, 40)))
    batches = record_batches(*pack(tmp_path, [image] * 6, [0, 9, 1, 1, 9, 2]), 2, 0, 32, 0, classes=5)
    with pytest.raises(DataError, match=r"image [14] .*train\.rec has label 9, but there are 5 classes"):
        list(batches.epoch(0))
    paths = pack(tmp_path, [image] * 6, range(6))
    replace_bytes(tmp_path / "train.rec", int(Path(paths[1]).read_text().splitlines()[1].split()[1]), b"RIFF")
    with pytest.raises(DataError, match=r"not have the record that .*train\.idx says is at byte [\d,]+:"):
        list(record_batches(*paths, 2, 0, 32, 0).epoch(0))


FOLDER_TROUBLES = {
    "missing": (lambda f: None, r"place/train: No such file.*train/CLASS/IMAGE"),
    "no class folders": (lambda f: (f / "train").mkdir(parents=True), r"train has no class folders"),
    "no images": (lambda f: (f / "train" / "a").mkdir(parents=True), r"such as a, holds an image"),
}


@pytest.mark.parametrize("trouble", FOLDER_TROUBLES)
def test_folders_that_cannot_be_used(tmp_path, trouble):
    make_trouble, message = FOLDER_TROUBLES[trouble]
    make_trouble(tmp_path / "place")
    with pytest.raises(DataError, match=message) as error:
        folder_batches(str(tmp_path / "place"), 2, 0, 32, False, 0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_image_that_cannot_be_decoded_is_named(tmp_path, num_workers):
    good = encoded(np.asarray(picture(0, 40, 40)))
    paths = pack(tmp_path, [good] * 5 + [b"garbage"], range(6))
    with record_batches(*paths, 2, 0, 32, num_workers) as batches, pytest.raises(
        DataError, match=r"image 5 \(counted from 0\) of .*train\.rec cannot be read"
    ) as error:
        list(batches.epoch(0))
    assert "\n" not in str(error.value)
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "1.png").write_bytes(good)
    (tmp_path / "train" / "b" / "1.png").write_bytes(b"")
    with folder_batches(str(tmp_path), 2, 0, 32, True, num_workers) as batches:
        with pytest.raises(DataError, match=r"train/b/1\.png cannot be read"):
            list(batches.epoch(0))
        (tmp_path / "train" / "b" / "1.png").write_bytes(good)  # the workers are still there
        assert len(list(batches.epoch(0))) == 1


def test_a_strip_is_refused_before_it_is_enlarged(tmp_path):
    image = encoded(np.zeros((1, 30_000, 3), np.uint8))
    with pytest.raises(DataError, match=r"30000 x 1 pixels are too long and narrow to resize"):
        list(record_batches(*pack(tmp_path, [image], [0]), 1, 0, 224, 0).epoch(0))


def worker_pids():
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"gluon_aff.data.workers" in (folder / "cmdline").read_bytes():
                pids.append(int(folder.name))
        except OSError:
            continue
    return pids


def test_a_killed_worker_is_reported_in_one_line(request):
    with make("records", request, batch_size=1, num_workers=2) as batches:
        epoch = batches.epoch(0)
        next(epoch)
        pids = worker_pids()
        assert len(pids) == 2
        os.kill(pids[0], signal.SIGKILL)
        with pytest.raises(TrainingError, match=r"worker process ended with code -9.*-j 0"):
            list(epoch)
    assert worker_pids() == []


def test_workers_do_without_mxnet():
    modules = "gluon_aff.data.imagenet.batch_maker, gluon_aff.data.imagenet.record_writing"
    check = f"import sys, {modules}; sys.exit('mxnet' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert subprocess.run([sys.executable, "-c", check], env=environment).returncode == 0
