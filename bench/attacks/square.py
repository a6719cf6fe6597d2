"""Square: a search without gradients, by squares of one colour. It tells a robust network from one that hides its
gradients: where it does better than a gradient attack, that one does not work.

Source: M. Andriushchenko, F. Croce, N. Flammarion, M. Hein, Square Attack (ECCV 2020, arXiv 1912.00049), the variant
for the max norm with the margin as loss.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench import compute
from bench.attacks import norms
from bench.attacks.engine import Found, Images, State, counted, kept, run, wide
from bench.attacks.losses import margin
from bench.config import Compute

SHARE = 0.8
"""Share of the image that the first squares cover."""
EITHER = np.array([-1, 1], np.float32)
HALVED_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Of 10,000 queries, those after which squares have half the area."""


def sides(queries: int, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    """The side of the square of each query (queries,), in pixels of an image of `shape`."""
    at = np.arange(queries) * (10_000 / max(queries, 1))
    share = SHARE / 2.0 ** np.searchsorted(HALVED_AT, at, side="left")
    side = np.round(np.sqrt(share * shape[0] * shape[1])).astype(np.int64)
    return side.clip(1, min(shape) - 1 or 1)


def draws(seed: int, ids: Iterable[str], queries: int, shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """The randomness of each image, seeded by its sample id: `stripes` (N, C, W) of -1 and 1, `places` (N, queries, 2)
    in [0, 1) and `signs` (N, queries, C) of -1 and 1."""
    channels, _, width = shape
    rows = []
    for sample_id in ids:
        rng = compute.rng(seed, "square", sample_id)
        rows.append(
            (
                rng.choice(EITHER, (channels, width)),
                rng.random((queries, 2), dtype=np.float32),
                rng.choice(EITHER, (queries, channels)),
            )
        )
    return {
        name: np.stack(part) for name, part in zip(("stripes", "places", "signs"), zip(*rows, strict=True), strict=True)
    }


def attack(
    network: nn.Module,
    clean: Images,
    labels: npt.NDArray[np.int64],
    settings: Compute,
    *,
    eps: float,
    queries: int,
    drawn: dict[str, np.ndarray],
) -> Found:
    """Images (N, C, H, W) within `eps` of `clean` in any value and within [0, 1], of the largest margin that was found;
    an image is finished when it is answered wrongly. `drawn`: see `draws`. iterations: queries after the first."""
    network = compute.placed(network, compute.device_of(settings))
    low, high = norms.linf_box(clean, eps)
    first = np.clip(clean + np.float32(eps) * drawn["stripes"][:, :, None, :], low, high)
    arrays = {"clean": clean, "labels": labels, "low": low, "high": high, "images": first, "answer": clean, **drawn}
    device = compute.device_of(settings)
    height, width = clean.shape[2:]
    side = torch.from_numpy(sides(queries, (height, width))).to(device)
    ys, xs = torch.arange(height, device=device)[None, :, None], torch.arange(width, device=device)[None, None, :]

    def advance(state: State) -> Tensor:
        taken = counted(state)
        fresh = taken == 0
        with torch.inference_mode():
            logits = network(state["images"])
        logits = logits.clone()  # out of inference mode
        values, wrong = margin(logits, state["labels"]), logits.argmax(dim=1) != state["labels"]
        best = kept(state, "best", values)
        better = fresh | (values > best)
        best.copy_(torch.where(better, values, best))
        state["answer"] = torch.where(wide(better), state["images"], state["answer"])

        query = taken.clamp_max(queries - 1)
        at = torch.arange(len(query), device=device)
        s = side[query]
        room = torch.stack([height - s + 1, width - s + 1], dim=1)
        top, left = (state["places"][at, query] * room).long().minimum(room - 1).unbind(1)
        covered = ((ys >= top[:, None, None]) & (ys < (top + s)[:, None, None])) & (
            (xs >= left[:, None, None]) & (xs < (left + s)[:, None, None])
        )
        change = 2 * eps * state["signs"][at, query][:, :, None, None] * covered[:, None]
        state["images"] = torch.minimum(torch.maximum(state["answer"] + change, state["low"]), state["high"])
        taken += 1
        return kept(state, "wrong", wrong).logical_or_(wrong) | (taken > queries)

    found = run(arrays, settings, advance, ("answer", "passes"))
    return Found(found["answer"], found["passes"] - 1)
