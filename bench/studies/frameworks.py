"""Frameworks of self-supervised learning, packages that have them, and good practice: the reader of frameworks.yaml.

The families are those of the survey "Know Your Self-supervised Learning" (TMLR 2023), with the pretext tasks that came
before, other generative methods, and hybrids. Where a method could be of two, the placement is a judgement.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError

from bench.config import Frozen
from bench.errors import BenchError

PATH = Path(__file__).with_suffix(".yaml")
Family = Literal[
    "pretext",
    "contrastive",
    "clustering",
    "distillation",
    "information_maximisation",
    "masked_image_modelling",
    "generative",
    "hybrid",
]
Text = Annotated[str, Field(min_length=1)]
Reference = Annotated[str, Field(pattern=r"^(arXiv:\d{4}\.\d{4,5}|doi:10\.\S+)$")]


class Framework(Frozen):
    """One framework: what it predicts, by which loss, and what keeps its encoder from giving the same for all images.

    `packages`: the survey-era packages that were seen to have it; `here`: the method of params.yaml that runs it.
    """

    name: Text
    year: Annotated[int, Field(ge=2010, le=2100)]
    family: Family
    predicts: Text
    loss: Text
    collapse: Text
    title: Text
    reference: Reference
    packages: tuple[Literal["lightly", "solo-learn", "vissl", "mmselfsup"], ...] = ()
    here: Text | None = None

    @property
    def url(self) -> str:
        kind, number = self.reference.split(":", 1)
        return f"https://arxiv.org/abs/{number}" if kind == "arXiv" else f"https://doi.org/{number}"


class Package(Frozen):
    """A software package; what no page said is None."""

    name: Text
    repository: Text
    licence: Text | None = None
    release: Text | None = None
    maintained: Literal["yes", "no"] | None = None


class Practice(Frozen):
    """What to mind; `here`: how this project does it, None where it does not."""

    practice: Text
    why: Text
    do: Text
    references: tuple[Reference, ...] = ()
    here: Text | None = None


class Registry(Frozen):
    """All of frameworks.yaml."""

    frameworks: Annotated[list[Framework], Field(min_length=1)]
    packages: list[Package]
    practices: list[Practice]


def load(path: Path = PATH) -> Registry:
    """Read and check the registry. BenchError where the file is malformed."""
    try:
        return Registry.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as fault:
        raise BenchError(f"is no registry of frameworks: {fault}.", where=path, remedy="Restore it with git.") from None
