"""What the app reads is what the tables hold."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import stats
from bench.config import Config
from dashboard import db
from tests import factory

EVERY = (*factory.MODELS, factory.ENSEMBLE)


@pytest.fixture(scope="module")
def right(config: Config) -> pd.DataFrame:
    """Models by images of digits-mosaic, under all labels present."""
    return factory.right(config, "digits-mosaic", "composed")


def test_catalogue_is_in_a_fixed_order(source: db.Source) -> None:
    catalogue = db.catalogue(source)
    assert catalogue.families == ["supervised", "ssl", "random", "pixels"]
    assert catalogue.datasets.index[0] == "digits"
    assert catalogue.held_against("digits")[:2] == ["optdigits", "optdigits-full"]
    assert catalogue.null_halves() == ("digits-null-a", "digits-null-b")
    assert catalogue.choose(("pixels",)) == ["pixels"]
    assert len(catalogue.choose(())) == 8
    assert catalogue.corruptions == ["gaussian_blur", "gaussian_noise"]
    assert catalogue.attacks == {"pgd-linf": "PGD, L∞"}


def test_right_counts_come_from_the_bits(source: db.Source, right: pd.DataFrame) -> None:
    frame = db.images_of(source, "digits-mosaic", "composed", EVERY)
    assert frame["sample_id"].tolist() == right.columns.tolist()
    np.testing.assert_array_equal(frame["n_right"], right.sum(axis=0))
    assert set(frame["n_models"]) == {8}
    one = db.block(source, "digits-mosaic", "composed").right("pixels")
    np.testing.assert_array_equal(one, right.loc["pixels"])


def test_accuracies_are_those_of_the_bits(source: db.Source, right: pd.DataFrame) -> None:
    frame = db.accuracies(source, "all", "composed", EVERY)
    mine = frame.loc[frame["dataset"] == "digits-mosaic"].set_index("model")
    np.testing.assert_allclose(mine["value"].loc[right.index], right.mean(axis=1))
    low, high = stats.wilson(right.sum(axis=1), right.shape[1])
    np.testing.assert_allclose(mine["ci_low"].loc[right.index], low)
    np.testing.assert_allclose(mine["ci_high"].loc[right.index], high)
    assert set(frame.loc[frame["dataset"] == "digits", "label_source"]) == {"original"}
    assert not frame.duplicated(["model", "dataset"]).any()
    assert frame["rank"].notna().all()
    assert db.accuracies(source, "disputed", "original", EVERY)["rank"].isna().all()


def test_pairs_are_there_both_ways(source: db.Source) -> None:
    pairs = db.pairs(source, "digits", EVERY)
    assert len(pairs) == 8 * 7
    found = pairs["supervised-cnn", "pixels"]
    assert found.delta_pp == pytest.approx(100 * (57 - 51) / 60)
    assert found.n == 60
    assert pairs["pixels", "supervised-cnn"] == found.turned()


def test_robust_pair_counts_attacked_images(config: Config, source: db.Source) -> None:
    only_a, only_b, n = db.robust_pair(source, "supervised-cnn", "mae-vit", "attack:pgd-linf:8")
    assert n == factory.N_ATTACKED
    frame = db.under(source, "attack", "pgd-linf", ("supervised-cnn", "mae-vit"))
    value = frame.loc[frame["level"] == 8].set_index("model")["value"]
    assert (only_a - only_b) / n == pytest.approx(value["supervised-cnn"] - value["mae-vit"])


def test_levels_of_corruptions_start_with_clean(source: db.Source) -> None:
    frame = db.under(source, "corruption", "gaussian_blur", ("supervised-cnn",))
    assert frame["level"].tolist() == [0, 1, 3, 5]
    np.testing.assert_allclose(frame["value"], [57 / 60, 54 / 60, 48 / 60, 42 / 60])


def test_heads_are_means_over_seeds(source: db.Source) -> None:
    frame = db.heads(source, ("pixels",)).set_index(["probe", "labels_per_class"])
    assert frame.loc[("linear", 10), "seeds"] == 3
    assert frame.loc[("linear", 10), "value"] == pytest.approx(0.85 - 0.2 - 0.02, abs=1e-6)
    assert frame.loc[("linear", 0), "value"] == pytest.approx(0.85, abs=1e-6)


def test_disputed_images_have_a_best_other_label(config: Config, source: db.Source) -> None:
    frame = db.disputed(source, "digits-noisy")
    members = db.members(source, "digits-noisy", "disputed")
    assert set(frame["sample_id"]) == set(db.images(source, "digits-noisy").ids[members])
    assert (frame["best"] != frame["label"]).all()
    doubt = (frame["best_score"] - frame["given_score"]).to_numpy()
    assert (np.diff(doubt) <= 0).all()


def test_a_cursor_for_every_call(source: db.Source) -> None:
    def count(i: int) -> int:
        return int(db.query(source, "SELECT count(*) AS n FROM predictions WHERE model <> ?", [str(i)])["n"].iloc[0])

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(count, range(64)))) == 1


def test_values_are_never_part_of_the_statement(source: db.Source) -> None:
    assert db.sample(source, "digits/00001' OR '1'='1") is None
    assert not db.members(source, "digits", "'; DROP TABLE metrics; --").any()
    assert db.fault(source) == ""


def test_a_missing_file_has_no_key(tmp_path: Path) -> None:
    assert db.source_of(tmp_path / "none.duckdb") is None
