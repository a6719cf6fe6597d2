"""Study 9, second half: who is told from whom, what is learnt, and what is counted; on what is known by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import compute
from bench.attacks import norms
from bench.config import Config, Detection, DetectionRuns
from bench.data import samples
from bench.data.samples import Samples
from bench.models import zoo
from bench.store import tables
from bench.studies import detection as study
from tests import tiny

RUN = Detection(dataset="blocks", models=["cnn"], n_train=24, n_images=20, eps_l2=1.5, steps=20, epochs=2)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    made = tiny.make(tmp_path_factory.mktemp("tiny"))
    return made.model_copy(update={"detection": DetectionRuns(runs={"one": RUN})})


@pytest.fixture(scope="module")
def parts(config: Config) -> tuple[study.Part, study.Part]:
    network = zoo.load(config, "cnn")
    fit, held = (samples.load(config, "blocks", split) for split in ("train", "test"))
    return study.part("cnn", network, fit, 24, RUN, config), study.part("cnn", network, held, 20, RUN, config)


def test_parts_hold_what_is_right_at_one_distance_and_no_image_is_in_both(
    config: Config, parts: tuple[study.Part, study.Part]
) -> None:
    fit, held = parts
    assert len(held.data.ids) > 5
    assert not set(fit.data.ids) & set(held.data.ids)
    network = zoo.load(config, "cnn")
    assert (compute.forward(network, held.data.images, config.compute).argmax(axis=1) == held.data.labels).all()
    assert (held.targets != held.data.labels).all()
    for attack, images in held.made.items():
        size = norms.sizes(images, held.data.images).l2
        assert (size <= 1.5 * (1 + 1e-5)).all()
        assert size.mean() > 1.4, attack
        assert images.min() >= 0
        assert images.max() <= 1
    alone = study.noisy(held.data.rows(np.array([3])), 1.5, config.seed)
    assert np.array_equal(alone[0], held.made["noise"][3]), "an image's noise belongs to it"


def test_noise_has_the_length_that_is_asked_for_inside_the_box() -> None:
    images = np.zeros((1, 1, 8, 8), np.float32)
    data = Samples(np.array(["d/0"]), np.zeros(1, np.int64), images)
    found = study.noisy(data, 0.5, 0)
    assert float(np.linalg.norm(found)) == pytest.approx(0.5, abs=1e-4)
    assert (found > 0).sum() < 64, "below black there is nothing"
    far = study.noisy(data, 50.0, 0)
    assert far.max() <= 1


def test_both_classes_are_rounded_or_neither_and_the_placebo_is_clean(parts: tuple[study.Part, study.Part]) -> None:
    held = parts[1]
    below, above = held.shown("ce", "clean", "u8")
    assert np.array_equal(below, norms.round_u8(below))
    assert np.array_equal(above, norms.round_u8(above))
    below, above = held.shown("ce", "clean", "float")
    assert np.array_equal(below, held.data.images)
    assert np.array_equal(above, held.made["ce"])
    assert np.array_equal(held.shown("ce", "noise", "float")[0], held.made["noise"])
    below, above = held.shown("placebo", "clean", "u8")
    assert len(below) == len(above) == len(held.data.ids) // 2
    clean = {image.tobytes() for image in held.data.images}
    halves = [{image.tobytes() for image in half} for half in (below, above)]
    assert halves[0] | halves[1] <= clean
    assert not halves[0] & halves[1]


def test_a_detector_learns_what_is_there_to_see_and_the_same_again(config: Config) -> None:
    own = np.random.default_rng(0)
    images = own.uniform(0, 0.3, (64, 1, 8, 8)).astype(np.float32)
    images[32:, :, ::2] += 0.4
    labels = np.repeat([0, 1], 32)
    scores = []
    for _ in range(2):
        network = study.detector(1, 7)
        study.trained(network, images, labels, 20, 7, config)
        scores.append(study._scores(network, images, config))
    assert np.array_equal(*scores)
    assert scores[0][32:].min() > scores[0][:32].max()
    assert not any(p.requires_grad for p in network.parameters())


def test_lessons_have_as_many_perturbed_as_clean_images_and_their_labels(parts: tuple[study.Part, study.Part]) -> None:
    fit = parts[0]
    n, clean = len(fit.data.ids), fit.data.images
    images, labels = study.lesson("clean", fit, 3)
    assert np.array_equal(images, np.concatenate([clean, clean]))
    assert labels.tolist() == [*fit.data.labels, *fit.data.labels]
    images, labels = study.lesson("finetune", fit, 3)
    assert labels.tolist() == [*fit.data.labels, *fit.data.labels]
    for row, attack in enumerate(study.ATTACKS):
        assert np.array_equal(images[n + row], norms.round_u8(fit.made[attack])[row])
    assert study.lesson("class", fit, 3)[1].tolist() == [*fit.data.labels, *[3] * n]


def test_a_further_class_changes_no_logit_of_the_others(config: Config) -> None:
    network = zoo.load(config, "cnn")
    wider = study.with_class(network).eval()
    x = torch.rand(4, 1, tiny.SIZE, tiny.SIZE)
    torch.testing.assert_close(wider(x)[:, :3], network(x))
    assert wider(x).shape == (4, 4)
    assert network(x).shape == (4, 3), "the network itself stays"


def test_answers_are_judged_and_any_objective_is_the_worst(parts: tuple[study.Part, study.Part]) -> None:
    data = Samples(np.array(["d/0", "d/1", "d/2", "d/3"]), np.array([0, 1, 2, 0]), np.zeros((4, 1, 2, 2), np.float32))
    held = study.Part(data, np.array([1, 2, 0, 1]), {})
    answers = {
        ("clean", "none"): np.array([0, 1, 0, 3]),
        ("first", "ce"): np.array([0, 3, 2, 0]),
        ("first", "sign"): np.array([0, 1, 0, 0]),
        ("first", "logit"): np.array([1, 1, 3, 0]),
    }
    found = study.judged(answers, data, held, 3)
    assert found["clean", "none"].tolist() == [0, 0, 2, 1]
    assert found["first", "any"].tolist() == [2, 1, 2, 0]


def test_outcomes_are_means_over_seeds_beside_what_was(config: Config) -> None:
    data = Samples(np.array([f"d/{i}" for i in range(10)]), np.zeros(10, np.int64), np.zeros((10, 1, 2, 2), np.float32))
    held = study.Part(data, np.ones(10, np.int64), {})

    def answers(wrong: int, images: str) -> dict[tuple[str, str], np.ndarray]:
        pred = np.repeat([1, 0], [wrong, 10 - wrong])
        return {("clean", "none"): np.zeros(10, int)} | {(images, attack): pred for attack in study.ATTACKS}

    before = answers(8, "first")
    seeds = [answers(wrong, "first") | answers(2 * wrong, "second") for wrong in (1, 2, 3)]
    rows = study.outcomes("finetune", seeds, before, data, held, 3, config).set_index(["images", "objective"])
    assert rows["right"]["first", "ce"] == pytest.approx(0.8)
    assert (rows["lowest"]["first", "ce"], rows["highest"]["first", "ce"]) == pytest.approx((0.7, 0.9))
    assert rows["change_pp"]["first", "any"] == pytest.approx(60)
    assert rows["change_pp"]["second", "any"] == pytest.approx(40), "against the first round on the network as it was"
    assert rows["change_low"]["first", "ce"] <= 60 <= rows["change_high"]["first", "ce"]
    assert rows["flagged"].isna().all()
    assert (rows["seeds"] == 3).all()
    once = study.outcomes("before", [before], before, data, held, 3, config).set_index(["images", "objective"])
    assert once["right"]["first", "any"] == pytest.approx(0.2)
    assert once["change_pp"].isna().all()
    flags = {key: np.where(pred == 1, 3, pred) for key, pred in seeds[0].items()}
    known = study.outcomes("class", [flags], before, data, held, 3, config).set_index(["images", "objective"])
    assert known["flagged"]["second", "any"] == pytest.approx(0.2)
    assert known["fooled"]["second", "any"] == 0


def test_the_stage_writes_all_cells_and_the_same_again(config: Config, tmp_path: Path) -> None:
    root = shutil.copytree(config.root, tmp_path / "copy")
    config = config.model_copy(update={"root": root})
    counts = study.run(config)
    assert counts["detection"] == 3 * 4 + 4 + 1 + 3 * 4 + 3 * 3
    names = ("detection", "detection_attacks", "retraining")
    frames = {name: tables.read(name, config.results / f"{name}.parquet") for name in names}
    cells = frames["detection"]
    assert (cells["lowest"] <= cells["auroc"] + 1e-12).all()
    assert (cells["auroc"] <= cells["highest"] + 1e-12).all()
    answers = frames["retraining"].set_index(["variant", "images", "objective"])
    known = answers["right"] + answers["fooled"] + answers["flagged"].astype(float).fillna(0)
    assert known.to_numpy() == pytest.approx(1)
    assert answers["flagged"].notna().groupby("variant").all().to_dict() == {
        "before": False,
        "class": True,
        "clean": False,
        "finetune": False,
    }
    assert ("clean", "second", "any") not in answers.index
    assert ("class", "second", "any") in answers.index
    shown = frames["detection_attacks"].set_index("attack")["fooled"]
    assert shown["ce"] > shown["noise"], "a direction that was sought does more than one that was not"
    first = [(config.results / f"{name}.parquet").read_bytes() for name in names]
    study.run(config)
    assert [(config.results / f"{name}.parquet").read_bytes() for name in names] == first


def test_a_network_that_gets_nothing_right_is_left_out(config: Config, tmp_path: Path) -> None:
    root = shutil.copytree(config.root, tmp_path / "copy")
    config = config.model_copy(update={"root": root})
    network = zoo.load(config, "cnn")
    for held in (network.head.weight, network.head.bias):
        held.data = held.data.roll(1, 0)
    zoo.save(network, zoo.path_of(config, "cnn"), arch="cnn")
    assert set(study.run(config).values()) == {0}
    assert tables.read("retraining", config.results / "retraining.parquet").empty
