"""The published answers of one model to ImageNetV2, imported as a user would, give the published accuracy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bench import config as configuration
from bench.data import imagenet
from bench.imports import labels, predictions
from bench.imports.predictions import Options
from bench.store import tables
from tests.imports.conftest import write_dataset

SHARED = Path(__file__).parents[3] / "shared" / "data" / "imagenet_published"
NAME = "imagenetv2_matched_frequency"

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the published answers are not on this machine")


def test_resnet50(tmp_path: Path) -> None:
    samples = pq.read_table(SHARED / f"{NAME}_samples.parquet").to_pandas()
    known = imagenet.classes()
    stems = samples["file"].tolist()
    write_dataset(tmp_path / "data" / "imagenetv2", stems, samples["label"].to_numpy(), known.names, known.wnids)
    path = tmp_path / "params.yaml"
    path.write_text(
        "seed: 0\nsuites:\n  imagenet: {}\ndatasets:\n  imagenetv2: {role: original, suite: imagenet}\nmodels: {}\n"
    )
    answers = pq.read_table(SHARED / f"{NAME}_top5.parquet", filters=[("model", "=", "resnet50")]).to_pandas()
    answers = answers.sort_values("row", ignore_index=True)
    best = answers[[f"top{rank}" for rank in range(1, 6)]]
    best.assign(file=[f"v2/{stem}.jpeg" for stem in stems]).sample(frac=1, random_state=0).to_parquet(
        tmp_path / "a.parquet"
    )
    said = predictions.run(configuration.load(path), [tmp_path / "a.parquet"], "resnet50", "imagenetv2")
    assert "63.33%" in said
    assert "Warning" not in said
    np.save(tmp_path / "a.npy", best.to_numpy())
    ordered = Options(order=SHARED / f"{NAME}_samples.parquet")
    predictions.run(configuration.load(path), [tmp_path / "a.npy"], "again", "imagenetv2", ordered)
    config = configuration.load(path)
    assert len({tables.sha256(config.imported_predictions(model, "imagenetv2")) for model in config.imported}) == 1
    refined = SHARED / "imagenetv2_refined_labels.json"
    said = labels.run(config, refined, "refined", "imagenetv2")
    assert "4,788 have several, 129 have none" in said
