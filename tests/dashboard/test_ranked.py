"""What the figure of page Filter is sent: the frame's own figures, and names as data."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from bench.config import Config
from bench.store import bits
from dashboard import db, plots, ranked, terms
from tests.dashboard.conftest import Open

UNTRUSTED = "<img src=x onerror=alert(1)>"


def test_the_payload_is_the_frame(source: db.Source) -> None:
    models = db.catalogue(source).choose((), (), "digits")
    keep = db.images(source, "digits").labels < 5
    frame, n = db.under_mask(source, "digits", "original", models, bits.mask_of(keep))
    sent = ranked.payload(frame, "Accuracy", "All models")
    assert sent["n"] == n == keep.sum()
    assert sent["names"] == frame["name"].tolist()
    for name, column in (("value", "value"), ("low", "ci_low"), ("high", "ci_high"), ("all", "all_value")):
        np.testing.assert_allclose(sent[name], 100 * frame[column], atol=5e-5)
    assert sent["value"] == sorted(sent["value"], reverse=True)
    drawn = [sent["families"][i] for i in sent["family"]]
    assert drawn == [[terms.FAMILY[family], plots.COLOUR[family]] for family in frame["family"]]
    assert json.loads(json.dumps(sent)) == sent


def test_a_thousand_models_are_under_a_hundred_kilobytes() -> None:
    some = np.linspace(0.95, 0.05, 1000)
    columns = {"value": some, "ci_low": some - 0.01, "ci_high": some + 0.01, "all_value": some / 3, "n": 60_000}
    names = [f"synthetic model {i:04d}" for i in range(1000)]
    sent = ranked.payload(pd.DataFrame({"name": names, "family": "ssl"} | columns), "Accuracy", "All models")
    assert len(json.dumps(sent)) < 100_000


def test_names_are_data_and_never_markup() -> None:
    frame = pd.DataFrame({"name": [UNTRUSTED], "family": ["unknown"], "value": [0.5], "ci_low": [0.4], "n": [9]})
    assert ranked.payload(frame.assign(ci_high=0.6, all_value=0.7), "Accuracy", "One model")["names"] == [UNTRUSTED]
    code = (ranked.HERE / "ranked.js").read_text()
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in code


def test_the_page_sends_the_figure_under_a_key_that_stays(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "filter", dataset="digits")
    [before] = app.get("bidi_component")
    app.selectbox(key="w:wrong").set_value("pixels").run()
    [after] = app.get("bidi_component")
    assert before.proto.id == after.proto.id
    first, then = json.loads(before.proto.json), json.loads(after.proto.json)
    assert 0 < then["n"] < first["n"] == 60
    assert then["value"] != first["value"]
    assert after.proto.component_name == "ranked"
    assert not app.exception
