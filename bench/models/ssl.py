"""Self-supervised training with lightly's losses and heads: one loop, one objective per method.

An objective is what a method adds to the encoder: modules to train, a loss of two views, and what follows each step.
`options` of a model in params.yaml are the keyword arguments of its objective; the defaults here are those of small
images and half a minute of one CPU, not those of the papers.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import compute
from bench.config import Model
from bench.errors import BenchError
from bench.models import augment, training
from bench.models.training import Epoch, Setting
from bench.models.zoo import Network

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Objective:
    """One method. `loss` takes two normalised views (N, C, S, S) of the same images."""

    modules: nn.Module
    """What the method has beside the encoder: trained where it takes gradients."""
    loss: Callable[[Tensor, Tensor], Tensor]
    after_step: Callable[[float], None] = lambda progress: None
    """Called after each step with the progress (0 to 1): moving averages, normalised prototypes."""
    views: augment.Augmentation | None = None
    """None: those of the suite."""


def _pair(module: Callable[[Tensor], Tensor], a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both views through a module in one pass."""
    first, second = module(torch.cat([a, b])).chunk(2)
    return first, second


def _joint(network: Network, head: nn.Module, criterion: Callable[[Tensor, Tensor], Tensor]) -> Objective:
    """A criterion of both views' embeddings by one head."""
    return Objective(head, lambda a, b: criterion(*_pair(lambda x: head(network.encode(x)), a, b)))


def _momentum(start: float, progress: float) -> float:
    """The teacher's momentum, from its start value to 1 along a cosine."""
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2


def _following(pairs: Sequence[tuple[nn.Module, nn.Module]], momentum: float) -> Callable[[float], None]:
    """What teachers do after each step: follow their students, (student, teacher) each."""
    from lightly.models.utils import update_momentum

    def follow(progress: float) -> None:
        for student, teacher in pairs:
            update_momentum(student, teacher, _momentum(momentum, progress))

    return follow


def _frozen_copy(module: Module) -> Module:
    return copy.deepcopy(module).requires_grad_(False)


def _simclr(network: Network, *, temperature: float = 0.3) -> Objective:
    """Contrastive: Chen et al. 2020, arXiv 2002.05709."""
    from lightly.loss.ntx_ent_loss import NTXentLoss
    from lightly.models.modules.heads import SimCLRProjectionHead

    head = SimCLRProjectionHead(network.n_features, 128, 64)
    return _joint(network, head, NTXentLoss(temperature=temperature))


def _moco(network: Network, *, temperature: float = 0.2, queue: int = 1024, momentum: float = 0.95) -> Objective:
    """Contrastive with a queue of a teacher's keys: MoCo v2, Chen et al. 2020, arXiv 2003.04297; both views are
    queries, and batch norm is not shuffled."""
    from lightly.loss.ntx_ent_loss import NTXentLoss
    from lightly.models.modules.heads import MoCoProjectionHead

    head = MoCoProjectionHead(network.n_features, 128, 64)
    teacher, teacher_head = _frozen_copy(network), _frozen_copy(head)
    criterion = NTXentLoss(temperature=temperature, memory_bank_size=(queue, 64))

    def loss(a: Tensor, b: Tensor) -> Tensor:
        q_a, q_b = _pair(lambda x: head(network.encode(x)), a, b)
        with torch.no_grad():
            k_a, k_b = _pair(lambda x: teacher_head(teacher.encode(x)), a, b)
        return (criterion(q_a, k_b) + criterion(q_b, k_a)) / 2

    follow = _following([(network.encoder, teacher.encoder), (head, teacher_head)], momentum)
    return Objective(nn.ModuleList([head, teacher, teacher_head, criterion]), loss, follow)


def _nnclr(network: Network, *, temperature: float = 0.2, queue: int = 1024) -> Objective:
    """Contrastive, the positive being a nearest neighbour: Dwibedi et al. 2021, arXiv 2104.14548."""
    from lightly.loss.ntx_ent_loss import NTXentLoss
    from lightly.models.modules import NNMemoryBankModule
    from lightly.models.modules.heads import NNCLRPredictionHead, NNCLRProjectionHead

    head, predictor = NNCLRProjectionHead(network.n_features, 128, 64), NNCLRPredictionHead(64, 128, 64)
    criterion, bank = NTXentLoss(temperature=temperature), NNMemoryBankModule((queue, 64))

    def loss(a: Tensor, b: Tensor) -> Tensor:
        z_a, z_b = _pair(lambda x: head(network.encode(x)), a, b)
        p_a, p_b = _pair(predictor, z_a, z_b)
        near_a, near_b = bank(z_a.detach()), bank(z_b.detach(), update=True)
        return (criterion(near_a, p_b) + criterion(near_b, p_a)) / 2

    return Objective(nn.ModuleList([head, predictor, bank]), loss)


def _dcl(network: Network, *, temperature: float = 0.2) -> Objective:
    """Contrastive without the positive in the denominator: Yeh et al. 2021, arXiv 2110.06848."""
    from lightly.loss.dcl_loss import DCLLoss
    from lightly.models.modules.heads import SimCLRProjectionHead

    head = SimCLRProjectionHead(network.n_features, 128, 64)
    return _joint(network, head, DCLLoss(temperature=temperature))


def _swav(network: Network, *, n_prototypes: int = 32, temperature: float = 0.2) -> Objective:
    """Clustering: Caron et al. 2020, arXiv 2006.09882, with two views and no queue."""
    from lightly.loss.swav_loss import SwaVLoss
    from lightly.models.modules.heads import SwaVProjectionHead, SwaVPrototypes

    head = SwaVProjectionHead(network.n_features, 128, 64)
    prototypes = SwaVPrototypes(64, n_prototypes)
    criterion = SwaVLoss(temperature=temperature)
    prototypes.normalize()

    def loss(a: Tensor, b: Tensor) -> Tensor:
        first, second = _pair(lambda x: prototypes(F.normalize(head(network.encode(x)), dim=1)), a, b)
        return criterion([first, second], []).squeeze()

    def after_step(progress: float) -> None:
        prototypes.normalize()

    return Objective(nn.ModuleList([head, prototypes]), loss, after_step)


def _byol(network: Network, *, momentum: float = 0.95) -> Objective:
    """Distillation without negatives: Grill et al. 2020, arXiv 2006.07733."""
    from lightly.loss.negative_cosine_similarity import NegativeCosineSimilarity
    from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead

    head = BYOLProjectionHead(network.n_features, 256, 64)
    predictor = BYOLPredictionHead(64, 256, 64)
    teacher, teacher_head = _frozen_copy(network), _frozen_copy(head)
    criterion = NegativeCosineSimilarity()

    def loss(a: Tensor, b: Tensor) -> Tensor:
        p_a, p_b = _pair(lambda x: predictor(head(network.encode(x))), a, b)
        with torch.no_grad():
            z_a, z_b = _pair(lambda x: teacher_head(teacher.encode(x)), a, b)
        return (criterion(p_a, z_b) + criterion(p_b, z_a)) / 2

    follow = _following([(network.encoder, teacher.encoder), (head, teacher_head)], momentum)
    return Objective(nn.ModuleList([head, predictor, teacher, teacher_head]), loss, follow)


def _simsiam(network: Network, *, stop_gradient: bool = True) -> Objective:
    """Distillation without a teacher: Chen & He 2020, arXiv 2011.10566. Without `stop_gradient` it is the paper's
    ablation, in which the embeddings collapse."""
    from lightly.loss.negative_cosine_similarity import NegativeCosineSimilarity
    from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead

    head, predictor = SimSiamProjectionHead(network.n_features, 128, 128), SimSiamPredictionHead(128, 32, 128)
    criterion = NegativeCosineSimilarity()

    def loss(a: Tensor, b: Tensor) -> Tensor:
        z_a, z_b = _pair(lambda x: head(network.encode(x)), a, b)
        p_a, p_b = _pair(predictor, z_a, z_b)
        if stop_gradient:
            z_a, z_b = z_a.detach(), z_b.detach()
        return (criterion(p_a, z_b) + criterion(p_b, z_a)) / 2

    return Objective(nn.ModuleList([head, predictor]), loss)


def _dino(
    network: Network, *, n_out: int = 256, teacher_temperature: float = 0.04, momentum: float = 0.95
) -> Objective:
    """Distillation of a sharpened, centred teacher: Caron et al. 2021, arXiv 2104.14294, with two views."""
    from lightly.loss.dino_loss import DINOLoss
    from lightly.models.modules.heads import DINOProjectionHead

    with warnings.catch_warnings():  # of its weight norm, which torch deprecates
        warnings.simplefilter("ignore", FutureWarning)
        head, teacher_head = (DINOProjectionHead(network.n_features, 128, 64, n_out, batch_norm=True) for _ in range(2))
    teacher_head.load_state_dict(head.state_dict())  # deepcopy fails on its weight norm
    teacher, teacher_head = _frozen_copy(network), teacher_head.requires_grad_(False)
    criterion = DINOLoss(n_out)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        student = _pair(lambda x: head(network.encode(x)), a, b)
        with torch.no_grad():
            taught = _pair(lambda x: teacher_head(teacher.encode(x)), a, b)
        return criterion(list(taught), list(student), teacher_temp=teacher_temperature)

    follow = _following([(network.encoder, teacher.encoder), (head, teacher_head)], momentum)
    return Objective(nn.ModuleList([head, criterion, teacher, teacher_head]), loss, follow)


def _vicreg(network: Network, *, width: int = 128) -> Objective:
    """Information maximisation by variance and covariance: Bardes et al. 2022, arXiv 2105.04906."""
    from lightly.loss.vicreg_loss import VICRegLoss
    from lightly.models.modules.heads import VICRegProjectionHead

    head = VICRegProjectionHead(network.n_features, width, width, num_layers=2)
    return _joint(network, head, VICRegLoss())


def _barlow(network: Network, *, redundancy: float = 0.02, width: int = 128) -> Objective:
    """Information maximisation by decorrelation: Zbontar et al. 2021, arXiv 2103.03230."""
    from lightly.loss.barlow_twins_loss import BarlowTwinsLoss
    from lightly.models.modules.heads import BarlowTwinsProjectionHead

    head = BarlowTwinsProjectionHead(network.n_features, width, width)
    return _joint(network, head, BarlowTwinsLoss(lambda_param=redundancy))


def _mae(network: Network, *, mask_ratio: float = 0.5) -> Objective:
    """Masked image modelling: He et al. 2021, arXiv 2111.06377. Needs arch `vit`; sees one unchanged view."""
    from lightly.models import utils
    from lightly.models.modules import MaskedVisionTransformerDecoderTIMM

    masked, patch = _masked(network, "mae")
    width = 48
    embed, predict = nn.Linear(network.n_features, width), nn.Linear(width, patch**2 * network.channels)
    decoder = MaskedVisionTransformerDecoderTIMM(
        masked.sequence_length, width, depth=1, num_heads=3, num_prefix_tokens=0, mlp_ratio=2.0
    )

    def loss(a: Tensor, b: Tensor) -> Tensor:
        size = (len(a), masked.sequence_length)
        keep, hidden = utils.random_token_mask(size, mask_ratio, mask_class_token=True, device=a.device)
        with network.precision(a):
            seen = masked.encode(a, idx_keep=keep).float()
        tokens = embed(seen)
        full = utils.set_at_index(utils.repeat_token(decoder.mask_token, size), keep, tokens)
        predicted = predict(utils.get_at_index(decoder(full), hidden))
        return F.mse_loss(predicted, utils.get_at_index(utils.patchify(a, patch), hidden))

    return Objective(nn.ModuleList([embed, decoder, predict]), loss, views=augment.UNCHANGED)


def _simmim(network: Network, *, mask_ratio: float = 0.5) -> Objective:
    """Masked image modelling without a decoder: Xie et al. 2021, arXiv 2111.09886. Needs arch `vit`; one unchanged
    view."""
    from lightly.models import utils

    masked, patch = _masked(network, "simmim")
    predict = nn.Linear(network.n_features, patch**2 * network.channels)
    token = masked.mask_token  # of lightly's wrapper, not of the encoder: trained, and left behind

    def loss(a: Tensor, b: Tensor) -> Tensor:
        size = (len(a), masked.sequence_length)
        _, hidden = utils.random_token_mask(size, mask_ratio, mask_class_token=True, device=a.device)
        with network.precision(a):
            seen = masked.encode(a, idx_mask=hidden).float()
        predicted = predict(utils.get_at_index(seen, hidden))
        return F.l1_loss(predicted, utils.get_at_index(utils.patchify(a, patch), hidden))

    return Objective(nn.ModuleList([predict, nn.ParameterList([token])]), loss, views=augment.UNCHANGED)


def _ijepa(network: Network, *, n_targets: int = 2, momentum: float = 0.95) -> Objective:
    """Masked image modelling in feature space: Assran et al. 2023, arXiv 2301.08243. Needs arch `vit`; one unchanged
    view.

    From patches outside of `n_targets` square blocks, each of about a sixth of an image, the features that a teacher
    gives the blocks are predicted. So that a batch has one shape, the context is as many patches as are always left.
    """
    from lightly.models import utils
    from lightly.models.modules.ijepa_timm import IJEPAPredictorTIMM

    masked, _ = _masked(network, "ijepa")
    teacher = _frozen_copy(network)
    taught, _ = _masked(teacher, "ijepa")
    width, grid = network.n_features, math.isqrt(masked.sequence_length)
    predictor = IJEPAPredictorTIMM(grid**2, depth=1, mlp_dim=width, predictor_embed_dim=48, num_heads=3, mlp_ratio=2.0)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        targets, context = _blocks(len(a), grid, n_targets, a.device)
        with torch.no_grad(), teacher.precision(a):
            known = F.layer_norm(taught.encode(a).float(), (width,))
        with network.precision(a):
            seen = masked.encode(a, idx_keep=context).float()
        predicted = predictor(seen, [context], targets)
        return F.smooth_l1_loss(predicted, torch.cat([utils.get_at_index(known, block) for block in targets]))

    follow = _following([(network.encoder, teacher.encoder)], momentum)
    return Objective(nn.ModuleList([predictor, teacher]), loss, follow, views=augment.UNCHANGED)


TARGET_SHARE = 0.175
"""Of the patches of an image, one target block of I-JEPA: the middle of the paper's 0.15 to 0.2."""


def _blocks(n: int, grid: int, n_targets: int, device: torch.device) -> tuple[list[Tensor], Tensor]:
    """Patches of `n` images of `grid` x `grid`: target blocks, each (n, side^2), and a context outside of them all,
    (n, grid^2 - n_targets side^2), in random order."""
    side = max(1, round(grid * math.sqrt(TARGET_SHARE)))
    rows, columns = torch.meshgrid(*[torch.arange(side, device=device)] * 2, indexing="ij")
    square = (rows * grid + columns).flatten()
    corners = torch.randint(grid - side + 1, (n_targets, n, 2), device=device)
    targets = [(at[:, :1] * grid + at[:, 1:]) + square for at in corners]
    order = torch.rand(n, grid**2, device=device)
    for block in targets:
        order.scatter_(1, block, 2.0)
    return targets, order.argsort(dim=1)[:, : grid**2 - n_targets * side**2]


def _masked(network: Network, method: str) -> tuple[Any, int]:
    """The encoder with masks, and the side of its patches. BenchError where it is no vision transformer."""
    from lightly.models.modules import MaskedVisionTransformerTIMM
    from timm.models.vision_transformer import VisionTransformer

    if not isinstance(network.encoder, VisionTransformer):
        raise BenchError(
            f"method `{method}` needs arch `vit`.", where=f"params.yaml: models.{network.name}", remedy="Set it."
        )
    masked = MaskedVisionTransformerTIMM(network.encoder, weight_initialization="skip", pos_embed_initialization="skip")
    return masked, network.encoder.patch_embed.patch_size[0]


OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "simclr": _simclr,
    "moco": _moco,
    "nnclr": _nnclr,
    "dcl": _dcl,
    "swav": _swav,
    "byol": _byol,
    "simsiam": _simsiam,
    "dino": _dino,
    "vicreg": _vicreg,
    "barlow": _barlow,
    "mae": _mae,
    "simmim": _simmim,
    "ijepa": _ijepa,
}


def objective_of(network: Network, model: Model) -> Objective:
    """The objective of a model's method with its options. BenchError names an option that the method does not have."""
    make = OBJECTIVES[model.method]
    training.check_options(make, model, network.name)
    return make(network, **model.options)


def train(
    network: Network, images: Tensor, labels: Tensor, model: Model, seed: int, setting: Setting = training.ALONE
) -> list[Epoch]:
    """Train the encoder in place on images (N, C, S, S) in [0, 1]; `labels` only watch it. One record an epoch."""
    torch.manual_seed(compute.seed_of(seed, "objective"))
    objective = objective_of(network, model)
    views = objective.views or setting.recipe.views
    generator = torch.Generator(images.device).manual_seed(compute.seed_of(seed, "batches"))
    mine = training.begin(network, objective.modules, model, len(images), generator, warm_up=0.1)

    def step(chosen: Tensor) -> Tensor:
        batch = images[chosen]
        a, b = (network.normalise(augment.augment(batch, views, generator)) for _ in range(2))
        loss = objective.loss(a, b)
        objective.after_step(mine.descend(loss))
        return loss

    return training.run(mine, (images, labels), model, step, setting)
