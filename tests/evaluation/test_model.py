"""`gluon_aff.load`: the same predictions as the command's."""

import json

import numpy as np
import pytest
from PIL import Image

import gluon_aff
from gluon_aff import cli
from gluon_aff.engines import engine
from gluon_aff.errors import InputError
from gluon_aff.models import model_record
from gluon_aff.weights.params_format import write_params_file


@pytest.fixture
def weights(tmp_path):
    """A picture, and a file of the smallest network."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), "uint8")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    shapes = engine().parameter_shapes(model_record("resnet20_b1").architecture())
    rng = np.random.default_rng(1)
    arrays = {n: rng.uniform(0.1, 0.5, [size or 3 for size in shape]).astype("float32") for n, shape in shapes.items()}
    write_params_file(str(tmp_path / "a.params"), arrays)
    return tmp_path


@pytest.mark.inference
def test_predictions_are_the_commands(weights, capsys):
    model = gluon_aff.load(str(weights / "a.params"), labels="fine")
    assert (model.card.network, model.card.outputs, model.card.input_size) == ("resnet20_b1", 100, 32)
    found = model.predict(str(weights / "a.png"), top_k=3)
    command = ["predict", "--params", str(weights / "a.params"), "--fine-label", "--json", "--top-k", "3"]
    assert cli.main([*command, str(weights / "a.png")]) == 0
    (said,) = json.loads(capsys.readouterr().out)
    assert found == [(each["name"], pytest.approx(each["score"], rel=1e-6)) for each in said["classes"]]
    picture = model.preprocess(str(weights / "a.png"))
    assert (picture.shape, picture.dtype) == ((3, 32, 32), np.float32)
    logits = model.logits(np.stack([picture, picture]))
    assert logits.shape == (2, 100)
    assert model.names[logits[0].argmax()] == found[0][0]


@pytest.mark.inference
def test_names_of_ones_own(weights):
    (weights / "names.txt").write_text("\n".join(f"kind {i}" for i in range(100)))
    model = gluon_aff.load(str(weights / "a.params"), names=str(weights / "names.txt"))
    assert model.predict(str(weights / "a.png"))[0][0].startswith("kind ")


@pytest.mark.inference
def test_what_cannot_be(weights):
    with pytest.raises(InputError, match="unknown model 'aff_resnet5': did you mean aff_resnet50"):
        gluon_aff.load("aff_resnet5")
    with pytest.raises(InputError, match="--params published: no weights of resnet50 were published; name a file"):
        gluon_aff.load("resnet50")
    with pytest.raises(InputError, match=r"none.png cannot be read as an image \(there is no such file\)"):
        gluon_aff.load(str(weights / "a.params")).predict("none.png")
