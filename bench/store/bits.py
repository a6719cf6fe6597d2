"""Correctness as bits: one bit an image, so that any filter is a mask and every accuracy under it a popcount."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.evaluate import correctness

if TYPE_CHECKING:
    import pandas as pd


def pack(flags: npt.ArrayLike) -> bytes:
    """Booleans (N,) as bytes, eight images each, big-endian, padded with zeros."""
    return np.packbits(np.asarray(flags, bool)).tobytes()


def unpack(packed: bytes, n: int) -> npt.NDArray[np.bool_]:
    """The `n` booleans of `pack`, (n,)."""
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=n).astype(bool)


def stack(packed: list[bytes]) -> npt.NDArray[np.uint8]:
    """M packed rows of one length as an array (M, B) of bytes."""
    return np.stack([np.frombuffer(row, np.uint8) for row in packed])


def counts(rows: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Number of bits set in each packed row (M, B) under a packed mask (B,): (M,).

    The padding never counts: `mask` has zeros there.
    """
    return np.bitwise_count(rows & mask).sum(axis=-1, dtype=np.int64)


def tables_of(
    predictions: pd.DataFrame, labels: pd.DataFrame, samples: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables `bits` and `valid` of complete predictions.

    `samples` are the evaluated rows; a prediction frame has exactly one row an image for each (model, dataset,
    condition). An image that a source does not label has a zero in `correct` and in `mask`.
    """
    import pandas as pd

    ordered = predictions.sort_values(["model", "dataset", "condition", "sample_id"], ignore_index=True)
    cell = ["model", "dataset", "condition"]
    bits, valid = [], []
    for dataset, sources in correctness.sources_of(labels, samples).items():
        ids = np.sort(samples.loc[samples["dataset"] == dataset, "sample_id"].to_numpy(str))
        mine = ordered.loc[ordered["dataset"] == dataset]
        heads = mine.loc[:, cell].iloc[:: len(ids)]
        for source in sources:
            labelled = correctness.label_sets(labels, source).rows(ids) >= 0
            valid.append((dataset, source, len(ids), pack(labelled)))
            right = correctness.correct(mine, labels, source).reshape(-1, len(ids)) == 1
            bits += [(*head, source, len(ids), pack(row)) for head, row in zip(heads.to_numpy(), right, strict=True)]
    return (
        pd.DataFrame(bits, columns=[*cell, "label_source", "n", "correct"]),
        pd.DataFrame(valid, columns=["dataset", "label_source", "n", "mask"]),
    )
