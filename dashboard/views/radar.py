"""Radar: attacks on sequences of range-Doppler maps by threat model and mask, and where they change them (study 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from bench.data.radar import ZERO
from dashboard import db, findings, parts, plots, state, terms
from dashboard.frames import Frame, records

QUESTION = "Can gestures before a radar be attacked, and is padding enough?"
CHANGE = 26
"""Largest change that the colours of the player tell apart, 1/255."""


def main() -> None:
    source = st.session_state["source"]
    models, summary = db.radar(source, "radar_models"), db.radar(source, "radar_summary")
    if models.empty or summary.empty:
        parts.head(QUESTION, "These results hold no study of radar sequences.")
        st.code("dvc repro radar database", language="bash")
        return
    kind = "Simulated" if models["simulated"].all() else "Recorded"
    parts.head(QUESTION, findings.padding(summary, kind.lower()), about(models, kind))
    success(summary, kind)
    player(db.radar(source, "radar_frames"), kind)
    relation(db.radar(source, "radar_cam_summary"), kind)
    networks(models, kind)


def about(models: Frame, kind: str) -> str:
    """What the sequences are, and how far the figures go."""
    return (
        f"{kind} sequences of range-Doppler maps. {models['n_test_subjects'].max()} {kind.lower()} people are test, of "
        "whom no network has seen a sequence. Each network was trained once: intervals are over sequences, and other "
        "people and trainings may differ by more. A "
        "digital attack: not every changed map is one that a radar could see."
    )


def success(summary: Frame, kind: str) -> None:
    """Shares of success by victim, threat model and mask, as a figure and as a table."""
    st.subheader(f"Success by threat model ({kind.lower()})", anchor=False, help=terms.HELP["radar_threat"])
    goal = state.picked("Goal", "goal", terms.RADAR_GOAL, st.segmented_control, value="untargeted", required=True)
    rows = summary.loc[summary["goal"] == goal, :].sort_values(["victim", "threat"])
    rows = rows.assign(name=[f"{terms.radar_network(row.victim)} · {row.threat}" for row in records(rows)])
    st.plotly_chart(
        plots.radar_success(rows),
        config=parts.PLOT,
        key="figure:radar-success",
        alt=f"Success by threat model ({kind})",
    )
    named = {row.name: f"{row.name} {terms.THREAT_MODEL[row.threat].lower()}" for row in records(rows)}
    masks = list(terms.RADAR_MASK)
    cells = {(row.name, masks.index(row.mask)): cell(row) for row in records(rows)}
    parts.matrix(list(named.items()), list(terms.RADAR_MASK.values()), cells)
    if (rows["reached"] == 0).any():
        st.caption(
            "Impossible: the network is told the length and reads no frame after it. Neither the attack nor random "
            "signs change a bit of what it puts out, so there is nothing to follow."
        )
    parts.downloads(rows.drop(columns="name"), f"radar-success-{kind.lower()}")


def cell(row: Any) -> tuple[str, str, str, str]:
    """A cell of the table of success: text, small text, what hovering says, no address."""
    if row.reached == 0:
        return "impossible", "padding is not read", "No frame of this mask reaches the network.", ""
    small = f"[{100 * row.ci_low:.1f}, {100 * row.ci_high:.1f}], random {100 * row.null_success:.1f}"
    hover = (
        f"In 8 bits {terms.percent(row.success_u8)}; random signs "
        f"{terms.percent(row.null_success, row.null_low, row.null_high)}; {100 * row.l0_frames:.0f} % of frames "
        f"changed, mean L2 {row.l2:.2f}, largest change {255 * row.linf:.0f}/255; n = {row.n}"
    )
    return terms.percent(row.success), small, hover, ""


def player(frames: Frame, kind: str) -> None:
    """One sequence frame by frame: the map, Grad-CAM and what an attack changes."""
    st.subheader(f"Frame by frame ({kind.lower()})", anchor=False, help=terms.HELP["radar_player"])
    if frames.empty:
        st.caption("This snapshot holds no frames.")
        return
    gestures = {row.sequence_id: f"{row.gesture} ({row.sequence_id})" for row in records(frames)}
    victims = {one: terms.radar_network(one) for one in frames["victim"].unique()}
    left, middle, right = st.columns(3)
    with left:
        sequence = state.picked("Sequence", "sequence", gestures)
    with middle:
        victim = state.picked("Victim", "victim", victims)
    with right:
        mask = state.picked("Attacked", "mask", terms.RADAR_MASK, value="padding")
    mine = frames.loc[(frames["sequence_id"] == sequence) & (frames["victim"] == victim)].sort_values("frame")
    at = stepped(len(mine))
    row = mine.to_dict("records")[at - 1]
    where = "padding" if at > row["n_frames"] else "action"
    free = "may" if mask in ("full", where) else "may not"
    st.caption(f"{kind}. Frame {at} of {len(mine)} is {where}; the attack {free} change it.")
    panels(row, mask, kind)
    shares = timeline(mine, mask)
    cam = shares["cam"].to_numpy()
    if cam.any():
        st.caption(f"{100 * cam[row['n_frames'] :].sum() / cam.sum():.0f} % of this Grad-CAM lies in padding.")
    st.plotly_chart(
        plots.radar_timeline(shares, row["n_frames"], at),
        config=parts.PLOT,
        key="figure:radar-timeline",
        alt=f"Grad-CAM and change by frame ({kind})",
    )


def stepped(n: int) -> int:
    """The frame to be shown, 1 to n: a slider, and a button for each direction."""
    at = min(state.current().frame, n)
    before, middle, after = st.columns([2, 9, 2], vertical_alignment="bottom")
    go: dict[str, Any] = {"on_click": lambda to: state.change(frame=to), "width": "stretch"}
    before.button("Back", key="radar:before", args=[at - 1], disabled=at == 1, icon=":material/chevron_left:", **go)
    after.button("Next", key="radar:after", args=[at + 1], disabled=at == n, icon=":material/chevron_right:", **go)
    with middle:
        state.bound(st.select_slider, "Frame", "frame", value=at, options=list(range(1, n + 1)))
    return at


def panels(row: Mapping[Any, Any], mask: str, kind: str) -> None:
    """The map of a frame, its Grad-CAM and its change."""
    size, small = (row["height"], row["width"]), (row["cam_height"], row["cam_width"])
    shown = {
        "Map": (pixels(row["clean"], size) / 255, "Viridis", 0, 1),
        "Grad-CAM": (pixels(row["cam"], small) / 255, "Cividis", 0, 1),
        "Change, 1/255": (pixels(row[mask], size) - ZERO, "RdBu", -CHANGE, CHANGE),
    }
    for column, (title, (values, colours, low, high)) in zip(st.columns(3), shown.items(), strict=True):
        with column:
            plot = plots.radar_map(values, title, colours, low, high)
            st.plotly_chart(plot, config=parts.PLOT, key=f"radar:{title}", alt=f"{title} ({kind})")


def timeline(frames: Frame, mask: str) -> Frame:
    """Grad-CAM and change of each frame of a sequence, as shares of their largest: frame (from 1 on), cam, change."""
    cam = np.array([np.frombuffer(one, np.uint8).sum() for one in frames["cam"]], float)
    change = np.array([np.linalg.norm(np.frombuffer(one, np.uint8).astype(float) - ZERO) for one in frames[mask]])
    shares = {"cam": cam / max(cam.max(), 1e-12), "change": change / max(change.max(), 1e-12)}
    return pd.DataFrame({"frame": frames["frame"].to_numpy() + 1, **shares})


def pixels(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """Stored bytes as whole numbers (height, width)."""
    return np.frombuffer(data, np.uint8).reshape(size).astype(int)


def relation(rows: Frame, kind: str) -> None:
    """Whether attacks change the frames that Grad-CAM finds important."""
    st.subheader(f"Grad-CAM and change ({kind.lower()})", anchor=False, help=terms.HELP["radar_cam"])
    if rows.empty:
        st.caption("No sequence has both a Grad-CAM and a change that vary over frames.")
        return
    st.markdown(findings.gradcam(rows))
    rows = rows.assign(
        name=[f"{terms.radar_network(row.victim)} · {terms.RADAR_SCOPE[row.scope].lower()}" for row in records(rows)]
    ).sort_values(["scope", "victim"])
    st.plotly_chart(
        plots.radar_relation(rows),
        config=parts.PLOT,
        key="figure:radar-cam",
        alt=f"Correlation of Grad-CAM and change over frames, with its null ({kind})",
    )
    steps = list(terms.RADAR_STEP)
    cells = {
        (row.name, steps.index(row.step)): (
            terms.number(row.rho, row.ci_low, row.ci_high),
            f"shifted {terms.number(row.null_mean, row.null_low, row.null_high)}, p = {row.p_value:.3f}",
            f"Top fifth of frames: overlap {row.overlap:.2f}, shifted {row.null_overlap:.2f}; n = {row.n}",
            "",
        )
        for row in records(rows)
    }
    names = rows["name"].drop_duplicates().tolist()
    parts.matrix(list(zip(names, names, strict=True)), list(terms.RADAR_STEP.values()), cells)
    parts.downloads(rows.drop(columns="name"), f"radar-cam-{kind.lower()}")


def networks(models: Frame, kind: str) -> None:
    """How good the networks are on people that they have not seen."""
    shown = pd.DataFrame(
        {
            "Network": models["arch"].map(terms.RADAR_ARCH),
            "Group": models["trained_on"],
            "Subjects": models["n_subjects"],
            "Sequences": models["n_train"],
            "Accuracy": [terms.percent(row.accuracy, row.ci_low, row.ci_high) for row in records(models)],
            "n": models["n"],
        }
    )
    with st.expander(f"The networks, trained and tested on {kind.lower()} sequences"):
        parts.table(shown, f"radar-networks-{kind.lower()}", alt=f"Accuracy of the networks on test subjects ({kind})")


main()
