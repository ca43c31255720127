"""The seven published networks against figures measured on the original's (tests/goldens), in PyTorch alone."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from shared_by_tests.golden_values import EACH_GOLDEN, GOLDENS, check_sums, described_array, golden_value
from shared_by_tests.normalised_values import values_for_each_channel

from gluon_aff.models import MODELS
from gluon_aff.pytorch import get_model
from gluon_aff.pytorch.parameters import load_arrays, parameter_names


@pytest.fixture(scope="module", params=EACH_GOLDEN)
def measured(request):
    """Everything a golden file says of a network, measured on ours in one go."""
    net = get_model(request.param)
    golden = json.loads(GOLDENS[request.param].read_text())
    names = parameter_names(net)
    tensors = net.state_dict()
    zeros = [name for key, name in names.items() if name.endswith("gamma") and not tensors[key].any()]
    values = {name: golden_value(name, tuple(tensors[key].shape)) for key, name in names.items()}
    load_arrays(net, values, "goldens")
    with torch.no_grad():
        logits = net.eval()(torch.from_numpy(described_array(golden["input"]))).numpy()
    images, labels = torch.from_numpy(described_array(golden["train_input"])), torch.tensor(golden["train_labels"])
    output, counts = values_for_each_channel(net.train(), images)
    loss = F.cross_entropy(output, labels)
    loss.backward()
    return request.param, golden, net, names, logits, loss.item(), counts, values, zeros


def test_names_order_shapes_and_what_trains(measured):
    name, golden, net, names, *_ = measured
    tensors = net.state_dict()
    trained = {key for key, parameter in net.named_parameters() if parameter.requires_grad}
    found = [[name, list(tensors[key].shape), "write" if key in trained else "null"] for key, name in names.items()]
    assert found == golden["parameters"]
    assert (
        sum(p.numel() for p in net.parameters() if p.requires_grad) == golden["n_trainable"] == MODELS[name].trainable
    )


def test_logits(measured):
    _, golden, _, _, logits, *_ = measured
    expected = np.array(golden["logits_inference"])
    np.testing.assert_allclose(logits[:, :20], expected, rtol=0, atol=1e-5 * np.abs(logits).max())
    assert logits.argmax(axis=1).tolist() == golden["argmax"]
    np.testing.assert_allclose(np.linalg.norm(logits, axis=1), golden["logits_l2"], rtol=1e-5)


def test_training_loss_and_gradient_norms(measured):
    _, golden, net, names, _, loss, *_ = measured
    assert loss == pytest.approx(golden["train_mode_loss"], rel=1e-3)
    gradients = {names[key]: parameter.grad for key, parameter in net.named_parameters()}
    norms = {name: float(gradients[name].norm()) for name in golden["train_mode_grad_l2"]}
    assert norms == pytest.approx(golden["train_mode_grad_l2"], rel=2e-2)


def test_running_statistics_after_one_step(measured):
    """MXNet's variance on CPUs is the biased one; PyTorch's, as cuDNN's, is unbiased: n / (n - 1) times as large."""
    _, golden, net, names, _, _, counts, values, _ = measured
    arrays, tensors = {}, net.state_dict()
    for key, name in names.items():
        array = tensors[key].numpy()
        if key in counts:
            new = array - 0.9 * values[name]
            array = 0.9 * values[name] + new * (counts[key] - 1) / counts[key]
        arrays[name] = array
    check_sums(arrays, golden["running_stat_sums_after_one_step"])


def test_gammas_that_start_at_zero(measured):
    _, golden, *_, zeros = measured
    assert zeros == golden["zero_initialised_gamma"]
