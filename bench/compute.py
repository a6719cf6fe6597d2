"""Device, threads, seeds, and the one way in which a network is run over images.

Floating-point results depend on the shape of a batch, so every pass here has the same fixed batch size, the last batch
padded: then the order and the number of shards never change a result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bench.config import Compute
from bench.errors import BenchError

if TYPE_CHECKING:
    import torch
    from torch import nn

Module = TypeVar("Module", bound="nn.Module")


def seed_of(*parts: object) -> int:
    """A 63-bit seed from any parts (a seed, a sample id, a name), the same on every machine."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def hash_order(sample_ids: Iterable[str]) -> list[str]:
    """Sample ids in the order of their sha256: it has nothing to do with what the images show."""
    return sorted(sample_ids, key=lambda sample_id: hashlib.sha256(str(sample_id).encode()).digest())


def declared(ids: np.ndarray, n_images: int | None) -> np.ndarray:
    """Indices (M,), rising, of the first `n_images` (None: all) of sample ids (N,) in the order of their sha256."""
    if n_images is None:
        return np.arange(len(ids))
    return np.flatnonzero(np.isin(ids, hash_order(ids)[:n_images]))


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
    torch.set_deterministic_debug_mode("warn")  # use_deterministic_algorithms also imports the compiler, 1.4 s
    torch.backends.cudnn.allow_tf32 = False  # convolutions on a GPU would else keep 10 bits of mantissa
    torch.manual_seed(seed)
    return device_of(compute)


def placed(network: Module, device: torch.device) -> Module:
    """`network` itself, on `device`, in the memory layout of every pass here (channels_last) and in eval mode."""
    import torch

    return network.to(device=device, memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]


def padded(images: np.ndarray, size: int, device: torch.device) -> torch.Tensor:
    """A batch of exactly `size` images on `device`: the given ones (n <= size, C, H, W), then zeros."""
    import torch

    batch = images
    if len(images) < size:
        batch = np.zeros((size, *images.shape[1:]), np.float32)
        batch[: len(images)] = images
    return torch.from_numpy(batch).to(device=device, memory_format=torch.channels_last)


def forward(network: nn.Module, images: np.ndarray, compute: Compute, *, features: bool = False) -> np.ndarray:
    """Run `network` over images (N, C, H, W) float32 in [0, 1]; return logits (N, K), or features (N, D), float32.

    Inference mode, channels_last, batches of exactly `compute.batch_size` (the last one padded with zeros).
    `features` asks for `network.features` instead. With `dtype: bfloat16`, passes run under autocast.
    Raises BenchError where there are no images, or where an output is NaN or infinite.
    """
    import torch

    where = getattr(network, "name", type(network).__name__)
    if not len(images):
        raise BenchError("there are no images to run it on.", where=where, remedy="Check the dataset.")
    device, size = device_of(compute), compute.batch_size
    network = placed(network, device)
    run: Any = network.features if features else network
    outputs = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=compute.dtype == "bfloat16"):
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            outputs.append(run(padded(batch, size, device))[: len(batch)].float().cpu().numpy())
    result = np.concatenate(outputs)
    if not np.isfinite(result).all():
        bad = int((~np.isfinite(result).all(axis=1)).sum())
        raise BenchError(
            f"the network gives NaN or infinite outputs for {bad} of {len(result)} images.",
            where=where,
            remedy="Train it again (a lower `lr` in params.yaml), or remove it.",
        )
    return result
