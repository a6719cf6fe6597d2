"""The control that no self-supervised encoder may lose against: the same architecture with its first weights.

The weights depend on the architecture and the seed alone, so they are those that every other model of that architecture
starts from.
"""

from __future__ import annotations

from torch import Tensor

from bench.config import Model
from bench.models.training import Epoch, Kept
from bench.models.zoo import Network


def train(
    network: Network, images: Tensor, labels: Tensor, model: Model, seed: int, kept: Kept | None = None
) -> list[Epoch]:
    """Nothing is trained."""
    return []
