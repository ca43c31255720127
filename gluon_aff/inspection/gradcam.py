"""Grad-CAM: where in an image a network sees a class (paper, Fig. 6; Selvaraju et al., arXiv:1610.02391)."""

from __future__ import annotations

import numpy as np

from gluon_aff.data.imagenet.images import opencv
from gluon_aff.engines import ClassActivation


def heat_map(activation: ClassActivation, tutorial: bool = False) -> np.ndarray:
    """ReLU of the sum of the maps, each weighted with the spatial mean of its gradient: float64 (h, w), from 0.

    With `tutorial` 1 is added before the ReLU, as in MXNet's tutorial, which the paper's authors say they used: only
    what is below -1 is cut off.
    """
    weights = activation.gradient.astype(np.float64).mean(axis=(1, 2))
    weighted = np.tensordot(weights, activation.maps.astype(np.float64), axes=1)
    return np.maximum(weighted + (1 if tutorial else 0), 0)


def resized_heat_map(heat: np.ndarray, height: int, width: int, tutorial: bool = False) -> np.ndarray:
    """`heat_map`'s values from the least, 0, to the largest, 1, in an image's size, bilinear: float32 (height, width).

    Where all are equal, 0. With `tutorial` in 256 steps.
    """
    span = heat.max() - heat.min()
    scaled = (heat - heat.min()) / span if span > 0 else np.zeros_like(heat)
    if tutorial:
        return opencv().resize((255 * scaled).astype(np.uint8), (width, height)).astype(np.float32) / 255
    return opencv().resize(scaled.astype(np.float32), (width, height))


def overlay(pixels: np.ndarray, heat: np.ndarray, tutorial: bool = False) -> np.ndarray:
    """An image under its heat map in colours, from blue (0) to red (1), half and half: uint8 (H, W, 3).

    Args:
        pixels: uint8 (H, W, 3).
        heat: 0..1, (H, W).
        tutorial: from cyan (0) to magenta (1), added to the image and divided by the largest sum.
    """
    cv2 = opencv()
    levels = np.rint(255 * heat).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_COOL if tutorial else cv2.COLORMAP_JET)[..., ::-1]
    both = colours.astype(np.float32) + pixels
    return (both / both.max() * 255).astype(np.uint8) if tutorial else np.rint(both / 2).astype(np.uint8)
