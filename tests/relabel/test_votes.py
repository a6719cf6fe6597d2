"""The database of votes: who may say what, what is stored once, and what survives. On SQLite and PostgreSQL alike."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bench.config import Config
from bench.errors import BenchError
from bench.relabel import events, votes
from bench.relabel.votes import Answer, Known, Store, Submission
from tests import factory

KNOWN = Known("now", {f"d/{i}": "d" for i in range(50)}, {"d": 10})
ADA, BEN = votes.Annotator("Ada"), votes.Annotator("Ben")


def at(tmp_path: Path, url: str) -> Config:
    config = factory.make_config(tmp_path)
    return config.model_copy(update={"annotations": config.annotations.model_copy(update={"url": url})})


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    return at(tmp_path, "" if request.param == "sqlite" else request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(where: Config) -> Store:
    return votes.connect(where)


def at_once(*work: Callable[[], Any]) -> list[Any]:
    """What functions return that are called at the same time; what one of them raises."""
    gate = threading.Barrier(len(work))

    def run(one: Callable[[], Any]) -> Any:
        gate.wait()
        return one()

    with ThreadPoolExecutor(len(work)) as pool:
        return [future.result() for future in [pool.submit(run, one) for one in work]]


def saved(sample: int = 0, *yes: int, **more: Any) -> Submission:
    answers = tuple(Answer(c, "yes" if c in yes else "no", c + 1) for c in range(3))
    base: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "sample_id": f"d/{sample}",
        "stage": "annotate",
        "answers": answers,
    }
    base |= {"none": not yes, "comment": "", "ms": 1000, "snapshot": "now", "sitting": "t"}
    return Submission(**base | more)


def move(kind: str, target: Submission) -> Submission:
    return saved(0, answers=(), none=False, move=kind, target=target.id)


def test_what_is_saved_twice_is_stored_once(store: Store) -> None:
    one = saved(0, 1)
    first, again = votes.record(store, ADA, [one], KNOWN), votes.record(store, ADA, [one, one], KNOWN)
    assert first == [votes.Receipt(one.id, True)]
    assert again == first * 2
    frame = votes.events(store)
    assert len(frame) == 3
    assert frame["event_id"].is_unique
    assert frame["counts"].all()


def test_undo_and_redo_are_events(store: Store) -> None:
    one, other = saved(0, 1), saved(0, 2)
    votes.record(store, ADA, [one, other], KNOWN)
    back = move("undo", other)
    votes.record(store, ADA, [back], KNOWN)
    assert set(votes.events(store).query("counts")["submission"]) == {one.id}
    assert [(s.id, s.undone) for s in votes.history(store, "Ada", "annotate", 5)] == [(other.id, True), (one.id, False)]
    votes.record(store, ADA, [move("redo", other)], KNOWN)
    assert set(votes.events(store).query("counts")["submission"]) == {other.id}
    votes.record(store, ADA, [move("undo", other), move("undo", one)], KNOWN)
    assert votes.standing(store, "annotate").empty
    assert len(votes.events(store)) == 3 + 3 + 4


def test_nobody_takes_back_what_is_anothers(store: Store) -> None:
    one = saved(0, 1)
    votes.record(store, ADA, [one], KNOWN)
    [receipt] = votes.record(store, BEN, [move("undo", one)], KNOWN)
    assert not receipt.stored
    assert "not yours" in receipt.reason
    [receipt] = votes.record(store, BEN, [one], KNOWN)
    assert not receipt.stored, "an id of somebody else's"
    assert votes.events(store)["counts"].all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"snapshot": "then"}, "the results have changed"),
        ({"sample_id": "d/99"}, "there is no image 'd/99'"),
        ({"answers": (Answer(10, "yes", 1),)}, "there is no class 10"),
    ],
)
def test_a_vote_about_what_there_is_not_is_refused(store: Store, change: dict[str, Any], said: str) -> None:
    good, bad = saved(1, 1), saved(0, 1, **change)
    receipts = {receipt.id: receipt for receipt in votes.record(store, ADA, [bad, good], KNOWN)}
    assert not receipts[bad.id].stored
    assert said in receipts[bad.id].reason
    assert receipts[good.id].stored
    assert set(votes.events(store)["submission"]) == {good.id}


def raw(**change: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "sample_id": "d/0",
        "stage": "annotate",
        "snapshot": "now",
        "ms": 5,
    }
    base |= {"sitting": "t", "answers": [{"class_id": 1, "action": "yes", "rank": 1}], "none": False, "comment": ""}
    return base | change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": "1"}, "`id` is no UUID"),
        ({"id": str(uuid.uuid4()).upper()}, "`id` is no UUID"),
        ({"id": "{" + str(uuid.uuid4()) + "}"}, "`id` is no UUID"),
        ({"id": 7}, "`id` is no text"),
        ({"ms": -1}, "`ms`"),
        ({"ms": True}, "`ms`"),
        ({"stage": "later"}, "`stage`"),
        ({"answers": []}, "nothing is answered"),
        ({"answers": [], "none": True}, "nothing is answered"),
        ({"answers": {}}, "`answers` is no list"),
        ({"answers": [{"class_id": 1, "action": "yes"}] * 2}, "answered twice"),
        ({"answers": [{"class_id": "1", "action": "yes"}]}, "`class_id`"),
        ({"answers": [{"class_id": 1, "action": "perhaps"}]}, "`action`"),
        ({"answers": [{"class_id": 1, "action": "yes", "rank": 0}]}, "`rank`"),
        ({"answers": [{"class_id": 1, "action": "no"}]}, "no label is said to be right"),
        ({"none": True}, "`none` is said beside"),
        ({"comment": "x" * 3000}, "`comment` is no text"),
        ({"comment": "\ud800"}, "`comment` is no text"),
        ({"move": "undo", "answers": [], "target": "x"}, "`target` is no UUID"),
        ({"move": "undo", "target": str(uuid.uuid4())}, "has no answers"),
        ({"move": "away", "answers": [], "target": str(uuid.uuid4())}, "`move`"),
    ],
)
def test_what_a_browser_sends_is_checked(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BenchError, match=said):
        votes.submission(raw(**change))
    assert votes.submission(raw()).answers == (Answer(1, "yes", 1),)
    for nothing in (None, [], "x", 3):
        with pytest.raises(BenchError, match="it is no object"):
            votes.submission(nothing)


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "'; DROP TABLE events; --", "../../etc", "名🦊 \u200dé", "%s{x}"]
)
def test_names_and_comments_come_out_as_text(store: Store, text: str) -> None:
    name = text.replace("\u200d", "")
    who = votes.sign_in(store, name, "1234")
    votes.record(store, who, [saved(0, 1, comment=text)], KNOWN)
    frame = votes.events(store, annotator=who.name)
    assert set(frame["annotator"]) == {" ".join(name.split())}
    assert frame.loc[frame["action"] == "comment", "comment"].tolist() == [text]


def test_a_name_is_somebodys(store: Store) -> None:
    assert votes.sign_in(store, "  Ada   Lovelace ", "1234").name == "Ada Lovelace"
    assert votes.sign_in(store, "ADA lovelace", "1234").name == "Ada Lovelace"
    for name in ("ada lovelace", "Ａda Lovelace"):
        with pytest.raises(BenchError, match="is taken"):
            votes.sign_in(store, name, "4321")
    with pytest.raises(BenchError, match="name of a model"):
        votes.sign_in(store, "Supervised-CNN", "1234", {"supervised-cnn"})
    assert votes.sign_in(store, "Ada\r\nLovelace", "1234").name == "Ada Lovelace"
    assert votes.sign_in(store, "Ada Lovelace\ufe0f", "1234").name == "Ada Lovelace", "drawn alike"
    for name in (
        "",
        "   ",
        "*",
        "x" * 61,
        "a\u202eb",
        "a\u200bb",
        "a\x00b",
        "\u3164",
        "Ada\u034f",
        "a\u115fb",
        "\ud800",
    ):
        with pytest.raises(BenchError, match="name"):
            votes.sign_in(store, name, "1234")
    with pytest.raises(BenchError, match="PIN"):
        votes.sign_in(store, "Ben", "123")


def test_a_pin_is_not_kept(store: Store) -> None:
    votes.sign_in(store, "Ada", "correct horse")
    with store.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM people").all()
    assert "correct horse" not in str(rows)


def test_a_browser_is_known_by_its_token(store: Store) -> None:
    token = votes.issue_token(store, ADA)
    assert votes.by_token(store, token) == ADA
    assert votes.by_token(store, token[:-1]) is None
    votes.revoke(store, token)
    assert votes.by_token(store, token) is None


def test_identities_of_a_provider_keep_their_name(store: Store) -> None:
    votes.sign_in(store, "Ada", "1234")
    one = votes.external(store, "https://id ada-1", "Ada")
    assert one.name == "Ada (2)"
    assert votes.external(store, "https://id ada-1", "Somebody else now") == one
    with pytest.raises(BenchError, match="is taken"):
        votes.sign_in(store, "Ada (2)", "1234")


def test_an_identity_gets_a_name_whatever_it_is_called(store: Store) -> None:
    said = {"": "annotator", " \u3164 ": "annotator (2)", "...": "annotator (3)", "A\u202eda\nL.": "Ada L."}
    said |= {"pixels": "pixels (2)", "\u0958" * 60: "\u0915\u093c" * 27, "x" * 80: "x" * 54}
    for name, expected in said.items():
        assert votes.external(store, f"id of {name}", name, {"Pixels"}).name == expected


def test_two_identities_of_one_name_that_come_at_once_stay_two(where: Config) -> None:
    stores = [votes.connect(where), votes.connect(where)]
    for n in range(20):
        name = f"Ada {n}"
        work = [lambda s=s, i=i, name=name: votes.external(s, f"{name}, {i}", name) for i, s in enumerate(stores)]
        assert {who.name for who in at_once(*work)} == {name, f"{name} (2)"}
        again = [lambda s=s, name=name: votes.external(s, f"{name}, the same", name) for s in stores]
        assert {who.name for who in at_once(*again)} == {f"{name} (3)"}


def test_many_may_make_the_tables_at_once(where: Config) -> None:
    stores = at_once(*[lambda: votes.connect(where)] * 8)
    votes.record(stores[0], ADA, [saved(0, 1)], KNOWN)
    assert {len(votes.events(one)) for one in stores} == {3}


def test_tabs_that_send_the_same_in_another_order_do_not_stop_each_other(where: Config) -> None:
    stores = [votes.connect(where), votes.connect(where)]
    for _ in range(10):
        items = [saved(i, 1) for i in range(30)]
        orders = (items, items[::-1])
        work = [lambda s=s, o=o: votes.record(s, ADA, o, KNOWN) for s, o in zip(stores, orders, strict=True)]
        assert all(receipt.stored for receipts in at_once(*work) for receipt in receipts)
    frame = votes.events(stores[0])
    assert len(frame) == 10 * 30 * 3
    assert frame.drop_duplicates("submission")["utc"].is_unique, "none is stamped with the time of another"


def test_who_reads_keeps_nobody_from_writing_and_a_commit_is_on_disk(tmp_path: Path) -> None:
    store = votes.connect(at(tmp_path, ""))
    votes.record(store, ADA, [saved(0, 1)], KNOWN)
    with votes._reading(store) as connection:
        reading = connection.exec_driver_sql("SELECT event_id FROM events")
        reading.fetchone()
        held: Any = connection.connection.dbapi_connection
        assert not held.in_transaction
        votes.record(store, BEN, [saved(1, 1)], KNOWN)  # would wait for BUSY_SECONDS, and fail
        reading.close()
    for _ in range(3):  # also a connection that was read with before
        with store.engine.begin() as connection:
            said = [connection.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("journal_mode", "synchronous")]
            assert said == ["wal", 2]
        votes.events(store)


@pytest.mark.parametrize("seed", range(4))
def test_what_stands_is_what_counts(store: Store, seed: int) -> None:
    """Two annotators, a few images and both stages, with moves that take back what there is in any order."""
    rng, made = random.Random(seed), {"Ada": [], "Ben": []}
    for _ in range(60):
        who = rng.choice(["Ada", "Ben"])
        if made[who] and rng.random() < 0.5:
            one = move(rng.choice(["undo", "redo"]), rng.choice(made[who]))
        else:
            one = saved(rng.randrange(3), 1, stage=rng.choice(["annotate", "refine"]))
            made[who].append(one)
        assert votes.record(store, votes.Annotator(who), [one], KNOWN)[0].stored
    frame = votes.events(store)
    for stage in ("annotate", "refine"):
        counted = frame.loc[frame["counts"] & (frame["stage"] == stage), ["sample_id", "annotator", "kind"]]
        standing = votes.standing(store, stage)
        assert sorted(standing.to_numpy().tolist()) == sorted(counted.drop_duplicates().to_numpy().tolist())


def test_an_earlier_database_gets_the_index_that_standing_reads(tmp_path: Path) -> None:
    config = at(tmp_path, "")
    with votes.connect(config).engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX events_standing")
    store = votes.connect(config)
    said: list[str] = []
    with votes._reading(store) as connection:

        @sa.event.listens_for(store.engine, "before_cursor_execute")
        def _(_c: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            if "DISTINCT" in statement:
                cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
                said.extend(row[3] for row in cursor.fetchall())

        votes.standing(store, "annotate")
    assert said == ["SEARCH events USING COVERING INDEX events_standing (stage=?)"]


def test_other_content_under_a_stored_id_is_not_acknowledged(store: Store) -> None:
    one = saved(0, 1)
    assert votes.record(store, ADA, [one, one], KNOWN)[1].stored
    taken_back = move("undo", one)
    assert votes.record(store, ADA, [taken_back], KNOWN)[0].stored
    before = len(votes.events(store))
    for other in (
        replace(one, answers=(votes.Answer(1, "no", 1), votes.Answer(2, "yes", 2))),
        replace(one, sample_id="d/1"),
        replace(one, stage="refine"),
        replace(one, comment="another"),
        replace(taken_back, move="redo"),
    ):
        [receipt] = votes.record(store, ADA, [other], KNOWN)
        assert not receipt.stored
        assert "under the same id" in receipt.reason
    assert all(receipt.stored for receipt in votes.record(store, ADA, [one, taken_back], KNOWN))
    assert len(votes.events(store)) == before


def test_votes_that_came_with_the_data_are_somebodys_to_claim(store: Store) -> None:
    assert votes.unclaimed(store, "Ada") == 0
    votes.record(store, ADA, [saved(0, 1), saved(1, 1)], KNOWN)
    votes.record(store, votes.Annotator("Sim", "simulated"), [saved(2, 1)], KNOWN)
    assert votes.unclaimed(store, "  ADA ") == 2
    assert votes.unclaimed(store, "Sim") == votes.unclaimed(store, "Ben") == 0
    with pytest.raises(BenchError, match="simulated annotator"):
        votes.sign_in(store, "sim", "1234")
    assert votes.external(store, "https://id 0", "Sim").name == "Sim (2)"
    assert votes.external(store, "https://id 1", "Ada").name == "Ada (2)"
    assert votes.sign_in(store, "ADA", "1234").name == "Ada", "as the votes spell it"
    assert votes.unclaimed(store, "Ada") == 0


def test_what_is_latest_changes_with_every_event(store: Store) -> None:
    seen = [votes.latest(store)]
    for one in (saved(0, 1), saved(1, 1)):
        votes.record(store, ADA, [one], KNOWN)
        seen.append(votes.latest(store))
    assert len(set(seen)) == 3
    votes.record(store, ADA, [saved(2, 1)][:0], KNOWN)
    assert votes.latest(store) == seen[-1]


def test_committed_events_are_taken_over_once(store: Store, tmp_path: Path) -> None:
    config = factory.make_results(tmp_path / "other", n=40, annotated=True)
    folder = config.data / events.FOLDER
    committed = events.read(folder)
    assert votes.sync(store, folder) == len(committed)
    assert votes.sync(store, folder) == 0
    frame = votes.events(store)
    assert frame.sort_values("event_id", ignore_index=True).equals(committed.sort_values("event_id", ignore_index=True))
    standing = votes.standing(store, "annotate")
    counted = events.judged(committed)
    told = committed.loc[committed["counts"] & (committed["stage"] == "annotate"), ["sample_id", "annotator"]]
    assert set(map(tuple, standing[["sample_id", "annotator"]].to_numpy())) == set(map(tuple, told.to_numpy()))
    assert len(counted)


def test_claims_lapse(store: Store) -> None:
    votes.claim(store, "Ada", ["d/0", "d/1"], 60)
    votes.claim(store, "Ben", ["d/1"], -1)
    assert votes.claims(store) == {"d/0": {"Ada"}, "d/1": {"Ada"}}
    votes.claim(store, "Ada", ["d/2"], 60)
    assert votes.claims(store) == {"d/2": {"Ada"}}


def test_time_only_goes_forward_and_pace_is_of_the_last(store: Store) -> None:
    assert votes.pace(store, "Ada") is None
    for i in range(30):
        votes.record(store, ADA, [saved(i, 1, ms=9000 if i < 10 else 2000)], KNOWN)
    frame = votes.events(store).sort_values("utc").drop_duplicates("submission")
    assert frame["utc"].is_unique
    assert frame["sample_id"].tolist() == [f"d/{i}" for i in range(30)]
    assert votes.pace(store, "Ada") == 2000


def test_many_at_once_lose_nothing(store: Store) -> None:
    """Eight threads save the same and other images at once."""
    every = [[saved(i, 1) for i in range(10)] for _ in range(8)]

    def work(n: int) -> None:
        for one in every[n]:
            assert votes.record(store, votes.Annotator(f"a{n}"), [one], KNOWN)[0].stored

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    frame = votes.events(store)
    assert len(frame) == 8 * 10 * 3
    assert len(votes.standing(store, "annotate")) == 80


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:secret@127.0.0.1:1/x",
        "postgresql://me:secret@127.0.0.1:1/x",
        "postgresql+psycopg://127.0.0.1:1/x?user=me&password=secret",
        "postgresql+psycopg://me:secret@127.0.0.1:port/x",
        "postgresql+nodriver://me:secret@127.0.0.1:1/x",
        "nonsense",
        "mysql://x/y",
        "sqlite:////no/such/folder/x",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:x?mode=memory&uri=true",
    ],
)
def test_a_database_that_cannot_keep_votes_is_an_error_in_words(tmp_path: Path, url: str) -> None:
    with pytest.raises(BenchError, match="cannot be opened") as caught:
        votes.connect(at(tmp_path, url))
    assert "secret" not in str(caught.value)
    assert "params.yaml" in caught.value.remedy


def test_a_folder_that_cannot_be_made_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / votes.FOLDER).write_text("no folder")
    with pytest.raises(BenchError, match="cannot be opened"):
        votes.connect(at(tmp_path, ""))


def test_postgresql_is_reached_by_its_plain_name(postgres_url: str, tmp_path: Path) -> None:
    url = postgres_url.replace("postgresql+psycopg", "postgresql").replace("tester@", "tester:secret@")
    store = votes.connect(at(tmp_path, f"{url}?application_name=x&password=secret"))
    assert votes.record(store, ADA, [saved(0, 1)], KNOWN)[0].stored
    assert "secret" not in store.url
    assert "application_name=x" in store.url
