"""Samples: which images fool which models; a grid with filters, and the page of one image."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import db, filters, parts, state, terms
from dashboard.frames import Frame, records

QUESTION = "Which images fool which models?"
PER_PAGE = 48
ROWS = 1000
"""Rows of the table that are sent to the browser."""
ORDER = {"wrong": ("n_right", 1), "answers": ("n_answers", -1)}


def controls(source: db.Source, catalogue: db.Catalogue, frame: Frame, view: state.View) -> None:
    """The filters of this page."""
    a, b, c, d = st.columns(4)
    with a:
        filters.class_picker(catalogue, view)
    with b:
        filters.model_picker(catalogue, view, "Wrong by", "wrong", "Only images that this model gets wrong.")
    with c:
        filters.model_picker(catalogue, view, "Right by", "right_by", "Only images that this model gets right.")
    with d:
        state.bound(st.selectbox, "Order", "sort", options=list(state.SORTS), format_func=state.SORTS.get)
    a, b, c, d = st.columns(4)
    models = int(frame["n_models"].max()) if len(frame) else 0
    with a:
        filters.unsure_slider(source, view)
    with b:
        filters.right_slider(source, view, models)
    with c:
        most = int(frame["n_answers"].max()) if len(frame) else 0
        filters.limits(st.slider, "Different answers", "answers", 1, max(most, 2), terms.HELP["answers"])
    with d:
        filters.labels_slider(source, view)


def select(source: db.Source, frame: Frame, view: state.View) -> np.ndarray:
    """Places of the rows that pass every filter, in the chosen order."""
    keep = filters.passing(source, view)
    if view.answers is not None:
        keep &= frame["n_answers"].between(*view.answers).to_numpy()
    found = np.flatnonzero(keep)
    if view.sort == "unsure":
        known = db.unsure(source, view.dataset, view.measure, view.reference)
        return found if known is None else found[np.argsort(-known[0][found], kind="stable")]
    if view.sort in ORDER:
        column, sign = ORDER[view.sort]
        keys = [sign * frame[column].to_numpy(np.int64)[found]]
        if view.sort == "wrong":  # what has no label of the source is neither right nor wrong, and comes last
            keys.append(~frame["labelled"].to_numpy()[found])
        return found[np.lexsort(keys)]
    return found


def browse(source: db.Source, view: state.View) -> None:
    """The grid."""
    catalogue = db.catalogue(source)
    chosen = state.models(catalogue, view)
    frame = db.images_of(source, view.dataset, view.labels, chosen)
    names = catalogue.class_names(view.dataset)
    name = catalogue.dataset_name(view.dataset)
    top = st.container()
    controls(source, catalogue, frame, view)
    view = state.current()
    found = select(source, frame, view)
    models = int(frame["n_models"].max()) if len(frame) else 0
    scored = frame["labelled"].to_numpy()[found]
    never = int((frame["n_right"].to_numpy()[found][scored] == 0).sum()) if models else 0
    with top:
        said = f"**{len(found):,}** of {len(frame):,} images of {name}"
        if len(found) and models:
            every = "the model" if models == 1 else f"all {models} models"
            said += f"; {f'{never:,}' if never else 'none'} of them {'fool' if never > 1 else 'fools'} {every}"
        parts.head(QUESTION, said + ".")
        if catalogue.datasets.at[view.dataset, "synthetic"]:
            st.caption(str(catalogue.datasets.at[view.dataset, "about"]))
    if not len(found):
        st.info("No image passes all filters.", icon=":material/filter_alt_off:")
        st.button("Clear the filters", on_click=parts.see_all, kwargs={"dataset": view.dataset})
        return
    pages = -(-len(found) // PER_PAGE)
    view = state.within(pages)
    shown = frame.iloc[found[(view.page - 1) * PER_PAGE : view.page * PER_PAGE]]
    st.caption("Below each image: its original label and how many models are right. Click for the image's page.")
    parts.lacking_pictures(source, view.dataset)
    captions, alts = parts.captions_of(shown, names, view.labels)
    instead = parts.instead_of(catalogue, view.dataset, shown["label"].tolist())
    parts.grid(source, shown["sample_id"].tolist(), captions, alts, "grid", instead)
    state.pager(pages)
    measure, reference = db.reference_of(source, view.dataset, view.measure, view.reference)
    with st.expander("As a table"):
        if len(found) > ROWS:
            st.caption(f"The first {ROWS:,} of {len(found):,} images; a download holds all of them.")
        parts.table(
            rows_of(source, view, ROWS),
            f"samples-{view.dataset}",
            {
                "sample_id": "Image",
                "label": "Label",
                "n_right": st.column_config.NumberColumn("Models right", help=terms.HELP["right"]),
                "n_models": "Models",
                "n_answers": st.column_config.NumberColumn("Answers", help=terms.HELP["answers"]),
                "uncertainty": st.column_config.NumberColumn(
                    terms.measure_name(measure) if measure else "Uncertainty",
                    format="%.3f",
                    help=f"Of {catalogue.model_name(reference)}. {terms.HELP['measure']}" if measure else "Not known.",
                ),
                "n_labels": st.column_config.NumberColumn("Labels", help=terms.HELP["nlabels"]),
            },
            alt="Images that pass the filters",
            make=lambda: rows_of(source, view),
            rows=len(found),
        )


def rows_of(source: db.Source, view: state.View, limit: int | None = None) -> Frame:
    """The images that pass the filters of a view, as a table; the first ones, or all.

    `n_right` is NULL where an image has no label of the source; the uncertainty is the one that the view asks for.
    """
    catalogue = db.catalogue(source)
    frame = db.images_of(source, view.dataset, view.labels, state.models(catalogue, view))
    found = select(source, frame, view)[:limit]
    rows = frame.iloc[found]
    known = db.unsure(source, view.dataset, view.measure, view.reference)
    columns = ["sample_id", "label", "n_right", "n_models", "n_answers", "uncertainty", "n_labels"]
    shown = rows[columns].assign(
        label=rows["label"].map(catalogue.class_names(view.dataset)),
        n_right=rows["n_right"].astype("Int32").where(rows["labelled"]),
        uncertainty=np.full(len(rows), np.nan, np.float32) if known is None else known[0][found],
    )
    return shown if known is not None else shown.drop(columns="uncertainty")


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
    accepted = labels.loc[labels["source"] == view.labels]["class_id"].tolist()
    frame = db.answers(source, view.sample)
    parts.head(
        f"What do the models see in this image, labelled {', '.join(names[c] for c in given)}?",
        verdict(frame["pred"], given, accepted, view.labels),
    )
    picture = db.pictures(source, (view.sample,)).get(view.sample)
    left, right_side = st.columns([1, 2.2], gap="large")
    with left:
        [instead] = parts.instead_of(catalogue, dataset, [int(str(row["label"]))])
        st.html(parts.image_html(picture, f"image {view.sample}", 260, instead))
        size = f" · {row['width']} × {row['height']} pixels" if str(row["width"]).isdecimal() else ""
        st.caption(f"{catalogue.dataset_name(dataset)} · `{view.sample}`{size}")
        parts.lacking_pictures(source, dataset)
        definitions = [(names[k], catalogue.definition(dataset, k)) for k in given]
        for name, about in definitions if picture is None else ():
            st.markdown(f"**{name}**: {about or 'no definition known'}")
        if catalogue.datasets.at[dataset, "synthetic"]:
            st.caption(str(catalogue.datasets.at[dataset, "about"]))
        if row["source_id"] != view.sample and db.sample(source, str(row["source_id"])):
            st.button("The image that it is made from", on_click=state.change, kwargs={"sample": row["source_id"]})
        by_source = pd.DataFrame(
            [
                (catalogue.labels_name(dataset, str(name)), ", ".join(names[c] for c in group["class_id"]))
                for name, group in labels.groupby("source", sort=False)
            ],
            columns=["Label source", "Labels"],
        )
        st.markdown("**Labels by source**", help=terms.HELP["labels"])
        parts.table(by_source, "labels", alt="Labels by source")
    with right_side:
        st.markdown("**Every model's answer**")
        shown = pd.DataFrame(
            {
                "Model": frame["name"],
                "Family": frame["family"].map(terms.FAMILY),
                "Answer": frame["pred"].map(names),
                "Right": frame["pred"].isin(accepted) if accepted else None,
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
        unknown = [
            column for column in ("Confidence", "Probability of the label", "Uncertainty") if empty(shown[column])
        ]
        if not accepted:
            st.caption(
                f"The source “{terms.labels_name(view.labels)}” gives this image no label, so no answer to it is right "
                "or wrong."
            )
        if len(unknown) == 3 and len(shown):
            st.caption("Of these models only the answers are known, without probabilities.")
        shown = shown.drop(columns=[*unknown, *(() if accepted else ["Right"])])
        kept = {column: about for column, about in config.items() if column in shown}
        parts.table(shown, "answers", kept, alt="Every model's answer")
    near = db.neighbours(source, view.sample)
    if len(near):
        encoder = catalogue.model_name(str(near["model"].iloc[0]))
        st.markdown("**Nearest images**", help=f"By the cosine of the features of {encoder}.")
        st.caption("Below each: its original label and the cosine. Click to go there.")
        captions = [f"{names.get(r.label, r.label)} · {r.similarity:.2f}" for r in records(near)]
        alts = [f"image {r.neighbour_id}, cosine {r.similarity:.2f}" for r in records(near)]
        instead = parts.instead_of(catalogue, dataset, near["label"].tolist())
        parts.grid(source, near["neighbour_id"].tolist(), captions, alts, "near", instead)


def empty(column: Any) -> bool:
    """Whether nothing of a column is known."""
    return bool(column.isna().all())


def verdict(answers: pd.Series, given: list[int], accepted: list[int], labels: str) -> str:
    """How many answers are right by a source of labels, `accepted`; by the original ones, `given`, if it gives none."""
    total = len(answers)
    original = f"**{int(answers.isin(given).sum())} of {total}** models give its original label"
    if labels == db.ORIGINAL:
        said = original
    elif accepted:
        name = terms.labels_name(labels)
        said = f"**{int(answers.isin(accepted).sum())} of {total}** models give a label of the source “{name}”"
    else:
        said = f"the source “{terms.labels_name(labels)}” gives it no label; {original}"
    different = int(answers.nunique())
    said += "; all answers are the same." if different == 1 else f"; there are {different} different answers."
    return said[0].upper() + said[1:]


def main() -> None:
    source, view = st.session_state["source"], state.current()
    if not db.has_images(source):
        parts.aggregates_only(QUESTION)
        return
    (one if view.sample else browse)(source, view)


main()
