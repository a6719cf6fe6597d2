"""Who is right where, one bit an image: any filter is a mask, and every model's accuracy is a popcount.

The order of the bits is that of the test images of a dataset by sample_id; packing is numpy.packbits, big-endian,
padded with zeros. An index derived from predictions and labels, never a source.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.config import Config
from bench.evaluate import correctness
from bench.store import tables

KEY = ["model", "dataset", "condition"]


def pack(correct: npt.ArrayLike) -> bytes:
    """Booleans (N,) as ceil(N / 8) bytes."""
    return np.packbits(np.asarray(correct, bool)).tobytes()


def unpack(blob: bytes, n: int) -> npt.NDArray[np.bool_]:
    """The first `n` bits of a blob as booleans (n,)."""
    return np.unpackbits(np.frombuffer(blob, np.uint8), count=n).astype(bool)


def stack(blobs: list[bytes]) -> npt.NDArray[np.uint8]:
    """Blobs of one dataset as a matrix (M, B) for `counts`."""
    return np.frombuffer(b"".join(blobs), np.uint8).reshape(len(blobs), -1)


def counts(bits: npt.NDArray[np.uint8], mask: bytes) -> npt.NDArray[np.int64]:
    """Number of set bits of every row of `bits` (M, B) inside `mask` (B bytes): (M,)."""
    inside = np.bitwise_count(bits & np.frombuffer(mask, np.uint8))
    return inside.sum(axis=1, dtype=np.int64)


def run(config: Config) -> dict[str, int]:
    """Write results/bits.parquet and results/valid.parquet, for clean and corrupted images under every label source."""
    results = config.results
    labels = tables.read("labels", results / "labels.parquet")
    samples = correctness.evaluated_samples(config)
    predictions = correctness.all_predictions(config).sort_values([*KEY, "sample_id"], ignore_index=True)
    rows, masks = [], []
    for dataset, sources in correctness.sources_of(labels, samples).items():
        answers = predictions.loc[predictions["dataset"] == dataset]
        n = np.count_nonzero(samples["dataset"] == dataset)
        cells = answers.iloc[::n][KEY].to_dict("records")
        for source in sources:
            right = correctness.correct(answers, labels, source).reshape(-1, n)
            masks.append({"dataset": dataset, "label_source": source, "n": n, "mask": pack(~np.isnan(right[0]))})
            rows += [
                {**cell, "label_source": source, "n": n, "correct": pack(line == 1)}
                for cell, line in zip(cells, right, strict=True)
            ]
    bits = tables.write("bits", pd.DataFrame(rows), results / "bits.parquet")
    tables.write("valid", pd.DataFrame(masks), results / "valid.parquet")
    return {"bit rows": len(bits)}
