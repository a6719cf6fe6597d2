"""Parts that pages share: the head of a page, tables and figures with their downloads, and grids of images."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import db, findings, state, terms
from dashboard.frames import Frame, records

TILE = 92
"""Pixels a side of an image in a grid."""

REMARKS = 5
"""Models whose remarks a page repeats."""

LONG = 30
"""Rows of a matrix above which it scrolls in a box of its own."""

MATRIX = """<style>
.matrix {border-collapse: collapse; width: 100%; font-size: 0.86rem; font-variant-numeric: tabular-nums}
.matrix th {font-weight: 500; text-align: left; vertical-align: bottom; padding: 4px 6px; line-height: 1.2}
.matrix thead th {font-size: 0.78rem; opacity: 0.75; border-bottom: 1px solid #8a8f9866}
.matrix td {border-bottom: 1px solid #8a8f9833; padding: 0}
.matrix tbody th {vertical-align: middle; border-bottom: 1px solid #8a8f9833; white-space: nowrap}
.matrix td a {display: block; padding: 3px 6px; color: inherit; text-decoration: none}
.matrix td a:hover, .matrix td a:focus {background: #2a7fb833}
.matrix-box {max-height: 640px; overflow: auto}
.matrix-box thead th {position: sticky; top: 0; opacity: 1; background: var(--matrix-ground, Canvas)}
.matrix small {display: block; opacity: 0.7; font-size: 0.72rem; white-space: nowrap}
</style>"""

PLOT = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]}


def head(question: str, answer: str, more: str = "") -> None:
    """The title of a page, which is its question, and the answer to it in a sentence."""
    st.title(question, anchor=False)
    st.markdown(f"##### {answer}")
    if more:
        st.caption(more)


def plain(text: str) -> str:
    """Text that may hold anything, for Markdown: what Markdown or HTML would act on is escaped."""
    escaped = html.escape(text, quote=False)
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+-.!|~:$" else c for c in escaped)


def csv_bytes(frame: Frame) -> bytes:
    """A frame as CSV; empty cells where a value is missing."""
    return frame.to_csv(index=False).encode()


def parquet_bytes(frame: Frame) -> bytes:
    """A frame as Parquet."""
    stream = io.BytesIO()
    frame.to_parquet(stream, index=False, compression="zstd")
    return stream.getvalue()


def downloads(frame: Frame, name: str, make: Callable[[], Frame] | None = None, rows: int = 0) -> None:
    """Two buttons that give what is shown, as CSV and as Parquet; the bytes are made when they are asked for.

    Where `frame` is a part of many rows, `make` gives all of them, `rows`: so that no session holds them.
    """
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        for kind, encode, mime in (
            ("csv", csv_bytes, "text/csv"),
            ("parquet", parquet_bytes, "application/vnd.apache.parquet"),
        ):
            st.download_button(
                {"csv": "CSV", "parquet": "Parquet"}[kind],
                lambda encode=encode: encode(frame if make is None else make()),
                file_name=f"{name}.{kind}",
                mime=mime,
                key=f"download:{name}:{kind}",
                on_click="ignore",
                type="tertiary",
                icon=":material/download:",
                help=f"What is shown here, {rows or len(frame):,} rows",
            )


def table(
    frame: Frame,
    name: str,
    columns: Mapping[str, Any] | None = None,
    *,
    alt: str,
    make: Callable[[], Frame] | None = None,
    rows: int = 0,
) -> None:
    """A table of exactly these columns, and its downloads; `make` and `rows` as in `downloads`."""
    st.dataframe(
        frame,
        hide_index=True,
        height="content" if len(frame) <= 16 else 560,
        column_config=dict(columns or {}),
        placeholder="–",
        key=f"table:{name}",
        alt=alt,
    )
    downloads(frame, name, make, rows)


def trust(frame: Frame, attack: str) -> None:
    """The checks of an attack (rows of table `attack_trust`, with names): what they found in words, and the figures."""
    st.markdown(findings.trust(frame), help=terms.HELP["trust"])
    shown = pd.DataFrame(
        {
            "Gradient of": frame["name"],
            "No gradient, %": (100 * frame["zero_gradient"]).round(1),
            "Two passes differ by": frame["repeat_difference"],
            "Same answer at eps 0, %": (100 * frame["same_at_zero"]).round(1),
            "Right at any eps, %": (100 * frame["right_at_full"]).round(1),
            "Square alone fools, %": (100 * frame["square_gains"]).round(1),
            "n": frame["n"],
        }
    )
    if frame["asked"].eq(True).any():
        at = [[] if one is None else sorted(one) for one in frame["lowered"]]
        shown.insert(1, "In bfloat16 at", [", ".join(f"{eps:g}/255" for eps in some) or "–" for some in at])
    with st.expander("Checks of this attack"):
        table(shown, f"trust-{attack}", alt="Checks of the attack by model")


def figure(plot: go.Figure, frame: Frame, name: str, alt: str) -> None:
    """A figure, and the downloads of the frame that it was drawn from."""
    st.plotly_chart(plot, config=PLOT, key=f"figure:{name}", alt=alt)
    downloads(frame, f"{name}-figure")


def data_uri(picture: tuple[bytes, str]) -> str:
    """Encoded image bytes and their media type as a data URI."""
    data, media_type = picture
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def image_html(picture: tuple[bytes, str] | None, alt: str, size: int, instead: tuple[str, str] = ("", "")) -> str:
    """An image as HTML, its pixels kept as squares.

    Where there is no picture, a field with `instead`: the name of its class, and what hovering says of it.
    """
    box = f"width:{size}px;height:{size}px;border-radius:4px;"
    if picture is None:
        name, about = (html.escape(part, quote=True) for part in instead)
        style = (
            f"{box}background:#8a8f9833;font-size:{max(11, size // 14)}px;line-height:1.2;padding:6px;overflow:hidden;"
        )
        style += "display:flex;align-items:center;justify-content:center;text-align:center;overflow-wrap:anywhere"
        return f'<div style="{style}" title="{about}" role="img" aria-label="{html.escape(alt, quote=True)}">' + (
            f"{name or 'no picture'}</div>"
        )
    style = f"{box}image-rendering:pixelated;object-fit:contain;background:#8a8f9833"
    return f'<img src="{data_uri(picture)}" alt="{html.escape(alt, quote=True)}" style="{style}">'


def instead_of(catalogue: db.Catalogue, dataset: str, labels: Sequence[int]) -> list[tuple[str, str]]:
    """What tiles show in the place of pictures: the names of the classes and their definitions."""
    names = catalogue.class_names(dataset)
    return [(names[k], f"{names[k]}: {catalogue.definition(dataset, k) or 'no definition known'}") for k in labels]


def aggregates_only(question: str) -> None:
    """What a page that needs rows of single images shows where the snapshot has none."""
    head(question, "This snapshot holds no rows of single images: only figures over whole sets.")
    st.markdown("These commands fetch the data and compute all results from it; after that this page is filled.")
    preset = db.preset_of(st.session_state["source"], state.current().dataset) or "imagenet"
    st.code(f"bench data fetch {preset}\nbench preset add {preset}\ndvc repro", language="bash")


def lacking_pictures(source: db.Source, dataset: str) -> None:
    """How to get the pictures of a set that may not be passed on, where they are not here; nothing where they are."""
    preset = db.preset_of(source, dataset)
    if preset and db.lacks_pictures(source, dataset):
        st.caption(
            f"The pictures of this set may not be passed on. `bench data fetch {preset}` brings them to your checkout, "
            "verified; start the dashboard again after it."
        )


def open_sample(sample_id: str) -> None:
    """Callback: show one image (on the page Samples)."""
    state.change(sample=sample_id)
    st.session_state["goto"] = "samples"


def see_all(**values: object) -> None:
    """Callback: show the page Samples with these filters and no others."""
    clean = {"subset": "all", "label": "", "wrong": "", "right_by": "", "sort": "id"} | dict.fromkeys(state.RANGES)
    state.change(**(clean | values))
    st.session_state["goto"] = "samples"


def opener(caption: str, sample_id: str, key: str) -> None:
    """A button that opens the page of an image."""
    st.button(caption, key=key, type="tertiary", on_click=open_sample, args=(sample_id,))


def grid(
    source: db.Source,
    ids: Sequence[str],
    captions: Sequence[str],
    alts: Sequence[str],
    key: str,
    instead: Sequence[tuple[str, str]],
) -> None:
    """Images in rows that wrap, each with a button below it that opens the image's own page; `instead` as in a tile."""
    pictures = db.pictures(source, tuple(ids))
    with st.container(horizontal=True, gap="small"):
        for sample_id, caption, alt, text in zip(ids, captions, alts, instead, strict=True):
            with st.container(width=TILE + 8, gap=None, key=f"tile:{key}:{sample_id}"):
                st.html(image_html(pictures.get(sample_id), alt, TILE, text), width=TILE + 8)
                opener(caption, sample_id, f"open:{key}:{sample_id}")


def remarks(catalogue: db.Catalogue, models: Sequence[str]) -> None:
    """What to mind of the answers of some models, where their origin says so, each thing once; of many, the first."""
    minded: dict[str, list[str]] = {}
    for model in models:
        if model in catalogue.remarks:
            minded.setdefault(catalogue.remarks[model], []).append(catalogue.model_name(model))
    said = [(names, about) for about, names in minded.items()]
    lines = [f"{', '.join(names)}: {about}" for names, about in said[:REMARKS]]
    if len(said) > REMARKS:
        lines.append(f"{len(said) - REMARKS} more are on the page Snapshot")
    if lines:
        st.caption(f":material/warning: To mind. {'; '.join(lines)}.")


def strip(
    source: db.Source, view: state.View, dataset: str, model: str = "", *, subset: str = "all", limit: int = 12
) -> None:
    """The images behind a figure: those of a set that fewest models (or not `model`) get right, and a way to all."""
    if not db.has_images(source):
        st.caption("This snapshot holds no rows of single images, so the images behind the figures are not here.")
        return
    catalogue = db.catalogue(source)
    labels = view.labels if view.labels in catalogue.sources.get(dataset, []) else db.ORIGINAL
    chosen = state.models(catalogue, view, dataset)
    frame = db.images_of(source, dataset, labels, chosen)
    behind: dict[str, object] = {"dataset": dataset, "labels": labels, "subset": subset, "sort": "wrong"}
    what = "that fewest models get right"
    keep = frame["labelled"].to_numpy() & db.members(source, dataset, subset)
    if model:
        keep &= ~db.block(source, dataset, labels).right(model)
        what = f"that {catalogue.model_name(model)} gets wrong"
        behind["wrong"] = model
    elif len(frame):
        keep &= (frame["n_right"] < frame["n_models"]).to_numpy()
        behind["right"] = (0, len(chosen) - 1)
    frame = frame.loc[keep, ["sample_id", "label", "n_right", "n_models", "labelled"]]
    worst = frame.sort_values(["n_right", "sample_id"]).head(limit)
    name = catalogue.dataset_name(dataset)
    st.markdown(f"**Images of {name} {what}**")
    if worst.empty:
        st.caption("There is none.")
        return
    names = catalogue.class_names(dataset)
    captions, alts = captions_of(worst, names, labels)
    st.caption("Below each: its original label and how many of the models shown get it right.")
    instead = instead_of(catalogue, dataset, worst["label"].tolist())
    grid(source, worst["sample_id"].tolist(), captions, alts, f"strip:{dataset}", instead)
    st.button(
        f"All {len(frame):,} in Samples",
        key=f"all:{dataset}:{model}",
        on_click=see_all,
        kwargs=behind,
        icon=":material/arrow_forward:",
    )


def captions_of(frame: Frame, names: Mapping[int, str], labels: str) -> tuple[list[str], list[str]]:
    """What stands below images, and what is read out in place of them: their label and how many models are right.

    frame: sample_id, label, n_right, n_models, labelled; `labels`: the source by which an answer is right.
    """
    rows = list(records(frame))
    short = [
        f"{row.n_right}/{row.n_models}" if row.labelled else f"no {terms.labels_name(labels)} label" for row in rows
    ]
    long = [
        f"{row.n_right} of {row.n_models} models right"
        if row.labelled
        else f"no label of the source {terms.labels_name(labels)}"
        for row in rows
    ]
    captions = [f"{names[row.label]} · {text}" for row, text in zip(rows, short, strict=True)]
    alts = [f"image {row.sample_id}, label {names[row.label]}, {text}" for row, text in zip(rows, long, strict=True)]
    return captions, alts


def matrix(
    rows: Sequence[tuple[str, str]], columns: Sequence[str], cells: Mapping[tuple[str, int], tuple[str, str, str, str]]
) -> None:
    """A table whose cells have two lines and are links; narrow enough for many columns.

    rows: (key, name); columns: names; cells: (row key, column) -> text, small text, what hovering says, address (empty:
    no link). Many rows scroll in a box, under the names of the columns.
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
            link = f' href="{address}"' if address else ""
            line.append(f'<td><a{link} title="{hover}">{inside}</a></td>')
        lines.append(f"<tr>{''.join(line)}</tr>")
    body = f'<table class="matrix"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    st.html(f'{MATRIX}<div class="matrix-box">{body}</div>' if len(rows) > LONG else MATRIX + body)
