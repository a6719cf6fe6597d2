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
    saturation=0.5,
    hue=0.2,
    jitter=0.7,
    grey=0.3,
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


@pytest.mark.parametrize(
    "how", [FULL, *(how for recipe in augment.RECIPES.values() for how in (recipe.supervised, recipe.views))]
)
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


def brightness(x: torch.Tensor) -> torch.Tensor:
    return (x * torch.tensor(augment.YIQ[0])[:, None, None]).sum(dim=1)


def test_grey_images_have_one_value_in_all_channels_and_keep_their_brightness() -> None:
    x = images(8, 3)
    grey = augment.augment(x, Augmentation(grey=1.0), seeded())
    torch.testing.assert_close(grey, brightness(x)[:, None].expand_as(x), atol=1e-3, rtol=0)
    some = augment.augment(images(200, 3), Augmentation(grey=0.5), seeded())
    share = ((some[:, 0] - some[:, 2]).abs().amax(dim=(1, 2)) < 1e-3).float().mean()
    assert 0.35 < share < 0.65


@pytest.mark.parametrize("how", [Augmentation(hue=0.1), Augmentation(saturation=0.4)], ids=repr)
def test_hue_and_saturation_leave_brightness_and_greys_alone(how: Augmentation) -> None:
    x = images(8, 3) * 0.3 + 0.35  # far from black and white, where values are cut off
    changed = augment.augment(x, how, seeded())
    torch.testing.assert_close(brightness(changed), brightness(x), atol=2e-3, rtol=0)
    assert (changed - x).abs().amax(dim=(1, 2, 3)).median() > 1e-2
    grey = brightness(x)[:, None].expand_as(x)
    torch.testing.assert_close(augment.augment(grey, how, seeded()), grey, atol=2e-3, rtol=0)


def test_a_whole_turn_of_the_hue_is_none_and_a_third_moves_red_towards_green() -> None:
    red = torch.tensor([0.6, 0.3, 0.3]).view(1, 3, 1, 1).expand(64, 3, 2, 2)
    turned = augment.augment(red, Augmentation(hue=1 / 3), seeded())
    assert (turned[:, 1] > turned[:, 0]).any()
    assert (turned[:, 2] > turned[:, 0]).any()


def test_jitter_is_the_share_of_images_with_other_colours() -> None:
    x = images(400, 3) * 0.3 + 0.35
    how = Augmentation(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1, jitter=0.25)
    changed = (augment.augment(x, how, seeded()) - x).abs().amax(dim=(1, 2, 3)) > 5e-3
    assert 0.17 < changed.float().mean() < 0.33


def test_images_of_one_channel_have_no_colours_to_change() -> None:
    x = images(4, 1)
    assert torch.equal(augment.augment(x, Augmentation(hue=0.3, saturation=0.5, grey=0.5), seeded()), x)


def test_erasing_blanks_one_rectangle() -> None:
    erased = augment.augment(torch.ones(50, 1, 16, 16), Augmentation(erase=1.0, erase_side=0.5), seeded())
    for image in erased[:, 0]:
        gone = image == 0
        rows, columns = gone.any(dim=1), gone.any(dim=0)
        assert gone.sum() == rows.sum() * columns.sum()
        assert 1 <= rows.sum() <= 9
        assert 1 <= columns.sum() <= 9
