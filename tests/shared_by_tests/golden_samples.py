"""Figures of sample sets in JPEG, to be held against tests/goldens/samples/figures.json (tests/goldens/README.md).

In tests/, `PYTHONPATH=..:. python -m shared_by_tests.golden_samples` makes the golden anew.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from gluon_aff.data.samples.pictures import write_pictures
from gluon_aff.data.samples.stop_signs import write_stop_signs

GOLDEN = Path(__file__).parents[1] / "goldens" / "samples" / "figures.json"
FIELDS = 3  # down and across
SCENES = {"train2017": 12, "val2017": 2}


def check_figures(found, kind):
    """Hold figures, by the names of files, against those of the golden's set of that kind."""
    golden = {name: figures for name, figures in json.loads(GOLDEN.read_text()).items() if name.startswith(kind)}
    assert found.keys() == golden.keys()
    for name, figures in golden.items():
        np.testing.assert_allclose(found[name], figures, rtol=0, atol=0.05, err_msg=name)


def pictures_figures(folder):
    """Figures of the first training and the first validation picture of each class."""
    files = sorted(folder.glob("*/*/0000.jpg"))
    return {f"pictures/{path.relative_to(folder).as_posix()}": image_figures(path) for path in files}


def stop_signs_figures(folder):
    """Figures of the first scenes, and of each annotation in them."""
    found = {}
    for half, scenes in SCENES.items():
        content = json.loads((folder / "annotations" / f"instances_{half}.json").read_text())
        for image in content["images"][:scenes]:
            name = f"{half}/{image['file_name']}"
            found[f"stop-signs/{name}"] = image_figures(folder / name)
        found[f"stop-signs/{half}.json"] = [
            figure
            for annotation in content["annotations"]
            if annotation["image_id"] <= scenes
            for figure in annotation_figures(annotation)
        ]
    return found


def image_figures(path):
    """Means of red, green and blue in 3 x 3 fields, the mean difference of neighbours, and the sum of JPEG's table."""
    with Image.open(path) as image:
        pixels, table = np.asarray(image, float), image.quantization[0]
    rows = np.array_split(pixels, FIELDS)
    means = [field.mean(axis=(0, 1)) for row in rows for field in np.array_split(row, FIELDS, axis=1)]
    return np.round([*np.ravel(means), np.abs(np.diff(pixels, axis=1)).mean(), sum(table)], 2).tolist()


def annotation_figures(annotation):
    """Numbers of the annotation, its image and its category, and where its outline or its runs lie."""
    shape = annotation["segmentation"]
    if isinstance(shape, dict):
        parts, places = len(shape["counts"]), np.cumsum(shape["counts"])[:-1].reshape(-1, 1)
    else:
        parts, places = len(shape), np.concatenate(shape).reshape(-1, 2)
    where = np.concatenate([places.mean(axis=0), np.ptp(places, axis=0)]) if len(places) else []
    numbers = [annotation[name] for name in ("id", "image_id", "category_id", "iscrowd")]
    return np.round([*numbers, parts, *where], 2).tolist()


def main():
    """Make the golden anew."""
    with tempfile.TemporaryDirectory() as folder:
        pictures, signs = Path(folder, "pictures"), Path(folder, "signs")
        write_pictures(str(pictures))
        write_stop_signs(str(signs))
        found = {**pictures_figures(pictures), **stop_signs_figures(signs)}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(figures)}" for name, figures in found.items())
    GOLDEN.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
