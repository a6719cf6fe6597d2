"""Stage: attack every model of the pool on the declared images of each attacked dataset."""

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
from bench.evaluate import logits as stored
from bench.store import tables

if TYPE_CHECKING:
    from torch import nn


def run(config: Config) -> dict[str, int]:
    """Write results/attacks.parquet and results/attack_predictions.parquet (of the float images).

    BenchError where a checkpoint or a dataset is wrong, or where logits are NaN or infinite.
    """
    from bench.models import zoo

    compute.prepare(config.compute, config.seed)
    found, answers = [], []
    for name, attack in config.attack_runs.items():
        every = cache.load(config, attack.dataset)
        data = every.rows(compute.declared(every.ids, attack.n_images))
        start = starts(config, name, data)
        for model in progress.bar(config.attack_pool(attack.dataset), name):
            network = zoo.load(config, model)
            for eps_255 in attack.eps_255:
                images = pgd_linf(network, data, start, eps_255 / 255, attack, config)
                z = compute.forward(network, images, config.compute)
                rounded = compute.forward(network, norms.round_u8(images), config.compute)
                rows = stored.answers(z, stored.softmax(z), data.ids, data.labels)
                condition = f"attack:{name}:{eps_255:g}"
                answers.append(rows.assign(model=model, dataset=attack.dataset, condition=condition))
                size = norms.sizes(images, data.images)
                found.append(
                    pd.DataFrame(
                        {
                            "attack_id": [f"{name}/{eps_255:g}/{model}/{sample_id}" for sample_id in data.ids],
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
    return {"attacked images": len(written), "successes": int(np.count_nonzero(written["success_float"]))}


def starts(config: Config, name: str, data: Samples) -> np.ndarray:
    """Where each image starts, as a share of eps: (N, C, H, W) float32, uniform in [-1, 1], seeded by its sample id.

    The same for every model and eps, so that these are compared from one start.
    """
    shape = data.images.shape[1:]
    drawn = [compute.rng(config.seed, name, sample_id).uniform(-1, 1, shape) for sample_id in data.ids]
    return np.stack(drawn).astype(np.float32)


def pgd_linf(
    network: nn.Module, data: Samples, start: np.ndarray, eps: float, attack: Attack, config: Config
) -> np.ndarray:
    """Images (N, C, H, W) after projected gradient descent on the cross-entropy within `eps` (units of [0, 1]).

    From clean + eps * start, `attack.steps` steps of `attack.relative_step` * eps times the sign of the gradient; the
    last image is taken. Always in float32. Source: Madry et al. 2018 (arXiv 1706.06083).
    """
    from bench.attacks import engine, losses, steps

    low, high = norms.linf_box(data.images, eps)
    found = engine.iterate(
        network,
        data.images,
        data.labels,
        config.compute,
        loss=losses.cross_entropy,
        step=steps.sign(attack.relative_step * eps),
        iterations=attack.steps,
        low=low,
        high=high,
        start=data.images + np.float32(eps) * start,
    )
    return found.images


def _params(attack: Attack, eps_255: float) -> str:
    settings = {"eps_255": eps_255, "steps": attack.steps, "relative_step": attack.relative_step, "norm": "linf"}
    return json.dumps(settings | {"kind": attack.kind, "start": "uniform"}, sort_keys=True)
