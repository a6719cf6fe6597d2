"""Released results: publish them, list them, open one again without a checkout.

A release is a commit that holds, under snapshots/, every object that the results of that commit need, a manifest that
says what they are, and a tag. Objects that only earlier releases need leave the tree with it; they stay in the history,
from where `open_revision` reads them.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from bench import config as configuration
from bench.config import Config
from bench.errors import BenchError
from bench.store import aggregates, commands, database, provenance, tables

FOLDER = Path("snapshots")
MANIFESTS = FOLDER / "releases"
OBJECTS = FOLDER / "files" / "md5"
OPENED = aggregates.OPENED
OF_A_PRESET = ("params.yaml", "dvc.lock", "metrics.json", "plots/")
"""What `bench preset add` and the `dvc repro` after it change."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Snapshot:
    """One release. `path` is its database, None until `bench snapshot open` built it."""

    name: str
    commit: str
    created: str
    path: Path | None


@dataclass(frozen=True)
class Output:
    """One file or folder that DVC stores: path from the root, md5 and bytes as in dvc.lock."""

    path: str
    md5: str
    size: int


def publish(config: Config, name: str) -> str:
    """Release the current results as `name`; return the commit that the tag points to.

    In this order: push the outputs, write the manifest and the list of releases, remove superseded objects, commit all
    of snapshots/, tag. Raises BenchError, and changes nothing, on a bad or taken name, a dirty tree, stale stages, or
    outputs above `release.max_mb`; on any failure on the way snapshots/ and HEAD are put back.
    """
    root = config.root
    _check_name(root, name)
    _check_clean(root)
    _check_stages(root)
    outputs = _outputs(root)
    _check_size(outputs, config.release.max_mb, "max_mb")
    results_commit = _git(root, "rev-parse", "HEAD")
    with _all_or_nothing(root, results_commit, name):
        _dvc(root, "push", "--quiet", *_stages_and_data(root))
        _write_manifest(config, name, results_commit, outputs)
        remove_superseded(root)
        _commit(root, name, FOLDER)
    return _said(root, name, len(outputs), sum(output.size for output in outputs))


def publish_aggregates(
    config: Config, name: str, suite: str, conditions: Sequence[str] = (), *, checkpoints: bool = False
) -> str:
    """Release the current results of one suite, as `aggregates.write` makes them; return the commit of the tag.

    The tree must be clean but for what adding a preset and `dvc repro` change: these stay as they are, and the manifest
    holds the parameters. Raises BenchError, and changes nothing, as `publish`; limits: `release.max_aggregates_mb`
    without `conditions` and `release.max_single_images_mb` with them, `release.max_checkpoints_mb`.
    """
    root = config.root
    _check_name(root, name)
    _check_clean(root, but=OF_A_PRESET)
    _check_stages(root)
    commit = _git(root, "rev-parse", "HEAD")
    tracked = f"{(aggregates.FOLDER / name).as_posix()}.dvc"
    with _all_or_nothing(root, commit, name):
        paths = aggregates.write(config, suite, name, conditions, checkpoints=checkpoints)
        outputs = [Output(p.relative_to(root).as_posix(), "", p.stat().st_size) for p in paths]
        networks = [output for output in outputs if output.path.endswith(".safetensors")]
        rows = [output for output in outputs if output not in networks]
        kind = "max_single_images_mb" if conditions else "max_aggregates_mb"
        _check_size(rows, getattr(config.release, kind), kind)
        _check_size(networks, config.release.max_checkpoints_mb, "max_checkpoints_mb")
        _dvc(root, "add", "--quiet", aggregates.folder(root, name).relative_to(root).as_posix())
        _dvc(root, "push", "--quiet", tracked)
        hashes = aggregates.hashes(root, name)
        facts = provenance.local_facts(config, hashes) | {"git_dirty": "false", "suite": suite}
        facts["per_image"] = "yes" if conditions else "no"
        facts["conditions"] = ",".join(conditions)
        manifest: dict[str, Any] = {
            "kind": aggregates.KIND,
            "facts": facts | {"created": provenance.now()},
            "counts": {
                table: len(tables.read(table, aggregates.folder(root, name) / f"{table}.parquet")) for table in hashes
            },
        }
        if networks:
            manifest["checkpoints"] = {Path(one.path).stem: tables.sha256(root / one.path) for one in networks}
        _list_release(root, name, commit, hashes, outputs, manifest)
        _commit(root, name, FOLDER, aggregates.FOLDER)
    return _said(root, name, len(outputs), sum(output.size for output in outputs))


def _commit(root: Path, name: str, *folders: Path) -> None:
    """Commit these folders and nothing else, and tag the commit."""
    paths = [folder.as_posix() for folder in folders]
    _git(root, "add", "--all", "--", *paths)
    _git(root, "commit", "--quiet", "-m", f"Release {name}", "--", *paths)
    _git(root, "tag", "--annotate", "-m", f"Results released as {name}", name)


def _said(root: Path, name: str, n: int, size: int) -> str:
    """Say what was released; return its commit."""
    released = _git(root, "rev-parse", "HEAD")
    typer.echo(f"Released {name}: {n} outputs, {size / 1e6:.1f} MB, commit {released[:10]}.")
    typer.echo(f"Share it with `git push origin HEAD {name}`.")
    return released


def available(config: Config) -> list[Snapshot]:
    """Every listed release, the latest first."""
    found = []
    for name, manifest in provenance.releases(config.root).items():
        if manifest.get("kind") == aggregates.KIND:
            commit, path = manifest["results_commit"], aggregates.database_path(config.root, name)
        else:
            commit = _commit_of_release(config.root, name) or ""
            path = config.root / OPENED / commit / "results" / database.FILE
        found.append(Snapshot(name, commit, manifest["created"], path if commit and path.is_file() else None))
    return found[::-1]


def open_aggregates(config: Config) -> None:
    """Build the database of every listed release of aggregates, so that the dashboard can show them; seconds."""
    for name, manifest in provenance.releases(config.root).items():
        if manifest.get("kind") == aggregates.KIND:
            aggregates.open_release(config.root, name, manifest)


def show(config: Config) -> None:
    """Print every release: name, when, commit, test images, size, and whether it was opened here."""
    snapshots = available(config)
    if not snapshots:
        typer.echo("No release yet. `bench snapshot publish NAME` makes one.")
        return
    manifests = provenance.releases(config.root)
    for snapshot in snapshots:
        manifest = manifests[snapshot.name]
        size = f"{manifest['pushed_bytes'] / 1e6:.1f} MB"
        answers = manifest["counts"].get("predictions")
        counts = f"{manifest['counts']['models']} models, " + (f"{answers:,} predictions" if answers else "aggregates")
        opened = "opened" if snapshot.path else ""
        commit = snapshot.commit[:10] or "(not in this history)"
        typer.echo(f"{snapshot.name:<20} {snapshot.created}  {commit:<10}  {counts}, {size}  {opened}".rstrip())


def open_revision(config: Config, revision: str) -> Path:
    """The database of the results of a release, a tag or a commit, built under .snapshots/<commit>/; return its path.

    The results come through DVC from the remote as it was in that commit. Nothing in the working tree changes. Raises
    BenchError where there is no such revision, or it has no results or ones that this version cannot read.
    """
    root = config.root
    manifest = provenance.releases(root).get(revision, {})
    if manifest.get("kind") == aggregates.KIND:
        return aggregates.open_release(root, revision, manifest)
    commit = _resolve(root, revision)
    target = root / OPENED / commit
    built = target / "results" / database.FILE
    stored = database.read_snapshot(built)
    if stored is not None and stored.get("schema") == provenance.schema_id():
        return built
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".opening-") as scratch:
        clone, made = Path(scratch) / "clone", Path(scratch) / "made"
        _clone(root, commit, clone)
        try:
            _fetch(clone, made)
            then = configuration.load(made / "params.yaml")
            database.build_earlier(then, _facts_then(then, clone, commit))
        except BenchError as fault:
            raise BenchError(
                f"its results cannot be read by this version: {fault}",
                where=revision,
                remedy=f"Look at it with its own: `git worktree add ../{revision} {revision}`, `make dashboard` there.",
            ) from None
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
    return built


def remove_superseded(root: Path) -> list[Path]:
    """Remove the objects under snapshots/files that neither dvc.lock nor a tracked .dvc file needs; return them."""
    folder = root / OBJECTS
    needed = {output.md5 for output in _outputs(root, data=True)}
    for listing in [md5 for md5 in needed if md5.endswith(".dir")]:
        path = folder / listing[:2] / listing[2:]
        if path.is_file():
            needed |= {entry["md5"] for entry in json.loads(path.read_text())}
    gone = [p for p in sorted(folder.glob("??/*")) if p.is_file() and p.parent.name + p.name not in needed]
    for path in gone:
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    return gone


def _check_name(root: Path, name: str) -> None:
    bad = NAME.fullmatch(name) is None or provenance.git(root, "check-ref-format", f"refs/tags/{name}") is None
    if bad:
        remedy = "Use letters, digits, dots, dashes and underscores, e.g. digits-v1."
        raise BenchError(f"{name!r} cannot name a release.", remedy=remedy)
    if provenance.git(root, "rev-parse", "--git-dir") is None:
        raise BenchError("is not a git repository.", where=root, remedy="Publish from a clone.")
    taken = provenance.git(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{name}") is not None
    if taken or name in provenance.releases(root):
        raise BenchError(f"there is a release or tag {name!r} already.", remedy="Choose another name.")


def _check_clean(root: Path, but: tuple[str, ...] = ()) -> None:
    """No file is changed or new, `but` these and what lies in these folders (which end in `/`)."""
    changed = [line[3:] for line in (provenance.git(root, "status", "--porcelain") or "").splitlines()]
    changed = [
        path for path in changed if path not in but and not path.startswith(tuple(b for b in but if b[-1] == "/"))
    ]
    if changed:
        listed = ", ".join(changed[:5]) + (", ..." if len(changed) > 5 else "")
        raise BenchError(
            f"the working tree is not clean: {listed}.", remedy="Commit (or remove) these, then publish again."
        )


def _check_stages(root: Path) -> None:
    if not (root / "dvc.lock").is_file():
        raise BenchError("there are no results to release.", where="dvc.lock", remedy="Run `make repro` and commit it.")
    status = json.loads(_dvc(root, "status", "--json", *_stages_and_data(root)))
    if status:
        listed = ", ".join(list(status)[:5]) + (", ..." if len(status) > 5 else "")
        raise BenchError(
            f"stages are not up to date: {listed}.", remedy="Run `dvc repro`, commit dvc.lock, then publish again."
        )


def _stages_and_data(root: Path) -> list[str]:
    """What DVC is asked about here: not the aggregates of other releases, which need not have been pulled."""
    return [name for name in ("dvc.yaml", "data.dvc") if (root / name).is_file()]


def _check_size(outputs: list[Output], megabytes: int, key: str) -> None:
    total = sum(output.size for output in outputs)
    if total > megabytes * 1e6:
        largest = sorted(outputs, key=lambda output: -output.size)[:5]
        listed = ", ".join(f"{output.path} {output.size / 1e6:.1f} MB" for output in largest)
        raise BenchError(
            f"the outputs are {total / 1e6:.1f} MB, a release may have {megabytes} MB; largest: {listed}.",
            remedy=f"Make them smaller, or raise `release.{key}` in params.yaml.",
        )


def _outputs(root: Path, *, data: bool = False) -> list[Output]:
    """What stages wrote and DVC stores, with `data` also what .dvc files stand for. Sorted by path.

    Outputs that DVC does not store (`cache: false`) are not among them.
    """
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        found = [
            Output(out.def_path, str(out.hash_info.value), out.meta.size or 0)
            for out in repo.index.outs
            if out.use_cache and out.hash_info and out.meta and (data or not out.stage.is_data_source)
        ]
    return sorted(found, key=lambda output: output.path)


def _write_manifest(config: Config, name: str, results_commit: str, outputs: list[Output]) -> None:
    hashes = database.hashes(config)
    stored = database.read_snapshot(database.ensure(config)) or {}
    facts = provenance.facts(config, hashes) | {"created": provenance.now()}
    facts.pop("release", None)
    counts = {key.removeprefix("count:"): int(n) for key, n in stored.items() if key.startswith("count:")}
    _list_release(config.root, name, results_commit, hashes, outputs, {"facts": facts, "counts": counts})


def _list_release(
    root: Path, name: str, commit: str, hashes: provenance.Hashes, outputs: list[Output], more: dict[str, Any]
) -> None:
    """Write the manifest of a release and add it to the list."""
    created = more["facts"]["created"]
    manifest = {
        "name": name,
        "created": created,
        "results_commit": commit,
        "snapshot_id": provenance.snapshot_id(hashes),
        **more,
        "hashes": hashes,
        "pushed": [{"path": output.path, "md5": output.md5, "size": output.size} for output in outputs],
        "pushed_bytes": sum(output.size for output in outputs),
    }
    path = root / MANIFESTS / f"{name}.json"
    _write_json(path, manifest)
    entry = {"name": name, "manifest": path.relative_to(root / FOLDER).as_posix()}
    entry |= {"created": created, "snapshot_id": manifest["snapshot_id"], "sha256": tables.sha256(path)}
    listing = root / provenance.RELEASES
    earlier = json.loads(listing.read_text())["releases"] if listing.is_file() else []
    _write_json(listing, {"releases": [*earlier, entry]})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with tables.replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


@contextmanager
def _all_or_nothing(root: Path, commit: str, tag: str) -> Iterator[None]:
    """On any failure inside, Ctrl-C included, put HEAD, snapshots/ and aggregates/ back to `commit`, without `tag`.

    These folders were clean before, and there was no such tag.
    """
    try:
        yield
    except BaseException:
        provenance.git(root, "tag", "--delete", tag)
        _git(root, "reset", "--quiet", "--soft", commit)
        for folder in (FOLDER.as_posix(), aggregates.FOLDER.as_posix()):
            _git(root, "reset", "--quiet", "--", folder)
            if provenance.git(root, "ls-files", "--", folder):
                _git(root, "checkout", "--quiet", "--", folder)
        _git(root, "clean", "-qfdx", "--", FOLDER.as_posix())
        shutil.rmtree(aggregates.folder(root, tag), ignore_errors=True)
        _git(root, "clean", "-qfd", "--", aggregates.FOLDER.as_posix())
        raise


def _resolve(root: Path, revision: str) -> str:
    found = provenance.git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    found = found or _commit_of_release(root, revision)
    if not found:
        known = ", ".join(provenance.releases(root)) or "none"
        raise BenchError(
            f"there is no release, tag or commit {revision!r} in this clone; listed releases: {known}.",
            remedy="Fetch it: `git fetch --tags` (and `--unshallow` in a shallow clone).",
        )
    return found


def _commit_of_release(root: Path, name: str) -> str | None:
    """The commit that a listed release was made with: its tag's, or where tags were not fetched, its manifest's.

    In a shallow clone the oldest commit seems to add every file: a commit counts only if its results are the release's.
    """
    manifest = provenance.releases(root).get(name)
    if manifest is None:
        return None
    tagged = provenance.git(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{name}^{{commit}}")
    path = (MANIFESTS / f"{name}.json").as_posix()
    commit = tagged or provenance.git(root, "log", "-1", "--diff-filter=A", "--format=%H", "--", path)
    if not commit:
        return None
    lock = subprocess.run(["git", "-C", str(root), "show", f"{commit}:dvc.lock"], capture_output=True, check=False)
    same = hashlib.sha256(lock.stdout).hexdigest() == manifest["facts"]["dvc_lock_sha256"]
    return commit if tagged or same else None


def _clone(root: Path, commit: str, clone: Path) -> None:
    """A scratch clone at `commit`: an embedded remote is then the one of that commit, superseded objects included."""
    _git(root, "clone", "--quiet", "--shared", "--no-checkout", str(root), str(clone))
    _git(clone, "checkout", "--quiet", "--detach", commit)
    private = root / ".dvc" / "config.local"
    if private.is_file():
        shutil.copy(private, clone / ".dvc" / private.name)


def _fetch(clone: Path, made: Path) -> None:
    """Copy params.yaml and every Parquet file that the database is made from, through DVC, to `made`."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException

    made.mkdir()
    shutil.copy(clone / "params.yaml", made / "params.yaml")
    filesystem = DVCFileSystem(str(clone))
    try:
        for path in filesystem.find("results"):
            if path.endswith(".parquet") and "/logits/" not in path:
                (made / path).parent.mkdir(parents=True, exist_ok=True)
                filesystem.get_file(path, str(made / path))
    except (DvcException, OSError) as fault:
        raise BenchError(f"{fault}.", where="results", remedy="Has it been released (pushed)?") from None
    finally:
        filesystem.close()


def _facts_then(config: Config, clone: Path, commit: str) -> dict[str, str]:
    """The facts of results of another commit: its manifest's where it lists them, else what the commit itself says."""
    hashes = database.hashes(config, earlier=True)
    released = provenance.released_facts(clone, hashes)
    return released or {
        "snapshot_id": provenance.snapshot_id(hashes),
        "schema": provenance.schema_id(),
        "git_commit": commit,
        "git_dirty": "false",
        "dvc_lock_sha256": tables.sha256(clone / "dvc.lock"),
        "params": (clone / "params.yaml").read_text(),
    }


def _git(root: Path, *arguments: str) -> str:
    return commands.git(root, *arguments, remedy=_REMEDY)


def _dvc(root: Path, *arguments: str) -> str:
    return commands.dvc(root, *arguments, remedy=_REMEDY)


_REMEDY = "Nothing was released; put right what it says and try again."
