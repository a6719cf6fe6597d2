"""Study 8: the stage on small networks, and its summary by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from bench.config import Regional, RegionalRuns, Statistics
from bench.store import tables
from bench.studies import regional as study
from tests import tiny


def rows(region: str, success: list[bool], l2: list[float], fixed: list[bool]) -> pd.DataFrame:
    n = len(success)
    about = {"region": region, "source_model": "a", "target_model": "b", "sample_id": [f"d/{i}" for i in range(n)]}
    sizes = {"share": 0.25 if region != "full" else 1.0, "l0": 0.2, "l2": l2, "linf": 0.1, "iterations": 10}
    return pd.DataFrame(
        {**about, **sizes, "success": success, "success_u8": success, "fixed_success": fixed, "fixed_l2": 1.0}
    ).assign(fixed_linf=0.1)


def test_the_summary_by_hand() -> None:
    whole = rows("full", [True, True, True, False], [1.0, 2.0, 3.0, 9.0], [True, False, False, False])
    part = rows("mine", [True, False, True, True], [2.0, 9.0, 3.0, 1.0], [True, False, False, True])
    found = study.summed(pd.concat([whole, part]), Statistics(bootstrap=200), 0)
    assert set(found["source_model"]) == {"all", "a"}
    one = found.loc[(found["region"] == "mine") & (found["source_model"] == "all")].iloc[0]
    assert (one["n"], one["n_whole"], one["n_common"]) == (4, 3, 2)
    assert one["maintain"] == pytest.approx(2 / 3)
    assert one["success"] == pytest.approx(3 / 4)
    assert one["l2_over"] == pytest.approx((2 + 3) / (1 + 3))
    assert one["l2_budget"] == 2.0
    assert one["equal_l2"] == pytest.approx(2 / 4), "images 0 and 3"
    assert one["equal_l2_whole"] == pytest.approx(2 / 4)
    assert (one["fixed"], one["fixed_maintain"]) == (0.5, 1.0)
    assert one["maintain_low"] < one["maintain"] < one["maintain_high"]
    none = study.summed(pd.concat([whole.assign(success=False), part]), Statistics(bootstrap=50), 0)
    empty = none.loc[none["region"] == "mine"].iloc[0]
    unknown = ["maintain", "l2_over", "l2_budget", "equal_l2", "equal_l2_whole", "equal_l2_low"]
    assert np.isnan(empty[unknown].to_numpy(float)).all()
    alone = study.summed(pd.concat([whole[:1], part[:1]]), Statistics(bootstrap=50), 0)
    single = alone.loc[alone["region"] == "mine"].iloc[0]
    assert single["l2_over"] == 2.0
    assert np.isnan(single[["l2_low", "l2_high"]].to_numpy(float)).all(), "of one image nothing is known"


def test_the_stage_keeps_to_its_regions_and_says_the_same_again(tmp_path: Path) -> None:
    root = tiny.make(tmp_path / "tiny").root
    run = Regional(
        dataset="blocks",
        models=["cnn", "linear"],
        n_images=6,
        iterations=40,
        fixed=5,
        step_255=4,
        regions=["centre-120", "gradcam-28"],
        drawn={"left": ["#.", "#."]},
    )
    config = tiny.make(shutil.copytree(root, tmp_path / "copy", dirs_exist_ok=True))
    config = config.model_copy(update={"regional": RegionalRuns(runs={"one": run})})
    counts = study.run(config)
    frame = tables.read("regional", config.results / "regional.parquet")
    assert counts["regional"] == len(frame)
    assert set(frame["region"]) == {"full", "centre-120", "gradcam-28", "left"}
    looked = frame.loc[frame["region"] == "gradcam-28", "source_model"]
    assert set(looked) == {"cnn"}, "the linear one has no map, and no positions drawn in its place"
    assert (frame["l0"] <= frame["share"] + 1e-6).all()
    assert frame.loc[frame["region"] == "left", "share"].unique().tolist() == [0.5]
    assert (frame["iterations"] <= 40).all()
    assert (frame["linf"] <= 4 / 255 * frame["iterations"] + 1e-5).all()
    assert (frame["success"] | (frame["iterations"] == 40)).all()
    assert frame["success"].nunique() == 2, "or one side of this is not seen"
    path = config.results / "regional.parquet"
    before = path.read_bytes()
    study.run(config)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"regions": ["circle-9"]}, "'circle-9' is none"),
        ({"regions": ["random-120"]}, "'random-120' is none"),
        ({"drawn": {"one": ["##", "#"]}}, "rows are of one length"),
        ({"drawn": {"one": [".."]}}, "no position may change"),
        ({"drawn": {"full": ["#"]}}, "regions of another kind have such names"),
        ({"drawn": {"centre-60": ["#"]}}, "regions of another kind have such names"),
        ({"regions": ["centre-300"]}, "'centre-300' is none"),
        ({"regions": ["frame-112"]}, "'frame-112' is none"),
        ({"models": ["a", "a"]}, "one is named twice"),
        ({"fixed": 200}, "more than iterations"),
        ({"models": ["a"]}, "at least 2"),
    ],
)
def test_runs_that_cannot_be_are_refused(more: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Regional.model_validate({"dataset": "d", "models": ["a", "b"], **more})
