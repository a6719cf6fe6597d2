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
from typing import Any

import numpy as np
import pandas as pd

from bench import compute, stats
from bench.config import Config
from bench.evaluate import correctness
from bench.evaluate.correctness import ORIGINAL
from bench.store import tables

CELL = ["model", "dataset", "condition"]
DIGITS = 6
"""Decimals of the figures in metrics.json and plots/: what git keeps and people read."""


def run(config: Config) -> dict[str, int]:
    """Write results/metrics.parquet, metrics.json and plots/*.csv."""
    results = config.results
    samples = correctness.evaluated_samples(config)
    labels = tables.read("labels", results / "labels.parquet")
    members = tables.read("subset_members", results / "subset_members.parquet")
    training = tables.read_shards("training", results / "training", config.models)
    predictions = correctness.all_predictions(config, attacked=True)
    attacked = predictions["condition"].str.startswith("attack:")
    answers, attacks = predictions.loc[~attacked].reset_index(drop=True), predictions.loc[attacked]
    answers = answers.assign(right=correctness.correct(answers, labels, ORIGINAL))

    frames = [tables.read("metrics", results / "calibration.parquet")]
    frames += _accuracies(config, answers, members, ORIGINAL, "top1")
    clean = answers.loc[answers["condition"] == "clean"]
    frames.append(_class_balanced(config, clean, samples, ORIGINAL))
    by_source: dict[str, list[str]] = {}
    for dataset, sources in correctness.sources_of(labels, samples).items():
        for source in sources:
            by_source.setdefault(source, []).append(dataset)
    for source in sorted(set(by_source) - {ORIGINAL}):
        mine = answers.loc[answers["dataset"].isin(by_source[source])]
        mine = mine.assign(right=correctness.correct(mine, labels, source))
        frames += _accuracies(config, mine, members, source, "any_of")
        empty_wrong = mine.assign(right=mine["right"].fillna(0.0))
        frames.append(_shares(config, empty_wrong, "all", source, "any_of_empty_wrong"))
        mine = mine.loc[mine["condition"] == "clean"]
        frames.append(_class_balanced(config, mine, samples, source))
        frames.append(_top_k(config, mine, correctness.label_sets(labels, source), source))
    frames += _robust(config, clean, attacks, labels, members)

    written = tables.write("metrics", pd.concat(frames), results / "metrics.parquet")
    _write_summary(config, written)
    _write_plots(config, written, training)
    return {"figures": len(written)}


def _rows(figures: pd.DataFrame, subset: str, source: str, metric: str) -> pd.DataFrame:
    return figures.assign(subset=subset, label_source=source, metric=metric)


def _shares(config: Config, answers: pd.DataFrame, subset: str, source: str, metric: str) -> pd.DataFrame:
    """The share of `right` in every cell, NaN left out, with Wilson's interval."""
    counts = answers.groupby(CELL)["right"].agg(["sum", "count"]).reset_index()
    counts = counts.loc[counts["count"] > 0]
    low, high = stats.wilson(counts["sum"], counts["count"], config.statistics.confidence)
    figures = counts[CELL].assign(value=counts["sum"] / counts["count"], ci_low=low, ci_high=high, n=counts["count"])
    return _rows(figures, subset, source, metric)


def _accuracies(
    config: Config, answers: pd.DataFrame, members: pd.DataFrame, source: str, metric: str
) -> list[pd.DataFrame]:
    """Shares over all images under every condition, and over each subset for clean images."""
    frames = [_shares(config, answers, "all", source, metric)]
    clean = answers.loc[answers["condition"] == "clean"]
    for subset, ids in members.groupby("subset")["sample_id"]:
        frames.append(_shares(config, clean.loc[clean["sample_id"].isin(ids)], str(subset), source, metric))
    return frames


def _with_interval(cell: Any, value: float, interval: stats.Interval, n: int) -> dict[str, object]:
    return {**dict(zip(CELL, cell, strict=True)), "value": value, "ci_low": interval[0], "ci_high": interval[1], "n": n}


def _class_balanced(config: Config, clean: pd.DataFrame, samples: pd.DataFrame, source: str) -> pd.DataFrame:
    labelled = clean.loc[clean["right"].notna()]
    original = samples.set_index("sample_id")["label"].loc[labelled["sample_id"]].to_numpy()
    counts = labelled.assign(label=original).groupby([*CELL, "label"])["right"].agg(["sum", "count"])
    rows = []
    for cell, mine in counts.groupby(level=CELL):
        k, n = mine["sum"].to_numpy(), mine["count"].to_numpy()
        interval = stats.bootstrap_class_balanced(
            k,
            n,
            compute.rng(config.seed, "class_balanced", *cell, source),
            draws=config.statistics.bootstrap,
            confidence=config.statistics.confidence,
        )
        rows.append(_with_interval(cell, float((k / n).mean()), interval, int(n.sum())))
    return _rows(pd.DataFrame(rows), "all", source, "class_balanced")


def _top_k(config: Config, clean: pd.DataFrame, sets: correctness.LabelSets, source: str) -> pd.DataFrame:
    sizes = sets.sizes(clean["sample_id"])
    top = np.stack(clean["top5"].tolist())
    found = sets.contains(clean["sample_id"], top) & (np.arange(top.shape[1]) < sizes[:, None])
    reached = (sizes > 0) & (sizes <= top.shape[1])
    hits = clean.loc[reached, CELL].assign(hit=found[reached].sum(axis=1) / sizes[reached])
    rows = []
    for cell, mine in hits.groupby(CELL)["hit"]:
        interval = stats.bootstrap_mean(
            mine.to_numpy(),
            compute.rng(config.seed, "top_k", *cell, source),
            draws=config.statistics.bootstrap,
            confidence=config.statistics.confidence,
        )
        rows.append(_with_interval(cell, float(mine.mean()), interval, len(mine)))
    return _rows(pd.DataFrame(rows), "all", source, "top_k")


def _robust(
    config: Config, clean: pd.DataFrame, attacks: pd.DataFrame, labels: pd.DataFrame, members: pd.DataFrame
) -> list[pd.DataFrame]:
    """On the subset `attack`, and on those of its images that are `suitable` (right by every model of the pool)."""
    if attacks.empty:
        return []
    before = clean.set_index(["model", "sample_id"])["right"]
    before = before.loc[pd.MultiIndex.from_frame(attacks.loc[:, ["model", "sample_id"]])].to_numpy()
    both = attacks.assign(right=correctness.correct(attacks, labels, ORIGINAL) * before)
    suitable = members.loc[members["subset"] == "suitable", "sample_id"]
    return [
        _shares(config, both, "attack", ORIGINAL, "robust_accuracy"),
        _shares(config, both.loc[both["sample_id"].isin(suitable)], "suitable", ORIGINAL, "robust_accuracy"),
    ]


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
