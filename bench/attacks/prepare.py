"""Networks as attacks run them: batch norm folded into the convolutions, which saves a third of a pass."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

TOLERANCE = 1e-3
"""How far apart logits may be, as a share of their spread, for a folded network to be taken."""


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
    spread = (expected.amax(dim=1) - expected.amin(dim=1)).clamp_min(1e-6)
    same = ((found - expected).abs().amax(dim=1) <= TOLERANCE * spread).all()
    return once if bool(same) else plain


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
