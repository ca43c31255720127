import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from gluon_aff.data.batches import Share, usable_workers
from gluon_aff.data.cifar.augmentation import normalise
from gluon_aff.data.cifar.batches import TrainBatches, validation_batches
from gluon_aff.data.cifar.files import LabelledImages, load_cifar
from gluon_aff.data.workers import WorkerPool
from gluon_aff.errors import DataError, InputError, TrainingError


@pytest.fixture(scope="module")
def data(shapes_dir):
    return load_cifar("cifar100", True, fine_label=True, data_dir=str(shapes_dir))


@pytest.fixture(scope="module", autouse=True)
def mxnet_in_use():
    """MXNet's engine and its threads run before any worker starts, as they do in training."""
    weight = mx.nd.random.normal(shape=(8, 3, 3, 3))
    mx.nd.Convolution(mx.nd.ones((4, 3, 32, 32)), weight, no_bias=True, kernel=(3, 3), num_filter=8).wait_to_read()


def bytes_of(batches):
    return [(images.tobytes(), labels.tobytes()) for images, labels in batches]


@pytest.mark.parametrize(("auto_augment", "workers"), [(True, (1, 2, 3)), (False, (2,))])
def test_the_number_of_workers_makes_no_difference(data, auto_augment, workers):
    some = LabelledImages(data.images[:700], data.labels[:700], data.classes)
    results = []
    for number in (0, *workers):
        with TrainBatches(some, 128, seed=3, auto_augment=auto_augment, num_workers=number) as batches:
            # Work of MXNet in between, as in training.
            mx.nd.dot(mx.nd.ones((50, 50)), mx.nd.ones((50, 50))).wait_to_read()
            results.append([bytes_of(batches.epoch(0)), bytes_of(batches.epoch(1))])
    assert all(result == results[0] for result in results[1:])
    assert results[0][0] != results[0][1]
    assert len(results[0][0]) == 5


def test_shapes_and_types(data):
    batches = TrainBatches(data, 128, seed=0, auto_augment=False, num_workers=0)
    assert len(batches) == 15
    images, labels = next(batches.epoch(0))
    assert (images.shape, images.dtype, images.flags.c_contiguous) == ((128, 3, 32, 32), np.float32, True)
    assert (labels.shape, labels.dtype) == ((128,), np.float32)


@pytest.mark.parametrize("workers", [0, 2])
def test_pixels_are_the_batches_before_they_are_normalised(data, workers):
    """Augmented, and cropped with black pixels around, which are black before they are normalised."""
    with TrainBatches(data, 128, seed=5, auto_augment=True, num_workers=workers) as batches:
        for (images, labels), (pixels, again) in zip(batches.epoch(1, 12), batches.pixels(1, 12)):
            assert (pixels.values.dtype, pixels.values.shape) == (np.uint8, (128, 32, 32, 3))
            found = (pixels.values.astype("float64") - pixels.mean) / pixels.std
            np.testing.assert_allclose(found.transpose(0, 3, 1, 2), images, rtol=0, atol=1e-6)
            assert np.array_equal(again, labels)


def numbered(samples):
    """Images that are one value all over, so that the crop shows where they came from; the label is their number."""
    images = np.zeros((samples, 32, 32, 3), np.uint8)
    images[:] = np.arange(samples).reshape(-1, 1, 1, 1) % 200 + 50
    return LabelledImages(images, np.arange(samples, dtype=np.int32), samples)


def test_every_sample_once_an_epoch_but_for_the_tail():
    data = numbered(50)
    batches = TrainBatches(data, 16, seed=1, auto_augment=False, num_workers=0)
    epochs = [np.concatenate([labels for _, labels in batches.epoch(number)]) for number in range(4)]
    for labels in epochs:
        assert len(labels) == len(np.unique(labels)) == 48
    assert len({tuple(labels) for labels in epochs}) == 4
    for images, labels in batches.epoch(0):
        centres = normalise(data.images[labels.astype(int)])[:, :, 16, 16]
        np.testing.assert_array_equal(images[:, :, 16, 16], centres)


def test_same_seed_same_bytes_and_other_seed_other_bytes(data):
    def first(seed):
        return bytes_of([next(TrainBatches(data, 64, seed, auto_augment=True, num_workers=0).epoch(5))])

    assert first(11) == first(11)
    assert first(11) != first(12)


def test_equal_images_are_augmented_differently():
    data = LabelledImages(np.repeat(numbered(1).images, 32, axis=0), np.zeros(32, np.int32), 10)
    images, _ = next(TrainBatches(data, 32, seed=0, auto_augment=False, num_workers=0).epoch(0))
    assert len({image.tobytes() for image in images}) > 16


def test_an_image_is_cut_and_flipped_otherwise_in_every_epoch():
    """Of 162 ways to cut and flip an image, two epochs choose the same for less than one of 50 images."""
    noise = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    batches = TrainBatches(LabelledImages(noise, np.arange(50), 50), 50, seed=1, auto_augment=False, num_workers=0)
    epochs = []
    for number in range(3):
        ((images, labels),) = batches.epoch(number)
        epochs.append(images[np.argsort(labels)])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        same = [np.array_equal(*pair) for pair in zip(epochs[one], epochs[other])]
        assert sum(same) <= 4


def test_shares_make_up_the_whole_batch(data):
    def batches(size, share=Share()):  # noqa: B008
        return TrainBatches(data, size, seed=3, auto_augment=True, num_workers=0, share=share).epoch(1)

    whole = next(batches(64))
    parts = [next(batches(32, Share(rank, 2))) for rank in (0, 1)]
    for place, array in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([part[place] for part in parts]), array)


def test_shares_of_validation_take_turns(data):
    some = LabelledImages(data.images[:70], data.labels[:70], data.classes)
    whole = bytes_of(validation_batches(some, 16))
    for rank in (0, 1):
        assert bytes_of(validation_batches(some, 16, Share(rank, 2))) == whole[rank::2]


def test_an_epoch_can_be_left_early_and_another_begun(data):
    with TrainBatches(data, 128, seed=3, auto_augment=True, num_workers=2) as batches:
        expected = bytes_of(batches.epoch(1))
        for _ in batches.epoch(0):
            break
        assert bytes_of(batches.epoch(1)) == expected


def test_too_few_images():
    with pytest.raises(DataError, match=r"10 images, fewer than one batch of 16: lower --batch-size"):
        TrainBatches(numbered(10), 16, seed=0, auto_augment=False, num_workers=0)
    with pytest.raises(InputError, match="--batch-size"):
        TrainBatches(numbered(10), 0, seed=0, auto_augment=False, num_workers=0)


def test_validation_batches(data):
    some = LabelledImages(data.images[:70], data.labels[:70], data.classes)
    batches = list(validation_batches(some, 32))
    assert [len(labels) for _, labels in batches] == [32, 32, 6]
    assert {images.dtype for images, _ in batches} == {np.dtype(np.float32)}
    images = np.concatenate([images for images, _ in batches])
    np.testing.assert_array_equal(images, normalise(some.images))
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), some.labels)


def test_usable_workers():
    cores = len(os.sched_getaffinity(0))
    assert [usable_workers(requested) for requested in (-3, 0, 1, 96)] == [0, 0, 1, min(96, cores)]


def test_processes_share_the_cores_that_they_may_use(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", {0: range(6)}.__getitem__)  # 0 is this process
    assert [usable_workers(96, processes) for processes in (1, 2, 4, 7)] == [6, 3, 1, 1]
    monkeypatch.delattr(os, "sched_getaffinity")  # as outside Linux
    assert usable_workers(96, 2) == 8
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_workers(96) == 1


def children(pid):
    """Processes whose parent is `pid`, by the fourth field of Linux's /proc/*/stat."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def worker_pids():
    return [
        pid for pid in children(os.getpid()) if b"gluon_aff.data.workers" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def wait_until_gone(pids, seconds=20):
    deadline = time.monotonic() + seconds
    while any(map(running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(running, pids))


def test_close_ends_the_workers_even_in_mid_epoch(data):
    batches = TrainBatches(data, 128, seed=3, auto_augment=True, num_workers=2)
    epoch = batches.epoch(0)
    next(epoch)
    pids = worker_pids()
    assert len(pids) == 2
    assert [os.getsid(pid) for pid in pids] == pids  # so that Ctrl-C does not reach them
    batches.close()
    assert wait_until_gone(pids)


def test_a_killed_worker_is_reported_in_one_line(data):
    with TrainBatches(data, 128, seed=3, auto_augment=True, num_workers=2) as batches:
        epoch = batches.epoch(0)
        next(epoch)
        os.kill(worker_pids()[0], signal.SIGKILL)
        with pytest.raises(TrainingError, match=r"worker process ended with code -9.*-j 0"):
            list(epoch)
        with pytest.raises(TrainingError, match="worker process ended"):
            list(batches.epoch(1))


def test_what_the_work_prints_does_not_get_between_the_answers(capfd):
    pool = WorkerPool(1, partial(eval, "lambda text: print(text) or len(text)"))
    assert [pool.submit((text,)).result() for text in ("abc", "de")] == [3, 2]
    pool.close()
    assert capfd.readouterr() == ("", "abc\nde\n")


# Without a guard for `__main__`: workers do not import the script.
SCRIPT = """
import time
import numpy as np
from gluon_aff.data.cifar.files import LabelledImages
from gluon_aff.data.cifar.batches import TrainBatches

data = LabelledImages(np.zeros((64, 32, 32, 3), np.uint8), np.zeros(64, np.int32), 10)
batches = TrainBatches(data, 8, seed=0, auto_augment=True, num_workers=2)
epoch = batches.epoch(0)
next(epoch)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_die_with_their_parent(tmp_path, sign):
    script = tmp_path / "hold.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment)
    try:
        assert parent.stdout.readline() == b"ready\n"
        pids = children(parent.pid)
        assert len(pids) >= 2
        parent.send_signal(sign)
        parent.wait(timeout=20)
        assert wait_until_gone(pids)
    finally:
        parent.kill()
        parent.stdout.close()


def test_workers_do_without_mxnet():
    check = "import sys, gluon_aff.data.workers, gluon_aff.data.samples.cifar_layout; sys.exit('mxnet' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert subprocess.run([sys.executable, "-c", check], env=environment).returncode == 0
