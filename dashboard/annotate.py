"""Annotating: who is at work, which images come next, and the component that shows them (annotate.js).

The component holds several images ahead, so the next one is there at once; what is saved travels in the background, in
a fragment of its own. The browser sends all that is not acknowledged yet each time, and votes are stored by ids that
follow from what was saved: so nothing is lost or stored twice (bench/relabel/votes.py). The other way, each reply
holds what the browser has not said it has: so no lost reply leaves it without an image. Nothing of others' votes, no
score and no given label reaches the browser in the first stage.
"""

from __future__ import annotations

import io
import random
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import streamlit as st
from PIL import Image
from sqlalchemy.exc import SQLAlchemyError
from streamlit.components.v2 import component
from streamlit.errors import StreamlitSecretNotFoundError

from bench import config as configuration
from bench.config import Config
from bench.errors import BenchError
from bench.relabel import events, queue, votes
from dashboard import db, parts, relabelling
from dashboard.frames import Frame, records

HERE = Path(__file__).parent
KEY = "annotating"
AHEAD = 4
"""Images that the browser has before it needs them."""
AT_ONCE = 8
"""Images that are taken from the queue, and claimed, at a time."""
CLAIM_SECONDS = 600
STANDING_SECONDS = 10
"""After this while, who annotated what is read again: others may write to the database too."""
PER_PAGE = 10
PAST = 5
"""Submissions that can be taken back after a reload."""
SPARE = 2
"""Images of a class that may be the annotated one, or made from the same, before it has an example less."""
BUSY = "Others have the rest before them just now. What they leave comes here by itself."
UNREACHABLE = "The database of votes cannot be reached."
SMALL = 96
"""Pixels a side of an example at most."""

_component = component("annotate", css=(HERE / "annotate.css").read_text(), js=(HERE / "annotate.js").read_text())
_COOKIE_JS = """export default function ({ data }) {
  const life = data.token ? 60 * 60 * 24 * 90 : 0, secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${data.name}=${data.token}; path=/; SameSite=Strict; max-age=${life}${secure}`;
}"""
_cookie = component("annotator_cookie", js=_COOKIE_JS)
_AGAIN_JS = """export default function ({ setTriggerValue }) {
  window.secondLookAgain = () => setTriggerValue("again", Date.now());
}"""
_again = component("annotate_again", js=_AGAIN_JS)
_STYLE = """<style>.st-key-unseen {display: none}
.st-key-desk [data-stale], .st-key-desk [data-stale] * {opacity: 1 !important; transition: none !important}</style>"""
"""What runs unseen takes no place, and the desk does not fade while a save is under way."""


@st.cache_resource(show_spinner=False)
def _connected(root: str, url: str) -> votes.Store:
    return votes.connect(configuration.load(Path(root) / "params.yaml"))


@st.cache_data(max_entries=4, show_spinner=False)
def _synced(root: str, url: str, found: tuple[tuple[str, int], ...]) -> int:
    return votes.sync(_connected(root, url), configuration.load(Path(root) / "params.yaml").data / events.FOLDER)


def connected(config: Config) -> votes.Store:
    """The database of votes, with all that is committed in it. BenchError where it cannot be opened."""
    root, url = str(config.root), config.annotations.url
    store = _connected(root, url)
    _synced(root, url, _files(config))
    return store


def _files(config: Config) -> tuple[tuple[str, int], ...]:
    return tuple((str(path), path.stat().st_mtime_ns) for path in events.files(config.data / events.FOLDER))


def committed(config: Config) -> frozenset[str]:
    """Ids of the events that data/annotations holds."""
    return _committed(_files(config), config.data / events.FOLDER)


@st.cache_resource(max_entries=2, show_spinner=False)
def _committed(found: tuple[tuple[str, int], ...], _folder: Path) -> frozenset[str]:
    return frozenset(events.read(_folder)["event_id"])


def trouble(fault: BenchError | SQLAlchemyError) -> str:
    """What is wrong with the database of votes, for a page."""
    return parts.plain(str(fault)) if isinstance(fault, BenchError) else f"{UNREACHABLE} Reload the page later."


def known(source: db.Source) -> votes.Known:
    """What can be judged in these results."""
    n_classes = db.catalogue(source).datasets["n_classes"].to_dict()
    return votes.Known(db.snapshot(source)["snapshot_id"], db.sample_datasets(source), n_classes)


# Who is at work


def with_oidc() -> bool:
    """Whether Streamlit is set up to sign people in (`[auth]` in its secrets)."""
    try:
        return "auth" in st.secrets
    except (FileNotFoundError, StreamlitSecretNotFoundError):
        return False


def person(store: votes.Store, source: db.Source) -> votes.Annotator | None:
    """Who is signed in: in this session, by the provider, or by this browser's cookie."""
    if with_oidc():
        if not getattr(st.user, "is_logged_in", False):
            return None
        subject = f"{st.user.get('iss', '')} {st.user.get('sub', '')}"
        name = str(st.user.get("name") or st.user.get("email") or "annotator")
        return votes.external(store, subject, name, _reserved(source))
    token = st.session_state.get("annotator_token")
    if token is None and not st.session_state.get("signed_out"):
        token = st.context.cookies.get(_name(store))
    found = votes.by_token(store, token) if isinstance(token, str) else None
    if found is None:
        st.session_state.pop("annotator_token", None)
    else:
        st.session_state["annotator_token"] = token
    return found


def _reserved(source: db.Source) -> set[str]:
    """Names that nobody who annotates can have: of models, of simulated annotators, of imported votes."""
    return {*db.catalogue(source).names, *db.simulated(source)}


def _name(store: votes.Store) -> str:
    """The cookie's name, another one for each database of votes: a cookie is for all servers on a machine."""
    return f"second_look_{sha256(store.url.encode()).hexdigest()[:8]}"


def sign_in(store: votes.Store, source: db.Source) -> None:
    """The form by which one signs in."""
    if with_oidc():
        st.markdown("Sign in to annotate: your name stands beside your votes.")
        st.button("Sign in", on_click=st.login, icon=":material/login:", type="primary")
        return
    st.markdown(
        "Votes are kept under a name. The first time, choose yours and a PIN; later, both bring you back to it."
    )
    with st.form("sign-in", border=False, width=420):
        name = st.text_input("Name", max_chars=votes.MAX_NAME, key="sign-in-name")
        pin = st.text_input("PIN", type="password", max_chars=votes.MAX_PIN, key="sign-in-pin", help=_PIN)
        asked, n = st.session_state.get("sign_in_asked", ("", 0))
        said = f"{n:,} image{'s' * (n != 1)} annotated as {parts.plain(asked)}"
        mine = bool(n) and st.checkbox(
            f"{said} came with the data. They are mine.", key=f"sign-in-mine:{votes.folded(asked)}"
        )
        if not st.form_submit_button("Sign in", icon=":material/login:", type="primary"):
            return
    try:
        n = votes.unclaimed(store, name)
        if n and not (mine and votes.folded(name) == votes.folded(asked)):
            st.session_state["sign_in_asked"] = (name, n)
            st.rerun()
        token = votes.issue_token(store, votes.sign_in(store, name, pin, _reserved(source)))
    except (BenchError, SQLAlchemyError) as fault:
        st.error(parts.plain(fault.what + " " + fault.remedy if isinstance(fault, BenchError) else str(fault)))
        return
    for key in ("signed_out", "sign_in_asked"):
        st.session_state.pop(key, None)
    st.session_state["annotator_token"], st.session_state["annotator_cookie"] = token, _name(store)
    st.rerun()


_PIN = (
    f"{votes.MIN_PIN} characters or more. It keeps others from using your name by mistake; it is no protection "
    "against who wants to."
)


def sign_out(store: votes.Store) -> None:
    """Callback: forget who is at work, here and in the browser."""
    token = st.session_state.pop("annotator_token", "")
    if (who := votes.by_token(store, token) if token else None) is not None:
        votes.claim(store, who.name, [], 0)
        votes.revoke(store, token)
    for key in [key for key in st.session_state if str(key).startswith(("annotator", KEY))]:
        del st.session_state[key]
    st.session_state["signed_out"] = True
    st.session_state["annotator_cookie"] = _name(store)
    if with_oidc():
        st.logout()


def remembered() -> None:
    """Let the browser keep who signed in, or forget it."""
    name, token = st.session_state.get("annotator_cookie"), st.session_state.get("annotator_token", "")
    with st.container(key="unseen"):
        st.html(_STYLE)
        _again(key="again", on_again_change=lambda: None)
        if name:
            _cookie(key="cookie", data={"name": name, "token": token})


def badge(store: votes.Store, annotator: votes.Annotator) -> None:
    """Who is at work, and a way out."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"Signed in as **{parts.plain(annotator.name)}**")
        st.button("Sign out", on_click=sign_out, args=(store,), type="tertiary", icon=":material/logout:")


# What is shown


@dataclass(frozen=True)
class Task:
    """One run of annotating: of which set, in which stage, in what order (`order` names it).

    `ids`: all images, in that order, each of which `overlap` people are to annotate; `claims`: what others have before
    them counts as theirs. `words` and `end` say what one did, and that nothing is left. `extra(sample_id)` gives what
    an image comes with besides the labels proposed: `more` labels; `preset`, answers that it begins with; `notes` of
    its labels; a `caption`. Images of `again` may be annotated by more people than `overlap`.
    """

    dataset: str
    stage: str
    order: str
    ids: list[str]
    overlap: int
    claims: bool
    words: str
    end: str
    extra: Callable[[str], Mapping[str, Any]]
    again: frozenset[str] = frozenset()


def annotating(
    source: db.Source, config: Config, store: votes.Store, who: votes.Annotator, dataset: str, order: str
) -> None:
    """The first stage: every annotator's own queue, blind to what others said."""
    overlap = config.annotations.overlap
    name = db.catalogue(source).dataset_name(dataset)
    end = f"There is nothing left for you in {name}: every image is yours already, or has {overlap} annotators."
    if overlap == 1:
        end = f"There is nothing left for you in {name}: every image has its annotator."
    ids = _ordered(source, dataset, order)
    task = Task(dataset, events.ANNOTATE, order, ids, overlap, True, "done by you", end, lambda _sample_id: {})
    _show(source, config, store, who, task)


@st.cache_resource(max_entries=16, show_spinner=False)
def _ordered(source: db.Source, dataset: str, order: str) -> list[str]:
    """Images of a set in an order. Shared: nobody writes into it."""
    return queue.ordered(db.queue(source, dataset), order)


def refinement(
    source: db.Source,
    config: Config,
    store: votes.Store,
    who: votes.Annotator,
    dataset: str,
    disputed: Frame,
    *,
    named: bool,
) -> None:
    """The second stage: disputed images once more; labels that an annotator ticked or that may be right are ticked.

    disputed: as `relabelling.disputed` gives it. Every label that not everybody said no to has a card. `named`: who
    said what stands below each label; else it does not reach the browser. One decision is enough for an image, and
    overrides the votes; where it leaves a label disputed, others can decide too.
    """
    said = {str(sample_id): rows for sample_id, rows in disputed.groupby("sample_id", sort=False)}

    def extra(sample_id: str) -> Mapping[str, Any]:
        rows = said.get(sample_id)
        if rows is None:
            return {}
        sums = rows.assign(
            ticked=rows["kind"].isin(["human", "simulated"]) & ~rows["pooled"].eq(True) & (rows["n_yes"] > 0),
            may_be=rows["state"] != "no",
            not_no=(rows["n_yes"] + rows["n_unsure"] > 0) | (rows["state"] != "no"),
        )
        flags = sums.groupby("class_id")[["ticked", "may_be", "not_no"]].any()
        notes = {}
        for class_id, mine in rows.groupby("class_id") if named else ():
            notes[int(str(class_id))] = relabelling.said_of(mine)
        preset = flags.index[flags["ticked"] | flags["may_be"]]
        return {
            "more": flags.index[flags["not_no"]].astype(int).tolist(),
            "preset": [{"class_id": int(class_id), "action": "yes"} for class_id in preset],
            "notes": notes,
            "caption": sample_id,
        }

    order = f"refine {'named' if named else 'hidden'}"
    end = (
        "Every disputed image is decided. Where those who decided were unsure or contradict each other, others have to."
    )
    decided = disputed.loc[disputed["method"] == "refined", "sample_id"]
    again = frozenset(disputed.loc[disputed["open"] & disputed["sample_id"].isin(decided), "sample_id"])
    task = Task(dataset, events.REFINE, order, list(said), 1, False, "decided by you", end, extra, again)
    _show(source, config, store, who, task)


People = dict[str, frozenset[str]]
"""Image -> the people who annotated it."""


@st.cache_resource(ttl=STANDING_SECONDS, max_entries=8, show_spinner=False)
def _people(_store: votes.Store, url: str, stage: str) -> People:
    """Who annotated what in a stage. Shared by all sessions, which note in it what they save."""
    out: People = {}
    for row in records(votes.standing(_store, stage)):
        if row.kind == "human":
            out[row.sample_id] = out.get(row.sample_id, frozenset()) | {row.annotator}
    return out


def people(store: votes.Store, stage: str) -> People:
    """Who annotated what in a stage, as it was STANDING_SECONDS ago or later, and what was saved here since."""
    return _people(store, store.url, stage)


@st.fragment
def _show(source: db.Source, config: Config, store: votes.Store, who: votes.Annotator, task: Task) -> None:
    session = _session(source, who, task)
    try:
        done = people(store, task.stage)
        session["ids"] = queue.upcoming(session["ids"], who.name, done, {}, task.overlap, AT_ONCE, task.again)
        if len(session["ids"]) < AHEAD or session.pop("stale", False):
            claimed = votes.claims(store) if task.claims else {}
            session["ids"] = queue.upcoming(task.ids, who.name, done, claimed, task.overlap, AT_ONCE, task.again)
            if task.claims:
                votes.claim(store, who.name, session["ids"], CLAIM_SECONDS)
            session["pace"] = votes.pace(store, who.name)
            session["progress"] = queue.progress(task.ids, who.name, done, task.overlap, task.again)
        session["data"] = _payload(source, config, store, who, task, session)
    except SQLAlchemyError:
        session["trouble"] = f"{UNREACHABLE} What you save is kept in this browser."
        session["stale"] = True
    if session["data"] is None:
        st.error(session.pop("trouble"))
        return
    data = {**session["data"], "trouble": session.pop("trouble", "")}
    with st.container(key="desk"):
        _component(
            key=f"{KEY}:{task.stage}", data=data, on_outbox_change=lambda: _save(source, store, who, session, task)
        )


def _session(source: db.Source, who: votes.Annotator, task: Task) -> dict[str, Any]:
    """What this session knows of its task; made anew where another set, order, person or result is shown.

    `held`: what the browser said it has; `pending`: what each reply held that it has not said so of yet.
    """
    about = (task.dataset, task.stage, task.order, who.name, db.snapshot(source)["snapshot_id"])
    before = st.session_state.get(f"{KEY}:session")
    if before is not None and before["about"] == about:
        return before
    sitting = st.session_state.setdefault(
        "annotator_sitting", f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ} {secrets.token_hex(3)}"
    )
    session = {
        "about": about,
        "hash": sha256(repr(about).encode()).hexdigest()[:16],
        "id": before["id"] if before else secrets.token_hex(6),
        "sitting": sitting,
        "held": before["held"] if before else set(),
        "pending": before["pending"] if before else {},
        "seq": before["seq"] if before else 0,
        "ids": [],
        "receipts": [],
        "progress": None,
        "pace": None,
        "data": None,
    }
    st.session_state[f"{KEY}:session"] = session
    return session


def _save(source: db.Source, store: votes.Store, who: votes.Annotator, session: dict[str, Any], task: Task) -> None:
    """Callback: store what the browser holds, and note what became of each submission, and what it has."""
    outbox = st.session_state[f"{KEY}:{task.stage}"].get("outbox")
    outbox = outbox if isinstance(outbox, dict) else {}
    if outbox.get("lacking"):
        session["held"].clear()
        session["pending"].clear()
    else:
        session["saving"] = True
        seen = outbox.get("seen")
        session["held"] |= session["pending"].pop(seen, set()) if isinstance(seen, int) else set()
    items = outbox.get("items", [])
    good, receipts = [], []
    for raw in items if isinstance(items, list) else []:
        try:
            good.append(votes.submission(raw))
        except BenchError as fault:
            receipts.append(votes.Receipt(str(raw.get("id", "")) if isinstance(raw, dict) else "", False, fault.what))
    try:
        if not with_oidc() and votes.by_token(store, st.session_state.get("annotator_token", "")) != who:
            session["trouble"] = "You are signed out: reload the page and sign in again. What you saved is kept here."
            return
        done = people(store, task.stage)  # before: it may be read anew, and then knows what is saved here
        receipts += votes.record(store, who, good, known(source))
    except SQLAlchemyError:
        session["trouble"] = (
            "The server could not save just now. What you saved is kept in this browser, and sent again."
        )
        return
    kept = {receipt.id for receipt in receipts if receipt.stored}
    session["receipts"] = [{"id": one.id, "stored": one.stored, "reason": one.reason.rstrip(".")} for one in receipts]
    new = 0
    for one in good:
        if one.id not in kept or one.stage != task.stage:
            continue
        before = done.get(one.sample_id, frozenset())
        done[one.sample_id] = before - {who.name} if one.move == events.UNDO else before | {who.name}
        new += who.name not in before and not one.move
    saved = {one.sample_id for one in good if one.id in kept and not one.move and one.stage == task.stage}
    session["ids"] = [sample_id for sample_id in session["ids"] if sample_id not in saved]
    if any(one.move for one in good) or len(kept) < len(receipts):
        session["stale"] = True
    elif session["progress"] is not None:
        was = session["progress"]
        full = sum(len(done[one]) == task.overlap for one in saved) if new else 0
        session["progress"] = queue.Progress(was.mine + new, was.complete + full, was.total, max(was.left - new, 0))


def _payload(
    source: db.Source, config: Config, store: votes.Store, who: votes.Annotator, task: Task, session: dict[str, Any]
) -> dict[str, Any]:
    """What the browser gets: receipts, what comes next, and the images, pictures and classes that it does not have.

    What can be taken back comes with a run of the whole page, not with a reply to a save.
    """
    catalogue = db.catalogue(source)
    ahead, past = session["ids"][:AHEAD], None
    if not session.pop("saving", False):
        here = db.sample_datasets(source)
        said_before = votes.history(store, who.name, task.stage, PAST)
        past = [said for said in said_before if here.get(said.sample_id) == task.dataset]
    wanted = dict.fromkeys([*ahead, *(said.sample_id for said in past or ())])
    held, new = session["held"], set()
    keys = {one: ("image", session["hash"], one, repr(task.extra(one))) for one in wanted}  # others may say more of it
    lacking = [one for one in wanted if keys[one] not in held]
    images = _images(source, config, who, task, lacking)
    new |= {keys[one] for one in lacking}
    pictures = {one: parts.data_uri(picture) for one, picture in db.pictures(source, tuple(lacking)).items()}
    for image in images:
        for example, uri in image.pop("pictures").items():
            if example not in held:
                pictures[example] = uri
                new.add(example)
    classes_of = f"{session['about'][-1]} {task.dataset}"
    classes = None
    if (key := ("classes", classes_of)) not in held:
        classes = [[k, name] for k, name in catalogue.class_names(task.dataset).items()]
        new.add(key)
    session["seq"] += 1
    session["pending"] = {session["seq"]: new, **dict(list(session["pending"].items())[:3])}
    progress = session["progress"]
    return {
        "annotator": who.name,
        "database": sha256(store.url.encode()).hexdigest()[:12],
        "session": session["id"],
        "about": session["hash"],
        "seq": session["seq"],
        "stage": task.stage,
        "snapshot": session["about"][-1],
        "sitting": session["sitting"],
        "classes_of": classes_of,
        "classes": classes,
        "ahead": ahead,
        "images": images,
        "pictures": pictures,
        "history": None if past is None else [_past(said) for said in past],
        "receipts": session["receipts"],
        "progress": {
            "done": progress.mine,
            "complete": progress.complete,
            "of": progress.total,
            "left": progress.left,
            "words": task.words,
        },
        "pace_ms": session["pace"],
        "end": BUSY if progress.left else task.end,
    }


def _past(said: votes.Said) -> dict[str, Any]:
    answers = [{"class_id": a.class_id, "action": a.action, "rank": a.rank} for a in said.answers]
    fields = {"id": said.id, "sample_id": said.sample_id, "none": said.none, "comment": said.comment}
    return {**fields, "answers": answers, "undone": said.undone}


def _images(
    source: db.Source, config: Config, who: votes.Annotator, task: Task, sample_ids: Sequence[str]
) -> list[dict[str, Any]]:
    """Images and their labels in the order in which they are shown; neither scores nor the given label are told.

    `pictures` of each: the examples of its labels, as data URIs.
    """
    catalogue, pool = db.catalogue(source), db.pictured(source, task.dataset)
    names, n = catalogue.class_names(task.dataset), config.annotations.examples
    proposed: dict[str, list[int]] = {sample_id: [] for sample_id in sample_ids}
    for row in records(db.proposals(source, tuple(sample_ids))) if sample_ids else ():
        proposed[row.sample_id].append(int(row.class_id))
    out = []
    for sample_id, classes in proposed.items():
        extra = dict(task.extra(sample_id))
        notes = extra.pop("notes", {})
        classes += [class_id for class_id in extra.pop("more", []) if class_id not in classes]
        if config.annotations.shuffle:
            classes = shuffled(classes, who.name, sample_id)
        but = {sample_id, str(pool.at[sample_id, "source_id"])} if sample_id in pool.index else {sample_id}
        shown = examples(source, catalogue.original_of(task.dataset), classes, n, config.seed, but)
        labels = [
            {
                "class_id": class_id,
                "name": names[class_id],
                "about": catalogue.definition(task.dataset, class_id),
                "rank": rank,
                "examples": [one.key for one in shown[class_id]],
                "notes": notes.get(class_id, []),
            }
            for rank, class_id in enumerate(classes, start=1)
        ]
        pictures = {one.key: one.uri for those in shown.values() for one in those}
        picture = sample_id if sample_id in pool.index else ""
        out.append({"id": sample_id, "picture": picture, "labels": labels, "pictures": pictures, **extra})
    return out


def shuffled(classes: Sequence[int], who: str, sample_id: str) -> list[int]:
    """Classes in an order of the annotator's own, each on the page of PER_PAGE where it was."""
    out = []
    for start in range(0, len(classes), PER_PAGE):
        page = list(classes[start : start + PER_PAGE])
        random.Random(f"{who}\n{sample_id}\n{start}").shuffle(page)
        out += page
    return out


@dataclass(frozen=True)
class Example:
    """An image that shows what a class is: its id, what it is made from, and the picture as a data URI."""

    sample_id: str
    source_id: str
    uri: str

    @property
    def key(self) -> str:
        return f"{self.sample_id} small"


def examples(
    source: db.Source, original: str, classes: Sequence[int], n: int, seed: int, but: Collection[str]
) -> dict[int, list[Example]]:
    """Class -> at most `n` images of it: test images of the set `original`, chosen by the seed, the same for everybody.

    None is an image of `but`, or made from one: the image that is annotated, and what it is made from.
    """
    held = _examples(source, original, n, seed)
    if lacking := [class_id for class_id in classes if class_id not in held]:
        held |= _drawn(source, original, lacking, n, seed)
    return {k: [one for one in held[k] if not {one.sample_id, one.source_id} & {*but}][:n] for k in classes}


@st.cache_resource(max_entries=8, show_spinner=False)
def _examples(source: db.Source, original: str, n: int, seed: int) -> dict[int, list[Example]]:
    """The examples that were asked for so far. Shared by all sessions, which add to it."""
    return {}


def _drawn(source: db.Source, original: str, classes: Sequence[int], n: int, seed: int) -> dict[int, list[Example]]:
    """The first images of each class, and a few to spare, in an order that is seeded by set and class."""
    pool = db.pictured(source, original)
    chosen: dict[int, list[tuple[str, str]]] = {}
    for class_id in classes if n else ():
        mine = pool.loc[pool["label"] == class_id, "source_id"]
        text = f"{seed}\n{original}\n{class_id}\n"
        rows = sorted(mine.items(), key=lambda row: sha256(f"{text}{row[0]}".encode()).digest())
        chosen[class_id] = rows[: n + SPARE]
    pictures = db.pictures(source, tuple(one for rows in chosen.values() for one, _ in rows))
    return {
        class_id: [Example(one, made_from, small(pictures[one])) for one, made_from in chosen.get(class_id, [])]
        for class_id in classes
    }


def small(picture: tuple[bytes, str]) -> str:
    """An encoded image of at most SMALL pixels a side, as a data URI."""
    with Image.open(io.BytesIO(picture[0])) as opened:
        if max(opened.size) <= SMALL:
            return parts.data_uri(picture)
        opened.thumbnail((SMALL, SMALL), Image.Resampling.BILINEAR)
        stream = io.BytesIO()
        opened.convert("RGB").save(stream, "JPEG", quality=82)
    return parts.data_uri((stream.getvalue(), "image/jpeg"))
