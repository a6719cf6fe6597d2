"""Corruptions of images, after the names of Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations" (ICLR 2019).

The constants are this benchmark's own, scaled for small images: lengths are in pixels of a 28-pixel image and grow with
the image. So figures here are not comparable with ImageNet-C or CIFAR-10-C. The random draws of an image are seeded by
its sample id and shared by the five severities, which makes severities of one image comparable.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np

from bench.compute import rng
from bench.errors import BenchError

REFERENCE_SIZE = 28
Generators = Callable[[], Iterator[np.random.Generator]]
"""Gives the generators of the images of a batch, one after the other, fresh at every call."""


def corrupt(images: np.ndarray, ids: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """Corrupt images (N, C, H, W) float32 in [0, 1]; `ids` (N,) are their sample ids. The same shape, type and range.

    Raises BenchError where the name is unknown, the severity is not 1 to 5, or ids and images differ in number.
    """
    if name not in _CORRUPTIONS:
        raise BenchError(
            f"there is no corruption {name!r}.", where="corruptions.names", remedy=f"Use some of: {', '.join(NAMES)}."
        )
    if not 1 <= severity <= 5:
        raise BenchError(f"severity {severity} is not 1 to 5.", where="corruptions.severities", remedy="Correct it.")
    if len(ids) != len(images):
        raise BenchError(f"{len(ids)} ids for {len(images)} images.", where=f"corruption {name}", remedy="Pass both.")

    def generators() -> Iterator[np.random.Generator]:
        return (rng(seed, name, sample_id) for sample_id in ids)

    function, levels = _CORRUPTIONS[name]
    out = function(images.astype(np.float64), levels[severity - 1], generators)
    return np.clip(out, 0, 1).astype(np.float32)


def _gaussian_noise(x: np.ndarray, sd: float, generators: Generators) -> np.ndarray:
    """Adds normal noise of standard deviation `sd`."""
    return x + sd * np.stack([g.standard_normal(x.shape[1:]) for g in generators()])


def _shot_noise(x: np.ndarray, photons: float, generators: Generators) -> np.ndarray:
    """Counts of light: Poisson with `photons` expected for white."""
    return np.stack([g.poisson(image * photons) for g, image in zip(generators(), x, strict=True)]) / photons


def _impulse_noise(x: np.ndarray, share: float, generators: Generators) -> np.ndarray:
    """Replaces a `share` of the positions by black or white, alike in all channels."""
    u = np.stack([g.random((1, *x.shape[2:])) for g in generators()])
    return np.where(u < share / 2, 0.0, np.where(u > 1 - share / 2, 1.0, x))


def _gaussian_blur(x: np.ndarray, sd: float, generators: Generators) -> np.ndarray:
    """Blurs by a normal kernel of standard deviation `sd` pixels."""
    return _blurred(x, sd * _scale(x))


def _motion_blur(x: np.ndarray, length: float, generators: Generators) -> np.ndarray:
    """The mean of the image along a line of `length` pixels at a random angle."""
    angles = np.array([g.uniform(0, np.pi) for g in generators()])[:, None, None]
    rows, columns = _grid(x)
    steps = np.linspace(-0.5, 0.5, 9) * length * _scale(x)
    return np.mean([_sampled(x, rows + s * np.sin(angles), columns + s * np.cos(angles)) for s in steps], axis=0)


def _contrast(x: np.ndarray, kept: float, generators: Generators) -> np.ndarray:
    """Draws every pixel towards the mean of its image and channel; `kept` is the share of contrast left."""
    mean = x.mean(axis=(2, 3), keepdims=True)
    return (x - mean) * kept + mean


def _brightness(x: np.ndarray, added: float, generators: Generators) -> np.ndarray:
    """Adds a constant."""
    return x + added


def _pixelate(x: np.ndarray, share: float, generators: Generators) -> np.ndarray:
    """Averages over a grid of `share` as many cells a side, then enlarges them without smoothing."""
    height, width = x.shape[2:]
    down = _cells(height, share), _cells(width, share)
    small = np.einsum("ih,nchw,jw->ncij", down[0], x, down[1], optimize=True)
    rows, columns = (
        (2 * np.arange(side) + 1) * len(grid) // (2 * side) for side, grid in zip((height, width), down, strict=True)
    )
    return small[:, :, rows[:, None], columns]


def _jpeg(x: np.ndarray, quality: float, generators: Generators) -> np.ndarray:
    """Encodes as JPEG of a quality and decodes again."""
    from PIL import Image

    bytes_ = np.rint(x * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    out = []
    for image in bytes_:
        buffer = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "JPEG", quality=int(quality))
        with Image.open(buffer) as picture:
            out.append(np.asarray(picture).reshape(image.shape))
    return np.stack(out).transpose(0, 3, 1, 2) / 255


def _rotation(x: np.ndarray, degrees: float, generators: Generators) -> np.ndarray:
    """Turns by an angle of `degrees`, to the left or to the right at random; bilinear, edges repeated."""
    signs = np.array([1.0 if g.random() < 0.5 else -1.0 for g in generators()])[:, None, None]
    angles = signs * np.deg2rad(degrees)
    rows, columns = _grid(x)
    middle = (x.shape[2] - 1) / 2, (x.shape[3] - 1) / 2
    dy, dx = rows - middle[0], columns - middle[1]
    cos, sin = np.cos(angles), np.sin(angles)
    return _sampled(x, middle[0] + cos * dy + sin * dx, middle[1] - sin * dy + cos * dx)


def _elastic(x: np.ndarray, shift: float, generators: Generators) -> np.ndarray:
    """Moves every pixel along a smooth random field whose root mean square per axis is `shift` pixels."""
    field = np.stack([g.standard_normal((2, *x.shape[2:])) for g in generators()])
    field = _blurred(field, 3 * _scale(x))
    field *= shift * _scale(x) / np.sqrt((field**2).mean(axis=(2, 3), keepdims=True))
    rows, columns = _grid(x)
    return _sampled(x, rows + field[:, 0], columns + field[:, 1])


def _scale(x: np.ndarray) -> float:
    return min(x.shape[2:]) / REFERENCE_SIZE


def _grid(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of every pixel, (1, H, 1) and (1, 1, W)."""
    return np.arange(x.shape[2], dtype=float)[None, :, None], np.arange(x.shape[3], dtype=float)[None, None]


def _cells(side: int, share: float) -> np.ndarray:
    """(cells, side): the weights with which a box average over a coarser grid reads a line of pixels."""
    n = max(1, round(side * share))
    edges = np.linspace(0, side, n + 1)
    pixels = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(overlap, 0, None) * n / side


def _blurred(x: np.ndarray, sd: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(x, (0, 0, sd, sd), mode="nearest", truncate=3)


def _sampled(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear values of x (N, C, H, W) at places (N, H, W) given in pixels; beyond the edge, the edge's values."""
    n, channels, height, width = x.shape
    rows = np.broadcast_to(np.clip(rows, 0, height - 1), (n, height, width))
    columns = np.broadcast_to(np.clip(columns, 0, width - 1), (n, height, width))
    top, left = np.minimum(rows.astype(int), height - 2), np.minimum(columns.astype(int), width - 2)
    down, right = (rows - top)[:, None], (columns - left)[:, None]
    flat = x.reshape(n, channels, -1)
    first = (top * width + left).reshape(n, 1, -1)

    def at(offset: int) -> np.ndarray:
        return np.take_along_axis(flat, first + offset, axis=2).reshape(x.shape)

    upper = at(0) * (1 - right) + at(1) * right
    lower = at(width) * (1 - right) + at(width + 1) * right
    return upper * (1 - down) + lower * down


_CORRUPTIONS: dict[str, tuple[Callable[[np.ndarray, float, Generators], np.ndarray], tuple[float, ...]]] = {
    "gaussian_noise": (_gaussian_noise, (0.08, 0.16, 0.26, 0.38, 0.5)),
    "shot_noise": (_shot_noise, (60, 25, 12, 6, 3)),
    "impulse_noise": (_impulse_noise, (0.03, 0.06, 0.1, 0.17, 0.27)),
    "gaussian_blur": (_gaussian_blur, (0.6, 1.0, 1.5, 2.0, 2.6)),
    "motion_blur": (_motion_blur, (3, 5, 7, 10, 14)),
    "contrast": (_contrast, (0.6, 0.4, 0.25, 0.15, 0.08)),
    "brightness": (_brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "pixelate": (_pixelate, (0.75, 0.5, 0.4, 0.32, 0.25)),
    "jpeg": (_jpeg, (50, 30, 18, 10, 5)),
    "rotation": (_rotation, (10, 20, 30, 40, 55)),
    "elastic": (_elastic, (0.6, 1.0, 1.4, 1.9, 2.5)),
}
"""name -> function and what it is given at severity 1 to 5."""

NAMES: tuple[str, ...] = tuple(_CORRUPTIONS)
