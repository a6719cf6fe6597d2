"""Study 9: which objective moves an image to a target class with the fewest steps, and with the smallest change?

After "Perturbation analysis of gradient-based adversarial attacks" (Pattern Recognition Letters 2020, arXiv
2006.01456), of which the abstract alone was at hand: the definitions are this benchmark's own. Every image that a
network gets right is moved to a class drawn by its id, within [0, 1] and else without a limit, until that is answered:

| objective | climbs | step |
|---|---|---|
| ce | log of the probability of the target (L-BFGS's loss) | along the gradient |
| sign | the same | along the sign of the gradient (IFGS) |
| logit | logit of the target minus the largest other one (C&W's loss) | along the gradient |

`equal`: every step has the same length before it is cut off at 0 and 1, so that a comparison of objectives is none of
step sizes. `raw`: the length times the gradient itself, so that steps are as long as the gradient (not of `sign`, which
has no length of its own).

A sign step of length d goes as far along the gradient g as a step of d times eta = |g|_1 / (sqrt(m) |g|_2) would, m
the number of values of g that are not 0: so at equal length, and without the edges of [0, 1], it should need 1 / eta
times as many steps. Where one class has nearly all the probability, the gradient of `ce` is that of `logit` between it
and the target, and their cosine is 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from bench import compute, progress, stats
from bench.attacks import aims, engine, losses, norms, steps
from bench.attacks.engine import Images, Loss, State, Step, counted
from bench.config import Compute, Config, Objectives, Statistics
from bench.data import cache
from bench.store import tables

LOSSES: dict[str, Loss] = {
    "ce": losses.to_cross_entropy,
    "sign": losses.to_cross_entropy,
    "logit": losses.to_margin,
}
LENGTHS = {"ce": steps.l2, "sign": steps.sign_l2, "logit": steps.l2}
UNKNOWN = ("iterations", "l2", "linf", "predicted", "over_ce", "ce_low", "ce_high")
UNKNOWN += ("over_logit", "logit_low", "logit_high")
"""What is not known of an objective where no image was moved by all of its variant."""
VARIANTS = {"equal": ("ce", "sign", "logit"), "raw": ("ce", "logit")}
"""How long steps are -> the objectives for which that is tried."""


@dataclass
class Curve:
    """By the number of steps taken: sums over the images that are still moving, and how many these are."""

    p_target: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    gradient_norm: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    n: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, taken: Tensor, p: Tensor, norm: Tensor) -> None:
        """Values (M,) of images that have taken (M,) steps."""
        for step, a, b in zip(taken.tolist(), p.tolist(), norm.tolist(), strict=True):
            self.p_target[step] += a
            self.gradient_norm[step] += b
            self.n[step] += 1

    def rows(self) -> pd.DataFrame:
        """iteration, p_target and gradient_norm as means, n."""
        at = sorted(self.n)
        mean = {
            name: [getattr(self, name)[step] / self.n[step] for step in at] for name in ("p_target", "gradient_norm")
        }
        return pd.DataFrame({"iteration": at, **mean, "n": [self.n[step] for step in at]})


@dataclass(frozen=True)
class Moved:
    """images (N, C, H, W) after the last step; iterations (N,); reached (N,): whether the target is answered."""

    images: Images
    iterations: npt.NDArray[np.int64]
    reached: npt.NDArray[np.bool_]
    curve: Curve


def run(config: Config) -> dict[str, int]:
    """Write results/{objectives,objective_gradients,objective_curves,objective_summary}.parquet."""
    from bench.models import zoo

    compute.prepare(config.compute, config.seed)
    found, gradients, curves, summary = [], [], [], []
    for settings in config.objectives.runs.values():
        every = cache.load(config, settings.dataset)
        data = every.rows(compute.declared(every.ids, settings.n_images))
        for model in progress.bar(settings.models, f"objectives {settings.dataset}"):
            network = zoo.load(config, model)
            logits = compute.forward(network, data.images, config.compute)
            mine = data.rows(np.flatnonzero(logits.argmax(axis=1) == data.labels))
            if not len(mine.ids):
                continue
            targets = aims.drawn(config.seed, mine, logits.shape[1])
            shared = {"model": model, "dataset": settings.dataset}
            about = {"sample_id": mine.ids, "target": targets}
            known = first_gradients(network, mine.images, targets, config.compute)
            gradients.append(pd.DataFrame({**shared, **about, **known}))
            rows = []
            for variant, objective, length in tried(settings):
                moved = move(
                    network,
                    mine.images,
                    targets,
                    config.compute,
                    LOSSES[objective],
                    _step(variant, objective, length),
                    settings.iterations,
                )
                case = {**shared, "objective": objective, "variant": variant, "step_l2": length}
                size = norms.sizes(moved.images, mine.images)
                values = {"iterations": moved.iterations, "reached": moved.reached, "l2": size.l2, "linf": size.linf}
                rows.append(pd.DataFrame({**case, **about, **values}))
                curves.append(moved.curve.rows().assign(**case))
            found += rows
            summary.append(summed(pd.concat(rows), gradients[-1], config.statistics, config.seed))
    written = {
        "objectives": found,
        "objective_gradients": gradients,
        "objective_curves": curves,
        "objective_summary": summary,
    }
    return {
        name: len(tables.write(name, tables.stacked(name, frames), config.results / f"{name}.parquet"))
        for name, frames in written.items()
    }


def summed(rows: pd.DataFrame, gradients: pd.DataFrame, settings: Statistics, seed: int) -> pd.DataFrame:
    """Rows of table `objective_summary` of one model: steps and sizes of each objective over the images that all of its
    variant moved to their targets, and its steps over those of `ce` and `logit` on these, with bootstraps over images.

    Nothing but the share that arrived is known where no image was moved by all of them.
    """
    out = []
    efficiency = gradients.set_index("sample_id")["sign_efficiency"]
    for (variant, length), mine in rows.groupby(["variant", "step_l2"]):  # pyright: ignore[reportGeneralTypeIssues]
        taken = mine.pivot(index="sample_id", columns="objective", values="iterations").astype(float)
        arrived = mine.pivot(index="sample_id", columns="objective", values="reached").astype(bool).all(axis=1)
        taken = taken.loc[arrived]
        for objective, ours in mine.groupby("objective"):
            row: dict[str, object] = {"variant": variant, "step_l2": length, "objective": objective}
            row |= dict.fromkeys(UNKNOWN, np.nan)
            row |= {"reached": ours["reached"].mean(), "n": len(ours), "n_common": len(taken)}
            if len(taken):
                common = ours.loc[ours["sample_id"].isin(taken.index.tolist())]
                row |= {"iterations": common["iterations"].median()}
                row |= {"l2": common["l2"].mean(), "linf": common["linf"].mean()}
                for other in ("ce", "logit"):
                    rng = compute.rng(seed, "objectives", ours["model"].iloc[0], variant, length, objective, other)
                    over, under = taken[objective].to_numpy(), taken[other].to_numpy()
                    ends = stats.bootstrap_ratio(
                        over, under, rng, draws=settings.bootstrap, confidence=settings.confidence
                    )
                    ends = over.sum() / under.sum(), *ends
                    row |= dict(zip((f"over_{other}", f"{other}_low", f"{other}_high"), ends, strict=True))
                if (variant, objective) == ("equal", "sign"):
                    weights = taken["ce"].to_numpy()
                    row["predicted"] = float((weights / efficiency.loc[taken.index].to_numpy()).sum() / weights.sum())
            out.append(row)
    return pd.DataFrame(out).assign(model=rows["model"].iloc[0], dataset=rows["dataset"].iloc[0])


def tried(settings: Objectives) -> list[tuple[str, str, float]]:
    """Every variant, objective and length of a step."""
    return [
        (variant, objective, length)
        for variant, objectives in VARIANTS.items()
        for length in settings.step_l2
        for objective in objectives
    ]


def _step(variant: str, objective: str, length: float) -> Step:
    return LENGTHS[objective](length) if variant == "equal" else steps.raw(length)


def move(
    network: nn.Module,
    clean: Images,
    targets: npt.NDArray[np.int64],
    settings: Compute,
    loss: Loss,
    step: Step,
    iterations: int,
) -> Moved:
    """Climb `loss` from `clean` (N, C, H, W) within [0, 1] until `targets` (N,) are answered, or `iterations` times.

    The answer is asked after every step, the last one too, of the image as it is then, cut off at 0 and 1.
    """
    network = compute.placed(network, compute.device_of(settings))
    curve = Curve()

    def advance(state: State) -> Tensor:
        taken, x = counted(state), state["images"].requires_grad_()
        logits = network(x)
        values = loss(logits, state["labels"])
        (gradient,) = torch.autograd.grad(values.sum(), x)
        x, logits = x.detach(), logits.detach()
        reached = logits.argmax(dim=1) == state["labels"]
        real = state["real"] > 0
        p = logits.double().softmax(dim=1).gather(1, state["labels"][:, None]).squeeze(1)
        curve.add(taken[real], p[real], gradient.flatten(1).norm(dim=1)[real])
        over = reached | (taken >= iterations)
        state["real"] = torch.where(over, 0, state["real"])  # it may stay in the batch, where no other one waits
        moved = (x + step(gradient, state)).clamp(0, 1)
        state["images"] = torch.where(over[:, None, None, None], x, moved)
        state["reached"] = reached
        taken += ~over
        return over

    arrays = {"images": clean, "labels": targets, "real": np.ones(len(clean), np.int64)}
    found = engine.run(arrays, settings, advance, ("images", "passes", "reached"))
    return Moved(found["images"], found["passes"], found["reached"], curve)


def first_gradients(
    network: nn.Module, clean: Images, targets: npt.NDArray[np.int64], settings: Compute
) -> Mapping[str, npt.NDArray[np.float64]]:
    """Of the gradients of both losses at the clean images (N, C, H, W): `norm_ce`, `norm_logit`, their `cosine`, and
    the `sign_efficiency` of `ce`, (N,) each; 0 where a gradient has vanished."""
    network = compute.placed(network, compute.device_of(settings))

    def advance(state: State) -> Tensor:
        x = state["images"].requires_grad_()
        logits = network(x)
        ce, logit = (
            torch.autograd.grad(loss(logits, state["labels"]).sum(), x, retain_graph=True)[0].flatten(1).double()
            for loss in (losses.to_cross_entropy, losses.to_margin)
        )
        state["images"] = x.detach()
        state["norm_ce"], state["norm_logit"] = ce.norm(dim=1), logit.norm(dim=1)
        lengths = (state["norm_ce"] * state["norm_logit"]).clamp_min(steps.VANISHED)
        state["cosine"] = (ce * logit).sum(dim=1) / lengths
        whole = ((ce != 0).sum(dim=1).sqrt() * state["norm_ce"]).clamp_min(steps.VANISHED)
        state["sign_efficiency"] = ce.abs().sum(dim=1) / whole
        return torch.ones_like(state["labels"], dtype=torch.bool)

    wanted = ("norm_ce", "norm_logit", "cosine", "sign_efficiency")
    return engine.run({"images": clean, "labels": targets}, settings, advance, wanted)
