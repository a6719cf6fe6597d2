"""Parquet -> DuckDB. Parquet is the truth; results/bench.duckdb a view of it that is rebuilt wherever it is stale."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench import schemas
from bench.config import Config, file_stem
from bench.errors import BenchError
from bench.store import provenance, tables

if TYPE_CHECKING:
    import duckdb

FILE = "bench.duckdb"
HASHES = "database.json"
THUMBNAILS = "thumbnails.parquet"
"""The pictures of a fetched set, attached or fetched with it: they may not be passed on, so they are no result."""
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
    "agreement",
    "annotators",
    "attack_answers",
    "attack_images",
    "attack_trust",
    "attacks",
    "ballots",
    "bits",
    "class_groups",
    "classes",
    "collision_checks",
    "collisions",
    "comparisons",
    "consensus",
    "corruption_error",
    "datasets",
    "detection",
    "detection_attacks",
    "effective_robustness",
    "gap_contrasts",
    "gap_shrinkage",
    "images",
    "label_accuracy",
    "label_correlation",
    "label_gaps",
    "label_sets",
    "label_sources",
    "labels",
    "layers",
    "map_neighbours",
    "maps",
    "metrics",
    "misclassification_distances",
    "misclassification_flows",
    "misclassification_leaving",
    "misclassifications",
    "neighbours",
    "objective_curves",
    "objective_gradients",
    "objective_saturation",
    "objective_summary",
    "objectives",
    "regional",
    "regional_summary",
    "proposal_recall",
    "proposals",
    "queue",
    "radar_attacks",
    "radar_cam",
    "radar_cam_summary",
    "radar_frames",
    "radar_models",
    "radar_summary",
    "ranks",
    "replication",
    "retraining",
    "samples",
    "segmentation_attacks",
    "segmentation_images",
    "segmentation_runs",
    "segmentation_sets",
    "segmentation_summary",
    "source_images",
    "ssl_families",
    "ssl_models",
    "ssl_pairs",
    "subset_members",
    "subsets",
    "tick_rates",
    "transfer_images",
    "transfer_pairs",
    "transfer_proxies",
    "transfer_sampling",
    "transfers",
    "valid",
    "vote_rules",
    "votes",
)
SHARDED = {
    "models": ("ensemble_models.parquet", "imported/models.parquet"),
    "predictions": ("attack_predictions.parquet", "ensemble_predictions.parquet"),
    "representations": (),
    "training": (),
}
"""Tables with a shard for every model, and the further files that they are the union of."""
IMPORTED = {"predictions": (), "uncertainty": ("uncertainty.parquet",)}
"""Tables with a shard for every imported model, and the further files that they are the union of."""
DERIVED = ("codes",)
"""Tables that are made from the others when the file is built, and stored nowhere else."""
PER_IMAGE = (
    "attack_answers",
    "attack_images",
    "attacks",
    "ballots",
    "bits",
    "collisions",
    "consensus",
    "images",
    "labels",
    "map_neighbours",
    "maps",
    "neighbours",
    "objective_gradients",
    "objectives",
    "predictions",
    "proposals",
    "queue",
    "radar_attacks",
    "radar_cam",
    "radar_frames",
    "regional",
    "samples",
    "segmentation_attacks",
    "segmentation_images",
    "segmentation_runs",
    "source_images",
    "subset_members",
    "training",
    "transfer_images",
    "transfers",
    "uncertainty",
    "valid",
    "votes",
)
"""Tables that a release of aggregates alone leaves out: those with rows (or bits) of single images, and of epochs."""


def sources(config: Config) -> dict[str, list[Path]]:
    """Table -> the Parquet files that it is made from: the expected ones, never what happens to lie there.

    Raises BenchError where a file is missing or a model has results that params.yaml does not list.
    """
    results = config.results
    found = {name: [results / f"{name}.parquet"] for name in SINGLE}
    for name, others in SHARDED.items():
        found[name] = tables.shards(results / name, config.models) + [results / other for other in others]
    for name, others in IMPORTED.items():
        shards = tables.shards(results / "imported" / name, [file_stem(model) for model in config.imported])
        found[name] = found.get(name, []) + [results / other for other in others] + shards
    found["images"] += [
        config.folder(name) / THUMBNAILS for name, dataset in config.datasets.items() if dataset.images is not None
    ]
    absent = [path.name for paths in found.values() for path in paths if not path.is_file()]
    if absent:
        raise BenchError(
            f"{', '.join(sorted(absent))} missing.",
            where=results,
            remedy="Run `dvc repro` (or `dvc pull` for the released results).",
        )
    return dict(sorted(found.items()))


def hashes(config: Config, *, earlier: bool = False) -> provenance.Hashes:
    """Table -> file (relative to results/) -> sha256 of the Parquet that lies there now.

    With `earlier`, of results of an earlier version: the tables that it had.
    """
    return {
        table: {Path(os.path.relpath(path, config.results)).as_posix(): tables.sha256(path) for path in paths}
        for table, paths in (sources_earlier(config) if earlier else sources(config)).items()
        if paths or not earlier
    }


def build(config: Config, facts: dict[str, str] | None = None) -> Path:
    """Build results/bench.duckdb into a new file, rename it into place, and return its path.

    `snapshot` says what produced it (`facts`, by default those of this checkout). Raises BenchError as `sources` and
    `build_file`.
    """
    current = hashes(config)
    rows = provenance.facts(config, current) if facts is None else facts
    path = config.results / FILE
    build_file(path, sources(config), {**rows, "hashes": _text(current)})
    return path


def sources_earlier(config: Config) -> dict[str, list[Path]]:
    """As `sources`, of results of an earlier version: those of the files that are there."""
    results = config.results
    found = {name: [results / f"{name}.parquet"] for name in (*SINGLE, *IMPORTED)}
    for name, others in SHARDED.items():
        shards = tables.shards(results / name, config.models)
        found[name] = [*shards, *found.get(name, []), *(results / other for other in others)]
    for name in IMPORTED:
        found[name] += [results / "imported" / name / f"{file_stem(model)}.parquet" for model in config.imported]
    present = {name: [path for path in paths if path.is_file()] for name, paths in found.items()}
    return dict(sorted(present.items()))


def build_earlier(config: Config, facts: dict[str, str]) -> Path:
    """As `build`, from results of an earlier version: tables and columns that it did not have yet are empty."""
    path = config.results / FILE
    build_file(path, sources_earlier(config), facts, earlier=True)
    return path


def build_file(path: Path, found: dict[str, list[Path]], facts: dict[str, str], *, earlier: bool = False) -> None:
    """Write a database with every table of the schemas, each from its files; a table without files is empty.

    Tables have the names and exact types of schemas.TABLES. Raises BenchError naming the file where a Parquet file is
    of another schema (with `earlier`, columns that may be NULL may be missing), has NULLs where none may be, or repeats
    a key.
    """
    import duckdb

    rows = {"created": provenance.now(), **facts}
    with tables.replacing(path) as temporary:
        connection = duckdb.connect()
        try:
            connection.execute(f"ATTACH '{_quoted(temporary)}' AS built (STORAGE_VERSION '{STORAGE}')")
            connection.execute("USE built")
            for table in sorted({*SINGLE, *SHARDED, *IMPORTED}):
                rows[f"count:{table}"] = str(_fill(connection, table, found.get(table, []), earlier=earlier))
            rows["count:codes"] = str(_fill_codes(connection))
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
    import pandas as pd

    from bench.evaluate import correctness
    from bench.store import bits

    labels = tables.read("labels", config.results / "labels.parquet")
    sources = correctness.sources_of(labels, correctness.evaluated_samples(config))
    sets = {source: correctness.label_sets(labels, source) for source in set().union(*sources.values())}
    packed, valid = [], []
    cells = [(name, condition) for name in config.datasets for condition in correctness.conditions(config, name)]
    for found in correctness.each(config, cells):
        rows, labelled = bits.rows_of(found, {source: sets[source] for source in sources[found.dataset]})
        packed.append(rows)
        if found.condition == correctness.CLEAN:
            valid.append(labelled)
    tables.write("bits", pd.concat(packed, ignore_index=True), config.results / "bits.parquet")
    tables.write("valid", pd.concat(valid, ignore_index=True), config.results / "valid.parquet")
    current = hashes(config)
    with tables.replacing(config.results / HASHES) as temporary:
        temporary.write_text(_text(current))
    stored = read_snapshot(build(config)) or {}
    return {"tables": len(current), "rows": sum(int(n) for key, n in stored.items() if key.startswith("count:"))}


def _text(found: provenance.Hashes) -> str:
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def _fill(connection: duckdb.DuckDBPyConnection, table: str, paths: list[Path], *, earlier: bool) -> int:
    """Create one table from its files, each of which is in the order of the key, and return its number of rows."""
    import duckdb

    _create(connection, table)
    for path in paths:
        present = tables.check_schema(table, path, earlier=earlier)
        columns = ", ".join(
            f'"{name}"' if name in present else "NULL" if column.earlier is None else f"'{column.earlier}'"
            for name, column in schemas.TABLES[table].columns.items()
        )
        try:
            connection.execute(f"INSERT INTO {table} SELECT {columns} FROM read_parquet(?)", [str(path)])
        except duckdb.ConstraintException as fault:
            said = str(fault).splitlines()[0]
            raise BenchError(f"table `{table}`: {said}", where=path, remedy=_REMEDY) from None
        _check_keys(connection, table, path, present)
    _check_files(connection, table, paths)
    return _count(connection, table)


def _check_keys(connection: duckdb.DuckDBPyConnection, table: str, path: Path, present: list[str]) -> None:
    """No two rows of a file share a key, as far as the file has its columns."""
    key = ", ".join(f'"{column}"' for column in schemas.TABLES[table].key if column in present)
    sql = f"SELECT {key} FROM read_parquet(?) GROUP BY {key} HAVING count(*) > 1 LIMIT 1"
    repeated = connection.execute(sql, [str(path)]).fetchone()
    if repeated:
        raise BenchError(f"table `{table}`: rows share the key {repeated}.", where=path, remedy=_REMEDY)


def _check_files(connection: duckdb.DuckDBPyConnection, table: str, paths: list[Path]) -> None:
    """No two files share a key: of tables with rows of images, no two have rows of one cell (the key but the image)."""
    if len(paths) < 2:
        return
    key = [column for column in schemas.TABLES[table].key if column != "sample_id"] or ["sample_id"]
    columns = ", ".join(f'"{column}"' for column in key)
    sql = f"""SELECT {columns} FROM (SELECT DISTINCT {columns}, filename FROM read_parquet(?, filename = true))
              GROUP BY {columns} HAVING count(*) > 1 LIMIT 1"""
    shared = connection.execute(sql, [[str(path) for path in paths]]).fetchone()
    if shared:
        raise BenchError(f"table `{table}`: several files have rows of {shared}.", where=paths[0], remedy=_REMEDY)


_MEASURES = ("msp", "entropy_nats", "margin", "energy", "mutual_information")
_EXTREMES = f"""
SELECT dataset, any_value(n_classes), {", ".join(f"min({m}), max({m})" for m in _MEASURES)}
FROM uncertainty JOIN datasets USING (dataset) WHERE condition = 'clean' GROUP BY dataset
"""
_COLUMNS = """
SELECT p.dataset, p.pred, u.msp, u.entropy_nats, u.margin, u.energy, u.mutual_information
FROM predictions p LEFT JOIN uncertainty u USING (model, dataset, condition, sample_id)
WHERE p.model = ? AND p.condition = 'clean' ORDER BY p.dataset, p.sample_id
"""


def _fill_codes(connection: duckdb.DuckDBPyConnection) -> int:
    """Make table `codes` from predictions and uncertainty: each column of each model as 16-bit codes, image by image.

    All models of a dataset share the range of a measure, so that one threshold means the same for all. A model that
    lacks a measure for some image has no codes of it.
    """
    from bench.store import bits

    _create(connection, "codes")
    ranges = {}
    for dataset, n_classes, *ends in connection.execute(_EXTREMES).fetchall():
        extremes = zip(_MEASURES, ends[::2], ends[1::2], strict=True)
        ranges[dataset] = bits.ranges_of(n_classes, {m: (low, high) for m, low, high in extremes if low is not None})
    for (model,) in connection.execute("SELECT DISTINCT model FROM predictions ORDER BY model").fetchall():
        found = connection.execute(_COLUMNS, [model]).fetchnumpy()
        for dataset in np.unique(found["dataset"]):
            mine = found["dataset"] == dataset
            known = ranges.get(dataset, {})
            measures = {measure: np.ma.filled(found[measure][mine], np.nan) for measure in known}
            rows = bits.codes_of(model, dataset, "clean", found["pred"][mine], measures, known)
            connection.executemany(
                "INSERT INTO codes VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [tuple(row) for row in rows.astype(object).where(rows.notna(), None).itertuples(index=False)],
            )
    return _count(connection, "codes")


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
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


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
