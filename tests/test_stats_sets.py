"""Statistics of two sets of images: against scipy and numpy, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as distributions

from bench import stats


def test_homogeneity_is_that_of_scipy_where_counts_are_large() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        counts = rng.integers(10, 60, (2, int(rng.integers(2, 8))))
        tested = stats.homogeneity(counts, rng)
        assert tested is not None
        expected = distributions.chi2_contingency(counts, correction=False)
        assert tested.p == pytest.approx(expected[1])
        assert tested.least_expected == pytest.approx(distributions.contingency.expected_freq(counts).min())
        assert tested.permutations == 0


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 6), min_size=4, max_size=4))
def test_the_permutation_test_is_exact_on_tables_of_four(cells: list[int]) -> None:
    """With both margins fixed, a table of two by two is hypergeometric: its p can be summed up."""
    counts = np.reshape(cells, (2, 2))
    tested = stats.homogeneity(counts, np.random.default_rng(0))
    rows, columns, total = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    if not rows.all() or not columns.all():
        assert tested is None
        return
    assert tested is not None
    assert tested.least_expected == pytest.approx((np.outer(rows, columns) / total).min())
    assert (tested.permutations == 0) == (tested.least_expected >= stats.MIN_EXPECTED)
    if not tested.permutations:
        return
    cell = np.arange(total + 1)
    chance = distributions.hypergeom.pmf(cell, total, columns[0], rows[0])
    as_far = np.abs(cell - rows[0] * columns[0] / total) >= abs(counts[0, 0] - rows[0] * columns[0] / total) - 1e-9
    assert tested.p == pytest.approx(chance[as_far].sum(), abs=0.02)


def test_parts_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> tuple[object, list[float]]:
        rng = np.random.default_rng(0)
        a, row = rng.integers(0, 256, (5, 9)), rng.integers(0, 5, 30)
        tested = stats.homogeneity([[3, 2, 1, 4], [1, 1, 6, 0]], rng, permutations=99)
        return tested, stats.row_correlations(a, a, row, row[::-1]).tolist()

    whole = found()
    monkeypatch.setattr(stats, "_CELLS_AT_ONCE", 40)
    assert found() == whole


def test_nothing_to_compare_has_no_p() -> None:
    rng = np.random.default_rng(0)
    assert stats.homogeneity([[5], [6]], rng) is None
    assert stats.homogeneity([[5, 0], [6, 0]], rng) is None
    assert stats.homogeneity([[0, 0], [6, 1]], rng) is None
    assert stats.homogeneity(np.zeros((2, 0)), rng) is None


def test_a_difference_is_welchs_for_independent_images_and_nothing_for_the_same() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 50), rng.normal(0.5, 2, 30)
    one, other = np.arange(50), 50 + np.arange(30)
    found = stats.standardised_difference(a, b, one, other)
    assert found is not None
    deviation = np.sqrt((49 * a.var(ddof=1) + 29 * b.var(ddof=1)) / 78)
    assert found[0] == pytest.approx((b.mean() - a.mean()) / deviation)
    error = np.sqrt(a.var() / 50 + b.var() / 30) / deviation
    assert (found[2] - found[1]) / 2 == pytest.approx(1.959964 * error)
    assert stats.standardised_difference(a, a, one, one) == pytest.approx((0, 0, 0))
    assert stats.standardised_difference([1.0], [2.0], ["a"], ["b"]) is None


def test_a_difference_is_paired_for_the_same_images_in_any_order() -> None:
    rng = np.random.default_rng(1)
    a, order = rng.normal(0, 1, 40), rng.permutation(40)
    b = a + rng.normal(0.3, 0.1, 40)
    found = stats.standardised_difference(a, b[order], np.arange(40), order)
    assert found is not None
    deviation = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    assert (found[2] - found[1]) / 2 == pytest.approx(1.959964 * (b - a).std() / np.sqrt(40) / deviation)


@given(n=st.integers(1, 40), data=st.data())
def test_rarefied_is_the_hypergeometric_chance(n: int, data: st.DataObject) -> None:
    counts = np.array(data.draw(st.lists(st.integers(0, n), min_size=1, max_size=6)))
    m = data.draw(st.integers(0, n))
    expected = distributions.hypergeom.sf(0, n, counts, m)
    np.testing.assert_allclose(stats.rarefied(counts, n, m), expected, atol=1e-9)


def test_correlations_are_those_of_numpy_and_zero_for_uniform_images() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (5, 1024), dtype=np.uint8), rng.integers(0, 256, (4, 1024), dtype=np.uint8)
    a[4] = 7
    row, column = np.array([0, 3, 4, 1]), np.array([1, 2, 0, 1])
    found = stats.row_correlations(a, b, row, column)
    expected = [np.corrcoef(a[i], b[j])[0, 1] for i, j in zip(row, column, strict=True) if i != 4]
    assert found[2] == 0
    np.testing.assert_allclose(found[[0, 1, 3]], expected)
