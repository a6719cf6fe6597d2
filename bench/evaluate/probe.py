"""Stage `probe`: what the features of one model are worth, by heads that are fitted on them.

The bank and the heads see the fitting part of train, the accuracies are those of the test split, after the last epoch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from bench import compute
from bench.config import Config, Finetuning, Model, Probes
from bench.data import cache
from bench.data.samples import Samples
from bench.errors import BenchError
from bench.models import probes, supervised, training, zoo
from bench.models.augment import RECIPES
from bench.models.zoo import Network
from bench.store import tables

ORIGINAL = "original"


@dataclass(frozen=True)
class Score:
    """A head: how it was fitted, and its answers to the test images (N,). `labels_per_class` 0: all of them.
    `label_noise`: the share of the labels of `label_source` that are wrong."""

    probe: str
    labels_per_class: int
    label_source: str
    label_noise: float
    seed: int
    answers: np.ndarray
    c: float | None = None
    temperature: float | None = None


def run(config: Config, name: str) -> dict[str, int]:
    """Write results/representations/<name>.parquet, without rows in a suite that names nothing to fit heads on."""
    model = config.model(name)
    if config.suites[model.suite].train is None:
        path = config.results / "representations" / f"{name}.parquet"
        return {"heads": len(tables.write("representations", tables.stacked("representations", []), path))}
    settings, dataset = config.probes_of(model.suite), config.original_of(model.suite)
    compute.prepare(config.compute.model_copy(update={"threads": config.training.threads}), config.seed)
    network = zoo.load(config, name)
    data, test = (cache.load(config, dataset, part) for part in ("train", "test"))
    data = data.rows(probes.split(config, model, data.labels)[0])
    features, on_test = (compute.forward(network, x.images, config.compute, features=True) for x in (data, test))
    known = config.noisy_labels_of(model.suite)
    noisy = {source: _noisy_labels(config, source, path, data) for source, path in known.items()}
    scores = list(_heads(settings, features, data.labels, on_test, network.n_classes, config.seed, noisy))
    if settings.finetuning is not None and model.family in ("ssl", "random"):
        scores += _finetuned(config, network, settings.finetuning, model, data, test)
    rank, std = probes.effective_rank(on_test), probes.collapse_std(on_test)
    rows = pd.DataFrame(
        {
            "model": name,
            "dataset": dataset,
            "probe": [score.probe for score in scores],
            "labels_per_class": [score.labels_per_class for score in scores],
            "label_source": [score.label_source for score in scores],
            "label_noise": [score.label_noise for score in scores],
            "seed": [score.seed for score in scores],
            "accuracy": [float((score.answers == test.labels).mean()) for score in scores],
            "n": len(test.labels),
            "effective_rank": rank,
            "collapse_std": std,
            "c": [score.c for score in scores],
            "temperature": [score.temperature for score in scores],
        }
    )
    written = tables.write("representations", rows, config.results / "representations" / f"{name}.parquet")
    return {"heads": len(written)}


def _noisy_labels(config: Config, source: str, path: Path, data: Samples) -> np.ndarray:
    """What a source of noisy labels says of some training images, (N,). BenchError where its file is missing, is not
    the pinned one, or says nothing of one of them."""
    held = config.noisy_labels[source]
    again = (
        f"Fetch it again with `bench data fetch {held.fetched}`, or take `noisy_labels.{source}` out of params.yaml."
    )
    if not path.is_file() or tables.sha256(path) != held.sha256:
        said = "is not the file that params.yaml pins" if path.is_file() else "is missing"
        raise BenchError(f"{said}.", where=path, remedy=again)
    found = tables.read("labels", path).set_index("sample_id")["class_id"].reindex(data.ids)
    lacking = int(found.isna().to_numpy().sum())
    if lacking:
        raise BenchError(f"says nothing of {lacking:,} of {len(data.ids):,} training images.", where=path, remedy=again)
    return found.to_numpy(np.int64)


def _heads(
    settings: Probes,
    features: np.ndarray,
    labels: np.ndarray,
    on_test: np.ndarray,
    n_classes: int,
    seed: int,
    noisy: Mapping[str, np.ndarray],
) -> Iterator[Score]:
    """Heads on features (N, D) of labels (N,), and what they answer to features (M, D). `noisy`: source -> other labels
    (N,) to fit heads on besides."""

    def fitted(
        x: np.ndarray, y: np.ndarray, draw: int, per_class: int = 0, noise: float = 0.0, source: str = ORIGINAL
    ) -> Iterator[Score]:
        head = probes.fit_linear(x, y, n_classes, settings, draw)
        yield Score("linear", per_class, source, noise, draw, head.logits(on_test).argmax(axis=1), c=head.c)
        for k in settings.knn_k:
            t = settings.knn_temperature
            answers = probes.knn(x, y, on_test, n_classes, k, t)
            yield Score("knn" if k == 20 else f"knn-{k}", per_class, source, noise, draw, answers, temperature=t)

    yield from fitted(features, labels, seed)
    for per_class in settings.labels_per_class:
        for draw in settings.seeds:
            some = probes.few_labels(labels, per_class, draw)
            yield from fitted(features[some], labels[some], draw, per_class)
    for share in settings.label_noise:
        yield from fitted(features, probes.noisy(labels, n_classes, share, seed=0), 0, noise=share)
    for source, given in noisy.items():
        yield from fitted(features, given, 0, noise=float((given != labels).mean()), source=source)


def _finetuned(
    config: Config, network: Network, how: Finetuning, model: Model, data: Samples, test: Samples
) -> Iterator[Score]:
    """Copies of the network, all of whose weights were trained on with few labels, from a head that they fit first."""
    device = compute.device_of(config.compute)
    settings = config.probes_of(model.suite)
    like = model.model_copy(
        update={"epochs": how.epochs, "batch_size": how.batch_size, "lr": how.lr, "ema": 0.0, "options": {}}
    )
    setting = training.Setting(RECIPES[config.suites[model.suite].augmentation])
    for per_class in how.labels_per_class:
        for draw in how.seeds:
            some = data.rows(probes.few_labels(data.labels, per_class, draw))
            tuned = copy.deepcopy(network).requires_grad_(True)
            features = compute.forward(tuned, some.images, config.compute, features=True)
            head = probes.fit_linear(features, some.labels, network.n_classes, settings, draw)
            tuned.take_head(head.weight, head.bias)
            images = tuned.resize(torch.from_numpy(some.images)).to(device)
            labels = torch.from_numpy(some.labels).to(device)
            tuned.mixed, tuned.crop, crop = model.mixed, None, tuned.crop  # they are cropped already
            supervised.train(tuned, images, labels, like, compute.seed_of(config.seed, "finetune", draw), setting)
            tuned.mixed, tuned.crop = False, crop
            answers = compute.forward(tuned, test.images, config.compute).argmax(axis=1)
            yield Score("finetune", per_class, ORIGINAL, 0.0, draw, answers)
