"""What every training shares: its loop, the record that each epoch leaves, and going on where one was interrupted."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from bench import progress
from bench.errors import BenchError
from bench.models import probes
from bench.models.zoo import Network
from bench.store import tables

DIAGNOSED = 512
"""Images (the first of the training part) whose features tell, after each epoch, whether the encoder collapses."""


@dataclass(frozen=True)
class Epoch:
    """One epoch of one training: a row of the table `training`."""

    epoch: int
    loss: float
    collapse_std: float
    effective_rank: float


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


def kept_at(path: Path, *parts: object) -> Kept:
    """A place to keep a training that is told by `parts`: texts, and tensors by their bytes."""
    digest = hashlib.sha256(torch.__version__.encode())
    for part in parts:
        digest.update(part.cpu().numpy().tobytes() if isinstance(part, Tensor) else str(part).encode())
    return Kept(path, digest.hexdigest())


@dataclass(frozen=True)
class Training:
    """All that changes while a network is trained. `modules`: what a method has beside it; `steps`: in all."""

    network: Network
    modules: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.OneCycleLR
    generator: Generator
    steps: int

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

    def descend(self, loss: Tensor) -> float:
        """One step down the gradient; how far the training is, from 0 to 1."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return self.schedule.last_epoch / self.steps


def steps_of(epochs: int, n: int, batch_size: int) -> int:
    """Steps of a training of n images."""
    return epochs * (n // min(batch_size, n))


def run(
    training: Training,
    images: Tensor,
    epochs: int,
    batch_size: int,
    step: Callable[[Tensor], Tensor],
    kept: Kept | None = None,
) -> list[Epoch]:
    """Train, and return a record an epoch. `step` takes the indices of a batch, makes one step, and returns its loss.

    With `kept`, go on after the last epoch that is kept there, and keep each. BenchError where the loss is not finite.
    """
    done = _resumed(training, kept) if kept else []
    for epoch in range(len(done) + 1, epochs + 1):
        training.network.train()
        losses = [step(chosen).detach() for chosen in batches(len(images), batch_size, training.generator)]
        done.append(diagnose(training.network, images, epoch, torch.stack(losses)))
        if kept and epoch < epochs:
            _keep(training, done, kept)
    return done


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
def diagnose(network: Network, images: Tensor, epoch: int, losses: Tensor) -> Epoch:
    """The record of an epoch. BenchError where the loss is no longer finite."""
    loss = float(losses.mean())
    if not torch.isfinite(losses).all():
        raise BenchError(
            f"the loss is {loss} in epoch {epoch}.",
            where=network.name,
            remedy="Use a lower `lr` for this model in params.yaml.",
        )
    features = network.eval().features(images[:DIAGNOSED]).cpu().numpy()
    return Epoch(epoch, loss, probes.collapse_std(features), probes.effective_rank(features))
