"""Study 2: are networks that were trained without labels more robust than ones of the same architecture with them?

Four tables:

| table | what it says |
|---|---|
| ssl_models | what each network of the contrast was trained with: images, views, labels |
| ssl_pairs | a self-supervised network minus a supervised one, on the same images under the same condition |
| ssl_families | the mean of such differences over a family, with intervals over images, and over networks and images |
| corruption_error | errors under corruption relative to those of a reference network |

Conditions: `clean`, each attack at each eps, each corruption (`corruption:<name>`, the mean over severities) and all
of them (`corruption`, the mean over these). Every difference is read so that above zero the self-supervised network is
better, in three ways (`measure`):

- accuracy: of the accuracies over all images; after an attack, of those right before and after it.
- change: of what the condition adds to the accuracy on the same clean images: who is worse has less to lose, too.
- both_right: of the accuracies among images that both get right when clean, so at equal clean accuracy.

Baselines are supervised networks of the same architecture and suite, without simulated wrong labels: `same_views` only
those that saw as many images as often under the same augmentation, `same_arch` any. With fewer than three networks of a
kind nothing is said of kinds (a bootstrap of two is far too narrow): the interval over networks is then missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml
from pydantic import Field, model_validator

from bench import compute, stats
from bench.config import MASKED, SSL_FAMILY, Config, Fraction, Frozen, Method, Model, Positive, Statistics
from bench.evaluate import correctness
from bench.evaluate.correctness import CLEAN, ORIGINAL
from bench.models import probes
from bench.store import tables

MEASURES = ("accuracy", "change", "both_right")
AGAINST = ("same_views", "same_arch")
ALL = "all"
LEAST = 3
"""Networks of a kind that an interval over networks needs."""

PUBLISHED = Path(__file__).with_name("lightly_cifar10.yaml")

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Budget(Frozen):
    """How long a published run took."""

    epochs: Positive
    batch_size: Positive


class Published(Frozen):
    """lightly's own table of CIFAR-10: method -> kNN accuracy with each of `budgets`."""

    source: str
    arch: str
    k: Positive
    budgets: Annotated[list[Budget], Field(min_length=1)]
    methods: dict[Method, list[Fraction]]

    @model_validator(mode="after")
    def _one_for_each_budget(self) -> Published:
        for method, found in self.methods.items():
            if len(found) != len(self.budgets):
                raise ValueError(f"{method} has {len(found)} figures for {len(self.budgets)} budgets")
        return self


def published() -> Published:
    """The table of lightly_cifar10.yaml."""
    return Published(**yaml.safe_load(PUBLISHED.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Scored:
    """What M models make of N images under one condition: `clean` (M, N) whether each is right without it, `score`
    (M, N) the share of the condition's levels at which it is. `clusters` (N,): images of one source are one."""

    dataset: str
    condition: str
    models: tuple[str, ...]
    clean: Flags
    score: Floats
    clusters: npt.NDArray[np.int64]

    def row(self, model: str) -> int:
        return self.models.index(model)


@dataclass(frozen=True)
class Pair:
    """A self-supervised network and one that it is held against."""

    model: str
    baseline: str
    family: str
    arch: str
    same_views: bool


def run(config: Config) -> dict[str, int]:
    """Write results/ssl_models, ssl_pairs, ssl_families and corruption_error.parquet."""
    samples = tables.read("samples", config.results / "samples.parquet")
    settings, found = config.statistics, pairs(config)
    scored = list(score(config, samples))
    written = {
        "ssl_models": [models(config, samples)],
        "ssl_pairs": [compare(one, found, settings, config.seed) for one in scored],
        "ssl_families": [
            families(one, [p for p in found if p.same_views or against == "same_arch"], settings, config.seed).assign(
                against=against
            )
            for one in scored
            for against in AGAINST
        ],
        "corruption_error": list(errors(config, scored)),
    }
    return {
        name: len(tables.write(name, tables.stacked(name, frames), config.results / f"{name}.parquet"))
        for name, frames in written.items()
    }


def views_of(model: Model) -> str:
    """What the images of a training bear: `views` (also colour, blur or noise), `supervised` (geometry), or `none`."""
    if model.family == "ssl":
        return "none" if model.method in MASKED else "views"
    return "views" if model.options.get("views") else "supervised"


def views_seen(model: Model, n_images: int) -> int:
    """Images that pass through the encoder in a training: epochs x images x views of each in a step."""
    twice = model.family == "ssl" and model.method not in MASKED
    return model.epochs * n_images * (2 if twice else 1)


def pairs(config: Config) -> list[Pair]:
    """Every self-supervised network with every supervised one of its architecture and suite that was trained here."""
    trained = {name: model for name, model in config.models.items() if not model.published}
    out = []
    for name, model in trained.items():
        for other, baseline in trained.items():
            alike = (model.suite, model.arch) == (baseline.suite, baseline.arch)
            roles = (model.family, baseline.family) == ("ssl", "supervised")
            if alike and roles and not baseline.options.get("label_noise"):
                ours, theirs = ((views_of(x), x.images, views_seen(x, 1)) for x in (model, baseline))
                out.append(Pair(name, other, SSL_FAMILY[model.method], model.arch, ours == theirs))
    return out


def models(config: Config, samples: pd.DataFrame) -> pd.DataFrame:
    """Rows of table `ssl_models`: every self-supervised or supervised network that was trained here."""
    rows = []
    for name, model in config.models.items():
        if model.family in ("ssl", "supervised") and not model.published:
            mine = (samples["dataset"] == config.original_of(model.suite)) & (samples["split"] == "train")
            n = len(probes.split(config, model, samples.loc[mine, "label"].to_numpy(np.int64))[0])
            rows.append(
                {
                    "model": name,
                    "arch": model.arch,
                    "ssl_family": SSL_FAMILY.get(model.method),
                    "views": views_of(model),
                    "n_images": n,
                    "views_seen": views_seen(model, n),
                    "label_noise": float(model.options.get("label_noise", 0.0)),
                    "seed": model.seed,
                }
            )
    return pd.DataFrame(rows)


def score(config: Config, samples: pd.DataFrame) -> Iterator[Scored]:
    """Every condition under which the models of the contrast answer, by the original labels."""
    chosen = {model for pair in pairs(config) for model in (pair.model, pair.baseline)}
    wanted = {config.model(name).suite for name in chosen}
    datasets = [name for name, dataset in config.datasets.items() if dataset.suite in wanted]
    sets = correctness.label_sets(tables.read("labels", config.results / "labels.parquet"), ORIGINAL)
    source = samples.set_index("sample_id")["source_id"]
    attacked = correctness.attacked_predictions(config)
    for dataset in datasets:
        clean = correctness.answers(config, dataset)
        keep = [i for i, model in enumerate(clean.models) if config.models.get(model) is not None]
        names = tuple(clean.models[i] for i in keep)
        right = correctness.right(clean, sets)[0][keep]
        ids, clusters = pd.Index(clean.ids), pd.factorize(source.loc[clean.ids])[0]
        yield Scored(dataset, CLEAN, names, right, right.astype(float), clusters)
        yield from _corrupted(config, dataset, names, ids, right, clusters, sets)
        mine = attacked.loc[attacked["dataset"] == dataset]
        for condition, rows in mine.groupby("condition"):
            made_on = config.attack_runs[str(condition).split(":")[1]].source  # its own answers are no transferred ones
            answers = rows.loc[rows["model"] != made_on].pivot(index="model", columns="sample_id", values="pred")
            at = ids.get_indexer(answers.columns)
            before = right[[names.index(model) for model in answers.index]][:, at]
            after = np.stack([sets.contains(answers.columns, row) for row in answers.to_numpy()])
            yield Scored(
                dataset, str(condition), tuple(answers.index), before, (before & after).astype(float), clusters[at]
            )


def _corrupted(
    config: Config,
    dataset: str,
    names: tuple[str, ...],
    ids: pd.Index,
    right: Flags,
    clusters: npt.NDArray[np.int64],
    sets: correctness.LabelSets,
) -> Iterator[Scored]:
    """Each corruption, then all of them."""
    cells = [(dataset, condition) for condition in correctness.conditions(config, dataset) if condition != CLEAN]
    sums: dict[str, list[Floats]] = defaultdict(list)
    at = np.arange(len(ids))
    for answers in correctness.each(config, cells):
        at = ids.get_indexer(pd.Index(answers.ids))
        rows = [answers.models.index(model) for model in names]
        sums[answers.condition.split(":")[1]].append(correctness.right(answers, sets)[0][rows].astype(float))
    means = {f"corruption:{name}": np.mean(levels, axis=0) for name, levels in sums.items()}
    if means:
        means["corruption"] = np.mean(list(means.values()), axis=0)
    for condition, values in means.items():
        yield Scored(dataset, condition, names, right[:, at], values, clusters[at])


def difference(one: Scored, pair: Pair, measure: str) -> tuple[Floats, Floats]:
    """What each image adds to the difference of a pair, and its weight, both (N,): the sum of the first over the sum of
    the second is the difference."""
    a, b = one.row(pair.model), one.row(pair.baseline)
    apart = one.score[a] - one.score[b]
    if measure == "change":
        apart = apart - (one.clean[a].astype(float) - one.clean[b])
    weight = (one.clean[a] & one.clean[b]).astype(float) if measure == "both_right" else np.ones(len(apart))
    return apart * weight, weight


def compare(one: Scored, found: Sequence[Pair], settings: Statistics, seed: int) -> pd.DataFrame:
    """Rows of table `ssl_pairs` under one condition. p: exact McNemar where an image is right or wrong, else a paired t
    test over images; Holm over the pairs of the condition and measure. No rows where a pair has no image."""
    frames = []
    for measure in MEASURES if one.condition != CLEAN else MEASURES[:1]:
        rows = []
        for pair in (p for p in found if p.model in one.models and p.baseline in one.models):
            values, weight = difference(one, pair, measure)
            kept = weight > 0
            if not kept.any():
                continue
            a, b = one.row(pair.model), one.row(pair.baseline)
            rng = compute.rng(seed, "ssl_pairs", one.dataset, one.condition, measure, pair.model, pair.baseline)
            low, high = stats.bootstrap_mean(
                values[kept],
                rng,
                draws=settings.bootstrap,
                confidence=settings.confidence,
                clusters=one.clusters[kept] if _repeated(one.clusters[kept]) else None,
            )
            rows.append(
                {
                    "model": pair.model,
                    "baseline": pair.baseline,
                    "same_views": pair.same_views,
                    "delta_pp": 100 * float(values[kept].mean()),
                    "ci_low": 100 * low,
                    "ci_high": 100 * high,
                    "p_value": _p_value(_of_clusters(values[kept], one.clusters[kept])),
                    "accuracy": float(one.score[a][kept].mean()),
                    "accuracy_baseline": float(one.score[b][kept].mean()),
                    "n": int(kept.sum()),
                }
            )
        if rows:
            frame = pd.DataFrame(rows)
            frames.append(frame.assign(p_holm=stats.holm(frame["p_value"]), measure=measure))
    if not frames:
        return pd.DataFrame()
    return pd.concat(frames, ignore_index=True).assign(dataset=one.dataset, condition=one.condition)


def _of_clusters(values: Floats, clusters: npt.NDArray[np.int64]) -> Floats:
    """The values (N,) themselves, or where several images are of one source, the sum of each source."""
    if not _repeated(clusters):
        return values
    return np.bincount(np.unique(clusters, return_inverse=True)[1], values).astype(np.float64)


def _repeated(clusters: npt.NDArray[np.int64]) -> bool:
    return len(np.unique(clusters)) < len(clusters)


def _p_value(values: Floats) -> float:
    """Of a mean of 0: by the signs where there are none but -1, 0 and 1 (exact McNemar), else by Student's t."""
    from scipy.stats import ttest_1samp

    if np.isin(values, (-1.0, 0.0, 1.0)).all():
        return float(stats.mcnemar(int((values > 0).sum()), int((values < 0).sum())))
    if len(values) < 2:
        return 1.0
    if np.ptp(values) == 0:
        return 0.0
    _, p = ttest_1samp(values, 0.0)
    return float(np.asarray(p))


def families(one: Scored, found: Sequence[Pair], settings: Statistics, seed: int) -> pd.DataFrame:
    """Rows of table `ssl_families` under one condition: the mean over the networks of a family of their mean difference
    to the baselines of their architecture.

    Two bootstraps: of images alone, for these networks; and of networks (of the family, and of the baselines of each
    architecture) and images together, where there are LEAST of both.
    """
    here = [pair for pair in found if pair.model in one.models and pair.baseline in one.models]
    if not here:
        return pd.DataFrame()
    mine = {pair.model: [i for i, other in enumerate(here) if other.model == pair.model] for pair in here}
    groups = {ALL: list(mine)}
    for name, at in mine.items():
        groups.setdefault(here[at[0]].family, []).append(name)
    rng = compute.rng(seed, "ssl_families", one.dataset, one.condition, len(here))
    sizes = np.bincount(one.clusters)
    present = np.flatnonzero(sizes)
    draws = rng.multinomial(len(present), np.full(len(present), 1 / len(present)), size=settings.bootstrap)
    weights = draws[:, np.searchsorted(present, one.clusters)].astype(np.float32)
    rows = []
    for measure in MEASURES if one.condition != CLEAN else MEASURES[:1]:
        values, counted = (np.stack(x) for x in zip(*(difference(one, p, measure) for p in here), strict=True))
        with np.errstate(invalid="ignore", divide="ignore"):
            means = values.sum(axis=1) / counted.sum(axis=1)
            drawn = (weights @ values.T.astype(np.float32)) / (weights @ counted.T.astype(np.float32))
        for family, members in groups.items():
            each = np.array([means[mine[name]].mean() for name in members])
            if not np.isfinite(each).all():  # a pair that shares no right image
                continue
            images = np.mean([drawn[:, mine[name]].mean(axis=1) for name in members], axis=0)
            low, high = stats.percentiles(images, settings.confidence)
            both = _networks(drawn, [(here[mine[name][0]].arch, mine[name]) for name in members], rng)
            wide = stats.percentiles(both, settings.confidence) if both is not None else np.full(2, np.nan)
            rows.append(
                {
                    "family": family,
                    "measure": measure,
                    "delta_pp": 100 * float(each.mean()),
                    "ci_low": 100 * float(low),
                    "ci_high": 100 * float(high),
                    "networks_low": 100 * float(wide[0]),
                    "networks_high": 100 * float(wide[1]),
                    "n": one.score.shape[1],
                    "n_ssl": len(members),
                    "n_supervised": len({here[i].baseline for name in members for i in mine[name]}),
                    "n_better": int((each > 0).sum()),
                }
            )
    return pd.DataFrame(rows).assign(dataset=one.dataset, condition=one.condition)


def _networks(drawn: Floats, cells: list[tuple[str, list[int]]], rng: np.random.Generator) -> Floats | None:
    """The mean difference in each draw (draws,) with its networks drawn too; None where a side has fewer than LEAST.

    drawn (draws, pairs) on resampled images; cells: of each network of the family its architecture and its pairs, in
    one order of the baselines, so that what is drawn of these is the same for all networks of an architecture.
    """
    if len(cells) < LEAST or min(len(at) for _, at in cells) < LEAST:
        return None
    out = np.empty(len(drawn))
    for i, row in enumerate(drawn):
        baselines = {arch: rng.integers(len(at), size=len(at)) for arch, at in dict(cells).items()}
        chosen = [cells[k] for k in rng.integers(len(cells), size=len(cells))]
        out[i] = np.mean([row[np.array(at)[baselines[arch]]].mean() for arch, at in chosen])
    return out


def errors(config: Config, scored: Sequence[Scored]) -> Iterator[pd.DataFrame]:
    """Rows of table `corruption_error`: of each set that is corrupted, every model under each corruption and all.

    The error of a model, summed over severities, over that of the reference network (CE), and the mean of these over
    corruptions (mCE): Hendrycks & Dietterich 2019 (arXiv 1903.12261), section 4.2. Intervals: bootstrap of images.
    """
    settings = config.statistics
    for dataset in dict.fromkeys(one.dataset for one in scored):
        each = [one for one in scored if one.dataset == dataset and one.condition.startswith("corruption:")]
        reference = config.corrupted(dataset).reference
        if not each or reference is None or reference not in each[0].models:
            continue
        wrong = np.stack([1 - one.score for one in each])  # (corruptions, M, N)
        n, base = wrong.shape[2], each[0].row(reference)
        rng = compute.rng(config.seed, "corruption_error", dataset)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=settings.bootstrap).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = (total := wrong.mean(axis=2)) / total[:, [base]]
            drawn = (sums := np.einsum("cmn,dn->cmd", wrong, weights, optimize=True)) / sums[:, [base]]
        for k, name in enumerate([ALL, *(one.condition.split(":")[1] for one in each)]):
            ce, draws, error = (
                (ratio.mean(axis=0), drawn.mean(axis=0), total.mean(axis=0))
                if name == ALL
                else (ratio[k - 1], drawn[k - 1], total[k - 1])
            )
            low, high = stats.percentiles(draws, settings.confidence)
            figures = {"model": each[0].models, "error": error, "ce": ce, "ci_low": low, "ci_high": high}
            yield pd.DataFrame(figures).assign(dataset=dataset, corruption=name, reference=reference, n=n)
