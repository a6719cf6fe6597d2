"""Named sets of test images, each with its definition in words. (`all`, every test image, is not listed.)"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import compute
from bench.config import Config
from bench.evaluate import correctness
from bench.evaluate.correctness import CLEAN, ORIGINAL, Answers
from bench.store import tables

AGREED_BY = 0.5
"""An image is disputed where a smaller share of the models than this gives its original label."""

_MEASURES = {
    "msp": "1 - largest probability",
    "entropy_nats": "entropy",
    "margin": "1 - difference of the two largest probabilities",
    "energy": "energy",
}

Flags = npt.NDArray[np.bool_]
Found = tuple[str, str, str, list[str]]
"""subset, dataset, its definition in words, sample ids"""


def run(config: Config) -> dict[str, int]:
    """Write results/subsets.parquet and results/subset_members.parquet."""
    samples = correctness.evaluated_samples(config)
    labels = tables.read("labels", config.results / "labels.parquet")
    decided = tables.read("consensus", config.results / "consensus.parquet")
    attacks = tables.read("attacks", config.results / "attacks.parquet")
    uncertainty = tables.read("uncertainty", config.results / "uncertainty.parquet")

    sets = correctness.label_sets(labels, ORIGINAL)
    attacked = {attack.dataset for attack in config.attack_runs.values()}
    found: list[Found] = []
    for answers in correctness.each(config, [(dataset, CLEAN) for dataset in config.datasets]):
        right, _ = correctness.right(answers, sets)
        if answers.dataset in attacked:
            found += _attacked(config, answers, right, attacks)
        found += _corrupted(config, answers)
        found += _certain(config, answers.dataset, uncertainty)
        found += _disputed(config, answers, right)
    for dataset, sources in correctness.sources_of(labels, samples).items():
        found += _by_number_of_labels(dataset, sources, labels, samples)
        found += _annotated(dataset, decided, samples)

    rows = [(name, dataset, about, len(ids)) for name, dataset, about, ids in found]
    members = [(name, sample_id) for name, _, _, ids in found for sample_id in ids]
    frame = pd.DataFrame(rows, columns=["subset", "dataset", "about", "n"])
    tables.write("subsets", frame, config.results / "subsets.parquet")
    frame = pd.DataFrame(members, columns=["subset", "sample_id"], dtype="str")
    tables.write("subset_members", frame, config.results / "subset_members.parquet")
    return {"subsets": len(rows), "members": len(members)}


def most_certain(uncertainty: pd.Series, fraction: float) -> list[str]:
    """Ids of the `fraction` of images with the lowest uncertainty (index: sample_id), ties by the sha256 of the id."""
    in_hash_order = uncertainty.loc[compute.hash_order(uncertainty.index)]
    in_order = in_hash_order.sort_values(kind="stable").index
    return sorted(in_order[: int(fraction * len(in_order) + 0.5)])


def _attacked(config: Config, answers: Answers, right: Flags, attacks: pd.DataFrame) -> Iterator[Found]:
    dataset = answers.dataset
    pool = config.attack_pool(dataset)
    about = f"Images that each of the {len(pool)} models of the attack pool gets right before any attack."
    suitable = right[[answers.models.index(model) for model in pool]].all(axis=0)
    yield "suitable", dataset, about, answers.ids[suitable].tolist()
    ids = sorted(attacks.loc[attacks["dataset"] == dataset, "sample_id"].unique())
    yield "attack", dataset, "Images that are attacked: the first in the order of the sha256 of their ids.", ids


def _corrupted(config: Config, answers: Answers) -> Iterator[Found]:
    """Where only some images are corrupted: which."""
    wanted = config.corrupted(answers.dataset)
    if wanted.names and wanted.n_images is not None:
        ids = answers.ids[compute.declared(answers.ids, wanted.n_images)].tolist()
        about = "Images that are corrupted: the first in the order of the sha256 of their ids."
        yield "corrupted", answers.dataset, about, ids


def _certain(config: Config, dataset: str, uncertainty: pd.DataFrame) -> Iterator[Found]:
    settings = config.subsets
    keep = (uncertainty["model"] == settings.reference_model) & (uncertainty["dataset"] == dataset)
    mine = uncertainty.loc[keep & (uncertainty["condition"] == "clean")].set_index("sample_id")
    known = mine[settings.uncertainty].dropna()
    if known.empty or len(known) < len(mine):
        return
    for fraction in settings.certain_fraction:
        share = f"{100 * fraction:g}"
        about = (
            f"The {share} % of the images of this set that {settings.reference_model} is most certain of "
            f"(lowest {_MEASURES[settings.uncertainty]}; ties by the sha256 of the id)."
        )
        yield f"certain-{share}", dataset, about, most_certain(known, fraction)


def _disputed(config: Config, answers: Answers, right: Flags) -> Iterator[Found]:
    single = [i for i, model in enumerate(answers.models) if model not in config.uncertainty.ensembles]
    if not single:
        return
    agree = right[single].mean(axis=0)
    about = f"Images whose original label is given by fewer than half of the {len(single)} models (no ensembles)."
    yield "disputed", answers.dataset, about, answers.ids[agree < AGREED_BY].tolist()


def _annotated(dataset: str, decided: pd.DataFrame, samples: pd.DataFrame) -> Iterator[Found]:
    ids = samples.loc[samples["dataset"] == dataset, "sample_id"]
    mine = decided.loc[decided["sample_id"].isin(ids)]
    disputed = set(mine.loc[mine["state"] == "disputed", "sample_id"])
    if settled := sorted(set(mine["sample_id"]) - disputed):
        about = "Images on which annotators decided: they judged labels of them, and none stays disputed."
        yield "annotated", dataset, about, settled


def _by_number_of_labels(
    dataset: str, sources: list[str], labels: pd.DataFrame, samples: pd.DataFrame
) -> Iterator[Found]:
    """By the first source (in alphabetical order, `original` aside) that gives some image several labels."""
    ids = samples.loc[samples["dataset"] == dataset, "sample_id"]
    for source in sources:
        sizes = correctness.label_sets(labels, source).sizes(ids)
        if (sizes >= 2).any():
            yield (
                "multi-label",
                dataset,
                f"Images with two or more labels of source {source}.",
                ids[sizes >= 2].tolist(),
            )
            yield (
                "single-label",
                dataset,
                f"Images with exactly one label of source {source}.",
                ids[sizes == 1].tolist(),
            )
            return
