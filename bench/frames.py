"""Frames, as far as their hints are concerned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    Frame = Any  # pandas' own hints make a union of Series, DataFrame and scalars of nearly every expression
else:
    Frame = pd.DataFrame
