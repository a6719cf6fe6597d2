"""What relabelling changed, image by image, and the sentences about it; and which images annotators dispute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bench import stats
from bench.relabel import events
from dashboard import terms
from dashboard.frames import Frame

VOTERS = {"human": "people", "simulated": "simulated annotators", "pooled": "pooled votes", "machine": "models"}


def changes(decided: Frame, samples: Frame) -> Frame:
    """One row an annotated image: sample_id, label, now, basis and a flag for each of terms.CHANGES but `all`.

    decided: table `consensus` of one set; samples: sample_id and label of its images. `now` holds the labels that are
    said yes to, by class. Whether a disputed image changed is not known: of the other flags only `refined` may be set.
    """
    flags = decided.assign(disputed=decided["state"] == "disputed", refined=decided["method"] == "refined")
    by_image = flags.groupby("sample_id").agg({"basis": "first", "disputed": "any", "refined": "any"})
    rows = by_image.reset_index().merge(samples[["sample_id", "label"]], on="sample_id")
    yes = decided.loc[decided["state"] == "yes"].sort_values(["sample_id", "class_id"])
    ids, starts = np.unique(yes["sample_id"].to_numpy(str), return_index=True)
    sets = dict(zip(ids, map(tuple, np.split(yes["class_id"].to_numpy(), starts[1:])), strict=True))
    rows["now"] = [sets.get(sample_id, ()) for sample_id in rows["sample_id"]]
    known = ~rows["disputed"].to_numpy(bool)
    kept = [label in now for label, now in zip(rows["label"], rows["now"], strict=True)]
    sizes = rows["now"].map(len).to_numpy()
    rows["gained"] = known & (sizes - pd.Series(kept).to_numpy(int) > 0)
    rows["lost"] = known & ~pd.Series(kept).to_numpy(bool)
    rows["empty"] = known & (sizes == 0)
    rows["changed"] = rows["gained"] | rows["lost"]
    return rows[["sample_id", "label", "now", "basis", *(name for name in terms.CHANGES if name != "all")]]


def outcome(rows: Frame, total: int, name: str, confidence: float) -> str:
    """What became of the annotated images of a set, in a sentence. rows: as `changes` gives them."""
    n = len(rows)

    def share(flag: str) -> str:
        k = int(rows[flag].sum())
        low, high = stats.wilson(k, n, confidence)
        return f"{k:,} ({terms.percent(k / n, float(low), float(high))})"

    kept = int((~rows["changed"] & ~rows["disputed"]).sum())
    said = f"Of **{n:,}** annotated images of {name} ({total:,} in all), **{kept:,}** keep exactly their given label, "
    said += f"{share('gained')} gained one or more, {share('lost')} lost the given one, "
    return (
        f"{said}{int(rows['empty'].sum()):,} of these all labels; {int(rows['disputed'].sum()):,} are still disputed."
    )


def whose(bases: Sequence[str]) -> str:
    """Whose votes these are, in words; bases: as in table `consensus`."""
    found = {kind for basis in bases for kind in str(basis).split(" + ")}
    named = [words for kind, words in VOTERS.items() if kind in found]
    return f"{', '.join(named[:-1])} and {named[-1]}" if len(named) > 1 else named[0] if named else "nobody"


def disputed(said: Frame) -> Frame:
    """Answers of people about images on which their label sets differ, the most contested first.

    said: table `votes` (with `counts`) of one set. An unsure makes a difference to a yes and to a no.
    """
    judged = events.judged(said)
    judged = judged.loc[judged["kind"] == "human", ["sample_id", "class_id", "annotator", "action"]]
    seen = judged.groupby("sample_id")["annotator"].nunique()
    several = judged.loc[judged["sample_id"].isin(seen[seen >= 2].index)]
    if several.empty:
        return several
    people = several["sample_id"].map(seen)
    answers = several.groupby(["sample_id", "class_id"]).agg(
        ticked=("action", lambda actions: (actions != "no").sum()),
        kinds=("action", "nunique"),
        n=("action", "size"),
    )
    answers["people"] = people.groupby([several["sample_id"], several["class_id"]]).first()
    # Who did not judge a label that another ticked did not say yes to it either.
    differ = (answers["kinds"] > 1) | ((answers["ticked"] > 0) & (answers["n"] < answers["people"]))
    contested = differ.groupby("sample_id").sum()
    contested = contested[contested > 0].sort_values(ascending=False, kind="stable")
    order = {sample_id: place for place, sample_id in enumerate(contested.index)}
    rows = several.loc[several["sample_id"].isin(order)]
    place = rows["sample_id"].map(order)
    return rows.assign(place=place).sort_values(["place", "class_id", "annotator"]).drop(columns="place")


def agreed(row: Mapping[str, float], people: int, name: str) -> str:
    """How far annotators agree, in a sentence. row: of table `agreement`, of all together."""
    share = terms.percent(row["disagreement"], row["ci_low"], row["ci_high"])
    said = f"On **{share}** of {int(row['n_images']):,} images "
    said += (
        f"of {name} that two or more of {people} annotators saw, their label sets differ; the mean Jaccard index is "
    )
    said += f"{row['jaccard']:.2f} [{row['jaccard_low']:.2f}, {row['jaccard_high']:.2f}]"
    if row["alpha"] == row["alpha"]:
        return f"{said}, Krippendorff's alpha {row['alpha']:.2f} [{row['alpha_low']:.2f}, {row['alpha_high']:.2f}]."
    return f"{said}; alpha is not defined, as all say the same."
