"""The kinds of attacks that params.yaml can name: each makes images within eps of the clean ones, in its norm. torch.

All start from what is seeded by sample ids, so that an image's result depends on nothing but the network and itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from torch import nn

from bench.attacks import (
    apgd,
    carlini_wagner,
    deepfool,
    engine,
    lbfgs,
    losses,
    norms,
    prepare,
    projections,
    square,
    steps,
)
from bench.attacks.engine import Found, Images, Loss
from bench.config import Attack, Config
from bench.data.samples import Samples

Norm = Literal["linf", "l2", "l0"]
ROUNDS = 5
"""Weights that a minimal attack tries on each image."""
FIRST = 0.1
"""Where these begin for `cw-l2`."""
Make = Callable[[nn.Module, Samples, Images, float, Attack, Config], Found]


@dataclass(frozen=True)
class Kind:
    """make: network, images, starts (N, C, H, W) in [-1, 1], eps, settings -> images. norm: in which eps is meant, in
    units of [0, 1] over all channels; of `l0`, which share of the positions may change. gradient: whether it follows
    one. targeted: whether it can lead to a class, and is then given images whose labels are these (`Attack.target`).
    minimal: it knows no eps and looks for the nearest image that is answered as wished; images that are further away
    than eps stay as they were. classes: how many it needs."""

    norm: Norm
    make: Make
    gradient: bool = True
    targeted: bool = False
    minimal: bool = False
    classes: int = 2

    def farthest(self, data: Samples) -> float:
        """The eps within which any image may become any other."""
        return float(np.sqrt(np.prod(data.images.shape[1:]))) if self.norm == "l2" else 1.0


def _pgd(
    network: nn.Module,
    data: Samples,
    start: Images,
    eps: float,
    attack: Attack,
    config: Config,
    *,
    norm: Norm = "linf",
    random: bool = True,
    decay: float = 0.0,
    once: bool = False,
) -> Found:
    """Projected gradient descent on the cross-entropy (Madry et al. 2018, arXiv 1706.06083): from clean + eps * start,
    `steps` steps of `relative_step` * eps; the last image is taken, or with `stop: success` the first that the network
    answers wrongly (`prepare.wrong_on`). In `l0` from the clean image, each step along the gradient as long as
    `relative_step` of what the positions that may change could change by (after PGD_0, Croce & Hein 2019,
    arXiv 1909.05040, which normalises the gradient by its L1 norm)."""
    low, high = norms.linf_box(data.images, eps if norm == "linf" else 1.0)
    whole = float(np.sqrt(eps * np.prod(data.images.shape[1:]))) if norm == "l0" else eps
    size = eps if once else attack.relative_step * whole
    step = steps.sign(size) if norm == "linf" else steps.l2(size)
    begin = data.images + np.float32(eps) * norms.start_in(norm, start) if random else data.images
    return engine.iterate(
        network,
        data.images,
        data.labels,
        config.compute,
        loss=losses.to_cross_entropy if attack.target else losses.cross_entropy,
        step=steps.momentum(decay, step) if decay else step,
        iterations=1 if once else attack.steps,
        low=low,
        high=high,
        start=begin,
        stop=prepare.wrong_on(network) if attack.stop == "success" else None,
        project=BALLS[norm](eps) if norm in BALLS else None,
    )


BALLS = {"l2": projections.l2_ball, "l0": projections.l0_limited}
"""What holds images within eps where the box of the loop does not."""


def _apgd(
    network: nn.Module, data: Samples, start: Images, eps: float, attack: Attack, config: Config, *, loss: Loss
) -> Found:
    how = {"loss": loss, "norm": "linf", "eps": eps, "iterations": attack.steps, "start": start}
    return apgd.attack(network, data.images, data.labels, config.compute, **how)  # pyright: ignore[reportArgumentType]


def _square(network: nn.Module, data: Samples, start: Images, eps: float, attack: Attack, config: Config) -> Found:
    shape = data.images.shape
    drawn = square.draws(config.seed, map(str, data.ids), attack.steps, (shape[1], shape[2], shape[3]))
    return square.attack(network, data.images, data.labels, config.compute, eps=eps, queries=attack.steps, drawn=drawn)


def _deepfool(network: nn.Module, data: Samples, start: Images, eps: float, attack: Attack, config: Config) -> Found:
    return deepfool.attack(network, data.images, data.labels, config.compute, iterations=attack.steps)


def _carlini_wagner(
    network: nn.Module, data: Samples, start: Images, eps: float, attack: Attack, config: Config
) -> Found:
    return carlini_wagner.attack(
        network,
        data.images,
        data.labels,
        config.compute,
        targeted=attack.target is not None,
        rounds=ROUNDS,
        iterations=attack.steps,
        first=FIRST,
    )


def _lbfgs(network: nn.Module, data: Samples, start: Images, eps: float, attack: Attack, config: Config) -> Found:
    how = {"rounds": ROUNDS, "iterations": attack.steps}
    return lbfgs.attack(network, data.images, data.labels, config.compute, **how)


KINDS: dict[str, Kind] = {
    "fgsm": Kind("linf", partial(_pgd, random=False, once=True), targeted=True),
    "pgd-linf": Kind("linf", _pgd, targeted=True),
    "pgd-l2": Kind("l2", partial(_pgd, norm="l2"), targeted=True),
    "pgd-l0": Kind("l0", partial(_pgd, norm="l0", random=False), targeted=True),
    "mi-fgsm": Kind("linf", partial(_pgd, random=False, decay=1.0), targeted=True),
    "apgd-ce": Kind("linf", partial(_apgd, loss=losses.cross_entropy)),
    "apgd-dlr": Kind("linf", partial(_apgd, loss=losses.dlr), classes=3),
    "square": Kind("linf", _square, gradient=False),
    "deepfool": Kind("l2", _deepfool, minimal=True),
    "cw-l2": Kind("l2", _carlini_wagner, targeted=True, minimal=True),
    "lbfgs": Kind("l2", _lbfgs, targeted=True, minimal=True),
}
"""Kind of params.yaml -> how it is made. `steps` are queries of `square`, and of `cw-l2` and `lbfgs` those of each of
`ROUNDS` weights; `relative_step` is of PGD and MI-FGSM. `lbfgs` always leads to a class."""
