"""AutoAugment (Cubuk et al., 2019, arXiv:1805.09501) on Pillow images, with all random choices as arguments.

The policies and the meaning of the levels 0..9 are those of autogluon 0.0.x, which the original used for training.
Areas that a shift, shear or rotation brings in from outside the image are black.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, NamedTuple, Sequence, Tuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps


class Step(NamedTuple):
    """One operation of a policy: its name, its probability in 0..1 and its strength, a level in 0..9."""

    operation: str
    probability: float
    level: int


Policy = Tuple[Step, Step]
Operation = Callable[[Image.Image, int, int], Image.Image]


@dataclass(frozen=True)
class AutoAugmentDraws:
    """Random choices of AutoAugment for N images.

    Attributes:
        policy: integer (N,), number of the policy among the 25.
        uniform: float64 (N, 2), in [0, 1): a step is applied if its number is below its probability.
        sign: integer (N, 2), -1 or 1: direction of a shear, a shift or a rotation.
    """

    policy: np.ndarray
    uniform: np.ndarray
    sign: np.ndarray

    def take(self, rows: np.ndarray) -> AutoAugmentDraws:
        """Return the choices for the images numbered `rows`, in that order."""
        return AutoAugmentDraws(self.policy[rows], self.uniform[rows], self.sign[rows])


def _affine(image: Image.Image, matrix: Tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


def _shear(level: int) -> float:
    """Return 0.3 * level / 10, rounded as in autogluon, which stores it as a share of -0.3..0.3.

    The rounding changes pixels.
    """
    share = (0.3 * level / 10 + 0.3) / 0.6
    return share * 0.6 - 0.3


def _shear_x(image: Image.Image, level: int, sign: int) -> Image.Image:
    return _affine(image, (1, sign * _shear(level), 0, 0, 1, 0))


def _shear_y(image: Image.Image, level: int, sign: int) -> Image.Image:
    return _affine(image, (1, 0, 0, sign * _shear(level), 1, 0))


def _translate_x(image: Image.Image, level: int, sign: int) -> Image.Image:
    return _affine(image, (1, 0, sign * level, 0, 1, 0))


def _translate_y(image: Image.Image, level: int, sign: int) -> Image.Image:
    return _affine(image, (1, 0, 0, 0, 1, sign * level))


def _rotate(image: Image.Image, level: int, sign: int) -> Image.Image:
    return image.rotate(sign * (30 * level // 10), Image.Resampling.NEAREST)


def _solarize(image: Image.Image, level: int, sign: int) -> Image.Image:
    return ImageOps.solarize(image, 256 - 256 * level // 10)


def _posterize(image: Image.Image, level: int, sign: int) -> Image.Image:
    return ImageOps.posterize(image, 4 - 4 * level // 10)


def _auto_contrast(image: Image.Image, level: int, sign: int) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, level: int, sign: int) -> Image.Image:
    return ImageOps.equalize(image)


def _invert(image: Image.Image, level: int, sign: int) -> Image.Image:
    return ImageOps.invert(image)


def _enhance(enhancer: Callable[[Image.Image], Any]) -> Operation:
    return lambda image, level, sign: enhancer(image).enhance(0.1 + 1.8 * level / 10)


# Operations by name: operation(image, level, sign) takes an RGB image and returns a new one of the same size.
OPERATIONS: Dict[str, Operation] = {
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateXAbs": _translate_x,
    "TranslateYAbs": _translate_y,
    "Rotate": _rotate,
    "Solarize": _solarize,
    "Posterize2": _posterize,
    "Contrast": _enhance(ImageEnhance.Contrast),
    "Color": _enhance(ImageEnhance.Color),
    "Brightness": _enhance(ImageEnhance.Brightness),
    "Sharpness": _enhance(ImageEnhance.Sharpness),
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
    "Invert": _invert,
}

CIFAR10_POLICIES: Tuple[Policy, ...] = (
    (Step("Invert", 0.1, 7), Step("Contrast", 0.2, 6)),
    (Step("Rotate", 0.7, 2), Step("TranslateXAbs", 0.3, 9)),
    (Step("Sharpness", 0.8, 1), Step("Sharpness", 0.9, 3)),
    (Step("ShearY", 0.5, 8), Step("TranslateYAbs", 0.7, 9)),
    (Step("AutoContrast", 0.5, 8), Step("Equalize", 0.9, 2)),
    (Step("ShearY", 0.2, 7), Step("Posterize2", 0.3, 7)),
    (Step("Color", 0.4, 3), Step("Brightness", 0.6, 7)),
    (Step("Sharpness", 0.3, 9), Step("Brightness", 0.7, 9)),
    (Step("Equalize", 0.6, 5), Step("Equalize", 0.5, 1)),
    (Step("Contrast", 0.6, 7), Step("Sharpness", 0.6, 5)),
    (Step("Color", 0.7, 7), Step("TranslateXAbs", 0.5, 8)),
    (Step("Equalize", 0.3, 7), Step("AutoContrast", 0.4, 8)),
    (Step("TranslateYAbs", 0.4, 3), Step("Sharpness", 0.2, 6)),
    (Step("Brightness", 0.9, 6), Step("Color", 0.2, 6)),
    (Step("Solarize", 0.5, 2), Step("Invert", 0.0, 3)),
    (Step("Equalize", 0.2, 0), Step("AutoContrast", 0.6, 0)),
    (Step("Equalize", 0.2, 8), Step("Equalize", 0.6, 4)),
    (Step("Color", 0.9, 9), Step("Equalize", 0.6, 6)),
    (Step("AutoContrast", 0.8, 4), Step("Solarize", 0.2, 8)),
    (Step("Brightness", 0.1, 3), Step("Color", 0.7, 0)),
    (Step("Solarize", 0.4, 5), Step("AutoContrast", 0.9, 3)),
    (Step("TranslateYAbs", 0.9, 9), Step("TranslateYAbs", 0.7, 9)),
    (Step("AutoContrast", 0.9, 2), Step("Solarize", 0.8, 3)),
    (Step("Equalize", 0.8, 8), Step("Invert", 0.1, 3)),
    (Step("TranslateYAbs", 0.7, 9), Step("AutoContrast", 0.9, 1)),
)

IMAGENET_POLICIES: Tuple[Policy, ...] = (
    (Step("Posterize2", 0.4, 8), Step("Rotate", 0.6, 9)),
    (Step("Solarize", 0.6, 5), Step("AutoContrast", 0.6, 5)),
    (Step("Equalize", 0.8, 8), Step("Equalize", 0.6, 3)),
    (Step("Posterize2", 0.6, 7), Step("Posterize2", 0.6, 6)),
    (Step("Equalize", 0.4, 7), Step("Solarize", 0.2, 4)),
    (Step("Equalize", 0.4, 4), Step("Rotate", 0.8, 8)),
    (Step("Solarize", 0.6, 3), Step("Equalize", 0.6, 7)),
    (Step("Posterize2", 0.8, 5), Step("Equalize", 1.0, 2)),
    (Step("Rotate", 0.2, 3), Step("Solarize", 0.6, 8)),
    (Step("Equalize", 0.6, 8), Step("Posterize2", 0.4, 6)),
    (Step("Rotate", 0.8, 8), Step("Color", 0.4, 0)),
    (Step("Rotate", 0.4, 9), Step("Equalize", 0.6, 2)),
    (Step("Equalize", 0.0, 7), Step("Equalize", 0.8, 8)),
    (Step("Invert", 0.6, 4), Step("Equalize", 1.0, 8)),
    (Step("Color", 0.6, 4), Step("Contrast", 1.0, 8)),
    (Step("Rotate", 0.8, 8), Step("Color", 1.0, 0)),
    (Step("Color", 0.8, 8), Step("Solarize", 0.8, 7)),
    (Step("Sharpness", 0.4, 7), Step("Invert", 0.6, 8)),
    (Step("ShearX", 0.6, 5), Step("Equalize", 1.0, 9)),
    (Step("Color", 0.4, 0), Step("Equalize", 0.6, 3)),
    (Step("Equalize", 0.4, 7), Step("Solarize", 0.2, 4)),
    (Step("Solarize", 0.6, 5), Step("AutoContrast", 0.6, 5)),
    (Step("Invert", 0.6, 4), Step("Equalize", 1.0, 8)),
    (Step("Color", 0.6, 4), Step("Contrast", 1.0, 8)),
    (Step("Equalize", 0.8, 8), Step("Equalize", 0.6, 3)),
)


def apply_policy(image: Image.Image, policy: Policy, uniforms: Sequence[float], signs: Sequence[int]) -> Image.Image:
    """Apply each of the policy's two steps whose uniform number is below its probability, and return the image.

    Args:
        image: RGB image of any size.
        policy: a row of `CIFAR10_POLICIES` or `IMAGENET_POLICIES`.
        uniforms: a number in [0, 1) for each step.
        signs: -1 or 1 for each step, which only shears, shifts and rotations use.
    """
    for step, uniform, sign in zip(policy, uniforms, signs):
        if uniform < step.probability:
            image = OPERATIONS[step.operation](image, step.level, sign)
    return image


def apply_cifar_policies(images: np.ndarray, draws: AutoAugmentDraws) -> np.ndarray:
    """Apply CIFAR-10's AutoAugment policies to images, uint8 (B, H, W, 3), and return them in the same form."""
    choices = zip(draws.policy.tolist(), draws.uniform.tolist(), draws.sign.tolist())
    return np.stack(
        [
            np.asarray(apply_policy(Image.fromarray(image), CIFAR10_POLICIES[policy], uniforms, signs))
            for image, (policy, uniforms, signs) in zip(images, choices)
        ]
    )
