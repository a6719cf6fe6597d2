"""Map: images in the feature space of an encoder, beside the same images in that of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import db, findings, mapped, parts, plots, state, terms
from dashboard.frames import Frame, records

QUESTION = "Which images are alike to an encoder, and to another one?"
PER_PAGE = 48
SELECTED = "mapped"
"""Where a session keeps the images that were drawn around."""
CONFIG = parts.PLOT | {"modeBarButtonsToRemove": ["autoScale2d"]}
OTHER = "other classes"


def main() -> None:
    source, view = st.session_state["source"], state.current()
    if not db.has_images(source):
        parts.aggregates_only(QUESTION)
        return
    catalogue = db.catalogue(source)
    encoders = db.encoders(source, view.dataset)
    if not encoders:
        absent(source, catalogue, view)
        return
    top = st.container()
    models = pick(catalogue, encoders, view)
    view = state.current()
    with top:
        answer(source, catalogue, view, models)
    frame, groups = points(source, catalogue, view, models)
    shared = pickable(source, frame, models)
    chosen = [one for one in st.session_state.get(SELECTED, ()) if one in shared.index]
    shared = shared.iloc[np.argsort(~shared.index.isin(chosen), kind="stable")]
    picked = view.picked if view.picked in shared.index else str(shared.index[0])
    for column, model in zip(st.columns(len(models)), models, strict=True):
        with column:
            one_map(source, catalogue, view, model, frame, groups, chosen, picked)
    st.caption(
        "Sizes of clusters and distances between them mean little on these maps: UMAP only tries to keep who is near "
        f"to whom. The neighbours below are computed from all features, among the {len(frame):,} mapped images of all "
        "sets."
    )
    selection(source, catalogue, view, chosen)
    neighbours(source, catalogue, view, models, shared, picked)


def absent(source: db.Source, catalogue: db.Catalogue, view: state.View) -> None:
    """Why there is no map, and what makes one."""
    if db.encoders(source):
        name = catalogue.dataset_name(view.dataset)
        parts.head(QUESTION, f"No encoder was run here on {name}, so there is no map of it.")
        st.markdown("A map needs the features of a network. Of the models of this set only answers are known.")
        return
    parts.head(QUESTION, "These results hold no maps.")
    st.markdown("They were made before there were any, or hold no model that was run here. Where there are models:")
    st.code("dvc repro maps database", language="bash")


def pick(catalogue: db.Catalogue, encoders: Sequence[str], view: state.View) -> tuple[str, ...]:
    """The encoder and, where there are several, the one beside it; with what colours points."""
    family = catalogue.models.set_index("model")["family"]
    columns = st.columns(4)
    first = next((model for model in encoders if family[model] == "ssl"), encoders[0])
    with columns[0]:
        shown: dict[str, Any] = {"format_func": catalogue.model_name, "help": terms.HELP["map"]}
        state.bound(st.selectbox, "Encoder", "encoder", value=first, options=encoders, **shown)
    if view.encoder and view.encoder not in encoders:
        st.caption(f"{catalogue.model_name(view.encoder)} has no map of this set.")
    first = view.encoder if view.encoder in encoders else first
    others = [model for model in encoders if model != first]
    second = next((model for model in others if family[model] == "supervised"), others[0] if others else "")
    if others:
        with columns[1]:
            state.bound(st.selectbox, "Beside it", "second", value=second, options=others, **shown)
        second = view.second if view.second in others else second
    with columns[2]:
        state.bound(
            st.segmented_control,
            "Colour",
            "dots",
            options=list(terms.MAPPED),
            format_func=terms.MAPPED.get,
            required=True,
        )
    if view.dots == "right":
        answering = catalogue.answering.get(view.dataset, frozenset())
        with columns[3]:
            state.bound(
                st.selectbox,
                "Right or wrong by",
                "judge",
                value=first,
                options=[model for model in catalogue.models["model"] if model in answering],
                format_func=catalogue.model_name,
                help=terms.HELP["accuracy"],
            )
    return (first, second) if second else (first,)


def answer(source: db.Source, catalogue: db.Catalogue, view: state.View, models: tuple[str, ...]) -> None:
    """The head: what two encoders have in common, or what one makes of labels."""
    found = mapped.agreement(source, view.dataset, models)
    names = [f"**{catalogue.model_name(model)}**" for model in models]
    name, every = catalogue.dataset_name(view.dataset), len(db.images(source, view.dataset).ids)
    nearest = f"the {found.k} images nearest to an image of {name}"
    if found.common is None:
        said = f"Of {nearest}, {share(found.same[0])} have its label for {names[0]}."
    else:
        said = f"Of {nearest}, {names[0]} and {names[1]} have {share(found.common)} in common."
    more = f"Averages over the {found.n:,} of its {every:,} test images that are mapped, chosen by a hash of their ids."
    parts.head(QUESTION, said, more)
    if found.more_pp is not None:
        alike = " and ".join(f"{share(one)} for {who}" for one, who in zip(found.same, names, strict=True))
        verdict = findings.verdict(*found.more_pp[1:])
        end = {"more": "more", "less": "fewer"}.get(verdict)
        said = f": {names[0]} has {end}" if end else ": the two cannot be told apart"
        st.markdown(
            f"Neighbours with the image's own label: {alike}{said} ({terms.points(*found.more_pp, sign=True)}).",
            help=terms.HELP["same_label"],
        )
    rows = [(f"Same label, {catalogue.model_name(model)}", one) for model, one in zip(models, found.same, strict=True)]
    rows += [("In common", found.common)] * (found.common is not None)
    with st.expander("As a table"):
        shown = pd.DataFrame(
            {
                "Nearest images": [said for said, _ in rows],
                "Share, %": [100 * one.value for _, one in rows if one],
                "From": [100 * one.low for _, one in rows if one],
                "To": [100 * one.high for _, one in rows if one],
                "By chance, %": [100 * one.chance for _, one in rows if one],
                "Images": found.n,
            }
        )
        number = st.column_config.NumberColumn
        config = {column: number(format="%.1f") for column in ("Share, %", "From", "To", "By chance, %")}
        config["Nearest images"] = st.column_config.TextColumn(
            help=f"{terms.HELP['nearest']} {terms.HELP['in_common']} {terms.HELP['same_label']}"
        )
        parts.table(shown, f"map-agreement-{view.dataset}", config, alt="Shares of nearest images, with intervals")


def share(one: mapped.Share) -> str:
    """A share with its interval and chance, for a sentence."""
    return f"**{terms.percent(one.value, one.low, one.high)}** ({100 * one.chance:.1f} % by chance)"


def points(
    source: db.Source, catalogue: db.Catalogue, view: state.View, models: tuple[str, ...]
) -> tuple[Frame, list[str]]:
    """The mapped images by sample_id: dataset, label, origin, group (empty: of another set), label_name; and the
    groups."""
    frame = db.map_of(source, models[0])[["sample_id", "dataset", "label", "origin"]].copy()
    names = catalogue.class_names(view.dataset)
    here = (frame["dataset"] == view.dataset).to_numpy()
    judge = view.judge if view.judge in catalogue.answering.get(view.dataset, frozenset()) else models[0]
    if view.dots == "right":
        ids, found = db.images(source, view.dataset).ids, db.block(source, view.dataset, view.labels)
        state_of = pd.Series(np.where(found.right(judge), "right", "wrong"), index=ids)
        state_of[~found.labelled] = "no label"
        group = state_of.reindex(frame["sample_id"]).to_numpy(object)
        groups = [one for one in ("right", "wrong", "no label") if one in set(group[here])]
    else:
        counts = frame.loc[here, "label"].value_counts()
        own = set(counts.index if len(counts) <= len(plots.CLASSES) else counts.index[: len(plots.CLASSES) - 1])
        group = np.array([names[k] if k in own else OTHER for k in frame["label"]], object)
        groups = [names[k] for k in names if k in own] + [OTHER] * (len(own) < len(counts))
    return frame.assign(group=np.where(here, group, ""), label_name=frame["label"].map(names)), groups


def pickable(source: db.Source, frame: Frame, models: tuple[str, ...]) -> pd.Series:
    """sample_id -> share of its neighbours that both encoders have, the smallest first; of one encoder, with its label.

    Of the mapped images of the chosen set.
    """
    here = frame.loc[frame["group"] != ""]
    near = [db.map_neighbours(source, model) for model in models]
    near = [one.loc[one["sample_id"].isin(here["sample_id"])] for one in near]
    found = mapped.in_common(*near) if len(near) > 1 else mapped.same_label(here, near[0])
    return found.sort_values(kind="stable")


def one_map(
    source: db.Source,
    catalogue: db.Catalogue,
    view: state.View,
    model: str,
    frame: Frame,
    groups: list[str],
    chosen: list[str],
    picked: str,
) -> None:
    """The map of one encoder, in which images can be drawn around, and its downloads."""
    name = catalogue.model_name(model)
    st.markdown(f"**{name}**", help=terms.HELP["map"])
    shown = frame.merge(db.map_of(source, model)[["sample_id", "x", "y"]], on="sample_id")
    near = db.map_neighbours(source, model)
    rings = [{picked}, set(near.loc[near["sample_id"] == picked, "neighbour_id"])]
    key = f"figure:map:{model}"
    st.plotly_chart(
        plots.mapped(shown, groups, chosen, rings),
        config=CONFIG,
        key=key,
        on_select=lambda: select(key),
        selection_mode=("points", "box", "lasso"),
        alt=f"Map of {len(shown)} images in the features of {name}",
    )
    kept = shown[["sample_id", "dataset", "label", "x", "y"]].assign(model=model)
    parts.downloads(kept.assign(selected=kept["sample_id"].isin(chosen)), f"map-{model}-figure")


def select(key: str) -> None:
    """Callback: keep the images that were drawn around; a single point that was clicked is looked at.

    Streamlit tells of clicks only while a drag does not draw.
    """
    found = st.session_state[key]["selection"]
    ids = tuple(dict.fromkeys(filter(None, map(sample_of, found["points"]))))
    if len(ids) == 1 and not found.get("lasso") and not found.get("box"):
        state.change(picked=ids[0])
        return
    st.session_state[SELECTED] = ids
    state.change(page=1)


def sample_of(point: Any) -> str:
    """The image of a selected point; empty where it is of no image that can be picked."""
    said = point.get("customdata")
    said = said[0] if isinstance(said, list) and said else said
    return said if isinstance(said, str) else ""


def clear() -> None:
    """Callback: nothing is selected any more."""
    st.session_state[SELECTED] = ()
    state.change(page=1)


def selection(source: db.Source, catalogue: db.Catalogue, view: state.View, chosen: list[str]) -> None:
    """The images that were drawn around."""
    name = catalogue.dataset_name(view.dataset)
    st.subheader("Selected images", anchor=False)
    if not chosen:
        st.caption(
            f"Draw around images of {name} with the lasso or the box of either map: they appear here, and stand out on "
            "both maps. While panning or zooming (buttons above a map), a click on an image shows its neighbours below."
        )
        return
    frame = db.images_of(source, view.dataset, view.labels, state.models(catalogue, view))
    frame = frame.loc[frame["sample_id"].isin(chosen)]
    names = catalogue.class_names(view.dataset)
    counts = frame["label"].value_counts()
    most = ", ".join(f"{n} × {names[k]}" for k, n in counts.head(5).items())
    st.markdown(f"**{len(frame):,}** images of {name}: {most}{' and others' if len(counts) > 5 else ''}.")
    st.button("Clear the selection", on_click=clear, icon=":material/deselect:")
    pages = -(-len(frame) // PER_PAGE)
    view = state.within(pages)
    shown = frame.iloc[(view.page - 1) * PER_PAGE : view.page * PER_PAGE]
    st.caption("Below each image: its original label and how many models are right. Click for the image's page.")
    captions, alts = parts.captions_of(shown, names, view.labels)
    instead = parts.instead_of(catalogue, view.dataset, shown["label"].tolist())
    parts.lacking_pictures(source, view.dataset)
    parts.grid(source, shown["sample_id"].tolist(), captions, alts, "map", instead)
    state.pager(pages)
    with st.expander("As a table"):
        kept = frame[["sample_id", "label", "n_right", "n_models"]]
        kept = kept.assign(label=kept["label"].map(names), n_right=kept["n_right"].where(frame["labelled"]))
        columns = {"sample_id": "Image", "label": "Label", "n_right": "Models right", "n_models": "Models"}
        parts.table(kept, f"map-selected-{view.dataset}", columns, alt="Images that were drawn around")


def neighbours(
    source: db.Source,
    catalogue: db.Catalogue,
    view: state.View,
    models: tuple[str, ...],
    shared: pd.Series,
    picked: str,
) -> None:
    """The nearest images of one image under each encoder, side by side."""
    st.subheader("Nearest images of one image", anchor=False, help=terms.HELP["nearest"])
    names = catalogue.class_names(view.dataset)
    label = db.map_of(source, models[0]).set_index("sample_id")["label"]
    near = [db.map_neighbours(source, model) for model in models]
    near = [one.loc[one["sample_id"] == picked] for one in near]
    k = len(near[0])
    what = "neighbours in common" if len(models) > 1 else "neighbours with its label"
    left, right = st.columns([1, 3])
    with left:
        parts.grid(
            source,
            [picked],
            [f"{names[label[picked]]} · open"],
            [f"image {picked}, label {names[label[picked]]}"],
            "picked",
            parts.instead_of(catalogue, view.dataset, [int(label[picked])]),
        )
    with right:
        state.bound(
            st.selectbox,
            "Image",
            "picked",
            value=str(shared.index[0]),
            options=shared.index.tolist(),
            format_func=lambda one: f"{one}, label {names[label[one]]}",
            help=f"The mapped images of the set, the selected ones first, and of these those with the fewest {what}.",
        )
        st.markdown(f"{round(float(shared.at[picked]) * k)} of {k} {what}.")
    origins = [set(one["origin"]) for one in near]
    for column, model, rows, other in zip(st.columns(len(models)), models, near, reversed(origins), strict=True):
        with column:
            alike = int((rows["label"] == label[picked]).sum())
            st.markdown(f"**{catalogue.model_name(model)}**: {alike} of {k} have its label")
            captions, alts = [], []
            for row in records(rows):
                both = " · both" if len(models) > 1 and row.origin in other else ""
                captions.append(f"{names[row.label]} · {row.similarity:.2f}{both}")
                alts.append(f"image {row.neighbour_id}, label {names[row.label]}, cosine {row.similarity:.2f}{both}")
            instead = parts.instead_of(catalogue, view.dataset, rows["label"].tolist())
            parts.grid(source, rows["neighbour_id"].tolist(), captions, alts, f"near:{model}", instead)
    both = " “both”: it is near for the other encoder too." if len(models) > 1 else ""
    st.caption(f"Below each: its original label and the cosine.{both} Click for the image's page.")
    table = pd.concat([rows.assign(model=model) for model, rows in zip(models, near, strict=True)])
    with st.expander("As a table"):
        shown = table.assign(model=table["model"].map(catalogue.model_name), label=[names[c] for c in table["label"]])
        shown = shown[["model", "rank", "neighbour_id", "label", "similarity"]]
        columns: dict[str, Any] = {"model": "Encoder", "rank": "Rank", "neighbour_id": "Image", "label": "Label"}
        columns["similarity"] = st.column_config.NumberColumn("Cosine", format="%.3f")
        parts.table(shown, "map-neighbours", columns, alt="Nearest images under each encoder")


main()
