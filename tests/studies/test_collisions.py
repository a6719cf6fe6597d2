"""Study 4 on the small network: exact collisions keep the answer, and say the same again."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from bench.config import CollisionRuns, Collisions, Config
from bench.errors import BenchError
from bench.models import zoo
from bench.store import tables
from bench.studies import collisions as study
from bench.studies import layers, stems
from tests import tiny


@pytest.fixture(scope="module")
def config_of_tiny(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tiny.make(tmp_path_factory.mktemp("tiny"))


def test_exact_collisions_keep_the_answer(config_of_tiny: Config, tmp_path: Path) -> None:
    root = shutil.copytree(config_of_tiny.root, tmp_path / "copy")
    run = Collisions(dataset="blocks", models=["cnn"], n_images=6, iterations=100, stems=["patch4"], tasks_on="patch4")
    config = config_of_tiny.model_copy(update={"root": root, "collisions": CollisionRuns(runs={"one": run})})
    study.run(config)
    paths = [config.results / f"{name}.parquet" for name in ("layers", "collisions", "collision_checks")]
    layers, found, checks = (tables.read(path.stem, path) for path in paths)
    assert (layers["rank"] + layers["nullity"] == layers["n_in"]).all()
    whole = layers.loc[layers["layer"] == study.PIXELS].set_index("model")["nullity"]
    exact = found.query("kind == 'exact' and moved")
    assert set(exact["model"]) == set(whole.index[whole > 0])
    assert (exact["feature_error"] < 1e-10).all()
    assert exact["same_top1"].all()
    assert (exact["logit_gap_f64"] < 1e-8).all()
    for row in exact.itertuples():
        clean, made, target = np.frombuffer(row.logits).reshape(3, -1)
        assert np.abs(made - clean).max() == row.logit_gap_f64
        assert np.abs(target - clean).max() > 1e-3
    whole_steps = found.query("kind == 'integer'")
    assert len(whole_steps) == len(found.query("kind == 'exact'"))
    assert (whole_steps["logit_gap_u8"] == whole_steps["logit_gap_f64"]).all(), "8 bits change nothing"
    of_steps = whole_steps.query("moved").groupby("model")["logit_gap_u8"].median()
    rounded = exact.groupby("model")["logit_gap_u8"].median()
    assert len(of_steps)
    assert (of_steps <= rounded[of_steps.index]).all(), "less is left than where an exact one is rounded"
    near = found.query("kind == 'optimised'")
    assert set(near["model"]) == {"cnn"}
    assert near["feature_error"].between(1e-12, 0.5, inclusive="neither").all(), "the residual"
    own = checks.query("model == judge")
    assert set(own["task"]) == {"classify", "segment", "locate"}
    assert (own["n_same"] == own["n"]).all()
    first = [path.read_bytes() for path in paths]
    study.run(config)
    assert [path.read_bytes() for path in paths] == first


def test_targets_are_of_another_class() -> None:
    ids, labels = np.array([f"d/{i}" for i in range(50)]), np.arange(50) % 3
    found = study.targets_of(0, ids, labels, ids, labels)
    assert (labels[found] != labels).all()
    assert study.targets_of(0, ids[5:8], labels[5:8], ids, labels).tolist() == found[5:8].tolist()


def test_a_network_in_float64_is_the_same_network(config_of_tiny: Config) -> None:
    plain = zoo.load(config_of_tiny, "cnn")
    double = study.in_double(plain)
    x = torch.rand(3, plain.channels, 16, 16, generator=torch.Generator().manual_seed(0))
    found = double(x.double())
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.detach().numpy(), plain(x).detach().numpy(), atol=1e-4)


class Twice(nn.Module):
    """One layer on two sizes, as in a model whose shapes depend on its input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).mean((2, 3)) + self.layer(x[..., 2:]).mean((2, 3))


def test_a_layer_of_several_shapes_is_refused() -> None:
    with pytest.raises(BenchError, match="several shapes"):
        layers.shapes(Twice(), torch.zeros(1, 1, 8, 8))
    idle = Twice()
    idle.idle = nn.Linear(1, 1)
    with pytest.raises(BenchError, match="is not run"):
        study.at_layer(idle, "idle", torch.zeros(1, 1, 8, 8))


def test_published_weights_are_measured_at_the_size_of_their_network(
    config_of_tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SqueezeNet 1.1's first layer without padding reads 15 of 16 rows and columns."""
    network = zoo.load(config_of_tiny, "cnn")
    network.encoder = nn.Sequential(nn.Conv2d(network.channels, 64, 3, 2), nn.Flatten())
    model = config_of_tiny.models["cnn"].model_copy(update={"pretrained": True})
    config = config_of_tiny.model_copy(update={"models": {"cnn": model, "other": config_of_tiny.models["cnn"]}})
    monkeypatch.setattr(zoo, "load", lambda *_: network)
    side = network.input_size
    network.head = nn.Linear(64 * ((side - 3) // 2 + 1) ** 2, 4)
    found = study.by_weights(config).iloc[0]
    assert (found["model"], found["layer"], found["method"]) == ("cnn", "encoder.0", "dense")
    assert found["nullity"] == network.channels * (side**2 - (side - 1) ** 2 if side % 2 == 0 else 0)


def test_noise_is_as_long_as_the_change_after_it_is_cut() -> None:
    own = np.random.default_rng(0)
    x = np.clip(own.normal(0.2, 0.4, (6, 50)), 0, 1)
    made = np.clip(x + own.normal(0, 0.2, x.shape), 0, 1)
    made[2] = x[2]
    found = study.noised(x, made, own.standard_normal(x.shape))
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(np.linalg.norm(found - x, axis=1), np.linalg.norm(made - x, axis=1), rtol=1e-9)


def test_a_network_that_sees_the_image_by_two_ways_is_refused() -> None:
    rows = pd.DataFrame({"logit_gap_f64": [1e-12, 2e-12]})
    study.alone("m", "stem", rows)
    with pytest.raises(BenchError, match="by another way too"):
        study.alone("m", "stem", rows.assign(logit_gap_f64=[1e-12, 0.1]))


def test_two_empty_masks_are_one() -> None:
    empty = np.zeros((1, 9))
    assert stems.overlap("segment", empty - 1, empty.astype(np.float32)) == 1
