"""What labels that are not committed yet would change: multi-label share, accuracies, gaps and ranks, with intervals.

The same images, models and answers are judged by two label sets, before and after. Accuracies are any-of: right if the
answer is any of an image's labels, images without labels left out, as everywhere (metric `any_of`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import compute, stats
from bench.config import Config
from bench.evaluate import comparisons
from bench.evaluate.correctness import CONSENSUS, LabelSets

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Judged:
    """One set of N images judged by one label set: `right` (M, N) of M models, `labelled` (N,), `sizes` (N,) labels."""

    right: Flags
    labelled: Flags
    sizes: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Other:
    """The set that the changed one is held against: `right` (M, L) of `models` (M), `labelled` (L,), `origins` (L,)
    source images.

    `is_original`: whether gaps are from this set to the changed one, or from the changed one to it.
    """

    dataset: str
    models: tuple[str, ...]
    right: Flags
    labelled: Flags
    origins: npt.NDArray[np.object_]
    is_original: bool


def judge(pred: npt.NDArray[np.integer], ids: npt.NDArray[np.object_], sets: LabelSets) -> Judged:
    """Answers (M, N) of M models to the images `ids` (N,), judged by label sets."""
    rows, width = sets.rows(ids), sets.member.shape[1]
    labelled = rows >= 0
    inside = labelled & (pred < width)
    right = sets.member[np.broadcast_to(rows, pred.shape), np.where(inside, pred, 0)] & inside
    return Judged(right, labelled, sets.sizes(ids))


def label_sets(labels: pd.DataFrame, n_classes: int) -> LabelSets:
    """The label sets of rows sample_id, class_id; images without a row have none."""
    codes, ids = pd.factorize(labels["sample_id"], sort=True)
    member = np.zeros((len(ids), n_classes), bool)
    member[codes, labels["class_id"].to_numpy(np.int64)] = True
    return LabelSets(pd.Index(ids), member)


def multi_label_share(judged: Judged, among: Flags, confidence: float) -> tuple[float, float, float, int]:
    """The share of some images (N,) that have two labels or more, Wilson's interval, and their number.

    Of all these images: those without a label are among them (STUDIES.md 1c).
    """
    n, k = int(among.sum()), int((judged.sizes[among] >= 2).sum())
    low, high = stats.wilson(k, n, confidence)
    return (k / n if n else float("nan")), float(low), float(high), n


def accuracies(
    config: Config, models: Sequence[str], before: Judged, after: Judged, dataset: str, origins: npt.ArrayLike
) -> pd.DataFrame:
    """model, before, after, change_pp, ci_low, ci_high (of the change), rank and its ends before and after.

    `origins` (N,): the image that each is made from; what is made from one is resampled together. Ranks share ties as
    everywhere (bench/evaluate/comparisons.py).
    """
    settings = config.statistics
    _, cluster = np.unique(np.asarray(origins, object).astype(str), return_inverse=True)
    rng = compute.rng(config.seed, "what-if", dataset)
    rows = []
    for i, model in enumerate(models):
        columns = [before.right[i], before.labelled, after.right[i], after.labelled]
        sums = np.stack([np.bincount(cluster, column) for column in columns], axis=1)
        drawn = stats.resampled_sums(sums, rng, settings.bootstrap)
        drawn = drawn[(drawn[:, 1] > 0) & (drawn[:, 3] > 0)]
        change = 100 * (drawn[:, 2] / drawn[:, 3] - drawn[:, 0] / drawn[:, 1])
        low, high = stats.percentile_interval(change, settings.confidence)
        was, is_now = (float(j.right[i].sum() / j.labelled.sum()) for j in (before, after))
        rows.append((model, was, is_now, 100 * (is_now - was), low, high))
    out = pd.DataFrame(rows, columns=["model", "before", "after", "change_pp", "ci_low", "ci_high"])
    for name, judged in (("before", before), ("after", after)):
        _, places = comparisons.compare(config, models, judged.right[:, judged.labelled], dataset, CONSENSUS)
        renamed = {column: f"{column}_{name}" for column in ("rank", "rank_low", "rank_high")}
        out = out.merge(places.rename(columns=renamed), on="model")
    return out


def gaps(config: Config, before: Judged, after: Judged, origins: npt.ArrayLike, other: Other) -> pd.DataFrame:
    """model, gap_before_pp, gap_after_pp, ci_low, ci_high (of the latter): accuracy on the original minus on the other.

    before, after: of the models of `other`, in their order. Intervals resample source images, so that what two sets
    share is drawn once.
    """
    rng = compute.rng(config.seed, "what-if gap", other.dataset)
    sign = 1 if other.is_original else -1
    origins = np.asarray(origins, object)
    rows = []
    for i, model in enumerate(other.models):
        theirs = other.right[i, other.labelled]
        found = [
            100 * sign * (float(theirs.mean()) - float(judged.right[i, judged.labelled].mean()))
            for judged in (before, after)
        ]
        ends = stats.bootstrap_gap(
            theirs,
            after.right[i, after.labelled],
            other.origins[other.labelled].astype(str),
            origins[after.labelled].astype(str),
            rng,
            draws=config.statistics.bootstrap,
            confidence=config.statistics.confidence,
        )
        low, high = sorted(100 * sign * end for end in ends)
        rows.append((model, *found, low, high))
    return pd.DataFrame(rows, columns=["model", "gap_before_pp", "gap_after_pp", "ci_low", "ci_high"])
