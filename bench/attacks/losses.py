"""What an attack climbs: functions (logits (N, K), labels (N,)) -> (N,), one value an image. torch.

Untargeted ones are given the true labels and lead away from them, targeted ones the labels that they lead to.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log of the probability of the label: climbing it leads away from the label."""
    return F.cross_entropy(logits, labels, reduction="none")


def to_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """log of the probability of the target."""
    return -F.cross_entropy(logits, targets, reduction="none")


def saturated(logits: Tensor, targets: Tensor) -> Tensor:
    """Whether the probability of the target rounds to 1, (N,): the gradient of `to_cross_entropy` by the logit of the
    target is then 0, and only those by the other ones are left. In float32 where the others are about 17 behind."""
    return F.log_softmax(logits, dim=1).exp().gather(1, targets[:, None]).squeeze(1) == 1


def best_other(logits: Tensor, labels: Tensor) -> Tensor:
    """The largest logit of another class, (N,). What is not another class is masked by -inf, not by 0: logits may be
    negative."""
    mine = F.one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(mine, -torch.inf).amax(dim=1)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The best other logit minus that of the label: above 0 where another class is answered (Carlini & Wagner 2017,
    arXiv 1608.04644, f_6)."""
    return best_other(logits, labels) - logits.gather(1, labels[:, None]).squeeze(1)


def to_margin(logits: Tensor, targets: Tensor) -> Tensor:
    """The logit of the target minus the best other one: above 0 where the target is answered."""
    return -margin(logits, targets)


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """The difference of logits ratio: the margin over the distance of the largest logit to the third, which neither a
    shift nor a scale of the logits changes (Croce & Hein 2020, arXiv 2003.01690, eq. 6). Needs three classes."""
    largest = logits.topk(3, dim=1).values
    return margin(logits, labels) / (largest[:, 0] - largest[:, 2] + 1e-12)
