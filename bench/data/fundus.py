"""Fundus images with masks of the optic disc, for the study of segmentation, from a local folder in either layout:

- `images.parquet` with columns name, split (train or test), image, disc_mask (encoded images; 0 and 255): Drishti-GS1
  (J. Sivaswamy et al., 2014), brought to 256 x 256 pixels;
- the user's own: folders `images/` and `masks/` with one mask for each image, of the same stem. A mask's values are 0
  (background) and 255, or those of `classes.json` ({"name": value}, the background first): so more classes than two.
  Half of the images, by the hash of their stems, are for training.

Their own terms do not say that they may be passed on, so there is no official download and no manifest: what the first
fetch gives is pinned (`Preset.pinned_here`).
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import compute
from bench.data import masks, samples
from bench.data.masks import MaskMeta
from bench.errors import BenchError
from bench.store import tables

PRESET = "fundus"
TABLE, CLASSES = "images.parquet", "classes.json"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
VALUES = {"background": 0, "optic disc": 255}
_LAYOUT = f"Name a folder that holds {TABLE}, or folders images/ and masks/ with files of the same stems."


@dataclass(frozen=True)
class Content:
    """What was read: rows of masks.parquet (ids without the set's name; masks as PNG of class ids), and what it is."""

    meta: MaskMeta
    rows: list[tuple[str, str, bytes, bytes]]


def download(folder: Path) -> None:
    """There is no source that may be fetched from. BenchError, always."""
    raise BenchError(
        "Drishti-GS1 is given out on request by its authors, so nothing can be downloaded.",
        where=f"preset {PRESET}",
        remedy=f"Get it, then name its folder: `bench data fetch {PRESET} --from DIR`. {_LAYOUT}",
    )


def read(folder: Path) -> Content:
    """The images and masks of a local folder. BenchError where one lacks its mask, cannot be decoded, has another size
    than its mask, or a mask holds a value of no class; or where there are fewer than two test images."""
    values = _values(folder / CLASSES) if (folder / CLASSES).is_file() else VALUES
    if (folder / TABLE).is_file():
        found, source, license = (
            _of_table(folder / TABLE),
            "Drishti-GS1 (J. Sivaswamy et al., 2014)",
            "terms not stated; research",
        )
    elif (folder / "images").is_dir() and (folder / "masks").is_dir():
        found, source, license = _of_folders(folder), "images and masks of one's own", "one's own"
    else:
        raise BenchError("holds no images with masks.", where=folder, remedy=_LAYOUT)
    rows = []
    for name, split, image, mask in found:
        where = f"{folder}: {name}"
        ids = _as_classes(masks.picture(mask, "L", where), values, where)
        masks.decode(image, ids, len(values), where)
        rows.append((name, split, image, ids))
    for split in samples.SPLITS:
        if sum(row[1] == split for row in rows) < 2:
            raise BenchError(f"has fewer than two {split} images.", where=folder, remedy="Add images with masks.")
    about = f"{len(rows)} images of the back of the eye; the mask is {' and '.join(list(values)[1:])}."
    meta = MaskMeta(title="Fundus", about=about, classes=list(values), source=source, license=license)
    return Content(meta, rows)


def _of_table(path: Path) -> list[tuple[str, str, bytes, bytes]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ("name", "split", "image", "disc_mask")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise BenchError(f"cannot be read as Parquet: {error}.", where=path, remedy=_LAYOUT) from None
    if missing := [name for name in columns if name not in table.column_names]:
        raise BenchError(f"lacks the columns {', '.join(missing)}.", where=path, remedy=_LAYOUT)
    frame = table.select(list(columns)).to_pandas().sort_values("name")
    bad = frame["name"].duplicated() | ~frame["split"].isin(samples.SPLITS) | frame.isna().any(axis=1)
    if bad.any():
        first = frame["name"][bad].iloc[0]
        raise BenchError(f"{first!r} is there twice, has no split or lacks its image.", where=path, remedy=_LAYOUT)
    return list(frame.itertuples(index=False, name=None))


def _of_folders(folder: Path) -> list[tuple[str, str, bytes, bytes]]:
    files = {part: _files(folder / part) for part in ("images", "masks")}
    apart = sorted(files["images"].keys() ^ files["masks"].keys())
    if apart:
        raise BenchError(
            f"{len(apart)} stems have an image or a mask alone, the first is {apart[0]!r}.",
            where=folder,
            remedy="Give each image one mask of the same stem.",
        )
    order = compute.hash_order(files["images"])
    train = set(order[: len(order) // 2])
    return [
        (stem, "train" if stem in train else "test", path.read_bytes(), files["masks"][stem].read_bytes())
        for stem, path in files["images"].items()
    ]


def _files(folder: Path) -> dict[str, Path]:
    """Stem -> file, in the order of stems. BenchError where two files have one stem."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            if path.stem in found:
                raise BenchError(f"two files have the stem {path.stem!r}.", where=folder, remedy="Keep one of them.")
            found[path.stem] = path
    return found


def _values(path: Path) -> dict[str, int]:
    """Class -> its value in masks. BenchError where the file is not {"name": value} with distinct 8-bit values."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as fault:
        raise BenchError(f"is no JSON: {fault}.", where=path, remedy="Correct it, or remove it.") from None
    right = isinstance(held, dict) and len(held) >= 2 and len(set(map(str, held.values()))) == len(held)
    if not right or any(type(value) is not int or not 0 <= value <= 255 for value in held.values()):
        raise BenchError(
            "does not name two or more classes with distinct whole values from 0 to 255.",
            where=path,
            remedy='Write {"background": 0, "disc": 128, "cup": 255}, the background first.',
        )
    return held


def _as_classes(mask: np.ndarray, values: dict[str, int], where: str) -> bytes:
    """A mask (H, W) of values as PNG of class ids. BenchError where it holds a value of no class."""
    from PIL import Image

    unknown = np.setdiff1d(mask, list(values.values()))
    if len(unknown):
        raise BenchError(
            f"the mask holds the values {', '.join(map(str, unknown[:5]))}{' and more' if len(unknown) > 5 else ''}, "
            f"of which no class is known ({', '.join(f'{value}: {name}' for name, value in values.items())}).",
            where=where,
            remedy=f"Name them in {CLASSES}, or correct the mask (a JPEG blurs its values: use PNG).",
        )
    ids = np.zeros_like(mask)
    for number, value in enumerate(values.values()):
        ids[mask == value] = number
    stream = io.BytesIO()
    Image.fromarray(ids).save(stream, format="PNG", compress_level=0)
    return stream.getvalue()


def write(content: Content, out: Path) -> dict[str, int]:
    """Write `out/fundus/masks.parquet` and `masks.json`; return counts. Equal content gives equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = out / PRESET
    folder.mkdir(parents=True)
    names, splits, images, ids = zip(*content.rows, strict=True)
    columns = {"sample_id": [f"{PRESET}/{name}" for name in names], "split": splits, "image": images, "mask": ids}
    pq.write_table(pa.table(columns), folder / masks.MASKS, compression="zstd", compression_level=tables.FAST_LEVEL)
    described = json.dumps(content.meta.model_dump(), indent=1, ensure_ascii=False) + "\n"
    (folder / masks.META).write_text(described, encoding="utf-8")
    return {split + " images": splits.count(split) for split in samples.SPLITS}
