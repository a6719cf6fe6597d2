"""What an attack climbs: functions (logits (N, K), labels (N,)) -> (N,), one value an image. torch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log of the probability of the label: climbing it leads away from the label."""
    return F.cross_entropy(logits, labels, reduction="none")
