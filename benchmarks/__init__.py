"""Benchmarks against peers; here what they share: figures beside their targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Targets = Mapping[str, tuple[str, float]]
"""figure -> `<=` or `>=`, and the limit"""


def beside(targets: Targets, found: Mapping[str, float]) -> dict[str, Any]:
    """Every figure that has a target, followed by that target in words."""
    out: dict[str, Any] = {}
    for figure, (sign, limit) in targets.items():
        out |= {figure: found[figure], f"target_{figure}": f"{sign} {limit}"}
    return out


def met(targets: Targets, found: Mapping[str, float]) -> bool:
    """Whether every target is met."""
    return all(found[key] <= limit if sign == "<=" else found[key] >= limit for key, (sign, limit) in targets.items())
