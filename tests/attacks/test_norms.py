from __future__ import annotations

import numpy as np
import pytest

from bench.attacks import norms


def test_sizes_by_hand() -> None:
    """Property (4). Two channels of 2 x 2: one position changes by (0.3, -0.4), another by less than half a step of 8
    bits."""
    clean = np.full((1, 2, 2, 2), 0.5, np.float32)
    attacked = clean.copy()
    attacked[0, :, 0, 0] += np.float32([0.3, -0.4])
    attacked[0, 0, 1, 1] += np.float32(0.001)
    found = norms.sizes(attacked, clean)
    assert found.l0.tolist() == [0.25]
    np.testing.assert_allclose(found.l2, [np.sqrt(0.25 + 1e-6)], rtol=1e-6)
    np.testing.assert_allclose(found.linf, [0.4], rtol=1e-6)
    assert [size.tolist() for size in (norms.sizes(clean, clean).l0, norms.sizes(clean, clean).linf)] == [[0], [0]]


@pytest.mark.parametrize("eps_255", [0.0, 0.5, 1.0, 8.0, 32.0, 300.0])
def test_the_box_is_never_left_by_rounding_and_is_tight(eps_255: float) -> None:
    clean = np.random.default_rng(0).random((4, 1, 50, 50), dtype=np.float32)
    clean[0, 0, 0, :2] = 0, 1
    eps = eps_255 / 255
    low, high = norms.linf_box(clean, eps)
    exact = clean.astype(np.float64)
    assert low.dtype == high.dtype == np.float32
    assert (exact - low <= eps).all()
    assert (high - exact <= eps).all()
    assert (low >= 0).all()
    assert (high <= 1).all()
    np.testing.assert_allclose(low, np.maximum(exact - eps, 0), atol=1e-7)
    np.testing.assert_allclose(high, np.minimum(exact + eps, 1), atol=1e-7)
    if eps == 0:
        assert np.array_equal(low, clean)
        assert np.array_equal(high, clean)


def test_rounding_to_8_bits() -> None:
    every = np.arange(256, dtype=np.uint8)
    images = every.astype(np.float32) / 255
    assert np.array_equal(norms.round_u8(images), images)
    assert np.array_equal(np.round(norms.round_u8(images + np.float32(0.4 / 255)) * 255), every)
