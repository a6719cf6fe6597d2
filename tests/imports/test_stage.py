"""The stage `imported`: what it writes, and what it refuses without touching what is there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import config as configuration
from bench.config import Config
from bench.data import index
from bench.errors import BenchError
from bench.imports import predictions, stage
from bench.imports.predictions import Options, Origin
from bench.store import tables
from tests.imports.conftest import PARAMS, K, N

NAME = "org/net.a1"


@pytest.fixture
def ready(config: Config, tmp_path: Path) -> Config:
    """A model with scores of `small`, of which `other` has answers alone, and the tables of the index."""
    rng = np.random.default_rng(1)
    np.save(tmp_path / "a.npy", rng.normal(size=(N, K)))
    pd.DataFrame({"file": [f"{row:08x}" for row in range(10)], "pred": 0}).to_csv(tmp_path / "b.csv")
    predictions.run(config, [tmp_path / "a.npy"], NAME, "small", Options(in_order=True), Origin(method="dino"))
    config = configuration.load(config.root / "params.yaml")
    predictions.run(config, [tmp_path / "b.csv"], NAME, "other")
    config = configuration.load(config.root / "params.yaml")
    index.run(config)
    return config


def test_what_it_writes(ready: Config) -> None:
    (ready.results / "imported" / "predictions").mkdir(parents=True)
    (ready.results / "imported" / "predictions" / "ghost.parquet").touch()
    assert stage.run(ready) == {"models": 1, "predictions": N + 10}
    out = ready.results / "imported"
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.parquet")) == [
        "models.parquet",
        "predictions/org%2Fnet.a1.parquet",
        "uncertainty/org%2Fnet.a1.parquet",
    ]
    models = tables.read("models", out / "models.parquet").iloc[0].to_dict()
    wanted = {"model": NAME, "family": "ssl", "method": "dino", "ssl_family": "distillation", "arch": "unknown"}
    wanted |= {"head": "none", "train_dataset": "unknown", "source": "imported", "dtype": "unknown"}
    assert {key: models[key] for key in wanted} == wanted
    found = tables.read("predictions", out / "predictions" / "org%2Fnet.a1.parquet")
    assert set(found["condition"]) == {"clean"}
    assert found["dataset"].value_counts().to_dict() == {"small": N, "other": 10}
    held = tables.read("imported", ready.imported_predictions(NAME, "small"))
    mine = found[found["dataset"] == "small"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine[list(held.columns[:4])], held[list(held.columns[:4])])
    unsure = tables.read("uncertainty", out / "uncertainty" / "org%2Fnet.a1.parquet")
    assert set(unsure["dataset"]) == {"small"}
    np.testing.assert_array_equal(unsure["energy"], held["energy"])
    assert unsure["mutual_information"].isna().all()


def test_without_imported_models(config: Config) -> None:
    assert stage.run(config) == {"models": 0, "predictions": 0}
    assert tables.read("models", config.results / "imported" / "models.parquet").empty
    assert (config.results / "imported" / "predictions").is_dir()


def test_twice_gives_the_same_bytes(ready: Config, state: Callable[[], dict[str, bytes]]) -> None:
    stage.run(ready)
    before = state()
    stage.run(ready)
    assert state() == before


def rewritten(config: Config, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Config:
    """The file of predictions of `small` changed, and pinned anew."""
    path = config.imported_predictions(NAME, "small")
    tables.write("imported", change(tables.read("imported", path)), path)
    text = (config.root / "params.yaml").read_text()
    (config.root / "params.yaml").write_text(text.replace(config.imported[NAME].datasets["small"], tables.sha256(path)))
    return configuration.load(config.root / "params.yaml")


FAULTS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "too few": (lambda f: f[1:], "1 test images without an answer (e.g. 'small/val.0000')"),
    "too many": (
        lambda f: pd.concat([f, f[:1].assign(sample_id="small/x")]),
        "1 ids of no test image (e.g. 'small/x')",
    ),
    "no class": (lambda f: f.assign(pred=K), "`pred` of 'small/val.0000' is 6"),
    "no class among the best": (lambda f: f.assign(top5=[[0, K]] * N), "`top5` of 'small/val.0000' is 6"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_files_that_do_not_fit(ready: Config, name: str, state: Callable[[], dict[str, bytes]]) -> None:
    stage.run(ready)
    change, said = FAULTS[name]
    config = rewritten(ready, change)
    before = state()
    with pytest.raises(BenchError) as error:
        stage.run(config)
    assert said in str(error.value)
    assert state() == before


def test_files_that_are_not_pinned_or_gone(ready: Config) -> None:
    path = ready.imported_predictions(NAME, "small")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BenchError, match="is not the file that"):
        stage.run(ready)
    path.unlink()
    with pytest.raises(BenchError, match="is missing"):
        stage.run(ready)


def test_imports_no_network() -> None:
    code = "import sys; from bench.imports import stage, predictions, labels; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_train_set_of_the_suite(ready: Config) -> None:
    text = (ready.root / "params.yaml").read_text().replace("small: {}", "small: {train: small}", 1)
    assert text != PARAMS
    (ready.root / "params.yaml").write_text(text)
    config = configuration.load(ready.root / "params.yaml")
    stage.run(config)
    assert tables.read("models", config.results / "imported" / "models.parquet")["train_dataset"].tolist() == ["small"]
