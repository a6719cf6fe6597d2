"""Study 9 on the page Attacks: which objective gets to a target class first, and where the softmax is saturated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import db, findings, parts, plots, state, terms
from dashboard.frames import Frame, records

NUMBER = st.column_config.NumberColumn
WIDTH = 62
WIDTHS = {"n": 42, "L2": 52, "Median": 60, "after": 52}
"""Of columns of numbers, pixels."""


def section(source: db.Source, catalogue: db.Catalogue, view: state.View) -> None:
    """Steps to the answer, L-BFGS beside them, the way of the probability, further margins, and saturation."""
    st.subheader("Which objective gets there first?", anchor=False, help=terms.HELP["objectives"])
    frame = db.objective_summary(source, view.dataset)
    if frame.empty:
        st.caption("No network was moved to targets on this set (`objectives` in params.yaml).")
        return
    answers = frame.loc[(frame["kappa"] == 0) & (frame["variant"] != "search")]
    first = answers.loc[(answers["variant"] == "equal") & (answers["step_l2"] == answers["step_l2"].min())]
    st.markdown(findings.objectives(first.loc[first["target_rule"] == "random"]))
    if (first["target_rule"] == "runner_up").any():
        st.markdown(findings.runner_up(first))
    rules = {rule: name for rule, name in terms.TARGET_RULE.items() if (answers["target_rule"] == rule).any()}
    rule = state.picked("Target", "toward", rules, st.segmented_control, required=True)
    steps(answers.loc[answers["target_rule"] == rule])
    searches(frame.loc[(frame["variant"] == "search") & (frame["target_rule"] == rule)])
    curves(source, catalogue, view, frame, rule)
    margins(frame.loc[(frame["kappa"] > 0) & (frame["target_rule"] == "random")])
    saturation(source, view)


def _case(frame: Frame) -> dict[str, pd.Series]:
    """The columns that say of what a row is; the length of a step only where there are several."""
    columns = {"Model": frame["name"], "Objective": frame["objective"].map(terms.OBJECTIVE)}
    return columns | ({"Length": frame["step_l2"]} if frame["step_l2"].nunique() > 1 else {})


def _by_variant(rows: Frame) -> Iterator[tuple[str, Frame]]:
    """The rows of each kind of steps, under its name."""
    for variant, name in terms.STRIDES.items():
        mine = rows.loc[rows["variant"] == variant]
        if len(mine):
            st.markdown(f"**{name}**")
            yield variant, mine


def _narrow(shown: Frame) -> dict[str, Any]:
    """Columns of numbers as narrow as they may be, so that the table needs no scrolling."""
    return {name: NUMBER(width=WIDTHS.get(name, WIDTH)) for name in shown if pd.api.types.is_numeric_dtype(shown[name])}


def steps(summary: Frame) -> None:
    """What the answer takes: rows of table `objective_summary`, of one rule and kappa 0."""
    helps = {"8 bits, %": "in_8_bits", "Cosine": "step_cosine", "Median": "median_steps"}
    for variant, rows in _by_variant(summary):
        shown = pd.DataFrame(
            {
                **_case(rows),
                "Arrive, %": (100 * rows["reached"]).round(1),
                "8 bits, %": (100 * rows["reached_u8"].astype(float)).round(1),
                "Median": rows["iterations"],
                "× cross-entropy": [
                    terms.number(row.over_ce, row.ce_low, row.ce_high) if row.n_common else "–" for row in records(rows)
                ],
                "L2": rows["l2"].round(2),
                "Linf, /255": (255 * rows["linf"]).round(1),
                "Cosine": rows["step_cosine"].astype(float).round(2),
                "n": rows["n_common"],
            }
        )
        config = _narrow(shown)
        config |= {name: NUMBER(width=WIDTHS.get(name, WIDTH), help=terms.HELP[term]) for name, term in helps.items()}
        parts.table(shown, f"objectives-{variant}", config, alt="Steps and sizes by objective")


def searches(rows: Frame) -> None:
    """L-BFGS, by itself."""
    if rows.empty:
        return
    st.markdown("**L-BFGS, a search**", help=terms.HELP["lbfgs"])
    shown = pd.DataFrame(
        {
            "Model": rows["name"],
            "Arrive, %": (100 * rows["reached"]).round(1),
            "8 bits, %": (100 * rows["reached_u8"].astype(float)).round(1),
            "Median evaluations": rows["iterations"],
            "L2": rows["l2"].round(2),
            "L2 × cross-entropy": [
                terms.number(row.l2_over_ce, row.l2_low, row.l2_high) if row.n_common else "–" for row in records(rows)
            ],
            "Linf, /255": (255 * rows["linf"]).round(1),
            "n": rows["n_common"],
        }
    )
    parts.table(shown, "lbfgs", alt="Evaluations and sizes of L-BFGS")


def curves(source: db.Source, catalogue: db.Catalogue, view: state.View, frame: Frame, rule: str) -> None:
    """The probability of the target on the way there, of one model."""
    models = frame["model"].drop_duplicates().tolist()
    model = state.picked("Model", "climber", {one: catalogue.model_name(one) for one in models})
    rows = db.objective_curves(source, view.dataset, model)
    rows = rows.loc[(rows["variant"] == "equal") & (rows["target_rule"] == rule)]
    rows = rows.loc[rows["step_l2"] == rows["step_l2"].min()]
    rows = rows.assign(name=rows["objective"].map(terms.OBJECTIVE))
    parts.figure(
        plots.objective_curves(rows),
        rows,
        "objective-curves",
        "Probability of the target by the number of steps",
    )
    st.caption(
        "Steps of one length. An image that has arrived is no more part of a line, so a line ends with the slowest."
    )


def margins(rows: Frame) -> None:
    """What it takes to go on past the answer: rows of table `objective_summary` of larger kappas."""
    if rows.empty:
        return
    st.subheader("How far past the target do they go?", anchor=False, help=terms.HELP["kappa"])
    st.markdown(findings.margins(rows))
    for variant, mine in _by_variant(rows):
        shown = pd.DataFrame(
            {
                **_case(mine),
                **({"Margin": mine["kappa"]} if rows["kappa"].nunique() > 1 else {}),
                "Arrive, %": (100 * mine["reached"]).round(1),
                "Median": mine["own_iterations"],
                "× to the answer": [
                    terms.number(row.over_answer, row.answer_low, row.answer_high) if row.reached else "–"
                    for row in records(mine)
                ],
                "L2": mine["own_l2"].round(2),
                "Linf, /255": (255 * mine["own_linf"]).round(1),
                "p is 1, %": (100 * mine["saturated"].astype(float)).round(1),
                "after": mine["saturated_at"],
                "n": mine["n"],
            }
        )
        alt = "Steps and sizes by objective, to larger margins"
        parts.table(shown, f"objective-margins-{variant}", _narrow(shown), alt=alt)
    st.caption(
        "Median number of steps and sizes: of the images that this objective moves there. To classes drawn at random. "
        "p is 1: the probability of the target rounds to 1 in float32, after a median of so many steps."
    )


def saturation(source: db.Source, view: state.View) -> None:
    """Where the gradient of the cross-entropy is lost in float32."""
    frame = db.objective_saturation(source, view.dataset)
    if frame.empty:
        return
    st.subheader("Where is the softmax saturated?", anchor=False, help=terms.HELP["saturation"])
    st.markdown(findings.softmax_lost(frame))
    parts.figure(
        plots.saturation(frame),
        frame,
        "objective-saturation",
        "Cosine of the gradients in float32 and in float64, by the margin of the target",
    )
    st.caption(
        "Medians over the images that come to a margin by steps of one length along the gradient of the cross-entropy, "
        "with quartiles. Dotted: where the loss alone is computed in float64, the lowest of the models' medians."
    )
