"""dvc.yaml against params.yaml and the code: every stage depends on just what it uses."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMETERS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
CONTRACT = {
    f"bench/{name}.py"
    for name in ("__init__", "cli", "config", "errors", "frames", "progress", "schemas", "store/tables")
}
"""Used by every stage, and no result changes with them: they are no dependencies (README, design notes)."""
MODULES = {
    "index": "bench/data/index.py",
    "imported": "bench/imports/stage.py",
    "train": "bench/models/train.py",
    "probe": "bench/evaluate/probe.py",
    "predict": "bench/evaluate/predict.py",
    "uncertainty": "bench/evaluate/uncertainty.py",
    "attack": "bench/attacks/attack.py",
    "transfer_study": "bench/studies/transfer.py",
    "misclassification": "bench/studies/misclassification.py",
    "objectives": "bench/studies/objectives.py",
    "detection": "bench/studies/detection.py",
    "regional": "bench/studies/regional.py",
    "segmentation": "bench/studies/segmentation.py",
    "collisions": "bench/studies/collisions.py",
    "radar": "bench/studies/radar.py",
    "neighbours": "bench/evaluate/neighbours.py",
    "maps": "bench/evaluate/maps.py",
    "proposals": "bench/relabel/proposals.py",
    "consensus": "bench/relabel/consensus.py",
    "subsets": "bench/evaluate/subsets.py",
    "metrics": "bench/evaluate/metrics.py",
    "replication": "bench/evaluate/replication.py",
    "label_study": "bench/studies/labels.py",
    "ssl_study": "bench/studies/ssl.py",
    "comparisons": "bench/evaluate/comparisons.py",
    "database": "bench/store/database.py",
}
FAMILIES = {f"bench/models/{name}.py" for name in ("supervised", "ssl", "random", "pixels")}


def body(stage: str) -> dict[str, Any]:
    return STAGES[stage].get("do", STAGES[stage])


def written(stage: str) -> list[str]:
    content = body(stage)
    entries = [*content.get("outs", []), *content.get("metrics", []), *content.get("plots", [])]
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


@cache
def imports(path: str) -> frozenset[str]:
    """Files of the package that a file imports, at its top or in a function, but not for types only."""
    tree = ast.parse((ROOT / path).read_text())
    for_types = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and ast.unparse(test.test) == "TYPE_CHECKING"
        for node in ast.walk(test)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("bench"):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("bench.")}
    files = {f"{name.replace('.', '/')}.py" for name in names}
    return frozenset(file for file in files if (ROOT / file).is_file())


def used(path: str) -> set[str]:
    """What a stage's module uses, by way of all that it imports, but for the contract."""
    seen, waiting = set(), [path]
    while waiting:
        file = waiting.pop()
        if file not in seen and file not in CONTRACT:
            seen.add(file)
            waiting += imports(file)
    return seen


def test_every_stage_has_its_module() -> None:
    assert set(STAGES) == set(MODULES)


@pytest.mark.parametrize("stage", MODULES)
def test_a_stage_depends_on_the_code_that_it_uses(stage: str) -> None:
    listed = {dep for dep in body(stage)["deps"] if dep.startswith("bench/") and dep.endswith(".py")}
    needed = used(MODULES[stage])
    if stage == "train":
        assert "bench/models/${item.family}.py" in listed
        listed -= {"bench/models/${item.family}.py"}
        needed -= FAMILIES
    assert needed <= listed
    assert listed <= needed | CONTRACT


@pytest.mark.parametrize("stage", MODULES)
def test_code_that_a_stage_depends_on_exists(stage: str) -> None:
    for dep in body(stage)["deps"]:
        if dep.startswith("bench/") and "${" not in dep:
            assert (ROOT / dep).is_file(), dep


def test_the_index_depends_on_the_declared_datasets() -> None:
    listed = [dep for dep in STAGES["index"]["deps"] if dep.startswith("data/")]
    assert listed == [f"data/{name}" for name in PARAMETERS["datasets"]]


@pytest.mark.parametrize("stage", MODULES)
def test_results_that_a_stage_reads_are_written_by_another(stage: str) -> None:
    outputs = [out for other in STAGES if other != stage for out in written(other)]
    for dep in body(stage)["deps"]:
        if dep.startswith("results/"):
            path = dep.replace("${neighbours.model}", "${key}")
            covered = [
                out for out in outputs if out == path or out.startswith(f"{path}/") or path.startswith(f"{out}/")
            ]
            assert covered, dep


@pytest.mark.parametrize("stage", MODULES)
def test_parameters_that_a_stage_depends_on_exist(stage: str) -> None:
    for name in body(stage)["params"]:
        if "${" not in name:
            value: Any = PARAMETERS
            for key in name.split("."):
                value = value[key]


def test_nothing_is_listed_twice() -> None:
    for stage in STAGES:
        for key in ("deps", "params"):
            listed = [str(entry) for entry in body(stage)[key] if not str(entry).startswith("data/")]
            assert len(listed) == len(set(listed)), (stage, key)
