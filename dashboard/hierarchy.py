"""Where images that transfer land among kinds of things: parts of the page Attacks (study 5), and papers' figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from bench.studies import published
from dashboard import db, parts, plots, state, terms
from dashboard.frames import Frame, records

ALL = "all"
ANY = "any group"
LEVELS = 4
"""Rings of the sunburst that are shown at once; a click on one shows what is below it."""
LIMIT = 12
"""Images that are shown."""
MIXED = "#b9a04a"
"""Of a kind that holds classes of the chosen group and others."""


def landing(source: db.Source, catalogue: db.Catalogue, view: state.View, condition: str) -> None:
    """How far transfers go, how many leave the group of the label, and where those of a group land."""
    left = db.misclassification(source, "leaving", condition)
    if left.empty:
        return
    st.subheader("Do they leave the kind of the label?", anchor=False, help=terms.HELP["leaving"])
    st.markdown(left_sentence(left))
    far = db.misclassification(source, "distances", condition)
    if len(far):
        st.markdown(apart_sentence(far))
    shown = pd.DataFrame(
        {
            "Group of the label": left["collection"].replace(ALL, "smallest of each image"),
            "Wrong": [terms.percent(row.rate, row.rate_low, row.rate_high) for row in records(left)],
            "Outside it": [
                terms.percent(row.corrected, row.corrected_low, row.corrected_high) for row in records(left)
            ],
            "By clean p, %": (100 * left["null"]).round(1),
            "Right or inside, %": (100 * (1 - left["corrected"])).round(1),
            "Shown": left["n"],
            "Images": left["n_images"],
            "Classes": left["n_classes"],
        }
    )
    parts.table(shown, "leaving", alt="Transfers that leave the group of the label")
    st.caption(
        "Of suitable images that were made on one model and shown to another: answered wrongly, and with a class "
        "outside the group. By clean p: as many transfers, each to a class drawn by the target's own clean "
        "probabilities without the label."
    )
    if len(far):
        distances(far)
    rings(source, catalogue, view, condition)


def left_sentence(left: Frame) -> str:
    """How many transfers leave the smallest group of their label: rows of table `misclassification_leaving`."""
    one = left.loc[left["collection"] == ALL].iloc[0]
    return (
        f"{terms.percent(one['rate'], one['rate_low'], one['rate_high'])} of what is shown to another model is "
        f"answered wrongly, and {terms.percent(one['corrected'], one['corrected_low'], one['corrected_high'])} with a "
        "class outside the smallest group of its label (the attack's success, semantically corrected); drawn by "
        f"the clean probabilities it would be {terms.percent(one['null'])} (n = {int(one['n']):,}, "
        f"{int(one['n_images']):,} images)."
    )


def apart_sentence(far: Frame) -> str:
    """How far from the label transfers end: rows of table `misclassification_distances`."""
    one = far.loc[(far["collection"] == ALL) & (far["measure"] == "steps")].iloc[0]
    mean = terms.number(one["value"], one["ci_low"], one["ci_high"])
    over = terms.number(one["over_null"], one["over_null_low"], one["over_null_high"], sign=True)
    return (
        f"In WordNet the class that is answered is {mean} steps from the label; any other class would be "
        f"{one['chance']:.1f}, one drawn by the clean probabilities {one['null']:.1f}: {over} over that."
    )


def distances(far: Frame) -> None:
    """How far from the label, by group and measure."""
    with st.expander("How far from the label, by group"):
        shown = pd.DataFrame(
            {
                "Group of the label": far["collection"].replace(ALL, "all classes"),
                "In WordNet": far["measure"].map(terms.APART),
                "Mean": [terms.number(row.value, row.ci_low, row.ci_high) for row in records(far)],
                "By chance": far["chance"].round(2),
                "By clean probabilities": far["null"].round(2),
                "Over that": [
                    terms.number(row.over_null, row.over_null_low, row.over_null_high, sign=True)
                    for row in records(far)
                ],
                "Transfers": far["n"],
                "Images": far["n_images"],
            }
        )
        parts.table(shown, "apart", alt="Distance from the label in WordNet")
        st.caption(terms.HELP["apart"])


def rings(source: db.Source, catalogue: db.Catalogue, view: state.View, condition: str) -> None:
    """Where transfers of the images of one group land, as rings of groups and classes, and some of these images."""
    st.subheader("Where do they land?", anchor=False, help=terms.HELP["rings"])
    flows = db.misclassification(source, "flows", condition)
    frame = db.class_groups(source, view.dataset)
    groups = {str(name): rows["class_id"].tolist() for name, rows in frame.groupby("collection", sort=False)}
    names = catalogue.class_names(view.dataset)
    known = [name for name, members in groups.items() if flows["label"].isin(members).any()]
    one, two = st.columns(2)
    with one:
        pick("Label in", "kin", known)
    kin = view.kin if view.kin in known else ALL
    mine = flows if kin == ALL else flows.loc[flows["label"].isin(groups[kin])]
    landed = mine.groupby("pred", as_index=False)["n"].sum()
    parts.figure(
        sunburst(landed, names, groups, set(groups.get(kin, ()))),
        mine.assign(label=[names[k] for k in mine["label"]], pred=[names[k] for k in mine["pred"]]),
        "landing",
        "Where transfers land among groups of classes",
    )
    where = "" if kin == ALL else " Blue: in the group of the label; orange: outside; in between: both."
    st.caption(
        f"{int(mine['n'].sum()):,} transfers of images with a label in {ANY if kin == ALL else kin}, by the "
        f"class that is answered. A click on a group shows what is below it.{where} Groups are this benchmark's own; a "
        "class stands in those that hold one another."
    )
    with two:
        lands = [name for name, members in groups.items() if mine["pred"].isin(members).any()]
        pick("Landed in", "land", lands)
    land = view.land if view.land in lands else ALL
    labels, preds = (None if one == ALL else tuple(groups[one]) for one in (kin, land))
    images(source, catalogue, view, db.landed(source, condition, labels, preds))


def pick(label: str, key: str, groups: Sequence[str]) -> None:
    """A group of classes, or any, bound to a field of the view."""
    options = [ALL, *groups]
    state.bound(
        st.selectbox, label, key, value=ALL, options=options, format_func=lambda one: ANY if one == ALL else one
    )


def images(source: db.Source, catalogue: db.Catalogue, view: state.View, rows: Frame) -> None:
    """Some of the images, those that most models take for one class first."""
    if rows.empty:
        st.caption("No such image, or this snapshot holds no rows of single images.")
        return
    names = catalogue.class_names(view.dataset)
    some = rows.head(LIMIT)
    st.caption(
        f"{len(some)} of {len(rows):,} images, as they are when clean. Below each: its label, what it is most often "
        "taken for there when attacked, and by how many pairs of models."
    )
    captions = [f"{names[row.label]} → {names[row.pred]} · {row.n}" for row in records(some)]
    alts = [f"image {row.sample_id}, label {names[row.label]}, then {names[row.pred]}" for row in records(some)]
    instead = parts.instead_of(catalogue, view.dataset, some["label"])
    parts.grid(source, some["sample_id"].tolist(), captions, alts, "landed", instead)
    parts.lacking_pictures(source, view.dataset)


def lineage(class_id: int, groups: Mapping[str, Sequence[int]]) -> list[str]:
    """The groups that hold a class, from the largest down, each part of the one before."""
    out: list[str] = []
    for name, members in sorted(groups.items(), key=lambda item: -len(item[1])):
        if class_id in members and (not out or set(members) < set(groups[out[-1]])):
            out.append(name)
    return out


def sunburst(
    landed: Frame, names: Mapping[int, str], groups: Mapping[str, Sequence[int]], chosen: set[int]
) -> go.Figure:
    """Numbers of transfers (columns pred, n) by the groups and classes that they land in. Colours tell whether
    these are in `chosen` (class ids; none: all in one colour)."""
    counts: dict[tuple[str, ...], int] = defaultdict(int)
    holds: dict[tuple[str, ...], set[bool]] = defaultdict(set)
    for row in records(landed):
        way = (ALL, *lineage(int(row.pred), groups), f"class {int(row.pred)}")
        for end in range(1, len(way) + 1):
            counts[way[:end]] += int(row.n)
            holds[way[:end]].add(int(row.pred) in chosen)
    total = max(counts[(ALL,)], 1)
    ways = sorted(counts)

    def called(way: tuple[str, ...]) -> str:
        last = way[-1]
        return "all transfers" if last == ALL else names[int(last[6:])] if last.startswith("class ") else last

    def colour(way: tuple[str, ...]) -> str:
        if len(way) == 1:
            return plots.GREY
        if not chosen or holds[way] == {True}:
            return plots.COLOUR["supervised"]
        return plots.COLOUR["ssl"] if holds[way] == {False} else MIXED

    trace: plots.Trace = {
        "type": "sunburst",
        "ids": ["/".join(way) for way in ways],
        "parents": ["/".join(way[:-1]) for way in ways],
        "labels": [called(way) for way in ways],
        "values": [counts[way] for way in ways],
        "branchvalues": "total",
        "maxdepth": LEVELS,
        "sort": True,
        "marker": {"colors": [colour(way) for way in ways], "line": {"color": "#ffffff", "width": 1}},
        "hovertext": [
            f"<b>{called(way)}</b><br>{counts[way]:,} transfers, {terms.percent(counts[way] / total)} of {total:,}"
            for way in ways
        ],
        "hoverinfo": "text",
        "insidetextfont": {"color": "#ffffff"},
        "outsidetextfont": {"color": "#ffffff"},  # of the middle
        "insidetextorientation": "auto",
    }
    return go.Figure({"data": [trace], "layout": {"height": 480, "margin": {"l": 0, "r": 0, "t": 8, "b": 8}}})


def theirs_of_pairs() -> None:
    """The paper's own matrix."""
    held = published.load()
    rates = np.array(held.matrix.rates, float)
    with st.expander("The paper's matrix: theirs, not computed here"):
        frame = pd.DataFrame(rates, index=list(held.matrix.models), columns=list(held.matrix.models))
        parts.figure(
            plots.transfers(rates / 100, held.matrix.models, held.matrix.models, "The authors' seven models, PGD"),
            frame.reset_index(names="made on"),
            "transfer-matrix-theirs",
            "The paper's transfer matrix: how often images made on one model are answered wrongly by another",
        )
        st.caption(
            f"{held.matrix.source}. {held.images:,} images of ImageNet that all seven get right when clean; mean "
            f"{terms.percent(float(np.nanmean(rates)) / 100)} of a pair, together {held.matrix.transferred:,} "
            "adversarial images. Other models, images and attack settings than above, and without intervals: the two "
            "cannot be compared cell by cell."
        )


def theirs_of_groups(taken: Frame, label_space: str) -> None:
    """The paper's shares beside those of the same, or the nearest, groups here (rows of table `misclassifications`);
    nothing where the classes are others than theirs."""
    held = published.load()
    if label_space != held.collections.label_space:
        return
    mine = taken.pivot(index="collection", columns="measure", values="share")
    rows = [row for row in held.collections.rows if row.group in mine.index]

    def ours(row: published.Collection, measure: str) -> float:
        return 100 * float(mine.at[row.group, measure]) if measure in mine else float("nan")

    with st.expander("The paper's collections: theirs, beside the nearest groups here"):
        columns: dict[str, list[object]] = {"Theirs": [row.name for row in rows], "Here": [row.group for row in rows]}
        for measure, title in (("inside", "inside"), ("top3", "within 3"), ("top5", "within 5")):
            columns[f"{title}, theirs, %"] = [getattr(row, measure) for row in rows]
            columns[f"{title}, here, %"] = [round(ours(row, measure), 1) for row in rows]
        parts.table(pd.DataFrame(columns), "collections-theirs", alt="The paper's shares beside those here")
        st.caption(
            f"{held.collections.source}: {held.transferred:,} transfers of seven models by several attacks. Their 64 "
            "collections were named by hand and are not at hand; those here are synsets of WordNet."
        )
