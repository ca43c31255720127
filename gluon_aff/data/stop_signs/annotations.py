"""Find the images of COCO 2017 that show a stop sign, and the masks of the signs.

The paper only says that StopSign is a subset of COCO (Section 5). Here it has all images with an instance of the
category, however small.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, NamedTuple, Tuple

from gluon_aff.data.image_formats import MOST_PIXELS
from gluon_aff.data.stop_signs.run_lengths import checked_run_lengths
from gluon_aff.errors import DataError, InputError, last_line

CATEGORY = "stop sign"
OFFICIAL = "COCO 2017 Dataset"  # the description in the official files
LAYOUT = "annotations/instances_{train,val}2017.json, train2017/ and val2017/"
FIELDS = {
    "images": ("id",),
    "annotations": ("id", "image_id", "category_id"),
    "categories": ("id", "name"),
}
SEGMENTATION = "a list of polygons, [[x1, y1, x2, y2, x3, y3, ...], ...], or run lengths with size and counts"
FEWEST_COORDINATES = 6  # in a polygon, which has three points or more
LARGEST_FILE = 2 << 30  # bytes of annotations; COCO's have 0.45 GB, and Python needs ten times that in memory
# Pixels around a polygon; pycocotools needs about 100 bytes for each and checks no sizes, so that more end the process.
LONGEST_OUTLINE = 1 << 21

RunLengths = Dict[str, Any]  # COCO's compressed run lengths: size (height, width), counts


class MaskedImage(NamedTuple):
    """An image file and the mask of all stop signs in it."""

    path: str
    mask: RunLengths


@dataclass(frozen=True)
class StopSigns:
    """The training or the validation images of StopSign.

    Attributes:
        images: images and masks, in the order of their COCO ids.
        official: whether the description in the annotations is that of COCO 2017.
    """

    images: Tuple[MaskedImage, ...]
    official: bool

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)


def load_stop_signs(data_dir: str, train: bool, min_area: int = 0) -> StopSigns:
    """Find the training or the validation images of StopSign, with their masks.

    A mask is the union of all instances of the category in an image, in polygons and run lengths, including crowds.

    Args:
        data_dir: folder with COCO 2017 in its official layout, of which only the needed files must exist.
        train: whether to load the training images, otherwise the validation images.
        min_area: smallest mask in pixels; images with a smaller one are left out.

    Raises:
        InputError: pycocotools is missing.
        DataError: a file or the category is missing, or the annotations are damaged.
    """
    root, half = os.path.expanduser(data_dir), "train2017" if train else "val2017"
    path = os.path.join(root, "annotations", f"instances_{half}.json")
    if not os.path.isfile(path):
        raise DataError(f"{path} is missing: --data-dir has to name a folder with {LAYOUT}")
    masks = mask_toolbox()
    coco = _read_annotations(path)
    found = []
    with _naming(path):
        for number, annotations in sorted(_signs(coco, path).items()):
            if number not in coco.imgs:
                raise _EntryError(f"annotation {annotations[0]['id']}, image_id: there is no image {number}")
            image = coco.imgs[number]
            _check_size(image)
            mask = masks.merge([_run_lengths(coco, annotation, image) for annotation in annotations])
            if masks.area(mask) >= min_area:
                found.append(MaskedImage(os.path.join(root, half, image["file_name"]), mask))
        official = coco.dataset.get("info", {}).get("description") == OFFICIAL
    _check_images(found, path, min_area)
    return StopSigns(tuple(found), official)


def mask_toolbox() -> Any:
    """Import and return pycocotools' functions on masks.

    Raises:
        InputError: pycocotools is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise InputError(f"COCO's masks need pycocotools ({last_line(error)}): pip install 'gluon_aff[coco]'") from None
    return mask


def _read_annotations(path: str) -> Any:
    from pycocotools.coco import COCO

    try:
        if os.path.getsize(path) > LARGEST_FILE:
            raise DataError(f"{path} is larger than {LARGEST_FILE >> 30} GiB: leave out what is no {CATEGORY}")
        with open(path, encoding="utf-8-sig") as file:  # an editor may have added a byte-order mark
            content = json.load(file)
        if not isinstance(content, dict):
            raise TypeError("its content is not an object")
        _check_fields(content)
        coco = COCO()
        coco.dataset = content
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            coco.createIndex()
        return coco
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its rights") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, error) from None


@contextlib.contextmanager
def _naming(path: str) -> Any:
    """Turn any other error within this context into one that calls the annotations damaged."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # pycocotools raises plain Exceptions
        raise _damaged(path, error) from None


class _EntryError(ValueError):
    """An entry of the annotations file is wrong; the message names the entry and its field."""


def _damaged(path: str, error: BaseException) -> DataError:
    if isinstance(error, _EntryError):
        return DataError(f"{path}: {error}. Correct it there; if the file is COCO's own, get it again")
    return DataError(
        f"{path} is not a complete file of COCO annotations ({type(error).__name__}: {last_line(error)}): get it again"
    )


def _check_fields(content: Dict[str, Any]) -> None:
    """Check that each entry has the fields that pycocotools needs.

    Raises:
        _EntryError: a field is missing.
    """
    for part, fields in FIELDS.items():
        entries = content.get(part)
        if not isinstance(entries, list):
            raise _EntryError(f'"{part}" is missing or is not a list')
        for place, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise _EntryError(f'entry {place} of "{part}" is not an object with fields')
            missing = [field for field in fields if not isinstance(entry.get(field), (int, str))]
            if missing:
                raise _EntryError(f'entry {place} of "{part}" has no "{missing[0]}", or it is neither number nor text')


def _signs(coco: Any, path: str) -> Dict[int, List[Any]]:
    """Return the instances of the category, by the id of their image."""
    categories = [number for number, category in coco.cats.items() if category["name"] == CATEGORY]
    if not categories:
        raise DataError(f'{path} has no category "{CATEGORY}": name a folder with COCO 2017\'s instances')
    signs: Dict[int, List[Any]] = {}
    for annotation in coco.anns.values():
        if annotation["category_id"] in categories:
            signs.setdefault(annotation["image_id"], []).append(annotation)
    return signs


def _check_size(image: Any) -> None:
    """Check that an image has a valid size and a file name.

    Raises:
        _EntryError: one of them is missing or not valid.
    """
    missing = [field for field in ("file_name", "width", "height") if field not in image]
    if missing:
        raise _EntryError(f'image {image["id"]} has no "{missing[0]}"')
    if not isinstance(image["file_name"], str):
        raise _EntryError(f"image {image['id']}, file_name: it is not a text")
    size = [image["width"], image["height"]]
    if not all(type(side) is int and side > 0 for side in size) or math.prod(size) > MOST_PIXELS:
        raise _EntryError(f"image {image['id']} has {size[0]} x {size[1]} pixels: 1 to {MOST_PIXELS:,} can be read")


def _run_lengths(coco: Any, annotation: Any, image: Any) -> RunLengths:
    """Check the shape of one instance and return it as run lengths.

    An invalid shape must not reach pycocotools, which would write beyond its arrays.

    Raises:
        _EntryError: the shape is not valid.
    """
    size, what = [image["height"], image["width"]], f"annotation {annotation['id']}, segmentation"
    if "segmentation" not in annotation:
        raise _EntryError(f"{what}: it is missing, and a box alone is not a mask. It has to be {SEGMENTATION}")
    shape = annotation["segmentation"]
    if isinstance(shape, list):
        _check_polygons(shape, max(size), what)
    elif not (isinstance(shape, dict) and {"size", "counts"} <= set(shape)):
        raise _EntryError(f"{what}: it is not a shape. It has to be {SEGMENTATION}")
    elif shape["size"] != size:
        raise _EntryError(f"{what}: its size is not that of its image, [{size[0]}, {size[1]}]")
    else:
        try:
            shape = {"size": size, "counts": checked_run_lengths(shape["counts"], size[0] * size[1])}
        except ValueError as error:
            raise _EntryError(f"{what}, counts: {error}") from None
    return coco.annToRLE({**annotation, "segmentation": shape})


def _check_polygons(shape: List[Any], longest: int, what: str) -> None:
    if shape and all(_is_number(value) for value in shape):
        raise _EntryError(f"{what}: each polygon needs a list of its own. It has to be {SEGMENTATION}")
    if not (shape and all(isinstance(polygon, list) and all(map(_is_number, polygon)) for polygon in shape)):
        raise _EntryError(f"{what}: it has no polygon, or one that is not a list of numbers")
    if not all(_is_polygon(polygon, longest) for polygon in shape):
        raise _EntryError(f"{what}: a polygon has fewer than three points, is too long, or is far outside its image")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_polygon(coordinates: Any, longest: int) -> bool:
    """Return whether these are x and y of three points or more, close to the image and with a short enough outline.

    No point may be further from the image than its longer side, `longest`, and the outline may have at most
    LONGEST_OUTLINE pixels.
    """
    numbers = len(coordinates) >= FEWEST_COORDINATES and len(coordinates) % 2 == 0
    if not numbers or not all(-longest <= number <= 2 * longest for number in coordinates):
        return False
    closed = [*coordinates, *coordinates[:2]]
    return sum(abs(end - begin) for begin, end in zip(closed, closed[2:])) <= LONGEST_OUTLINE


def _check_images(images: Iterable[MaskedImage], path: str, min_area: int) -> None:
    images = list(images)
    if not images:
        raise DataError(f"{path} has no image with {min_area} or more pixels of a {CATEGORY}: lower --min-area")
    missing = [image.path for image in images if not os.path.isfile(image.path)]
    if missing:
        raise DataError(
            f"{missing[0]} and {len(missing) - 1} more of the {len(images)} images that {path} names are missing: "
            "unpack COCO's images there"
        )
