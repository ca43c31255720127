"""The command line of train_imagenet.py: the original's flags, defaults and names."""

import argparse
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from shared_by_tests.abbreviations import different_abbreviations
from shared_by_tests.documented_commands import DOCUMENTED_IMAGENET, HEAD, IAFF, RECORDS
from shared_by_tests.imagenet_commands import filled, parse

from gluon_aff.cli import OneLineParser
from gluon_aff.errors import InputError
from gluon_aff.published import published_runs
from gluon_aff.run_names import best_file, name_of, paths_of, periodic_file
from gluon_aff.settings.declaration import declared
from gluon_aff.settings.imagenet import ImageNetSettings, resolve, used_dtype
from gluon_aff.settings.parser import add_options, settings_from
from gluon_aff.training.logbook import settings_line
from gluon_aff.training.notes import imagenet_facts, imagenet_warnings

# training.md: "Flags and defaults", as the settings line of a log names them
ORIGINAL_DEFAULTS = {
    "data_dir": "~/.mxnet/datasets/imagenet",
    "rec_train": "~/.mxnet/datasets/imagenet/rec/train.rec",
    "rec_train_idx": "~/.mxnet/datasets/imagenet/rec/train.idx",
    "rec_val": "~/.mxnet/datasets/imagenet/rec/val.rec",
    "rec_val_idx": "~/.mxnet/datasets/imagenet/rec/val.idx",
    "use_rec": False,
    "summary": False,
    "batch_size": 128,
    "r": 16,
    "dtype": "float16",
    "num_gpus": 4,
    "num_workers": 96,
    "num_epochs": 240,
    "lr": 0.075,
    "momentum": 0.9,
    "wd": 1e-4,
    "lr_mode": "cosine",
    "lr_decay": 0.1,
    "lr_decay_period": 0,
    "lr_decay_epoch": "40,60",
    "warmup_lr": 0.0,
    "warmup_epochs": 5,
    "last_gamma": False,
    "mode": "hybrid",
    "input_size": 224,
    "crop_ratio": 0.875,
    "use_pretrained": False,
    "use_se": False,
    "mixup": False,
    "mixup_alpha": 0.2,
    "mixup_off_epoch": 5,
    "label_smoothing": False,
    "no_wd": False,
    "teacher": None,
    "temperature": 20,
    "hard_weight": 0.5,
    "batch_norm": False,
    "save_frequency": 10,
    "save_dir": "params",
    "resume_epoch": 0,
    "resume_params": "",
    "resume_states": "",
    "log_interval": 50,
    "logging_file": "train_imagenet.log",
    "use_gn": False,
    "auto_aug": False,
    "start_layer": 3,
    "num_layer": 50,
}
# What the log of the published AFF-ResNet-50 begins with, but for what are defaults
PUBLISHED_AFF_RESNET50 = {
    **ORIGINAL_DEFAULTS,
    "askc_type": "ASKCFuse",
    "auto_aug": True,
    "label_smoothing": True,
    "last_gamma": True,
    "logging_file": "aff_resnet50.log",
    "mixup": True,
    "model": "resnet",
    "no_wd": True,
    "rec_train": f"{RECORDS}/train.rec",
    "rec_train_idx": f"{RECORDS}/train.idx",
    "rec_val": f"{RECORDS}/val.rec",
    "rec_val_idx": f"{RECORDS}/val.idx",
    "save_dir": "/xdisk/kobus/yimian/aff_resnet50_params",
    "save_frequency": 1,
    "use_rec": True,
}
OURS = {
    *("scenario", "exact_layers", "classes", "teacher_params", "seed", "strict_devices", "keep_one_best"),
    *("checkpoint_every", "resume", "kvstore", "sync_bn", "scale", "context", "optimizer", "stages", "attention"),
    *("engine", "amp", "tensorboard"),
}


def said(command, **arguments):
    settings = resolve(parse(command))
    return [*imagenet_facts(settings, 4 * settings.batch_size), *imagenet_warnings(settings, **arguments)]


@pytest.mark.parametrize("which", DOCUMENTED_IMAGENET)
def test_published_commands_parse_and_name_their_files(which):
    command, expected = DOCUMENTED_IMAGENET[which]
    settings = resolve(parse(command))
    assert (str(name_of(settings)), settings.save_dir, settings.num_epochs) == expected
    assert settings.use_rec
    assert settings.mixup


def test_the_settings_line_of_the_published_log():
    command = HEAD.format(
        model="resnet",
        fusion="ASKCFuse",
        overridden="params_aff_resnet50",
        log="aff_resnet50.log",
        folder="aff_resnet50_params",
    )
    settings = asdict(resolve(parse(command)))
    original = {name: value for name, value in settings.items() if name not in OURS}
    assert settings_line(original) == settings_line(PUBLISHED_AFF_RESNET50)


def test_defaults_are_the_originals():
    settings = vars(resolve(parse("")))
    assert {name: settings[name] for name in ORIGINAL_DEFAULTS} == ORIGINAL_DEFAULTS


def test_first_release_defaults_can_be_asked_for():
    first = {
        **{"batch_size": 32, "dtype": "float32", "num_gpus": 0, "num_workers": 4, "num_epochs": 3, "lr": 0.1},
        **{"lr_mode": "step", "warmup_epochs": 0, "mode": "imperative", "mixup_off_epoch": 0},
    }
    assert parse("--release first") == replace(ImageNetSettings(), **first)
    assert parse("--rel first --mixup-off-epoch 3").mixup_off_epoch == 3
    assert parse("--release head") == ImageNetSettings()


@pytest.mark.parametrize("which", [which for which in DOCUMENTED_IMAGENET if which.startswith("first release")])
def test_the_first_releases_commands_mix_up_to_the_end_as_its_published_runs_did(which):
    logged = {
        run.settings["mixup_off_epoch"]
        for run in published_runs().values()
        if run.dataset == "imagenet" and run.release == "first"
    }
    assert logged == {parse(f"{DOCUMENTED_IMAGENET[which][0]} --release first").mixup_off_epoch}


def test_the_first_releases_defaults_are_offered_where_its_names_are_used():
    offer = "--release first takes that release's defaults"
    assert any(offer in line for line in said("--model resnext50_32x4d_askc"))
    assert not any(offer in line for line in said("--model resnext50_32x4d_askc --release first"))
    assert not any(offer in line for line in said("--model resnext"))


def test_dataclass_defaults_are_the_parsers():
    assert parse("") == ImageNetSettings()
    assert set(vars(parse(""))) == {*ORIGINAL_DEFAULTS, "model", "askc_type", *OURS}


def test_the_second_papers_recipe():
    """AFINets, Section 4.2: lr 0.1 * 64 / 256."""
    found = parse("--recipe afinets")
    assert (found.optimizer, found.momentum, found.wd) == ("sgd", 0.9, 1e-4)
    assert (found.batch_size, found.num_epochs, found.lr, found.lr_decay) == (64, 90, 0.025, 0.1)
    assert (found.lr_mode, found.lr_decay_epoch, found.warmup_epochs) == ("step", "30,60,80", 0)
    assert found.num_gpus == 1  # 64 images in all
    assert parse("--recipe aff") == ImageNetSettings()
    assert parse("--recipe afinets --num-epochs 3 --lr-mode cosine").lr_mode == "cosine"
    assert parse("--recipe afinets --r 8").num_epochs == 90
    late = "decay epochs after the end of the run (60 epochs), which have no effect: 60, 80"
    assert late in said("--recipe afinets --num-epochs 60")


def test_a_listed_network_as_it_is():
    for command, name in (("", "afi_resnet50"), ("--r 16 --stages 2", "afi_resnet50-r-16-stages-2")):
        assert str(name_of(resolve(parse(f"--model AFI_resnet50 {command}")))) == f"ImageNet-{name}"
    for flags in ("--num-layer 34", "--fusion iAFF", "--exact-layers", "--last-gamma", "--use-se", "--stages 1"):
        with pytest.raises(InputError, match="--model aff_resnet50 is a complete network; leave that out"):
            resolve(parse(f"--model aff_resnet50 {flags}"))
    with pytest.raises(InputError, match="of 32 x 32 pixels, not of 224 x 224"):
        resolve(parse("--model afi_resnet32_cifar100"))


def test_help_explains_every_flag_and_shows_its_default():
    text = " ".join(filled([]).format_help().split())
    for action in filled([])._actions:
        assert action.help
        assert action.help in text
        assert all(flag in text for flag in action.option_strings)
    named = set(text.replace(",", " ").split())  # Python 3.13 has no value behind each name but the last
    for name in {**ORIGINAL_DEFAULTS, "model": None, "askc_type": None}:
        flag = {"num_workers": "--num-data-workers", "auto_aug": "--auto_aug"}.get(name, f"--{name.replace('_', '-')}")
        assert flag in named
    for name, default in ORIGINAL_DEFAULTS.items():
        assert default in (False, None, "") or f"(default: {default})" in text, name


@pytest.mark.parametrize("flag", ["-j", "--num-data-workers", "--num-workers"])
def test_names_of_the_worker_count(flag):
    assert parse(f"{flag} 3").num_workers == 3


@pytest.mark.parametrize(
    ("given", "model", "scenario"),
    [
        ("--model resnet", "resnet", None),
        ("--model resnext", "resnext", None),
        ("", "resnet", "ResNet"),
        ("--scenario ResNet", "resnet", "ResNet"),
        ("--scenario ResNeXt", "resnext", "ResNeXt"),
        ("--scenario resnext", "resnext", "resnext"),
        ("--model resnext50_32x4d_askc", "resnext", "resnext50_32x4d_askc"),
        ("--model resnext50_32x4d_askc --scenario ResNeXt", "resnext", "resnext50_32x4d_askc"),
        ("--model resnext --scenario ResNeXt", "resnext", "ResNeXt"),
    ],
)
def test_hosts_by_todays_and_by_the_first_releases_names(given, model, scenario):
    settings = resolve(parse(given))
    assert (settings.model, settings.scenario) == (model, scenario)
    assert resolve(settings) == settings
    first_release = [line for line in imagenet_warnings(settings) if "first release" in line]
    assert len(first_release) == (scenario is not None)


@pytest.mark.parametrize(
    ("given", "flag"), [("", "ASKCFuse"), ("--askc-type AFF", "ASKCFuse"), ("--askc-type iAFF", IAFF)]
)
def test_files_have_the_originals_flag_whatever_the_fusion_is_called(given, flag):
    assert str(name_of(resolve(parse(given)))) == f"ImageNet-{flag}-resnet--50-s-3"


def test_missing_seed_is_drawn_and_a_given_one_kept():
    assert 0 <= resolve(parse("")).seed < 2**31
    assert resolve(parse("--seed 5")).seed == 5


@pytest.mark.parametrize(
    ("given", "blocks"),
    [
        ("", (3, 4, 6, 3)),
        ("--num-layer 101", (3, 4, 23, 3)),
        ("--num-layer 152", (3, 4, 36, 3)),
        ("--num-layer 152 --exact-layers", (3, 8, 36, 3)),
        ("--num-layer 101 --exact-layers", (3, 4, 23, 3)),
    ],
)
def test_blocks_of_each_depth(given, blocks):
    """152 is [3, 4, 36, 3] in the original, 140 layers (paper_spec 6.2)."""
    assert resolve(parse(given)).blocks == blocks


@pytest.mark.parametrize(("mode", "hybrid"), [("hybrid", True), ("symbolic", False), ("imperative", False)])
def test_modes(mode, hybrid):
    assert resolve(parse(f"--mode {mode}")).hybrid is hybrid


def test_names_of_the_weights_are_the_originals():
    """As in the published 0.2028-imagenet-ImageNet-ASKCFuse-resnet--50-s-3-235-best.params."""
    name = paths_of(resolve(parse(""))).name
    assert best_file(name, 0.20282, 235) == "0.2028-imagenet-ImageNet-ASKCFuse-resnet--50-s-3-235-best"
    assert periodic_file(name, 9) == "imagenet-ImageNet-ASKCFuse-resnet--50-s-3-9"


@pytest.mark.parametrize(
    ("dtype", "on_gpu", "expected"),
    [
        ("float16", True, "float16"),
        ("float16", False, "float32"),
        ("float32", True, "float32"),
        ("float32", False, "float32"),
        ("bfloat16", False, "bfloat16"),
        ("float64", False, "float64"),
        ("float64", True, "float64"),
    ],
)
def test_number_format_on_each_device(dtype, on_gpu, expected):
    assert used_dtype(parse(f"--dtype {dtype}"), on_gpu) == expected


def test_mixed_precision_has_float32_weights():
    assert used_dtype(parse("--amp bfloat16"), on_gpu=True) == "float32"


@pytest.mark.parametrize("mode", ["linear", "constant"])
def test_every_course_of_gluoncvs_schedule_is_there(mode):
    assert resolve(parse(f"--lr-mode {mode} --dtype float64 --num-gpus -1 -j -1 --start-layer 0")).lr_mode == mode


@pytest.mark.parametrize(("given", "used"), [("0", 0.875), ("-1", 0.875), ("0.5", 0.5), ("1", 1)])
def test_a_crop_ratio_that_is_none_is_the_default(given, used):
    assert resolve(parse(f"--crop-ratio {given}")).used_crop_ratio == used


def test_an_abbreviation_of_the_originals_is_not_taken_for_import():
    """Which the script has before the options of its command."""
    parser = OneLineParser("train_imagenet.py")
    parser.add_argument("--import")
    add_options(ImageNetSettings, parser, [])
    assert parser.parse_args(["--i", "64"]).input_size == 64


def test_options_that_the_original_lacks_are_marked_as_new():
    original = {name for name, each in declared(ImageNetSettings).items() if not each.new}
    assert original == {*ORIGINAL_DEFAULTS, "model", "askc_type"}


def test_every_abbreviation_means_what_it_did_in_the_original():
    assert different_abbreviations(filled([]), [*ORIGINAL_DEFAULTS, "model", "askc_type"]) == []


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--model resnxt", "unknown --model 'resnxt': did you mean resnext.*resnext50_32x4d_askc"),
        ("--scenario VGG", "unknown --scenario 'VGG'.*there are ResNet, ResNeXt"),
        ("--model resnet --scenario ResNeXt", "--model resnet and --scenario ResNeXt contradict each other"),
        ("--num-epochs 0", "--num-epochs 0: must be from 1 to"),
        ("--batch-size 0", "--batch-size 0"),
        ("--r 0", "--r 0"),
        ("--classes 0", "--classes 0"),
        ("--input-size 0", "--input-size 0"),
        ("--crop-ratio 1.5", "--crop-ratio 1.5: must be from 0.01 to 1"),
        ("--mixup-alpha 0", "--mixup-alpha 0.0: must be from 0.001"),
        ("--temperature 0", "--temperature 0.0"),
        ("--hard-weight 2", "--hard-weight 2.0: must be from 0 to 1"),
        ("--lr nan", "--lr nan: must be from 0"),
        ("--lr inf", "--lr inf"),
        ("--wd -1", "--wd -1.0"),
        ("--momentum 1.5", "--momentum 1.5: must be from 0 to 1"),
        ("--seed 3000000000", "--seed 3000000000: must be from 0 to 2147483647"),
        ("--crop-ratio 0.001", "--crop-ratio 0.001: must be from 0.01 to 1"),
        ("--log-interval -1", "--log-interval -1"),
        ("--resume-epoch 240", "--resume-epoch 240 leaves nothing to train: raise --num-epochs 240"),
        ("--lr-decay-epoch 3;4", "--lr-decay-epoch '3;4' is not a list of epochs"),
        ("--data-dir ''", "--data-dir is empty"),
        ("--logging-file ''", "--logging-file is empty"),
        ("--teacher ''", "--teacher is empty"),
        ("--use-rec --rec-val ''", "--rec-val is empty"),
    ],
)
def test_bad_values_name_their_flag_in_one_line(command, message):
    with pytest.raises(InputError, match=message) as caught:
        resolve(parse(command))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flag", ["--num-layer 20", "--mode eager", "--dtype int8", "--lr-mode exp", "--unknown"])
def test_the_parser_refuses_what_it_does_not_know(flag, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(flag)
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("name", "value"), [("num_layer", 20), ("mode", "x"), ("dtype", "int8"), ("lr_mode", "x")])
def test_settings_that_no_parser_has_seen_are_checked_too(name, value):
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} {value}: choose one of"):
        resolve(replace(ImageNetSettings(), **{name: value}))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("--auto_aug --use-rec", "--auto_aug HAS NO EFFECT with --use-rec, as in the original"),
        ("--rec-train a.rec --rec-val-idx b.idx", "without --use-rec, --rec-train, --rec-val-idx has no effect"),
        ("--batch-norm", "--batch-norm has no effect"),
        ("--use-gn", "--use-gn has no effect"),
        ("--use-pretrained", "--use-pretrained has no effect"),
        ("--warmup-lr 0.1", "--warmup-lr has no effect"),
        ("--use-se", "--use-se has no effect on the ResNet"),
        ("--model resnext --use-se", "--use-se puts squeeze-and-excitation in every block"),
        ("--model resnext --last-gamma", "--last-gamma has no effect on the ResNeXt"),
        ("--r 4", "--r 4 is used; the original ignores --r and always reduces by 16"),
        ("--mode symbolic", "--mode symbolic is not supported: the run is imperative"),
        ("--crop-ratio 0", "--crop-ratio 0 stands for 0.875"),
        ("--teacher x --hard-weight 1", "--teacher has no effect with --hard-weight 1, as in the original"),
        ("--num-layer 152", "--num-layer 152 is 140 layers (blocks 3, 4, 36, 3), as in the original"),
        ("--num-layer 152 --exact-layers", "network: resnet of 152 layers"),
        ("--exact-layers", "--exact-layers has an effect only with --num-layer 152"),
        ("--start-layer 4", "fusion ASKCFuse from stage 4 on"),
        ("--start-layer 5", "fusion addition in all stages"),
        ("--model resnext", "network: resnext of 50 layers, fusion ASKCFuse from stage 3 on, 1000 outputs"),
        ("", "128 images per device, 512 per step; the learning rate is not scaled with it"),
        ("", "chosen by top-1 error on the validation images"),
        (
            "--mixup --num-epochs 5",
            "mixup is off in every epoch (--mixup-off-epoch 5, --num-epochs 5), so --mixup only",
        ),
        (
            "--lr-mode step --num-epochs 45 --lr-decay-epoch 40,50",
            "decay epochs after the end of the run (45 epochs), which have no effect: 50",
        ),
        ("--num-epochs 5", "the warm-up lasts to the end of the run"),
        ("--save-frequency 0", "no weights will be written"),
        ("--save-dir ''", "no weights will be written"),
        ("--batch-size 1", "global context is all zeros while training"),
        ("--teacher-params a.params", "--teacher-params has no effect without --teacher"),
        ("--resume-epoch 3", "without --resume-params, the run starts from new random weights"),
        ("--resume-params a.params", "without --resume-states, the momentum starts at zero"),
        ("--resume-params a.params", "without --resume-epoch, epochs are counted from 0"),
    ],
)
def test_notes_say_what_would_surprise(command, expected):
    assert any(expected in line for line in said(command))


@pytest.mark.parametrize(
    "command",
    [
        "--model resnet --last-gamma --no-wd --num-layer 101",
        "--model resnext --use-rec --rec-train a.rec --mixup",
        "--model resnet --auto_aug --resume-epoch 3 --resume-params a.params --resume-states a.states",
        "--model resnet --start-layer 5 --r 4",
        "--model resnet --teacher resnet50_v1b --teacher-params a.params",
    ],
)
def test_nothing_warns_where_nothing_surprises(command):
    assert list(imagenet_warnings(resolve(parse(command)))) == []
    assert [line.split(":")[0] for line in said(command)] == ["network", "batch", "best weights"]


def test_float16_on_a_cpu_is_announced():
    assert "--dtype float16 needs a GPU: this run is in float32" in said("", on_gpu=False)
    assert not any("float16" in line for line in said(""))
    assert not any("float16" in line for line in said("--dtype float32", on_gpu=False))


@pytest.mark.parametrize("flags", ["--askc-type DirectAdd", "--start-layer 5"])
def test_plain_addition_does_not_warn_of_single_images(flags):
    assert not any("global context" in line for line in said(f"--batch-size 1 {flags}"))


def test_options_need_neither_mxnet_nor_gluoncv():
    """So that --help is quick."""
    code = "import sys, gluon_aff.settings.imagenet; print(sorted({'mxnet', 'gluoncv', 'numpy'} & {*sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_add_options_needs_no_special_parser():
    parser = argparse.ArgumentParser()
    add_options(ImageNetSettings, parser, [])
    assert settings_from(ImageNetSettings, vars(parser.parse_args(["--lr", "1"]))).lr == 1


def test_a_fusion_that_does_not_exist_is_refused_with_the_other_settings():
    with pytest.raises(InputError, match=r"unknown fusion .*'AF': did you mean AFF"):
        resolve(ImageNetSettings(askc_type="AF"))
