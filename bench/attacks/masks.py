"""Regions of an image that an attack may change: squares, frames, scattered positions, what a network looks at.

A region is named by its kind and a size: of `centre` and `corner` the side, of `frame` the border, in pixels of an
image of 224 x 224, and scaled to others; of `random` and `gradcam` the percentage of positions. Sizes of the paper that
study 8 is after: 90, 120, 150; 10, 17, 29; 17, 28, 45.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bench import compute

Mask = npt.NDArray[np.float32]
OF = 224
"""Pixels a side of the images whose squares and frames are named."""
FULL = "full"
KINDS = {"centre": OF, "corner": OF, "frame": OF // 2 - 1, "random": 100, "gradcam": 100}
"""Kind of a region -> the largest size that it can have."""
NAMED = re.compile(rf"({'|'.join(KINDS)})-([1-9][0-9]*)")


def of(
    name: str,
    shape: tuple[int, int],
    seeds: Sequence[object],
    seed: int,
    looked: npt.NDArray[np.floating] | None = None,
    drawn: Sequence[str] | None = None,
) -> Mask:
    """Masks (N, H, W) of 0 and 1, one for each of `seeds` (sample ids): 1 where the image may change.

    looked: for `gradcam`, how much a network looks at each position, (N, H, W). drawn: the rows of a region by hand,
    `.` where the image stays, any other sign where it may change; scaled to (H, W) by nearest position.
    ValueError where the name is none that is known.
    """
    height, width = shape
    if drawn is not None:
        cells = np.array([[sign != "." for sign in row] for row in drawn], np.float32)
        rows = np.arange(height) * cells.shape[0] // height
        columns = np.arange(width) * cells.shape[1] // width
        return np.tile(cells[np.ix_(rows, columns)], (len(seeds), 1, 1))
    if name == FULL:
        return np.ones((len(seeds), height, width), np.float32)
    match = NAMED.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no region")
    kind, size = match[1], int(match[2])
    match kind:
        case "centre":
            return np.tile(_centre(height, width, size), (len(seeds), 1, 1))
        case "frame":
            top, left = (max(1, round(size * side / OF)) for side in shape)
            out = np.ones((height, width), np.float32)
            out[top : height - top, left : width - left] = 0
            return np.tile(out, (len(seeds), 1, 1))
        case "corner":
            square = _centre(height, width, size)
            rows, columns = (np.flatnonzero(square.any(axis=axis)) for axis in (1, 0))
            out = np.zeros((len(seeds), height, width), np.float32)
            for one, key in zip(out, seeds, strict=True):
                down, right = compute.rng(seed, "corner", key).integers(0, 2, 2)
                top = (height - len(rows)) * down
                left = (width - len(columns)) * right
                one[top : top + len(rows), left : left + len(columns)] = 1
            return out
        case "random":
            order = np.stack([compute.rng(seed, "mask", key).random(height * width) for key in seeds])
        case _:
            if looked is None:
                raise ValueError(f"{name!r} needs to know what is looked at")
            found = looked.reshape(len(seeds), -1).astype(np.float64)
            ties = np.stack([compute.rng(seed, "mask", key).random(height * width) for key in seeds])
            order = np.lexsort((ties, -found), axis=1).argsort(axis=1)
    return top_share(order, size / 100).reshape(len(seeds), height, width)


def top_share(order: npt.NDArray[np.generic], share: float) -> Mask:
    """1 for the `share` of positions of each row (N, P) that come first in rising order, 0 for the others."""
    k = max(1, round(share * order.shape[1]))
    out = np.zeros(order.shape, np.float32)
    np.put_along_axis(out, np.argsort(order, axis=1, kind="stable")[:, :k], 1, axis=1)
    return out


def _centre(height: int, width: int, side: int) -> Mask:
    """A square of `side` / 224 of each side in the middle, half a pixel to the top left where it cannot be."""
    out = np.zeros((height, width), np.float32)
    tall, wide = (min(full, max(1, round(side * full / OF))) for full in (height, width))
    top, left = (height - tall) // 2, (width - wide) // 2
    out[top : top + tall, left : left + wide] = 1
    return out
