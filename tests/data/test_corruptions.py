"""Corruptions keep shape and range, depend on the sample id alone, and damage more the more severe they are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bench.data import corruptions
from bench.errors import BenchError

SEVERITIES = range(1, 6)
RANDOM = {"gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "rotation", "elastic"}
RANDOM |= {"glass_blur", "snow", "frost", "fog"}


def pictures(n: int = 24, channels: int = 1, size: tuple[int, int] = (28, 28)) -> np.ndarray:
    """Smooth shapes on black, between 0 and 1."""
    noise = np.random.default_rng(1).standard_normal((n, channels, *size))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 2.5, 2.5))
    smooth /= np.abs(smooth).max(axis=(1, 2, 3), keepdims=True)
    return np.clip(smooth * 1.5, 0, 1).astype(np.float32)


def ids(n: int = 24) -> np.ndarray:
    return np.array([f"set/{row}" for row in range(n)])


@pytest.mark.parametrize("name", corruptions.NAMES)
@pytest.mark.parametrize(("channels", "size"), [(1, (28, 28)), (3, (32, 24)), (3, (16, 40))])
def test_shape_type_and_range_are_kept(name: str, channels: int, size: tuple[int, int]) -> None:
    images = pictures(4, channels, size)
    before = images.copy()
    for severity in SEVERITIES:
        out = corruptions.corrupt(images, ids(4), name, severity, seed=0)
        assert out.shape == images.shape
        assert out.dtype == np.float32
        assert out.min() >= 0
        assert out.max() <= 1
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("name", corruptions.NAMES)
def test_damage_grows_with_severity(name: str) -> None:
    images = pictures()
    damage = [
        np.sqrt(((corruptions.corrupt(images, ids(), name, severity, 0) - images) ** 2).sum((1, 2, 3))).mean()
        for severity in SEVERITIES
    ]
    assert damage[0] > 0
    assert (np.diff(damage) > 0).all(), damage


@pytest.mark.parametrize("name", corruptions.NAMES)
def test_an_image_is_corrupted_alike_in_any_company(name: str) -> None:
    images = pictures()
    whole = corruptions.corrupt(images, ids(), name, 3, seed=0)
    order = np.array([7, 2, 19])
    np.testing.assert_array_equal(corruptions.corrupt(images[order], ids()[order], name, 3, seed=0), whole[order])


@pytest.mark.parametrize("name", corruptions.NAMES)
def test_draws_follow_the_id_and_the_seed(name: str) -> None:
    same = np.repeat(pictures(1), 8, axis=0)
    out = corruptions.corrupt(same, ids(8), name, 3, seed=0)
    other_seed = corruptions.corrupt(same, ids(8), name, 3, seed=1)
    assert (len(np.unique(out, axis=0)) > 1) == (name in RANDOM)
    assert np.array_equal(out, other_seed) == (name not in RANDOM)


def test_noise_has_the_declared_size() -> None:
    grey = np.full((50, 1, 28, 28), 0.5, np.float32)
    noise = corruptions.corrupt(grey, ids(50), "gaussian_noise", 1, 0) - grey
    assert noise.std() == pytest.approx(0.08, rel=0.02)
    impulses = corruptions.corrupt(grey, ids(50), "impulse_noise", 5, 0)
    assert (impulses != 0.5).mean() == pytest.approx(0.27, abs=0.01)
    assert (impulses == 1).mean() == pytest.approx(0.135, abs=0.01)
    shots = corruptions.corrupt(grey, ids(50), "shot_noise", 1, 0)
    assert shots.mean() == pytest.approx(0.5, abs=0.005)
    assert shots.var() == pytest.approx(0.5 / 60, rel=0.05)


def test_the_fifteen_are_there() -> None:
    assert len(corruptions.COMMON) == 15
    assert set(corruptions.NAMES) - set(corruptions.COMMON) == {"gaussian_blur", "rotation"}


def test_a_point_out_of_focus_is_a_disk() -> None:
    point = np.zeros((1, 1, 28, 28), np.float32)
    point[0, 0, 14, 14] = 1
    disk = corruptions.corrupt(point, ids(1), "defocus_blur", 4, 0)[0, 0]  # radius 3
    assert disk.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(disk, disk.T, atol=1e-7)
    np.testing.assert_allclose(disk[1:, 1:], disk[1:, 1:][::-1, ::-1], atol=1e-7)
    away = np.hypot(*np.meshgrid(np.arange(28) - 14, np.arange(28) - 14))
    assert (disk[away > 3.8] == 0).all()
    inside = disk[away < 2.2]
    assert inside.min() == pytest.approx(inside.max())
    assert inside.max() == pytest.approx(1 / (np.pi * 9), rel=0.06)


def test_enlargements_keep_the_middle_and_glass_only_what_is_near() -> None:
    point = np.zeros((1, 1, 29, 29), np.float32)
    point[0, 0, 14, 14] = 1
    zoomed = corruptions.corrupt(point, ids(1), "zoom_blur", 3, 0)[0, 0]
    assert zoomed[14, 14] == zoomed.max() == pytest.approx(1)
    glass = corruptions.corrupt(np.repeat(point, 8, 0), ids(8), "glass_blur", 3, 0)
    rows, columns = np.nonzero(glass.max(axis=(0, 1)) > 0.01)
    assert np.abs(rows - 14).max() <= 4
    assert np.abs(columns - 14).max() <= 4


def test_weather_brightens_and_leaves_white_alone() -> None:
    images = pictures()
    for name in ("snow", "frost", "fog"):
        out = corruptions.corrupt(images, ids(), name, 3, 0)
        assert out.mean() > images.mean()
    white = np.ones((3, 1, 28, 28), np.float32)
    np.testing.assert_allclose(corruptions.corrupt(white, ids(3), "snow", 5, 0), white)
    black = np.zeros((40, 1, 28, 28), np.float32)
    fallen = corruptions.corrupt(black, ids(40), "snow", 1, 0)
    assert fallen.min() == pytest.approx(0.02)
    covered = (fallen > 0.03).mean()
    assert 0.02 < covered < 5 * 0.02 * 2.5


def test_impulses_hit_all_channels_alike() -> None:
    out = corruptions.corrupt(np.full((4, 3, 28, 28), 0.5, np.float32), ids(4), "impulse_noise", 3, 0)
    np.testing.assert_array_equal(out[:, 0], out[:, 2])


def test_rotation_turns_about_the_middle_like_scipy() -> None:
    images = pictures(6)
    out = corruptions.corrupt(images, ids(6), "rotation", 2, 0)
    inner = np.s_[8:20, 8:20]
    for image, turned in zip(images[:, 0], out[:, 0], strict=True):
        expected = [ndimage.rotate(image, angle, reshape=False, order=1, mode="nearest") for angle in (20, -20)]
        assert min(np.abs(turned[inner] - e[inner]).max() for e in expected) < 1e-5


def test_pixelate_averages_blocks() -> None:
    images = pictures(3)
    expected = images.reshape(3, 1, 14, 2, 14, 2).mean(axis=(3, 5)).repeat(2, axis=2).repeat(2, axis=3)
    np.testing.assert_allclose(corruptions.corrupt(images, ids(3), "pixelate", 2, 0), expected, atol=1e-6)


def test_contrast_and_brightness_by_hand() -> None:
    image = np.array([[0.0, 1.0], [0.5, 0.5]], np.float32).reshape(1, 1, 2, 2)
    low = corruptions.corrupt(image, ids(1), "contrast", 2, 0)
    np.testing.assert_allclose(low.ravel(), [0.3, 0.7, 0.5, 0.5], atol=1e-6)
    bright = corruptions.corrupt(image, ids(1), "brightness", 2, 0)
    np.testing.assert_allclose(bright.ravel(), [0.2, 1.0, 0.7, 0.7], atol=1e-6)


def test_blur_leaves_a_uniform_image_alone() -> None:
    grey = np.full((2, 3, 28, 28), 0.4, np.float32)
    blurs = ("gaussian_blur", "defocus_blur", "glass_blur", "zoom_blur", "motion_blur")
    for name in (*blurs, "pixelate", "rotation", "elastic"):
        np.testing.assert_allclose(corruptions.corrupt(grey, ids(2), name, 4, 0), grey, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "severity", "n", "message"),
    [
        ("rain", 1, 2, "no corruption 'rain'"),
        ("contrast", 6, 2, "severity 6"),
        ("contrast", 1, 3, "3 ids for 2 images"),
    ],
)
def test_what_cannot_be_done_is_said(name: str, severity: int, n: int, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        corruptions.corrupt(pictures(2), ids(n), name, severity, 0)
