"""`bench data fetch PRESET`: the data of a preset that may not be passed on, verified against the preset's manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bench.data.samples import LABELS, META, SAMPLES
from bench.errors import BenchError
from bench.store import tables


def digest(folder: Path) -> str:
    """One hex sha256 for a dataset's folder: of the hex sha256s of its three files, one after the other.

    BenchError where a file is missing.
    """
    names = (META, SAMPLES, LABELS)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise BenchError(
            f"lacks {', '.join(missing)}.",
            where=folder,
            remedy=f"Fetch it again with `bench data fetch {folder.parent.name}`.",
        )
    return of_hashes([tables.sha256(folder / name) for name in names])


def of_hashes(hashes: list[str]) -> str:
    """The digest of a folder from the hex sha256s of dataset.json, samples.parquet and labels.parquet."""
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
