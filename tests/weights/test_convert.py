"""`gluon-aff convert`: MXNet's .params, PyTorch's .pth, .safetensors."""

import json
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from shared_by_tests.cards import card_for
from shared_by_tests.golden_values import golden_arrays

from gluon_aff import cli
from gluon_aff.engines import torch_files
from gluon_aff.models import model_record
from gluon_aff.pytorch import get_model
from gluon_aff.weights.card_file import write_with_card
from gluon_aff.weights.description import describe
from gluon_aff.weights.params_format import BFLOAT16, git_blob_sha1, read_params_file, write_params_file

safetensors = pytest.importorskip("safetensors.torch")


def golden_file(path, name, half=False, **arguments):
    """A file with the network's arrays; with `half` as published ImageNet's: BatchNorm's float32, others float16."""
    arrays = golden_arrays(torch_files().parameter_shapes(model_record(name).architecture(**arguments)))
    if half:
        norms = {each.rpartition(".")[0] for each in arrays if each.endswith("running_var")}
        arrays = {n: a if n.rpartition(".")[0] in norms else a.astype("float16") for n, a in arrays.items()}
    write_params_file(str(path), arrays)
    return arrays


def convert(*arguments):
    return cli.main(["convert", *map(str, arguments)])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("name", "half"),
    [("resnet20_b1", False), ("aff_resnet18", True), ("resnet20_fpn_b1", False), ("afi_b_resnet32_cifar100", False)],
)
def test_there_and_back_is_the_same_file(here, capsys, suffix, name, half):
    golden_file("a.params", name, half)
    assert convert("a.params", "-o", f"b{suffix}") == 0
    assert convert(f"b{suffix}", "-o", "c.params") == 0
    assert (here / "a.params").read_bytes() == (here / "c.params").read_bytes()
    arrays = read_params_file("a.params").arrays
    said, read_back = capsys.readouterr().out.splitlines()[:2]
    values = sum(array.size for array in arrays.values())
    assert said == f"b{suffix}: {name}, {len(arrays)} arrays, {values:,} values"
    assert read_back.startswith("read back: all arrays are equal bit for bit")
    assert sorted(os.listdir(here)) == ["a.params", f"b{suffix}", "c.json", "c.params"]


@pytest.mark.parametrize("suffix", [".params", ".pth", ".safetensors"])
def test_a_name_that_is_no_text_is_as_good_as_any(here, suffix):
    golden_file("a.params", "resnet20_b1")
    name = os.fsdecode(b"b\xff") + suffix
    assert convert("a.params", "-o", name) == convert(name, "-o", "c.params") == 0
    assert (here / "a.params").read_bytes() == (here / "c.params").read_bytes()


def test_raw_names_become_structural_ones(here):
    arrays = golden_file("a.params", "resnet20_b1")
    names = torch_files().raw_names(model_record("resnet20_b1").architecture())
    statistics_last = sorted(arrays, key=lambda name: "running_" in name)
    raw = {f"{'aux' if 'running_' in name else 'arg'}:{names[name]}": arrays[name] for name in statistics_last}
    write_params_file("net-0000.params", raw)
    assert convert("net-0000.params", "-o", "b.params") == 0
    assert (here / "a.params").read_bytes() == (here / "b.params").read_bytes()


def test_what_a_card_says_goes_there_and_back(here):
    """So an operator whose parameters are those of another one stays what it is."""
    arrays = golden_file("a.params", "resnet20_b1")
    architecture = model_record("resnet20_b1").architecture(fusion="MS-SENet")
    card = card_for("own", 32, 100, dataset="cifar10", engine="MXNet 1.9.1", versions="a, b")
    write_with_card("b.params", arrays, architecture, card)
    assert convert("b.params", "-o", "c.pth") == convert("c.pth", "-o", "d.params") == 0
    found, known = describe(read_params_file("d.params"))
    assert (found.name, found.settings["askc_type"]) == ("own", "MS-SENet")
    assert known == replace(card, git_blob_sha1=git_blob_sha1("d.params"))


def test_another_file_that_has_the_cards_name_is_left_alone(here, capsys):
    golden_file("a.params", "resnet20_b1")
    convert("a.params", "-o", "b.pth")
    (here / "c.json").write_text('{"mine": 1}')
    assert convert("b.pth", "-o", "c.params") == 2
    assert "c.json is not a card" in capsys.readouterr().err
    assert (sorted(os.listdir(here)), (here / "c.json").read_text()) == (["a.params", "b.pth", "c.json"], '{"mine": 1}')


def test_a_suffix_in_capitals_is_the_same():
    golden_file("a.params", "resnet20_b1")
    assert convert("a.params", "-o", "a.SafeTensors") == 0
    assert "output.weight" in safetensors.load_file("a.SafeTensors")
    assert convert("a.SafeTensors", "-o", "b.PTH") == 0
    assert "output.weight" in torch.load("b.PTH", weights_only=True)


def test_pytorch_loads_the_pth_as_any_state_dict():
    arrays = golden_file("a.params", "resnet20_b1")
    convert("a.params", "-o", "a.pth")
    net = get_model("resnet20_b1")
    state = torch.load("a.pth", weights_only=True)
    assert set(state) == set(net.state_dict())
    assert {int(each) for key, each in state.items() if key.endswith("num_batches_tracked")} == {0}
    assert str(net.load_state_dict(state)) == "<All keys matched successfully>"
    assert np.array_equal(net.output.weight.detach().numpy(), arrays["output.weight"])
    assert np.array_equal(net.features[0].bias.detach().numpy(), arrays["features.0.beta"])


def test_safetensors_say_what_they_are_of():
    golden_file("a.params", "aff_resnet18")
    convert("a.params", "-o", "a.safetensors")
    net = get_model("aff_resnet18")
    net.load_state_dict(safetensors.load_file("a.safetensors"))
    from safetensors import safe_open

    with safe_open("a.safetensors", "pt") as file:
        said = file.metadata()
    assert (said["format"], said["network"], said["host"]) == ("pt", "aff_resnet18", "imagenet_resnet")
    assert json.loads(said["settings"]) == {
        "askc_type": "AFF", "layers": [2, 2, 2, 2], "block": "basic", "last_gamma": True, "classes": 1000
    }  # fmt: skip
    assert (said["crop"], said["dataset"]) == (
        "shorter side resized to 256, bilinear; centre 224 x 224 cut out", "imagenet"
    )  # fmt: skip
    assert json.loads(said["std"]) == [0.229, 0.224, 0.225]


def test_a_state_dict_of_a_users_own_is_known_by_its_shapes(here):
    net = get_model("afi_resnet32_cifar100", 10)
    torch.save({"state_dict": {**dict(net.named_parameters()), **dict(net.named_buffers())}, "epoch": 3}, "own.pth")
    assert convert("own.pth", "-o", "own.params") == 0
    written = read_params_file("own.params").arrays
    assert np.array_equal(written["output.weight"], net.output.weight.detach().numpy())
    assert not [name for name in written if "num_batches" in name]


def test_a_state_dict_of_a_gpu_is_read_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    torch.save(get_model("resnet20_b1").state_dict(), "gpu.pth")
    assert convert("gpu.pth", "-o", "a.params") == 0


def test_bfloat16_stays_bfloat16():
    net = get_model("resnet20_b1", dtype="bfloat16")
    torch.save(net.state_dict(), "a.pth")
    assert convert("a.pth", "-o", "a.params") == 0
    array = read_params_file("a.params").arrays["output.weight"]
    assert array.dtype == BFLOAT16
    assert np.array_equal(array.view("<i2"), net.output.weight.detach().view(torch.int16).numpy())
    assert convert("a.params", "-o", "b.safetensors") == 0
    assert torch.equal(safetensors.load_file("b.safetensors")["output.weight"], net.output.weight)


class Trap:
    def __reduce__(self):
        return open, ("sprung", "w")


@pytest.mark.parametrize("content", [Trap(), {"state_dict": Trap()}, {"output.weight": torch.zeros(2), "more": Trap()}])
def test_a_pickle_that_is_more_than_tensors_is_refused_and_not_run(here, capsys, content):
    torch.save(content, "trap.pth")
    assert convert("trap.pth", "-o", "a.params") == 2
    assert (
        "trap.pth is not a state_dict, or holds more than tensors. It was not read further" in capsys.readouterr().err
    )
    assert os.listdir(here) == ["trap.pth"]


@pytest.mark.parametrize("content", [torch.zeros(3), {}, {"epoch": 3}, [torch.zeros(3)]])
def test_what_is_no_state_dict(capsys, content):
    torch.save(content, "a.pth")
    assert convert("a.pth", "-o", "a.params") == 2
    assert "a.pth holds no state_dict: save net.state_dict() with torch.save" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.params", "-o", "a.pt"], "unknown kind of weight file, a.pt, by its suffix '.pt': did you mean .pth?"),
        (
            ["a.onnx", "-o", "a.pth"],
            "unknown kind of weight file, a.onnx, by its suffix '.onnx': there are .params, .pth, .safetensors",
        ),
        (["a.params", "-o", "a.params"], "-o a.params: this is the file to convert; name another one"),
        (["a.params", "-o", "nowhere/b/a.pth", "--model", "aff_resnet50"], "a.params does not fit aff_resnet50: "),
        (
            ["more.params", "-o", "a.pth", "--model", "resnet20_b1"],
            "more.params does not fit resnet20_b1: 1 unexp",
        ),
        (["nan.pth", "-o", "b.params"], "nan.pth has NaN or infinity in 1 of "),
        (["none.pth", "-o", "a.params"], "none.pth cannot be read as a state_dict ("),
        (["none.safetensors", "-o", "a.params"], "none.safetensors cannot be read as safetensors ("),
        (["noise.pth", "-o", "a.params"], "noise.pth "),
        (["noise.safetensors", "-o", "a.params"], "noise.safetensors cannot be read as safetensors ("),
        (["foreign.pth", "-o", "a.params"], "foreign.pth fits no published model"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(here, capsys, arguments, said):
    arrays = golden_file("a.params", "resnet20_b1")
    write_params_file("more.params", {**arrays, "more": np.zeros(3)})
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    torch.save({**tensors, "output.bias": torch.full_like(tensors["output.bias"], np.nan)}, "nan.pth")
    for suffix in ("pth", "safetensors"):
        (here / f"noise.{suffix}").write_bytes(b"\x80\x05hello" * 99)
    torch.save({"output.weight": torch.zeros(3, 2), "output.bias": torch.zeros(3)}, "foreign.pth")
    before = sorted(os.listdir(here))
    assert convert(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gluon-aff: error: {said}")
    assert sorted(os.listdir(here)) == before


@pytest.mark.parametrize("arguments", [("a.params", "-o", "a.safetensors"), ("b.safetensors", "-o", "b.params")])
def test_without_safetensors(capsys, monkeypatch, arguments):
    golden_file("a.params", "resnet20_b1")
    convert("a.params", "-o", "b.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    assert convert(*arguments) == 2
    assert "needs the package safetensors (" in capsys.readouterr().err


def test_the_file_has_no_flag_unlike_that_of_other_commands(capsys):
    with pytest.raises(SystemExit) as end:
        convert("--params", "a.params", "-o", "a.pth")
    assert end.value.code == 2
    assert "argument --params: name the file without a flag: convert a.params -o OUT" in capsys.readouterr().err


def test_a_file_that_lies_about_its_network(capsys):
    golden_file("a.params", "resnet20_b1")
    convert("a.params", "-o", "a.safetensors")
    tensors = safetensors.load_file("a.safetensors")
    said = {"host": "cifar_resnet", "network": "x", "settings": "[]", "input_size": "32"}
    safetensors.save_file(tensors, "b.safetensors", metadata=said)
    assert convert("b.safetensors", "-o", "b.params") == 2
    assert "b.safetensors describes a network that cannot exist: name the network" in capsys.readouterr().err
    assert convert("b.safetensors", "-o", "b.params", "--model", "resnet20_b1") == 0


@pytest.mark.parametrize("change", [lambda array: array + 1, lambda array: array.astype("f8")])
def test_a_file_that_is_read_back_otherwise_is_named(capsys, monkeypatch, change):
    golden_file("a.params", "resnet20_b1")
    write = write_with_card

    def write_otherwise(path, arrays, *more):
        write(path, {**arrays, "output.bias": change(arrays["output.bias"])}, *more)

    monkeypatch.setattr("gluon_aff.weights.convert.write_with_card", write_otherwise)
    assert convert("a.params", "-o", "b.params") == 1
    assert "b.params differs from a.params when read back (['output.bias']): do not use it" in capsys.readouterr().err


def test_what_cannot_be_written_leaves_nothing(here, capsys, monkeypatch):
    golden_file("a.params", "resnet20_b1")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert convert("a.params", "-o", "a.pth") == 1
    assert "a.pth cannot be written (" in capsys.readouterr().err
    assert os.listdir(here) == ["a.params"]
