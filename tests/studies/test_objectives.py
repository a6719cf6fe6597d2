"""Study 9: on a linear network where every step is known, and on the small one."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from bench import compute
from bench.attacks import losses, steps
from bench.config import Compute, Config, ObjectiveRuns, Objectives, Statistics
from bench.data import samples
from bench.models import zoo
from bench.store import tables
from bench.studies import objectives as study
from tests import tiny


@pytest.fixture(scope="module")
def config_of_tiny(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tiny.make(tmp_path_factory.mktemp("tiny"))


SETTINGS = Compute(threads=1, batch_size=8)


class Linear(torch.nn.Module):
    """Logits (0, x . w) of images of 2 x 2."""

    def __init__(self, weight: list[float]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight).view(1, 2, 2), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        z = (x * self.weight).sum(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(z), z], dim=1)


def test_steps_to_a_boundary_are_those_of_its_distance() -> None:
    """z = 3 a - 4 b is -0.9 at the start, 0.18 from the boundary: 4 steps of 0.05 along the gradient."""
    clean = np.float32([[[[0.1, 0.3], [0.5, 0.5]]]])
    network, target = Linear([3.0, -4.0, 0.0, 0.0]), np.array([1])
    for loss in (losses.to_cross_entropy, losses.to_margin):
        found = study.move(network, clean, target, SETTINGS, loss, steps.l2(0.05), 50)
        assert (found.iterations.tolist(), found.reached.tolist()) == ([4], [True])
        np.testing.assert_allclose(found.images[0, 0] - clean[0, 0], [[0.12, -0.16], [0, 0]], atol=1e-6)
    sign = study.move(network, clean, target, SETTINGS, losses.to_cross_entropy, steps.sign_l2(0.05 * np.sqrt(2)), 50)
    assert sign.iterations.tolist() == [3], "0.05 * 7 = 0.35 a step"
    np.testing.assert_allclose(np.abs(sign.images - clean).max(), 0.15, atol=1e-6)
    raw = study.move(network, clean, target, SETTINGS, losses.to_margin, steps.raw(0.01), 50)
    assert raw.iterations.tolist() == [4], "0.01 * 25 a step"


def test_an_image_that_does_not_arrive_says_so_and_one_that_is_there_takes_no_step() -> None:
    clean = np.full((2, 1, 2, 2), 0.5, np.float32)
    found = study.move(
        Linear([1.0, 0.0, 0.0, 0.0]), clean, np.array([0, 1]), SETTINGS, losses.to_margin, steps.l2(0.01), 3
    )
    assert found.reached.tolist() == [False, True]
    assert found.iterations.tolist() == [3, 0]
    assert np.array_equal(found.images[1], clean[1])


def test_the_curve_is_of_the_images_that_still_move() -> None:
    clean = np.float32([[[[0.1, 0.0], [0.0, 0.0]]], [[[0.25, 0.0], [0.0, 0.0]]]])
    found = study.move(
        Linear([2.0, 0.0, 0.0, 0.0]), clean, np.array([0, 0]), SETTINGS, losses.to_cross_entropy, steps.l2(0.1), 9
    )
    assert found.iterations.tolist() == [1, 3]
    rows = found.curve.rows()
    assert rows["iteration"].tolist() == [0, 1, 2, 3]
    assert rows["n"].tolist() == [2, 2, 1, 1]
    p = 1 / (1 + np.exp(2 * np.array([0.1, 0.25])))
    assert rows["p_target"][0] == pytest.approx(p.mean(), rel=1e-6)
    assert rows["gradient_norm"][0] == pytest.approx((2 * (1 - p)).mean(), rel=1e-6)


def test_first_gradients_by_hand() -> None:
    found = study.first_gradients(
        Linear([3.0, -4.0, 0.0, 0.0]), np.float32([[[[0.1, 0.3], [0.5, 0.5]]]]), np.array([1]), SETTINGS
    )
    p = 1 / (1 + np.exp(0.9))
    assert found["norm_logit"].tolist() == pytest.approx([5.0])
    assert found["norm_ce"].tolist() == pytest.approx([5 * (1 - p)], rel=1e-6)
    assert found["cosine"].tolist() == pytest.approx([1.0])
    assert found["sign_efficiency"].tolist() == pytest.approx([7 / (np.sqrt(2) * 5)])


def test_targets_are_other_classes_and_belong_to_the_image() -> None:
    data = samples.Samples(np.array([f"d/{i}" for i in range(300)]), np.arange(300) % 4, np.zeros((300, 1, 2, 2)))
    found = study.targets_of(0, data, 4)
    assert (found != data.labels).all()
    counts = np.bincount((found - data.labels) % 4, minlength=4)
    assert counts[0] == 0
    assert counts[1:].min() > 70
    some = dataclasses.replace(data, ids=data.ids[5:9], labels=data.labels[5:9], images=data.images[5:9])
    assert study.targets_of(0, some, 4).tolist() == found[5:9].tolist()


def test_the_stage_moves_what_is_right_and_says_the_same_again(config_of_tiny: Config, tmp_path: Path) -> None:
    root = shutil.copytree(config_of_tiny.root, tmp_path / "copy")
    run = Objectives(dataset="blocks", models=["cnn"], n_images=12, iterations=120, step_l2=[0.1])
    config = config_of_tiny.model_copy(update={"root": root, "objectives": ObjectiveRuns(runs={"one": run})})
    counts = study.run(config)
    frame, gradients = (
        tables.read(name, config.results / f"{name}.parquet") for name in ("objectives", "objective_gradients")
    )
    every = samples.load(config, "blocks")
    data = every.rows(compute.declared(every.ids, 12))
    network = zoo.load(config, "cnn")
    right = data.rows(
        np.flatnonzero(compute.forward(network, data.images, config.compute).argmax(axis=1) == data.labels)
    )
    assert counts["objectives"] == 5 * len(right.ids)
    assert set(gradients["sample_id"]) == set(right.ids)
    equal = frame.loc[frame["variant"] == "equal"].set_index(["objective", "sample_id"])
    assert equal["reached"].mean() > 0.9
    assert (equal["l2"] <= 0.1 * equal["iterations"] * (1 + 1e-5)).all(), "as long as its steps, at most"
    once = study.move(
        network,
        right.images,
        study.targets_of(config.seed, right, tiny.N_CLASSES),
        config.compute,
        losses.to_margin,
        steps.l2(0.1),
        120,
    )
    assert equal.loc["logit"]["iterations"].loc[right.ids].tolist() == once.iterations.tolist()
    assert gradients["cosine"].between(-1.001, 1.001).all()
    assert gradients["sign_efficiency"].between(0, 1.001).all()
    paths = [config.results / f"{name}.parquet" for name in ("objectives", "objective_gradients", "objective_curves")]
    first = [path.read_bytes() for path in paths]
    study.run(config)
    assert [path.read_bytes() for path in paths] == first


def test_steps_are_compared_on_the_images_that_all_objectives_moved() -> None:
    rows = []
    for objective, taken, arrived in (
        ("ce", [10, 20, 30], [1, 1, 0]),
        ("logit", [20, 40, 9], [1, 1, 1]),
        ("sign", [15, 25, 9], [1, 1, 1]),
    ):
        for i, (n, ok) in enumerate(zip(taken, arrived, strict=True)):
            rows.append(
                {"model": "m", "dataset": "d", "objective": objective, "variant": "equal", "step_l2": 0.1}
                | {"sample_id": f"d/{i}", "iterations": n, "reached": bool(ok), "l2": 0.1 * n, "linf": 0.01 * n}
            )
    gradients = pd.DataFrame({"sample_id": ["d/0", "d/1", "d/2"], "sign_efficiency": [0.5, 0.8, 0.1]})
    found = study.summed(pd.DataFrame(rows), gradients, Statistics(bootstrap=300), 0).set_index("objective")
    assert found["n"].eq(3).all()
    assert found["n_common"].eq(2).all()
    assert found.loc["sign", ["over_ce", "iterations", "l2"]].tolist() == pytest.approx([40 / 30, 20, 2.0])
    assert found["over_ce"]["ce"] == found["over_logit"]["logit"] == 1
    assert found["over_logit"]["sign"] == pytest.approx(40 / 60)
    assert found["ce_low"]["sign"] == pytest.approx(25 / 20)
    assert found["ce_high"]["sign"] == pytest.approx(15 / 10)
    assert found["predicted"]["sign"] == pytest.approx((10 / 0.5 + 20 / 0.8) / 30)
    assert pd.isna(found["predicted"]["ce"])
    assert found.loc[["ce", "sign"], "reached"].tolist() == pytest.approx([2 / 3, 1.0])
    nothing = study.summed(pd.DataFrame(rows).assign(reached=False), gradients, Statistics(), 0)
    assert nothing["n_common"].eq(0).all()
    assert nothing["over_ce"].isna().all()
    assert set(nothing) == set(found.reset_index())
