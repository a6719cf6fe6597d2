"""Filter: how every model does on any choice of images; each filter is a mask, each figure a count of bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from bench import stats
from bench.store import bits
from dashboard import db, filters, parts, plots, ranked, state, terms
from dashboard.frames import Frame

QUESTION = "How does every model do on just these images?"
THRESHOLDS = 50


def controls(source: db.Source, catalogue: db.Catalogue, view: state.View, models: int) -> None:
    """The filters of this page."""
    a, b, c, d = st.columns(4)
    with a:
        filters.class_picker(catalogue, view)
    with b:
        filters.model_picker(catalogue, view, "Wrong by", "wrong", "Only images that this model gets wrong.")
    with c:
        filters.model_picker(catalogue, view, "Right by", "right_by", "Only images that this model gets right.")
    with d:
        filters.right_slider(source, view, models)
    known = db.measured(source, view.dataset)
    a, b, c, d = st.columns(4)
    with d if known else b:
        filters.labels_slider(source, view)
    with a:
        filters.unsure_slider(source, view)
    if not known:
        return
    with b:
        state.bound(
            st.selectbox,
            "Measure of uncertainty",
            "measure",
            value=db.reference_of(source, view.dataset)[0],
            options=list(known),
            format_func=terms.MEASURE.get,
            help=terms.HELP["measure"],
        )
    with c:
        state.bound(
            st.selectbox,
            "Uncertainty of",
            "reference",
            value=db.reference_of(source, view.dataset, view.measure)[1],
            options=list(known[view.measure]),
            format_func=catalogue.model_name,
            help=terms.HELP["reference"],
        )


@st.fragment
def page() -> None:
    """All of the page: only this runs again where one of its own widgets changes."""
    if "goto" in st.session_state:
        st.rerun()
    source, view = st.session_state["source"], state.apart()
    view = with_reference(source, view)
    catalogue = db.catalogue(source)
    models = state.models(catalogue, view)
    top, bar, middle = st.container(), st.container(), st.container()
    keep = filters.passing(source, view)
    mask = bits.mask_of(keep)
    frame, n = db.under_mask(source, view.dataset, view.labels, models, mask)
    name = catalogue.dataset_name(view.dataset)
    with middle:  # first of all the figure, for which a reader waits
        if len(frame):
            said = f"Accuracy on these images of {name}, {terms.labels_within(view.labels)} labels"
            ranked.figure(
                frame,
                f"{said} (n = {n:,} of {len(keep):,})",
                f"filter-{view.dataset}",
                f"Accuracy of {len(frame)} models on {n:,} images, with intervals; grey: on all images of the set",
            )
    with top:
        without = unscored(view, int(keep.sum()) - n)
        parts.head(QUESTION, answer(frame, n, len(keep), name, view), f"{circular(view)} {without}".strip())
    with bar:
        controls(source, catalogue, view, len(models))
    with st.container(horizontal=True):
        if keep.any():
            st.button(f"See these {int(keep.sum()):,} images", icon=":material/grid_view:", on_click=see)
        st.button("Clear the filters", icon=":material/filter_alt_off:", on_click=clear)
        if not models:
            show_all = {"families": (), "models": ()}
            st.button("Show all models", icon=":material/groups:", on_click=state.change, kwargs=show_all)
    parts.remarks(catalogue, frame["model"].tolist())
    if frame.empty:
        return
    state.bound(
        st.segmented_control,
        "More about these images",
        "part",
        options=list(state.PARTS),
        format_func=state.PARTS.get,
        required=True,
    )
    view = with_reference(source, state.current())
    if view.part == "hard":
        difficulty(source, view, models, keep)
    elif view.part == "table":
        table(frame, view.dataset)
    elif view.part == "sweep":
        sweep(source, catalogue, view, frame, mask)
    else:
        agreement(source, catalogue, view, frame, mask, n)


def with_reference(source: db.Source, view: state.View) -> state.View:
    """The view, with the measure and the model filled in by which images are told to be uncertain.

    What was not chosen is not stored: an address that grew by itself would be a page that nobody can go back from.
    """
    measure, reference = db.reference_of(source, view.dataset, view.measure, view.reference)
    return state.replace(view, measure=measure, reference=reference)


def clear() -> None:
    """Callback: all images of the set."""
    state.change(**(dict.fromkeys(state.IMAGES, "") | dict.fromkeys(state.RANGES) | {"subset": "all"}))


def see() -> None:
    """Callback: the same images on the page Samples."""
    state.change(page=1, sample="")
    st.session_state["goto"] = "samples"


def answer(frame: Frame, n: int, total: int, name: str, view: state.View) -> str:
    """How many images there are, and who is best on them, but for models by whose answers they were chosen."""
    if not n:
        return f"No image of {name} with labels passes all filters."
    said = f"**{n:,}** of {total:,} images of {name}"
    if frame.empty:
        return f"{said}; none of the chosen models has answered to them."
    if view.right is not None:  # the answers of all models chose the images
        return f"{said}."
    frame = frame.loc[~frame["model"].isin([view.wrong, view.right_by])]
    if frame.empty:
        return f"{said}; no other model is shown."
    best, worst = frame.iloc[0], frame.iloc[-1]
    said += f": **{best['name']}** is right on {terms.percent(best['value'], best['ci_low'], best['ci_high'])}"
    if len(frame) == 1:
        return said + "."
    return f"{said}, {worst['name']} on {terms.percent(worst['value'], worst['ci_low'], worst['ci_high'])}."


def circular(view: state.View) -> str:
    """A sentence where the models' own answers chose the images."""
    if not view.wrong and not view.right_by and view.right is None:
        return ""
    return "These images were chosen by the models' answers: the accuracies on them are no estimate of accuracy."


def unscored(view: state.View, without: int) -> str:
    """A sentence about the images that pass but have no label of the source."""
    if not without:
        return ""
    return (
        f"{without:,} more images pass the filters, but have no labels of the source "
        f"“{terms.labels_name(view.labels)}”: they are neither right nor wrong."
    )


def difficulty(source: db.Source, view: state.View, models: tuple[str, ...], keep: np.ndarray) -> None:
    """How many models get how many of the images right."""
    labelled = db.block(source, view.dataset, view.labels).labelled
    right = db.models_right(source, view.dataset, view.labels, models)
    counts = np.bincount(right[keep & labelled], minlength=len(models) + 1)
    every = np.bincount(right[labelled], minlength=len(models) + 1)
    frame = pd.DataFrame({"models_right": np.arange(len(counts)), "images": counts, "images_of_the_set": every})
    st.subheader("How hard are these images?", anchor=False, help=terms.HELP["difficulty"])
    parts.figure(
        plots.difficulty(frame, f"Models right, of {len(models)}"),
        frame,
        f"difficulty-{view.dataset}",
        f"Images by how many of {len(models)} models get them right",
    )


def table(frame: Frame, dataset: str) -> None:
    """Every model's accuracy on the images."""
    shown = pd.DataFrame(
        {
            "Model": frame["name"],
            "Family": frame["family"].map(terms.FAMILY),
            "Accuracy, %": 100 * frame["value"],
            "From": 100 * frame["ci_low"],
            "To": 100 * frame["ci_high"],
            "On all images, %": 100 * frame["all_value"],
            "Difference, pp": frame["delta_pp"],
            "n": frame["n"],
        }
    )
    number = st.column_config.NumberColumn
    config = {column: number(format="%.1f", help=terms.HELP["interval"]) for column in ("From", "To")}
    config |= {
        "Accuracy, %": number(format="%.1f", help=terms.HELP["accuracy"]),
        "On all images, %": number(format="%.1f", help="On all images of the set that have labels of the source."),
        "Difference, pp": number(format="%+.1f", help="Accuracy on these images minus accuracy on all."),
    }
    parts.table(shown, f"filter-{dataset}", config, alt="Accuracy of every model on these images")


def most_accurate(frame: Frame) -> list[str]:
    """At most as many models as a figure of lines or a matrix can show, the most accurate ones; says so."""
    if len(frame) > state.MOST:
        st.caption(
            f"The {state.MOST} most accurate of {len(frame)} models on these images. Choose others under Models."
        )
    return frame["model"].head(state.MOST).tolist()


def sweep(source: db.Source, catalogue: db.Catalogue, view: state.View, frame: Frame, mask: bits.Bytes) -> None:
    """Accuracy where the images of which a model is less sure are left out, at fifty thresholds."""
    st.subheader("Accuracy against coverage", anchor=False, help=terms.HELP["coverage"])
    known = db.measured(source, view.dataset)
    if not known:
        st.caption("The models of this set are known by their answers alone: there is no uncertainty to sort by.")
        return
    state.bound(
        st.segmented_control,
        "Whose uncertainty",
        "own",
        options=list(state.OWN),
        format_func=state.OWN.get,
        required=True,
    )
    view = with_reference(source, state.current())
    found = db.block(source, view.dataset, view.labels)
    mask = mask & found.valid
    own = view.own == "own"
    if own:
        frame = frame.loc[frame["model"].isin(known[view.measure])]
        if frame.empty:
            st.caption("None of these models has an uncertainty of its own.")
            return
    names, rows = found.some(most_accurate(frame))
    if own:
        every = db.codes(source, view.dataset, view.measure)
        place = {model: i for i, model in enumerate(every.models)}
        codes = every.codes[[place[model] for model in names]]
    else:
        codes = db.codes_of(source, view.dataset, view.measure, view.reference).codes[0]
    chosen = codes[..., bits.unpack(mask, found.n)]
    thresholds = np.unique(np.quantile(chosen, np.linspace(1 / THRESHOLDS, 1, THRESHOLDS), method="inverted_cdf"))
    right, n = (bits.sweep_own if own else bits.sweep_shared)(rows, mask, codes, thresholds)
    lines = coverage(
        names, right, np.broadcast_to(n, right.shape), bits.size(mask), db.statistics(source)["confidence"]
    )
    lines = lines.merge(frame[["model", "name", "family"]], on="model")
    measure = terms.MEASURE[view.measure]
    whose = "of each model itself" if own else f"of {catalogue.model_name(view.reference)}"
    parts.figure(
        plots.sweep(lines, f"Images kept, the surest first ({measure.lower()} {whose})"),
        lines,
        f"sweep-{view.dataset}",
        f"Accuracy of {len(names)} models against coverage",
    )


def coverage(names: Sequence[str], right: np.ndarray, n: np.ndarray, total: int, confidence: float) -> Frame:
    """Rows of a sweep: model, coverage, value, ci_low, ci_high, n; without points that keep no image."""
    frame = pd.DataFrame(
        {
            "model": np.repeat(list(names), n.shape[1]),
            "coverage": (n / total).ravel(),
            "right": right.ravel(),
            "n": n.ravel(),
        }
    )
    frame = frame.loc[frame["n"] > 0]
    low, high = stats.wilson(frame["right"], frame["n"], confidence)
    return frame.assign(value=frame["right"] / frame["n"], ci_low=low, ci_high=high).drop(columns="right")


def agreement(
    source: db.Source, catalogue: db.Catalogue, view: state.View, frame: Frame, mask: bits.Bytes, n: int
) -> None:
    """Which models are right and wrong on the same images."""
    st.subheader("Do the models agree?", anchor=False, help=f"{terms.HELP['agreement']} {terms.HELP['overlap']}")
    found = db.block(source, view.dataset, view.labels)
    names, rows = found.some(most_accurate(frame))
    both = bits.both_right(rows, np.bitwise_and(mask, found.valid))
    order = {family: i for i, family in enumerate(terms.FAMILY)}
    shown = frame.loc[frame["model"].isin(names)]
    shown = shown.iloc[np.lexsort((-shown["value"], shown["family"].map(order)))]
    at = [names.index(model) for model in shown["model"]]
    labels = shown["name"].tolist()
    left, right = st.columns(2)
    for column, kind, title, matrix in (
        (left, "agreement", "Both right or both wrong, % of the images", bits.agreement(both, n)),
        (right, "overlap", "Both wrong, % of the images that one of them gets wrong", bits.error_overlap(both, n)),
    ):
        with column:
            values = matrix[np.ix_(at, at)]
            long = pd.DataFrame(values, index=labels, columns=labels).rename_axis("model").reset_index()
            parts.figure(plots.heatmap(values, labels, title), long, f"{kind}-{view.dataset}", title)
    st.caption("Ordered by family, then by accuracy on these images.")


def main() -> None:
    if not db.has_images(st.session_state["source"]):
        parts.aggregates_only(QUESTION)
        return
    page()


main()
