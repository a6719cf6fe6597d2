"""The benchmark of study 3 on small numbers, where the loops must agree too; the figures are `make benchmarks`."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.evaluate import protocol as rules
from benchmarks import protocol

SMALL = protocol.Size(5, 90, 60, 3, 8, 2, 2)


def child(size: protocol.Size, draws: int) -> dict[str, Any]:
    """One run without a process of its own."""
    return protocol._every_rule_once(size, draws)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "_child", child)
        patch.setattr(protocol, "QUICK", SMALL)
        patch.setattr(protocol, "QUICK_PAGE", protocol.Size(3, 50, 40, 3, 0, 0, 0))
        return protocol.run(quick=True)


def test_every_target_stands_beside_its_figure(result: dict[str, Any]) -> None:
    assert all(result[key] >= 0 and result[f"target_{key}"] for key in protocol.TARGETS)
    assert result["met"] == all(
        result[key] <= limit if sign == "<=" else result[key] >= limit
        for key, (sign, limit) in protocol.TARGETS.items()
    )
    assert json.loads(json.dumps(result)) == result


def test_every_run_and_every_part_is_there(result: dict[str, Any]) -> None:
    assert {kind: len(runs) for kind, runs in result["runs_s"].items()} == {"points": 3, "bootstrap": 2}
    parts = {"resampling", "R0, R1, R2, R3, R5", "who is certain, for R4", "R4"}
    assert set(result["parts_s"]["points"]) == parts
    assert set(result["parts_s"]["bootstrap"]) == {*parts, "intervals"}
    lines = protocol.details(result).splitlines()
    assert all(any(name in line for line in lines) for name in ("intervals", "the loop with pandas", "2 of 5 models"))


def test_a_loop_of_a_part_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second for each model, measure and replicate, and two for what is done once a measure."""
    now = [0.0]
    monkeypatch.setattr(protocol, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def spend(seconds: float, value: Any) -> Any:
        now[0] += seconds
        return value

    monkeypatch.setattr(protocol, "certain", lambda *_: spend(2, None))
    monkeypatch.setattr(protocol, "loop_once", lambda *_: spend(1, {("R0", 1.0): (0.5, 0.4, 0.0)}))
    answers = protocol.answers_of(SMALL)
    measures = len(protocol.MEASURES)
    assert protocol.time_loop(answers, SMALL, protocol.numpy_table, 0) == pytest.approx(measures * (2 + 5))
    assert protocol.time_loop(answers, SMALL, protocol.numpy_table, 2) == pytest.approx(measures * (2 + 5 * 9))


def test_loops_that_find_something_else_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = protocol.answers_of(SMALL)
    protocol.compare(answers, SMALL)

    def wrong(unsure: np.ndarray, right: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n, k = protocol.numpy_table(unsure, right, edges)
        return n, k + (np.arange(len(k)) == 0)

    monkeypatch.setitem(protocol.LOOPS, "numpy", wrong)
    with pytest.raises(AssertionError, match="numpy and the protocol differ in entropy_nats of model 0, replicate 0"):
        protocol.compare(answers, SMALL)


def test_ways_of_the_page_that_differ_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    found = protocol._page(protocol.QUICK_PAGE)
    assert set(found) == {"once", "by_uncertainty"}
    wrong = protocol.PAGES["once"]
    monkeypatch.setitem(protocol.PAGES, "once", lambda *given: (1 - wrong(*given)[0], wrong(*given)[1]))
    with pytest.raises(AssertionError, match="once and by_uncertainty differ"):
        protocol._page(protocol.QUICK_PAGE)


def test_answers_have_what_the_rules_are_about() -> None:
    """The same ones every time; uncertainty tells who errs, the other set is harder, and the surest images are tied."""
    size = dataclasses.replace(protocol.QUICK, original=4000, other=2000)
    one, again = protocol.answers_of(size), protocol.answers_of(size)
    assert np.array_equal(one.right[0], again.right[0])
    assert one.right[0].mean() - one.right[1].mean() > 0.05
    for a, b in one.unsure.values():
        assert (a.shape, b.shape) == ((12, 4000), (12, 2000))
        half = a <= np.median(a, axis=1, keepdims=True)
        assert one.right[0][half].mean() - one.right[0][~half].mean() > 0.15
        assert b.mean() > a.mean() + 0.05
        assert min(len(row) - len(np.unique(row)) for row in a) > 0


def test_fifty_coverages_are_what_the_claim_says() -> None:
    coverages = protocol.coverages_of(protocol.FULL)
    assert coverages == pytest.approx(np.arange(50, 100) / 100)
    assert {
        rule: sum(r == rule for r, _ in rules.grid(coverages).layout) for rule in ("R0", "R1", "R2", "R3", "R5")
    } == {
        "R0": 1,
        "R1": 50,
        "R2": 50,
        "R3": 51,
        "R5": 51,
    }


def test_the_process_of_a_run() -> None:
    found = protocol._child(SMALL, 8)
    assert found["seconds"] > 0
    assert 50 < found["rss_mb"] < 1000
    assert "intervals" in found["parts"]
    assert protocol.main([]) == 2
