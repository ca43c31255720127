"""Evaluating and predicting from weight files, as the commands do."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from gluon_aff.cli import main
from gluon_aff.data.cifar.files import load_cifar
from gluon_aff.data.class_names import class_names
from gluon_aff.data.samples.cifar_layout import write_digits
from gluon_aff.errors import GluonAFFError, InputError
from gluon_aff.evaluation import weights_file
from gluon_aff.evaluation.weights_file import WeightsRequest, evaluate_weights, load_network, load_weights, output_names
from gluon_aff.gluon.networks.zoo import cifar_resnet
from gluon_aff.published import published_weights
from gluon_aff.results.evaluations import COLUMNS, append_row, check_table
from gluon_aff.results.logs import read_log
from gluon_aff.weights import description
from gluon_aff.weights.card import Card

RUN = "cifar10-ASKCFuse-resnet-8-c-1-s-1"
FEW = 600


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A third of the digits: 500 training and 100 test images."""
    folder = tmp_path_factory.mktemp("digits")
    whole = load_digits()
    with pytest.MonkeyPatch.context() as patch:
        few = SimpleNamespace(images=whole.images[:FEW], target=whole.target[:FEW])
        patch.setattr("sklearn.datasets.load_digits", lambda: few)
        write_digits(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """Folder of a run of three epochs on the digits, and its weights."""
    folder = tmp_path_factory.mktemp("run")
    options = f"--model resnet --auto_aug --mixup --blocks 1 --channel-times 1 --dataset cifar10 --data-dir {digits} "
    options += f"--num-epochs 3 --mixup-off-epoch 2 --batch-size 32 --lr 0.1 --seed 0 -j 0 --save-dir {folder} "
    options += f"--logging-dir {folder} --save-plot-dir {folder}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train-cifar", *options.split()]) == 0
    return folder, str(sorted(folder.glob("*.params"))[-1])


def test_reproduces_the_accuracy_of_the_training_log(trained, digits, tmp_path, capsys):
    """To all digits printed there, from the weights saved after that epoch."""
    folder, params = trained
    (run,) = read_log(str(next(folder.glob("train_*.log"))))
    table = str(tmp_path / "evaluations.csv")
    assert main(["evaluate", "--params", params, "--data-dir", digits, "--csv", table, "--per-class"]) == 0
    out = capsys.readouterr().out
    assert f"top-1 accuracy  {run.epochs['val_acc'].max():.6f} " in out
    assert f"network         {RUN}" in out
    assert "published       no" in out
    (row,) = csv.DictReader(Path(table).read_text().splitlines())
    assert float(row["top1"]) == pytest.approx(run.epochs["val_acc"].max(), abs=5e-7)
    assert row["dataset"] == "cifar10"
    per_class = [line.split() for line in out.split("label  class  images  accuracy")[1].splitlines()[1:]]
    assert [int(label) for label, *_ in per_class] == list(range(10))
    images = [int(count) for _, _, count, *_ in per_class]
    correct = sum(n * float(accuracy) / 100 for n, (*_, accuracy, _) in zip(images, per_class))
    assert correct / sum(images) == pytest.approx(float(row["top1"]), abs=1e-4)


def test_figures_against_numpy(trained, digits):
    loaded = load_weights(WeightsRequest(trained[1]))
    figures = evaluate_weights(loaded, None, digits, 50, 0).evaluation
    images = load_cifar("cifar10", False, data_dir=digits)
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2023, 0.1994, 0.2010])  # training.md
    x = ((images.images / 255 - mean) / std).transpose(0, 3, 1, 2).astype("float32")
    logits = load_network(WeightsRequest(trained[1])).network.infer(x)().astype("float64")
    order = np.argsort(-logits, axis=1, kind="stable")
    assert figures.top1 == pytest.approx((order[:, 0] == images.labels).mean())
    assert figures.top5 == pytest.approx((order[:, :5] == images.labels[:, None]).any(axis=1).mean())
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert figures.loss == pytest.approx(-log_softmax[np.arange(len(logits)), images.labels].mean(), rel=1e-5)


def test_json_has_every_figure(trained, digits, capsys):
    assert main(["evaluate", "--params", trained[1], "--data-dir", digits, "--csv", "", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {"top1", "top5", "loss", "git_blob_sha1", "command", "versions", "per_class"} <= set(printed)
    assert len(printed["per_class"]) == 10


@pytest.fixture
def narrow_cifar100(tmp_path):
    """Weights of a narrow network of 100 outputs, and a record that calls them published superclass weights."""
    net = cifar_resnet("AFF", 1, 1)
    net.initialize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    mx.nd.waitall()
    path = str(tmp_path / "0.1-cifar100-ASKCFuse-resnet-8-c-1-s-1-best.params")
    net.save_parameters(path)
    return path, replace(published_weights()[1], path=path)


def test_published_weights_bring_their_label_set(narrow_cifar100, few_shapes, monkeypatch):
    path, record = narrow_cifar100
    for module in (weights_file, description):
        monkeypatch.setattr(module, "weights_with_hash", lambda digest: record)
    loaded = load_weights(WeightsRequest(path))
    evaluated = evaluate_weights(loaded, None, few_shapes, 32, 0)
    assert (evaluated.data.dataset, evaluated.data.labels, len(evaluated.data.names)) == ("cifar100", "superclass", 20)
    with pytest.raises(InputError, match=r"--fine-label: .* was trained on superclass labels"):
        load_weights(WeightsRequest(path, labels="fine"))
    with pytest.raises(InputError, match=r"--dataset cifar10: .* was trained on cifar100"):
        evaluate_weights(loaded, "cifar10", few_shapes, 32, 0)
    names = output_names(loaded.card)
    assert names[:20] == class_names("cifar100")
    assert names[20] == "output 20"


def test_own_cifar100_weights_need_a_label_set(narrow_cifar100, few_shapes):
    path, _ = narrow_cifar100
    with pytest.raises(InputError, match="add --fine-label or --superclass"):
        evaluate_weights(load_weights(WeightsRequest(path)), "cifar100", few_shapes, 32, 0)
    evaluated = evaluate_weights(load_weights(WeightsRequest(path, labels="fine")), None, few_shapes, 32, 0)
    assert len(evaluated.data.names) == 100


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (WeightsRequest("published"), "^name the weights: --model NAME .* or --params FILE$"),
        (WeightsRequest("published", "aff_resnet18"), "no weights of aff_resnet18 .*name a file with --params FILE$"),
        (
            WeightsRequest("published", "aff_resnext38_32x4d_cifar100", "fine"),
            "only --superclass weights of",
        ),
        (WeightsRequest("published", "aff_resnet50", "fine"), "only imagenet weights of"),
        (WeightsRequest("published", "resnet"), "unknown model"),
        (WeightsRequest("gone.params"), "No such file"),
        (WeightsRequest("gone.params", dtype="float16"), "float16 on GPUs only"),
        (WeightsRequest("gone.params", dtype="bfloat16"), "--dtype bfloat16: .*choose --engine torch"),
        (WeightsRequest("gone.params", gpus="all"), "--gpus 'all'"),
    ],
)
def test_what_does_not_go_together(request_, message):
    with pytest.raises(GluonAFFError, match=message):
        load_weights(request_)


def test_a_model_that_does_not_fit_says_what_differs(trained, tmp_path):
    shutil.copy(trained[1], tmp_path)  # without its card
    with pytest.raises(InputError, match=r"does not fit CIFARAFFResNet: \d+ missing"):
        load_weights(WeightsRequest(str(tmp_path / Path(trained[1]).name), "aff_resnet32_cifar100"))


def test_a_model_that_neither_the_arrays_nor_the_card_are_of_is_to_be_left_out(trained):
    with pytest.raises(InputError) as error:
        load_weights(WeightsRequest(trained[1], "aff_resnet50"))
    assert str(error.value) == f"{trained[1]} is of {RUN} (its card says so): leave --model out"


def test_rows_are_appended_to_a_file_of_the_same_columns_only(tmp_path):
    path, row = tmp_path / "new" / "table.csv", dict.fromkeys(COLUMNS, "x, y")
    append_row(str(path), row)
    append_row(str(path), row)
    path.write_text(path.read_text().rstrip("\n"))  # as an editor may leave it
    append_row(str(path), row)
    assert list(csv.DictReader(path.read_text().splitlines())) == [row] * 3
    for content, message in ((b"a,b\n", "has other columns"), (b"\xff\xfe\x00", "cannot be read as CSV")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            check_table(str(path))
        assert path.read_bytes() == content
    with pytest.raises(InputError, match="cannot be written"):
        check_table(str(tmp_path))


def test_a_table_that_may_not_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    append_row(str(tmp_path / "table.csv"), dict.fromkeys(COLUMNS, "x"))
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).endswith("table.csv"))  # root may write anything
    with pytest.raises(InputError, match=r"table\.csv cannot be written"):
        check_table(str(tmp_path / "table.csv"))


def test_the_table_is_checked_before_the_weights(tmp_path, capsys):
    assert main(["evaluate", "--params", "gone.params", "--csv", str(tmp_path)]) == 2
    assert "name another file with --csv" in capsys.readouterr().err
    assert main(["evaluate", "--params", "gone.params", "--csv", f"{__file__}/x.csv"]) == 2
    assert "cannot be written to (Not a directory)" in capsys.readouterr().err


def test_figures_are_shown_though_the_table_cannot_take_them(trained, digits, tmp_path, monkeypatch, capsys):
    def full(path, row):
        raise GluonAFFError(f"{path} cannot be written")

    monkeypatch.setattr("gluon_aff.results.evaluations.append_row", full)
    table = str(tmp_path / "table.csv")
    assert main(["evaluate", "--params", trained[1], "--data-dir", digits, "--csv", table]) == 1
    printed = capsys.readouterr()
    assert "top-1 accuracy" in printed.out
    assert "cannot be written" in printed.err


def test_other_images_than_the_official_ones_are_called_so(trained, digits, monkeypatch, capsys):
    record = replace(published_weights()[0], labels="cifar10")
    for module in (weights_file, description):
        monkeypatch.setattr(module, "weights_with_hash", lambda digest: record)
    assert main(["evaluate", "--params", trained[1], "--data-dir", digits, "--csv", ""]) == 0
    out = capsys.readouterr().out
    assert "cifar10 (not the official images)" in out
    assert "top-1 error 16.43 %, on the official images" in out
    assert "points from it here" not in out


def test_first_release_files_are_called_so(trained, monkeypatch):
    record = next(w for w in published_weights() if w.release == "first")
    for module in (weights_file, description):
        monkeypatch.setattr(module, "weights_with_hash", lambda digest: record)
    with pytest.raises(InputError, match=r"the original's first release .* whose networks this package does not have"):
        load_weights(WeightsRequest(trained[1]))


def test_label_flags_are_for_cifar100(trained, digits):
    with pytest.raises(InputError, match="--fine-label: cifar10 has only one label set"):
        evaluate_weights(load_weights(WeightsRequest(trained[1], labels="fine")), None, digits, 32, 0)


def test_the_input_size_is_imagenets_only(narrow_cifar100):
    with pytest.raises(InputError, match="--input-size 64: CIFAR images are 32 x 32"):
        load_weights(WeightsRequest(narrow_cifar100[0], input_size=64))


def test_some_of_imagenets_class_folders_are_refused(narrow_cifar100, tmp_path):
    """Labels are the folders' order: three of a thousand would be 0, 1, 2."""
    for name in ("n1", "n2", "n3"):
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "val" / name / "1.png")
    loaded = load_weights(WeightsRequest(narrow_cifar100[0]))
    loaded = replace(loaded, card=replace(loaded.card, dataset="imagenet"))
    with pytest.raises(InputError, match="has 3 classes, but the network has 100 outputs"):
        evaluate_weights(loaded, None, str(tmp_path), 8, 0)
    evaluated = evaluate_weights(replace(loaded, card=replace(loaded.card, outputs=3)), None, str(tmp_path), 8, 0)
    assert (evaluated.data.names, evaluated.data.official) == (["n1", "n2", "n3"], False)


def test_predict(trained, digits, tmp_path, capsys):
    data = load_cifar("cifar10", False, data_dir=digits)
    for i in range(3):
        Image.fromarray(data.images[i]).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "names.txt").write_text("\n".join(f"digit {i}" for i in range(10)))
    paths = [str(tmp_path / name) for name in ("0.png", "broken.jpg", "1.png", "2.png")]
    options = ["predict", "--params", trained[1], "--names", str(tmp_path / "names.txt"), "--top-k", "2"]
    assert main([*options, *paths]) == 1
    out, err = capsys.readouterr()
    assert [line for line in out.splitlines() if not line.startswith(" ")] == [paths[0], *paths[2:]]
    assert out.count("digit") == 6
    assert "broken.jpg cannot be read as an image" in err
    assert len(err.splitlines()) == 1
    assert main([*options, paths[1]]) == 2
    assert re.fullmatch(r"gluon-aff: error: .*broken\.jpg cannot be read .*\n", capsys.readouterr().err)
    assert main([*options, "--json", paths[1], paths[1]]) == 2
    out, err = capsys.readouterr()
    assert [row["classes"] for row in json.loads(out)] == [[], []]
    assert err.count("gluon-aff: /") == 2
    assert err.splitlines()[-1] == "gluon-aff: error: none of the 2 images could be read"
    assert main(["predict", "--params", trained[1], paths[0]]) == 0
    out, err = capsys.readouterr()
    assert {line.split()[1] for line in out.splitlines()[1:]} < set("0123456789")  # as beside the digits
    assert err == ""
    shutil.copy(trained[1], tmp_path)  # without its card
    assert main(["predict", "--params", str(tmp_path / Path(trained[1]).name), paths[0]]) == 0
    assert "class names: those of cifar10, by the file's name" in capsys.readouterr().err
    assert main([*options, "--json", paths[0]]) == 0
    (printed,) = json.loads(capsys.readouterr().out)
    network = load_network(WeightsRequest(trained[1])).network
    logits = network.infer(_input(data.images[:1]))()[0].astype("float64")
    expected = np.exp(logits) / np.exp(logits).sum()
    assert [row["label"] for row in printed["classes"]] == np.argsort(-expected)[:2].tolist()
    assert printed["classes"][0]["score"] == pytest.approx(expected.max(), rel=1e-4)
    (tmp_path / "names.txt").write_text("one\n")
    assert main([*options, paths[0]]) == 2
    assert "has 1 lines, but the network has 10 outputs" in capsys.readouterr().err


def test_predict_shows_names_as_text(trained, tmp_path, capsys):
    image = tmp_path / "a\x1b[2J\n0.9999  airplane.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(image)
    (tmp_path / "names.txt").write_text("\n".join(f"\x1b[8m{i}\u202e" for i in range(10)))
    options = ["predict", "--params", trained[1], "--names", str(tmp_path / "names.txt")]
    assert main([*options, str(image), str(tmp_path / "none\x1b[2J.png")]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 6
    assert all(line.isprintable() for line in [*out.splitlines(), *err.splitlines()])
    assert r"a\x1b[2J\n0.9999  airplane.png" in out.splitlines()[0]


def _input(images):
    return ((images / 255 - [0.4914, 0.4822, 0.4465]) / [0.2023, 0.1994, 0.2010]).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_class_names_are_read_as_editors_save_them(encoding, tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("chequers\r\ncaf\u00e9".encode(encoding))
    card = Card("own", True, 32, 2, "0" * 40, None, None)
    assert output_names(card, str(path)) == ["chequers", "caf\u00e9"]


def test_names_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "names.txt").write_bytes(b"\xff\xfec\0\0")
    card = Card("own", True, 32, 2, "0" * 40, None, None)
    for path in (tmp_path / "names.txt", tmp_path):
        with pytest.raises(InputError, match=f"--names {re.escape(str(path))}: .*; name a text file"):
            output_names(card, str(path))


def test_params_command(trained, tmp_path, capsys):
    assert main(["params", trained[1]]) == 0
    out = capsys.readouterr().out
    assert "output.weight" in out
    assert f"fits: {RUN}, as its card says\n" in out
    assert "published: no" in out
    shutil.copy(trained[1], tmp_path)
    assert main(["params", str(tmp_path / Path(trained[1]).name)]) == 0
    assert f"fits: {RUN}\n" in capsys.readouterr().out
    assert main(["params", trained[1], "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["networks"] == [RUN]
    assert described["values"] == sum(int(np.prod(array["shape"])) for array in described["arrays"])
    (tmp_path / "cut.params").write_bytes(Path(trained[1]).read_bytes()[:-3])
    assert main(["params", str(tmp_path / "cut.params")]) == 2
    err = capsys.readouterr().err
    assert "is damaged" in err
    assert len(err.splitlines()) == 1


def test_params_command_names_published_and_exported_files(trained, tmp_path, capsys, monkeypatch):
    import gluon_aff.published

    monkeypatch.setattr(gluon_aff.published, "weights_with_hash", lambda digest: published_weights()[0])
    assert main(["params", trained[1]]) == 0
    assert "published: aff_resnet32_cifar100, fine labels, top-1 error 16.43 %" in capsys.readouterr().out
    mx.nd.save(str(tmp_path / "net-0000.params"), {"arg:w": mx.nd.zeros(3), "aux:m": mx.nd.zeros(3)})
    assert main(["params", str(tmp_path / "net-0000.params")]) == 0
    assert "written by HybridBlock.export" in capsys.readouterr().out
