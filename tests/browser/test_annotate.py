"""Annotating in Chromium, by keyboard, against a real server: what is saved, and what becomes of it in accidents."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import pytest

from bench.config import Config
from bench.relabel import events, queue, votes
from dashboard import db
from tests.browser.conftest import MARKS, WAIT_MS, Server, choose, settle

pytestmark = MARKS

DATASET = "digits-noisy"
UNTRUSTED = "<img src=x onerror=\"alert('x')\"> & <script>alert(1)</script> '; DROP TABLE events; -- ‮ ../../x"
ALL_SENT = "() => !Object.keys(localStorage).some((key) => key.startsWith('second-look:'))"
WATCH = """
  window.shown = [];
  document.addEventListener('image-shown', (event) => window.shown.push(event.detail.id));
"""


@pytest.fixture(scope="module")
def store(config: Config) -> votes.Store:
    return votes.connect(config)


@pytest.fixture(autouse=True)
def nobody_else(store: votes.Store) -> None:
    """What those of the tests before had before them is free again: there are few images."""
    for name in set().union(*votes.claims(store).values()):
        votes.claim(store, name, [], 0)


@contextmanager
def at_work(
    browser: Any, server: Server, name: str, pin: str = "1234", at: str = "annotate", also: str = ""
) -> Iterator[Any]:
    """A page of somebody who just signed in; anything that pops up or fails in it is an error."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    context.add_init_script(WATCH)
    page = context.new_page()
    faults: list[str] = []
    page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.goto(f"{server.url}/{at}?dataset={DATASET}{also}")
    sign_in(page, name, pin)
    page.locator(".card").first.wait_for(timeout=WAIT_MS)
    settle(page)
    yield page
    assert not faults
    context.close()


def sign_in(page: Any, name: str, pin: str) -> None:
    page.get_by_role("textbox", name="Name").fill(name)
    page.get_by_role("textbox", name="PIN").fill(pin)
    page.keyboard.press("Enter")


def labels(page: Any) -> list[int]:
    """Classes of the cards that are shown; the names of digits are their classes."""
    return [int(name) for name in page.locator(".card .name").all_inner_texts()]


def ticked(page: Any) -> dict[int, str]:
    """Class -> what is said of it, where something is."""
    cards = page.locator(".card").evaluate_all(
        "cards => cards.map(c => [c.querySelector('.name').textContent, c.className])"
    )
    return {int(name): said.split()[1] for name, said in cards if said.split()[1] != "open"}


def at(page: Any) -> str:
    return page.evaluate("window.shown.at(-1)")


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def sent(page: Any) -> None:
    """Wait until the server has acknowledged all that was saved."""
    page.wait_for_function(ALL_SENT, timeout=WAIT_MS)


def digit(page: Any, class_id: int) -> str:
    return str((labels(page).index(class_id) + 1) % 10)


def said(store: votes.Store, name: str, *, counted: bool = True) -> list[tuple[str, str, int | None]]:
    """(image, action, class) of what somebody said, that which counts; else all, in the order of time."""
    frame = votes.events(store, annotator=name)
    frame = frame.loc[frame["counts"].to_numpy(bool)] if counted else frame.sort_values(["utc", "event_id"])
    rows = zip(frame["sample_id"], frame["action"], frame["class_id"], strict=True)
    return [(image, action, None if pd.isna(class_id) else int(class_id)) for image, action, class_id in rows]


def answers(image: str, shown: list[int], yes: tuple[int, ...] = (), unsure: tuple[int, ...] = ()) -> set[Any]:
    """What is to be stored of an image: an answer to each label that was shown, and to those ticked besides."""
    return {
        (image, "yes" if one in yes else "unsure" if one in unsure else "no", one) for one in {*shown, *yes, *unsure}
    }


def test_three_images_by_keyboard_are_stored_exactly(browser: Any, server: Server, store: votes.Store) -> None:
    name = "Ada <b>Núñez</b> & Söhne"
    with at_work(browser, server, name) as page:
        images, expected = [], set()
        assert page.get_by_text(f"Signed in as {name}").count() == 1

        press(page, "Enter")  # nothing is ticked: that is said, and nothing is saved
        assert "Nothing is ticked" in page.get_by_role("alert").inner_text()
        images.append(at(page))
        shown = labels(page)
        press(page, "1", "2", "2", "3", "3", "3", "Shift+Digit4")
        assert ticked(page) == {shown[0]: "yes", shown[1]: "unsure", shown[3]: "no"}
        press(page, "Enter")
        expected |= answers(images[0], shown, (shown[0],), (shown[1],))

        images.append(at(page))
        shown = labels(page)
        other = next(k for k in range(10) if k not in shown)
        press(page, "/", *str(other))
        assert page.get_by_role("option").all_inner_texts() == [str(other)]
        press(page, "Enter")
        assert ticked(page) == {other: "yes"}
        assert labels(page) == [*shown, other]
        press(page, "Enter")
        expected |= answers(images[1], shown, (other,))

        images.append(at(page))
        shown = labels(page)
        press(page, "1", "n", "c")
        page.keyboard.type(UNTRUSTED)
        press(page, "Enter", "Enter")  # leaves the comment; saves
        expected |= answers(images[2], shown) | {(images[2], "none", None), (images[2], "comment", None)}
        sent(page)
        assert len(set(images)) == 3
        assert set(said(store, name)) == expected
        assert len(said(store, name, counted=False)) == len(expected)
        comments = votes.events(store, annotator=name)["comment"].dropna().tolist()
        assert comments == [UNTRUSTED]
        ranks = votes.events(store, annotator=name).query("sample_id == @images[1]").set_index("class_id")["rank_shown"]
        assert ranks.isna()[other]
        assert sorted(ranks.dropna()) == [1, 2, 3, 4, 5]
        assert (votes.events(store, annotator=name)["ms_spent"] > 0).all()
        assert page.locator(".progress").first.inner_text() == "3 done by you"

        press(page, "u")
        assert at(page) == images[2]
        assert page.get_by_role("textbox", name="Comment").input_value() == UNTRUSTED
        assert page.get_by_role("button", name="None of these").get_attribute("aria-pressed") == "true"
        press(page, "Control+z")
        assert at(page) == images[1]
        assert ticked(page) == {other: "yes"}
        sent(page)
        assert {image for image, *_ in said(store, name)} == {images[0]}

        page.reload()
        page.locator(".card").first.wait_for(timeout=WAIT_MS)
        settle(page)
        assert page.get_by_text(f"Signed in as {name}").count() == 1
        assert at(page) == images[1]
        assert ticked(page) == {other: "yes"}
        press(page, "y", "Control+Shift+z")
        sent(page)
        assert set(said(store, name)) == expected
        assert at(page) not in images

        press(page, "u", "n")  # take the last back, and answer it anew: the comment and "none" are gone, or changed
        shown = labels(page)
        press(page, "1", "c", "Control+a", "Delete", "Enter", "Enter")
        sent(page)
        again = {one for one in expected if one[0] != images[2]} | answers(images[2], shown, (shown[0],))
        assert set(said(store, name)) == again
        press(page, "y")
        assert page.get_by_role("button", name="Redo").is_disabled()
        assert set(said(store, name)) == again


def test_keys_belong_to_whoever_has_the_focus(browser: Any, server: Server, store: votes.Store) -> None:
    with at_work(browser, server, "Keys") as page:
        image, shown = at(page), labels(page)
        page.get_by_role("combobox", name="What comes next").click()
        press(page, "1", "n", "Escape")
        page.locator(".frame").click()
        assert ticked(page) == {}
        press(page, "c")
        page.keyboard.type("12n/cuy")
        assert ticked(page) == {}
        press(page, "Escape", "/")
        page.keyboard.type("nothing of that name")
        press(page, "Enter", "Escape")
        assert labels(page) == shown
        page.get_by_role("button", name=f"Yes: {shown[0]}").focus()
        press(page, "Enter")  # a button that has the focus does what it says
        assert ticked(page) == {shown[0]: "yes"}
        page.locator(".card").nth(1).click()
        page.get_by_role("button", name=f"No: {shown[2]}").click()
        assert ticked(page) == {shown[0]: "yes", shown[1]: "yes", shown[2]: "no"}
        press(page, "Enter")  # what was clicked has no focus: Enter saves
        assert at(page) != image
        sent(page)
        assert set(said(store, "Keys")) == answers(image, shown, (shown[0], shown[1])) | {(image, "comment", None)}
        assert page.get_by_role("status").filter(has_text="Saved").inner_text() == f"Saved: {shown[0]}, {shown[1]}"


def test_two_tabs_lose_and_double_nothing(browser: Any, server: Server, store: votes.Store) -> None:
    with at_work(browser, server, "Two tabs") as one:
        two = one.context.new_page()
        two.goto(one.url)
        two.locator(".card").first.wait_for(timeout=WAIT_MS)
        settle(two)
        image, shown = at(one), labels(one)
        assert at(two) == image
        press(one, "1", "Enter", "1", "Enter")
        press(two, "2", "Enter")
        sent(one)
        sent(two)
        every = [row for row in said(store, "Two tabs", counted=False) if row[0] == image]
        assert len(every) == 2 * len(shown)
        counting = {row for row in said(store, "Two tabs") if row[0] == image}
        assert counting in (answers(image, shown, (shown[0],)), answers(image, shown, (shown[1],)))
        assert len(votes.standing(store, "annotate").query("annotator == 'Two tabs'")) == 2


def test_a_killed_server_loses_and_doubles_nothing(browser: Any, server: Server, store: votes.Store) -> None:
    with at_work(browser, server, "Killed") as page:
        expected: set[Any] = set()
        while page.locator(".desk").is_visible():  # as far as the browser has images
            image, shown = at(page), labels(page)
            press(page, "1", "Enter")
            if not expected:
                server.kill()  # perhaps before the first one is stored
            expected |= answers(image, shown, (shown[0],))
        assert page.get_by_text("The next images are on their way").count() == 1
        waiting = page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('second-look:')).length")
        assert waiting >= 3
        page.get_by_text("The server does not answer").wait_for(timeout=WAIT_MS)
        server.start()
        sent(page)
        assert set(said(store, "Killed")) == expected
        assert len(said(store, "Killed", counted=False)) == len(expected)
        page.wait_for_function("() => !document.querySelector('.stBidiComponent .trouble')")
        page.locator(".card").first.wait_for(timeout=WAIT_MS)
        image, shown = at(page), labels(page)
        assert image not in {one for one, *_ in expected}
        press(page, "2", "Enter")
        sent(page)
        assert set(said(store, "Killed")) == expected | answers(image, shown, (shown[1],))


def test_a_server_that_was_started_anew_meanwhile_is_found(browser: Any, server: Server, store: votes.Store) -> None:
    """It knows nothing of the part of the page that saves; nothing had been saved before."""
    with at_work(browser, server, "Restarted") as page:
        server.kill()
        server.start()
        page.wait_for_timeout(3_000)
        image, shown = at(page), labels(page)
        press(page, "1", "Enter")
        sent(page)
        assert set(said(store, "Restarted")) == answers(image, shown, (shown[0],))


def test_a_lost_reply_stores_once(browser: Any, server: Server, store: votes.Store) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    context.add_init_script(WATCH)
    page = context.new_page()
    deaf = False
    sockets = []

    def connected(socket: Any) -> None:
        upstream = socket.connect_to_server()
        sockets.append(socket)
        upstream.on_message(lambda message: None if deaf else socket.send(message))

    page.route_web_socket("**/_stcore/stream", connected)
    page.goto(f"{server.url}/annotate?dataset={DATASET}")
    sign_in(page, "Lost reply", "1234")
    page.locator(".card").first.wait_for(timeout=WAIT_MS)
    settle(page)
    expected = set()
    deaf = True
    for _ in range(2):
        image, shown = at(page), labels(page)
        press(page, "1", "Enter")
        expected |= answers(image, shown, (shown[0],))
    page.wait_for_timeout(2_500)
    assert set(said(store, "Lost reply")) == expected  # stored, but the browser does not know
    assert not page.evaluate(ALL_SENT)
    deaf = False
    sockets[-1].close()
    sent(page)
    assert len(said(store, "Lost reply", counted=False)) == len(expected)
    image, shown = at(page), labels(page)
    press(page, "1", "Enter")
    sent(page)
    assert set(said(store, "Lost reply")) == expected | answers(image, shown, (shown[0],))
    context.close()


def test_what_is_refused_is_said_and_kept_until_it_was_seen(browser: Any, server: Server, store: votes.Store) -> None:
    with at_work(browser, server, "Refused") as page:
        image, shown = at(page), labels(page)
        press(page, "1", "Enter")
        sent(page)
        page.evaluate(
            """() => {
              const keep = Storage.prototype.setItem;
              Storage.prototype.setItem = function (key, value) {
                window.kept = key;
                keep.call(this, key, value);
              };
            }"""
        )
        press(page, "1", "Enter")
        sent(page)
        shelf = page.evaluate("() => window.kept.slice(0, window.kept.lastIndexOf(':') + 1)")
        forged = {"id": str(uuid.uuid4()), "sample_id": image, "stage": "annotate", "snapshot": "an earlier one"}
        forged |= {"answers": [{"class_id": 1, "action": "yes", "rank": 1}], "none": False, "comment": "", "ms": 1}
        entry = json.dumps({"made": 1, "one": forged | {"sitting": "before"}})
        page.evaluate("([key, entry]) => localStorage.setItem(key, entry)", [shelf + forged["id"], entry])
        before = said(store, "Refused", counted=False)
        page.reload()
        trouble = page.locator(".trouble")
        trouble.wait_for(timeout=WAIT_MS)
        assert "the results have changed since this image was shown" in trouble.inner_text()
        page.reload()
        trouble.wait_for(timeout=WAIT_MS)
        settle(page)
        assert said(store, "Refused", counted=False) == before
        trouble.get_by_role("button", name="Dismiss").click()
        assert trouble.count() == 0
        assert page.evaluate(ALL_SENT)
        assert {row for row in said(store, "Refused") if row[0] == image} == answers(image, shown, (shown[0],))


def test_a_name_is_one_persons_and_the_browser_knows_it_again(browser: Any, server: Server) -> None:
    with at_work(browser, server, "Own name", "4321") as page:
        address = page.url
        [cookie] = [one for one in page.context.cookies() if one["name"].startswith("second_look_")]
        assert cookie["sameSite"] == "Strict"
        tab = page.context.new_page()
        tab.goto(address)
        tab.locator(".card").first.wait_for(timeout=WAIT_MS)
        stranger = browser.new_context().new_page()
        stranger.goto(address)
        sign_in(stranger, "OWN  name", "0000")
        stranger.get_by_text("is taken, and its PIN is another one").wait_for(timeout=WAIT_MS)
        assert stranger.locator(".card").count() == 0
        stranger.context.close()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("textbox", name="PIN").wait_for(timeout=WAIT_MS)
        settle(page)
        assert not [one for one in page.context.cookies() if one["name"].startswith("second_look_")]
        press(tab, "1", "Enter")  # the other tab says that one is signed out, and keeps what was saved
        tab.get_by_text("You are signed out").wait_for(timeout=WAIT_MS)
        assert not tab.evaluate(ALL_SENT)
        page.reload()
        page.get_by_role("textbox", name="PIN").wait_for(timeout=WAIT_MS)
        sign_in(page, "Own name", "4321")
        page.locator(".card").first.wait_for(timeout=WAIT_MS)
        sent(page)  # what was saved in the other tab meanwhile


def test_the_order_can_be_changed_and_is_in_the_link(
    browser: Any, server: Server, config: Config, store: votes.Store
) -> None:
    source = db.source_of(config.results / "bench.duckdb")
    assert source is not None
    table = db.query(source, "SELECT * FROM queue WHERE starts_with(sample_id, ?)", [f"{DATASET}/"])
    with at_work(browser, server, "Ordering") as page:
        done = votes.standing(store, "annotate").groupby("sample_id")["annotator"].agg(set).to_dict()
        claimed = votes.claims(store)
        choose(page, "What comes next", "Random (unbiased rates)")
        page.wait_for_url("**queue=random**")
        settle(page)
        expected = queue.upcoming(queue.ordered(table, "random"), "Ordering", done, claimed, 2, 2)
        assert at(page) == expected[0]
        press(page, "1", "Enter")
        assert at(page) == expected[1]
        sent(page)


def test_disputed_images_are_decided_once_more(
    browser: Any, server: Server, config: Config, store: votes.Store
) -> None:
    source = db.source_of(config.results / "bench.duckdb")
    assert source is not None
    frame = db.query(
        source, "SELECT sample_id, class_id, rank FROM proposals WHERE starts_with(sample_id, ?)", [DATASET]
    )
    image = sorted(frame["sample_id"].unique())[-1]
    shown = frame.loc[frame["sample_id"] == image].sort_values("rank")["class_id"].astype(int).tolist()
    known = votes.Known(db.snapshot(source)["snapshot_id"], {image: DATASET}, {DATASET: 10})
    for name, yes in (("First", shown[:1]), ("Second", shown[:2])):
        listed = [votes.Answer(k, "yes" if k in yes else "no", i) for i, k in enumerate(shown, start=1)]
        one = votes.Submission(str(uuid.uuid4()), image, "annotate", tuple(listed), False, "", 9, known.snapshot, "s")
        [receipt] = votes.record(store, votes.Annotator(name), [one], known)
        assert receipt.stored
    with at_work(browser, server, "Judge", at="agreement", also="&agree=refine") as page:
        decide(page, store, image, shown)


def decide(page: Any, store: votes.Store, image: str, shown: list[int]) -> None:
    for _ in range(20):  # others may be disputed too: decide them as they are
        if at(page) == image:
            break
        press(page, "Enter")
        sent(page)
    assert at(page) == image
    assert ticked(page) == dict.fromkeys(shown[:2], "yes")
    assert page.get_by_text("Second: yes").count() == 0
    page.get_by_text("Shown", exact=True).click()
    page.get_by_text("Second: yes").first.wait_for(timeout=WAIT_MS)
    settle(page)
    assert at(page) == image
    press(page, digit(page, shown[1]), digit(page, shown[1]))  # yes, unsure, nothing
    assert ticked(page) == {shown[0]: "yes"}
    press(page, "Enter")
    sent(page)
    refined = votes.events(store, annotator="Judge").query("stage == 'refine' and sample_id == @image")
    assert dict(zip(refined["class_id"].astype(int), refined["action"], strict=True)) == {
        k: "yes" if k == shown[0] else "no" for k in shown
    }
    judged = events.judged(votes.events(store), ("annotate",))
    assert set(judged.loc[judged["sample_id"] == image, "annotator"]) >= {"First", "Second"}


def test_the_desk_does_not_scroll_sideways_at_900_pixels(browser: Any, server: Server) -> None:
    with at_work(browser, server, "Narrow") as page:
        page.set_viewport_size({"width": 900, "height": 1000})
        page.wait_for_timeout(500)
        main = "document.querySelector('[data-testid=\"stMain\"]')"
        assert page.evaluate(f"{main}.scrollWidth <= {main}.clientWidth + 2")
