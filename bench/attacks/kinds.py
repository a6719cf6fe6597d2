"""The kinds of attacks that params.yaml can name: each makes images within eps of the clean ones, in its norm. torch.

All start from what is seeded by sample ids, so that an image's result depends on nothing but the network and itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from torch import Tensor, nn

from bench.attacks import apgd, engine, losses, norms, projections, square, steps
from bench.attacks.engine import Found, Images, Loss
from bench.config import Attack, Config
from bench.data.samples import Samples

Norm = Literal["linf", "l2"]
Make = Callable[[nn.Module, Samples, Images, float, Attack, Config], Found]


@dataclass(frozen=True)
class Kind:
    """make: network, images, starts (N, C, H, W) in [-1, 1], eps, settings -> images. norm: in which eps is meant, in
    units of [0, 1] over all channels. gradient: whether it follows one."""

    norm: Norm
    make: Make
    gradient: bool = True

    def farthest(self, data: Samples) -> float:
        """The eps within which any image may become any other."""
        return 1.0 if self.norm == "linf" else float(np.sqrt(np.prod(data.images.shape[1:])))


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
    answers wrongly."""
    low, high = norms.linf_box(data.images, eps if norm == "linf" else 1.0)
    size = eps if once else attack.relative_step * eps
    step = steps.sign(size) if norm == "linf" else steps.l2(size)
    begin = data.images + np.float32(eps) * norms.start_in(norm, start) if random else data.images
    return engine.iterate(
        network,
        data.images,
        data.labels,
        config.compute,
        loss=losses.cross_entropy,
        step=steps.momentum(decay, step) if decay else step,
        iterations=1 if once else attack.steps,
        low=low,
        high=high,
        start=begin,
        stop=_wrong if attack.stop == "success" else None,
        project=projections.l2_ball(eps) if norm == "l2" else None,
    )


def _wrong(images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    return logits.argmax(dim=1) != labels


def _apgd(
    network: nn.Module, data: Samples, start: Images, eps: float, attack: Attack, config: Config, *, loss: Loss
) -> Found:
    how = {"loss": loss, "norm": "linf", "eps": eps, "iterations": attack.steps, "start": start}
    return apgd.attack(network, data.images, data.labels, config.compute, **how)  # pyright: ignore[reportArgumentType]


def _square(network: nn.Module, data: Samples, start: Images, eps: float, attack: Attack, config: Config) -> Found:
    shape = data.images.shape
    drawn = square.draws(config.seed, map(str, data.ids), attack.steps, (shape[1], shape[2], shape[3]))
    return square.attack(network, data.images, data.labels, config.compute, eps=eps, queries=attack.steps, drawn=drawn)


KINDS: dict[str, Kind] = {
    "fgsm": Kind("linf", partial(_pgd, random=False, once=True)),
    "pgd-linf": Kind("linf", _pgd),
    "pgd-l2": Kind("l2", partial(_pgd, norm="l2")),
    "mi-fgsm": Kind("linf", partial(_pgd, random=False, decay=1.0)),
    "apgd-ce": Kind("linf", partial(_apgd, loss=losses.cross_entropy)),
    "apgd-dlr": Kind("linf", partial(_apgd, loss=losses.dlr)),
    "square": Kind("linf", _square, gradient=False),
}
"""Kind of params.yaml -> how it is made. `steps` are queries of `square`; `relative_step` is of PGD and MI-FGSM."""
