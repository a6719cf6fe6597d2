"""A benchmark that declares no attacks, corruptions, ensembles or reference model still has its figures."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from bench.config import Attacks, Config, Corruptions, Subsets, Uncertainty
from bench.evaluate import comparisons, metrics, replication, subsets
from bench.store import tables
from tests import factory


@pytest.fixture
def least(own_results: Config) -> Config:
    results = own_results.results
    for path in (*(results / "predictions").iterdir(), results / "ensemble_predictions.parquet"):
        frame = tables.read("predictions", path)
        keep = (frame["condition"] == "clean") & (frame["model"] != factory.ENSEMBLE)
        tables.write("predictions", frame[keep], path)
    for table, name in (("predictions", "attack_predictions"), ("attacks", "attacks"), ("metrics", "calibration")):
        path = results / f"{name}.parquet"
        tables.write(table, tables.read(table, path).iloc[:0], path)
    nothing = {
        "attacks": Attacks(),
        "corruptions": Corruptions(),
        "uncertainty": Uncertainty(),
        "subsets": Subsets(certain_fraction=[]),
    }
    return own_results.model_copy(update=nothing)


def test_the_stages_run(least: Config) -> None:
    for stage in (subsets, metrics, replication, comparisons):
        assert all(count > 0 for count in stage.run(least).values())
    frame = tables.read("metrics", least.results / "metrics.parquet")
    assert set(frame["condition"]) == {"clean"}
    assert set(frame["subset"]) == {"all", "disputed", "multi-label", "single-label"}
    assert set(json.loads((least.root / "metrics.json").read_text())) == set(factory.MODELS)


def test_plots_without_rows_keep_their_columns(least: Config) -> None:
    subsets.run(least)
    metrics.run(least)
    attack = pd.read_csv(least.root / "plots" / "attack.csv")
    corruption = pd.read_csv(least.root / "plots" / "corruption.csv")
    assert attack.empty
    assert corruption.empty
    assert {"model", "eps_255", "robust_accuracy"} <= set(attack.columns)
    assert {"model", "severity", "top1"} <= set(corruption.columns)
