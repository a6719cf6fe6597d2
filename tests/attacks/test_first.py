"""Walks until another network falls: by hand on linear networks, and the same in any batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.attacks import first
from bench.config import Compute

SETTINGS = Compute(threads=1, batch_size=4)


class Linear(torch.nn.Module):
    """Logits (b, x . w) of images of 2 x 2."""

    def __init__(self, weight: list[float], b: float) -> None:
        super().__init__()
        self.weight, self.b = torch.tensor(weight).view(1, 2, 2), b

    def forward(self, x: Tensor) -> Tensor:
        z = (x * self.weight).sum(dim=(1, 2, 3))
        return torch.stack([torch.full_like(z, self.b), z], dim=1)


def walked(n: int = 1, mask: list[float] | None = None, **more: int) -> tuple[dict[str, first.First], np.ndarray]:
    clean = np.full((n, 1, 2, 2), 0.5, np.float32)
    clean[0, 0, 0, 0] = 0.95
    free = np.tile(np.float32(mask or [1, 1, 1, 1]).reshape(2, 2), (n, 1, 1))
    others = {"near": Linear([1.0, 1.0, 0.0, 0.0], 1.62), "far": Linear([1.0, 0.0, 0.0, 0.0], 1.5)}
    how = {"size": 0.1, "iterations": 5, "fixed": 2} | more
    source = Linear([1.0, 2.0, -1.0, 0.0], 0.0)
    labels, towards = np.zeros(n, np.int64), np.ones(n, np.int64)
    return first.walk(source, others, clean, labels, towards, free, SETTINGS, **how)


def test_each_target_falls_where_it_first_answers_another_class() -> None:
    found, fixed = walked()
    near, far = found["near"], found["far"]
    assert (near.iterations[0], near.fooled[0]) == (2, True), "1.45, 1.6 (one pixel is at 1), 1.7"
    np.testing.assert_allclose(near.images[0, 0], [[1.0, 0.7], [0.3, 0.5]], atol=1e-6)
    assert (far.iterations[0], far.fooled[0]) == (5, False), "it would need more than 1"
    np.testing.assert_allclose(far.images[0, 0], [[1.0, 1.0], [0.0, 0.5]], atol=1e-6)
    np.testing.assert_allclose(fixed[0, 0], [[1.0, 0.7], [0.3, 0.5]], atol=1e-6)


def test_what_is_masked_stays_to_the_bit_and_counts() -> None:
    found, fixed = walked(mask=[1, 0, 1, 1])
    for image in (found["near"].images[0, 0], found["far"].images[0, 0], fixed[0, 0]):
        assert image[0, 1] == np.float32(0.5)
    assert not found["near"].fooled[0]
    assert found["near"].iterations[0] == 5


def test_a_walk_goes_on_to_the_fixed_step_after_all_have_fallen() -> None:
    clean, mask = np.full((1, 1, 2, 2), 0.5, np.float32), np.ones((1, 2, 2), np.float32)
    others = {"near": Linear([1.0, 0.0, 0.0, 0.0], 0.55)}
    how = {"size": 0.1, "iterations": 9, "fixed": 3}
    zero, one = np.zeros(1, np.int64), np.ones(1, np.int64)
    found, fixed = first.walk(Linear([1.0, 0, 0, 0], 0.0), others, clean, zero, one, mask, SETTINGS, **how)
    assert found["near"].iterations[0] == 1
    assert found["near"].images[0, 0, 0, 0] == pytest.approx(0.6)
    assert fixed[0, 0, 0, 0] == pytest.approx(0.8)


def test_one_image_and_many_give_the_same_images() -> None:
    alone, together = walked(), walked(n=11)
    for name in ("near", "far"):
        assert np.array_equal(alone[0][name].images[0], together[0][name].images[0])
    assert np.array_equal(alone[1][0], together[1][0])


def test_away_from_the_label_and_within_eps() -> None:
    """Of two classes there is one way away from a label, so the walk is that towards the other, until the box ends."""
    clean, mask = np.full((1, 1, 2, 2), 0.5, np.float32), np.ones((1, 2, 2), np.float32)
    zero, one = np.zeros(1, np.int64), np.ones(1, np.int64)
    source, others = Linear([1.0, 2.0, -1.0, 0.0], 0.0), {"near": Linear([1.0, 1.0, 0.0, 0.0], 1.15)}
    how = {"size": 0.1, "iterations": 4, "fixed": 0}
    led, _ = first.walk(source, others, clean, zero, one, mask, SETTINGS, **how)
    away, start = first.walk(source, others, clean, zero, None, mask, SETTINGS, **how)
    assert np.array_equal(led["near"].images, away["near"].images)
    assert (away["near"].iterations[0], away["near"].fooled[0]) == (1, True), "1.0, 1.2"
    assert np.array_equal(start, clean)
    boxed, _ = first.walk(source, others, clean, zero, None, mask, SETTINGS, **how, eps=0.06)
    assert not boxed["near"].fooled[0], "at most 1.12"
    np.testing.assert_allclose(boxed["near"].images[0, 0], [[0.56, 0.56], [0.44, 0.5]], atol=1e-6)
    assert boxed["near"].iterations[0] == 4


def test_a_fixed_step_past_the_last_is_refused() -> None:
    with pytest.raises(ValueError, match="no step 6 of 5"):
        walked(fixed=6)
