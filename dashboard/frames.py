"""Frames as the pages use them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.frames import Frame

__all__ = ["Frame", "records"]


def records(frame: Frame) -> Iterator[Any]:
    """The rows of a frame, its columns as attributes."""
    return frame.itertuples(index=False)
