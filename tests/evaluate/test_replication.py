"""Table `replication` and its kin against pandas and loops over the tables that they are made from.

What the rules are is tested in test_protocol.py; here it is whether the right images, models and labels get there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import special
from scipy import stats as scipy_stats

from bench import compute, schemas, stats
from bench.config import Config
from bench.errors import BenchError
from bench.evaluate import protocol, replication
from bench.evaluate.gap_kernels import LANES
from bench.store import tables
from tests import factory

ALL = ("replication", "effective_robustness", "gap_shrinkage", "gap_contrasts")
RULE = ["rule", "uncertainty", "uncertainty_of", "coverage_q"]
PAIR = ["model", "original", "replication"]
DIGITS = {(d["replicates"], name) for name, d in factory.DATASETS.items() if "replicates" in d}
NAMES = (*factory.MODELS, factory.ENSEMBLE)
COVERAGES = [0.5, 0.6, 0.7, 0.8, 0.9]
MEASURES = ["entropy_nats", "msp", "margin"]


def read(config: Config, name: str) -> pd.DataFrame:
    return tables.read(name, config.results / f"{name}.parquet")


def of_rule(frame: pd.DataFrame, rule: str, **columns: object) -> pd.DataFrame:
    """Rows of one rule whose columns have these values, by model and pair."""
    for column, value in {"rule": rule, **columns}.items():
        frame = frame[frame[column] == value]
    return frame.set_index([*PAIR, "scoring"]).sort_index()


@pytest.fixture(scope="module")
def stored(results: Config) -> pd.DataFrame:
    return read(results, "replication")


@pytest.fixture(scope="module")
def gaps(stored: pd.DataFrame) -> pd.DataFrame:
    return of_rule(stored, "R0")


@pytest.fixture(scope="module", params=["results", "mixed"])
def either(request: pytest.FixtureRequest) -> Config:
    return request.getfixturevalue(request.param)


@dataclasses.dataclass(frozen=True)
class Known:
    """What the tables say of the test images of one set, models x images in the order of the sha256 of their ids."""

    right: pd.DataFrame
    labelled: np.ndarray
    origins: np.ndarray
    unsure: dict[str, pd.DataFrame]

    def of(self, model: str, measure: str, whose: str) -> tuple[np.ndarray, np.ndarray]:
        """Uncertainty and who is right, of the images that have a label."""
        return (
            self.unsure[measure].loc[whose].to_numpy()[self.labelled],
            self.right.loc[model].to_numpy()[self.labelled],
        )


def known(config: Config, dataset: str, source: str = "original") -> Known:
    samples = read(config, "samples")
    samples = samples[(samples["dataset"] == dataset) & (samples["split"] == "test")].set_index("sample_id")
    ids = sorted(samples.index, key=lambda sample_id: hashlib.sha256(sample_id.encode()).hexdigest())
    right = factory.right(config, dataset, source)
    paths = [config.results / "uncertainty.parquet", *(config.results / "imported" / "uncertainty").glob("*.parquet")]
    unsure = pd.concat([pd.read_parquet(path, filters=[("dataset", "==", dataset)]) for path in paths])
    unsure = unsure[unsure["condition"] == "clean"]
    by_measure = {
        measure: unsure.pivot(index="model", columns="sample_id", values=measure)[ids].dropna(axis=0)
        for measure in (*MEASURES, "energy")
    }
    return Known(
        right.reindex(columns=ids, fill_value=False),
        np.isin(ids, right.columns),
        samples.loc[ids, "source_id"].to_numpy(str),
        by_measure,
    )


def tau(values: np.ndarray, q: float) -> float:
    return float(np.sort(values)[math.ceil(q * len(values) - 1e-9) - 1])


def test_every_model_on_every_declared_pair(results: Config, gaps: pd.DataFrame) -> None:
    found = gaps.xs("top1", level="scoring").reset_index()
    assert set(zip(found["original"], found["replication"], strict=True)) == DIGITS
    assert len(found) == len(DIGITS) * len(NAMES)
    assert (found["coverage_q"] == 1).all()
    assert (found[["coverage_original", "coverage_replication"]] == 1).all(axis=None)
    assert gaps["placebo_gap_pp"].isna().all()
    assert (gaps[["uncertainty", "uncertainty_of"]] == "none").all(axis=None)


@pytest.mark.parametrize("model", factory.MODELS)
def test_gap_of_independent_sets(gaps: pd.DataFrame, model: str) -> None:
    row = gaps.loc[(model, "digits", "optdigits", "top1")]
    k_a, k_b = (round(60 * factory.accuracy(model, d)) for d in ("digits", "optdigits"))
    assert row["gap_pp"] == pytest.approx(100 * (k_a - k_b) / 60)
    low, high = stats.newcombe(k_a, 60, k_b, 60)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((100 * low, 100 * high), abs=1e-4)
    assert row["error_ratio"] == pytest.approx((60 - k_b) / (60 - k_a), rel=1e-6)
    assert row["logit_gap"] == pytest.approx(special.logit(k_a / 60) - special.logit(k_b / 60), abs=1e-5)
    assert (row["accuracy_original"], row["accuracy_replication"]) == pytest.approx((k_a / 60, k_b / 60))
    assert (row["n_original"], row["n_replication"]) == (60, 60)
    assert (row["classes_original"], row["classes_replication"]) == (factory.N_CLASSES, factory.N_CLASSES)


def test_null_halves_hold_zero(gaps: pd.DataFrame) -> None:
    null = gaps.loc[pd.IndexSlice[:, "digits-null-a", "digits-null-b", "top1"], :]
    assert len(null) == len(NAMES)
    assert ((null["ci_low"] <= 0) & (null["ci_high"] >= 0)).all()


def test_labels_explain_the_noisy_gap(gaps: pd.DataFrame) -> None:
    plain = gaps.loc[("supervised-cnn", "digits", "digits-noisy", "top1")]
    anew = gaps.loc[("supervised-cnn", "digits", "digits-noisy", "any_of")]
    assert plain["gap_pp"] > 3
    assert anew["gap_pp"] == pytest.approx(0, abs=1e-9)
    assert plain["label_pp"] == anew["label_pp"] == pytest.approx(plain["gap_pp"] - anew["gap_pp"])
    assert (anew["labels_original"], anew["labels_replication"]) == ("original", "true")
    assert (plain["labels_original"], plain["labels_replication"]) == ("original", "original")
    assert np.isnan(gaps.loc[("supervised-cnn", "digits", "optdigits", "top1"), "label_pp"])


# What holds of every row.


def test_the_parts_are_the_whole(either: Config) -> None:
    frame = read(either, "replication")
    assert (frame["composition_pp"] + frame["within_pp"] - frame["gap_pp"]).abs().max() < 1e-12
    accuracies = 100 * (frame["accuracy_original"] - frame["accuracy_replication"])
    assert (accuracies - frame["gap_pp"]).abs().max() < 1e-12
    assert (frame.loc[frame["rule"].isin(["R0", "R3", "R4"]), "composition_pp"] == 0).all()
    assert (frame.loc[frame["rule"].isin(["R1", "R2", "R5"]), "composition_pp"] != 0).any()


def test_labels_are_what_is_left_of_the_gap_by_the_original_labels(either: Config) -> None:
    frame = read(either, "replication")
    keys = [*PAIR, *RULE]
    top1, any_of = (frame[frame["scoring"] == scoring] for scoring in ("top1", "any_of"))
    both = top1.merge(any_of, on=keys, suffixes=("", "_any"))
    assert set(both["rule"]) == set(schemas.RULES)
    assert len(both) > 500
    parts = both["composition_pp_any"] + both["within_pp_any"] + both["label_pp_any"]
    assert (parts - both["gap_pp"]).abs().max() < 1e-12
    assert (both["label_pp"] == both["label_pp_any"]).all()
    assert both[["label_low", "label_high"]].notna().all(axis=None)
    assert (both["label_low"] <= both["label_high"]).all()
    assert frame["label_pp"].notna().sum() == 2 * len(both)  # NULL where there is no other scoring to take away
    assert (both["label_pp"].abs() > 1).any()


def test_no_two_rows_say_the_same(either: Config) -> None:
    for name in ALL:
        frame = read(either, name)
        assert len(frame)
        assert not frame.duplicated(list(schemas.TABLES[name].key)).any(), name


def test_figures_are_there_wherever_they_mean_something(either: Config) -> None:
    frame = read(either, "replication")
    assert (frame[["n_original", "n_replication", "classes_original", "classes_replication"]] > 0).all(axis=None)
    always = ["gap_pp", "ci_low", "ci_high", "composition_pp", "within_pp", "within_low", "within_high"]
    always += ["accuracy_original", "accuracy_replication", "coverage_original", "coverage_replication"]
    assert np.isfinite(frame[always]).all(axis=None)
    assert (frame["error_ratio"].isna() == (frame["accuracy_original"] == 1)).all()
    saturated = frame[["accuracy_original", "accuracy_replication"]].isin([0, 1]).any(axis=1)
    unknown = frame["composition_low"].isna()
    assert not (unknown & ~saturated).any()
    assert (unknown == frame["composition_high"].isna()).all()
    everything = (frame["coverage_original"] == 1) & (frame["coverage_replication"] == 1)
    for column in ("placebo_gap_pp", "placebo_low", "placebo_high"):
        assert (frame[column].isna() == everything).all(), column
    assert (frame["logit_gap"].isna() == saturated).all()
    assert ((frame["uncertainty_of"] == "none") == (frame["rule"] == "R0")).all()
    for low, high in (("ci_low", "ci_high"), ("within_low", "within_high"), ("placebo_low", "placebo_high")):
        assert not (frame[low] > frame[high]).any()
    newcombe = (frame["ci_low"] < frame["ci_high"])[saturated]
    assert newcombe.all()  # nobody claims to know a gap exactly because nobody erred


def test_other_tables_are_complete(either: Config) -> None:
    for name in ("effective_robustness", "gap_shrinkage"):
        assert read(either, name).notna().all(axis=None), name
    contrasts = read(either, "gap_contrasts")
    own = contrasts[contrasts["original"].str.startswith("digits") & ~contrasts["model"].str.contains("/")]
    assert own.notna().all(axis=None)


@pytest.mark.parametrize("model", NAMES)
def test_every_rule_by_every_uncertainty_that_is_asked_for(stored: pd.DataFrame, model: str) -> None:
    binned = {("R1", q) for q in COVERAGES} | {("R2", q) for q in COVERAGES}
    binned |= {(rule, q) for rule in ("R3", "R5") for q in (*COVERAGES, 1.0)}
    wanted = {("R0", "none", "none", 1.0), ("R4", "agreement", "pool", 1.0), ("R5", "agreement", "pool", 1.0)}
    for measure, of in (*((m, "self") for m in MEASURES), ("entropy_nats", factory.ENSEMBLE)):
        wanted |= {(rule, measure, of, q) for rule, q in binned}
    pooled = {("R4", measure, "pool", q) for measure in MEASURES for q in COVERAGES}
    for pair, scoring in itertools.product(sorted(DIGITS), ("top1", "any_of")):
        mine = stored[(stored["model"] == model) & (stored["scoring"] == scoring)]
        mine = mine[(mine["original"] == pair[0]) & (mine["replication"] == pair[1])]
        found = set(mine[RULE].itertuples(index=False, name=None))
        if scoring == "any_of" and pair[1] != "digits-noisy":
            assert not found  # there are no other labels
        else:
            assert found - pooled == wanted  # no rule of these leaves any of these sets nothing
            assert found >= wanted


# Single rules, from the tables that they are made from.


SELVES = [("digits", "optdigits"), ("digits-null-a", "digits-null-b"), ("digits", "digits-noisy")]


@pytest.mark.parametrize(("original", "other"), SELVES)
@pytest.mark.parametrize(("measure", "of"), [("msp", "self"), ("margin", "self"), ("entropy_nats", factory.ENSEMBLE)])
def test_subsets_by_uncertainty_are_those_of_the_tables(
    results: Config, stored: pd.DataFrame, original: str, other: str, measure: str, of: str
) -> None:
    sides = known(results, original), known(results, other)
    for rule, q in itertools.product(("R1", "R2"), COVERAGES):
        rows = of_rule(stored, rule, uncertainty=measure, uncertainty_of=of, coverage_q=q)
        for model in NAMES:
            row = rows.loc[(model, original, other, "top1")]
            (u_a, right_a), (u_b, right_b) = (side.of(model, measure, model if of == "self" else of) for side in sides)
            kept = [u <= tau(u_a, q) for u in (u_a, u_b)]
            if rule == "R2":
                kept = [np.argsort(u, kind="stable")[: math.ceil(q * len(u) - 1e-9)] for u in (u_a, u_b)]
            accuracies = right_a[kept[0]].mean(), right_b[kept[1]].mean()
            assert (row["accuracy_original"], row["accuracy_replication"]) == pytest.approx(accuracies, abs=1e-12)
            sizes = len(right_a[kept[0]]), len(right_b[kept[1]])
            assert (row["n_original"], row["n_replication"]) == sizes
            shares = sizes[0] / len(u_a), sizes[1] / len(u_b)
            assert (row["coverage_original"], row["coverage_replication"]) == pytest.approx(shares)
            firsts = right_a[: sizes[0]].mean() - right_b[: sizes[1]].mean()
            if sizes != (len(u_a), len(u_b)):
                assert row["placebo_gap_pp"] == pytest.approx(100 * firsts, abs=1e-4)


@pytest.mark.parametrize(("original", "other"), SELVES)
@pytest.mark.parametrize("model", ["pixels", factory.ENSEMBLE])
def test_subsets_of_a_pool_are_those_of_the_tables(
    results: Config, stored: pd.DataFrame, original: str, other: str, model: str
) -> None:
    """R4; rows whose subset is empty are not there."""
    sides = known(results, original), known(results, other)
    absent = {model, factory.ENSEMBLE, *(factory.MEMBERS if model == factory.ENSEMBLE else ())}
    pool = [name for name in NAMES if name not in absent]
    missing = 0
    for measure, q in itertools.product(MEASURES, COVERAGES):
        rows = of_rule(stored, "R4", uncertainty=measure, uncertainty_of="pool", coverage_q=q)
        cuts = {name: tau(sides[0].unsure[measure].loc[name].to_numpy(), q) for name in pool}
        kept = [
            np.mean([side.unsure[measure].loc[name].to_numpy() <= cuts[name] for name in pool], axis=0) >= 0.9 - 1e-9
            for side in sides
        ]
        if not all(k.any() for k in kept):
            assert (model, original, other, "top1") not in rows.index
            missing += 1
            continue
        row = rows.loc[(model, original, other, "top1")]
        accuracies = [side.right.loc[model].to_numpy()[k].mean() for side, k in zip(sides, kept, strict=True)]
        assert [row["accuracy_original"], row["accuracy_replication"]] == pytest.approx(accuracies, abs=1e-12)
        assert [row["n_original"], row["n_replication"]] == [k.sum() for k in kept]
    assert missing < len(MEASURES) * len(COVERAGES)


@pytest.mark.parametrize(("original", "other"), SELVES)
def test_images_on_which_a_pool_agrees_are_those_of_the_tables(
    results: Config, stored: pd.DataFrame, original: str, other: str
) -> None:
    rows = of_rule(stored, "R4", uncertainty="agreement", uncertainty_of="pool")
    for model in NAMES:
        absent = {model, factory.ENSEMBLE, *(factory.MEMBERS if model == factory.ENSEMBLE else ())}
        row = rows.loc[(model, original, other, "top1")]
        for dataset, side in ((original, "original"), (other, "replication")):
            answers = factory.predictions(results, dataset)
            answers = answers[(answers["condition"] == "clean") & ~answers["model"].isin(absent)]
            votes = answers.groupby("sample_id")["pred"].agg(lambda pred: pred.value_counts(normalize=True).max())
            agreed = votes.index[votes >= 0.9 - 1e-9]
            assert row[f"n_{side}"] == len(agreed)
            accuracy = factory.right(results, dataset).loc[model, agreed].mean()
            assert row[f"accuracy_{side}"] == pytest.approx(accuracy, abs=1e-12)


@pytest.mark.parametrize("pair", [("digits", "optdigits"), ("digits", "digits-noisy")])
def test_intervals_are_those_of_resampled_images(results: Config, stored: pd.DataFrame, pair: tuple[str, str]) -> None:
    """Each replicate by itself: which images it holds, and what R0, R1 and the lines of the others are on these."""
    sides = known(results, pair[0]), known(results, pair[1])
    drawn = protocol.resample(sides[0].origins, sides[1].origins, compute.rng(results.seed, "replication", *pair), 200)
    assert drawn.shared == (pair[1] == "digits-noisy")
    whole, some = np.empty((201, len(NAMES), 2)), np.empty((201, len(NAMES), 2))
    for r in range(201):
        copies = [
            np.repeat(np.arange(len(w)), w)
            for w in (drawn.a[r // LANES, :, r % LANES], drawn.b[r // LANES, :, r % LANES])
        ]
        for m, model in enumerate(NAMES):
            u, right = zip(*(side.of(model, "msp", model) for side in sides), strict=True)
            cut = tau(u[0][copies[0]], 0.8)
            for place in range(2):
                whole[r, m, place] = right[place][copies[place]].mean()
                some[r, m, place] = right[place][copies[place]][u[place][copies[place]] <= cut].mean()
    r0, r1 = of_rule(stored, "R0"), of_rule(stored, "R1", uncertainty="msp", uncertainty_of="self", coverage_q=0.8)
    for m, model in enumerate(NAMES):
        for rows, figures in ((r0, whole), (r1, some)):
            row = rows.loc[(model, *pair, "top1")]
            values = 100 * (figures[:, m, 0] - figures[:, m, 1])
            assert row["gap_pp"] == pytest.approx(values[0], abs=1e-9)
            analytic = not drawn.shared and (
                rows is r0 or {row["accuracy_original"], row["accuracy_replication"]} & {0, 1}
            )
            if not analytic:
                ends = np.quantile(values[1:], [0.025, 0.975])
                assert [row["ci_low"], row["ci_high"]] == pytest.approx(ends, abs=1e-3)

    contrasts = read(results, "gap_contrasts").set_index([*PAIR, "baseline", "scoring"])
    row = contrasts.loc[("simclr-cnn", *pair, "supervised-cnn", "top1")]
    gap = 100 * (whole[:, :, 0] - whole[:, :, 1])
    difference = gap[:, NAMES.index("simclr-cnn")] - gap[:, NAMES.index("supervised-cnn")]
    assert row["gap_pp"] == pytest.approx(difference[0])
    assert [row["ci_low"], row["ci_high"]] == pytest.approx(np.quantile(difference[1:], [0.025, 0.975]), abs=1e-3)

    robust = read(results, "effective_robustness").set_index([*PAIR, "scoring", "scale"])
    singles = [m for m, model in enumerate(NAMES) if model != factory.ENSEMBLE]
    for scale, m in itertools.product(("linear", "logit", "probit"), (0, NAMES.index(factory.ENSEMBLE))):
        values = [100 * _robustness(one, singles, m, scale) for one in whole]
        row = robust.loc[(NAMES[m], *pair, "top1", scale)]
        assert row["value_pp"] == pytest.approx(values[0], abs=1e-6)
        assert [row["ci_low"], row["ci_high"]] == pytest.approx(np.quantile(values[1:], [0.025, 0.975]), abs=1e-3)


def _robustness(accuracies: np.ndarray, fitted: list[int], m: int, scale: str, n: tuple[int, int] = (60, 60)) -> float:
    """Accuracy of model m on the other set minus what numpy's line through the other models gives; (M, 2)."""
    ways = {"linear": (np.asarray, np.asarray), "logit": (special.logit, special.expit)}
    there, back = ways.get(scale, (scipy_stats.norm.ppf, scipy_stats.norm.cdf))
    edges = [0.0 if scale == "linear" else 1 / (2 * size) for size in n]
    x, y = (there(np.clip(accuracies[:, side], edges[side], 1 - edges[side])) for side in range(2))
    others = [other for other in fitted if other != m]
    return float(accuracies[m, 1] - back(np.polyval(np.polyfit(x[others], y[others], 1), x[m])))


# The tables made from the gaps.


def test_effective_robustness_is_the_distance_to_the_line_of_the_others(either: Config) -> None:
    robust, stored = read(either, "effective_robustness"), of_rule(read(either, "replication"), "R0")
    assert set(zip(robust["original"], robust["replication"], strict=True)) == DIGITS  # two models make no line
    for key, rows in robust.groupby(["original", "replication", "scoring", "scale"]):
        original, other, scoring, scale = map(str, key)
        gaps = stored.xs((original, other, scoring), level=("original", "replication", "scoring"))
        models = [model for model in gaps.index if model != factory.ENSEMBLE]
        assert set(rows["model"]) == set(gaps.index)
        accuracies = gaps.loc[rows["model"], ["accuracy_original", "accuracy_replication"]].to_numpy()
        n = gaps["n_original"].iloc[0], gaps["n_replication"].iloc[0]
        fitted = [m for m, model in enumerate(rows["model"]) if model in models]
        for m, row in enumerate(rows.itertuples()):
            value = _robustness(accuracies, fitted, m, scale, n)
            assert row.value_pp == pytest.approx(100 * value, abs=1e-6)
            assert row.predicted == pytest.approx(accuracies[m, 1] - value, abs=1e-6)
            assert row.accuracy_replication == pytest.approx(accuracies[m, 1])
            assert row.accuracy_original == pytest.approx(accuracies[m, 0])
            assert row.n_models == len(models) - (row.model in models)
            assert row.ci_low <= row.ci_high


def test_shrinkage_is_what_the_rows_of_the_models_say(either: Config) -> None:
    keys = ["original", "replication", "scoring"]
    frame, found = read(either, "replication"), read(either, "gap_shrinkage")
    frame = frame[frame["model"] != factory.ENSEMBLE]
    whole = frame.loc[frame["rule"] == "R0", ["model", *keys, "gap_pp", "error_ratio"]]
    rows = frame[~frame["rule"].isin(["R0", "R5"])].merge(whole, on=["model", *keys], suffixes=("", "_all"))
    families = {name: spec.get("family", "unknown") for name, spec in (factory.MODELS | factory.IMPORTED).items()}
    everybody = [one.assign(family=family) for one in (whole, rows) for family in ("all", one["model"].map(families))]
    whole, rows = pd.concat(everybody[:2]), pd.concat(everybody[2:])
    rows["shrink"] = rows["gap_pp_all"] - rows["gap_pp"]
    rows["ratio"] = rows["error_ratio"] - rows["error_ratio_all"]
    asked = whole.groupby([*keys, "family"])["model"].nunique().to_dict()
    measured = rows.groupby([*keys, "family", "uncertainty", "uncertainty_of"])["model"].nunique().to_dict()
    expected = {}
    for key, group in rows.groupby([*keys, *RULE, "family"]):
        of_family = (*key[:3], key[-1])
        if (measured[(*of_family, *key[4:6])] if key[5] == "self" else asked[of_family]) < 2:
            continue  # one model is no group, but a group may have one model left
        up, down = int((group["shrink"] > 1e-9).sum()), int((group["shrink"] < -1e-9).sum())
        falls = (group["ratio"] < -1e-5).sum()
        p = scipy_stats.binomtest(up, up + down).pvalue if up + down else 1.0
        expected[key] = (len(group), up, down, falls, p, group["shrink"].median())
    figures = ["n_models", "n_shrinks", "n_grows", "n_ratio_falls", "p_sign", "median_shrink_pp"]
    found = found.set_index([*keys, *RULE, "family"])
    assert set(found.index) == set(expected)
    assert len(expected) > 1000
    order = list(expected)
    assert np.allclose(found.loc[order, figures].to_numpy(float), np.array(list(expected.values()), float), atol=1e-9)
    assert (found["ci_low"] <= found["ci_high"]).all()
    assert (found["n_shrinks"] > 0).any()
    assert (found["n_grows"] > 0).any()


def test_contrasts_are_of_one_architecture_and_of_one_pair(either: Config) -> None:
    found, frame = read(either, "gap_contrasts"), read(either, "replication")
    specs = {**factory.MODELS, **factory.IMPORTED}
    gaps = of_rule(frame, "R0")
    binned = of_rule(frame, "R5", uncertainty="entropy_nats", uncertainty_of="self", coverage_q=1.0)
    expected = set()
    for (original, other, scoring), rows in gaps.groupby(level=["original", "replication", "scoring"]):
        models = [model for model in rows.index.get_level_values("model") if model in specs]
        expected |= {
            (mine, theirs, original, other, scoring)
            for mine, theirs in itertools.product(models, models)
            if (specs[mine].get("family"), specs[theirs].get("family")) == ("ssl", "supervised")
            and specs[mine]["arch"] == specs[theirs]["arch"]
        }
    keys = ["model", "baseline", "original", "replication", "scoring"]
    assert set(found[keys].itertuples(index=False, name=None)) == expected
    for row in found.itertuples():
        mine, theirs = ((model, row.original, row.replication, row.scoring) for model in (row.model, row.baseline))
        assert row.gap_pp == pytest.approx(gaps.loc[mine, "gap_pp"] - gaps.loc[theirs, "gap_pp"], abs=1e-9)
        assert row.ci_low <= row.gap_pp + 1e-4
        assert row.gap_pp <= row.ci_high + 1e-4
        parts = [row.composition_pp, row.within_pp]
        if mine not in binned.index:  # its confidences are not known
            assert np.isnan([*parts, row.composition_low, row.within_high]).all()
            continue
        assert sum(parts) == pytest.approx(row.gap_pp, abs=1e-9)
        for part in ("composition_pp", "within_pp"):
            assert getattr(row, part) == pytest.approx(binned.loc[mine, part] - binned.loc[theirs, part], abs=1e-9)
        assert row.ssl_family == {"simclr": "contrastive", "mae": "masked_image_modelling"}[specs[row.model]["method"]]


# Models of which less is known.


def test_imported_models_have_gaps_between_the_sets_that_they_answer_to(mixed: Config) -> None:
    frame = read(mixed, "replication")
    where = frame.groupby("model")[["original", "replication"]].agg(set)
    assert where.loc["org/cnn"].tolist() == [{"digits"}, {"optdigits"}]  # what has no answers to the other set is out
    assert where.loc["plain"].tolist() == [{"objects"}, {"objects-v2"}]
    gaps = of_rule(frame, "R0")
    for model in ("org/resnet50.a1", "plain"):
        pair = (model, "objects", "objects-v2")
        shares = {}
        for scoring, sources in (("top1", ("original", "original")), ("any_of", ("real", "refined_v2"))):
            sides = [factory.right(mixed, d, s).loc[model] for d, s in zip(pair[1:], sources, strict=True)]
            (k_a, n_a), (k_b, n_b) = ((int(side.sum()), len(side)) for side in sides)
            low, high = stats.newcombe(k_a, n_a, k_b, n_b)
            row = gaps.loc[(*pair, scoring)]
            assert (row["labels_original"], row["labels_replication"]) == sources
            assert (row["n_original"], row["n_replication"]) == ((30, 30) if scoring == "top1" else (27, 27))
            assert row["gap_pp"] == pytest.approx(100 * (k_a / n_a - k_b / n_b))
            assert (row["ci_low"], row["ci_high"]) == pytest.approx((100 * low, 100 * high), abs=1e-4)
            shares[scoring] = row["gap_pp"]
        assert gaps.loc[(*pair, "top1"), "label_pp"] == pytest.approx(shares["top1"] - shares["any_of"])


def test_models_without_confidences_have_no_rows_by_their_own(mixed: Config) -> None:
    frame = read(mixed, "replication")
    found = {
        model: set(
            frame.loc[frame["model"] == model, ["rule", "uncertainty", "uncertainty_of"]].itertuples(
                index=False, name=None
            )
        )
        for model in ("plain", "org/cnn", "org/resnet50.a1")
    }
    # two models answer to the objects, so nobody has a pool; only one of them has confidences
    assert found["plain"] == {("R0", "none", "none")}
    own = {(rule, measure, "self") for rule in ("R1", "R2", "R3", "R5") for measure in MEASURES}
    assert found["org/resnet50.a1"] == {("R0", "none", "none"), *own}
    # among the digits models there is a pool, and an ensemble whose confidences choose the images
    pool = {("R4", measure, "pool") for measure in (*MEASURES, "agreement")} | {("R5", "agreement", "pool")}
    ensemble = {(rule, "entropy_nats", factory.ENSEMBLE) for rule in ("R1", "R2", "R3", "R5")}
    assert found["org/cnn"] == {("R0", "none", "none"), *pool, *ensemble}
    assert not (frame["uncertainty_of"] == "org/cnn").any()


def test_subsets_by_the_labels_that_there_are(mixed: Config) -> None:
    """Images without labels of the other source are in no subset, and make no threshold."""
    frame = read(mixed, "replication")
    model, pair = "org/resnet50.a1", ("objects", "objects-v2")
    sides = known(mixed, pair[0], "real"), known(mixed, pair[1], "refined_v2")
    for q in COVERAGES:
        row = of_rule(frame, "R1", uncertainty="margin", coverage_q=q).loc[(model, *pair, "any_of")]
        (u_a, right_a), (u_b, right_b) = (side.of(model, "margin", model) for side in sides)
        kept = u_a <= tau(u_a, q), u_b <= tau(u_a, q)
        assert (len(u_a), len(u_b)) == (27, 27)
        assert (row["n_original"], row["n_replication"]) == (kept[0].sum(), kept[1].sum())
        assert row["coverage_original"] == pytest.approx(kept[0].sum() / 27)
        assert row["gap_pp"] == pytest.approx(100 * (right_a[kept[0]].mean() - right_b[kept[1]].mean()))


def _with(config: Config, **changes: object) -> Config:
    """Another section `protocol`, and fewer resamples."""
    return config.model_copy(
        update={
            "protocol": config.protocol.model_copy(update=changes),
            "statistics": config.statistics.model_copy(update={"bootstrap": 20}),
        }
    )


def _only(config: Config, *pairs: str) -> Config:
    """Nothing held against anything but these sets against theirs."""
    alone = {
        name: dataset.model_copy(update={} if name in pairs else {"replicates": None})
        for name, dataset in config.datasets.items()
    }
    return config.model_copy(update={"datasets": alone})


def test_what_is_stored_is_what_is_asked_for(own_results: Config) -> None:
    """`energy` is not known of the ensemble, which is then no reference, and no member of a row of its own."""
    asked = _with(
        own_results, measures=["energy"], references=["pixels", factory.ENSEMBLE], coverages=[0.4, 1.0], bins=3
    )
    replication.run(_only(asked, "optdigits"))
    frame = read(own_results, "replication")
    assert set(zip(frame["original"], frame["replication"], strict=True)) == {("digits", "optdigits")}
    chosen = frame[frame["rule"].isin(["R1", "R2", "R3", "R5"]) & (frame["uncertainty"] == "energy")]
    assert set(chosen["uncertainty_of"]) == {"self", "pixels"}
    by = chosen.groupby("uncertainty_of")["model"].agg(set)
    assert by["self"] == set(factory.MODELS)
    assert by["pixels"] == set(NAMES)
    assert set(chosen.loc[chosen["rule"] == "R1", "coverage_q"]) == {0.4}  # all is R0
    pooled = frame[(frame["rule"] == "R4") & (frame["uncertainty"] == "energy")]
    assert set(pooled["coverage_q"]) == {0.4, 1.0}
    certain = pooled[pooled["coverage_q"] == 1]  # everybody is as certain as it ever is on the original
    assert set(certain["model"]) == set(NAMES)
    assert (certain["n_original"] == 60).all()
    assert (certain["n_replication"] < 60).all()
    one = of_rule(frame, "R5", uncertainty="energy", uncertainty_of="pixels", coverage_q=1.0)
    row = one.loc[("mae-vit", "digits", "optdigits", "top1")]
    sides = [known(own_results, d).of("mae-vit", "energy", "pixels") for d in ("digits", "optdigits")]
    cuts = [tau(sides[0][0], 1 / 3), tau(sides[0][0], 2 / 3)]
    bins = [np.searchsorted(cuts, u, side="left") for u, _ in sides]
    shares = [np.bincount(b, minlength=3) / len(b) for b in bins]
    accuracy = np.array([sides[0][1][bins[0] == b].mean() for b in range(3)])
    assert row["composition_pp"] == pytest.approx(100 * ((shares[0] - shares[1]) @ accuracy), abs=1e-9)


def test_uncertainty_that_is_constant_or_not_known_of_an_image(own_results: Config) -> None:
    path = own_results.results / "uncertainty.parquet"
    frame = tables.read("uncertainty", path)
    frame.loc[frame["model"] == "pixels", "msp"] = 0.0  # saturated
    lost = frame.index[(frame["model"] == "mae-vit") & (frame["dataset"] == "optdigits")][7]
    frame.loc[lost, "msp"] = np.nan
    tables.write("uncertainty", frame, path)
    asked = _with(own_results, measures=["msp", "margin"], coverages=[0.5])
    replication.run(_only(asked, "optdigits", "digits-corrupted"))
    frame = read(own_results, "replication")
    own = frame[(frame["uncertainty"] == "msp") & (frame["uncertainty_of"] == "self")]
    where = own.groupby("model")["replication"].agg(set)
    assert where["mae-vit"] == {"digits-corrupted"}
    assert where["simclr-cnn"] == {"digits-corrupted", "optdigits"}
    flat = own[own["model"] == "pixels"]
    assert set(flat["rule"]) == {"R1", "R2", "R3", "R5"}
    everything = flat[flat["rule"] != "R2"]
    assert (everything[["coverage_original", "coverage_replication"]] == 1).all(axis=None)
    whole = of_rule(frame, "R0").xs("pixels")["gap_pp"]
    for row in everything.itertuples():
        assert row.gap_pp == pytest.approx(whole[(row.original, row.replication, row.scoring)], abs=1e-9)
        assert row.composition_pp == pytest.approx(0, abs=1e-9)
    halves = flat[flat["rule"] == "R2"]
    assert (halves[["n_original", "n_replication"]] == 30).all(axis=None)
    firsts = known(own_results, "digits").right.loc["pixels"].to_numpy()[:30].mean()  # ties: in the order of the hash
    assert halves["accuracy_original"].tolist() == pytest.approx([firsts] * len(halves))
    assert (halves["gap_pp"] - halves["placebo_gap_pp"]).abs().max() < 1e-4


def test_sets_of_different_label_spaces_are_refused(own_results: Config) -> None:
    path = own_results.results / "datasets.parquet"
    frame = tables.read("datasets", path)
    frame.loc[frame["dataset"] == "optdigits-full", "label_space"] = "letters"
    tables.write("datasets", frame, path)
    before = {name: tables.sha256(own_results.results / f"{name}.parquet") for name in ALL}
    with pytest.raises(BenchError) as caught:
        replication.run(own_results)
    message = str(caught.value)
    assert "'optdigits-full' is held against 'digits'" in message
    assert "'letters', not 'digits'" in message
    assert "params.yaml" in message
    assert "datasets.optdigits-full.replicates" in message
    assert {name: tables.sha256(own_results.results / f"{name}.parquet") for name in ALL} == before


def test_a_benchmark_without_pairs_has_empty_tables(own_results: Config) -> None:
    assert replication.run(_only(own_results)) == dict.fromkeys(ALL, 0)
    for name in ALL:
        assert read(own_results, name).empty


def test_twice_the_same_bytes(own_results: Config) -> None:
    paths = [own_results.results / f"{name}.parquet" for name in ALL]
    before = [tables.sha256(path) for path in paths]
    threads = own_results.compute.model_copy(update={"threads": 2})
    replication.run(own_results.model_copy(update={"compute": threads}))  # on how many threads makes no difference
    assert [tables.sha256(path) for path in paths] == before
