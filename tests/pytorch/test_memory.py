"""What autograd keeps for the backward pass, and the memory of a process that trains."""

import gc
import json
import weakref

import pytest
import torch
from torch import nn

from gluon_aff.cli import main
from gluon_aff.engines import Devices
from gluon_aff.models import model_record
from gluon_aff.pytorch import get_model
from gluon_aff.pytorch.fusion import AFI
from gluon_aff.pytorch.inspection import memory
from gluon_aff.pytorch.inspection.memory import forward

FLOAT = 4  # bytes


class Parts(nn.Module):
    """Squares the two halves of what it gets: each square keeps its half."""

    def forward(self, x):
        first, second = x.chunk(2, dim=1)
        return first.square() + second.square()


def kept(net, images):
    return forward(net, images)[1]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_bytes_that_are_kept_counted_by_hand(device):
    """The images, each convolution's output for its BatchNorm with means and variances, and what the ReLU gives."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 1))
    images = torch.zeros(2, 3, 6, 6, device=device)
    maps = 2 * 4 * 6 * 6
    assert kept(net.to(device), images) == FLOAT * (images.numel() + maps + 2 * 4 + maps)


def test_a_storage_counts_once_and_whole_however_many_views_of_it_are_kept():
    images = torch.zeros(2, 4, 6, 6, requires_grad=True)
    assert kept(Parts(), images) == FLOAT * images.numel()
    assert kept(nn.Sequential(nn.Identity(), Parts()), images[:1]) == FLOAT * images.numel()


def test_nothing_is_kept_without_gradients():
    with torch.no_grad():
        assert kept(get_model("resnet20_b1"), torch.zeros(2, 3, 32, 32)) == 0


def test_outputs_and_gradients_stay_the_same():
    net, images = get_model("afi_resnet32_cifar100"), torch.randn(2, 3, 32, 32)
    found = []
    for outputs in (net(images), forward(net, images)[0]):
        net.zero_grad()
        outputs.square().sum().backward()
        found.append([outputs.detach(), *(parameter.grad.clone() for parameter in net.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found))


def test_a_graph_that_was_counted_is_freed():
    """What is kept must not keep itself."""
    gc.disable()
    try:
        outputs, _ = forward(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sigmoid()), torch.zeros(1, 3, 4, 4))
        freed = weakref.ref(outputs)
        del outputs
        assert freed() is None
    finally:
        gc.enable()


TWO_CLASSES = model_record("resnet20_b1").architecture(classes=2)


def test_training_is_measured_with_gradients_beside_momentum(monkeypatch):
    """That is so from the second step on; weight decay takes memory too."""
    calls = []

    class Watched(memory.NAG):
        def zero_grad(self):
            calls.append("zero")
            super().zero_grad()

        def step(self):
            calls.append("step")
            super().step()
            momenta = [state["momentum"] for state in self.state.values()]
            calls.append(len(momenta) > 50 and all(momentum.isfinite().all() for momentum in momenta))
            assert self.defaults["weight_decay"]

    monkeypatch.setattr(memory, "NAG", Watched)
    found = memory.measure(TWO_CLASSES, 5, True, Devices())
    assert calls == ["zero", "step", True] * 2
    net, images = get_model("resnet20_b1", classes=2, device="meta"), torch.empty(5, 3, 32, 32, device="meta")
    assert found["saved"] == kept(net, images) / 2**20


def test_inference_is_measured_with_nothing_kept(monkeypatch):
    net, modes = get_model("resnet20_b1", classes=2), []
    net.register_forward_hook(lambda net, _, logits: modes.append((net.training, logits.is_inference())))
    monkeypatch.setattr(memory, "build", lambda _: net)
    assert "saved" not in memory.measure(TWO_CLASSES, 5, False, Devices())
    assert modes == [(False, True)] * 2


def test_on_a_gpu_the_figures_are_of_tensors(pretended_gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: {"cuda:3": 5 * 2**20}[str(device)])
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: {"cuda:3": 7 * 2**20}[str(device)])
    found = memory.measure(TWO_CLASSES, 2, False, Devices("gpu", (3,)))
    assert found == {"device": "gpu(3)", "of": "tensors", "before": 5, "peak": 5, "reserved": 7}
    assert set(pretended_gpu) == {"cuda:3"}


def test_the_command_measures_processes_and_counts_in_the_one_that_trains(capsys):
    assert main(["memory", "--engine", "torch", "--model", "resnet20_b1", "--batch-size", "128", "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    saved = kept(get_model("resnet20_b1", device="meta"), torch.empty(128, 3, 32, 32, device="meta"))
    assert facts["training"]["saved"] == saved / 2**20
    assert "saved" not in facts["inference"]
    held = {mode: facts[mode]["peak"] - facts[mode]["before"] for mode in ("training", "inference")}
    assert held["training"] > max(facts["training"]["saved"], held["inference"])
    assert held["inference"] > 4


def test_afi_keeps_less_than_its_host_as_in_table_6():
    """AFINets, Table 6: ResNet-50 and AFI-ResNet-50, 64 images of 224 x 224 at a time; counted without computing."""
    images = torch.empty(64, 3, 224, 224, device="meta")
    host, integrating = (kept(get_model(name, device="meta"), images) / 2**20 for name in ("resnet50", "afi_resnet50"))
    assert (round(host), round(integrating)) == (5244, 5144)


def test_the_integrated_feature_is_of_the_type_of_the_features():
    """Under autocast on a GPU, scores are float32 and features are not."""

    class InFloat(nn.Module):
        def forward(self, x):
            return x.float()

    integrate = AFI(8, 4).to(torch.bfloat16)
    integrate.score = nn.Sequential(integrate.score, InFloat())
    assert integrate([torch.ones(2, 8, 3, 3, dtype=torch.bfloat16)] * 2).dtype == torch.bfloat16
