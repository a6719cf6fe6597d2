"""Remove what models and stages left behind that are no longer declared: their files, and their entries in dvc.lock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from bench.config import Config
from bench.data import cache, samples
from bench.evaluate import predict
from bench.store import tables

FOLDERS = {
    "checkpoints": ".safetensors",
    "logits": ".parquet",
    "models": ".parquet",
    "predictions": ".parquet",
    "representations": ".parquet",
    "training": ".parquet",
}
"""Folders of results/ with one file for every model."""


def ghosts(config: Config) -> list[Path]:
    """Files of results/ that belong to a model that params.yaml does not list."""
    return [
        path
        for folder, suffix in FOLDERS.items()
        for path in sorted((config.results / folder).glob(f"*{suffix}"))
        if path.name.removesuffix(suffix) not in config.models
    ]


def stale_images(config: Config) -> list[Path]:
    """Kept images (bench/data/cache.py) of data, code or conditions that are no longer there."""
    folder, needed = config.root / cache.FOLDER, set()
    for dataset in config.datasets:
        there = all((config.folder(dataset) / file).is_file() for file in (samples.META, samples.SAMPLES))
        if there and (folder / dataset).is_dir():
            needed |= {*cache.splits(config, dataset), *predict.kept(config, dataset).values()}
    attacked = {path for path in folder.glob("*/attack+*.*.npy") if _is_declared(config, path)}
    return [path for path in sorted(folder.glob("*/*")) if path not in needed | attacked]


def _is_declared(config: Config, path: Path) -> bool:
    """Whether a shard of the stage `attack` is of a run and a model that there are: a newer one takes its place."""
    from bench.attacks import shards

    dataset = path.parent.name
    return dataset in config.datasets and path.name.split(".")[0] in shards.names(config, dataset)


def run(config: Config, *, dry_run: bool = False) -> None:
    """Remove ghosts and say which; with `dry_run` only say it. What can be restored by `dvc repro` stays restorable."""
    paths, entries = [*ghosts(config), *stale_images(config)], _stale_entries(config)
    verb = "would remove" if dry_run else "removed"
    if not dry_run:
        for path in paths:
            path.unlink()
        _drop(config, entries)
    for thing in [*(path.relative_to(config.root).as_posix() for path in paths), *(f"dvc.lock: {e}" for e in entries)]:
        typer.echo(f"{verb} {thing}")
    if not paths and not entries:
        typer.echo("nothing to remove: every result belongs to a declared model, every kept image to a declared set.")


def _stale_entries(config: Config) -> list[str]:
    """Stages of dvc.lock that dvc.yaml and params.yaml no longer give."""
    lock, stages = _load(config.root / "dvc.lock"), _load(config.root / "dvc.yaml").get("stages", {})
    found = []
    for entry in lock.get("stages", {}):
        stage, _, model = entry.partition("@")
        declared = stage in stages and ("foreach" in stages[stage]) == bool(model)
        if not declared or (model and model not in config.models):
            found.append(entry)
    return found


def _load(path: Path) -> dict[str, Any]:
    import yaml

    return (yaml.safe_load(path.read_text()) or {}) if path.is_file() else {}


def _drop(config: Config, entries: list[str]) -> None:
    """Take entries out of dvc.lock as `dvc` writes it."""
    from ruamel.yaml import YAML

    if not entries:
        return
    path, yaml = config.root / "dvc.lock", YAML()
    lock = yaml.load(path.read_text())
    for entry in entries:
        del lock["stages"][entry]
    with tables.replacing(path) as temporary, temporary.open("w") as stream:
        yaml.dump(lock, stream)
