"""`python -m benchmarks [NAME ...]`: measure, print, and write benchmarks/results/<name>.json.

A benchmark is a module with `run() -> dict`: its figures by name, what they are held against (`target...`), and `met`.
Figures that are compared are medians of runs that alternate in one process. Where a module has
`details(result) -> str`, it is printed below them.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.store import provenance, tables

MODULES = (
    "annotate",
    "asma",
    "attacks",
    "augmentation",
    "browser",
    "dashboard",
    "predict",
    "protocol",
    "radar",
    "relabel",
    "repro",
    "store",
    "studies",
    "training",
)
RESULTS = Path(__file__).with_name("results")


def main(names: list[str]) -> int:
    """Run the named benchmarks, all by default; return 1 if a target is not met, 2 for a name that is none."""
    if unknown := [name for name in names if name not in MODULES]:
        print(f"There is no benchmark {', '.join(unknown)}; there are {', '.join(MODULES)}.", file=sys.stderr)
        return 2
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does
    results = {}
    for name in names or MODULES:
        try:
            module = importlib.import_module(f"benchmarks.{name}")
            results[name] = module.run()
        except BenchError as fault:
            print(f"benchmark {name}: {fault}", file=sys.stderr)
            return 1
        write(name, results[name])
        print(table(name, results[name]), flush=True)
        if hasattr(module, "details"):
            print(module.details(results[name]), flush=True)
    return 0 if all(result["met"] for result in results.values()) else 1


def write(name: str, result: dict[str, Any]) -> None:
    """Write one benchmark's figures, with the machine and the versions that they are of."""
    content = {**result, "machine": provenance.machine(), "versions": provenance.versions()}
    with tables.replacing(RESULTS / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def table(name: str, result: dict[str, Any]) -> str:
    """The figures of one benchmark as lines: each plain one with its target beside it."""
    lines = [f"{name}: {'met' if result['met'] else 'NOT MET'}"]
    for key, value in result.items():
        if key == "met" or key.startswith("target") or isinstance(value, dict):
            continue
        target = result.get(f"target_{key}")
        lines.append(f"  {key:<28}{value!s:>12}{f'   target {target}' if target is not None else ''}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
