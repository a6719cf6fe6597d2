"""A preset: `<name>.yaml` says what it adds to params.yaml, `<name>.sha256` pins every file that it fetches.

Where a source was not at hand when its preset was written, there is no honest manifest of what is made of it: such a
preset says `pinned_here: true`, and is pinned by what its first fetch gives (bench/data/fetch.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from bench.config import Frozen, Pinned, Sha256, file_stem
from bench.data.fetch import PINS, THUMBNAILS
from bench.data.masks import MASKS
from bench.data.samples import LABELS, META, SAMPLES, of_hashes
from bench.errors import BenchError

HERE = Path(__file__).parent
RUNS = ("attacks", "regional", "objectives", "detection")
"""The studies whose runs a preset may name."""
SECTIONS = (
    "suites",
    "datasets",
    "models",
    "imported",
    "segmentation",
    "evaluations",
    "noisy_labels",
    *(f"{study}.runs" for study in RUNS),
)
"""The keys of params.yaml that a preset adds to, in the order in which they are needed."""
WEIGHTS = "weights"
"""Folder of what a preset fetches that holds checkpoints."""


class Figure(Frozen):
    """What the database must say: `sql` gives one number, which equals `expected`."""

    name: str
    sql: str
    expected: float


class Preset(Frozen):
    """A preset as its two files say it; see `params` for what it adds."""

    name: str
    about: str
    requires: Annotated[list[str], Field(default_factory=list)]
    """Presets whose suites its models are of."""
    suites: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    datasets: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    models: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    """Models with published weights; what lacks in their `weights` is the pin of the file."""
    imported: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    segmentation: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    """Sets of images with masks (study 10)."""
    evaluations: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    noisy_labels: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    attacks: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    """Runs of studies 5 and 6; beside them those of studies 8 and 9."""
    regional: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    objectives: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    detection: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    votes: Annotated[dict[str, dict[str, dict[str, Any]]], Field(default_factory=dict)]
    """Dataset -> source -> how its votes were cast, as in `ImportedVotes`, without the sha256."""
    refined_labels: Sha256 | None = None
    pinned_here: bool = False
    """Whether it is pinned by what its first fetch gives: `files` is then empty until `as_fetched`."""
    figures: Annotated[list[Figure], Field(default_factory=list)]
    files: dict[str, Sha256]

    def params(self) -> dict[str, dict[str, Any]]:
        """What it adds, as params.yaml holds it."""
        out = {}
        for section, entries in self.entries().items():
            if not section.endswith(".runs"):
                out[section] = entries
            elif entries:
                out[section.removesuffix(".runs")] = {"runs": entries}
        return out

    def entries(self) -> Mapping[str, dict[str, dict[str, Any]]]:
        """Section of params.yaml (SECTIONS) -> name -> entry, with what is fetched and its pins."""
        datasets, imported = {}, {}
        pins = self.pins()
        for name, entry in self.datasets.items():
            datasets[name] = {**entry, "fetched": self.name}
            if name in pins:
                datasets[name]["sha256"] = pins[name]
            if (pictures := self.files.get(f"{name}/{THUMBNAILS}")) is not None:
                datasets[name]["images"] = pictures
            if votes := self.votes.get(name):
                cast = {source: self.files[f"votes/{name}/{source}.parquet"] for source in votes}
                datasets[name]["votes"] = {source: {"sha256": cast[source], **how} for source, how in votes.items()}
        for model, entry in self.imported.items():
            paths = {name: f"predictions/{name}/{file_stem(model)}.parquet" for name in self.datasets}
            answers = {name: self.files[path] for name, path in paths.items()}
            imported[model] = {**entry, "fetched": self.name, "datasets": answers}
        models = {
            model: {**entry, "weights": self._pinned(entry["weights"])} if "weights" in entry else entry
            for model, entry in self.models.items()
        }
        sections = {"suites": self.suites, "datasets": datasets, "models": models, "imported": imported}
        noisy = {name: {**entry, "fetched": self.name} for name, entry in self.noisy_labels.items()}
        for name in noisy.keys() & pins.keys():
            noisy[name]["sha256"] = pins[name]
        masked = {name: {"fetched": self.name, **entry} for name, entry in self.segmentation.items()}
        for name in masked.keys() & pins.keys():
            masked[name]["sha256"] = pins[name]
        sections |= {"segmentation": masked, "evaluations": self.evaluations, "noisy_labels": noisy}
        sections |= {f"{study}.runs": getattr(self, study) for study in RUNS}
        return MappingProxyType(sections)

    @property
    def fetches(self) -> bool:
        """Whether any of it is fetched."""
        return bool(self.files) or self.pinned_here

    def as_fetched(self, fetched: Path) -> Preset:
        """With the manifest of what it gave here, below `fetched`, if it is pinned by that."""
        if not self.pinned_here:
            return self
        return self.model_copy(update={"files": manifest(fetched / self.name / PINS)})

    def pins(self) -> dict[str, str]:
        """Dataset -> the digest of its folder, source of noisy labels or set with masks -> that of its file; none of
        one that was not fetched yet and is pinned by that."""
        if self.pinned_here and not self.files:
            return {}
        folders = {
            name: of_hashes([self.files[f"{name}/{file}"] for file in (META, SAMPLES, LABELS)])
            for name in self.datasets
        }
        masked = {name: self.files[f"{name}/{MASKS}"] for name in self.segmentation}
        return folders | masked | {name: self.files[f"noisy_labels/{name}.parquet"] for name in self.noisy_labels}

    def pins_held(self, held: Mapping[str, Pinned]) -> dict[str, str]:
        """The same, as params.yaml holds it, of what is this preset's."""
        named = [name for name in (*self.datasets, *self.noisy_labels, *self.segmentation) if name in held]
        mine = {name: held[name] for name in named if held[name].fetched == self.name}
        return {name: one.sha256 for name, one in mine.items() if one.sha256 is not None}

    def _pinned(self, weights: dict[str, Any]) -> dict[str, Any]:
        file = f"{WEIGHTS}/{weights['file']}"
        pin = {"sha256": self.files[file]} if self.files else {}
        return {**weights, "file": f"fetched/{self.name}/{file}", **pin}


def names() -> list[str]:
    """The presets there are."""
    return sorted(path.stem for path in HERE.glob("*.yaml"))


def load(name: str) -> Preset:
    """The preset called `name`. BenchError where there is none, or one of its files is wrong."""
    if name not in names():
        raise BenchError(
            f"there is no preset {name!r} to add.", where="bench preset", remedy=f"Use one of: {', '.join(names())}."
        )
    path = HERE / f"{name}.yaml"
    try:
        return Preset(name=name, files=manifest(path.with_suffix(".sha256")), **yaml.safe_load(path.read_text()))
    except (OSError, TypeError, yaml.YAMLError, ValidationError) as fault:
        raise BenchError(f"is not a preset: {fault}.", where=path, remedy="Restore it with git.") from None


def manifest(path: Path) -> dict[str, str]:
    """File -> hex sha256, from lines as sha256sum writes them; none where a preset fetches nothing."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {file: pin for pin, file in (line.split("  ", 1) for line in lines)}
