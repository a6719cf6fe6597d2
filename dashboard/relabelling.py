"""What relabelling changed, image by image, and the sentences about it; and which images annotators dispute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bench import stats
from bench.relabel import consensus
from dashboard import terms
from dashboard.frames import Frame, records

VOTERS = {"human": "people", "simulated": "simulated annotators", "pooled": "pooled votes", "machine": "models"}

KINDS = {"simulated": "simulated", "machine": "model"}
"""Kind of an annotator that is no person -> what stands beside its name."""


def changes(decided: Frame, samples: Frame) -> Frame:
    """One row an annotated image: sample_id, label, now, basis and a flag for each of terms.CHANGES but `all`.

    decided: table `consensus` of one set; samples: sample_id and label of its images. `now` holds the labels that are
    said yes to, by class. Whether a disputed image changed is not known: of the other flags only `refined` may be set.
    """
    flags = decided.assign(disputed=decided["state"] == "disputed", refined=decided["method"] == "refined")
    by_image = flags.groupby("sample_id").agg({"basis": "first", "disputed": "any", "refined": "any"})
    rows = by_image.reset_index().merge(samples[["sample_id", "label"]], on="sample_id")
    yes = decided.loc[decided["state"] == "yes"].sort_values(["sample_id", "class_id"])
    sets = yes.groupby("sample_id")["class_id"].agg(tuple).to_dict()
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


def disputed(ballots: Frame, decided: Frame) -> Frame:
    """All that was said of images on which annotators differ, or of which a label stays disputed.

    The most contested images come first.
    ballots: BALLOT (bench/relabel/consensus.py) of one set; decided: table `consensus` of it. A row is a ballot that
    counts: sample_id, class_id, annotator, kind, pooled, n_yes, n_no, n_unsure; without an annotator where a label has
    none; with state and method of the decision, and `differ` and `open`: whether annotators answer differently
    (people; simulated ones where no person judged the image), and whether a label of it stays disputed.
    """
    kept = consensus.counted(ballots)
    open_ones = decided.loc[decided["state"] == "disputed"].groupby("sample_id").size()
    differing = _differing(kept.loc[(kept["kind"] != consensus.MACHINE) & ~kept["pooled"].astype(bool)])
    contested = differing.add(open_ones, fill_value=0)
    contested = contested.sort_index().sort_values(ascending=False, kind="stable")
    wanted = decided.loc[decided["sample_id"].isin(contested.index), ["sample_id", "class_id", "state", "method"]]
    rows = wanted.merge(kept, on=["sample_id", "class_id"], how="left")
    rows[consensus.COUNTS] = rows[consensus.COUNTS].fillna(0).astype(int)
    rows["differ"], rows["open"] = rows["sample_id"].isin(differing.index), rows["sample_id"].isin(open_ones.index)
    place = pd.Index(contested.index).get_indexer(pd.Index(rows["sample_id"]))
    rows = rows.assign(place=place).sort_values(["place", "class_id", "annotator"], ignore_index=True)
    return rows.drop(columns="place")


def _differing(people: Frame) -> Frame:
    """Image -> labels to which annotators answer differently, where there are some. Unsure is neither yes nor no."""
    seen = people[["sample_id", "annotator"]].drop_duplicates().groupby("sample_id").size()
    said = people.groupby(["sample_id", "class_id"])[consensus.COUNTS].sum()
    n, people_of = said.sum(axis=1), said.index.get_level_values("sample_id").map(seen)
    ticked = (said["n_yes"] + said["n_unsure"]) > 0
    # Who did not judge a label that another ticked did not say yes to it either.
    differ = ((said > 0).sum(axis=1) > 1) | (ticked & (n < np.asarray(people_of, float)))
    counts = differ.groupby("sample_id").sum()
    return counts[counts > 0]


def said_of(rows: Frame) -> list[tuple[str, str]]:
    """Who said what of one label: names and answers, of pooled votes their numbers. rows: ballots of it."""
    out = []
    for row in records(rows.loc[rows["annotator"].notna()]):
        answer = "yes" if row.n_yes else "no" if row.n_no else "unsure"
        if row.pooled:
            answer = f"{int(row.n_yes):,} yes, {int(row.n_no):,} no"
        out.append((marked(str(row.annotator), str(row.kind)), answer))
    return out


def marked(name: str, kind: str) -> str:
    """The name of an annotator, with what it is where that is no person."""
    what = KINDS.get(kind, "")
    return f"{name} ({what})" if what and not name.casefold().startswith(what) else name


def agreed(row: Mapping[str, float], name: str) -> str:
    """How far annotators agree, in a sentence. row: of table `agreement`, of all together."""
    share = terms.percent(row["disagreement"], row["ci_low"], row["ci_high"])
    said = f"On **{share}** of {int(row['n_images']):,} images of {name} that two or more of "
    said += f"{int(row['n_annotators'])} annotators saw, their label sets differ; the mean Jaccard index is "
    said += f"{row['jaccard']:.2f} [{row['jaccard_low']:.2f}, {row['jaccard_high']:.2f}]"
    if row["alpha"] == row["alpha"]:
        return f"{said}, Krippendorff's alpha {row['alpha']:.2f} [{row['alpha_low']:.2f}, {row['alpha_high']:.2f}]."
    return f"{said}; alpha is not defined, as all say the same."
