"""Study 5: what are images taken for that an attack carries over to another model?

After "Evaluating adversarial attacks on ImageNet: a reality check on misclassification classes" (NeurIPS workshop
2021): the class that a target model then answers is mostly one that it held for likely when the image was clean, or of
the same kind as the label. Everything is about transfers between different models on suitable images; places are those
in the target's own clean order, in which the label is first. Beside every share stand two levels: `chance`, where any
other class is alike, and `null`, where the class is drawn by the target's clean probabilities without the label.
Several transfers of one image are not independent: intervals resample images.

Collections are named groups of classes (bench/studies/collections.yaml): this benchmark's own. The authors' 64 are not
at hand; where their sizes are known (artifact 522, organism 410, animal 398, vertebrate 337, mammal 218, canine 130,
beverage 4, aircraft 4), the synsets of the same name have as many classes.

| table | what it says |
|---|---|
| misclassifications | shares within so many places, and inside the group of the label |
| misclassification_distances | how far the class is from the label in WordNet |
| misclassification_leaving | how often an image shown is answered wrongly at all, and with a class outside the group |
| misclassification_flows | how many transfers of each label end in each class |
| class_groups | the classes of each group |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from bench import compute, stats
from bench.config import Config, Statistics
from bench.errors import BenchError
from bench.store import tables
from bench.studies import transfer, wordnet

ALL = "all"
PLACES = (2, 3, 5)
COLLECTIONS = Path(__file__).with_name("collections.yaml")


DISTANCES = ("steps", "similarity", "depth")


def run(config: Config) -> dict[str, int]:
    """Write results/{misclassifications,misclassification_distances,misclassification_leaving,misclassification_flows,
    class_groups}.parquet."""
    attacks = tables.read("attacks", config.results / "attacks.parquet")
    attacks = attacks.loc[attacks["target"].isna()]  # where an attack leads to a class, that was chosen
    transfers = tables.read("transfers", config.results / "transfers.parquet")
    images = tables.read("source_images", config.results / "source_images.parquet")
    samples = tables.read("samples", config.results / "samples.parquet").set_index("sample_id")["label"]
    spaces = tables.read("datasets", config.results / "datasets.parquet").set_index("dataset")["label_space"]
    classes = tables.read("classes", config.results / "classes.parquet").sort_values("class_id")
    settings = config.statistics
    written: dict[str, list[pd.DataFrame]] = {
        "misclassifications": [],
        "misclassification_distances": [],
        "misclassification_leaving": [],
        "misclassification_flows": [],
    }
    kinds: dict[str, tuple[int, wordnet.Hierarchy | None, dict[str, list[int]]]] = {}
    for dataset, condition, rows, shown in transferred(attacks, transfers, images):
        space = str(spaces[dataset])
        if space not in kinds:
            known = classes.loc[classes["label_space"] == space]
            names = known["name"].tolist()
            hierarchy = wordnet.load(space, known["wnid"].tolist(), names)
            kinds[space] = len(names), hierarchy, collections(space, names, hierarchy)
        n_classes, hierarchy, groups = kinds[space]
        labels = samples.loc[rows["sample_id"]].to_numpy(np.int64)
        others = transfer.without_label(np.array(rows["p"].tolist(), float), labels)
        rng = compute.rng(config.seed, "misclassification", dataset, condition)
        of_images = samples.loc[shown.index].to_numpy(np.int64)
        found = {
            "misclassifications": shares(rows, labels, others, groups, n_classes, rng, settings),
            "misclassification_leaving": leaving(
                rows, labels, others, shown, of_images, groups, n_classes, rng, settings
            ),
            "misclassification_flows": flows(rows, labels),
        }
        if hierarchy is not None:
            found["misclassification_distances"] = apart(rows, labels, others, groups, hierarchy, rng, settings)
        for table, frame in found.items():
            written[table].append(frame.assign(dataset=dataset, condition=condition))
    written["class_groups"] = [
        pd.DataFrame({"label_space": space, "collection": name, "class_id": members})
        for space, (_, _, groups) in kinds.items()
        for name, members in groups.items()
    ]
    counts = {
        table: len(tables.write(table, tables.stacked(table, frames), config.results / f"{table}.parquet"))
        for table, frames in written.items()
    }
    return {"rows": counts["misclassifications"]}


def collections(space: str, names: Sequence[str], hierarchy: wordnet.Hierarchy | None = None) -> dict[str, list[int]]:
    """Named groups of classes of a label space, as class ids; none where the file has none. A synset stands for the
    classes below it; one without classes is left out. BenchError where the file names a class that the label space does
    not have, or a synset where there is no hierarchy."""
    known = yaml.safe_load(COLLECTIONS.read_text(encoding="utf-8")).get(space, {})
    at = {name: place for place, name in enumerate(names)}
    out = {}
    for group, members in known.items():
        if isinstance(members, str):
            unknown = [] if hierarchy is not None and members in hierarchy.names else [members]
        else:
            unknown = [str(name) for name in members if str(name) not in at]
        if unknown:
            raise BenchError(
                f"{group!r} of {space!r} names classes that are none: {', '.join(unknown)}.",
                where=COLLECTIONS,
                remedy="Correct it.",
            )
        if isinstance(members, str):
            assert hierarchy is not None, "or the synset would be unknown"
            out[str(group)] = hierarchy.below(members)
        else:
            out[str(group)] = [at[str(name)] for name in members]
    return {group: members for group, members in out.items() if members}


def transferred(
    attacks: pd.DataFrame, transfers: pd.DataFrame, images: pd.DataFrame
) -> Iterator[tuple[str, str, pd.DataFrame, pd.Series]]:
    """Dataset, condition, and a row for each image and pair of models by which it transferred: `sample_id`, `pred`,
    `rank_clean`, and `p`, the target's probabilities of all classes for the clean image; and of every suitable image,
    by its id, the number of pairs of models by which it was shown."""
    known = images.rename(columns={"model": "target_model"}).loc[:, ["target_model", "sample_id", "p"]]
    for rows in transfer.on_suitable(attacks, transfers, images):
        mine = rows.loc[rows["success"]].merge(known, on=["target_model", "sample_id"])
        if len(mine):
            shown = rows["sample_id"].value_counts().sort_index()
            yield str(mine["dataset"].iloc[0]), str(mine["condition"].iloc[0]), mine, shown


def shares(
    rows: pd.DataFrame,
    labels: np.ndarray,
    others: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    n_classes: int,
    rng: np.random.Generator,
    settings: Statistics,
) -> pd.DataFrame:
    """Rows of table `misclassifications` from rows of `transferred`, their labels (R,) and what the target gave all
    `others` (R, K)."""
    # The label is first in the clean order of a suitable image; others of the same probability share a place.
    ranked = -np.sort(-others, axis=1)
    within = {f"top{k}": ranked[:, : k - 1].sum(axis=1) for k in PLACES if k < n_classes}
    out = []
    for name, members in {ALL: list(range(n_classes)), **groups}.items():
        mine = np.isin(labels, list(members))
        if not mine.any():
            continue
        some = rows.loc[mine]
        cells = {
            measure: ((some["rank_clean"] <= int(measure[3:])).to_numpy(), null[mine], (int(measure[3:]) - 1))
            for measure, null in within.items()
        }
        if name != ALL:
            inside = np.isin(some["pred"], list(members))
            cells["inside"] = inside, others[mine][:, list(members)].sum(axis=1), len(members) - 1
        for measure, (flags, null, n_alike) in cells.items():
            low, high = stats.bootstrap_share(
                flags, rng, draws=settings.bootstrap, confidence=settings.confidence, clusters=some["sample_id"]
            )
            over = 100 * (flags - null)
            over_low, over_high = None, None  # where all flags are alike, a bootstrap sees nothing but the null vary
            if flags.any() and not flags.all() and some["sample_id"].nunique() > 1:
                over_low, over_high = stats.bootstrap_mean(
                    over,
                    rng,
                    draws=settings.bootstrap,
                    confidence=settings.confidence,
                    clusters=some["sample_id"].to_numpy(),
                )
            out.append(
                {
                    "collection": name,
                    "measure": measure,
                    "share": flags.mean(),
                    "ci_low": low,
                    "ci_high": high,
                    "chance": n_alike / (n_classes - 1),
                    "null": null.mean(),
                    "over_null_pp": over.mean(),
                    "over_null_low": over_low,
                    "over_null_high": over_high,
                    "n": len(some),
                    "n_images": some["sample_id"].nunique(),
                    "n_classes": len(members),
                }
            )
    return pd.DataFrame(out)


def apart(
    rows: pd.DataFrame,
    labels: np.ndarray,
    others: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    hierarchy: wordnet.Hierarchy,
    rng: np.random.Generator,
    settings: Statistics,
) -> pd.DataFrame:
    """Rows of table `misclassification_distances`, from what `shares` is given."""
    distinct, place = np.unique(labels, return_inverse=True)
    far = wordnet.distances(hierarchy, distinct.tolist())
    out = []
    for name, members in {ALL: list(range(len(hierarchy.leaves))), **groups}.items():
        mine = np.isin(labels, list(members))
        if not mine.any():
            continue
        some, clusters = rows.loc[mine], rows.loc[mine, "sample_id"].to_numpy()
        for measure in DISTANCES:
            to_all = getattr(far, measure)[place[mine]]  # (r, K)
            values = np.take_along_axis(to_all, some["pred"].to_numpy(np.int64)[:, None], axis=1)[:, 0]
            of_label = np.take_along_axis(to_all, labels[mine][:, None], axis=1)[:, 0]
            chance = (to_all.sum(axis=1) - of_label) / (to_all.shape[1] - 1)
            null = (others[mine] * to_all).sum(axis=1)
            (low, high), (over_low, over_high) = (
                stats.bootstrap_mean(
                    one, rng, draws=settings.bootstrap, confidence=settings.confidence, clusters=clusters
                )
                if len(np.unique(clusters)) > 1 and np.ptp(one) > 0
                else (None, None)
                for one in (values, values - null)
            )
            out.append(
                {
                    "collection": name,
                    "measure": measure,
                    "value": values.mean(),
                    "ci_low": low,
                    "ci_high": high,
                    "chance": chance.mean(),
                    "null": null.mean(),
                    "over_null": (values - null).mean(),
                    "over_null_low": over_low,
                    "over_null_high": over_high,
                    "n": len(some),
                    "n_images": len(np.unique(clusters)),
                    "n_classes": len(members),
                }
            )
    return pd.DataFrame(out)


def leaving(
    rows: pd.DataFrame,
    labels: np.ndarray,
    others: np.ndarray,
    shown: pd.Series,
    of_images: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    n_classes: int,
    rng: np.random.Generator,
    settings: Statistics,
) -> pd.DataFrame:
    """Rows of table `misclassification_leaving` from what `shares` is given, and the labels (N,) of the images that
    were `shown`. Of all images together, the group of one is the smallest that has its label; a class
    of no group is one by itself."""
    n_pairs = shown.to_numpy(float)
    out = []
    for name, members in {ALL: list(range(n_classes)), **groups}.items():
        held = np.isin(of_images, list(members))
        if not held.any():
            continue
        inside = (
            _smallest(groups, n_classes)
            if name == ALL
            else np.tile(np.isin(np.arange(n_classes), members), (n_classes, 1))
        )
        mine = np.isin(labels, list(members))
        some = rows.loc[mine, "sample_id"]
        outside = ~inside[labels[mine], rows.loc[mine, "pred"].to_numpy(np.int64)]
        ids = shown.index[held]
        wrong = some.value_counts().reindex(ids, fill_value=0).to_numpy(float)
        left = some[outside].value_counts().reindex(ids, fill_value=0).to_numpy(float)
        null = (others[mine] * ~inside[labels[mine]]).sum()
        row: dict[str, object] = {"collection": name, "null": null / n_pairs[held].sum()}
        for measure, counts in (("rate", wrong), ("corrected", left)):
            row[measure] = counts.sum() / n_pairs[held].sum()
            row[f"{measure}_low"], row[f"{measure}_high"] = stats.bootstrap_share(
                counts / n_pairs[held], rng, draws=settings.bootstrap, confidence=settings.confidence
            )
        sizes = {"n": int(n_pairs[held].sum()), "n_transfers": int(mine.sum()), "n_images": int(held.sum())}
        out.append(row | sizes | {"n_classes": len(members)})
    return pd.DataFrame(out)


def _smallest(groups: Mapping[str, Sequence[int]], n_classes: int) -> np.ndarray:
    """(K, K): whether a class is in the smallest group of another one."""
    inside = np.eye(n_classes, dtype=bool)
    for members in sorted(groups.values(), key=len, reverse=True):
        flags = np.zeros(n_classes, bool)
        flags[list(members)] = True
        inside[list(members)] = flags
    return inside


def flows(rows: pd.DataFrame, labels: np.ndarray) -> pd.DataFrame:
    """Rows of table `misclassification_flows` from rows of `transferred` and their labels (R,)."""
    by = rows.assign(label=labels).groupby(["label", "pred"])["sample_id"]
    return by.agg(n="size", n_images="nunique").reset_index()
