"""Claim: batched augmentation makes at least 4 times the views a second of lightly's PIL transforms, one thread each.

The same list of operations with the same ranges: random resized crop, rotation, brightness and contrast, Gaussian blur.
Both start from 16 x 16 grey images as a training loop has them (PIL images there, one tensor here) and end at a float
tensor. Rounds alternate, so that both meet the same load of the machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

ROUNDS = 7
IMAGES = 1024
BATCH = 128
TARGET = 4.0


def run() -> dict[str, float | int | str | bool]:
    """Median views/s of both and the median of the rounds' ratios."""
    import torch
    from lightly.transforms.simclr_transform import SimCLRViewTransform
    from PIL import Image

    from bench.models.augment import Augmentation, augment

    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 16, 16), dtype=np.uint8)
    pictures = [Image.fromarray(image) for image in pixels]
    images = torch.from_numpy(pixels[:, None].astype(np.float32) / 255)
    theirs = SimCLRViewTransform(
        input_size=16,
        cj_prob=1.0,
        cj_bright=0.4,
        cj_contrast=0.4,
        cj_sat=0.0,
        cj_hue=0.0,
        min_scale=0.5,
        random_gray_scale=0.0,
        gaussian_blur=0.3,
        sigmas=(0.1, 1.0),
        hf_prob=0.0,
        rr_prob=1.0,
        rr_degrees=15,
        normalize=None,
    )
    ours = Augmentation(area=(0.5, 1.0), aspect=4 / 3, degrees=15, brightness=0.4, contrast=0.4, blur=0.3)
    generator = torch.Generator().manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rounds = []
        for _ in range(ROUNDS + 1):
            peer = _views_per_second(lambda: torch.stack([torch.as_tensor(theirs(picture)) for picture in pictures]))
            batched = _views_per_second(lambda: [augment(batch, ours, generator) for batch in images.split(BATCH)])
            rounds.append((peer, batched, batched / peer))
    finally:
        torch.set_num_threads(threads)
    peer, batched, ratio = (statistics.median(column) for column in zip(*rounds[1:], strict=True))
    return {
        "lightly_views_per_s": round(peer),
        "batched_views_per_s": round(batched),
        "ratio": round(ratio, 1),
        "target_ratio": TARGET,
        "rounds": ROUNDS,
        "batch": BATCH,
        "met": ratio >= TARGET,
    }


def _views_per_second(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return IMAGES / (time.perf_counter() - start)
