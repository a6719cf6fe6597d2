"""The images of the stage `attack`, made in shards that are kept on disk: what was made before an interruption, or by
another process, is not made again.

A shard is one batch of the images of one run, strength and model, or of what a run is checked with. What decides it is
in its name: the dataset's file, the code, the libraries, the kind of processor and the number of threads (results are
the same to the bit for these), what params.yaml says of the networks and the hash of their weights, the attack and the
images' ids. Shards lie in `.cache/`, as stages remove their own outputs before they run; one that is missing or cut
short costs time and changes no result.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bench import compute
from bench.attacks import (
    aims,
    apgd,
    carlini_wagner,
    deepfool,
    engine,
    first,
    kinds,
    lbfgs,
    losses,
    norms,
    prepare,
    projections,
    sound,
    square,
    steps,
)
from bench.attacks.engine import Found, Images
from bench.attacks.kinds import KINDS
from bench.config import Attack, Config, file_stem
from bench.data import cache
from bench.data.samples import Samples
from bench.errors import BenchError
from bench.models import zoo
from bench.store import tables

KEPT_BYTES = 2**31
"""Of the shards of one dataset: those of runs that have more are made anew each time."""
CHECKED = 100
"""Images on which an attack is checked."""
TRIAL = 2
"""Blocks that it takes about the time of to try bfloat16: with no more images, it is not worth it."""
CODE = (aims, apgd, carlini_wagner, deepfool, engine, first, kinds, lbfgs, losses, norms, prepare, projections, square)
CODE += (steps, zoo, sys.modules[__name__])
CHECKS = ("zero", "full", "square")
"""What an attack is checked with, besides its smallest strength: no strength, the largest one, and Square."""
NEAREST = "nearest"
"""The only strength at which an attack that looks for the nearest image is run (`Kind.minimal`)."""


@dataclass(frozen=True)
class Source:
    """A network that a run attacks, as it is attacked (`prepare.folded`). `targets`: the networks that are asked after
    each step where the run stops at the first transfer, itself the first. `key`: of all that decides its shards but for
    the attack and the images; empty: they are not kept. `in_bfloat16`: the same with that network
    (`prepare.in_bfloat16`), where the run asks for it; `judge`: the network itself, by which it is tried; `fit`:
    strength -> whether it was found fit."""

    run: str
    model: str
    network: nn.Module
    targets: Mapping[str, nn.Module]
    key: str = ""
    in_bfloat16: Source | None = None
    judge: nn.Module | None = None
    fit: dict[str, bool] = field(default_factory=dict)

    def dtype(self, label: str) -> str:
        """In what the encoder computed that was followed, once the shards of a strength were made."""
        return "bfloat16" if self.fit.get(label) else "float32"


@dataclass(frozen=True)
class Shard:
    """`label`: the strength, NEAREST or one of CHECKS; `number`: which of its blocks; `rows`: of the declared images,
    (B,); `eps`: in units of [0, 1]."""

    label: str
    number: int
    rows: npt.NDArray[np.int64]
    eps: float
    attack: Attack


@dataclass(frozen=True)
class Made:
    """Images (N, T, C, H, W) float32 and steps (N, T) that they took, for each of T targets: one that stands for all,
    or where a run stops at the first transfer those of `Source.targets`."""

    images: Images
    iterations: npt.NDArray[np.int64]


def shards_of(attack: Attack, data: Samples, config: Config) -> list[Shard]:
    """All that a run makes on one model: blocks of one batch, in the order of the hash of their ids, so that more
    declared images leave the first ones as they are; and its checks on the first images."""
    place = {sample_id: row for row, sample_id in enumerate(data.ids.tolist())}
    order = np.array([place[sample_id] for sample_id in compute.hash_order(data.ids.tolist())])
    blocks = [order[start : start + config.compute.batch_size] for start in blocks_of(len(order), config)]
    if KINDS[attack.kind].minimal:
        return [Shard(NEAREST, i, rows, np.inf, attack) for i, rows in enumerate(blocks)]
    out = [Shard(f"{eps:g}", i, rows, eps / 255, attack) for eps in attack.eps_255 for i, rows in enumerate(blocks)]
    some = np.arange(min(len(order), CHECKED))
    fixed = attack.model_copy(update={"stop": "never"})
    out += [Shard("zero", 0, some, 0.0, fixed), Shard("full", 0, some, KINDS[attack.kind].farthest(data), fixed)]
    if squared(attack):
        how = fixed.model_copy(update={"kind": "square", "steps": attack.squares, "target": None})
        out.append(Shard("square", 0, some, min(attack.eps_255) / 255, how))
    return out


def blocks_of(n_images: int, config: Config) -> range:
    """Where the blocks of `n_images` begin."""
    return range(0, n_images, config.compute.batch_size)


def strengths_of(attack: Attack) -> list[str]:
    """Labels of the shards of a run that are no checks."""
    return [NEAREST] if KINDS[attack.kind].minimal else [f"{eps:g}" for eps in attack.eps_255]


def checks_of(attack: Attack) -> tuple[str, ...]:
    """Labels of its checks; a minimal one is checked by the images that it found."""
    if KINDS[attack.kind].minimal:
        return ()
    return CHECKS if squared(attack) else CHECKS[:2]


def squared(attack: Attack) -> bool:
    """Whether a run is checked with Square."""
    kind = KINDS[attack.kind]
    return kind.gradient and kind.norm == "linf" and attack.squares > 0


def source(
    config: Config,
    run: str,
    model: str,
    data: Samples,
    network: nn.Module,
    targets: Mapping[str, nn.Module],
    *,
    keep: bool = True,
) -> Source:
    """A model of the pool as the run attacks it; `targets`: all networks of the pool. keep: whether shards are kept."""
    attack = config.attack_runs[run]
    example = torch.from_numpy(np.ascontiguousarray(data.images[:8]))
    fast = prepare.folded(network, example)
    asked = {model: network} | dict(targets) if attack.stop == "transfer" else {}
    made_on = Source(run, model, fast, asked, _key(config, run, model, data, fast, asked) if keep else "")
    if attack.dtype == "float32" or len(blocks_of(len(data.ids), config)) <= TRIAL:
        return made_on
    lowered = prepare.in_bfloat16(fast, example)
    if lowered is None:
        return made_on
    key = _key(config, run, model, data, lowered, asked) if keep else ""
    return replace(made_on, in_bfloat16=Source(run, model, lowered, asked, key), judge=network)


def _followed(made_on: Source, shard: Shard, data: Samples, start: Images, config: Config) -> Source:
    """The source in float32 or bfloat16, whichever a shard is made on.

    In bfloat16 where as many images of the first block at this strength are answered rightly, by the network itself in
    float32, as when they are made in float32. Checks are always made in float32.
    """
    if made_on.in_bfloat16 is None or made_on.judge is None or shard.label in CHECKS:
        return made_on
    if shard.label not in made_on.fit:
        every = shards_of(config.attack_runs[made_on.run], data, config)
        (tried,) = [one for one in every if (one.label, one.number) == (shard.label, 0)]
        exactly = config.compute.model_copy(update={"dtype": "float32"})
        right = []
        for one in (made_on, made_on.in_bfloat16):
            images = _made(one, tried, data, start, config).images[:, 0]
            answers = compute.forward(made_on.judge, images, exactly).argmax(axis=1)
            right.append(np.count_nonzero(answers == data.labels[tried.rows]))
        made_on.fit[shard.label] = right[0] == right[1]
    return made_on.in_bfloat16 if made_on.fit[shard.label] else made_on


def _key(config: Config, run: str, model: str, data: Samples, fast: nn.Module, asked: Mapping[str, nn.Module]) -> str:
    """`Source.key`; empty where the shards of the dataset take more than KEPT_BYTES."""
    attack = config.attack_runs[run]
    if kept_bytes(config, attack.dataset, data.images.shape[1:]) > KEPT_BYTES:
        return ""
    weights = [
        f"{name} {config.model(name).model_dump_json()} {tables.sha256(zoo.path_of(config, name))}"
        for name in asked or [model]
    ]
    shapes = [repr(fast), *map(repr, asked.values())]
    parts = (run, config.seed, config.compute.batch_size, *_where(config), *shapes, *weights)
    return cache.key(config, attack.dataset, *parts, code=CODE)


def _where(config: Config) -> tuple[str, ...]:
    """What results are the same to the bit for, beside the code."""
    device = compute.device_of(config.compute)
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    versions = [importlib.metadata.version(name) for name in ("torch", "timm")]
    return *versions, device.type, processor, str(config.compute.threads), config.compute.dtype


def kept_bytes(config: Config, dataset: str, shape: tuple[int, ...]) -> int:
    """Of the images (C, H, W) in all shards of a dataset."""
    total = 0
    for attack in config.attack_runs.values():
        if attack.dataset == dataset:
            models = len(config.attack_pool(dataset))
            targets = models if attack.stop == "transfer" else 1
            each = len(strengths_of(attack)) * attack.n_images * targets * len({"float32", attack.dtype})
            each += len(checks_of(attack)) * min(CHECKED, attack.n_images)
            total += (1 if attack.source else models) * each
    return total * int(np.prod(shape)) * 4


def make(
    made_on: Source, shards: Sequence[Shard], data: Samples, start: Images, config: Config
) -> Iterator[tuple[Shard, Made]]:
    """Each shard with its images: read where it is kept, else made and kept. start: as of `starts`."""
    for shard in shards:
        yield shard, _made(_followed(made_on, shard, data, start, config), shard, data, start, config)


def _made(made_on: Source, shard: Shard, data: Samples, start: Images, config: Config) -> Made:
    some, begin = data.rows(shard.rows), start[shard.rows]
    n_targets = len(made_on.targets) if shard.attack.stop == "transfer" else 1
    kind = np.dtype(
        [("image", np.float32, (n_targets, *some.images.shape[1:])), ("iterations", np.int64, (n_targets,))]
    )
    work = partial(_rows, made_on, shard, some, begin, kind, config)
    path = _path(made_on, shard, some, config)
    rows = cache.array(path, (len(shard.rows),), work, kind) if made_on.key else work()
    return Made(rows["image"], rows["iterations"])


def whole(made_on: Source, attack: Attack, data: Samples, start: Images, config: Config) -> dict[str, Made]:
    """Strength or check -> what a run makes on one model, (N, ...) of all declared images, or of those that are
    checked. Of an attack that looks for the nearest image, those that are further away are as they were."""
    out = _together(make(made_on, shards_of(attack, data, config), data, start, config), data)
    if (nearest := out.pop(NEAREST, None)) is not None:
        out = {f"{eps:g}": _limited(nearest, data, eps / 255) for eps in attack.eps_255}
        some = slice(0, min(CHECKED, len(data.ids)))
        for check, eps in (("zero", 0.0), ("full", np.inf)):
            limited = _limited(nearest, data, eps)
            out[check] = Made(limited.images[some], limited.iterations[some])
    return out


def at(
    made_on: Source,
    attack: Attack,
    eps_255: float,
    data: Samples,
    start: Images,
    config: Config,
    wanted: npt.NDArray[np.int64],
) -> Made:
    """What a run makes on one model at one strength, as `whole`, of the images in the `wanted` rows (M,) alone: shards
    that hold none of these are not made."""
    label = NEAREST if KINDS[attack.kind].minimal else f"{eps_255:g}"
    shards = [one for one in shards_of(attack, data, config) if one.label == label and np.isin(one.rows, wanted).any()]
    found = _together(make(made_on, shards, data, start, config), data)[label]
    some = Made(found.images[wanted], found.iterations[wanted])
    return _limited(some, data.rows(wanted), eps_255 / 255) if label == NEAREST else some


def _limited(found: Made, data: Samples, eps: float) -> Made:
    """The images that are no further than `eps` (L2, units of [0, 1]) from the clean ones; the others are these."""
    near = norms.sizes(found.images[:, 0], data.images).l2 <= eps
    return Made(np.where(near[:, None, None, None, None], found.images, data.images[:, None]), found.iterations)


def _together(made: Iterator[tuple[Shard, Made]], data: Samples) -> dict[str, Made]:
    out: dict[str, Made] = {}
    for shard, found in made:
        if shard.label in CHECKS:
            out[shard.label] = found
            continue
        if shard.label not in out:
            n, t = len(data.ids), found.iterations.shape[1]
            out[shard.label] = Made(np.empty((n, *found.images.shape[1:]), np.float32), np.empty((n, t), np.int64))
        out[shard.label].images[shard.rows] = found.images
        out[shard.label].iterations[shard.rows] = found.iterations
    return out


def share(config: Config, number: int, of: int) -> dict[str, int]:
    """Make, and keep, every `of`-th shard of all runs, from the `number`-th (from 1) on: shares are independent, and
    may be made by several processes. BenchError where shards are too large to be kept."""
    compute.prepare(config.compute, config.seed)
    n_made, n_seen = 0, 0
    for run, attack in config.attack_runs.items():
        data = declared(config, attack)
        start = starts(config, run, data)
        pool = config.attack_pool(attack.dataset)
        asked = pool if attack.stop == "transfer" else []
        targets = {name: zoo.load(config, name) for name in asked}
        for name, network in targets.items():
            sound.logits(name, network, attack.dataset, data, config, least=KINDS[attack.kind].classes)
        for model in [attack.source] if attack.source else pool:
            mine = []
            for shard in shards_of(attack, data, config):
                if n_seen % of == number - 1:
                    mine.append(shard)
                n_seen += 1
            network = zoo.load(config, model)
            sound.logits(model, network, attack.dataset, data, config, least=KINDS[attack.kind].classes)
            made_on = source(config, run, model, data, network, targets)
            if not made_on.key:
                raise BenchError(
                    f"its images take more than {KEPT_BYTES / 2**30:g} GiB, and are not kept.",
                    where=f"attacks on {attack.dataset}",
                    remedy="Attack fewer images, or run `bench attack` without --shard.",
                )
            n_made += sum(1 for _ in make(made_on, mine, data, start, config))
    return {"shards": n_made, "of": n_seen}


def declared(config: Config, attack: Attack) -> Samples:
    """The test images that a run attacks."""
    every = cache.load(config, attack.dataset)
    return every.rows(compute.declared(every.ids, attack.n_images))


def names(config: Config, dataset: str) -> set[str]:
    """Names, without keys, of all shards of a dataset."""
    out = set()
    for run, attack in config.attack_runs.items():
        if attack.dataset == dataset:
            n_blocks = len(blocks_of(attack.n_images, config))
            numbered = [(label, i) for label in strengths_of(attack) for i in range(n_blocks)]
            numbered += [(check, 0) for check in checks_of(attack)]
            for model in [attack.source] if attack.source else config.attack_pool(dataset):
                for dtype in {"float32", attack.dtype}:
                    out |= {_name(run, model, dtype, *one) for one in numbered}
    return out


def _name(run: str, model: str, dtype: str, label: str, number: int) -> str:
    parts = ("attack", run, file_stem(model), label, str(number), *([] if dtype == "float32" else [dtype]))
    return "+".join(parts).replace(".", "%2E")


def _path(made_on: Source, shard: Shard, some: Samples, config: Config) -> Path:
    settings = shard.attack.model_dump_json(exclude={"eps_255", "n_images", "squares", "dtype"})
    told = "\x1f".join((made_on.key, settings, repr(shard.eps), *some.ids.tolist()))
    dtype = "bfloat16" if isinstance(made_on.network, prepare.Bfloat16) else "float32"
    name = _name(made_on.run, made_on.model, dtype, shard.label, shard.number)
    return cache.path(config, shard.attack.dataset, name, hashlib.sha256(told.encode()).hexdigest()[:20])


def starts(config: Config, run: str, data: Samples) -> Images:
    """Where each image starts, as a share of eps: (N, C, H, W) float32, uniform in [-1, 1], seeded by its sample id.

    The same for every model and eps, so that these are compared from one start.
    """
    shape = data.images.shape[1:]
    drawn = [compute.rng(config.seed, run, sample_id).uniform(-1, 1, shape) for sample_id in data.ids]
    return np.stack(drawn).astype(np.float32)


def made(network: nn.Module, data: Samples, start: Images, eps: float, attack: Attack, config: Config) -> Found:
    """Images (N, C, H, W) after an attack within `eps` (units of [0, 1], in the norm of its kind; any distance is right
    for kinds that look for the nearest image). They are float32, whatever the network computes in. data: with the
    labels that `goal` gives.

    BenchError where one is further away: then the attack is wrong; and where eps of `l0` allows nothing.
    """
    kind = KINDS[attack.kind]
    if kind.norm == "l0" and 0 < eps * np.prod(data.images.shape[2:]) < 1:
        raise BenchError(
            f"eps allows less than one position of {data.images.shape[2]} x {data.images.shape[3]} to change.",
            where=f"attack {attack.kind}",
            remedy="Raise `eps_255`: 255 is all positions.",
        )
    found = kind.make(network, data, start, eps, attack, config)
    if not kind.minimal:
        _within(found.images, data, eps, attack)
    return found


def goal(network: nn.Module, data: Samples, attack: Attack, config: Config) -> Samples:
    """The images with the labels that the attack is given: their own, or the classes that they are led to."""
    if attack.target is None:
        return data
    clean = compute.forward(network, data.images, config.compute)
    if attack.target == "drawn":
        return replace(data, labels=aims.drawn(config.seed, data, clean.shape[1]))
    return replace(data, labels=aims.runner_up(clean, data.labels))


def _until_transfer(made_on: Source, shard: Shard, some: Samples, config: Config) -> dict[str, first.First]:
    """Of each target the images as they first fooled it, from the clean ones on, within eps."""
    found, _ = first.walk(
        made_on.network,
        made_on.targets,
        some.images,
        some.labels,
        None,
        np.ones((len(some.ids), *some.images.shape[2:]), np.float32),
        config.compute,
        size=shard.attack.relative_step * shard.eps,
        iterations=shard.attack.steps,
        fixed=0,
        eps=shard.eps,
    )
    for one in found.values():
        _within(one.images, some, shard.eps, shard.attack)
    return found


def _within(images: Images, data: Samples, eps: float, attack: Attack) -> None:
    norm = KINDS[attack.kind].norm
    size = getattr(norms.sizes(images, data.images), norm)
    if (size > eps * (1 + 1e-5) + 1e-7).any():
        raise BenchError(
            f"an image is {size.max():.6g} away from the clean one in {norm}, more than eps = {eps:.6g}.",
            where=f"attack {attack.kind}",
            remedy="This is a fault of the program: please report it.",
        )


def _rows(
    made_on: Source, shard: Shard, some: Samples, start: Images, kind: np.dtype[Any], config: Config
) -> npt.NDArray[Any]:
    rows = np.empty(len(some.ids), kind)
    if shard.attack.stop == "transfer":
        found = _until_transfer(made_on, shard, some, config)
        rows["image"] = np.stack([one.images for one in found.values()], axis=1)
        rows["iterations"] = np.stack([one.iterations for one in found.values()], axis=1)
    else:
        led = goal(made_on.network, some, shard.attack, config)
        found = made(made_on.network, led, start, shard.eps, shard.attack, config)
        rows["image"], rows["iterations"] = found.images[:, None], found.iterations[:, None]
    return rows
