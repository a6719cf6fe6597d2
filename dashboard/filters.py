"""Filters of images: the widgets that set them, and the images that pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import streamlit as st

from dashboard import db, state, terms


def passing(source: db.Source, view: state.View) -> np.ndarray:
    """Which images of the view's set pass all of its filters, (N,) bool.

    Wrong by a model are images with a label of the source that it does not give. Images without one are neither right
    nor wrong, so no number of models that are right leads to them.
    """
    found = db.block(source, view.dataset, view.labels)
    keep = db.members(source, view.dataset, view.subset).copy()
    if view.label:
        keep &= db.images(source, view.dataset).labels == int(view.label)
    if view.wrong in found.place:
        keep &= found.labelled & ~found.right(view.wrong)
    if view.right_by in found.place:
        keep &= found.right(view.right_by)
    if view.right is not None:
        models = state.models(db.catalogue(source), view)
        keep &= found.labelled
        keep &= _between(db.models_right(source, view.dataset, view.labels, models), view.right)
    if view.nlabels is not None:
        keep &= _between(db.label_counts(source, view.dataset, view.labels), view.nlabels)
    if view.unsure is not None:
        known = db.unsure(source, view.dataset, view.measure, view.reference)
        if known is not None:
            keep &= _between(known[1], view.unsure)
    return keep


def _between(values: np.ndarray, ends: tuple[int, int]) -> np.ndarray:
    return (values >= ends[0]) & (values <= ends[1])


def limits(widget: Callable[..., Any], label: str, field: str, low: int, high: int, about: str) -> None:
    """A slider of two ends; the whole range means no limit. A limit beyond the range (from a link) is drawn in."""
    now = getattr(state.current(), field)
    if now is not None:
        inside = (min(max(now[0], low), high), max(min(now[1], high), low))
        if inside != now:
            state.store(state.replace(state.current(), **{field: inside}))
    state.bound(widget, label, field, value=(low, high), min_value=low, max_value=high, help=about)


def class_picker(catalogue: db.Catalogue, view: state.View) -> None:
    """The original label."""
    names = catalogue.class_names(view.dataset)
    state.bound(
        st.selectbox,
        "Class",
        "label",
        options=["", *map(str, names)],
        format_func=lambda c: names[int(c)] if c else "All classes",
        help="The original label of the image. Type to search.",
    )


def model_picker(catalogue: db.Catalogue, view: state.View, label: str, field: str, about: str) -> None:
    """One model of those that answer to the set."""
    here = catalogue.answering.get(view.dataset, frozenset())
    chosen = getattr(view, field)
    state.bound(
        st.selectbox,
        label,
        field,
        options=["", *(model for model in catalogue.models["model"] if model in here or model == chosen)],
        format_func=lambda model: catalogue.model_name(model) if model else "Any or no model",
        help=about,
    )


def unsure_slider(source: db.Source, view: state.View) -> None:
    """Percentiles of an uncertainty; a sentence where none is known of the set."""
    measure, reference = db.reference_of(source, view.dataset, view.measure, view.reference)
    if not measure:
        st.caption(
            "**Uncertainty**  \nNo model of this set is known by more than its answers, so no image can be told to be "
            "uncertain."
        )
        return
    name = db.catalogue(source).model_name(reference)
    about = f"{terms.MEASURE[measure]} of {name}. {terms.HELP['percentile']}"
    limits(st.slider, "Uncertainty, percentile", "unsure", 0, 100, about)


def right_slider(source: db.Source, view: state.View, models: int) -> None:
    """How many of the models shown are right."""
    limits(st.slider, f"Models right, of {models}", "right", 0, max(models, 1), terms.HELP["right"])


def labels_slider(source: db.Source, view: state.View) -> None:
    """Number of labels, where an image has several or none."""
    counts = db.label_counts(source, view.dataset, view.labels)
    most, least = (int(counts.max()), int(counts.min())) if len(counts) else (0, 0)
    if most > 1 or least == 0 < most or view.nlabels is not None:
        limits(st.slider, "Labels of the image", "nlabels", 0, max(most, 1), terms.HELP["nlabels"])
