"""The page Radar: success by threat model, the player and the relation to Grad-CAM."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.config import Config
from bench.store import database, tables
from dashboard import findings, plots, terms
from tests.dashboard.conftest import Open, text


def matrices(app: object) -> str:
    """The HTML of the page's own tables."""
    return "\n".join(one.proto.body for one in app.get("html"))  # pyright: ignore


def test_padding_is_enough_unless_the_length_is_given(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "radar")
    assert not app.exception
    said = text(app)
    assert "4 simulated gestures" in said
    assert "3-D CNN: **75.0 %" in said
    assert "CNN-LSTM told the length: **impossible**" in said
    assert "reads no frame after it" in said
    shown = matrices(app)
    assert shown.count(">impossible<") == 1
    assert "padding is not read" in shown
    assert "-0.00" not in shown + said


def test_the_goal_of_the_address_is_shown(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "radar", goal="targeted")
    assert not app.exception
    assert app.segmented_control(key="w:goal").value == "targeted"
    app = open_app(config.root, "radar", goal="something")
    assert app.segmented_control(key="w:goal").value == "untargeted"


def test_the_player_says_what_a_frame_is(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "radar")
    assert "Frame 1 of 8 is action; the attack may not change it." in text(app)
    assert "% of this Grad-CAM lies in padding." in text(app)
    assert app.button(key="radar:before").disabled
    app.button(key="radar:after").click().run()
    assert "Frame 2 of 8 is action" in text(app)
    app.select_slider(key="w:frame").set_value(8).run()
    assert not app.exception
    assert "Frame 8 of 8 is padding; the attack may change it." in text(app)
    assert app.query_params["frame"] == "8"
    app.selectbox(key="w:mask").set_value("action").run()
    assert "Frame 8 of 8 is padding; the attack may not change it." in text(app)


def test_an_address_restores_the_player_and_what_is_not_there_is_left(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "radar", victim="cnnlstm-A", sequence="s09-1", frame="6", mask="full")
    assert app.selectbox(key="w:victim").value == "cnnlstm-A"
    assert app.selectbox(key="w:sequence").value == "s09-1"
    assert "Frame 6 of 8 is padding; the attack may change it." in text(app)
    app = open_app(config.root, "radar", victim="nobody", sequence="nothing", frame="600")
    assert not app.exception
    assert "Frame 8 of 8" in text(app)


def test_recorded_sequences_are_not_called_simulated(config: Config, tmp_path: Path, open_app: Open) -> None:
    shutil.copytree(config.root, tmp_path / "recorded")
    config = config.model_copy(update={"root": tmp_path / "recorded"})
    path = config.results / "radar_models.parquet"
    tables.write("radar_models", tables.read("radar_models", path).assign(simulated=False), path)
    database.run(config)
    app = open_app(config.root, "radar")
    assert not app.exception
    said = text(app) + matrices(app) + "".join(one.label for one in app.expander)
    assert "4 recorded gestures" in said
    assert "imulated" not in said


def test_success_is_drawn_where_there_is_something_to_attack() -> None:
    rows = [
        {"name": name, "mask": mask, "reached": float((name, mask) != ("b", "padding")), "success": 0.5, "n": 4}
        for name in "ab"
        for mask in terms.RADAR_MASK
    ]
    frame = pd.DataFrame(rows).assign(ci_low=0.2, ci_high=0.8, null_success=0.1)
    plot = plots.radar_success(frame)
    drawn = {trace.name: list(trace.y) for trace in plot.data if trace.name}
    assert drawn == {"All frames": ["a", "b"], "Padding alone": ["a"], "Action alone": ["a", "b"]}
    assert [list(trace.x) for trace in plot.data if not trace.name] == [[10, 10], [10], [10, 10]]


def test_the_timeline_shades_padding_and_marks_the_frame() -> None:
    frame = pd.DataFrame({"frame": np.arange(1, 9), "cam": np.linspace(0, 1, 8), "change": 1.0})
    shapes = plots.radar_timeline(frame, 5, 3).layout.shapes
    assert [(shape.x0, shape.x1) for shape in shapes] == [(5.5, 8.5), (3, 3)]
    assert len(plots.radar_timeline(frame, 8, 3).layout.shapes) == 1, "no padding, nothing shaded"


@pytest.mark.parametrize(("rho", "said"), [(0.5, "above"), (-0.5, "below"), (0.0, "inside")])
def test_a_correlation_is_held_against_its_null(rho: float, said: str) -> None:
    row = {"victim": "cnn3d-A", "step": "sign", "scope": "action", "rho": rho, "ci_low": -0.001, "ci_high": 0.6}
    found = findings.gradcam(pd.DataFrame([row | {"null_low": -0.1, "null_high": 0.1}]))
    assert f"(3-D CNN, {said} the null)" in found
    assert "[0.00, 0.60]" in found
