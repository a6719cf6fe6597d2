"""`bench import labels`: a file of labels of one source -> data/imported/labels and a pin in params.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.config import Config, ImportedLabels
from bench.data import samples
from bench.errors import BenchError
from bench.imports import params, target
from bench.imports.read import KEYS, SHOWN, VALUE, Raw, listed, offending, read
from bench.imports.target import Target
from bench.presets import merge
from bench.store import tables

if TYPE_CHECKING:
    import pandas as pd

CLASSES = ("class_id", "class", "wnid", "label", "class_name", "class_index", "labels", "classes")
COUNTS = ("counts", "votes", "one_hot")
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"


@dataclass(frozen=True)
class Options:
    """How to read the file where it does not say it itself. Of votes, classes with a share above `min_share` are kept;
    with `partial`, images that the file leaves out have no labels."""

    order: Path | None = None
    in_order: bool = False
    one_based: bool = False
    classes: str | None = None
    min_share: float | None = None
    partial: bool = False


def run(
    config: Config,
    file: Path,
    source: str,
    dataset: str,
    process: str = "",
    options: Options = Options(),
    *,
    dry_run: bool = False,
) -> str:
    """Check and import labels of `dataset` from `source`; say what was understood and what was written.

    `process` says in words how they were made. Raises BenchError, with the first rows at fault; nothing has changed.
    """
    _check_source(config, source, dataset)
    goal = target.load(config, dataset)
    frame, said = understand(goal, read([file]), options)
    if dry_run:
        return "\n".join([*said, "Nothing was written (--dry-run)."])
    path = config.imported_labels(dataset, source)
    with merge.locked(config.root / "params.yaml") as config:
        _check_source(config, source, dataset)
        others = config.datasets[dataset].labels

        def edit(text: str) -> str:
            held = ImportedLabels(sha256=tables.sha256(path), process=" ".join(process.split()))
            return _edited(text, dataset, {**others, source: held})

        params.commit(config, [path], lambda: tables.write("labels", frame.assign(source=source), path), edit, [])
    return "\n".join([*said, f"Written: {path.relative_to(config.root)}, pinned in params.yaml. Next: `dvc repro`."])


def remove(config: Config, source: str, dataset: str) -> str:
    """Take an imported label source out of params.yaml and data/. BenchError where it is not there."""
    with merge.locked(config.root / "params.yaml") as config:
        return _remove(config, source, dataset)


def _remove(config: Config, source: str, dataset: str) -> str:
    held = config.dataset(dataset).labels
    if source not in held:
        raise BenchError(
            f"there are no imported labels {source!r} of {dataset!r}.",
            where="params.yaml",
            remedy=f"Imported are: {listed(held) or 'none'}.",
        )
    rest = {name: labels for name, labels in held.items() if name != source}
    gone = [config.imported_labels(dataset, source)]
    params.commit(config, [], lambda: None, lambda text: _edited(text, dataset, rest), gone)
    return f"Removed: labels {source} of {dataset}. Next: `dvc repro`."


def _edited(text: str, dataset: str, held: Mapping[str, ImportedLabels]) -> str:
    """The text of params.yaml in which these are the imported label sources of a dataset."""
    value = {name: labels.model_dump(exclude_defaults=True) for name, labels in held.items()}
    return params.with_value(text, "datasets", dataset, "labels", value or None)


def _check_source(config: Config, source: str, dataset: str) -> None:
    meta = samples.meta(config, dataset)
    if re.fullmatch(NAME, source) is None:
        raise BenchError(
            f"{source!r} is no name for a source.", where="--source", remedy="Use letters, digits, `.`, `_` and `-`."
        )
    taken = {"original", *config.dataset(dataset).labels, *(meta.label_sources or {})}
    path = config.folder(dataset) / samples.LABELS
    if path.is_file():
        taken |= set(tables.read("labels", path)["source"])
    if source.casefold() in {name.casefold() for name in taken}:
        again = f" (an imported one can be removed: `bench import remove --source {source} --dataset {dataset}`)"
        raise BenchError(
            f"{dataset!r} has labels from {source!r} already.",
            where="--source",
            remedy=f"Choose another name{again if source in config.datasets[dataset].labels else ''}.",
        )


def understand(goal: Target, raw: Raw, options: Options) -> tuple[pd.DataFrame, list[str]]:
    """Columns sample_id, class_id and weight of table `labels`, and what was understood, a line each."""
    import pandas as pd

    counts = counts_of(goal, raw)
    values = None if counts is not None else classes_of(raw)
    is_long = values is not None and values[1].ndim == 1 and values[0] != VALUE and not is_lists(values[1])
    keyed = target.keyed(goal, raw, options.order, options.in_order, once=not is_long)
    if not options.partial:
        empty = "" if is_long else " (an empty list where it has no label)"
        remedy = f"Give every image{empty}, or say --partial where those left out have no label."
        target.check_complete(goal, keyed.place, raw.where, remedy)
    if counts is not None:
        rows, classes, weight, about = _from_counts(counts, raw.where, options.min_share)
    else:
        assert values is not None, "one of the two is there, or it was refused"
        if options.min_share:
            raise BenchError("has no votes.", where=raw.where, remedy="Leave --min-share out.")
        rows, classes, weight, about = _from_values(goal, raw, values, options)
    if not len(rows):
        raise BenchError("has no label at all.", where=raw.where, remedy="Give another file.")
    frame = pd.DataFrame({"sample_id": goal.ids[keyed.place[rows]], "class_id": classes, "weight": weight})
    twice = np.flatnonzero(frame.duplicated(["sample_id", "class_id"]).to_numpy())
    if len(twice):
        said = offending(rows[twice], (f"{keyed.ids[rows[t]]}, class {classes[t]}" for t in twice[:SHOWN]))
        raise BenchError(
            f"{len(twice):,} labels are repeated: {said}.", where=raw.where, remedy="Give each label of an image once."
        )
    per_image = np.bincount(keyed.place[rows], minlength=len(goal.ids))
    inside = np.zeros(len(goal.ids), bool)
    inside[keyed.place[rows][classes == goal.labels[keyed.place[rows]]]] = True
    some = per_image > 0
    lines = [
        f"{raw.where}: {raw.format}, {keyed.about}, {raw.n:,} rows; {about}.",
        f"{len(frame):,} labels of {int(some.sum()):,} of the {len(goal.ids):,} test images of {goal.dataset!r}: "
        f"{int((per_image > 1).sum()):,} have several, {int((~some).sum()):,} have none.",
        f"The original label is among them for {inside[some].mean():.2%} of the images with labels.",
    ]
    return frame, lines


def is_lists(array: np.ndarray) -> bool:
    """Whether rows hold lists, of several lengths."""
    return array.dtype.kind == "O" and any(isinstance(one, list) for one in array)


def counts_of(goal: Target, raw: Raw) -> np.ndarray | None:
    """(N, K) numbers where the file has a number for each class, else None. BenchError where it has too few."""
    names = {name.casefold(): name for name in raw.columns}
    n = len(goal.classes)
    one = next((raw.columns[names[name]] for name in COUNTS if name in names), None)
    if one is None and VALUE in raw.columns:
        array = raw.columns[VALUE]
        if array.ndim != 2 or array.shape[1] != n:
            return None
        looks = array.dtype.kind in "bf" or _repeats(array)
        return array if looks else None
    if one is not None:
        if one.ndim != 2 or one.shape[1] != n or one.dtype.kind not in "iufb":
            raise BenchError(
                f"the counts are not {n} numbers a row, one for each class of {goal.dataset!r}.",
                where=raw.where,
                remedy="Give one for each class of this label space.",
            )
        return one
    for known in (goal.classes, goal.wnids or []):
        wide = [name for name in known if name in raw.columns]
        if known and len(wide) == n:
            return np.column_stack([raw.columns[name] for name in known])
    found: dict[str, dict[int, str]] = {}
    for name in raw.columns:
        if (m := re.fullmatch(r"([A-Za-z]*_?)(\d+)", name)) is not None:
            found.setdefault(m[1], {})[int(m[2])] = name
    for prefix, wide in found.items():
        if len(wide) > 1 and sorted(wide) == list(range(n)):
            return np.column_stack([raw.columns[wide[place]] for place in range(n)])
        if len(wide) > 1:
            raise BenchError(
                f"has {len(wide)} columns `{prefix}...`, but {goal.dataset!r} has {n} classes, counted from 0.",
                where=raw.where,
                remedy="Give one for each class of this label space.",
            )
    return None


def _repeats(array: np.ndarray) -> bool:
    """Whether rows hold a number twice, so that they are no lists of different classes."""
    ordered = np.sort(array, axis=1)
    return bool((ordered[:, 1:] == ordered[:, :-1]).any())


def classes_of(raw: Raw) -> tuple[str, np.ndarray]:
    """Name and values of the column that holds classes. BenchError where there is none."""
    names = {name.casefold(): name for name in raw.columns}
    name = next((names[name] for name in (*CLASSES, VALUE) if name in names), None)
    if name is None:
        raise BenchError(
            f"has no column with the classes, only {listed(raw.columns)}.",
            where=raw.where,
            remedy=f"Name it {listed(CLASSES)}, or give `counts` of every class.",
        )
    return name, raw.columns[name]


Labels = tuple[np.ndarray, np.ndarray, np.ndarray, str]
"""Row of each label, its class, its weight, and in words what they were given as."""


def _from_values(goal: Target, raw: Raw, values: tuple[str, np.ndarray], options: Options) -> Labels:
    name, array = values
    if array.ndim == 1 and not is_lists(array):
        flat, rows = array, np.arange(raw.n)
    else:
        flat, rows = target.flat(array, raw.where)
    if not len(flat):
        return rows, np.zeros(0, np.int64), np.zeros(0), ""
    given = target.class_ids(goal, flat, options.classes, options.one_based, raw.where, rows)
    weight = np.ones(len(flat))
    about = f"each label as {given.about}" + (f" in `{name}`" if name not in (VALUE, *KEYS) else "")
    if "weight" in raw.columns and len(flat) == raw.n:
        weight = _weights(raw)
        about += ", with weights"
    return rows, given.ids, weight, about


def _weights(raw: Raw) -> np.ndarray:
    weight = raw.columns["weight"]
    weight = weight.astype(np.float64) if weight.dtype.kind in "iuf" else np.full(raw.n, np.nan)
    bad = np.flatnonzero(~((weight > 0) & (weight <= 1)))
    if len(bad):
        raise BenchError(
            f"`weight` is not above 0 and at most 1 in {len(bad):,} rows: "
            f"{offending(bad, map(str, raw.columns['weight'][bad[:SHOWN]]))}.",
            where=raw.where,
            remedy="Give shares of votes, or leave the column out.",
        )
    return weight


def _from_counts(counts: np.ndarray, where: str, min_share: float | None) -> Labels:
    """Labels from (N, K) numbers: 0 and 1 say which classes an image has, others are votes or shares of them."""
    if counts.dtype.kind not in "iufb":
        raise BenchError("the counts are no numbers.", where=where, remedy="Give numbers, 0 for no vote.")
    counts = counts.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(counts) & (counts >= 0)).all(axis=1))
    if len(bad):
        said = offending(bad, (f"{counts[row][~(counts[row] >= 0)][:1]}" for row in bad[:SHOWN]))
        raise BenchError(
            f"counts are missing, infinite or negative in {len(bad):,} rows: {said}.",
            where=where,
            remedy="Give 0 for no vote.",
        )
    plain = bool(np.isin(counts, (0, 1)).all())
    if plain and min_share:
        raise BenchError("has no votes, only 0 and 1.", where=where, remedy="Leave --min-share out.")
    if min_share is None and (counts % 1 != 0).any():
        raise BenchError(
            "holds shares or probabilities, in which nearly every class has a part.",
            where=where,
            remedy="Say with --min-share above what share a class is a label, e.g. 0.1 (0 for all that have a part).",
        )
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts if plain else np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    rows, classes = np.nonzero(shares > (min_share or 0))
    above = f", those with a share above {min_share:g}" if min_share else ""
    about = "0 or 1 for each class" if plain else f"votes for each class, as shares of an image's votes{above}"
    return rows, classes, shares[rows, classes], about
