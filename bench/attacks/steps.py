"""How far to go along a gradient: functions (gradient (N, C, H, W)) -> step of the same shape. torch."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def sign(size: float | Tensor) -> Callable[[Tensor], Tensor]:
    """`size` times the sign of the gradient: the steepest step in the max norm (Goodfellow et al. 2015)."""
    return lambda gradient: size * gradient.sign()
