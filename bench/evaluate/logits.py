"""From logits to probabilities and answers, in float64; and the one reader of stored logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.config import Config
from bench.errors import BenchError
from bench.store import tables

Floats = npt.NDArray[np.float64]
CLEAN = "clean"


def softmax(logits: npt.ArrayLike) -> Floats:
    """Probabilities of logits (..., K), float64; the largest logit is subtracted first, so nothing overflows."""
    z = np.asarray(logits, np.float64)
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def answers(order_by: npt.ArrayLike, probabilities: Floats, ids: npt.ArrayLike, labels: npt.ArrayLike) -> pd.DataFrame:
    """The columns sample_id, pred, p_top1, p_true, top5 of table `predictions`.

    `order_by` (N, K) ranks the classes, ties by the lowest class id: logits, as probabilities near 0 or 1 lose their
    order. `ids` (N,) are sample ids, `labels` (N,) original labels. top5 holds min(5, K) classes.
    """
    order = np.argsort(-np.asarray(order_by, np.float64), axis=1, kind="stable")[:, :5]
    everyone = np.arange(len(order))
    return pd.DataFrame(
        {
            "sample_id": np.asarray(ids),
            "pred": order[:, 0],
            "p_top1": probabilities[everyone, order[:, 0]],
            "p_true": probabilities[everyone, np.asarray(labels)],
            "top5": list(order.astype(np.int16)),
        }
    )


def read(config: Config, model: str, samples: pd.DataFrame) -> dict[str, npt.NDArray[np.float32]]:
    """Stored clean logits of `model`: dataset -> (N, K), in the order of sample_id.

    `samples`: the test rows of table `samples`, in the order of sample_id. Raises BenchError naming the file where it
    is missing, holds NaN or infinity, differing numbers of classes, or not exactly one row for each test image of each
    dataset of the model's suite.
    """
    path = config.results / "logits" / f"{model}.parquet"
    frame = tables.read("logits", path).sort_values("sample_id", kind="stable")
    parts = {str(dataset): part for dataset, part in frame.groupby("dataset", sort=False)}
    found: dict[str, npt.NDArray[np.float32]] = {}
    for dataset in config.datasets_of(config.model(model).suite):
        expected = samples.loc[samples["dataset"] == dataset, "sample_id"].to_numpy()
        part = parts.pop(dataset, frame.iloc[:0])
        ids = part["sample_id"].to_numpy(str)
        if not np.array_equal(ids, expected):
            have = int(np.isin(ids, expected).sum())
            raise _fault(f"has logits of {have} of the {len(expected)} test images of {dataset!r}", path, model)
        if len({len(z) for z in part["logits"]}) != 1:
            raise _fault(f"has logits of different lengths for {dataset!r}", path, model)
        z = np.stack(part["logits"].tolist())
        broken = int((~np.isfinite(z).all(axis=1)).sum())
        if broken:
            raise _fault(f"has NaN or infinite logits for {broken} images of {dataset!r}", path, model)
        found[dataset] = z
    if parts:
        raise _fault(f"has logits of {', '.join(parts)}, not of the suite of {model!r}", path, model)
    return found


def _fault(what: str, path: Path, model: str) -> BenchError:
    return BenchError(f"{what}.", where=path, remedy=f"Delete it and run `dvc repro predict@{model}`.")
