"""The page Annotate in each of its states, and what reaches the browser."""

from __future__ import annotations

import base64
import io
import json
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from bench import config as configuration
from bench.config import Config
from bench.relabel import events, queue, votes
from bench.store import database
from dashboard import annotate, db, terms
from tests import factory
from tests.dashboard.conftest import APP, Open, text

DATASET = "digits-noisy"
LABEL = {"class_id", "name", "about", "rank", "examples", "notes"}
IMAGE = {"id", "picture", "labels"}


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Results with committed annotations, of which two are of people: see factory.annotate."""
    config = factory.make_all(tmp_path_factory.mktemp("annotated"), annotated=True)
    database.run(config)
    return config


@pytest.fixture
def here(annotated: Config) -> db.Source:
    found = db.source_of(annotated.results / database.FILE)
    assert found is not None
    return found


def sign_in(app: AppTest, name: str, pin: str = "1234") -> AppTest:
    app.text_input(key="sign-in-name").set_value(name)
    app.text_input(key="sign-in-pin").set_value(pin)
    return next(button for button in app.button if button.label == "Sign in").click().run()


def desk(app: AppTest) -> dict[str, Any]:
    """What the component was sent."""
    [component] = [one for one in app.get("bidi_component") if one.proto.component_name == "annotate"]
    return json.loads(component.proto.json)


def config_of(root: Path) -> Config:
    return configuration.load(root / "params.yaml")


def task(dataset: str = DATASET) -> annotate.Task:
    return annotate.Task(dataset, events.ANNOTATE, "quality", [], 2, True, "", "", lambda _: {})


def test_who_is_not_signed_in_sees_how(annotated: Config, open_app: Open) -> None:
    app = open_app(annotated.root, "annotate", dataset=DATASET)
    assert not app.exception
    assert not app.warning
    said = text(app)
    assert "2 annotators look at each, blind to one another" in said
    assert "The first time, choose yours and a PIN" in said
    assert [box.label for box in app.text_input] == ["Name", "PIN"]
    assert "annotate" not in [one.proto.component_name for one in app.get("bidi_component")]


@pytest.mark.parametrize(
    ("name", "pin", "why"),
    [
        ("", "1234", "a name has 1 to 60 characters"),
        ("Somebody", "12", "a PIN has 4 to 64 characters"),
        ("SUPERVISED-cnn", "1234", "is the name of a model"),
        (factory.SIMULATED, "1234", "is the name of a model or of a simulated annotator"),
        ("Some‮body", "1234", "characters that cannot be seen"),
    ],
)
def test_a_name_that_cannot_be_had_is_refused(annotated: Config, open_app: Open, name: str, pin: str, why: str) -> None:
    app = sign_in(open_app(annotated.root, "annotate", dataset=DATASET), name, pin)
    assert why in app.error[0].value.replace("\\", "")
    assert "annotator_token" not in app.session_state
    assert not app.exception


def test_who_signs_in_gets_the_images_of_the_queue(annotated: Config, here: db.Source, open_app: Open) -> None:
    app = sign_in(open_app(annotated.root, "annotate", dataset=DATASET), "Dora <b>")
    assert not app.exception
    assert not app.warning
    assert "Signed in as **Dora &lt;b&gt;**" in text(app)
    sent = desk(app)
    done = annotate.people(annotate.connected(annotated), events.ANNOTATE)
    full = {one for one, people in done.items() if len(people) >= 2}
    assert full
    assert sent["progress"] == {
        "done": 0,
        "complete": len(full),
        "of": 60,
        "left": 60 - len(full),
        "words": "done by you",
    }
    queue = db.queue(here, DATASET).sort_values(["quality", "place"])["sample_id"]
    assert sent["ahead"] == [one for one in queue if one not in full][: annotate.AHEAD]
    assert [image["id"] for image in sent["images"]] == sent["ahead"]
    assert sent["snapshot"] == db.snapshot(here)["snapshot_id"]
    assert sent["history"] == []
    assert sent["classes"] == [[k, str(k)] for k in range(factory.N_CLASSES)]
    shown = [
        *sent["ahead"],
        *(one for image in sent["images"] for label in image["labels"] for one in label["examples"]),
    ]
    assert set(sent["pictures"]) == set(shown)
    claimed = votes.claims(annotate.connected(annotated))
    assert {one for one, people in claimed.items() if "Dora <b>" in people} >= set(sent["ahead"])


def test_nothing_of_others_no_score_and_no_given_label_reaches_the_browser(annotated: Config, open_app: Open) -> None:
    app = sign_in(open_app(annotated.root, "annotate", dataset=DATASET, queue="random"), "Eve")
    sent = desk(app)
    for image in sent["images"]:
        assert set(image) == IMAGE
        assert all(set(label) == LABEL for label in image["labels"])
        assert all(label["notes"] == [] for label in image["labels"])
    told = json.dumps({key: value for key, value in sent.items() if key != "pictures"})
    for name in (factory.ADA, factory.BEN, factory.SIMULATED, "script"):
        assert name not in told
        assert json.dumps(name)[1:-1] not in told


def test_the_order_and_the_set_are_those_of_the_page(annotated: Config, here: db.Source, open_app: Open) -> None:
    app = sign_in(open_app(annotated.root, "annotate", dataset="digits-mosaic", queue="random"), "Fay")
    sent = desk(app)
    place = db.queue(here, "digits-mosaic").sort_values("place")["sample_id"].tolist()
    assert sent["ahead"] == place[: annotate.AHEAD]
    assert app.selectbox(key="w:queue").value == "random"
    app.selectbox(key="w:queue").set_value("labels").run()
    again = desk(app)
    assert again["about"] != sent["about"]
    assert again["ahead"] == annotate.queue.ordered(db.queue(here, "digits-mosaic"), "labels")[: annotate.AHEAD]
    assert again["session"] == sent["session"]
    assert again["seq"] > sent["seq"]


def test_a_further_run_gives_the_same_again_as_long_as_nobody_says_that_it_came(
    annotated: Config, open_app: Open
) -> None:
    app = sign_in(open_app(annotated.root, "annotate", dataset=DATASET), "Gil")
    before, after = desk(app), desk(app.run())
    for key in ("ahead", "images", "pictures", "classes", "history", "session", "about"):
        assert after[key] == before[key]


def test_what_was_saved_can_be_taken_back_after_a_reload(annotated: Config, here: db.Source, open_app: Open) -> None:
    store = annotate.connected(annotated)
    who, known = votes.sign_in(store, "Hal", "1234"), annotate.known(here)
    image = f"{DATASET}/00050"
    first = votes.Submission(
        str(uuid.uuid4()), image, "annotate", (votes.Answer(3, "yes", 1),), False, "a <b>", 9, known.snapshot, "s"
    )
    back = votes.Submission(
        str(uuid.uuid4()), image, "annotate", (), False, "", 0, known.snapshot, "s", move="undo", target=first.id
    )
    assert all(receipt.stored for receipt in votes.record(store, who, [first, back], known))
    app = sign_in(open_app(annotated.root, "annotate", dataset=DATASET), "Hal")
    [said] = desk(app)["history"]
    assert said == {
        "id": first.id,
        "sample_id": image,
        "answers": [{"class_id": 3, "action": "yes", "rank": 1}],
        "none": False,
        "comment": "a <b>",
        "undone": True,
    }
    assert image in {one["id"] for one in desk(app)["images"]}
    app = open_app(annotated.root, "annotate", dataset="digits-mosaic")
    assert desk(sign_in(app, "Hal"))["history"] == []


def test_signing_out_leaves_nothing_behind(annotated: Config, open_app: Open) -> None:
    store = annotate.connected(annotated)
    app = sign_in(open_app(annotated.root, "annotate", dataset=DATASET), "Ida")
    token = app.session_state["annotator_token"]
    assert votes.by_token(store, token) == votes.Annotator("Ida")
    [cookie] = [one for one in app.get("bidi_component") if one.proto.component_name == "annotator_cookie"]
    assert json.loads(cookie.proto.json)["token"] == token
    next(button for button in app.button if button.label == "Sign out").click().run()
    assert votes.by_token(store, token) is None
    assert [box.label for box in app.text_input] == ["Name", "PIN"]
    [cookie] = [one for one in app.get("bidi_component") if one.proto.component_name == "annotator_cookie"]
    assert json.loads(cookie.proto.json)["token"] == ""
    assert not any("Ida" in people for people in votes.claims(store).values())
    assert not app.exception


def test_a_provider_signs_in_where_one_is_set_up(annotated: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_ROOT", str(annotated.root))
    app = AppTest.from_file(str(APP), default_timeout=30)
    app.secrets["auth"] = {"redirect_uri": "x", "cookie_secret": "x", "client_id": "x", "client_secret": "x"}
    app.run()
    app.switch_page("views/annotate.py")
    app.run()
    app.query_params["dataset"] = DATASET
    app.run()
    assert not app.exception
    assert not app.text_input
    assert [button.label for button in app.button if "ign" in button.label] == ["Sign in"]


def test_who_the_provider_names_annotates_under_that_name(
    annotated: Config, here: db.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    class User(dict):
        is_logged_in = True

    store = annotate.connected(annotated)
    monkeypatch.setattr(annotate, "with_oidc", lambda: True)
    monkeypatch.setattr(annotate.st, "user", User(iss="https://id.example", sub="1", name="Jo"))
    assert annotate.person(store, here) == votes.Annotator("Jo")
    monkeypatch.setattr(annotate.st, "user", User(iss="https://id.example", sub="2", name="Jo"))
    assert annotate.person(store, here) == votes.Annotator("Jo (2)")
    monkeypatch.setattr(annotate.st, "user", User(iss="https://id.example", sub="1", name="Joanna"))
    assert annotate.person(store, here) == votes.Annotator("Jo")
    for n, taken in enumerate((factory.SIMULATED, "supervised-cnn", factory.BEN), start=3):
        monkeypatch.setattr(annotate.st, "user", User(iss="https://id.example", sub=str(n), name=taken))
        assert annotate.person(store, here) == votes.Annotator(f"{taken} (2)"), "a model's, or one with votes already"


def test_whose_votes_came_with_the_data_is_asked(annotated: Config, tmp_path: Path, open_app: Open) -> None:
    root = shutil.copytree(annotated.root, tmp_path / "clone", ignore=shutil.ignore_patterns(votes.FOLDER))
    app = sign_in(open_app(root, "annotate", dataset=DATASET), factory.BEN.upper())
    assert "annotator_token" not in app.session_state
    [box] = app.checkbox
    assert "annotated as BEN" in box.label
    assert "They are mine" in box.label
    app = sign_in(app, factory.BEN.upper())
    assert "annotator_token" not in app.session_state, "not without a word"
    app.checkbox[0].check()
    app = sign_in(app, factory.BEN.upper())
    assert votes.by_token(annotate.connected(config_of(root)), app.session_state["annotator_token"]) == votes.Annotator(
        factory.BEN
    ), "spelled as the votes are"
    app = sign_in(open_app(root, "annotate", dataset=DATASET), "Nobody yet")
    assert not app.checkbox
    assert "annotator_token" in app.session_state


def test_a_set_without_proposals_names_those_that_have_some(annotated: Config, open_app: Open) -> None:
    app = open_app(annotated.root, "annotate", dataset="optdigits")
    assert not app.exception
    assert "No labels are proposed for Optdigits (shifted)" in text(app)
    assert "There are proposals for Digits, " in text(app)
    assert not app.text_input


def _page_of_another_database(path: str, dataset: str) -> None:
    import runpy
    from pathlib import Path

    import streamlit as st

    from dashboard import db, state
    from tests.dashboard.conftest import APP

    st.session_state["source"] = db.source_of(Path(path))
    state.store(state.replace(state.current(), dataset=dataset))
    runpy.run_path(str(APP.parent / "views" / "annotate.py"))


def test_an_opened_snapshot_is_not_annotated(
    annotated: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_ROOT", str(annotated.root))
    shutil.copy(annotated.results / database.FILE, tmp_path)
    app = AppTest.from_function(_page_of_another_database, args=(str(tmp_path / database.FILE), DATASET)).run()
    assert not app.exception
    assert "not a snapshot that was opened" in text(app)
    assert not app.text_input


def test_a_database_of_votes_that_cannot_be_opened_is_said(
    annotated: Config, open_app: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_config: Config) -> votes.Store:
        raise annotate.BenchError("the database of votes cannot be opened: <gone>.", where="here", remedy="Start it.")

    monkeypatch.setattr(annotate, "connected", refuse)
    app = open_app(annotated.root, "annotate", dataset=DATASET)
    assert not app.exception
    assert "Votes cannot be kept just now" in text(app)
    assert "cannot be opened: &lt;gone&gt;" in text(app).replace("\\", "")


def test_examples_are_of_the_class_the_same_for_all_and_never_the_image_itself(
    annotated: Config, here: db.Source
) -> None:
    ids = db.queue(here, DATASET)["sample_id"].tolist()
    images = annotate._images(here, annotated, votes.Annotator("A"), task(), ids)
    again = annotate._images(here, annotated, votes.Annotator("B"), task(), list(reversed(ids)))
    assert sorted(images, key=lambda one: one["id"]) == sorted(again, key=lambda one: one["id"])
    pool = db.pictured(here, "digits")
    source_of = db.query(here, "SELECT sample_id, source_id FROM samples").set_index("sample_id")["source_id"]
    held_back = 0
    for image in images:
        for label in image["labels"]:
            shown = [one.removesuffix(" small") for one in label["examples"]]
            assert len(shown) == len(set(shown)) == min(5, (pool["label"] == label["class_id"]).sum())
            assert set(pool.loc[shown, "label"]) == {label["class_id"]}
            assert source_of[image["id"]] not in {*shown, *pool.loc[shown, "source_id"]}
            every = annotate.examples(here, "digits", [label["class_id"]], 5, annotated.seed, ())[label["class_id"]]
            held_back += [one.sample_id for one in every] != shown
    assert held_back  # for some image one of its class's examples is what it is made from
    other = annotate.examples(here, "digits", list(range(10)), 5, annotated.seed + 1, ())
    mine = annotate.examples(here, "digits", list(range(10)), 5, annotated.seed, ())
    assert {k: {one.key for one in v} for k, v in mine.items()} != {k: {one.key for one in v} for k, v in other.items()}
    assert annotate.examples(here, "digits", [0], 0, 0, ()) == {0: []}


def test_labels_are_shuffled_within_their_page_for_each_annotator_and_image() -> None:
    classes = list(range(25))
    for who, image in (("A", "d/1"), ("B", "d/1"), ("A", "d/2")):
        mixed = annotate.shuffled(classes, who, image)
        assert mixed == annotate.shuffled(classes, who, image)
        assert mixed != classes
        for start in (0, 10, 20):
            assert sorted(mixed[start : start + 10]) == classes[start : start + 10]
    assert annotate.shuffled(classes, "A", "d/1") != annotate.shuffled(classes, "B", "d/1")
    assert annotate.shuffled(classes, "A", "d/1") != annotate.shuffled(classes, "A", "d/2")


def test_shown_ranks_are_the_places_at_which_labels_are_shown(annotated: Config, here: db.Source) -> None:
    config = annotated.model_copy(update={"annotations": annotated.annotations.model_copy(update={"shuffle": True})})
    [plain] = annotate._images(here, annotated, votes.Annotator("A"), task(), [f"{DATASET}/00007"])
    [mixed] = annotate._images(here, config, votes.Annotator("A"), task(), [f"{DATASET}/00007"])
    ranks = [label["rank"] for label in mixed["labels"]]
    assert ranks == [label["rank"] for label in plain["labels"]] == [1, 2, 3, 4, 5]
    proposed = db.proposals(here, (f"{DATASET}/00007",))["class_id"].tolist()
    assert [label["class_id"] for label in plain["labels"]] == proposed
    assert sorted(label["class_id"] for label in mixed["labels"]) == sorted(proposed)


def test_examples_are_small_and_small_pictures_stay_as_they_are() -> None:
    def encoded(size: tuple[int, int]) -> bytes:
        stream = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 4), dtype=np.uint8)
        Image.fromarray(noise, "RGBA").save(stream, "PNG")
        return stream.getvalue()

    tiny = encoded((20, 12))
    assert annotate.small((tiny, "image/png")) == f"data:image/png;base64,{base64.b64encode(tiny).decode()}"
    kind, data = annotate.small((encoded((256, 128)), "image/png")).split(";base64,")
    assert kind == "data:image/jpeg"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (96, 48)


def test_text_reaches_the_page_as_text() -> None:
    code = (annotate.HERE / "annotate.js").read_text()
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in code


def test_a_set_without_pictures_can_be_annotated(imported: Config, mixed: db.Source) -> None:
    image = db.query(mixed, "SELECT sample_id FROM samples WHERE dataset = 'objects-v2' LIMIT 1")["sample_id"].item()
    refining = annotate.Task(
        "objects-v2",
        events.REFINE,
        "refine hidden",
        [image],
        1,
        False,
        "",
        "",
        lambda _: {
            "more": [4],
            "preset": [{"class_id": 4, "action": "yes"}],
            "notes": {4: [["<b>", "yes"]]},
            "caption": image,
        },
    )
    [found] = annotate._images(mixed, imported, votes.Annotator("A"), refining, [image])
    assert found["picture"] == ""
    assert found["pictures"] == {}
    [label] = found["labels"]
    assert label | {"notes": []} == {
        "class_id": 4,
        "name": "object 4",
        "about": "Made up for tests, number 4.",
        "rank": 1,
        "examples": [],
        "notes": [],
    }
    assert label["notes"] == [["<b>", "yes"]]
    assert found["preset"] == [{"class_id": 4, "action": "yes"}]


@dataclass
class Desk:
    """What `annotate._save` works on: a session of one who annotates, and the outbox of its browser."""

    config: Config
    here: db.Source
    patch: pytest.MonkeyPatch
    who: votes.Annotator = field(default_factory=lambda: votes.Annotator(f"P{uuid.uuid4().hex[:8]}"))

    def __post_init__(self) -> None:
        self.store, self.known = annotate.connected(self.config), annotate.known(self.here)
        self.ids = list(annotate._ordered(self.here, DATASET, "quality"))[-6:]
        self.token = votes.issue_token(self.store, self.who)
        progress = queue.Progress(0, 0, len(self.ids), len(self.ids))
        self.session: dict[str, Any] = {"held": set(), "pending": {}, "ids": self.ids[:], "progress": progress}

    def save(self, *items: tuple[str, str], task: annotate.Task) -> None:
        """Save answers, as image and stage each."""
        one = {"answers": [{"class_id": 1, "action": "yes", "rank": 1}], "ms": 1, "sitting": "s"}
        outbox = [
            {**one, "id": str(uuid.uuid4()), "sample_id": image, "stage": stage, "snapshot": self.known.snapshot}
            for image, stage in items
        ]
        state = {"annotator_token": self.token, f"{annotate.KEY}:{task.stage}": {"outbox": {"items": outbox}}}
        self.patch.setattr(annotate.st, "session_state", state)
        annotate._save(self.here, self.store, self.who, self.session, task)


@pytest.fixture
def at_desk(annotated: Config, here: db.Source, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(annotated, here, monkeypatch)


def test_each_save_counts_once_also_where_others_votes_are_read_anew(at_desk: Desk) -> None:
    for n, image in enumerate(at_desk.ids[:3], start=1):
        annotate._people.clear()  # ten seconds later
        at_desk.save((image, "annotate"), task=task())
        assert at_desk.session["progress"].mine == n
        assert at_desk.session["progress"].left == len(at_desk.ids) - n


def test_what_waited_from_another_stage_is_stored_and_no_progress_of_this_one(at_desk: Desk) -> None:
    refining = annotate.Task(DATASET, events.REFINE, "refine hidden", at_desk.ids, 1, False, "", "", lambda _: {})
    first, second = at_desk.ids[:2]
    at_desk.save((first, "annotate"), (second, "refine"), task=refining)
    assert {receipt["stored"] for receipt in at_desk.session["receipts"]} == {True}
    assert at_desk.session["progress"].mine == 1
    assert first in at_desk.session["ids"]
    assert second not in at_desk.session["ids"]


def test_an_image_of_which_others_said_more_is_sent_again(annotated: Config, here: db.Source) -> None:
    store, who, notes = annotate.connected(annotated), votes.Annotator("R"), {}
    image = annotate._ordered(here, DATASET, "quality")[0]
    refining = annotate.Task(DATASET, events.REFINE, "r", [image], 1, False, "", "", lambda _: {"notes": dict(notes)})
    progress = queue.Progress(0, 0, 1, 1)
    session: dict[str, Any] = {
        "ids": [image],
        "hash": "h",
        "held": set(),
        "pending": {},
        "seq": 0,
        "progress": progress,
    }
    session |= {"about": ("snapshot",), "id": "i", "sitting": "s", "receipts": [], "pace": None}

    def sent() -> list[str]:
        payload = annotate._payload(here, annotated, store, who, refining, session)
        session["held"] |= session["pending"].pop(session["seq"])
        return [one["id"] for one in payload["images"]]

    assert sent() == [image]
    assert sent() == []
    notes[1] = [("Ada", "yes")]
    assert sent() == [image]


def test_every_order_is_explained() -> None:
    assert "unbiased" in terms.ORDER["random"]
    assert terms.HELP["queue"]
