"""Figures from frames, and nothing else: no data access, no state.

One colour per family and one symbol per role of a set, on every page. The colours are after Okabe and Ito (safe for
colour-blind readers), of a lightness that stands on white and on dark grounds. Traces are plain dicts, which plotly
checks once when the figure is made: that is most of the time that a page with many figures takes.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
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

SEGMENTING = dict(
    zip(terms.SEGMENTING, ("#d55e00", "#2a7fb8", "#009e73", "#8a8f98", "#c06a9b", "#b8860b"), strict=True)
)
"""Variant of the attack on segmentations -> colour."""

SYMBOL = {"original": "circle", "replication": "square", "shifted": "diamond", "composite": "star", "control": "x"}
"""Role of a set -> marker. Further sets of the same role have the open one."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKS = ("circle", "square", "diamond", "triangle-up", "x", "star")
HEADS = ("circle", "circle-open", "square", "square-open", "diamond", "diamond-open")
LOGIT_TICKS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
GREY = "#8a8f98"
COMPACT = 40
"""Names on an axis above which they are set small and close."""
NAMED = 25
"""Models above which a matrix names them on one axis only."""
RANKED = 150
"""Models above which a figure names none of them on its axis, but sorts them along it."""
POINTS = 3000
"""Points above which a figure is drawn by WebGL."""
DASHES = ("solid", "dash", "dot")
BARS = 60
"""Bars above which a histogram joins neighbours."""

Trace = dict[str, Any]


def _figure(traces: list[Trace], height: int, x: dict[str, Any], y: dict[str, Any], **more: Any) -> go.Figure:
    layout = {
        "height": height,
        "margin": {"l": 8, "r": 16, "t": 40, "b": 8},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hoverlabel": {"align": "left"},
        "hovermode": "closest",
        "dragmode": False,
        "xaxis": x,
        "yaxis": y,
    }
    return go.Figure({"data": traces, "layout": layout | more})


def _categories(order: list[str]) -> dict[str, Any]:
    """A vertical axis of names, the last one on top; every one of them is written."""
    ends = [-0.6, len(order) - 0.4]
    small = {"tickfont": {"size": 10}} if len(order) > COMPACT else {}
    fixed = {"categoryorder": "array", "categoryarray": order, "automargin": True, "range": ends, "dtick": 1}
    return fixed | small


def _kind(points: int) -> str:
    """How points are drawn."""
    return "scattergl" if points > POINTS else "scatter"


def _across(frame: Frame, scale: float, title: str, unit: str) -> dict[str, Any]:
    """A horizontal axis that holds every interval, and no more."""
    low, high = scale * float(frame["ci_low"].min()), scale * float(frame["ci_high"].max())
    edge = max(0.04 * (high - low), 0.2)
    return {"title": title, "ticksuffix": unit, "range": [low - edge, high + edge], "zeroline": False}


def _dots(rows: Frame, value: str, scale: float, says: Sequence[str], **more: Any) -> Trace:
    """Dots with intervals, one line a name."""
    at = scale * rows[value].to_numpy(float)
    return {
        "type": "scatter",
        "mode": "markers",
        "orientation": "h",
        "x": at,
        "y": rows["name"].to_numpy(),
        "error_x": _bars(at, scale * rows["ci_low"].to_numpy(float), scale * rows["ci_high"].to_numpy(float)),
        "text": list(says),
        "hoverinfo": "text",
        **more,
    }


def _bars(at: np.ndarray, low: np.ndarray, high: np.ndarray) -> dict[str, Any]:
    """Intervals; none where an end is not known."""
    return {
        "type": "data",
        "symmetric": False,
        "array": np.fmax(high - at, 0),
        "arrayminus": np.fmax(at - low, 0),
        "thickness": 1.3,
        "width": 3,
    }


def _hover(name: str, *lines: str) -> str:
    return "<br>".join([f"<b>{name}</b>", *lines])


def _families(frame: Frame) -> list[tuple[str, Frame]]:
    groups = dict(list(frame.groupby("family", sort=False)))
    return [(family, groups[family]) for family in terms.FAMILY if family in groups]


def _symbols(frame: Frame) -> dict[str, str]:
    """Name of a set -> its symbol; a role's second set has the open one."""
    out: dict[str, str] = {}
    for row in records(frame[["dataset_name", "role"]].drop_duplicates()):
        symbol = SYMBOL[row.role]
        out[row.dataset_name] = f"{symbol}-open" if symbol in out.values() else symbol
    return out


def _zero() -> dict[str, Any]:
    return {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, "line": {"color": GREY, "width": 1}}


def accuracies(frame: Frame, axis: str) -> go.Figure:
    """Accuracy of each model as dots with intervals, best on the first set on top; one symbol a set where several.

    frame: name, family, dataset_name, role, value, ci_low, ci_high, n; sets in the order of their first rows. Very many
    models are sorted along an axis instead, those of the first set alone.
    """
    symbols = _symbols(frame)
    if frame["name"].nunique() > RANKED:
        return ranked(frame.loc[frame["dataset_name"] == next(iter(symbols))], axis)
    first = frame.loc[frame["dataset_name"] == next(iter(symbols))].sort_values("value")["name"].tolist()
    order = [*(name for name in frame["name"].drop_duplicates() if name not in set(first)), *first]
    traces = []
    for i, (name, rows_of_set) in enumerate(frame.groupby("dataset_name", sort=False)):
        for family, rows in _families(rows_of_set):
            says = [
                _hover(row.name, name, terms.percent(row.value, row.ci_low, row.ci_high), f"n = {row.n:,}")
                for row in records(rows)
            ]
            marker = {"color": COLOUR[family], "symbol": symbols[name], "size": 10 if len(order) <= COMPACT else 7}
            more = {"name": terms.FAMILY[family], "legendgroup": family, "showlegend": i == 0, "offsetgroup": name}
            traces.append(_dots(rows, "value", 100, says, marker=marker, **more))
        if len(symbols) > 1:
            marker = {"color": GREY, "symbol": symbols[name], "size": 10}
            more = {"mode": "markers", "name": name, "marker": marker}
            traces.append({"type": "scatter", "x": [None], "y": order[:1], **more})
    return _figure(
        traces,
        90 + _row_height(len(order), len(symbols)) * len(order),
        _across(frame, 100, axis, " %"),
        _categories(order),
        scattermode="group",
        scattergap=0.35,
    )


def _row_height(models: int, sets: int = 1) -> int:
    """Pixels for each name on a vertical axis."""
    return 15 + 12 * sets if models <= COMPACT else 7 + 7 * sets


def ranked(frame: Frame, axis: str) -> go.Figure:
    """Accuracy of very many models: sorted along the axis, each its interval, a name where one hovers.

    frame: name, family, value, ci_low, ci_high. The intervals of a family are one line with gaps, not an element each:
    that is what makes a redraw fast.
    """
    frame = frame.sort_values("value", ascending=False, ignore_index=True)
    ends = np.full((len(frame), 4), np.nan)  # the last column is the gap between two models
    ends[:, :3] = 100 * frame[["ci_low", "value", "ci_high"]].to_numpy(float)
    place = np.repeat(np.arange(1, len(frame) + 1, dtype=np.int16), 4).reshape(ends.shape)
    texts = np.full(ends.shape, "", object)
    texts[:, 1] = [
        f"<b>{name}</b><br>{value:.1f} % [{low:.1f}, {high:.1f}]"
        for name, (low, value, high) in zip(frame["name"], ends[:, :3].tolist(), strict=True)
    ]
    traces: list[Trace] = []
    family = frame["family"].to_numpy()
    for name in terms.FAMILY:
        rows = family == name
        if rows.any():
            line = {"x": place[rows].ravel(), "y": ends[rows].ravel().astype(np.float32)}
            line |= {"text": texts[rows].ravel().tolist()}
            look = {"mode": "lines", "line": {"color": COLOUR[name], "width": 3}, "hoverinfo": "text"}
            traces.append({"type": "scatter", "name": terms.FAMILY[name]} | line | look)
    x = {"title": f"{len(frame):,} models, the most accurate first", "range": [0, len(frame) + 1], "zeroline": False}
    y = {"title": "Accuracy", "ticksuffix": " %", "zeroline": False}
    heading = {"text": axis, "font": {"size": 13}, "x": 0, "xanchor": "left"}
    x, y = x | {"automargin": False}, y | {"automargin": False}
    margin = {"l": 64, "r": 16, "t": 76, "b": 52, "autoexpand": False}  # fixed, so that all is drawn once
    return _figure(traces, 440, x, y, title=heading, margin=margin)


def difficulty(frame: Frame, axis: str) -> go.Figure:
    """Images by the number of models that get them right: models_right (from 0 on), images. Many bars are joined."""
    step = -(-len(frame) // BARS)
    counts = np.add.reduceat(frame["images"].to_numpy(), np.arange(0, len(frame), step))
    first = np.arange(0, len(frame), step)
    last = np.minimum(first + step, len(frame)) - 1
    names = [f"{a}" if a == b else f"{a} to {b}" for a, b in zip(first, last, strict=True)]
    says = [f"{name} right: {count:,} images" for name, count in zip(names, counts, strict=True)]
    bars: Trace = {"type": "bar", "x": (first + last) / 2, "y": counts, "text": says, "textposition": "none"}
    bars |= {"hoverinfo": "text", "marker": {"color": GREY}, "width": 0.9 * step}
    x = {"title": axis, "range": [-0.6, len(frame) - 0.4], "zeroline": False}
    margin = {"l": 8, "r": 16, "t": 12, "b": 8}
    return _figure([bars], 240, x, {"title": "Images"}, margin=margin)


def sweep(frame: Frame, axis: str) -> go.Figure:
    """Accuracy against coverage, one line a model, its colour the family's.

    frame: name, family, coverage, value, ci_low, ci_high, n.
    """
    lines = [
        (family, i, str(name), line)
        for family, rows in _families(frame)
        for i, (name, line) in enumerate(rows.groupby("name", sort=False))
    ]
    few = len(lines) <= len(DASHES) * 2
    traces = []
    for place, (family, i, name, line) in enumerate(lines):
        says = [
            _hover(name, terms.percent(r.value, r.ci_low, r.ci_high), f"{terms.percent(r.coverage)} kept, n = {r.n:,}")
            for r in records(line)
        ]
        look = {"line": {"color": COLOUR[family], "width": 1.6, "dash": DASHES[i % len(DASHES)] if few else "solid"}}
        first = place == 0 or lines[place - 1][0] != family
        named = {"name": name if few else terms.FAMILY[family], "showlegend": few or first, "legendgroup": family}
        data = {"x": 100 * line["coverage"].to_numpy(float), "y": 100 * line["value"].to_numpy(float), "text": says}
        more = {"mode": "lines", "hoverinfo": "text", "opacity": 1 if few else 0.55}
        traces.append({"type": _kind(len(frame))} | more | look | named | data)
    legend = {"orientation": "v", "x": 1.02, "xanchor": "left", "y": 1, "yanchor": "top"}
    margin = {"l": 8, "r": 16, "t": 12, "b": 8}
    x = {"title": axis, "ticksuffix": " %", "range": [0, 101], "zeroline": False}
    y = {"title": "Accuracy", "ticksuffix": " %"}
    return _figure(traces, 420, x, y, legend=legend, margin=margin)


def heatmap(values: np.ndarray, names: Sequence[str], title: str) -> go.Figure:
    """A square matrix (M, M) of shares between models, in percent; NaN stays empty.

    Above NAMED models only the vertical axis names them.
    """
    trace: Trace = {
        "type": "heatmap",
        "z": np.round(100 * values, 1),
        "x": list(names),
        "y": list(names),
        "colorscale": "Blues",
        "colorbar": {"ticksuffix": " %", "thickness": 12},
        "hovertemplate": "%{y}<br>%{x}<br>%{z:.1f} %<extra></extra>",
    }
    size = {"size": 9 if len(names) > 20 else 11}
    x: dict[str, Any] = {"tickangle": -60, "dtick": 1, "tickfont": size, "automargin": True}
    if len(names) > NAMED:  # two such figures stand side by side; hovering names both models
        x = {"showticklabels": False, "title": "the same models in the same order"}
    y = {"autorange": "reversed", "dtick": 1, "tickfont": size, "automargin": True}
    heading = {"text": title, "font": {"size": 13}, "x": 0, "xanchor": "left"}
    return _figure([trace], 260 + 14 * max(len(names), 8), x, y, title=heading)


def transfers(values: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str) -> go.Figure:
    """A matrix (R, C) of shares, the models that images were made on down, those that are shown them across."""
    percent = np.round(100 * values, 0)
    trace: Trace = {
        "type": "heatmap",
        "z": percent,
        "x": list(columns),
        "y": list(rows),
        "zmin": 0,
        "zmax": 100,
        "colorscale": "Blues",
        "colorbar": {"ticksuffix": " %", "thickness": 12},
        "hoverinfo": "skip",
    }
    if len(columns) <= NAMED:
        trace |= {"texttemplate": "%{z:.0f}", "textfont": {"size": 10}}
    # A heatmap's cells cannot be selected: points that are not seen lie on them, and can.
    at = [(row, column) for row, column in np.ndindex(values.shape) if np.isfinite(values[row, column])]
    unseen = {"marker": {"opacity": 0}}
    points: Trace = {"type": "scatter", "mode": "markers", "customdata": at, "showlegend": False}
    points |= {"x": [columns[column] for _, column in at], "y": [rows[row] for row, _ in at]}
    points |= {"marker": {"size": 18, "opacity": 0}, "selected": unseen, "unselected": unseen}
    says = [
        _hover(f"made on {rows[row]}", f"shown to {columns[column]}", f"{percent[row, column]:.0f} %")
        for row, column in at
    ]
    points |= {"text": says, "hoverinfo": "text"}
    size = {"size": 9 if len(columns) > 20 else 11}
    x = {"tickangle": -60, "dtick": 1, "tickfont": size, "automargin": True, "title": "shown to"}
    y = {"autorange": "reversed", "dtick": 1, "tickfont": size, "automargin": True, "title": "made on"}
    heading = {"text": title, "font": {"size": 13}, "x": 0, "xanchor": "left"}
    return _figure([trace, points], 260 + 24 * max(len(rows), 4), x, y, title=heading)


def detectors(values: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str) -> go.Figure:
    """A matrix (R, C) of areas under the curve: what detectors were trained on down, what they are shown across."""
    trace: Trace = {
        "type": "heatmap",
        "z": np.round(values, 3),
        "x": list(columns),
        "y": list(rows),
        "zmin": 0.5,
        "zmax": 1,
        "colorscale": "Blues",
        "colorbar": {"thickness": 12},
        "hovertemplate": "trained on %{y}<br>shown %{x}<br>%{z:.3f}<extra></extra>",
        "texttemplate": "%{z:.2f}",
    }
    x = {"dtick": 1, "automargin": True, "title": "shown"}
    y = {"autorange": "reversed", "dtick": 1, "automargin": True, "title": "trained on"}
    heading = {"text": title, "font": {"size": 13}, "x": 0, "xanchor": "left"}
    return _figure([trace], 200 + 40 * len(rows), x, y, title=heading)


def transfer_counts(counts: np.ndarray, expected: np.ndarray) -> go.Figure:
    """How many images (N,) transfer by each number of pairs, beside the distribution (P + 1,) of chance."""
    at = np.arange(len(expected))
    found = np.bincount(counts, minlength=len(expected))
    says = [
        _hover(f"{k} of {len(at) - 1} pairs", f"{n:,} images", f"{e:.1f} by chance")
        for k, n, e in zip(at, found, len(counts) * expected, strict=True)
    ]
    bars: Trace = {"type": "bar", "x": at, "y": found, "name": "images", "marker": {"color": COLOUR["supervised"]}}
    bars |= {"text": says, "textposition": "none", "hoverinfo": "text"}
    line: Trace = {"type": "scatter", "mode": "lines", "x": at, "y": len(counts) * expected, "name": "by chance"}
    line |= {"line": {"color": GREY, "width": 2}, "hoverinfo": "skip"}
    x = {"title": "Pairs of models by which an image transfers (T)", "zeroline": False}
    return _figure([bars, line], 320, x, {"title": "Images"}, bargap=0.15)


def regions(frame: Frame) -> go.Figure:
    """Shares of transfers that regions keep (name, kind, share, maintain, maintain_low, maintain_high, n_whole) by
    their share of the image, a mark a kind."""
    traces: list[Trace] = []
    for (kind, rows), mark, colour in zip(
        frame.dropna(subset=["maintain"]).groupby("kind", sort=False),
        itertools.cycle(MARKS),
        itertools.cycle(COLOUR.values()),
        strict=False,
    ):
        at = 100 * rows["maintain"].to_numpy(float)
        says = [
            _hover(
                row.name,
                f"{terms.percent(row.share)} of the image",
                f"keeps {terms.percent(row.maintain, row.maintain_low, row.maintain_high)}",
                f"of {row.n_whole:,} transfers",
            )
            for row in records(rows)
        ]
        trace: Trace = {"type": "scatter", "mode": "markers", "name": terms.REGION.get(str(kind), str(kind)), "y": at}
        trace |= {"x": 100 * rows["share"].to_numpy(float), "marker": {"symbol": mark, "size": 10, "color": colour}}
        low, high = (100 * rows[f"maintain_{end}"].to_numpy(float) for end in ("low", "high"))
        traces.append(trace | {"error_y": _bars(at, low, high), "text": says, "hoverinfo": "text"})
    x = {"title": "Positions that may change", "ticksuffix": " %", "range": [0, 100], "zeroline": False}
    y = {"title": "Transfers kept", "ticksuffix": " %", "range": [0, 102], "zeroline": False}
    return _figure(traces, 380, x, y)


def canvas(side: int) -> go.Figure:
    """A grid of `side` x `side` positions to select some of: x and y of a point are its column and row."""
    at = np.arange(side * side)
    marker = {"symbol": "square", "size": 13, "color": GREY, "opacity": 0.45}
    trace: Trace = {"type": "scatter", "mode": "markers", "x": at % side, "y": at // side, "marker": marker}
    trace |= {
        "selected": {"marker": {"color": COLOUR["ssl"], "opacity": 1}},
        "unselected": {"marker": {"opacity": 0.3}},
    }
    trace |= {"hoverinfo": "skip"}
    x = {"visible": False, "range": [-0.7, side - 0.3], "fixedrange": True}
    y = {"visible": False, "range": [side - 0.3, -0.7], "fixedrange": True, "scaleanchor": "x"}
    return _figure([trace], 340, x, y, dragmode="select", showlegend=False)


def objective_curves(frame: Frame) -> go.Figure:
    """Mean probability of the target by the number of steps (name, iteration, p_target, n), a line an objective."""
    traces: list[Trace] = []
    for (name, rows), colour, dash in zip(
        frame.groupby("name", sort=False), (COLOUR["supervised"], COLOUR["ssl"], COLOUR["random"]), DASHES, strict=False
    ):
        says = [
            _hover(
                str(name), f"after {row.iteration} steps: {terms.percent(row.p_target)}", f"{row.n:,} images still move"
            )
            for row in records(rows)
        ]
        line: Trace = {"type": "scatter", "mode": "lines", "name": str(name), "x": rows["iteration"].to_numpy()}
        line |= {"y": 100 * rows["p_target"].to_numpy(float), "line": {"color": colour, "width": 2, "dash": dash}}
        traces.append(line | {"text": says, "hoverinfo": "text"})
    x = {"title": "Steps", "zeroline": False}
    y = {"title": "Probability of the target, images on their way", "ticksuffix": " %", "rangemode": "tozero"}
    return _figure(traces, 340, x, y)


def saturation(frame: Frame) -> go.Figure:
    """Cosine of gradients in float32 and float64 by margin (name, family, margin, cosine and its quartiles, n), a line
    a model; the lowest `cosine_mended` of all as a dotted one."""
    traces: list[Trace] = []
    for (name, rows), symbol, dash in zip(
        frame.groupby("name", sort=False), itertools.cycle(MARKS), itertools.cycle(DASHES[:2]), strict=False
    ):
        says = [
            _hover(
                str(name),
                f"margin {row.margin:g}: cosine {row.cosine:.3f}",
                f"quartiles {row.cosine_low:.3f} and {row.cosine_high:.3f}",
                f"all other classes together: p = {row.p_other:.1e}",
                f"p of the target rounds to 1 in {terms.percent(row.saturated)} of {row.n:,} images",
            )
            for row in records(rows)
        ]
        at, low, high = (rows[column].to_numpy(float) for column in ("cosine", "cosine_low", "cosine_high"))
        colour = COLOUR[str(rows["family"].iloc[0])]
        line: Trace = {"type": "scatter", "mode": "lines+markers", "name": str(name), "y": at}
        line |= {"x": rows["margin"].to_numpy(float), "line": {"color": colour, "width": 2, "dash": dash}}
        line |= {"marker": {"color": colour, "symbol": symbol, "size": 8}, "error_y": _bars(at, low, high)}
        traces.append(line | {"text": says, "hoverinfo": "text"})
    lowest = frame.groupby("margin")["cosine_mended"].min()
    mended: Trace = {"type": "scatter", "mode": "lines", "name": "Loss in float64", "hoverinfo": "text"}
    mended |= {"x": lowest.index.to_numpy(float), "y": lowest.to_numpy(float)}
    mended |= {"line": {"color": GREY, "width": 2, "dash": "dot"}}
    traces.append(mended | {"text": [f"Loss in float64: {value:.4f}, the lowest median" for value in lowest]})
    x = {"title": "Margin of the target's logit", "zeroline": False}
    y = {"title": "Cosine with the float64 gradient", "range": [-1.05, 1.1], "zeroline": True}
    return _figure(traces, 320, x, y)


def segmentation_curves(frame: Frame, axis: str, reached: float) -> go.Figure:
    """Mean IoU by steps or by L2 (`iteration` or `l2`), a line a variant; quartiles where it is hovered."""
    traces: list[Trace] = []
    for variant in terms.SEGMENTING:
        rows = frame.loc[frame["variant"] == variant, :].sort_values("iteration")
        name = terms.SEGMENTING[variant]
        says = [
            _hover(
                name,
                f"{row.iteration} steps, L2 {row.l2:.2f}",
                f"IoU {row.iou:.3f}, quartiles {row.low:.2f} and {row.high:.2f}",
                f"{row.n} pairs",
            )
            for row in records(rows)
        ]
        line: Trace = {"type": "scatter", "mode": "lines", "name": name, "x": rows[axis].to_numpy(float)}
        line |= {"y": rows["iou"].to_numpy(float), "line": {"color": SEGMENTING[variant], "width": 2}}
        line["line"]["dash"] = DASHES[0 if variant == "asma" else 2 if variant.endswith("pgd") else 1]
        traces.append(line | {"text": says, "hoverinfo": "text"})
    title = {"iteration": "Steps", "l2": "Mean L2 of the perturbation, [0, 1] units"}[axis]
    y = {"title": "Mean IoU with the target", "range": [0, 1.02]}
    plot = _figure(traces, 360, {"title": title, "zeroline": False, "rangemode": "tozero"}, y)
    return plot.add_hline(reached, line={"color": GREY, "dash": "dot", "width": 1})


def radar_success(frame: Frame) -> go.Figure:
    """Shares of sequences (name, mask, success, ci_low, ci_high, null_success, reached, n), a mark a mask; small grey
    lines: the null. Where a mask cannot reach a victim nothing is drawn."""
    order = frame["name"].drop_duplicates().tolist()[::-1]
    frame = frame.loc[frame["reached"] > 0, :]
    traces: list[Trace] = []
    for mask, colour, symbol in zip(terms.RADAR_MASK, MASKS, MARKS, strict=False):
        rows, title = frame.loc[frame["mask"] == mask, :], terms.RADAR_MASK[mask]
        says = [
            _hover(
                row.name,
                title,
                terms.percent(row.success, row.ci_low, row.ci_high),
                f"random signs: {terms.percent(row.null_success)}",
                f"n = {row.n:,}",
            )
            for row in records(rows)
        ]
        group = {"offsetgroup": mask, "legendgroup": mask}
        marker = {"color": colour, "symbol": symbol, "size": 9}
        traces.append(_dots(rows, "success", 100, says, marker=marker, name=title, **group))
        null: Trace = {"symbol": "line-ns-open", "size": 11, "color": GREY, "line": {"width": 2}}
        behind = _dots(rows, "null_success", 100, says, marker=null, showlegend=False, **group)
        traces.append({key: value for key, value in behind.items() if key != "error_x"})
    x = {"title": "Success", "ticksuffix": " %", "range": [-3, 103], "zeroline": False}
    height = 120 + 62 * len(order)
    return _figure(traces, height, x, _categories(order), scattermode="group", scattergap=0.35)


MASKS = ("#8a5fb0", "#d55e00", "#2a7fb8")
"""Colours of the masks of study 7: all frames, padding, action."""


def radar_map(values: np.ndarray, title: str, scale: str, low: float, high: float) -> go.Figure:
    """Values (R, D) by range, near below, and Doppler; hovering says the bin. `scale`: none whose darkest colour is
    nearly black (Inferno, Magma): Streamlit takes those for its own."""
    trace: Trace = {"type": "heatmap", "z": values, "colorscale": scale, "zmin": low, "zmax": high}
    trace |= {"colorbar": {"thickness": 8, "outlinewidth": 0, "nticks": 3, "tickfont": {"size": 10}}}
    trace |= {"hovertemplate": "range bin %{y}<br>Doppler bin %{x}<br>%{z:.2f}<extra></extra>"}
    x: Trace = {"title": {"text": "Doppler", "standoff": 4}, "showticklabels": False, "constrain": "domain"}
    y: Trace = {"title": {"text": "Range", "standoff": 4}, "showticklabels": False}
    heading = {"text": title, "font": {"size": 13}, "x": 0, "xanchor": "left"}
    return _figure([trace], 270, x, y, title=heading)


def radar_timeline(frame: Frame, n_frames: int, at: int) -> go.Figure:
    """Grad-CAM and change of a sequence by frame (frame, cam, change; each as a share of its largest), padding shaded
    and one frame marked."""
    traces: list[Trace] = []
    for column, name, colour, symbol in (
        ("cam", "Grad-CAM", "#b8860b", "circle"),
        ("change", "Change (L2)", "#2a7fb8", "square-open"),
    ):
        line: Trace = {"type": "scatter", "mode": "lines+markers", "name": name, "x": frame["frame"].to_numpy()}
        line |= {"y": frame[column].to_numpy(float), "marker": {"symbol": symbol, "size": 6, "color": colour}}
        line |= {
            "line": {"color": colour, "width": 1.5},
            "hovertemplate": f"frame %{{x}}<br>{name} %{{y:.2f}}<extra></extra>",
        }
        traces.append(line)
    last = int(frame["frame"].max())
    x = {"title": "Frame", "range": [0.5, last + 0.5], "zeroline": False, "showgrid": False}
    y = {"title": "Share of the largest", "range": [-0.03, 1.05], "zeroline": False}
    plot = _figure(traces, 240, x, y)
    if n_frames < last:
        text = {"annotation_text": "padding", "annotation_position": "top right", "annotation_font_size": 11}
        plot.add_vrect(n_frames + 0.5, last + 0.5, fillcolor=GREY, opacity=0.18, line_width=0, **text)
    return plot.add_vline(at, line={"color": GREY, "width": 2})


def radar_relation(frame: Frame) -> go.Figure:
    """Correlations (name, step, rho, ci_low, ci_high, null_low, null_high, p_value, n), a mark a kind of steps; thick
    grey: where the null of circular shifts lies."""
    order = frame["name"].drop_duplicates().tolist()[::-1]
    traces: list[Trace] = []
    for step, symbol in zip(terms.RADAR_STEP, MARKS, strict=False):
        rows, title = frame.loc[frame["step"] == step, :], terms.RADAR_STEP[step]
        says = [
            _hover(
                row.name,
                title,
                terms.number(row.rho, row.ci_low, row.ci_high),
                f"shifted {terms.number(row.null_mean, row.null_low, row.null_high)}, p = {row.p_value:.3f}",
                f"n = {row.n:,}",
            )
            for row in records(rows)
        ]
        group, null = {"offsetgroup": step}, rows.assign(ci_low=rows["null_low"], ci_high=rows["null_high"])
        behind = _dots(null, "null_mean", 1, says, marker={"size": 1, "color": GREY}, showlegend=False, **group)
        behind["error_x"] |= {"thickness": 7, "width": 0, "color": "rgba(138, 143, 152, 0.45)"}
        colour = COLOUR["supervised" if step == "sign" else "ssl"]
        traces += [
            behind,
            _dots(rows, "rho", 1, says, marker={"color": colour, "symbol": symbol, "size": 9}, name=title, **group),
        ]
    x = {"title": "Spearman's correlation over frames (grey: circular shifts)", "range": [-1, 1], "zeroline": False}
    height = 110 + 52 * len(order)
    return _figure(traces, height, x, _categories(order), scattermode="group", scattergap=0.35, shapes=[_zero()])


def taken_for(frame: Frame, axis: str) -> go.Figure:
    """Shares of groups of classes (name, share, ci_low, ci_high, chance, null, n, n_images), beside two levels."""
    order = frame["name"].tolist()[::-1]
    says = [
        _hover(
            row.name,
            terms.percent(row.share, row.ci_low, row.ci_high),
            f"{row.n:,} transfers of {row.n_images:,} images",
        )
        for row in records(frame)
    ]
    dots = _dots(frame, "share", 100, says, name="transfers", marker={"color": COLOUR["supervised"], "size": 10})
    levels = []
    for column, name, symbol in (
        ("chance", "any other class alike", "circle-open"),
        ("null", "by clean probabilities", "x-thin"),
    ):
        known = frame.loc[frame[column].notna()]
        hover = [_hover(row.name, name, terms.percent(getattr(row, column))) for row in records(known)]
        marker = {"color": GREY, "size": 10, "symbol": symbol, "line": {"color": GREY, "width": 2}}
        level: Trace = {"type": "scatter", "mode": "markers", "x": 100 * known[column].to_numpy(float)}
        level |= {"y": known["name"].to_numpy(), "name": name, "marker": marker, "text": hover, "hoverinfo": "text"}
        levels.append(level)
    x = {"title": axis, "ticksuffix": " %", "range": [-2, 102], "zeroline": False}
    return _figure([dots, *levels], 130 + 30 * len(order), x, _categories(order))


def _axis(frame: Frame, side: str, title: str, scale: stats.Scale) -> dict[str, Any]:
    """An axis of accuracies on a linear, logit or probit scale, its ticks in percent."""
    at, bars = _placed(frame, side, scale)
    low, high = float((at - bars["arrayminus"]).min()), float((at + bars["array"]).max())
    edge = 0.03 * (high - low) + (0.004 if scale == "linear" else 0.06)
    low, high = low - edge, high + edge
    ticks = np.arange(0, 1.001, 0.1 if high - low > 0.25 else 0.02) if scale == "linear" else np.array(LOGIT_TICKS)
    shown = [(x, p) for x, p in zip(stats.transform(ticks, scale).tolist(), ticks.tolist(), strict=True)]
    shown = [(x, p) for x, p in shown if low <= x <= high]
    return {
        "title": title,
        "tickvals": [x for x, _ in shown],
        "ticktext": [f"{100 * p:.3g} %" for _, p in shown],
        "range": [low, high],
        "zeroline": False,
    }


def _placed(rows: Frame, side: str, scale: stats.Scale) -> tuple[np.ndarray, dict[str, Any]]:
    """Places of accuracies on the axis of a scale, and their intervals."""
    n = rows[f"n_{side}"].to_numpy()
    at, low, high = (stats.transform(rows[f"{end}_{side}"], scale, n) for end in ("value", "low", "high"))
    return at, _bars(at, low, high)


def replication(
    frame: Frame, line: stats.Line | None, role: str, original: str, other: str, scale: stats.Scale = "logit"
) -> go.Figure:
    """Accuracy on the other set against that on the original, with the fitted line and its band, on axes of a scale.

    frame: name, family, value_x, low_x, high_x, n_x, value_y, low_y, high_y, n_y (proportions), one row a model.
    """
    words = f"{terms.AXIS[scale].lower()} axis"
    axis_x = _axis(frame, "x", f"Accuracy on {original}, {words}", scale)
    axis_y = _axis(frame, "y", f"Accuracy on {other}, {words}", scale)
    ends = [min(axis_x["range"][0], axis_y["range"][0]), max(axis_x["range"][1], axis_y["range"][1])]
    quiet = {"type": "scatter", "mode": "lines", "hoverinfo": "skip"}
    traces = [quiet | {"x": ends, "y": ends, "name": "no gap", "line": {"color": GREY, "dash": "dot", "width": 1}}]
    if line is not None:
        grid, fit, low, high = (stats.transform(v, scale) for v in (line.x, line.y, line.low, line.high))
        band = {"x": np.concatenate([grid, grid[::-1]]), "y": np.concatenate([high, low[::-1]])}
        band |= {"fill": "toself", "fillcolor": "rgba(138,143,152,0.22)", "line": {"width": 0}}
        traces.append(quiet | band | {"name": "band of the line"})
        traces.append(quiet | {"x": grid, "y": fit, "line": {"color": GREY}, "name": f"line over {line.n} models"})
    for family, rows in _families(frame):
        (x, error_x), (y, error_y) = _placed(rows, "x", scale), _placed(rows, "y", scale)
        says = [
            _hover(
                row.name,
                f"{original}: {terms.percent(row.value_x, row.low_x, row.high_x)}, n = {row.n_x:,}",
                f"{other}: {terms.percent(row.value_y, row.low_y, row.high_y)}, n = {row.n_y:,}",
            )
            for row in records(rows)
        ]
        if len(frame) > COMPACT:
            error_x, error_y = (bars | {"thickness": 0.7, "width": 0} for bars in (error_x, error_y))
        marker = {"color": COLOUR[family], "symbol": SYMBOL[role], "size": 11 if len(frame) <= COMPACT else 7}
        dots = {"x": x, "y": y, "error_x": error_x, "error_y": error_y, "marker": marker, "text": says}
        kind = _kind(len(frame))
        traces.append({"type": kind, "mode": "markers", "hoverinfo": "text", "name": terms.FAMILY[family]} | dots)
    return _figure(traces, 520, axis_x, axis_y)


def decomposition(frame: Frame, panels: Sequence[tuple[str, str]], axis: str) -> go.Figure:
    """A gap and its parts as bars with intervals, side by side: a row a model, a panel a part, all on one scale.

    frame: name, family, n_original, n_replication, and of each panel (prefix, title) the columns <prefix>_pp,
    <prefix>_low, <prefix>_high (NaN where not known); the first row is drawn on top.
    """
    place = np.arange(len(frame))[::-1]
    few = len(frame) <= COMPACT
    ends = [frame[f"{part}_{end}"].to_numpy(float) for part, _ in panels for end in ("pp", "low", "high")]
    low, high = (
        min(0.0, *(float(np.nanmin(v)) for v in ends if np.isfinite(v).any())),
        max(0.0, *(float(np.nanmax(v)) for v in ends if np.isfinite(v).any())),
    )
    edge = 0.04 * (high - low) + 0.2
    traces, axes, notes = [], {}, []
    width = (1 - 0.02 * (len(panels) - 1)) / len(panels)
    for i, (part, title) in enumerate(panels):
        number = "" if i == 0 else str(i + 1)
        start = i * (width + 0.02)
        across = {"range": [low - edge, high + edge], "domain": [start, start + width], "ticksuffix": " pp"}
        axes[f"xaxis{number}"] = across | {"zeroline": False, "nticks": 5, "title": axis if i == 0 else None}
        notes.append(
            {"text": title, "x": start, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "left"}
            | {"yanchor": "bottom", "showarrow": False, "font": {"size": 12}}
        )
        for family, rows in _families(frame.assign(place=place)):
            at, under, over = (rows[f"{part}_{end}"].to_numpy(float) for end in ("pp", "low", "high"))
            known = np.isfinite(under) & np.isfinite(over)
            says = [
                _hover(
                    row.name,
                    f"{title}: {terms.points(a, b, c) if k else terms.points(a)}",
                    f"n = {row.n_original:,} and {row.n_replication:,}",
                )
                for row, a, b, c, k in zip(records(rows), at, under, over, known, strict=True)
            ]
            bars = _bars(at, np.where(known, under, at), np.where(known, over, at))
            look = {"color": COLOUR[family], "opacity": 1 if i == 0 else 0.62}
            trace: Trace = {"type": "bar", "orientation": "h", "x": at, "y": rows["place"].to_numpy(), "text": says}
            trace |= {"textposition": "none", "hoverinfo": "text", "marker": look, "width": 0.72}
            trace |= {"error_x": bars | {"color": GREY, "width": 2 if few else 0, "thickness": 1}}
            trace |= {"name": terms.FAMILY[family], "legendgroup": family, "showlegend": i == 0}
            traces.append(trace | ({"xaxis": f"x{number}"} if number else {}))
    y: dict[str, Any] = {"range": [-0.7, len(frame) - 0.3], "automargin": True, "zeroline": False, "showgrid": False}
    named = {"tickvals": place, "ticktext": frame["name"].tolist(), "tickfont": {"size": 12 if few else 10}}
    y |= named if len(frame) <= RANKED else {"showticklabels": False, "title": f"{len(frame)} models by their gap"}
    shapes = [_zero() | ({"xref": f"x{i + 1}"} if i else {}) for i in range(len(panels))]
    first = axes.pop("xaxis")
    return _figure(
        traces,
        min(130 + (24 if few else 14) * len(frame), 2400),
        first,
        y,
        **axes,
        shapes=shapes,
        annotations=notes,
        barmode="overlay",
        margin={"l": 8, "r": 16, "t": 72, "b": 8},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0},
    )


def gap_sweep(frame: Frame, x_axis: str, y_axis: str, marked: float | None) -> go.Figure:
    """The gap against the share of the original that is kept, one line a model, its colour the family's.

    frame: name, family, coverage, coverage_other, gap_pp, error_ratio (NaN where not known), n_original, n_replication.
    `marked`: the coverage that the rest of the page is about, a vertical line.
    """
    lines = [
        (family, i, str(name), line)
        for family, rows in _families(frame)
        for i, (name, line) in enumerate(rows.groupby("name", sort=False))
    ]
    few = len(lines) <= len(DASHES) * 2 + 2
    traces = []
    for at, (family, i, name, line) in enumerate(lines):
        line = line.sort_values("coverage")
        says = [
            _hover(
                name,
                terms.points(row.gap_pp),
                f"{terms.percent(row.coverage)} and {terms.percent(row.coverage_other)} kept, "
                f"n = {row.n_original:,} and {row.n_replication:,}",
                f"error ratio {row.error_ratio:.2f}" if np.isfinite(row.error_ratio) else "no error on the original",
            )
            for row in records(line)
        ]
        look = {"line": {"color": COLOUR[family], "width": 1.6, "dash": DASHES[i % len(DASHES)] if few else "solid"}}
        first = at == 0 or lines[at - 1][0] != family
        named = {"name": name if few else terms.FAMILY[family], "showlegend": few or first, "legendgroup": family}
        data = {"x": 100 * line["coverage"].to_numpy(float), "y": line["gap_pp"].to_numpy(float), "text": says}
        more = {"mode": "lines" if len(line) > 1 else "markers", "hoverinfo": "text", "opacity": 1 if few else 0.55}
        traces.append({"type": _kind(len(frame))} | more | look | named | data)
    legend = {"orientation": "v", "x": 1.02, "xanchor": "left", "y": 1, "yanchor": "top", "font": {"size": 11}}
    x = {"title": x_axis, "ticksuffix": " %", "range": [0, 101], "zeroline": False}
    y = {"title": y_axis, "ticksuffix": " pp", "zeroline": True, "zerolinecolor": GREY, "zerolinewidth": 1}
    here = _zero() | {"x0": 100 * (marked or 0), "x1": 100 * (marked or 0), "line": {"color": GREY, "dash": "dot"}}
    shapes = [] if marked is None else [here]
    return _figure(traces, 400, x, y, legend=legend, margin={"l": 8, "r": 16, "t": 12, "b": 8}, shapes=shapes)


def gaps(
    frame: Frame,
    null: Frame,
    role: str,
    axis: str,
    beside: str = "Null halves (chance)",
    *,
    largest_first: bool = False,
) -> go.Figure:
    """The gap of each model with its interval, and beside it what chance gives (may be empty), called `beside`.

    The smallest gap is on top, or with `largest_first` the largest.

    Both frames: name, family, gap_pp, ci_low, ci_high, n_original, n_replication.
    """
    order = frame.sort_values("gap_pp", ascending=largest_first)["name"].tolist()
    null = null.loc[null["name"].isin(order)]
    traces, shown = [], [(family, rows, "gap") for family, rows in _families(frame)]
    for family, rows, kind in [*shown, *([("", null, "null")] if len(null) else [])]:
        says = [
            _hover(
                row.name,
                beside if kind == "null" else "",
                terms.points(row.gap_pp, row.ci_low, row.ci_high)
                if np.isfinite(row.ci_low)
                else terms.points(row.gap_pp),
                f"n = {row.n_original:,} and {row.n_replication:,}",
            ).replace("<br><br>", "<br>")
            for row in records(rows)
        ]
        marker = {"color": COLOUR.get(family, GREY), "symbol": SYMBOL[role], "size": 10 if len(order) <= COMPACT else 7}
        if kind == "null":
            marker |= {"symbol": SYMBOL["control"] if role != "control" else "line-ns-open", "size": 8}
        name = terms.FAMILY.get(family, beside)
        traces.append(_dots(rows, "gap_pp", 1, says, marker=marker, name=name, offsetgroup=kind))
    both = pd.concat([frame, null]) if len(null) else frame
    ends = pd.DataFrame({end: both[end].fillna(both["gap_pp"]) for end in ("ci_low", "ci_high")})
    return _figure(
        traces,
        110 + (30 if len(order) <= COMPACT else 14 if null.empty else 20) * len(order),
        _across(ends, 1, axis, " pp"),
        _categories(order),
        scattermode="group",
        scattergap=0.3,
        shapes=[_zero()],
    )


def levels(frame: Frame, axis: str, value_axis: str) -> go.Figure:
    """Accuracy by level (severity, eps) for each model: one line a model, its colour the family's.

    frame: name, family, level, value, ci_low, ci_high, n. Within a family the lines differ by dashes and markers.
    """
    shown = sorted(frame["level"].unique())
    lines = [
        (family, i, str(name), line)
        for family, rows in _families(frame)
        for i, (name, line) in enumerate(rows.groupby("name", sort=False))
    ]
    width = 0.004 * (shown[-1] - shown[0])  # lines stand apart, so that their intervals do not hide one another
    traces = []
    for place, (family, i, name, line) in enumerate(lines):
        at, low, high = (100 * line[column].to_numpy(float) for column in ("value", "ci_low", "ci_high"))
        says = [
            _hover(name, terms.percent(row.value, row.ci_low, row.ci_high), f"{row.level:g}, n = {row.n:,}")
            for row in records(line)
        ]
        look = {
            "line": {"color": COLOUR[family], "dash": DASHES[i % len(DASHES)], "width": 1.8},
            "marker": {"size": 7, "symbol": MARKS[i % len(MARKS)]},
        }
        x = line["level"].to_numpy(float) + width * (place - len(lines) / 2)
        data = {"x": x, "y": at, "error_y": _bars(at, low, high) | {"thickness": 1, "width": 2}, "text": says}
        more = {"mode": "lines+markers", "name": name, "legendgroup": family, "hoverinfo": "text"}
        traces.append({"type": "scatter"} | more | look | data)
    ticks = {"tickvals": shown, "ticktext": [f"{level:g}" if level else "clean" for level in shown]}
    legend = {"orientation": "v", "x": 1.02, "xanchor": "left", "y": 1, "yanchor": "top"}
    y = {"title": value_axis, "ticksuffix": " %"}
    margin = {"l": 8, "r": 16, "t": 12, "b": 8}
    x = {"title": axis, "zeroline": False} | ticks
    return _figure(traces, 400, x, y, legend=legend, margin=margin)


def heads(frame: Frame, axis: str) -> go.Figure:
    """Accuracy of heads on frozen features (name, family, head, value, ci_low, ci_high, about, n); a symbol a head."""
    heads = frame["head"].drop_duplicates().tolist()
    order = frame.loc[frame["head"] == heads[0]].sort_values("value")["name"].tolist()
    traces = []
    for head, symbol in zip(heads, HEADS * len(heads), strict=False):
        rows = frame.loc[frame["head"] == head]
        says = [
            _hover(row.name, head, terms.percent(row.value, row.ci_low, row.ci_high), row.about, f"n = {row.n:,}")
            for row in records(rows)
        ]
        marker = {"color": [COLOUR[family] for family in rows["family"]], "symbol": symbol, "size": 10}
        trace = _dots(rows, "value", 100, says, marker=marker, name=head, offsetgroup=head, showlegend=False)
        trace["error_x"]["color"] = GREY
        key = {"mode": "markers", "name": head, "marker": {"color": GREY, "symbol": symbol, "size": 10}}
        traces += [trace, {"type": "scatter", "x": [None], "y": order[:1]} | key]
    height = 100 + (14 + 10 * len(heads)) * len(order)
    x, y = _across(frame, 100, axis, " %"), _categories(order)
    return _figure(traces, height, x, y, scattermode="group", scattergap=0.3)


def differences(frame: Frame, axis: str) -> go.Figure:
    """Differences of pairs (name, dataset_name, role, delta_pp, ci_low, ci_high, n), one symbol a set."""
    order = frame["name"].drop_duplicates().tolist()[::-1]
    symbols = _symbols(frame)
    traces = []
    for name, rows in frame.groupby("dataset_name", sort=False):
        says = [
            _hover(row.name, name, terms.points(row.delta_pp, row.ci_low, row.ci_high, sign=True), f"n = {row.n:,}")
            for row in records(rows)
        ]
        marker = {"color": COLOUR["ssl"], "symbol": symbols[name], "size": 10}
        traces.append(_dots(rows, "delta_pp", 1, says, marker=marker, name=name, offsetgroup=name))
    x, y = _across(frame, 1, axis, " pp"), _categories(order)
    height = 130 + 22 * len(frame)
    return _figure(traces, height, x, y, scattermode="group", scattergap=0.25, shapes=[_zero()])


def contrasts(frame: Frame, axis: str) -> go.Figure:
    """Mean differences of families (group, name of a condition, delta_pp, ci_low, ci_high, networks_low, networks_high,
    n, about): a symbol a group, all of them filled; over networks and images a thin line behind the interval."""
    order = frame["name"].drop_duplicates().tolist()[::-1]
    ends = frame.assign(
        ci_low=frame[["ci_low", "networks_low"]].min(axis=1), ci_high=frame[["ci_high", "networks_high"]].max(axis=1)
    )
    traces = []
    for i, (group, rows) in enumerate(frame.groupby("group", sort=False)):
        says = [
            _hover(
                row.name,
                str(group),
                terms.points(row.delta_pp, row.ci_low, row.ci_high, sign=True),
                row.about,
                f"n = {row.n:,}",
            )
            for row in records(rows)
        ]
        symbol = MARKS[i % len(MARKS)] + ("" if i == 0 else "-open")
        marker = {"color": COLOUR["ssl"], "symbol": symbol, "size": 11 if i == 0 else 9}
        trace = _dots(rows, "delta_pp", 1, says, marker=marker, name=str(group), offsetgroup=str(group))
        trace["error_x"] |= {"thickness": 2.4 if i == 0 else 1.3, "width": 0}
        wide = rows.assign(ci_low=rows["networks_low"], ci_high=rows["networks_high"])
        behind = _dots(wide, "delta_pp", 1, says, marker={"size": 1, "color": GREY}, offsetgroup=str(group))
        behind["error_x"] |= {"thickness": 1, "width": 4, "color": GREY}
        traces += [behind | {"showlegend": False, "hoverinfo": "skip"}, trace]
    x, y = _across(ends, 1, axis, " pp"), _categories(order)
    height = 120 + (16 + 13 * frame["group"].nunique()) * len(order)
    return _figure(traces, height, x, y, scattermode="group", scattergap=0.3, shapes=[_zero()])


def changes(frame: Frame, axis: str) -> go.Figure:
    """How each model's accuracy changes: name, family, change_pp, ci_low, ci_high; the largest change first."""
    traces = []
    for family, rows in _families(frame):
        says = [
            _hover(row.name, terms.points(row.change_pp, row.ci_low, row.ci_high, sign=True)) for row in records(rows)
        ]
        marker = {"color": COLOUR[family], "size": 10 if len(frame) <= COMPACT else 7}
        traces.append(_dots(rows, "change_pp", 1, says, marker=marker, name=terms.FAMILY[family]))
    height = 110 + (26 if len(frame) <= COMPACT else 14) * len(frame)
    names = _categories(frame["name"].tolist()[::-1])
    return _figure(traces, height, _across(frame, 1, axis, " pp"), names, shapes=[_zero()])


CLASSES = (
    *("#88ccee", "#cc6677", "#ddcc77", "#117733", "#6a5acd", "#aa4499"),
    *("#44aa99", "#999933", "#b0476c", "#c45a11", "#4f8fd0"),
)
"""Colours of classes on a map, nearly those of Paul Tol's muted scheme; symbols tell apart what colours may not."""
RING = "#e0a000"


def mapped(frame: Frame, groups: Sequence[str], chosen: Collection[str], rings: Sequence[Collection[str]]) -> go.Figure:
    """Images on a map, one trace a group; those of no group are grey, behind, and cannot be picked.

    frame: sample_id, label_name, x, y, group (empty: none). `chosen`: images that stand out, if there are any; `rings`:
    the image that is looked at, and its neighbours.
    """
    behind = frame.loc[frame["group"] == ""]
    marker: Trace = {"color": GREY, "size": 4, "opacity": 0.3}
    traces: list[Trace] = []
    if len(behind):
        traces.append(_scattered(behind, {**marker, "symbol": "circle"}, name="other sets", hoverinfo="skip"))
    for i, group in enumerate(groups):
        rows = frame.loc[frame["group"] == group]
        marker = {"color": CLASSES[i % len(CLASSES)], "size": 8, "symbol": MARKS[i % len(MARKS)], "opacity": 0.85}
        says = [_hover(*map(terms.plain_html, (row.sample_id, f"label {row.label_name}"))) for row in records(rows)]
        ids = rows["sample_id"].tolist()
        trace = _scattered(rows, marker, name=terms.plain_html(group), text=says, hoverinfo="text", customdata=ids)
        if chosen:
            trace["selectedpoints"] = np.flatnonzero(rows["sample_id"].isin(list(chosen))).tolist()
            trace["unselected"] = {"marker": {"opacity": 0.15}}
        traces.append(trace)
    for ids, name, size in zip(rings, ("looked at", "its nearest"), (20, 14), strict=True):
        rows = frame.loc[frame["sample_id"].isin(list(ids))]
        line = {"color": RING, "width": 3 if size == 20 else 2}
        marker = {"symbol": "circle-open", "size": size, "color": RING, "line": line}
        traces.append(_scattered(rows, marker, name=name, hoverinfo="skip"))
    bare = {"visible": False}
    y = bare | {"scaleanchor": "x"}
    legend = {"orientation": "h", "y": 0, "yanchor": "top", "x": 0, "itemsizing": "constant"}
    return _figure(traces, 520, bare, y, dragmode="lasso", legend=legend, margin={"l": 4, "r": 4, "t": 8, "b": 8})


def _scattered(rows: Frame, marker: Trace, **more: Any) -> Trace:
    """Points by WebGL."""
    at = {"x": rows["x"].to_numpy(float), "y": rows["y"].to_numpy(float)}
    return {"type": "scattergl", "mode": "markers", "marker": marker, **at, **more}


FEW = 12
"""Lines up to which each has its name, dashes and intervals."""


def label_histogram(sets: Sequence[tuple[str, Frame]]) -> go.Figure:
    """Share of the images of one or two sets by their number of labels.

    sets: name, and n_labels, n_images, share; the first one is drawn in full.
    """
    looks: tuple[Trace, ...] = (
        {"color": GREY},
        {"color": "rgba(138,143,152,0.12)", "line": {"color": GREY, "width": 1.2}},
    )
    traces = []
    for (name, frame), marker in zip(sets, looks, strict=False):
        says = [
            _hover(name, f"{row.n_labels} labels: {terms.percent(row.share)}", f"{row.n_images:,} images")
            for row in records(frame)
        ]
        bars: Trace = {"type": "bar", "x": frame["n_labels"].to_numpy(), "y": 100 * frame["share"].to_numpy(float)}
        traces.append(
            bars | {"name": name, "text": says, "textposition": "none", "hoverinfo": "text", "marker": marker}
        )
    most = max(int(frame["n_labels"].max()) for _, frame in sets)
    x = {"title": "Labels of an image", "dtick": 1 if most <= 20 else None, "zeroline": False}
    x |= {"range": [-0.6, max(most, 4) + 0.6]}
    y = {"title": "Share of all images", "ticksuffix": " %"}
    return _figure(traces, 300, x, y, bargap=0.25, bargroupgap=0.05, showlegend=len(sets) > 1)


def by_labels(frame: Frame, names: Sequence[str], pooled: int | None, unit: str, axis: str) -> go.Figure:
    """What models do by the number of labels of an image: by the original label on the left, by any on the right.

    frame: name, family, scoring, n_labels, at, low, high, n (in `unit`, ` %` or ` pp`). Up to FEW models have a line
    with intervals each; of more, `names` have, over thin lines of all and the median of all. `pooled`: the number of
    labels that stands for itself and more, None where there is none.
    """
    few = frame["name"].nunique() <= FEW
    traces: list[Trace] = []
    for panel, (scoring, mine) in enumerate((s, frame.loc[frame["scoring"] == s]) for s in terms.SCORING):
        axes = {"xaxis": "x2", "yaxis": "y2"} if panel else {}
        if not few:
            traces += [_thin(family, rows, unit) | axes for family, rows in _families(mine)]
            middle = mine.groupby("n_labels", as_index=False)["at"].median()
            says = [f"median of {mine['name'].nunique()} models: {value:.1f}{unit}" for value in middle["at"]]
            line = {"mode": "lines", "line": {"color": GREY, "width": 5}, "name": "median of all", "text": says}
            line |= {"x": middle["n_labels"].to_numpy(), "y": middle["at"].to_numpy(), "hoverinfo": "text"}
            traces.append({"type": "scatter", "legendgroup": "median", "showlegend": not panel} | line | axes)
        shown = mine["name"].drop_duplicates().tolist() if few else [n for n in names if n in set(mine["name"])]
        for i, name in enumerate(shown):
            rows = mine.loc[mine["name"] == name]
            at, low, high = (rows[column].to_numpy(float) for column in ("at", "low", "high"))
            known = [np.isfinite(row.low) for row in records(rows)]
            says = [
                _hover(
                    name,
                    f"{terms.SCORING[scoring]}: {row.at:.1f}{unit}"
                    + (f" [{row.low:.1f}, {row.high:.1f}]" if ci else ""),
                    f"{row.n_labels}{' or more' if row.n_labels == pooled else ''} labels, n = {row.n:,}",
                )
                for row, ci in zip(records(rows), known, strict=True)
            ]
            colour = COLOUR[rows["family"].iloc[0]]
            ends = _bars(at, np.where(known, low, at), np.where(known, high, at)) | {"thickness": 1, "width": 2}
            line = {"color": colour, "dash": DASHES[i % len(DASHES)], "width": 1.8}
            marker = {"size": 7, "symbol": MARKS[i % len(MARKS)], "color": colour}
            x = rows["n_labels"].to_numpy(float) + 0.05 * (i - (len(shown) - 1) / 2)
            data = {"x": x, "y": at, "error_y": ends, "text": says, "line": line, "marker": marker}
            more = {"mode": "lines+markers", "name": name, "legendgroup": name, "showlegend": not panel}
            traces.append({"type": "scatter", "hoverinfo": "text"} | data | more | axes)
    counts = sorted(frame["n_labels"].unique())
    ticks = {"tickvals": counts, "ticktext": [f"{k}{'+' if k == pooled else ''}" for k in counts], "zeroline": False}
    ticks |= {"range": [counts[0] - 0.4, counts[-1] + 0.4]}
    titles = [f"Labels of an image · {words}" for words in ("right by the original label", "right by any label")]
    y = {"title": axis, "ticksuffix": unit}
    return _figure(
        traces,
        430,
        {"title": titles[0], "domain": [0, 0.49]} | ticks,
        y,
        xaxis2={"title": titles[1], "domain": [0.51, 1], "anchor": "y2"} | ticks,
        yaxis2={"matches": "y", "anchor": "x2", "showticklabels": False},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"size": 11}},
    )


def _thin(family: str, rows: Frame, unit: str) -> Trace:
    """All lines of a family as one trace, with gaps between them."""
    wide = rows.pivot(index="name", columns="n_labels", values="at")
    at = np.column_stack([wide.to_numpy(float), np.full(len(wide), np.nan)])
    x = np.tile(np.append(wide.columns.to_numpy(float), np.nan), len(wide))
    says = [f"{name}: {value:.1f}{unit}" for name, line in zip(wide.index, at, strict=True) for value in line]
    look = {"mode": "lines", "line": {"color": COLOUR[family], "width": 1}, "opacity": 0.35, "showlegend": False}
    return {"type": _kind(x.size), "x": x, "y": at.ravel(), "text": says, "hoverinfo": "text", "name": family} | look


def any_against_top1(frame: Frame, line: stats.Line | None, role: str, x_axis: str, y_axis: str) -> go.Figure:
    """Any-of accuracy of each model against its top-1 accuracy, with the fitted line and its band.

    frame: name, family, value_x, low_x, high_x, n_x, value_y, low_y, high_y, n_y (proportions), one row a model.
    """
    at = {end: 100 * frame[end].to_numpy(float) for end in ("low_x", "high_x", "low_y", "high_y")}
    low, high = min(at["low_x"].min(), at["low_y"].min()), max(at["high_x"].max(), at["high_y"].max())
    ends = [low - 0.03 * (high - low) - 0.2, high + 0.03 * (high - low) + 0.2]
    quiet: Trace = {"type": "scatter", "mode": "lines", "hoverinfo": "skip"}
    dotted = {"x": ends, "y": ends, "name": "equal", "line": {"color": GREY, "dash": "dot", "width": 1}}
    traces = [quiet | dotted]
    if line is not None:
        grid, fit, under, over = (100 * values for values in (line.x, line.y, line.low, line.high))
        band = {"x": np.concatenate([grid, grid[::-1]]), "y": np.concatenate([over, under[::-1]])}
        band |= {"fill": "toself", "fillcolor": "rgba(138,143,152,0.22)", "line": {"width": 0}}
        traces.append(quiet | band | {"name": "band of the line"})
        traces.append(quiet | {"x": grid, "y": fit, "line": {"color": GREY}, "name": f"line over {line.n} models"})
    size, bars = (11, {}) if len(frame) <= COMPACT else (7, {"thickness": 0.7, "width": 0})
    for family, rows in _families(frame):
        says = [
            _hover(
                row.name,
                f"{terms.SCORING['top1']}: {terms.percent(row.value_x, row.low_x, row.high_x)}, n = {row.n_x:,}",
                f"{terms.SCORING['any_of']}: {terms.percent(row.value_y, row.low_y, row.high_y)}, n = {row.n_y:,}",
            )
            for row in records(rows)
        ]
        (x, error_x), (y, error_y) = (
            (100 * v, _bars(*(100 * rows[f"{end}_{side}"].to_numpy(float) for end in ("value", "low", "high"))) | bars)
            for side, v in (("x", rows["value_x"].to_numpy(float)), ("y", rows["value_y"].to_numpy(float)))
        )
        marker = {"color": COLOUR[family], "symbol": SYMBOL[role], "size": size}
        dots = {"x": x, "y": y, "error_x": error_x, "error_y": error_y, "marker": marker, "text": says}
        more = {"mode": "markers", "hoverinfo": "text", "name": terms.FAMILY[family]}
        traces.append({"type": _kind(len(frame))} | more | dots)
    across = {"range": ends, "ticksuffix": " %", "zeroline": False}
    return _figure(traces, 460, {"title": x_axis} | across, {"title": y_axis} | across)


def label_gaps(frame: Frame, axis: str) -> go.Figure:
    """The gap of each model by the original label (filled) and by any label (open), and on the right their difference.

    frame: name, family, gap_top1_pp, top1_low, top1_high, gap_any_of_pp, any_of_low, any_of_high, removed_pp,
    removed_low, removed_high, n_original, n_replication; the smallest gap first, which is drawn on top.
    """
    place = np.arange(len(frame))[::-1]
    size = 9 if len(frame) <= COMPACT else 6
    drawn = (
        ("gap_top1_pp", "top1_low", "top1_high", "Gap by the original label", "circle", 0.16),
        ("gap_any_of_pp", "any_of_low", "any_of_high", "Gap by any label", "circle-open", -0.16),
        ("removed_pp", "removed_low", "removed_high", "Removed by any-of scoring", "diamond", 0.0),
    )
    traces: list[Trace] = []
    for column, low, high, name, symbol, lift in drawn:
        right = {"xaxis": "x2"} if column == "removed_pp" else {}
        key = {"mode": "markers", "name": name, "marker": {"color": GREY, "symbol": symbol, "size": size}}
        traces.append({"type": "scatter", "x": [None], "y": [0]} | key | right)
        for family, rows in _families(frame.assign(place=place + lift)):
            at, under, over = (rows[one].to_numpy(float) for one in (column, low, high))
            says = [
                _hover(who, name, terms.points(*three), f"n = {a:,} and {b:,}")
                for who, three, a, b in zip(
                    rows["name"],
                    zip(at, under, over, strict=True),
                    rows["n_original"],
                    rows["n_replication"],
                    strict=True,
                )
            ]
            marker = {"color": COLOUR[family], "symbol": symbol, "size": size}
            data = {"x": at, "y": rows["place"].to_numpy(), "text": says, "marker": marker, "showlegend": False}
            ends = _bars(at, under, over) | {"thickness": 1, "width": 0 if len(frame) > COMPACT else 3}
            traces.append({"type": "scatter", "mode": "markers", "hoverinfo": "text", "error_x": ends} | data | right)
    y = {"range": [-0.7, len(frame) - 0.3], "automargin": True, "zeroline": False, "showgrid": False}
    named = {"tickvals": place, "ticktext": frame["name"].tolist(), "tickfont": {"size": 12 if size == 9 else 10}}
    y |= named if len(frame) <= RANKED else {"showticklabels": False, "title": f"{len(frame)} models by their gap"}
    zero = _zero()
    return _figure(
        traces,
        min(110 + (26 if size == 9 else 14) * len(frame), 2400),
        {"title": axis, "ticksuffix": " pp", "domain": [0, 0.6], "zeroline": False},
        y,
        xaxis2={"title": "Removed", "ticksuffix": " pp", "domain": [0.64, 1], "zeroline": False},
        shapes=[zero, zero | {"xref": "x2"}],
    )


def ticks(frame: Frame, axis: str, value_axis: str) -> go.Figure:
    """The share of the labels at each place that got a yes, a line an annotator: annotator, rank, rate and its ends."""
    traces: list[Trace] = []
    for i, (name, rows) in enumerate(frame.groupby("annotator", sort=True)):
        at, low, high = (100 * rows[column].to_numpy(float) for column in ("rate", "ci_low", "ci_high"))
        says = [
            _hover(
                terms.plain_html(str(name)),
                f"place {row.rank}",
                terms.percent(row.rate, row.ci_low, row.ci_high),
                f"n = {row.n_shown:,}",
            )
            for row in records(rows)
        ]
        style = {
            "line": {"dash": DASHES[i % len(DASHES)], "width": 1.5},
            "marker": {"symbol": MARKS[i % len(MARKS)], "size": 8},
        }
        colour = list(COLOUR.values())[i % len(COLOUR)]
        style["line"]["color"] = style["marker"]["color"] = colour
        data = {"x": rows["rank"].to_numpy() + 0.03 * i, "y": at, "error_y": _bars(at, low, high), "text": says}
        named = {"name": terms.plain_html(str(name)), "hoverinfo": "text", "mode": "lines+markers", "type": "scatter"}
        traces.append({**data, **style, **named})
    x = {"title": axis, "dtick": 1, "zeroline": False}
    return _figure(traces, 340, x, {"title": value_axis, "ticksuffix": " %", "rangemode": "tozero"})


ACROSS = 7
"""Frameworks beside one another in the cell of a family and a year."""


def timeline(frame: Frame) -> go.Figure:
    """Frameworks as dots, a lane a family: name, year, family_name, predicts, reference, here (filled where set)."""
    lanes = [name for name in terms.FRAMEWORKS.values() if (frame["family_name"] == name).any()]
    place = frame.groupby(["family_name", "year"]).cumcount()
    size = frame.groupby(["family_name", "year"])["name"].transform("size")
    across = place % ACROSS - (np.minimum(size - place // ACROSS * ACROSS, ACROSS) - 1) / 2
    down = place // ACROSS - ((size - 1) // ACROSS) / 2
    at = frame.assign(
        x=frame["year"] + 0.12 * across,
        y=[float(lanes.index(name)) for name in frame["family_name"]] + 0.17 * down,
    )
    traces: list[Trace] = []
    for words, rows in (("Runs here", at.loc[at["here"].notna()]), ("Others", at.loc[at["here"].isna()])):
        if rows.empty:
            continue
        says = [
            _hover(terms.plain_html(row.name), str(row.year), terms.plain_html(row.predicts), row.reference)
            for row in records(rows)
        ]
        own = words == "Runs here"
        marker = {"size": 10 if own else 8, "color": COLOUR["ssl"] if own else "#8a8f98", "opacity": 1 if own else 0.55}
        data = {"x": rows["x"], "y": rows["y"], "text": says, "marker": marker}
        traces.append({**data, "name": words, "hoverinfo": "text", "mode": "markers", "type": "scatter"})
    x = {"title": "Year of the first version", "dtick": 1, "zeroline": False, "tickformat": "d"}
    y = {"tickvals": list(range(len(lanes))), "ticktext": lanes, "autorange": "reversed", "zeroline": False}
    return _figure(traces, 160 + 66 * len(lanes), x, y)
