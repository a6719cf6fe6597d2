"""The papers' figures: what was read off them adds up to what is known of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.data import imagenet
from bench.errors import BenchError
from bench.studies import misclassification, published, wordnet


def test_the_matrix_adds_up_to_what_is_known() -> None:
    held = published.load()
    rates = np.array(held.matrix.rates, float)
    assert rates.shape == (7, 7)
    assert np.isnan(np.diag(rates)).all()
    between = rates[~np.eye(7, dtype=bool)]
    # Each of 42 cells is rounded to a tenth of a percent: the sum of their errors lies within a few of these.
    assert between.sum() / 100 * held.images == pytest.approx(held.matrix.transferred, abs=42 * 0.0005 * held.images)
    assert held.matrix.transferred == 173_549
    assert round(between.mean(), 1) == 21.7
    assert np.nanmean(rates, axis=1) == pytest.approx([18.2, 11.6, 17.7, 21.9, 23.6, 26.4, 32.7], abs=0.11)
    assert np.nanmean(rates, axis=0) == pytest.approx([26.6, 42.7, 25.7, 15.8, 16.8, 14.5, 10.0], abs=0.11)


def test_their_collections_have_a_group_here() -> None:
    classes = imagenet.classes()
    hierarchy = wordnet.load(imagenet.LABEL_SPACE, classes.wnids, classes.names)
    groups = misclassification.collections(imagenet.LABEL_SPACE, classes.names, hierarchy)
    rows = published.load().collections.rows
    assert {row.group for row in rows} <= {"all", *groups}
    assert all(row.top3 < row.top5 for row in rows)
    every = {row.name: row for row in rows}["All"]
    assert (every.inside, every.top3, every.top5) == (None, 59.6, 71.1)


def test_a_malformed_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("images: many")
    with pytest.raises(BenchError, match="holds no published figures"):
        published.load(tmp_path / "p.yaml")
