"""Study 9: on a linear network where every step is known, and on the small one."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from bench import compute
from bench.attacks import aims, prepare
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


def walked(
    network: torch.nn.Module,
    clean: np.ndarray,
    targets: np.ndarray,
    case: study.Case,
    iterations: int,
    margins: tuple[float, ...] = (0.0,),
    settings: Compute = SETTINGS,
) -> study.Walk:
    """A walk of one case, until the last of the margins."""
    chosen, goals = np.zeros(len(clean), np.int64), np.full(len(clean), margins[-1])
    how = {"iterations": iterations, "margins": np.array(margins)}
    return study.walk(network, clean, targets, [case], chosen, goals, settings, **how)  # pyright: ignore[reportArgumentType]


def by(objective: str, step_l2: float, variant: str = "equal") -> study.Case:
    return study.Case("random", variant, objective, step_l2)


def test_steps_to_a_boundary_are_those_of_its_distance() -> None:
    """z = 3 a - 4 b is -0.9 at the start, 0.18 from the boundary: 4 steps of 0.05 along the gradient."""
    clean = np.float32([[[[0.1, 0.3], [0.5, 0.5]]]])
    network, target = Linear([3.0, -4.0, 0.0, 0.0]), np.array([1])
    for objective in ("ce", "logit"):
        found = walked(network, clean, target, by(objective, 0.05), 50)
        assert (found.iterations.tolist(), found.reached.tolist()) == ([[4]], [[True]])
        np.testing.assert_allclose(found.images[0, 0, 0] - clean[0, 0], [[0.12, -0.16], [0, 0]], atol=1e-6)
        np.testing.assert_allclose(found.step_cosine, 1, atol=1e-6)
    sign = walked(network, clean, target, by("sign", 0.05 * np.sqrt(2)), 50)
    assert sign.iterations.tolist() == [[3]], "0.05 * 7 = 0.35 a step"
    np.testing.assert_allclose(np.abs(sign.images[:, 0] - clean).max(), 0.15, atol=1e-6)
    raw = walked(network, clean, target, by("logit", 0.01, "raw"), 50)
    assert raw.iterations.tolist() == [[4]], "0.01 * 25 a step"


@pytest.mark.parametrize("objective", ["ce", "sign", "logit"])
def test_a_step_is_that_of_the_other_attacks(objective: str) -> None:
    """The loss and the step that detection (the second half of the study) takes by the same name."""
    clean = np.random.default_rng(0).random((3, 1, 2, 2), dtype=np.float32)
    network, targets = Linear([1.0, -2.0, 0.5, 3.0]), np.array([0, 1, 0])
    x = torch.from_numpy(clean).requires_grad_()
    (gradient,) = torch.autograd.grad(study.LOSSES[objective](network(x), torch.from_numpy(targets)).sum(), x)
    step = study.LENGTHS[objective](0.05)(gradient, {}).numpy()
    found = walked(network, clean, targets, by(objective, 0.05), 1, (0.0, 50.0))
    np.testing.assert_allclose(found.images[:, 1], np.clip(clean + step, 0, 1), atol=1e-6)


def test_an_image_that_does_not_arrive_says_so_and_one_that_is_there_takes_no_step() -> None:
    clean = np.full((2, 1, 2, 2), 0.5, np.float32)
    found = walked(Linear([1.0, 0.0, 0.0, 0.0]), clean, np.array([0, 1]), by("logit", 0.01), 3)
    assert found.reached.tolist() == [[False], [True]]
    assert found.iterations.tolist() == [[3], [0]]
    assert np.array_equal(found.images[1, 0], clean[1])


def test_a_walk_goes_on_past_the_answer_and_keeps_what_it_was_at_each_margin() -> None:
    """z = 10 x grows by 1 a step of 0.1 from -0.5: the answer after 1 step, a margin of 2 after 3, of 7 never."""
    clean = np.float32([[[[0.15, 0.5], [0.5, 0.5]]]])

    class Shifted(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) - torch.tensor([0.0, 2.0])

    network, target = Shifted([10.0, 0.0, 0.0, 0.0]), np.array([1])
    found = walked(network, clean, target, by("logit", 0.1), 9, (0.0, 2.0, 9.0))
    assert found.iterations.tolist() == [[1, 3, 9]]
    assert found.reached.tolist() == [[True, True, False]]
    np.testing.assert_allclose(found.images[0, :, 0, 0, 0], [0.25, 0.45, 1.0], atol=1e-6)
    short = walked(network, clean, target, by("logit", 0.1), 9)
    assert np.array_equal(short.images[:, 0], found.images[:, 0]), "the first steps of the longer walk"
    goal = study.walk(
        network,
        clean,
        target,
        [by("logit", 0.1)],
        np.zeros(1, np.int64),
        np.array([2.0]),
        SETTINGS,
        iterations=9,
        margins=np.array([0.0, 2.0, 9.0]),
    )
    assert goal.iterations.tolist() == [[1, 3, 3]]
    assert goal.reached.tolist() == [[True, True, False]]


def test_each_image_is_moved_by_its_own_case() -> None:
    clean = np.random.default_rng(1).random((5, 1, 2, 2), dtype=np.float32)
    network, targets = Linear([1.0, -2.0, 0.5, 3.0]), np.array([0, 1, 0, 1, 1])
    cases = [by("ce", 0.05), by("sign", 0.03), by("logit", 0.02, "raw")]
    chosen = np.repeat(np.arange(3), 5)
    together = study.walk(
        network,
        np.tile(clean, (3, 1, 1, 1)),
        np.tile(targets, 3),
        cases,
        chosen,
        np.zeros(15),
        SETTINGS,
        iterations=20,
        margins=np.zeros(1),
    )
    for at, case in enumerate(cases):
        alone = walked(network, clean, targets, case, 20)
        assert np.array_equal(together.images[chosen == at], alone.images)
        assert np.array_equal(together.iterations[chosen == at], alone.iterations)
        mine = together.curves.loc[together.curves["case"] == at].drop(columns="case").reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, alone.curves.drop(columns="case"))


def test_the_cosine_of_a_step_and_the_next_one() -> None:
    """The second class is behind after one step, and the third one ahead: the margin turns by a right angle."""

    class Corner(torch.nn.Module):
        """Logits (0, 2 - 10 a, 2.5 - 10 b) of images ((a, b), ...)."""

        def forward(self, x: Tensor) -> Tensor:
            a, b = x[:, 0, 0, 0], x[:, 0, 0, 1]
            return torch.stack([0 * a, 2 - 10 * a, 2.5 - 10 * b], dim=1)

    clean = np.full((1, 1, 2, 2), 0.1, np.float32)
    found = walked(Corner(), clean, np.array([0]), by("logit", 0.1), 9)
    assert found.iterations.tolist() == [[3]], "along b, a and b"
    np.testing.assert_allclose(found.step_cosine, [[0.0]], atol=1e-6)
    curves = found.curves.set_index("iteration")
    assert pd.isna(curves["step_cosine"][0])
    np.testing.assert_allclose(curves["step_cosine"].loc[[1, 2]], 0, atol=1e-6)


def test_the_curve_is_of_the_images_that_still_move() -> None:
    clean = np.float32([[[[0.1, 0.0], [0.0, 0.0]]], [[[0.25, 0.0], [0.0, 0.0]]]])
    found = walked(Linear([2.0, 0.0, 0.0, 0.0]), clean, np.array([0, 0]), by("ce", 0.1), 9)
    assert found.iterations.tolist() == [[1], [3]]
    rows = found.curves
    assert rows["iteration"].tolist() == [0, 1, 2, 3]
    assert rows["n"].tolist() == [2, 2, 1, 1]
    p = 1 / (1 + np.exp(2 * np.array([0.1, 0.25])))
    assert rows["p_target"][0] == pytest.approx(p.mean(), rel=1e-6)
    assert rows["gradient_norm"][0] == pytest.approx((2 * (1 - p)).mean(), rel=1e-6)


def test_saturation_and_what_has_vanished_are_dated() -> None:
    """z = 300 x grows by 15 a step from -7.5: p rounds to 1 at 22.5, after 2 steps; past 103 both terms are 0."""
    clean, target = np.float32([[[[0.475, 0.0], [0.0, 0.0]]]]), np.array([1])

    class Shifted(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) - torch.tensor([0.0, 150.0])

    network, margins = Shifted([300.0, 0.0, 0.0, 0.0]), (0.0, 20.0, 200.0)
    found = walked(network, clean, target, by("logit", 0.05), 10, margins)
    assert found.iterations.tolist() == [[1, 2, 10]]
    np.testing.assert_array_equal(found.saturated_at, [[np.nan, 2, 2]])
    assert np.isnan(found.vanished_at).all(), "the margin's gradient does not"
    still = walked(network, np.float32([[[[0.95, 0.0], [0.0, 0.0]]]]), target, by("ce", 0.05), 4, margins)
    np.testing.assert_array_equal(still.vanished_at, [[0, 0, 0]])
    np.testing.assert_array_equal(still.images[:, 2, 0, 0, 0], np.float32([0.95]), "no step is taken, nothing divided")


class Three(torch.nn.Module):
    """Logits (gap + a, b, 2 b) of images ((a, b), ...)."""

    def __init__(self, gap: float) -> None:
        super().__init__()
        self.gap = gap

    def forward(self, x: Tensor) -> Tensor:
        a, b = x[:, 0, 0, 0], x[:, 0, 0, 1]
        return torch.stack([self.gap + a, b, 2 * b], dim=1)


def test_past_saturation_the_direction_is_another_one_unless_the_loss_is_in_float64() -> None:
    """At b = 0 both other classes have the same p: the gradient is p (2, -3), of which float32 keeps p (0, -3)."""
    images = np.zeros((1, 1, 2, 2), np.float32)
    for gap, cosine in ((5.0, 1.0), (19.0, 3 / np.sqrt(13))):
        found = study.directions(Three(gap), images, np.array([0]), SETTINGS)
        p = 2 * np.exp(-gap) / (1 + 2 * np.exp(-gap))
        assert found["p_other"].tolist() == pytest.approx([p], rel=1e-6)
        assert found["norm"].tolist() == pytest.approx([p / 2 * np.sqrt(13)], rel=1e-6)
        assert found["cosine"].tolist() == pytest.approx([cosine], abs=1e-5)
        assert found["cosine_mended"].tolist() == pytest.approx([1.0], abs=1e-6)
        assert found["saturated"].tolist() == [float(gap > 17)]
        assert found["vanished"].tolist() == [0.0]
    found = study.directions(Three(150.0), images, np.array([0]), SETTINGS)
    assert (found["vanished"].tolist(), found["cosine"].tolist()) == ([1.0], [0.0])


def test_saturation_is_summed_by_margin() -> None:
    images = np.zeros((2, 2, 1, 2, 2), np.float32)
    reached = np.array([[True, True], [True, False]])
    found = study.saturation(Three(5.0), images, reached, np.array([0, 0]), np.array([0.0, 4.0]), SETTINGS)
    assert found["margin"].tolist() == [0.0, 4.0]
    assert found["n"].tolist() == [2, 1]
    np.testing.assert_allclose(found[["cosine", "cosine_low", "cosine_high", "cosine_mended"]], 1, atol=1e-6)


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
    found = aims.drawn(0, data, 4)
    assert (found != data.labels).all()
    counts = np.bincount((found - data.labels) % 4, minlength=4)
    assert counts[0] == 0
    assert counts[1:].min() > 70
    some = dataclasses.replace(data, ids=data.ids[5:9], labels=data.labels[5:9], images=data.images[5:9])
    assert aims.drawn(0, some, 4).tolist() == found[5:9].tolist()


def test_the_runner_up_is_the_second_answer() -> None:
    logits = np.float32([[3.0, -1.0, 2.0], [-3.0, -1.0, -2.0], [0.0, 5.0, 5.0]])
    assert aims.runner_up(logits, np.array([0, 1, 1])).tolist() == [2, 2, 2]


def test_the_stage_moves_what_is_right_and_says_the_same_again(config_of_tiny: Config, tmp_path: Path) -> None:
    root = shutil.copytree(config_of_tiny.root, tmp_path / "copy")
    run = Objectives(
        dataset="blocks", models=["cnn"], n_images=12, iterations=120, step_l2=[0.1], kappas=[3], lbfgs_images=4
    )
    config = config_of_tiny.model_copy(update={"root": root, "objectives": ObjectiveRuns(runs={"one": run})})
    counts = study.run(config)
    names = ("objectives", "objective_gradients", "objective_curves", "objective_summary", "objective_saturation")
    paths = [config.results / f"{name}.parquet" for name in names]
    frame, gradients, _, summary, saturation = (
        tables.read(name, path) for name, path in zip(names, paths, strict=True)
    )
    every = samples.load(config, "blocks")
    data = every.rows(compute.declared(every.ids, 12))
    network = zoo.load(config, "cnn")
    logits = compute.forward(network, data.images, config.compute)
    right = data.rows(np.flatnonzero(logits.argmax(axis=1) == data.labels))
    n = len(right.ids)
    assert counts["objectives"] == 5 * 3 * n + 2 * min(n, 4), "random at 0 and 3, runner-up at 0; and the searches"
    assert gradients.groupby("target_rule").size().to_dict() == {"random": n, "runner_up": n}
    equal = frame.loc[(frame["variant"] == "equal") & (frame["target_rule"] == "random") & (frame["kappa"] == 0)]
    equal = equal.set_index(["objective", "sample_id"])
    assert equal["reached"].mean() > 0.9
    assert (equal["l2"] <= 0.1 * equal["iterations"] * (1 + 1e-5)).all(), "as long as its steps, at most"
    targets = aims.drawn(config.seed, right, tiny.N_CLASSES)
    fast = prepare.folded(network, torch.from_numpy(right.images[:8].copy()))
    once = walked(fast, right.images, targets, by("logit", 0.1), 120, settings=config.compute)
    assert equal.loc["logit"]["iterations"].loc[right.ids].tolist() == once.iterations[:, 0].tolist()
    assert gradients["cosine"].between(-1.001, 1.001).all()
    assert gradients["sign_efficiency"].between(0, 1.001).all()
    far = frame.loc[frame["kappa"] == 3].set_index(["objective", "variant", "sample_id"])
    near = frame.loc[(frame["kappa"] == 0) & (frame["target_rule"] == "random")]
    near = near.set_index(["objective", "variant", "sample_id"]).loc[far.index]
    assert (far["iterations"] >= near["iterations"]).all()
    assert saturation["margin"].tolist()[:2] == [0.0, 2.0]
    assert saturation["cosine"].between(0.99, 1.001).all()
    searched = frame.loc[frame["objective"] == "lbfgs"]
    assert searched["reached"].mean() > 0.9
    assert (summary["n_common"] <= summary["n"]).all()
    first = [path.read_bytes() for path in paths]
    study.run(config)
    assert [path.read_bytes() for path in paths] == first


def test_success_in_8_bits_is_that_of_the_images_as_they_are_saved(config_of_tiny: Config, tmp_path: Path) -> None:
    """Property (5) of tests/attacks/test_engine.py, of this study's own table."""
    every = samples.load(config_of_tiny, "blocks")
    network, settings = zoo.load(config_of_tiny, "cnn"), config_of_tiny.compute
    targets = aims.drawn(0, every, tiny.N_CLASSES)
    run = Objectives(dataset="blocks", models=["cnn"], iterations=40, kappas=[1], lbfgs_images=0)
    rows, _, _ = study.walked(network, every, {"random": targets, "runner_up": targets}, run, settings)
    rows = rows.loc[(rows["objective"] == "ce") & (rows["variant"] == "equal") & (rows["target_rule"] == "random")]
    found = walked(network, every.images, targets, by("ce", 0.1), 40, (0.0, 1.0), settings)
    for level, kappa in enumerate((0.0, 1.0)):
        saved = []
        for at, image in enumerate(found.images[:, level, 0]):
            Image.fromarray(np.round(255 * image).astype(np.uint8)).save(tmp_path / f"{at}.png")
            saved.append(np.asarray(Image.open(tmp_path / f"{at}.png"), np.float32) / np.float32(255))
        answers = compute.forward(network, np.stack(saved)[:, None], settings).argmax(axis=1)
        assert rows.loc[rows["kappa"] == kappa, "reached_u8"].tolist() == (answers == targets).astype(int).tolist()
    assert rows["reached_u8"].mean() > 0


def rows_of(taken: dict[str, list[int]], arrived: dict[str, list[int]], **more: object) -> pd.DataFrame:
    rows = []
    for objective, steps_taken in taken.items():
        for i, (n, ok) in enumerate(zip(steps_taken, arrived[objective], strict=True)):
            case = {"objective": objective, "variant": "equal", "step_l2": 0.1, "target_rule": "random", "kappa": 0.0}
            sizes = {"iterations": n, "reached": bool(ok), "reached_u8": ok, "l2": 0.1 * n, "linf": 0.01 * n}
            known = {"step_cosine": 0.5, "saturated_at": np.nan, "vanished_at": np.nan}
            rows.append({**case, "sample_id": f"d/{i}", **sizes, **known, **more})
    return pd.DataFrame(rows)


GRADIENTS = pd.DataFrame(
    {"target_rule": "random", "sample_id": ["d/0", "d/1", "d/2"], "sign_efficiency": [0.5, 0.8, 0.1]}
)


def test_steps_are_compared_on_the_images_that_all_objectives_moved() -> None:
    rows = rows_of(
        {"ce": [10, 20, 30], "logit": [20, 40, 9], "sign": [15, 25, 9]},
        {"ce": [1, 1, 0], "logit": [1, 1, 1], "sign": [1, 1, 1]},
    )
    nobody = pd.DataFrame()
    found = study.summed(rows, nobody, GRADIENTS, Statistics(bootstrap=300), 0, "m").set_index("objective")
    assert found["n"].eq(3).all()
    assert found["n_common"].eq(2).all()
    assert found.loc["sign", ["over_ce", "iterations", "l2"]].tolist() == pytest.approx([40 / 30, 20, 2.0])
    assert found["over_ce"]["ce"] == found["over_logit"]["logit"] == found["l2_over_ce"]["ce"] == 1
    assert found["over_logit"]["sign"] == pytest.approx(40 / 60)
    assert found["l2_over_ce"]["logit"] == pytest.approx(2)
    assert found["ce_low"]["sign"] == pytest.approx(25 / 20)
    assert found["ce_high"]["sign"] == pytest.approx(15 / 10)
    assert found["predicted"]["sign"] == pytest.approx((10 / 0.5 + 20 / 0.8) / 30)
    assert pd.isna(found["predicted"]["ce"])
    assert found.loc[["ce", "sign"], "reached"].tolist() == pytest.approx([2 / 3, 1.0])
    assert found["over_answer"].eq(1).all(), "the answer is kappa 0"
    nothing = study.summed(rows.assign(reached=False), nobody, GRADIENTS, Statistics(), 0, "m")
    assert nothing["n_common"].eq(0).all()
    assert nothing[["over_ce", "own_l2"]].isna().all(axis=None)
    assert set(nothing) == set(found.reset_index())


def test_a_kappa_is_told_by_the_images_that_an_objective_moved_there_itself() -> None:
    taken, arrived = {"ce": [10, 20, 30], "logit": [20, 40, 9]}, {"ce": [1, 1, 1], "logit": [1, 1, 1]}
    rows = rows_of(taken, arrived)
    far = {"kappa": 20.0, "saturated_at": 40}
    further = rows_of({"ce": [50, 90, 90], "logit": [60, 80, 90]}, {"ce": [1, 0, 0], "logit": [1, 1, 0]}, **far)
    found = study.summed(pd.concat([rows, further]), pd.DataFrame(), GRADIENTS, Statistics(bootstrap=300), 0, "m")
    logit = found.set_index(["objective", "kappa"]).loc[("logit", 20.0)]
    assert logit[["n_common", "own_iterations", "over_logit"]].tolist() == [1, 70, 1]
    assert logit["over_answer"] == pytest.approx(140 / 60)
    assert logit[["saturated", "saturated_at", "vanished"]].tolist() == [1, 40, 0]
    assert logit["over_ce"] == pytest.approx(60 / 50)


def test_searches_are_held_against_the_cross_entropy_by_their_size_alone() -> None:
    rows = rows_of({"ce": [10, 20, 30], "logit": [9, 9, 9]}, {"ce": [1, 1, 0], "logit": [1, 1, 1]})
    searched = rows_of({"lbfgs": [100, 50, 80]}, {"lbfgs": [1, 0, 1]}, variant="search", step_l2=0.0, l2=0.8)
    found = study.summed(rows, searched, GRADIENTS, Statistics(bootstrap=300), 0, "m").set_index("objective")
    lbfgs = found.loc["lbfgs"]
    assert lbfgs[["n", "n_common", "iterations", "own_iterations"]].tolist() == [3, 1, 100, 90]
    assert lbfgs["l2_over_ce"] == pytest.approx(0.8)
    assert pd.isna(lbfgs["over_ce"])
    assert lbfgs["reached"] == pytest.approx(2 / 3)
