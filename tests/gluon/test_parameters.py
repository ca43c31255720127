"""`.params` files: round trips with MXNet, misfits, damage."""

from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from shared_by_tests.limits import full_disk

from gluon_aff import get_model
from gluon_aff.errors import GluonAFFError, ParamsFileError
from gluon_aff.gluon.parameters import load_arrays, load_parameters, parameter_arrays
from gluon_aff.weights.params_format import write_params_file


def network(seed=0, **kwargs):
    mx.random.seed(seed)
    net = get_model("aff_resnet32_cifar100", **{"blocks": 1, "channel_times": 1, **kwargs}, ctx=mx.cpu())
    net(mx.nd.zeros((1, 3, 32, 32)))
    mx.nd.waitall()  # oneDNN reorders weights behind a forward pass; asnumpy does not wait for that
    return net


def arrays(net):
    return {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}


def save_parameters(net, path):
    write_params_file(path, parameter_arrays(net))


def assert_equal(first, second):
    assert list(first) == list(second)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_ours_loads_with_gluon_and_gluons_with_ours(tmp_path):
    net, path = network(1), str(tmp_path / "net.params")
    save_parameters(net, path)
    other = network(2)
    other.load_parameters(path)
    assert_equal(arrays(other), arrays(net))
    net.save_parameters(path)
    third = network(3)
    load_parameters(third, path)
    assert_equal(arrays(third), arrays(net))


def test_loads_into_a_network_that_was_never_initialised(tmp_path):
    net, path = network(1), str(tmp_path / "net.params")
    save_parameters(net, path)
    fresh = get_model("aff_resnet32_cifar100", blocks=1, channel_times=1)
    load_parameters(fresh, path)
    assert_equal(arrays(fresh), arrays(net))


def test_float16_files_load_into_float32_networks(tmp_path):
    net, path = network(1), str(tmp_path / "net.params")
    net.cast("float16")
    save_parameters(net, path)
    fresh = network(2)
    load_parameters(fresh, path)
    assert {a.dtype for a in arrays(fresh).values()} == {np.dtype("float32")}
    np.testing.assert_array_equal(arrays(fresh)["output.weight"], arrays(net)["output.weight"].astype("float32"))


def test_float64_files_load_into_float64_networks_to_the_last_bit(tmp_path):
    path = str(tmp_path / "net.params")
    values = {name: array.astype("float64") + 1e-12 for name, array in arrays(network(1)).items()}
    write_params_file(path, values)
    net = network(2)
    net.cast("float64")
    load_parameters(net, path)
    found = arrays(net)
    exact = [name for name in found if found[name].dtype == np.float64]
    assert len(exact) > 20
    assert_equal({name: found[name] for name in exact}, {name: values[name] for name in exact})


def test_misfit_lists_missing_unexpected_and_other_shapes_and_changes_nothing(tmp_path):
    path = str(tmp_path / "net.params")
    save_parameters(network(1, askc_type="DirectAdd", classes=10, blocks=2), path)
    net = network(2)
    before = arrays(net)
    with pytest.raises(ParamsFileError) as error:
        load_parameters(net, path)
    message = str(error.value)
    assert message.startswith(f"{path} does not fit CIFARAFFResNet: 72 missing: features.2.0.attention.local_att.0")
    assert "and 67 more; " in message
    assert "30 unexpected: features.2.1.resfwd.0.gamma, " in message
    assert "output.weight (file 10x64, network 100x64)" in message
    assert "\n" not in message
    assert_equal(arrays(net), before)


def test_extra_arrays_can_be_ignored(tmp_path):
    path = str(tmp_path / "net.params")
    save_parameters(network(1), path)
    plain = network(2, askc_type="DirectAdd")
    with pytest.raises(ParamsFileError, match="72 unexpected"):
        load_parameters(plain, path)
    load_parameters(plain, path, ignore_extra=True)


def test_what_a_run_kept_has_to_fit():
    net = network(1)
    for kept in ({**arrays(net), "more": np.zeros(1)}, {**arrays(net), "output.weight": np.zeros((7, 64))}):
        with pytest.raises(ParamsFileError, match="a checkpoint does not fit"):
            load_arrays(net, kept, "a checkpoint")


def test_fresh_head_keeps_the_networks_own(tmp_path):
    path = str(tmp_path / "net.params")
    source = network(1)
    save_parameters(source, path)
    net = network(2, classes=7)
    head = arrays(net)["output.weight"]
    with pytest.raises(ParamsFileError, match=r"output\.weight"):
        load_parameters(net, path)
    load_parameters(net, path, fresh_head=True)
    np.testing.assert_array_equal(arrays(net)["output.weight"], head)
    np.testing.assert_array_equal(arrays(net)["features.1.weight"], arrays(source)["features.1.weight"])


def test_a_damaged_file_changes_nothing(tmp_path):
    net, path = network(1), tmp_path / "net.params"
    save_parameters(network(2), str(path))
    path.write_bytes(path.read_bytes()[:-1])
    before = arrays(net)
    with pytest.raises(ParamsFileError, match="is damaged"):
        load_parameters(net, str(path))
    assert_equal(arrays(net), before)


def test_exported_files_are_loaded_where_their_order_is_the_networks(tmp_path):
    net, other = network(1), network(2)
    net.hybridize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    net.export(str(tmp_path / "net"))
    load_parameters(other, str(tmp_path / "net-0000.params"))
    assert all(np.array_equal(array, arrays(net)[name]) for name, array in arrays(other).items())


def test_bfloat16_files_load_into_float32_networks(tmp_path):
    """Rounded to bfloat16 by MXNet itself; widening is exact."""
    net, path = network(1), str(tmp_path / "net.params")
    bfloat16 = np.dtype([("bfloat16", np.uint16)])  # MXNet's stand-in
    rounded = {name: mx.nd.array(array).astype(bfloat16) for name, array in arrays(net).items()}
    mx.nd.save(path, rounded)
    other = network(2)
    load_parameters(other, path)
    for name, array in arrays(other).items():
        np.testing.assert_array_equal(array, rounded[name].astype("float32").asnumpy())


def test_a_disk_that_is_full_at_the_last_bytes(tmp_path):
    """MXNet's own writer leaves a file cut short then, and says nothing."""
    net, path = network(), str(tmp_path / "net.params")
    save_parameters(net, path)
    size = Path(path).stat().st_size
    with full_disk(size - 100), pytest.raises(GluonAFFError, match=r"other.params cannot be written"):
        save_parameters(net, str(tmp_path / "other.params"))
    assert [p.name for p in tmp_path.iterdir()] == ["net.params"]
