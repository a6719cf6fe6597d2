"""The rules of study 3 against loops over images, one after the other."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.proportion import confint_proportions_2indep

from bench import stats
from bench.evaluate import gap_kernels, protocol
from bench.evaluate.protocol import Found, Pair, Replicates

Image = tuple[float, int]
"""uncertainty, right (0 or 1); in the order that breaks ties"""


def _accuracy(images: list[Image]) -> float:
    return sum(right for _, right in images) / len(images) if images else math.nan


def _tau(images: list[Image], q: float) -> float:
    return sorted(u for u, _ in images)[math.ceil(q * len(images) - 1e-9) - 1]


def _surest(images: list[Image], q: float) -> list[Image]:
    """Python's sort is stable, so images of equal uncertainty stay in their order."""
    return sorted(images, key=lambda image: image[0])[: math.ceil(q * len(images) - 1e-9)]


def _decomposed(a: list[Image], b: list[Image], ends: list[float]) -> tuple[float, float]:
    """Composition and within term over the bins (-inf, ends[0]], (ends[0], ends[1]], ..., by their definition."""
    bins: list[tuple[list[Image], list[Image]]] = []
    for low, high in itertools.pairwise([-math.inf, *sorted(set(ends)), math.inf]):
        mine, theirs = ([i for i in side if low < i[0] <= high] for side in (a, b))
        if mine or not bins:
            bins.append((mine, theirs))
        else:  # without an image of the original: joins the bin below
            bins[-1] = (bins[-1][0], bins[-1][1] + theirs)
    composition = within = 0.0
    for mine, theirs in bins:
        share_a, share_b = len(mine) / len(a), len(theirs) / len(b)
        composition += (share_a - share_b) * _accuracy(mine)
        within += share_b * (_accuracy(mine) - _accuracy(theirs)) if theirs else 0.0
    return composition, within


def _matched(a: list[Image], b: list[Image], ends: list[float]) -> tuple[float, float]:
    """Accuracies over the bins that hold images of both sets, weighted as in the original; (NaN, NaN) without one."""
    total, first, second = 0, 0.0, 0.0
    for low, high in itertools.pairwise([-math.inf, *sorted(set(ends)), math.inf]):
        mine, theirs = ([i for i in side if low < i[0] <= high] for side in (a, b))
        if mine and theirs:
            total += len(mine)
            first += len(mine) * _accuracy(mine)
            second += len(mine) * _accuracy(theirs)
    return (first / total, second / total) if total else (math.nan, math.nan)


def _expected(rule: str, q: float, a: list[Image], b: list[Image], bins: int) -> tuple[float, float, float, float]:
    """Accuracy on both sets, composition, within."""
    tau = math.inf if q == 1 else _tau(a, q)
    below = [[i for i in side if i[0] <= tau] for side in (a, b)]
    edges = [_tau(a, e / bins) for e in range(1, bins)]
    if rule == "R0":
        gap = _accuracy(a) - _accuracy(b)
        return _accuracy(a), _accuracy(b), 0.0, gap
    if rule == "R3":
        first, second = _matched(*below, [e for e in edges if e <= tau])
        return first, second, 0.0 * first, first - second
    if rule == "R5":
        return _accuracy(a), _accuracy(b), *_decomposed(a, b, edges if q == 1 else [tau])
    kept_a, kept_b = below if rule == "R1" else (_surest(a, q), _surest(b, q))
    if not kept_a or not kept_b:
        return (math.nan,) * 4
    # the last bin ends where the original's own images end; what of the other set lies beyond belongs to it
    top = max(u for u, _ in kept_a)
    return _accuracy(kept_a), _accuracy(kept_b), *_decomposed(kept_a, kept_b, [e for e in edges if e < top])


def _case(seed: int, n: int, k: int, levels: int, draws: int = 3) -> tuple[Pair, np.ndarray, np.ndarray]:
    """Two sets of two models whose uncertainty has so many levels, and tells something of who is right."""
    rng = np.random.default_rng(seed)
    unsure = [rng.integers(0, levels, (2, size)) / levels for size in (n, k)]
    right = [rng.random(u.shape) > 0.8 * u for u in unsure]
    sources = [[f"{side}/{i // 2}" for i in range(size)] for side, size in (("a", n), ("b", k))]
    replicates = protocol.resample(*sources, rng, draws)
    classes = [rng.integers(0, 4, size) for size in (n, k)]
    return Pair(*right, *classes, replicates), unsure[0], unsure[1]


def _weights(replicates: Replicates, r: int) -> tuple[np.ndarray, np.ndarray]:
    chunk, lane = divmod(r, gap_kernels.LANES)
    return replicates.a[chunk, :, lane], replicates.b[chunk, :, lane]


def _images(unsure: np.ndarray, right: np.ndarray, weights: np.ndarray) -> list[Image]:
    """The images of a replicate; its copies of an image stand side by side."""
    return [(float(u), int(r)) for u, r, w in zip(unsure, right, weights, strict=True) for _ in range(w)]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 70),
    k=st.integers(1, 70),
    levels=st.sampled_from([1, 2, 5, 1000]),
    bins=st.sampled_from([1, 3, 20]),
)
def test_every_rule_of_every_replicate_is_what_a_loop_finds(seed: int, n: int, k: int, levels: int, bins: int) -> None:
    pair, unsure_a, unsure_b = _case(seed, n, k, levels)
    over = protocol.grid([0.3, 0.5, 0.77, 1.0], bins)
    found = list(protocol.by_uncertainty(pair, unsure_a, unsure_b, over))
    assert [f.layout for f in found] == [over.layout] * 2
    for m, r in itertools.product(range(2), range(pair.replicates.r)):
        weights = _weights(pair.replicates, r)
        a, b = (
            _images(u[m], right[m], w)
            for u, right, w in zip((unsure_a, unsure_b), (pair.right_a, pair.right_b), weights, strict=True)
        )
        for row, (rule, q) in enumerate(over.layout):
            first, second, composition, within = _expected(rule, q, a, b, bins)
            got = found[m].draws[:, row, r]
            assert got == pytest.approx([first, second, composition], abs=1e-6, nan_ok=True), (rule, q)
            assert math.isnan(first) or composition + within == pytest.approx(first - second, abs=1e-12)
            if r == 0:
                assert found[m].accuracy_a[row] == pytest.approx(first, abs=1e-12, nan_ok=True)
                assert found[m].accuracy_b[row] == pytest.approx(second, abs=1e-12, nan_ok=True)
                if not math.isnan(first):
                    assert found[m].composition[row] == pytest.approx(composition, abs=1e-12)
                    assert found[m].gap[row] - found[m].composition[row] == pytest.approx(within, abs=1e-12)


LANES = gap_kernels.LANES
COVERAGES = (0.3, 0.5, 0.77, 1.0)


def _replicates(a: np.ndarray, b: np.ndarray, *, shared: bool = False) -> Replicates:
    """Replicates from how often each of R holds each image, (R, N) and (R, K)."""

    def packed(weights: np.ndarray) -> np.ndarray:
        out = np.zeros((-(-len(weights) // LANES), weights.shape[1], LANES), np.uint8)
        for r, row in enumerate(weights):
            out[r // LANES, :, r % LANES] = row
        return out

    return Replicates(packed(a), packed(b), len(a), shared)


def _pair_of(
    right_a: npt.ArrayLike, right_b: npt.ArrayLike, *, draws: int = 0, seed: int = 0, copies: bool = False
) -> Pair:
    """Models (M, N) and (M, K) on images of one class, each its own source; `copies`: the sets are of the same."""
    a, b = np.atleast_2d(np.asarray(right_a, bool)), np.atleast_2d(np.asarray(right_b, bool))
    names = [[f"{side}/{i}" for i in range(x.shape[1])] for side, x in (("a", a), ("a" if copies else "b", b))]
    drawn = protocol.resample(*names, np.random.default_rng(seed), draws)
    return Pair(a, b, np.zeros(a.shape[1], np.int64), np.zeros(b.shape[1], np.int64), drawn)


def _same(one: Found, other: Found) -> None:
    """Equal to the last bit, NaN included."""
    assert one.layout == other.layout
    for name in ("accuracy_a", "accuracy_b", "composition", "draws", "n_a", "n_b", "classes_a", "classes_b"):
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name


def _row(found: Found, rule: str, q: float) -> int:
    return found.layout.index((rule, q))


def _replicate_is(found: Found, r: int, a: list[Image], b: list[Image], bins: int) -> None:
    """One replicate of one model, against the definition."""
    for row, (rule, q) in enumerate(found.layout):
        first, second, composition, _ = _expected(rule, q, a, b, bins)
        assert found.draws[:, row, r] == pytest.approx([first, second, composition], abs=1e-6, nan_ok=True), (rule, q)


def test_replicates_of_all_chunks_are_what_a_loop_finds() -> None:
    draws = 2 * LANES + 5
    pair, unsure_a, unsure_b = _case(3, 40, 30, 6, draws)
    over = protocol.grid(COVERAGES, 5)
    assert pair.replicates.a.shape == (3, 40, LANES)
    for m, found in enumerate(protocol.by_uncertainty(pair, unsure_a, unsure_b, over)):
        assert found.draws.shape == (3, len(over.layout), 1 + draws)
        for r in range(1 + draws):
            weights = _weights(pair.replicates, r)
            a, b = _images(unsure_a[m], pair.right_a[m], weights[0]), _images(unsure_b[m], pair.right_b[m], weights[1])
            _replicate_is(found, r, a, b, 5)


def test_images_that_a_replicate_holds_very_often_are_counted_in_full() -> None:
    rng = np.random.default_rng(0)
    pair, unsure_a, unsure_b = _case(5, 37, 34, 4)
    weights = [rng.integers(200, 256, (3, size)) for size in (37, 34)]
    weights[0][0], weights[1][0] = 1, 1
    heavy = dataclasses.replace(pair, replicates=_replicates(*weights))
    found = next(protocol.by_uncertainty(heavy, unsure_a, unsure_b, protocol.grid(COVERAGES, 4)))
    for r in range(3):
        a, b = (
            _images(u[0], right[0], w[r])
            for u, right, w in zip((unsure_a, unsure_b), (pair.right_a, pair.right_b), weights, strict=True)
        )
        _replicate_is(found, r, a, b, 4)


@pytest.mark.parametrize("empty", ["a", "b"])
def test_a_replicate_without_an_image_of_a_set_says_nothing_and_spoils_no_other(empty: str) -> None:
    weights = {"a": np.ones((3, 20), int), "b": np.ones((3, 12), int)}
    weights[empty][1] = 0
    pair, unsure_a, unsure_b = _case(1, 20, 12, 5)
    pair = dataclasses.replace(pair, replicates=_replicates(weights["a"], weights["b"], shared=True))
    found = next(protocol.by_uncertainty(pair, unsure_a, unsure_b, protocol.grid(COVERAGES, 4)))
    assert np.isnan(found.draws[:, :, 1]).all()
    assert np.array_equal(found.draws[:, :, 0], found.draws[:, :, 2], equal_nan=True)
    whole = protocol.gaps(found, True, 0.95)["gap"]
    known = np.isfinite(found.gap)
    assert np.isfinite([whole.low[known], whole.high[known]]).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 60), k=st.integers(1, 60), steps=st.integers(1, 4))
def test_subsets_that_images_enter_are_what_a_loop_finds(seed: int, n: int, k: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    pair, *_ = _case(seed, n, k, 5, draws=LANES + 2)
    entries = [rng.integers(0, steps + 1, (2, size)) for size in (n, k)]
    coverages = [0.5, 0.7, 0.9, 1.0][:steps]
    found = list(protocol.by_entry(pair, *entries, coverages))
    assert len(found) == 2
    sides = [(pair.right_a, pair.classes_a), (pair.right_b, pair.classes_b)]
    for m, step in itertools.product(range(2), range(steps)):
        one = found[m]
        assert one.layout[step] == ("R4", coverages[step])
        kept = [entry[m] <= step for entry in entries]
        assert (one.n_a[step], one.n_b[step]) == tuple(inside.sum() for inside in kept)
        classes = [len(set(of[inside])) for (_, of), inside in zip(sides, kept, strict=True)]
        assert [one.classes_a[step], one.classes_b[step]] == classes
        for r in range(pair.replicates.r):
            weights = _weights(pair.replicates, r)
            accuracies = [
                _accuracy(_images(np.zeros(inside.sum()), right[m][inside], w[inside]))
                for (right, _), inside, w in zip(sides, kept, weights, strict=True)
            ]
            expected = [*accuracies, 0.0] if not np.isnan(accuracies).any() else [math.nan] * 3
            assert one.draws[:, step, r] == pytest.approx(expected, abs=1e-6, nan_ok=True)
            if r == 0:
                figures = [one.accuracy_a[step], one.accuracy_b[step], one.composition[step]]
                assert figures == pytest.approx(expected, abs=1e-12, nan_ok=True)


# Thresholds, pools and subsets.


@pytest.mark.parametrize("levels", [3, 1000])
@pytest.mark.parametrize("n", [1, 7, 64, 501])
def test_tau_is_numpys_quantile(n: int, levels: int) -> None:
    values = np.random.default_rng(n).integers(0, levels, n) / levels
    shares = [1 / 64, 0.1234567, 0.5, 0.7654321, 63 / 64, 1.0]
    expected = np.quantile(values, shares, method="inverted_cdf")
    assert np.array_equal(protocol.taus(values, shares), expected)
    for share, tau in zip(shares, expected, strict=True):
        assert (values <= tau).mean() >= share
        assert (values < tau).mean() < share


@pytest.mark.parametrize(("q", "n"), [(0.55, 100), (0.07, 100), (0.29, 100), (0.57, 1000), (0.7, 10), (0.9, 10)])
def test_a_share_of_whole_images_takes_no_image_more(q: float, n: int) -> None:
    """0.55 * 100 is 55.000000000000007 in floating point, which is no reason for a 56th image."""
    wanted = round(q * n)
    values = np.random.default_rng(n).permutation(n)
    assert protocol.taus(values, [q]) == [wanted - 1]
    pair = _pair_of(np.ones(n), np.ones(n))
    found = next(protocol.by_uncertainty(pair, values[None], values[None], protocol.grid([q])))
    for rule in ("R1", "R2"):
        assert found.n_a[_row(found, rule, q)] == found.n_b[_row(found, rule, q)] == wanted
    assert [side.sum() for side in protocol.kept("R2", q, values, values)] == [wanted, wanted]


@pytest.mark.parametrize("levels", [1, 2, 7, 1000])
@pytest.mark.parametrize("q", [0.2, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("rule", ["R0", "R1", "R2"])
def test_the_images_shown_are_the_images_counted(rule: str, q: float, levels: int) -> None:
    pair, unsure_a, unsure_b = _case(levels, 60, 43, levels)
    row_of = ("R0", 1.0) if q == 1 else (rule, 1.0 if rule == "R0" else q)
    for m, found in enumerate(protocol.by_uncertainty(pair, unsure_a, unsure_b, protocol.grid((*COVERAGES, 0.2)))):
        row = _row(found, *row_of)
        kept = protocol.kept(rule, q, unsure_a[m], unsure_b[m])
        assert [side.sum() for side in kept] == [found.n_a[row], found.n_b[row]]
        for inside, right, accuracy in (
            (kept[0], pair.right_a[m], found.accuracy_a[row]),
            (kept[1], pair.right_b[m], found.accuracy_b[row]),
        ):
            assert accuracy == pytest.approx(right[inside].mean() if kept[0].any() and kept[1].any() else np.nan)


def test_ties_at_the_same_coverage_are_cut_in_the_given_order() -> None:
    unsure = np.array([0.2, 0.1, 0.2, 0.2, 0.2, 0.9])
    a, b = protocol.kept("R2", 0.5, unsure, np.zeros(4))
    assert a.tolist() == [True, True, True, False, False, False]
    assert b.tolist() == [True, True, False, False]
    assert protocol.kept("R1", 0.5, unsure, unsure)[0].tolist() == [True] * 5 + [False]


@pytest.mark.parametrize("levels", [1, 3, 12])
def test_classes_are_those_of_the_images_kept(levels: int) -> None:
    pair, unsure_a, unsure_b = _case(levels + 9, 50, 33, levels)
    for m, found in enumerate(protocol.by_uncertainty(pair, unsure_a, unsure_b, protocol.grid(COVERAGES))):
        for row, (rule, q) in enumerate(found.layout):
            if rule == "R3":  # weighs images
                assert found.classes_a[row] == found.classes_b[row] == -1
                continue
            kept = protocol.kept("R0" if rule == "R5" else rule, q, unsure_a[m], unsure_b[m])
            classes = [len(set(of[k])) for of, k in zip((pair.classes_a, pair.classes_b), kept, strict=True)]
            assert [found.classes_a[row], found.classes_b[row]] == classes, (rule, q)


def _seed(levels: int) -> np.random.Generator:
    return np.random.default_rng(100 + levels)


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("levels", [2, 6, 1000])
def test_when_a_pool_is_certain_is_what_its_definition_says(levels: int, share: float) -> None:
    rng = _seed(levels)
    models, coverages = 12, [0.3, 0.5, 0.55, 0.9, 1.0]
    a, b = (rng.integers(0, levels, (models, size)) / levels * rng.random((models, 1)) for size in (60, 45))
    pools = ~np.eye(models + 2, models, dtype=bool)  # everybody without itself, everybody,
    pools[models + 1, [2, 3, 5]] = False  # and an ensemble without its three members
    found = protocol.entry_of_certain(a, b, pools, coverages, share)
    with pytest.raises(ValueError, match="ascend"):
        protocol.entry_of_certain(a, b, pools, coverages[::-1], share)
    assert [entries.shape for entries in found] == [(models + 2, 60), (models + 2, 45)]
    cuts = [[_tau([(u, 0) for u in mine], q) for q in coverages] for mine in a]  # of the original alone
    for side, entries in zip((a, b), found, strict=True):
        for m, i in itertools.product(range(models + 2), range(side.shape[1])):
            pool = [p for p in range(models) if pools[m, p]]
            sure = [sum(side[p, i] <= cuts[p][step] for p in pool) for step in range(len(coverages))]
            steps = [step for step, n in enumerate(sure) if Fraction(int(n), len(pool)) >= Fraction(str(share))]
            assert entries[m, i] == min(steps, default=len(coverages))
            assert steps == list(range(int(entries[m, i]), len(coverages)))  # once in, always in


def test_nobody_is_in_its_own_pool() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((5, 40)), rng.random((5, 30))
    pools = ~np.eye(5, dtype=bool)
    before = protocol.entry_of_certain(a, b, pools, [0.5], 0.75)
    a[2], b[2] = rng.random(40), rng.random(30)
    after = protocol.entry_of_certain(a, b, pools, [0.5], 0.75)
    for old, new in zip(before, after, strict=True):
        assert np.array_equal(old[2], new[2])
        assert not np.array_equal(old, new)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), models=st.integers(2, 9), classes=st.integers(1, 5))
def test_disagreement_is_what_a_count_of_the_answers_says(seed: int, models: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    pred = rng.integers(0, classes, (models, 30)) * 7
    pools = np.concatenate([~np.eye(models, dtype=bool), rng.random((4, models)) < 0.6, np.ones((1, models), bool)])
    pools = pools[pools.any(axis=1)]
    found = protocol.disagreement(pred, pools)
    assert found.shape == (len(pools), 30)
    for m, i in itertools.product(range(len(pools)), range(30)):
        votes = Counter(pred[pools[m], i].tolist())
        assert found[m, i] == pytest.approx(1 - max(votes.values()) / pools[m].sum(), abs=1e-12)


@pytest.mark.parametrize("absent", [0, 1, 3])
def test_a_tie_of_two_answers_is_broken_by_whoever_is_left_out(absent: int) -> None:
    """Two against two, with a fifth alone: without one of the four, the other two are most frequent."""
    pools = ~np.eye(5, dtype=bool)[[absent, 4]]
    assert protocol.disagreement([[7], [7], [3], [3], [1]], pools).ravel() == pytest.approx([1 / 2, 1 / 2])


def test_models_that_are_in_no_pool_have_no_vote() -> None:
    pools = np.array([[True, True, True, False, False], [False, True, True, False, False]])
    pred = np.array([[1], [2], [2], [1], [1]])
    assert protocol.disagreement(pred, pools).ravel() == pytest.approx([1 / 3, 0])


@pytest.mark.parametrize("share", [0.5, 0.75, 0.9, 1.0])
def test_a_pool_agrees_from_exactly_its_share_on(share: float) -> None:
    for size in range(1, 300):
        least = math.ceil(Fraction(str(share)) * size)
        apart = np.array([[1 - least / size, 1 - (least - 1) / size]])
        assert protocol.entry_of_agreed(apart, share).tolist() == [[0, 1]], size


# What the figures depend on, and what not.


@pytest.mark.parametrize("levels", [4, 1000])
def test_thresholds_are_of_the_original_alone(levels: int) -> None:
    pair, unsure_a, unsure_b = _case(levels, 50, 40, levels)
    rng = np.random.default_rng(0)
    over = protocol.grid(COVERAGES)
    stranger = dataclasses.replace(pair, right_b=rng.random((2, 40)) < 0.5)
    everything = [
        (pair, unsure_b),
        (pair, rng.permuted(unsure_b, axis=1)),
        (stranger, unsure_b),
        (stranger, 0.1 * rng.random((2, 40))),
    ]
    found = [list(protocol.by_uncertainty(one, unsure_a, b, over)) for one, b in everything]
    rows = [row for row, (rule, _) in enumerate(over.layout) if rule != "R3"]  # R3 needs bins that hold both
    for mine, others in itertools.product(range(2), found[1:]):
        first, second = found[0][mine], others[mine]
        assert np.array_equal(first.n_a[rows], second.n_a[rows])
        assert np.array_equal(first.draws[0, rows], second.draws[0, rows])
        assert np.array_equal(first.accuracy_a[rows], second.accuracy_a[rows])
    assert not np.array_equal(found[0][0].n_b, found[3][0].n_b)


@pytest.mark.parametrize("levels", [3, 5000])
def test_uncertainty_counts_by_its_order_alone(levels: int) -> None:
    pair, unsure_a, unsure_b = _case(levels, 80, 50, levels)
    over = protocol.grid(COVERAGES)
    plain = list(protocol.by_uncertainty(pair, unsure_a, unsure_b, over))
    _, ranks = np.unique(np.concatenate([unsure_a.ravel(), unsure_b.ravel()]), return_inverse=True)
    codes = ranks.astype(np.uint16)
    mapped = [(np.exp(5 * u) - 3 for u in (unsure_a, unsure_b))]
    mapped.append(part.reshape(2, -1) for part in (codes[: unsure_a.size], codes[unsure_a.size :]))
    for a, b in mapped:
        for one, other in zip(plain, protocol.by_uncertainty(pair, a, b, over), strict=True):
            _same(one, other)


def _many(models: int) -> tuple[Pair, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(models)
    unsure = [rng.integers(0, 9, (models, size)) / 9 for size in (50, 40)]
    right = [rng.random(u.shape) > 0.8 * u for u in unsure]
    names = [[f"{side}/{i}" for i in range(size)] for side, size in (("a", 50), ("b", 40))]
    classes = [rng.integers(0, 4, size) for size in (50, 40)]
    return Pair(*right, *classes, protocol.resample(*names, rng, 3 * LANES)), *unsure


def _rows_of(pair: Pair, models: Sequence[int]) -> Pair:
    return dataclasses.replace(pair, right_a=pair.right_a[models], right_b=pair.right_b[models])


@pytest.mark.parametrize("threads", [2, 3, 16])
def test_threads_change_nothing(threads: int) -> None:
    pair, a, b = _many(3)
    entries = (5 * a).astype(int), (5 * b).astype(int)
    over = protocol.grid(COVERAGES)
    for one, other in zip(
        [*protocol.by_uncertainty(pair, a, b, over), *protocol.by_entry(pair, *entries, COVERAGES)],
        [
            *protocol.by_uncertainty(pair, a, b, over, threads=threads),
            *protocol.by_entry(pair, *entries, COVERAGES, threads=threads),
        ],
        strict=True,
    ):
        _same(one, other)


def test_company_and_order_of_the_models_change_nothing() -> None:
    models = 2 * protocol.TOGETHER + 3
    pair, a, b = _many(models)
    entries = (5 * a).astype(int), (5 * b).astype(int)
    over = protocol.grid(COVERAGES)
    whole = list(protocol.by_uncertainty(pair, a, b, over))
    entered = list(protocol.by_entry(pair, *entries, COVERAGES))
    assert len(whole) == len(entered) == models
    backwards = list(range(models))[::-1]
    for some in (*([m] for m in range(models)), backwards):
        fewer = _rows_of(pair, some)
        for m, one in zip(some, protocol.by_uncertainty(fewer, a[some], b[some], over), strict=True):
            _same(one, whole[m])
        for m, one in zip(some, protocol.by_entry(fewer, entries[0][some], entries[1][some], COVERAGES), strict=True):
            _same(one, entered[m])


def test_one_uncertainty_for_all_is_as_if_each_had_it() -> None:
    models = protocol.TOGETHER + 2
    pair, a, b = _many(models)
    over = protocol.grid(COVERAGES)
    each = protocol.by_uncertainty(pair, np.repeat(a[:1], models, axis=0), np.repeat(b[:1], models, axis=0), over)
    for one, other in zip(protocol.by_uncertainty(pair, a[:1], b[:1], over), each, strict=True):
        _same(one, other)


def test_a_part_of_the_images_is_a_pair_of_its_own() -> None:
    pair, a, b = _many(2)
    rng = np.random.default_rng(0)
    kept = rng.random(50) < 0.6, rng.random(40) < 0.6
    weights = [np.stack([_weights(pair.replicates, r)[s][k] for r in range(3 * LANES + 1)]) for s, k in enumerate(kept)]
    alone = Pair(
        pair.right_a[:, kept[0]],
        pair.right_b[:, kept[1]],
        pair.classes_a[kept[0]],
        pair.classes_b[kept[1]],
        _replicates(*weights),
    )
    over, part = protocol.grid(COVERAGES), pair.keep(*kept)
    u = a[:, kept[0]], b[:, kept[1]]
    for one, other in zip(
        protocol.by_uncertainty(part, *u, over), protocol.by_uncertainty(alone, *u, over), strict=True
    ):
        _same(one, other)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 60),
    k=st.integers(1, 60),
    levels=st.sampled_from([1, 2, 5, 1000]),
    threads=st.integers(1, 3),
)
def test_at_once_is_the_data_of_all_replicates(seed: int, n: int, k: int, levels: int, threads: int) -> None:
    """To the last bit, for uncertainties and for their codes, of each model's own and of one for all."""
    pair, *unsure = _case(seed, n, k, levels, draws=0)
    over = protocol.grid(COVERAGES, 1 + seed % 20)
    codes = [np.floor(60_000 * side).astype(np.uint16) for side in unsure]
    for a, b in (unsure, codes, [side[:1] for side in unsure]):
        data, sizes = protocol.once(pair.right_a, pair.right_b, a, b, over, threads=threads)
        for m, one in enumerate(protocol.by_uncertainty(pair, a, b, over)):
            assert np.array_equal(data[m], [one.accuracy_a, one.accuracy_b, one.composition], equal_nan=True)
            assert np.array_equal(sizes[m], [one.n_a, one.n_b])


# Input that has something missing.


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_constant_uncertainty_keeps_everything(value: float) -> None:
    rng = np.random.default_rng(4)
    pair = _pair_of(rng.random(40) < 0.7, rng.random(30) < 0.6, draws=20)
    a, b = np.full((1, 40), value), np.full((1, 30), value)
    found = next(protocol.by_uncertainty(pair, a, b, protocol.grid(COVERAGES)))
    whole = found.accuracy_a[0], found.accuracy_b[0]
    for row, (rule, q) in enumerate(found.layout):
        if rule == "R2":  # the first ones in the order that breaks ties
            n = math.ceil(q * 40), math.ceil(q * 30)
            assert (found.n_a[row], found.n_b[row]) == n
            assert found.accuracy_a[row] == pair.right_a[0, : n[0]].mean()
        else:
            assert (found.n_a[row], found.n_b[row]) == (40, 30)
            assert (found.accuracy_a[row], found.accuracy_b[row]) == pytest.approx(whole)
        assert found.composition[row] == pytest.approx(0, abs=1e-12)
    for term in protocol.gaps(found, False, 0.95).values():
        assert np.isfinite([term.value, term.low, term.high]).all()


@pytest.mark.parametrize("side", [0, 1])
def test_uncertainty_that_is_not_known_is_refused(side: int) -> None:
    pair, *unsure = _case(0, 10, 10, 4)
    unsure[side][1, 3] = np.nan
    with pytest.raises(ValueError, match="not known"):
        next(protocol.by_uncertainty(pair, *unsure, protocol.grid([0.5])))
    with pytest.raises(ValueError, match="not known"):
        protocol.once(pair.right_a, pair.right_b, *unsure, protocol.grid([0.5]))


@pytest.mark.parametrize("sizes", [(0, 5), (5, 0), (0, 0)])
def test_a_set_without_images_is_refused(sizes: tuple[int, int]) -> None:
    right = [np.ones((1, size), bool) for size in sizes]
    classes = [np.zeros(size, np.int64) for size in sizes]
    pair = Pair(*right, *classes, _replicates(*(np.ones((1, size), int) for size in sizes)))
    with pytest.raises(ValueError, match="no image"):
        next(protocol.by_uncertainty(pair, *(np.zeros(r.shape) for r in right), protocol.grid([0.5])))
    with pytest.raises(ValueError, match="no image"):
        protocol.once(*right, *(np.zeros(r.shape) for r in right), protocol.grid([0.5]))
    with pytest.raises(ValueError, match="no image"):
        next(protocol.by_entry(pair, *(np.zeros(r.shape, int) for r in right), [0.5]))


@pytest.mark.parametrize("q", [0.0, -0.1, 1.1])
def test_a_coverage_that_is_no_share_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="share above 0"):
        protocol.grid([0.5, q])


def test_coverages_come_in_order_and_once_and_all_is_none() -> None:
    over = protocol.grid([0.9, 0.5, 14 / 20, 0.7, 1, 0.9], 20)
    assert over.coverages == (0.5, 0.7, 0.9)
    rules = {rule: [q for r, q in over.layout if r == rule] for rule, _ in over.layout}
    assert rules == {
        "R0": [1],
        "R1": [0.5, 0.7, 0.9],
        "R2": [0.5, 0.7, 0.9],
        "R3": [0.5, 0.7, 0.9, 1],
        "R5": [0.5, 0.7, 0.9, 1],
    }


# Resampling.


@pytest.fixture(scope="module")
def apart() -> Replicates:
    names = [[f"{side}/{i}" for i in range(size)] for side, size in (("a", 50), ("b", 20))]
    return protocol.resample(*names, np.random.default_rng(0), 4000)


def test_the_first_replicate_is_the_data(apart: Replicates) -> None:
    assert all((weights == 1).all() for weights in _weights(apart, 0))
    assert apart.r == 4001
    assert apart.a.shape == (-(-4001 // LANES), 50, LANES)
    spare = apart.a[-1, :, 4001 % LANES :]
    assert spare.size
    assert not spare.any()


def test_each_set_by_itself_keeps_its_size(apart: Replicates) -> None:
    assert not apart.shared
    for r in range(apart.r):
        a, b = _weights(apart, r)
        assert (a.sum(), b.sum()) == (50, 20)


def test_how_often_an_image_is_drawn_is_binomial(apart: Replicates) -> None:
    drawn = np.stack([_weights(apart, r)[0] for r in range(1, apart.r)])
    for k in range(4):
        share = scipy_stats.binom.pmf(k, 50, 1 / 50)
        error = np.sqrt(share * (1 - share) / len(drawn))
        assert np.abs((drawn == k).mean(axis=0) - share).max() < 4.5 * error  # 50 images
        assert (drawn == k).mean() == pytest.approx(share, abs=error)  # images are nearly independent
    assert np.cov(drawn.T.astype(float))[np.triu_indices(50, 1)].mean() == pytest.approx(-1 / 50, abs=0.002)
    b = np.stack([_weights(apart, r)[1] for r in range(1, apart.r)])
    assert np.abs(np.corrcoef(drawn.T, b.T)[:50, 50:]).max() < 0.08  # the sets have nothing to do with each other


def test_images_of_one_source_are_drawn_together() -> None:
    a = np.array([f"x/{i % 7}" for i in range(20)])
    b = np.array([f"y/{i // 3}" for i in range(12)])
    drawn = protocol.resample(a, b, np.random.default_rng(1), 100)
    assert not drawn.shared
    seen = set()
    for r in range(101):
        for origins, weights in zip((a, b), _weights(drawn, r), strict=True):
            by_source = {source: set(weights[origins == source].tolist()) for source in origins}
            assert all(len(counts) == 1 for counts in by_source.values())
            assert sum(sum(counts) for counts in by_source.values()) == len(by_source)  # as many sources as there are
            seen |= set().union(*by_source.values())
    assert {0, 1, 2, 3} <= seen


def test_sets_of_the_same_sources_are_drawn_together() -> None:
    a = np.array([f"x/{i}" for i in range(15)])
    b = np.array([f"x/{i}" for i in range(10, 22)])
    drawn = protocol.resample(a, b, np.random.default_rng(1), 60)
    assert drawn.shared
    sums = set()
    for r in range(61):
        first, second = _weights(drawn, r)
        assert np.array_equal(first[10:], second[:5])
        assert first.sum() + second[5:].sum() == 22  # sources, each once
        sums.add(int(first.sum()))
    assert len(sums) > 5  # how many images of a set a replicate has is itself left to chance


def test_the_seed_decides_what_is_drawn() -> None:
    def drawn(seed: int) -> Replicates:
        return protocol.resample(["a", "b", "c"], ["d", "e"], np.random.default_rng(seed), 40)

    assert np.array_equal(drawn(1).a, drawn(1).a)
    assert not np.array_equal(drawn(1).a, drawn(2).a)


def test_the_spread_of_resampled_accuracies_is_the_known_error() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(300) < 0.8, rng.random(200) < 0.7
    found = next(protocol.by_entry(_pair_of(a, b, draws=4000), np.zeros((1, 300)), np.zeros((1, 200)), [1.0]))
    for draws, right in zip(found.draws[:2, 0, 1:], (a, b), strict=True):
        assert draws.mean() == pytest.approx(right.mean(), abs=0.002)
        assert draws.std() == pytest.approx(np.sqrt(right.mean() * (1 - right.mean()) / len(right)), rel=0.05)


# Figures beside the gap.


@pytest.fixture(scope="module")
def chosen() -> tuple[Pair, list[Found]]:
    """Two models of two sets of 300 and 200 images, easy ones among them, and 400 resamples."""
    pair, a, b = _case(11, 300, 200, 1000, draws=400)
    pair = dataclasses.replace(pair, right_a=pair.right_a | (a < 0.3), right_b=pair.right_b | (b < 0.2))
    return pair, list(protocol.by_uncertainty(pair, a, b, protocol.grid([0.05, *COVERAGES], 10)))


def test_placebo_is_the_gap_of_the_first_images(chosen: tuple[Pair, list[Found]]) -> None:
    pair, found = chosen
    for m, one in enumerate(found):
        draw = protocol.placebo(pair, m, one, 0.95)
        for row, (n, k) in enumerate(zip(one.n_a, one.n_b, strict=True)):
            if (n, k) == (300, 200):  # there is nothing to draw
                assert np.isnan([draw.value[row], draw.low[row], draw.high[row]]).all()
            else:
                expected = pair.right_a[m, :n].mean() - pair.right_b[m, :k].mean()
                assert draw.value[row] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_placebo_range_has_the_moments_of_scipy(chosen: tuple[Pair, list[Found]], confidence: float) -> None:
    pair, found = chosen
    z = scipy_stats.norm.ppf((1 + confidence) / 2)
    draw = protocol.placebo(pair, 0, found[0], confidence)
    drawn = np.flatnonzero((found[0].n_a < 300) | (found[0].n_b < 200))
    assert {found[0].layout[row][0] for row in drawn} >= {"R1", "R2", "R3"}
    for row in drawn:
        middle = variance = 0.0
        for sign, right, n in ((1, pair.right_a[0], found[0].n_a[row]), (-1, pair.right_b[0], found[0].n_b[row])):
            mean, var = scipy_stats.hypergeom.stats(len(right), right.sum(), n, moments="mv")
            middle += sign * mean / n
            variance += var / n**2
        ends = [middle - z * math.sqrt(variance), middle + z * math.sqrt(variance)]
        assert [draw.low[row], draw.high[row]] == pytest.approx(ends, abs=1e-12)


def test_placebo_range_holds_most_random_subsets(chosen: tuple[Pair, list[Found]]) -> None:
    pair, found = chosen
    rng = np.random.default_rng(2)
    row = _row(found[0], "R1", 0.5)
    n, k = found[0].n_a[row], found[0].n_b[row]
    draw = protocol.placebo(pair, 0, found[0], 0.9)
    sides = [np.broadcast_to(right[0], (4000, right.shape[1])) for right in (pair.right_a, pair.right_b)]
    gaps = rng.permuted(sides[0], axis=1)[:, :n].mean(axis=1) - rng.permuted(sides[1], axis=1)[:, :k].mean(axis=1)
    assert ((gaps >= draw.low[row]) & (gaps <= draw.high[row])).mean() == pytest.approx(0.9, abs=0.02)
    assert [draw.low[row], draw.high[row]] == pytest.approx(np.quantile(gaps, [0.05, 0.95]), abs=0.008)


def test_placebo_of_subsets_that_keep_a_set_whole() -> None:
    """What is not drawn adds no spread: all of the original, half of the other set."""
    pair = _pair_of(np.arange(40) % 4 > 0, np.arange(30) % 3 > 0)
    entries = np.zeros((1, 40), int), (np.arange(30) % 2)[None]
    draw = protocol.placebo(pair, 0, next(protocol.by_entry(pair, *entries, [0.5, 1.0])), 0.95)
    mean, var = scipy_stats.hypergeom.stats(30, 20, 15, moments="mv")
    half = 1.959964 * math.sqrt(var / 15**2)
    assert [draw.low[0], draw.high[0]] == pytest.approx([0.75 - mean / 15 - half, 0.75 - mean / 15 + half], abs=1e-6)
    assert draw.value[0] == pytest.approx(0.75 - 10 / 15)
    assert np.isnan([draw.value[1], draw.low[1], draw.high[1]]).all()


def _hand(a: list[tuple[int, int]], b: list[tuple[int, int]], rule: str = "R1") -> Found:
    """Rows of (right ones, images) of either set, without draws."""
    k_a, n_a, k_b, n_b = (np.array(column) for side in (a, b) for column in zip(*side, strict=True))
    with np.errstate(invalid="ignore"):
        p_a, p_b = k_a / n_a, k_b / n_b
    none = np.where(np.isnan(p_a) | np.isnan(p_b), np.nan, 0)
    layout = tuple((rule, q) for q in np.linspace(0.1, 0.9, len(a)))
    return Found(layout, p_a + none, p_b + none, none, np.empty((3, len(a), 1), np.float32), n_a, n_b, n_a, n_b)


def test_error_ratio_and_logit_gap_by_hand() -> None:
    a = [(90, 100), (50, 100), (100, 100), (0, 100), (10, 10), (0, 0)]
    b = [(80, 100), (50, 100), (190, 200), (100, 100), (0, 10), (3, 5)]
    ratio = [2, 1, math.nan, 0, math.nan, math.nan]
    assert protocol.error_ratio(_hand(a, b)) == pytest.approx(ratio, nan_ok=True)

    logit = math.log(90 / 10) - math.log(80 / 20)
    assert protocol.logit_gap(_hand(a, b)) == pytest.approx([logit, 0, *[math.nan] * 4], nan_ok=True)


# Intervals.


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_gap_of_all_images_of_strangers_is_newcombes(chosen: tuple[Pair, list[Found]], confidence: float) -> None:
    pair, found = chosen
    counts = int(pair.right_a[0].sum()), 300, int(pair.right_b[0].sum()), 200
    expected = confint_proportions_2indep(*counts, method="newcomb", compare="diff", alpha=1 - confidence)
    terms = protocol.gaps(found[0], False, confidence)
    for row in (_row(found[0], *key) for key in (("R0", 1.0), ("R5", 0.5), ("R5", 1.0))):
        assert (terms["gap"].low[row], terms["gap"].high[row]) == pytest.approx(expected, abs=1e-12)
    assert (terms["within"].low[0], terms["within"].high[0]) == pytest.approx(expected, abs=1e-12)
    assert (terms["composition"].value[0], terms["composition"].low[0], terms["composition"].high[0]) == (0, 0, 0)


@pytest.mark.parametrize("shared", [False, True])
def test_other_intervals_are_quantiles_of_what_a_loop_finds(shared: bool) -> None:
    pair, a, b = _case(21, 90, 70, 12, draws=60)
    pair = dataclasses.replace(pair, replicates=dataclasses.replace(pair.replicates, shared=shared))
    over = protocol.grid(COVERAGES, 4)
    found = next(protocol.by_uncertainty(pair, a, b, over))
    assert not np.isin([found.accuracy_a, found.accuracy_b], [0, 1]).any()  # nothing saturated
    figures = np.empty((61, len(over.layout), 3))
    for r in range(61):
        weights = _weights(pair.replicates, r)
        images = _images(a[0], pair.right_a[0], weights[0]), _images(b[0], pair.right_b[0], weights[1])
        for row, (rule, q) in enumerate(over.layout):
            first, second, composition, within = _expected(rule, q, *images, 4)
            figures[r, row] = first - second, composition, within
    terms = protocol.gaps(found, shared, 0.9)
    for place, (name, term) in enumerate(terms.items()):
        assert term.value == pytest.approx(figures[0, :, place], abs=1e-12)
        ends = np.quantile(figures[1:, :, place], [0.05, 0.95], axis=0)
        for row, (rule, q) in enumerate(over.layout):
            if not shared and (rule == "R0" or (rule == "R5" and name == "gap")):
                continue  # Newcombe's
            assert [term.low[row], term.high[row]] == pytest.approx(ends[:, row], abs=1e-6), (name, rule, q)


def test_the_parts_are_the_gap(chosen: tuple[Pair, list[Found]]) -> None:
    for one in chosen[1]:
        terms = protocol.gaps(one, False, 0.95)
        whole = terms["composition"].value + terms["within"].value
        assert np.abs(whole - terms["gap"].value).max() < 1e-12
        alone = np.array([rule in ("R0", "R3") for rule, _ in one.layout])
        assert (terms["composition"].value[alone] == 0).all()
        for term in terms.values():
            known = np.isfinite(term.low)
            assert (term.low <= term.high)[known].all()


def test_where_nobody_errs_the_gap_is_not_known_exactly(chosen: tuple[Pair, list[Found]]) -> None:
    """All of the most certain images are right in every resample; Newcombe's interval says how little that means."""
    one = chosen[1][0]
    row = _row(one, "R1", 0.05)
    n, k = int(one.n_a[row]), int(one.n_b[row])
    assert (one.accuracy_a[row], one.accuracy_b[row]) == (1, 1)
    assert not one.gap_draws[row].any()
    expected = confint_proportions_2indep(n, n, k, k, method="newcomb", compare="diff")
    terms = protocol.gaps(one, False, 0.95)
    for name in ("gap", "within"):
        assert (terms[name].low[row], terms[name].high[row]) == pytest.approx(expected, abs=1e-12)
    assert terms["gap"].low[row] < -0.05
    assert np.isnan([terms["composition"].low[row], terms["composition"].high[row]]).all()
    assert terms["composition"].value[row] == 0


@pytest.mark.parametrize("right", [True, False])
def test_of_shared_images_without_any_error_the_gap_is_not_known_exactly_either(right: bool) -> None:
    pair = _pair_of(np.full(40, right), np.full(40, right), draws=50, copies=True)
    found = next(protocol.by_entry(pair, np.zeros((1, 40)), np.zeros((1, 40)), [1.0]))
    gap = protocol.gaps(found, pair.replicates.shared, 0.95)["gap"]
    assert (gap.low[0], gap.high[0]) == pytest.approx(stats.newcombe(40 * right, 40, 40 * right, 40))
    assert gap.low[0] < 0 < gap.high[0]


def test_a_copy_with_errors_has_no_gap_and_no_doubt() -> None:
    pair = _pair_of([1, 0, 1, 1, 0, 1], [1, 0, 1, 1, 0, 1], draws=100, copies=True)
    u = np.array([[0.1, 0.9, 0.3, 0.2, 0.2, 0.5]])
    for name, term in protocol.gaps(
        next(protocol.by_uncertainty(pair, u, u, protocol.grid([0.8]))), True, 0.95
    ).items():
        assert (term.value == 0).all(), name
        assert (term.low == 0).all(), name
        assert (term.high == 0).all(), name


def test_shared_images_that_one_side_has_all_right_keep_their_bootstrap() -> None:
    a = np.ones(60)
    b = np.where(np.arange(60) % 10 == 0, 0, 1)
    pair = _pair_of(a, b, draws=400, copies=True)
    found = next(protocol.by_entry(pair, np.zeros((1, 60)), np.zeros((1, 60)), [1.0]))
    gap = protocol.gaps(found, True, 0.95)["gap"]
    assert [gap.low[0], gap.high[0]] == pytest.approx(np.quantile(found.gap_draws[0], [0.025, 0.975]))
    assert 0 < gap.low[0] < 0.1 < gap.high[0]


def test_shared_images_narrow_the_interval() -> None:
    rng = np.random.default_rng(0)
    a = rng.random(400) < 0.8
    b = a & (rng.random(400) > 0.05)
    widths = {}
    for copies in (True, False):
        pair = _pair_of(a, b, draws=400, copies=copies)
        found = next(protocol.by_entry(pair, np.zeros((1, 400)), np.zeros((1, 400)), [1.0]))
        gap = protocol.gaps(found, pair.replicates.shared, 0.95)["gap"]
        widths[copies] = gap.high[0] - gap.low[0]
        assert gap.value[0] == pytest.approx(a.mean() - b.mean())
    assert widths[True] < 0.6 * widths[False]


def test_without_draws_there_are_no_intervals_but_newcombes() -> None:
    pair, a, b = _case(8, 40, 30, 9, draws=0)
    found = next(protocol.by_uncertainty(pair, a, b, protocol.grid([0.5])))
    for name, term in protocol.gaps(found, False, 0.95).items():
        assert np.isfinite(term.value).all()
        known = {rule for (rule, _), low in zip(found.layout, term.low, strict=True) if np.isfinite(low)}
        assert known - {"R3"} == {"gap": {"R0", "R5"}, "composition": {"R0"}, "within": {"R0"}}[name]


def test_what_is_not_known_has_no_interval() -> None:
    draws = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [np.nan] * 3, [0.4, np.nan, 0.2]])
    found = protocol.of_draws(np.array([0.2, np.nan, 0.1, 0.3]), draws, 0.5)
    assert found.low == pytest.approx([0.15, np.nan, np.nan, 0.25], nan_ok=True)
    assert found.high == pytest.approx([0.25, np.nan, np.nan, 0.35], nan_ok=True)


def test_a_rule_that_keeps_nothing_of_a_set_has_no_figures() -> None:
    """No image of the other set is as certain as the most certain half of the original."""
    pair = _pair_of(np.arange(20) % 3 > 0, np.arange(10) % 3 > 0, draws=40)
    a, b = np.arange(20)[None] / 20, np.full((1, 10), 0.9)
    found = next(protocol.by_uncertainty(pair, a, b, protocol.grid([0.5])))
    row = _row(found, "R1", 0.5)
    assert (found.n_a[row], found.n_b[row]) == (10, 0)
    terms = protocol.gaps(found, False, 0.95) | {"placebo": protocol.placebo(pair, 0, found, 0.95)}
    parts = [part for term in terms.values() for part in (term.value, term.low, term.high)]
    parts += [protocol.error_ratio(found), protocol.logit_gap(found)]
    assert np.isnan([part[row] for part in parts]).all()
    another = _row(found, "R2", 0.5)
    assert np.isfinite([part[another] for part in parts]).all()


def test_what_labels_explain_is_one_gap_minus_the_other() -> None:
    rng = np.random.default_rng(0)
    pair, a, b = _case(9, 120, 100, 50, draws=200)
    more = dataclasses.replace(
        pair, right_a=pair.right_a | (rng.random((2, 120)) < 0.2), right_b=pair.right_b | (rng.random((2, 100)) < 0.4)
    )
    over = protocol.grid([0.5])
    for plain, any_of in zip(*(list(protocol.by_uncertainty(p, a, b, over)) for p in (pair, more)), strict=True):
        term = protocol.label_term(plain, any_of, 0.95)
        assert term.value + any_of.gap == pytest.approx(plain.gap, abs=1e-12)
        draws = (plain.draws[0] - plain.draws[1] - any_of.draws[0] + any_of.draws[1])[:, 1:]
        assert [term.low, term.high] == pytest.approx(np.quantile(draws, [0.025, 0.975], axis=1), abs=1e-6)
        apart = protocol.of_draws(plain.gap, plain.gap_draws, 0.95)
        assert (term.high - term.low < apart.high - apart.low).mean() > 0.7  # both gaps are of the same images


# Simulated models, of which the truth is known.


def _calibrated(unsure: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Right with probability 1 - u."""
    return rng.random(unsure.shape) >= unsure


def test_where_more_images_are_uncertain_the_gap_is_composition() -> None:
    rng = np.random.default_rng(0)
    a, b = 0.8 * rng.beta(1, 2, (1, 20_000)), 0.8 * rng.beta(2, 2, (1, 20_000))
    pair = _pair_of(_calibrated(a, rng), _calibrated(b, rng), draws=100)
    found = next(protocol.by_uncertainty(pair, a, b, protocol.grid([0.5])))
    terms = protocol.gaps(found, False, 0.95)
    truth = 0.8 * (1 / 2 - 1 / 3)
    row = _row(found, "R5", 1.0)
    assert terms["gap"].value[row] == pytest.approx(truth, abs=0.012)
    assert terms["composition"].value[row] == pytest.approx(truth, abs=0.012)
    assert terms["within"].value[row] == pytest.approx(0, abs=0.012)
    assert terms["composition"].low[row] > 0.1
    assert terms["within"].low[row] < 0 < terms["within"].high[row]
    matched = _row(found, "R3", 1.0)  # at equal uncertainty there is none
    assert terms["gap"].low[matched] < 0 < terms["gap"].high[matched]
    assert found.n_b[_row(found, "R1", 0.5)] < 0.35 * 20_000 < found.n_b[_row(found, "R2", 0.5)]


def test_where_labels_are_wrong_the_gap_is_within() -> None:
    rng = np.random.default_rng(1)
    a, b = 0.8 * rng.beta(1, 2, (2, 1, 20_000))
    wrong = rng.random(20_000) < 0.1
    pair = _pair_of(_calibrated(a, rng), _calibrated(b, rng) & ~wrong, draws=100)
    found = next(protocol.by_uncertainty(pair, a, b, protocol.grid([0.5])))
    terms = protocol.gaps(found, False, 0.95)
    truth = 0.1 * (1 - 0.8 / 3)
    row = _row(found, "R5", 1.0)
    assert terms["gap"].value[row] == pytest.approx(truth, abs=0.012)
    assert terms["within"].value[row] == pytest.approx(truth, abs=0.012)
    assert terms["within"].low[row] > 0.05
    assert terms["composition"].low[row] < 0 < terms["composition"].high[row]
    for key in (("R3", 1.0), ("R1", 0.5), ("R2", 0.5)):  # choosing certain images does not undo it
        assert terms["gap"].low[_row(found, *key)] > 0.05


def test_between_halves_of_one_set_intervals_hold_zero_as_often_as_they_say() -> None:
    """400 simulated models, each on a pair of its own; they share the resamples."""
    rng = np.random.default_rng(2)
    a, b = 0.8 * rng.beta(1, 2, (400, 150)), 0.8 * rng.beta(1, 2, (400, 120))
    pair = _pair_of(_calibrated(a, rng), _calibrated(b, rng), draws=200)
    found = list(protocol.by_uncertainty(pair, a, b, protocol.grid([0.8], 5)))
    terms = [protocol.gaps(one, False, 0.95) for one in found]
    for key in found[0].layout:
        row = _row(found[0], *key)
        for name in ("gap", "composition", "within"):
            if name == "composition" and key[0] in ("R0", "R3"):
                continue
            ends = np.array([[one[name].low[row], one[name].high[row]] for one in terms])
            held = ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean()
            low, high = (0.93, 0.998) if name == "composition" else (0.91, 0.985)  # cautious where there is none
            assert low <= held <= high, (key, name, held)
