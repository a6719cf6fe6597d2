"""Events: what counts of them, whatever the order in which they arrive; files that hold them; names as file names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.relabel import events

TRICKS = (
    "../../x",
    "CON",
    "a/b",
    "<b>x</b>",
    "'; DROP TABLE events; --",
    "\u202eevil",
    "ﬁ",
    "名前",
    "🦊",
    "." * 30,
    "-",
    "ß",
)


def event(submission: str, n: int, action: str = "yes", class_id: int | None = 1, **more: Any) -> dict[str, Any]:
    """An event at the n-th microsecond."""
    base: dict[str, Any] = dict.fromkeys(events.FIELDS)
    base |= {"sample_id": "d/0", "annotator": "Ada", "kind": "human", "stage": events.ANNOTATE, "ms_spent": 1}
    base |= {"snapshot": "s", "sitting": "t", "utc": f"2026-01-01T00:00:00.{n:06d}Z", "submission": submission}
    base |= {"class_id": class_id, "action": action, "event_id": events.event_id(submission, action, class_id)}
    return base | more


def undo(target: str, n: int, action: str = "undo", **more: Any) -> dict[str, Any]:
    return event(f"{action} {target} {n}", n, action, None, target=target, **more)


def counting(*rows: dict[str, Any]) -> set[str]:
    """Submissions that count."""
    found = events.counting(pd.DataFrame(rows, columns=list(events.FIELDS), dtype=object))
    return set(found.loc[found["counts"], "submission"])


def test_the_last_submission_counts() -> None:
    assert counting(event("a", 1), event("b", 2)) == {"b"}
    assert counting(event("b", 2), event("a", 1)) == {"b"}
    assert counting(event("a", 1), event("b", 2, sample_id="d/1")) == {"a", "b"}
    assert counting(event("a", 1), event("b", 2, annotator="Ben")) == {"a", "b"}
    assert counting(event("a", 1), event("b", 2, stage=events.REFINE)) == {"a", "b"}


def test_what_is_taken_back_does_not_count_and_what_was_before_does_again() -> None:
    assert counting(event("a", 1), undo("a", 2)) == set()
    assert counting(event("a", 1), event("b", 2), undo("b", 3)) == {"a"}
    assert counting(event("a", 1), undo("a", 2), undo("a", 3, "redo")) == {"a"}
    assert counting(event("a", 1), undo("a", 2), undo("a", 3, "redo"), undo("a", 4)) == set()
    assert counting(event("a", 1), undo("a", 2, annotator="Ben")) == {"a"}, "nobody takes back what is another's"


@given(st.lists(st.sampled_from(["save", "undo", "redo"]), max_size=12), st.randoms())
def test_order_of_arrival_and_repetition_make_no_difference(moves: list[str], random: Any) -> None:
    rows, saved, undone = [], [], set()
    for n, move in enumerate(moves, start=1):
        if move == "save":
            saved.append(f"s{n}")
            rows.append(event(f"s{n}", n))
        elif saved:
            rows.append(undo(saved[-1], n, move))
            (undone.add if move == "undo" else undone.discard)(saved[-1])
    standing = [one for one in saved if one not in undone]
    expected = {standing[-1]} if standing else set()
    shuffled = random.sample(rows, len(rows))
    assert counting(*shuffled) == expected
    twice = pd.DataFrame(rows + shuffled, columns=list(events.FIELDS), dtype=object).drop_duplicates("event_id")
    assert set(events.counting(twice).query("counts")["submission"]) == expected


MOVES = st.tuples(
    st.sampled_from(["save", "undo", "redo"]),
    st.sampled_from(["Ada", "Ben"]),
    st.sampled_from(["d/0", "d/1"]),
    st.sampled_from([events.ANNOTATE, events.REFINE]),
    st.integers(0, 8),
)


@given(st.lists(MOVES, max_size=20), st.randoms())
def test_two_people_in_two_tabs_come_to_what_a_plain_reading_says(moves: list[Any], random: Any) -> None:
    """Each tab takes back what it likes, also what was saved in the other tab or by the other annotator."""
    rows: list[dict[str, Any]] = []
    saved: list[dict[str, Any]] = []
    for n, (move, who, image, stage, which) in enumerate(moves, start=1):
        if move == "save":
            saved.append(event(f"s{n}", n, annotator=who, sample_id=image, stage=stage))
            rows.append(saved[-1])
        elif saved:
            rows.append(undo(saved[which % len(saved)]["submission"], n, move, annotator=who))
    expected: dict[tuple[str, ...], str] = {}
    for one in saved:  # in the order of time
        said = [r["action"] for r in rows if (r["target"], r["annotator"]) == (one["submission"], one["annotator"])]
        if not said or said[-1] == "redo":
            expected[one["annotator"], one["sample_id"], one["stage"]] = one["submission"]
    assert counting(*random.sample(rows, len(rows))) == set(expected.values())


def test_files_say_what_they_were_written_from(tmp_path: Path) -> None:
    rows = [
        event("a", 1),
        event("a", 1, "no", 2, rank_shown=2),
        event("a", 1, "comment", None, comment="<b>\n“7”?\u2028\x85x"),
    ]
    path = tmp_path / "who" / "sitting.jsonl"
    events.write(path, rows[::-1])
    assert sorted(events.parse(path.read_text(), path), key=str) == sorted(rows, key=str)
    frame = events.read(tmp_path)
    assert frame["counts"].all()
    assert frame.loc[frame["action"] == "comment", "comment"].tolist() == ["<b>\n“7”?\u2028\x85x"]
    assert path.read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"utc": "yesterday"}, "`utc` is no time"),
        ({"action": "maybe"}, "`action` is 'maybe'"),
        ({"class_id": None}, "needs a `class_id`"),
        ({"class_id": "1"}, "`class_id` is no whole number"),
        ({"class_id": True}, "`class_id` is no whole number"),
        ({"action": "none"}, "has no `class_id`"),
        ({"target": "x"}, "has no `target`"),
        ({"annotator": None}, "`annotator` is missing"),
        ({"annotator": "x" * 2001}, "`annotator` is no text"),
        ({"annotator": "a\x00b"}, "`annotator` is no text"),
        ({"more": 1}, "`more` is unknown"),
    ],
)
def test_a_wrong_event_is_refused(change: dict[str, Any], said: str) -> None:
    row = {key: value for key, value in (event("a", 1) | change).items() if value is not None}
    assert said in str(events.wrong(row))
    assert events.wrong({key: value for key, value in event("a", 1).items() if value is not None}) is None


def test_a_file_that_is_broken_or_repeats_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.jsonl"
    events.write(path, [event("a", 1)])
    good = path.read_text()
    for text, said in ((good + "{", "line 2 is not JSON"), (good * 2, "is there twice"), ("[1]\n", "it is no object")):
        path.write_text(text)
        with pytest.raises(BenchError, match=said) as caught:
            events.read(tmp_path)
        assert caught.value.where == str(path)
    path.write_text(good)
    events.write(tmp_path / "c" / "d.jsonl", [event("a", 1)])
    with pytest.raises(BenchError, match="is in"):
        events.read(tmp_path)


def test_no_files_are_no_events(tmp_path: Path) -> None:
    assert events.read(tmp_path).empty
    assert events.read(tmp_path / "missing").empty


@pytest.mark.parametrize("name", TRICKS)
def test_any_name_is_a_file_name_of_its_own(tmp_path: Path, name: str) -> None:
    stem = events.stem(name)
    assert (tmp_path / f"{stem}.jsonl").resolve().parent == tmp_path.resolve()
    assert all(c.isascii() and (c.isalnum() or c == "-") for c in stem)
    assert len({events.stem(one) for one in TRICKS}) == len(TRICKS)
