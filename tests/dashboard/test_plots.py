"""Figures draw every model with its interval, in its family's colour."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench import stats
from dashboard import db, parts, plots
from tests.dashboard.test_db import EVERY


@pytest.fixture(scope="module")
def clean(source: db.Source) -> pd.DataFrame:
    frame = db.accuracies(source, "all", "original", EVERY)
    roles = db.catalogue(source).datasets["role"]
    return frame.assign(dataset_name=frame["dataset"], role=frame["dataset"].map(roles))


def test_accuracies_hold_every_interval(clean: pd.DataFrame) -> None:
    frame = clean.loc[clean["dataset"] == "digits"]
    plot = plots.accuracies(frame, "Accuracy")
    drawn = {
        name: (x, x - low, x + high)
        for trace in plot.data
        for name, x, low, high in zip(trace.y, trace.x, trace.error_x.arrayminus, trace.error_x.array, strict=True)
    }
    for row in frame.itertuples():
        np.testing.assert_allclose(drawn[row.name], 100 * np.array([row.value, row.ci_low, row.ci_high]))
    colours = {trace.name: trace.marker.color for trace in plot.data}
    assert colours["Self-supervised"] == plots.COLOUR["ssl"]
    assert plot.layout.yaxis.categoryarray[-1] == "Supervised CNN"
    low, high = plot.layout.xaxis.range
    assert low < 100 * frame["ci_low"].min()
    assert high > 100 * frame["ci_high"].max()
    assert "n = 60" in plot.data[0].text[0]


def test_sets_of_one_role_differ_by_open_symbols(clean: pd.DataFrame) -> None:
    frame = pd.concat([clean.loc[clean["dataset"] == one] for one in ("digits", "optdigits", "optdigits-full")])
    plot = plots.accuracies(frame, "Accuracy")
    symbols = {trace.name: trace.marker.symbol for trace in plot.data if trace.name.startswith(("digits", "opt"))}
    assert symbols == {"digits": "circle", "optdigits": "diamond", "optdigits-full": "diamond-open"}


def test_replication_is_drawn_on_logit_axes() -> None:
    x, y = np.array([0.8, 0.9, 0.95, 1.0]), np.array([0.7, 0.85, 0.9, 0.97])
    frame = pd.DataFrame({"name": list("abcd"), "family": ["ssl", "ssl", "pixels", "supervised"]})
    for side, value in (("x", x), ("y", y)):
        low, high = stats.wilson(value * 100, 100)
        frame = frame.assign(**{f"value_{side}": value, f"low_{side}": low, f"high_{side}": high, f"n_{side}": 100})
    line = stats.fit_line(x, y, np.random.default_rng(0), n=100, draws=50)
    plot = plots.replication(frame, line, "shifted", "One", "Other")
    by_name = {trace.name: trace for trace in plot.data}
    np.testing.assert_allclose(by_name["Self-supervised"].x, stats.transform([0.8, 0.9], "logit"))
    assert np.isfinite(by_name["Supervised"].x).all()
    assert by_name["Raw pixels"].marker.symbol == "diamond"
    assert "90 %" in plot.layout.xaxis.ticktext
    assert "logit" in plot.layout.xaxis.title.text
    without = plots.replication(frame, None, "shifted", "One", "Other")
    assert len(without.data) == len(plot.data) - 2


def test_gaps_show_the_null_beside_each_model(source: db.Source) -> None:
    frame = db.gaps(source, "digits", "optdigits", "top1", EVERY)
    null = db.gaps(source, "digits-null-a", "digits-null-b", "top1", EVERY)
    plot = plots.gaps(frame, null, "shifted", "Gap")
    assert plot.data[-1].name == "Null halves (chance)"
    assert len(plot.data[-1].x) == len(frame)
    low, high = plot.layout.xaxis.range
    assert low < min(frame["ci_low"].min(), null["ci_low"].min())
    assert high > max(frame["ci_high"].max(), null["ci_high"].max())
    assert len(plots.gaps(frame, null.head(0), "shifted", "Gap").data) == len(plot.data) - 1


def test_levels_draw_one_line_a_model(source: db.Source) -> None:
    plot = plots.levels(db.under(source, "attack", "pgd-linf", EVERY), "eps", "Robust accuracy")
    assert {trace.name for trace in plot.data} == {"Supervised CNN", "Supervised ViT", "SimCLR CNN", "MAE ViT"}
    assert plot.layout.xaxis.ticktext == ("clean", "8", "16")
    assert len({(trace.line.color, trace.line.dash) for trace in plot.data}) == 4


def test_downloads_hold_what_is_shown(clean: pd.DataFrame) -> None:
    import io

    frame = clean[["model", "value", "n"]]
    back = pd.read_csv(io.BytesIO(parts.csv_bytes(frame)))
    assert back["model"].tolist() == frame["model"].tolist()
    np.testing.assert_allclose(back["value"], frame["value"])
    pd.testing.assert_frame_equal(
        pd.read_parquet(io.BytesIO(parts.parquet_bytes(frame))), frame.reset_index(drop=True), check_dtype=False
    )


def test_images_are_escaped_and_pixelated() -> None:
    shown = parts.image_html((b"\x89PNG", "image/png"), 'a "label" <b>', 92)
    assert 'alt="a &quot;label&quot; &lt;b&gt;"' in shown
    assert "image-rendering:pixelated" in shown
    assert shown.startswith('<img src="data:image/png;base64,iVBORw==')
    assert "no picture" in parts.image_html(None, "x", 92)
