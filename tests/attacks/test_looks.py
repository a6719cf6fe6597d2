"""Grad-CAM: by hand."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from bench.attacks import looks
from bench.config import Compute

SETTINGS = Compute(threads=1, batch_size=4)


class Small(nn.Module):
    """Two convolutions and a head of the means of their maps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.head = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4, 3)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.two(self.act(self.one(x)))).mean(dim=(2, 3)))


def test_the_map_is_that_of_the_formula() -> None:
    network = Small().eval().requires_grad_(False)
    images = np.random.default_rng(0).random((6, 1, 9, 9)).astype(np.float32)
    labels = np.array([0, 1, 2, 0, 1, 2])
    assert looks.last_map(network, torch.zeros(1, 1, 9, 9)) is network.act
    found = looks.grad_cam(network, images, labels, SETTINGS)
    assert found is not None
    held = F.relu(network.two(F.relu(network.one(torch.from_numpy(images)))))
    # The head is linear in the mean of each map: the gradient at every one of 4 x 4 positions is weight / 16.
    weights = network.head.weight[labels] / held[0, 0].numel()
    cam = (weights[:, :, None, None] * held).sum(dim=1, keepdim=True).clamp_min(0)
    expected = F.interpolate(cam, size=(9, 9), mode="bilinear", align_corners=False)[:, 0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    assert found.any()


def test_a_network_without_maps_looks_nowhere() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(81, 3)).eval()
    assert looks.grad_cam(network, np.ones((2, 1, 9, 9), np.float32), np.array([0, 1]), SETTINGS) is None
