"""Imported models, sets without images, snapshots without rows of images, and filters as masks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import stats
from bench.config import Config
from bench.store import bits, database
from dashboard import db, filters, parts, plots, state
from dashboard.state import View
from tests.dashboard.conftest import Open, text

PAGES = ("overview", "filter", "replication", "ssl", "samples", "relabel", "labels", "snapshot")
FETCHED_BY = "bench data fetch imagenet"


@pytest.fixture(scope="module")
def aggregates(imported: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same results without rows of single images."""
    root = tmp_path_factory.mktemp("aggregates")
    (root / "results").mkdir()
    shutil.copy(imported.root / "params.yaml", root)
    path = Path(shutil.copy(imported.results / database.FILE, root / "results"))
    with duckdb.connect(str(path)) as connection:
        for table in (*database.PER_IMAGE, *database.DERIVED):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("INSERT INTO snapshot VALUES ('per_image', 'no')")
    return root


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_imported_models(imported: Config, open_app: Open, page: str) -> None:
    app = open_app(imported.root, page, dataset="objects")
    for dataset in ("objects", "optdigits"):
        if dataset != "objects":
            app.query_params["dataset"] = dataset
            app.run()
        assert app.session_state["view"].dataset == dataset
        assert not app.exception
        assert not app.warning


@pytest.mark.parametrize("page", PAGES)
def test_every_page_stands_without_rows_of_images(aggregates: Path, open_app: Open, page: str) -> None:
    app = open_app(aggregates, page, dataset="objects")
    for dataset in ("objects", "digits"):
        if dataset != "objects":
            app.query_params["dataset"] = dataset
            app.run()
        assert app.session_state["view"].dataset == dataset
        assert not app.exception
        assert not app.warning
        if page in ("filter", "samples", "relabel"):
            assert "no rows of single images" in text(app)
            assert FETCHED_BY in app.code[0].value


def test_a_set_shows_the_models_that_answer_to_it(imported: Config, open_app: Open) -> None:
    app = open_app(imported.root, dataset="objects")
    assert "**org/resnet50.a1** is right on 85.0 %" in text(app)
    picker = app.multiselect(key="w:models")
    assert picker.options[-2:] == ["org/resnet50.a1", "plain"] or set(picker.options) >= {"org/resnet50.a1", "plain"}
    assert "Supervised CNN" not in picker.options
    app = open_app(imported.root, dataset="digits")
    assert "org/cnn" in app.multiselect(key="w:models").options


@pytest.mark.parametrize("page", ["overview", "filter", "replication", "samples"])
def test_picked_models_narrow_every_page(imported: Config, open_app: Open, page: str) -> None:
    app = open_app(imported.root, page, dataset="objects", models="plain")
    assert not app.exception
    assert app.session_state["view"].models == ("plain",)
    assert app.query_params["models"] == "plain"
    assert "resnet50" not in text(app).replace("**Another set.** **org/resnet50.a1**", "")


def test_a_group_stands_for_its_models(mixed: db.Source) -> None:
    catalogue = db.catalogue(mixed)
    name, models = catalogue.groups["@family:supervised"]
    assert name == f"All of family Supervised ({len(models)})"
    assert set(catalogue.choose((), ("@family:supervised",), "objects")) == {"org/resnet50.a1"}
    assert set(catalogue.choose((), ("@family:random", "pixels"), "digits")) == {"random-cnn", "random-vit", "pixels"}
    assert catalogue.choose(("ssl",), ("pixels",)) == []
    assert not any(token.endswith(":unknown") and "family" not in token for token in catalogue.groups)


def test_an_image_without_a_picture_shows_its_class(mixed: db.Source) -> None:
    [instead] = parts.instead_of(db.catalogue(mixed), "objects", [3])
    tile = parts.image_html(None, "an image", parts.TILE, instead)
    assert 'title="object 3: Made up for tests, number 3."' in tile
    assert ">object 3</div>" in tile
    [digit] = parts.instead_of(db.catalogue(mixed), "digits", [3])
    assert digit == ("3", "3: no definition known")


def test_hard_predictions_have_no_uncertainty_and_say_so(imported: Config, open_app: Open) -> None:
    with_some = open_app(imported.root, "filter", dataset="objects")
    assert with_some.selectbox(key="w:reference").value == "org/resnet50.a1"
    assert "plain" not in with_some.selectbox(key="w:reference").options


def test_accuracies_by_bits_are_those_of_the_table(mixed: db.Source) -> None:
    catalogue = db.catalogue(mixed)
    checked = 0
    for dataset, sources in catalogue.sources.items():
        models = catalogue.choose((), (), dataset)
        for source in sources:
            for subset in catalogue.subsets_of(dataset):
                table = db.accuracies(mixed, subset, source, tuple(models))
                table = table.loc[(table["dataset"] == dataset) & (table["label_source"] == source)].set_index("model")
                mask = bits.mask_of(db.members(mixed, dataset, subset))
                frame, n = db.under_mask(mixed, dataset, source, models, mask)
                if table.empty or not n:
                    continue
                frame = frame.set_index("model").loc[table.index]
                assert set(table["n"]) == {n}
                for column in ("value", "ci_low", "ci_high"):
                    np.testing.assert_allclose(frame[column], table[column], atol=1e-12, err_msg=f"{dataset} {subset}")
                checked += len(table)
    assert checked > 100


VIEWS = st.builds(
    View,
    dataset=st.sampled_from(["digits", "digits-mosaic", "objects", "objects-v2"]),
    label=st.sampled_from(["", "3"]),
    wrong=st.sampled_from(["", "pixels", "plain"]),
    right_by=st.sampled_from(["", "supervised-cnn", "org/resnet50.a1"]),
    right=st.none() | st.sampled_from([(0, 1), (1, 4)]),
    nlabels=st.none() | st.sampled_from([(1, 1), (2, 9)]),
    unsure=st.none() | st.sampled_from([(0, 50), (90, 100)]),
    families=st.sampled_from([(), ("supervised",)]),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(view=VIEWS, last=st.booleans())
def test_a_filter_by_masks_is_the_filter_by_sql(mixed: db.Source, view: View, last: bool) -> None:
    catalogue = db.catalogue(mixed)
    sources = catalogue.sources[view.dataset]
    view = state.replace(view, labels=sources[-1] if last else sources[0])
    models = state.models(catalogue, view)
    keep = filters.passing(mixed, view)
    ids = db.images(mixed, view.dataset).ids[keep]
    frame, n = db.under_mask(mixed, view.dataset, view.labels, models, bits.mask_of(keep))
    marks = ", ".join("?" * len(ids)) or "NULL"
    sql = db.query(
        mixed,
        f"""
        SELECT p.model, avg(CAST(p.pred IN (SELECT class_id FROM labels WHERE sample_id = p.sample_id AND source = ?)
          AS INTEGER)) AS value, count(*) AS n
        FROM predictions p WHERE p.condition = 'clean' AND p.sample_id IN ({marks})
          AND p.sample_id IN (SELECT sample_id FROM labels WHERE source = ?)
        GROUP BY p.model
        """,
        [view.labels, *ids, view.labels],
    ).set_index("model")
    if not n or frame.empty:
        assert not len(sql) or not len(models)
        return
    frame = frame.set_index("model")
    assert set(frame.index) == set(models)
    np.testing.assert_allclose(frame["value"], sql["value"].loc[frame.index])
    assert set(sql["n"]) == {n}
    low, high = stats.wilson(frame["value"] * n, n)
    np.testing.assert_allclose(frame[["ci_low", "ci_high"]], np.column_stack([low, high]))


@pytest.mark.parametrize("dataset", ["digits", "objects"])
def test_every_part_of_the_filter_page(imported: Config, open_app: Open, dataset: str) -> None:
    app = open_app(imported.root, "filter", dataset=dataset, own="own", right="1-9")
    for part in state.PARTS:
        app.query_params["part"] = part
        app.run()
        assert app.session_state["view"].part == part
        assert not app.exception


def test_a_filter_that_leaves_nothing_offers_a_way_out(imported: Config, open_app: Open) -> None:
    app = open_app(imported.root, "filter", dataset="objects", wrong="plain", right_by="plain")
    assert "No image of Objects with labels passes all filters" in text(app)
    next(button for button in app.button if button.label == "Clear the filters").click().run()
    assert "**60** of 60 images" in text(app)


def test_the_images_of_a_filter_open_in_samples(imported: Config, open_app: Open) -> None:
    app = open_app(imported.root, "filter", dataset="digits", wrong="pixels", unsure="50-100")
    [button] = [button for button in app.button if button.label.startswith("See these")]
    count = button.label.split()[2]
    button.click().run()
    app.switch_page("views/samples.py").run()
    assert f"**{count}** of 60 images" in text(app)


def test_shared_arrays_cannot_be_written_into(mixed: db.Source) -> None:
    for array in (
        db.block(mixed, "objects", "original").rows,
        db.images(mixed, "objects").labels,
        db.members(mixed, "objects", "all"),
        db.codes(mixed, "objects", "pred").codes,
        db.label_counts(mixed, "objects", "real"),
    ):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_very_many_models_are_one_line_a_family(mixed: db.Source) -> None:
    frame, _ = db.under_mask(mixed, "objects", "original", ["plain"], bits.mask_of(db.members(mixed, "objects", "all")))
    many = frame.loc[np.zeros(plots.RANKED + 1, int)].assign(
        name=[f"model {i}" for i in range(plots.RANKED + 1)], value=np.linspace(0.2, 0.9, plots.RANKED + 1)
    )
    plot: Any = plots.ranked(many, "Accuracy")
    assert len(plot.data) == 1
    assert len(plot.data[0].x) == 4 * len(many)
    assert np.isnan(plot.data[0].y[3::4]).all()
    assert plot.data[0].text[1].startswith(f"<b>model {plots.RANKED}</b>")


def test_models_whose_answers_chose_the_images_are_not_compared(imported: Config, open_app: Open) -> None:
    app = open_app(imported.root, "filter", dataset="digits", wrong="pixels")
    headline = app.markdown[0].value
    assert "Raw pixels" not in headline
    assert "is right on" in headline
    assert "chosen by the models' answers" in text(app)
    app = open_app(imported.root, "filter", dataset="digits", right="0-3")
    assert "is right on" not in app.markdown[0].value
    assert "chosen by the models' answers" in text(app)
    app = open_app(imported.root, "filter", dataset="digits", label="3")
    assert "chosen by the models' answers" not in text(app)


def test_models_that_did_not_answer_to_a_set_leave_a_way_out(imported: Config, open_app: Open) -> None:
    app = open_app(imported.root, "filter", dataset="objects", models="pixels")
    assert "none of the chosen models has answered to them" in text(app)
    next(button for button in app.button if button.label == "Show all models").click().run()
    assert app.session_state["view"].models == ()
    assert "is right on" in text(app)


def test_a_chosen_measure_is_in_the_address_and_its_default_is_not(imported: Config, open_app: Open) -> None:
    app = open_app(imported.root, "filter", dataset="digits")
    default = app.selectbox(key="w:measure").value
    app.selectbox(key="w:measure").set_value("margin").run()
    assert app.session_state["view"].measure == "margin"
    app.selectbox(key="w:measure").set_value(default).run()
    assert app.session_state["view"].measure == ""
    assert not app.exception


def test_a_large_matrix_names_its_models_once() -> None:
    few, many = (plots.heatmap(np.eye(n), [f"model {i}" for i in range(n)], "Agreement") for n in (10, plots.NAMED + 1))
    assert few.layout.xaxis.showticklabels is None
    assert many.layout.xaxis.showticklabels is False
    assert many.layout.yaxis.showticklabels is None
