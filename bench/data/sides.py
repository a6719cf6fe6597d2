"""One side of a pair of datasets: what the comparison of two sets of test images needs to know of each, read once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.config import Config
from bench.data import pictures, samples
from bench.data.pictures import Codes, Looks
from bench.errors import BenchError
from bench.store import tables

Flags = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Side:
    """One of the two sets. `ids`, `sources` and `labels` (N,) are of its test images, `train_sources` (M,) of the rest.

    `keys` (K,) tell its classes in both sets. `looks` is None where it comes without pictures, `attached` says whether
    small copies were attached. `others`: further label source -> how many labels each image has, and whether its
    original one is among them, (N,) each.
    """

    name: str
    meta: samples.DatasetMeta
    keys: list[str]
    attached: bool
    ids: Ids
    sources: Ids
    train_sources: Ids
    labels: Codes
    others: dict[str, tuple[Codes, Flags]]
    looks: Looks | None

    @property
    def label_keys(self) -> Ids:
        """(N,): the key of each image's class, which is the same in both sets."""
        return np.array(self.keys)[self.labels]

    def class_name(self, class_id: int) -> str:
        """A class in quotes; with its number where the set has the name twice."""
        name = self.meta.classes[class_id]
        return repr(name) if self.meta.classes.count(name) == 1 else f"{name!r} ({class_id})"


def read(config: Config, original: str, other: str) -> tuple[Side, Side]:
    """Both sides of a pair of declared datasets.

    BenchError where a set has no test images, its files are missing, malformed or not those that params.yaml pins, or
    an image cannot be decoded.
    """
    metas = samples.meta(config, original), samples.meta(config, other)
    keys = class_keys(*metas)
    return _side(config, original, metas[0], keys[0]), _side(config, other, metas[1], keys[1])


def class_keys(a: samples.DatasetMeta, b: samples.DatasetMeta) -> tuple[list[str], list[str]]:
    """What tells the classes of two sets, in the order of their ids: wnids where both have them, else names.

    A name that one set has twice gets the number of its class behind it.
    """
    if a.wnids is not None and b.wnids is not None:
        return a.wnids, b.wnids
    return _unique(a.classes), _unique(b.classes)


def _unique(names: list[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} #{place}" for place, name in enumerate(names)]


def both_looks(a: Side, b: Side) -> tuple[Looks, Looks] | None:
    """What the pictures of both are like; None where a set comes without."""
    return None if a.looks is None or b.looks is None else (a.looks, b.looks)


def without_pictures(a: Side, b: Side) -> str:
    """Which of the two come without pictures, in words."""
    sides = [side for side in (a, b) if side.looks is None]
    names = " and ".join(side.name for side in sides)
    small = " Pictures that were attached are small copies made here, which say nothing about the set's own."
    attached = small if any(side.attached for side in sides) else ""
    return f"{names} {'come' if len(sides) > 1 else 'comes'} without pictures, which this check needs.{attached}"


def _side(config: Config, name: str, meta: samples.DatasetMeta, keys: list[str]) -> Side:
    declared, folder = config.dataset(name), config.folder(name)
    if declared.fetched is not None and samples.digest(folder) != declared.sha256:
        raise BenchError(
            f"its files are not those that params.yaml pins (datasets.{name}.sha256).",
            where=folder,
            remedy=samples.remedy(config, name),
        )
    frame = samples.read_table(folder, len(meta.classes), samples.remedy(config, name))
    is_test = (frame["split"] == "test").to_numpy()
    if not is_test.any():
        raise BenchError("has no test samples.", where=folder / samples.SAMPLES, remedy="Use a dataset that has some.")
    test, train = (frame.loc[rows].reset_index(drop=True) for rows in (is_test, ~is_test))
    ids, labels = test["sample_id"].to_numpy(str), test["label"].to_numpy(np.int64)
    return Side(
        name=name,
        meta=meta,
        keys=keys,
        attached=declared.images is not None,
        ids=ids,
        sources=test["source_id"].to_numpy(str),
        train_sources=train["source_id"].to_numpy(str),
        labels=labels,
        others=_other_sources(config, name, meta, ids, labels),
        looks=pictures.looks(test, train, folder / samples.SAMPLES, name) if samples.has_images(frame) else None,
    )


def _other_sources(
    config: Config, name: str, meta: samples.DatasetMeta, ids: Ids, original: Codes
) -> dict[str, tuple[Codes, Flags]]:
    """Every label source but the original one that a set declares or has; see `Side.others`."""
    import pandas as pd

    parts = [tables.read("labels", config.folder(name) / samples.LABELS)]
    for source, held in config.dataset(name).labels.items():
        path = config.imported_labels(name, source)
        if path.is_file() and tables.sha256(path) != held.sha256:
            raise BenchError(
                f"is not the file that params.yaml pins (datasets.{name}.labels).",
                where=path,
                remedy=f"Import it again with `bench import labels FILE --source {source} --dataset {name}`.",
            )
        parts.append(tables.read("labels", path))
    labels = pd.concat(parts, ignore_index=True)
    known = {*labels["source"], *(meta.label_sources or {}), *config.dataset(name).labels} - {"original"}
    labels = labels.loc[labels["weight"] > 0]
    row = pd.Index(ids).get_indexer(pd.Index(labels["sample_id"]))
    out = {}
    for source in sorted(known):
        mine = (labels["source"] == source).to_numpy() & (row >= 0)
        rows, classes = row[mine], labels["class_id"].to_numpy(np.int64)[mine]
        kept = np.zeros(len(ids), bool)
        kept[rows[classes == original[rows]]] = True
        out[source] = np.bincount(rows, minlength=len(ids)).astype(np.int64), kept
    return out
