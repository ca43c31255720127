"""Every command on every page runs, one after the other as a reader would type them, on tiny data and shortened."""

import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from shared_by_tests.documents import PAGES, ROOT, SCRIPTS, commands
from shared_by_tests.golden_values import golden_arrays
from shared_by_tests.written_logs import log_lines

from gluon_aff import cli, published
from gluon_aff.data.samples.stop_signs import write_stop_signs
from gluon_aff.engines import torch_files
from gluon_aff.evaluation import weights_file
from gluon_aff.models import model_record
from gluon_aff.settings.cifar import CIFARSettings
from gluon_aff.settings.segmentation import SegmentationSettings
from gluon_aff.training.architectures import cifar_architecture, segmentation_architecture
from gluon_aff.weights.params_format import git_blob_sha1, write_params_file

pytest.importorskip("torch")
pytestmark = [pytest.mark.long, pytest.mark.engine, pytest.mark.timeout(1800)]

ELSEWHERE = ("make", "pip", "git", "torchrun", ".")  # .ci/run, tests/test_platform.py, tests/distributed
EPOCH = "--num-epochs 1 --warmup-epochs 0 --mixup-off-epoch 0 --lr-decay-epoch 2 -j 0"
BRIEFLY = {
    "train-cifar": f"{EPOCH} --batch-size 50 --gpus=",
    "train-imagenet": f"{EPOCH} --batch-size 8 --num-gpus 0 --input-size 32",
    "train-segmentation": "--num-epochs 1 --base-size 64 --crop-size 48 --batch-size 4 -j 0 --gpus=",
    "ablation": "--num-epochs 1 --seeds 0 --fusions Add",
    "memory": "--batch-size 2",
}
NARROW = "--blocks 1 --channel-times 1"
PIXELS, CLASSES = 40, 1000
PUBLISHED = (("aff_resnet32_cifar100", "fine"), ("iaff_resnext50_32x4d", "imagenet"), ("aff_resnet50", "imagenet"))
EXIT_CODES = {"demo/logs": 2, "logs/example": 2}  # no published run has the demo's settings


def architecture_of(path):
    """Return the network of a weights file that the pages name."""
    name = Path(path).name
    if "afi_resnet32" in name:
        return model_record("afi_resnet32_cifar100").architecture(10)
    if "resnet32_cifar100" in name:
        return model_record("resnet32_cifar100").architecture(10)
    if "stopsign" in name:
        return segmentation_architecture(
            SegmentationSettings(askc_type="ASKCFuse", blocks=1, channel_times=1, stem="tiny")
        )
    if "imagenet" in name:
        return model_record("aff_resnet50").architecture(8)
    if "resnet-8" in name:
        return cifar_architecture(CIFARSettings(dataset="cifar10", askc_type="ASKCFuse", blocks=1, channel_times=1))
    return model_record("aff_resnet32_cifar100").architecture()


def write_weights(path, architecture):
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = torch_files().parameter_shapes(architecture)  # MXNet finds some sizes out at the first image only
    write_params_file(str(path), golden_arrays(shapes))


@pytest.fixture(scope="module")
def data(tmp_path_factory, few_shapes):
    """The files that the pages take as given."""
    folder = tmp_path_factory.mktemp("reader")
    with tarfile.open(folder / "cifar-100-binary.tar.gz", "w:gz") as archive:
        archive.add(few_shapes, "cifar-100-binary")
    for part in ("train", "val"):
        for number in range(CLASSES):
            one = folder / "imagenet" / part / f"n{number:08d}"
            one.mkdir(parents=True)
            Image.new("RGB", (PIXELS, PIXELS), (number % 256, number // 4, 99)).save(one / f"{number}.JPEG")
    write_stop_signs(str(folder / "coco"), 17, 6)
    for name in ("cat.jpg", "dog.png"):
        Image.new("RGB", (500, 375), (90, 60, 30)).save(folder / name)
    log = folder / "open-aff/params/cifar100/AFF-ResNet-32/train_cifar100-ASKCFuse-resnet-32-c-4-s-1.log"
    log.parent.mkdir(parents=True)
    log.write_text("\n".join(log_lines(published.published_runs()["aff_resnet32_fine"])))
    for name in (*SCRIPTS, "logs"):
        os.symlink(ROOT / name, folder / name)
    (folder / "kinds.txt").write_text(
        "\n".join(["dahlia", "trees", *"abcdef"])
    )  # a card has them beside trained weights
    (folder / "demo" / "logs").mkdir(parents=True)
    shutil.copy(ROOT / "logs/example/train_cifar10-ASKCFuse-resnet-8-c-1-s-1.log", folder / "demo/logs")
    for each in published.published_weights():
        if (each.model, each.labels) in PUBLISHED:
            write_weights(folder / each.path, model_record(each.model).architecture())
    for kind, place in (("digits", "digits"), ("digits", "demo/digits"), ("pictures", "demo/imagenet/pictures")):
        assert cli.main(["make-data", kind, str(folder / place)]) == 0
    return folder


@pytest.fixture
def reader(data, monkeypatch, tmp_path):
    """A copy of them to work in; published weights are there."""
    folder = tmp_path / "reader"
    shutil.copytree(data, folder, symlinks=True)
    (folder / "logs").unlink()
    shutil.copytree(ROOT / "logs", folder / "logs")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setattr(weights_file, "published_file", lambda weights, *_: str(data / weights.path))
    known = tuple(
        replace(each, git_blob_sha1=git_blob_sha1(str(data / each.path))) if (data / each.path).exists() else each
        for each in published.published_weights()
    )
    monkeypatch.setattr(published, "published_weights", lambda: known)


def shortened(name, arguments):
    """Return the arguments with what makes the command brief; those of a launch's command too."""
    if name == "launch":
        inner = arguments.index("--") + 1
        script = arguments[inner + 1]
        return [*arguments[: inner + 2], *shortened(SCRIPTS[script], arguments[inner + 2 :])]
    brief = BRIEFLY.get(name, "")
    if name == "train-cifar" and "afinets" not in arguments:
        brief = f"{brief} {NARROW}"
    if name == "evaluate" and "imagenet" in arguments:
        brief = "--input-size 64"
    if name == "gradcam":
        brief = "--names ../../kinds.txt"
    return [*arguments, *brief.split()]


def run(words):
    """Run a command as the shell would; return its exit code."""
    program, *rest = words
    if program == "cd":
        if rest != ["gluon_aff"]:  # the clone, where this begins
            os.chdir(rest[0])
        return 0
    if program == "export":
        os.environ.update(word.split("=", 1) for word in rest)
        return 0
    script = rest[0] if program == "python" else None
    name = SCRIPTS[script] if script else next(word for word in rest if word in cli.COMMANDS or word.startswith("--"))
    arguments = shortened(name, rest[1:] if script else rest)
    if name == "launch":
        return subprocess.run([sys.executable, "-m", "gluon_aff", *arguments]).returncode
    return cli.main(arguments, script, SCRIPTS.get(script))


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page) and page != "docs/operators.md"])
def test_the_commands_of_a_page_run(page, capsys):
    for words in commands(page):
        if words[0] in ELSEWHERE or words[:3] == ["python", "-m", "benchmarks"]:
            continue
        for word in words[1:]:
            if word.endswith(".params") and not os.path.exists(word):
                write_weights(Path(word), architecture_of(word))
        code = run(words)
        expected = max(
            (code for part, code in EXIT_CODES.items() if part in words[-1] and "compare" in words), default=0
        )
        said = capsys.readouterr()
        assert code == expected or "doctor" in words, f"{' '.join(words)}\n{said.out[-2000:]}\n{said.err[-2000:]}"
