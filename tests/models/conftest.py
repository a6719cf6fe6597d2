from __future__ import annotations

from pathlib import Path

import pytest

from bench.config import Config, Dataset, Model, Suite


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A benchmark with one model of each architecture and nothing on disk."""
    models = {
        arch: Model(suite="digits", family="supervised", method="supervised", arch=arch, epochs=1)
        for arch in ("cnn", "resnet", "vit", "mixer")
    }
    models["pixels"] = Model(suite="digits", family="pixels", method="pixels", arch="pixels")
    return Config(
        root=tmp_path,
        seed=0,
        suites={"digits": Suite(train="digits", input_size=16, channels=1)},
        datasets={"digits": Dataset(role="original")},
        models=models,
    )
