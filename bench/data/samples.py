"""The one reader of a dataset's folder: images, original labels and what the set is. Everything in it is checked here.

A dataset is a folder of three files: `dataset.json` (DatasetMeta), `samples.parquet` (SAMPLES, with the encoded images)
and `labels.parquet` (the table `labels`). All images of one dataset have one size and one mode. A dataset whose images
may not be passed on comes without: its samples.parquet lacks the columns of PICTURE.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from bench.config import Config, Frozen, Name
from bench.errors import BenchError
from bench.store import tables

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

META, SAMPLES, LABELS = "dataset.json", "samples.parquet", "labels.parquet"
SPLITS = ("train", "test")
PICTURE = ("width", "height", "media_type", "image")
"""The columns of samples.parquet that say what an image looks like: all of them, or none."""
FORMATS = {"image/png": "PNG", "image/webp": "WEBP", "image/jpeg": "JPEG"}
"""media_type -> the only decoder that is tried on the bytes."""
CHANNELS = {"L": 1, "RGB": 3}
MAX_BYTES = 32 * 2**20
MAX_PIXELS = 2**24
_REBUILD = "Restore it with `dvc pull data.dvc`, or correct the dataset that was added."


class DatasetMeta(Frozen):
    """dataset.json: what the images are, where they come from and on what terms.

    `wnids` and `definitions` are of the classes, in the same order; `label_sources` says of a source of labels by what
    process they were made.
    """

    title: Annotated[str, Field(min_length=1)]
    about: Annotated[str, Field(min_length=1)]
    label_space: Annotated[str, Field(min_length=1)]
    classes: Annotated[list[str], Field(min_length=2)]
    modality: Literal["image", "video", "radar"] = "image"
    synthetic: Literal["", "composed", "corrupted", "relabelled", "selected"] = ""
    source: Annotated[str, Field(min_length=1)]
    license: Annotated[str, Field(min_length=1)]
    split_rule: Annotated[str, Field(min_length=1)]
    wnids: list[str] | None = None
    definitions: list[str] | None = None
    label_sources: dict[Name, str] | None = None

    @model_validator(mode="after")
    def _one_for_each_class(self) -> DatasetMeta:
        for key in ("wnids", "definitions"):
            given = getattr(self, key)
            if given is not None and len(given) != len(self.classes):
                raise ValueError(f"`{key}` has {len(given)} entries for {len(self.classes)} classes")
        return self


@dataclass(frozen=True)
class Samples:
    """One split of a dataset in the order of its ids: ids (N,) str, labels (N,) int64, images (N, C, H, W) float32
    in [0, 1]."""

    ids: np.ndarray
    labels: np.ndarray
    images: np.ndarray

    def rows(self, chosen: np.ndarray) -> Samples:
        """Some of them, by their indices."""
        return Samples(self.ids[chosen], self.labels[chosen], self.images[chosen])


def schema() -> pa.Schema:
    """The Arrow schema of samples.parquet. `source_id`: the sample that this one is made from, else its own id."""
    import pyarrow as pa

    text, whole = pa.string(), pa.int32()
    columns = {"sample_id": text, "split": text, "label": whole, "width": whole, "height": whole}
    columns |= {"source_id": text, "media_type": text, "image": pa.binary()}
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


def remedy(config: Config, dataset: str) -> str:
    """What to do about a file of a dataset that is missing or wrong."""
    preset = config.dataset(dataset).fetched
    return _REBUILD if preset is None else f"Fetch it again with `bench data fetch {preset}`."


def meta(config: Config, dataset: str) -> DatasetMeta:
    """Read and check the description of a declared dataset. BenchError as `load_meta`."""
    return load_meta(config.folder(dataset), config.dataset(dataset).fetched)


def load_meta(folder: Path, preset: str | None = None) -> DatasetMeta:
    """Read and check `folder/dataset.json`. BenchError where the folder or the file is missing or malformed.

    `preset`: where the folder is fetched, what fetches it.
    """
    path = folder / META
    get = "dvc pull data.dvc" if preset is None else f"bench data fetch {preset}"
    again = _REBUILD if preset is None else f"Fetch it again with `{get}`."
    if not folder.is_dir():
        raise BenchError(
            "there is no such dataset folder.",
            where=folder,
            remedy=f"Run `{get}`, or remove {folder.name!r} from `datasets` in params.yaml.",
        )
    try:
        return DatasetMeta(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise BenchError("is missing.", where=path, remedy=again) from None
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as fault:
        raise BenchError(f"is not a JSON object: {fault}.", where=path, remedy=again) from None
    except ValidationError as error:
        faults = "; ".join(f"`{'.'.join(map(str, f['loc']))}`: {f['msg']}" for f in error.errors())
        raise BenchError(f"{faults}.", where=path, remedy=again) from None


def classes(config: Config, dataset: str) -> list[str]:
    """Names of the classes of a dataset, in the order of their ids."""
    return meta(config, dataset).classes


def digest(folder: Path) -> str:
    """One hex sha256 for a dataset's folder: of the hex sha256s of its three files, one after the other.

    BenchError where a file is missing.
    """
    names = (META, SAMPLES, LABELS)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise BenchError(
            f"lacks {', '.join(missing)}.",
            where=folder,
            remedy=f"Fetch it again with `bench data fetch {folder.parent.name}`.",
        )
    return of_hashes([tables.sha256(folder / name) for name in names])


def of_hashes(hashes: list[str]) -> str:
    """The digest of a folder from the hex sha256s of dataset.json, samples.parquet and labels.parquet."""
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def read_table(folder: Path, n_classes: int, remedy: str = _REBUILD) -> pd.DataFrame:
    """samples.parquet of one dataset, in the order of sample_id; images are still encoded.

    Without the columns of PICTURE where the set comes without images.

    Raises BenchError where the file is missing or unreadable, columns or types differ, there are no rows, an id is
    repeated or not of this dataset, a split is unknown, a label is outside the classes, sizes are mixed, an image is
    empty or too large, or its media type is not one of FORMATS.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / SAMPLES

    def fault(what: str) -> BenchError:
        return BenchError(what, where=path, remedy=remedy)

    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise fault("is missing.") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise fault(f"cannot be read as Parquet: {error}.") from None
    wanted = schema()
    if not set(PICTURE) & set(table.column_names):
        wanted = pa.schema([field for field in wanted if field.name not in PICTURE])
    missing = [name for name in wanted.names if name not in table.column_names]
    if missing:
        raise fault(f"lacks the columns {', '.join(missing)}.")
    wrong = [
        f"{field.name} is {table.schema.field(field.name).type}"
        for field in wanted
        if table.schema.field(field.name).type != field.type
    ]
    if wrong:
        raise fault(f"has wrong types: {', '.join(wrong)}.")
    if not table.num_rows:
        raise fault("holds no samples.")
    nulls = [name for name in wanted.names if table.column(name).null_count]
    if nulls:
        raise fault(f"has NULL in {', '.join(nulls)}.")
    frame = table.select(wanted.names).to_pandas().sort_values("sample_id", kind="stable", ignore_index=True)
    checks = {
        "a repeated sample_id": frame["sample_id"].duplicated(),
        f"a sample_id that does not begin with `{folder.name}/`": ~frame["sample_id"].str.startswith(f"{folder.name}/"),
        f"a split other than {' or '.join(SPLITS)}": ~frame["split"].isin(SPLITS),
        f"a label outside the {n_classes} classes": ~frame["label"].between(0, n_classes - 1),
    }
    if has_images(frame):
        checks |= _picture_checks(frame)
    for what, bad in checks.items():
        if bad.any():
            first = frame["sample_id"][bad.to_numpy().argmax()]
            raise fault(f"{int(bad.sum())} of {len(frame)} samples have {what}, the first is {first!r}.")
    return frame


def _picture_checks(frame: pd.DataFrame) -> dict[str, Any]:
    sizes, width, height = frame["image"].map(len), frame["width"], frame["height"]
    return {
        "an unknown media type": ~frame["media_type"].isin(list(FORMATS)),
        "an empty image": (sizes == 0) | (width < 1) | (height < 1),
        "another size than the first": (width != width[0]) | (height != height[0]),
        f"an image above {MAX_PIXELS:,} pixels or {MAX_BYTES:,} bytes": (sizes > MAX_BYTES)
        | (width.astype("int64") * height > MAX_PIXELS),
    }


def has_images(frame: pd.DataFrame) -> bool:
    """Whether the rows of `read_table` come with their images."""
    return "image" in frame.columns


def decode(frame: pd.DataFrame, where: Path) -> np.ndarray:
    """The images of rows of `read_table`, uint8 (N, C, H, W).

    Raises BenchError naming `where` and the first image that does not decode to the declared size, or whose mode is
    not 8-bit grey or RGB, or not that of the others.
    """
    from PIL import Image

    shape = (int(frame["height"].iloc[0]), int(frame["width"].iloc[0]))
    out: np.ndarray | None = None
    rows = zip(frame["sample_id"], frame["image"], frame["media_type"], strict=True)
    for row, (sample_id, encoded, media_type) in enumerate(rows):
        try:
            with Image.open(io.BytesIO(encoded), formats=(FORMATS[media_type],)) as picture:
                problem = _mismatch(picture.size[::-1], picture.mode, shape, out)
                pixels = None if problem else np.asarray(picture)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            problem, pixels = f"cannot be decoded ({str(error).splitlines()[0]})", None
        if pixels is None:
            raise BenchError(f"image {sample_id!r} {problem}.", where=where, remedy=_REBUILD)
        pixels = pixels.reshape(*shape, -1).transpose(2, 0, 1)
        if out is None:
            out = np.empty((len(frame), *pixels.shape), np.uint8)
        out[row] = pixels
    assert out is not None, "read_table gives at least one row, and callers ask for splits that have some"
    return out


def _mismatch(size: tuple[int, ...], mode: str, shape: tuple[int, int], first: np.ndarray | None) -> str:
    """What is wrong with the header of an image, or nothing. Known before any pixel is decoded."""
    if size != shape:
        return f"is {size[1]} x {size[0]} pixels, not the declared {shape[1]} x {shape[0]}"
    if mode not in CHANNELS:
        return f"has mode {mode}, not 8-bit grey or RGB"
    if first is not None and first.shape[1] != CHANNELS[mode]:
        return f"has {CHANNELS[mode]} channels, the first image has {first.shape[1]}"
    return ""


def load(config: Config, dataset: str, split: str = "test") -> Samples:
    """One split of a dataset, decoded, in the order of sample_id. BenchError as `load_meta`, `read_table`, `decode`,
    and where the dataset comes without images."""
    folder = config.folder(dataset)
    frame = read_table(folder, len(classes(config, dataset)), remedy(config, dataset))
    if not has_images(frame):
        raise BenchError(
            f"{dataset!r} comes without images, so no model can be run on it.",
            where=folder / SAMPLES,
            remedy="Import its predictions instead (`bench import predictions --help`).",
        )
    frame = frame.loc[frame["split"] == split, :]
    if frame.empty:
        raise BenchError(f"has no {split} samples.", where=folder / SAMPLES, remedy="Use a dataset that has some.")
    images = decode(frame, folder / SAMPLES).astype(np.float32) / np.float32(255)
    return Samples(frame["sample_id"].to_numpy(dtype=str), frame["label"].to_numpy(np.int64), images)
