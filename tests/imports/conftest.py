"""A project with two small datasets without images, six classes with wnids, and a params.yaml with comments."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import config as configuration
from bench.config import Config
from bench.data import samples
from bench.presets import merge
from bench.store import tables

CLASSES = ["great white shark", "hen", "tree frog", "box turtle", "crane (bird)", "crane (machine)"]
WNIDS = [f"n0000000{place}" for place in range(6)]
N, K = 24, 6
LABELS = np.arange(N) % K
STEMS = [f"val.{row:04d}" for row in range(N)][::-1]
"""The declared order is not that of the names."""
IDS = np.array([f"small/{stem}" for stem in STEMS], object)
PARAMS = """# A benchmark for tests.
seed: 0   # fixed

suites:
  small: {}

datasets:
  small: {role: original, suite: small}   # the original
  # and another one
  other: {role: replication, replicates: small, suite: small}

models: {}
imported: {}

statistics:
  confidence: 0.95  # last line
"""


def write_dataset(
    folder: Path, stems: list[str], labels: np.ndarray, classes: list[str] = CLASSES, wnids: list[str] = WNIDS
) -> None:
    """A dataset without images: the test images `stems` with `labels` in this order, and one for training."""
    folder.mkdir(parents=True)
    meta = {"title": "Small", "about": "For tests.", "label_space": "six", "classes": classes, "wnids": wnids}
    meta |= {"source": "tests", "license": "MIT", "split_rule": "by hand"}
    (folder / samples.META).write_text(json.dumps(meta))
    ids = [f"{folder.name}/{stem}" for stem in stems]
    columns = {"sample_id": ids, "split": "test", "label": labels, "source_id": ids}
    schema = pa.schema([field for field in samples.schema() if field.name not in samples.PICTURE])
    frame = pd.concat(
        [
            pd.DataFrame(columns),
            pd.DataFrame(
                {
                    "sample_id": [f"{folder.name}/train-0"],
                    "split": "train",
                    "label": 0,
                    "source_id": f"{folder.name}/train-0",
                }
            ),
        ]
    )
    pq.write_table(pa.Table.from_pandas(frame, schema=schema, preserve_index=False), folder / samples.SAMPLES)
    original = pd.DataFrame(
        {"sample_id": frame["sample_id"], "source": "original", "class_id": frame["label"], "weight": 1.0}
    )
    tables.write("labels", original, folder / samples.LABELS)


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, written once."""
    root = tmp_path_factory.mktemp("imports") / "project"
    write_dataset(root / "data" / "small", STEMS, LABELS)
    write_dataset(root / "data" / "other", [f"{row:08x}" for row in range(10)], np.arange(10) % K)
    (root / "params.yaml").write_text(PARAMS)
    return root


@pytest.fixture
def project(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a copy of the project, which is the working folder too."""
    root = tmp_path / "project"
    shutil.copytree(pristine, root)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def config(project: Path) -> Config:
    return configuration.load(project / "params.yaml")


@pytest.fixture
def state(project: Path) -> Callable[[], dict[str, bytes]]:
    """Every file of the project but what is imported from, and the lock: its path and its bytes."""

    def read() -> dict[str, bytes]:
        files = (p for p in sorted(project.rglob("*")) if p.is_file() and p.name != merge.LOCK)
        return {str(p.relative_to(project)): p.read_bytes() for p in files}

    return read
