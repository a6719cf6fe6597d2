"""Networks: the contract of [0, 1], determinism, and checkpoints that cannot be mistaken for one another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bench.config import Config, Model, Suite, Weights
from bench.errors import BenchError
from bench.models import zoo
from bench.store import tables

PUBLISHED = {"resnet20": 269_722, "resnet32": 464_154, "resnet44": 658_586, "resnet56": 853_018}
"""Networks that are not trained here, and how many parameters they have: with 10 classes, 0.27 to 0.85 million (He et
al. 2016, table 6)."""
FOR_PHOTOS = {**PUBLISHED, "resnet10": 297_626}
ARCHS = [arch for arch in zoo.ARCHITECTURES if arch not in (*FOR_PHOTOS, "squeezenet")]


def fresh(config: Config, arch: str, seed: int = 0) -> zoo.Network:
    return zoo.build(config.model(arch), config.suites["digits"], 10, seed, arch).eval()


@pytest.mark.parametrize("arch", ARCHS)
def test_shapes_for_images_of_any_size(config: Config, arch: str) -> None:
    network = fresh(config, arch)
    for height, width in ((16, 16), (28, 28), (40, 31)):
        x = torch.rand(3, 1, height, width)
        assert network(x).shape == (3, 10)
        assert network.features(x).shape == (3, network.n_features)


@pytest.mark.parametrize("arch", ARCHS)
def test_small_enough_to_be_released(config: Config, arch: str) -> None:
    assert sum(p.numel() for p in fresh(config, arch).parameters()) < 75_000


@pytest.mark.parametrize("arch", ARCHS)
def test_build_is_deterministic_and_leaves_the_global_generator_alone(config: Config, arch: str) -> None:
    torch.manual_seed(7)
    before = torch.rand(1)
    torch.manual_seed(7)
    first, second, other = fresh(config, arch, 1), fresh(config, arch, 1), fresh(config, arch, 2)
    assert torch.equal(torch.rand(1), before)
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(first(x), second(x))
    assert not torch.equal(first(x), other(x))


def test_normalisation_is_inside_and_follows_the_given_images(config: Config) -> None:
    network = fresh(config, "pixels")
    images = torch.rand(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    network.normalise_by(images)
    features = network.features(images)
    assert features.mean().item() == pytest.approx(0, abs=1e-5)
    assert features.std().item() == pytest.approx(1, abs=1e-5)


def test_resizing_stays_in_the_unit_interval_and_keeps_the_mean(config: Config) -> None:
    x = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    small = fresh(config, "pixels").resize(x)
    assert small.shape == (4, 1, 16, 16)
    assert small.min() >= 0
    assert small.max() <= 1
    assert small.mean().item() == pytest.approx(x.mean().item(), abs=5e-3)


@pytest.mark.parametrize("arch", ARCHS)
def test_a_checkpoint_gives_the_same_outputs_and_the_same_bytes(config: Config, arch: str) -> None:
    network, path = fresh(config, arch), zoo.path_of(config, arch)
    zoo.save(network, path, arch=arch, temperature=1.5)
    first = path.read_bytes()
    zoo.save(network, path, temperature=1.5, arch=arch)
    assert path.read_bytes() == first
    loaded = zoo.load(config, arch)
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(loaded(x), network(x))
    assert loaded.meta["temperature"] == 1.5
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize("arch", FOR_PHOTOS)
def test_the_resnets_of_cifar10_are_those_of_their_paper(arch: str) -> None:
    model = Model(suite="s", family="supervised", method="supervised", arch=arch, epochs=1)  # pyright: ignore[reportArgumentType]
    network = zoo.build(model, Suite(input_size=32, channels=3), 10, 0, arch).eval()
    assert sum(p.numel() for p in network.parameters()) == FOR_PHOTOS[arch]
    x = torch.rand(2, 3, 32, 32)
    assert network(x).shape == (2, 10)
    layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(layers) == int(arch.removeprefix("resnet")), "every layer with weights is one of its name's number"
    encoder: Any = network.encoder
    x = torch.rand(2, 16, 8, 8)
    halved = encoder.layer2[0]
    torch.nn.init.zeros_(halved.bn2.weight)  # what is left is the shortcut
    short = halved(x)
    assert short.shape == (2, 32, 4, 4)
    assert torch.equal(short[:, 8:24], x[:, :, ::2, ::2])
    assert not short[:, :8].any()
    assert not short[:, 24:].any()


def test_squeezenet_has_the_parameters_of_the_published_one() -> None:
    model = Model(suite="s", family="supervised", method="supervised", arch="squeezenet", epochs=1)  # pyright: ignore[reportArgumentType]
    network = zoo.build(model, Suite(input_size=224, channels=3), 1000, 0, "squeezenet").eval()
    assert sum(p.numel() for p in network.parameters()) == 1_235_496, "1.1, as torchvision counts it"
    x = torch.rand(2, 3, 96, 80)
    assert network(x).shape == (2, 1000)
    assert network.features(x).shape == (2, 512)


def test_a_checkpoint_of_half_the_bytes_gives_just_what_the_rounded_network_gives(config: Config) -> None:
    network, path = fresh(config, "cnn"), zoo.path_of(config, "cnn")
    zoo.save(network, path, arch="cnn")
    size = path.stat().st_size
    zoo.rounded(network, "float16")
    zoo.save(network, path, "float16", arch="cnn")
    x = torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    loaded = zoo.load(config, "cnn")
    assert torch.equal(loaded(x), network(x))
    assert next(loaded.parameters()).dtype == torch.float32
    assert path.stat().st_size < 0.55 * size


def test_in_mixed_precision_features_are_float32_of_a_bfloat16_encoder_and_a_copy_is_its_own(config: Config) -> None:
    network = fresh(config, "cnn")
    x = torch.rand(16, 1, 16, 16)
    exact = network.features(x)
    network.mixed = True
    seen: list[torch.dtype] = []
    network.encoder[0].register_forward_hook(lambda module, given, out: seen.append(out.dtype))  # pyright: ignore
    mixed = network.features(x)
    assert (seen, mixed.dtype) == ([torch.bfloat16], torch.float32)
    assert not torch.equal(mixed, exact)
    torch.testing.assert_close(mixed, exact, atol=0.05, rtol=0.05)


def published_model(config: Config, arch: str = "cnn") -> Config:
    """The same with a model whose weights come from a file."""
    path = config.root / "fetched" / "w.safetensors"
    zoo.save(fresh(config, arch, seed=3), path, arch=arch)
    weights = Weights(file="fetched/w.safetensors", sha256=tables.sha256(path), origin="tests; made up")
    model = Model(suite="digits", family="supervised", method="supervised", arch="cnn", weights=weights)
    return config.model_copy(update={"models": {**config.models, "theirs": model}})


def test_published_weights_are_the_file_that_is_pinned(config: Config) -> None:
    config = published_model(config)
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(zoo.published(config, "theirs")(x), fresh(config, "cnn", seed=3)(x))
    path = config.root / "fetched" / "w.safetensors"
    zoo.save(fresh(config, "cnn", seed=4), path, arch="cnn")
    with pytest.raises(BenchError, match=r"is not the file that params\.yaml pins \(models\.theirs\.weights\)"):
        zoo.published(config, "theirs")
    path.unlink()
    with pytest.raises(BenchError, match=r"w\.safetensors: is missing\. Get it again"):
        zoo.published(config, "theirs")
    with pytest.raises(BenchError, match="has arch 'vit'"):
        zoo.published(published_model(config, "vit"), "theirs")


def test_gradients_reach_the_image(config: Config) -> None:
    network = fresh(config, "cnn")
    zoo.save(network, zoo.path_of(config, "cnn"), arch="cnn")
    x = torch.rand(2, 1, 28, 28, requires_grad=True)
    zoo.load(config, "cnn")(x).sum().backward()
    assert x.grad is not None
    assert np.isfinite(x.grad.numpy()).all()
    assert x.grad.abs().max() > 0


def test_a_missing_checkpoint_names_file_and_remedy(config: Config) -> None:
    with pytest.raises(BenchError, match=r"cnn\.safetensors: is missing\. Run `dvc repro train@cnn`"):
        zoo.load(config, "cnn")


def test_a_checkpoint_of_another_architecture_names_file_and_remedy(config: Config) -> None:
    zoo.save(fresh(config, "vit"), zoo.path_of(config, "cnn"), arch="vit")
    with pytest.raises(BenchError, match=r"cnn\.safetensors: has arch 'vit'.*'cnn'.*dvc repro train@cnn"):
        zoo.load(config, "cnn")


def test_a_checkpoint_whose_weights_do_not_fit_names_file_and_remedy(config: Config) -> None:
    zoo.save(fresh(config, "mixer"), zoo.path_of(config, "cnn"), arch="cnn")
    with pytest.raises(BenchError, match=r"(?s)cnn\.safetensors: does not fit arch 'cnn'.*dvc repro train@cnn"):
        zoo.load(config, "cnn")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_checkpoint_that_is_not_finite_names_the_tensor(config: Config, value: float) -> None:
    network = fresh(config, "cnn")
    with torch.no_grad():
        network.head.bias[3] = value
    zoo.save(network, zoo.path_of(config, "cnn"), arch="cnn")
    with pytest.raises(BenchError, match=r"cnn\.safetensors: holds NaN or infinity in head\.bias"):
        zoo.load(config, "cnn")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_broken_checkpoint_names_file_and_remedy(config: Config, content: bytes) -> None:
    path = zoo.path_of(config, "cnn")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(BenchError, match=r"cnn\.safetensors: .*dvc repro train@cnn"):
        zoo.load(config, "cnn")
