"""`bench annotate commit`: events of the votes database become immutable files under data/annotations, tracked by DVC.

One file an annotator and sitting; what a sitting added after it was committed goes into a file of its own. Everything
is checked before anything is written, and on any failure nothing stays: the database keeps the events either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.config import Config
from bench.errors import BenchError
from bench.frames import Frame
from bench.relabel import events, votes
from bench.store import commands, provenance, tables

_DVC_FILE = "data.dvc"


@dataclass(frozen=True)
class Part:
    """The events that one new file will hold."""

    path: Path
    annotator: str
    sitting: str
    rows: Frame

    def about(self, root: Path) -> str:
        images = self.rows["sample_id"].nunique()
        return f"{self.path.relative_to(root)}: {len(self.rows):,} events of {self.annotator!r} on {images:,} images"


def pending(config: Config, store: votes.Store) -> list[Part]:
    """What the database holds beyond data/annotations, as the files that it would become.

    BenchError where an event is in both with another content.
    """
    committed: Frame = events.read(config.data / events.FOLDER)
    every: Frame = votes.events(store)
    both = every.merge(committed, on="event_id", suffixes=("", "_held"))
    for name in (field for field in events.FIELDS if field != "event_id"):
        other = both[name].astype(object).fillna("") != both[f"{name}_held"].astype(object).fillna("")
        if other.any():
            raise BenchError(
                f"event {both.loc[other, 'event_id'].iloc[0]} is in the database with another `{name}`.",
                where=config.data / events.FOLDER,
                remedy="Neither is ever edited by hand: restore the files with `dvc checkout data`, or the database "
                "from a copy.",
            )
    fresh = every.loc[~every["event_id"].isin(set(committed["event_id"]))]
    parts = []
    for (annotator, sitting), rows in fresh.groupby(["annotator", "sitting"], sort=True):
        folder = config.data / events.FOLDER / events.stem(str(annotator))
        parts.append(Part(_free(folder, events.stem(str(sitting))), str(annotator), str(sitting), rows))
    return parts


def _free(folder: Path, name: str) -> Path:
    """The file of a sitting, or where there is one already, of its next part."""
    number, path = 1, folder / f"{name}.jsonl"
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}.jsonl"
    return path


def status(config: Config) -> str:
    """What would be committed, a line a file, and what stands in the way."""
    parts = pending(config, votes.connect(config))
    lines = [part.about(config.root) for part in parts]
    lines += [f"{len(parts)} files to commit: `bench annotate commit`." if parts else _NOTHING]
    try:
        _check_clean(config.root, git=provenance.git(config.root, "rev-parse", "--git-dir") is not None)
    except BenchError as fault:
        lines += [f"Not as it stands: {fault}"]
    return "\n".join(lines)


_NOTHING = "Every vote is in data/annotations."


def run(config: Config, message: str = "", *, git: bool = True) -> str:
    """Write what is pending, track it with DVC and commit data.dvc; say what was written.

    BenchError, and nothing has changed, where nothing is pending, an event is about an image or class that there is
    not, data/ is not what data.dvc says, or data.dvc is changed or in conflict in git.
    """
    with _alone(config.root):
        _check_clean(config.root, git=git)  # first: what a killed one left behind is not committed, only written
        parts = pending(config, votes.connect(config))
        if not parts:
            raise BenchError(_NOTHING, where="bench annotate commit", remedy="Annotate on the dashboard first.")
        _check_known(config, parts)
        with _all_or_nothing(config.root, [part.path for part in parts], git=git):
            for part in parts:
                rows = part.rows[list(events.FIELDS)].astype(object)
                held: list[dict[Any, Any]] = rows.where(rows.notna(), None).to_dict("records")
                events.write(part.path, held)
            events.read(config.data / events.FOLDER)
            commands.dvc(config.root, "add", "--quiet", "data", remedy=_RETRY)
            if git:
                said = message or f"Annotations of {', '.join(sorted({part.annotator for part in parts}))}"
                commands.git(config.root, "add", "--", _DVC_FILE, remedy=_RETRY)
                commands.git(config.root, "commit", "--quiet", "--message", said, "--", _DVC_FILE, remedy=_RETRY)
    lines = [part.about(config.root) for part in parts]
    done = "committed" if git else "tracked by DVC, not yet in git"
    share = " Share them with `dvc push data.dvc` and `git push`." if git else ""
    return "\n".join([*lines, f"{len(parts)} files written and {done}. Next: `dvc repro`.{share}"])


_RETRY = "Nothing was committed, and the votes are safe in the database; put right what it says and try again."


def _check_known(config: Config, parts: list[Part]) -> None:
    samples: Frame = tables.read("samples", config.results / "samples.parquet")
    samples = samples.loc[samples["split"] == "test"]
    described: Frame = tables.read("datasets", config.results / "datasets.parquet")
    n_classes = dict(zip(described["dataset"], described["n_classes"], strict=True))
    dataset_of = dict(zip(samples["sample_id"], samples["dataset"], strict=True))
    for part in parts:
        if (fault := events.unknown(part.rows, dataset_of, n_classes)) is not None:
            raise BenchError(
                f"{part.annotator!r} judged what there is not: {fault}.",
                where=config.results / "samples.parquet",
                remedy="Its dataset was removed or changed: bring it back as it was, and commit.",
            )


def _check_clean(root: Path, *, git: bool) -> None:
    if git:
        changed = provenance.git(root, "status", "--porcelain", "--", _DVC_FILE)
        if changed is None:
            raise BenchError("is no git repository.", where=root, remedy="Run `git init`, or give --no-git.")
        if "U" in changed[:2] or changed[:2] in ("AA", "DD"):
            raise BenchError(
                "is in conflict in git.",
                where=root / _DVC_FILE,
                remedy="Take the merge back (`git merge --abort`), run `make setup`, after which git merges what only "
                "adds annotations, and merge again.",
            )
        for going_on in ("merge", "cherry-pick", "revert", "rebase"):
            if any(_there(root, name) for name in _GOING_ON[going_on]):
                raise BenchError(
                    f"a {going_on} is going on.", where=root, remedy=f"Finish it, or run `git {going_on} --abort`."
                )
        if changed:
            raise BenchError(
                "is changed, and not committed.",
                where=root / _DVC_FILE,
                remedy="Commit that first: `git add data.dvc` and `git commit data.dvc`, or take it back with "
                "`git checkout HEAD data.dvc`.",
            )
    said = commands.dvc(root, "status", "--json", _DVC_FILE, remedy=_RETRY)
    if said not in ("", "{}"):
        raise BenchError(
            "is not what data.dvc says: something under it was changed by hand, or not pulled.",
            where=root / "data",
            remedy="Take it back with `dvc checkout data.dvc --force` (or get it with `dvc pull data.dvc`), or keep it "
            "with `dvc add data` and `git commit data.dvc`.",
        )


_GOING_ON = {
    "merge": ("MERGE_HEAD",),
    "cherry-pick": ("CHERRY_PICK_HEAD",),
    "revert": ("REVERT_HEAD",),
    "rebase": ("rebase-merge", "rebase-apply"),
}
"""What git keeps in its folder while it is at work on something."""


def _there(root: Path, name: str) -> bool:
    path = provenance.git(root, "rev-parse", "--git-path", name)
    return path is not None and (root / path).exists()


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Wait until no one else commits annotations here: two at once would write the same files."""
    import fcntl

    path = root / votes.FOLDER / _LOCK
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


_LOCK = "commit.lock"


@contextmanager
def _all_or_nothing(root: Path, paths: list[Path], *, git: bool) -> Iterator[None]:
    """On any failure inside, Ctrl-C included, remove the new files and put data.dvc back, in git's index too.

    A failure after the commit is made (Ctrl-C while a hook runs) leaves it as it is: it is whole.
    """
    held = (root / _DVC_FILE).read_bytes()
    head = provenance.git(root, "rev-parse", "HEAD")
    try:
        yield
    except BaseException:
        if git and provenance.git(root, "rev-parse", "HEAD") != head:
            raise
        for path in paths:
            path.unlink(missing_ok=True)
            if path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()
        (root / _DVC_FILE).write_bytes(held)
        if git:
            provenance.git(root, "reset", "--quiet", "--", _DVC_FILE)
        raise
