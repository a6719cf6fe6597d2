"""Every pair of models on the same images, and the ranks with ties that follow. Clean images, each label source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import compute, stats
from bench.config import Config
from bench.evaluate import correctness
from bench.evaluate.correctness import CLEAN
from bench.store import tables


def run(config: Config) -> dict[str, int]:
    """Write results/comparisons.parquet and results/ranks.parquet."""
    samples = correctness.evaluated_samples(config)
    labels = tables.read("labels", config.results / "labels.parquet")
    sources = correctness.sources_of(labels, samples)
    sets = {source: correctness.label_sets(labels, source) for source in set().union(*sources.values())}

    comparisons, ranks = [], []
    for found in correctness.each(config, [(dataset, CLEAN) for dataset in config.datasets]):
        if not found.models:
            continue
        for source in sources[found.dataset]:
            right, labelled = correctness.right(found, sets[source])
            where = {"dataset": found.dataset, "condition": CLEAN, "label_source": source}
            pairs, places = compare(config, found.models, right[:, labelled], found.dataset, source)
            comparisons.append(pairs.assign(**where))
            ranks.append(places.assign(**where))
    tables.write("comparisons", tables.stacked("comparisons", comparisons), config.results / "comparisons.parquet")
    tables.write("ranks", tables.stacked("ranks", ranks), config.results / "ranks.parquet")
    return {"pairs": sum(map(len, comparisons)), "ranks": sum(map(len, ranks))}


def compare(
    config: Config, names: Sequence[str], right: npt.NDArray[np.bool_], dataset: str, source: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All pairs, and the ranks, of the models `names` (M,) from who is right on the same images, (M, N).

    Model a is surely better than b where it is more accurate and the exact McNemar p, adjusted by Holm over all pairs
    here, is below `statistics.alpha`. What shares a rank: `stats.places`. Equally accurate models stand by name.
    """
    settings = config.statistics
    order = np.lexsort((np.array(names, str), -right.sum(axis=1)))
    models, n = np.array(names, str)[order], right.shape[1]
    a, b = np.triu_indices(len(models), k=1)
    both = _both(right[order])
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


def _both(right: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Images on which both of two models are right, (M, M): a product of 0s and 1s, exact in float32 to 2 ** 24."""
    both = np.zeros((len(right), len(right)), np.int64)
    for start in range(0, right.shape[1], _IMAGES_AT_ONCE):
        part = right[:, start : start + _IMAGES_AT_ONCE].astype(np.float32)
        both += (part @ part.T).astype(np.int64)
    return both


_IMAGES_AT_ONCE = 2**16
