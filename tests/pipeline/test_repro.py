"""Real `dvc repro` in a repository of its own: what runs when, and what is left where something fails."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import config as configuration
from bench import schemas
from bench.data import radar
from bench.store import database, tables
from tests.pipeline.project import MODELS, Project, environment

pytestmark = pytest.mark.pipeline

JUDGED = ["consensus", "subsets", "metrics", "replication", "label_study", "ssl_study", "comparisons", "database"]
OF_TRANSFERS = ["transfer_study", "misclassification"]
"""They run where an attacked image changed."""
AGGREGATES = [
    "uncertainty",
    "attack",
    "regional",
    "objectives",
    "detection",
    "collisions",
    "maps",
    "proposals",
    *JUDGED,
]


def test_a_first_repro_writes_every_table(built: Project) -> None:
    assert built.status() == set()
    config = configuration.load(built.root / "params.yaml")
    assert database.stale(config) is not None  # the commit of dvc.lock came after
    of_right_ones = ("misclassification", "class_groups", "transfer_", "regional", "detection", "retraining")
    of_right_ones += ("attack_images", "attack_answers", "collision_checks", "objective_saturation")
    may_be_empty = {name for name in schemas.TABLES if name.startswith(of_right_ones)}
    for table, paths in database.sources(config).items():
        rows = sum(len(tables.read(table, path)) for path in paths)
        assert rows > 0 or table in may_be_empty, f"{table}: networks of seconds may have no image that both get right"
    stored = database.read_snapshot(config.results / database.FILE)
    assert stored is not None
    assert set(stored["count:models"]) == {str(len(MODELS) + 1)}
    for path in (
        "metrics.json",
        "plots/accuracy.csv",
        "plots/corruption.csv",
        "plots/attack.csv",
        "plots/training.csv",
    ):
        assert (built.root / path).read_text().strip(), path
    assert not [path for path in (built.root / "results").rglob("*") if path.name.endswith(".tmp")]


def test_the_report_ends_with_times(built: Project) -> None:
    said = built.bench("report", "--times").stdout
    for model in (*MODELS, "ensemble-supervised"):
        assert f"\n{model} " in said
    assert "train supervised-cnn" in said
    assert max(map(len, said.splitlines())) <= 120


def test_a_second_repro_runs_nothing_and_is_cheap(built: Project) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert built.repro() == []
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) <= 5


def test_a_forced_repro_elsewhere_writes_the_same_bytes(built: Project, tmp_path: Path) -> None:
    clone = Project(tmp_path / "clone")
    built.git("clone", "--quiet", ".", str(clone.root))
    clone.dvc("pull", "--quiet", "data.dvc")
    ran = clone.repro("--force", "--no-run-cache")
    own = [f"{stage}@{model}" for stage in ("train", "probe", "predict") for model in MODELS]
    assert sorted(ran) == sorted(
        ["index", "imported", *own, "neighbours", "segmentation", "radar", *AGGREGATES, *OF_TRANSFERS]
    )
    assert clone.files() == built.files()
    assert clone.git("status", "--porcelain") == ""


def test_a_new_model_runs_itself_and_what_looks_at_all_models_then_is_removed(project: Project) -> None:
    random = {"family": "random", "suite": "digits", "method": "random", "arch": "vit"}
    project.change(lambda parameters: parameters["models"].update({"random-vit": random}))
    before = project.files()
    ran = project.repro()
    assert set(ran) == {"train@random-vit", "probe@random-vit", "predict@random-vit", *AGGREGATES}
    after = project.files()
    of_models = [path for path in before if path.split("/")[0] in ("models", "predictions", "logits", "training")]
    assert all(after[path] == before[path] for path in of_models)

    def remove(parameters: dict[str, Any]) -> None:
        del parameters["models"]["random-vit"]

    project.change(remove)
    refused = project.dvc("repro", "uncertainty", check=False)
    assert "random-vit" in refused
    assert "bench prune" in refused
    said = project.bench("prune").stdout
    assert "removed results/predictions/random-vit.parquet" in said
    assert "removed dvc.lock: train@random-vit" in said
    project.repro()
    assert project.files() == before
    assert project.git("status", "--porcelain") == ""


def test_an_edited_model_makes_only_its_own_stages_stale(project: Project) -> None:
    project.change(lambda parameters: parameters["models"]["simclr-cnn"].update(lr=0.01))
    stale = project.status()
    assert {name for name in stale if "@" in name} == {"train@simclr-cnn", "probe@simclr-cnn"}
    assert "index" not in stale
    assert stale <= {"train@simclr-cnn", "probe@simclr-cnn", *AGGREGATES, *OF_TRANSFERS}


def test_an_imported_model_runs_only_what_judges_it_then_goes_again(project: Project) -> None:
    samples = tables.read("samples", project.root / "results" / "samples.parquet")
    mine = samples.loc[(samples["dataset"] == "optdigits") & (samples["split"] == "test"), ["sample_id", "label"]]
    mine.rename(columns={"label": "class"}).to_csv(project.root / "answers.csv", index=False)
    before = project.files()
    project.bench("import", "predictions", "answers.csv", "--model", "org/perfect", "--dataset", "optdigits")
    assert set(project.repro()) == {"imported", *JUDGED}
    metrics = tables.read("metrics", project.root / "results" / "metrics.parquet")
    found = metrics.loc[(metrics["model"] == "org/perfect") & (metrics["metric"] == "top1")]
    assert set(found["value"]) == {1.0}
    project.bench("import", "remove", "--model", "org/perfect")
    project.repro()
    assert project.files() == before


def test_changed_data_is_seen_by_the_index(project: Project) -> None:
    path = project.root / "data" / "optdigits" / "dataset.json"
    path.write_text(path.read_text().replace("Made up", "Made up again"))
    assert {"index", "data.dvc"} <= project.status()


def test_recorded_radar_sequences_run_their_study_alone(project: Project) -> None:
    own = np.random.default_rng(0)
    folder = project.root / "sequences"
    folder.mkdir()
    for subject in ("a", "b", "c"):
        for label, place in (("near", 0), ("far", 8)):
            for repeat in range(4):
                frames = own.uniform(0, 0.1, (10, 16, 16)).astype(np.float32)
                frames[:, place : place + 8] += 0.8
                np.savez(folder / f"{subject}-{label}-{repeat}.npz", frames=frames, label=label, subject=subject)
    project.change(lambda parameters: parameters["radar"].update(recorded="sequences", epochs=10))
    refused = project.dvc("repro", "radar", check=False)
    assert "is not pinned" in refused
    assert "Traceback" not in refused
    pin = refused.partition("set `radar.sha256: ")[2].partition("`")[0]
    project.change(lambda parameters: parameters["radar"].update(sha256=pin))
    assert project.repro() == ["radar", "database"]
    models = tables.read("radar_models", project.root / "results" / "radar_models.parquet")
    assert not models["simulated"].any()
    (folder / "a-near-0.npz").unlink()
    project.change(lambda parameters: parameters["radar"].update(sha256=radar.digest(folder)))
    assert "radar" in project.status()
    assert project.repro() == ["radar", "database"]


def test_bad_parameters_stop_a_stage_with_one_message(project: Project) -> None:
    before = project.files()
    project.change(lambda parameters: parameters["statistics"].update(bootstrapp=3))
    said = project.dvc("repro", "metrics", check=False)
    assert "unknown key `statistics.bootstrapp` (did you mean 'bootstrap'?)" in said
    assert "Traceback" not in said
    assert all(before[path] == content for path, content in project.files().items())
    project.change(lambda parameters: parameters["statistics"].pop("bootstrapp"))
    project.repro()
    assert project.files() == before


def test_a_stage_that_cannot_write_names_the_file_and_the_next_repro_goes_on(project: Project) -> None:
    """A limit on the size of files stands in for a full disk."""
    before = project.files()
    for path in (project.root / "results").glob("*.parquet"):
        path.unlink()

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))

    done = project.bench("index", check=False, preexec_fn=full)
    assert done.returncode == 1
    assert "could not be written" in done.stdout
    assert "Free some disk space" in done.stdout
    assert "Traceback" not in done.stdout
    assert not [path for path in (project.root / "results").rglob("*") if ".tmp" in path.name]
    project.repro()
    assert project.files() == before


def test_an_interrupted_training_leaves_nothing_and_the_next_repro_goes_on(project: Project) -> None:
    project.change(lambda parameters: parameters["models"]["supervised-cnn"].update(epochs=100_000))
    before = set((project.root / "results").rglob("*"))
    log = (project.root / "training.log").open("w")
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("bench")), "train", "supervised-cnn"],
        cwd=project.root,
        env=environment(project.root),
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    time.sleep(8)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    log.close()
    said = (project.root / "training.log").read_text()
    assert "bench: stopped" in said
    assert "Traceback" not in said
    assert set((project.root / "results").rglob("*")) == before
    project.change(lambda parameters: parameters["models"]["supervised-cnn"].update(epochs=2))
    assert project.status() == set()
