"""Parts that pages share: the head of a page, tables and figures with their downloads, and grids of images."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from dashboard import db, state
from dashboard.frames import Frame, records

TILE = 92
"""Pixels a side of an image in a grid."""

MATRIX = """<style>
.matrix {border-collapse: collapse; width: 100%; font-size: 0.86rem; font-variant-numeric: tabular-nums}
.matrix th {font-weight: 500; text-align: left; vertical-align: bottom; padding: 4px 6px; line-height: 1.2}
.matrix thead th {font-size: 0.78rem; opacity: 0.75; border-bottom: 1px solid #8a8f9866}
.matrix td {border-bottom: 1px solid #8a8f9833; padding: 0}
.matrix tbody th {vertical-align: middle; border-bottom: 1px solid #8a8f9833; white-space: nowrap}
.matrix td a {display: block; padding: 3px 6px; color: inherit; text-decoration: none}
.matrix td a:hover, .matrix td a:focus {background: #2a7fb833}
.matrix small {display: block; opacity: 0.7; font-size: 0.72rem; white-space: nowrap}
</style>"""

PLOT = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]}


def head(question: str, answer: str, more: str = "") -> None:
    """The title of a page, which is its question, and the answer to it in a sentence."""
    st.title(question, anchor=False)
    st.markdown(f"##### {answer}")
    if more:
        st.caption(more)


def csv_bytes(frame: Frame) -> bytes:
    """A frame as CSV; empty cells where a value is missing."""
    return frame.to_csv(index=False).encode()


def parquet_bytes(frame: Frame) -> bytes:
    """A frame as Parquet."""
    stream = io.BytesIO()
    frame.to_parquet(stream, index=False, compression="zstd")
    return stream.getvalue()


def downloads(frame: Frame, name: str) -> None:
    """Two buttons that give what is shown, as CSV and as Parquet; the bytes are made when they are asked for."""
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        for kind, make, mime in (
            ("csv", csv_bytes, "text/csv"),
            ("parquet", parquet_bytes, "application/vnd.apache.parquet"),
        ):
            st.download_button(
                {"csv": "CSV", "parquet": "Parquet"}[kind],
                lambda make=make: make(frame),
                file_name=f"{name}.{kind}",
                mime=mime,
                key=f"download:{name}:{kind}",
                on_click="ignore",
                type="tertiary",
                icon=":material/download:",
                help=f"What is shown here, {len(frame):,} rows",
            )


def table(frame: Frame, name: str, columns: Mapping[str, Any] | None = None, *, alt: str) -> None:
    """A table of exactly these columns, and its downloads."""
    st.dataframe(
        frame,
        hide_index=True,
        height="content" if len(frame) <= 16 else 560,
        column_config=dict(columns or {}),
        placeholder="–",
        key=f"table:{name}",
        alt=alt,
    )
    downloads(frame, name)


def figure(plot: go.Figure, frame: Frame, name: str, alt: str) -> None:
    """A figure, and the downloads of the frame that it was drawn from."""
    st.plotly_chart(plot, config=PLOT, key=f"figure:{name}", alt=alt)
    downloads(frame, f"{name}-figure")


def data_uri(picture: tuple[bytes, str]) -> str:
    """Encoded image bytes and their media type as a data URI."""
    data, media_type = picture
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def image_html(picture: tuple[bytes, str] | None, alt: str, size: int) -> str:
    """An image as HTML, its pixels kept as squares; a grey field with a word where there is no picture."""
    box = f"width:{size}px;height:{size}px;border-radius:4px;"
    if picture is None:
        return f'<div style="{box}background:#8a8f9833;font-size:12px;padding:6px">no picture</div>'
    style = f"{box}image-rendering:pixelated;object-fit:contain;background:#8a8f9833"
    return f'<img src="{data_uri(picture)}" alt="{html.escape(alt, quote=True)}" style="{style}">'


def open_sample(sample_id: str) -> None:
    """Callback: show one image (on the page Samples)."""
    state.change(sample=sample_id)
    st.session_state["goto"] = "samples"


def see_all(**values: object) -> None:
    """Callback: show the page Samples with these filters and no others."""
    clean = {"subset": "all", "label": "", "wrong": "", "sort": "id"} | dict.fromkeys(state.RANGES)
    state.change(**(clean | values))
    st.session_state["goto"] = "samples"


def opener(caption: str, sample_id: str, key: str) -> None:
    """A button that opens the page of an image."""
    st.button(caption, key=key, type="tertiary", on_click=open_sample, args=(sample_id,))


def grid(source: db.Source, ids: Sequence[str], captions: Sequence[str], alts: Sequence[str], key: str) -> None:
    """Images in rows that wrap, each with a button below it that opens the image's own page."""
    pictures = db.pictures(source, tuple(ids))
    with st.container(horizontal=True, gap="small"):
        for sample_id, caption, alt in zip(ids, captions, alts, strict=True):
            with st.container(width=TILE + 8, gap=None, key=f"tile:{key}:{sample_id}"):
                st.html(image_html(pictures.get(sample_id), alt, TILE), width=TILE + 8)
                opener(caption, sample_id, f"open:{key}:{sample_id}")


def strip(
    source: db.Source, view: state.View, dataset: str, model: str = "", *, subset: str = "all", limit: int = 12
) -> None:
    """The images behind a figure: those of a set that fewest models (or not `model`) get right, and a way to all."""
    catalogue = db.catalogue(source)
    labels = view.labels if view.labels in catalogue.sources.get(dataset, []) else db.ORIGINAL
    chosen = tuple(catalogue.choose(view.families))
    frame = db.images_of(source, dataset, labels, chosen)
    behind: dict[str, object] = {"dataset": dataset, "labels": labels, "subset": subset, "sort": "wrong"}
    what = "that fewest models get right"
    if model:
        frame = frame.loc[~db.correct(source, dataset, labels, (model,))[0]]
        what = f"that {catalogue.model_name(model)} gets wrong"
        behind["wrong"] = model
    elif len(frame):
        frame = frame[frame["n_right"] < frame["n_models"]]
        behind["right"] = (0, len(chosen) - 1)
    if subset != "all":
        frame = frame.loc[frame["sample_id"].isin(db.members(source, dataset, subset))]
    worst = frame.sort_values(["n_right", "sample_id"]).head(limit)
    name = catalogue.dataset_name(dataset)
    st.markdown(f"**Images of {name} {what}**")
    if worst.empty:
        st.caption("There is none.")
        return
    names = catalogue.class_names(dataset)
    captions = [f"{names[row.label]} · {row.n_right}/{row.n_models}" for row in records(worst)]
    alts = [
        f"image of {name}, label {names[row.label]}, {row.n_right} of {row.n_models} models right"
        for row in records(worst)
    ]
    st.caption("Below each: its original label and how many of the models shown get it right.")
    grid(source, worst["sample_id"].tolist(), captions, alts, f"strip:{dataset}")
    st.button(
        f"All {len(frame):,} in Samples",
        key=f"all:{dataset}:{model}",
        on_click=see_all,
        kwargs=behind,
        icon=":material/arrow_forward:",
    )


def matrix(
    rows: Sequence[tuple[str, str]], columns: Sequence[str], cells: Mapping[tuple[str, int], tuple[str, str, str, str]]
) -> None:
    """A table whose cells have two lines and are links; narrow enough for many columns.

    rows: (key, name); columns: names; cells: (row key, column) -> text, small text, what hovering says, address.
    """
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ["", *columns])
    lines = []
    for key, name in rows:
        line = [f"<th>{html.escape(name)}</th>"]
        for column in range(len(columns)):
            text, small, hover, address = (
                html.escape(part, quote=True) for part in cells.get((key, column), ("–",) * 4)
            )
            inside = f"{text}<small>{small}</small>" if (key, column) in cells else text
            line.append(f'<td><a href="{address}" title="{hover}">{inside}</a></td>')
        lines.append(f"<tr>{''.join(line)}</tr>")
    st.html(f'{MATRIX}<table class="matrix"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>')
