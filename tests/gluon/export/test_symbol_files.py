"""MXNet's pair of files, read back as its users read them."""

import os
import warnings

import mxnet as mx
import numpy as np
import pytest
from shared_by_tests.exported_networks import NETWORKS, network_and_card

from gluon_aff._platform import torch_problem
from gluon_aff.errors import GluonAFFError
from gluon_aff.export.symbol_files import write_symbol
from gluon_aff.gluon.network import GluonNetwork
from gluon_aff.gluon.networks.zoo import BUILDERS
from gluon_aff.gluon.parameters import load_parameters, parameter_arrays


def on_cpu(net):
    return GluonNetwork(net, [mx.cpu()])


def imported(prefix):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # MXNet asks for the type of the input before it is known
        return mx.gluon.SymbolBlock.imports(f"{prefix}-symbol.json", ["data"], f"{prefix}-0000.params")


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def written(request, tmp_path_factory):
    """The name of a network in `NETWORKS`, the network, its number of outputs, its pair of files, and what was said."""
    net, card = network_and_card(request.param)
    prefix = tmp_path_factory.mktemp("symbol") / "new" / "net"
    paths, agreement = write_symbol(on_cpu(net), str(prefix), card.input_size)
    return request.param, net, card.outputs, paths, agreement


def test_symbol_block_computes_the_same_at_any_batch_and_size(written):
    _, net, _, paths, agreement = written
    assert [os.path.basename(path) for path in paths] == ["net-symbol.json", "net-0000.params"]
    folder = os.path.dirname(paths[0])
    assert sorted(os.listdir(folder)) == ["net-0000.params", "net-symbol.json"]
    block = imported(os.path.join(folder, "net"))
    for shape in [(1, 3, 64, 64), (4, 3, 40, 71)]:
        images = mx.nd.random.normal(shape=shape)
        expected = net(images).asnumpy()
        np.testing.assert_allclose(block(images).asnumpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert agreement.difference <= 1e-5 * agreement.largest


def test_they_are_weights_too_by_their_names(written):
    """Whatever networks this process has made before, which the names count."""
    name, net, outputs, (_, path), _ = written
    host, settings, _ = NETWORKS[name]
    expected = parameter_arrays(net)
    other = BUILDERS[host](**settings, classes=outputs)
    load_parameters(other, path)
    assert same(parameter_arrays(other), expected)
    if torch_problem() is None:
        from gluon_aff.pytorch import networks, parameters

        in_torch = networks.zoo.BUILDERS[host](**settings, classes=outputs)
        parameters.load_params(in_torch, path)
        assert same(parameters.parameter_arrays(in_torch), expected)


def same(found, expected):
    return list(found) == list(expected) and all(np.array_equal(found[name], expected[name]) for name in expected)


def test_they_hold_what_hybrid_block_export_writes(small, tmp_path):
    net, card = small
    write_symbol(on_cpu(net), str(tmp_path / "ours"), card.input_size)
    net.export(str(tmp_path / "mxnets"))
    ours, mxnets = (mx.nd.load(str(tmp_path / f"{name}-0000.params")) for name in ("ours", "mxnets"))
    assert {name: value.asnumpy().tolist() for name, value in ours.items()} == {
        name: value.asnumpy().tolist() for name, value in mxnets.items()
    }
    ours, mxnets = (mx.sym.load(str(tmp_path / f"{name}-symbol.json")) for name in ("ours", "mxnets"))
    assert ours.list_inputs() == mxnets.list_inputs()


def test_a_network_need_not_be_hybridized(small, tmp_path):
    net, card = small
    net.hybridize(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        write_symbol(on_cpu(net), str(tmp_path / "net"), card.input_size)


def test_neither_is_kept_if_they_do_not_agree(small, tmp_path, monkeypatch):
    net, card = small
    monkeypatch.setattr(mx.nd, "save", lambda path, arrays, save=mx.nd.save: save(path, doubled(arrays)))
    with pytest.raises(GluonAFFError, match=r"net differs from the network by .*, so it was not kept"):
        write_symbol(on_cpu(net), str(tmp_path / "net"), card.input_size)
    assert os.listdir(tmp_path) == []


def doubled(arrays):
    return {name: 2 * value if name.endswith("dense0_weight") else value for name, value in arrays.items()}


def test_a_place_that_cannot_be_written(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GluonAFFError, match="cannot be written"):
        write_symbol(on_cpu(small[0]), str(tmp_path / "file" / "net"), 32)


def test_a_name_that_is_no_text_is_refused(small, tmp_path):
    """A file system takes any bytes, MXNet UTF-8 alone."""
    with pytest.raises(GluonAFFError, match=r"MXNet writes only to file names in UTF-8: take another one"):
        write_symbol(on_cpu(small[0]), str(tmp_path / "a\udcff"), 32)
    assert os.listdir(tmp_path) == []
