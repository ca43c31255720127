"""Counts against the original's figures (networks.md) and by hand."""

import json

import mxnet as mx
import pytest
from mxnet.gluon import nn

from gluon_aff import get_model
from gluon_aff.cli import main
from gluon_aff.errors import InputError
from gluon_aff.gluon.fusion.context import sequential
from gluon_aff.gluon.inspection.layers import named_layers
from gluon_aff.gluon.inspection.summary import count_layers, layer_counts
from gluon_aff.inspection.summary import format_counts
from gluon_aff.models import MODELS

ORIGINAL_FLOPS = {
    "aff_resnet32_cifar100": 1_133_120_084,
    "aff_resnext38_32x4d_cifar100": 1_038_187_044,
    "aff_resnext47_32x4d_cifar100": 1_265_783_188,
    "aff_resnet50": 4_566_054_504,
    "iaff_resnet50": 4_801_237_224,
    "aff_resnext50_32x4d": 5_611_722_344,
    "iaff_resnext50_32x4d": 5_846_905_064,
}


@pytest.mark.parametrize("name", ORIGINAL_FLOPS)
def test_the_originals_figures(name):
    counts = count_layers(MODELS[name].architecture(), MODELS[name].input_size)
    assert sum(c.original_count for c in counts) == ORIGINAL_FLOPS[name]
    assert sum(c.trainable for c in counts) == MODELS[name].trainable


def test_multiply_adds_by_hand():
    """A grouped 3x3 convolution of 8 to 16 channels on 6x6, and dense layers of 6 to 5, for each row, and 16 to 10."""
    net = sequential(
        nn.Conv2D(8, 1, use_bias=False),
        nn.BatchNorm(),
        nn.Conv2D(16, 3, 1, 1, groups=4),
        nn.Dense(5, flatten=False),
        nn.GlobalAvgPool2D(),
        nn.Dense(10),
    )
    net.initialize()
    first, norm, grouped, rows, dense = layer_counts(net, 6)
    assert not any(layer._forward_hooks for _, layer in named_layers(net))
    assert (first.multiply_adds, first.original_count) == (36 * 8 * 3, 36 * 8 * 3)
    assert (norm.multiply_adds, norm.original_count) == (0, 0)
    assert (rows.multiply_adds, rows.original_count) == (16 * 6 * 6 * 5, 2 * 30 - 6 + 5)
    assert grouped.multiply_adds == 36 * 16 * (8 // 4) * 9
    assert grouped.original_count == 36 * (16 * 2 * 9 // 4 + 16)
    assert (dense.multiply_adds, dense.original_count) == (160, 2 * 160 - 16 + 10)
    assert grouped.trainable == 16 * 2 * 9 + 16


def test_table_totals():
    counts = count_layers(MODELS["aff_resnet32_cifar100"].architecture(), 32)
    assert "trainable parameters: 7,897,156" in format_counts(counts)
    assert "values in the file, with BatchNorm's running statistics and constant gammas: 7,917,456" in format_counts(
        counts
    )
    assert "FLOPs as original at batch 1: 1,133,120,084" in format_counts(counts, "original_count")


def test_a_size_that_is_not_too_small_is_not_called_so(monkeypatch):
    """Memory that is missing, say."""

    def infer(*arguments):
        raise mx.MXNetError("out of memory")

    net = get_model("resnet20_b1", ctx=mx.cpu())
    monkeypatch.setattr(type(net), "hybrid_forward", infer)
    with pytest.raises(mx.MXNetError, match="out of memory"):
        layer_counts(net, 32)
    with pytest.raises(InputError, match="--input-size 31 is too small"):
        layer_counts(net, 31)


def summary(capsys, *arguments):
    """The last three lines by what they say, with their figures."""
    assert main(["summary", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()[-3:]
    return {title: int(figure.replace(",", "")) for title, figure in (line.rsplit(": ", 1) for line in lines)}


def test_every_option_of_the_command_acts(capsys):
    """Counts of the papers: Table 3 of r = 2, AFINets' Table 1; their FLOPs for a batch of 32."""
    trainable, title = "trainable parameters", "{} at batch 1"
    plain = summary(capsys, "resnet20_b1")
    assert plain[trainable] == 89_916
    assert summary(capsys, "resnet20_b1", "--fusion", "MS-SA", "--r", "2")[trainable] == 95_460
    assert summary(capsys, "resnet20_b1", "--classes", "10")[trainable] == 89_916 - 90 * (64 + 1)
    assert summary(capsys, "afi_resnet32_cifar100", "--stages", "1")[trainable] == 468_212
    doubled = summary(capsys, "resnet20_b1", "--input-size", "64")
    assert doubled[trainable] == plain[trainable]
    maps, maps_doubled = (counts[title.format("multiply-adds")] for counts in (plain, doubled))
    assert 3.9 < maps_doubled / maps < 4  # but for the head and the pooled contexts
    original = summary(capsys, "aff_resnet32_cifar100", "--as-original")
    assert original[title.format("FLOPs as original")] == 1_133_120_084
    thop = summary(capsys, "resnet32_cifar100", "--as-thop")[title.format("FLOPs as thop")]
    assert 32 * thop / 1e9 == pytest.approx(2.23, abs=0.00501)
    assert main(["summary", "resnet20_b1", "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)
    assert sum(layer["trainable"] for layer in layers) == plain[trainable]
    assert layers[-1]["output_shape"] == [1, 100]
    assert layers[-1]["multiply_adds"] == 64 * 100
