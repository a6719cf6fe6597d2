"""Supervised training: cross-entropy on augmented images, AdamW, one cycle of the learning rate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import compute
from bench.config import Model
from bench.models import augment, training
from bench.models.training import Epoch, Kept, Training
from bench.models.zoo import Network


def train(
    network: Network, images: Tensor, labels: Tensor, model: Model, seed: int, kept: Kept | None = None
) -> list[Epoch]:
    """Train encoder and head in place on images (N, C, H, W) in [0, 1] and labels (N,); one record an epoch."""
    generator = torch.Generator(images.device).manual_seed(compute.seed_of(seed, "batches"))
    optimizer = torch.optim.AdamW(network.parameters(), lr=model.lr, weight_decay=model.weight_decay)
    steps = training.steps_of(model.epochs, len(images), model.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=model.lr, total_steps=steps)
    mine = Training(network, nn.Module(), optimizer, schedule, generator, steps)

    def step(chosen: Tensor) -> Tensor:
        views = augment.augment(images[chosen], augment.SUPERVISED, generator)
        loss = F.cross_entropy(network(views), labels[chosen])
        mine.descend(loss)
        return loss

    return training.run(mine, images, model.epochs, model.batch_size, step, kept)
