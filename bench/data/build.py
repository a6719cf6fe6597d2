"""`bench data build PRESET`: write the datasets of a preset from installed packages, the same bytes every time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from bench import progress
from bench.data import digits, writer
from bench.errors import BenchError

PRESETS: dict[str, Callable[[], Iterator[writer.Content]]] = {"digits": digits.contents}


def run(preset: str, out: Path) -> dict[str, int]:
    """Write `out/<dataset>/` for every dataset of a preset; return counts. BenchError where the preset is unknown."""
    if preset not in PRESETS:
        raise BenchError(
            f"there is no preset {preset!r} to build.",
            where="bench data build",
            remedy=f"Use one of: {', '.join(PRESETS)}.",
        )
    counts = {"datasets": 0, "samples": 0, "bytes": 0}
    for content in progress.bar(PRESETS[preset](), f"build {preset}"):
        size = writer.write(content, out)
        counts = {
            "datasets": counts["datasets"] + 1,
            "samples": counts["samples"] + len(content.ids),
            "bytes": counts["bytes"] + size,
        }
        progress.log.info("%s: %s samples, %s bytes", out / content.name, f"{len(content.ids):,}", f"{size:,}")
    return counts
