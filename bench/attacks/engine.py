"""The one iterative loop of all attacks: mask, step, stop, project. torch.

Every pass has the model's one fixed batch size, the last batch padded, so the order and the number of images never
change a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench import compute
from bench.config import Compute

Images = npt.NDArray[np.float32]
Loss = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[Tensor], Tensor]
Stop = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Found:
    """images (N, C, H, W) float32; iterations (N,): steps taken until the image stopped, or all of them."""

    images: Images
    iterations: npt.NDArray[np.int64]


def iterate(
    network: nn.Module,
    clean: Images,
    labels: npt.NDArray[np.int64],
    settings: Compute,
    *,
    loss: Loss,
    step: Step,
    iterations: int,
    low: Images,
    high: Images,
    start: Images | None = None,
    mask: Images | None = None,
    stop: Stop | None = None,
) -> Found:
    """Climb `loss` from `start` (default: `clean`), `iterations` times or until `stop`, inside the box [low, high].

    network: images in [0, 1] -> logits, in eval mode. clean, low, high, start, mask: (N, C, H, W) float32; labels (N,).
    loss: logits, labels -> (N,), summed over the batch, so that the gradient of an image is its own.
    step: gradient -> change. mask: 1 where the image may change, 0 where it stays `clean` to the bit.
    stop: logits, labels -> (N,) bool; an image that stops keeps the pixels that gave those logits.
    Source: the pseudocode that PGD (Madry et al. 2018) and its kin share.
    """
    device = compute.device_of(settings)
    network = compute.placed(network, device)
    start = clean if start is None else start
    mask = np.ones_like(clean) if mask is None else mask
    images, steps = np.empty_like(clean), np.empty(len(clean), np.int64)
    for rows in _batches(len(clean), settings.batch_size):
        arrays = (clean, start, low, high, mask)
        x0, x, lower, upper, free = (compute.padded(a[rows], settings.batch_size, device) for a in arrays)
        y = torch.zeros(settings.batch_size, dtype=torch.int64, device=device)
        y[: len(labels[rows])] = torch.from_numpy(labels[rows]).to(device)
        allowed = free > 0
        x = torch.where(allowed, torch.minimum(torch.maximum(x, lower), upper), x0)
        taken = torch.zeros(settings.batch_size, dtype=torch.int64, device=device)
        done = torch.zeros(settings.batch_size, dtype=torch.bool, device=device)
        for _ in range(iterations):
            x.requires_grad_()
            logits = network(x)
            if stop is not None:
                done = done | stop(logits.detach(), y)
                if bool(done[: len(labels[rows])].all()):
                    break
            (gradient,) = torch.autograd.grad(loss(logits, y).sum(), x)
            x = x.detach()
            moved = torch.minimum(torch.maximum(x + step(gradient) * free, lower), upper)
            x = torch.where(allowed & ~done[:, None, None, None], moved, x)
            taken += ~done
        count = len(labels[rows])
        images[rows], steps[rows] = x.detach()[:count].cpu().numpy(), taken[:count].cpu().numpy()
    return Found(images, steps)


def _batches(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, start + size)
