"""What a PyTorch learner learns, keeps and refuses; beside MXNet's learner from the same weights."""

from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest
import torch

from gluon_aff.engines import Classification, Devices, LearnerSettings, Optimizer, Pixels, Segmentation, Start
from gluon_aff.errors import InputError
from gluon_aff.gluon.cluster import Cluster
from gluon_aff.gluon.learner import learner as gluon_learner
from gluon_aff.models import Architecture
from gluon_aff.pytorch import devices as torch_devices
from gluon_aff.pytorch.cluster import TorchCluster
from gluon_aff.pytorch.learner import LOSS_SCALE, TorchLearner, learner
from gluon_aff.pytorch.objectives import Classes
from gluon_aff.schedule import Schedule
from gluon_aff.weights.params_format import write_params_file
from gluon_aff.weights.states_pickle import read_pickle

BATCH, SIZE, CLASSES = 8, 32, 4
SMALL = Architecture(
    "small", "cifar_resnet", {"askc_type": "AFF", "blocks": 1, "channel_times": 1, "classes": CLASSES}, SIZE
)
PYRAMID = Architecture("pyramid", "fpn", {"askc_type": "AFF", "blocks": 1, "stem": "tiny"}, SIZE)
OPTIMIZERS = {
    "nag": Optimizer("nag", Schedule("cosine", 2e-4, 1, 4, 3), 1e-2, 0.9, no_wd=True),
    "sgd": Optimizer("sgd", 1e-3, 1e-2, 0.9),
    "plain": Optimizer("sgd", 1e-3, 1e-2, 0.0),
    "adagrad": Optimizer("adagrad", Schedule("poly", 1e-4, 0, 4, 3), 1e-2),
}


def settings(**changed):
    usual = LearnerSettings(SMALL, (BATCH, 3, SIZE, SIZE), Classification(CLASSES), OPTIMIZERS["nag"], seed=1)
    return replace(usual, **changed)


def made(**changed):
    return learner(settings(**changed), Devices(), TorchCluster())


def made_in_mxnet(**changed):
    return gluon_learner(settings(**changed), Devices(), Cluster())


def batch(number, masks=False):
    random = np.random.RandomState(number)
    images = random.normal(size=(BATCH, 3, SIZE, SIZE)).astype("float32")
    if masks:
        return images, (random.normal(size=(BATCH, 1, SIZE, SIZE)) > 0).astype("float32")
    return images, random.randint(0, CLASSES, BATCH).astype("float32")


def train(trained, numbers, weight=0.3, masks=False):
    return [trained.step(*batch(number, masks), weight, False)() for number in numbers]


@pytest.mark.parametrize("weight", [0.3, 1])
def test_a_step_on_pixels_is_the_step_on_what_they_become(weight):
    random = np.random.default_rng(0)
    pixels = Pixels(random.integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8), (120, 110, 100), (60, 50, 40))
    images = ((pixels.values - np.array(pixels.mean)) / pixels.std).transpose(0, 3, 1, 2).astype("float32")
    labels = random.integers(0, CLASSES, BATCH).astype("float32")
    learners = [made(objective=Classification(CLASSES, mixup=True), optimizer=OPTIMIZERS["plain"]) for _ in range(2)]
    found, expected = (each.step(given, labels, weight, False)() for each, given in zip(learners, (pixels, images)))
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    assert found.metric == pytest.approx(expected.metric, rel=1e-6)
    updated, wanted = (each.parameters() for each in learners)
    for name, array in wanted.items():
        np.testing.assert_allclose(updated[name], array, rtol=0, atol=1e-6, err_msg=name)


def without_dropout(*nets):
    """Which is random, and so not the same in two engines."""
    for net in nets:
        if isinstance(net, torch.nn.Module):
            for layer in net.modules():
                if isinstance(layer, torch.nn.Dropout):
                    layer.p = 0.0
        else:
            net.apply(lambda layer: setattr(layer, "_rate", 0) if isinstance(layer, mx.gluon.nn.Dropout) else None)


def far(expected, found):
    """Largest difference of each array but the running variance, relative to its root mean square or a tenth."""
    assert list(expected) == list(found)
    return {
        name: np.abs(expected[name].astype("float64") - found[name]).max() / max(np.std(expected[name]), 0.1)
        for name in expected
        if "running_var" not in name  # unbiased in PyTorch
    }


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("objective", [Classification(CLASSES, 0.1, mixup=True), Segmentation()])
def test_a_run_goes_on_under_the_other_engine(optimizer, objective):
    """Three steps here, the state across, three steps there: the weights are those of six steps of MXNet's."""
    masks = isinstance(objective, Segmentation)
    changed = {"objective": objective, "optimizer": OPTIMIZERS[optimizer], "architecture": PYRAMID if masks else SMALL}
    there, whole = made_in_mxnet(**changed), made_in_mxnet(**changed)
    here = made(**changed)
    without_dropout(there.net, whole.net, here.net)
    here.restore(there.state(), "the test")
    figures = train(here, range(3), masks=masks)
    there.restore(here.state(), "the test")
    assert there.state().updates == here.updates == 3
    figures += train(there, range(3, 6), masks=masks)
    here.restore(there.state(), "the test")
    expected = train(whole, range(6), masks=masks)
    assert [each.loss for each in figures] == pytest.approx([each.loss for each in expected], rel=1e-4)
    assert [each.metric for each in figures] == pytest.approx([each.metric for each in expected], rel=1e-3, abs=1e-6)
    assert here.learning_rate == whole.learning_rate
    differences = far(whole.parameters(), here.parameters())
    assert max(differences.values()) < 1e-3, max(differences, key=differences.get)
    kept, found = whole.state().optimizer, here.state().optimizer
    assert set(kept) == set(found)
    assert all(kept[name].shape == found[name].shape and kept[name].dtype == found[name].dtype for name in kept)


def test_what_is_restored_goes_on_to_the_same_bits():
    first, second = made(), made(seed=2)
    train(first, range(3))
    second.restore(first.state(), "the test")
    assert train(first, range(3, 6)) == train(second, range(3, 6))
    for name, array in first.parameters().items():
        np.testing.assert_array_equal(array, second.parameters()[name], err_msg=name)


def test_the_seed_decides_the_weights():
    one, same, other = (made(seed=seed).parameters()["features.1.weight"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_the_seed_decides_the_dropout():
    architecture = replace(PYRAMID, settings={**PYRAMID.settings, "stem": "normal"})
    one, other = (made(objective=Segmentation(), architecture=architecture) for _ in range(2))
    for seed in (3, 4):
        one.seed(3)
        figures = train(one, [0], masks=True)
        other.seed(seed)
        assert (train(other, [0], masks=True) == figures) == (seed == 3)


@pytest.mark.parametrize(
    ("initializer", "uniform", "magnitude"), [("xavier", True, 3), ("msraprelu", False, 2 / 1.0625)]
)
def test_initial_values_are_of_mxnets_distributions(initializer, uniform, magnitude):
    """`mx.init.Xavier`: variance magnitude/3/fan for uniform ones, magnitude/fan for normal ones; fan the mean."""
    weight = made(initializer=initializer).parameters()["features.4.0.resfwd.5.weight"]  # 64 x 64 x 3 x 3
    fan = (weight.shape[0] + weight.shape[1]) / 2 * 9
    variance = magnitude / fan / (3 if uniform else 1)
    assert weight.var() == pytest.approx(variance, rel=0.05)
    assert (np.abs(weight).max() <= np.sqrt(3 * variance)) == uniform
    assert not made(initializer=initializer).parameters()["output.bias"].any()


@pytest.mark.parametrize(("initializer", "magnitude"), [("xavier", 1), ("msraprelu", 2 / 1.0625)])
def test_the_variance_of_all_initial_values_is_the_initializers(initializer, magnitude):
    """Over eighty thousand values, so that 0.25 is told from another slope of PReLU: 2 / (1 + 0.25^2)."""
    weights = [each for each in made(initializer=initializer).parameters().values() if each.ndim == 4]
    fans = [(each.shape[0] + each.shape[1]) / 2 * each.shape[2] * each.shape[3] for each in weights]
    values = np.concatenate([each.ravel() * np.sqrt(fan) for each, fan in zip(weights, fans)])
    assert len(values) > 80_000
    assert values.var() == pytest.approx(magnitude, rel=0.01)


def test_training_begins_with_a_files_weights(tmp_path):
    arrays = made_in_mxnet(seed=5).parameters()
    arrays["features.0.gamma"] = np.full(3, 0.5, np.float32)
    path = str(tmp_path / "weights.params")
    write_params_file(path, {**arrays, "more": np.zeros(1, np.float32)})
    with pytest.raises(InputError, match="more"):
        made(start=Start(path))
    found = made(start=Start(path, ignore_extra=True)).parameters()
    np.testing.assert_array_equal(found["features.1.weight"], arrays["features.1.weight"])
    np.testing.assert_array_equal(found["features.0.gamma"], np.ones(3))  # as after MXNet's first step


def test_updates_count_from_where_the_recipe_says():
    trained = made(start=Start(updates=4))
    train(trained, [0])
    assert trained.state().updates == 5
    assert trained.learning_rate == OPTIMIZERS["nag"].rate.rate(5)


def test_a_rate_without_a_schedule_can_be_set():
    trained = made(optimizer=OPTIMIZERS["sgd"])
    trained.set_learning_rate(0.0)
    before = trained.parameters()
    train(trained, [0])
    assert trained.learning_rate == 0.0
    assert far(before, trained.parameters())["output.weight"] == 0


def test_bfloat16_is_mixed_precision_with_float32_weights():
    full, mixed = made(), made(amp="bfloat16")
    expected, found = train(full, range(3)), train(mixed, range(3))
    assert [each.loss for each in found] == pytest.approx([each.loss for each in expected], rel=0.05)
    assert found != expected
    assert {array.dtype for array in mixed.parameters().values()} == {np.dtype("float32")}
    logits = [each.validated().infer(batch(0)[0])() for each in (full, mixed)]
    np.testing.assert_allclose(logits[0], logits[1], atol=0.1)
    assert (logits[0] != logits[1]).any()


def test_float16_files_have_float32_weights_in_the_states():
    """As `--dtype float16` has it, which computes on GPUs only: here in float32."""
    given = settings(dtype="float16")
    trained = TorchLearner(made().net, given, Classes(given.objective), torch.device("cpu"), TorchCluster(), None)
    train(trained, range(3))
    state = trained.state()
    kinds = {name: array.dtype.name for name, array in state.parameters.items()}
    assert {name for name, kind in kinds.items() if kind == "float16"} == {
        name for name in kinds if name.endswith((".weight", ".bias"))
    }
    exact = state.optimizer["output.weight:1"]
    assert exact.dtype == np.float32
    np.testing.assert_array_equal(exact.astype(np.float16), state.parameters["output.weight"])
    assert (exact != state.parameters["output.weight"]).any()
    assert "output.weight:0" in state.optimizer
    assert "features.1.weight" not in state.optimizer
    again = TorchLearner(made(seed=9).net, given, Classes(given.objective), torch.device("cpu"), TorchCluster(), None)
    again.restore(state, "the test")
    assert train(trained, [3]) == train(again, [3])


def test_the_loss_scale_is_kept(monkeypatch):
    """A GPU's, which is not here: what PyTorch keeps of it goes into the checkpoint and comes back."""
    one, other = made(), made()
    for each in (one, other):
        monkeypatch.setattr(each, "_scaler", torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2))
    train(one, range(3))
    scale = one.state().optimizer[LOSS_SCALE]
    np.testing.assert_array_equal(scale, [2**11, 1])  # grown after two steps, and one since
    other.restore(one.state(), "the test")
    assert other.state().optimizer[LOSS_SCALE].tolist() == scale.tolist()
    made_in_mxnet().restore(one.state(), "the test")
    made().restore(one.state(), "the test")
    other.restore(made().state(), "a run without a scale")
    assert other.state().optimizer[LOSS_SCALE].tolist() == scale.tolist()


def test_a_step_that_overflows_counts_and_changes_nothing(monkeypatch):
    """In float16 the scale is too large at first; what is kept then has the momentum that there is, none."""
    trained = made()
    monkeypatch.setattr(trained, "_scaler", torch.amp.GradScaler("cpu", init_scale=float("inf")))
    before = trained.parameters()
    train(trained, [0])
    state = trained.state()
    assert state.updates == 1
    assert not state.optimizer["output.weight"].any()
    assert far(before, state.parameters)["output.weight"] == 0


def test_weights_that_are_not_finite_are_noticed():
    trained = made()
    assert trained.end_epoch()
    with torch.no_grad():
        trained.net.output.bias[0] = float("nan")
    assert not trained.end_epoch()


def test_a_network_without_running_statistics_has_nothing_to_share():
    given = settings()
    net = torch.nn.Linear(3, CLASSES)
    assert TorchLearner(net, given, Classes(given.objective), torch.device("cpu"), TorchCluster(), None).end_epoch()


@pytest.mark.usefixtures("wrapped")
def test_states_say_how_many_images_all_workers_have(tmp_path):
    trained, path = learner(settings(optimizer=OPTIMIZERS["plain"]), Devices(), TWO_WORKERS), str(tmp_path / "a.states")
    trained.updates = 1
    trained.save_states(path)
    with open(path, "rb") as file:
        assert read_pickle(path, file)[1].state["rescale_grad"] == 1 / (2 * BATCH)


def test_training_begins_with_a_files_states(tmp_path):
    one, path = made(), str(tmp_path / "a.states")
    train(one, range(2))
    one.save_states(path)
    momentum = one.state().optimizer
    for start, updates in ((Start(states=path), 2), (Start(states=path, updates=0), 0)):
        other = made(start=start)
        assert other.updates == updates
        other.updates = 2
        found = other.state().optimizer
        assert all((array == found[name]).all() for name, array in momentum.items())


def test_validation_leaves_the_running_statistics_alone():
    trained = made()
    train(trained, [0])
    before = trained.parameters()
    trained.validated().infer(batch(1)[0])()
    assert all((array == before[name]).all() for name, array in trained.parameters().items())
    train(trained, [2])
    assert (
        trained.parameters()["features.2.0.resfwd.0.running_mean"] != before["features.2.0.resfwd.0.running_mean"]
    ).any()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dtype": "float16"}, "float16 needs a GPU"),
        ({"amp": "float16"}, "float16 needs a GPU"),
        ({"batch_shape": (1, 3, SIZE, SIZE)}, "--batch-size 1: .*take 2 or more, or --engine mxnet"),
    ],
)
def test_what_cannot_be_trained_is_refused(changed, said):
    with pytest.raises(InputError, match=said):
        made(**changed)


def made_on_gpu(cluster=None, **changed):
    return learner(settings(**changed), Devices("gpu", (1,)), cluster or TorchCluster())


@pytest.mark.usefixtures("pretended_gpu", "wrapped")
def test_statistics_of_all_workers_are_for_gpus():
    with pytest.raises(InputError, match=r"--sync-bn.*works on GPUs only"):
        learner(settings(sync_bn=True), Devices(), TWO_WORKERS)
    alone = made(sync_bn=True)  # one worker has nobody to share with
    kinds = {type(layer) for layer in made_on_gpu(TWO_WORKERS, sync_bn=True).net.modules()}
    assert torch.nn.SyncBatchNorm in kinds
    assert torch.nn.BatchNorm2d not in kinds
    for without in (alone, made_on_gpu(sync_bn=True), made_on_gpu(TWO_WORKERS)):
        assert torch.nn.SyncBatchNorm not in {type(layer) for layer in without.net.modules()}


TWO_WORKERS = TorchCluster(0, 2, 0, 2)


@pytest.fixture
def wrapped(monkeypatch):
    """What lets workers train together, the other of which is not here: its devices, and whether buffers are sent."""
    made_for = []

    def wrap(net, ids, **options):
        made_for.append((ids, options["broadcast_buffers"]))
        return net

    monkeypatch.setattr("gluon_aff.pytorch.learner.DistributedDataParallel", wrap)
    return made_for


def test_workers_exchange_gradients_of_their_device_and_keep_their_own_statistics(pretended_gpu, wrapped):
    made_on_gpu()
    made_on_gpu(TWO_WORKERS)
    learner(settings(), Devices(), TWO_WORKERS)
    assert wrapped == [([1], False), (None, False)]


def test_a_gpu_gets_bytes_and_computes_with_channels_last(pretended_gpu):
    layouts = []
    for trained in (made_on_gpu(), made()):
        trained.net.register_forward_pre_hook(lambda _, inputs: layouts.append(inputs[0].stride(1)))
        layouts.append(trained.net.features[1].weight.stride(1))
        train(trained, [0])
        layouts.append(trained.takes_pixels)
    assert layouts == [1, 1, True, 3 * 3, SIZE * SIZE, False]
    assert pretended_gpu[0] == "from now on cuda:1"
    assert set(pretended_gpu[1:]) == {"cuda:1"}


@pytest.mark.parametrize("given", [{"amp": "float16"}, {"dtype": "float16"}, {"amp": "bfloat16"}])
def test_mixed_precision_on_a_gpu(pretended_gpu, monkeypatch, given):
    """Losses are scaled in float16 alone, whose smallest numbers are 2^-24; files are as `--dtype` says."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    (kind,) = given.values()
    trained = made_on_gpu(**given)
    assert (LOSS_SCALE in trained.state().optimizer) == (kind == "float16")
    assert trained.parameters()["output.weight"].dtype.name == given.get("dtype", "float32")
    assert trained.validated().mixed == getattr(torch, kind)
    assert f"mixed precision: convolutions and dense layers compute in {kind}" in trained.notes


def test_what_is_said_before_training(pretended_gpu, monkeypatch, tmp_path):
    """Of other initial weights, if there is no file; of TF32 and of a missing compiler, on a GPU."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    path = str(tmp_path / "weights.params")
    write_params_file(path, made().parameters())
    start, tf32, triton = "with the same --seed, PyTorch draws", "float32 convolutions compute in TF32", "torch.compile"
    for make, changed, expected in (
        (made, {}, [start]),
        (made, {"start": Start(path)}, []),
        (made_on_gpu, {"compiled": False}, [start, tf32]),
        (made_on_gpu, {"start": Start(path)}, [tf32, triton]),
        (made_on_gpu, {"amp": "float16"}, [start, "mixed precision", triton]),
    ):
        notes = make(**changed).notes
        assert len(notes) == len(expected)
        assert all(part in note for part, note in zip(expected, notes))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "triton" or None)
    monkeypatch.setattr(torch, "compile", lambda net: net)
    assert made_on_gpu(start=Start(path)).notes == []


def test_a_network_is_compiled_where_that_pays_and_is_wanted(pretended_gpu, monkeypatch):
    compiled, found = [], [True]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: (name == "triton" and found[0]) or None)
    monkeypatch.setattr(torch, "compile", lambda net: compiled.append(net) or net)
    trained = made_on_gpu()
    assert compiled == [trained.net]
    made_on_gpu(compiled=False)
    made()
    found[0] = False
    made_on_gpu()
    assert len(compiled) == 1


def test_bfloat16_that_is_emulated_is_refused(monkeypatch):
    monkeypatch.setattr(torch_devices.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    with pytest.raises(InputError, match="bfloat16: this processor would only emulate it"):
        made(amp="bfloat16")
    made()
