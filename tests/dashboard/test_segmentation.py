"""The page Segmentation: its answer, the strip of a pair, and where there is nothing to see."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.config import Config
from bench.store import database, tables
from dashboard import db, findings, plots, segmenting, terms
from tests.dashboard.conftest import Open, text

SET = "digits-scenes"


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def strips(app: object) -> str:
    return "".join(str(one.proto.body) for one in app.get("html"))  # pyright: ignore[reportAttributeAccessIssue]


def test_the_answer_is_that_of_the_table(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "segmentation")
    assert not app.exception
    assert app.title[0].value == "Can an attack draw any mask?"
    summary = tables.read("segmentation_summary", config.results / "segmentation_summary.parquet")
    row = summary.set_index("variant").loc["asma"]
    said = text(app)
    assert f"Perhaps: for {terms.percent(row['reached'], row['reached_low'], row['reached_high'])} of 8 pairs" in said
    assert "synthetic: composed here" in said
    assert "mean IoU of 0.20 with the targets" in said, "where it starts"
    assert said.count("(less)") >= 3
    shown = app.dataframe[0].value
    assert shown["Variant"].tolist() == list(terms.SEGMENTING.values())
    assert shown["n"].tolist() == [8] * 6
    assert shown["Less ASMA's"][0] == "–"


def test_another_pair_is_another_strip(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "segmentation")
    first = strips(app)
    assert first.count("<figure>") == 7, "five stills and what is drawn after 10 and 20 steps"
    assert "Drawn after 20 steps, IoU 0.9" in first
    box = app.selectbox(key="w:drawn")
    assert box.options[1] == "1 with the mask of 0"
    box.set_value(f"asma/{SET}/1").run()
    assert not app.exception
    assert strips(app) != first
    assert app.session_state["view"].drawn == f"asma/{SET}/1"


def test_an_unknown_pair_or_set_in_the_address_shows_the_first(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "segmentation", drawn="none", masked="none")
    assert not app.exception
    assert strips(app).count("<figure>") == 7


def test_results_without_the_study_say_how_it_is_made(config: Config, open_app: Open, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(config.root, root)
    for name in database.SINGLE:
        if name.startswith("segmentation"):
            path = root / "results" / f"{name}.parquet"
            tables.write(name, tables.read(name, path).iloc[:0], path)
    database.run(config.model_copy(update={"root": root}))
    app = open_app(root, "segmentation")
    assert not app.exception
    assert "dvc repro segmentation database" in text(app)


def test_pairs_that_the_attack_misses_are_named(config: Config, open_app: Open, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(config.root, root)
    path = root / "results" / "segmentation_runs.parquet"
    for ious in ([0.95] * 8, [0.95] * 7 + [0.3], [0.2] * 2 + [0.95] * 6):
        runs = tables.read("segmentation_runs", path)
        mine = runs["variant"] == "asma"
        runs.loc[mine, "iou"] = ious
        tables.write("segmentation_runs", runs, path)
        database.run(config.model_copy(update={"root": root}))
        low = runs.loc[mine & (runs["iou"] < 0.9)]
        names = [f"{row.sample_id} with {row.target_id}" for row in low.itertuples()]
        said = text(open_app(root, "segmentation"))
        if not names:
            assert "does not draw" not in said
        else:
            pairs = "1 pair" if len(names) == 1 else f"{len(names)} pairs"
            assert f"does not draw the target of {pairs}: {', '.join(names)}." in said


def test_a_perturbation_is_stretched_around_grey() -> None:
    clean = np.full((2, 2), 100, np.uint8)
    attacked = np.array([[110, 100], [100, 80]], np.uint8)
    stretched, times = segmenting.perturbation(png(clean), png(attacked))
    assert times == pytest.approx(127 / 20)
    np.testing.assert_allclose(pixels(stretched), [[191, 128], [128, 0]], atol=1)


def test_each_class_of_a_mask_has_a_colour_and_further_ones_begin_again() -> None:
    found = pixels(segmenting.coloured(png(np.array([[0, 1, 5, 6]], np.uint8))))
    assert found.shape == (1, 4, 3)
    assert len({tuple(colour) for colour in found[0].tolist()}) == 3
    assert found[0, 1].tolist() == found[0, 3].tolist()


def test_curves_are_means_over_pairs(config: Config, source: db.Source) -> None:
    frame = db.segmentation_curves(source, SET)
    stored = tables.read("segmentation_attacks", config.results / "segmentation_attacks.parquet")
    mine = stored.loc[(stored["variant"] == "static-mask") & (stored["iteration"] == 20)]
    found = frame.loc[(frame["variant"] == "static-mask") & (frame["iteration"] == 20)].iloc[0]
    assert found["iou"] == pytest.approx(mine["iou_clipped"].mean(), rel=1e-6)
    assert found["n"] == len(mine)
    figure = plots.segmentation_curves(frame, "l2", 0.9)
    assert [trace.name for trace in figure.data] == list(terms.SEGMENTING.values())
    assert "[0, 1] units" in figure.layout.xaxis.title.text


def test_what_is_not_clear_is_not_called_clear() -> None:
    about = {"reached": 0.9}
    row = {"reached": 0.5, "reached_low": 0.3, "reached_high": 0.7, "n": 20}
    assert findings.drawn(row, about).startswith("No: for 50.0 % [30.0, 70.0] of 20 pairs")
    assert findings.drawn({**row, "reached_low": 0.82}, about).startswith("Yes, nearly:")
    assert findings.drawn({**row, "reached_high": 0.85}, about).startswith("Perhaps:")
    assert findings.drawn({**row, "reached_high": 0.4}, about).startswith("No:")
    rows = pd.DataFrame(
        {"variant": ["asma", "ce-pgd"], "iou_delta": [np.nan, 0.01], "iou_delta_low": [np.nan, -0.01]}
    ).assign(iou_delta_high=[np.nan, 0.03])
    said = findings.parts_of_asma(rows)
    assert re.search(r"PGD, cross-entropy \+0\.01 \[-0\.01, \+0\.03\] \(not told apart\)", said)
    assert "nan" not in said
    assert findings.parts_of_asma(rows.iloc[:1]) == ""
