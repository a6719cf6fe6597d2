from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.attacks import losses

Z = torch.tensor([[-1.0, -2.0, -3.0, -7.0], [0.5, 4.0, 4.0, 0.0]])
Y = torch.tensor([0, 2])


def test_by_hand() -> None:
    """Logits below 0 too: what is masked is no class of logit 0."""
    assert losses.margin(Z, Y).tolist() == [-1.0, 0.0]
    assert losses.to_margin(Z, torch.tensor([1, 0])).tolist() == [-1.0, -3.5]
    p = torch.softmax(Z.double(), dim=1)[[0, 1], Y]
    np.testing.assert_allclose(losses.cross_entropy(Z, Y), -p.log(), rtol=1e-6)
    np.testing.assert_allclose(losses.to_cross_entropy(Z, Y), p.log(), rtol=1e-6)
    assert losses.dlr(Z, Y).tolist() == pytest.approx([-1 / 2, 0.0])


def test_saturated_is_where_the_gradient_of_the_targets_logit_is_zero() -> None:
    z = torch.zeros(40, 3)
    z[:, 0] = torch.linspace(0, 39, 40)
    targets = torch.zeros(40, dtype=torch.int64)
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(losses.to_cross_entropy(z, targets).sum(), z)
    found = losses.saturated(z.detach(), targets)
    assert torch.equal(found, gradient[:, 0] == 0)
    assert found.nonzero()[0].item() in (17, 18), "two others at exp(-17) each"
    assert (gradient[:, 1:] < 0).all(), "the others are still pushed down"
    assert not losses.saturated(z.detach().double(), targets)[:30].any()


@pytest.mark.parametrize("loss", [losses.dlr])
def test_a_shift_or_a_scale_of_the_logits_changes_nothing(loss: object) -> None:
    assert callable(loss)
    np.testing.assert_allclose(loss(10 * Z + 3, Y), loss(Z, Y), rtol=1e-5)


def test_each_is_above_zero_only_where_another_class_is_answered() -> None:
    z = torch.randn(500, 5, generator=torch.Generator().manual_seed(0))
    y = torch.arange(500) % 5
    wrong = z.argmax(dim=1) != y
    assert torch.equal(losses.margin(z, y) > 0, wrong)
    assert torch.equal(losses.dlr(z, y) > 0, wrong)
    assert torch.equal(losses.to_margin(z, y) > 0, ~wrong)
