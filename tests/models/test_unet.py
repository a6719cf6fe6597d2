"""The U-Net: its published form, and sizes that it cannot take."""

from __future__ import annotations

import pytest
import torch

from bench.errors import BenchError
from bench.models.unet import UNet


def test_without_padding_572_pixels_become_388_as_published() -> None:
    network = UNet(3, 2, [2, 2, 2, 2, 2], padded=False)
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 572, 572)).shape == (1, 2, 388, 388)


def test_with_padding_the_size_stays_and_every_pixel_counts() -> None:
    """No weight and no input is below 0, so that no ReLU is dead: what comes out grows with each pixel."""
    network = UNet(1, 3, [4, 8, 16])
    for parameter in network.parameters():
        parameter.data.abs_()
    x = (0.5 + torch.rand(2, 1, 16, 24) / 2).requires_grad_()
    out = network(x)
    assert out.shape == (2, 3, 16, 24)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert (gradient > 0).all()


def test_a_size_that_does_not_halve_is_refused() -> None:
    with pytest.raises(BenchError, match="30 x 32"):
        UNet(1, 2, [4, 8, 16])(torch.zeros(1, 1, 32, 30))


def test_its_parameters_are_as_many_as_its_form_has() -> None:
    """5 levels of 32 to 512 channels, no batch norm, counted by hand: kernel * in * out weights and out biases."""
    widths = [32, 64, 128, 256, 512]
    expected, before = 0, 3
    for width in widths:
        expected += 9 * before * width + width + 9 * width * width + width
        before = width
    for deep, shallow in zip(widths[:0:-1], widths[-2::-1], strict=True):
        expected += 4 * deep * shallow + shallow + 9 * 2 * shallow * shallow + shallow + 9 * shallow**2 + shallow
    expected += 2 * 32 + 2
    assert sum(p.numel() for p in UNet(3, 2, widths, padded=False).parameters()) == expected
