"""What the commands do with weights in which one value is NaN."""

import json

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from gluon_aff import get_model
from gluon_aff.cli import main
from gluon_aff.errors import ParamsFileError
from gluon_aff.gluon.parameters import parameter_arrays
from gluon_aff.weights.params_format import write_params_file

SPOILT = "features.3.0.resfwd.3.running_var"  # ReLU hides it: MXNet's outputs stay finite


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    net = get_model("aff_resnet32_cifar100", 10, mx.cpu(), blocks=1, channel_times=1)
    net(mx.nd.zeros((1, 3, 32, 32)))
    mx.nd.waitall()
    arrays = parameter_arrays(net)
    arrays[SPOILT] = np.where(np.arange(arrays[SPOILT].size) == 0, np.nan, arrays[SPOILT]).astype(np.float32)
    path = str(tmp_path_factory.mktemp("weights") / "0.5-cifar10-ASKCFuse-resnet-8-c-1-s-1-best.params")
    write_params_file(path, arrays)
    return path


@pytest.fixture
def image(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / "x.png")
    return str(tmp_path / "x.png")


def commands(weights, image, folder):
    return {
        "predict": ["predict", "--params", weights, "--gpus", "", image],
        "gradcam": ["gradcam", "--params", weights, image, "-o", str(folder / "maps.png")],
        "evaluate": ["evaluate", "--params", weights, "--gpus", "", "--csv", str(folder / "table.csv")],
        "export": ["export", "--params", weights, "--format", "symbol", "-o", str(folder / "net")],
    }


@pytest.mark.parametrize("command", ["predict", "gradcam", "evaluate", "export"])
def test_commands_refuse_them_and_name_the_array(weights, image, tmp_path, capsys, command):
    before = sorted(tmp_path.iterdir())
    assert main(commands(weights, image, tmp_path)[command]) == 2
    printed = capsys.readouterr()
    assert "has NaN or infinity in 1 of " in printed.err
    assert SPOILT in printed.err
    assert printed.out == ""
    assert sorted(tmp_path.iterdir()) == before


def test_those_who_study_them_let_them_pass(weights, image, tmp_path, capsys):
    assert main([*commands(weights, image, tmp_path)["predict"], "--allow-not-finite"]) in (0, 1)
    assert "NaN or infinity in 1" not in capsys.readouterr().err
    arguments = {"classes": 10, "blocks": 1, "channel_times": 1, "pretrained": weights}
    with pytest.raises(ParamsFileError, match=SPOILT):
        get_model("aff_resnet32_cifar100", **arguments)
    net = get_model("aff_resnet32_cifar100", **arguments, allow_not_finite=True)
    assert np.isnan(net._collect_params_with_prefix()[SPOILT].data().asnumpy()).sum() == 1


def test_params_names_the_array(weights, capsys):
    assert main(["params", weights]) == 0
    assert f"NaN or infinity in 1 arrays: {SPOILT}" in capsys.readouterr().out
    assert main(["params", weights, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["not_finite"] == [SPOILT]
