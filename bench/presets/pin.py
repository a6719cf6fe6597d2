"""`python -m bench.presets.pin PRESET DIR`: write the manifest of a preset anew from a local source.

For whoever changes what is written (a text, a column) or the locked versions that write it; `git diff` shows which
files are other ones now.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bench.data import fetch
from bench.errors import BenchError
from bench.presets.preset import HERE
from bench.store import tables


def run(name: str, source: Path) -> int:
    """Write `<name>.sha256` of what `source` gives; return the number of files."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        reader = fetch.reader(name)
        reader.write(reader.read(source), out)
        files = fetch.hashes(out)
    with tables.replacing(HERE / f"{name}.sha256") as temporary:
        temporary.write_text(fetch.manifest_of(files), encoding="utf-8")
    return len(files)


def main() -> None:
    """Exit with a message where there is no such preset or the source cannot be read."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m bench.presets.pin PRESET DIR")
    try:
        print(f"{run(sys.argv[1], Path(sys.argv[2]))} files are pinned.")
    except BenchError as error:
        sys.exit(f"bench: {error}")


if __name__ == "__main__":
    main()
