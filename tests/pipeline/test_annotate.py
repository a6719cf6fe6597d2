"""`bench annotate commit` in a real repository: what is written, what is refused, and two branches that meet again."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from pathlib import Path

import pytest

from bench import config as configuration
from bench.relabel import events, votes
from bench.store import tables
from tests.pipeline.project import SOURCE, Project

pytestmark = pytest.mark.pipeline


def annotate(
    project: Project, who: str, *images: int, sitting: str = "monday", yes: int = 0, undo: bool = False
) -> None:
    """Somebody says yes to one label of each of some images of optdigits; with `undo` the last is taken back."""
    store = votes.connect(configuration.load(project.root / "params.yaml"))
    ids = [f"optdigits/{i:03d}" for i in images]
    known = votes.Known("now", dict.fromkeys(ids, "optdigits"), {"optdigits": 10})
    answers = votes.Answer(yes, "yes", 1), votes.Answer(9, "no", 2)
    made = [
        votes.Submission(str(uuid.uuid4()), one, "annotate", answers, False, "<b>7?</b>", 5, "now", sitting)
        for one in ids
    ]
    if undo:
        back = votes.Submission(
            str(uuid.uuid4()), ids[-1], "annotate", (), False, "", 0, "now", sitting, "undo", made[-1].id
        )
        made.append(back)
    assert all(receipt.stored for receipt in votes.record(store, votes.Annotator(who), made, known))


def files(project: Project) -> dict[str, bytes]:
    folder = project.root / "data" / events.FOLDER
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in events.files(folder)}


def test_votes_become_files_that_never_change(project: Project) -> None:
    before = files(project)
    annotate(project, "Ada", 0, 1, undo=True)
    annotate(project, "../<Ben>", 0)
    said = project.bench("annotate", "status").stdout
    assert "8 events" in said or "7 events" in said
    assert "2 files to commit" in said
    assert files(project) == before
    said = project.bench("annotate", "commit").stdout
    assert "Next: `dvc repro`" in said
    first = files(project)
    assert len(first) == len(before) + 2
    assert before.items() <= first.items()
    assert project.git("status", "--porcelain") == ""
    assert project.git("show", "--format=%s", "--name-only", "HEAD").split("\n\n") == [
        "Annotations of ../<Ben>, Ada",
        "data.dvc",
    ]
    frame = events.read(project.root / "data" / events.FOLDER)
    ada = frame.loc[frame["annotator"] == "Ada"]
    assert len(ada) == 2 * 3 + 1, "what was taken back is kept"
    assert set(ada.loc[ada["counts"], "sample_id"]) == {"optdigits/000"}
    said = project.bench("annotate", "status").stdout
    assert "Every vote is in data/annotations" in said
    assert "Not as it stands" not in said

    annotate(project, "Ada", 2)  # the sitting goes on
    project.bench("annotate", "commit", "--message", "More")
    second = files(project)
    assert first.items() <= second.items()
    [new] = set(second) - set(first)
    assert new.endswith("-2.jsonl")
    assert project.git("show", "--no-patch", "--format=%s", "HEAD") == "More"
    assert project.repro("consensus") == ["consensus"]
    labels = tables.read("labels", project.root / "results" / "labels.parquet")
    mine = labels.loc[(labels["source"] == "consensus") & (labels["sample_id"] == "optdigits/000"), "class_id"]
    assert mine.tolist() == [0]


def refused(project: Project, *words: str) -> None:
    """`bench annotate commit` fails with these words, and changes nothing."""
    held, head, state = files(project), project.git("rev-parse", "HEAD"), project.git("status", "--porcelain")
    done = project.bench("annotate", "commit", check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    assert all(word in done.stdout for word in words), done.stdout
    assert (files(project), project.git("rev-parse", "HEAD"), project.git("status", "--porcelain")) == (
        held,
        head,
        state,
    )


def test_what_stands_in_the_way_is_said_with_a_remedy(project: Project) -> None:
    refused(project, "Every vote is in data/annotations", "Annotate on the dashboard")
    annotate(project, "Ada", 0)

    path = next((project.root / "data" / events.FOLDER).glob("*/*.jsonl"))
    text = path.read_text()
    path.chmod(0o644)
    path.write_text(text.replace('"ms_spent": 0', '"ms_spent": 7'))
    refused(project, "data", "dvc checkout")
    path.write_text(text)

    (project.root / "data" / "new.txt").write_text("x")
    refused(project, "is not what data.dvc says", "dvc checkout data.dvc")
    (project.root / "data" / "new.txt").unlink()

    tracked = project.root / "data.dvc"
    said = tracked.read_text()
    tracked.write_text(f"{said}# mine\n")
    refused(project, "is changed, and not committed", "git checkout HEAD data.dvc")
    assert "Not as it stands" in project.bench("annotate", "status").stdout
    tracked.write_text(said)

    samples = project.root / "results" / "samples.parquet"
    held = samples.read_bytes()
    frame = tables.read("samples", samples)
    tables.write("samples", frame.loc[frame["sample_id"] != "optdigits/000"], samples)
    refused(project, "judged what there is not", "'optdigits/000' is no test image here")
    samples.write_bytes(held)

    assert project.bench("annotate", "commit").returncode == 0


def test_a_failed_commit_leaves_nothing(project: Project) -> None:
    annotate(project, "Ada", 0)
    hook = project.root / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no commits today >&2\nexit 1\n")
    hook.chmod(0o755)
    refused(project, "no commits today", "the votes are safe in the database")
    hook.unlink()
    assert project.bench("annotate", "commit").returncode == 0


def test_two_branches_that_each_add_a_sitting_merge(project: Project, tmp_path: Path) -> None:
    shutil.copy(SOURCE / ".gitattributes", project.root)
    project.commit("Merge lists of files")
    [driver] = re.findall(r"git config merge\.dvc\.driver '\$\(BIN\)/(.*?)'", (SOURCE / "Makefile").read_text())
    project.git("config", "merge.dvc.driver", driver)
    base = files(project)
    project.git("checkout", "--quiet", "-b", "ada")
    annotate(project, "Ada", 0, yes=3)
    project.bench("annotate", "commit")
    ada = files(project)
    project.git("checkout", "--quiet", "main")
    project.dvc("checkout", "--quiet")
    assert files(project) == base
    (project.root / votes.FOLDER / votes.FILE).unlink()  # Ben's machine has another database
    annotate(project, "Ben", 0, yes=3)
    project.bench("annotate", "commit")
    ben = files(project)
    project.git("merge", "--quiet", "--no-edit", "ada")
    project.dvc("checkout", "--quiet")
    assert files(project) == ada | ben
    project.repro("consensus")
    decided = tables.read("consensus", project.root / "results" / "consensus.parquet")
    both = decided.loc[(decided["sample_id"] == "optdigits/000") & (decided["class_id"] == 3)].iloc[0]
    assert (both["n_yes"], both["state"], both["basis"]) == (2, "yes", "human")
    assert json.loads(next(iter(ada.values())).splitlines()[0])["event_id"]
