"""The database holds what the Parquet holds, exactly, and knows when it no longer does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from bench import schemas
from bench.config import Config
from bench.errors import BenchError
from bench.store import database, provenance, tables


@pytest.fixture(scope="session")
def connection(complete: Config):
    with duckdb.connect() as opened:
        opened.execute(f"ATTACH '{complete.results / database.FILE}' AS bench (READ_ONLY)")
        opened.execute("USE bench")
        yield opened


def test_tables_are_those_of_the_schemas_with_exact_types(connection: duckdb.DuckDBPyConnection) -> None:
    found: dict[str, dict[str, tuple[str, bool]]] = {}
    for table, column, kind, nullable in connection.execute(
        "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() WHERE database_name = 'bench'"
    ).fetchall():
        found.setdefault(table, {})[column] = (kind, nullable)
    made = {*database.SINGLE, *database.SHARDED, *database.IMPORTED}
    assert set(found) == {*made, *database.DERIVED, "snapshot"}
    for table, columns in found.items():
        wanted = schemas.TABLES[table].columns
        assert columns == {name: (database.KINDS[c.kind], c.nullable) for name, c in wanted.items()}


@pytest.mark.parametrize("table", sorted({*database.SINGLE, *database.SHARDED, *database.IMPORTED}))
def test_every_row_of_the_parquet_is_there(connection: duckdb.DuckDBPyConnection, complete: Config, table: str) -> None:
    paths = database.sources(complete)[table]
    wanted = schemas.validate(table, pd.concat([tables.read(table, path) for path in paths]))
    found = schemas.validate(table, connection.execute(f"SELECT * FROM {table}").df())
    lists = [
        name for name, c in schemas.TABLES[table].columns.items() if c.kind.startswith("list") or c.kind == "binary"
    ]
    pd.testing.assert_frame_equal(found.drop(columns=lists), wanted.drop(columns=lists))
    for name in lists:
        assert [bytes(v) for v in found[name]] == [bytes(v) for v in wanted[name]]


def test_the_snapshot_says_what_produced_it(complete: Config) -> None:
    stored = database.read_snapshot(complete.results / database.FILE)
    assert stored is not None
    assert stored["params"] == (complete.root / "params.yaml").read_text()
    assert stored["schema"] == provenance.schema_id()
    assert stored["version:duckdb"] == duckdb.__version__
    assert stored["count:datasets"] == "9"
    assert json.loads(stored["hashes"]) == database.hashes(complete)
    assert stored["snapshot_id"] == provenance.snapshot_id(database.hashes(complete))


def test_the_hashes_are_written_beside_it_and_do_not_change(own: Config) -> None:
    before = {p.name: p.read_bytes() for p in own.results.glob("*.*") if p.name != database.FILE}
    database.run(own)
    assert {p.name: p.read_bytes() for p in own.results.glob("*.*") if p.name != database.FILE} == before
    assert json.loads((own.results / database.HASHES).read_text()) == database.hashes(own)


def test_ensure_builds_only_where_it_must(own: Config) -> None:
    path = own.results / database.FILE
    assert database.stale(own) is None
    before = path.stat().st_ino
    database.ensure(own)
    assert path.stat().st_ino == before
    path.unlink()
    assert database.stale(own) == "it is missing"
    database.ensure(own)
    assert database.stale(own) is None
    (own.root / "params.yaml").write_text((own.root / "params.yaml").read_text() + "# a note\n")
    assert database.stale(own) == "params changed"
    path.write_bytes(b"not a database")
    assert database.stale(own) == "it is missing"
    assert database.ensure(own) == path
    assert database.stale(own) is None


def test_parquet_that_the_stage_never_saw_is_refused(own: Config) -> None:
    path = own.results / "ranks.parquet"
    tables.write("ranks", tables.read("ranks", path).iloc[1:], path)
    with pytest.raises(BenchError, match=r"database\.json.*dvc repro"):
        database.ensure(own)
    database.run(own)
    assert database.stale(own) is None


def test_missing_and_extra_files_are_refused(own: Config) -> None:
    shard = own.results / "training" / "pixels.parquet"
    ghost = shard.with_name("ghost.parquet")
    ghost.write_bytes(shard.read_bytes())
    with pytest.raises(BenchError, match=r"ghost.*bench prune"):
        database.build(own)
    ghost.unlink()
    shard.unlink()
    with pytest.raises(BenchError, match="no results for pixels"):
        database.build(own)
    (own.results / "ranks.parquet").unlink()
    shard.write_bytes((own.results / "training" / "random-cnn.parquet").read_bytes())
    with pytest.raises(BenchError, match=r"ranks\.parquet missing.*dvc repro"):
        database.build(own)


def test_a_key_in_two_shards_is_refused_and_nothing_is_left(own: Config) -> None:
    shards = own.results / "representations"
    (shards / "pixels.parquet").write_bytes((shards / "random-cnn.parquet").read_bytes())
    before = (own.results / database.FILE).read_bytes()
    with pytest.raises(BenchError, match=r"representations.*random-cnn"):
        database.build(own)
    assert (own.results / database.FILE).read_bytes() == before
    assert not list(own.results.glob(".bench*"))


def test_a_null_where_none_may_be_is_refused(own: Config) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = own.results / "ranks.parquet"
    table = pq.read_table(path)
    at = table.schema.get_field_index("rank")
    holes = pa.array([None, *table["rank"].to_pylist()[1:]], pa.int32())
    pq.write_table(table.set_column(at, pa.field("rank", pa.int32()), holes), path)
    with pytest.raises(BenchError, match=r"ranks.*NOT NULL"):
        database.build(own)


def test_a_reader_keeps_what_it_opened(own: Config) -> None:
    path = own.results / database.FILE
    with duckdb.connect() as reader:
        reader.execute(f"ATTACH '{path}' AS bench (READ_ONLY)")
        database.build(own)
        assert reader.execute("SELECT count(*) FROM bench.datasets").fetchone() == (9,)


def test_no_room_for_the_file_is_one_clear_error(own: Config) -> None:
    """A limit on the size of files stands in for a full disk."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));"
        "from bench import config; from bench.store import database;"
        "database.build(config.load())"
    )
    path = own.results / database.FILE
    before = path.read_bytes()
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=own.root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "BenchError" in done.stderr
    assert "Free some disk space" in done.stderr
    assert path.read_bytes() == before
    assert not list(own.results.glob(".bench*"))


def test_building_is_quick(own: Config) -> None:
    start = time.perf_counter()
    database.build(own)
    assert time.perf_counter() - start < 5


def test_codes_hold_every_answer_and_keep_the_order_of_every_uncertainty(connection: duckdb.DuckDBPyConnection) -> None:
    found = connection.execute(
        "SELECT model, dataset, measure, n, low, high, codes FROM codes WHERE condition = 'clean' ORDER BY ALL"
    ).fetchall()
    assert {row[2] for row in found} == {"pred", "msp", "entropy_nats", "margin", "energy", "mutual_information"}
    for model, dataset, measure, n, low, high, packed in found:
        table = "predictions" if measure == "pred" else "uncertainty"
        expected = f"{measure}"
        if measure != "pred":
            expected = f"least(65535, greatest(0, floor(({measure}::DOUBLE - $low) / ($high - $low) * 65536)))"
        rows = connection.execute(
            f"SELECT CAST({expected} AS INTEGER) FROM {table} WHERE model = $model AND dataset = $dataset "
            "AND condition = 'clean' ORDER BY sample_id",
            {"model": model, "dataset": dataset} | ({} if measure == "pred" else {"low": low, "high": high}),
        ).fetchall()
        assert n == len(rows)
        assert np.frombuffer(packed, "<u2").tolist() == [row[0] for row in rows]


def test_results_of_an_earlier_version_are_read_with_what_they_had(own: Config) -> None:
    for name in ("label_gaps", "label_sets", "label_sources"):
        (own.results / f"{name}.parquet").unlink()
    path = own.results / "classes.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["definition"]), path)
    gaps = own.results / "replication.parquet"
    held = pq.read_table(gaps, filters=[("rule", "=", "R0")])
    pq.write_table(held.drop_columns(["uncertainty_of", "label_low", "accuracy_original"]), gaps)
    with pytest.raises(BenchError, match="label_gaps"):
        database.build(own)
    with duckdb.connect() as opened:
        opened.execute(f"ATTACH '{database.build_earlier(own, {})}' AS bench (READ_ONLY)")
        assert opened.execute("SELECT count(*) FROM bench.label_gaps").fetchone() == (0,)
        assert opened.execute("SELECT count(*), count(definition) FROM bench.classes").fetchone() == (10, 0)
        said = "SELECT count(*), count(label_low), min(uncertainty_of), max(uncertainty_of) FROM bench.replication"
        assert opened.execute(said).fetchone() == (held.num_rows, 0, "none", "none")
    pq.write_table(pq.read_table(path).drop_columns(["name"]), path)
    with pytest.raises(BenchError, match=r"classes\.parquet.*columns of table `classes`"):
        database.build_earlier(own, {})
