"""Figures of the papers of studies 5, 6 and 8 that stand beside this benchmark's own: the reader of published.yaml."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from bench.config import Frozen
from bench.errors import BenchError

PATH = Path(__file__).with_suffix(".yaml")


class Matrix(Frozen):
    """How often images made on each model (rows) transfer to each other one (columns), %; None on the diagonal."""

    source: str
    transferred: int
    models: tuple[str, ...]
    rates: tuple[tuple[float | None, ...], ...]


class Collection(Frozen):
    """A collection of theirs, the group here that is the same or nearest, and their shares of transfers, %."""

    name: str
    group: str
    inside: float | None = None
    top3: float
    top5: float


class Collections(Frozen):
    """Their table, of the classes of one label space."""

    source: str
    label_space: str
    rows: tuple[Collection, ...]


class Regions(Frozen):
    """Their share of transfers that attacks on regions maintain, %."""

    source: str
    maintain: float


class Published(Frozen):
    """All of published.yaml. `images`: on which the rates of the matrix are."""

    images: int
    transferred: int
    regional: Regions
    matrix: Matrix
    collections: Collections


def load(path: Path = PATH) -> Published:
    """Read and check the figures. BenchError where the file is malformed."""
    try:
        return Published.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as fault:
        raise BenchError(f"holds no published figures: {fault}.", where=path, remedy="Restore it with git.") from None
