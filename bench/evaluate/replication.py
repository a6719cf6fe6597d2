"""The gap of every model between an original set and each set held against it. Rule R0: all images, nothing selected.

Every row has gap = accuracy on the original minus accuracy on the other set, in percentage points. R0 has no bins, so
the whole gap is `within` and `composition` is 0. `label_pp` is what scoring by another label source takes off the gap:
an upper bound of what labels explain, as two sources usually come from different processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import compute, stats
from bench.config import Config
from bench.evaluate import correctness
from bench.evaluate.correctness import CLEAN, ORIGINAL, Answers
from bench.store import tables


@dataclass(frozen=True)
class Scored:
    """One set under one label source: who of `models` (M,) is right (M, N); the source image (N,) of each image."""

    dataset: str
    source: str
    models: tuple[str, ...]
    right: npt.NDArray[np.bool_]
    origins: npt.NDArray[np.str_]


def run(config: Config) -> dict[str, int]:
    """Write results/replication.parquet: one row a model, a pair of sets and a scoring.

    Scoring `any_of` is there where either set has labels besides the original ones (the first such source by name); a
    set that has none keeps its original labels.
    """
    results = config.results
    samples = correctness.evaluated_samples(config)
    labels = tables.read("labels", results / "labels.parquet")
    sources = correctness.sources_of(labels, samples)
    sets = {source: correctness.label_sets(labels, source) for source in set().union(*sources.values())}
    origins = {name: rows.to_numpy(str) for name, rows in samples.groupby("dataset")["source_id"]}

    def scored(found: Answers, source: str) -> Scored:
        right, labelled = correctness.right(found, sets[source])
        return Scored(found.dataset, source, found.models, right[:, labelled], origins[found.dataset][labelled])

    frames = []
    for name, dataset in config.datasets.items():
        if dataset.replicates is None:
            continue
        original = dataset.replicates
        first, second = correctness.each(config, [(original, CLEAN), (name, CLEAN)])
        top1 = gaps(config, scored(first, ORIGINAL), scored(second, ORIGINAL), "top1")
        ours, theirs = (next((s for s in sources[side] if s != ORIGINAL), ORIGINAL) for side in (original, name))
        if (ours, theirs) != (ORIGINAL, ORIGINAL):
            any_of = gaps(config, scored(first, ours), scored(second, theirs), "any_of")
            label_pp = top1["gap_pp"] - any_of["gap_pp"]
            top1 = top1.assign(label_pp=label_pp)
            frames.append(any_of.assign(label_pp=label_pp))
        frames.append(top1)
    written = tables.write("replication", tables.stacked("replication", frames), results / "replication.parquet")
    return {"gaps": len(written)}


def gaps(config: Config, original: Scored, other: Scored, scoring: str) -> pd.DataFrame:
    """One row of table `replication` for every model that answers to both sets; `label_pp` is left NaN.

    Sets without a common source image are independent: Newcombe's interval. Sets made from the same images (a corrupted
    or relabelled copy, a selection) are not: source images are resampled, each with what both sets have of it.
    """
    settings = config.statistics
    models = [model for model in original.models if model in other.models]
    a, b = (side.right[[side.models.index(model) for model in models]] for side in (original, other))
    (n_a, n_b), (k_a, k_b) = (a.shape[1], b.shape[1]), (a.sum(axis=1), b.sum(axis=1))
    gap = k_a / n_a - k_b / n_b
    if np.intersect1d(original.origins, other.origins).size:
        what = (config.seed, "replication", original.dataset, other.dataset, scoring)
        intervals = [
            stats.bootstrap_gap(
                a[i],
                b[i],
                original.origins,
                other.origins,
                compute.rng(*what, model),
                draws=settings.bootstrap,
                confidence=settings.confidence,
            )
            for i, model in enumerate(models)
        ]
        low, high = np.array(intervals).reshape(-1, 2).T
    else:
        low, high = stats.newcombe(k_a, n_a, k_b, n_b, settings.confidence)
    return pd.DataFrame(
        {
            "model": models,
            "original": original.dataset,
            "replication": other.dataset,
            "rule": "R0",
            "uncertainty": "none",
            "coverage_q": 1.0,
            "scoring": scoring,
            "labels_original": original.source,
            "labels_replication": other.source,
            "gap_pp": 100 * gap,
            "ci_low": 100 * low,
            "ci_high": 100 * high,
            "composition_pp": 0.0,
            "within_pp": 100 * gap,
            "label_pp": np.nan,
            "placebo_gap_pp": np.nan,
            "error_ratio": np.divide(1 - k_b / n_b, 1 - k_a / n_a, out=np.full(len(models), np.nan), where=k_a < n_a),
            "coverage_original": 1.0,
            "coverage_replication": 1.0,
            "n_original": n_a,
            "n_replication": n_b,
        }
    )
