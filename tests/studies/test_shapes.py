"""What the first layers of published architectures must drop, by their shapes."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from bench.errors import BenchError
from bench.studies import nullity, shapes


@pytest.mark.parametrize(
    ("name", "layer", "n_in", "dropped"),
    [
        ("vit_base_patch32_224", "patch_embed.proj", 3 * 224**2, 49 * 2304),
        ("vit_tiny_patch16_224", "patch_embed.proj", 3 * 224**2, 196 * (768 - 192)),
        ("vit_base_patch16_224", "patch_embed.proj", 3 * 224**2, 0),
        ("resnet18", "conv1", 3 * 224**2, 0),
    ],
)
def test_a_first_layer_drops_what_it_has_no_filters_for(name: str, layer: str, n_in: int, dropped: int) -> None:
    at, found = shapes.first(name)
    assert (at, found.n_in, found.nullity) == (layer, n_in, dropped)
    assert found.method == "shape"
    assert found.nullity_high == n_in


def test_what_shapes_say_holds_for_weights() -> None:
    at, bound = shapes.first("vit_tiny_patch16_224")
    torch.manual_seed(0)
    layer = timm.create_model("vit_tiny_patch16_224").get_submodule(at)
    assert nullity.measure(layer, (3, 224, 224)).nullity == bound.nullity


def test_at_least_forty_architectures_are_listed_once() -> None:
    assert len(set(shapes.ARCHITECTURES)) == len(shapes.ARCHITECTURES) >= 40


class Still(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pretrained_cfg = {"input_size": (3, 8, 8)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


class Doubled(Still):
    def __init__(self) -> None:
        super().__init__()
        self.layer = Twice(3, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class Twice(nn.Conv2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        found = super().forward(input)
        return torch.cat([found, found], dim=1)


@pytest.mark.parametrize(
    ("network", "why"), [(Still, "runs no linear layer"), (Doubled, "does more than its sizes say")]
)
def test_what_sizes_do_not_tell_is_refused(monkeypatch: pytest.MonkeyPatch, network: type[nn.Module], why: str) -> None:
    monkeypatch.setattr(timm, "create_model", lambda name: network())
    with pytest.raises(BenchError, match=why):
        shapes.first("any")
