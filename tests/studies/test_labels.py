"""Study 1 on sets that can be counted by hand, on small results, and on the published ones where they are at hand."""

from __future__ import annotations

import json
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from bench import stats
from bench.config import Config, Statistics
from bench.evaluate import correctness
from bench.store import tables
from bench.studies import labels
from bench.studies.labels import Judged
from tests import factory

SHARED = Path(__file__).parents[3] / "shared" / "data" / "imagenet_published"
SETTINGS = Statistics(bootstrap=400)


def judged(
    pred: np.ndarray, sets: list[set[int]], classes: np.ndarray, dataset: str = "some", source: str = "people"
) -> Judged:
    """Predictions (M, N) judged by label sets and original classes."""
    any_of = np.array([[int(p) in one for p, one in zip(row, sets, strict=True)] for row in pred])
    return Judged(
        dataset=dataset,
        source=source,
        models=tuple(f"model-{i}" for i in range(len(pred))),
        top1=pred == classes,
        any_of=any_of,
        sizes=np.array([len(one) for one in sets]),
        classes=classes,
        holds=np.array([int(c) in one for c, one in zip(classes, sets, strict=True)]),
        origins=np.array([f"{dataset}/{i}" for i in range(len(sets))]),
    )


@pytest.fixture
def small() -> Judged:
    """Six images, two models; one image without labels, one whose set lacks the original label."""
    sets = [{0}, {0, 1}, set(), {1}, {2, 3}, {1, 2, 3}]
    pred = np.array([[0, 1, 0, 1, 3, 0], [1, 0, 1, 1, 2, 2]])
    return judged(pred, sets, np.array([0, 0, 0, 1, 1, 1]))


def test_histogram_counts_the_empty_ones_and_who_keeps_the_original(small: Judged) -> None:
    found = labels.histogram(small).set_index("n_labels")
    assert found["n_images"].to_dict() == {0: 1, 1: 2, 2: 2, 3: 1}
    assert found["n_with_original"].to_dict() == {0: 0, 1: 2, 2: 1, 3: 1}


@pytest.mark.parametrize(
    ("counts", "last"),
    [
        ({1: 60}, 2),
        ({1: 60, 2: 3, 3: 2}, 2),
        ({0: 90, 1: 60, 2: 50, 3: 49}, 2),
        ({1: 60, 2: 3, 3: 50, 7: 4}, 3),
    ],
)
def test_bins_end_where_images_run_out(counts: dict[int, int], last: int) -> None:
    sizes = np.repeat(list(counts), list(counts.values()))
    assert labels.bins(sizes).tolist() == np.minimum(sizes, last).tolist()


def test_accuracy_by_number_of_labels_by_hand(small: Judged) -> None:
    found = labels.accuracy(small, SETTINGS).set_index(["model", "scoring", "n_labels"]).sort_index()
    first = found.loc["model-0"]
    assert first["value"].to_dict() == {("top1", 1): 1, ("top1", 2): 0, ("any_of", 1): 1, ("any_of", 2): 2 / 3}
    assert found.loc[("model-1", "top1"), "value"].tolist() == [0.5, 1 / 3]
    assert found["n"].unstack("n_labels").drop_duplicates().to_numpy().tolist() == [[2, 3]]
    low, high = stats.wilson(2, 3)
    assert first.loc[("any_of", 2), ["ci_low", "ci_high"]].tolist() == [low, high]
    # class 0 has one image of each kind; class 1 one with one label and two with several
    weights = np.array([1 / 2, 2 / 3])
    for model, differences in (("model-0", [1 - 1, 1 / 2 - 1]), ("model-1", [1 - 0, 1 - 1])):
        by_hand = 100 * (weights * differences).sum() / weights.sum()
        assert found.loc[(model, "any_of", 2), "stratified_pp"] == pytest.approx(by_hand)
    assert found.xs(1, level="n_labels")["stratified_pp"].isna().all()
    assert found["n_classes"].tolist() == [2] * 8


def test_a_class_effect_is_not_an_effect_of_labels() -> None:
    """Class 0 is easy and has one label mostly, class 1 is hard and has two: within classes nothing is left."""
    draw = np.random.default_rng(0)
    classes = np.repeat([0, 1], 4000)
    two = draw.random(8000) < np.where(classes == 0, 0.1, 0.9)
    sets = [{0, 1} if both else {int(c)} for both, c in zip(two, classes, strict=True)]
    wrong = draw.random(8000) < np.where(classes == 0, 0.1, 0.6)
    found = judged(np.where(wrong, 9, classes)[None], sets, classes)
    rows = labels.accuracy(found, SETTINGS).set_index(["scoring", "n_labels"]).loc["top1"]
    assert rows.loc[1, "value"] - rows.loc[2, "value"] > 0.3
    assert rows.loc[2, "stratified_low"] < 0 < rows.loc[2, "stratified_high"]
    rho = labels.correlation(found, SETTINGS, 0).set_index(["scoring", "within"])
    assert rho.loc[("top1", "pooled"), "ci_high"] < -0.3
    assert rho.loc[("top1", "class"), "ci_low"] < 0 < rho.loc[("top1", "class"), "ci_high"]


def test_correlation_leaves_out_images_without_labels(small: Judged) -> None:
    found = labels.correlation(small, SETTINGS, 0)
    assert found["n"].tolist() == [5] * 8
    ranks = pd.DataFrame({"size": [1, 2, 1, 2, 3], "right": [1, 0, 1, 0, 0]}).rank()
    first = found.set_index(["model", "scoring", "within"]).loc[("model-0", "top1", "pooled"), "rho"]
    assert first == pytest.approx(ranks.corr().iloc[0, 1])


def random_side(dataset: str, n: int, seed: int, models: int = 2) -> Judged:
    draw = np.random.default_rng(seed)
    classes = draw.integers(0, 5, n)
    sets = [{int(k) for k in draw.permutation(5)[: draw.integers(0, 3)]} for _ in range(n)]
    sets = [one | {int(c)} if one and draw.random() < 0.8 else one for one, c in zip(sets, classes, strict=True)]
    pred = np.where(draw.random((models, n)) < 0.6, classes, draw.integers(0, 5, (models, n)))
    return judged(pred, sets, classes, dataset)


def test_gaps_by_their_definition() -> None:
    a, b = random_side("one", 400, 1), random_side("other", 300, 2)
    found = labels.gaps(a, b, SETTINGS, 0).set_index(["model", "empty"])
    for i, model in enumerate(a.models):
        top1 = a.top1[i].mean() - b.top1[i].mean()
        some_a, some_b = a.sizes > 0, b.sizes > 0
        any_of = {
            "excluded": a.any_of[i][some_a].mean() - b.any_of[i][some_b].mean(),
            "wrong": a.any_of[i].mean() - b.any_of[i].mean(),
        }
        counted = {"excluded": [some_a.sum(), some_b.sum()], "wrong": [400, 300]}
        for empty, value in any_of.items():
            row = found.loc[(model, empty)]
            assert row["gap_top1_pp"] == pytest.approx(100 * top1)
            assert row["gap_any_of_pp"] == pytest.approx(100 * value)
            assert row["removed_pp"] == pytest.approx(100 * (top1 - value))
            assert row[["n_original", "n_replication"]].tolist() == counted[empty]
            assert row["removed_low"] < row["removed_pp"] < row["removed_high"]
        low, high = stats.newcombe(a.top1[i].sum(), 400, b.top1[i].sum(), 300)
        assert found.loc[(model, "wrong"), ["top1_low", "top1_high"]].tolist() == [100 * low, 100 * high]
    assert labels.gaps(a, b, SETTINGS, 0).equals(labels.gaps(a, b, SETTINGS, 0))


def test_what_is_removed_is_paired_within_each_side() -> None:
    """Its interval is that of images resampled one by one, narrower than two gaps taken to be independent."""
    a, b = random_side("one", 300, 3, 1), random_side("other", 300, 4, 1)
    row = labels.gaps(a, b, Statistics(bootstrap=4000), 0).set_index("empty").loc["wrong"]
    draw = np.random.default_rng(0)
    extra = [side.any_of[0].astype(float) - side.top1[0] for side in (a, b)]
    resampled = [
        extra[1][draw.integers(0, 300, 300)].mean() - extra[0][draw.integers(0, 300, 300)].mean() for _ in range(4000)
    ]
    assert np.allclose(
        row[["removed_low", "removed_high"]].tolist(), 100 * np.quantile(resampled, [0.025, 0.975]), atol=0.5
    )
    apart = np.hypot(row["top1_high"] - row["top1_low"], row["any_of_high"] - row["any_of_low"])
    assert row["removed_high"] - row["removed_low"] < 0.9 * apart


def test_a_relabelled_copy_is_resampled_with_its_original() -> None:
    """The same answers on the same images: only the labels differ, so any-of by the old labels removes all of it."""
    draw = np.random.default_rng(5)
    classes = draw.integers(0, 5, 400)
    pred = np.where(draw.random((1, 400)) < 0.8, classes, 0)
    given = np.where(draw.random(400) < 0.1, (classes + 1) % 5, classes)
    sets = [{int(c)} for c in classes]
    a, b = judged(pred, sets, classes, "clean", "original"), judged(pred, sets, given, "noisy", "true")
    b = Judged(**{**vars(b), "origins": a.origins})
    row = labels.gaps(a, b, SETTINGS, 0).set_index("empty").loc["excluded"]
    assert row["gap_any_of_pp"] == 0
    assert (row["any_of_low"], row["any_of_high"]) == (0, 0)
    assert row["removed_pp"] == row["gap_top1_pp"] > 0
    assert row["removed_low"] == row["top1_low"] > 0


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = factory.make_results(tmp_path_factory.mktemp("labels"), imported=True)
    labels.run(config)
    return config


def read(config: Config, name: str) -> pd.DataFrame:
    return tables.read(name, config.results / f"{name}.parquet")


def test_the_stage_covers_every_set_with_further_labels(config: Config) -> None:
    sets = read(config, "label_sets")
    of_all = tables.read("labels", config.results / "labels.parquet")
    known = correctness.sources_of(of_all, correctness.evaluated_samples(config))
    wanted = {(name, source) for name, sources in known.items() for source in sources if source != "original"}
    assert {("digits-noisy", "true"), ("digits-mosaic", "composed"), ("objects", "real")} <= wanted
    assert set(zip(sets["dataset"], sets["label_source"], strict=True)) == wanted
    mosaic = sets.loc[sets["dataset"] == "digits-mosaic"]
    assert (mosaic["n_with_original"] == mosaic["n_images"]).all()
    for name in ("label_accuracy", "label_correlation"):
        rows = read(config, name)
        assert set(zip(rows["dataset"], rows["label_source"], strict=True)) == wanted
        for dataset, mine in rows.groupby("dataset"):
            assert set(mine["model"]) == set(correctness.answers(config, str(dataset)).models)
    constant = read(config, "label_correlation")
    assert constant.loc[constant["dataset"] == "digits-noisy", "rho"].isna().all()


def test_pairs_are_those_that_are_declared_and_have_further_labels(config: Config) -> None:
    rows = read(config, "label_gaps")
    noisy = rows.loc[rows["replication"] == "digits-noisy"]
    assert set(noisy["original"]) == {"digits"}
    assert set(noisy["labels_original"]) == {"original"}
    assert set(noisy["labels_replication"]) == {"true"}
    assert set(noisy["empty"]) == {"excluded", "wrong"}
    assert (noisy["removed_pp"] > 0).all()
    assert "digits-mosaic" not in set(rows["replication"])
    imported = rows.loc[rows["replication"] == "objects-v2"]
    assert set(imported["model"]) == {"org/resnet50.a1", "plain"}
    assert set(zip(imported["labels_original"], imported["labels_replication"], strict=True)) == {
        ("real", "refined_v2")
    }
    counted = imported.drop_duplicates("empty").set_index("empty")[["n_original", "n_replication"]]
    assert (counted.loc["excluded"] < counted.loc["wrong"]).all()


def test_the_stage_writes_the_same_bytes_again(config: Config) -> None:
    names = ("label_sets", "label_accuracy", "label_correlation", "label_gaps")
    before = {name: tables.sha256(config.results / f"{name}.parquet") for name in names}
    labels.run(config)
    assert before == {name: tables.sha256(config.results / f"{name}.parquet") for name in names}


def published(name: str, dataset: str, source: str, sets: dict[str, list[int]]) -> Judged:
    """The published answers of 67 models to one set, under label sets by file name."""
    samples = pq.read_table(SHARED / f"{name}_samples.parquet").to_pandas()
    top5 = pq.read_table(SHARED / f"{name}_top5.parquet", columns=["model", "row", "top1"]).to_pandas()
    names = top5["model"].cat
    pred = np.zeros((len(names.categories), len(samples)), np.int16)
    pred[names.codes, top5["row"]] = top5["top1"]
    order = np.argsort(names.categories)
    models, pred = names.categories[order], pred[order]
    member = np.zeros((len(samples), 1000), bool)
    for i, file in enumerate(samples["file"]):
        member[i, sets[file]] = True
    classes, everyone = samples["label"].to_numpy(np.int64), np.arange(len(samples))
    return Judged(
        dataset=dataset,
        source=source,
        models=tuple(models),
        top1=pred == classes,
        any_of=np.stack([member[everyone, row] for row in pred]),
        sizes=member.sum(axis=1),
        classes=classes,
        holds=member[everyone, classes],
        origins=(f"{dataset}/" + samples["file"]).to_numpy(str),
    )


@pytest.fixture(scope="module")
def pair() -> tuple[Judged, Judged]:
    """ImageNet val under ReaL and ImageNetV2 under the refined labels."""
    if not SHARED.is_dir():
        pytest.skip(f"the published predictions are not at {SHARED.name}: they are not part of the project")
    timm = find_spec("timm")
    assert timm is not None
    assert timm.origin is not None
    real = json.loads((Path(timm.origin).parent / "data" / "_info" / "imagenet_real_labels.json").read_text())
    names = [f"ILSVRC2012_val_{i + 1:08d}.JPEG" for i in range(len(real))]
    refined = json.loads((SHARED / "imagenetv2_refined_labels.json").read_text())
    refined = {name.removesuffix(".jpeg"): [int(c) for c in classes] for name, classes in refined.items()}
    return (
        published("imagenet_val", "imagenet", "real", dict(zip(names, real, strict=True))),
        published("imagenetv2_matched_frequency", "imagenetv2", "refined_v2", refined),
    )


def test_published_label_counts(pair: tuple[Judged, Judged]) -> None:
    val, v2 = (labels.histogram(side)["n_images"].tolist() for side in pair)
    assert v2 == [129, 5083, 2385, 1306, 628, 237, 127, 48, 23, 18, 13, 1, 2]
    assert round(100 * sum(v2[2:]) / sum(v2), 2) == 47.88
    assert val[:6] == [3163, 39394, 5408, 1319, 411, 161]
    assert round(100 * sum(val[2:]) / sum(val[1:]), 2) == 15.89
    assert round(100 * pair[1].holds.mean(), 1) == 88.0


def test_published_accuracies_of_resnet50(pair: tuple[Judged, Judged]) -> None:
    val, v2 = pair
    i, j = val.models.index("resnet50"), v2.models.index("resnet50")
    some, several = v2.sizes > 0, v2.sizes > 1
    assert len(val.models) == len(v2.models) == 67
    assert round(100 * val.top1[i].mean(), 2) == 76.13
    assert round(100 * val.any_of[i][val.sizes > 0].mean(), 2) == 82.96
    assert round(100 * v2.top1[j].mean(), 2) == 63.33
    assert round(100 * v2.any_of[j][some].mean(), 2) == 75.37
    assert round(100 * v2.any_of[j].mean(), 2) == 74.40
    assert round(100 * v2.top1[j][several].mean(), 2) == 53.15
    assert round(100 * v2.any_of[j][several].mean(), 2) == 73.56


def test_published_tables_are_made_in_seconds(pair: tuple[Judged, Judged]) -> None:
    val, v2 = pair
    start = time.process_time()
    accuracy = labels.accuracy(v2, SETTINGS).set_index(["model", "scoring", "n_labels"]).sort_index()
    rho = labels.correlation(v2, SETTINGS, 0).set_index(["model", "scoring", "within"])
    gaps = labels.gaps(val, v2, SETTINGS, 0).set_index(["model", "empty"])
    assert time.process_time() - start < 8
    resnet = accuracy.loc[("resnet50", "top1")]
    assert resnet["n"].to_dict() == {1: 5083, 2: 2385, 3: 1306, 4: 628, 5: 237, 6: 232}
    assert resnet["value"].is_monotonic_decreasing is False  # it falls to four labels and stays there
    assert resnet["value"].loc[:4].is_monotonic_decreasing
    assert rho.loc[("resnet50", "top1", "class"), "ci_high"] < 0
    row = gaps.loc[("resnet50", "excluded")]
    assert row["gap_top1_pp"] == pytest.approx(12.80)
    assert row["gap_any_of_pp"] == pytest.approx(82.9579 - 75.3723, abs=1e-3)
    assert row["removed_pp"] == pytest.approx(5.214, abs=1e-3)
    assert (gaps.xs("excluded", level="empty")["removed_low"] > 0).sum() > 60
