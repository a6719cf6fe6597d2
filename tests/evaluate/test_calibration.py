from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from bench.evaluate import calibration
from bench.evaluate.logits import softmax

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 200)
LOGITS = RNG.normal(0, 2, (200, 4)) + 2 * np.eye(4)[LABELS]


def test_a_confidence_of_one_is_in_the_last_bin() -> None:
    """Both are in the last bin: |1/2 - 0.975|. With 1.0 in a bin of its own it would be (0.05 + 1) / 2 = 0.525."""
    assert calibration.ece([0.95, 1.0], [1, 0], 10) == pytest.approx(0.475)
    assert calibration.bins([0.0, 0.0999, 0.1, 0.95, 1.0], 10).tolist() == [0, 0, 1, 9, 9]


def test_ece_by_hand() -> None:
    """Bins [0.5, 0.75) of 0.6, 0.7 (one right) and [0.75, 1] of 0.9 (right): (2/3)|0.5 - 0.65| + (1/3)|1 - 0.9|."""
    assert calibration.ece([0.6, 0.7, 0.9], [1, 0, 1], 4) == pytest.approx(2 / 3 * 0.15 + 1 / 3 * 0.1)
    assert calibration.ece([1.0, 1.0], [1, 1]) == 0
    assert calibration.ece([1.0, 1.0], [0, 0]) == 1


def test_nll_is_that_of_sklearn_and_finite_where_probabilities_round_to_zero() -> None:
    assert calibration.nll(LOGITS, LABELS) == pytest.approx(log_loss(LABELS, softmax(LOGITS)))
    assert calibration.nll([[2000.0, 0.0]], [1]) == 2000


def test_brier_of_two_classes_is_twice_that_of_sklearn() -> None:
    p = softmax(LOGITS[:, :2])
    labels = LABELS % 2
    assert calibration.brier(p, labels) == pytest.approx(2 * brier_score_loss(labels, p[:, 1]))
    assert calibration.brier([[1.0, 0.0, 0.0]], [2]) == 2
    assert calibration.brier([[1.0, 0.0, 0.0]], [0]) == 0


@pytest.mark.parametrize("stretched", [0.25, 1.0, 5.0])
def test_temperature_takes_back_a_stretch(stretched: float) -> None:
    fitted = calibration.fit_temperature(LOGITS, LABELS)
    assert calibration.fit_temperature(LOGITS * stretched, LABELS) == pytest.approx(fitted * stretched, rel=1e-4)


def test_temperature_is_the_best_of_a_grid() -> None:
    fitted = calibration.fit_temperature(LOGITS, LABELS)
    best = min(calibration.nll(LOGITS / t, LABELS) for t in np.geomspace(*calibration.LIMITS, 500))
    assert calibration.nll(LOGITS / fitted, LABELS) <= best + 1e-9


def test_temperature_stays_within_limits_where_all_are_right() -> None:
    low, high = calibration.LIMITS
    assert calibration.fit_temperature(np.eye(3), [0, 1, 2]) == pytest.approx(low, rel=1e-3)
    assert calibration.fit_temperature(np.eye(3), [1, 2, 0]) == pytest.approx(high, rel=1e-3)
