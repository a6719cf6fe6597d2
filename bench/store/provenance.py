"""What produced a set of results: commit, parameters, versions, machine; and the releases that are listed here."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import schemas
from bench.config import Config
from bench.errors import BenchError
from bench.store import tables

PACKAGES = ("torch", "timm", "lightly", "scikit-learn", "numpy", "scipy", "pandas", "pyarrow", "duckdb", "dvc")
RELEASES = Path("snapshots") / "releases.json"
Hashes = dict[str, dict[str, str]]
"""Table -> file (relative to results/) -> sha256."""


def git(root: Path, *arguments: str) -> str | None:
    """What `git <arguments>` prints in `root`, without the last newline; None where it fails or there is no git."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout.rstrip("\n")


def versions() -> dict[str, str]:
    """Python's version and those of the packages that can change a result, read without importing them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> str:
    """The processor's name and the system."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {platform.system()}"


def schema_id() -> str:
    """A short hash of every table's columns and types: two databases with the same one can be read by the same code."""
    spec = {
        name: [[column, c.kind, c.nullable] for column, c in table.columns.items()]
        for name, table in schemas.TABLES.items()
    }
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]


def snapshot_id(hashes: Hashes) -> str:
    """The id of a set of results: sha256 over the sorted hashes of its Parquet files and the schema, 12 digits."""
    return hashlib.sha256(json.dumps([hashes, schema_id()], sort_keys=True).encode()).hexdigest()[:12]


def releases(root: Path) -> dict[str, dict[str, Any]]:
    """Name -> manifest of every release listed under `root`, in the order of release; empty where there is none."""
    path = root / RELEASES
    if not path.is_file():
        return {}
    try:
        listed = json.loads(path.read_text())["releases"]
        return {entry["name"]: json.loads((path.parent / entry["manifest"]).read_text()) for entry in listed}
    except (ValueError, KeyError, TypeError, OSError) as fault:
        raise BenchError(
            f"cannot be read ({fault}).", where=path, remedy="Restore snapshots/ with `git checkout -- snapshots`."
        ) from None


def facts(config: Config, hashes: Hashes) -> dict[str, str]:
    """Rows of table `snapshot`, but for the counts: those of the release that this is, else of this checkout."""
    return released_facts(config.root, hashes) or local_facts(config, hashes)


def released_facts(root: Path, hashes: Hashes) -> dict[str, str] | None:
    """The facts of the release listed under `root` that has, file for file, these hashes; None where there is none.

    So pulled results say what computed them, not what is installed here.
    """
    for name, manifest in releases(root).items():
        if manifest["hashes"] == hashes:
            return {**manifest["facts"], "schema": schema_id(), "release": name}
    return None


def local_facts(config: Config, hashes: Hashes) -> dict[str, str]:
    """The facts of results that were computed in this checkout."""
    lock = config.root / "dvc.lock"
    changed = git(config.root, "status", "--porcelain", "--untracked-files=no")
    found = {
        "snapshot_id": snapshot_id(hashes),
        "schema": schema_id(),
        "git_commit": git(config.root, "rev-parse", "HEAD") or "unknown",
        "git_dirty": "unknown" if changed is None else str(bool(changed)).lower(),
        "dvc_lock_sha256": tables.sha256(lock) if lock.is_file() else "none",
        "params": (config.root / "params.yaml").read_text(),
        "device": config.compute.device,
        "threads": str(config.compute.threads),
        "dtype": config.compute.dtype,
        "machine": machine(),
    }
    return found | {f"version:{package}": version for package, version in versions().items()}


def now() -> str:
    """The time in UTC, to the second, ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
