"""Cards beside weights: what is known of these very weights, and of no others."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shared_by_tests.cards import card_for
from shared_by_tests.golden_values import golden_arrays

from gluon_aff.engines import engine
from gluon_aff.errors import GluonAFFError, InputError, ParamsFileError
from gluon_aff.models import model_record
from gluon_aff.weights.card_file import card_beside, card_path, check_card_path, remove_with_card, write_with_card
from gluon_aff.weights.description import describe
from gluon_aff.weights.params_format import git_blob_sha1, read_params_file, write_params_file

pytestmark = pytest.mark.inference
NAMES = ("Ä", "b, c", *(f"class \udc80{i}" for i in range(8)))
CARD = card_for(
    "my-run", 32, 10, dataset="cifar10", names=NAMES, engine="MXNet 1.9.1", versions="NumPy 1.23.5, other data"
)
SUPERCLASSES = card_for("my-run", 32, 10, dataset="cifar100", labels="superclass")


def network(**changes):
    """One whose parameters are AFF's too, but that computes something else."""
    return model_record("resnet20_b1").architecture(10, fusion="MS-SA", start_layer=2, **changes)


def arrays_of(architecture):
    return golden_arrays(engine().parameter_shapes(architecture))


@pytest.fixture(scope="module")
def arrays():
    return arrays_of(network())


@pytest.fixture
def path(arrays, tmp_path):
    path = str(tmp_path / "0.5-anything.params")
    write_with_card(path, arrays, network(), CARD)
    return path


def change(path, **said):
    """Let the card say something else of the same weights."""
    with open(card_path(path)) as file:
        found = json.load(file)
    with open(card_path(path), "w") as file:
        json.dump({**found, **said}, file)


def described(path, *more):
    return describe(read_params_file(path), *more)


def test_the_network_and_the_card_come_back(path, arrays):
    assert sorted(os.listdir(os.path.dirname(path))) == ["0.5-anything.json", "0.5-anything.params"]
    architecture, card = described(path)
    assert architecture == replace(network(), name="my-run")
    assert card == replace(CARD, git_blob_sha1=git_blob_sha1(path))
    for name, array in read_params_file(path).arrays.items():
        np.testing.assert_array_equal(array, arrays[name])


def test_other_programs_can_read_it(path):
    with open(card_path(path)) as file:
        found = json.load(file)
    assert (found["network"], found["host"], found["dataset"]) == ("my-run", "cifar_resnet", "cifar10")
    assert (found["outputs"], found["input_size"], found["mean"]) == (10, 32, [0.4914, 0.4822, 0.4465])
    assert found["class_names"] == list(NAMES)
    assert found["settings"]["askc_type"] == "MS-SA"
    assert (found["engine"], found["versions"]) == (CARD.engine, CARD.versions)
    assert found["weights_git_blob_sha1"] == git_blob_sha1(path)
    with open(path, "rb") as file:
        assert found["weights_sha256"] == hashlib.sha256(file.read()).hexdigest()


def test_without_the_card_the_same_weights_are_taken_for_another_network(path):
    os.remove(card_path(path))
    with pytest.raises(ParamsFileError, match="fits no published model"):
        described(path)


def test_a_pair_of_files_may_be_renamed(path, tmp_path):
    os.rename(path, tmp_path / "b.params")
    os.rename(card_path(path), tmp_path / "b.json")
    assert described(str(tmp_path / "b.params"))[1].names == NAMES


def test_the_card_of_other_weights_does_not_count(path, arrays):
    write_params_file(path, {**arrays, "output.bias": arrays["output.bias"] + 1})
    assert card_beside(path) is None


@pytest.mark.parametrize("content", ["", "no JSON", "[]", "[" * 100_000, '{"weights": 1}', "5", "\udc80"])
def test_other_files_beside_weights_are_no_cards(content, path):
    with open(card_path(path), "w", errors="surrogateescape") as file:
        file.write(content)
    assert card_beside(path) is None
    with pytest.raises(InputError, match="is not a card"):
        check_card_path(path)


def test_a_fifo_is_not_waited_for(path):
    os.remove(card_path(path))
    os.mkfifo(card_path(path))
    assert card_beside(path) is None


@pytest.mark.parametrize(
    "said",
    [
        {"host": "somebodys"},
        {"host": ["cifar_resnet"]},
        {"settings": 5},
        {"settings": {}},
        {"settings": {"askc_type": "Nix", "blocks": 1, "channel_times": 1}},
        {"settings": {"askc_type": "MS-SA", "blocks": 10**9, "channel_times": 1}},
        {"settings": {"askc_type": "MS-SA", "blocks": "1", "channel_times": 1}},
        {"settings": {"askc_type": "MS-SA", "blocks": 1, "channel_times": 1, "nix": 1}},
        {"settings": {"askc_type": "MS-SA", "blocks": 1, "channel_times": 2, "classes": 10}},
        {"preprocessing": "some"},
        {"outputs": -1},
        {"outputs": 10.5},
        {"input_size": None},
        {"class_names": ["a"]},
    ],
    ids=str,
)
def test_a_card_that_says_what_cannot_be_is_refused_in_one_line(said, path):
    change(path, **said)
    with pytest.raises(ParamsFileError, match=r"0\.5-anything\.json describes a network that") as caught:
        described(path)
    assert "\n" not in str(caught.value)


def test_a_model_that_is_named_counts_more_than_the_cards(path):
    change(path, host="somebodys")
    architecture, card = described(path, "resnet20_b1")
    assert (architecture.name, architecture.settings["askc_type"]) == ("resnet20_b1", "AFF")
    assert (card.network, card.names, card.dataset) == ("resnet20_b1", NAMES, "cifar10")
    assert described(path, "resnet20_b2")[0].name == "resnet20_b2"  # which does not fit, and neither does the card's


def test_what_the_card_leaves_open_is_what_the_caller_says(path):
    change(path, weights_git_blob_sha1="5" * 40)
    _, card = described(path, None, "fine")
    assert (card.labels, card.git_blob_sha1) == ("fine", git_blob_sha1(path))


def test_the_cards_labels_count(arrays, tmp_path):
    path = str(tmp_path / "a.params")
    write_with_card(path, arrays, network(), SUPERCLASSES)
    assert described(path)[1].labels == described(path, None, "superclass")[1].labels == "superclass"
    with pytest.raises(InputError, match=r"--fine-label: .*a\.params was trained on superclass labels"):
        described(path, None, "fine")


def test_neither_file_is_written_where_one_cannot_be(path, arrays):
    folder = Path(path).parent
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    with pytest.raises(GluonAFFError, match="cast it to float32"):
        write_with_card(path, {**arrays, "more": np.zeros(3, complex)}, network(), CARD)
    with pytest.raises(TypeError):
        write_with_card(path, arrays, network(norm_layer=object()), CARD)
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before


def test_both_files_are_removed_or_what_there_is_of_them(path):
    os.remove(card_path(path))
    remove_with_card(path)
    remove_with_card(path)
    assert os.listdir(os.path.dirname(path)) == []
