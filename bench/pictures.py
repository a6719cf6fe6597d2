"""Pictures of 8 bits a channel, as PNG."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


def png(pixels: Pixels, level: int = 6) -> bytes:
    """uint8 (H, W) or (H, W, 3) as PNG; `level` 0 stores pixels as they are."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=level)
    return buffer.getvalue()


def of_image(image: npt.NDArray[np.floating]) -> bytes:
    """An image (C, H, W) in [0, 1], C 1 or 3, rounded to 8 bits."""
    pixels = np.rint(255 * image).astype(np.uint8)
    return png(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def pixels(encoded: bytes) -> Pixels:
    """What a PNG holds: uint8 (H, W) or (H, W, 3)."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(encoded), formats=("PNG",)))
