"""`bench annotate commit` where something else is going on: another one, a merge, a kill, Ctrl-C. In git and DVC."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bench import config as configuration
from bench.config import Config
from bench.errors import BenchError
from bench.relabel import commit, events, votes
from bench.store import commands
from tests import factory
from tests.pipeline.project import environment

IMAGE = "digits-noisy/{:05d}"


@pytest.fixture(autouse=True)
def _nobodys_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in environment(tmp_path / "repository").items():
        if key.startswith(("GIT_", "DVC_")):
            monkeypatch.setenv(key, value)


def git(config: Config, *arguments: str, check: bool = True) -> str:
    return _run(config.root, "git", *arguments, check=check)


def dvc(config: Config, *arguments: str) -> str:
    return commands.dvc(config.root, *arguments, remedy="")


def _run(root: Path, *command: str, check: bool = True) -> str:
    done = subprocess.run(command, cwd=root, text=True, capture_output=True, check=False, env=environment(root))
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with results and one file of annotations, all of it committed. Not to be changed."""
    root = tmp_path_factory.mktemp("commit") / "repository"
    config = factory.make_results(root, n=20, annotated=True)
    (root / ".gitignore").write_text("/results/\n/.annotations/\n/data\n")
    git(config, "init", "--quiet", "--initial-branch=main")
    for arguments in (("init", "--quiet"), ("add", "--quiet", "data")):
        _run(root, "dvc", *arguments)
    git(config, "add", "--all")
    git(config, "commit", "--quiet", "--message", "Results")
    return root


@pytest.fixture
def config(made: Path, tmp_path: Path) -> Config:
    shutil.copytree(made, tmp_path / "repository", symlinks=True)
    return configuration.load(tmp_path / "repository" / "params.yaml")


def annotate(config: Config, who: str, *images: int, sitting: str = "monday", comment: str = "") -> None:
    known = votes.Known("now", {IMAGE.format(i): "digits-noisy" for i in range(20)}, {"digits-noisy": 10})
    made = [
        votes.Submission(
            str(uuid.uuid4()),
            IMAGE.format(i),
            "annotate",
            (votes.Answer(0, "yes", 1),),
            False,
            comment,
            5,
            "now",
            sitting,
        )
        for i in images
    ]
    receipts = votes.record(votes.connect(config), votes.Annotator(who), made, known)
    assert all(receipt.stored for receipt in receipts)


def state(config: Config) -> tuple[Any, ...]:
    folder = config.data / events.FOLDER
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    tracked = (config.root / "data.dvc").read_bytes()
    return files, tracked, git(config, "rev-parse", "HEAD"), git(config, "status", "--porcelain")


def refused(config: Config, *words: str) -> None:
    """The commit fails with these words, and changes nothing."""
    before = state(config)
    with pytest.raises(BenchError) as caught:
        commit.run(config)
    assert all(word in str(caught.value) for word in words), caught.value
    assert caught.value.remedy
    assert state(config) == before


def test_two_at_once_do_not_undo_each_other(config: Config) -> None:
    annotate(config, "Ada", 0, 1)

    def run(_: int) -> str:
        try:
            return commit.run(config)
        except BenchError as fault:
            return fault.what

    with ThreadPoolExecutor(2) as pool:
        said = sorted(pool.map(run, range(2)), key=len)
    assert "Every vote is in data/annotations" in said[0]
    assert "1 files written and committed" in said[1]
    assert git(config, "status", "--porcelain") == ""
    assert dvc(config, "status", "--json", "data.dvc") == "{}"
    assert len(events.read(config.data / events.FOLDER).query("annotator == 'Ada' and sitting == 'monday'")) == 2


def test_what_a_killed_one_left_behind_is_not_taken_for_committed(config: Config) -> None:
    annotate(config, "Ada", 0)
    [part] = commit.pending(config, votes.connect(config))
    rows = part.rows[list(events.FIELDS)].astype(object)
    events.write(part.path, rows.where(rows.notna(), None).to_dict("records"))  # killed here
    refused(config, "is not what data.dvc says", "dvc checkout data.dvc --force")
    assert "Not as it stands" in commit.status(config)
    dvc(config, "checkout", "--quiet", "data.dvc", "--force")
    assert "1 files written and committed" in commit.run(config)


@pytest.mark.parametrize("step", ["dvc", "git"])
def test_ctrl_c_leaves_nothing(config: Config, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    annotate(config, "Ada", 0)
    before, real = state(config), getattr(commands, step)

    def interrupted(root: Path, *arguments: str, remedy: str) -> str:
        said = real(root, *arguments, remedy=remedy)
        if arguments[0] == "add":
            raise KeyboardInterrupt
        return said

    with monkeypatch.context() as patched:
        patched.setattr(commands, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            commit.run(config)
    assert state(config) == before
    assert dvc(config, "status", "--json", "data.dvc") == "{}"
    assert "1 files written and committed" in commit.run(config)


def test_ctrl_c_after_the_commit_leaves_it_whole(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    annotate(config, "Ada", 0)
    real = commands.git

    def interrupted(root: Path, *arguments: str, remedy: str) -> str:
        said = real(root, *arguments, remedy=remedy)
        if arguments[0] == "commit":
            raise KeyboardInterrupt
        return said

    monkeypatch.setattr(commands, "git", interrupted)
    with pytest.raises(KeyboardInterrupt):
        commit.run(config)
    assert git(config, "status", "--porcelain") == ""
    assert commit.pending(config, votes.connect(config)) == []


def test_a_merge_or_a_conflict_stands_in_the_way(config: Config) -> None:
    git(config, "checkout", "--quiet", "-b", "other")
    (config.root / "data.dvc").write_text((config.root / "data.dvc").read_text().replace("size: ", "size: 1"))
    git(config, "commit", "--quiet", "--all", "--message", "Theirs")
    git(config, "checkout", "--quiet", "-b", "aside", "main")
    (config.root / "note.txt").write_text("x")
    git(config, "add", "note.txt")
    git(config, "commit", "--quiet", "--message", "Aside")
    git(config, "checkout", "--quiet", "main")
    annotate(config, "Ada", 0)
    git(config, "merge", "--quiet", "--no-commit", "--no-ff", "aside")
    refused(config, "a merge is going on", "git merge --abort")
    git(config, "merge", "--abort")

    commit.run(config)
    annotate(config, "Ada", 1)
    git(config, "merge", "--quiet", "other", check=False)
    refused(config, "data.dvc", "is in conflict", "git merge --abort", "make setup")
    git(config, "merge", "--abort")
    assert "1 files written and committed" in commit.run(config)


@pytest.mark.parametrize(
    ("name", "said"), [("CHERRY_PICK_HEAD", "cherry-pick"), ("REVERT_HEAD", "revert"), ("rebase-merge/x", "rebase")]
)
def test_so_does_what_git_is_in_the_middle_of(config: Config, name: str, said: str) -> None:
    annotate(config, "Ada", 0)
    path = config.root / ".git" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(git(config, "rev-parse", "HEAD"))
    refused(config, f"a {said} is going on", f"git {said} --abort")


def test_missing_results_and_other_content_stand_in_the_way(config: Config) -> None:
    annotate(config, "Ada", 0)
    samples = config.results / "samples.parquet"
    samples.rename(f"{samples}.away")
    refused(config, "samples.parquet", "dvc repro")
    Path(f"{samples}.away").rename(samples)

    commit.run(config)
    annotate(config, "Ada", 1)
    with votes.connect(config).engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE events SET class_id = 3 WHERE sample_id = '{IMAGE.format(0)}'")
    refused(config, "in the database with another `class_id`", "from a copy")


def test_only_annotations_are_committed(config: Config) -> None:
    (config.root / "mine.txt").write_text("not yet")
    git(config, "add", "mine.txt")
    annotate(config, "Ada", 0)
    commit.run(config)
    assert git(config, "show", "--format=", "--name-only", "HEAD") == "data.dvc"
    assert git(config, "status", "--porcelain") == "A  mine.txt"


def test_without_git_only_dvc_is_told(config: Config) -> None:
    head = git(config, "rev-parse", "HEAD")
    annotate(config, "Ada", 0)
    assert "tracked by DVC, not yet in git" in commit.run(config, git=False)
    assert git(config, "rev-parse", "HEAD") == head
    annotate(config, "Ada", 1)
    refused(config, "is changed, and not committed", "git commit data.dvc")
    assert "tracked by DVC" in commit.run(config, git=False)
    files = sorted(path.stem for path in (config.data / events.FOLDER / events.stem("Ada")).glob("monday-*"))
    assert files == [events.stem("monday"), f"{events.stem('monday')}-2"]


TEXT = "<script>x</script> '; DROP TABLE events; -- ../../x \u2028\u2029\x85\x0b \u202e🦊\n“7”"


def test_tricks_come_out_as_text_in_files_inside_the_folder(config: Config) -> None:
    for who in ("../../x", "CON", "<b>x</b>", "'; DROP TABLE events; --", "名前 🦊", "x" * 60):
        annotate(config, votes.clean(who), 0, sitting=f"../{who}", comment=TEXT)
    commit.run(config)
    folder = config.data / events.FOLDER
    frame = events.read(folder).query("action == 'comment' and snapshot == 'now'")
    assert frame["comment"].tolist() == [TEXT] * 6
    written = [path for path in config.data.rglob("*") if path.is_file()]
    assert all(path.parent.parent == folder for path in written if path.suffix == ".jsonl")
    assert {path.stem.split("-")[0] for path in events.files(folder)}.isdisjoint({"", ".", ".."})
    assert git(config, "status", "--porcelain") == ""
