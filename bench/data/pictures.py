"""What the pictures of a set of test images are like: pixels, hashes, light and encoding; and near duplicates by hash.

Pictures are decoded a few at a time, so a set of any size fits in memory.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench import progress
from bench.data import samples

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

NEAR_BITS = 6
"""Bits of 64 in which the perceptual hashes of near duplicates differ at most.

Measured on 1,000 photographs, one of each ImageNet class: within 6 bits are all copies as JPEG of quality 20 or 75, at
half the size or darkened by a fifth, 99.9 % of crops to 99 % of the sides, 72 % of crops to 95 %, and no two of the
photographs. On the MNIST digits here: 99.7 % of copies as JPEG of quality 20, but also 36 % of the digits with another
digit, which is why a base rate stands beside every count. The hash cuts at its median, so half of its bits are set,
distances are even, and two random ones are within 6 bits once in 7e10 pairs (within 8: 1e9, within 10: 5e7).
"""
MAX_PAIRS = 500_000
"""Near duplicates whose pixels are compared; more are only counted."""
SIDE = 32
"""Width and height, in pixels, of the small grey copies of images that hashes are made from and pixels compared in."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in the brightness of a pixel (ITU-R BT.601), as in PIL's mode L."""
_LUMINANCE = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
        *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
    ]
)
"""The luminance quantisation table of ITU-T T.81, table K.1, row by row."""
_PIXELS_AT_ONCE = 2**22
"""Pixels decoded at a time, or one image."""
_CELLS_AT_ONCE = 2**20
"""Distances held in memory at a time (8 MB)."""

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Looks:
    """What the pictures of one set are like. N test images, M training images.

    `shape`: channels, height and width of every image; `pixels` (N,), `train_pixels` (M,): hex sha256 of the decoded
    pixels; `hashes` (N,): perceptual hashes; `small` (N, SIDE * SIDE) uint8: the images in grey at SIDE x SIDE;
    `brightness`, `contrast` (N,): mean and standard deviation of an image's pixels, 0 is black and 1 white;
    `qualities` (J,): estimated quality of each JPEG among the test images, `odd_tables`: how many of them have
    quantisation tables of another family.
    """

    shape: tuple[int, ...]
    media_types: list[str]
    pixels: npt.NDArray[np.str_]
    train_pixels: npt.NDArray[np.str_]
    hashes: Hashes
    small: npt.NDArray[np.uint8]
    brightness: Floats
    contrast: Floats
    qualities: Codes
    odd_tables: int


def looks(test: pd.DataFrame, train: pd.DataFrame, where: Path, name: str) -> Looks:
    """Decode every image of a set once, from rows of `samples.read_table`. BenchError as `samples.decode`.

    `where` is the file that they are from, `name` the set; `train` may be empty.
    """
    shape: tuple[int, ...] = ()
    pixels, hashes, small, brightness, contrast = [], [], [], [], []
    for images in progress.bar(_decoded(test, where), f"check {name}"):
        shape = images.shape[1:]
        pixels += [pixel_digest(image) for image in images]
        for picture in map(_picture, images):
            hashes.append(perceptual_hash(picture))
            small.append(_small(picture))
        light = _light(images)
        brightness.append(light.mean(axis=(1, 2), dtype=np.float64))
        contrast.append(light.std(axis=(1, 2), dtype=np.float64))
    qualities, standard = jpeg_qualities(test.loc[test["media_type"] == "image/jpeg", "image"])
    train_pixels = [pixel_digest(image) for images in _decoded(train, where) for image in images]
    return Looks(
        shape=shape,
        media_types=test["media_type"].tolist(),
        pixels=np.array(pixels, str),
        train_pixels=np.array(train_pixels, str),
        hashes=np.array(hashes, np.uint64),
        small=np.array(small),
        brightness=np.concatenate(brightness),
        contrast=np.concatenate(contrast),
        qualities=qualities,
        odd_tables=int((~standard).sum()),
    )


def _decoded(frame: pd.DataFrame, where: Path) -> Iterator[np.ndarray]:
    """Images, uint8 (n, C, H, W), a few at a time, each part decoded behind the first image: so all have its mode."""
    if frame.empty:
        return
    step = max(1, _PIXELS_AT_ONCE // (int(frame["width"].iloc[0]) * int(frame["height"].iloc[0])))
    for start in range(0, len(frame), step):
        rows = range(start, min(start + step, len(frame)))
        yield samples.decode(frame.iloc[[0, *rows]], where)[1:]


def _light(images: np.ndarray) -> npt.NDArray[np.float32]:
    """Brightness of every pixel, (n, H, W) in [0, 1], of uint8 (n, C, H, W)."""
    scaled = images.astype(np.float32) / np.float32(255)
    return scaled[:, 0] if images.shape[1] == 1 else np.einsum("nchw,c->nhw", scaled, _LUMA)


def pixel_digest(image: np.ndarray) -> str:
    """Hex sha256 of the size and pixels of an image, uint8 (C, H, W); the same for grey and for colours all grey."""
    if (image == image[:1]).all():
        image = image[:1]
    return hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def _picture(image: np.ndarray) -> Image.Image:
    """A PIL image of uint8 (C, H, W)."""
    from PIL import Image

    return Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))


def perceptual_hash(picture: Image.Image) -> int:
    """64 bits from the lowest frequencies of an image: `imagehash.phash`.

    The cosine transform of the image in grey at 32 x 32, its 8 x 8 lowest frequencies, each cut at their median.
    """
    import imagehash

    return int.from_bytes(np.packbits(imagehash.phash(picture).hash).tobytes(), "big")


def _small(picture: Image.Image) -> npt.NDArray[np.uint8]:
    """(SIDE * SIDE,): an image in grey at SIDE x SIDE, as its perceptual hash sees it."""
    from PIL.Image import Resampling

    return np.asarray(picture.convert("L").resize((SIDE, SIDE), Resampling.LANCZOS)).ravel()


def jpeg_qualities(encoded: Iterable[bytes]) -> tuple[Codes, npt.NDArray[np.bool_]]:
    """Estimated quality, 1 to 100, of each JPEG (J,), and whether its luminance table is exactly that of this quality.

    The quality whose scaled table of ITU-T T.81 is nearest (sum of absolute differences), with the scaling of the
    Independent JPEG Group's `jpeg_quality_scaling`: S = 5000 / q below 50, else 200 - 2 q; (S t + 50) / 100 in 1..255.
    Encoders with tables of their own (cameras, Photoshop) have no such quality: theirs is that of the nearest table.
    """
    from PIL import Image, JpegImagePlugin

    quality = np.arange(1, 101)[:, None]
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    wanted = np.clip((scale * _LUMINANCE + 50) // 100, 1, 255)  # (100, 64)
    known: dict[tuple[int, ...], tuple[int, bool]] = {}
    found = []
    for data in encoded:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            assert isinstance(picture, JpegImagePlugin.JpegImageFile), "no other decoder is tried"
            table = tuple(picture.quantization[min(picture.quantization)])
        if table not in known:
            off = np.abs(wanted - np.array(table)).sum(axis=1)
            known[table] = int(off.argmin()) + 1, bool(off.min() == 0)
        found.append(known[table])
    return np.array([quality for quality, _ in found], np.int64), np.array([exact for _, exact in found], bool)


@dataclass(frozen=True)
class Keys:
    """What tells the N images of a set, (N,) each: perceptual `hashes`, and codes of `sources`, `pixels` and `labels`
    that are the same in both sets of a pair."""

    hashes: Hashes
    sources: Codes
    pixels: Codes
    labels: Codes


@dataclass(frozen=True)
class Near:
    """Near duplicates between N and M images, or among N, beyond those that share a source or their pixels.

    `counts` (N,): how many images are near each one; `pairs` of them in all, `relabelled` those with different labels;
    `changed`: pairs of one source and different pixels that are near. `row`, `column`, `distance` (P,) are of the first
    MAX_PAIRS pairs.
    """

    counts: Codes
    pairs: int
    relabelled: int
    changed: int
    row: Codes
    column: Codes
    distance: npt.NDArray[np.uint8]


def near(a: Keys, b: Keys | None = None) -> Near:
    """All pairs within NEAR_BITS of the N images of `a` and the M of `b`; without `b`, of two images of `a`."""
    other, n = b or a, len(a.hashes)
    counts, pairs, relabelled, changed, held = np.zeros(n, np.int64), 0, 0, 0, 0
    kept = []
    for row, column, distance in _near_pairs(a.hashes, None if b is None else b.hashes):
        one_source, same = a.sources[row] == other.sources[column], a.pixels[row] == other.pixels[column]
        changed += int((one_source & ~same).sum())
        new = ~(one_source | same)
        row, column, distance = row[new], column[new], distance[new]
        counts += np.bincount(row, minlength=n)
        if b is None:
            counts += np.bincount(column, minlength=n)
        pairs += len(row)
        relabelled += int((a.labels[row] != other.labels[column]).sum())
        if not kept or held < MAX_PAIRS:
            kept.append([part[: MAX_PAIRS - held].copy() for part in (row, column, distance)])
            held += len(kept[-1][0])
    row, column, distance = (np.concatenate(part) for part in zip(*kept, strict=True))
    return Near(counts, pairs, relabelled, changed, row, column, distance)


def _near_pairs(a: Hashes, b: Hashes | None) -> Iterator[tuple[Codes, Codes, npt.NDArray[np.uint8]]]:
    """(row, column, distance) of all pairs of hashes (N,) and (M,) within NEAR_BITS, in blocks; where `b` is None, of
    pairs row < column of `a`. Memory is bounded: a block has at most _CELLS_AT_ONCE pairs, or M."""
    others = a if b is None else b
    step = max(1, _CELLS_AT_ONCE // len(others))
    for start in range(0, len(a), step):
        left = start if b is None else 0
        distance = np.bitwise_count(a[start : start + step, None] ^ others[None, left:])
        at = np.flatnonzero(distance <= NEAR_BITS)
        row, column = np.divmod(at, distance.shape[1])
        row, column, distance = row + start, column + left, distance.ravel()[at]
        keep = slice(None) if b is not None else row < column
        yield row[keep], column[keep], distance[keep]
