"""Rank, nullity and collisions: by hand, against numpy's and scipy's own, and on every kind of convolution."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from bench.errors import BenchError
from bench.studies import nullspace


@pytest.mark.parametrize(
    ("layer", "shape", "nullity", "method"),
    [
        (nn.Linear(3072, 512), (3072,), 2560, "dense"),
        (nn.Conv2d(3, 64, 8, 8), (3, 8, 8), 128, "patch"),
        (nn.Conv2d(3, 768, 32, 32), (3, 224, 224), 49 * 2304, "patch"),
        (nn.Conv2d(3, 96, 7, 2), (3, 224, 224), 1341, "shape"),
        (nn.Conv2d(3, 64, 3, 2), (3, 224, 224), 1341, "shape"),
        (nn.Conv2d(1, 16, 3, 1, 1), (1, 16, 16), 0, "dense"),
        (nn.Conv2d(1, 4, 2, 3), (1, 7, 7), 49 - 16, "patch"),
    ],
)
def test_nullity_is_that_of_the_shapes(layer: nn.Module, shape: tuple[int, ...], nullity: int, method: str) -> None:
    found = nullspace.measure(layer, shape)
    assert (found.nullity, found.method) == (nullity, method)
    assert found.rank + found.nullity == found.n_in == np.prod(shape)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", ["zeros", "circular", "reflect", "replicate"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_convolution_is_its_dense_jacobian(groups: int, dilation: int, padding: str, stride: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 2, 3, stride, 1, dilation, groups, padding_mode=padding)
    layer.weight.data = layer.weight.data.transpose(2, 3)  # not contiguous
    x = torch.rand(1, 2, 7, 8, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(nullspace.in_double(layer), x)
    matrix = jacobian.reshape(-1, x.numel()).numpy()
    np.testing.assert_allclose(nullspace.operator(nullspace.in_double(layer), (2, 7, 8)), matrix, atol=1e-12)
    found = nullspace.measure(layer, (2, 7, 8))
    assert found.nullity == scipy.linalg.null_space(matrix).shape[1]
    assert found.nullity >= 2 * nullspace.uncovered(layer, (2, 7, 8))


def test_what_is_not_linear_is_refused() -> None:
    with pytest.raises(BenchError, match="neither a linear layer nor a convolution"):
        nullspace.measure(nn.BatchNorm2d(3), (3, 4, 4))
    with pytest.raises(BenchError, match="no affine map"):
        nullspace.operator(lambda x: (x - 0.5).abs(), (1, 2, 2))
    with pytest.raises(BenchError, match="no weights yet"):
        nullspace.measure(nn.LazyLinear(3), (4,))


def test_a_collision_by_hand() -> None:
    """Only the sum of two pixels is seen: (0.2, 0.4) becomes (0.6, 0), the nearest to (1, 0)."""
    rows, kernel = nullspace.bases(np.ones((1, 2)))
    assert (rows.shape, kernel.shape) == ((2, 1), (2, 1))
    found, moved = nullspace.collide(np.array([[0.2, 0.4]]), np.array([[1.0, 0.0]]), rows.T)
    assert moved.all()
    np.testing.assert_allclose(found, [[0.6, 0.0]], atol=1e-12)


def test_black_areas_must_stay_and_others_may_move() -> None:
    """Two means of two pixels each: where the mean is 0, both pixels are."""
    means = np.array([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    target = np.array([[1.0, 0, 1, 0]] * 3)
    found, moved = nullspace.collide(np.array([[0, 0, 0, 0.4], [0, 0, 1, 1], [0, 0.4, 0, 0.4]]), target, means)
    assert moved.tolist() == [True, False, True]
    np.testing.assert_allclose(found, [[0, 0, 0.4, 0], [0, 0, 1, 1], [0.4, 0, 0.4, 0]], atol=1e-9)
    np.testing.assert_allclose(found @ means.T, [[0, 0.2], [0, 1], [0.2, 0.2]], atol=1e-15)


def test_an_image_that_is_nearest_to_its_target_moves_away() -> None:
    """Nothing reads the second pixel, which image and target share."""
    found, moved = nullspace.collide(np.array([[0.5, 0.0]]), np.array([[0.9, 0.0]]), np.array([[1.0, 0.0]]))
    assert moved.all()
    np.testing.assert_allclose(found, [[0.5, 1.0]], atol=1e-9)


def test_whole_steps_are_exact_where_nothing_reads_the_pixel() -> None:
    rows = np.array([[1.0, 0.5, 0.0]])
    x, made = np.array([[10.0, 20, 30]]) / 255, np.array([[6.0, 26, 196.3]]) / 255
    found = nullspace.on_grid(made, x, rows)
    np.testing.assert_allclose(found * 255, np.rint(found * 255), atol=1e-9)
    np.testing.assert_allclose(found[0, 2], 196 / 255)
    assert np.abs((found - x) @ rows.T).max() <= 0.5 / 255


def test_shapes_alone_bound_what_is_dropped() -> None:
    with torch.device("meta"):
        layer = nn.Conv2d(3, 192, 16, 16)
    found = nullspace.by_shape(layer, (3, 224, 224))
    assert (found.nullity, found.n_out, found.method) == (112896, 37632, "shape")
    assert nullspace.by_shape(nn.Linear(3072, 512), (3072,)).nullity == 2560


def test_collisions_are_exact_inside_the_box_and_far_from_the_image() -> None:
    """STUDIES.md 4c: 16 patches of 192 values, 64 features each; images with pixels at 0 and 1 among them."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 192))
    rows, kernel = nullspace.bases(weight)
    assert kernel.shape[1] == 128
    x, target = rng.uniform(-0.2, 1.2, (2, 16, 192)).clip(0, 1)
    found, moved = nullspace.collide(x, target, rows.T)
    assert moved.all()
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.abs((found - x) @ weight.T).max() < 1e-10
    assert np.linalg.norm(found - x) > 0.5 * np.linalg.norm(target - x)
    clipped = (x + (target - x) @ kernel @ kernel.T).clip(0, 1)
    assert np.abs((clipped - x) @ weight.T).max() > 0.01, "what cutting off pixels would do"
