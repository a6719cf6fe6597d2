"""The commands of presets, from nothing to pictures and back, on a preset of five images and two models."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from bench import cli
from bench.config import load
from bench.data import attach, imagenet
from bench.errors import BenchError
from bench.presets import merge, pin
from bench.presets import preset as presets
from bench.presets.preset import Preset
from tests.data import test_fetch, test_imagenet

real_labels = test_imagenet.real_labels
small = test_fetch.small
PARAMS = "# mine\nseed: 1\nsuites:\n  digits: {}\ndatasets:\n  digits: {role: original}\nmodels: {}\nimported: {}\n"


@pytest.fixture
def project(small: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that knows the small preset, and its source beside it."""
    monkeypatch.setattr(presets, "load", lambda name: small)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def bench(*words: str) -> str:
    result = CliRunner().invoke(cli.app, list(words), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_from_nothing_to_pictures_and_back(project: Path) -> None:
    assert "not added; not fetched" in bench("preset", "list")
    said = bench("preset", "add", "imagenet", "--from", "../source")
    assert "all 10 files are as pinned" in said
    assert "2 imported models added" in said
    assert "Next: `dvc repro`." in said
    assert "added; fetched" in bench("preset", "list")
    assert "Nothing was done" in bench("data", "fetch", "imagenet")
    Image.new("RGB", (4, 4)).save(project.parent / f"{'a' * 40}.jpeg")
    attached = bench("data", "attach", "imagenet", "--dataset", "imagenetv2", "--images", "..")
    assert "1 of 2 images of imagenetv2 attached" in attached
    assert load().datasets["imagenetv2"].images is not None
    assert "2 imported models removed" in bench("preset", "remove", "imagenet", "--files")
    assert (project / "params.yaml").read_text() == PARAMS
    assert list((project / "fetched").iterdir()) == []


def test_each_change_of_params_waits_for_the_other(project: Path) -> None:
    bench("preset", "add", "imagenet", "--from", "../source")
    Image.new("RGB", (4, 4)).save(project.parent / f"{'a' * 40}.jpeg")
    path, config = project / "params.yaml", load()
    changes: list[Callable[[], object]] = [
        lambda: attach.run(config, "imagenet", "imagenetv2", project.parent),
        lambda: merge.add(path, "imagenet"),
        lambda: merge.remove(path, "imagenet", force=True),
    ]
    for change in changes:
        thread = threading.Thread(target=change)
        with merge.locked(path):
            before = path.read_bytes()
            thread.start()
            thread.join(timeout=0.5)
            assert thread.is_alive()
            assert path.read_bytes() == before
        thread.join()
    assert path.read_text() == PARAMS


def test_a_source_that_is_not_as_pinned_adds_nothing(project: Path) -> None:
    (project.parent / "source" / imagenet.REFINED).write_text("{}")
    with pytest.raises(BenchError, match="its images are not those"):
        CliRunner().invoke(cli.app, ["preset", "add", "imagenet", "--from", "../source"], catch_exceptions=False)
    assert (project / "params.yaml").read_text() == PARAMS
    assert not (project / "fetched" / "imagenet").exists()


def test_without_data_it_says_what_comes_next(project: Path) -> None:
    assert "Next: `bench data fetch imagenet`, then `dvc repro`." in bench("preset", "add", "imagenet")
    assert "imagenet" in load().suites
    assert project.joinpath("fetched").exists() is False


def test_a_preset_without_files_has_nothing_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = presets.load("cifar10")
    sections = {"seed": 1, **held.params(), "imported": {}}
    (tmp_path / "params.yaml").write_text("".join(f"{merge.flow({key: v})[1:-1]}\n" for key, v in sections.items()))
    monkeypatch.chdir(tmp_path)
    assert "has nothing to fetch" in bench("data", "fetch", "cifar10-zoo")
    assert not (tmp_path / "fetched").exists()
    said = bench("preset", "list").splitlines()
    assert said[1 + 2 * presets.names().index("cifar10-zoo")].endswith("nothing to fetch")
    bench("preset", "add", "cifar10-resnets")
    added = bench("preset", "add", "cifar10-zoo")
    assert "Next: `dvc repro`." in added
    assert "bench data fetch" not in added


def test_a_manifest_is_what_a_source_gives(small: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pin, "HERE", tmp_path)
    assert pin.run("imagenet", tmp_path / "source") == 10
    assert presets.manifest(tmp_path / "imagenet.sha256") == small.files
