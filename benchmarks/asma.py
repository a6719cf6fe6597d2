"""Claim: ASMA on a batch of pairs, one multiplier an image, takes at most a quarter of the time of the authors' loop
over single images, with the same curves of IoU (within 0.01, mean over pairs).

The network and the pairs of the default benchmark (`segmentation.digits-scenes`), trained here; rounds that alternate
in one process, wall time, as many threads as params.yaml says. The peer is the authors' loop as published: one image,
the loss summed over the classes by masks, gradients by `backward`, a second pass for the measures of every iteration.
Its network keeps no gradients of weights either, so that it is not slowed by what the attack does not need.

adv-lib's ASMA stands beside it where it is importable: its requirements are its own, so it is installed apart, e.g.

    pip install --no-deps --target /tmp/peers adv-lib
    PYTHONPATH=/tmp/peers python -m benchmarks asma

It is another rule (one multiplier for the whole batch by the mean IoU of all classes, measured before the step; the
best image is kept), so its curve is none to be equal to: what it ends with is told. It imports visdom for a logger that
is not used here; where that is missing, an empty module stands in its place.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import statistics
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import benchmarks

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bench.config import Compute

ROUNDS = 3
N_PAIRS, ITERATIONS, EVERY = 50, 40, 5
TARGETS = {"times_faster": (">=", 4.0), "iou_apart": ("<=", 0.01)}


@dataclass(frozen=True)
class Pairs:
    """Images (N, C, H, W), target masks (N, H, W), and the multiplier of the first step of each (N,)."""

    images: np.ndarray
    targets: np.ndarray
    tau: np.ndarray
    beta: float


def run() -> dict[str, Any]:
    """Medians over ROUNDS of the loop's seconds over those of the engine in the same round; how far curves differ."""
    import torch

    threads = torch.get_num_threads()
    try:
        network, pairs, settings = prepared()
        sides: dict[str, Callable[[], np.ndarray]] = {
            "engine": partial(ours, network, pairs, settings),
            "loop": partial(loop, network, pairs),
        }
        if importlib.util.find_spec("adv_lib") is not None:
            sides["adv_lib"] = partial(adv_lib, network, pairs)
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        curves = {}
        for _ in range(ROUNDS):
            for name, attack in sides.items():
                network.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
                start = time.perf_counter()
                curves[name] = attack()
                seconds[name].append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    pace = [loop / engine for loop, engine in zip(seconds["loop"], seconds["engine"], strict=True)]
    found = {
        "times_faster": round(statistics.median(pace), 2),
        "iou_apart": round(float(np.abs(curves["engine"].mean(axis=0) - curves["loop"].mean(axis=0)).max()), 5),
    }
    ends = {name: round(float(curve[:, -1].mean()), 3) for name, curve in curves.items()}
    return {
        **benchmarks.beside(TARGETS, found),
        "single_image_apart": round(float(np.abs(curves["engine"] - curves["loop"]).max()), 4),
        "pairs": N_PAIRS,
        "iterations": ITERATIONS,
        "seconds": {name: round(statistics.median(all_), 2) for name, all_ in seconds.items()},
        "iou_at_the_end": ends,
        "met": benchmarks.met(TARGETS, found),
    }


def details(result: dict[str, Any]) -> str:
    """Seconds and final IoU of each side."""
    ends = result["iou_at_the_end"]
    return "\n".join(f"  {name:<28}{s:>12} s   IoU {ends[name]}" for name, s in result["seconds"].items())


def prepared() -> tuple[nn.Module, Pairs, Compute]:
    """The network of the default set, its pairs, and how the stage would run them."""
    from bench import compute
    from bench import config as configuration
    from bench.attacks import asma
    from bench.data import masks
    from bench.studies import segmentation

    config = configuration.load(Path(__file__).parent.parent / "params.yaml")
    compute.prepare(config.compute, config.seed)
    name, settings = next(iter(config.segmentation.items()))
    _, train, test = masks.load(config, name)
    network = segmentation.trained(train, 2, settings, config.compute, compute.seed_of(config.seed, name))
    chosen = compute.declared(test.ids, N_PAIRS)
    targets = test.masks[segmentation.others(test.ids, chosen, config.seed)]
    own = config.compute.model_copy(update={"batch_size": settings.attack_batch})
    images = test.images[chosen]
    tau = (settings.step_l2 / asma.first_norms(network, images, targets, own)).astype(np.float32)
    return network, Pairs(images, targets, tau, settings.beta), own


def ours(network: nn.Module, pairs: Pairs, settings: Compute) -> np.ndarray:
    """The engine: IoU before clipping, (N, T)."""
    from bench.attacks import asma

    course = asma.attack(
        network,
        pairs.images,
        pairs.targets,
        asma.RULES["asma"],
        settings,
        iterations=ITERATIONS,
        every=EVERY,
        tau=pairs.tau,
        beta=pairs.beta,
    )
    return course.measures[asma.RAW][:, 1:, 0]


def loop(network: nn.Module, pairs: Pairs) -> np.ndarray:
    """The authors' loop over single images: the same IoU."""
    rows = zip(pairs.images, pairs.targets, pairs.tau.tolist(), strict=True)
    return np.array([_one(network, image, target, tau, pairs.beta * tau) for image, target, tau in rows])


def _one(network: nn.Module, image: np.ndarray, target: np.ndarray, tau: float, beta: float) -> list[float]:
    import torch

    clean, wanted = torch.from_numpy(image[None]), torch.from_numpy(target)
    x, multiplier, found = clean.clone(), tau, []
    for iteration in range(1, ITERATIONS + 1):
        x.requires_grad_()
        logits = network(x)
        answer = logits.argmax(1).detach()
        loss = torch.zeros(())
        for c in (0, 1):
            loss = loss + (logits[0, c] * (wanted == c) * (answer[0] != c)).sum()
        (loss - ((x - clean) ** 2).sum()).backward()
        assert x.grad is not None, "it was asked for"
        moved = x.detach() + multiplier * x.grad
        with torch.no_grad():
            drawn = network(moved).argmax(1)[0]
        iou, _ = _measures(drawn, wanted, moved - clean)
        if iteration % EVERY == 0:
            found.append(iou)
        multiplier = beta * iou + tau
        x = moved.clamp(0, 1)
    return found


def _measures(drawn: torch.Tensor, wanted: torch.Tensor, change: torch.Tensor) -> tuple[float, tuple[float, ...]]:
    """IoU; pixel accuracy, L2 and Linf, which the authors take in every iteration too."""
    both, either = (drawn * wanted).sum(), (drawn + wanted).clamp(max=1).sum()
    rest = ((drawn == wanted).float().mean().item(), change.norm().item(), change.abs().max().item())
    return (both / either).item() if either else 1.0, rest


def adv_lib(network: nn.Module, pairs: Pairs) -> np.ndarray:
    """adv-lib's ASMA on the whole batch, with one tau and beta for all: the IoU that it ends with, (N, 1)."""
    import torch

    if "visdom" not in sys.modules and importlib.util.find_spec("visdom") is None:
        sys.modules["visdom"] = types.ModuleType("visdom")
    from adv_lib.attacks.segmentation import asma as peer  # pyright: ignore[reportMissingImports]

    from bench.attacks import asma

    images, targets = torch.from_numpy(pairs.images), torch.from_numpy(pairs.targets)
    tau = float(np.median(pairs.tau))
    with contextlib.redirect_stdout(io.StringIO()):
        made = peer(network, images, targets, targeted=True, num_steps=ITERATIONS, τ=tau, β=pairs.beta * tau)
    with torch.inference_mode():
        return asma.iou(network(made).argmax(1), targets).numpy()[:, None]
