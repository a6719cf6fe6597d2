"""`bench data check ORIGINAL OTHER`: are two sets of test images balanced, duplicated, encoded and labelled alike?

What differs between an original and its replication for other reasons than harder images, found before any model is
run: class shares, images that are in both sets, encoding and processing, label spaces, label sources and labels. It
reads the declared datasets and nothing else, so it needs no results.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bench import compute, stats
from bench.config import Config
from bench.data import duplicates, sides
from bench.data.findings import SHOWN, Detail, Finding, Report, counted, first, listed, p_value, percent, rate, signed
from bench.data.pictures import Codes, Floats, Looks
from bench.data.sides import Side, both_looks
from bench.errors import BenchError

SMALL_EFFECT = 0.2
"""Standardised difference from which on brightness or contrast counts as different: "small" in Cohen 1988."""
QUALITY_TOLERANCE = 2
"""Estimated JPEG qualities this near to each other are the same."""


def check(config: Config, original: str, other: str) -> Report:
    """Compare the test images of two declared datasets.

    BenchError where a name is not declared or given twice, and as `sides.read`.
    """
    roles = [f"{name} ({config.dataset(name).role})" for name in (original, other)]
    if original == other:
        raise BenchError(
            f"{original!r} is given twice.", where="bench data check", remedy="Name two datasets of params.yaml."
        )
    a, b = sides.read(config, original, other)
    findings = [one(a, b, config) for one in (_balance, duplicates.check, _encoding, _labels)]
    return Report(f"{roles[0]} and {roles[1]}: the test images of both", findings)


# Balance


def _balance(a: Side, b: Side, config: Config) -> Finding:
    counts = [np.bincount(side.labels, minlength=len(side.keys)) for side in (a, b)]
    even = [bool((count == count[0]).all()) for count in counts]
    said, details = [], []
    for side, count, is_even in zip((a, b), counts, even, strict=True):
        how = "balanced" if is_even else f"imbalanced ({count.min():,} to {count.max():,} images a class)"
        said.append(f"{side.name} is {how}")
        details.append((side.name, _class_sizes(side, count, is_even)))
    verdict, differs = "both sets are balanced" if all(even) else ", ".join(said), not all(even)
    places = [{key: place for place, key in enumerate(side.keys)} for side in (a, b)]
    both = [key for key in a.keys if key in places[1]]
    names = [a.class_name(places[0][key]) for key in both]
    table = np.array([count[[place[key] for key in both]] for count, place in zip(counts, places, strict=True)])
    alone = (table > 0).sum(axis=0) == 1
    if alone.any():
        verdict += f"; {counted(int(alone.sum()), 'class has', 'classes have')} images in one set only"
    for side, here in zip((a, b), table, strict=True):
        missing = [names[at] for at in np.flatnonzero(alone & (here == 0))]
        if missing:
            details.append(("one set only", f"{side.name} has no image of {first(missing)}; the other set has"))
    tested = stats.homogeneity(table, compute.rng(config.seed, "pair check", a.name, b.name))
    if tested is None:
        verdict += "; class shares are not compared"
        details.append(("class shares", "not compared: fewer than two classes are in both sets"))
    else:
        apart = tested.p < config.statistics.alpha
        differs |= apart
        test = f"{'permutation' if tested.permutations else 'chi-square'} {p_value(tested.p)}"
        verdict += f"; class shares {'differ' if apart else 'do not differ'} ({test})"
        details += _shares(a, b, table, names, test, tested)
    if not all(even):
        text = "Compare the class-balanced accuracy (`class_balanced`) beside top-1: in an imbalanced set, top-1 "
        details.append(("advice", f"{text}counts classes by their size."))
    return Finding("balance", verdict, differs, details)


def _class_sizes(side: Side, count: Codes, even: bool) -> str:
    start = f"{len(side.labels):,} test images, {len(count):,} classes: "
    if even:
        return f"{start}{count[0]:,} of each (balanced)"
    said = []
    for what, size in (("smallest", count.min()), ("largest", count.max())):
        names = [side.class_name(int(place)) for place in np.flatnonzero(count == size)]
        said.append(f"{what} {size:,} ({first(names)})")
    empty = int((count == 0).sum())
    without = f"; {counted(empty, 'class', 'classes')} without an image" if empty else ""
    return f"{start}{', '.join(said)}{without} (imbalanced)"


def _shares(a: Side, b: Side, table: Codes, names: list[str], test: str, tested: stats.Homogeneity) -> list[Detail]:
    """Details on class shares, from counts (2, C) of the classes that both sets have."""
    share = table / table.sum(axis=1, keepdims=True)
    gap = share[1] - share[0]
    how = f"{test}, homogeneity of {int(table.any(axis=0).sum()):,} classes x 2 sets"
    if tested.permutations:
        how += (
            f"; the smallest expected count is {tested.least_expected:.2g}, too small (< {stats.MIN_EXPECTED}) for the "
            f"chi-square approximation, so over {tested.permutations:,} random tables with the same margins"
        )
    out = [("class shares", how)]
    if gap.any():
        worst = int(np.abs(gap).argmax())
        apart = f"{percent(share[0, worst])} of {a.name} and {percent(share[1, worst])} of {b.name}"
        moved = f"{percent(np.abs(gap).sum() / 2)} of the images would have to change class for equal shares"
        out.append(("", f"most apart: {names[worst]}, {apart}; {moved} (total variation distance)"))
    shared = len(set(a.sources) & set(b.sources))
    if shared:
        text = f"The test takes the sets for independent; they share {shared:,} sources, so it may miss a difference."
        out.append(("", text))
    return out


# Encoding


def _encoding(a: Side, b: Side, config: Config) -> Finding:
    looks = both_looks(a, b)
    if looks is None:
        details = [("pictures", sides.without_pictures(a, b))]
        return Finding("encoding", "not checked: it needs pictures", False, details)
    sizes = [f"{width} x {height} pixels" for _, height, width in (one.shape for one in looks)]
    modes = [{1: "grey (L)", 3: "colour (RGB)"}[one.shape[0]] for one in looks]
    apart = {
        "size": sizes[0] != sizes[1],
        "mode": modes[0] != modes[1],
        "media type": _types_differ(a, b, looks, config),
    }
    details = [("size", _both(a, b, sizes)), ("mode", _both(a, b, modes))]
    details.append(("media type", _both(a, b, map(_media_types, looks))))
    if any(len(one.qualities) for one in looks):
        said = _both(a, b, map(_quality, looks))
        details.append(("JPEG quality", f"{said}; estimated from quantisation tables"))
    if all(len(one.qualities) for one in looks):
        middles = [float(np.median(one.qualities)) for one in looks]
        apart["JPEG quality"] = abs(middles[1] - middles[0]) > QUALITY_TOLERANCE
    details.append(("pixels", _both(a, b, map(_pixel_moments, looks))))
    for what in ("brightness", "contrast"):
        one, other = (getattr(side, what) for side in looks)
        apart[what], text = _processing(a, b, one, other, config.statistics.confidence)
        details.append((what, text))
    details.append(("", _PROCESSING))
    differing = [what for what, differs in apart.items() if differs]
    same = [what for what in apart if what not in differing]
    verdict = [f"{listed(differing)} {'differs' if len(differing) == 1 else 'differ'}"] if differing else []
    verdict += [f"same {listed(same)}"] if same else []
    return Finding("encoding", "; ".join(verdict), bool(differing), details)


_PROCESSING = (
    "Brightness is the mean, contrast the standard deviation of an image's pixels (0 black, 1 white). They count as "
    f"different from {SMALL_EFFECT} standard deviations on, where the interval excludes 0: a sign of other processing, "
    "or of other motifs."
)


def _both(a: Side, b: Side, said: Iterable[str]) -> str:
    """What is said of each of the two, once where it is the same."""
    one, other = said
    return f"both {one}" if one == other else f"{a.name} {one}, {b.name} {other}"


def _types_differ(a: Side, b: Side, looks: tuple[Looks, Looks], config: Config) -> bool:
    """Whether a media type is in one set only, or their shares differ beyond chance."""
    kinds = sorted({*looks[0].media_types, *looks[1].media_types})
    counts = np.array([[one.media_types.count(kind) for kind in kinds] for one in looks])
    tested = stats.homogeneity(counts, compute.rng(config.seed, "media types", a.name, b.name))
    return bool((counts == 0).any()) or (tested is not None and tested.p < config.statistics.alpha)


def _media_types(looks: Looks) -> str:
    kinds, counts = np.unique(looks.media_types, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return " and ".join(f"{kinds[at]} {percent(counts[at] / counts.sum())}" for at in order)


def _quality(looks: Looks) -> str:
    if not len(looks.qualities):
        return "none is a JPEG"
    low, middle, high = (float(q) for q in np.quantile(looks.qualities, [0, 0.5, 1]))
    odd = f", {looks.odd_tables:,} with tables of another kind" if looks.odd_tables else ""
    return f"median {middle:g}, range {low:g} to {high:g} ({len(looks.qualities):,} images{odd})"


def _pixel_moments(looks: Looks) -> str:
    """Mean and standard deviation over all pixels of a set, from those of its images, which have one size."""
    mean = looks.brightness.mean()
    deviation = np.sqrt((looks.contrast**2 + (looks.brightness - mean) ** 2).mean())
    return f"mean {mean:.3f}, standard deviation {deviation:.3f}"


def _processing(a: Side, b: Side, one: Floats, other: Floats, confidence: float) -> tuple[bool, str]:
    """Whether the images of two sets differ in brightness or contrast, (N,) and (M,), and a text about it."""
    means = f"{one.mean():.3f} and {other.mean():.3f} on average"
    effect = stats.standardised_difference(one, other, a.sources, b.sources, confidence)
    if effect is None:
        return bool(abs(one.mean() - other.mean()) > 1e-6), f"{means}; the same for all images of a set"
    difference, low, high = effect
    differs = abs(difference) >= SMALL_EFFECT and (low > 0 or high < 0)
    text = f"difference {signed(difference, 2)} [{signed(low, 2)}, {signed(high, 2)}] standard deviations of the images"
    return differs, f"{means}; {text}"


# Labels


def _labels(a: Side, b: Side, config: Config) -> Finding:
    confidence = config.statistics.confidence
    space, spaces_differ, details = _spaces(a, b)
    said = [space]
    names = [listed([f"`{source}`" for source in side.others]) or "none" for side in (a, b)]
    details.append(("label sources", f"besides `original`: {_both(a, b, names)}"))
    details += [("", _source(side, source, confidence)) for side in (a, b) for source in side.others]
    sources_differ = list(a.others) != list(b.others)
    if sources_differ:
        said.append("label sources differ")
        text = "Any-of accuracy then rests on different processes in the two sets: read its gaps with care."
        details.append(("", text))
    counterpart = _counterparts(a, b)
    shared = int((counterpart >= 0).sum())
    relabelled = np.flatnonzero((counterpart >= 0) & (a.label_keys[counterpart] != b.label_keys))
    how = "share a source" if both_looks(a, b) is None else "share a source or their pixels"
    if shared:
        count = rate(len(relabelled), shared, confidence)
        said.append(f"{count} shared images have another original label")
        text = f"of the images of {b.name} that {how} with {a.name}, {count} have another label"
        details.append(("shared images", text))
        for row in relabelled[:SHOWN]:
            at = counterpart[row]
            mine, theirs = a.class_name(int(a.labels[at])), b.class_name(int(b.labels[row]))
            details.append(("", f"{b.ids[row]} is {theirs}, {a.ids[at]} is {mine}"))
        if len(relabelled) > SHOWN:
            details.append(("", f"and {len(relabelled) - SHOWN:,} more"))
    else:
        said.append("no shared images")
        details.append(("shared images", f"no images {how}, so no labels can be compared one by one"))
    return Finding("labels", "; ".join(said), spaces_differ or sources_differ or bool(len(relabelled)), details)


def _spaces(a: Side, b: Side) -> tuple[str, bool, list[Detail]]:
    """Verdict on the label spaces, whether they differ, and details."""
    named = _both(a, b, [f"`{side.meta.label_space}`" for side in (a, b)])
    if a.keys == b.keys:
        verdict = "same label space" if a.meta.label_space == b.meta.label_space else "same classes"
        return verdict, False, [("label space", f"{named}; the same {len(a.keys):,} classes in the same order")]
    details = [("label space", named)]
    for side, theirs in ((a, set(b.keys)), (b, set(a.keys))):
        only = [side.class_name(place) for place, key in enumerate(side.keys) if key not in theirs]
        if only:
            details.append(("", f"only {side.name} has {len(only):,} of its {len(side.keys):,} classes: {first(only)}"))
    if set(a.keys) == set(b.keys):
        details.append(("", "the same classes in another order: a class index means another class in each set"))
        return "the order of the classes differs", True, details
    common = len(set(a.keys) & set(b.keys))
    by = "; labels and shares are compared by name, not by index" if common else ""
    details.append(("", f"{counted(common, 'class is', 'classes are')} in both{by}"))
    return "label spaces differ", True, details


def _source(side: Side, source: str, confidence: float) -> str:
    sizes, kept = side.others[source]
    counts = {"two or more labels": sizes >= 2, "none": sizes == 0, "the original label among them": kept}
    said = [f"{what} {rate(int(rows.sum()), len(sizes), confidence)}" for what, rows in counts.items()]
    return f"{side.name} `{source}`: {'; '.join(said)}"


def _counterparts(a: Side, b: Side) -> Codes:
    """(M,): the first image of `a` that shares its source or pixels with each image of `b`; -1 where there is none.

    One of the same label where there is one, so that only images none of whose counterparts agrees are relabelled.
    """
    looks = both_looks(a, b)
    by = [(a.sources, b.sources), *([] if looks is None else [(looks[0].pixels, looks[1].pixels)])]
    agreeing = [(zip(mine, a.label_keys, strict=True), zip(theirs, b.label_keys, strict=True)) for mine, theirs in by]
    out = np.full(len(b.ids), -1, np.int64)
    for mine, theirs in [*by, *reversed(agreeing)]:  # the later, the better
        place: dict[object, int] = {}
        for row, key in enumerate(mine):
            place.setdefault(key, row)
        found = np.array([place.get(key, -1) for key in theirs])
        out = np.where(found >= 0, found, out)
    return out
