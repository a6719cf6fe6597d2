"""Study 2 on answers that can be counted by hand, on small results, and against scipy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as oracle

from bench.config import Config, Corrupted, Evaluation, Model, Statistics
from bench.store import tables
from bench.studies import ssl
from bench.studies.ssl import Pair, Scored
from tests import factory

SETTINGS = Statistics(bootstrap=400)


def scored(clean: np.ndarray, score: np.ndarray, condition: str = "attack:pgd:8") -> Scored:
    names = ("a", "b", "s", "t")[: len(clean)]
    return Scored("some", condition, names, clean.astype(bool), score.astype(float), np.arange(clean.shape[1]))


@pytest.fixture
def small() -> Scored:
    """Self-supervised a and b, supervised s and t, eight images."""
    clean = np.array([[1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 0], [1] * 8])
    after = np.array([[1, 1, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1, 1, 0], [0] * 8])
    return scored(clean, after)


PAIRS = [Pair(a, b, "contrastive" if a == "a" else "distillation", "cnn", b == "s") for a in "ab" for b in "st"]


def test_pairs_by_hand(small: Scored) -> None:
    found = ssl.compare(small, PAIRS, SETTINGS, 0).set_index(["model", "baseline", "measure"]).sort_index()
    row = found.loc[("a", "s")]
    assert row["delta_pp"].to_dict() == {
        "accuracy": pytest.approx(100 * (2 - 3) / 8),
        "change": pytest.approx(100 * ((2 - 5) - (3 - 7)) / 8),
        "both_right": pytest.approx(100 * (2 - 1) / 5),
    }
    assert row["n"].to_dict() == {"accuracy": 8, "change": 8, "both_right": 5}
    assert row.loc["both_right", ["accuracy", "accuracy_baseline"]].tolist() == [2 / 5, 1 / 5]
    assert ((found["ci_low"] <= found["delta_pp"]) & (found["delta_pp"] <= found["ci_high"])).all()
    assert (found["p_holm"] >= found["p_value"]).all()


def test_p_values_are_those_of_scipy(small: Scored) -> None:
    found = ssl.compare(small, PAIRS, SETTINGS, 0).set_index(["model", "baseline", "measure"])["p_value"]
    assert found[("a", "s", "accuracy")] == pytest.approx(oracle.binomtest(1, 3).pvalue)
    rng = np.random.default_rng(3)
    levels = rng.integers(0, 6, (2, 300)) / 5
    one = Scored("some", "corruption:fog", ("a", "s"), levels > 0, levels, np.arange(300))
    found = ssl.compare(one, PAIRS, SETTINGS, 0).set_index("measure")["p_value"]
    assert found["accuracy"] == pytest.approx(oracle.ttest_rel(levels[0], levels[1]).pvalue)


def test_equal_networks_cannot_be_told_apart() -> None:
    right = np.random.default_rng(0).random(200) < 0.7
    found = ssl.compare(scored(np.stack([right] * 3), np.stack([right] * 3)), PAIRS, SETTINGS, 0)
    assert found["delta_pp"].eq(0).all()
    assert found["p_value"].eq(1).all()


def test_nothing_is_said_of_pairs_that_share_no_right_image() -> None:
    clean = np.array([[1, 0], [0, 1], [0, 1]])
    found = ssl.compare(scored(clean, 0 * clean), [Pair("a", "s", "clustering", "cnn", True)], SETTINGS, 0)
    assert set(found["measure"]) == {"accuracy", "change"}


def test_families_are_means_of_their_networks(small: Scored) -> None:
    pairs = ssl.compare(small, PAIRS, SETTINGS, 0)
    found = ssl.families(small, PAIRS, SETTINGS, 0).set_index(["family", "measure"])
    means = pairs.groupby(["measure", "model"])["delta_pp"].mean().unstack()
    for measure in ssl.MEASURES:
        assert found.loc[("contrastive", measure), "delta_pp"] == pytest.approx(means.loc[measure, "a"])
        assert found.loc[("all", measure), "delta_pp"] == pytest.approx(means.loc[measure].mean())
    assert found.loc["all", ["n_ssl", "n_supervised"]].drop_duplicates().to_numpy().tolist() == [[2, 2]]
    assert found["networks_low"].isna().all(), "two networks say nothing of others"


def test_the_interval_over_networks_holds_where_networks_differ() -> None:
    """Three supervised networks of the same accuracy; self-supervised ones 20 points above and below: on these images
    the mean is near zero for sure, of the next networks that is not known."""
    rng = np.random.default_rng(5)
    right = rng.random((6, 2000)) < np.array([0.9, 0.5, 0.7, 0.7, 0.7, 0.7])[:, None]
    names = ("a", "b", "c", "s", "t", "u")
    one = Scored("some", "clean", names, right, right.astype(float), np.arange(2000))
    pairs = [Pair(a, b, "contrastive", "cnn", True) for a in "abc" for b in "stu"]
    row = ssl.families(one, pairs, SETTINGS, 0).set_index("family").loc["all"]
    assert row["ci_high"] - row["ci_low"] < 6
    assert row["networks_low"] < -12
    assert row["networks_high"] > 12


def test_images_of_one_source_count_once() -> None:
    right = np.random.default_rng(1).random((2, 40)) < np.array([[0.8], [0.4]])
    twice = np.repeat(right, 2, axis=1)
    single = Scored("some", "clean", ("a", "s"), right, right.astype(float), np.arange(40))
    double = Scored("some", "clean", ("a", "s"), twice, twice.astype(float), np.repeat(np.arange(40), 2))
    a, b = (ssl.compare(one, PAIRS[:1], SETTINGS, 0).iloc[0] for one in (single, double))
    assert b["delta_pp"] == pytest.approx(a["delta_pp"])
    assert b["p_value"] < 0.5
    assert b["ci_high"] - b["ci_low"] == pytest.approx(a["ci_high"] - a["ci_low"], abs=3)


def config_of(models: dict[str, dict[str, Any]], **more: Any) -> Config:
    return Config(
        root=Path(),
        seed=0,
        suites={"s": {"train": "some"}},
        datasets={"some": {"role": "original", "suite": "s"}},
        models={name: {"suite": "s", "arch": "cnn", "epochs": 1, **model} for name, model in models.items()},
        **more,
    )


MODELS = {
    "simclr": {"family": "ssl", "method": "simclr"},
    "mae": {"family": "ssl", "method": "mae", "arch": "vit"},
    "plain": {"family": "supervised", "method": "supervised", "epochs": 2},
    "views": {"family": "supervised", "method": "supervised", "options": {"views": True}, "epochs": 2},
    "shorter": {"family": "supervised", "method": "supervised", "options": {"views": True}},
    "fewer": {"family": "supervised", "method": "supervised", "options": {"views": True}, "images": 100, "epochs": 2},
    "noisy": {"family": "supervised", "method": "supervised", "options": {"views": True, "label_noise": 0.4}},
    "random": {"family": "random", "method": "random", "epochs": 0},
}


def test_who_is_held_against_whom() -> None:
    found = {(pair.model, pair.baseline): pair.same_views for pair in ssl.pairs(config_of(MODELS))}
    assert {baseline for (_, baseline), same in found.items() if same} == {"views"}
    assert set(found) == {("simclr", baseline) for baseline in ("plain", "views", "shorter", "fewer")}


@pytest.mark.parametrize(("name", "views", "seen"), [("simclr", "views", 8000), ("mae", "none", 4000)])
def test_views_of_a_method(name: str, views: str, seen: int) -> None:
    model = Model(**{"suite": "s", "arch": "cnn", **MODELS[name], "epochs": 4})
    assert (ssl.views_of(model), ssl.views_seen(model, 1000)) == (views, seen)


def test_corruption_errors_are_relative_to_the_reference() -> None:
    evaluation = Evaluation(corruptions=Corrupted(names=["fog", "snow"], severities=[1], reference="plain"))
    config = config_of(MODELS, evaluations={"s": evaluation})
    names, n = ("plain", "simclr"), 50
    right = {"fog": np.arange(n) < np.array([[40], [30]]), "snow": np.arange(n) < np.array([[25], [45]])}
    found = [
        Scored("some", f"corruption:{name}", names, np.ones((2, n), bool), rows.astype(float), np.arange(n))
        for name, rows in right.items()
    ]
    rows = pd.concat(ssl.errors(config, found)).set_index(["model", "corruption"])
    assert rows.loc["plain", "ce"].to_dict() == {"all": 1, "fog": 1, "snow": 1}
    assert rows.loc[("simclr", "fog"), "ce"] == pytest.approx(20 / 10)
    assert rows.loc[("simclr", "snow"), "ce"] == pytest.approx(5 / 25)
    assert rows.loc[("simclr", "all"), "ce"] == pytest.approx((2 + 0.2) / 2)
    mine = rows.loc["simclr"]
    assert ((mine["ci_low"] < mine["ce"]) & (mine["ce"] < mine["ci_high"])).all()
    assert list(ssl.errors(config_of(MODELS), found)) == [], "no reference, no errors relative to it"


def test_stage_on_small_results(tmp_path: Path) -> None:
    config = factory.make_all(tmp_path)
    names = ("ssl_models", "ssl_pairs", "ssl_families", "corruption_error")
    found = {name: tables.read(name, config.results / f"{name}.parquet") for name in names}
    pairs = found["ssl_pairs"].set_index(["model", "dataset", "condition", "measure"])
    assert set(zip(found["ssl_pairs"]["model"], found["ssl_pairs"]["baseline"], strict=True)) == {
        ("simclr-cnn", "supervised-cnn"),
        ("mae-vit", "supervised-vit"),
    }
    by_hand = factory.accuracy("simclr-cnn", "digits") - factory.accuracy("supervised-cnn", "digits")
    assert pairs.loc[("simclr-cnn", "digits", "clean", "accuracy"), "delta_pp"] == pytest.approx(100 * by_hand)
    assert {"corruption", "corruption:gaussian_blur", "attack:pgd-linf:8"} < set(found["ssl_pairs"]["condition"])
    assert found["ssl_families"]["networks_low"].isna().all()
    assert set(found["corruption_error"]["reference"]) == {"supervised-cnn"}
    before = [(config.results / f"{name}.parquet").read_bytes() for name in names]
    ssl.run(config)
    assert [(config.results / f"{name}.parquet").read_bytes() for name in names] == before


def test_where_no_network_was_trained_the_tables_are_empty(tmp_path: Path) -> None:
    """As in a benchmark of published networks alone."""
    config = factory.make_all(tmp_path)
    controls = {name: model for name, model in config.models.items() if model.family not in ("ssl", "supervised")}
    assert 0 < len(controls) < len(config.models)
    counts = ssl.run(config.model_copy(update={"models": controls}))
    assert counts == dict.fromkeys(("ssl_models", "ssl_pairs", "ssl_families", "corruption_error"), 0)
    assert tables.read("ssl_models", config.results / "ssl_models.parquet").empty
