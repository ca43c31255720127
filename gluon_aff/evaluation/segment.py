"""Find masks in images with a segmentation network, and compare them with the true masks (IoU, nIoU)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, Optional, Sequence, Tuple, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from gluon_aff.data.image_files import read_image
from gluon_aff.data.stop_signs.annotations import MaskedImage
from gluon_aff.data.stop_signs.batches import network_input
from gluon_aff.data.stop_signs.masked_images import read_pair, squash, squash_image
from gluon_aff.engines import Infer
from gluon_aff.errors import GluonAFFError
from gluon_aff.iteration import one_behind

Place = TypeVar("Place", str, MaskedImage)


@dataclass(frozen=True)
class ReadImage:
    """An image as the network sees it.

    Attributes:
        path: path of the file.
        pixels: the image, squashed to a square, uint8 (S, S, 3).
        size: width and height of the image in the file, in pixels.
        truth: the true mask, squashed too, bool (S, S); None if it is not known.
    """

    path: str
    pixels: np.ndarray
    size: Tuple[int, int]
    truth: Optional[np.ndarray] = None


@dataclass(frozen=True)
class SegmentedImage:
    """An image with the network's logits, float32 (S, S), which are above 0 inside the mask that it finds."""

    image: ReadImage
    logits: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """Return the mask that the network finds, bool (S, S)."""
        return self.logits > 0

    @property
    def overlap(self) -> Tuple[int, int]:
        """Return the numbers of pixels in the intersection and in the union of the found and the true mask."""
        truth = np.zeros_like(self.found) if self.image.truth is None else self.image.truth
        return int((self.found & truth).sum()), int((self.found | truth).sum())

    @property
    def iou(self) -> float:
        """Return the intersection over union, 0..1; it is 0 if both masks are empty."""
        intersection, union = self.overlap
        return intersection / max(union, 1)

    def own_size_mask(self) -> np.ndarray:
        """Return the found mask in the size of the image file, bool (height, width), from bilinearly resized logits."""
        return np.asarray(Image.fromarray(self.logits).resize(self.image.size, Image.Resampling.BILINEAR)) > 0


def segment_images(infer: Infer, paths: Sequence[str], base_size: int, batch_size: int) -> Iterator[SegmentedImage]:
    """Find the mask in each image file, after turning the image upright, in the order of `paths`.

    Args:
        infer: inference of the network, (N, 3, S, S) -> logits (N, 1, S, S).
        paths: image files.
        base_size: S, the side in pixels of the square to which images are squashed, as in validation.
        batch_size: number of images in a batch.

    Raises:
        InputError: a file cannot be read as an image.
        GluonAFFError: an output is not finite.
    """

    def read(path: str) -> ReadImage:
        image = read_image(path)
        return ReadImage(path, squash_image(image, base_size), image.size)

    return _segmented(infer, paths, read, batch_size)


def segment_stop_signs(
    infer: Infer, places: Sequence[MaskedImage], base_size: int, batch_size: int
) -> Iterator[SegmentedImage]:
    """Find the masks in StopSign images whose true masks are known, like `segment_images`.

    Raises:
        InputError: a file cannot be read as an image.
        DataError: an image has another size than its annotations say.
        GluonAFFError: an output is not finite.
    """

    def read(place: MaskedImage) -> ReadImage:
        image, mask = read_pair(place)
        pixels, truth = squash(image, mask, base_size)
        return ReadImage(place.path, pixels, image.size, truth.astype(bool))

    return _segmented(infer, places, read, batch_size)


def iou_and_niou_of(overlaps: Iterable[Tuple[int, int]]) -> Tuple[float, float]:
    """Return IoU and nIoU from the `overlap` of each image, as in training.

    IoU is computed over the pixels of all images together; nIoU is the mean of the images' own IoU.
    """
    intersections, unions = np.array(list(overlaps)).T
    return float(intersections.sum() / max(unions.sum(), 1)), float((intersections / np.maximum(unions, 1)).mean())


def _segmented(
    infer: Infer, places: Sequence[Place], read: Callable[[Place], ReadImage], batch_size: int
) -> Iterator[SegmentedImage]:
    chunks = (places[start : start + batch_size] for start in itertools.count(0, batch_size))
    read_chunks = ([read(place) for place in chunk] for chunk in itertools.takewhile(len, chunks))
    steps = ((images, infer(network_input(np.stack([image.pixels for image in images])))) for images in read_chunks)
    with tqdm(desc="segmentation", total=len(places), leave=False, disable=None, unit="image") as progress:
        for images, outputs in one_behind(steps):
            for image, logits in zip(images, outputs()):
                if not np.isfinite(logits).all():
                    raise GluonAFFError(
                        f"the network's outputs for {image.path} are not finite: look for damaged weights"
                    )
                yield SegmentedImage(image, logits[0])
                progress.update()
