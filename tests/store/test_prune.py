"""What a removed model left goes, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from bench import config as configuration
from bench.config import Config
from bench.data import cache
from bench.evaluate import predict
from bench.store import prune
from tests import tiny


def without_pixels(config: Config) -> Config:
    path = config.root / "params.yaml"
    parameters = yaml.safe_load(path.read_text())
    del parameters["models"]["pixels"]
    path.write_text(yaml.safe_dump(parameters))
    stages = {"index": {}, "train": {"foreach": "${models}"}}
    (config.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    entries = {name: {"cmd": "x"} for name in ("index", "train@pixels", "train@random-cnn", "old", "train", "index@a")}
    (config.root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": entries}, sort_keys=False))
    return configuration.load(path)


def test_only_ghosts_go(own: Config, capsys: pytest.CaptureFixture[str]) -> None:
    config = without_pixels(own)
    every = set(config.results.rglob("*"))
    prune.run(config, dry_run=True)
    said = capsys.readouterr().out
    assert set(config.results.rglob("*")) == every
    assert "would remove results/predictions/pixels.parquet" in said
    prune.run(config)
    gone = every - set(config.results.rglob("*"))
    assert gone == {path for path in every if path.stem == "pixels"}
    assert len(gone) == 5
    assert capsys.readouterr().out == said.replace("would remove", "removed")
    lock = yaml.safe_load((config.root / "dvc.lock").read_text())
    assert list(lock["stages"]) == ["index", "train@random-cnn"]
    prune.run(config)
    assert "nothing to remove" in capsys.readouterr().out


def test_kept_images_that_none_needs_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny.make(tmp_path)
    predict.run(config, "cnn")
    folder = tmp_path / cache.FOLDER
    needed = set(folder.rglob("*.npy"))
    assert len(needed) == 6
    prune.run(config)
    assert "nothing to remove" in capsys.readouterr().out
    stale = {folder / "blocks" / "test.0123.npy", folder / "blocks" / ".test.0123.npy.9.tmp", folder / "gone" / "x.npy"}
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    prune.run(config, dry_run=True)
    assert capsys.readouterr().out.count("would remove .cache/") == 3
    prune.run(config)
    assert {path for path in folder.rglob("*") if path.is_file()} == needed
    fewer = {"corruptions": {"datasets": ["blocks"], "names": ["contrast"], "severities": [5]}}
    prune.run(Config.model_validate({**config.model_dump(), **fewer}))
    assert sorted(path.name.split(".")[0] for path in folder.rglob("*.npy")) == ["contrast-5", "test", "test"]
    shutil.rmtree(config.data / "copies")
    prune.run(config)
    assert {path.parent.name for path in folder.rglob("*.npy")} == {"blocks"}
