"""ASMA, the adaptive segmentation mask attack: a perturbation that makes a network draw a mask of one's choice. torch.

Source: Ozbulak et al., "Impact of Adversarial Examples on Deep Learning Models for Biomedical Image Segmentation"
(MICCAI 2019), by the authors' code. With logits z (M, H, W), the target mask Y, X_0 the clean image:

    loss_n     = sum of z_Y(p) over the pixels p that are not answered as Y(p) yet  -  ||X_n - X_0||^2
    X'         = X_n + lambda_n * gradient of loss_n by X_n
    lambda_0   = tau,   lambda_n+1 = beta * IoU(answer to X', Y) + tau
    X_n+1      = X' cut off at 0 and 1

Both the mask of pixels and the multiplier lambda are an image's own, so that a batch gives what single images do. The
authors measure X' before it is cut off; here both are recorded, X' and X_n+1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import compute
from bench.attacks import engine, projections, steps
from bench.attacks.engine import Images, State, kept, wide
from bench.config import Compute

Masks = npt.NDArray[np.int64]
MEASURES = ("iou", "pixel_accuracy", "l2", "linf")
RAW, CUT = "raw", "cut"
"""Before an image is cut off at 0 and 1, and after."""


@dataclass(frozen=True)
class Rule:
    """How one step is made. `loss`: what is climbed; `adaptive_mask`: only pixels that are not right yet count;
    `adaptive_multiplier`: beta is not 0. The step of `pgd` is the gradient scaled to a length of `step`, (N,), and the
    image stays within a Euclidean ball of radius `ball`, (N,)."""

    loss: Callable[[Tensor, Tensor], Tensor]
    adaptive_mask: bool = False
    adaptive_multiplier: bool = False
    pgd: bool = False


def target_logit(logits: Tensor, target: Tensor) -> Tensor:
    """Logits (N, M, H, W) of the wanted classes (N, H, W): (N, H, W)."""
    return logits.gather(1, target[:, None]).squeeze(1)


def target_log_probability(logits: Tensor, target: Tensor) -> Tensor:
    """log of the probability of the wanted class of each pixel, (N, H, W)."""
    return -F.cross_entropy(logits, target, reduction="none")


def target_margin(logits: Tensor, target: Tensor) -> Tensor:
    """The wanted logit of each pixel minus the largest other one, (N, H, W)."""
    mine = F.one_hot(target, logits.shape[1]).movedim(-1, 1).bool()
    return target_logit(logits, target) - logits.masked_fill(mine, -torch.inf).amax(dim=1)


RULES = {
    "asma": Rule(target_logit, adaptive_mask=True, adaptive_multiplier=True),
    "static-mask": Rule(target_logit, adaptive_multiplier=True),
    "static-multiplier": Rule(target_logit, adaptive_mask=True),
    "static-both": Rule(target_logit),
    "ce-pgd": Rule(target_log_probability, pgd=True),
    "logit-pgd": Rule(target_margin, pgd=True),
}
"""ASMA, what is left of it without its parts, and two attacks that follow the gradient in steps of one length."""


@dataclass(frozen=True)
class Course:
    """What became of images: the last ones (N, C, H, W), float32 in [0, 1]; `at`: the iterations that were recorded,
    (T,); `measures`: `raw` or `cut` -> (N, T, 4) in the order of MEASURES; `multiplier`: (N, T), that of the step that
    led there; `first`: (N,) the first iteration whose cut image has an IoU of at least `reached`, -1 where none;
    `first_l2`: (N,); `frames` (N, T, C, H, W) and `answers` (N, T, H, W) of the images asked for."""

    images: Images
    at: npt.NDArray[np.int64]
    measures: dict[str, npt.NDArray[np.float64]]
    multiplier: npt.NDArray[np.float64]
    first: npt.NDArray[np.int64]
    first_l2: npt.NDArray[np.float64]
    frames: Images
    answers: npt.NDArray[np.uint8]


def iou(answer: Tensor, target: Tensor) -> Tensor:
    """Intersection over union of the foreground of masks (N, H, W), class 0 being the background: (N,) float32.

    With two classes that of the authors: sum(a * b) / sum(min(a + b, 1)). With more, this benchmark's own: pixels of
    one class other than 0 in both, over pixels of such a class in either. 1 where both are empty.
    """
    both = ((answer == target) & (target > 0)).flatten(1).sum(dim=1)
    either = ((answer > 0) | (target > 0)).flatten(1).sum(dim=1)
    return torch.where(either > 0, both / either.clamp_min(1), 1.0)


def measured(answer: Tensor, target: Tensor, change: Tensor) -> Tensor:
    """IoU, pixel accuracy, L2 and Linf of answers (N, H, W) to images that differ by `change` (N, C, H, W): (N, 4)."""
    right = (answer == target).flatten(1).double().mean(dim=1)
    flat = change.flatten(1).double()
    return torch.stack([iou(answer, target).double(), right, flat.norm(dim=1), flat.abs().amax(dim=1)], dim=1)


def climbed(rule: Rule, logits: Tensor, answer: Tensor, target: Tensor) -> Tensor:
    """The sum over pixels that a rule climbs, (N,); `answer` (N, H, W) is no part of what is derived."""
    values = rule.loss(logits, target)
    if rule.adaptive_mask:
        values = values * (answer != target)
    return values.flatten(1).sum(dim=1)


def first_norms(network: nn.Module, images: Images, targets: Masks, settings: Compute) -> npt.NDArray[np.float32]:
    """Euclidean norms (N,) of ASMA's first gradient, by which tau is chosen."""
    network = compute.placed(network, compute.device_of(settings))

    def advance(state: State) -> Tensor:
        x = state["images"].requires_grad_()
        logits = network(x)
        total = climbed(RULES["asma"], logits, logits.detach().argmax(dim=1), state["targets"]).sum()
        (gradient,) = torch.autograd.grad(total, x)
        state["images"] = x.detach()
        state["norm"] = gradient.flatten(1).norm(dim=1)
        return torch.ones(len(x), dtype=torch.bool, device=x.device)

    return engine.run({"images": images, "targets": targets}, settings, advance, ["norm"])["norm"]


def attack(
    network: nn.Module,
    clean: Images,
    targets: Masks,
    rule: Rule,
    settings: Compute,
    *,
    iterations: int,
    every: int,
    tau: npt.NDArray[np.float32],
    beta: float = 10.0,
    ball: npt.NDArray[np.float32] | None = None,
    reached: float = 0.9,
    shown: int = 0,
) -> Course:
    """Attack images (N, C, H, W) in [0, 1] for `iterations` steps, so that the network draws `targets` (N, H, W).

    tau: (N,), of a `pgd` rule the length of a step; beta: in units of tau, so 0 where a rule's multiplier is static.
    ball: (N,), the radius that a `pgd` rule stays in. Each `every`-th iteration and the last one is recorded, and the
    pixels of the first `shown` images there.
    """
    device = compute.device_of(settings)
    network = compute.placed(network, device)
    n = len(clean)
    at = np.unique(np.append(np.arange(0, iterations + 1, every), iterations))
    slot = {int(iteration): number for number, iteration in enumerate(at)}
    measures = {kind: np.zeros((n, len(at), len(MEASURES))) for kind in (RAW, CUT)}
    multipliers = np.zeros((n, len(at)))
    frames = np.zeros((min(shown, n), len(at), *clean.shape[1:]), np.float32)
    answers = np.zeros((len(frames), len(at), *targets.shape[1:]), np.uint8)
    growth = beta if rule.adaptive_multiplier else 0.0

    def record(kind: str, state: State, taken: Tensor, answer: Tensor, x: Tensor) -> Tensor:
        """Measures (B, 4) of the batch; those of an iteration that counts are kept."""
        values = measured(answer, state["targets"], x - state["clean"])
        for place in torch.nonzero(state["real"]).flatten().tolist():
            number = slot.get(int(taken[place]))
            if number is None:
                continue
            row = int(state["rows"][place])
            measures[kind][row, number] = values[place].cpu().numpy()
            multipliers[row, number] = float(state["used"][place])
            if kind == CUT and row < len(frames):
                frames[row, number], answers[row, number] = x[place].cpu().numpy(), answer[place].cpu().numpy()
        return values

    def advance(state: State) -> Tensor:
        taken, x = kept(state, "passes", state["rows"]), state["images"].requires_grad_()
        kept(state, "used", state["tau"])
        logits = network(x)
        answer = logits.detach().argmax(dim=1)
        total = climbed(rule, logits, answer, state["targets"]).sum()
        if not rule.pgd:
            total = total - ((x - state["clean"]) ** 2).sum()
        (gradient,) = torch.autograd.grad(total, x)
        x = x.detach()
        now = record(CUT, state, taken, answer, x)
        arrived = (state["first"] < 0) & (now[:, 0] >= reached)
        state["first"] = torch.where(arrived, taken, state["first"])
        state["first_l2"] = torch.where(arrived, now[:, 2].float(), state["first_l2"])
        over = taken >= iterations
        state["real"] = torch.where(over, 0, state["real"])  # it may stay in the batch, where no other one waits
        if bool((over | (state["real"] == 0)).all()):
            state["images"] = x
            return over
        used = wide(state["multiplier"])
        moved = x + used * (steps.unit_l2(gradient) if rule.pgd else gradient)
        if rule.pgd:
            moved = projections.within(moved, state["clean"], wide(state["ball"]))
        state["used"] = torch.where(over, state["used"], state["multiplier"])
        taken += ~over
        with torch.no_grad():
            drawn = network(moved).argmax(dim=1)
        then = record(RAW, state, taken, drawn, moved)
        state["multiplier"] = growth * state["tau"] * then[:, 0].float() + state["tau"]
        state["images"] = torch.where(wide(over), x, moved.clamp(0, 1))
        return over

    arrays = {
        "clean": clean,
        "images": clean,
        "targets": targets,
        "tau": tau,
        "multiplier": tau,
        "ball": np.full(n, np.inf, np.float32) if ball is None else ball,
        "rows": np.arange(n),
        "real": np.ones(n, np.int64),
        "first": np.full(n, -1),
        "first_l2": np.zeros(n, np.float32),
    }
    found = engine.run(arrays, settings, advance, ("images", "first", "first_l2"))
    measures[RAW][:, 0] = measures[CUT][:, 0]
    distance = found["first_l2"].astype(np.float64)
    return Course(found["images"], at, measures, multipliers, found["first"], distance, frames, answers)
