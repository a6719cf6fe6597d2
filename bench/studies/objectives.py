"""Study 9: which objective moves an image to a target class with the fewest steps, and with the smallest change?

After "Perturbation analysis of gradient-based adversarial attacks" (Pattern Recognition Letters 2020, arXiv
2006.01456), of which the abstract alone was at hand: the definitions are this benchmark's own. Every image that a
network gets right is moved to another class, within [0, 1] and else without a limit. Targets are a class drawn by its
id (`random`) and the one that the network held for second (`runner_up`).

| objective | climbs | step |
|---|---|---|
| ce | log of the probability of the target (L-BFGS's loss) | along the gradient |
| sign | the same | along the sign of the gradient (IFGS) |
| logit | logit of the target minus the largest other one (C&W's loss) | along the gradient |

`equal`: every step has the same length before it is cut off at 0 and 1, so that a comparison of objectives is none of
step sizes. `raw`: the length times the gradient itself, so that steps are as long as the gradient (not of `sign`, which
has no length of its own).

A walk to a drawn target goes on past it until the margin, its logit minus the largest other one, is as large as the
largest `kappa`: the steps of a smaller kappa are the first ones of the same walk. 0 is the answer itself.

A sign step of length d goes as far along the gradient g as a step of d times eta = |g|_1 / (sqrt(m) |g|_2) would, m
the number of values of g that are not 0: so at equal length, and without the edges of [0, 1], it should need 1 / eta
times as many steps. Where one class has nearly all the probability, the gradient of `ce` is that of `logit` between it
and the target, and their cosine is 1.

The gradient of `ce` has the factor (1 - p) of the target's p. In float32 p rounds to 1 from a margin of about 17 on:
the target's own term is lost, and what is left, all others pushed down, is another direction. `saturation` holds it
against the gradient of the same network in float64, at the first images of a walk of `ce` with a margin of MARGINS.

`lbfgs` is a search of its own (bench/attacks/lbfgs.py), counted in evaluations of the gradient over all weights that it
tries: no step of it is one of the others.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from bench import compute, progress, stats
from bench.attacks import aims, engine, lbfgs, losses, norms, prepare, sound, steps
from bench.attacks.engine import Images, Loss, State, counted, kept, wide
from bench.config import Compute, Config, Objectives, Statistics
from bench.data import cache
from bench.data.samples import Samples
from bench.store import tables

LOSSES: dict[str, Loss] = {
    "ce": losses.to_cross_entropy,
    "sign": losses.to_cross_entropy,
    "logit": losses.to_margin,
}
LENGTHS = {"ce": steps.l2, "sign": steps.sign_l2, "logit": steps.l2}
VARIANTS = {"equal": ("ce", "sign", "logit"), "raw": ("ce", "logit")}
"""How long steps are -> the objectives for which that is tried."""
RULES = ("random", "runner_up")
CASE = ("target_rule", "variant", "objective", "step_l2")
SEARCH = {"objective": "lbfgs", "variant": "search", "step_l2": 0.0, "kappa": 0.0}
"""What is written of a search: it has no length of a step."""
ROUNDS, SEARCHED = 4, 20
"""Weights that an L-BFGS search tries, and its steps with each."""
MARGINS = tuple(float(margin) for margin in range(0, 21, 2))
COMPARED = ("over_ce", "ce_low", "ce_high", "over_logit", "logit_low", "logit_high", "l2_over_ce", "l2_low", "l2_high")
OWN = ("own_iterations", "own_l2", "own_linf", "over_answer", "answer_low", "answer_high")
UNKNOWN = ("iterations", "l2", "linf", "step_cosine", "predicted", *COMPARED, *OWN)
"""What is not known of an objective where no image was moved by all of its variant."""


@dataclass(frozen=True)
class Case:
    """How images are moved, and to what; `step_l2` in units of [0, 1]."""

    target_rule: str
    variant: str
    objective: str
    step_l2: float


@dataclass(frozen=True)
class Walk:
    """What was seen of N images at L margins, each when it was first that large, or else after the last step.

    images (N, L, C, H, W); iterations (N, L): steps until then; reached (N, L); step_cosine (N, L): mean cosine of a
    step and the next one until then, NaN before there are two; saturated_at and vanished_at (N, L): the number of steps
    after which the probability of the target first rounded to 1, or a gradient vanished, NaN where none did until then.
    curves: `case` (an index), iteration, p_target, gradient_norm and step_cosine as means over the n images that had
    not been answered as their target before.
    """

    images: Images
    iterations: npt.NDArray[np.int64]
    reached: npt.NDArray[np.bool_]
    step_cosine: npt.NDArray[np.float64]
    saturated_at: npt.NDArray[np.float64]
    vanished_at: npt.NDArray[np.float64]
    curves: pd.DataFrame


def run(config: Config) -> dict[str, int]:
    """Write results/objective{s,_curves,_gradients,_saturation,_summary}.parquet."""
    from bench.models import zoo

    compute.prepare(config.compute, config.seed)
    names = ("objectives", "objective_curves", "objective_gradients", "objective_saturation", "objective_summary")
    written: dict[str, list[pd.DataFrame]] = {name: [] for name in names}
    for settings in config.objectives.runs.values():
        every = cache.load(config, settings.dataset)
        data = every.rows(compute.declared(every.ids, settings.n_images))
        for model in progress.bar(settings.models, f"objectives {settings.dataset}"):
            for name, frame in of_model(model, zoo.load(config, model), data, settings, config).items():
                if len(frame):
                    written[name].append(frame.assign(model=model, dataset=settings.dataset))
    return {
        name: len(tables.write(name, tables.stacked(name, frames), config.results / f"{name}.parquet"))
        for name, frames in written.items()
    }


def of_model(
    model: str, network: nn.Module, data: Samples, settings: Objectives, config: Config
) -> dict[str, pd.DataFrame]:
    """Rows of every table, without `model` and `dataset`; none where no image is answered rightly."""
    logits = sound.logits(model, network, settings.dataset, data, config)
    right = np.flatnonzero(logits.argmax(axis=1) == data.labels)
    if not len(right):
        return {}
    data, logits = data.rows(right), logits[right]
    targets = {
        "random": aims.drawn(config.seed, data, logits.shape[1]),
        "runner_up": aims.runner_up(logits, data.labels),
    }
    fast = prepare.folded(network, torch.from_numpy(np.ascontiguousarray(data.images[:8])))
    gradients = [
        pd.DataFrame({"target_rule": rule, "sample_id": data.ids, "target": one, **known})
        for rule, one in targets.items()
        for known in [first_gradients(fast, data.images, one, config.compute)]
    ]
    rows, curves, saturation = walked(fast, data, targets, settings, config.compute)
    searched = search(fast, data, targets, settings.lbfgs_images, config.compute)
    return {
        "objectives": tables.stacked("objectives", [rows, searched]),
        "objective_curves": curves,
        "objective_gradients": pd.concat(gradients),
        "objective_saturation": saturation,
        "objective_summary": summed(rows, searched, pd.concat(gradients), config.statistics, config.seed, model),
    }


def tried(settings: Objectives) -> list[Case]:
    """Every case; those that take most steps first, so that no batch waits for a few at the end."""
    return [
        Case(rule, variant, objective, length)
        for variant in ("raw", "equal")
        for objective in VARIANTS[variant]
        for length in settings.step_l2
        for rule in RULES
    ]


def walked(
    network: nn.Module,
    data: Samples,
    targets: Mapping[str, npt.NDArray[np.int64]],
    settings: Objectives,
    how: Compute,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Rows of tables `objectives`, `objective_curves` and `objective_saturation` of the walks of all cases."""
    cases, n = tried(settings), len(data.ids)
    kappas = {"random": sorted({0.0, *settings.kappas}), "runner_up": [0.0]}
    last, everyone, some = kappas["random"][-1], np.arange(n), compute.declared(data.ids, settings.kappa_images)
    goals = {"random": np.where(np.isin(everyone, some), last, 0.0), "runner_up": np.zeros(n)}
    margins = np.array(sorted({*kappas["random"], *(margin for margin in MARGINS if margin <= last)}))
    found = walk(
        network,
        np.tile(data.images, (len(cases), 1, 1, 1)),
        np.concatenate([targets[case.target_rule] for case in cases]),
        cases,
        np.repeat(np.arange(len(cases)), n),
        np.concatenate([goals[case.target_rule] for case in cases]),
        how,
        iterations=settings.iterations,
        margins=margins,
    )
    rows = []
    for at, case in enumerate(cases):
        for kappa in kappas[case.target_rule]:
            level, which = int(np.searchsorted(margins, kappa)), some if kappa else everyone
            row, towards = at * n + which, targets[case.target_rule][which]
            columns = {
                name: getattr(found, name)[row, level]
                for name in ("iterations", "reached", "step_cosine", "saturated_at", "vanished_at")
            }
            about = {**vars(case), "kappa": kappa, "sample_id": data.ids[which], "target": towards}
            sizes = _sizes(network, found.images[row, level], data.images[which], towards, how)
            rows.append(pd.DataFrame({**about, **columns, **sizes}))
    curves = found.curves.join(pd.DataFrame([vars(case) for case in cases]), on="case").drop(columns="case")
    first = cases.index(Case("random", "equal", "ce", min(settings.step_l2)))
    part = slice(first * n, (first + 1) * n)
    return (
        pd.concat(rows),
        curves,
        saturation(network, found.images[part], found.reached[part], targets["random"], margins, how),
    )


def _sizes(
    network: nn.Module, images: Images, clean: Images, targets: npt.NDArray[np.int64], how: Compute
) -> dict[str, npt.NDArray[np.generic]]:
    size = norms.sizes(images, clean)
    rounded = compute.forward(network, norms.round_u8(images), how).argmax(axis=1)
    return {"l2": size.l2, "linf": size.linf, "reached_u8": (rounded == targets).astype(np.int64)}


def search(
    network: nn.Module, data: Samples, targets: Mapping[str, npt.NDArray[np.int64]], n_images: int, how: Compute
) -> pd.DataFrame:
    """Rows of table `objectives` of the L-BFGS attack on the first `n_images`, to the targets of every rule."""
    some = compute.declared(data.ids, n_images)
    if not len(some):
        return pd.DataFrame()
    part = data.rows(some)
    clean = np.tile(part.images, (len(targets), 1, 1, 1))
    towards = np.concatenate([one[some] for one in targets.values()])
    found = lbfgs.attack(network, clean, towards, how, rounds=ROUNDS, iterations=SEARCHED)
    about = {"target_rule": np.repeat(list(targets), len(some)), "sample_id": np.tile(part.ids, len(targets))}
    reached = compute.forward(network, found.images, how).argmax(axis=1) == towards
    unknown = dict.fromkeys(("step_cosine", "saturated_at", "vanished_at"), np.nan)
    known = {"target": towards, "iterations": found.iterations, "reached": reached}
    return pd.DataFrame({**about, **SEARCH, **unknown, **known, **_sizes(network, found.images, clean, towards, how)})


def walk(
    network: nn.Module,
    clean: Images,
    targets: npt.NDArray[np.int64],
    cases: Sequence[Case],
    chosen: npt.NDArray[np.int64],
    goals: npt.NDArray[np.float64],
    settings: Compute,
    *,
    iterations: int,
    margins: npt.NDArray[np.float64],
) -> Walk:
    """Climb from `clean` (N, C, H, W) within [0, 1] until `targets` (N,) are answered by a margin of `goals` (N,), or
    `iterations` times. chosen (N,): which of `cases` an image is moved by; margins (L,): at which it is looked at.

    The answer is asked after every step, the last one too, of the image as it is then, cut off at 0 and 1.
    """
    device = compute.device_of(settings)
    network = compute.placed(network, device)
    by_margin, by_sign, raw = (
        torch.tensor([getattr(case, name) == value for case in cases], device=device)
        for name, value in (("objective", "logit"), ("objective", "sign"), ("variant", "raw"))
    )
    lengths = torch.tensor([case.step_l2 for case in cases], dtype=torch.float32, device=device)
    levels = torch.from_numpy(margins).to(device)
    curves = _Curves(len(cases), iterations)

    def advance(state: State) -> Tensor:
        taken, x, y, case = counted(state), state["images"].requires_grad_(), state["labels"], state["case"]
        logits = network(x)
        margin = losses.to_margin(logits, y)
        value = torch.where(by_margin[case], margin, losses.to_cross_entropy(logits, y))
        (gradient,) = torch.autograd.grad(value.sum(), x)
        x, logits, margin = x.detach(), logits.detach(), margin.detach()
        along = torch.where(wide(by_sign[case]), gradient.sign(), gradient)
        unit, before = steps.unit_l2(along), kept(state, "before", along)
        cosine = (unit.double() * before.double()).sum(dim=(1, 2, 3))
        _first(state, "saturated", losses.saturated(logits, y))
        _first(state, "vanished", engine.vanishes(gradient))
        passed = kept(state, "passed", levels.expand(len(y), -1).bool())
        curves.add(state, ~passed[:, 0] & (state["real"] > 0), logits, gradient, cosine)
        hit = (margin[:, None] >= levels) & (logits.argmax(dim=1) == y)[:, None]
        over = (passed | hit | (levels > state["goal"][:, None])).all(dim=1) | (taken >= iterations)
        _hold(state, hit, over, x)
        total = kept(state, "cosines", cosine)
        total += cosine
        moved = (x + wide(lengths[case]) * torch.where(wide(raw[case]), gradient, unit)).clamp(0, 1)
        state["images"] = torch.where(wide(over), x, moved)
        before.copy_(unit)
        taken += ~over
        return over

    arrays = {"images": clean, "labels": targets, "case": chosen, "goal": goals}
    arrays["real"] = np.ones(len(clean), np.int64)
    wanted = ("held", "at", "reached", "held_cosines", "saturated", "vanished")
    found = engine.run(arrays, settings, advance, wanted)
    at = found["at"]
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = np.where(at > 1, found["held_cosines"] / (at - 1), np.nan)
    saturated, vanished = (
        np.where((found[name][:, None] > 0) & (found[name][:, None] <= at + 1), found[name][:, None] - 1, np.nan)
        for name in ("saturated", "vanished")
    )
    return Walk(found["held"], at, found["reached"], cosines, saturated, vanished, curves.rows())


def _first(state: State, name: str, now: Tensor) -> None:
    """Keep under `name` (B,) one more than the number of steps after which `now` (B,) was first true; 0 before that."""
    seen = kept(state, name, state["passes"])
    seen.copy_(torch.where(now & (seen == 0), state["passes"] + 1, seen))


def _hold(state: State, hit: Tensor, over: Tensor, x: Tensor) -> None:
    """Keep what is known of images x (B, C, H, W) at those levels that they have come to (`hit`, (B, L)), and, where a
    walk is over (B,), at those that they never came to."""
    passed, reached = kept(state, "passed", hit), kept(state, "reached", hit)
    now = ~passed & (hit | over[:, None])
    held, at = kept(state, "held", x[:, None].expand(-1, hit.shape[1], -1, -1, -1)), kept(state, "at", hit.long())
    cosines = kept(state, "held_cosines", hit.double())
    held[now] = x[now.nonzero()[:, 0]]
    at.copy_(torch.where(now, state["passes"][:, None], at))
    cosines.copy_(torch.where(now, kept(state, "cosines", cosines[:, 0])[:, None], cosines))
    reached |= now & hit
    passed |= now


class _Curves:
    """Of each case, by the number of steps taken: sums over the images on their way, and how many these are."""

    NAMES = ("p_target", "gradient_norm", "step_cosine")

    def __init__(self, n_cases: int, iterations: int) -> None:
        self.sums = np.zeros((len(self.NAMES), n_cases, iterations + 1))
        self.n = np.zeros((n_cases, iterations + 1), np.int64)

    def add(self, state: State, among: Tensor, logits: Tensor, gradient: Tensor, cosine: Tensor) -> None:
        """What was seen of the images of a batch that are `among` those on their way, (B,)."""
        p = logits.double().softmax(dim=1).gather(1, state["labels"][:, None]).squeeze(1)
        norm = gradient.flatten(1).norm(dim=1).double()
        at = tuple(state[name][among].cpu().numpy() for name in ("case", "passes"))
        for sums, values in zip(self.sums, (p, norm, cosine), strict=True):
            np.add.at(sums, at, values[among].cpu().numpy())
        np.add.at(self.n, at, 1)

    def rows(self) -> pd.DataFrame:
        """See `Walk`."""
        case, iteration = np.nonzero(self.n)
        n = self.n[case, iteration]
        means = {name: sums[case, iteration] / n for name, sums in zip(self.NAMES, self.sums, strict=True)}
        means["step_cosine"] = np.where(iteration > 0, means["step_cosine"], np.nan)
        return pd.DataFrame({"case": case, "iteration": iteration, **means, "n": n})


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
        lengths = (state["norm_ce"] * state["norm_logit"]).clamp_min(engine.VANISHED)
        state["cosine"] = (ce * logit).sum(dim=1) / lengths
        whole = ((ce != 0).sum(dim=1).sqrt() * state["norm_ce"]).clamp_min(engine.VANISHED)
        state["sign_efficiency"] = ce.abs().sum(dim=1) / whole
        return torch.ones_like(state["labels"], dtype=torch.bool)

    wanted = ("norm_ce", "norm_logit", "cosine", "sign_efficiency")
    return engine.run({"images": clean, "labels": targets}, settings, advance, wanted)


def saturation(
    network: nn.Module,
    images: Images,
    reached: npt.NDArray[np.bool_],
    targets: npt.NDArray[np.int64],
    margins: npt.NDArray[np.float64],
    settings: Compute,
) -> pd.DataFrame:
    """Rows of table `objective_saturation`: `directions` at the images (N, L, C, H, W) that `reached` (N, L) their
    margins (L,)."""
    row, level = np.nonzero(reached)
    if not len(row):
        return pd.DataFrame()
    frame = pd.DataFrame(directions(network, images[row, level], targets[row], settings)).assign(margin=margins[level])
    by = frame.groupby("margin")
    cosine = by["cosine"]
    return pd.DataFrame(
        {
            "n": by.size(),
            "p_other": by["p_other"].median(),
            "saturated": by["saturated"].mean(),
            "vanished": by["vanished"].mean(),
            "cosine": cosine.median(),
            "cosine_low": cosine.quantile(0.25),
            "cosine_high": cosine.quantile(0.75),
            "cosine_mended": by["cosine_mended"].median(),
            "norm": by["norm"].median(),
        }
    ).reset_index()


def directions(
    network: nn.Module, images: Images, targets: npt.NDArray[np.int64], settings: Compute
) -> Mapping[str, npt.NDArray[np.float64]]:
    """The gradient of `ce` in float32 beside that of the same network in float64, at images (N, C, H, W); (N,) each.

    p_other: the probability of all classes but the target in float64; `saturated` and `vanished`, 0 or 1, in float32;
    cosine of both gradients; cosine_mended: the same with the loss alone in float64, of the float32 network's logits;
    norm: Euclidean, in float64. A cosine with what has vanished is 0.
    """
    network = compute.placed(network, compute.device_of(settings))
    exact = copy.deepcopy(network).double()

    def advance(state: State) -> Tensor:
        x, y = state["images"].requires_grad_(), state["labels"]
        x64 = x.detach().double().requires_grad_()
        logits, logits64 = network(x), _logits(exact, x64)
        plain, mended, true = (
            torch.autograd.grad(losses.to_cross_entropy(z, y).sum(), of, retain_graph=True)[0].flatten(1).double()
            for z, of in ((logits, x), (logits.double(), x), (logits64, x64))
        )
        state["images"] = x.detach()
        state["p_other"] = 1 - logits64.detach().softmax(dim=1).gather(1, y[:, None]).squeeze(1)
        state["saturated"] = losses.saturated(logits.detach(), y).double()
        state["vanished"] = (plain.norm(dim=1) <= engine.VANISHED).double()
        state["cosine"], state["cosine_mended"] = _cosine(plain, true), _cosine(mended, true)
        state["norm"] = true.norm(dim=1)
        return torch.ones_like(y, dtype=torch.bool)

    wanted = ("p_other", "saturated", "vanished", "cosine", "cosine_mended", "norm")
    return engine.run({"images": images, "labels": targets}, settings, advance, wanted)


def _logits(network: nn.Module, x: Tensor) -> Tensor:
    """Logits in the precision of the network: one of the zoo gives features in float32 whatever it has computed in."""
    from bench.models.zoo import Network

    if isinstance(network, Network):
        return network.head(network.encoder(network.normalise(x)))
    return network(x)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Of vectors (B, D), (B,); 0 where one has vanished."""
    return (_unit(a) * _unit(b)).sum(dim=1)


def _unit(a: Tensor) -> Tensor:
    size = a.norm(dim=1, keepdim=True)
    return torch.where(size > engine.VANISHED, a / size.clamp_min(engine.VANISHED), 0)


def summed(
    rows: pd.DataFrame, searched: pd.DataFrame, gradients: pd.DataFrame, settings: Statistics, seed: int, model: str
) -> pd.DataFrame:
    """Rows of table `objective_summary` of one model: steps and sizes of each objective over the images that all of its
    variant moved to their targets, its steps over those of `ce` and `logit` on these, and its L2 over that of `ce`;
    over those that it moved itself (`own`), with its steps over those that the answer alone needed. Bootstraps over
    images. L-BFGS is held against `ce` in the shortest steps of one length, by its L2 alone.

    Nothing but shares of all images is known where no image was moved.
    """
    out = []
    efficiency = gradients.set_index(["target_rule", "sample_id"])["sign_efficiency"]
    answers = rows.loc[rows["kappa"] == 0].set_index([*CASE, "sample_id"])["iterations"].sort_index()
    for _, mine in rows.groupby(["target_rule", "kappa", "variant", "step_l2"]):
        by = {str(name): part.set_index("sample_id").sort_index() for name, part in mine.groupby("objective")}
        arrived = pd.DataFrame({name: part["reached"] for name, part in by.items()}).all(axis=1)
        ce, logit = (by[name].loc[arrived] for name in ("ce", "logit"))
        for objective, every in by.items():
            case = {"kappa": every["kappa"].iloc[0], **{name: every[name].iloc[0] for name in CASE}}
            parts = (seed, "objectives", model, *case.values())
            common, own = every.loc[arrived], every.loc[every["reached"]]
            row = {**case, **_means(every, common)}
            if len(common):
                row |= _ratio("over_ce", "ce", common["iterations"], ce["iterations"], settings, parts)
                row |= _ratio("over_logit", "logit", common["iterations"], logit["iterations"], settings, parts)
                row |= _ratio("l2_over_ce", "l2", common["l2"], ce["l2"], settings, parts)
            if len(common) and (case["variant"], objective) == ("equal", "sign"):
                weights, eta = ce["iterations"].to_numpy(float), efficiency.loc[case["target_rule"]].loc[ce.index]
                row["predicted"] = float((weights / eta.to_numpy()).sum() / weights.sum())
            if len(own):
                first = answers.loc[tuple(case[name] for name in CASE)].loc[own.index]
                row |= _ratio("over_answer", "answer", own["iterations"], first, settings, parts)
            out.append(row)
    return pd.DataFrame(out + _searches(rows, searched, settings, (seed, "objectives", model)))


def _searches(
    rows: pd.DataFrame, searched: pd.DataFrame, settings: Statistics, parts: tuple[object, ...]
) -> list[dict[str, object]]:
    """The rows of L-BFGS, see `summed`."""
    out = []
    ce = rows.loc[rows["variant"].eq("equal") & rows["objective"].eq("ce") & rows["kappa"].eq(0) & rows["reached"]]
    ce = ce.loc[ce["step_l2"] == ce["step_l2"].min()]
    for rule in searched["target_rule"].unique() if len(searched) else ():
        every = searched.loc[searched["target_rule"] == rule].set_index("sample_id")
        theirs = ce.loc[ce["target_rule"] == rule].set_index("sample_id")
        common = every.loc[every["reached"] & every.index.isin(theirs.index)]
        row = {**SEARCH, "target_rule": rule, **_means(every, common)}
        if len(common):
            row |= _ratio("l2_over_ce", "l2", common["l2"], theirs["l2"].loc[common.index], settings, (*parts, rule))
        out.append(row)
    return out


def _means(every: pd.DataFrame, common: pd.DataFrame) -> dict[str, object]:
    """Shares of all images of a case, and means over those that all of its objectives moved, and that it moved."""
    own = every.loc[every["reached"]]
    row: dict[str, object] = {**dict.fromkeys(UNKNOWN, np.nan), "n": len(every), "n_common": len(common)}
    row |= {name: every[name].mean() for name in ("reached", "reached_u8")}
    row |= {name: every[f"{name}_at"].notna().mean() for name in ("saturated", "vanished")}
    row |= {"saturated_at": every["saturated_at"].median()}
    row |= {"iterations": common["iterations"].median()}
    row |= {name: common[name].mean() for name in ("l2", "linf", "step_cosine")}
    return row | {
        "own_iterations": own["iterations"].median(),
        "own_l2": own["l2"].mean(),
        "own_linf": own["linf"].mean(),
    }


def _ratio(
    name: str, ends: str, over: pd.Series, under: pd.Series, settings: Statistics, parts: tuple[object, ...]
) -> dict[str, object]:
    """The sum of `over` as times that of `under` (of the same images) under `name`, and `<ends>_low` and `_high`."""
    a, b = over.to_numpy(float), under.to_numpy(float)
    rng = compute.rng(*parts, name)
    low, high = stats.bootstrap_ratio(a, b, rng, draws=settings.bootstrap, confidence=settings.confidence)
    return {name: a.sum() / b.sum(), f"{ends}_low": low, f"{ends}_high": high}
