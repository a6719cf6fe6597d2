"""The page Methods: the registry of frameworks by family and year."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.config import Config
from bench.studies import frameworks
from dashboard import plots, terms
from tests.dashboard.conftest import Open, text

KNOWN = frameworks.load().frameworks


def test_all_frameworks_and_those_that_run_here(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "methods")
    assert not app.exception
    assert not app.warning
    said = text(app)
    assert f"**{len(KNOWN)}** frameworks from" in said
    assert f"**{sum(bool(one.here) for one in KNOWN)}** of them run here" in said
    shown, packages = (table.value for table in app.dataframe)
    assert sorted(shown["Framework"]) == sorted(one.name for one in KNOWN)
    assert shown["Year"].is_monotonic_increasing
    assert set(shown["Runs here as"]) - {""} == {one.here for one in KNOWN if one.here}
    assert packages["Repository"].str.startswith("https://").all()
    assert "None" not in said


def test_one_family_is_in_the_link(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "methods", taxon="clustering")
    shown = app.dataframe[0].value
    assert set(shown["Family"]) == {"Clustering"}
    assert len(shown) == sum(one.family == "clustering" for one in KNOWN)


@pytest.mark.parametrize("family", ["", *terms.FRAMEWORKS])
def test_every_framework_is_one_dot_in_its_lane_and_year(family: str) -> None:
    rows = [one.model_dump() for one in KNOWN if family in ("", one.family)]
    frame = pd.DataFrame(rows).assign(family_name=lambda f: f["family"].map(terms.FRAMEWORKS))
    plot = plots.timeline(frame)
    dots = [(x, y) for trace in plot.data for x, y in zip(trace.x, trace.y, strict=True)]
    assert len(set(dots)) == len(rows), "no dot hides another"
    lanes = list(plot.layout.yaxis.ticktext)
    expected = sorted((one["year"], lanes.index(terms.FRAMEWORKS[one["family"]])) for one in rows)
    assert sorted((round(x), round(y)) for x, y in dots) == expected
