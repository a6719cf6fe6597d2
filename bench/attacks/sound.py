"""Whether a network can be attacked as it is: asked before anything is made."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import nn

from bench import compute
from bench.config import Config
from bench.data import samples
from bench.data.samples import Samples
from bench.errors import BenchError

SAME = 1e-4
"""Relative difference of logits in two passes that is still taken for the same answer."""


def logits(
    name: str, network: nn.Module, dataset: str, data: Samples, config: Config, *, least: int = 2
) -> npt.NDArray[np.float32]:
    """The logits (N, K) of clean images of a dataset. least: the classes that the attack needs.

    BenchError where images are outside [0, 1], or the network `name` is in training mode, gives NaN, probabilities or
    another number of classes than the dataset has, or answers differently when asked again.
    """
    where = f"model {name}"
    if not (data.images.min() >= 0 and data.images.max() <= 1):
        raise BenchError("its images are not in [0, 1].", where=where, remedy="Normalise inside the model.")
    if any(module.training for module in network.modules()):
        raise BenchError("is in training mode.", where=where, remedy="Call `eval()` on it, with all of its parts.")
    found = compute.forward(network, data.images, config.compute)
    n_classes = len(samples.classes(config, dataset))
    if found.shape[1] != n_classes:
        raise BenchError(
            f"knows {found.shape[1]} classes, and {dataset} has {n_classes}.",
            where=where,
            remedy="Leave it out of `attacks.pool` and of the runs that name it.",
        )
    if n_classes < least:
        raise BenchError(
            f"knows {n_classes} classes: this attack needs {least}.", where=where, remedy="Use another kind."
        )
    if (found >= 0).all() and np.allclose(found.sum(axis=1), 1, atol=1e-4):
        raise BenchError(
            "gives probabilities, not logits: their gradient vanishes where it is sure.",
            where=where,
            remedy="Take the softmax out of the model.",
        )
    some = slice(0, config.compute.batch_size)
    again = compute.forward(network, data.images[some], config.compute)
    if not np.allclose(found[some], again, rtol=SAME, atol=SAME):
        raise BenchError(
            f"answers differently when asked again, by up to {np.abs(found[some] - again).max():.2g}.",
            where=where,
            remedy="Take noise, dropout and other chance out of the model, or make it the same each time.",
        )
    return found
