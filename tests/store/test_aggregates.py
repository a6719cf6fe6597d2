"""Aggregates of a suite: every table without rows of single images, and nothing of another suite."""

from __future__ import annotations

import duckdb
import pytest

from bench.config import Config
from bench.errors import BenchError
from bench.store import aggregates, database, provenance, tables


def manifest(config: Config, name: str) -> dict[str, object]:
    hashes = aggregates.hashes(config.root, name)
    return {
        "kind": aggregates.KIND,
        "snapshot_id": provenance.snapshot_id(hashes),
        "hashes": hashes,
        "facts": provenance.local_facts(config, hashes),
    }


def test_what_is_written_is_the_suite_without_single_images(own: Config) -> None:
    written = {path.stem for path in aggregates.write(own, "digits", "x")}
    every = {*database.SINGLE, *database.SHARDED, *database.IMPORTED}
    assert written == every - set(database.PER_IMAGE)
    for table in ("metrics", "replication", "comparisons"):
        kept = tables.read(table, aggregates.folder(own.root, "x") / f"{table}.parquet")
        assert len(kept) == len(tables.read(table, own.results / f"{table}.parquet")) > 0


def test_rows_of_another_suite_stay_out(own: Config) -> None:
    other = {name: d.model_copy(update={"suite": "other"}) for name, d in own.datasets.items() if name == "optdigits"}
    suites = {**own.suites, "other": own.suites["digits"].model_copy(update={"train": None})}
    changed = own.model_copy(update={"datasets": {**own.datasets, **other}, "suites": suites})
    aggregates.write(changed, "digits", "x")
    metrics = tables.read("metrics", aggregates.folder(own.root, "x") / "metrics.parquet")
    assert "optdigits" not in set(metrics["dataset"])
    assert "optdigits-full" in set(metrics["dataset"])
    with pytest.raises(BenchError, match=r"no suite 'cifar10'.*digits"):
        aggregates.write(own, "cifar10", "y")


def test_the_database_has_every_table_and_says_what_it_lacks(own: Config) -> None:
    aggregates.write(own, "digits", "x")
    said = manifest(own, "x")
    path = aggregates.open_release(own.root, "x", said)
    with duckdb.connect() as opened:
        opened.execute(f"ATTACH '{path}' AS bench (READ_ONLY)")
        opened.execute("USE bench")
        for table in (*database.PER_IMAGE, *database.DERIVED):
            assert opened.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        counts = opened.execute("SELECT count(*) FROM metrics").fetchone()
        assert counts == (len(tables.read("metrics", own.results / "metrics.parquet")),)
        assert opened.execute("SELECT value FROM snapshot WHERE key = 'per_image'").fetchall() == [("no",)]
    made = path.stat().st_mtime_ns
    assert aggregates.open_release(own.root, "x", said).stat().st_mtime_ns == made
    path.unlink()
    (aggregates.folder(own.root, "x") / "metrics.parquet").write_bytes(b"x")
    with pytest.raises(BenchError, match="not those of its manifest"):
        aggregates.open_release(own.root, "x", said)
