"""Section of the page Attacks: attacks on a part of the image (study 8), and regions that a person draws."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from bench import config as configuration
from bench import stats
from bench.config import Config, Regional
from bench.errors import BenchError
from bench.store import database
from dashboard import db, findings, parts, plots, state, terms
from dashboard.frames import Frame, records

TRIED = 24
"""Images on which a drawn region is tried."""
GRID = 16
"""Positions a side of what is drawn on."""


def section(source: db.Source, catalogue: db.Catalogue, view: state.View) -> None:
    """What regions keep of transfers and sizes, and a region of one's own."""
    st.subheader("Is a part of the image enough?", anchor=False, help=terms.HELP["regional"])
    every = db.regional_summary(source, view.dataset)
    if every.empty:
        st.caption("No regions were attacked on this set (`regional` in params.yaml).")
        return
    frame = every.loc[every["source_model"] == "all"]
    parts_of = frame.loc[frame["region"] != "full"].assign(
        name=lambda rows: rows["region"].map(terms.region), kind=lambda rows: rows["region"].str.split("-").str[0]
    )
    st.markdown(findings.regional(frame))
    parts.figure(
        plots.regions(parts_of), parts_of, "regions", "Transfers that regions keep, by their share of the image"
    )
    st.caption(
        "Of the transfers of the attack on the whole image, those that the attack on the region makes too within the "
        "same number of steps; intervals resample images. Both stop when the target falls, which asks it at each step."
    )
    sizes(parts_of)
    with st.expander("At equal steps and at equal L2", expanded=False):
        st.caption(terms.HELP["regional_budgets"])
        budgets(parts_of, next(records(frame.loc[frame["region"] == "full"])))
    with st.expander("By pair of models"):
        pairs = every.loc[(every["source_model"] != "all") & (every["region"] != "full")]
        parts.table(
            pd.DataFrame(
                {
                    "Region": pairs["region"].map(terms.region),
                    "Made on": [catalogue.model_name(m) for m in pairs["source_model"]],
                    "Shown to": [catalogue.model_name(m) for m in pairs["target_model"]],
                    "Kept": [_share(row, "maintain") for row in records(pairs)],
                    "L2": [_over(row, "l2") for row in records(pairs)],
                    "Linf": [_over(row, "linf") for row in records(pairs)],
                    "n": pairs["n_whole"],
                }
            ),
            "regional-pairs",
            alt="Regions by pair of models",
        )
    editor(source, catalogue, view, every)


def sizes(frame: Frame) -> None:
    """Sizes of perturbations beside those of the whole image."""
    st.markdown("**Sizes, as times those of the whole image**", help=terms.HELP["regional_sizes"])
    parts.table(
        pd.DataFrame(
            {
                "Region": frame["name"],
                "Image, %": (100 * frame["share"]).round(1),
                "Kept": [_share(row, "maintain") for row in records(frame)],
                "L0": [_over(row, "l0") for row in records(frame)],
                "L2": [_over(row, "l2") for row in records(frame)],
                "Linf": [_over(row, "linf") for row in records(frame)],
                "Steps": [_over(row, "iterations") for row in records(frame)],
                "n": frame["n_common"],
            }
        ),
        "regional",
        alt="Sizes of perturbations by region",
    )


def budgets(frame: Frame, whole: Any) -> None:
    """Transfers of regions and of the whole image at equal steps and at equal L2."""
    rows = [("Whole image", whole), *zip(frame["name"], records(frame), strict=True)]
    parts.table(
        pd.DataFrame(
            [
                {
                    "Region": name,
                    "At equal steps": _share(row, "fixed"),
                    "L2 then": f"{row.fixed_l2:.2f}",
                    "At equal L2": _share(row, "equal_l2"),
                    "At any, asked at each step": _share(row, "success"),
                    "In 8 bits": _share(row, "success_u8"),
                    "n": row.n,
                }
                for name, row in rows
            ]
        ),
        "regional-budgets",
        alt="Transfers at equal budgets by region",
    )


def _share(row: Any, name: str) -> str:
    value, low, high = (getattr(row, one) for one in (name, f"{name}_low", f"{name}_high"))
    return "–" if pd.isna(value) else terms.percent(value, low, high)


def _over(row: Any, name: str) -> str:
    value, low, high = (getattr(row, f"{name}_{part}") for part in ("over", "low", "high"))
    return "–" if pd.isna(value) else terms.number(value, low, high)


def editor(source: db.Source, catalogue: db.Catalogue, view: state.View, every: Frame) -> None:
    """Draw a region, and try it on some images with the networks of this repository."""
    st.subheader("Draw a region", anchor=False, help=terms.HELP["drawn"])
    left, right = st.columns([2, 3])
    with left:
        event = st.plotly_chart(
            plots.canvas(GRID),
            config={"displaylogo": False, "displayModeBar": False},
            key="region:canvas",
            on_select="rerun",
            selection_mode=("points", "box", "lasso"),
            alt="A grid to draw a region on",
        )
    cells = np.zeros((GRID, GRID), bool)
    for point in event["selection"]["points"]:
        cells[int(point["y"]), int(point["x"])] = True
    with right:
        if not cells.any():
            st.caption("Drag over the grid to draw a region, or click positions with Shift held.")
            return
        st.markdown(f"**{terms.percent(cells.mean())}** of the image may change.")
        rows = ["".join("#" if cell else "." for cell in row) for row in cells]
        config = configuration.load(Path(os.environ.get("BENCH_ROOT", ".")) / "params.yaml")
        runs = {name: run for name, run in config.regional.runs.items() if run.dataset == view.dataset}
        if not runs:
            st.caption("params.yaml no longer says how regions of this set are attacked (`regional`).")
            return
        name, run = next(iter(runs.items()))
        lines = "".join(f'          - "{row}"\n' for row in rows)
        with st.expander("As a region of params.yaml"):
            st.code(f"regional:\n  runs:\n    {name}:\n      drawn:\n        mine:\n{lines}", language="yaml")
        models = every.loc[every["source_model"] != "all", "source_model"].drop_duplicates().tolist()
        one, two = st.columns(2)
        made = one.selectbox("Made on", models, format_func=catalogue.model_name, key="region:source")
        onto = [model for model in models if model != made]
        shown = two.selectbox("Shown to", onto, format_func=catalogue.model_name, key="region:target")
        if source.path != str(config.results / database.FILE):
            st.caption("A snapshot holds no networks: regions are tried in the repository itself.")
            return
        if not st.button(f"Try it on {TRIED} images", key="region:try", type="primary"):
            return
    try:
        with st.spinner("Attacking …"):
            found = tried(source, config, run.model_dump_json(), str(made), str(shown), tuple(rows))
    except BenchError as fault:
        st.error(str(fault))
        return
    parts.table(found, "region-tried", alt="The drawn region beside the whole image")
    st.caption("Norms are means over the images that both fool; the whole image is attacked in the same way.")


@st.cache_data(max_entries=32, show_spinner=False)
def tried(source: db.Source, _config: Config, run_json: str, made: str, shown: str, rows: tuple[str, ...]) -> Frame:
    """The norm table of a drawn region (rows of signs) and of the whole image, on images that both models get right,
    attacked as the run (JSON) says.

    BenchError where a network or the images are not there.
    """
    from bench import compute
    from bench.data import cache
    from bench.models import zoo
    from bench.studies import regional

    run = Regional.model_validate_json(run_json)
    run = run.model_copy(update={"models": [made, shown], "regions": [], "drawn": {"drawn": list(rows)}})
    run = run.model_copy(update={"n_images": min(TRIED, run.n_images)})
    compute.prepare(_config.compute, _config.seed)
    networks = {model: zoo.load(_config, model) for model in run.models}
    data = regional.suitable(networks, run.dataset, cache.load(_config, run.dataset), run.n_images, _config)
    if not len(data.ids):
        raise BenchError("there is no image that both models get right.", where=run.dataset, remedy="Choose others.")
    found = regional.attacked(made, networks, data, run, _config).set_index("sample_id")
    by = {
        name: found.loc[found["region"] == name] for name in ("full", "drawn") if name in set(found["region"].tolist())
    }
    both = np.logical_and.reduce([rows["success"].loc[data.ids].to_numpy(bool) for rows in by.values()])
    out = []
    for name, mine in by.items():
        common = mine.loc[data.ids].loc[both]
        means = {size: float(common[size].mean()) if len(common) else None for size in ("l0", "l2", "linf")}
        low, high = stats.wilson(mine["success"].sum(), len(mine), _config.statistics.confidence)
        out.append(
            {
                "Region": {"full": "Whole image", "drawn": "Drawn"}[name],
                "Fooled": terms.percent(float(mine["success"].mean()), float(low), float(high)),
                "n": len(mine),
                "L0, %": None if means["l0"] is None else round(100 * means["l0"], 1),
                "L2": None if means["l2"] is None else round(means["l2"], 2),
                "Linf, /255": None if means["linf"] is None else round(255 * means["linf"], 1),
                "Steps": round(float(common["iterations"].mean()), 1) if len(common) else None,
                "Common": len(common),
            }
        )
    return pd.DataFrame(out)
