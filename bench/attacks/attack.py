"""Stage: attack every model of the pool on the declared images of each attacked dataset, and show what was made on one
to all others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench import compute, progress
from bench.attacks import norms
from bench.config import Attack, Config
from bench.data.samples import Samples
from bench.evaluate import logits as stored
from bench.pictures import of_image
from bench.store import tables

if TYPE_CHECKING:
    from torch import nn

    from bench.attacks.engine import Images
    from bench.attacks.shards import Made


def run(config: Config) -> dict[str, int]:
    """Write results/{attacks,attack_predictions,attack_trust,transfers,source_images}.parquet, whose answers are to the
    float images, and {attack_images,attack_answers}.parquet of images of 8 bits. What was made before an interruption
    is not made again (bench/attacks/shards.py).

    BenchError where a checkpoint or a dataset is wrong, or a network cannot be attacked as it is (`sound.logits`).
    """
    from bench.attacks import shards, sound
    from bench.attacks.kinds import KINDS
    from bench.models import zoo

    compute.prepare(config.compute, config.seed)
    found, answers, checks, shown, sources, pictured, said = [], [], [], [], {}, [], []
    for name, attack in config.attack_runs.items():
        data = shards.declared(config, attack)
        start = shards.starts(config, name, data)
        networks = {model: zoo.load(config, model) for model in config.attack_pool(attack.dataset)}
        clean = {
            model: sound.logits(model, network, attack.dataset, data, config, least=KINDS[attack.kind].classes)
            for model, network in networks.items()
        }
        for model, network in networks.items():
            if (model, attack.dataset) not in sources:
                sources[model, attack.dataset] = _source_images(model, network, clean[model], data, attack, config)
        kept, held = _kept(clean, data, config.attacks.kept), []
        for model in progress.bar([attack.source] if attack.source else list(networks), name):
            made_on = shards.source(config, name, model, data, networks[model], networks)
            made = shards.whole(made_on, attack, data, start, config)
            images = {label: one.images[:, 0] for label, one in made.items()}
            row = trust(networks[model], made_on.network, data, images, attack, config)
            checks.append(pd.DataFrame([row | {"attack": name, "model": model}]))
            goal = shards.goal(made_on.network, data, attack, config)
            for eps_255 in attack.eps_255:
                one, of = made[f"{eps_255:g}"], Of(name, eps_255, model, attack, made_on.dtype(f"{eps_255:g}"))
                where = {"dataset": attack.dataset, "condition": f"attack:{name}:{eps_255:g}"}
                z = compute.forward(networks[model], one.images[:, 0], config.compute)
                answers.append(stored.answers(z, stored.softmax(z), data.ids, data.labels).assign(model=model, **where))
                found.append(_attacks(of, None, one, 0, networks[model], data, goal, config))
                if len(kept) and attack.stop != "transfer":
                    held.append((of.ids(data, None)[kept], one.images[kept, 0]))
                for other in (other for other in networks if other != model):
                    at = list(made_on.targets).index(other) if attack.stop == "transfer" else 0
                    if attack.stop == "transfer":
                        found.append(_attacks(of, other, one, at, networks[model], data, goal, config))
                    z = compute.forward(networks[other], one.images[:, at], config.compute)
                    ids = of.ids(data, other if attack.stop == "transfer" else None)
                    shown.append(_transfers(ids, other, z.argmax(axis=1), clean[other], data))
                    if attack.source:
                        given = stored.answers(z, stored.softmax(z), data.ids, data.labels)
                        answers.append(given.assign(model=other, **where))
        if held:
            ids, pixels = (np.concatenate(parts) for parts in zip(*held, strict=True))
            same = data.rows(np.tile(kept, len(held)))
            pictured.append(_pictures(ids, same, pixels))
            said += [_answers(ids, model, network, same, pixels, config) for model, network in networks.items()]
    written = tables.write("attacks", tables.stacked("attacks", found), config.results / "attacks.parquet")
    tables.write("predictions", tables.stacked("predictions", answers), config.results / "attack_predictions.parquet")
    others = {"attack_trust": checks, "transfers": shown, "source_images": list(sources.values())}
    others |= {"attack_images": pictured, "attack_answers": said}
    for table, frames in others.items():
        tables.write(table, tables.stacked(table, frames), config.results / f"{table}.parquet")
    return {"attacked images": len(written), "successes": int(np.count_nonzero(written["success_float"]))}


def share(config: Config, number: int, of: int) -> dict[str, int]:
    """Make a share of what `run` needs, and write no table (`shards.share`)."""
    from bench.attacks import shards

    return shards.share(config, number, of)


@dataclass(frozen=True)
class Of:
    """One strength of a run on one model, and in what the encoder that it followed computed."""

    run: str
    eps_255: float
    model: str
    attack: Attack
    dtype: str

    def ids(self, data: Samples, target: str | None) -> np.ndarray:
        """The ids of its images, of those that were made until `target` fell, if one is named."""
        model = self.model if target is None else f"{self.model}@{target}"
        return np.array([f"{self.run}/{self.eps_255:g}/{model}/{one}" for one in data.ids], object)


def _attacks(
    of: Of, target: str | None, made: Made, at: int, network: nn.Module, data: Samples, goal: Samples, config: Config
) -> pd.DataFrame:
    """Rows of table `attacks`: what the source itself answers to images, and how large their changes are."""
    images = made.images[:, at]
    answers, rounded = (
        compute.forward(network, some, config.compute).argmax(axis=1) for some in (images, norms.round_u8(images))
    )
    size = norms.sizes(images, data.images)
    return pd.DataFrame(
        {
            "attack_id": of.ids(data, target),
            "sample_id": data.ids,
            "source_model": of.model,
            "dataset": of.attack.dataset,
            "attack": of.run,
            "params_json": _params(of),
            "seed": config.seed,
            "iterations": made.iterations[:, at],
            "success_float": answers != data.labels,
            "success_u8": rounded != data.labels,
            "l0": size.l0,
            "l2": size.l2,
            "linf": size.linf,
            "pred": answers,
            "target": goal.labels if of.attack.target else None,
            "reached": pd.array(
                answers == goal.labels if of.attack.target else [pd.NA] * len(answers), dtype="boolean"
            ),
        }
    )


def _kept(clean: Mapping[str, np.ndarray], data: Samples, n: int) -> np.ndarray:
    """Indices of the first `n` images that every model gets right when clean, from their logits (N, K)."""
    right = np.logical_and.reduce([z.argmax(axis=1) == data.labels for z in clean.values()])
    return np.flatnonzero(right)[:n]


def _pictures(attack_ids: np.ndarray, data: Samples, images: Images) -> pd.DataFrame:
    """Rows of table `attack_images`."""
    pngs = {name: [of_image(one) for one in some] for name, some in (("clean", data.images), ("png", images))}
    return pd.DataFrame({"attack_id": attack_ids, **pngs})


def _answers(
    attack_ids: np.ndarray, model: str, network: nn.Module, data: Samples, images: Images, config: Config
) -> pd.DataFrame:
    """Rows of table `attack_answers`."""
    return pd.DataFrame({"attack_id": attack_ids, "model": model, **in_8_bits(network, data, images, config)})


def in_8_bits(network: nn.Module, data: Samples, images: Images, config: Config) -> dict[str, np.ndarray]:
    """What a network says of images (N, C, H, W) rounded to 8 bits: pred, p_pred and p_label (of the label), (N,)."""
    z = compute.forward(network, norms.round_u8(images), config.compute)
    p = stored.softmax(z)
    of_label = np.take_along_axis(p, data.labels[:, None], axis=1)[:, 0]
    return {"pred": z.argmax(axis=1), "p_pred": p.max(axis=1), "p_label": of_label}


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


def trust(
    network: nn.Module, fast: nn.Module, data: Samples, made: Mapping[str, Images], attack: Attack, config: Config
) -> dict[str, object]:
    """What tells a robust network from an attack that does not work: columns of table `attack_trust`, of the first 100
    images at most; Square at the smallest eps. `fast`: the network as it is attacked; `made`: label of a shard -> its
    images (`shards.whole`). A minimal attack is not tried at eps 0, where it has nothing to look for.

    Source: the checklist of Carlini et al. 2019 (arXiv 1902.06705), sections 4.3 and 5.
    """
    from bench.attacks import engine, shards
    from bench.attacks.kinds import KINDS

    data = data.rows(np.arange(min(len(data.ids), shards.CHECKED)))
    once, again = (compute.forward(network, data.images, config.compute) for _ in range(2))
    still = engine.gradient_norms(fast, data.images, data.labels, config.compute) == 0

    def answers(label: str) -> np.ndarray:
        return compute.forward(network, made[label][: len(data.ids)], config.compute).argmax(axis=1)

    gained, minimal = None, KINDS[attack.kind].minimal
    if shards.squared(attack):
        right = answers(f"{min(attack.eps_255):g}") == data.labels
        gained = float(((answers("square") != data.labels) & right).mean())
    return {
        "dataset": attack.dataset,
        "n": len(data.ids),
        "zero_gradient": float(still.mean()),
        "repeat_difference": float(np.abs(once - again).max()),
        "same_at_zero": None if minimal else float((answers("zero") == once.argmax(axis=1)).mean()),
        "right_at_full": float((answers("full") == data.labels).mean()),
        "square_gains": gained,
    }


def _params(of: Of) -> str:
    from bench.attacks.kinds import KINDS

    attack = of.attack
    settings = {"eps_255": of.eps_255, "steps": attack.steps, "relative_step": attack.relative_step}
    settings |= {"source": attack.source} if attack.source else {}
    settings |= {"stop": attack.stop} if attack.stop != "never" else {}
    settings |= {"target": attack.target} if attack.target else {}
    settings |= {"dtype": of.dtype} if attack.dtype != "float32" else {}
    return json.dumps(settings | {"kind": attack.kind, "norm": KINDS[attack.kind].norm}, sort_keys=True)
