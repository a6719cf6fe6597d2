"""A benchmark of two small sets of pictures on disk, with checkpoints: for tests of what runs networks.

A picture is noise with a bright block whose place tells the class; `copies` holds some pictures of `blocks` again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from bench.config import Config
from bench.data import index, writer
from bench.data.samples import DatasetMeta
from bench.models import zoo

SIZE, N_CLASSES, N_TRAIN, N_TEST, N_COPIES = 16, 3, 30, 24, 10
MODELS = {
    "cnn": {"family": "supervised", "method": "supervised", "arch": "cnn", "epochs": 1},
    "linear": {"family": "pixels", "method": "pixels", "arch": "pixels"},
}


def pictures(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (n, SIZE, SIZE) and labels (n,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % N_CLASSES
    images = rng.integers(0, 90, (n, SIZE, SIZE), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[5 * label : 5 * label + 5, 4:12] += 110
    return images, labels


def make(root: Path, **changes: object) -> Config:
    """Write data, index tables and the checkpoints of MODELS under `root`; `changes` are sections of params.yaml."""
    images, labels = pictures(N_TRAIN + N_TEST, seed=0)
    meta = DatasetMeta(
        title="Blocks",
        about="For tests.",
        label_space="blocks",
        classes=["top", "middle", "bottom"],
        source="tests",
        license="MIT",
        split_rule="by hand",
    )
    ids = [f"{i:03d}" for i in range(len(labels))]
    splits = ["train"] * N_TRAIN + ["test"] * N_TEST
    writer.write(writer.Content("blocks", meta, ids, labels, images, splits), root / "data")
    again = slice(N_TRAIN, N_TRAIN + N_COPIES)
    source_ids = [f"blocks/{i}" for i in ids[again]]
    copies = writer.Content("copies", meta, ids[again], labels[again], images[again], source_ids=source_ids)
    writer.write(copies, root / "data")
    sections: dict[str, object] = {
        "seed": 0,
        "compute": {"threads": 1, "batch_size": 16},
        "suites": {"blocks": {"train": "blocks", "input_size": SIZE}},
        "datasets": {
            "blocks": {"role": "original", "suite": "blocks"},
            "copies": {"role": "control", "replicates": "blocks", "suite": "blocks"},
        },
        "models": {name: {**model, "suite": "blocks"} for name, model in MODELS.items()},
        "corruptions": {"datasets": ["blocks"], "names": ["gaussian_noise", "contrast"], "severities": [1, 5]},
        "attacks": {"runs": {"pgd-linf": {"dataset": "blocks", "eps_255": [8, 32], "steps": 5, "n_images": 20}}},
        "neighbours": {"model": "cnn", "k": 3},
        "maps": {"n_images": 20, "n_neighbors": 6, "epochs": 20, "k": 3},
    }
    config = Config.model_validate({"root": root, **sections, **changes})
    index.run(config)
    for name in config.models:
        network = trained(config, name)
        zoo.save(network, zoo.path_of(config, name), arch=config.model(name).arch, temperature=1.0)
    return config


def trained(config: Config, name: str, steps: int = 25) -> zoo.Network:
    """The network after a few full-batch steps on the train pictures."""
    torch.set_num_threads(1)
    images, labels = pictures(N_TRAIN, seed=0)
    x, y = torch.from_numpy(images[:, None] / np.float32(255)), torch.from_numpy(labels)
    model = config.model(name)
    network = zoo.build(model, config.suites[model.suite], N_CLASSES, 0, name).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimiser.step()
    return network.eval()
