"""What every training loop shares: the batches of an epoch, and the record that it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from bench.errors import BenchError
from bench.models import probes
from bench.models.zoo import Network

DIAGNOSED = 512
"""Images (the first of the training part) whose features tell, after each epoch, whether the encoder collapses."""


@dataclass(frozen=True)
class Epoch:
    """One epoch of one training: a row of the table `training`."""

    epoch: int
    loss: float
    collapse_std: float
    effective_rank: float


def batches(n: int, size: int, generator: Generator) -> Iterator[Tensor]:
    """Indices of an epoch's batches, each (size,), in random order; what is left over waits for another epoch."""
    size = min(size, n)
    order = torch.randperm(n, generator=generator, device=generator.device)
    yield from order[: n // size * size].split(size)


@torch.no_grad()
def diagnose(network: Network, images: Tensor, epoch: int, losses: Tensor) -> Epoch:
    """The record of an epoch. BenchError where the loss is no longer finite."""
    loss = float(losses.mean())
    if not torch.isfinite(losses).all():
        raise BenchError(
            f"the loss is {loss} in epoch {epoch}.",
            where=network.name,
            remedy="Use a lower `lr` for this model in params.yaml.",
        )
    features = network.eval().features(images[:DIAGNOSED]).cpu().numpy()
    return Epoch(epoch, loss, probes.collapse_std(features), probes.effective_rank(features))
