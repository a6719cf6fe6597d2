"""Every figure of every model: on each dataset, condition, subset and label source, with an interval and n.

| metric | label source | what it is |
|---|---|---|
| top1 | original | share of images whose label is predicted |
| any_of | others | share of the images with labels for which any of them is predicted (ReaL accuracy) |
| any_of_empty_wrong | others | the same over all images: those without labels count as wrong |
| class_balanced | all | mean over the original classes of the share right in each; images without labels left out |
| top_k | others | mean of |top k predictions ∩ labels| / k, k = the number of labels, where the top 5 reach that far |
| robust_accuracy | original | share right on the clean and on the attacked image, over the attacked images (`attack`) |
| ece, nll, ... | original | from the stage `uncertainty`, as they are |

On the subset `suitable`, robust_accuracy is over those of its images that are attacked.

Intervals: Wilson for shares of images, percentile bootstrap over images for class_balanced and top_k.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import compute, stats
from bench.config import Config
from bench.evaluate import correctness
from bench.evaluate.correctness import CLEAN, ORIGINAL, Answers, LabelSets
from bench.store import tables

Flags = npt.NDArray[np.bool_]

CELL = ["model", "dataset", "condition"]
DIGITS = 6
"""Decimals of the figures in metrics.json and plots/: what git keeps and people read."""


def run(config: Config) -> dict[str, int]:
    """Write results/metrics.parquet, metrics.json and plots/*.csv."""
    results = config.results
    samples = correctness.evaluated_samples(config)
    labels = tables.read("labels", results / "labels.parquet")
    members = tables.read("subset_members", results / "subset_members.parquet")
    members = members.merge(samples[["sample_id", "dataset"]])
    training = tables.read_shards("training", results / "training", config.models)
    attacked = correctness.attacked_predictions(config)
    sources = correctness.sources_of(labels, samples)
    sets = {source: correctness.label_sets(labels, source) for source in sorted(set().union(*sources.values()))}

    frames = [tables.read("metrics", results / "calibration.parquet")]
    cells = [(name, condition) for name in config.datasets for condition in correctness.conditions(config, name)]
    for found in correctness.each(config, cells):
        if not found.models:
            continue
        mine = samples.loc[samples["dataset"] == found.dataset, "label"].to_numpy(np.int64)
        subsets = _subsets(found, members)
        for source in sources[found.dataset]:
            right, labelled = correctness.right(found, sets[source])
            metric = "top1" if source == ORIGINAL else "any_of"
            frames += [
                _shares(config, found, right, labelled & kept, subset, source, metric)
                for subset, kept in subsets.items()
            ]
            if source != ORIGINAL:
                every = np.ones_like(labelled)
                frames.append(_shares(config, found, right, every, "all", source, "any_of_empty_wrong"))
            if found.condition == CLEAN:
                frames.append(_class_balanced(config, found, right, labelled, mine, source))
                if source != ORIGINAL:
                    frames.append(_top_k(config, found, sets[source], source))
    frames += _robust(config, attacked, sets[ORIGINAL], members)

    written = tables.write("metrics", tables.stacked("metrics", frames), results / "metrics.parquet")
    _write_summary(config, written)
    _write_plots(config, written, training)
    return {"figures": len(written)}


def _subsets(found: Answers, members: pd.DataFrame) -> dict[str, Flags]:
    """Subset -> which images (N,) are in it: all under every condition, the named ones for clean images."""
    out = {"all": np.ones(len(found.ids), bool)}
    if found.condition == CLEAN:
        ids = pd.Index(found.ids)
        mine = members.loc[members["dataset"] == found.dataset].groupby("subset")["sample_id"]
        out |= {str(subset): ids.isin(rows.to_numpy()) for subset, rows in mine}
    return out


def _rows(figures: pd.DataFrame, subset: str, source: str, metric: str) -> pd.DataFrame:
    return figures.assign(subset=subset, label_source=source, metric=metric)


def _shares(
    config: Config, found: Answers, right: Flags, among: Flags, subset: str, source: str, metric: str
) -> pd.DataFrame:
    """The share of `right` (M, N) among some images (N,) of every model, with Wilson's interval; none of no images."""
    n = int(among.sum())
    if not n:
        return pd.DataFrame()
    k = (right & among).sum(axis=1)
    low, high = stats.wilson(k, n, config.statistics.confidence)
    figures = {"model": found.models, "value": k / n, "ci_low": low, "ci_high": high}
    where = {"dataset": found.dataset, "condition": found.condition, "n": n}
    return _rows(pd.DataFrame(figures).assign(**where), subset, source, metric)


def _with_interval(cell: Any, value: float, interval: stats.Interval, n: int) -> dict[str, object]:
    return {**dict(zip(CELL, cell, strict=True)), "value": value, "ci_low": interval[0], "ci_high": interval[1], "n": n}


def _class_balanced(
    config: Config, found: Answers, right: Flags, labelled: Flags, original: npt.NDArray[np.int64], source: str
) -> pd.DataFrame:
    n = np.bincount(original[labelled])
    present = n > 0

    def of(model: str, row: Flags) -> dict[str, object]:
        k = np.bincount(original[labelled], row[labelled]).astype(np.int64)
        cell = (model, found.dataset, found.condition)
        interval = stats.bootstrap_class_balanced(
            k[present],
            n[present],
            compute.rng(config.seed, "class_balanced", *cell, source),
            draws=config.statistics.bootstrap,
            confidence=config.statistics.confidence,
        )
        return _with_interval(cell, float((k[present] / n[present]).mean()), interval, int(n.sum()))

    with ThreadPoolExecutor(config.compute.threads) as pool:  # a million binomials a model, drawn outside of the GIL
        rows = list(pool.map(of, found.models, right))
    return _rows(pd.DataFrame(rows), "all", source, "class_balanced")


def _top_k(config: Config, found: Answers, sets: LabelSets, source: str) -> pd.DataFrame:
    """Over the images whose labels are no more than the answers that are known of a model; none where there is none."""
    sizes = sets.sizes(found.ids)
    rows = []
    for model in found.models:
        top = found.top(model)
        reached = (sizes > 0) & (sizes <= (top >= 0).sum(axis=1))
        if not reached.any():
            continue
        inside = sets.contains(found.ids, np.maximum(top, 0)) & (top >= 0) & (np.arange(top.shape[1]) < sizes[:, None])
        hits = inside[reached].sum(axis=1) / sizes[reached]
        cell = (model, found.dataset, found.condition)
        interval = stats.bootstrap_mean(
            hits,
            compute.rng(config.seed, "top_k", *cell, source),
            draws=config.statistics.bootstrap,
            confidence=config.statistics.confidence,
        )
        rows.append(_with_interval(cell, float(hits.mean()), interval, len(hits)))
    return _rows(pd.DataFrame(rows), "all", source, "top_k") if rows else pd.DataFrame()


def _robust(config: Config, attacked: pd.DataFrame, sets: LabelSets, members: pd.DataFrame) -> list[pd.DataFrame]:
    """On the subset `attack`, and on those of its images that are `suitable` (right by every model of the pool)."""
    suitable = members.loc[members["subset"] == "suitable", "sample_id"]
    clean = {dataset: correctness.answers(config, dataset) for dataset in attacked["dataset"].unique()}
    frames = []
    for cell in attacked[CELL].drop_duplicates().itertuples(index=False, name=None):
        model, dataset, _ = cell
        mine = attacked.loc[(attacked[CELL] == list(cell)).all(axis=1)]
        before = clean[dataset]
        rows = pd.Index(before.ids).get_indexer(pd.Index(mine["sample_id"]))
        given = before.pred[before.models.index(model), rows]
        kept = sets.contains(mine["sample_id"], mine["pred"]) & sets.contains(mine["sample_id"], given)
        for subset, among in (("attack", np.ones_like(kept)), ("suitable", mine["sample_id"].isin(suitable))):
            n, k = int(np.sum(among)), int(np.sum(kept & among))
            if n:
                low, high = stats.wilson(k, n, config.statistics.confidence)
                row = _with_interval(cell, k / n, (float(low), float(high)), n)
                frames.append(_rows(pd.DataFrame([row]), subset, ORIGINAL, "robust_accuracy"))
    return frames


def _write_summary(config: Config, metrics: pd.DataFrame) -> None:
    """metrics.json: model -> dataset -> top1, for `dvc metrics show` and `diff`."""
    keep = (metrics["metric"] == "top1") & (metrics["subset"] == "all") & (metrics["condition"] == "clean")
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for row in metrics.loc[keep].itertuples():
        summary.setdefault(str(row.model), {})[str(row.dataset)] = {"top1": round(float(row.value), DIGITS)}
    with tables.replacing(config.root / "metrics.json") as path:
        path.write_text(json.dumps(summary, indent=2, sort_keys=True) + "\n")


def _write_plots(config: Config, metrics: pd.DataFrame, training: pd.DataFrame) -> None:
    """plots/*.csv, for `dvc plots show` and `diff`. Severity and eps 0 are the clean images."""
    interval = ["ci_low", "ci_high", "n"]
    top1 = metrics.loc[metrics["metric"] == "top1"].rename(columns={"value": "top1"})
    everything = top1.loc[top1["subset"] == "all"]
    clean = everything.loc[everything["condition"] == "clean"]
    _write_csv(config, "accuracy", clean, ["model", "dataset", "top1", *interval])

    corrupted = _split_condition(everything, "corruption", ["corruption", "severity"])
    start = clean.merge(corrupted[["model", "dataset", "corruption"]].drop_duplicates()).assign(severity="0")
    corrupted = pd.concat([start, corrupted]).astype({"severity": int})
    _write_csv(config, "corruption", corrupted, ["model", "dataset", "corruption", "severity", "top1", *interval])

    robust = metrics.loc[(metrics["metric"] == "robust_accuracy") & (metrics["subset"] == "attack")]
    robust = _split_condition(robust, "attack", ["attack", "eps_255"]).rename(columns={"value": "robust_accuracy"})
    start = top1.loc[top1["subset"] == "attack"].rename(columns={"top1": "robust_accuracy"})
    start = start.merge(robust[["model", "dataset", "attack"]].drop_duplicates()).assign(eps_255="0")
    robust = pd.concat([start, robust]).astype({"eps_255": float})
    _write_csv(config, "attack", robust, ["model", "dataset", "attack", "eps_255", "robust_accuracy", *interval])

    _write_csv(config, "training", training, ["model", "epoch", "loss", "collapse_std", "effective_rank"])


def _split_condition(metrics: pd.DataFrame, kind: str, names: list[str]) -> pd.DataFrame:
    """The rows whose condition is `<kind>:<a>:<b>`, with a and b as columns called `names`."""
    mine = metrics.loc[metrics["condition"].str.startswith(f"{kind}:")]
    parts = [condition.split(":")[1:] for condition in mine["condition"]]
    return mine.assign(**{name: [part[i] for part in parts] for i, name in enumerate(names)})


def _write_csv(config: Config, name: str, frame: pd.DataFrame, columns: list[str]) -> None:
    by = [c for c in columns if c in ("model", "dataset", "corruption", "severity", "attack", "eps_255", "epoch")]
    with tables.replacing(config.root / "plots" / f"{name}.csv") as path:
        frame.loc[:, columns].sort_values(by).round(DIGITS).to_csv(path, index=False)
