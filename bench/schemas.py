"""Every table: columns, types, keys, units. Checked when written and when read.

One declaration per column makes both the Arrow schema (exact bytes on disk) and the pandera schema (checks).
Importing this module is cheap: pandera and pyarrow are imported where they are used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pandera.pandas as pa_pandas
    import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """One column. `kind` is a type of `arrow`; bounds are inclusive; `allowed` lists every legal value.

    `bits`: significant bits that are stored of a float, all where None. `earlier`: what stands in the place of a column
    that results of an earlier version do not have; None: NULL, where that may be.
    """

    kind: str
    about: str = ""
    nullable: bool = False
    low: float | None = None
    high: float | None = None
    allowed: tuple[str, ...] | None = None
    bits: int | None = None
    earlier: str | None = None


@dataclass(frozen=True)
class Table:
    """A table: what a row is, its columns in order, and the columns that together are its key."""

    about: str
    key: tuple[str, ...]
    columns: dict[str, Column] = field(default_factory=dict)


def _str(about: str = "", **more: Any) -> Column:
    return Column("str", about, **more)


def _int(about: str = "", **more: Any) -> Column:
    return Column("int32", about, **more)


def _count(about: str = "", **more: Any) -> Column:
    return Column("int32", about, low=0, **more)


def _float(about: str = "", **more: Any) -> Column:
    return Column("float32", about, **more)


def _share(about: str = "", **more: Any) -> Column:
    return Column("float32", about, low=0, high=1, **more)


def _double(about: str = "", **more: Any) -> Column:
    return Column("float64", about, **more)


def _bool(about: str = "", **more: Any) -> Column:
    return Column("bool", about, **more)


def _blob(about: str = "", **more: Any) -> Column:
    return Column("binary", about, **more)


OUTPUT_BITS = 16
"""Significant bits kept of what a network says of one image: within a relative 2 ** -16, what the shape of a batch may
change anyway. The other eight bits are noise that does not compress; they would be a quarter of a release."""


def _output(about: str = "", **more: Any) -> Column:
    return Column("float32", about, bits=OUTPUT_BITS, **more)


BOUND_BITS = 20
"""Significant bits kept of the ends of bootstrapped intervals and what else is shown to two digits: within 1e-6."""


def _bound(about: str = "", **more: Any) -> Column:
    return Column("float64", about, nullable=True, bits=BOUND_BITS, **more)


def _with_bounds(name: str, column: Column, of: str = "") -> dict[str, Column]:
    """A column and the ends of its interval, `<of>_low` and `<of>_high` (of: `name`)."""
    of = of or name
    return {name: column, f"{of}_low": _bound("bootstrap over images"), f"{of}_high": _bound()}


def _beside_whole(name: str, about: str, nullable: bool = True) -> dict[str, Column]:
    """A mean, and as times that of the whole image, with an interval."""
    over = _double("the mean over that of the whole image", nullable=True, low=0)
    return {name: _double(about, nullable=nullable, low=0), **_with_bounds(f"{name}_over", over, of=name)}


MAP_BITS = 10
"""Significant bits kept of a place on a map and of what is shown beside it: a place to a thousandth of the map."""


ROLES = ("original", "replication", "shifted", "composite", "control")
FAMILIES = ("supervised", "ssl", "random", "pixels", "unknown")
SSL_FAMILIES = (
    "contrastive",
    "clustering",
    "distillation",
    "information_maximisation",
    "masked_image_modelling",
)
SSL_MEASURES = ("accuracy", "change", "both_right")
RULES = ("R0", "R1", "R2", "R3", "R4", "R5")
METRICS = (
    "top1",
    "any_of",
    "any_of_empty_wrong",
    "class_balanced",
    "top_k",
    "ece",
    "ece_calibrated",
    "nll",
    "brier",
    "temperature",
    "robust_accuracy",
)

SEGMENTATION_VARIANTS = ("asma", "static-mask", "static-multiplier", "static-both", "ce-pgd", "logit-pgd")
_SAMPLE = _str("<dataset>/<stable id>")
_MODEL = _str("name as in params.yaml, or as published")
_DATASET = _str("name as in params.yaml")
_CONDITION = _str("clean | corruption:<name>:<severity> | attack:<name>:<eps_255>")
_CLASS = _int("index into the label space", low=0)
_CI = {"ci_low": _double("lower end of the interval", nullable=True), "ci_high": _double("upper end", nullable=True)}
_BOUNDS = {"ci_low": _bound("lower end of the interval"), "ci_high": _bound("upper end")}
_PERTURBED = ("ce", "sign", "logit", "noise")
_TARGET_RULE = _str(
    "random: drawn by the id | runner_up: second when clean", allowed=("random", "runner_up"), earlier="random"
)
_OBJECTIVE = _str(allowed=("ce", "sign", "logit", "lbfgs"))
_VARIANT = _str(
    "equal: steps of one length | raw: the length times the gradient | search: by L-BFGS",
    allowed=("equal", "raw", "search"),
)
_SIMULATED = {
    "simulated": _bool("whether the sequences are simulated; NULL where only `radar_models` says it", nullable=True)
}
_KAPPA = _double("margin of the target's logit at which an image stops; 0: it is answered", low=0, earlier="0")
_CELL = {"model": _MODEL, "dataset": _DATASET, "condition": _CONDITION}

TABLES: dict[str, Table] = {
    "datasets": Table(
        "one set of images",
        ("dataset",),
        {
            "dataset": _DATASET,
            "label_space": _str(),
            "role": _str(allowed=ROLES),
            "replicates": _str("the original that this set is held against", nullable=True),
            "modality": _str(allowed=("image", "video", "radar")),
            "n_samples": _count("all splits"),
            "n_test": _count("test split: what is evaluated"),
            "n_classes": _count(),
            "title": _str("name for people"),
            "about": _str("what it is, and what was done to it"),
            "synthetic": _str("empty for images as collected; else composed | corrupted | relabelled | selected"),
            "source": _str(),
            "license": _str(),
        },
    ),
    "classes": Table(
        "one class of a label space",
        ("label_space", "class_id"),
        {
            "label_space": _str(),
            "class_id": _CLASS,
            "name": _str(),
            "wnid": _str(nullable=True),
            "definition": _str("in words", nullable=True),
        },
    ),
    "samples": Table(
        "one image",
        ("sample_id",),
        {
            "sample_id": _SAMPLE,
            "dataset": _DATASET,
            "split": _str(allowed=("train", "test")),
            "label": _int("original label", low=0),
            "width": _count("pixels, NULL where there is no picture", nullable=True),
            "height": _count("pixels, NULL where there is no picture", nullable=True),
            "source_id": _str("the sample whose pixels or object this one is made from, else its own id"),
        },
    ),
    "images": Table(
        "the picture of a test image, at most 256 px",
        ("sample_id",),
        {"sample_id": _SAMPLE, "thumbnail": _blob("encoded"), "media_type": _str()},
    ),
    "labels": Table(
        "one label of one image from one source",
        ("sample_id", "source", "class_id"),
        {
            "sample_id": _SAMPLE,
            "source": _str("original | true | real | refined_v2 | cifar10h | machine | consensus | ..."),
            "class_id": _CLASS,
            "weight": _share("1 for a plain label, a share of votes otherwise"),
        },
    ),
    "models": Table(
        "one model: an encoder with its all-label head",
        ("model",),
        {
            "model": _MODEL,
            "family": _str(allowed=FAMILIES),
            "method": _str(),
            "ssl_family": _str(nullable=True, allowed=SSL_FAMILIES),
            "arch": _str(),
            "head": _str("linear | trained | none"),
            "train_dataset": _str("where the head was fitted", nullable=True),
            "params_m": _double("millions of parameters", nullable=True),
            "dtype": _str(),
            "weights_sha256": _str(nullable=True),
            "source": _str(allowed=("trained", "hub", "checkpoint", "imported")),
            "input_size": _int("pixels a side that the network sees", nullable=True),
            "epochs": _int(nullable=True),
            "temperature": _double("fitted on a part of train", nullable=True),
            "origin": _str("where weights, or an imported model's answers, came from, and what to mind", nullable=True),
        },
    ),
    "predictions": Table(
        "one model's answer to one test image under one condition",
        ("model", "dataset", "condition", "sample_id"),
        {
            **_CELL,
            "sample_id": _SAMPLE,
            "pred": _CLASS,
            "p_top1": _output("softmax probability of pred", nullable=True, low=0, high=1),
            "p_true": _output("softmax probability of the original label", nullable=True, low=0, high=1),
            "top5": Column("list<int16>", "class ids, most probable first; fewer where fewer are known", nullable=True),
        },
    ),
    "imported": Table(
        "what a model answered elsewhere to one test image: a file of data/imported or fetched/<preset>",
        ("sample_id",),
        {
            "sample_id": _SAMPLE,
            "pred": _CLASS,
            "p_top1": _output("probability of pred", nullable=True, low=0, high=1),
            "p_true": _output("probability of the original label", nullable=True, low=0, high=1),
            "top5": Column("list<int16>", "class ids, most probable first; fewer where fewer are known", nullable=True),
            "msp": _output("1 - p1", nullable=True, low=0, high=1),
            "entropy_nats": _output("entropy of the softmax, nats", nullable=True, low=0),
            "margin": _output("1 - (p1 - p2)", nullable=True, low=0, high=1),
            "energy": _output("-logsumexp(logits)", nullable=True),
        },
    ),
    "logits": Table(
        "one model's clean logits of one test image",
        ("dataset", "sample_id"),
        {"dataset": _DATASET, "sample_id": _SAMPLE, "logits": Column("list<float32>", "(K,)")},
    ),
    "uncertainty": Table(
        "how unsure a model is of a test image; higher is less sure in every column",
        ("model", "dataset", "condition", "sample_id"),
        {
            **_CELL,
            "sample_id": _SAMPLE,
            "msp": _output("1 - p1", nullable=True, low=0, high=1),
            "entropy_nats": _output("entropy of the softmax, nats", nullable=True, low=0),
            "margin": _output("1 - (p1 - p2)", nullable=True, low=0, high=1),
            "energy": _output("-logsumexp(logits)", nullable=True),
            "mutual_information": _output("of the ensemble's members, nats", nullable=True, low=0),
        },
    ),
    "metrics": Table(
        "one figure of one model on one set of images",
        ("model", "dataset", "condition", "subset", "label_source", "metric"),
        {
            **_CELL,
            "subset": _str(),
            "label_source": _str(),
            "metric": _str(allowed=METRICS),
            "value": _double(),
            **_CI,
            "n": _count("images behind the figure"),
        },
    ),
    "replication": Table(
        "the gap of one model between two sets under one rule (bench/evaluate/protocol.py)",
        ("model", "original", "replication", "rule", "uncertainty", "uncertainty_of", "coverage_q", "scoring"),
        {
            "model": _MODEL,
            "original": _DATASET,
            "replication": _DATASET,
            "rule": _str(allowed=RULES),
            "uncertainty": _str("measure that the rule selects by; `none` for R0, `agreement` of a pool's answers"),
            "uncertainty_of": _str("self | pool (the other models) | a model | none for R0", earlier="none"),
            "coverage_q": _double("share of the original that makes tau; 1: no tau", low=0, high=1),
            "scoring": _str(allowed=("top1", "any_of")),
            "labels_original": _str("label source on the original"),
            "labels_replication": _str("label source on the other set"),
            "gap_pp": _double("accuracy on the original minus on the other, percentage points"),
            **_BOUNDS,
            "composition_pp": _double("gap_pp = composition_pp + within_pp", nullable=True),
            "composition_low": _bound(),
            "composition_high": _bound(),
            "within_pp": _double(nullable=True),
            "within_low": _bound(),
            "within_high": _bound(),
            "label_pp": _double("gap(top1) - gap(any_of)", nullable=True),
            "label_low": _bound(),
            "label_high": _bound(),
            "placebo_gap_pp": _bound("gap on a random subset of the same sizes"),
            "placebo_low": _bound("where the gaps of most such subsets lie"),
            "placebo_high": _bound(),
            "accuracy_original": _double("of the images kept", nullable=True, low=0, high=1),
            "accuracy_replication": _double("of the images kept (R3: weighted)", nullable=True, low=0, high=1),
            "error_ratio": _bound("errors on the other set over errors on the original"),
            "logit_gap": _bound("logit of the one accuracy minus logit of the other"),
            "coverage_original": _double("share of its images that is kept", low=0, high=1),
            "coverage_replication": _double("", low=0, high=1),
            "n_original": _count("images kept"),
            "n_replication": _count("images kept"),
            "classes_original": _count("classes that the images kept have", nullable=True),
            "classes_replication": _count(nullable=True),
        },
    ),
    "effective_robustness": Table(
        "accuracy of one model on another set, against the line of the other models",
        ("model", "original", "replication", "scoring", "scale"),
        {
            "model": _MODEL,
            "original": _DATASET,
            "replication": _DATASET,
            "scoring": _str(allowed=("top1", "any_of")),
            "scale": _str("axes on which the line is fitted", allowed=("linear", "logit", "probit")),
            "value_pp": _double("accuracy minus what the line gives, percentage points"),
            **_BOUNDS,
            "accuracy_original": _share(),
            "accuracy_replication": _share(),
            "predicted": _float("what the line of the other models gives; a straight line may leave 0 to 1"),
            "n_models": _count("models that the line is fitted to"),
        },
    ),
    "gap_shrinkage": Table(
        "for how many models a gap is smaller under a rule than over all images",
        ("original", "replication", "rule", "uncertainty", "uncertainty_of", "coverage_q", "scoring", "family"),
        {
            "original": _DATASET,
            "replication": _DATASET,
            "rule": _str(allowed=RULES),
            "uncertainty": _str(),
            "uncertainty_of": _str(),
            "coverage_q": _double(low=0, high=1),
            "scoring": _str(allowed=("top1", "any_of")),
            "family": _str("all | a family"),
            "n_models": _count("models, no ensembles"),
            "n_shrinks": _count("models whose gap is smaller"),
            "n_grows": _count("models whose gap is larger"),
            "n_ratio": _count("models whose error ratio is known under the rule: the original has errors left"),
            "n_ratio_falls": _count("of these, models whose error ratio is smaller: what saturation alone does not do"),
            "p_sign": _double("two-sided sign test; models share images, so it is too small", low=0, high=1),
            "median_shrink_pp": _double("median over models of gap over all minus gap under the rule"),
            **_BOUNDS,
        },
    ),
    "gap_contrasts": Table(
        "the gap of a self-supervised model minus that of a supervised one of the same architecture",
        ("model", "baseline", "original", "replication", "scoring"),
        {
            "model": _MODEL,
            "baseline": _MODEL,
            "original": _DATASET,
            "replication": _DATASET,
            "scoring": _str(allowed=("top1", "any_of")),
            "ssl_family": _str(nullable=True, allowed=SSL_FAMILIES),
            "arch": _str(),
            "gap_pp": _double("difference of the gaps; below 0: the self-supervised one loses less"),
            **_BOUNDS,
            "composition_pp": _double("of that, by composition; NULL without confidences", nullable=True),
            "composition_low": _bound(),
            "composition_high": _bound(),
            "within_pp": _double("of that, at equal uncertainty", nullable=True),
            "within_low": _bound(),
            "within_high": _bound(),
        },
    ),
    "comparisons": Table(
        "two models on the same images; model_a is the more accurate",
        ("model_a", "model_b", "dataset", "condition", "label_source"),
        {
            "model_a": _MODEL,
            "model_b": _MODEL,
            "dataset": _DATASET,
            "condition": _CONDITION,
            "label_source": _str(),
            "delta_pp": _double("accuracy of a minus accuracy of b, percentage points"),
            **_CI,
            "p_value": _double("exact McNemar", low=0, high=1),
            "p_holm": _double("after Holm over all pairs of the dataset", low=0, high=1),
            "tie_group": _int("the rank that both share, NULL where they can be told apart", nullable=True),
        },
    ),
    "ranks": Table(
        "the place of a model among all on one dataset",
        ("model", "dataset", "condition", "label_source"),
        {
            **_CELL,
            "label_source": _str(),
            "rank": _int("shared by models whose order cannot be told apart", low=1),
            "rank_low": _int("best place it may have: 1 + models that are surely better", low=1),
            "rank_high": _int("worst place it may have: models that are not surely worse", low=1),
        },
    ),
    "ssl_models": Table(
        "what a network of the contrast of self-supervised and supervised ones was trained with",
        ("model",),
        {
            "model": _MODEL,
            "arch": _str(),
            "ssl_family": _str("NULL: supervised", nullable=True, allowed=SSL_FAMILIES),
            "views": _str("what images bear: views (colour, blur or noise too) | supervised (geometry) | none"),
            "n_images": _count("images that it was trained on"),
            "views_seen": _int("images that passed through the encoder: epochs x images x views", low=0),
            "label_noise": _share("share of its labels that were simulated as wrong"),
            "seed": _int(),
        },
    ),
    "ssl_pairs": Table(
        "a self-supervised network minus a supervised one of its architecture, on the same images",
        ("model", "baseline", "dataset", "condition", "measure"),
        {
            "model": _MODEL,
            "baseline": _MODEL,
            "dataset": _DATASET,
            "condition": _str("clean | corruption | corruption:<name> | attack:<name>:<eps_255>"),
            "measure": _str("what is compared (bench/studies/ssl.py)", allowed=SSL_MEASURES),
            "same_views": _bool("whether both saw as many images as often, under the same augmentation"),
            "delta_pp": _double("percentage points; above 0: the self-supervised network is better"),
            **_BOUNDS,
            "p_value": _double("exact McNemar, or a paired t test over images", low=0, high=1),
            "p_holm": _double("after Holm over the pairs of the condition and measure", low=0, high=1),
            "accuracy": _double("of the self-supervised network on these images", low=0, high=1),
            "accuracy_baseline": _double("of the supervised one", low=0, high=1),
            "n": _count("images"),
        },
    ),
    "ssl_families": Table(
        "the mean of differences of self-supervised and supervised networks over a family",
        ("family", "against", "dataset", "condition", "measure"),
        {
            "family": _str("all | a family of methods"),
            "against": _str("same_views | same_arch: which supervised networks"),
            "dataset": _DATASET,
            "condition": _str("clean | corruption | corruption:<name> | attack:<name>:<eps_255>"),
            "measure": _str("what is compared (bench/studies/ssl.py)", allowed=SSL_MEASURES),
            "delta_pp": _double("percentage points; above 0: the self-supervised networks are better"),
            "ci_low": _bound("over images, for these networks"),
            "ci_high": _bound(),
            "networks_low": _bound("over networks and images; NULL where a side has fewer than three networks"),
            "networks_high": _bound(),
            "n": _count("images"),
            "n_ssl": _count("self-supervised networks"),
            "n_supervised": _count("supervised networks"),
            "n_better": _count("self-supervised networks whose mean difference is above 0"),
        },
    ),
    "corruption_error": Table(
        "errors of one model under a corruption, relative to those of a reference network",
        ("model", "dataset", "corruption"),
        {
            "model": _MODEL,
            "dataset": _DATASET,
            "corruption": _str("a corruption, over its severities; all: the mean over corruptions"),
            "error": _share("mean over severities"),
            "ce": _double("error over the error of the reference; NULL where that has none", nullable=True),
            "ci_low": _bound("bootstrap over images"),
            "ci_high": _bound(),
            "reference": _MODEL,
            "n": _count("images"),
        },
    ),
    "representations": Table(
        "one head on one frozen encoder",
        ("model", "dataset", "probe", "labels_per_class", "label_source", "label_noise", "seed"),
        {
            "model": _MODEL,
            "dataset": _DATASET,
            "probe": _str("linear | knn (with k in the name where not 20) | finetune"),
            "labels_per_class": _count("0 = all"),
            "label_source": _str("original, or a source of `noisy_labels`: what it was fitted on", earlier="original"),
            "label_noise": _share(
                "share of these that are wrong; of the original ones: simulated as wrong", earlier="0"
            ),
            "seed": _int(),
            "accuracy": _share(),
            "n": _count("test images"),
            "effective_rank": _double("exp(entropy of singular values) of the features (RankMe)", nullable=True),
            "collapse_std": _double("mean std per dimension of L2-normalised features, times sqrt(d)", nullable=True),
            "c": _double("inverse regularisation chosen by cross-validation on train", nullable=True),
            "temperature": _double("T of a neighbour's vote exp(cosine / T)", nullable=True),
        },
    ),
    "attacks": Table(
        "one attacked image",
        ("attack_id",),
        {
            "attack_id": _str("<attack>/<eps_255>/<model>/<sample_id>; <model>@<target> where it was made for one"),
            "sample_id": _SAMPLE,
            "source_model": _MODEL,
            "dataset": _DATASET,
            "attack": _str(),
            "params_json": _str(),
            "seed": _int(),
            "iterations": _count("steps; of minimal kinds passes through the network"),
            "success_float": _bool("the label is no longer predicted for the float image"),
            "success_u8": _bool("the same after rounding to 8 bits"),
            "l0": _share("share of spatial positions changed by more than half an 8-bit step"),
            "l2": _float("[0,1] units", low=0),
            "linf": _float("[0,1] units", low=0, high=1),
            "pred": _CLASS,
            "target": _int("class that the attack led to; NULL where it led away from the label", nullable=True, low=0),
            "reached": _bool("that class is predicted for the float image", nullable=True),
        },
    ),
    "attack_images": Table(
        "the picture of an attacked image, of the few that are kept",
        ("attack_id",),
        {
            "attack_id": _str(),
            "clean": _blob("PNG of 8 bits, in the size that networks are given"),
            "png": _blob("the same of the attacked image"),
        },
    ),
    "attack_answers": Table(
        "what a model says of a picture in `attack_images`: of 8 bits, where `transfers` is of the float image",
        ("attack_id", "model"),
        {
            "attack_id": _str(),
            "model": _MODEL,
            "pred": _CLASS,
            "p_pred": _share("its probability"),
            "p_label": _share("that of the label"),
        },
    ),
    "attack_trust": Table(
        "what tells a robust network from an attack that does not work",
        ("attack", "model"),
        {
            "attack": _str("name as in params.yaml"),
            "model": _str("whose gradient the attack follows"),
            "dataset": _DATASET,
            "n": _count("attacked images that were looked at"),
            "zero_gradient": _share("images at which the loss has no gradient: the attack does not move them"),
            "repeat_difference": _double("largest difference of a logit in two passes of the same images", low=0),
            "same_at_zero": _double(
                "images that get the clean answer at eps 0; NULL of attacks that look for the nearest image",
                nullable=True,
                low=0,
                high=1,
            ),
            "right_at_full": _share("accuracy left at the eps within which any image may become any other"),
            "square_gains": _double("images that Square fools and this attack does not", nullable=True, low=0, high=1),
        },
    ),
    "transfers": Table(
        "one adversarial image shown to another model",
        ("attack_id", "target_model"),
        {
            "attack_id": _str(),
            "target_model": _MODEL,
            "success": _bool(),
            "pred": _CLASS,
            "rank_clean": _int("rank of pred in the target's clean order, 1 = its own answer", low=1),
        },
    ),
    "source_images": Table(
        "what may tell beforehand how a clean image takes to attacks on one model",
        ("model", "dataset", "sample_id"),
        {
            "model": _MODEL,
            "dataset": _DATASET,
            "sample_id": _SAMPLE,
            "right": _bool("whether the clean answer is the label"),
            "p_top1": _float("of the clean answer", low=0, high=1),
            "entropy_nats": _float("of the clean answers", low=0),
            "margin": _float("largest logit minus the second", low=0),
            "gradient_norm": _float("Euclidean, of the cross-entropy by the image in [0,1] units", low=0),
            "p": Column("list<float32>", "(K,) probability of every class"),
        },
    ),
    "transfer_pairs": Table(
        "how often images that were made on one model are answered wrongly by another (study 6)",
        ("dataset", "condition", "source_model", "target_model"),
        {
            "dataset": _DATASET,
            "condition": _str("attack:<name>:<eps_255>"),
            "source_model": _MODEL,
            "target_model": _MODEL,
            "rate": _share("of suitable images; source = target: on the model that they were made on"),
            "ci_low": _bound("Wilson"),
            "ci_high": _bound(),
            "l2": _double("mean over the images that transferred", nullable=True, low=0),
            "linf": _double("mean over the images that transferred", nullable=True, low=0),
            "n": _count("suitable images: right by every model of the pool"),
        },
    ),
    "transfer_images": Table(
        "by how many pairs of models one suitable image transfers (study 6)",
        ("dataset", "condition", "sample_id"),
        {
            "dataset": _DATASET,
            "condition": _str("attack:<name>:<eps_255>"),
            "sample_id": _SAMPLE,
            "count": _count("pairs of different models by which it transfers: T"),
            "n_pairs": _count("ordered pairs of different models"),
            "kind": _str("fragile: T is at least 30/42 of the pairs; hard: at most 5/42; else middle"),
            "vetted": _bool("recommended: without the ends of the proxy that recommends; all where none does"),
        },
    ),
    "transfer_sampling": Table(
        "what the choice of source images does to a figure, beside what chance alone does (study 6)",
        ("dataset", "condition", "statistic"),
        {
            "dataset": _DATASET,
            "condition": _str("attack:<name>:<eps_255>"),
            "statistic": _str(
                "rate, l2: mean over pairs | pair: rate of the one that ranges most | spread: variance of T"
            ),
            "value": _double("on all suitable images"),
            "ci_low": _bound("bootstrap over images; of the rate"),
            "ci_high": _bound(),
            "lowest": _double("over the draws", nullable=True),
            "highest": _double(nullable=True),
            "range_null_low": _double(
                "of highest - lowest, where each pair's transfers fall on images at random", nullable=True
            ),
            "range_null_high": _double(nullable=True),
            "p_value": _double("share of nulls at least as far apart, or as spread", nullable=True, low=0, high=1),
            "n_drawn": _count("images of a draw"),
            "draws": _count(),
            "n": _count("suitable images"),
        },
    ),
    "transfer_proxies": Table(
        "how well a clean figure of an image tells whether it transfers (study 6)",
        ("dataset", "condition", "proxy"),
        {
            "dataset": _DATASET,
            "condition": _str("attack:<name>:<eps_255>; all: T summed over all attacks"),
            "proxy": _str("mean over models of p_top1 | entropy_nats | margin | gradient_norm | runner_up"),
            "spearman": _double("with T", low=-1, high=1, nullable=True),
            "p_value": _double("permutation", low=0, high=1, nullable=True),
            "auroc": _double("of the fragile ones against all others", low=0, high=1, nullable=True),
            "n_fragile": _count(),
            "spread_left": _double("standard deviation of T without the twentieths at its two ends, over that of all"),
            "ci_low": _bound("bootstrap over images"),
            "ci_high": _bound(),
            "recommends": _bool("whether it says which images are vetted (bench/studies/transfer.py)"),
            "n": _count("suitable images"),
        },
    ),
    "misclassifications": Table(
        "what images that transfer are taken for (study 5)",
        ("dataset", "condition", "collection", "measure"),
        {
            "dataset": _DATASET,
            "condition": _str("attack:<name>:<eps_255>"),
            "collection": _str("all | a named group of classes: those of the images"),
            "measure": _str(
                "top2 | top3 | top5: within so many places of the target's clean order | inside: same group"
            ),
            "share": _share(),
            "ci_low": _bound("bootstrap over images"),
            "ci_high": _bound(),
            "chance": _share("any other class alike"),
            "null": _share("a class drawn by the target's clean probabilities without the label"),
            "over_null_pp": _double("share - null"),
            "over_null_low": _bound("bootstrap over images; NULL where all transfers are alike"),
            "over_null_high": _bound(),
            "n": _count("images that transferred, each pair of models counted"),
            "n_images": _count("suitable images among them"),
            "n_classes": _count("of the collection"),
        },
    ),
    "regional": Table(
        "an image attacked in a region, as one target model first falls to it (study 8)",
        ("dataset", "region", "source_model", "target_model", "sample_id"),
        {
            "dataset": _DATASET,
            "region": _str("full, of a name as in bench/attacks/masks.py, or drawn"),
            "source_model": _MODEL,
            "target_model": _MODEL,
            "sample_id": _SAMPLE,
            "share": _share("positions that may change"),
            "towards": _int("class that the source is led to", low=0),
            "iterations": _count("steps until the target falls, or all of them"),
            "success": _bool("whether it falls"),
            "success_u8": _bool("whether it does so to that image in 8 bits"),
            "pred": _CLASS,
            "l0": _share("positions changed by more than half an 8-bit step"),
            "l2": _float("[0,1] units", low=0),
            "linf": _float("[0,1] units", low=0, high=1),
            "fixed_success": _bool("after a fixed number of steps, without asking the target before"),
            "fixed_l2": _float("then", low=0),
            "fixed_linf": _float("then", low=0, high=1),
        },
    ),
    "regional_summary": Table(
        "attacks on a region beside those on the whole image, over all pairs of models or of one (study 8)",
        ("dataset", "region", "source_model", "target_model"),
        {
            "dataset": _DATASET,
            "region": _str(),
            "source_model": _str("a model, or all"),
            "target_model": _str("a model, or all"),
            "share": _share("mean share of positions that may change"),
            "n": _count("images and pairs"),
            "n_images": _count(),
            "n_whole": _count("transfers of the whole image"),
            "n_common": _count("transfers of both"),
            **_with_bounds("success", _share("targets that fall within all steps")),
            **_with_bounds("success_u8", _share("that fall to the 8-bit image")),
            **_with_bounds("maintain", _share("transfers of the whole image that the region makes too", nullable=True)),
            **_with_bounds("fixed", _share("transfers after the fixed number of steps")),
            **_with_bounds("fixed_maintain", _share("of those of the whole image then", nullable=True)),
            **_with_bounds("equal_l2", _share("transfers within l2_budget", nullable=True)),
            **_with_bounds("equal_l2_whole", _share("the same of the whole image", nullable=True)),
            "l2_budget": _double(
                "at which half of the transfers of the whole image have happened", nullable=True, low=0
            ),
            **_beside_whole("l0", "mean over the common transfers"),
            **_beside_whole("l2", "mean over the common transfers"),
            **_beside_whole("linf", "mean over the common transfers"),
            **_beside_whole("iterations", "mean over the common transfers"),
            **_beside_whole("fixed_l2", "mean after the fixed number of steps", nullable=False),
            **_beside_whole("fixed_linf", "mean after the fixed number of steps", nullable=False),
        },
    ),
    "misclassification_distances": Table(
        "how far what images that transfer are taken for is from their label in WordNet (study 5)",
        ("dataset", "condition", "collection", "measure"),
        {
            "dataset": _DATASET,
            "condition": _str("attack:<name>:<eps_255>"),
            "collection": _str("all | a named group of classes: those of the images"),
            "measure": _str(
                "steps: edges between them | similarity: Wu and Palmer's | depth: of the deepest kind that both are of",
                allowed=("steps", "similarity", "depth"),
            ),
            "value": _double("mean over transfers", low=0),
            "ci_low": _bound("bootstrap over images; NULL of a single one, or where all are alike"),
            "ci_high": _bound(),
            "chance": _double("any other class alike", low=0),
            "null": _double("a class drawn by the target's clean probabilities without the label", low=0),
            "over_null": _double("value - null"),
            "over_null_low": _bound("bootstrap over images; NULL of a single one, or where all are alike"),
            "over_null_high": _bound(),
            "n": _count("images that transferred, each pair of models counted"),
            "n_images": _count("suitable images among them"),
            "n_classes": _count("of the collection"),
        },
    ),
    "misclassification_leaving": Table(
        "how often images are answered wrongly, and with a class of another group (study 5)",
        ("dataset", "condition", "collection"),
        {
            "dataset": _DATASET,
            "condition": _str("attack:<name>:<eps_255>"),
            "collection": _str("a named group of classes: those of the images | all: each in its smallest group"),
            "rate": _share("answered wrongly by another model than the one followed"),
            "rate_low": _bound("bootstrap over images"),
            "rate_high": _bound(),
            "corrected": _share("answered with a class outside the group"),
            "corrected_low": _bound("bootstrap over images"),
            "corrected_high": _bound(),
            "null": _share("corrected, where transfers draw a class by the target's clean probabilities"),
            "n": _count("suitable images shown, each pair of models counted"),
            "n_transfers": _count("of these, answered wrongly"),
            "n_images": _count("suitable images"),
            "n_classes": _count("of the collection"),
        },
    ),
    "misclassification_flows": Table(
        "what images of each class that transfer are taken for (study 5)",
        ("dataset", "condition", "label", "pred"),
        {
            "dataset": _DATASET,
            "condition": _str("attack:<name>:<eps_255>"),
            "label": _CLASS,
            "pred": _CLASS,
            "n": _count("images that transferred, each pair of models counted"),
            "n_images": _count("suitable images among them"),
        },
    ),
    "class_groups": Table(
        "the classes of each named group (study 5)",
        ("label_space", "collection", "class_id"),
        {"label_space": _str(), "collection": _str(), "class_id": _CLASS},
    ),
    "objectives": Table(
        "one image that is moved to a target class by one objective (study 9)",
        ("model", "dataset", "target_rule", "objective", "variant", "step_l2", "kappa", "sample_id"),
        {
            "model": _MODEL,
            "dataset": _DATASET,
            "target_rule": _TARGET_RULE,
            "objective": _OBJECTIVE,
            "variant": _VARIANT,
            "step_l2": _double("length of a step, [0,1] units; 0 of lbfgs", low=0),
            "kappa": _KAPPA,
            "sample_id": _SAMPLE,
            "target": _CLASS,
            "iterations": _count(
                "evaluations of the gradient, one a step, until the margin is kappa, or all of them; of lbfgs those of "
                "all its searches"
            ),
            "reached": _bool("whether the target is answered, and the margin is kappa"),
            "reached_u8": _count("1 where the target is answered after rounding to 8 bits, else 0", nullable=True),
            "l2": _float("[0,1] units", low=0),
            "linf": _float("[0,1] units", low=0, high=1),
            "step_cosine": _float("mean of a step and the next one, NULL before there are two", nullable=True),
            "saturated_at": _count(
                "steps after which the probability of the target rounded to 1 in float32, NULL where it did not",
                nullable=True,
            ),
            "vanished_at": _count("steps after which a gradient vanished, NULL where none did", nullable=True),
        },
    ),
    "objective_gradients": Table(
        "the gradients of both losses at a clean image (study 9)",
        ("model", "dataset", "target_rule", "sample_id"),
        {
            "model": _MODEL,
            "dataset": _DATASET,
            "target_rule": _TARGET_RULE,
            "sample_id": _SAMPLE,
            "target": _CLASS,
            "norm_ce": _float("of the cross-entropy's", low=0),
            "norm_logit": _float("of the margin's", low=0),
            "cosine": _float("between them"),
            "sign_efficiency": _float(
                "|g|_1 / (sqrt(m) |g|_2) of the cross-entropy's, m its values that are not 0", low=0
            ),
        },
    ),
    "objective_summary": Table(
        "steps and sizes of each objective (study 9)",
        ("model", "dataset", "target_rule", "objective", "variant", "step_l2", "kappa"),
        {
            "model": _MODEL,
            "dataset": _DATASET,
            "target_rule": _TARGET_RULE,
            "objective": _OBJECTIVE,
            "variant": _VARIANT,
            "step_l2": _double("0 of lbfgs", low=0),
            "kappa": _KAPPA,
            "reached": _share("images that were moved to their targets"),
            "reached_u8": _share("images whose target is answered after rounding to 8 bits", nullable=True),
            "iterations": _double("median, of the images that all objectives moved there", nullable=True, low=0),
            "l2": _double("mean over these", nullable=True, low=0),
            "linf": _double("mean over these", nullable=True, low=0),
            "step_cosine": _double("mean over these", nullable=True),
            "over_ce": _double("steps over those of ce, summed over these", nullable=True, low=0),
            "ce_low": _bound("bootstrap over images"),
            "ce_high": _bound(),
            "over_logit": _double("the same over those of logit", nullable=True, low=0),
            "logit_low": _bound(),
            "logit_high": _bound(),
            **_with_bounds("l2_over_ce", _double("L2 over that of ce, summed over these", nullable=True, low=0), "l2"),
            "predicted": _double(
                "of sign over ce: by 1 / sign_efficiency, weighted by the steps", nullable=True, low=0
            ),
            "own_iterations": _double("median, of the images that the objective moved there", nullable=True, low=0),
            "own_l2": _double("mean over these", nullable=True, low=0),
            "own_linf": _double("mean over these", nullable=True, low=0),
            **_with_bounds(
                "over_answer",
                _double("steps over those to the answer, summed over these", nullable=True, low=0),
                "answer",
            ),
            "saturated": _share("images whose target's probability rounded to 1 in float32", nullable=True),
            "saturated_at": _double("median steps until then, of these", nullable=True, low=0),
            "vanished": _share("images with a gradient that vanished", nullable=True),
            "n": _count("images"),
            "n_common": _count("images that all objectives of the variant moved there; of lbfgs: that ce moved, too"),
        },
    ),
    "objective_saturation": Table(
        "the gradient of ce in float32 beside that in float64, where a walk came to a margin (study 9)",
        ("model", "dataset", "margin"),
        {
            "model": _MODEL,
            "dataset": _DATASET,
            "margin": _double("of the logit of the target, at least", low=0),
            "p_other": _double("median probability of all classes but the target, in float64", low=0, high=1),
            "saturated": _share("images whose target's probability rounds to 1 in float32"),
            "vanished": _share("images with a gradient that has vanished in float32"),
            "cosine": _double("median, of the gradients in float32 and float64"),
            "cosine_low": _double("quartile"),
            "cosine_high": _double("quartile"),
            "cosine_mended": _double("median, where the loss alone is computed in float64"),
            "norm": _double("median, of the gradient in float64", low=0),
            "n": _count("images that came there"),
        },
    ),
    "objective_curves": Table(
        "the images that had not arrived before some number of steps (study 9)",
        ("model", "dataset", "target_rule", "objective", "variant", "step_l2", "iteration"),
        {
            "model": _MODEL,
            "dataset": _DATASET,
            "target_rule": _TARGET_RULE,
            "objective": _OBJECTIVE,
            "variant": _VARIANT,
            "step_l2": _double(low=0),
            "iteration": _count("steps taken"),
            "p_target": _double("mean probability of the target", low=0, high=1),
            "gradient_norm": _double("mean, Euclidean", low=0),
            "step_cosine": _double("mean, of this step and the one before; NULL of the first", nullable=True),
            "n": _count("images that had not arrived before"),
        },
    ),
    "detection": Table(
        "how well a detector of perturbed images tells those of one attack from others (study 9)",
        ("model", "dataset", "against", "inputs", "trained_on", "tested_on"),
        {
            "model": _MODEL,
            "dataset": _DATASET,
            "against": _str("clean images | random noise of the same length", allowed=("clean", "noise")),
            "inputs": _str(
                "u8: both classes through 8 bits | float: perturbed ones as they are", allowed=("float", "u8")
            ),
            "trained_on": _str(allowed=(*_PERTURBED, "placebo")),
            "tested_on": _str("placebo: clean images against others", allowed=(*_PERTURBED, "placebo")),
            "auroc": _share("mean over seeds"),
            "ci_low": _bound("bootstrap over test images, each with what was made of it"),
            "ci_high": _bound(),
            "lowest": _share("of one seed"),
            "highest": _share(),
            "n": _count("test images of each class"),
            "n_train": _count("train images of each class"),
            "seeds": _count(),
        },
    ),
    "detection_attacks": Table(
        "what the detectors are shown: perturbed test images, by their network's answers (8 bits; study 9)",
        ("model", "dataset", "attack"),
        {
            "model": _MODEL,
            "dataset": _DATASET,
            "attack": _str(allowed=_PERTURBED),
            "fooled": _share("another class than the label is answered"),
            "ci_low": _bound(),
            "ci_high": _bound(),
            "reached": _share("the class that was drawn is answered"),
            "l2": _double("mean, [0,1] units", low=0),
            "linf": _double("mean, [0,1] units", low=0, high=1),
            "n": _count("test images"),
            "n_train": _count("train images"),
        },
    ),
    "retraining": Table(
        "what a network answers before and after retraining with adversarial images (study 9)",
        ("model", "dataset", "variant", "images", "objective"),
        {
            "model": _MODEL,
            "dataset": _DATASET,
            "variant": _str("before | clean | finetune | class", allowed=("before", "clean", "finetune", "class")),
            "images": _str(
                "clean: all test images | first: made on the network as it was | second: on the retrained one",
                allowed=("clean", "first", "second"),
            ),
            "objective": _str(
                "none of clean images; any: the worst of the three", allowed=(*_PERTURBED, "none", "any")
            ),
            "right": _share("mean over seeds"),
            "right_low": _bound("bootstrap over images; Wilson's of `before`"),
            "right_high": _bound(),
            "flagged": _double("answered as adversarial; NULL without such a class", nullable=True, low=0, high=1),
            "flagged_low": _bound(),
            "flagged_high": _bound(),
            "fooled": _share("taken for another class"),
            "fooled_low": _bound(),
            "fooled_high": _bound(),
            "lowest": _share("right under one seed"),
            "highest": _share(),
            "change_pp": _double(
                "right, minus that of `before` on the same images; second rounds against its first", nullable=True
            ),
            "change_low": _bound("paired bootstrap over images"),
            "change_high": _bound(),
            "n": _count("images"),
            "seeds": _count(),
        },
    ),
    "radar_models": Table(
        "a network of sequences of range-Doppler maps (study 7)",
        ("model",),
        {
            "model": _str(),
            "arch": _str(allowed=("cnn3d", "cnnlstm", "cnnlstm-given")),
            "trained_on": _str("group of subjects", allowed=("A", "B")),
            "simulated": _bool("whether the sequences are simulated, not recorded"),
            "n_subjects": _count("of the group"),
            "n_train": _count("sequences"),
            "n_test_subjects": _count(),
            "accuracy": _share("on the test subjects"),
            **_BOUNDS,
            "n": _count("test sequences"),
        },
    ),
    "radar_attacks": Table(
        "what a victim says of an attacked sequence (study 7)",
        ("victim", "attacker", "mask", "goal", "sequence_id"),
        {
            "victim": _str(),
            "attacker": _str(),
            "threat": _int("1 to 4, as in bench/studies/radar.py", low=1, high=4),
            "mask": _str(allowed=("full", "padding", "action")),
            "goal": _str(allowed=("untargeted", "targeted")),
            "sequence_id": _str(),
            "subject": _str(),
            "gesture": _str(),
            "target": _str("gesture that a targeted attack leads to"),
            "pred": _str("the victim's answer"),
            "n_frames": _int("of the action", low=1),
            "reached": _bool("whether the attack, or its null, changes what the victim puts out by a bit"),
            "success": _bool("untargeted: another answer than the gesture; targeted: the target"),
            "success_u8": _bool("the same after rounding to 8 bits"),
            "null_success": _bool("the same of random signs of the same size in the same mask"),
            "l0_frames": _share("frames changed by more than half an 8-bit step"),
            "l2": _float("[0,1] units", low=0),
            "linf": _float("[0,1] units", low=0, high=1),
            **_SIMULATED,
        },
    ),
    "radar_summary": Table(
        "attacks on sequences by threat model, mask and goal (study 7)",
        ("victim", "attacker", "mask", "goal"),
        {
            "victim": _str(),
            "attacker": _str(),
            "threat": _int(low=1, high=4),
            "mask": _str(allowed=("full", "padding", "action")),
            "goal": _str(allowed=("untargeted", "targeted")),
            "reached": _share(
                "sequences where the mask can change what the victim puts out; 0: an attack is impossible"
            ),
            "success": _share("sequences"),
            **_BOUNDS,
            "success_u8": _share("sequences"),
            "null_success": _share("sequences"),
            "null_low": _bound(),
            "null_high": _bound(),
            "l0_frames": _share("mean"),
            "l2": _double("mean, [0,1] units", low=0),
            "linf": _double("largest", low=0, high=1),
            "n": _count("sequences that all networks get right"),
            **_SIMULATED,
        },
    ),
    "radar_cam": Table(
        "importance of frames by Grad-CAM against the change that an attack makes in them (study 7)",
        ("victim", "step", "scope", "sequence_id"),
        {
            "victim": _str(),
            "step": _str(allowed=("sign", "l2")),
            "scope": _str("all frames, or those of the action", allowed=("all", "action")),
            "sequence_id": _str(),
            "rho": _double("Spearman's", low=-1.000001, high=1.000001),
            "null_mean": _double("mean over all circular shifts"),
            "p_value": _share("shifts with at least this rho, none included"),
            "overlap": _share("intersection over union of the top fifth of frames"),
            "null_overlap": _share("mean over all circular shifts"),
            **_SIMULATED,
        },
    ),
    "radar_cam_summary": Table(
        "the same over sequences (study 7)",
        ("victim", "step", "scope"),
        {
            "victim": _str(),
            "step": _str(allowed=("sign", "l2")),
            "scope": _str(allowed=("all", "action")),
            "rho": _double("mean", low=-1.000001, high=1.000001),
            **_BOUNDS,
            "null_mean": _double("of the mean, each sequence shifted on its own"),
            "null_low": _bound(),
            "null_high": _bound(),
            "p_value": _share("one-sided"),
            "overlap": _share("mean"),
            "null_overlap": _share("mean"),
            "n": _count("sequences where neither side is constant"),
            **_SIMULATED,
        },
    ),
    "radar_frames": Table(
        "a frame of a sequence with its Grad-CAM and its changes (study 7)",
        ("victim", "sequence_id", "frame"),
        {
            "victim": _str(),
            "sequence_id": _str(),
            "frame": _count("0 is the first"),
            "gesture": _str(),
            "n_frames": _int("of the action", low=1),
            "height": _int("range bins", low=1),
            "width": _int("Doppler bins", low=1),
            "cam_height": _int(low=1),
            "cam_width": _int(low=1),
            "clean": _blob("uint8 (height, width), 255 is 1"),
            "cam": _blob("uint8 (cam_height, cam_width), 255 is the largest of the sequence"),
            "full": _blob("uint8 (height, width): untargeted change in 1/255, plus 128"),
            "padding": _blob("uint8 (height, width), as `full`"),
            "action": _blob("uint8 (height, width), as `full`"),
            **_SIMULATED,
        },
    ),
    "layers": Table(
        "rank and nullity of one linear layer",
        ("model", "layer"),
        {
            "model": _MODEL,
            "layer": _str(),
            "n_in": _count(),
            "n_out": _count(),
            "rank": _count(),
            "nullity": _count(),
            "sigma_min": _double(nullable=True),
            "method": _str("how it was found: dense, patch, windows (exact), lanczos, shape (bounds)"),
            "nullity_high": _count("upper bound; of an exact method the nullity itself"),
        },
    ),
    "collisions": Table(
        "two images that are one to a network",
        ("collision_id",),
        {
            "collision_id": _str(),
            "model": _MODEL,
            "layer": _str(),
            "kind": _str(allowed=("exact", "optimised", "integer")),
            "sample_id": _SAMPLE,
            "target_id": _str(nullable=True),
            "l2": _float(low=0),
            "linf": _float(low=0),
            "feature_error": _double(),
            "logit_gap_f64": _double(),
            "logit_gap_f32": _double(),
            "logit_gap_u8": _double(),
            "same_top1": _bool(),
            "moved": _bool("another image was found; where not, the rest says nothing"),
            "null_gap": _double("largest change of a logit by noise of the same L2, cut to [0, 1]"),
            "null_same": _bool("whether the top-1 class stays under that noise"),
            "picture": _blob("PNG, 8 bits; of the first images of a model", nullable=True),
            "logits": _blob("float64 (3, K): of the image, the one made, the target; as `picture`", nullable=True),
        },
    ),
    "collision_checks": Table(
        "exact collisions of one network, judged by another or in another task",
        ("model", "judge", "task"),
        {
            "model": _MODEL,
            "judge": _MODEL,
            "task": _str(allowed=("classify", "segment", "locate")),
            "score": _share("top-1 accuracy of the judge on the images, or mean IoU of masks or boxes"),
            "n": _count("moved images"),
            "n_same": _count("the same answer to both"),
            "same": _share(),
            "same_low": _share("Wilson"),
            "same_high": _share(),
            "n_null": _count("the same answer to the image and to it with noise of the same L2"),
            "gap": _double("largest change of an output", low=0),
        },
    ),
    "segmentation_attacks": Table(
        "one iteration of an attack on a segmentation (study 10)",
        ("run_id", "iteration"),
        {
            "run_id": _str("<variant>/<sample_id>"),
            "iteration": _count("steps taken"),
            "dataset": _str("name under `segmentation` in params.yaml"),
            "variant": _str(allowed=SEGMENTATION_VARIANTS),
            "iou": _share("foreground, with the target mask; before the image is cut off at 0 and 1"),
            "pixel_accuracy": _share("before"),
            "l2": _float("[0,1] units, before", low=0),
            "linf": _float("[0,1] units, before", low=0),
            "iou_clipped": _share("after"),
            "pixel_accuracy_clipped": _share("after"),
            "l2_clipped": _float("after", low=0),
            "linf_clipped": _float("after", low=0, high=1),
            "multiplier": _double("of the step that led there", low=0),
        },
    ),
    "segmentation_runs": Table(
        "one image that is attacked so that a network draws another image's mask (study 10)",
        ("run_id",),
        {
            "run_id": _str("<variant>/<sample_id>"),
            "dataset": _str("name under `segmentation` in params.yaml"),
            "variant": _str(allowed=SEGMENTATION_VARIANTS),
            "sample_id": _SAMPLE,
            "target_id": _str("whose mask is the target"),
            "iou_clean": _share("of what the network draws of the clean image with the image's own mask"),
            "iou_start": _share("of the same with the target"),
            "tau": _double("multiplier of the first step; of the pgd ones the length of each", low=0),
            "iou": _share("at the end, after clipping"),
            "iou_u8": _share("the same of the image rounded to 8 bits"),
            "pixel_accuracy": _share(),
            "l2": _float("[0,1] units", low=0),
            "linf": _float("[0,1] units", low=0, high=1),
            "iterations": _double("first one with the IoU that counts as success", nullable=True, low=0),
            "l2_reached": _double("there", nullable=True, low=0),
        },
    ),
    "segmentation_summary": Table(
        "what each variant of an attack on segmentations ended with (study 10)",
        ("dataset", "variant"),
        {
            "dataset": _str("name under `segmentation` in params.yaml"),
            "variant": _str(allowed=SEGMENTATION_VARIANTS),
            "n": _count("pairs"),
            "reached": _share("pairs that end with the IoU that counts as success"),
            "reached_low": _bound("Wilson"),
            "reached_high": _bound(),
            "reached_u8": _share("the same of images rounded to 8 bits"),
            "iou_start": _double("mean, of the clean images", low=0, high=1),
            "iou": _double("mean at the end", low=0, high=1),
            "iou_low": _bound("bootstrap over pairs"),
            "iou_high": _bound(),
            "iou_sd": _double("standard deviation over pairs", low=0),
            "pixel_accuracy": _double("mean", low=0, high=1),
            "l2": _double("mean, [0,1] units", low=0),
            "l2_low": _bound(),
            "l2_high": _bound(),
            "linf": _double("mean", low=0, high=1),
            "iterations": _double("median until success, of the pairs with one", nullable=True, low=0),
            "l2_reached": _double("mean L2 there", nullable=True, low=0),
            "n_both": _count("pairs on which this variant and asma had success"),
            "iou_delta": _double("mean IoU less that of asma, same pairs", nullable=True),
            "iou_delta_low": _bound("bootstrap over pairs"),
            "iou_delta_high": _bound(),
            "iterations_delta": _double("mean steps until success less those of asma, of n_both", nullable=True),
            "iterations_delta_low": _bound(),
            "iterations_delta_high": _bound(),
            "l2_reached_delta": _double("mean L2 at success less that of asma, of n_both", nullable=True),
            "l2_reached_delta_low": _bound(),
            "l2_reached_delta_high": _bound(),
        },
    ),
    "segmentation_sets": Table(
        "one set of images with masks, and the network that was trained on it (study 10)",
        ("dataset",),
        {
            "dataset": _str("name under `segmentation` in params.yaml"),
            "title": _str(),
            "about": _str(),
            "synthetic": _str("composed, or empty"),
            "source": _str(),
            "license": _str(),
            "classes": _str("of the masks, the background first"),
            "size": _count("pixels a side"),
            "n_train": _count("images"),
            "n_test": _count("images"),
            "n_pairs": _count("test images that are attacked"),
            "iterations": _count(),
            "step_l2": _double("length of the first step, [0,1] units", low=0),
            "beta": _double("in units of tau", low=0),
            "reached": _share("the IoU that counts as success"),
            "params_m": _float("millions of parameters of the network", low=0),
            "iou": _double("mean over test images, of what the network draws with their masks", low=0, high=1),
            "ci_low": _bound("bootstrap over images"),
            "ci_high": _bound(),
            "pixel_accuracy": _double(low=0, high=1),
        },
    ),
    "segmentation_images": Table(
        "a picture of an attack by asma on a segmentation (study 10)",
        ("run_id", "iteration", "kind"),
        {
            "run_id": _str("<variant>/<sample_id>"),
            "iteration": _count("steps taken"),
            "kind": _str(
                "masks hold class ids", allowed=("image", "answer", "clean", "clean_answer", "mask", "target")
            ),
            "png": _blob(),
        },
    ),
    "proposals": Table(
        "one label proposed for one image",
        ("sample_id", "class_id"),
        {
            "sample_id": _SAMPLE,
            "class_id": _CLASS,
            "rank": _int("1 = first shown", low=1),
            "score": _share("mean softmax of the ensemble"),
            "proposer": _str(),
        },
    ),
    "proposal_recall": Table(
        "how many of the known labels an ensemble proposes",
        ("dataset", "label_source", "ensemble"),
        {
            "dataset": _DATASET,
            "label_source": _str("the source of the known labels; images with several of them"),
            "ensemble": _str("its members, by name, joined by ` + `"),
            "n_models": _int(low=1),
            "top_k": _int("labels that are proposed of an image", low=1),
            "recall": _share("known labels that are among the proposals"),
            **_CI,
            "n_labels": _count("known labels"),
            "n_images": _count("images with several known labels"),
            "top_k_needed": _int("labels an image with which this ensemble would reach proposals.recall", low=1),
            "role": _str("configured: it proposes; suggested: the smallest that reaches proposals.recall; else path"),
        },
    ),
    "queue": Table(
        "what is worth annotating: one image for which labels are proposed",
        ("sample_id",),
        {
            "sample_id": _SAMPLE,
            "quality": _output("label quality of the original label (cleanlab, self-confidence); low is doubtful"),
            "disagreement": _output("share of the ensemble's members that do not give its most frequent answer"),
            "entropy_nats": _output("entropy of the mean softmax, nats", low=0),
            "n_likely": _count("proposed labels that are at least half as probable as the first"),
            "place": _int("place in a random order: the first n are a simple random sample", low=1),
        },
    ),
    "votes": Table(
        "one event of one annotator: an answer, or taking one back; none is ever changed (bench/relabel/events.py)",
        ("event_id",),
        {
            "event_id": _str(),
            "sample_id": _SAMPLE,
            "class_id": _int("NULL where the event is about the image", nullable=True),
            "annotator": _str(),
            "kind": _str(allowed=("human", "machine", "simulated")),
            "action": _str(allowed=("yes", "no", "unsure", "none", "comment", "undo", "redo")),
            "stage": _str(allowed=("annotate", "refine")),
            "utc": _str("YYYY-MM-DDTHH:MM:SS.ffffffZ"),
            "ms_spent": _count("on the whole image"),
            "rank_shown": _int(
                "place at which the label was shown, 1 = first; NULL: it was searched for", nullable=True
            ),
            "submission": _str("events that were saved together"),
            "target": _str("the submission that is taken back or brought back", nullable=True),
            "snapshot": _str("the results that the annotator saw"),
            "sitting": _str(),
            "comment": _str(nullable=True),
            "counts": _bool("whether it is the annotator's last word on the image in this stage"),
        },
    ),
    "ballots": Table(
        "what one annotator, or many of whom only counts are known, said of one label of one image in the end",
        ("sample_id", "class_id", "annotator"),
        {
            "sample_id": _SAMPLE,
            "class_id": _CLASS,
            "annotator": _str("the model's name where it is one; the source's own name where votes are pooled"),
            "kind": _str(allowed=("human", "machine", "simulated")),
            "pooled": _bool("only counts are known, nobody's single votes"),
            "n_yes": _count(),
            "n_no": _count(),
            "n_unsure": _count(),
        },
    ),
    "imported_votes": Table(
        "votes of one annotator, or of many of whom only counts are known, for one label: a file of imported votes",
        ("sample_id", "annotator", "class_id"),
        {
            "sample_id": _SAMPLE,
            "annotator": _str("the source's own name where votes are pooled"),
            "class_id": _CLASS,
            "n_yes": _count("votes for the label"),
            "n_no": _count("votes against it"),
        },
    ),
    "consensus": Table(
        "one label of one image, agreed or disputed (also: the original label that nobody judged)",
        ("sample_id", "class_id"),
        {
            "sample_id": _SAMPLE,
            "class_id": _CLASS,
            "score": _share("share of yes, or the probability of the label (dawid_skene)"),
            "method": _str("union | intersection | majority | dawid_skene | refined"),
            "n_yes": _count(),
            "n_no": _count(),
            "n_unsure": _count(),
            "state": _str(allowed=("yes", "no", "disputed")),
            "basis": _str("whose votes: human | simulated | pooled, with machines after ` + `"),
        },
    ),
    "annotators": Table(
        "one who votes, on one dataset",
        ("annotator", "dataset"),
        {
            "annotator": _str(),
            "dataset": _DATASET,
            "kind": _str(allowed=("human", "machine", "simulated")),
            "n_votes": _count("labels judged"),
            "n_images": _count(),
            "yes_share": _share("of the labels judged", nullable=True),
            "sensitivity": _share("Dawid and Skene's estimate", nullable=True),
            "specificity": _share("Dawid and Skene's estimate", nullable=True),
            "agreement_alpha": _double("Krippendorff's alpha with MASI distance, with all others", nullable=True),
            "ms_median": _double("milliseconds on an image", nullable=True),
        },
    ),
    "agreement": Table(
        "how far the label sets of two annotators of the same images agree; `*` and `*`: of all",
        ("dataset", "annotator_a", "annotator_b"),
        {
            "dataset": _DATASET,
            "annotator_a": _str(),
            "annotator_b": _str(),
            "n_annotators": _count("2; of all, those who share an image with another"),
            "n_simulated": _count("of these, simulated ones"),
            "n_images": _count("images that both (of all: at least two) annotated"),
            "n_differ": _count("of these, images with different label sets"),
            "disagreement": _share("n_differ / n_images"),
            **_CI,
            "jaccard": _double("mean over images, 1 where both sets are empty", low=0, high=1),
            "jaccard_low": _double(nullable=True),
            "jaccard_high": _double(nullable=True),
            "alpha": _double("Krippendorff's alpha with MASI distance", nullable=True),
            "alpha_low": _double(nullable=True),
            "alpha_high": _double(nullable=True),
        },
    ),
    "tick_rates": Table(
        "how often an annotator says yes to the label that is shown at a place",
        ("dataset", "annotator", "rank"),
        {
            "dataset": _DATASET,
            "annotator": _str(),
            "rank": _int("1 = shown first", low=1),
            "n_shown": _count(),
            "n_yes": _count(),
            "rate": _share(),
            **_CI,
        },
    ),
    "vote_rules": Table(
        "what each rule makes of the votes on a dataset, before refinement",
        ("dataset", "rule"),
        {
            "dataset": _DATASET,
            "rule": _str(allowed=("union", "intersection", "majority", "dawid_skene")),
            "n_images": _count("images with votes"),
            "n_disputed": _count("images of which a label stays disputed; what follows is of the others"),
            "n_labels": _count("labels said yes to"),
            "n_multi": _count("images with two labels or more"),
            "n_empty": _count("images without a label"),
            "multi_share": _share("n_multi / (n_images - n_disputed)", nullable=True),
            **_CI,
            "n_kept": _count("images whose original label is in"),
            "truth": _str("the label source that is known to be true, if there is one", nullable=True),
            "true_multi_share": _share("by that source, on the same images", nullable=True),
            "precision": _share("labels said yes to that are true", nullable=True),
            "recall": _share("true labels that are said yes to", nullable=True),
        },
    ),
    "subsets": Table(
        "a named set of test images of one dataset",
        ("subset", "dataset"),
        {"subset": _str(), "dataset": _DATASET, "about": _str("its definition in words"), "n": _count()},
    ),
    "subset_members": Table(
        "one image of a subset (`all` is not listed)",
        ("subset", "sample_id"),
        {"subset": _str(), "sample_id": _SAMPLE},
    ),
    "neighbours": Table(
        "one of the nearest test images, by cosine of an encoder's features",
        ("sample_id", "rank"),
        {
            "sample_id": _SAMPLE,
            "rank": _int("1 = nearest", low=1),
            "neighbour_id": _SAMPLE,
            "similarity": _output("cosine", low=-1.001, high=1.001),
            "model": _MODEL,
        },
    ),
    "maps": Table(
        "one mapped test image: UMAP of an encoder's features, which keeps who is near to whom, not distances",
        ("model", "sample_id"),
        {
            "model": _MODEL,
            "sample_id": _SAMPLE,
            "x": _float("no unit; any rotation of a map is as good", bits=MAP_BITS),
            "y": _float(bits=MAP_BITS),
        },
    ),
    "map_neighbours": Table(
        "one of the nearest mapped images of a mapped image, by cosine of an encoder's features",
        ("model", "sample_id", "rank"),
        {
            "model": _MODEL,
            "sample_id": _SAMPLE,
            "rank": _int("1 = nearest; never of the same source, and no source twice", low=1),
            "neighbour_id": _SAMPLE,
            "similarity": _float("cosine", low=-1.001, high=1.001, bits=MAP_BITS),
        },
    ),
    "training": Table(
        "one epoch of one training",
        ("model", "epoch"),
        {
            "model": _MODEL,
            "epoch": _int(low=1),
            "loss": _double(),
            "collapse_std": _double(
                "of L2-normalised features, times sqrt(d): 1 = spread, 0 = one point", nullable=True
            ),
            "effective_rank": _double(nullable=True),
            "alignment": _double("mean squared distance of two views of an image, L2-normalised", nullable=True),
            "uniformity": _double("log of mean exp(-2 d^2) over pairs of images: 0 = one point", nullable=True),
            "knn_validation": _share("of images kept back, by 20 neighbours among 5,000 of train", nullable=True),
            "knn_test": _share("of test images, by the same neighbours; nothing is chosen by it", nullable=True),
        },
    ),
    "bits": Table(
        "correctness of one model on the test images of a dataset, one bit each in the order of sample_id",
        ("model", "dataset", "condition", "label_source"),
        {**_CELL, "label_source": _str(), "n": _count(), "correct": _blob("numpy.packbits, big-endian, zero-padded")},
    ),
    "valid": Table(
        "which test images of a dataset have labels from a source",
        ("dataset", "label_source"),
        {"dataset": _DATASET, "label_source": _str(), "n": _count(), "mask": _blob("numpy.packbits")},
    ),
    "codes": Table(
        "one uncertainty (or the answer) of one model on the test images of a dataset, in the order of sample_id",
        ("model", "dataset", "condition", "measure"),
        {
            **_CELL,
            "measure": _str("pred | msp | entropy_nats | margin | energy | mutual_information"),
            "n": _count(),
            "low": _double("the value of code 0; NULL for pred", nullable=True),
            "high": _double("the value just above code 65535; NULL for pred", nullable=True),
            "codes": _blob("n unsigned 16-bit integers, little-endian"),
        },
    ),
    "label_sources": Table(
        "where the labels of a dataset come from",
        ("dataset", "source"),
        {"dataset": _DATASET, "source": _str(), "about": _str("the process that made them, in words; may be empty")},
    ),
    "label_sets": Table(
        "how many labels a source gives to the test images of a dataset",
        ("dataset", "label_source", "n_labels"),
        {
            "dataset": _DATASET,
            "label_source": _str(),
            "n_labels": _count("labels of an image; 0 = none"),
            "n_images": _count(),
            "n_with_original": _count("of these, images whose set holds the original label"),
        },
    ),
    "label_accuracy": Table(
        "accuracy of a model on the images with a given number of labels",
        ("model", "dataset", "label_source", "scoring", "n_labels"),
        {
            "model": _MODEL,
            "dataset": _DATASET,
            "label_source": _str("the source that counts the labels"),
            "scoring": _str(
                "top1: by the original label; any_of: by any label of the source", allowed=("top1", "any_of")
            ),
            "n_labels": _int("1, 2, ...; the last one stands for itself and more", low=1),
            "value": _double("pooled accuracy", low=0, high=1),
            **_CI,
            "n": _count("images"),
            "stratified_pp": _double(
                "accuracy here minus accuracy on images with one label, within classes (Mantel-Haenszel), in pp",
                nullable=True,
            ),
            "stratified_low": _double(nullable=True),
            "stratified_high": _double(nullable=True),
            "n_classes": _count("classes that have images of both kinds"),
        },
    ),
    "label_correlation": Table(
        "rank correlation of the number of labels of an image with a model being right",
        ("model", "dataset", "label_source", "scoring", "within"),
        {
            "model": _MODEL,
            "dataset": _DATASET,
            "label_source": _str(),
            "scoring": _str(allowed=("top1", "any_of")),
            "within": _str("pooled: over all images; class: within original classes", allowed=("pooled", "class")),
            "rho": _double("Spearman", nullable=True, low=-1, high=1),
            **_CI,
            "n": _count("images with labels"),
        },
    ),
    "label_gaps": Table(
        "how much of a gap any-of scoring takes off: an upper bound of what labels explain",
        ("model", "original", "replication", "labels_original", "labels_replication", "empty"),
        {
            "model": _MODEL,
            "original": _DATASET,
            "replication": _DATASET,
            "labels_original": _str("label source of any-of scoring on the original"),
            "labels_replication": _str("the same on the other set"),
            "empty": _str("images without labels: left out, or counted wrong", allowed=("excluded", "wrong")),
            "gap_top1_pp": _double("by the original labels, over all images"),
            "top1_low": _double(nullable=True),
            "top1_high": _double(nullable=True),
            "gap_any_of_pp": _double("by any label"),
            "any_of_low": _double(nullable=True),
            "any_of_high": _double(nullable=True),
            "removed_pp": _double("gap_top1_pp - gap_any_of_pp"),
            "removed_low": _double(nullable=True),
            "removed_high": _double(nullable=True),
            "n_original": _count("images scored by any-of"),
            "n_replication": _count("images scored by any-of"),
        },
    ),
    "snapshot": Table(
        "what produced this database",
        ("key",),
        {"key": _str(), "value": _str()},
    ),
}

_PANDAS = {
    "str": "str",
    "int32": "int32",
    "float32": "float32",
    "float64": "float64",
    "bool": "boolean",
}


@cache
def arrow(name: str) -> pa.Schema:
    """The Arrow schema of a table."""
    import pyarrow as pa

    kinds = {
        "str": pa.string(),
        "int32": pa.int32(),
        "float32": pa.float32(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
        "binary": pa.binary(),
        "list<int16>": pa.list_(pa.int16()),
        "list<float32>": pa.list_(pa.float32()),
    }
    columns = TABLES[name].columns.items()
    return pa.schema([pa.field(column, kinds[c.kind], nullable=c.nullable) for column, c in columns])


@cache
def _pandera(name: str) -> pa_pandas.DataFrameSchema:
    import pandera.pandas as pa_pandas

    columns = {}
    for column, spec in TABLES[name].columns.items():
        checks = []
        if spec.low is not None:
            checks.append(pa_pandas.Check.ge(spec.low))
        if spec.high is not None:
            checks.append(pa_pandas.Check.le(spec.high))
        if spec.allowed is not None:
            checks.append(pa_pandas.Check.isin(spec.allowed))
        dtype = _PANDAS.get(spec.kind)
        if spec.kind == "int32" and spec.nullable:
            dtype = "Int32"
        columns[column] = pa_pandas.Column(
            dtype, checks=checks, nullable=spec.nullable, coerce=dtype is not None, name=column
        )
    return pa_pandas.DataFrameSchema(columns, strict=True, ordered=True)


def validate(name: str, frame: pd.DataFrame, where: object = "") -> pd.DataFrame:
    """Check a frame against its table and return it with exact types, sorted by key.

    Raises BenchError naming the table, the column, the first offending rows and where they came from: on a missing or
    unknown column, a wrong type, a NULL or NaN where none may be, a value out of bounds, or a repeated key.
    """
    from pandera.errors import SchemaError, SchemaErrors

    table = TABLES[name]
    place = where or f"table `{name}`"
    missing = [c for c in table.columns if c not in frame.columns]
    extra = [c for c in frame.columns if c not in table.columns]
    if missing or extra:
        said = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(map(str, extra))}"] * bool(
            extra
        )
        raise BenchError(f"table `{name}` {' and '.join(said)}.", where=place, remedy=_REMEDY)
    for column, spec in table.columns.items():
        if spec.kind == "int32" and frame[column].dtype.kind == "f" and _has_fractions(frame[column].to_numpy()):
            raise BenchError(f"table `{name}`: column `{column}` has fractions.", where=place, remedy=_REMEDY)
    try:
        frame = _pandera(name).validate(frame.loc[:, list(table.columns)], lazy=True)
    except (SchemaErrors, SchemaError) as error:
        raise BenchError(f"table `{name}`: {_first_fault(error)}.", where=place, remedy=_REMEDY) from None
    whole = [column for column, spec in table.columns.items() if spec.kind == "bool" and not spec.nullable]
    frame = frame.astype(dict.fromkeys(whole, "bool"))
    repeated = frame.duplicated(list(table.key), keep=False)
    if repeated.any():
        example = frame.loc[repeated, list(table.key)].iloc[0].to_dict()
        raise BenchError(
            f"table `{name}`: {int(repeated.sum())} rows share a key, e.g. {example}.", where=place, remedy=_REMEDY
        )
    return frame.sort_values(list(table.key), kind="stable", ignore_index=True)


def _has_fractions(values: np.ndarray) -> bool:
    return bool((values[values == values] % 1 != 0).any())  # NaN differs from itself


_REMEDY = "Delete the file and run `dvc repro`, or correct what wrote it."


def _first_fault(error: Exception) -> str:
    cases = getattr(error, "failure_cases", None)
    if cases is None or isinstance(cases, str) or not len(cases):
        return str(error).splitlines()[0]
    first = cases.iloc[0]
    column = first.get("column") or "?"
    return f"column `{column}`: {first.get('check')} fails for {first.get('failure_case')!r} ({len(cases)} such faults)"
