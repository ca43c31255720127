"""`.params` files into PyTorch's networks and back."""

import numpy as np
import pytest
import torch
from shared_by_tests.golden_values import golden_value

from gluon_aff.errors import ParamsFileError
from gluon_aff.pytorch import get_model, load_params, save_params
from gluon_aff.pytorch.fusion import FeatureFusion
from gluon_aff.pytorch.parameters import load_arrays, parameter_arrays, parameter_names
from gluon_aff.weights.params_format import read_params_file, write_params_file


def golden_arrays(net, dtype=None):
    """Values by name; with a type, as in the published ImageNet files: all but BatchNorm's four arrays have it."""
    arrays = {name: golden_value(name, array.shape) for name, array in parameter_arrays(net).items()}
    norms = {name.rpartition(".")[0] for name in arrays if name.endswith("running_var")}
    return {n: a if not dtype or n.rpartition(".")[0] in norms else a.astype(dtype) for n, a in arrays.items()}


def test_there_and_back_is_the_same_to_the_last_bit(tmp_path):
    net = get_model("resnet20_b1")
    arrays = golden_arrays(net)
    write_params_file(str(tmp_path / "a.params"), arrays)
    assert load_params(net, str(tmp_path / "a.params")) == []
    save_params(net, str(tmp_path / "b.params"))
    assert (tmp_path / "a.params").read_bytes() == (tmp_path / "b.params").read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_float16_file_loads_into_every_type(tmp_path, dtype):
    net = get_model("aff_resnet50", layers=(1, 1, 1, 1))
    write_params_file(str(tmp_path / "half.params"), golden_arrays(net, "float16"))
    loaded = get_model("aff_resnet50", layers=(1, 1, 1, 1), dtype=dtype, pretrained=str(tmp_path / "half.params"))
    assert loaded.conv1[0].weight.dtype == getattr(torch, dtype)
    expected = torch.from_numpy(golden_value("conv1.0.weight", (32, 3, 3, 3)).astype("float16")).to(
        getattr(torch, dtype)
    )
    assert torch.equal(loaded.conv1[0].weight, expected)
    if dtype == "float16":
        save_params(loaded, str(tmp_path / "again.params"))
        assert (tmp_path / "again.params").read_bytes() == (tmp_path / "half.params").read_bytes()


def test_arrays_are_copies():
    net = get_model("resnet20_b1")
    before = parameter_arrays(net)["output.bias"]
    net.output.bias.data += 1
    assert not before.any()


def test_layer_norm_has_gamma_and_beta_too():
    names = parameter_names(FeatureFusion([8, 4])).values()
    assert {"projections.1.1.gamma", "fuse.fusions.0.local_att.1.beta"} <= set(names)


def test_another_head_is_left_out_and_said(tmp_path):
    net = get_model("resnet20_b1")
    save_params(net, str(tmp_path / "a.params"))
    with pytest.warns(
        UserWarning, match=r"the head \(output.weight, output.bias\) was left out, its size differs"
    ) as said:
        other = get_model("resnet20_b1", 10, pretrained=str(tmp_path / "a.params"))
    assert [warning.filename for warning in said] == [__file__]
    assert other.output.weight.shape == (10, 64)
    assert torch.equal(other.features[1].weight, net.features[1].weight)


def test_misfits_are_named_and_nothing_is_loaded(tmp_path):
    net = get_model("resnet20_b1")
    arrays = golden_arrays(net)
    arrays["more"] = arrays.pop("output.bias")
    arrays["output.weight"] = arrays["output.weight"][:, :5]
    write_params_file(str(tmp_path / "a.params"), arrays)
    before = {name: array.copy() for name, array in parameter_arrays(net).items()}
    with pytest.raises(ParamsFileError) as raised:
        load_params(net, str(tmp_path / "a.params"))
    said = str(raised.value)
    assert said.startswith(f"{tmp_path / 'a.params'} does not fit CIFARAFFResNet: 1 missing: output.bias; ")
    assert said.endswith(
        "1 unexpected: more; 1 of another shape: output.weight (file 100x5, network 100x64). "
        "Build the network that it belongs to"
    )
    for name, array in parameter_arrays(net).items():
        np.testing.assert_array_equal(array, before[name])
    for change in ("more", "head"):  # nor does what a run kept fit then
        kept = {**before, "more": np.zeros(1)} if change == "more" else {**before, "output.weight": np.zeros((7, 64))}
        with pytest.raises(ParamsFileError, match="a checkpoint does not fit"):
            load_arrays(net, kept, "a checkpoint")
    arrays["output.bias"], arrays["output.weight"] = np.zeros(100, "float32"), np.zeros((100, 64), "float32")
    write_params_file(str(tmp_path / "a.params"), arrays)
    assert load_params(net, str(tmp_path / "a.params"), ignore_extra=True) == []
    assert read_params_file(str(tmp_path / "a.params")).arrays["more"].shape == (100,)


def test_weights_with_nan_are_refused_unless_they_are_asked_for(tmp_path):
    net, path = get_model("resnet20_b1"), str(tmp_path / "a.params")
    arrays = golden_arrays(net)
    name = next(name for name in arrays if name.endswith("running_var"))
    arrays[name][0] = np.nan
    write_params_file(path, arrays)
    for load in (
        lambda **more: load_params(net, path, **more),
        lambda **more: get_model("resnet20_b1", pretrained=path, **more),
    ):
        with pytest.raises(ParamsFileError, match=rf"NaN or infinity in 1 of \d+ arrays \({name}\)"):
            load()
        load(allow_not_finite=True)
    assert sum(int(tensor.isnan().sum()) for tensor in net.state_dict().values()) == 1
