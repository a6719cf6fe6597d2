"""Collisions: two different images that a network cannot tell apart (study 4)."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import db, findings, parts, terms
from dashboard.frames import Frame, records

QUESTION = "Can two different images be one to a network?"
SHOWN = 6
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
    columns = {
        "name": "Network", "kind": "Kind", "n": "n", "moved": "Moved", "same": "Same answer, %", "low": "from",
        "high": "to",
        "null": "Noise of that size: same, %", "l2": "Mean L2", "feature_error": "Largest difference of features",
        "f64": "Of logits, float64", "f32": "float32", "u8": "8 bits",
    }  # fmt: skip
    config = {columns[one]: NUMBER(format="%.1f") for one in ("same", "low", "high", "null")}
    config |= {columns[one]: NUMBER(format="%.1e") for one in ("feature_error", "f64", "f32", "u8")}
    config |= {"Mean L2": NUMBER(format="%.2f"), "Kind": st.column_config.TextColumn(help=terms.HELP["collision_kind"])}
    parts.table(summary[list(columns)].rename(columns=columns), "collisions", config, alt="Collisions by network")
    pictures(source, found)
    checks(source)
    nullity(source)


def pictures(source: db.Source, found: Frame) -> None:
    """Images, their targets and what was made of them, of one network and kind."""
    held = found.loc[found["picture"].notna() & found["moved"]]
    if held.empty:
        return
    st.subheader("The images", anchor=False, help=terms.HELP["collision_picture"])
    names = dict(zip(held["model"], held["name"], strict=True))
    left, right = st.columns(2)
    model = left.selectbox("Network", list(names), format_func=lambda one: names[one], key="collided")
    kinds = held.loc[held["model"] == model, "kind"].unique().tolist()
    kind = right.selectbox("Kind", kinds, format_func=lambda one: terms.COLLISION[one], key="collision_kind")
    rows = held.loc[(held["model"] == model) & (held["kind"] == kind)].nlargest(SHOWN, "l2")
    clean = db.pictures(source, (*rows["sample_id"], *rows["target_id"]))
    for row in records(rows):
        with st.container(horizontal=True, gap="small"):
            made = (bytes(row.picture), "image/png")
            shown = ((clean.get(row.sample_id), "Image"), (clean.get(row.target_id), "Target"), (made, "Made"))
            for picture, caption in shown:
                with st.container(width=128):
                    st.html(parts.image_html(picture, f"{caption} of {row.sample_id}", 112), width=120)
                    st.caption(caption)
            st.markdown(
                f"L2 {row.l2:.2f}, largest change {row.linf:.2f}  \nlogits differ by {row.logit_gap_f64:.1e} in "
                f"float64 and {row.logit_gap_u8:.1e} in 8 bits"
            )


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
            "Same answer, %": 100 * frame["same"],
            "from": 100 * frame["same_low"],
            "to": 100 * frame["same_high"],
            "Under noise, %": 100 * frame["n_null"] / frame["n"].clip(lower=1),
            "Largest change": frame["gap"],
            "Judge's score, %": 100 * frame["score"],
        }
    )
    config = {one: NUMBER(format="%.1f") for one in shown if one.endswith(", %") or one in ("from", "to")}
    parts.table(shown, "checks", config | {"Largest change": NUMBER(format="%.1e")}, alt="Collisions judged by others")


def nullity(source: db.Source) -> None:
    """What first layers drop."""
    frame = db.first_layers(source)
    st.subheader("What first layers drop", anchor=False, help=terms.HELP["nullity"])
    columns = {"name": "Network", "layer": "Layer", "n_in": "In", "n_out": "Out", "nullity": "Nullity"}
    columns |= {"sigma_min": "Smallest singular value", "method": "Found by"}
    parts.table(frame[list(columns)].rename(columns=columns), "layers", alt="Nullity by network")


main()
