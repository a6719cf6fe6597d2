"""`python -m bench.presets.check PRESET`: what the database says of a preset beside what it must say, by SQL."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.errors import BenchError
from bench.presets import preset as presets


def run(name: str, database: Path) -> int:
    """Print every figure of a preset with its expected value; return how many differ. BenchError without a database."""
    import duckdb

    preset = presets.load(name)
    if not database.is_file():
        raise BenchError("is missing.", where=database, remedy="Run `dvc repro`, then `bench report`.")
    try:
        with duckdb.connect(str(database), read_only=True) as connection:
            rows = [connection.execute(figure.sql).fetchone() for figure in preset.figures]
    except duckdb.Error as fault:
        raise BenchError(f"{fault}.", where=database, remedy="Run `dvc repro`, then `bench report`.") from None
    found = [row[0] if row else None for row in rows]
    wide = max((len(figure.name) for figure in preset.figures), default=0)
    print(f"{'':{wide}}  {'expected':>9} {'found':>9}")
    wrong = 0
    for figure, value in zip(preset.figures, found, strict=True):
        right = value is not None and abs(float(value) - figure.expected) < 1e-9
        wrong += not right
        print(f"{figure.name:{wide}}  {figure.expected:>9g} {_shown(value):>9} {'' if right else ' differs'}".rstrip())
    print(f"{len(preset.figures) - wrong} of {len(preset.figures)} figures are as expected.")
    return wrong


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def main() -> None:
    """Exit with status 1 where a figure differs or the database is missing."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m bench.presets.check PRESET")
    try:
        sys.exit(1 if run(sys.argv[1], Path("results") / "bench.duckdb") else 0)
    except BenchError as error:
        sys.exit(f"bench: {error}")


if __name__ == "__main__":
    main()
