from __future__ import annotations

import pytest

from bench.config import Config
from tests import tiny


@pytest.fixture(scope="session")
def config_of_tiny(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tiny.make(tmp_path_factory.mktemp("tiny"))
