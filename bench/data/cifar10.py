"""CIFAR-10's images, with CIFAR-10H's counts of votes on the test images: two readers (`read_tables`, `read_official`;
`read` picks by what a folder holds) and one writer. The images may not be passed on.

Sources, and their own layouts:

- www.cs.toronto.edu/~kriz/cifar.html: `cifar-10-binary.tar.gz`, in it `data_batch_1.bin` to `data_batch_5.bin` and
  `test_batch.bin`, for every image one byte of class and 3,072 of pixels (32 rows of 32 of red, then green, then
  blue), and `batches.meta.txt`, a class name a line.
- github.com/jcpeterson/cifar-10h (CC BY-NC-SA 4.0): `data/cifar10h-counts.npy`, (10000, 10) numbers of votes, in the
  order of the test batch.

A test image's id is its place in the test batch. Copies of the training images go round in several orders, so the id
of one is the beginning of the sha256 of its pixels. The addresses could not be tried when this was written: there was
no way to the internet. The archive has the md5 that its page states; what verifies everything is the preset's manifest,
which pins the files that `write` makes.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import progress
from bench.data import fetch, writer
from bench.data.samples import FORMATS, DatasetMeta
from bench.errors import BenchError
from bench.store import tables

PRESET = DATASET = "cifar10"
VOTES = "cifar10h"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
ID_DIGITS = 16
ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
COUNTS = "cifar10h-counts.npy"
COUNTS_URL = f"https://raw.githubusercontent.com/jcpeterson/cifar-10h/master/data/{COUNTS}"
TABLE, TABLE_TRAIN, TABLE_COUNTS, TABLE_CLASSES = "test.parquet", "train.parquet", "counts.parquet", "classes.json"
TEST_BATCH, NAMES = "test_batch.bin", "batches.meta.txt"
TRAIN_BATCHES = tuple(f"data_batch_{n}.bin" for n in range(1, 6))
MAX_ARCHIVE_BYTES = 2**28
MAX_COUNTS_BYTES = 2**22
MAX_MEMBER_BYTES = 2**26
MAX_UNPACKED_BYTES = 2**30
_AGAIN = "Get it again from its source, or name another folder with --from."
_RECORD = 1 + 3 * SIDE * SIDE

META = DatasetMeta(
    title="CIFAR-10",
    about="Small photographs of ten kinds of animals and vehicles: 50,000 to train on and 10,000 to test, as many of "
    "each class.",
    label_space="cifar10",
    classes=list(CLASSES),
    source="A. Krizhevsky, Learning multiple layers of features from tiny images (2009), "
    "www.cs.toronto.edu/~kriz/cifar.html",
    license="none stated; for research",
    split_rule="as published",
    label_sources={
        "original": "One label an image, as published: students kept images with one prominent object that the class "
        "is a likely name of."
    },
)


@dataclass(frozen=True)
class Content:
    """The test images in the order of their batch: uint8 (N, 32, 32, 3), labels (N,), and counts of votes (N, 10); and
    the training images in any order, uint8 (M, 32, 32, 3), labels (M,)."""

    images: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    train_images: np.ndarray
    train_labels: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Images uint8 (N, 32, 32, 3) and labels (N,), as they were read from `path`."""

    path: Path
    images: np.ndarray
    labels: np.ndarray


def download(folder: Path) -> None:
    """Get the official sources into `folder`, in the layout of `read_official`; what is there already stays.

    BenchError as `fetch.download`, and where the archive is not the published one (it is removed then).
    """
    fetch.download(ARCHIVE_URL, folder / ARCHIVE, max_bytes=MAX_ARCHIVE_BYTES)
    with (folder / ARCHIVE).open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != ARCHIVE_MD5:
        (folder / ARCHIVE).unlink()
        raise BenchError(
            f"is not the published archive (md5 {found}) and was removed.",
            where=ARCHIVE_URL,
            remedy=f"Run the command again; or get {ARCHIVE} and {COUNTS} by hand and name their folder: --from DIR.",
        )
    fetch.download(COUNTS_URL, folder / COUNTS, max_bytes=MAX_COUNTS_BYTES)


def read(folder: Path) -> Content:
    """What a local folder holds, or the folder `cifar10` in it, in the layout of either reader. BenchError where it is
    neither.

    CIFAR-10H's counts may lie in it, or in the folder `cifar10h` beside it.
    """
    for place in (folder, folder / DATASET):
        if (place / TABLE).is_file():
            return read_tables(place)
        if (place / ARCHIVE).is_file():
            return read_official(place)
    raise BenchError(
        f"holds neither {TABLE} nor {ARCHIVE}.",
        where=folder,
        remedy=f"Name a folder with {TABLE}, {TABLE_TRAIN}, {TABLE_CLASSES} and {TABLE_COUNTS}, or with {ARCHIVE} and "
        f"{COUNTS}; or leave out --from.",
    )


def read_tables(folder: Path) -> Content:
    """test.parquet (index, label, image: encoded without loss), train.parquet (label, image), classes.json,
    counts.parquet (index, counts)."""
    path, train_path = folder / TABLE, folder / TABLE_TRAIN
    _check_classes(_json(folder / TABLE_CLASSES), folder / TABLE_CLASSES)
    columns = _by_index(path, ["label", "image"])
    test = Batch(path, _decoded(columns["image"], path), np.array(columns["label"]))
    columns = _columns(train_path, ["label", "image"])
    train = Batch(train_path, _decoded(columns["image"], train_path), np.array(columns["label"]))
    counts_path = _beside(folder, TABLE_COUNTS)
    counts = _by_index(counts_path, ["counts"])["counts"]
    if len({len(row) for row in counts}) != 1:
        raise BenchError("has rows of several lengths.", where=counts_path, remedy=_AGAIN)
    return _checked(test, train, np.array(counts), counts_path)


def read_official(folder: Path) -> Content:
    """The published archive, from which nothing is unpacked, and the published array of counts."""
    path = folder / ARCHIVE
    members = _members(path, (NAMES, TEST_BATCH, *TRAIN_BATCHES))
    names = members[NAMES].decode("utf-8", "replace").split()
    _check_classes(names, path)
    test = _batches(path, members, [TEST_BATCH])
    train = _batches(path, members, TRAIN_BATCHES)
    counts_path = _beside(folder, COUNTS)
    try:
        counts = np.load(counts_path, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as fault:
        raise BenchError(f"cannot be read as an array: {fault}.", where=counts_path, remedy=_AGAIN) from None
    return _checked(test, train, counts, counts_path)


def training_order(folder: Path) -> tuple[list[str], np.ndarray]:
    """The ids of the training images and their labels (N,), in the order in which a folder of either layout holds them.

    BenchError where it holds neither, or they cannot be read.
    """
    for place in (folder, folder / DATASET):
        if (place / ARCHIVE).is_file():
            path = place / ARCHIVE
            batch = _batches(path, _members(path, TRAIN_BATCHES), TRAIN_BATCHES)
            break
        if (place / TABLE_TRAIN).is_file():
            path = place / TABLE_TRAIN
            columns = _columns(path, ["label", "image"])
            batch = Batch(path, _decoded(columns["image"], path), np.array(columns["label"]))
            break
    else:
        raise BenchError(f"holds neither {ARCHIVE} nor {TABLE_TRAIN}.", where=folder, remedy=_AGAIN)
    _check_labels(batch)
    ids, order = _by_pixels(batch.images, batch.labels)
    return [ids[place] for place in np.argsort(order)], batch.labels.astype(np.int64)


def _batches(path: Path, members: dict[str, bytes], names: Sequence[str]) -> Batch:
    """What some members of the archive hold. BenchError where one is no whole number of records."""
    for name in names:
        if not members[name] or len(members[name]) % _RECORD:
            raise BenchError(f"its {name} is no number of records of {_RECORD:,} bytes.", where=path, remedy=_AGAIN)
    records = np.frombuffer(b"".join(members[name] for name in names), np.uint8).reshape(-1, _RECORD)
    return Batch(path, records[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1), records[:, 0])


def _beside(folder: Path, file: str) -> Path:
    """A file of CIFAR-10H: in the folder, or in the one called `cifar10h` beside it. BenchError where it is in none."""
    places = (folder / file, folder.resolve().parent / VOTES / file)
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise BenchError(f"is missing, and so is {places[1]}.", where=places[0], remedy=_AGAIN)
    progress.log.info("CIFAR-10H: the counts are those of %s", found)
    return found


def _members(path: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """The content of files of a tar archive by their last names, read in memory: where they would lie does not matter.

    BenchError where the archive is damaged, lacks one, or unpacks to more than it may.
    """
    found: dict[str, bytes] = {}
    size = 0
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                size += member.size
                if size > MAX_UNPACKED_BYTES:
                    raise BenchError("unpacks to more than is expected.", where=path, remedy=_AGAIN)
                name = member.name.rsplit("/", 1)[-1]
                if name in wanted and name not in found and member.isfile() and member.size <= MAX_MEMBER_BYTES:
                    stream = tar.extractfile(member)
                    found[name] = stream.read() if stream else b""
    except (tarfile.TarError, zlib.error, OSError, EOFError) as fault:
        raise BenchError(f"is damaged: {fault}.", where=path, remedy=_AGAIN) from None
    if lacking := [name for name in wanted if name not in found]:
        raise BenchError(f"holds no {lacking[0]}.", where=path, remedy=_AGAIN)
    return found


def _by_index(path: Path, columns: list[str]) -> dict[str, list]:
    """Columns of a Parquet file in the order of its column `index`, which counts from 0. BenchError where it is not."""
    found = _columns(path, ["index", *columns])
    index = found.pop("index")
    order = sorted(range(len(index)), key=index.__getitem__)
    if [index[row] for row in order] != list(range(len(index))):
        raise BenchError("does not list each image once, from 0 on.", where=path, remedy=_AGAIN)
    return {name: [values[row] for row in order] for name, values in found.items()}


def _columns(path: Path, columns: list[str]) -> dict[str, list]:
    """Columns of a Parquet file. BenchError where it is unreadable, lacks one, or has NULL or no rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as fault:
        raise BenchError(f"cannot be read: {str(fault).splitlines()[0]}.", where=path, remedy=_AGAIN) from None
    lacking = [name for name in columns if name not in table.column_names]
    if lacking or not len(table) or any(table.column(name).null_count for name in columns):
        what = f"lacks the column `{lacking[0]}`" if lacking else "has NULL" if len(table) else "has no rows"
        raise BenchError(f"{what}.", where=path, remedy=_AGAIN)
    return {name: table.column(name).to_pylist() for name in columns}


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BenchError("is missing.", where=path, remedy=_AGAIN) from None
    except (ValueError, RecursionError) as fault:
        raise BenchError(f"is not JSON: {fault}.", where=path, remedy=_AGAIN) from None


def _check_classes(names: object, where: Path) -> None:
    if names != list(CLASSES):
        raise BenchError("does not name the ten classes in their order.", where=where, remedy=_AGAIN)


def _decoded(encoded: list[bytes], where: Path) -> np.ndarray:
    """uint8 (N, 32, 32, 3) of encoded images. BenchError where one is another one."""
    images = np.empty((len(encoded), SIDE, SIDE, 3), np.uint8)
    for index, picture in enumerate(encoded):
        images[index] = _pixels(picture, index, where)
    return images


def _pixels(encoded: bytes, index: int, where: Path) -> np.ndarray:
    """uint8 (32, 32, 3) of an encoded image. BenchError where it is another one."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded), formats=tuple(FORMATS.values())) as picture:
            if picture.size != (SIDE, SIDE) or picture.mode != "RGB":
                raise ValueError(f"{picture.mode}, {picture.size[0]} x {picture.size[1]} pixels")
            return np.asarray(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as fault:
        raise BenchError(
            f"image {index} is not 32 x 32 pixels of RGB ({str(fault).splitlines()[0]}).", where=where, remedy=_AGAIN
        ) from None


def _check_labels(batch: Batch) -> None:
    labels = batch.labels
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= len(CLASSES):
        raise BenchError(f"has a label outside 0 to {len(CLASSES) - 1}.", where=batch.path, remedy=_AGAIN)


def _checked(test: Batch, train: Batch, counts: np.ndarray, counts_path: Path) -> Content:
    for batch in (test, train):
        _check_labels(batch)
    wanted = (len(test.labels), len(CLASSES))
    fits = counts.shape == wanted and counts.dtype.kind in "iuf" and bool((counts % 1 == 0).all())
    if not fits or (counts < 0).any():
        raise BenchError(
            f"holds {counts.dtype} {counts.shape}, not {wanted} numbers of votes.", where=counts_path, remedy=_AGAIN
        )
    labels, train_labels = test.labels.astype(np.int64), train.labels.astype(np.int64)
    return Content(test.images, labels, counts.astype(np.int64), train.images, train_labels)


def write(content: Content, out: Path) -> dict[str, int]:
    """Write `out/cifar10/` with the pictures to show, and `out/votes/cifar10/cifar10h.parquet`; return counts.

    Equal content gives equal bytes.
    """
    from bench.imports.votes import pooled

    ids = [f"{index:05d}" for index in range(len(content.labels))]
    train_ids, order = _by_pixels(content.train_images, content.train_labels)
    whole = writer.Content(
        DATASET,
        META,
        [*ids, *train_ids],
        np.concatenate([content.labels, content.train_labels[order]]),
        np.concatenate([content.images, content.train_images[order]]),
        ["test"] * len(ids) + ["train"] * len(train_ids),
    )
    writer.write(whole, out, level=tables.FAST_LEVEL)
    sample_ids = np.array([f"{DATASET}/{stable}" for stable in ids], object)
    write_pictures(sample_ids.tolist(), content.images, out / DATASET)
    votes = pooled(sample_ids, content.labels, content.counts, VOTES)
    tables.write("imported_votes", votes, out / "votes" / DATASET / f"{VOTES}.parquet")
    return {"images": len(ids) + len(train_ids), "votes": int(content.counts.sum())}


def write_pictures(sample_ids: Sequence[str], images: np.ndarray, folder: Path) -> None:
    """Write the table of pictures to show of images uint8 (N, H, W, 3), into the folder of their dataset."""
    import pandas as pd

    pictures = pd.DataFrame(
        {"sample_id": sample_ids, "thumbnail": [*map(writer.png, images)], "media_type": "image/png"}
    )
    tables.write("images", pictures, folder / fetch.THUMBNAILS, level=tables.FAST_LEVEL)


def _by_pixels(images: np.ndarray, labels: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Ids of training images from their pixels, sorted, and the place of each in `images` (M, 32, 32, 3), (M,).

    Of images of the same pixels the second one's id ends in `-2`, and so on, in the order of their labels.
    """
    digests = [hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:ID_DIGITS] for image in images]
    order = sorted(range(len(images)), key=lambda row: (digests[row], labels[row]))
    ids, seen = [], Counter()
    for row in order:
        seen[digests[row]] += 1
        again = f"-{seen[digests[row]]}" if seen[digests[row]] > 1 else ""
        ids.append(f"train-{digests[row]}{again}")
    return ids, np.array(order, np.int64)
