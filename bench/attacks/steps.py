"""How far to go along a gradient: functions (gradient (N, C, H, W), state) -> step of the same shape. torch."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.attacks.engine import VANISHED, State, Step, kept, wide


def sign(size: float) -> Step:
    """`size` times the sign of the gradient: the steepest step in the max norm (Goodfellow et al. 2015)."""
    return lambda gradient, state: size * gradient.sign()


def l2(size: float) -> Step:
    """A step of length `size` along the gradient: the steepest in the Euclidean norm."""
    return lambda gradient, state: size * unit_l2(gradient)


def sign_l2(size: float) -> Step:
    """Along the sign of the gradient, scaled to length `size`: equal in length to `l2`, so that the two can be compared
    (study 9)."""
    return lambda gradient, state: size * unit_l2(gradient.sign())


def raw(size: float) -> Step:
    """`size` times the gradient itself."""
    return lambda gradient, state: size * gradient


def momentum(decay: float, step: Step) -> Step:
    """`step` along a sum of all gradients so far, each scaled to an L1 norm of 1 and weighted by `decay` for each step
    since: MI-FGSM with `sign` (Dong et al. 2018, arXiv 1710.06081)."""

    def along(gradient: Tensor, state: State) -> Tensor:
        size = gradient.abs().sum(dim=(1, 2, 3), keepdim=True)
        held = kept(state, "momentum", gradient)
        held.mul_(decay).add_(torch.where(size > VANISHED, gradient / size.clamp_min(VANISHED), 0))
        return step(held, state)

    return along


def unit_l2(gradient: Tensor) -> Tensor:
    """Gradients (N, C, H, W) of length 1; 0 where one has vanished."""
    size = lengths(gradient)
    return torch.where(size > VANISHED, gradient / size.clamp_min(VANISHED), 0)


def lengths(change: Tensor) -> Tensor:
    """Euclidean norms of (N, C, H, W), as (N, 1, 1, 1)."""
    return wide(change.flatten(1).norm(dim=1))
