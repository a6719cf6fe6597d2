"""One project that `dvc repro` has built, shared by the session, and a copy that a test may change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline import project as projects
from tests.pipeline.project import Project


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after its first `dvc repro`, its dvc.lock committed. Not to be changed."""
    project = projects.make(tmp_path_factory.mktemp("pipeline") / "project")
    project.repro()
    project.commit("Results")
    return project


@pytest.fixture
def project(built: Project, tmp_path: Path) -> Project:
    return built.copy(tmp_path / "project")
