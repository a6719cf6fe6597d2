"""Stage: ranked labels per image from an ensemble, the original label always among them. No torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.config import Config
from bench.evaluate import correctness
from bench.evaluate import logits as stored
from bench.evaluate.logits import Floats, softmax
from bench.store import tables


def run(config: Config) -> dict[str, int]:
    """Write results/proposals.parquet; no rows where params.yaml names no `proposals.ensemble`.

    BenchError where the logits of a member are missing, broken or not those of the expected images.
    """
    settings, parts = config.proposals, []
    samples = correctness.evaluated_samples(config)
    members = config.uncertainty.ensembles[settings.ensemble] if settings.ensemble else []
    logits = [stored.read(config, member, samples) for member in members]
    for dataset in settings.datasets if members else []:
        rows = samples.loc[samples["dataset"] == dataset, :]
        mean = np.mean([softmax(z[dataset]) for z in logits], axis=0)
        ranked = propose(mean, rows["label"].to_numpy(np.int64), settings.top_k)
        n, k = ranked.shape
        parts.append(
            pd.DataFrame(
                {
                    "sample_id": np.repeat(rows["sample_id"].to_numpy(str), k),
                    "class_id": ranked.ravel(),
                    "rank": np.tile(np.arange(1, k + 1), n),
                    "score": np.take_along_axis(mean, ranked, axis=1).ravel(),
                    "proposer": settings.ensemble,
                }
            )
        )
    written = tables.write("proposals", tables.stacked("proposals", parts), config.results / "proposals.parquet")
    return {"proposals": len(written)}


def propose(probabilities: Floats, labels: npt.NDArray[np.int64], top_k: int) -> npt.NDArray[np.int64]:
    """The `top_k` most probable classes of each image, (N, min(top_k, K)), best first, ties by the lowest class id.

    probabilities (N, K), labels (N,): the original label takes the last place where it is not among them (STUDIES 1c).
    """
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    missing = ~(ranked == labels[:, None]).any(axis=1)
    ranked[missing, -1] = labels[missing]
    return ranked
