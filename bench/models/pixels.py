"""The control without an encoder: a linear head on the pixels, at the size that every encoder sees."""

from __future__ import annotations

from torch import Tensor

from bench.config import Model
from bench.models import training
from bench.models.training import Epoch, Setting
from bench.models.zoo import Network


def train(
    network: Network, images: Tensor, labels: Tensor, model: Model, seed: int, setting: Setting = training.ALONE
) -> list[Epoch]:
    """There is nothing to train but the head, which bench.models.train fits."""
    return []
