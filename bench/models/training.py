"""What every training shares: its loop, the record that each epoch leaves, and going on where one was interrupted."""

from __future__ import annotations

import hashlib
import inspect
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bench import compute, progress
from bench.config import Model
from bench.errors import BenchError
from bench.models import probes
from bench.models.augment import RECIPES, Recipe, augment
from bench.models.zoo import Network
from bench.store import tables

DIAGNOSED = 512
"""Images (the first of the training part) whose features tell, after each epoch, whether the encoder collapses."""
BANK = 5000
"""Images (the first of the training part) among which the nearest neighbours of watched images are looked for."""
NEIGHBOURS, TEMPERATURE = 20, 0.1
Labelled = tuple[Tensor, Tensor]
"""Images (N, C, S, S) and their labels (N,)."""


@dataclass(frozen=True)
class Epoch:
    """One epoch of one training: a row of the table `training`."""

    epoch: int
    loss: float
    collapse_std: float
    effective_rank: float
    alignment: float
    uniformity: float
    knn_validation: float | None = None
    knn_test: float | None = None


@dataclass(frozen=True)
class Kept:
    """Where a training is kept after each epoch until it is done; `of` tells trainings of another kind apart.

    A training that goes on from there ends in the same bytes as one that was never interrupted.
    """

    path: Path
    of: str

    def done(self) -> None:
        """Forget it: the checkpoint is written."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Watched:
    """Images that an encoder is not trained on, by whose nearest neighbours it is watched, epoch by epoch.

    By `validation` an epoch may be chosen; `test` says what the chosen one reaches, and what choosing by it would give.
    """

    validation: Labelled
    test: Labelled


@dataclass(frozen=True)
class Setting:
    """What is around a training: how images are changed, where it is kept, by what it is watched."""

    recipe: Recipe = RECIPES["digits"]
    kept: Kept | None = None
    watched: Watched | None = None


ALONE = Setting()


def kept_at(path: Path, *parts: object) -> Kept:
    """A place to keep a training that is told by `parts`: texts, and tensors by their bytes."""
    digest = hashlib.sha256(torch.__version__.encode())
    for part in parts:
        digest.update(part.cpu().numpy().tobytes() if isinstance(part, Tensor) else str(part).encode())
    return Kept(path, digest.hexdigest())


@dataclass(frozen=True)
class Training:
    """All that changes while a network is trained. `modules`: what a method has beside it; `steps`: in all; `average`:
    of the weights, as it moves."""

    network: Network
    modules: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.OneCycleLR
    generator: Generator
    steps: int
    average: AveragedModel | None = None

    @property
    def result(self) -> Network:
        """The network that the training would end in now."""
        return self.network if self.average is None else cast("Network", self.average.module)

    def state(self) -> dict[str, Any]:
        """What `restore` takes. Buffers apart: queues are none of a module's state_dict."""
        return {
            "network": self.network.state_dict(),
            "modules": self.modules.state_dict(),
            "buffers": dict(self.modules.named_buffers()),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if self.generator.device.type == "cuda" else None,
            "average": None if self.average is None else self.average.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Be as when `state` was taken."""
        self.network.load_state_dict(state["network"])
        self.modules.load_state_dict(state["modules"])
        for name, buffer in self.modules.named_buffers():
            buffer.copy_(state["buffers"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        if state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    def descend(self, loss: Tensor) -> float:
        """One step down the gradient; how far the training is, from 0 to 1."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return self.schedule.last_epoch / self.steps


def check_options(makes: Callable[..., object], model: Model, name: str) -> None:
    """BenchError where a model has an option that is no keyword of the function that takes its options."""
    parameters = inspect.signature(makes).parameters.values()
    known = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    if unknown := sorted(set(model.options) - set(known)):
        raise BenchError(
            f"method {model.method!r} has no option {', '.join(unknown)}.",
            where=f"params.yaml: models.{name}.options",
            remedy=f"Its options are: {', '.join(known) or 'none'}.",
        )


def begin(
    network: Network, modules: nn.Module, model: Model, n: int, generator: Generator, *, warm_up: float
) -> Training:
    """A training of n images that is about to begin: AdamW, whose rate rises over a part `warm_up` of the steps to
    `model.lr`, then falls to zero along a cosine. What takes gradients is trained: of the encoder and `modules`."""
    modules.to(next(network.parameters()).device)
    parameters = [p for m in (network.encoder, modules) for p in m.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=model.lr, weight_decay=model.weight_decay)
    steps = model.epochs * (n // min(model.batch_size, n))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=model.lr, total_steps=steps, pct_start=warm_up)
    average = None
    if model.ema:
        average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(model.ema), use_buffers=True)
    return Training(network, modules, optimizer, schedule, generator, steps, average)


def run(
    training: Training, data: Labelled, model: Model, step: Callable[[Tensor], Tensor], setting: Setting
) -> list[Epoch]:
    """Train, and return a record an epoch. `step` takes the indices of a batch, makes one step, and returns its loss.

    Where it is kept, go on after the last epoch that is kept there, and keep each. BenchError where the loss is not
    finite.
    """
    kept, n = setting.kept, len(data[0])
    done = _resumed(training, kept) if kept else []
    for epoch in range(len(done) + 1, model.epochs + 1):
        start = time.perf_counter()
        training.network.train()
        losses = [step(chosen).detach() for chosen in batches(n, model.batch_size, training.generator)]
        speed = n / (time.perf_counter() - start)
        done.append(diagnose(training.result, data, epoch, torch.stack(losses), setting))
        _log(training.network.name, done[-1], model.epochs, speed)
        if kept and epoch < model.epochs:
            _keep(training, done, kept)
    if training.average is not None:
        training.network.load_state_dict(training.result.state_dict())
    return done


def _log(name: str, epoch: Epoch, epochs: int, speed: float) -> None:
    watched = "" if epoch.knn_validation is None else f", kNN of validation {epoch.knn_validation:.3f}"
    progress.log.info(
        "%s: epoch %d of %d, loss %.4f%s, %.0f images/s", name, epoch.epoch, epochs, epoch.loss, watched, speed
    )


def _keep(training: Training, done: list[Epoch], kept: Kept) -> None:
    content = {"of": kept.of, "epochs": [asdict(epoch) for epoch in done], **training.state()}
    with tables.replacing(kept.path) as temporary:
        torch.save(content, temporary)


def _resumed(training: Training, kept: Kept) -> list[Epoch]:
    """The epochs that are done already; the training is then as it was after the last of them."""
    try:
        content = torch.load(kept.path, map_location="cpu", weights_only=True)
        if content["of"] != kept.of:
            return []
        done = [Epoch(**row) for row in content["epochs"]]
    except FileNotFoundError:
        return []
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as fault:
        progress.log.warning("%s is damaged (%s): the training begins anew", kept.path, type(fault).__name__)
        return []
    training.restore(content)
    progress.log.info("%s: going on after epoch %d", training.network.name, len(done))
    return done


def batches(n: int, size: int, generator: Generator) -> Iterator[Tensor]:
    """Indices of an epoch's batches, each (size,), in random order; what is left over waits for another epoch."""
    size = min(size, n)
    order = torch.randperm(n, generator=generator, device=generator.device)
    yield from order[: n // size * size].split(size)


@torch.no_grad()
def diagnose(network: Network, data: Labelled, epoch: int, losses: Tensor, setting: Setting) -> Epoch:
    """The record of an epoch. BenchError where the loss is no longer finite."""
    loss = float(losses.mean())
    if not torch.isfinite(losses).all():
        raise BenchError(
            f"the loss is {loss} in epoch {epoch}.",
            where=network.name,
            remedy="Use a lower `lr` for this model in params.yaml.",
        )
    images = data[0][:DIAGNOSED]
    features = _features(network.eval(), images)
    views = augment(images, setting.recipe.views, Generator(images.device).manual_seed(compute.seed_of("alignment")))
    record = Epoch(
        epoch,
        loss,
        probes.collapse_std(features),
        probes.effective_rank(features),
        probes.alignment(features, _features(network, views)),
        probes.uniformity(features),
    )
    return record if setting.watched is None else replace(record, **_watch(network, data, setting.watched))


def _features(network: Network, images: Tensor) -> np.ndarray:
    return torch.cat([network.features(some) for some in images.split(DIAGNOSED)]).cpu().numpy()


def _watch(network: Network, data: Labelled, watched: Watched) -> dict[str, float]:
    """How many of the watched images have the class that most of their nearest neighbours in the bank have."""
    known, bank = data[1][:BANK].cpu().numpy(), _features(network, data[0][:BANK])
    shares = {}
    for name, (images, labels) in {"knn_validation": watched.validation, "knn_test": watched.test}.items():
        queries = _features(network, images)
        answers = probes.knn(bank, known, queries, network.n_classes, NEIGHBOURS, TEMPERATURE)
        shares[name] = float((answers == labels.cpu().numpy()).mean())
    return shares
