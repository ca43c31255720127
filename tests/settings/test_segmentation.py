"""The command line of train_segmentation.py: the paper's defaults, names of files, what is out of range."""

import shlex

import pytest

from gluon_aff.cli import COMMANDS, OneLineParser, fill_parser
from gluon_aff.errors import InputError
from gluon_aff.run_names import name_of
from gluon_aff.settings.parser import settings_from
from gluon_aff.settings.segmentation import SegmentationSettings, data_folder, resolve
from gluon_aff.training.notes import segmentation_facts, segmentation_warnings

# Table 2, and paper_spec 3.4 and 3.5 for what it leaves out
PAPER = {
    "num_epochs": 300,
    "batch_size": 32,
    "lr": 0.01,
    "lr_mode": "poly",
    "wd": 1e-4,
    "r": 4,
    "base_size": 512,
    "crop_size": 480,
    "blocks": 1,
    "channel_times": 1,
    "min_area": 0,
}


def parse(command):
    argv = shlex.split(command)
    parser = fill_parser(OneLineParser("train_segmentation.py"), COMMANDS["train-segmentation"], argv)
    return settings_from(SegmentationSettings, vars(parser.parse_args(argv)))


def test_defaults_are_the_papers():
    settings = vars(parse(""))
    assert {name: settings[name] for name in PAPER} == PAPER
    assert parse("") == SegmentationSettings()


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("", "stopsign-ASKCFuse-resnet-20-1-fpn-c-1"),
        ("--fusion AFF", "stopsign-ASKCFuse-resnet-20-1-fpn-c-1"),
        ("--askc-type ASKCFuse --r 2", "stopsign-ASKCFuse-resnet-20-1-fpn-c-1-r-2"),
        ("--fusion iAFF --blocks 4", "stopsign-ResGlobLocaforGlobLocaCha-resnet-20-4-fpn-c-1"),
        ("--askc-type MS-GAU --context conv --channel-times 2", "stopsign-MS-GAU-resnet-20-1-fpn-c-2-conv"),
        (
            "--fusion Add --scale 1 --decoder-width 32 --fuse-order bottom-up --stem tiny",
            "stopsign-DirectAdd-resnet-20-1-fpn-c-1-scale-1.0-d-32-bottom-up-tiny",
        ),
    ],
)
def test_a_run_is_named_after_its_network(command, name):
    assert str(name_of(resolve(parse(command)))) == name


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("--r 0", "--r 0"),
        ("--blocks 0", "--blocks 0"),
        ("--base-size 16", "--base-size 16: must be from 32"),
        ("--crop-size 31", "--crop-size 31"),
        ("--min-area -1", "--min-area -1"),
        ("--decoder-width 3", "--decoder-width 3"),
        ("--lr -1", "--lr -1"),
        ("--batch-size 0", "--batch-size 0"),
        ("--data-dir ''", "--data-dir is empty"),
    ],
)
def test_values_out_of_range(command, said):
    with pytest.raises(InputError, match=said):
        resolve(parse(command))


def test_data_has_to_be_named():
    with pytest.raises(InputError, match=r"--data-dir is missing: .* gluon-aff make-data stop-signs"):
        data_folder(parse(""))


@pytest.mark.parametrize(
    ("images", "said"), [((1734, 69), False), ((1650, 70), False), ((1620, 69), True), ((8, 4), True)]
)
def test_another_number_of_images_is_said(images, said):
    settings = resolve(parse(""))
    facts, warnings = "\n".join(segmentation_facts(settings, images, 32)), list(segmentation_warnings(settings, images))
    assert f"{images[0]:,} images to train on, {images[1]} to validate on" in facts
    assert ["about 1,734 training and 69 validation images" in line for line in warnings] == [True] * said


def test_one_image_per_device_is_a_trap_of_the_global_context():
    for command, said in (("", True), ("--fusion Add", False), ("--batch-size 2", False)):
        lines = segmentation_warnings(resolve(parse(f"--batch-size 1 {command}")), (1734, 69))
        assert any("global context is all zeros" in line for line in lines) == said


def test_a_fusion_that_does_not_exist_is_refused_with_the_other_settings():
    with pytest.raises(InputError, match=r"unknown fusion .*'AF': did you mean AFF"):
        resolve(SegmentationSettings(askc_type="AF"))
