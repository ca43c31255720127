"""Masks that a segmentation network finds in images, and how far they are the true ones."""

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
        path: of the file.
        pixels: squashed to a square, uint8 (S, S, 3).
        size: width and height before.
        truth: the true mask, squashed too, bool (S, S); None if it is not known.
    """

    path: str
    pixels: np.ndarray
    size: Tuple[int, int]
    truth: Optional[np.ndarray] = None


@dataclass(frozen=True)
class SegmentedImage:
    """An image, and what the network makes of it: float32 (S, S), above 0 where it finds the mask."""

    image: ReadImage
    logits: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """The mask as the network gives it, bool (S, S)."""
        return self.logits > 0

    @property
    def overlap(self) -> Tuple[int, int]:
        """Pixels in the intersection and in the union of the mask and the true one."""
        truth = np.zeros_like(self.found) if self.image.truth is None else self.image.truth
        return int((self.found & truth).sum()), int((self.found | truth).sum())

    @property
    def iou(self) -> float:
        """Intersection over union, 0 where both masks are empty."""
        intersection, union = self.overlap
        return intersection / max(union, 1)

    def own_size_mask(self) -> np.ndarray:
        """The mask at the image's own size, bool (height, width); the logits are resized, bilinear."""
        return np.asarray(Image.fromarray(self.logits).resize(self.image.size, Image.Resampling.BILINEAR)) > 0


def segment_images(infer: Infer, paths: Sequence[str], base_size: int, batch_size: int) -> Iterator[SegmentedImage]:
    """Find the masks in image files, turned upright, in their order.

    Args:
        infer: (N, 3, S, S) -> logits (N, 1, S, S).
        paths: of the files.
        base_size: S; images are squashed to it, as in validation.
        batch_size: files at a time.

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
    """The same for images whose masks are known.

    Raises:
        InputError: as there.
        DataError: an image has another size than its annotations say.
        GluonAFFError: as there.
    """

    def read(place: MaskedImage) -> ReadImage:
        image, mask = read_pair(place)
        pixels, truth = squash(image, mask, base_size)
        return ReadImage(place.path, pixels, image.size, truth.astype(bool))

    return _segmented(infer, places, read, batch_size)


def iou_and_niou_of(overlaps: Iterable[Tuple[int, int]]) -> Tuple[float, float]:
    """IoU of all pixels together, and the mean of the images' own, as in training, of their `overlap`s."""
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
