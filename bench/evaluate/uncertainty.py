"""Stage: how unsure each model is of each clean image, the ensembles, and the calibration of all of them. No torch.

Every score is higher where the model is less sure, and is computed from float64 logits without forming 1 - p, which
loses all digits where p rounds to 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from bench import compute, schemas, stats
from bench.config import Config
from bench.evaluate import calibration, correctness
from bench.evaluate import logits as stored
from bench.evaluate.logits import CLEAN, Floats, softmax
from bench.store import tables

SUBSET, LABELS = "all", "original"


def scores(logits: npt.ArrayLike) -> dict[str, Floats]:
    """msp, entropy_nats, margin and energy of logits (N, K), each (N,).

    msp = 1 - p1 as the sum of the other probabilities; margin = 1 - (p1 - p2); entropy of the softmax in nats;
    energy = -logsumexp(z). Sources: Hendrycks & Gimpel 2017 (msp), Liu et al. 2020 (energy).
    """
    z = np.asarray(logits, np.float64)
    below = z - z.max(axis=1, keepdims=True)
    e = np.exp(below)
    e[np.arange(len(e)), z.argmax(axis=1)] = 0.0
    others = e.sum(axis=1)
    total = 1 + others
    return {
        "msp": others / total,
        "entropy_nats": np.log1p(others) - (e * below).sum(axis=1) / total,
        "margin": (others + e.max(axis=1)) / total,
        "energy": -(z.max(axis=1) + np.log1p(others)),
    }


def scores_of_probabilities(probabilities: Floats) -> dict[str, Floats]:
    """msp, entropy_nats and margin of probabilities (N, K), each (N,): for ensembles, which have no logits."""
    p = probabilities.copy()
    everyone, top = np.arange(len(p)), p.argmax(axis=1)
    p[everyone, top] = 0.0
    others = p.sum(axis=1)
    return {
        "msp": others,
        "entropy_nats": special.entr(p).sum(axis=1) - (1 - others) * np.log1p(-others),
        "margin": others + p.max(axis=1),
    }


def normalised_entropy(entropy_nats: npt.ArrayLike, n_classes: int) -> Floats:
    """Entropy as a share of its largest value, ln K; in [0, 1]."""
    return np.asarray(entropy_nats, np.float64) / np.log(n_classes)


def mutual_information(probabilities: npt.ArrayLike) -> Floats:
    """Entropy of the mean minus mean entropy of members' probabilities (M, N, K), nats, (N,); never below 0.

    What the members disagree about, not what each is unsure of. Source: Houlsby et al. 2011.
    """
    p = np.asarray(probabilities, np.float64)
    return np.maximum(special.entr(p.mean(axis=0)).sum(axis=-1) - special.entr(p).sum(axis=-1).mean(axis=0), 0.0)


def run(config: Config) -> dict[str, int]:
    """Write uncertainty, calibration, ensemble_models and ensemble_predictions (.parquet) under results/.

    BenchError where the logits of a model are missing, broken or not those of the expected images.
    """
    results = config.results
    samples = correctness.evaluated_samples(config)
    models = tables.read_shards("models", results / "models", config.models).set_index("model", drop=False)
    logits = {name: stored.read(config, name, samples) for name in config.models}

    unsure, answers, calibrated = [], [], []
    for dataset in config.datasets:
        rows = samples.loc[samples["dataset"] == dataset, :]
        ids, labels = rows["sample_id"].to_numpy(str), rows["label"].to_numpy(np.int64)
        mine = {name: logits[name][dataset] for name in config.models if dataset in logits[name]}
        losses = {}
        for name, z in mine.items():
            unsure.append(_unsure(name, dataset, ids, scores(z)))
            losses[name] = _losses(config, softmax(z), calibration.log_losses(z, labels), labels)
            temperature = models.loc[name, "temperature"]
            if pd.notna(temperature):
                scaled = softmax(np.asarray(z, np.float64) / temperature)
                losses[name]["ece_calibrated"] = _gaps(config, scaled, labels)
        for name, members in config.uncertainty.ensembles.items():
            if members[0] not in mine:
                continue
            each = np.stack([softmax(mine[member]) for member in members])
            mean = each.mean(axis=0)
            found = scores_of_probabilities(mean) | {"mutual_information": mutual_information(each)}
            unsure.append(_unsure(name, dataset, ids, found))
            answers.append(stored.answers(mean, mean, ids, labels).assign(model=name, dataset=dataset, condition=CLEAN))
            true = np.maximum(mean[np.arange(len(mean)), labels], np.finfo(np.float64).tiny)
            losses[name] = _losses(config, mean, -np.log(true), labels)
        calibrated += _intervals(config, dataset, losses)
        calibrated += [
            (name, dataset, CLEAN, SUBSET, LABELS, "temperature", models.loc[name, "temperature"], None, None, len(ids))
            for name in mine
            if "ece_calibrated" in losses[name]
        ]

    written = tables.write("uncertainty", tables.stacked("uncertainty", unsure), results / "uncertainty.parquet")
    figures = pd.DataFrame(calibrated, columns=list(schemas.TABLES["metrics"].columns))
    tables.write("metrics", figures, results / "calibration.parquet")
    tables.write("models", _ensembles(config, models), results / "ensemble_models.parquet")
    tables.write("predictions", tables.stacked("predictions", answers), results / "ensemble_predictions.parquet")
    return {"scores": len(written), "figures": len(figures)}


def _unsure(model: str, dataset: str, ids: npt.NDArray[np.str_], found: dict[str, Floats]) -> pd.DataFrame:
    frame = pd.DataFrame({"model": model, "dataset": dataset, "condition": CLEAN, "sample_id": ids, **found})
    return frame.reindex(columns=list(schemas.TABLES["uncertainty"].columns))


def _gaps(config: Config, probabilities: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    right = probabilities.argmax(axis=1) == labels
    return calibration.bin_gaps(probabilities.max(axis=1), right, config.uncertainty.ece_bins)


def _losses(
    config: Config, probabilities: Floats, log_losses: Floats, labels: npt.NDArray[np.int64]
) -> dict[str, Floats]:
    """metric -> columns (N, C), one row an image, from whose means `_value` makes the metric."""
    return {
        "ece": _gaps(config, probabilities, labels),
        "nll": log_losses[:, None],
        "brier": calibration.square_losses(probabilities, labels)[:, None],
    }


def _value(metric: str, means: Floats) -> Floats:
    """The metric from the means of its columns (..., C)."""
    return np.abs(means).sum(axis=-1) if metric.startswith("ece") else means[..., 0]


def _intervals(config: Config, dataset: str, losses: dict[str, dict[str, Floats]]) -> list[tuple[object, ...]]:
    """Rows of table `metrics` with percentile bootstrap intervals over images, the same resamples for every model.

    A resample adds noise to each bin, so its ECE is too large by about as much as the estimate itself is: the interval
    of ECE is that of the resamples, moved so that their mean is the estimate, and cut at 0.
    """
    if not losses:
        return []
    settings = config.statistics
    blocks = [(model, metric, columns) for model, mine in losses.items() for metric, columns in mine.items()]
    together = np.concatenate([columns for _, _, columns in blocks], axis=1)
    n = len(together)
    resampled = stats.resampled_sums(together, compute.rng(config.seed, "calibration", dataset), settings.bootstrap) / n
    rows, start = [], 0
    for model, metric, columns in blocks:
        value = float(_value(metric, columns.mean(axis=0)))
        draws = _value(metric, resampled[:, start : start + columns.shape[1]])
        start += columns.shape[1]
        if metric.startswith("ece"):
            draws = np.maximum(draws - draws.mean() + value, 0)
        low, high = stats.percentile_interval(draws, settings.confidence)
        rows.append((model, dataset, CLEAN, SUBSET, LABELS, metric, value, low, high, n))
    return rows


def _ensembles(config: Config, models: pd.DataFrame) -> pd.DataFrame:
    """Rows of table `models` for the ensembles: what all members share, the sum of their parameters."""
    rows = []
    for name, members in config.uncertainty.ensembles.items():
        mine = models.loc[members]
        shared = {c: mine[c].iloc[0] if mine[c].nunique(dropna=False) == 1 else None for c in mine.columns}
        own = {"model": name, "family": shared["family"] or "unknown", "method": "ensemble", "arch": "ensemble"}
        unknown = dict.fromkeys(("weights_sha256", "epochs", "temperature", "origin"))
        rows.append(shared | own | unknown | {"head": "none", "params_m": mine["params_m"].sum()})
    return pd.DataFrame(rows, columns=list(models.columns))
