"""Where votes are kept until they are committed: events that are only ever added, in SQLite or PostgreSQL.

What a browser sends may come twice, late, or from two tabs: the id of an event follows from what was saved, and one
that is there already is left as it is, so that saving again stores nothing twice. An acknowledged vote is on disk
(SQLite in WAL mode with synchronous=FULL). Taking back is an event too (bench/relabel/events.py).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from bench import schemas
from bench.config import Config
from bench.errors import BenchError
from bench.relabel import events as vocabulary
from bench.relabel.events import ANNOTATE, ANSWERS, COMMENT, FIELDS, NONE, REDO, REFINE, UNDO

if TYPE_CHECKING:
    import pandas as pd

FOLDER = ".annotations"
FILE = "votes.sqlite"
MAX_NAME, MIN_PIN, MAX_PIN = 60, 4, 64
MAX_ANSWERS = 1_000
"""Labels that can be judged at once."""
MAX_MS = 3_600_000
BUSY_SECONDS = 30
PACE = 20
"""Images that the pace of an annotator is taken from."""

_META = sa.MetaData()
_KINDS = {"int32": sa.Integer, "str": sa.Text}
_EVENTS = sa.Table(
    "events",
    _META,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    *(
        sa.Column(name, _KINDS[column.kind], nullable=column.nullable, unique=name == "event_id")
        for name, column in schemas.TABLES["votes"].columns.items()
        if name in FIELDS
    ),
    sa.Index("events_annotator", "annotator", "stage", "utc"),
    sa.Index("events_submission", "submission"),
    sa.Index("events_target", "target"),
    sa.Index(  # all that `standing` reads, so that it reads no more
        "events_standing",
        *("stage", "sample_id", "annotator", "kind", "submission", "target"),
        sqlite_where=sa.text("target IS NULL"),
        postgresql_where=sa.text("target IS NULL"),
    ),
)
_PEOPLE = sa.Table(
    "people",
    _META,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("pin", sa.Text),
    sa.Column("subject", sa.Text, unique=True),
)
_TOKENS = sa.Table(
    "tokens",
    _META,
    sa.Column("sha256", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
)
_CLAIMS = sa.Table(
    "claims",
    _META,
    sa.Column("sample_id", sa.Text, primary_key=True),
    sa.Column("annotator", sa.Text, primary_key=True),
    sa.Column("until", sa.Float, nullable=False),
)


@dataclass(frozen=True)
class Store:
    """A database of votes. `url` has no password in it. Connections are thread-safe."""

    engine: sa.Engine
    url: str


@dataclass(frozen=True)
class Annotator:
    """One who annotates."""

    name: str
    kind: str = "human"


@dataclass(frozen=True)
class Answer:
    """yes, no or unsure to one label; `rank`: the place at which it was shown, None where it was searched for."""

    class_id: int
    action: str
    rank: int | None = None


@dataclass(frozen=True)
class Submission:
    """What is saved of one image at once. With `move` (undo | redo) it has no answers, and `target` is a submission."""

    id: str
    sample_id: str
    stage: str
    answers: tuple[Answer, ...]
    none: bool
    comment: str
    ms: int
    snapshot: str
    sitting: str
    move: str = ""
    target: str = ""


@dataclass(frozen=True)
class Known:
    """What can be judged: the results that are shown, each test image's dataset, and how many classes that has."""

    snapshot: str
    dataset_of: Mapping[str, str]
    n_classes: Mapping[str, int]


@dataclass(frozen=True)
class Receipt:
    """Whether a submission is stored (now, or since before), and if not, why."""

    id: str
    stored: bool
    reason: str = ""


@dataclass(frozen=True)
class Said:
    """A submission as it was stored, and whether it is taken back."""

    id: str
    sample_id: str
    answers: tuple[Answer, ...]
    none: bool
    comment: str
    undone: bool
    utc: str = field(default="")


def connect(config: Config) -> Store:
    """Open the database of `annotations.url` (or SQLite under .annotations/), and make its tables where they are not.

    BenchError where it cannot be reached, or its driver is not installed.
    """
    shown = "(not an address)"
    try:
        url = _address(config)
        shown = _shown(url)
        engine = sa.create_engine(url, pool_pre_ping=True, **_options(url))
        if url.get_backend_name() == "sqlite":
            _prepare_sqlite(engine)
        with engine.begin() as connection:
            _wait_for(connection, _TABLES)  # two that start at once would both make the tables
            _META.create_all(connection, checkfirst=True)
            for index in _EVENTS.indexes:  # of a database that an earlier version made, too
                index.create(connection, checkfirst=True)
    except (SQLAlchemyError, ImportError, OSError, ValueError) as fault:
        raise BenchError(
            f"the database of votes cannot be opened: {_plain(fault)}.",
            where=f"annotations.url {shown}",
            remedy="Correct the address in params.yaml, start the database, or install its driver "
            "(`pip install secondlook[postgres]`).",
        ) from None
    return Store(engine, shown)


def _address(config: Config) -> sa.URL:
    """Where the database is. ArgumentError, ValueError or OSError where it cannot be anywhere."""
    if not config.annotations.url:
        (config.root / FOLDER).mkdir(exist_ok=True)
        return sa.URL.create("sqlite", database=str(config.root / FOLDER / FILE))
    url = sa.make_url(config.annotations.url)
    if url.get_backend_name() == "sqlite" and (
        url.database in (None, "", ":memory:")
        or str(url.database).startswith("file::memory:")
        or url.query.get("mode") == "memory"
    ):
        raise ArgumentError("votes that are kept in memory are lost with the process; name a file")
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _options(url: sa.URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY_SECONDS, "check_same_thread": False}}
    if url.get_backend_name() != "postgresql":
        raise ArgumentError(f"{url.get_backend_name()!r} is neither sqlite nor postgresql")
    return {}


_TABLES, _RECORD = 7326001, 7326002
"""Numbers by which PostgreSQL tells apart what is waited for."""


def _wait_for(connection: sa.Connection, number: int, name: str = "") -> None:
    """On PostgreSQL, let nobody else who waits for the same into this transaction; on SQLite one writes at a time."""
    if connection.dialect.name == "postgresql":
        said = sa.text("SELECT pg_advisory_xact_lock(:number, hashtext(:name))")
        connection.execute(said, {"number": number, "name": name})


def _prepare_sqlite(engine: sa.Engine) -> None:
    """WAL, synced at each commit; and transactions that write take their lock when they begin, so that none fails."""

    @event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={1000 * BUSY_SECONDS}"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":  # who only reads locks nothing
            connection.exec_driver_sql("BEGIN IMMEDIATE")


def _reading(store: Store) -> sa.Connection:
    """A connection that reads what is committed, and locks nothing."""
    return store.engine.connect().execution_options(isolation_level="AUTOCOMMIT")


def _shown(url: sa.URL) -> str:
    """An address without a password, wherever one stands in it."""
    secret = [key for key in url.query if "password" in key.lower()]
    return url.difference_update_query(secret).render_as_string(hide_password=True)


def _plain(fault: BaseException) -> str:
    said = str(getattr(fault, "orig", None) or fault).strip().splitlines()
    return re.sub(r"://[^@\s]*@", "://***@", said[0] if said else type(fault).__name__).rstrip(".")


def _insert(store: Store, table: sa.Table, rows: Sequence[Mapping[str, Any]], connection: sa.Connection) -> None:
    """Insert rows; those whose key is there already are left as they are."""
    dialect = postgresql if store.engine.dialect.name == "postgresql" else sqlite
    if rows:
        connection.execute(dialect.insert(table).on_conflict_do_nothing(), list(rows))


# Who annotates


_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks of which nothing is seen, beside what Unicode counts as control and format characters."""
_STYLE = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Variation selectors: how the character before them is drawn, as in many emoji."""


def _unseen(c: str) -> bool:
    return c in _BLANK or (unicodedata.category(c)[0] == "C" and not c.isspace())


def folded(name: str) -> str:
    """What names are told apart by: compatible characters, case, style and white space make no difference."""
    plain = unicodedata.normalize("NFKC", _STYLE.sub("", name)).casefold()
    return " ".join(unicodedata.normalize("NFKC", plain).split())


def clean(name: str) -> str:
    """A name as it is kept. BenchError where it is empty, too long, or holds what cannot be seen."""
    if any(map(_unseen, name)):
        raise _refused("the name has characters that cannot be seen", "Leave them out.")
    name = " ".join(unicodedata.normalize("NFC", name).split())
    if not any(c.isalnum() for c in name) or len(name) > MAX_NAME:
        raise _refused(f"a name has 1 to {MAX_NAME} characters, one of them a letter or a digit", "Choose another one.")
    return name


def sign_in(store: Store, name: str, pin: str, reserved: Collection[str] = frozenset()) -> Annotator:
    """The annotator of that name. The first time, the name is registered with this PIN; later it must be the same one.

    That keeps anybody from taking another's name by mistake; it is no protection against who wants to (use OIDC).
    Votes that are here under a name that nobody registered (a fresh clone has them) are the one's who registers it,
    and it is spelled as they spell it: `unclaimed` says of how many images they are, to be asked for first.
    BenchError where the PIN is another one, or the name cannot be had: `reserved` ones are models and simulated.
    """
    name, key = clean(name), folded(name)
    if key in {folded(one) for one in reserved} or (key in _voted(store, people=False)):
        raise _refused(f"{name!r} is the name of a model or of a simulated annotator", "Choose another name.")
    if not MIN_PIN <= len(pin) <= MAX_PIN:
        raise _refused(f"a PIN has {MIN_PIN} to {MAX_PIN} characters", "Choose another one.")
    with _reading(store) as connection:
        found = connection.execute(sa.select(_PEOPLE).where(_PEOPLE.c.key == key)).first()
    if found is None:
        name = _voted(store).get(key, name)
        with store.engine.begin() as connection:
            _insert(store, _PEOPLE, [{"key": key, "name": name, "pin": _hashed(pin), "subject": None}], connection)
            found = connection.execute(sa.select(_PEOPLE).where(_PEOPLE.c.key == key)).one()
    if found.pin is None or not _matches(pin, found.pin):
        raise _refused(
            f"{found.name!r} is taken, and its PIN is another one",
            "If that is you, try your PIN again; if not, choose another name.",
        )
    return Annotator(found.name)


def unclaimed(store: Store, name: str) -> int:
    """How many images were annotated under a name that nobody registered here; 0 where somebody did."""
    key = folded(name)
    with _reading(store) as connection:
        if connection.execute(sa.select(_PEOPLE.c.key).where(_PEOPLE.c.key == key)).first() is not None:
            return 0
        spelled = _voted(store).get(key)
        images = sa.select(sa.func.count(sa.distinct(_EVENTS.c.sample_id))).where(_EVENTS.c.annotator == spelled)
        return 0 if spelled is None else int(connection.execute(images).scalar_one())


def _voted(store: Store, *, people: bool = True) -> dict[str, str]:
    """Names of people (or of all others) under which there are votes, by what they are told apart by."""
    human = _EVENTS.c.kind == "human"
    names = sa.select(_EVENTS.c.annotator).where(human if people else ~human).distinct()
    with _reading(store) as connection:
        return {folded(one): one for one in connection.execute(names).scalars()}


def external(store: Store, subject: str, name: str, reserved: Collection[str] = frozenset()) -> Annotator:
    """The annotator of an identity that was checked elsewhere (OIDC).

    A name that somebody else has, that is reserved, or under which there are votes already, gets a number: whose these
    are cannot be told from a name. One that cannot be a name becomes `annotator`.
    """
    mine = sa.select(_PEOPLE.c.name).where(_PEOPLE.c.subject == subject)
    with _reading(store) as connection:
        if (found := connection.execute(mine).scalar()) is not None:
            return Annotator(found)
    base, taken = _given(name), {folded(one) for one in reserved}
    taken |= _voted(store).keys() | _voted(store, people=False).keys()
    with store.engine.begin() as connection:
        number = 1
        while (found := connection.execute(mine).scalar()) is None:  # another may take the name, or be the same, now
            wanted = base if number == 1 else f"{base} ({number})"
            row = {"key": folded(wanted), "name": wanted, "pin": None, "subject": subject}
            _insert(store, _PEOPLE, [] if row["key"] in taken else [row], connection)
            number += 1
    return Annotator(found)


def _given(name: str) -> str:
    """What can be kept of a name that nobody here typed, with room for a number."""
    seen = "".join(c for c in name if not _unseen(c))
    try:
        return clean(" ".join(unicodedata.normalize("NFC", seen).split())[: MAX_NAME - 6])
    except BenchError:
        return "annotator"


def issue_token(store: Store, annotator: Annotator) -> str:
    """A secret by which a browser is known again."""
    token = secrets.token_urlsafe(32)
    with store.engine.begin() as connection:
        _insert(store, _TOKENS, [{"sha256": _digest(token), "name": annotator.name}], connection)
    return token


def by_token(store: Store, token: str) -> Annotator | None:
    """Whose secret it is; None where it is nobody's."""
    with _reading(store) as connection:
        name = connection.execute(sa.select(_TOKENS.c.name).where(_TOKENS.c.sha256 == _digest(token))).scalar()
    return None if name is None else Annotator(name)


def revoke(store: Store, token: str) -> None:
    """Forget a secret."""
    with store.engine.begin() as connection:
        connection.execute(sa.delete(_TOKENS).where(_TOKENS.c.sha256 == _digest(token)))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _hashed(pin: str, salt: bytes | None = None) -> str:
    salt = secrets.token_bytes(16) if salt is None else salt
    return f"{salt.hex()}:{hashlib.scrypt(pin.encode('utf-8', 'replace'), salt=salt, n=2**14, r=8, p=1).hex()}"


def _matches(pin: str, held: str) -> bool:
    return hmac.compare_digest(_hashed(pin, bytes.fromhex(held.split(":")[0])), held)


def _refused(what: str, remedy: str) -> BenchError:
    return BenchError(f"{what}.", where="sign-in", remedy=remedy)


# What is saved


def submission(raw: Any) -> Submission:
    """What a browser sent, checked. BenchError saying what is wrong with it."""
    if not isinstance(raw, dict):
        raise _wrong("it is no object")
    texts = {key: raw.get(key, "") for key in ("id", "sample_id", "stage", "comment", "snapshot", "sitting")}
    texts |= {key: raw.get(key, "") for key in ("move", "target")}
    for key, text in texts.items():
        if not isinstance(text, str) or len(text) > vocabulary.MAX_TEXT or not vocabulary.encodable(text):
            raise _wrong(f"`{key}` is no text of at most {vocabulary.MAX_TEXT:,} characters")
    for key in ("id", *(["target"] if texts["move"] else [])):
        if _UUID.fullmatch(texts[key]) is None:  # one spelling: an id is told by its text
            raise _wrong(f"`{key}` is no UUID")
    ms, none, listed = raw.get("ms", 0), raw.get("none", False), raw.get("answers", [])
    if not isinstance(ms, int) or isinstance(ms, bool) or ms < 0:
        raise _wrong("`ms` is no whole number from 0 on")
    if not isinstance(none, bool) or not isinstance(listed, list) or len(listed) > MAX_ANSWERS:
        raise _wrong(f"`answers` is no list of at most {MAX_ANSWERS} answers, or `none` neither true nor false")
    answers = tuple(_answer(one) for one in listed)
    if len({answer.class_id for answer in answers}) < len(answers):
        raise _wrong("a label is answered twice")
    if texts["stage"] not in (ANNOTATE, REFINE):
        raise _wrong("`stage` is neither annotate nor refine")
    if texts["move"] not in ("", UNDO, REDO):
        raise _wrong("`move` is neither undo nor redo")
    if bool(texts["move"]) == bool(answers) or (texts["move"] and none):
        raise _wrong("nothing is answered" if not texts["move"] else f"{texts['move']} has no answers")
    if none and any(answer.action != "no" for answer in answers):
        raise _wrong("`none` is said beside a label that is not answered with no")
    if not none and answers and all(answer.action == "no" for answer in answers):
        raise _wrong("no label is said to be right, and `none` is not said either")
    return Submission(answers=answers, none=none, ms=min(ms, MAX_MS), **texts)


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _answer(raw: Any) -> Answer:
    if not isinstance(raw, dict):
        raise _wrong("an answer is no object")
    class_id, action, rank = raw.get("class_id"), raw.get("action"), raw.get("rank")
    if not isinstance(class_id, int) or isinstance(class_id, bool) or not 0 <= class_id < 2**31:
        raise _wrong("`class_id` is no whole number from 0 on")
    if action not in ANSWERS:
        raise _wrong(f"`action` is none of {', '.join(ANSWERS)}")
    if rank is not None and (not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank < 2**31):
        raise _wrong("`rank` is no place from 1 on")
    return Answer(class_id, action, rank)


def _wrong(what: str) -> BenchError:
    return BenchError(f"{what}.", where="a submission", remedy="Reload the page.")


def record(store: Store, annotator: Annotator, submissions: Sequence[Submission], known: Known) -> list[Receipt]:
    """Store submissions in one transaction, those that are stored already once more as they are; a receipt for each.

    Refused, with a reason, are images and classes that there are not, what was seen in other results than `known`,
    taking back what is not one's own, and other content under an id that is stored. A refused one keeps none of the
    others from being stored.
    """
    if not submissions:
        return []
    receipts = []
    with store.engine.begin() as connection:
        _wait_for(connection, _RECORD, annotator.name)  # two tabs that send the same would wait for each other
        mine = {one.id for one in submissions} | {one.target for one in submissions if one.move}
        stored, foreign = _stored(connection, annotator, mine)
        clock = _clock(connection, annotator)
        rows: list[dict[str, Any]] = []
        for one in submissions:
            if one.id in stored:
                same = stored[one.id] == _held(one, stored)
                receipts.append(Receipt(one.id, same, "" if same else _OTHER))
                continue
            reason = _FOREIGN if one.id in foreign else _fault(one, known, stored)
            receipts.append(Receipt(one.id, not reason, reason))
            if not reason:
                stored[one.id] = _held(one, stored)
                rows += _rows(one, annotator, next(clock), stored)
        _insert(store, _EVENTS, rows, connection)
    return receipts


_FOREIGN = "somebody else saved something under the same id: reload the page"


_OTHER = "something else was saved under the same id: reload the page"


@dataclass(frozen=True)
class _Held:
    """What is stored of a submission: its image and stage, and action, class, comment and target of its events."""

    sample_id: str
    stage: str
    said: frozenset[tuple[str, int | None, str | None, str | None]]


def _held(one: Submission, stored: Mapping[str, _Held]) -> _Held:
    """What would be stored of a submission."""
    sample_id, stage = (one.sample_id, one.stage)
    if one.move and one.target in stored:
        sample_id, stage = stored[one.target].sample_id, stored[one.target].stage
    return _Held(sample_id, stage, frozenset(_said(one)))


def _said(one: Submission) -> list[tuple[str, int | None, str | None, str | None]]:
    """Action, class, comment and target of the events of a submission."""
    if one.move:
        return [(one.move, None, None, one.target)]
    said: list[tuple[str, int | None, str | None, str | None]]
    said = [(answer.action, answer.class_id, None, None) for answer in one.answers]
    said += [(NONE, None, None, None)] if one.none else []
    return said + ([(COMMENT, None, one.comment, None)] if one.comment.strip() else [])


def _stored(connection: sa.Connection, annotator: Annotator, ids: set[str]) -> tuple[dict[str, _Held], set[str]]:
    """What is stored of the annotator's submissions with these ids; and the ids that are somebody else's."""
    rows = connection.execute(sa.select(_EVENTS).where(_EVENTS.c.submission.in_(ids))).all()
    mine: dict[str, list[Any]] = {}
    for row in rows:
        if row.annotator == annotator.name:
            mine.setdefault(row.submission, []).append(row)
    held = {
        one: _Held(of[0].sample_id, of[0].stage, frozenset((r.action, r.class_id, r.comment, r.target) for r in of))
        for one, of in mine.items()
    }
    return held, {row.submission for row in rows} - set(mine)


def _fault(one: Submission, known: Known, stored: Collection[str]) -> str:
    """Why a submission cannot be stored; empty where it can."""
    if one.move:
        return "" if one.target in stored else "what is to be taken back is not yours, or was never saved"
    if one.snapshot != known.snapshot:
        return "the results have changed since this image was shown: reload the page and answer it again"
    if one.sample_id not in known.dataset_of:
        return f"there is no image {one.sample_id[:80]!r} in these results"
    n_classes = known.n_classes[known.dataset_of[one.sample_id]]
    outside = next((answer.class_id for answer in one.answers if answer.class_id >= n_classes), None)
    return "" if outside is None else f"there is no class {outside}: this set has {n_classes}"


def _rows(one: Submission, annotator: Annotator, utc: str, stored: Mapping[str, _Held]) -> list[dict[str, Any]]:
    held, ranks = stored[one.id], {answer.class_id: answer.rank for answer in one.answers}
    common = dict.fromkeys(FIELDS) | {
        "sample_id": held.sample_id,
        "annotator": annotator.name,
        "kind": annotator.kind,
        "stage": held.stage,
        "utc": utc,
        "ms_spent": one.ms,
        "submission": one.id,
        "snapshot": one.snapshot,
        "sitting": one.sitting,
    }
    return [
        common
        | {
            "event_id": vocabulary.event_id(one.id, action, class_id),
            "action": action,
            "class_id": class_id,
            "rank_shown": None if class_id is None else ranks[class_id],
            "comment": comment,
            "target": target,
        }
        for action, class_id, comment, target in _said(one)
    ]


_LOCK = threading.Lock()
_last = datetime.min.replace(tzinfo=UTC)


def _clock(connection: sa.Connection, annotator: Annotator) -> Any:
    """Times that only go forward: in this process, and after what the annotator saved before."""
    latest = connection.execute(
        sa.select(sa.func.max(_EVENTS.c.utc)).where(_EVENTS.c.annotator == annotator.name)
    ).scalar()
    after = datetime.strptime(latest, _FORMAT).replace(tzinfo=UTC) if latest else datetime.min.replace(tzinfo=UTC)
    global _last
    while True:
        with _LOCK:
            _last = after = max(datetime.now(UTC), *(one + timedelta(microseconds=1) for one in (_last, after)))
        yield after.strftime(_FORMAT)


_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


# What is there


def events(store: Store, *, annotator: str | None = None, dataset: str | None = None) -> pd.DataFrame:
    """Table `votes`: every event, by whom and of which set is asked for, with what counts of them."""
    import pandas as pd

    wanted = sa.select(*(_EVENTS.c[name] for name in FIELDS))
    if annotator is not None:
        wanted = wanted.where(_EVENTS.c.annotator == annotator)
    if dataset is not None:
        wanted = wanted.where(_EVENTS.c.sample_id.startswith(f"{dataset}/", autoescape=True))
    with _reading(store) as connection:
        rows = [tuple(row) for row in connection.execute(wanted)]
    frame = pd.DataFrame(rows, columns=list(FIELDS), dtype=object)
    return schemas.validate("votes", vocabulary.counting(frame), where="the database of votes")


def latest(store: Store) -> tuple[int, int]:
    """What changes with every event: how many there are, and the last number."""
    with _reading(store) as connection:
        n = connection.execute(sa.select(sa.func.count(_EVENTS.c.seq))).scalar()
        last = connection.execute(sa.select(sa.func.max(_EVENTS.c.seq))).scalar()
    return n or 0, last or 0


def sync(store: Store, folder: Path) -> int:
    """Take committed events that the database lacks into it (a fresh clone, a colleague's); return how many there were.

    BenchError where a file of annotations is wrong.
    """
    committed: Any = vocabulary.read(folder)
    with _reading(store) as connection:
        here = set(connection.execute(sa.select(_EVENTS.c.event_id)).scalars())
    missing = committed.loc[~committed["event_id"].isin(here), list(FIELDS)].astype(object)
    rows = missing.where(missing.notna(), None).to_dict("records")
    with store.engine.begin() as connection:
        for start in range(0, len(rows), 500):
            _insert(
                store, _EVENTS, [{str(k): v for k, v in row.items()} for row in rows[start : start + 500]], connection
            )
    return len(rows)


def standing(store: Store, stage: str) -> pd.DataFrame:
    """sample_id, annotator and kind of what was annotated in a stage and is not taken back."""
    import pandas as pd

    columns = ("sample_id", "annotator", "kind")
    said = sa.select(*(_EVENTS.c[name] for name in columns), _EVENTS.c.submission).distinct()
    order = (_EVENTS.c.utc, _EVENTS.c.submission, _EVENTS.c.event_id)
    moves = sa.select(_EVENTS.c.annotator, _EVENTS.c.target, _EVENTS.c.action).where(_EVENTS.c.target.is_not(None))
    with _reading(store) as connection:
        saved: Any = connection.execute(said.where(_EVENTS.c.stage == stage, _EVENTS.c.target.is_(None))).tuples().all()
        last = {(who, target): action for who, target, action in connection.execute(moves.order_by(*order)).tuples()}
    rows = dict.fromkeys((image, who, kind) for image, who, kind, one in saved if last.get((who, one)) != UNDO)
    return pd.DataFrame(list(rows), columns=list(columns), dtype=object)


def claim(store: Store, annotator: str, sample_ids: Sequence[str], seconds: float) -> None:
    """Note that images were handed to an annotator, for a while, in the place of what was noted of it before."""
    until = time.time() + seconds
    with store.engine.begin() as connection:
        connection.execute(sa.delete(_CLAIMS).where(_CLAIMS.c.annotator == annotator))
        rows = [{"sample_id": one, "annotator": annotator, "until": until} for one in dict.fromkeys(sample_ids)]
        _insert(store, _CLAIMS, rows, connection)


def claims(store: Store) -> dict[str, set[str]]:
    """Image -> annotators who have it before them."""
    out: dict[str, set[str]] = {}
    wanted = sa.select(_CLAIMS.c.sample_id, _CLAIMS.c.annotator).where(_CLAIMS.c.until > time.time())
    with _reading(store) as connection:
        for row in connection.execute(wanted):
            out.setdefault(row.sample_id, set()).add(row.annotator)
    return out


def history(store: Store, annotator: str, stage: str, limit: int = 20) -> list[Said]:
    """The annotator's submissions, the latest first, each with its answers and whether it is taken back."""
    with _reading(store) as connection:
        latest = sa.func.max(_EVENTS.c.utc).label("utc")
        mine = (
            sa.select(_EVENTS.c.submission, latest)
            .where(_EVENTS.c.annotator == annotator, _EVENTS.c.stage == stage, _EVENTS.c.target.is_(None))
            .group_by(_EVENTS.c.submission)
            .order_by(latest.desc())
            .limit(limit)
        )
        order = {row.submission: row.utc for row in connection.execute(mine)}
        rows = connection.execute(
            sa.select(_EVENTS)
            .where(_EVENTS.c.annotator == annotator)
            .where(_EVENTS.c.submission.in_(order) | _EVENTS.c.target.in_(order))
            .order_by(_EVENTS.c.utc, _EVENTS.c.submission, _EVENTS.c.event_id)
        ).all()
    undone = {row.target: row.action == UNDO for row in rows if row.target is not None}
    out = []
    for one, utc in order.items():
        of_it = [row for row in rows if row.submission == one and row.target is None]
        answers = tuple(Answer(row.class_id, row.action, row.rank_shown) for row in of_it if row.action in ANSWERS)
        comment = next((row.comment for row in of_it if row.action == COMMENT), "")
        none = any(row.action == NONE for row in of_it)
        out.append(Said(one, of_it[0].sample_id, answers, none, comment, undone.get(one, False), utc))
    return out


def pace(store: Store, annotator: str) -> float | None:
    """Median milliseconds of the annotator's last PACE images; None where nothing is known."""
    import numpy as np

    with _reading(store) as connection:
        latest = sa.func.max(_EVENTS.c.utc)
        wanted = (
            sa.select(sa.func.max(_EVENTS.c.ms_spent))
            .where(_EVENTS.c.annotator == annotator, _EVENTS.c.target.is_(None), _EVENTS.c.ms_spent > 0)
            .group_by(_EVENTS.c.submission)
            .order_by(latest.desc())
            .limit(PACE)
        )
        spent = list(connection.execute(wanted).scalars())
    return float(np.median(spent)) if spent else None
