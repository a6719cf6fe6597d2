"""Files of predictions or labels -> named columns: Parquet, CSV, JSON, .npy and .npz. What they mean is decided later.

Nothing is executed or unpickled; a file that is not what its name says is a BenchError that names it.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import BenchError

if TYPE_CHECKING:
    import pyarrow as pa

KEYS = ("sample_id", "file", "filename", "path")
"""Names of the column that says which image a row is about, the first one that is there counts."""
PEOPLE = ("annotator", "annotator_id", "worker", "worker_id", "rater", "rater_id", "user", "user_id")
"""Names of the column that says whose answer a row is, the first one that is there counts."""
VALUE = "value"
"""The column of files that name none: a JSON list or map, a .npy array."""
SCORES = {"logits": ("logits",), "probabilities": ("probabilities", "probs", "softmax")}
"""Names of the column with a number for every class, and what they say of these."""
DELIMITERS = (";", "\t", "|", " ")
SHOWN = 5
_DAMAGED = (
    ValueError, OSError, EOFError, MemoryError, OverflowError, RuntimeError, SyntaxError, zipfile.BadZipFile,
    zlib.error, struct.error,
)  # fmt: skip
"""What reading numpy's files and JSON raises where they are damaged, encrypted or made to do harm."""
_AGAIN = "Save it again, or choose another file."


@dataclass(frozen=True)
class Raw:
    """What files hold, N rows: columns (N,) or (N, k); lists of several lengths are an object array of lists."""

    format: str
    columns: dict[str, np.ndarray]
    where: str

    @property
    def n(self) -> int:
        return len(next(iter(self.columns.values())))


def read(paths: list[Path]) -> Raw:
    """The rows of all files, one after the other. BenchError where one cannot be read or has other columns."""
    parts = [_read(path) for path in paths]
    first = parts[0]
    for part in parts:
        if set(part.columns) != set(first.columns):
            said = f"has the columns {listed(part.columns)}, but {first.where} has {listed(first.columns)}."
            raise BenchError(said, where=part.where, remedy="Give the parts of one table, all with the same columns.")
        if not part.n:
            raise BenchError("holds no rows.", where=part.where, remedy=_AGAIN)
    if len(parts) == 1:
        return first
    columns = {name: _joined([part.columns[name] for part in parts]) for name in first.columns}
    return Raw(first.format, columns, ", ".join(part.where for part in parts))


def listed(items: Iterable[object], most: int = 10) -> str:
    """`a`, `b` and so on, at most `most` of them."""
    names = [f"`{item}`" for item in items]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def offending(rows: np.ndarray, describe: Iterable[str]) -> str:
    """`row 3 (a), row 7 (b)`: the first rows at fault, counted from 1 over all files."""
    said = [f"row {row + 1} ({text})" for row, text in zip(rows[:SHOWN].tolist(), describe, strict=False)]
    return ", ".join(said) + (", ..." if len(rows) > SHOWN else "")


def ids_in_order(path: Path) -> np.ndarray:
    """The ids of a file that gives an order: text with one id a line, a JSON list, or a table with a key column."""
    if path.suffix.lower() in (".txt", ""):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as fault:
            raise BenchError(f"cannot be read: {fault}.", where=path.name, remedy=_AGAIN) from None
        return np.array([line.strip() for line in lines if line.strip()], object)
    raw = read([path])
    found = next((raw.columns[name] for name in (*KEYS, VALUE) if name in raw.columns), None)
    if found is None or found.ndim != 1 or found.dtype.kind != "O":
        raise BenchError(
            f"has no column of ids ({listed(KEYS)}).", where=path.name, remedy="Give one id or file name a row."
        )
    return found


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    if len({part.shape[1:] for part in parts}) > 1 or len({part.dtype.kind == "O" for part in parts}) > 1:
        flat = [row.tolist() if isinstance(row, np.ndarray) else row for part in parts for row in part]
        return _objects(flat)
    return np.concatenate(parts)


def _read(path: Path) -> Raw:
    if not path.is_file():
        raise BenchError("there is no such file.", where=path, remedy="Correct the path.")
    if not path.stat().st_size:
        raise BenchError("is empty.", where=path.name, remedy=_AGAIN)
    with path.open("rb") as stream:
        head = stream.read(8)
    suffix = "".join(path.suffixes[-2:]).lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if head[:4] == b"PAR1" or suffix in (".parquet", ".pq"):
        return _parquet(path)
    if head[:6] == b"\x93NUMPY":
        return _npy(path)
    if suffix in (".npy", ".npz"):
        return _npz(path)
    if suffix == ".json":
        return _json(path)
    if suffix in (".csv", ".csv.gz", ".tsv", ".txt"):
        return _csv(path)
    raise BenchError(
        f"is of no known format ({suffix or 'no suffix'}).",
        where=path.name,
        remedy="Give Parquet (.parquet), CSV (.csv, .csv.gz), JSON (.json) or numpy (.npy, .npz).",
    )


def _parquet(path: Path) -> Raw:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as fault:
        raise BenchError(
            f"cannot be read as Parquet, it is truncated or damaged: {str(fault).splitlines()[0]}.",
            where=path.name,
            remedy="Copy or write it again.",
        ) from None
    return Raw("Parquet", _columns(table, path), path.name)


def _csv(path: Path) -> Raw:
    import pyarrow as pa
    from pyarrow import csv

    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            head = stream.read(65536).decode("utf-8-sig")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as fault:
        raise BenchError(f"cannot be read as text in UTF-8: {fault}.", where=path.name, remedy=_AGAIN) from None
    header = head.splitlines()[0] if head.splitlines() else ""
    names = [name.strip().strip('"') for name in header.split(",")]
    guess = max(DELIMITERS, key=header.count)
    if header.count(guess) > header.count(",") and not set(names) & set(KEYS):
        shown = "a tab" if guess == "\t" else f"`{guess}`"
        raise BenchError(
            f"it looks like {shown} separates the columns, not `,`; the first line is {header[:80]!r}.",
            where=path.name,
            remedy="Save it with commas between the columns.",
        )
    try:
        options = csv.ConvertOptions(column_types={name: pa.string() for name in (*KEYS, *PEOPLE) if name in names})
        table = csv.read_csv(path, convert_options=options)
    except (pa.ArrowException, OSError) as fault:
        raise BenchError(
            f"cannot be read as CSV: {str(fault).splitlines()[0]}.", where=path.name, remedy="Correct that row."
        ) from None
    return Raw("CSV", _columns(table, path), path.name)


def _columns(table: pa.Table, path: Path) -> dict[str, np.ndarray]:
    if not table.num_columns:
        raise BenchError("has no columns.", where=path.name, remedy=_AGAIN)
    names = [name.strip() for name in table.column_names]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise BenchError(f"has several columns {listed(repeated)}.", where=path.name, remedy="Rename them.")
    return {name: _column(table.column(at)) for at, name in enumerate(names)}


def _column(column: pa.ChunkedArray) -> np.ndarray:
    """(N,) numbers or objects, (N, k) where every list has k elements, else an object array of lists."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or _is_fixed(column.type)):
        values = column.to_numpy()
        if values.dtype.kind != "O" or not len(values) or not str(values[0]).startswith("["):
            return values
        try:
            return _lists(json.loads(f"[{','.join(map(str, values))}]"))
        except (ValueError, RecursionError):
            return values
    array = column.combine_chunks()
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    lengths = array.value_lengths() if not _is_fixed(array.type) else None
    if not array.null_count and (lengths is None or (len(lengths) and len(lengths.unique()) == 1)):
        return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)
    return _objects(array.to_pylist())


def _is_fixed(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_fixed_size_list(kind)


def _npy(path: Path) -> Raw:
    try:
        array = np.load(path, allow_pickle=False)
    except _DAMAGED as fault:
        raise BenchError(f"cannot be read as an array: {fault}.", where=path.name, remedy=_AGAIN) from None
    return Raw(f"numpy array {array.shape}", {VALUE: _array(array, path)}, path.name)


def _npz(path: Path) -> Raw:
    try:
        with np.load(path, allow_pickle=False) as held:
            arrays = {name: _array(held[name], path) for name in held.files}
    except _DAMAGED as fault:
        raise BenchError(f"cannot be read as arrays: {fault}.", where=path.name, remedy=_AGAIN) from None
    if not arrays or len({len(array) for array in arrays.values()}) > 1:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise BenchError(
            f"has no arrays of one length: {shapes}.", where=path.name, remedy="Save arrays with a row an image."
        )
    if len(arrays) == 1 and not any(set(arrays) & set(names) for names in SCORES.values()):
        arrays = {VALUE: next(iter(arrays.values()))}
    return Raw("numpy arrays", arrays, path.name)


def _array(array: np.ndarray, path: Path) -> np.ndarray:
    if array.ndim not in (1, 2) or array.dtype.kind not in "iufUb":
        raise BenchError(
            f"holds an array of shape {array.shape} and type {array.dtype}.",
            where=path.name,
            remedy="Give (N,) classes, (N, k) top-k classes or (N, K) scores.",
        )
    return array.astype(object) if array.dtype.kind == "U" else array


def _json(path: Path) -> Raw:
    repeated: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            seen: set[str] = set()
            repeated.extend(key for key, _ in items if key in seen or seen.add(key))
        return found

    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=pairs)
    except _DAMAGED as fault:
        raise BenchError(f"cannot be read as JSON: {fault}.", where=path.name, remedy=_AGAIN) from None
    if repeated:
        raise BenchError(f"names {listed(repeated, SHOWN)} twice.", where=path.name, remedy="Keep one of each.")
    if not isinstance(content, (list, dict)):
        raise BenchError("is neither a list nor a map.", where=path.name, remedy="Give a list, or a map of file.")
    if not content:
        raise BenchError("holds no rows.", where=path.name, remedy=_AGAIN)
    if isinstance(content, dict):
        return Raw("JSON map", {"file": _objects(list(content)), VALUE: _lists(list(content.values()))}, path.name)
    if all(isinstance(row, dict) for row in content):
        names = list(content[0])
        if any(set(row) != set(names) for row in content):
            raise BenchError("has rows with other keys than the first.", where=path.name, remedy="Give all the same.")
        return Raw("JSON rows", {name: _lists([row[name] for row in content]) for name in names}, path.name)
    return Raw("JSON list", {VALUE: _lists(content)}, path.name)


def _lists(values: list[Any]) -> np.ndarray:
    """(N,) or (N, k) numbers where they are, else objects."""
    if all(isinstance(value, list) for value in values):
        if len({len(value) for value in values}) == 1 and values[0]:
            flat = [item for value in values for item in value]
            return (
                _lists(flat).reshape(len(values), -1)
                if not any(isinstance(i, list) for i in flat)
                else _objects(values)
            )
        return _objects(values)
    if any(type(value) is int and abs(value) >= 2**62 for value in values):
        return _objects(values)
    if all(type(value) is int for value in values):
        return np.array(values, np.int64)
    if all(type(value) in (int, float) for value in values):
        return np.array(values, np.float64)
    return _objects(values)


def _objects(values: list[Any]) -> np.ndarray:
    out = np.empty(len(values), object)
    out[:] = values
    return out
