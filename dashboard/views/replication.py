"""Replication: accuracy on the original against another set, model by model."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from bench import compute, stats
from dashboard import db, findings, parts, plots, state, terms
from dashboard.frames import Frame

SCORING = {"top1": "Original label only", "any_of": "Any label of the image"}
SAYS = {
    "replication": "a **replication**: collected later by the recipe of the original.",
    "shifted": "**shifted**, not a replication: the same concept, collected and processed by other people.",
    "control": "a **control** made here: the cause of its difference is known.",
    "composite": "**composed** here from real images.",
    "original": "an original of its own.",
}


def paired(source: db.Source, original: str, other: str, models: tuple[str, ...]) -> Frame:
    """One row a model: its accuracy with interval and n on both sets, under the original labels."""
    frame = db.accuracies(source, "all", db.ORIGINAL, models)
    keep = ["model", "value", "ci_low", "ci_high", "n"]
    left = frame.loc[frame["dataset"] == original, [*keep, "name", "family", "method"]]
    right = frame.loc[frame["dataset"] == other, keep]
    short = {"value": "value", "ci_low": "low", "ci_high": "high", "n": "n"}
    both = left.rename(columns={old: f"{new}_x" for old, new in short.items()}).merge(
        right.rename(columns={old: f"{new}_y" for old, new in short.items()}), on="model"
    )
    return both.sort_values("value_x", ascending=False, ignore_index=True)


@st.cache_data(max_entries=64, show_spinner=False)
def line_of(x: tuple[float, ...], y: tuple[float, ...], n: tuple[int, ...], draws: int) -> stats.Line | None:
    """The line over the models with its band; None for fewer than three models."""
    try:
        return stats.fit_line(x, y, compute.rng("replication line"), scale="logit", n=n, draws=draws)
    except ValueError:
        return None


def choose(source: db.Source, catalogue: db.Catalogue, view: state.View) -> tuple[str, str, str] | None:
    """The original, the set held against it, and the scoring; controls for them. None where nothing can be compared."""
    pairs = {one: catalogue.held_against(one) for one in catalogue.datasets.index}
    pairs = {one: others for one, others in pairs.items() if others}
    if not pairs:
        return None
    own = str(catalogue.datasets.at[view.dataset, "replicates"])
    original = view.dataset if view.dataset in pairs else own if own in pairs else next(iter(pairs))
    first = view.dataset if view.dataset in pairs[original] else pairs[original][0]
    against = view.against if view.against in pairs[original] else first
    scorings = db.scorings(source, original, against)
    scoring = view.scoring if view.scoring in scorings else scorings[0]
    left, right = st.columns([2, 1.4])
    with left:
        state.bound(
            st.selectbox,
            f"Held against {catalogue.dataset_name(original)}",
            "against",
            value=first,
            options=pairs[original],
            format_func=catalogue.dataset_name,
            help="; ".join(f"{terms.ROLE[role]}: {terms.HELP[terms.ROLE[role]]}" for role in ("shifted", "control")),
        )
    with right:
        if len(scorings) > 1:
            state.bound(
                st.selectbox,
                "What counts as right",
                "scoring",
                value=scorings[0],
                options=scorings,
                format_func=SCORING.get,
                help="Where an image has several labels, any of them may count as right.",
            )
    return original, against, scoring


def main() -> None:
    source, view = st.session_state["source"], state.current()
    catalogue = db.catalogue(source)
    top = st.container()
    chosen = choose(source, catalogue, view)
    question = "How much accuracy is lost on another set?"
    if chosen is None:
        with top:
            parts.head(question, "No set here is held against another.")
        return
    original, other, scoring = chosen
    models = state.models(catalogue, view, original)
    name, other_name = catalogue.dataset_name(original), catalogue.dataset_name(other)
    gaps = db.gaps(source, original, other, scoring, models)
    both = paired(source, original, other, models)
    single = both.loc[both["method"] != "ensemble"]
    best = str(single["model"].iloc[0]) if len(single) else ""
    role = str(catalogue.datasets.at[other, "role"])
    about = str(catalogue.datasets.at[other, "about"])
    with top:
        said = findings.gap(gaps, best, name, other_name)
        if said and scoring != "top1":
            said += f" Counted as right: {SCORING[scoring].lower()}."
        parts.head(question, said or f"None of the chosen models was run on both {name} and {other_name}.")
        st.markdown(f"{catalogue.datasets.at[other, 'title']} is {SAYS[role]}", help=terms.HELP[terms.ROLE[role]])
        st.caption(about)
    if gaps.empty:
        return

    st.subheader(f"{other_name} against {name}", anchor=False, help=f"{terms.HELP['logit']} {terms.HELP['interval']}")
    draws = int(db.statistics(source)["bootstrap"])
    x, y, n = (tuple(single[column]) for column in ("value_x", "value_y", "n_x"))
    line = line_of(x, y, n, draws)
    parts.figure(
        plots.replication(both, line, role, name, other_name),
        both.drop(columns="method"),
        f"{other}-against-{original}",
        f"Accuracy on {other_name} against accuracy on {name} for {len(both)} models",
    )
    if line is None:
        st.caption("A line needs at least three models with different accuracies.")
    else:
        st.caption(
            f"Under the original labels. The line is fitted to {line.n} models (ensembles left out); its slope on "
            f"these axes is {line.slope:.2f} [{line.slope_low:.2f}, {line.slope_high:.2f}]. The band comes from "
            "resampling models: it says how the line depends on which models there are, no more."
        )

    halves = catalogue.null_halves()
    null = db.gaps(source, *halves, "top1", models) if halves else gaps.head(0)
    st.subheader("The gap of each model", anchor=False, help=f"{terms.HELP['gap']} {terms.HELP['null']}")
    st.caption(
        "Accuracy on the original minus accuracy on the other set. Right of zero: the other set is harder. "
        f"What counts as right: {SCORING[scoring].lower()}. "
        + (
            "Grey crosses: the gap between two random halves of one test set by the original label, nothing but chance."
            if len(null)
            else ""
        )
    )
    parts.figure(
        plots.gaps(gaps, null, role, f"Gap between {name} and {other_name}, percentage points"),
        pd.concat([gaps, null], ignore_index=True),
        f"gaps-{original}-{other}-{scoring}",
        f"Gap of {len(gaps)} models with intervals",
    )
    parts.remarks(catalogue, gaps["model"].tolist())
    shown = pd.DataFrame(
        {
            "Model": gaps["name"],
            "Family": gaps["family"].map(terms.FAMILY),
            "Gap, pp": gaps["gap_pp"].round(1),
            "From": gaps["ci_low"].round(1),
            "To": gaps["ci_high"].round(1),
            "Null halves, pp": gaps["model"].map(null.set_index("model")["gap_pp"]).round(1) if len(null) else None,
            "Through labels, pp": gaps["label_pp"].round(1),
            "n original": gaps["n_original"],
            "n other": gaps["n_replication"],
        }
    ).dropna(axis=1, how="all")
    config = {
        "Gap, pp": st.column_config.NumberColumn(format="%.1f", help=terms.HELP["gap"]),
        "From": st.column_config.NumberColumn(format="%.1f", help=terms.HELP["interval"]),
        "To": st.column_config.NumberColumn(format="%.1f", help=terms.HELP["interval"]),
        "Null halves, pp": st.column_config.NumberColumn(format="%.1f", help=terms.HELP["null"]),
        "Through labels, pp": st.column_config.NumberColumn(
            format="%.1f", help="Gap by the original label minus gap by any label of the image: an upper bound."
        ),
    }
    parts.table(shown, f"gaps-{original}-{other}-{scoring}", config, alt="Gap of each model")
    parts.strip(source, view, other)


main()
