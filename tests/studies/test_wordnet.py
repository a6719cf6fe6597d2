"""The hierarchy of kinds: what is frozen is what WordNet says, and distances in it, by hand and against networkx."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from bench.data import cifar10, imagenet
from bench.errors import BenchError
from bench.studies import misclassification, wordnet

WORDNET = Path("/usr/share/wordnet")
ENTITY = "n00001740"


@pytest.fixture(scope="module")
def hierarchy() -> wordnet.Hierarchy:
    classes = imagenet.classes()
    found = wordnet.load(imagenet.LABEL_SPACE, classes.wnids, classes.names)
    assert found is not None
    return found


# Skipped on purpose where WordNet is not installed: it is no part of this repository, only what was made of it, and
# that is tested everywhere by what follows. `.ci/run` installs it where it may.
@pytest.mark.skipif(not (WORDNET / "data.noun").is_file(), reason="WordNet 3.0 (Debian: wordnet-base) is not installed")
def test_the_frozen_file_is_what_wordnet_says(tmp_path: Path) -> None:
    wordnet.main(["--from", str(WORDNET), "--out", str(tmp_path / "w.json")])
    assert (tmp_path / "w.json").read_bytes() == wordnet.PATH.read_bytes()


def test_its_licence_stands_beside_it() -> None:
    notice = wordnet.PATH.with_suffix(".LICENSE").read_text()
    assert "WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved." in notice
    assert "Permission to use, copy, modify and distribute" in notice
    assert "WordNet 3.0" in wordnet.PATH.read_text()[:200]


def test_every_class_of_imagenet_is_an_entity(hierarchy: wordnet.Hierarchy) -> None:
    assert len(set(hierarchy.leaves)) == 1000
    assert all(ENTITY in hierarchy.above(leaf) for leaf in hierarchy.leaves)
    assert [one for one, parents in hierarchy.parents.items() if not parents] == [ENTITY]
    assert len(hierarchy.below(ENTITY)) == 1000


def test_known_chains(hierarchy: wordnet.Hierarchy) -> None:
    way = ["n01440764"]
    while hierarchy.parents[way[-1]]:
        way.append(hierarchy.parents[way[-1]][0])
    tench = [hierarchy.names[one] for one in reversed(way)]
    assert tench[:6] == ["entity", "physical entity", "object", "whole", "living thing", "organism"]
    assert tench[-2:] == ["cyprinid", "tench"]
    dog = hierarchy.parents["n02084071"]
    assert [hierarchy.names[one] for one in dog] == ["canine", "domestic animal"], "a kind of two things"
    assert {"n02084071", "n01317541", "n02075296"} <= set(hierarchy.above("n02110185")), "a husky"


def test_the_classes_of_cifar10() -> None:
    found = wordnet.load("cifar10", [float("nan")] * 10, cifar10.CLASSES)
    assert found is not None
    assert [found.names[leaf] for leaf in found.leaves] == [
        "airplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"
    ]  # fmt: skip
    steps = wordnet.distances(found, range(10)).steps
    assert steps[3, 5] < steps[3, 7] < steps[3, 0], "a cat is nearer to a dog than to a horse, and that than to a plane"


def test_distances_are_those_of_a_graph(hierarchy: wordnet.Hierarchy) -> None:
    graph = nx.DiGraph([(one, parent) for one, parents in hierarchy.parents.items() for parent in parents])
    depths = wordnet.depths_of(hierarchy)
    some = [0, 151, 207, 281, 404, 999]
    found = wordnet.distances(hierarchy, some)
    up = {leaf: nx.single_source_shortest_path_length(graph, leaf) for leaf in hierarchy.leaves}
    for row, one in enumerate(some):
        mine = up[hierarchy.leaves[one]]
        assert hierarchy.above(hierarchy.leaves[one]) == mine
        for other in (0, 150, 208, 285, 500, 817):
            theirs = up[hierarchy.leaves[other]]
            both = mine.keys() & theirs.keys()
            assert found.steps[row, other] == min(mine[n] + theirs[n] for n in both)
            deepest = max(depths[n] for n in both)
            assert found.depth[row, other] == deepest
            least = min(mine[n] + theirs[n] for n in both if depths[n] == deepest)
            assert found.similarity[row, other] == pytest.approx(2 * (deepest + 1) / (2 * (deepest + 1) + least))
    np.testing.assert_array_equal(found.steps[range(len(some)), some], 0)
    np.testing.assert_array_equal(found.similarity[range(len(some)), some], 1)


def test_spaces_without_a_hierarchy_and_unknown_synsets() -> None:
    assert wordnet.load("digits", [None, float("nan")], ["0", "1"]) is None
    assert wordnet.load("digits", [], []) is None
    with pytest.raises(BenchError, match="classes of 'mine' are no synsets that are known here: n99999999"):
        wordnet.load("mine", ["n99999999"], ["x"])


def test_a_folder_that_is_not_wordnets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="cannot be read") as caught:
        wordnet.read(tmp_path, ["n01440764"])
    assert "--from" in str(caught.value.remedy)
    line = "00001740 03 n 01 entity 0 000 | all that is  \n"
    (tmp_path / "data.noun").write_text(line)
    (tmp_path / "index.noun").write_text("entity n 1 1 ~ 1 1 00001740  \n")
    with pytest.raises(BenchError, match=r"it is not WordNet 3\.0"):
        wordnet.read(tmp_path, ["n00001740"])


def test_the_groups_of_imagenet_have_the_sizes_that_the_paper_states(hierarchy: wordnet.Hierarchy) -> None:
    groups = misclassification.collections(imagenet.LABEL_SPACE, imagenet.classes().names, hierarchy)
    theirs = {"artifact": 522, "organism": 410, "animal": 398, "vertebrate": 337, "mammal": 218, "canine": 130}
    theirs |= {"beverage": 4, "aircraft": 4}
    assert {name: len(groups[name]) for name in theirs} == theirs
    assert set(groups["canine"]) < set(groups["mammal"]) < set(groups["vertebrate"]) < set(groups["organism"])
    with pytest.raises(BenchError, match="names classes that are none: n00021939"):
        misclassification.collections(imagenet.LABEL_SPACE, imagenet.classes().names)
