"""Corruptions: what each does to images, at any size, from the same seed."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parti.core.errors import InvalidData, InvalidSettings
from parti.evaluators.robustness.corruptions import CORRUPTIONS, corrupt, strength


def picture(side=32, channels=3, n=2):
    """A smooth picture with an edge."""
    y, x = np.mgrid[0:side, 0:side] / side
    layers = [0.5 + 0.35 * np.sin(4 * x + k) * np.cos(3 * y) for k in range(channels)]
    image = np.stack(layers, -1)
    image[side // 3 : side // 2, side // 4 : -side // 4] *= 0.3
    return np.repeat(np.rint(255 * image).astype(np.uint8)[None], n, 0)


def distance(a, b):
    return np.abs(a.astype(float) - b.astype(float)).mean()


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("side", [32, 96])
def test_severities_grow(kind, side):
    images = picture(side, n=4)
    away = [distance(corrupt(images, kind, s), images) for s in range(1, 6)]
    assert away[0] > 0
    assert away[4] > away[0]
    if kind != "pixelate":  # where its boxes begin decides, too
        assert away == sorted(away)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(CORRUPTIONS),
    severity=st.integers(1, 5),
    height=st.integers(4, 40),
    width=st.integers(4, 40),
    channels=st.sampled_from([1, 2, 3, 4]),
    floats=st.booleans(),
)
def test_any_size_and_type(kind, severity, height, width, channels, floats):
    images = np.random.default_rng(0).integers(0, 256, (3, height, width, channels), np.uint8)
    low, high = 0.0, 255.0
    if floats:
        low, high = -1.0, 1.0
        images = (images / 127.5 - 1).astype(np.float32)
    before = images.copy()
    found = corrupt(images, kind, severity, value_range=(low, high))
    assert found.shape == images.shape
    assert found.dtype == images.dtype
    assert np.isfinite(found.astype(float)).all()
    assert low - 1e-5 <= found.min() <= found.max() <= high + 1e-5
    assert np.array_equal(images, before)
    assert np.array_equal(found, corrupt(images, kind, severity, value_range=(low, high)))


@pytest.mark.parametrize("kind", ["gaussian_noise", "shot_noise", "motion_blur", "rotation"])
def test_random_ones_follow_from_the_seed_and_differ_between_images(kind):
    images = picture(n=70)  # more than are corrupted at once
    first = corrupt(images, kind, 3, seed=1)
    assert not np.array_equal(first, corrupt(images, kind, 3, seed=2))
    assert len({image.tobytes() for image in first}) > 1


def test_noises_have_the_strength_of_the_paper():
    flat = np.full((20, 32, 32, 3), 128, np.uint8)
    away = (corrupt(flat, "gaussian_noise", 3) - 128.0) / 255
    assert away.std() == pytest.approx(0.08, rel=0.03)
    shot = corrupt(flat, "shot_noise", 3) / 255
    assert shot.std() == pytest.approx(math.sqrt(128 / 255 / 100), rel=0.03)
    changed = corrupt(flat, "impulse_noise", 5)
    assert (changed != 128).mean() == pytest.approx(0.07, rel=0.1)
    assert set(np.unique(changed)) == {0, 128, 255}
    assert (changed == 0).sum() == pytest.approx((changed == 255).sum(), rel=0.15)


def test_contrast_keeps_the_mean_and_brightness_the_hue():
    images = picture()
    low = corrupt(images, "contrast", 3).astype(float)
    assert low.mean((1, 2)) == pytest.approx(images.mean((1, 2)), abs=0.5)
    assert low.std((1, 2)) == pytest.approx(0.4 * images.std((1, 2)), rel=0.02)
    import colorsys

    colours = np.array([[[[60, 120, 30], [0, 0, 0], [250, 10, 10]]]], np.uint8)
    found = corrupt(colours, "brightness", 2)
    for before, after in zip(colours[0, 0] / 255, found[0, 0] / 255, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        expected = colorsys.hsv_to_rgb(hue, saturation, min(1, value + 0.1))
        assert after == pytest.approx(expected, abs=0.003)


@pytest.mark.parametrize("kind", ["gaussian_blur", "defocus_blur", "motion_blur"])
@pytest.mark.parametrize("severity", [1, 5])
def test_blurs_keep_flat_images_and_move_a_dot_apart(kind, severity):
    flat = np.full((3, 9, 14, 1), 77, np.uint8)
    assert np.array_equal(corrupt(flat, kind, severity), flat)
    dot = np.zeros((1, 33, 33, 1), np.float32)
    dot[0, 16, 16] = 1
    found = corrupt(dot, kind, severity, value_range=(0, 1))[0, ..., 0]
    assert found.sum() == pytest.approx(1, abs=1e-4)
    assert found.max() < 1
    if kind != "motion_blur":
        assert found == pytest.approx(found[::-1], abs=1e-6)
        assert found == pytest.approx(found.T, abs=1e-6)


def test_a_gaussian_blur_is_that_of_scipy():
    from scipy.ndimage import gaussian_filter

    images = picture(32, 1).astype(np.float32)
    expected = gaussian_filter(images[0, ..., 0], 0.8, mode="nearest", truncate=5)
    assert corrupt(images, "gaussian_blur", 4)[0, ..., 0] == pytest.approx(expected, abs=0.01)


def test_motion_goes_along_one_line_to_one_side():
    dot = np.zeros((6, 41, 41, 1), np.float32)
    dot[:, 20, 20] = 1
    for found in corrupt(dot, "motion_blur", 5, value_range=(0, 1))[..., 0]:
        y, x = np.nonzero(found > 1e-4)
        weights = found[y, x]
        assert x.min() >= 19 or x.max() <= 21
        angle = abs(np.polyfit(x, y, 1, w=weights)[0])
        assert angle <= 1.1  # within 45 degrees of the horizontal


def test_pixelation_is_that_of_pillow():
    from PIL import Image

    images = picture(32)
    for severity, share in ((1, 0.95), (5, 0.65)):
        small = int(32 * share)
        image = Image.fromarray(images[0])
        expected = image.resize((small, small), Image.Resampling.BOX).resize(
            (32, 32), Image.Resampling.BOX
        )
        found = corrupt(images, "pixelate", severity)[0]
        assert distance(found, np.asarray(expected)) < 0.6


def test_rotation_turns_by_the_angle_to_both_sides():
    side = 65
    y, x = np.mgrid[0:side, 0:side] - side // 2
    bar = ((np.abs(y) < 2) & (np.abs(x) < 25)).astype(np.float32)
    found = corrupt(np.repeat(bar[None, ..., None], 12, 0), "rotation", 5, value_range=(0, 1))
    angles = []
    for image in found[..., 0]:
        c = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=image.ravel())
        angles.append(math.degrees(0.5 * math.atan2(2 * c[0, 1], c[0, 0] - c[1, 1])))
    assert np.abs(angles) == pytest.approx(30, abs=1)
    assert min(angles) < 0 < max(angles)
    wide = np.repeat(picture(40)[:, :20], 1, 0)
    assert corrupt(wide, "rotation", 1).shape == wide.shape


def test_strengths_lie_between_the_two_sizes_of_the_authors():
    assert strength("gaussian_noise", 5, 32) == strength("gaussian_noise", 5, 8) == (0.1,)
    assert strength("gaussian_noise", 5, 224) == pytest.approx((0.38,))
    assert strength("defocus_blur", 1, 512) == pytest.approx((3.0, 0.1))
    middle = round(math.sqrt(32 * 224))
    assert strength("gaussian_noise", 5, middle)[0] == pytest.approx(math.sqrt(0.038), rel=0.01)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"kind": "fog"}, InvalidSettings, "there are gaussian_noise"),
        ({"severity": 6}, InvalidSettings, "1 to 5"),
        ({"value_range": (1, 0)}, InvalidSettings, "larger"),
        ({"images": np.zeros((0, 8, 8, 1), np.uint8)}, InvalidData, "at least one"),
        ({"images": np.zeros((8, 8, 1), np.uint8)}, InvalidData, "height, width"),
    ],
)
def test_arguments_are_checked(given, error, message):
    with pytest.raises(error, match=message):
        corrupt(**{"images": picture(8), "kind": "jpeg", "severity": 1, **given})
