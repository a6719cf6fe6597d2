"""Device, threads, seeds, and the one way in which a network is run over images.

Floating-point results depend on the shape of a batch, so every forward pass here has the same fixed batch size, the last
batch padded: then the order and the number of shards never change a result.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from bench.config import Compute
from bench.errors import BenchError

if TYPE_CHECKING:
    import torch
    from torch import nn


def seed_of(*parts: object) -> int:
    """A 63-bit seed from any parts (a seed, a sample id, a name), the same on every machine."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def rng(*parts: object) -> np.random.Generator:
    """A numpy generator seeded by `seed_of(*parts)`; per-sample randomness uses the sample id as a part."""
    return np.random.default_rng(seed_of(*parts))


def device_of(compute: Compute) -> torch.device:
    """The device to compute on. BenchError where `cuda` is asked for and not there."""
    import torch

    if compute.device == "cuda" and not torch.cuda.is_available():
        raise BenchError("`compute.device: cuda`, but torch sees no GPU.", where="params.yaml", remedy="Use `auto`.")
    if compute.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(compute.device)


def prepare(compute: Compute, seed: int) -> torch.device:
    """Set threads, determinism and torch's seed once per process, and return the device."""
    import torch

    torch.set_num_threads(compute.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(seed)
    return device_of(compute)


def forward(network: nn.Module, images: np.ndarray, compute: Compute, *, features: bool = False) -> np.ndarray:
    """Run `network` over images (N, C, H, W) float32 in [0, 1]; return logits (N, K), or features (N, D), float32.

    Inference mode, channels_last, batches of exactly `compute.batch_size` (the last one padded with zeros).
    Raises BenchError where an output is NaN or infinite.
    """
    import torch

    device = device_of(compute)
    network = network.to(device=device, memory_format=torch.channels_last).eval()
    run = network.features if features else network
    outputs, size = [], compute.batch_size
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=compute.dtype == "bfloat16")
    with torch.inference_mode(), autocast:
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            padded = np.zeros((size, *images.shape[1:]), np.float32)
            padded[: len(batch)] = batch
            x = torch.from_numpy(padded).to(device=device, memory_format=torch.channels_last)
            outputs.append(run(x)[: len(batch)].float().cpu().numpy())
    result = np.concatenate(outputs)
    if not np.isfinite(result).all():
        bad = int((~np.isfinite(result).all(axis=1)).sum())
        raise BenchError(
            f"the network gives NaN or infinite outputs for {bad} of {len(result)} images.",
            where=getattr(network, "name", type(network).__name__),
            remedy="Train it again (a lower `lr` in params.yaml), or remove it.",
        )
    return result
