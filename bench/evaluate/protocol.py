"""Study 3: what is left of an accuracy drop where two sets are compared on images of like uncertainty.

The published abstract (arXiv 2209.01848) names subsets chosen by uncertainty; the rules are this benchmark's own:

| rule | images that are compared |
|---|---|
| R0 | all |
| R1 | those at least as certain as tau, the q-quantile of uncertainty on the original: one threshold for both sets |
| R2 | the q most certain of each set by itself: one coverage for both sets |
| R3 | all (or those of R1), the other set weighted to the original's distribution over bins of uncertainty |
| R4 | those of which at least 90 % of the other models are certain (u <= tau, each its own), or on which they agree |
| R5 | all, decomposed over {certain, uncertain} at tau, or (q = 1) over bins of uncertainty |

Thresholds and bins are made from the original alone. Uncertainty is higher where a model is less sure; it may be of the
model itself, of one reference model, or of a pool. Images come in the order of the sha256 of their ids, which breaks
ties. Every row is decomposed over bins b (Kitagawa 1955; the composition and the within term of STUDIES' R5):

    gap = sum_b (w_b - w'_b) A_b  +  sum_b w'_b (A_b - A'_b)  =  composition + within

with w, A the shares and accuracies of the bins on the original and w', A' those on the other set, among the images that
the rule keeps. A bin without an image of the original joins the one below it. R3 leaves out bins that lack images of
one set and has the same shares on both sides; R0 and R4 have no bins: all of their gap is within. The split depends on
the bins (few leave much of the other set in the last) and on whose shares weigh the within term (R3: the original's).

Arrays only, no files: bench/evaluate/replication.py is the stage.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench import stats

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Weights = npt.NDArray[np.uint8]

BINS = 20
POOL_SHARE = 0.9
SMALLEST_POOL = 3
"""Models that a pool needs."""
TOGETHER = 8
"""Models that are worked off at a time."""


@dataclass(frozen=True)
class Replicates:
    """How often each of R replicates holds each image of two sets; replicate 0 holds every one once: the data.

    `a` (C, N, LANES), `b` (C, K, LANES): replicate c * LANES + l is lane l of chunk c (bench/evaluate/gap_kernels.py).
    `shared`: the two sets have images of the same source, so their replicates are drawn together. `clustered`: some
    images of one set have the same source.
    """

    a: Weights
    b: Weights
    r: int
    shared: bool
    clustered: bool = False

    @property
    def independent(self) -> bool:
        """Whether every image is drawn by itself."""
        return not (self.shared or self.clustered)

    def keep(self, a: Flags, b: Flags) -> Replicates:
        """The same replicates, of some of the images only, `a` (N,) and `b` (K,)."""
        first, second = np.ascontiguousarray(self.a[:, a]), np.ascontiguousarray(self.b[:, b])
        return Replicates(first, second, self.r, self.shared, self.clustered)


@dataclass(frozen=True)
class Pair:
    """M models on an original of N images and on another set of K, both in the order that breaks ties.

    `right_a` (M, N), `right_b` (M, K); `classes_a` (N,), `classes_b` (K,) original labels; `replicates`: how the images
    are resampled.
    """

    right_a: Flags
    right_b: Flags
    classes_a: Counts
    classes_b: Counts
    replicates: Replicates

    def keep(self, a: Flags, b: Flags) -> Pair:
        """The pair on some of its images only, `a` (N,) and `b` (K,)."""
        sides = self.right_a[:, a], self.right_b[:, b], self.classes_a[a], self.classes_b[b]
        return Pair(*sides, self.replicates.keep(a, b))


@dataclass(frozen=True)
class Found:
    """What one model does under some rules, a row a (rule, q) of `layout`.

    `accuracy_a`, `accuracy_b`, `composition` (rows,), in [0, 1]; NaN where a rule keeps no image of a set. `draws`
    (3, rows, R) float32: the same three in each replicate, the first of which is the data. `n_a`, `n_b` (rows,) images
    kept, `classes_a`, `classes_b` (rows,) the classes that these have, -1 for R3, which weighs images.
    """

    layout: tuple[tuple[str, float], ...]
    accuracy_a: Floats
    accuracy_b: Floats
    composition: Floats
    draws: npt.NDArray[np.float32]
    n_a: Counts
    n_b: Counts
    classes_a: Counts
    classes_b: Counts

    @property
    def gap(self) -> Floats:
        """(rows,)"""
        return self.accuracy_a - self.accuracy_b

    @property
    def gap_draws(self) -> npt.NDArray[np.float32]:
        """(rows, R - 1), without the data"""
        return self.draws[0, :, 1:] - self.draws[1, :, 1:]


def resample(origins_a: npt.ArrayLike, origins_b: npt.ArrayLike, rng: np.random.Generator, draws: int) -> Replicates:
    """`draws` bootstrap resamples of two sets, (N,) and (K,) ids of the source image of each image, after the data.

    Sources are resampled, each with all the images that a set has of it: both sets at once where they share any (what
    is common to both then cancels), else each set by itself.
    """
    a, b = np.asarray(origins_a), np.asarray(origins_b)
    if np.intersect1d(a, b).size:
        both = _drawn(np.concatenate([a, b]), rng, draws)
        first, second = (np.ascontiguousarray(weights) for weights in np.split(both, [len(a)], axis=1))
        return Replicates(first, second, 1 + draws, True)
    clustered = any(len(np.unique(origins)) < len(origins) for origins in (a, b))
    return Replicates(_drawn(a, rng, draws), _drawn(b, rng, draws), 1 + draws, False, clustered)


def _drawn(origins: npt.NDArray[np.str_], rng: np.random.Generator, draws: int) -> Weights:
    """(C, N, LANES); a count above 255, which no real set comes near, is held to that."""
    from bench.evaluate.gap_kernels import LANES

    _, source = np.unique(origins, return_inverse=True)
    n = int(source.max()) + 1 if len(source) else 0
    out = np.zeros((-(-(1 + draws) // LANES), len(source), LANES), np.uint8)
    out[0, :, 0] = 1
    for r in range(1, 1 + draws):
        counts = np.bincount(rng.integers(0, n, n), minlength=n)
        out[r // LANES, :, r % LANES] = np.minimum(counts, 255)[source]
    return out


@dataclass(frozen=True)
class Grid:
    """The shares of the original that are looked at: coverages below 1, and the ends of `bins` bins of equal size."""

    coverages: tuple[float, ...]
    shares: Floats
    kind: npt.NDArray[np.int64]

    @property
    def layout(self) -> tuple[tuple[str, float], ...]:
        """The rows of `by_uncertainty`: (rule, q)."""
        c = self.coverages
        return (
            ("R0", 1.0),
            *(("R1", q) for q in c),
            *(("R2", q) for q in c),
            *(("R3", q) for q in (*c, 1.0)),
            *(("R5", q) for q in (*c, 1.0)),
        )


def grid(coverages: Sequence[float], bins: int = BINS) -> Grid:
    """A grid of coverages, each above 0; 1 needs no mention, as all is what R0 keeps."""
    from bench.evaluate import gap_kernels

    ends = {round(b / bins, 9): b / bins for b in range(1, bins + 1)}  # 0.7 and 14 / 20 are one share
    wanted = {round(q, 9): float(q) for q in coverages if q != 1}
    if not all(0 < q < 1 for q in wanted):
        raise ValueError("a coverage is a share above 0 and at most 1")
    kinds = {(True, False): gap_kernels.COVERAGE, (False, True): gap_kernels.EDGE, (True, True): gap_kernels.BOTH}
    shares = sorted(wanted | ends)
    kind = np.array([kinds[share in wanted, share in ends] for share in shares])
    return Grid(tuple(wanted[q] for q in sorted(wanted)), np.array([(wanted | ends)[q] for q in shares]), kind)


def by_uncertainty(
    pair: Pair, unsure_a: npt.ArrayLike, unsure_b: npt.ArrayLike, over: Grid, *, threads: int = 1
) -> Iterator[Found]:
    """R0, R1, R2, R3 and R5 of every model in turn.

    unsure_a (M, N) and unsure_b (M, K): each model by its own uncertainty; (1, N) and (1, K): all by that of one. In
    each replicate, thresholds and bins are made anew from the original. Raises ValueError where an uncertainty is NaN,
    or a set has no image.
    """
    from bench.evaluate import gap_kernels

    a, b = np.asarray(unsure_a), np.asarray(unsure_b)
    _check_known(a, b)
    _check_images(pair.right_a, pair.right_b)
    layout = over.layout
    shared = _ordered(a[:1], b[:1]) if len(a) == 1 else None
    weighed = np.array([rule == "R3" for rule, _ in layout])
    for some in _batches(len(pair.right_a)):
        order = shared or _ordered(a[some], b[some])
        right = [
            np.take_along_axis(side[some], np.broadcast_to(places, side[some].shape), axis=1).view(np.uint8)
            for side, places in ((pair.right_a, order.a), (pair.right_b, order.b))
        ]
        orders = order.a, order.end, order.until, order.b
        out, data, sizes = _run(
            gap_kernels.passes, (*orders, *right), pair, layout, len(right[0]), threads, (over.shares, over.kind)
        )
        for m in range(len(out)):
            u = 0 if shared else m
            classes_a = np.where(weighed, -1, _classes(pair.classes_a[order.a[u]], sizes[m, 0]))
            classes_b = np.where(weighed, -1, _classes(pair.classes_b[order.b[u]], sizes[m, 1]))
            yield _found(layout, data[m], out[m], sizes[m], classes_a, classes_b)


def once(
    right_a: Flags, right_b: Flags, unsure_a: npt.ArrayLike, unsure_b: npt.ArrayLike, over: Grid, *, threads: int = 1
) -> tuple[Floats, Counts]:
    """`by_uncertainty` of the data alone, of all models at once, for who waits for it.

    Returns accuracy on the original, accuracy on the other set and composition, (M, 3, rows), and the images that are
    kept of each set, (M, 2, rows). Raises ValueError as `by_uncertainty`.
    """
    from bench.evaluate import gap_kernels

    a, b = np.asarray(unsure_a), np.asarray(unsure_b)
    _check_known(a, b)
    _check_images(right_a, right_b)
    models, rows = len(right_a), len(over.layout)
    data, sizes = np.empty((models, 3, rows)), np.empty((models, 2, rows), np.int64)

    def order(m: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        return np.argsort(a[m], kind="stable"), np.argsort(b[m], kind="stable")

    shared = order(0) if len(a) == 1 else None

    def one(m: int) -> None:
        u = 0 if shared else m
        order_a, order_b = shared or order(m)
        mine, theirs = right_a[m].view(np.uint8), right_b[m].view(np.uint8)
        gap_kernels.once(order_a, order_b, a[u], b[u], mine, theirs, over.shares, over.kind, data[m], sizes[m])

    if threads == 1:
        for m in range(models):
            one(m)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, range(models)))
    return data, sizes


def by_entry(
    pair: Pair, entry_a: npt.ArrayLike, entry_b: npt.ArrayLike, coverages: Sequence[float], *, threads: int = 1
) -> Iterator[Found]:
    """R4 of every model in turn: images that entered its subset by step 0, 1, ..., each step a coverage q.

    entry_a (M, N), entry_b (M, K): the first step at which an image is in the subset of a model, len(coverages) for
    never (`entry_of_certain`, `entry_of_agreed`). The subset stays as it is in all replicates.
    """
    from bench.evaluate import gap_kernels

    a, b = np.asarray(entry_a, np.int64), np.asarray(entry_b, np.int64)
    _check_images(pair.right_a, pair.right_b)
    layout = tuple(("R4", float(q)) for q in coverages)
    for some in _batches(len(pair.right_a)):
        entries, right = (a[some], b[some]), (pair.right_a[some].view(np.uint8), pair.right_b[some].view(np.uint8))
        out, data, sizes = _run(gap_kernels.entered, (*entries, *right), pair, layout, len(right[0]), threads)
        for m in range(len(out)):
            classes_a = _classes(pair.classes_a[np.argsort(entries[0][m], kind="stable")], sizes[m, 0])
            classes_b = _classes(pair.classes_b[np.argsort(entries[1][m], kind="stable")], sizes[m, 1])
            yield _found(layout, data[m], out[m], sizes[m], classes_a, classes_b)


def taus(unsure: npt.ArrayLike, coverages: Sequence[float]) -> Floats:
    """tau of each coverage (C,): the smallest value of `unsure` (N,) at or below which the share q of the images is."""
    values = np.sort(np.asarray(unsure, float))
    at = np.ceil(np.asarray(coverages, float) * len(values) - 1e-9).astype(np.int64)
    return values[np.maximum(at, 1) - 1]


def entry_of_certain(
    unsure_a: npt.ArrayLike,
    unsure_b: npt.ArrayLike,
    pools: Flags,
    coverages: Sequence[float],
    share: float = POOL_SHARE,
) -> tuple[Counts, Counts]:
    """When each image becomes one of which at least `share` of a pool is certain: (M, N) and (M, K), for `by_entry`.

    unsure_a (P, N), unsure_b (P, K) of the models that a pool may have; pools (M, P): whose pool has whom. A model is
    certain of an image at coverage q where its uncertainty is at most its own tau(q), made from the original.
    """
    if list(coverages) != sorted(coverages):
        raise ValueError("coverages must ascend")
    steps = len(coverages)
    sides: tuple[list[Counts], list[Counts]] = ([], [])
    for a, b in zip(np.asarray(unsure_a), np.asarray(unsure_b), strict=True):
        cuts = taus(a, coverages)
        for side, values in zip(sides, (a, b), strict=True):
            side.append(np.searchsorted(cuts, values, side="left"))
    need = np.ceil(share * pools.sum(axis=1) - 1e-9).astype(np.int64)
    first, second = (_entries(np.array(side), pools, need, steps) for side in sides)
    return first, second


def _entries(own: Counts, pools: Flags, need: Counts, steps: int) -> Counts:
    """When enough of each pool (M, P) are certain of each image, (M, N), from when each of them is, own (P, N)."""
    certain = np.stack([(own <= step).sum(axis=0) for step in range(steps)])  # (C, N) of all
    reached = {k: steps - (certain >= k).sum(axis=0) for k in {*need.tolist(), *(need + 1).tolist()}}
    out = np.empty((len(pools), own.shape[1]), np.int64)
    for m, pool in enumerate(pools):
        absent = np.flatnonzero(~pool)
        if len(absent) == 0:
            out[m] = reached[need[m]]
        elif len(absent) == 1:  # who is missing counts where certain before enough of all are: then one more is needed
            soon = reached[need[m]]
            out[m] = np.where(own[absent[0]] > soon, soon, reached[need[m] + 1])
        else:
            others = certain - (own[absent][:, None] <= np.arange(steps)[:, None]).sum(axis=0)
            out[m] = steps - (others >= need[m]).sum(axis=0)
    return out


def disagreement(pred: npt.ArrayLike, pools: Flags) -> Floats:
    """Of each image and pool, the share of the pool that does not give its most frequent answer: (M, N), in [0, 1).

    pred (P, N): class ids; pools (M, P): whose pool has whom, nobody empty. The variation ratio of the pool's answers
    (Freeman 1965): an uncertainty that needs nothing but answers.
    """
    from bench.evaluate import gap_kernels

    answers = np.ascontiguousarray(pred, np.int32)
    base = pools.any(axis=0)
    everybody = np.ascontiguousarray(answers[base])
    classes = int(answers.max()) + 1 if answers.size else 1
    first, count, second = (np.zeros(answers.shape[1], np.int32) for _ in range(3))
    gap_kernels.votes(everybody, classes, first, count, second)
    out = np.empty((len(pools), answers.shape[1]))
    for m, pool in enumerate(pools):
        absent = np.flatnonzero(base & ~pool)
        if len(absent) == 0:
            most = count
        elif len(absent) == 1:
            most = np.where(answers[absent[0]] == first, np.maximum(count - 1, second), count)
        else:
            most, others = np.zeros_like(count), np.zeros_like(count)
            gap_kernels.votes(np.ascontiguousarray(answers[pool]), classes, np.zeros_like(first), most, others)
        out[m] = 1 - most / pool.sum()
    return out


def entry_of_agreed(apart: npt.ArrayLike, share: float = POOL_SHARE) -> Counts:
    """0 for images on which at least `share` of a pool agree, 1 for others, (M, N); `apart`: as by `disagreement`."""
    return (np.asarray(apart) > 1 - share + 1e-9).astype(np.int64)


def kept(rule: str, q: float, unsure_a: npt.ArrayLike, unsure_b: npt.ArrayLike) -> tuple[Flags, Flags]:
    """Which images R1 or R2 keep, (N,) and (K,), from uncertainties (N,) and (K,) in the order that breaks ties.

    R3 and R5 are about the images that R1 keeps; R0 keeps all.
    """
    a, b = np.asarray(unsure_a), np.asarray(unsure_b)
    if rule == "R0" or q >= 1:
        return np.ones(len(a), bool), np.ones(len(b), bool)
    if rule == "R2":
        out = np.zeros(len(a), bool), np.zeros(len(b), bool)
        for flags, values in zip(out, (a, b), strict=True):
            flags[np.argsort(values, kind="stable")[: int(np.ceil(q * len(values) - 1e-9))]] = True
        return out
    tau = taus(a, [q])[0]
    return a <= tau, b <= tau


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its interval, (rows,) each; NaN where it is not known."""

    value: Floats
    low: Floats
    high: Floats


def of_draws(value: Floats, draws: npt.ArrayLike, confidence: float) -> Interval:
    """Values (rows,) with the percentile intervals of their draws (rows, D); NaN where the value is, or all draws."""
    ends = np.full((2, len(value)), np.nan)
    if np.shape(draws)[-1]:
        ends = stats.percentiles(draws, confidence)
        ends[:, np.isnan(value)] = np.nan
    return Interval(value, *ends)


def gaps(found: Found, dependent: bool, confidence: float) -> dict[str, Interval]:
    """`gap`, `composition` and `within` of a model, each with interval; `dependent`: some images share a source.

    In [-1, 1]. Intervals are those of the bootstrap, but for the gap of all images (R0, R5) of two sets of independent
    images, which has Newcombe's. Where a rule leaves a set no error, or nothing but errors, resampling finds no
    variation and would claim to know the gap exactly: the gap and the within term then have Newcombe's interval, and
    composition has none.
    """
    draws = found.gap_draws
    gap = of_draws(found.gap, draws, confidence)
    rules = np.array([rule for rule, _ in found.layout])
    binned = ~np.isin(rules, ["R0", "R3", "R4"])
    composed = found.draws[2, binned, 1:]
    some = of_draws(found.composition[binned], composed, confidence)
    rest = of_draws((found.gap - found.composition)[binned], draws[binned] - composed, confidence)
    composition = Interval(found.composition, np.zeros(len(rules)), np.zeros(len(rules)))
    within = Interval(found.gap - found.composition, gap.low.copy(), gap.high.copy())
    for whole, part in ((composition, some), (within, rest)):
        whole.low[binned], whole.high[binned] = part.low, part.high

    a, b = found.accuracy_a, found.accuracy_b
    saturated = np.isin(a, [0, 1]) | np.isin(b, [0, 1])
    saturated &= ~(dependent & (gap.low < gap.high)) & (draws.shape[1] > 0)
    analytic = saturated | (np.isin(rules, ["R0", "R5"]) & (not dependent))
    with np.errstate(invalid="ignore", divide="ignore"):
        ends = stats.newcombe(a * found.n_a, found.n_a, b * found.n_b, found.n_b, confidence)
    for mine, part, whole, end in (
        (gap.low, within.low, composition.low, ends[0]),
        (gap.high, within.high, composition.high, ends[1]),
    ):
        mine[analytic] = end[analytic]
        part[saturated | (analytic & ~binned)] = end[saturated | (analytic & ~binned)]
        whole[saturated & binned] = np.nan
    return {"gap": gap, "composition": composition, "within": within}


def label_term(top1: Found, any_of: Found, confidence: float) -> Interval:
    """gap(top1) - gap(any_of) of one model, row by row; both scorings of an image stay together in each replicate."""
    return of_draws(top1.gap - any_of.gap, top1.gap_draws - any_of.gap_draws, confidence)


def placebo(pair: Pair, model: int, found: Found, confidence: float) -> Interval:
    """The gap on a random subset of the same size, and the range in which it falls for most such subsets.

    The subset is the first images in the order of the sha256 of their ids. The range is that of two simple random
    samples without replacement (normal approximation): its middle is the gap of all images. NaN where a rule keeps all
    images, which leaves nothing to draw.
    """
    z = stats.normal_quantile(confidence)
    value, middle, variance = np.zeros(len(found.n_a)), 0.0, np.zeros(len(found.n_a))
    for sign, right, n in ((1, pair.right_a[model], found.n_a), (-1, pair.right_b[model], found.n_b)):
        total, size, p = np.append(0, np.cumsum(right)), len(right), right.mean()
        with np.errstate(invalid="ignore", divide="ignore"):
            value += sign * total[n] / n
            variance += p * (1 - p) / n * (size - n) / max(size - 1, 1)
        middle += sign * p
    half = z * np.sqrt(variance)
    low, high = middle - half, middle + half
    chosen = (found.n_a < pair.right_a.shape[1]) | (found.n_b < pair.right_b.shape[1])
    known = np.isfinite(found.gap) & chosen
    value, low, high = (np.where(known, part, np.nan) for part in (value, low, high))
    return Interval(value, low, high)


def error_ratio(found: Found) -> Floats:
    """(1 - A') / (1 - A) of each row; NaN where the original has no error."""
    a, b = 1 - found.accuracy_a, 1 - found.accuracy_b
    return np.divide(b, a, out=np.full(len(a), np.nan), where=a > 0)


def logit_gap(found: Found) -> Floats:
    """logit A - logit A' of each row; NaN where one of them is 0 or 1, which has no finite logit."""
    sides = found.accuracy_a, found.accuracy_b
    known = np.logical_and(*((side > 0) & (side < 1) for side in sides))
    out = np.full(len(known), np.nan)
    out[known] = np.subtract(*(stats.transform(side[known], "logit") for side in sides))
    return out


def _check_images(right_a: Flags, right_b: Flags) -> None:
    if not right_a.shape[1] or not right_b.shape[1]:
        raise ValueError("a set has no image to compare")


def _check_known(a: npt.NDArray, b: npt.NDArray) -> None:
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError("the uncertainty of some image is not known")


def _batches(models: int) -> Iterator[slice]:
    """Models by the few, so that what is known of all replicates is never in memory of all models."""
    for start in range(0, models, TOGETHER):
        yield slice(start, min(start + TOGETHER, models))


def _run(
    kernel: Callable[..., None],
    images: Sequence[npt.NDArray],
    pair: Pair,
    layout: Sequence[object],
    models: int,
    threads: int,
    more: Sequence[npt.NDArray] = (),
) -> tuple[npt.NDArray[np.float32], Floats, Counts]:
    """What a kernel finds of some models (`gap_kernels.passes`): out, data and sizes. Threads share the replicates."""
    drawn = pair.replicates
    out = np.empty((models, 3, len(layout), drawn.r), np.float32)
    data, sizes = np.empty((models, 3, len(layout))), np.empty((models, 2, len(layout)), np.int64)
    arguments = (*images, drawn.a, drawn.b, *more, out, data, sizes)
    cuts = np.linspace(0, len(drawn.a), min(threads, len(drawn.a)) + 1).astype(int).tolist()
    if len(cuts) == 2:
        kernel(*arguments, *cuts)
    else:
        with ThreadPoolExecutor(len(cuts) - 1) as pool:
            list(pool.map(lambda ends: kernel(*arguments, *ends), itertools.pairwise(cuts)))
    return out, data, sizes


def _found(
    layout: tuple[tuple[str, float], ...],
    data: Floats,
    draws: npt.NDArray[np.float32],
    sizes: Counts,
    classes_a: Counts,
    classes_b: Counts,
) -> Found:
    return Found(layout, data[0], data[1], data[2], draws, sizes[0], sizes[1], classes_a, classes_b)


@dataclass(frozen=True)
class _Order:
    """Two sets in the order of each of U uncertainties: as the arguments of `gap_kernels.passes`."""

    a: npt.NDArray[np.int32]
    end: npt.NDArray[np.int32]
    until: npt.NDArray[np.int32]
    b: npt.NDArray[np.int32]


def _ordered(unsure_a: npt.NDArray, unsure_b: npt.NDArray) -> _Order:
    a, b = (np.argsort(values, axis=1, kind="stable").astype(np.int32) for values in (unsure_a, unsure_b))
    end, until = np.empty_like(a), np.empty_like(a)
    for row, first, second in zip(range(len(a)), unsure_a, unsure_b, strict=True):
        values = first[a[row]]
        last = np.flatnonzero(np.append(values[1:] != values[:-1], True))
        end[row] = np.repeat(last, np.diff(last, prepend=-1))
        until[row] = np.searchsorted(second[b[row]], values, side="right")
    return _Order(a, end, until, b)


def _classes(labels: Counts, n: Counts) -> Counts:
    """How many classes the first n (rows,) of `labels` (N,) have."""
    first = np.full(int(labels.max()) + 1, len(labels), np.int64)
    first[labels[::-1]] = np.arange(len(labels))[::-1]  # the last one written is the first to occur
    return np.searchsorted(np.sort(first), n, side="left")
