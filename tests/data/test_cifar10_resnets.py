"""The published ResNets: both layouts end in the same checkpoints, nothing of a pickle runs, and the real ones are as
good as they are known to be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bench import compute
from bench.config import Compute, Config
from bench.data import cifar10, cifar10_resnets, fetch
from bench.errors import BenchError
from bench.models import zoo
from bench.presets import merge
from bench.presets import preset as presets
from bench.presets.preset import Preset
from bench.store import tables
from tests.data import test_fetch

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
real = pytest.mark.skipif(
    not (SHARED / "cifar10_resnets").is_dir() or not (SHARED / "cifar10").is_dir(),
    reason="CIFAR-10 and its ResNets (shared/data) are not here",
)
server = test_fetch.server
ARCHS = list(cifar10_resnets.PUBLISHED)


def state(arch: str) -> dict[str, torch.Tensor]:
    """Made-up weights, by the names of their source."""
    config = Config.model_validate(
        {"root": ROOT, "seed": 0, "suites": {"s": {"input_size": 32, "channels": 3}}, "models": {}}
        | {"datasets": {"d": {"role": "original", "suite": "s"}}}
    )
    model = {"family": "supervised", "method": "supervised", "arch": arch, "suite": "s", "epochs": 1}
    network = zoo.build(zoo.Model.model_validate(model), config.suites["s"], 10, len(arch), arch)
    own = {key.removeprefix("encoder."): value for key, value in network.state_dict().items()}
    renamed = {key.replace("head.", "linear."): value for key, value in own.items()}
    return {k: v.clone() for k, v in renamed.items() if k not in ("mean", "std") and "num_batches" not in k}


def plain(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for arch in ARCHS:
        save_file(state(arch), folder / f"{arch}.safetensors")
    return folder


def pickled(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for arch in ARCHS:
        held = {f"module.{key}": value for key, value in state(arch).items()}
        torch.save({"state_dict": held, "best_prec1": 91.0}, folder / cifar10_resnets._name(arch))
    return folder


def written(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def test_both_layouts_end_in_the_same_bytes(tmp_path: Path) -> None:
    for name, source in (("one", plain(tmp_path / "plain")), ("two", pickled(tmp_path / "pickled"))):
        assert cifar10_resnets.write(cifar10_resnets.read(source), tmp_path / name) == {"networks": 4}
    assert written(tmp_path / "one") == written(tmp_path / "two")
    assert list(written(tmp_path / "one")) == [f"weights/{arch}.safetensors" for arch in ARCHS]
    held = load_file(tmp_path / "one" / "weights" / "resnet20.safetensors")
    assert torch.equal(held["head.weight"], state("resnet20")["linear.weight"])
    assert held["mean"].flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/second-look-was-here",)


def _without(key: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        kept = {k: v for k, v in state("resnet20").items() if k != key}
        save_file(kept, folder / "resnet20.safetensors")

    return cut


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a network that is missing": (
        lambda f: (f / "resnet44.safetensors").unlink(),
        r"holds neither resnet44\.safetensors nor resnet44-014dd654\.th",
    ),
    "no safetensors": (lambda f: (f / "resnet20.safetensors").write_bytes(b"no"), "is no safetensors file"),
    "a tensor that is missing": (_without("conv1.weight"), r"are not the weights of resnet20: .*conv1\.weight"),
    "another depth": (
        lambda f: shutil.copy(f / "resnet56.safetensors", f / "resnet20.safetensors"),
        "are not the weights of resnet20",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(tmp_path: Path, fault: str) -> None:
    folder = plain(tmp_path / "plain")
    break_it, message = FAULTS[fault]
    break_it(folder)
    with pytest.raises(BenchError, match=f"(?s){message}") as caught:
        cifar10_resnets.write(cifar10_resnets.read(folder), tmp_path / "out")
    assert caught.value.remedy


@pytest.mark.parametrize("content", [Evil(), {"state_dict": Evil()}, [], {"weights": 1}])
def test_a_pickle_that_is_no_network_does_nothing(tmp_path: Path, content: object) -> None:
    folder, trace = pickled(tmp_path / "pickled"), Path("/tmp/second-look-was-here")
    trace.unlink(missing_ok=True)
    torch.save(content, folder / cifar10_resnets._name("resnet20"))
    with pytest.raises(BenchError, match="holds no weights of a network"):
        cifar10_resnets.read(folder)
    assert not trace.exists()


def small(tmp_path: Path) -> Preset:
    """The preset, pinned to made-up weights."""
    out = tmp_path / "pinned"
    cifar10_resnets.write(cifar10_resnets.read(pickled(tmp_path / "source")), out)
    pins = {path.relative_to(out).as_posix(): tables.sha256(path) for path in out.rglob("*.safetensors")}
    return presets.load(cifar10_resnets.PRESET).model_copy(update={"files": pins})


def test_a_fetch_from_the_official_source(
    tmp_path: Path, server: test_fetch.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset, out = small(tmp_path), tmp_path / "fetched"
    packed = {arch: (tmp_path / "source" / cifar10_resnets._name(arch)).read_bytes() for arch in ARCHS}
    published = {arch: tables.sha256(tmp_path / "source" / cifar10_resnets._name(arch))[:8] for arch in ARCHS}
    monkeypatch.setattr(cifar10_resnets, "URL", server.url)
    server.files = {f"/{cifar10_resnets._name(arch)}": content for arch, content in packed.items()}
    with pytest.raises(BenchError, match=r"is not the published file .* was removed"):
        fetch.run(preset, out)
    monkeypatch.setattr(cifar10_resnets, "PUBLISHED", published)
    server.files = {f"/{cifar10_resnets._name(arch)}": content for arch, content in packed.items()}
    assert "4 networks; all 4 files are as pinned" in fetch.run(preset, out)
    assert written(out / preset.name) == written(tmp_path / "pinned")


def test_the_preset_goes_in_after_that_of_its_images_and_out_again(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    for name in (cifar10_resnets.PRESET, "cifar10"):
        merge.remove(path, name, force=True)
    with pytest.raises(BenchError, match=r"needs the preset cifar10.*Run `bench preset add cifar10` first"):
        merge.add(path, cifar10_resnets.PRESET)
    merge.add(path, "cifar10")
    before = path.read_bytes()
    assert "4 models added" in merge.add(path, cifar10_resnets.PRESET)
    assert "already" in merge.add(path, cifar10_resnets.PRESET)
    with pytest.raises(BenchError, match="would not be valid any more"):
        merge.remove(path, "cifar10")
    merge.remove(path, cifar10_resnets.PRESET)
    assert path.read_bytes() == before


@real
def test_the_real_networks_are_pinned_and_the_first_is_as_good_as_published(tmp_path: Path) -> None:
    cifar10_resnets.write(cifar10_resnets.read(SHARED / "cifar10_resnets"), tmp_path)
    preset = presets.load(cifar10_resnets.PRESET)
    assert {name: tables.sha256(tmp_path / name) for name in preset.files} == preset.files
    models = {name: entry for name, entry in preset.params()["models"].items() if name == "cifar10-resnet20"}
    config = Config.model_validate(
        {"root": tmp_path, "seed": 0, "suites": presets.load("cifar10").suites, "models": models}
        | {"datasets": {"cifar10": {"role": "original", "suite": "cifar10"}}}
    )
    (tmp_path / "fetched" / preset.name).mkdir(parents=True)
    (tmp_path / "weights").rename(tmp_path / "fetched" / preset.name / "weights")
    network = zoo.published(config, "cifar10-resnet20")
    columns = cifar10._by_index(SHARED / "cifar10" / "test.parquet", ["label", "image"])
    images = cifar10._decoded(columns["image"], SHARED).transpose(0, 3, 1, 2).astype(np.float32) / 255
    answers = compute.forward(network, images, Compute(threads=1)).argmax(axis=1)
    assert round(100 * float((answers == columns["label"]).mean()), 2) == 91.73
