"""Where transfers land: the rings, the sentences, and the section of the page Attacks that shows them."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.config import Config
from bench.store import tables
from dashboard import db, hierarchy
from tests.dashboard.conftest import Open, text
from tests.dashboard.test_attacks import CONDITION

GROUPS = {"animal": [0, 1, 2, 3], "pet": [0, 1], "swims": [1, 4]}
NAMES = {0: "cat", 1: "dog", 2: "deer", 3: "horse", 4: "ship"}


def test_a_class_stands_in_groups_that_hold_one_another() -> None:
    assert hierarchy.lineage(1, GROUPS) == ["animal", "pet"], "swims is no part of animal"
    assert hierarchy.lineage(4, GROUPS) == ["swims"]
    assert hierarchy.lineage(9, GROUPS) == []


def test_rings_hold_what_landed() -> None:
    landed = pd.DataFrame({"pred": [0, 2, 4], "n": [5, 3, 2]})
    trace = hierarchy.sunburst(landed, NAMES, GROUPS, {0, 1}).data[0]
    held = dict(zip(trace.ids, zip(trace.labels, trace.values, trace.parents, strict=True), strict=True))
    assert held["all"] == ("all transfers", 10, "")
    assert held["all/animal"] == ("animal", 8, "all")
    assert held["all/animal/pet/class 0"] == ("cat", 5, "all/animal/pet")
    assert held["all/swims/class 4"] == ("ship", 2, "all/swims")
    colour = dict(zip(trace.ids, trace.marker.colors, strict=True))
    assert colour["all/animal"] == hierarchy.MIXED
    assert colour["all/animal/pet"] != colour["all/swims"]
    texts = dict(zip(trace.ids, trace.hovertext, strict=True))
    assert "8 transfers, 80.0 % of 10" in texts["all/animal"]


def test_the_sentences_say_what_the_figures_say() -> None:
    row = {"collection": "all", "rate": 0.3, "rate_low": 0.2, "rate_high": 0.4, "corrected": 0.1, "corrected_low": 0.05}
    row |= {"corrected_high": 0.2, "null": 0.15, "n": 1200, "n_images": 100}
    found = hierarchy.left_sentence(pd.DataFrame([row]))
    assert "30.0 % [20.0, 40.0] of what is shown" in found
    assert "10.0 % [5.0, 20.0] with a class outside" in found
    assert "(n = 1,200, 100 images)" in found
    far = {"collection": "all", "measure": "steps", "value": 5.0, "ci_low": 4.0, "ci_high": 6.0, "chance": 12.0}
    far |= {"null": 6.0, "over_null": -1.0, "over_null_low": -2.0, "over_null_high": float("nan")}
    far["over_null_low"] = float("nan")
    found = hierarchy.apart_sentence(pd.DataFrame([far]))
    assert "5.00 [4.00, 6.00] steps" in found
    assert "-1.00 over that" in found, "no interval where there is none"


def test_images_that_land_in_a_group(config: Config, source: db.Source) -> None:
    groups = db.class_groups(source, "digits").groupby("collection")["class_id"].agg(list)
    members = tuple(groups["closed loop"])
    assert members == (0, 6, 8, 9)
    found = db.landed(source, CONDITION, members, None)
    assert found["label"].isin(members).all()
    assert found["sample_id"].is_unique
    flows = tables.read("misclassification_flows", config.results / "misclassification_flows.parquet")
    flows = flows.loc[flows["condition"] == CONDITION]
    assert set(found["label"]) == set(flows.loc[flows["label"].isin(members), "label"])
    both = db.landed(source, CONDITION, members, members)
    expected = flows.loc[flows["label"].isin(members) & flows["pred"].isin(members), "n"].sum()
    assert 0 < both["n"].sum() <= expected
    every = db.landed(source, CONDITION, None, None)
    assert len(every) >= len(found)


def test_a_group_is_chosen_and_its_images_are_shown(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "attacks", threat=CONDITION, threats="classes", kin="closed loop")
    assert not app.exception
    said = text(app)
    assert "with a class outside the smallest group of its label" in said
    assert "with a label in closed loop" in said
    assert "Steps" not in said, "digits are in no hierarchy"
    assert "right-hand bows" in app.selectbox(key="w:land").options
    app.selectbox(key="w:land").set_value("right-hand bows").run()
    assert not app.exception
    tiles = [b for b in app.button if b.key and b.key.startswith("open:landed:")]
    assert tiles
    assert all(tile.label.split(" → ")[0] in "0689" for tile in tiles)
    assert all(tile.label.split(" → ")[1].split(" · ")[0] in "3589" for tile in tiles)


@pytest.mark.parametrize("section", ["pairs", "classes"])
def test_what_is_theirs_is_marked_as_theirs(config: Config, open_app: Open, section: str) -> None:
    app = open_app(config.root, "attacks", threat=CONDITION, threats=section)
    labels = [one.label for one in app.expander]
    assert ("The paper's matrix: theirs, not computed here" in labels) == (section == "pairs")
    assert "The paper's collections: theirs, beside the nearest groups here" not in labels, "of ImageNet alone"
    if section == "pairs":
        assert "mean 21.7 % of a pair, together 173,549 adversarial images" in text(app)


def test_their_groups_stand_beside_those_of_their_classes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"collection": one, "measure": "top3", "share": 0.5} for one in ("all", "animal", "mammal")]
    shown: list[pd.DataFrame] = []
    monkeypatch.setattr(hierarchy.parts, "table", lambda frame, *_, **__: shown.append(frame))
    hierarchy.theirs_of_groups(pd.DataFrame(rows), "cifar10")
    assert not shown, "CIFAR-10 has groups of these names, too"
    hierarchy.theirs_of_groups(pd.DataFrame(rows), "imagenet-1k")
    assert shown[0]["Here"].tolist() == ["all", "animal", "mammal"]
    assert shown[0]["within 3, here, %"].tolist() == [50.0, 50.0, 50.0]
