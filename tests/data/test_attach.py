"""Pictures are matched by the stem of their file, whatever folder they lie in, and pinned; or nothing changes."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from bench import config as configuration
from bench.config import Config
from bench.data import attach, fetch, imagenet, samples
from bench.errors import BenchError
from bench.store import tables
from tests.data import test_imagenet as published

real_labels = published.real_labels
NAMES = sorted(published.STEMS["imagenet"])


@pytest.fixture
def config(tmp_path: Path, real_labels: None) -> Config:
    """A fetched `imagenet` of three images, declared in a params.yaml."""
    del real_labels
    out = tmp_path / "fetched" / "imagenet"
    imagenet.write(imagenet.read(published.official(tmp_path / "source")), out)
    pins = {name: samples.digest(out / name) for name in published.STEMS}
    (tmp_path / "params.yaml").write_text(
        "seed: 1\nmodels: {}\nsuites:\n  imagenet: {channels: 3}\ndatasets:\n"
        f"  imagenet: {{role: original, suite: imagenet, fetched: imagenet, sha256: {pins['imagenet']}}}  # fetched\n"
        f"  imagenetv2: {{role: original, suite: imagenet, fetched: imagenet, sha256: {pins['imagenetv2']}}}\n"
    )
    return configuration.load(tmp_path / "params.yaml")


def save(path: Path, size: tuple[int, int] = (8, 6), mode: str = "RGB", format: str = "JPEG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path, format)


def test_folders_say_nothing_of_a_picture(config: Config, tmp_path: Path) -> None:
    images = tmp_path / "images"
    for folder, name in zip(("100", "0", "10"), NAMES, strict=True):
        save(images / folder / f"{name}.JPEG", (600 + int(folder), 300))
    save(images / "1" / "another.JPEG")
    (images / "1" / f"{NAMES[0]}.txt").write_text("no image")
    said = attach.run(config, "imagenet", "imagenet", images)
    assert "3 of 3 images of imagenet attached, 0 are missing, 1 files belong to no sample" in said
    path = config.folder("imagenet") / fetch.THUMBNAILS
    shown = tables.read("images", path)
    assert shown["sample_id"].tolist() == [f"imagenet/{name}" for name in NAMES]
    sizes = []
    for encoded in shown["thumbnail"]:
        with Image.open(io.BytesIO(encoded)) as picture:
            sizes.append(picture.size)
    assert sizes == [(256, 110), (256, 128), (256, 126)]
    text = (tmp_path / "params.yaml").read_text()
    assert f", images: {tables.sha256(path)}}}  # fetched\n" in text
    assert configuration.load(tmp_path / "params.yaml").datasets["imagenet"].images == tables.sha256(path)
    assert samples.digest(config.folder("imagenet")) == config.datasets["imagenet"].sha256, "the set itself is the same"


def test_some_are_enough_and_the_same_again_is_the_same(config: Config, tmp_path: Path) -> None:
    save(tmp_path / "images" / f"{NAMES[1]}.png", format="PNG")
    assert "1 of 3 images of imagenet attached, 2 are missing" in attach.run(
        config, "imagenet", "imagenet", tmp_path / "images"
    )
    before = published.files(tmp_path)
    attach.run(configuration.load(tmp_path / "params.yaml"), "imagenet", "imagenet", tmp_path / "images")
    assert published.files(tmp_path) == before


@pytest.mark.parametrize(("mode", "format", "kept"), [("CMYK", "JPEG", "RGB"), ("L", "JPEG", "L"), ("P", "PNG", "RGB")])
def test_a_picture_is_read_as_what_it_is_not_as_it_is_called(tmp_path: Path, mode: str, format: str, kept: str) -> None:
    save(tmp_path / "a.JPEG", mode=mode, format=format)
    with Image.open(io.BytesIO(attach.thumbnail(tmp_path / "a.JPEG"))) as picture:
        assert (picture.format, picture.mode, picture.size) == ("JPEG", kept, (8, 6))


def test_what_cannot_be_attached_changes_nothing(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    before = published.files(tmp_path / "fetched"), (tmp_path / "params.yaml").read_text()

    def refused(message: str, preset: str = "imagenet", dataset: str = "imagenet", folder: Path = images) -> None:
        with pytest.raises(BenchError, match=message) as caught:
            attach.run(config, preset, dataset, folder)
        assert caught.value.remedy
        assert (published.files(tmp_path / "fetched"), (tmp_path / "params.yaml").read_text()) == before

    refused("no file here has the name of a sample of 'imagenet'")
    refused("no such folder", folder=tmp_path / "nowhere")
    refused("no 'imagnet' under `datasets`", dataset="imagnet")
    refused("not fetched by the preset 'cifar10'", preset="cifar10")
    save(images / f"{NAMES[0]}.JPEG")
    (images / f"{NAMES[1]}.JPEG").write_bytes(b"\xff\xd8\xff not an image")
    refused(rf"{NAMES[1]}\.JPEG: cannot be decoded")
    save(images / f"{NAMES[1]}.JPEG")
    save(images / "10" / f"{NAMES[1]}.png", format="PNG")
    refused("two files are of the sample")
    (images / "10" / f"{NAMES[1]}.png").unlink()
    monkeypatch.setattr(attach, "MAX_PIXELS", 40)
    refused("has more than 40 pixels")
    monkeypatch.setattr(attach, "MAX_BYTES", 40)
    refused("larger than 40 bytes")
