"""What an annotator is shown next, counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import config as configuration
from bench import schemas
from bench.relabel import queue
from bench.store import tables
from dashboard import terms
from tests import factory

TABLE = pd.DataFrame(
    {
        "sample_id": ["d/a", "d/b", "d/c", "d/d"],
        "quality": [0.9, 0.1, 0.5, 0.1],
        "disagreement": [0.0, 0.5, 0.5, 0.0],
        "entropy_nats": [0.1, 0.2, 2.0, 0.3],
        "n_likely": [1, 1, 3, 2],
        "place": [2, 4, 1, 3],
    }
)
NAMES = st.sampled_from(["Ada", "Ben", "Cyd", "Dee"])
PEOPLE = st.dictionaries(st.sampled_from([f"d/{i}" for i in range(9)]), st.sets(NAMES))


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("quality", "dbca"),  # d and b tie: the place decides
        ("disagreement", "cbad"),
        ("uncertainty", "cdba"),
        ("labels", "cdab"),
        ("random", "cadb"),
    ],
)
def test_each_order_puts_first_what_it_says(order: str, expected: str) -> None:
    assert [one.removeprefix("d/") for one in queue.ordered(TABLE, order)] == list(expected)


def test_every_order_has_a_column_of_the_table_and_a_name() -> None:
    assert set(queue.BY) == set(get_args(configuration.Order)) == set(terms.ORDER)
    assert {column for column, _ in queue.BY.values()} < set(schemas.TABLES["queue"].columns)


def test_one_is_not_shown_what_is_ones_own_or_has_enough_annotators() -> None:
    ids = ["d/a", "d/b", "d/c", "d/d", "d/e"]
    done = {"d/a": {"Ada"}, "d/b": {"Ben", "Cyd"}, "d/c": {"Ben"}}
    claimed = {"d/c": {"Cyd"}, "d/d": {"Ada", "Ben"}, "d/e": {"Ben"}}
    # a: her own; b: two did it; c: Ben did it and Cyd has it before them; d: besides her, just Ben has it
    assert queue.upcoming(ids, "Ada", done, claimed, 2, 9) == ["d/d", "d/e"]
    assert queue.upcoming(ids, "Ada", done, claimed, 2, 1) == ["d/d"]
    assert queue.upcoming(ids, "Ada", done, claimed, 3, 9) == ["d/b", "d/c", "d/d", "d/e"]
    assert queue.upcoming(ids, "Ben", done, claimed, 1, 9) == ["d/e"]  # what one has before oneself is free
    # who did an image and still has it before them is one person
    assert queue.upcoming(["d/c"], "Ada", {"d/c": {"Ben"}}, {"d/c": {"Ben"}}, 2, 9) == ["d/c"]


def test_what_stays_open_comes_to_others_again() -> None:
    done = {"d/0": {"Ada"}, "d/1": {"Ada"}}
    ids = ["d/0", "d/1"]
    assert queue.upcoming(ids, "Ben", done, {}, 1, 5) == []
    assert queue.upcoming(ids, "Ben", done, {}, 1, 5, {"d/1"}) == ["d/1"]
    assert queue.upcoming(ids, "Ada", done, {}, 1, 5, {"d/1"}) == []
    assert queue.progress(ids, "Ben", done, 1, {"d/1"}) == queue.Progress(0, 1, 2, 1)
    assert queue.progress(ids, "Ada", done, 1, {"d/1"}) == queue.Progress(2, 1, 2, 0)


def test_progress_counts_images_and_what_is_left_for_one() -> None:
    ids = ["d/a", "d/b", "d/c", "d/d"]
    done = {"d/a": {"Ada"}, "d/b": {"Ada", "Ben"}, "d/c": {"Ben", "Cyd", "Dee"}, "other/a": {"Ada"}}
    assert queue.progress(ids, "Ada", done, 2) == queue.Progress(mine=2, complete=2, total=4, left=1)
    assert queue.progress(ids, "Cyd", done, 2) == queue.Progress(mine=1, complete=2, total=4, left=2)
    assert queue.progress(ids, "Eve", {}, 1) == queue.Progress(mine=0, complete=0, total=4, left=4)


@given(done=PEOPLE, claimed=PEOPLE, who=NAMES, overlap=st.integers(1, 4), n=st.integers(1, 9))
def test_what_comes_next_keeps_the_order_and_nobody_too_many(
    done: dict[str, set[str]], claimed: dict[str, set[str]], who: str, overlap: int, n: int
) -> None:
    ids = [f"d/{i}" for i in range(9)]
    found = queue.upcoming(ids, who, done, claimed, overlap, n)
    assert found == sorted(set(found)) == [one for one in ids if one in found]
    assert len(found) <= n
    for one in ids:
        others = (done.get(one, set()) | claimed.get(one, set())) - {who}
        wanted = who not in done.get(one, set()) and len(others) < overlap
        assert (one in found) <= wanted
        if len(found) < n:
            assert (one in found) == wanted
    free = queue.upcoming(ids, who, done, {}, overlap, 9)
    assert len(free) == queue.progress(ids, who, done, overlap).left


def test_everyone_has_the_same_random_order_and_it_is_one_of_all_images(tmp_path: Path) -> None:
    config = factory.make_results(tmp_path, n=20)
    table = tables.read("queue", config.results / "queue.parquet")
    noisy = table.loc[table["sample_id"].str.startswith("digits-noisy/")]
    order = queue.ordered(noisy, "random")
    assert sorted(order) == sorted(noisy["sample_id"])
    assert order != sorted(order)
    assert queue.ordered(noisy.sample(frac=1, random_state=1), "random") == order
