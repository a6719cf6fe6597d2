"""Study 6, on hand-made transfers: every figure by hand, the nulls at what they must be, and who is suitable."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hypergeom
from sklearn.metrics import roc_auc_score

from bench.config import Statistics
from bench.store import tables
from bench.studies import misclassification, transfer
from tests import factory

CONDITION = "attack:pgd:8"
SETTINGS = Statistics(bootstrap=200)
MODELS = ("a", "b", "c")


def attacked(success: dict[tuple[str, str], list[int]], n: int = 4) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables `attacks` and `transfers`: (source, target) -> the images by number that are answered wrongly; a change
    of image i made on the k-th model has length 1 + i + 10 k."""
    attacks, transfers = [], []
    for k, source in enumerate(MODELS):
        for i in range(n):
            attack_id = f"pgd/8/{source}/d/{i}"
            attacks.append(
                {
                    "attack_id": attack_id,
                    "sample_id": f"d/{i}",
                    "source_model": source,
                    "dataset": "d",
                    "attack": "pgd",
                    "success_float": i in success.get((source, source), range(n)),
                    "l2": 1 + i + 10 * k,
                    "linf": 0.1,
                }
            )
            for target in MODELS:
                if target != source:
                    ok = i in success.get((source, target), [])
                    transfers.append({"attack_id": attack_id, "target_model": target, "success": ok})
    return pd.DataFrame(attacks), pd.DataFrame(transfers)


def clean(wrong: dict[str, list[int]] | None = None, n: int = 4) -> pd.DataFrame:
    rows = [
        {"model": m, "dataset": "d", "sample_id": f"d/{i}", "right": i not in (wrong or {}).get(m, [])}
        for m in MODELS
        for i in range(n)
    ]
    return pd.DataFrame(rows)


HAND = {
    ("a", "b"): [0, 1],
    ("a", "c"): [0],
    ("b", "a"): [0, 1, 3],
    ("b", "c"): [0, 3],
    ("c", "a"): [0],
    ("c", "c"): [0],
}


def one(**more: object) -> transfer.Shown:
    attacks, transfers = attacked(HAND)
    (found,) = transfer.read(attacks, transfers, clean(**more))  # pyright: ignore[reportArgumentType]
    return found


def test_only_images_that_all_get_right_count() -> None:
    assert one().ids.tolist() == ["d/0", "d/1", "d/2", "d/3"]
    fewer = one(wrong={"b": [0], "c": [0, 2]})
    assert fewer.ids.tolist() == ["d/1", "d/3"]
    assert fewer.success.sum() == 4
    attacks, transfers = attacked(HAND)
    assert not list(transfer.read(attacks, transfers, clean({"a": [0, 1], "b": [2, 3]})))


def test_the_matrix_by_hand() -> None:
    attacks, _ = attacked(HAND)
    found = transfer.pairs(one(), attacks, 0.95).set_index(["source_model", "target_model"])
    assert len(found) == 9
    assert found["rate"].to_dict() == {
        **{(m, n): len(HAND.get((m, n), [])) / 4 for m in MODELS for n in MODELS},
        ("a", "a"): 1.0,
        ("b", "b"): 1.0,
    }
    assert found.loc[("b", "a"), "l2"] == pytest.approx(np.mean([11, 12, 14]))
    assert pd.isna(found.loc[("c", "b"), "l2"])
    assert (found["n"] == 4).all()
    assert found.loc[("a", "b"), ["ci_low", "ci_high"]].tolist() == pytest.approx([0.150, 0.850], abs=1e-3)


def test_images_by_how_many_pairs_they_transfer() -> None:
    found = transfer.counts(one())
    assert found["count"].tolist() == [5, 2, 0, 2]
    assert (found["n_pairs"] == 6).all()
    t = np.array([0, 5, 6, 29, 30, 42])
    kinds = transfer.counts(shown(t > np.arange(42)[:, None]))["kind"]
    assert kinds.tolist() == ["hard", "hard", "middle", "middle", "fragile", "fragile"], "as in the paper, of 42 pairs"


def shown(success: np.ndarray) -> transfer.Shown:
    p, n = success.shape
    names = tuple(map(str, range(p)))
    ids = np.array([f"d/{i:03d}" for i in range(n)], object)
    return transfer.Shown("d", CONDITION, names, names, ids, success, np.ones((p, n)), np.full((p, n), 0.1))


def test_images_that_are_alike_are_within_the_null_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    alike = transfer.sampling(shown(rng.random((12, 200)) < 0.4), SETTINGS, 0).set_index("statistic")
    assert alike["p_value"]["rate"] > 0.05
    assert alike["p_value"]["spread"] > 0.05
    assert (
        alike["range_null_low"]["rate"]
        <= np.ptp(alike.loc["rate", ["lowest", "highest"]])
        <= alike["range_null_high"]["rate"]
    )
    apart = transfer.sampling(shown(rng.random((12, 200)) < rng.beta(0.5, 0.8, 200)), SETTINGS, 0).set_index(
        "statistic"
    )
    assert apart["p_value"]["spread"] == pytest.approx(1 / (1 + transfer.NULLS))
    assert np.ptp(apart.loc["rate", ["lowest", "highest"]]) > apart["range_null_high"]["rate"]
    assert apart["n_drawn"]["rate"] == 50


def test_draws_of_one_pair_are_hypergeometric() -> None:
    success = np.zeros((1, 80), bool)
    success[0, :32] = True
    drawn = transfer._draws(80, 20, np.random.default_rng(0)) @ success[0].astype(float)
    assert drawn.mean() == pytest.approx(hypergeom(80, 32, 20).mean(), abs=0.15)
    assert drawn.var() == pytest.approx(hypergeom(80, 32, 20).var(), rel=0.1)
    low, high = transfer.sampling(shown(success), SETTINGS, 0).set_index("statistic").loc["rate", ["lowest", "highest"]]
    assert hypergeom(80, 32, 20).cdf(20 * low) < 0.01
    assert hypergeom(80, 32, 20).sf(20 * high - 1) < 0.01


def test_sizes_are_those_of_the_transfers() -> None:
    found = transfer.sampling(one(), SETTINGS, 0).set_index("statistic")
    lengths = [1, 2, 1, 11, 12, 14, 11, 14, 21]
    assert found["value"]["l2"] == pytest.approx(np.mean(lengths))
    assert found["value"]["rate"] == pytest.approx(9 / 24)
    assert found["ci_low"]["rate"] <= 9 / 24 <= found["ci_high"]["rate"]
    assert found["value"]["pair"] in {len(images) / 4 for images in HAND.values()}
    nothing = transfer.sampling(shown(np.zeros((2, 8), bool)), SETTINGS, 0)
    assert set(nothing["statistic"]) == {"rate", "pair", "spread"}


def foretold(t: transfer.Shown, proxies: pd.DataFrame) -> pd.DataFrame:
    return transfer.foretold(t, proxies, SETTINGS, 0).set_index("proxy")


def test_a_proxy_that_knows_narrows_the_spread_and_recommends_and_others_do_neither() -> None:
    rng = np.random.default_rng(0)
    ease = np.where(rng.random(400) < 0.05, rng.uniform(0.8, 1.0, 400), rng.uniform(0.0, 0.2, 400))
    t = shown(rng.random((12, 400)) < ease)
    proxies = pd.DataFrame(
        {name: rng.random(400) for name in transfer.PROXIES} | {"margin": -ease, "entropy_nats": 1.0}, index=t.ids
    )
    found = foretold(t, proxies)
    assert found["spearman"]["margin"] < -0.5
    assert found["p_value"]["margin"] == pytest.approx(0.001)
    assert abs(found["spearman"]["p_top1"]) < 0.15
    assert pd.isna(found["spearman"]["entropy_nats"]), "it says the same of all"
    assert found["auroc"]["entropy_nats"] == 0.5
    fragile = (transfer.counts(t)["kind"] == "fragile").to_numpy()
    assert found["n_fragile"].eq(fragile.sum()).all()
    assert found["auroc"]["p_top1"] == pytest.approx(roc_auc_score(fragile, proxies["p_top1"]))
    counts = t.success.sum(axis=0)
    inner = np.argsort(-ease, kind="stable")[20:380]
    assert found["spread_left"]["margin"] == pytest.approx(counts[inner].std() / counts.std())
    assert found["ci_high"]["margin"] < 0.8
    assert found["spread_left"]["p_top1"] > 0.9
    assert found.index[found["recommends"]].tolist() == ["margin"]
    kept = transfer.vetted(proxies, found.reset_index())
    assert np.flatnonzero(kept).tolist() == sorted(inner.tolist())


def test_where_no_proxy_knows_all_images_are_kept() -> None:
    rng = np.random.default_rng(1)
    alike = shown(rng.random((12, 200)) < rng.beta(1, 2, 200))
    proxies = pd.DataFrame({name: rng.random(200) for name in transfer.PROXIES}, index=alike.ids)
    found = foretold(alike, proxies)
    assert not found["recommends"].any()
    assert transfer.vetted(proxies, found.reset_index()).all()
    nothing = shown(np.zeros((2, 8), bool))
    found = foretold(nothing, proxies.iloc[:8].set_axis(nothing.ids))
    assert found["spread_left"].isna().all()
    assert not found["recommends"].any()


def test_the_spread_over_draws_is_what_the_spread_of_counts_says() -> None:
    """The closed form that makes `spread_left` the factor of any range."""
    rng = np.random.default_rng(0)
    t = shown(rng.random((12, 200)) < rng.beta(0.5, 0.8, 200)).success.sum(axis=0)
    rates = transfer._draws(200, 50, rng) @ t / (50 * 12)
    assert rates.std() == pytest.approx(t.std(ddof=1) / 12 * np.sqrt((1 - 50 / 200) / 50), rel=0.06)


def test_all_attacks_on_a_set_together() -> None:
    a, b = shown(np.eye(4, dtype=bool)), shown(np.ones((2, 4), bool))
    of_one = dataclasses.replace(b, sources=("0", "0"))
    (both,) = transfer.together([a, b, of_one])
    assert both.condition == "all"
    assert both.success.sum(axis=0).tolist() == [3, 3, 3, 3]
    assert len(both.sources) == 6
    assert next(transfer.together([of_one])).success.sum() == 8, "where there is no other"


def test_proxies_are_means_over_models_of_what_is_known_of_the_clean_image() -> None:
    rows = pd.DataFrame(
        {
            "dataset": "d",
            "sample_id": ["d/0", "d/0", "d/1"],
            "p": [[0.7, 0.2, 0.1], [0.5, 0.5, 0.0], [0.25, 0.25, 0.5]],
            "p_top1": [0.7, 0.5, 0.5],
            "entropy_nats": [1.0, 2.0, 3.0],
            "margin": [1.0, 0.0, 0.5],
            "gradient_norm": [4.0, 6.0, 1.0],
        }
    )
    found = transfer.proxies_of(rows, np.array([0, 0, 2]))
    assert found.loc["d/0"].to_dict() == pytest.approx(
        {"p_top1": 0.6, "entropy_nats": 1.5, "margin": 0.5, "gradient_norm": 5.0, "runner_up": (2 / 3 + 1.0) / 2}
    )
    assert found.loc["d/1", "runner_up"] == pytest.approx(0.5)
    more = rows.iloc[:1].assign(dataset="e", sample_id="e/0", p=[[0.8, 0.1, 0.06, 0.04]])
    both = transfer.proxies_of(pd.concat([rows, more], ignore_index=True), np.array([0, 0, 2, 0]))
    assert both.loc["e/0", "runner_up"] == pytest.approx(0.5), "another set may have another number of classes"
    assert both.loc["d/0"].to_dict() == found.loc["d/0"].to_dict()


def test_without_attacks_the_stages_write_empty_tables(tmp_path: Path) -> None:
    config = factory.make_results(tmp_path)
    for name in ("attacks", "transfers", "source_images"):
        tables.write(name, tables.stacked(name, []), config.results / f"{name}.parquet")
    assert set(transfer.run(config).values()) == {0}
    assert misclassification.run(config) == {"rows": 0}
