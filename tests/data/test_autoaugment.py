import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from gluon_aff.data.autoaugment import (
    CIFAR10_POLICIES,
    IMAGENET_POLICIES,
    OPERATIONS,
    Step,
    apply_cifar_policies,
    apply_policy,
)
from gluon_aff.data.cifar.augmentation import draw_epoch
from gluon_aff.data.cifar.files import load_cifar

ARRAY = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
LEVELS = pytest.mark.parametrize("level", range(10))
SIGNS = pytest.mark.parametrize("sign", [-1, 1])

# The tables as they are published: operation, probability, level; a comma within a policy, a bar between policies.
CIFAR10_TEXT = """
Invert .1 7, Contrast .2 6 | Rotate .7 2, TranslateXAbs .3 9 | Sharpness .8 1, Sharpness .9 3 | ShearY .5 8,
TranslateYAbs .7 9 | AutoContrast .5 8, Equalize .9 2 | ShearY .2 7, Posterize2 .3 7 | Color .4 3,
Brightness .6 7 | Sharpness .3 9, Brightness .7 9 | Equalize .6 5, Equalize .5 1 | Contrast .6 7, Sharpness .6
5 | Color .7 7, TranslateXAbs .5 8 | Equalize .3 7, AutoContrast .4 8 | TranslateYAbs .4 3, Sharpness .2 6 |
Brightness .9 6, Color .2 6 | Solarize .5 2, Invert 0 3 | Equalize .2 0, AutoContrast .6 0 | Equalize .2 8,
Equalize .6 4 | Color .9 9, Equalize .6 6 | AutoContrast .8 4, Solarize .2 8 | Brightness .1 3, Color .7 0 |
Solarize .4 5, AutoContrast .9 3 | TranslateYAbs .9 9, TranslateYAbs .7 9 | AutoContrast .9 2, Solarize .8 3 |
Equalize .8 8, Invert .1 3 | TranslateYAbs .7 9, AutoContrast .9 1
"""
IMAGENET_TEXT = """
Posterize2 .4 8, Rotate .6 9 | Solarize .6 5, AutoContrast .6 5 | Equalize .8 8, Equalize .6 3
| Posterize2 .6 7, Posterize2 .6 6 | Equalize .4 7, Solarize .2 4 | Equalize .4 4, Rotate .8 8 | Solarize .6 3,
Equalize .6 7 | Posterize2 .8 5, Equalize 1 2 | Rotate .2 3, Solarize .6 8 | Equalize .6 8, Posterize2 .4 6 |
Rotate .8 8, Color .4 0 | Rotate .4 9, Equalize .6 2 | Equalize 0 7, Equalize .8 8 | Invert .6 4, Equalize 1 8 |
Color .6 4, Contrast 1 8 | Rotate .8 8, Color 1 0 | Color .8 8, Solarize .8 7 | Sharpness .4 7, Invert .6 8 |
ShearX .6 5, Equalize 1 9 | Color .4 0, Equalize .6 3 | Equalize .4 7, Solarize .2 4 | Solarize .6 5,
AutoContrast .6 5 | Invert .6 4, Equalize 1 8 | Color .6 4, Contrast 1 8 | Equalize .8 8, Equalize .6 3
"""


def run(name, level, sign=1, array=ARRAY):
    return np.asarray(OPERATIONS[name](Image.fromarray(array), level, sign))


@pytest.mark.parametrize(("policies", "text"), [(CIFAR10_POLICIES, CIFAR10_TEXT), (IMAGENET_POLICIES, IMAGENET_TEXT)])
def test_tables(policies, text):
    steps = [re.split(r"\s+", step.strip()) for policy in text.split("|") for step in policy.split(",")]
    expected = [Step(name, float(probability), int(level)) for name, probability, level in steps]
    assert len(policies) == 25
    assert [step for policy in policies for step in policy] == expected
    assert {step.operation for step in expected} <= set(OPERATIONS)


@LEVELS
@SIGNS
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_operations_keep_size_and_input(name, level, sign):
    before = ARRAY.copy()
    result = OPERATIONS[name](Image.fromarray(ARRAY), level, sign)
    assert result.size == (32, 32)
    assert result.mode == "RGB"
    np.testing.assert_array_equal(ARRAY, before)


@LEVELS
@SIGNS
def test_translations_move_by_whole_pixels_over_black(level, sign):
    shift = sign * level
    expected = np.zeros_like(ARRAY)
    for x in range(32):
        if 0 <= x + shift < 32:
            expected[:, x] = ARRAY[:, x + shift]
    np.testing.assert_array_equal(run("TranslateXAbs", level, sign), expected)
    turned = run("TranslateYAbs", level, sign, ARRAY.transpose(1, 0, 2).copy()).transpose(1, 0, 2)
    np.testing.assert_array_equal(turned, expected)


@LEVELS
@SIGNS
@pytest.mark.parametrize("axis", ["X", "Y"])
def test_shears(level, sign, axis):
    value = sign * 0.3 * level / 10
    matrix = (1, value, 0, 0, 1, 0) if axis == "X" else (1, 0, 0, value, 1, 0)
    expected = Image.fromarray(ARRAY).transform((32, 32), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    difference = np.asarray(expected).astype(int) - run(f"Shear{axis}", level, sign)
    # The strength is rounded as in autogluon 0.0.14, which can move a pixel by one step.
    assert np.abs(difference).max() <= 1


@SIGNS
def test_shear_fills_with_black(sign):
    white = np.full((32, 32, 3), 255, np.uint8)
    corner = run("ShearX", 9, sign, white)[31]
    assert (corner[-7:] == 0).all() == (sign > 0)
    assert (corner[:7] == 0).all() == (sign < 0)


@LEVELS
@SIGNS
def test_rotation_is_three_degrees_a_level(level, sign):
    expected = Image.fromarray(ARRAY).rotate(sign * 3 * level, resample=Image.Resampling.NEAREST, fillcolor=(0, 0, 0))
    np.testing.assert_array_equal(run("Rotate", level, sign), np.asarray(expected))


@pytest.mark.parametrize(
    ("level", "threshold"),
    [(0, 256), (1, 231), (2, 205), (3, 180), (4, 154), (5, 128), (6, 103), (7, 77), (8, 52), (9, 26)],
)
def test_solarize(level, threshold):
    expected = np.where(threshold > ARRAY, ARRAY, 255 - ARRAY)
    np.testing.assert_array_equal(run("Solarize", level), expected)


@pytest.mark.parametrize(("level", "bits"), list(enumerate([4, 4, 4, 3, 3, 2, 2, 2, 1, 1])))
def test_posterize(level, bits):
    np.testing.assert_array_equal(run("Posterize2", level), ARRAY & (256 - 2 ** (8 - bits)))


@pytest.mark.parametrize(
    ("level", "factor"), list(enumerate([0.1, 0.28, 0.46, 0.64, 0.82, 1.0, 1.18, 1.36, 1.54, 1.72]))
)
@pytest.mark.parametrize("name", ["Contrast", "Color", "Brightness", "Sharpness"])
def test_enhancements(name, level, factor):
    expected = getattr(ImageEnhance, name)(Image.fromarray(ARRAY)).enhance(factor)
    difference = np.asarray(expected).astype(int) - run(name, level)
    assert np.abs(difference).max() <= 1
    if factor == 1.0:
        np.testing.assert_array_equal(run(name, level), ARRAY)


@LEVELS
def test_brightness_in_numpy(level):
    expected = np.clip(ARRAY * (0.1 + 0.18 * level), 0, 255)
    assert np.abs(expected - run("Brightness", level)).max() < 1.001


@pytest.mark.parametrize(
    ("name", "direct"),
    [("AutoContrast", ImageOps.autocontrast), ("Equalize", ImageOps.equalize), ("Invert", ImageOps.invert)],
)
def test_operations_without_strength(name, direct):
    dull = (ARRAY // 2 + 30).astype(np.uint8)
    expected = np.asarray(direct(Image.fromarray(dull)))
    for level in range(10):
        np.testing.assert_array_equal(run(name, level, -1, dull), expected)
    assert (expected != dull).any()


def test_invert_in_numpy():
    np.testing.assert_array_equal(run("Invert", 3), 255 - ARRAY)


@settings(deadline=None, max_examples=60)
@given(
    policy=st.sampled_from(CIFAR10_POLICIES + IMAGENET_POLICIES),
    uniforms=st.tuples(*[st.floats(0, 1, exclude_max=True)] * 2),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 2),
)
def test_a_policy_runs_its_steps_in_order(policy, uniforms, signs):
    expected = Image.fromarray(ARRAY)
    for (name, probability, level), uniform, sign in zip(policy, uniforms, signs):
        if uniform < probability:
            expected = OPERATIONS[name](expected, level, sign)
    result = apply_policy(Image.fromarray(ARRAY), policy, uniforms, signs)
    np.testing.assert_array_equal(np.asarray(result), np.asarray(expected))


def test_probability_limits():
    never, always = Step("Invert", 0.0, 3), Step("Invert", 1.0, 3)
    image = Image.fromarray(ARRAY)
    np.testing.assert_array_equal(np.asarray(apply_policy(image, (never, never), (0.0, 0.0), (1, 1))), ARRAY)
    np.testing.assert_array_equal(np.asarray(apply_policy(image, (always, never), (0.999999, 0), (1, 1))), 255 - ARRAY)


def test_policies_probabilities_and_signs_come_out_as_often_as_they_should():
    draws = draw_epoch(seed=3, epoch=1, samples=200_000).auto
    share = np.bincount(draws.policy, minlength=25) / len(draws.policy)
    # Five standard deviations of a share p among n draws: 5 * sqrt(p * (1 - p) / n).
    assert np.abs(share - 1 / 25).max() < 5 * np.sqrt(1 / 25 * 24 / 25 / 200_000)
    probability = np.array([[step.probability for step in policy] for policy in CIFAR10_POLICIES])[draws.policy]
    runs = draws.uniform < probability
    for policy in range(25):
        chosen = draws.policy == policy
        expected = np.array([step.probability for step in CIFAR10_POLICIES[policy]])
        assert (np.abs(runs[chosen].mean(axis=0) - expected) <= 5 * np.sqrt(0.25 / chosen.sum())).all()
    assert set(np.unique(draws.sign)) == {-1, 1}
    assert np.abs(draws.sign.mean(axis=0)).max() < 5 / np.sqrt(200_000)


def test_batch_is_image_by_image(digits_dir):
    images = load_cifar("cifar10", False, data_dir=str(digits_dir)).images[:40]
    draws = draw_epoch(0, 0, 40).auto
    batch = apply_cifar_policies(images, draws)
    assert batch.dtype == np.uint8
    for index in range(40):
        policy = CIFAR10_POLICIES[draws.policy[index]]
        alone = apply_policy(Image.fromarray(images[index]), policy, draws.uniform[index], draws.sign[index])
        np.testing.assert_array_equal(batch[index], np.asarray(alone))
