"""StopSign against masks made by hand, and what is wrong with a COCO folder in a line."""

import json
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from gluon_aff.data.stop_signs import annotations
from gluon_aff.data.stop_signs.annotations import load_stop_signs, mask_toolbox
from gluon_aff.data.stop_signs.masked_images import read_pair
from gluon_aff.data.stop_signs.run_lengths import decompressed
from gluon_aff.errors import DataError, InputError

pytest.importorskip("pycocotools")

HEIGHT, WIDTH = 20, 30
SQUARE = [2, 3, 10, 3, 10, 9, 2, 9]  # x and y in turn: columns 2 to 9, rows 3 to 8
FAR = [20, 12, 28, 12, 28, 18, 20, 18]
CATEGORIES = [{"id": 4, "name": "stop sign"}, {"id": 13, "name": "parking meter"}]


def filled(*boxes):
    """Mask with boxes (left, top, right, bottom)."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 1
    return mask


def run_lengths(mask):
    """COCO's counts, pixel by pixel down the columns."""
    counts, value = [0], 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def coco(folder, signs, half="val2017", categories=CATEGORIES, images=None, **more):
    """COCO's layout in `folder`: `signs` are (image, category, segmentation, iscrowd)."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / half).mkdir(exist_ok=True)
    numbers = sorted({sign[0] for sign in signs}, reverse=True)
    for number in numbers:
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), number, np.uint8)).save(folder / half / f"{number}.png")
    content = {
        "images": images or [{"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n in numbers],
        "categories": categories,
        "annotations": [
            {"id": i, "image_id": image, "category_id": category, "segmentation": shape, "iscrowd": crowd}
            for i, (image, category, shape, crowd) in enumerate(signs)
        ],
        **more,
    }
    (folder / "annotations" / f"instances_{half}.json").write_text(json.dumps(content))
    return str(folder)


def masks(data):
    return [np.asarray(read_pair(image)[1]) for image in data.images]


def test_a_mask_is_the_union_of_all_instances_of_the_category(tmp_path):
    crowd = filled((0, 0, 5, 5), (25, 0, 30, 20))
    signs = [
        (7, 4, [SQUARE], 0),
        (5, 13, [SQUARE], 0),  # another category, with the number that COCO gives stop signs
        (9, 4, [SQUARE, FAR], 0),  # one sign in two parts
        (9, 4, run_lengths(crowd), 1),
        (9, 13, [[0, 0, 30, 0, 30, 20, 0, 20]], 0),
    ]
    data = load_stop_signs(coco(tmp_path, signs), train=False)
    assert [image.path.rsplit("/", 1)[1] for image in data.images] == ["7.png", "9.png"]
    one, two = masks(data)
    np.testing.assert_array_equal(one, filled((2, 3, 10, 9)))
    np.testing.assert_array_equal(two, filled((2, 3, 10, 9), (20, 12, 28, 18)) | crowd)
    assert np.asarray(read_pair(data.images[1])[0])[0, 0].tolist() == [9, 9, 9]


@settings(max_examples=50, deadline=None)
@given(arrays(np.uint8, (HEIGHT, WIDTH), elements=st.integers(0, 1)))
@example(np.zeros((HEIGHT, WIDTH), np.uint8))
@example(np.ones((HEIGHT, WIDTH), np.uint8))
def test_compressed_run_lengths_are_pycocotools(mask):
    text = mask_toolbox().encode(np.asfortranarray(mask))["counts"].decode()
    assert decompressed(text) == run_lengths(mask)["counts"]


def test_compressed_run_lengths_are_read(tmp_path):
    mask = filled((0, 0, 5, 5), (25, 0, 30, 20))
    shape = {"size": [HEIGHT, WIDTH], "counts": mask_toolbox().encode(np.asfortranarray(mask))["counts"].decode()}
    np.testing.assert_array_equal(masks(load_stop_signs(coco(tmp_path, [(7, 4, shape, 0)]), False)), [mask])


def test_halves_and_who_made_them(tmp_path):
    coco(tmp_path, [(1, 4, [SQUARE], 0)], "train2017", info={"description": "COCO 2017 Dataset"})
    coco(tmp_path, [(2, 4, [SQUARE], 0), (3, 4, [FAR], 0)])
    training, validation = (load_stop_signs(str(tmp_path), train) for train in (True, False))
    assert (len(training), training.official) == (1, True)
    assert (len(validation), validation.official) == (2, False)


@pytest.mark.parametrize(("min_area", "left"), [(0, 3), (48, 3), (49, 2), (97, 1)])
def test_the_least_area_is_of_an_images_mask(tmp_path, min_area, left):
    signs = [(1, 4, [SQUARE], 0), (2, 4, [SQUARE], 0), (2, 4, [FAR], 0), (3, 4, run_lengths(filled((0, 0, 20, 20))), 1)]
    assert len(load_stop_signs(coco(tmp_path, signs), False, min_area)) == left


OUTERMOST = [-WIDTH, -WIDTH, 2 * WIDTH, -WIDTH, 2 * WIDTH, 2 * WIDTH]  # as far outside as a point may be


@pytest.mark.parametrize(
    ("width", "height", "shape"),
    [
        (1 << 14, 1 << 13, [SQUARE]),
        (1, 40, {"size": [40, 1], "counts": [10, 30]}),
        (40, 1, {"size": [1, 40], "counts": [10, 30]}),
        (WIDTH, HEIGHT, [SQUARE[:6]]),
        (WIDTH, HEIGHT, [OUTERMOST]),
    ],
)
def test_sizes_and_points_up_to_the_bounds_are_taken(tmp_path, width, height, shape):
    images = [{"id": 1, "file_name": "1.png", "width": width, "height": height}]
    (image,) = load_stop_signs(coco(tmp_path, [(1, 4, shape, 0)], images=images), False).images
    assert image.mask["size"] == [height, width]


@pytest.mark.parametrize(("longest", "fits"), [(28, True), (27, False)])
def test_the_length_of_an_outline_has_a_bound(tmp_path, monkeypatch, longest, fits):
    """That of the square, 2 * (8 + 6) pixels."""
    monkeypatch.setattr(annotations, "LONGEST_OUTLINE", longest)
    folder = coco(tmp_path, [(1, 4, [SQUARE], 0)])
    if fits:
        assert len(load_stop_signs(folder, False)) == 1
    else:
        with pytest.raises(DataError, match="is too long"):
            load_stop_signs(folder, False)


def test_a_number_in_compressed_run_lengths_has_up_to_13_digits():
    assert decompressed("o" * 12 + "0") == [2**60 - 1]
    for text in ("o" * 13 + "0", "/", "p"):  # the neighbours of the characters that digits are written in
        with pytest.raises(ValueError, match="not compressed run lengths"):
            decompressed(text)


def test_images_are_not_turned_as_their_exif_data_says(tmp_path):
    """COCO's annotations are of the pixels as they are stored."""
    folder = coco(tmp_path, [(1, 4, [SQUARE], 0)])
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    stored = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(stored).save(tmp_path / "val2017" / "1.png", exif=turned)
    np.testing.assert_array_equal(read_pair(load_stop_signs(folder, False).images[0])[0], stored)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match=r"instances_train2017\.json is missing: --data-dir has to name a folder with"):
        load_stop_signs(str(tmp_path / "nowhere"), True)
    folder = coco(tmp_path, [(1, 13, [SQUARE], 0)], categories=CATEGORIES[1:])
    with pytest.raises(DataError, match='has no category "stop sign"'):
        load_stop_signs(folder, False)
    with pytest.raises(DataError, match="has no image with 0 or more pixels of a stop sign"):
        load_stop_signs(coco(tmp_path, [(1, 13, [SQUARE], 0)]), False)
    coco(tmp_path, [(n, 4, [SQUARE], 0) for n in (1, 2, 3)])
    for number in (2, 3):
        (tmp_path / "val2017" / f"{number}.png").unlink()
    with pytest.raises(DataError, match=r"val2017/2\.png and 1 more of the 3 images .* are missing"):
        load_stop_signs(folder, False)


def runs(text, counts):
    """The annotation with these run lengths."""
    return text.replace(f"[{SQUARE}]", f'{{"size": [20, 30], "counts": {counts}}}')


def sized(text, width, height):
    """The image with this size."""
    return text.replace(f'"width": {WIDTH}, "height": {HEIGHT}', f'"width": {width}, "height": {height}')


DAMAGED = {
    "cut": (lambda text: text[:-20], "JSONDecodeError"),
    "no text": (lambda text: "\0", "JSONDecodeError"),
    "a list": (lambda text: "[]", "its content is not an object"),
    "deep": (lambda text: "[" * 100_000, "RecursionError"),
    "too large": (lambda text: sized(text, 10**9, 10**9), "image 1 has 1000000000 x 1000000000 pixels: 1 to"),
    "too high": (lambda text: sized(text, 5, 2**31), "image 1 has 5 x 2147483648 pixels"),
    "too wide": (lambda text: sized(text, 2**31, 5), "image 1 has 2147483648 x 5 pixels"),
    "large": (lambda text: sized(text, 70_000, 70_000), "image 1 has 70000 x 70000 pixels"),
    "a row too many": (lambda text: sized(text, 1 << 14, (1 << 13) + 1), "x 8193 pixels: 1 to 134,217,728 can be read"),
    "empty": (lambda text: sized(text, 30, 0), "image 1 has 30 x 0 pixels"),
    "below 0": (lambda text: sized(text, -30, -20), "image 1 has -30 x -20 pixels"),
    "halves": (lambda text: sized(text, 30.5, 20), "image 1 has 30.5 x 20 pixels"),
    "true": (lambda text: sized(text, "true", 20), "image 1 has True x 20 pixels"),
    "named": (lambda text: sized(text, '"30"', 20), "image 1 has 30 x 20 pixels"),
    "zigzag": (lambda text: text.replace(str(SQUARE), str([0, 0, 30, 20] * 30_000)), "too long"),
    "no number": (lambda text: text.replace('"id": 0', '"no": 0'), 'entry 0 of "annotations" has no "id"'),
    "no category": (lambda text: text.replace('"category_id"', '"c"'), 'entry 0 of "annotations" has no "category_id"'),
    "no image": (lambda text: text.replace('"image_id": 1', '"image_id": 8'), "annotation 0, image_id: there is no im"),
    "no annotations": (lambda text: text.replace('"annotations"', '"a"'), '"annotations" is missing or is not a list'),
    "a number": (lambda text: text.replace('"categories": [', '"categories": [3, '), 'entry 0 of "categories" is no'),
    "no file": (lambda text: text.replace('"file_name"', '"f"'), 'image 1 has no "file_name"'),
    "a file that is no text": (lambda text: text.replace('"1.png"', "5"), "image 1, file_name: it is not a text"),
    "text in a polygon": (lambda text: text.replace("[2, 3,", '[2, "3",'), "one that is not a list of numbers"),
    "no segmentation": (lambda text: text.replace('"segmentation"', '"s"'), "0, segmentation: it is missing"),
    "flat": (
        lambda text: text.replace(f"[{SQUARE}]", str(SQUARE)),
        r"each polygon needs a list of its own.*list of polygons, \[\[x1",
    ),
    "half flat": (lambda text: text.replace(f"[{SQUARE}]", f"[{SQUARE}, 3]"), "one that is not a list of numbers"),
    "null": (lambda text: text.replace(f"[{SQUARE}]", "null"), "it is not a shape. It has to be a list of polygons"),
    "no size": (lambda text: text.replace('"width"', '"w"'), 'image 1 has no "width"'),
    "two points": (lambda text: text.replace(str(SQUARE), "[1, 2, 3, 4]"), "fewer than three points"),
    "no polygon": (lambda text: text.replace(f"[{SQUARE}]", "[]"), "it has no polygon"),
    "text": (lambda text: text.replace(f"[{SQUARE}]", '"square"'), "annotation 0, segmentation: it is not a shape"),
    "a point and a half": (lambda text: text.replace(str(SQUARE), "[1, 2, 3, 4, 5, 6, 7]"), "fewer than three points"),
    "not finite": (lambda text: text.replace(str(SQUARE), "[1, 2, NaN, 4, 5, 6]"), "far outside its image"),
    "far left": (lambda text: text.replace(str(SQUARE), str([-WIDTH - 1, *OUTERMOST[1:]])), "far outside its image"),
    "far below": (lambda text: text.replace(str(SQUARE), str([*OUTERMOST[:5], 2 * WIDTH + 1])), "far outside its im"),
    "far": (lambda text: text.replace(str(SQUARE), "[0, 0, 1e9, 0, 1e9, 1e9]"), "far outside its image"),
    "runs too short": (lambda text: runs(text, [10, 20]), ", but the image has 600"),
    "runs too long": (lambda text: runs(text, [10, 591]), ", but the image has 600"),
    "a run below 0": (lambda text: runs(text, [10, -5, 595]), "neither whole numbers of 0 or more"),
    "runs of halves": (lambda text: runs(text, [0.5, 599.5]), "neither whole numbers of 0 or more"),
    "true runs": (lambda text: runs(text, "[true, 599]"), "neither whole numbers of 0 or more"),
    "compressed runs": (lambda text: runs(text, '"]Y1"'), ", but the image has 600"),
    "compressed, cut": (lambda text: runs(text, '"]Y1Y"'), "the compressed text is cut short"),
    "compressed, long": (lambda text: runs(text, f'"{"o" * 100_000}"'), "the text is not compressed run lengths"),
    "compressed, strange": (lambda text: runs(text, '"~~"'), "the text is not compressed run lengths"),
    "no runs": (lambda text: text.replace(f"[{SQUARE}]", '{"size": [20, 30]}'), "it is not a shape"),
    "size": (
        lambda text: text.replace(f"[{SQUARE}]", '{"size": [2, 3], "counts": [2, 4]}'),
        "annotation 0, segmentation: its size is not that of its image",
    ),
}


@pytest.mark.parametrize("which", DAMAGED)
def test_damaged_annotations_are_a_line(tmp_path, which):
    damage, said = DAMAGED[which]
    folder = coco(tmp_path, [(1, 4, [SQUARE], 0)])
    path = tmp_path / "annotations" / "instances_val2017.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(DataError, match=said) as error:
        load_stop_signs(folder, False)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_annotations_are_read_as_editors_save_them(tmp_path):
    folder = coco(tmp_path, [(1, 4, [SQUARE], 0)])
    path = tmp_path / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    np.testing.assert_array_equal(masks(load_stop_signs(folder, False)), [filled((2, 3, 10, 9))])


def test_annotations_that_fill_the_memory_are_refused_unread(tmp_path, monkeypatch):
    folder = coco(tmp_path, [(1, 4, [SQUARE], 0)])
    size = (tmp_path / "annotations" / "instances_val2017.json").stat().st_size
    monkeypatch.setattr(annotations, "LARGEST_FILE", size)
    assert len(load_stop_signs(folder, False)) == 1
    monkeypatch.setattr(annotations, "LARGEST_FILE", size - 1)
    with pytest.raises(DataError, match=r"instances_val2017\.json is larger than .*: leave out what is no stop sign"):
        load_stop_signs(folder, False)


def test_no_mask_is_made_of_another_size_than_the_image(tmp_path):
    """An array of the size that is said could fill the memory."""
    images = [{"id": 1, "file_name": "1.png", "width": 10_000, "height": 10_000}]
    (place,) = load_stop_signs(coco(tmp_path, [(1, 4, [SQUARE], 0)], images=images), False).images
    with pytest.raises(DataError, match="has 30 x 20 pixels, but its annotations say 10000 x 10000"):
        read_pair(place)


def test_images_that_cannot_be_read_or_have_another_size(tmp_path):
    (place,) = load_stop_signs(coco(tmp_path, [(1, 4, [SQUARE], 0)]), False).images
    Image.new("RGB", (WIDTH + 1, HEIGHT)).save(place.path)
    with pytest.raises(DataError, match=r"1\.png has 31 x 20 pixels, but its annotations say 30 x 20"):
        read_pair(place)
    (tmp_path / "val2017" / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1\.png cannot be read as an image"):
        read_pair(place)


def test_without_pycocotools(tmp_path, monkeypatch):
    folder = coco(tmp_path, [(1, 4, [SQUARE], 0)])
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(InputError, match=r"need pycocotools .*pip install 'gluon_aff\[coco\]'"):
        load_stop_signs(folder, False)


def test_reading_says_nothing(tmp_path, capsys):
    """pycocotools tells how far it is."""
    load_stop_signs(coco(tmp_path, [(1, 4, [SQUARE], 0)]), False)
    assert capsys.readouterr() == ("", "")
