"""The layers of any torch model: each by name with the shape of its input, and none left out in silence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from bench.errors import BenchError
from bench.studies import collisions, layers, nullity, nullspace

IMAGE = torch.zeros(1, 1, 4, 6)


class Rows(nn.Module):
    """The rows of an image as a sequence, through a module."""

    def __init__(self, module: nn.Module, *, batch_first: bool = True) -> None:
        super().__init__()
        self.module, self.batch_first = module, batch_first

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, 0]
        return self.module(x if self.batch_first else x.transpose(0, 1))


class Attention(nn.Module):
    def __init__(self, how: str = "positional") -> None:
        super().__init__()
        self.attention, self.how = nn.MultiheadAttention(6, 2, batch_first=how != "batch second"), how

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, 0]
        match self.how:
            case "batch second":
                x = x.transpose(0, 1)
            case "keyword":
                return self.attention(query=x, key=x, value=x)[0]
            case "views":
                return self.attention(x[:, :], x[:, :], x)[0]
            case "no batch":
                return self.attention(x[0], x[0], x[0])[0]
            case "across":
                return self.attention(x, x + 1, x)[0]
        return self.attention(x, x, x)[0]


class Own(nn.Module):
    """Applies weights by itself."""

    def __init__(self, how: Callable[[Own, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.how, self.layer = nn.Parameter(torch.ones(6, 6)), how, nn.Linear(6, 6)
        self.register_buffer("fixed", torch.ones(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self, self.layer(x))


class Idle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(6, 2), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


ATTENTIVE = {
    **{how: Attention(how) for how in ("positional", "keyword", "batch second", "views", "no batch")},
    "in a block": Rows(nn.TransformerEncoderLayer(6, 2, 5, batch_first=True)),
    "in a block, batch second": Rows(nn.TransformerEncoderLayer(6, 2, 5), batch_first=False),
}


@pytest.mark.parametrize("case", ATTENTIVE)
def test_the_projections_of_attention_are_layers(case: str) -> None:
    network = ATTENTIVE[case].eval()
    found, every = layers.shapes(network, IMAGE), layers.of(network)
    assert sorted(found) == sorted(every)
    first = next(name for name in every if name.endswith("in_proj"))
    assert layers.first(network, IMAGE) == (first, (4, 6))
    assert {found[name] for name in found if "linear2" not in name} == {(4, 6)}, "wherever the batch is"
    assert nullity.measure(every[first], found[first]).nullity == 0
    with torch.no_grad():
        next(one for one in network.modules() if isinstance(one, nn.MultiheadAttention)).in_proj_weight[:, :2] = 0
    assert nullity.measure(layers.of(network)[first], found[first]).nullity == 4 * 2, "of each of the four places"
    with pytest.raises(BenchError, match="part of an attention"):
        collisions.at_layer(network, first, IMAGE)


LEFT_OUT = {
    "a layer that is not run": (Idle(), "idle: not run"),
    "attention from one to another": (Attention("across"), "attends from one input to another"),
    "a recurrent one": (Rows(nn.LSTM(6, 3)), "module is a LSTM"),
    "a scripted one": (Rows(torch.jit.script(nn.Linear(6, 3))), "RecursiveScriptModule"),
}  # fmt: skip
BY_ITSELF = {
    "linear": lambda own, x: F.linear(x, own.weight),
    "of a layer": lambda own, x: F.linear(x, own.layer.weight),
    "convolution": lambda own, x: F.conv2d(x, own.weight[None, None, :3, :3]),
    "bilinear": lambda own, x: F.bilinear(x, x, own.weight[None].expand(2, 6, 6)),
    "operator": lambda own, x: x @ own.weight,
    "transposed": lambda own, x: x @ own.weight.T,
    "a part": lambda own, x: torch.matmul(x, own.weight[:, :3]),
    "a method": lambda own, x: x[0, 0].mm(own.weight),
    "a buffer": lambda own, x: x @ own.fixed,
    "a sum of products": lambda own, x: torch.einsum("bcij,jk->bcik", x, own.weight),
    "a list": lambda own, x: torch.einsum("bcij,jk->bcik", [x, own.weight.T]),
    "a tensor product": lambda own, x: torch.tensordot(x, own.weight, dims=1),
    "attention": lambda own, x: F.multi_head_attention_forward(
        x[0], x[0], x[0], 6, 2, own.weight.repeat(3, 1), None, None, None, False, 0.0, own.weight, None
    )[0],
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_weights_that_are_no_layers_are_named_not_left_out(case: str) -> None:
    network, why = LEFT_OUT[case]
    with pytest.raises(BenchError, match=f"not measured: .*{why}") as caught:
        layers.shapes(network.eval(), IMAGE)
    assert caught.value.remedy


@pytest.mark.parametrize("case", BY_ITSELF)
def test_weights_that_a_module_applies_itself_are_named(case: str) -> None:
    network = Own(BY_ITSELF[case]).eval()
    network(IMAGE)
    with pytest.raises(BenchError, match="is called by a module itself"):
        layers.shapes(network, IMAGE)
    assert layers.first(network, IMAGE) == ("layer", (1, 4, 6)), "what follows the first layer is not run"


def test_what_is_no_weight_may_be_multiplied() -> None:
    network = Own(lambda own, x: (x @ x.transpose(-1, -2)) * own.weight[:4, :4]).eval()
    assert layers.shapes(network, IMAGE) == {"layer": (1, 4, 6)}


def test_weights_before_the_first_layer_are_not_passed_over() -> None:
    class Before(Own):
        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x @ self.weight)

    with pytest.raises(BenchError, match="is called by a module itself"):
        layers.first(Before(lambda own, x: x).eval(), IMAGE)
    with pytest.raises(BenchError, match="runs no linear layer"):
        layers.first(nn.ReLU(), IMAGE)


def test_places_that_are_folded_into_the_batch_are_counted() -> None:
    class Windows(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.reshape(4, 1, *((1, 6) if isinstance(self.layer, nn.Conv2d) else (6,))))

    assert layers.shapes(Windows(nn.Linear(6, 2)), IMAGE) == {"layer": (4, 6)}
    assert layers.shapes(Windows(nn.Linear(6, 2)), torch.zeros(2, 1, 2, 6)) == {"layer": (2, 6)}
    with pytest.raises(BenchError, match="inputs of 4 x 1 x 1 x 6, which are parts of an image"):
        layers.shapes(Windows(nn.Conv2d(1, 2, 1)), IMAGE)


def test_layers_that_make_their_weights_are_measured_or_refused() -> None:
    made = torch.nn.utils.parametrizations.weight_norm(nn.Linear(6, 2))
    assert nullity.measure(made, (6,)).nullity == 4
    assert layers.shapes(made, IMAGE) == {"": (1, 4, 6)}
    with pytest.warns(FutureWarning):
        hooked = torch.nn.utils.weight_norm(nn.Linear(6, 2))
    pruned = prune.l1_unstructured(nn.Linear(6, 2), "weight", 3)
    for layer in (hooked, pruned):
        with pytest.raises(BenchError, match="makes its weight anew in a hook"):
            nullity.measure(layer, (6,))
        with pytest.raises(BenchError, match="makes its weight anew in a hook"):
            collisions.in_double(nn.Sequential(layer))
    assert nullspace.in_double(prune.remove(pruned, "weight")).weight.dtype == torch.float64
