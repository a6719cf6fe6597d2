"""Batched augmentation on tensors: every image has parameters of its own, one `grid_sample` does all the geometry."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

BLUR_RADIUS = 2


@dataclass(frozen=True)
class Augmentation:
    """Ranges that each image's parameters are drawn from, uniformly. The defaults change nothing.

    area: part of the image that a crop covers (above 1 zooms out); aspect: widest ratio of its sides; degrees: rotation
    either way; shear: either way, as a slope; shift: either way, in widths of the image; flip: chance of a mirror
    image; brightness, contrast: factors in [1 - v, 1 + v]; blur: chance of a Gaussian blur of sigma `blur_sigma`
    pixels; noise: largest standard deviation of Gaussian noise; erase: chance that a rectangle is blanked, whose sides
    are between 1/8 and `erase_side` of the image's.
    """

    area: tuple[float, float] = (1.0, 1.0)
    aspect: float = 1.0
    degrees: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 1.0)
    noise: float = 0.0
    erase: float = 0.0
    erase_side: float = 0.5


SUPERVISED = Augmentation(area=(0.8, 1.25), aspect=1.2, degrees=12, shear=0.15, shift=0.06)
"""Mild, and fit for digits: no mirror images, no rotation that turns a 6 into a 9."""

VIEWS = Augmentation(
    area=(0.5, 1.2), aspect=1.33, degrees=15, shear=0.2, brightness=0.4, contrast=0.4, blur=0.3, noise=0.05
)
"""Two of these of one image are a positive pair of self-supervised learning."""

UNCHANGED = Augmentation()
"""For masked image modelling, where the mask is the task."""


def _uniform(n: int, low: float, high: float, generator: Generator) -> Tensor:
    return torch.rand(n, generator=generator, device=generator.device) * (high - low) + low


def _geometry(images: Tensor, how: Augmentation, generator: Generator) -> Tensor:
    """Crop, zoom, rotate, shear, shift and mirror: (N, C, H, W) -> the same; what lies outside is zero."""
    n = len(images)
    side = _uniform(n, *how.area, generator).sqrt()
    stretch = (_uniform(n, -1, 1, generator) * math.log(how.aspect) / 2).exp()
    width, height = side * stretch, side / stretch
    angle = _uniform(n, -how.degrees, how.degrees, generator) * (math.pi / 180)
    slope = _uniform(n, -how.shear, how.shear, generator)
    mirror = 1 - 2 * (_uniform(n, 0, 1, generator) < how.flip).float()
    x = _uniform(n, -1, 1, generator) * (1 - width) + _uniform(n, -2, 2, generator) * how.shift
    y = _uniform(n, -1, 1, generator) * (1 - height) + _uniform(n, -2, 2, generator) * how.shift
    cos, sin = angle.cos(), angle.sin()
    top = torch.stack([cos * width * mirror, (cos * slope - sin) * height, x], dim=1)
    bottom = torch.stack([sin * width * mirror, (sin * slope + cos) * height, y], dim=1)
    grid = F.affine_grid(torch.stack([top, bottom], dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _blur(images: Tensor, how: Augmentation, generator: Generator) -> Tensor:
    """A separable Gaussian, each image with a sigma of its own; the edge is mirrored."""
    n, _, height, width = images.shape
    blurred = _uniform(n, 0, 1, generator) < how.blur
    sigma = _uniform(n, *how.blur_sigma, generator)
    reach = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=images.device)
    kernel = (-0.5 * (reach / sigma[:, None]) ** 2).exp()
    kernel = torch.where(blurred[:, None], kernel / kernel.sum(dim=1, keepdim=True), (reach == 0).float())
    weights = kernel.T[..., None, None, None]
    padded = F.pad(images, (BLUR_RADIUS,) * 4, mode="reflect")
    rows = torch.stack([padded[:, :, k : k + height] for k in range(len(reach))]).mul_(weights).sum(dim=0)
    return torch.stack([rows[..., k : k + width] for k in range(len(reach))]).mul_(weights).sum(dim=0)


def _erase(images: Tensor, how: Augmentation, generator: Generator) -> Tensor:
    """Blank one rectangle of some images."""
    n, _, height, width = images.shape
    chosen = _uniform(n, 0, 1, generator) < how.erase
    inside = []
    for length in (height, width):
        side = _uniform(n, 0.125, how.erase_side, generator)
        start = _uniform(n, 0, 1, generator) * (1 - side)
        place = (torch.arange(length, device=images.device) + 0.5) / length
        inside.append((place >= start[:, None]) & (place < (start + side)[:, None]))
    gone = inside[0][:, :, None] & inside[1][:, None, :] & chosen[:, None, None]
    return images.masked_fill(gone[:, None], 0.0)


def augment(images: Tensor, how: Augmentation, generator: Generator) -> Tensor:
    """A new view of each image: float32 (N, C, H, W) in [0, 1] -> the same shape, in [0, 1].

    Parameters come from `generator` (on the images' device), image by image, so the same generator state gives the same
    views. Operations whose range is left at its default are skipped.
    """
    idle = Augmentation()
    geometric = ("area", "aspect", "degrees", "shear", "shift", "flip")
    if any(getattr(how, part) != getattr(idle, part) for part in geometric):
        images = _geometry(images, how, generator)
    if how.blur:
        images = _blur(images, how, generator)
    if how.brightness:
        images = images * _uniform(len(images), 1 - how.brightness, 1 + how.brightness, generator)[:, None, None, None]
    if how.contrast:
        factor = _uniform(len(images), 1 - how.contrast, 1 + how.contrast, generator)[:, None, None, None]
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = (images - mean) * factor + mean
    if how.noise:
        strength = _uniform(len(images), 0, how.noise, generator)[:, None, None, None]
        images = images + strength * torch.randn(images.shape, generator=generator, device=images.device)
    if how.erase:
        images = _erase(images, how, generator)
    return images.clamp(0, 1)
