"""The linear layers and convolutions of any torch model, by name, and the shapes of their inputs: none is left out in
silence."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bench.errors import BenchError
from bench.studies.nullspace import Linear

UNKNOWN = (nn.RNNBase, nn.RNNCellBase, nn.Bilinear, torch.jit.ScriptModule)
"""Modules whose weights are those of no linear layer by itself, or cannot be seen."""
APPLIED = {
    *("linear", "bilinear", "embedding_bag", "multi_head_attention_forward", "conv1d", "conv2d", "conv3d", "conv_tbc"),
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
}
"""Names of torch's functions that apply weights, whoever calls them."""
PRODUCTS = {
    *("matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "dot", "vdot", "inner", "kron", "tensordot", "einsum"),
    *("addmm", "addbmm", "baddbmm", "addmv", "multi_dot", "chain_matmul"),
}
"""Names of its functions that do where one side is a weight."""


class _Reached(Exception):
    """The first layer was reached."""


def of(network: nn.Module) -> dict[str, nn.Module]:
    """Name -> every linear layer and convolution, in the order of the modules. The projections of an
    `nn.MultiheadAttention`, which it runs by itself, are `<name>.in_proj` (query, key and value, one below the other)
    and `<name>.out_proj`."""
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        if isinstance(module, Linear):
            found[name] = module
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            found[_within(name, "in_proj")] = _projection(module.in_proj_weight)
    return found


def _within(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part


def _projection(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    return layer


def shapes(network: nn.Module, images: Tensor) -> dict[str, tuple[int, ...]]:
    """Layer (as `of`) -> shape of its input without the batch, of all layers, in the order in which a pass over
    `images` (N, C, H, W) runs them. A linear layer may have its places anywhere: they are counted.

    BenchError where a layer is not run, or on inputs of several shapes, or a convolution on parts of an image; and
    where weights are applied that are no layer's: by a recurrent, bilinear or scripted module, by attention from one
    input to another, or by a function of `torch` that a module calls itself.
    """
    found = _seen(network, images, first=False)
    if idle := [name for name in of(network) if name not in found]:
        raise _unknown(
            f"{', '.join(idle[:3])}{' and more' if len(idle) > 3 else ''}: not run by a pass over an image",
            "Take away what is not used.",
        )
    return found


def first(network: nn.Module, images: Tensor) -> tuple[str, tuple[int, ...]]:
    """The first layer (`of`) that a pass over `images` (N, C, H, W) comes to, and the shape of its input without the
    batch: what follows is not run. BenchError where weights that are no layer's are applied before, or there is none.
    """
    found = _seen(network, images, first=True)
    if not found:
        raise BenchError("runs no linear layer.", where="the model", remedy="Name another one.")
    return next(iter(found.items()))


def _seen(network: nn.Module, images: Tensor, *, first: bool) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    inside: list[str] = []
    hooks = []

    def note(name: str, shape: tuple[int, ...]) -> None:
        if found.setdefault(name, shape) != shape:
            raise BenchError(
                "is run on inputs of several shapes.", where=f"layer {name}", remedy="Its rank is that of none."
            )
        if first:
            raise _Reached

    def enter(name: str, module: nn.Module, given: tuple[Any, ...], more: dict[str, Any]) -> None:
        inside.append(name)
        if isinstance(module, nn.MultiheadAttention):
            query, key, value = (
                given[i] if i < len(given) else more[one] for i, one in enumerate(("query", "key", "value"))
            )
            if not (_same(query, key) and _same(key, value)):
                raise _unknown(
                    f"{name} attends from one input to another", "Its projections are three layers, not one."
                )
            n_places = query.numel() // (len(images) * module.embed_dim)
            note(_within(name, "in_proj"), (n_places, module.embed_dim))
            note(_within(name, "out_proj"), (n_places, module.embed_dim))
            return
        x: Tensor = given[0] if given else more["input"]
        if isinstance(module, nn.Linear):
            if x.shape[0] == len(images) and x.ndim > 1:
                note(name, tuple(x.shape[1:]))
            else:
                note(name, (x.numel() // (len(images) * module.in_features), module.in_features))
        elif x.shape[0] != len(images) or x.ndim != module.weight.ndim:
            raise BenchError(
                f"is run on inputs of {' x '.join(map(str, x.shape))}, which are parts of an image.",
                where=f"layer {name}",
                remedy="A convolution is measured where its first axis is that of the images.",
            )
        else:
            note(name, tuple(x.shape[1:]))

    def leave(*_: object) -> None:
        inside.pop()

    for name, module in network.named_modules():
        if isinstance(module, UNKNOWN):
            raise _unknown(f"{name} is a {type(module).__name__}", "Measure the layers around it by themselves.")
        if isinstance(module, (*Linear, nn.MultiheadAttention)):
            hooks.append(module.register_forward_pre_hook(partial(enter, name), with_kwargs=True))
            hooks.append(module.register_forward_hook(leave, always_call=True))
    try:
        with torch.no_grad(), _Watch(network, inside):
            network(images)
    except _Reached:
        return found
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are one, or two views of one."""
    return a is b or (a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride())


class _Watch(TorchFunctionMode):
    """Refuses weights of a network that are applied while no layer is being run (`inside`)."""

    def __init__(self, network: nn.Module, inside: list[str]) -> None:
        super().__init__()
        self.inside = inside
        held = [*network.parameters(), *network.buffers()]
        held += [one for module in network.modules() for one in vars(module).values() if isinstance(one, Tensor)]
        self.weights = {_storage(one) for one in held if one.ndim > 1}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if not self.inside and (name in APPLIED or name in PRODUCTS):
            given = [one for one in _flat([*args, *(kwargs or {}).values()]) if isinstance(one, Tensor)]
            if name in APPLIED or any(_storage(one) in self.weights for one in given):
                raise _unknown(
                    f"`{name}` is called by a module itself, with weights",
                    "Make a linear layer or a convolution of them.",
                )
        return func(*args, **(kwargs or {}))


def _storage(tensor: Tensor) -> int:
    """Which memory a tensor is a view of; on no device, too, where there is no address."""
    return tensor.untyped_storage()._cdata


def _flat(values: list[Any]) -> list[Any]:
    return [one for value in values for one in (_flat(list(value)) if isinstance(value, (list, tuple)) else [value])]


def _unknown(what: str, remedy: str) -> BenchError:
    return BenchError(f"has weights that are not measured: {what}.", where="the model", remedy=remedy)
