"""What is being looked at, and how it is written in the URL.

A `View` is all of it. `parse` reads a query string against what there is to choose from and says in words what it
could not use; `to_query` writes what differs from the defaults. The rest binds widgets to fields: a change of a widget
changes the view, and the view is written to the URL on every run, so every page's address restores what it shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from dashboard import db, terms

Range = tuple[int, int]


@dataclass(frozen=True)
class View:
    """What is being looked at. Empty strings and tuples mean `not chosen`; None means `no limit`."""

    snap: str = ""
    families: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    dataset: str = ""
    subset: str = "all"
    labels: str = db.ORIGINAL
    against: str = ""
    scoring: str = "top1"
    strat: str = "pooled"
    empty: str = "excluded"
    pair: str = ""
    corruption: str = ""
    ssl: str = "contrast"
    contrast: str = "accuracy"
    beside: str = "same_views"
    few: str = "0"
    label: str = ""
    wrong: str = ""
    right_by: str = ""
    measure: str = ""
    reference: str = ""
    unsure: Range | None = None
    right: Range | None = None
    answers: Range | None = None
    nlabels: Range | None = None
    sort: str = "id"
    part: str = "hard"
    own: str = "reference"
    rule: str = ""
    whose: str = "self"
    coverage: str = "50"
    axis: str = "logit"
    queue: str = ""
    agree: str = "figures"
    who: str = "hidden"
    about: str = "images"
    changed: str = "all"
    taxon: str = ""
    encoder: str = ""
    second: str = ""
    dots: str = "label"
    judge: str = ""
    picked: str = ""
    threats: str = "pairs"
    threat: str = ""
    via: str = ""
    onto: str = ""
    hit: str = ""
    taken: str = ""
    kin: str = ""
    land: str = ""
    climber: str = ""
    toward: str = ""
    hunted: str = ""
    told: str = "clean:u8"
    unlearned: str = "any"
    masked: str = ""
    drawn: str = ""
    goal: str = "untargeted"
    sequence: str = ""
    victim: str = ""
    mask: str = "padding"
    frame: int = 1
    collided: str = ""
    collision: str = ""
    twin: str = ""
    page: int = 1
    sample: str = ""


RANGES = ("unsure", "right", "answers", "nlabels")
LISTS = ("families", "models")
NUMBERS = ("page", "frame")
IMAGES = ("label", "wrong", "right_by", *RANGES)
"""Fields that narrow the images of a set, besides its subsets."""
FILTERS = ("dataset", "subset", "labels", *LISTS, *IMAGES, "measure", "reference", "sort")
"""Fields whose change leads back to the first page of a grid."""

SORTS = {
    "id": "In the order of their ids",
    "unsure": "Least certain first",
    "wrong": "Fewest right first",
    "answers": "Most different answers first",
}

PARTS = {
    "hard": "How hard they are",
    "table": "Table",
    "sweep": "Accuracy against coverage",
    "agreement": "Agreement of models",
}
OWN = {"reference": "The reference, the same images for all", "own": "Each model itself"}
COVERAGES = tuple(str(share) for share in range(5, 100, 5))
"""Percent of the original that a rule keeps."""
MOST = 50
"""Models that can be picked one by one; groups have any number."""

Choices = Mapping[str, Sequence[str]]


def parse(query: Mapping[str, str], choices: Choices) -> tuple[View, list[str]]:
    """The view that a query string asks for, and one sentence for each part of it that cannot be used.

    `choices` holds the allowed values of the fields that have a list of them. `families` and `models` are
    comma-separated lists (a comma in a name is `%2C`, a percent sign `%25`), ranges are `low-high` in whole numbers
    (`unsure` in percent of the images, by rank), `page` and `frame` are whole numbers.
    """
    view, problems = View(), []
    known = {field.name for field in fields(View)}
    for key, text in query.items():
        if key not in known:
            problems.append(f"`{_plain(key)}` is not part of an address here.")
            continue
        if key in LISTS:  # those that are here are kept
            here = [one for one in text.split(",") if _unquoted(one) in choices.get(key, ())]
            most = MOST if key == "models" else len(here)
            view = replace(view, **{key: tuple(dict.fromkeys(map(_unquoted, here[:most])))})
            if len(here) > most:
                problems.append(f"`{key}` names {len(here)} models; the first {most} are shown.")
            text = ",".join(one for one in text.split(",") if one not in here)
            if not text:
                continue
        try:
            view = replace(view, **{key: _value(key, text, choices)})
        except ValueError as fault:
            problems.append(f"`{key}={_plain(text)}`: {fault}.")
    return view, problems


def _value(key: str, text: str, choices: Choices) -> Any:
    if key in RANGES:
        low, _, high = text.partition("-")
        if not (low.isdecimal() and high.isdecimal() and int(low) <= int(high)):
            raise ValueError("not a range of two whole numbers such as 2-5")
        return int(low), int(high)
    if key in NUMBERS:
        if not (text.isdecimal() and int(text) >= 1):
            raise ValueError("not a whole number from 1 on")
        return int(text)
    values = tuple(map(_unquoted, text.split(","))) if key in LISTS else (text,)
    for value in values:
        if key in choices and value not in choices[key]:
            raise ValueError(f"there is no {_plain(value)!r} here; {_instead(value, choices[key])}")
    return values if key in LISTS else text


def _instead(value: str, known: Sequence[str]) -> str:
    """What there is in place of a value; of many, the names nearest to it (tokens of groups are no names)."""
    names = [name for name in known if not name.startswith("@")]
    if len(names) <= _FEW:
        return f"there is {', '.join(names) or 'nothing'}"
    close = get_close_matches(value[:60], names, 5, cutoff=0.4)
    return f"the nearest are {', '.join(close)}" if close else f"there is {', '.join(names[:_FEW])} and more"


_FEW = 12
"""Values up to which a message lists all of them."""


def _quoted(name: str) -> str:
    return name.replace("%", "%25").replace(",", "%2C")


def _unquoted(name: str) -> str:
    return name.replace("%2C", ",").replace("%25", "%")


def _plain(text: str) -> str:
    """Text of a URL inside a message: short, and without what Markdown would act on."""
    return "".join(c for c in text[:60] if c.isalnum() or c in " ,.:;-_/=+%")


def to_query(view: View) -> dict[str, str]:
    """The query string of a view: what differs from the defaults, in the order of the fields."""
    out = {}
    for field in fields(View):
        value = getattr(view, field.name)
        if value == field.default or value is None:
            continue
        if field.name in RANGES:
            value = f"{value[0]}-{value[1]}"
        elif field.name in LISTS:
            value = ",".join(map(_quoted, value))
        out[field.name] = str(value)
    return out


def address(page: str, view: View) -> str:
    """The address of a view on a page, relative to the app."""
    return f"{page}?{urlencode(to_query(view))}"


def choices(catalogue: db.Catalogue) -> dict[str, list[str]]:
    """The allowed values of every field that has a list of them, in this snapshot."""
    names = catalogue.datasets.index.tolist()
    return {
        "families": catalogue.families,
        "dataset": names,
        "subset": ["all", *catalogue.subsets["subset"].unique()],
        "labels": sorted({source for sources in catalogue.sources.values() for source in sources}),
        "against": names,
        "scoring": ["top1", "any_of"],
        "strat": ["pooled", "class"],
        "empty": ["excluded", "wrong"],
        "corruption": catalogue.corruptions,
        "ssl": list(terms.SSL),
        "contrast": list(terms.CONTRAST),
        "beside": list(terms.AGAINST),
        "label": sorted({str(c) for space in catalogue.classes.values() for c in space}, key=int),
        "models": [*catalogue.groups, *catalogue.models["model"]],
        "wrong": catalogue.models["model"].tolist(),
        "right_by": catalogue.models["model"].tolist(),
        "reference": catalogue.models["model"].tolist(),
        "measure": [*terms.MEASURE, terms.AGREEMENT],
        "rule": list(terms.RULE),
        "whose": ["self", *catalogue.models["model"]],
        "coverage": list(COVERAGES),
        "axis": list(terms.AXIS),
        "queue": list(terms.ORDER),
        "agree": list(terms.AGREEING),
        "who": list(terms.WHO),
        "about": list(terms.RELABELLED),
        "changed": list(terms.CHANGES),
        "taxon": list(terms.FRAMEWORKS),
        "encoder": catalogue.models["model"].tolist(),
        "second": catalogue.models["model"].tolist(),
        "dots": list(terms.MAPPED),
        "judge": catalogue.models["model"].tolist(),
        "threats": list(terms.THREATS),
        "via": catalogue.models["model"].tolist(),
        "onto": catalogue.models["model"].tolist(),
        "taken": list(terms.TAKEN),
        "climber": catalogue.models["model"].tolist(),
        "toward": list(terms.TARGET_RULE),
        "hunted": catalogue.models["model"].tolist(),
        "told": [":".join(kind) for kind in terms.DETECTED],
        "collision": list(terms.COLLISION),
        "unlearned": ["any", *terms.PERTURBED],
        "goal": list(terms.RADAR_GOAL),
        "mask": list(terms.RADAR_MASK),
        "sort": list(SORTS),
        "part": list(PARTS),
        "own": list(OWN),
    }


def settle(view: View, catalogue: db.Catalogue) -> tuple[View, list[str]]:
    """Fill in what was not chosen and take back what does not go together, with a sentence for each of the latter."""
    problems = []
    names = catalogue.datasets.index.tolist()
    if view.dataset not in names:
        view = replace(view, dataset=names[0])
    name = catalogue.dataset_name(view.dataset)
    if view.subset not in catalogue.subsets_of(view.dataset):
        problems.append(f"{name} has no subset “{terms.subset_name(view.subset)}”: all test images are shown.")
        view = replace(view, subset="all")
    if view.labels not in catalogue.sources.get(view.dataset, [db.ORIGINAL]):
        problems.append(
            f"{name} has no labels of the source “{terms.labels_name(view.labels)}”: the original ones are used."
        )
        view = replace(view, labels=db.ORIGINAL)
    if view.label and int(view.label) not in catalogue.class_names(view.dataset):
        problems.append(f"{name} has no class number {view.label}: images of all classes are shown.")
        view = replace(view, label="")
    here = catalogue.answering.get(view.dataset, frozenset())
    for field, words in (("wrong", "Wrong by"), ("right_by", "Right by")):
        model = getattr(view, field)
        if model and model not in here:
            problems.append(
                f"{catalogue.model_name(model)} did not answer to {name}: the filter “{words}” is taken back."
            )
            view = replace(view, **{field: ""})
    if view.dataset not in catalogue.measured and (view.unsure is not None or view.sort == "unsure"):
        problems.append(f"No uncertainty is known of {name}: images are neither chosen nor ordered by it.")
        view = replace(view, unsure=None, sort="id" if view.sort == "unsure" else view.sort)
    return view, problems


def models(catalogue: db.Catalogue, view: View, dataset: str = "") -> tuple[str, ...]:
    """The models to be shown: those of the view that answer to `dataset`, by default to the chosen one."""
    return tuple(catalogue.choose(view.families, view.models, dataset or view.dataset))


def current() -> View:
    """The view of this session."""
    return st.session_state.get("view", View())


def change(**values: Any) -> None:
    """Change fields of the view; where a filter changes, grids start again at their first page."""
    st.session_state["touched"] = True
    if any(key in FILTERS for key in values):
        values = {"page": 1, "sample": ""} | values
    st.session_state["view"] = replace(current(), **values)


def begin() -> tuple[dict[str, str], bool]:
    """The query string of this run, and whether it says something that the view does not know yet.

    So it is on the first run of a session, and when a reader goes back or edits the address. Changing the page empties
    the query string, and a widget that was just used is ahead of it: neither is news.
    """
    query = dict(st.query_params)
    touched = st.session_state.pop("touched", False)
    news = "view" not in st.session_state or (bool(query) and not touched and query != st.session_state.get("written"))
    return query, news


def store(view: View) -> None:
    """Make `view` the view of this session, and write it to the URL."""
    st.session_state["view"] = view
    query = to_query(view)
    if query != dict(st.query_params):
        st.query_params.from_dict(query)
    st.session_state["written"] = query


def apart() -> View:
    """The view of a run of a fragment alone, whose own widgets may have changed it; brings the URL into line."""
    st.session_state.pop("touched", None)
    store(current())
    return current()


def bound(widget: Callable[..., Any], label: str, field: str, *, value: Any = None, **options: Any) -> Any:
    """Show a widget whose value is a field of the view; only what was chosen is kept in the view and the URL.

    `value` is shown where nothing is chosen, or what is chosen is none of the options.
    """
    key = f"w:{field}"
    now = getattr(current(), field)
    if value is not None and (now is None or now not in options.get("options", [now])):
        now = value
    st.session_state[key] = list(now) if field in LISTS else now

    def changed() -> None:
        new = st.session_state[key]
        if field in LISTS or field in RANGES:
            new = tuple(new)
        change(**{field: getattr(View(), field) if value is not None and new == value else new})

    return widget(label, key=key, on_change=changed, **options)


def picked(
    label: str,
    field: str,
    names: Mapping[str, str],
    widget: Callable[..., Any] = st.selectbox,
    *,
    value: str = "",
    **options: Any,
) -> str:
    """Show a widget that picks one of `names` (value -> how it is called) for a field of the view, and give the value:
    where none of them is chosen `value`, or the first."""
    first = value or next(iter(names))
    bound(widget, label, field, value=first, options=list(names), format_func=names.get, **options)
    now = getattr(current(), field)
    return now if now in names else first


def pager(pages: int) -> None:
    """Page numbers, where there are several pages. Its key holds the page, so that a reset elsewhere shows here."""
    if pages < 2:
        return
    key = f"w:page:{current().page}"
    st.pagination(pages, default=current().page, key=key, on_change=lambda: change(page=int(st.session_state[key])))


def within(pages: int) -> View:
    """The view, its page drawn in to the pages that there are."""
    if current().page > pages:
        store(replace(current(), page=max(pages, 1)))
    return current()
