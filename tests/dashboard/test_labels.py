"""The page Labels: on sets with several labels, with one, with none besides the original, and without single images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from bench import stats
from bench.config import Config
from bench.store import database
from dashboard import db, findings, plots
from tests.dashboard.conftest import Open, text


@pytest.fixture(scope="module")
def aggregates(imported: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a snapshot that holds no rows of single images."""
    root = tmp_path_factory.mktemp("aggregates")
    (root / "results").mkdir()
    (root / "params.yaml").write_text((imported.root / "params.yaml").read_text())
    kept = {name: paths for name, paths in database.sources(imported).items() if name not in database.PER_IMAGE}
    stored = database.read_snapshot(imported.results / database.FILE) or {}
    said = {key: value for key, value in stored.items() if key in ("snapshot_id", "params")} | {"per_image": "no"}
    database.build_file(root / "results" / database.FILE, kept, said)
    return root


def said(words: str) -> None:
    assert "nan" not in words.lower().split()
    assert "None" not in words


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"dataset": "objects", "labels": "real"},
        {"dataset": "objects-v2", "labels": "refined_v2", "strat": "class", "empty": "wrong"},
        {"dataset": "digits-noisy", "labels": "true"},
        {"dataset": "digits-mosaic", "labels": "composed", "families": "random"},
        {"dataset": "objects", "labels": "real", "models": "plain"},
        {"dataset": "objects", "labels": "real", "families": "pixels"},
        {"dataset": "optdigits"},
    ],
)
def test_it_shows_without_a_fault(imported: Config, open_app: Open, query: dict[str, str]) -> None:
    app = open_app(imported.root, "labels", **query)
    assert not app.exception
    assert not app.warning
    said(text(app))
    assert app.title[0].value == "How many labels do images have, and what does that do to accuracy?"


def test_it_needs_no_single_images(imported: Config, aggregates: Path, open_app: Open) -> None:
    query = {"dataset": "objects-v2", "labels": "refined_v2"}
    whole, bare = (open_app(root, "labels", **query) for root in (imported.root, aggregates))
    assert not bare.exception
    assert text(bare) == text(whole)
    assert len(bare.dataframe) == len(whole.dataframe) == 4


def test_it_says_both_shares_with_their_interval(imported: Config, mixed: db.Source, open_app: Open) -> None:
    app = open_app(imported.root, "labels", dataset="objects-v2", labels="refined_v2")
    row = db.label_facts(mixed).set_index("dataset").loc["objects-v2"]
    low, high = stats.wilson(row["n_several"], row["n_images"])
    share = 100 * row["n_several"] / row["n_images"]
    assert f"**{share:.2f} %** [{100 * low:.2f}, {100 * high:.2f}] of the images of Objects v2" in text(app)
    assert f"{row['n_several']} of 60, have two labels or more" in text(app)
    shown = app.dataframe[0].value.set_index("Set").loc["Objects v2 (replication)"]
    assert shown["Two or more, of all"] == pytest.approx(share)
    labels = 100 * row["n_several"] / (row["n_images"] - row["n_empty"])
    assert shown["Two or more, of labelled"] == pytest.approx(labels)
    assert row["n_empty"] > 0
    assert shown["No label"] == pytest.approx(100 * row["n_empty"] / row["n_images"])
    assert shown["Original inside, of all"] < shown["Original inside, of labelled"]


def test_every_accuracy_has_its_name_definition_and_interval(imported: Config, open_app: Open) -> None:
    app = open_app(imported.root, "labels", dataset="objects", labels="real")
    metrics = pd.read_parquet(imported.results / "metrics.parquet")
    mine = metrics.loc[(metrics["model"] == "org/resnet50.a1") & (metrics["dataset"] == "objects")]
    mine = mine.loc[(mine["subset"] == "all") & (mine["condition"] == "clean")].set_index(["label_source", "metric"])
    shown = app.dataframe[1].value.set_index("Model").loc["org/resnet50.a1"]
    names = {"any_of": "Any-of", "any_of_empty_wrong": "Empty wrong", "class_balanced": "Class-balanced"}
    for metric, name in {**names, "top_k": "Top-k", "top1": "Top-1"}.items():
        row = mine.loc[("original" if metric == "top1" else "real", metric)]
        assert shown[name] == pytest.approx(100 * row["value"])
        assert shown[f"{name}, 95 %"] == f"{100 * row['ci_low']:.1f} to {100 * row['ci_high']:.1f}"
        assert f"**{name}**" in text(app) or f"**{name.lower()}**" in text(app)
    assert shown["Empty wrong"] < shown["Any-of"]
    counts = pd.read_parquet(imported.results / "label_accuracy.parquet")
    counts = counts.loc[(counts["model"] == "org/resnet50.a1") & (counts["dataset"] == "objects")]
    several = counts.loc[(counts["scoring"] == "any_of") & (counts["n_labels"] > 1)]
    pooled = 100 * (several["value"] * several["n"]).sum() / several["n"].sum()
    assert shown["Any-of, two or more"] == pytest.approx(pooled)


def test_original_labels_give_way_and_that_is_said(imported: Config, open_app: Open) -> None:
    app = open_app(imported.root, "labels", dataset="objects")
    assert app.info[0].value == "Original labels are one an image; shown are those of the source “ReaL”."
    app = open_app(imported.root, "labels", dataset="optdigits")
    assert "Optdigits (shifted) has only its original labels" in app.info[0].value
    assert "Digits mosaic (composed)" in app.info[0].value
    assert "of the images of Digits mosaic (composed)" in text(app)


def test_a_relabelled_set_is_not_called_an_upper_bound(imported: Config, open_app: Open) -> None:
    words = text(open_app(imported.root, "labels", dataset="digits-noisy", labels="true"))
    assert "upper bound" not in words
    assert "Labels were changed here on purpose" in words
    assert "it is not the original one" in words
    assert "there is nothing to compare" in words


def test_the_gap_is_called_an_upper_bound_with_what_stands_beside_it(imported: Config, open_app: Open) -> None:
    app = open_app(imported.root, "labels", dataset="objects-v2", labels="refined_v2")
    words = text(app)
    assert "With images without labels left out, this is **an upper bound" in words
    assert "**an upper bound of what labels explain: the two label sets come from different processes**" in words
    assert "images without labels (" in words
    assert "original label inside for" in words
    gaps = pd.read_parquet(imported.results / "label_gaps.parquet")
    gaps = gaps.loc[gaps["replication"] == "objects-v2"].set_index(["model", "empty"])
    shown = app.dataframe[-1].value.set_index("Model")
    assert shown.loc["plain", "Removed"] == pytest.approx(gaps.loc[("plain", "excluded"), "removed_pp"])
    assert shown.loc["plain", "Removed, empty wrong"] == pytest.approx(gaps.loc[("plain", "wrong"), "removed_pp"])
    app.button_group(key="w:empty").set_value("wrong").run()
    assert not app.exception
    assert app.session_state["view"].empty == "wrong"
    shown = app.dataframe[-1].value.set_index("Model")
    assert shown.loc["plain", "Removed"] == pytest.approx(gaps.loc[("plain", "wrong"), "removed_pp"])


def test_within_classes_is_another_table_and_figure(imported: Config, open_app: Open) -> None:
    app = open_app(imported.root, "labels", dataset="digits-mosaic", labels="composed")
    pooled = app.dataframe[2].value
    app.button_group(key="w:strat").set_value("class").run()
    assert not app.exception
    assert app.session_state["view"].strat == "class"
    assert "same original class" in text(app)
    assert not app.dataframe[2].value.set_index("Model").equals(pooled.set_index("Model"))


def test_without_further_labels_it_says_how_to_bring_some(imported: Config, tmp_path: Path, open_app: Open) -> None:
    (tmp_path / "results").mkdir()
    parameters = yaml.safe_load((imported.root / "params.yaml").read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(parameters))
    found = {name: paths for name, paths in database.sources(imported).items() if not name.startswith("label_")}
    database.build_file(tmp_path / "results" / database.FILE, found, {"snapshot_id": "some", "params": ""})
    app = open_app(tmp_path, "labels")
    assert not app.exception
    assert "No set here has labels besides its original ones" in text(app)
    assert "bench import labels" in app.code[0].value


def rows_of(models: int) -> pd.DataFrame:
    """Accuracy by number of labels of some models, as the figure takes it."""
    counts = [1, 2, 3]
    frame = pd.DataFrame(
        [
            (
                f"model {i}",
                "ssl" if i % 2 else "supervised",
                scoring,
                k,
                90 - i - 5 * k,
                85 - i - 5 * k,
                95 - i - 5 * k,
                50,
            )
            for i in range(models)
            for scoring in ("top1", "any_of")
            for k in counts
        ],
        columns=["name", "family", "scoring", "n_labels", "at", "low", "high", "n"],
    )
    frame.loc[frame["n_labels"] == 1, ["low", "high"]] = np.nan
    return frame


def test_few_models_have_a_line_each_and_many_share_traces() -> None:
    few = plots.by_labels(rows_of(4), [], 3, " %", "Accuracy")
    assert len(few.data) == 8
    assert {trace.xaxis for trace in few.data} == {"x", "x2"} or {trace.xaxis for trace in few.data} == {None, "x2"}
    assert few.layout.xaxis.ticktext == ("1", "2", "3+")
    assert list(few.data[0].error_y.array) == [0, 5, 5]
    many = plots.by_labels(rows_of(67), ["model 0", "model 66"], None, " pp", "Against one label")
    assert len(many.data) == 2 * (2 + 1 + 2)
    thin = many.data[0]
    assert len(thin.x) == 34 * 4
    assert np.isnan(thin.y[3])
    assert many.layout.xaxis.ticktext == ("1", "2", "3")
    middle = next(trace for trace in many.data if trace.name == "median of all")
    assert list(middle.y) == [90 - 33 - 5 * k for k in (1, 2, 3)]


def gaps_of(models: int) -> pd.DataFrame:
    at = np.linspace(5, 15, models)
    return pd.DataFrame({"name": [f"model {i}" for i in range(models)], "family": "unknown", "gap_top1_pp": at}).assign(
        top1_low=at - 1,
        top1_high=at + 1,
        gap_any_of_pp=at - 4,
        any_of_low=at - 5,
        any_of_high=at - 3,
        removed_pp=4.0,
        removed_low=3.0,
        removed_high=5.0,
        n_original=100,
        n_replication=50,
    )


@pytest.mark.parametrize(("models", "named"), [(3, True), (67, True), (400, False)])
def test_gaps_name_the_models_while_there_is_room(models: int, named: bool) -> None:
    plot = plots.label_gaps(gaps_of(models), "Gap")
    assert (plot.layout.yaxis.ticktext is not None) == named
    assert plot.layout.height <= 2400
    drawn = [trace for trace in plot.data if trace.showlegend is False]
    assert [len(trace.x) for trace in drawn] == [models] * 3
    assert list(drawn[0].error_x.array)[:2] == pytest.approx([1, 1])


def test_findings_say_what_intervals_support() -> None:
    rows = pd.DataFrame(
        [
            ("top1", 1, np.nan, np.nan, np.nan),
            ("top1", 2, -8.7, -11.2, -6.2),
            ("top1", 3, -17.2, -20.6, -13.9),
            ("any_of", 1, np.nan, np.nan, np.nan),
            ("any_of", 2, -0.2, -2.5, 2.2),
            ("any_of", 3, 2.5, -0.6, 5.6),
        ],
        columns=["scoring", "n_labels", "stratified_pp", "stratified_low", "stratified_high"],
    ).assign(n=findings.FEW)
    assert findings.by_labels(rows.assign(n=findings.FEW - 1), "X") == ""
    assert findings.by_labels(rows, "X") == (
        "On images of two labels, against images of one in the same class, **X**, the most accurate model shown, is "
        "right by the original label **8.7 pp** [6.2, 11.2] less often, and by any label as often, as far as can "
        "be told (-0.2 pp [-2.5, 2.2])."
    )
    assert "two or more labels" in findings.by_labels(rows.loc[rows["n_labels"] < 3], "X")
    assert findings.by_labels(rows.loc[rows["n_labels"] < 2], "X") == ""
    assert findings.removed(gaps_of(3).head(0), "A", "B", (0, 0)) == ""
    several = findings.removed(gaps_of(3).assign(removed_pp=[-1.0, 4.0, 5.0]), "A", "B", (3.5, 4.5))
    assert "takes **4.0 pp** [3.5, 4.5] off the gap between A and B for the median of 3 models" in several
    assert "(removed: from -1.0 (model 0) to +5.0 pp (model 2) across models;" in several
    assert "for 3). The median gap is 10.0 pp by the original label and 6.0 pp by any label." in several
    more = gaps_of(1).assign(removed_pp=-2.0, removed_low=-3.0, removed_high=-1.0)
    assert "adds **2.0 pp** to the gap between A and B (removed: -2.0 pp [-3.0, -1.0])." in findings.removed(
        more, "A", "B", (-2.0, -2.0)
    )
    added = gaps_of(3).assign(removed_pp=-2.0)
    assert "adds **2.0 pp** [1.0, 3.0] to the gap" in findings.removed(added, "A", "B", (-3.0, -1.0))
    said = findings.exclusions(5.3, 9.6, ("left out", "counted wrong"), [("A", 0.063), ("B", 0.013)])
    assert "With them counted wrong, 9.6 pp would be removed for the median model in place of 5.3 pp." in said
    assert "from those images alone: 6.3 % of A and 1.3 % of B." in said
    assert "Neither number is the part of the gap that is due to labels" in said


def test_a_line_over_models_is_on_linear_axes() -> None:
    x = np.array([0.5, 0.6, 0.7, 0.8])
    frame = pd.DataFrame({"name": list("abcd"), "family": "unknown"})
    for side, value in (("x", x), ("y", 0.4 + 0.6 * x)):
        frame = frame.assign(
            **{f"value_{side}": value, f"low_{side}": value - 0.01, f"high_{side}": value + 0.01, f"n_{side}": 100}
        )
    line = stats.fit_line(x, 0.4 + 0.6 * x, np.random.default_rng(0), scale="linear", draws=50)
    plot = plots.any_against_top1(frame, line, "original", "Top-1", "Any-of")
    dots = plot.data[-1]
    np.testing.assert_allclose(dots.x, 100 * x)
    np.testing.assert_allclose(dots.error_y.array, 1)
    assert plot.layout.xaxis.range == plot.layout.yaxis.range
    assert len(plots.any_against_top1(frame, None, "original", "Top-1", "Any-of").data) == len(plot.data) - 2


def test_a_link_keeps_which_of_two_gaps_was_picked(
    imported: Config, mixed: db.Source, open_app: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    [first] = [pair for pair in db.label_pairs(mixed) if pair[:2] == ("objects", "objects-v2")]
    second = (*first[:3], "machine")
    monkeypatch.setattr(db, "label_pairs", lambda source: [first, second])
    query = {"dataset": "objects", "labels": "real"}
    app = open_app(imported.root, "labels", **query)
    assert app.selectbox(key="labels:pair").value == first
    app.selectbox(key="labels:pair").set_value(second).run()
    assert not app.exception
    token = "objects:real~objects-v2:machine"
    assert app.session_state["view"].pair == token
    again = open_app(imported.root, "labels", **query, pair=token)
    assert again.selectbox(key="labels:pair").value == second
