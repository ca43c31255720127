"""Grad-CAM's maps by hand and against NumPy."""

import numpy as np
import pytest

from gluon_aff.engines import ClassActivation
from gluon_aff.inspection.gradcam import heat_map, overlay, resized_heat_map


def activation(maps, gradient):
    return ClassActivation(np.zeros(2, "float32"), 0, np.array(maps, "float32"), np.array(gradient, "float32"))


def test_maps_are_weighted_with_mean_gradients_and_cut_off_at_0():
    maps = [[[1, 2], [3, 4]], [[5, 0], [1, 0]]]
    found = activation(maps, [[[2, 0], [0, 2]], [[-1, -1], [-1, -1]]])  # means 1 and -1
    np.testing.assert_array_equal(heat_map(found), [[0, 2], [2, 4]])
    # 1 + [[-4, 2], [2, 4]]
    np.testing.assert_array_equal(heat_map(found, tutorial=True), [[0, 3], [3, 5]])


def test_the_tutorials_1_lets_weak_counter_evidence_through():
    found = activation([[[1, 0], [0, 0]]], np.full((1, 2, 2), -0.5))
    assert not heat_map(found).any()
    np.testing.assert_array_equal(heat_map(found, tutorial=True), [[0.5, 1], [1, 1]])


@pytest.mark.parametrize("tutorial", [False, True])
def test_a_constant_map_is_cold(tutorial):
    assert not resized_heat_map(np.full((3, 3), 7.0), 12, 12, tutorial).any()


@pytest.mark.parametrize("tutorial", [False, True])
def test_resized_bilinear_from_0_to_1(tutorial):
    heat = np.array([[2.0, 3.0], [3.0, 6.0]])
    found = resized_heat_map(heat, 4, 6, tutorial)
    assert (found.shape, found.dtype) == ((4, 6), np.float32)
    rows = np.clip((np.arange(4) + 0.5) / 2 - 0.5, 0, 1)[:, None]  # pixels' centres
    columns = np.clip((np.arange(6) + 0.5) / 3 - 0.5, 0, 1)
    corners = (heat - 2) / 4
    top, bottom = ((1 - columns) * left + columns * right for left, right in corners)
    np.testing.assert_allclose(found, (1 - rows) * top + rows * bottom, atol=2 / 255 if tutorial else 1e-6)
    if tutorial:
        steps = found * 255
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)


def test_overlays_by_hand():
    pixels = np.full((1, 2, 3), 100, np.uint8)
    heat = np.array([[0.0, 1.0]], np.float32)
    np.testing.assert_array_equal(overlay(pixels, heat), [[[50, 50, 114], [114, 50, 50]]])  # 128 blue, 128 red
    cool = [[[0, 255, 255], [255, 0, 255]]]
    expected = (np.array(cool) + 100) * 255 // 355
    np.testing.assert_array_equal(overlay(pixels, heat, tutorial=True), expected)
