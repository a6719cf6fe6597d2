"""APGD: projected gradient descent with momentum whose step is halved for each image that stops to improve.

Source: F. Croce, M. Hein, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks (ICML 2020, arXiv 2003.01690), algorithm 1 and section 3; its constants.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench import compute
from bench.attacks import norms
from bench.attacks.engine import Found, Images, Loss, State, counted, kept, run, wide
from bench.attacks.projections import l2_ball
from bench.attacks.steps import unit_l2
from bench.config import Compute

RISING = 0.75
"""Share of the steps between two checkpoints that must improve the loss."""
ALONG = 0.75
"""How much of a step is new; the rest is what the last one was."""


def checkpoints(iterations: int) -> npt.NDArray[np.int64]:
    """Of each step (iterations + 1,), how many have passed since the last checkpoint where it is one, else 0."""
    length, shorter, least = (max(int(share * iterations), 1) for share in (0.22, 0.03, 0.06))
    out, since = np.zeros(iterations + 1, np.int64), 0
    for step in range(1, iterations + 1):
        since += 1
        if since == length:
            out[step], since, length = length, 0, max(length - shorter, least)
    return out


def attack(
    network: nn.Module,
    clean: Images,
    labels: npt.NDArray[np.int64],
    settings: Compute,
    *,
    loss: Loss,
    norm: Literal["linf", "l2"],
    eps: float,
    iterations: int,
    start: Images,
) -> Found:
    """Images (N, C, H, W) within `eps` of `clean` in `norm`, and within [0, 1]: one that is answered wrongly where that
    was found, else the one of the largest `loss`; and the number of steps.

    start: (N, C, H, W), as a share of eps (`norms.start_in`). An image that is answered wrongly is finished.
    """
    network = compute.placed(network, compute.device_of(settings))
    limit = eps if norm == "linf" else float(np.sqrt(np.prod(clean.shape[1:])))  # any: the box is that of [0, 1]
    low, high = norms.linf_box(clean, limit)
    arrays = {"clean": clean, "labels": labels, "low": low, "high": high, "images": clean + np.float32(eps) * start}
    whole = torch.from_numpy(checkpoints(iterations)).to(compute.device_of(settings))
    ball = l2_ball(eps)

    def inside(x: Tensor, state: State) -> Tensor:
        x = x if norm == "linf" else ball(x, state)
        return torch.minimum(torch.maximum(x, state["low"]), state["high"])

    def advance(state: State) -> Tensor:
        taken = counted(state)
        fresh = taken == 0
        x = torch.where(wide(fresh), inside(state["images"], state), state["images"]).requires_grad_()
        logits = network(x)
        values = loss(logits, state["labels"])
        (gradient,) = torch.autograd.grad(values.sum(), x)
        x, logits, values = x.detach(), logits.detach(), values.detach()
        wrong = logits.argmax(dim=1) != state["labels"]

        best, best_x, best_gradient = kept(state, "best", values), kept(state, "best_x", x), kept(state, "gradient", x)
        before, last, size = kept(state, "before", values), kept(state, "last", x), kept(state, "size", values)
        rises, at_check, halved = (
            kept(state, "rises", values),
            kept(state, "at_check", values),
            kept(state, "halved", values),
        )
        found = kept(state, "found", wrong)
        size[fresh], at_check[fresh], halved[fresh] = 2 * eps, values[fresh], 1.0
        last.copy_(torch.where(wide(fresh), x, last))

        # The answer: the first wrong one, else the best of all.
        better = fresh | (values > best)
        new = ~found & (wrong | better)
        kept(state, "answer", x).copy_(torch.where(wide(new), x, state.get("answer", x)))
        found |= wrong
        rises += ~fresh & (values > before)
        before.copy_(values)
        best.copy_(torch.where(better, values, best))
        best_x.copy_(torch.where(wide(better), x, best_x))
        best_gradient.copy_(torch.where(wide(better), gradient, best_gradient))

        since = whole[taken.clamp_max(iterations)]
        check = since > 0
        stuck = rises <= RISING * since
        idle = (halved == 0) & (at_check >= best)
        reduce = check & (stuck | idle)
        halved.copy_(torch.where(check, reduce.to(values), halved))
        at_check.copy_(torch.where(check, best, at_check))
        rises.copy_(torch.where(check, 0, rises))
        size.copy_(torch.where(reduce, size / 2, size))
        x = torch.where(wide(reduce), best_x, x)
        gradient = torch.where(wide(reduce), best_gradient, gradient)

        direction = gradient.sign() if norm == "linf" else unit_l2(gradient)
        tried = inside(x + wide(size) * direction, state)
        along = torch.where(fresh, 1.0, ALONG)
        moved = inside(x + wide(along) * (tried - x) + wide(1 - along) * (x - last), state)
        last.copy_(x)
        state["images"] = moved
        taken += 1
        return found | (taken > iterations)

    found = run(arrays, settings, advance, ("answer", "passes"))
    return Found(found["answer"], found["passes"] - 1)
