"""What every option of an ImageNet run reaches: network, optimizer, schedule, targets, batches, devices, files, log.

The runs are whole, but for the passes through the network: in their place every gradient is one, and the validation
errors are given. So a run takes a second, and its weights follow from the equations of the optimizer.
"""

import io
import os
import shlex
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from shared_by_tests.imagenet_commands import parse
from shared_by_tests.recorded_runs import OF_EITHER_ENGINE, amp_and_sync_bn, planned

from gluon_aff.cli import main
from gluon_aff.data.imagenet.record_writing import write_records
from gluon_aff.data.imagenet.training_batches import folder_batches, record_batches
from gluon_aff.data.imagenet.validation_batches import folder_validation, record_validation
from gluon_aff.data.samples.pictures import write_pictures
from gluon_aff.engines import Devices, engine
from gluon_aff.evaluation.evaluate import Evaluation
from gluon_aff.gluon.imports import import_gluoncv
from gluon_aff.gluon.networks.zoo import build
from gluon_aff.settings import imagenet as imagenet_settings
from gluon_aff.settings.imagenet import ImageNetSettings, resolve
from gluon_aff.training import imagenet
from gluon_aff.training import run as training_run
from gluon_aff.training.architectures import imagenet_architecture
from gluon_aff.training.epoch import EpochProgress
from gluon_aff.weights.params_format import read_params_file

CLASSES = 9
SIDE = 40
TRAIN_IMAGES, VAL_IMAGES = 48, 16
ERRORS = [0.5, 0.4, 0.45, 0.3, 0.35, 0.3]  # of validation, epoch by epoch

RECORDS = (
    # Every file has a name of its own, so that none can be taken for another's
    "--use-rec --rec-train {data}/t.rec --rec-train-idx {data}/ti.idx --rec-val {data}/v.rec "
    "--rec-val-idx {data}/vi.idx --scenario ResNeXt --num-layer 152 --exact-layers --use-se -j 1 --batch-size 6 "
    "--input-size 32 --classes 9 --num-gpus 2 --strict-devices --dtype float32 --sync-bn --num-epochs 2 "
    "--warmup-epochs 0 --lr-mode step --lr-decay-period 1 --seed 7 --save-dir {out} --save-frequency 1 "
    "--checkpoint-every 0 --logging-file {out}/run.log"
)
HALF = (
    "--data-dir {data} --model resnet --num-layer 18 --context conv --batch-size 12 --input-size 32 --classes 9 -j 0 "
    "--num-gpus 1 --num-epochs 1 --warmup-epochs 0 --lr 1e-5 --lr-mode step --seed 7 --label-smoothing --save-dir '' "
    "--logging-file {out}/run.log --teacher nix --hard-weight 1"
)
RUNS = {
    "folders": "--data-dir {data} --model resnet --num-layer 18 --start-layer 2 --fusion iAFF --r 8 --scale 3 "
    "--last-gamma --classes 9 --batch-size 12 --input-size 40 --crop-ratio 0.5 --auto_aug -j 0 --num-epochs 6 "
    "--lr 0.5 --lr-mode step --warmup-epochs 1 --lr-decay 0.3 --lr-decay-epoch 3,5 --momentum 0.7 --wd 0.01 --no-wd "
    "--optimizer sgd --mixup --mixup-alpha 0.5 --mixup-off-epoch 2 --label-smoothing --teacher mobilenet0.25 "
    "--teacher-params {data}/teacher.params --temperature 3 --hard-weight 0.25 --num-gpus 0 --mode imperative "
    "--seed 7 --save-dir {out}/kept --save-frequency 4 --keep-one-best --logging-file {out}/run.log "
    "--log-interval 3 --checkpoint-every 2 --kvstore local --warmup-lr 0.3 --batch-norm --use-gn --use-pretrained",
    "records": RECORDS,
    "resumed": f"{RECORDS} --resume-epoch 1 --resume-params {{out}}/../records/imagenet-{{name}}-0.params "
    "--resume-states {out}/../records/imagenet-{name}-0.states",
    "half": HALF,
    "half again": HALF,
    "summary": f"{HALF} --summary",
    "refused": f"{HALF} --resume {{out}}/gone",
}
NOT_RUN = {"named": "--model afi_resnet50 --stages 2 --attention SE"}
STATUS = {"refused": 2, "named": -1}
FOLDERS_NAME = "ImageNet-ResGlobLocaforGlobLocaCha-resnet--18-s-2-r-8-scale-3.0"
RECORDS_NAME = "ImageNet-ASKCFuse-resnext--152-s-3"


class PretendedGPU(mx.Context):
    """A CPU that is taken for a GPU."""

    device_type = "gpu"

    def __str__(self):
        return f"cpu({self.device_id})"


@dataclass(eq=False)
class Seen:
    """What a run has handed over, and what it left behind.

    Of every epoch: `mixed`, its batches' weights against their reverse, and `checkpoints`, those there were before it.
    `weights` are by their names in the files: all of them before the first step, and the `WATCHED` ones after each.
    """

    data: Path
    settings: ImageNetSettings
    status: int = -1
    printed: str = ""
    devices_asked_for: tuple = ()
    learner: Any = None
    weights: List[Dict[str, np.ndarray]] = field(default_factory=list)
    rates: List[float] = field(default_factory=list)
    mixed: List[np.ndarray] = field(default_factory=list)
    batches: List[tuple] = field(default_factory=list)
    checkpoints: List[List[str]] = field(default_factory=list)
    validation: List[tuple] = field(default_factory=list)
    safe_sums: Optional[str] = None
    earlier: Any = None

    @property
    def log(self):
        return Path(self.settings.logging_file).read_text()

    def files(self):
        return sorted(path.name for path in Path(self.settings.save_dir).iterdir() if path.is_file())


def pretended_gpus(devices):
    """Contexts that MXNet has for a device of the same number."""
    return [PretendedGPU("cpu", number) if devices.kind == "gpu" else mx.cpu(number) for number in devices.numbers]


WATCHED = ("bn1.gamma", "fc.weight", "fc.bias", "output.weight")


def recorded(flags, seen, devices, monkeypatch):
    """Run the command and note in `seen` what it hands over; whatever is replaced in the package is replaced here."""
    errors = iter(ERRORS)

    def find_devices(gpus, strict):
        seen.devices_asked_for = (gpus, strict)
        return devices, "pretended devices"

    def train_epoch(learner, batches, weights, epoch, stop, begun, on_step):
        parameters = learner.net._collect_params_with_prefix()
        if not seen.weights:
            seen.learner, seen.safe_sums = learner, os.environ.get("MXNET_SAFE_ACCUMULATION")
            seen.weights.append({name: each.list_data()[0].asnumpy() for name, each in parameters.items()})
        seen.mixed.append(weights)
        seen.checkpoints.append(sorted(path.name for path in Path().rglob("epoch-*")))
        learnt = [each for each in parameters.values() if each.grad_req != "null"]
        for step, batch in enumerate(batches):
            seen.batches.append(batch)
            images = len(batch[0])
            with autograd.record():  # as if the gradient for each image were one
                sums = [each.astype("float32").sum() for parameter in learnt for each in parameter.list_data()]
            autograd.backward(sums, [mx.nd.full(1, images / len(learner.contexts)) for _ in sums])
            learner.trainer.step(images)
            rate = learner.learning_rate
            seen.rates.append(rate)
            watched = {name: parameters[name] for name in WATCHED if name in parameters}
            seen.weights.append({name: each.list_data()[-1].asnumpy() for name, each in watched.items()})
            on_step(step, 0.5, rate)
        return EpochProgress(len(weights), 0.5 * len(weights), 1.0, 1.0)

    def evaluate(infer, batches, *others):
        seen.validation = list(batches)
        return Evaluation(100, 1 - next(errors), 1.0, 0.0, [], 1.0)

    with monkeypatch.context() as patched:
        patched.chdir(Path(seen.settings.logging_file).parent)
        patched.setattr(imagenet_settings, "BLOCKS", {18: (2, 1, 1, 1), 152: (1, 1, 1, 1)})
        patched.setattr(imagenet_settings, "EXACT_BLOCKS", {152: (1, 2, 1, 1)})
        patched.setattr(engine(), "find_devices", find_devices)
        patched.setattr("gluon_aff.gluon.learner.contexts_of", pretended_gpus)
        patched.setattr(training_run, "train_epoch", train_epoch)
        patched.setattr(imagenet, "evaluate", evaluate)
        with redirect_stderr(io.StringIO()) as printed, redirect_stdout(printed):
            seen.status = main(["train-imagenet", *flags])
    seen.printed = printed.getvalue()
    return seen


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Class folders, record files and a teacher."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    write_pictures(str(folder), TRAIN_IMAGES, VAL_IMAGES)
    for part, short in (("train", "t"), ("val", "v")):
        write_records(str(folder / part), str(folder / short), num_workers=0)
        (folder / f"{short}.idx").rename(folder / f"{short}i.idx")
    for ending in ("classes", "lst"):
        (folder / f"v.{ending}").unlink()
    mx.random.seed(1)
    teacher = gluoncv_network()
    teacher.initialize(mx.init.Normal(0.1))
    teacher(mx.nd.zeros((1, 3, SIDE, SIDE)))
    teacher.save_parameters(str(folder / "teacher.params"))
    return folder


@pytest.fixture(scope="module")
def made():
    return {}


@pytest.fixture
def runs(made, data, tmp_path_factory, monkeypatch):
    """What the run of a name handed over; each is made once, within a test, so that the environment is restored."""
    if not made:
        made["root"] = tmp_path_factory.mktemp("runs")

    def run(name):
        folder = made["root"] / name.replace(" ", "-")
        folder.mkdir()
        command = {**RUNS, **NOT_RUN}[name].format(data=data, out=folder, name=RECORDS_NAME)
        made[name] = seen = Seen(data, parse(command))
        if name in RUNS:
            seen.earlier = recalled("records") if name == "resumed" else None
            gpus = tuple(range(seen.settings.num_gpus))
            devices = Devices("gpu", gpus) if gpus else Devices()
            recorded(shlex.split(command), seen, devices, monkeypatch)

    def recalled(name):
        if name not in made:
            run(name)
        assert made[name].status == STATUS.get(name, 0), made[name].printed
        return made[name]

    return recalled


# --- what is seen ---


def shape(name):
    return lambda seen: seen.weights[0][name].shape


def places(text):
    """Stages and blocks, or layers, that have weights with `text` in their names."""
    return lambda seen: sorted({".".join(name.split(".")[:2]) for name in seen.weights[0] if text in name})


def scales(seen):
    found = set()
    seen.learner.net.apply(lambda block: found.add(getattr(block, "scale", None)))
    return found - {None}


def norms(seen):
    found = set()
    seen.learner.net.apply(lambda block: found.add(type(block).__name__))
    return found & {"BatchNorm", "SyncBatchNorm"}


def stages_named(text):
    """Stages of an AFINet whose weights have `text` in their names; before them are four layers of the stem."""

    def see(seen):
        names = build(imagenet_architecture(resolve(seen.settings)))._collect_params_with_prefix()
        return {int(name.split(".")[1]) - 3 for name in names if text in name}

    return see


def after_each_step(name):
    return lambda seen: [after[name] for after in seen.weights[1:]]


def compiled(seen):
    return seen.learner.net._active, seen.learner.validation_net._active


def kept_in(seen):
    return seen.learner.trainer._kvstore_params["kvstore"]


def says(text):
    return lambda seen: text in seen.printed


def batch_lines(seen):
    return [line.split("\t")[0] for line in seen.log.splitlines() if "Batch" in line]


def images_and_labels(seen):
    return flat(seen.batches)


def validation_images_and_labels(seen):
    return flat(seen.validation)


def flat(batches):
    return [array for batch in batches for array in batch]


def target(weight):
    """Images and labels as the network and the loss get them."""

    def see(seen):
        pair = seen.learner.task.pair(mx.nd.array(IMAGES), mx.nd.array(LABELS), weight)
        return [array.asnumpy() for array in pair]

    return see


def loss(seen):
    function = seen.learner.task.loss_function()
    return function(mx.nd.array(LOGITS), mx.nd.array(smooth(LABELS)), mx.nd.array(IMAGES)).asnumpy()


# --- what is expected ---

IMAGES = np.random.default_rng(3).normal(size=(4, 3, SIDE, SIDE)).astype(np.float32)
LABELS = np.array([0, 8, 3, 3])
LOGITS = np.random.default_rng(4).normal(size=(4, CLASSES))
# Four steps an epoch. GluonCV's warm-up has the rate at its last step; the decay epochs, 3 and 5, are counted from the
# warm-up's end once they have been shifted by its length, as in the original.
FOLDERS_RATES = [
    0.5 * update / 3 if update < 4 else 0.5 * 0.3 ** ((update >= 3 * 4) + (update >= 5 * 4)) for update in range(1, 25)
]
# No warm-up, and a cut by a tenth after the first epoch
RECORDS_RATES = [0.075 if update < 4 else 0.0075 for update in range(1, 9)]


def by_equations(weight, rates, optimizer, momentum, decay):
    """The weight after each step with a gradient of one, whose g has the weight's decay.

    v = mu v - r g in both; then SGD has w = w + v, and Nesterov's look ahead w = w + mu v - r g.
    """
    weight = weight.astype(np.float64)
    velocity, found = np.zeros_like(weight), []
    for rate in rates:
        descent = -rate * (1 + decay * weight)
        velocity = momentum * velocity + descent
        weight = weight + (velocity if optimizer == "sgd" else momentum * velocity + descent)
        found.append(weight)
    return found


def by_sgd(name, decay):
    return lambda seen: by_equations(seen.weights[0][name], FOLDERS_RATES, "sgd", 0.7, decay)


def mixup_weights(seen):
    """Four epochs' from the stream of the seed, the epoch and mixup, whose number is 2; then two without mixup."""
    streams = (np.random.Generator(np.random.PCG64((7, epoch, 2))) for epoch in range(4))
    return [*(stream.beta(0.5, 0.5, 4) for stream in streams), np.ones(4), np.ones(4)]


def smooth(labels):
    """1 - eta + eta / K for the label and eta / K for the others, eta = 0.1."""
    return np.where(np.arange(CLASSES) == labels[:, np.newaxis], 0.9 + 0.1 / CLASSES, 0.1 / CLASSES)


def mixed_target(weight):
    return lambda seen: [weight * each + (1 - weight) * each[::-1] for each in (IMAGES, smooth(LABELS))]


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def gluoncv_network():
    return import_gluoncv("gluoncv.model_zoo").get_model("mobilenet0.25", classes=CLASSES, pretrained=False)


def distillation(seen):
    """Hinton's: h CE(labels) + (1 - h) T^2 CE(teacher's softmax at temperature T, the network's at T)."""
    teacher, temperature, hard = gluoncv_network(), 3, 0.25
    teacher.load_parameters(str(seen.data / "teacher.params"))
    taught = log_softmax(teacher(mx.nd.array(IMAGES)).asnumpy().astype(np.float64) / temperature)
    soft = -(np.exp(taught) * log_softmax(LOGITS / temperature)).sum(axis=1)
    return hard * -(smooth(LABELS) * log_softmax(LOGITS)).sum(axis=1) + (1 - hard) * temperature**2 * soft


@lru_cache(maxsize=None)
def six_epochs_of_folders(seen):
    batches = folder_batches(str(seen.data), batch_size=12, seed=7, input_size=40, auto_augment=True, num_workers=0)
    return flat(batch for epoch in range(6) for batch in batches.epoch(epoch))


@lru_cache(maxsize=None)
def two_epochs_of_records(seen):
    """Six images for each of two devices."""
    files = str(seen.data / "t.rec"), str(seen.data / "ti.idx")
    batches = record_batches(*files, batch_size=12, seed=7, input_size=32, num_workers=0)
    return flat(batch for epoch in range(2) for batch in batches.epoch(epoch))


@lru_cache(maxsize=None)
def folder_of_validation(seen):
    return flat(folder_validation(str(seen.data), 40, 12, 0, crop_ratio=0.5).batches)


@lru_cache(maxsize=None)
def records_of_validation(seen):
    return flat(record_validation(str(seen.data / "v.rec"), str(seen.data / "vi.idx"), 32, 12, 0).batches)


def of_stem(stem):
    return [f"{stem}.json", f"{stem}.params", f"{stem}.states"]


# Periodic ones after every fourth and the last epoch; the best error comes twice, and the first time counts
KEPT = sorted(
    [
        *of_stem(f"imagenet-{FOLDERS_NAME}-3"),
        *of_stem(f"imagenet-{FOLDERS_NAME}-5"),
        *of_stem(f"0.3000-imagenet-{FOLDERS_NAME}-3-best"),
    ]
)


def one_epoch_later(seen):
    """The second of the two epochs of the run that wrote the files, with the momentum of its first."""
    first = seen.earlier.weights[0]["output.weight"]
    return by_equations(first, RECORDS_RATES, "nag", 0.9, 1e-4)[4:]


def written_before(seen):
    path = f"{seen.earlier.settings.save_dir}/imagenet-{RECORDS_NAME}-0.params"
    return np.array(read_params_file(path).arrays["output.weight"])


class Row(NamedTuple):
    """A setting: the run in which it is away from its default, where it is seen, and what is expected there."""

    run: str
    see: Callable[[Seen], Any]
    expected: Any  # or a function of what was seen


NETWORK = {
    "model": Row("folders", shape("conv1.0.weight"), (32, 3, 3, 3)),  # the ResNet's stem; its names are its own
    "scenario": Row("records", shape("features.0.weight"), (64, 3, 3, 3)),  # the ResNeXt's
    "num_layer": Row("folders", places("conv2"), ["layer1.0", "layer1.1", "layer2.0", "layer3.0", "layer4.0"]),
    "exact_layers": Row("records", places("body"), [f"features.{stage}" for stage in (10, 11, 12, 13)]),
    "start_layer": Row("folders", places("attention"), ["layer2.0", "layer3.0", "layer4.0"]),
    "askc_type": Row("folders", places("global_att2"), ["layer2.0", "layer3.0", "layer4.0"]),
    "r": Row("folders", shape("layer4.0.attention.local_att.0.weight"), (512 // 8, 512, 1, 1)),
    "scale": Row("folders", scales, {3.0}),
    "context": Row("half", shape("layer4.0.attention.local_att.0.weight"), (512, 512, 1, 1)),
    "last_gamma": Row("folders", lambda seen: seen.weights[0]["layer1.0.bn2.gamma"], np.zeros(64)),
    "use_se": Row("records", places(".se."), [f"features.{stage}" for stage in (10, 11, 12, 13)]),
    "classes": Row("folders", shape("fc.weight"), (CLASSES, 512)),
    "stages": Row("named", stages_named(".integrate."), {2}),
    "attention": Row("named", stages_named(".excitation."), {2}),
    "sync_bn": Row("records", norms, {"SyncBatchNorm"}),
    "mode": Row("folders", compiled, (False, False)),
    "dtype": Row("records", lambda seen: {array.dtype.name for array in seen.weights[0].values()}, {"float32"}),
}
DATA = {
    "data_dir": Row("folders", images_and_labels, six_epochs_of_folders),
    "auto_aug": Row("folders", images_and_labels, six_epochs_of_folders),
    "batch_size": Row("folders", images_and_labels, six_epochs_of_folders),
    "input_size": Row("folders", images_and_labels, six_epochs_of_folders),
    "seed": Row("folders", images_and_labels, six_epochs_of_folders),
    "crop_ratio": Row("folders", validation_images_and_labels, folder_of_validation),
    "use_rec": Row("records", images_and_labels, two_epochs_of_records),
    "rec_train": Row("records", images_and_labels, two_epochs_of_records),
    "rec_train_idx": Row("records", images_and_labels, two_epochs_of_records),
    "rec_val": Row("records", validation_images_and_labels, records_of_validation),
    "rec_val_idx": Row("records", validation_images_and_labels, records_of_validation),
    "num_workers": Row("records", says("; 1 data workers\n"), True),
}
SCHEDULE = {
    "num_epochs": Row("folders", lambda seen: seen.rates, FOLDERS_RATES),
    "lr": Row("folders", lambda seen: seen.rates, FOLDERS_RATES),
    "lr_mode": Row("folders", lambda seen: seen.rates, FOLDERS_RATES),
    "lr_decay": Row("folders", lambda seen: seen.rates, FOLDERS_RATES),
    "lr_decay_epoch": Row("folders", lambda seen: seen.rates, FOLDERS_RATES),
    "warmup_epochs": Row("folders", lambda seen: seen.rates, FOLDERS_RATES),
    "lr_decay_period": Row("records", lambda seen: seen.rates, RECORDS_RATES),
    "resume_epoch": Row("resumed", lambda seen: seen.rates, RECORDS_RATES[4:]),
}
OPTIMIZER = {
    "optimizer": Row("folders", after_each_step("fc.weight"), by_sgd("fc.weight", 0.01)),
    "momentum": Row("folders", after_each_step("fc.weight"), by_sgd("fc.weight", 0.01)),
    "wd": Row("folders", after_each_step("fc.weight"), by_sgd("fc.weight", 0.01)),
    "no_wd": Row("folders", after_each_step("bn1.gamma"), by_sgd("bn1.gamma", 0)),
    "resume_params": Row("resumed", lambda seen: seen.weights[0]["output.weight"], written_before),
    "resume_states": Row("resumed", after_each_step("output.weight"), one_epoch_later),
    "kvstore": Row("folders", kept_in, "local"),
}
TARGETS = {
    "label_smoothing": Row("folders", target(1.0), mixed_target(1.0)),
    "mixup": Row("folders", target(0.3), mixed_target(0.3)),
    "mixup_alpha": Row("folders", lambda seen: seen.mixed, mixup_weights),
    "mixup_off_epoch": Row("folders", lambda seen: seen.mixed, mixup_weights),
    "teacher": Row("folders", loss, distillation),
    "teacher_params": Row("folders", loss, distillation),
    "temperature": Row("folders", loss, distillation),
    "hard_weight": Row("folders", loss, distillation),
}
RUN = {
    "num_gpus": Row("records", lambda seen: seen.devices_asked_for, ("0,1", True)),
    "strict_devices": Row("records", lambda seen: seen.devices_asked_for, ("0,1", True)),
    "summary": Row("summary", says("trainable parameters: "), True),
    "resume": Row("refused", says("refused/gone"), True),
}
FILES = {
    "save_dir": Row("folders", Seen.files, KEPT),
    "save_frequency": Row("folders", Seen.files, KEPT),
    "keep_one_best": Row("folders", Seen.files, KEPT),
    "checkpoint_every": Row(
        "folders",
        lambda seen: seen.checkpoints,
        [["epoch-0"], ["epoch-0"], ["epoch-2"], ["epoch-2"]] + 2 * [["epoch-4"]],
    ),
    "logging_file": Row("folders", batch_lines, [f"Epoch[{epoch}] Batch [2]" for epoch in range(6)]),
    "log_interval": Row("folders", batch_lines, [f"Epoch[{epoch}] Batch [2]" for epoch in range(6)]),
}
TABLE = {**NETWORK, **DATA, **SCHEDULE, **OPTIMIZER, **TARGETS, **RUN, **FILES}
# What the original ignores: each is given in a run on folders, all of whose rows are as they would be without it
IGNORED = ("warmup_lr", "batch_norm", "use_gn", "use_pretrained")


@pytest.mark.parametrize("setting", TABLE)
def test_a_setting_arrives(setting, runs):
    row = TABLE[setting]
    seen = runs(row.run)
    assert getattr(seen.settings, setting) != getattr(ImageNetSettings(), setting), "the run has the default"
    found = row.see(seen)
    expected = row.expected(seen) if callable(row.expected) else row.expected
    if not isinstance(found, (list, np.ndarray)) or isinstance(found[0], (str, list)):
        assert found == expected
        return
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


def test_every_setting_has_its_row():
    """A new one has to be named in the table, or among those that the original ignores."""
    assert sorted([*TABLE, *IGNORED, *OF_EITHER_ENGINE]) == sorted(each.name for each in fields(ImageNetSettings))


@pytest.mark.parametrize("setting", IGNORED)
def test_what_the_original_ignores_is_said(setting, runs):
    seen = runs("folders")
    assert getattr(seen.settings, setting) != getattr(ImageNetSettings(), setting)
    assert f"--{setting.replace('_', '-')} has no effect, as in the original" in seen.printed


def test_convolutions_begin_as_msra_prelu_draws_them(runs):
    """He's normal distribution for PReLU of slope 0.25: variance 2 / (1 + 0.25^2) over the mean of both fans."""
    weight = runs("folders").weights[0]["layer4.0.conv2.weight"].astype(np.float64)
    deviation = np.sqrt(2 / (1 + 0.25**2) / (512 * 9))
    assert weight.std() == pytest.approx(deviation, rel=0.005)
    assert (np.abs(weight) < deviation).mean() == pytest.approx(0.6827, abs=0.002)


def test_the_seed_draws_the_same_network(runs):
    first, second = (runs(name).weights[0] for name in ("half", "half again"))
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


def test_without_no_wd_the_biases_decay_too(runs):
    seen = runs("records")
    expected = by_equations(seen.weights[0]["output.weight"], RECORDS_RATES, "nag", 0.9, 1e-4)
    np.testing.assert_allclose(after_each_step("output.weight")(seen), expected, rtol=2e-5, atol=2e-6)
    trainer = seen.learner.trainer
    assert {trainer.optimizer._get_wds([index])[0] for index in range(len(trainer._params))} == {1e-4}


def test_float16_weights_have_float32_copies(runs):
    """Four steps, each too small for most of the weights, come to what they do in float32."""
    seen = runs("half")
    assert seen.weights[0]["fc.weight"].dtype == np.float16
    found = seen.weights[-1]["fc.weight"]
    expected = by_equations(seen.weights[0]["fc.weight"].astype(np.float32), [1e-5] * 4, "nag", 0.9, 1e-4)[-1]
    half_a_place = np.spacing(np.abs(expected).astype(np.float16)).astype(np.float64) / 2
    assert (np.abs(found - expected) <= 1.01 * half_a_place).all()
    images, labels = target(1.0)(seen)
    assert (images.dtype, labels.dtype) == (np.float16, np.float16)
    assert seen.safe_sums == "1"  # the original's advice


@pytest.mark.parametrize("run", ["folders", "records", "half"])
def test_what_is_validated_has_the_trained_weights(run, runs):
    seen = runs(run)
    validated = seen.learner.validation_net._collect_params_with_prefix()
    for name, parameter in seen.learner.net._collect_params_with_prefix().items():
        for context in seen.learner.contexts:
            np.testing.assert_array_equal(validated[name].data(context).asnumpy(), parameter.data(context).asnumpy())


def test_labels_without_smoothing_and_mixup_stay_classes(runs):
    """And the loss is their cross-entropy."""
    images, labels = target(0.3)(runs("records"))
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    function = runs("records").learner.task.loss_function()
    found = function(mx.nd.array(LOGITS), mx.nd.array(LABELS), mx.nd.array(IMAGES)).asnumpy()
    np.testing.assert_allclose(found, -log_softmax(LOGITS)[np.arange(4), LABELS], rtol=1e-5)


def test_a_new_run_has_no_best_error_yet(runs):
    assert "best so far" not in runs("folders").printed


def test_mixed_precision_is_asked_of_the_learner(data, tmp_path, monkeypatch):
    """Whose weights are float32 then, whatever --dtype says; and which may take the images as bytes."""

    def look(plan):
        (pixels, labels), (_, expected) = next(plan.pixels(0, 0)), next(plan.batches(0, 0))
        np.testing.assert_array_equal(labels, expected)
        return (*amp_and_sync_bn(plan), plan.learner.dtype, pixels.values.dtype)

    monkeypatch.chdir(tmp_path)
    line = f"train-imagenet --data-dir {data} --num-gpus 0 --classes 9 -j 0 --batch-size 4 --amp bfloat16"
    assert planned(monkeypatch, line, look) == ("bfloat16", False, "float32", np.uint8)


def test_memory_is_allocated_once_for_all_batches(runs):
    """Of a compiled network, as in the original."""
    assert {("static_alloc", True), ("static_shape", True)} <= {*runs("records").learner.net._flags}


def test_a_teacher_of_no_weight_is_not_looked_for(runs):
    assert "--teacher has no effect with --hard-weight 1, as in the original" in runs("half").printed


def test_records_of_as_many_classes_are_not_doubted(runs):
    """Though no file says which classes the validation records have."""
    assert "labels go up to" not in runs("records").printed


def test_weights_are_written_when_they_are_due(runs):
    """After every epoch, and the best ones with the error they had, of which earlier ones stay."""
    stems = [f"imagenet-{RECORDS_NAME}-0", f"imagenet-{RECORDS_NAME}-1"]
    best = [f"{error}-imagenet-{RECORDS_NAME}-{epoch}-best" for epoch, error in enumerate(("0.5000", "0.4000"))]
    files = runs("records").files()
    assert [name for name in files if name != "run.log"] == sorted(
        name for stem in (*stems, *best) for name in of_stem(stem)
    )
    assert not list(Path(runs("records").settings.save_dir).rglob("epoch-*"))  # --checkpoint-every 0
    half = Path(runs("half").settings.logging_file).parent
    assert [path.name for path in half.iterdir()] == ["run.log"]  # --save-dir ''
