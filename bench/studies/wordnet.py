"""The hierarchy of kinds above the classes of a label space, frozen from WordNet 3.0, and how far classes are apart.

    python -m bench.studies.wordnet --from /usr/share/wordnet

reads `data.noun` and `index.noun` of WordNet 3.0 (the package `wordnet-base` of Debian has them) and writes
wordnet.json beside this file: every noun synset above the 1,000 classes of ImageNet and the ten of CIFAR-10, by its id
(`n` and its place in data.noun, in eight digits, which is what ImageNet calls a wnid), with its first lemma and the
synsets that it is a kind or an instance of, the first one first. WordNet may be passed on with its licence:
wordnet.LICENSE.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import BenchError
from bench.store import tables

PATH = Path(__file__).with_suffix(".json")
CIFAR10 = {
    "airplane": "airplane",
    "automobile": "car",
    "bird": "bird",
    "cat": "cat",
    "deer": "deer",
    "dog": "dog",
    "frog": "frog",
    "horse": "horse",
    "ship": "ship",
    "truck": "truck",
}
"""Class -> the noun whose first sense it is."""
_REMEDY = "Name the folder of WordNet 3.0 that holds data.noun and index.noun: --from DIR."


@dataclass(frozen=True)
class Hierarchy:
    """Kinds above the K classes of a label space, whose synsets are `leaves`: synset -> its first lemma, and those that
    it is a kind of."""

    leaves: tuple[str, ...]
    names: Mapping[str, str]
    parents: Mapping[str, tuple[str, ...]]

    def below(self, synset: str) -> list[int]:
        """The classes that are a kind of a synset, or that synset."""
        return [place for place, leaf in enumerate(self.leaves) if synset in self.above(leaf)]

    def above(self, synset: str) -> dict[str, int]:
        """A synset and all that it is a kind of -> the number of steps on the shortest way up."""
        found, front = {synset: 0}, [synset]
        while front:
            parents = {parent: 1 + found[one] for one in front for parent in self.parents[one]}
            front = [one for one in parents if one not in found]
            found = parents | found
        return found


@dataclass(frozen=True)
class Distances:
    """Of some classes (N,) to all K, (N, K). `steps`: edges on the shortest way over a synset that both are a kind of.
    `similarity`: 2 d / (d + a + d + b), where d is the depth of the deepest such synset (the root has 1, others one
    more than the longest way down) and a and b the steps up to it (Wu and Palmer 1994). `depth`: that d, less 1."""

    steps: npt.NDArray[np.float64]
    similarity: npt.NDArray[np.float64]
    depth: npt.NDArray[np.float64]


def load(space: str, wnids: Sequence[object], names: Sequence[str]) -> Hierarchy | None:
    """The hierarchy above the classes of a label space, by their wnids (where they have such) or, of CIFAR-10, their
    names; None where there is none. BenchError where a class has a wnid that is not known."""
    frozen = _frozen()
    leaves = [frozen["cifar10"].get(name) for name in names] if space == "cifar10" else list(wnids)
    if not leaves or not all(isinstance(leaf, str) for leaf in leaves):
        return None
    unknown = [leaf for leaf in leaves if leaf not in frozen["synsets"]]
    if unknown:
        raise BenchError(
            f"classes of {space!r} are no synsets that are known here: {', '.join(map(str, unknown[:5]))}.",
            where=PATH,
            remedy="Correct their wnids, or make the file anew with `python -m bench.studies.wordnet`.",
        )
    synsets: Mapping[str, tuple[str, list[str]]] = frozen["synsets"]
    return Hierarchy(
        tuple(str(leaf) for leaf in leaves),
        {one: name.replace("_", " ") for one, (name, _) in synsets.items()},
        {one: tuple(parents) for one, (_, parents) in synsets.items()},
    )


@cache
def _frozen() -> dict[str, Any]:
    return json.loads(PATH.read_text(encoding="utf-8"))


def distances(hierarchy: Hierarchy, classes: Sequence[int]) -> Distances:
    """How far some of the classes are from all of them."""
    above = [hierarchy.above(leaf) for leaf in hierarchy.leaves]
    nodes = sorted({node for one in above for node in one})
    depths = depths_of(hierarchy)
    depth = np.array([depths[node] for node in nodes], float)
    ways = np.array([[one.get(node, np.inf) for node in nodes] for one in above])
    found = Distances(*(np.empty((len(classes), len(above))) for _ in range(3)))
    for place, one in enumerate(classes):
        up = np.isfinite(ways[one])
        both = ways[one, up] + ways[:, up]  # (K, synsets above this class)
        known = np.where(np.isfinite(both), depth[up], -1)
        deepest = known.max(axis=1)
        # Of several synsets that lie as deep, the one with the shortest ways.
        least = np.where(known == deepest[:, None], both, np.inf).min(axis=1)
        found.steps[place], found.depth[place] = both.min(axis=1), deepest
        found.similarity[place] = 2 * (deepest + 1) / (2 * (deepest + 1) + least)
    return found


def depths_of(hierarchy: Hierarchy) -> dict[str, int]:
    """Every synset -> the steps on the longest way down to it from the root."""
    out: dict[str, int] = {}

    def depth(synset: str) -> int:
        if synset not in out:
            out[synset] = 1 + max((depth(parent) for parent in hierarchy.parents[synset]), default=-1)
        return out[synset]

    for synset in hierarchy.parents:
        depth(synset)
    return out


def read(folder: Path, wnids: Sequence[str]) -> dict[str, object]:
    """What is frozen, from WordNet's own files: `synsets`, synset -> first lemma and parents, and `cifar10`, class ->
    synset. BenchError where a file is missing or not WordNet 3.0's."""
    try:
        data = (folder / "data.noun").read_text(encoding="ascii")
        index = (folder / "index.noun").read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as fault:
        raise BenchError(f"cannot be read: {fault}.", where=folder, remedy=_REMEDY) from None
    known = dict(_synset(line) for line in data.splitlines() if line and not line.startswith("  "))
    first = dict(_first(line) for line in index.splitlines() if line and not line.startswith("  "))
    try:
        cifar10 = {name: first[lemma] for name, lemma in CIFAR10.items()}
        held: dict[str, tuple[str, list[str]]] = {}
        front = [*wnids, *cifar10.values()]
        while front:
            held |= {one: known[one] for one in front}
            front = [parent for one in front for parent in known[one][1] if parent not in held]
    except KeyError as fault:
        raise BenchError(f"has no {fault}: it is not WordNet 3.0.", where=folder, remedy=_REMEDY) from None
    return {"synsets": dict(sorted(held.items())), "cifar10": cifar10}


def _synset(line: str) -> tuple[str, tuple[str, list[str]]]:
    """A line of data.noun (wndb(5WN)): offset, file, type, number of words in base 16, each with its id, number of
    pointers, each of symbol, offset, part of speech and source; `@` and `@i` point to what it is a kind or an instance
    of."""
    fields = line.split(" | ", 1)[0].split()
    at = 4 + 2 * int(fields[3], 16)
    pointers = [fields[at + 1 + 4 * k : at + 5 + 4 * k] for k in range(int(fields[at]))]
    return f"n{fields[0]}", (fields[4], [f"n{offset}" for symbol, offset, *_ in pointers if symbol in ("@", "@i")])


def _first(line: str) -> tuple[str, str]:
    """A line of index.noun: lemma, part of speech, number of synsets, number of pointer symbols, these, two numbers,
    and the synsets, the most frequent sense first."""
    fields = line.split()
    return fields[0], f"n{fields[6 + int(fields[3])]}"


def write(frozen: Mapping[str, object], path: Path = PATH) -> None:
    """One synset a line, so that a change can be read."""
    synsets = frozen["synsets"]
    assert isinstance(synsets, dict)
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in synsets.items())
    about = "WordNet 3.0, Copyright 2006 by Princeton University: see wordnet.LICENSE. Made by wordnet.py."
    text = (
        f'{{"about": {json.dumps(about)},\n"cifar10": {json.dumps(frozen["cifar10"])},\n"synsets": {{\n{lines}\n}}}}\n'
    )
    with tables.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    from timm.data.imagenet_info import ImageNetInfo

    parser = argparse.ArgumentParser(prog="python -m bench.studies.wordnet", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--from", dest="folder", type=Path, required=True, help="the folder of data.noun and index.noun"
    )
    parser.add_argument("--out", type=Path, default=PATH)
    given = parser.parse_args(arguments)
    write(read(given.folder, ImageNetInfo().label_names()), given.out)


if __name__ == "__main__":
    main()
