"""Who is right where: predictions, checked to be complete, and joined with the labels of one source."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.config import Config
from bench.errors import BenchError
from bench.store import tables

ORIGINAL = "original"
"""The label source that every image has exactly one label of."""


@dataclass(frozen=True)
class LabelSets:
    """The labels of one source; `member[i, c]` where the i-th image of `ids` has class c, at least one each."""

    ids: pd.Index
    member: npt.NDArray[np.bool_]

    def rows(self, sample_ids: Iterable[str]) -> npt.NDArray[np.int64]:
        """Row of each image in `member`, -1 where this source has no label for it."""
        return self.ids.get_indexer(pd.Index(sample_ids)).astype(np.int64)

    def sizes(self, sample_ids: Iterable[str]) -> npt.NDArray[np.int64]:
        """Number of labels of each image, 0 where this source has none for it."""
        return np.append(self.member.sum(axis=1), 0)[self.rows(sample_ids)]

    def contains(self, sample_ids: Iterable[str], classes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether each image (N,) has each class, `classes` (N,) or (N, k); False where it has no label at all."""
        classes = np.asarray(classes, np.int64)
        rows = self.rows(sample_ids).reshape(-1, *[1] * (classes.ndim - 1))
        width = self.member.shape[1]
        inside = (rows >= 0) & (classes < width)
        return inside & self.member[rows, np.minimum(classes, width - 1)]


def label_sets(labels: pd.DataFrame, source: str) -> LabelSets:
    """The label sets of `source` in table `labels`: every class whose weight is above 0."""
    mine = labels.loc[(labels["source"] == source) & (labels["weight"] > 0)]
    if mine.empty:
        raise BenchError(f"there are no labels of source {source!r}.", where="labels", remedy="Run `dvc repro index`.")
    codes, ids = pd.factorize(mine["sample_id"], sort=True)
    classes = mine["class_id"].to_numpy(np.int64)
    member = np.zeros((len(ids), int(classes.max()) + 1), bool)
    member[codes, classes] = True
    return LabelSets(pd.Index(ids), member)


def sources_of(labels: pd.DataFrame, samples: pd.DataFrame) -> dict[str, list[str]]:
    """Dataset -> the sources that label at least one of its images in `samples`, `original` first."""
    dataset = samples.set_index("sample_id")["dataset"]
    place = dataset.index.get_indexer(pd.Index(labels["sample_id"]))
    found = labels.loc[place >= 0, ["source"]].assign(dataset=dataset.to_numpy()[place[place >= 0]]).drop_duplicates()
    groups = found.groupby("dataset")["source"]
    return {str(name): sorted(sources, key=lambda s: (s != ORIGINAL, s)) for name, sources in groups}


def correct(predictions: pd.DataFrame, labels: pd.DataFrame, source: str) -> npt.NDArray[np.float64]:
    """1 where `pred` is among the image's labels of `source`, 0 where not, NaN where it has none. (len(predictions),)

    With one label an image (`original`) this is top-1, with several it is any-of.
    """
    sets = label_sets(labels, source)
    right = sets.contains(predictions["sample_id"], predictions["pred"].to_numpy()).astype(float)
    right[sets.rows(predictions["sample_id"]) < 0] = np.nan
    return right


def right_matrix(
    predictions: pd.DataFrame, labels: pd.DataFrame, dataset: str, source: str = ORIGINAL, condition: str = "clean"
) -> pd.DataFrame:
    """Models x images of `dataset` that `source` labels: True where the model is right. Both axes are sorted."""
    mine = predictions.loc[(predictions["dataset"] == dataset) & (predictions["condition"] == condition)]
    wide = mine.assign(right=correct(mine, labels, source)).pivot(index="model", columns="sample_id", values="right")
    return wide.dropna(axis=1).astype(bool)


def evaluated_samples(config: Config) -> pd.DataFrame:
    """The rows of table `samples` that are evaluated, in the order of sample_id."""
    samples = tables.read("samples", config.results / "samples.parquet")
    return samples.loc[samples["split"] == "test"].reset_index(drop=True)


def suites_of_models(config: Config) -> dict[str, str]:
    """Model -> suite, of every model of params.yaml and every ensemble (its members' suite)."""
    own = {name: model.suite for name, model in config.models.items()}
    return own | {name: own[members[0]] for name, members in config.uncertainty.ensembles.items()}


def all_predictions(config: Config, *, attacked: bool = False) -> pd.DataFrame:
    """Predictions of every model and ensemble, with `attacked` also those of attacked images.

    Raises BenchError, naming the model, the dataset, the condition and the file, unless each model has exactly one
    answer to every test image of every dataset of its suite, clean and, where declared, corrupted.
    """
    results, samples = config.results, evaluated_samples(config)
    frames = [tables.read_shards("predictions", results / "predictions", config.models)]
    ensembles = results / "ensemble_predictions.parquet"
    frames.append(tables.read("predictions", ensembles))
    suites = suites_of_models(config)
    for name in config.models:
        _check(frames[0], name, _expected(config, suites[name]), samples, results / "predictions" / f"{name}.parquet")
    for name in config.uncertainty.ensembles:
        clean = [(dataset, "clean") for dataset in config.datasets_of(suites[name])]
        _check(frames[1], name, clean, samples, ensembles)
    if attacked:
        path = results / "attack_predictions.parquet"
        frames.append(tables.read("predictions", path))
        _check_attacked(config, frames[-1], path)
    return pd.concat(frames, ignore_index=True)


def _expected(config: Config, suite: str) -> list[tuple[str, str]]:
    """The (dataset, condition) pairs that a model of `suite` answers to."""
    datasets = config.datasets_of(suite)
    corruptions = config.corruptions
    return [(dataset, "clean") for dataset in datasets] + [
        (dataset, f"corruption:{name}:{severity}")
        for dataset in corruptions.datasets
        if dataset in datasets
        for name in corruptions.names
        for severity in corruptions.severities
    ]


def _check(
    predictions: pd.DataFrame, model: str, expected: list[tuple[str, str]], samples: pd.DataFrame, path: Path
) -> None:
    mine = predictions.loc[predictions["model"] == model]
    known = samples["sample_id"].to_numpy(str)
    place = pd.Index(known).get_indexer(pd.Index(mine["sample_id"]))
    datasets = samples["dataset"].to_numpy(str)
    strangers = (place < 0) | (datasets[place] != mine["dataset"].to_numpy(str))
    if strangers.any():
        example = mine["sample_id"].to_numpy()[strangers][0]
        raise _fault(f"model {model!r} has answers to images that are no test images, e.g. {example!r}", path)
    wanted = samples["dataset"].value_counts().to_dict()
    got = mine.groupby(["dataset", "condition"], sort=False).size().to_dict()
    for dataset, condition in expected:
        have, need = got.pop((dataset, condition), 0), wanted.get(dataset, 0)
        if have != need:
            raise _fault(
                f"model {model!r} has answers to {have} of the {need} test images of {dataset!r} under {condition!r}",
                path,
            )
    if got:
        dataset, condition = next(iter(got))
        raise _fault(f"model {model!r} has answers to {dataset!r} under {condition!r}, which nothing declares", path)


def _check_attacked(config: Config, attacked: pd.DataFrame, path: Path) -> None:
    """Every model of the pool has answers to the same images of each attack."""
    ids = attacked.groupby(["dataset", "condition", "model"])["sample_id"].agg(frozenset).to_dict()
    for name, attack in config.attacks.runs.items():
        pool = config.attack_pool(attack.dataset)
        for condition in (f"attack:{name}:{eps:g}" for eps in attack.eps_255):
            found = {model: ids.get((attack.dataset, condition, model), frozenset()) for model in pool}
            need = len(frozenset().union(*found.values()))
            for model, images in found.items():
                if not images or len(images) < need:
                    what = f"model {model!r} has answers to {len(images)} of the {need} attacked images"
                    raise _fault(f"{what} of {attack.dataset!r} under {condition!r}", path)


def _fault(what: str, path: Path) -> BenchError:
    return BenchError(f"{what}.", where=path, remedy="Delete the file and run `dvc repro`.")
