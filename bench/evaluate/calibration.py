"""How far probabilities can be trusted: ECE, NLL, Brier score, and temperature scaling. numpy and scipy only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

Floats = npt.NDArray[np.float64]
LIMITS = (0.05, 20.0)
"""The temperatures that are searched; at a limit the validation images say nothing better (all of them right, say)."""


def bins(confidence: npt.ArrayLike, n_bins: int) -> npt.NDArray[np.int64]:
    """The bin of each confidence (N,): equal widths, [low, high), the last closed, so that 1.0 is in the last one."""
    return np.minimum((np.asarray(confidence, np.float64) * n_bins).astype(np.int64), n_bins - 1)


def bin_gaps(confidence: npt.ArrayLike, correct: npt.ArrayLike, n_bins: int) -> Floats:
    """(N, n_bins): in the bin of each image, correct minus confidence; else 0. ECE is a function of its column sums."""
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    out = np.zeros((len(confidence), n_bins))
    out[np.arange(len(confidence)), bins(confidence, n_bins)] = correct - confidence
    return out


def ece(confidence: npt.ArrayLike, correct: npt.ArrayLike, n_bins: int = 15) -> float:
    """Expected calibration error: sum over bins of (n_b / n) |accuracy_b - mean confidence_b|.

    confidence (N,) in [0, 1], correct (N,) 0 or 1. Source: Naeini et al. 2015, Guo et al. 2017 (arXiv 1706.04599).
    """
    return float(np.abs(bin_gaps(confidence, correct, n_bins).mean(axis=0)).sum())


def log_losses(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Floats:
    """-log of the probability of the label, nats, of each image: logits (N, K), labels (N,). NLL is its mean."""
    z = np.asarray(logits, np.float64)
    return special.logsumexp(z, axis=1) - z[np.arange(len(z)), np.asarray(labels)]


def nll(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Negative log-likelihood: the mean of `log_losses`, nats."""
    return float(log_losses(logits, labels).mean())


def square_losses(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> Floats:
    """Squared distance of probabilities (N, K) to the one-hot label of each image; in [0, 2]. Brier is its mean."""
    p = np.asarray(probabilities, np.float64)
    p_true = p[np.arange(len(p)), np.asarray(labels)]
    return (p * p).sum(axis=1) - p_true**2 + (1 - p_true) ** 2


def brier(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Brier's score over all classes: the mean of `square_losses`, in [0, 2]. Source: Brier 1950."""
    return float(square_losses(probabilities, labels).mean())


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The T > 0 within LIMITS that minimises the NLL of logits / T: logits (N, K), labels (N,).

    NLL is convex in 1 / T, so a bounded scalar search finds the one minimum. Source: Guo et al. 2017.
    """
    z, labels = np.asarray(logits, np.float64), np.asarray(labels)
    low, high = np.log(LIMITS[0]), np.log(LIMITS[1])
    found = optimize.minimize_scalar(
        lambda log_t: nll(z / np.exp(log_t), labels), bounds=(low, high), method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(found.x))
