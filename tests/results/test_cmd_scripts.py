"""cmd_scripts.txt, part 3: each command's log would be held against the run that the command is said to repeat."""

import argparse
import shlex
from dataclasses import asdict
from pathlib import Path

import pytest
from shared_by_tests.documented_commands import DOCUMENTED, DOCUMENTED_IMAGENET
from shared_by_tests.written_logs import log_lines

from gluon_aff.published import published_runs
from gluon_aff.results.compare import fitting_run
from gluon_aff.results.logs import read_log
from gluon_aff.settings.cifar import CIFARSettings, resolve
from gluon_aff.settings.parser import add_options, settings_from
from gluon_aff.training.logbook import settings_line

SCRIPTS = (Path(__file__).parents[2] / "cmd_scripts.txt").read_text()
PART_3 = SCRIPTS.split("\n# 3. ")[1].splitlines()
TRAINING = [line for line in PART_3 if line.startswith("python train_cifar.py")]
COMPARING = [line.split() for line in PART_3 if line.startswith("gluon-aff compare")]
RUNS = [
    "aff_resnet32_fine",
    "aff_resnext47_32x4d_fine",
    "aff_resnet32_superclass_run1",
    "aff_resnet32_superclass_run2",
    "aff_resnext38_32x4d_superclass_run1",
    "aff_resnext38_32x4d_superclass_run2",
    "aff_resnext47_32x4d_superclass_run1",
    "aff_resnext47_32x4d_superclass_run2",
    "aff_resnext47_32x4d_superclass_run3",
]


@pytest.mark.parametrize(("command", "name"), list(zip(TRAINING, RUNS)))
def test_command_fits_its_published_run(command, name, tmp_path):
    published = published_runs()[name]
    parser = argparse.ArgumentParser()
    arguments = shlex.split(command)[2:]
    add_options(CIFARSettings, parser, arguments)
    settings = resolve(settings_from(CIFARSettings, vars(parser.parse_args(arguments))))
    header = (
        f"INFO:root:gluon_aff 0.1.0, MXNet 1.9.1, devices gpu(0), {published.global_batch} images per step, official "
        f"data, {100 if settings.fine_label else 20} label values under a 100-way head"
    )
    path = tmp_path / "train.log"
    path.write_text("\n".join([settings_line(asdict(settings)), header, *log_lines(published, 3)[1:]]))
    assert fitting_run(read_log(str(path))[0]) == published


def test_every_training_command_is_followed_by_its_comparison():
    assert len(TRAINING) == len(RUNS)
    assert [arguments[-1] for arguments in COMPARING] == RUNS


@pytest.mark.parametrize(
    ("script", "documented"),
    [("train_cifar.py", DOCUMENTED), ("train_imagenet.py", DOCUMENTED_IMAGENET)],
)
def test_the_original_commands_are_there_unchanged(script, documented):
    lines = {" ".join(line.split()) for line in SCRIPTS.splitlines()}
    for arguments, *_ in documented.values():
        assert f"python {script} {arguments}" in lines
