"""Results of one suite without rows of single images: small enough to be kept in the repository, whatever the suite.

`aggregates/<release>/<table>.parquet` are made from the results that lie here and stored through DVC in the remote
inside the repository; `aggregates/<release>.dvc` and the release's manifest are tracked, so a fresh clone shows them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from bench.config import Config
from bench.errors import BenchError
from bench.store import database, provenance, tables

FOLDER = Path("aggregates")
OPENED = Path(".snapshots")
KIND = "aggregates"
"""What `kind` says in the manifest of such a release."""


def folder(root: Path, name: str) -> Path:
    """Where the tables of a release lie."""
    return root / FOLDER / name


def database_path(root: Path, name: str) -> Path:
    """The database of a release, whether it was built yet or not."""
    return root / OPENED / f"{KIND}-{name}" / "results" / database.FILE


def write(config: Config, suite: str, name: str) -> list[Path]:
    """Write the tables of a suite that have no rows of single images to aggregates/<name>/, and return their paths.

    Raises BenchError where there is no such suite, or its results are not complete.
    """
    if suite not in config.suites:
        known = ", ".join(config.suites)
        raise BenchError(f"there is no suite {suite!r}.", where="params.yaml", remedy=f"Use one of: {known}.")
    target = folder(config.root, name)
    written = []
    for table, paths in database.sources(config).items():
        if table not in database.PER_IMAGE:
            frame = pd.concat([tables.read(table, path) for path in paths], ignore_index=True)
            path = target / f"{table}.parquet"
            tables.write(table, _of_suite(config, suite, frame), path)
            written.append(path)
    return written


def _of_suite(config: Config, suite: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows about datasets, label spaces and models of a suite."""
    datasets = config.datasets_of(suite)
    keep = pd.Series(True, index=frame.index)
    for column in ("dataset", "original"):
        if column in frame:
            keep &= frame[column].isin(datasets)
    if "model" in frame:
        models = [name for name, model in {**config.models, **config.imported}.items() if model.suite == suite]
        models += [name for name, members in config.uncertainty.ensembles.items() if members[0] in models]
        keep &= frame["model"].isin(models)
    if "label_space" in frame and "class_id" in frame:
        known = tables.read("datasets", config.results / "datasets.parquet")
        keep &= frame["label_space"].isin(known.loc[known["dataset"].isin(datasets), "label_space"])
    return frame.loc[keep]


def hashes(root: Path, name: str) -> provenance.Hashes:
    """Table -> file -> sha256 of the tables of a release that lie here."""
    return {path.stem: {path.name: tables.sha256(path)} for path in sorted(folder(root, name).glob("*.parquet"))}


def open_release(root: Path, name: str, manifest: dict[str, Any]) -> Path:
    """The database of a release, built where it is missing or of another version; tables are pulled where they are not
    here. Raises BenchError where they cannot be had or are not those of the manifest."""
    path = database_path(root, name)
    stored = database.read_snapshot(path)
    wanted = (provenance.schema_id(), manifest["snapshot_id"])
    if stored is not None and (stored.get("schema"), stored.get("snapshot_id")) == wanted:
        return path
    if not folder(root, name).is_dir():
        target = f"{(FOLDER / name).as_posix()}.dvc"
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "pull", "--quiet", target],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise BenchError(f"its tables could not be pulled: {said}", where=name, remedy=f"Try `dvc pull {target}`.")
    if hashes(root, name) != manifest["hashes"]:
        raise BenchError(
            "its tables are not those of its manifest.",
            where=folder(root, name),
            remedy=f"Remove this folder and run `bench snapshot open {name}` again.",
        )
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir(parents=True)
    found = {table: [folder(root, name) / file for file in files] for table, files in manifest["hashes"].items()}
    facts = {**manifest["facts"], "schema": provenance.schema_id(), "release": name, "per_image": "no"}
    database.build_file(path, found, facts, earlier=True)
    return path
