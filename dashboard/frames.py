"""Frames as the pages use them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    Frame = Any  # pandas' own hints make a union of Series, DataFrame and scalars of nearly every expression
else:
    Frame = pd.DataFrame


def records(frame: Frame) -> Iterator[Any]:
    """The rows of a frame, its columns as attributes."""
    return frame.itertuples(index=False)
