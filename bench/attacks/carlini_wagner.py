"""The L2 attack of Carlini and Wagner: the smallest change that is answered wrongly, by a search over its weight.

Source: N. Carlini, D. Wagner, Towards evaluating the robustness of neural networks (2017, arXiv 1608.04644), section
VI.A with f_6. Two things that go wrong elsewhere do not here: the best other logit is masked by -inf, not by 0, and
pixels of exactly 0 or 1 can move, as tanh has a slope at their place.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench import compute
from bench.attacks.engine import Found, Images, State, counted, kept, run, wide
from bench.attacks.losses import margin
from bench.config import Compute

INSIDE = 0.99
"""What [-1, 1] is shrunk by before arctanh: nearer to 1, tanh has no slope at pixels of 0 or 1, which cannot move."""
UNBOUNDED = 1e10
REACH, NEAR, HIGHEST, LAST = 4.0, 7.0, 0.5, 0.1
"""Adam's rate at the start of a round, times the square root of the number of values, so that a step is as long
whatever the size of an image: REACH, or NEAR times the length of the change that an earlier round found; HIGHEST at
most. And the share of it that is left at the end of the round."""
BETA = (0.9, 0.999)
EPSILON = 1e-8


def attack(
    network: nn.Module,
    clean: Images,
    labels: npt.NDArray[np.int64],
    settings: Compute,
    *,
    targeted: bool = False,
    rounds: int = 9,
    iterations: int = 100,
    lr: float | None = None,
    first: float = 1e-3,
    confidence: float = 0.0,
) -> Found:
    """Images (N, C, H, W) in [0, 1]: of those that are answered wrongly (`targeted`: as `labels`) by at least
    `confidence`, the one nearest to `clean`; `clean` itself where none was found. And the number of passes.

    `rounds` of the binary search over the weight of the margin, from `first`; in each `iterations` steps of Adam at the
    rate `lr`. Without one, at a rate that goes by what was found and falls evenly by its logarithm (REACH): at one rate
    for all, changes stayed three times as large on a published ResNet-20, or digits were not fooled at all. (To end a
    round where the loss no longer falls saves an eighth of the passes and finds 1 % larger changes.)
    """
    network = compute.placed(network, compute.device_of(settings))
    n_values = int(np.prod(clean.shape[1:]))

    def advance(state: State) -> Tensor:
        taken, x0 = counted(state), state["clean"]
        fresh = taken == 0
        like = torch.zeros_like(x0[:, 0, 0, 0])
        origin = torch.atanh((2 * x0 - 1) * INSIDE)
        w, m, v = kept(state, "w", x0), kept(state, "m", x0), kept(state, "v", x0)
        t, round_ = kept(state, "t", like), kept(state, "round", like)
        weight, low, high = kept(state, "weight", like), kept(state, "low", like), kept(state, "high", like)
        best, hit = kept(state, "best", like), kept(state, "hit", like)
        w.copy_(torch.where(wide(fresh), origin, w))
        state["answer"] = torch.where(wide(fresh), x0, kept(state, "answer", x0))
        weight[fresh], high[fresh], best[fresh] = first, UNBOUNDED, torch.inf

        place = w.detach().clone().requires_grad_()
        x = _box(place)
        logits = network(x)
        apart = margin(logits, state["labels"])
        apart = -apart if targeted else apart
        size = ((x - _box(origin)) ** 2).flatten(1).sum(dim=1)
        losses = size + weight * (confidence - apart).clamp_min(0)
        (gradient,) = torch.autograd.grad(losses.sum(), place)
        x, apart = x.detach(), apart.detach()

        wrong = (apart > 0) & (apart >= confidence)
        distance = ((x - x0) ** 2).flatten(1).sum(dim=1)
        nearer = wrong & (distance < best)
        best.copy_(torch.where(nearer, distance, best))
        state["answer"] = torch.where(wide(nearer), x, state["answer"])
        hit.copy_(torch.maximum(hit, wrong.to(hit)))

        t += 1
        m.mul_(BETA[0]).add_((1 - BETA[0]) * gradient)
        v.mul_(BETA[1]).add_((1 - BETA[1]) * gradient**2)
        unbiased = m / wide(1 - BETA[0] ** t), v / wide(1 - BETA[1] ** t)
        rate = torch.full_like(best, lr) if lr is not None else _rate(best, round_, t / iterations, n_values)
        w -= wide(rate) * unbiased[0] / (unbiased[1].sqrt() + EPSILON)

        over = t >= iterations
        won = over & (hit > 0)
        high.copy_(torch.where(won, torch.minimum(high, weight), high))
        low.copy_(torch.where(over & (hit == 0), torch.maximum(low, weight), low))
        weight.copy_(torch.where(over, torch.where(high < UNBOUNDED, (low + high) / 2, weight * 10), weight))
        round_ += over
        for held in (t, hit):
            held[over] = 0
        for held in (m, v):
            held.copy_(torch.where(wide(over), 0, held))
        w.copy_(torch.where(wide(over), origin, w))
        taken += 1
        return round_ >= rounds

    found = run({"clean": clean, "labels": labels}, settings, advance, ("answer", "passes"))
    return Found(found["answer"], found["passes"])


def _box(w: Tensor) -> Tensor:
    """Pixels in [0, 1] of places under tanh; the gradient is that before they are cut off."""
    pixels = (torch.tanh(w) / INSIDE + 1) / 2
    return pixels + (pixels.clamp(0, 1) - pixels).detach()


def _rate(best: Tensor, rounds: Tensor, share: Tensor, n_values: int) -> Tensor:
    """Adam's rate, from the squared length of the nearest change so far (inf: none) and the share of the round that is
    over, all (B,)."""
    known = (rounds > 0) & best.isfinite()
    reach = torch.where(known, NEAR * torch.where(known, best, 0).sqrt(), REACH)
    return (reach / n_values**0.5).clamp(max=HIGHEST) * LAST**share
