"""The one loop of all attacks: a batch of fixed shape that finished images leave and waiting ones come into. torch.

Floating-point results depend on the shape of a batch and not on who else is in it: so every pass has the model's one
fixed batch size, what lacks is padded, and neither the order nor the number of images changes a result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import compute
from bench.config import Compute
from bench.errors import BenchError

Images = npt.NDArray[np.float32]
State = dict[str, Tensor]
"""What is known of the images in the batch: name -> (B, ...). What a step or an attack keeps beside what it was given
starts as zeros."""
Advance = Callable[[State], Tensor]
"""One pass over the batch: changes the state in place, and says which images are finished, (B,) bool."""
Loss = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[Tensor, State], Tensor]
Stop = Callable[[Tensor, Tensor, Tensor], Tensor]
Project = Callable[[Tensor, State], Tensor]

VANISHED = 1e-20
"""A gradient whose norm is below this says nothing of a direction: nothing is divided by it, and no step is taken."""


@dataclass(frozen=True)
class Found:
    """images (N, C, H, W) float32; iterations (N,): steps taken until the image stopped, or all of them (which says
    nothing of the last image: nobody has asked the network about it); vanished (N,), of `iterate` alone: whether a
    gradient on the way was below VANISHED, as that of a saturated softmax is."""

    images: Images
    iterations: npt.NDArray[np.int64]
    vanished: npt.NDArray[np.bool_] | None = None


def run(
    arrays: Mapping[str, npt.NDArray[Any]], settings: Compute, advance: Advance, wanted: Sequence[str]
) -> dict[str, npt.NDArray[Any]]:
    """Run `advance` until every image is finished, and return its `wanted` entries of the state, (N, ...) each.

    arrays: name -> (N, ...), one row an image, float32 or int64; of rows that pad the batch all are zero. An image that
    is finished leaves with what the state says of it then, and a waiting one takes its place, with zeros in what
    `advance` keeps besides.
    """
    device, size = compute.device_of(settings), settings.batch_size
    n = len(next(iter(arrays.values())))
    if not n:
        raise BenchError("there are no images to attack.", where="attack", remedy="Check the dataset.")
    waiting = deque(range(n))
    rows = np.array([waiting.popleft() if waiting else -1 for _ in range(size)])
    state: State = {name: _padded(array[rows[rows >= 0]], size, device) for name, array in arrays.items()}
    out: dict[str, npt.NDArray[Any]] = {}
    while (rows >= 0).any():
        leaving = np.flatnonzero(advance(state).cpu().numpy() & (rows >= 0))
        if not len(leaving):
            continue
        at = torch.from_numpy(leaving).to(device)
        for name in wanted:
            left = state[name][at].cpu().numpy()
            out.setdefault(name, np.empty((n, *left.shape[1:]), left.dtype))[rows[leaving]] = left
        rows[leaving] = [waiting.popleft() if waiting else -1 for _ in leaving]
        coming = leaving[rows[leaving] >= 0]
        at = torch.from_numpy(coming).to(device)
        for name, held in state.items():
            held[at] = torch.from_numpy(arrays[name][rows[coming]]).to(device) if name in arrays else 0
    return out


def _padded(rows: npt.NDArray[Any], size: int, device: torch.device) -> Tensor:
    batch = np.zeros((size, *rows.shape[1:]), rows.dtype)
    batch[: len(rows)] = rows
    placed = torch.from_numpy(batch).to(device)
    return placed.contiguous(memory_format=torch.channels_last) if placed.dim() == 4 else placed


def kept(state: State, name: str, like: Tensor) -> Tensor:
    """An entry of the state that starts as zeros of the shape of `like`."""
    if name not in state:
        state[name] = torch.zeros_like(like)
    return state[name]


def counted(state: State) -> Tensor:
    """Passes that each image in the batch has had, (B,)."""
    return kept(state, "passes", state["labels"])


def wide(values: Tensor) -> Tensor:
    """(B,) as (B, 1, 1, 1)."""
    return values[:, None, None, None]


def vanishes(gradient: Tensor) -> Tensor:
    """Which gradients (B, C, H, W) have a Euclidean norm below VANISHED, (B,)."""
    return gradient.flatten(1).norm(dim=1) <= VANISHED


def gradient_norms(
    network: nn.Module, images: Images, labels: npt.NDArray[np.int64], settings: Compute
) -> npt.NDArray[np.float64]:
    """Euclidean norms (N,) of the gradient of the cross-entropy by each image (N, C, H, W)."""
    network = compute.placed(network, compute.device_of(settings))

    def advance(state: State) -> Tensor:
        x = state["images"].requires_grad_()
        loss = F.cross_entropy(network(x), state["labels"], reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        state["images"] = x.detach()
        state["norm"] = gradient.flatten(1).double().norm(dim=1)
        return torch.ones_like(state["labels"], dtype=torch.bool)

    return run({"images": images, "labels": labels}, settings, advance, ["norm"])["norm"]


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
    project: Project | None = None,
) -> Found:
    """Climb `loss` from `start` (default: `clean`), `iterations` times or until `stop`, inside the box [low, high].

    network: images in [0, 1] -> logits, in eval mode. clean, low, high, start, mask: (N, C, H, W) float32; labels (N,).
    loss: logits, labels -> (N,), summed over the batch, so that the gradient of an image is its own.
    step: gradient, state -> change (what it keeps in the state starts as zeros). mask: 1 where the image may change, 0
    where it stays `clean` to the bit. stop: images, logits, labels -> (N,) bool; an image that stops keeps the pixels
    that gave those logits. project: images, state (with `clean`) -> images of a smaller set, after the box.
    Source: the pseudocode that PGD (Madry et al. 2018) and its kin share.
    """
    network = compute.placed(network, compute.device_of(settings))
    arrays = {"clean": clean, "images": clean if start is None else start, "low": low, "high": high, "labels": labels}
    arrays["free"] = np.ones_like(clean) if mask is None else mask

    def inside(x: Tensor, state: State) -> Tensor:
        x = torch.minimum(torch.maximum(x, state["low"]), state["high"])
        x = x if project is None else project(x, state)
        return torch.where(state["free"] > 0, x, state["clean"])

    def advance(state: State) -> Tensor:
        taken, x = counted(state), state["images"].requires_grad_()
        logits = network(x)
        done = torch.zeros_like(taken, dtype=torch.bool)
        if stop is not None:
            done = stop(x.detach(), logits.detach(), state["labels"])
        (gradient,) = torch.autograd.grad(loss(logits, state["labels"]).sum(), x)
        x = x.detach()
        vanished = kept(state, "vanished", done)
        vanished |= vanishes(gradient) & ~done
        moved = inside(x + step(gradient, state) * state["free"], state)
        state["images"] = torch.where(wide(done), x, moved)
        taken += ~done
        return done | (taken >= iterations)

    first = np.empty_like(clean)
    for begin in range(0, len(clean), settings.batch_size):
        rows = slice(begin, begin + settings.batch_size)
        part = {name: torch.from_numpy(np.ascontiguousarray(array[rows])) for name, array in arrays.items()}
        first[rows] = inside(part["images"], part).numpy()
    if iterations == 0 or not len(clean):
        return Found(first, np.zeros(len(clean), np.int64), np.zeros(len(clean), np.bool_))
    found = run(arrays | {"images": first}, settings, advance, ("images", "passes", "vanished"))
    return Found(found["images"], found["passes"], found["vanished"])
