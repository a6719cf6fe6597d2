"""Self-supervised training with lightly's losses and heads: one loop, one objective per method.

An objective is what a method adds to the encoder: modules to train, a loss of two views, and what follows each step.
`options` of a model in params.yaml are the keyword arguments of its objective; the defaults here are those of small
images and half a minute of one CPU, not those of the papers.
"""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import compute
from bench.config import Model
from bench.errors import BenchError
from bench.models import augment
from bench.models.training import Epoch, batches, diagnose
from bench.models.zoo import Network


@dataclass(frozen=True)
class Objective:
    """One method. `loss` takes two normalised views (N, C, S, S) of the same images."""

    modules: nn.Module
    """What the method has beside the encoder: trained where it takes gradients."""
    loss: Callable[[Tensor, Tensor], Tensor]
    after_step: Callable[[float], None] = lambda progress: None
    """Called after each step with the progress (0 to 1): moving averages, normalised prototypes."""
    views: augment.Augmentation = augment.VIEWS


def _pair(module: Callable[[Tensor], Tensor], a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both views through a module in one pass."""
    first, second = module(torch.cat([a, b])).chunk(2)
    return first, second


def _joint(network: Network, head: nn.Module, criterion: Callable[[Tensor, Tensor], Tensor]) -> Objective:
    """A criterion of both views' embeddings by one head."""
    return Objective(head, lambda a, b: criterion(*_pair(lambda x: head(network.encoder(x)), a, b)))


def _momentum(start: float, progress: float) -> float:
    """The teacher's momentum, from its start value to 1 along a cosine."""
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2


def _frozen_copy(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).requires_grad_(False)


def _simclr(network: Network, *, temperature: float = 0.3) -> Objective:
    """Contrastive: Chen et al. 2020, arXiv 2002.05709."""
    from lightly.loss.ntx_ent_loss import NTXentLoss
    from lightly.models.modules.heads import SimCLRProjectionHead

    head = SimCLRProjectionHead(network.n_features, 128, 64)
    return _joint(network, head, NTXentLoss(temperature=temperature))


def _swav(network: Network, *, n_prototypes: int = 32, temperature: float = 0.2) -> Objective:
    """Clustering: Caron et al. 2020, arXiv 2006.09882, with two views and no queue."""
    from lightly.loss.swav_loss import SwaVLoss
    from lightly.models.modules.heads import SwaVProjectionHead, SwaVPrototypes

    head = SwaVProjectionHead(network.n_features, 128, 64)
    prototypes = SwaVPrototypes(64, n_prototypes)
    criterion = SwaVLoss(temperature=temperature)
    prototypes.normalize()

    def loss(a: Tensor, b: Tensor) -> Tensor:
        first, second = _pair(lambda x: prototypes(F.normalize(head(network.encoder(x)), dim=1)), a, b)
        return criterion([first, second], []).squeeze()

    def after_step(progress: float) -> None:
        prototypes.normalize()

    return Objective(nn.ModuleList([head, prototypes]), loss, after_step)


def _byol(network: Network, *, momentum: float = 0.95) -> Objective:
    """Distillation without negatives: Grill et al. 2020, arXiv 2006.07733."""
    from lightly.loss.negative_cosine_similarity import NegativeCosineSimilarity
    from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
    from lightly.models.utils import update_momentum

    head = BYOLProjectionHead(network.n_features, 256, 64)
    predictor = BYOLPredictionHead(64, 256, 64)
    teacher, teacher_head = _frozen_copy(network.encoder), _frozen_copy(head)
    criterion = NegativeCosineSimilarity()

    def loss(a: Tensor, b: Tensor) -> Tensor:
        p_a, p_b = _pair(lambda x: predictor(head(network.encoder(x))), a, b)
        with torch.no_grad():
            z_a, z_b = _pair(lambda x: teacher_head(teacher(x)), a, b)
        return (criterion(p_a, z_b) + criterion(p_b, z_a)) / 2

    def after_step(progress: float) -> None:
        for student, follower in ((network.encoder, teacher), (head, teacher_head)):
            update_momentum(student, follower, _momentum(momentum, progress))

    return Objective(nn.ModuleList([head, predictor, teacher, teacher_head]), loss, after_step)


def _dino(
    network: Network, *, n_out: int = 256, teacher_temperature: float = 0.04, momentum: float = 0.95
) -> Objective:
    """Distillation of a sharpened, centred teacher: Caron et al. 2021, arXiv 2104.14294, with two views."""
    from lightly.loss.dino_loss import DINOLoss
    from lightly.models.modules.heads import DINOProjectionHead
    from lightly.models.utils import update_momentum

    with warnings.catch_warnings():  # of its weight norm, which torch deprecates
        warnings.simplefilter("ignore", FutureWarning)
        head, teacher_head = (DINOProjectionHead(network.n_features, 128, 64, n_out, batch_norm=True) for _ in range(2))
    teacher_head.load_state_dict(head.state_dict())  # deepcopy fails on its weight norm
    teacher, teacher_head = _frozen_copy(network.encoder), teacher_head.requires_grad_(False)
    criterion = DINOLoss(n_out)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        student = _pair(lambda x: head(network.encoder(x)), a, b)
        with torch.no_grad():
            taught = _pair(lambda x: teacher_head(teacher(x)), a, b)
        return criterion(list(taught), list(student), teacher_temp=teacher_temperature)

    def after_step(progress: float) -> None:
        for student, follower in ((network.encoder, teacher), (head, teacher_head)):
            update_momentum(student, follower, _momentum(momentum, progress))

    return Objective(nn.ModuleList([head, criterion, teacher, teacher_head]), loss, after_step)


def _vicreg(network: Network) -> Objective:
    """Information maximisation by variance and covariance: Bardes et al. 2022, arXiv 2105.04906."""
    from lightly.loss.vicreg_loss import VICRegLoss
    from lightly.models.modules.heads import VICRegProjectionHead

    head = VICRegProjectionHead(network.n_features, 128, 128, num_layers=2)
    return _joint(network, head, VICRegLoss())


def _barlow(network: Network, *, redundancy: float = 0.02) -> Objective:
    """Information maximisation by decorrelation: Zbontar et al. 2021, arXiv 2103.03230."""
    from lightly.loss.barlow_twins_loss import BarlowTwinsLoss
    from lightly.models.modules.heads import BarlowTwinsProjectionHead

    head = BarlowTwinsProjectionHead(network.n_features, 128, 128)
    return _joint(network, head, BarlowTwinsLoss(lambda_param=redundancy))


def _mae(network: Network, *, mask_ratio: float = 0.5) -> Objective:
    """Masked image modelling: He et al. 2021, arXiv 2111.06377. Needs arch `vit`; sees one unchanged view."""
    from lightly.models import utils
    from lightly.models.modules import MaskedVisionTransformerDecoderTIMM, MaskedVisionTransformerTIMM
    from timm.models.vision_transformer import VisionTransformer

    if not isinstance(network.encoder, VisionTransformer):
        raise BenchError(
            "method `mae` needs arch `vit`.", where=f"params.yaml: models.{network.name}", remedy="Set it."
        )
    patch = network.encoder.patch_embed.patch_size[0]
    masked = MaskedVisionTransformerTIMM(network.encoder, weight_initialization="skip", pos_embed_initialization="skip")
    width = 48
    embed, predict = nn.Linear(network.n_features, width), nn.Linear(width, patch**2 * network.channels)
    decoder = MaskedVisionTransformerDecoderTIMM(
        masked.sequence_length, width, depth=1, num_heads=3, num_prefix_tokens=0, mlp_ratio=2.0
    )

    def loss(a: Tensor, b: Tensor) -> Tensor:
        size = (len(a), masked.sequence_length)
        keep, hidden = utils.random_token_mask(size, mask_ratio, mask_class_token=True, device=a.device)
        tokens = embed(masked.encode(a, idx_keep=keep))
        full = utils.set_at_index(utils.repeat_token(decoder.mask_token, size), keep, tokens)
        predicted = predict(utils.get_at_index(decoder(full), hidden))
        return F.mse_loss(predicted, utils.get_at_index(utils.patchify(a, patch), hidden))

    return Objective(nn.ModuleList([embed, decoder, predict]), loss, views=augment.UNCHANGED)


OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "simclr": _simclr,
    "swav": _swav,
    "byol": _byol,
    "dino": _dino,
    "vicreg": _vicreg,
    "barlow": _barlow,
    "mae": _mae,
}


def objective_of(network: Network, model: Model) -> Objective:
    """The objective of a model's method with its options. BenchError names an option that the method does not have."""
    make = OBJECTIVES[model.method]
    known = list(inspect.signature(make).parameters)[1:]
    unknown = sorted(set(model.options) - set(known))
    if unknown:
        raise BenchError(
            f"method {model.method!r} has no option {', '.join(unknown)}.",
            where=f"params.yaml: models.{network.name}.options",
            remedy=f"Its options are: {', '.join(known) or 'none'}.",
        )
    return make(network, **model.options)


def train(network: Network, images: Tensor, labels: Tensor, model: Model, seed: int) -> list[Epoch]:
    """Train the encoder in place on images (N, C, S, S) in [0, 1]; `labels` are not used. One record an epoch.

    AdamW, a warm-up over a tenth of the steps, then a cosine to zero.
    """
    torch.manual_seed(compute.seed_of(seed, "objective"))
    objective = objective_of(network, model)
    objective.modules.to(images.device)
    generator = torch.Generator(images.device).manual_seed(compute.seed_of(seed, "batches"))
    parameters = [p for m in (network.encoder, objective.modules) for p in m.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=model.lr, weight_decay=model.weight_decay)
    steps = model.epochs * (len(images) // min(model.batch_size, len(images)))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=model.lr, total_steps=steps, pct_start=0.1)
    epochs, step = [], 0
    for epoch in range(1, model.epochs + 1):
        network.train()
        losses = []
        for chosen in batches(len(images), model.batch_size, generator):
            batch = images[chosen]
            a, b = (network.normalise(augment.augment(batch, objective.views, generator)) for _ in range(2))
            loss = objective.loss(a, b)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            objective.after_step(step / steps)
            losses.append(loss.detach())
        epochs.append(diagnose(network, images, epoch, torch.stack(losses)))
    return epochs
