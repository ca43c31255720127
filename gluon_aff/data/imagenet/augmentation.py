"""What happens to an ImageNet image before the network, with every random choice handed in.

Three chains, those of the original: ImageRecordIter's for records; Gluon's transforms for folders; EfficientNet's crop
with Pillow's jitter for folders and large inputs. Each ends in uint8. The first two are MXNet's formulas, oddities
included, since published networks were trained with them: tests compare.
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

AREA = (0.08, 1.0)  # of the image
EFFICIENTNET_AREA = (0.1, 1.0)  # GluonCV's: TensorFlow's has 0.08, but covers at least 0.1
ASPECT = (3 / 4, 4 / 3)  # width over height
ATTEMPTS = 10
JITTER = 0.4
LIGHTING = 0.1
LUMA = (0.299, 0.587, 0.114)
# Principal components of ImageNet's colours (red, green, blue in rows), each times its deviation.
LIGHTING_AXES = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
) * np.array([55.46, 4.794, 1.148])

ORDERS = tuple(itertools.permutations(range(3)))
NUMBERS = 14 + 5 * ATTEMPTS  # uniform numbers that an image takes

Jitter = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class ImageDraws:
    """The random choices for an image.

    Attributes:
        policy: which of AutoAugment's.
        uniforms: in [0, 1): whether each of the policy's steps runs.
        signs: -1 or 1 for each of them.
        flip: mirror left to right.
        factors: of brightness, contrast and saturation, in 0.6..1.4.
        order: in which these three follow each other.
        lighting: what is added to red, green and blue.
        attempts: ATTEMPTS x 5, in [0, 1): area, aspect, swap of the sides, row and column of possible crops.
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
    """What `to_draws` takes, a row for each image: float64, B x NUMBERS."""
    return uniform_rows(seed, epoch, images, NUMBERS)


def to_draws(numbers: np.ndarray) -> ImageDraws:
    """The choices that a row of `draw_numbers` stands for."""
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
    """Four normally distributed numbers from four uniform ones, by Box and Muller."""
    lengths = np.sqrt(-2 * np.log1p(-np.array(uniforms[::2])))
    angles = 2 * np.pi * np.array(uniforms[1::2])
    return np.concatenate([lengths * np.cos(angles), lengths * np.sin(angles)])


def augment_record(image: np.ndarray, input_size: int, draws: ImageDraws) -> np.ndarray:
    """ImageRecordIter's chain: random crop, resize, jitter, lighting, flip.

    Args:
        image: uint8, H x W x 3: blue, green, red.
        input_size: side of the result in pixels.
        draws: the choices; those of AutoAugment are not looked at.

    Returns:
        uint8, input_size x input_size x 3: red, green, blue.

    Raises:
        DataError: no crop fits, and the image is too long a strip to be enlarged.
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
    """The chain for folders: [AutoAugment on the whole image], random crop, resize, flip, jitter, lighting.

    Args:
        image: uint8, H x W x 3: blue, green, red.
        input_size: side of the result in pixels; from 320 on, EfficientNet's crop and Pillow's operations are used.
        draws: the choices.
        auto_augment: run AutoAugment.

    Returns:
        uint8, input_size x input_size x 3: red, green, blue.
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
    """The first crop that fits, of uniform area and aspect, with its sides swapped in half of the attempts."""
    for area, aspect, swap, row, column in attempts.tolist():
        size = _within(area, AREA) * height * width
        ratio = _within(aspect, ASPECT)
        sides = _side(size / ratio), _side(size * ratio)
        tall, wide = sides if swap < 0.5 else sides[::-1]
        if tall <= height and wide <= width:
            return _placed(height, width, tall, wide, row, column)
    return None


def folder_crop(height: int, width: int, input_size: int, attempts: np.ndarray) -> Box:
    """The first crop that fits, of uniform area and logarithm of the aspect; else the centre, input_size a side.

    The centre crop is scaled down to what the image has, its shape kept.
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
    """EfficientNet's crop: uniform aspect, then uniform height among those possible; else its centre crop."""
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
    """The image, enlarged if a side is below `least` pixels."""
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
    """Brightness, contrast and saturation in the order drawn."""
    image = np.ascontiguousarray(image)
    for place in draws.order:
        image = operations[place](image, draws.factors[place])
    return image


def _light(image: np.ndarray, draws: ImageDraws) -> np.ndarray:
    """Add the colour drawn, rounding down; red, green, blue."""
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
    """ImageRecordIter's grey of blue, green, red: it takes the first for red."""
    cv2 = opencv()
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _scaled(image: np.ndarray, factor: float, shift: float) -> np.ndarray:
    """Factor * image + shift, rounded."""
    table = np.clip(np.rint(np.arange(256) * factor + shift), 0, 255).astype(np.uint8)
    return opencv().LUT(image, table)


def _gluon_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    return _truncated(image, factor, 0)


def _gluon_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    grey = float(np.dot(opencv().mean(image)[:3], LUMA))
    return _truncated(image, factor, (1 - factor) * grey)


def _gluon_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """MXNet's operator sets out to mix with grey, but keeps only blue's share of that."""
    grey = image[..., 2:] * np.float32(LUMA[2])
    mixed = grey * np.float32(1 - factor) + image * np.float32(factor)
    return np.clip(mixed, 0, 255).astype(np.uint8)


def _truncated(image: np.ndarray, factor: float, shift: float) -> np.ndarray:
    """Factor * image + shift, rounded down."""
    values = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(shift)
    return opencv().LUT(image, np.clip(values, 0, 255).astype(np.uint8))


def _pillow(enhancer: Callable) -> Jitter:
    return lambda image, factor: np.asarray(enhancer(Image.fromarray(image)).enhance(factor))
