"""Claim: PGD takes at most 1.02 times its floor, the passes of its steps forward and backward by themselves; at most
0.65 of it on a network prepared for attack (batch norm folded, encoder in bfloat16), and at most 0.5 where images that
are answered wrongly leave the batch and waiting ones take their place; at equal robust accuracy, as the network in
float32 without preparation sees it (within 0.2 points). At 10 and 40 steps. Beside them the same without bfloat16
(folded, folded_leaving): on processors that do not compute in it this is the faster one. The stage `attack` asks for
bfloat16 by `dtype`, and tries it on a first batch in both, which the figures here do not hold.

ResNet-20 on the digits at 32 x 32, trained here for a minute; one thread, CPU seconds, rounds that alternate. The floor
and the peers are in torch's default memory layout, the engine in its own. foolbox, of the development dependencies,
runs the same attack beside it, and so do torchattacks and ART where they are importable: their requirements contradict
the project's, so they are installed apart, and that folder named, e.g.

    pip install --no-deps --target /tmp/peers torchattacks adversarial-robustness-toolbox
    PYTHONPATH=/tmp/peers python -m benchmarks attacks

What leaving gains depends on how many images an attack fools, and when: the share of the steps that are still taken
stands beside it.

And: the transfer study of four ResNets (20, 32, 44, 56) x 2,000 images x PGD-40, each image shown to the three others,
takes at most 15 minutes of two cores. A share of it is run, and the rest extrapolated: the stage `attack` on one batch
of STUDY_BATCH random pictures with STUDY_STEPS steps, networks of random weights, one thread, CPU seconds; what passes
take is multiplied by the steps and batches of the whole, what the stage takes besides by the batches. Its passes are
held against a plain loop of the same passes in the same round (floor), in torch's default layout. Two shares of the
shards, one a core, are independent, so two cores take half of the CPU seconds. The statistics of study 6 are run whole,
on transfers that are drawn at random.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

    from bench.config import Compute, Config

ROUNDS = 5
N_IMAGES, BATCH, EPS, STEP = 256, 64, 0.03, 0.0075
STEPS = (10, 40)
SIDE = 32
EQUAL_PP = 0.2
TARGETS = {"plain": 1.02, "prepared": 0.65, "leaving": 0.5}
STUDY_ROUNDS, STUDY_BATCH, STUDY_STEPS = 3, 256, 5
WHOLE_IMAGES, WHOLE_STEPS = 2000, 40
STUDY_MINUTES = 15


def run() -> dict[str, Any]:
    """By number of steps, medians over ROUNDS of each side's CPU seconds over those of the floor in the same round."""
    import torch

    from bench.attacks import prepare
    from bench.config import Compute

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        settings = Compute(threads=1, batch_size=BATCH)
        network, images, labels = trained(settings)
        folded = prepare.folded(network, torch.from_numpy(images[:8]))
        lowered = prepare.in_bfloat16(folded, torch.from_numpy(images[:8]))
        assert lowered is not None, "ResNet-20 computes in bfloat16"
        fast = {"folded": folded, "prepared": lowered}
        by_steps = {f"pgd-{steps}": _beside(network, fast, images, labels, settings, steps) for steps in STEPS}
        clean = accuracy(network, images, labels, settings)
        whole = study()
    finally:
        torch.set_num_threads(threads)
    worst = {name: max(each[name] for each in by_steps.values()) for name in (*TARGETS, "apart_pp")}
    targets = TARGETS | {"apart_pp": EQUAL_PP, "minutes_of_two_cores": STUDY_MINUTES}
    figures = worst | {"minutes_of_two_cores": whole["minutes_of_two_cores"]}
    return {
        **figures,
        **{f"target_{name}": target for name, target in targets.items()},
        **by_steps,
        "clean": clean,
        "rounds": ROUNDS,
        "study": whole,
        "met": all(figures[name] <= target for name, target in targets.items()),
    }


def _beside(
    network: nn.Module,
    fast: dict[str, nn.Module],
    images: np.ndarray,
    labels: np.ndarray,
    settings: Compute,
    steps: int,
) -> dict[str, Any]:
    """The engine's sides and the peers beside the floor, at `steps` steps."""
    import torch

    sides: dict[str, Callable[[], np.ndarray]] = {
        "floor": partial(floor, network, images, labels, steps=steps),
        "plain": partial(ours, network, images, labels, settings, steps),
        "folded": partial(ours, fast["folded"], images, labels, settings, steps),
        "folded_leaving": partial(ours, fast["folded"], images, labels, settings, steps, leave=True),
        "prepared": partial(ours, fast["prepared"], images, labels, settings, steps),
        "leaving": partial(ours, fast["prepared"], images, labels, settings, steps, leave=True),
        "foolbox": partial(foolbox, network, images, labels, steps),
    }
    for name, peer in (("torchattacks", torchattacks), ("art", art)):
        if importlib.util.find_spec(name) is not None:
            sides[name] = partial(peer, network, images, labels, steps)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    robust = {}
    for _ in range(ROUNDS):
        for name, attack in sides.items():
            network.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
            start = time.process_time()
            attacked = attack()
            seconds[name].append(time.process_time() - start)
            robust[name] = accuracy(network, attacked, labels, settings)
    ratios = {
        name: round(statistics.median(t / f for t, f in zip(seconds[name], seconds["floor"], strict=True)), 3)
        for name in sides
        if name != "floor"
    }
    return {
        **ratios,
        "apart_pp": round(100 * max(abs(robust[name] - robust["plain"]) for name in ("prepared", "leaving")), 2),
        "passes_of_leaving": round(passes(fast["prepared"], images, labels, settings, steps), 3),
        "floor_s": round(statistics.median(seconds["floor"]), 2),
        "robust": robust,
    }


def details(result: dict[str, Any]) -> str:
    """The sides by number of steps, and the transfer study."""
    parts = {name: part for name, part in result.items() if isinstance(part, dict)}
    return "\n".join(
        f"  {name}: {key:<26}{value!s:>12}"
        for name, part in parts.items()
        for key, value in part.items()
        if not isinstance(value, dict)
    )


def study() -> dict[str, Any]:
    """Medians over STUDY_ROUNDS of the stage `attack` on a share of the transfer study, and what the whole takes."""
    from bench.config import Attack, Attacks, Compute
    from bench.data import cache
    from benchmarks.predict import RESNETS, cifar_like

    with tempfile.TemporaryDirectory() as folder:
        config = cifar_like(Path(folder), Compute(threads=1, batch_size=STUDY_BATCH))
        how = {"dataset": "pictures", "eps_255": [8], "steps": STUDY_STEPS, "n_images": STUDY_BATCH, "squares": 0}
        config = config.model_copy(update={"attacks": Attacks(runs={"pgd": Attack.model_validate(how)})})
        data = cache.load(config, "pictures")
        rounds = [_round(config, RESNETS, data.images, data.labels) for _ in range(STUDY_ROUNDS)]
    passes, besides, loop = (statistics.median(each) for each in zip(*rounds, strict=True))
    batches = -(-WHOLE_IMAGES // STUDY_BATCH)
    steps = len(RESNETS) * STUDY_BATCH * STUDY_STEPS
    statistics_s = _statistics(WHOLE_IMAGES, len(RESNETS))
    # Of the three batches of passes two check the attack, at no strength and at the largest: they stay two.
    whole = passes / 3 * (batches + 2) * WHOLE_STEPS / STUDY_STEPS + besides * batches + statistics_s
    return {
        "share": f"{STUDY_BATCH} of {WHOLE_IMAGES} images, {STUDY_STEPS} of {WHOLE_STEPS} steps",
        "cpu_s_of_share": round(passes + besides, 1),
        "image_steps_per_cpu_s": round(3 * steps / passes, 1),
        "images_per_cpu_s": round(len(RESNETS) * WHOLE_IMAGES / whole, 2),
        "of_plain_loop": round(passes / 3 / loop, 3),
        "whole_of_plain_loop": round(whole / (loop * batches * WHOLE_STEPS / STUDY_STEPS), 3),
        "statistics_cpu_s": round(statistics_s, 1),
        "whole_cpu_s": round(whole),
        "minutes_of_two_cores": round(whole / 2 / 60, 1),
        "rounds": STUDY_ROUNDS,
    }


def _round(
    config: Config, networks: tuple[str, ...], images: np.ndarray, labels: np.ndarray
) -> tuple[float, float, float]:
    """CPU seconds of the passes of all shards (the share, and two checks), of the rest of the stage, and of the plain
    loop over the share."""
    import torch

    from bench.attacks import attack
    from bench.data import cache
    from bench.models import zoo

    for path in (config.root / cache.FOLDER / "pictures").glob("attack+*"):
        path.unlink()
    torch.set_num_threads(1)
    fresh = _cpu_s(lambda: attack.run(config))
    kept = _cpu_s(lambda: attack.run(config))
    loop = 0.0
    for name in networks:
        network = zoo.load(config, name).to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
        loop += _cpu_s(partial(floor, network, images, labels, batch=STUDY_BATCH, steps=STUDY_STEPS))
    return fresh - kept, kept, loop


def _statistics(n: int, n_models: int) -> float:
    """CPU seconds of the statistics of study 6 on `n` images and all pairs of models, of transfers drawn at random."""
    import pandas as pd

    from bench.config import Statistics
    from bench.studies import transfer

    rng = np.random.default_rng(0)
    names = [f"m{i}" for i in range(n_models)]
    pairs = [(a, b) for a in names for b in names if a != b]
    shape = len(pairs), n
    ids = np.array([f"d/{i:05d}" for i in range(n)], object)
    sources, targets = (tuple(pair[at] for pair in pairs) for at in (0, 1))
    sizes = rng.random((2, *shape))
    one = transfer.Shown("d", "attack:pgd:8", sources, targets, ids, rng.random(shape) < rng.random(n), *sizes)
    proxies = pd.DataFrame({name: rng.random(n) for name in transfer.PROXIES}, index=ids)

    def work() -> None:
        for shown in (one, *transfer.together([one])):
            transfer.foretold(shown, proxies, Statistics(), 0)
        transfer.sampling(one, Statistics(), 0)
        transfer.counts(one)

    return _cpu_s(work)


def _cpu_s(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


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


def floor(network: nn.Module, images: np.ndarray, labels: np.ndarray, *, steps: int, batch: int = BATCH) -> np.ndarray:
    """The passes of the attack and nothing else; the images themselves."""
    import torch
    import torch.nn.functional as F

    for start in range(0, len(images), batch):
        x = torch.from_numpy(images[start : start + batch]).requires_grad_()
        y = torch.from_numpy(labels[start : start + batch])
        for _ in range(steps):
            torch.autograd.grad(F.cross_entropy(network(x), y, reduction="sum"), x)
    return images


def ours(
    network: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    settings: Compute,
    iterations: int,
    *,
    leave: bool = False,
) -> np.ndarray:
    """The engine's attack; with `leave` an image is finished when it is answered wrongly."""
    return _iterate(network, images, labels, settings, iterations, leave=leave).images


def passes(network: nn.Module, images: np.ndarray, labels: np.ndarray, settings: Compute, iterations: int) -> float:
    """The share of the steps that images take which may leave."""
    return float(_iterate(network, images, labels, settings, iterations, leave=True).iterations.mean() / iterations)


def _iterate(
    network: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    settings: Compute,
    iterations: int,
    *,
    leave: bool,
) -> Any:
    from bench.attacks import engine, losses, norms, prepare, steps

    low, high = norms.linf_box(images, EPS)
    return engine.iterate(
        network,
        images,
        labels,
        settings,
        loss=losses.cross_entropy,
        step=steps.sign(STEP),
        iterations=iterations,
        low=low,
        high=high,
        stop=prepare.wrong_on(network) if leave else None,
    )


def foolbox(network: nn.Module, images: np.ndarray, labels: np.ndarray, steps: int) -> np.ndarray:
    """foolbox's LinfPGD from the clean image."""
    import torch
    from foolbox import PyTorchModel
    from foolbox.attacks import LinfPGD

    attack = LinfPGD(abs_stepsize=STEP, steps=steps, random_start=False)
    model = PyTorchModel(network, bounds=(0, 1), device="cpu")
    parts = []
    for start in range(0, len(images), BATCH):
        x, y = (torch.from_numpy(part[start : start + BATCH]) for part in (images, labels))
        parts.append(attack(model, x, y, epsilons=EPS)[1].numpy())
    return np.concatenate(parts)


def torchattacks(network: nn.Module, images: np.ndarray, labels: np.ndarray, steps: int) -> np.ndarray:
    """torchattacks' PGD from the clean image."""
    import torch
    import torchattacks as peer  # pyright: ignore[reportMissingImports]

    attack = peer.PGD(network, eps=EPS, alpha=STEP, steps=steps, random_start=False)
    parts = []
    for start in range(0, len(images), BATCH):
        x, y = (torch.from_numpy(part[start : start + BATCH]) for part in (images, labels))
        parts.append(attack(x, y).numpy())
    return np.concatenate(parts)


def art(network: nn.Module, images: np.ndarray, labels: np.ndarray, steps: int) -> np.ndarray:
    """ART's ProjectedGradientDescent from the clean image."""
    import torch
    from art.attacks.evasion import ProjectedGradientDescent  # pyright: ignore[reportMissingImports]
    from art.estimators.classification import PyTorchClassifier  # pyright: ignore[reportMissingImports]

    shape = images.shape[1:]
    model = PyTorchClassifier(
        network, torch.nn.CrossEntropyLoss(), shape, 10, clip_values=(0.0, 1.0), device_type="cpu"
    )
    attack = ProjectedGradientDescent(model, eps=EPS, eps_step=STEP, max_iter=steps, batch_size=BATCH, verbose=False)
    return attack.generate(images, labels)
