"""Every table refuses what it should, naming the table, the column and the fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import schemas
from bench.errors import BenchError
from bench.store import tables

VALUES = {
    "str": ["a", "b", "c"],
    "int32": [1, 2, 3],
    "float32": [0.25, 0.5, 0.75],
    "float64": [0.25, 0.5, 0.75],
    "bool": [True, False, True],
    "binary": [b"a", b"b", b"c"],
    "list<int16>": [np.array([k, k + 1], np.int16) for k in range(3)],
    "list<float32>": [np.array([k, k + 0.5], np.float32) for k in range(3)],
}


def good(name: str) -> pd.DataFrame:
    """Three rows that table `name` accepts."""
    columns = {
        column: list(spec.allowed * 3)[:3] if spec.allowed else VALUES[spec.kind]
        for column, spec in schemas.TABLES[name].columns.items()
    }
    return pd.DataFrame(columns)


@pytest.mark.parametrize("name", schemas.TABLES)
def test_a_good_frame_survives_the_way_to_disk_and_back(tmp_path: Path, name: str) -> None:
    written = tables.write(name, good(name), tmp_path / "t.parquet")
    read = tables.read(name, tmp_path / "t.parquet")
    assert list(read) == list(schemas.TABLES[name].columns)
    for column in read:
        assert [repr(v) for v in read[column]] == [repr(v) for v in written[column]]
    tables.check_schema(name, tmp_path / "t.parquet")


@pytest.mark.parametrize("name", schemas.TABLES)
def test_an_empty_frame_is_a_table_too(tmp_path: Path, name: str) -> None:
    tables.write(name, good(name).iloc[:0], tmp_path / "t.parquet")
    assert tables.read(name, tmp_path / "t.parquet").empty


@pytest.mark.parametrize("name", schemas.TABLES)
def test_missing_unknown_and_repeated(name: str) -> None:
    frame, table = good(name), schemas.TABLES[name]
    first = next(iter(table.columns))
    with pytest.raises(BenchError, match=f"table `{name}` lacks {first}"):
        schemas.validate(name, frame.drop(columns=first))
    with pytest.raises(BenchError, match=f"table `{name}` has unknown extra_"):
        schemas.validate(name, frame.assign(extra_=1))
    with pytest.raises(BenchError, match=f"table `{name}`: 2 rows share a key"):
        schemas.validate(name, pd.concat([frame, frame.iloc[:1]]))


@pytest.mark.parametrize("name", schemas.TABLES)
def test_a_null_is_allowed_where_it_says_so_and_nowhere_else(name: str) -> None:
    table = schemas.TABLES[name]
    for column, spec in table.columns.items():
        if spec.kind.startswith(("list", "binary")) or column in table.key:
            continue
        holed = good(name).astype({column: object})
        holed.loc[1, column] = None
        if spec.nullable:
            assert schemas.validate(name, holed)[column].isna().sum() == 1
        else:
            with pytest.raises(BenchError, match=f"column `{column}`"):
                schemas.validate(name, holed)


def cells(kind: Callable[[schemas.Column], bool]) -> list[tuple[str, str]]:
    return [(t, c) for t, table in schemas.TABLES.items() for c, spec in table.columns.items() if kind(spec)]


@pytest.mark.parametrize(("name", "column"), cells(lambda spec: spec.low is not None or spec.high is not None))
def test_bounds_are_inclusive(name: str, column: str) -> None:
    spec = schemas.TABLES[name].columns[column]
    for bound, outside in ((spec.low, -1), (spec.high, 1)):
        if bound is None:
            continue
        frame = good(name)
        frame.loc[0, column] = type(frame.loc[0, column])(bound)
        schemas.validate(name, frame)
        frame.loc[0, column] = type(frame.loc[0, column])(bound + outside)
        with pytest.raises(BenchError, match=f"table `{name}`: column `{column}`"):
            schemas.validate(name, frame)


@pytest.mark.parametrize(("name", "column"), cells(lambda spec: spec.allowed is not None))
def test_a_value_that_is_not_allowed_is_shown(name: str, column: str) -> None:
    frame = good(name)
    frame.loc[0, column] = "unheard-of"
    with pytest.raises(BenchError, match=f"column `{column}`.*'unheard-of'"):
        schemas.validate(name, frame)


@pytest.mark.parametrize(("name", "column"), cells(lambda spec: spec.kind in ("int32", "float32", "float64")))
def test_words_are_no_numbers(name: str, column: str) -> None:
    frame = good(name).astype({column: object})
    frame.loc[0, column] = "many"
    with pytest.raises(BenchError, match=f"column `{column}`"):
        schemas.validate(name, frame)


@pytest.mark.parametrize(("name", "column"), cells(lambda spec: spec.kind == "int32"))
def test_fractions_are_not_cut_off(name: str, column: str) -> None:
    with pytest.raises(BenchError, match=f"column `{column}`"):
        schemas.validate(name, good(name).assign(**{column: [1.0, 1.5, 2.0]}))


def test_the_place_and_the_remedy_are_named() -> None:
    with pytest.raises(BenchError, match=r"^results/x\.parquet: .*Delete the file and run `dvc repro`"):
        schemas.validate("ranks", good("ranks").assign(rank=0), where="results/x.parquet")


def test_rows_come_back_in_the_order_of_the_key() -> None:
    frame = schemas.validate("samples", good("samples").iloc[::-1])
    assert frame["sample_id"].tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("name", schemas.TABLES)
def test_keys_are_columns_that_are_never_null(name: str) -> None:
    table = schemas.TABLES[name]
    assert all(key in table.columns and not table.columns[key].nullable for key in table.key)
    assert set(schemas.arrow(name).names) == set(table.columns)
