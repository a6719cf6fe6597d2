"""Claim: a training step of each method takes at most 15 % longer than the same step written bare, and augmentation at
most 10 % of it; SimCLR with the compact CNN sees at least 3 times the images/s of lightly's own example.

Bare: encoder, heads and losses of lightly, AdamW, forward, loss, backward, optimiser, on views that are there already;
the same batch, the same precision, the same weights at first. Rounds alternate. With one thread steps are timed in CPU
seconds, else by the clock. Images are random; those of KINDS: as the digits of params.yaml are trained on, and as the
preset cifar10-zoo. lightly's example is the one of its documentation (SimCLR on CIFAR-10): its transforms on PIL images
in a data loader, here with two workers that go on from epoch to epoch, and the network, the head and the batch of ours.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import compute, config
from bench.config import MASKED, SSL_FAMILY, Model, Suite
from bench.models import augment, ssl, train, training, zoo
from bench.models.zoo import Network
from benchmarks import Targets, beside, met

ROUNDS, EXAMPLE_ROUNDS = 5, 3
BATCHES = 6
"""Of an epoch that is held against lightly's example."""
WORKERS = 2
LEAST_S = 0.1
"""Shorter steps are repeated until a round of them takes about as long."""
METHODS = ("supervised", *SSL_FAMILY)
N_CLASSES, LR, DECAY = 10, 1e-3, 1e-4
TARGETS: Targets = {
    "step_to_bare": ("<=", 1.15),
    "augmentation_share": ("<=", 0.10),
    "times_lightly_example": (">=", 3.0),
}


@dataclass(frozen=True)
class Kind:
    """What is trained on: images of `size` pixels a side, batches of `batch`, by default a network `arch`."""

    size: int
    channels: int
    batch: int
    arch: str
    mixed: bool
    recipe: augment.Recipe


KINDS = {
    "digits": Kind(16, 1, 64, "cnn", False, augment.RECIPES["digits"]),
    "photos": Kind(32, 3, 256, "resnet10", True, augment.RECIPES["photos"]),
}
EXAMPLE = Kind(32, 3, 256, "cnn", False, augment.RECIPES["photos"])
Step = Callable[[Tensor], Tensor]
"""One step on the images of these indices, which returns its loss."""
BareStep = Callable[[Tensor, Tensor, Tensor], Tensor]
"""One step on two views and the labels, which returns its loss."""


def run() -> dict[str, Any]:
    """The worst ratio to a bare step and share of augmentation of all methods; lightly's example; every figure."""
    threads = torch.get_num_threads()
    settings = config.load()
    try:
        torch.set_num_threads(settings.training.threads)
        steps = {f"{method}, {kind}": _step(method, how) for kind, how in KINDS.items() for method in METHODS}
        example = _example(settings.training.threads, threads)
    finally:
        torch.set_num_threads(threads)
    worst = {
        figure: max(steps, key=lambda name: steps[name][figure]) for figure in ("step_to_bare", "augmentation_share")
    }
    found = {figure: steps[name][figure] for figure, name in worst.items()} | {
        "times_lightly_example": example["ratio"]
    }
    return {
        **beside(TARGETS, found),
        "worst": worst,
        "threads": settings.training.threads,
        "rounds": ROUNDS,
        "steps": steps,
        "lightly_transforms_and_data_loader": example,
        "met": met(TARGETS, found),
    }


def details(result: dict[str, Any]) -> str:
    """A line for each method: its step, what is beside its bare step, and its augmentation."""
    lines = ["  step                          ms    x bare   augmentation"]
    lines += [
        f"  {name:<24}{one['step_ms']:>8.1f}{one['step_to_bare']:>10.3f}{one['augmentation_share']:>15.1%}"
        for name, one in result["steps"].items()
    ]
    example = result["lightly_transforms_and_data_loader"]
    ours, theirs = example["images_per_s"], example["lightly_images_per_s"]
    return "\n".join([*lines, f"  SimCLR: {ours} images/s; lightly's transforms and data loader: {theirs}"])


def built(method: str, kind: Kind) -> tuple[Network, Model, Tensor, Tensor]:
    """A fresh network in training, its record of params.yaml, and two batches of images with labels."""
    masked = SSL_FAMILY.get(method) == "masked_image_modelling"
    made = Model(
        family="supervised" if method == "supervised" else "ssl",
        method=method,  # pyright: ignore[reportArgumentType]
        arch="vit" if masked else kind.arch,  # pyright: ignore[reportArgumentType]
        suite="random",
        epochs=10**6,
        batch_size=kind.batch,
        lr=LR,
        weight_decay=DECAY,
        mixed=kind.mixed,
    )
    suite = Suite(input_size=kind.size, channels=kind.channels)  # pyright: ignore[reportArgumentType]
    network = zoo.build(made, suite, N_CLASSES, 0, method).train()
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.random((2 * kind.batch, kind.channels, kind.size, kind.size), dtype=np.float32))
    network.normalise_by(images)
    network.mixed = kind.mixed
    if kind.mixed:
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return network, made, images, torch.from_numpy(rng.integers(0, N_CLASSES, len(images)))


def shipped(network: Network, images: Tensor, labels: Tensor, model: Model, recipe: augment.Recipe) -> Step:
    """The very step that the project's training makes over and over."""
    taken = []

    def instead(mine: object, data: object, of: object, step: Step, setting: object) -> list[training.Epoch]:
        taken.append(step)
        return []

    with mock.patch.object(training, "run", instead):
        train.trainer(model.family)(network, images, labels, model, 0, training.Setting(recipe))
    return taken[0]


def bare(network: Network, method: str) -> BareStep:
    """The same step without any code of the project's trainings: on a copy of the network's encoder and head."""
    torch.manual_seed(compute.seed_of(0, "objective"))
    mixed, width, head = network.mixed, network.n_features, copy.deepcopy(network.head)
    encoder = copy.deepcopy(network.encoder)

    def encode(x: Tensor, by: nn.Module = encoder) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            return by(x).float()

    if method == "supervised":
        modules, after = head, lambda: None

        def loss(a: Tensor, b: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(head(encode(a)), labels)
    else:
        modules, of_views, after = _bare_objective(method, encoder, encode, width, mixed)

        def loss(a: Tensor, b: Tensor, labels: Tensor) -> Tensor:
            return of_views(a, b)

    parameters = [p for p in (*encoder.parameters(), *modules.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LR, weight_decay=DECAY)

    def step(a: Tensor, b: Tensor, labels: Tensor) -> Tensor:
        optimizer.zero_grad()
        value = loss(a, b, labels)
        value.backward()
        optimizer.step()
        after()
        return value

    return step


def _bare_objective(
    method: str, encoder: Any, encode: Callable[..., Tensor], width: int, mixed: bool
) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor], Callable[[], None]]:
    """Of a self-supervised method: what is trained beside the encoder, the loss of two views, what follows a step."""
    from lightly import loss as losses
    from lightly.models import modules as parts
    from lightly.models import utils
    from lightly.models.modules import heads

    def both(module: Callable[[Tensor], Tensor], a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return module(torch.cat([a, b])).chunk(2)

    def nothing() -> None:
        return None

    if method in ("simclr", "dcl", "vicreg", "barlow"):
        head, criterion = {
            "simclr": lambda: (heads.SimCLRProjectionHead(width, 128, 64), losses.NTXentLoss(0.3)),
            "dcl": lambda: (heads.SimCLRProjectionHead(width, 128, 64), losses.DCLLoss(0.2)),
            "vicreg": lambda: (heads.VICRegProjectionHead(width, 128, 128, 2), losses.VICRegLoss()),
            "barlow": lambda: (heads.BarlowTwinsProjectionHead(width, 128, 128), losses.BarlowTwinsLoss(0.02)),
        }[method]()
        return head, lambda a, b: criterion(*both(lambda x: head(encode(x)), a, b)), nothing

    if method == "swav":
        head, prototypes = heads.SwaVProjectionHead(width, 128, 64), heads.SwaVPrototypes(64, 32)
        criterion = losses.SwaVLoss(temperature=0.2)
        prototypes.normalize()

        def swav(a: Tensor, b: Tensor) -> Tensor:
            scores = both(lambda x: prototypes(F.normalize(head(encode(x)), dim=1)), a, b)
            return criterion(list(scores), []).squeeze()

        return nn.ModuleList([head, prototypes]), swav, prototypes.normalize

    if method == "nnclr":
        head, predictor = heads.NNCLRProjectionHead(width, 128, 64), heads.NNCLRPredictionHead(64, 128, 64)
        criterion, bank = losses.NTXentLoss(0.2), parts.NNMemoryBankModule((1024, 64))

        def nnclr(a: Tensor, b: Tensor) -> Tensor:
            z_a, z_b = both(lambda x: head(encode(x)), a, b)
            p_a, p_b = both(predictor, z_a, z_b)
            near_a, near_b = bank(z_a.detach()), bank(z_b.detach(), update=True)
            return (criterion(near_a, p_b) + criterion(near_b, p_a)) / 2

        return nn.ModuleList([head, predictor]), nnclr, nothing

    if method == "simsiam":
        head, predictor = heads.SimSiamProjectionHead(width, 128, 128), heads.SimSiamPredictionHead(128, 32, 128)
        criterion = losses.NegativeCosineSimilarity()

        def simsiam(a: Tensor, b: Tensor) -> Tensor:
            z_a, z_b = both(lambda x: head(encode(x)), a, b)
            p_a, p_b = both(predictor, z_a, z_b)
            return (criterion(p_a, z_b.detach()) + criterion(p_b, z_a.detach())) / 2

        return nn.ModuleList([head, predictor]), simsiam, nothing

    if method in MASKED:
        return _bare_masked(method, encoder, width, mixed)

    teacher = copy.deepcopy(encoder).requires_grad_(False)
    if method == "dino":
        with warnings.catch_warnings():  # of its weight norm, which torch deprecates
            warnings.simplefilter("ignore", FutureWarning)
            head, teacher_head = (heads.DINOProjectionHead(width, 128, 64, 256, batch_norm=True) for _ in range(2))
        teacher_head.load_state_dict(head.state_dict())
        predictor, criterion = nn.Identity(), losses.DINOLoss(256)
    elif method == "byol":
        head, predictor = heads.BYOLProjectionHead(width, 256, 64), heads.BYOLPredictionHead(64, 256, 64)
        teacher_head, criterion = copy.deepcopy(head), losses.NegativeCosineSimilarity()
    else:  # moco
        head, predictor = heads.MoCoProjectionHead(width, 128, 64), nn.Identity()
        teacher_head, criterion = copy.deepcopy(head), losses.NTXentLoss(0.2, memory_bank_size=(1024, 64))
    teacher_head.requires_grad_(False)

    def taught(a: Tensor, b: Tensor) -> Tensor:
        p_a, p_b = both(lambda x: predictor(head(encode(x))), a, b)
        with torch.no_grad():
            z_a, z_b = both(lambda x: teacher_head(encode(x, teacher)), a, b)
        if method == "dino":
            return criterion([z_a, z_b], [p_a, p_b], teacher_temp=0.04)
        return (criterion(p_a, z_b) + criterion(p_b, z_a)) / 2

    def follow() -> None:
        utils.update_momentum(encoder, teacher, 0.95)
        utils.update_momentum(head, teacher_head, 0.95)

    return nn.ModuleList([head, predictor]), taught, follow


def _bare_masked(
    method: str, encoder: Any, width: int, mixed: bool
) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor], Callable[[], None]]:
    from lightly.models import utils
    from lightly.models.modules import MaskedVisionTransformerDecoderTIMM, MaskedVisionTransformerTIMM

    masked = MaskedVisionTransformerTIMM(encoder, weight_initialization="skip", pos_embed_initialization="skip")
    patch, n = encoder.patch_embed.patch_size[0], masked.sequence_length
    n_out = patch**2 * encoder.patch_embed.proj.in_channels

    def encoded(a: Tensor, **masks: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            return masked.encode(a, **masks).float()

    if method == "simmim":
        predict = nn.Linear(width, n_out)

        def simmim(a: Tensor, b: Tensor) -> Tensor:
            _, hidden = utils.random_token_mask((len(a), n), 0.5, mask_class_token=True)
            predicted = predict(utils.get_at_index(encoded(a, idx_mask=hidden), hidden))
            return F.l1_loss(predicted, utils.get_at_index(utils.patchify(a, patch), hidden))

        return nn.ModuleList([predict, nn.ParameterList([masked.mask_token])]), simmim, lambda: None

    if method == "ijepa":
        from lightly.models.modules.ijepa_timm import IJEPAPredictorTIMM

        teacher = copy.deepcopy(encoder).requires_grad_(False)
        taught = MaskedVisionTransformerTIMM(teacher, weight_initialization="skip", pos_embed_initialization="skip")
        predictor = IJEPAPredictorTIMM(n, depth=1, mlp_dim=width, predictor_embed_dim=48, num_heads=3, mlp_ratio=2.0)
        grid = math.isqrt(n)
        side = max(1, round(grid * math.sqrt(0.175)))
        square = torch.tensor([row * grid + column for row in range(side) for column in range(side)])

        def ijepa(a: Tensor, b: Tensor) -> Tensor:
            corners = torch.randint(grid - side + 1, (2, len(a), 2))
            blocks = [at[:, :1] * grid + at[:, 1:] + square for at in corners]
            order = torch.rand(len(a), n)
            for block in blocks:
                order.scatter_(1, block, 2.0)
            context = order.argsort(dim=1)[:, : n - 2 * side**2]
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                known = F.layer_norm(taught.encode(a).float(), (width,))
            predicted = predictor(encoded(a, idx_keep=context), [context], blocks)
            return F.smooth_l1_loss(predicted, torch.cat([utils.get_at_index(known, block) for block in blocks]))

        return nn.ModuleList([predictor]), ijepa, lambda: utils.update_momentum(encoder, teacher, 0.95)

    embed, predict = nn.Linear(width, 48), nn.Linear(48, n_out)
    decoder = MaskedVisionTransformerDecoderTIMM(n, 48, depth=1, num_heads=3, num_prefix_tokens=0, mlp_ratio=2.0)

    def mae(a: Tensor, b: Tensor) -> Tensor:
        keep, hidden = utils.random_token_mask((len(a), n), 0.5, mask_class_token=True)
        tokens = embed(encoded(a, idx_keep=keep))
        full = utils.set_at_index(utils.repeat_token(decoder.mask_token, (len(a), n)), keep, tokens)
        predicted = predict(utils.get_at_index(decoder(full), hidden))
        return F.mse_loss(predicted, utils.get_at_index(utils.patchify(a, patch), hidden))

    return nn.ModuleList([embed, decoder, predict]), mae, lambda: None


def _step(method: str, kind: Kind) -> dict[str, float]:
    """Medians of one method: a step in milliseconds, beside its bare one, and the part of it that is augmentation."""
    network, made, images, labels = built(method, kind)
    plain = bare(network, method)
    step = shipped(network, images, labels, made, kind.recipe)
    how, views = _augmentation(network, made, kind.recipe)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(images), generator=generator)[: kind.batch]
    a, b = (network.normalise(augment.augment(images[chosen], how, generator)) for _ in range(2))
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    ways: dict[str, Callable[[], object]] = {
        "step": lambda: step(chosen),
        "bare": lambda: plain(a, b, labels[chosen]),
        "augment": lambda: [augment.augment(images[chosen], how, generator) for _ in range(views)],
    }
    times = math.ceil(LEAST_S / min(_seconds(ways["bare"], clock) for _ in range(2)))
    rounds = [{way: _seconds(work, clock, times) for way, work in ways.items()} for _ in range(ROUNDS + 1)][1:]
    return {
        "step_ms": round(1000 * statistics.median(r["step"] for r in rounds), 2),
        "bare_ms": round(1000 * statistics.median(r["bare"] for r in rounds), 2),
        "step_to_bare": round(statistics.median(r["step"] / r["bare"] for r in rounds), 3),
        "augmentation_share": round(statistics.median(r["augment"] / r["step"] for r in rounds), 3),
    }


def _augmentation(network: Network, model: Model, recipe: augment.Recipe) -> tuple[augment.Augmentation, int]:
    """How a step of this method changes its images, and how many views of each it makes."""
    if model.family == "supervised":
        return recipe.supervised, 1
    return ssl.objective_of(network, model).views or recipe.views, 2


class Pictures(torch.utils.data.Dataset):
    """PIL images with labels, as torchvision's CIFAR10 gives them to a transform."""

    def __init__(self, images: Tensor, transform: Callable[[Any], Any]) -> None:
        from PIL import Image

        pixels = (images * 255).byte().permute(0, 2, 3, 1).numpy()
        self.pictures, self.transform = [Image.fromarray(one) for one in pixels], transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        return self.transform(self.pictures[row]), 0


def _example(threads: int, default: int) -> dict[str, float]:
    """Images/s of SimCLR with the compact CNN, by the clock: whole epochs of ours, on the threads that trainings have,
    and of lightly's example, on those that torch takes by default."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms.simclr_transform import SimCLRTransform

    kind, n = EXAMPLE, EXAMPLE.batch * BATCHES
    images = torch.from_numpy(
        np.random.default_rng(0).random((n, kind.channels, kind.size, kind.size), dtype=np.float32)
    )
    network, made, _, _ = built("simclr", kind)
    backbone = copy.deepcopy(network.encoder)
    step = shipped(network, images, torch.zeros(n, dtype=torch.int64), made, kind.recipe)
    generator = torch.Generator().manual_seed(0)

    def ours() -> None:
        torch.set_num_threads(threads)
        for chosen in training.batches(n, kind.batch, generator):
            step(chosen)

    head, criterion = SimCLRProjectionHead(network.n_features, 128, 64), NTXentLoss()
    optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=0.06)
    loader = torch.utils.data.DataLoader(
        Pictures(images, SimCLRTransform(input_size=kind.size, gaussian_blur=0.0)),
        batch_size=kind.batch,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
        persistent_workers=True,
    )

    def theirs() -> None:
        torch.set_num_threads(default)
        for (x0, x1), _ in loader:
            z0, z1 = (head(backbone(x).flatten(start_dim=1)) for x in (x0, x1))
            loss = criterion(z0, z1)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    ways = {"images_per_s": ours, "lightly_images_per_s": theirs}
    rounds = [
        {way: n / _seconds(work, time.perf_counter) for way, work in ways.items()} for _ in range(EXAMPLE_ROUNDS + 1)
    ]
    return {
        **{way: round(statistics.median(r[way] for r in rounds[1:])) for way in ways},
        "ratio": round(statistics.median(r["images_per_s"] / r["lightly_images_per_s"] for r in rounds[1:]), 2),
        "workers": WORKERS,
        "batch": kind.batch,
    }


def _seconds(work: Callable[[], object], clock: Callable[[], float], times: int = 1) -> float:
    """Of one time on average."""
    start = clock()
    for _ in range(times):
        work()
    return (clock() - start) / times
