"""The controls of the digits benchmark, made from real digits: each cause of a gap is recovered as what it is.

A multinomial logistic regression on pixels stands in for the models: it trains in seconds and is in no benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bench import compute
from bench.data import digits
from bench.evaluate import protocol, uncertainty
from bench.evaluate.protocol import Found, Pair

SIDE = 14
"""Pixels a side that the model sees."""


@dataclass(frozen=True)
class Judged:
    """What the model says of the test images of one set, in the order that breaks ties, (N,) each."""

    right: np.ndarray
    true: np.ndarray
    entropy: np.ndarray
    labels: np.ndarray
    origins: np.ndarray


def _features(images: np.ndarray) -> np.ndarray:
    return (
        images.reshape(len(images), SIDE, 28 // SIDE, SIDE, 28 // SIDE).mean(axis=(2, 4)).reshape(len(images), -1) / 255
    )


@pytest.fixture(scope="module")
def judged() -> dict[str, Judged]:
    """Dataset -> what the model says of it."""
    collected = digits.mnist()
    is_test = digits._chosen(collected, "split", digits.TEST_PER_CLASS)
    train, test = collected.take(~is_test), collected.take(is_test)
    model = LogisticRegression(C=0.05, max_iter=60).fit(_features(train.images), train.labels)
    contents = [*digits.null_halves(test), digits.harder(train, test), digits.corrupted(test), digits.noisy(test)]
    sets = {"digits": (list(test.ids), test.labels, test.images, [f"digits/{i}" for i in test.ids], {})}
    for one in contents:
        sets[one.name] = (list(one.ids), one.labels, one.images, list(one.source_ids), one.extra)
    out = {}
    for name, (ids, labels, images, origins, extra) in sets.items():
        full = [f"{name}/{i}" for i in ids]
        order = np.array([full.index(one) for one in compute.hash_order(full)])
        z = model.decision_function(_features(np.asarray(images)[order]))
        pred, given = z.argmax(axis=1), np.asarray(labels)[order]
        true = np.array([extra["true"][i][0] for i in order]) if "true" in extra else given
        entropy = uncertainty.scores(z)["entropy_nats"]
        out[name] = Judged(pred == given, pred == true, entropy, given, np.array(origins, str)[order])
    return out


def _decomposed(a: Judged, b: Judged, *, true: bool = False) -> tuple[Found, dict[str, protocol.Interval], int]:
    """R5 over all bins of one model, its terms, and the row."""
    drawn = protocol.resample(a.origins, b.origins, compute.rng("controls"), 400)
    right = (a.true, b.true) if true else (a.right, b.right)
    pair = Pair(right[0][None], right[1][None], a.labels, b.labels, drawn)
    over = protocol.grid([0.9])
    (found,) = protocol.by_uncertainty(pair, a.entropy[None], b.entropy[None], over)
    return found, protocol.gaps(found, not drawn.independent, 0.95), over.layout.index(("R5", 1.0))


def test_null_halves_have_no_gap(judged: dict[str, Judged]) -> None:
    _, terms, row = _decomposed(judged["digits-null-a"], judged["digits-null-b"])
    for term in terms.values():
        assert term.low[row] <= 0 <= term.high[row]


def test_harder_images_are_composition(judged: dict[str, Judged]) -> None:
    _, terms, row = _decomposed(judged["digits"], judged["digits-harder"])
    gap, composition, within = (terms[name].value[row] for name in ("gap", "composition", "within"))
    assert terms["gap"].low[row] > 0
    assert terms["composition"].low[row] > 0
    assert composition > 0.5 * gap > within


def test_corruption_is_what_the_shift_of_uncertainty_says(judged: dict[str, Judged]) -> None:
    a, b = judged["digits"], judged["digits-corrupted"]
    _, terms, row = _decomposed(a, b)
    cuts = protocol.taus(a.entropy, [share / 20 for share in range(1, 20)])
    bins_a, bins_b = np.searchsorted(cuts, a.entropy), np.searchsorted(cuts, b.entropy)
    shares_a, shares_b = (np.bincount(bins, minlength=20) / len(bins) for bins in (bins_a, bins_b))
    accuracy = np.bincount(bins_a, a.right, 20) / np.bincount(bins_a, minlength=20)
    stated = ((shares_a - shares_b) * accuracy).sum()
    assert terms["composition"].value[row] == pytest.approx(stated, abs=1e-12)
    assert terms["gap"].low[row] > 0
    less_certain = np.median(b.entropy) > np.median(a.entropy)
    assert (terms["composition"].value[row] > 0) == less_certain


def test_wrong_labels_are_within_by_themselves_and_nothing_by_the_true_ones(judged: dict[str, Judged]) -> None:
    a, b = judged["digits"], judged["digits-noisy"]
    given, terms, row = _decomposed(a, b)
    assert terms["composition"].value[row] == pytest.approx(0, abs=1e-12)
    assert terms["within"].value[row] == pytest.approx(terms["gap"].value[row], abs=1e-12)
    assert terms["gap"].low[row] > 0.02
    true, _, _ = _decomposed(a, b, true=True)
    assert true.gap[row] == pytest.approx(0, abs=1e-12)
    labels = protocol.label_term(given, true, 0.95)
    assert labels.value[row] == pytest.approx(terms["gap"].value[row], abs=1e-12)
    assert labels.low[row] > 0.02
