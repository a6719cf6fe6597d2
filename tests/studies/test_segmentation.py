"""Study 10: the engine's ASMA against the authors' loop, its measures by hand, and the stage on small sets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from bench.attacks import asma
from bench.attacks.asma import CUT, RAW, RULES
from bench.config import Compute, Config, Segmentation, Statistics
from bench.data import masks
from bench.data.masks import Masked
from bench.errors import BenchError
from bench.models.unet import UNet
from bench.store import tables
from bench.studies import segmentation as study
from tests import tiny

SETTINGS = Compute(threads=1, batch_size=3)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    made = tiny.make(tmp_path_factory.mktemp("tiny"))
    run = Segmentation(
        composed_of="blocks", size=32, widths=[4, 8], epochs=2, n_train=20, n_test=6, n_pairs=5, attack_batch=3
    )
    small = run.model_copy(update={"iterations": 6, "every": 4, "shown": 2})
    return made.model_copy(update={"segmentation": {"digits-scenes": small}})


def drawn(n: int, n_classes: int = 2, size: int = 8) -> tuple[UNet, np.ndarray, np.ndarray]:
    """A network, images (n, 1, size, size) and targets (n, size, size)."""
    torch.manual_seed(0)
    own = np.random.default_rng(0)
    network = UNet(1, n_classes, [4, 8]).eval().requires_grad_(False)
    return network, own.random((n, 1, size, size), np.float32), own.integers(0, n_classes, (n, size, size))


def one_image_loop(
    network: nn.Module, clean: np.ndarray, target: np.ndarray, tau: float, beta: float, iterations: int, n_classes: int
) -> tuple[Tensor, list[list[float]], list[float]]:
    """The authors' loop on one image (C, H, W): the last image, IoU, accuracy, L2 and Linf before clipping, lambdas."""
    x0, y = torch.from_numpy(clean[None]), torch.from_numpy(target)
    x, lam, found, used = x0.clone(), tau, [], []
    for _ in range(iterations):
        x = x.detach().requires_grad_()
        z = network(x)
        answer = z.argmax(1).detach()
        loss = sum(((z[0, c] * (y == c) * (answer[0] != c)).sum() for c in range(n_classes)), torch.zeros(()))
        loss = loss - ((x - x0) ** 2).sum()
        (gradient,) = torch.autograd.grad(loss, x)
        moved = x.detach() + lam * gradient
        after = network(moved).argmax(1)[0]
        both, either = ((after == y) & (y > 0)).sum(), ((after > 0) | (y > 0)).sum()
        iou = float(both / either)
        change = moved - x0
        used.append(lam)
        found.append([iou, float((after == y).float().mean()), float(torch.dist(moved, x0)), float(change.abs().max())])
        lam = beta * iou + tau
        x = moved.clamp(0, 1)
    return x.detach()[0], found, used


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_batched_attack_is_the_loop_of_the_authors_image_by_image(n_classes: int) -> None:
    """Five images in batches of three: an image's course does not depend on who else is in the batch."""
    network, images, targets = drawn(5, n_classes)
    tau = np.linspace(0.01, 0.05, 5).astype(np.float32)
    course = asma.attack(
        network, images, targets, RULES["asma"], SETTINGS, iterations=12, every=1, tau=tau, beta=10.0, shown=5
    )
    assert course.at.tolist() == list(range(13))
    for row in range(5):
        last, found, used = one_image_loop(
            network, images[row], targets[row], float(tau[row]), 10 * float(tau[row]), 12, n_classes
        )
        np.testing.assert_allclose(course.images[row], last.numpy(), atol=2e-5)
        np.testing.assert_allclose(course.measures[RAW][row, 1:], found, atol=2e-3)
        np.testing.assert_allclose(course.multiplier[row, 1:], used, rtol=1e-3)
    assert (course.images != images).any()
    np.testing.assert_array_equal(course.frames[:, -1], course.images)


def test_images_do_not_change_each_other_and_the_last_batch_may_be_short() -> None:
    network, images, targets = drawn(4)
    tau = np.full(4, 0.02, np.float32)
    every = asma.attack(network, images, targets, RULES["asma"], SETTINGS, iterations=5, every=5, tau=tau)
    alone = asma.attack(network, images[3:], targets[3:], RULES["asma"], SETTINGS, iterations=5, every=5, tau=tau[3:])
    np.testing.assert_array_equal(every.images[3], alone.images[0])
    np.testing.assert_array_equal(every.measures[CUT][3], alone.measures[CUT][0])


def test_iou_is_of_the_foreground_and_one_where_both_are_empty() -> None:
    masks = torch.tensor([[[0, 1], [1, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 0]], [[1, 2], [0, 2]]])
    wanted = torch.tensor([[[0, 1], [0, 1]], [[0, 0], [0, 0]], [[0, 0], [0, 1]], [[1, 1], [0, 2]]])
    np.testing.assert_allclose(asma.iou(masks, wanted), [1 / 3, 1, 0, 2 / 3])
    change = torch.zeros(4, 1, 2, 2)
    change[0, 0, 0] = torch.tensor([0.3, -0.4])
    values = asma.measured(masks, wanted, change)
    np.testing.assert_allclose(values[0], [1 / 3, 0.5, 0.5, 0.4], atol=1e-6)
    np.testing.assert_allclose(values[:, 1], [0.5, 1, 0.75, 0.75])


def test_iou_of_two_classes_is_that_of_torchmetrics() -> None:
    jaccard = pytest.importorskip("torchmetrics").JaccardIndex(task="binary")
    own = torch.Generator().manual_seed(0)
    a, b = torch.randint(0, 2, (2, 6, 5, 5), generator=own)
    np.testing.assert_allclose(asma.iou(a, b), [float(jaccard(x, y)) for x, y in zip(a, b, strict=True)], atol=1e-6)


def test_only_pixels_that_are_not_right_yet_count() -> None:
    logits = torch.tensor([[[[3.0, 0.0]], [[1.0, 2.0]]]])
    target = torch.tensor([[[1, 1]]])
    answer = logits.argmax(1)
    assert asma.climbed(RULES["asma"], logits, answer, target).tolist() == [1.0]
    assert asma.climbed(RULES["static-mask"], logits, answer, target).tolist() == [3.0]
    assert asma.climbed(RULES["logit-pgd"], logits, answer, target).tolist() == [0.0], "-2 + 2"
    expected = -np.log1p(np.exp(2)) - np.log1p(np.exp(-2))
    np.testing.assert_allclose(asma.climbed(RULES["ce-pgd"], logits, answer, target), [expected], rtol=1e-6)


def test_the_multiplier_grows_with_the_iou_unless_it_is_static() -> None:
    network, images, targets = drawn(3)
    tau = np.full(3, 0.02, np.float32)
    for name, rule in RULES.items():
        course = asma.attack(network, images, targets, rule, SETTINGS, iterations=4, every=1, tau=tau, beta=10.0)
        grown = tau[0] * (1 + 10 * course.measures[RAW][:, 1:-1, 0])
        expected = grown if rule.adaptive_multiplier else np.full_like(grown, tau[0])
        np.testing.assert_allclose(course.multiplier[:, 2:], expected, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(course.multiplier[:, 1], tau, rtol=1e-6)


def test_pgd_stays_in_its_ball_and_in_the_box() -> None:
    network, images, targets = drawn(3)
    ball = np.float32([0.1, 0.2, 0.4])
    course = asma.attack(
        network, images, targets, RULES["ce-pgd"], SETTINGS, iterations=10, every=1, tau=ball / 4, ball=ball
    )
    assert (course.measures[CUT][:, :, 2] <= ball[:, None] + 1e-6).all()
    assert (course.measures[CUT][:, -1, 2] > 0.5 * ball).all()
    assert course.images.min() >= 0
    assert course.images.max() <= 1


def test_the_first_success_is_of_the_clipped_image() -> None:
    network, images, _ = drawn(3)
    own = np.stack([network(torch.from_numpy(image[None])).argmax(1)[0].numpy() for image in images])
    course = asma.attack(
        network, images, own, RULES["asma"], SETTINGS, iterations=2, every=1, tau=np.full(3, 0.01, np.float32)
    )
    assert course.first.tolist() == [0, 0, 0], "what is drawn of the clean image is the target"
    assert course.first_l2.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(course.images, images)


def test_an_image_is_given_the_mask_of_another_one() -> None:
    ids, chosen = np.array([f"set/{row}" for row in range(20)]), np.arange(0, 20, 2)
    at = study.others(ids, chosen, 0)
    assert (at != chosen).all()
    assert len(set(at.tolist())) > 4
    np.testing.assert_array_equal(study.others(ids, chosen[3:5], 0), at[3:5])


def test_the_stage_writes_every_table_and_its_figures_are_those_of_its_rows(config: Config) -> None:
    counts = study.run(config)
    assert counts["segmentation_runs"] == 5 * len(RULES)
    rows = {name: tables.read(name, config.results / f"{name}.parquet") for name in counts}
    attacks, runs = rows["segmentation_attacks"], rows["segmentation_runs"]
    assert sorted(attacks["iteration"].unique()) == [0, 4, 6]
    last = attacks.loc[attacks["iteration"] == 6].set_index("run_id")["iou_clipped"]
    np.testing.assert_allclose(runs.set_index("run_id")["iou"], last.reindex(runs["run_id"]), rtol=1e-6)
    start = attacks.loc[attacks["iteration"] == 0].set_index("run_id")
    np.testing.assert_allclose(start["iou"].reindex(runs["run_id"]), runs["iou_start"], rtol=1e-6)
    assert (start["l2"] == 0).all()
    assert (runs["sample_id"] != runs["target_id"]).all()
    asma_l2 = runs.loc[runs["variant"] == "asma"].set_index("sample_id")["l2"]
    pgd = runs.loc[runs["variant"] == "ce-pgd"].set_index("sample_id")["l2"]
    assert (pgd <= asma_l2 + 1e-5).all(), "the ball is what asma ended with"
    summary = rows["segmentation_summary"].set_index("variant")
    for variant, mine in runs.groupby("variant"):
        assert summary.loc[variant, "iou"] == pytest.approx(mine["iou"].mean())
        assert summary.loc[variant, "reached"] == pytest.approx((mine["iou"] >= 0.9).mean())
    assert set(rows["segmentation_images"]["kind"]) == {"image", "answer", "clean", "clean_answer", "mask", "target"}
    again = study.studied(config, "digits-scenes", config.segmentation["digits-scenes"])["segmentation_runs"]
    both = again.merge(runs, on="run_id")
    np.testing.assert_array_equal(both["iou_x"].astype(np.float32), both["iou_y"])


def test_targets_without_any_foreground_are_studied_like_others(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = masks.load

    def emptied(*given: object) -> tuple[object, Masked, Masked]:
        meta, train, test = load(*given)  # pyright: ignore[reportArgumentType]
        return meta, train, replace(test, masks=np.zeros_like(test.masks))

    monkeypatch.setattr(masks, "load", emptied)
    found = study.studied(config, "digits-scenes", config.segmentation["digits-scenes"])
    runs, course = found["segmentation_runs"], found["segmentation_attacks"]
    certain = ["iou", "iou_u8", "iou_start", "iou_clean", "pixel_accuracy", "l2", "linf"]
    assert np.isfinite(runs[certain].to_numpy(float)).all()
    assert runs["iou"].isin([0, 1]).all(), "of nothing drawn 1, of anything 0"
    drawn_nothing = runs["iou"] == 1
    assert (runs.loc[drawn_nothing, "pixel_accuracy"] == 1).all()
    assert (runs.loc[~drawn_nothing, "pixel_accuracy"] < 1).all()
    assert course.filter(regex="^(iou|l2|linf)").notna().all(axis=None)
    assert found["segmentation_summary"]["iou"].notna().all()


def test_differences_are_paired_with_asma_and_steps_of_pairs_on_which_both_succeed() -> None:
    ids = [f"s/{row}" for row in range(4)]
    common = {"dataset": "s", "sample_id": ids, "iou_start": 0.1, "pixel_accuracy": 0.9, "l2": 1.0, "linf": 0.1}
    parts = []
    for variant in RULES:
        slow = variant != "asma"
        iou = np.array([0.95, 0.95, 0.8, 0.9]) - (0.1 if slow else 0)
        took = np.where(iou >= 0.85, 20.0 if slow else 10.0, np.nan)
        own = {"variant": variant, "iou": iou, "iou_u8": iou, "iterations": took, "l2_reached": took / 10}
        parts.append(pd.DataFrame({**common, **own}))
    found = study.summed(pd.concat(parts), 0.85, Statistics(bootstrap=50), 0).set_index("variant")
    assert found.loc["asma", ["reached", "n_both"]].tolist() == [0.75, 3]
    assert found.loc["static-mask", ["reached", "n_both", "iterations_delta"]].tolist() == [0.5, 2, 10]
    np.testing.assert_allclose(
        found.loc["static-mask", ["iou_delta", "iou_delta_low", "iou_delta_high"]].to_numpy(float), -0.1, atol=1e-12
    )
    assert np.isnan(found.loc["asma", "iou_delta"])


def test_training_that_diverges_says_so() -> None:
    _, images, targets = drawn(4)
    data = Masked(np.array(list("abcd")), np.where(images > 2, images, np.float32(np.nan)), targets)
    settings = Segmentation(composed_of="blocks", size=8, widths=[4, 8], epochs=1, batch_size=2)
    with pytest.raises(BenchError, match="loss is not finite"):
        study.trained(data, 2, settings, SETTINGS, 0)


def test_mirrored_images_keep_their_masks() -> None:
    own = torch.Generator().manual_seed(1)
    masks = torch.randint(0, 2, (6, 5, 5), generator=own)
    x, y = study.varied(masks[:, None] * 0.2 + 0.4, masks, own)
    for image, mask in zip(x[:, 0], y, strict=True):
        assert image[mask == 1].min() > image[mask == 0].max()
    assert (y != masks).any()


def test_results_are_the_same_for_the_same_seed() -> None:
    own = np.random.default_rng(0)
    data = Masked(np.array(list("abcdef")), own.random((6, 1, 8, 8), np.float32), own.integers(0, 2, (6, 8, 8)))
    settings = Segmentation(composed_of="blocks", size=8, widths=[4, 8], epochs=2, batch_size=2, varied=True)
    a, b = (study.trained(data, 2, settings, SETTINGS, 5).state_dict() for _ in range(2))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_an_image_whose_target_is_drawn_already_stays_under_every_variant() -> None:
    tau = study.first_steps(0.02, np.array([0.5, 0.0, 1e-30], np.float32))
    assert tau.tolist() == [np.float32(0.04), 0, 0]
