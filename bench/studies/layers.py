"""The linear layers and convolutions of any torch model, by name, and the shapes of their inputs: none is left out in
silence."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bench.errors import BenchError
from bench.studies.nullspace import Linear

UNKNOWN = (nn.RNNBase, nn.RNNCellBase, nn.Bilinear)
"""Modules whose weights are those of no linear layer by itself."""
APPLIED: tuple[Any, ...] = (
    F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d,
)  # fmt: skip
PRODUCTS: tuple[Any, ...] = (torch.matmul, Tensor.matmul, torch.mm, torch.addmm, torch.einsum)


def of(network: nn.Module) -> dict[str, nn.Module]:
    """Name -> every linear layer and convolution, in the order of the modules. The projections of an
    `nn.MultiheadAttention`, which it runs by itself, are `<name>.in_proj` (query, key and value, one below the other)
    and `<name>.out_proj`."""
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        if isinstance(module, Linear):
            found[name] = module
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            found[f"{name}.in_proj"] = _projection(module.in_proj_weight)
    return found


def _projection(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    return layer


def shapes(network: nn.Module, images: Tensor, *, every: bool = False) -> dict[str, tuple[int, ...]]:
    """Layer (as `of`) -> shape of its input without the batch, of those that a pass over `images` (N, C, H, W) runs, in
    order.

    BenchError where one layer is run on inputs of several shapes; with `every` also where a layer is not run, and where
    weights are applied that are no layer's: by a recurrent or bilinear module, by attention from one input to another,
    or by a function of `torch` that a module calls itself.
    """
    found: dict[str, tuple[int, ...]] = {}
    inside: list[str] = []
    hooks = []

    def note(name: str, shape: tuple[int, ...]) -> None:
        if found.setdefault(name, shape) != shape:
            raise BenchError(
                "is run on inputs of several shapes.", where=f"layer {name}", remedy="Its rank is that of none."
            )

    def enter(name: str, module: nn.Module, given: tuple[Any, ...], more: dict[str, Any]) -> None:
        inside.append(name)
        if not isinstance(module, nn.MultiheadAttention):
            return note(name, tuple((given[0] if given else next(iter(more.values()))).shape[1:]))
        query, key, value = (
            given[i] if i < len(given) else more[one] for i, one in enumerate(("query", "key", "value"))
        )
        if query is not key or key is not value:
            if every:
                raise _unknown(
                    f"{name} attends from one input to another", "Its projections are three layers, not one."
                )
            return None
        shape = (query.shape[1] if module.batch_first else query.shape[0], query.shape[2])
        note(f"{name}.in_proj", shape)
        return note(f"{name}.out_proj", (*shape[:1], module.embed_dim))

    def leave(*_: object) -> None:
        inside.pop()

    for name, module in network.named_modules():
        if every and isinstance(module, UNKNOWN):
            raise _unknown(f"{name} is a {type(module).__name__}", "Measure the layers around it by themselves.")
        if isinstance(module, (*Linear, nn.MultiheadAttention)):
            hooks.append(module.register_forward_pre_hook(partial(enter, name), with_kwargs=True))
            hooks.append(module.register_forward_hook(leave, always_call=True))
    try:
        with torch.no_grad(), _Watch(lambda: every and not inside):
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    if every and (idle := [name for name in of(network) if name not in found]):
        raise _unknown(
            f"{', '.join(idle[:3])}{' and more' if len(idle) > 3 else ''}: not run by a pass over an image",
            "Take away what is not used.",
        )
    return found


class _Watch(TorchFunctionMode):
    """Refuses weights that are applied while `outside` of every layer."""

    def __init__(self, outside: Callable[[], bool]) -> None:
        super().__init__()
        self.outside = outside

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [one for one in (*args, *(kwargs or {}).values()) if isinstance(one, Tensor)]
        held = any(isinstance(one, nn.Parameter) and one.ndim > 1 for one in given)
        if (func in APPLIED or (func in PRODUCTS and held)) and self.outside():
            sizes = [" x ".join(map(str, one.shape)) for one in given[1:2]]
            raise _unknown(
                f"{func.__name__} is called with weights of {', '.join(sizes)} by a module itself",
                "Make a linear layer or a convolution of them.",
            )
        return func(*args, **(kwargs or {}))


def _unknown(what: str, remedy: str) -> BenchError:
    return BenchError(f"has weights that are not measured: {what}.", where="the model", remedy=remedy)
