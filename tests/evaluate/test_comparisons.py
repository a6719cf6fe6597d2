from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from bench.config import Config
from bench.evaluate import comparisons
from bench.store import tables
from tests import factory


@pytest.fixture(scope="module")
def pairs(results: Config) -> pd.DataFrame:
    return tables.read("comparisons", results.results / "comparisons.parquet")


@pytest.fixture(scope="module")
def ranks(results: Config) -> pd.DataFrame:
    return tables.read("ranks", results.results / "ranks.parquet")


def test_every_pair_once_on_every_set_and_source(pairs: pd.DataFrame, ranks: pd.DataFrame) -> None:
    m = len(factory.MODELS) + 1
    sizes = pairs.groupby(["dataset", "label_source"]).size()
    assert (sizes == m * (m - 1) / 2).all()
    assert set(sizes.index) == {
        *((dataset, "original") for dataset in factory.DATASETS),
        ("digits-noisy", "true"),
        ("digits-mosaic", "composed"),
    }
    assert (ranks.groupby(["dataset", "label_source"]).size() == m).all()
    unordered = pairs[["model_a", "model_b"]].apply(frozenset, axis=1)
    assert not pd.concat([pairs[["dataset", "label_source"]], unordered], axis=1).duplicated().any()


def test_pairs_are_what_scipy_and_statsmodels_say(results: Config, pairs: pd.DataFrame) -> None:
    right = factory.right(results, "optdigits")
    mine = pairs[(pairs["dataset"] == "optdigits")]
    for row in mine.itertuples():
        a, b = right.loc[str(row.model_a)], right.loc[str(row.model_b)]
        only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
        assert row.delta_pp == pytest.approx(100 * (a.mean() - b.mean()))
        expected = binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
        assert row.p_value == pytest.approx(expected)
    assert np.allclose(mine["p_holm"], multipletests(mine["p_value"], method="holm")[1])


def test_the_first_is_the_more_accurate_and_the_interval_holds_the_difference(pairs: pd.DataFrame) -> None:
    assert (pairs["delta_pp"] >= 0).all()
    assert (pairs["ci_low"] <= pairs["delta_pp"] + 1e-9).all()
    assert (pairs["delta_pp"] <= pairs["ci_high"] + 1e-9).all()


def test_tie_groups_are_the_shared_ranks(pairs: pd.DataFrame, ranks: pd.DataFrame) -> None:
    key = ["dataset", "label_source", "model"]
    rank = ranks.set_index(key)["rank"]
    for row in pairs.itertuples():
        a, b = (rank[row.dataset, row.label_source, model] for model in (row.model_a, row.model_b))
        assert (a == b == row.tie_group) if a == b else pd.isna(row.tie_group)
        assert a == b or a < b
        assert a < b or row.p_holm >= 0.05


def _ranked(results: Config, right: dict[str, np.ndarray]) -> tuple[pd.DataFrame, pd.DataFrame]:
    pairs, ranks = comparisons.compare(results, list(right), np.array(list(right.values()), bool), "d", "original")
    return pairs, ranks.set_index("model")


def test_clear_winners_and_ties(results: Config) -> None:
    n = 1000
    best, good, twin, poor = (np.arange(n) < k for k in (980, 900, 898, 700))
    pairs, ranks = _ranked(results, {"poor": poor, "twin": twin, "good": good, "best": best})
    assert ranks["rank"].to_dict() == {"best": 1, "good": 2, "twin": 2, "poor": 4}
    assert ranks.loc["good", ["rank_low", "rank_high"]].tolist() == [2, 3]
    tied = pairs[pairs["tie_group"].notna()]
    assert tied[["model_a", "model_b", "tie_group"]].to_numpy().tolist() == [["good", "twin", 2]]


def test_the_same_answers_tie_by_name(results: Config) -> None:
    same = np.arange(50) < 40
    pairs, ranks = _ranked(results, {"b": same, "a": same})
    row = pairs.iloc[0]
    assert (row["model_a"], row["model_b"], row["delta_pp"]) == ("a", "b", 0)
    assert (row["ci_low"], row["ci_high"], row["p_value"], row["p_holm"], row["tie_group"]) == (0, 0, 1, 1, 1)
    assert ranks["rank"].tolist() == [1, 1]


def test_one_model_alone_is_first(results: Config) -> None:
    pairs, ranks = _ranked(results, {"only": np.ones(5, bool)})
    assert pairs.empty
    assert ranks.loc["only"].tolist() == [1, 1, 1]


def test_another_model_leaves_the_intervals_of_the_others(results: Config) -> None:
    rng = np.random.default_rng(0)
    right = {name: rng.random(200) < p for name, p in {"a": 0.9, "b": 0.8, "c": 0.5}.items()}
    more, _ = _ranked(results, right)
    less, _ = _ranked(results, {name: right[name] for name in ("a", "b")})
    of_pair = more[(more["model_a"] == "a") & (more["model_b"] == "b")]
    assert of_pair[["ci_low", "ci_high"]].to_numpy().tolist() == less[["ci_low", "ci_high"]].to_numpy().tolist()


def test_counts_of_pairs_are_exact_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    right = np.random.default_rng(0).random((5, 1000)) < 0.7
    expected = [[int((a & b).sum()) for b in right] for a in right]
    for size in (7, 1000, 2000):
        monkeypatch.setattr(comparisons, "_IMAGES_AT_ONCE", size)
        assert comparisons._both(right).tolist() == expected


def test_imported_models_are_compared_with_those_that_answer_to_the_same_set(mixed: Config) -> None:
    ranks = tables.read("ranks", mixed.results / "ranks.parquet")
    models = ranks.groupby(["dataset", "label_source"])["model"].agg(set).to_dict()
    own = {*factory.MODELS, factory.ENSEMBLE}
    assert models["digits", "original"] == models["optdigits", "original"] == own | {"org/cnn"}
    assert models["digits-noisy", "true"] == own
    for dataset, source in factory.LABEL_SOURCES.items():
        assert models[dataset, "original"] == models[dataset, source] == {"org/resnet50.a1", "plain"}
    pairs = tables.read("comparisons", mixed.results / "comparisons.parquet")
    pair = pairs[(pairs["dataset"] == "objects") & (pairs["label_source"] == "real")].iloc[0]
    right = factory.right(mixed, "objects", "real")
    assert right.shape == (2, 27)
    assert pair["delta_pp"] == pytest.approx(100 * abs(right.mean(axis=1).diff().iloc[1]))


def test_twice_the_same_bytes(own_results: Config) -> None:
    paths = [own_results.results / f"{name}.parquet" for name in ("comparisons", "ranks")]
    before = [tables.sha256(path) for path in paths]
    comparisons.run(own_results)
    assert [tables.sha256(path) for path in paths] == before
