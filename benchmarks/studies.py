"""Claims of study 4: the exact nullity of a stem on 3 x 32 x 32 takes at most 20 s and 2 GB, that of a patchify stem on
224 x 224 at most 1 s each, and a collision of 32 x 32 pixels at most 1 s, on a batch of images.

Seconds of the processor, which a busy machine stretches little, on one thread; medians of ROUNDS that alternate with
the peers' in one process; memory is the peak of a process of its own.
Peers: scipy.linalg.null_space of the dense matrix, where it fits (for a 3x3 stem with 64 filters it needs a basis of
65,536 squared), and a plain loop over LOOPED of the images that projects with the dense kernel of the whole image. The
loop is given its kernel, ours finds its blocks within its time. Images are crops of the photographs that scikit-learn
comes with.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import Targets, beside, met

ROUNDS, IMAGES, LOOPED, ITERATIONS = 3, 32, 8, 200
PATCHIFY = ((4, 96), (4, 128), (7, 64), (8, 384), (14, 384), (16, 192), (16, 384), (16, 768), (16, 1024), (32, 768))
"""Patch and width of stems of published architectures (ConvNeXt, Swin, CoaT, DINO, ViT, Mixer)."""
TARGETS: Targets = {
    "stem_s": ("<=", 20),
    "stem_peak_mb": ("<=", 2000),
    "slowest_patchify_s": ("<=", 1),
    "collision_s": ("<=", 1),
    "saturated_collision_s": ("<=", 1),
}


def run() -> dict[str, Any]:
    """Median seconds of the processor, ratios to the peers' in the same round, and whether results are the peers'."""
    import torch

    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {}

    def timed(name: str, do: Callable[[], Any]) -> Any:
        begun = time.process_time()
        found = do()
        seconds.setdefault(name, []).append(time.process_time() - begun)
        return found

    equal = all(same for _ in range(ROUNDS) for same in (*stems(timed), *images(timed)))
    of = {name: statistics.median(values) for name, values in seconds.items()}
    found = {
        "stem_s": round(of["stem"], 2),
        "stem_peak_mb": peak(),
        "slowest_patchify_s": round(max(of[f"patchify {p} {d}"] for p, d in PATCHIFY), 3),
        "collision_s": round(of["collide"] / IMAGES, 4),
        "saturated_collision_s": round(of["saturated"] / IMAGES, 4),
    }
    return {
        **beside(TARGETS, found),
        "windows_s": round(of["windows"], 4),
        "overlapping_s": round(of["overlapping"], 2),
        "null_space_s": round(of["null_space"], 2),
        "times_null_space": ratio(seconds, "null_space", "overlapping"),
        "times_null_space_of_a_patch": ratio(seconds, "null_space of a patch", "patchify 32 768"),
        "loop_s": round(of["loop"] / LOOPED, 4),
        "times_the_loop": round(ratio(seconds, "loop", "collide") * IMAGES / LOOPED, 1),
        "equal": equal,
        "met": met(TARGETS, found) and equal,
    }


def ratio(seconds: dict[str, list[float]], peer: str, ours: str) -> float:
    """The median of the peer's seconds over ours in the same round."""
    return round(statistics.median(a / b for a, b in zip(seconds[peer], seconds[ours], strict=True)), 1)


def stem(filters: int, kernel: int, stride: int, padding: int) -> Any:
    """A stem on three channels, weights as torch draws them, in float64."""
    import torch

    torch.manual_seed(0)
    return torch.nn.Conv2d(3, filters, kernel, stride, padding).double()


def stems(timed: Callable[[str, Callable[[], Any]], Any]) -> list[bool]:
    """Nullities by all ways; whether they are the peer's."""
    import scipy.linalg

    from bench.studies import nullity, nullspace

    shape, small, strided = (3, 32, 32), stem(64, 3, 1, 1), stem(32, 5, 4, 0)
    whole = timed("stem", lambda: nullity.by_gram(small, shape))
    windows = timed("windows", lambda: nullity.by_windows(small, shape))
    ours = timed("overlapping", lambda: nullity.measure(strided, shape))
    matrix = nullspace.operator(strided, shape)
    kernel = timed("null_space", lambda: scipy.linalg.null_space(matrix))
    same = [windows is not None and whole[0] == windows.rank == 3072, kernel.shape[1] == ours.nullity]
    for patch, width in PATCHIFY:
        layer = stem(width, patch, patch, 0)
        found = timed(f"patchify {patch} {width}", lambda layer=layer: nullity.measure(layer, (3, 224, 224)))
        same.append(found.nullity == 3 * 224**2 - (224 // patch) ** 2 * min(3 * patch**2, width))
    block = layer.weight.detach().flatten(1).numpy()
    free = timed("null_space of a patch", lambda: scipy.linalg.null_space(block)).shape[1]
    return [*same, free * (224 // patch) ** 2 == found.nullity]


def photographs() -> tuple[np.ndarray, np.ndarray]:
    """Crops (IMAGES, 3072) in [0, 1], and others as their targets."""
    from sklearn.datasets import load_sample_images

    rng, drawn = np.random.default_rng(0), []
    for k in range(2 * IMAGES):
        photograph = load_sample_images().images[k % 2]
        top, left = (int(rng.integers(side - 32)) for side in photograph.shape[:2])
        drawn.append(photograph[top : top + 32, left : left + 32].transpose(2, 0, 1).ravel() / 255)
    return np.stack(drawn[:IMAGES]), np.stack(drawn[IMAGES:])


def images(timed: Callable[[str, Callable[[], Any]], Any]) -> list[bool]:
    """Collisions under patches of 8 with 64 filters: inside the box, exact, and as near to the target as the loop's."""
    import scipy.linalg

    from bench.studies import nullspace

    matrix, (x, target) = nullspace.operator(stem(64, 8, 8, 0), (3, 32, 32)), photographs()
    kernel = np.zeros((3072, 2048))
    for k, (rows, columns) in enumerate(nullspace.blocks(matrix)):
        kernel[columns, 128 * k : 128 * (k + 1)] = scipy.linalg.null_space(rows)
    inside = 0.02 + 0.96 * x
    plain = timed("loop", lambda: np.stack([one(a, t, kernel) for a, t in zip(inside[:LOOPED], target, strict=False)]))
    good = []
    for name, start in (("collide", inside), ("saturated", np.clip(1.2 * x - 0.1, 0, 1))):
        made, moved = timed(
            name, lambda start=start: nullspace.collide(start, target, nullspace.blocks(matrix), ITERATIONS)
        )
        exact = np.abs((made - start) @ matrix.T).max() < 1e-10
        good.append(bool(moved.all() and exact and made.min() >= 0 and made.max() <= 1))
        if name == "collide":
            far = [np.linalg.norm(found[:LOOPED] - target[:LOOPED], axis=1).mean() for found in (made, plain)]
            good.append(bool(far[0] <= far[1] + 1e-6))
    return good


def one(x: np.ndarray, target: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Dykstra's projections of one image, then along the way there as far as the box allows."""
    y, p, q = target, np.zeros_like(x), np.zeros_like(x)
    for _ in range(ITERATIONS):
        z = np.clip(y + p, 0, 1)
        p = y + p - z
        y = x + kernel @ (kernel.T @ (z + q - x))
        q = z + q - y
    step = y - x
    room = np.where(step > 0, 1 - x, x)
    far = np.abs(step) > 1e-12
    return np.clip(x + min(1.0, float((room[far] / np.abs(step[far])).min(initial=1))) * step, 0, 1)


def peak() -> int:
    """Megabytes that a process of its own needed at most for the nullity of the 3x3 stem, the libraries included."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured)


def _measured() -> int:
    from bench.studies import nullity

    nullity.by_gram(stem(64, 3, 1, 1), (3, 32, 32))
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
