"""Every flag of train_cifar.py away from its default: what it changes is looked at where it arrives.

A flag that is in no row of the table fails a test, and so does one that changes nothing.
"""

import hashlib
import math
from dataclasses import fields

import mxnet as mx
import numpy as np
import pytest
from shared_by_tests.recorded_runs import (
    OF_EITHER_ENGINE,
    VALIDATION_SECONDS,
    Seen,
    amp_and_sync_bn,
    draws,
    fits,
    initialised,
    planned,
    record,
    same,
)

from gluon_aff.cli import COMMANDS, OneLineParser, fill_parser
from gluon_aff.gluon.networks import get_model
from gluon_aff.gluon.networks.zoo import BUILDERS
from gluon_aff.settings.cifar import CIFARSettings
from gluon_aff.weights.params_format import read_params_file, write_params_file

SCORER = "gluon_aff.training.cifar.top1_accuracy"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
FINE = [5 * label + label % 5 for label in range(20)]  # of 20 images, one of each superclass
TINY = "--batch-size 10 --channel-times 1 -j 0"
# What each run is given, and the accuracies of its epochs
RUNS = {
    "defaults": (f"{TINY} --num-epochs 2 --seed 0", [0.25, 0.5]),
    "cosine": (
        "--askc-type iAFF --r 8 --scale 1.5 --blocks 2 --channel-times 2 --start-layer 2 --deep-stem "
        "--shortcut strided --classes 30 --init msraprelu --mode imperative "
        "--batch-size 5 --num-epochs 4 -j 1 --auto_aug --mixup --mixup-alpha 0.3 --mixup-off-epoch 1 "
        "--label-smoothing --cosine --warmup-epochs 1 --lr 0.03 --momentum 0.7 --wd 0.002 --no-wd --optimizer sgd "
        "--seed 5 --gpus 0 --kvstore local --sync-bn --save-dir weights --logging-dir log --save-plot-dir curve "
        "--keep-one-best --checkpoint-every 3 --drop-rate 0.5 --warmup-lr 0.01",
        [0.25, 0.50001, 0.50004, 0.50004],
    ),
    "steps": (
        f"{TINY} --num-epochs 4 --seed 7 --data-dir {{other}} --fine-label --mixup --mixup-off-epoch 0 --no-wd "
        "--context conv --lr-decay 0.5 --lr-decay-epoch 3,5 --warmup-epochs 2",
        [0.1, 0.2, 0.3, 0.4],
    ),
    "resumed": (
        f"{TINY} --num-epochs 2 --seed 0 --resume auto",
        [],
    ),
    "cifar10": (
        f"{TINY} --num-epochs 3 --seed 0 --model inception --inner full --dataset cifar10 --data-dir {{ten}} "
        "--label-smoothing --lr-decay-period 2 --warmup-epochs 1 --save-period 0",
        [0.1, 0.2, 0.3],
    ),
    "named": (
        "--recipe afinets --superclass --model afi_resnet32_cifar100 --stages 1 --attention SE --batch-size 20 "
        "--num-epochs 1 -j 0 --seed 0 --sync-bn",
        [0.5],
    ),
    "fine named": (
        f"{TINY} --recipe afinets --num-epochs 1 --seed 0",
        [0.5],
    ),
    "summary": ("--summary", []),
    "weights": (f"{TINY} --num-epochs 1 --seed 1 -j 1 --resume-from {{weights}}", [0.5]),
}
NETWORKS = {
    "defaults": ("cifar_resnet", {"askc_type": "AFF", "blocks": 1, "channel_times": 1}),
    "cosine": (
        "cifar_resnet",
        {
            "askc_type": "iAFF",
            "blocks": 2,
            "channel_times": 2,
            "start_layer": 2,
            "classes": 30,
            "deep_stem": True,
            "r": 8,
            "scale": 1.5,
            "avg_down": False,
        },
    ),
    "steps": ("cifar_resnet", {"askc_type": "AFF", "blocks": 1, "channel_times": 1, "context": "conv"}),
    "cifar10": (
        "cifar_inception",
        {"askc_type": "AFF", "blocks": 1, "channel_times": 1, "classes": 10, "inner": "full"},
    ),
    "named": ("afi_resnet32_cifar100", {"stages": [1], "attention": "SE"}),
}
IGNORED = {"drop_rate", "warmup_lr"}  # by the original, too


def built(name, **changed):
    """The network of a run, with some of its arguments changed or, where they are None, left out."""
    kind, arguments = NETWORKS[name]
    given = {key: value for key, value in {**arguments, **changed}.items() if value is not None}
    return BUILDERS[kind](**given) if kind in BUILDERS else get_model(kind, **given)


def network_argument(name, argument, default=None):
    """A row for an argument of the network: it is the one given, and not the default."""

    def look(run):
        return fits(built(name), run.epochs[0]), fits(built(name, **{argument: default}), run.epochs[0])

    return Seen(name, look, (True, False), against="nothing")


def validated_as_trained(run):
    """Whether the network that is validated has the weights that the trained one has then, and so goes on with."""
    later = [epoch.weights for epoch in run.epochs[1:]]
    return [same(weights, epoch.validated) for weights, epoch in zip(later, run.epochs)]


def new_weights(run):
    """Which of the two initialisers made the weights that the run started with, by its seed."""
    first, seed = run.epochs[0], given_in(run.name, "seed")
    return [
        kind.__name__
        for kind in (mx.init.Xavier, mx.init.MSRAPrelu)
        if same(first.weights, initialised(built(run.name), kind(), seed, first.inputs[0]))
    ]


def images_in(path, label_bytes):
    """Pixels in a file in CIFAR's binary layout."""
    return np.fromfile(path, np.uint8).reshape(-1, label_bytes + 3072)[:, label_bytes:].reshape(-1, 3, 32, 32)


def pixels(images):
    """Normalised images as bytes again (README.md, and the original's line 202, name the mean and the deviation)."""
    return np.rint((images * np.reshape(STD, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1))) * 255).astype(np.uint8)


def digest(images):
    return hashlib.sha1(images.tobytes()).hexdigest()


def validated_on(run):
    return digest(pixels(run.epochs[0].validation[0]))


def plain_images(run, seed, epoch=0):
    """Share of the first batch's images that are shuffled, cropped and mirrored by this seed, and no more than that."""
    originals, images = images_in(run.folder.parent / "few/train.bin", 2), pixels(run.epochs[epoch].batches[0][0])
    table = draws(seed, epoch, 1).random((len(originals), 9))
    padded = np.pad(originals, ((0, 0), (0, 0), (4, 4), (4, 4)))
    rows = draws(seed, epoch, 0).permutation(len(originals))[: len(images)]
    crops = [
        padded[row, :, top : top + 32, left : left + 32][..., :: -1 if mirror else 1]
        for row, (top, left), mirror in zip(rows, (table[rows, 6:8] * 9).astype(int), table[rows, 8] < 0.5)
    ]
    return (images == np.array(crops)).all(axis=(1, 2, 3)).mean()


def labels_by(run, seed):
    """Whether the first batch's labels are those of the images that the seed's order begins with."""
    labels = np.fromfile(run.folder.parent / "few/train.bin", np.uint8).reshape(-1, 3074)[:, 0]
    found = run.epochs[0].batches[0][1]
    return (found == labels[draws(seed, 0, 0).permutation(len(labels))[: len(found)]]).all()


def mixed_inputs(run, epoch):
    """Whether the network saw each batch mixed with its reverse, by the epoch's weights."""
    now = run.epochs[epoch]
    return all(
        np.allclose(seen, weight * images + (1 - weight) * images[::-1], atol=1e-5)
        for seen, (images, _), weight in zip(now.inputs, now.batches, now.mixup)
    )


def smallest_target(run):
    """Of an epoch without mixup: what cross-entropy expects of a class that an image is not."""
    return float(run.epochs[-1].targets[0].min())


def targets(run, classes, smoothing):
    """Of the first batch: 1 - eta + eta / K for the class and eta / K for the others, mixed with their reverse."""
    now = run.epochs[0]
    rows = np.eye(classes)[now.batches[0][1].astype(int)] * (1 - smoothing) + smoothing / classes
    return now.mixup[0] * rows + (1 - now.mixup[0]) * rows[::-1]


def mixes(run):
    """Whether the inputs and the targets are mixed, by the same weights."""
    return mixed_inputs(run, 0) and np.allclose(run.epochs[0].targets[0], targets(run, 30, 0.1), atol=1e-6)


def cosine_rates():
    """The closed form: 4 steps an epoch; one epoch of warm-up to 0.03, three of the half cosine."""
    ramp, fall = 4, 12
    warm_up = [0.03 * update / (ramp - 1) for update in range(1, ramp)]
    half_cosine = [0.015 * (1 + math.cos(math.pi * min(step, fall - 1) / (fall - 1))) for step in range(fall + 1)]
    return pytest.approx(warm_up + half_cosine, abs=1e-7)


def epoch_rates(run):
    return [epoch.rates[-1] for epoch in run.epochs]


def spared(run):
    """Kinds of parameters without weight decay."""
    return {name.split(".")[-1] for name, decay in run.decay.items() if decay == 0}


def best_files(run):
    return [name for name in run.files if name.endswith("-best.params")]


def written_in(start):
    return lambda run: [name for name in run.files if name.startswith(start)]


def beta_weights(run):
    return [epoch.mixup.tolist() for epoch in run.epochs]


def drawn_weights(alpha, epochs, off):
    return [
        draws(5, epoch, 2).beta(alpha, alpha, 4).tolist() if epoch < epochs - off else [1.0] * 4
        for epoch in range(epochs)
    ]


def nothing_but_a_summary(run):
    return (run.epochs, run.files, run.out.count("trainable parameters: ")) == ([], [], 1)


def checkpoints(run):
    """What there is to go on from at the start of each epoch."""
    return [" ".join(epoch.checkpoints) for epoch in run.epochs]


EXTRA = "of another network"


def starts_with_the_file(run):
    arrays = dict(read_params_file(str(run.given["weights"])).arrays)
    assert len(arrays.pop(EXTRA)) == 1  # is ignored, as in the original
    return same(run.epochs[0].weights, arrays)


def unmixed_epochs(run):
    return [number for number, weights in enumerate(beta_weights(run)) if set(weights) == {1}]


IAFF = "cifar100-ResGlobLocaforGlobLocaCha-resnet-14-c-2-s-2-r-8-scale-1.5-strided"
CURVE = "cifar100-ASKCFuse-resnet-8-c-1-s-1_history.png"
SEEN = {
    "dataset": Seen("cifar10", validated_on, lambda folder: digest(images_in(folder / "ten/test_batch.bin", 1))),
    "batch_size": Seen("cosine", lambda run: {len(images) for images, _ in run.epochs[0].batches}, {5}),
    "askc_type": network_argument("cosine", "askc_type", "AFF"),
    "channel_times": network_argument("cosine", "channel_times", 4),
    "blocks": network_argument("cosine", "blocks", 1),
    "start_layer": network_argument("cosine", "start_layer", 1),
    "summary": Seen("summary", nothing_but_a_summary, True),
    "gpus": Seen("cosine", lambda run: [name for name in run.files if "_GPU_0_best_Acc" in name] != [], True),
    "model": Seen("cifar10", lambda run: type(run.net).__name__, "InceptionResNet"),
    "num_workers": Seen("cosine", lambda run: (run.data_workers, "; 1 data workers" in run.err), (1, True)),
    "num_epochs": Seen("cosine", lambda run: len(run.epochs), 4),
    "lr": Seen("cosine", lambda run: max(run.rates), pytest.approx(0.03)),
    "momentum": Seen("cosine", lambda run: run.trainer.optimizer.momentum, 0.7),
    "wd": Seen("cosine", lambda run: max(run.decay.values()), 0.002),
    "lr_decay": Seen("steps", lambda run: min(run.rates), pytest.approx(0.2 / 4)),
    "lr_decay_period": Seen("cifar10", epoch_rates, pytest.approx([0.2, 0.02, 0.02])),
    "lr_decay_epoch": Seen("steps", epoch_rates, pytest.approx([0.2, 0.1, 0.1, 0.05])),
    "mode": Seen("cosine", lambda run: run.compiled, (False, False)),
    "save_period": Seen("cifar10", lambda run: list(run.folder.rglob("*.params")), []),
    "save_dir": Seen("cosine", lambda run: {name.split("/")[0] for name in best_files(run)}, {"weights"}),
    "logging_dir": Seen("cosine", written_in("log"), [f"log/train_{IAFF}.log"]),
    "resume_from": Seen("weights", starts_with_the_file, True, "nothing"),
    "save_plot_dir": Seen("cosine", written_in("curve"), [f"curve/{IAFF}_history.png"]),
    "mixup": Seen("cosine", mixes, True, "nothing"),
    "mixup_alpha": Seen("cosine", beta_weights, drawn_weights(0.3, 4, 1)),
    "mixup_off_epoch": Seen("cosine", unmixed_epochs, [3]),
    "auto_aug": Seen("cosine", lambda run: plain_images(run, given_in(run.name, "seed")) < 1, True),
    "label_smoothing": Seen("cosine", smallest_target, pytest.approx(0.1 / 30)),
    "cosine": Seen("cosine", lambda run: run.rates, cosine_rates()),
    "no_wd": Seen("cosine", spared, {"gamma", "beta", "bias"}),
    "warmup_epochs": Seen("cosine", lambda run: run.rates.index(max(run.rates)) + 1, 3),
    "deep_stem": network_argument("cosine", "deep_stem"),
    "fine_label": Seen("steps", lambda run: sorted(run.epochs[0].validation[1]), sorted(FINE)),
    "superclass": Seen("named", lambda run: run.epochs[0].validation[1].max(), 19, "fine named"),
    "classes": network_argument("cosine", "classes", 100),
    "init": Seen("cosine", new_weights, ["MSRAPrelu"]),
    "data_dir": Seen("steps", validated_on, lambda folder: digest(images_in(folder / "other/test.bin", 2))),
    "seed": Seen("cosine", lambda run: (labels_by(run, 5), run.seeds), (True, [5])),
    "keep_one_best": Seen("cosine", best_files, [f"weights/0.5000-{IAFF}-best.params"]),
    "checkpoint_every": Seen("cosine", checkpoints, ["epoch-0", "epoch-0", "epoch-0", "epoch-3"]),
    "resume": Seen("resumed", lambda run: (run.err.count("continuing from params/"), len(run.epochs)), (1, 0)),
    "kvstore": Seen("cosine", lambda run: run.trainer._kvstore_params["kvstore"], "local"),
    "sync_bn": Seen("cosine", lambda run: "--sync-bn has no effect on one device" in run.err, True),
    "r": network_argument("cosine", "r"),
    "scale": network_argument("cosine", "scale"),
    "context": network_argument("steps", "context"),
    "shortcut": network_argument("cosine", "avg_down"),
    "inner": network_argument("cifar10", "inner", "legacy"),
    "optimizer": Seen("cosine", lambda run: type(run.trainer.optimizer).__name__, "SGD"),
    "stages": network_argument("named", "stages"),
    "attention": network_argument("named", "attention"),
}


def write_set(folder, names, images, seed, labels):
    """Files of noise in CIFAR's binary layout, with their sums."""
    folder.mkdir()
    for number, name in enumerate(names):
        records = np.random.default_rng((seed, number)).integers(0, 256, (images, len(labels) + 3072), np.uint8)
        records[:, : len(labels)] = np.transpose(labels)
        (folder / name).write_bytes(records.tobytes())
    sums = [f"{hashlib.sha1((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA1SUMS").write_text("".join(sums))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder with small sets of data, and with a folder for each run."""
    folder = tmp_path_factory.mktemp("runs")
    for number, name in enumerate(("few", "other")):
        write_set(folder / name, ["train.bin", "test.bin"], 20, number, [np.arange(20), FINE])
    names = [f"data_batch_{number}.bin" for number in range(1, 6)]
    write_set(folder / "ten", [*names, "test_batch.bin"], 10, 2, [np.arange(10)])
    gluons = folder / "mxnet/datasets"
    gluons.mkdir(parents=True)
    (gluons / "cifar100").symlink_to(folder / "few")
    return folder


@pytest.fixture(scope="module")
def runs(places):
    """Function that returns a run by its name; it is made once."""
    done = {}

    def of(name):
        if name not in done:
            command, scores = RUNS[name]
            given = {each: places / each for each in ("few", "other", "ten")}
            folder = places / name
            if name == "resumed":
                folder = of("defaults").folder
                (folder / CURVE).unlink()
            if name == "weights":
                best = read_params_file(str(of("defaults").folder / best_files(of("defaults"))[-1])).arrays
                given["weights"] = places / "weights.params"
                write_params_file(str(given["weights"]), {**best, EXTRA: np.zeros(1, np.float32)})
            folder.mkdir(exist_ok=True)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MXNET_HOME", str(places / "mxnet"))
                done[name] = record(folder, f"train-cifar {command.format(**given)}", SCORER, scores)
            done[name].name, done[name].given = name, given
            assert done[name].code == 0, done[name].err
        return done[name]

    return of


def given_in(name, field):
    """What the command of a run says for a setting."""
    argv = RUNS[name][0].split()
    return getattr(fill_parser(OneLineParser("train-cifar"), COMMANDS["train-cifar"], argv).parse_args(argv), field)


@pytest.mark.parametrize(
    "field", [field.name for field in fields(CIFARSettings) if field.name not in IGNORED | OF_EITHER_ENGINE]
)
def test_every_flag_arrives(field, runs, places):
    row = SEEN[field]
    assert given_in(row.run, field) != CIFARSettings.__dataclass_fields__[field].default
    expected = row.expected(places) if callable(row.expected) else row.expected
    assert row.look(runs(row.run)) == expected
    if row.against != "nothing":
        assert given_in(row.against, field) != given_in(row.run, field)
        assert row.look(runs(row.against)) != expected


@pytest.mark.parametrize(
    ("name", "classes", "smoothing", "mixes"),
    [("cosine", 30, 0.1, True), ("steps", 100, 0.0, True), ("cifar10", 10, 0.1, False)],
)
def test_smoothing_and_mixup_act_without_each_other(name, classes, smoothing, mixes, runs):
    """The original crashes without --mixup."""
    first = runs(name).epochs[0]
    np.testing.assert_allclose(first.targets[0], targets(runs(name), classes, smoothing), atol=1e-6)
    assert (first.mixup < 1).any() == mixes


def test_without_both_the_targets_are_the_labels(runs):
    first = runs("defaults").epochs[0]
    np.testing.assert_array_equal(first.targets[0], first.batches[0][1])
    assert first.mixup.tolist() == [1, 1]


def test_no_wd_has_no_effect_without_cosine(runs):
    """As in the original, though not in the help there."""
    assert given_in("steps", "no_wd")
    assert spared(runs("steps")) == set()


def test_the_log_has_the_epochs_rates_and_scores(runs):
    """The rate after the last step."""
    for name in ("cosine", "steps", "weights"):
        run = runs(name)
        assert run.logged("lr:") == pytest.approx(epoch_rates(run), abs=5e-7)
        assert run.logged("val=") == pytest.approx(RUNS[name][1], abs=5e-7)
        assert [line for line in run.log if "[Epoch 0]" in line] == run.log[2:3]
    assert "100 label values under a 100-way head" in runs("steps").log[1]
    assert "20 label values under a 30-way head" in runs("cosine").log[1]


def test_data_that_are_not_the_official_ones_are_doubted(runs):
    assert "attention: the data is not the official set: a SHA1SUMS file of its own describes it\n" in runs("steps").err


def test_without_weights_none_are_named(runs):
    assert "weights: none" in runs("cifar10").out.replace("  ", " ")


def test_a_gpu_that_is_not_there_is_named(places):
    """So --gpus says which devices a run takes."""
    run = record(places, "train-cifar --gpus 7", SCORER, [], gpus=2)
    assert run.code == 2
    assert "--gpus 7: this machine has GPUs 0 to 1 only" in run.err


def test_what_is_validated_is_what_was_trained(runs):
    assert validated_as_trained(runs("cosine")) == [True] * 3


def test_the_best_file_has_the_weights_of_the_first_epoch_with_the_best_score(runs):
    """Two scores that look the same in its name leave a file, and an equal score does not write it again."""
    run = runs("cosine")
    (name,) = best_files(run)
    kept = dict(read_params_file(str(run.folder / name)).arrays)
    assert [same(kept, epoch.validated) for epoch in run.epochs] == [False, False, True, False]


def test_ignored_flags_change_nothing(runs):
    """There is no dropout, and the warm-up starts at 0."""
    cosine = runs("cosine")
    for name in IGNORED:
        assert given_in("cosine", name) != CIFARSettings.__dataclass_fields__[name].default
        assert f"--{name.replace('_', '-')} has no effect, as in the original" in cosine.err
    assert "Dropout" not in str(cosine.net)
    assert cosine.rates == cosine_rates()


def test_the_curve_has_the_errors_and_a_run_ends_with_a_checkpoint(runs):
    """Also where --checkpoint-every does not divide the epochs; the error while training is the RMSE with mixup."""
    for name, training in (("cosine", lambda train: train), ("defaults", lambda train: 1 - train)):
        run = runs(name)
        last = run.checkpoint
        expected = [(training(train), 1 - score) for train, score in zip(run.logged("train="), RUNS[name][1])]
        assert last["state"]["errors"] == [pytest.approx(each, abs=1e-6) for each in expected]
        assert last["name"] == f"epoch-{len(run.epochs)}"


def test_an_epochs_seconds_are_those_of_its_validation_too(runs):
    for epoch, seconds in zip(runs("steps").epochs, runs("steps").logged("time:")):
        assert 0.9 * VALIDATION_SECONDS < seconds - epoch.seconds < 10


def test_a_finished_run_that_is_resumed_does_not_count_again(runs):
    assert CURVE in runs("resumed").files  # drawn again
    (name,) = (name for name in runs("defaults").files if "best_Acc" in name)
    assert (runs("defaults").folder / name).read_text() == "best Acc: 0.5000\n"


def test_mixed_precision_and_shared_statistics_are_asked_of_the_learner(runs, places, monkeypatch):
    monkeypatch.chdir(runs("defaults").folder)
    for flags, expected in (("--amp bfloat16", ("bfloat16", False)), ("--sync-bn", (None, True))):
        line = f"train-cifar {TINY} --data-dir {places}/few {flags}"
        assert planned(monkeypatch, line, amp_and_sync_bn) == expected


def test_workers_are_for_autoaugment_only(runs):
    """Without it they would take longer than the work."""
    assert given_in("weights", "num_workers") == 1
    assert runs("weights").data_workers == 0
