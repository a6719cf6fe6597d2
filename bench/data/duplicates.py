"""The check `duplicates`: images that are in both sets of a pair, by source, by pixels, by id and by perceptual hash.

Near duplicates are held against a base rate, those within the original itself: hashes of tiny, uniform or similar
images meet without any image being there twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from bench import compute, stats
from bench.config import Config
from bench.data.findings import SHOWN, Detail, Finding, counted, percent, rate, signed
from bench.data.pictures import MAX_PAIRS, NEAR_BITS, SIDE, Codes, Floats, Keys, Looks, Near, near
from bench.data.sides import Flags, Ids, Side, both_looks, without_pictures

ALIKE = 0.98
"""Pearson correlation of the pixels, in grey at 32 x 32, from which on near duplicates are alike in pixels too.

On 600 of the photographs of NEAR_BITS: all copies as JPEG, smaller or darker are, 94 % of the crops to 99 %, 4 % of
those to 95 %. No near duplicates among the digits are; of the 251 between CIFAR-10's training and test images, which
are known to share some, 21 are.
"""
TOLD_APART = 0.05
"""Share of the original with a near duplicate in the original itself up to which pairs that are alike in pixels too
count, whatever the base rate: an original that repeats itself has a base rate that is not of chance."""


def check(a: Side, b: Side, config: Config) -> Finding:
    """Which images of `b` are in `a`, and which are training images of the other set."""
    confidence, looks = config.statistics.confidence, both_looks(a, b)
    shared = np.isin(a.sources, b.sources), np.isin(b.sources, a.sources)
    n_shared = int(shared[1].sum())
    verdict = f"{f'{n_shared:,} of {len(b.ids):,}' if n_shared else 'no'} images of {b.name} share a source"
    details = [("same source", f"{_of_both(a, b, shared)} are made from the same images (source_id)")]
    named, said = _same_ids(a, b, confidence)
    details += said
    n_same = 0
    if looks is not None:
        same = np.isin(looks[0].pixels, looks[1].pixels), np.isin(looks[1].pixels, looks[0].pixels)
        n_same = int(same[1].sum())
        verdict += f", {f'{n_same:,}' if n_same else 'none'} have the same pixels"
        details.append(("same pixels", f"{_of_both(a, b, same)} are identical (sha256 of the decoded pixels)"))
        copies = [len(one.pixels) - len(set(one.pixels)) for one in looks]
        if any(copies):
            details.append(("", f"copies within one set: {copies[0]:,} in {a.name}, {copies[1]:,} in {b.name}"))
    n_leaked, said = _in_training(a, b)
    details += said
    verdict += f", {n_leaked:,} are training images of the other set" if n_leaked else ""
    if looks is None:
        near_verdict, near_found = "pixels and hashes need pictures", False
        details.append(("pictures", without_pictures(a, b)))
    else:
        near_verdict, near_found, said = _near(a, b, looks, config)
        details += said
    found = bool(n_shared or n_same or named or n_leaked or near_found)
    return Finding("duplicates", f"{verdict}{named}; {near_verdict}", found, details)


def _of_both(a: Side, b: Side, rows: tuple[Flags, Flags]) -> str:
    sides = zip((a, b), rows, strict=True)
    return " and ".join(f"{int(held.sum()):,} of {len(held):,} images of {side.name}" for side, held in sides)


def _same_ids(a: Side, b: Side, confidence: float) -> tuple[str, list[Detail]]:
    """A verdict, and details, where images that declare no common source have one stable id and mostly one label.

    Ids that are mere numbers meet by chance, and so do labels then: more than half must agree, by Wilson's interval.
    """
    stable = [[one.split("/", 1)[1] for one in side.ids.tolist()] for side in (a, b)]
    _, row, column = np.intersect1d(*stable, assume_unique=True, return_indices=True)
    apart = a.sources[row] != b.sources[column]
    agree = (a.label_keys[row] == b.label_keys[column])[apart]
    n, alike = len(agree), int(agree.sum())
    if not n or stats.wilson(alike, n, confidence)[0] <= 0.5:
        return "", []
    text = f"{n:,} images have one stable id in both sets, and {rate(alike, n, confidence)} of them one "
    text += "original label, without a common source being declared (source_id): are they the same images?"
    return f", {n:,} share their id without a declared source", [("same id", text)]


def _in_training(a: Side, b: Side) -> tuple[int, list[Detail]]:
    """How many test images are, by source or pixels, training images of the other set, and details on sets with such
    images."""
    total, said = 0, []
    for test, train in ((a, b), (b, a)):
        if not len(train.train_sources):
            continue
        held, how = np.isin(test.sources, train.train_sources), "source"
        if test.looks is not None and train.looks is not None:
            held, how = held | np.isin(test.looks.pixels, train.looks.train_pixels), "source or pixels"
        count = int(held.sum())
        of = f"{count:,} of {len(held):,} test images of {test.name}"
        said.append(("in training", f"{of} are training images of {train.name} ({how})"))
        total += count
    return total, said


def _near(a: Side, b: Side, looks: tuple[Looks, Looks], config: Config) -> tuple[str, bool, list[Detail]]:
    """Verdict on near duplicates, whether there are some that the base rate does not explain, and details."""
    confidence, n, m = config.statistics.confidence, len(a.ids), len(b.ids)
    sources, labels = _codes(a.sources, b.sources), _codes(a.label_keys, b.label_keys)
    codes = zip(sources, _codes(looks[0].pixels, looks[1].pixels), labels, strict=True)
    keys = [Keys(one.hashes, *code) for one, code in zip(looks, codes, strict=True)]
    across, within = near(keys[0], keys[1]), near(keys[0])
    found, collide = int((across.counts > 0).sum()), int((within.counts > 0).sum())
    size = min(m, n - 1)
    cross, base = stats.rarefied(across.counts, m, size), stats.rarefied(within.counts, n - 1, size)
    rng = compute.rng(config.seed, "near duplicates", a.name, b.name)
    low, high = stats.bootstrap_paired(cross, base, rng, draws=config.statistics.bootstrap, confidence=confidence)
    above = found > 0 and (collide == 0 or low > 0)
    similar = stats.row_correlations(looks[0].small, looks[1].small, across.row, across.column)
    similar_within = stats.row_correlations(looks[0].small, looks[0].small, within.row, within.column)
    alike, alike_within = int((similar >= ALIKE).sum()), int((similar_within >= ALIKE).sum())
    repeats = alike > 0 and collide <= TOLD_APART * n
    near_by = f"perceptual hashes (64 bits) at most {NEAR_BITS} bits apart; one source or the same pixels left out:"
    details = [
        ("near", near_by),
        ("", f"{rate(found, n, confidence)} images of {a.name} have one in {b.name} ({m:,} images)"),
        ("base rate", f"{rate(collide, n, confidence)} have one within {a.name} itself ({n - 1:,} others)"),
    ]
    if collide:
        rates = f"{percent(cross.mean())} across the sets and {percent(base.mean())} within {a.name}"
        gap, low_pp, high_pp = (signed(100 * one, 1) for one in (cross.mean() - base.mean(), low, high))
        text = f"held against equally many images ({size:,}): {rates}, difference {gap} [{low_pp}, {high_pp}]"
        details.append(("", f"{text} percentage points"))
    if found or collide:
        of = f"{alike:,} of {counted(across.pairs, 'pair', 'pairs')} across the sets"
        of += f" and {alike_within:,} of {within.pairs:,} within {a.name}"
        of += f" (of the first {MAX_PAIRS:,})" if max(across.pairs, within.pairs) > MAX_PAIRS else ""
        details.append(("in pixels", f"{of} correlate with r >= {ALIKE}, in grey at {SIDE} x {SIDE}"))
    if found and not above:
        details.append(("", _REPEATS.format(a.name) if repeats else _NO_EVIDENCE))
    details += _recall(a, b, looks, across, confidence)
    if not found:
        return "no near duplicates", False, details
    details += _candidates(a, b, across, similar)
    too = f", {counted(alike, 'pair', 'pairs')} alike in pixels"
    if above:
        images = counted(found, "image has a near duplicate", "images have near duplicates")
        return f"{images}, above the base rate{too}", True, details
    return f"near duplicates not above the base rate{too if repeats else ''}", repeats, details


_NO_EVIDENCE = (
    "The rate across the sets is not above the base rate: this hash cannot tell these images apart (tiny, uniform or "
    "alike as they are), so the candidates are no evidence of duplicates."
)
_REPEATS = (
    "The rate across the sets is not above the base rate, but some candidates are alike in pixels too: {} also repeats "
    "itself, so look at them."
)


def _codes(a: Ids, b: Ids) -> list[Codes]:
    """Whole numbers for two arrays of strings (N,) and (M,), equal where those are."""
    _, codes = np.unique(np.concatenate([a, b]), return_inverse=True)
    return np.split(codes, [len(a)])


def _recall(a: Side, b: Side, looks: tuple[Looks, Looks], across: Near, confidence: float) -> list[Detail]:
    """How many pairs that are known to show one image the hash finds, where there are any that differ in pixels."""
    both = zip(a.sources, looks[0].pixels, strict=True), zip(b.sources, looks[1].pixels, strict=True)
    known = _pairs(a.sources, b.sources) - _pairs(*both)
    if not known:
        return []
    text = f"the hash finds {rate(across.changed, known, confidence)} pairs that share a source and not their pixels"
    return [("recall", text)]


def _pairs(a: Iterable[object], b: Iterable[object]) -> int:
    """The number of pairs of an entry of `a` and an equal one of `b`."""
    of_a, of_b = Counter(a), Counter(b)
    return sum(count * of_b[key] for key, count in of_a.items())


def _candidates(a: Side, b: Side, across: Near, similar: Floats) -> list[Detail]:
    """The near duplicates that are most alike in pixels, and how many there are."""
    said = f"{counted(across.pairs, 'pair', 'pairs')}, {across.relabelled:,} of them with different original labels"
    details = [("candidates", f"{said}; the most alike:")]
    for at in np.lexsort((across.distance, -similar.round(6)))[:SHOWN]:
        row, column = int(across.row[at]), int(across.column[at])
        labels = f"{a.class_name(int(a.labels[row]))} and {b.class_name(int(b.labels[column]))}"
        apart = f"{across.distance[at]} bits, r = {similar[at]:.2f}"
        details.append(("", f"{a.ids[row]} and {b.ids[column]}: {apart}, labels {labels}"))
    return details
