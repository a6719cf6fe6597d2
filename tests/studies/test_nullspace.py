"""Rank, nullity and collisions: by hand, against numpy's and scipy's own, and on every kind of convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from bench.errors import BenchError
from bench.studies import nullity, nullspace


@pytest.mark.parametrize(
    ("layer", "shape", "dropped", "method"),
    [
        (nn.Linear(3072, 512), (3072,), 2560, "dense"),
        (nn.Conv2d(3, 64, 8, 8), (3, 8, 8), 128, "patch"),
        (nn.Conv2d(3, 768, 32, 32), (3, 224, 224), 49 * 2304, "patch"),
        (nn.Conv2d(3, 96, 7, 2), (3, 224, 224), 1341, "windows"),
        (nn.Conv2d(3, 64, 3, 2), (3, 224, 224), 1341, "windows"),
        (nn.Conv2d(1, 16, 3, 1, 1), (1, 16, 16), 0, "dense"),
        (nn.Conv2d(3, 64, 3, 1, 1), (3, 32, 32), 0, "windows"),
        (nn.Conv2d(1, 4, 2, 3), (1, 7, 7), 49 - 16, "patch"),
    ],
)
def test_nullity_is_that_of_the_shapes(layer: nn.Module, shape: tuple[int, ...], dropped: int, method: str) -> None:
    found = nullity.measure(layer, shape)
    assert (found.nullity, found.method) == (dropped, method)
    assert found.rank + found.nullity == found.n_in == np.prod(shape)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", ["zeros", "circular", "reflect", "replicate"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_convolution_is_its_dense_jacobian(groups: int, dilation: int, padding: Any, stride: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 2, 3, stride, 1, dilation, groups, padding_mode=padding)
    layer.weight.data = layer.weight.data.transpose(2, 3)  # not contiguous
    x = torch.rand(1, 2, 7, 8, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(nullspace.in_double(layer), x)
    matrix = jacobian.reshape(-1, x.numel()).numpy()
    np.testing.assert_allclose(nullspace.operator(nullspace.in_double(layer), (2, 7, 8)), matrix, atol=1e-12)
    found = nullity.measure(layer, (2, 7, 8))
    assert found.nullity == scipy.linalg.null_space(matrix).shape[1]
    assert found.nullity >= 2 * nullity.uncovered(layer, (2, 7, 8))


def test_what_is_not_linear_is_refused() -> None:
    with pytest.raises(BenchError, match="neither a linear layer nor a convolution"):
        nullity.measure(nn.BatchNorm2d(3), (3, 4, 4))
    with pytest.raises(BenchError, match="no affine map"):
        nullspace.operator(lambda x: (x - 0.5).abs(), (1, 2, 2))
    with pytest.raises(BenchError, match="no affine map"):
        nullity.by_lanczos(lambda x: (x - 0.5).abs(), (1, 2, 2))
    with pytest.raises(BenchError, match="no weights yet"):
        nullity.measure(nn.LazyLinear(3), (4,))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 4, 3), (1, 8, 8)),
        (nn.Conv2d(3, 4, 3), (3, 8)),
        (nn.Conv2d(3, 4, 5), (3, 4, 8)),
        (nn.Conv2d(3, 4, 3, padding=4, padding_mode="reflect"), (3, 4, 4)),
        (nn.Linear(5, 2), (3, 4)),
    ],
)
def test_an_input_that_a_layer_does_not_take_is_refused(layer: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError):
        layer(torch.zeros(1, *shape))
    with pytest.raises(BenchError, match="takes no input of shape"):
        nullity.measure(layer, shape)


class Flipped(nn.Conv2d):
    """A convolution that does more than its attributes say: it pads by itself, and sees one half of the image only."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.nn.functional.pad(input, (1, 0, 1, 0))[..., : input.shape[-1] // 2])


def test_a_layer_that_pads_itself_is_measured_by_what_it_does() -> None:
    torch.manual_seed(0)
    found = nullity.measure(Flipped(1, 16, 3), (1, 8, 8))
    matrix = nullspace.operator(nullspace.in_double(Flipped(1, 16, 3)), (1, 8, 8))
    assert found.nullity == scipy.linalg.null_space(matrix).shape[1] == 8 * 5
    assert found.method == "dense"


@pytest.mark.parametrize(("size", "stride"), [(9, 2), (10, 2), (11, 3), (8, 1)])
def test_a_layer_of_timm_that_pads_by_itself(size: int, stride: int) -> None:
    from timm.layers import Conv2dSame

    torch.manual_seed(0)
    layer = Conv2dSame(3, 32, 3, stride).double()
    matrix = nullspace.operator(layer, (3, size, size))
    for found in (nullity.measure(layer, (3, size, size)), nullity.by_windows(layer, (3, size, size))):
        assert found is not None
        assert (found.nullity, found.n_out) == (scipy.linalg.null_space(matrix).shape[1], len(matrix))
    assert nullity.measure(layer, (3, 224, 224)).method == "windows"
    assert nullity.by_shape(layer, (3, size, size)).n_out == len(matrix)


def test_transposed_convolutions_are_measured() -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(4, 1, 2, 2)
    matrix = nullspace.operator(nullspace.in_double(layer), (4, 5, 5))
    assert nullity.measure(layer, (4, 5, 5)).nullity == scipy.linalg.null_space(matrix).shape[1] == 0
    assert nullity.measure(nn.ConvTranspose2d(6, 1, 2, 2), (6, 5, 5)).nullity == 2 * 25


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", ["zeros", "circular", "reflect", "replicate"])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 3), (3, 1), (3, 2), (5, 2)])
def test_windows_that_fix_what_they_read_are_exact(groups: int, dilation: int, padding: Any, kernel: int, stride: int):
    """Against the singular values of the whole operator; where windows say nothing, there is nothing to compare."""
    torch.manual_seed(1)
    layer = nn.Conv2d(2, 24, kernel, stride, 1, dilation, groups, padding_mode=padding).double()
    found = nullity.by_windows(layer, (2, 10, 11))
    matrix = nullspace.operator(layer, (2, 10, 11))
    rank, least = nullspace.rank_of(matrix)
    assert found is not None
    assert (found.rank, found.n_out, found.nullity_high) == (rank, len(matrix), matrix.shape[1] - rank)
    assert 0 < found.sigma_min <= least * (1 + 1e-12)
    assert nullity.by_kernel(layer, (2, 10, 11)) <= found.nullity


def test_windows_say_nothing_where_they_cannot() -> None:
    torch.manual_seed(0)
    assert nullity.by_windows(nn.Conv2d(4, 2, 3).double(), (4, 9, 9)) is None
    blind = nn.Conv2d(1, 8, 2).double()
    blind.weight.data[..., 1] = 0
    found = nullity.by_windows(blind, (1, 4, 4))
    assert found is None, "the last column of the image is read, but with weights of 0"


def test_products_of_columns_tell_the_rank_down_to_small_singular_values() -> None:
    """Of 12 singular values 9 are not 0, the smallest 1e-9 of the largest: squared, it would be lost."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((n, 12)))[0] for n in (20, 12))
    values = np.array([1, 0.5, 0.3, 0.1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-9, 0, 0, 0])
    matrix = torch.from_numpy(left * values @ right.T)
    rank, least = nullity.by_gram(lambda x: x.flatten(1) @ matrix.T, (12,))
    assert rank == 9
    assert least == pytest.approx(1e-9, rel=1e-4)
    layer = nn.Conv2d(2, 3, 3, 2).double()
    dense = nullspace.rank_of(nullspace.operator(layer, (2, 8, 8)))
    assert nullity.by_gram(layer, (2, 8, 8)) == (dense[0], pytest.approx(dense[1]))


@pytest.mark.parametrize("dropped", [0, 3, 40])
def test_bounds_by_lanczos_hold_the_nullity(dropped: int) -> None:
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((n, 100)))[0] for n in (120, 100))
    matrix = torch.from_numpy(left * np.where(np.arange(100) < dropped, 0, rng.uniform(0.5, 2, 100)) @ right.T)
    found = nullity.by_lanczos(lambda x: x.flatten(1) @ matrix.T, (100,))
    assert found.nullity <= dropped <= found.nullity_high <= dropped + 25
    assert found.method == "lanczos"
    assert nullity.by_lanczos(lambda x: x.flatten(1) @ matrix.T, (100,), least=2).nullity == 2


def test_what_does_not_fit_is_bounded_and_says_so() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 10, 7, 2, 3)
    found = nullity.measure(layer, (3, 112, 112))
    assert found.method == "lanczos"
    assert found.nullity == 3 * 112**2 - 10 * 56**2 <= found.nullity_high < 1.1 * found.nullity
    assert np.isnan(found.sigma_min)


def test_a_collision_by_hand() -> None:
    """Only the sum of two pixels is seen: (0.2, 0.4) becomes (0.6, 0), the nearest to (1, 0)."""
    parts = nullspace.blocks(np.ones((1, 2)))
    np.testing.assert_allclose(np.abs(nullspace.span_of(parts)), np.full((2, 1), np.sqrt(0.5)))
    found, moved = nullspace.collide(np.array([[0.2, 0.4]]), np.array([[1.0, 0.0]]), parts)
    assert moved.all()
    np.testing.assert_allclose(found, [[0.6, 0.0]], atol=1e-12)


def test_black_areas_must_stay_and_others_may_move() -> None:
    """Two means of two pixels each: where the mean is 0, both pixels are."""
    means = np.array([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    target = np.array([[1.0, 0, 1, 0]] * 3)
    found, moved = nullspace.collide(
        np.array([[0, 0, 0, 0.4], [0, 0, 1, 1], [0, 0.4, 0, 0.4]]), target, nullspace.blocks(means)
    )
    assert moved.tolist() == [True, False, True]
    np.testing.assert_allclose(found, [[0, 0, 0.4, 0], [0, 0, 1, 1], [0.4, 0, 0.4, 0]], atol=1e-9)
    np.testing.assert_allclose(found @ means.T, [[0, 0.2], [0, 1], [0.2, 0.2]], atol=1e-15)


def test_an_image_that_is_nearest_to_its_target_moves_away() -> None:
    """Nothing reads the second pixel, which image and target share."""
    found, moved = nullspace.collide(
        np.array([[0.5, 0.0]]), np.array([[0.9, 0.0]]), nullspace.blocks(np.array([[1.0, 0.0]]))
    )
    assert moved.all()
    np.testing.assert_allclose(found, [[0.5, 1.0]], atol=1e-9)


def test_whole_steps_are_exact_where_nothing_reads_the_pixel() -> None:
    rows = np.array([[1.0, 0.5, 0.0]])
    x, made = np.array([[10.0, 20, 30]]) / 255, np.array([[6.0, 26, 196.3]]) / 255
    found = nullspace.on_grid(made, x, rows)
    np.testing.assert_allclose(found * 255, np.rint(found * 255), atol=1e-9)
    np.testing.assert_allclose(found[0, 2], 196 / 255)
    assert np.abs((found - x) @ rows.T).max() <= 0.5 / 255


def test_blocks_that_share_no_pixel_are_searched_apart() -> None:
    matrix = np.zeros((4, 7))
    matrix[:2, [0, 3]] = [[1, 1], [2, 2]]
    matrix[2:, [1, 2, 5]] = [[1, 0, 1], [0, 1, 1]]
    parts = nullspace.blocks(matrix)
    assert [columns.tolist() for _, columns in parts] == [[4, 6], [0, 3], [1, 2, 5]]
    assert [len(rows) for rows, _ in parts] == [0, 1, 2]
    span = nullspace.span_of(parts)
    np.testing.assert_allclose(span.T @ span, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(matrix @ span @ span.T, matrix, atol=1e-14)


def test_shapes_alone_bound_what_is_dropped() -> None:
    with torch.device("meta"):
        layer = nn.Conv2d(3, 192, 16, 16)
    found = nullity.by_shape(layer, (3, 224, 224))
    assert (found.nullity, found.n_out, found.method) == (112896, 37632, "shape")
    assert nullity.by_shape(nn.Linear(3072, 512), (3072,)).nullity == 2560


def test_collisions_are_exact_inside_the_box_and_far_from_the_image() -> None:
    """STUDIES.md 4c: 16 patches of 192 values, 64 features each; images with pixels at 0 and 1 among them."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 192))
    kernel = scipy.linalg.null_space(weight)
    assert kernel.shape[1] == 128
    x, target = rng.uniform(-0.2, 1.2, (2, 16, 192)).clip(0, 1)
    found, moved = nullspace.collide(x, target, nullspace.blocks(weight))
    assert moved.all()
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.abs((found - x) @ weight.T).max() < 1e-10
    assert np.linalg.norm(found - x) > 0.5 * np.linalg.norm(target - x)
    clipped = (x + (target - x) @ kernel @ kernel.T).clip(0, 1)
    assert np.abs((clipped - x) @ weight.T).max() > 0.01, "what cutting off pixels would do"
