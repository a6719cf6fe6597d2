"""Study 9, its second half: can adversarial images be told from clean ones, and does retraining with them help?

After "Perturbation analysis of gradient-based adversarial attacks" (arXiv 2006.01456), of which the abstract alone was
at hand: the definitions are this benchmark's own. From train and test images that a network gets right, three
objectives (bench/studies/objectives.py) make images that it shall take for a class drawn by id, all at one distance.

**Detection.** A small network learns clean against perturbed on train images and is tested on test images, for each
pair of what it was trained on and what it is shown. `u8`: both classes come through 8 bits a channel; `float`: what is
perturbed does not, and clean images are 8-bit by birth, so a detector may learn rounding instead. Beside the objectives
stands `noise`, a random direction of the same length: a detector that flags it, too, knows of marks and not of attacks.
So adversarial images are held against noise as well (`against`), where only the direction tells. `placebo`: clean
images against other clean ones, which nothing can tell apart.

**Retraining.** The network goes on learning from as many clean as perturbed images of all objectives, which get their
label (`finetune`), or a class of their own (`class`); `clean` sees each clean image twice instead, as one that learns
goes on moving, and leaves images that were made for its old weights behind. What was made on the network as it was
(first round) says little of the new one: so what has seen perturbed images is attacked again, with its own gradients
and all its classes (second round).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from bench import compute, progress, stats
from bench.attacks import aims, engine, norms, prepare, projections, sound
from bench.attacks.engine import Images
from bench.config import Config, Detection
from bench.data import cache
from bench.data.samples import Samples
from bench.models import zoo
from bench.models.zoo import Network
from bench.store import tables
from bench.studies.objectives import LENGTHS, LOSSES

ATTACKS = tuple(LOSSES)
CLEAN, NOISE, PLACEBO = "clean", "noise", "placebo"
VARIANTS = ("clean", "finetune", "class")
"""How a network is retrained; `before` is the network as it was."""
BATCH = 64
RELATIVE_STEP = 0.1
"""Length of a step, as a share of the distance."""


@dataclass(frozen=True)
class Part:
    """Images of one split that the network gets right, the classes that they shall be taken for (N,), and attack ->
    what was made of them (N, C, H, W)."""

    data: Samples
    targets: npt.NDArray[np.int64]
    made: dict[str, Images]

    def shown(self, attack: str, against: str, inputs: str) -> tuple[Images, Images]:
        """What is held against what is perturbed, and that; of `placebo` one half in the order of the hash, and the
        other."""
        if attack == PLACEBO:
            order = {sample_id: place for place, sample_id in enumerate(compute.hash_order(self.data.ids))}
            at = np.argsort([order[sample_id] for sample_id in self.data.ids])
            half = len(at) // 2
            return self.data.images[at[:half]], self.data.images[at[half : 2 * half]]
        pair = self.data.images if against == CLEAN else self.made[against], self.made[attack]
        return pair if inputs == "float" else (norms.round_u8(pair[0]), norms.round_u8(pair[1]))


def run(config: Config) -> dict[str, int]:
    """Write results/{detection,detection_attacks,retraining}.parquet."""
    compute.prepare(config.compute, config.seed)
    cells, made, retrained = [], [], []
    for settings in config.detection.runs.values():
        train, test = (cache.load(config, settings.dataset, split) for split in ("train", "test"))
        for model in progress.bar(settings.models, f"detection {settings.dataset}"):
            network = zoo.load(config, model)
            fit = part(model, network, train, settings.n_train, settings, config)
            held = part(model, network, test, settings.n_images, settings, config)
            if min(len(fit.data.ids), len(held.data.ids)) < 2:
                continue
            shared = {"model": model, "dataset": settings.dataset}
            made.append(strength(network, fit, held, config).assign(**shared))
            cells.append(detected(fit, held, settings, config, model).assign(**shared))
            retrained.append(retraining(network, test, fit, held, settings, config).assign(**shared))
    written = {"detection": cells, "detection_attacks": made, "retraining": retrained}
    return {
        name: len(tables.write(name, tables.stacked(name, frames), config.results / f"{name}.parquet"))
        for name, frames in written.items()
    }


def part(model: str, network: Network, every: Samples, n: int, settings: Detection, config: Config) -> Part:
    """Those of the first `n` images in the order of the hash that are answered rightly, and what is made of them."""
    data = every.rows(compute.declared(every.ids, n))
    logits = sound.logits(model, network, settings.dataset, data, config)
    data = data.rows(np.flatnonzero(logits.argmax(axis=1) == data.labels))
    targets = aims.drawn(config.seed, data, logits.shape[1])
    if not len(data.ids):
        return Part(data, targets, {})
    made = {attack: attacked(network, data.images, targets, attack, settings, config) for attack in ATTACKS}
    made[NOISE] = noisy(data, settings.eps_l2, config.seed)
    return Part(data, targets, made)


def attacked(
    network: nn.Module, clean: Images, targets: npt.NDArray[np.int64], attack: str, settings: Detection, config: Config
) -> Images:
    """Images (N, C, H, W) in [0, 1] and within `eps_l2` of `clean`, after all steps towards `targets` (N,): an image
    that has arrived goes on, so that all end at one distance. The loss is taken in float64: past a margin of 17 the
    cross-entropy loses its target in float32 (bench/studies/objectives.py)."""
    fast = prepare.folded(network, torch.from_numpy(np.ascontiguousarray(clean[:8])))
    return engine.iterate(
        fast,
        clean,
        targets,
        config.compute,
        loss=lambda logits, labels: LOSSES[attack](logits.double(), labels),
        step=LENGTHS[attack](RELATIVE_STEP * settings.eps_l2),
        iterations=settings.steps,
        low=np.zeros_like(clean),
        high=np.ones_like(clean),
        project=projections.l2_ball(settings.eps_l2),
    ).images


def noisy(data: Samples, eps: float, seed: int) -> Images:
    """Images in [0, 1] at the distance `eps` in a normal direction drawn by id; nearer only where the box ends."""
    shape = data.images.shape[1:]
    drawn = np.stack([compute.rng(seed, NOISE, sample_id).normal(size=shape) for sample_id in data.ids])
    low, high = np.zeros(len(drawn)), np.full(len(drawn), 1e3)
    for _ in range(40):  # how far to go before what leaves the box is cut off, by halves
        middle = (low + high) / 2
        short = norms.sizes(_moved(data.images, drawn, middle), data.images).l2 <= eps
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return _moved(data.images, drawn, low)


def _moved(clean: Images, along: npt.NDArray[np.float64], by: npt.NDArray[np.float64]) -> Images:
    return np.clip(clean + by[:, None, None, None] * along, 0, 1).astype(np.float32)


def strength(network: Network, fit: Part, held: Part, config: Config) -> pd.DataFrame:
    """Rows of table `detection_attacks`: what the network answers to perturbed test images that came through 8 bits."""
    rows = []
    for attack, images in held.made.items():
        answers = compute.forward(network, norms.round_u8(images), config.compute).argmax(axis=1)
        fooled, size = answers != held.data.labels, norms.sizes(images, held.data.images)
        low, high = stats.wilson(fooled.sum(), len(fooled), config.statistics.confidence)
        row: dict[str, object] = {"attack": attack, "fooled": fooled.mean(), "ci_low": low, "ci_high": high}
        row |= {"reached": (answers == held.targets).mean(), "l2": size.l2.mean(), "linf": size.linf.mean()}
        rows.append(row | {"n": len(fooled), "n_train": len(fit.data.ids)})
    return pd.DataFrame(rows)


def detected(fit: Part, held: Part, settings: Detection, config: Config, model: str) -> pd.DataFrame:
    """Rows of table `detection`: AUROCs, means over seeds, with bootstraps over test images (a clean image and what was
    made of it are drawn together)."""
    rows = []
    for against, inputs, attack in tried():
        negative, positive = fit.shown(attack, against, inputs)
        x = np.concatenate([negative, positive])
        y = np.repeat([0, 1], [len(negative), len(positive)])
        shown = [PLACEBO] if attack == PLACEBO else [*ATTACKS, *([NOISE] if against == CLEAN else [])]
        scores: dict[str, list[tuple[npt.NDArray[np.float64], ...]]] = {name: [] for name in shown}
        for number in range(settings.seeds):
            seed = compute.seed_of(config.seed, "detector", model, against, inputs, attack, number)
            network = detector(x.shape[1], seed)
            trained(network, x, y, settings.epochs, seed, config)
            known: dict[str, npt.NDArray[np.float64]] = {}  # all tests of a detector show the same negative images
            for name in shown:
                pair = held.shown(name, against, inputs)
                if not known:
                    known["negative"] = _scores(network, pair[0], config)
                scores[name].append((known["negative"], _scores(network, pair[1], config)))
        for name, found in scores.items():
            each = [stats.auroc(above, below) for below, above in found]
            below, above = (np.stack(one) for one in zip(*found, strict=True))
            rng = compute.rng(config.seed, "detection", model, against, inputs, attack, name)
            draws, confidence = config.statistics.bootstrap, config.statistics.confidence
            low, high = stats.bootstrap_auroc(above, below, rng, draws=draws, confidence=confidence)
            row = {"against": against, "inputs": inputs, "trained_on": attack, "tested_on": name}
            row |= {"auroc": np.mean(each), "ci_low": low, "ci_high": high, "lowest": min(each), "highest": max(each)}
            rows.append(row | {"n": above.shape[1], "n_train": len(positive), "seeds": settings.seeds})
    return pd.DataFrame(rows)


def tried() -> list[tuple[str, str, str]]:
    """What detectors are trained on: against what, with which inputs, and what is perturbed."""
    out = [(CLEAN, "u8", attack) for attack in (*ATTACKS, NOISE, PLACEBO)]
    return out + [(CLEAN, "float", attack) for attack in ATTACKS] + [(NOISE, "u8", attack) for attack in ATTACKS]


def _scores(network: nn.Module, images: Images, config: Config) -> npt.NDArray[np.float64]:
    logits = compute.forward(network, images, config.compute).astype(np.float64)
    return logits[:, 1] - logits[:, 0]


def detector(channels: int, seed: int) -> nn.Module:
    """Three 3x3 convolutions to 8, 16 and 32 channels, the last two at half the size; logits of clean and perturbed."""

    def block(n_in: int, n_out: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [*block(channels, 8, 1), *block(8, 16, 2), *block(16, 32, 2)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))


def trained(
    network: nn.Module, images: Images, labels: npt.NDArray[np.int64], epochs: int, seed: int, config: Config
) -> None:
    """Train `network` in place by cross-entropy: AdamW at 0.002, which falls along a cosine, batches of 64."""
    device = compute.device_of(config.compute)
    network = compute.placed(network, device).requires_grad_(True).train()
    x, y = torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device)
    size = min(BATCH, len(x))
    order = torch.Generator().manual_seed(compute.seed_of(seed, "order"))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * (len(x) // size))
    for _ in range(epochs):
        for chosen in torch.randperm(len(x), generator=order)[: len(x) // size * size].split(size):
            batch = x[chosen.to(device)].contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(network(batch), y[chosen.to(device)])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval().requires_grad_(False)


def lesson(variant: str, fit: Part, n_classes: int) -> tuple[Images, npt.NDArray[np.int64]]:
    """What a variant is retrained with: the clean images, and each once more, clean or moved by one of the objectives
    (8 bits), which take turns."""
    clean, labels = fit.data.images, fit.data.labels
    if variant == "clean":
        return np.concatenate([clean, clean]), np.concatenate([labels, labels])
    turn = np.arange(len(clean)) % len(ATTACKS)
    moved = np.choose(turn[:, None, None, None], [fit.made[attack] for attack in ATTACKS])
    taught = labels if variant == "finetune" else np.full_like(labels, n_classes)
    return np.concatenate([clean, norms.round_u8(moved)]), np.concatenate([labels, taught])


def with_class(network: Network) -> Network:
    """A copy with one more class, the last one, whose weights are 0."""
    out = copy.deepcopy(network)
    head = nn.Linear(network.n_features, network.n_classes + 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    with torch.no_grad():
        head.weight[:-1] = network.head.weight
        head.bias[:-1] = network.head.bias
    out.head, out.n_classes = head, network.n_classes + 1
    return out


Answers = Mapping[tuple[str, str], npt.NDArray[np.int64]]
"""(images, objective) -> answers (N,)."""


def retraining(
    network: Network, test: Samples, fit: Part, held: Part, settings: Detection, config: Config
) -> pd.DataFrame:
    """Rows of table `retraining`: what the network and the retrained ones answer; means over seeds with bootstraps over
    images, and the difference to the network as it was, on the same images."""
    n_classes = network.n_classes
    before = asked(network, test, held, None, config)
    rows = [outcomes("before", [before], before, test, held, n_classes, config)]
    for variant in VARIANTS:
        found = []
        images, labels = lesson(variant, fit, n_classes)
        for number in range(settings.seeds):
            seed = compute.seed_of(config.seed, "retraining", network.name, variant, number)
            other = with_class(network) if variant == "class" else copy.deepcopy(network)
            trained(other, images, labels, settings.epochs, seed, config)

            def again(attack: str, other: Network = other) -> Images:
                return attacked(other, held.data.images, held.targets, attack, settings, config)

            found.append(asked(other, test, held, None if variant == "clean" else again, config))
        rows.append(outcomes(variant, found, before, test, held, n_classes, config))
    return pd.concat(rows)


def asked(
    network: Network, test: Samples, held: Part, again: Callable[[str], Images] | None, config: Config
) -> dict[tuple[str, str], npt.NDArray[np.int64]]:
    """What a network answers to all clean test images, to those of the first round, and to those that `again` makes
    against itself; perturbed ones come through 8 bits."""

    def answers(images: Images) -> npt.NDArray[np.int64]:
        return compute.forward(network, images, config.compute).argmax(axis=1)

    found = {("clean", "none"): answers(test.images)}
    for attack in (*ATTACKS, NOISE):
        found["first", attack] = answers(norms.round_u8(held.made[attack]))
    if again is not None:
        for attack in ATTACKS:
            found["second", attack] = answers(norms.round_u8(again(attack)))
    return found


def outcomes(
    variant: str, found: list[Answers], before: Answers, test: Samples, held: Part, n_classes: int, config: Config
) -> pd.DataFrame:
    """Rows of one variant from the answers under each seed."""
    rows = []
    told = [judged(answers, test, held, n_classes) for answers in found]
    first = judged(before, test, held, n_classes)
    draws, confidence = config.statistics.bootstrap, config.statistics.confidence
    for key in told[0]:
        images, objective = key
        row: dict[str, object] = {"variant": variant, "images": images, "objective": objective}
        each = np.stack([one[key] for one in told])  # seeds, images
        for name, at in (("right", 0), ("flagged", 1), ("fooled", 2)):
            if name == "flagged" and variant != "class":
                row |= {"flagged": None, "flagged_low": None, "flagged_high": None}
                continue
            share = (each == at).mean(axis=0)
            rng = compute.rng(config.seed, "retraining", variant, *key, name)
            if variant == "before":
                low, high = (float(end) for end in stats.wilson(share.sum(), len(share), confidence))
            else:
                low, high = stats.bootstrap_share(share, rng, draws=draws, confidence=confidence)
            row |= {name: share.mean(), f"{name}_low": low, f"{name}_high": high}
        row |= {"lowest": (each == 0).mean(axis=1).min(), "highest": (each == 0).mean(axis=1).max()}
        row |= {"change_pp": None, "change_low": None, "change_high": None}
        if variant != "before":  # a second round is held against the first one on the network as it was
            was = first["first" if images == "second" else images, objective] == 0
            rng = compute.rng(config.seed, "retraining", variant, *key, "change")
            share = (each == 0).mean(axis=0)
            ends = stats.bootstrap_paired(share, was, rng, draws=draws, confidence=confidence)
            row |= {"change_pp": 100 * (share.mean() - was.mean())}
            row |= {"change_low": 100 * ends[0], "change_high": 100 * ends[1]}
        rows.append(row | {"n": each.shape[1], "seeds": len(each)})
    return pd.DataFrame(rows)


def judged(answers: Answers, test: Samples, held: Part, n_classes: int) -> dict[tuple[str, str], npt.NDArray[np.int64]]:
    """Of each image: 0 right, 1 flagged as adversarial, 2 taken for another class. Besides, `any` objective: 2 where
    one is, else 1 where one is flagged, 0 only where all are right."""
    out = {}
    for (images, objective), pred in answers.items():
        labels = test.labels if images == "clean" else held.data.labels
        out[images, objective] = np.where(pred == labels, 0, np.where(pred == n_classes, 1, 2))
    for images in {one for one, _ in answers} - {"clean"}:
        out[images, "any"] = np.max([out[images, attack] for attack in ATTACKS], axis=0)
    return dict(sorted(out.items()))
