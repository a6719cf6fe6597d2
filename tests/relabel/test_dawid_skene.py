"""Dawid and Skene: rates that are known come back, and joined patterns change nothing."""

from __future__ import annotations

import numpy as np
import pytest

from bench.relabel import dawid_skene


def simulated(
    n: int, sensitivity: list[float], specificity: list[float], seed: int = 0, prior: float = 0.2
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < prior
    said = [
        np.where(truth, rng.random(n) < yes, rng.random(n) > no)
        for yes, no in zip(sensitivity, specificity, strict=True)
    ]
    annotators = len(said)
    return np.tile(np.arange(n), annotators), np.repeat(np.arange(annotators), n), np.concatenate(said) * 1.0, truth


def test_rates_and_prior_come_back() -> None:
    sensitivity, specificity = [0.95, 0.85, 0.7], [0.99, 0.97, 0.93]
    task, annotator, value, truth = simulated(20_000, sensitivity, specificity)
    found = dawid_skene.fit(task, annotator, value)
    np.testing.assert_allclose(found.sensitivity, sensitivity, atol=0.02)
    np.testing.assert_allclose(found.specificity, specificity, atol=0.01)
    assert found.prior == pytest.approx([0.2], abs=0.01)
    assert found.converged
    majority = np.bincount(task, value) >= 2
    assert ((found.probability > 0.5) == truth).mean() >= (majority == truth).mean()


def test_by_hand_after_one_step() -> None:
    """Two tasks, two annotators: a says yes, no; b says yes, yes. Start: T = 1, 1/2. Laplace's 1 is added."""
    found = dawid_skene.fit([0, 1, 0, 1], [0, 0, 1, 1], [1, 0, 1, 1], max_iterations=1)
    sens, spec = np.array([(1 + 1) / (1.5 + 2), (1.5 + 1) / (1.5 + 2)]), np.array([(0.5 + 1) / 2.5, (0 + 1) / 2.5])
    start = np.log(0.75 / 0.25)
    yes, no = np.log(sens / (1 - spec)), np.log((1 - sens) / spec)
    expected = 1 / (1 + np.exp(-np.array([start + yes[0] + yes[1], start + no[0] + yes[1]])))
    np.testing.assert_allclose(found.probability, expected, rtol=1e-12)
    assert found.iterations == 1


@pytest.mark.parametrize("per_label", [False, True])
def test_joining_equal_tasks_changes_nothing(per_label: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    task, annotator, value, _ = simulated(400, [0.9, 0.8, 0.6], [0.95, 0.9, 0.8])
    rng = np.random.default_rng(1)
    keep = rng.random(len(task)) < 0.8
    keep[:400] = True
    value = np.where(rng.random(len(value)) < 0.1, 0.5, value)
    label = rng.integers(0, 5, 400)
    joined = dawid_skene.fit(task[keep], annotator[keep], value[keep], label=label, per_label=per_label)
    monkeypatch.setattr(dawid_skene, "DENSE", 0)
    alone = dawid_skene.fit(task[keep], annotator[keep], value[keep], label=label, per_label=per_label)
    np.testing.assert_allclose(joined.probability, alone.probability, atol=1e-12)
    np.testing.assert_allclose(joined.sensitivity, alone.sensitivity, atol=1e-12)
    assert joined.iterations == alone.iterations


def test_rates_of_a_label_that_an_annotator_never_judged_are_not_known() -> None:
    found = dawid_skene.fit([0, 1, 0], [0, 0, 1], [1, 0, 1], label=[0, 1], per_label=True)
    assert np.isnan(found.sensitivity[1, 1])
    assert np.isfinite(found.sensitivity[0]).all()


def test_without_smoothing_nothing_is_infinite() -> None:
    found = dawid_skene.fit([0, 1, 2] * 2, [0] * 3 + [1] * 3, [1, 1, 1, 1, 1, 1], smoothing=0)
    assert np.isfinite(found.probability).all()
    assert (found.probability > 0.99).all()


def test_tasks_that_nobody_judged_change_nothing_and_have_the_prior() -> None:
    task, annotator, value, _ = simulated(300, [0.9, 0.8, 0.6], [0.95, 0.9, 0.8])
    label = np.arange(300) % 3
    for per_label in (False, True):
        alone = dawid_skene.fit(task, annotator, value, label=label, per_label=per_label)
        gaps = dawid_skene.fit(2 * task, annotator, value, label=np.repeat(label, 2), per_label=per_label)
        np.testing.assert_allclose(gaps.probability[::2], alone.probability, rtol=1e-12)
        np.testing.assert_allclose(gaps.prior, alone.prior, rtol=1e-12)
        assert gaps.iterations == alone.iterations
        expected = alone.prior[label] if per_label else np.full(300, alone.prior[0])
        np.testing.assert_allclose(gaps.probability[1::2], expected, rtol=1e-12)
    unseen = dawid_skene.fit([0, 1], [0, 0], [1, 0], label=[0, 0, 1], per_label=True)
    assert np.isnan(unseen.prior[1])
    assert np.isnan(unseen.probability[2])
    assert np.isfinite(unseen.probability[:2]).all()


def test_patterns_of_any_number_of_annotators_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 60 annotators a pattern has more digits than a whole number holds."""
    rng = np.random.default_rng(0)
    task, annotator = (grid.ravel() for grid in np.meshgrid(np.arange(200), np.arange(60)))
    keep = rng.random(len(task)) < 0.3
    task, annotator = task[keep], annotator[keep]
    truth = rng.random(200) < 0.4
    value = (rng.random(len(task)) < np.where(truth[task], 0.8, 0.2)).astype(float)
    task, annotator, value = (
        np.concatenate([one, one + more]) for one, more in ((task, 200), (annotator, 0), (value, 0))
    )
    joined = dawid_skene.fit(task, annotator, value)
    monkeypatch.setattr(dawid_skene, "DENSE", 0)
    alone = dawid_skene.fit(task, annotator, value)
    np.testing.assert_allclose(joined.probability, alone.probability, atol=1e-12)
    np.testing.assert_array_equal(joined.probability[:200], joined.probability[200:])


def test_labels_are_of_every_task() -> None:
    with pytest.raises(ValueError, match="1 labels for 2 tasks"):
        dawid_skene.fit([0, 1], [0, 0], [1, 0], label=[0])
    with pytest.raises(ValueError, match="label of each task"):
        dawid_skene.fit([0, 1], [0, 0], [1, 0], per_label=True)


@pytest.mark.parametrize("value", [[], [1.5], [-0.1], [float("nan")]])
def test_votes_are_between_no_and_yes(value: list[float]) -> None:
    with pytest.raises(ValueError, match="votes"):
        dawid_skene.fit([0] * len(value), [0] * len(value), value)
