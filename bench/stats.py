"""Intervals, tests and fits: the only home of statistics. Plain arrays in, plain arrays out; numpy and scipy only.

Proportions and accuracies are in [0, 1] here; who wants percentage points multiplies by 100. Everything random takes a
`numpy.random.Generator`, so the caller decides the seed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]
Scale = Literal["linear", "logit", "probit"]

MIN_EXPECTED = 5
"""The smallest expected count of a table for which the chi-square distribution is used (Cochran 1954)."""

_CELLS_AT_ONCE = 4_000_000
"""Resampled counts, or other numbers, held in memory at a time (32 MB)."""

_WEIGHTS_AT_ONCE = 8_000_000
"""Weights of rows held in memory at a time (32 MB in float32)."""


def normal_quantile(confidence: float) -> float:
    """z such that a standard normal variable is within -z ... z with probability `confidence`: 1.96 for 0.95."""
    return float(special.ndtri((1 + confidence) / 2))


def wilson(k: npt.ArrayLike, n: npt.ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Wilson's score interval of a proportion k / n, elementwise; (NaN, NaN) where n is 0.

    k successes of n trials, any broadcastable shapes. Source: Wilson 1927, as in Brown, Cai & DasGupta 2001.
    """
    k, n = np.broadcast_arrays(np.asarray(k, float), np.asarray(n, float))
    z2 = normal_quantile(confidence) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        p = k / n
        middle = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = np.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n**2))) / (1 + z2 / n)
        low, high = middle - half, middle + half
    low = np.where((k == 0) & (n > 0), 0.0, low)
    high = np.where((k == n) & (n > 0), 1.0, high)
    return low[()], high[()]


def newcombe(
    k_a: npt.ArrayLike, n_a: npt.ArrayLike, k_b: npt.ArrayLike, n_b: npt.ArrayLike, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Interval of p_a - p_b for two independent proportions, elementwise.

    Wilson's intervals of both, combined in quadrature: Newcombe 1998 (Statistics in Medicine 17:873), method 10.
    Not for the same images twice: see `bootstrap_paired` and `bootstrap_gap`.
    """
    k_a, n_a = np.asarray(k_a, float), np.asarray(n_a, float)
    k_b, n_b = np.asarray(k_b, float), np.asarray(n_b, float)
    (low_a, high_a), (low_b, high_b) = wilson(k_a, n_a, confidence), wilson(k_b, n_b, confidence)
    p_a, p_b = k_a / n_a, k_b / n_b
    low = p_a - p_b - np.hypot(p_a - low_a, high_b - p_b)
    high = p_a - p_b + np.hypot(high_a - p_a, p_b - low_b)
    return low, high


def resampled_sums(columns: npt.ArrayLike, rng: np.random.Generator, draws: int) -> Floats:
    """Sums of each column (N, C) over `draws` bootstrap resamples of its rows: (draws, C).

    Equal rows are drawn together: how often each distinct row comes up in a resample is multinomial, which is the same
    distribution as drawing N rows one by one, and far cheaper where a column is a flag. Memory is bounded.
    """
    columns = np.asarray(columns, float)
    rows, counts = np.unique(columns, axis=0, return_counts=True)
    total = int(counts.sum())
    chunk = max(1, _CELLS_AT_ONCE // len(rows))
    parts = [
        rng.multinomial(total, counts / total, size=min(chunk, draws - start)) @ rows
        for start in range(0, draws, chunk)
    ]
    return np.concatenate(parts, dtype=np.float64)


def percentile_interval(draws: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """The percentile bootstrap interval of a statistic from its values on resamples, (draws,)."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.asarray(draws, float), [tail, 1 - tail])
    return float(low), float(high)


def percentiles(draws: npt.ArrayLike, confidence: float = 0.95) -> Floats:
    """`percentile_interval` of many statistics, (..., draws) each: (2, ...), low and high. Draws that are NaN are left
    out; (NaN, NaN) where all are."""
    ordered = np.sort(draws, axis=-1)  # NaN last; numpy's sort is faster than its quantile here
    n = ordered.shape[-1] - np.isnan(ordered).sum(axis=-1, keepdims=True)
    tail = (1 - confidence) / 2
    ends = []
    for q in (tail, 1 - tail):
        at = q * np.maximum(n - 1, 0)
        below = np.floor(at).astype(np.int64)
        above = np.minimum(below + 1, np.maximum(n - 1, 0))
        low, high = (np.take_along_axis(ordered, place, axis=-1).astype(float) for place in (below, above))
        ends.append((low + (at - below) * (high - low))[..., 0])
    return np.array(ends)


def bootstrap_mean(
    values: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    clusters: npt.ArrayLike | None = None,
) -> Interval:
    """Percentile bootstrap interval of the mean of `values` (N,).

    With `clusters` (N,), whole clusters are resampled (several rows made from one source image are not independent).
    Raises ValueError where there are no values.
    """
    values = np.asarray(values, float)
    if not len(values):
        raise ValueError("the mean of no values has no interval")
    sums, sizes = _per_cluster(values, clusters)
    drawn = resampled_sums(np.column_stack([sums, sizes]), rng, draws)
    return percentile_interval(drawn[:, 0] / drawn[:, 1], confidence)


def bootstrap_share(
    values: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    clusters: npt.ArrayLike | None = None,
) -> Interval:
    """`bootstrap_mean` of flags or shares in [0, 1], (N,); Wilson's interval of as many as there are rows, or clusters,
    where all are 0, all are 1, or there is one: there a bootstrap sees no variation."""
    values = np.asarray(values, float)
    n = len(values) if clusters is None else len(np.unique(np.asarray(clusters)))
    if not values.any() or (values == 1).all() or n == 1:
        low, high = wilson(n * values.mean(), n, confidence)
        return float(low), float(high)
    return bootstrap_mean(values, rng, draws=draws, confidence=confidence, clusters=clusters)


def bootstrap_ratio(
    over: npt.ArrayLike,
    under: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    clusters: npt.ArrayLike | None = None,
) -> Interval:
    """Percentile bootstrap interval of sum(over) / sum(under), both (N,), which are resampled together, or by whole
    clusters (N,). (NaN, NaN) of one row or cluster: there a bootstrap sees no variation."""
    sums = np.column_stack([_per_cluster(np.asarray(one, float), clusters)[0] for one in (over, under)])
    if len(sums) == 1:
        return np.nan, np.nan
    drawn = resampled_sums(sums, rng, draws)
    return percentile_interval(drawn[:, 0] / drawn[:, 1], confidence)


def bootstrap_paired(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    clusters: npt.ArrayLike | None = None,
) -> Interval:
    """Interval of mean(a) - mean(b) where a and b (N,) are of the same images: resamples images, keeps the pairs."""
    difference = np.asarray(a, float) - np.asarray(b, float)
    return bootstrap_mean(difference, rng, draws=draws, confidence=confidence, clusters=clusters)


def bootstrap_paired_counts(
    only_a: int, only_b: int, n: int, rng: np.random.Generator, *, draws: int = 1000, confidence: float = 0.95
) -> Interval:
    """`bootstrap_paired` for right and wrong, from counts: of n images, those that only a or only b gets right."""
    drawn = rng.multinomial(n, [only_a / n, only_b / n, (n - only_a - only_b) / n], size=draws)
    return percentile_interval((drawn[:, 0] - drawn[:, 1]) / n, confidence)


def bootstrap_gap(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    clusters_a: npt.ArrayLike,
    clusters_b: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    draws: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Interval of mean(a) - mean(b) for two sets (N,) and (M,) that share some of their source images.

    Resamples source images, each with all that either set has of it, so what is common to both sets cancels. Resamples
    without any image of one of the sets are left out (they happen only where a set has a handful of images).
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    clusters = np.concatenate([np.asarray(clusters_a), np.asarray(clusters_b)])
    in_a = np.arange(len(clusters)) < len(a)
    flat = np.concatenate([a, b])
    _, position = np.unique(clusters, return_inverse=True)
    columns = [np.bincount(position, weights) for weights in (flat * in_a, in_a, flat * ~in_a, ~in_a)]
    drawn = resampled_sums(np.column_stack(columns), rng, draws)
    drawn = drawn[(drawn[:, 1] > 0) & (drawn[:, 3] > 0)]
    return percentile_interval(drawn[:, 0] / drawn[:, 1] - drawn[:, 2] / drawn[:, 3], confidence)


def bootstrap_class_balanced(
    k: npt.ArrayLike, n: npt.ArrayLike, rng: np.random.Generator, *, draws: int = 1000, confidence: float = 0.95
) -> Interval:
    """Interval of the mean over classes of k / n (C,): right ones among the images of each class, every n above 0.

    Stratified: each class is resampled on its own, as its size is by design; its right ones are then binomial.
    """
    k, n = np.asarray(k, np.int64), np.asarray(n, np.int64)
    return percentile_interval((rng.binomial(n, k / n, size=(draws, len(n))) / n).mean(axis=1), confidence)


def mantel_haenszel(
    k: npt.ArrayLike, n: npt.ArrayLike, k_ref: npt.ArrayLike, n_ref: npt.ArrayLike, confidence: float = 0.95
) -> tuple[Floats, Floats, Floats]:
    """The difference k / n - k_ref / n_ref within strata, pooled over them: its value, low and high.

    Arrays (..., C) of C strata; the last axis is summed over. Strata are weighted by n n_ref / (n + n_ref), so one
    that holds images of one kind only has no say; NaN where no stratum holds both. The variance is that of Sato 1989
    (Biometrics 45:1323), as in SAS PROC FREQ: it stays right for many strata of a few images each, where that of
    Greenland & Robins 1985 (Biometrics 41:55) is too small. The interval is (NaN, NaN) where no two outcomes differ.
    """
    k, n, k_ref, n_ref = np.broadcast_arrays(*(np.asarray(part, float) for part in (k, n, k_ref, n_ref)))
    share = np.where((n > 0) & (n_ref > 0), 1 / np.maximum(n + n_ref, 1), 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = (n * n_ref * share).sum(axis=-1)
        difference = ((k * n_ref - k_ref * n) * share).sum(axis=-1) / weight
        p = ((n**2 * k_ref - n_ref**2 * k + n * n_ref * (n_ref - n) / 2) * share**2).sum(axis=-1)
        q = ((k * (n_ref - k_ref) + k_ref * (n - k)) * share / 2).sum(axis=-1)
        variance = (difference * p + q) / weight**2
        half = normal_quantile(confidence) * np.sqrt(np.where(variance > 0, variance, np.nan))
    return difference, np.maximum(difference - half, -1.0), np.minimum(difference + half, 1.0)


def sign_test(up: npt.ArrayLike, down: npt.ArrayLike) -> Floats:
    """Two-sided exact p-values of the sign test, elementwise: `up` of up + down signs at 1/2; 1 where there is none.

    Zeros are not counted. Source: Arbuthnot 1710; Dixon & Mood 1946.
    """
    a, b = np.asarray(up, float), np.asarray(down, float)
    return np.minimum(1.0, 2 * special.bdtr(np.minimum(a, b), a + b, 0.5))


def mcnemar(only_a: npt.ArrayLike, only_b: npt.ArrayLike) -> Floats:
    """Two-sided exact McNemar p-values, elementwise, from the counts of images that only one of two models gets right.

    The sign test of only_a against only_b; 1 where there is no such image. Source: McNemar 1947.
    """
    return sign_test(only_a, only_b)


def holm(p_values: npt.ArrayLike) -> Floats:
    """Holm's step-down adjusted p-values (N,), which hold the family-wise error rate. Source: Holm 1979."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty_like(p)
    out[order] = np.minimum(adjusted, 1.0)
    return out


@dataclass(frozen=True)
class Places:
    """Places among M models, each an integer array (M,); 1 is best. Always low <= rank <= high."""

    rank: npt.NDArray[np.int64]
    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]


def places(better: npt.NDArray[np.bool_]) -> Places:
    """Ranks with ties, from `better` (M, M): better[i, j] where model i is surely better than model j.

    Models come in the order of their accuracy, best first, so `better` is true above its diagonal only.

    `low` = 1 + the models surely better, `high` = the models not surely worse: all places that the data leave open.
    `rank` is shared within tie groups: starting from the best, a group takes in the next model as long as no member is
    surely better than it; then a new group starts, whose rank is 1 + the models above it. So no two models that share a
    rank can be told apart. The reverse does not hold, as such ties are not transitive: the last of one group and the
    first of the next may be indistinguishable, which is what `low` and `high` show.
    """
    m = len(better)
    rank = np.ones(m, np.int64)
    start = 0
    for i in range(m):
        if better[start:i, i].any():
            start = i
        rank[i] = start + 1
    return Places(rank, 1 + better.sum(axis=0), m - better.sum(axis=1))


def transform(p: npt.ArrayLike, scale: Scale, n: npt.ArrayLike | None = None) -> Floats:
    """Proportions on a linear, logit (log-odds, natural) or probit (normal quantile) axis.

    0 and 1 have no finite place on the last two: with `n`, the images behind each, they are drawn in to 1/(2n) and
    1 - 1/(2n), otherwise to 1e-6 and 1 - 1e-6.
    """
    p = np.asarray(p, float)
    if scale == "linear":
        return p
    edge = 1e-6 if n is None else 1 / (2 * np.asarray(n, float))
    clipped = np.clip(p, edge, 1 - edge)
    return special.logit(clipped) if scale == "logit" else special.ndtri(clipped)


def untransform(value: npt.ArrayLike, scale: Scale) -> Floats:
    """The inverse of `transform`."""
    value = np.asarray(value, float)
    return {"linear": lambda v: v, "logit": special.expit, "probit": special.ndtr}[scale](value)


@dataclass(frozen=True)
class Line:
    """A line fitted on the axes of `scale`, and its band; x, y, low, high (G,) are proportions again."""

    scale: Scale
    slope: float
    slope_low: float
    slope_high: float
    intercept: float
    r2: float
    n: int
    x: Floats
    y: Floats
    low: Floats
    high: Floats


def fit_line(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    scale: Scale = "logit",
    n: npt.ArrayLike | None = None,
    draws: int = 1000,
    confidence: float = 0.95,
    points: int = 50,
) -> Line:
    """Least squares of accuracy y (M,) on accuracy x (M,), after `transform`, with a pointwise bootstrap band.

    The band and the interval of the slope come from resampling models (rows), as in Miller et al. 2021 and
    Taori et al. 2020; models share images and kin, so it says how the line depends on the choice of models, no more.
    Resamples whose x are all one value are left out. Raises ValueError for fewer than three models, or one x for all.
    """
    u, v = transform(x, scale, n), transform(y, scale, n)
    m = len(u)
    if m < 3 or not np.ptp(u) > 0 or not np.isfinite(v).all():
        raise ValueError("a line needs at least three models with different accuracies, all known")
    slope, intercept = _least_squares(u, v, np.ones((1, m)))
    residual = v - (intercept + slope * u)
    spread = ((v - v.mean()) ** 2).sum()
    weights = rng.multinomial(m, np.full(m, 1 / m), size=draws).astype(float)
    slopes, intercepts = _least_squares(u, v, weights)
    kept = np.isfinite(slopes)
    grid = np.linspace(u.min(), u.max(), points)
    lines = intercepts[kept, None] + slopes[kept, None] * grid
    tail = (1 - confidence) / 2
    low, high = np.quantile(lines, [tail, 1 - tail], axis=0)
    slope_low, slope_high = percentile_interval(slopes[kept], confidence)
    return Line(
        scale=scale,
        slope=float(slope[0]),
        slope_low=slope_low,
        slope_high=slope_high,
        intercept=float(intercept[0]),
        r2=float(1 - (residual**2).sum() / spread) if spread > 0 else float("nan"),
        n=m,
        x=untransform(grid, scale),
        y=untransform(intercept + slope * grid, scale),
        low=untransform(low, scale),
        high=untransform(high, scale),
    )


def predicted_by_others(
    x: npt.ArrayLike, y: npt.ArrayLike, fitted: npt.ArrayLike, scale: Scale = "logit", n: tuple[int, int] | None = None
) -> Floats:
    """Accuracies (M, ...) that the line of the other models gives at `x` (M, ...), for each column by itself.

    Least squares of y on x, after `transform`, over the models that are `fitted` (M,), each of which is left out of its
    own line (its residual over 1 - leverage); `n`: images behind x and behind y. y minus this is effective robustness,
    Taori et al. 2020, with the other models as the baseline. NaN where x does not vary. Raises ValueError for fewer
    than four models to fit: a line through two points leaves nothing to compare with.
    """
    fitted = np.asarray(fitted, bool)
    if fitted.sum() < 4:
        raise ValueError("effective robustness needs at least four models with a line through the others")
    ends = (None, None) if n is None else n
    u, v = transform(x, scale, ends[0]), transform(y, scale, ends[1])
    mean_u, mean_v = u[fitted].mean(axis=0), v[fitted].mean(axis=0)
    du, dv = u - mean_u, v - mean_v
    square = (du[fitted] ** 2).sum(axis=0)
    square = np.where(square > 1e-12 * np.maximum(1.0, (u[fitted] ** 2).max(axis=0)), square, np.nan)
    slope = (du[fitted] * dv[fitted]).sum(axis=0) / square
    residual = dv - slope * du
    leverage = 1 / fitted.sum() + du**2 / square
    with np.errstate(invalid="ignore", divide="ignore"):
        left_out = residual / np.where(leverage < 1 - 1e-12, 1 - leverage, np.nan)
    shape = (-1, *[1] * (u.ndim - 1))
    return untransform(v - np.where(fitted.reshape(shape), left_out, residual), scale)


def spearman(x: npt.ArrayLike, y: npt.ArrayLike, rng: np.random.Generator, permutations: int = 9999) -> Interval:
    """Spearman's rank correlation of x and y (N,), and its two-sided permutation p = (1 + hits) / (1 + permutations).

    Ties get their mean rank. (NaN, NaN) where one side is constant. Source of the p: Phipson & Smyth 2010.
    """
    a, b = _standard_ranks(x), _standard_ranks(y)
    rho = float(a @ b)
    if not np.isfinite(rho):
        return float("nan"), float("nan")
    hits, done = 0, 0
    chunk = max(1, _CELLS_AT_ONCE // len(b))
    while done < permutations:
        size = min(chunk, permutations - done)
        shuffled = rng.permuted(np.broadcast_to(b, (size, len(b))), axis=1)
        hits += int((np.abs(shuffled @ a) >= abs(rho) - 1e-12).sum())
        done += size
    return rho, (1 + hits) / (1 + permutations)


@dataclass(frozen=True)
class Correlations:
    """Spearman's correlation of one number with M flags, (M,) each; NaN where one side is constant."""

    rho: Floats
    low: Floats
    high: Floats


def spearman_flags(
    values: npt.ArrayLike,
    flags: npt.ArrayLike,
    strata: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    draws: int = 1000,
    confidence: float = 0.95,
) -> tuple[Correlations, Correlations]:
    """Spearman's correlation of `values` (N,) with each of `flags` (M, N): over all rows, and within `strata` (N,).

    Within strata, both mean ranks (over all rows) are centred in each stratum before they are correlated, so what
    differs from one stratum to the next has no say. Intervals: percentile bootstrap over rows, ranked anew in each
    resample; all flags share the resamples. Sums are of whole numbers, hence the same in whatever order they are made.
    Raises ValueError where there are no rows.
    """
    m, n = np.shape(flags)
    if not n:
        raise ValueError("no rows have no correlation")
    cells = _cells(values, flags, strata)
    points = _spearman_weighted(cells, np.ones((1, n), np.float32))
    chunk = max(1, _WEIGHTS_AT_ONCE // n)
    parts = []
    for start in range(0, draws, chunk):
        weights = [np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(min(chunk, draws - start))]
        parts.append(_spearman_weighted(cells, np.array(weights, np.float32)))
    tail = (1 - confidence) / 2
    out = []
    for (rho,), drawn in zip(points, map(np.concatenate, zip(*parts, strict=True)), strict=True):
        known = np.isfinite(rho) & np.isfinite(drawn).any(axis=0)
        ends = np.full((2, m), np.nan)
        if known.any():
            ends[:, known] = np.nanquantile(drawn[:, known], [tail, 1 - tail], axis=0)
        out.append(Correlations(rho, *ends))
    return out[0], out[1]


@dataclass(frozen=True)
class Homogeneity:
    """A test of equal shares: its p, the smallest expected count, and the random tables that p was counted in; 0 where
    it is the chi-square approximation."""

    p: float
    least_expected: float
    permutations: int


def homogeneity(counts: npt.ArrayLike, rng: np.random.Generator, permutations: int = 9999) -> Homogeneity | None:
    """Do two sets have the same shares? Counts (2, C) of C classes; classes that neither set has are left out.

    Pearson's chi-square without continuity correction; where an expected count is below MIN_EXPECTED, p is that of the
    same statistic over random tables with the same margins, (1 + hits) / (1 + permutations) (Phipson & Smyth 2010).
    None where there is nothing to compare: fewer than two classes, or an empty set.
    """
    table = np.asarray(counts, np.int64)
    table = table[:, table.sum(axis=0) > 0]
    sizes, totals = table.sum(axis=1), table.sum(axis=0)
    if len(totals) < 2 or not sizes.all():
        return None
    expected = np.outer(sizes, totals) / sizes.sum()
    least = float(expected.min())
    if least >= MIN_EXPECTED:
        square = ((table - expected) ** 2 / expected).sum()
        return Homogeneity(float(special.chdtrc(len(totals) - 1, square)), least, 0)
    # With both margins fixed the statistic is a rising function of the sum over classes of n_1^2 / total.
    observed = float((table[0] ** 2 / totals).sum()) * (1 - 1e-12)
    hits, step = 0, max(1, _CELLS_AT_ONCE // len(totals))
    for start in range(0, permutations, step):
        size = min(step, permutations - start)
        drawn = rng.multivariate_hypergeometric(totals, int(sizes[0]), size=size, method="marginals")
        hits += int(((drawn**2 / totals).sum(axis=1) >= observed).sum())
    return Homogeneity((1 + hits) / (1 + permutations), least, permutations)


def poisson_binomial(p: npt.ArrayLike) -> Floats:
    """How many of independent events with chances p (P,) happen: the chance of each number, (P + 1,)."""
    out = np.ones(1)
    for chance in np.asarray(p, float):
        out = np.convolve(out, [1 - chance, chance])
    return out


def dimension(squares: float, probes: int, most: int, confidence: float = 0.95) -> int:
    """Upper bound, up to `most`, of the dimension of a space in which `probes` standard normal vectors have squared
    lengths that add up to at most `squares`: over `probes` vectors they are chi-squared with `probes` times as many
    degrees of freedom as it has dimensions, and a larger one would hold more with a chance of `confidence`."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        fits = special.chdtr(probes * middle, squares) >= 1 - confidence
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def auroc(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """The chance that a value of `positive` (N,) is larger than one of `negative` (M,), ties counted half: the area
    under the ROC curve (Hanley & McNeil 1982). Raises ValueError where one side is empty."""
    a, b = np.asarray(positive, float), np.asarray(negative, float)
    if not len(a) or not len(b):
        raise ValueError("an area under a curve needs both classes")
    ordered = np.sort(b)
    wins = np.searchsorted(ordered, a, side="left") + np.searchsorted(ordered, a, side="right")
    return float(wins.mean() / (2 * len(b)))


def bootstrap_auroc(
    positive: npt.ArrayLike,
    negative: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    draws: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of the mean over seeds of `auroc`, from values (S, N) on N pairs of images: a pair
    is drawn as one, as what was made of an image is not independent of it."""
    a, b = np.atleast_2d(np.asarray(positive, float)), np.atleast_2d(np.asarray(negative, float))
    n = a.shape[1]
    wins = np.zeros((n, n))
    for ours, theirs in zip(a, b, strict=True):
        wins += (ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs)
    wins /= len(a)
    chunk = max(1, _CELLS_AT_ONCE // n)
    parts = []
    for start in range(0, draws, chunk):
        weights = rng.multinomial(n, np.full(n, 1 / n), size=min(chunk, draws - start)).astype(float)
        parts.append(np.einsum("bi,bi->b", weights @ wins, weights) / n**2)
    return percentile_interval(np.concatenate(parts), confidence)


def standardised_difference(
    a: npt.ArrayLike, b: npt.ArrayLike, clusters_a: npt.ArrayLike, clusters_b: npt.ArrayLike, confidence: float = 0.95
) -> tuple[float, float, float] | None:
    """mean(b) - mean(a) for two sets (N,) and (M,), in pooled standard deviations (Cohen 1988): its value, low, high.

    A normal interval whose variance sums over clusters, (N,) and (M,): rows made from one source image, in either set,
    vary together (Liang & Zeger 1986). Where no rows share one it is Welch's. None where nothing varies within a set.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    off_a, off_b = a - a.mean(), b - b.mean()
    n, m, spread = len(a), len(b), float(off_a @ off_a + off_b @ off_b)
    if spread < 1e-12 * (n + m):
        return None
    _, position = np.unique(np.concatenate([np.asarray(clusters_a), np.asarray(clusters_b)]), return_inverse=True)
    share = np.bincount(position, np.concatenate([-off_a / n, off_b / m]))
    deviation = np.sqrt(spread / (n + m - 2))
    difference = float((b.mean() - a.mean()) / deviation)
    half = float(normal_quantile(confidence) * np.sqrt(share @ share) / deviation)
    return difference, difference - half, difference + half


def rarefied(counts: npt.ArrayLike, n: int, m: int) -> Floats:
    """The chance (N,) to meet at least one of k things among m random ones of n; k is `counts` (N,), at most n.

    1 - C(n - k, m) / C(n, m), the rarefaction of Hurlbert 1971: so sets of unlike size compare.
    """
    kinds, position = np.unique(np.asarray(counts), return_inverse=True)
    left = np.maximum(n - kinds - m, 0)
    log = special.gammaln(n - kinds + 1) + special.gammaln(n - m + 1)
    log -= special.gammaln(left + 1) + special.gammaln(n + 1)
    chance = np.where(n - kinds < m, 1.0, np.where(kinds > 0, 1 - np.exp(log), 0.0))
    return np.clip(chance, 0.0, 1.0)[position]


def row_correlations(a: npt.ArrayLike, b: npt.ArrayLike, row: npt.ArrayLike, column: npt.ArrayLike) -> Floats:
    """Pearson's correlation (P,) of row `row` (P,) of `a` (N, D) with row `column` (P,) of `b` (M, D).

    0 where one of the two does not vary. Memory is bounded.
    """
    a, b, row, column = (np.asarray(part) for part in (a, b, row, column))
    out = np.zeros(len(row))
    step = max(1, _CELLS_AT_ONCE // a.shape[1])
    for start in range(0, len(row), step):
        here = slice(start, start + step)
        x, y = a[row[here]].astype(float), b[column[here]].astype(float)
        x -= x.mean(axis=1, keepdims=True)
        y -= y.mean(axis=1, keepdims=True)
        length = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
        np.divide((x * y).sum(axis=1), length, out=out[here], where=length > 1e-6)
    return out


def _per_cluster(values: Floats, clusters: npt.ArrayLike | None) -> tuple[Floats, Floats]:
    if clusters is None:
        return values, np.ones_like(values)
    _, position = np.unique(np.asarray(clusters), return_inverse=True)
    return np.bincount(position, values).astype(float), np.bincount(position).astype(float)


def _least_squares(u: Floats, v: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Slopes and intercepts (B,) of v on u under each row of weights (B, M); NaN where u does not vary."""
    total = weights.sum(axis=1)
    mean_u, mean_v = weights @ u / total, weights @ v / total
    var = weights @ (u * u) / total - mean_u**2
    cov = weights @ (u * v) / total - mean_u * mean_v
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = np.where(var > 1e-12 * max(1.0, float((u * u).max())), cov / var, np.nan)
    return slope, mean_v - slope * mean_u


def _standard_ranks(x: npt.ArrayLike) -> Floats:
    """Mean ranks, centred and of unit length, so that a dot product is a correlation; NaN for a constant."""
    _, position, counts = np.unique(np.asarray(x, float), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[position]
    centred = ranks - ranks.mean()
    length = np.linalg.norm(centred)
    return centred / length if length > 0 else np.full(len(centred), np.nan)


@dataclass(frozen=True)
class _Cells:
    """Rows sorted by stratum, then by value; a cell is a run of rows (start, stop) that share both."""

    start: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]
    value: npt.NDArray[np.int64]
    """place of the cell's value among all"""
    first: npt.NDArray[np.int64]
    """first cell of each stratum"""
    flags: npt.NDArray[np.float32]
    """(N, M)"""


def _cells(values: npt.ArrayLike, flags: npt.ArrayLike, strata: npt.ArrayLike) -> _Cells:
    _, value = np.unique(np.asarray(values), return_inverse=True)
    _, stratum = np.unique(np.asarray(strata), return_inverse=True)
    order = np.lexsort((value, stratum))
    value, stratum = value[order], stratum[order]
    starts = np.append(True, (np.diff(stratum) != 0) | (np.diff(value) != 0))
    start = np.flatnonzero(starts)
    first = np.flatnonzero(np.append(True, np.diff(stratum[start]) != 0))
    ordered = np.asarray(flags, bool)[:, order].T.astype(np.float32)
    return _Cells(start, np.append(start[1:], len(order)), value[start], first, ordered)


def _spearman_weighted(cells: _Cells, weights: npt.NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Correlations (B, M) over all rows and within strata, each row counted `weights` (B, N) times; NaN for constants.

    float32 holds the counts exactly (they are below 2 ** 24), float64 the doubled ranks, which are whole numbers.
    """
    draws, m = len(weights), cells.flags.shape[1]
    counts = np.add.reduceat(weights, cells.start, axis=1, dtype=np.float64)  # (B, cells)
    members = np.add.reduceat(counts, cells.first, axis=1)  # (B, strata)
    margin = counts @ np.eye(int(cells.value.max()) + 1)[cells.value]  # (B, values)
    total = margin.sum(axis=1, keepdims=True)
    rank = 2 * np.cumsum(margin, axis=1) - margin - total  # twice the mean rank, centred
    ranked = np.add.reduceat(counts * rank[:, cells.value], cells.first, axis=1)
    share = 1 / np.maximum(members, 1)
    hits = np.zeros((margin.shape[1], draws, m))
    cov_between, var_between = np.zeros((draws, m)), np.zeros((draws, m))
    for stratum, (first, end) in enumerate(itertools.pairwise([*cells.first, len(cells.start)])):
        here = np.zeros((draws, m))
        for cell in range(first, end):
            rows = slice(cells.start[cell], cells.stop[cell])
            found = weights[:, rows] @ cells.flags[rows]
            hits[cells.value[cell]] += found
            here += found
        mean = here * share[:, stratum, None]
        cov_between += ranked[:, stratum, None] * mean
        var_between += here * mean
    right = hits.sum(axis=0)
    cov = np.einsum("bs,sbm->bm", rank, hits)
    square = (margin * rank**2).sum(axis=1, keepdims=True)
    pooled = _ratio(cov, square, right - right**2 / total, square, right)
    inside = square - (ranked**2 * share).sum(axis=1, keepdims=True)
    return pooled, _ratio(cov - cov_between, inside, right - var_between, square, right)


def _ratio(cov: Floats, var_x: Floats, var_y: Floats, scale_x: Floats, scale_y: Floats) -> Floats:
    """A correlation from sums of squares; NaN where one of them is nothing but rounding."""
    real = (var_x > 1e-9 * scale_x) & (var_y > 1e-9 * scale_y)
    return np.clip(np.divide(cov, np.sqrt(np.abs(var_x * var_y)), out=np.full(cov.shape, np.nan), where=real), -1, 1)
