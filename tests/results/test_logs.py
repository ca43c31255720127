"""Logs as users have them: several runs, cut lines, NUL bytes, other lines, gzip."""

import contextlib
import dataclasses
import gzip
import json
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from shared_by_tests.written_logs import SEGMENTATION, log_lines, settings_line

from gluon_aff.errors import InputError
from gluon_aff.published import curve, published_runs
from gluon_aff.results import logs
from gluon_aff.results.compare import chosen_run, compare, nearest_runs
from gluon_aff.results.logs import UnreadLinesError, read_log

RUNS = published_runs()
CIFAR, IMAGENET = RUNS["aff_resnet32_fine"], RUNS["aff_resnet50"]


def written(path, lines, end="\n"):
    path.write_bytes("".join(line + end for line in lines).encode())
    return str(path)


def assert_figures(run, published, epochs=None):
    columns = curve(published)
    for name, column in columns.items():
        np.testing.assert_array_equal(run.epochs[name], column[:epochs], err_msg=name)


@pytest.mark.parametrize("name", RUNS)
def test_every_published_run_reads_back(name, tmp_path):
    published = RUNS[name]
    (run,) = read_log(written(tmp_path / "train.log", log_lines(published)))
    assert_figures(run, published)
    assert run.settings_line == 1
    assert run.lines == (2, 1 + published.epochs * (5 if published.dataset == "imagenet" else 1))
    assert published.settings.items() <= run.settings.items()


@pytest.mark.skipif("GLUON_AFF_OPEN_AFF" not in os.environ, reason="needs GLUON_AFF_OPEN_AFF, a clone of open-aff")
def test_the_original_logs_as_they_are():
    """Segments and figures of logs.json, measured with another parser, for the logs that the clone has."""
    clone, read = Path(os.environ["GLUON_AFF_OPEN_AFF"]), 0
    for entry in json.loads((Path(__file__).parent / "logs.json").read_text()):
        path = clone / entry["path"]
        if "best_acc" in entry or not path.is_file():
            continue
        runs = read_log(str(path))
        assert len(runs) == len(entry["segments"])
        for run, segment in zip(runs, entry["segments"]):
            found = (run.settings_line, run.lines and list(run.lines), run.finished, run.batch_lines)
            assert found == tuple(segment.get(key, 0) for key in ("settings_line", "lines", "epochs", "batch_lines"))
            if "csv" in segment:
                assert_figures(run, RUNS[Path(segment["csv"]).stem])
        read += 1
    assert read


def test_several_runs_and_aborted_starts(tmp_path):
    """As in AFF-ResNet-32's superclass log: a settings line starts a run, also one without any epoch."""
    first, second = RUNS["aff_resnet32_superclass_run1"], RUNS["aff_resnet32_superclass_run2"]
    lines = [*log_lines(first), "INFO:root:" + settings_line(first), *log_lines(second)]
    runs = read_log(written(tmp_path / "train.log", lines))
    assert [run.finished for run in runs] == [526, 0, 640]
    assert [run.settings_line for run in runs] == [1, 528, 529]
    assert [run.lines for run in runs] == [(2, 527), None, (530, 1169)]
    assert_figures(runs[0], first)
    assert_figures(runs[2], second)


@pytest.mark.parametrize("published", [CIFAR, IMAGENET], ids=["cifar", "imagenet"])
def test_epochs_that_fall_back_start_a_run(published, tmp_path):
    lines = log_lines(published, 5)
    runs = read_log(written(tmp_path / "train.log", lines + lines[1:]))
    assert [run.finished for run in runs] == [5, 5]
    assert runs[1].settings is None
    assert_figures(runs[1], published, 5)


@pytest.mark.parametrize("published", [CIFAR, IMAGENET], ids=["cifar", "imagenet"])
def test_an_epoch_that_repeats_starts_a_run(published, tmp_path):
    """A run was started again after its first epoch; nothing else in the log tells, without --log-interval's lines."""
    lines = [line for line in log_lines(published, 1)[1:] if "Batch [" not in line]
    runs = read_log(written(tmp_path / "train.log", lines * 2))
    assert [run.finished for run in runs] == [1, 1]
    for run in runs:
        assert_figures(run, published, 1)


@pytest.mark.parametrize(
    ("mixup", "metric"), [({"mixup": False}, "train_acc"), ({"mixup": True}, "train_rmse"), ({}, "train_rmse")]
)
def test_a_run_without_mixup_logs_the_accuracy_in_the_place_of_the_rmse(mixup, metric, tmp_path):
    """As logs/README.md says. The first release's settings do not say whether there was mixup: there always was."""
    said = {name: value for name, value in CIFAR.settings.items() if name != "mixup"}
    lines = [settings_line(dataclasses.replace(CIFAR, settings={**said, **mixup})), *log_lines(CIFAR, 3)[1:]]
    (run,) = read_log(written(tmp_path / "train.log", lines))
    assert [name for name in run.epochs if name.startswith("train_")] == [metric]
    np.testing.assert_array_equal(run.epochs[metric], curve(CIFAR)["train_rmse"][:3])


def test_batches_that_fall_back_within_an_epoch_start_a_run(tmp_path):
    lines = log_lines(IMAGENET, 1)
    runs = read_log(written(tmp_path / "train.log", [*lines[:3], *lines[1:]]))
    assert [(run.finished, run.batch_lines) for run in runs] == [(0, 2), (1, 2)]


def test_the_batch_that_repeats_starts_a_run(tmp_path):
    """A run was killed after its first line about batches, and started again."""
    lines = log_lines(IMAGENET, 1)
    runs = read_log(written(tmp_path / "train.log", [*lines[:2], *lines[1:]]))
    assert [(run.finished, run.batch_lines) for run in runs] == [(0, 1), (1, 2)]


def test_an_epoch_before_the_batches_of_another_starts_a_run(tmp_path):
    """Epoch 3 was under way when the run was killed; the next one, from epoch 0, has no lines about batches."""
    lines = log_lines(IMAGENET, 4)
    begun = [line for line in lines if line.startswith("Epoch[3]")]
    anew = [line for line in lines if line.startswith(("[Epoch 0]", "[Epoch 1]"))]
    runs = read_log(written(tmp_path / "train.log", begun + anew))
    assert [(run.finished, run.batch_lines) for run in runs] == [(0, 2), (2, 0)]
    assert_figures(runs[1], IMAGENET, 2)


def test_what_an_epoch_does_not_say_is_not_taken_from_the_one_before(tmp_path):
    """The second epoch lacks its lines about batches, which have its rate; the third the one with its metric."""
    lost = ("Epoch[1] Batch", "[Epoch 2] training")
    (run,) = read_log(written(tmp_path / "train.log", [x for x in log_lines(IMAGENET, 3) if not x.startswith(lost)]))
    published = curve(IMAGENET)
    np.testing.assert_array_equal(run.epochs["lr"][:2], [0.0003, np.nan])
    np.testing.assert_array_equal(run.epochs["train_rmse"], [*published["train_rmse"][:2], np.nan])
    np.testing.assert_array_equal(run.epochs["err_top1"], published["err_top1"][:3])


def test_a_log_that_unpacks_to_more_than_anyone_logs_is_refused(tmp_path, monkeypatch):
    """A small gzip file can unpack to any size."""
    monkeypatch.setattr(logs, "LARGEST", 50_000)
    packed = tmp_path / "train.log.gz"
    packed.write_bytes(gzip.compress(("\n".join(log_lines(CIFAR, 2)) + "\n").encode() + b"\n" * 60_000))
    with pytest.raises(InputError, match=r"is larger than .* GiB: cut out the run to compare"):
        read_log(str(packed))


@pytest.mark.parametrize("text", ["Namespace(a=1) + 1", "Namespace(a=1).b", "Namespace(a=b)", "Namespace(a=1"])
def test_what_only_begins_like_settings_has_none(text, tmp_path):
    (run,) = read_log(written(tmp_path / "train.log", [text, *log_lines(CIFAR, 2)[1:]]))
    assert (run.settings, run.settings_line, run.finished) == (None, 1, 2)


def test_a_folder_is_no_log(tmp_path):
    with pytest.raises(InputError, match=f"^{tmp_path} is not a file: name a training log$"):
        read_log(str(tmp_path))


def test_a_log_at_its_bounds_is_read(tmp_path, monkeypatch):
    path = written(tmp_path / "train.log", log_lines(CIFAR, 3))
    monkeypatch.setattr(logs, "LARGEST", os.path.getsize(path))
    monkeypatch.setattr(logs, "LONGEST_SETTINGS", len(settings_line(CIFAR)))
    (run,) = read_log(path)
    assert run.settings["lr"] == CIFAR.settings["lr"]


@pytest.mark.parametrize(("bound", "what"), [("MOST_RUNS", "2 runs"), ("MOST_EPOCHS", "2 epochs")])
@pytest.mark.parametrize("published", [CIFAR, IMAGENET], ids=["cifar", "imagenet"])
def test_a_log_of_more_runs_or_epochs_than_anyone_trains_is_refused(bound, what, published, tmp_path, monkeypatch):
    monkeypatch.setattr(logs, bound, 2)
    lines = log_lines(published, 3) * 3
    with pytest.raises(InputError, match=f"has more than {what}: cut out the run to compare"):
        read_log(written(tmp_path / "train.log", lines))
    assert read_log(written(tmp_path / "train.log", log_lines(published, 2)))


COLOURED = {
    "the whole line": "\x1b[32m{}\x1b[0m",
    "its end": "{}\x1b[0m",
    "a colour of 256": "\x1b[38;5;208m{}\x1b(B\x1b[m",
    "one byte": "\x9b1m{}\x9b0m",
    "a title": "\x1b]0;training\x07{}\x1b]0;\x1b\\",
    "an erased line": "\r\x1b[K\x1b[1A{}\x1b[?25h",
}


@pytest.mark.parametrize("colour", COLOURED.values(), ids=COLOURED)
@pytest.mark.parametrize("published", [CIFAR, IMAGENET], ids=["cifar", "imagenet"])
def test_coloured_lines_are_read(colour, published, tmp_path):
    """As a terminal's output has them, or a logger that colours what it writes."""
    (run,) = read_log(written(tmp_path / "train.log", map(colour.format, log_lines(published, 4))))
    assert_figures(run, published, 4)
    assert run.settings["lr"] == published.settings["lr"]


@pytest.mark.parametrize("colour", [r"\1\x1b[1m\2\x1b[0m", "\x1b[36m\\1\x1b[39m\\2"])
def test_lines_with_coloured_figures_are_read(colour, tmp_path):
    lines = [re.sub(r"(train=|val=)([\d.]+)", colour.replace(r"\x1b", "\x1b"), line) for line in log_lines(CIFAR, 4)]
    assert "\x1b" in lines[1]
    (run,) = read_log(written(tmp_path / "train.log", lines))
    assert_figures(run, CIFAR, 4)


@pytest.mark.parametrize("published", [CIFAR, IMAGENET], ids=["cifar", "imagenet"])
@pytest.mark.parametrize("settings", [True, False], ids=["settings", "no settings"])
def test_lines_that_look_like_a_log_and_are_not_understood_are_told_of(settings, published, tmp_path):
    """Here the figures have commas, as some languages write them."""
    first, *lines = log_lines(published, 3)
    lines = [*[first] * settings, *(re.sub(r"(\d)\.(\d)", r"\1,\2", line) + "." for line in lines)]
    path = written(tmp_path / "train.log", lines)
    number, more = (1 + settings, len(lines) - settings - 1)
    batches = [line for line in lines if "Batch [" in line]  # which say no figure that counts
    if batches:
        more, number = len(lines) - settings - len(batches) - 1, number + 2
    with pytest.raises(UnreadLinesError, match=f"line {number} and {more} more look like a training log's"):
        chosen_run(read_log(path))


def test_a_cut_line_is_no_reason_to_refuse_a_log(tmp_path):
    lines = log_lines(CIFAR, 3)
    (run,) = read_log(written(tmp_path / "train.log", [*lines[:3], lines[3][:40]]))
    assert (run.finished, run.unread, run.first_unread) == (2, 1, 4)


A_MEGABYTE_OF = {
    "titles": b"\x1b]0;",
    "character sets": b"\x1b(",
    "cursors": b"\x1b[1;",
    "starts of a header": b"gluon_aff x, ",
    "starts of a header and of devices": b"gluon_aff x, , devices y, ",
    "devices": b"gluon_aff x, " + b", devices y, 1 images per step, other data, 1 label values" * 20_000,
    "starts of settings": b"Namespace(",
    "settings": b"Namespace(a=1, ",
    "sums": b"Namespace(a=" + b"1+" * 500_000,
    "epochs": b"[Epoch 1] train=1.000000 val=",
    "digits of an epoch": b"[Epoch 1] train=" + b"1" * 1_000_000,
    "training": b"[Epoch 1] training: rmse=1.000000",
    "validation": b"[Epoch 1] validation: err-top1=1.000000 err-top5=",
    "batches": b"Epoch[1] Batch [1]\tSpeed: \tlr=",
    "colours": b"[Epoch \x1b[0;",
    "NUL bytes": b"\0[Epoch ",
}


@pytest.mark.parametrize("unit", A_MEGABYTE_OF.values(), ids=A_MEGABYTE_OF)
def test_no_line_takes_long_to_read(unit, tmp_path):
    """A pattern that is tried from every place of a line takes time that grows with the square of its length."""
    (first, *rest), megabyte = log_lines(CIFAR, 3), unit * (1_000_000 // len(unit))
    path = tmp_path / "train.log"
    path.write_bytes(b"\n".join([first.encode(), megabyte, *map(str.encode, rest)]))
    begun = time.process_time()
    read_log(str(path))
    assert time.process_time() - begun < 5


def test_a_long_line_about_a_batch_is_searched_once(tmp_path):
    """Its learning rate is looked for with every line about training of the epoch."""
    line = b"Epoch[1] Batch [1]\tSpeed: 1" + b"\tlr=1" * 200_000 + b"\tlr=0.125000"
    (tmp_path / "train.log").write_bytes(b"\n".join([line, *[b"[Epoch 1] training: rmse=0.500000"] * 2_000]))
    begun = time.process_time()
    (run,) = read_log(str(tmp_path / "train.log"))
    assert run.batch_lines == 1
    assert time.process_time() - begun < 5


def test_a_header_after_a_cut_one_is_read(tmp_path):
    said = (
        "gluon_aff 0.2, MXNet 1.9.1, devices cpu(0), 64 images per step, other data, 10 label values under a 10-way "
        "head"
    )
    first, *rest = log_lines(CIFAR, 1)
    (run,) = read_log(written(tmp_path / "train.log", [first, f"gluon_aff 0.1, MXNet {said}", *rest]))
    assert run.header["version"] == "0.2"
    assert run.header["images_per_step"] == "64"


@pytest.mark.parametrize("cut", range(1, 80))
def test_a_cut_line_is_no_figure_and_does_not_swallow_the_next_run(cut, tmp_path):
    """A killed process leaves half a line, and the next run's settings follow on the same line."""
    lines = log_lines(CIFAR, 3)
    text = "\n".join([*lines[:3], lines[3][:cut] + lines[0], *lines[1:]])
    (tmp_path / "train.log").write_text(text + "\n")
    runs = read_log(str(tmp_path / "train.log"))
    assert [run.finished for run in runs] == [2, 3]
    assert runs[1].settings == runs[0].settings


@pytest.mark.parametrize("published", [CIFAR, IMAGENET], ids=["cifar", "imagenet"])
def test_a_log_cut_anywhere_has_the_epochs_before_the_cut(published, tmp_path):
    text = "\n".join(log_lines(published, 3)) + "\n"
    ends = [i for i in range(len(text)) if text[: i + 1].endswith("\n") and "[Epoch" in text[:i].rsplit("\n", 1)[-1]]
    finishing = ends if published is CIFAR else ends[2::3]
    for cut in range(text.index("\n") + 1, len(text), 7):
        (tmp_path / "train.log").write_text(text[:cut])
        (run,) = read_log(str(tmp_path / "train.log"))
        assert run.finished == sum(end <= cut for end in finishing)


def test_nul_bytes_before_a_line(tmp_path):
    """The published superclass log has runs of 417 and 411 of them."""
    lines = log_lines(CIFAR, 10)
    lines[4] = "\0" * 417 + lines[4]
    lines[5] = "\0" * 411 + lines[5]
    (run,) = read_log(written(tmp_path / "train.log", lines))
    assert_figures(run, CIFAR, 10)


@pytest.mark.parametrize("published", [CIFAR, IMAGENET], ids=["cifar", "imagenet"])
def test_other_lines_carriage_returns_and_gzip(published, tmp_path):
    lines = []
    for line in log_lines(published, 6):
        lines += ["WARNING: something else", "", line, "[12:00:00] src/operator: [Epoch 9] train=", "\x80\xff"]
    path = written(tmp_path / "train.log", lines, end="\r\n")
    packed = tmp_path / "train.log.gz"
    packed.write_bytes(gzip.compress(Path(path).read_bytes()))
    for source in (path, str(packed)):
        (run,) = read_log(source)
        assert_figures(run, published, 6)


def test_a_progress_bar_on_the_same_line(tmp_path):
    lines = log_lines(CIFAR, 4)
    lines[2] = "epoch 1:  99%|#########9| 194/195 [00:26<00:00, loss=4.4]\r" + lines[2]
    (run,) = read_log(written(tmp_path / "train.log", lines))
    assert_figures(run, CIFAR, 4)


def test_cut_gzip_has_what_came_before(tmp_path):
    packed = tmp_path / "train.log.gz"
    packed.write_bytes(gzip.compress("\n".join(log_lines(CIFAR)).encode())[:-2000])
    (run,) = read_log(str(packed))
    assert 0 < run.finished < 640


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a training log"),
        (b"hello\n" * 100, "is not a training log"),
        (b"\0" * 5_000_000, "is not a training log"),
        (b"\x1f\x8b\x08 broken", "name a training log"),
        (b"x" * 5_000_000, "is not a training log"),
    ],
)
def test_what_is_no_log(content, message, tmp_path):
    path = tmp_path / "train.log"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_log(str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_and_directory(tmp_path):
    for path in (tmp_path / "gone.log", tmp_path):
        with pytest.raises(InputError, match="name a training log"):
            read_log(str(path))


def test_words_of_other_programs_do_not_end_a_run(tmp_path):
    lines = log_lines(CIFAR, 4)
    lines.insert(3, "WARNING: Namespace(gpus) deprecated")
    lines.insert(2, f"[Epoch {'9' * 5000}] train=0.1")
    (run,) = read_log(written(tmp_path / "train.log", lines))
    assert_figures(run, CIFAR, 4)


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "train.log")
    with pytest.raises(InputError, match="is not a file"):
        read_log(str(tmp_path / "train.log"))


def test_settings_are_read_as_literals_only(tmp_path):
    for line in ("Namespace(a=__import__('os').abort())", "Namespace(a=" + "(" * 100_000 + ")", "Namespace(a=1, b='x"):
        runs = read_log(written(tmp_path / "train.log", ["INFO:root:Namespace(a=2)", line, *log_lines(CIFAR, 2)[1:]]))
        assert runs[0].settings == {"a": 2}
        assert runs[1].settings is None
        assert runs[1].finished == 2


@pytest.mark.parametrize("value", ["{[]}", "{{}}", "{1: 2, []: 3}", "{{1}: 2}", "'a' + 1", "-'a'", "f(1)"])
def test_settings_that_are_no_value_are_no_settings(value, tmp_path):
    (run,) = read_log(written(tmp_path / "train.log", [f"Namespace(attention={value})", *log_lines(CIFAR, 2)[1:]]))
    assert run.settings is None
    assert run.finished == 2


LITERALS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from([*CIFAR.settings, *IMAGENET.settings, "attention"]), LITERALS), st.booleans())
@example({"model": "\udc80", "dataset": "cifar10"}, False)
@example({"askc_type": ["AFF"]}, False)
def test_any_settings_compare_or_are_an_error_of_ours(tmp_path_factory, changed, imagenet):
    published = IMAGENET if imagenet else CIFAR
    path = tmp_path_factory.mktemp("any") / "train.log"
    text = "\n".join([settings_line(published, **changed), *log_lines(published, 2)[1:]])
    path.write_text(text, encoding="utf-8")
    with contextlib.suppress(InputError):
        (run,) = read_log(str(path))
        nearest_runs(run)
        compare(run, published)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=2000), st.integers(0, 20))
@example(b"\x1f\x8b", 0)
@example(b"\x1f\x8b", 1)
def test_any_bytes_between_the_lines_do_no_harm(tmp_path_factory, noise, position):
    noise = noise.replace(b"Namespace", b"").replace(b"Epoch", b"")
    assume(position or not noise.startswith(b"\x1f\x8b"))  # by which a gzip file is known
    lines = [line.encode() for line in log_lines(CIFAR, 20)]
    lines.insert(position, noise)
    path = tmp_path_factory.mktemp("noise") / "train.log"
    path.write_bytes(b"\n".join(lines))
    assert sum(run.finished for run in read_log(str(path))) == 20


def test_a_run_that_goes_on_under_another_engine_is_one_run_with_two_headers(tmp_path):
    """The last of several such lines at one place counts; without its first words, the line is no second header."""
    first, *epochs = log_lines(CIFAR, 5)
    header = "gluon_aff 0.1.0, {}, devices cpu(0), 32 images per step, other data, 10 label values under a 10-way head"
    began, goes_on = header.format("PyTorch 2.13.0"), header.format("MXNet 1.9.1")
    attempts = [f"INFO:root:from epoch 3 on: {header.format(engine)}" for engine in ("MXNet 1.8.0", "MXNet 1.9.1")]
    (run,) = read_log(written(tmp_path / "a.log", [first, began, *epochs[:3], *attempts, goes_on, *epochs[3:]]))
    assert_figures(run, CIFAR, 5)
    assert run.header["libraries"] == "PyTorch 2.13.0"
    assert [(epoch, parts["libraries"]) for epoch, parts in run.continuations] == [(3, "MXNet 1.9.1")]
    (run,) = read_log(written(tmp_path / "b.log", [first, began, *epochs]))
    assert run.continuations == ()


def test_a_segmentation_run(tmp_path):
    lines = SEGMENTATION.splitlines()
    (run,) = read_log(written(tmp_path / "train.log", lines))
    assert run.segments
    assert {name: column.tolist() for name, column in run.epochs.items()} == {
        "epoch": [0, 1, 2],
        "train_iou": [0.314862, 0.580634, 0.682447],
        "val_iou": [0.085231, 0.854071, 0.791604],
        "val_niou": [0.098681, 0.856588, 0.862692],
        "loss": [0.821794, 0.537613, 0.433511],
        "lr": [0.006934, 0.003715, 0.0],
        "seconds": [3.541721, 2.394411, 1.617332],
    }
    (begun,) = read_log(written(tmp_path / "begun.log", lines[:2]))
    assert begun.segments
    (cut,) = read_log(written(tmp_path / "cut.log", [*lines[:3], lines[3][:60]]))
    assert cut.finished == 1
    assert not read_log(written(tmp_path / "other.log", log_lines(CIFAR, 2)))[0].segments
