"""A complete small set of results with its database, and the app on top of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from bench.config import Config
from bench.store import database
from dashboard import db
from tests import factory

APP = Path(__file__).parents[2] / "dashboard" / "app.py"

Open = Callable[..., AppTest]


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Results of 60 images a set."""
    config = factory.make_all(tmp_path_factory.mktemp("dashboard"))
    database.run(config)
    return config


@pytest.fixture(scope="session")
def source(config: Config) -> db.Source:
    found = db.source_of(config.results / database.FILE)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The same, with imported models and sets without images."""
    config = factory.make_all(tmp_path_factory.mktemp("imported"), imported=True)
    database.run(config)
    return config


@pytest.fixture(scope="session")
def mixed(imported: Config) -> db.Source:
    found = db.source_of(imported.results / database.FILE)
    assert found is not None
    return found


@pytest.fixture
def open_app(monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open a page of the app on some root at an address; `at` is the page."""

    def run(root: Path, at: str = "overview", /, **query: str) -> AppTest:
        monkeypatch.setenv("BENCH_ROOT", str(root))
        app = AppTest.from_file(str(APP), default_timeout=30)
        if at != "overview":
            app.run()
            app.switch_page(f"views/{at}.py")
            app.run()
        app.query_params.update(query)
        return app.run()

    return run


def text(app: AppTest) -> str:
    """Everything that the page says in words."""
    parts = [*app.title, *app.markdown, *app.caption, *app.warning, *app.info, *app.subheader, *app.code]
    return "\n".join(str(part.value) for part in parts)
