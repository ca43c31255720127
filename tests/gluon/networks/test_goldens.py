"""The seven published networks against figures measured on the original's (tests/goldens)."""

import mxnet as mx
import numpy as np
import pytest
from shared_by_tests.golden_networks import with_golden_parameters
from shared_by_tests.golden_values import EACH_GOLDEN, GOLDENS, check_sums, described_array

from gluon_aff import list_models
from gluon_aff.models import MODELS


def test_every_model_has_a_golden():
    assert set(GOLDENS) == set(list_models(published=True))


@pytest.fixture(scope="module", params=EACH_GOLDEN)
def measured(request):
    """Everything a golden file says of a network, measured on ours in one go."""
    net, golden, zeros = with_golden_parameters(request.param)
    parameters = net._collect_params_with_prefix()
    logits = net(mx.nd.array(described_array(golden["input"]))).asnumpy()
    data, labels = mx.nd.array(described_array(golden["train_input"])), mx.nd.array(golden["train_labels"])
    with mx.autograd.record():
        loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(net(data), labels).mean()
    loss.backward()
    mx.nd.waitall()  # for running statistics, which MXNet gives away too early where memory is static
    return request.param, golden, parameters, logits, float(loss.asscalar()), zeros


def test_names_order_shapes_and_grad_req(measured):
    _, golden, parameters, *_ = measured
    assert [[n, list(p.shape), p.grad_req] for n, p in parameters.items()] == golden["parameters"]


def test_trainable_count_as_recorded(measured):
    name, golden, parameters, *_ = measured
    trainable = sum(int(np.prod(p.shape)) for p in parameters.values() if p.grad_req != "null")
    assert trainable == golden["n_trainable"] == MODELS[name].trainable


def test_logits(measured):
    _, golden, _, logits, *_ = measured
    expected = np.array(golden["logits_inference"])
    np.testing.assert_allclose(logits[:, :20], expected, rtol=0, atol=1e-5 * np.abs(logits).max())
    assert logits.argmax(axis=1).tolist() == golden["argmax"]
    np.testing.assert_allclose(np.linalg.norm(logits, axis=1), golden["logits_l2"], rtol=1e-5)


def test_training_loss(measured):
    _, golden, _, _, loss, _ = measured
    assert loss == pytest.approx(golden["train_mode_loss"], rel=1e-3)


def test_gradient_norms(measured):
    _, golden, parameters, *_ = measured
    norms = {n: float(np.linalg.norm(parameters[n].grad().asnumpy())) for n in golden["train_mode_grad_l2"]}
    assert norms == pytest.approx(golden["train_mode_grad_l2"], rel=2e-2)


def test_running_statistics_after_one_step(measured):
    _, golden, parameters, *_ = measured
    expected = golden["running_stat_sums_after_one_step"]
    check_sums({name: parameters[name].data().asnumpy() for name in expected}, expected)


def test_gammas_that_start_at_zero(measured):
    _, golden, *_, zeros = measured
    assert zeros == golden["zero_initialised_gamma"]
