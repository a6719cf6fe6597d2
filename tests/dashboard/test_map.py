"""The page Map: two encoders side by side, and the figures on it."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from bench.config import Config
from bench.store import database, tables
from dashboard import db, mapped, plots
from tests.dashboard.conftest import Open, text

PAIR = ("mae-vit", "supervised-cnn")


def tiles(app: AppTest, key: str) -> list[str]:
    """The images of a grid."""
    start = f"open:{key}:"
    return [button.key.removeprefix(start) for button in app.button if button.key and button.key.startswith(start)]


def stored(config: Config, model: str) -> pd.DataFrame:
    """Table `map_neighbours` of a model, with labels and sources of both images."""
    near = tables.read("map_neighbours", config.results / "map_neighbours.parquet").query("model == @model")
    samples = tables.read("samples", config.results / "samples.parquet").set_index("sample_id")
    for column, of in (("sample_id", "own"), ("neighbour_id", "other")):
        near = near.assign(**{f"{of}_{c}": samples[c].loc[near[column]].to_numpy() for c in ("label", "source_id")})
    return near.assign(dataset=samples["dataset"].loc[near["sample_id"]].to_numpy())


def test_the_shares_are_those_counted_one_by_one(config: Config, source: db.Source) -> None:
    found = mapped.agreement(source, "digits-noisy", PAIR)
    a, b = (stored(config, model).query("dataset == 'digits-noisy'") for model in PAIR)
    assert (found.n, found.k) == (20, 3)
    for share, rows in zip(found.same, (a, b), strict=True):
        assert share.value == pytest.approx((rows["own_label"] == rows["other_label"]).mean())
        assert share.low <= share.value <= share.high
    both = 0
    for sample_id, rows in a.groupby("sample_id"):
        both += len(set(rows["other_source_id"]) & set(b.loc[b["sample_id"] == sample_id, "other_source_id"]))
    assert found.common is not None
    assert found.more_pp is not None
    assert found.common.value == pytest.approx(both / 60)
    assert found.more_pp[0] == pytest.approx(100 * (found.same[0].value - found.same[1].value))
    every = db.map_of(source, PAIR[0])
    assert found.common.chance == pytest.approx(3 / (every["origin"].nunique() - 1))
    mine = every[every["dataset"] == "digits-noisy"]
    chances = []
    for row in mine.itertuples():
        others = every[every["origin"] != row.origin]
        chances.append((others["label"] == row.label).mean())
    assert found.same[0].chance == pytest.approx(np.mean(chances))


def test_an_encoder_agrees_with_itself_and_by_chance_with_noise() -> None:
    rng = np.random.default_rng(0)
    rows = [(f"{i}", f"{j}") for i in range(400) for j in rng.choice(100, 5, replace=False)]
    a = pd.DataFrame(rows, columns=["sample_id", "origin"])
    assert (mapped.in_common(a, a) == 1).all()
    rows = [(f"{i}", f"{j}") for i in range(400) for j in rng.choice(100, 5, replace=False)]
    assert mapped.in_common(a, pd.DataFrame(rows, columns=a.columns)).mean() == pytest.approx(0.05, abs=0.01)


def test_the_page_says_what_the_tables_say(config: Config, source: db.Source, open_app: Open) -> None:
    app = open_app(config.root, "map", encoder=PAIR[0], second=PAIR[1])
    found = mapped.agreement(source, "digits", PAIR)
    assert found.common is not None
    said = text(app)
    assert f"**MAE ViT** and **Supervised CNN** have **{100 * found.common.value:.1f} %" in said
    assert f"({100 * found.common.chance:.1f} % by chance) in common" in said
    assert "20 of its 60 test images" in said
    assert "mean little on these maps" in said
    table = app.dataframe[0].value
    expected = [100 * one.value for one in (*found.same, found.common)]
    assert table["Share, %"].tolist() == pytest.approx(expected)


def test_neighbours_of_the_picked_image_stand_side_by_side(config: Config, open_app: Open) -> None:
    sample = str(stored(config, PAIR[0]).query("dataset == 'optdigits'")["sample_id"].iloc[0])
    app = open_app(config.root, "map", dataset="optdigits", encoder=PAIR[0], second=PAIR[1], picked=sample)
    assert tiles(app, "picked") == [sample]
    origins = []
    for model in PAIR:
        rows = stored(config, model).query("sample_id == @sample").sort_values("rank")
        assert tiles(app, f"near:{model}") == rows["neighbour_id"].tolist()
        origins.append(set(rows["other_source_id"]))
    assert f"{len(origins[0] & origins[1])} of 3 neighbours in common." in text(app)
    marked = [b.label for b in app.button if b.key and b.key.startswith("open:near:") and b.label.endswith("both")]
    assert len(marked) == 2 * len(origins[0] & origins[1])


def test_what_was_drawn_around_is_a_grid_and_stays_on_other_pages(config: Config, open_app: Open) -> None:
    ids = tables.read("maps", config.results / "maps.parquet")["sample_id"]
    chosen = sorted(ids[ids.str.startswith("digits/")].unique())[:7]
    app = open_app(config.root, "map")
    assert not tiles(app, "map")
    app.session_state["mapped"] = (*chosen, "optdigits/00000", "gone")
    app.run()
    assert tiles(app, "map") == chosen
    assert "**7** images of Digits" in text(app)
    assert set(app.selectbox(key="w:picked").options[:7]) == {f"{one}, label {int(one[-1])}" for one in chosen}
    assert tiles(app, "picked")[0] in chosen
    app.switch_page("views/overview.py").run()
    app.switch_page("views/map.py").run()
    assert tiles(app, "map") == chosen
    next(button for button in app.button if button.label == "Clear the selection").click().run()
    assert not tiles(app, "map")
    assert not app.exception


def test_right_or_wrong_is_that_of_the_judge(config: Config, source: db.Source, open_app: Open) -> None:
    app = open_app(config.root, "map", dots="right", judge="pixels")
    assert not app.exception
    assert app.session_state["view"].judge == "pixels"
    [figure, _] = app.get("plotly_chart")
    assert '"right"' in figure.proto.spec
    assert '"wrong"' in figure.proto.spec


def test_a_choice_that_is_not_here_falls_back(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "map", encoder="ensemble-supervised", second="supervised-cnn", picked="nobody")
    assert not app.exception
    assert "Supervised ensemble has no map of this set." in text(app)
    app.selectbox(key="w:encoder").set_value("supervised-cnn").run()
    assert not app.exception
    assert "**Supervised CNN** and **Supervised ViT** have" in text(app)


def test_a_set_without_encoders_says_so(imported: Config, open_app: Open) -> None:
    app = open_app(imported.root, "map", dataset="objects")
    assert not app.exception
    assert "No encoder was run here on Objects" in text(app)


@pytest.mark.parametrize("left", [0, 1])
def test_results_with_no_map_or_one(config: Config, tmp_path: Path, open_app: Open, left: int) -> None:
    (tmp_path / "results").mkdir()
    shutil.copy(config.root / "params.yaml", tmp_path)
    for name in (database.FILE, database.HASHES):
        shutil.copy(config.results / name, tmp_path / "results")
    with duckdb.connect(str(tmp_path / "results" / database.FILE)) as connection:
        for table in ("maps", "map_neighbours"):
            connection.execute(f"DELETE FROM {table} WHERE model <> ?", ["pixels" if left else ""])
    app = open_app(tmp_path, "map")
    assert not app.exception
    if left:
        assert "have its label for **Raw pixels**." in text(app)
        assert len(app.get("plotly_chart")) == 1
    else:
        assert "These results hold no maps." in text(app)
        assert "dvc repro maps database" in text(app)


def test_a_figure_has_a_trace_for_each_group_and_marks_what_was_chosen() -> None:
    frame = pd.DataFrame(
        {
            "sample_id": ["a", "b", "c", "d"],
            "label_name": ["<b>", "2", "2", "2"],
            "x": [0.0, 1, 2, 3],
            "y": [0.0, 1, 2, 3],
            "group": ["one", "two", "two", ""],
        }
    )
    figure = plots.mapped(frame, ["one", "two"], ["c"], [{"b"}, {"a", "d"}])
    found = {trace.name: trace for trace in figure.data}
    assert list(found) == ["other sets", "one", "two", "looked at", "its nearest"]
    assert found["two"].selectedpoints == (1,)
    assert found["one"].selectedpoints == ()
    assert list(found["two"].customdata) == ["b", "c"]
    assert found["other sets"].customdata is None
    assert "&lt;b&gt;" in found["one"].text[0]
    assert list(found["its nearest"].x) == [0.0, 3.0]
    assert plots.mapped(frame, ["one", "two"], [], [set(), set()]).data[1].selectedpoints is None
