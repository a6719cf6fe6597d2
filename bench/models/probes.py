"""Heads on frozen features, and what tells a collapsed encoder. scikit-learn is imported only where it fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench import compute
from bench.config import Config, Model, Probes

QUERIES_AT_ONCE = 1000


@dataclass(frozen=True)
class Linear:
    """A linear head in the space of the raw features: logits = features @ weight.T + bias."""

    weight: np.ndarray
    """(K, D) float64; the standardisation is folded in."""
    bias: np.ndarray
    """(K,) float64"""
    c: float
    """The inverse regularisation that cross-validation chose."""

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(N, D) -> (N, K) float64."""
        return features.astype(np.float64) @ self.weight.T + self.bias


def _folds(labels: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """The fold of each sample, (N,): stratified, and drawn by `seed`."""
    rng = compute.rng(seed, "folds")
    fold = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        fold[members] = np.arange(len(members)) % n_folds
    return fold


def _fit(features: np.ndarray, labels: np.ndarray, n_classes: int, c: float) -> Linear:
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    mean = features.mean(axis=0, dtype=np.float64)
    std = features.std(axis=0, dtype=np.float64)
    std[std < 1e-8] = 1.0  # a dead feature stays zero
    with threadpool_limits(1):  # its many small products are 20 times slower on two threads
        fitted = LogisticRegression(C=c, max_iter=2000).fit((features - mean) / std, labels)
    weight = np.zeros((n_classes, features.shape[1]))
    bias = np.full(n_classes, -1e3)  # a class without a label is never answered
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # scikit-learn keeps one row for two classes
        coefficients, intercepts = np.vstack([-coefficients, coefficients]) / 2, np.r_[-intercepts, intercepts] / 2
    weight[fitted.classes_] = coefficients / std
    bias[fitted.classes_] = intercepts - (coefficients / std) @ mean
    return Linear(weight, bias, c)


def fit_linear(features: np.ndarray, labels: np.ndarray, n_classes: int, probes: Probes, seed: int) -> Linear:
    """Multinomial logistic regression on standardised features (N, D) and labels (N,).

    C is the one of `c_grid` with the best accuracy in stratified cross-validation on `choose_on` rows at most, the
    smallest of equals.
    """
    some, known = features, labels
    if len(labels) > probes.choose_on:
        chosen = few_labels(labels, max(probes.choose_on // n_classes, probes.folds), seed)
        some, known = features[chosen], labels[chosen]
    fold = _folds(known, probes.folds, seed)
    scores = []
    for c in sorted(probes.c_grid):
        right = 0
        for k in range(probes.folds):
            head = _fit(some[fold != k], known[fold != k], n_classes, c)
            right += int((head.logits(some[fold == k]).argmax(axis=1) == known[fold == k]).sum())
        scores.append((right, c))
    best = max(right for right, _ in scores)
    return _fit(features, labels, n_classes, next(c for right, c in scores if right == best))


def knn(bank: np.ndarray, labels: np.ndarray, queries: np.ndarray, n_classes: int, k: int, t: float) -> np.ndarray:
    """Class of each query, (M,), by its k nearest of the bank in cosine, each with a vote of exp(cosine / t).

    bank (N, D), labels (N,), queries (M, D). After Wu et al. 2018 (arXiv 1805.01978), which lightly follows.
    A k above the size of the bank takes the whole bank. QUERIES_AT_ONCE bounds the memory.
    """
    bank, k = normalised(bank), min(k, len(bank))
    answers = []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        similarity = normalised(queries[start : start + QUERIES_AT_ONCE]) @ bank.T
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        weight = np.exp(np.take_along_axis(similarity, nearest, axis=1) / t)
        votes = np.zeros((len(similarity), n_classes))
        np.add.at(votes, (np.arange(len(similarity))[:, None], labels[nearest]), weight)
        answers.append(votes.argmax(axis=1))
    return np.concatenate(answers)


def split(config: Config, model: Model, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices (fit, validation) of a train part's labels (N,): what a model is fitted on, and what is kept back."""
    fit, validation = kept_back(labels, config.training.validation_fraction, config.seed)
    if model.images is not None:
        per_class = max(model.images // len(np.unique(labels)), 1)
        fit = fit[few_labels(labels[fit], per_class, config.seed)]
    return fit, validation


def kept_back(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (fit, validation) of labels (N,): `fraction` of each class, at least one of it, drawn by `seed`."""
    rng = compute.rng(seed, "validation")
    is_validation = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        is_validation[members[: max(1, round(fraction * len(members)))]] = True
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def few_labels(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Indices of `per_class` samples of each class (all of a smaller class), drawn by `seed`, sorted."""
    rng = compute.rng(seed, "few labels", per_class)
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


def normalised(features: np.ndarray) -> np.ndarray:
    """Features (N, D) of length 1, float64; a zero vector stays zero."""
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def noisy(labels: np.ndarray, n_classes: int, share: float, seed: int) -> np.ndarray:
    """Labels (N,) of which `share` of each class is replaced by another class, any of them alike; drawn by `seed`."""
    rng = compute.rng(seed, "label noise", share)
    changed = labels.copy()
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        wrong = members[: round(share * len(members))]
        changed[wrong] = (label + rng.integers(1, n_classes, len(wrong))) % n_classes
    return changed


def alignment(features: np.ndarray, others: np.ndarray) -> float:
    """Mean squared distance of L2-normalised features (N, D) and those of another view of the same images: 0 where they
    are one (Wang & Isola 2020, arXiv 2005.10242, alpha = 2)."""
    return float(((normalised(features) - normalised(others)) ** 2).sum(axis=1).mean())


def uniformity(features: np.ndarray) -> float:
    """Log of the mean of exp(-2 d^2) over all pairs of L2-normalised features (N, D), d their distance: 0 where all are
    one point, the lower the more evenly they are spread (Wang & Isola 2020, arXiv 2005.10242, t = 2)."""
    unit = normalised(features)
    above = np.triu_indices(len(unit), k=1)
    squared = (2 - 2 * (unit @ unit.T)[above]).clip(min=0)
    return float(np.log(np.exp(-2 * squared).mean()))


def effective_rank(features: np.ndarray) -> float:
    """exp of the entropy of the singular values of features (N, D): between 1 (a line) and min(N, D).

    RankMe (Garrido et al. 2023, arXiv 2210.02885); the features are not centred.
    """
    values = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    share = values / max(values.sum(), 1e-12)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def collapse_std(features: np.ndarray) -> float:
    """Mean standard deviation per dimension of the L2-normalised features (N, D), times sqrt(D).

    1 where they are spread over the sphere, 0 where all are one point (Chen & He 2021, arXiv 2011.10566).
    """
    return float(normalised(features).std(axis=0).mean() * np.sqrt(features.shape[1]))
