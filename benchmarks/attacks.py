"""Claim: PGD takes at most 1.02 times its floor, the passes of its steps forward and backward by themselves; at most
0.65 of it on a network prepared for attack (batch norm folded), and at most 0.5 where images that are answered wrongly
leave the batch and waiting ones take their place; at equal robust accuracy (within 0.2 points).

ResNet-20 on the digits at 32 x 32, trained here for a minute; one thread, CPU seconds, rounds that alternate. The floor
and the peers are in torch's default memory layout, the engine in its own. foolbox, of the development dependencies,
runs the same attack beside it, and so do torchattacks and ART where they are importable: their requirements contradict
the project's, so they are installed apart, and that folder named, e.g.

    pip install --no-deps --target /tmp/peers torchattacks adversarial-robustness-toolbox
    PYTHONPATH=/tmp/peers python -m benchmarks attacks

What leaving gains depends on how many images an attack fools, and when: the share of the steps that are still taken
stands beside it.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

    from bench.config import Compute

ROUNDS = 5
N_IMAGES, BATCH, STEPS, EPS, STEP = 256, 64, 10, 0.03, 0.0075
SIDE = 32
EQUAL_PP = 0.2
TARGETS = {"plain": 1.02, "prepared": 0.65, "leaving": 0.5}


def run() -> dict[str, Any]:
    """Medians over ROUNDS of each side's CPU seconds over those of the floor in the same round."""
    import torch

    from bench.attacks import prepare
    from bench.config import Compute

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        settings = Compute(threads=1, batch_size=BATCH)
        network, images, labels = trained(settings)
        fast = prepare.folded(network, torch.from_numpy(images[:8]))
        sides: dict[str, Callable[[], np.ndarray]] = {
            "floor": partial(floor, network, images, labels),
            "plain": partial(ours, network, images, labels, settings),
            "prepared": partial(ours, fast, images, labels, settings),
            "leaving": partial(ours, fast, images, labels, settings, leave=True),
            "foolbox": partial(foolbox, network, images, labels),
        }
        for name, peer in (("torchattacks", torchattacks), ("art", art)):
            if importlib.util.find_spec(name) is not None:
                sides[name] = partial(peer, network, images, labels)
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        robust = {}
        for _ in range(ROUNDS):
            for name, attack in sides.items():
                network.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
                start = time.process_time()
                attacked = attack()
                seconds[name].append(time.process_time() - start)
                robust[name] = accuracy(network, attacked, labels, settings)
    finally:
        torch.set_num_threads(threads)
    ratios = {
        name: statistics.median(t / f for t, f in zip(seconds[name], seconds["floor"], strict=True))
        for name in sides
        if name != "floor"
    }
    apart = 100 * max(abs(robust[name] - robust["plain"]) for name in ("prepared", "leaving"))
    met = all(ratios[name] <= target for name, target in TARGETS.items()) and apart <= EQUAL_PP
    return {
        **{name: round(ratio, 3) for name, ratio in ratios.items()},
        **{f"target_{name}": target for name, target in TARGETS.items()},
        "apart_pp": round(apart, 2),
        "target_apart_pp": EQUAL_PP,
        "passes_of_leaving": round(passes(fast, images, labels, settings), 3),
        "floor_s": round(statistics.median(seconds["floor"]), 2),
        "clean": accuracy(network, images, labels, settings),
        "robust": robust,
        "rounds": ROUNDS,
        "met": met,
    }


def trained(settings: Compute) -> tuple[nn.Module, np.ndarray, np.ndarray]:
    """ResNet-20 after two passes over the digits at SIDE x SIDE, and test images (N_IMAGES, 1, SIDE, SIDE), labels."""
    import torch
    import torch.nn.functional as F

    from bench import config
    from bench.config import Model, Suite
    from bench.data import samples
    from bench.models import zoo

    here = config.load()
    train, test = (samples.load(here, "digits", part) for part in ("train", "test"))
    x, images = (
        F.interpolate(torch.from_numpy(part.images), size=(SIDE, SIDE), mode="bilinear", antialias=True)
        for part in (train, test)
    )
    y = torch.from_numpy(train.labels)
    model = Model(family="supervised", method="supervised", arch="resnet20", suite="s", epochs=1)
    network = zoo.build(model, Suite(input_size=SIDE), 10, 0, "resnet20").train()
    network.normalise_by(x)
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.003)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        for rows in torch.randperm(len(x), generator=generator).split(64):
            optimiser.zero_grad()
            F.cross_entropy(network(x[rows]), y[rows]).backward()
            optimiser.step()
    network.eval().requires_grad_(False)
    return network, images[:N_IMAGES].numpy(), test.labels[:N_IMAGES]


def accuracy(network: nn.Module, images: np.ndarray, labels: np.ndarray, settings: Compute) -> float:
    """The share of images that are answered rightly."""
    from bench import compute

    return float((compute.forward(network, images, settings).argmax(axis=1) == labels).mean())


def floor(network: nn.Module, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The passes of the attack and nothing else; the images themselves."""
    import torch
    import torch.nn.functional as F

    for start in range(0, len(images), BATCH):
        x = torch.from_numpy(images[start : start + BATCH]).requires_grad_()
        y = torch.from_numpy(labels[start : start + BATCH])
        for _ in range(STEPS):
            torch.autograd.grad(F.cross_entropy(network(x), y, reduction="sum"), x)
    return images


def ours(
    network: nn.Module, images: np.ndarray, labels: np.ndarray, settings: Compute, *, leave: bool = False
) -> np.ndarray:
    """The engine's attack; with `leave` an image is finished when it is answered wrongly."""
    return _iterate(network, images, labels, settings, leave=leave).images


def passes(network: nn.Module, images: np.ndarray, labels: np.ndarray, settings: Compute) -> float:
    """The share of the steps that images take which may leave."""
    return float(_iterate(network, images, labels, settings, leave=True).iterations.mean() / STEPS)


def _iterate(network: nn.Module, images: np.ndarray, labels: np.ndarray, settings: Compute, *, leave: bool) -> Any:
    from torch import Tensor

    from bench.attacks import engine, losses, norms, steps

    def wrong(images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        return logits.argmax(dim=1) != labels

    low, high = norms.linf_box(images, EPS)
    return engine.iterate(
        network,
        images,
        labels,
        settings,
        loss=losses.cross_entropy,
        step=steps.sign(STEP),
        iterations=STEPS,
        low=low,
        high=high,
        stop=wrong if leave else None,
    )


def foolbox(network: nn.Module, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """foolbox's LinfPGD from the clean image."""
    import torch
    from foolbox import PyTorchModel
    from foolbox.attacks import LinfPGD

    attack = LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=False)
    model = PyTorchModel(network, bounds=(0, 1), device="cpu")
    parts = []
    for start in range(0, len(images), BATCH):
        x, y = (torch.from_numpy(part[start : start + BATCH]) for part in (images, labels))
        parts.append(attack(model, x, y, epsilons=EPS)[1].numpy())
    return np.concatenate(parts)


def torchattacks(network: nn.Module, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """torchattacks' PGD from the clean image."""
    import torch
    import torchattacks as peer  # pyright: ignore[reportMissingImports]

    attack = peer.PGD(network, eps=EPS, alpha=STEP, steps=STEPS, random_start=False)
    parts = []
    for start in range(0, len(images), BATCH):
        x, y = (torch.from_numpy(part[start : start + BATCH]) for part in (images, labels))
        parts.append(attack(x, y).numpy())
    return np.concatenate(parts)


def art(network: nn.Module, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """ART's ProjectedGradientDescent from the clean image."""
    import torch
    from art.attacks.evasion import ProjectedGradientDescent  # pyright: ignore[reportMissingImports]
    from art.estimators.classification import PyTorchClassifier  # pyright: ignore[reportMissingImports]

    shape = images.shape[1:]
    model = PyTorchClassifier(
        network, torch.nn.CrossEntropyLoss(), shape, 10, clip_values=(0.0, 1.0), device_type="cpu"
    )
    attack = ProjectedGradientDescent(model, eps=EPS, eps_step=STEP, max_iter=STEPS, batch_size=BATCH, verbose=False)
    return attack.generate(images, labels)
