"""What `make repro` costs: the CPU seconds of a `dvc repro` that has nothing to do, and the seconds of every stage.

The stages' seconds are those of their last run on this machine, each a process of its own, imports included.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
from typing import Any

from bench import config
from bench.errors import BenchError
from bench.store import report

ROUNDS = 5
NO_OP_CPU_S = 5.0
TOTAL_S = 900.0
BEYOND = ("collisions", "radar", "segmentation")
"""Stages of studies that are of something else than labels."""
BEYOND_S = 180.0


def run() -> dict[str, Any]:
    """Median CPU seconds of a no-op `dvc repro`, and the sum of the stages' seconds; BenchError if stages are stale."""
    settings = config.load()
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"], cwd=settings.root, capture_output=True, text=True, check=True
    )
    if stale := list(json.loads(status.stdout)):
        raise BenchError(f"stages are not up to date: {', '.join(stale[:5])}.", remedy="Run `make repro` first.")
    no_op = [_cpu_seconds([sys.executable, "-m", "dvc", "repro", "--quiet"]) for _ in range(ROUNDS)]
    seconds = report.latest_seconds(settings)
    total, beyond = sum(seconds.values()), sum(seconds.get(stage, 0) for stage in BEYOND)
    return {
        "no_op_cpu_s": round(statistics.median(no_op), 2),
        "target_no_op_cpu_s": NO_OP_CPU_S,
        "stages_s": round(total, 1),
        "target_stages_s": TOTAL_S,
        "beyond_labels_s": round(beyond, 1),
        "target_beyond_labels_s": BEYOND_S,
        "rounds": ROUNDS,
        "stages": seconds,
        "met": statistics.median(no_op) <= NO_OP_CPU_S and 0 < total <= TOTAL_S and 0 < beyond <= BEYOND_S,
    }


def _cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
