"""Sentences follow the data: the sign, the interval and the number of models."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from dashboard import findings
from dashboard.findings import Pair


def gaps(*rows: tuple[str, float, float, float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["model", "gap_pp", "ci_low", "ci_high"])
    return frame.assign(name=frame["model"].str.upper(), n_original=1000, n_replication=1797)


@pytest.mark.parametrize(
    ("low", "high", "says"), [(1, 2, "more"), (-2, -1, "less"), (-1, 1, "tied"), (0, 2, "tied"), (-2, 0, "tied")]
)
def test_verdict(low: float, high: float, says: str) -> None:
    assert findings.verdict(low, high) == says


def test_gap_follows_the_sign() -> None:
    lost = findings.gap(gaps(("a", 3.2, 1.0, 5.4)), "a", "One", "Other")
    assert "**A**, the most accurate model on One, loses **3.2 pp** [1.0, 5.4] on Other" in lost
    assert "n = 1,000 and 1,797" in lost
    gained = findings.gap(gaps(("a", -3.2, -5.4, -1.0)), "a", "One", "Other")
    assert "gains **3.2 pp** [1.0, 5.4] on Other" in gained
    tied = findings.gap(gaps(("a", 0.4, -1.0, 1.8)), "a", "One", "Other")
    assert "cannot be told apart on One and on Other: gap 0.4 pp [-1.0, 1.8]" in tied
    assert "loses" not in tied


def test_gap_counts_the_models() -> None:
    frame = gaps(("a", 3, 1, 5), ("b", -3, -5, -1), ("c", 0, -1, 1), ("d", 4, 2, 6))
    assert findings.gap(frame, "a", "One", "Other").endswith(
        "Of 4 models, 2 lose accuracy, 1 gain accuracy, 1 show no gap that could be told from chance."
    )
    both = gaps(("a", 3, 1, 5), ("b", 3, 1, 5))
    assert findings.gap(both, "a", "One", "Other").endswith("All 2 models lose accuracy there.")


def test_gap_without_the_best_model_does_not_call_another_one_best() -> None:
    assert "most accurate" not in findings.gap(gaps(("b", 3, 1, 5)), "a", "One", "Other")
    assert findings.gap(gaps(), "a", "One", "Other") == ""


def test_null_halves_warn_where_they_differ() -> None:
    assert "as it should be" in findings.null(gaps(("a", 0.5, -2, 3)), "a")
    assert "mind that" in findings.null(gaps(("a", 3, 1, 5)), "a")
    assert findings.null(gaps(("b", 3, 1, 5)), "a") == ""


def test_against_names_the_better_one_first() -> None:
    ahead = findings.against(Pair("a", "b", 2.0, 0.5, 3.5, 900, 0.01), "A", "B", "One", 0.05)
    assert ahead == "On One, A is **2.0 pp** [0.5, 3.5] more accurate than B (n = 900)."
    behind = findings.against(Pair("a", "b", -2.0, -3.5, -0.5, 900, 0.01), "A", "B", "One", 0.05)
    assert behind == "On One, B is **2.0 pp** [0.5, 3.5] more accurate than A (n = 900)."
    assert findings.against(None, "A", "B", "One", 0.05) == ""


def test_against_says_when_it_cannot_tell() -> None:
    tied = findings.against(Pair("a", "b", 0.4, -1.0, 1.8, 900, 0.7), "A", "B", "One", 0.05)
    assert tied == "On One, A and B **cannot be told apart** (difference +0.4 pp [-1.0, 1.8], n = 900)."
    holm = findings.against(Pair("a", "b", 2.0, 0.5, 3.5, 900, 0.21), "A", "B", "One", 0.05)
    assert "**cannot be told apart**" in holm
    assert "p = 0.21 as one of many pairs" in holm


def test_robust_follows_the_sign() -> None:
    assert "A keeps **5.0 pp** [1.0, 9.0] more of the images right than B" in findings.robust(
        Pair("a", "b", 5, 1, 9, 200), "A", "B", "PGD", 0.05
    )
    assert "B keeps **5.0 pp** [1.0, 9.0] more of the images right than A" in findings.robust(
        Pair("a", "b", -5, -9, -1, 200), "A", "B", "PGD", 0.05
    )
    assert "cannot be told apart" in findings.robust(Pair("a", "b", 1, -3, 5, 200), "A", "B", "PGD", 0.05)


def test_turned_is_the_other_way_round() -> None:
    pair = Pair("a", "b", 2.0, 0.5, 3.5, 900, 0.01)
    assert pair.turned() == Pair("b", "a", -2.0, -3.5, -0.5, 900, 0.01)
    assert pair.turned().turned() == pair


def test_controls_say_which_encoders_learned_nothing_that_shows() -> None:
    better, same = Pair("s", "r", 5, 2, 8, 900, 0.001), Pair("m", "r", 1, -1, 3, 900, 0.8)
    worse = Pair("w", "r", -5, -8, -2, 900, 0.001)
    assert findings.controls([("S", better), ("T", better)], 0.05).startswith("Both self-supervised encoders beat")
    said = findings.controls([("S", better), ("M", same), ("W", worse), ("X", None)], 0.05)
    assert said.startswith("1 of 3 self-supervised encoders beat")
    assert "**M** cannot be told apart from it (+1.0 pp [-1.0, 3.0])" in said
    assert "**W** is worse (-5.0 pp [-8.0, -2.0])" in said
    assert findings.controls([("X", None)], 0.05) == ""


def contrast_rows(**more: object) -> pd.DataFrame:
    """Two conditions by hand: clean, and one attack among images that both get right."""
    row = {"delta_pp": -3.0, "ci_low": -4.0, "ci_high": -2.0, "networks_low": math.nan, "networks_high": math.nan}
    row |= {"n": 1000, "n_ssl": 6, "n_supervised": 2, "n_better": 0}
    clean = {"condition": "clean", "measure": "accuracy"}
    attacked = {"condition": "attack:pgd:2", "measure": "both_right", "delta_pp": 4.0, "ci_low": 1.0, "ci_high": 7.0}
    return pd.DataFrame([row | clean, row | attacked | more])


def test_contrast_states_both_directions() -> None:
    said = findings.contrast(contrast_rows(), "CIFAR-10", "of the same architecture", {"attack:pgd:2": "PGD, 2/255"})
    assert said.startswith("Held against 2 supervised networks of the same architecture, 6 self-supervised ones are ")
    assert "**3.0 pp** [2.0, 4.0] less accurate on clean images of CIFAR-10 (n = 1,000)" in said
    assert "at equal clean accuracy **4.0 pp** [1.0, 7.0] more robust under PGD, 2/255" in said
    assert said.endswith("There are too few of them to say anything of other networks.")


@pytest.mark.parametrize(
    ("networks", "ends"),
    [
        ((-2.0, 9.0), "over networks as well, 1 of the 1 difference cannot be told apart from none."),
        ((0.5, 9.0), "The differences hold over networks as well as images."),
    ],
)
def test_contrast_says_how_far_it_reaches(networks: tuple[float, float], ends: str) -> None:
    rows = contrast_rows(networks_low=networks[0], networks_high=networks[1])
    assert findings.contrast(rows, "CIFAR-10", "", {"attack:pgd:2": "PGD"}).endswith(ends)


def test_contrast_judges_the_clean_clause_too() -> None:
    rows = contrast_rows(networks_low=0.5, networks_high=9.0)
    rows.loc[0, ["networks_low", "networks_high"]] = [-9.0, 3.0]
    said = findings.contrast(rows, "CIFAR-10", "", {"attack:pgd:2": "PGD"})
    assert said.endswith("1 of the 2 differences cannot be told apart from none.")


def test_contrast_says_where_the_verdict_turns_with_eps() -> None:
    rows = contrast_rows()
    turned = rows.iloc[[1]].assign(condition="attack:pgd:8", delta_pp=-5.0, ci_low=-9.0, ci_high=-1.0)
    same = rows.iloc[[1]].assign(condition="attack:pgd:16", delta_pp=-6.0, ci_low=-9.0, ci_high=-1.0)
    names = {f"attack:pgd:{eps}": f"PGD at {eps}" for eps in (2, 8, 16)}
    said = findings.contrast(pd.concat([same, turned, rows]), "CIFAR-10", "", names)
    assert (
        "more robust under PGD at 2; at equal clean accuracy **5.0 pp** [1.0, 9.0] less robust under PGD at 8" in said
    )
    assert "PGD at 16" not in said
    narrower = rows.iloc[[1]].assign(condition="attack:apgd:8", delta_pp=7.0)
    said = findings.contrast(
        pd.concat([same, turned, rows, narrower]), "CIFAR-10", "", names | {"attack:apgd:8": "APGD"}
    )
    assert "APGD" not in said, "PGD tells of this eps and of others"
    gone = rows.iloc[[1]].assign(condition="attack:pgd:16", delta_pp=0.0, ci_low=0.0, ci_high=0.0)
    said = findings.contrast(pd.concat([gone, rows]), "CIFAR-10", "", names)
    assert "PGD at 16" not in said, "where nothing is left right of either, there is nothing to compare"
    assert "PGD at 2" in said


def test_contrast_without_rows_says_nothing() -> None:
    assert findings.contrast(contrast_rows().iloc[:0], "CIFAR-10", "", {}) == ""


def test_trust_names_what_speaks_against_an_attack() -> None:
    good = {"zero_gradient": 0.0, "repeat_difference": 0.0, "same_at_zero": 1.0, "right_at_full": 0.0}
    good |= {"square_gains": None}
    frame = pd.DataFrame([{"name": "A", **good}, {"name": "B", **good, "zero_gradient": 0.2}])
    nothing = "Checks of the attack: nothing speaks against it."
    assert findings.trust(frame.iloc[:1]) == f"{nothing} Whether a search without gradients finds more was not tried."
    assert findings.trust(frame.iloc[:1].assign(square_gains=0.0)) == nothing
    said = findings.trust(frame)
    assert "1 of 2 have no gradient on some images" in said
    assert "such as B" in said
    assert "asked again" not in said
    square = pd.DataFrame([{"name": "A", **good, "square_gains": 0.01}, {"name": "B", **good, "square_gains": 0.1}])
    assert "1 of 2 are fooled on more than a few images by a search without gradients" in findings.trust(square)
