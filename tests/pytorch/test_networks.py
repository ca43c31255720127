"""What PyTorch's users do with networks: other heads, features, compiling, tracing, exporting, training on."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.distributed
import torch.nn.functional as F
from shared_by_tests.small_networks import SMALL
from torch import nn

from gluon_aff.errors import InputError
from gluon_aff.models import HOSTS, MODELS, SEGMENTATION_HOST
from gluon_aff.pytorch import get_model
from gluon_aff.pytorch.fusion import Fusing
from gluon_aff.pytorch.networks import AFFFPN, FeatureMaps
from gluon_aff.pytorch.networks.cifar_resnet import PreActivationBlock
from gluon_aff.pytorch.networks.layers import ImageNorm
from gluon_aff.pytorch.networks.resnet import BasicBlock, Bottleneck
from gluon_aff.pytorch.networks.resnext import ResNeXtBlock


def test_hosts_are_all_here():
    missing = {host for host in HOSTS if host not in {MODELS[name].host for name in SMALL}}
    assert missing == {"afi_cifar_resnext29", "afi_imagenet_resnet"}  # bottlenecks in groups, as the others are


def small(name, **arguments):
    torch.manual_seed(0)
    return get_model(name, **{**SMALL[name], **arguments})


def images(count=2, side=64, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 3, side, side)).astype("float32"))


@pytest.mark.parametrize("name", [name for name in SMALL if MODELS[name].host != SEGMENTATION_HOST])
def test_heads_as_in_timm(name):
    net = small(name, classes=7).eval()
    x = images(1, 32)
    with torch.no_grad():
        maps, logits = net.forward_features(x), net(x)
        assert maps.shape[:2] == (1, net.num_features)
        torch.testing.assert_close(net.forward_head(maps), logits)
        before = net.forward_head(maps, pre_logits=True)
        torch.testing.assert_close(before, maps.mean(dim=(2, 3)))
        assert net.get_classifier() is getattr(net, net.head_name)
        assert (net.num_classes, logits.shape) == (7, (1, 7))
        net.reset_classifier(5)
        assert (net.num_classes, net(x).shape) == (5, (1, 5))
        net.reset_classifier(0)
        torch.testing.assert_close(net(x), before)
        assert isinstance(net.get_classifier(), nn.Identity)
    with pytest.raises(InputError, match="classes=-1: the number of outputs is a whole number from 1"):
        net.reset_classifier(-1)


@pytest.mark.parametrize("name", ["aff_resnet50", "resnet20_b1"])
def test_a_new_head_is_where_the_old_one_was_and_of_its_type(name):
    """The first parameter of the second is a BatchNorm's, which is float32 in every network."""
    net = small(name, dtype="bfloat16")
    net.reset_classifier(3)
    head = net.get_classifier()
    assert head.weight.dtype == torch.bfloat16
    assert not head.bias.any()


@pytest.mark.parametrize("name", SMALL)
def test_features_of_a_narrower_type(name):
    outputs = small(name, dtype="bfloat16", features_only=True).eval()(images().bfloat16())
    assert {each.dtype for each in outputs} == {torch.bfloat16}


@pytest.mark.parametrize("name", SMALL)
def test_features_only(name):
    net = small(name)
    maps = FeatureMaps(net)
    last = net.forward_features if hasattr(net, "forward_features") else None
    with torch.no_grad():
        outputs = maps.eval()(images(1, 64))
    assert [each.shape[1] for each in outputs] == maps.widths
    assert [64 // each.shape[2] for each in outputs] == maps.strides
    assert maps.strides == sorted(maps.strides)
    assert [name for name, _ in maps.named_children()] == [f"stage{i + 1}" for i in range(len(maps.strides))]
    if last and "mobilenet" not in name and "shufflenet" not in name:
        assert outputs[-1].shape[1] == net.num_features


def test_features_with_checkpointing_keep_less():
    sizes = {}
    for checkpointing in (False, True):
        maps = small("aff_resnet50", features_only=True, grad_checkpointing=checkpointing)
        kept = sizes.setdefault(checkpointing, [])
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t.numel()) or t, lambda t: t):
            maps(images())
    assert sum(sizes[True]) < 0.8 * sum(sizes[False])


def test_some_features_only():
    net = small("aff_resnet50").eval()
    x = images()
    with torch.no_grad():
        every, some = FeatureMaps(net)(x), FeatureMaps(net, [0, -2])(x)
    torch.testing.assert_close(some, [every[0], every[2]])
    assert FeatureMaps(net, [0, -2]).widths == [256, 1024]
    assert len(list(FeatureMaps(net, [1, 0]).children())) == 2  # without the stages that follow
    with pytest.raises(InputError, match=r"out_indices=\[4\]: the stages are 0 to 3"):
        FeatureMaps(net, [4])
    assert isinstance(get_model("resnet20_b1", features_only=True), FeatureMaps)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:DeprecationWarning")
@pytest.mark.parametrize("name", SMALL)
def test_copies_layouts_and_traces_give_the_same(name):
    net = small(name).eval()
    x = images()
    with torch.no_grad():
        expected = net(x)
        torch.testing.assert_close(copy.deepcopy(net)(x), expected, rtol=0, atol=0)
        laid_out = copy.deepcopy(net).to(memory_format=torch.channels_last)
        torch.testing.assert_close(laid_out(x.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-5)
        traced = torch.jit.trace(net, images(3, 32), check_trace=False)
        torch.testing.assert_close(traced(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["resnet20_b1", "aff_resnet50", "resnet20_fpn_b1", "afi_resnet32_cifar100"])
def test_export_of_any_batch(name):
    net = small(name).eval()
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(net, (images(3),), dynamic_shapes=({0: batch},))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images(5)), net(images(5)), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
@pytest.mark.parametrize("name", ["resnet20_b1", "afi_resnet32_cifar100"])
def test_compile_makes_one_graph_in_training(name):
    net = small(name)
    state = copy.deepcopy(net.state_dict())
    x = images()
    net(x).square().mean().backward()
    expected = {key: parameter.grad.clone() for key, parameter in net.named_parameters() if parameter.requires_grad}
    net.load_state_dict(state)
    net.zero_grad()
    torch.compile(net, fullgraph=True, backend="aot_eager")(x).square().mean().backward()
    for key, gradient in expected.items():
        torch.testing.assert_close(net.get_parameter(key).grad, gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "dtype"),
    # A CPU emulates float16, which takes ten times as long: one network of each kind has it
    [*((name, torch.bfloat16) for name in SMALL), ("resnet20_b1", torch.float16), ("resnet20_fpn_b1", torch.float16)],
)
def test_autocast_trains(name, dtype):
    net = small(name)
    with torch.autocast("cpu", dtype):
        output = net(images())
    output.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", SMALL)
def test_types_as_in_mxnets_files(name):
    net = small(name, dtype="float16")
    kinds = {
        type(module): next(module.parameters()).dtype for module in net.modules() if list(module.parameters(False))
    }
    assert kinds.pop(nn.BatchNorm2d) == torch.float32
    kinds.pop(ImageNorm, None)
    assert set(kinds.values()) == {torch.float16}
    assert get_model("resnet20_b1", dtype=torch.bfloat16).output.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("name", SMALL)
def test_checkpointing_changes_nothing_but_the_memory(name):
    """The blocks are run twice, and their running statistics are updated once."""
    kept, computed_again = small(name), small(name, grad_checkpointing=True)
    x = images()
    saved, first_pass = [], []
    for net in (kept, computed_again):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            torch.manual_seed(1)
            loss = net(x).square().mean()
        first_pass.append({key: buffer.clone() for key, buffer in net.named_buffers() if "running" in key})
        loss.backward()
        saved.append(sum(sizes))
    assert saved[1] < 0.8 * saved[0]
    for (key, one), other in zip(kept.named_parameters(), computed_again.parameters()):
        if one.requires_grad:
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-6, msg=key)
    for key, buffer in first_pass[0].items():
        assert torch.equal(first_pass[1][key], buffer), key
        assert torch.equal(computed_again.get_buffer(key), buffer), key


@pytest.fixture
def one_process_group(tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process_group")
@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_is_used_so_that_ddp_needs_no_search(name):
    net = nn.parallel.DistributedDataParallel(small(name))
    for _ in range(2):  # a parameter left out of the first step raises in the second
        net(images()).square().mean().backward()


def test_initial_values_are_mxnets():
    """Xavier, uniform, of the mean of the fans and magnitude 3; biases 0, gammas 1, and last gammas as published."""
    torch.manual_seed(0)
    net = get_model("aff_resnet50")
    weight = net.layer4[0].conv2.weight.detach()
    bound = math.sqrt(3 / (9 * (512 + 512) / 2))
    assert weight.abs().max().item() == pytest.approx(bound, rel=1e-4)
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=1e-2)
    grouped = get_model("aff_resnext50_32x4d").features[-1][0].body[3].weight.detach()  # 32 groups of 32 channels
    assert grouped.abs().max().item() == pytest.approx(math.sqrt(3 / (9 * (1024 + 32) / 2)), rel=1e-3)
    for key, parameter in net.named_parameters():
        if key.endswith("bias"):
            assert not parameter.any(), key
        elif parameter.dim() == 1:
            assert (parameter == (0 if ".bn3." in key else 1)).all(), key
    assert net.fc.weight.abs().max().item() == pytest.approx(math.sqrt(3 / ((2048 + 1000) / 2)), rel=1e-3)


@pytest.mark.parametrize("name", SMALL)
def test_every_layer_starts_from_xaviers_values(name):
    for key, layer in small(name).named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            area = layer.weight[0, 0].numel()
            bound = math.sqrt(3 / (area * sum(layer.weight.shape[:2]) / 2))
            largest = layer.weight.abs().max().item()
            assert largest <= bound, key
            assert largest > 0.95 * bound or layer.weight.numel() < 200, key
            assert layer.bias is None or not layer.bias.any(), key


def test_last_gammas():
    """`last_gamma` means the opposite in the two hosts of the original; `zero_init_last` does not."""

    def last(name, **arguments):
        net = get_model(name, layers=(1, 1, 1, 1), **arguments)
        block = net.layer1[0] if hasattr(net, "layer1") else net.features[-1][0].body
        norm = [layer for layer in block.children() if isinstance(layer, nn.BatchNorm2d)][-1]
        return norm.weight.max().item()

    for name in ("aff_resnet18", "aff_resnet50"):
        assert last(name) == last(name, last_gamma=True) == 0
        assert last(name, last_gamma=False) == last(name, zero_init_last=False) == 1
    assert last("aff_resnext50_32x4d") == last("aff_resnext50_32x4d", last_gamma=False) == 0
    assert last("aff_resnext50_32x4d", last_gamma=True) == last("aff_resnext50_32x4d", zero_last_gamma=False) == 1
    assert last("aff_resnext50_32x4d", zero_init_last=False) == 1


def test_the_image_norm_takes_its_gamma_for_one_and_keeps_its_beta():
    norm = ImageNorm().eval()
    norm.weight.data.fill_(5)
    norm.bias.data.copy_(torch.tensor([0.5, 0.0, -0.5]))
    x = images(1, 4)
    torch.testing.assert_close(norm(x), x / math.sqrt(1 + 1e-5) + norm.bias[:, None, None])
    assert not any(parameter.requires_grad for parameter in norm.parameters())


def test_dropout_before_the_head():
    net = small("aff_resnet50", final_drop=0.5)
    assert (net.drop.p, small("aff_resnet50", drop_rate=0.25).drop.p) == (0.5, 0.25)
    torch.manual_seed(0)
    dropped = net.forward_head(torch.ones(1, 2048, 2, 2), pre_logits=True)
    assert sorted(dropped.unique().tolist()) == [0, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "aff_resnet5"}, "unknown model 'aff_resnet5': did you mean aff_resnet50"),
        ({"name": "aff_resnet50", "fusion": "Aff"}, "unknown fusion"),
        ({"name": "aff_resnet50", "dtype": "float8"}, "unknown dtype 'float8'"),
        ({"name": "aff_resnet50", "dtype": torch.float64}, "unknown dtype 'torch.float64'"),
        ({"name": "aff_resnet50", "classes": 0}, "classes=0: the number of outputs"),
        ({"name": "aff_resnet50", "block": "base"}, "unknown block 'base'"),
        ({"name": "aff_resnet50", "stages": [1]}, "aff_resnet50 integrates no features"),
        ({"name": "resnet50", "r": 4}, "r: a plain network integrates no features"),
        ({"name": "afi_resnet50", "fusion": "AFF"}, "fusion AFF: AFINets and their plain versions have no fusion"),
        ({"name": "afi_resnet50", "stages": [5]}, "name those that integrate features, from 1 to 4"),
        ({"name": "afi_resnet32_cifar100", "stages": [4]}, "name those that integrate features, from 1 to 3"),
        ({"name": "afi_resnext29_32x4d_cifar100", "stages": [4]}, "name those that integrate features, from 1 to 3"),
        ({"name": "afi_shufflenet_v2_cifar100", "stages": [4]}, "name those that integrate features, from 1 to 3"),
        ({"name": "afi_mobilenet_v2_cifar100", "stages": [6]}, "name those that integrate features, from 1 to 5"),
        ({"name": "inception_resnet20_b1", "inner": "half"}, "unknown inner width"),
        ({"name": "resnet20_fpn_b1", "stem": "huge"}, "unknown stem"),
        ({"name": "resnet20_fpn_b1", "fuse_order": "top"}, "unknown fuse order 'top': did you mean top-down"),
        ({"name": "aff_resnet50", "pretrained": "fine"}, "unknown label set"),
        ({"name": "resnet50", "pretrained": True}, "no weights of resnet50 were published"),
    ],
)
def test_what_cannot_be(arguments, message):
    with pytest.raises(InputError, match=message):
        get_model(**arguments)


@pytest.mark.parametrize(("layers", "channels"), [((1, 1), (4, 8, 8, 8)), ((1, 1, 1), (4, 8, 8)), ((1,), (4, 8))])
def test_a_pyramid_of_levels_that_do_not_fit(layers, channels):
    assert AFFFPN(Fusing(skip="long"), (1, 1), (4, 8, 8), 3)(images()).shape == (2, 3, 64, 64)
    with pytest.raises(InputError, match=r"widths \[4, 8.*: give one for the stem and each of two or more stages"):
        AFFFPN(Fusing(skip="long"), layers, channels)


@pytest.mark.parametrize(("width", "stride", "plain"), [(8, 1, True), (8, 2, False), (12, 1, False), (12, 2, False)])
@pytest.mark.parametrize(
    "make",
    [
        lambda width, **more: PreActivationBlock(Fusing(), 8, width, inner_channels=5, **more),
        lambda width, **more: BasicBlock(Fusing(), 8, width, **more),
        lambda width, **more: ResNeXtBlock(
            Fusing(), 8, width // 4, cardinality=1, bottleneck_width=64, zero_init_last=False, use_se=False, **more
        ),
        lambda width, **more: Bottleneck(Fusing(), 8, width // 4, dilation=1, zero_init_last=False, **more),
    ],
)
def test_a_shortcut_is_projected_where_width_or_size_changes(make, width, stride, plain):
    for avg_down in (True, False):
        block = make(width, stride=stride, avg_down=avg_down)
        assert isinstance(block.downsample, nn.Identity) == plain
        assert plain or isinstance(block.downsample[0], nn.AvgPool2d) == avg_down
        assert block(images(2, 6).repeat(1, 3, 1, 1)[:, :8]).shape == (2, width, 6 // stride, 6 // stride)


def test_a_step_lowers_the_loss():
    net = small("resnet20_b1", classes=4)
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    x, y = images(8, 32), torch.arange(8) % 4
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
