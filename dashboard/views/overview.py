"""Overview: what this snapshot supports, and how every model does on every set."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from bench import compute, stats
from dashboard import db, findings, parts, plots, state, terms
from dashboard.frames import Frame, records


def best_of(frame: Frame, family: str, dataset: str) -> Frame | None:
    """The most accurate model of a family on a set; the ensemble is not one model and does not count."""
    mine = frame.loc[(frame["family"] == family) & (frame["dataset"] == dataset) & (frame["method"] != "ensemble")]
    return None if mine.empty else mine.loc[mine["value"].idxmax()]


def three(source: db.Source, chosen: str) -> list[tuple[str, str]]:
    """(heading, sentence) of each finding that the snapshot supports: about the original of the chosen set and what is
    held against it, over all models and images, whatever the other filters say."""
    catalogue = db.catalogue(source)
    original = catalogue.original_of(chosen)
    every = tuple(catalogue.choose((), (), original))
    frame = db.accuracies(source, "all", db.ORIGINAL, every)
    numbers = db.statistics(source)
    said: list[tuple[str, str]] = []
    name = catalogue.dataset_name(original)

    singles = frame.loc[(frame["dataset"] == original) & (frame["method"] != "ensemble")]
    others, null = catalogue.held_against(original), catalogue.null_halves()
    if others and len(singles):
        best = str(singles.loc[singles["value"].idxmax(), "model"])
        gaps = db.gaps(source, original, others[0], "top1", tuple(singles["model"]))
        sentence = findings.gap(gaps, best, name, catalogue.dataset_name(others[0]))
        sentence += " " + findings.null(db.gaps(source, *null, "top1", every), best) if null else ""
        said.append(("Another set", sentence))

    a, b = best_of(frame, "supervised", original), best_of(frame, "ssl", original)
    if a is not None and b is not None:
        found = db.pairs(source, original, (a.model, b.model)).get((a.model, b.model))
        names = f"{a['name']} (the best supervised model)", f"{b['name']} (the best self-supervised one)"
        said.append(("Self-supervision", findings.against(found, *names, name, numbers["alpha"])))

    for attack, called in catalogue.attacks.items() if db.has_images(source) else ():
        frame = db.under(source, "attack", attack, every)
        frame = frame.loc[(frame["level"] > 0)]
        frame = frame.loc[frame["level"] == frame["level"].min()]
        spaces = catalogue.datasets["label_space"]
        frame = frame.loc[frame["dataset"].map(spaces) == spaces[original]]
        dataset = str(frame["dataset"].iloc[0]) if len(frame) else ""
        a, b = best_of(frame, "supervised", dataset), best_of(frame, "ssl", dataset)
        if a is not None and b is not None:
            said.append(("Under attack", robust(source, a, b, attack, called, numbers)))
            break
    return [(heading, sentence) for heading, sentence in said if sentence]


def robust(source: db.Source, a: Frame, b: Frame, attack: str, name: str, numbers: dict[str, float]) -> str:
    """The most robust model of two families against each other on the same attacked images."""
    only_a, only_b, n = db.robust_pair(source, a.model, b.model, f"attack:{attack}:{a.level:g}")
    if not n:  # a release may hold single images under other conditions alone
        return ""
    low, high = stats.bootstrap_paired_counts(
        only_a, only_b, n, compute.rng("robust", a.model, b.model), confidence=numbers["confidence"]
    )
    found = findings.Pair(a.model, b.model, 100 * (only_a - only_b) / n, 100 * low, 100 * high, n)
    names = f"{a['name']} (the most robust supervised model)", f"{b['name']} (the most robust self-supervised one)"
    return findings.robust(found, *names, f"{name}, {terms.strength(name, a.level)}", numbers["alpha"])


def answer(rows: Frame, where: str) -> str:
    """Which model is best on the chosen set, with those that share its place."""
    if rows.empty:
        return f"None of the chosen models has results on {where}."
    best = rows.sort_values("value", ascending=False).iloc[0]
    said = f"**{best['name']}** is right on {terms.percent(best.value, best.ci_low, best.ci_high)} of {where}"
    if rows["rank"].isna().any() or len(rows) == 1:
        return said + "."
    tied = rows.loc[(rows["rank"] == best["rank"]) & (rows["model"] != best["model"])]
    if tied.empty:
        return said + ", ahead of all others shown."
    return said + f"; {len(tied)} other {'model shares' if len(tied) == 1 else 'models share'} its place."


def main() -> None:
    source, view = st.session_state["source"], state.current()
    catalogue = db.catalogue(source)
    models = state.models(catalogue, view)
    frame = db.accuracies(source, view.subset, view.labels, models)
    rows = frame.loc[frame["dataset"] == view.dataset]
    name = catalogue.dataset_name(view.dataset)
    where = name if view.subset == "all" else f"{name}, {terms.subset_name(view.subset).lower()}"
    parts.head("How accurate is each model, and where?", answer(rows, where))

    with st.container(border=True):
        facts = db.snapshot(source)
        answers = int(facts.get("count:predictions", 0))
        about = catalogue.dataset_name(catalogue.original_of(view.dataset))
        known = [one for one in catalogue.answering.values() if one]
        st.markdown(
            f"**What these results support** about {about} · in all {len(frozenset().union(*known))} models, "
            f"{len(known)} sets of images" + (f", {answers:,} answers" if answers else ""),
            help="Sentences made from the tables, over all models and images, whatever the filters but the set say. "
            + terms.HELP["interval"],
        )
        for heading, sentence in three(source, view.dataset):
            st.markdown(f"- **{heading}.** {sentence}")

    if rows.empty:
        return
    st.subheader(f"Accuracy on {where}", anchor=False, help=f"{terms.HELP['accuracy']} {terms.HELP['interval']}")
    role = str(catalogue.datasets.at[view.dataset, "role"])
    n = f"n = {rows['n'].max():,}"
    rows = rows.assign(dataset_name=name, role=role)
    shown = rows[["model", "name", "family", "dataset_name", "value", "ci_low", "ci_high", "n"]]
    parts.figure(
        plots.accuracies(rows, f"Accuracy on {where}, {terms.labels_within(view.labels)} labels ({n})"),
        shown,
        f"accuracy-{view.dataset}",
        f"Accuracy of {len(rows)} models on {where}, with intervals",
    )
    parts.remarks(catalogue, rows["model"].tolist())

    st.subheader("Every model on every set", anchor=False, help=f"{terms.HELP['place']} {terms.HELP['interval']}")
    note = "Place among all models in brackets; models that cannot be told apart share it."
    st.caption(
        f"Accuracy in %, below it the {terms.level(db.statistics(source)['confidence'])} interval"
        + ("; a cell leads to the images that the model gets wrong. " if db.has_images(source) else ". ")
        + (note if view.subset == "all" else "Places are for all images only.")
    )
    matrix(source, view, frame)
    parts.strip(source, view, view.dataset, subset=view.subset)


def matrix(source: db.Source, view: state.View, frame: Frame) -> None:
    """Models (best on the chosen set on top) by sets; each cell leads to the images that the model gets wrong there."""
    catalogue = db.catalogue(source)
    sets = [view.dataset, *(one for one in catalogue.datasets.index if one != view.dataset)]
    sets = [one for one in sets if one in set(frame["dataset"])]
    linked = db.has_images(source)
    order = frame.loc[frame["dataset"] == view.dataset].sort_values("value", ascending=False)
    cells = {}
    for row in records(frame):
        place = "" if pd.isna(row.rank) else f" ({int(row.rank)})"
        places = "" if pd.isna(row.rank) else f", place {int(row.rank_low)} to {int(row.rank_high)}"
        hover = f"{row.name}, {catalogue.dataset_name(row.dataset)}: n = {row.n:,}{places}."
        hover += " Open the images it gets wrong." if linked else ""
        hover += f" To mind: {catalogue.remarks[row.model]}." if row.model in catalogue.remarks else ""
        address = state.address(
            "samples",
            state.replace(
                view,
                dataset=row.dataset,
                labels=row.label_source,
                subset=view.subset,
                wrong=row.model,
                label="",
                right_by="",
                page=1,
                sample="",
                **dict.fromkeys(state.RANGES),
            ),
        )
        address = address if linked else ""
        value, interval = terms.percent(row.value, row.ci_low, row.ci_high).split(" % ")
        cells[row.model, sets.index(row.dataset)] = (f"{value}{place}", interval, hover, address)
    rows = list(zip(order["model"], order["name"], strict=True))
    parts.matrix(rows, [catalogue.dataset_name(one) for one in sets], cells)
    shown = frame.assign(dataset_name=frame["dataset"].map(catalogue.dataset_name))
    columns = ["model", "name", "family", "dataset", "dataset_name", "label_source", "value", "ci_low", "ci_high", "n"]
    parts.downloads(shown[[*columns, "rank", "rank_low", "rank_high"]], "models-by-sets")


main()
