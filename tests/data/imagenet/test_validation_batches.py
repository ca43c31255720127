"""ImageNet's layouts against MXNet's own readers of them."""

import shutil
import sys
import threading

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon.data.vision import ImageFolderDataset, transforms
from PIL import Image

from gluon_aff.data.batches import Share
from gluon_aff.data.imagenet.images import check_size, decode
from gluon_aff.data.imagenet.training_batches import record_batches
from gluon_aff.data.imagenet.validation_batches import folder_validation, record_validation, validation_data
from gluon_aff.errors import DataError, InputError

MAGIC = b"\x0a\x23\xd7\xce"
COLOURS = {"blue": (20, 30, 200), "green": (10, 190, 40), "red": (210, 20, 30)}


def picture(seed, height, width, colour=None):
    """A picture with soft spots, of one colour on average if that is given."""
    rng = np.random.default_rng(seed)
    if colour is None:
        spots = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    else:
        spots = np.clip(rng.normal(colour, 15, (6, 8, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(spots).resize((width, height), Image.Resampling.BICUBIC)


def write_folders(root, images_per_class=4):
    """Class folders of pictures in the class's colour; labels follow the names."""
    seed = 0
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for number in range(images_per_class):
            extension = (".JPEG", ".jpg", ".png")[number % 3]
            picture(seed, 40 + number, 60 - 5 * number, colour).save(root / name / f"{number:02}{extension}")
            seed += 1
    return root


def write_records(folder, labels, name="val"):
    """A record file with MXNet's writer, through OpenCV; the pictures differ."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = mx.recordio.MXIndexedRecordIO(str(folder / f"{name}.idx"), str(folder / f"{name}.rec"), "w")
    for number, label in enumerate(labels):
        header = mx.recordio.IRHeader(0, float(label), number, 0)
        pixels = np.asarray(picture(number, 48 + number % 5, 50 - number % 3))[..., ::-1]
        writer.write_idx(number, mx.recordio.pack_img(header, pixels, quality=90, img_fmt=".jpg"))
    writer.close()
    return folder


def whole(data):
    """All images and labels, and the sizes of the batches."""
    batches = list(data.batches)
    assert all(part.dtype == np.float32 and part.flags.c_contiguous for batch in batches for part in batch)
    images, labels = (np.concatenate(arrays) for arrays in zip(*batches))
    return images, labels, [len(part) for _, part in batches]


@pytest.mark.parametrize("input_size", [32, 45])
def test_folders_have_the_pixels_and_labels_of_gluons_transforms(tmp_path, input_size):
    """Portrait and landscape, smaller and larger than the crop, grey, with alpha, with an orientation, a thin strip."""
    turned = Image.Exif()
    turned[0x0112] = 6
    (tmp_path / "b").mkdir()
    (tmp_path / "a").mkdir()
    picture(0, 70, 93).save(tmp_path / "b" / "landscape.jpg", quality=90)
    picture(1, 121, 64).save(tmp_path / "b" / "portrait.JPEG", quality=70)
    picture(2, 20, 25).save(tmp_path / "b" / "small.png")
    picture(3, 60, 50).convert("L").save(tmp_path / "a" / "grey.jpg")
    picture(4, 90, 60).save(tmp_path / "a" / "turned.jpg", exif=turned)
    picture(5, 60, 70).convert("RGBA").save(tmp_path / "a" / "alpha.png")
    picture(6, 9, 700).save(tmp_path / "a" / "strip.png")
    shorter = int(np.ceil(input_size / 0.875))
    transform = transforms.Compose(
        [
            transforms.Resize(shorter, keep_ratio=True),
            transforms.CenterCrop(input_size),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    gluons = ImageFolderDataset(str(tmp_path)).transform_first(transform)
    data = validation_data(str(tmp_path), input_size, 3, 2)
    images, labels, sizes = whole(data)
    assert sizes == [3, 3, 1]
    assert labels.tolist() == [label for _, label in gluons] == [0, 0, 0, 0, 1, 1, 1]
    assert data.class_list.ordered == ["a", "b"]
    np.testing.assert_allclose(images, np.stack([image.asnumpy() for image, _ in gluons]), atol=2e-6)


def test_records_have_the_pixels_and_labels_of_image_record_iter(tmp_path):
    """One at a time, since its last batch is not to be trusted; some JPEGs with an orientation, which it applies."""
    labels = [2, 0, 1, 1, 0]
    writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / "val.idx"), str(tmp_path / "val.rec"), "w")
    for number, label in enumerate(labels):
        turned = Image.Exif()
        turned[0x0112] = 1 + number
        picture(number, 60 + 9 * number, 80).save(tmp_path / "x.jpg", exif=turned)
        writer.write_idx(
            number, mx.recordio.pack(mx.recordio.IRHeader(0, label, number, 0), (tmp_path / "x.jpg").read_bytes())
        )
    writer.close()
    means = dict(zip(("mean_r", "mean_g", "mean_b"), (123.68, 116.779, 103.939)))
    deviations = dict(zip(("std_r", "std_g", "std_b"), (58.393, 57.12, 57.375)))
    mxnets = mx.io.ImageRecordIter(
        path_imgrec=str(tmp_path / "val.rec"), path_imgidx=str(tmp_path / "val.idx"), resize=37, data_shape=(3, 32, 32),
        batch_size=1, preprocess_threads=1, shuffle=False, verbose=False, **means, **deviations,
    )  # fmt: skip
    expected = [(batch.data[0].asnumpy(), batch.label[0].asscalar()) for batch in mxnets]
    data = validation_data(str(tmp_path), 32, 2, 1)
    images, found, sizes = whole(data)
    assert (sizes, data.classes, data.class_list) == ([2, 2, 1], 3, None)
    assert found.tolist() == [label for _, label in expected] == labels
    np.testing.assert_allclose(images, np.concatenate([image for image, _ in expected]), atol=2e-6)


@pytest.mark.parametrize("batch_size", [1, 4, 10, 23, 50])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_record_is_counted_once(tmp_path, batch_size, num_workers):
    labels = np.random.default_rng(0).integers(0, 7, 23)
    write_records(tmp_path, labels)
    data = validation_data(str(tmp_path), 32, batch_size, num_workers)
    first, second = whole(data), whole(data)
    assert data.images == 23 == len((tmp_path / "val.idx").read_text().splitlines())
    assert first[1].tolist() == labels.tolist()
    assert first[2] == [batch_size] * (23 // batch_size) + [23 % batch_size] * (23 % batch_size > 0)
    assert len({image.tobytes() for image in first[0]}) == 23
    np.testing.assert_array_equal(second[0], first[0])
    np.testing.assert_array_equal(second[1], first[1])


@pytest.mark.parametrize("batch_size", [5, 12, 100])
def test_each_file_is_counted_once(tmp_path, batch_size):
    write_folders(tmp_path)
    data = validation_data(str(tmp_path), 32, batch_size, 2)
    images, labels, sizes = whole(data)
    assert data.images == len(images) == len({image.tobytes() for image in images}) == 12
    assert labels.tolist() == sorted([0, 1, 2] * 4)
    assert max(sizes) <= batch_size
    np.testing.assert_array_equal(images, whole(validation_data(str(tmp_path), 32, 4, 0))[0])


def test_where_data_is_looked_for(tmp_path):
    write_folders(tmp_path / "val", 1)
    assert validation_data(str(tmp_path), 32, 4, 0).images == 3
    assert validation_data(str(tmp_path / "val"), 32, 4, 0).class_list.ordered == ["blue", "green", "red"]
    write_records(tmp_path / "rec", [0, 1])
    assert validation_data(str(tmp_path), 32, 4, 0).images == 2
    assert validation_data(str(tmp_path / "rec"), 32, 4, 0).images == 2
    write_records(tmp_path, [5])
    data = validation_data(str(tmp_path), 32, 4, 0)
    assert (data.images, data.classes) == (1, 6)


def test_other_files_and_hidden_folders_are_passed_over(tmp_path):
    write_folders(tmp_path, 1)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "README").write_text("x")
    (tmp_path / "red" / "notes.txt").write_text("x")
    (tmp_path / "red" / "._00.jpg").write_text("x")
    (tmp_path / "yellow").mkdir()
    data = validation_data(str(tmp_path), 32, 4, 0)
    assert data.class_list.ordered == ["blue", "green", "red", "yellow"]
    assert (data.images, data.classes) == (3, 4)


def test_records_that_hold_the_mark_between_records(tmp_path):
    """MXNet's writer cuts such a record in pieces; here the mark is in the header (id) and, twice, after the image."""
    picture(0, 50, 60).save(tmp_path / "x.jpg")
    image = (tmp_path / "x.jpg").read_bytes()
    image += b"\0" * (-len(image) % 4) + MAGIC + b"tail" + MAGIC + b"end"
    writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / "val.idx"), str(tmp_path / "val.rec"), "w")
    for number, label in enumerate((3, 1)):
        writer.write_idx(number, mx.recordio.pack(mx.recordio.IRHeader(0, label, 0xCED7230A, 0), image))
    writer.close()
    assert (tmp_path / "val.rec").read_bytes().count(MAGIC) == 8  # a whole record has its own only
    data = validation_data(str(tmp_path), 32, 4, 0)
    images, labels, _ = whole(data)
    assert labels.tolist() == [3, 1]
    np.testing.assert_array_equal(images[0], images[1])
    assert images.std() > 0.1


def test_a_label_that_stands_as_an_array_of_one_is_read_as_image_record_iter_does(tmp_path):
    picture(0, 40, 40).save(tmp_path / "x.png")
    writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / "val.idx"), str(tmp_path / "val.rec"), "w")
    for number, label in enumerate((3.0, 2.0, 1.0, 0.0)):
        header = mx.recordio.IRHeader(0, np.array([label]) if number % 2 == 0 else label, number, 0)
        writer.write_idx(number, mx.recordio.pack(header, (tmp_path / "x.png").read_bytes()))
    writer.close()
    mxnets = mx.io.ImageRecordIter(
        path_imgrec=str(tmp_path / "val.rec"), path_imgidx=str(tmp_path / "val.idx"), data_shape=(3, 32, 32),
        batch_size=1, resize=37, preprocess_threads=1, shuffle=False, verbose=False,
    )  # fmt: skip
    images, labels, _ = whole(validation_data(str(tmp_path), 32, 4, 0))
    assert labels.tolist() == [batch.label[0].asscalar() for batch in mxnets] == [3, 2, 1, 0]
    assert (images == images[0]).all()
    files = (str(tmp_path / "val.rec"), str(tmp_path / "val.idx"))
    ((_, trained),) = record_batches(*files, 4, 0, 32, 0, classes=4).epoch(0)
    assert sorted(trained.tolist()) == [0, 1, 2, 3]


def replace_bytes(path, start, new):
    content = bytearray(path.read_bytes())
    content[start : start + len(new)] = new
    path.write_bytes(bytes(content))


def cut(path, by):
    path.write_bytes(path.read_bytes()[:-by])


def drop_lines(path, keep):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[keep]))


def unfinished(folder):
    """The last record says that it is the first piece of one."""
    last = int((folder / "val.idx").read_text().split()[-1])
    length = np.frombuffer((folder / "val.rec").read_bytes(), np.uint32, 1, last + 4)
    replace_bytes(folder / "val.rec", last + 4, (length + (1 << 29)).astype(np.uint32).tobytes())


def without_its_label(folder):
    """The header says that a label follows, and nothing does."""
    writer = mx.recordio.MXIndexedRecordIO(str(folder / "val.idx"), str(folder / "val.rec"), "w")
    writer.write_idx(0, mx.recordio.pack(mx.recordio.IRHeader(0, [1.0], 0, 0), b"")[:-4])
    writer.close()


def shorter_than_a_header(folder):
    writer = mx.recordio.MXIndexedRecordIO(str(folder / "val.idx"), str(folder / "val.rec"), "w")
    writer.write_idx(0, b"abc")
    writer.close()


def with_label_array(folder):
    writer = mx.recordio.MXIndexedRecordIO(str(folder / "val.idx"), str(folder / "val.rec"), "w")
    writer.write_idx(0, mx.recordio.pack(mx.recordio.IRHeader(0, [1.0, 2.0], 0, 0), b"image"))
    writer.close()


RECORD_TROUBLES = {
    "no index": (lambda f: (f / "val.idx").unlink(), r"val\.idx: No such file.*make-records"),
    "no records": (lambda f: (f / "val.rec").unlink(), r"val\.rec: No such file.*make-records"),
    "index of fewer": (
        lambda f: drop_lines(f / "val.idx", slice(0, 4)),
        r"val\.idx \(4 records\) does not belong to .*val\.rec \(5 ",
    ),
    "index of others": (
        lambda f: (f / "val.idx").write_text("".join(f"{n}\t{n}\n" for n in range(5))),
        "does not belong",
    ),
    "index is text": (lambda f: (f / "val.idx").write_text("hello\n"), r"val\.idx is not an index"),
    "index is binary": (lambda f: (f / "val.idx").write_bytes(bytes(range(256))), r"val\.idx is not an index"),
    "record file cut": (lambda f: cut(f / "val.rec", 3), r"val\.rec is cut short or damaged at byte [\d,]+: copy"),
    "record file cut in a header": (lambda f: replace_bytes(f / "val.rec", 4, b"\x01\0\0\0"), "damaged at byte 12"),
    "record without its last piece": (unfinished, r"val\.rec is cut short or damaged at byte"),
    "not a record file": (lambda f: replace_bytes(f / "val.rec", 0, b"RIFF"), r"val\.rec is .*damaged at byte 0"),
    "empty": (lambda f: [(f / n).write_bytes(b"") for n in ("val.rec", "val.idx")], "val.rec has no images"),
    "negative label": (
        lambda f: replace_bytes(f / "val.rec", 12, np.float32(-1).tobytes()),
        "label of image 0 .* not a class",
    ),
    "label with a fraction": (lambda f: replace_bytes(f / "val.rec", 12, np.float32(0.5).tobytes()), "is not a class"),
    "label that is no number": (
        lambda f: replace_bytes(f / "val.rec", 12, np.float32("nan").tobytes()),
        "is not a class",
    ),
    "shorter than a header": (shorter_than_a_header, "the label of image 0 .* is not a class"),
    "several labels": (with_label_array, "the label of .* is not a class"),
    "an array of one label that is not there": (without_its_label, "the label of .* is not a class"),
}


@pytest.mark.parametrize("trouble", RECORD_TROUBLES)
def test_record_files_that_cannot_be_used(tmp_path, trouble):
    make, message = RECORD_TROUBLES[trouble]
    make(write_records(tmp_path, range(5)))
    with pytest.raises(DataError, match=message) as error:
        validation_data(str(tmp_path), 32, 4, 0)
    assert "\n" not in str(error.value)


def test_records_whose_file_ends_between_two(tmp_path):
    write_records(tmp_path, range(5))
    last = int((tmp_path / "val.idx").read_text().split()[-1])
    (tmp_path / "val.rec").write_bytes((tmp_path / "val.rec").read_bytes()[:last])
    with pytest.raises(DataError, match=r"val\.idx \(5 records\) does not belong to .*val\.rec \(4 records\)"):
        validation_data(str(tmp_path), 32, 4, 0)


def only_files(folder):
    folder.mkdir()
    (folder / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"x")


FOLDER_TROUBLES = {
    "missing": (lambda f: None, r"place: No such file.*val/CLASS/IMAGE"),
    "a file": (lambda f: f.write_text("x"), r"place: Not a directory"),
    "no class folders": (only_files, r"place has no class folders: name a folder with val\.rec"),
    "no images": (lambda f: (f / "train" / "n01440764").mkdir(parents=True), r"such as train, holds an image"),
}


@pytest.mark.parametrize("trouble", FOLDER_TROUBLES)
def test_folders_that_cannot_be_used(tmp_path, trouble):
    make, message = FOLDER_TROUBLES[trouble]
    make(tmp_path / "place")
    with pytest.raises(DataError, match=message) as error:
        validation_data(str(tmp_path / "place"), 32, 4, 0)
    assert "\n" not in str(error.value)


IMAGE_TROUBLES = {
    "empty": b"",
    "text": b"not an image",
    "header only": None,
}


@pytest.mark.parametrize("trouble", IMAGE_TROUBLES)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unreadable_file_is_named(tmp_path, trouble, num_workers):
    write_folders(tmp_path)
    path = tmp_path / "green" / "01.jpg"
    content = IMAGE_TROUBLES[trouble]
    path.write_bytes(path.read_bytes()[:100] if content is None else content)
    with pytest.raises(DataError, match=r"green/01\.jpg cannot be read \(.*\): get it again") as error:
        whole(validation_data(str(tmp_path), 32, 4, num_workers))
    assert "\n" not in str(error.value)


def test_a_file_that_went_away_is_named(tmp_path):
    write_folders(tmp_path)
    data = validation_data(str(tmp_path), 32, 4, 1)
    (tmp_path / "blue" / "00.JPEG").unlink()
    with pytest.raises(DataError, match=r"blue/00\.JPEG cannot be read"):
        whole(data)


def test_a_strip_is_refused_before_it_is_enlarged(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (30_000, 1)).save(tmp_path / "a" / "strip.png")
    with pytest.raises(
        DataError, match=r"strip\.png cannot be read \(30000 x 1 pixels are too long and narrow to resize\)"
    ):
        whole(validation_data(str(tmp_path), 224, 4, 0))


@pytest.mark.parametrize(("longest", "shorter"), [(32_768, 1), (40_000, 20_000)])
def test_images_are_resized_up_to_a_longest_side(longest, shorter):
    check_size(3, 2, longest, shorter)
    with pytest.raises(DataError, match="3 x 2 pixels are too long and narrow"):
        check_size(3, 2, longest + 1, shorter)


@pytest.mark.parametrize(("num_workers", "content"), [(0, b""), (2, b"garbage")])
def test_an_unreadable_record_is_named(tmp_path, num_workers, content):
    """ImageRecordIter divides by zero here, which ends the process."""
    writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / "val.idx"), str(tmp_path / "val.rec"), "w")
    picture(0, 40, 40).save(tmp_path / "x.jpg")
    for number in range(6):
        image = content if number == 4 else (tmp_path / "x.jpg").read_bytes()
        writer.write_idx(number, mx.recordio.pack(mx.recordio.IRHeader(0, 0.0, number, 0), image))
    writer.close()
    with pytest.raises(DataError, match=r"image 4 \(counted from 0\) of .*val\.rec cannot be read"):
        whole(validation_data(str(tmp_path), 32, 4, num_workers))


def test_batches_come_in_order_up_to_one_that_cannot_be_read(tmp_path):
    write_folders(tmp_path)
    (tmp_path / "green" / "01.jpg").write_bytes(b"")
    threads = threading.active_count()
    batches = iter(validation_data(str(tmp_path), 32, 2, 2).batches)
    assert [next(batches)[1].tolist() for _ in range(2)] == [[0, 0], [0, 0]]
    with pytest.raises(DataError, match=r"green/01\.jpg"):
        next(batches)
    assert threading.active_count() == threads


def test_few_batches_are_read_ahead_and_no_thread_stays_when_a_pass_is_left(tmp_path, monkeypatch):
    read = []

    def noted(content, upright):
        read.append(content)
        return decode(content, upright)

    monkeypatch.setattr("gluon_aff.data.imagenet.validation_batches.decode", noted)
    data = validation_data(str(write_records(tmp_path, range(20))), 32, 2, 2)
    threads = threading.active_count()
    batches = iter(data.batches)
    assert next(batches)[1].tolist() == [0, 1]
    assert threading.active_count() > threads
    batches.close()
    assert threading.active_count() == threads
    assert len(read) <= 2 * 3


@pytest.mark.parametrize("numbers", [(0, 4, 0.875), (32, 0, 0.875), (32, 4, 0.0), (32, 4, 1.5)])
def test_numbers_that_make_no_sense(tmp_path, numbers):
    input_size, batch_size, crop_ratio = numbers
    with pytest.raises(InputError, match="the sizes have to be 1 or more"):
        validation_data(str(write_folders(tmp_path / "val", 1)), input_size, batch_size, 0, crop_ratio)


def test_the_smallest_numbers(tmp_path):
    """The ratio is the largest there is."""
    images, _, _ = whole(validation_data(str(write_folders(tmp_path, 1)), 1, 1, 0, 1.0))
    assert images.shape == (3, 3, 1, 1)


@pytest.mark.parametrize("kind", ["records", "folders"])
def test_shares_take_turns(kind, tmp_path):
    def share(rank, size):
        if kind == "records":
            return record_validation(
                str(tmp_path / "val.rec"), str(tmp_path / "val.idx"), 32, 4, 0, share=Share(rank, size)
            )
        return folder_validation(str(tmp_path), 32, 4, 0, share=Share(rank, size))

    (write_records(tmp_path, [0, 1, 2]) if kind == "records" else write_folders(tmp_path, 1))
    assert [whole(share(rank, 3))[1].tolist() for rank in range(3)] == [[0], [1], [2]]
    assert [(share(rank, 2).images, share(rank, 2).classes) for rank in range(2)] == [(2, 3), (1, 3)]
    with pytest.raises(DataError, match="3 validation images are too few for 4 workers"):
        share(0, 4)


def test_without_opencv_there_is_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match="pip install opencv-python-headless"):
        validation_data(str(write_folders(tmp_path / "val", 1)), 32, 4, 0)


def test_it_can_be_read_again_after_the_folder_moved(tmp_path):
    """An open record file is read through its mapping, so that nothing depends on its name once it is open."""
    data = validation_data(str(write_records(tmp_path / "a", [0, 1, 2])), 32, 2, 0)
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert whole(data)[1].tolist() == [0, 1, 2]
