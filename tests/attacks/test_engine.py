"""The loop of all attacks. Seven properties that every attack here shares are tested by number, as docstrings say:

(1) a mask is kept, (2) with two classes the cross-entropy and the margin point the same way, (3) a saturated softmax is
flagged as vanished, and nothing is divided by it, (4) norms by hand (test_norms.py), (5) a success in 8 bits is that of
the images as they are saved (test_attack.py, tests/studies/test_objectives.py), (6) one image and many give the same
images, (7) without a random start a result repeats.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.attacks import engine, kinds, losses, norms, projections, steps
from bench.config import Compute, Config
from bench.data import samples
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


def wrong(images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    return logits.argmax(dim=1) != labels


def test_a_linear_model_is_attacked_to_the_corner_of_the_box() -> None:
    clean = np.full((3, 1, 2, 2), 0.5, np.float32)
    found = climb(Linear([1.0, -2.0, 0.5, 0.0]), clean, np.array([0, 0, 1]))
    corner = np.array([[0.4, 0.6], [0.4, 0.5]])
    np.testing.assert_allclose(found.images[:2, 0], [corner, corner], atol=1e-6)
    np.testing.assert_allclose(found.images[2, 0], 1 - corner, atol=1e-6)
    assert found.iterations.tolist() == [10, 10, 10]


def test_pixels_outside_the_mask_stay_to_the_bit() -> None:
    """Property (1): a linear model, the cross-entropy, steps of the sign."""
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

    found = climb(Shifted([2.0, 0.0, 0.0, 0.0]), clean, np.zeros(3, np.int64), stop=wrong)
    assert found.iterations.tolist() == [1, 3, 10]
    np.testing.assert_allclose(clean[:, 0, 0, 0] - found.images[:, 0, 0, 0], [0.025, 0.075, 0.1], atol=1e-6)


@pytest.mark.parametrize("arch", ["cnn", "linear"])
def test_neither_order_nor_number_of_images_changes_one(arch: str, config_of_tiny: Config) -> None:
    """Property (6): 1, 7 and 8 images, which are padded to the one size of a batch, and 19, to the bit."""
    network = zoo.load(config_of_tiny, arch)
    images, labels = tiny.pictures(19, seed=5)
    clean = images[:, None] / np.float32(255)
    whole = climb(network, clean, labels).images
    order = np.random.default_rng(0).permutation(len(clean))
    assert np.array_equal(climb(network, clean[order], labels[order]).images, whole[order])
    for n in (1, 7, 8):
        assert np.array_equal(climb(network, clean[:n], labels[:n]).images, whole[:n]), n


@pytest.mark.parametrize("arch", ["cnn", "linear"])
def test_images_that_leave_and_those_that_take_their_place_are_what_they_are_alone(
    arch: str, config_of_tiny: Config
) -> None:
    network = zoo.load(config_of_tiny, arch)
    images, labels = tiny.pictures(29, seed=5)
    clean = images[:, None] / np.float32(255)
    more = {"stop": wrong, "step": steps.momentum(0.9, steps.sign(0.03)), "iterations": 12, "eps": 0.5}
    whole = climb(network, clean, labels, **more)  # pyright: ignore[reportArgumentType]
    assert len(set(whole.iterations.tolist())) > 2, "they leave at different times"
    for rows in (slice(0, 1), slice(3, 10), slice(20, 29), slice(None, None, -1)):
        found = climb(network, clean[rows], labels[rows], **more)  # pyright: ignore[reportArgumentType]
        assert np.array_equal(found.images, whole.images[rows])
        assert np.array_equal(found.iterations, whole.iterations[rows])


def test_a_batch_is_full_while_images_wait(config_of_tiny: Config) -> None:
    """Of 4 slots and 12 images that need 1 to 3 passes each, none is idle before the last image has come in."""
    need = np.array([1, 3, 2, 1, 1, 2, 3, 3, 1, 2, 1, 1])
    busy: list[int] = []

    def advance(state: engine.State) -> Tensor:
        taken = engine.counted(state)
        taken += 1
        busy.append(int((state["need"] > 0).sum()))
        return taken >= state["need"]

    settings = Compute(threads=1, batch_size=4)
    found = engine.run({"need": need, "labels": need}, settings, advance, ("passes", "need"))
    assert found["passes"].tolist() == found["need"].tolist() == need.tolist()
    assert len(busy) == 6, "21 passes in 4 slots"


def test_nothing_to_attack_and_no_steps() -> None:
    clean = np.full((2, 1, 2, 2), 0.5, np.float32)
    network = Linear([1.0, -2.0, 0.5, 0.0])
    assert climb(network, clean[:0], np.zeros(0, np.int64)).images.shape == (0, 1, 2, 2)
    found = climb(network, clean, np.zeros(2, np.int64), iterations=0, start=clean + np.float32(0.3))
    np.testing.assert_allclose(found.images, 0.6, atol=1e-6)  # the start, brought into the box
    assert found.iterations.tolist() == [0, 0]


def test_a_saturated_softmax_gives_no_step_of_the_gradient_but_one_of_the_margin() -> None:
    """Property (3): where the label has all the probability in float32, the cross-entropy has no gradient, which is
    flagged and nothing is divided by, and the margin has one."""
    clean = np.full((1, 1, 2, 2), 0.5, np.float32)
    network, label = Linear([400.0, 0.0, 0.0, 0.0]), np.array([0])
    for step in (steps.l2(0.1), steps.sign_l2(0.1), steps.momentum(1.0, steps.l2(0.1))):
        still = climb(network, clean, label, eps=1.0, step=step, iterations=3)
        assert np.array_equal(still.images, clean)
        assert still.vanished is not None
        assert still.vanished.tolist() == [True]
        moved = climb(network, clean, label, eps=1.0, step=step, iterations=3, loss=losses.margin)
        np.testing.assert_allclose(moved.images[0, 0, 0, 0], 0.2, atol=1e-5)
        assert moved.vanished is not None
        assert moved.vanished.tolist() == [False]


def test_each_image_has_its_own_flag_which_stays() -> None:
    """Property (3): labels that are 200 ahead, 2 ahead and behind. The first one is led to where it has a gradient."""
    clean = np.full((3, 1, 2, 2), 0.5, np.float32)
    clean[1, 0, 0, 0] = 0.005
    network, labels = Linear([400.0, 0.0, 0.0, 0.0]), np.array([0, 0, 1])
    found = climb(network, clean, labels, step=steps.l2(0.1), iterations=3)
    assert found.vanished is not None
    assert found.vanished.tolist() == [True, False, False]
    led = climb(network, clean, labels, eps=1.0, iterations=2, step=lambda gradient, state: -state["images"].detach())
    assert led.vanished is not None
    assert led.vanished.tolist() == [True, False, False], "the margin is 0 after the first step"


@pytest.mark.parametrize("arch", ["cnn", "linear"])
def test_without_a_random_start_a_result_repeats(arch: str, config_of_tiny: Config) -> None:
    """Property (7): the same images again to the bit, whatever torch's generator has drawn in between; and kinds
    without a random start do not look at what others start from."""
    network = zoo.load(config_of_tiny, arch)
    images, labels = tiny.pictures(9, seed=5)
    clean = images[:, None] / np.float32(255)
    first = climb(network, clean, labels).images
    torch.rand(7)
    assert np.array_equal(climb(network, clean, labels).images, first)
    data = samples.Samples(np.array([f"d/{i}" for i in range(9)]), labels, clean)
    attack = config_of_tiny.attacks.runs["pgd-linf"].model_copy(update={"steps": 4})
    starts = [np.random.default_rng(seed).uniform(-1, 1, clean.shape).astype(np.float32) for seed in (0, 1)]
    for kind, random in (("fgsm", False), ("mi-fgsm", False), ("pgd-l0", False), ("pgd-linf", True)):
        made = [kinds.KINDS[kind].make(network, data, one, 0.05, attack, config_of_tiny).images for one in starts]
        assert np.array_equal(*made) != random


def test_the_margin_and_the_cross_entropy_of_two_classes_point_the_same_way(config_of_tiny: Config) -> None:
    """Property (2): steps of one length along both gradients."""
    clean = np.random.default_rng(0).random((6, 1, 2, 2), dtype=np.float32)
    labels = np.array([0, 1] * 3)
    by_entropy, by_margin = (
        climb(Linear([1.0, -2.0, 0.5, 3.0]), clean, labels, step=steps.l2(0.02), loss=loss, iterations=4)
        for loss in (losses.cross_entropy, losses.margin)
    )
    np.testing.assert_allclose(by_entropy.images, by_margin.images, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0, 1.5])
def test_no_more_positions_change_than_are_allowed(share: float) -> None:
    clean = np.random.default_rng(0).random((5, 1, 2, 2), dtype=np.float32)
    found = climb(
        Linear([1.0, -2.0, 0.5, 3.0]),
        np.clip(clean, 0.3, 0.7),
        np.zeros(5, np.int64),
        project=projections.l0_limited(share),
        step=steps.l2(0.01),
        eps=0.3,
    )
    changed = found.images != np.clip(clean, 0.3, 0.7)
    assert changed.mean(axis=(1, 2, 3)).tolist() == [min(share, 1)] * 5
    if share == 0.25:
        assert changed[:, 0, 1, 1].all(), "the steepest"
