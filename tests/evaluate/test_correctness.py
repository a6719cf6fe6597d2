from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.config import Config, file_stem
from bench.errors import BenchError
from bench.evaluate import correctness
from bench.evaluate.correctness import Answers
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


def judged(ids: list[str], preds: list[int], source: str) -> tuple[list[bool], list[bool]]:
    """Whether each answer of one model is right under a source, and whether its image has labels of it."""
    found = Answers("d", "clean", ("m",), np.array(ids, object), np.array([preds], np.int32), ())
    right, labelled = correctness.right(found, correctness.label_sets(LABELS, source))
    return right[0].tolist(), labelled.tolist()


def test_one_label_is_top1() -> None:
    assert judged(["d/0", "d/1", "d/2"], [1, 0, 0], "original") == ([True, False, True], [True, True, True])


def test_any_of_takes_each_label_and_says_which_images_have_none() -> None:
    right, labelled = judged(["d/0", "d/0", "d/0", "d/1", "d/2"], [0, 3, 1, 2, 0], "real")
    assert right == [True, True, False, True, False]
    assert labelled == [True, True, True, True, False]


def test_a_label_without_weight_is_none() -> None:
    assert judged(["d/1"], [1], "real") == ([False], [True])


def test_a_class_that_nobody_labels_is_wrong() -> None:
    assert judged(["d/0"], [999], "real") == ([False], [True])


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


def everything(config: Config) -> list[Answers]:
    cells = [(dataset, c) for dataset in config.datasets for c in correctness.conditions(config, dataset)]
    return list(correctness.each(config, cells))


def test_arrays_are_the_rows(mixed: Config) -> None:
    rows = factory.predictions(mixed).set_index(["dataset", "condition", "model"]).sort_index()
    found = everything(mixed)
    assert sum(one.pred.size for one in found) == len(rows)
    for one in found:
        mine = rows.loc[(one.dataset, one.condition)]
        assert list(one.models) == sorted(set(mine.index))
        for model, pred in zip(one.models, one.pred, strict=True):
            best = one.top(model)
            expected = mine.loc[model].sort_values("sample_id")
            assert expected["sample_id"].tolist() == one.ids.tolist()
            assert expected["pred"].tolist() == pred.tolist()
            known = [[] if given is None else list(given) for given in expected["top5"]]
            assert [[c for c in given if c >= 0] for given in best.tolist()] == known
            assert (one.top(model, 2) == best[:, :2]).all()


def test_who_is_right_is_what_the_rows_say(mixed: Config) -> None:
    labels = tables.read("labels", mixed.results / "labels.parquet")
    sources = correctness.sources_of(labels, correctness.evaluated_samples(mixed))
    assert sources["objects"] == ["original", "real"]
    for dataset in ("digits-mosaic", "objects", "objects-v2"):
        answers = correctness.answers(mixed, dataset)
        for source in sources[dataset]:
            right, labelled = correctness.right(answers, correctness.label_sets(labels, source))
            expected = factory.right(mixed, dataset, source)
            assert list(expected.index) == list(answers.models)
            assert expected.columns.tolist() == answers.ids[labelled].tolist()
            assert (right[:, labelled] == expected.to_numpy()).all()
            assert not right[:, ~labelled].any()


def test_classes_beyond_those_of_any_label_are_wrong() -> None:
    pred = np.array([[0, 999, 0], [3, 2, 1]], np.int32)
    answers = Answers("d", "clean", ("a", "b"), np.array(["d/0", "d/1", "d/2"], object), pred, (Path(), Path()))
    right, labelled = correctness.right(answers, correctness.label_sets(LABELS, "real"))
    assert right.tolist() == [[True, False, False], [True, True, False]]
    assert labelled.tolist() == [True, True, False]


def test_who_answers_to_what(mixed: Config) -> None:
    own = {*factory.MODELS, factory.ENSEMBLE}
    assert set(correctness.answering(mixed, "digits")) == own | {"org/cnn"}
    assert set(correctness.answering(mixed, "digits", "corruption:gaussian_blur:3")) == set(factory.MODELS)
    assert set(correctness.answering(mixed, "digits-noisy")) == own
    assert set(correctness.answering(mixed, "objects-v2")) == {"org/resnet50.a1", "plain"}
    assert correctness.suites_of_models(mixed)["org/cnn"] == "digits"
    assert correctness.suites_of_models(mixed)["plain"] == "objects"


def test_the_accuracies_are_the_known_ones(results: Config) -> None:
    for dataset in ("digits", "optdigits", "digits-mosaic"):
        right = factory.right(results, dataset)
        for model in factory.MODELS:
            assert right.loc[model].sum() == round(factory.accuracy(model, dataset) * right.shape[1])
    noisy = factory.right(results, "digits-noisy", "true")
    assert noisy.loc["pixels"].mean() == pytest.approx(factory.accuracy("pixels", "digits-noisy"), abs=0.01)


def test_attacked_predictions(results: Config) -> None:
    attacked = correctness.attacked_predictions(results)
    assert attacked["condition"].str.startswith("attack").all()
    assert len(attacked) == len(results.attack_pool("digits")) * len(factory.EPS_255) * factory.N_ATTACKED


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
        everything(own_results)
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
        everything(own_results)


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
        everything(own_results)


@pytest.mark.parametrize("whole", [True, False])
def test_incomplete_attack(own_results: Config, whole: bool) -> None:
    path = own_results.results / "attack_predictions.parquet"
    example = tables.read("predictions", path)["sample_id"].iloc[0]
    _without(path, "simclr-cnn", None if whole else example)
    with pytest.raises(
        BenchError, match=rf"'simclr-cnn' has answers to {0 if whole else 29} of the 30 attacked images"
    ):
        correctness.attacked_predictions(own_results)


def test_a_missing_shard(own_results: Config) -> None:
    (own_results.results / "predictions" / "pixels.parquet").unlink()
    with pytest.raises(BenchError, match="no results for pixels"):
        everything(own_results)


def test_a_ghost_of_an_imported_model(own_mixed: Config) -> None:
    fewer = {name: model for name, model in own_mixed.imported.items() if name != "org/cnn"}
    with pytest.raises(BenchError, match=r"does not list: org%2Fcnn.*bench prune"):
        correctness.answers(own_mixed.model_copy(update={"imported": fewer}), "digits")


def test_incomplete_imported_predictions(own_mixed: Config) -> None:
    path = own_mixed.results / "imported" / "predictions" / f"{file_stem('org/resnet50.a1')}.parquet"
    _without(path, "org/resnet50.a1", "objects-v2/00000003")
    assert correctness.answers(own_mixed, "objects").pred.shape == (2, 30)
    with pytest.raises(BenchError, match="answers to 29 of the 30 test images of 'objects-v2' under 'clean'") as caught:
        correctness.answers(own_mixed, "objects-v2")
    assert "'org/resnet50.a1'" in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_table_of_predictions(own_mixed: Config) -> None:
    path = own_mixed.results / "imported" / "predictions" / "plain.parquet"
    path.write_bytes(b"PAR1 of old")
    with pytest.raises(BenchError, match=r"plain.parquet: cannot be read as Parquet"):
        correctness.answers(own_mixed, "objects")


def test_without_imported_models_their_folder_may_be_absent(own_results: Config) -> None:
    shutil.rmtree(own_results.results / "imported")
    assert correctness.answers(own_results, "digits").pred.shape == (len(factory.MODELS) + 1, 60)
