"""The stage `train`: one network with its heads, or a control, from the train split of its suite."""

from __future__ import annotations

import importlib.metadata
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench import compute
from bench.config import SSL_FAMILY, Config, Family, Model
from bench.data import samples
from bench.data.samples import Samples
from bench.errors import BenchError
from bench.models import augment, probes, training, zoo
from bench.models.training import Epoch, Labelled, Setting
from bench.models.zoo import Network
from bench.store import tables

Trainer = Callable[[Network, Tensor, Tensor, Model, int, Setting], list[Epoch]]
FOLDER = ".training"
"""Where trainings are kept until they are done."""
_PRETRAINED = "published with timm, and got from there when it was run; what it was trained on is said there"


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


def run(config: Config, name: str) -> dict[str, int]:
    """Train model `name`, fit its head and temperature, and write its checkpoint and two tables.

    The network and the head see the fitting part of train, the temperature the rest of train (published weights may
    have seen both). By the rest and by the test split a training is watched, and nothing is chosen. Speed goes to the
    log line, never into a table, so that two machines of one kind write the same bytes. A training that was interrupted
    goes on after its last whole epoch. In a suite that names nothing to train on, published weights are taken as they
    are, without a temperature.
    """
    from bench.evaluate.calibration import fit_temperature

    model = config.model(name)
    suite = config.suites[model.suite]
    if model.options and model.family in ("random", "pixels"):
        raise BenchError(
            f"a {model.family} model has no options.", where=f"params.yaml: models.{name}", remedy="Remove them."
        )
    device = compute.prepare(config.compute.model_copy(update={"threads": config.training.threads}), config.seed)
    dataset = config.original_of(model.suite)
    if suite.train is None:
        network = _published(config, name, dataset)
        zoo.rounded(network, model.stored)
        zoo.save(network, zoo.path_of(config, name), model.stored, arch=model.arch, temperature=None, c=None)
        _write(config, name, network, [], None)
        return {"networks": 1}
    data, test = (samples.load(config, dataset, part) for part in ("train", "test"))
    n_classes = len(samples.classes(config, dataset))
    fit, validation = probes.split(config, model, data.labels)

    start = time.perf_counter()
    kept = None
    if model.published:
        network, epochs = _published(config, name, dataset).to(device), []
    else:
        again = (model.seed,) if model.seed else ()
        network = zoo.build(model, suite, n_classes, compute.seed_of(config.seed, "weights", model.arch, *again), name)
        images, labels = _labelled(network, data, fit, device)
        network.normalise_by(images)
        network.to(device)
        network.mixed = model.mixed
        if model.mixed:
            network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        seed = compute.seed_of(config.seed, "training", name)
        where, how = config.root / FOLDER / f"{name}.pt", config.compute.model_dump_json()
        train = trainer(model.family)
        told = (model.model_dump_json(), suite.model_dump_json(), how, config.training.threads, seed, *_code(train))
        kept = training.kept_at(where, *told, images, labels)
        watched = training.Watched(
            _labelled(network, data, validation, device), _labelled(network, test, np.arange(len(test.labels)), device)
        )
        setting = training.Setting(augment.RECIPES[suite.augmentation], kept, watched)
        start = time.perf_counter()
        epochs = train(network, images, labels, model, seed, setting)
        network.mixed = False
    seconds = time.perf_counter() - start

    c = None
    zoo.rounded(network, model.stored)
    if model.family != "supervised":
        features = compute.forward(network, data.images[fit], config.compute, features=True)
        linear = probes.fit_linear(features, data.labels[fit], n_classes, config.training.probes, config.seed)
        network.take_head(linear.weight, linear.bias)
        zoo.rounded(network, model.stored)
        c = linear.c
    logits = compute.forward(network, data.images[validation], config.compute)
    temperature = float(fit_temperature(logits, data.labels[validation]))
    zoo.save(network, zoo.path_of(config, name), model.stored, arch=model.arch, temperature=temperature, c=c)
    _write(config, name, network, epochs, temperature)
    if kept is not None:
        kept.done()
    return {"images": len(fit), "epochs": len(epochs), "images/s": round(len(fit) * len(epochs) / seconds)}


def _code(train: Trainer) -> list[str]:
    """What a training is made by, besides torch: one that was interrupted does not go on with another."""
    modules = (augment, training, zoo, sys.modules[train.__module__])
    sources = [tables.sha256(Path(str(module.__file__))) for module in modules]
    return [*sources, *(importlib.metadata.version(name) for name in ("lightly", "timm"))]


def _published(config: Config, name: str, dataset: str) -> Network:
    """The network of published weights. BenchError where they know another number of classes than `dataset` has."""
    n_classes = len(samples.classes(config, dataset))
    network = zoo.published(config, name, n_classes)
    if network.n_classes != n_classes:
        key = "weights" if config.model(name).weights is not None else "pretrained"
        raise BenchError(
            f"its weights know {network.n_classes} classes, {dataset!r} has {n_classes}.",
            where=f"params.yaml: models.{name}.{key}",
            remedy="Name another file, or another suite.",
        )
    return network


def _labelled(network: Network, data: Samples, chosen: np.ndarray, device: torch.device) -> Labelled:
    """Some images at the size that the network sees, and their labels, on `device`."""
    images = network.resize(torch.from_numpy(data.images[chosen])).contiguous()
    return images.to(device), torch.from_numpy(data.labels[chosen]).to(device)


def _write(
    config: Config,
    name: str,
    network: Network,
    epochs: list[Epoch],
    temperature: float | None,
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
        "train_dataset": suite.train or "unknown",
        "params_m": sum(p.numel() for p in network.parameters()) / 1e6,
        "dtype": config.compute.dtype,
        "weights_sha256": tables.sha256(zoo.path_of(config, name)),
        "source": "hub" if model.pretrained else "checkpoint" if model.weights is not None else "trained",
        "input_size": network.input_size,
        "epochs": None if model.published else model.epochs,
        "temperature": temperature,
        "origin": model.weights.origin if model.weights is not None else _PRETRAINED if model.pretrained else None,
    }
    rows = pd.DataFrame(
        [{"model": name, **asdict(epoch)} for epoch in epochs],
        columns=["model", *(field.name for field in fields(Epoch))],
    )
    tables.write("models", pd.DataFrame([record]), config.results / "models" / f"{name}.parquet")
    tables.write("training", rows, config.results / "training" / f"{name}.parquet")
