"""Every flag of train_segmentation.py away from its default: what it changes is looked at where it arrives.

A flag that is in no row of the table fails a test, and so does one that changes nothing.
"""

from dataclasses import fields

import mxnet as mx
import numpy as np
import pytest
from shared_by_tests.recorded_runs import (
    OF_EITHER_ENGINE,
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
from gluon_aff.data.samples.stop_signs import write_stop_signs
from gluon_aff.data.stop_signs.annotations import load_stop_signs, mask_toolbox
from gluon_aff.data.stop_signs.masked_images import augment, read_pair, to_draws
from gluon_aff.gluon.networks.zoo import BUILDERS
from gluon_aff.settings.segmentation import SegmentationSettings
from gluon_aff.weights.params_format import read_params_file

pytest.importorskip("pycocotools")

SCORER = "gluon_aff.training.segmentation.iou_and_niou"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
PIXELS = 1500  # of a sign, which some of the drawn images have and others not
TINY = "--base-size 64 --crop-size 48 --batch-size 3 -j 0"
# What each run is given, and IoU and nIoU of its epochs
RUNS = {
    "defaults": (f"{TINY} --num-epochs 2 --seed 0 --data-dir {{few}}", [(0.25, 0.3), (0.5, 0.2)]),
    "other": (
        "--askc-type iAFF --r 2 --scale 1.5 --blocks 2 --channel-times 2 --decoder-width 12 --fuse-order bottom-up "
        f"--stem tiny --data-dir {{other}} --min-area {PIXELS} --base-size 40 --crop-size 32 --batch-size 2 -j 1 "
        "--num-epochs 4 --lr 0.02 --wd 0.003 --gpus= --kvstore local --sync-bn --seed 5 --save-dir weights "
        "--keep-one-best --logging-dir log --save-plot-dir curve --checkpoint-every 2",
        [(0.25, 0.3), (0.50001, 0.2), (0.50004, 0.2), (0.50004, 0.2)],
    ),
    "constant": (
        f"{TINY} --num-epochs 2 --seed 0 --data-dir {{few}} --lr-mode constant --context conv",
        [(0.25, 0.3), (0.5, 0.2)],
    ),
    "resumed": (f"{TINY} --num-epochs 2 --seed 0 --data-dir {{few}} --resume auto", []),
    "summary": ("--summary", []),
}
NETWORKS = {
    "defaults": {"askc_type": "AFF", "blocks": 1, "channel_times": 1},
    "other": {
        "askc_type": "iAFF",
        "blocks": 2,
        "channel_times": 2,
        "r": 2,
        "scale": 1.5,
        "decoder_width": 12,
        "fuse_order": "bottom-up",
        "stem": "tiny",
    },
    "constant": {"askc_type": "AFF", "blocks": 1, "channel_times": 1, "context": "conv"},
}


def built(name, **changed):
    """The network of a run, with some of its arguments changed or, where they are None, left out."""
    arguments = {**NETWORKS[name], **changed}
    return BUILDERS["fpn"](**{key: value for key, value in arguments.items() if value is not None})


def network_argument(name, argument, default=None):
    """A row for an argument of the network: it is the one given, and not the default."""

    def look(run):
        return fits(built(name), run.epochs[0]), fits(built(name, **{argument: default}), run.epochs[0])

    return Seen(name, look, (True, False), against="nothing")


def images_of(run, training):
    """The images and masks that a run has to take."""
    found = load_stop_signs(str(run.given[run.data]), training).images
    least = given_in(run.name, "min_area")
    return [place for place in found if mask_toolbox().area(place.mask) >= least]


def takes_all_images(run):
    """Whether an epoch takes as many as make whole batches, and a validation all of them, of those large enough."""
    batches, size = len(run.epochs[0].batches), len(run.epochs[0].batches[0][0])
    training, validation = (len(images_of(run, half)) for half in (True, False))
    return (batches, len(run.epochs[0].validation[0])) == (training // size, validation)


def nothing_but_a_summary(run):
    return (run.epochs, run.files, run.out.count("trainable parameters: ")) == ([], [], 1)


def seeded(run, seed):
    """Whether the first batch is the one that this seed shuffles, scales, mirrors, crops and blurs."""
    places = images_of(run, True)
    images, masks = run.epochs[0].batches[0]
    order, table = draws(seed, 0, 0).permutation(len(places))[: len(images)], draws(seed, 0, 1).random((99, 6))
    size = given_in(run.name, "base_size"), given_in(run.name, "crop_size")
    pairs = [augment(*read_pair(places[i]), size[1], to_draws(table[i].tolist(), size[0])) for i in order]
    pixels = np.rint((images * np.reshape(STD, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1))) * 255).transpose(0, 2, 3, 1)
    return all(
        image.shape == expected.shape and (image == expected).all() and (mask[0] == expected_mask).all()
        for image, mask, (expected, expected_mask) in zip(pixels, masks, pairs)
    )


def new_weights(run, seed):
    """Whether MSRAPrelu, Kaiming's, made the weights that the run started with."""
    first = run.epochs[0]
    return same(first.weights, initialised(built(run.name), mx.init.MSRAPrelu(), seed, first.inputs[0]))


def dropout_seeds(run, seed):
    """Whether MXNet had a number for the weights, and one for each step, by the seed."""
    steps = [len(epoch.batches) for epoch in run.epochs]
    numbers = [draws(seed, epoch, 3).integers(2**31, size=count) for epoch, count in enumerate(steps)]
    return run.seeds == [seed, *np.concatenate(numbers)]


def poly(rate, updates):
    """Table 2: to 0 by the power 0.9."""
    return pytest.approx([rate * (1 - min(t, updates - 1) / (updates - 1)) ** 0.9 for t in range(1, updates + 1)])


def best_files(run):
    return [name for name in run.files if name.endswith("-best.params")]


def written_in(start):
    return lambda run: [name for name in run.files if name.startswith(start)]


def checkpoints(run):
    """What there is to go on from at the start of each epoch."""
    return [" ".join(epoch.checkpoints) for epoch in run.epochs]


NAME = "stopsign-ResGlobLocaforGlobLocaCha-resnet-20-2-fpn-c-2-r-2-scale-1.5-d-12-bottom-up-tiny"
SEEN = {
    "askc_type": network_argument("other", "askc_type", "AFF"),
    "r": network_argument("other", "r"),
    "scale": network_argument("other", "scale"),
    "context": network_argument("constant", "context"),
    "blocks": network_argument("other", "blocks", 1),
    "channel_times": network_argument("other", "channel_times", 1),
    "decoder_width": network_argument("other", "decoder_width"),
    "fuse_order": network_argument("other", "fuse_order"),
    "stem": network_argument("other", "stem"),
    "data_dir": Seen("other", lambda run: seeded(run, 5), True, "nothing"),
    "min_area": Seen("other", takes_all_images, True, "nothing"),
    "base_size": Seen("other", lambda run: run.epochs[0].validation[0].shape[2:], (40, 40)),
    "crop_size": Seen("other", lambda run: run.epochs[0].inputs[0].shape[2:], (32, 32)),
    "batch_size": Seen("other", lambda run: len(run.epochs[0].inputs[0]), 2),
    "num_workers": Seen("other", lambda run: (run.data_workers, "; 1 data workers" in run.err), (1, True)),
    "num_epochs": Seen("other", lambda run: len(run.epochs), 4),
    "lr": Seen("other", lambda run: run.rates == poly(0.02, len(run.rates)), True),
    "lr_mode": Seen("constant", lambda run: set(run.rates), {0.01}),
    "wd": Seen("other", lambda run: set(run.decay.values()), {0.003}),
    "gpus": Seen("other", lambda run: "(MXNet finds no GPU)" in run.err, False),
    "kvstore": Seen("other", lambda run: run.trainer._kvstore_params["kvstore"], "local"),
    "sync_bn": Seen("other", lambda run: "--sync-bn has no effect on one device" in run.err, True),
    "seed": Seen("other", lambda run: (seeded(run, 5), new_weights(run, 5), dropout_seeds(run, 5)), (True,) * 3),
    "summary": Seen("summary", nothing_but_a_summary, True),
    "save_dir": Seen("other", lambda run: {name.split("/")[0] for name in best_files(run)}, {"weights"}),
    "keep_one_best": Seen("other", best_files, [f"weights/0.5000-{NAME}-best.params"]),
    "logging_dir": Seen("other", written_in("log"), [f"log/train_{NAME}.log"]),
    "save_plot_dir": Seen("other", written_in("curve"), [f"curve/{NAME}_history.png"]),
    "checkpoint_every": Seen("other", checkpoints, ["epoch-0", "epoch-0", "epoch-2", "epoch-2"]),
    "resume": Seen("resumed", lambda run: (run.err.count("continuing from params/"), len(run.epochs)), (1, 0)),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Function that returns a run by its name; it is made once."""
    folder, done = tmp_path_factory.mktemp("runs"), {}
    write_stop_signs(str(folder / "few"), 9, 4)
    write_stop_signs(str(folder / "signs"), 12, 6, seed=1)

    def of(name):
        if name not in done:
            command, scores = RUNS[name]
            given = {"few": folder / "few", "other": folder / "signs"}
            place = of("defaults").folder if name == "resumed" else folder / name
            place.mkdir(exist_ok=True)
            done[name] = record(place, f"train-segmentation {command.format(**given)}", SCORER, scores)
            done[name].name, done[name].given = name, given
            done[name].data = "other" if name == "other" else "few"
            assert done[name].code == 0, done[name].err
        return done[name]

    return of


def given_in(name, field):
    """What the command of a run says for a setting."""
    argv = RUNS[name][0].split()
    parser = fill_parser(OneLineParser("train-segmentation"), COMMANDS["train-segmentation"], argv)
    return getattr(parser.parse_args(argv), field)


@pytest.mark.parametrize(
    "field", [field.name for field in fields(SegmentationSettings) if field.name not in OF_EITHER_ENGINE]
)
def test_every_flag_arrives(field, runs):
    row = SEEN[field]
    assert given_in(row.run, field) != SegmentationSettings.__dataclass_fields__[field].default
    assert row.look(runs(row.run)) == row.expected
    if row.against != "nothing":
        assert given_in(row.against, field) != given_in(row.run, field)
        assert row.look(runs(row.against)) != row.expected


def test_the_log_has_the_epochs_rates_and_scores(runs):
    """The rate after the last step; the first of the scores is IoU."""
    for name in ("other", "constant"):
        run = runs(name)
        assert run.logged("lr:") == pytest.approx([epoch.rates[-1] for epoch in run.epochs], abs=5e-7)
        assert list(zip(run.logged("val="), run.logged("niou="))) == [
            pytest.approx(each, abs=5e-7) for each in RUNS[name][1]
        ]


def test_the_best_niou_need_not_be_of_the_epoch_with_the_best_iou(runs):
    assert "best IoU:  0.5\nbest nIoU: 0.3\n" in runs("defaults").out


def test_the_best_file_has_the_weights_of_the_first_epoch_with_the_best_iou(runs):
    run = runs("other")
    (name,) = best_files(run)
    kept = dict(read_params_file(str(run.folder / name)).arrays)
    assert [same(kept, epoch.validated) for epoch in run.epochs] == [False, False, True, False]


def test_mixed_precision_and_shared_statistics_are_asked_of_the_learner(runs, monkeypatch):
    few = runs("defaults").given["few"]
    monkeypatch.chdir(runs("defaults").folder)
    for flags, expected in (("--amp bfloat16", ("bfloat16", False)), ("--sync-bn", (None, True))):
        line = f"train-segmentation {TINY} --data-dir {few} {flags}"
        assert planned(monkeypatch, line, amp_and_sync_bn) == expected


def test_a_gpu_that_is_not_there_is_named(tmp_path):
    """So --gpus says which devices a run takes."""
    run = record(tmp_path, "train-segmentation --gpus 7", SCORER, [], gpus=2)
    assert run.code == 2
    assert "--gpus 7: this machine has GPUs 0 to 1 only" in run.err
