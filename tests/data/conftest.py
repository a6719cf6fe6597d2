"""A small dataset on disk: six grey images of 4 x 5 pixels, three classes, two of the images for training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.config import Config
from bench.data import writer
from bench.data.samples import DatasetMeta

META = DatasetMeta(
    title="Small",
    about="For tests.",
    label_space="abc",
    classes=["a", "b", "c"],
    source="tests",
    license="MIT",
    split_rule="by hand",
)
IMAGES = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)


def small(name: str = "small") -> writer.Content:
    labels, splits = np.array([0, 1, 2, 0, 1, 2]), ["train", "train", "test", "test", "test", "test"]
    return writer.Content(name, META, [f"{row}" for row in range(6)], labels, IMAGES, splits=splits)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A benchmark of one dataset, `small`, which is on disk."""
    writer.write(small(), tmp_path / "data")
    return declared(tmp_path, small={"role": "original"})


def declared(root: Path, **datasets: dict[str, str]) -> Config:
    raw = {"suites": {"digits": {"train": "small"}}, "datasets": datasets, "models": {}}
    return Config.model_validate({"root": root, "seed": 0, **raw})


@pytest.fixture
def rewrite(config: Config) -> Callable[..., None]:
    """Change columns of samples.parquet or labels.parquet of `small`: rewrite("labels", class_id=[...])."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def change(file: str, drop: str | None = None, **columns: list[object]) -> None:
        path = config.data / "small" / f"{file}.parquet"
        table = pq.read_table(path)
        for name, values in columns.items():
            at = table.schema.get_field_index(name)
            kind = table.schema.field(name).type
            try:
                array = pa.array(values, kind)
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                array = pa.array(values)
            table = table.set_column(at, name, array)
        pq.write_table(table.drop_columns([drop]) if drop else table, path)

    return change
