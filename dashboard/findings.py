"""Sentences from tables: what the figures support, and no more.

Every function takes small frames and returns Markdown. A difference is stated as one only where its interval leaves
out zero (and, where pairs are tested, where the adjusted p-value is below alpha); else the sentence says that the two
cannot be told apart. No frame, no sentence: functions return an empty string where there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from bench import stats
from bench.studies import published
from dashboard import terms
from dashboard.frames import Frame, records

Verdict = Literal["more", "less", "tied"]


def verdict(low: float, high: float) -> Verdict:
    """What an interval of a difference says: all above zero, all below, or neither."""
    return "more" if low > 0 else "less" if high < 0 else "tied"


@dataclass(frozen=True)
class Pair:
    """Model a minus model b on the same images, in percentage points; `p_holm` is 0 where one pair alone is tested."""

    a: str
    b: str
    delta_pp: float
    ci_low: float
    ci_high: float
    n: int
    p_holm: float = 0.0

    def turned(self) -> Pair:
        """The same difference as b minus a."""
        return Pair(self.b, self.a, -self.delta_pp, -self.ci_high, -self.ci_low, self.n, self.p_holm)

    def verdict(self, alpha: float) -> Verdict:
        """As `verdict`, and `tied` too where the adjusted p-value is not below alpha."""
        return verdict(self.ci_low, self.ci_high) if self.p_holm < alpha else "tied"


def gap(gaps: Frame, best: str, original: str, other: str) -> str:
    """What the best model loses on another set, and for how many of the models that holds.

    gaps: model, name, gap_pp, ci_low, ci_high, n_original, n_replication, of one pair of sets.
    """
    if gaps.empty:
        return ""
    row = gaps.loc[gaps["model"] == best].iloc[0] if best in set(gaps["model"]) else gaps.iloc[0]
    who = f"**{row['name']}**" + (f", the most accurate model on {original}," if row["model"] == best else "")
    size = terms.points(abs(row["gap_pp"]))
    says = verdict(row["ci_low"], row["ci_high"])
    if says == "tied":
        interval = f"gap {terms.points(row['gap_pp'], row['ci_low'], row['ci_high'])}"
        first = f"{who} cannot be told apart on {original} and on {other}: {interval}"
    else:
        low, high = sorted((abs(row["ci_low"]), abs(row["ci_high"])))
        verb = "loses" if says == "more" else "gains"
        first = f"{who} {verb} **{size}** [{low:.1f}, {high:.1f}] on {other}"
    n = f"n = {int(row['n_original']):,} and {int(row['n_replication']):,}"
    return f"{first} ({n}). {_tally(gaps)}"


def parts(row: Frame, doubt: str) -> str:
    """What a gap is made of: composition and within.

    row: gap_pp, ci_low, ci_high, composition_pp, composition_low, composition_high, within_pp, within_low, within_high;
    `doubt`: the images that composition is about, such as `images of which it is unsure`.
    """
    composition = _part(row["composition_pp"], row["composition_low"], row["composition_high"])
    within = _part(row["within_pp"], row["within_low"], row["within_high"])
    return (
        f"Of this gap of {terms.points(row['gap_pp'])}, {composition} is composition (how many {doubt} each set holds) "
        f"and {within} is within (accuracy on images of like uncertainty)."
    )


def _part(value: float, low: float, high: float) -> str:
    known = low == low and high == high  # NaN differs from itself
    return f"**{terms.points(value)}**" + (f" [{low:.1f}, {high:.1f}]" if known else "")


def shrinks(counts: Frame, where: str) -> str:
    """For how many models the gap is smaller on some images, and by how much for the median one.

    counts: n_models, n_shrinks, p_sign, median_shrink_pp, ci_low, ci_high (NaN where not known).
    """
    n = int(counts["n_models"])
    many = (
        f"**{int(counts['n_shrinks'])} of {n}** models" if n > 1 else "the model" if counts["n_shrinks"] else "no model"
    )
    said = f"{where}, the gap is smaller than over all images for {many}"
    if n < 2:
        return f"{said}."
    size, low, high = (float(counts[key]) for key in ("median_shrink_pp", "ci_low", "ci_high"))
    verb = "smaller" if size >= 0 else "larger"
    size, low, high = (size, low, high) if size >= 0 else (-size, -high, -low)
    p = _p(float(counts["p_sign"]))
    return (
        f"{said}; for the median one it is {verb} by {_part(size, low, high)}. (Sign test: p {p}; models share images "
        "and kin, so that is no independent evidence.)"
    )


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"= {value:.2g}"


SATURATED = 0.99
"""Accuracy on the original above which a gap in points cannot be large on the side of the model."""


def saturation(counts: Frame, accuracy: float, original: str) -> str:
    """A warning where gaps shrink because accuracy is near 100 %, and not because the sets are more alike there.

    counts: n_models, n_shrinks, n_ratio, n_ratio_falls; accuracy: on the original, of the median model.
    """
    n, known, falls = (int(counts[key]) for key in ("n_models", "n_ratio", "n_ratio_falls"))
    few = falls <= known / 2 and counts["n_shrinks"] > n / 2
    if not few and accuracy < SATURATED:
        return ""
    ratio = (
        f"the ratio of errors falls for {falls} of the {known} that have errors left on {original}"
        if known
        else f"no model has an error left on {original}, so there is no ratio of errors either"
    )
    return (
        f"**Mind saturation.** The median model is right on {terms.percent(accuracy)} of these images of {original}: "
        f"near 100 % a gap in points shrinks by itself, and {ratio}. See the ratio and the logit gap in the table."
    )


def _tally(gaps: Frame) -> str:
    said = [verdict(low, high) for low, high in zip(gaps["ci_low"], gaps["ci_high"], strict=True)]
    words = {"more": "lose accuracy", "less": "gain accuracy", "tied": "show no gap that could be told from chance"}
    if len(set(said)) == 1:
        return f"All {len(gaps)} models {words[said[0]]} there." if len(gaps) > 1 else ""
    parts = [f"{said.count(key)} {word}" for key, word in words.items() if key in said]
    return f"Of {len(gaps)} models, {', '.join(parts)}."


def null(gaps: Frame, best: str) -> str:
    """What two random halves of one set show for the same model: chance, and a warning where it is more than that."""
    row = gaps.loc[gaps["model"] == best]
    if row.empty:
        return ""
    low, high = float(row["ci_low"].iloc[0]), float(row["ci_high"].iloc[0])
    said = terms.points(float(row["gap_pp"].iloc[0]), low, high)
    if verdict(low, high) == "tied":
        return f"Between two random halves of the test set its gap is {said}: nothing but chance, as it should be."
    return f"Between two random halves of the test set its gap is {said}, where there should be none: mind that."


def _tie(found: Pair) -> str:
    """The difference behind a tie; where its interval leaves out zero, the p-value that makes it one all the same."""
    difference = terms.points(found.delta_pp, found.ci_low, found.ci_high, sign=True)
    many = "" if verdict(found.ci_low, found.ci_high) == "tied" else f", p = {found.p_holm:.2g} as one of many pairs"
    return f"difference {difference}{many}, n = {found.n:,}"


def _versus(found: Pair | None, a: str, b: str, lead: str, more: str, alpha: float) -> str:
    """Model a against b; `more` says how the better one, `{a}`, stands to the other, `{b}`, by `{size}`."""
    if found is None:
        return ""
    low, high = sorted((found.ci_low, found.ci_high))
    says = found.verdict(alpha)
    if says == "tied":
        return f"{lead}, {a} and {b} **cannot be told apart** ({_tie(found)})."
    if says == "less":
        a, b, low, high = b, a, -high, -low
    size = f"**{terms.points(abs(found.delta_pp))}** [{low:.1f}, {high:.1f}]"
    return f"{lead}, {more.format(a=a, b=b, size=size)} (n = {found.n:,})."


def against(found: Pair | None, a: str, b: str, where: str, alpha: float) -> str:
    """Model a against model b on the same images; `a` and `b` say what to call them: `X (the best supervised one)`."""
    return _versus(found, a, b, f"On {where}", "{a} is {size} more accurate than {b}", alpha)


def robust(found: Pair | None, a: str, b: str, attack: str, alpha: float) -> str:
    """Robust accuracy of model a against model b on the attacked images."""
    return _versus(found, a, b, f"Under {attack}", "{a} keeps {size} more of the images right than {b}", alpha)


def controls(pairs: list[tuple[str, Pair | None]], alpha: float) -> str:
    """Which self-supervised encoders beat the untrained encoder of their architecture on the linear probe.

    pairs: name of the self-supervised model, and that model minus its control (None: there is no such control).
    """
    tested = [(name, found) for name, found in pairs if found is not None]
    if not tested:
        return ""
    beaten = [name for name, found in tested if found.verdict(alpha) == "more"]
    rest = [(name, found) for name, found in tested if found.verdict(alpha) != "more"]
    what = "the untrained encoder of their architecture on the linear probe"
    alone = [name for name, found in pairs if found is None]
    besides = f" For {', '.join(alone)} there is no such control." if alone else ""
    if not rest:
        which = {1: f"**{beaten[0]}** beats", 2: "Both self-supervised encoders beat"}.get(
            len(tested), f"All {len(tested)} self-supervised encoders beat"
        )
        return f"{which} {what}.{besides}"
    said = "; ".join(
        f"**{name}** {'is worse' if found.verdict(alpha) == 'less' else 'cannot be told apart from it'}"
        f" ({terms.points(found.delta_pp, found.ci_low, found.ci_high, sign=True)})"
        for name, found in rest
    )
    return f"{len(beaten)} of {len(tested)} self-supervised encoders beat {what}. {said}.{besides}"


def contrast(rows: Frame, where: str, against: str, names: Mapping[str, str]) -> str:
    """Whether self-supervised networks are more robust than supervised ones, from the means over all of them.

    rows: table `ssl_families` of one set, family `all`, held against one kind of baseline (`against`, in words);
    names: what conditions are called inside a sentence.
    """
    if rows.empty:
        return ""
    table = {(row.condition, row.measure): row for row in rows.itertuples()}
    one = next(iter(table.values()))
    ours, theirs = _number(one.n_ssl, "self-supervised one"), _number(one.n_supervised, "supervised network")
    said = f"Held against {theirs} {against}, {ours} {'is' if one.n_ssl == 1 else 'are'}"
    clauses, stated = [], []
    if (clean := table.get(("clean", "accuracy"))) is not None:
        clauses.append(f"{_more(clean, 'accurate')} on clean images of {where} (n = {int(clean.n):,})")
        stated.append(clean)
    for condition in _conditions(table, names):
        row = table[condition, "both_right"]
        clauses.append(f"at equal clean accuracy {_more(row, 'robust')} under {names[condition]}")
        stated.append(row)
    return f"{said} {'; '.join(clauses)}. {_reach(stated)}" if clauses else ""


def _reach(stated: list[Any]) -> str:
    """How far what was said of these networks reaches."""
    known = [row for row in stated if row.networks_low == row.networks_low]  # NaN differs from itself
    if not known:
        return "There are too few of them to say anything of other networks."
    held = [verdict(row.ci_low, row.ci_high) for row in known]
    wide = [verdict(row.networks_low, row.networks_high) for row in known]
    lost = sum(a not in ("tied", b) for a, b in zip(held, wide, strict=True))
    found = sum(a != "tied" for a in held)
    if not found:
        return "These intervals are over images, for these networks."
    if lost:
        return (
            f"These intervals are over images, for these networks; over networks as well, {lost} of the {found} "
            f"{'difference' if found == 1 else 'differences'} cannot be told apart from none."
        )
    return "The differences hold over networks as well as images."


MANY = 0.02
"""Share of images that a search without gradients may find by luck where an attack fails."""


def trust(frame: Frame) -> str:
    """Whether an attack works, by its checks: rows of table `attack_trust` with names."""
    faults = {
        "have no gradient on some images, which the attack cannot move": frame["zero_gradient"] > 0,
        "answer differently when asked again": frame["repeat_difference"] > 0,
        "answer differently at eps 0": frame["same_at_zero"].astype(float).fillna(1) < 1,
        "still are right on some images when any change is allowed": frame["right_at_full"] > 0,
        "are fooled on more than a few images by a search without gradients, where this attack fails": (
            frame["square_gains"].astype(float).fillna(0) > MANY
        ),
    }
    said = [
        f"{len(who)} of {len(frame)} {words} (such as {frame.loc[who.index, 'name'].iloc[0]})"
        for words, bad in faults.items()
        if len(who := frame.loc[bad])
    ]
    lacks = (
        " Whether a search without gradients finds more was not tried." if frame["square_gains"].isna().all() else ""
    )
    if not said:
        return f"Checks of the attack: nothing speaks against it.{lacks}"
    return f"**Checks of the attack.** Of the networks whose gradients were used, {'; '.join(said)}.{lacks}"


def transfer(pairs: Frame, sampled: Frame, attack: str) -> str:
    """How often attacks transfer, and whether images differ in it.

    pairs: table `transfer_pairs` of one condition; sampled: table `transfer_sampling` of it; attack: what it is called.
    """
    own = pairs.loc[pairs["source_model"] == pairs["target_model"]]
    between = pairs.loc[pairs["source_model"] != pairs["target_model"]]
    n = int(pairs["n"].max())
    said = f"Of the {n:,} images that all models get right when clean, {attack} turns "
    if len(own):
        said += f"{terms.percent(own['rate'].mean())} on the model that it follows and "
    rate = sampled.loc[sampled["statistic"] == "rate"]
    bounds = (float(rate["ci_low"].iloc[0]), float(rate["ci_high"].iloc[0])) if len(rate) else (None, None)
    said += (
        f"**{terms.percent(between['rate'].mean(), *bounds)} on another one** (mean over {len(between)} pairs, "
        f"{terms.percent(between['rate'].min())} to {terms.percent(between['rate'].max())})."
    )
    spread = sampled.loc[sampled["statistic"] == "spread"]
    if len(spread):
        p = float(spread["p_value"].iloc[0])
        verdict = "are spread wider over images than" if p < 0.05 else "are spread over images as"
        said += f" Transfers {verdict} if each pair had images of its own (permutation, p {_p(p)})."
    return said


def taken_for(rows: Frame, measure: str) -> str:
    """What images that transfer are taken for: rows of table `misclassifications` of one condition."""
    row = rows.loc[(rows["collection"] == "all") & (rows["measure"] == measure)]
    if row.empty:
        return ""
    one = row.iloc[0]
    return (
        f"{terms.percent(one['share'], one['ci_low'], one['ci_high'])} of these {int(one['n']):,} transfers are taken "
        "for "
        f"the class that the same model held for second when the image was clean; by chance it would be "
        f"{terms.percent(one['chance'])}, by its clean probabilities {terms.percent(one['null'])}: "
        f"{terms.points(one['over_null_pp'], one['over_null_low'], one['over_null_high'], sign=True)} over these."
    )


MOST = 0.8
"""Share of pairs that must succeed for an attack to draw nearly any mask."""


def drawn(row: Mapping[Any, Any], about: Mapping[Any, Any]) -> str:
    """Whether ASMA draws the target masks: its row of table `segmentation_summary`, and that of the set."""
    verb = "Yes, nearly" if row["reached_low"] > MOST else "No" if row["reached_high"] < MOST else "Perhaps"
    return (
        f"{verb}: for {terms.percent(row['reached'], row['reached_low'], row['reached_high'])} of {int(row['n'])} "
        f"pairs of an image and another one's mask, what the network draws has an IoU of at least "
        f"{about['reached']:g} with it."
    )


def parts_of_asma(rows: Frame) -> str:
    """What static parts cost: rows of table `segmentation_summary`."""
    said = []
    for row in rows.loc[rows["variant"] != "asma"].itertuples():
        name, ends = terms.SEGMENTING[row.variant], (row.iou_delta_low, row.iou_delta_high)
        way = {"more": "more", "less": "less"}.get(verdict(*ends), "not told apart")
        said.append(f"{name} {row.iou_delta:+.2f} [{ends[0]:+.2f}, {ends[1]:+.2f}] ({way})")
    return f"Mean IoU at the end, less that of ASMA on the same pairs: {'; '.join(said)}." if said else ""


def objectives(rows: Frame) -> str:
    """Which objective needs most steps: rows of table `objective_summary` with steps of one length."""
    said = []
    for name, mine in rows.loc[rows["n_common"] > 0].groupby("name", sort=False):
        by = {row.objective: row for row in mine.itertuples()}
        if "sign" in by and "logit" in by:
            sign, logit = by["sign"], by["logit"]
            said.append(
                f"**{name}**: along the sign {_times(sign.over_ce, sign.ce_low, sign.ce_high)} those by the "
                "cross-entropy, "
                f"{sign.predicted:.2f} predicted, and {_times(sign.over_logit, sign.logit_low, sign.logit_high)} those "
                "by "
                f"the difference of logits, which are {_times(logit.over_ce, logit.ce_low, logit.ce_high)} the first "
                f"(n = {int(sign.n_common)})"
            )
    return f"Steps to the target, all of one length. {'; '.join(said)}." if said else ""


def runner_up(rows: Frame) -> str:
    """Whether logits and cross-entropy differ less towards the runner-up: rows of table `objective_summary` with steps
    of one length, to both kinds of targets."""
    said = []
    known = rows.loc[(rows["n_common"] > 0) & (rows["objective"] == "logit")]
    for name, mine in known.groupby("name", sort=False):
        by = {row.target_rule: row for row in mine.itertuples()}
        if {"random", "runner_up"} <= by.keys():
            near, far = (terms.number(row.over_ce, row.ce_low, row.ce_high) for row in (by["runner_up"], by["random"]))
            said.append(f"**{name}** {near} (drawn: {far})")
    return (
        "To the runner-up the difference of logits takes as many times the steps of the cross-entropy: "
        f"{'; '.join(said)}."
        if said
        else ""
    )


def margins(rows: Frame) -> str:
    """How many images come to the largest margin: rows of table `objective_summary`."""
    largest = rows.loc[rows["kappa"] == rows["kappa"].max()]
    said = []
    for name, mine in largest.groupby("name", sort=False):
        if not mine["reached"].any():
            said.append(f"**{name}**, none")
            continue
        parts = []
        for variant, theirs in mine.groupby("variant"):
            of = theirs.loc[theirs["step_l2"] == theirs["step_l2"].min()].set_index("objective")["reached"]
            each = ", ".join(f"{terms.percent(of[one])} by {terms.CLIMBED[one]}" for one in terms.CLIMBED if one in of)
            parts.append(f"{terms.PACE[str(variant)]} {each}")
        said.append(f"**{name}**, {'; '.join(parts)}")
    return f"To a margin of {largest['kappa'].max():g} come: {'. '.join(said)}."


def softmax_lost(frame: Frame) -> str:
    """Where the gradient of the cross-entropy is lost: rows of table `objective_saturation`."""
    said, unseen = [], []
    for name, mine in frame.groupby("name", sort=False):
        mine = mine.sort_values("margin")
        lost, kept = mine.loc[mine["saturated"] > 0.5], mine.loc[mine["saturated"] <= 0.5]
        if lost.empty:
            unseen.append(f"{name} (its images come to a margin of {mine['margin'].max():g}, not to the next one)")
            continue
        at = lost.iloc[0]
        before = f"from {kept['cosine'].iloc[-1]:.3f} at {kept['margin'].iloc[-1]:g} " if len(kept) else ""
        said.append(
            f"**{name}**: at a margin of {at['margin']:g} p rounds to 1 in {terms.percent(at['saturated'])} of "
            f"{int(at['n'])} images, and the median cosine of the gradients in float32 and float64 goes {before}to "
            f"{at['cosine']:.2f} (quartiles {at['cosine_low']:.2f} and {at['cosine_high']:.2f}); with the loss alone "
            f"in float64 it is {at['cosine_mended']:.3f}"
        )
    text = f"{'. '.join(said)}. " if said else ""
    text += f"Not seen: {', '.join(unseen)}. " if unseen else ""
    gone = frame["vanished"].max()
    return text + ("No gradient vanishes." if gone == 0 else f"Up to {terms.percent(gone)} of gradients vanish.")


def regional(rows: Frame) -> str:
    """What regions keep of transfers and whether their perturbations are smaller: rows of table `regional_summary` over
    all pairs, of which those of the paper's kinds count. It claims a share that is kept, and smaller L0, L2 and Linf.
    """
    tried = rows.loc[rows["region"].str.split("-").str[0].isin(terms.PAPER_REGIONS) & rows["n_whole"].gt(0)]
    known = tried.loc[tried["l2_low"].notna()]
    if known.empty:
        return "Too few images transfer to compare a region of the paper's kinds with the whole image."
    low, high, mean = (terms.percent(getattr(tried["maintain"], one)()) for one in ("min", "max", "mean"))
    said = [
        f"Attacks on {_number(len(tried), 'region')} of the paper's kinds keep **{low} to {high}** of the "
        f"{int(tried['n_whole'].max()):,} transfers of the whole image, {mean} on average (in the paper "
        f"{published.load().regional.maintain:g} %)."
    ]
    for size, name in (("l0", "L0"), ("l2", "L2"), ("linf", "Linf")):
        over = known[f"{size}_over"]
        smaller, larger = int((known[f"{size}_high"] < 1).sum()), int((known[f"{size}_low"] > 1).sum())
        verdict = "confirmed" if smaller == len(known) else "not confirmed" if smaller == 0 else "depends on the region"
        said.append(
            f"That {name} is smaller on the transfers of both: **{verdict}**, smaller in {smaller}, larger in "
            f"{larger} of {len(known)} regions ({over.min():.2f} to {over.max():.2f} times)."
        )
    return " ".join(said)


NAN = float("nan")


def collided(found: Frame, confidence: float) -> Frame:
    """One row a network and kind: of the images that moved, how many keep their answer, with interval and sizes."""
    rows = []
    for (name, kind), every in found.groupby(["name", "kind"]):
        mine = every.loc[every["moved"]]
        n, k = len(mine), int(mine["same_top1"].sum())
        low, high = stats.wilson(k, n, confidence) if n else (NAN, NAN)
        row = {
            "name": name,
            "kind": terms.COLLISION[str(kind)],
            "n": len(every),
            "moved": n,
            "same": 100 * k / n if n else NAN,
        }
        row |= {"low": 100 * float(low), "high": 100 * float(high), "null": 100 * mine["null_same"].mean()}
        row |= {"l2": mine["l2"].mean(), "feature_error": mine["feature_error"].max()}
        rows.append(row | {one: mine[f"logit_gap_{one}"].max() for one in ("f64", "f32", "u8")} | {"k": k})
    return pd.DataFrame(rows, columns=COLLIDED)


COLLIDED = ["name", "kind", "n", "moved", "same", "low", "high", "null", "l2", "feature_error", "f64", "f32", "u8", "k"]


def collisions(summary: Frame) -> str:
    """The answer of study 4: rows of `collided`."""
    exact = summary.loc[summary["kind"] == terms.COLLISION["exact"]]
    if exact.empty:
        return "No network here drops anything before its first layer, so no exact collision was found."
    if not exact["moved"].any():
        return "What the networks here drop before their first layer moves no image inside [0, 1]."
    worst = exact.loc[exact["same"].idxmin()]
    still = int((exact["n"] - exact["moved"]).sum())
    lacking = f"; {_number(still, 'image')} could not be moved" if still else ""
    n_moved = int((exact["moved"] > 0).sum())
    return (
        f"Yes, to {_number(n_moved, 'network')} here: of {int(exact['moved'].sum())} images moved without any change "
        f"to what the first layer gives, {int(exact['k'].sum())} keep their answer (the lowest share of a network is "
        f"{terms.percent(worst['same'] / 100, worst['low'] / 100, worst['high'] / 100)}), under noise of the same size "
        f"{exact['null'].mean():.1f} % in the mean{lacking}."
    )


def padding(summary: Frame, kind: str) -> str:
    """The answer of study 7 (rows of table radar_summary): how far padding alone goes, with its null, and where it goes
    nowhere. `kind`: simulated or recorded."""
    rows = summary.loc[(summary["mask"] == "padding") & (summary["goal"] == "untargeted") & (summary["threat"] == 1)]
    said = [
        f"{terms.radar_network(row.victim)}: **{terms.percent(row.success, row.ci_low, row.ci_high)}** (random signs: "
        f"{terms.percent(row.null_success)})"
        if row.reached
        else f"{terms.radar_network(row.victim)}: **impossible**"
        for row in records(rows)
    ]
    return (
        f"Of {rows['n'].max()} {kind} gestures that all networks get right, this share is answered wrongly when "
        f"nothing but padding is changed, with the gradient of the network itself. {'; '.join(said)}."
    )


def gradcam(rows: Frame) -> str:
    """Whether attacks change the frames of the action that Grad-CAM finds important (rows of radar_cam_summary)."""
    said = []
    for step, name in terms.RADAR_STEP.items():
        mine = rows.loc[(rows["step"] == step) & (rows["scope"] == "action"), :]
        found = [
            f"{terms.number(row.rho, row.ci_low, row.ci_high)} ({terms.radar_network(row.victim)}, "
            f"{'above' if row.rho > row.null_high else 'below' if row.rho < row.null_low else 'inside'} the null)"
            for row in records(mine)
        ]
        if found:
            said.append(f"{name}: {' and '.join(found)}.")
    return f"Correlation within the action. {' '.join(said)}" if said else ""


def _times(value: float, low: float, high: float) -> str:
    return f"{terms.number(value, low, high)} times"


def _number(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _more(row: Any, adjective: str) -> str:
    """A difference as `2.1 pp [1.0, 3.2] less accurate`, or that there is none to be seen."""
    says = verdict(row.ci_low, row.ci_high)
    if says == "tied":
        return (
            f"as {adjective}, as far as can be told ({terms.points(row.delta_pp, row.ci_low, row.ci_high, sign=True)})"
        )
    low, high = sorted((abs(row.ci_low), abs(row.ci_high)))
    return f"**{terms.points(abs(row.delta_pp))}** [{low:.1f}, {high:.1f}] {says} {adjective}"


def _conditions(table: Mapping[tuple[str, str], Any], names: Mapping[str, str]) -> list[str]:
    """Of the conditions of a table those that a sentence is about: all corruptions, and each attack at each eps that
    changes the verdict, from weak to strong; not an attack all of whose eps another one of its norm with more of them
    has too."""
    attacks: dict[str, list[str]] = {}
    for condition, measure in table:
        if condition.startswith("attack:") and measure == "both_right":
            attacks.setdefault(condition.split(":")[1], []).append(condition)
    out = ["corruption"] if ("corruption", "both_right") in table else []
    reach = {
        name: {(terms.norm_of(names.get(one, one)), one.split(":")[2]) for one in found}
        for name, found in attacks.items()
    }
    for name, found in attacks.items():
        if any(reach[name] < other for other in reach.values()):
            continue
        last = ""
        for condition in sorted(found, key=lambda one: float(one.split(":")[2])):
            row = table[condition, "both_right"]
            if row.ci_low == row.ci_high == 0:  # nothing is left right of either side: there is nothing to compare
                continue
            if (says := verdict(row.ci_low, row.ci_high)) != last:
                out.append(condition)
            last = says
    return out


def several(name: str, labels: str, n: int, n_several: int, n_other: int, interval: tuple[float, float]) -> str:
    """How many of the `n` images of a set have two labels or more by a source; `interval` is of that share.

    Where none has, for how many the label is not the original one (`n_other`, with the interval of that).
    """
    ends = f"[{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]"
    if n_several:
        share = f"**{100 * n_several / n:.2f} %** {ends}"
        return f"{share} of the images of {name}, {n_several:,} of {n:,}, have two labels or more by “{labels}”."
    share = f"**{100 * n_other / n:.2f} %** {ends} of them, {n_other:,} of {n:,},"
    other = f"; for {share} it is not the original one" if n_other else ""
    return f"No image of {name} has more than one label by “{labels}”{other}."


FEW = 20
"""Images with two labels up to which what these do to accuracy is no sentence."""


def by_labels(rows: Frame, name: str) -> str:
    """What a second label does to the most accurate model, within original classes.

    rows: scoring, n_labels, n, stratified_pp, stratified_low, stratified_high, of that model. Where fewer than FEW
    images have two labels nothing is said: the interval is one for many images.
    """
    second = rows.loc[(rows["n_labels"] == 2) & rows["stratified_low"].notna() & (rows["n"] >= FEW)]
    words = {"top1": "by the original label", "any_of": "by any label"}
    said = [
        f"{text} {_second(row.stratified_pp, row.stratified_low, row.stratified_high)}"
        for scoring, text in words.items()
        for row in second.loc[second["scoring"] == scoring].itertuples()
    ]
    if not said:
        return ""
    two = "two or more" if rows["n_labels"].max() == 2 else "two"
    return (
        f"On images of {two} labels, against images of one in the same class, **{name}**, the most accurate model "
        f"shown, is right {', and '.join(said)}."
    )


def _second(value: float, low: float, high: float) -> str:
    says = verdict(low, high)
    if says == "tied":
        return f"as often, as far as can be told ({terms.points(value, low, high, sign=True)})"
    low, high = sorted((abs(low), abs(high)))
    return f"**{terms.points(abs(value))}** [{low:.1f}, {high:.1f}] {says} often"


def removed(gaps: Frame, original: str, other: str, interval: tuple[float, float]) -> str:
    """What any-of scoring takes off the gap of the median model, over which range, and for how many beyond chance.

    gaps: name, gap_top1_pp, gap_any_of_pp, removed_pp, removed_low, removed_high, one row a model; `interval`: of the
    median of removed_pp over models.
    """
    if gaps.empty:
        return ""
    middle = float(gaps["removed_pp"].median())
    verb = "takes" if middle >= 0 else "adds"
    off = "off" if middle >= 0 else "to"
    size = f"**{terms.points(abs(middle))}**"
    if len(gaps) == 1:
        row = gaps.iloc[0]
        said = terms.points(row["removed_pp"], row["removed_low"], row["removed_high"], sign=True)
        return f"Any-of scoring {verb} {size} {off} the gap between {original} and {other} (removed: {said})."
    least, most = (gaps.loc[at] for at in (gaps["removed_pp"].idxmin(), gaps["removed_pp"].idxmax()))
    ends = f"from {least['removed_pp']:+.1f} ({least['name']}) to {most['removed_pp']:+.1f} pp ({most['name']})"
    clear = [verdict(low, high) for low, high in zip(gaps["removed_low"], gaps["removed_high"], strict=True)]
    before, after = (terms.points(float(gaps[column].median())) for column in ("gap_top1_pp", "gap_any_of_pp"))
    low, high = interval if middle >= 0 else (-interval[1], -interval[0])
    return (
        f"Any-of scoring {verb} {size} [{low:.1f}, {high:.1f}] {off} the gap between {original} and {other} for the "
        f"median of {len(gaps)} models (removed: {ends} across models; above zero beyond chance for "
        f"{clear.count('more')}). The median gap is {before} by the original label and {after} by any label."
    )


def exclusions(now: float, then: float, scored: tuple[str, str], sides: list[tuple[str, float]]) -> str:
    """What images without labels do to the removed part of a gap, for the median model.

    now, then: removed as the images are scored here and the other way, `scored` says how; sides: name and share of
    the images without labels, of each set.
    """
    shares = " and ".join(f"{terms.percent(share)} of {name}" for name, share in sides)
    return (
        f"Images without labels are {scored[0]} here. With them {scored[1]}, {terms.points(then)} would be removed for "
        f"the median model in place of {terms.points(now)}. The difference comes from those images alone: {shares}. "
        "Neither number is the part of the gap that is due to labels; each is a bound under its own scoring only."
    )
