"""Correctness as bits: one bit an image, so that any filter is a mask and every figure under it a count of bits.

Of M models on N images of one dataset, in the order of sample_id:
- rows (M, B) uint8: who is right, eight images a byte, big-endian, zero-padded (`stack`). B is rounded up to whole
  64-bit words; a mask (B,) may be shorter.
- codes (N,) or (M, N) uint16: an uncertainty in 65,536 equal steps (`quantise`), so that a threshold is a whole number
  and SQL, which takes the same steps, finds exactly the same images.
What counts is compiled (bench/store/kernels.py) and runs on `threads` threads.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.evaluate import correctness

if TYPE_CHECKING:
    import pandas as pd

Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.uint16]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

THREADS = 2
WORD = 8
STEPS = 65_536
"""Codes that there are."""
ALONE = 1 << 24
"""Bytes that one thread counts in some 0.3 ms; below, waking a second one costs more than it saves."""


def pack(flags: npt.ArrayLike) -> bytes:
    """Booleans (N,) as bytes, eight images each, big-endian, padded with zeros."""
    return np.packbits(np.asarray(flags, bool)).tobytes()


def unpack(packed: bytes | Bytes, n: int) -> npt.NDArray[np.bool_]:
    """The `n` booleans of `pack`, or of one row of `stack`, (n,)."""
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=n).astype(bool)


def stack(packed: list[bytes]) -> Bytes:
    """M packed rows of one length as an array (M, B), padded with zeros to whole 64-bit words."""
    if not packed:
        return np.zeros((0, 0), np.uint8)
    size = len(packed[0])
    rows = np.zeros((len(packed), -(-size // WORD) * WORD), np.uint8)
    for row, content in zip(rows, packed, strict=True):
        row[:size] = np.frombuffer(content, np.uint8)
    return rows


def mask_of(flags: npt.ArrayLike) -> Bytes:
    """Booleans (N,) as a mask (B,), padded as the rows of `stack` are."""
    return stack([pack(flags)])[0]


def stack_codes(packed: list[bytes]) -> Codes:
    """M columns of table `codes`, of one length, as an array (M, N)."""
    if not packed:
        return np.zeros((0, 0), np.uint16)
    return np.stack([np.frombuffer(row, "<u2") for row in packed]).astype(np.uint16, copy=False)


def size(mask: Bytes) -> int:
    """Number of images under a mask (B,)."""
    return int(np.bitwise_count(mask).sum(dtype=np.int64))


def right_counts(rows: Bytes, mask: Bytes, *, threads: int = THREADS) -> Counts:
    """Images under the mask that each model gets right, (M,)."""
    from bench.store import kernels

    words = _words(rows)
    out = np.empty(len(words), np.int64)
    _share(kernels.right_counts, (words, _fit(mask, words), out), len(words), words.nbytes, threads)
    return out


def models_right(rows: Bytes, n: int, *, threads: int = THREADS) -> npt.NDArray[np.uint16]:
    """How many of the models get each image right, (n,). ValueError for more than 65,535 models."""
    from bench.store import kernels

    words = _words(rows)
    if len(words) >= STEPS:
        raise ValueError(f"{len(words)} models are more than a 16-bit count holds")
    out = np.empty(64 * words.shape[1], np.uint16)
    _share(kernels.models_right, (words, out), words.shape[1], 2 * words.nbytes, threads)
    return out[:n]


def difficulty(rows: Bytes, mask: Bytes, n: int, *, threads: int = THREADS) -> Counts:
    """Images under the mask by how many of the models get them right, (M + 1,)."""
    found = models_right(rows, n, threads=threads)[unpack(mask, n)]
    return np.bincount(found, minlength=len(rows) + 1).astype(np.int64)


def sweep_shared(
    rows: Bytes, mask: Bytes, codes: Codes, thresholds: npt.ArrayLike, *, threads: int = THREADS
) -> tuple[Counts, Counts]:
    """Images under the mask whose code (N,) is at most each threshold (T,): right by each model (M, T), in all (T,)."""
    from bench.store import kernels

    words = _words(rows)
    place, order = _places(thresholds)
    masks = np.zeros((len(order), words.shape[1] * WORD), np.uint8)
    kernels.spread(_images(mask, len(codes)), np.ascontiguousarray(codes, np.uint16), place, masks)
    under = masks.view(np.uint64)
    right = np.zeros((len(words), len(order)), np.int64)
    _share(kernels.counts_under, (words, under, right), len(words), words.nbytes * len(order), threads)
    n = np.bitwise_count(under).sum(axis=1, dtype=np.int64)
    return right.cumsum(axis=1)[:, order], n.cumsum()[order]


def sweep_own(
    rows: Bytes, mask: Bytes, codes: Codes, thresholds: npt.ArrayLike, *, threads: int = THREADS
) -> tuple[Counts, Counts]:
    """As `sweep_shared`, where each model has codes of its own (M, N): right (M, T), in all (M, T)."""
    from bench.store import kernels

    words = _words(rows)
    place, order = _places(thresholds)
    images = _images(mask, codes.shape[1])
    found = np.empty((len(words), len(order) + 1, 2), np.int64)
    inputs = words.view(np.uint8), images, np.ascontiguousarray(codes, np.uint16), place, _bytes_of()
    _share(kernels.counts_by_place, (*inputs, found), len(words), 16 * len(words) * len(images), threads)
    below = found[:, :-1].cumsum(axis=1)[:, order]
    return below[..., 1], below.sum(axis=-1)


def both_right(rows: Bytes, mask: Bytes, *, threads: int = THREADS) -> Counts:
    """Images under the mask that both of two models get right, (M, M); on the diagonal `right_counts`."""
    from bench.store import kernels

    words = _words(rows)
    out = np.zeros((len(words), len(words)), np.int64)
    half = (len(words) + 1) // 2
    _share(kernels.both_right, (words, _fit(mask, words), out), half, words.nbytes * half, threads)
    return out + np.triu(out, 1).T


def agreement(both: Counts, n: int) -> Floats:
    """Share of the `n` images of `both_right` on which two models are both right or both wrong, (M, M); NaN of none."""
    right = np.diagonal(both)
    with np.errstate(invalid="ignore"):
        return (n - right[:, None] - right[None, :] + 2 * both) / np.float64(n)


def error_overlap(both: Counts, n: int) -> Floats:
    """Images that two models both get wrong, of those that at least one gets wrong, (M, M); NaN of none."""
    right = np.diagonal(both)
    both_wrong = n - right[:, None] - right[None, :] + both
    with np.errstate(invalid="ignore"):
        return both_wrong / (n - both).astype(np.float64)


def warm() -> None:
    """Compile, or load, all that counts: a second or so at the first time on a machine, so that no visitor waits.

    For arrays that may be written into and for those that may not (which many readers share): to numba they are types
    of their own.
    """
    mask = np.zeros(WORD, np.uint8)
    for shared_rows, shared_codes in itertools.product((False, True), repeat=2):
        rows, codes = np.zeros((2, WORD), np.uint8), np.zeros((2, 8), np.uint16)
        rows.flags.writeable, codes.flags.writeable = not shared_rows, not shared_codes
        right_counts(rows, mask)
        models_right(rows, 8)
        sweep_shared(rows, mask, codes[0], [0])
        sweep_own(rows, mask, codes, [0])
        both_right(rows, mask)


def quantise(values: npt.ArrayLike, low: float, high: float) -> Codes:
    """Codes of values (..., N): floor((value - low) / (high - low) * 65536) in float64, held to 0 ... 65535.

    In SQL `least(65535, greatest(0, floor((v::DOUBLE - low) / (high - low) * 65536)))`. ValueError for NaN.
    """
    values = np.asarray(values)
    if np.isnan(values).any():
        raise ValueError("a value that is not known has no code")
    steps = (values.astype(np.float64) - low) / (high - low) * STEPS
    return np.clip(np.floor(steps), 0, STEPS - 1).astype(np.uint16)


def edges(codes: npt.ArrayLike, low: float, high: float) -> Floats:
    """The values just above codes: those below edges(c) have codes up to c."""
    return low + (np.asarray(codes, np.float64) + 1) / STEPS * (high - low)


def ranges_of(n_classes: int, extremes: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Measure -> low and high of `quantise`, the same for all models of a dataset so that they share thresholds.

    msp and margin are in 0 ... 1 and entropy in 0 ... ln K; of any other measure the range is that of its values, given
    in `extremes` as the smallest and the largest finite value over all models.
    """
    fixed = {"msp": (0.0, 1.0), "margin": (0.0, 1.0), "entropy_nats": (0.0, float(np.log(max(n_classes, 2))))}
    return {
        measure: fixed.get(measure, (low, high if high > low else low + 1.0))
        for measure, (low, high) in extremes.items()
    }


def codes_of(
    model: str,
    dataset: str,
    condition: str,
    pred: npt.ArrayLike,
    measures: Mapping[str, npt.ArrayLike],
    ranges: Mapping[str, tuple[float, float]],
) -> pd.DataFrame:
    """Rows of table `codes` for one model: `pred` (N,) and each uncertainty (N,), both in the order of sample_id.

    A measure that is NaN somewhere has no row. ValueError for a class that 16 bits do not hold.
    """
    import pandas as pd

    from bench import schemas

    classes = np.asarray(pred, np.int64)
    if len(classes) and not 0 <= classes.min() <= classes.max() < STEPS:
        raise ValueError(f"class {classes.max()} is more than a 16-bit code holds")
    found: list[tuple[str, float | None, float | None, Codes]] = [("pred", None, None, classes.astype(np.uint16))]
    for measure, column in measures.items():
        values = np.asarray(column, np.float32)
        if not np.isnan(values).any():
            low, high = ranges[measure]
            found.append((measure, low, high, quantise(values, low, high)))
    return pd.DataFrame(
        [
            (model, dataset, condition, measure, len(classes), low, high, codes.astype("<u2").tobytes())
            for measure, low, high, codes in found
        ],
        columns=list(schemas.TABLES["codes"].columns),
    )


def rows_of(
    answers: correctness.Answers, sets: Mapping[str, correctness.LabelSets]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of tables `bits` and `valid` for all models of one dataset and condition; `sets` by label source.

    An image that a source does not label has a zero in `correct` and in `mask`. The rows of `valid` are the same for
    every condition.
    """
    import pandas as pd

    cell = answers.dataset, answers.condition
    bits, valid = [], []
    for source, labels in sets.items():
        right, labelled = correctness.right(answers, labels)
        packed = np.packbits(right, axis=1)
        n = len(labelled)
        valid.append((answers.dataset, source, n, pack(labelled)))
        bits += [(model, *cell, source, n, row.tobytes()) for model, row in zip(answers.models, packed, strict=True)]
    return (
        pd.DataFrame(bits, columns=["model", "dataset", "condition", "label_source", "n", "correct"]),
        pd.DataFrame(valid, columns=["dataset", "label_source", "n", "mask"]),
    )


def _words(rows: Bytes) -> npt.NDArray[np.uint64]:
    """Packed rows (M, B) as 64-bit words (M, W): a view where they are whole words side by side, else a padded copy."""
    if rows.shape[-1] % WORD or not rows.flags.c_contiguous or rows.ctypes.data % WORD:
        rows, given = np.zeros((*rows.shape[:-1], -(-rows.shape[-1] // WORD) * WORD), np.uint8), rows
        rows[..., : given.shape[-1]] = given
    return rows.view(np.uint64)


def _fit(mask: Bytes, words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A mask as exactly as many words as the rows have. ValueError where it has more bytes that are not zero."""
    wanted = words.shape[1] * WORD
    if len(mask) > wanted and mask[wanted:].any():
        raise ValueError(f"a mask of {len(mask)} bytes is not of rows of {wanted}")
    fitted = np.zeros(wanted, np.uint8)
    fitted[: len(mask)] = mask[:wanted]
    return fitted.view(np.uint64)


def _images(mask: Bytes, n: int) -> npt.NDArray[np.uint32]:
    """Positions of the images under a mask, ascending. ValueError where it has more bytes than `n` images, not zero."""
    if mask[-(-n // 8) :].any():
        raise ValueError(f"a mask of {len(mask)} bytes is not one of {n} images")
    return np.flatnonzero(unpack(mask, n)).astype(np.uint32)


@cache
def _bytes_of() -> npt.NDArray[np.uint64]:
    """The eight bits of each byte as eight bytes, (256,)."""
    every = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    return every.view(np.uint64).reshape(-1)


def _places(thresholds: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    """For each code the first of the sorted thresholds (T,) that it is under, T for none; and the way back."""
    wanted = np.asarray(thresholds, np.int64).reshape(-1)
    place = np.searchsorted(np.sort(wanted), np.arange(STEPS))
    return place.astype(np.uint8 if len(wanted) < 256 else np.uint16), np.argsort(np.argsort(wanted, kind="stable"))


def _share(kernel: Callable[..., Any], arguments: Iterable[Any], items: int, work: int, threads: int) -> None:
    """Call kernel(*arguments, start, stop) over 0 ... items, in parts on several threads where `work` is worth it."""
    arguments = tuple(arguments)
    parts = 1 if work < ALONE else max(1, min(threads, items))
    if parts == 1:
        kernel(*arguments, 0, items)
        return
    cuts = [items * part // parts for part in range(parts + 1)]
    others = [_pool(threads).submit(kernel, *arguments, *cut) for cut in itertools.pairwise(cuts[1:])]
    kernel(*arguments, cuts[0], cuts[1])
    for other in others:
        other.result()


_POOLS: dict[int, ThreadPoolExecutor] = {}
_LOCK = threading.Lock()


def _pool(threads: int) -> ThreadPoolExecutor:
    """The threads that all callers share, started at first need: one fewer than asked for, as the caller works too."""
    with _LOCK:
        if threads not in _POOLS:
            _POOLS[threads] = ThreadPoolExecutor(threads - 1, thread_name_prefix="bits")
        return _POOLS[threads]
