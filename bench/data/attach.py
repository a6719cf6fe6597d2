"""`bench data attach PRESET`: small pictures of one's own copy of the images, for looking at. They leave this machine
with nothing: they lie in `fetched/`, which is in no release."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from bench import progress, schemas
from bench.config import Config
from bench.data import samples
from bench.data.fetch import THUMBNAILS
from bench.data.index import THUMBNAIL
from bench.data.samples import CHANNELS, FORMATS, MAX_BYTES
from bench.errors import BenchError
from bench.presets import merge
from bench.store import tables

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
MEDIA_TYPE = "image/jpeg"
QUALITY = 75
THREADS = 2
ROW_GROUP = 512
MAX_PIXELS = 2**26
"""Photographs as collected are larger than what a dataset here may hold."""


def run(config: Config, preset: str, dataset: str, images: Path) -> str:
    """Make `fetched/<preset>/<dataset>/thumbnails.parquet` of the files below `images` and pin it in params.yaml.

    A file belongs to the sample whose stable id is its stem, in whatever folder it lies; not every sample needs one.
    Says how many were matched, are missing and belong to no sample. Raises BenchError where the dataset is not of the
    preset, no file matches, two files match one sample, or one cannot be decoded; nothing is changed then.
    """
    if config.dataset(dataset).fetched != preset:
        raise BenchError(
            f"{dataset!r} is not fetched by the preset {preset!r}.",
            where="params.yaml",
            remedy=f"Run `bench preset add {preset}`, or name one of its datasets.",
        )
    if not images.is_dir():
        raise BenchError("there is no such folder.", where=images, remedy="Correct --images.")
    folder = config.folder(dataset)
    frame = samples.read_table(folder, len(samples.classes(config, dataset)), samples.remedy(config, dataset))
    wanted = {sample_id.split("/", 1)[1]: sample_id for sample_id in frame["sample_id"]}
    found, extra = _matched(_files(images), wanted)
    if not found:
        raise BenchError(
            f"no file here has the name of a sample of {dataset!r} ({extra:,} other images).",
            where=images,
            remedy=f"Names must be like {next(iter(wanted))}.jpeg, in any folder below.",
        )
    path = folder / THUMBNAILS
    with ExitStack() as held, tables.replacing(path) as temporary:
        _write({wanted[stem]: file for stem, file in found.items()}, temporary, f"attach {dataset}")
        held.enter_context(merge.locked(config.root / "params.yaml"))  # until the file is in its place, too
        merge.set_value(config.root / "params.yaml", "datasets", dataset, "images", tables.sha256(temporary))
    missing = len(wanted) - len(found)
    return (
        f"{path}: {len(found):,} of {len(wanted):,} images of {dataset} attached, {missing:,} are missing, "
        f"{extra:,} files belong to no sample. `dvc repro` shows them."
    )


def _write(files: dict[str, Path], path: Path, about: str) -> None:
    """Table `images` of sample id -> file, a few hundred pictures at a time. JPEG is not compressed once more."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = schemas.arrow("images")
    ids = sorted(files)
    with ThreadPoolExecutor(THREADS) as pool, pq.ParquetWriter(path, schema, compression="none") as writer:
        pictures = progress.bar(pool.map(thumbnail, (files[sample_id] for sample_id in ids)), about, total=len(ids))
        for start in range(0, len(ids), ROW_GROUP):
            part = ids[start : start + ROW_GROUP]
            columns = [part, list(islice(pictures, len(part))), [MEDIA_TYPE] * len(part)]
            writer.write_table(pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema))


def _files(images: Path) -> Iterable[Path]:
    """Image files below a folder, in a fixed order; links to folders are not followed."""
    for parent, folders, names in os.walk(images):
        folders.sort()
        for name in sorted(names):
            if Path(name).suffix.lower() in SUFFIXES:
                yield Path(parent) / name


def _matched(files: Iterable[Path], wanted: dict[str, str]) -> tuple[dict[str, Path], int]:
    """Stem -> file of the samples that have one, and the number of other files. BenchError where a sample has two."""
    found: dict[str, Path] = {}
    extra = 0
    for file in files:
        if file.stem not in wanted:
            extra += 1
        elif file.stem in found:
            raise BenchError(
                f"two files are of the sample {file.stem!r}: this and {found[file.stem]}.",
                where=file,
                remedy="Remove one of them.",
            )
        else:
            found[file.stem] = file
    return found, extra


def thumbnail(path: Path) -> bytes:
    """A JPEG of at most THUMBNAIL pixels a side. BenchError where the file is too large or is no image.

    What the bytes are is read from them, not from the name: files of ImageNet are not always what their suffix says.
    """
    from PIL import Image

    def fault(what: str) -> BenchError:
        return BenchError(f"{what}.", where=path, remedy="Replace or remove this file; nothing was attached.")

    try:
        if path.stat().st_size > MAX_BYTES:
            raise fault(f"is larger than {MAX_BYTES:,} bytes")
        with Image.open(path, formats=tuple(FORMATS.values())) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise fault(f"has more than {MAX_PIXELS:,} pixels")
            picture.draft("RGB", (THUMBNAIL, THUMBNAIL))
            picture.thumbnail((THUMBNAIL, THUMBNAIL))
            return _jpeg(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise fault(f"cannot be decoded ({str(error).splitlines()[0]})") from None


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    shown = picture if picture.mode in CHANNELS else picture.convert("RGB")
    shown.save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue()
