"""Study 10's pictures: masks in colours, perturbations on grey, and the strip that they make. No data access."""

from __future__ import annotations

import html
from dataclasses import dataclass

import numpy as np

from bench import pictures
from dashboard import parts
from dashboard.frames import Frame, records

PALETTE = np.array(
    [(30, 32, 38), (240, 228, 66), (86, 180, 233), (213, 94, 0), (0, 158, 115), (204, 121, 167)], np.uint8
)
"""Colour of each class of a mask, the background first; further ones begin again after it."""
TILE = 104
STRIP = """<style>
.strip {display: flex; flex-wrap: wrap; gap: 10px}
.strip figure {margin: 0; width: 104px}
.strip figcaption {font-size: 0.74rem; line-height: 1.2; opacity: 0.85; padding-top: 3px}
</style>"""


@dataclass(frozen=True)
class Tile:
    """A picture of the strip, PNG, and what stands below it."""

    png: bytes
    caption: str


def coloured(png: bytes) -> bytes:
    """A mask of class ids, in colours."""
    ids = pictures.pixels(png)
    return pictures.png(PALETTE[np.where(ids == 0, 0, 1 + (ids.astype(int) - 1) % (len(PALETTE) - 1))])


def perturbation(clean: bytes, attacked: bytes) -> tuple[bytes, float]:
    """How an image was changed, on grey and stretched to its largest change; and how many times that is stretched."""
    before, after = (pictures.pixels(one).astype(int) for one in (clean, attacked))
    most = max(int(np.abs(after - before).max()), 1)
    return pictures.png(np.rint(127.5 + (after - before) * (127 / most)).astype(np.uint8)), 127 / most


def strip(frame: Frame, count: int = 6) -> list[Tile]:
    """From left to right: the clean image, what is drawn of it, the target, the attacked image, the perturbation, then
    what is drawn along the iterations. frame: iteration, kind, png, iou_clipped, l2_clipped of one run."""
    last = int(frame["iteration"].max())
    held = {(row.iteration, row.kind): bytes(row.png) for row in records(frame)}
    iou = dict(zip(frame["iteration"], frame["iou_clipped"], strict=True))
    l2 = dict(zip(frame["iteration"], frame["l2_clipped"], strict=True))
    change, times = perturbation(held[last, "clean"], held[last, "image"])
    tiles = [
        Tile(held[last, "clean"], "Clean image"),
        Tile(coloured(held[last, "clean_answer"]), f"Drawn of it, IoU with the target {iou[0]:.2f}"),
        Tile(coloured(held[last, "target"]), "Target: the mask of another image"),
        Tile(held[last, "image"], f"Attacked image, L2 {l2[last]:.2f}"),
        Tile(change, f"Perturbation, × {times:.1f}"),
    ]
    steps = sorted(iou)[1:]
    # More of the early ones, where most happens.
    chosen = np.unique(np.rint(np.geomspace(1, len(steps), min(count, len(steps)))).astype(int)) - 1
    for at in chosen:
        step = steps[at]
        tiles.append(Tile(coloured(held[step, "answer"]), f"Drawn after {step} steps, IoU {iou[step]:.2f}"))
    return tiles


def strip_html(tiles: list[Tile]) -> str:
    """The strip; it wraps where the page is narrow."""
    figures = [
        f"<figure>{parts.image_html((tile.png, 'image/png'), tile.caption, TILE)}"
        f"<figcaption>{html.escape(tile.caption)}</figcaption></figure>"
        for tile in tiles
    ]
    return f'{STRIP}<div class="strip">{"".join(figures)}</div>'
