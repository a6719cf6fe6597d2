"""How many of the known labels an ensemble proposes, and the smallest ensemble that proposes enough (STUDIES.md 1c).

Known labels are those of images with several labels of one source. Recall is the share of them that is among the
proposals as they are shown, the original label always one of them. The choice of the smallest ensemble that reaches a
recall is that of the ReaL paper. It is made on the images that it is measured on, so it is a little too good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import compute, stats
from bench.config import Config
from bench.evaluate.logits import Floats

CONFIGURED, SUGGESTED, PATH = "configured", "suggested", "path"
JOINT = " + "
"""Between the members of an ensemble."""
ALL_OF = 10
"""Models of which every ensemble is tried; of more, each size is the best of one smaller, and one model more."""

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


def several(labels: pd.DataFrame, ids: npt.ArrayLike, n_classes: int) -> Iterator[tuple[str, Flags]]:
    """Source and known labels (N, K) of every source that gives some of the images `ids` (N,) several labels.

    labels: sample_id, source, class_id. Images without several labels have none here.
    """
    row = pd.Index(np.asarray(ids, object))
    for source, mine in labels.groupby("source"):
        place = row.get_indexer(pd.Index(mine["sample_id"]))
        known = np.zeros((len(row), n_classes), bool)
        known[place[place >= 0], mine["class_id"].to_numpy(np.int64)[place >= 0]] = True
        known[known.sum(axis=1) < 2] = False
        if known.any():
            yield str(source), known


def needed(probabilities: Floats, labels: npt.NDArray[np.int64], known: Flags) -> tuple[Ints, Ints]:
    """The image of each known label (N, K), (P,), and the least number of proposals with which it is one of them, (P,).

    By mean probabilities (N, K), and as `propose` chooses: the most probable classes, ties by the lowest class id, the
    original label (N,) in the last place where it is not among them. So the original label needs one, another as many
    as its rank, and one more where the original is less probable.
    """
    rows, classes = np.nonzero(known)
    mine = probabilities[rows]
    own = mine[np.arange(len(rows)), classes][:, None]
    before = np.arange(mine.shape[1]) < classes[:, None]
    rank = ((mine > own) | ((mine == own) & before)).sum(axis=1) + 1
    original = labels[rows]
    given = mine[np.arange(len(rows)), original]
    behind = (given < own[:, 0]) | ((given == own[:, 0]) & (original > classes))
    return rows, np.where(classes == original, 1, rank + behind)


def hits(probabilities: Floats, labels: npt.NDArray[np.int64], known: Flags, top_k: int) -> Ints:
    """How many known labels (N, K) of each image are proposed, (N,), by mean probabilities (N, K)."""
    rows, least = needed(probabilities, labels, known)
    return np.bincount(rows[least <= top_k], minlength=len(known))


def best(
    members: Mapping[str, Floats], labels: npt.NDArray[np.int64], known: Flags, top_k: int
) -> list[tuple[str, ...]]:
    """For each size, the ensemble of `members` (model -> (N, K) probabilities) that proposes most; ties by name.

    All ensembles are tried where there are at most ALL_OF models, else the best of one smaller is extended.
    """

    some = known.any(axis=1)
    labels, known, those = labels[some], known[some], {name: rows[some] for name, rows in members.items()}

    def found(names: tuple[str, ...]) -> int:
        return int(hits(np.mean([those[name] for name in names], axis=0), labels, known, top_k).sum())

    out: list[tuple[str, ...]] = []
    for size in range(1, len(members) + 1):
        if len(members) <= ALL_OF:
            tried = list(combinations(sorted(members), size))
        else:
            smaller = out[-1] if out else ()
            tried = [tuple(sorted((*smaller, name))) for name in sorted(members) if name not in smaller]
        out.append(max(tried, key=lambda names: (found(names), [-ord(c) for c in JOINT.join(names)])))
    return out


def enough(probabilities: Floats, labels: npt.NDArray[np.int64], known: Flags, recall: float) -> int:
    """The least number of proposals an image with which that share of the known labels (N, K) is proposed."""
    _, least = needed(probabilities, labels, known)
    proposed = np.cumsum(np.bincount(least, minlength=known.shape[1] + 1))
    return int(np.argmax(proposed >= recall * len(least)))


def table(
    config: Config,
    dataset: str,
    source: str,
    members: Mapping[str, Floats],
    configured: Sequence[str],
    labels: npt.NDArray[np.int64],
    known: Flags,
) -> pd.DataFrame:
    """Rows of table `proposal_recall` for one dataset and source: the best ensemble of each size, and the configured.

    `members`: model -> probabilities (N, K) of every model that may propose. Intervals: bootstrap over images.
    """
    settings = config.proposals
    mine = tuple(sorted(configured))
    path = best(members, labels, known, settings.top_k)
    rows = []
    suggested = False
    for names in [*path, *([] if mine in path else [mine])]:
        found = hits(np.mean([members[name] for name in names], axis=0), labels, known, settings.top_k)
        total = known.sum(axis=1)
        recall = found.sum() / total.sum()
        rng = compute.rng(config.seed, "recall", dataset, source, *names)
        some = total > 0
        drawn = stats.resampled_sums(np.stack([found[some], total[some]], axis=1), rng, config.statistics.bootstrap)
        low, high = stats.percentile_interval(drawn[:, 0] / drawn[:, 1], config.statistics.confidence)
        role = CONFIGURED if names == mine else PATH
        if names in path and not suggested and recall >= settings.recall:
            suggested = True
            role = SUGGESTED if role == PATH else f"{CONFIGURED}, {SUGGESTED}"
        least = enough(np.mean([members[name] for name in names], axis=0), labels, known, settings.recall)
        rows.append((JOINT.join(names), len(names), recall, low, high, least, role))
    columns = ["ensemble", "n_models", "recall", "ci_low", "ci_high", "top_k_needed", "role"]
    return pd.DataFrame(rows, columns=columns).assign(
        dataset=dataset,
        label_source=source,
        top_k=min(settings.top_k, known.shape[1]),
        n_labels=int(known.sum()),
        n_images=int(known.any(axis=1).sum()),
    )
