"""Collisions: two different images that a network cannot tell apart (study 4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import db, findings, parts, segmenting, state, terms
from dashboard.frames import Frame, records

QUESTION = "Can two different images be one to a network?"
NUMBER = st.column_config.NumberColumn


def main() -> None:
    source = st.session_state["source"]
    found = db.collisions(source)
    if found.empty:
        parts.head(QUESTION, "These results hold no collisions.")
        st.code("dvc repro collisions database", language="bash")
        return
    confidence = db.statistics(source)["confidence"]
    summary = findings.collided(found, confidence)
    parts.head(QUESTION, findings.collisions(summary), terms.HELP["collision"])
    networks(summary)
    pictures(source, found)
    checks(source)
    nullity(source)


def networks(summary: Frame) -> None:
    """What became of the images, by network and kind."""
    table = [
        {
            "Network": row.name,
            "Kind": row.kind,
            "Moved": f"{row.moved} of {row.n}",
            "Same answer": terms.percent(row.same / 100, row.low / 100, row.high / 100) if row.moved else "–",
            "Under noise, %": round(row.null, 1),
            "Mean L2": round(row.l2, 2),
            "Logits, 8 bits": row.u8,
        }
        for row in records(summary)
    ]
    config: dict[str, Any] = {
        "Kind": st.column_config.TextColumn(help=terms.HELP["collision_kind"]),
        "Under noise, %": NUMBER(help="Same answer to the image with noise of the same L2", format="%.1f"),
        "Mean L2": NUMBER(format="%.2f"),
        "Logits, 8 bits": NUMBER(help="Largest change of a logit once rounded to 8 bits", format="%.1e"),
    }
    parts.table(pd.DataFrame(table), "collisions", config, alt="Collisions by network")
    st.caption(
        "Networks called stem-… are small ones, trained here on a first layer of that kind; the last number is their "
        "seed. Below, timm:… are published architectures."
    )
    with st.expander("How exact: features and logits"):
        columns = {"name": "Network", "kind": "Kind", "feature_error": "Features", "f64": "Logits, float64"}
        columns |= {"f32": "Logits, float32", "u8": "Logits, 8 bits"}
        config = {one: NUMBER(format="%.1e") for one in list(columns.values())[2:]}
        exact = summary[list(columns)].rename(columns=columns)
        parts.table(exact, "collisions-exact", config, alt="Largest differences by network")
        st.caption("The largest difference of a value between the image and what was made of it, over all images.")


def pictures(source: db.Source, found: Frame) -> None:
    """One image, its target and what was made of it, for a network and kind; and what the network says of all three."""
    held = found.loc[found["picture"].notna() & found["moved"]]
    if held.empty:
        return
    st.subheader("The images", anchor=False, help=terms.HELP["collision_picture"])
    left, middle, right = st.columns(3)
    names = dict(zip(held["model"], held["name"], strict=True))
    with left:
        model = state.picked("Network", "collided", names)
    held = held.loc[held["model"] == model]
    with middle:
        kind = state.picked(
            "Kind", "collision", {one: terms.COLLISION[one] for one in terms.COLLISION if one in set(held["kind"])}
        )
    held = held.loc[held["kind"] == kind].sort_values(["l2", "sample_id"], ascending=[False, True])
    with right:
        twin = state.picked("Image", "twin", {one: one.split("/", 1)[1] for one in held["sample_id"]})
    row = next(records(held.loc[held["sample_id"] == twin]))
    clean = db.pictures(source, (row.sample_id, row.target_id))
    made = bytes(row.picture)
    tiles = [
        segmenting.Tile(clean[one][0], name)
        for one, name in ((twin, "Image"), (row.target_id, "Target"))
        if one in clean
    ]
    tiles.append(segmenting.Tile(made, f"Made, L2 {row.l2:.2f}, largest change {row.linf:.2f}"))
    if twin in clean:
        change, times = segmenting.perturbation(clean[twin][0], made)
        tiles.append(segmenting.Tile(change, f"Difference, × {times:.1f}"))
    shown, said = st.columns(2)
    with shown:
        st.html(segmenting.strip_html(tiles))
        st.caption(
            f"Logits differ by at most {row.logit_gap_f64:.1e} in float64, {row.logit_gap_f32:.1e} in float32 and "
            f"{row.logit_gap_u8:.1e} in 8 bits; noise of the same L2 changes them by up to {row.null_gap:.1f}."
        )
    with said:
        logits(source, row)


def logits(source: db.Source, row: Any) -> None:
    """What the network says of the image, of the one made and of the target, by class."""
    if row.logits is None:
        return
    values = np.frombuffer(row.logits).reshape(3, -1)
    classes = db.catalogue(source).class_names(row.sample_id.split("/", 1)[0])
    frame = pd.DataFrame(values.T, columns=["Image", "Made", "Target"])
    frame.insert(2, "Made less image", values[1] - values[0])
    frame.insert(0, "Class", [classes.get(k, str(k)) for k in range(len(frame))])
    config: dict[str, Any] = {one: NUMBER(format="%.3f") for one in ("Image", "Made", "Target")}
    config["Made less image"] = NUMBER(format="%.1e")
    parts.table(frame, "logits", config, alt="Logits of the image, the one made and the target")


def checks(source: db.Source) -> None:
    """Whether other networks, and other tasks on the same first layer, see the change."""
    frame = db.collision_checks(source)
    if frame.empty:
        return
    st.subheader("Does it move another network, or another task?", anchor=False, help=terms.HELP["collision_checks"])
    shown = pd.DataFrame(
        {
            "Made for": frame["name"],
            "Judged by": frame["judge_name"],
            "Task": frame["task"].map(terms.TASK),
            "n": frame["n"],
            "Same answer": [terms.percent(row.same, row.same_low, row.same_high) for row in records(frame)],
            "Noise, %": 100 * frame["n_null"] / frame["n"].clip(lower=1),
            "Change": frame["gap"],
            "Score, %": 100 * frame["score"],
        }
    )
    config = {one: NUMBER(format="%.1f") for one in shown if one.endswith(", %")}
    change = NUMBER(help="Largest change of an output", format="%.1e")
    score = NUMBER(help="Of the judge on the clean images: accuracy, or mean IoU", format="%.1f")
    parts.table(shown, "checks", config | {"Change": change, "Score, %": score}, alt="Collisions judged by others")


def nullity(source: db.Source) -> None:
    """What first layers drop."""
    frame = db.first_layers(source)
    st.subheader("What first layers drop", anchor=False, help=terms.HELP["nullity"])
    columns = {"name": "Network", "layer": "Layer", "n_in": "In", "n_out": "Out", "nullity": "Nullity"}
    columns |= {"nullity_high": "At most", "sigma_min": "Smallest σ", "method": "Found by"}
    shown = frame.assign(
        method=frame["method"].map(terms.NULLITY), nullity_high=frame["nullity_high"].where(frame["method"] != "shape")
    )
    config: dict[str, Any] = {"Nullity": NUMBER(help="Where it is a bound: at least so much")}
    config["Smallest σ"] = NUMBER(
        help="Smallest singular value that is not 0; a lower bound of it for windows", format="%.1e"
    )
    parts.table(shown[list(columns)].rename(columns=columns), "layers", config, alt="Nullity by network")


main()
