"""The section Detection of the page Attacks."""

from __future__ import annotations

import pandas as pd

from bench.config import Config
from bench.store import tables
from dashboard import detection, terms
from tests.dashboard.conftest import Open, text


def stored(config: Config, name: str) -> pd.DataFrame:
    return tables.read(name, config.results / f"{name}.parquet")


def test_the_section_says_what_is_told_and_what_the_second_round_leaves(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "attacks", threats="detection")
    assert not app.exception
    said = text(app)
    assert "an AUROC of at least **0.85 [0.80, 0.90]**" in said
    assert "they know marks, not attacks" in said
    assert "0.50 [0.45, 0.55], as it must" in said
    assert "keeps 10.0 % [8.0, 12.0] of 40 images" in said
    assert "90.0 % [88.0, 92.0] of these images not fooled, but **40.0 % [38.0, 42.0]**" in said
    assert "takes in 65.0 % [63.0, 67.0] of images with random noise" in said
    assert not {"nan", "None", "NaN"} & set(said.split())


def test_the_kind_of_detector_and_the_objective_are_chosen(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "attacks", threats="detection", told="noise:u8", unlearned="noise")
    assert not app.exception
    assert not app.warning
    intervals, _, rounds = (frame.value for frame in app.dataframe[:3])
    assert set(intervals["Shown"]) == {terms.OBJECTIVE[name] for name in ("ce", "sign", "logit")}
    assert set(intervals["AUROC"]) == {"0.800 [0.750, 0.850]"}
    assert terms.ROUND["second"] not in set(rounds["Images"]), "networks are not attacked with noise"
    assert len(rounds) == 8


def test_a_placebo_off_chance_is_said(config: Config) -> None:
    cells = stored(config, "detection")
    at = cells["trained_on"] == "placebo"
    cells.loc[at, ["auroc", "ci_low", "ci_high"]] = [0.7, 0.6, 0.8]
    assert "distrust the rest" in detection.told(cells)
    assert "marks" not in detection.told(cells.loc[cells["tested_on"] != "noise"])
    assert detection.told(cells.iloc[:0]) == ""
    assert detection.retrained(stored(config, "retraining").iloc[:0]) == ""
