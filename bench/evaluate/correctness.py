"""Who is right where: predictions, checked to be complete, and held against the labels of one source.

Millions of answers are kept as arrays of models x images of one dataset (`Answers`), never as rows with ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import compute
from bench.config import Config, file_stem
from bench.errors import BenchError
from bench.store import tables

if TYPE_CHECKING:
    import pyarrow as pa

CLEAN = "clean"
ORIGINAL = "original"
"""The label source that every image has exactly one label of."""
CONSENSUS = "consensus"
"""The label source that annotators here decide (bench/relabel/consensus.py)."""


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
    """Dataset -> the sources that label at least one of its images in `samples`: `original` first, `consensus` last.

    What uses one source besides the original takes the second: published labels before those that are in the making.
    """
    dataset = samples.set_index("sample_id")["dataset"]
    place = dataset.index.get_indexer(pd.Index(labels["sample_id"]))
    found = labels.loc[place >= 0, ["source"]].assign(dataset=dataset.to_numpy()[place[place >= 0]]).drop_duplicates()
    groups = found.groupby("dataset")["source"]
    return {str(name): sorted(sources, key=source_order) for name, sources in groups}


def source_order(source: str) -> tuple[bool, bool, str]:
    """What label sources are sorted by: `original` first, `consensus` last, the others by name."""
    return source != ORIGINAL, source == CONSENSUS, source


def evaluated_samples(config: Config) -> pd.DataFrame:
    """The rows of table `samples` that are evaluated, in the order of sample_id."""
    samples = tables.read("samples", config.results / "samples.parquet")
    return samples.loc[samples["split"] == "test"].reset_index(drop=True)


def suites_of_models(config: Config) -> dict[str, str]:
    """Model -> suite, of every model of params.yaml, every imported one and every ensemble (its members' suite)."""
    own = {name: model.suite for name, model in {**config.models, **config.imported}.items()}
    return own | {name: own[members[0]] for name, members in config.uncertainty.ensembles.items()}


def conditions(config: Config, dataset: str) -> list[str]:
    """The conditions under which a dataset is answered: clean, and where it is corrupted, each corruption."""
    wanted = config.corrupted(dataset)
    return [CLEAN, *(f"corruption:{name}:{s}" for name in wanted.names for s in wanted.severities)]


def answering(config: Config, dataset: str, condition: str = CLEAN) -> dict[str, Path]:
    """Model -> the file with its answers, of every model that answers to a dataset under a condition, by name.

    Ensembles and imported models answer to clean images only, the latter to the datasets that they list.
    """
    results, suite = config.results, config.dataset(dataset).suite
    found = {
        name: results / "predictions" / f"{name}.parquet"
        for name, model in config.models.items()
        if model.suite == suite
    }
    if condition == CLEAN:
        suites = suites_of_models(config)
        ensembles = results / "ensemble_predictions.parquet"
        found |= {name: ensembles for name in config.uncertainty.ensembles if suites[name] == suite}
        found |= {
            name: results / "imported" / "predictions" / f"{file_stem(name)}.parquet"
            for name, model in config.imported.items()
            if dataset in model.datasets
        }
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Answers:
    """What M models answered to the N test images of one dataset under one condition, or to those that are corrupted.

    `models` are in the order of their names, `ids` (N,) in their own; `pred` (M, N) are class ids, read from `files`.
    """

    dataset: str
    condition: str
    models: tuple[str, ...]
    ids: npt.NDArray[np.object_]
    pred: npt.NDArray[np.int32]
    files: tuple[Path, ...]

    def top(self, model: str, k: int = 5) -> npt.NDArray[np.int32]:
        """The k most probable classes of one model, best first, (N, k), -1 where not known; read when asked for."""
        path = self.files[self.models.index(model)]
        lists = _cell(path, model, self.dataset, self.condition, ["top5"]).column("top5").combine_chunks()
        out = np.full((len(self.ids), k), -1, np.int32)
        ends = np.cumsum(lengths := lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
        rank = np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
        kept = rank < k
        rows = np.repeat(np.arange(len(lengths)), lengths)
        out[rows[kept], rank[kept]] = lists.flatten().to_numpy(zero_copy_only=False)[kept]
        return out


def answers(config: Config, dataset: str, condition: str = CLEAN) -> Answers:
    """The answers of every model that answers to `dataset` under `condition`.

    Raises BenchError, naming the model, the dataset, the condition and the file, where one has not exactly one answer
    to every test image.
    """
    return next(each(config, [(dataset, condition)]))


def each(config: Config, cells: Iterable[tuple[str, str]]) -> Iterator[Answers]:
    """`answers` of several (dataset, condition), one after the other."""
    import pyarrow as pa

    samples = evaluated_samples(config)
    _check_shards(config, samples)
    for dataset, condition in cells:
        ids = samples.loc[samples["dataset"] == dataset, "sample_id"].to_numpy(object)
        if condition != CLEAN:
            ids = ids[compute.declared(ids, config.corrupted(dataset).n_images)]
        wanted, found = pa.array(ids, pa.string()), answering(config, dataset, condition)
        pred = np.empty((len(found), len(ids)), np.int32)
        for row, (model, path) in zip(pred, found.items(), strict=True):
            row[:] = _answers_of(path, model, dataset, condition, wanted)
        yield Answers(dataset, condition, tuple(found), ids, pred, tuple(found.values()))


def right(found: Answers, sets: LabelSets) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Whether each model (M, N) gives one of an image's labels, and whether an image (N,) has any: else nobody does."""
    rows, width = sets.rows(found.ids), sets.member.shape[1]
    labelled = rows >= 0
    out = np.empty(found.pred.shape, bool)
    for row, pred in zip(
        out, found.pred, strict=True
    ):  # one model at a time: indices of all would be 8 bytes an answer
        inside = labelled & (pred < width)
        row[:] = sets.member[rows, np.where(inside, pred, 0)] & inside
    return out, labelled


def attacked_predictions(config: Config) -> pd.DataFrame:
    """Table `predictions` of the attacked images. BenchError where a model of the pool lacks answers to some."""
    path = config.results / "attack_predictions.parquet"
    attacked = tables.read("predictions", path)
    _check_attacked(config, attacked, path)
    return attacked


def _cell(path: Path, model: str, dataset: str, condition: str, columns: list[str]) -> pa.Table:
    """Columns of the rows of one model, dataset and condition, in the order of the file: that of sample_id."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    which = [("model", "=", model), ("dataset", "=", dataset), ("condition", "=", condition)]
    try:
        return pq.read_table(path, columns=columns, filters=which)
    except FileNotFoundError:
        raise BenchError("is missing.", where=path, remedy="Run `dvc repro` (or `dvc pull`).") from None
    except (pa.ArrowException, OSError) as fault:
        raise _fault(f"cannot be read as predictions: {fault}", path) from None


def _check_shards(config: Config, samples: pd.DataFrame) -> None:
    """Every file of predictions is there, is one, and has answers to nothing but what is declared.

    A file that has as many rows as are declared is not looked into: its cells are, by whoever reads them.
    """
    import pyarrow.parquet as pq

    tables.shards(config.results / "predictions", config.models)
    tables.shards(config.results / "imported" / "predictions", map(file_stem, config.imported))
    sizes = samples["dataset"].value_counts().to_dict()
    declared: dict[Path, set[tuple[str, str, str]]] = {}
    for dataset in config.datasets:
        for condition in conditions(config, dataset):
            for model, path in answering(config, dataset, condition).items():
                declared.setdefault(path, set()).add((model, dataset, condition))
    for path, cells in declared.items():
        tables.check_schema("predictions", path)
        if pq.read_metadata(path).num_rows <= sum(sizes.get(dataset, 0) for _, dataset, _ in cells):
            continue
        keys = ["model", "dataset", "condition"]
        present = pq.read_table(path, columns=keys, read_dictionary=keys).group_by(keys).aggregate([])
        undeclared = sorted(set(zip(*(present.column(key).to_pylist() for key in keys), strict=True)) - cells)
        if undeclared:
            model, dataset, condition = undeclared[0]
            what = f"model {model!r} has answers to {dataset!r} under {condition!r}, which nothing declares"
            raise _fault(what, path)


def _answers_of(path: Path, model: str, dataset: str, condition: str, wanted: pa.Array) -> npt.NDArray[np.int32]:
    """The answers of one model to exactly the images `wanted`, in their order."""
    table = _cell(path, model, dataset, condition, ["sample_id", "pred"])
    ids = table.column("sample_id").combine_chunks()
    if not ids.equals(wanted):
        mine, known = Counter(ids.to_pylist()), Counter(wanted.to_pylist())
        strangers = sorted((mine - known).elements())
        if strangers and strangers[0] not in known:
            raise _fault(f"model {model!r} has answers to images that are no test images, e.g. {strangers[0]!r}", path)
        raise _fault(
            f"model {model!r} has answers to {len(ids)} of the {len(wanted)} test images of {dataset!r} under "
            f"{condition!r}",
            path,
        )
    return table.column("pred").to_numpy()


def _check_attacked(config: Config, attacked: pd.DataFrame, path: Path) -> None:
    """Every model of the pool has answers to the same images of each attack."""
    ids = attacked.groupby(["dataset", "condition", "model"])["sample_id"].agg(frozenset).to_dict()
    for name, attack in config.attack_runs.items():
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
