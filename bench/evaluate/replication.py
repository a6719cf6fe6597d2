"""Stage: the gap of every model between an original set and each set held against it, under the rules of study 3.

| table | what it says |
|---|---|
| replication | every gap with its decomposition: rule, measure and whose, coverage, scoring |
| effective_robustness | accuracy on the other set against the line of the other models, on three scales |
| gap_shrinkage | for how many models a rule makes the gap smaller, sign test, median |
| gap_contrasts | self-supervised against supervised models of the same architecture |

Both scorings of a pair, and all of its models, share one set of bootstrap resamples. `label_pp` is what scoring by
another label source takes off the gap, images without a label of it left out: two sources usually come from different
processes, so it is no effect of labels alone. What the rules are, and their intervals: bench/evaluate/protocol.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import compute, stats
from bench.config import SSL_FAMILY, Config, Protocol, file_stem
from bench.errors import BenchError
from bench.evaluate import correctness, protocol
from bench.evaluate.correctness import CLEAN, ORIGINAL, Answers
from bench.evaluate.protocol import Counts, Flags, Floats, Found, Pair, Replicates
from bench.store import tables

SELF, POOL, AGREEMENT = "self", "pool", "agreement"

Unsure = Mapping[str, Mapping[str, npt.NDArray]]
"""measure -> model -> uncertainty of each image (N,)"""


@dataclass(frozen=True)
class Settings:
    """What params.yaml says of the protocol, of ensembles (name -> members), of intervals and of threads."""

    protocol: Protocol
    ensembles: Mapping[str, Sequence[str]]
    confidence: float
    threads: int


@dataclass(frozen=True)
class Side:
    """M models on the N test images of one set, in the order of the sha256 of their ids (which breaks ties).

    `right` (M, N) by scoring, `labelled` (N,) by scoring: images that have a label to be right about; `sources`: the
    label source by scoring; `pred` (M, N); `classes` (N,) original labels; `unsure` by measure and model, (N,) each.
    """

    dataset: str
    right: dict[str, Flags]
    labelled: dict[str, Flags]
    sources: dict[str, str]
    pred: npt.NDArray[np.integer]
    classes: Counts
    unsure: Unsure


@dataclass(frozen=True)
class Study:
    """One pair of sets and the models that answer to both, (M,) in the order of their names."""

    original: Side
    other: Side
    models: tuple[str, ...]
    replicates: Replicates

    def pair(self, scoring: str, models: Sequence[str]) -> Pair:
        """Some of the models on the images that a scoring has labels of."""
        rows = [self.models.index(model) for model in models]
        a, b = self.original, self.other
        right = a.right[scoring][rows], b.right[scoring][rows]
        whole = Pair(right[0], right[1], a.classes, b.classes, self.replicates)
        return whole if a.labelled[scoring].all() and b.labelled[scoring].all() else whole.keep(*self.kept(scoring))

    def kept(self, scoring: str) -> tuple[Flags, Flags]:
        return self.original.labelled[scoring], self.other.labelled[scoring]

    @property
    def scorings(self) -> tuple[str, ...]:
        """Those by which some image of either set can be right."""
        sides = self.original, self.other
        return tuple(scoring for scoring in self.original.right if all(side.labelled[scoring].any() for side in sides))

    def measured(self, measure: str) -> list[str]:
        """Models of which a measure is known on both sides."""
        known = [side.unsure.get(measure, {}) for side in (self.original, self.other)]
        return [model for model in self.models if all(model in side for side in known)]


@dataclass(frozen=True)
class Rows:
    """What some models do under some rules by one uncertainty: `found[scoring]` in the order of `models`."""

    uncertainty: str
    of: str
    models: list[str]
    found: dict[str, list[Found]]


def run(config: Config) -> dict[str, int]:
    """Write results/replication, effective_robustness, gap_shrinkage and gap_contrasts.parquet.

    Scoring `any_of` is there where either set has labels besides the original ones (the first such source by name); a
    set that has none keeps its original labels. Raises BenchError for a pair of sets with different label spaces.
    """
    written: dict[str, list[pd.DataFrame]] = {
        name: [] for name in ("replication", "effective_robustness", "gap_shrinkage", "gap_contrasts")
    }
    settings = Settings(
        config.protocol, config.uncertainty.ensembles, config.statistics.confidence, config.compute.threads
    )
    kinds = kinds_of(config)
    for one in studies(config):
        for name, frame in results(one, settings, kinds).items():
            if len(frame):
                written[name].append(frame.assign(original=one.original.dataset, replication=one.other.dataset))
    counts = {}
    for name, frames in written.items():
        counts[name] = len(tables.write(name, tables.stacked(name, frames), config.results / f"{name}.parquet"))
    return counts


def studies(config: Config) -> Iterator[Study]:
    """Every declared pair of sets that some model answers to both of."""
    samples = correctness.evaluated_samples(config)
    labels = tables.read("labels", config.results / "labels.parquet")
    described = tables.read("datasets", config.results / "datasets.parquet").set_index("dataset")
    sources = correctness.sources_of(labels, samples)
    sets = {source: correctness.label_sets(labels, source) for source in set().union(*sources.values())}
    pairs = [(dataset.replicates, name) for name, dataset in config.datasets.items() if dataset.replicates is not None]
    unsure = _uncertainties(config, {name for pair in pairs for name in pair})
    for original, name in pairs:
        spaces = [str(described.at[one, "label_space"]) for one in (original, name)]
        if spaces[0] != spaces[1]:
            raise BenchError(
                f"{name!r} is held against {original!r}, but its label space is {spaces[1]!r}, not {spaces[0]!r}.",
                where="params.yaml",
                remedy=f"Correct `datasets.{name}.replicates`, or map its labels to the classes of {original!r}.",
            )
        first, second = correctness.each(config, [(original, CLEAN), (name, CLEAN)])
        models = tuple(model for model in first.models if model in second.models)
        if not models:
            continue
        several = any(source != ORIGINAL for side in (original, name) for source in sources[side])
        scorings = ("top1", "any_of") if several else ("top1",)
        sides = [_side(answers, models, scorings, samples, sources, sets, unsure) for answers in (first, second)]
        origins = [samples.set_index("sample_id")["source_id"].reindex(ids).to_numpy(str) for _, ids in sides]
        rng = compute.rng(config.seed, "replication", original, name)
        drawn = protocol.resample(origins[0], origins[1], rng, config.statistics.bootstrap)
        yield Study(sides[0][0], sides[1][0], models, drawn)


def results(study: Study, settings: Settings, kinds: Mapping[str, Kind]) -> dict[str, pd.DataFrame]:
    """The rows of the four tables for one pair of sets, but for the names of the sets; `kinds` of the models."""
    everything = whole(study, settings.threads)
    frames, shrinkage = [rows_of(study, everything, settings.confidence)], []
    binned: Rows | None = None
    for some in chosen(study, settings):
        frames.append(rows_of(study, some, settings.confidence))
        shrinkage.append(shrunk(some, everything, settings, kinds))
        if some.of == SELF and some.uncertainty == settings.protocol.measures[0]:
            binned = some
    return {
        "replication": pd.concat(frames, ignore_index=True),
        "effective_robustness": robustness(everything, settings),
        "gap_shrinkage": pd.concat(shrinkage, ignore_index=True) if shrinkage else pd.DataFrame(),
        "gap_contrasts": contrasts(everything, binned, settings.confidence, kinds),
    }


@dataclass(frozen=True)
class Kind:
    """What a model is, as far as models are compared by it."""

    family: str
    method: str
    arch: str


def kinds_of(config: Config) -> dict[str, Kind]:
    """Every model that runs here or was imported; ensembles are none of a kind."""
    known = {**config.models, **config.imported}
    return {name: Kind(model.family, model.method, model.arch) for name, model in known.items()}


def whole(study: Study, threads: int) -> Rows:
    """R0 of every model."""
    found = {}
    for scoring in study.scorings:
        pair = study.pair(scoring, study.models)
        entries = [np.zeros(side.shape, np.int64) for side in (pair.right_a, pair.right_b)]
        rows = protocol.by_entry(pair, entries[0], entries[1], [1.0], threads=threads)
        found[scoring] = [_as_rule(one, "R0") for one in rows]
    return Rows("none", "none", list(study.models), found)


def chosen(study: Study, settings: Settings) -> Iterator[Rows]:
    """R1 to R5 by every uncertainty that is asked for and known: of the models, of the references, of the pool."""
    asked = settings.protocol
    for measure in asked.measures:
        yield from by_own(study, measure, SELF, settings)
    for reference in asked.references or settings.ensembles:
        yield from by_own(study, asked.measures[0], reference, settings)
    for measure in asked.measures:
        yield from by_certain(study, measure, settings)
    yield from by_agreement(study, settings)


def by_own(study: Study, measure: str, of: str, settings: Settings) -> Iterator[Rows]:
    """R1, R2, R3 and R5 by an uncertainty of each model itself (`self`), or of one model for all; none if not known."""
    known = study.measured(measure)
    models = known if of == SELF else list(study.models) if of in known else []
    if not models:
        return
    over = protocol.grid(settings.protocol.coverages, settings.protocol.bins)
    whose = models if of == SELF else [of]
    a, b = (np.stack([side.unsure[measure][model] for model in whose]) for side in (study.original, study.other))
    found = {}
    for scoring in study.scorings:
        kept = study.kept(scoring)
        pair = study.pair(scoring, models)
        rows = protocol.by_uncertainty(pair, a[:, kept[0]], b[:, kept[1]], over, threads=settings.threads)
        found[scoring] = [_without(one, ("R0",)) for one in rows]
    yield Rows(measure, of, models, found)


def by_certain(study: Study, measure: str, settings: Settings) -> Iterator[Rows]:
    """R4 by how many of the other models are certain of an image; of models that have too few others, none."""
    asked = settings.protocol
    models, candidates, pools = pools_of(study.models, study.measured(measure), settings.ensembles)
    if not models:
        return
    a, b = (np.stack([side.unsure[measure][model] for model in candidates]) for side in (study.original, study.other))
    found = {}
    for scoring in study.scorings:
        kept, pair = study.kept(scoring), study.pair(scoring, models)
        first, second = a[:, kept[0]], b[:, kept[1]]
        entries = protocol.entry_of_certain(first, second, pools, asked.coverages, asked.pool_share)
        found[scoring] = list(protocol.by_entry(pair, *entries, asked.coverages, threads=settings.threads))
    yield Rows(measure, POOL, models, found)


def by_agreement(study: Study, settings: Settings) -> Iterator[Rows]:
    """R4 and R5 by how many of the other models give the same answer: needs nothing but answers."""
    asked, threads = settings.protocol, settings.threads
    models, candidates, pools = pools_of(study.models, study.models, settings.ensembles)
    if not models:
        return
    rows = [study.models.index(model) for model in candidates]
    a, b = (protocol.disagreement(side.pred[rows], pools) for side in (study.original, study.other))
    over = protocol.grid([], asked.bins)
    found = {}
    for scoring in study.scorings:
        kept, pair = study.kept(scoring), study.pair(scoring, models)
        first, second = a[:, kept[0]], b[:, kept[1]]
        entries = [protocol.entry_of_agreed(side, asked.pool_share) for side in (first, second)]
        agreed = protocol.by_entry(pair, entries[0], entries[1], [1.0], threads=threads)
        binned = protocol.by_uncertainty(pair, first, second, over, threads=threads)
        found[scoring] = [_joined(one, _without(more, ("R0", "R3"))) for one, more in zip(agreed, binned, strict=True)]
    yield Rows(AGREEMENT, POOL, models, found)


def pools_of(
    models: Sequence[str], known: Sequence[str], ensembles: Mapping[str, Sequence[str]]
) -> tuple[list[str], list[str], Flags]:
    """Models with a pool (M), models that a pool may have (P), and whose pool (M, P) has whom: all others.

    The pool of an ensemble lacks its members, and an ensemble is in no pool: it is made of models that are. Models with
    fewer than `protocol.SMALLEST_POOL` others have none.
    """
    candidates = [model for model in known if model not in ensembles]
    out = np.ones((len(models), len(candidates)), bool)
    for m, model in enumerate(models):
        for absent in [model, *ensembles.get(model, [])]:
            if absent in candidates:
                out[m, candidates.index(absent)] = False
    enough = out.sum(axis=1) >= protocol.SMALLEST_POOL
    return [model for model, has in zip(models, enough, strict=True) if has], candidates, out[enough]


def rows_of(study: Study, rows: Rows, confidence: float) -> pd.DataFrame:
    """Rows of table `replication`; rules that keep no image of a set have none."""
    frames = []
    sizes = [side.labelled for side in (study.original, study.other)]
    for scoring, found in rows.found.items():
        pair = study.pair(scoring, rows.models)
        n_a, n_b = (int(labelled[scoring].sum()) for labelled in sizes)
        for m, one in enumerate(found):
            frame = table(one, pair, m, confidence)
            if len(rows.found) > 1:
                term = protocol.label_term(rows.found["top1"][m], rows.found["any_of"][m], confidence)
                frame |= {"label_pp": 100 * term.value, "label_low": 100 * term.low, "label_high": 100 * term.high}
            frame |= {"model": rows.models[m], "scoring": scoring}
            frame |= {"coverage_original": one.n_a / n_a, "coverage_replication": one.n_b / n_b}
            frame |= {
                "labels_original": study.original.sources[scoring],
                "labels_replication": study.other.sources[scoring],
            }
            frames.append(pd.DataFrame(frame))
    out = pd.concat(frames, ignore_index=True).assign(uncertainty=rows.uncertainty, uncertainty_of=rows.of)
    if "label_pp" not in out:
        out = out.assign(label_pp=np.nan, label_low=np.nan, label_high=np.nan)
    return out.loc[out["gap_pp"].notna()]


def table(found: Found, pair: Pair, model: int, confidence: float) -> dict[str, object]:
    """The figures of one model as columns of table `replication`."""
    out: dict[str, object] = {
        "rule": [rule for rule, _ in found.layout],
        "coverage_q": [q for _, q in found.layout],
        "accuracy_original": found.accuracy_a,
        "accuracy_replication": found.accuracy_b,
        "error_ratio": protocol.error_ratio(found),
        "logit_gap": protocol.logit_gap(found),
        "n_original": found.n_a,
        "n_replication": found.n_b,
        "classes_original": _known(found.classes_a),
        "classes_replication": _known(found.classes_b),
    }
    for name, term in protocol.gaps(found, not pair.replicates.independent, confidence).items():
        low, high = ("ci_low", "ci_high") if name == "gap" else (f"{name}_low", f"{name}_high")
        out |= {f"{name}_pp": 100 * term.value, low: 100 * term.low, high: 100 * term.high}
    draw = protocol.placebo(pair, model, found, confidence)
    out |= {"placebo_gap_pp": 100 * draw.value, "placebo_low": 100 * draw.low, "placebo_high": 100 * draw.high}
    return out


def _known(counts: Counts) -> pd.Series:
    """Counts with NULL in the place of -1."""
    return pd.Series(counts, dtype="Int32").where(counts >= 0)


def shrunk(rows: Rows, everything: Rows, settings: Settings, kinds: Mapping[str, Kind]) -> pd.DataFrame:
    """Rows of table `gap_shrinkage`: all models but ensembles, and each family of two or more."""
    frames = []
    single = [m for m, model in enumerate(rows.models) if model not in settings.ensembles]
    families = [kinds[rows.models[m]].family for m in single]
    groups = {"all": single}
    for family in sorted(set(families)):
        groups[family] = [m for m, mine in zip(single, families, strict=True) if mine == family]
    for (scoring, found), (family, some) in itertools.product(rows.found.items(), groups.items()):
        if len(some) < 2:
            continue
        before = [everything.found[scoring][everything.models.index(rows.models[m])] for m in some]
        after = [found[m] for m in some]
        layout = after[0].layout
        shrink = np.array([x.gap - y.gap for x, y in zip(before, after, strict=True)])  # (M, rows)
        ratio = np.array(
            [protocol.error_ratio(y) - protocol.error_ratio(x) for x, y in zip(before, after, strict=True)]
        )
        for row, (rule, q) in enumerate(layout):
            known = np.isfinite(shrink[:, row])
            if rule == "R5" or not known.any():  # R5 keeps all images
                continue
            draws = np.array(
                [x.gap_draws[0] - y.gap_draws[row] for x, y, k in zip(before, after, known, strict=True) if k]
            )
            up, down = (shrink[known, row] > 1e-12).sum(), (shrink[known, row] < -1e-12).sum()
            low, high = stats.percentiles(np.median(draws, axis=0), settings.confidence)
            frames.append(
                {
                    "rule": rule,
                    "coverage_q": q,
                    "scoring": scoring,
                    "family": family,
                    "n_models": int(known.sum()),
                    "n_shrinks": int(up),
                    "n_grows": int(down),
                    "n_ratio": int(np.isfinite(ratio[known, row]).sum()),
                    "n_ratio_falls": int((ratio[known, row] < -1e-12).sum()),
                    "p_sign": float(stats.sign_test(up, down)),
                    "median_shrink_pp": 100 * float(np.median(shrink[known, row])),
                    "ci_low": 100 * float(low),
                    "ci_high": 100 * float(high),
                }
            )
    return pd.DataFrame(frames).assign(uncertainty=rows.uncertainty, uncertainty_of=rows.of)


def robustness(everything: Rows, settings: Settings) -> pd.DataFrame:
    """Rows of table `effective_robustness`: intervals from the images, the line fitted anew in each replicate.

    Ensembles are no part of any line. No rows for fewer than four other models.
    """
    fitted = np.array([model not in settings.ensembles for model in everything.models])
    frames = []
    for scoring, found in everything.found.items() if fitted.sum() >= 4 else ():
        n = int(found[0].n_a[0]), int(found[0].n_b[0])
        x, y = (
            np.array([np.append(value, one.draws[side, 0, 1:]) for one, value in zip(found, values, strict=True)])
            for side, values in enumerate(([f.accuracy_a[0] for f in found], [f.accuracy_b[0] for f in found]))
        )
        for scale in get_args(stats.Scale):
            predicted = stats.predicted_by_others(x, y, fitted, scale, n)
            left = y - predicted
            value = protocol.of_draws(left[:, 0], left[:, 1:], settings.confidence)
            frame = pd.DataFrame(
                {
                    "model": everything.models,
                    "value_pp": 100 * value.value,
                    "ci_low": 100 * value.low,
                    "ci_high": 100 * value.high,
                    "accuracy_original": x[:, 0],
                    "accuracy_replication": y[:, 0],
                    "predicted": predicted[:, 0],
                    "n_models": fitted.sum() - fitted,
                }
            )
            frames.append(frame.loc[frame["value_pp"].notna()].assign(scoring=scoring, scale=scale))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def contrasts(everything: Rows, binned: Rows | None, confidence: float, kinds: Mapping[str, Kind]) -> pd.DataFrame:
    """Rows of table `gap_contrasts`; both models of a pair share the resampled images.

    `binned`: rows by each model's own uncertainty, whose R5 over all bins gives the parts of the gap.
    """
    known = [model for model in everything.models if kinds.get(model, Kind("", "", "unknown")).arch != "unknown"]
    pairs = [
        (model, baseline)
        for model, baseline in itertools.permutations(known, 2)
        if (kinds[model].family, kinds[baseline].family) == ("ssl", "supervised")
        and kinds[model].arch == kinds[baseline].arch
    ]
    out = []
    for scoring, found in everything.found.items():
        for model, baseline in pairs:
            mine, theirs = (found[everything.models.index(one)] for one in (model, baseline))
            gap = protocol.of_draws(mine.gap - theirs.gap, mine.gap_draws - theirs.gap_draws, confidence)
            row: dict[str, object] = {
                "model": model,
                "baseline": baseline,
                "scoring": scoring,
                "ssl_family": SSL_FAMILY.get(kinds[model].method),
                "arch": kinds[model].arch,
                "gap_pp": 100 * gap.value[0],
                "ci_low": 100 * gap.low[0],
                "ci_high": 100 * gap.high[0],
            }
            row |= dict.fromkeys(
                (f"{part}_{end}" for part in ("composition", "within") for end in ("pp", "low", "high")), np.nan
            )
            if binned is not None and {model, baseline} <= set(binned.models):
                parts = [binned.found[scoring][binned.models.index(one)] for one in (model, baseline)]
                row |= _parts(parts[0], parts[1], confidence)
            out.append(row)
    return pd.DataFrame(out)


def _parts(mine: Found, theirs: Found, confidence: float) -> dict[str, float]:
    at = mine.layout.index(("R5", 1.0))
    value = mine.composition - theirs.composition
    draws = mine.draws[2, :, 1:] - theirs.draws[2, :, 1:]
    composition = protocol.of_draws(value, draws, confidence)
    within = protocol.of_draws(mine.gap - theirs.gap - value, mine.gap_draws - theirs.gap_draws - draws, confidence)
    out = {}
    for name, part in (("composition", composition), ("within", within)):
        for end, values in (("pp", part.value), ("low", part.low), ("high", part.high)):
            out[f"{name}_{end}"] = 100 * float(values[at])
    return out


def _as_rule(found: Found, rule: str) -> Found:
    return _replaced(found, tuple((rule, q) for _, q in found.layout), slice(None))


def _without(found: Found, rules: tuple[str, ...]) -> Found:
    rows = [row for row, (rule, _) in enumerate(found.layout) if rule not in rules]
    return _replaced(found, tuple(found.layout[row] for row in rows), rows)


def _replaced(found: Found, layout: tuple[tuple[str, float], ...], rows: list[int] | slice) -> Found:
    return Found(
        layout,
        found.accuracy_a[rows],
        found.accuracy_b[rows],
        found.composition[rows],
        found.draws[:, rows],
        found.n_a[rows],
        found.n_b[rows],
        found.classes_a[rows],
        found.classes_b[rows],
    )


def _joined(one: Found, more: Found) -> Found:
    return Found(
        one.layout + more.layout,
        np.append(one.accuracy_a, more.accuracy_a),
        np.append(one.accuracy_b, more.accuracy_b),
        np.append(one.composition, more.composition),
        np.concatenate([one.draws, more.draws], axis=1),
        np.append(one.n_a, more.n_a),
        np.append(one.n_b, more.n_b),
        np.append(one.classes_a, more.classes_a),
        np.append(one.classes_b, more.classes_b),
    )


def _side(
    answers: Answers,
    models: tuple[str, ...],
    scorings: Sequence[str],
    samples: pd.DataFrame,
    sources: dict[str, list[str]],
    sets: dict[str, correctness.LabelSets],
    unsure: dict[str, Unsure],
) -> tuple[Side, list[str]]:
    """One side of a study, and the ids of its images in its order."""
    dataset = answers.dataset
    labels = samples.loc[samples["dataset"] == dataset].set_index("sample_id")["label"]
    ids = compute.hash_order(labels.index)
    order = labels.index.get_indexer(pd.Index(ids))
    rows = [answers.models.index(model) for model in models]
    named = {"top1": ORIGINAL, "any_of": next((s for s in sources[dataset] if s != ORIGINAL), ORIGINAL)}
    right, labelled = {}, {}
    for scoring in scorings:
        flags, known = correctness.right(answers, sets[named[scoring]])
        right[scoring], labelled[scoring] = np.ascontiguousarray(flags[np.ix_(rows, order)]), known[order]
    known = {
        measure: {model: values[order] for model, values in by_model.items()}
        for measure, by_model in unsure.get(dataset, {}).items()
    }
    pred, classes = answers.pred[np.ix_(rows, order)], labels.to_numpy(np.int64)[order]
    return Side(dataset, right, labelled, named, pred, classes, known), ids


def _uncertainties(config: Config, datasets: Iterable[str]) -> dict[str, Unsure]:
    """dataset -> measure -> model -> uncertainty of its test images in the order of sample_id, where all are known."""
    import pyarrow.parquet as pq

    measures = config.protocol.measures
    columns = ["model", "dataset", "condition", "sample_id", *measures]
    paths = [config.results / "uncertainty.parquet"]
    paths += [config.results / "imported" / "uncertainty" / f"{file_stem(model)}.parquet" for model in config.imported]
    out: dict[str, dict[str, dict[str, Floats]]] = {
        dataset: {measure: {} for measure in measures} for dataset in datasets
    }
    for path in paths:
        tables.check_schema("uncertainty", path)
        which = [("condition", "=", CLEAN), ("dataset", "in", list(out))]
        frame = (
            pq.read_table(path, columns=columns, filters=which).to_pandas() if out else pd.DataFrame(columns=columns)
        )
        for key, rows in frame.sort_values("sample_id").groupby(["dataset", "model"]):
            dataset, model = map(str, cast("tuple[str, str]", key))
            for measure in measures:
                values = rows[measure].to_numpy(np.float64)
                if not np.isnan(values).any():
                    out[dataset][measure][model] = values
    return {**out}
