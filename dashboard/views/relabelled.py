"""Relabelled: what annotators changed, image by image and for every model, and what pending votes would change."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from bench import config as configuration
from bench.errors import BenchError
from bench.evaluate.correctness import CONSENSUS
from bench.relabel import export
from bench.store import database
from dashboard import annotate, db, parts, plots, relabelling, state, terms, whatif
from dashboard.frames import Frame, records

QUESTION = "What did relabelling change?"
PER_PAGE = 24


def main() -> None:
    source, view = st.session_state["source"], state.current()
    catalogue = db.catalogue(source)
    name = catalogue.dataset_name(view.dataset)
    if not db.has_images(source):
        parts.aggregates_only(QUESTION)
        return
    rows, total = annotated(source, view.dataset), len(db.images(source, view.dataset).ids)
    if rows.empty:
        voted = [catalogue.dataset_name(one) for one in db.voted_datasets(source)]
        more = f"There are votes on {', '.join(voted)}." if voted else "Label images on the page Annotate."
        parts.head(QUESTION, f"Nobody has annotated {name} in these results.", more)
    else:
        confidence = db.statistics(source)["confidence"]
        parts.head(QUESTION, relabelling.outcome(rows, total, name, confidence))
        process = db.label_processes(source).get((view.dataset, CONSENSUS), "")
        st.caption(process or f"By {relabelling.whose(rows['basis'].tolist())}.", help=terms.HELP["relabelled"])
        if rows["basis"].str.contains("simulated").any():
            st.caption(
                ":material/info: These votes are of **simulated annotators**, made from labels that are known to be "
                "true with mistakes of given rates. People's votes take their place."
            )
    shown = state.bound(
        st.segmented_control,
        "Show",
        "about",
        options=list(terms.RELABELLED),
        format_func=terms.RELABELLED.get,
        label_visibility="collapsed",
    )
    if shown == "pending":
        pending(source, view.dataset)
    elif rows.empty:
        return
    elif shown == "accuracy":
        accuracy(source, catalogue, view.dataset)
    elif shown == "rules":
        rules(source, view.dataset)
    elif view.sample in set(rows["sample_id"]):
        trail(source, catalogue, view)
    else:
        gallery(source, catalogue, view, rows)
        exports(source, catalogue, view.dataset)


@st.cache_data(max_entries=4, show_spinner=False)
def annotated(source: db.Source, dataset: str) -> Frame:
    """The annotated images of a set, as `relabelling.changes` gives them; empty where there are none."""
    decided = db.consensus(source, dataset)
    return relabelling.changes(decided, db.test_images(source, dataset)) if len(decided) else pd.DataFrame()


def gallery(source: db.Source, catalogue: db.Catalogue, view: state.View, rows: Frame) -> None:
    """Annotated images: what their label was, and what it is now."""
    counts = {flag: len(rows) if flag == "all" else int(rows[flag].sum()) for flag in terms.CHANGES}
    state.bound(
        st.segmented_control,
        "Images",
        "changed",
        options=list(terms.CHANGES),
        format_func=lambda flag: f"{terms.CHANGES[flag]} ({counts[flag]:,})",
    )
    chosen = rows if view.changed == "all" else rows.loc[rows[view.changed]]
    chosen = chosen.sort_values(["changed", "disputed", "sample_id"], ascending=[False, False, True])
    if chosen.empty:
        st.caption("There is none.")
        return
    names = catalogue.class_names(view.dataset)
    pages = -(-len(chosen) // PER_PAGE)
    page = state.within(pages).page
    part = chosen.iloc[(page - 1) * PER_PAGE : page * PER_PAGE]
    pictures = db.pictures(source, tuple(part["sample_id"]))
    texts = parts.instead_of(catalogue, view.dataset, part["label"].tolist())
    with st.container(horizontal=True, gap="small"):
        for row, text in zip(records(part), texts, strict=True):
            with st.container(border=True, width=186, key=f"relabelled:{row.sample_id}"):
                alt = f"image {row.sample_id}, given label {names[row.label]}"
                st.html(parts.image_html(pictures.get(row.sample_id), alt, 92, text), width=96)
                st.markdown(before_after(row, names))
                st.button(
                    "Trail",
                    key=f"trail:{row.sample_id}",
                    type="tertiary",
                    on_click=state.change,
                    kwargs={"sample": row.sample_id},
                )
    state.pager(pages)


def before_after(row: Frame, names: dict[int, str]) -> str:
    """The given label and those of the consensus, what went struck out and what came with a plus."""
    given = parts.plain(names[row.label])
    if row.disputed:
        return f"{given} → *disputed*"
    kept = [parts.plain(names[c]) for c in row.now if c == row.label]
    new = [f"**+ {parts.plain(names[c])}**" for c in row.now if c != row.label]
    return f"{given if kept else f'~~{given}~~'} → {', '.join([*kept, *new]) or 'no label'}"


def trail(source: db.Source, catalogue: db.Catalogue, view: state.View) -> None:
    """Everything that is known of the labels of one image, from the given one to the consensus."""
    st.button("All images", on_click=state.change, kwargs={"sample": ""}, icon=":material/arrow_back:")
    names = catalogue.class_names(view.dataset)
    events, ballots, decided = db.trail(source, view.sample)
    labels = db.labels_of(source, view.sample)
    left, right = st.columns([1, 2.4], gap="large")
    with left:
        given = labels.loc[labels["source"] == db.ORIGINAL, "class_id"].astype(int).tolist()
        [instead] = parts.instead_of(catalogue, view.dataset, given[:1])
        picture = db.pictures(source, (view.sample,)).get(view.sample)
        st.html(parts.image_html(picture, f"image {view.sample}", 240, instead))
        st.caption(f"`{view.sample}`")
        parts.opener("All answers of the models", view.sample, "trail-sample")
    with right:
        st.markdown("**1 · Labels by source**")
        processes = db.label_processes(source)
        for one, group in labels.groupby("source", sort=False):
            if one != CONSENSUS:
                about = processes.get((view.dataset, str(one)), "")
                listed = ", ".join(parts.plain(names[c]) for c in group["class_id"])
                st.markdown(f"{catalogue.labels_name(view.dataset, str(one))}: **{listed}**", help=about or None)
        st.markdown("**2 · Votes**")
        people(events, ballots, names)
        st.markdown("**3 · Consensus**", help=terms.HELP["rules"])
        rows = list(records(decided.sort_values(["state", "score"], ascending=[False, False])))
        shown = pd.DataFrame(
            {
                "Label": [names[row.class_id] for row in rows],
                "State": [row.state for row in rows],
                "Score": [round(row.score, 3) for row in rows],
                "Yes": [row.n_yes for row in rows],
                "No": [row.n_no for row in rows],
                "Unsure": [row.n_unsure for row in rows],
                "By": [terms.RULES.get(row.method, row.method) for row in rows],
                "Votes of": [row.basis for row in rows],
            }
        )
        parts.table(shown, "trail-consensus", alt="Consensus on each label")


def people(events: Frame, ballots: Frame, names: dict[int, str]) -> None:
    """Who said what, in the order of time; what does not count any more is struck out. Models and pooled votes last."""
    for (_, annotator, stage), rows in events.groupby(["submission", "annotator", "stage"], sort=False):
        first = rows.iloc[0]
        if first["action"] in ("undo", "redo"):
            continue
        yes = [parts.plain(names[c]) for c in rows.loc[rows["action"] == "yes", "class_id"].astype(int)]
        unsure = [f"{parts.plain(names[c])}?" for c in rows.loc[rows["action"] == "unsure", "class_id"].astype(int)]
        said = ", ".join([*yes, *unsure]) or "none of these"
        comment = " ".join(parts.plain(str(text)) for text in rows["comment"].dropna())
        who = parts.plain(relabelling.marked(str(annotator), str(first["kind"])))
        line = f"{who}{', refining' if stage == 'refine' else ''}: {said}"
        line = line if rows["counts"].any() else f"~~{line}~~ taken back or replaced"
        line += f"  \n“{comment}”" if comment else ""
        st.markdown(line, help=str(first["utc"])[:16].replace("T", " "))
    shown = set(events["annotator"])
    for annotator, rows in ballots.groupby("annotator", sort=False):
        if annotator in shown:
            continue
        yes = rows.loc[rows["n_yes"] > 0].sort_values("n_yes", ascending=False)
        pooled = bool(rows["pooled"].any())
        listed = [f"{parts.plain(names[r.class_id])}{f' {r.n_yes:,}' if pooled else ''}" for r in records(yes)]
        who = parts.plain(relabelling.marked(str(annotator), str(rows["kind"].iloc[0])))
        st.markdown(f"{who}{' (pooled votes)' if pooled else ''}: {', '.join(listed) or 'none of these'}")


def accuracy(source: db.Source, catalogue: db.Catalogue, dataset: str) -> None:
    """Accuracy of every model by the given labels and by the consensus; those that proposed the labels apart."""
    models = tuple(catalogue.choose((), (), dataset))
    subset = "annotated" if "annotated" in catalogue.subsets_of(dataset) else "all"

    def scored(among: str, label_source: str) -> Frame:
        found = db.accuracies(source, among, label_source, models)
        return found.loc[(found["dataset"] == dataset) & (found["label_source"] == label_source)]

    before, after = scored(subset, db.ORIGINAL), scored(subset, CONSENSUS)
    both = before.merge(after[["model", "value", "ci_low", "ci_high", "n"]], on="model", suffixes=("", "_after"))
    if both.empty:
        st.caption("No model answered to this set.")
        return
    proposers = members(source)
    both = both.assign(
        change_pp=100 * (both["value_after"] - both["value"]),
        proposes=both["model"].isin(proposers),
    ).sort_values("value_after", ascending=False)
    apart = both.groupby("proposes")["change_pp"].agg(["mean", "size"])
    if len(apart) == 2:
        theirs, others = apart.loc[True], apart.loc[False]
        by_theirs, by_others = (terms.points(one["mean"], sign=True) for one in (theirs, others))
        st.markdown(
            f"The {int(theirs['size'])} models that propose the labels change by {by_theirs} on average, the "
            f"{int(others['size'])} others by {by_others}.",
            help=terms.HELP["proposers"],
        )
    n, labelled = int(both["n"].iloc[0]), int(both["n_after"].iloc[0])
    st.caption(
        f"By the given label on the {n:,} annotated images, and by any label of the consensus on the {labelled:,} of "
        "them that have one."
    )
    rows = list(records(both))
    shown = pd.DataFrame(
        {
            "Model": [row.name for row in rows],
            "Proposes": ["yes" if row.proposes else "" for row in rows],
            "By given labels, %": [round(100 * row.value, 1) for row in rows],
            "By the consensus, %": [round(100 * row.value_after, 1) for row in rows],
            "From": [round(100 * row.ci_low_after, 1) for row in rows],
            "To": [round(100 * row.ci_high_after, 1) for row in rows],
            "Change, pp": [round(row.change_pp, 1) for row in rows],
        }
    )
    whole = [scored("all", one).set_index("model")["value"] for one in (db.ORIGINAL, CONSENSUS)]
    for column, values in zip(("Whole set, given, %", "Whole set, consensus, %"), whole, strict=True):
        shown[column] = [round(100 * float(values.get(row.model, np.nan)), 1) for row in rows]
    parts.figure(
        plots.accuracies(_long(both), "Accuracy"),
        both[["model", "name", "family", "value", "value_after", "ci_low_after", "ci_high_after", "n_after"]],
        "relabelled-accuracy",
        "Accuracy of every model by given labels and by the consensus",
    )
    parts.table(shown, f"relabelled-{dataset}", alt="Accuracies by given labels and by the consensus")


def _long(both: Frame) -> Frame:
    """Two rows a model, as plots.accuracies draws sets."""
    given = both.assign(dataset_name="By given labels", role="original")
    columns = {"value": "value_after", "ci_low": "ci_low_after", "ci_high": "ci_high_after", "n": "n_after"}
    after = both.assign(
        **{name: both[other] for name, other in columns.items()}, dataset_name="By the consensus", role="replication"
    )
    return pd.concat([given, after])


def members(source: db.Source) -> set[str]:
    """The ensemble that proposes labels, and its members."""
    _, ensembles = db.protocol(source)
    proposers = set(db.query(source, "SELECT DISTINCT proposer FROM proposals")["proposer"])
    return proposers.union(*(ensembles.get(one, []) for one in proposers))


def rules(source: db.Source, dataset: str) -> None:
    """What each rule makes of the same votes, beside what is true where that is known."""
    table = db.vote_rules(source, dataset)
    rows = [next(records(table.loc[table["rule"] == rule])) for rule in terms.RULES]
    shown = pd.DataFrame(
        {
            "Rule": [terms.RULES[row.rule] for row in rows],
            "Labels": [row.n_labels for row in rows],
            "Disputed": [row.n_disputed for row in rows],
            "Several labels, %": [round(100 * row.multi_share, 1) for row in rows],
            "From": [round(100 * row.ci_low, 1) for row in rows],
            "To": [round(100 * row.ci_high, 1) for row in rows],
            "Truly several, %": [round(100 * row.true_multi_share, 1) for row in rows],
            "Right of these labels, %": [round(100 * row.precision, 1) for row in rows],
            "Found of the true ones, %": [round(100 * row.recall, 1) for row in rows],
            "No label": [row.n_empty for row in rows],
            "Given label kept": [row.n_kept for row in rows],
        }
    ).dropna(axis=1, how="all")
    known = table["truth"].dropna()
    st.markdown(
        f"What each rule makes of the votes on {rows[0].n_images:,} images"
        + (
            f", beside the source “{terms.labels_name(str(known.iloc[0]))}”, which is known to be true."
            if len(known)
            else "."
        ),
        help=terms.HELP["rules"],
    )
    parts.table(shown, f"rules-{dataset}", alt="Rules for votes compared")


def exports(source: db.Source, catalogue: db.Catalogue, dataset: str) -> None:
    """The labels of the set as files that other programs read."""

    def given() -> export.Labelled:
        sql = """SELECT l.sample_id, l.class_id, l.weight FROM labels l JOIN samples s USING (sample_id)
                 WHERE s.dataset = ? AND s.split = 'test' AND l.source = ? ORDER BY ALL"""
        classes = pd.DataFrame(list(catalogue.class_names(dataset).items()), columns=["class_id", "name"])
        media = db.query(
            source,
            "SELECT media_type FROM images JOIN samples USING (sample_id) WHERE dataset = ? LIMIT 1",
            [dataset],
        )["media_type"]
        extension = export.EXTENSIONS.get(str(media.iloc[0]), export.EXTENSION) if len(media) else export.EXTENSION
        labels = db.query(source, sql, [dataset, CONSENSUS])
        samples, decided = db.test_images(source, dataset), db.consensus(source, dataset)
        return export.Labelled(dataset, CONSENSUS, samples, classes, labels, decided, extension)

    made_of = "-simulated" if dataset in catalogue.simulated else ""
    st.markdown("**The consensus as a file**", help=terms.HELP["exports"])
    made = {
        "refined": ("JSON (as published refined labels)", "json", "application/json", export.refined),
        "parquet": ("Parquet", "parquet", "application/vnd.apache.parquet", export.parquet),
        "csv": ("CSV for cleanlab", "csv", "text/csv", export.csv),
        "fiftyone": ("CSV for FiftyOne", "csv", "text/csv", export.fiftyone),
    }
    with st.container(horizontal=True, gap="small"):
        for key, (caption, suffix, mime, encode) in made.items():
            st.download_button(
                caption,
                lambda encode=encode: encode(given()),
                file_name=f"{dataset}-consensus{made_of}{'-fiftyone' if key == 'fiftyone' else ''}.{suffix}",
                mime=mime,
                key=f"export:{key}",
                on_click="ignore",
                type="tertiary",
                icon=":material/download:",
            )


def pending(source: db.Source, dataset: str) -> None:
    """What votes would change that are saved and not committed yet."""
    config = configuration.load(Path(os.environ.get("BENCH_ROOT", ".")) / "params.yaml")
    if source.path != str(config.results / database.FILE):
        st.markdown("Votes are waiting for the results that are here, not for a snapshot that was opened.")
        return
    try:
        whatif.show(source, config, dataset, annotate.connected(config))
    except (BenchError, SQLAlchemyError) as fault:
        st.markdown(annotate.trouble(fault))


main()
