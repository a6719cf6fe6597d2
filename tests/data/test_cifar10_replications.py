"""CIFAR-10.1 and 10.2, from generated files of the published layout: what is read is what was published, every fault is
named, and what a first fetch gives is what later ones must give."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from bench import cli
from bench.config import Config, load
from bench.data import cifar10, cifar10_replications, fetch, index, samples
from bench.data.cifar10_replications import PRESETS, Source
from bench.errors import BenchError
from bench.presets import merge
from bench.presets import preset as presets
from bench.store import tables
from tests.data import test_cifar10, test_fetch
from tests.data.test_imagenet import files

server = test_fetch.server
N = {"cifar10.1-v4": 13, "cifar10.1-v6": 12, "cifar10.2": 11}


def images(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


def labels(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.int32) % 10


def put(folder: Path, **changes: Any) -> Path:
    """Files in the published layout; `changes` are arrays of CIFAR-10.2 (None: left out)."""
    folder.mkdir(parents=True, exist_ok=True)
    for version in ("v4", "v6"):
        n = N[f"cifar10.1-{version}"]
        np.save(folder / f"cifar10.1_{version}_data.npy", images(n))
        np.save(folder / f"cifar10.1_{version}_labels.npy", labels(n))
    n = N["cifar10.2"]
    held = {"images": images(n), "labels": labels(n), "label_names": np.array(cifar10.CLASSES), "keywords": labels(n)}
    held |= changes
    np.savez(folder / "cifar102_test.npz", **{name: array for name, array in held.items() if array is not None})
    return folder


def pinned_to(folder: Path, monkeypatch: pytest.MonkeyPatch, url: str = "http://127.0.0.1:9") -> None:
    """Take the generated files for the published ones."""

    def known(name: str, source: Source) -> Source:
        return dataclasses.replace(
            source, files={file: tables.sha256(folder / file) for file in source.files}, n=N[name], url=url
        )

    for preset, sources in PRESETS.items():
        monkeypatch.setitem(PRESETS, preset, {name: known(name, source) for name, source in sources.items()})


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = put(tmp_path / "source")
    pinned_to(folder, monkeypatch)
    return folder


def test_the_published_sets_are_as_large_as_their_makers_say() -> None:
    found = {name: source.n for sources in PRESETS.values() for name, source in sources.items()}
    assert found == {"cifar10.1-v4": 2021, "cifar10.1-v6": 2000, "cifar10.2": 2000}
    for preset, sources in PRESETS.items():
        assert list(presets.load(preset).datasets) == list(sources)


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_written_is_what_was_published(source: Path, tmp_path: Path, preset: str) -> None:
    counts = cifar10_replications.write(cifar10_replications.read(source, preset), tmp_path / "out")
    assert counts == {"images": sum(N[name] for name in PRESETS[preset])}
    for name in PRESETS[preset]:
        folder = tmp_path / "out" / name
        meta = samples.load_meta(folder)
        assert (tuple(meta.classes), meta.label_space) == (cifar10.CLASSES, "cifar10")
        frame = samples.read_table(folder, 10)
        assert frame["sample_id"].tolist() == [f"{name}/{place:04d}" for place in range(N[name])]
        assert set(frame["split"]) == {"test"}
        assert frame["label"].tolist() == labels(N[name]).tolist()
        np.testing.assert_array_equal(samples.decode(frame, folder), images(N[name]).transpose(0, 3, 1, 2))
        shown = tables.read("images", folder / fetch.THUMBNAILS)
        assert shown["thumbnail"].tolist() == frame["image"].tolist()
    cifar10_replications.write(cifar10_replications.read(source, preset), tmp_path / "again")
    assert files(tmp_path / "out") == files(tmp_path / "again")


DATA, LABELS = "cifar10.1_v4_data.npy", "cifar10.1_v4_labels.npy"
CIFAR101_FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no images": (lambda f: (f / DATA).unlink(), r"v4_data\.npy: is missing"),
    "no labels": (lambda f: (f / LABELS).unlink(), r"v4_labels\.npy: is missing"),
    "cut off": (
        lambda f: (f / DATA).write_bytes((f / DATA).read_bytes()[:-1]),
        r"v4_data\.npy: cannot be read as an a",
    ),
    "nothing": (lambda f: (f / LABELS).write_bytes(b""), r"v4_labels\.npy: cannot be read as an array"),
    "a pickle": (
        lambda f: np.save(f / LABELS, np.array([{}], dtype=object), allow_pickle=True),
        r"v4_labels\.npy: cannot be read as an array",
    ),
    "an archive": (lambda f: (f / LABELS).write_bytes((f / "cifar102_test.npz").read_bytes()), "is an archive, not an"),
    "fewer images": (lambda f: np.save(f / DATA, images(12)), r"uint8 \(12, 32, 32, 3\), not uint8 \(13, 32, 32, 3\)"),
    "planes first": (lambda f: np.save(f / DATA, images(13).transpose(0, 3, 1, 2)), r"uint8 \(13, 3, 32, 32\), not"),
    "floats": (lambda f: np.save(f / DATA, images(13) / 255), r"its images are float64 \(13, 32, 32, 3\), not uint8"),
    "fewer labels": (lambda f: np.save(f / LABELS, labels(12)), r"int32 \(12,\), not 13 whole numbers"),
    "labels that are none": (lambda f: np.save(f / LABELS, labels(13) / 2), "float64 .*, not 13 whole numbers"),
    "a class above": (lambda f: np.save(f / LABELS, labels(13) + 1), r"v4_labels\.npy: has a label outside 0 to 9"),
    "a class below": (lambda f: np.save(f / LABELS, labels(13) - 1), "has a label outside 0 to 9"),
    "other labels": (lambda f: np.save(f / LABELS, labels(13)[::-1]), r"v4_labels\.npy: is not the published file"),
    "other images": (lambda f: np.save(f / DATA, images(13)[::-1]), r"v4_data\.npy: is not the published file"),
}


@pytest.mark.parametrize("fault", CIFAR101_FAULTS)
def test_a_fault_of_cifar_10_1_is_named(source: Path, fault: str) -> None:
    break_it, message = CIFAR101_FAULTS[fault]
    break_it(source)
    with pytest.raises(BenchError, match=message) as caught:
        cifar10_replications.read(source, "cifar10.1")
    assert "--from" in caught.value.remedy


def cut_off(folder: Path) -> None:
    path = folder / "cifar102_test.npz"
    path.write_bytes(path.read_bytes()[:5000])


CIFAR102_FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no file": (lambda f: (f / "cifar102_test.npz").unlink(), "is missing"),
    "cut off": (cut_off, "cannot be read as an archive of arrays"),
    "no labels": (lambda f: put(f, labels=None), "holds no `labels`"),
    "pickled labels": (lambda f: put(f, labels=np.array([{}], dtype=object)), "cannot be read as an archive of arrays"),
    "fewer labels": (lambda f: put(f, labels=labels(5)), r"int32 \(5,\), not 11 whole numbers"),
    "grey images": (lambda f: put(f, images=images(11)[..., 0]), r"uint8 \(11, 32, 32\), not uint8 \(11, 32, 32, 3\)"),
    "other classes": (lambda f: put(f, label_names=np.array(cifar10.CLASSES[::-1])), "in their order"),
    "other labels": (lambda f: put(f, labels=labels(11)[::-1]), "is not the published file"),
}


@pytest.mark.parametrize("fault", CIFAR102_FAULTS)
def test_a_fault_of_cifar_10_2_is_named(source: Path, fault: str) -> None:
    break_it, message = CIFAR102_FAULTS[fault]
    break_it(source)
    with pytest.raises(BenchError, match=rf"cifar102_test\.npz: .*{message}") as caught:
        cifar10_replications.read(source, "cifar10.2")
    assert "--from" in caught.value.remedy


def test_an_archive_that_unpacks_to_too_much_is_not_read(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10_replications, "MAX_BYTES", 1000)
    with pytest.raises(BenchError, match="unpacks to more than is expected"):
        cifar10_replications.read(source, "cifar10.2")


def test_a_fetch_from_the_official_source_goes_on_and_is_verified(
    tmp_path: Path, server: test_fetch.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(tmp_path / "source")
    pinned_to(folder, monkeypatch, server.url)
    server.files = {f"/{path.name}": path.read_bytes() for path in folder.iterdir()}
    server.files[f"/{DATA}"] = server.files[f"/{DATA}"][::-1]
    monkeypatch.setattr(fetch.time, "sleep", lambda _: None)
    with pytest.raises(BenchError, match=rf"{DATA}: is not the file that is pinned"):
        fetch.run(presets.load("cifar10.1"), tmp_path / "fetched")
    server.files[f"/{DATA}"] = server.files[f"/{DATA}"][::-1]
    server.cuts = [1000]
    said = fetch.run(presets.load("cifar10.1"), tmp_path / "fetched")
    assert (
        "25 images; its 8 files are pinned as they are now. `bench preset add cifar10.1` writes the pins down" in said
    )
    assert (f"/{DATA}", "bytes=1000-") in server.asked
    assert [path.name for path in (tmp_path / "fetched").iterdir()] == ["cifar10.1"], "downloads are removed"
    assert "all 8 files are as pinned. Nothing was done" in fetch.run(presets.load("cifar10.1"), tmp_path / "fetched")


@pytest.fixture
def project(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with CIFAR-10 of a few generated images, in it and the present folder."""
    root = tmp_path / "project"
    root.mkdir()
    small = test_cifar10.small(tmp_path / "cifar10")
    known = presets.load
    monkeypatch.setattr(presets, "load", lambda name: small if name == "cifar10" else known(name))
    (root / "params.yaml").write_text("# mine\nseed: 1\nsuites: {}\ndatasets: {}\nmodels: {}\n")
    monkeypatch.chdir(root)
    return root


def bench(*words: str) -> str:
    result = CliRunner().invoke(cli.app, list(words), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_the_first_fetch_pins_and_later_ones_are_held_to_it(
    project: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench("preset", "add", "cifar10", "--from", "../cifar10/source")
    before = (project / "params.yaml").read_bytes()
    with pytest.raises(BenchError, match=r"pinned by what it fetches.*bench data fetch cifar10\.2"):
        merge.add(project / "params.yaml", "cifar10.2")
    assert "1 dataset; not added; not fetched" in bench("preset", "list")
    assert "pinned as they are now" in bench("data", "fetch", "cifar10.2", "--from", "../source")
    said = bench("preset", "add", "cifar10.2")
    assert "1 dataset added" in said
    assert "Next: `dvc repro`." in said
    held = load().datasets["cifar10.2"]
    folder = project / "fetched" / "cifar10.2" / "cifar10.2"
    assert held.sha256 == samples.digest(folder)
    assert held.images == tables.sha256(folder / fetch.THUMBNAILS)
    assert (held.role, held.replicates, held.suite) == ("replication", "cifar10", "cifar10")
    assert index.run(load())["datasets"] == 2

    pinned = (project / "params.yaml").read_bytes()
    bench("preset", "remove", "cifar10.2", "--files")
    assert (project / "params.yaml").read_bytes() == before
    (project / "params.yaml").write_bytes(pinned)  # as in a clone: pinned, and not fetched
    assert "all 4 files are as params.yaml pins them" in bench("data", "fetch", "cifar10.2", "--from", "../source")
    put(source, images=images(11)[::-1])
    pinned_to(source, monkeypatch)
    assert "Nothing was done" in bench("data", "fetch", "cifar10.2", "--from", "../source")
    (folder / samples.SAMPLES).write_bytes(b"")
    with pytest.raises(BenchError, match=r"does not give what params\.yaml pins: cifar10\.2"):
        bench("data", "fetch", "cifar10.2", "--from", "../source")
    assert (folder / samples.SAMPLES).read_bytes() == b"", "nothing was written"
    bench("preset", "remove", "cifar10.2", "--files")
    assert (project / "params.yaml").read_bytes() == before


def test_what_is_here_but_is_not_what_params_pin_is_fetched_again(
    project: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench("preset", "add", "cifar10", "--from", "../cifar10/source")
    bench("preset", "add", "cifar10.1", "--from", "../source")
    pinned = yaml.safe_load((project / "params.yaml").read_text())["datasets"]["cifar10.1-v4"]["sha256"]
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace(pinned, "a" * 64))
    with pytest.raises(BenchError, match=r"does not give what params\.yaml pins: cifar10\.1-v4"):
        bench("data", "fetch", "cifar10.1", "--from", "../source")
    (project / "params.yaml").write_text(text)
    assert "all 8 files are as pinned. Nothing was done" in bench("data", "fetch", "cifar10.1")
    assert "changed since" not in bench("preset", "remove", "cifar10.1")
    assert isinstance(load(), Config)
