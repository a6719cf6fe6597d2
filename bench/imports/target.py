"""What is imported for: the test images of a dataset and its classes; ids and classes of a file become theirs."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.config import Config
from bench.data import samples
from bench.errors import BenchError
from bench.imports.read import KEYS, SHOWN, Raw, ids_in_order, listed, offending

if TYPE_CHECKING:
    import pandas as pd

IMAGE_SUFFIX = r"(?i)\.(jpe?g|png|webp|bmp|gif|tiff?|ppm)$"


@dataclass(frozen=True)
class Target:
    """The test images of a dataset: ids (N,) in the order of samples.parquet, labels (N,), and its classes."""

    config: Config
    dataset: str
    ids: np.ndarray
    labels: np.ndarray
    other_ids: np.ndarray
    """Ids of the images that are not of the test split."""
    classes: list[str]
    wnids: list[str] | None

    @cached_property
    def index(self) -> pd.Index:
        import pandas as pd

        return pd.Index(self.ids)


def load(config: Config, dataset: str) -> Target:
    """Read the dataset's folder. BenchError where it is not declared, missing or has no test images."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    meta = samples.meta(config, dataset)
    path = config.folder(dataset) / samples.SAMPLES
    try:
        table = pq.read_table(path, columns=["sample_id", "split", "label"])
    except (pa.ArrowException, OSError) as fault:
        raise BenchError(f"cannot be read: {fault}.", where=path, remedy=samples.remedy(config, dataset)) from None
    ids = table.column("sample_id").to_numpy().astype(object)
    test = table.column("split").to_numpy() == "test"
    if not test.any():
        raise BenchError("has no test images.", where=path, remedy="Import for a dataset that has some.")
    labels = table.column("label").to_numpy()[test]
    return Target(config, dataset, ids[test], labels, ids[~test], meta.classes, meta.wnids)


@dataclass(frozen=True)
class Keyed:
    """Which image each row of a file is about: `place` (n,) into the ids of the target, and how that is known."""

    place: np.ndarray
    ids: np.ndarray
    about: str


def keyed(target: Target, raw: Raw, order: Path | None, in_order: bool, *, once: bool = True) -> Keyed:
    """Match rows to images by a key column, or by their place where `order` or `in_order` says so.

    With `once`, a repeated id is a fault. BenchError with the first rows that are of no test image, or repeated, or
    where rows have no key and nothing says what order they are in.
    """
    key = next((name for name in KEYS if name in raw.columns), None)
    if key is not None:
        if order is not None or in_order:
            raise BenchError(
                f"has the key column `{key}`, so its rows need no order.",
                where=raw.where,
                remedy="Leave --order and --in-order out.",
            )
        ids, about = raw.columns[key], f"key column `{key}`"
    elif order is not None:
        ids, about = ids_in_order(order), f"rows in the order of {order.name}"
        key = "sample_id" if np.isin(ids[:1], target.ids).any() else "file"
    elif in_order:
        ids, key, about = target.ids, "sample_id", f"rows taken to be in the declared order of {target.dataset!r}"
    else:
        raise BenchError(
            f"has no key column ({listed(KEYS)}), only {listed(raw.columns)}, and its order cannot be checked.",
            where=raw.where,
            remedy=f"Add one; or say that its rows are in the order of the test images of {target.dataset!r} "
            "(samples.parquet) with --in-order, or what order they are in with --order FILE.",
        )
    if len(ids) != raw.n:
        raise BenchError(
            f"has {raw.n:,} rows, but there are {len(ids):,} ids in that order.",
            where=raw.where,
            remedy="Give exactly one row for each.",
        )
    place = _places(target, ids, key, raw.where)
    if once:
        _check_once(ids, place, raw.where)
    return Keyed(place, ids, about)


def check_complete(target: Target, place: np.ndarray, where: str, remedy: str) -> None:
    """BenchError with the first test images that no row is about."""
    lacking = np.ones(len(target.ids), bool)
    lacking[place] = False
    if lacking.any():
        first = target.ids[lacking][:SHOWN]
        raise BenchError(
            f"{int(lacking.sum()):,} of the {len(target.ids):,} test images of {target.dataset!r} are missing, "
            f"the first: {listed(first)}.",
            where=where,
            remedy=remedy,
        )


def _check_once(ids: np.ndarray, place: np.ndarray, where: str) -> None:
    counts = np.bincount(place)
    again = np.flatnonzero(counts[place] > 1)
    if len(again):
        again = again[np.argsort(place[again], kind="stable")]
        raise BenchError(
            f"{int((counts > 1).sum()):,} ids are repeated: {offending(again, map(str, ids[again[:SHOWN]]))}.",
            where=where,
            remedy="Keep one row for each image.",
        )


def _places(target: Target, ids: np.ndarray, key: str, where: str) -> np.ndarray:
    import pandas as pd

    empty = pd.isna(pd.Series(ids, dtype=object)).to_numpy()
    if empty.any():
        rows = np.flatnonzero(empty)
        raise BenchError(
            f"{len(rows):,} rows have no `{key}`: {offending(rows, ['empty'] * SHOWN)}.",
            where=where,
            remedy="Name the image of every row.",
        )
    texts = ids if ids.dtype.kind == "O" else ids.astype(str).astype(object)
    place = target.index.get_indexer(pd.Index(texts))
    if key != "sample_id" and (place < 0).any():
        by_stem = np.where([_home(target, text) is None for text in texts], 0, -1)
        by_stem[by_stem == 0] = _index_of_stems(target).get_indexer(pd.Index(stems(texts[by_stem == 0])))
        place = np.where(place < 0, by_stem, place)
    strange = np.flatnonzero(place < 0)
    if len(strange):
        what, remedy = _whose(target, texts[strange], key)
        raise BenchError(
            f"{len(strange):,} of {len(ids):,} rows are of no test image of {target.dataset!r}: "
            f"{offending(strange, map(repr, texts[strange[:SHOWN]]))}.{what}",
            where=where,
            remedy=remedy,
        )
    return place.astype(np.int64)


def _home(target: Target, text: object) -> str | None:
    """The other declared dataset that an id or file name begins with: images of several may have the same stem."""
    first = re.match(r"(?:\./)?([^/\\]+)[/\\]", str(text))
    known = first is not None and first[1] in target.config.datasets and first[1] != target.dataset
    return first[1] if first is not None and known else None


def _index_of_stems(target: Target) -> pd.Index:
    """Names of the test images without folders and suffix. BenchError where two have the same."""
    import pandas as pd

    index = pd.Index(stems(target.ids))
    if not index.is_unique:
        twice = target.ids[index.duplicated(keep=False)][:SHOWN]
        raise BenchError(
            f"file names do not tell the images of {target.dataset!r} apart, e.g. {listed(twice)}.",
            where=target.dataset,
            remedy="Use a column `sample_id` with the whole ids.",
        )
    return index


def stems(ids: np.ndarray) -> np.ndarray:
    """What follows the last folder, without the suffix of an image: `val/n01/a.b.JPEG` -> `a.b`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = pc.replace_substring_regex(pa.array(ids, pa.string()), r"^.*[/\\\\]", "")  # pyright: ignore[reportAttributeAccessIssue]
    bare = pc.replace_substring_regex(names, IMAGE_SUFFIX, "")  # pyright: ignore[reportAttributeAccessIssue]
    return bare.to_numpy(zero_copy_only=False)


def _whose(target: Target, strange: np.ndarray, key: str) -> tuple[str, str]:
    """What the ids at fault seem to be, and what to do."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def known(ids: np.ndarray) -> bool:
        own = set(stems(ids)) if key != "sample_id" else set(ids)
        return any(one in own for one in (stems(strange) if key != "sample_id" else strange)[:1000])

    home = next(filter(None, (_home(target, text) for text in strange)), None)
    if home is not None:
        return f" They seem to belong to {home!r}.", f"Import them with `--dataset {home}`, or give another file."
    if len(target.other_ids) and known(target.other_ids):
        return " These are images that are not of the test split.", "Give the rows of the test split alone."
    for name in target.config.datasets:
        path = target.config.folder(name) / samples.SAMPLES
        if name == target.dataset or not path.is_file():
            continue
        try:
            ids = pq.read_table(path, columns=["sample_id"]).column("sample_id").to_numpy().astype(object)
        except (pa.ArrowException, OSError):
            continue
        if known(ids):
            return f" They seem to belong to {name!r}.", f"Import them with `--dataset {name}`, or give another file."
    if key == "sample_id" and set(stems(strange)[:1000]) & set(stems(target.ids)):
        return " They are file names.", "Call that column `file`."
    return f" Its ids are like {target.ids[0]!r}.", "Correct the ids, or name the dataset that they are of."


@dataclass(frozen=True)
class Classes:
    """Class ids, in the shape that was given, and what they were given as."""

    ids: np.ndarray
    about: str


def class_ids(
    target: Target, values: np.ndarray, how: str | None, one_based: bool, where: str, rows: np.ndarray
) -> Classes:
    """Class indices, names or wnids (n,) -> class ids (n,) int64; `rows` (n,) are the rows they stand in.

    `how` says what they are, else they themselves do. BenchError with the first rows at fault: nothing, a fraction, a
    name that is not known or stands for two classes, an index that is no class, or indices that are counted from 1.
    """
    if values.dtype.kind == "b":
        raise BenchError("has true and false in place of classes.", where=where, remedy="Give class indices or names.")
    if values.dtype.kind == "f":
        _check_whole(values, where, rows)
    if values.dtype.kind in "iuf" and how in (None, "index"):
        return Classes(_indices(target, values, one_based, where, rows), "class index")
    if values.dtype.kind == "f":
        values = np.array([int(value) for value in values], object)
    import pandas as pd

    odd = np.array([row for row, value in enumerate(values) if isinstance(value, (dict, list, np.ndarray))], np.int64)
    if len(odd):
        raise BenchError(
            f"{len(odd):,} rows have no single class: {offending(rows[odd], map(str, values[odd[:SHOWN]]))}.",
            where=where,
            remedy="Give a class index, a name or a wnid.",
        )
    codes, found = pd.factorize(pd.Series(values, dtype=object), use_na_sentinel=True)
    if (codes < 0).any():
        at = np.flatnonzero(codes < 0)
        raise BenchError(
            f"{len(at):,} rows have no class: {offending(rows[at], ['empty'] * SHOWN)}.",
            where=where,
            remedy="Give a class in every row.",
        )
    names = [str(value).strip() for value in found]
    how = how or _kind(target, names, where)
    if how == "index":
        bad = np.array([re.fullmatch(r"[+-]?\d{1,9}", name) is None for name in names])
        if bad.any():
            at = np.flatnonzero(bad[codes])
            raise BenchError(
                f"{len(at):,} rows have no class index: {offending(rows[at], (names[codes[a]] for a in at[:SHOWN]))}.",
                where=where,
                remedy="Say `--classes name` or `--classes wnid` where they are those.",
            )
        table = np.array([int(name) for name in names], np.int64)
        return Classes(_indices(target, table[codes], one_based, where, rows), "class index")
    if one_based:
        raise BenchError(f"has classes by {how}, not by index.", where=where, remedy="Leave --one-based out.")
    table = _named(target, names, how, where, codes, rows)
    return Classes(table[codes], "class name" if how == "name" else "wnid")


def _check_whole(values: np.ndarray, where: str, rows: np.ndarray) -> None:
    finite = np.isfinite(values)
    fraction = finite & (np.where(finite, values, 0) % 1 != 0)
    for what, bad in (("no class (NaN or infinite)", ~finite), ("a fraction", fraction)):
        if bad.any():
            at = np.flatnonzero(bad)
            raise BenchError(
                f"{len(at):,} rows have {what} in place of a class: "
                f"{offending(rows[at], (f'{value:g}' for value in values[at[:SHOWN]]))}.",
                where=where,
                remedy="Give whole numbers, names or wnids.",
            )


def _indices(target: Target, values: np.ndarray, one_based: bool, where: str, rows: np.ndarray) -> np.ndarray:
    n = len(target.classes)
    if one_based:
        low, high, shift = 1, n, 1
    else:
        low, high, shift = 0, n - 1, 0
    bad = np.flatnonzero((values < low) | (values > high))
    if not len(bad):
        return values.astype(np.int64) - shift
    said = offending(rows[bad], (str(int(value)) for value in values[bad[:SHOWN]]))
    if not one_based and values.min() >= 1 and values.max() == n:
        raise BenchError(
            f"the classes seem to be counted from 1: {n} is there and 0 is not; {said}.",
            where=where,
            remedy="If they are, say so with --one-based.",
        )
    counted = "counted from 1, " if one_based else ""
    raise BenchError(
        f"{len(bad):,} answers are no class of {target.dataset!r}, which are, {counted}{low} to {high}: {said}.",
        where=where,
        remedy="Give classes of this label space, or leave --one-based out."
        if one_based
        else "Give classes of this label space.",
    )


def _kind(target: Target, names: list[str], where: str) -> str:
    """Whether texts are indices, wnids or names. BenchError where they may be two of them, to different effect."""
    if target.wnids and all(re.fullmatch(r"n\d{8}", name) for name in names):
        return "wnid"
    if not all(re.fullmatch(r"[+-]?\d{1,40}", name) for name in names):
        return "name"
    places = {name: place for place, name in enumerate(target.classes)}
    mixed = [name for name in names if name in places and places[name] != int(name)]
    if mixed:
        raise BenchError(
            f"{listed(mixed, SHOWN)} may be class indices or class names, which differ here.",
            where=where,
            remedy="Say which with `--classes index` or `--classes name`.",
        )
    return "index"


def _named(target: Target, names: list[str], how: str, where: str, codes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Class id of each name or wnid (len(names),)."""
    if how == "wnid" and target.wnids is None:
        raise BenchError(
            f"has wnids, but the classes of {target.dataset!r} have none.", where=where, remedy="Give names or indices."
        )
    known = target.wnids if how == "wnid" and target.wnids is not None else target.classes
    exact: dict[str, list[int]] = {}
    loose: dict[str, list[int]] = {}
    for place, name in enumerate(known):
        exact.setdefault(name, []).append(place)
        loose.setdefault(_plain(name), []).append(place)
    found = [exact.get(name) or loose.get(_plain(name)) or [] for name in names]
    wrong = np.array([len(places) != 1 for places in found])
    if wrong.any():
        at = np.flatnonzero(wrong[codes])
        twice = [names[c] for c in np.flatnonzero([len(places) > 1 for places in found])]
        if twice:
            what = f"{listed(twice, SHOWN)} is the name of several classes of {target.dataset!r}"
            remedy = "Give class indices or wnids."
        else:
            what = f"{int(wrong.sum())} {how}s are of no class of {target.dataset!r}"
            near = difflib.get_close_matches(names[codes[at[0]]], known, n=1, cutoff=0)
            remedy = f"Give classes of this label space; the nearest to the first is {near[0]!r}."
        said = offending(rows[at], (repr(names[codes[a]]) for a in at[:SHOWN]))
        raise BenchError(f"{what}: {said}.", where=where, remedy=remedy)
    return np.array([places[0] for places in found], np.int64)


def _plain(name: str) -> str:
    return name.replace("_", " ").casefold()


def flat(values: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Lists of classes an image -> the classes one after the other (n,), and the row of each (n,)."""
    if values.ndim == 2:
        return values.ravel(), np.repeat(np.arange(len(values)), values.shape[1])
    items: list[Any] = []
    lengths = np.zeros(len(values), np.int64)
    for row, value in enumerate(values):
        part = [] if value is None else value if isinstance(value, (list, np.ndarray)) else [value]
        items.extend(part)
        lengths[row] = len(part)
    rows = np.repeat(np.arange(len(values)), lengths)
    kinds = {type(item) for item in items}
    if kinds <= {int, np.int64, np.int32, np.int16} and all(abs(int(item)) < 2**62 for item in items):
        return np.array(items, np.int64), rows
    if any(isinstance(item, (list, dict, bool)) for item in items):
        at = next(n for n, item in enumerate(items) if isinstance(item, (list, dict, bool)))
        raise BenchError(
            f"row {rows[at] + 1} has {items[at]!r} in place of a class.", where=where, remedy="Give lists of classes."
        )
    out = np.empty(len(items), object)
    out[:] = items
    return out, rows
