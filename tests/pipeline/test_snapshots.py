"""Releases: published whole or not at all, pulled by a clone, and opened again after later ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bench import config as configuration
from bench.errors import BenchError
from bench.store import database, provenance, snapshot
from tests.pipeline.project import Project

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def released(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project with its results released as v1; then, with other statistics, as v2."""
    project = built.copy(tmp_path_factory.mktemp("released") / "project")
    project.bench("snapshot", "publish", "v1")
    project.change(lambda parameters: parameters["statistics"].update(bootstrap=30))
    project.repro()
    project.commit("More draws")
    project.bench("snapshot", "publish", "v2")
    return project


def state(project: Project) -> tuple[str, str, str, list[Path]]:
    files = sorted(path for path in (project.root / "snapshots").rglob("*") if path.is_file())
    return project.git("rev-parse", "HEAD"), project.git("status", "--porcelain"), project.git("tag"), files


def figures(path: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{path}' AS bench (READ_ONLY)")
        return connection.execute("SELECT * FROM bench.metrics ORDER BY ALL").fetchall()


def test_a_release_is_a_commit_of_snapshots_with_a_tag(released: Project) -> None:
    assert released.git("status", "--porcelain") == ""
    assert released.git("rev-parse", "v2^{commit}") == released.git("rev-parse", "HEAD")
    changed = released.git("show", "--format=", "--name-only", "HEAD").splitlines()
    assert all(path.startswith("snapshots/") for path in changed)
    listed = json.loads((released.root / "snapshots" / "releases.json").read_text())["releases"]
    assert [entry["name"] for entry in listed] == ["v1", "v2"]
    manifest = json.loads((released.root / "snapshots" / listed[1]["manifest"]).read_text())
    assert manifest["results_commit"] == released.git("rev-parse", "HEAD~1")
    assert manifest["facts"]["git_dirty"] == "false"
    assert manifest["facts"]["params"] == (released.root / "params.yaml").read_text()
    config = configuration.load(released.root / "params.yaml")
    assert manifest["hashes"] == database.hashes(config)
    assert manifest["counts"]["datasets"] == 9
    assert manifest["pushed_bytes"] == sum(output["size"] for output in manifest["pushed"]) < 8e6


def test_the_tree_holds_what_the_release_and_the_data_need_and_no_more(released: Project) -> None:
    objects = {path.parent.name + path.name for path in (released.root / "snapshots" / "files" / "md5").glob("??/*")}
    manifest = provenance.releases(released.root)["v2"]
    listed = {output["md5"] for output in manifest["pushed"]}
    assert listed <= objects
    earlier = {output["md5"] for output in provenance.releases(released.root)["v1"]["pushed"]}
    assert earlier - listed
    assert not (earlier - listed) & objects
    assert snapshot.remove_superseded(released.root) == []


def test_a_clone_pulls_everything_and_needs_no_computing(released: Project, tmp_path: Path) -> None:
    clone = Project(tmp_path / "clone")
    released.git("clone", "--quiet", "--no-tags", ".", str(clone.root))
    clone.dvc("pull")
    everything = released.files()
    assert clone.files() == {path: content for path, content in everything.items() if not path.startswith("logits/")}
    said = clone.bench("report", "--times").stdout
    assert "\npixels " in said
    assert "were pulled" in said
    stored = database.read_snapshot(clone.root / "results" / database.FILE)
    assert stored is not None
    assert stored["release"] == "v2"
    assert stored["git_commit"] == clone.git("rev-parse", "HEAD~1")
    listing = clone.bench("snapshot", "list").stdout.splitlines()
    assert [line.split()[0] for line in listing] == ["v2", "v1"]
    assert listing[1].split()[2] == released.git("rev-parse", "v1^{commit}")[:10]
    assert figures(Path(clone.bench("snapshot", "open", "v1").stdout.strip())) != figures(
        clone.root / "results" / database.FILE
    )
    assert clone.git("status", "--porcelain") == ""


def test_earlier_releases_open_though_their_objects_left_the_tree(built: Project, released: Project) -> None:
    before = state(released)
    first = Path(released.bench("snapshot", "open", "v1").stdout.strip())
    assert figures(first) == figures(built.root / "results" / database.FILE)
    stored = database.read_snapshot(first)
    assert stored is not None
    assert stored["release"] == "v1"
    made = first.stat().st_mtime_ns
    assert released.bench(
        "snapshot", "open", released.git("rev-parse", "--short", "v1^{commit}")
    ).stdout.strip() == str(first)
    assert first.stat().st_mtime_ns == made
    second = Path(released.bench("snapshot", "open", "v2").stdout.strip())
    assert figures(second) == figures(released.root / "results" / database.FILE)
    assert state(released) == before
    found = snapshot.available(configuration.load(released.root / "params.yaml"))
    assert [(one.name, one.path) for one in found] == [("v2", second), ("v1", first)]


def test_a_shallow_clone_takes_no_commit_for_that_of_another_release(released: Project, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    released.git("clone", "--quiet", "--no-tags", "--depth", "1", f"file://{released.root}", str(clone))
    found = snapshot.available(configuration.load(clone / "params.yaml"))
    assert {one.name: one.commit for one in found} == {"v2": released.git("rev-parse", "HEAD"), "v1": ""}


def test_a_revision_without_results_is_refused_and_leaves_nothing(released: Project) -> None:
    first = released.git("rev-list", "--max-parents=0", "HEAD")
    done = released.bench("snapshot", "open", first, check=False)
    assert done.returncode == 1
    assert "cannot be read by this version" in done.stdout
    unknown = released.bench("snapshot", "open", "v9", check=False)
    assert "listed releases: v1, v2" in unknown.stdout
    assert not list((released.root / ".snapshots").glob(".opening*"))


def test_refusals_say_which_and_change_nothing(project: Project) -> None:
    before = state(project)

    def refused(name: str = "v1") -> str:
        done = project.bench("snapshot", "publish", name, check=False)
        assert done.returncode == 1
        assert "Traceback" not in done.stdout
        assert state(project) == before
        return done.stdout

    assert "cannot name a release" in refused("no spaces")
    assert "cannot name a release" in refused("a..b")
    (project.root / "note.txt").write_text("x")
    before = state(project)
    assert "not clean: note.txt" in refused()
    (project.root / "note.txt").unlink()
    project.change(lambda parameters: parameters["statistics"].update(bootstrap=40))
    before = state(project)
    assert "not clean: params.yaml" in refused()
    project.commit("Not reproduced")
    before = state(project)
    assert "stages are not up to date: uncertainty" in refused()
    project.git("reset", "--quiet", "--hard", "HEAD~1")
    project.git("tag", "taken")
    before = state(project)
    assert "'taken' already" in refused("taken")


def test_a_release_above_its_limit_is_refused(built: Project) -> None:
    outputs = [snapshot.Output("results/a", "0", 1_000_000), snapshot.Output("results/big", "1", 7_500_000)]
    with pytest.raises(BenchError, match=r"are 8\.5 MB, a release may have 8 MB; largest: results/big 7\.5 MB, "):
        snapshot._check_size(outputs, 8, "max_mb")
    snapshot._check_size(outputs[1:], 8, "max_mb")
    listed = [output.path for output in snapshot._outputs(built.root)]
    assert "results/metrics.parquet" in listed
    assert not [path for path in listed if path.startswith(("results/logits", "metrics", "plots", "data"))]


@pytest.mark.parametrize("stop", ["commit", "tag"])
def test_a_failure_on_the_way_puts_everything_back(project: Project, stop: str) -> None:
    before = state(project)
    hooks = project.root / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    hook = hooks / {"commit": "pre-commit", "tag": "reference-transaction"}[stop]
    body = "exit 1" if stop == "commit" else "if grep -q refs/tags/; then exit 1; fi"
    hook.write_text(f"#!/bin/sh\n{body}\n")
    hook.chmod(0o755)
    done = project.bench("snapshot", "publish", "v1", check=False)
    assert done.returncode == 1
    assert "Nothing was released" in done.stdout
    hook.unlink()
    assert state(project) == before
    project.bench("snapshot", "publish", "v1")
    assert project.git("tag") == "v1"


def test_a_push_that_fails_releases_nothing(project: Project) -> None:
    shutil.rmtree(project.root / ".dvc" / "cache")
    before = state(project)
    done = project.bench("snapshot", "publish", "v1", check=False)
    assert done.returncode == 1
    assert state(project) == before


def test_aggregates_are_a_release_of_their_own_and_leave_the_tree_as_it_was(project: Project, tmp_path: Path) -> None:
    project.change(lambda parameters: parameters["statistics"].update(bootstrap=25))
    project.repro()
    changed = project.git("status", "--porcelain")
    assert "params.yaml" in changed
    project.bench("snapshot", "publish", "digits-only", "--aggregates", "digits")
    assert project.git("status", "--porcelain") == changed
    committed = project.git("show", "--format=", "--name-only", "HEAD").splitlines()
    assert {path.split("/")[0] for path in committed} == {"snapshots", "aggregates"}
    assert not any(path.endswith(".parquet") for path in committed)

    clone = Project(tmp_path / "clone")
    project.git("clone", "--quiet", "--no-tags", ".", str(clone.root))
    path = Path(clone.bench("snapshot", "open", "digits-only").stdout.strip())
    assert figures(path) == figures(project.root / "results" / database.FILE)
    stored = database.read_snapshot(path)
    assert stored is not None
    assert (stored["per_image"], stored["release"]) == ("no", "digits-only")
    assert stored["params"] == (project.root / "params.yaml").read_text() != (clone.root / "params.yaml").read_text()
    assert {stored[f"count:{table}"] for table in database.PER_IMAGE} == {"0"}
    assert int(stored["count:comparisons"]) > 0
    assert "aggregates" in clone.bench("snapshot", "list").stdout
    assert clone.git("status", "--porcelain") == ""
    made = path.stat().st_mtime_ns
    clone.bench("snapshot", "open", "digits-only")
    assert path.stat().st_mtime_ns == made

    clone.dvc("pull", "data.dvc")
    broken = next((clone.root / "aggregates" / "digits-only").glob("metrics.parquet"))
    broken.chmod(0o644)
    broken.write_bytes(broken.read_bytes() + b"x")
    path.unlink()
    assert "not those of its manifest" in clone.bench("snapshot", "open", "digits-only", check=False).stdout


def test_aggregates_that_cannot_be_released_change_nothing(project: Project) -> None:
    before = state(project)
    assert (
        "no suite 'cifar10'" in project.bench("snapshot", "publish", "x", "--aggregates", "cifar10", check=False).stdout
    )
    project.change(lambda parameters: parameters.update(release={"max_aggregates_mb": 1}))
    assert (
        "stages are not up" not in project.bench("snapshot", "publish", "x", "--aggregates", "oops", check=False).stdout
    )
    project.git("checkout", "--quiet", "params.yaml")
    assert state(project) == before
    assert not (project.root / "aggregates").exists()
    (project.root / "note.txt").write_text("x")
    assert (
        "not clean: note.txt" in project.bench("snapshot", "publish", "x", "--aggregates", "digits", check=False).stdout
    )
