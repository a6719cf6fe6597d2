"""DeepFool: to the nearest boundary of a linear model of the network, step after step.

Source: S. Moosavi-Dezfooli, A. Fawzi, P. Frossard, DeepFool (CVPR 2016, arXiv 1511.04599), algorithm 2.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench import compute
from bench.attacks.engine import Found, Images, State, counted, kept, run, wide
from bench.attacks.steps import VANISHED
from bench.config import Compute

PAST = 1e-4
"""What the authors add to the distance to a boundary, so that a step ends past it and not on it."""


def attack(
    network: nn.Module,
    clean: Images,
    labels: npt.NDArray[np.int64],
    settings: Compute,
    *,
    iterations: int = 50,
    overshoot: float = 0.02,
    candidates: int = 10,
) -> Found:
    """Images (N, C, H, W) in [0, 1] near `clean` by the Euclidean norm, each finished when it is answered wrongly, and
    the number of steps. Boundaries are those to the classes of the `candidates` largest clean logits, the label too.

    As algorithm 2 does, the sum of all steps is lengthened by `overshoot` when it is added to the clean image.
    """
    network = compute.placed(network, compute.device_of(settings))

    def advance(state: State) -> Tensor:
        taken = counted(state)
        x = state["images"].requires_grad_()
        logits = network(x)
        order = kept(state, "order", torch.zeros_like(logits, dtype=torch.int64))
        order.copy_(torch.where((taken == 0)[:, None], logits.detach().argsort(dim=1, descending=True), order))
        mine = logits.gather(1, state["labels"][:, None])
        wrong = logits.detach().argmax(dim=1) != state["labels"]

        near = torch.full_like(mine[:, 0], torch.inf)
        step = torch.zeros_like(x)
        for rank in range(min(candidates, logits.shape[1])):
            other = order[:, rank]
            apart = (logits.gather(1, other[:, None]) - mine).squeeze(1)
            more = rank + 1 < min(candidates, logits.shape[1])
            (gradient,) = torch.autograd.grad(apart.sum(), x, retain_graph=more)
            size = gradient.flatten(1).norm(dim=1)
            far = torch.where((other == state["labels"]) | (size <= VANISHED), torch.inf, apart.detach().abs() / size)
            nearer = far < near
            near = torch.where(nearer, far, near)
            along = (far + PAST) / size.clamp_min(VANISHED)
            step = torch.where(wide(nearer), wide(along) * gradient, step)
        total = kept(state, "total", x.detach())
        moving = ~wrong & near.isfinite()
        total += torch.where(wide(moving), step, 0)
        moved = (state["clean"] + (1 + overshoot) * total).clamp(0, 1)
        state["images"] = torch.where(wide(moving), moved, x.detach())
        taken += moving
        return ~moving | (taken >= iterations)

    found = run({"clean": clean, "images": clean, "labels": labels}, settings, advance, ("images", "passes"))
    return Found(found["images"], found["passes"])
