"""Bits against plain booleans, and against the database's own counting."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import schemas
from bench.config import Config
from bench.evaluate.correctness import Answers, LabelSets
from bench.store import bits, database, kernels


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_unpack_undoes_pack(flags: list[bool]) -> None:
    assert bits.unpack(bits.pack(flags), len(flags)).tolist() == flags


def test_packing_is_big_endian_and_padded_with_zeros() -> None:
    assert bits.pack([True, False, False, False, False, False, False, True, True]) == bytes([0b10000001, 0b10000000])


def random(m: int, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who is right (M, N), which images are chosen (N,), and codes (M, N)."""
    rng = np.random.default_rng(seed)
    return rng.random((m, n)) < 0.7, rng.random(n) < 0.4, rng.integers(0, 65_536, (m, n)).astype(np.uint16)


def everything(rows: np.ndarray, mask: np.ndarray, codes: np.ndarray, threads: int = 2) -> list[np.ndarray]:
    """Every figure that is counted."""
    n, limits = codes.shape[1], [0, 70_000, 30_000, 500]
    return [
        bits.right_counts(rows, mask, threads=threads),
        bits.models_right(rows, n, threads=threads),
        bits.difficulty(rows, mask, n, threads=threads),
        *bits.sweep_shared(rows, mask, codes[0], limits, threads=threads),
        *bits.sweep_own(rows, mask, codes, limits, threads=threads),
        bits.both_right(rows, mask, threads=threads),
    ]


def same(found: list[np.ndarray], wanted: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("m", [1, 7, 50, 101])
@pytest.mark.parametrize("n", [1, 64, 1003, 33_000])
def test_everything_is_what_booleans_say(m: int, n: int) -> None:
    right, chosen, codes = random(m, n)
    rows, mask = bits.stack([bits.pack(row) for row in right]), bits.mask_of(chosen)
    below = codes[..., None] <= np.array([0, 70_000, 30_000, 500])
    hits = (right & chosen).astype(np.float64)
    wanted = [
        hits.sum(axis=1),
        right.sum(axis=0),
        np.bincount(right.sum(axis=0)[chosen], minlength=m + 1),
        hits @ below[0],
        chosen @ below[0].astype(int),
        np.einsum("mn,mnt->mt", hits, below),
        np.einsum("n,mnt->mt", chosen.astype(int), below),
        hits @ hits.T,
    ]
    assert same(everything(rows, mask, codes), wanted)
    assert bits.size(mask) == chosen.sum()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_nothing(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    right, chosen, codes = random(37, 1003)
    given_ = bits.stack([bits.pack(row) for row in right]), bits.mask_of(chosen), codes
    wanted = everything(*given_, threads=1)
    monkeypatch.setattr(bits, "ALONE", 0)
    assert same(everything(*given_, threads=threads), wanted)


def test_many_callers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bits, "ALONE", 0)
    right, chosen, codes = random(37, 1003)
    given_ = bits.stack([bits.pack(row) for row in right]), bits.mask_of(chosen), codes
    wanted = everything(*given_)
    with ThreadPoolExecutor(8) as callers:
        assert all(callers.map(lambda _: same(everything(*given_), wanted), range(64)))


def test_rows_and_masks_need_not_be_padded_aligned_or_contiguous() -> None:
    right, chosen, codes = random(9, 203)
    wanted = everything(bits.stack([bits.pack(row) for row in right]), bits.mask_of(chosen), codes)
    exact = np.packbits(right, axis=1)
    mask = np.frombuffer(bits.pack(chosen), np.uint8)
    assert exact.shape[1] % 8
    shifted = np.zeros(exact.size + 1, np.uint8)[1:].reshape(exact.shape)
    shifted[:] = exact
    for rows in (exact, shifted, np.asfortranarray(exact), np.repeat(exact, 2, axis=0)[::2]):
        assert same(everything(rows, mask, np.asfortranarray(codes)), wanted)


def test_a_mask_of_more_images_than_there_are_is_refused() -> None:
    right, _, codes = random(2, 64)
    rows, longer = bits.stack([bits.pack(row) for row in right]), bits.mask_of(np.ones(65))
    with pytest.raises(ValueError, match="a mask of 16 bytes"):
        bits.right_counts(rows, longer)
    with pytest.raises(ValueError, match="a mask of 16 bytes"):
        bits.sweep_own(rows, longer, codes, [1])
    assert bits.right_counts(rows, bits.mask_of(np.arange(65) < 3)).tolist() == right[:, :3].sum(axis=1).tolist()


def test_no_models() -> None:
    rows = bits.stack([])
    mask = bits.mask_of([True])
    assert bits.stack_codes([]).size == 0
    assert bits.right_counts(rows, np.zeros(0, np.uint8)).tolist() == []
    assert bits.both_right(rows, np.zeros(0, np.uint8)).shape == (0, 0)
    assert bits.size(mask) == 1


def test_rows_are_padded_to_whole_words() -> None:
    rows = bits.stack([b"\xff\x80", b"\x00\x40"])
    assert rows.tolist() == [[255, 128, 0, 0, 0, 0, 0, 0], [0, 64, 0, 0, 0, 0, 0, 0]]
    assert bits.unpack(rows[1], 10).tolist() == [False] * 9 + [True]


def test_agreement_by_hand() -> None:
    # five images: a right on 1 1 1 0 0, b on 1 0 0 1 0; both right once, both wrong once
    rows = bits.stack([bits.pack([1, 1, 1, 0, 0]), bits.pack([1, 0, 0, 1, 0])])
    both = bits.both_right(rows, bits.mask_of(np.ones(5)))
    assert both.tolist() == [[3, 1], [1, 2]]
    assert bits.agreement(both, 5).tolist() == [[1, 0.4], [0.4, 1]]
    assert bits.error_overlap(both, 5).tolist() == [[1, 0.25], [0.25, 1]]


def test_nothing_chosen_and_nobody_wrong_have_no_shares() -> None:
    both = np.zeros((2, 2), np.int64)
    assert np.isnan(bits.agreement(both, 0)).all()
    assert np.isnan(bits.error_overlap(both + 4, 4)).all()


def test_steps_by_hand() -> None:
    values = np.array([0, 1 / 65_536, 0.5, 1, 2, -1, np.inf, -np.inf], np.float32)
    assert bits.quantise(values, 0, 1).tolist() == [0, 1, 32_768, 65_535, 65_535, 0, 65_535, 0]
    assert bits.quantise(values[:4].reshape(2, 2), 0, 2).tolist() == [[0, 0], [16_384, 32_768]]
    assert bits.edges([0, 32_767, 65_535], -1, 1).tolist() == [-1 + 2 / 65_536, 0, 1]
    with pytest.raises(ValueError, match="no code"):
        bits.quantise([0.5, np.nan], 0, 1)


@given(st.integers(0, 65_535), st.floats(0, 1, exclude_max=True))
def test_an_edge_parts_codes(code: int, value: float) -> None:
    edge = float(bits.edges(code, 0, 1))
    assert (value < edge) == (int(bits.quantise([value], 0, 1)[0]) <= code)


def test_codes_are_read_back() -> None:
    codes = np.array([[1, 65_535], [0, 258]], np.uint16)
    assert bits.stack_codes([row.astype("<u2").tobytes() for row in codes]).tolist() == codes.tolist()


def test_without_a_folder_for_machine_code_it_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def njit(**options: object) -> Callable[..., object]:
        asked.append(options.get("cache", False))
        if options.get("cache"):
            raise RuntimeError("cannot cache function 'f': no locator available for file 'f.py'")
        return lambda function: function

    monkeypatch.setattr(kernels, "njit", njit)
    assert kernels._compiled(len) is len
    assert asked == [True, False]


def test_warming_up_leaves_nothing_to_compile() -> None:
    bits.warm()
    compiled = [value for value in vars(kernels).values() if hasattr(value, "signatures")]
    before = [len(kernel.signatures) for kernel in compiled]
    right, chosen, codes = random(9, 203)
    rows = bits.stack([bits.pack(row) for row in right])
    for shared in (False, True):
        rows.flags.writeable = codes.flags.writeable = not shared
        everything(rows, bits.mask_of(chosen), codes)
    assert [len(kernel.signatures) for kernel in compiled] == before
    assert len(compiled) > 6


def test_rows_of_answers_by_hand() -> None:
    answers = Answers(
        dataset="d",
        condition="clean",
        models=("a", "b"),
        ids=np.array(["d/0", "d/1", "d/2"], object),
        pred=np.array([[0, 1, 2], [1, 1, 9]], np.int32),
        files=(),
    )
    several = LabelSets(pd.Index(["d/0", "d/1"]), np.array([[1, 1, 0], [0, 1, 0]], bool))
    one = LabelSets(pd.Index(["d/0", "d/1", "d/2"]), np.eye(3, dtype=bool))
    found, valid = bits.rows_of(answers, {"original": one, "real": several})
    cell = "d", "clean"
    assert found.to_numpy().tolist() == [
        ["a", *cell, "original", 3, bytes([0b11100000])],
        ["b", *cell, "original", 3, bytes([0b01000000])],
        ["a", *cell, "real", 3, bytes([0b11000000])],
        ["b", *cell, "real", 3, bytes([0b11000000])],
    ]
    assert valid.to_numpy().tolist() == [
        ["d", "original", 3, bytes([0b11100000])],
        ["d", "real", 3, bytes([0b11000000])],
    ]
    assert len(schemas.validate("bits", found)) == len(found)


def test_codes_of_a_model_by_hand() -> None:
    extremes = {"msp": (0.2, 0.4), "entropy_nats": (0.1, 0.2), "energy": (-3.0, 1.0), "mutual_information": (0.5, 0.5)}
    ranges = bits.ranges_of(10, extremes)
    assert ranges == {
        "msp": (0, 1),
        "entropy_nats": (0, pytest.approx(np.log(10))),
        "energy": (-3, 1),
        "mutual_information": (0.5, 1.5),
    }
    measures = {"msp": [0.25, 1.0], "energy": [-1.0, 1.0], "mutual_information": [0.5, 0.5], "margin": [np.nan, 0.5]}
    found = bits.codes_of("a", "d", "clean", [3, 999], measures, ranges)
    codes = dict(zip(found["measure"], bits.stack_codes(list(found["codes"])).tolist(), strict=True))
    assert codes == {
        "pred": [3, 999],
        "msp": [16_384, 65_535],
        "energy": [32_768, 65_535],
        "mutual_information": [0, 0],
    }
    assert found["low"].tolist()[1:] == [0, -3, 0.5]
    assert np.isnan(found["low"][0])
    assert list(schemas.validate("codes", found)["measure"]) == sorted(codes)
    with pytest.raises(ValueError, match="class 65536"):
        bits.codes_of("a", "d", "clean", [65_536], {}, {})


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
        total = bits.size(mask)
        assert n == (samples["dataset"] == dataset).sum()
        if total:
            found[model, dataset, condition, source] = (int(bits.right_counts(bits.stack([correct]), mask)[0]), total)
    assert found == {row[:4]: row[4:] for row in wanted}
    assert len(found) > 100
