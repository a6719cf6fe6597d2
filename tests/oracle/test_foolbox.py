"""Our PGD against foolbox's, with equal settings, on a small trained network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from foolbox import PyTorchModel
from foolbox.attacks import LinfPGD

from bench import compute
from bench.attacks import engine, losses, norms, steps
from bench.config import Config
from bench.models import zoo
from tests import tiny


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tiny.make(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("model", ["cnn", "linear"])
@pytest.mark.parametrize("eps_255", [16, 64, 96])
def test_robust_accuracy_is_that_of_foolbox(config: Config, model: str, eps_255: float) -> None:
    network = zoo.load(config, model)
    pictures, labels = tiny.pictures(64, seed=9)
    clean, eps = pictures[:, None] / np.float32(255), eps_255 / 255
    low, high = norms.linf_box(clean, eps)
    ours = engine.iterate(
        network,
        clean,
        labels,
        config.compute,
        loss=losses.cross_entropy,
        step=steps.sign(0.1 * eps),
        iterations=20,
        low=low,
        high=high,
    ).images
    theirs = LinfPGD(rel_stepsize=0.1, steps=20, random_start=False)
    fooled = PyTorchModel(network, bounds=(0, 1), device="cpu")
    _, found, _ = theirs(fooled, torch.from_numpy(clean), torch.from_numpy(labels), epsilons=eps)
    right = [compute.forward(network, x, config.compute).argmax(axis=1) == labels for x in (ours, found.numpy())]
    assert eps_255 < 90 or right[0].mean() < 0.9  # there is something to agree on
    assert abs(right[0].mean() - right[1].mean()) <= 1 / 64
    np.testing.assert_allclose(np.median(np.abs(ours - found.numpy())), 0, atol=1e-6)
