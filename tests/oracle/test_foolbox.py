"""Attacks against foolbox's of equal settings, on a small trained network, and on the published ResNet-20 with real
images where these are at hand."""

from __future__ import annotations

import tempfile
from pathlib import Path

import foolbox
import numpy as np
import pytest
import torch

from bench import compute
from bench.attacks import (
    apgd,
    carlini_wagner,
    deepfool,
    engine,
    kinds,
    lbfgs,
    losses,
    norms,
    projections,
    square,
    steps,
)
from bench.config import Attack, Compute, Config
from bench.data import cifar10, cifar10_resnets
from bench.data.samples import Samples
from bench.models import zoo
from bench.presets import preset as presets
from tests import tiny

SHARED = Path(__file__).parents[3] / "shared" / "data"
# Skipped on purpose where they are not: these images may not be passed on. The same is tested above on a small network.
real = pytest.mark.skipif(
    not all((SHARED / name).is_dir() for name in ("cifar10", "cifar10_resnets")),
    reason="CIFAR-10 and the published networks (shared/data) are not here",
)
SETTINGS = Compute(threads=1, batch_size=64)
Images = np.ndarray


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tiny.make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def network(config: Config) -> zoo.Network:
    return zoo.load(config, "cnn")


@pytest.fixture(scope="module")
def data(network: zoo.Network) -> tuple[Images, np.ndarray]:
    """Images that are answered rightly, and their labels."""
    images, labels = tiny.pictures(72, seed=9)
    clean = images[:, None] / np.float32(255)
    right = compute.forward(network, clean, SETTINGS).argmax(axis=1) == labels
    return clean[right], labels[right]


def accuracy(network: torch.nn.Module, images: Images, labels: np.ndarray) -> float:
    return float((compute.forward(network, images, SETTINGS).argmax(axis=1) == labels).mean())


def peer(
    network: torch.nn.Module, attack: foolbox.attacks.base.Attack, data: tuple[Images, np.ndarray], eps: float | None
) -> tuple[Images, np.ndarray]:
    """foolbox's images within eps, and whether each is answered wrongly."""
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    criterion = foolbox.criteria.Misclassification(torch.from_numpy(data[1]))
    _, images, wrong = attack(model, torch.from_numpy(data[0]), criterion, epsilons=eps)
    return images.numpy(), wrong.numpy()


def pgd(
    network: torch.nn.Module, data: tuple[Images, np.ndarray], eps: float, norm: str, n: int = 20, relative: float = 0.1
) -> engine.Found:
    clean, labels = data
    low, high = norms.linf_box(clean, eps if norm == "linf" else 1.0)
    return engine.iterate(
        network,
        clean,
        labels,
        SETTINGS,
        loss=losses.cross_entropy,
        step=(steps.sign if norm == "linf" else steps.l2)(relative * eps),
        iterations=n,
        low=low,
        high=high,
        project=projections.l2_ball(eps) if norm == "l2" else None,
    )


EPS = {"linf": (4 / 255, 12 / 255, 24 / 255), "l2": (0.3, 0.8, 1.5)}


@pytest.mark.parametrize("model", ["cnn", "linear"])
@pytest.mark.parametrize("norm", EPS)
def test_pgd_leaves_as_many_right_as_foolbox(
    config: Config, data: tuple[Images, np.ndarray], model: str, norm: str
) -> None:
    network = zoo.load(config, model)
    kind = foolbox.attacks.LinfPGD if norm == "linf" else foolbox.attacks.L2PGD
    for eps in EPS[norm]:
        attack = kind(rel_stepsize=0.1, steps=20, random_start=False)
        images, wrong = peer(network, attack, data, eps)
        found = pgd(network, data, eps, norm)
        mine = accuracy(network, found.images, data[1])
        assert mine == pytest.approx(1 - wrong.mean(), abs=0.005)
        size = norms.sizes(found.images, data[0])
        assert (size.linf if norm == "linf" else size.l2).max() <= eps * (1 + 1e-6)
        if norm == "linf":
            np.testing.assert_allclose(found.images, images, atol=1e-5)


def test_deepfool_is_as_near_as_foolbox(network: zoo.Network, data: tuple[Images, np.ndarray]) -> None:
    found = deepfool.attack(network, *data, SETTINGS)
    assert accuracy(network, found.images, data[1]) == 0
    images, wrong = peer(network, foolbox.attacks.L2DeepFoolAttack(), data, None)
    assert wrong.all()
    mine, theirs = (norms.sizes(x, data[0]).l2.mean() for x in (found.images, images))
    assert mine <= 1.02 * theirs


def test_carlini_wagner_is_at_least_as_near_as_foolbox(network: zoo.Network, data: tuple[Images, np.ndarray]) -> None:
    how = {"binary_search_steps": 6, "steps": 60, "stepsize": 0.01, "initial_const": 1e-2}
    found = carlini_wagner.attack(network, *data, SETTINGS, rounds=6, iterations=60, lr=0.01, first=1e-2)
    images, wrong = peer(network, foolbox.attacks.L2CarliniWagnerAttack(abort_early=False, **how), data, None)
    assert accuracy(network, found.images, data[1]) == 0
    assert wrong.all()
    mine, theirs = (norms.sizes(x, data[0]).l2.mean() for x in (found.images, images))
    assert mine <= theirs * 1.0005
    assert mine <= norms.sizes(deepfool.attack(network, *data, SETTINGS).images, data[0]).l2.mean()


def found_by_stage(network: zoo.Network, images: Images, labels: np.ndarray) -> Images:
    """What the stage's kind `cw-l2` makes with 50 steps a weight."""
    data = Samples(np.array([f"c/{row}" for row in range(len(images))]), labels, images)
    run = Attack(kind="cw-l2", dataset="c", steps=50)
    config = Config.model_construct(compute=SETTINGS, seed=0)
    found = kinds.KINDS["cw-l2"].make(network, data, np.zeros_like(images), np.inf, run, config)
    assert accuracy(network, found.images, labels) == 0
    return found.images


AS_STAGE = {"binary_search_steps": kinds.ROUNDS, "steps": 50, "initial_const": kinds.FIRST, "abort_early": False}


@pytest.mark.parametrize("model", ["cnn", "linear"])
def test_the_stage_finds_images_no_further_than_foolbox_with_as_many_passes(
    config: Config, data: tuple[Images, np.ndarray], model: str
) -> None:
    network = zoo.load(config, model)
    right = compute.forward(network, data[0], SETTINGS).argmax(axis=1) == data[1]
    some = data[0][right], data[1][right]
    assert len(some[0]) > 20
    mine = norms.sizes(found_by_stage(network, *some), some[0]).l2
    nearest = norms.sizes(deepfool.attack(network, *some, SETTINGS).images, some[0]).l2  # exact for `linear`
    assert mine.mean() <= 1.01 * nearest.mean()
    for rate in (0.01, 0.1):  # its own, and one at which it finds all
        attack = foolbox.attacks.L2CarliniWagnerAttack(stepsize=rate, **AS_STAGE)
        theirs, wrong = peer(network, attack, some, None)
        if wrong.all():
            assert mine.mean() <= 1.01 * norms.sizes(theirs, some[0]).l2.mean()
    assert wrong.all()


def test_carlini_wagner_moves_pixels_that_are_black_or_white(network: zoo.Network) -> None:
    images, labels = tiny.pictures(36, seed=4)
    clean = np.where(images > 100, 1.0, 0.0)[:, None].astype(np.float32)
    right = compute.forward(network, clean, SETTINGS).argmax(axis=1) == labels
    data = clean[right], labels[right]
    found = carlini_wagner.attack(network, *data, SETTINGS, rounds=6)
    assert len(data[0]) > 20
    assert accuracy(network, found.images, data[1]) == 0
    moved = np.abs(found.images - data[0]) > 1e-3
    assert moved[data[0] == 0].mean() > 0.1
    assert moved[data[0] == 1].mean() > 0.1
    nearest = deepfool.attack(network, *data, SETTINGS)
    assert norms.sizes(found.images, data[0]).l2.mean() < norms.sizes(nearest.images, data[0]).l2.mean()


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.dlr])
def test_apgd_is_at_least_as_strong_as_pgd(
    network: zoo.Network, data: tuple[Images, np.ndarray], norm: str, loss: engine.Loss
) -> None:
    start = norms.start_in(norm, np.random.default_rng(0).uniform(-1, 1, data[0].shape).astype(np.float32))
    for eps in EPS[norm]:
        found = apgd.attack(network, *data, SETTINGS, loss=loss, norm=norm, eps=eps, iterations=20, start=start)
        size = norms.sizes(found.images, data[0])
        assert (size.linf if norm == "linf" else size.l2).max() <= eps * (1 + 1e-6)
        assert accuracy(network, found.images, data[1]) <= accuracy(
            network, pgd(network, data, eps, norm).images, data[1]
        )


def test_square_finds_what_gradients_find_in_the_end(network: zoo.Network, data: tuple[Images, np.ndarray]) -> None:
    ids = [str(row) for row in range(len(data[0]))]
    drawn = square.draws(0, ids, 300, data[0].shape[1:])
    found = square.attack(network, *data, SETTINGS, eps=40 / 255, queries=300, drawn=drawn)
    assert norms.sizes(found.images, data[0]).linf.max() <= 40 / 255
    assert accuracy(network, found.images, data[1]) <= 0.1
    few = square.attack(
        network, *data, SETTINGS, eps=40 / 255, queries=1, drawn=square.draws(0, ids, 1, data[0].shape[1:])
    )
    assert accuracy(network, few.images, data[1]) > accuracy(network, found.images, data[1])


def test_lbfgs_reaches_targets_inside_the_box(network: zoo.Network, data: tuple[Images, np.ndarray]) -> None:
    clean, labels = data[0][:12], data[1][:12]
    targets = (labels + 1) % 3
    found = lbfgs.attack(network, clean, targets, SETTINGS)
    assert (compute.forward(network, found.images, SETTINGS).argmax(axis=1) == targets).mean() == 1
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    again = lbfgs.attack(network, clean[:5], targets[:5], SETTINGS)
    assert np.array_equal(again.images, found.images[:5])
    near = carlini_wagner.attack(network, clean, targets, SETTINGS, targeted=True, iterations=60)
    assert norms.sizes(found.images, clean).l2.mean() <= 3 * norms.sizes(near.images, clean).l2.mean()


@pytest.fixture(scope="module")
def resnet20() -> tuple[zoo.Network, Images, np.ndarray]:
    """The published network, and the first 300 test images of CIFAR-10 with their labels."""
    weights = cifar10_resnets.read(SHARED / "cifar10_resnets")
    with tempfile.TemporaryDirectory() as folder:
        cifar10_resnets.write({"resnet20": weights["resnet20"]}, Path(folder))
        path = Path(folder) / "weights" / "resnet20.safetensors"
        entry = presets.load("cifar10-resnets").params()["models"]["cifar10-resnet20"]
        entry = {**entry, "weights": {**entry["weights"], "file": path.relative_to(folder).as_posix()}}
        known = {"root": Path(folder), "seed": 0, "suites": presets.load("cifar10").suites}
        known |= {"datasets": {"cifar10": {"role": "original", "suite": "cifar10"}}, "models": {"net": entry}}
        network = zoo.published(Config.model_validate(known), "net")
    columns = cifar10._by_index(SHARED / "cifar10" / "test.parquet", ["label", "image"])
    images = cifar10._decoded(columns["image"][:300], SHARED).transpose(0, 3, 1, 2).astype(np.float32) / 255
    return network, images, np.array(columns["label"][:300], np.int64)


@real
def test_five_steps_leave_nothing_of_the_published_network(resnet20: tuple[zoo.Network, Images, np.ndarray]) -> None:
    network, *data = resnet20
    assert round(100 * accuracy(network, *data)) == 91
    eps = 8 / 255
    low, high = norms.linf_box(data[0], eps)
    how = {"loss": losses.cross_entropy, "step": steps.sign(2 / 255), "iterations": 5, "low": low, "high": high}
    found = engine.iterate(network, *data, SETTINGS, **how)  # pyright: ignore[reportArgumentType]
    assert round(100 * accuracy(network, found.images, data[1])) == 0


@real
def test_the_published_network_is_as_robust_as_foolbox_finds_it(
    resnet20: tuple[zoo.Network, Images, np.ndarray],
) -> None:
    network, *some = resnet20
    data = some[0][:200], some[1][:200]
    strengths = {"linf": (0.25 / 255, 0.5 / 255, 1 / 255), "l2": (0.05, 0.1)}
    for norm, eps in ((norm, eps) for norm, several in strengths.items() for eps in several):
        kind = foolbox.attacks.LinfPGD if norm == "linf" else foolbox.attacks.L2PGD
        _, wrong = peer(network, kind(rel_stepsize=0.25, steps=5, random_start=False), data, eps)
        mine = accuracy(network, pgd(network, data, eps, norm, n=5, relative=0.25).images, data[1])
        assert 0.05 < mine < 0.9, "there is something to agree on"
        assert mine == pytest.approx(1 - wrong.mean(), abs=0.005)
    few = data[0][:100], data[1][:100]
    found = deepfool.attack(network, *few, SETTINGS)
    images, _ = peer(network, foolbox.attacks.L2DeepFoolAttack(), few, None)
    assert accuracy(network, found.images, few[1]) == accuracy(network, images, few[1]) == 0
    mine, theirs = (norms.sizes(x, few[0]).l2 for x in (found.images, images))
    for eps in (0.05, 0.1, 0.2):
        assert 0.05 < (theirs > eps).mean() < 0.95, "there is something to agree on"
        assert (mine > eps).mean() == pytest.approx((theirs > eps).mean(), abs=0.005)


@real
def test_the_stage_finds_images_of_the_published_network_no_further_than_foolbox_with_as_many_passes(
    resnet20: tuple[zoo.Network, Images, np.ndarray],
) -> None:
    network, images, labels = resnet20
    data = images[:32], labels[:32]
    mine = norms.sizes(found_by_stage(network, *data), data[0]).l2
    theirs, wrong = peer(network, foolbox.attacks.L2CarliniWagnerAttack(**AS_STAGE), data, None)  # its own rate
    assert wrong.all()
    assert mine.mean() <= norms.sizes(theirs, data[0]).l2.mean()


@real
def test_apgd_is_at_least_as_strong_as_pgd_on_the_published_network(
    resnet20: tuple[zoo.Network, Images, np.ndarray],
) -> None:
    network, images, labels = resnet20
    data = images[:48], labels[:48]
    drawn = np.random.default_rng(0).uniform(-1, 1, data[0].shape).astype(np.float32)
    for norm, eps in (("linf", 0.5 / 255), ("linf", 1 / 255), ("l2", 0.1)):
        left = accuracy(network, pgd(network, data, eps, norm).images, data[1])
        assert 0.1 < left < 0.9, "there is something to compare"
        how = {"norm": norm, "eps": eps, "iterations": 20, "start": norms.start_in(norm, drawn)}
        for loss in (losses.cross_entropy, losses.dlr):
            found = apgd.attack(network, *data, SETTINGS, loss=loss, **how)  # pyright: ignore[reportArgumentType]
            assert accuracy(network, found.images, data[1]) <= left
