"""CIFAR-10N, from generated files of the published layout: each label goes to the image that it was given to, whatever
is not what was published is named, and a head is fitted on what a source says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from bench.config import load
from bench.data import cifar10, cifar10n, fetch, index, samples
from bench.errors import BenchError
from bench.presets import merge
from bench.presets import preset as presets
from bench.store import tables
from tests.data import test_cifar10, test_fetch
from tests.data.test_cifar10_replications import bench
from tests.data.test_imagenet import files

server = test_fetch.server
CLEAN = test_cifar10.TRAIN_LABELS.astype(np.int64)
WRONG = {"cifar10n-aggregate": 1, "cifar10n-random1": 2, "cifar10n-random2": 3, "cifar10n-random3": 4}
WRONG |= {"cifar10n-worst": 6}


def arrays(**changes: Any) -> dict[str, Any]:
    """As published, of the generated training images: the last labels of each source are the next class."""
    held: dict[str, Any] = {cifar10n.CLEAN: CLEAN}
    for source, name in cifar10n.SOURCES.items():
        held[name] = CLEAN.copy()
        held[name][-WRONG[source] :] = (CLEAN[-WRONG[source] :] + 1) % 10
    return {name: value for name, value in (held | changes).items() if value is not None}


def put(folder: Path, **changes: Any) -> Path:
    torch.save(arrays(**changes), folder / cifar10n.FILE)
    return folder


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    percent = {name: 100 * n / len(CLEAN) for name, n in WRONG.items()}
    monkeypatch.setattr(cifar10n, "WRONG_PERCENT", percent)
    return put(test_cifar10.official(tmp_path / "source"))


def test_what_is_wrong_of_each_source_is_what_was_published() -> None:
    assert cifar10n.WRONG_PERCENT == {
        "cifar10n-aggregate": 9.03,
        "cifar10n-random1": 17.23,
        "cifar10n-random2": 18.12,
        "cifar10n-random3": 17.64,
        "cifar10n-worst": 40.21,
    }
    assert list(presets.load("cifar10n").noisy_labels) == list(cifar10n.SOURCES)


def test_each_label_goes_to_the_image_that_it_was_given_to(source: Path, tmp_path: Path) -> None:
    cifar10.write(cifar10.read(source), tmp_path / "fetched")
    counts = cifar10n.write(cifar10n.read(source), tmp_path / "out")
    assert counts == {"sources of labels": 5, "labels": 5 * len(CLEAN)}
    whole = samples.read_table(tmp_path / "fetched" / "cifar10", 10)
    train = whole.loc[whole["split"] == "train"]
    pixels = samples.decode(train, tmp_path).transpose(0, 2, 3, 1)
    for name, key in cifar10n.SOURCES.items():
        found = tables.read("labels", tmp_path / "out" / "noisy_labels" / f"{name}.parquet")
        assert set(found["source"]) == {name}
        said = found.set_index("sample_id")["class_id"].loc[train["sample_id"]].tolist()
        by_image: dict[bytes, list[int]] = {}
        for image, label in zip(test_cifar10.TRAIN_IMAGES, arrays()[key].tolist(), strict=True):
            by_image.setdefault(image.tobytes(), []).append(label)
        for image, label in zip(pixels, said, strict=True):
            by_image[image.tobytes()].remove(label)
        assert not any(by_image.values())
        assert int((np.array(said) != train["label"].to_numpy()).sum()) == WRONG[name]
    cifar10n.write(cifar10n.read(source), tmp_path / "again")
    assert files(tmp_path / "out") == files(tmp_path / "again")


def test_tensors_and_other_whole_numbers_will_do(source: Path) -> None:
    expected = cifar10n.read(source).labels["cifar10n-worst"]
    for kind in (torch.from_numpy, lambda array: array.astype(np.int32), lambda array: array.astype(np.uint8)):
        put(source, worse_label=kind(arrays()["worse_label"]))
        np.testing.assert_array_equal(cifar10n.read(source).labels["cifar10n-worst"], expected)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("evil"),)


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no file": (lambda f: (f / cifar10n.FILE).unlink(), r"human\.pt: is missing"),
    "no archive": (lambda f: (f / cifar10.ARCHIVE).unlink(), "holds neither cifar-10-binary"),
    "nothing": (lambda f: (f / cifar10n.FILE).write_bytes(b""), "cannot be read as arrays"),
    "cut off": (
        lambda f: (f / cifar10n.FILE).write_bytes((f / cifar10n.FILE).read_bytes()[:200]),
        "cannot be read as arrays",
    ),
    "something that runs": (lambda f: torch.save({"worse_label": Evil()}, f / cifar10n.FILE), "cannot be read as arr"),
    "a list": (lambda f: torch.save([1], f / cifar10n.FILE), "is no dict of arrays"),
    "no worst": (lambda f: put(f, worse_label=None), "its `worse_label` is no array"),
    "fewer": (lambda f: put(f, aggre_label=CLEAN[1:]), r"its `aggre_label` is int64 \(\d+,\), not \d+ whole numbers"),
    "shares": (lambda f: put(f, aggre_label=CLEAN / 2), "cannot be read as arrays of whole numbers"),
    "a class above": (lambda f: put(f, random_label1=CLEAN + 1), "its `random_label1` has a label outside 0 to 9"),
    "a class below": (lambda f: put(f, random_label1=CLEAN - 1), "has a label outside 0 to 9"),
    "another order": (
        lambda f: put(f, clean_label=np.roll(CLEAN, 1)),
        "its clean labels are not those of the training",
    ),
    "fewer mistakes": (lambda f: put(f, worse_label=CLEAN), "0.00 % of its `worse_label` are wrong, not 40.0 % as p"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_what_was_published_is_refused(
    source: Path, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    change, said = FAULTS[fault]
    change(source)
    with pytest.raises(BenchError, match=said):
        cifar10n.read(source)
    assert not Path("evil").exists()


def test_tables_in_another_order_are_refused_and_in_the_published_one_they_will_do(
    source: Path, tmp_path: Path
) -> None:
    import pandas as pd

    (source / cifar10.ARCHIVE).unlink()
    rows = {"label": CLEAN, "image": [*map(test_cifar10.webp, test_cifar10.TRAIN_IMAGES)]}
    pd.DataFrame(rows).to_parquet(source / "train.parquet")
    assert len(cifar10n.read(source).ids) == len(CLEAN)
    pd.DataFrame(rows).iloc[::-1].to_parquet(source / "train.parquet")
    with pytest.raises(BenchError, match="its clean labels are not those of the training images beside it"):
        cifar10n.read(source)


def test_a_fetch_from_the_official_sources(
    source: Path, tmp_path: Path, server: test_fetch.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files = {f"/{path.name}": path.read_bytes() for path in source.iterdir()}
    monkeypatch.setattr(cifar10n, "URL", f"{server.url}/{cifar10n.FILE}")
    monkeypatch.setattr(cifar10, "ARCHIVE_URL", f"{server.url}/{cifar10.ARCHIVE}")
    monkeypatch.setattr(cifar10, "COUNTS_URL", f"{server.url}/{cifar10.COUNTS}")
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5((source / cifar10.ARCHIVE).read_bytes()).hexdigest())
    said = fetch.run(presets.load("cifar10n"), tmp_path / "fetched")
    assert "5 sources of labels, 75 labels; its 5 files are pinned as they are now" in said
    assert "all 5 files are as pinned. Nothing was done" in fetch.run(presets.load("cifar10n"), tmp_path / "fetched")


def test_the_first_fetch_pins_and_models_are_evaluated_by_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "project"
    root.mkdir()
    small, known = test_cifar10.small(tmp_path / "cifar10"), presets.load
    monkeypatch.setattr(presets, "load", lambda name: small if name == "cifar10" else known(name))
    (root / "params.yaml").write_text("seed: 1\nsuites: {}\ndatasets: {}\nmodels: {}\nnoisy_labels: {}\n")
    monkeypatch.chdir(root)
    bench("preset", "add", "cifar10", "--from", "../cifar10/source")
    before = (root / "params.yaml").read_bytes()
    index.run(load())
    file = root / "results" / "index" / "probe" / "cifar10.json"
    assert json.loads(file.read_text())["noisy_labels"] == {}
    others = root / "results" / "index" / "evaluate" / "cifar10.json"
    answered = others.read_bytes()

    with pytest.raises(BenchError, match=r"pinned by what it fetches.*bench data fetch cifar10n"):
        merge.add(root / "params.yaml", "cifar10n")
    bench("data", "fetch", "cifar10n", "--from", "../source")
    assert "5 sources added" in bench("preset", "add", "cifar10n")
    config = load()
    paths = config.noisy_labels_of("cifar10")
    assert list(paths) == list(cifar10n.SOURCES)
    assert all(tables.sha256(path) == config.noisy_labels[name].sha256 for name, path in paths.items())
    index.run(config)
    pins = {name: held.sha256 for name, held in config.noisy_labels.items()}
    assert json.loads(file.read_text())["noisy_labels"] == pins
    assert (root / "results" / "index" / "evaluate" / "cifar10.json").read_bytes() == answered, (
        "no answer depends on it"
    )

    paths["cifar10n-worst"].write_bytes(b"")
    assert "all 5 files are as params.yaml pins them" in bench("data", "fetch", "cifar10n", "--from", "../source")
    other = CLEAN.copy()
    other[:2] = (CLEAN[:2] + 2) % 10
    put(source, random_label1=other)
    paths["cifar10n-worst"].write_bytes(b"")
    with pytest.raises(BenchError, match=r"does not give what params\.yaml pins: cifar10n-random1\."):
        bench("data", "fetch", "cifar10n", "--from", "../source")
    bench("preset", "remove", "cifar10n", "--files")
    assert (root / "params.yaml").read_bytes() == before


def test_only_what_is_trained_on_has_noisy_labels(tmp_path: Path) -> None:
    held = {"source": {"dataset": "b", "fetched": "p", "sha256": "a" * 64}}
    text = {
        "seed": 0,
        "suites": {"s": {"train": "a"}},
        "datasets": {"a": {"role": "original", "suite": "s"}, "b": {"role": "control", "suite": "s"}},
        "models": {},
        "noisy_labels": held,
    }
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(text))
    with pytest.raises(BenchError, match=r"noisy_labels\.source\.dataset: 'b' is not declared"):
        load(path)
    path.write_text(yaml.safe_dump({**text, "noisy_labels": {"source": {**held["source"], "dataset": "a"}}}))
    assert list(load(path).noisy_labels_of("s")) == ["source"]
