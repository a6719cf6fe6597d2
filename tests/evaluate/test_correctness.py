from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.config import Config
from bench.errors import BenchError
from bench.evaluate import correctness
from bench.store import tables
from tests import factory

LABELS = pd.DataFrame(
    [
        ("d/0", "original", 1, 1.0),
        ("d/1", "original", 2, 1.0),
        ("d/2", "original", 0, 1.0),
        ("d/0", "real", 0, 1.0),
        ("d/0", "real", 3, 0.4),
        ("d/1", "real", 2, 1.0),
        ("d/1", "real", 1, 0.0),
    ],
    columns=["sample_id", "source", "class_id", "weight"],
)


def answers(ids: list[str], preds: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"sample_id": ids, "pred": preds})


def test_one_label_is_top1() -> None:
    mine = answers(["d/0", "d/1", "d/2"], [1, 0, 0])
    assert correctness.correct(mine, LABELS, "original").tolist() == [1, 0, 1]


def test_any_of_takes_each_label_and_leaves_out_images_without() -> None:
    mine = answers(["d/0", "d/0", "d/0", "d/1", "d/2"], [0, 3, 1, 2, 0])
    right = correctness.correct(mine, LABELS, "real")
    assert right[:4].tolist() == [1, 1, 0, 1]
    assert np.isnan(right[4])


def test_a_label_without_weight_is_none() -> None:
    assert correctness.correct(answers(["d/1"], [1]), LABELS, "real").tolist() == [0]


def test_a_class_that_nobody_labels_is_wrong() -> None:
    assert correctness.correct(answers(["d/0"], [999]), LABELS, "real").tolist() == [0]


def test_sizes_and_several_classes_at_once() -> None:
    sets = correctness.label_sets(LABELS, "real")
    assert sets.sizes(["d/2", "d/0", "d/1"]).tolist() == [0, 2, 1]
    found = sets.contains(["d/0", "d/2"], [[3, 1, 0], [0, 1, 2]])
    assert found.tolist() == [[True, False, True], [False, False, False]]


def test_unknown_source() -> None:
    with pytest.raises(BenchError, match="no labels of source 'imaginary'"):
        correctness.label_sets(LABELS, "imaginary")


def test_sources_of_datasets() -> None:
    samples = pd.DataFrame({"sample_id": ["d/0", "d/1", "e/0"], "dataset": ["d", "d", "e"]})
    more = pd.DataFrame([("e/0", "original", 0, 1.0), ("f/0", "human", 0, 1.0)], columns=LABELS.columns)
    found = correctness.sources_of(pd.concat([LABELS, more]), samples)
    assert found == {"d": ["original", "real"], "e": ["original"]}


def test_the_matrix_has_the_known_accuracies(results: Config) -> None:
    predictions = correctness.all_predictions(results)
    labels = tables.read("labels", results.results / "labels.parquet")
    for dataset in ("digits", "optdigits", "digits-mosaic"):
        right = correctness.right_matrix(predictions, labels, dataset)
        assert list(right.columns) == sorted(right.columns)
        assert set(right.index) == {*factory.MODELS, factory.ENSEMBLE}
        for model in factory.MODELS:
            assert right.loc[model].sum() == round(factory.accuracy(model, dataset) * right.shape[1])
    noisy = correctness.right_matrix(predictions, labels, "digits-noisy", "true")
    assert noisy.loc["pixels"].mean() == pytest.approx(factory.accuracy("pixels", "digits-noisy"), abs=0.01)


def test_attacked_predictions_come_when_asked_for(results: Config) -> None:
    plain, attacked = correctness.all_predictions(results), correctness.all_predictions(results, attacked=True)
    assert not plain["condition"].str.startswith("attack").any()
    extra = attacked[attacked["condition"].str.startswith("attack")]
    assert len(attacked) == len(plain) + len(extra)
    assert len(extra) == len(results.attack_pool("digits")) * len(factory.EPS_255) * factory.N_ATTACKED


def _drop_one(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(frame.index[(frame["dataset"] == "optdigits") & (frame["condition"] == "clean")][0])


def _drop_corruption(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["condition"] != "corruption:gaussian_blur:5"]


def _stranger(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(sample_id=frame["sample_id"].replace("digits/00000", "digits/99999"))


def _train_image(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(sample_id=frame["sample_id"].replace("digits/00000", "digits/00060"))


def _extra_condition(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(condition=frame["condition"].replace("corruption:gaussian_blur:5", "corruption:fog:5"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_drop_one, "has answers to 59 of the 60 test images of 'optdigits' under 'clean'"),
        (_drop_corruption, "0 of the 60 test images of 'digits' under 'corruption:gaussian_blur:5'"),
        (_stranger, "are no test images, e.g. 'digits/99999'"),
        (_train_image, "are no test images, e.g. 'digits/00060'"),
        (_extra_condition, "0 of the 60 test images of 'digits' under 'corruption:gaussian_blur:5'"),
    ],
)
def test_incomplete_predictions_name_model_set_and_file(
    own_results: Config, damage: Callable[[pd.DataFrame], pd.DataFrame], said: str
) -> None:
    path = own_results.results / "predictions" / "simclr-cnn.parquet"
    tables.write("predictions", damage(tables.read("predictions", path)), path)
    with pytest.raises(BenchError) as caught:
        correctness.all_predictions(own_results)
    message = str(caught.value)
    assert said in message
    assert "'simclr-cnn'" in message
    assert str(path) in message
    assert "dvc repro" in message


def test_a_condition_that_nothing_declares(own_results: Config) -> None:
    path = own_results.results / "predictions" / "pixels.parquet"
    frame = tables.read("predictions", path)
    more = frame[frame["condition"] == "corruption:gaussian_blur:5"].assign(condition="corruption:fog:5")
    tables.write("predictions", pd.concat([frame, more]), path)
    with pytest.raises(BenchError, match="'pixels' has answers to 'digits' under 'corruption:fog:5', which nothing"):
        correctness.all_predictions(own_results)


def _without(path: Path, model: str, sample_id: str | None) -> None:
    frame = tables.read("predictions", path)
    gone = (frame["model"] == model) & ((frame["sample_id"] == sample_id) | (sample_id is None))
    tables.write("predictions", frame[~gone], path)


def test_incomplete_ensemble(own_results: Config) -> None:
    path = own_results.results / "ensemble_predictions.parquet"
    _without(path, factory.ENSEMBLE, "digits/00003")
    with pytest.raises(
        BenchError, match=r"ensemble_predictions.parquet: model 'ensemble-supervised' has answers to 59"
    ):
        correctness.all_predictions(own_results)


@pytest.mark.parametrize("whole", [True, False])
def test_incomplete_attack(own_results: Config, whole: bool) -> None:
    path = own_results.results / "attack_predictions.parquet"
    example = tables.read("predictions", path)["sample_id"].iloc[0]
    _without(path, "simclr-cnn", None if whole else example)
    with pytest.raises(
        BenchError, match=rf"'simclr-cnn' has answers to {0 if whole else 29} of the 30 attacked images"
    ):
        correctness.all_predictions(own_results, attacked=True)


def test_a_missing_shard(own_results: Config) -> None:
    (own_results.results / "predictions" / "pixels.parquet").unlink()
    with pytest.raises(BenchError, match="no results for pixels"):
        correctness.all_predictions(own_results)
