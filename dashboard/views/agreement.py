"""Agreement: how far annotators agree, whom to trust, and the disputed images once more."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from bench import config as configuration
from bench.config import Config
from bench.errors import BenchError
from bench.relabel import votes
from bench.relabel.agreement import MOST_PAIRS
from bench.store import database
from dashboard import annotate, db, parts, plots, relabelling, state, terms, whatif
from dashboard.frames import Frame, records

QUESTION = "Do the annotators agree?"
KINDS = {"human": "person", "simulated": "simulated", "machine": "model"}
MOST = 60
"""Disputed images that are shown at once."""


def main() -> None:
    source, view = st.session_state["source"], state.current()
    catalogue = db.catalogue(source)
    name, everyone = catalogue.dataset_name(view.dataset), db.annotators(source, view.dataset)
    together = db.agreement(source, view.dataset).query("annotator_a == '*'")
    if together.empty:
        said = f"No image of {name} has been annotated by two in these results."
        voted = [catalogue.dataset_name(one) for one in db.voted_datasets(source)]
        if view.dataset in db.voted_datasets(source) and everyone.empty:
            said = f"Of the votes on {name} only counts are known, so nothing can be said of single annotators."
        parts.head(QUESTION, said, f"There are votes on {', '.join(voted)}." if voted else "")
    else:
        row = together.iloc[0].to_dict()
        parts.head(QUESTION, relabelling.agreed(row, name))
        if n := int(row["n_simulated"]):
            st.caption(
                f":material/info: {n} of these {int(row['n_annotators'])} annotators are **simulated**: made from "
                "labels that are known to be true, with mistakes of given rates."
            )
        st.markdown("What each of these means is one hover away.", help=terms.HELP["agreement"])
    if not db.has_images(source):
        figures(source, view.dataset, everyone)
        return
    shown = state.bound(
        st.segmented_control,
        "Show",
        "agree",
        options=list(terms.AGREEING),
        format_func=terms.AGREEING.get,
        label_visibility="collapsed",
    )
    if shown == "refine":
        refine(source, catalogue, view)
    elif shown == "disputed":
        contested(source, catalogue, view)
    else:
        figures(source, view.dataset, everyone)


def figures(source: db.Source, dataset: str, everyone: Frame) -> None:
    """Annotators, pairs of them, and ticks by place."""
    if everyone.empty:
        return
    rows = list(records(everyone))
    shown = pd.DataFrame(
        {
            "Annotator": [row.annotator for row in rows],
            "Kind": [KINDS[row.kind] for row in rows],
            "Images": [row.n_images for row in rows],
            "Yes, %": [round(100 * row.yes_share, 1) for row in rows],
            "Sensitivity, %": [round(100 * row.sensitivity, 1) for row in rows],
            "Specificity, %": [round(100 * row.specificity, 1) for row in rows],
            "Alpha with others": [round(row.agreement_alpha, 2) for row in rows],
            "Seconds an image": [round(row.ms_median / 1000, 1) for row in rows],
        }
    ).dropna(axis=1, how="all")
    st.subheader("Annotators", anchor=False, help=terms.HELP["dawid_skene"])
    parts.table(shown, f"annotators-{dataset}", alt="Annotators and their rates")
    marked = {row.annotator: relabelling.marked(row.annotator, row.kind) for row in rows}
    pairs = db.agreement(source, dataset).query("annotator_a != '*'")
    if len(pairs):
        st.subheader("Pairs of annotators", anchor=False, help=terms.HELP["agreement"])
        rows = list(records(pairs.sort_values("jaccard")))
        shown = pd.DataFrame(
            {
                "Annotators": [f"{marked[row.annotator_a]} – {marked[row.annotator_b]}" for row in rows],
                "Images": [row.n_images for row in rows],
                "Sets differ, %": [round(100 * row.disagreement, 1) for row in rows],
                "Jaccard": [round(row.jaccard, 3) for row in rows],
                "From": [round(row.jaccard_low, 3) for row in rows],
                "To": [round(row.jaccard_high, 3) for row in rows],
                "Alpha": [round(row.alpha, 3) for row in rows],
            }
        )
        parts.table(shown, f"pairs-{dataset}", alt="Agreement of each pair of annotators")
        if len(pairs) == MOST_PAIRS:
            st.caption(f"At most {MOST_PAIRS} pairs, those with the most images in common.")
    rates = db.tick_rates(source, dataset)
    if len(rates):
        rates = rates.assign(annotator=rates["annotator"].map(lambda who: marked.get(who, who)))
        st.subheader("Ticks by place", anchor=False, help=terms.HELP["ticks"])
        parts.figure(
            plots.ticks(rates, "Place at which a label was shown", "Said yes to"),
            rates,
            f"ticks-{dataset}",
            "How often each annotator says yes to the label at each place",
        )


def _live(source: db.Source, config: Config) -> bool:
    return source.path == str(config.results / database.FILE)


def _disputed(source: db.Source, dataset: str) -> tuple[Config, votes.Store, Frame] | None:
    """What was said of the disputed images of a set, committed or not; None, and why, where that cannot be told."""
    config = configuration.load(Path(os.environ.get("BENCH_ROOT", ".")) / "params.yaml")
    if not _live(source, config):
        st.markdown("Only the results that are here are annotated, not a snapshot that was opened.")
        return None
    try:
        store = annotate.connected(config)
        known = whatif.now(source, config, dataset, store)
    except (BenchError, SQLAlchemyError) as fault:
        st.markdown(annotate.trouble(fault))
        return None
    whatif.foreign(known)
    return config, store, known.disputed


def counted(said: Frame, name: str) -> str:
    """How many images are disputed, and why, in a sentence."""
    each = said.drop_duplicates("sample_id")
    differ, left = int(each["differ"].sum()), int(each["open"].sum())
    refined = said.loc[said["method"] == "refined", "sample_id"].nunique()
    why = [f"on {differ:,} annotators answer differently"] if differ else []
    why += [f"of {left:,} the votes leave a label undecided"] if left or not differ else []
    text = f"**{len(each):,}** disputed image{'s' * (len(each) != 1)} of {name}, the most contested first: "
    text += ", and ".join(why)
    return f"{text}; {refined:,} {'is' if refined == 1 else 'are'} refined already." if refined else f"{text}."


def contested(source: db.Source, catalogue: db.Catalogue, view: state.View) -> None:
    """Images that are disputed, and who said what where that is asked for."""
    found = _disputed(source, view.dataset)
    if found is None:
        return
    *_, said = found
    ids = said["sample_id"].drop_duplicates().tolist()
    name, names = catalogue.dataset_name(view.dataset), catalogue.class_names(view.dataset)
    if not ids:
        st.markdown(f"No image of {name} is disputed, committed or not.")
        return
    st.markdown(counted(said, name), help=terms.HELP["disputed"])
    named = _named()
    pictures = db.pictures(source, tuple(ids[:MOST]))
    given = {row.sample_id: row.label for row in records(db.images_of(source, view.dataset, db.ORIGINAL, ()))}
    with st.container(horizontal=True, gap="small"):
        for sample_id, rows in said.loc[said["sample_id"].isin(ids[:MOST])].groupby("sample_id", sort=False):
            with st.container(border=True, width=234, key=f"disputed:{sample_id}"):
                alt = f"image {sample_id}"
                instead = parts.instead_of(catalogue, view.dataset, [given[sample_id]])[0]
                st.html(parts.image_html(pictures.get(str(sample_id)), alt, 92, instead), width=96)
                lines = []
                for class_id, ballots in rows.groupby("class_id"):
                    if ballots["state"].iloc[0] == "no" and not ballots[["n_yes", "n_unsure"]].to_numpy().any():
                        continue
                    lines.append(f"**{parts.plain(names[int(str(class_id))])}** {_votes(ballots, named=named)}")
                st.markdown("  \n".join(lines))
                parts.opener("Open", str(sample_id), f"open-disputed:{sample_id}")
    if len(ids) > MOST:
        st.caption(f"The first {MOST} are shown.")


def _votes(ballots: Frame, *, named: bool) -> str:
    """What was said of one label: by whom, or how many said it."""
    if named:
        said = ", ".join(f"{parts.plain(who)}: {answer}" for who, answer in relabelling.said_of(ballots))
    else:
        sums = ballots[["n_yes", "n_no", "n_unsure"]].sum().astype(int).tolist()
        counts = zip(sums, ("yes", "no", "unsure"), strict=True)
        said = ", ".join(f"{n:,} {answer}" for n, answer in counts if n or answer != "unsure") if any(sums) else ""
    said = said or "nobody judged it"
    return f"{said} → *{ballots['state'].iloc[0]}, refined*" if ballots["method"].iloc[0] == "refined" else said


def _named() -> bool:
    return (
        state.bound(
            st.segmented_control,
            "Who said what",
            "who",
            options=list(terms.WHO),
            format_func=terms.WHO.get,
            help=terms.HELP["who"],
        )
        == "shown"
    )


def refine(source: db.Source, catalogue: db.Catalogue, view: state.View) -> None:
    """The disputed images once more, one after the other; what is decided here overrides the votes."""
    found = _disputed(source, view.dataset)
    if found is None:
        return
    config, store, said = found
    annotate.remembered()
    try:
        who = annotate.person(store, source)
    except SQLAlchemyError as fault:
        st.markdown(annotate.trouble(fault))
        return
    if who is None:
        annotate.sign_in(store, source)
        return
    annotate.badge(store, who)
    if said.empty:
        name = catalogue.dataset_name(view.dataset)
        st.markdown(f"No image of {name} is disputed, so there is nothing to refine.")
        return
    st.markdown(
        "Labels that an annotator ticked or that may be right are ticked: take away what is wrong. A decision "
        "overrides the votes, and is kept as one of its own.",
        help=terms.HELP["refine"],
    )
    named = _named()
    annotate.refinement(source, config, store, who, view.dataset, said, named=named)


main()
