"""Statistics against statsmodels and scipy, against hand-made cases, and by their properties."""

from __future__ import annotations

import itertools
from typing import get_args

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from bench import stats


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("confidence", [0.0, 0.5, 0.8, 0.95, 0.999])
def test_normal_quantile_is_scipys(confidence: float) -> None:
    assert stats.normal_quantile(confidence) == pytest.approx(scipy_stats.norm.interval(confidence)[1], abs=1e-12)


class TestWilson:
    @pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
    @pytest.mark.parametrize(("k", "n"), [(0, 10), (1, 10), (5, 10), (10, 10), (963, 1000), (1, 1)])
    def test_is_statsmodels(self, k: int, n: int, confidence: float) -> None:
        expected = proportion_confint(k, n, alpha=1 - confidence, method="wilson")
        assert np.allclose(stats.wilson(k, n, confidence), expected, atol=1e-12)

    def test_by_hand(self) -> None:
        # z = 1.96: (0 + z2/20) / (1 + z2/10) +- the same
        low, high = stats.wilson(0, 10)
        assert low == 0
        assert high == pytest.approx(0.27753, abs=1e-5)

    def test_nothing_seen_says_nothing(self) -> None:
        assert np.isnan(stats.wilson([0, 1], [0, 1])[0]).tolist() == [True, False]
        assert np.isnan(stats.wilson(0, 0)).all()

    @given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
    def test_holds_the_share_inside_the_unit(self, case: tuple[int, int]) -> None:
        k, n = case
        low, high = stats.wilson(k, n)
        assert 0 <= low <= k / n <= high <= 1
        assert low < high


class TestNewcombe:
    @pytest.mark.parametrize("counts", [(56, 70, 48, 80), (10, 10, 0, 10), (5, 50, 5, 50), (900, 1000, 1500, 1797)])
    def test_is_statsmodels(self, counts: tuple[int, int, int, int]) -> None:
        expected = confint_proportions_2indep(*counts, method="newcomb", compare="diff")
        assert np.allclose(stats.newcombe(*counts), expected, atol=1e-12)

    def test_published_example(self) -> None:
        # Newcombe 1998, table II, contrast (a), method 10: 56/70 - 48/80
        assert np.allclose(stats.newcombe(56, 70, 48, 80), (0.0524, 0.3339), atol=5e-5)

    @given(st.integers(0, 40), st.integers(0, 30))
    def test_antisymmetric(self, k_a: int, k_b: int) -> None:
        low, high = stats.newcombe(k_a, 40, k_b, 30)
        low_back, high_back = stats.newcombe(k_b, 30, k_a, 40)
        assert (low, high) == pytest.approx((-high_back, -low_back))


class TestCoverage:
    """How often the intervals hold the truth, over every outcome weighted by its probability."""

    @pytest.mark.parametrize(("p", "n"), [(0.5, 100), (0.9, 60), (0.97, 1000), (0.99, 500)])
    def test_wilson(self, p: float, n: int) -> None:
        k = np.arange(n + 1)
        low, high = stats.wilson(k, n)
        held = scipy_stats.binom.pmf(k, n, p) @ ((low <= p) & (p <= high))
        assert held == pytest.approx(0.95, abs=0.02)

    @pytest.mark.parametrize(("p_a", "p_b"), [(0.9, 0.9), (0.97, 0.85), (0.5, 0.6)])
    def test_newcombe(self, p_a: float, p_b: float) -> None:
        a, b = np.arange(101)[:, None], np.arange(151)[None, :]
        low, high = stats.newcombe(a, 100, b, 150)
        weight = scipy_stats.binom.pmf(a, 100, p_a) * scipy_stats.binom.pmf(b, 150, p_b)
        held = (weight * ((low <= p_a - p_b) & (p_a - p_b <= high))).sum()
        assert held == pytest.approx(0.95, abs=0.02)


class TestBootstrap:
    def test_resamples_have_as_many_rows(self) -> None:
        columns = np.column_stack([np.ones(50), rng().random(50)])
        drawn = stats.resampled_sums(columns, rng(1), 300)
        assert drawn.shape == (300, 2)
        assert (drawn[:, 0] == 50).all()
        assert drawn[:, 1].std() == pytest.approx(np.sqrt(50) * columns[:, 1].std(), rel=0.15)

    def test_chunks_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        values = rng().random((40, 1))
        whole = stats.resampled_sums(values, rng(1), 101)
        monkeypatch.setattr(stats, "_CELLS_AT_ONCE", 400)
        assert np.allclose(stats.resampled_sums(values, rng(1), 101), whole, rtol=1e-13)

    @pytest.mark.parametrize("values", [rng(1).random(200), rng(2).random(300) < 0.9])
    def test_mean_is_scipys(self, values: np.ndarray) -> None:
        ours = stats.bootstrap_mean(values, rng(), draws=8000)
        theirs = scipy_stats.bootstrap(
            (values.astype(float),), np.mean, n_resamples=8000, method="percentile", rng=rng(1), batch=500
        ).confidence_interval
        assert np.allclose(ours, theirs, atol=0.1 * (theirs.high - theirs.low))

    def test_copies_of_an_image_add_no_certainty(self) -> None:
        values = rng(1).random(80)
        alone = stats.bootstrap_mean(values, rng())
        clusters = np.repeat(np.arange(80), 5)
        copied = stats.bootstrap_mean(np.repeat(values, 5), rng(), clusters=clusters)
        assert copied == pytest.approx(alone)
        naive = stats.bootstrap_mean(np.repeat(values, 5), rng())
        assert naive[1] - naive[0] < 0.6 * (alone[1] - alone[0])

    def test_no_values(self) -> None:
        with pytest.raises(ValueError, match="no values"):
            stats.bootstrap_mean([], rng())

    def test_pairs_are_kept(self) -> None:
        a = rng(1).random(500) < 0.9
        assert stats.bootstrap_paired(a, a, rng()) == (0, 0)
        b = a & (rng(2).random(500) < 0.98)
        low, high = stats.bootstrap_paired(a, b, rng())
        assert 0 <= low <= a.mean() - b.mean() <= high
        independent = stats.newcombe(a.sum(), 500, b.sum(), 500)
        assert high - low < 0.6 * (independent[1] - independent[0])

    def test_counts_say_the_same(self) -> None:
        a, b = rng(1).random(400) < 0.9, rng(2).random(400) < 0.8
        only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
        rows = stats.bootstrap_paired(a, b, rng(), draws=5000)
        assert stats.bootstrap_paired_counts(only_a, only_b, 400, rng(1), draws=5000) == pytest.approx(rows, abs=0.006)
        low, high = stats.bootstrap_paired_counts(only_b, only_a, 400, rng(1), draws=5000)
        assert (-high, -low) == pytest.approx(rows, abs=0.006)

    def test_gap_of_a_set_to_its_copy_is_none(self) -> None:
        a, ids = rng(1).random(100) < 0.7, np.arange(100)
        assert stats.bootstrap_gap(a, a, ids, ids, rng()) == (0, 0)

    def test_gap_of_strangers_is_newcombes(self) -> None:
        a, b = rng(1).random(800) < 0.9, rng(2).random(600) < 0.8
        ours = stats.bootstrap_gap(a, b, np.arange(800), 800 + np.arange(600), rng(), draws=4000)
        assert np.allclose(ours, stats.newcombe(a.sum(), 800, b.sum(), 600), atol=0.006)

    def test_class_balanced_has_the_stratified_error(self) -> None:
        k, n = np.array([50, 90, 10]), np.array([100, 100, 20])
        low, high = stats.bootstrap_class_balanced(k, n, rng(), draws=20_000)
        p = k / n
        error = np.sqrt((p * (1 - p) / n).sum()) / 3
        assert (low, high) == pytest.approx((p.mean() - 1.96 * error, p.mean() + 1.96 * error), abs=0.006)


class TestPercentiles:
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    @pytest.mark.parametrize("missing", [0.0, 0.3, 0.9])
    @pytest.mark.parametrize(("draws", "confidence"), [(1, 0.95), (2, 0.5), (40, 0.95), (41, 0.9), (2000, 0.99)])
    def test_are_numpys(self, draws: int, confidence: float, missing: float, dtype: type) -> None:
        values = rng(draws).normal(size=(3, 4, draws)).astype(dtype)
        values[rng(1).random(values.shape) < missing] = np.nan
        values[..., 0] = np.where(np.isnan(values).all(axis=-1), dtype(0.5), values[..., 0])
        tail = (1 - confidence) / 2
        expected = np.nanquantile(values.astype(np.float64), [tail, 1 - tail], axis=-1)
        found = stats.percentiles(values, confidence)
        assert found.shape == (2, 3, 4)
        assert found.dtype == np.float64
        assert np.allclose(found, expected, rtol=0, atol=1e-12)

    def test_one_statistic_has_the_interval_of_its_draws(self) -> None:
        values = rng().normal(size=(2, 333))
        for one, *ends in zip(values, *stats.percentiles(values, 0.9), strict=True):
            assert ends == pytest.approx(stats.percentile_interval(one, 0.9), abs=1e-12)

    def test_no_draw_that_is_known_has_no_interval(self) -> None:
        found = stats.percentiles([[np.nan, np.nan], [np.nan, 3.0]])
        assert np.isnan(found[:, 0]).all()
        assert found[:, 1].tolist() == [3, 3]

    def test_leaves_the_draws_as_they_are(self) -> None:
        values = np.array([3.0, 1.0, np.nan, 2.0])
        stats.percentiles(values)
        assert values.tolist()[:2] == [3, 1]


class TestSignTest:
    def test_is_scipys_binomial_test(self) -> None:
        pairs = [(up, down) for up in range(0, 40, 3) for down in range(0, 60, 7) if up + down]
        expected = [scipy_stats.binomtest(up, up + down, 0.5).pvalue for up, down in pairs]
        assert np.allclose(stats.sign_test(*np.transpose(pairs)), expected, rtol=1e-9)

    def test_by_hand(self) -> None:
        # 2 (1 + 5) / 32: none or one of five
        assert stats.sign_test([5, 4, 1], [0, 1, 4]) == pytest.approx([2 / 32, 12 / 32, 12 / 32])
        assert stats.sign_test(3, 3) == 1

    def test_no_sign_is_no_evidence(self) -> None:
        assert stats.sign_test(0, 0) == 1


class TestMcNemar:
    def test_is_scipys_binomial_test(self) -> None:
        pairs = [(b, c) for b in range(0, 30, 3) for c in range(0, 30, 4) if b + c]
        expected = [scipy_stats.binomtest(b, b + c, 0.5).pvalue for b, c in pairs]
        assert np.allclose(stats.mcnemar(*np.transpose(pairs)), expected)

    @pytest.mark.parametrize(("b", "c"), [(1, 8), (10, 10), (0, 5), (40, 12)])
    def test_is_statsmodels(self, b: int, c: int) -> None:
        expected = statsmodels_mcnemar([[100, b], [c, 20]], exact=True).pvalue
        assert stats.mcnemar(b, c) == pytest.approx(expected)

    def test_models_that_agree(self) -> None:
        assert stats.mcnemar(0, 0) == 1


class TestHolm:
    def test_by_hand(self) -> None:
        assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

    @pytest.mark.parametrize("size", [1, 2, 45])
    def test_is_statsmodels(self, size: int) -> None:
        p = rng(size).random(size) ** 4
        assert np.allclose(stats.holm(p), multipletests(p, method="holm")[1])

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
    def test_is_monotone(self, p: list[float]) -> None:
        adjusted = stats.holm(p)
        assert (adjusted >= np.array(p)).all()
        assert (adjusted <= 1).all()
        assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()

    def test_of_nothing(self) -> None:
        assert len(stats.holm([])) == 0


@st.composite
def relations(draw: st.DrawFn) -> np.ndarray:
    m = draw(st.integers(1, 9))
    flags = draw(st.lists(st.booleans(), min_size=m * m, max_size=m * m))
    return np.triu(np.array(flags, bool).reshape(m, m), k=1)


class TestPlaces:
    def test_nothing_told_apart(self) -> None:
        places = stats.places(np.zeros((4, 4), bool))
        assert places.rank.tolist() == places.low.tolist() == [1, 1, 1, 1]
        assert places.high.tolist() == [4, 4, 4, 4]

    def test_everything_told_apart(self) -> None:
        places = stats.places(np.triu(np.ones((4, 4), bool), k=1))
        assert places.rank.tolist() == places.low.tolist() == places.high.tolist() == [1, 2, 3, 4]

    def test_ties_are_not_transitive(self) -> None:
        # a ~ b and b ~ c, yet a is surely better than c: b shares the rank of a, and c may still be second
        better = np.zeros((3, 3), bool)
        better[0, 2] = True
        places = stats.places(better)
        assert places.rank.tolist() == [1, 1, 3]
        assert places.low.tolist() == [1, 1, 2]
        assert places.high.tolist() == [2, 3, 3]

    @given(relations())
    def test_shared_ranks_are_ties_within_the_open_places(self, better: np.ndarray) -> None:
        places = stats.places(better)
        assert (places.low <= places.rank).all()
        assert (places.rank <= places.high).all()
        assert places.rank[0] == 1
        for i, j in itertools.combinations(range(len(better)), 2):
            assert places.rank[i] <= places.rank[j]
            assert places.rank[i] < places.rank[j] or not better[i, j]
        for rank in places.rank:
            assert rank == 1 + (places.rank < rank).sum()


class TestLine:
    @given(st.floats(0.001, 0.999), st.sampled_from(["linear", "logit", "probit"]))
    def test_axes_go_back(self, p: float, scale: stats.Scale) -> None:
        assert stats.untransform(stats.transform(p, scale), scale) == pytest.approx(p)

    def test_axes_are_scipys(self) -> None:
        p = np.array([0.1, 0.5, 0.97])
        assert np.allclose(stats.transform(p, "logit"), np.log(p / (1 - p)))
        assert np.allclose(stats.transform(p, "probit"), scipy_stats.norm.ppf(p))

    def test_all_right_stays_finite(self) -> None:
        assert stats.transform(1.0, "logit", n=500) == pytest.approx(np.log(999))
        assert np.isfinite(stats.transform([0.0, 1.0], "probit")).all()

    @pytest.mark.parametrize("scale", ["linear", "logit", "probit"])
    def test_fit_is_scipys(self, scale: stats.Scale) -> None:
        x = rng(1).uniform(0.6, 0.98, 20)
        y = np.clip(x - 0.1 + rng(2).normal(0, 0.02, 20), 0.01, 0.99)
        line = stats.fit_line(x, y, rng(), scale=scale)
        expected = scipy_stats.linregress(stats.transform(x, scale), stats.transform(y, scale))
        assert (line.slope, line.intercept) == pytest.approx((expected.slope, expected.intercept))
        assert line.r2 == pytest.approx(expected.rvalue**2)
        assert line.slope_low < line.slope < line.slope_high
        assert (line.low <= line.y).all()
        assert (line.y <= line.high).all()
        assert (line.x[0], line.x[-1]) == pytest.approx((x.min(), x.max()))

    def test_points_on_a_line_leave_no_band(self) -> None:
        x = np.array([0.5, 0.6, 0.7, 0.8])
        line = stats.fit_line(x, 0.5 * x + 0.2, rng(), scale="linear")
        assert line.slope == pytest.approx(0.5)
        assert np.allclose(line.low, line.high)

    @pytest.mark.parametrize("x", [[0.5, 0.6], [0.7, 0.7, 0.7, 0.7]])
    def test_too_little_for_a_line(self, x: list[float]) -> None:
        with pytest.raises(ValueError, match="three models"):
            stats.fit_line(x, x, rng())


@pytest.mark.parametrize("scale", get_args(stats.Scale))
class TestPredictedByOthers:
    @staticmethod
    def refitted(
        x: np.ndarray, y: np.ndarray, fitted: np.ndarray, scale: stats.Scale, n: tuple[int, int] | None
    ) -> list[float]:
        """One least-squares fit a model, without it."""

        def axis(p: np.ndarray, size: int | None) -> np.ndarray:
            edge = 1e-6 if size is None else 1 / (2 * size)
            ways = {"linear": lambda p: p, "logit": special.logit, "probit": scipy_stats.norm.ppf}
            return ways[scale](p if scale == "linear" else np.clip(p, edge, 1 - edge))

        u, v = axis(x, n[0] if n else None), axis(y, n[1] if n else None)
        back = {"linear": lambda z: z, "logit": special.expit, "probit": scipy_stats.norm.cdf}[scale]
        out = []
        for m in range(len(x)):
            others = fitted & (np.arange(len(x)) != m)
            line = sm.OLS(v[others], sm.add_constant(u[others])).fit()
            out.append(float(back(line.params @ [1, u[m]])))
        return out

    @pytest.mark.parametrize("n", [None, (400, 200)])
    @pytest.mark.parametrize("models", [4, 5, 30])
    def test_is_statsmodels_without_the_model(self, models: int, n: tuple[int, int] | None, scale: stats.Scale) -> None:
        x = rng(models).uniform(0.5, 0.99, models)
        y = np.clip(x - 0.1 + rng(2).normal(0, 0.03, models), 0.01, 1)
        y[0] = 1.0  # drawn in on the curved axes
        fitted = np.ones(models, bool)
        found = stats.predicted_by_others(x, y, fitted, scale, n)
        assert found == pytest.approx(self.refitted(x, y, fitted, scale, n), abs=1e-9)

    def test_models_that_are_not_fitted_move_no_line(self, scale: stats.Scale) -> None:
        x, y = rng(1).uniform(0.6, 0.9, 9), rng(2).uniform(0.5, 0.8, 9)
        fitted = np.arange(9) % 4 != 1
        found = stats.predicted_by_others(x, y, fitted, scale)
        assert found == pytest.approx(self.refitted(x, y, fitted, scale, None), abs=1e-9)
        alone = stats.predicted_by_others(x[fitted], y[fitted], np.ones(7, bool), scale)
        assert found[fitted] == pytest.approx(alone, abs=1e-12)
        y[~fitted] = 0.1
        assert stats.predicted_by_others(x, y, fitted, scale) == pytest.approx(found, abs=1e-12)

    def test_each_draw_has_a_line_of_its_own(self, scale: stats.Scale) -> None:
        x, y = rng(3).uniform(0.6, 0.9, (6, 4, 3)), rng(4).uniform(0.5, 0.8, (6, 4, 3))
        fitted = np.array([True] * 5 + [False])
        found = stats.predicted_by_others(x, y, fitted, scale, (90, 80))
        assert found.shape == (6, 4, 3)
        for i, j in itertools.product(range(4), range(3)):
            one = self.refitted(x[:, i, j], y[:, i, j], fitted, scale, (90, 80))
            assert found[:, i, j] == pytest.approx(one, abs=1e-9)

    def test_points_on_a_line_are_predicted_exactly(self, scale: stats.Scale) -> None:
        x = rng(5).uniform(0.6, 0.95, 8)
        y = stats.untransform(0.9 * stats.transform(x, scale) - 0.1, scale)
        assert stats.predicted_by_others(x, y, np.ones(8, bool), scale) == pytest.approx(y, abs=1e-9)

    def test_one_accuracy_for_all_makes_no_line(self, scale: stats.Scale) -> None:
        x = np.column_stack([np.full(5, 0.8), [0.5, 0.6, 0.7, 0.8, 0.9]])
        found = stats.predicted_by_others(x, rng().uniform(0.5, 0.9, (5, 2)), np.ones(5, bool), scale)
        assert np.isnan(found[:, 0]).all()
        assert np.isfinite(found[:, 1]).all()

    def test_whoever_alone_makes_the_line_has_no_line_of_the_others(self, scale: stats.Scale) -> None:
        x = np.array([0.8, 0.8, 0.8, 0.8, 0.9])
        found = stats.predicted_by_others(x, rng().uniform(0.5, 0.9, 5), np.ones(5, bool), scale)
        assert np.isnan(found).tolist() == [False] * 4 + [True]

    @pytest.mark.parametrize("fitted", [[True] * 3, [True, True, True, False, False]])
    def test_fewer_than_four_are_refused(self, fitted: list[bool], scale: stats.Scale) -> None:
        x = rng().uniform(0.5, 0.9, len(fitted))
        with pytest.raises(ValueError, match="four models"):
            stats.predicted_by_others(x, x, fitted, scale)


class TestSpearman:
    def test_is_scipys_with_ties(self) -> None:
        x, y = rng(1).integers(0, 6, 40), rng(2).integers(0, 6, 40)
        rho, p = stats.spearman(x, y, rng(), permutations=4999)
        expected = scipy_stats.spearmanr(x, y)
        assert rho == pytest.approx(expected.statistic)
        assert p == pytest.approx(expected.pvalue, abs=0.03)

    def test_p_is_the_share_of_all_orders(self) -> None:
        x, y = [1, 2, 3, 4, 5], [1, 3, 2, 4, 5]
        rho, p = stats.spearman(x, y, rng(), permutations=20_000)
        every = [abs(scipy_stats.spearmanr(x, order).statistic) for order in itertools.permutations(y)]
        assert p == pytest.approx(np.mean(np.array(every) >= rho - 1e-9), abs=0.01)

    def test_a_constant_has_none(self) -> None:
        assert np.isnan(stats.spearman([1, 1, 1], [1, 2, 3], rng())).all()


def test_the_seed_decides() -> None:
    values = rng(3).random(100)
    assert stats.bootstrap_mean(values, rng(1)) == stats.bootstrap_mean(values, rng(1))
    assert stats.bootstrap_mean(values, rng(1)) != stats.bootstrap_mean(values, rng(2))


class TestMantelHaenszel:
    def test_by_hand(self) -> None:
        # two strata: 6/10 - 8/20 with weight 200/30, 9/10 - 5/10 with weight 100/20
        k, n, k_ref, n_ref = [6, 9], [10, 10], [8, 5], [20, 10]
        value, low, high = stats.mantel_haenszel(k, n, k_ref, n_ref)
        weights = np.array([200 / 30, 100 / 20])
        assert value == pytest.approx((weights * [0.2, 0.4]).sum() / weights.sum())
        # Sato's variance as PROC FREQ states it, stratum by stratum
        p = [(100 * 8 - 400 * 6 + 200 * 10 / 2) / 900, (100 * 5 - 100 * 9 + 0) / 400]
        q = [(6 * (20 - 8) + 8 * (10 - 6)) / 60, (9 * (10 - 5) + 5 * (10 - 9)) / 40]
        half = 1.959964 * np.sqrt((value * sum(p) + sum(q)) / weights.sum() ** 2)
        assert np.allclose([low, high], [value - half, value + half], atol=1e-6)

    def test_one_stratum_is_the_plain_difference(self) -> None:
        value, low, high = stats.mantel_haenszel([70], [100], [50], [80])
        assert value == pytest.approx(0.7 - 0.625)
        assert low < value < high

    def test_strata_of_one_kind_have_no_say(self) -> None:
        with_them = stats.mantel_haenszel([3, 5, 0], [6, 5, 0], [4, 0, 2], [5, 0, 9])
        assert np.allclose(with_them, stats.mantel_haenszel([3], [6], [4], [5]))
        assert np.isnan(stats.mantel_haenszel([5, 0], [5, 0], [0, 2], [0, 9])).all()

    def test_equal_outcomes_have_a_value_and_no_interval(self) -> None:
        value, low, high = stats.mantel_haenszel([4], [4], [7], [7])
        assert value == 0
        assert np.isnan([low, high]).all()

    def test_covers_the_truth_where_strata_are_sparse(self) -> None:
        draw = rng(3)
        n, n_ref = draw.integers(1, 5, 400), draw.integers(1, 7, 400)
        p_ref = draw.uniform(0.2, 0.9, 400)
        k = draw.binomial(n, p_ref - 0.1, (500, 400))
        k_ref = draw.binomial(n_ref, p_ref, (500, 400))
        _, low, high = stats.mantel_haenszel(k, n, k_ref, n_ref)
        assert 0.92 < ((low < -0.1) & (high > -0.1)).mean() < 0.98


class TestSpearmanFlags:
    @staticmethod
    def plain(values: np.ndarray, flags: np.ndarray, strata: np.ndarray) -> float:
        """The definition: mean ranks, centred in each stratum, correlated."""
        ranks = np.stack([scipy_stats.rankdata(side) for side in (values, flags)])
        for one in np.unique(strata):
            ranks[:, strata == one] -= ranks[:, strata == one].mean(axis=1, keepdims=True)
        return float(np.corrcoef(ranks)[0, 1])

    @given(st.integers(0, 10_000))
    def test_is_scipy_and_the_definition(self, seed: int) -> None:
        draw = rng(seed)
        n = int(draw.integers(30, 90))
        values, strata = draw.integers(1, 5, n), draw.integers(0, 6, n)
        flags = draw.random((2, n)) < 0.9 - 0.1 * values
        pooled, within = stats.spearman_flags(values, flags, strata, draw, draws=2)
        for i, flag in enumerate(flags):
            assert pooled.rho[i] == pytest.approx(scipy_stats.spearmanr(values, flag).statistic, abs=1e-12)
            assert within.rho[i] == pytest.approx(self.plain(values, flag, strata), abs=1e-12)

    def test_interval_is_that_of_resampled_rows(self) -> None:
        draw = rng(1)
        values, strata = draw.integers(1, 5, 300), draw.integers(0, 10, 300)
        flags = (draw.random(300) < 0.9 - 0.15 * values)[None]
        found = stats.spearman_flags(values, flags, strata, rng(5), draws=400)
        same = rng(5)
        order = np.lexsort((values, strata))
        drawn = (order[same.integers(0, 300, 300)] for _ in range(400))
        plain = [
            (scipy_stats.spearmanr(values[r], flags[0][r]).statistic, self.plain(values[r], flags[0][r], strata[r]))
            for r in drawn
        ]
        for one, column in zip(found, np.array(plain).T, strict=True):
            assert np.allclose([one.low[0], one.high[0]], np.quantile(column, [0.025, 0.975]), atol=1e-12)

    def test_constants_have_no_correlation(self) -> None:
        flags = np.array([[True] * 6, [True, False] * 3])
        pooled, within = stats.spearman_flags([1, 1, 2, 2, 3, 3], flags, [0, 0, 1, 1, 2, 2], rng(), draws=50)
        assert np.isnan([pooled.rho[0], pooled.low[0], pooled.high[0], within.rho[0]]).all()
        assert pooled.rho[1] == pytest.approx(0)
        assert np.isnan(within.rho).all()  # within a stratum every value is the same
        with pytest.raises(ValueError, match="no rows"):
            stats.spearman_flags([], np.zeros((1, 0)), [], rng())

    def test_does_not_depend_on_how_many_resamples_are_held(self, monkeypatch: pytest.MonkeyPatch) -> None:
        draw = rng(2)
        values, flags, strata = draw.integers(1, 4, 60), draw.random((3, 60)) < 0.6, draw.integers(0, 4, 60)
        whole = stats.spearman_flags(values, flags, strata, rng(7), draws=30)
        monkeypatch.setattr(stats, "_WEIGHTS_AT_ONCE", 420)
        parts = stats.spearman_flags(values, flags, strata, rng(7), draws=30)
        for one, other in zip(whole, parts, strict=True):
            assert np.array_equal([one.rho, one.low, one.high], [other.rho, other.low, other.high])


def test_the_dimension_that_squared_lengths_allow() -> None:
    assert stats.dimension(0, 3, 100) == 0
    assert stats.dimension(1e9, 3, 100) == 100
    limit = scipy_stats.chi2.ppf(0.05, 3 * 7)
    assert stats.dimension(limit * 1.0001, 3, 100) == 7
    assert stats.dimension(limit * 0.9999, 3, 100) == 6
    rng, held = np.random.default_rng(0), 0
    for _ in range(2000):
        held += stats.dimension(float((rng.standard_normal((2, 12)) ** 2).sum()), 2, 100) >= 12
    assert 0.935 < held / 2000 < 0.965


def test_independent_events_of_one_chance_are_binomial() -> None:
    from scipy.stats import binom

    np.testing.assert_allclose(stats.poisson_binomial(np.full(12, 0.3)), binom(12, 0.3).pmf(np.arange(13)))
    np.testing.assert_allclose(stats.poisson_binomial([1.0, 0.0, 0.5]), [0, 0.5, 0.5, 0])
    assert stats.poisson_binomial([]).tolist() == [1.0]


def test_a_share_of_clusters_that_are_alike_has_the_interval_of_their_number() -> None:
    rng = np.random.default_rng(0)
    alike = stats.bootstrap_share(np.ones(40), rng, clusters=np.arange(40) // 4)
    assert alike == pytest.approx([float(one) for one in stats.wilson(10, 10)])
    single = stats.bootstrap_share([1, 0, 0, 0], rng, clusters=[0, 0, 0, 0])
    assert single == pytest.approx([float(one) for one in stats.wilson(0.25, 1)])
    low, high = stats.bootstrap_share(np.arange(100) % 4 == 0, rng)
    assert low < 0.25 < high


def test_a_ratio_is_of_rows_together() -> None:
    rng = np.random.default_rng(0)
    under = rng.uniform(1, 5, 60)
    assert stats.bootstrap_ratio(2 * under, under, rng) == pytest.approx((2, 2)), "one does not vary over the other"
    low, high = stats.bootstrap_ratio(under + rng.normal(0, 0.5, 60), under, rng)
    assert low < 1 < high
    apart = stats.bootstrap_ratio(np.r_[np.ones(30), np.full(30, 3.0)], np.ones(60), rng, clusters=np.arange(60) // 30)
    assert apart == (1, 3), "two clusters: both of one, or one of each"
    assert np.isnan(stats.bootstrap_ratio([1, 2], [1, 1], rng, clusters=[0, 0])).all()


def test_area_under_the_curve_is_the_share_of_pairs_in_order() -> None:
    assert stats.auroc([3, 1], [2, 0]) == pytest.approx(0.75)
    assert stats.auroc([1, 1], [1, 1]) == 0.5
    assert stats.auroc([2, 3, 4], [0]) == 1.0
    own = np.random.default_rng(0)
    a, b = own.integers(0, 9, 50), own.integers(0, 7, 40)
    u = scipy_stats.mannwhitneyu(a, b).statistic
    assert stats.auroc(a, b) == pytest.approx(u / (50 * 40))
    with pytest.raises(ValueError, match="both classes"):
        stats.auroc([], [1.0])


def test_the_interval_of_an_area_holds_it_and_draws_pairs() -> None:
    own = np.random.default_rng(1)
    below = own.normal(size=(3, 80))
    low, high = stats.bootstrap_auroc(below + 0.5, below, np.random.default_rng(0), draws=400)
    value = np.mean([stats.auroc(a, b) for a, b in zip(below + 0.5, below, strict=True)])
    assert low < value < high
    assert 0.02 < high - low < 0.3
    assert stats.bootstrap_auroc(np.ones(9), np.zeros(9), own, draws=50) == (1.0, 1.0)
    assert stats.bootstrap_auroc(np.ones(9), np.ones(9), own, draws=50) == (0.5, 0.5)
