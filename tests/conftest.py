"""Which tests run together where several run at once (pytest-xdist); none depends on which ran before it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SLOWEST = ("pipeline", "browser")
"""Folders of which the tests begin first, so that none of them is left for the end."""
HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Networks that a test makes have the same weights, whichever tests its process ran before. Fixtures come after."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One process runs all tests of a folder: what they share is made once."""
    folders = {item: item.path.relative_to(HERE).parts[0] for item in items}
    items.sort(key=lambda item: SLOWEST.index(folders[item]) if folders[item] in SLOWEST else len(SLOWEST))
    for item, folder in folders.items():
        item.add_marker(pytest.mark.xdist_group(folder))
