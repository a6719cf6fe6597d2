"""Claim: study 3 on all of its published scale is a matter of seconds, with bootstrap intervals of two minutes.

Synthetic answers and uncertainties (a skill per model, a difficulty per image, confidences that follow both; the other
set is harder and has some wrong labels) of 564 models on 10,000 + 2,000 images. All rules: R0, R1, R2, R3 and R5 by
three measures of each model itself, and R4 by the same three of all other models, at 50 coverages; once without
resampling, and with 2,000 bootstrap replicates and the intervals of every gap and of its parts. Each such run is a
process of its own, of which the peak of memory is that of everything, the answers included; what numba compiles, which
happens once on a machine, is not in its time.

Against it stands the loop that one writes with numpy and pandas: per model and coverage a mask of images, np.quantile,
pd.cut and groupby for the bins, and per replicate the same on images drawn with rng.integers. `numpy` is that loop
with np.searchsorted and np.bincount for the bins. Both run on one core, and for a few models and replicates only; their
time is extrapolated linearly: what is done once for all models (who is certain of what, for R4) is timed in full. What
they find on the same images is what bench/evaluate/protocol.py finds, which is asserted. Rounds alternate between all;
medians of 3, of the 2 runs with bootstrap their mean.

`page` is what a visitor waits for: all rules at 50 coverages for 67 models on 50,000 + 10,000 images without
resampling, from correctness bits and uncertainty codes as the store holds them, sorting them included; `once` is made
for it, and finds what `by_uncertainty` finds. Medians of 9 that alternate.

`python -m benchmarks.protocol --quick` runs all of it on small numbers and writes nothing.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.evaluate import gap_kernels, protocol
from bench.evaluate.protocol import Found, Pair, Replicates
from bench.store import bits
from benchmarks import beside, met

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Rows = dict[tuple[str, float], tuple[float, float, float]]
"""(rule, q) -> accuracy on the original, on the other set, composition."""
Table = Callable[[Floats, Flags, Floats], tuple[Floats, Floats]]
"""Images and right ones by the bin that their uncertainty is in, of uncertainties, who is right, and inner edges."""


@dataclass(frozen=True)
class Size:
    """How much there is, and how many `models` and `replicates` of it the loops are timed on."""

    models: int
    original: int
    other: int
    coverages: int
    draws: int
    loop_models: int
    loop_replicates: int


FULL = Size(564, 10_000, 2_000, 50, 2_000, 4, 4)
PAGE = Size(67, 50_000, 10_000, 50, 0, 0, 0)
QUICK = Size(12, 300, 120, 6, 40, 2, 3)
QUICK_PAGE = Size(5, 400, 200, 6, 0, 0, 0)
MEASURES = ("entropy_nats", "msp", "margin")
THREADS = 2
ROUNDS, BOOTSTRAP_ROUNDS, PAGE_ROUNDS = 3, 2, 9
CONFIDENCE = 0.95
CLASSES = 1000
TARGETS = {
    "points_s": ("<=", 20),
    "bootstrap_s": ("<=", 120),
    "peak_rss_mb": ("<=", 2000),
    "ratio_points": (">=", 30),
    "ratio_bootstrap": (">=", 30),
    "page_ms": ("<=", 150),
}


def run(*, quick: bool = False) -> dict[str, Any]:
    """All figures; `met` says whether every target is."""
    size, page = (QUICK, QUICK_PAGE) if quick else (FULL, PAGE)
    began, load = time.perf_counter(), os.getloadavg()
    warm(size)
    compile_s = time.perf_counter() - began
    page_ms = _page(page)
    answers = answers_of(size)
    points, loops = [], []
    for _ in range(ROUNDS):
        points.append(_child(size, 0))
        loops.append({name: time_loop(answers, size, table, 0) for name, table in LOOPS.items()})
    drawn, drawn_loops = [], []
    for _ in range(BOOTSTRAP_ROUNDS):
        drawn.append(_child(size, size.draws))
        drawn_loops.append(
            {name: time_loop(answers, size, table, size.loop_replicates) for name, table in LOOPS.items()}
        )
    compare(answers, size)

    seconds = statistics.median(one["seconds"] for one in points), statistics.mean(one["seconds"] for one in drawn)
    loop_points = {name: statistics.median(one[name] for one in loops) for name in LOOPS}
    loop_drawn = {name: statistics.mean(one[name] for one in drawn_loops) for name in LOOPS}
    found = {
        "points_s": round(seconds[0], 1),
        "bootstrap_s": round(seconds[1], 1),
        "peak_rss_mb": max(one["rss_mb"] for one in drawn),
        "ratio_points": round(loop_points["pandas"] / seconds[0], 1),
        "ratio_bootstrap": round(loop_drawn["pandas"] / seconds[1], 1),
        "page_ms": page_ms["once"],
    }
    return {
        **beside(TARGETS, found),
        "page_by_uncertainty_ms": page_ms["by_uncertainty"],
        "ratio_points_numpy": round(loop_points["numpy"] / seconds[0], 1),
        "ratio_bootstrap_numpy": round(loop_drawn["numpy"] / seconds[1], 1),
        "points_rss_mb": max(one["rss_mb"] for one in points),
        "compile_s": round(compile_s, 2),
        "seconds": round(time.perf_counter() - began),
        "load_average": f"{load[0]:.2f} before, {os.getloadavg()[0]:.2f} after",
        "size": {
            "models": size.models,
            "images": [size.original, size.other],
            "coverages": size.coverages,
            "measures": list(MEASURES),
            "draws": size.draws,
            "threads": THREADS,
        },
        "runs_s": {
            "points": [round(one["seconds"], 2) for one in points],
            "bootstrap": [round(one["seconds"], 2) for one in drawn],
        },
        "parts_s": {"points": points[-1]["parts"], "bootstrap": drawn[-1]["parts"]},
        "loops": {
            "points_s": {name: round(value, 1) for name, value in loop_points.items()},
            "bootstrap_s": {name: round(value) for name, value in loop_drawn.items()},
            "extrapolated": f"from {size.loop_models} of {size.models} models on one core, and with bootstrap from"
            f" {size.loop_replicates} of {size.draws} replicates; who is certain of what is timed for all models",
        },
        "met": met(TARGETS, found),
    }


def details(result: dict[str, Any]) -> str:
    """Where the time goes, and what the loops would take."""
    lines = []
    for kind, parts in result["parts_s"].items():
        runs = " ".join(f"{seconds:.2f}" for seconds in result["runs_s"][kind])
        lines.append(f"{kind}: runs of {runs} s; of the last one")
        lines += [f"  {name:<44}{seconds:>10.2f} s" for name, seconds in parts.items()]
        lines += [
            f"  {'the loop with ' + name:<44}{seconds:>10,.0f} s"
            for name, seconds in result["loops"][f"{kind}_s"].items()
        ]
    return "\n".join([*lines, f"loops: extrapolated {result['loops']['extrapolated']}"])


# What there is.


@dataclass(frozen=True)
class Answers:
    """Models on two sets: who is right, and by measure how unsure, (M, N) and (M, K)."""

    right: tuple[Flags, Flags]
    unsure: dict[str, tuple[Floats, Floats]]
    classes: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

    def pair(self, replicates: Replicates, models: int | None = None) -> Pair:
        a, b = (side[:models] for side in self.right)
        return Pair(a, b, *self.classes, replicates)


def answers_of(size: Size) -> Answers:
    """The same ones every time. Confidences are those of float32, in which the most certain ones are equal."""
    rng = np.random.default_rng(size.models)
    skill = np.sort(rng.normal(1.2, 0.5, size.models))
    right, unsure, classes = [], {measure: [] for measure in MEASURES}, []
    for n, shift, wrong in ((size.original, 0.0, 0.0), (size.other, 0.4, 0.03)):
        difficulty = rng.standard_normal(n) + shift
        flags = np.empty((size.models, n), bool)
        doubts = {measure: np.empty((size.models, n)) for measure in MEASURES}
        for m in range(size.models):  # one model at a time: nothing larger than what is kept
            evidence = 2.5 * (skill[m] - difficulty)
            flags[m] = rng.random(n) < _sigmoid(evidence) * (1 - wrong)
            said = 1.3 * (evidence + 0.8 * rng.standard_normal(n))
            for measure in MEASURES:
                p = _sigmoid(said + 0.3 * rng.standard_normal(n)).astype(np.float32)
                doubts[measure][m] = 1 - p
        right.append(flags)
        classes.append(rng.integers(0, CLASSES, n))
        for measure in MEASURES:
            unsure[measure].append(doubts[measure])
    return Answers((right[0], right[1]), {m: (a, b) for m, (a, b) in unsure.items()}, (classes[0], classes[1]))


def _sigmoid(values: Floats) -> Floats:
    return 1 / (1 + np.exp(-values))


def coverages_of(size: Size) -> Floats:
    """From 0.5 on in equal steps, all below 1: for 50 of them 0.50, 0.51, ..., 0.99."""
    return np.linspace(0.5, 1, size.coverages, endpoint=False)


def replicates_of(size: Size, draws: int) -> Replicates:
    """Of two sets that have nothing in common."""
    a, b = np.arange(size.original), size.original + np.arange(size.other)
    return protocol.resample(a, b, np.random.default_rng(draws), draws)


# What is measured.


def warm(size: Size) -> None:
    """Compile, or load, what counts."""
    small = Size(3, 40, 30, 3, 40, 0, 0)
    every_rule(answers_of(small), coverages_of(small), replicates_of(small, 40), defaultdict(float))
    for way in PAGES.values():
        way(_stored(answers_of(small), small), protocol.grid(coverages_of(small)))


def every_rule(
    answers: Answers, coverages: Floats, replicates: Replicates, parts: dict[str, float]
) -> list[tuple[npt.NDArray[Any], ...]]:
    """Every rule by every measure for every model: the figures of each, with intervals where there are draws."""
    pair, over = answers.pair(replicates), protocol.grid(coverages)
    models = len(pair.right_a)
    pools = ~np.eye(models, dtype=bool)
    out = []
    for a, b in answers.unsure.values():
        own = protocol.by_uncertainty(pair, a, b, over, threads=THREADS)
        out += [_figures(found, parts) for found in _spent(parts, "R0, R1, R2, R3, R5", own)]
        began = time.perf_counter()
        entries = protocol.entry_of_certain(a, b, pools, coverages.tolist())
        parts["who is certain, for R4"] += time.perf_counter() - began
        pooled = protocol.by_entry(pair, *entries, coverages.tolist(), threads=THREADS)
        out += [_figures(found, parts) for found in _spent(parts, "R4", pooled)]
    return out


def _figures(found: Found, parts: dict[str, float]) -> tuple[npt.NDArray[Any], ...]:
    kept = found.accuracy_a, found.accuracy_b, found.composition, found.n_a, found.n_b
    if found.draws.shape[2] == 1:
        return kept
    began = time.perf_counter()
    terms = protocol.gaps(found, False, CONFIDENCE)
    parts["intervals"] += time.perf_counter() - began
    return *kept, *(end for term in terms.values() for end in (term.low, term.high))


def _spent(parts: dict[str, float], name: str, found: Iterator[Found]) -> Iterator[Found]:
    """The same, each with the time that it took."""
    while True:
        began = time.perf_counter()
        one = next(found, None)
        parts[name] += time.perf_counter() - began
        if one is None:
            return
        yield one


def _child(size: Size, draws: int) -> dict[str, Any]:
    """Seconds in all and by part, and the peak MB, of a process that does nothing but `every_rule`."""
    command = [sys.executable, "-m", "benchmarks.protocol", "child", *map(str, (*_shape(size), draws))]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    return json.loads(done.stdout)


def _shape(size: Size) -> tuple[int, int, int, int]:
    return size.models, size.original, size.other, size.coverages


def _every_rule_once(size: Size, draws: int) -> dict[str, Any]:
    """What `_child` runs."""
    warm(size)
    answers, coverages = answers_of(size), coverages_of(size)
    parts: dict[str, float] = defaultdict(float)
    began = time.perf_counter()
    replicates = replicates_of(size, draws)
    parts["resampling"] = time.perf_counter() - began
    every_rule(answers, coverages, replicates, parts)
    seconds = time.perf_counter() - began
    rounded = {name: round(value, 2) for name, value in parts.items()}
    return {"seconds": seconds, "parts": rounded, "rss_mb": round(_peak_bytes() / 1e6)}


def _peak_bytes() -> int:
    """The most memory that this process has had. Not `ru_maxrss`, which starts from that of the process before."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def _page(size: Size) -> dict[str, float]:
    """Median milliseconds of what a visitor waits for, by `once` and by `by_uncertainty`."""
    stored = _stored(answers_of(size), size)
    over = protocol.grid(coverages_of(size))
    spent: dict[str, list[float]] = {name: [] for name in PAGES}
    for _ in range(1 + PAGE_ROUNDS):  # the first round is not counted
        figures = []
        for name, way in PAGES.items():
            began = time.perf_counter()
            figures.append(way(stored, over))
            spent[name].append(1000 * (time.perf_counter() - began))
        for one, other in zip(*figures, strict=True):
            assert np.array_equal(one, other, equal_nan=True), "once and by_uncertainty differ"
    return {name: round(statistics.median(values[1:]), 1) for name, values in spent.items()}


@dataclass(frozen=True)
class Stored:
    """Correctness bits and codes of both sets as the store holds them, and what is the same for every visitor."""

    packed: list[npt.NDArray[np.uint8]]
    codes: list[bits.Codes]
    answers: Answers
    replicates: Replicates

    def right(self) -> list[Flags]:
        pairs = zip(self.packed, self.codes, strict=True)
        return [np.unpackbits(rows, axis=1, count=side.shape[1]).view(bool) for rows, side in pairs]


def _stored(answers: Answers, size: Size) -> Stored:
    rows = [bits.stack([bits.pack(row) for row in side]) for side in answers.right]
    codes = [bits.quantise(side, 0, 1) for side in answers.unsure["msp"]]
    return Stored(rows, codes, answers, replicates_of(size, 0))


def _by_once(stored: Stored, over: protocol.Grid) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    return protocol.once(*stored.right(), *stored.codes, over, threads=THREADS)


def _by_uncertainty(stored: Stored, over: protocol.Grid) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    right = stored.right()
    pair = Pair(right[0], right[1], *stored.answers.classes, stored.replicates)
    found = list(protocol.by_uncertainty(pair, *stored.codes, over, threads=THREADS))
    data = [(one.accuracy_a, one.accuracy_b, one.composition) for one in found]
    return np.array(data), np.array([(one.n_a, one.n_b) for one in found])


PAGES = {"once": _by_once, "by_uncertainty": _by_uncertainty}


# The loops.


def pandas_table(unsure: Floats, right: Flags, edges: Floats) -> tuple[Floats, Floats]:
    bins = pd.cut(unsure, [-np.inf, *edges, np.inf], labels=False)
    frame = pd.DataFrame({"bin": bins, "right": right}).groupby("bin")["right"].agg(["size", "sum"])
    frame = frame.reindex(range(len(edges) + 1), fill_value=0)
    return frame["size"].to_numpy(float), frame["sum"].to_numpy(float)


def numpy_table(unsure: Floats, right: Flags, edges: Floats) -> tuple[Floats, Floats]:
    bins = np.searchsorted(edges, unsure)
    count = len(edges) + 1
    return np.bincount(bins, minlength=count).astype(float), np.bincount(bins, right, minlength=count)


LOOPS: dict[str, Table] = {"pandas": pandas_table, "numpy": numpy_table}


def own_rules(unsure: tuple[Floats, Floats], right: tuple[Flags, Flags], coverages: Floats, table: Table) -> Rows:
    """R0, R1, R2, R3 and R5 of one model, coverage by coverage."""
    edges = np.unique(quantiles(unsure[0], np.arange(1, protocol.BINS) / protocol.BINS))
    orders = [np.argsort(side, kind="stable") for side in unsure]
    everything, last = list(zip(unsure, right, strict=True)), unsure[0].max()
    out: Rows = {("R0", 1.0): (right[0].mean(), right[1].mean(), 0.0)}
    for q, tau in zip(coverages.tolist(), quantiles(unsure[0], coverages), strict=True):
        sure = [(u[u <= tau], r[u <= tau]) for u, r in everything]
        out["R1", q] = decomposed(sure, edges[edges < tau], table)
        out["R3", q] = matched(sure, edges[edges < tau], table)
        first = [order[: int(np.ceil(q * len(order) - 1e-9))] for order in orders]
        chosen = [(u[some], r[some]) for (u, r), some in zip(everything, first, strict=True)]
        out["R2", q] = decomposed(chosen, edges[edges < chosen[0][0][-1]], table)
        out["R5", q] = decomposed(everything, np.array([tau] if tau < last else []), table)
    out["R3", 1.0] = matched(everything, edges, table)
    out["R5", 1.0] = decomposed(everything, edges[edges < last], table)
    return out


def quantiles(values: Floats, shares: Floats) -> Floats:
    """The smallest value at or below which each share is; less a hair, as 0.55 * 10,000 is above 5,500 in floats."""
    return np.quantile(values, shares - 1e-12, method="inverted_cdf", axis=-1)


def decomposed(sides: list[tuple[Floats, Flags]], edges: Floats, table: Table) -> tuple[float, float, float]:
    (u_a, right_a), (u_b, right_b) = sides
    if len(u_b) == 0:
        return np.nan, np.nan, np.nan
    (n_a, k_a), (n_b, _) = table(u_a, right_a, edges), table(u_b, right_b, edges)
    return right_a.mean(), right_b.mean(), float(((n_a / len(u_a) - n_b / len(u_b)) * (k_a / n_a)).sum())


def matched(sides: list[tuple[Floats, Flags]], edges: Floats, table: Table) -> tuple[float, float, float]:
    (n_a, k_a), (n_b, k_b) = (table(u, right, edges) for u, right in sides)
    both = (n_a > 0) & (n_b > 0)
    if not both.any():
        return np.nan, np.nan, np.nan
    weights = n_a[both] / n_a[both].sum()
    return float(weights @ (k_a[both] / n_a[both])), float(weights @ (k_b[both] / n_b[both])), 0.0


def certain(unsure: tuple[Floats, Floats], coverages: Floats) -> tuple[Floats, list[npt.NDArray[np.int64]]]:
    """tau of each coverage and model (C, M), and how many models are certain of each image, (C, N) and (C, K)."""
    taus = quantiles(unsure[0], coverages)
    return taus, [np.array([(side <= tau[:, None]).sum(axis=0) for tau in taus]) for side in unsure]


def pool_rules(
    unsure: tuple[Floats, Floats], right: tuple[Flags, Flags], coverages: Floats, of_all: Any, images: Any, m: int
) -> Rows:
    """R4 of model m on the images of a replicate: those of which 90 % of the others are certain."""
    taus, counts = of_all
    others = len(unsure[0]) - 1
    out: Rows = {}
    for c, q in enumerate(coverages.tolist()):
        hits = []
        for side, flags, number, some in zip(unsure, right, counts, images, strict=True):
            inside = number[c] - (side[m] <= taus[c, m]) >= protocol.POOL_SHARE * others - 1e-9
            hits.append(flags[m][some][inside[some]])
        known = len(hits[0]) > 0 and len(hits[1]) > 0
        out["R4", q] = (hits[0].mean(), hits[1].mean(), 0.0) if known else (np.nan,) * 3
    return out


def time_loop(answers: Answers, size: Size, table: Table, replicates: int) -> float:
    """Seconds that a loop would take for all models (and all draws, if it is given some `replicates`)."""
    coverages, rng = coverages_of(size), np.random.default_rng(0)
    once = each = 0.0
    for unsure in answers.unsure.values():
        began = time.perf_counter()
        of_all = certain(unsure, coverages)
        once += time.perf_counter() - began
        began = time.perf_counter()
        for m in range(0, size.models, size.models // size.loop_models)[: size.loop_models]:
            draws = []
            for _ in range(max(replicates, 1)):
                images = [
                    np.arange(n) if not replicates else rng.integers(0, n, n) for n in (size.original, size.other)
                ]
                draws.append(loop_once(answers, unsure, coverages, of_all, images, m, table))
            if replicates:
                gaps = np.array([[row[0] - row[1], row[2]] for one in draws for row in one.values()])
                np.nanquantile(gaps.reshape(replicates, -1), [0.025, 0.975], axis=0)
        each += time.perf_counter() - began
    return once + each * size.models / size.loop_models * (1 + size.draws if replicates else 1) / max(replicates, 1)


def loop_once(
    answers: Answers,
    unsure: tuple[Floats, Floats],
    coverages: Floats,
    of_all: Any,
    images: list[npt.NDArray[np.int64]],
    m: int,
    table: Table,
) -> Rows:
    """All rules of one model by one measure on the images of one replicate."""
    drawn = tuple(side[m][some] for side, some in zip(unsure, images, strict=True))
    right = tuple(side[m][some] for side, some in zip(answers.right, images, strict=True))
    own = own_rules((drawn[0], drawn[1]), (right[0], right[1]), coverages, table)
    return own | pool_rules(unsure, answers.right, coverages, of_all, images, m)


def compare(answers: Answers, size: Size) -> None:
    """Raises AssertionError where a loop finds other figures than bench/evaluate/protocol.py, in any replicate."""
    coverages, replicates = coverages_of(size), replicates_of(size, size.loop_replicates)
    models = size.loop_models
    pair, over = answers.pair(replicates, models), protocol.grid(coverages)
    pools = ~np.eye(size.models, dtype=bool)[:models]
    for measure, unsure in answers.unsure.items():
        a, b = unsure
        of_all = certain(unsure, coverages)
        entries = protocol.entry_of_certain(a, b, pools, coverages.tolist())
        own = protocol.by_uncertainty(pair, a[:models], b[:models], over, threads=THREADS)
        pooled = protocol.by_entry(pair, *entries, coverages.tolist(), threads=THREADS)
        for m, both in enumerate(zip(own, pooled, strict=True)):
            mine = {key: (found, row) for found in both for row, key in enumerate(found.layout)}
            for r in range(replicates.r):
                images = _images(replicates, r)
                for name, table in LOOPS.items():
                    theirs = loop_once(answers, unsure, coverages, of_all, images, m, table)
                    assert set(theirs) == set(mine)
                    wanted = np.array([theirs[key] for key in mine])
                    found = np.array([one.draws[:, row, r] for one, row in mine.values()])
                    where = f"{name} and the protocol differ in {measure} of model {m}, replicate {r}"
                    assert np.allclose(found, wanted, rtol=0, atol=1e-6, equal_nan=True), where  # float32
                    if r == 0:
                        exact = [
                            (one.accuracy_a[row], one.accuracy_b[row], one.composition[row])
                            for one, row in mine.values()
                        ]
                        assert np.allclose(exact, wanted, rtol=0, atol=1e-9, equal_nan=True), where


def _images(replicates: Replicates, r: int) -> list[npt.NDArray[np.int64]]:
    """The images of one replicate by their place, copies side by side."""
    chunk, lane = divmod(r, gap_kernels.LANES)
    weights = replicates.a[chunk, :, lane], replicates.b[chunk, :, lane]
    return [np.repeat(np.arange(len(side)), side) for side in weights]


def main(arguments: Iterable[str]) -> int:
    """`--quick`: all of it on small numbers, printed. `child MODELS N K COVERAGES DRAWS`: one run, for `_child`."""
    match list(arguments):
        case ["child", *numbers]:
            *shape, draws = map(int, numbers)
            print(json.dumps(_every_rule_once(Size(*shape, draws, 0, 0), draws)))
            return 0
        case ["--quick"]:
            print(details(run(quick=True)))
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
