"""The nearest images of a set: functions (images (N, C, H, W), state with `clean`) -> images of that set. torch."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.attacks.engine import Project, State
from bench.attacks.steps import lengths


def l2_ball(eps: float) -> Project:
    """The nearest images whose distance to `clean` is at most `eps`, in units of [0, 1] over all channels."""

    return lambda x, state: within(x, state["clean"], eps)


def within(x: Tensor, clean: Tensor, radius: float | Tensor) -> Tensor:
    """The nearest images to `x` (B, C, H, W) no further than `radius`, of all or (B, 1, 1, 1), from `clean`."""
    change = x - clean
    size = lengths(change)
    # A millionth less, as the product rounded to float32 may be longer than the radius.
    return torch.where(size > radius, clean + change * ((1 - 1e-6) * radius / size.clamp_min(1e-30)), x)


def l0_limited(share: float) -> Project:
    """The nearest images that differ from `clean` in at most `share` of the positions (in any channel).

    For steps whose length tells positions apart: after a sign step all changes are alike, and which stay is arbitrary.
    """

    def project(x: Tensor, state: State) -> Tensor:
        change = x - state["clean"]
        size = (change**2).sum(dim=1).flatten(1)
        k = min(int(share * size.shape[1] + 1e-9), size.shape[1])
        if k == 0:
            return state["clean"].clone()
        kept = torch.zeros_like(size).scatter_(1, size.topk(k, dim=1).indices, 1.0)
        return torch.where(kept.view(len(x), 1, *x.shape[2:]) > 0, x, state["clean"])

    return project
