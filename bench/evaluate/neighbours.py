"""Stage: the nearest test images of each test image, in the feature space of one encoder."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import compute
from bench.config import Config
from bench.data import cache
from bench.evaluate import correctness
from bench.store import tables

ROWS_AT_ONCE = 1024
TIED = 1e-6
"""Cosines closer than this are a tie: float32 features say no more."""


def run(config: Config) -> dict[str, int]:
    """Write results/neighbours.parquet; no rows where params.yaml names no `neighbours.model`."""
    from bench.models import zoo

    settings, path = config.neighbours, config.results / "neighbours.parquet"
    if settings.model is None:
        tables.write("neighbours", tables.stacked("neighbours", []), path)
        return {"neighbours": 0}
    compute.prepare(config.compute, config.seed)
    network = zoo.load(config, settings.model)
    sets = [cache.load(config, dataset) for dataset in config.datasets_of(config.model(settings.model).suite)]
    features = np.concatenate([compute.forward(network, s.images, config.compute, features=True) for s in sets])
    ids = np.concatenate([s.ids for s in sets])
    source = correctness.evaluated_samples(config).set_index("sample_id")["source_id"].loc[ids].to_numpy(str)
    near, cosine = nearest(features, ids, source, settings.k)
    rows, ranks = np.nonzero(near >= 0)
    frame = pd.DataFrame(
        {
            "sample_id": ids[rows],
            "rank": ranks + 1,
            "neighbour_id": ids[near[rows, ranks]],
            "similarity": cosine[rows, ranks],
            "model": settings.model,
        }
    )
    tables.write("neighbours", frame, path)
    return {"neighbours": len(frame)}


def nearest(
    features: np.ndarray, ids: npt.NDArray[np.str_], source: npt.NDArray[np.str_], k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Rows of the k nearest of each of N images by cosine of features (N, D), and their cosines, both (N, k).

    `source` (N,) is the image that each is made from: never one of its own source, and of others the nearest.
    Ties go to images that are their own source, then by id. -1 and NaN where there are fewer than k other sources.
    """
    z = features.astype(np.float64)
    z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    order = np.lexsort((ids, source != ids))
    z, group = z[order], np.unique(source[order], return_inverse=True)[1]
    n = len(z)
    take = min(n, (k + 1) * int(np.bincount(group).max()))
    near, cosine = np.full((n, k), -1, np.int64), np.full((n, k), np.nan)
    for start in range(0, n, ROWS_AT_ONCE):
        similarity = z[start : start + ROWS_AT_ONCE] @ z.T
        key = np.arange(n) - n * np.rint(similarity / TIED).astype(np.int64)
        closest = np.sort(np.partition(key, take - 1, axis=1)[:, :take], axis=1) % n
        for row, candidates in enumerate(closest):
            groups = group[candidates]
            first = np.sort(np.unique(groups, return_index=True)[1])
            chosen = candidates[first[groups[first] != group[start + row]]][:k]
            near[order[start + row], : len(chosen)] = order[chosen]
            cosine[order[start + row], : len(chosen)] = similarity[row, chosen]
    return near, cosine
