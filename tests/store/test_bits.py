"""Bits against plain booleans, and against the database's own counting."""

from __future__ import annotations

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config import Config
from bench.store import bits, database


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_unpack_undoes_pack(flags: list[bool]) -> None:
    assert bits.unpack(bits.pack(flags), len(flags)).tolist() == flags


def test_packing_is_big_endian_and_padded_with_zeros() -> None:
    assert bits.pack([True, False, False, False, False, False, False, True, True]) == bytes([0b10000001, 0b10000000])


@given(st.integers(1, 40), st.integers(0, 2**32))
def test_counts_are_those_of_booleans(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, mask = rng.random((5, n)) < 0.6, rng.random(n) < 0.5
    packed = bits.stack([bits.pack(row) for row in rows])
    found = bits.counts(packed, np.frombuffer(bits.pack(mask), np.uint8))
    assert found.tolist() == (rows & mask).sum(axis=1).tolist()


@pytest.mark.parametrize("below", [1.0, 0.3])
def test_popcounts_are_what_sql_counts(complete: Config, below: float) -> None:
    """Every cell of `bits` under a filter on the reference model's uncertainty, against a join and a group-by."""
    path = complete.results / database.FILE
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{path}' AS bench (READ_ONLY)")
        connection.execute("USE bench")
        wanted = connection.execute(
            """
            WITH chosen AS (SELECT sample_id FROM uncertainty WHERE model = 'ensemble-supervised' AND msp <= $below),
            right_ AS (SELECT p.model, p.dataset, p.condition, p.sample_id, l.source,
                              max((l.class_id = p.pred)::INT) AS hit
                       FROM predictions p JOIN labels l USING (sample_id) WHERE p.condition NOT LIKE 'attack:%'
                       GROUP BY ALL)
            SELECT model, dataset, condition, source, sum(hit)::INT, count(*)::INT
            FROM right_ JOIN chosen USING (sample_id) GROUP BY ALL
            """,
            {"below": below},
        ).fetchall()
        samples = connection.execute(
            """
            SELECT s.dataset, coalesce(u.msp <= $below, false) AS chosen FROM samples s
            LEFT JOIN uncertainty u ON u.sample_id = s.sample_id AND u.model = 'ensemble-supervised'
            WHERE s.split = 'test' ORDER BY s.sample_id
            """,
            {"below": below},
        ).df()
        stored = connection.execute("SELECT model, dataset, condition, label_source, n, correct FROM bits").fetchall()
        valid = {
            row[:2]: row[2] for row in connection.execute("SELECT dataset, label_source, mask FROM valid").fetchall()
        }
    chosen = {name: bits.pack(group["chosen"]) for name, group in samples.groupby("dataset")}
    found = {}
    for model, dataset, condition, source, n, correct in stored:
        mask = np.frombuffer(chosen[dataset], np.uint8) & np.frombuffer(valid[dataset, source], np.uint8)
        total = int(bits.counts(mask[None], mask)[0])
        assert n == (samples["dataset"] == dataset).sum()
        if total:
            found[model, dataset, condition, source] = (int(bits.counts(bits.stack([correct]), mask)[0]), total)
    assert found == {row[:4]: row[4:] for row in wanted}
    assert len(found) > 100
