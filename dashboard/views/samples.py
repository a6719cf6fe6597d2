"""Samples: which images fool which models; a grid with filters, and the page of one image."""

from __future__ import annotations

import html

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import db, parts, state, terms
from dashboard.frames import Frame, records

PER_PAGE = 48


def filters(catalogue: db.Catalogue, frame: Frame, view: state.View) -> None:
    """The filters of this page."""
    names = catalogue.class_names(view.dataset)
    a, b, c, d = st.columns(4)
    with a:
        state.bound(
            st.selectbox,
            "Class",
            "label",
            options=["", *map(str, names)],
            format_func=lambda c: names[int(c)] if c else "All classes",
            help="The original label of the image.",
        )
    with b:
        state.bound(
            st.selectbox,
            "Wrong by",
            "wrong",
            options=["", *catalogue.models["model"]],
            format_func=lambda m: catalogue.model_name(m) if m else "Any or no model",
            help="Only images that this model gets wrong.",
        )
    with c:
        state.bound(st.selectbox, "Order", "sort", options=list(state.SORTS), format_func=state.SORTS.get)
    with d:
        limits(
            st.slider,
            "Uncertainty, percentile",
            "unsure",
            0,
            100,
            terms.HELP["uncertainty"] + " By rank: 90 to 100 are the tenth of the images that are least certain.",
        )
    a, b, c = st.columns(3)
    models = int(frame["n_models"].max()) if len(frame) else 0
    with a:
        limits(st.slider, f"Models right, of {models}", "right", 0, max(models, 1), terms.HELP["right"])
    with b:
        limits(
            st.slider, "Different answers", "answers", 1, max(int(frame["n_answers"].max()), 2), terms.HELP["answers"]
        )
    with c:
        most = int(frame["n_labels"].max())
        if most > 1 or view.nlabels is not None:
            limits(st.slider, "Labels of the image", "nlabels", 0, max(most, 1), terms.HELP["nlabels"])


def limits(widget: object, label: str, field: str, low: int, high: int, about: str) -> None:
    """A slider of two ends; the whole range means no limit. A limit beyond the range (from a link) is drawn in."""
    now = getattr(state.current(), field)
    if now is not None:
        inside = (min(max(now[0], low), high), max(min(now[1], high), low))
        if inside != now:
            state.store(state.replace(state.current(), **{field: inside}))
    state.bound(widget, label, field, value=(low, high), min_value=low, max_value=high, help=about)  # pyright: ignore[reportArgumentType]


def select(source: db.Source, catalogue: db.Catalogue, frame: Frame, view: state.View) -> Frame:
    """The rows that pass every filter, in the chosen order."""
    keep = np.ones(len(frame), bool)
    if view.subset != "all":
        keep &= frame["sample_id"].isin(db.members(source, view.dataset, view.subset)).to_numpy()
    if view.label:
        keep &= (frame["label"] == int(view.label)).to_numpy()
    if view.wrong in set(catalogue.models["model"]):
        right = db.correct(source, view.dataset, view.labels, (view.wrong,))
        if len(right):
            keep &= ~right[0]
    for field, column in (("right", "n_right"), ("answers", "n_answers"), ("nlabels", "n_labels")):
        ends = getattr(view, field)
        if ends is not None:
            keep &= frame[column].between(*ends).to_numpy()
    if view.unsure is not None:
        place = 100 * frame["uncertainty"].rank(pct=True)
        keep &= place.between(*view.unsure).to_numpy()
    order = {"unsure": ("uncertainty", False), "wrong": ("n_right", True), "answers": ("n_answers", False)}
    found = frame[keep]
    if view.sort in order:
        column, ascending = order[view.sort]
        found = found.sort_values([column, "sample_id"], ascending=[ascending, True])
    return found


def browse(source: db.Source, view: state.View) -> None:
    """The grid."""
    catalogue = db.catalogue(source)
    frame = db.images_of(source, view.dataset, view.labels, tuple(catalogue.choose(view.families)))
    names = catalogue.class_names(view.dataset)
    name = catalogue.dataset_name(view.dataset)
    top = st.container()
    filters(catalogue, frame, view)
    view = state.current()
    found = select(source, catalogue, frame, view)
    models = int(frame["n_models"].max()) if len(frame) else 0
    never = int((found["n_right"] == 0).sum()) if models else 0
    with top:
        said = f"**{len(found):,}** of {len(frame):,} images of {name}"
        if len(found) and models:
            every = "the model" if models == 1 else f"all {models} models"
            said += f"; {never or 'none'} of them {'fool' if never > 1 else 'fools'} {every}"
        parts.head("Which images fool which models?", said + ".")
        if catalogue.datasets.at[view.dataset, "synthetic"]:
            st.caption(str(catalogue.datasets.at[view.dataset, "about"]))
    if found.empty:
        st.info("No image passes all filters.", icon=":material/filter_alt_off:")
        st.button("Clear the filters", on_click=parts.see_all, kwargs={"dataset": view.dataset})
        return
    pages = -(-len(found) // PER_PAGE)
    view = state.within(pages)
    shown = found.iloc[(view.page - 1) * PER_PAGE : view.page * PER_PAGE]
    st.caption("Below each image: its original label and how many models are right. Click for the image's page.")
    captions = [f"{names[row.label]} · {row.n_right}/{row.n_models}" for row in records(shown)]
    alts = [
        f"image {row.sample_id}, label {names[row.label]}, {row.n_right} of {row.n_models} models right"
        for row in records(shown)
    ]
    parts.grid(source, shown["sample_id"].tolist(), captions, alts, "grid")
    state.pager(pages)
    table = found.assign(label=found["label"].map(names))
    with st.expander("As a table"):
        parts.table(
            table[["sample_id", "label", "n_right", "n_models", "n_answers", "uncertainty", "n_labels"]],
            f"samples-{view.dataset}",
            {
                "sample_id": "Image",
                "label": "Label",
                "n_right": st.column_config.NumberColumn("Models right", help=terms.HELP["right"]),
                "n_models": "Models",
                "n_answers": st.column_config.NumberColumn("Answers", help=terms.HELP["answers"]),
                "uncertainty": st.column_config.NumberColumn(
                    "Uncertainty, nats", format="%.3f", help=terms.HELP["uncertainty"]
                ),
                "n_labels": st.column_config.NumberColumn("Labels", help=terms.HELP["nlabels"]),
            },
            alt="Images that pass the filters",
        )


def one(source: db.Source, view: state.View) -> None:
    """The page of one image."""
    catalogue = db.catalogue(source)
    st.button("Back to all images", icon=":material/arrow_back:", on_click=state.change, kwargs={"sample": ""})
    row = db.sample(source, view.sample)
    if row is None:
        st.warning(
            f"There is no test image `{html.escape(view.sample[:80])}` in this snapshot.", icon=":material/search_off:"
        )
        return
    dataset = str(row["dataset"])
    names = catalogue.class_names(dataset)
    labels = db.labels_of(source, view.sample)
    given = labels.loc[labels["source"] == db.ORIGINAL]["class_id"].tolist()
    frame = db.answers(source, view.sample)
    right = frame["pred"].isin(given)
    different = int(frame["pred"].nunique())
    parts.head(
        f"What do the models see in this image, labelled {', '.join(names[c] for c in given)}?",
        f"**{int(right.sum())} of {len(frame)}** models give its original label; "
        + ("all answers are the same." if different == 1 else f"there are {different} different answers."),
    )
    picture = db.pictures(source, (view.sample,)).get(view.sample)
    left, right_side = st.columns([1, 2.2], gap="large")
    with left:
        st.html(parts.image_html(picture, f"image {view.sample}", 260))
        st.caption(f"{catalogue.dataset_name(dataset)} · `{view.sample}` · {row['width']} × {row['height']} pixels")
        if catalogue.datasets.at[dataset, "synthetic"]:
            st.caption(str(catalogue.datasets.at[dataset, "about"]))
        if row["source_id"] != view.sample and db.sample(source, str(row["source_id"])):
            st.button("The image that it is made from", on_click=state.change, kwargs={"sample": row["source_id"]})
        by_source = pd.DataFrame(
            [
                (terms.labels_name(str(name)), ", ".join(names[c] for c in group["class_id"]))
                for name, group in labels.groupby("source", sort=False)
            ],
            columns=["Label source", "Labels"],
        )
        st.markdown("**Labels by source**", help=terms.HELP["labels"])
        parts.table(by_source, "labels", alt="Labels by source")
    with right_side:
        st.markdown("**Every model's answer**")
        accepted = {name: set(group["class_id"]) for name, group in labels.groupby("source")}
        chosen = accepted.get(view.labels, accepted.get(db.ORIGINAL, set()))
        shown = pd.DataFrame(
            {
                "Model": frame["name"],
                "Family": frame["family"].map(terms.FAMILY),
                "Answer": frame["pred"].map(names),
                "Right": frame["pred"].isin(chosen),
                "Confidence": 100 * frame["p_top1"],
                "Probability of the label": 100 * frame["p_true"],
                "Uncertainty": frame["entropy_nats"],
            }
        )
        bar = st.column_config.ProgressColumn
        config = {
            "Right": st.column_config.CheckboxColumn(help=f"Under: {terms.labels_name(view.labels)}", width="small"),
            "Confidence": bar(
                "Confidence, %", format="%.1f", min_value=0, max_value=100, help="Softmax probability of the answer."
            ),
            "Probability of the label": bar(
                "Label, %", format="%.1f", min_value=0, max_value=100, help="Softmax probability of the original label."
            ),
            "Uncertainty": st.column_config.NumberColumn(
                "Entropy, nats", format="%.2f", help=terms.HELP["uncertainty"]
            ),
        }
        parts.table(shown, "answers", config, alt="Every model's answer")
    near = db.neighbours(source, view.sample)
    if len(near):
        encoder = catalogue.model_name(str(near["model"].iloc[0]))
        st.markdown("**Nearest images**", help=f"By the cosine of the features of {encoder}.")
        st.caption("Below each: its original label and the cosine. Click to go there.")
        captions = [f"{names.get(r.label, r.label)} · {r.similarity:.2f}" for r in records(near)]
        alts = [f"image {r.neighbour_id}, cosine {r.similarity:.2f}" for r in records(near)]
        parts.grid(source, near["neighbour_id"].tolist(), captions, alts, "near")


def main() -> None:
    source, view = st.session_state["source"], state.current()
    (one if view.sample else browse)(source, view)


main()
