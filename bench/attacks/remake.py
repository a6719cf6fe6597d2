"""The images of an attack of the stage, made again: for looking at and for other programs.

A stage keeps the sizes and answers of every image, and the pictures of a few (`attacks.kept`). As an image depends on
nothing but the network, the settings and itself, any of them can be had again from the networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import compute
from bench.attacks import attack as stage
from bench.config import Config
from bench.data.samples import Samples
from bench.errors import BenchError
from bench.pictures import of_image

Images = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Attacked:
    """clean, images: (N, C, H, W) in [0, 1], float32, as the network is given them; ids, labels: (N,)."""

    ids: npt.NDArray[np.object_]
    labels: npt.NDArray[np.int64]
    clean: Images
    images: Images


def attacked(
    config: Config,
    name: str,
    eps_255: float,
    model: str,
    ids: Sequence[str] | None = None,
    onto: str | None = None,
    *,
    keep: bool = True,
) -> Attacked:
    """The images that attack `name` of params.yaml makes on `model` at one eps: all, or those of `ids`. onto: of a run
    that stops at the first transfer, the network that was asked (None: the model itself). keep: whether `.cache/` is
    read and written, as the stage does.

    BenchError where there is no such attack, eps, model, image or network.
    """
    from bench.attacks import shards
    from bench.models import zoo

    runs = config.attack_runs
    if name not in runs:
        raise BenchError(f"there is no attack {name!r}.", where="params.yaml", remedy=f"Name one of {', '.join(runs)}.")
    run = runs[name]
    pool = config.attack_pool(run.dataset)
    sources = [run.source] if run.source else pool
    asked = run.stop == "transfer"
    for what, value, known in (
        ("model", model, sources),
        ("model", onto or pool[0], pool),
        ("eps", eps_255, run.eps_255),
    ):
        if value not in known:
            said = ", ".join(map(str, known))
            raise BenchError(f"has no {what} {value}.", where=f"attack {name}", remedy=f"Name one of {said}.")
    compute.prepare(config.compute, config.seed)
    data = shards.declared(config, run)
    place = {sample_id: row for row, sample_id in enumerate(data.ids)}
    if lacking := [one for one in ids or () if one not in place]:
        raise BenchError(f"{lacking[0]} is not attacked.", where=f"attack {name}", remedy="Name an attacked image.")
    targets = {one: zoo.load(config, one) for one in (pool if asked else ())}
    made_on = shards.source(config, name, model, data, zoo.load(config, model), targets, keep=keep)
    rows = np.arange(len(data.ids)) if ids is None else np.array([place[one] for one in ids], np.int64)
    found = shards.at(made_on, run, eps_255, data, shards.starts(config, name, data), config, rows)
    which = list(made_on.targets).index(onto or model) if asked else 0
    some = data.rows(rows)
    return Attacked(some.ids, some.labels, some.images, found.images[:, which])


def answers(config: Config, found: Attacked, models: Sequence[str]) -> pd.DataFrame:
    """What models say of the images in 8 bits: sample_id, model, pred, p_pred, p_label. BenchError where one lacks."""
    from bench.models import zoo

    data = Samples(found.ids, found.labels, found.clean)
    said = {model: stage.in_8_bits(zoo.load(config, model), data, found.images, config) for model in models}
    return pd.concat(
        [pd.DataFrame({"sample_id": found.ids, "model": model, **one}) for model, one in said.items()],
        ignore_index=True,
    )


def arrays(found: Attacked) -> dict[str, Any]:
    """What an NPZ of attacked images holds, without pickles: `ids` and `labels` (N,), `clean` and `attacked` (N, C, H,
    W) float32 in [0, 1], and `clean_u8` and `attacked_u8`, the same rounded to 8 bits."""
    clean, attacked = (np.rint(255 * some).astype(np.uint8) for some in (found.clean, found.images))
    whole = {"ids": found.ids.astype(str), "labels": found.labels, "clean": found.clean, "attacked": found.images}
    return {**whole, "clean_u8": clean, "attacked_u8": attacked}


def write(found: Attacked, folder: Path) -> Path:
    """Write a PNG of each image and `images.npz` (`arrays`) into a new folder. BenchError where it exists already."""
    if folder.exists():
        raise BenchError("is there already.", where=str(folder), remedy="Name another folder.")
    folder.mkdir(parents=True)
    for sample_id, image in zip(found.ids, found.images, strict=True):
        (folder / f"{str(sample_id).replace('/', '_')}.png").write_bytes(of_image(image))
    np.savez_compressed(folder / "images.npz", **arrays(found))
    return folder
