"""The pages of images under a source of labels that leaves some images without one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from bench.config import Config
from dashboard import db, filters, parts, state
from dashboard.state import View
from tests.dashboard.conftest import Open, text

REAL = {"dataset": "objects", "labels": "real"}


def without(source: db.Source) -> list[str]:
    """The images of `objects` to which the source gives no label."""
    return db.images(source, "objects").ids[~db.block(source, "objects", "real").labelled].tolist()


def tiles(app: AppTest) -> list[str]:
    return [button.label for button in app.button if button.key and button.key.startswith("open:grid")]


def test_images_without_a_label_come_last_and_say_so(imported: Config, mixed: db.Source, open_app: Open) -> None:
    app = open_app(imported.root, "samples", **REAL, sort="wrong", page="2")
    none = without(mixed)
    assert none
    assert [label.endswith("no ReaL label") for label in tiles(app)][-len(none) :] == [True] * len(none)
    assert sum("no ReaL label" in label for label in tiles(app)) == len(none)
    first = open_app(imported.root, "samples", **REAL, sort="wrong")
    right = [int(label.split(" · ")[1].split("/")[0]) for label in tiles(first)]
    assert right == sorted(right)
    table = app.dataframe[0].value.set_index("sample_id")
    assert table["n_right"].isna().sum() == len(none)
    assert table["n_right"].loc[none].isna().all()


def test_a_number_of_models_right_is_of_images_with_a_label(mixed: db.Source) -> None:
    view = View(dataset="objects", labels="real", right=(0, 2))
    labelled = db.block(mixed, "objects", "real").labelled
    np.testing.assert_array_equal(filters.passing(mixed, view), labelled)


def test_all_images_behind_a_figure_have_a_label(imported: Config, open_app: Open) -> None:
    app = open_app(imported.root, **REAL)
    [button] = [one for one in app.button if one.label.startswith("All ")]
    count = button.label.split()[1]
    button.click().run()
    app.switch_page("views/samples.py").run()
    assert f"**{count}** of" in text(app)


def test_an_image_is_judged_by_the_chosen_source(imported: Config, mixed: db.Source, open_app: Open) -> None:
    [sample, *_] = without(mixed)
    app = open_app(imported.root, "samples", sample=sample, labels="real")
    assert "The source “ReaL” gives it no label; **" in text(app)
    assert "models give its original label" in text(app)
    assert "no answer to it is right or wrong" in text(app)
    assert "Right" not in app.dataframe[1].value
    labelled = next(one for one in db.images(mixed, "objects").ids if one not in without(mixed))
    app = open_app(imported.root, "samples", sample=labelled, labels="real")
    accepted = db.labels_of(mixed, labelled).query("source == 'real'")["class_id"]
    right = int(db.answers(mixed, labelled)["pred"].isin(accepted).sum())
    assert f"**{right} of 2** models give a label of the source “ReaL”" in text(app)
    assert int(app.dataframe[1].value["Right"].sum()) == right


def test_columns_of_which_nothing_is_known_are_left_out(
    imported: Config, mixed: db.Source, open_app: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = str(db.images(mixed, "objects").ids[0])
    app = open_app(imported.root, "samples", sample=sample)
    assert "Confidence" in app.dataframe[1].value
    known = db.answers

    def bare(source: db.Source, sample_id: str) -> pd.DataFrame:
        return known(source, sample_id).assign(p_top1=np.nan, p_true=np.nan, entropy_nats=np.nan)

    monkeypatch.setattr(db, "answers", bare)
    app = open_app(imported.root, "samples", sample=sample)
    assert list(app.dataframe[1].value) == ["Model", "Family", "Answer", "Right"]
    assert "only the answers are known, without probabilities" in text(app)


def test_the_table_holds_the_uncertainty_that_was_asked_for(imported: Config, mixed: db.Source, open_app: Open) -> None:
    app = open_app(imported.root, "samples", dataset="digits", measure="margin", reference="pixels")
    known = db.unsure(mixed, "digits", "margin", "pixels")
    assert known is not None
    np.testing.assert_allclose(app.dataframe[0].value["uncertainty"], known[0])


def test_remarks_on_where_answers_came_from(mixed: db.Source, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = db.catalogue(mixed)
    models = catalogue.models.copy()
    models.loc[models["model"] == "plain", "origin"] = "example.org; answers look reversed"
    noted = dataclasses.replace(catalogue, models=models)
    assert noted.remarks == {"plain": "answers look reversed"}
    said: list[str] = []
    monkeypatch.setattr(parts.st, "caption", said.append)
    parts.remarks(noted, ["pixels", "plain"])
    parts.remarks(noted, ["pixels"])
    assert said == [":material/warning: To mind. plain: answers look reversed."]
    models.loc[models["model"] == "pixels", "origin"] = "example.org; answers look reversed"
    parts.remarks(dataclasses.replace(catalogue, models=models), ["pixels", "plain"])
    assert said[1] == f":material/warning: To mind. {catalogue.model_name('pixels')}, plain: answers look reversed."


def test_only_what_was_chosen_is_in_the_address(imported: Config, open_app: Open) -> None:
    for page in ("ssl", "replication", "filter", "labels"):
        app = open_app(imported.root, page, dataset="digits")
        assert set(state.to_query(app.session_state["view"])) <= {"snap", "dataset"}, page


@pytest.mark.parametrize(("dataset", "about"), [("objects-v2", "Objects"), ("optdigits", "Digits")])
def test_findings_are_about_the_chosen_original(imported: Config, open_app: Open, dataset: str, about: str) -> None:
    app = open_app(imported.root, dataset=dataset)
    [bullet] = [one.value for one in app.markdown if "**Another set.**" in one.value]
    assert f"on {about}" in bullet
    assert f"**What these results support** about {about} ·" in text(app)


def test_ssl_says_nothing_of_other_sets(imported: Config, open_app: Open) -> None:
    said = text(open_app(imported.root, "ssl", dataset="objects", ssl="corruption"))
    assert "untrained encoder of their architecture" not in said
    assert "Corrupted images" not in said
    said = text(open_app(imported.root, "ssl", dataset="digits", ssl="corruption"))
    assert "On the test images of Digits (n = 60): " in said
    assert "of 2 self-supervised encoders beat" in said
    assert "Corrupted images" in said
