"""Gaps between two sets under the rules of study 3: as they are stored, else computed from the bits of single images.

What is computed here goes through the same functions as the stage (bench/evaluate/replication.py), on uncertainties in
65,536 steps. Images of both sets may be narrowed to one class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from bench import compute
from bench.evaluate import protocol, replication
from bench.evaluate.correctness import ORIGINAL
from bench.evaluate.replication import SELF, Kind, Rows, Settings, Side, Study
from bench.store import bits
from dashboard import db
from dashboard.frames import Frame, records
from dashboard.terms import AGREEMENT

POOL = replication.POOL
WORK = 5e8
"""Image, model and draw at a time: what is resampled without being asked for, about a second."""
SHARES = tuple(share / 50 for share in range(1, 51))
"""Coverages of a sweep."""
FEWEST = 20
"""Images of a set below which a sweep has no point."""
FEWER = tuple(share / 20 for share in range(1, 21))
"""Coverages of a sweep by many models at once."""


@dataclass(frozen=True)
class Pair:
    """Two sets, one scoring, and the class that is looked at (empty: all)."""

    source: db.Source
    original: str
    other: str
    scoring: str
    label: str = ""


@dataclass(frozen=True)
class Choice:
    """A rule, and the uncertainty that it goes by: its measure and whose it is (`self`, `pool` or a model)."""

    rule: str
    measure: str
    whose: str
    coverage: float


def live(pair: Pair) -> bool:
    """Whether the rows of single images are there to compute from."""
    return db.has_images(pair.source)


def label_source(source: db.Source, dataset: str, scoring: str) -> str:
    """The labels that a scoring goes by on a set, as in the stage: of further sources the first by name."""
    mine = db.catalogue(source).sources.get(dataset, [ORIGINAL])
    return next((one for one in mine if one != ORIGINAL), ORIGINAL) if scoring == "any_of" else ORIGINAL


def answering(pair: Pair) -> tuple[str, ...]:
    """The models that answered to both sets, in the order of their names."""
    return tuple(sorted(db.catalogue(pair.source).answering.get(pair.original, frozenset()) & _other(pair)))


def _other(pair: Pair) -> frozenset[str]:
    return db.catalogue(pair.source).answering.get(pair.other, frozenset())


def measures(pair: Pair) -> list[str]:
    """Measures of uncertainty that some model has on both sets, and `agreement`, which needs answers only."""
    known = [db.measured(pair.source, dataset) for dataset in (pair.original, pair.other)]
    both = [measure for measure in known[0] if measured(pair, measure)]
    stored = db.gap_choices(pair.source, pair.original, pair.other)
    if not live(pair):
        both = [measure for measure in stored["uncertainty"].drop_duplicates() if measure != AGREEMENT]
    agreed = len(answering(pair)) > protocol.SMALLEST_POOL if live(pair) else (stored["uncertainty"] == AGREEMENT).any()
    return [*both, *([AGREEMENT] if agreed else [])]


def earlier(pair: Pair) -> bool:
    """Whether nothing but gaps of all images is stored of a pair, and there are no single images to compute from."""
    return not live(pair) and db.gap_choices(pair.source, pair.original, pair.other).empty


def measured(pair: Pair, measure: str) -> list[str]:
    """Models of which a measure is known on both sets."""
    first, second = (db.measured(pair.source, dataset).get(measure, ()) for dataset in (pair.original, pair.other))
    return sorted(set(first) & set(second))


@st.cache_resource(max_entries=24, show_spinner=False)
def tie_order(source: db.Source, dataset: str) -> np.ndarray:
    """Places of a set's images, in the order of sample_id, in that of the sha256 of their ids: (N,)."""
    ids = pd.Index(db.images(source, dataset).ids)
    return ids.get_indexer(pd.Index(compute.hash_order(ids)))


@st.cache_resource(max_entries=3, show_spinner=False)
def study(source: db.Source, original: str, other: str, label: str, measure: str, draws: int) -> Study:
    """All models that answered to both sets, on the images of a class, with one measure (empty: none) of uncertainty.

    `draws`: resamples besides the data.
    """
    pair = Pair(source, original, other, "top1", label)
    models = answering(pair)
    scorings = db.scorings(source, original, other)
    sides, origins = [], []
    scale = _same_scale(pair, measure)
    for dataset in (original, other):
        images, order = db.images(source, dataset), tie_order(source, dataset)
        if label:
            order = order[images.labels[order] == int(label)]
        right, labelled, sources = {}, {}, {}
        for scoring in scorings:
            sources[scoring] = label_source(source, dataset, scoring)
            block = db.block(source, dataset, sources[scoring])
            rows = block.some(models)[1]
            right[scoring] = np.ascontiguousarray(np.unpackbits(rows, axis=1).view(bool)[:, order])
            labelled[scoring] = block.labelled[order]
        unsure = {measure: _unsure(pair, dataset, measure, order, scale)} if measure not in ("", AGREEMENT) else {}
        pred = np.zeros((len(models), 0), np.uint16)
        if measure == AGREEMENT:
            answers = db.codes(source, dataset, db.PREDICTED)
            place = {model: i for i, model in enumerate(answers.models)}
            pred = answers.codes[[place[model] for model in models]][:, order]
        sides.append(Side(dataset, right, labelled, sources, pred, images.labels[order].astype(np.int64), unsure))
        origins.append(images.origins[order].astype(str))
    rng = compute.rng("dashboard", original, other)
    return Study(sides[0], sides[1], models, protocol.resample(origins[0], origins[1], rng, draws))


def _same_scale(pair: Pair, measure: str) -> bool:
    """Whether a code stands for the same value on both sets, so that codes can be compared as they are."""
    if measure in ("", AGREEMENT) or not measured(pair, measure):
        return True
    model = measured(pair, measure)[0]
    a, b = (db.codes_of(pair.source, dataset, measure, model) for dataset in (pair.original, pair.other))
    return bool(a.low[0] == b.low[0] and a.high[0] == b.high[0])


def _unsure(pair: Pair, dataset: str, measure: str, order: np.ndarray, scale: bool) -> dict[str, np.ndarray]:
    found = db.codes(pair.source, dataset, measure)
    place = {model: i for i, model in enumerate(found.models)}
    rows = {model: found.codes[place[model]][order] for model in measured(pair, measure)}
    if scale:
        return rows
    steps = (found.high - found.low) / bits.STEPS
    return {model: (found.low[place[model]] + codes * steps[place[model]]) for model, codes in rows.items()}


def settings(source: db.Source, coverages: Sequence[float]) -> Settings:
    """As the stage's, with other coverages."""
    asked, ensembles = db.protocol(source)
    asked = asked.model_copy(update={"coverages": list(coverages)})
    return Settings(asked, ensembles, db.statistics(source)["confidence"], bits.THREADS)


def draws_of(pair: Pair) -> int:
    """Resamples that are drawn without being asked for: as many as the stage draws, or none where that takes long."""
    images = 0
    for dataset in (pair.original, pair.other):
        labels = db.images(pair.source, dataset).labels
        images += int((labels == int(pair.label)).sum()) if pair.label else len(labels)
    draws = int(db.statistics(pair.source)["bootstrap"])
    return draws if images * len(answering(pair)) * draws <= WORK else 0


@st.cache_data(max_entries=64, show_spinner=False)
def _computed(pair: Pair, choice: Choice, draws: int) -> Frame:
    """Rows of table `replication` of all models under one rule; none where the rule does not apply."""
    measure = "" if choice.rule == "R0" else choice.measure
    found = study(pair.source, pair.original, pair.other, pair.label, measure, draws)
    if pair.scoring not in found.scorings:
        return pd.DataFrame()
    confidence = db.statistics(pair.source)["confidence"]
    frames = [replication.rows_of(found, rows, confidence) for rows in _rows(found, pair, choice)]
    if not frames:
        return pd.DataFrame()
    frame = pd.concat(frames, ignore_index=True)
    at = (frame["coverage_q"] - choice.coverage).abs() < 1e-9
    at |= (frame["rule"] == "R4") & (frame["uncertainty"] == AGREEMENT) | (frame["rule"] == "R0")
    return frame.loc[(frame["scoring"] == pair.scoring) & (frame["rule"] == choice.rule) & at]


def _rows(found: Study, pair: Pair, choice: Choice) -> list[Rows]:
    asked = settings(pair.source, [choice.coverage])
    if choice.rule == "R0":
        return [replication.whole(found, asked.threads)]
    if choice.measure == AGREEMENT:
        return list(replication.by_agreement(found, asked))
    if choice.rule == "R4":
        return list(replication.by_certain(found, choice.measure, asked))
    return list(replication.by_own(found, choice.measure, choice.whose, asked))


def rows(pair: Pair, choice: Choice, models: tuple[str, ...]) -> tuple[Frame, bool]:
    """Rows of table `replication` of some models under one rule, the smallest gap first, and whether they are stored.

    No rows where the rule does not apply, or keeps no image. Not stored and too many to resample: without intervals.
    """
    whose = POOL if choice.rule == "R4" or choice.measure == AGREEMENT else choice.whose
    if not pair.label:
        stored = db.gap_rows(
            pair.source, pair.original, pair.other, pair.scoring, choice.rule, choice.measure, whose, models
        )
        agreed = choice.rule == "R4" and choice.measure == AGREEMENT
        at = (stored["coverage_q"] - choice.coverage).abs() < 1e-9 if choice.rule != "R0" and not agreed else True
        stored = stored.loc[at] if at is not True else stored
        if len(stored) or not live(pair):
            return _with_accuracies(pair, stored.reset_index(drop=True)), True
    frame = _computed(pair, choice, draws_of(pair))
    if frame.empty:
        return frame, False
    frame = db.with_models(frame.loc[frame["model"].isin(models)], pair.source)
    return frame.sort_values(["gap_pp", "model"], ignore_index=True), False


def _with_accuracies(pair: Pair, frame: Frame) -> Frame:
    """Rows of a release that did not store the accuracies behind a gap of all images yet, with those of `metrics`."""
    if frame["accuracy_original"].notna().all() or not (frame["rule"] == "R0").all():
        return frame
    models = tuple(frame["model"])
    for column, dataset in (("accuracy_original", pair.original), ("accuracy_replication", pair.other)):
        labels = label_source(pair.source, dataset, pair.scoring)
        known = db.accuracies(pair.source, "all", labels, models)
        known = known.loc[known["dataset"] == dataset].set_index("model")["value"]
        frame = frame.assign(**{column: frame["model"].map(known)})
    return frame


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs=db.KEYS)
def sweep(pair: Pair, choice: Choice, models: tuple[str, ...]) -> Frame:
    """The gap of some models at many coverages of a rule: what is stored where there are no single images.

    Columns: the model's, coverage, coverage_other, gap_pp, composition_pp, within_pp, accuracy_original,
    accuracy_replication, error_ratio, n_original, n_replication.
    """
    if not live(pair):
        whose = POOL if choice.rule == "R4" or choice.measure == AGREEMENT else choice.whose
        key = (pair.original, pair.other, pair.scoring, choice.rule, choice.measure, whose)
        frame = db.gap_rows(pair.source, *key, models)
        frame = frame.rename(columns={"coverage_original": "coverage", "coverage_replication": "coverage_other"})
        return frame.assign(coverage=frame["coverage_q"]) if choice.rule in ("R3", "R5") else frame
    found = study(pair.source, pair.original, pair.other, pair.label, choice.measure, 0)
    if pair.scoring not in found.scorings:
        return pd.DataFrame()
    kept = found.kept(pair.scoring)
    if choice.rule == "R4" and choice.measure != AGREEMENT:
        names, data, sizes, below = _certain_sweep(found, pair, choice.measure, models)
    else:
        names, data, sizes, below = _own_sweep(found, pair, choice, models)
    if not names:
        return pd.DataFrame()
    steps = data.shape[2]
    n = [int(side.sum()) for side in kept]
    a, b, composition = (data[:, part].ravel() for part in range(3))
    frame = pd.DataFrame(
        {
            "model": np.repeat(names, steps),
            "coverage": (below[:, 0] / n[0]).ravel(),
            "coverage_other": (below[:, 1] / n[1]).ravel(),
            "gap_pp": 100 * (a - b),
            "composition_pp": 100 * composition,
            "within_pp": 100 * (a - b - composition),
            "accuracy_original": a,
            "accuracy_replication": b,
            "error_ratio": np.divide(1 - b, 1 - a, out=np.full(len(a), np.nan), where=a < 1),
            "n_original": sizes[:, 0].ravel(),
            "n_replication": sizes[:, 1].ravel(),
        }
    )
    enough = frame[["n_original", "n_replication"]].min(axis=1) >= FEWEST
    frame = frame.loc[frame["gap_pp"].notna() & enough].drop_duplicates(["model", "coverage", "coverage_other"])
    return db.with_models(frame, pair.source)


_Sweep = tuple[list[str], np.ndarray, np.ndarray, np.ndarray]
"""Models; what `protocol.once` gives at the coverages, (M, 3, C); images compared, and images below tau, (M, 2, C)."""
_NOTHING: _Sweep = ([], np.zeros((0, 3, 0)), np.zeros((0, 2, 0)), np.zeros((0, 2, 0)))


@st.cache_resource(max_entries=2, show_spinner=False)
def _apart(source: db.Source, original: str, other: str, label: str) -> tuple[list[str], list[np.ndarray]]:
    """Models that have a pool, and how many of it do not give its most frequent answer, (M, N) of either set."""
    found = study(source, original, other, label, AGREEMENT, 0)
    names, candidates, pools = replication.pools_of(found.models, found.models, db.protocol(source)[1])
    places = [found.models.index(model) for model in candidates]
    sizes = pools.sum(axis=1)[:, None]
    sides = found.original, found.other
    if not names:
        return [], [np.zeros((0, len(side.classes)), np.uint16) for side in sides]
    counts = [np.rint(protocol.disagreement(side.pred[places], pools) * sizes) for side in sides]
    return names, [side.astype(np.uint16) for side in counts]


def _own_sweep(found: Study, pair: Pair, choice: Choice, models: tuple[str, ...]) -> _Sweep:
    """R1, R2, R3 or R5 at fifty coverages; R4 by agreement as R1, as more and more of the pool must agree."""
    kept = found.kept(pair.scoring)
    if choice.measure == AGREEMENT:
        every, apart = _apart(pair.source, pair.original, pair.other, pair.label)
        names = [model for model in every if model in set(models)]
        if not names:
            return _NOTHING
        places = [every.index(model) for model in names]
        unsure = [side if len(names) == len(every) else side[places] for side in apart]
    else:
        known = found.measured(choice.measure)
        whose = known if choice.whose == SELF else [choice.whose]
        names = [model for model in (known if choice.whose == SELF else found.models) if model in set(models)]
        if not names or not set(whose) <= set(known):
            return _NOTHING
        whose = names if choice.whose == SELF else whose
        unsure = [
            np.stack([side.unsure[choice.measure][model] for model in whose]) for side in (found.original, found.other)
        ]
    over = protocol.grid(SHARES, db.protocol(pair.source)[0].bins)
    places = [found.models.index(model) for model in names]
    right = [side.right[pair.scoring][places] for side in (found.original, found.other)]
    if not (kept[0].all() and kept[1].all()):
        unsure = [side[:, flags] for side, flags in zip(unsure, kept, strict=True)]
        right = [np.ascontiguousarray(side[:, flags]) for side, flags in zip(right, kept, strict=True)]
    data, sizes = protocol.once(right[0], right[1], unsure[0], unsure[1], over, threads=bits.THREADS)
    rule = "R1" if choice.rule == "R4" else choice.rule
    rows = {mine: [at for at, (one, _) in enumerate(over.layout) if one == mine] for mine in ("R0", rule, "R1")}
    at = rows[rule] + (rows["R0"] if rule in ("R1", "R2") else [])
    below = at if rule in ("R1", "R2") else rows["R1"] + rows["R0"]  # R3 and R5 are about the images of R1
    return names, data[:, :, at], sizes[:, :, at], sizes[:, :, below]


def _certain_sweep(found: Study, pair: Pair, measure: str, models: tuple[str, ...]) -> _Sweep:
    """R4 at twenty coverages."""
    asked = settings(pair.source, FEWER[:-1])
    rows = list(replication.by_certain(found, measure, asked))
    if not rows:
        return _NOTHING
    mine = [m for m, model in enumerate(rows[0].models) if model in set(models)]
    some = [rows[0].found[pair.scoring][m] for m in mine]
    data = np.array([(one.accuracy_a, one.accuracy_b, one.composition) for one in some])
    sizes = np.array([(one.n_a, one.n_b) for one in some])
    return [rows[0].models[m] for m in mine], data, sizes, sizes


@st.cache_resource(max_entries=4, show_spinner=False)
def _whole(source: db.Source, original: str, other: str, label: str) -> Rows:
    draws = int(db.statistics(source)["bootstrap"])
    return replication.whole(study(source, original, other, label, "", draws), bits.THREADS)


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs=db.KEYS)
def robustness(pair: Pair, scale: str, models: tuple[str, ...]) -> Frame:
    """Effective robustness of some models against the line of the others among them, the most robust first.

    Columns as `db.robustness`; of aggregates alone the line is that of all models. No rows for fewer than five.
    """
    every = set(models) == set(answering(pair)) and not pair.label
    stored = db.robustness(pair.source, pair.original, pair.other, pair.scoring, scale, models) if every else None
    if stored is None and live(pair):
        everything = _whole(pair.source, pair.original, pair.other, pair.label)
        if pair.scoring not in everything.found:
            return pd.DataFrame()
        names = [model for model in everything.models if model in set(models)]
        places = [everything.models.index(model) for model in names]
        found = {pair.scoring: [everything.found[pair.scoring][place] for place in places]}
        frame = replication.robustness(Rows("none", "none", names, found), settings(pair.source, []))
        if frame.empty:
            return frame
        frame = db.with_models(frame.loc[frame["scale"] == scale], pair.source)
        return frame.sort_values(["value_pp", "model"], ascending=[False, True], ignore_index=True)
    if stored is None:
        stored = db.robustness(pair.source, pair.original, pair.other, pair.scoring, scale, models)
    return stored


def contrasts(pair: Pair, models: tuple[str, ...]) -> Frame:
    """Self-supervised against supervised models of the same architecture, among some models: as `db.contrasts`."""
    if not pair.label:
        return db.contrasts(pair.source, pair.original, pair.other, pair.scoring, models)
    everything = _whole(pair.source, pair.original, pair.other, pair.label)
    if pair.scoring not in everything.found:
        return pd.DataFrame()
    catalogue = db.catalogue(pair.source)
    kinds = {row.model: Kind(row.family, row.method, row.arch) for row in records(catalogue.models)}
    names = [model for model in everything.models if model in set(models)]
    found = {pair.scoring: [everything.found[pair.scoring][everything.models.index(model)] for model in names]}
    some = Rows("none", "none", names, found)
    return replication.contrasts(some, None, db.statistics(pair.source)["confidence"], kinds)
