"""Radar: attacks on sequences of range-Doppler maps by threat model and mask, and where they change them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from bench.studies import radar as study
from dashboard import db, parts, terms
from dashboard.frames import Frame, records

QUESTION = "Can gestures before a radar be attacked, and is padding enough?"
ARCH = {"cnn3d": "3-D CNN", "cnnlstm": "CNN-LSTM", study.GIVEN: "CNN-LSTM that is told the length"}
THREAT = {
    1: "1 · the victim itself",
    2: "2 · its architecture, other subjects",
    3: "3 · another architecture, the same subjects",
    4: "4 · both other",
}
STEP = {"sign": "Sign steps", "l2": "Steps along the gradient"}
SCOPE = {"all": "All frames, padding too", "action": "Frames of the action"}
NULL = "The same share where every value of the mask goes up or down by the largest change of the attack, at random."


def named(model: str) -> str:
    """What a network is called: its architecture, without its group."""
    return ARCH[model.rsplit("-", 1)[0]]


def main() -> None:
    source = st.session_state["source"]
    models, summary = db.radar(source, "radar_models"), db.radar(source, "radar_summary")
    if models.empty or summary.empty:
        parts.head(QUESTION, "These results hold no study of radar sequences.")
        st.code("bench radar", language="bash")
        return
    kind = "Simulated" if models["simulated"].all() else "Recorded"
    parts.head(QUESTION, answer(summary, kind.lower()))
    first = models.iloc[0]
    st.caption(
        f"{kind} sequences of range-Doppler maps. {first['n_test_subjects']} {kind.lower()} people are test, of whom "
        "no network has seen a sequence: intervals are over sequences, and other people may differ by more. A digital "
        "attack: not every changed map is one that a radar could see."
    )
    goal = st.segmented_control("Goal", list(study.GOALS), default="untargeted", required=True, key="radar:goal")
    st.subheader(f"Success by threat model ({kind.lower()})", anchor=False, help=NULL)
    parts.table(table(summary.loc[summary["goal"] == goal]), "radar-success", alt="Success by threat model and mask")
    networks(models)
    player(db.radar(source, "radar_frames"), kind)
    relation(db.radar(source, "radar_cam_summary"), kind)


def answer(summary: Frame, kind: str) -> str:
    """How far padding alone goes, with its null, and that it goes nowhere where the length is given."""
    rows = summary.loc[(summary["mask"] == "padding") & (summary["goal"] == "untargeted") & (summary["threat"] == 1)]
    said = [
        f"{named(row.victim)}: **{terms.percent(row.success, row.ci_low, row.ci_high)}** (random signs: "
        f"{terms.percent(row.null_success)})"
        for row in records(rows)
    ]
    return (
        f"Of {rows['n'].max()} {kind} gestures that all networks get right, this share is answered wrongly when "
        f"nothing but padding is changed, with the gradient of the network itself. {'; '.join(said)}."
    )


def table(rows: Frame) -> Frame:
    """One line for each victim, threat model and mask."""
    rows = rows.sort_values(["victim", "threat", "mask"])
    return pd.DataFrame(
        {
            "Victim": rows["victim"].map(named),
            "Attacker": rows["threat"].map(THREAT),
            "Mask": rows["mask"],
            "Success": [terms.percent(row.success, row.ci_low, row.ci_high) for row in records(rows)],
            "In 8 bits": [terms.percent(row.success_u8) for row in records(rows)],
            "Random signs": [terms.percent(row.null_success, row.null_low, row.null_high) for row in records(rows)],
            "Frames changed, %": (100 * rows["l0_frames"]).round(0),
            "L2": rows["l2"].round(2),
            "n": rows["n"],
        }
    )


def networks(models: Frame) -> None:
    """How good the networks are on people that they have not seen."""
    shown = pd.DataFrame(
        {
            "Network": models["arch"].map(ARCH),
            "Trained on group": models["trained_on"],
            "Subjects": models["n_subjects"],
            "Sequences": models["n_train"],
            "Accuracy": [terms.percent(row.accuracy, row.ci_low, row.ci_high) for row in records(models)],
            "n": models["n"],
        }
    )
    parts.table(shown, "radar-networks", alt="Accuracy of the networks on test subjects")


def player(frames: Frame, kind: str) -> None:
    """One sequence frame by frame: the map, Grad-CAM and what an attack changes."""
    st.subheader(f"Frame by frame ({kind.lower()})", anchor=False)
    if frames.empty:
        st.caption("This snapshot holds no frames.")
        return
    left, middle, right = st.columns(3)
    gestures = frames.drop_duplicates("sequence_id").set_index("sequence_id")["gesture"]
    chosen = left.selectbox("Gesture", list(gestures.index), format_func=gestures.get, key="radar:sequence")
    victim = middle.selectbox("Network", list(frames["victim"].unique()), format_func=named, key="radar:victim")
    mask = right.segmented_control("Mask", list(study.MASKS), default="padding", required=True, key="radar:mask")
    mine = frames.loc[(frames["sequence_id"] == chosen) & (frames["victim"] == victim)].sort_values("frame")
    at = st.slider("Frame", 1, len(mine), 1, key="radar:frame")
    row = mine.iloc[at - 1]
    where = "padding" if at > row["n_frames"] else "action"
    free = "may" if mask in ("full", where) else "may not"
    st.caption(f"{kind}. Frame {at} of {len(mine)} is {where}; under the mask {mask} the attack {free} change it.")
    size, small = (int(row["height"]), int(row["width"])), (int(row["cam_height"]), int(row["cam_width"]))
    change = pixels(row[mask], size) - study.ZERO
    panels = {
        "Map": (pixels(row["clean"], size) / 255, "Viridis", 0, 1),
        "Grad-CAM, of the sequence's largest": (pixels(row["cam"], small) / 255, "Inferno", 0, 1),
        "Change, 1/255": (change, "RdBu", -26, 26),
    }
    for column, (title, (values, colours, low, high)) in zip(st.columns(3), panels.items(), strict=True):
        with column:
            st.plotly_chart(picture(values, title, colours, low, high), key=f"radar:{title}", alt=f"{title} ({kind})")


def pixels(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """Stored bytes as whole numbers (height, width)."""
    return np.frombuffer(data, np.uint8).reshape(size).astype(int)


def picture(values: np.ndarray, title: str, colours: str, low: float, high: float) -> go.Figure:
    """Values by range (up) and Doppler (across)."""
    layout = {
        "height": 280,
        "title": {"text": title, "font": {"size": 14}},
        "margin": {"l": 8, "r": 8, "t": 36, "b": 8},
        "xaxis": {"title": "Doppler", "showticklabels": False},
        "yaxis": {"title": "Range", "showticklabels": False},
        "dragmode": False,
    }
    trace = {"type": "heatmap", "z": values, "colorscale": colours, "zmin": low, "zmax": high}
    return go.Figure({"data": [trace], "layout": layout})


def relation(rows: Frame, kind: str) -> None:
    """Whether attacks change the frames that Grad-CAM finds important."""
    st.subheader(
        f"Grad-CAM and change ({kind.lower()})",
        anchor=False,
        help="Spearman's correlation over frames of Grad-CAM with the length of the change. The null shifts one of "
        "them in a circle: a sequence has no more shifts than frames, so all of them, and 1,000 draws for the mean.",
    )
    shown = pd.DataFrame(
        {
            "Network": rows["victim"].map(named),
            "Attack": rows["step"].map(STEP),
            "Over": rows["scope"].map(SCOPE),
            "Correlation": [f"{row.rho:.2f} [{row.ci_low:.2f}, {row.ci_high:.2f}]" for row in records(rows)],
            "Shifted": [f"{row.null_mean:.2f} [{row.null_low:.2f}, {row.null_high:.2f}]" for row in records(rows)],
            "p": rows["p_value"].round(3),
            "Overlap of top fifth": rows["overlap"].round(2),
            "Shifted, overlap": rows["null_overlap"].round(2),
            "n": rows["n"],
        }
    )
    parts.table(shown, "radar-cam", alt="Correlation of Grad-CAM and change over frames, with its null")


main()
