"""Section of the page Attacks: whether adversarial images are told from clean ones, and what retraining with them is
worth (the second half of study 9)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import db, parts, plots, state, terms
from dashboard.frames import Frame, records

CHANCE = 0.5
"""The AUROC of who cannot tell."""


def section(source: db.Source, catalogue: db.Catalogue, view: state.View) -> None:
    """Detectors by what they were trained on and what they are shown, then networks before and after retraining."""
    st.subheader("Can adversarial images be told, and unlearned?", anchor=False, help=terms.HELP["detection"])
    cells, made, answers = (
        db.of_set(source, name, view.dataset) for name in ("detection", "detection_attacks", "retraining")
    )
    if cells.empty:
        st.caption("No detectors were trained on this set (`detection` in params.yaml).")
        return
    models = cells["model"].drop_duplicates().tolist()
    model = state.picked("Network", "hunted", {one: catalogue.model_name(one) for one in models})
    cells, made, answers = (frame.loc[frame["model"] == model] for frame in (cells, made, answers))
    st.markdown(told(cells))
    detectors(cells, made)
    st.subheader("Does retraining help?", anchor=False, help=terms.HELP["retraining"])
    st.markdown(retrained(answers))
    networks(answers)


def told(cells: Frame) -> str:
    """What detectors tell apart, in a sentence: rows of table `detection` of one network."""
    said = []
    for against, what in (("clean", "clean images"), ("noise", "noise of the same length")):
        one = cells.loc[(cells["against"] == against) & (cells["inputs"] == "u8")]
        one = one.loc[one["trained_on"].isin(terms.OBJECTIVE) & one["tested_on"].isin(terms.OBJECTIVE)]
        across = one.loc[one["trained_on"] != one["tested_on"]]
        if across.empty:
            continue
        worst = across.loc[across["auroc"].idxmin()]
        said.append(
            f"from {what} by an AUROC of at least **{_area(worst)}** (trained on "
            f"{terms.PERTURBED[worst['trained_on']].lower()}, shown {terms.PERTURBED[worst['tested_on']].lower()})"
        )
    if not said:
        return ""
    text = f"Detectors tell images of an objective that they have not seen {'; '.join(said)}, in 8 bits."
    marks = cells.loc[(cells["inputs"] == "u8") & (cells["against"] == "clean") & (cells["tested_on"] == "noise")]
    marks = marks.loc[marks["trained_on"].isin(terms.OBJECTIVE)]
    if len(marks) and (marks["ci_low"] > CHANCE).all():
        low = marks.loc[marks["auroc"].idxmin()]
        text += f" But they flag random noise, too ({_area(low)} or more): they know marks, not attacks."
    placebo = cells.loc[cells["trained_on"] == "placebo"]
    if len(placebo):
        one = placebo.iloc[0]
        fits = (
            "as it must" if one["ci_low"] <= CHANCE <= one["ci_high"] else "**where chance is 0.5: distrust the rest**"
        )
        text += f" Clean images against clean ones give {_area(one)}, {fits}."
    return text


def _area(row: Any) -> str:
    return f"{row['auroc']:.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"


def detectors(cells: Frame, made: Frame) -> None:
    """The matrix of areas, in the kind that is chosen, and what the detectors are shown."""
    kinds = {
        f"{a}:{i}": terms.DETECTED[a, i]
        for a, i in terms.DETECTED
        if ((cells["against"] == a) & (cells["inputs"] == i)).any()
    }
    chosen = state.picked("Told from", "told", kinds, st.segmented_control, required=True, label_visibility="collapsed")
    against, inputs = chosen.split(":")
    rows = cells.loc[(cells["against"] == against) & (cells["inputs"] == inputs) & (cells["trained_on"] != "placebo")]
    wide = rows.pivot(index="trained_on", columns="tested_on", values="auroc")
    down, across = (_ordered(names) for names in (wide.index, wide.columns))
    one = rows.iloc[0]
    parts.figure(
        plots.detectors(
            wide.reindex(index=down, columns=across).to_numpy(float),
            [terms.PERTURBED[name] for name in down],
            [terms.PERTURBED[name] for name in across],
            f"AUROC, {int(one['n']):,} test images of each class, mean over {int(one['seeds'])} detectors",
        ),
        rows,
        "detectors",
        "How well detectors tell perturbed images, by what they were trained on and what they are shown",
    )
    st.caption(
        "0.5: they cannot tell; 1: every perturbed image scores above every other one. Train and test images are "
        "different ones."
    )
    with st.expander("Intervals, and seeds"):
        shown = pd.DataFrame(
            {
                "Trained on": [terms.PERTURBED[name] for name in rows["trained_on"]],
                "Shown": [terms.PERTURBED[name] for name in rows["tested_on"]],
                "AUROC": [f"{row.auroc:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]" for row in records(rows)],
                "Seeds": [f"{row.lowest:.3f} to {row.highest:.3f}" for row in records(rows)],
                "n": rows["n"],
                "Trained with": rows["n_train"],
            }
        )
        parts.table(shown, "detectors", alt="Areas under the curve, with intervals")
    order = {name: place for place, name in enumerate(terms.PERTURBED)}
    made = made.sort_values("attack", key=lambda column: column.map(order))
    parts.table(
        pd.DataFrame(
            {
                "Perturbed by": [terms.PERTURBED[name] for name in made["attack"]],
                "Fool the network": [terms.percent(row.fooled, row.ci_low, row.ci_high) for row in records(made)],
                "Into the class drawn, %": (100 * made["reached"]).round(1),
                "L2": made["l2"].round(2),
                "Linf, /255": (255 * made["linf"]).round(1),
                "n": made["n"],
            }
        ),
        "perturbed",
        alt="What the detectors are shown",
    )


def _ordered(names: Iterable[str]) -> list[str]:
    there = set(names)
    return [name for name in terms.PERTURBED if name in there]


def retrained(answers: Frame) -> str:
    """What retraining is worth, in sentences: rows of table `retraining` of one network."""
    at = {(row.variant, row.images, row.objective): row for row in answers.itertuples()}
    before, clean = at.get(("before", "first", "any")), at.get(("before", "clean", "none"))
    if before is None or clean is None:
        return ""
    kept = terms.percent(before.right, before.right_low, before.right_high)
    said = [f"The network as it was keeps {kept} of {int(before.n):,} images right under all three objectives."]
    for variant, what in (("finetune", "Learning their labels"), ("class", "Learning a class of their own")):
        keys = (("first", "any"), ("second", "any"), ("clean", "none"))
        first, second, now = (at.get((variant, *key)) for key in keys)
        if first is None or second is None or now is None:
            continue
        change = terms.points(now.change_pp, now.change_low, now.change_high, sign=True)
        said.append(
            f"{what} leaves {_held(first)} of these images not fooled, but **{_held(second)}** once the new network is "
            f"attacked itself; of all {int(now.n):,} test images {terms.percent(now.right)} are right instead of "
            f"{terms.percent(clean.right)} ({change})."
        )
    noise = at.get(("class", "first", "noise"))
    if noise is not None:
        flagged = terms.percent(noise.flagged, noise.flagged_low, noise.flagged_high)
        said.append(f"The class of their own also takes in {flagged} of images with random noise.")
    return " ".join(said)


def _held(row: Any) -> str:
    """The share that is not taken for another class: right, or flagged."""
    return terms.percent(1 - row.fooled, 1 - row.fooled_high, 1 - row.fooled_low)


def networks(answers: Frame) -> None:
    """Every row of the retraining, by objective."""
    names = {"any": "Worst of the three", **terms.PERTURBED}
    names = {name: text for name, text in names.items() if (answers["objective"] == name).any()}
    chosen = state.picked(
        "Perturbed by",
        "unlearned",
        names,
        st.segmented_control,
        value="any",
        required=True,
        label_visibility="collapsed",
    )
    rows = answers.loc[answers["objective"].isin([chosen, "none"])].assign(
        place=lambda frame: (
            frame["variant"].map(list(terms.RETRAINED).index) + 0.1 * frame["images"].map(list(terms.ROUND).index)
        )
    )
    rows = rows.sort_values("place")
    shown = pd.DataFrame(
        {
            "Network": rows["variant"].map(terms.RETRAINED),
            "Images": rows["images"].map(terms.ROUND),
            "Right": [terms.percent(row.right, row.right_low, row.right_high) for row in records(rows)],
            "Flagged": [
                "–" if np.isnan(row.flagged) else terms.percent(row.flagged, row.flagged_low, row.flagged_high)
                for row in records(rows.astype({"flagged": float}))
            ],
            "Fooled": [terms.percent(row.fooled, row.fooled_low, row.fooled_high) for row in records(rows)],
            "Right, change": [
                "–"
                if np.isnan(row.change_pp)
                else terms.points(row.change_pp, row.change_low, row.change_high, sign=True)
                for row in records(rows.astype({"change_pp": float}))
            ],
            "n": rows["n"],
        }
    )
    parts.table(shown, "retraining", alt="What networks answer before and after retraining")
    st.caption(
        f"Means over {int(answers['seeds'].max())} retrainings; intervals resample images. Changes are against the "
        "network as it was, on the same images; for the second round, against its own first one."
    )
