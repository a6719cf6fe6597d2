"""Batched augmentation on tensors: every image has parameters of its own, one `grid_sample` does all the geometry."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

BLUR_RADIUS = 2
YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
"""RGB -> brightness and the plane of colours of NTSC (FCC 1953)."""


@dataclass(frozen=True)
class Augmentation:
    """Ranges that each image's parameters are drawn from, uniformly. The defaults change nothing.

    area: part of the image that a crop covers (above 1 zooms out); aspect: widest ratio of its sides; degrees: rotation
    either way; shear: either way, as a slope; shift: either way, in widths of the image; flip: chance of a mirror
    image; brightness, contrast, saturation: factors in [1 - v, 1 + v]; hue: turn of the colours either way, in parts of
    a whole turn; jitter: chance that an image has the changes of these four at all; grey: chance of an image without
    colours; blur: chance of a Gaussian blur of sigma `blur_sigma` pixels; noise: largest standard deviation of Gaussian
    noise; erase: chance that a rectangle is blanked, whose sides are between 1/8 and `erase_side` of the image's.
    """

    area: tuple[float, float] = (1.0, 1.0)
    aspect: float = 1.0
    degrees: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    jitter: float = 1.0
    grey: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 1.0)
    noise: float = 0.0
    erase: float = 0.0
    erase_side: float = 0.5


@dataclass(frozen=True)
class Recipe:
    """What the images of a suite bear. `supervised`: the mild one of supervised training; `views`: two of these of one
    image are a positive pair of self-supervised learning."""

    supervised: Augmentation
    views: Augmentation


RECIPES = {
    "digits": Recipe(  # no mirror images, no rotation that turns a 6 into a 9
        supervised=Augmentation(area=(0.8, 1.25), aspect=1.2, degrees=12, shear=0.15, shift=0.06),
        views=Augmentation(
            area=(0.5, 1.2), aspect=1.33, degrees=15, shear=0.2, brightness=0.4, contrast=0.4, blur=0.3, noise=0.05
        ),
    ),
    "photos": Recipe(  # the usual ones of CIFAR-10: moved by up to 4 of 32 pixels; crops and colours, no blur
        supervised=Augmentation(shift=0.125, flip=0.5),
        views=Augmentation(
            area=(0.25, 1.0),
            aspect=1.33,
            flip=0.5,
            brightness=0.4,
            contrast=0.4,
            saturation=0.4,
            hue=0.1,
            jitter=0.8,
            grey=0.2,
        ),
    ),
}
"""`augmentation` of a suite in params.yaml -> its recipe."""

UNCHANGED = Augmentation()
"""For masked image modelling, where the mask is the task."""


def _uniform(n: int, low: float, high: float, generator: Generator) -> Tensor:
    return torch.rand(n, generator=generator, device=generator.device) * (high - low) + low


def _factor(n: int, most: float, part: Tensor | float, generator: Generator) -> Tensor:
    """A factor around 1 for each image, (N, 1, 1, 1)."""
    factor = _uniform(n, 1 - most, 1 + most, generator)
    if isinstance(part, Tensor):
        factor = 1 + part * (factor - 1)
    return factor[:, None, None, None]


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


def _weakened(n: int, how: Augmentation, generator: Generator) -> Tensor | float:
    """What the ranges of the four changes of colour are multiplied by, (N,): 0 for images that have none."""
    return 1.0 if how.jitter == 1 else (_uniform(n, 0, 1, generator) < how.jitter).float()


def _colours(images: Tensor, how: Augmentation, part: Tensor | float, generator: Generator) -> Tensor:
    """Saturation, hue and grey in one: each image's colours, as a plane of YIQ, are stretched and turned."""
    n, channels = images.shape[:2]
    if channels != 3:
        return images
    stretch = 1 + part * _uniform(n, -how.saturation, how.saturation, generator)
    turn = part * _uniform(n, -how.hue, how.hue, generator) * (2 * math.pi)
    stretch = stretch * (_uniform(n, 0, 1, generator) >= how.grey)
    cos, sin, one, zero = stretch * turn.cos(), stretch * turn.sin(), torch.ones_like(turn), torch.zeros_like(turn)
    plane = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).view(n, 3, 3)
    to_yiq = torch.tensor(YIQ, device=images.device)
    matrix = torch.linalg.inv(to_yiq) @ plane @ to_yiq
    return (matrix @ images.flatten(2)).view(images.shape)


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
    part = _weakened(len(images), how, generator)
    if how.brightness:
        images = images * _factor(len(images), how.brightness, part, generator)
    if how.contrast:
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = (images - mean) * _factor(len(images), how.contrast, part, generator) + mean
    if how.saturation or how.hue or how.grey:
        images = _colours(images, how, part, generator)
    if how.noise:
        strength = _uniform(len(images), 0, how.noise, generator)[:, None, None, None]
        images = images + strength * torch.randn(images.shape, generator=generator, device=images.device)
    if how.erase:
        images = _erase(images, how, generator)
    return images.clamp(0, 1)
