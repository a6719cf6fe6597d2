"""Segmentation: can an attack draw any mask (study 10)?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import db, findings, parts, plots, segmenting, state, terms
from dashboard.frames import Frame, records

QUESTION = "Can an attack draw any mask?"
MISSED = 20
"""Pairs that are named where ASMA fails."""


def main() -> None:
    source = st.session_state["source"]
    sets = db.segmentation_sets(source)
    if sets.empty:
        parts.head(QUESTION, "These results hold no attack on a segmentation.")
        st.markdown("Name a set with masks under `segmentation` in params.yaml, then")
        st.code("dvc repro segmentation database", language="bash")
        return
    top = st.container()
    names = {row.dataset: row.title for row in records(sets)}
    dataset = next(iter(names))
    if len(sets) > 1:
        dataset = state.picked("Images with masks", "masked", names)
    about = next(row for row in sets.to_dict("records") if row["dataset"] == dataset)
    rows = db.segmentation_summary(source, dataset)
    rows = rows.assign(place=rows["variant"].map(list(terms.SEGMENTING).index)).sort_values("place")
    first = rows.to_dict("records")[0]
    with top:
        parts.head(QUESTION, findings.drawn(first, about), head_of(about))
    st.markdown(
        f"At the start, what is drawn of the clean images has a mean IoU of {first['iou_start']:.2f} with the targets; "
        f"ASMA ends with {first['iou']:.3f} [{first['iou_low']:.3f}, {first['iou_high']:.3f}], at a mean L2 of "
        f"{first['l2']:.2f}.",
        help=f"{terms.HELP['iou']} {terms.HELP['iou_start']}",
    )
    missed = db.segmentation_missed(source, dataset, float(about["reached"]))
    if missed:
        pairs = "1 pair" if len(missed) == 1 else f"{len(missed)} pairs"
        st.caption(f"ASMA does not draw the target of {pairs}: {', '.join(missed[:MISSED])}.")
    strips(source, dataset)
    lines(source, dataset, float(about["reached"]))
    variants(rows, dataset, float(about["reached"]))


def head_of(about: Mapping[Any, Any]) -> str:
    """What the set and the network on it are."""
    made = " The images are synthetic: composed here." if about["synthetic"] else ""
    return (
        f"{about['title']}: {about['about']}{made} One U-Net of {about['params_m']:.2f} million parameters, trained "
        f"here on {int(about['n_train'])} images of {int(about['size'])} pixels a side, draws masks with a mean IoU of "
        f"{about['iou']:.3f} [{about['ci_low']:.3f}, {about['ci_high']:.3f}] on {int(about['n_test'])} test images. "
        f"Source: {about['source']}. The network was trained once: intervals are over images and pairs."
    )


def strips(source: db.Source, dataset: str) -> None:
    """The film strip of one pair."""
    st.subheader("From one mask to another", anchor=False, help=terms.HELP["asma"])
    pairs = db.segmentation_pictured(source, dataset)
    if pairs.empty:
        st.caption("This snapshot holds no pictures of single images.")
        return
    names = {
        row.run_id: f"{row.sample_id.split('/', 1)[1]} with the mask of {row.target_id.split('/', 1)[1]}"
        for row in records(pairs)
    }
    run = state.picked("Image and target", "drawn", names)
    st.html(segmenting.strip_html(segmenting.strip(db.segmentation_pictures(source, run))))


def lines(source: db.Source, dataset: str, reached: float) -> None:
    """IoU by steps and by L2."""
    st.subheader("How soon, and at what size?", anchor=False, help=terms.HELP["iou"])
    frame = db.segmentation_curves(source, dataset)
    for column, (axis, name) in zip(st.columns(2), {"iteration": "steps", "l2": "L2"}.items(), strict=True):
        with column:
            plot = plots.segmentation_curves(frame, axis, reached)
            parts.figure(plot, frame, f"segmentation-{dataset}-{axis}", f"Mean IoU by {name}, a line a variant")
    st.caption("Means over all pairs, after the image is cut off at 0 and 1. Dotted: the IoU that counts as success.")


def variants(rows: Frame, dataset: str, reached: float) -> None:
    """The table of variants."""
    st.subheader("Which part does the work?", anchor=False, help=terms.HELP["segmenting"])
    st.markdown(findings.parts_of_asma(rows))
    table = [
        {
            "Variant": terms.SEGMENTING[row.variant],
            f"IoU ≥ {reached:g}": terms.percent(row.reached, row.reached_low, row.reached_high),
            "IoU": f"{row.iou:.2f} [{row.iou_low:.2f}, {row.iou_high:.2f}]",
            "Less ASMA's": _delta(row.iou_delta, row.iou_delta_low, row.iou_delta_high),
            "L2": f"{row.l2:.1f} [{row.l2_low:.1f}, {row.l2_high:.1f}]",
            "Linf": round(row.linf, 2),
            "Steps": row.iterations,
            "n": row.n,
        }
        for row in records(rows)
    ]
    columns = {"Steps": st.column_config.NumberColumn(help="Until success: the median of the pairs that have it")}
    parts.table(pd.DataFrame(table), f"segmentation-{dataset}", columns, alt="What each variant ended with")
    with st.expander("Until success, and in 8 bits"):
        until = [
            {
                "Variant": terms.SEGMENTING[row.variant],
                "Steps more than ASMA": _delta(
                    row.iterations_delta, row.iterations_delta_low, row.iterations_delta_high, 0
                ),
                "L2 more than ASMA": _delta(row.l2_reached_delta, row.l2_reached_delta_low, row.l2_reached_delta_high),
                "Both succeed": row.n_both,
                "In 8 bits, %": round(100 * row.reached_u8, 1),
                "Pixels right, %": round(100 * row.pixel_accuracy, 1),
            }
            for row in records(rows)
        ]
        parts.table(pd.DataFrame(until), f"segmentation-{dataset}-until", alt="Steps and L2 until success")
        st.caption(
            "Steps and L2 until success: of the pairs on which both the variant and ASMA have it. In 8 bits: pairs "
            "that still succeed with the image rounded as it would be stored."
        )


def _delta(value: float, low: float, high: float, digits: int = 2) -> str:
    return "–" if pd.isna(value) else f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


main()
