"""Complete results with a database, and a copy that a test may break."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench import config as configuration
from bench.config import Config
from bench.store import database
from tests import factory


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = factory.make_all(tmp_path_factory.mktemp("complete"))
    database.run(config)
    return config


@pytest.fixture
def own(complete: Config, tmp_path: Path) -> Config:
    root = tmp_path / "copy"
    shutil.copytree(complete.root, root)
    return configuration.load(root / "params.yaml")
