"""Supervised training: cross-entropy on augmented images, AdamW, one cycle of the learning rate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bench import compute
from bench.config import Model
from bench.models import augment, probes, training
from bench.models.training import Epoch, Setting
from bench.models.zoo import Network


def train(
    network: Network, images: Tensor, labels: Tensor, model: Model, seed: int, setting: Setting = training.ALONE
) -> list[Epoch]:
    """Train encoder and head in place on images (N, C, H, W) in [0, 1] and labels (N,); one record an epoch.

    Options of a model: those of `_chosen`.
    """
    training.check_options(_chosen, model, network.name)
    how, labels = _chosen(setting, network.n_classes, labels, **model.options)  # pyright: ignore[reportArgumentType]
    generator = torch.Generator(images.device).manual_seed(compute.seed_of(seed, "batches"))
    mine = training.begin(network, network.head, model, len(images), generator, warm_up=0.3)

    def step(chosen: Tensor) -> Tensor:
        views = augment.augment(images[chosen], how, generator)
        loss = F.cross_entropy(network(views), labels[chosen])
        mine.descend(loss)
        return loss

    return training.run(mine, (images, labels), model, step, setting)


def _chosen(
    setting: Setting, n_classes: int, labels: Tensor, *, views: bool = False, label_noise: float = 0.0
) -> tuple[augment.Augmentation, Tensor]:
    """The augmentation and the labels to train with. `views`: the augmentation of self-supervised trainings;
    `label_noise`: share of the labels that are replaced by other ones."""
    how = setting.recipe.views if views else setting.recipe.supervised
    if label_noise:
        changed = probes.noisy(labels.cpu().numpy(), n_classes, label_noise, seed=0)
        labels = torch.from_numpy(changed).to(labels.device)
    return how, labels
