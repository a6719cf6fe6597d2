"""Study 5, on hand-made transfers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from bench import stats
from bench.config import Statistics
from bench.data import cifar10
from bench.errors import BenchError
from bench.studies import misclassification as study
from bench.studies import transfer, wordnet

SETTINGS = Statistics(bootstrap=500)
GROUPS = {"low": [0, 1, 2], "high": [6, 7]}


def rows() -> pd.DataFrame:
    """Seven transfers of four images of the classes 0, 0, 1 and 6."""
    return pd.DataFrame(
        {
            "sample_id": ["d/0", "d/0", "d/0", "d/1", "d/2", "d/3", "d/3"],
            "pred": [1, 1, 7, 2, 5, 7, 0],
            "rank_clean": [2, 2, 6, 3, 4, 2, 8],
            "p": [*[P] * 4, Q, *[P] * 2],
        }
    )


P = [0.6, 0.2, 0.1, 0.05, 0.05, 0, 0, 0, 0, 0]
Q = [0.1, 0.8, 0.05, 0.05, 0, 0, 0, 0, 0, 0]


LABELS = np.array([0, 0, 0, 0, 1, 6, 6])


def others(frame: pd.DataFrame, labels: np.ndarray) -> np.ndarray:
    return transfer.without_label(np.array(frame["p"].tolist(), float), labels)


def shares(n_classes: int = 10) -> pd.DataFrame:
    found = study.shares(rows(), LABELS, others(rows(), LABELS), GROUPS, n_classes, np.random.default_rng(0), SETTINGS)
    return found.set_index(["collection", "measure"])


def test_by_hand() -> None:
    found = shares()
    every = found.loc["all"]
    assert every["share"].to_dict() == pytest.approx({"top2": 3 / 7, "top3": 4 / 7, "top5": 5 / 7})
    assert every["chance"].to_dict() == pytest.approx({"top2": 1 / 9, "top3": 2 / 9, "top5": 4 / 9})
    # Without the label: of P for 0 the runner-up has 0.2 / 0.4, of Q for 1 it has 0.1 / 0.2, of P for 6 it has 0.6.
    assert every["null"]["top2"] == pytest.approx((4 * 0.5 + 0.5 + 2 * 0.6) / 7)
    assert every["null"]["top3"] == pytest.approx((4 * 0.75 + 0.75 + 2 * 0.8) / 7)
    assert every["over_null_pp"]["top2"] == pytest.approx(100 * (3 / 7 - 3.7 / 7))
    assert (every["over_null_low"] <= every["over_null_pp"]).all()
    assert (every["over_null_pp"] <= every["over_null_high"]).all()
    assert every["n"].unique().tolist() == [7]
    assert every["n_images"].unique().tolist() == [4]
    low = found.loc["low"]
    assert low["share"].to_dict() == pytest.approx({"top2": 2 / 5, "top3": 3 / 5, "top5": 4 / 5, "inside": 3 / 5})
    assert low["chance"]["inside"] == pytest.approx(2 / 9)
    assert low["null"]["inside"] == pytest.approx((4 * 0.3 / 0.4 + 0.15 / 0.2) / 5)
    assert low["n_classes"].unique().tolist() == [3]
    high = found.loc["high"]
    assert high["share"]["inside"] == 0.5
    assert (high["n"].unique().tolist(), high["n_images"].unique().tolist()) == ([2], [1])
    assert ((found["ci_low"] <= found["share"]) & (found["share"] <= found["ci_high"])).all()


def test_what_stays_in_the_group_of_its_label_is_no_correct_success() -> None:
    shown = pd.Series(4, index=["d/0", "d/1", "d/2", "d/3", "d/4"])
    of_images = np.array([0, 0, 1, 6, 9])
    rng = np.random.default_rng(0)
    found = study.leaving(
        rows(), LABELS, others(rows(), LABELS), shown, of_images, GROUPS, 10, rng, SETTINGS
    ).set_index("collection")
    # Of "low" the images 0, 1 and 2 are shown 12 times, five are answered wrongly, two of them (7 and 5) from without.
    low = found.loc["low"]
    assert (low["rate"], low["corrected"]) == pytest.approx((5 / 12, 2 / 12))
    assert (low["n"], low["n_transfers"], low["n_images"], low["n_classes"]) == (12, 5, 3, 3)
    assert low["null"] == pytest.approx((4 * 0.1 / 0.4 + 0.05 / 0.2) / 12)
    # Of "high" image 3 alone: 7 is inside, 0 is not. All together: the smallest group of each, that of 9 is 9 itself.
    assert (found.loc["high"]["rate"], found.loc["high"]["corrected"]) == (0.5, 0.25)
    assert (found.loc["all"]["rate"], found.loc["all"]["corrected"]) == pytest.approx((7 / 20, 3 / 20))
    assert (found["corrected"] <= found["rate"]).all()
    for one in ("rate", "corrected"):
        assert (found[f"{one}_low"] <= found[one]).all()
        assert (found[one] <= found[f"{one}_high"]).all()


def test_the_smallest_group_of_a_class() -> None:
    inside = study._smallest({"wide": [0, 1, 2, 3], "narrow": [0, 1]}, 5)
    assert [np.flatnonzero(row).tolist() for row in inside] == [[0, 1], [0, 1], [0, 1, 2, 3], [0, 1, 2, 3], [4]]


def test_flows_are_counts_of_transfers() -> None:
    found = study.flows(rows(), LABELS).set_index(["label", "pred"])
    assert found["n"].to_dict() == {(0, 1): 2, (0, 2): 1, (0, 7): 1, (1, 5): 1, (6, 0): 1, (6, 7): 1}
    assert found.loc[(0, 1), "n_images"] == 1


def test_distances_by_hand() -> None:
    """Three classes: two of one kind, which is two steps from the third."""
    parents = {"n0": (), "k": ("n0",), "a": ("k",), "b": ("k",), "c": ("n0",)}
    hierarchy = wordnet.Hierarchy(("a", "b", "c"), {one: one for one in parents}, parents)
    two = rows().iloc[:2].assign(sample_id=["d/0", "d/1"], pred=[1, 2], p=[[0.5, 0.4, 0.1]] * 2)
    found = study.apart(
        two,
        np.zeros(2, int),
        others(two, np.zeros(2, int)),
        {"k": [0, 1]},
        hierarchy,
        np.random.default_rng(0),
        SETTINGS,
    )
    one = found.loc[found["collection"] == "all"].set_index("measure")
    # a to b: 2 steps, over k at depth 1; a to c: 3 steps, over the root.
    assert one["value"].to_dict() == pytest.approx({"steps": 2.5, "similarity": (4 / 6 + 2 / 5) / 2, "depth": 0.5})
    assert one["chance"].to_dict() == pytest.approx(one["value"].to_dict())
    assert one["null"]["steps"] == pytest.approx(0.8 * 2 + 0.2 * 3)
    assert one["over_null"]["steps"] == pytest.approx(0.3)
    assert (one["ci_low"]["steps"], one["ci_high"]["steps"]) == (2, 3)
    assert found.loc[found["collection"] == "k", "n"].tolist() == [2, 2, 2]
    single = study.apart(
        two[:1], np.zeros(1, int), others(two[:1], np.zeros(1, int)), {}, hierarchy, np.random.default_rng(0), SETTINGS
    )
    assert single["ci_low"].isna().all(), "of one image there is no interval"


def test_many_transfers_of_one_image_are_no_more_images() -> None:
    """The interval of a share is as wide with every transfer repeated."""
    twice = pd.concat([rows()] * 20, ignore_index=True)
    found = study.shares(
        twice, np.tile(LABELS, 20), others(twice, np.tile(LABELS, 20)), {}, 10, np.random.default_rng(0), SETTINGS
    )
    widths = [(frame["ci_high"] - frame["ci_low"]).to_numpy() for frame in (shares().loc["all"], found)]
    np.testing.assert_allclose(*widths, atol=0.05)


def test_places_that_all_classes_have_are_left_out() -> None:
    five = rows().assign(p=[one[:5] for one in rows()["p"]], pred=1).iloc[:5]
    found = study.shares(five, LABELS[:5], others(five, LABELS[:5]), {}, 5, np.random.default_rng(0), SETTINGS)
    assert found["measure"].tolist() == ["top2", "top3"]


def test_an_interval_of_flags_that_are_all_alike_is_no_point() -> None:
    found = study.shares(
        rows().iloc[:2], LABELS[:2], others(rows().iloc[:2], LABELS[:2]), {}, 10, np.random.default_rng(0), SETTINGS
    )
    one = found.set_index("measure").loc["top2"]
    assert (one["share"], one["ci_high"], one["n_images"]) == (1.0, 1.0, 1)
    assert one["ci_low"] == pytest.approx(float(stats.wilson(1, 1)[0]))
    assert pd.isna(one["over_null_low"]), "nothing but the null would vary"


def test_only_transfers_on_suitable_images_count() -> None:
    attacks = pd.DataFrame(
        {
            "attack_id": ["pgd/8/a/d/0", "pgd/8/a/d/1", "pgd/2/a/d/0"],
            "sample_id": ["d/0", "d/1", "d/0"],
            "dataset": "d",
            "attack": "pgd",
            "source_model": "a",
            "l2": 1.0,
            "linf": 0.1,
        }
    )
    transfers = pd.DataFrame(
        {
            "attack_id": [*attacks["attack_id"], "pgd/8/a/d/0"],
            "target_model": ["b", "b", "b", "c"],
            "success": [True, True, False, True],
            "pred": 3,
            "rank_clean": 2,
        }
    )
    images = pd.DataFrame(
        [
            {"model": m, "dataset": "d", "sample_id": f"d/{i}", "right": (m, i) != ("a", 1)}
            | {"p": [0.5, 0.5] if m == "c" else [0.9, 0.1]}
            for m in "abc"
            for i in range(2)
        ]
    )
    (found,) = study.transferred(attacks, transfers, images)
    assert found[:2] == ("d", "attack:pgd:8")
    assert found[2]["target_model"].tolist() == ["b", "c"]
    assert found[2]["p"].tolist() == [[0.9, 0.1], [0.5, 0.5]], "those of the target"
    assert found[3].to_dict() == {"d/0": 2}, "of suitable images, whether they transfer or not"


def test_collections_are_of_classes_that_there_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = study.collections("cifar10", cifar10.CLASSES)
    assert known["pet"] == [3, 5]
    assert sorted(known["animal"] + known["vehicle"]) == list(range(10))
    assert set(known["hoofed"]) < set(known["mammal"]) < set(known["animal"])
    assert list(study.collections("digits", [str(i) for i in range(10)]))
    assert study.collections("another", ["x"]) == {}
    monkeypatch.setattr(study, "COLLECTIONS", tmp_path / "c.yaml")
    study.COLLECTIONS.write_text(yaml.safe_dump({"cifar10": {"pets": ["cat", "kitten"]}}))
    with pytest.raises(BenchError, match="'pets' of 'cifar10' names classes that are none: kitten"):
        study.collections("cifar10", cifar10.CLASSES)
