"""Supervised training: cross-entropy on augmented images, AdamW, one cycle of the learning rate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bench import compute
from bench.config import Model
from bench.models import augment
from bench.models.training import Epoch, batches, diagnose
from bench.models.zoo import Network


def train(network: Network, images: Tensor, labels: Tensor, model: Model, seed: int) -> list[Epoch]:
    """Train encoder and head in place on images (N, C, H, W) in [0, 1] and labels (N,); one record an epoch."""
    generator = torch.Generator(images.device).manual_seed(compute.seed_of(seed, "batches"))
    optimizer = torch.optim.AdamW(network.parameters(), lr=model.lr, weight_decay=model.weight_decay)
    steps = model.epochs * (len(images) // min(model.batch_size, len(images)))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=model.lr, total_steps=steps)
    epochs = []
    for epoch in range(1, model.epochs + 1):
        network.train()
        losses = []
        for chosen in batches(len(images), model.batch_size, generator):
            views = augment.augment(images[chosen], augment.SUPERVISED, generator)
            loss = F.cross_entropy(network(views), labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        epochs.append(diagnose(network, images, epoch, torch.stack(losses)))
    return epochs
