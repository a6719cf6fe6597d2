"""Figures from frames, and nothing else: no data access, no state.

One colour per family and one symbol per role of a set, on every page. The colours are those of Okabe and Ito (safe for
colour-blind readers), of a lightness that stands on white and on dark grounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from bench import stats
from dashboard import terms
from dashboard.frames import Frame, records

COLOUR = {
    "supervised": "#2a7fb8",
    "ssl": "#d55e00",
    "random": "#009e73",
    "pixels": "#8a8f98",
    "unknown": "#c06a9b",
}
"""Family -> colour."""

SYMBOL = {"original": "circle", "replication": "square", "shifted": "diamond", "composite": "star", "control": "x"}
"""Role of a set -> marker."""

DASH = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
LOGIT_TICKS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
GREY = "#8a8f98"


def _layout(height: int, **more: object) -> go.Layout:
    return go.Layout(
        height=height,
        margin={"l": 8, "r": 16, "t": 40, "b": 8},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": None},
        hoverlabel={"align": "left"},
        hovermode="closest",
        dragmode=False,
        **more,
    )


def _hover(name: str, lines: Sequence[str]) -> str:
    return "<br>".join([f"<b>{name}</b>", *lines])


def _bars(frame: Frame, scale: float) -> dict[str, object]:
    value = frame["value"].to_numpy(float)
    high, low = frame["ci_high"].to_numpy(float), frame["ci_low"].to_numpy(float)
    return {
        "type": "data",
        "symmetric": False,
        "array": scale * np.maximum(high - value, 0),
        "arrayminus": scale * np.maximum(value - low, 0),
        "thickness": 1.3,
        "width": 3,
    }


def _families(frame: Frame) -> list[tuple[str, Frame]]:
    present = [(family, frame.loc[frame["family"] == family]) for family in terms.FAMILY]
    return [(family, rows) for family, rows in present if len(rows)]


def accuracies(frame: Frame, axis: str) -> go.Figure:
    """Accuracy of each model as dots with intervals, best on the first set on top; one symbol a set where several.

    frame: name, family, dataset_name, role, value, ci_low, ci_high, n; sets in the order of their first rows.
    """
    sets = frame["dataset_name"].drop_duplicates().tolist()
    order = frame.drop_duplicates("name").assign(first=frame["dataset_name"] == sets[0])
    order = order.sort_values(["first", "value"])["name"].tolist()
    plot = go.Figure(layout=_layout(90 + (15 + 12 * len(sets)) * len(order), scattermode="group", scattergap=0.35))
    for i, name in enumerate(sets):
        for family, rows in _families(frame.loc[frame["dataset_name"] == name]):
            symbol = SYMBOL[rows["role"].iloc[0]] + ("-open" if (rows["role"].iloc[0], i) in _repeated(frame) else "")
            plot.add_scatter(
                x=100 * rows["value"],
                y=rows["name"],
                mode="markers",
                name=terms.FAMILY[family],
                legendgroup=family,
                showlegend=i == 0,
                marker={"color": COLOUR[family], "symbol": symbol, "size": 10},
                error_x=_bars(rows, 100),
                text=[
                    _hover(row.name, [name, terms.percent(row.value, row.ci_low, row.ci_high), f"n = {row.n:,}"])
                    for row in records(rows)
                ],
                hoverinfo="text",
                orientation="h",
                offsetgroup=name,
            )
        if len(sets) > 1:
            plot.add_scatter(
                x=[None], y=[order[0]], mode="markers", name=name, marker={"color": GREY, "symbol": symbol, "size": 10}
            )
    plot.update_yaxes(categoryorder="array", categoryarray=order, automargin=True, range=[-0.6, len(order) - 0.4])
    plot.update_xaxes(title=axis, ticksuffix=" %")
    return plot


def _repeated(frame: Frame) -> set[tuple[str, int]]:
    """(role, position) of the sets whose role an earlier set has already: drawn with open symbols."""
    roles = frame.drop_duplicates("dataset_name")["role"].tolist()
    return {(role, i) for i, role in enumerate(roles) if role in roles[:i]}


def _logit_axis(values: np.ndarray, n: np.ndarray) -> dict[str, Any]:
    placed = stats.transform(values, "logit", n)
    low, high = float(placed.min()) - 0.35, float(placed.max()) + 0.35
    at = stats.transform(np.array(LOGIT_TICKS), "logit")
    shown = [(float(x), p) for x, p in zip(at, LOGIT_TICKS, strict=True) if low <= x <= high]
    return {
        "tickvals": [x for x, _ in shown],
        "ticktext": [f"{100 * p:g} %" for _, p in shown],
        "range": [low, high],
        "zeroline": False,
    }


def replication(frame: Frame, line: stats.Line | None, role: str, original: str, other: str) -> go.Figure:
    """Accuracy on the other set against that on the original, on logit axes, with the fitted line and its band.

    frame: name, family, value_x, low_x, high_x, n_x, value_y, low_y, high_y, n_y (proportions), one row a model.
    """
    plot = go.Figure(layout=_layout(520))
    x = stats.transform(frame["value_x"], "logit", frame["n_x"])
    y = stats.transform(frame["value_y"], "logit", frame["n_y"])
    axis_x = _logit_axis(frame[["value_x", "low_x", "high_x"]].to_numpy().ravel(), np.repeat(frame["n_x"], 3))
    axis_y = _logit_axis(frame[["value_y", "low_y", "high_y"]].to_numpy().ravel(), np.repeat(frame["n_y"], 3))
    ends = np.array([min(axis_x["range"][0], axis_y["range"][0]), max(axis_x["range"][1], axis_y["range"][1])])
    plot.add_scatter(
        x=ends, y=ends, mode="lines", name="no gap", line={"color": GREY, "dash": "dot", "width": 1}, hoverinfo="skip"
    )
    if line is not None:
        grid, fit = stats.transform(line.x, "logit"), stats.transform(line.y, "logit")
        band = np.concatenate([stats.transform(line.high, "logit"), stats.transform(line.low, "logit")[::-1]])
        plot.add_scatter(
            x=np.concatenate([grid, grid[::-1]]),
            y=band,
            fill="toself",
            mode="lines",
            line={"width": 0},
            fillcolor="rgba(138,143,152,0.22)",
            name="95 % band of the line",
            hoverinfo="skip",
        )
        plot.add_scatter(
            x=grid, y=fit, mode="lines", name=f"line over {line.n} models", line={"color": GREY}, hoverinfo="skip"
        )
    for family, rows in _families(frame):
        at = rows.index
        plot.add_scatter(
            x=x[at],
            y=y[at],
            mode="markers",
            name=terms.FAMILY[family],
            marker={"color": COLOUR[family], "symbol": SYMBOL[role], "size": 11},
            error_x=_logit_bars(rows, "x", x[at]),
            error_y=_logit_bars(rows, "y", y[at]),
            text=[
                _hover(
                    row.name,
                    [
                        f"{original}: {terms.percent(row.value_x, row.low_x, row.high_x)}, n = {row.n_x:,}",
                        f"{other}: {terms.percent(row.value_y, row.low_y, row.high_y)}, n = {row.n_y:,}",
                    ],
                )
                for row in records(rows)
            ],
            hoverinfo="text",
        )
    plot.update_xaxes(title=f"Accuracy on {original}, logit axis", **axis_x)
    plot.update_yaxes(title=f"Accuracy on {other}, logit axis", **axis_y)
    return plot


def _logit_bars(rows: Frame, side: str, at: np.ndarray) -> dict[str, object]:
    n = rows[f"n_{side}"]
    return {
        "type": "data",
        "symmetric": False,
        "array": stats.transform(rows[f"high_{side}"], "logit", n) - at,
        "arrayminus": at - stats.transform(rows[f"low_{side}"], "logit", n),
        "thickness": 1,
        "width": 2,
    }


def gaps(frame: Frame, null: Frame, role: str, axis: str, null_name: str) -> go.Figure:
    """The gap of each model with its interval, and beside it the gap between two random halves (may be empty).

    Both frames: name, family, gap_pp, ci_low, ci_high, n_original, n_replication.
    """
    order = frame.sort_values("gap_pp", ascending=False)["name"].tolist()
    plot = go.Figure(layout=_layout(110 + 30 * len(order), scattermode="group", scattergap=0.3))
    plot.add_vline(x=0, line={"color": GREY, "width": 1})
    if len(null):
        null = null.loc[null["name"].isin(order)]
        plot.add_scatter(
            x=null["gap_pp"],
            y=null["name"],
            mode="markers",
            name=f"{null_name} (chance)",
            marker={"color": GREY, "symbol": SYMBOL["control"], "size": 8},
            error_x=_bars(null.rename(columns={"gap_pp": "value"}), 1),
            text=_gap_hover(null),
            hoverinfo="text",
            opacity=0.75,
            orientation="h",
            offsetgroup="null",
        )
    for family, rows in _families(frame):
        plot.add_scatter(
            x=rows["gap_pp"],
            y=rows["name"],
            mode="markers",
            name=terms.FAMILY[family],
            marker={"color": COLOUR[family], "symbol": SYMBOL[role], "size": 10},
            error_x=_bars(rows.rename(columns={"gap_pp": "value"}), 1),
            text=_gap_hover(rows),
            hoverinfo="text",
            orientation="h",
            offsetgroup="gap",
        )
    plot.update_yaxes(categoryorder="array", categoryarray=order, automargin=True, range=[-0.6, len(order) - 0.4])
    plot.update_xaxes(title=axis, ticksuffix=" pp", zeroline=False)
    return plot


def _gap_hover(frame: Frame) -> list[str]:
    return [
        _hover(
            row.name,
            [terms.points(row.gap_pp, row.ci_low, row.ci_high), f"n = {row.n_original:,} and {row.n_replication:,}"],
        )
        for row in records(frame)
    ]


def levels(frame: Frame, axis: str, value_axis: str) -> go.Figure:
    """Accuracy by level (severity, eps) for each model: one line a model, its colour the family's.

    frame: name, family, arch, level, value, ci_low, ci_high, n. Within a family the lines differ by their dashes.
    """
    plot = go.Figure(layout=_layout(430))
    shown = sorted(frame["level"].unique())
    width = (shown[-1] - shown[0]) * 0.004 if len(shown) > 1 else 0.0
    lines = [
        (family, i, name, line)
        for family, rows in _families(frame)
        for i, (name, line) in enumerate(rows.groupby("name", sort=False))
    ]
    for place, (family, i, name, line) in enumerate(lines):
        plot.add_scatter(
            x=line["level"] + width * (place - len(lines) / 2),  # apart, so that intervals do not hide one another
            y=100 * line["value"],
            mode="lines+markers",
            name=str(name),
            legendgroup=family,
            line={"color": COLOUR[family], "dash": DASH[i % len(DASH)], "width": 1.8},
            marker={"size": 7, "symbol": ("circle", "square", "diamond", "triangle-up", "x", "star")[i % 6]},
            error_y=_bars(line, 100) | {"thickness": 1, "width": 2},
            text=[
                _hover(str(name), [terms.percent(r.value, r.ci_low, r.ci_high), f"level {r.level:g}, n = {r.n:,}"])
                for r in records(line)
            ],
            hoverinfo="text",
        )
    plot.update_xaxes(title=axis, tickvals=shown, ticktext=[f"{level:g}" if level else "clean" for level in shown])
    plot.update_yaxes(title=value_axis, ticksuffix=" %")
    plot.update_layout(legend={"orientation": "v", "x": 1.02, "xanchor": "left", "y": 1, "yanchor": "top"})
    return plot


def heads(frame: Frame, axis: str) -> go.Figure:
    """Accuracy of heads on frozen features (name, family, head, value, ci_low, ci_high, about, n); a symbol a head."""
    order = frame.loc[frame["head"] == frame["head"].iloc[0]].sort_values("value")["name"].tolist()
    plot = go.Figure(layout=_layout(100 + 30 * len(order), scattermode="group", scattergap=0.3))
    symbols = ("circle", "circle-open", "square", "square-open", "diamond", "diamond-open")
    for i, (head, rows) in enumerate(frame.groupby("head", sort=False)):
        spread = rows.assign(ci_low=rows["ci_low"], ci_high=rows["ci_high"])
        plot.add_scatter(
            x=100 * rows["value"],
            y=rows["name"],
            mode="markers",
            name=str(head),
            marker={"color": rows["family"].map(COLOUR), "symbol": symbols[i % 6], "size": 10, "line": {"width": 2}},
            error_x=_bars(spread, 100) | {"color": GREY},
            text=[
                _hover(
                    row.name,
                    [str(head), terms.percent(row.value, row.ci_low, row.ci_high), row.about, f"n = {row.n:,}"],
                )
                for row in records(rows)
            ],
            hoverinfo="text",
            orientation="h",
            offsetgroup=str(head),
        )
    plot.update_yaxes(categoryorder="array", categoryarray=order, automargin=True, range=[-0.6, len(order) - 0.4])
    plot.update_xaxes(title=axis, ticksuffix=" %")
    return plot


def differences(frame: Frame, axis: str) -> go.Figure:
    """Differences of pairs (pair, dataset_name, role, delta_pp, ci_low, ci_high, n), one symbol a role of set."""
    repeated = _repeated(frame)
    order = frame["pair"].drop_duplicates().tolist()[::-1]
    plot = go.Figure(layout=_layout(130 + 22 * len(frame), scattermode="group", scattergap=0.25))
    plot.add_vline(x=0, line={"color": GREY, "width": 1})
    for i, (name, rows) in enumerate(frame.groupby("dataset_name", sort=False)):
        role = str(rows["role"].iloc[0])
        symbol = SYMBOL[role] + ("-open" if (role, i) in repeated else "")
        plot.add_scatter(
            x=rows["delta_pp"],
            y=rows["pair"],
            mode="markers",
            name=str(name),
            marker={"color": COLOUR["ssl"], "symbol": symbol, "size": 10, "opacity": 1},
            error_x=_bars(rows.rename(columns={"delta_pp": "value"}), 1),
            text=[
                _hover(row.pair, [str(name), terms.points(row.delta_pp, row.ci_low, row.ci_high), f"n = {row.n:,}"])
                for row in records(rows)
            ],
            hoverinfo="text",
            orientation="h",
            offsetgroup=str(name),
        )
    plot.update_yaxes(categoryorder="array", categoryarray=order, automargin=True, range=[-0.6, len(order) - 0.4])
    plot.update_xaxes(title=axis, ticksuffix=" pp", zeroline=False)
    return plot
