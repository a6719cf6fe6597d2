"""The layers of any torch model: each by name with the shape of its input, and none left out in silence."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import BenchError
from bench.studies import layers, nullity

IMAGE = torch.zeros(1, 1, 4, 6)


class Rows(nn.Module):
    """The rows of an image as a sequence, through a module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x[:, 0])


class Attention(nn.Module):
    def __init__(self, *, batch_first: bool = True, keyed: bool = False, across: bool = False) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=batch_first)
        self.keyed, self.across = keyed, across

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, 0] if self.attention.batch_first else x[:, 0].transpose(0, 1)
        if self.keyed:
            return self.attention(query=x, key=x, value=x)[0]
        return self.attention(x, x + 1 if self.across else x, x)[0]


class Idle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(6, 2), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


class Own(nn.Module):
    """Applies its weight by itself."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.weight, self.how = nn.Parameter(torch.ones(6, 6)), how
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return {
            "linear": lambda: F.linear(x, self.weight),
            "convolution": lambda: F.conv2d(x, self.weight[None, None, :3, :3]),
            "product": lambda: x @ self.weight,
            "matmul": lambda: torch.matmul(x, self.weight),
            "of another layer": lambda: F.linear(x, self.layer.weight),
        }[self.how]()


ATTENTIVE = {
    "batch first": Attention(),
    "batch second": Attention(batch_first=False),
    "by keyword": Attention(keyed=True),
    "in a block": Rows(nn.TransformerEncoderLayer(6, 2, 5, batch_first=True)),
}


@pytest.mark.parametrize("network", ATTENTIVE.values(), ids=list(ATTENTIVE))
def test_the_projections_of_attention_are_layers(network: nn.Module) -> None:
    network = network.eval()
    found = layers.shapes(network, IMAGE, every=True)
    names = list(layers.of(network))
    assert sorted(found) == sorted(names)
    assert {name.rsplit(".", 1)[1] for name in names} >= {"in_proj", "out_proj"}
    first = next(name for name in names if name.endswith("in_proj"))
    assert found[first] == (4, 6)
    assert nullity.measure(layers.of(network)[first], found[first]).nullity == 0
    with torch.no_grad():
        next(one for one in network.modules() if isinstance(one, nn.MultiheadAttention)).in_proj_weight[:, :2] = 0
    assert nullity.measure(layers.of(network)[first], found[first]).nullity == 4 * 2, "of each of the four places"


LEFT_OUT = {
    "a layer that is not run": (Idle(), "idle: not run"),
    "attention from one to another": (Attention(across=True), "attends from one input to another"),
    "a recurrent one": (Rows(nn.LSTM(6, 3)), "module is a LSTM"),
    **{
        how: (Own(how), "by a module itself")
        for how in ("linear", "convolution", "product", "matmul", "of another layer")
    },
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_weights_that_are_no_layers_are_named_not_left_out(case: str) -> None:
    network, why = LEFT_OUT[case]
    with pytest.raises(BenchError, match=f"not measured: .*{why}") as caught:
        layers.shapes(network.eval(), IMAGE, every=True)
    assert caught.value.remedy
    layers.shapes(network, IMAGE)


def test_layers_that_make_their_weights_are_measured_or_refused() -> None:
    made = torch.nn.utils.parametrizations.weight_norm(nn.Linear(6, 2))
    assert nullity.measure(made, (6,)).nullity == 4
    assert layers.shapes(made, IMAGE, every=True) == {"": (1, 4, 6)}
    with pytest.warns(FutureWarning):
        hooked = torch.nn.utils.weight_norm(nn.Linear(6, 2))
    with pytest.raises(BenchError, match="makes its weight anew in a hook"):
        nullity.measure(hooked, (6,))
