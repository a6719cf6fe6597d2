"""Rank and nullity of linear layers and convolutions of any size: exactly where that can be, else within bounds.

W x = 0 has n_in - rank W dimensions. Which of five ways gave a figure stands beside it (`Rank.method`). All in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
import torch
from torch import Tensor, nn

from bench import stats
from bench.errors import BenchError
from bench.studies import nullspace
from bench.studies.nullspace import CHUNK, Convolution, Flags, Floats

DENSE = 5e7
"""Entries of an operator up to which it is written down: 400 MB."""
GRAM = 4096
"""Inputs up to which the products of the columns of an operator are written down: 134 MB."""
RESOLVED = 1e-11
NEIGHBOURS = 2500
"""Values that a neighbourhood of windows may read."""
PROBES, STEPS = 3, 80
CONFIDENCE = 0.95
PADDING: dict[str, Any] = {"zeros": "constant", "circular": "wrap", "reflect": "reflect", "replicate": "edge"}
"""torch's name of a padding -> numpy's."""


@dataclass(frozen=True)
class Rank:
    """n_in, n_out, rank and nullity of a linear map, and its smallest singular value that is not 0.

    `method`:
    dense: the singular values of the whole operator;
    patch: those of the one block that all patches share;
    windows: neighbourhoods of windows fix every value that they read (`by_windows`); `sigma_min` is a lower bound;
    lanczos: `nullity` is a lower bound, `nullity_high` an upper one with 95 % confidence (`by_lanczos`);
    shape: no weight was read: `nullity` is a lower bound and `nullity_high` the trivial upper one.
    `rank` goes with `nullity`. `sigma_min` is NaN where bounds alone are known.
    """

    n_in: int
    n_out: int
    rank: int
    nullity: int
    sigma_min: float
    method: str
    nullity_high: int


def _exact(n_in: int, n_out: int, rank: int, least: float, method: str) -> Rank:
    return Rank(n_in, n_out, rank, n_in - rank, least, method, n_in - rank)


def measure(layer: nn.Module, shape: tuple[int, ...]) -> Rank:
    """Rank and nullity of a linear layer or convolution for an input of `shape`, without the batch.

    A linear layer acts on the last axis alone: its operator is one block for each place. BenchError as in
    `nullspace.in_double`, and where the layer does not take such an input.
    """
    layer = nullspace.in_double(layer)
    n_in = int(np.prod(shape))
    if not _stock(layer):  # it may pad or weigh by itself: what it does counts, not what it says of itself
        return measure_map(layer, shape)
    if isinstance(layer, nn.Linear):
        if shape[-1] != layer.in_features:
            raise _unfit(layer, shape, f"it takes {layer.in_features} values")
        block, n_blocks = layer.weight.detach().numpy(), n_in // layer.in_features
        return _blocks(block, n_blocks, n_in, "patch" if n_blocks > 1 else "dense")
    assert isinstance(layer, Convolution)
    sizes = output_sizes(layer, shape)
    if is_patchify(layer, shape):
        filters = [part.flatten(1).numpy() for part in layer.weight.detach().chunk(layer.groups)]
        block = np.asarray(scipy.linalg.block_diag(*filters))
        return _blocks(block, int(np.prod(sizes)), n_in, "patch")
    if n_in * layer.out_channels * int(np.prod(sizes)) > DENSE and (found := by_windows(layer, shape)) is not None:
        return found
    return measure_map(layer, shape, lambda: by_kernel(layer, shape))


def measure_map(run: Callable[[Tensor], Tensor], shape: tuple[int, ...], least: Callable[[], int] = lambda: 0) -> Rank:
    """Rank and nullity of an affine map of inputs (N, *shape); `least`: at least so much it drops, asked for where its
    matrix would not fit. BenchError where it is not affine."""
    n_in = int(np.prod(shape))
    with torch.no_grad():
        n_out = run(torch.zeros(1, *shape, dtype=torch.float64)).numel()
    if n_in * n_out <= DENSE:
        rank, small = nullspace.rank_of(nullspace.operator(run, shape))
        return _exact(n_in, n_out, rank, small, "dense")
    if n_in <= GRAM:
        return _exact(n_in, n_out, *by_gram(run, shape), "dense")
    return by_lanczos(run, shape, max(0, n_in - n_out, least()))


def _stock(layer: nn.Module) -> bool:
    """Whether a layer computes what torch's own of its kind does."""
    if _pads_itself(layer):
        return True
    kind = next((one for one in (nn.Linear, *Convolution) if isinstance(layer, one)), None)
    names = ("forward", "_conv_forward")
    return kind is not None and all(getattr(type(layer), one, None) is getattr(kind, one, None) for one in names)


def _unfit(layer: nn.Module, shape: tuple[int, ...], why: str) -> BenchError:
    return BenchError(
        f"takes no input of shape {shape}: {why}.", where=type(layer).__name__, remedy="Give that of its own input."
    )


def _pads_itself(layer: nn.Module) -> bool:
    """Whether a layer is timm's Conv2dSame, which pads an input of any size with zeros as TensorFlow does."""
    return type(layer).__name__ == "Conv2dSame" and type(layer).__module__.startswith("timm.")


def output_sizes(layer: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Places, along each axis, that a convolution gives for an input (C, *sizes). BenchError where it takes none."""
    assert isinstance(layer, Convolution)
    if len(shape) != 1 + len(layer.kernel_size) or shape[0] != layer.in_channels:
        raise _unfit(layer, shape, f"it has {layer.in_channels} channels and {len(layer.kernel_size)} axes more")
    sizes = tuple(len(starts) for starts, _ in (_windows(layer, axis, size) for axis, size in enumerate(shape[1:])))
    if not all(sizes):
        raise _unfit(layer, shape, "its windows are larger")
    return sizes


def _windows(layer: nn.Module, axis: int, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Along an axis of `size` places: where windows start in the padded input, and which place (-1: zero) each of its
    places shows."""
    assert isinstance(layer, Convolution)
    padding, mode = _padding(layer, axis, size), PADDING[layer.padding_mode]
    if (mode == "reflect" and max(padding) >= size) or (mode == "wrap" and max(padding) > size):
        raise _unfit(layer, (layer.in_channels, size), "its padding is wider")  # torch refuses these too
    more: dict[str, Any] = {"constant_values": -1} if mode == "constant" else {}
    places = np.pad(np.arange(size), padding, mode=mode, **more)
    reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
    return np.arange(0, max(0, len(places) - reach), layer.stride[axis]), places


def _padding(layer: nn.Module, axis: int, size: int) -> tuple[int, int]:
    """Places added before and after an axis of `size` places."""
    assert isinstance(layer, Convolution)
    if _pads_itself(layer):
        reach, step = layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1, layer.stride[axis]
        whole = max(0, (-(-size // step) - 1) * step + reach - size)
        return whole // 2, whole - whole // 2
    if layer.padding == "valid":
        return 0, 0
    if layer.padding == "same":
        whole = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        return whole // 2, whole - whole // 2
    return int(layer.padding[axis]), int(layer.padding[axis])


def seen(layer: nn.Module, shape: tuple[int, ...]) -> Flags:
    """Which places (*sizes) of an input (C, *sizes) any window of a convolution reads."""
    assert isinstance(layer, Convolution)
    read = np.ones((), bool)
    for axis, size in enumerate(shape[1:]):
        starts, places = _windows(layer, axis, size)
        shown = places[starts[:, None] + layer.dilation[axis] * np.arange(layer.kernel_size[axis])]
        read = np.logical_and.outer(read, np.isin(np.arange(size), shown))
    return read


def uncovered(layer: nn.Module, shape: tuple[int, ...]) -> int:
    """Places of an input (C, *sizes) that no window of a convolution reads: whatever its weights, a kernel."""
    return int((~seen(layer, shape)).sum())


def is_patchify(layer: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a convolution's windows never overlap, and all lie inside the input (C, *sizes)."""
    if not isinstance(layer, Convolution):
        return False
    padded = (_padding(layer, axis, size) != (0, 0) for axis, size in enumerate(shape[1:]))
    apart = all(s >= k for s, k in zip(layer.stride, layer.kernel_size, strict=True))
    plain = not any(padded) and all(d == 1 for d in layer.dilation)
    return apart and plain and all(n >= k for n, k in zip(shape[1:], layer.kernel_size, strict=True))


def _blocks(block: Floats, n_blocks: int, n_in: int, method: str) -> Rank:
    """Of `n_blocks` equal blocks on the diagonal, and inputs that none of them reads."""
    rank, least = nullspace.rank_of(block)
    return _exact(n_in, n_blocks * block.shape[0], n_blocks * rank, least, method)


def by_windows(layer: nn.Module, shape: tuple[int, ...]) -> Rank | None:
    """Exact for an input of any size where a convolution's windows fix what they read; nothing where they do not.

    If m x m neighbouring windows together, as a matrix A, have full column rank, what is mapped to 0 is 0 wherever such
    a neighbourhood reads: everywhere but where no window does. A window sees zeros, or places a second time, where it
    reaches into padding: the same holds. Summed over all neighbourhoods, each output counts at most m^axes times, each
    place read at least once, so that the smallest singular value is at least that of A / m^(axes / 2).
    """
    assert isinstance(layer, Convolution)
    sizes, axes = output_sizes(layer, shape), len(shape) - 1
    plain = copy.copy(layer)
    if _pads_itself(layer):
        plain.__class__ = nn.Conv2d  # pyright: ignore[reportAttributeAccessIssue]
    plain.padding, plain.padding_mode = (0,) * axes, "zeros"
    for m in range(1, min(sizes) + 1):
        field = [
            d * (k - 1) + s * (m - 1) + 1
            for d, k, s in zip(layer.dilation, layer.kernel_size, layer.stride, strict=True)
        ]
        small = (shape[0], *field)
        n_read = shape[0] * int(seen(plain, small).sum())
        if n_read > NEIGHBOURS:
            return None
        if n_read > layer.out_channels * m**axes:
            continue
        rank, least = nullspace.rank_of(nullspace.operator(plain, small))
        if rank == n_read:
            n_in = int(np.prod(shape))
            free = shape[0] * uncovered(layer, shape)
            n_out = layer.out_channels * int(np.prod(sizes))
            return _exact(n_in, n_out, n_in - free, least / m ** (axes / 2), "windows")
    return None


def _linear(run: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """An affine map (N, *shape) -> (N, ...) as a linear one (N, n_in) -> (N, n_out), without what it adds. BenchError
    where it is not affine: two random inputs and their sum tell."""
    with torch.no_grad():
        zero = run(torch.zeros(1, *shape, dtype=torch.float64)).flatten(1)

    def linear(x: Tensor) -> Tensor:
        return run(x.reshape(-1, *shape)).flatten(1) - zero

    drawn = torch.randn(2, int(np.prod(shape)), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        one, other, both = linear(torch.cat([drawn, drawn.sum(0, keepdim=True)]))
    if not float((one + other - both).abs().max()) <= 1e-9 * max(1.0, float(both.abs().max())):
        raise nullspace.not_affine(run)
    return linear


def _squared(linear: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """T'T x of rows x (N, n_in): the gradient of |T x|^2 / 2."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(linear(x).square().sum() / 2, x)
    return gradient


def by_gram(run: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> tuple[int, float]:
    """Rank and smallest singular value that is not 0 of an affine map, from the eigenvalues of T'T (n_in, n_in).

    Squares halve the digits, so what has an eigenvalue below 1e-8 of the largest is mapped once more by T itself; that
    tells singular values from 0 down to `RESOLVED` of the largest.
    """
    n_in, linear = int(np.prod(shape)), _linear(run, shape)
    gram = torch.cat([_squared(linear, part) for part in torch.eye(n_in, dtype=torch.float64).split(CHUNK)]).numpy()
    values = scipy.linalg.eigvalsh(gram)
    n_small = int((values <= 1e-8 * values[-1]).sum())
    kept = np.sqrt(values[n_small:])
    with torch.no_grad():
        n_out = linear(torch.zeros(1, n_in, dtype=torch.float64)).shape[1]
        if n_small:
            _, vectors = scipy.linalg.eigh(gram, subset_by_index=(0, n_small - 1))
            mapped = torch.cat([linear(part) for part in torch.from_numpy(vectors.T.copy()).split(CHUNK)])
            kept = np.concatenate([np.linalg.svd(nullspace.square(mapped.T.numpy()), compute_uv=False), kept])
    kept = kept[kept > kept.max(initial=0) * max(RESOLVED, max(n_in, n_out) * np.finfo(float).eps)]
    return len(kept), float(kept.min()) if len(kept) else float("nan")


def by_lanczos(run: Callable[[Tensor], Tensor], shape: tuple[int, ...], least: int = 0) -> Rank:
    """Bounds of the nullity of an affine map whose matrix would not fit: it is only ever applied.

    Of a random direction v the share that is in the kernel is at most 1 / sum p_k(0)^2, p_k being the polynomials that
    Lanczos' steps on T'T make orthonormal (Christoffel; full reorthogonalisation). Over normal v the squared lengths in
    the kernel add up to a chi-squared variable, which bounds its dimension (`stats.dimension`). `least`: what is known
    to be dropped.
    """
    n_in, linear = int(np.prod(shape)), _linear(run, shape)
    with torch.no_grad():
        n_out = int(linear(torch.zeros(1, n_in, dtype=torch.float64)).shape[1])
    drawn = torch.randn(PROBES, n_in, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inside = _in_kernel(linear, drawn, min(STEPS, n_in))
    high = min(n_in, max(least, stats.dimension(float(inside.sum()), PROBES, n_in, CONFIDENCE)))
    return Rank(n_in, n_out, n_in - least, least, float("nan"), "lanczos", high)


def _in_kernel(linear: Callable[[Tensor], Tensor], drawn: Tensor, steps: int) -> Floats:
    """Upper bounds (N,) of the squared length that each row of `drawn` (N, n_in) has in the kernel."""
    size = drawn.norm(dim=1)
    basis = torch.empty(len(drawn), steps + 1, drawn.shape[1], dtype=torch.float64)
    basis[:, 0] = drawn / size[:, None]
    beta, past, now = torch.zeros_like(size), torch.zeros_like(size), torch.ones_like(size)
    total, largest = torch.ones_like(size), torch.zeros_like(size)
    for k in range(steps):
        new = _squared(linear, basis[:, k])
        alpha = (new * basis[:, k]).sum(1)
        for _ in range(2):
            held = basis[:, : k + 1]
            new -= torch.bmm(torch.bmm(held, new[:, :, None]).transpose(1, 2), held)[:, 0]
        past, now, beta = now, -alpha * now - beta * past, new.norm(dim=1)  # beta p' = (0 - alpha) p - beta' p''
        largest = torch.maximum(largest, alpha)
        if not bool((beta > 1e-8 * largest).all()):
            break  # all that v has a share in is spanned: what was summed holds
        now = now / beta
        total = total + now.square()
        basis[:, k + 1] = new / beta[:, None]
    return (size.square() / total).numpy()


def by_kernel(layer: nn.Module, shape: tuple[int, ...]) -> int:
    """Dimensions that a convolution drops at least: those that no window reads, and those that its windows have too few
    filters for, as many of each group as are linearly independent."""
    assert isinstance(layer, Convolution)
    filters = layer.weight.detach().double().reshape(layer.groups, layer.out_channels // layer.groups, -1).numpy()
    n_windows, n_seen = int(np.prod(output_sizes(layer, shape))), int(seen(layer, shape).sum())
    n_each = shape[0] // layer.groups
    few = sum(max(0, n_each * n_seen - n_windows * nullspace.rank_of(group)[0]) for group in filters)
    return shape[0] * (int(np.prod(shape[1:])) - n_seen) + few


def by_shape(layer: nn.Module, shape: tuple[int, ...]) -> Rank:
    """What the sizes of a layer and of its input (without the batch) alone say: at least so much is dropped, whatever
    the weights, which may lie on no device."""
    n_in = int(np.prod(shape))
    if isinstance(layer, nn.Linear):
        n_blocks = n_in // layer.in_features
        nullity = n_blocks * max(0, layer.in_features - layer.out_features)
        return Rank(n_in, n_blocks * layer.out_features, n_in - nullity, nullity, float("nan"), "shape", n_in)
    assert isinstance(layer, Convolution)
    n_windows, n_seen = int(np.prod(output_sizes(layer, shape))), int(seen(layer, shape).sum())
    n_filters, n_each = layer.out_channels // layer.groups, shape[0] // layer.groups
    kept = layer.groups * min(n_each * n_seen, n_windows * min(n_filters, layer.weight[0].numel()))
    n_out = n_windows * layer.out_channels
    return Rank(n_in, n_out, kept, n_in - kept, float("nan"), "shape", n_in)
