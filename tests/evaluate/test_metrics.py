from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from bench import stats
from bench.config import Config, file_stem
from bench.errors import BenchError
from bench.evaluate import comparisons, correctness, metrics, replication, subsets
from bench.store import tables
from tests import factory

EVERYONE = {*factory.MODELS, factory.ENSEMBLE}


@pytest.fixture(scope="module")
def figures(results: Config) -> pd.DataFrame:
    frame = tables.read("metrics", results.results / "metrics.parquet")
    return frame.set_index(["model", "dataset", "condition", "subset", "label_source", "metric"])


@pytest.fixture(scope="module")
def answers(results: Config) -> pd.DataFrame:
    frame = factory.predictions(results, attacked=True)
    return frame.merge(correctness.evaluated_samples(results)[["sample_id", "label"]])


def of(answers: pd.DataFrame, model: str, dataset: str, condition: str = "clean") -> pd.DataFrame:
    keep = (answers["model"] == model) & (answers["dataset"] == dataset) & (answers["condition"] == condition)
    return answers[keep].set_index("sample_id").sort_index()


def composed(results: Config) -> dict[str, set[int]]:
    labels = tables.read("labels", results.results / "labels.parquet")
    mine = labels[labels["source"] == "composed"]
    return {str(i): set(classes) for i, classes in mine.groupby("sample_id")["class_id"]}


@pytest.mark.parametrize("condition", ["clean", "corruption:gaussian_blur:3"])
@pytest.mark.parametrize("model", factory.MODELS)
def test_top1_is_the_known_accuracy_with_wilsons_interval(figures: pd.DataFrame, model: str, condition: str) -> None:
    row = figures.loc[(model, "digits", condition, "all", "original", "top1")]
    k = round(factory.accuracy(model, "digits", condition) * 60)
    assert row["value"] == pytest.approx(k / 60)
    assert row["n"] == 60
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(stats.wilson(k, 60))


def test_every_model_on_every_set(figures: pd.DataFrame) -> None:
    frame = figures.reset_index()
    top1 = frame[(frame["metric"] == "top1") & (frame["subset"] == "all") & (frame["condition"] == "clean")]
    assert set(zip(top1["model"], top1["dataset"], strict=True)) == {(m, d) for m in EVERYONE for d in factory.DATASETS}
    assert (frame["n"] > 0).all()


def test_intervals_hold_their_figure(figures: pd.DataFrame) -> None:
    known = figures.dropna(subset=["ci_low"])
    assert (known["ci_low"] <= known["value"] + 1e-12).all()
    assert (known["value"] <= known["ci_high"] + 1e-12).all()


def test_class_balanced_is_sklearns(figures: pd.DataFrame, answers: pd.DataFrame) -> None:
    mine = of(answers, "mae-vit", "digits-noisy")
    row = figures.loc[("mae-vit", "digits-noisy", "clean", "all", "original", "class_balanced")]
    assert row["value"] == pytest.approx(balanced_accuracy_score(mine["label"], mine["pred"]))


def test_subsets_are_scored_on_their_own(results: Config, figures: pd.DataFrame, answers: pd.DataFrame) -> None:
    members = tables.read("subset_members", results.results / "subset_members.parquet")
    for subset in ("suitable", "attack", "certain-50", "disputed"):
        ids = members.loc[members["subset"] == subset, "sample_id"]
        mine = of(answers, "simclr-cnn", "digits")
        mine = mine[mine.index.isin(ids)]
        row = figures.loc[("simclr-cnn", "digits", "clean", subset, "original", "top1")]
        assert (row["value"], row["n"]) == (pytest.approx((mine["pred"] == mine["label"]).mean()), len(mine))
    assert figures.loc[("simclr-cnn", "digits", "clean", "suitable", "original", "top1"), "value"] == 1


def test_any_of_and_top_k_on_composed_labels(results: Config, figures: pd.DataFrame, answers: pd.DataFrame) -> None:
    sets = composed(results)
    mine = of(answers, "pixels", "digits-mosaic")
    any_of = np.mean([p in sets[i] for i, p in mine["pred"].items()])
    top_k = np.mean([len(set(top[: len(sets[i])]) & sets[i]) / len(sets[i]) for i, top in mine["top5"].items()])
    cell = ("pixels", "digits-mosaic", "clean", "all", "composed")
    assert figures.loc[(*cell, "any_of"), "value"] == pytest.approx(any_of)
    assert figures.loc[(*cell, "any_of_empty_wrong"), "value"] == pytest.approx(any_of)
    assert figures.loc[(*cell, "top_k"), "value"] == pytest.approx(top_k)
    by_class = pd.Series([p in sets[i] for i, p in mine["pred"].items()]).groupby(mine["label"].to_numpy()).mean()
    assert figures.loc[(*cell, "class_balanced"), "value"] == pytest.approx(by_class.mean())


def test_images_without_labels_are_left_out_or_wrong(own_results: Config) -> None:
    path = own_results.results / "labels.parquet"
    labels = tables.read("labels", path)
    bare = sorted(set(labels.loc[labels["source"] == "composed", "sample_id"]))[:10]
    tables.write("labels", labels[~(labels["sample_id"].isin(bare) & (labels["source"] == "composed"))], path)
    metrics.run(own_results)
    frame = tables.read("metrics", own_results.results / "metrics.parquet")
    mine = frame[(frame["model"] == "pixels") & (frame["label_source"] == "composed") & (frame["subset"] == "all")]
    mine = mine.set_index("metric")
    assert mine.loc["any_of", "n"] == mine.loc["class_balanced", "n"] == mine.loc["top_k", "n"] == 50
    assert mine.loc["any_of_empty_wrong", "n"] == 60
    assert 50 * mine.loc["any_of", "value"] == pytest.approx(60 * mine.loc["any_of_empty_wrong", "value"])


def test_robust_is_right_before_and_after(results: Config, figures: pd.DataFrame, answers: pd.DataFrame) -> None:
    members = tables.read("subset_members", results.results / "subset_members.parquet")
    suitable = set(members.loc[members["subset"] == "suitable", "sample_id"])
    clean = of(answers, "mae-vit", "digits")
    for eps in factory.EPS_255:
        condition = f"attack:pgd-linf:{eps}"
        after = of(answers, "mae-vit", "digits", condition)
        before = clean.loc[after.index]
        right = (after["pred"] == after["label"]) & (before["pred"] == before["label"])
        row = figures.loc[("mae-vit", "digits", condition, "attack", "original", "robust_accuracy")]
        assert (row["value"], row["n"]) == (pytest.approx(right.mean()), factory.N_ATTACKED)
        row = figures.loc[("mae-vit", "digits", condition, "suitable", "original", "robust_accuracy")]
        inside = right[right.index.isin(suitable)]
        assert (row["value"], row["n"]) == (pytest.approx(inside.mean()), len(inside))


def test_a_lucky_attack_does_not_make_a_wrong_image_right(own_results: Config) -> None:
    path = own_results.results / "attack_predictions.parquet"
    frame = tables.read("predictions", path)
    label = correctness.evaluated_samples(own_results).set_index("sample_id")["label"]
    tables.write("predictions", frame.assign(pred=label.loc[frame["sample_id"]].to_numpy()), path)
    metrics.run(own_results)
    written = tables.read("metrics", own_results.results / "metrics.parquet")
    keep = (written["model"] == "mae-vit") & (written["subset"] == "attack")
    values = written[keep].set_index(["condition", "metric"])["value"]
    clean = values["clean", "top1"]
    assert clean < 1
    assert values["attack:pgd-linf:8", "robust_accuracy"] == pytest.approx(clean)


def test_calibration_is_passed_on(results: Config, figures: pd.DataFrame) -> None:
    calibration = tables.read("metrics", results.results / "calibration.parquet").set_index(figures.index.names)
    pd.testing.assert_frame_equal(figures.loc[calibration.index], calibration)


def test_imported_models_have_every_figure_that_is_known_of_them(mixed: Config) -> None:
    frame = tables.read("metrics", mixed.results / "metrics.parquet")
    frame = frame[(frame["condition"] == "clean") & (frame["subset"] == "all")]
    found = frame.groupby(["model", "dataset", "label_source"])["metric"].agg(set).to_dict()
    any_of = {"any_of", "any_of_empty_wrong", "class_balanced"}
    for dataset, source in factory.LABEL_SOURCES.items():
        assert found["org/resnet50.a1", dataset, source] == any_of | {"top_k"}
        assert found["plain", dataset, source] == any_of
        assert found["plain", dataset, "original"] == {"top1", "class_balanced"}
    assert {dataset for model, dataset, _ in found if model == "org/cnn"} == {"digits", "optdigits"}
    values = frame.set_index(["model", "dataset", "label_source", "metric"])["value"]
    for model in ("org/resnet50.a1", "plain"):
        top1 = values[model, "objects", "original", "top1"]
        assert top1 == pytest.approx(round(30 * factory.accuracy(model, "objects")) / 30)
        right = factory.right(mixed, "objects", "real").loc[model]
        assert values[model, "objects", "real", "any_of"] == pytest.approx(right.mean())
        assert values[model, "objects", "real", "any_of_empty_wrong"] == pytest.approx(right.sum() / 30)


def test_top_k_is_over_the_images_whose_labels_are_no_more_than_the_known_answers(own_mixed: Config) -> None:
    path = own_mixed.results / "labels.parquet"
    labels = tables.read("labels", path)
    few, many = ("optdigits/00000", (0, 1)), ("optdigits/00001", (1, 2, 3))
    more = [(sample_id, "people", c, 1.0) for sample_id, classes in (few, many) for c in classes]
    tables.write("labels", pd.concat([labels, pd.DataFrame(more, columns=labels.columns)]), path)
    metrics.run(own_mixed)
    frame = tables.read("metrics", own_mixed.results / "metrics.parquet")
    frame = frame[(frame["metric"] == "top_k") & (frame["dataset"] == "optdigits")].set_index("model")
    assert frame.loc["org/cnn", "n"] == 1
    assert frame.loc["pixels", "n"] == 2
    answers = of(factory.predictions(own_mixed), "org/cnn", "optdigits")
    assert len(answers.loc[few[0], "top5"]) == 2
    assert frame.loc["org/cnn", "value"] == len({*few[1]} & {*answers.loc[few[0], "top5"]}) / 2


def test_a_set_that_no_model_answers_to_has_no_rows(own_mixed: Config) -> None:
    nobody = {name: m for name, m in own_mixed.imported.items() if m.suite != "objects"}
    for name in set(own_mixed.imported) - set(nobody):
        (own_mixed.results / "imported" / "predictions" / f"{file_stem(name)}.parquet").unlink()
    config = own_mixed.model_copy(update={"imported": nobody})
    for stage in (subsets, metrics, replication, comparisons):
        stage.run(config)
    for table in ("metrics", "comparisons", "ranks"):
        assert set(tables.read(table, config.results / f"{table}.parquet")["dataset"]) == set(factory.DATASETS)
    assert "objects" not in set(tables.read("replication", config.results / "replication.parquet")["original"])
    named = tables.read("subsets", config.results / "subsets.parquet").set_index("dataset")["subset"]
    assert set(named["objects"]) == {"multi-label", "single-label"}


def test_summary_for_dvc(results: Config) -> None:
    summary = json.loads((results.root / "metrics.json").read_text())
    assert set(summary) == EVERYONE
    assert list(summary) == sorted(summary)
    assert summary["simclr-cnn"]["optdigits"] == {"top1": 0.75}


def test_plots_for_dvc(results: Config) -> None:
    plots = {path.stem: pd.read_csv(path) for path in (results.root / "plots").iterdir()}
    assert set(plots) == {"accuracy", "corruption", "attack", "training"}
    assert len(plots["accuracy"]) == len(EVERYONE) * len(factory.DATASETS)
    corruption = plots["corruption"].set_index(["model", "corruption", "severity"])["top1"]
    assert corruption["simclr-cnn", "gaussian_blur"].to_dict() == {0: 0.9, 1: 0.85, 3: 0.75, 5: 0.65}
    attack = plots["attack"]
    assert set(attack["model"]) == set(results.attack_pool("digits"))
    for _, mine in attack.groupby("model"):
        assert mine["eps_255"].tolist() == [0, 8, 16]
        assert (mine["robust_accuracy"].diff().dropna() <= 0).all()
    assert plots["training"].groupby("model").size().to_dict() == dict.fromkeys(results.attack_pool("digits"), 3)


def test_twice_the_same_bytes_and_nothing_else_than_declared(own_results: Config) -> None:
    paths = [own_results.results / "metrics.parquet", own_results.root / "metrics.json"]
    paths += sorted((own_results.root / "plots").iterdir())
    before = [tables.sha256(path) for path in paths]
    metrics.run(own_results)
    assert [tables.sha256(path) for path in paths] == before


def test_missing_attack_predictions_say_so(own_results: Config) -> None:
    (own_results.results / "attack_predictions.parquet").unlink()
    with pytest.raises(BenchError, match=r"attack_predictions.parquet: is missing. Run `dvc repro`"):
        metrics.run(own_results)
