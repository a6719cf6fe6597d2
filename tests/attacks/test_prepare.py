from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.attacks import prepare
from bench.config import Model, Suite
from bench.models import zoo


def network(arch: str) -> zoo.Network:
    """A network whose batch norms have seen something."""
    family = "pixels" if arch == "pixels" else "supervised"
    model = Model(family=family, method=family, arch=arch, suite="s", epochs=1)
    suite = Suite(input_size=32, channels=3)
    built = zoo.build(model, suite, 10, 0, arch).train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(3):
            built(torch.rand(16, 3, 32, 32, generator=generator))
    return built.eval()


def norms_of(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize("arch", ["cnn", "resnet", "resnet20", "timm:efficientnet_lite0", "timm:resnet18"])
def test_a_folded_network_answers_the_same_without_batch_norm(arch: str) -> None:
    plain = network(arch)
    x = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    found = prepare.folded(plain, x)
    assert norms_of(plain) > norms_of(found) == 0
    with torch.no_grad():
        np.testing.assert_allclose(found(x), plain(x), rtol=1e-3, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in found.parameters())
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())


@pytest.mark.parametrize("arch", ["vit", "pixels"])
def test_what_has_no_batch_norm_is_left_as_it_is(arch: str) -> None:
    plain = network(arch)
    x = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(prepare.folded(plain, x)(x), plain(x))


class Twice(nn.Module):
    """A convolution whose output goes past its batch norm, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return (self.norm(x) + x).mean(dim=(2, 3))


class Shared(Twice):
    """One batch norm after two passes of one convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return (self.norm(self.conv(x)) + self.norm(self.conv(1 - x))).mean(dim=(2, 3))


@pytest.mark.parametrize("kind", [Twice, Shared])
def test_what_cannot_be_folded_stays_as_it_is(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    plain = kind()
    plain.norm.running_mean.fill_(0.3)  # pyright: ignore
    plain.norm.running_var.fill_(2.0)  # pyright: ignore
    plain.eval()
    x = torch.rand(4, 3, 8, 8)
    found = prepare.folded(plain, x)
    assert norms_of(found) == 1
    with torch.no_grad():
        assert torch.equal(found(x), plain(x))


@pytest.mark.parametrize("arch", ["cnn", "resnet20", "vit"])
def test_a_lowered_network_answers_nearly_the_same_and_leaves_the_other_as_it_was(arch: str) -> None:
    plain = prepare.folded(network(arch), torch.rand(4, 3, 32, 32))
    x = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = plain(x)
        low = prepare.in_bfloat16(plain, x)
        assert low is not None
        found = low(x)
        assert torch.equal(plain(x), before)
    assert found.dtype == torch.float32
    types = {name.split(".")[1]: parameter.dtype for name, parameter in low.named_parameters()}
    assert types == {"encoder": torch.bfloat16, "head": torch.float32}
    apart = (found - before).abs().amax(dim=1) / (before.amax(dim=1) - before.amin(dim=1))
    assert 0 < apart.max() < prepare.DOUBT
    (gradient,) = torch.autograd.grad(low(x.requires_grad_()).square().sum(), x)
    (exact,) = torch.autograd.grad(plain(x).square().sum(), x)
    assert gradient.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(gradient.flatten(), exact.flatten(), dim=0) > 0.98


def test_a_network_that_makes_float32_of_its_own_or_overflows_is_not_lowered() -> None:
    class Mixing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ torch.ones(3 * 32 * 32, 4)

    class Endless(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) * torch.inf

    for encoder in (Mixing(), Endless()):
        network = nn.Sequential()
        network.encoder = encoder
        assert prepare.in_bfloat16(network, torch.rand(2, 3, 32, 32)) is None


def test_an_answer_within_the_doubt_of_a_lowered_network_is_not_wrong() -> None:
    logits = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, -1.0], [0.99, 1.0, 0.0], [0.9, 1.0, 0.0]])
    labels, images = torch.zeros(4, dtype=torch.int64), torch.zeros(4, 1, 2, 2)
    exact, low = prepare.wrong_on(nn.Identity()), prepare.wrong_on(prepare.Bfloat16(nn.Identity()))
    assert exact(images, logits, labels).tolist() == [False, True, True, True]
    assert low(images, logits, labels).tolist() == [False, True, False, True]
