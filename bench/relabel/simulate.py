"""Simulated annotators, for sets whose true labels are known: something to look at before people have annotated.

They judge the proposals of some images like people who say yes to a true label with their sensitivity and no to a false
one with their specificity, independently (STUDIES.md 1e). They are marked as simulated wherever they are shown, and do
not count where a person judged the image.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench import compute
from bench.config import Config
from bench.errors import BenchError
from bench.relabel import events
from bench.store import tables


@dataclass(frozen=True)
class Simulated:
    """A simulated annotator: its name, and how often it says yes to a true label and no to a false one."""

    name: str
    sensitivity: float
    specificity: float


WHO = (
    Simulated("Simulated, careful", 0.95, 0.99),
    Simulated("Simulated, quick", 0.85, 0.97),
    Simulated("Simulated, careless", 0.70, 0.93),
)
"""Rates as in STUDIES.md 1e."""
_NAMESPACE = uuid.UUID("0b7b7d0a-3c55-57c4-8c2f-4a3ef4d4f0aa")


def run(config: Config, dataset: str, truth: str, n: int, who: Sequence[Simulated] = WHO) -> dict[str, int]:
    """Write the votes of simulated annotators on `n` images of a dataset under data/annotations; return counts.

    `truth`: the label source that is taken as true. The images are the first of the random order of table `queue`.
    BenchError where there are no proposals of the set, no labels of that source, or the votes are there already.
    """
    proposals = tables.read("proposals", config.results / "proposals.parquet")
    queue = tables.read("queue", config.results / "queue.parquet").sort_values("place")
    given = tables.read("labels", config.results / "given_labels.parquet")
    ids = queue.loc[queue["sample_id"].str.startswith(f"{dataset}/"), "sample_id"].head(n)
    true = given.loc[(given["source"] == truth) & given["sample_id"].isin(ids), ["sample_id", "class_id"]]
    if ids.empty or true.empty:
        raise BenchError(
            f"there are no {'proposals' if ids.empty else f'labels {truth!r}'} of {dataset!r}.",
            where="bench annotate simulate",
            remedy="Name a set of `proposals.datasets` in params.yaml, and one of its label sources.",
        )
    shown = proposals.loc[proposals["sample_id"].isin(ids), ["sample_id", "class_id", "rank"]]
    snapshot = tables.sha256(config.results / "proposals.parquet")[:12]
    written = {}
    for one in who:
        sitting = f"simulated on {dataset}"
        path = config.data / events.FOLDER / events.stem(one.name) / f"{events.stem(sitting)}.jsonl"
        if path.exists():
            raise BenchError(
                "is there already.", where=path, remedy="Files of annotations are never changed: remove it first."
            )
        written[path] = votes(one, shown, true, ids.tolist(), config.seed, sitting, snapshot)
    for path, rows in written.items():
        events.write(path, rows)
    return {"annotators": len(who), "images": len(ids), "events": sum(map(len, written.values()))}


def votes(
    who: Simulated, shown: pd.DataFrame, true: pd.DataFrame, ids: list[str], seed: int, sitting: str, snapshot: str
) -> list[dict[str, Any]]:
    """The events of one simulated annotator on images `ids`, in that order, a minute apart.

    shown: sample_id, class_id, rank; true: sample_id, class_id.
    """
    truth = set(zip(true["sample_id"], true["class_id"], strict=True))
    of_image = {sample_id: mine.sort_values("rank") for sample_id, mine in shown.groupby("sample_id")}
    out = []
    for number, sample_id in enumerate(ids):
        rng = compute.rng(seed, "simulated", who.name, sample_id)
        submission = str(uuid.uuid5(_NAMESPACE, f"{who.name}\n{sample_id}"))
        utc = pd.Timestamp("2026-01-01T00:00:00Z") + pd.Timedelta(minutes=number)
        common = {
            "sample_id": sample_id,
            "annotator": who.name,
            "kind": "simulated",
            "stage": events.ANNOTATE,
            "utc": utc.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "ms_spent": 0,
            "submission": submission,
            "snapshot": snapshot,
            "sitting": sitting,
        }
        mine = of_image[sample_id]
        said = [
            (int(c), int(rank), rng.random() < (who.sensitivity if (sample_id, c) in truth else 1 - who.specificity))
            for c, rank in zip(mine["class_id"], mine["rank"], strict=True)
        ]
        for class_id, rank, yes in said:
            action = "yes" if yes else "no"
            event = events.event_id(submission, action, class_id)
            out.append({**common, "event_id": event, "class_id": class_id, "action": action, "rank_shown": rank})
        if not any(yes for _, _, yes in said):
            out.append({**common, "event_id": events.event_id(submission, events.NONE), "action": events.NONE})
    return out
