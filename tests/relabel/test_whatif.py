"""What pending labels would change, against plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.config import Config
from bench.relabel import whatif
from tests import factory

MODELS = ("a", "b", "c")
IDS = np.array([f"s/{i}" for i in range(60)], object)
K = 5


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return factory.make_config(Path(tmp_path_factory.mktemp("whatif")))


@pytest.fixture(scope="module")
def case() -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame]:
    """Answers (3, 60), the original labels, and labels of which some are others, more or none."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, K, len(IDS))
    pred = np.where(rng.random((3, len(IDS))) < [[0.9], [0.6], [0.5]], truth, rng.integers(0, K, (3, len(IDS))))
    before = pd.DataFrame({"sample_id": IDS, "class_id": truth})
    after = pd.concat([before.iloc[5:], pd.DataFrame({"sample_id": IDS[10:20], "class_id": (truth[10:20] + 1) % K})])
    return pred, before, after


def by_loop(pred: np.ndarray, labels: pd.DataFrame) -> list[float]:
    sets = labels.groupby("sample_id")["class_id"].agg(set)
    out = []
    for row in pred:
        right = [answer in sets[i] for i, answer in zip(IDS, row, strict=True) if i in sets]
        out.append(sum(right) / len(right))
    return out


def test_accuracies_before_and_after(config: Config, case: tuple[np.ndarray, pd.DataFrame, pd.DataFrame]) -> None:
    pred, before, after = case
    judged = [whatif.judge(pred, IDS, whatif.label_sets(labels, K)) for labels in (before, after)]
    table = whatif.accuracies(config, MODELS, *judged, "s", IDS).set_index("model")
    assert table.loc[list(MODELS), "before"].tolist() == pytest.approx(by_loop(pred, before))
    assert table.loc[list(MODELS), "after"].tolist() == pytest.approx(by_loop(pred, after))
    assert table["change_pp"].tolist() == pytest.approx(100 * (table["after"] - table["before"]))
    assert ((table["ci_low"] <= table["change_pp"]) & (table["change_pp"] <= table["ci_high"])).all()
    assert table.loc["a", ["rank_before", "rank_after"]].tolist() == [1, 1]


def test_nothing_changes_where_labels_do_not(
    config: Config, case: tuple[np.ndarray, pd.DataFrame, pd.DataFrame]
) -> None:
    pred, before, _ = case
    judged = whatif.judge(pred, IDS, whatif.label_sets(before, K))
    table = whatif.accuracies(config, MODELS, judged, judged, "s", IDS)
    assert (table[["change_pp", "ci_low", "ci_high"]] == 0).all(axis=None)
    assert (table["rank_before"] == table["rank_after"]).all()


def test_multi_label_share_is_of_all_images_also_empty_ones(
    case: tuple[np.ndarray, pd.DataFrame, pd.DataFrame],
) -> None:
    pred, _, after = case
    judged = whatif.judge(pred, IDS, whatif.label_sets(after, K))
    share, low, high, n = whatif.multi_label_share(judged, np.arange(len(IDS)) < 20, 0.95)
    assert (share, n) == (0.5, 20)
    assert low < 0.5 < high
    assert judged.sizes[:5].tolist() == [0] * 5


@pytest.mark.parametrize("is_original", [True, False])
def test_gaps_have_the_sign_of_original_minus_other(
    config: Config, case: tuple[np.ndarray, pd.DataFrame, pd.DataFrame], is_original: bool
) -> None:
    pred, before, after = case
    judged = [whatif.judge(pred, IDS, whatif.label_sets(labels, K)) for labels in (before, after)]
    rng = np.random.default_rng(1)
    theirs = rng.random((3, 80)) < 0.7
    origins = np.array([f"o/{i}" for i in range(80)], object)
    other = whatif.Other("o", tuple(MODELS), theirs, np.ones(80, bool), origins, is_original)
    table = whatif.gaps(config, *judged, IDS, other)
    sign = 1 if is_original else -1
    for column, labels in (("gap_before_pp", before), ("gap_after_pp", after)):
        expected = 100 * sign * (theirs.mean(axis=1) - by_loop(pred, labels))
        assert table[column].tolist() == pytest.approx(expected.tolist())
    assert ((table["ci_low"] < table["gap_after_pp"]) & (table["gap_after_pp"] < table["ci_high"])).all()
