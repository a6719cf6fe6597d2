"""Small networks whose first layers differ, trained on a set in seconds: what study 4 collides, and its control.

Each is one layer on the pixels, ReLU and a linear head, so that what a first layer drops is the only thing that differs
between them. On one frozen stem two more tasks are learnt from the images alone: which pixels are ink, and its box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import BenchError

STEMS: dict[str, Callable[[int], nn.Module]] = {
    "patch7": lambda channels: nn.Conv2d(channels, 16, 7, 7),
    "patch4": lambda channels: nn.Conv2d(channels, 8, 4, 4),
    "conv5s4": lambda channels: nn.Conv2d(channels, 16, 5, 4),
    "conv3": lambda channels: nn.Conv2d(channels, 16, 3, 1, 1),
}
"""Name -> its first layer of C channels: patches, windows that overlap, and the 3x3 control that drops nothing."""
TASKS = ("classify", "segment", "locate")
INK = 0.5
"""Value above which a pixel is ink: what the tasks beside classification are made of."""


class Small(nn.Module):
    """Images (N, C, H, W) in [0, 1] to (N, n_out): a first layer, ReLU, a linear head."""

    def __init__(self, stem: nn.Module, shape: tuple[int, ...], n_out: int) -> None:
        super().__init__()
        self.stem = stem
        with torch.no_grad():
            n_features = stem(torch.zeros(1, *shape)).numel()
        self.head = nn.Linear(n_features, n_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """What the head takes: (N, D)."""
        return F.relu(self.stem(x)).flatten(1)


def classifier(
    name: str, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], n_classes: int, epochs: int, seed: int
) -> Small:
    """A network with the stem `name`, trained on images (N, C, H, W) and labels (N,). BenchError for another name."""
    if name not in STEMS:
        raise BenchError(f"{name!r} is no stem.", where="params.yaml: collisions", remedy=f"Say {', '.join(STEMS)}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Small(STEMS[name](images.shape[1]), images.shape[1:], n_classes)
    _fit(
        network, network.parameters(), torch.from_numpy(images), torch.from_numpy(labels), F.cross_entropy, epochs, seed
    )
    return network.eval()


def on_stem(stem: nn.Module, task: str, images: npt.NDArray[np.float32], epochs: int, seed: int) -> Small:
    """Another head on a stem that stays as it is, for a task of `TASKS` made of the images (N, C, H, W) themselves."""
    truth = torch.from_numpy(wanted(task, images))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Small(stem, images.shape[1:], truth.shape[1])
    loss = F.binary_cross_entropy_with_logits if task == "segment" else F.mse_loss
    _fit(network, network.head.parameters(), torch.from_numpy(images), truth, loss, epochs, seed)
    return network.eval()


def wanted(task: str, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The truth of a task: of `segment` the ink (N, H W) as 0 and 1, of `locate` its first and last row and column
    (N, 4) in shares of the sides."""
    ink = images.max(axis=1) > INK
    if task == "segment":
        return ink.reshape(len(ink), -1).astype(np.float32)
    sides = [ink.any(axis=2), ink.any(axis=1)]
    edges = [edge for side in sides for edge in (side.argmax(axis=1), side.shape[1] - side[:, ::-1].argmax(axis=1))]
    sizes = np.repeat(ink.shape[1:], 2)
    return (np.stack(edges, axis=1) / sizes).astype(np.float32)


def said(task: str, outputs: npt.NDArray[np.float64], side: int) -> npt.NDArray[np.int64]:
    """The answer (N, ...) that outputs (N, n_out) of a task give: a class, a mask, or edges in pixels of `side`."""
    if task == "classify":
        return outputs.argmax(axis=1)[:, None]
    return (outputs > 0).astype(np.int64) if task == "segment" else np.rint(outputs * side).astype(np.int64)


def overlap(task: str, outputs: npt.NDArray[np.float64], truth: npt.NDArray[np.float32]) -> float:
    """Mean over images of the intersection over the union of masks or boxes with the true ones."""
    if task == "segment":
        a, b = outputs > 0, truth > 0
        shared, either = (a & b).sum(axis=1), (a | b).sum(axis=1)
        return float(np.mean(np.where(either > 0, shared / np.maximum(1, either), 1)))
    shared = np.minimum(outputs[:, 1::2], truth[:, 1::2]) - np.maximum(outputs[:, ::2], truth[:, ::2])
    both = shared.clip(0).prod(axis=1)
    areas = [(one[:, 1::2] - one[:, ::2]).clip(0).prod(axis=1) for one in (outputs, truth)]
    return float(np.mean(both / np.maximum(1e-12, areas[0] + areas[1] - both)))


def _fit(
    network: nn.Module,
    weights: Iterable[nn.Parameter],
    images: Tensor,
    truth: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    epochs: int,
    seed: int,
) -> None:
    """Adam, batches of 128, the rate falling to 0."""
    chosen = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(weights, lr=3e-3)
    steps = epochs * -(-len(images) // 128)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=chosen).split(128):
            adam.zero_grad()
            loss(network(images[batch]), truth[batch]).backward()
            adam.step()
            falling.step()
