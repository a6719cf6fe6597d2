from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.attacks import engine, losses, norms, steps
from bench.config import Compute, Config
from bench.models import zoo
from tests import tiny

SETTINGS = Compute(threads=1, batch_size=8)


class Linear(torch.nn.Module):
    """Logits (x . w, 0) of images of 2 x 2: the gradient of the cross-entropy has the sign of -w for label 0."""

    def __init__(self, weight: list[float]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight).view(1, 2, 2), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        z = (x * self.weight).sum(dim=(1, 2, 3))
        return torch.stack([z, torch.zeros_like(z)], dim=1)


def climb(
    network: torch.nn.Module, clean: np.ndarray, labels: np.ndarray, eps: float = 0.1, **more: object
) -> engine.Found:
    low, high = norms.linf_box(clean, eps)
    settings = {"loss": losses.cross_entropy, "step": steps.sign(0.25 * eps), "iterations": 10} | more
    return engine.iterate(network, clean, labels, SETTINGS, low=low, high=high, **settings)  # pyright: ignore[reportArgumentType]


def test_a_linear_model_is_attacked_to_the_corner_of_the_box() -> None:
    clean = np.full((3, 1, 2, 2), 0.5, np.float32)
    found = climb(Linear([1.0, -2.0, 0.5, 0.0]), clean, np.array([0, 0, 1]))
    corner = np.array([[0.4, 0.6], [0.4, 0.5]])
    np.testing.assert_allclose(found.images[:2, 0], [corner, corner], atol=1e-6)
    np.testing.assert_allclose(found.images[2, 0], 1 - corner, atol=1e-6)
    assert found.iterations.tolist() == [10, 10, 10]


def test_pixels_outside_the_mask_stay_to_the_bit() -> None:
    rng = np.random.default_rng(0)
    clean = rng.random((5, 1, 2, 2), dtype=np.float32)
    mask = np.tile(np.float32([[1, 0], [1, 0]]), (5, 1, 1, 1))
    start = clean + rng.uniform(-0.1, 0.1, clean.shape).astype(np.float32)
    found = climb(Linear([1.0, -2.0, 0.5, 3.0]), clean, np.zeros(5, np.int64), mask=mask, start=start)
    assert np.array_equal(found.images[..., 1], clean[..., 1])
    assert (found.images[..., 0] != clean[..., 0]).all()


def test_an_image_that_stops_keeps_its_pixels_while_others_go_on() -> None:
    """z = 2 x - 0.2 falls by 0.05 a step from 0.02, 0.12 and 0.92: wrong after 1 step, 3, and never."""
    clean = np.zeros((3, 1, 2, 2), np.float32)
    clean[:, 0, 0, 0] = [0.11, 0.16, 0.56]

    class Shifted(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) - torch.tensor([0.2, 0.0])

    def wrong(logits: Tensor, labels: Tensor) -> Tensor:
        return logits.argmax(dim=1) != labels

    found = climb(Shifted([2.0, 0.0, 0.0, 0.0]), clean, np.zeros(3, np.int64), stop=wrong)
    assert found.iterations.tolist() == [1, 3, 10]
    np.testing.assert_allclose(clean[:, 0, 0, 0] - found.images[:, 0, 0, 0], [0.025, 0.075, 0.1], atol=1e-6)


@pytest.mark.parametrize("arch", ["cnn", "linear"])
def test_neither_order_nor_number_of_images_changes_one(arch: str, config_of_tiny: Config) -> None:
    network = zoo.load(config_of_tiny, arch)
    images, labels = tiny.pictures(19, seed=5)
    clean = images[:, None] / np.float32(255)
    whole = climb(network, clean, labels).images
    order = np.random.default_rng(0).permutation(len(clean))
    assert np.array_equal(climb(network, clean[order], labels[order]).images, whole[order])
    for n in (1, 7, 8):
        assert np.array_equal(climb(network, clean[:n], labels[:n]).images, whole[:n]), n
