"""Reading and writing Parquet: validated, sorted by key, the same bytes for the same content, never half-written."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench import schemas
from bench.errors import BenchError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

ROW_GROUP = 65_536
COMPRESSION_LEVEL = 19
FAST_LEVEL = 6
"""For tables of millions of answers: as small within a few percent, and several times faster to write."""
PAGE_BYTES = 16 * 2**20
"""Large pages: zstd finds what repeats only inside one, and the pictures of a control repeat those of its original."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place on success, remove it on any failure.

    A full disk becomes a BenchError that names the file; Ctrl-C passes through after the clean-up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise BenchError(
                f"could not be written: {fault.strerror}.",
                where=path,
                remedy="Free some disk space and run `dvc repro` again; nothing was left half-written.",
            ) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder` that takes its place on success and leaves nothing on failure.

    What the system refuses (no space, no permission) becomes a BenchError that names the folder.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    previous = temporary.with_suffix(".old")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if folder.exists():
            folder.rename(previous)
        temporary.rename(folder)
    except OSError as fault:
        raise BenchError(
            f"could not be written: {fault.strerror or fault}.",
            where=folder,
            remedy="Free some disk space, or correct the permissions, and try again; nothing was left half-written.",
        ) from None
    finally:
        if previous.exists() and not folder.exists():
            previous.rename(folder)
        for leftover in (temporary, previous):
            shutil.rmtree(leftover, ignore_errors=True)


def stacked(name: str, parts: list[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all parts as one frame of table `name`; an empty frame with its columns where no part has rows."""
    import pandas as pd

    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(schemas.TABLES[name].columns))


def write(name: str, frame: pd.DataFrame, path: Path, *, level: int = COMPRESSION_LEVEL) -> pd.DataFrame:
    """Validate `frame` as table `name`, write it to `path` and return it as written (sorted, exact types).

    zstd, fixed row groups, no pandas metadata, floats byte-stream-split and cut to the declared bits, of each sample id
    what differs from the one before: equal content gives equal bytes, and few of them.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = schemas.validate(name, frame, where=path)
    for column, spec in schemas.TABLES[name].columns.items():
        if spec.bits is not None:
            frame[column] = significant(frame[column].to_numpy(), spec.bits)
    schema = schemas.arrow(name)
    table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False).replace_schema_metadata(None)
    encoding = {field.name: "BYTE_STREAM_SPLIT" for field in schema if pa.types.is_floating(field.type)}
    if "sample_id" in schemas.TABLES[name].key:
        encoding["sample_id"] = "DELTA_BYTE_ARRAY"
    plain = {field.name for field in schema if pa.types.is_binary(field.type)}
    with replacing(path) as temporary:
        pq.write_table(
            table,
            temporary,
            row_group_size=ROW_GROUP,
            data_page_size=PAGE_BYTES,
            compression="zstd",
            compression_level=level,
            use_dictionary=[field.name for field in schema if field.name not in {*encoding, *plain}],  # pyright: ignore[reportArgumentType]
            column_encoding=encoding,
            store_schema=False,
        )
    return frame


def significant(values: np.ndarray, bits: int) -> np.ndarray:
    """Floats rounded to `bits` significant bits: within a relative 2 ** -bits of the value; NaN stays."""
    import numpy as np

    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2**bits) / 2**bits, exponent).astype(values.dtype)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what can go wrong when `path` is read into a BenchError that names it."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise BenchError("is missing.", where=path, remedy="Run `dvc repro` (or `dvc pull`).") from None
    except (pa.ArrowInvalid, OSError) as fault:
        raise BenchError(
            f"cannot be read as Parquet: {fault}.", where=path, remedy="Delete it and run `dvc repro`."
        ) from None


def read(name: str, path: Path) -> pd.DataFrame:
    """Read and validate one Parquet file of table `name`. BenchError where it is missing, unreadable or wrong."""
    import pyarrow.parquet as pq

    with _readable(path):
        frame = pq.read_table(path).to_pandas()
    return schemas.validate(name, frame, where=path)


def shards(folder: Path, expected: Iterable[str]) -> list[Path]:
    """The files `folder/<shard>.parquet` of every expected shard, in the order of `expected`.

    Never a glob: a shard that is missing, or a file that nobody expects (a ghost of a removed model), is a BenchError.
    """
    expected = list(expected)
    present = {path.stem for path in folder.glob("*.parquet")} if folder.is_dir() else set()
    missing, ghosts = sorted(set(expected) - present), sorted(present - set(expected))
    if missing:
        raise BenchError(f"no results for {', '.join(missing)}.", where=folder, remedy="Run `dvc repro`.")
    if ghosts:
        raise BenchError(
            f"results of models that params.yaml does not list: {', '.join(ghosts)}.",
            where=folder,
            remedy="Run `bench prune`, then `dvc repro`.",
        )
    return [folder / f"{shard}.parquet" for shard in expected]


def read_shards(name: str, folder: Path, expected: Iterable[str]) -> pd.DataFrame:
    """Read the expected shards of table `name` (see `shards`) as one frame."""
    return stacked(name, [read(name, path) for path in shards(folder, expected)])


def check_schema(name: str, path: Path, *, earlier: bool = False) -> list[str]:
    """Check the columns and types of a Parquet file against table `name`, not its rows; return its columns.

    With `earlier`, columns that may be NULL, or for which something else may stand, may be missing: another version
    wrote the file. BenchError if it differs.
    """
    import pyarrow.parquet as pq

    with _readable(path):
        found = [(field.name, field.type) for field in pq.read_schema(path)]
    present, columns = {column for column, _ in found}, schemas.TABLES[name].columns
    wanted = [
        (field.name, field.type)
        for field in schemas.arrow(name)
        if not (earlier and field.name not in present and (field.nullable or columns[field.name].earlier is not None))
    ]
    if found != wanted:
        raise BenchError(
            f"does not have the columns of table `{name}`.", where=path, remedy="Delete it and run `dvc repro`."
        )
    return [column for column, _ in found]


def sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
