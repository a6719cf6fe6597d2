"""What a set of results says of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.config import Config
from bench.errors import BenchError
from bench.store import database, provenance


def test_versions_are_read_without_importing_anything_heavy() -> None:
    code = "import sys; from bench.store import provenance; provenance.versions(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "timm", "pandas", "duckdb", "dvc"} & set(done.stdout.split())
    assert set(provenance.versions()) == {"python", *provenance.PACKAGES}


def test_the_id_follows_the_results_and_nothing_else() -> None:
    one = {"a": {"a.parquet": "1"}, "b": {"b.parquet": "2"}}
    assert provenance.snapshot_id(one) == provenance.snapshot_id(dict(reversed(one.items())))
    assert provenance.snapshot_id(one) != provenance.snapshot_id({**one, "b": {"b.parquet": "3"}})
    assert len(provenance.snapshot_id(one)) == 12


def test_outside_git_the_commit_is_unknown(complete: Config) -> None:
    facts = provenance.facts(complete, database.hashes(complete))
    assert (facts["git_commit"], facts["git_dirty"], facts["dvc_lock_sha256"]) == ("unknown", "unknown", "none")


def test_results_of_a_release_carry_its_facts(own: Config) -> None:
    hashes = database.hashes(own)
    folder = own.root / "snapshots" / "releases"
    folder.mkdir(parents=True)
    manifest = {"hashes": hashes, "facts": {"git_commit": "abc", "schema": "old", "created": "then"}}
    (folder / "v1.json").write_text(json.dumps(manifest))
    listing = {"releases": [{"name": "v1", "manifest": "releases/v1.json"}]}
    (own.root / provenance.RELEASES).write_text(json.dumps(listing))
    facts = provenance.facts(own, hashes)
    assert facts == {"git_commit": "abc", "schema": provenance.schema_id(), "created": "then", "release": "v1"}
    assert database.stale(own) is not None
    stored = database.read_snapshot(database.ensure(own))
    assert stored is not None
    assert (stored["release"], stored["created"]) == ("v1", "then")
    assert database.stale(own) is None
    assert "release" not in provenance.facts(own, {**hashes, "ranks": {"ranks.parquet": "other"}})


@pytest.mark.parametrize("text", ["{", "[]", '{"releases": [{"name": "v1", "manifest": "releases/none.json"}]}'])
def test_a_broken_list_of_releases_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "snapshots").mkdir()
    (tmp_path / provenance.RELEASES).write_text(text)
    with pytest.raises(BenchError, match=r"releases\.json.*git checkout"):
        provenance.releases(tmp_path)
