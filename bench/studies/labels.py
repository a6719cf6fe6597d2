"""Study 1: how many labels images have, what that does to accuracy, and how much of a gap labels may explain.

Four tables, each for every dataset and every source of labels besides the original ones:

| table | what it says |
|---|---|
| label_sets | how many images have 0, 1, 2, ... labels, and how many of them keep the original label among these |
| label_accuracy | accuracy against number of labels, over all images and within original classes |
| label_correlation | rank correlation of the number of labels with being right, over all images and within classes |
| label_gaps | the gap of a declared pair by the original labels and by any label, and what the latter takes off |

Two ways of scoring: `top1` by the original label, `any_of` by any label of the source. Images without labels have no
number of labels to hold accuracy against; gaps are stored with them left out and with them counted wrong. What any-of
scoring takes off a gap is an upper bound of what labels explain: two label sets usually come from different processes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import compute, stats
from bench.config import Config, Statistics
from bench.evaluate import correctness
from bench.evaluate.correctness import CLEAN, ORIGINAL
from bench.store import tables

BIN_IMAGES = 50
"""Images that a number of labels needs for a bin of its own."""

TOP1, ANY_OF, LABELLED, ALL = range(4)
STATES = np.array([(top1, any_of, labelled, 1.0) for labelled, any_of, top1 in itertools.product((0, 1), repeat=3)])
"""What may be true of an image and a model: right by top-1, right by any-of, has labels, is an image."""

Flags = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int8]
Ids = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Judged:
    """Every model on one set of N images, judged by the original labels and by those of `source`.

    `top1`, `any_of` (M, N), the latter False where an image has no label; `sizes` (N,) labels of each image, `classes`
    (N,) its original class, `holds` (N,) whether that is among the labels, `origins` (N,) the image it is made from.
    """

    dataset: str
    source: str
    models: tuple[str, ...]
    top1: Flags
    any_of: Flags
    sizes: Counts
    classes: Counts
    holds: Flags
    origins: Ids

    def right(self, scoring: str) -> Flags:
        return self.top1 if scoring == "top1" else self.any_of


def run(config: Config) -> dict[str, int]:
    """Write results/label_sets, label_accuracy, label_correlation and label_gaps.parquet."""
    settings = config.statistics
    judged = judge(config)
    studied = [one for one in judged.values() if one.source != ORIGINAL]
    answered = [one for one in studied if one.models]
    pairs = [
        (judged[original, ours], judged[name, theirs])
        for name, dataset in config.datasets.items()
        if (original := dataset.replicates) is not None
        for ours, theirs in itertools.product(_sources(judged, original), _sources(judged, name))
        if (ours, theirs) != (ORIGINAL, ORIGINAL)
    ]
    written = {
        "label_sets": [histogram(one) for one in studied],
        "label_accuracy": [accuracy(one, settings) for one in answered],
        "label_correlation": [correlation(one, settings, config.seed) for one in answered],
        "label_gaps": [gaps(a, b, settings, config.seed) for a, b in pairs if set(a.models) & set(b.models)],
    }
    counts = {}
    for name, frames in written.items():
        path = config.results / f"{name}.parquet"
        counts[name] = len(tables.write(name, tables.stacked(name, frames), path))
    return counts


def judge(config: Config) -> dict[tuple[str, str], Judged]:
    """(dataset, source) -> every model's answers judged, for every source of every dataset."""
    samples = correctness.evaluated_samples(config)
    labels = tables.read("labels", config.results / "labels.parquet")
    sources = correctness.sources_of(labels, samples)
    sets = {source: correctness.label_sets(labels, source) for source in set().union(*sources.values())}
    out = {}
    for answers in correctness.each(config, [(dataset, CLEAN) for dataset in config.datasets]):
        dataset = answers.dataset
        mine = samples.loc[samples["dataset"] == dataset]
        classes, origins = mine["label"].to_numpy(np.int64), mine["source_id"].to_numpy(str)
        top1, _ = correctness.right(answers, sets[ORIGINAL])
        for source in sources[dataset]:
            sizes = sets[source].sizes(answers.ids)
            if not sizes.any():
                continue
            any_of, labelled = correctness.right(answers, sets[source])
            out[dataset, source] = Judged(
                dataset,
                source,
                answers.models,
                top1,
                any_of & labelled,
                sizes,
                classes,
                sets[source].contains(answers.ids, classes),
                origins,
            )
    return out


def _sources(judged: dict[tuple[str, str], Judged], dataset: str) -> list[str]:
    """The sources of a set besides the original labels; those where there is no other."""
    found = [source for one, source in judged if one == dataset]
    return [source for source in found if source != ORIGINAL] or found


def histogram(one: Judged) -> pd.DataFrame:
    """Rows of table `label_sets`: every number of labels that occurs, 0 among them."""
    numbers, images = np.unique(one.sizes, return_counts=True)
    kept = np.bincount(one.sizes, one.holds)[numbers].astype(np.int64)
    return pd.DataFrame({"n_labels": numbers, "n_images": images, "n_with_original": kept}).assign(
        dataset=one.dataset, label_source=one.source
    )


def bins(sizes: npt.ArrayLike) -> Counts:
    """The bin of each image: its number of labels, drawn in to the last bin; 0 where it has none.

    The last bin is the largest number of labels that at least 50 images have, 2 at the least; images with more join it.
    """
    sizes = np.asarray(sizes, np.int64)
    last = max([2, *np.flatnonzero(np.bincount(sizes) >= BIN_IMAGES)])
    return np.minimum(sizes, last)


def accuracy(one: Judged, settings: Statistics) -> pd.DataFrame:
    """Rows of table `label_accuracy`: models x scorings x bins that hold an image.

    `stratified_pp` compares with the images of one label in the same original class (Mantel-Haenszel); NaN for the bin
    of one label itself, which everything is compared with.
    """
    places, width = bins(one.sizes), int(one.classes.max()) + 1
    keys = places * width + one.classes
    shape = (int(places.max()) + 1, width)
    n = np.bincount(keys, minlength=shape[0] * width).reshape(shape)
    frames = []
    for scoring in ("top1", "any_of"):
        right = one.right(scoring)
        k = np.stack([np.bincount(keys, row, n.size) for row in right]).reshape(len(right), *shape)  # (M, bins, C)
        for place in np.flatnonzero(n.sum(axis=1)):
            if place == 0:
                continue
            hits, images = k[:, place].sum(axis=1), int(n[place].sum())
            low, high = stats.wilson(hits, images, settings.confidence)
            within = np.full((3, len(right)), np.nan)
            if place > 1:
                within = np.array(stats.mantel_haenszel(k[:, place], n[place], k[:, 1], n[1], settings.confidence))
            frame = {
                "model": one.models,
                "scoring": scoring,
                "n_labels": place,
                "value": hits / images,
                "ci_low": low,
                "ci_high": high,
                "n": images,
                "stratified_pp": 100 * within[0],
                "stratified_low": 100 * within[1],
                "stratified_high": 100 * within[2],
                "n_classes": int(((n[place] > 0) & (n[1] > 0)).sum()),
            }
            frames.append(pd.DataFrame(frame))
    return pd.concat(frames, ignore_index=True).assign(dataset=one.dataset, label_source=one.source)


def correlation(one: Judged, settings: Statistics, seed: int) -> pd.DataFrame:
    """Rows of table `label_correlation`: models x scorings, over all images with labels and within their classes."""
    labelled = one.sizes > 0
    scorings = ("top1", "any_of")
    found = stats.spearman_flags(
        one.sizes[labelled],
        np.concatenate([one.right(scoring)[:, labelled] for scoring in scorings]),
        one.classes[labelled],
        compute.rng(seed, "label_correlation", one.dataset, one.source),
        draws=settings.bootstrap,
        confidence=settings.confidence,
    )
    frames = [
        pd.DataFrame(
            {
                "model": [*one.models] * len(scorings),
                "scoring": np.repeat(scorings, len(one.models)),
                "within": within,
                "rho": values.rho,
                "ci_low": values.low,
                "ci_high": values.high,
            }
        )
        for within, values in zip(("pooled", "class"), found, strict=True)
    ]
    rows = pd.concat(frames, ignore_index=True)
    return rows.assign(dataset=one.dataset, label_source=one.source, n=int(labelled.sum()))


def gaps(original: Judged, other: Judged, settings: Statistics, seed: int) -> pd.DataFrame:
    """Rows of table `label_gaps`: models that answer to both sets, images without labels left out and counted wrong.

    Both gaps have the interval of table `replication`: Newcombe's for sets without a common source image. What is
    removed is bootstrapped over the images of each side, each with all that is known of it, so that top-1 and any-of
    stay paired; where the sides share source images, these are resampled, with what both sides have of them, for all
    three figures.
    """
    shared = bool(np.intersect1d(original.origins, other.origins).size)
    codes_a, codes_b = _codes(original), _codes(other)
    rows = []
    for model in (model for model in original.models if model in other.models):
        a, b = codes_a[original.models.index(model)], codes_b[other.models.index(model)]
        what = (original.dataset, other.dataset, original.source, other.source, model)
        rng = compute.rng(seed, "label_gaps", *what)
        if shared:
            drawn_a, drawn_b = _together(a, b, original.origins, other.origins, rng, settings.bootstrap)
        else:
            drawn_a, drawn_b = _apart(a, rng, settings.bootstrap), _apart(b, rng, settings.bootstrap)
        sums_a, sums_b = (np.bincount(codes, minlength=len(STATES)).astype(float) @ STATES for codes in (a, b))
        for empty, among in (("excluded", LABELLED), ("wrong", ALL)):
            values, draws = _differences(sums_a, sums_b, among), _differences(drawn_a, drawn_b, among)
            ends = [stats.percentile_interval(part[np.isfinite(part)], settings.confidence) for part in draws]
            if not shared:
                for place, (hit, of) in enumerate(((TOP1, ALL), (ANY_OF, among))):
                    low, high = stats.newcombe(sums_a[hit], sums_a[of], sums_b[hit], sums_b[of], settings.confidence)
                    ends[place] = (float(low), float(high))
            row: dict[str, object] = {"model": model, "empty": empty}
            for name, value, (low, high) in zip(("gap_top1", "gap_any_of", "removed"), values, ends, strict=True):
                short = name.removeprefix("gap_")
                row |= {f"{name}_pp": 100 * value, f"{short}_low": 100 * low, f"{short}_high": 100 * high}
            rows.append(row | {"n_original": int(sums_a[among]), "n_replication": int(sums_b[among])})
    return pd.DataFrame(rows).assign(
        original=original.dataset,
        replication=other.dataset,
        labels_original=original.source,
        labels_replication=other.source,
    )


def _codes(side: Judged) -> Codes:
    """The place in STATES of every model and image, (M, N)."""
    top1, any_of, labelled = (flags.astype(np.int8) for flags in (side.top1, side.any_of, side.sizes > 0))
    return top1 + 2 * any_of + 4 * labelled


def _apart(codes: Codes, rng: np.random.Generator, draws: int) -> stats.Floats:
    """Sums over STATES (draws, 4) of one set (N,) whose images are resampled."""
    counts = np.bincount(codes, minlength=len(STATES))
    return rng.multinomial(len(codes), counts / len(codes), size=draws).astype(float) @ STATES


def _together(
    a: Codes, b: Codes, origins_a: Ids, origins_b: Ids, rng: np.random.Generator, draws: int
) -> tuple[stats.Floats, stats.Floats]:
    """The same of two sets (N,) and (K,) that share source images: these are resampled."""
    _, place = np.unique(np.concatenate([origins_a, origins_b]), return_inverse=True)
    first, second = place[: len(a)], place[len(a) :]
    columns = [
        np.bincount(where, STATES[codes, k], place.max() + 1)
        for where, codes in ((first, a), (second, b))
        for k in (TOP1, ANY_OF, LABELLED, ALL)
    ]
    drawn = stats.resampled_sums(np.column_stack(columns), rng, draws)
    return drawn[:, :4], drawn[:, 4:]


def _differences(a: stats.Floats, b: stats.Floats, among: int) -> stats.Floats:
    """Gap by top-1, gap by any-of over the images `among`, and the first minus the second: (3, ...)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        top1 = a[..., TOP1] / a[..., ALL] - b[..., TOP1] / b[..., ALL]
        any_of = a[..., ANY_OF] / a[..., among] - b[..., ANY_OF] / b[..., among]
    return np.stack([top1, any_of, top1 - any_of])
