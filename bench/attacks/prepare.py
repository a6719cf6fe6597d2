"""Networks as attacks run them: batch norm folded into the convolutions, which saves a fifth to a third of a pass, and
where it is asked for with an encoder in bfloat16, which on processors that compute in it saves half of what is left."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

TOLERANCE = 1e-3
"""How far apart logits may be, as a share of their spread, for a folded network to be taken."""


DOUBT = 0.02
"""By how much, as a share of the spread of its logits, a network in bfloat16 must be wrong to be taken for wrong: it
answers up to 0.006 of that otherwise than in float32 (ResNet-20 on digits)."""


class Bfloat16(nn.Module):
    """A network whose encoder computes in bfloat16: images in [0, 1] to logits in float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


class _ToBfloat16(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.to(torch.bfloat16)


def in_bfloat16(network: nn.Module, example: Tensor) -> Bfloat16 | None:
    """A copy of a network of the zoo with its encoder in bfloat16, weights too; its resizing, normalisation and head
    stay in float32. None of one that cannot compute so, which `example` (N, C, H, W) shows. Whether attacks on it are
    as strong is not known here (`Attack.dtype`)."""
    once = copy.deepcopy(network)
    once.encoder = nn.Sequential(_ToBfloat16(), once.get_submodule("encoder").to(torch.bfloat16))
    example = example.to(next((p.device for p in network.parameters()), example.device))
    try:
        with torch.inference_mode():
            logits = once(example)
    except RuntimeError:  # a layer that makes float32 of its own, which torch does not mix with bfloat16
        return None
    return Bfloat16(once) if bool(logits.isfinite().all()) else None


def folded(network: nn.Module, example: Tensor) -> nn.Module:
    """A copy of `network` in eval mode, without gradients of its weights, whose batch norms are folded into the
    convolutions before them; or an unfolded copy, where the answers to `example` (N, C, H, W) are not the same then.

    Which batch norm follows which convolution is seen in one pass over `example`: nothing is traced, so any module can
    be folded, and a convolution whose output is used elsewhere too is found out by the answers.
    """
    plain = copy.deepcopy(network).eval().requires_grad_(False)
    example = example.to(next((p.device for p in plain.parameters()), example.device))
    once = copy.deepcopy(plain)
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made[id(output)] = module, output  # the output is held, so that its id stays its own
        elif isinstance(module, nn.BatchNorm2d) and id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])][0], module))

    hooks = [module.register_forward_hook(after) for module in once.modules()]
    with torch.inference_mode():
        expected = once(example)
    for hook in hooks:
        hook.remove()
    convs, norms = ([id(pair[at]) for pair in pairs] for at in (0, 1))
    rest = {}
    for conv, norm in pairs:
        after_it = _without_norm(norm)
        if after_it is not None and convs.count(id(conv)) == 1 and norms.count(id(norm)) == 1:
            _fold(conv, norm)
            rest[norm] = after_it
    for parent in list(once.modules()):
        for name, child in list(parent.named_children()):
            if child in rest:
                setattr(parent, name, rest[child])
    with torch.inference_mode():
        found = once(example)
    same = ((found - expected).abs().amax(dim=1) <= TOLERANCE * _spread(expected)).all()
    return once if bool(same) else plain


def _spread(logits: Tensor) -> Tensor:
    """(N,) of (N, K)."""
    return (logits.amax(dim=1) - logits.amin(dim=1)).clamp_min(1e-6)


def wrong_on(network: nn.Module) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Of images, logits of `network` (N, K) and labels (N,): which are answered wrongly, (N,) bool; of a `Bfloat16` one
    which are by more than DOUBT."""
    if not isinstance(network, Bfloat16):
        return lambda images, logits, labels: logits.argmax(dim=1) != labels

    def wrong(images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        own = logits.gather(1, labels[:, None])[:, 0]
        return logits.amax(dim=1) - own > DOUBT * _spread(logits)

    return wrong


def _without_norm(norm: nn.BatchNorm2d) -> nn.Module | None:
    """What a batch norm does besides: nothing, or as timm's do, an activation. None of one that is not understood."""
    if norm.running_mean is None or norm.running_var is None:
        return None
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    parts = [getattr(norm, name, None) for name in ("drop", "act")]
    known = [part for part in parts if isinstance(part, nn.Module)]
    return nn.Sequential(*known) if len(known) == len(parts) else None


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None, "_without_norm has looked"
    assert norm.running_var is not None, "and there"
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    conv.requires_grad_(False)
