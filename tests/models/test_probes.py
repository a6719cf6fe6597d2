"""Heads against scikit-learn and lightly; diagnostics on features whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bench.config import Probes
from bench.models import probes


def clusters(n: int, classes: int, d: int, seed: int = 0, spread: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = np.random.default_rng(99).normal(size=(classes, d)) * 2
    features = centres[labels] + rng.normal(size=(n, d)) * spread
    return (features * np.linspace(0.1, 30, d) + 5).astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 4])
def test_linear_head_is_scikit_learns_on_standardised_features(classes: int) -> None:
    features, labels = clusters(200, classes, 6)
    head = probes.fit_linear(features, labels, classes, Probes(c_grid=[0.1]), seed=0)
    scaler = StandardScaler().fit(features.astype(np.float64))
    oracle = LogisticRegression(C=0.1, max_iter=2000).fit(scaler.transform(features.astype(np.float64)), labels)
    logits = head.logits(features)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = oracle.predict_proba(scaler.transform(features.astype(np.float64)))
    np.testing.assert_allclose(shifted / shifted.sum(axis=1, keepdims=True), expected, atol=1e-6)


def test_cross_validation_takes_the_smallest_c_of_equals() -> None:
    features, labels = clusters(120, 3, 5, spread=0.01)
    assert probes.fit_linear(features, labels, 3, Probes(c_grid=[10.0, 0.1, 1.0]), seed=0).c == 0.1


@pytest.mark.parametrize("seed", range(4))
def test_cross_validation_chooses_as_scikit_learns_grid_search(seed: int) -> None:
    features, labels = clusters(120, 4, 12, seed=seed, spread=4.0)
    grid = [1e-4, 1e-3, 1e-2, 0.1, 1.0]
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        {"logisticregression__C": grid},
        cv=PredefinedSplit(probes._folds(labels, 3, seed)),
        scoring="accuracy",
    ).fit(features.astype(np.float64), labels)
    chosen = probes.fit_linear(features, labels, 4, Probes(c_grid=grid, folds=3), seed=seed).c
    assert chosen == search.best_params_["logisticregression__C"]


@pytest.mark.parametrize("seed", range(3))
def test_c_is_chosen_on_some_and_the_head_fitted_on_all(seed: int) -> None:
    features, labels = clusters(400, 4, 12, seed=seed, spread=6.0)
    settings = Probes(c_grid=[1e-4, 1e-3, 1e-2, 0.1, 1.0], choose_on=100)
    head = probes.fit_linear(features, labels, 4, settings, seed)
    some = probes.few_labels(labels, 25, seed)
    assert np.bincount(labels[some]).tolist() == [25] * 4
    assert head.c == probes.fit_linear(features[some], labels[some], 4, settings, seed).c
    np.testing.assert_array_equal(head.weight, probes._fit(features, labels, 4, head.c).weight)


def test_neighbours_are_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, labels = clusters(120, 4, 6, spread=4.0)
    queries, _ = clusters(45, 4, 6, seed=3, spread=4.0)
    whole = probes.knn(bank, labels, queries, 4, 7, 0.1)
    monkeypatch.setattr(probes, "QUERIES_AT_ONCE", 7)
    np.testing.assert_array_equal(probes.knn(bank, labels, queries, 4, 7, 0.1), whole)


def test_a_dead_feature_and_a_class_without_labels_do_no_harm() -> None:
    features, labels = clusters(90, 3, 4)
    features[:, 2] = 7.0
    head = probes.fit_linear(features, labels, 5, Probes(), seed=0)
    assert head.weight.shape == (5, 4)
    assert np.isfinite(head.logits(features)).all()
    assert set(head.logits(features).argmax(axis=1)) <= {0, 1, 2}


@pytest.mark.parametrize(("k", "t"), [(1, 0.1), (20, 0.1), (7, 0.5)])
def test_knn_answers_as_lightly(k: int, t: float) -> None:
    from lightly.utils.benchmarking import knn_predict

    bank, labels = clusters(150, 4, 8)
    queries, _ = clusters(60, 4, 8, seed=1)
    ours = probes.knn(bank, labels, queries, 4, k, t)
    to = lambda x: torch.from_numpy(probes.normalised(x))  # noqa: E731
    theirs = knn_predict(to(queries), to(bank).T, torch.from_numpy(labels), 4, knn_k=k, knn_t=t)[:, 0]
    np.testing.assert_array_equal(ours, theirs.numpy())


def test_knn_with_fewer_in_the_bank_than_k() -> None:
    bank = np.array([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]])
    assert probes.knn(bank, np.array([0, 1, 1]), np.array([[1.0, 0.1]]), 2, k=20, t=0.05)[0] == 0


def test_few_labels_are_stratified_nested_in_nothing_and_seeded() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 4])
    first, again, other = (probes.few_labels(labels, 10, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.bincount(labels[first]).tolist() == [10, 10, 4]
    assert len(set(first)) == len(first)


def test_effective_rank_of_a_line_is_one_and_of_an_isotropic_cloud_its_dimension() -> None:
    line = np.outer(np.arange(1, 9), [1.0, 2.0, 3.0])
    assert probes.effective_rank(line) == pytest.approx(1.0)
    assert probes.effective_rank(np.tile(np.eye(6), (4, 1))) == pytest.approx(6.0)
    assert probes.effective_rank(np.diag([3.0, 1.0])) == pytest.approx(
        np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))
    )


def test_collapse_std_is_zero_for_one_point_and_one_on_the_sphere() -> None:
    point = np.tile([1.0, 2.0, 3.0], (10, 1)) * np.arange(1, 11)[:, None]  # one direction, many lengths
    assert probes.collapse_std(point) == pytest.approx(0.0, abs=1e-9)
    sphere = np.vstack([np.eye(5), -np.eye(5)])
    assert probes.collapse_std(sphere) == pytest.approx(1.0)


def test_noisy_labels_are_the_share_of_each_class_and_always_another_class() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    wrong = probes.noisy(labels, 3, 0.4, seed=0)
    changed = wrong != labels
    assert [int(changed[labels == label].sum()) for label in range(3)] == [40, 20, 4]
    assert set(wrong) == {0, 1, 2}
    assert np.array_equal(wrong, probes.noisy(labels, 3, 0.4, seed=0))
    assert not np.array_equal(wrong, probes.noisy(labels, 3, 0.4, seed=1))


def test_alignment_and_uniformity_by_hand() -> None:
    square = np.array([[1, 0], [0, 2], [-3, 0], [0, -1]], np.float32)
    quarter = square[[1, 2, 3, 0]]
    assert probes.alignment(square, square) == 0
    assert probes.alignment(square, quarter) == pytest.approx(2)  # between neighbours of a unit square: sqrt(2)
    pairs = [2, 2, 2, 2, 4, 4]  # squared distances of its four sides and two diagonals
    assert probes.uniformity(square) == pytest.approx(np.log(np.mean(np.exp(-2.0 * np.array(pairs)))))
    assert probes.uniformity(np.ones((5, 2), np.float32)) == pytest.approx(0, abs=1e-6)


def test_uniformity_and_alignment_are_those_of_their_authors() -> None:
    """The code in the paper's listing (Wang & Isola 2020, figure 5)."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 8)), rng.normal(size=(40, 8))
    a, b = (torch.nn.functional.normalize(torch.from_numpy(z), dim=1) for z in (x, y))
    assert probes.alignment(x, y) == pytest.approx((a - b).norm(p=2, dim=1).pow(2).mean().item())
    assert probes.uniformity(x) == pytest.approx(torch.pdist(a, p=2).pow(2).mul(-2).exp().mean().log().item())
