"""The stage `train`: one network with its heads, or a control, from the train split of its suite."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from bench import compute
from bench.config import SSL_FAMILY, Config, Family, Model
from bench.data import samples
from bench.data.samples import Samples
from bench.errors import BenchError
from bench.models import probes, training, zoo
from bench.models.training import Epoch, Kept
from bench.models.zoo import Network
from bench.store import tables

Trainer = Callable[[Network, Tensor, Tensor, Model, int, Kept | None], list[Epoch]]
FOLDER = ".training"
"""Where trainings are kept until they are done."""


def trainer(family: Family) -> Trainer:
    """The function that trains a family; the module is imported only where it runs (lightly takes seconds)."""
    match family:
        case "supervised":
            from bench.models import supervised as module
        case "ssl":
            from bench.models import ssl as module
        case "random":
            from bench.models import random as module
        case "pixels":
            from bench.models import pixels as module
    return module.train


def split(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (fit, validation) of labels (N,): `fraction` of each class, at least one of it, drawn by `seed`."""
    rng = compute.rng(seed, "validation")
    is_validation = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        is_validation[members[: max(1, round(fraction * len(members)))]] = True
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def run(config: Config, name: str) -> dict[str, int]:
    """Train model `name`, fit its heads and temperature, and write its checkpoint and three tables.

    The network, the heads and the bank of the nearest neighbours see the fitting part of train, the temperature the
    rest of train (published weights may have seen both); the accuracies are those of the test split. Speed goes to the
    log line, never into a table, so that two machines of one kind write the same bytes. A training that was interrupted
    goes on after its last whole epoch.
    """
    from bench.evaluate.calibration import fit_temperature

    model = config.model(name)
    suite = config.suites[model.suite]
    if model.options and model.family != "ssl":
        raise BenchError(
            f"a {model.family} model has no options.", where=f"params.yaml: models.{name}", remedy="Remove them."
        )
    device = compute.prepare(config.compute.model_copy(update={"threads": config.training.threads}), config.seed)
    dataset = config.original_of(model.suite)
    data, test = (samples.load(config, dataset, part) for part in ("train", "test"))
    n_classes = len(samples.classes(config, dataset))
    fit, validation = split(data.labels, config.training.validation_fraction, config.seed)

    start = time.perf_counter()
    kept = None
    if model.weights is not None:
        network, epochs = zoo.published(config, name).to(device), []
        if network.n_classes != n_classes:
            raise BenchError(
                f"its weights know {network.n_classes} classes, {dataset!r} has {n_classes}.",
                where=f"params.yaml: models.{name}.weights",
                remedy="Name another file, or another suite.",
            )
    else:
        network = zoo.build(model, suite, n_classes, compute.seed_of(config.seed, "weights", model.arch), name)
        images = network.resize(torch.from_numpy(data.images[fit])).contiguous()
        network.normalise_by(images)
        network.to(device)
        labels, seed = torch.from_numpy(data.labels[fit]), compute.seed_of(config.seed, "training", name)
        where, how = config.root / FOLDER / f"{name}.pt", config.compute.model_dump_json()
        told = (model.model_dump_json(), suite.model_dump_json(), how, config.training.threads, seed)
        kept = training.kept_at(where, *told, images, labels)
        start = time.perf_counter()
        epochs = trainer(model.family)(network, images.to(device), labels.to(device), model, seed, kept)
    seconds = time.perf_counter() - start

    heads, linear = _heads(config, name, network, Samples(data.ids[fit], data.labels[fit], data.images[fit]), test)
    if model.family != "supervised":
        _take_head(network, linear)
    logits = compute.forward(network, data.images[validation], config.compute)
    temperature = float(fit_temperature(logits, data.labels[validation]))
    checkpoint = zoo.path_of(config, name)
    zoo.save(network, checkpoint, arch=model.arch, temperature=temperature)
    _write(config, name, network, heads, epochs, temperature)
    if kept is not None:
        kept.done()
    return {
        "images": len(fit),
        "epochs": len(epochs),
        "images/s": round(len(fit) * len(epochs) / seconds),
        "heads": len(heads),
    }


def _heads(
    config: Config, name: str, network: Network, data: Samples, test: Samples
) -> tuple[list[dict[str, object]], probes.Linear]:
    """Rows of `representations`, and the linear head with all labels."""
    settings, n_classes = config.training.probes, network.n_classes
    features = compute.forward(network, data.images, config.compute, features=True)
    on_test = compute.forward(network, test.images, config.compute, features=True)
    shape = {"effective_rank": probes.effective_rank(on_test), "collapse_std": probes.collapse_std(on_test)}
    rows: list[dict[str, object]] = []

    def score(probe: str, per_class: int, seed: int, answers: np.ndarray, c: float | None) -> None:
        rows.append(
            {
                "model": name,
                "dataset": config.suites[config.model(name).suite].train,
                "probe": probe,
                "labels_per_class": per_class,
                "seed": seed,
                "accuracy": float((answers == test.labels).mean()),
                "n": len(test.labels),
                **shape,
                "c": c,
            }
        )

    def fit(chosen: np.ndarray, per_class: int, seed: int) -> probes.Linear:
        head = probes.fit_linear(features[chosen], data.labels[chosen], n_classes, settings, seed)
        score("linear", per_class, seed, head.logits(on_test).argmax(axis=1), head.c)
        for k in settings.knn_k:
            answers = probes.knn(features[chosen], data.labels[chosen], on_test, n_classes, k, settings.knn_temperature)
            score("knn" if k == settings.knn_k[0] else f"knn-{k}", per_class, seed, answers, None)
        return head

    linear = fit(np.arange(len(data.labels)), 0, config.seed)
    for per_class in settings.labels_per_class:
        for seed in settings.seeds:
            fit(probes.few_labels(data.labels, per_class, seed), per_class, seed)
    return rows, linear


@torch.no_grad()
def _take_head(network: Network, linear: probes.Linear) -> None:
    """Make the linear probe the head of the network."""
    network.head.weight.copy_(torch.from_numpy(linear.weight))
    network.head.bias.copy_(torch.from_numpy(linear.bias))


def _write(
    config: Config,
    name: str,
    network: Network,
    heads: list[dict[str, object]],
    epochs: list[Epoch],
    temperature: float,
) -> None:
    import pandas as pd

    model = config.model(name)
    suite = config.suites[model.suite]
    record = {
        "model": name,
        "family": model.family,
        "method": model.method,
        "ssl_family": SSL_FAMILY.get(model.method),
        "arch": model.arch,
        "head": "trained" if model.family == "supervised" else "linear",
        "train_dataset": suite.train,
        "params_m": sum(p.numel() for p in network.parameters()) / 1e6,
        "dtype": config.compute.dtype,
        "weights_sha256": tables.sha256(zoo.path_of(config, name)),
        "source": "trained" if model.weights is None else "checkpoint",
        "input_size": suite.input_size,
        "epochs": None if model.weights is not None else model.epochs,
        "temperature": temperature,
        "origin": None if model.weights is None else model.weights.origin,
    }
    rows = pd.DataFrame(
        [{"model": name, **asdict(epoch)} for epoch in epochs],
        columns=["model", "epoch", "loss", "collapse_std", "effective_rank"],
    )
    tables.write("models", pd.DataFrame([record]), config.results / "models" / f"{name}.parquet")
    tables.write("representations", pd.DataFrame(heads), config.results / "representations" / f"{name}.parquet")
    tables.write("training", rows, config.results / "training" / f"{name}.parquet")
