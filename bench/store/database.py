"""All Parquet as one DuckDB file: results/bench.duckdb, a view that is rebuilt wherever it is missing or stale.

A DuckDB file is never the same bytes twice, so it is no output of the pipeline: results/database.json is, the hashes of
what the file is made of. The file is built beside the old one and renamed: readers are never disturbed.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Literal

from bench import schemas
from bench.config import Config
from bench.errors import BenchError
from bench.store import bits, tables

NAME = "bench.duckdb"
STORAGE_VERSION = "v1.4.0"
"""DuckDB's file format: old enough that a colleague's DuckDB opens a shared file."""

SHARDED = ("models", "predictions", "representations", "training")
"""Tables with one Parquet file a model, under results/<table>/."""

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
"""Tables with one Parquet file, results/<table>.parquet."""

ALSO = {"models": ("ensemble_models",), "predictions": ("ensemble_predictions", "attack_predictions")}
"""Further files of a sharded table, results/<name>.parquet."""

LIBRARIES = ("duckdb", "dvc", "lightly", "numpy", "pandas", "pyarrow", "scikit-learn", "scipy", "timm", "torch")


def path_of(config: Config) -> Path:
    """Where the database lies."""
    return config.results / NAME


def files(config: Config) -> dict[str, list[Path]]:
    """Table -> the Parquet files that it is made of, from params.yaml and never from what happens to lie there.

    Raises BenchError where one is missing, or where a folder holds results of a model that is not declared.
    """
    results = config.results
    found = {name: [results / f"{name}.parquet"] for name in SINGLE}
    for name in SHARDED:
        tables.check_shards(results / name, config.models)
        shards = [results / name / f"{model}.parquet" for model in config.models]
        found[name] = shards + [results / f"{other}.parquet" for other in ALSO.get(name, ())]
    missing = [path for paths in found.values() for path in paths if not path.is_file()]
    if missing:
        raise BenchError(
            f"{len(missing)} result files are missing, the first is {missing[0].relative_to(config.root)}.",
            where=results,
            remedy="Run `make repro`, or `dvc pull` for released results.",
        )
    return dict(sorted(found.items()))


def hashes(config: Config) -> dict[str, str]:
    """Table -> sha256 of its Parquet; of the hashes of its files in order where it has several."""
    return {name: _joint(tables.sha256(path) for path in paths) for name, paths in files(config).items()}


def _joint(each: Iterable[str]) -> str:
    each = list(each)
    return each[0] if len(each) == 1 else hashlib.sha256("\n".join(each).encode()).hexdigest()


def results_id(parquet: dict[str, str]) -> str:
    """One id for a set of results: sha256 over the sorted (table, hash) pairs."""
    return hashlib.sha256(json.dumps(parquet, sort_keys=True).encode()).hexdigest()


def build(config: Config) -> Path:
    """Build the database anew from the Parquet files, and put it in the place of the old one. Returns its path."""
    import duckdb

    sources = files(config)
    with tables.replacing(path_of(config)) as temporary, duckdb.connect() as connection:
        connection.execute(f"SET threads = {config.compute.threads}")
        connection.execute(f"ATTACH '{_quoted(temporary)}' AS target (STORAGE_VERSION '{STORAGE_VERSION}')")
        counts = {}
        for name, paths in sources.items():
            for path in paths:
                tables.check_arrow(name, path)
            order = ", ".join(schemas.TABLES[name].key)
            connection.execute(
                f"CREATE TABLE target.{name} AS SELECT * FROM read_parquet(?) ORDER BY {order}",
                [[str(path) for path in paths]],
            )
            (counts[name],) = connection.execute(f"SELECT count(*) FROM target.{name}").fetchone() or (0,)
        connection.execute("CREATE TABLE target.snapshot (key VARCHAR PRIMARY KEY, value VARCHAR NOT NULL)")
        rows = sorted(describe(config, counts).items())
        connection.executemany("INSERT INTO target.snapshot VALUES (?, ?)", rows)
        connection.execute("DETACH target")
    return path_of(config)


def describe(config: Config, counts: dict[str, int]) -> dict[str, str]:
    """What produced these results, as the rows of table `snapshot`."""
    parquet = hashes(config)
    lock = config.root / "dvc.lock"
    versions = {f"version.{name}": metadata.version(name) for name in LIBRARIES}
    commit, dirty = git_state(config.root)
    return {
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": f"{config.compute.device}, {config.compute.threads} threads, {platform.machine()}",
        "dvc_lock_sha256": tables.sha256(lock) if lock.is_file() else "",
        "git_commit": commit,
        "git_dirty": str(dirty).lower(),
        "params": (config.root / "params.yaml").read_text(),
        "parquet_sha256": json.dumps(parquet, sort_keys=True),
        "results_id": results_id(parquet),
        "version.python": platform.python_version(),
        **versions,
        **{f"rows.{name}": str(count) for name, count in counts.items()},
    }


def git_state(root: Path) -> tuple[str, bool]:
    """The commit checked out at `root` (empty outside git), and whether tracked files differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))


def state(config: Config) -> Literal["missing", "stale", "current"]:
    """Whether the database is there and made of the Parquet that lies beside it."""
    if not path_of(config).is_file():
        return "missing"
    return "current" if _stored(path_of(config)) == hashes(config) else "stale"


def _stored(path: Path) -> dict[str, str]:
    import duckdb

    try:
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH '{_quoted(path)}' AS old (READ_ONLY)")
            row = connection.execute("SELECT value FROM old.snapshot WHERE key = 'parquet_sha256'").fetchone()
    except duckdb.Error:
        return {}
    return json.loads(row[0]) if row else {}


def ensure(config: Config) -> Path:
    """The path of a database that is up to date: built if it is missing or stale."""
    return path_of(config) if state(config) == "current" else build(config)


def run(config: Config) -> dict[str, int]:
    """Write bits and valid, results/database.json, and the database itself."""
    bits.run(config)
    parquet = hashes(config)
    path = build(config)
    with tables.replacing(config.results / "database.json") as temporary:
        temporary.write_text(json.dumps(parquet, indent=2, sort_keys=True) + "\n")
    return {"tables": len(parquet) + 1, "KiB": path.stat().st_size // 1024}


def _quoted(path: Path) -> str:
    """A path inside a single-quoted SQL literal (ATTACH takes no parameters)."""
    return str(path).replace("'", "''")
