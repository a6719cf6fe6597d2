"""Annotating: who is at work, which images come next, and the component that shows them (annotate.js).

The component holds several images ahead, so the next one is there at once; what is saved travels in the background, in
a fragment of its own. The browser sends all that is not acknowledged yet each time, and votes are stored by ids that
follow from what was saved: so nothing is lost or stored twice (bench/relabel/votes.py).
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError
from streamlit.components.v2 import component
from streamlit.errors import StreamlitSecretNotFoundError

from bench import config as configuration
from bench.config import Config
from bench.errors import BenchError
from bench.relabel import events, queue, votes
from dashboard import db, parts
from dashboard.frames import Frame, records

HERE = Path(__file__).parent
KEY = "annotating"
COOKIE = "second_look_annotator"
AHEAD = 5
"""Images that the browser has before it needs them."""
AT_ONCE = 12
"""Images that are taken from the queue at a time."""
CLAIM_SECONDS = 600
PER_PAGE = 10
PAST = 5
"""Submissions that can be taken back after a reload."""
LARGE = 8
"""Images of a class among which its examples are, besides those made from the image itself."""

_component = component("annotate", css=(HERE / "annotate.css").read_text(), js=(HERE / "annotate.js").read_text())
_COOKIE_JS = """export default function ({ data }) {
  const life = data.token ? 60 * 60 * 24 * 90 : 0, secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${data.name}=${data.token}; path=/; SameSite=Strict; max-age=${life}${secure}`;
}"""
_cookie = component("annotator_cookie", js=_COOKIE_JS)


@st.cache_resource(show_spinner=False)
def _connected(root: str, url: str) -> votes.Store:
    config = configuration.load(Path(root) / "params.yaml")
    store = votes.connect(config)
    votes.sync(store, config.data / events.FOLDER)
    return store


def connected(config: Config) -> votes.Store:
    """The database of votes, with all that is committed in it. BenchError where it cannot be opened."""
    return _connected(str(config.root), config.annotations.url)


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


def person(store: votes.Store) -> votes.Annotator | None:
    """Who is signed in: in this session, by the provider, or by this browser's cookie."""
    if with_oidc():
        if not st.user.is_logged_in:
            return None
        subject = f"{st.user.get('iss', '')} {st.user.get('sub', '')}"
        return votes.external(store, subject, str(st.user.get("name") or st.user.get("email") or "annotator"))
    if "annotator" not in st.session_state:
        token = st.context.cookies.get(COOKIE, "")
        found = votes.by_token(store, token) if token and not st.session_state.get("signed_out") else None
        if found is not None:
            st.session_state["annotator"] = found
    return st.session_state.get("annotator")


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
        if not st.form_submit_button("Sign in", icon=":material/login:", type="primary"):
            return
    reserved = {*db.catalogue(source).names, *db.simulated(source)}
    try:
        found = votes.sign_in(store, name, pin, reserved)
        st.session_state["annotator"] = found
        st.session_state["annotator_token"] = votes.issue_token(store, found)
    except (BenchError, SQLAlchemyError) as fault:
        st.error(parts.plain(fault.what + " " + fault.remedy if isinstance(fault, BenchError) else str(fault)))
        return
    st.session_state.pop("signed_out", None)
    st.rerun()


_PIN = (
    f"{votes.MIN_PIN} characters or more. It keeps others from using your name by mistake; it is no protection "
    "against who wants to."
)


def sign_out(store: votes.Store) -> None:
    """Callback: forget who is at work, here and in the browser."""
    token = st.session_state.pop("annotator_token", "") or st.context.cookies.get(COOKIE, "")
    if token:
        votes.revoke(store, token)
    for key in [key for key in st.session_state if str(key).startswith(("annotator", KEY))]:
        del st.session_state[key]
    st.session_state["signed_out"] = True
    if with_oidc():
        st.logout()


def remembered() -> None:
    """Let the browser keep who is signed in, or forget it."""
    if st.session_state.get("signed_out"):
        _cookie(key="cookie", data={"name": COOKIE, "token": ""})
    elif token := st.session_state.get("annotator_token"):
        _cookie(key="cookie", data={"name": COOKIE, "token": token})


def badge(store: votes.Store, annotator: votes.Annotator) -> None:
    """Who is at work, and a way out."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"Signed in as **{parts.plain(annotator.name)}**")
        st.button("Sign out", on_click=sign_out, args=(store,), type="tertiary", icon=":material/logout:")


# What is shown


@dataclass(frozen=True)
class Task:
    """One run of annotating: where, in which stage, in what order, and what an image comes with.

    `upcoming(n)` gives the next images and how far one is; `extra(sample_id)` further fields of an image (`preset`,
    answers that it begins with; `notes` of its labels), `more(sample_id)` classes besides those proposed.
    """

    dataset: str
    stage: str
    order: str
    words: str
    end: str
    upcoming: Callable[[int], tuple[list[str], queue.Progress]]
    extra: Callable[[str], Mapping[str, Any]]


def annotating(
    source: db.Source, config: Config, store: votes.Store, who: votes.Annotator, dataset: str, order: str
) -> None:
    """The first stage: every annotator's own queue, blind to what others said."""
    ids = queue.ordered(db.queue(source, dataset), order)
    overlap = config.annotations.overlap

    def upcoming(n: int) -> tuple[list[str], queue.Progress]:
        done = _people(store, events.ANNOTATE)
        chosen = queue.upcoming(ids, who.name, done, votes.claims(store), overlap, n)
        votes.claim(store, who.name, chosen, CLAIM_SECONDS)
        return chosen, queue.progress(ids, who.name, done, overlap)

    name = db.catalogue(source).dataset_name(dataset)
    end = f"There is nothing left for you in {name}: every image is yours already, or has {overlap} annotators."
    _show(source, config, store, who, Task(dataset, events.ANNOTATE, order, "done by you", end, upcoming, _nothing))


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
    """The second stage: disputed images once more, with the labels ticked that somebody ticked.

    disputed: sample_id, class_id, annotator, action of what was said of the disputed images, the images in the order
    in which they are to be shown. `named`: who said what stands below each label. A decision overrides the votes.
    """
    said = {str(sample_id): list(records(rows)) for sample_id, rows in disputed.groupby("sample_id", sort=False)}

    def upcoming(n: int) -> tuple[list[str], queue.Progress]:
        done = _people(store, events.REFINE)
        left = [sample_id for sample_id in said if not done.get(sample_id)]
        mine = sum(who.name in done.get(sample_id, ()) for sample_id in said)
        return left[:n], queue.Progress(mine, len(said) - len(left), len(said), len(left))

    def extra(sample_id: str) -> Mapping[str, Any]:
        rows = said.get(sample_id, [])
        ticked = {row.class_id for row in rows if row.action == "yes"}
        notes: dict[int, list[list[str]]] = {}
        for row in rows if named else []:
            notes.setdefault(int(row.class_id), []).append([str(row.annotator), str(row.action)])
        preset = [{"class_id": int(class_id), "action": "yes"} for class_id in sorted(ticked)]
        return {"preset": preset, "notes": notes}

    words = "decided by you"
    task = Task(dataset, events.REFINE, f"refine {named}", words, "Every disputed image is decided.", upcoming, extra)
    _show(source, config, store, who, task)


def _nothing(_sample_id: str) -> Mapping[str, Any]:
    return {}


def _people(store: votes.Store, stage: str) -> dict[str, set[str]]:
    """Image -> the people who annotated it in a stage."""
    out: dict[str, set[str]] = {}
    for row in records(votes.standing(store, stage)):
        if row.kind == "human":
            out.setdefault(row.sample_id, set()).add(row.annotator)
    return out


@st.fragment
def _show(source: db.Source, config: Config, store: votes.Store, who: votes.Annotator, task: Task) -> None:
    session = _session(source, who, task)

    def saved() -> None:
        _save(source, store, who, session)

    trouble = session.pop("trouble", "")
    try:
        if len(session["ids"]) < AHEAD or session.pop("stale", False):
            session["ids"], session["progress"] = task.upcoming(AT_ONCE)
            session["pace"] = votes.pace(store, who.name)
        data = _payload(source, config, store, who, task, session)
    except SQLAlchemyError:
        st.error("The database of votes cannot be reached. What you saved is kept in this browser.")
        return
    data["trouble"] = trouble
    _component(key=f"{KEY}:{task.stage}", data=data, on_outbox_change=saved)


def _session(source: db.Source, who: votes.Annotator, task: Task) -> dict[str, Any]:
    """What this session knows of its task; made anew where another set, order, person or result is shown."""
    about = (task.dataset, task.stage, task.order, who.name, db.snapshot(source)["snapshot_id"])
    held = st.session_state.get(f"{KEY}:session")
    if held is None or held["about"] != about:
        sitting = st.session_state.setdefault(
            "annotator_sitting", f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ} {secrets.token_hex(3)}"
        )
        sent = held["sent"] if held else set()
        held = {
            "about": about,
            "ids": [],
            "receipts": [],
            "sent": sent,
            "sitting": sitting,
            "progress": None,
            "pace": None,
        }
        st.session_state[f"{KEY}:session"] = held
    return held


def _save(source: db.Source, store: votes.Store, who: votes.Annotator, session: dict[str, Any]) -> None:
    """Callback: store what the browser holds, and note what became of each submission."""
    stage = session["about"][1]
    outbox = st.session_state[f"{KEY}:{stage}"].get("outbox") or {}
    items = outbox.get("items", []) if isinstance(outbox, dict) else []
    good, receipts = [], []
    for raw in items if isinstance(items, list) else []:
        try:
            good.append(votes.submission(raw))
        except BenchError as fault:
            receipts.append(votes.Receipt(str(raw.get("id", "")) if isinstance(raw, dict) else "", False, fault.what))
    try:
        receipts += votes.record(store, who, good, known(source))
    except SQLAlchemyError:
        session["trouble"] = (
            "The server could not save just now. What you saved is kept in this browser, and sent again."
        )
        return
    kept = {receipt.id for receipt in receipts if receipt.stored}
    session["receipts"] = [{"id": one.id, "stored": one.stored, "reason": one.reason.rstrip(".")} for one in receipts]
    done = {one.sample_id for one in good if one.id in kept and not one.move}
    session["ids"] = [sample_id for sample_id in session["ids"] if sample_id not in done]
    session["stale"] = any(one.move for one in good) or len(kept) < len(receipts)
    if session["progress"] is not None:
        was = session["progress"]
        n = len(done)
        session["progress"] = queue.Progress(was.mine + n, was.complete, was.total, max(was.left - n, 0))


def _payload(
    source: db.Source, config: Config, store: votes.Store, who: votes.Annotator, task: Task, session: dict[str, Any]
) -> dict[str, Any]:
    """What the browser gets: images with their labels, receipts, pictures that it does not have yet."""
    past = [
        said
        for said in votes.history(store, who.name, task.stage, PAST)
        if not said.undone and said.sample_id.startswith(f"{task.dataset}/")
    ]
    ahead = session["ids"][:AHEAD]
    images = {
        sample_id: _image(source, config, who, task, sample_id) for sample_id in [*ahead, *(s.sample_id for s in past)]
    }
    wanted = [*images, *(one for image in images.values() for label in image["labels"] for one in label["examples"])]
    fresh = tuple(dict.fromkeys(one for one in wanted if one not in session["sent"]))
    found = db.pictures(source, fresh) if fresh else {}
    session["sent"] |= set(fresh)
    progress = session["progress"]
    catalogue = db.catalogue(source)
    return {
        "annotator": who.name,
        "database": sha256(store.url.encode()).hexdigest()[:12],
        "dataset": task.dataset,
        "stage": task.stage,
        "order": task.order,
        "snapshot": session["about"][-1],
        "sitting": session["sitting"],
        "classes": [[k, name] for k, name in catalogue.class_names(task.dataset).items()],
        "images": [images[sample_id] for sample_id in ahead],
        "pictures": {sample_id: parts.data_uri(picture) for sample_id, picture in found.items()},
        "history": [_past(said, images[said.sample_id]) for said in past],
        "receipts": session["receipts"],
        "progress": {
            "done": progress.mine,
            "complete": progress.complete,
            "of": progress.total,
            "left": progress.left,
            "words": task.words,
        },
        "pace_ms": session["pace"],
        "end": task.end,
    }


def _past(said: votes.Said, image: dict[str, Any]) -> dict[str, Any]:
    answers = [{"class_id": a.class_id, "action": a.action, "rank": a.rank} for a in said.answers]
    return {"id": said.id, "image": image, "answers": answers, "none": said.none, "comment": said.comment}


def _image(source: db.Source, config: Config, who: votes.Annotator, task: Task, sample_id: str) -> dict[str, Any]:
    """One image and its labels in the order in which they are shown; neither scores nor the given label are told."""
    catalogue = db.catalogue(source)
    names = catalogue.class_names(task.dataset)
    proposed = [int(row.class_id) for row in records(db.proposals(source, (sample_id,)))]
    extra = dict(task.extra(sample_id))
    notes = extra.pop("notes", {})
    proposed += [one["class_id"] for one in extra.get("preset", []) if one["class_id"] not in proposed]
    if config.annotations.shuffle:
        proposed = shuffled(proposed, who.name, sample_id)
    made_from = str(db.sample(source, sample_id)["source_id"])  # pyright: ignore[reportOptionalSubscript]
    labels = [
        {
            "class_id": class_id,
            "name": names[class_id],
            "about": catalogue.definition(task.dataset, class_id),
            "rank": rank,
            "examples": examples(source, task.dataset, class_id, config.annotations.examples, (sample_id, made_from)),
            "notes": notes.get(class_id, []),
        }
        for rank, class_id in enumerate(proposed, start=1)
    ]
    return {"id": sample_id, "labels": labels, **extra}


def shuffled(classes: Sequence[int], who: str, sample_id: str) -> list[int]:
    """Classes in an order of the annotator's own, each on the page of PER_PAGE where it was."""
    out = []
    for start in range(0, len(classes), PER_PAGE):
        page = list(classes[start : start + PER_PAGE])
        random.Random(f"{who}\n{sample_id}\n{start}").shuffle(page)
        out += page
    return out


def examples(source: db.Source, dataset: str, class_id: int, n: int, but: tuple[str, str]) -> list[str]:
    """Images that show what a class is: of the set's original, the same for all annotators.

    None is the image that is annotated, or made from the same one: `but` holds its id, and its source's.
    """
    rows = _of_class(source, db.catalogue(source).original_of(dataset), class_id, n + LARGE)
    return [one for one, made_from in rows if one not in but and made_from not in but][:n]


@st.cache_data(max_entries=4096, show_spinner=False)
def _of_class(source: db.Source, original: str, class_id: int, n: int) -> list[tuple[str, str]]:
    """The first images of a class, and what each is made from, in an order that is seeded by the class."""
    pool = db.pictured(source, original)
    mine = pool.loc[pool["label"] == class_id]
    rows = list(zip(mine["sample_id"], mine["source_id"], strict=True))
    return sorted(rows, key=lambda row: sha256(f"{class_id}\n{row[0]}".encode()).digest())[:n]
