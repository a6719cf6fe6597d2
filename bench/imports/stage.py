"""The stage `imported`: predictions that were made elsewhere, checked against their datasets, become results."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from bench import progress
from bench.config import SSL_FAMILY, Config, Imported, file_stem
from bench.errors import BenchError
from bench.store import tables

if TYPE_CHECKING:
    import pandas as pd

CLEAN = "clean"
MEASURES = ("msp", "entropy_nats", "margin", "energy")


def run(config: Config) -> dict[str, int]:
    """Write results/imported/{predictions,uncertainty}/<model>.parquet and models.parquet; return counts.

    One model is in memory at a time. The folder is made beside its place and replaces it as a whole, so a fault leaves
    the old one. Raises BenchError naming the file where it is missing, is not the one that params.yaml pins, has not
    exactly one row for every test image of its dataset, or an answer that is no class of it.
    """
    out = config.results / "imported"
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    rows = 0
    try:
        (temporary / "predictions").mkdir(parents=True)
        (temporary / "uncertainty").mkdir()
        expected = _expected(config)
        for name, model in progress.bar(config.imported.items(), "imported"):
            rows += _write_model(config, name, model, expected, temporary)
        models = [_model_row(name, model, _train_dataset(config, model)) for name, model in config.imported.items()]
        tables.write("models", tables.stacked("models", [_frame(row) for row in models]), temporary / "models.parquet")
        shutil.rmtree(out, ignore_errors=True)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {"models": len(config.imported), "predictions": rows}


def _expected(config: Config) -> dict[str, tuple[pd.Index, int]]:
    """Dataset with imported predictions -> sorted ids of its test images, and the number of its classes."""
    import pandas as pd

    wanted = {dataset for model in config.imported.values() for dataset in model.datasets}
    if not wanted:
        return {}
    samples = tables.read("samples", config.results / "samples.parquet")
    test = samples.loc[samples["split"] == "test", ["dataset", "sample_id"]]
    described = tables.read("datasets", config.results / "datasets.parquet")
    known = dict(zip(described["dataset"], described["n_classes"], strict=True))
    found = {
        str(name): (pd.Index(part["sample_id"]).sort_values(), int(known[name]))
        for name, part in test.groupby("dataset")
        if name in wanted
    }
    absent = sorted(wanted - set(found))
    if absent:
        raise BenchError(
            f"has no test images of {', '.join(absent)}.",
            where=config.results / "samples.parquet",
            remedy="Run `dvc repro index`.",
        )
    return found


def _write_model(
    config: Config, name: str, model: Imported, expected: dict[str, tuple[pd.Index, int]], out: Path
) -> int:
    parts = [
        checked(config, name, dataset, *expected[dataset]).assign(model=name, dataset=dataset, condition=CLEAN)
        for dataset in model.datasets
    ]
    predictions = [part.drop(columns=list(MEASURES)) for part in parts]
    unsure = [
        part.loc[:, ["model", "dataset", "condition", "sample_id", *MEASURES]].assign(mutual_information=float("nan"))
        for part in parts
        if part[list(MEASURES)].notna().to_numpy().any()
    ]
    stem = f"{file_stem(name)}.parquet"
    for table, frames in (("predictions", predictions), ("uncertainty", unsure)):
        tables.write(table, tables.stacked(table, frames), out / table / stem, level=tables.FAST_LEVEL)
    return sum(len(part) for part in parts)


def checked(config: Config, name: str, dataset: str, ids: pd.Index, n_classes: int) -> pd.DataFrame:
    """Rows of table `imported` of one model and dataset, in the order of `ids`. BenchError as `run`."""
    import pandas as pd

    path = config.imported_predictions(name, dataset)
    preset = config.imported[name].fetched
    again = (
        f"Restore it with `dvc pull data.dvc`, or import it again: `bench import remove --model {name}` first."
        if preset is None
        else f"Fetch it again with `bench data fetch {preset}`."
    )
    if not path.is_file():
        raise BenchError("is missing.", where=path, remedy=again)
    if tables.sha256(path) != config.imported[name].datasets[dataset]:
        raise BenchError(
            f"is not the file that params.yaml pins (imported.{name}.datasets.{dataset}).", where=path, remedy=again
        )
    frame = tables.read("imported", path)
    found = pd.Index(frame["sample_id"])
    if not found.equals(ids):
        lacking, strange = ids.difference(found), found.difference(ids)
        said = [
            f"{len(rows):,} {what} (e.g. {rows[0]!r})"
            for rows, what in ((lacking, "test images without an answer"), (strange, "ids of no test image"))
            if len(rows)
        ]
        raise BenchError(
            f"does not fit the dataset {dataset!r}: {' and '.join(said)}.",
            where=path,
            remedy="The dataset was changed after the import; import the predictions of its images as they are now.",
        )
    for column, row, value in _outside(frame, n_classes):
        raise BenchError(
            f"`{column}` of {frame['sample_id'].iloc[row]!r} is {value}, but {dataset!r} has the classes 0 to "
            f"{n_classes - 1}.",
            where=path,
            remedy=again,
        )
    return frame


def _outside(frame: pd.DataFrame, n_classes: int) -> list[tuple[str, int, int]]:
    """The first answers that are no class, as (column, row, value): at most one of `pred` and one of `top5`."""
    import numpy as np

    pred = frame["pred"].to_numpy()
    known = np.flatnonzero(frame["top5"].notna().to_numpy())
    lists = list(frame["top5"].to_numpy()[known])
    rows = np.repeat(known, [len(one) for one in lists])
    found = []
    for column, values, at in (("pred", pred, np.arange(len(pred))), ("top5", np.concatenate([*lists, []]), rows)):
        bad = np.flatnonzero((values < 0) | (values >= n_classes))
        if len(bad):
            found.append((column, int(at[bad[0]]), int(values[bad[0]])))
    return found


def _train_dataset(config: Config, model: Imported) -> str:
    return config.suites[model.suite].train or "unknown"


def _model_row(name: str, model: Imported, train_dataset: str) -> dict[str, object]:
    return {
        "model": name,
        "family": model.family,
        "method": model.method,
        "ssl_family": SSL_FAMILY.get(model.method),
        "arch": model.arch,
        "head": "none",
        "train_dataset": train_dataset,
        "params_m": None,
        "dtype": "unknown",
        "weights_sha256": None,
        "source": "imported",
        "input_size": None,
        "epochs": None,
        "temperature": None,
        "origin": model.origin,
    }


def _frame(row: dict[str, object]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([row], dtype=object)
