"""Sizes of perturbations, and the sets that keep them within a size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.float32]
HALF_STEP = 0.5 / 255
"""Half an 8-bit step: a smaller change is lost when the image is stored."""


@dataclass(frozen=True)
class Sizes:
    """Of each image (N,): l0 the share of positions changed in any channel by more than half an 8-bit step, l2 and linf
    over all channels in units of [0, 1]."""

    l0: npt.NDArray[np.float64]
    l2: npt.NDArray[np.float64]
    linf: npt.NDArray[np.float64]


def sizes(attacked: Images, clean: Images) -> Sizes:
    """How much images (N, C, H, W) differ from clean ones."""
    change = np.abs(attacked.astype(np.float64) - clean)
    position = change.max(axis=1)
    return Sizes(
        l0=(position > HALF_STEP).mean(axis=(1, 2)),
        l2=np.sqrt((change**2).sum(axis=(1, 2, 3))),
        linf=position.max(axis=(1, 2)),
    )


def linf_box(clean: Images, eps: float) -> tuple[Images, Images]:
    """The smallest and largest float32 images within [0, 1] that are no further than `eps` from `clean` in any value.

    Rounded inwards, as clean + eps rounded to float32 may lie outside by more than a millionth of a small eps.
    """
    exact_low, exact_high = clean.astype(np.float64) - eps, clean.astype(np.float64) + eps
    low, high = exact_low.astype(np.float32), exact_high.astype(np.float32)
    low = np.where(low < exact_low, np.nextafter(low, np.float32(np.inf)), low)
    high = np.where(high > exact_high, np.nextafter(high, np.float32(-np.inf)), high)
    return np.maximum(low, np.float32(0)), np.minimum(high, np.float32(1))


def round_u8(images: Images) -> Images:
    """The images as they come back from 8 bits a channel."""
    return np.round(images * np.float32(255)) / np.float32(255)


def start_in(norm: str, share: Images) -> Images:
    """Where attacks start as a share of eps, from values (N, C, H, W) uniform in [-1, 1]: for `linf` these themselves,
    for `l2` points of the ball, for `l0` none."""
    if norm == "linf":
        return share
    if norm == "l0":
        return np.zeros_like(share)
    flat = share.reshape(len(share), -1).astype(np.float64)
    # Directions as of a normal distribution, by the inverse of its distribution function; radii by one of the values.
    from scipy.special import ndtri

    normal = ndtri(np.clip((flat + 1) / 2, 1e-12, 1 - 1e-12))
    radius = ((flat[:, :1] + 1) / 2) ** (1 / flat.shape[1])
    unit = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    return (unit * radius).reshape(share.shape).astype(np.float32)
