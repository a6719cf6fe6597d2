"""Kernels of linear maps: rank and nullity of layers, and two images in [0, 1] that a linear map cannot tell apart.

W x = W x' if and only if x' - x lies in the kernel of W, whose dimension is n_in - rank W; a bias cancels. All of it in
float64: float32 tells a wrong rank. Of a convolution the whole operator counts: the kernel of its [C_out, C k k] matrix
constrains one window only, and windows overlap.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.optimize
import scipy.sparse
import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from bench.errors import BenchError

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
DENSE = 5e7
"""Entries of an operator up to which it is written down: 400 MB."""
CHUNK = 256
INSIDE = 1e-12
"""How far out of [0, 1] an image may be before it is cut off, and count as inside."""
EDGE = 1e-6
DEEP = 1e-3
"""How far from 0 and 1 a pixel counts as between them, and is wanted where it can leave them."""
MOVED = 1e-6
"""The largest change of a pixel above which an image counts as another."""


@dataclass(frozen=True)
class Rank:
    """n_in, n_out, rank and nullity of a linear map, and its smallest singular value that is not 0.

    `method`: dense (the singular values of the whole operator), patch (those of the one block that all patches share)
    or shape (nothing was computed: `nullity` is a lower and `rank` an upper bound, `sigma_min` NaN).
    """

    n_in: int
    n_out: int
    rank: int
    nullity: int
    sigma_min: float
    method: str


def operator(run: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Floats:
    """The matrix (n_out, n_in) of an affine map of inputs (N, *shape), without what it adds: by all unit vectors.

    BenchError where `run` is not affine (two random inputs tell).
    """
    n_in = int(np.prod(shape))
    with torch.no_grad():
        zero = run(torch.zeros(1, *shape, dtype=torch.float64)).flatten(1)
        units = torch.eye(n_in, dtype=torch.float64).split(CHUNK)
        columns = torch.cat([run(part.reshape(-1, *shape)).flatten(1) - zero for part in units])
        drawn = torch.rand(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        apart = (run(drawn).flatten(1) - zero - drawn.flatten(1) @ columns).abs().max()
    if not float(apart) <= 1e-9 * max(1.0, float(columns.abs().max()) * n_in):
        raise BenchError(
            "is no affine map of its input.", where=type(run).__name__, remedy="Name a layer that nothing bends before."
        )
    return columns.T.contiguous().numpy()


def _square(matrix: Floats) -> Floats:
    """A matrix of the same singular values and row space with no more rows than columns."""
    return np.asarray(np.linalg.qr(matrix, mode="r")) if matrix.shape[0] > matrix.shape[1] else matrix


def rank_of(matrix: Floats) -> tuple[int, float]:
    """Rank of a matrix and its smallest singular value that is not 0 (NaN of the zero matrix), by numpy's tolerance."""
    values = np.linalg.svd(_square(_square(matrix).T), compute_uv=False)
    kept = values[values > values.max(initial=0) * max(matrix.shape) * np.finfo(float).eps]
    return len(kept), float(kept.min()) if len(kept) else float("nan")


def bases(matrix: Floats) -> tuple[Floats, Floats]:
    """Orthonormal bases of the row space (n_in, rank) and of the kernel (n_in, nullity)."""
    _, values, right = np.linalg.svd(_square(matrix), full_matrices=True)
    rank = int((values > values.max(initial=0) * max(matrix.shape) * np.finfo(float).eps).sum())
    return right[:rank].T, right[rank:].T


def in_double(layer: nn.Module) -> nn.Module:
    """A copy of a linear layer or convolution in float64. BenchError where it is neither, or its input has no shape."""
    if isinstance(layer, LazyModuleMixin):
        raise BenchError("has no weights yet.", where=type(layer).__name__, remedy="Run the model once.")
    if not isinstance(layer, (nn.Linear, *Convolution)):
        raise BenchError(
            "is neither a linear layer nor a convolution.", where=type(layer).__name__, remedy="Name one that is."
        )
    return copy.deepcopy(layer).to(device="cpu", dtype=torch.float64).eval()


def is_patchify(layer: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a convolution's windows never overlap, and all lie inside the input (C, *sizes)."""
    if not isinstance(layer, Convolution) or isinstance(layer.padding, str):
        return False
    apart = all(s >= k for s, k in zip(layer.stride, layer.kernel_size, strict=True))
    plain = not any(layer.padding) and all(d == 1 for d in layer.dilation)
    return apart and plain and all(n >= k for n, k in zip(shape[1:], layer.kernel_size, strict=True))


def measure(layer: nn.Module, shape: tuple[int, ...]) -> Rank:
    """Rank and nullity of a linear layer or convolution for an input of `shape`, without the batch.

    A linear layer acts on the last axis alone: its operator is one block for each place. BenchError as in `in_double`.
    """
    layer = in_double(layer)
    assert isinstance(layer, (nn.Linear, *Convolution))
    n_in = int(np.prod(shape))
    if isinstance(layer, nn.Linear):
        block, n_blocks = layer.weight.detach().numpy(), n_in // layer.in_features
        return _blocks(block, n_blocks, n_in, "patch" if n_blocks > 1 else "dense")
    with torch.no_grad():
        out = layer(torch.zeros(1, *shape, dtype=torch.float64)).shape[1:]
    n_out = int(np.prod(out))
    if is_patchify(layer, shape):
        window = (shape[0], *layer.kernel_size)
        return _blocks(operator(layer, window), int(np.prod(out[1:])), n_in, "patch")
    if n_in * n_out > DENSE:
        return by_shape(layer, shape)
    rank, least = rank_of(operator(layer, shape))
    return Rank(n_in, n_out, rank, n_in - rank, least, "dense")


def by_shape(layer: nn.Module, shape: tuple[int, ...]) -> Rank:
    """What the sizes of a layer and of its input (without the batch) alone say: at least so much is dropped, whatever
    the weights, which may lie on no device."""
    n_in = int(np.prod(shape))
    if isinstance(layer, nn.Linear):
        n_blocks = n_in // layer.in_features
        nullity = n_blocks * max(0, layer.in_features - layer.out_features)
        return Rank(n_in, n_blocks * layer.out_features, n_in - nullity, nullity, float("nan"), "shape")
    assert isinstance(layer, Convolution)
    sizes = []
    for axis, size in enumerate(shape[1:]):
        whole = size + sum(_padding(layer, axis)) - layer.dilation[axis] * (layer.kernel_size[axis] - 1) - 1
        sizes.append(whole // layer.stride[axis] + 1)
    n_windows = int(np.prod(sizes))
    n_out = n_windows * layer.out_channels
    nullity = max(0, n_in - n_out, shape[0] * uncovered(layer, shape))
    if is_patchify(layer, shape):
        each = layer.groups * min(layer.out_channels // layer.groups, layer.weight[0].numel())
        nullity = n_in - n_windows * each
    return Rank(n_in, n_out, n_in - nullity, nullity, float("nan"), "shape")


def _blocks(block: Floats, n_blocks: int, n_in: int, method: str) -> Rank:
    """Of `n_blocks` equal blocks on the diagonal, and inputs that none of them reads."""
    rank, least = rank_of(block)
    return Rank(n_in, n_blocks * block.shape[0], n_blocks * rank, n_in - n_blocks * rank, least, method)


def uncovered(layer: nn.Module, shape: tuple[int, ...]) -> int:
    """Places of an input (C, *sizes) that no window of a convolution reads: whatever its weights, a kernel."""
    assert isinstance(layer, Convolution)
    if layer.padding_mode != "zeros":
        return 0  # padding copies places of the border; none is claimed
    read = 1
    for axis, size in enumerate(shape[1:]):
        k, s, d = layer.kernel_size[axis], layer.stride[axis], layer.dilation[axis]
        before, after = _padding(layer, axis)
        starts = np.arange(0, size + before + after - d * (k - 1), s)
        places = (starts[:, None] + d * np.arange(k)).ravel() - before
        read *= len(np.unique(places[(places >= 0) & (places < size)]))
    return int(np.prod(shape[1:])) - read


def _padding(layer: nn.Module, axis: int) -> tuple[int, int]:
    assert isinstance(layer, Convolution)
    if layer.padding == "valid":
        return 0, 0
    if layer.padding == "same":
        whole = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        return whole // 2, whole - whole // 2
    return int(layer.padding[axis]), int(layer.padding[axis])


def collide(x: Floats, target: Floats, only: Floats, iterations: int = 300) -> tuple[Floats, Flags]:
    """Images (N, n) in [0, 1] as near to `target` (N, n) as found that the linearly independent rows `only` (rank, n)
    map to what x (N, n) is mapped to; and whether another than x was found (N,): where not, x itself.

    Pixels at 0 or 1 may have to stay (where an average over an area is black, all of it is): who may move is found
    first, with an image inside the box as far as can be (`face`). Of those alone Dykstra's projections between
    {x + kernel} and [0, 1] find what is nearest to the target; from the image inside, the way there is gone up to the
    edge of the box. Where x is itself the nearest, what is near 1 - x is looked for. Cutting pixels off would end
    the collision.
    """
    found = [_toward(one, t, only, iterations) for one, t in zip(x, target, strict=True)]
    return np.stack([made for made, _ in found]), np.array([moved for _, moved in found])


def independent(matrix: Floats) -> Floats:
    """As many rows of a matrix as its rank that span its row space (QR with pivoting)."""
    rank, _ = rank_of(matrix)
    chosen = scipy.linalg.qr(matrix.T, mode="r", pivoting=True)[-1][:rank]
    kept = matrix[np.sort(chosen)]
    return np.where(np.abs(kept) > 1e-13 * np.abs(kept).max(initial=0), kept, 0)


def face(x: Floats, rows: Floats) -> tuple[Floats, Flags]:
    """An image (n,) in [0, 1] that `rows` (m, n) map as x (n,), its pixels as far inside as `DEEP` where they can be,
    and which pixels can leave 0 and 1 (n,): by a linear program."""
    n, inside = len(x), (x > EDGE) & (x < 1 - EDGE)
    if inside.all():
        return x, inside
    one, none = scipy.sparse.eye_array(n), scipy.sparse.csr_array((len(rows), n))
    solved = scipy.optimize.linprog(
        -np.repeat([0.0, 1.0], n),
        A_ub=scipy.sparse.vstack([scipy.sparse.hstack([-one, one]), scipy.sparse.hstack([one, one])]),
        b_ub=np.concatenate([x, 1 - x]),
        A_eq=scipy.sparse.hstack([scipy.sparse.csr_array(rows), none]),
        b_eq=np.zeros(len(rows)),
        bounds=np.repeat([[-1, 1], [0, DEEP]], n, axis=0),
        method="highs",
    )
    if solved.x is None:
        raise BenchError(f"has no solution: {solved.message}", where="collision", remedy="Name another layer.")
    step, depth = solved.x[:n], solved.x[n:]
    free = depth > EDGE
    while free.any():  # the program is exact to 1e-7 alone
        _, kernel = bases(rows[:, free])
        moved = x.copy()
        moved[free] += kernel @ (kernel.T @ step[free])
        still = free & (moved > 0) & (moved < 1)
        if still.sum() == free.sum():
            return moved, free
        free = still
    return x, free


def _toward(x: Floats, target: Floats, rows: Floats, iterations: int) -> tuple[Floats, bool]:
    """`collide` of one image (n,)."""
    start, free = face(x, rows)
    _, kernel = bases(rows[:, free])
    if kernel.shape[1]:
        for goal in (target, 1 - x):
            made = x.copy()
            made[free] = _nearest(start[free], goal[free], kernel, iterations)
            if np.abs(made - x).max(initial=0) > MOVED:
                return made, True
    return x, False


def _nearest(a: Floats, goal: Floats, kernel: Floats, iterations: int) -> Floats:
    """What is near `goal` (n,) in [0, 1] and differs from a (n,), which is inside, by what is in `kernel` (n, k)."""
    y, p, q = goal.copy(), np.zeros_like(a), np.zeros_like(a)
    for _ in range(iterations):
        z = np.clip(y + p, 0, 1)
        p = y + p - z
        y = a + kernel @ (kernel.T @ (z + q - a))
        q = z + q - y
    step = kernel @ (kernel.T @ (y - a))
    room = np.where(step > 0, 1 - a, a)
    far = np.abs(step) > INSIDE
    gamma = min(1.0, float((room[far] / np.abs(step[far])).min(initial=1.0)))
    return np.clip(a + gamma * step, 0, 1)


def on_grid(made: Floats, x: Floats, rows: Floats, levels: int = 255, passes: int = 3) -> Floats:
    """Images (N, n) near `made` whose values are whole numbers of 1 / `levels`, so that little of what `rows` (m, n)
    give differs from x (N, n), which is such an image itself: pixel by pixel the step up or down that leaves least.

    Exact only where nothing reads the pixels that moved; else what is left is for the caller to measure.
    """
    found = np.clip(np.rint(made * levels), 0, levels)
    owed = (found / levels - x) @ rows.T
    weight = (rows**2).sum(axis=0)
    for _ in range(passes):
        for k in np.flatnonzero(weight > 0):
            step = np.clip(-np.rint(owed @ rows[:, k] / weight[k] * levels), -1, 1)
            step = np.clip(found[:, k] + step, 0, levels) - found[:, k]
            found[:, k] += step
            owed += np.outer(step / levels, rows[:, k])
    return found / levels
