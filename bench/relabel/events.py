"""What annotators do, as events that are only ever added, and what they come to (`counts`). No I/O but JSONL.

A submission is what was saved of one image at once: an event for every label that was judged (yes | no | unsure), one
for "none of these" (none) and one for a comment. Undo and redo are events of their own that name a submission. What
counts is the last submission of an annotator on an image in a stage that is not taken back: saving an image once more,
or in a second tab, replaces what was said before, and loses nothing of it.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import schemas
from bench.errors import BenchError
from bench.store import tables

if TYPE_CHECKING:
    import pandas as pd

ANSWERS = ("yes", "no", "unsure")
"""Actions that are about one label."""
NONE, COMMENT, UNDO, REDO = "none", "comment", "undo", "redo"
ANNOTATE, REFINE = "annotate", "refine"
"""Stages: everyone for themselves, blind to the others; then the disputed images once more."""
FOLDER = "annotations"
"""Under data/: `<annotator>/<sitting>.jsonl`, never changed once written."""
FIELDS = tuple(column for column in schemas.TABLES["votes"].columns if column != "counts")
"""What a line of JSONL holds: the columns of table `votes` but for the one that follows from the others."""
UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_OPTIONAL = {name for name, column in schemas.TABLES["votes"].columns.items() if column.nullable}
_NUMBERS = {name for name, column in schemas.TABLES["votes"].columns.items() if column.kind == "int32"}
MAX_TEXT = 2_000
"""Characters of a comment, or of any other text."""


def event_id(submission: str, action: str, class_id: int | None = None) -> str:
    """The id of an event: the same each time that the same thing is saved, so that it is never stored twice."""
    return str(uuid.uuid5(_NAMESPACE, f"{submission}\n{action if class_id is None else class_id}"))


_NAMESPACE = uuid.UUID("6f8e3c1e-0d3c-5d0b-9d57-0f6e6b6d2a11")


def stem(text: str) -> str:
    """A file name for the name of an annotator, whatever is in it: what is plain of it, and a hash of all of it."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.casefold().encode("ascii", "ignore").decode()).strip("-")[:40]
    return f"{plain or 'annotator'}-{sha256(text.encode()).hexdigest()[:8]}"


def counting(events: pd.DataFrame) -> pd.DataFrame:
    """Events (columns FIELDS) in the order of time, with the column `counts`.

    An event counts where its submission is the last one of its annotator, image and stage that is not taken back.
    An undo or a redo never counts itself; of several about one submission the last is what holds.
    """
    import numpy as np

    events = events.sort_values(["utc", "submission", "event_id"], kind="stable", ignore_index=True)
    moves = events["action"].isin([UNDO, REDO])
    last = events.loc[moves].drop_duplicates(["annotator", "target"], keep="last")
    undone = set(map(tuple, last.loc[last["action"] == UNDO, ["annotator", "target"]].to_numpy()))
    pairs = list(zip(events["annotator"], events["submission"], strict=True))
    standing = ~moves.to_numpy() & np.array([pair not in undone for pair in pairs], bool)
    key = ["annotator", "sample_id", "stage"]
    chosen = events.loc[standing].drop_duplicates(key, keep="last").set_index(key)["submission"]
    wanted = chosen.reindex(events.set_index(key).index).to_numpy(object)
    return events.assign(counts=standing & (wanted == events["submission"].to_numpy(object)))


def line(event: dict[str, Any]) -> str:
    """An event as a line of JSONL: its fields in their order, those without a value left out."""
    kept = {name: event[name] for name in FIELDS if event.get(name) is not None and event[name] == event[name]}
    return json.dumps({k: int(v) if k in _NUMBERS else str(v) for k, v in kept.items()}, ensure_ascii=False)


def parse(text: str, where: object) -> list[dict[str, Any]]:
    """The events of one JSONL file, each with all FIELDS. BenchError, naming the line, where one is no event."""
    found = []
    for number, row in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        try:
            said = json.loads(row)
        except (ValueError, RecursionError) as fault:
            raise _fault(f"line {number} is not JSON: {fault}", where) from None
        if (what := wrong(said)) is not None:
            raise _fault(f"line {number}: {what}", where)
        found.append({name: said.get(name) for name in FIELDS})
    return found


def wrong(said: Any) -> str | None:
    """What is wrong with an event as it was read, in words; None where nothing is."""
    if not isinstance(said, dict):
        return "it is no object"
    for name in FIELDS:
        value = said.get(name)
        if value is None:
            if name not in _OPTIONAL:
                return f"`{name}` is missing"
        elif name in _NUMBERS:
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
                return f"`{name}` is no whole number from 0 on"
        elif not isinstance(value, str) or len(value) > MAX_TEXT or not encodable(value):
            return f"`{name}` is no text of at most {MAX_TEXT:,} characters"
    if unknown := sorted(set(said) - set(FIELDS)):
        return f"`{unknown[0]}` is unknown"
    for name in ("kind", "action", "stage"):
        allowed = schemas.TABLES["votes"].columns[name].allowed or ()
        if said[name] not in allowed:
            return f"`{name}` is {said[name]!r}, none of {', '.join(allowed)}"
    if UTC.fullmatch(said["utc"]) is None:
        return "`utc` is no time such as 2026-01-31T12:00:00.000000Z"
    if (said["action"] in ANSWERS) != (said.get("class_id") is not None):
        return f"{said['action']!r} {'needs a' if said['action'] in ANSWERS else 'has no'} `class_id`"
    if (said["action"] in (UNDO, REDO)) != (said.get("target") is not None):
        return f"{said['action']!r} {'needs a' if said['action'] in (UNDO, REDO) else 'has no'} `target`"
    return None


def encodable(text: str) -> bool:
    """Whether text can be stored anywhere: no NUL, no half of a surrogate pair."""
    return "\x00" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def files(folder: Path) -> list[Path]:
    """Every file of committed annotations, in the order of its path."""
    return sorted(folder.glob("*/*.jsonl"))


def read(folder: Path) -> pd.DataFrame:
    """All committed events, as table `votes` (with `counts`). BenchError where a file is wrong or an id is repeated."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    seen: dict[str, Path] = {}
    for path in files(folder):
        mine = parse(_text(path), path)
        for event in mine:
            other = seen.setdefault(event["event_id"], path)
            if other is not path:
                raise _fault(f"event {event['event_id']} is in {other} too", path)
        if len({event["event_id"] for event in mine}) < len(mine):
            raise _fault("an event is there twice", path)
        rows += mine
    frame = pd.DataFrame(rows, columns=list(FIELDS), dtype=object)
    return schemas.validate("votes", counting(frame), where=folder)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise _fault(f"cannot be read: {fault}", path) from None


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write events as JSONL, in the order of time, whole or not at all."""
    ordered = sorted(rows, key=lambda event: (event["utc"], event["submission"], event["event_id"]))
    with tables.replacing(path) as temporary:
        temporary.write_text("".join(f"{line(event)}\n" for event in ordered), encoding="utf-8")


def unknown(events: pd.DataFrame, dataset_of: Mapping[str, str], n_classes: Mapping[str, int]) -> str | None:
    """What images or classes events are about that there are not, in words; None where all are known.

    dataset_of: sample_id of a test image -> dataset; n_classes: dataset -> its number of classes.
    """
    for sample_id, class_id in zip(events["sample_id"], events["class_id"].astype(object), strict=True):
        if sample_id not in dataset_of:
            return f"{sample_id!r} is no test image here"
        if isinstance(class_id, int | float) and class_id >= n_classes[dataset_of[sample_id]]:
            return f"{sample_id!r} has no class {class_id:.0f}"
    return None


def judged(events: pd.DataFrame, stages: Sequence[str] = (ANNOTATE,)) -> pd.DataFrame:
    """The answers that count, of some stages: rows of `events` whose action is one of ANSWERS."""
    keep = events["counts"] & events["action"].isin(ANSWERS) & events["stage"].isin(stages)
    return events.loc[keep.to_numpy(bool)].astype({"class_id": int})


def _fault(what: str, where: object) -> BenchError:
    remedy = "Restore it with `dvc checkout data`; files of annotations are never edited by hand."
    return BenchError(f"{what}.", where=where, remedy=remedy)
