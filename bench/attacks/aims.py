"""Which class a targeted attack leads each image to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench import compute
from bench.data.samples import Samples

Classes = npt.NDArray[np.int64]


def drawn(seed: int, data: Samples, n_classes: int) -> Classes:
    """A class for each image (N,), any other than its label alike, drawn by its id."""
    away = [int(compute.rng(seed, "target", sample_id).integers(1, n_classes)) for sample_id in data.ids]
    return (data.labels + np.array(away, np.int64)) % n_classes


def runner_up(logits: npt.NDArray[np.floating], labels: Classes) -> Classes:
    """For each image (N,) the class, other than its label, of the largest clean logit (N, K)."""
    others = np.array(logits, np.float64)
    others[np.arange(len(labels)), labels] = -np.inf
    return others.argmax(axis=1)
