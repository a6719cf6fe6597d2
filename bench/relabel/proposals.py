"""Stage: ranked labels per image from an ensemble, how good they are, and what is worth annotating. No torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import compute
from bench.config import Config
from bench.evaluate import correctness
from bench.evaluate import logits as stored
from bench.evaluate.logits import Floats, softmax
from bench.store import tables

LIKELY = 0.5
"""A proposed label is likely where it is at least this share as probable as the first one."""


def run(config: Config) -> dict[str, int]:
    """Write results/{proposals,queue,proposal_recall}.parquet; no rows where params.yaml names no `proposals.ensemble`.

    BenchError where the logits of a model are missing, broken or not those of the expected images.
    """
    from bench.relabel import recall

    settings = config.proposals
    samples = correctness.evaluated_samples(config)
    given = tables.read("labels", config.results / "given_labels.parquet")
    given = given.loc[given["source"] != correctness.ORIGINAL]
    members = config.uncertainty.ensembles[settings.ensemble] if settings.ensemble else []
    may_propose = [name for name, model in config.models.items() if model.family in ("supervised", "ssl")]
    logits = {name: stored.read(config, name, samples) for name in {*members, *may_propose}} if members else {}
    proposals, queue, recalls = [], [], []
    for dataset in settings.datasets if members else []:
        rows = samples.loc[samples["dataset"] == dataset, :]
        ids, labels = rows["sample_id"].to_numpy(str), rows["label"].to_numpy(np.int64)
        here = {name: softmax(found[dataset]) for name, found in logits.items() if dataset in found}
        each = np.stack([here[name] for name in members])
        mean = each.mean(axis=0)
        ranked = propose(mean, labels, settings.top_k)
        proposals.append(_rows(ids, ranked, mean).assign(proposer=settings.ensemble))
        queue.append(worth(ids, labels, each, ranked))
        for source, known in recall.several(given, ids, mean.shape[1]):
            recalls.append(recall.table(config, dataset, source, here, members, labels, known))
    counts = {}
    for name, parts in {"proposals": proposals, "queue": queue, "proposal_recall": recalls}.items():
        written = tables.write(name, tables.stacked(name, parts), config.results / f"{name}.parquet")
        counts[name] = len(written)
    return counts


def propose(probabilities: Floats, labels: npt.NDArray[np.int64], top_k: int) -> npt.NDArray[np.int64]:
    """The `top_k` most probable classes of each image, (N, min(top_k, K)), best first, ties by the lowest class id.

    probabilities (N, K), labels (N,): the original label takes the last place where it is not among them (STUDIES 1c).
    """
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    missing = ~(ranked == labels[:, None]).any(axis=1)
    ranked[missing, -1] = labels[missing]
    return ranked


def worth(
    ids: npt.NDArray[np.str_], labels: npt.NDArray[np.int64], members: Floats, ranked: npt.NDArray[np.int64]
) -> pd.DataFrame:
    """Rows of table `queue` of N images from the probabilities of M `members` (M, N, K) and the proposals (N, k).

    Label quality is cleanlab's self-confidence (Northcutt, Jiang & Chuang 2021), not out of sample where the members
    were trained on labels of the same images. The place in a random order is that of the sha256 of the id.
    """
    from cleanlab.rank import get_label_quality_scores
    from scipy import special

    mean = members.mean(axis=0)
    answers = members.argmax(axis=2)
    most = np.array([np.bincount(column).max() for column in answers.T]) / len(members)
    scores = np.take_along_axis(mean, ranked, axis=1)
    place = {sample_id: i for i, sample_id in enumerate(compute.hash_order(ids), start=1)}
    return pd.DataFrame(
        {
            "sample_id": ids,
            "quality": get_label_quality_scores(labels, mean, method="self_confidence"),
            "disagreement": 1 - most,
            "entropy_nats": np.maximum(special.entr(mean).sum(axis=1), 0.0),
            "n_likely": (scores >= LIKELY * scores.max(axis=1, keepdims=True)).sum(axis=1),
            "place": [place[sample_id] for sample_id in ids],
        }
    )


def _rows(ids: npt.NDArray[np.str_], ranked: npt.NDArray[np.int64], mean: Floats) -> pd.DataFrame:
    n, k = ranked.shape
    return pd.DataFrame(
        {
            "sample_id": np.repeat(ids, k),
            "class_id": ranked.ravel(),
            "rank": np.tile(np.arange(1, k + 1), n),
            "score": np.take_along_axis(mean, ranked, axis=1).ravel(),
        }
    )
