"""The section Regions of the page Attacks: what it says, and a drawn region that is tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.config import Config, Regional, RegionalRuns
from bench.errors import BenchError
from bench.store import tables
from dashboard import db, findings, regions, terms
from tests import tiny
from tests.dashboard.conftest import Open, text


def test_the_section_says_what_holds_of_the_claims(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "attacks", threats="regions")
    assert not app.exception
    said = text(app).replace("**", "")
    kept = stored(config)["maintain"].iloc[0]
    assert f"Attacks on 1 region of the paper's kinds keep {100 * kept:.1f} % to {100 * kept:.1f} %" in said
    assert "(in the paper 76 %)" in said
    assert "That L0 is smaller on the transfers of both: confirmed" in said
    assert "That Linf is smaller on the transfers of both: not confirmed" in said
    assert "Drag over the grid" in said


def stored(config: Config) -> pd.DataFrame:
    frame = tables.read("regional_summary", config.results / "regional_summary.parquet")
    return frame.loc[(frame["region"] == "centre-120") & (frame["source_model"] == "all")]


def test_one_image_confirms_nothing() -> None:
    rows = pd.DataFrame({"region": ["full", "centre-90"], "n_common": [3, 1], "n_whole": [3, 3]})
    rows = rows.assign(maintain=1 / 3, l2_low=float("nan"))
    assert findings.regional(rows).startswith("Too few images transfer")


def test_a_region_that_keeps_nothing_counts_and_our_own_kinds_do_not() -> None:
    sizes = {f"{size}_{part}": 0.5 for size in ("l0", "l2", "linf") for part in ("over", "low", "high")}
    rows = [
        {"region": "frame-17", "n_common": 0, "n_whole": 10, "maintain": 0.0} | dict.fromkeys(sizes, np.nan),
        {"region": "centre-90", "n_common": 4, "n_whole": 10, "maintain": 0.4},
        {"region": "gradcam-28", "n_common": 10, "n_whole": 10, "maintain": 1.0},
    ]
    said = findings.regional(pd.DataFrame([sizes | row for row in rows]))
    assert "Attacks on 2 regions of the paper's kinds keep **0.0 % to 40.0 %** of the 10 transfers" in said
    assert "20.0 % on average" in said
    assert "smaller in 1, larger in 0 of 1 regions" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("centre-90", "Middle square, 90/224"),
        ("random-17", "Scattered, 17 %"),
        ("mine", "mine"),
        ("frame-mine", "frame-mine"),
    ],
)
def test_names_of_regions(name: str, said: str) -> None:
    assert terms.region(name) == said


def attack_with(config: Config) -> Callable[[tuple[str, ...]], pd.DataFrame]:
    """The norm table of a region on the small networks."""
    said = config.regional.runs["one"].model_dump_json()
    return lambda rows: regions.tried.__wrapped__(db.Source("", 0, 0), config, said, "cnn", "linear", rows)


def test_a_drawn_region_is_held_against_the_whole_image(tmp_path: Path) -> None:
    run = Regional(dataset="blocks", models=["cnn", "linear"], n_images=9, iterations=60, fixed=5, step_255=4)
    config = tiny.make(tmp_path).model_copy(update={"regional": RegionalRuns(runs={"one": run})})
    attack = attack_with(config)
    found = attack(("##", ".."))
    assert found["Region"].tolist() == ["Whole image", "Drawn"]
    assert (found["n"] == found["n"].iloc[0]).all()
    assert found["Common"].iloc[0] > 0
    assert found["L0, %"].iloc[1] <= 50
    whole = attack(("##", "##"))
    assert whole["Region"].tolist() == ["Whole image"], "what is all of it is not tried twice"
    (config.results / "checkpoints" / "cnn.safetensors").unlink()
    with pytest.raises(BenchError, match="train@cnn"):
        attack(("#.", ".."))
