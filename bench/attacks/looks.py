"""What a network looks at: Grad-CAM of its last map of features. torch.

Source: R. Selvaraju et al., Grad-CAM (ICCV 2017, arXiv 1610.02391), equations 1 and 2.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import compute
from bench.attacks.engine import Images
from bench.config import Compute


def last_map(network: nn.Module, example: Tensor) -> nn.Module | None:
    """The last module whose output is a map (N, C, H, W) of more than one position; none where there is no such one.

    Of a network of patches that is their embedding, as later layers give tokens.
    """
    seen: list[nn.Module] = []

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[2] * output.shape[3] > 1:
            seen.append(module)

    inner = [module for module in network.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(after) for module in inner]
    try:
        with torch.inference_mode():
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return seen[-1] if seen else None


def grad_cam(
    network: nn.Module, images: Images, labels: npt.NDArray[np.int64], settings: Compute
) -> npt.NDArray[np.float32] | None:
    """How much each position of images (N, C, H, W) speaks for their labels (N,): (N, H, W), at least 0, not scaled.

    None where the network has no map of features, as on raw pixels.
    """
    device, size = compute.device_of(settings), settings.batch_size
    network = compute.placed(network, device)
    layer = last_map(network, compute.padded(images[:1], size, device))
    if layer is None:
        return None
    held: list[Tensor] = []

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # A copy: a later activation may write into its own input.
        held[:] = [output.detach().requires_grad_()]
        return held[0].clone()

    hook = layer.register_forward_hook(after)
    out = []
    try:
        for begin in range(0, len(images), size):
            some = images[begin : begin + size]
            logits = network(compute.padded(some, size, device))
            asked = torch.zeros(size, dtype=torch.int64, device=device)
            asked[: len(some)] = torch.from_numpy(labels[begin : begin + size]).to(device)
            (gradient,) = torch.autograd.grad(logits.gather(1, asked[:, None]).sum(), held[0])
            weights = gradient.mean(dim=(2, 3), keepdim=True)
            cam = (weights * held[0].detach()).sum(dim=1, keepdim=True).clamp_min(0)
            wide = F.interpolate(cam, size=images.shape[2:], mode="bilinear", align_corners=False)
            out.append(wide[: len(some), 0].cpu().numpy())
    finally:
        hook.remove()
    return np.concatenate(out)
