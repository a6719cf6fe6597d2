"""Rules for votes, by hand: who says what, what follows, and when nobody may decide silently."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config import Consensus
from bench.relabel import rules

ANSWERS = {"y": (1, 0, 0), "n": (0, 1, 0), "u": (0, 0, 1)}


def votes(*pairs: str, pooled: bool = False) -> pd.DataFrame:
    """One pair a text such as `yyn`: what annotators 0, 1, 2 said of it."""
    rows = [
        (f"d/{i}", 1, f"a{who}", *ANSWERS[said], pooled)
        for i, text in enumerate(pairs)
        for who, said in enumerate(text)
    ]
    return pd.DataFrame(rows, columns=["sample_id", "class_id", "annotator", *rules.COUNTS, "pooled"])


def states(rule: str, *pairs: str, **settings: float | None) -> list[str]:
    return rules.decide(votes(*pairs), Consensus(**settings), rule)["state"].tolist()  # pyright: ignore[reportArgumentType]


def test_union_and_intersection() -> None:
    pairs = ("y", "n", "yn", "yy", "yu", "nu", "u")
    assert states("union", *pairs) == ["yes", "no", "yes", "yes", "yes", "no", "disputed"]
    assert states("intersection", *pairs) == ["yes", "no", "no", "yes", "yes", "no", "disputed"]
    assert states("intersection", *pairs, unsure=0.5)[4] == "no", "an unsure that counts is no yes"


def test_a_tie_is_disputed_and_never_silently_yes() -> None:
    pairs = ("y", "n", "yn", "yyn", "ynn", "yynn", "yu", "nu", "u", "uu")
    expected = ["yes", "no", "disputed", "yes", "no", "disputed", "yes", "no", "disputed", "disputed"]
    assert states("majority", *pairs) == expected
    half = ["yes", "no", "disputed", "yes", "no", "disputed", "yes", "no", "disputed", "disputed"]
    assert states("majority", *pairs, unsure=0.5) == half


def test_what_an_unsure_counts_as_is_exact() -> None:
    assert states("majority", "y" * 2 + "u" * 10 + "n" * 6, unsure=0.7) == ["disputed"], "2 + 7 of 18"
    assert states("majority", "y" * 3 + "u" * 10 + "n" * 6, unsure=0.6) == ["no"], "9 of 19"


def test_missing_is_not_no() -> None:
    frame = pd.concat([votes("yy"), votes("y").assign(class_id=2)])
    decided = rules.decide(frame, Consensus(), "majority")
    assert decided[["class_id", "n_yes", "n_no", "score"]].to_numpy().tolist() == [[1, 2, 0, 1.0], [2, 1, 0, 1.0]]


@given(st.lists(st.text("ynu", min_size=1, max_size=6), min_size=1, max_size=5))
def test_every_rule_lies_between_intersection_and_union(pairs: list[str]) -> None:
    found = {rule: np.array(states(rule, *pairs)) == "yes" for rule in ("intersection", "majority", "union")}
    assert (found["intersection"] <= found["majority"]).all()
    assert (found["majority"] <= found["union"]).all()


def test_dawid_and_skene_trust_the_reliable() -> None:
    """Two who agree outweigh two who say anything, and one of whom contradicts them each time."""
    rng = np.random.default_rng(0)
    truth = rng.random(300) < 0.3
    texts = []
    for true in truth:
        noise = ["y" if rng.random() < 0.5 else "n" for _ in range(3)]
        texts.append("".join(["y" if true else "n"] * 2 + noise))
    decided = rules.decide(votes(*texts), Consensus(rule="dawid_skene"))
    order = decided["sample_id"].str.split("/").str[1].astype(int).to_numpy()
    assert ((decided["state"] == "yes").to_numpy() == truth[order]).all()
    majority = rules.decide(votes(*texts), Consensus())
    assert ((majority["state"] == "yes").to_numpy() != truth[order]).any()
    rates = rules.estimates(votes(*texts), Consensus()).set_index("annotator")
    assert rates.loc["a0", "sensitivity"] > 0.95
    assert rates.loc["a4", "sensitivity"] < 0.65


def test_pooled_votes_have_no_annotators() -> None:
    frame = votes("y", "n", pooled=True).assign(n_yes=[30, 10], n_no=[21, 41])
    decided = rules.decide(frame, Consensus(rule="dawid_skene"))
    assert decided["method"].tolist() == ["majority"] * 2
    assert decided["state"].tolist() == ["yes", "no"]
    assert rules.estimates(frame, Consensus()).empty


def refinements(*rows: tuple[str, int, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["sample_id", "class_id", "annotator", "action"])


def test_refinement_overrides_and_adds() -> None:
    decided = rules.decide(votes("yn", "yy", "nn"), Consensus())
    said = refinements(("d/0", 1, "x", "yes"), ("d/1", 1, "x", "no"), ("d/1", 7, "x", "yes"))
    out = rules.refined(decided, said).set_index(["sample_id", "class_id"])
    assert out["state"].to_dict() == {("d/0", 1): "yes", ("d/1", 1): "no", ("d/1", 7): "yes", ("d/2", 1): "no"}
    assert out.loc[("d/0", 1), ["method", "n_yes", "n_no"]].tolist() == ["refined", 1, 1]
    assert out.loc[("d/2", 1), "method"] == "majority"
    pd.testing.assert_frame_equal(rules.refined(decided, refinements()), decided)


def test_those_who_refine_and_contradict_each_other_leave_it_disputed() -> None:
    decided = rules.decide(votes("yy", "yy", "yy"), Consensus())
    said = refinements(
        ("d/0", 1, "x", "yes"),
        ("d/0", 1, "y", "no"),
        ("d/1", 1, "x", "unsure"),
        ("d/2", 1, "x", "unsure"),
        ("d/2", 1, "y", "no"),
    )
    assert rules.refined(decided, said)["state"].tolist() == ["disputed", "disputed", "no"]


def test_the_shape_of_decisions() -> None:
    rows = [
        ("a", 0, "yes"),
        ("a", 1, "yes"),
        ("b", 0, "no"),
        ("c", 2, "yes"),
        ("c", 1, "disputed"),
        ("d", 1, "disputed"),
    ]
    decided = pd.DataFrame(rows, columns=["sample_id", "class_id", "state"])
    original = pd.Series({"a": 0, "b": 0, "c": 1, "d": 1})
    truth = pd.DataFrame([("a", 0), ("a", 3), ("b", 0), ("c", 2), ("z", 1)], columns=["sample_id", "class_id"])
    found = rules.shape(decided, original, truth, "true", 0.95)
    counts = {key: found[key] for key in ("n_images", "n_labels", "n_disputed", "n_multi", "n_empty", "n_kept")}
    assert counts == {"n_images": 4, "n_labels": 2, "n_disputed": 2, "n_multi": 1, "n_empty": 1, "n_kept": 1}
    assert (found["multi_share"], found["true_multi_share"]) == (0.5, 0.5)
    assert (found["precision"], found["recall"]) == (0.5, pytest.approx(1 / 3))
    left = rules.shape(decided.loc[decided["state"] == "disputed"], original, truth, "true", 0.95)
    assert (left["n_images"], left["n_disputed"], left["n_labels"]) == (2, 2, 0)
    assert all(left[name] is None for name in ("multi_share", "ci_low", "true_multi_share", "precision", "recall"))
    assert rules.shape(decided.iloc[:0], original, truth, "true", 0.95)["n_images"] == 0
    assert rules.shape(decided, original, None, None, 0.95)["precision"] is None
