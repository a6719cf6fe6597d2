"""Models of timm by name or hub id: what is evaluated is what timm's own model gives, and nothing needs the network but
published weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors import safe_open

from bench import compute
from bench.config import Compute, Config, Dataset, Model, Suite, Weights
from bench.errors import BenchError
from bench.models import train, zoo
from bench.store import tables
from tests import tiny

TINY = ("test_resnet", "test_efficientnet", "test_vit")
"""Models that timm keeps for tests: some 0.4 million parameters, 160 pixels."""


def model(arch: str, **more: Any) -> Model:
    return Model.model_validate({"family": "random", "method": "random", "suite": "photos", "arch": arch, **more})


SUITE = Suite(train="photos", input_size=32, channels=3)


def config_of(root: Path, **models: Model) -> Config:
    return Config(
        root=root, seed=0, suites={"photos": SUITE}, datasets={"photos": Dataset(role="original", suite="photos")},
        models=models,
    )  # fmt: skip


def build(arch: str, **more: Any) -> zoo.Network:
    return zoo.build(model(f"timm:{arch}", **more), SUITE, 7, 3, "mine").eval()


@pytest.mark.parametrize("arch", TINY)
def test_logits_are_those_of_timms_own_model(arch: str) -> None:
    network = build(arch)
    torch.manual_seed(3)
    theirs: Any = timm.create_model(arch, num_classes=7).eval()
    x = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    how = timm.data.resolve_model_data_config(theirs)
    mean, std = (torch.tensor(how[key]).view(3, 1, 1) for key in ("mean", "std"))
    assert network.input_size == how["input_size"][1] == 160
    torch.testing.assert_close(network(x), theirs((x - mean) / std))
    features = theirs.forward_head(theirs.forward_features((x - mean) / std), pre_logits=True)
    torch.testing.assert_close(network.features(x), features)
    assert features.shape == (2, network.n_features)
    assert (network.n_classes, network.training) == (7, False)


def test_the_same_seed_gives_the_same_weights_and_a_grey_suite_one_channel() -> None:
    first, second = (build("test_resnet").state_dict() for _ in range(2))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    grey = zoo.build(model("timm:test_resnet"), Suite(channels=1), 7, 3, "mine").eval()
    assert grey(torch.rand(2, 1, 28, 28)).shape == (2, 7)
    assert grey.mean.shape == (1, 1, 1)


@pytest.mark.parametrize("arch", TINY)
def test_images_are_resized_as_the_configuration_says_and_cropped_for_published_weights_alone(arch: str) -> None:
    network = build(arch)
    how = timm.data.resolve_model_data_config(timm.create_model(arch))
    mode = {"test_vit": "bicubic", "test_efficientnet": "bicubic", "test_resnet": "bilinear"}[arch]
    assert (network.interpolation, how["interpolation"], network.crop) == (mode, mode, None)
    x = torch.rand(2, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network.resize(x), F.interpolate(x, (160, 160), mode=mode, antialias=True).clamp(0, 1))
    weights = Weights(file="w", sha256="0" * 64, origin="tests")
    given = model(f"timm:{arch}", family="supervised", method="supervised", weights=weights)
    theirs = zoo.build(given, SUITE, 7, 3, "theirs")
    assert theirs.crop == how["crop_pct"]
    side = round(40 * how["crop_pct"])
    top, left = (40 - side) // 2, (60 - side) // 2
    square = x[..., top : top + side, left : left + side]
    assert torch.equal(theirs.resize(x), F.interpolate(square, (160, 160), mode=mode, antialias=True).clamp(0, 1))


def test_neither_the_number_nor_the_order_of_images_changes_a_result() -> None:
    network = build("test_vit")
    settings = Compute(threads=1, batch_size=4)
    images = np.random.default_rng(0).random((6, 3, 32, 32), dtype=np.float32)
    whole = compute.forward(network, images, settings)
    np.testing.assert_array_equal(compute.forward(network, images[::-1].copy(), settings)[::-1], whole)
    np.testing.assert_array_equal(compute.forward(network, images[4:5], settings), whole[4:5])


@pytest.mark.parametrize("arch", TINY)
def test_a_checkpoint_gives_the_same_outputs_without_the_network(
    tmp_path: Path, arch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(
        tmp_path,
        mine=model(f"timm:{arch}"),
        theirs=model(f"timm:{arch}", family="supervised", method="supervised", pretrained=True),
    )
    network = build(arch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    x = torch.rand(2, 3, 32, 32)
    for name in config.models:
        network.crop = None if name == "mine" else 0.95
        zoo.save(network, zoo.path_of(config, name), arch=f"timm:{arch}", temperature=1.0)
        loaded = zoo.load(config, name)
        assert (loaded.crop is None) == (name == "mine")
        loaded.crop = network.crop
        assert torch.equal(loaded(x), network(x))
    with safe_open(zoo.path_of(config, "mine"), framework="pt") as stream:
        assert sum("classifier" in key or "encoder.model.head.fc." in key for key in stream.keys()) == 0  # noqa: SIM118


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, mine=model("timm:test_vit"))
    zoo.save(build("test_resnet"), zoo.path_of(config, "mine"), arch="timm:test_resnet")
    with pytest.raises(BenchError, match=r"has arch 'timm:test_resnet', but params\.yaml says 'timm:test_vit'"):
        zoo.load(config, "mine")


def test_an_unknown_name_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(
        BenchError, match=r"models\.mine: timm .* has no model 'test_resnit' \(did you mean 'test_resnet"
    ):
        build("test_resnit")


def test_a_model_without_one_linear_classifier_is_refused() -> None:
    with pytest.raises(
        BenchError, match=r"models\.mine: the classifier of 'timm:deit_tiny_distilled_patch16_224' is no"
    ):
        build("deit_tiny_distilled_patch16_224")


@pytest.mark.parametrize("arch", ["timm:test_resnet", "hf-hub:timm/test_resnet.r160_in1k"])
def test_published_weights_need_the_hub_and_say_so(tmp_path: Path, arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    config = config_of(tmp_path, theirs=model(arch, family="supervised", method="supervised", pretrained=True))
    with pytest.raises(BenchError, match=rf"models\.theirs: timm cannot make '{arch}': .*this machine must reach it"):
        zoo.published(config, "theirs")


def from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_classes: int) -> None:
    """Take weights of `n_classes` for those that timm publishes of test_resnet."""
    torch.manual_seed(5)
    path = tmp_path / "published.pth"
    torch.save(timm.create_model("test_resnet", num_classes=n_classes).state_dict(), path)
    create = timm.create_model

    def found(name: str, **more: Any) -> Any:
        if more.get("pretrained"):
            more |= {"pretrained_cfg_overlay": {"file": str(path), "num_classes": n_classes}, "num_classes": n_classes}
        return create(name, **more)

    monkeypatch.setattr(timm, "create_model", found)


def of_photos(tmp_path: Path, **section: Any) -> Config:
    """The two small sets of tests/tiny.py with a model of timm."""
    theirs = {"family": "supervised", "method": "supervised", "arch": "timm:test_resnet", "suite": "blocks"}
    tiny.make(tmp_path, models={}, neighbours={})
    return Config.model_validate(
        {
            "root": tmp_path,
            "seed": 0,
            "compute": {"threads": 1, "batch_size": 16},
            "suites": {"blocks": {"train": "blocks", "input_size": tiny.SIZE, **section}},
            "datasets": {"blocks": {"role": "original", "suite": "blocks"}},
            "models": {"theirs": {**theirs, "pretrained": True}},
        }
    )


def test_published_weights_are_taken_as_they_are_and_calibrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_a_file(tmp_path, monkeypatch, tiny.N_CLASSES)
    config = of_photos(tmp_path)
    assert train.run(config, "theirs")["epochs"] == 0
    network = zoo.load(config, "theirs")
    torch.manual_seed(5)
    theirs: Any = timm.create_model("test_resnet", num_classes=tiny.N_CLASSES, in_chans=3).eval()
    assert torch.equal(network.head.weight, theirs.fc.weight)
    row = tables.read("models", config.results / "models" / "theirs.parquet").iloc[0]
    assert (row["source"], row["input_size"], row["train_dataset"]) == ("hub", 160, "blocks")
    assert row["temperature"] > 0
    assert "timm" in row["origin"]


def test_a_suite_without_a_training_set_takes_them_without_a_temperature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_a_file(tmp_path, monkeypatch, tiny.N_CLASSES)
    config = of_photos(tmp_path, train=None)
    assert train.run(config, "theirs") == {"networks": 1}
    row = tables.read("models", config.results / "models" / "theirs.parquet").iloc[0]
    assert np.isnan(row["temperature"])
    assert row["train_dataset"] == "unknown"
    assert zoo.load(config, "theirs").n_classes == tiny.N_CLASSES


@pytest.mark.parametrize("train_on", ["blocks", None])
def test_weights_of_other_classes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_on: str | None
) -> None:
    from_a_file(tmp_path, monkeypatch, 10)
    config = of_photos(tmp_path, train=train_on)
    with pytest.raises(BenchError, match=r"models\.theirs\.pretrained: its weights know 10 classes, 'blocks' has 3"):
        train.run(config, "theirs")


FAULTS = {
    "an arch that is none": ({"arch": "resnit"}, r"is no architecture \(did you mean 'resnet'\?\)"),
    "a hub id that is none": ({"arch": "hf-hub:name"}, "is no architecture"),
    "a path": ({"arch": "timm:../x"}, "is no architecture"),
    "an own arch that is pretrained": ({"arch": "resnet20", "pretrained": True}, "`pretrained` is for an arch `timm:"),
    "a control that is pretrained": (
        {"family": "random", "method": "random", "pretrained": True},
        "`pretrained` take the place of training",
    ),
    "epochs": ({"pretrained": True, "epochs": 1}, "`pretrained` take the place of training"),
    "neither": ({}, "needs `epochs` of at least 1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_go_together_is_refused(fault: str) -> None:
    given, message = FAULTS[fault]
    with pytest.raises(ValueError, match=message):
        model(**{"arch": "timm:test_resnet", "family": "supervised", "method": "supervised", **given})


def test_a_model_that_is_not_pretrained_is_told_as_before() -> None:
    """What tells an interrupted training (bench/models/train.py) has no new key."""
    assert "pretrained" not in model("timm:test_resnet").model_dump_json()
    theirs = model("timm:test_resnet", family="supervised", method="supervised", pretrained=True)
    assert '"pretrained":true' in theirs.model_dump_json()
