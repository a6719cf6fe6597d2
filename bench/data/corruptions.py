"""Corruptions of images, after the names of Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations" (ICLR 2019).

COMMON are their fifteen; `gaussian_blur` and `rotation` are further ones. The constants are this benchmark's own,
scaled for small images: lengths are in pixels of a 28-pixel image and grow with the image. Frost and fog are made of
random fields, not of photographs. So figures here are not comparable with ImageNet-C or CIFAR-10-C. The random draws of
an image are seeded by its sample id and shared by the five severities, which makes severities of one image comparable.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np

from bench.compute import rng
from bench.errors import BenchError

REFERENCE_SIZE = 28
FINE = 5
"""Parts of a pixel a side in which the disk of a defocused lens is drawn; odd."""
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


def _defocus_blur(x: np.ndarray, radius: float, generators: Generators) -> np.ndarray:
    """The mean over a disk of `radius` pixels, whose edge is drawn finer than a pixel."""
    from scipy.ndimage import convolve

    reach = int(np.ceil(radius * _scale(x)))
    fine = (np.arange(-reach * FINE - FINE // 2, reach * FINE + FINE // 2 + 1)) / FINE
    disk = (fine[:, None] ** 2 + fine**2 <= (radius * _scale(x)) ** 2).astype(float)
    side = 2 * reach + 1
    kernel = disk.reshape(side, FINE, side, FINE).sum(axis=(1, 3))
    return convolve(x, (kernel / kernel.sum())[None, None], mode="nearest")


def _glass_blur(x: np.ndarray, reach: float, generators: Generators) -> np.ndarray:
    """Every pixel takes the value of a random place at most `reach` pixels away a side; then a slight blur."""
    away = np.stack([g.uniform(-1, 1, (2, *x.shape[2:])) for g in generators()]) * reach * _scale(x)
    rows, columns = _grid(x)
    return _blurred(_sampled(x, rows + away[:, 0], columns + away[:, 1]), 0.4 * _scale(x))


def _zoom_blur(x: np.ndarray, largest: float, generators: Generators) -> np.ndarray:
    """The mean of the image and its enlargements about the middle up to a factor."""
    rows, columns = _grid(x)
    middle = (x.shape[2] - 1) / 2, (x.shape[3] - 1) / 2
    zooms = np.linspace(1, largest, 9)
    places = [(middle[0] + (rows - middle[0]) / z, middle[1] + (columns - middle[1]) / z) for z in zooms]
    return np.mean([_sampled(x, *place) for place in places], axis=0)


def _fog(x: np.ndarray, density: float, generators: Generators) -> np.ndarray:
    """Adds a cloudy field of `density`, the brightest pixel staying as bright as it is."""
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    return (x + density * _clouds(x, generators)) * brightest / (brightest + density)


def _frost(x: np.ndarray, cover: float, generators: Generators) -> np.ndarray:
    """Covers a share of the light by a bright field of ridges."""
    ridges = 1 - np.abs(2 * _clouds(x, generators) - 1)
    return (1 - cover) * x + cover * (0.4 + 0.6 * ridges**2)


def _snow(x: np.ndarray, share: float, generators: Generators) -> np.ndarray:
    """Whitens the image a little, and lets flakes fall on a `share` of it, drawn out along a random angle."""
    draws = [(g.uniform(np.pi / 4, 3 * np.pi / 4), g.random((1, *x.shape[2:]))) for g in generators()]
    angles = np.array([angle for angle, _ in draws])[:, None, None]
    flakes = (np.stack([u for _, u in draws]) < share).astype(float)
    rows, columns = _grid(x)
    steps = np.linspace(-1, 1, 5) * _scale(x)
    fallen = np.mean([_sampled(flakes, rows + s * np.sin(angles), columns + s * np.cos(angles)) for s in steps], axis=0)
    return x + (1 - x) * np.minimum(share + 2 * fallen, 1)


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


def _clouds(x: np.ndarray, generators: Generators) -> np.ndarray:
    """Random fields (N, 1, H, W) from 0 to 1: bilinear noise of every second scale, the finer the weaker."""
    height, width = x.shape[2:]
    scales = [cells for cells in (2, 4, 8, 16, 32, 64, 128, 256) if cells <= max(height, width)]
    draws = [[g.random((cells + 1, cells + 1)) for cells in scales] for g in generators()]
    field = np.zeros((len(x), height, width))
    for k, cells in enumerate(scales):
        down, across = _between(height, cells), _between(width, cells)
        grids = np.stack([one[k] for one in draws])
        field += 0.6**k * np.einsum("ih,nhw,jw->nij", down, grids, across, optimize=True)
    low, high = field.min(axis=(1, 2), keepdims=True), field.max(axis=(1, 2), keepdims=True)
    return ((field - low) / np.maximum(high - low, 1e-12))[:, None]


def _between(side: int, cells: int) -> np.ndarray:
    """(side, cells + 1): the weights with which each pixel of a line reads the corners of cells, linearly."""
    at = (np.arange(side) + 0.5) / side * cells
    return np.clip(1 - np.abs(at[:, None] - np.arange(cells + 1)), 0, None)


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
    "defocus_blur": (_defocus_blur, (1.0, 1.6, 2.2, 3.0, 4.0)),
    "glass_blur": (_glass_blur, (0.7, 1.2, 1.8, 2.5, 3.5)),
    "zoom_blur": (_zoom_blur, (1.1, 1.2, 1.32, 1.46, 1.65)),
    "snow": (_snow, (0.02, 0.05, 0.09, 0.14, 0.2)),
    "frost": (_frost, (0.2, 0.32, 0.44, 0.56, 0.68)),
    "fog": (_fog, (0.3, 0.6, 1.0, 1.6, 2.5)),
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
COMMON = tuple(name for name in NAMES if name not in ("gaussian_blur", "rotation"))
"""The fifteen of Hendrycks & Dietterich."""
