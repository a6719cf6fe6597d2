"""Our Dawid and Skene against crowd-kit's, label by label, without smoothing and with rates of each label."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.relabel import dawid_skene

ITERATIONS = 20
SENSITIVITY, SPECIFICITY = (0.95, 0.8, 0.7, 0.45), (0.98, 0.95, 0.9, 0.5)
"""The last annotator says yes and no nearly at random."""


def simulated(seed: int, n: int, labels: int, seen: float) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    """Label sets as crowd-kit wants them, and the same votes as tasks, annotators and values."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, labels)) < np.linspace(0.5, 0.03, labels)  # the last label is rare
    rows, votes = [], []
    for who, (yes, no) in enumerate(zip(SENSITIVITY, SPECIFICITY, strict=True)):
        said = np.where(truth, rng.random(truth.shape) < yes, rng.random(truth.shape) > no)
        for image in np.flatnonzero(rng.random(n) < seen):
            rows.append((f"{image:04d}", who, [f"{c:02d}" for c in np.flatnonzero(said[image])]))
            votes += [(image * labels + c, who, float(said[image, c])) for c in range(labels)]
    task, annotator, value = (np.array(column) for column in zip(*votes, strict=True))
    return pd.DataFrame(rows, columns=["task", "worker", "label"]), task, annotator, value


@pytest.mark.parametrize(("seed", "n", "labels", "seen"), [(0, 150, 6, 1.0), (1, 120, 4, 0.8), (2, 60, 8, 0.6)])
def test_equal_to_crowdkit_within_1e_6(seed: int, n: int, labels: int, seen: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from crowdkit.aggregation import BinaryRelevance, DawidSkene

        frame, task, annotator, value = simulated(seed, n, labels, seen)
        oracle: Any = BinaryRelevance(DawidSkene(n_iter=ITERATIONS, tol=-np.inf))
        oracle.aggregators_ = {}  # shared by all instances otherwise
        sets = oracle.fit_predict(frame)
    found = dawid_skene.fit(
        task,
        annotator,
        value,
        label=np.arange(n * labels) % labels,
        smoothing=0,
        per_label=True,
        tolerance=0,
        max_iterations=ITERATIONS,
    )
    compared = 0
    for name, aggregator in oracle.aggregators_.items():
        theirs = aggregator.probas_
        ours = found.probability[theirs.index.astype(int).to_numpy() * labels + int(name)]
        np.testing.assert_allclose(ours, theirs[1].to_numpy(), atol=1e-6)
        compared += len(theirs)
    assert compared == len(sets) * len(oracle.aggregators_) >= len(sets) * (labels - 1)
    for image, mine in sets.items():
        ours = np.flatnonzero(found.probability[int(image) * labels : (int(image) + 1) * labels] > 0.5)
        assert {f"{c:02d}" for c in ours} == set(mine)
