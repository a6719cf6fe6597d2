"""The page Radar: success by threat model, the player and the relation to Grad-CAM."""

from __future__ import annotations

from bench.config import Config
from tests.dashboard.conftest import Open, text


def test_padding_is_enough_unless_the_length_is_given(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "radar")
    assert not app.exception
    said = text(app)
    assert "4 simulated gestures" in said
    assert "3-D CNN: **75.0 %" in said
    assert "CNN-LSTM that is told the length: **0.0 %" in said
    shown = app.dataframe[0].value
    assert len(shown) == 9
    assert shown["Random signs"].str.startswith("0.0 %").all()


def test_the_player_says_what_a_frame_is(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "radar")
    assert "Frame 1 of 8 is action; under the mask padding the attack may not change it." in text(app)
    app.slider(key="radar:frame").set_value(8).run()
    assert not app.exception
    assert "Frame 8 of 8 is padding; under the mask padding the attack may change it." in text(app)
