"""Parts that pages share: the head of a page, tables and figures with their downloads, and grids of images."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import db, state, terms

TILE = 92
"""Pixels a side of an image in a grid."""

PLOT = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]}


def head(question: str, answer: str, more: str = "") -> None:
    """The title of a page, which is its question, and the answer to it in a sentence."""
    st.title(question, anchor=False)
    st.markdown(f"##### {answer}")
    if more:
        st.caption(more)


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """A frame as CSV; empty cells where a value is missing."""
    return frame.to_csv(index=False).encode()


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """A frame as Parquet."""
    stream = io.BytesIO()
    frame.to_parquet(stream, index=False, compression="zstd")
    return stream.getvalue()


def downloads(frame: pd.DataFrame, name: str) -> None:
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


def table(frame: pd.DataFrame, name: str, columns: Mapping[str, object] | None = None, **options: object) -> object:
    """A table of exactly these columns, and its downloads."""
    height = min(38 + 35 * len(frame), 560)
    event = st.dataframe(
        frame,
        hide_index=True,
        height=height,
        column_config=dict(columns or {}),
        placeholder="–",
        key=f"table:{name}",
        **options,  # pyright: ignore[reportArgumentType]
    )
    downloads(frame, name)
    return event


def figure(plot: go.Figure, frame: pd.DataFrame, name: str, alt: str) -> None:
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


def grid(source: db.Source, ids: Sequence[str], captions: Sequence[str], alts: Sequence[str], key: str) -> None:
    """Images in rows that wrap, each with a button below it that opens the image's own page."""
    pictures = db.pictures(source, tuple(ids))
    with st.container(horizontal=True, gap="small"):
        for sample_id, caption, alt in zip(ids, captions, alts, strict=True):
            with st.container(width=TILE + 8, gap=None, key=f"tile:{key}:{sample_id}"):
                st.html(image_html(pictures.get(sample_id), alt, TILE), width=TILE + 8)
                st.button(
                    caption,
                    key=f"open:{key}:{sample_id}",
                    type="tertiary",
                    on_click=open_sample,
                    args=(sample_id,),
                    help=f"Open {alt}",
                )


def strip(source: db.Source, view: state.View, dataset: str, model: str = "", *, limit: int = 12) -> None:
    """The images behind a figure: those of a set that fewest models (or not `model`) get right, and a way to all."""
    catalogue = db.catalogue(source)
    labels = view.labels if view.labels in catalogue.sources.get(dataset, []) else db.ORIGINAL
    chosen = tuple(catalogue.choose(view.families))
    frame = db.images_of(source, dataset, labels, chosen)
    what = "that most models get wrong"
    if model:
        frame = frame[~db.correct(source, dataset, labels, (model,))[0]]
        what = f"that {catalogue.model_name(model)} gets wrong"
    frame = frame[frame["n_right"] < frame["n_models"]]
    worst = frame.sort_values(["n_right", "sample_id"]).head(limit)
    name = catalogue.dataset_name(dataset)
    st.markdown(f"**Images of {name} {what}**")
    if worst.empty:
        st.caption("There is none.")
        return
    names = catalogue.class_names(dataset)
    captions = [f"{names[row.label]} · {row.n_right}/{row.n_models}" for row in worst.itertuples()]
    alts = [
        f"image of {name}, label {names[row.label]}, {row.n_right} of {row.n_models} models right"
        for row in worst.itertuples()
    ]
    st.caption("Below each: its original label and how many of the models shown get it right.")
    grid(source, worst["sample_id"].tolist(), captions, alts, f"strip:{dataset}")
    st.button(
        f"All {len(frame):,} in Samples",
        key=f"all:{dataset}:{model}",
        on_click=see_all,
        kwargs={"dataset": dataset, "labels": labels, "wrong": model, "sort": "wrong"},
        icon=":material/arrow_forward:",
    )


def percent_columns(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Proportions as percent with one decimal, for showing."""
    return frame.assign(**{column: (100 * frame[column].astype(float)).round(1) for column in columns})


def with_interval(frame: pd.DataFrame) -> list[str]:
    """`93.1 [91.4, 94.6]` in percent for every row of value, ci_low, ci_high."""
    return [terms.percent(row.value, row.ci_low, row.ci_high).replace(" %", "") for row in frame.itertuples()]
