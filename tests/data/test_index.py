"""The index stage writes five tables and a hash file a suite, or nothing at all."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.config import Config
from bench.data import index, writer
from bench.errors import BenchError
from bench.store import tables
from tests.data.conftest import META, declared, small


@pytest.fixture
def two(config: Config) -> Config:
    """`small`, and `other` that replicates it and knows a second label of its last image."""
    extra = {"composed": [[0], [1], [2], [0], [1], [0, 2]]}
    meta = META.model_copy(update={"synthetic": "composed"})
    writer.write(replace(small("other"), splits=["test"] * 6, extra=extra, meta=meta), config.data)
    return declared(config.root, small={"role": "original"}, other={"role": "replication", "replicates": "small"})


def test_the_tables_say_what_is_there(two: Config) -> None:
    assert index.run(two) == {"datasets": 2, "samples": 12, "pictures": 10, "labels": 19}
    read = {
        name: tables.read(name, two.results / f"{index.GIVEN.get(name, name)}.parquet")
        for name in ("datasets", "classes", "samples", "images", "labels")
    }
    datasets = read["datasets"].set_index("dataset")
    assert datasets.loc["other", ["role", "replicates", "synthetic", "n_samples", "n_test"]].tolist() == [
        "replication",
        "small",
        "composed",
        6,
        6,
    ]
    assert datasets.loc["small", ["n_samples", "n_test", "n_classes", "label_space"]].tolist() == [6, 4, 3, "abc"]
    assert read["classes"][["class_id", "name"]].to_numpy().tolist() == [[0, "a"], [1, "b"], [2, "c"]]
    assert (read["samples"]["split"] == "train").sum() == 2
    shown = read["samples"].loc[read["samples"]["split"] == "test", "sample_id"]
    assert read["images"]["sample_id"].tolist() == shown.tolist()
    last = read["labels"][read["labels"]["sample_id"] == "other/5"]
    assert sorted(zip(last["source"], last["class_id"], strict=True)) == [
        ("composed", 0),
        ("composed", 2),
        ("original", 2),
    ]


def test_small_pictures_are_the_bytes_themselves(config: Config) -> None:
    index.run(config)
    images = tables.read("images", config.results / "images.parquet").set_index("sample_id")
    assert images.loc["small/3", "thumbnail"] == writer.png(small().images[3])


def test_large_pictures_are_reduced(tmp_path: Path) -> None:
    large = np.zeros((2, 300, 600), np.uint8)
    writer.write(replace(small(), ids=["0", "1"], labels=np.array([0, 1]), splits=[], images=large), tmp_path / "data")
    config = declared(tmp_path, small={"role": "original"})
    index.run(config)
    images = tables.read("images", config.results / "images.parquet")
    with Image.open(io.BytesIO(images["thumbnail"][0])) as picture:
        assert picture.size == (256, 128)


def test_the_hash_files_follow_the_data_that_models_see_and_nothing_else(two: Config) -> None:
    def hashes() -> dict[str, dict[str, dict[str, str]]]:
        return {
            use: json.loads((two.results / "index" / use / "digits.json").read_text()) for use in ("train", "evaluate")
        }

    index.run(two)
    before = hashes()
    assert list(before["train"]) == ["small"]
    assert list(before["evaluate"]) == ["other", "small"]
    seen = {file: tables.sha256(two.data / "small" / file) for file in ("dataset.json", "samples.parquet")}
    assert before["train"]["small"] == before["evaluate"]["small"] == seen

    path = two.data / "other" / "labels.parquet"
    labels = tables.read("labels", path)
    tables.write("labels", pd.concat([labels, labels.head(1).assign(source="another")]), path)
    index.run(two)
    assert hashes() == before


def test_equal_data_gives_equal_bytes(two: Config) -> None:
    def files() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in two.results.rglob("*") if path.is_file()}

    index.run(two)
    before = files()
    index.run(two)
    assert files() == before
    assert len(before) == 9


LABEL_FAULTS: dict[str, tuple[dict[str, list], str]] = {
    "no such sample": ({"sample_id": [f"small/{row}" for row in (0, 1, 2, 3, 4, 9)]}, "not in samples.parquet"),
    "outside the classes": ({"class_id": [0, 1, 2, 0, 1, 3]}, "outside the 3 classes"),
    "not the label": ({"class_id": [0, 1, 2, 0, 1, 1]}, "is not the column `label`"),
    "no original": ({"source": ["original"] * 5 + ["true"]}, "is not the column `label`"),
    "weight": ({"weight": [1.0] * 5 + [2.0]}, "column `weight`"),
}


@pytest.mark.parametrize("fault", LABEL_FAULTS)
def test_a_fault_of_the_labels_is_named(config: Config, rewrite: Callable[..., None], fault: str) -> None:
    columns, message = LABEL_FAULTS[fault]
    rewrite("labels", **columns)
    with pytest.raises(BenchError) as caught:
        index.run(config)
    assert message in caught.value.what
    assert caught.value.where.endswith("data/small/labels.parquet")
    assert caught.value.remedy
    assert not config.results.exists()


def test_a_bad_train_image_is_found_though_it_is_never_shown(config: Config, rewrite: Callable[..., None]) -> None:
    rewrite("samples", image=[b"not an image"] + [writer.png(image) for image in small().images[1:]])
    with pytest.raises(BenchError, match="'small/0' cannot be decoded"):
        index.run(config)
    assert not config.results.exists()


def test_datasets_of_a_suite_share_their_classes(config: Config) -> None:
    meta = META.model_copy(update={"classes": ["a", "c", "b"]})
    writer.write(replace(small("other"), meta=meta), config.data)
    with pytest.raises(BenchError, match="classes of 'other'"):
        index.run(declared(config.root, small={"role": "original"}, other={"role": "composite"}))


def test_another_number_of_channels_than_the_suite_is_an_error(config: Config, rewrite: Callable[..., None]) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4)).save(buffer, "PNG")
    rewrite("samples", image=[buffer.getvalue()] * 6)
    with pytest.raises(BenchError, match=r"3 channels, the suite 'digits' has 1"):
        index.run(config)


def test_a_declared_dataset_without_a_folder_says_what_to_do(config: Config) -> None:
    with pytest.raises(BenchError, match=r"no such dataset folder.*params\.yaml"):
        index.run(declared(config.root, small={"role": "original"}, absent={"role": "composite"}))
    assert not config.results.exists()


def test_the_stage_does_without_torch() -> None:
    code = "import sys, bench.data.index, bench.data.corruptions, bench.store.tables; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
