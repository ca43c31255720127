"""AFINets learn sample data by the second paper's recipe, shortened, and go on where they stopped."""

import json
import signal
from dataclasses import replace

import numpy as np
import pytest
from shared_by_tests.stopping import stop_at

from gluon_aff.cli import main
from gluon_aff.data.samples.cifar_layout import write_digits
from gluon_aff.data.samples.pictures import write_pictures
from gluon_aff.gluon.inspection.summary import trainable_parameters
from gluon_aff.models import MODELS
from gluon_aff.weights.params_format import read_params_file

SHORT = ["--num-epochs", "2", "--lr-decay-epoch", "1", "--batch-size", "32"]
FAMILIES = {
    "resnet32": SHORT,
    "resnet110": ["--num-epochs", "8", "--lr", "0.05", "--lr-decay-epoch", "7", "--batch-size", "32"],
    "mobilenet_v2": SHORT,
    "shufflenet_v2": ["--num-epochs", "5", "--lr-decay-epoch", "4", "--batch-size", "32"],
    "resnext29_32x4d": ["--num-epochs", "3", "--lr", "0.01", "--lr-decay-epoch", "2", "--batch-size", "32"],
}
SMALL = "afi_resnet14"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    write_digits(str(folder))
    return str(folder)


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """Train in an empty folder; return the exit code and what was printed, by its first word."""
    monkeypatch.chdir(tmp_path)

    def run(command, model, data, *more):
        code = main([command, "--model", model, "--recipe", "afinets", "--data-dir", data, "--seed", "0", *more])
        lines = capsys.readouterr().out.splitlines()
        return code, {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}

    return run


@pytest.fixture
def small(monkeypatch):
    """AFI-ResNet-14 among the models."""
    record = MODELS["afi_resnet32_cifar100"]
    count = trainable_parameters(record.architecture(blocks=2))
    settings = {**record.settings, "blocks": 2}
    monkeypatch.setitem(MODELS, SMALL, replace(record, name=SMALL, settings=settings, trainable=count))


@pytest.mark.long
def test_a_small_one_learns_digits_and_its_weights_are_recognised(train, small, digits, capsys):
    code, printed = train("train-cifar", SMALL, digits, "--dataset", "cifar10", *SHORT)
    accuracy = float(printed["best_val_score"])
    assert code == 0
    assert accuracy > 0.5
    assert main(["evaluate", "--params", printed["weights"], "--csv", "", "--json", "--data-dir", digits]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["network"], found["dataset"]) == (SMALL, "cifar10")
    assert found["top1"] == pytest.approx(accuracy, abs=1e-9)


def test_it_goes_on_as_if_it_had_not_stopped(train, small, few_shapes, monkeypatch):
    """Stopped in the second of two epochs of five steps each."""
    arguments = ["train-cifar", SMALL, few_shapes, *SHORT, "--batch-size", "20", "--save-plot-dir", "curves"]
    _, whole = train(*arguments, "--save-dir", "whole", "--logging-dir", "whole")
    with monkeypatch.context() as patched:
        stop_at(patched, 8)
        code, _ = train(*arguments)
        assert code == 128 + signal.SIGTERM
    code, resumed = train(*arguments, "--resume", "auto")
    assert code == 0
    assert resumed["best_val_score"] == whole["best_val_score"]
    expected, found = (
        read_params_file(f"{folder}/cifar100-{SMALL}.checkpoint/epoch-2/parameters.params").arrays
        for folder in ("whole", "params")
    )
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("variant", ["afi", "afi_b"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_digits(family, variant, train, digits):
    """Chance is a tenth."""
    model = f"{variant}_{family}_cifar100"
    _, printed = train("train-cifar", model, digits, "--dataset", "cifar10", *FAMILIES[family])
    assert float(printed["best_val_score"]) > 0.3


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("model", "rate", "epochs"),
    [
        ("afi_resnet50", "0.00625", 12),
        ("afi_b_resnet50", "0.00625", 12),
        ("afi_resnet152", "0.0003", 6),
        ("afi_b_resnet152", "0.0003", 6),
    ],
)
def test_imagenet_networks_learn_pictures(model, rate, epochs, train, tmp_path):
    """Chance is an error of seven eighths."""
    write_pictures("pictures")
    more = ["--classes", "8", "--input-size", "32", "--batch-size", "16", "-j", "2"]
    schedule = ["--num-epochs", str(epochs), "--lr", rate, "--lr-decay-epoch", str(epochs * 3 // 4)]
    _, printed = train("train-imagenet", model, "pictures", *more, *schedule)
    assert float(printed["best err-top1"]) < 0.6
