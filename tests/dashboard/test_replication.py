"""The page Replication and what it computes: held against what the stage stored, and against loops."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from bench import stats
from bench.config import Config
from bench.evaluate import protocol
from bench.store import database, tables
from dashboard import db, findings, gaps, plots, terms
from dashboard.gaps import Choice, Pair
from tests import factory
from tests.dashboard.conftest import Open, text
from tests.dashboard.test_labels import aggregates as aggregates

EVERYTHING = Choice("R0", "none", "", 1.0)


def said(words: str) -> None:
    assert "nan" not in words.lower().replace(",", " ").split()
    assert "None" not in words
    assert "inf" not in words.lower().split()


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"rule": "R0"},
        {"rule": "R2", "coverage": "70", "axis": "probit"},
        {"rule": "R3", "measure": "energy", "axis": "linear"},
        {"rule": "R4", "coverage": "90", "measure": "margin"},
        {"rule": "R4", "measure": "agreement"},
        {"rule": "R5", "coverage": "80", "whose": "ensemble-supervised"},
        {"measure": "mutual_information"},
        {"whose": "pixels", "against": "digits-corrupted"},
        {"against": "digits-noisy", "scoring": "any_of"},
        {"against": "digits-noisy", "label": "3"},
        {"against": "digits-harder", "families": "ssl"},
        {"dataset": "digits-null-a", "coverage": "5"},
    ],
)
def test_it_stands_for_every_choice(config: Config, open_app: Open, query: dict[str, str]) -> None:
    app = open_app(config.root, "replication", **query)
    assert not app.exception
    assert not app.warning
    words = text(app)
    said(words)
    assert "How much accuracy is lost on another set, and to what?" in words
    view = app.session_state["view"]
    assert all(getattr(view, key) == value for key, value in query.items() if key != "families")


def test_it_says_what_the_best_model_loses_and_to_what(config: Config, open_app: Open) -> None:
    rows = tables.read("replication", config.results / "replication.parquet")
    rows = rows.loc[(rows["replication"] == "optdigits") & (rows["model"] == "supervised-cnn")]
    row = rows.loc[(rows["rule"] == "R5") & (rows["coverage_q"] == 1) & (rows["uncertainty_of"] == "self")]
    row = row.loc[row["uncertainty"] == "entropy_nats"].iloc[0]
    words = text(open_app(config.root, "replication"))
    assert f"**{row['gap_pp']:.1f} pp** [{row['ci_low']:.1f}, {row['ci_high']:.1f}]" in words
    for part in ("composition", "within"):
        ends = f"[{row[f'{part}_low']:.1f}, {row[f'{part}_high']:.1f}]"
        assert f"**{row[f'{part}_pp']:.1f} pp** {ends}" in words
    assert "Definitions of this benchmark" in words


def test_labels_are_a_part_of_the_gap_where_there_are_others(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "replication", against="digits-noisy", scoring="any_of")
    assert "Gap by the original label = composition + within (by any label) + labels." in text(app)
    assert "off the gap by the original label" in text(app)
    assert "labels." not in text(open_app(config.root, "replication")).split("Gap = composition")[1].split("\n")[0]


def test_the_table_has_coverage_ratio_and_places_beside_every_gap(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "replication", rule="R1", coverage="90")
    shown = next(frame.value for frame in app.dataframe if "Kept, %" in frame.value)
    assert {"Gap, pp", "From", "To", "Kept of the other, %", "Error ratio", "Logit gap", "At random, pp"} <= {*shown}
    assert {"Place", "Place on the other", "By the reference, pp", "Over all images, pp"} <= {*shown}
    ranks = tables.read("ranks", config.results / "ranks.parquet")
    ranks = ranks.loc[(ranks["dataset"] == "digits") & (ranks["label_source"] == "original")].set_index("model")["rank"]
    tied = ranks.duplicated(keep=False)
    assert tied.any()
    places = dict(zip(shown["Model"], shown["Place"], strict=True))
    assert places["Supervised CNN"] == f"{'=' if tied['supervised-cnn'] else ''}{ranks['supervised-cnn']}"


def test_hard_predictions_are_compared_by_agreement_and_the_rest_says_why_not(imported: Config, open_app: Open) -> None:
    app = open_app(imported.root, "replication", dataset="objects")
    assert not app.exception
    said(text(app))
    assert "Without plain: this uncertainty is not known of it." in text(app)
    words = text(open_app(imported.root, "replication", dataset="objects", models="plain"))
    said(words)
    assert "No model shown has this uncertainty on both sets." in words


def test_models_without_the_other_set_are_named(imported: Config, open_app: Open) -> None:
    words = text(open_app(imported.root, "replication", dataset="digits", against="digits-noisy"))
    assert "Without org/cnn: no answers to Digits noisy (control, relabelled)." in words


def test_it_needs_no_single_images(aggregates: Path, open_app: Open) -> None:
    for query in (
        {},
        {"rule": "R2", "coverage": "90"},
        {"rule": "R5"},
        {"against": "digits-noisy", "scoring": "any_of"},
    ):
        app = open_app(aggregates, "replication", dataset="digits", **query)
        assert not app.exception
        said(text(app))
    options = app.select_slider(key="w:coverage").options
    assert options == ["50 %", "60 %", "70 %", "80 %", "90 %"]
    assert not [box for box in app.selectbox if box.key == "w:label"]


@pytest.fixture(scope="module")
def pair(source: db.Source) -> Pair:
    return Pair(source, "digits", "optdigits", "top1")


@pytest.mark.parametrize(
    ("rule", "measure", "whose", "coverage"),
    [
        ("R0", "none", "none", 1.0),
        ("R1", "entropy_nats", "self", 0.7),
        ("R2", "margin", "self", 0.5),
        ("R3", "entropy_nats", "self", 1.0),
        ("R5", "msp", "self", 1.0),
        ("R5", "entropy_nats", factory.ENSEMBLE, 0.9),
        ("R4", "entropy_nats", "pool", 0.9),
        ("R4", "agreement", "pool", 1.0),
        ("R5", "agreement", "pool", 1.0),
    ],
)
def test_what_is_computed_here_is_what_the_stage_stored(
    pair: Pair, rule: str, measure: str, whose: str, coverage: float
) -> None:
    models = gaps.answering(pair)
    choice = Choice(rule, measure, whose, coverage)
    stored, is_stored = gaps.rows(pair, choice, models)
    assert is_stored
    live = gaps._computed(pair, choice, 200).set_index("model")
    stored = stored.set_index("model").loc[live.index]
    assert len(live) == len(models)
    for column in ("gap_pp", "composition_pp", "within_pp", "coverage_original", "coverage_replication"):
        np.testing.assert_allclose(live[column], stored[column], atol=1e-9)
    assert np.abs(live["ci_low"] - stored["ci_low"]).max() < 12  # other draws of the same bootstrap, 60 images a set


def test_a_class_is_its_images_on_both_sets(pair: Pair, source: db.Source) -> None:
    one = Pair(source, pair.original, pair.other, "top1", label="3")
    frame, is_stored = gaps.rows(one, EVERYTHING, gaps.answering(one))
    assert not is_stored
    for row in frame.itertuples():
        shares = []
        for dataset, n in (("digits", row.n_original), ("optdigits", row.n_replication)):
            of_class = db.images(source, dataset).labels == 3
            assert n == of_class.sum() == 6
            shares.append(db.block(source, dataset, "original").right(row.model)[of_class].mean())
        assert row.gap_pp == pytest.approx(100 * (shares[0] - shares[1]))


@pytest.mark.parametrize("rule", ["R1", "R2", "R3", "R5"])
def test_a_sweep_passes_through_what_is_stored(pair: Pair, rule: str) -> None:
    models = gaps.answering(pair)
    swept = gaps.sweep(pair, Choice(rule, "entropy_nats", "self", 0.5), models)
    assert set(swept["model"]) == set(models)
    rows, _ = gaps.rows(pair, Choice(rule, "entropy_nats", "self", 0.7), models)
    for row in rows.itertuples():
        line = swept.loc[swept["model"] == row.model]
        at = line.loc[(line["coverage"] - 0.7).abs().idxmin()]
        assert (at["gap_pp"], at["within_pp"]) == pytest.approx((row.gap_pp, row.within_pp), abs=1e-9)
    ends = swept.loc[swept.groupby("model")["coverage"].idxmax()].set_index("model")
    whole, _ = gaps.rows(pair, EVERYTHING, models)
    if rule in ("R1", "R2", "R5"):
        np.testing.assert_allclose(ends.loc[whole["model"], "gap_pp"], whole["gap_pp"])
        assert (ends["coverage"] == 1).all()


def test_a_sweep_by_agreement_asks_more_and_more_of_the_others(pair: Pair) -> None:
    models = gaps.answering(pair)
    swept = gaps.sweep(pair, Choice("R4", "agreement", "pool", 1.0), models)
    row = gaps.rows(pair, Choice("R4", "agreement", "pool", 1.0), models)[0].set_index("model")
    for model, line in swept.groupby("model"):
        assert line["coverage"].is_monotonic_increasing
        assert (line[["n_original", "n_replication"]] >= gaps.FEWEST).all(axis=None)
        known = row.loc[model, ["n_original", "n_replication"]]
        assert known["n_original"] in line["n_original"].tolist() or known.min() < gaps.FEWEST


@pytest.fixture(scope="module")
def before(imported: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of aggregates that were made before gaps were taken apart: R0 alone, without accuracies."""
    root = tmp_path_factory.mktemp("before")
    (root / "results").mkdir()
    shutil.copy(imported.root / "params.yaml", root)
    path = Path(shutil.copy(imported.results / database.FILE, root / "results"))
    with duckdb.connect(str(path)) as connection:
        for table in (*database.PER_IMAGE, *database.DERIVED, "effective_robustness", "gap_shrinkage", "gap_contrasts"):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("DELETE FROM replication WHERE rule <> 'R0'")
        connection.execute("UPDATE replication SET accuracy_original = NULL, accuracy_replication = NULL")
        connection.execute("UPDATE replication SET label_low = NULL, label_high = NULL, classes_original = NULL")
        connection.execute("INSERT INTO snapshot VALUES ('per_image', 'no')")
    return root


def test_a_release_from_before_shows_what_it_has(before: Path, imported: Config, open_app: Open) -> None:
    for query in ({}, {"against": "digits-noisy", "scoring": "any_of"}):
        app = open_app(before, "replication", dataset="digits", **query)
        assert not app.exception
        words = text(app)
        said(words)
        assert "**Supervised CNN**, the most accurate model on Digits" in words
        assert "These results were made before gaps were taken apart" in words


def test_measures_with_another_scale_on_each_set_are_compared_by_value(source: db.Source, pair: Pair) -> None:
    found = gaps.study(source, pair.original, pair.other, "", "energy", 0)
    sql = "SELECT energy FROM uncertainty WHERE model = ? AND dataset = ? AND condition = 'clean' ORDER BY sample_id"
    for side in (found.original, found.other):
        values = db.query(source, sql, ["supervised-cnn", side.dataset])["energy"].to_numpy()
        values = values[gaps.tie_order(source, side.dataset)]
        np.testing.assert_allclose(side.unsure["energy"]["supervised-cnn"], values, atol=1e-3)


def test_effective_robustness_follows_the_models_that_are_shown(pair: Pair) -> None:
    models = gaps.answering(pair)
    some = tuple(model for model in models if model != "mae-vit")
    every, fewer = (gaps.robustness(pair, "logit", which).set_index("model") for which in (models, some))
    assert set(every.index) == set(models)
    assert set(fewer.index) == set(some)
    assert not np.allclose(every.loc[list(some), "value_pp"], fewer.loc[list(some), "value_pp"])
    frame = gaps.rows(pair, EVERYTHING, some)[0].set_index("model").loc[list(some)]
    fitted = np.array([model != factory.ENSEMBLE for model in some])
    a, b = frame["accuracy_original"].to_numpy(), frame["accuracy_replication"].to_numpy()
    expected = b - stats.predicted_by_others(a, b, fitted, "logit", (60, 60))
    np.testing.assert_allclose(fewer.loc[list(some), "value_pp"], 100 * expected, atol=1e-3)
    assert (fewer["ci_low"] <= fewer["value_pp"] + 1e-6).all()
    assert gaps.robustness(pair, "logit", models[:4]).empty


def test_too_many_answers_are_not_resampled_unasked(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gaps.draws_of(pair) == 200
    monkeypatch.setattr(gaps, "WORK", 10)
    assert gaps.draws_of(pair) == 0


def test_a_rule_that_keeps_nothing_says_so(config: Config, open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        gaps,
        "rows",
        lambda pair, choice, models, real=gaps.rows: (
            (pd.DataFrame(), False) if choice.rule == "R1" else real(pair, choice, models)
        ),
    )
    app = open_app(config.root, "replication", rule="R1", coverage="5")
    assert not app.exception
    assert "Nothing to compare under “Same threshold” at 5 %" in text(app)


def _row(**values: float) -> pd.Series:
    base = {"gap_pp": 5.0, "ci_low": 3.0, "ci_high": 7.0, "composition_pp": 4.0, "composition_low": 2.0}
    base |= {"composition_high": 6.0, "within_pp": 1.0, "within_low": -1.0, "within_high": 3.0}
    return pd.Series(base | values)


def test_parts_are_told_with_their_intervals() -> None:
    words = findings.parts(_row(), "images of which it is unsure")
    assert "Of this gap of 5.0 pp, **4.0 pp** [2.0, 6.0] is composition (how many images of which it is unsure" in words
    assert "**1.0 pp** [-1.0, 3.0] is within" in words
    words = findings.parts(_row(composition_low=np.nan, composition_high=np.nan), "images")
    assert "**4.0 pp** is composition" in words
    assert "nan" not in words


def _counts(**values: float) -> pd.Series:
    base = {"n_models": 13, "n_shrinks": 12, "n_ratio": 9, "n_ratio_falls": 8, "p_sign": 0.0034}
    return pd.Series(base | {"median_shrink_pp": 2.5, "ci_low": 1.5, "ci_high": 3.5} | values)


def test_shrinkage_counts_models_and_says_how_much() -> None:
    words = findings.shrinks(_counts(), "There")
    assert words.startswith(
        "There, the gap is smaller than over all images for **12 of 13** models; for the median one"
    )
    assert "Sign test: p = 0.0034; models share images and kin" in words
    assert "smaller by **2.5 pp** [1.5, 3.5]" in words
    words = findings.shrinks(_counts(median_shrink_pp=-0.5, ci_low=-2.0, ci_high=1.0, p_sign=1e-9), "There")
    assert "larger by **0.5 pp** [-1.0, 2.0]" in words
    assert "p < 0.0001" in words
    assert "[" not in findings.shrinks(_counts(ci_low=np.nan, ci_high=np.nan), "There")
    assert "for no model" in findings.shrinks(_counts(n_models=1, n_shrinks=0), "There")


@pytest.mark.parametrize(
    ("counts", "accuracy", "warns"),
    [
        (_counts(), 0.9, False),
        (_counts(), 0.995, True),
        (_counts(n_ratio_falls=4), 0.9, True),
        (_counts(n_ratio_falls=4, n_shrinks=3), 0.9, False),
        (_counts(n_ratio=0, n_ratio_falls=0), 1.0, True),
    ],
)
def test_saturation_is_warned_of_where_gaps_shrink_by_themselves(
    counts: pd.Series, accuracy: float, warns: bool
) -> None:
    words = findings.saturation(counts, accuracy, "One")
    assert bool(words) == warns
    if not counts["n_ratio"]:
        assert "no model has an error left on One" in words
    elif warns:
        assert f"falls for {int(counts['n_ratio_falls'])} of the 9" in words


def test_bars_of_the_parts_have_intervals_where_known(pair: Pair) -> None:
    frame, _ = gaps.rows(pair, Choice("R5", "entropy_nats", "self", 1.0), gaps.answering(pair))
    frame = frame.rename(columns={"ci_low": "gap_low", "ci_high": "gap_high"})
    frame.loc[0, ["composition_low", "composition_high"]] = np.nan
    panels = [("gap", "Gap"), ("composition", "Composition"), ("within", "Within")]
    plot = plots.decomposition(frame, panels, "pp")
    drawn = {panel: {} for panel, _ in panels}
    for trace in plot.data:
        panel = panels[int((trace.xaxis or "x")[1:] or 1) - 1][0]
        for place, value, arm in zip(trace.y, trace.x, trace.error_x.array, strict=True):
            drawn[panel][place] = (value, arm)
    for i, row in enumerate(frame.itertuples()):
        place = len(frame) - 1 - i
        assert drawn["composition"][place][0] + drawn["within"][place][0] == pytest.approx(drawn["gap"][place][0])
        assert drawn["within"][place] == pytest.approx((row.within_pp, row.within_high - row.within_pp))
    assert drawn["composition"][len(frame) - 1][1] == 0
    ranges = {plot.layout[axis].range for axis in ("xaxis", "xaxis2", "xaxis3")}
    assert len(ranges) == 1


def test_lines_of_a_sweep_have_the_colour_of_their_family(pair: Pair) -> None:
    frame = gaps.sweep(pair, Choice("R1", "entropy_nats", "self", 0.5), gaps.answering(pair))
    plot = plots.gap_sweep(frame, "kept", "gap", 0.5)
    by_name = {trace.name: trace for trace in plot.data}
    assert by_name["SimCLR CNN"].line.color == plots.COLOUR["ssl"]
    line = frame.loc[frame["name"] == "SimCLR CNN"].sort_values("coverage")
    np.testing.assert_allclose(by_name["SimCLR CNN"].y, line["gap_pp"])
    assert plot.layout.shapes[0].x0 == 50
    assert not plots.gap_sweep(frame, "kept", "gap", None).layout.shapes


@pytest.mark.parametrize("scale", list(terms.AXIS))
def test_the_line_is_drawn_on_the_chosen_axes(scale: stats.Scale) -> None:
    x, y = np.array([0.8, 0.9, 0.95, 1.0]), np.array([0.7, 0.85, 0.9, 0.97])
    frame = pd.DataFrame({"name": list("abcd"), "family": "ssl"})
    for side, value in (("x", x), ("y", y)):
        low, high = stats.wilson(value * 100, 100)
        frame = frame.assign(**{f"value_{side}": value, f"low_{side}": low, f"high_{side}": high, f"n_{side}": 100})
    line = stats.fit_line(x, y, np.random.default_rng(0), scale=scale, n=100, draws=50)
    plot = plots.replication(frame, line, "control", "One", "Other", scale)
    by_name = {trace.name: trace for trace in plot.data}
    np.testing.assert_allclose(by_name["Self-supervised"].x, stats.transform(x, scale, 100))
    np.testing.assert_allclose(by_name["line over 4 models"].y, stats.transform(line.y, scale))
    assert "90 %" in plot.layout.xaxis.ticktext
    assert terms.AXIS[scale].lower() in plot.layout.xaxis.title.text


def test_the_pool_of_a_model_leaves_it_out_here_too(source: db.Source, pair: Pair) -> None:
    found = gaps.study(source, pair.original, pair.other, "", terms.AGREEMENT, 0)
    assert found.original.pred.shape == (len(found.models), 60)
    apart = protocol.disagreement(found.original.pred, ~np.eye(len(found.models), dtype=bool))
    assert ((apart >= 0) & (apart < 1)).all()
