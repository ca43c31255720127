"""Draw Grad-CAM heat maps: where in an image a network sees a class (paper, Fig. 6; arXiv:1610.02391)."""

from __future__ import annotations

import numpy as np

from gluon_aff.data.imagenet.images import opencv
from gluon_aff.engines import ClassActivation


def heat_map(activation: ClassActivation, tutorial: bool = False) -> np.ndarray:
    """Return the heat map of a class: ReLU of the sum of the maps, each weighted with the mean of its gradient.

    Source: Selvaraju et al. (arXiv:1610.02391), Eqs. 1 and 2.

    Args:
        activation: maps of a layer and their gradients, (C, h, w) each.
        tutorial: add 1 before the ReLU, so that only values below -1 are cut off. MXNet's tutorial, which the paper's
            authors say they used, does so.

    Returns:
        float64 (h, w), with values from 0.
    """
    weights = activation.gradient.astype(np.float64).mean(axis=(1, 2))
    weighted = np.tensordot(weights, activation.maps.astype(np.float64), axes=1)
    return np.maximum(weighted + (1 if tutorial else 0), 0)


def resized_heat_map(heat: np.ndarray, height: int, width: int, tutorial: bool = False) -> np.ndarray:
    """Scale a heat map to the range 0 to 1, and resize it bilinearly to the size of an image.

    Args:
        heat: values of `heat_map`, (h, w).
        height: height of the image in pixels.
        width: width of the image in pixels.
        tutorial: round the values to 256 steps before resizing, as MXNet's tutorial does.

    Returns:
        float32 (height, width); the least value becomes 0 and the largest 1. If all are equal, they become 0.
    """
    span = heat.max() - heat.min()
    scaled = (heat - heat.min()) / span if span > 0 else np.zeros_like(heat)
    if tutorial:
        return opencv().resize((255 * scaled).astype(np.uint8), (width, height)).astype(np.float32) / 255
    return opencv().resize(scaled.astype(np.float32), (width, height))


def overlay(pixels: np.ndarray, heat: np.ndarray, tutorial: bool = False) -> np.ndarray:
    """Return the mean of an image and its heat map in colours from blue (0) to red (1), uint8 (H, W, 3).

    Args:
        pixels: the image, uint8 (H, W, 3).
        heat: the heat map, 0..1, (H, W).
        tutorial: use colours from cyan (0) to magenta (1), add them to the image, and divide by the largest sum, as
            MXNet's tutorial does.
    """
    cv2 = opencv()
    levels = np.rint(255 * heat).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_COOL if tutorial else cv2.COLORMAP_JET)[..., ::-1]
    both = colours.astype(np.float32) + pixels
    return (both / both.max() * 255).astype(np.uint8) if tutorial else np.rint(both / 2).astype(np.uint8)
