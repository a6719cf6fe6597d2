"""Every page, on whole results and where results are missing, empty, outdated or of another name."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from bench.config import Config
from bench.store import database, snapshot
from dashboard import db
from tests import factory
from tests.dashboard.conftest import APP, Open, text

PAGES = ("overview", "filter", "replication", "ssl", "samples", "relabel", "snapshot", "methods", "map", "attacks")
PAGES += ("segmentation",)
PAGES += ("radar",)


@pytest.fixture
def copy(config: Config, tmp_path: Path) -> Path:
    """The results, to be spoiled."""
    (tmp_path / "results").mkdir()
    shutil.copy(config.root / "params.yaml", tmp_path)
    for name in (database.FILE, database.HASHES):
        shutil.copy(config.results / name, tmp_path / "results")
    return tmp_path


@contextmanager
def replacing(root: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A changed copy of the database, put in its place as a new file."""
    path = root / "results" / database.FILE
    changed = Path(shutil.copy(path, path.with_suffix(".new")))
    with duckdb.connect(str(changed)) as connection:
        yield connection
    changed.replace(path)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_without_a_fault(config: Config, open_app: Open, page: str) -> None:
    app = open_app(config.root, page)
    assert not app.exception
    assert not app.warning
    assert app.title[0].value.endswith("?")
    said = text(app)
    assert "nan" not in said.split()
    assert "None" not in said


@pytest.mark.parametrize("page", [*PAGES[:5], "map", "attacks"])
def test_every_page_shows_every_set(config: Config, open_app: Open, page: str) -> None:
    app = open_app(config.root, page)
    for dataset in list(factory.DATASETS)[1:]:
        app.selectbox(key="w:dataset").set_value(dataset).run()
        assert not app.exception
        assert not app.warning
        assert app.session_state["view"].dataset == dataset


@pytest.mark.parametrize("page", PAGES)
def test_no_model_of_a_family_is_a_sentence(config: Config, open_app: Open, page: str) -> None:
    app = open_app(config.root, page, families="random", dataset="digits-mosaic", labels="composed")
    assert not app.exception


def test_overview_says_what_the_tables_say(config: Config, open_app: Open) -> None:
    said = text(open_app(config.root))
    assert "**Supervised CNN** is right on 95.0 % [86.3, 98.3] of Digits" in said
    assert "loses **15.0 pp**" in said
    assert "on Optdigits (shifted)" in said
    assert "replication" not in said.lower().replace("replication page", "")


def test_overview_follows_the_filter(config: Config, open_app: Open) -> None:
    app = open_app(config.root, families="ssl")
    assert "**SimCLR CNN** is right on 90.0 %" in text(app)
    app.selectbox(key="w:dataset").set_value("digits-mosaic").run()
    assert not app.exception
    assert "Mosaic (composed)" in text(app).replace("Digits mosaic (composed)", "Mosaic (composed)")
    app.selectbox(key="w:labels").set_value("composed").run()
    assert app.session_state["view"].labels == "composed"
    assert not app.exception


def test_a_set_without_the_chosen_labels_says_so(config: Config, open_app: Open) -> None:
    app = open_app(config.root, dataset="digits-mosaic", labels="composed", subset="multi-label")
    assert not app.warning
    app.selectbox(key="w:dataset").set_value("digits").run()
    assert "has no labels" in app.warning[1].value
    assert "has no subset" in app.warning[0].value
    assert not app.exception


def test_replication_names_what_the_other_set_is(config: Config, open_app: Open) -> None:
    said = text(open_app(config.root, "replication"))
    assert "**shifted**, not a replication" in said
    said = text(open_app(config.root, "replication", against="digits-noisy", scoring="any_of"))
    assert "a **control** made here" in said


def test_ssl_says_who_does_not_beat_the_control(config: Config, open_app: Open) -> None:
    said = text(open_app(config.root, "ssl"))
    assert "of 2 self-supervised encoders beat the untrained encoder" in said
    assert "**MAE ViT** cannot be told apart" in said
    assert "Raw pixels" not in text(open_app(config.root, "ssl", families="ssl")).split("Images of")[-1]


def test_ssl_follows_the_corruption(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "ssl", ssl="corruption", corruption="gaussian_noise")
    assert app.session_state["view"].corruption == "gaussian_noise"
    assert "Relative to Supervised CNN, which is 1 by definition" in text(app)
    assert not app.exception


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("contrast", "Pair by pair"),
        ("backbones", "The same backbone, trained with and without labels"),
        ("attack", "nothing speaks against it"),
        ("few", "What the features are worth"),
        ("wrong", "Simulated: a share of the labels of train is replaced at random"),
        ("calibration", "The temperature is fitted on images of train that were kept back"),
        ("training", "What choosing an epoch would have given"),
    ],
)
def test_ssl_shows_each_section(config: Config, open_app: Open, section: str, said: str) -> None:
    app = open_app(config.root, "ssl", ssl=section)
    assert not app.exception
    assert said in text(app)
    everywhere = text(app)
    assert not re.search(r"\b(nan|None)\b", everywhere)


def test_ssl_states_the_contrast(config: Config, open_app: Open) -> None:
    """Of the factory: SimCLR is 5 points below the CNN with labels, MAE 18 below the ViT; neither saw other views."""
    said = text(open_app(config.root, "ssl"))
    assert "Held against 2 supervised networks of the same architecture, 2 self-supervised ones are **11.7 pp**" in said
    assert "less accurate on clean images of Digits (n = 60)" in said
    assert "There are too few of them to say anything of other networks." in said
    app = open_app(config.root, "ssl", contrast="both_right")
    pairs = app.dataframe[0].value
    assert set(pairs["Condition"]) >= {"All corruptions", "PGD, L∞, 8/255"}
    assert not app.exception


def test_ssl_says_where_there_is_no_contrast(config: Config, open_app: Open) -> None:
    said = text(open_app(config.root, "ssl", families="supervised"))
    assert "choose both above" in said or "Held against" in said


def test_wrong_labels_cost_what_the_tables_say(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "ssl", ssl="wrong")
    table = app.dataframe[0].value.set_index(["Model", "Labels"])
    assert "Supervised CNN" not in table.index.get_level_values("Model"), (
        "its features have seen the labels as they are"
    )
    assert table.loc[("SimCLR CNN", "simulated"), "Cost, pp"] == pytest.approx(4)
    assert table.loc[("SimCLR CNN", "people"), "Cost, pp"] == pytest.approx(2)
    assert "people: what people said of the same images" in text(app)


def test_samples_filters_are_in_the_address(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "samples", dataset="digits-noisy", label="3", right="0-4", sort="wrong")
    assert "of 60 images of Digits noisy (control, relabelled)" in text(app)
    assert not app.exception
    shown = [button.label for button in app.button if button.key and button.key.startswith("open:grid")]
    assert shown
    assert all(label.startswith("3 · ") for label in shown)
    right = [int(label.split(" · ")[1].split("/")[0]) for label in shown]
    assert right == sorted(right)
    assert max(right) <= 4


def test_samples_pages_and_its_reset(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "samples", page="2")
    first = [b.label for b in app.button if b.key and b.key.startswith("open:grid")]
    assert len(first) == 12
    app.selectbox(key="w:sort").set_value("wrong").run()
    assert app.session_state["view"].page == 1
    assert len([b for b in app.button if b.key and b.key.startswith("open:grid")]) == 48
    assert open_app(config.root, "samples", page="99").session_state["view"].page == 2


def test_a_filter_that_nothing_passes_offers_a_way_out(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "samples", right="0-0", answers="1-1")
    assert "No image passes" in app.info[0].value
    next(button for button in app.button if button.label == "Clear the filters").click().run()
    assert not app.info
    assert "**60** of 60" in text(app)


def test_one_image(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "samples", sample="digits-mosaic/00007")
    assert not app.exception
    said = text(app)
    assert "labelled 7?" in said
    assert "of 8** models" in said
    assert len(app.dataframe[1].value) == 8
    assert set(app.dataframe[0].value["Label source"]) == {"Original", "All present"}
    near = [button for button in app.button if button.key and button.key.startswith("open:near")]
    assert len(near) == 4
    near[0].click().run()
    assert app.session_state["view"].sample == near[0].key.split(":", 2)[2]  # pyright: ignore[reportOptionalMemberAccess]
    next(button for button in app.button if button.label == "Back to all images").click().run()
    assert "Which images fool which models?" in text(app)


@pytest.mark.parametrize("sample", ["digits/99999", "<script>", "digits/00060", "' OR 1=1 --"])
def test_an_unknown_image_is_a_message(config: Config, open_app: Open, sample: str) -> None:
    app = open_app(config.root, "samples", sample=sample)
    assert not app.exception
    assert "no test image" in app.warning[0].value


@pytest.mark.parametrize("page", PAGES)
def test_wrong_values_in_the_address_are_messages(config: Config, open_app: Open, page: str) -> None:
    app = open_app(config.root, page, dataset="imagenet", families="ssl,none", page="-1", unsure="x", who="me")
    assert not app.exception
    assert len(app.warning) == 5


def test_relabel_shows_given_beside_proposed(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "relabel", dataset="digits-noisy")
    assert not app.exception
    said = text(app)
    assert "images of Digits noisy (control, relabelled)" in said
    assert "Given: **" in said
    assert ", given" in said


def test_relabel_without_proposals(config: Config, open_app: Open) -> None:
    said = text(open_app(config.root, "relabel", dataset="optdigits"))
    assert "No labels are proposed for Optdigits (shifted)" in said


def test_snapshot_says_what_made_it(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "snapshot")
    said = text(app)
    assert "outside version control" in said
    assert "make repro" in said
    counts = app.dataframe[0].value.set_index("Table")["Rows"]
    assert counts["models"] == 8


def test_the_link_of_other_results_never_shows_these(config: Config, open_app: Open, source: db.Source) -> None:
    app = open_app(config.root, snap="0123456789ab", dataset="optdigits")
    assert app.title[0].value == "This link shows other results"
    app.button[0].click().run()
    assert app.title[0].value == "How accurate is each model, and where?"
    view = app.session_state["view"]
    assert view.snap == db.snapshot(source)["snapshot_id"]
    assert view.dataset == "optdigits"


def test_no_folder_pages_lies_beside_the_app() -> None:
    """Streamlit would run its scripts without the app, for whoever opens a page's own address first."""
    assert not (APP.parent / "pages").exists()


def test_no_database_says_which_command(tmp_path: Path, open_app: Open) -> None:
    factory.make_config(tmp_path)
    app = open_app(tmp_path)
    assert not app.exception
    assert app.title[0].value == "No results yet"
    assert "make repro" in app.code[0].value


def test_no_settings_says_where_to_go(tmp_path: Path, open_app: Open) -> None:
    app = open_app(tmp_path)
    assert not app.exception
    assert "no such file" in text(app)


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to look like one" * 100])
def test_a_file_that_is_no_database(copy: Path, open_app: Open, content: bytes) -> None:
    (copy / "results" / database.FILE).write_bytes(content)
    app = open_app(copy)
    assert not app.exception
    assert app.title[0].value == "The database cannot be shown"
    assert "bench database" in app.code[0].value


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("DROP TABLE metrics", "no table `metrics`"),
        ("DELETE FROM metrics", "`metrics` is empty"),
        ("ALTER TABLE models DROP COLUMN arch", "no column `arch`"),
    ],
)
def test_a_database_of_another_kind(copy: Path, open_app: Open, sql: str, says: str) -> None:
    with duckdb.connect(str(copy / "results" / database.FILE)) as connection:
        connection.execute(sql)
    app = open_app(copy)
    assert not app.exception
    assert app.title[0].value == "The database cannot be shown"
    assert says in text(app)


def test_an_outdated_database(copy: Path, open_app: Open) -> None:
    (copy / "results" / database.HASHES).write_text("{}\n")
    app = open_app(copy)
    assert not app.exception
    assert app.title[0].value == "The database is outdated"
    assert "bench database" in app.code[0].value


def test_a_list_of_releases_that_cannot_be_read(copy: Path, open_app: Open) -> None:
    (copy / "snapshots").mkdir()
    (copy / "snapshots" / "releases.json").write_text("{")
    app = open_app(copy)
    assert not app.exception
    assert "releases.json" in text(app)


def test_a_snapshot_without_what_was_chosen(copy: Path, open_app: Open) -> None:
    app = open_app(copy, wrong="pixels", families="pixels")
    with replacing(copy) as connection:
        for table in ("models", "metrics", "predictions", "bits", "replication", "uncertainty"):
            connection.execute(f"DELETE FROM {table} WHERE model = 'pixels'")
    app.run()
    assert not app.exception
    assert [warning.value.split(":")[0] for warning in app.warning] == ["`families=pixels`", "`wrong=pixels`"]


def test_a_release_that_is_not_open_says_how(config: Config, open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    one = snapshot.Snapshot("digits-v1", "abc", "2026-01-01T00:00:00Z", None)
    monkeypatch.setattr(snapshot, "available", lambda config: [one])
    import streamlit as st

    st.cache_data.clear()
    app = open_app(config.root, snap="digits-v1")
    assert app.title[0].value == "This snapshot is not open yet"
    assert app.code[0].value == "bench snapshot open digits-v1"
    app.button[0].click().run()
    assert app.title[0].value == "How accurate is each model, and where?"
    st.cache_data.clear()


def test_all_images_behind_a_figure_are_those_that_it_counts(config: Config, open_app: Open) -> None:
    app = open_app(config.root, dataset="optdigits", subset="disputed")
    [button] = [one for one in app.button if one.label.startswith("All ")]
    count = button.label.split()[1]
    button.click().run()
    app.switch_page("views/samples.py").run()
    assert f"**{count}** of" in text(app)


def test_a_replaced_database_is_read_anew(copy: Path, open_app: Open) -> None:
    before = text(open_app(copy))
    with replacing(copy) as connection:
        connection.execute("UPDATE metrics SET value = value / 2 WHERE metric = 'top1'")
    after = text(open_app(copy))
    assert "is right on 95.0 %" in before
    assert "is right on 47.5 %" in after
