"""Annotate: the labels of one image after the other, by keyboard."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from bench import config as configuration
from bench.errors import BenchError
from bench.store import database
from dashboard import annotate, db, parts, state, terms


def main() -> None:
    source, view = st.session_state["source"], state.current()
    config = configuration.load(Path(os.environ.get("BENCH_ROOT", ".")) / "params.yaml")
    catalogue, question = db.catalogue(source), "Which labels does this image have?"
    name = catalogue.dataset_name(view.dataset)
    annotate.remembered()
    if not db.has_images(source):
        parts.aggregates_only(question)
        return
    if source.path != str(config.results / database.FILE):
        parts.head(question, "Only the results that are here can be annotated, not a snapshot that was opened.")
        st.markdown("Choose the local results in the picker of snapshots above.")
        return
    proposed = db.proposed_datasets(source)
    if view.dataset not in proposed:
        parts.head(question, f"No labels are proposed for {name}, so there is nothing to annotate.")
        if proposed:
            st.markdown("There are proposals for " + ", ".join(catalogue.dataset_name(one) for one in proposed) + ".")
        return
    try:
        store = annotate.connected(config)
        who = annotate.person(store, source)
    except (BenchError, SQLAlchemyError) as fault:
        parts.head(question, "Votes cannot be kept just now.")
        st.markdown(annotate.trouble(fault))
        return
    overlap = config.annotations.overlap
    parts.head(
        question,
        f"Say of each image of {name} which labels are right: {overlap} annotators look at each, blind to one another.",
    )
    if who is None:
        annotate.sign_in(store, source)
        return
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        annotate.badge(store, who)
        state.bound(
            st.selectbox,
            "What comes next",
            "queue",
            value=config.annotations.order,
            options=list(terms.ORDER),
            format_func=terms.ORDER.get,
            help=terms.HELP["queue"],
            width=320,
        )
    annotate.annotating(source, config, store, who, view.dataset, state.current().queue or config.annotations.order)


main()
