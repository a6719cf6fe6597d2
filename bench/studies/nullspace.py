"""Kernels of linear maps: rank and nullity of layers, and two images in [0, 1] that a linear map cannot tell apart.

W x = W x' if and only if x' - x lies in the kernel of W, whose dimension is n_in - rank W; a bias cancels. All of it in
float64: float32 tells a wrong rank. Of a convolution the whole operator counts: the kernel of its [C_out, C k k] matrix
constrains one window only, and windows overlap.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.optimize
import scipy.sparse
import scipy.sparse.csgraph
import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from bench.errors import BenchError

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Part = tuple[Floats, npt.NDArray[np.int64]]
"""Linearly independent rows (rank, columns) of a block of a matrix, and which columns of the matrix they are on."""
Convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
Linear = (nn.Linear, *Convolution, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CHUNK = 256
INSIDE = 1e-12
"""How far out of [0, 1] an image may be before it is cut off, and count as inside."""
EDGE = 1e-6
DEEP = 1e-3
"""How far from 0 and 1 a pixel counts as between them, and is wanted where it can leave them."""
MOVED = 1e-6
"""The largest change of a pixel above which an image counts as another."""


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
        raise not_affine(run)
    return columns.T.contiguous().numpy()


def not_affine(run: object) -> BenchError:
    """The error of a map that is not affine."""
    return BenchError(
        "is no affine map of its input.", where=type(run).__name__, remedy="Name a layer that nothing bends before."
    )


def square(matrix: Floats) -> Floats:
    """A matrix of the same singular values and row space with no more rows than columns."""
    return np.asarray(np.linalg.qr(matrix, mode="r")) if matrix.shape[0] > matrix.shape[1] else matrix


def rank_of(matrix: Floats) -> tuple[int, float]:
    """Rank of a matrix and its smallest singular value that is not 0 (NaN of the zero matrix), by numpy's tolerance."""
    values = np.linalg.svd(square(square(matrix).T), compute_uv=False)
    kept = values[values > values.max(initial=0) * max(matrix.shape) * np.finfo(float).eps]
    return len(kept), float(kept.min()) if len(kept) else float("nan")


def in_double(layer: nn.Module) -> nn.Module:
    """A copy of a linear layer or convolution in float64. BenchError where it is neither, has no weights yet, or makes
    them in a hook."""
    if isinstance(layer, LazyModuleMixin):
        raise BenchError("has no weights yet.", where=type(layer).__name__, remedy="Run the model once.")
    if not isinstance(layer, Linear):
        raise BenchError(
            "is neither a linear layer nor a convolution.", where=type(layer).__name__, remedy="Name one that is."
        )
    unhooked(layer)
    return copy.deepcopy(layer).to(device="cpu", dtype=torch.float64).eval()


def unhooked(network: nn.Module) -> None:
    """BenchError where a layer of a network, or it itself, makes its weight anew in a hook: no copy of it would."""
    for name, module in network.named_modules():
        if isinstance(module, Linear) and isinstance(vars(module).get("weight"), Tensor):
            raise BenchError(
                "makes its weight anew in a hook before each pass, as torch.nn.utils.weight_norm and prune do.",
                where=f"layer {name}" if name else type(module).__name__,
                remedy="Use torch.nn.utils.parametrizations, or remove_weight_norm and prune.remove.",
            )


def collide(x: Floats, target: Floats, parts: list[Part], iterations: int = 300) -> tuple[Floats, Flags]:
    """Images (N, n) in [0, 1] as near to `target` (N, n) as found that a map, as its `blocks`, maps to what x (N, n) is
    mapped to; and whether another than x was found (N,): where not, x itself.

    Each block is searched by itself.
    Pixels at 0 or 1 may have to stay (where an average over an area is black, all of it is): who may move is found
    first, with an image inside the box as far as can be (`face`). Of those alone Dykstra's projections between
    {x + kernel} and [0, 1] find what is nearest to the target, for all images at once whose same pixels may move; from
    the image inside, the way there is gone up to the edge of the box. Where x is itself the nearest, what is near 1 - x
    is looked for. Cutting pixels off would end the collision.
    """
    made = x.copy()
    for rows, columns in parts:
        made[:, columns] = _toward(x[:, columns], target[:, columns], rows, iterations)
    at_rest = np.flatnonzero(np.abs(made - x).max(axis=1) <= MOVED)
    for rows, columns in parts if len(at_rest) else ():
        still = x[at_rest][:, columns]
        made[at_rest[:, None], columns] = _toward(still, 1 - still, rows, iterations)
    moved = np.abs(made - x).max(axis=1) > MOVED
    return np.where(moved[:, None], made, x), moved


def blocks(matrix: Floats) -> list[Part]:
    """Linearly independent rows and their columns, of each part of a matrix (m, n) that shares no column with another;
    the columns that no row reads are one part."""
    tiny = 1e-13 * np.abs(matrix).max(initial=0)
    m, read = len(matrix), scipy.sparse.coo_array(np.abs(matrix) > tiny)
    ends = (read.coords[0], m + read.coords[1])
    edges = scipy.sparse.coo_array((np.ones(read.nnz), ends), shape=(sum(matrix.shape),) * 2)
    _, part = scipy.sparse.csgraph.connected_components(edges, directed=False)
    of_rows, of_columns = part[:m], part[m:]
    free = np.flatnonzero(~np.isin(of_columns, of_rows))
    found = [(np.zeros((0, len(free))), free)] if len(free) else []
    for one in np.unique(of_columns[np.isin(of_columns, of_rows)]):
        columns = np.flatnonzero(of_columns == one)
        found.append((independent(matrix[np.ix_(np.flatnonzero(of_rows == one), columns)]), columns))
    return found


def span_of(parts: list[Part]) -> Floats:
    """An orthonormal basis (n, rank) of the row space of the matrix that falls apart into these blocks."""
    n, spans = sum(len(columns) for _, columns in parts), [row_space(rows) for rows, _ in parts]
    whole, at = np.zeros((n, sum(span.shape[1] for span in spans))), 0
    for span, (_, columns) in zip(spans, parts, strict=True):
        whole[columns, at : at + span.shape[1]] = span
        at += span.shape[1]
    return whole


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
        span, moved = row_space(rows[:, free]), x.copy()
        moved[free] += step[free] - span @ (span.T @ step[free])
        still = free & (moved > 0) & (moved < 1)
        if still.sum() == free.sum():
            return moved, free
        free = still
    return x, free


def _toward(x: Floats, goal: Floats, rows: Floats, iterations: int) -> Floats:
    """`collide` of images (N, n) on one block: those in [0, 1] found, nearest to `goal`."""
    made, known = x.copy(), {one.tobytes(): one for one in x}
    found = {key: face(one, rows) for key, one in known.items()}  # many patches of many images are one, all black
    faces = [found[one.tobytes()] for one in x]
    alike: dict[bytes, list[int]] = {}
    for k, (_, free) in enumerate(faces):
        alike.setdefault(free.tobytes(), []).append(k)
    for members in alike.values():
        free = np.flatnonzero(faces[members[0]][1])
        span = row_space(rows[:, free])
        if span.shape[1] < len(free):
            start, here = np.stack([faces[k][0] for k in members])[:, free], np.array(members)[:, None]
            made[here, free] = _nearest(start, goal[here, free], span, iterations)
    return made


def row_space(matrix: Floats) -> Floats:
    """An orthonormal basis (n, rank) of the row space of a matrix (m, n), by QR with pivoting: no kernel is formed."""
    if not matrix.size:
        return np.zeros((matrix.shape[1], 0))
    q, r = map(np.asarray, scipy.linalg.qr(matrix.T, mode="economic", pivoting=True)[:2])
    sizes = np.abs(np.diag(r))
    return q[:, : int((sizes > sizes[0] * max(matrix.shape) * np.finfo(float).eps).sum())]


def _nearest(a: Floats, goal: Floats, span: Floats, iterations: int) -> Floats:
    """What is near `goal` (N, n) in [0, 1] and differs from a (N, n), which is inside, by nothing that `span` (n, rank)
    sees: Dykstra's alternating projections."""

    def kernel(v: Floats) -> Floats:
        return v - (v @ span) @ span.T

    y, p, q = goal, np.zeros_like(a), np.zeros_like(a)
    for _ in range(iterations):
        z = np.clip(y + p, 0, 1)
        p = y + p - z
        y = a + kernel(z + q - a)
        q = z + q - y
    step = kernel(kernel(y - a))
    room = np.where(step > 0, 1 - a, a)
    far = np.abs(step) > INSIDE
    gamma = np.where(far, room / np.where(far, np.abs(step), 1), 1).min(axis=1, initial=1.0)
    return np.clip(a + gamma[:, None] * step, 0, 1)


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
