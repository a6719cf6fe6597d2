"""The benchmark of the store on small numbers, where all engines must agree too; the figures are `make benchmarks`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.store import bits
from benchmarks import store


def cold(folder: Path, engine: str) -> dict[str, float]:
    """The first query without a process of its own."""
    return store._first_query(folder, engine)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_cold", cold)
        patch.setattr(store, "BOUNDS", (40_000, 20_000))
        patch.setattr(store, "AGREEING", 6)
        patch.setattr(store, "QUICK_SIZES", {"60m": (9, 200)})
        patch.setattr(store, "QUICK_BILLION", (7, 808))
        patch.setattr(store.tempfile, "tempdir", str(tmp_path_factory.mktemp("benchmark")))
        return store.run(quick=True)


def test_every_engine_is_timed_on_what_it_can_do(result: dict[str, Any]) -> None:
    timed = {measure: set(row) for measure, row in result["sizes"]["60m"]["ms"].items()}
    rows = {"long", "polars_scan", "polars_memory"}
    assert timed == {
        "accuracies": {"bits", "numpy", "flat", "bit_column", *rows},
        "difficulty": {"bits", "numpy", *rows},
        "sweep_shared": {"bits", "numpy", "bit_column", *rows},
        "sweep_own": {"bits", *rows},
        "agreement": {"bits", "numpy", "bit_column", *rows},
    }
    assert set(result["sizes"]["1b"]["ms"]["accuracies"]) == {"bits", "numpy", "bit_column"}


def test_every_target_stands_beside_its_figure(result: dict[str, Any]) -> None:
    assert all(result[key] >= 0 and f"target_{key}" in result for key in store.TARGETS)
    assert result["index_bytes_per_prediction_1b"] == pytest.approx(101 / 808, abs=1e-4)
    assert json.loads(json.dumps(result)) == result


def test_the_table_names_every_engine_and_what_was_not_run(result: dict[str, Any]) -> None:
    lines = store.details(result).splitlines()
    assert all(name in lines[1] for name in store.ENGINES.values())
    own = next(line for line in lines if line.strip().startswith(store.MEASURES["sweep_own"]))
    assert own.split().count("-") == 3


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(store, "_size", lambda folder, *shape: folder.mkdir(parents=True) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.run(quick=True)
    assert list(tmp_path.iterdir()) == []


def test_engines_that_differ_fail() -> None:
    ways: store.Ways = {
        "bits": {"difficulty": lambda bound: (np.array([bound]),)},
        "long": {"difficulty": lambda bound: (np.array([bound + (bound == store.BOUNDS[3])]),)},
    }
    with pytest.raises(AssertionError, match="long and bits differ in difficulty"):
        store.compare(ways)


def test_the_process_of_a_cold_query(tmp_path: Path) -> None:
    store.write_random(tmp_path, 3, 808)
    store._images(tmp_path / "bits.duckdb", store.images_of(808))
    found = store._cold(tmp_path, "bits")
    assert found["ms"] > 0
    assert 50 < found["rss_mb"] < 1000
    assert store.rows_of(tmp_path / "bits.duckdb").shape == (3, 104)
    assert bits.size(store.rows_of(tmp_path / "bits.duckdb").ravel()) > 0
