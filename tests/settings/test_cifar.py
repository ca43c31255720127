"""The command line of train_cifar.py: the original's flags, defaults and names."""

import os
import re
import shlex
from dataclasses import replace

import pytest
from shared_by_tests.abbreviations import different_abbreviations
from shared_by_tests.documented_commands import DOCUMENTED

from gluon_aff.cli import COMMANDS, OneLineParser, fill_parser
from gluon_aff.errors import InputError
from gluon_aff.run_names import name_of
from gluon_aff.settings.cifar import CIFARSettings, resolve
from gluon_aff.settings.declaration import declared
from gluon_aff.settings.parser import settings_from
from gluon_aff.training.cifar import train_cifar
from gluon_aff.training.notes import cifar_facts, cifar_warnings, first_release_warnings

# training.md: "Flags and defaults", as the settings line of a log names them
ORIGINAL_DEFAULTS = {
    "dataset": "cifar100",
    "batch_size": 128,
    "channel_times": 4,
    "blocks": 1,
    "start_layer": 1,
    "summary": False,
    "gpus": "0,1,2,3",
    "model": "resnet",
    "num_workers": 96,
    "num_epochs": 640,
    "lr": 0.2,
    "momentum": 0.9,
    "wd": 1e-4,
    "lr_decay": 0.1,
    "lr_decay_period": 0,
    "lr_decay_epoch": "300,450",
    "drop_rate": 0.0,
    "mode": "hybrid",
    "save_period": 10,
    "save_dir": "params",
    "logging_dir": "logs",
    "resume_from": None,
    "save_plot_dir": ".",
    "mixup": False,
    "mixup_alpha": 1,
    "mixup_off_epoch": 40,
    "auto_aug": False,
    "label_smoothing": False,
    "cosine": False,
    "no_wd": False,
    "warmup_lr": 0.0,
    "warmup_epochs": 10,
    "deep_stem": False,
}


def filled(argv):
    return fill_parser(OneLineParser("train_cifar.py"), COMMANDS["train-cifar"], argv)


def parse(command):
    argv = shlex.split(command)
    return settings_from(CIFARSettings, vars(filled(argv).parse_args(argv)))


@pytest.mark.parametrize("which", DOCUMENTED)
def test_documented_commands_parse_and_name_their_files(which):
    command, name = DOCUMENTED[which]
    assert str(name_of(resolve(parse(command)))) == name


def test_defaults_are_the_originals():
    settings = vars(parse(""))
    assert {name: settings[name] for name in ORIGINAL_DEFAULTS} == ORIGINAL_DEFAULTS


def test_dataclass_defaults_are_the_parsers():
    assert parse("") == CIFARSettings()


@pytest.mark.parametrize("flag", ["-j", "--num-data-workers", "--num-workers"])
def test_names_of_the_worker_count(flag):
    assert parse(f"{flag} 3").num_workers == 3


def test_first_release_defaults_can_be_asked_for():
    """Its mixup was always on and off for the last 20 epochs, and its decay epochs were not shifted."""
    first = {
        **{"batch_size": 32, "channel_times": 1, "gpus": "0", "num_workers": 4, "num_epochs": 3, "lr": 0.1},
        **{"lr_decay_epoch": "40,60", "mode": "imperative", "mixup": True, "mixup_off_epoch": 20, "warmup_epochs": 0},
    }
    assert parse("--release first") == replace(CIFARSettings(), **first)
    assert parse("--release first --mixup-off-epoch 5").mixup_off_epoch == 5
    assert parse("--rel first").mixup_off_epoch == 20
    assert not parse("--release head").mixup


def test_the_second_papers_recipe():
    """AFINets, Section 4.1."""
    found = parse("--recipe afinets")
    assert found.gpus == "0"  # 64 images in all
    assert not parse("--recipe afinets --dataset cifar10").fine_label
    assert (found.optimizer, found.momentum, found.wd) == ("sgd", 0.9, 1e-4)
    assert (found.batch_size, found.num_epochs, found.lr, found.lr_decay) == (64, 300, 0.1, 0.1)
    assert (found.lr_decay_epoch, found.warmup_epochs, found.cosine) == ("150,225", 0, False)
    assert found.fine_label
    assert (parse("").optimizer, parse("--recipe aff")) == ("nag", CIFARSettings())
    assert parse("--recipe afinets --lr 0.2 --optimizer nag").lr == 0.2
    assert not parse("--recipe afinets --superclass").fine_label


@pytest.mark.parametrize("flags", ["--recipe afinets --r 8", "--r 8 --recipe=afinets", "--recip afinets --r=8"])
def test_r_is_no_short_form_of_recipe_or_release(flags):
    assert parse(flags) == replace(parse("--recipe afinets"), r=8)
    assert parse("--release first --r 8") == replace(parse("--release first"), r=8)


def test_a_listed_network_as_it_is():
    settings = resolve(parse("--model afi_b_resnet32_cifar100"))
    assert str(name_of(settings)) == "cifar100-afi_b_resnet32_cifar100"
    assert next(cifar_facts(settings, 128)) == "network: afi_b_resnet32_cifar100"
    integrating = resolve(parse("--model AFI_B_resnet32_cifar100 --r 8 --stages 1,3 --attention SE"))
    assert str(name_of(integrating)) == "cifar100-afi_b_resnet32_cifar100-r-8-stages-1+3-SE"
    assert next(cifar_facts(integrating, 128)) == "network: afi_b_resnet32_cifar100-r-8-stages-1+3-SE"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--model resnet20_b1 --fusion Add", "--askc-type cannot be used: --model resnet20_b1 is a complete network; "),
        (
            "--model afi_resnet32_cifar100 --blocks 18 --deep-stem --r 8",
            "--blocks, --deep-stem cannot be used: --model afi",
        ),
        ("--model resnet32_cifar100 --r 8", "--r cannot be used: --model resnet32_cifar100 is a complete network"),
        ("--model resnet --stages 1 --attention SE", "--stages, --attention cannot be used: --model resnet is not an"),
        ("--model afi_resnet32_cifar100 --stages 1,x", "--stages 1,x: give the numbers of stages, such as 1 or 1,2"),
        ("--model afi_resnet50", "--model afi_resnet50 takes images of 224 x 224 pixels, not of 32 x 32"),
        ("--model afi_resnet23_cifar100", r"did you mean afi_resnet32_cifar100\? the nearest of"),
    ],
)
def test_flags_that_a_model_does_not_take(command, message):
    with pytest.raises(InputError, match=message):
        resolve(parse(command))


@pytest.mark.parametrize(
    ("command", "late"),
    [
        ("--recipe afinets --num-epochs 200", ["(200 epochs), which have no effect: 225"]),
        ("--recipe afinets", []),
        ("--num-epochs 300", ["(300 epochs), which have no effect: 440"]),
        ("--num-epochs 300 --cosine", []),
    ],
)
def test_decay_epochs_after_the_end_are_said(command, late):
    start = "decay epochs after the end of the run "
    warnings = cifar_warnings(resolve(parse(command)))
    assert [line.replace(start, "") for line in warnings if line.startswith(start)] == late


@pytest.mark.parametrize("depth", [29, 38, 47])
def test_the_first_releases_names_say_their_depth(depth):
    settings = resolve(parse(f"--model resnext{depth}_32x4d"))
    assert (settings.model, settings.depth) == ("resnext", depth)


@pytest.mark.parametrize("release", ["head", "first"])
@pytest.mark.parametrize("model", ["resnext38_32x4d", "ResNeXt29_32x4d"])
def test_the_first_releases_resnexts_are_as_wide_as_they_were_in_both(release, model):
    settings = resolve(parse(f"--model {model} --release {release}"))
    assert str(name_of(settings)).endswith("-32x4-c-4-s-1")


def test_a_model_name_of_the_first_release_is_said():
    (line,) = first_release_warnings(parse("--model resnext38_32x4d"))
    assert line.startswith("--model resnext38_32x4d is a name of the first release: this run trains today's resnext")
    assert "--release first takes that release's defaults" in line
    (line,) = first_release_warnings(parse("--model resnext38_32x4d --release first"))
    assert line.endswith("whose shortcuts differ")
    assert list(first_release_warnings(parse("--model resnext"))) == []


def test_missing_seed_is_drawn_and_a_given_one_kept(monkeypatch):
    assert 0 <= resolve(parse("")).seed < 2**31
    monkeypatch.setattr(os, "urandom", lambda count: b"\xff" * count)
    assert resolve(parse("")).seed == 2**31 - 1
    assert resolve(parse("--seed 5")).seed == 5


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--model resnext37", r"unknown --model 'resnext37': did you mean resnext\?.*resnext38_32x4d"),
        ("--num-epochs -1", "--num-epochs -1: must be from 0 to"),
        ("--r a.params", "--r abbreviated --resume-from"),
        ("--resume a.params", "--resume abbreviated --resume-from"),
        ("--batch-size 0", "--batch-size 0"),
        ("--mixup --mixup-alpha 0", "--mixup-alpha 0.0: must be from 0.001"),
        ("--lr nan", "--lr nan: must be from 0"),
        ("--momentum 1.5", "--momentum 1.5: must be from 0 to 1"),
        ("--lr inf", "--lr inf"),
        ("--wd -1", "--wd -1.0"),
        ("--seed 3000000000", "--seed 3000000000: must be from 0 to 2147483647"),
        ("--fine-label --superclass", "error: argument --superclass: not allowed with argument --fine-label"),
        ("--superclass=1", "^2train_cifar.py: error: argument --superclass: ignored explicit argument '1'"),
    ],
)
def test_values_out_of_range_name_their_flag(command, message, capsys):
    with pytest.raises((InputError, SystemExit)) as caught:
        resolve(parse(command))
    assert re.search(message, f"{caught.value}{capsys.readouterr().err}")


@pytest.mark.parametrize(("fusion", "meant"), [("AF", "AFF"), ("ASKCFus", "ASKCFuse")])
@pytest.mark.parametrize("start_layer", [1, 4])
def test_a_fusion_that_does_not_exist_is_refused_before_data_are_looked_for(
    fusion, meant, start_layer, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    settings = CIFARSettings(askc_type=fusion, data_dir="nowhere", start_layer=start_layer)
    for check in (resolve, train_cifar):
        with pytest.raises(InputError, match=f"unknown fusion .*'{fusion}': did you mean {meant}\\?"):
            check(settings)
    assert list(tmp_path.iterdir()) == []


def test_options_that_the_original_lacks_are_marked_as_new():
    original = {name for name, each in declared(CIFARSettings).items() if not each.new}
    assert original == {*ORIGINAL_DEFAULTS, "askc_type"}


def test_every_abbreviation_means_what_it_did_in_the_original():
    """But for --r and --resume, which are flags of their own here."""
    assert different_abbreviations(filled([]), [*ORIGINAL_DEFAULTS, "askc_type"]) == ["--r", "--resume"]
    assert not parse("--recipe afinets --da cifar10").fine_label


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        ("--mode symbolic --start-layer 0 --num-epochs 0", {"mode": "symbolic", "start_layer": 0, "num_epochs": 0}),
        ("--resume-from '' --logging-dir ''", {"resume_from": "", "logging_dir": ""}),
        ("--mixup-off-epoch -1 -j -1", {"mixup_off_epoch": -1, "num_workers": -1}),
        ("--warmup-epochs -3 --lr-decay-period -1", {"warmup_epochs": -3, "lr_decay_period": -1}),
    ],
)
def test_what_the_original_accepts_is_accepted(command, settings):
    resolved = vars(resolve(parse(command)))
    assert {name: resolved[name] for name in settings} == settings


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("", "20 superclasses, the original's default (--fine-label for the 100 classes), under a 100-way head"),
        ("--fine-label", "labels: CIFAR-100's 100 classes, under a 100-way head"),
        ("--no-wd", "--no-wd has no effect without --cosine"),
        ("", "decay epochs come 10 earlier than --lr-decay-epoch says"),
        ("--warmup-epochs -3", "decay epochs come 3 later than --lr-decay-epoch says"),
        ("--mode symbolic", "--mode symbolic is not supported: the run is imperative"),
        ("--resume-from ''", "--resume-from is empty: the run starts from new random weights"),
        ("--logging-dir ''", "no log will be written"),
        ("--start-layer 0", "fusion ASKCFuse from stage 0 on"),
        ("--drop-rate 0.1", "--drop-rate has no effect"),
        ("--warmup-lr 0.1", "--warmup-lr has no effect"),
        ("--batch-size 1", "global context is all zeros while training"),
        ("--save-period 0", "no weights will be written"),
        ("--model resnext --channel-times 8", "the file name says that each group is 4 channels wide"),
        ("--start-layer 4", "fusion addition in all stages"),
        ("--dataset cifar10 --fine-label", "no effect on CIFAR-10"),
        (
            "--mixup --num-epochs 40",
            "mixup is off in every epoch (--mixup-off-epoch 40, --num-epochs 40), so --mixup only",
        ),
        ("--cosine --num-epochs 5", "the warm-up lasts to the end of the run"),
        ("--model resnext38_32x4d", "network: resnext of 38 layers, fusion ASKCFuse"),
        ("--batch-size 32", "32 images per device, 64 per step"),
    ],
)
def test_notes_say_what_would_surprise(command, expected):
    settings = resolve(parse(command))
    said = [*cifar_facts(settings, 2 * settings.batch_size), *cifar_warnings(settings)]
    assert any(expected in line for line in said)


def test_nothing_warns_where_nothing_surprises():
    settings = resolve(parse("--dataset cifar10 --cosine --no-wd"))
    assert list(cifar_warnings(settings)) == []
    assert [line.split(":")[0] for line in cifar_facts(settings, 128)] == ["network", "batch", "best weights"]


def test_the_original_s_20_superclasses_warn_and_the_100_classes_do_not():
    superclasses, classes = (list(cifar_warnings(resolve(parse(f"--cosine {flag}")))) for flag in ("", "--fine-label"))
    assert [line.split(",")[0] for line in superclasses] == ["labels: CIFAR-100's 20 superclasses"]
    assert classes == []


@pytest.mark.parametrize(
    ("given", "flag"),
    [("", "ASKCFuse"), ("--askc-type AFF", "ASKCFuse"), ("--askc-type iAFF", "ResGlobLocaforGlobLocaCha")],
)
def test_files_have_the_originals_flag_whatever_the_fusion_is_called(given, flag):
    assert str(name_of(resolve(parse(given)))).startswith(f"cifar100-{flag}-")


@pytest.mark.parametrize("flags", ["--askc-type DirectAdd", "--start-layer 4"])
def test_plain_addition_does_not_warn_of_single_images(flags):
    settings = resolve(parse(f"--batch-size 1 {flags}"))
    assert not any("global context" in line for line in cifar_warnings(settings))
