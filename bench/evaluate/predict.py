"""Stage: one model over every dataset of its suite, clean and corrupted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from bench import compute, progress
from bench.config import Config
from bench.data import cache, corruptions
from bench.data.samples import Samples
from bench.evaluate import logits as stored
from bench.evaluate.logits import CLEAN
from bench.store import tables

KEPT_BYTES = 2**31
"""Of the corrupted images of one dataset: those of a set that has more are made for every model."""


def run(config: Config, name: str) -> dict[str, int]:
    """Write results/predictions/<name>.parquet and results/logits/<name>.parquet (clean only), once all are computed.

    BenchError where the checkpoint or a dataset is wrong, or where logits are NaN or infinite.
    """
    from bench.models import zoo

    compute.prepare(config.compute, config.seed)
    network = zoo.load(config, name)
    answers, clean = [], []
    for dataset, condition, data in progress.bar(conditions(config, config.model(name).suite), f"predict {name}"):
        z = compute.forward(network, data.images, config.compute)
        rows = stored.answers(z, stored.softmax(z), data.ids, data.labels)
        answers.append(rows.assign(model=name, dataset=dataset, condition=condition))
        if condition == CLEAN:
            clean.append(pd.DataFrame({"dataset": dataset, "sample_id": data.ids, "logits": list(z)}))
    tables.write("logits", tables.stacked("logits", clean), config.results / "logits" / f"{name}.parquet")
    predictions = tables.stacked("predictions", answers)
    tables.write("predictions", predictions, config.results / "predictions" / f"{name}.parquet")
    return {"predictions": len(predictions), "datasets": len(clean)}


def conditions(config: Config, suite: str) -> Iterator[tuple[str, str, Samples]]:
    """(dataset, condition, test images) of everything that a model of `suite` is evaluated on."""
    for dataset in config.datasets_of(suite):
        data = cache.load(config, dataset)
        yield dataset, CLEAN, data
        for condition, some in _corrupted(config, dataset, data):
            yield dataset, condition, some


def kept(config: Config, dataset: str) -> dict[tuple[str, int], Path]:
    """Where the images of a dataset that is there are kept, by the name and severity of their corruption.

    As float32, as they are made: only impulse noise and JPEG give whole 255ths. Of 1,000 images of CIFAR-10 under 75
    conditions these are 0.9 GB, which are read in a second and made in 16.
    """
    wanted = config.corrupted(dataset)
    key = cache.key(config, dataset, wanted.n_images, config.seed, code=(corruptions,))
    pairs = itertools.product(wanted.names, wanted.severities)
    return {(name, severity): cache.path(config, dataset, f"{name}-{severity}", key) for name, severity in pairs}


def _corrupted(config: Config, dataset: str, data: Samples) -> Iterator[tuple[str, Samples]]:
    """(condition, images) of each corruption that a dataset is to be seen under, of its declared images."""
    wanted = config.corrupted(dataset)
    if not wanted.names:
        return
    some = data.rows(compute.declared(data.ids, wanted.n_images))
    paths = kept(config, dataset)
    small = len(paths) * some.images.nbytes <= KEPT_BYTES
    for (name, severity), path in paths.items():
        make = partial(corruptions.corrupt, some.images, some.ids, name, severity, config.seed)
        images = cache.array(path, some.images.shape, make) if small else make()
        yield f"corruption:{name}:{severity}", Samples(some.ids, some.labels, images)
