from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.config import Config
from bench.errors import BenchError
from bench.evaluate import logits
from bench.relabel import proposals
from bench.store import tables
from tests import factory


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return factory.make_results(tmp_path_factory.mktemp("results"), n=12)


def test_the_original_label_takes_the_last_place_where_it_is_not_ranked() -> None:
    p = np.array([[0.5, 0.3, 0.15, 0.05], [0.5, 0.3, 0.15, 0.05], [0.25, 0.25, 0.25, 0.25]])
    assert proposals.propose(p, np.array([3, 1, 0]), 2).tolist() == [[0, 3], [0, 1], [0, 1]]
    assert proposals.propose(p, np.array([3, 1, 0]), 9).tolist() == [[0, 1, 2, 3]] * 3


def test_stage_ranks_the_mean_of_the_members(results: Config) -> None:
    proposals.run(results)
    frame = tables.read("proposals", results.results / "proposals.parquet")
    samples = tables.read("samples", results.results / "samples.parquet").set_index("sample_id")
    test = samples[samples["split"] == "test"].reset_index()
    k = results.proposals.top_k
    assert set(samples.loc[frame["sample_id"], "dataset"]) == set(results.proposals.datasets)
    assert len(frame) == k * test["dataset"].isin(results.proposals.datasets).sum()
    assert (frame.groupby("sample_id")["rank"].agg(lambda ranks: sorted(ranks) == list(range(1, k + 1)))).all()
    assert (frame["proposer"] == factory.ENSEMBLE).all()
    labels = samples["label"].to_dict()
    assert all(labels[name] in set(rows["class_id"]) for name, rows in frame.groupby("sample_id"))

    first = test.loc[test["dataset"] == "digits", "sample_id"].iloc[0]
    mean = np.mean([logits.softmax(logits.read(results, m, test)["digits"][0]) for m in factory.MEMBERS], axis=0)
    mine = frame[frame["sample_id"] == first].sort_values("rank")
    np.testing.assert_allclose(mine["score"], mean[mine["class_id"]], rtol=1e-6)
    assert mine["class_id"].iloc[0] == mean.argmax()


def test_no_ensemble_no_proposals(results: Config) -> None:
    none = results.model_copy(update={"proposals": results.proposals.model_copy(update={"ensemble": None})})
    assert set(proposals.run(none).values()) == {0}
    assert tables.read("proposals", results.results / "proposals.parquet").empty


def test_a_member_without_logits_is_named(results: Config, tmp_path: Path) -> None:
    own = results.model_copy(update={"root": shutil.copytree(results.root, tmp_path / "copy")})
    (own.results / "logits" / "supervised-vit.parquet").unlink()
    with pytest.raises(BenchError, match=r"supervised-vit.parquet: is missing"):
        proposals.run(own)
