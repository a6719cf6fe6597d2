"""The view and its address."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import db, state
from dashboard.state import View

CHOICES = {
    "families": ["supervised", "ssl", "random", "pixels"],
    "dataset": ["digits", "optdigits"],
    "subset": ["all", "disputed"],
    "labels": ["original", "true"],
    "against": ["digits", "optdigits"],
    "scoring": ["top1", "any_of"],
    "corruption": ["gaussian_blur"],
    "label": [str(k) for k in range(10)],
    "models": ["pixels", "org/resnet50.a1_in1k", "one, two", "50 %2C, 100 %", "@family:ssl"],
    "wrong": ["pixels"],
    "right_by": ["pixels"],
    "reference": ["pixels"],
    "measure": ["msp"],
    "sort": list(state.SORTS),
    "part": list(state.PARTS),
    "own": list(state.OWN),
}

RANGES = st.none() | st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda ends: (min(ends), max(ends)))
VIEWS = st.builds(
    View,
    snap=st.text(alphabet="abc0-", max_size=8),
    families=st.lists(st.sampled_from(CHOICES["families"]), unique=True).map(tuple),
    models=st.lists(st.sampled_from(CHOICES["models"]), unique=True).map(tuple),
    dataset=st.sampled_from(["", *CHOICES["dataset"]]),
    subset=st.sampled_from(CHOICES["subset"]),
    labels=st.sampled_from(CHOICES["labels"]),
    against=st.sampled_from(["", *CHOICES["against"]]),
    scoring=st.sampled_from(CHOICES["scoring"]),
    corruption=st.sampled_from(["", *CHOICES["corruption"]]),
    label=st.sampled_from(["", *CHOICES["label"]]),
    wrong=st.sampled_from(["", *CHOICES["wrong"]]),
    right_by=st.sampled_from(["", *CHOICES["right_by"]]),
    measure=st.sampled_from(["", *CHOICES["measure"]]),
    reference=st.sampled_from(["", *CHOICES["reference"]]),
    part=st.sampled_from(CHOICES["part"]),
    own=st.sampled_from(CHOICES["own"]),
    unsure=RANGES,
    right=RANGES,
    answers=RANGES,
    nlabels=RANGES,
    sort=st.sampled_from(CHOICES["sort"]),
    page=st.integers(1, 500),
    sample=st.text(max_size=12),
)


@given(VIEWS)
def test_the_address_of_a_view_gives_the_view(view: View) -> None:
    assert state.parse(state.to_query(view), CHOICES) == (view, [])


def test_the_default_view_has_no_address() -> None:
    assert state.to_query(View()) == {}


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"families": "foo"}, "no 'foo' here; there is supervised, ssl"),
        ({"dataset": "mnist"}, "no 'mnist' here"),
        ({"right": "5-2"}, "not a range"),
        ({"right": "a-b"}, "not a range"),
        ({"right": "3"}, "not a range"),
        ({"unsure": "-1-5"}, "not a range"),
        ({"page": "0"}, "not a whole number"),
        ({"page": "²"}, "not a whole number"),
        ({"label": "11"}, "no '11' here"),
        ({"models": "org/resnet50"}, "no 'org/resnet50' here; there is pixels"),
        ({"flavour": "red"}, "`flavour` is not part of an address"),
    ],
)
def test_what_cannot_be_used_is_said_and_left_out(query: dict[str, str], says: str) -> None:
    view, problems = state.parse(query | {"dataset": query.get("dataset", "optdigits")}, CHOICES)
    assert len(problems) == 1
    assert says in problems[0]
    assert view == (View() if "dataset" in query else View(dataset="optdigits"))


def test_the_known_families_of_a_list_are_kept() -> None:
    view, problems = state.parse({"families": "ssl,foo"}, CHOICES)
    assert view == View(families=("ssl",))
    assert len(problems) == 1
    assert "no 'foo' here" in problems[0]


def test_messages_hold_no_markup_from_the_address() -> None:
    _, problems = state.parse({"dataset": "<img src=x>[a](javascript:b)`*" + "x" * 500}, CHOICES)
    assert not set("<>[]()*") & set(problems[0].split(":", 1)[1])
    assert len(problems[0]) < 300


def test_settle_fills_in_and_takes_back(source: db.Source) -> None:
    catalogue = db.catalogue(source)
    view, problems = state.settle(View(), catalogue)
    assert (view, problems) == (View(dataset="digits"), [])
    view, problems = state.settle(View(dataset="digits", subset="multi-label", labels="true"), catalogue)
    assert (view.subset, view.labels) == ("all", "original")
    assert len(problems) == 2


def test_an_unknown_name_among_many_brings_the_nearest_ones() -> None:
    names = [f"resnet{k}" for k in range(20)] + ["vgg16", "@family:ssl"]
    _, [said] = state.parse({"models": "resnet1000"}, {"models": names})
    assert "the nearest are resnet10" in said
    assert "@" not in said
    assert "vgg16" not in said
    _, [said] = state.parse({"models": "¬"}, {"models": names})
    assert "there is resnet0" in said
    assert said.endswith("and more.")


def test_filters_that_cannot_apply_are_taken_back_and_that_is_said(mixed: db.Source) -> None:
    catalogue = db.catalogue(mixed)
    view, problems = state.settle(View(dataset="objects", wrong="pixels", right_by="plain"), catalogue)
    assert (view.wrong, view.right_by) == ("", "plain")
    assert problems == ["Raw pixels did not answer to Objects: the filter “Wrong by” is taken back."]
    bare = dataclasses.replace(catalogue, measured=frozenset())
    view, problems = state.settle(View(dataset="objects", unsure=(90, 100), sort="unsure"), bare)
    assert (view.unsure, view.sort) == (None, "id")
    assert problems == ["No uncertainty is known of Objects: images are neither chosen nor ordered by it."]
    view, problems = state.settle(View(dataset="objects", unsure=(90, 100), sort="unsure"), catalogue)
    assert (view.unsure, view.sort, problems) == ((90, 100), "unsure", [])
    assert state.settle(View(dataset="objects", label="99"), catalogue)[0].label == ""


def test_choices_are_those_of_the_snapshot(source: db.Source) -> None:
    choices = state.choices(db.catalogue(source))
    assert choices["families"] == ["supervised", "ssl", "random", "pixels"]
    assert choices["labels"] == ["composed", "original", "true"]
    assert choices["label"][-1] == "9"
    assert "suitable" in choices["subset"]
