"""Stage: a map of test images in the features of each encoder, and the nearest of each image there.

A map is drawn from the very neighbours that are stored beside it: never of the same source, so that a set and what was
made from it do not lie in pairs. One stage for all encoders: compiling UMAP takes longer than a dozen maps.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import compute, progress
from bench.config import Config, Maps
from bench.data import cache
from bench.data.samples import Samples
from bench.errors import BenchError
from bench.evaluate import correctness
from bench.evaluate.neighbours import nearest
from bench.store import tables

LEAST = 5
"""Images without a common source that a map needs: UMAP's spectral start has no solution for fewer."""


def run(config: Config) -> dict[str, int]:
    """Write results/{maps,map_neighbours}.parquet: the declared test images of each suite under each of its models.

    Raises BenchError where a suite has too few of them.
    """
    from bench.models import zoo

    compute.prepare(config.compute, config.seed)
    origin = correctness.evaluated_samples(config).set_index("sample_id")["source_id"]
    chosen = {suite: _chosen(config, suite) for suite in dict.fromkeys(model.suite for model in config.models.values())}
    places, neighbours = [], []
    for name in progress.bar(list(config.models), "maps"):
        sets, network = chosen[config.models[name].suite], zoo.load(config, name)
        features = np.concatenate([compute.forward(network, s.images, config.compute, features=True) for s in sets])
        ids = np.concatenate([s.ids for s in sets])
        source = origin.loc[ids].to_numpy(str)
        others = len(np.unique(source)) - 1
        if others < LEAST - 1:
            raise BenchError(
                f"the suite of {name!r} has {others + 1} test images of different sources; a map needs {LEAST}.",
                where="maps",
                remedy="Raise `maps.n_images` in params.yaml, or add images.",
            )
        near, cosine = nearest(features, ids, source, min(max(config.maps.n_neighbors - 1, config.maps.k), others))
        xy = layout(features, near, cosine, config.maps, compute.seed_of(config.seed, "maps") % 2**32)
        places.append(pd.DataFrame({"model": name, "sample_id": ids, "x": xy[:, 0], "y": xy[:, 1]}))
        k = min(config.maps.k, others)
        neighbours.append(
            pd.DataFrame(
                {
                    "model": name,
                    "sample_id": np.repeat(ids, k),
                    "rank": np.tile(np.arange(1, k + 1), len(ids)),
                    "neighbour_id": ids[near[:, :k].ravel()],
                    "similarity": cosine[:, :k].ravel(),
                }
            )
        )
    mapped = tables.write("maps", tables.stacked("maps", places), config.results / "maps.parquet")
    tables.write(
        "map_neighbours", tables.stacked("map_neighbours", neighbours), config.results / "map_neighbours.parquet"
    )
    return {"maps": len(places), "images": len(mapped)}


def _chosen(config: Config, suite: str) -> list[Samples]:
    """The declared test images of every dataset of a suite."""
    sets = [cache.load(config, dataset) for dataset in config.datasets_of(suite)]
    return [one.rows(compute.declared(one.ids, config.map_images(suite))) for one in sets]


def layout(
    features: np.ndarray, near: npt.NDArray[np.int64], cosine: npt.NDArray[np.float64], settings: Maps, seed: int
) -> npt.NDArray[np.float32]:
    """Places (N, 2) of images by UMAP (McInnes, Healy & Melville 2018, arXiv 1802.03426) under the cosine distance.

    features (N, D); near (N, K) rows of the nearest others and their cosines, K >= 1; the same bytes for the same seed.
    UMAP is told the neighbours: its own search under the cosine takes three times as long as all else and finds copies.
    """
    import umap

    others = min(settings.n_neighbors - 1, near.shape[1], len(near) - 2)
    itself = np.arange(len(near))[:, None]
    indices = np.hstack([itself, near[:, :others]])
    distances = np.hstack([np.zeros_like(itself, float), 1 - cosine[:, :others]]).clip(0).astype(np.float32)
    mapper = umap.UMAP(
        n_neighbors=others + 1,
        min_dist=settings.min_dist,
        metric="cosine",
        n_epochs=settings.epochs,
        random_state=seed,
        n_jobs=1,
        precomputed_knn=(indices, distances),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="precomputed_knn")  # nothing is added to a map later
        return np.asarray(mapper.fit_transform(features), np.float32)
