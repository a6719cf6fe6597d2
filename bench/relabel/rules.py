"""How the votes on one label of one image become a decision (STUDIES.md 1c and D).

A vote row is what one annotator said of one pair of image and label, as counts of yes, no and unsure: one of them is 1,
or more where votes are pooled and just their numbers are known. Pairs that nobody judged are no rows.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd

from bench import stats
from bench.config import Consensus
from bench.frames import Frame
from bench.relabel import dawid_skene

PAIR = ["sample_id", "class_id"]
COUNTS = ["n_yes", "n_no", "n_unsure"]
YES, NO, DISPUTED = "yes", "no", "disputed"
REFINED = "refined"
EVEN = 1e-9
"""How near to one half a probability is neither yes nor no."""


def decide(votes: Frame, settings: Consensus, rule: str | None = None) -> Frame:
    """sample_id, class_id, score, n_yes, n_no, n_unsure, state, method of every judged pair, in the order of the pairs.

    votes: sample_id, class_id, annotator, n_yes, n_no, n_unsure, and pooled where some are. `rule` in place of
    `settings.rule`.

    | rule | yes | disputed |
    |---|---|---|
    | union | somebody says yes | never |
    | intersection | somebody says yes, and nobody no (nor unsure, where that counts) | never |
    | majority | more than half of what counts is yes | exactly half is |
    | dawid_skene | the probability is above one half | it is one half |

    Where unsure counts as u (`settings.unsure`), it is u of a yes and 1 - u of a no. A pair about which everybody is
    unsure, and that does not count, is disputed. Pooled votes have no annotators whose rates could be known: under
    dawid_skene pairs with some are decided by majority, and say so.
    """
    rule = rule or settings.rule
    pairs = votes.groupby(PAIR, sort=True)[COUNTS].sum().reset_index()
    yes, no, unsure = (pairs[column].to_numpy(np.int64) for column in COUNTS)
    weight = Fraction(str(settings.unsure)) if settings.unsure is not None else None
    score, half = _shares(yes, no, unsure, weight)
    method = np.full(len(pairs), rule, object)
    if rule == "union":
        above, even = yes > 0, np.zeros(len(pairs), bool)
    elif rule == "intersection":
        above = (yes > 0) & (no == 0) & ((unsure == 0) if weight is not None else True)
        even = np.zeros(len(pairs), bool)
    else:
        above, even = half > 0, half == 0
    if rule == "dawid_skene":
        together = is_pooled(votes)
        probability = pairs[PAIR].merge(_probabilities(votes.loc[~together], settings), how="left", on=PAIR)
        probability = probability["probability"]
        pooled = votes.loc[together, PAIR].drop_duplicates().assign(pooled=True)
        mixed = pairs[PAIR].merge(pooled, how="left", on=PAIR)["pooled"].notna().to_numpy()
        known = probability.notna().to_numpy() & ~mixed
        p = probability.to_numpy(float)
        score = np.where(known, p, score)
        above = np.where(known, p > 0.5 + EVEN, above)
        even = np.where(known, np.abs(p - 0.5) <= EVEN, even)
        method[mixed] = "majority"
    nothing = (yes + no + (unsure if weight is not None else 0)) == 0
    score = np.where(nothing, 0.5, score)
    state = np.where(nothing | even, DISPUTED, np.where(above, YES, NO))
    return pairs.assign(score=score, state=state, method=method)[[*PAIR, "score", *COUNTS, "state", "method"]]


def is_pooled(votes: Frame) -> np.ndarray:
    """Which votes are pooled, (V,); none where they do not say."""
    return votes["pooled"].to_numpy(bool) if "pooled" in votes else np.zeros(len(votes), bool)


def _shares(
    yes: np.ndarray, no: np.ndarray, unsure: np.ndarray, weight: Fraction | None
) -> tuple[np.ndarray, np.ndarray]:
    """Share of yes (P,), and the sign of that share minus one half, from whole numbers, so that a tie is one."""
    n, d = (weight.numerator, weight.denominator) if weight is not None else (0, 1)
    counted = unsure if weight is not None else np.zeros_like(unsure)
    above, total = yes * d + counted * n, (yes + no + counted) * d
    share = np.divide(above, total, out=np.full(len(yes), 0.5), where=total > 0)
    return share, np.sign(2 * above - total)


def _votes(single: Frame, settings: Consensus) -> tuple[Frame, np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Pairs, and for each vote its pair, annotator and value; the annotators' names in the order of their numbers."""
    said = single.loc[single["n_unsure"] == 0] if settings.unsure is None else single
    pairs = said[PAIR].drop_duplicates().sort_values(PAIR, ignore_index=True)
    task = said[PAIR].merge(pairs.reset_index(names="task"), on=PAIR, how="left")["task"].to_numpy(np.int64)
    who, names = pd.factorize(said["annotator"], sort=True)
    value = np.where(said["n_unsure"] > 0, settings.unsure or 0.0, said["n_yes"].to_numpy(float))
    return pairs, task, who, value, list(names)


def _probabilities(single: Frame, settings: Consensus) -> Frame:
    """sample_id, class_id and the probability that the label is true, of every pair that somebody was sure of."""
    pairs, task, who, value, _ = _votes(single, settings)
    if pairs.empty:
        return pairs.assign(probability=pd.Series(dtype=float))
    found = dawid_skene.fit(
        task,
        who,
        value,
        label=pd.factorize(pairs["class_id"])[0],
        smoothing=settings.smoothing,
        per_label=settings.per_label,
    )
    return pairs.assign(probability=found.probability)


def estimates(votes: Frame, settings: Consensus) -> Frame:
    """annotator, sensitivity, specificity by Dawid and Skene, the same for all labels; pooled votes have none."""
    pairs, task, who, value, names = _votes(votes.loc[~is_pooled(votes)], settings)
    if pairs.empty:
        return pd.DataFrame(columns=["annotator", "sensitivity", "specificity"])
    found = dawid_skene.fit(task, who, value, smoothing=settings.smoothing)
    return pd.DataFrame({"annotator": names, "sensitivity": found.sensitivity, "specificity": found.specificity})


def refined(decided: Frame, refinements: Frame) -> Frame:
    """Decisions, overridden by those who looked once more: what all of them say of a pair is its state.

    refinements: sample_id, class_id, annotator, action of the answers that count. Where they contradict each other, or
    are only unsure, the pair is disputed. Pairs that only they judged are added. Counts stay those of the first stage.
    """
    if refinements.empty:
        return decided
    sure = refinements.assign(yes=refinements["action"] == "yes", no=refinements["action"] == "no")
    said = sure.groupby(PAIR, sort=True)[["yes", "no"]].any().reset_index()
    said["state"] = np.select([said["yes"] & ~said["no"], said["no"] & ~said["yes"]], [YES, NO], DISPUTED)
    said["score"] = said["state"].map({YES: 1.0, NO: 0.0, DISPUTED: 0.5})
    counts = said[PAIR].merge(decided[[*PAIR, *COUNTS]], on=PAIR, how="left")[COUNTS].fillna(0).astype(np.int64)
    over = pd.concat([said[[*PAIR, "score", "state"]], counts], axis=1).assign(method=REFINED)
    kept = decided.merge(said[PAIR].assign(over=True), on=PAIR, how="left")
    kept = kept.loc[kept["over"].isna(), decided.columns]
    both: Frame = pd.concat([kept, over[decided.columns]])
    return both.sort_values(PAIR, ignore_index=True)


def shape(
    decided: Frame, original: Frame, truth: Frame | None, truth_name: str | None, confidence: float
) -> dict[str, object]:
    """What decisions come to on the images that they are about: columns of table `vote_rules`.

    original: sample_id -> class_id; truth: sample_id, class_id of a source that is known to be true, or None. All but
    `n_images` and `n_disputed` are of images of which no label stays disputed. Precision is of the labels said yes to;
    recall of the true labels of these images, shown or not.
    """
    every = decided["sample_id"].drop_duplicates()
    still = decided.loc[decided["state"] == DISPUTED, "sample_id"].unique()
    ids = every.loc[~every.isin(still)]
    yes = decided.loc[(decided["state"] == YES) & ~decided["sample_id"].isin(still), PAIR]
    sizes = yes.groupby("sample_id").size()
    n, multi = len(ids), int((sizes >= 2).sum())
    low, high = stats.wilson(multi, n, confidence)
    kept = (yes["sample_id"].map(original) == yes["class_id"]).sum()
    out: dict[str, object] = {
        "n_images": len(every),
        "n_disputed": len(still),
        "n_labels": len(yes),
        "n_multi": multi,
        "n_empty": n - len(sizes),
        "multi_share": multi / n if n else None,
        "ci_low": float(low) if n else None,
        "ci_high": float(high) if n else None,
        "n_kept": int(kept),
        "truth": truth_name,
    }
    unknown = {"true_multi_share": None, "precision": None, "recall": None}
    if truth is None or not n:
        return out | unknown
    true = truth.loc[truth["sample_id"].isin(set(ids)), PAIR].drop_duplicates()
    both = len(yes.merge(true, on=PAIR))
    several = int((true.groupby("sample_id").size() >= 2).sum())
    return out | {
        "true_multi_share": several / n,
        "precision": both / len(yes) if len(yes) else None,
        "recall": both / len(true) if len(true) else None,
    }
