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
from bench.config import Config
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
        named = collections(str(spaces[dataset]), known)
        found = shares(rows, labels, named, len(known), rng, config.statistics.bootstrap)
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
    `rank_clean`, and of the target on that image `null_top2` and so on."""
    columns = ["target_model", "sample_id", *(f"null_top{k}" for k in PLACES)]
    nulls = images.rename(columns={"model": "target_model"}).loc[:, columns]
    for rows in transfer.on_suitable(attacks, transfers, images):
        mine = rows.loc[rows["success"]].merge(nulls, on=["target_model", "sample_id"])
        if len(mine):
            yield str(mine["dataset"].iloc[0]), str(mine["condition"].iloc[0]), mine


def shares(
    rows: pd.DataFrame,
    labels: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    n_classes: int,
    rng: np.random.Generator,
    draws: int,
) -> pd.DataFrame:
    """Rows of table `misclassifications` from rows of `transferred` and their labels (R,)."""
    out = []
    for name, members in {ALL: list(range(n_classes)), **groups}.items():
        mine = np.isin(labels, list(members))
        if not mine.any():
            continue
        some = rows.loc[mine]
        measures = {f"top{k}": (some["rank_clean"] <= k).to_numpy() for k in PLACES if k < n_classes}
        chance = {f"top{k}": (k - 1) / (n_classes - 1) for k in PLACES}
        null: dict[str, float | None] = {f"top{k}": float(some[f"null_top{k}"].mean()) for k in PLACES}
        if name != ALL:
            measures["inside"] = np.isin(some["pred"], list(members))
            chance["inside"], null["inside"] = (len(members) - 1) / (n_classes - 1), None
        for measure, flags in measures.items():
            low, high = stats.bootstrap_mean(flags, rng, draws=draws, clusters=some["sample_id"].to_numpy())
            out.append(
                {
                    "collection": name,
                    "measure": measure,
                    "share": flags.mean(),
                    "ci_low": low,
                    "ci_high": high,
                    "chance": chance[measure],
                    "null": null[measure],
                    "n": len(some),
                    "n_images": some["sample_id"].nunique(),
                    "n_classes": len(members),
                }
            )
    return pd.DataFrame(out)
