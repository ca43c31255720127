"""The drawn stop signs: what is written, and that masks lie where the signs are."""

import json

import numpy as np
import pytest
from PIL import Image
from shared_by_tests.golden_samples import check_figures, stop_signs_figures

from gluon_aff.cli import main
from gluon_aff.data.samples import stop_signs
from gluon_aff.data.samples.stop_signs import Scene, _octagon, _run_lengths, _side, write_stop_signs
from gluon_aff.errors import DataError, InputError


@pytest.fixture(scope="module")
def signs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "signs"
    write_stop_signs(str(folder), 60, 20)
    return folder


def annotations(folder, half):
    return json.loads((folder / "annotations" / f"instances_{half}.json").read_text())


def test_what_is_written(signs):
    for half, images in (("train2017", 60), ("val2017", 20)):
        content = annotations(signs, half)
        assert sorted(path.name for path in (signs / half).iterdir()) == [i["file_name"] for i in content["images"]]
        assert len(content["images"]) == images
        for path in (signs / half).iterdir():
            with Image.open(path) as image:
                assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (128, 104))
    everything = [a for half in ("train2017", "val2017") for a in annotations(signs, half)["annotations"]]
    shapes = [a["segmentation"] for a in everything if a["category_id"] == 13]
    assert 0.8 < len(shapes) / 80 < 0.98
    assert sum(isinstance(shape, dict) for shape in shapes) >= 3
    assert sum(isinstance(shape, list) and len(shape) == 2 for shape in shapes) >= 10
    assert sum(a["category_id"] == 10 for a in everything) > 100


def test_a_set_is_the_same_as_ever(signs):
    check_figures(stop_signs_figures(signs), "stop-signs")


def test_writing_is_deterministic_and_keeps_what_is_there(signs, tmp_path):
    def content(folder):
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        write_stop_signs(str(tmp_path / name), 3, 2, seed)
    a, b, c = (content(tmp_path / name) for name in "abc")
    assert a == b
    assert not set(a.values()) & set(c.values())
    with pytest.raises(DataError, match="holds something else"):
        write_stop_signs(str(tmp_path / "a"), 3, 2, 5)
    for numbers in ((0, 2, 0), (2, 0, 0), (2, 2, -1)):
        with pytest.raises(InputError, match="0 or more"):
            write_stop_signs(str(tmp_path / "d"), *numbers)


def test_masks_lie_where_the_signs_are(signs):
    """Within a sign's mask nearly all is its red or its white; around it, hardly."""
    pytest.importorskip("pycocotools")
    from gluon_aff.data.stop_signs.annotations import load_stop_signs
    from gluon_aff.data.stop_signs.masked_images import read_pair

    inside, outside = [], []
    data = load_stop_signs(str(signs), True)
    assert not data.official
    for place in data.images:
        image, mask = (np.asarray(part).astype(int) for part in read_pair(place))
        red, green, blue = image.transpose(2, 0, 1)
        own = ((red > 120) & (green < 90) & (blue < 95)) | (image.min(axis=2) > 200)
        pinkish = (red > 150) & (red - green > 20)  # where red and white meet
        inside.append((own | pinkish)[mask == 1].mean())
        outside.append(own[mask == 0].mean())
    assert np.mean(inside) > 0.93
    assert np.mean(outside) < 0.15


def test_run_lengths_and_halves_of_octagons():
    octagon = _octagon((40.0, 50.0), 20.0, 0.0)
    left, right = _side(octagon, 35.0, -1), _side(octagon, 45.0, 1)
    assert max(x for x, _ in left) == 35
    assert min(x for x, _ in right) == 45
    (whole, *parts) = (_run_lengths([polygon]) for polygon in (octagon, left, right))
    assert sum(whole["counts"]) == 104 * 128
    area, left_area, right_area = (sum(lengths["counts"][1::2]) for lengths in (whole, *parts))
    # An octagon's, by its radius; Pillow paints pixels on the edge too
    assert area == pytest.approx(2 * 2**0.5 * 20**2, rel=0.05)
    height = 2 * 20 * np.cos(np.pi / 8)
    assert area - left_area - right_area == pytest.approx(10 * height, rel=0.06)


def test_the_command_writes_enough_to_learn_from(tmp_path, capsys, monkeypatch):
    """Blank scenes here, which take no time."""
    monkeypatch.setattr(stop_signs, "_scene", lambda random: Scene(np.zeros((104, 128, 3), np.uint8), []))
    assert main(["make-data", "stop-signs", str(tmp_path / "signs")]) == 0
    assert capsys.readouterr().out == f"stop-signs are in {tmp_path / 'signs'}\n"
    assert [len(list((tmp_path / "signs" / half).iterdir())) for half in ("train2017", "val2017")] == [240, 60]
