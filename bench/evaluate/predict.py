"""Stage: one model over every dataset of its suite, clean and corrupted."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from bench import compute, progress
from bench.config import Config
from bench.data import corruptions, samples
from bench.evaluate import logits as stored
from bench.evaluate.logits import CLEAN
from bench.store import tables


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


def conditions(config: Config, suite: str) -> Iterator[tuple[str, str, samples.Samples]]:
    """(dataset, condition, test images) of everything that a model of `suite` is evaluated on."""
    for dataset in config.datasets_of(suite):
        data = samples.load(config, dataset)
        yield dataset, CLEAN, data
        wanted = config.corrupted(dataset)
        some = data.rows(compute.declared(data.ids, wanted.n_images))
        for name in wanted.names:
            for severity in wanted.severities:
                images = corruptions.corrupt(some.images, some.ids, name, severity, config.seed)
                yield dataset, f"corruption:{name}:{severity}", samples.Samples(some.ids, some.labels, images)
