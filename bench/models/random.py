"""The control that no self-supervised encoder may lose against: the same architecture with its first weights.

The weights depend on the architecture and the seed alone, so they are those that every other model of that architecture
starts from.
"""

from __future__ import annotations

from torch import Tensor

from bench.config import Model
from bench.models import training
from bench.models.training import Epoch, Setting
from bench.models.zoo import Network


def train(
    network: Network, images: Tensor, labels: Tensor, model: Model, seed: int, setting: Setting = training.ALONE
) -> list[Epoch]:
    """Nothing is trained."""
    return []
