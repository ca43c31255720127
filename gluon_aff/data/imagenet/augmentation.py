"""Augment ImageNet images, with all random choices as arguments.

There are three chains, as in the original: ImageRecordIter's for records, Gluon's transforms for folders, and for
folders with large inputs EfficientNet's crop with Pillow's jitter. Each returns uint8. The first two follow MXNet's
formulas including their oddities, since the published networks were trained with them; tests compare with MXNet.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Callable, Optional, Sequence, Tuple

import numpy as np
from PIL import Image, ImageEnhance

from gluon_aff.data.autoaugment import IMAGENET_POLICIES, apply_policy
from gluon_aff.data.imagenet.images import (
    LARGE_INPUT,
    Box,
    check_size,
    cut,
    cut_centre,
    efficientnet_centre,
    opencv,
    resize_bicubic,
)
from gluon_aff.data.randomness import uniform_rows

AREA = (0.08, 1.0)  # share of the image's area that a crop has
EFFICIENTNET_AREA = (0.1, 1.0)  # as in GluonCV; TensorFlow says 0.08, but its crops cover at least 0.1
ASPECT = (3 / 4, 4 / 3)  # width over height
ATTEMPTS = 10
JITTER = 0.4
LIGHTING = 0.1
LUMA = (0.299, 0.587, 0.114)
# Principal components of ImageNet's colours (rows: red, green, blue), each multiplied by its standard deviation.
LIGHTING_AXES = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
) * np.array([55.46, 4.794, 1.148])

ORDERS = tuple(itertools.permutations(range(3)))
NUMBERS = 14 + 5 * ATTEMPTS  # uniform numbers for one image

Jitter = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class ImageDraws:
    """Random choices for the augmentation of an image.

    Attributes:
        policy: number of the AutoAugment policy.
        uniforms: numbers in [0, 1) that decide whether each of the policy's steps is applied.
        signs: -1 or 1 for each step, the direction of shears, shifts and rotations.
        flip: whether to mirror the image left to right.
        factors: factors on brightness, contrast and saturation, in 0.6..1.4.
        order: order in which these three are applied.
        lighting: values that are added to red, green and blue.
        attempts: (ATTEMPTS, 5), in [0, 1): area, aspect, swap of the sides, row and column of possible crops.
    """

    policy: int
    uniforms: Tuple[float, ...]
    signs: Tuple[int, ...]
    flip: bool
    factors: Tuple[float, ...]
    order: Tuple[int, ...]
    lighting: np.ndarray
    attempts: np.ndarray


def draw_numbers(seed: int, epoch: int, images: Sequence[int]) -> np.ndarray:
    """Draw the numbers that `to_draws` takes, a row for each image: float64 (B, NUMBERS), in [0, 1)."""
    return uniform_rows(seed, epoch, images, NUMBERS)


def to_draws(numbers: np.ndarray) -> ImageDraws:
    """Translate a row of `draw_numbers` into the choices that it stands for."""
    first = numbers[: NUMBERS - 5 * ATTEMPTS].tolist()
    return ImageDraws(
        policy=int(first[0] * len(IMAGENET_POLICIES)),
        uniforms=tuple(first[1:3]),
        signs=tuple(-1 if number < 0.5 else 1 for number in first[3:5]),
        flip=first[5] < 0.5,
        factors=tuple(1 + JITTER * (2 * number - 1) for number in first[6:9]),
        order=ORDERS[int(first[9] * len(ORDERS))],
        lighting=LIGHTING_AXES @ (LIGHTING * _normal(first[10:14])[:3]),
        attempts=numbers[-5 * ATTEMPTS :].reshape(ATTEMPTS, 5),
    )


def _normal(uniforms: Sequence[float]) -> np.ndarray:
    """Turn four uniform numbers into four normally distributed ones, by the method of Box and Muller."""
    lengths = np.sqrt(-2 * np.log1p(-np.array(uniforms[::2])))
    angles = 2 * np.pi * np.array(uniforms[1::2])
    return np.concatenate([lengths * np.cos(angles), lengths * np.sin(angles)])


def augment_record(image: np.ndarray, input_size: int, draws: ImageDraws) -> np.ndarray:
    """Augment an image of a record as ImageRecordIter does: random crop, resize, jitter, lighting, flip.

    Args:
        image: uint8 (H, W, 3): blue, green, red.
        input_size: side of the result in pixels.
        draws: random choices; those for AutoAugment are ignored.

    Returns:
        uint8 (input_size, input_size, 3): red, green, blue.

    Raises:
        DataError: no crop fits, and the image is too long and narrow to be enlarged.
    """
    height, width = image.shape[:2]
    box = record_crop(height, width, draws.attempts)
    if box is None:
        crop = cut_centre(_enlarged(image, input_size), input_size)
    else:
        crop = opencv().resize(cut(image, box), (input_size, input_size))
    crop = _jitter(crop, draws, (_record_brightness, _record_contrast, _record_saturation))
    return _flip(_light(crop[..., ::-1], draws), draws)


def augment_file(image: np.ndarray, input_size: int, draws: ImageDraws, auto_augment: bool) -> np.ndarray:
    """Augment an image of a folder: AutoAugment on the whole image, random crop, resize, flip, jitter, lighting.

    Args:
        image: uint8 (H, W, 3): blue, green, red.
        input_size: side of the result in pixels; from 320 on, EfficientNet's crop and Pillow's operations are used.
        draws: random choices.
        auto_augment: whether to apply AutoAugment.

    Returns:
        uint8 (input_size, input_size, 3): red, green, blue.
    """
    if auto_augment:
        policy = IMAGENET_POLICIES[draws.policy]
        picture = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
        image = np.asarray(apply_policy(picture, policy, draws.uniforms, draws.signs))[..., ::-1]
    height, width = image.shape[:2]
    if input_size < LARGE_INPUT:
        part = np.ascontiguousarray(cut(image, folder_crop(height, width, input_size, draws.attempts)))
        crop = opencv().resize(part, (input_size, input_size))[..., ::-1]
        operations: Tuple[Jitter, ...] = (_gluon_brightness, _gluon_contrast, _gluon_saturation)
    else:
        part = cut(image, efficientnet_crop(height, width, input_size, draws.attempts))
        crop = resize_bicubic(np.ascontiguousarray(part[..., ::-1]), input_size)
        operations = tuple(map(_pillow, (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)))
    return _light(_jitter(_flip(crop, draws), draws, operations), draws)


def record_crop(height: int, width: int, attempts: np.ndarray) -> Optional[Box]:
    """Return the first of the random crops that fits into the image, None if none does.

    Area and aspect are uniform, and in half of the attempts the sides are swapped, as in ImageRecordIter.
    """
    for area, aspect, swap, row, column in attempts.tolist():
        size = _within(area, AREA) * height * width
        ratio = _within(aspect, ASPECT)
        sides = _side(size / ratio), _side(size * ratio)
        tall, wide = sides if swap < 0.5 else sides[::-1]
        if tall <= height and wide <= width:
            return _placed(height, width, tall, wide, row, column)
    return None


def folder_crop(height: int, width: int, input_size: int, attempts: np.ndarray) -> Box:
    """Return the first of the random crops that fits into the image; if none does, a square in the centre.

    The area and the logarithm of the aspect are uniform, as in Gluon. The side of the square is `input_size`, or the
    shorter side of a smaller image.
    """
    for area, aspect, _, row, column in attempts.tolist():
        size = _within(area, AREA) * height * width
        ratio = math.exp(_within(aspect, (math.log(ASPECT[0]), math.log(ASPECT[1]))))
        tall, wide = _side(size / ratio), _side(size * ratio)
        if tall <= height and wide <= width:
            return _placed(height, width, tall, wide, row, column)
    side = min(input_size, height, width)
    return Box((width - side) // 2, (height - side) // 2, side, side)


def efficientnet_crop(height: int, width: int, input_size: int, attempts: np.ndarray) -> Box:
    """Return EfficientNet's random crop, of uniform aspect and of uniform height among those possible.

    If none fits, it is EfficientNet's centre crop.
    """
    least, most = (share * height * width for share in EFFICIENTNET_AREA)
    for extent, aspect, _, row, column in attempts.tolist():
        ratio = _within(aspect, ASPECT)
        highest = round(math.sqrt(most / ratio))
        if highest * ratio > width:
            highest = int((width + 0.5 - 1e-7) / ratio)
            highest -= highest * ratio > width
        highest = min(highest, height)
        lowest = min(round(math.sqrt(least / ratio)), highest)
        tall = round(_within(extent, (lowest, highest)))
        wide = round(tall * ratio)
        if not least <= tall * wide <= most or wide > width or tall > height:
            continue
        if (tall, wide) == (height, width):
            break
        return _placed(height, width, tall, wide, row, column)
    return efficientnet_centre(height, width, input_size)


def _within(uniform: float, limits: Tuple[float, float]) -> float:
    return limits[0] + uniform * (limits[1] - limits[0])


def _side(square: float) -> int:
    return max(1, round(math.sqrt(square)))


def _placed(height: int, width: int, tall: int, wide: int, row: float, column: float) -> Box:
    return Box(int(column * (width - wide + 1)), int(row * (height - tall + 1)), wide, tall)


def _enlarged(image: np.ndarray, least: int) -> np.ndarray:
    """Return the image, enlarged if its shorter side has fewer than `least` pixels."""
    height, width = image.shape[:2]
    shorter = min(height, width)
    if shorter >= least:
        return image
    scaled = tuple(least if side == shorter else int(np.float32(least / shorter) * side) for side in (width, height))
    check_size(width, height, max(scaled), least)
    return opencv().resize(image, scaled)


def _flip(image: np.ndarray, draws: ImageDraws) -> np.ndarray:
    return image[:, ::-1] if draws.flip else image


def _jitter(image: np.ndarray, draws: ImageDraws, operations: Sequence[Jitter]) -> np.ndarray:
    """Change brightness, contrast and saturation in the order that was drawn."""
    image = np.ascontiguousarray(image)
    for place in draws.order:
        image = operations[place](image, draws.factors[place])
    return image


def _light(image: np.ndarray, draws: ImageDraws) -> np.ndarray:
    """Add the drawn lighting to red, green and blue, and round down."""
    values = np.arange(256)[:, np.newaxis] + draws.lighting.astype(np.float32)
    table = np.clip(values, 0, 255).astype(np.uint8)
    return opencv().LUT(np.ascontiguousarray(image), table[np.newaxis])


def _record_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    return _scaled(image, factor, 0)


def _record_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    grey = opencv().mean(_record_grey(image))[0]
    return _scaled(image, factor, (1 - factor) * grey)


def _record_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    cv2 = opencv()
    grey = cv2.cvtColor(_record_grey(image), cv2.COLOR_GRAY2BGR)
    return cv2.addWeighted(image, factor, grey, 1 - factor, 0)


def _record_grey(image: np.ndarray) -> np.ndarray:
    """Convert blue, green, red to grey as ImageRecordIter does, which takes the first for red."""
    cv2 = opencv()
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _scaled(image: np.ndarray, factor: float, shift: float) -> np.ndarray:
    """Return factor * image + shift, rounded to the nearest integer."""
    table = np.clip(np.rint(np.arange(256) * factor + shift), 0, 255).astype(np.uint8)
    return opencv().LUT(image, table)


def _gluon_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    return _truncated(image, factor, 0)


def _gluon_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    grey = float(np.dot(opencv().mean(image)[:3], LUMA))
    return _truncated(image, factor, (1 - factor) * grey)


def _gluon_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Change the saturation as MXNet's operator does, which mixes with blue's share of the grey instead of the grey."""
    grey = image[..., 2:] * np.float32(LUMA[2])
    mixed = grey * np.float32(1 - factor) + image * np.float32(factor)
    return np.clip(mixed, 0, 255).astype(np.uint8)


def _truncated(image: np.ndarray, factor: float, shift: float) -> np.ndarray:
    """Return factor * image + shift, rounded down."""
    values = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(shift)
    return opencv().LUT(image, np.clip(values, 0, 255).astype(np.uint8))


def _pillow(enhancer: Callable) -> Jitter:
    return lambda image, factor: np.asarray(enhancer(Image.fromarray(image)).enhance(factor))
