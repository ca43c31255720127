"""Whole training runs on tiny data, and what they leave, to be held against goldens (tests/goldens/README.md).

In tests/, `OMP_NUM_THREADS=1 python -m shared_by_tests.golden_runs` makes the goldens anew and says what changed.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import zlib
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple
from unittest import mock

import numpy as np
from shared_by_tests.documented_commands import DOCUMENTED, DOCUMENTED_IMAGENET
from shared_by_tests.documents import SCRIPTS

from gluon_aff.cli import main
from gluon_aff.data.imagenet.record_writing import write_records
from gluon_aff.data.samples.cifar_layout import write_shapes
from gluon_aff.data.samples.pictures import write_pictures
from gluon_aff.data.samples.stop_signs import write_stop_signs
from gluon_aff.weights.params_format import read_params_file, write_params_file

GOLDENS = Path(__file__).parents[1] / "goldens" / "runs"
SHORTENED = {50: (1, 1, 1, 1)}  # blocks of the ImageNet networks' stages
RECORD_BYTES = 2 + 3 * 32 * 32  # of CIFAR-100
SIGNS = 17, 6  # images of stop signs for training and validation
SUPERCLASSES = 4  # of 20, so that the few steps of a run raise its score
CIFAR_OUTPUTS = 100
ENTRIES = 2  # of each weight that are kept

CIFAR = "--data-dir ../shapes -j 0 --gpus= --seed 5 --batch-size 10 --num-epochs 3 --wd 0.1"
THIN = f"{CIFAR} --channel-times 1 --blocks 1"
RECORDS = " ".join(
    f"--rec-{part} ../pictures/{part}.rec --rec-{part}-idx ../pictures/{part}.idx" for part in ("train", "val")
)
IMAGENET = (
    "--num-gpus 0 -j 0 --seed 5 --batch-size 8 --input-size 32 --classes 8 --lr 0.0001 --wd 1 "
    "--num-epochs 2 --warmup-epochs 1 --mixup-off-epoch 1 --log-interval 1 --save-dir params --checkpoint-every 2"
)


@dataclass(frozen=True)
class Run:
    """A documented command and what makes it tiny.

    Attributes:
        script: the original's.
        words: the command's, as documented.
        overrides: appended to them.
        weights_flag: names the file of the weights to begin with; None if the run begins with those that it draws.
    """

    script: str
    words: str
    overrides: str
    weights_flag: Optional[str] = None

    @property
    def exact_pixels(self) -> bool:
        """Whether the batches are the same on every machine: nothing decodes or interpolates but Pillow's nearest."""
        return self.script == "train_cifar.py"

    def arguments(self, name: str) -> List[str]:
        """Of the command line."""
        start = [self.weights_flag, f"../{name}.params"] if self.weights_flag else []
        return [*self.words.split(), *self.overrides.split(), *start]


def _cifar_runs() -> Dict[str, Run]:
    words = {name: command for name, (command, _) in DOCUMENTED.items()}
    head = f"{THIN} --warmup-epochs 1 --mixup-off-epoch 1"
    first = f"{THIN} --warmup-epochs 1 --lr-decay-epoch 2,3"  # each comes one earlier
    released = f"--release first {THIN} --mixup-off-epoch 1 --lr-decay-epoch 1,2 --keep-one-best"
    short = "--lr 0.0001 --num-epochs 2 --batch-size 20"  # its name stands for four blocks a stage
    commands = {
        "cifar_head_resnet": (words["AFF-ResNet-32"], f"{head} --lr 0.03"),
        "cifar_head_resnext": (words["AFF-ResNeXt-38"], f"{head} --lr 0.003"),
        "cifar_first_resnet": (words["first release, ResNet-32"], f"{first} --lr 0.01 --seed 6"),
        "cifar_first_resnext": (
            words["first release, ResNeXt-38"],
            f"{first} {short}",
        ),
        "cifar_release_first_resnet": (
            words["first release, ResNet-32"],
            f"{released} --lr 0.03 --seed 6",
        ),
        "cifar_afinets": (
            "--recipe afinets --model afi_resnet32_cifar100",
            f"{CIFAR} --lr 0.0005 --lr-decay-epoch 1,2",
        ),
    }
    runs = {name: Run("train_cifar.py", *command, "--resume-from") for name, command in commands.items()}
    from_seed = Run(
        "train_cifar.py", words["AFF-ResNet-32"], f"{head} --num-epochs 1 --warmup-epochs 0 --mixup-off-epoch 0"
    )
    return {**runs, "cifar_from_seed": from_seed}


def _imagenet_runs() -> Dict[str, Run]:
    by_records = {
        "imagenet_head_iaff_resnext": "iAFF-ResNeXt-50",
        "imagenet_head_iaff_resnet": "iAFF-ResNet-50",
        "imagenet_head_aff_resnext": "AFF-ResNeXt-50",
        "imagenet_first_aff_resnet": "first release, AFF-ResNet-50",
        "imagenet_first_iaff_resnet": "first release, iAFF-ResNet-50",
        "imagenet_first_aff_resnext": "first release, AFF-ResNeXt-50",
    }
    runs = {
        name: Run(
            "train_imagenet.py",
            DOCUMENTED_IMAGENET[command][0],
            f"{IMAGENET} {RECORDS}",
            "--resume-params",
        )
        for name, command in by_records.items()
    }
    words = "--model resnet --askc-type ASKCFuse --label-smoothing --mixup --auto_aug --last-gamma --no-wd"
    folders = f"{IMAGENET} --data-dir ../pictures --save-frequency 2"
    stepwise = f"{folders} --num-epochs 3 --lr-mode step --lr-decay-epoch 2 --seed 12"
    return {
        **runs,
        "imagenet_folders": Run("train_imagenet.py", words, stepwise, "--resume-params"),
        "imagenet_from_seed": Run(
            "train_imagenet.py", words, f"{folders} --num-epochs 1 --warmup-epochs 0 --mixup-off-epoch 0"
        ),
    }


SEGMENTATION = Run(
    "train_segmentation.py",
    "",
    "--data-dir ../signs --base-size 64 --crop-size 48 --batch-size 5 --num-epochs 3 -j 0 --gpus= --seed 5 --wd 0.1",
)
RUNS = {**_cifar_runs(), **_imagenet_runs(), "segmentation": SEGMENTATION}
# Other runs of the first release have their flags, and those of the head their networks
ALIKE = ("imagenet_first_iaff_resnet", "imagenet_first_aff_resnext")


def write_data(folder: Path) -> None:
    """What the runs train on; a run has a folder of its own beside it."""
    write_few_shapes(folder)
    write_stop_signs(str(folder / "signs"), *SIGNS)
    write_records_of_pictures(folder)


def write_few_shapes(folder: Path) -> None:
    """The images of SUPERCLASSES of the shapes."""
    write_shapes(str(folder / "all_shapes"), train_images=200, test_images=200)
    (folder / "shapes").mkdir()
    sums = []
    for name in ("train.bin", "test.bin"):
        records = np.fromfile(folder / "all_shapes" / name, np.uint8).reshape(-1, RECORD_BYTES)
        few = records[records[:, 0] < SUPERCLASSES].tobytes()
        (folder / "shapes" / name).write_bytes(few)
        sums.append(f"{hashlib.sha1(few).hexdigest()}  {name}\n")
    (folder / "shapes" / "SHA1SUMS").write_text("".join(sums))


def write_records_of_pictures(folder: Path) -> None:
    """Pictures in class folders and in record files."""
    write_pictures(str(folder / "pictures"), train_images=24, val_images=16)
    for part in ("train", "val"):
        write_records(str(folder / "pictures" / part), str(folder / "pictures" / part), num_workers=0)


@dataclass
class Steps:
    """What the network was given in each step: batch before mixup, mixup weight, learning rate."""

    batches: List[Tuple[np.ndarray, ...]] = field(default_factory=list)
    mixup_weights: List[float] = field(default_factory=list)
    rates: List[float] = field(default_factory=list)


@contextlib.contextmanager
def watched() -> Iterator[Steps]:
    """Shorten the ImageNet networks and watch the training steps: the one place that knows the package's layout."""
    from gluon_aff.settings import imagenet as imagenet_settings
    from gluon_aff.training import setup

    steps, make_learner = Steps(), setup.Setup.learner

    def watched_learner(*arguments: Any) -> Any:
        learner = make_learner(*arguments)
        step = learner.step

        def watching(images: np.ndarray, labels: np.ndarray, weight: float, *more: Any) -> Any:
            steps.batches.append((images, labels))
            steps.mixup_weights.append(float(weight))
            figures = step(images, labels, weight, *more)
            steps.rates.append(learner.learning_rate)
            return figures

        learner.step = watching
        return learner

    with mock.patch.object(setup.Setup, "learner", watched_learner), mock.patch.object(
        imagenet_settings, "BLOCKS", SHORTENED
    ):
        yield steps


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in `folder`; what changes in the environment changes back."""
    before = os.getcwd()
    with mock.patch.dict(os.environ):
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def initial_value(name: str, shape: Tuple[int, ...]) -> np.ndarray:
    """Of a weight that a run begins with, by its name alone, so that every engine can have the same."""
    random = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    if name.endswith("gamma"):
        return random.uniform(0.1, 0.4, shape).astype("float32")
    if name.endswith("running_var"):
        return random.uniform(0.5, 1.5, shape).astype("float32")
    if name.endswith("weight"):
        return random.normal(0, np.sqrt(1 / np.prod(shape[1:])), shape).astype("float32")
    if name in ("output.bias", "fc.bias"):  # the features decide, in CIFAR's networks between the labels there are
        favoured = SUPERCLASSES if shape == (CIFAR_OUTPUTS,) else 0
        return 3 * (np.arange(*shape) < favoured).astype("float32")
    return random.normal(0, 0.1, shape).astype("float32")


def write_initial_weights(path: Path, kinds: Dict[str, str]) -> None:
    """Weights of these types and shapes, such as `float32 16x3x3x3`."""
    shapes = {name: tuple(map(int, kind.split()[1].split("x"))) for name, kind in kinds.items()}
    write_params_file(str(path), {name: initial_value(name, shape) for name, shape in shapes.items()})


def measure(name: str, data: Path, kinds: Dict[str, str]) -> Dict[str, Any]:
    """What a golden holds, of the run of that name, done anew.

    Args:
        name: in RUNS.
        data: where `write_data` wrote.
        kinds: of the weights to begin with, as a golden has them; if empty, the run begins with those that it draws.
    """
    run, folder = RUNS[name], data / name
    arguments = run.arguments(name)
    if run.weights_flag and kinds:
        write_initial_weights(data / f"{name}.params", kinds)
    elif run.weights_flag:
        arguments = arguments[:-2]
    folder.mkdir()
    with inside(folder), watched() as steps:
        assert main(arguments, run.script, SCRIPTS[run.script]) == 0
    golden = {
        "command": " ".join([run.script, *run.arguments(name)]),
        "engine_free": engine_free(run, steps, folder),
        "rounded": rounded(steps, folder),
        "made_with": machine(),
    }
    shutil.rmtree(folder)  # of the ImageNet networks there are hundreds of megabytes
    return golden


FIGURES = r"\b(train|val|niou|loss|rmse|accuracy|err-top1|err-top5)=([0-9.]+)"
MASKS = (
    (FIGURES, r"\1=#"),
    (r"\b(time|time cost|[Ss]peed): [0-9.]+", r"\1: #"),
    (r"\b(gluon_aff|NumPy|Python) [^ ,]+,", r"\1 #,"),
    (r"\b(MXNet|PyTorch) [^ ,]+,", "MXNet #,"),
)


def engine_free(run: Run, steps: Steps, folder: Path) -> Dict[str, Any]:
    """What is the same whatever computes, and however that rounds."""
    weights, states = final_arrays(folder)
    batches = [
        {
            "shape": "x".join(map(str, images.shape)),
            **({"labels": labels.tolist()} if labels.ndim == 1 else {}),
            **({"sha256": hashlib.sha256(images.tobytes()).hexdigest()} if run.exact_pixels else {}),
        }
        for images, labels in steps.batches
    ]
    return {
        "log": [masked(line) for line in log_of(folder)],
        "files": sorted(masked_path(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()),
        "learning_rates": [float(f"{rate:.9g}") for rate in steps.rates],
        "mixup_weights": [round(weight, 10) for weight in steps.mixup_weights],
        "batches": batches,
        "weights": {name: kind_of(array) for name, array in weights.items()},
        "states": {name: kind_of(array) for name, array in states.items()},
    }


def rounded(steps: Steps, folder: Path) -> Dict[str, Any]:
    """What rounding touches: the log's figures, each in its order, and the last weights."""
    figures: Dict[str, List[float]] = {}
    log = log_of(folder)
    training = "accuracy" if "mixup=False" in log[0] else "train"  # else it is an error of the outputs, or an IoU
    for name, value in (found for line in log for found in re.findall(FIGURES, line)):
        figures.setdefault(training if name == "train" else name, []).append(float(value))
    weights, _ = final_arrays(folder)
    everything = hashlib.sha256()
    for name, array in sorted(weights.items()):
        everything.update(name.encode() + array.tobytes())
    pixels = hashlib.sha256(b"".join(array.tobytes() for batch in steps.batches for array in batch))
    return {
        "figures": figures,
        "weights": {name: summary(array) for name, array in weights.items()},
        "weights_sha256": everything.hexdigest(),
        "batch_means": [np.round(channel_means(*batch), 4).tolist() for batch in steps.batches],
        "batches_sha256": pixels.hexdigest(),
    }


def channel_means(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of each image, and of its mask where it has one."""
    channels = images if labels.ndim == 1 else np.concatenate([images, labels], axis=1)
    return channels.mean(axis=(2, 3), dtype=np.float64)


def log_of(folder: Path) -> List[str]:
    """Lines of the log of the run in `folder`."""
    (path,) = (path for path in folder.rglob("*.log") if not path.name.endswith("_best_Acc.log"))
    return path.read_text().splitlines()


def masked(line: str) -> str:
    """A line of a log with # for figures, times and versions."""
    for pattern, replacement in MASKS:
        line = re.sub(pattern, replacement, line)
    return line


def masked_path(path: Path) -> str:
    """A path with # for a score and for the host's name."""
    return re.sub(r"(^|/)[01]\.\d{4}-", r"\1#-", path.as_posix()).replace(f"_{socket.gethostname()}_", "_#_")


def final_arrays(folder: Path) -> Tuple[Dict[str, np.ndarray], Dict[str, np.ndarray]]:
    """Weights and optimizer's states in the last checkpoint, by name."""
    (checkpoint,) = folder.glob("*/*.checkpoint/epoch-*")
    weights, states = (
        read_params_file(str(checkpoint / f"{kind}.params")).arrays for kind in ("parameters", "optimizer")
    )
    return weights, states


def kind_of(array: np.ndarray) -> str:
    """Type and shape, such as `float32 16x3x3x3`."""
    return f"{array.dtype.name} {'x'.join(map(str, array.shape))}"


def summary(array: np.ndarray) -> List[float]:
    """Root mean square, mean and a few entries."""
    flat = array.astype(np.float64).ravel()
    entries = flat[np.linspace(0, len(flat), ENTRIES, endpoint=False).astype(int)]
    return [float(f"{figure:.7g}") for figure in (np.sqrt((flat**2).mean()), flat.mean(), *entries)]


def machine() -> Dict[str, str]:
    """What decides how figures are rounded."""
    facts = dict(re.findall(r"^(model name|flags)\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    instructions = [flag for flag in facts.get("flags", "").split() if re.match("avx|amx|fma", flag)]
    return {
        "processor": facts.get("model name", "unknown"),
        "instructions": " ".join(sorted(instructions)),
        "threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        "mxnet": version_of("mxnet"),
        "numpy": np.__version__,
        "opencv": version_of("opencv-python-headless"),
        "pillow": version_of("pillow"),
    }


def version_of(distribution: str) -> str:
    """Its version, or that it is missing."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "missing"


class Distance(NamedTuple):
    """How far a figure is from the golden's, and which figure that is."""

    value: float
    where: str


TOLERANCES = {"counted": 0.0625, "averaged": 5e-5, "weights": 1e-5, "statistics": 1e-5, "pixels": 0.02}  # at least
MARGIN = 10  # between what rounding was seen to do and what is a fault
OTHER_ROUNDINGS = (
    {"MXNET_MKLDNN_ENABLED": "0", "MXNET_ONEDNN_ENABLED": "0"},  # MXNet's own convolutions
    {"DNNL_MAX_CPU_ISA": "SSE41"},  # oneDNN's, as on processors of 2008
    {"DNNL_MAX_CPU_ISA": "AVX2"},  # and of 2013
)
COUNTED = ("val", "niou", "accuracy", "err-top1", "err-top5")


def distances(golden: Dict[str, Any], found: Dict[str, Any]) -> Dict[str, Distance]:
    """The largest distance of each kind of what rounding touches.

    `counted`: of figures that count images or pixels, absolute. `averaged`: of the others in the log, relative.
    `weights`: of the summaries of a weight, relative to its root mean square, or to a tenth if that is less.
    `statistics`: the same of batch norm's running statistics, which rounding touches more.
    `pixels`: of the means of the images' channels, absolute.
    """
    far: Dict[str, List[Distance]] = {kind: [] for kind in TOLERANCES}
    for name, expected in golden["figures"].items():
        kind = "counted" if name in COUNTED else "averaged"
        for number, (one, other) in enumerate(zip(expected, found["figures"][name])):
            scale = 1.0 if name in COUNTED else max(abs(one), 1e-3)
            far[kind].append(Distance(abs(one - other) / scale, f"{name} {number}"))
    for name, expected in golden["weights"].items():
        difference = largest_difference(expected, found["weights"][name])
        far["statistics" if "running_" in name else "weights"].append(
            Distance(difference / max(expected[0], 0.1), name)
        )
    for number, (one, other) in enumerate(zip(golden["batch_means"], found["batch_means"])):
        far["pixels"].append(Distance(largest_difference(one, other), f"batch {number}"))
    return {kind: max(those, default=Distance(0.0, "none")) for kind, those in far.items()}


def largest_difference(one: Any, other: Any) -> float:
    """Of two lists of figures; infinite where one is no number, or there are more of them."""
    if np.shape(one) != np.shape(other):
        return float("inf")
    return float(np.nan_to_num(np.abs(np.subtract(one, other)), nan=np.inf).max())


def golden_of(name: str) -> Dict[str, Any]:
    """The golden of that name; empty if there is none."""
    path = GOLDENS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def as_text(golden: Dict[str, Any]) -> str:
    """JSON with sorted keys and a list of figures in one line."""

    def in_one_line(figures: re.Match[str]) -> str:
        return f"[{', '.join(figures[0][1:-1].replace(',', ' ').split())}]"

    text = json.dumps(golden, indent=1, sort_keys=True)
    return re.sub(r"\[[-+.,\deE\s]*\]", in_one_line, text) + "\n"


def changes(golden: Dict[str, Any], found: Dict[str, Any]) -> List[str]:
    """Differing lines of what rounding does not touch."""
    before, after = (
        as_text({key: part[key] for key in ("command", "engine_free") if key in part}).splitlines()
        for part in (golden, found)
    )
    return list(difflib.unified_diff(before, after, "golden", "found", lineterm="", n=0))


def renew(names: List[str], write: bool) -> Dict[str, Dict[str, float]]:
    """Do the runs, say loudly what changed, and write the goldens; return how far each is from the one before."""
    all_distances = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_data(data)
        for name in names:
            golden = golden_of(name)
            kinds = golden.get("engine_free", {}).get("weights", {})
            found = measure(name, data, kinds)
            if RUNS[name].weights_flag and not kinds:
                found = measure(name, data, found["engine_free"]["weights"])
            differing = changes(golden, found) if golden else ["NEW GOLDEN"]
            print(f"=== {name}: {'THE SAME BUT FOR ROUNDING' if not differing else 'CHANGED'}", *differing, sep="\n")
            if golden:
                far = distances(golden["rounded"], found["rounded"])
                print(*(f"{kind}: {distance.value:.2g} ({distance.where})" for kind, distance in far.items()), sep="\n")
                all_distances[name] = {kind: distance.value for kind, distance in far.items()}
            if write:
                write_golden(name, {**found, "moved_by_rounding": golden.get("moved_by_rounding", {})})
    return all_distances


def write_golden(name: str, golden: Dict[str, Any]) -> None:
    """Replace the golden of that name."""
    GOLDENS.mkdir(exist_ok=True)
    (GOLDENS / f"{name}.json").write_text(as_text(golden))


def measure_rounding(names: List[str]) -> None:
    """Write in the goldens how far other roundings move each figure: the largest distance over OTHER_ROUNDINGS."""
    largest: Dict[str, Dict[str, float]] = {name: dict.fromkeys(TOLERANCES, 0.0) for name in names}
    for changed in OTHER_ROUNDINGS:
        print(f"##### {changed}", flush=True)
        with tempfile.NamedTemporaryFile() as file:
            command = [
                sys.executable,
                "-m",
                "shared_by_tests.golden_runs",
                "--dry-run",
                "--distances",
                file.name,
                *names,
            ]
            subprocess.run(command, env={**os.environ, **changed}, check=True)
            for name, moved in json.loads(Path(file.name).read_text()).items():
                largest[name] = {kind: max(value, moved[kind]) for kind, value in largest[name].items()}
    for name, moved in largest.items():
        rounded_up = {kind: float(f"{value:.2g}") for kind, value in moved.items()}
        write_golden(name, {**golden_of(name), "moved_by_rounding": rounded_up})


def tolerance(golden: Dict[str, Any], kind: str) -> float:
    """How far a figure of that kind may be from the golden's: MARGIN times what rounding was seen to do, or more."""
    return max(TOLERANCES[kind], MARGIN * golden["moved_by_rounding"].get(kind, 0.0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Do the golden runs and write the goldens anew.")
    parser.add_argument("names", nargs="*", metavar="RUN", help=f"default: all of {', '.join(RUNS)}")
    parser.add_argument("--dry-run", action="store_true", help="say what would change and write nothing")
    parser.add_argument("--rounding", action="store_true", help="only measure how far other roundings move them")
    parser.add_argument("--distances", metavar="FILE", help="write how far the figures are from the goldens")
    options = parser.parse_args()
    chosen = options.names or list(RUNS)
    if options.rounding:
        measure_rounding(chosen)
    else:
        moved = renew(chosen, not options.dry_run)
        if options.distances:
            Path(options.distances).write_text(json.dumps(moved))
