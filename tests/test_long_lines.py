"""A long line, made to send a pattern back and forth, is read in a time that grows with its length alone."""

import contextlib
import os
import time
from pathlib import Path

import numpy as np
import pytest
from shared_by_tests.cards import card_for
from shared_by_tests.written_logs import log_lines

from gluon_aff.cli import main
from gluon_aff.data.imagenet.class_lists import record_classes
from gluon_aff.data.imagenet.record_files import index_offsets
from gluon_aff.distributed.launch import UNPRINTABLE, read_hosts
from gluon_aff.errors import GluonAFFError
from gluon_aff.evaluation.weights_file import output_names
from gluon_aff.inspection.selectivity import channels_called
from gluon_aff.printing import printable, without_control_sequences
from gluon_aff.published import published_runs
from gluon_aff.results.evaluations import append_row, check_table
from gluon_aff.weights.identify import head_classes
from gluon_aff.weights.params import by_raw_names, structural_arrays
from gluon_aff.weights.params_format import read_params_file, write_params_file

LENGTH = 100_000
SECONDS = 5  # of processor time; one that grows with the square takes a minute
# What a line starts with, and what is repeated in it
UNITS = {
    "letters": ("", "a"),
    "digits": ("", "1"),
    "spaces": ("", " "),
    "tabs": ("", "\t"),
    "commas": ("", ", "),
    "semicolons": ("", ";"),
    "quotes": ("", '"'),
    "comments": ("", "#"),
    "dots": ("", "1."),
    "dashes": ("", "-1"),
    "underscores": ("", "conv0_"),
    "slots": ("", "x slots=1 "),
    "brackets": ("", "a[1:"),
    "parentheses": ("", "(("),
    "colours": ("", "\x1b[0;"),
    "titles": ("", "\x1b]0;"),
    "headers": ("", "gluon_aff x, "),
    "a header": ("gluon_aff x", ", "),
    "a header's devices": ("gluon_aff x, y", ", devices x, 1 images per step, z data"),
    "a header's version": ("gluon_aff ", "x"),
    "settings": ("", "Namespace(a=1, "),
    "a setting": ("Namespace(", "a"),
    "a figure": ("[Epoch 1] train=", "1"),
    "epochs": ("", "[Epoch 1] "),
    "figures": ("", "[Epoch 1] train=1.000000 val="),
    "speeds": ("", "[Epoch 1] speed: 1 samples/sec\ttime cost: 1."),
    "batches": ("", "Epoch[1] Batch [1]\tSpeed: \tlr=1."),
}


def of_params(path):
    """The line is the name of an array."""
    name = Path(path).read_text(encoding="utf-8").rstrip("\n")
    arrays = {f"{name}_weight": np.zeros((1, 1), np.float32), f"arg:{name}_bias": np.zeros(1, np.float32)}
    write_params_file(f"{path}.params", arrays)
    file = read_params_file(f"{path}.params")
    head_classes(file)
    by_raw_names(
        file.arrays, {"a.weight": (1, 1), "a.bias": (1,)}, lambda: {"a.weight": "a0_weight", "a.bias": "a0_bias"}
    )
    structural_arrays(f"{path}.params")


def of_table(path):
    check_table(path)
    append_row(path, {})


def of_terminal(path):
    line = Path(path).read_bytes()
    printable(without_control_sequences(line).decode())
    UNPRINTABLE.sub(b"", line)
    channels_called(line.decode())


def of_log(path):
    """The line follows a run's settings, where the versions are looked for, and stands between epochs."""
    line = Path(path).read_text(encoding="utf-8")
    settings, epoch, *more = log_lines(published_runs()["aff_resnet32_fine"], 3)
    Path(path).write_text("\n".join([settings, line, epoch, line, *more]), encoding="utf-8")
    main(["compare", path])
    main(["report", os.path.dirname(path), "-o", f"{path}.html"])


READERS = {
    "log": of_log,
    "params": of_params,
    "evaluations": of_table,
    "hosts": read_hosts,
    "classes": lambda path: output_names(card_for("any", 32, 2), path),
    "record's classes": lambda path: record_classes(path.replace(".log", ".rec")),
    "index": index_offsets,
    "terminal": of_terminal,
}


@pytest.mark.parametrize("reader", READERS)
def test_the_time_grows_with_the_lines_length_alone(reader, tmp_path, capsys):
    took = {}
    for what, (start, unit) in UNITS.items():
        for ending in ("log", "classes"):
            path = tmp_path / f"line.{ending}"
            path.write_text(start + unit * (LENGTH // len(unit)) + "\n", encoding="utf-8")
        begun = time.process_time()
        with contextlib.suppress(GluonAFFError, SystemExit):
            READERS[reader](str(tmp_path / "line.log"))
        took[what] = time.process_time() - begun
    capsys.readouterr()
    assert max(took.values()) < SECONDS, took
