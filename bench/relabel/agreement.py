"""How far annotators agree: label sets of two annotators on the same images, Krippendorff's alpha, and ticks by place.

The label set of an annotator on an image is the labels said yes to; an image on which nothing was ticked has the empty
set. Two sets differ where any label does (STUDIES.md 1c). Alpha is Krippendorff's (2011), with MASI as the distance of
two sets (Passonneau 2006): 1 - J M, J their Jaccard index, M = 1 where they are equal, 2/3 where one holds the other,
1/3 where they share something, 0 where they share nothing.

Sets are few or small, so the distances are kept as the sparse matrix of what is similar at all. The interval of alpha
is from the infinitesimal jackknife over images (Efron 1982), that is a normal one around the estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from bench import compute, stats
from bench.frames import Frame
from bench.relabel.events import ANSWERS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
ALL = "*"
"""In the place of both annotators: everyone together."""


@dataclass(frozen=True)
class Sets:
    """Label sets: the v-th is that of `annotator[v]` on `image[v]` (numbers), and its set is number `code[v]`.

    `similar` (D, D), sparse: 1 - MASI distance of the D different sets; `jaccard` (D, D), sparse.
    """

    image: Ints
    annotator: Ints
    code: Ints
    names: list[str]
    n_images: int
    similar: sparse.csr_array
    jaccard: sparse.csr_array


def sets_of(judged: Frame) -> Sets:
    """The label sets of answers: sample_id, class_id, annotator, action (yes | no | unsure)."""
    image, ids = pd.factorize(judged["sample_id"], sort=True)
    who, names = pd.factorize(judged["annotator"], sort=True)
    cell, inverse = np.unique(image.astype(np.int64) * len(names) + who, return_inverse=True)
    yes = (judged["action"] == "yes").to_numpy()
    classes, labels = pd.factorize(judged["class_id"].to_numpy()[yes], sort=True)
    pairs = np.unique(np.column_stack([inverse[yes], classes]), axis=0)
    bounds = np.searchsorted(pairs[:, 0], np.arange(len(cell) + 1))
    flat = pairs[:, 1].tolist()
    code, distinct = pd.factorize(pd.Series([tuple(flat[a:b]) for a, b in pairwise(bounds)]))
    similar, jaccard = _similarity(list(distinct), max(len(labels), 1))
    return Sets(cell // len(names), cell % len(names), code.astype(np.int64), list(names), len(ids), similar, jaccard)


def _similarity(distinct: list[tuple[int, ...]], n_labels: int) -> tuple[sparse.csr_array, sparse.csr_array]:
    """1 - MASI distance and Jaccard index of every two sets, sparse: sets that share nothing have 0."""
    sizes = np.array([len(one) for one in distinct], np.int64)
    columns = np.array([label for one in distinct for label in one], np.int64)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    member = sparse.csr_array((np.ones(len(columns), np.int64), columns, ends), shape=(len(distinct), n_labels))
    shared = (member @ member.T).tocoo()
    a, b, both = *shared.coords, shared.data
    union = sizes[a] + sizes[b] - both
    jaccard = both / union
    inside = (both == sizes[a]) | (both == sizes[b])
    factor = np.where((both == sizes[a]) & (both == sizes[b]), 1.0, np.where(inside, 2 / 3, 1 / 3))
    empty = np.flatnonzero(sizes == 0)
    rows, cols = np.concatenate([a, empty]), np.concatenate([b, empty])
    ones = np.ones(len(empty))
    shape = (len(distinct), len(distinct))
    return (
        sparse.csr_array((np.concatenate([jaccard * factor, ones]), (rows, cols)), shape=shape),
        sparse.csr_array((np.concatenate([jaccard, ones]), (rows, cols)), shape=shape),
    )


def _at(matrix: sparse.csr_array, rows: Ints, columns: Ints) -> Floats:
    """The entries at (rows, columns), (P,), which scipy gives as sparse or not."""
    found = matrix[rows, columns]
    return np.asarray(found.toarray() if sparse.issparse(found) else found, float).ravel()


@dataclass(frozen=True)
class Alpha:
    """Krippendorff's alpha and its standard error; NaN where there is nothing to disagree about."""

    value: float
    error: float

    def interval(self, confidence: float) -> tuple[float, float]:
        """A normal interval, within [-1, 1]."""
        half = stats.normal_quantile(confidence) * self.error
        return max(self.value - half, -1.0), min(self.value + half, 1.0)


def alpha(found: Sets, among: npt.NDArray[np.bool_] | None = None, focus: int | None = None) -> Alpha:
    """Krippendorff's alpha with MASI distance over images that two annotators or more saw.

    `among` (V,): the label sets to look at, by default all. With `focus`, the number of an annotator, over the images
    that this one and another saw, and only its pairs with others make the observed disagreement.
    """
    keep = np.ones(len(found.code), bool) if among is None else among
    image, who, code = found.image[keep], found.annotator[keep], found.code[keep]
    seen = np.bincount(image, minlength=found.n_images)
    mine = np.bincount(image, who == focus, minlength=found.n_images) if focus is not None else seen
    kept = (seen >= 2) & (mine > 0)
    some = kept[image]
    image, who, code = image[some], who[some], code[some]
    n = len(code)
    if not n:
        return Alpha(float("nan"), float("nan"))
    # Observed: of each image the mean distance of its pairs, times its number of values.
    units, image = np.unique(image, return_inverse=True)
    m = np.bincount(image)
    distance, pairs = np.zeros(len(units)), np.zeros(len(units))
    order = np.argsort(image, kind="stable")
    starts = np.concatenate([[0], np.cumsum(m)])[:-1]
    for i, j in combinations(range(int(m.max())), 2):
        full = np.flatnonzero(m > j)
        a, b = order[starts[full] + i], order[starts[full] + j]
        wanted = np.ones(len(full), bool) if focus is None else (who[a] == focus) | (who[b] == focus)
        full, a, b = full[wanted], a[wanted], b[wanted]
        distance[full] += 1 - _at(found.similar, code[a], code[b])
        pairs[full] += 1
    observed = m * distance / pairs
    # Expected: the mean distance of any two values, whoever gave them.
    counts = np.bincount(code, minlength=int(found.code.max()) + 1).astype(float)
    near = found.similar @ counts
    total = float(n * n - counts @ near)
    if total <= 1e-9:
        return Alpha(float("nan"), float("nan"))
    expected = total / (n * (n - 1))
    d_o = observed.sum() / n
    value = 1 - d_o / expected
    # What one image adds: the derivatives of both by its weight.
    by_o = (observed - m * d_o) / n
    by_total = 2 * (m * n - np.bincount(image, near[code]))
    by_e = by_total / (n * (n - 1)) - expected * m * (2 * n - 1) / (n * (n - 1))
    influence = -(by_o * expected - d_o * by_e) / expected**2
    return Alpha(float(value), float(np.sqrt((influence**2).sum())))


def agreement(judged: Frame, dataset: str, seed: int, draws: int, confidence: float) -> Frame:
    """Table `agreement` of one dataset: every two annotators with an image in common, and all together.

    judged: sample_id, class_id, annotator, action. No rows where no image was seen twice.
    """
    found = sets_of(judged)
    rows = []
    for a, b in combinations(range(len(found.names)), 2):
        of_a, of_b = (_of(found, who) for who in (a, b))
        both = np.flatnonzero((of_a >= 0) & (of_b >= 0))
        if len(both):
            one, other = of_a[both], of_b[both]
            jaccard = _at(found.jaccard, one, other)
            pair = alpha(found, np.isin(found.annotator, (a, b)))
            rows.append((found.names[a], found.names[b], one != other, jaccard, pair))
    seen = np.bincount(found.image, minlength=found.n_images)
    if rows:
        differ, jaccard = _of_all(found)
        rows.append((ALL, ALL, differ[seen >= 2], jaccard[seen >= 2], alpha(found)))
    out = []
    for a, b, differ, jaccard, pair in rows:
        n, k = len(differ), int(differ.sum())
        low, high = stats.wilson(k, n, confidence)
        rng = compute.rng(seed, a, b)
        ends = stats.bootstrap_mean(jaccard, rng, draws=draws, confidence=confidence)
        out.append((a, b, n, k, k / n, low, high, jaccard.mean(), *ends, pair.value, *pair.interval(confidence)))
    columns = ["annotator_a", "annotator_b", "n_images", "n_differ", "disagreement", "ci_low", "ci_high"]
    columns += ["jaccard", "jaccard_low", "jaccard_high", "alpha", "alpha_low", "alpha_high"]
    return pd.DataFrame(out, columns=columns).assign(dataset=dataset)


def _of(found: Sets, who: int) -> Ints:
    """The set of one annotator on each image, (images,), -1 where there is none."""
    out = np.full(found.n_images, -1, np.int64)
    mine = found.annotator == who
    out[found.image[mine]] = found.code[mine]
    return out


def _of_all(found: Sets) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Of each image, whether any two sets differ, and the mean Jaccard index of its pairs (NaN where it has none)."""
    order = np.argsort(found.image, kind="stable")
    m = np.bincount(found.image, minlength=found.n_images)
    starts = np.concatenate([[0], np.cumsum(m)])[:-1]
    differ, jaccard, pairs = np.zeros(found.n_images, bool), np.zeros(found.n_images), np.zeros(found.n_images)
    for i, j in combinations(range(int(m.max())), 2):
        full = np.flatnonzero(m > j)
        a, b = found.code[order[starts[full] + i]], found.code[order[starts[full] + j]]
        differ[full] |= a != b
        jaccard[full] += _at(found.jaccard, a, b)
        pairs[full] += 1
    return differ, np.divide(jaccard, pairs, out=np.full(found.n_images, np.nan), where=pairs > 0)


def annotators(judged: Frame, events: Frame, estimates: Frame, dataset: str) -> Frame:
    """Table `annotators` of one dataset.

    judged: sample_id, class_id, annotator, kind, action; events: table `votes`, for the time on an image; estimates:
    annotator, sensitivity, specificity. An annotator's alpha is over the images that others saw too.
    """
    found = sets_of(judged)
    rates = estimates.set_index("annotator")
    spent = events.loc[events["counts"] & events["action"].isin(ANSWERS) & (events["ms_spent"] > 0)]
    spent = spent.drop_duplicates(["annotator", "sample_id", "stage"])
    spent = spent.loc[spent["sample_id"].str.startswith(f"{dataset}/")].groupby("annotator")["ms_spent"].median()
    rows = []
    for number, name in enumerate(found.names):
        mine = judged.loc[judged["annotator"] == name]
        known = name in rates.index
        rows.append(
            {
                "annotator": name,
                "dataset": dataset,
                "kind": mine["kind"].iloc[0],
                "n_votes": len(mine),
                "n_images": mine["sample_id"].nunique(),
                "yes_share": (mine["action"] == "yes").mean(),
                "sensitivity": rates.at[name, "sensitivity"] if known else np.nan,
                "specificity": rates.at[name, "specificity"] if known else np.nan,
                "agreement_alpha": alpha(found, focus=number).value,
                "ms_median": float(spent.get(name, np.nan)),
            }
        )
    return pd.DataFrame(rows)


def tick_rates(judged: Frame, dataset: str, confidence: float) -> Frame:
    """Table `tick_rates` of one dataset. judged: annotator, action, rank_shown; labels searched for are left out."""
    shown = judged.loc[judged["rank_shown"].notna()]
    cell = shown.assign(rank=shown["rank_shown"].astype(int), yes=shown["action"] == "yes")
    counts = cell.groupby(["annotator", "rank"])["yes"].agg(n_shown="size", n_yes="sum").reset_index()
    low, high = stats.wilson(counts["n_yes"].to_numpy(), counts["n_shown"].to_numpy(), confidence)
    rate = counts["n_yes"] / counts["n_shown"]
    return counts.assign(dataset=dataset, rate=rate, ci_low=low, ci_high=high)
