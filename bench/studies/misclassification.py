"""Study 5: what are images taken for that an attack carries over to another model?

After "Evaluating adversarial attacks on ImageNet: a reality check on misclassification classes" (NeurIPS workshop
2021): the class that a target model then answers is mostly one that it held for likely when the image was clean, or of
the same kind as the label. Everything is about transfers between different models on suitable images; places are those
in the target's own clean order, in which the label is first. Beside every share stand two levels: `chance`, where any
other class is alike, and `null`, where the class is drawn by the target's clean probabilities without the label.
Several transfers of one image are not independent: intervals resample images.

Collections are named groups of classes (bench/studies/collections.yaml): this benchmark's own.
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
from bench.studies import transfer

ALL = "all"
PLACES = (2, 3, 5)
COLLECTIONS = Path(__file__).with_name("collections.yaml")


def run(config: Config) -> dict[str, int]:
    """Write results/misclassifications.parquet."""
    attacks = tables.read("attacks", config.results / "attacks.parquet")
    transfers = tables.read("transfers", config.results / "transfers.parquet")
    images = tables.read("source_images", config.results / "source_images.parquet")
    samples = tables.read("samples", config.results / "samples.parquet").set_index("sample_id")["label"]
    spaces = tables.read("datasets", config.results / "datasets.parquet").set_index("dataset")["label_space"]
    classes = tables.read("classes", config.results / "classes.parquet")
    by_space = classes.sort_values("class_id").groupby("label_space")["name"]
    names = {str(space): found.tolist() for space, found in by_space}
    frames = []
    for dataset, condition, rows in transferred(attacks, transfers, images):
        labels = samples.loc[rows["sample_id"]].to_numpy(np.int64)
        known = names[str(spaces[dataset])]
        rng = compute.rng(config.seed, "misclassification", dataset, condition)
        found = shares(rows, labels, collections(str(spaces[dataset]), known), len(known), rng, config.statistics)
        frames.append(found.assign(dataset=dataset, condition=condition))
    path = config.results / "misclassifications.parquet"
    return {"rows": len(tables.write("misclassifications", tables.stacked("misclassifications", frames), path))}


def collections(space: str, names: Sequence[str]) -> dict[str, list[int]]:
    """Named groups of classes of a label space, as class ids; none where the file has none. BenchError where the file
    names a class that the label space does not have."""
    known = yaml.safe_load(COLLECTIONS.read_text(encoding="utf-8")).get(space, {})
    at = {name: place for place, name in enumerate(names)}
    out = {}
    for group, members in known.items():
        unknown = [str(name) for name in members if str(name) not in at]
        if unknown:
            raise BenchError(
                f"{group!r} of {space!r} names classes that are none: {', '.join(unknown)}.",
                where=COLLECTIONS,
                remedy="Correct it.",
            )
        out[str(group)] = [at[str(name)] for name in members]
    return out


def transferred(
    attacks: pd.DataFrame, transfers: pd.DataFrame, images: pd.DataFrame
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Dataset, condition, and a row for each image and pair of models by which it transferred: `sample_id`, `pred`,
    `rank_clean`, and `p`, the target's probabilities of all classes for the clean image."""
    known = images.rename(columns={"model": "target_model"}).loc[:, ["target_model", "sample_id", "p"]]
    for rows in transfer.on_suitable(attacks, transfers, images):
        mine = rows.loc[rows["success"]].merge(known, on=["target_model", "sample_id"])
        if len(mine):
            yield str(mine["dataset"].iloc[0]), str(mine["condition"].iloc[0]), mine


def shares(
    rows: pd.DataFrame,
    labels: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    n_classes: int,
    rng: np.random.Generator,
    settings: Statistics,
) -> pd.DataFrame:
    """Rows of table `misclassifications` from rows of `transferred` and their labels (R,)."""
    others = transfer.without_label(np.array(rows["p"].tolist(), float), labels)
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
                flags, some["sample_id"], rng, draws=settings.bootstrap, confidence=settings.confidence
            )
            over = 100 * (flags - null)
            over_low, over_high = None, None  # where all flags are alike, a bootstrap sees nothing but the null vary
            if flags.any() and not flags.all():
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
