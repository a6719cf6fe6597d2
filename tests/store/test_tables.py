"""Parquet files: validated, whole or not at all, the same bytes for the same content."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.errors import BenchError
from bench.store import tables


def frame(n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "model": "m",
            "dataset": "d",
            "condition": "clean",
            "sample_id": [f"d/{i:04d}" for i in range(n)],
            "pred": rng.integers(0, 10, n),
            "p_top1": rng.random(n),
            "p_true": rng.random(n),
            "top5": [rng.permutation(10)[:5].astype(np.int16) for _ in range(n)],
        }
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    written = tables.write("predictions", frame(), tmp_path / "p.parquet")
    read = tables.read("predictions", tmp_path / "p.parquet")
    pd.testing.assert_frame_equal(written.drop(columns="top5"), read.drop(columns="top5"))
    np.testing.assert_array_equal(np.stack(written["top5"]), np.stack(read["top5"]))


def test_the_order_of_rows_does_not_change_the_bytes(tmp_path: Path) -> None:
    tables.write("predictions", frame(), tmp_path / "a.parquet")
    tables.write("predictions", frame().sample(frac=1, random_state=1), tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_null_integer_survives(tmp_path: Path) -> None:
    row = {"event_id": "e", "sample_id": "d/0", "class_id": None, "annotator": "a", "action": "none"}
    row |= {"kind": "human", "stage": "annotate", "utc": "2026-01-01T00:00:00.000000Z", "ms_spent": 3, "rank_shown": 2}
    row |= {"submission": "s", "target": None, "snapshot": "n", "sitting": "t", "comment": None, "counts": True}
    votes = pd.DataFrame([row])
    tables.write("votes", votes, tmp_path / "v.parquet")
    read = tables.read("votes", tmp_path / "v.parquet")
    assert read["class_id"].isna().all()
    assert read["rank_shown"].tolist() == [2]


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), ValueError("x"), OSError(errno.EACCES, "denied")])
def test_a_failed_write_leaves_what_was_there(tmp_path: Path, fault: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")

    def fail() -> None:
        with tables.replacing(path) as temporary:
            temporary.write_text("half")
            raise fault

    with pytest.raises(type(fault)):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "before"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_names_the_file_and_the_remedy(tmp_path: Path, number: int) -> None:
    with pytest.raises(BenchError, match=r"a\.txt.*Free some disk space"), tables.replacing(tmp_path / "a.txt"):
        raise OSError(number, "full")
    assert list(tmp_path.iterdir()) == []


def test_missing_unreadable_and_foreign_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    for read in (tables.read, tables.check_schema):
        with pytest.raises(BenchError, match=r"p\.parquet.*is missing"):
            read("predictions", path)
    path.write_bytes(b"not parquet")
    for read in (tables.read, tables.check_schema):
        with pytest.raises(BenchError, match=r"p\.parquet.*cannot be read as Parquet"):
            read("predictions", path)
    pd.DataFrame({"a": [1]}).to_parquet(path)
    for read in (tables.read, tables.check_schema):
        with pytest.raises(BenchError, match=r"p\.parquet.*table `predictions`"):
            read("predictions", path)


def test_shards_are_the_expected_ones(tmp_path: Path) -> None:
    for name in ("b", "a"):
        tables.write("predictions", frame(3).assign(model=name), tmp_path / f"{name}.parquet")
    assert tables.shards(tmp_path, ["b", "a"]) == [tmp_path / "b.parquet", tmp_path / "a.parquet"]
    assert tables.read_shards("predictions", tmp_path, ["b", "a"])["model"].tolist() == ["b"] * 3 + ["a"] * 3
    with pytest.raises(BenchError, match="no results for c"):
        tables.shards(tmp_path, ["a", "b", "c"])
    with pytest.raises(BenchError, match=r"does not list: b.*bench prune"):
        tables.shards(tmp_path, ["a"])


def test_outputs_keep_their_significant_bits_and_no_more(tmp_path: Path) -> None:
    values = np.array([1.0, 0.5, 1 - 1e-6, 1e-30, 0.1234567, 0.0, np.nan, -7.654321], np.float32)
    cut = tables.significant(values, 16)
    np.testing.assert_allclose(cut, values, rtol=2.0**-16)
    assert cut[0] == 1
    assert cut[5] == 0
    assert np.isnan(cut[6])
    np.testing.assert_array_equal(tables.significant(cut, 16), cut)
    assert not (cut[~np.isnan(cut)].view(np.uint32) & 0xFF).any()
    written = tables.write("predictions", frame(), tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(tables.read("predictions", tmp_path / "a.parquet"), written)
