"""Relabel: images whose labels the models dispute, the given label beside what is proposed."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from bench import stats
from dashboard import db, parts, state, terms
from dashboard.frames import Frame, records

PER_PAGE = 12


def cards(source: db.Source, dataset: str, rows: Frame, names: dict[int, str]) -> None:
    """One card an image: picture, given label, proposals with their scores."""
    ids = tuple(rows["sample_id"])
    texts = dict(zip(ids, parts.instead_of(db.catalogue(source), dataset, rows["label"].tolist()), strict=True))
    pictures, proposed = db.pictures(source, ids), db.proposals(source, ids)
    with st.container(horizontal=True, gap="small"):
        for row in records(rows):
            lines = [
                f"{names[one.class_id]} · {100 * one.score:.0f} %{', given' if one.class_id == row.label else ''}"
                for one in records(proposed.loc[proposed["sample_id"] == row.sample_id])
            ]
            key = f"card:{row.sample_id}"
            with st.container(border=True, width=234, key=key), st.container(horizontal=True, gap="small"):
                with st.container(width=80, gap=None):
                    alt = f"image {row.sample_id}, given label {names[row.label]}"
                    st.html(parts.image_html(pictures.get(row.sample_id), alt, 76, texts[row.sample_id]), width=80)
                    parts.opener("Open", row.sample_id, f"open:{key}")
                with st.container(width=104, gap=None):
                    st.markdown(f"Given: **{names[row.label]}**")
                    st.markdown("Proposed:  \n" + "  \n".join(lines[:4]))


def recalled(source: db.Source, catalogue: db.Catalogue, wanted: float) -> None:
    """How many of the labels that are known the ensemble proposes, and which ensembles would propose more."""
    table = db.proposal_recall(source)
    if table.empty:
        return
    st.subheader("How many right labels are proposed?", anchor=False, help=terms.HELP["recall"])
    for (dataset, label_source), rows in table.groupby(["dataset", "label_source"], sort=False):
        mine = next(records(rows.loc[rows["role"].str.contains("configured")]))
        suggested = rows.loc[rows["role"].str.contains("suggested")]
        name = catalogue.dataset_name(str(dataset))
        said = f"**{terms.percent(mine.recall, mine.ci_low, mine.ci_high)}** of the {mine.n_labels:,} labels of "
        by = terms.labels_name(str(label_source))
        said += f"{mine.n_images:,} images of {name} with several labels ({by}) are among the {mine.top_k} proposed; "
        said += f"{100 * wanted:g} % needs {mine.top_k_needed} labels an image. "
        if suggested.empty:
            best = next(records(rows.loc[[rows["recall"].idxmax()]]))
            said += f"No ensemble of these models reaches it with {mine.top_k}: the best, "
            said += f"{named(catalogue, best.ensemble)}, has {terms.percent(best.recall, best.ci_low, best.ci_high)}."
        else:
            one = next(records(suggested))
            said += f"The smallest ensemble that reaches it is {named(catalogue, one.ensemble)} "
            said += f"({terms.percent(one.recall, one.ci_low, one.ci_high)})."
        st.markdown(said)
        shown = pd.DataFrame(
            {
                "Models": rows["n_models"],
                "Ensemble": [named(catalogue, ensemble) for ensemble in rows["ensemble"]],
                "Recall, %": (100 * rows["recall"].astype(float)).round(1),
                "From": (100 * rows["ci_low"].astype(float)).round(1),
                "To": (100 * rows["ci_high"].astype(float)).round(1),
                "Labels needed": rows["top_k_needed"],
                "": rows["role"].replace("path", "best of its size"),
            }
        )
        with st.expander("The best ensemble of each size"):
            parts.table(shown, f"recall-{dataset}-{label_source}", alt="Recall of ensembles that could propose")


def named(catalogue: db.Catalogue, ensemble: str) -> str:
    """The members of an ensemble, for people."""
    return " + ".join(catalogue.model_name(model) for model in ensemble.split(" + "))


def to_annotate() -> None:
    """Callback: go to the page Annotate."""
    st.session_state["goto"] = "annotate"


def main() -> None:
    source, view = st.session_state["source"], state.current()
    catalogue = db.catalogue(source)
    question = "Which labels do the models dispute?"
    name = catalogue.dataset_name(view.dataset)
    if not db.has_images(source):
        parts.aggregates_only(question)
        return
    proposed = db.proposed_datasets(source)
    if view.dataset not in proposed:
        parts.head(question, f"No labels are proposed for {name}.")
        if proposed:
            st.markdown("There are proposals for " + ", ".join(catalogue.dataset_name(one) for one in proposed) + ".")
        return
    frame = db.disputed(source, view.dataset)
    total = int(catalogue.datasets.at[view.dataset, "n_test"])
    doubted = int((frame["best_score"] > frame["given_score"]).sum())
    about = catalogue.subsets.query("subset == 'disputed' and dataset == @view.dataset")["about"]
    low, high = stats.wilson(len(frame), total, db.statistics(source)["confidence"])
    percent = terms.percent(len(frame) / total, float(low), float(high))
    share = f"**{len(frame):,}** of {total:,} test images of {name} ({percent}) are disputed"
    parts.head(question, f"{share}; for {doubted:,} of them another label is held more probable than the given one.")
    proposer = catalogue.model_name(str(frame["proposer"].iloc[0])) if len(frame) else ""
    st.caption(" ".join([*about, f"Proposals by {proposer}." if proposer else ""]))
    st.markdown(
        "A dispute is a reason to look, not a verdict: models share mistakes.",
        help=terms.HELP["proposals"],
    )
    st.button("Annotate these images", on_click=to_annotate, icon=":material/edit_note:")
    if frame.empty:
        recalled(source, catalogue, db.recall_wanted(source))
        return
    names = catalogue.class_names(view.dataset)
    pages = -(-len(frame) // PER_PAGE)
    page = state.within(pages).page
    cards(source, view.dataset, frame.iloc[(page - 1) * PER_PAGE : page * PER_PAGE], names)
    state.pager(pages)
    shown = pd.DataFrame(
        {
            "Image": frame["sample_id"],
            "Given": frame["label"].map(names),
            "Score of the given, %": (100 * frame["given_score"].astype(float)).round(1),
            "Best other": frame["best"].map(names),
            "Score of the other, %": (100 * frame["best_score"].astype(float)).round(1),
        }
    )
    with st.expander("As a table"):
        parts.table(shown, f"disputed-{view.dataset}", alt="Disputed images")
    recalled(source, catalogue, db.recall_wanted(source))


main()
