"""Agreement: alpha against nltk and a plain loop, Jaccard and disagreement by hand, intervals against a bootstrap."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from nltk.metrics.agreement import AnnotationTask

from bench.relabel import agreement

Cells = dict[tuple[str, str], frozenset[int]]


def answers(cells: Cells, shown: range = range(6)) -> pd.DataFrame:
    """(image, annotator) -> label set, as answers to the labels shown."""
    rows = [(i, c, a, "yes" if c in labels else "no", "human") for (i, a), labels in cells.items() for c in shown]
    return pd.DataFrame(rows, columns=["sample_id", "class_id", "annotator", "action", "kind"])


def masi(a: frozenset[int], b: frozenset[int]) -> float:
    """1 - J M, after Passonneau 2006; 0 for two empty sets."""
    if a == b:
        return 0.0
    if not a & b:
        return 1.0
    return 1 - len(a & b) / len(a | b) * (2 / 3 if a <= b or b <= a else 1 / 3)


def by_loop(cells: Cells) -> float:
    units: dict[str, list[frozenset[int]]] = {}
    for (image, _), labels in cells.items():
        units.setdefault(image, []).append(labels)
    pairable = [unit for unit in units.values() if len(unit) >= 2]
    values = [one for unit in pairable for one in unit]
    n = len(values)
    observed = sum(sum(masi(a, b) for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in pairable) / n
    expected = sum(masi(a, b) for a, b in permutations(values, 2)) / (n * (n - 1))
    return 1 - observed / expected


def simulated(seed: int, n: int = 40, annotators: int = 3, seen: float = 0.9) -> Cells:
    rng = np.random.default_rng(seed)
    truth = rng.random((n, 6)) < 0.25
    out = {}
    for a in range(annotators):
        said = np.where(truth, rng.random(truth.shape) < 0.8, rng.random(truth.shape) < 0.08)
        for i in np.flatnonzero(rng.random(n) < seen):
            out[f"d/{i}", f"a{a}"] = frozenset(np.flatnonzero(said[i]).tolist())
    return out


@pytest.mark.parametrize("seed", range(4))
def test_alpha_is_that_of_nltk_and_of_a_plain_loop(seed: int) -> None:
    cells = simulated(seed, annotators=2 + seed % 3)
    found = agreement.alpha(agreement.sets_of(answers(cells))).value
    assert found == pytest.approx(by_loop(cells), abs=1e-12)
    task = AnnotationTask([(a, image, labels) for (image, a), labels in cells.items()], distance=masi)
    assert found == pytest.approx(task.alpha(), abs=1e-9)


def test_the_error_of_alpha_is_that_of_a_bootstrap() -> None:
    cells = simulated(7, n=120)
    images = sorted({image for image, _ in cells})
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(200):
        chosen = rng.choice(images, len(images))
        again = {(f"{k}", a): cells[i, a] for k, i in enumerate(chosen) for a in ("a0", "a1", "a2") if (i, a) in cells}
        drawn.append(agreement.alpha(agreement.sets_of(answers(again))).value)
    found = agreement.alpha(agreement.sets_of(answers(cells)))
    assert found.error == pytest.approx(np.std(drawn), rel=0.2)
    low, high = found.interval(0.95)
    assert low < found.value < high


def test_two_annotators_by_hand() -> None:
    a, b = "Ada", "Ben"
    cells: Cells = {
        ("d/0", a): frozenset({1}), ("d/0", b): frozenset({1}),
        ("d/1", a): frozenset({1}), ("d/1", b): frozenset({1, 2}),
        ("d/2", a): frozenset(), ("d/2", b): frozenset(),
        ("d/3", a): frozenset({3}), ("d/3", b): frozenset(),
        ("d/4", a): frozenset({3}),
    }  # fmt: skip
    table = agreement.agreement(answers(cells), "d", 0, 200, 0.95).set_index("annotator_a")
    assert set(table.index) == {a, "*"}
    for name in (a, "*"):
        row = table.loc[name]
        assert (row["n_images"], row["n_differ"], row["disagreement"]) == (4, 2, 0.5)
        assert row["jaccard"] == pytest.approx((1 + 0.5 + 1 + 0) / 4)
        assert row["alpha"] == pytest.approx(by_loop({key: s for key, s in cells.items() if key[0] != "d/4"}))
        assert row["ci_low"] < 0.5 < row["ci_high"]


def test_three_differ_where_any_two_do() -> None:
    cells: Cells = {("d/0", w): frozenset({1}) for w in "abc"} | {("d/1", w): frozenset({1}) for w in "ab"}
    cells |= {("d/1", "c"): frozenset({1, 2}), ("d/2", "a"): frozenset({4}), ("d/2", "b"): frozenset({5})}
    table = agreement.agreement(answers(cells), "d", 0, 100, 0.95).set_index(["annotator_a", "annotator_b"])
    row = table.loc[("*", "*")]
    assert (row["n_images"], row["n_differ"]) == (3, 2)
    assert row["jaccard"] == pytest.approx((1 + (1 + 0.5 + 0.5) / 3 + 0) / 3)
    assert table.loc[("a", "c"), ["n_images", "n_differ"]].tolist() == [2, 1]
    assert len(table) == 4


def test_nothing_to_disagree_about_is_no_alpha() -> None:
    same: Cells = {(f"d/{i}", w): frozenset({1}) for i in range(3) for w in "ab"}
    row = agreement.agreement(answers(same), "d", 0, 100, 0.95).set_index("annotator_a").loc["*"]
    assert np.isnan(row["alpha"])
    assert (row["disagreement"], row["jaccard"]) == (0, 1)
    alone: Cells = {("d/0", "a"): frozenset({1}), ("d/1", "b"): frozenset({1})}
    assert agreement.agreement(answers(alone), "d", 0, 100, 0.95).empty


def test_one_against_the_others() -> None:
    cells = simulated(3, n=200, annotators=3, seen=1.0)
    rng = np.random.default_rng(0)
    for key in [key for key in cells if key[1] == "a2"]:
        cells[key] = frozenset(np.flatnonzero(rng.random(6) < 0.3).tolist())
    events = pd.DataFrame(
        {
            "counts": True, "action": "yes", "ms_spent": [1000, 3000, 0], "annotator": ["a0", "a0", "a1"],
            "sample_id": ["d/0", "d/1", "d/1"], "stage": "annotate",
        }
    )  # fmt: skip
    rates = pd.DataFrame({"annotator": ["a0"], "sensitivity": [0.9], "specificity": [0.8]})
    said = answers(cells)
    table = agreement.annotators(said, said, events, rates, "d").set_index("annotator")
    assert table.loc["a0", "agreement_alpha"] > table.loc["a2", "agreement_alpha"]
    assert table.loc["a2", "agreement_alpha"] == pytest.approx(0, abs=0.15)
    assert table.loc["a0", ["n_votes", "n_images", "sensitivity", "ms_median"]].tolist() == [1200, 200, 0.9, 2000]
    assert np.isnan(table.loc["a1", "ms_median"])


def test_of_many_pairs_those_with_the_most_images_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = simulated(5, n=60, annotators=4, seen=0.6)
    every = agreement.agreement(answers(cells), "d", 0, 50, 0.95)
    monkeypatch.setattr(agreement, "MOST_PAIRS", 2)
    some = agreement.agreement(answers(cells), "d", 0, 50, 0.95)
    pairs = every.loc[every["annotator_a"] != "*"].nlargest(2, "n_images").sort_values("annotator_a")
    expected = pd.concat([pairs, every.loc[every["annotator_a"] == "*"]])
    pd.testing.assert_frame_equal(some.reset_index(drop=True), expected.reset_index(drop=True))


def test_blocks_of_pairs_come_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = {key: labels | {0} for key, labels in simulated(6, n=50).items()}  # every set shares a label
    found = agreement.sets_of(answers(cells))
    whole = agreement.alpha(found)
    monkeypatch.setattr(agreement, "AT_ONCE", 7)
    assert agreement.alpha(found) == pytest.approx(whole)
    assert whole.value == pytest.approx(by_loop(cells), abs=1e-12)


def test_alpha_of_one_is_of_the_images_that_another_saw_too() -> None:
    """By a plain loop: observed are the pairs of that annotator, expected are all values on these images."""
    cells = simulated(8, n=30, annotators=4, seen=0.5)
    events = pd.DataFrame(columns=["counts", "action", "ms_spent", "annotator", "sample_id", "stage"]).astype(
        {"counts": bool, "ms_spent": float}
    )
    rates = pd.DataFrame(columns=["annotator", "sensitivity", "specificity"])
    table = agreement.annotators(answers(cells), answers(cells), events, rates, "d").set_index("annotator")
    for who in ("a0", "a3"):
        units = {i: {a: s for (j, a), s in cells.items() if j == i} for i in {i for i, _ in cells}}
        seen = [unit for unit in units.values() if who in unit and len(unit) >= 2]
        n = sum(len(unit) for unit in seen)
        observed = sum(len(unit) * np.mean([masi(unit[who], s) for a, s in unit.items() if a != who]) for unit in seen)
        values = [s for unit in seen for s in unit.values()]
        expected = sum(masi(a, b) for a, b in permutations(values, 2)) / (n * (n - 1))
        assert table.loc[who, "agreement_alpha"] == pytest.approx(1 - observed / n / expected, abs=1e-12)


def test_people_are_held_against_those_who_count_and_no_models() -> None:
    """Ada and Ben agree; a model, and a simulated annotator whose votes do not count there, say other things."""
    sets = {i: frozenset({i % 3}) for i in range(12)}
    said = {(f"d/{i:02d}", who): labels for i, labels in sets.items() for who in ("Ada", "Ben")}
    other: Cells = {(f"d/{i:02d}", who): frozenset({(i + 1) % 3}) for i in sets for who in ("model", "S")}
    judged = answers({**said, **other})
    judged["kind"] = judged["annotator"].map({"model": "machine", "S": "simulated"}).fillna("human")
    events = pd.DataFrame(columns=["counts", "action", "ms_spent", "annotator", "sample_id", "stage"]).astype(
        {"counts": bool, "ms_spent": float}
    )
    rates = pd.DataFrame(columns=["annotator", "sensitivity", "specificity"])
    counted = judged.loc[judged["kind"] != "simulated"]
    alphas = agreement.annotators(judged, counted, events, rates, "d").set_index("annotator")["agreement_alpha"]
    assert alphas[["Ada", "Ben"]].tolist() == [1, 1]
    assert alphas["model"] < 0
    assert np.isnan(alphas["S"]), "it does not count on any image"
    people = counted.loc[counted["kind"] != "machine"]
    row = agreement.agreement(people, "d", 0, 50, 0.95).set_index("annotator_a").loc["*"]
    assert row[["n_annotators", "n_simulated"]].tolist() == [2, 0]


def test_one_is_held_against_the_others_without_their_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an image that 200 saw, 199 pairs for each of them, and not all 19,900."""
    rng = np.random.default_rng(0)
    cells = {(f"d/{i}", f"a{w:03d}"): frozenset({int(rng.integers(3))}) for i in range(2) for w in range(200)}
    looked: list[int] = []
    real = agreement._alike
    monkeypatch.setattr(agreement, "_alike", lambda found, a, b: (looked.append(len(a)), real(found, a, b))[1])
    found = agreement.with_others(answers(cells, range(3)))
    assert len(found) == 200
    assert looked == [2 * 199] * 200


def test_ticks_by_place() -> None:
    rows = [("a", "yes", 1), ("a", "no", 1), ("a", "no", 2), ("a", "unsure", 2), ("a", "yes", None), ("b", "yes", 1)]
    judged = pd.DataFrame(rows, columns=["annotator", "action", "rank_shown"])
    table = agreement.tick_rates(judged, "d", 0.95).set_index(["annotator", "rank"])
    assert table["n_shown"].to_dict() == {("a", 1): 2, ("a", 2): 2, ("b", 1): 1}
    assert table["rate"].to_dict() == {("a", 1): 0.5, ("a", 2): 0.0, ("b", 1): 1.0}
