"""Images with masks, for the study of segmentation (study 10): digits composed here, or a preset's images and masks.

What a preset fetched lies in one file, `fetched/<preset>/<set>/masks.parquet`, beside `masks.json` (MaskMeta); whatever
is read from it is checked here. Masks hold class ids, 0 being the background.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from bench import compute
from bench.config import Config, Frozen, Segmentation
from bench.data import cache, samples
from bench.data.samples import Samples
from bench.errors import BenchError
from bench.store import tables

META, MASKS = "masks.json", "masks.parquet"
COLUMNS = ("sample_id", "split", "image", "mask")
INK = 0.4
"""How much ink makes a pixel of a composed image one of the digit."""
PATCHES = 8
"""Side of the coarse noise behind a composed digit, in values."""


class MaskMeta(Frozen):
    """masks.json: what the images are, where they come from, on what terms, and the classes of the masks, the
    background first."""

    title: Annotated[str, Field(min_length=1)]
    about: Annotated[str, Field(min_length=1)]
    classes: Annotated[list[str], Field(min_length=2)]
    synthetic: str = ""
    source: Annotated[str, Field(min_length=1)]
    license: Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class Masked:
    """ids (N,) str, images (N, C, S, S) float32 in [0, 1], masks (N, S, S) int64."""

    ids: np.ndarray
    images: npt.NDArray[np.float32]
    masks: npt.NDArray[np.int64]

    def rows(self, chosen: np.ndarray) -> Masked:
        """Some of them, by their indices."""
        return Masked(self.ids[chosen], self.images[chosen], self.masks[chosen])


def load(config: Config, name: str) -> tuple[MaskMeta, Masked, Masked]:
    """What a set of params.yaml is, its training and its test images. BenchError where a file of it is wrong."""
    run = config.segmentation[name]
    if run.composed_of is not None:
        return _composed_set(config, name, run)
    assert run.fetched is not None, "config.Segmentation has one of the two"
    folder = config.fetched / run.fetched / name
    again = f"Fetch it again with `bench data fetch {run.fetched}`."
    meta = read_meta(folder, again)
    if run.sha256 is not None and (folder / MASKS).is_file() and tables.sha256(folder / MASKS) != run.sha256:
        raise BenchError("is not the file that params.yaml pins (sha256).", where=folder / MASKS, remedy=again)
    parts = {split: read(folder, split, len(meta.classes), run.size, again) for split in samples.SPLITS}
    return meta, parts["train"], parts["test"]


def _composed_set(config: Config, name: str, run: Segmentation) -> tuple[MaskMeta, Masked, Masked]:
    assert run.composed_of is not None, "the caller has looked"
    of = samples.meta(config, run.composed_of)
    about = (
        f"Images of {run.composed_of} on a background of smooth noise, {run.size} x {run.size} pixels, composed here; "
        "the mask is where the digit has ink."
    )
    meta = MaskMeta(
        title=f"{of.title} (composed)",
        about=about,
        classes=["background", "digit"],
        synthetic="composed",
        source=of.source,
        license=of.license,
    )
    made = []
    for split in samples.SPLITS:
        data = cache.load(config, run.composed_of, split)
        data = data.rows(compute.declared(data.ids, run.n_train if split == "train" else run.n_test))
        made.append(composed(data, run.size, name, config.seed))
    return meta, made[0], made[1]


def composed(data: Samples, size: int, name: str, seed: int) -> Masked:
    """Each image (C, H, W) of ink on 0, at a place and of a brightness drawn by its id, on smooth noise.

    BenchError where the images do not fit into `size` pixels.
    """
    from PIL import Image

    n, channels, height, width = data.images.shape
    if channels != 1 or max(height, width) > size:
        raise BenchError(
            f"has images of {channels} channels and {width} x {height} pixels.",
            where=f"params.yaml: segmentation.{name}",
            remedy=f"Compose of grey images of at most `size` ({size}) pixels a side.",
        )
    images = np.empty((n, 1, size, size), np.float32)
    masks = np.zeros((n, size, size), np.int64)
    for row, (sample_id, ink) in enumerate(zip(data.ids, data.images[:, 0], strict=True)):
        draw = compute.rng(seed, "composed", sample_id)
        coarse = Image.fromarray(draw.uniform(0.1, 0.4, (PATCHES, PATCHES)).astype(np.float32))
        ground = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)).copy()
        ground += draw.normal(0, 0.02, (size, size)).astype(np.float32)
        top, left = (int(draw.integers(0, size - side + 1)) for side in (height, width))
        place = slice(top, top + height), slice(left, left + width)
        ground[place] += ink * (np.float32(draw.uniform(0.7, 0.9)) - ground[place])
        images[row, 0] = np.clip(ground, 0, 1)
        masks[row][place] = ink >= INK
    ids = np.array([f"{name}/{sample_id.split('/', 1)[1]}" for sample_id in data.ids])
    return Masked(ids, (np.rint(images * 255) / 255).astype(np.float32), masks)


def read_meta(folder: Path, again: str) -> MaskMeta:
    """Read and check `folder/masks.json`. BenchError where it is missing or malformed; `again`: what to do then."""
    path = folder / META
    try:
        return MaskMeta(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise BenchError("is missing.", where=path, remedy=again) from None
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, ValidationError) as fault:
        raise BenchError(f"is no description of masks: {fault}.", where=path, remedy=again) from None


def read(folder: Path, split: str, n_classes: int, size: int, again: str) -> Masked:
    """One split of `folder/masks.parquet`, padded to squares by their borders and brought to `size` pixels a side: the
    images by a linear filter, the masks by their nearest pixels. BenchError as `decode`, where there are none,
    and where a class of a mask would be lost."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / MASKS
    try:
        frame = pq.read_table(path, columns=list(COLUMNS)).to_pandas()
    except FileNotFoundError:
        raise BenchError("is missing.", where=path, remedy=again) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise BenchError(f"cannot be read: {error}.", where=path, remedy=again) from None
    frame = frame.loc[frame["split"] == split, :].sort_values("sample_id")
    if frame.empty:
        raise BenchError(f"has no {split} images.", where=path, remedy=again)
    pairs = [
        decode(image, mask, n_classes, f"{path}: {sample_id}")
        for sample_id, image, mask in zip(frame["sample_id"], frame["image"], frame["mask"], strict=True)
    ]
    images = np.stack([_square_image(image, size) for image, _ in pairs]).astype(np.float32) / np.float32(255)
    masks = np.stack([_square_mask(mask, size) for _, mask in pairs])
    for sample_id, (_, before), after in zip(frame["sample_id"], pairs, masks, strict=True):
        if len(lost := np.setdiff1d(before, after)):
            raise BenchError(
                f"has no pixel left of class {', '.join(map(str, lost))} at {size} pixels a side.",
                where=f"{path}: {sample_id}",
                remedy="Raise `size` in params.yaml, or leave the image out.",
            )
    return Masked(frame["sample_id"].to_numpy(str), images, masks)


def decode(image: bytes, mask: bytes, n_classes: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    """An encoded image, as uint8 (H, W, 3), and its mask of class ids, uint8 (H, W).

    BenchError naming `where` where one cannot be decoded, their sizes differ, or the mask holds unknown values.
    """
    pixels, ids = picture(image, "RGB", where), picture(mask, "L", where)
    if pixels.shape[:2] != ids.shape:
        raise BenchError(
            f"the mask has {ids.shape[1]} x {ids.shape[0]} pixels, the image {pixels.shape[1]} x {pixels.shape[0]}.",
            where=where,
            remedy="Give each image a mask of its own size.",
        )
    unknown = np.setdiff1d(ids, np.arange(n_classes))
    if len(unknown):
        raise BenchError(
            f"the mask holds the values {', '.join(map(str, unknown[:5]))}{' and more' if len(unknown) > 5 else ''}, "
            f"of which no class is known (0 to {n_classes - 1}).",
            where=where,
            remedy="Correct the mask, or name its values in classes.json.",
        )
    return pixels, ids


def picture(encoded: bytes, mode: str, where: str) -> np.ndarray:
    """The pixels of an encoded image as `RGB` (H, W, 3), or of a mask as `L` (H, W), uint8. BenchError naming `where`
    where it is too large or none."""
    from PIL import Image

    if len(encoded) > samples.MAX_BYTES:
        raise BenchError(f"has more than {samples.MAX_BYTES:,} bytes.", where=where, remedy="Make it smaller.")
    try:
        with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG", "WEBP", "BMP", "TIFF")) as picture:
            if picture.width * picture.height > samples.MAX_PIXELS:
                raise ValueError(f"more than {samples.MAX_PIXELS:,} pixels")
            if mode == "L" and picture.mode not in ("L", "1", "P"):
                raise ValueError(f"a mask of mode {picture.mode}, not of one 8-bit channel")
            return np.asarray(picture if mode == "L" and picture.mode != "1" else picture.convert(mode))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BenchError(
            f"cannot be decoded ({str(error).splitlines()[0]}).",
            where=where,
            remedy="Replace the file, or leave it out.",
        ) from None


def _square_image(pixels: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    padded = np.pad(pixels, (*_borders(pixels), (0, 0)), mode="edge")
    return np.asarray(Image.fromarray(padded).resize((size, size), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


def _square_mask(ids: np.ndarray, size: int) -> npt.NDArray[np.int64]:
    from PIL import Image

    padded = Image.fromarray(np.pad(ids, _borders(ids)))
    return np.asarray(padded.resize((size, size), Image.Resampling.NEAREST)).astype(np.int64)


def _borders(pixels: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """What makes an image (H, W, ...) square: borders above and below, left and right."""
    height, width = pixels.shape[:2]
    rows, columns = max(width - height, 0), max(height - width, 0)
    return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)
