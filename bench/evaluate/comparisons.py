"""Every pair of models on the same images, and the ranks with ties that follow. Clean images, each label source."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench import compute, stats
from bench.config import Config
from bench.evaluate import correctness
from bench.store import tables

CONDITION = "clean"


def run(config: Config) -> dict[str, int]:
    """Write results/comparisons.parquet and results/ranks.parquet."""
    samples = correctness.evaluated_samples(config)
    labels = tables.read("labels", config.results / "labels.parquet")
    predictions = correctness.all_predictions(config)
    sources = correctness.sources_of(labels, samples)

    comparisons, ranks = [], []
    for dataset in config.datasets:
        for source in sources[dataset]:
            right = correctness.right_matrix(predictions, labels, dataset, source, CONDITION)
            where = {"dataset": dataset, "condition": CONDITION, "label_source": source}
            pairs, places = compare(config, right, dataset, source)
            comparisons.append(pairs.assign(**where))
            ranks.append(places.assign(**where))
    tables.write("comparisons", pd.concat(comparisons), config.results / "comparisons.parquet")
    tables.write("ranks", pd.concat(ranks), config.results / "ranks.parquet")
    return {"pairs": sum(map(len, comparisons)), "ranks": sum(map(len, ranks))}


def compare(config: Config, right: pd.DataFrame, dataset: str, source: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All pairs, and the ranks, of the models (rows) of `right` on the same images (columns).

    Model a is surely better than b where it is more accurate and the exact McNemar p, adjusted by Holm over all pairs
    here, is below `statistics.alpha`. What shares a rank: `stats.places`. Equally accurate models stand by name.
    """
    settings = config.statistics
    hits = right.to_numpy(np.int64)
    order = np.lexsort((right.index.to_numpy(str), -hits.sum(axis=1)))
    models, hits = right.index.to_numpy(str)[order], hits[order]
    n = hits.shape[1]
    a, b = np.triu_indices(len(models), k=1)
    both = hits @ hits.T
    only_a, only_b = both[a, a] - both[a, b], both[b, b] - both[a, b]
    p_values = stats.mcnemar(only_a, only_b)
    p_holm = stats.holm(p_values)

    better = np.zeros((len(models), len(models)), bool)
    better[a, b] = (p_holm < settings.alpha) & (only_a > only_b)
    places = stats.places(better)
    intervals = [
        stats.bootstrap_paired_counts(
            int(x),
            int(y),
            n,
            compute.rng(config.seed, "comparisons", dataset, source, models[i], models[j]),
            draws=settings.bootstrap,
            confidence=settings.confidence,
        )
        for x, y, i, j in zip(only_a, only_b, a, b, strict=True)
    ]
    low, high = 100 * np.array(intervals).reshape(-1, 2).T
    shared = pd.Series(places.rank[a], dtype="Int32").where(places.rank[a] == places.rank[b])
    pairs = pd.DataFrame(
        {
            "model_a": models[a],
            "model_b": models[b],
            "delta_pp": 100 * (only_a - only_b) / n,
            "ci_low": low,
            "ci_high": high,
            "p_value": p_values,
            "p_holm": p_holm,
            "tie_group": shared,
        }
    )
    ranks = pd.DataFrame({"model": models, "rank": places.rank, "rank_low": places.low, "rank_high": places.high})
    return pairs, ranks
