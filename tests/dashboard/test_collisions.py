"""The page Collisions: what it says is what is stored."""

from __future__ import annotations

import re

import pandas as pd

from bench.config import Config
from dashboard import findings
from tests.dashboard.conftest import Open, text


def test_the_page_answers_its_question(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "collisions")
    assert not app.exception
    said = text(app)
    assert "Can two different images be one to a network?" in said
    assert "Yes, to 2 networks here" in said
    assert "What first layers drop" in said
    assert not re.search(r"\b(nan|None)\b", said)


def test_images_that_could_not_be_moved_are_in_no_share() -> None:
    rows = {"name": "A", "kind": "exact", "moved": [True, True, False], "same_top1": [True, False, True]}
    rows |= {"null_same": [True, False, False], "l2": [1.0, 3.0, 0.0], "feature_error": 1e-15}
    found = pd.DataFrame(rows | {f"logit_gap_{one}": 0.1 for one in ("f64", "f32", "u8")})
    row = findings.collided(found, 0.95).iloc[0]
    assert (row["n"], row["moved"], row["same"], row["null"], row["l2"]) == (3, 2, 50, 50, 2)
    assert "1 image could not be moved" in findings.collisions(findings.collided(found, 0.95))
