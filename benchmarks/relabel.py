"""Claim: consensus and agreement of a whole set of images are a matter of a second.

Synthetic votes: 3 annotators of known rates judge the 20 proposals of each of 10,000 images, of 1,000 classes. Dawid
and Skene's estimate is timed against crowd-kit's `DawidSkene` on the same pairs of image and label, both without
smoothing, with the same rates for all labels and the same number of iterations; the labels must be the same. (The
wrapper for several labels there, `BinaryRelevance`, runs once a class and takes labels that were not shown for "no".)
`agreement` is all of the stage's: disagreement, Jaccard with a bootstrap, alpha with MASI and its interval, every pair
of annotators and all together. Runs alternate; medians, of crowd-kit the mean of its 2.
"""

from __future__ import annotations

import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from bench.relabel import agreement, dawid_skene
from benchmarks import beside, met

IMAGES, ANNOTATORS, PROPOSALS, CLASSES = 10_000, 3, 20, 1_000
SENSITIVITY, SPECIFICITY = (0.95, 0.85, 0.7), (0.99, 0.97, 0.93)
ITERATIONS, RUNS, PEER_RUNS = 20, 5, 2
TARGETS = {"dawid_skene_s": ("<=", 2.0), "times_crowdkit": (">=", 50.0), "agreement_s": ("<=", 2.0)}


def run(images: int = IMAGES) -> dict[str, Any]:
    """Seconds of both, and how many times as long crowd-kit takes. RuntimeError where the labels are not the same."""
    task, annotator, value, judged = votes(images)
    ours, theirs, ours_s, theirs_s, agreement_s = None, None, [], [], []
    frame = pd.DataFrame({"task": task, "worker": annotator, "label": value.astype(int)})
    for turn in range(RUNS):
        seconds, ours = _timed(lambda: _fit(task, annotator, value))
        ours_s.append(seconds)
        if turn < PEER_RUNS:
            seconds, theirs = _timed(lambda: _crowdkit(frame))
            theirs_s.append(seconds)
        agreement_s.append(_timed(lambda: agreement.agreement(judged, "d", 0, 1000, 0.95))[0])
    if ours is None or theirs is None or not np.array_equal(ours.probability > 0.5, theirs[1].to_numpy() > 0.5):
        raise RuntimeError("the labels are not the same")
    apart = float(np.abs(ours.probability - theirs[1].to_numpy()).max())
    converged_s, converged = _timed(lambda: dawid_skene.fit(task, annotator, value))
    found = {
        "dawid_skene_s": round(statistics.median(ours_s), 3),
        "times_crowdkit": round(statistics.mean(theirs_s) / statistics.median(ours_s)),
        "agreement_s": round(statistics.median(agreement_s), 2),
    }
    return {
        **beside(TARGETS, found),
        "pairs": images * PROPOSALS,
        "votes": len(task),
        "iterations": ITERATIONS,
        "crowdkit_s": round(statistics.mean(theirs_s), 1),
        "largest_difference": apart,
        "until_converged_s": round(converged_s, 3),
        "iterations_until_converged": converged.iterations,
        "load_average": round(os.getloadavg()[0], 1),
        "runs_s": {"dawid_skene": ours_s, "crowdkit": theirs_s, "agreement": agreement_s},
        "met": met(TARGETS, found),
    }


def votes(images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, pd.DataFrame]:
    """Votes as task, annotator and value, and as rows sample_id, class_id, annotator, action."""
    rng = np.random.default_rng(0)
    shown = np.argsort(rng.random((images, CLASSES), np.float32), axis=1)[:, :PROPOSALS]
    truth = rng.random((images, PROPOSALS)) < 0.1
    parts = []
    for who, (yes, no) in enumerate(zip(SENSITIVITY, SPECIFICITY, strict=True)):
        said = np.where(truth, rng.random(truth.shape) < yes, rng.random(truth.shape) > no)
        parts.append((np.arange(truth.size), np.full(truth.size, who), said.ravel().astype(float)))
    task, annotator, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    names = np.array([f"annotator {who}" for who in range(ANNOTATORS)])
    ids = np.array([f"d/{i:05d}" for i in range(images)])
    judged = pd.DataFrame(
        {
            "sample_id": ids[task // PROPOSALS],
            "class_id": shown.ravel()[task],
            "annotator": names[annotator],
            "action": np.where(value > 0, "yes", "no"),
        }
    )
    return task, annotator, value, judged


def _fit(task: np.ndarray, annotator: np.ndarray, value: np.ndarray) -> dawid_skene.Fit:
    return dawid_skene.fit(task, annotator, value, smoothing=0, tolerance=0, max_iterations=ITERATIONS)


def _crowdkit(frame: pd.DataFrame) -> pd.DataFrame:
    from crowdkit.aggregation import DawidSkene

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return DawidSkene(n_iter=ITERATIONS, tol=-np.inf).fit_predict_proba(frame).sort_index()


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result
