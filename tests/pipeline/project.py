"""A small project of its own: this repository's code and dvc.yaml with tiny data and models, in git and DVC."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench.data import writer
from bench.data.samples import DatasetMeta
from bench.relabel import events

SOURCE = Path(__file__).parents[2]
N_CLASSES, N_TRAIN, N_TEST, SIZE = 10, 60, 30, 16
MODELS: dict[str, dict[str, Any]] = {
    "supervised-cnn": {"family": "supervised", "suite": "digits", "method": "supervised", "arch": "cnn", "epochs": 2},
    "simclr-cnn": {"family": "ssl", "suite": "digits", "method": "simclr", "arch": "cnn", "epochs": 2},
    "random-cnn": {"family": "random", "suite": "digits", "method": "random", "arch": "cnn"},
    "pixels": {"family": "pixels", "suite": "digits", "method": "pixels", "arch": "pixels"},
}


@dataclass(frozen=True)
class Project:
    """A folder that is a git and DVC repository, and the commands that are run in it."""

    root: Path

    def run(self, *command: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the project with its own code first; stdout and stderr together."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=environment(self.root),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            **more,
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
        return done

    def dvc(self, *arguments: str, check: bool = True) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments, check=check).stdout

    def bench(self, *arguments: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.run(str(Path(sys.executable).with_name("bench")), *arguments, check=check, **more)

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments).stdout.strip()

    def commit(self, message: str = "A change") -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def repro(self, *arguments: str, check: bool = True) -> list[str]:
        """`dvc repro`; the stages that ran, in order."""
        return re.findall(r"^Running stage '([^']+)'", self.dvc("repro", *arguments, check=check), re.MULTILINE)

    def status(self) -> set[str]:
        """The stages that are not up to date."""
        import json

        return set(json.loads(self.dvc("status", "--json")))

    def change(self, edit: Callable[[dict[str, Any]], None]) -> None:
        """Edit params.yaml."""
        path = self.root / "params.yaml"
        parameters = yaml.safe_load(path.read_text())
        edit(parameters)
        path.write_text(yaml.safe_dump(parameters, sort_keys=False))

    def files(self) -> dict[str, bytes]:
        """Every Parquet and JSON file of results/, by its path in it."""
        results = self.root / "results"
        found = [*results.rglob("*.parquet"), *results.rglob("*.json")]
        return {path.relative_to(results).as_posix(): path.read_bytes() for path in sorted(found)}

    def copy(self, to: Path) -> Project:
        shutil.copytree(self.root, to, symlinks=True)
        return Project(to)


def environment(root: Path) -> dict[str, str]:
    """The environment of a project's commands: its own code, one thread, nobody's git settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "DVC_"))}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root),
        "OMP_NUM_THREADS": "1",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(root.parent / "dvc-site-cache"),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_AUTHOR_NAME": "Test",
        "GIT_AUTHOR_EMAIL": "test@example.org",
        "GIT_COMMITTER_NAME": "Test",
        "GIT_COMMITTER_EMAIL": "test@example.org",
        "CUDA_VISIBLE_DEVICES": "",
    }


def make(root: Path) -> Project:
    """Write the project, track its data, and commit: what a clone has before the first `dvc repro`."""
    root.mkdir(parents=True)
    shutil.copytree(SOURCE / "bench", root / "bench", ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".dvc").mkdir()
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config"):
        shutil.copy(SOURCE / name, root / name)
    (root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    parameters = yaml.safe_load((SOURCE / "params.yaml").read_text())
    (root / "params.yaml").write_text(yaml.safe_dump(tiny(parameters), sort_keys=False))
    for name, dataset in parameters["datasets"].items():
        writer.write(_content(name, dataset["role"]), root / "data")
    _annotate(root / "data" / "annotations")
    project = Project(root)
    project.git("init", "--quiet", "--initial-branch=main")
    project.dvc("add", "--quiet", "data")
    project.dvc("push", "--quiet", "data.dvc")
    project.commit("A tiny benchmark")
    return project


def _annotate(folder: Path) -> None:
    """Two simulated annotators who say yes to the true label of the first two images of digits-noisy."""
    for who in ("Simulated, one", "Simulated, two"):
        rows = []
        for i in range(2):
            common = {"sample_id": f"digits-noisy/{i:03d}", "annotator": who, "kind": "simulated"}
            common |= {"stage": events.ANNOTATE, "utc": f"2026-01-01T00:00:00.{i:06d}Z", "ms_spent": 0}
            common |= {"submission": f"{who} {i}", "snapshot": "made up", "sitting": "made up"}
            for class_id, action in ((i, "yes"), (i + 1, "no")):
                event_id = events.event_id(f"{who} {i}", action, class_id)
                event = {"event_id": event_id, "class_id": class_id, "action": action}
                rows.append({**common, **event, "rank_shown": class_id - i + 1})
        events.write(folder / events.stem(who) / "made-up.jsonl", rows)


def tiny(parameters: dict[str, Any]) -> dict[str, Any]:
    """The repository's own params.yaml, cut down to what runs in seconds."""
    attack = {"kind": "pgd-linf", "dataset": "digits", "eps_255": [32], "steps": 2, "n_images": 10}
    region = {
        "dataset": "digits",
        "models": ["supervised-cnn", "simclr-cnn"],
        "n_images": 4,
        "iterations": 3,
        "fixed": 2,
    }
    walks = {"dataset": "digits", "models": ["supervised-cnn"], "n_images": 8, "iterations": 40, "lbfgs_images": 1}
    hunt = {"dataset": "digits", "models": ["supervised-cnn"], "n_train": 12, "n_images": 10, "steps": 2, "epochs": 1}
    probes = {"c_grid": [1.0], "folds": 2, "labels_per_class": [2], "seeds": [0], "knn_k": [3]}
    return parameters | {
        "compute": parameters["compute"] | {"threads": 1, "batch_size": 32},
        "training": {"validation_fraction": 0.2, "probes": probes},
        "models": MODELS,
        "corruptions": {
            "datasets": ["digits"],
            "names": ["contrast"],
            "severities": [5],
            "reference": "supervised-cnn",
        },
        "uncertainty": {"ensembles": {"ensemble-supervised": ["supervised-cnn"]}},
        "attacks": {"pool": [], "runs": {"pgd-linf": attack}},
        "objectives": {"runs": {"digits": walks}},
        "detection": {"runs": {"digits": hunt}},
        "regional": {"runs": {"digits": region}},
        "segmentation": {
            "digits-scenes": {
                "composed_of": "digits",
                "size": 32,
                "widths": [2, 4],
                "epochs": 1,
                "n_train": 8,
                "n_test": 4,
                "n_pairs": 2,
                "attack_batch": 2,
                "iterations": 2,
            }
        },
        "collisions": {"runs": {"digits": {"dataset": "digits", "models": ["supervised-cnn"], "n_images": 4}}},
        "radar": {
            "samples": 16,
            "chirps": 16,
            "frames": 16,
            "min_frames": 8,
            "max_frames": 12,
            "subjects": 4,
            "trained": 1,
            "lr": {"cnn3d": 0.01, "cnnlstm": 0.01},
            "repeats": 4,
            "epochs": 40,
            "n_sequences": 4,
            "iterations": 2,
            "shown": 1,
        },
        "neighbours": {"model": "simclr-cnn", "k": 2},
        "maps": {"n_images": 8, "n_neighbors": 4, "epochs": 5, "k": 2},
        "statistics": {"bootstrap": 20},
    }


def _content(name: str, role: str) -> writer.Content:
    """Noise with a bright block whose place tells the class; the training set also has a train split."""
    meta = DatasetMeta(
        title=name.capitalize(),
        about="Made up for tests.",
        label_space="digits",
        classes=[str(k) for k in range(N_CLASSES)],
        source="tests",
        license="MIT",
        split_rule="by hand",
    )
    n = N_TRAIN + N_TEST if role == "original" else N_TEST
    rng = np.random.default_rng(sum(name.encode()))
    labels = np.arange(n) % N_CLASSES
    images = rng.integers(0, 120, (n, SIZE, SIZE), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 4)
        image[row * 5 : row * 5 + 5, column * 4 : column * 4 + 4] += 100
    given = [[int(label)] for label in labels]
    extra = {"digits-noisy": {"true": given}, "digits-mosaic": {"composed": [[*k, (k[0] + 1) % 10] for k in given]}}
    splits = ["train"] * N_TRAIN + ["test"] * N_TEST if role == "original" else ["test"] * n
    ids = [f"{i:03d}" for i in range(n)]
    return writer.Content(name, meta, ids, labels, images, splits, extra=extra.get(name, {}))
