"""Recall of proposals: by hand, by a plain loop, and as the stage writes it."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest

from bench.config import Config
from bench.relabel import proposals, recall
from bench.store import tables
from tests import factory


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return factory.make_results(tmp_path_factory.mktemp("recall"), n=40)


def test_known_labels_are_those_of_images_with_several() -> None:
    labels = pd.DataFrame(
        [("a", "x", 0), ("a", "x", 2), ("b", "x", 1), ("c", "y", 1), ("z", "x", 0), ("z", "x", 1)],
        columns=["sample_id", "source", "class_id"],
    )
    found = dict(recall.several(labels, ["a", "b", "c"], 3))
    assert list(found) == ["x"]
    assert found["x"].tolist() == [[True, False, True], [False] * 3, [False] * 3]


def test_the_original_label_counts_as_proposed() -> None:
    p = np.array([[0.6, 0.3, 0.1, 0.0]])
    known = np.array([[True, False, False, True]])
    assert recall.hits(p, np.array([0]), known, 2).tolist() == [1]
    assert recall.hits(p, np.array([3]), known, 2).tolist() == [2]
    assert recall.enough(p, np.array([0]), known, 0.97) == 4
    assert recall.enough(p, np.array([3]), known, 0.97) == 2
    assert recall.enough(p, np.array([0]), known, 0.5) == 1


@pytest.mark.parametrize("seed", range(5))
def test_what_is_proposed_is_what_the_proposals_hold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.integers(0, 4, (60, 7)) / 4  # many ties
    labels, known = rng.integers(0, 7, 60), rng.random((60, 7)) < 0.3
    for top_k in range(1, 9):
        held = np.take_along_axis(known, proposals.propose(p, labels, top_k), axis=1).sum(axis=1)
        assert recall.hits(p, labels, known, top_k).tolist() == held.tolist()
    for share in (0.2, 0.5, 0.97, 1.0):
        sizes = (k for k in range(1, 8) if recall.hits(p, labels, known, k).sum() >= share * known.sum())
        assert recall.enough(p, labels, known, share) == next(sizes)


@pytest.mark.parametrize("n_models", [4, recall.ALL_OF + 1])
def test_the_best_ensemble_of_each_size(n_models: int) -> None:
    rng = np.random.default_rng(n_models)
    labels = rng.integers(0, 6, 30)
    known = rng.random((30, 6)) < 0.4
    members = {f"m{i:02d}": rng.dirichlet(np.ones(6), 30) for i in range(n_models)}

    def score(names: tuple[str, ...]) -> int:
        return int(recall.hits(np.mean([members[name] for name in names], axis=0), labels, known, 3).sum())

    path = recall.best(members, labels, known, 3)
    assert [len(names) for names in path] == list(range(1, n_models + 1))
    if n_models <= recall.ALL_OF:
        for size, names in enumerate(path, start=1):
            assert score(names) == max(score(one) for one in combinations(sorted(members), size))
    else:
        for smaller, larger in pairwise(path):
            assert set(smaller) < set(larger)
            rest = set(members) - set(smaller)
            assert score(larger) == max(score(tuple(sorted((*smaller, one)))) for one in rest)


def test_the_stage_says_who_proposes_enough(results: Config) -> None:
    frame = tables.read("proposal_recall", results.results / "proposal_recall.parquet")
    assert set(zip(frame["dataset"], frame["label_source"], strict=True)) == {("digits-mosaic", "composed")}
    configured = frame.loc[frame["role"].str.contains(recall.CONFIGURED)]
    assert configured["ensemble"].tolist() == [recall.JOINT.join(sorted(factory.MEMBERS))]

    proposed = tables.read("proposals", results.results / "proposals.parquet")
    labels = tables.read("labels", results.results / "given_labels.parquet")
    gold = labels.loc[labels["source"] == "composed"].groupby("sample_id")["class_id"].agg(set)
    gold = gold[gold.map(len) >= 2]
    shown = proposed.groupby("sample_id")["class_id"].agg(set)
    hits = sum(len(classes & shown[sample_id]) for sample_id, classes in gold.items())
    total = sum(map(len, gold))
    row = configured.iloc[0]
    assert row["recall"] == pytest.approx(hits / total, abs=1e-6)
    assert (row["n_labels"], row["n_images"]) == (total, len(gold))
    assert row["ci_low"] <= row["recall"] <= row["ci_high"]


def test_the_smallest_that_reaches_it_is_suggested(results: Config) -> None:
    easy = results.proposals.model_copy(update={"recall": 0.1})
    proposals.run(results.model_copy(update={"proposals": easy}))
    frame = tables.read("proposal_recall", results.results / "proposal_recall.parquet")
    suggested = frame.loc[frame["role"].str.contains(recall.SUGGESTED)]
    assert suggested["n_models"].tolist() == [1]
    none = results.proposals.model_copy(update={"recall": 1.0, "top_k": 1})
    proposals.run(results.model_copy(update={"proposals": none}))
    frame = tables.read("proposal_recall", results.results / "proposal_recall.parquet")
    assert not frame["role"].str.contains(recall.SUGGESTED).any()
    assert (frame["top_k_needed"] > 1).all()
    proposals.run(results)


def test_what_is_worth_annotating(results: Config) -> None:
    frame = tables.read("queue", results.results / "queue.parquet")
    proposed = tables.read("proposals", results.results / "proposals.parquet")
    samples = tables.read("samples", results.results / "samples.parquet").set_index("sample_id")
    assert set(frame["sample_id"]) == set(proposed["sample_id"])
    given = proposed.merge(samples["label"].reset_index())
    given = given.loc[given["class_id"] == given["label"]].set_index("sample_id")["score"]
    np.testing.assert_allclose(frame["quality"], given.reindex(frame["sample_id"]), rtol=1e-4)
    dataset = frame["sample_id"].str.split("/").str[0]
    assert all(sorted(mine) == list(range(1, len(mine) + 1)) for _, mine in frame["place"].groupby(dataset))
    assert set(frame["disagreement"]) <= {0.0, 0.5}
    likely = proposed.assign(top=proposed.groupby("sample_id")["score"].transform("max"))
    likely = likely.loc[likely["score"] >= proposals.LIKELY * likely["top"]].groupby("sample_id").size()
    assert frame["n_likely"].tolist() == likely.reindex(frame["sample_id"]).tolist()
