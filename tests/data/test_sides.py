"""What is read of each side of a pair, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bench.config import Config
from bench.data import pair, samples, sides
from bench.errors import BenchError
from bench.store import tables
from tests.data.conftest import META
from tests.data.pairs import declared, noise, put, without_pictures


def test_classes_are_told_apart_by_wnid_where_both_sets_have_them() -> None:
    crane = META.model_copy(update={"classes": ["crane", "crane", "c"], "wnids": ["n1", "n2", "n3"]})
    assert sides.class_keys(crane, crane)[0] == ["n1", "n2", "n3"]
    bare = crane.model_copy(update={"wnids": None})
    assert sides.class_keys(crane, bare)[1] == ["crane #0", "crane #1", "c"]


def test_imported_labels_are_a_source_and_are_those_that_are_pinned(tmp_path: Path) -> None:
    put(tmp_path, "one", noise(seed=1))
    put(tmp_path, "two", noise(seed=2))
    path = tmp_path / "data" / "imported" / "labels" / "two" / "mine.parquet"
    rows = pd.DataFrame(
        {"sample_id": ["two/t000", "two/t000", "two/t001"], "class_id": [0, 1, 2], "weight": [1.0, 0.5, 0]}
    )
    tables.write("labels", rows.assign(source="mine"), path)

    def config(sha256: str) -> Config:
        return declared(
            tmp_path, two={"role": "replication", "replicates": "one", "labels": {"mine": {"sha256": sha256}}}
        )

    text = " ".join(pair.check(config(tables.sha256(path)), "one", "two").text().split())
    assert "two `mine`: two or more labels 1 of 24" in text
    assert "none 23 of 24" in text
    with pytest.raises(BenchError, match=r"not the file that params\.yaml pins") as caught:
        pair.check(config("0" * 64), "one", "two")
    assert "bench import labels" in caught.value.remedy
    path.unlink()
    with pytest.raises(BenchError, match=r"mine\.parquet"):
        pair.check(config("0" * 64), "one", "two")


def test_attached_pictures_are_no_pictures_of_the_set(tmp_path: Path) -> None:
    put(tmp_path, "one", noise())
    put(tmp_path / "fetched", "two", noise())
    (tmp_path / "fetched" / "data").rename(tmp_path / "fetched" / "preset")
    folder = tmp_path / "fetched" / "preset" / "two"
    (tmp_path / "data" / "two").symlink_to(folder)
    without_pictures(tmp_path, "two")
    fetched = {"role": "replication", "replicates": "one", "fetched": "preset", "images": "0" * 64}
    config = declared(tmp_path, two=fetched | {"sha256": samples.digest(folder)})
    assert "small copies made here" in pair.check(config, "one", "two").text()
    config = declared(tmp_path, two=fetched | {"sha256": "0" * 64})
    with pytest.raises(BenchError, match=r"params\.yaml pins \(datasets\.two\.sha256\).*bench data fetch preset"):
        pair.check(config, "one", "two")


def test_bad_input_is_one_message(tmp_path: Path) -> None:
    put(tmp_path, "one", noise())
    put(tmp_path, "two", noise(seed=2))
    config = declared(tmp_path)
    with pytest.raises(BenchError, match=r"'tow' under `datasets`.*did you mean 'two'"):
        pair.check(config, "one", "tow")
    with pytest.raises(BenchError, match="'one' is given twice"):
        pair.check(config, "one", "one")
    put(tmp_path, "two", noise(4), splits=["train"] * 4)
    with pytest.raises(BenchError, match=r"two/samples\.parquet: has no test samples"):
        pair.check(config, "one", "two")
    (tmp_path / "data" / "two" / samples.META).unlink()
    with pytest.raises(BenchError, match=r"dataset\.json: is missing"):
        pair.check(config, "one", "two")
