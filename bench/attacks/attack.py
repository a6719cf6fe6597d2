"""Stage: attack every model of the pool on the declared images of each attacked dataset, and show what was made on one
to all others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench import compute, progress
from bench.attacks import norms
from bench.config import Attack, Config
from bench.data import cache
from bench.data.samples import Samples
from bench.errors import BenchError
from bench.evaluate import logits as stored
from bench.store import tables

if TYPE_CHECKING:
    from torch import nn

CHECKED = 100
"""Images on which an attack is checked."""


def run(config: Config) -> dict[str, int]:
    """Write results/{attacks,attack_predictions,attack_trust,transfers,source_images}.parquet; answers are those to the
    float images.

    BenchError where a checkpoint or a dataset is wrong, or a network cannot be attacked as it is (`_clean`).
    """
    from bench.models import zoo

    compute.prepare(config.compute, config.seed)
    found, answers, checks, shown, sources = [], [], [], [], {}
    for name, attack in config.attack_runs.items():
        every = cache.load(config, attack.dataset)
        data = every.rows(compute.declared(every.ids, attack.n_images))
        start = starts(config, name, data)
        networks = {model: zoo.load(config, model) for model in config.attack_pool(attack.dataset)}
        clean = {model: _clean(model, network, data, attack, config) for model, network in networks.items()}
        for model, network in networks.items():
            if (model, attack.dataset) not in sources:
                sources[model, attack.dataset] = _source_images(model, network, clean[model], data, attack, config)
        for model in progress.bar([attack.source] if attack.source else list(networks), name):
            network, fast = networks[model], _fast(networks[model], data)
            row = trust(network, fast, data, start, attack, config)
            checks.append(pd.DataFrame([row | {"attack": name, "model": model}]))
            for eps_255 in attack.eps_255:
                images = made(fast, data, start, eps_255 / 255, attack, config)
                z = compute.forward(network, images, config.compute)
                rounded = compute.forward(network, norms.round_u8(images), config.compute)
                rows = stored.answers(z, stored.softmax(z), data.ids, data.labels)
                where = {"dataset": attack.dataset, "condition": f"attack:{name}:{eps_255:g}"}
                answers.append(rows.assign(model=model, **where))
                attack_ids = np.array([f"{name}/{eps_255:g}/{model}/{sample_id}" for sample_id in data.ids], object)
                for other in (one for one in networks if one != model):
                    z = compute.forward(networks[other], images, config.compute)
                    shown.append(_transfers(attack_ids, other, z.argmax(axis=1), clean[other], data))
                    if attack.source:
                        given = stored.answers(z, stored.softmax(z), data.ids, data.labels)
                        answers.append(given.assign(model=other, **where))
                size = norms.sizes(images, data.images)
                found.append(
                    pd.DataFrame(
                        {
                            "attack_id": attack_ids,
                            "sample_id": data.ids,
                            "source_model": model,
                            "dataset": attack.dataset,
                            "attack": name,
                            "params_json": _params(attack, eps_255),
                            "seed": config.seed,
                            "iterations": attack.steps,
                            "success_float": rows["pred"].to_numpy() != data.labels,
                            "success_u8": rounded.argmax(axis=1) != data.labels,
                            "l0": size.l0,
                            "l2": size.l2,
                            "linf": size.linf,
                            "pred": rows["pred"],
                        }
                    )
                )
    written = tables.write("attacks", tables.stacked("attacks", found), config.results / "attacks.parquet")
    tables.write("predictions", tables.stacked("predictions", answers), config.results / "attack_predictions.parquet")
    others = {"attack_trust": checks, "transfers": shown, "source_images": list(sources.values())}
    for table, frames in others.items():
        tables.write(table, tables.stacked(table, frames), config.results / f"{table}.parquet")
    return {"attacked images": len(written), "successes": int(np.count_nonzero(written["success_float"]))}


def _fast(network: nn.Module, data: Samples) -> nn.Module:
    """The network as its own attack runs it: folded. Every answer that is stored is the network's own."""
    import torch

    from bench.attacks import prepare

    return prepare.folded(network, torch.from_numpy(np.ascontiguousarray(data.images[:8])))


def _transfers(attack_ids: np.ndarray, target: str, pred: np.ndarray, clean: np.ndarray, data: Samples) -> pd.DataFrame:
    """Rows of table `transfers`: what a model answers (N,) to images that were made on another one, and the place of
    that answer among its clean logits (N, K)."""
    above = clean > np.take_along_axis(clean, pred[:, None], axis=1)
    return pd.DataFrame(
        {
            "attack_id": attack_ids,
            "target_model": target,
            "success": pred != data.labels,
            "pred": pred,
            "rank_clean": 1 + above.sum(axis=1),
        }
    )


def _source_images(
    model: str, network: nn.Module, clean: np.ndarray, data: Samples, attack: Attack, config: Config
) -> pd.DataFrame:
    """Rows of table `source_images` from clean logits (N, K): what may foretell how images take to attacks."""
    from bench.attacks import engine

    p = stored.softmax(clean).astype(np.float64)
    order = np.argsort(-clean, axis=1, kind="stable")
    return pd.DataFrame(
        {
            "model": model,
            "dataset": attack.dataset,
            "sample_id": data.ids,
            "right": clean.argmax(axis=1) == data.labels,
            "p_top1": p.max(axis=1),
            "entropy_nats": -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1),
            "margin": -np.diff(np.take_along_axis(clean, order[:, :2], axis=1), axis=1)[:, 0],
            "gradient_norm": engine.gradient_norms(network, data.images, data.labels, config.compute),
            "p": list(p.astype(np.float32)),
        }
    )


def starts(config: Config, name: str, data: Samples) -> np.ndarray:
    """Where each image starts, as a share of eps: (N, C, H, W) float32, uniform in [-1, 1], seeded by its sample id.

    The same for every model and eps, so that these are compared from one start.
    """
    shape = data.images.shape[1:]
    drawn = [compute.rng(config.seed, name, sample_id).uniform(-1, 1, shape) for sample_id in data.ids]
    return np.stack(drawn).astype(np.float32)


def made(
    network: nn.Module, data: Samples, start: np.ndarray, eps: float, attack: Attack, config: Config
) -> np.ndarray:
    """Images (N, C, H, W) after an attack within `eps` (units of [0, 1], in the norm of its kind). Always in float32.

    BenchError where one is further away: then the attack is wrong.
    """
    from bench.attacks.kinds import KINDS

    kind = KINDS[attack.kind]
    images = kind.make(network, data, start, eps, attack, config).images
    size = getattr(norms.sizes(images, data.images), kind.norm)
    if (size > eps * (1 + 1e-5) + 1e-7).any():
        raise BenchError(
            f"an image is {size.max():.6g} away from the clean one in {kind.norm}, more than eps = {eps:.6g}.",
            where=f"attack {attack.kind}",
            remedy="This is a fault of the program: please report it.",
        )
    return images


def _clean(name: str, network: nn.Module, data: Samples, attack: Attack, config: Config) -> np.ndarray:
    """The logits (N, K) of the clean images. BenchError where the network cannot be attacked as it is."""
    where = f"model {name}"
    if data.images.min() < 0 or data.images.max() > 1:
        raise BenchError("its images are not in [0, 1].", where=where, remedy="Normalise inside the model.")
    if any(module.training for module in network.modules()):
        raise BenchError("is in training mode.", where=where, remedy="Call `eval()` on it, with all of its parts.")
    logits = compute.forward(network, data.images, config.compute)
    if data.labels.max() >= logits.shape[1]:
        raise BenchError(
            f"knows {logits.shape[1]} classes, and there is a label {data.labels.max()}.",
            where=where,
            remedy="Leave it out of `attacks.pool`.",
        )
    if (logits >= 0).all() and np.allclose(logits.sum(axis=1), 1, atol=1e-4):
        raise BenchError(
            "gives probabilities, not logits: their gradient vanishes where it is sure.",
            where=where,
            remedy="Take the softmax out of the model.",
        )
    if attack.kind == "apgd-dlr" and logits.shape[1] < 3:
        raise BenchError("knows two classes: the DLR needs three.", where=where, remedy="Use `apgd-ce`.")
    return logits


def trust(
    network: nn.Module, fast: nn.Module, data: Samples, start: np.ndarray, attack: Attack, config: Config
) -> dict[str, object]:
    """What tells a robust network from an attack that does not work: columns of table `attack_trust`, of the first 100
    images at most; Square at the smallest eps. `fast`: the network as it is attacked.

    Source: the checklist of Carlini et al. 2019 (arXiv 1902.06705), sections 4.3 and 5.
    """
    from bench.attacks import engine
    from bench.attacks.kinds import KINDS

    some = np.arange(min(len(data.ids), CHECKED))
    data, start, kind = data.rows(some), start[some], KINDS[attack.kind]
    once, again = (compute.forward(network, data.images, config.compute) for _ in range(2))
    still = engine.gradient_norms(fast, data.images, data.labels, config.compute) == 0

    def answers(eps: float, how: Attack = attack) -> np.ndarray:
        return compute.forward(network, made(fast, data, start, eps, how, config), config.compute).argmax(axis=1)

    gained = None
    if kind.gradient and kind.norm == "linf" and attack.squares:
        eps = min(attack.eps_255) / 255
        square = attack.model_copy(update={"kind": "square", "steps": attack.squares})
        gained = float(((answers(eps, square) != data.labels) & (answers(eps) == data.labels)).mean())
    return {
        "dataset": attack.dataset,
        "n": len(data.ids),
        "zero_gradient": float(still.mean()),
        "repeat_difference": float(np.abs(once - again).max()),
        "same_at_zero": float((answers(0.0) == once.argmax(axis=1)).mean()),
        "right_at_full": float((answers(kind.farthest(data)) == data.labels).mean()),
        "square_gains": gained,
    }


def _params(attack: Attack, eps_255: float) -> str:
    from bench.attacks.kinds import KINDS

    settings = {"eps_255": eps_255, "steps": attack.steps, "relative_step": attack.relative_step}
    settings |= {"source": attack.source} if attack.source else {}
    return json.dumps(settings | {"kind": attack.kind, "norm": KINDS[attack.kind].norm}, sort_keys=True)
