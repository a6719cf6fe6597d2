from __future__ import annotations

import hashlib

import pandas as pd
import pytest

from bench.config import Config
from bench.evaluate import subsets
from bench.store import tables
from tests import factory


@pytest.fixture(scope="module")
def members(results: Config) -> pd.DataFrame:
    frame = tables.read("subset_members", results.results / "subset_members.parquet")
    return frame.assign(dataset=frame["sample_id"].str.split("/").str[0])


@pytest.fixture(scope="module")
def right(results: Config) -> pd.DataFrame:
    return factory.right(results, "digits")


def ids(members: pd.DataFrame, subset: str, dataset: str = "digits") -> set[str]:
    return set(members.loc[(members["subset"] == subset) & (members["dataset"] == dataset), "sample_id"])


def test_every_subset_says_what_it_is_and_how_many(results: Config, members: pd.DataFrame) -> None:
    frame = tables.read("subsets", results.results / "subsets.parquet")
    assert set(frame["subset"]) == {"suitable", "attack", "certain-50", "disputed", "multi-label", "single-label"}
    assert (frame["about"].str.len() > 20).all()
    for row in frame.itertuples():
        assert row.n == len(ids(members, str(row.subset), str(row.dataset)))
    assert frame["n"].sum() == len(members)


def test_suitable_is_right_by_the_whole_pool(results: Config, members: pd.DataFrame, right: pd.DataFrame) -> None:
    pool = right.loc[["supervised-cnn", "supervised-vit", "simclr-cnn", "mae-vit"]]
    assert ids(members, "suitable") == {i for i in right.columns if pool[i].all()}


def test_attack_is_what_was_attacked(results: Config, members: pd.DataFrame, right: pd.DataFrame) -> None:
    assert ids(members, "attack") == set(factory.attacked_ids(results, right.columns.tolist()))


def test_disputed_is_where_most_models_contradict(members: pd.DataFrame, right: pd.DataFrame) -> None:
    single = right.drop(index=factory.ENSEMBLE)
    expected = {i for i in right.columns if single[i].sum() < len(single) / 2}
    assert 0 < len(expected) < 30
    assert ids(members, "disputed") == expected


def test_certain_is_the_half_of_the_reference(results: Config, members: pd.DataFrame) -> None:
    frame = tables.read("uncertainty", results.results / "uncertainty.parquet")
    mine = frame[(frame["model"] == factory.ENSEMBLE) & (frame["dataset"] == "optdigits")].set_index("sample_id")
    chosen = ids(members, "certain-50", "optdigits")
    assert len(chosen) == 30
    assert mine["entropy_nats"][list(chosen)].max() < mine["entropy_nats"].drop(list(chosen)).min()


def test_by_number_of_labels(members: pd.DataFrame) -> None:
    assert len(ids(members, "multi-label", "digits-mosaic")) == 45
    assert len(ids(members, "single-label", "digits-mosaic")) == 15
    assert not ids(members, "multi-label") | ids(members, "single-label", "digits-noisy")


def test_ties_in_certainty_go_by_the_hash_of_the_id() -> None:
    names = [f"d/{i}" for i in range(10)]
    chosen = subsets.most_certain(pd.Series(0.0, index=names), 0.3)
    assert chosen == sorted(sorted(names, key=lambda i: hashlib.sha256(i.encode()).hexdigest())[:3])


@pytest.mark.parametrize(("fraction", "n"), [(0.5, 3), (0.1, 1), (1.0, 5)])
def test_half_of_an_odd_number_rounds_up(fraction: float, n: int) -> None:
    uncertainty = pd.Series([0.5, 0.1, 0.4, 0.2, 0.3], index=list("abcde"))
    assert subsets.most_certain(uncertainty, fraction) == sorted("bdeca"[:n])


def test_without_a_reference_nothing_is_certain(own_results: Config) -> None:
    without = own_results.model_copy(
        update={"subsets": own_results.subsets.model_copy(update={"reference_model": None})}
    )
    subsets.run(without)
    frame = tables.read("subsets", own_results.results / "subsets.parquet")
    assert not frame["subset"].str.startswith("certain").any()


def test_imported_models_have_a_say_in_what_is_disputed(mixed: Config) -> None:
    frame = tables.read("subsets", mixed.results / "subsets.parquet").set_index(["subset", "dataset"])
    members = tables.read("subset_members", mixed.results / "subset_members.parquet")
    for dataset, n in (("digits", 8), ("digits-noisy", 7), ("objects", 2)):
        single = factory.right(mixed, dataset).drop(index=factory.ENSEMBLE, errors="ignore")
        assert f"half of the {n} models" in frame.loc[("disputed", dataset), "about"]
        expected = {i for i in single.columns if single[i].mean() < 0.5}
        disputed = members[members["subset"] == "disputed"]
        assert {i for i in disputed["sample_id"] if i.startswith(f"{dataset}/")} == expected


def test_a_set_without_images_has_its_numbers_of_labels(mixed: Config) -> None:
    frame = tables.read("subsets", mixed.results / "subsets.parquet").set_index(["subset", "dataset"])["n"]
    assert (frame["multi-label", "objects"], frame["single-label", "objects"]) == (9, 18)
    assert (frame["multi-label", "objects-v2"], frame["single-label", "objects-v2"]) == (15, 12)
    assert ("certain-50", "objects") not in frame


def test_twice_the_same_bytes(own_results: Config) -> None:
    path = own_results.results / "subset_members.parquet"
    before = tables.sha256(path)
    subsets.run(own_results)
    assert tables.sha256(path) == before
