from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench import stats
from bench.config import Config
from bench.evaluate import replication
from bench.store import tables
from tests import factory


@pytest.fixture(scope="module")
def gaps(results: Config) -> pd.DataFrame:
    frame = tables.read("replication", results.results / "replication.parquet")
    return frame.set_index(["model", "original", "replication", "scoring"]).sort_index()


def test_every_model_on_every_declared_pair(results: Config, gaps: pd.DataFrame) -> None:
    pairs = {(d.replicates, name) for name, d in results.datasets.items() if d.replicates}
    found = gaps.xs("top1", level="scoring").reset_index()
    assert set(zip(found["original"], found["replication"], strict=True)) == pairs
    assert len(found) == len(pairs) * (len(factory.MODELS) + 1)
    assert (gaps["rule"] == "R0").all()
    assert (gaps["coverage_original"] == 1).all()
    assert gaps["placebo_gap_pp"].isna().all()


@pytest.mark.parametrize("model", factory.MODELS)
def test_gap_of_independent_sets(gaps: pd.DataFrame, model: str) -> None:
    row = gaps.loc[(model, "digits", "optdigits", "top1")]
    k_a, k_b = (round(60 * factory.accuracy(model, d)) for d in ("digits", "optdigits"))
    assert row["gap_pp"] == pytest.approx(100 * (k_a - k_b) / 60)
    low, high = stats.newcombe(k_a, 60, k_b, 60)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((100 * low, 100 * high))
    assert row["error_ratio"] == pytest.approx((60 - k_b) / (60 - k_a))
    assert (row["n_original"], row["n_replication"]) == (60, 60)


def test_the_parts_are_the_whole(gaps: pd.DataFrame) -> None:
    assert np.allclose(gaps["composition_pp"] + gaps["within_pp"], gaps["gap_pp"])
    assert (gaps["ci_low"] <= gaps["gap_pp"] + 1e-9).all()
    assert (gaps["gap_pp"] <= gaps["ci_high"] + 1e-9).all()


def test_null_halves_hold_zero(gaps: pd.DataFrame) -> None:
    null = gaps.loc[pd.IndexSlice[:, "digits-null-a", "digits-null-b", "top1"], :]
    assert ((null["ci_low"] <= 0) & (null["ci_high"] >= 0)).all()


def test_labels_explain_the_noisy_gap(gaps: pd.DataFrame) -> None:
    plain = gaps.loc[("supervised-cnn", "digits", "digits-noisy", "top1")]
    anew = gaps.loc[("supervised-cnn", "digits", "digits-noisy", "any_of")]
    assert plain["gap_pp"] > 3
    assert anew["gap_pp"] == pytest.approx(0, abs=1e-9)
    assert plain["label_pp"] == anew["label_pp"] == pytest.approx(plain["gap_pp"] - anew["gap_pp"])
    assert (anew["labels_original"], anew["labels_replication"]) == ("original", "true")
    assert np.isnan(gaps.loc[("supervised-cnn", "digits", "optdigits", "top1"), "label_pp"])


def _scored(dataset: str, right: list[list[int]], origins: list[str]) -> replication.Scored:
    models = ("a", "b")[: len(right)]
    return replication.Scored(dataset, "original", models, np.array(right, bool), np.array(origins))


def test_a_copy_has_no_gap_and_no_doubt(results: Config) -> None:
    origins = [f"x/{i}" for i in range(6)]
    one, copy = (_scored(name, [[1, 0, 1, 1, 0, 1]], origins) for name in ("one", "copy"))
    row = replication.gaps(results, one, copy, "top1").iloc[0]
    assert (row["gap_pp"], row["ci_low"], row["ci_high"], row["error_ratio"]) == (0, 0, 0, 1)


def test_shared_images_narrow_the_interval(results: Config) -> None:
    rng = np.random.default_rng(0)
    right = (rng.random(400) < 0.8).astype(int).tolist()
    worse = [r * int(u > 0.05) for r, u in zip(right, rng.random(400), strict=True)]
    names = [f"x/{i}" for i in range(400)]
    same = replication.gaps(results, _scored("o", [right], names), _scored("r", [worse], names), "top1").iloc[0]
    others = [f"y/{i}" for i in range(400)]
    apart = replication.gaps(results, _scored("o", [right], names), _scored("r", [worse], others), "top1").iloc[0]
    assert same["gap_pp"] == apart["gap_pp"]
    assert same["ci_high"] - same["ci_low"] < 0.6 * (apart["ci_high"] - apart["ci_low"])
    assert same["ci_low"] > 0 > apart["ci_low"]


def test_no_errors_on_the_original_leave_no_ratio(results: Config) -> None:
    row = replication.gaps(
        results, _scored("o", [[1, 1]], ["p", "q"]), _scored("r", [[1, 0]], ["s", "t"]), "top1"
    ).iloc[0]
    assert np.isnan(row["error_ratio"])
    assert row["gap_pp"] == 50


def test_only_models_of_both_sets(results: Config) -> None:
    both = replication.gaps(
        results, _scored("o", [[1, 1], [0, 1]], ["p", "q"]), _scored("r", [[1, 0]], ["s", "t"]), "top1"
    )
    assert both["model"].tolist() == ["a"]


def test_a_benchmark_without_pairs_has_an_empty_table(own_results: Config) -> None:
    alone = {name: d.model_copy(update={"replicates": None}) for name, d in own_results.datasets.items()}
    replication.run(own_results.model_copy(update={"datasets": alone}))
    assert tables.read("replication", own_results.results / "replication.parquet").empty


def test_imported_models_have_gaps_between_the_sets_that_they_answer_to(mixed: Config) -> None:
    frame = tables.read("replication", mixed.results / "replication.parquet")
    frame = frame.set_index(["model", "original", "replication", "scoring"])
    assert sorted(frame.xs("org/cnn").index) == [("digits", "optdigits", "top1")]
    for model in ("org/resnet50.a1", "plain"):
        pair = (model, "objects", "objects-v2")
        shares = {}
        for scoring, sources in (("top1", ("original", "original")), ("any_of", ("real", "refined_v2"))):
            sides = [factory.right(mixed, d, s).loc[model] for d, s in zip(pair[1:], sources, strict=True)]
            (k_a, n_a), (k_b, n_b) = ((int(side.sum()), len(side)) for side in sides)
            low, high = stats.newcombe(k_a, n_a, k_b, n_b)
            row = frame.loc[(*pair, scoring)]
            assert (row["labels_original"], row["labels_replication"]) == sources
            assert (row["n_original"], row["n_replication"]) == ((30, 30) if scoring == "top1" else (27, 27))
            assert row["gap_pp"] == pytest.approx(100 * (k_a / n_a - k_b / n_b))
            assert (row["ci_low"], row["ci_high"]) == pytest.approx((100 * low, 100 * high))
            shares[scoring] = row["gap_pp"]
        assert frame.loc[(*pair, "top1"), "label_pp"] == pytest.approx(shares["top1"] - shares["any_of"])


def test_twice_the_same_bytes(own_results: Config) -> None:
    path = own_results.results / "replication.parquet"
    before = tables.sha256(path)
    replication.run(own_results)
    assert tables.sha256(path) == before
