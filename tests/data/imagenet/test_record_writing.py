"""Record files written from class folders, against MXNet's writer and readers."""

import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from gluon_aff.data.imagenet.record_files import framed, record_at
from gluon_aff.data.imagenet.record_writing import write_records
from gluon_aff.data.imagenet.training_batches import record_batches
from gluon_aff.data.imagenet.validation_batches import record_validation
from gluon_aff.data.samples.pictures import write_pictures
from gluon_aff.errors import DataError, GluonAFFError, InputError

MAGIC = b"\x0a\x23\xd7\xce"
ENDINGS = ("rec", "idx", "lst", "classes")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """40 JPEG files, one with an orientation, and a PNG in 8 class folders, and what is no picture."""
    root = tmp_path_factory.mktemp("pictures") / "set"
    write_pictures(str(root), 40, 8)
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    with Image.open(root / "train" / "sky" / "0000.jpg") as image:
        image.save(root / "train" / "sky" / "0000.jpg", exif=turned)
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "train" / "sky" / "noise.png")
    (root / "train" / "sky" / "notes.txt").write_text("x")
    (root / "train" / ".hidden").mkdir()
    return root / "train"


def content(out):
    return {ending: Path(f"{out}.{ending}").read_bytes() for ending in ENDINGS}


def listed(out):
    """(key, label, path) of each line of the list."""
    lines = (line.split("\t") for line in Path(f"{out}.lst").read_text().splitlines())
    return [(int(key), float(label), path) for key, label, path in lines]


def unpacked(out):
    """(label, id, image) of each record, by MXNet's reader, found through the index."""
    reader = mx.recordio.MXIndexedRecordIO(f"{out}.idx", f"{out}.rec", "r")
    records = [mx.recordio.unpack(reader.read_idx(key)) for key in reader.keys]
    reader.close()
    return [(header.label, header.id, image) for header, image in records]


def test_what_mxnet_reads_from_it(tmp_path, pictures):
    out = str(tmp_path / "some" / "train")
    result = write_records(str(pictures), out)
    names = sorted(path.name for path in pictures.iterdir() if not path.name.startswith("."))
    assert (result.images, result.classes.ordered, result.skipped) == (41, names, ())
    files = listed(out)
    assert [key for key, _, _ in files] == list(range(41))
    sources = sorted(str(path.relative_to(pictures)) for path in pictures.glob("*/*.[jp][pn]g"))
    order = np.random.Generator(np.random.PCG64((0, 0, 0))).permutation(41)  # of seed 0, as in an epoch 0
    assert [path for _, _, path in files] == [sources[number] for number in order]
    assert all(names[int(label)] == os.path.dirname(path) for _, label, path in files)
    labels = [label for _, label, _ in files]
    assert labels != sorted(labels)
    for (key, label, path), (packed_label, packed_key, image) in zip(files, unpacked(out)):
        assert (packed_label, packed_key) == (label, key)
        if path.endswith(".jpg"):
            assert image == (pictures / path).read_bytes()
        else:
            assert (
                image
                == cv2.imencode(".jpg", cv2.imread(str(pictures / path)), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
            )
    assert sorted(path.name for path in (tmp_path / "some").iterdir()) == [
        f"train.{ending}" for ending in ("classes", "idx", "lst", "rec")
    ]


def test_the_bytes_are_those_of_mxnets_writer(tmp_path, pictures):
    out = str(tmp_path / "ours")
    write_records(str(pictures), out, shuffle=False)
    writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / "mx.idx"), str(tmp_path / "mx.rec"), "w")
    for label, key, image in unpacked(out):
        writer.write_idx(key, mx.recordio.pack(mx.recordio.IRHeader(0, label, key, 0), image))
    writer.close()
    assert Path(f"{out}.rec").read_bytes() == (tmp_path / "mx.rec").read_bytes()
    assert Path(f"{out}.idx").read_bytes() == (tmp_path / "mx.idx").read_bytes()
    labels = [label for _, label, _ in listed(out)]
    assert labels == sorted(labels)


@pytest.mark.parametrize(
    "payload",
    [b"", b"abc", MAGIC, b"1234" + MAGIC, MAGIC + MAGIC + b"x", b"12" + MAGIC + b"34" + MAGIC, MAGIC * 3 + b"123"],
)
def test_records_that_hold_the_mark_between_records(tmp_path, payload):
    writer = mx.recordio.MXRecordIO(str(tmp_path / "mx.rec"), "w")
    writer.write(payload)
    writer.close()
    assert framed(payload) == (tmp_path / "mx.rec").read_bytes()


def test_a_piece_of_no_kind_is_damage():
    content = framed(b"1234" + MAGIC + b"5678")
    assert record_at(content, 0, "x.rec") == (((8, 4), (20, 4)), 24)
    (last,) = struct.unpack_from("<I", content, 16)
    for kind in (4, 5, 7):
        damaged = content[:16] + struct.pack("<I", last % (1 << 29) + (kind << 29)) + content[20:]
        with pytest.raises(DataError, match="damaged at byte 12"):
            record_at(damaged, 0, "x.rec")


def test_a_record_has_a_largest_size(monkeypatch):
    monkeypatch.setattr("gluon_aff.data.imagenet.record_files.RECORD_LIMIT", 100)
    assert len(framed(bytes(99))) == 108
    with pytest.raises(DataError, match="100 bytes are too many for a record"):
        framed(bytes(100))


def test_pictures_are_resized_as_im2rec_does(tmp_path, pictures):
    """Shorter side, bilinear, the longer side rounded down."""
    out = str(tmp_path / "small")
    write_records(str(pictures), out, shorter_side=48, quality=80, shuffle=False)
    for (_, _, path), (_, _, image) in zip(listed(out), unpacked(out)):
        pixels = cv2.imread(str(pictures / path))
        height, width = pixels.shape[:2]
        size = (48 * width // height, 48) if height < width else (48, 48 * height // width)
        resized = cv2.resize(pixels, size)
        assert image == cv2.imencode(".jpg", resized, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def test_all_readers_take_it(tmp_path, pictures):
    out = str(tmp_path / "train")
    write_records(str(pictures), out, seed=5)
    labels = [label for _, label, _ in listed(out)]
    iterator = mx.io.ImageRecordIter(
        path_imgrec=f"{out}.rec", path_imgidx=f"{out}.idx", resize=40, data_shape=(3, 32, 32), batch_size=1,
        preprocess_threads=1, shuffle=False, verbose=False,
    )  # fmt: skip
    assert [batch.label[0].asscalar() for batch in iterator] == labels
    validated = record_validation(f"{out}.rec", f"{out}.idx", 32, 10, 0)
    assert np.concatenate([part for _, part in validated.batches]).tolist() == labels
    batches = record_batches(f"{out}.rec", f"{out}.idx", 10, 0, 32, 0, classes=8)
    assert (batches.images, len(list(batches.epoch(0)))) == (41, 4)


def test_neither_workers_nor_another_call_change_the_bytes(tmp_path, pictures):
    for name, more in (("a", {"num_workers": 0}), ("b", {"num_workers": 1}), ("c", {"num_workers": 3})):
        write_records(str(pictures), str(tmp_path / name), shorter_side=64, **more)
    write_records(str(pictures), str(tmp_path / "d"), shorter_side=64, seed=1)
    a, b, c, d = (content(tmp_path / name) for name in "abcd")
    assert a == b == c
    assert a["lst"] != d["lst"]


SLOW = """
import sys, time
from gluon_aff.data.imagenet import record_writing as records

as_jpeg = records._as_jpeg

def slow(*arguments):
    time.sleep(0.05)
    return as_jpeg(*arguments)

records._as_jpeg = slow
records.write_records(sys.argv[1], sys.argv[2], num_workers=int(sys.argv[3]))
"""


def killed(folder, out, num_workers=1, size=60_000):
    """Kill a call once so many bytes are there."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen([sys.executable, "-c", SLOW, folder, out, str(num_workers)], env=environment)
    partial = Path(f"{out}.rec.partial")
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size > size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return partial.stat().st_size


def decoded_by(monkeypatch):
    """Counts the pictures that are decoded from now on."""
    from gluon_aff.data.imagenet import record_writing as records

    calls, decode = [], records.decode
    monkeypatch.setattr(records, "decode", lambda *arguments, **more: calls.append(1) or decode(*arguments, **more))
    return calls


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_killed_call_is_gone_on_with(tmp_path, pictures, monkeypatch, num_workers):
    write_records(str(pictures), str(tmp_path / "whole"))
    out = str(tmp_path / "killed")
    size = killed(str(pictures), out, num_workers)
    assert 60_000 < size < os.path.getsize(tmp_path / "whole.rec")
    assert not os.path.exists(f"{out}.rec")
    calls = decoded_by(monkeypatch)
    assert write_records(str(pictures), out).images == 41
    assert 0 < len(calls) < 41
    assert content(out) == content(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}.{ending}" for name in ("killed", "whole") for ending in ENDINGS
    )


def test_what_lies_beside_the_records_is_written_together(tmp_path, pictures):
    out = str(tmp_path / "out")
    os.mkdir(f"{out}.lst.partial")
    with pytest.raises(GluonAFFError, match=r"out\.classes, .*out\.idx, .*out\.lst cannot be written \(.*directory"):
        write_records(str(pictures), out)
    assert sorted(os.listdir(tmp_path)) == ["out.job.partial", "out.lst.partial", "out.rec.partial"]
    os.rmdir(f"{out}.lst.partial")
    assert write_records(str(pictures), out).images == 41
    assert sorted(os.listdir(tmp_path)) == sorted(f"out.{ending}" for ending in ENDINGS)


@pytest.mark.parametrize("cut", [0, 1, 9, 30, 5000])
def test_whatever_was_written_of_the_last_record(tmp_path, pictures, cut):
    """The partial file ends where a call was killed: within an image, within a header, between two."""
    whole, out = str(tmp_path / "whole"), str(tmp_path / "cut")
    write_records(str(pictures), whole)
    places = [int(line.split()[1]) for line in Path(f"{whole}.idx").read_text().splitlines()]
    killed(str(pictures), out, size=0)
    Path(f"{out}.rec.partial").write_bytes(Path(f"{whole}.rec").read_bytes()[: places[20] + cut])
    write_records(str(pictures), out)
    assert content(out) == content(whole)


CHANGES = {
    "argument": lambda folder, more: more.update(quality=50),
    "order": lambda folder, more: more.update(seed=9),
    "picture": lambda folder, more: shutil.copy(folder / "sky" / "0000.jpg", folder / "trees" / "0000.jpg"),
    "another picture": lambda folder, more: shutil.copy(folder / "sky" / "0000.jpg", folder / "sky" / "more.jpg"),
    "fewer pictures": lambda folder, more: (folder / "discs" / "0000.jpg").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_call_begins_anew(tmp_path, pictures, monkeypatch, change):
    folder = tmp_path / "folder"
    shutil.copytree(pictures, folder)
    out = str(tmp_path / "out")
    killed(str(folder), out, size=10_000)
    more = {}
    CHANGES[change](folder, more)
    calls = decoded_by(monkeypatch)
    result = write_records(str(folder), out, **more)
    assert len(calls) == result.images
    write_records(str(folder), str(tmp_path / "fresh"), **more)
    assert content(out) == content(tmp_path / "fresh")


def test_pictures_that_cannot_be_read(tmp_path, pictures, monkeypatch):
    folder = tmp_path / "folder"
    shutil.copytree(pictures, folder)
    (folder / "sky" / "0001.jpg").write_bytes(b"not an image")
    (folder / "trees" / "0003.jpg").write_bytes(b"")
    out = str(tmp_path / "out")
    with pytest.raises(DataError, match=r"folder/sky/0001\.jpg cannot be read \(OpenCV cannot decode it") as error:
        write_records(str(folder), out, shuffle=False)
    assert "\n" not in str(error.value)
    assert not os.path.exists(f"{out}.rec")
    calls = decoded_by(monkeypatch)
    result = write_records(str(folder), out, shuffle=False, skip_unreadable=True)
    assert 0 < len(calls) < 41  # it went on where the first stopped
    assert (result.images, result.skipped) == (39, ("sky/0001.jpg", "trees/0003.jpg"))
    assert len(unpacked(out)) == len(listed(out)) == 39
    assert record_validation(f"{out}.rec", f"{out}.idx", 32, 10, 0).images == 39
    write_records(str(folder), str(tmp_path / "again"), shuffle=False, skip_unreadable=True, num_workers=0)
    assert content(out) == content(tmp_path / "again")


def test_what_a_call_with_skipping_left_is_no_start_for_one_without(tmp_path, pictures):
    folder = tmp_path / "folder"
    shutil.copytree(pictures, folder)
    for path in folder.glob("chequers/*"):
        path.write_bytes(b"")
    out = str(tmp_path / "out")
    write_records(str(folder), out, shuffle=False, skip_unreadable=True)
    record = Path(f"{out}.rec").read_bytes()
    for ending in ENDINGS:
        with pytest.raises(DataError, match=r"out\.(rec|idx|lst|classes) exists"):
            write_records(str(folder), out, shuffle=False)
        Path(f"{out}.{ending}").unlink()
    with pytest.raises(DataError, match="chequers/0000"):
        write_records(str(folder), out, shuffle=False)
    Path(f"{out}.rec.partial").write_bytes(record)
    with pytest.raises(DataError, match="chequers/0000"):
        write_records(str(folder), out, shuffle=False)
    shutil.rmtree(folder)
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="none of the 1 pictures"):
        write_records(str(folder), out, skip_unreadable=True)


def test_records_are_on_disk_before_they_get_their_name(tmp_path, pictures, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    write_records(str(pictures), str(tmp_path / "out"))
    assert os.path.getsize(tmp_path / "out.rec") in synced


def test_a_call_that_is_interrupted_at_once_leaves_nothing_of_another_one(tmp_path, pictures, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("gluon_aff.data.imagenet.record_writing.tqdm", interrupted)
    (tmp_path / "out.rec.partial").write_bytes(b"records of other pictures")
    with pytest.raises(KeyboardInterrupt):
        write_records(str(pictures), str(tmp_path / "out"))
    assert (tmp_path / "out.rec.partial").read_bytes() == b""


def test_without_opencv_nothing_is_made(tmp_path, pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match="pip install opencv-python-headless"):
        write_records(str(pictures), str(tmp_path / "new" / "out"))
    assert not (tmp_path / "new").exists()


def test_numbers_at_their_bounds(tmp_path, pictures, monkeypatch):
    (tmp_path / "set" / "a").mkdir(parents=True)
    shutil.copy(pictures / "sky" / "noise.png", tmp_path / "set" / "a")
    for number, more in enumerate(({"quality": 1}, {"quality": 100}, {"shorter_side": 1})):
        assert write_records(str(tmp_path / "set"), str(tmp_path / str(number)), **more).images == 1
    monkeypatch.chdir(tmp_path)
    assert write_records("set", "here", num_workers=0).images == 1
    assert sorted(path.name for path in tmp_path.glob("here.*")) == sorted(f"here.{ending}" for ending in ENDINGS)


def test_what_cannot_be_done(tmp_path, pictures):
    out = str(tmp_path / "out")
    (tmp_path / "out.rec").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"out\.rec exists: remove it or choose another name"):
        write_records(str(pictures), out)
    assert (tmp_path / "out.rec").read_bytes() == b"mine"
    with pytest.raises(DataError, match=r"none: No such file.*CLASS/IMAGE"):
        write_records(str(tmp_path / "none"), str(tmp_path / "other"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"--classes .*/empty has no class folders: name the training set's folder"):
        write_records(str(pictures), str(tmp_path / "other"), classes=str(tmp_path / "empty"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"file/out\.rec cannot be written .*check free space"):
        write_records(str(pictures), str(tmp_path / "file" / "out"))
    for more in ({"quality": 0}, {"quality": 101}, {"shorter_side": 0}, {"shorter_side": 32769}, {"seed": -1}):
        with pytest.raises(InputError):
            write_records(str(pictures), str(tmp_path / "other"), **more)
