"""Aggregates of a suite: every table without rows of single images, and nothing of another suite."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest
import yaml

from bench.config import Config
from bench.errors import BenchError
from bench.store import aggregates, database, provenance, tables


def manifest(config: Config, name: str) -> dict[str, Any]:
    hashes = aggregates.hashes(config.root, name)
    return {
        "kind": aggregates.KIND,
        "snapshot_id": provenance.snapshot_id(hashes),
        "hashes": hashes,
        "facts": provenance.local_facts(config, hashes),
    }


def test_what_is_written_is_the_suite_without_single_images(own: Config) -> None:
    written = {path.stem for path in aggregates.write(own, "digits", "x")}
    every = {*database.SINGLE, *database.SHARDED, *database.IMPORTED}
    assert written == every - set(database.PER_IMAGE)
    for table in ("metrics", "replication", "comparisons"):
        kept = tables.read(table, aggregates.folder(own.root, "x") / f"{table}.parquet")
        assert len(kept) == len(tables.read(table, own.results / f"{table}.parquet")) > 0


def test_rows_of_another_suite_stay_out(own: Config) -> None:
    other = {name: d.model_copy(update={"suite": "other"}) for name, d in own.datasets.items() if name == "optdigits"}
    suites = {**own.suites, "other": own.suites["digits"].model_copy(update={"train": None})}
    changed = own.model_copy(update={"datasets": {**own.datasets, **other}, "suites": suites})
    aggregates.write(changed, "digits", "x")
    metrics = tables.read("metrics", aggregates.folder(own.root, "x") / "metrics.parquet")
    assert "optdigits" not in set(metrics["dataset"])
    assert "optdigits-full" in set(metrics["dataset"])
    with pytest.raises(BenchError, match=r"no suite 'cifar10'.*digits"):
        aggregates.write(own, "cifar10", "y")


def test_the_database_has_every_table_and_says_what_it_lacks(own: Config) -> None:
    aggregates.write(own, "digits", "x")
    said = manifest(own, "x")
    path = aggregates.open_release(own.root, "x", said)
    with duckdb.connect() as opened:
        opened.execute(f"ATTACH '{path}' AS bench (READ_ONLY)")
        opened.execute("USE bench")
        for table in (*database.PER_IMAGE, *database.DERIVED):
            assert opened.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        counts = opened.execute("SELECT count(*) FROM metrics").fetchone()
        assert counts == (len(tables.read("metrics", own.results / "metrics.parquet")),)
        assert opened.execute("SELECT value FROM snapshot WHERE key = 'per_image'").fetchall() == [("no",)]
    made = path.stat().st_mtime_ns
    assert aggregates.open_release(own.root, "x", said).stat().st_mtime_ns == made
    path.unlink()
    (aggregates.folder(own.root, "x") / "metrics.parquet").write_bytes(b"x")
    with pytest.raises(BenchError, match="not those of its manifest"):
        aggregates.open_release(own.root, "x", said)


CONDITIONS = ("clean", "attack:pgd-linf:8")


def test_single_images_under_some_conditions_and_all_in_bits(own: Config) -> None:
    paths = aggregates.write(own, "digits", "x", CONDITIONS)
    found = {path.stem: tables.read(path.stem, path) for path in paths}
    assert set(aggregates.SINGLE_IMAGES) < set(found)
    assert not {"images", "ballots", "votes", "consensus", "proposals"} & set(found)
    assert set(found["predictions"]["condition"]) == set(CONDITIONS)
    assert set(found["samples"]["split"]) == {"test"}
    assert set(found["attacks"]["attack_id"].str.split("/").str[1]) == {"8"}
    assert {"corruption:gaussian_blur:5", "clean"} < set(found["bits"]["condition"])
    for table in ("metrics", "bits", "comparisons"):
        assert set(found[table]["label_source"]) == {"original"}
    assert set(found["labels"]["source"]) == {"original"}
    for table in ("subsets", "subset_members"):
        every = set(tables.read(table, own.results / f"{table}.parquet")["subset"])
        assert every - set(found[table]["subset"]) == {"multi-label", "single-label"}, "of other sources of labels"
    assert set(found["models"]["source"]) == {"trained"}, "a column of the same name that says something else"
    with pytest.raises(BenchError, match=r"released with clean among the conditions"):
        aggregates.write(own, "digits", "y", CONDITIONS[1:])
    with pytest.raises(BenchError, match=r"nothing was predicted under attack:pgd-linf:3"):
        aggregates.write(own, "digits", "y", ["clean", "attack:pgd-linf:3"])


def test_checkpoints_are_those_of_trained_networks(own: Config) -> None:
    for name in own.models:
        (own.results / "checkpoints" / f"{name}.safetensors").write_bytes(name.encode())
    paths = aggregates.write(own, "digits", "x", CONDITIONS, checkpoints=True)
    kept = {path.stem: path.read_bytes().decode() for path in paths if path.suffix == ".safetensors"}
    assert kept == {name: name for name in ("supervised-cnn", "supervised-vit", "simclr-cnn", "mae-vit")}


def test_pictures_are_shown_where_they_were_fetched(own: Config) -> None:
    """They are never part of a release: the same one has none before the fetch, and all after it."""
    aggregates.write(own, "digits", "x", CONDITIONS)
    pictures = own.root / "fetched" / "scans" / "digits" / database.THUMBNAILS
    tables.write("images", tables.read("images", own.results / "images.parquet").head(7), pictures)
    said = manifest(own, "x")
    entry = {"role": "original", "suite": "digits", "fetched": "scans", "images": tables.sha256(pictures)}
    facts = {"suite": "digits", "per_image": "yes", "params": yaml.safe_dump({"datasets": {"digits": entry}})}
    said["facts"] = {**dict(said["facts"]), **facts}

    def shown() -> int:
        with duckdb.connect(str(aggregates.open_release(own.root, "x", said)), read_only=True) as opened:
            row = opened.execute("SELECT count(*) FROM images").fetchone()
        assert row is not None
        return int(row[0])

    content = pictures.read_bytes()
    assert shown() == 7
    pictures.write_bytes(b"other pictures")
    assert shown() == 0
    pictures.write_bytes(content)
    assert shown() == 7
    pictures.unlink()
    assert shown() == 0
