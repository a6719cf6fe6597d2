"""What bits count is what SQL counts: all figures of random models x images x filters, against DuckDB's long table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bench import stats
from bench.store import bits

LOW, HIGH = -1.25, 2.5
CODE = f"least(65535, greatest(0, floor((v::DOUBLE - {LOW}) / ({HIGH} - {LOW}) * 65536)))::INT"
"""What bits.quantise does, in SQL."""
WILSON_Z = 1.959963984540054
few = settings(max_examples=40, deadline=None)


@dataclass(frozen=True)
class Case:
    """Models x images: who is right (M, N), which are chosen (N,), uncertainties `own` (M, N) and `shared` (N,)."""

    right: npt.NDArray[np.bool_]
    chosen: npt.NDArray[np.bool_]
    shared: npt.NDArray[np.float32]
    own: npt.NDArray[np.float32]
    thresholds: list[int]

    @property
    def n(self) -> int:
        return len(self.chosen)

    @property
    def rows(self) -> npt.NDArray[np.uint8]:
        return bits.stack([bits.pack(row) for row in self.right])

    @property
    def mask(self) -> npt.NDArray[np.uint8]:
        return bits.mask_of(self.chosen)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """N is seldom a multiple of 8, often 1; filters may choose nothing or all, models may be always right or wrong."""
    m = draw(st.integers(1, 13))
    n = draw(st.one_of(st.just(1), st.integers(2, 150), st.sampled_from([64, 512, 4097, 33_000])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    share = draw(st.sampled_from([0.0, 0.03, 0.5, 0.8, 1.0]))
    skill = draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))
    near = st.integers(-3, 3).map(lambda step: 65_536 * (step + 1) // 3)
    thresholds = draw(st.lists(st.one_of(st.integers(-2, 65_540), near), min_size=1, max_size=50))
    values = rng.normal(0.5, 1.2, (m + 1, n)).astype(np.float32)
    return Case(rng.random((m, n)) < skill, rng.random(n) < share, values[0], values[1:], thresholds)


@pytest.fixture(scope="module")
def sql() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        yield connection


def load(sql: duckdb.DuckDBPyConnection, case: Case) -> None:
    """Tables answers(model, image, correct, v) and images(image, chosen, v)."""
    m, n = case.right.shape
    answers = pd.DataFrame(
        {
            "model": np.repeat(np.arange(m), n),
            "image": np.tile(np.arange(n), m),
            "correct": case.right.ravel(),
            "v": case.own.ravel(),
        }
    )
    images = pd.DataFrame({"image": np.arange(n), "chosen": case.chosen, "v": case.shared})
    for name, frame in {"answers": answers, "images": images}.items():
        sql.register("given", frame)
        sql.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM given")
        sql.unregister("given")
    limits = ", ".join(f"({place}, {limit})" for place, limit in enumerate(case.thresholds))
    sql.execute(f"CREATE OR REPLACE TABLE limits AS SELECT * FROM (VALUES {limits}) AS given(place, code)")


def matrix(sql: duckdb.DuckDBPyConnection, query: str, *shape: int) -> npt.NDArray[np.float64]:
    """The last column of a query as an array; NULL as NaN. The columns before it are the places, all of them there."""
    found = sql.execute(query).fetchnumpy()
    *places, values = found.values()
    out = np.full(shape, np.inf)
    out[tuple(np.asarray(place, np.int64) for place in places)] = np.ma.filled(values.astype(np.float64), np.nan)
    return out


@few
@given(case=cases())
def test_accuracies_and_their_intervals(sql: duckdb.DuckDBPyConnection, case: Case) -> None:
    load(sql, case)
    found = sql.execute(
        f"""
        WITH counted AS (SELECT model, count(*) FILTER (correct)::DOUBLE AS k, count(*)::DOUBLE AS n
                         FROM answers JOIN images USING (image) WHERE chosen GROUP BY model),
        wilson AS (SELECT *, {WILSON_Z}::DOUBLE ** 2 AS z2, k / n AS p FROM counted)
        SELECT model, k, n, (p + z2 / (2 * n)) / (1 + z2 / n) AS middle,
               sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n) AS half
        FROM wilson ORDER BY model
        """
    ).df()
    right, n = bits.right_counts(case.rows, case.mask), bits.size(case.mask)
    if n == 0:
        assert len(found["k"]) == 0
        assert right.tolist() == [0] * len(case.right)
        return
    assert right.tolist() == found["k"].tolist()
    assert found["n"].tolist() == [n] * len(right)
    low, high = stats.wilson(right, n)
    assert low.tolist() == pytest.approx((found["middle"] - found["half"]).tolist(), abs=1e-12)
    assert high.tolist() == pytest.approx((found["middle"] + found["half"]).tolist(), abs=1e-12)


@few
@given(case=cases())
def test_difficulty(sql: duckdb.DuckDBPyConnection, case: Case) -> None:
    load(sql, case)
    models = len(case.right)
    wanted = matrix(
        sql,
        f"""
        WITH each AS (SELECT image, count(*) FILTER (correct) AS k FROM answers GROUP BY image)
        SELECT k, count(chosen) FROM range({models + 1}) AS every(k)
        LEFT JOIN (SELECT each.k, chosen FROM each JOIN images USING (image) WHERE chosen) USING (k) GROUP BY k
        """,
        models + 1,
    )
    assert bits.difficulty(case.rows, case.mask, case.n).tolist() == wanted.tolist()
    each = sql.execute("SELECT count(*) FILTER (correct) FROM answers GROUP BY image ORDER BY image").fetchnumpy()
    assert bits.models_right(case.rows, case.n).tolist() == next(iter(each.values())).tolist()


@few
@given(case=cases())
def test_sweep_of_one_uncertainty_for_all(sql: duckdb.DuckDBPyConnection, case: Case) -> None:
    load(sql, case)
    models, steps = len(case.right), len(case.thresholds)
    query = """
        SELECT {place}, count(*) FILTER (chosen AND {what} AND {code} <= limits.code)
        FROM answers JOIN images USING (image), limits GROUP BY ALL
    """
    code = CODE.replace("v::", "images.v::")
    right = matrix(sql, query.format(place="model, place", what="correct", code=code), models, steps)
    n = matrix(sql, query.format(place="place", what="model = 0", code=code), steps)
    found = bits.sweep_shared(case.rows, case.mask, bits.quantise(case.shared, LOW, HIGH), case.thresholds)
    assert found[0].tolist() == right.tolist()
    assert found[1].tolist() == n.tolist()


@few
@given(case=cases())
def test_sweep_of_each_models_own_uncertainty(sql: duckdb.DuckDBPyConnection, case: Case) -> None:
    load(sql, case)
    shape = len(case.right), len(case.thresholds)
    query = """
        SELECT model, place, count(*) FILTER (chosen AND {what} AND {code} <= limits.code)
        FROM answers JOIN images USING (image), limits GROUP BY ALL
    """
    code = CODE.replace("v::", "answers.v::")
    found = bits.sweep_own(case.rows, case.mask, bits.quantise(case.own, LOW, HIGH), case.thresholds)
    assert found[0].tolist() == matrix(sql, query.format(what="correct", code=code), *shape).tolist()
    assert found[1].tolist() == matrix(sql, query.format(what="true", code=code), *shape).tolist()


@few
@given(case=cases())
def test_agreement_and_error_overlap(sql: duckdb.DuckDBPyConnection, case: Case) -> None:
    load(sql, case)
    models = len(case.right)
    query = """
        SELECT a.model, b.model, {what} FROM answers a JOIN answers b USING (image) JOIN images USING (image)
        GROUP BY a.model, b.model
    """
    shape = models, models
    both = matrix(sql, query.format(what="count(*) FILTER (chosen AND a.correct AND b.correct)"), *shape)
    same = matrix(sql, query.format(what="avg((a.correct = b.correct)::INT) FILTER (chosen)"), *shape)
    wrong = "count(*) FILTER (chosen AND NOT a.correct {} NOT b.correct)"
    wrong = [wrong.format("AND"), "nullif(count(*) FILTER (chosen AND NOT (a.correct AND b.correct)), 0)"]
    overlap = matrix(sql, query.format(what=f"{wrong[0]} / {wrong[1]}::DOUBLE"), *shape)
    found, n = bits.both_right(case.rows, case.mask), bits.size(case.mask)
    assert found.tolist() == both.tolist()
    assert np.array_equal(bits.agreement(found, n), same, equal_nan=True)
    assert np.array_equal(bits.error_overlap(found, n), overlap, equal_nan=True)


edge_values = st.one_of(
    st.floats(width=32, allow_nan=False),
    st.integers(-1, 65_537).map(lambda step: float(np.float32(LOW + step / 65_536 * (HIGH - LOW)))),
)


@few
@given(values=arrays.arrays(np.float32, st.integers(1, 60), elements=edge_values))
def test_codes_are_those_of_sql(sql: duckdb.DuckDBPyConnection, values: npt.NDArray[np.float32]) -> None:
    given_ = pd.DataFrame({"i": np.arange(len(values)), "v": values})
    sql.register("given", given_)
    wanted = sql.execute(f"SELECT {CODE} FROM given ORDER BY i").fetchnumpy()
    sql.unregister("given")
    assert bits.quantise(values, LOW, HIGH).tolist() == next(iter(wanted.values())).tolist()
