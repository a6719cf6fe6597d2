"""Progress bars, log lines and the time of each stage. Bars are quiet when nobody watches."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger("bench")
TIMINGS = ".timings.jsonl"
STARTED = time.perf_counter()
"""When this process began, near enough: a stage is a process, and what it imports is part of what it costs."""


def bar(items: Iterable[T], about: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a progress bar on stderr; no bar where stderr is not a terminal."""
    from tqdm import tqdm

    yield from tqdm(items, desc=about, total=total, disable=not sys.stderr.isatty(), leave=False)


def stage(name: str, work: Callable[[], dict[str, int]], results: Path) -> None:
    """Run one stage, log one line with its counts and seconds, and append its time to results/.timings.jsonl.

    The seconds are those of the whole process so far.
    """
    counts = work()
    seconds = time.perf_counter() - STARTED
    said = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    log.info("%s: %s in %.1f s", name, said, seconds)
    try:
        results.mkdir(parents=True, exist_ok=True)
        with (results / TIMINGS).open("a") as stream:
            stream.write(json.dumps({"stage": name, "seconds": round(seconds, 2), **counts}) + "\n")
    except OSError as fault:  # the results are written, their time is no result
        log.warning("%s: its time could not be noted: %s", name, fault)
