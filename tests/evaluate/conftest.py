"""Results that every test of the folder may read, and a copy that a test may break."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench import config as configuration
from bench.config import Config
from tests import factory, tiny


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return factory.make_all(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """With imported models, and with sets without images that only these answer to."""
    return factory.make_all(tmp_path_factory.mktemp("mixed"), imported=True, n=30)


@pytest.fixture
def own_mixed(mixed: Config, tmp_path: Path) -> Config:
    root = tmp_path / "copy"
    shutil.copytree(mixed.root, root)
    return configuration.load(root / "params.yaml")


@pytest.fixture
def own_results(results: Config, tmp_path: Path) -> Config:
    root = tmp_path / "copy"
    shutil.copytree(results.root, root)
    return configuration.load(root / "params.yaml")


@pytest.fixture(scope="session")
def config_of_tiny(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tiny.make(tmp_path_factory.mktemp("tiny"))
