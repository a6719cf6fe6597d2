"""Results of one suite, small enough to be kept in the repository: figures over whole sets, and where it is asked for
rows of single images under a few conditions, who is right under all of them in bits, and the networks' checkpoints.

`aggregates/<release>/<table>.parquet` are made from the results that lie here and stored through DVC in the remote
inside the repository; `aggregates/<release>.dvc` and the release's manifest are tracked, so a fresh clone shows them.

Images that may not be passed on are never part of it, nor are votes: where a preset fetched them into this checkout,
the database shows the pictures. Labels of other sources than the original one are left out with single images: they may
be made of such votes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bench.config import Config
from bench.errors import BenchError
from bench.evaluate.correctness import CLEAN, ORIGINAL
from bench.store import database, provenance, tables

FOLDER = Path("aggregates")
OPENED = Path(".snapshots")
KIND = "aggregates"
"""What `kind` says in the manifest of such a release."""


CHECKPOINTS = "checkpoints"
"""Folder of a release for the networks that were trained here."""
SINGLE_IMAGES = (
    "attacks",
    "bits",
    "collisions",
    "labels",
    "map_neighbours",
    "maps",
    "objective_gradients",
    "objectives",
    "radar_attacks",
    "radar_cam",
    "radar_frames",
    "regional",
    "predictions",
    "samples",
    "source_images",
    "subset_members",
    "training",
    "transfer_images",
    "transfers",
    "uncertainty",
    "valid",
)
"""Tables of database.PER_IMAGE that a release has where conditions are named."""
OF_OTHER_LABELS = ("annotated", "multi-label", "single-label")
"""Subsets that other sources of labels make."""
SOURCES = ("label_source", "labels_original", "labels_replication")


def folder(root: Path, name: str) -> Path:
    """Where the tables of a release lie."""
    return root / FOLDER / name


def database_path(root: Path, name: str) -> Path:
    """The database of a release, whether it was built yet or not."""
    return root / OPENED / f"{KIND}-{name}" / "results" / database.FILE


def write(
    config: Config, suite: str, name: str, conditions: Sequence[str] = (), *, checkpoints: bool = False
) -> list[Path]:
    """Write the tables of a suite to aggregates/<name>/, and return their paths.

    Without `conditions`, those that have no rows of single images; with them, such rows under these conditions, and the
    bits of all. `checkpoints`: the networks of the suite that were trained here, too.
    Raises BenchError where there is no such suite or condition, or its results are not complete.
    """
    if conditions and CLEAN not in conditions:
        raise BenchError(f"single images are released with {CLEAN} among the conditions.", remedy="Name it too.")
    if suite not in config.suites:
        known = ", ".join(config.suites)
        raise BenchError(f"there is no suite {suite!r}.", where="params.yaml", remedy=f"Use one of: {known}.")
    target = folder(config.root, name)
    written = []
    for table, paths in database.sources(config).items():
        if table in database.PER_IMAGE and not (conditions and table in SINGLE_IMAGES):
            continue
        parts = [_of_suite(config, suite, tables.read(table, path)) for path in paths]
        frame = pd.concat(parts, ignore_index=True)
        if conditions:
            frame = _of_conditions(table, frame, conditions)
        path = target / f"{table}.parquet"
        tables.write(table, frame, path)
        written.append(path)
    if conditions:
        known = set(tables.read("predictions", target / "predictions.parquet")["condition"])
        if lacking := [one for one in conditions if one not in known]:
            raise BenchError(
                f"nothing was predicted under {', '.join(lacking)}.", remedy="Name conditions of the suite."
            )
    for model in _trained(config, suite) if checkpoints else ():
        path = target / CHECKPOINTS / f"{model}.safetensors"
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(config.results / CHECKPOINTS / path.name, path)
        written.append(path)
    return written


def _trained(config: Config, suite: str) -> list[str]:
    """The networks of a suite whose training took something: no published weights, no controls."""
    return [
        name
        for name, model in config.models.items()
        if model.suite == suite and not model.published and model.family in ("supervised", "ssl")
    ]


def _of_conditions(table: str, frame: pd.DataFrame, conditions: Sequence[str]) -> pd.DataFrame:
    """Of a table of one suite the rows by the original labels and of test images, of single images those under
    `conditions`."""
    keep = pd.Series(True, index=frame.index)
    for column in (*SOURCES, *(["source"] if table in ("labels", "label_sources") else [])):
        if column in frame:
            keep &= frame[column] == ORIGINAL
    if table == "samples":
        keep &= frame["split"] == "test"
    if table in ("subsets", "subset_members"):
        keep &= ~frame["subset"].isin(OF_OTHER_LABELS)
    if table in ("predictions", "uncertainty"):
        keep &= frame["condition"].isin(conditions)
    if table == "transfer_images":
        keep &= frame["condition"].isin(conditions)
    if table in ("attacks", "transfers"):
        parts = frame["attack_id"].str.split("/")
        keep &= ("attack:" + parts.str[0] + ":" + parts.str[1]).isin(conditions)
    return frame.loc[keep]


def _of_suite(config: Config, suite: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows about datasets, label spaces and models of a suite."""
    datasets = config.datasets_of(suite)
    keep = pd.Series(True, index=frame.index)
    for column in ("dataset", "original"):
        if column in frame:
            keep &= frame[column].isin(datasets)
    if "sample_id" in frame and "dataset" not in frame:
        keep &= frame["sample_id"].str.split("/", n=1).str[0].isin(datasets)
    if "model" in frame:
        models = [name for name, model in {**config.models, **config.imported}.items() if model.suite == suite]
        models += [name for name, members in config.uncertainty.ensembles.items() if members[0] in models]
        keep &= frame["model"].isin(models)
    if "target_model" in frame:
        keep &= frame["target_model"].isin([name for name, model in config.models.items() if model.suite == suite])
    if "label_space" in frame and "class_id" in frame:
        known = tables.read("datasets", config.results / "datasets.parquet")
        keep &= frame["label_space"].isin(known.loc[known["dataset"].isin(datasets), "label_space"])
    return frame.loc[keep]


def hashes(root: Path, name: str) -> provenance.Hashes:
    """Table -> file -> sha256 of the tables of a release that lie here."""
    return {path.stem: {path.name: tables.sha256(path)} for path in sorted(folder(root, name).glob("*.parquet"))}


def _pictures(root: Path, facts: dict[str, str]) -> dict[str, Path]:
    """sha256 -> the pictures of each dataset of a release with single images, where a preset fetched just these."""
    if facts.get("per_image") != "yes":
        return {}
    said = yaml.safe_load(facts["params"])
    out = {}
    for name, dataset in said["datasets"].items():
        if dataset.get("suite") == facts["suite"] and dataset.get("images"):
            path = root / "fetched" / dataset["fetched"] / name / database.THUMBNAILS
            if path.is_file() and tables.sha256(path) == dataset["images"]:
                out[dataset["images"]] = path
    return out


def open_release(root: Path, name: str, manifest: dict[str, Any]) -> Path:
    """The database of a release, built where it is missing or of another version; tables are pulled where they are not
    here. Raises BenchError where they cannot be had or are not those of the manifest."""
    path = database_path(root, name)
    stored = database.read_snapshot(path)
    pictures = _pictures(root, manifest["facts"])
    shown = ",".join(sorted(pictures))
    wanted = (provenance.schema_id(), manifest["snapshot_id"], shown)
    if stored is not None and tuple(stored.get(key, "") for key in ("schema", "snapshot_id", "pictures")) == wanted:
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
    found["images"] = list(pictures.values())
    facts = {"per_image": "no", **manifest["facts"], "schema": provenance.schema_id(), "release": name}
    facts["pictures"] = shown
    database.build_file(path, found, facts, earlier=True)
    return path
