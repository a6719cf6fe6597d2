"""Parquet -> DuckDB. Parquet is the truth; results/bench.duckdb a view of it that is rebuilt wherever it is stale."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import TYPE_CHECKING

from bench import schemas
from bench.config import Config
from bench.errors import BenchError
from bench.store import provenance, tables

if TYPE_CHECKING:
    import duckdb

FILE = "bench.duckdb"
HASHES = "database.json"
STORAGE = "v1.4.0"
"""The oldest DuckDB that can open the file."""
KINDS = {
    "str": "VARCHAR",
    "int32": "INTEGER",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "bool": "BOOLEAN",
    "binary": "BLOB",
    "list<int16>": "SMALLINT[]",
    "list<float32>": "FLOAT[]",
}
SINGLE = (
    "attacks",
    "bits",
    "classes",
    "comparisons",
    "datasets",
    "images",
    "labels",
    "metrics",
    "neighbours",
    "proposals",
    "ranks",
    "replication",
    "samples",
    "subset_members",
    "subsets",
    "uncertainty",
    "valid",
)
SHARDED = {
    "models": ("ensemble_models.parquet",),
    "predictions": ("attack_predictions.parquet", "ensemble_predictions.parquet"),
    "representations": (),
    "training": (),
}
"""Tables with a shard for every model, and the further files that they are the union of."""


def sources(config: Config) -> dict[str, list[Path]]:
    """Table -> the Parquet files that it is made from: the expected ones, never what happens to lie there.

    Raises BenchError where a file is missing or a model has results that params.yaml does not list.
    """
    results = config.results
    found = {name: [results / f"{name}.parquet"] for name in SINGLE}
    for name, others in SHARDED.items():
        found[name] = tables.shards(results / name, config.models) + [results / other for other in others]
    absent = [path.name for paths in found.values() for path in paths if not path.is_file()]
    if absent:
        raise BenchError(
            f"{', '.join(sorted(absent))} missing.",
            where=results,
            remedy="Run `dvc repro` (or `dvc pull` for the released results).",
        )
    return dict(sorted(found.items()))


def hashes(config: Config) -> provenance.Hashes:
    """Table -> file -> sha256 of the Parquet that lies in results/ now."""
    return {
        table: {path.relative_to(config.results).as_posix(): tables.sha256(path) for path in paths}
        for table, paths in sources(config).items()
    }


def build(config: Config, facts: dict[str, str] | None = None) -> Path:
    """Build results/bench.duckdb into a new file, rename it into place, and return its path.

    Tables have the names and exact types of schemas.TABLES; `snapshot` says what produced them (`facts`, by default
    those of this checkout). Raises BenchError naming the file where a Parquet file is missing, extra, of another
    schema, has NULLs where none may be, or repeats a key.
    """
    import duckdb

    current = hashes(config)
    rows = provenance.facts(config, current) if facts is None else facts
    rows = {"created": provenance.now(), **rows, "hashes": _text(current)}
    path = config.results / FILE
    with tables.replacing(path) as temporary:
        connection = duckdb.connect()
        try:
            connection.execute(f"ATTACH '{_quoted(temporary)}' AS built (STORAGE_VERSION '{STORAGE}')")
            connection.execute("USE built")
            for table, paths in sources(config).items():
                rows[f"count:{table}"] = str(_fill(connection, table, paths))
            _create(connection, "snapshot")
            connection.executemany("INSERT INTO snapshot VALUES (?, ?)", sorted(rows.items()))
        except duckdb.Error as fault:
            said = str(fault).splitlines()[0]
            if any(words in said for words in _FULL):
                raise OSError(errno.ENOSPC, said) from None
            raise
        finally:
            connection.close()
            temporary.with_name(f"{temporary.name}.wal").unlink(missing_ok=True)
    return path


def stale(config: Config, facts: dict[str, str] | None = None) -> str | None:
    """Why results/bench.duckdb must be built again, in words; None where it is up to date.

    Raises BenchError where results/ itself is incomplete, or newer than what the stage `database` looked at.
    """
    current = hashes(config)
    recorded = config.results / HASHES
    if not recorded.is_file() or recorded.read_text() != _text(current):
        raise BenchError(
            "does not describe the Parquet files beside it.", where=recorded, remedy="Run `dvc repro database`."
        )
    stored = read_snapshot(config.results / FILE)
    if stored is None:
        return "it is missing"
    if stored.get("hashes") != _text(current):
        return "its Parquet files changed"
    wanted = provenance.facts(config, current) if facts is None else facts
    changed = sorted(key for key, value in wanted.items() if stored.get(key) != value)
    return f"{', '.join(changed)} changed" if changed else None


def ensure(config: Config, facts: dict[str, str] | None = None) -> Path:
    """Build results/bench.duckdb where it is missing or stale, and return its path."""
    return build(config, facts) if stale(config, facts) else config.results / FILE


def read_snapshot(path: Path) -> dict[str, str] | None:
    """Table `snapshot` of a built file as a dict; None where there is no such file or it is not one of ours."""
    import duckdb

    if not path.is_file():
        return None
    with duckdb.connect() as connection:
        try:
            connection.execute(f"ATTACH '{_quoted(path)}' AS built (READ_ONLY)")
            return dict(connection.execute("SELECT key, value FROM built.snapshot").fetchall())
        except duckdb.Error:
            return None


def run(config: Config) -> dict[str, int]:
    """Write results/{bits,valid}.parquet and results/database.json, and build results/bench.duckdb; return counts."""
    from bench.evaluate import correctness
    from bench.store import bits

    predictions = correctness.all_predictions(config)
    labels = tables.read("labels", config.results / "labels.parquet")
    packed, valid = bits.tables_of(predictions, labels, correctness.evaluated_samples(config))
    tables.write("bits", packed, config.results / "bits.parquet")
    tables.write("valid", valid, config.results / "valid.parquet")
    current = hashes(config)
    with tables.replacing(config.results / HASHES) as temporary:
        temporary.write_text(_text(current))
    stored = read_snapshot(build(config)) or {}
    return {"tables": len(current), "rows": sum(int(n) for key, n in stored.items() if key.startswith("count:"))}


def _text(found: provenance.Hashes) -> str:
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def _fill(connection: duckdb.DuckDBPyConnection, table: str, paths: list[Path]) -> int:
    """Create one table from its files, in the order of its key, and return its number of rows."""
    import duckdb

    for path in paths:
        tables.check_schema(table, path)
    _create(connection, table)
    columns, key = ", ".join(f'"{c}"' for c in schemas.TABLES[table].columns), _key(table)
    try:
        connection.execute(
            f"INSERT INTO {table} SELECT {columns} FROM read_parquet(?) ORDER BY {key}", [[str(p) for p in paths]]
        )
    except duckdb.ConstraintException as fault:
        said = str(fault).splitlines()[0]
        raise BenchError(f"table `{table}`: {said}", where=paths[0], remedy=_REMEDY) from None
    repeated = connection.execute(f"SELECT {key} FROM {table} GROUP BY {key} HAVING count(*) > 1 LIMIT 1").fetchone()
    if repeated:
        raise BenchError(f"table `{table}`: rows share the key {repeated}.", where=paths[0], remedy=_REMEDY)
    found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return found[0] if found else 0


_FULL = ("No space left", "File too large", "Disk quota")
"""What the system says of a full disk; DuckDB passes on the words, not the number."""
_REMEDY = "Delete the file and run `dvc repro`."


def _create(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    columns = [
        f'"{name}" {KINDS[column.kind]}{"" if column.nullable else " NOT NULL"}'
        for name, column in schemas.TABLES[table].columns.items()
    ]
    connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")


def _key(table: str) -> str:
    return ", ".join(f'"{column}"' for column in schemas.TABLES[table].key)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
