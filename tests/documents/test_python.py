"""The Python that the pages print runs as printed, each page's blocks one after the other."""

from dataclasses import replace

import pytest
from PIL import Image
from shared_by_tests.documents import PAGES, ROOT, python_blocks, text_of
from shared_by_tests.golden_values import golden_arrays
from shared_by_tests.written_logs import log_lines

from gluon_aff.engines import engine
from gluon_aff.models import model_record
from gluon_aff.published import published_runs
from gluon_aff.training import cifar
from gluon_aff.weights.params_format import write_params_file

OWN_TESTS = ("docs/operators.md",)  # tests/test_registry.py
WITH_PYTHON = [page for page in PAGES if python_blocks(page) and page not in OWN_TESTS]
FINDERS = {
    "mxnet": "gluon_aff.gluon.networks.zoo.pretrained_file",
    "torch": "gluon_aff.pytorch.networks.zoo.pretrained_file",
    "": "gluon_aff.evaluation.weights_file.published_file",
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Give the path of a model's weights, in place of the published ones."""
    folder = tmp_path_factory.mktemp("weights")

    def file(asked_for, *_):
        model = getattr(asked_for, "model", None) or asked_for.name
        path = folder / f"{model}.params"
        if not path.exists():
            shapes = engine().parameter_shapes(model_record(model).architecture())
            write_params_file(str(path), golden_arrays(shapes))
        return str(path)

    return file


@pytest.fixture
def machine(weights, few_shapes, monkeypatch, tmp_path):
    """A user's folder, with a picture and a log; published weights are there, and training is short."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (500, 375), (90, 60, 30)).save("cat.jpg")
    (tmp_path / "train.log").write_text("\n".join(log_lines(published_runs()["aff_resnet32_fine"])))
    train = cifar.train_cifar

    def train_briefly(settings):
        tiny = {"blocks": 1, "channel_times": 1, "num_epochs": 1, "warmup_epochs": 0, "mixup_off_epoch": 0}
        return train(replace(settings, **tiny, batch_size=50, data_dir=few_shapes))

    monkeypatch.setattr(cifar, "train_cifar", train_briefly)


def run(page, monkeypatch, weights):
    text = "\n".join(python_blocks(page))
    for package in ("mxnet", "torch"):
        if f"import {package}" in text:
            pytest.importorskip(package)
    for package, finder in FINDERS.items():
        if not package or f"import {package}" in text:
            monkeypatch.setattr(finder, weights)
    names = {}
    for block in python_blocks(page):
        if "import timm" not in block:  # tests/pytorch/test_elsewhere.py has it
            exec(block.replace("path/to/the/clone", str(ROOT)), names)
    return names


@pytest.mark.inference
@pytest.mark.filterwarnings("ignore:.*the head .* was left out")  # docs/weights.md says so
@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("page", WITH_PYTHON)
def test_a_pages_python_runs(page, monkeypatch, weights, capsys):
    run(page, monkeypatch, weights)
    printed = capsys.readouterr().out.splitlines()
    said = [line.split("`")[1] for line in text_of(page).splitlines() if line.startswith("It prints `")]
    assert set(said) <= set(printed)
