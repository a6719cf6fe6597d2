"""Dawid and Skene's estimate of true labels and of annotators' rates, for yes and no (binary relevance).

Dawid & Skene 1979, as STUDIES.md D writes it for pairs of image and label: each is true or not, each annotator says yes
to a true one with its sensitivity and no to a false one with its specificity, independently. Tasks on which the same
annotators said the same are computed once: with a handful of annotators that is most of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TINY = 1e-10
"""What counts are at least, so that a rate is never 0 or 1 and its logarithm is finite."""
SPAN = 2**62
"""How many patterns can be told apart by one whole number."""
DENSE = 200_000_000
"""Tasks times annotators up to which equal tasks are joined."""


@dataclass(frozen=True)
class Fit:
    """What was estimated of T tasks and A annotators: `probability` (T,) that a task is true, `sensitivity` and
    `specificity` (A,), or (A, L) with rates of each of L labels, NaN where an annotator judged none; `prior` (1,) or
    (L,), over the tasks that somebody judged. A task that nobody judged has the prior of its label as its probability,
    NaN where nobody judged the label. `converged`: no probability changed by the tolerance any more."""

    probability: Floats
    sensitivity: Floats
    specificity: Floats
    prior: Floats
    iterations: int
    converged: bool


def fit(
    task: npt.ArrayLike,
    annotator: npt.ArrayLike,
    value: npt.ArrayLike,
    *,
    label: npt.ArrayLike | None = None,
    smoothing: float = 1.0,
    per_label: bool = False,
    tolerance: float = 1e-5,
    max_iterations: int = 100,
) -> Fit:
    """Estimate by expectation maximisation, from the share of yes of each task on.

    task, annotator (V,) whole numbers from 0 on; value (V,) 1 for yes, 0 for no, between for unsure; label (T,) of each
    task, needed for `per_label`: every label has a prior and rates of its own then. There are as many tasks as labels,
    without these as many as the last that was judged says. `smoothing` is added to the yes and to the no of each
    annotator (Laplace: 1). ValueError where there are no votes, a value is NaN or outside [0, 1], or `label` is missing
    or too short.
    """
    task, annotator = np.asarray(task, np.int64), np.asarray(annotator, np.int64)
    value = np.asarray(value, np.float64)
    if not len(value) or not ((value >= 0) & (value <= 1)).all():
        raise ValueError("there must be votes, each between 0 and 1")
    n_tasks, n_annotators = int(task.max()) + 1, int(annotator.max()) + 1
    if label is None and per_label:
        raise ValueError("rates of each label need the label of each task")
    given = np.zeros(n_tasks, np.int64) if label is None else np.asarray(label, np.int64)
    if len(given) < n_tasks:
        raise ValueError(f"{len(given)} labels for {n_tasks} tasks")
    n_tasks = len(given)
    of_task = given if per_label else np.zeros(n_tasks, np.int64)
    first, inverse, weight = _patterns(task, annotator, value, of_task, n_tasks, n_annotators)
    keep = first[inverse[task]] == task  # the votes of one task of each pattern
    rows, who, said = inverse[task[keep]], annotator[keep], value[keep]
    group = of_task[first]
    n_groups = int(of_task.max()) + 1
    cell = who * n_groups + group[rows]
    n_cells, n_rows = n_annotators * n_groups, len(first)

    votes = np.bincount(rows, minlength=n_rows)
    weight = np.where(votes > 0, weight, 0.0)  # a task that nobody judged says nothing of how many are true
    present = np.bincount(group, weight, minlength=n_groups)
    t = np.bincount(rows, said, minlength=n_rows) / np.maximum(votes, 1)
    iterations, converged = 0, False
    sensitivity = specificity = np.zeros(n_cells)
    prior = np.zeros(n_groups)
    while iterations < max_iterations and not converged:
        sensitivity, specificity = _rates(t, weight, rows, said, cell, n_cells, smoothing)
        prior = np.bincount(group, weight * t, minlength=n_groups) / np.maximum(present, 1)
        held = np.clip(prior, TINY, 1 - TINY)
        evidence = said * np.log(sensitivity / (1 - specificity))[cell]
        evidence += (1 - said) * np.log((1 - sensitivity) / specificity)[cell]
        logit = np.log(held / (1 - held))[group] + np.bincount(rows, evidence, minlength=n_rows)
        new = 1 / (1 + np.exp(-np.clip(logit, -700, 700)))
        converged = bool(np.abs(new - t)[votes > 0].max() < tolerance)
        t = new
        iterations += 1
    sensitivity, specificity = _rates(t, weight, rows, said, cell, n_cells, smoothing)
    seen = np.bincount(cell, minlength=n_cells) > 0
    shape = (n_annotators, n_groups) if per_label else (n_annotators,)
    sensitivity, specificity = (np.where(seen, rate, np.nan).reshape(shape) for rate in (sensitivity, specificity))
    judged = np.where(present > 0, present, np.nan)
    prior = np.bincount(group, weight * t, minlength=n_groups) / judged
    t = np.where(votes > 0, t, prior[group])
    return Fit(t[inverse], sensitivity, specificity, prior, iterations, converged)


def _rates(
    t: Floats, weight: Floats, rows: Ints, said: Floats, cell: Ints, n_cells: int, smoothing: float
) -> tuple[Floats, Floats]:
    """Sensitivity and specificity of each cell (annotator, or annotator and label) from probabilities of truth."""
    true, false = (weight * t)[rows], (weight * (1 - t))[rows]
    yes_true, no_true = np.bincount(cell, true * said, n_cells), np.bincount(cell, true * (1 - said), n_cells)
    yes_false, no_false = np.bincount(cell, false * said, n_cells), np.bincount(cell, false * (1 - said), n_cells)
    counts = [np.maximum(count + smoothing, TINY) for count in (yes_true, no_true, yes_false, no_false)]
    return counts[0] / (counts[0] + counts[1]), counts[3] / (counts[2] + counts[3])


def _patterns(
    task: Ints, annotator: Ints, value: Floats, label: Ints, n_tasks: int, n_annotators: int
) -> tuple[Ints, Ints, Floats]:
    """A task of each pattern, the pattern of each task, and how many tasks each has: same label, same votes.

    A task without votes is a pattern too. Where annotators voted twice on a task, or a table of all would be too big,
    every task is its own.
    """
    alone = np.arange(n_tasks), np.arange(n_tasks), np.ones(n_tasks)
    if n_tasks * n_annotators > DENSE:
        return alone
    code, values = pd.factorize(value)
    if len(values) > 250:
        return alone
    table = np.zeros((n_annotators, n_tasks), np.uint8)
    table[annotator, task] = code + 1
    if np.count_nonzero(table) < len(task):
        return alone
    base, pattern, span = len(values) + 1, label, int(label.max()) + 1
    for column in table:  # the number of a pattern has a digit for each annotator
        if span * base > SPAN:
            pattern, distinct = pd.factorize(pattern)
            span = len(distinct)
        pattern, span = pattern * base + column, span * base
    inverse, distinct = pd.factorize(pattern)
    first = np.zeros(len(distinct), np.int64)
    first[inverse[::-1]] = np.arange(n_tasks)[::-1]
    return first, inverse, np.bincount(inverse).astype(np.float64)
