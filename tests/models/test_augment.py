"""Augmentation: identity, range, independence of the images, and known geometry."""

from __future__ import annotations

import pytest
import torch

from bench.models import augment
from bench.models.augment import Augmentation

FULL = Augmentation(
    area=(0.5, 1.3),
    aspect=1.5,
    degrees=30,
    shear=0.3,
    shift=0.1,
    flip=0.5,
    brightness=0.5,
    contrast=0.5,
    blur=0.5,
    noise=0.2,
    erase=0.5,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 8, channels: int = 1, height: int = 16, width: int = 16) -> torch.Tensor:
    return torch.rand(n, channels, height, width, generator=seeded(1))


def test_the_defaults_are_the_identity() -> None:
    assert torch.equal(augment.augment(images(), Augmentation(), seeded()), images())


def test_geometry_and_blur_of_nothing_are_the_identity() -> None:
    x = images(3, 3, 12, 20)
    torch.testing.assert_close(augment._geometry(x, Augmentation(), seeded()), x, atol=1e-5, rtol=0)
    torch.testing.assert_close(augment._blur(x, Augmentation(), seeded()), x, atol=1e-6, rtol=0)


@pytest.mark.parametrize("how", [FULL, augment.SUPERVISED, augment.VIEWS])
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_range_and_seed(how: Augmentation, channels: int) -> None:
    x = images(16, channels, 12, 20)
    first, again, other = (augment.augment(x, how, seeded(seed)) for seed in (0, 0, 1))
    assert first.shape == x.shape
    assert first.dtype == torch.float32
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    "how",
    [
        Augmentation(area=(0.4, 0.9)),
        Augmentation(aspect=2),
        Augmentation(degrees=30),
        Augmentation(shear=0.4),
        Augmentation(shift=0.2),
        Augmentation(brightness=0.5),
        Augmentation(contrast=0.5),
        Augmentation(blur=1.0),
        Augmentation(noise=0.2),
        Augmentation(erase=1.0),
    ],
    ids=repr,
)
def test_every_image_has_parameters_of_its_own(how: Augmentation) -> None:
    same = images(1).repeat(6, 1, 1, 1) * 0.5 + 0.1
    views = augment.augment(same, how, seeded())
    assert len({view.numpy().tobytes() for view in views}) == 6


def test_the_input_is_left_alone() -> None:
    x = images()
    before = x.clone()
    augment.augment(x, FULL, seeded())
    assert torch.equal(x, before)


def test_a_certain_flip_mirrors() -> None:
    x = images()
    torch.testing.assert_close(augment.augment(x, Augmentation(flip=1.0), seeded()), x.flip(-1), atol=1e-5, rtol=0)


def test_rotation_keeps_a_disc_and_shift_moves_it_no_further_than_allowed() -> None:
    place = (torch.arange(33) - 16) / 33
    disc = ((place[:, None] ** 2 + place[None] ** 2) < 0.04).float().expand(5, 1, 33, 33)
    turned = augment.augment(disc, Augmentation(degrees=90), seeded())
    assert (turned - disc).abs().mean() < 0.01
    moved = augment.augment(disc, Augmentation(shift=0.1), seeded())
    mass = moved.sum(dim=(1, 2, 3))
    torch.testing.assert_close(mass, disc.sum(dim=(1, 2, 3)), rtol=1e-3, atol=0)
    for axis in (2, 3):
        centre = (moved.sum(dim=(1, 5 - axis)) * place).sum(dim=1) / mass
        assert centre.abs().max() <= 0.1 + 1e-4
        assert centre.abs().max() > 0.01


def test_blur_keeps_the_mean_of_an_image_that_is_dark_at_its_edge_and_lowers_its_peak() -> None:
    x = torch.zeros(4, 1, 15, 15)
    x[:, :, 7, 7] = 1
    blurred = augment.augment(x, Augmentation(blur=1.0, blur_sigma=(0.8, 0.8)), seeded())
    torch.testing.assert_close(blurred.sum(dim=(1, 2, 3)), torch.ones(4), atol=1e-5, rtol=0)
    line = (-0.5 * (torch.arange(-2, 3) / 0.8) ** 2).exp()
    line = line / line.sum()
    torch.testing.assert_close(blurred[0, 0, 5:10, 5:10], line[:, None] * line[None], atol=1e-6, rtol=0)


def test_erasing_blanks_one_rectangle() -> None:
    erased = augment.augment(torch.ones(50, 1, 16, 16), Augmentation(erase=1.0, erase_side=0.5), seeded())
    for image in erased[:, 0]:
        gone = image == 0
        rows, columns = gone.any(dim=1), gone.any(dim=0)
        assert gone.sum() == rows.sum() * columns.sum()
        assert 1 <= rows.sum() <= 9
        assert 1 <= columns.sum() <= 9
