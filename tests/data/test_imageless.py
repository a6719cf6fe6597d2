"""Datasets without images and imported label sources, as the stage `index` reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from bench.config import Config
from bench.data import imagenet, index, samples, writer
from bench.data.samples import DatasetMeta
from bench.errors import BenchError
from bench.store import tables
from tests.data import test_imagenet as published
from tests.data.conftest import META, small

real_labels = published.real_labels
V2 = f"imagenetv2/{'b' * 40}"


@pytest.fixture
def raw(tmp_path: Path, real_labels: None) -> dict:
    """`small`, which trains, and the cut-down ImageNet and ImageNetV2, which do not."""
    del real_labels
    writer.write(small(), tmp_path / "data")
    out = tmp_path / "fetched" / "imagenet"
    imagenet.write(imagenet.read(published.official(tmp_path / "source")), out)
    fetched = {
        d: {"suite": "imagenet", "fetched": "imagenet", "sha256": samples.digest(out / d)} for d in published.STEMS
    }
    return {
        "root": tmp_path,
        "seed": 0,
        "suites": {"digits": {"train": "small"}, "imagenet": {"channels": 3}},
        "datasets": {
            "small": {"role": "original"},
            "imagenet": {"role": "original"} | fetched["imagenet"],
            "imagenetv2": {"role": "replication", "replicates": "imagenet"} | fetched["imagenetv2"],
        },
        "models": {},
    }


def config(raw: dict) -> Config:
    return Config.model_validate(raw)


def test_a_dataset_without_images_is_indexed_beside_one_with(raw: dict) -> None:
    counts = index.run(config(raw))
    assert counts == {"datasets": 3, "samples": 11, "pictures": 4, "labels": 6 + 3 + 3 + 2 + 2}
    stems = {name: index.GIVEN.get(name, name) for name in TABLES}
    read = {name: tables.read(name, raw["root"] / "results" / f"{stem}.parquet") for name, stem in stems.items()}
    rows = read["samples"].set_index("sample_id")
    assert rows.loc[V2, ["dataset", "split", "label", "source_id"]].tolist() == ["imagenetv2", "test", 999, V2]
    assert rows["width"].isna().sum() == rows["height"].isna().sum() == 5
    assert rows.loc["small/0", ["width", "height"]].tolist() == [5, 4]
    assert read["images"]["sample_id"].str.startswith("small/").all()
    tench = read["classes"].set_index(["label_space", "class_id"]).loc[("imagenet-1k", 0)]
    assert tench[["name", "wnid"]].tolist() == ["tench", "n01440764"]
    assert "fish" in tench["definition"]
    assert read["classes"].loc[read["classes"]["label_space"] == "abc", ["wnid", "definition"]].isna().all(axis=None)
    datasets = read["datasets"].set_index("dataset")
    assert datasets.loc["imagenetv2", ["n_samples", "n_test", "n_classes", "replicates"]].tolist() == [
        2,
        2,
        1000,
        "imagenet",
    ]


TABLES = ("datasets", "classes", "samples", "images", "labels", "label_sources")


def test_every_source_of_labels_has_a_row_that_says_where_it_is_from(raw: dict) -> None:
    index.run(config(raw))
    sources = tables.read("label_sources", raw["root"] / "results" / "given_label_sources.parquet")
    found = {(d, s): about for d, s, about in sources.itertuples(index=False)}
    assert sorted(found) == [
        ("imagenet", "original"),
        ("imagenet", "real"),
        ("imagenetv2", "original"),
        ("imagenetv2", "refined_v2"),
        ("small", "original"),
    ]
    assert "Dawid and Skene" in found["imagenet", "real"]
    assert "Multilabelfy" in found["imagenetv2", "refined_v2"]
    assert found["small", "original"] == ""


def test_every_suite_has_hash_files(raw: dict) -> None:
    """Published networks run in suites that train nothing, too."""
    index.run(config(raw))
    made = {
        path.relative_to(raw["root"] / "results").as_posix() for path in (raw["root"] / "results/index").rglob("*.json")
    }
    uses = ("train", "probe", "evaluate")
    assert made == {f"index/{use}/{suite}.json" for use in uses for suite in ("digits", "imagenet")}


def test_without_any_training_there_is_nothing_to_train_on_and_no_picture(raw: dict) -> None:
    del raw["datasets"]["small"], raw["suites"]["digits"]
    assert index.run(config(raw))["pictures"] == 0
    assert json.loads((raw["root"] / "results" / "index" / "train" / "imagenet.json").read_text()) == {}
    assert tables.read("images", raw["root"] / "results" / "images.parquet").empty
    assert tables.read("samples", raw["root"] / "results" / "samples.parquet")["width"].isna().all()


def test_a_fetched_set_that_is_missing_or_another_says_what_to_do(raw: dict) -> None:
    path = raw["root"] / "fetched" / "imagenet" / "imagenetv2" / "labels.parquet"
    labels = tables.read("labels", path)
    tables.write("labels", labels[labels["class_id"] != 7], path)
    with pytest.raises(
        BenchError, match=r"not those that params\.yaml pins \(datasets\.imagenetv2\.sha256\)"
    ) as caught:
        index.run(config(raw))
    assert "bench data fetch imagenet" in caught.value.remedy
    path.unlink()
    with pytest.raises(BenchError, match=r"lacks labels\.parquet.*bench data fetch imagenet"):
        index.run(config(raw))
    (raw["root"] / "fetched" / "imagenet").rename(raw["root"] / "fetched" / "elsewhere")
    with pytest.raises(BenchError, match=r"no such dataset folder.*bench data fetch imagenet"):
        index.run(config(raw))
    assert not (raw["root"] / "results").exists()


def test_models_cannot_be_run_on_a_set_without_images(raw: dict) -> None:
    with pytest.raises(BenchError, match=r"'imagenet' comes without images.*bench import predictions"):
        samples.load(config(raw), "imagenet")
    raw["suites"]["imagenet"]["train"] = "imagenet"
    with pytest.raises(BenchError, match="has no images, though the suite 'imagenet' trains models"):
        index.run(config(raw))


def test_a_set_has_all_columns_of_its_pictures_or_none(raw: dict) -> None:
    path = raw["root"] / "data" / "small" / "samples.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["image"]), path)
    with pytest.raises(BenchError, match="lacks the columns image"):
        samples.read_table(path.parent, 3)
    pq.write_table(table.drop_columns(list(samples.PICTURE)), path)
    assert list(samples.read_table(path.parent, 3).columns) == ["sample_id", "split", "label", "source_id"]
    pq.write_table(table.drop_columns([*samples.PICTURE, "label"]), path)
    with pytest.raises(BenchError, match="lacks the columns label"):
        samples.read_table(path.parent, 3)


def test_sets_of_a_suite_without_training_share_their_classes(raw: dict) -> None:
    folder = raw["root"] / "fetched" / "imagenet" / "imagenetv2"
    meta = json.loads((folder / "dataset.json").read_text())
    meta["wnids"][:2] = reversed(meta["wnids"][:2])
    (folder / "dataset.json").write_text(json.dumps(meta))
    raw["datasets"]["imagenetv2"]["sha256"] = samples.digest(folder)
    with pytest.raises(BenchError, match="classes of 'imagenetv2'"):
        index.run(config(raw))
    meta["label_space"] = "another"
    (folder / "dataset.json").write_text(json.dumps(meta))
    with pytest.raises(BenchError, match="classes of 'imagenetv2'"):
        index.run(config(raw))


@pytest.mark.parametrize("key", ["wnids", "definitions"])
def test_there_is_one_for_each_class(key: str) -> None:
    with pytest.raises(ValueError, match=f"`{key}` has 2 entries for 3 classes"):
        DatasetMeta(**{**META.model_dump(), key: ["one", "two"]})


def imported(raw: dict, rows: list[tuple[str, int]], source: str = "mine", inside: str = "mine") -> Path:
    """Labels of `small` from a file, pinned."""
    path = raw["root"] / "data" / "imported" / "labels" / "small" / f"{source}.parquet"
    frame = pd.DataFrame(rows, columns=["sample_id", "class_id"]).assign(source=inside, weight=1.0)
    tables.write("labels", frame, path)
    raw["datasets"]["small"]["labels"] = {source: {"sha256": tables.sha256(path), "process": "Somebody looked."}}
    return path


def test_imported_labels_join_those_of_the_set(raw: dict) -> None:
    imported(raw, [("small/2", 0), ("small/2", 1), ("small/5", 2)])
    index.run(config(raw))
    labels = tables.read("labels", raw["root"] / "results" / "given_labels.parquet")
    mine = labels[labels["source"] == "mine"]
    assert list(zip(mine["sample_id"], mine["class_id"], strict=True)) == [
        ("small/2", 0),
        ("small/2", 1),
        ("small/5", 2),
    ]
    sources = tables.read("label_sources", raw["root"] / "results" / "given_label_sources.parquet")
    assert dict(zip(sources["source"], sources["about"], strict=True))["mine"] == "Somebody looked."
    sources = tables.read("label_sources", raw["root"] / "results" / "given_label_sources.parquet")
    assert ("small", "mine") in set(zip(sources["dataset"], sources["source"], strict=True))


def test_an_imported_source_without_any_label_is_still_a_source(raw: dict) -> None:
    imported(raw, [])
    index.run(config(raw))
    sources = tables.read("label_sources", raw["root"] / "results" / "given_label_sources.parquet")
    assert ("small", "mine") in set(zip(sources["dataset"], sources["source"], strict=True))


IMPORT_FAULTS: dict[str, tuple[dict, str]] = {
    "unknown sample": ({"rows": [("other/2", 0)]}, "1 rows label samples that are not in samples.parquet"),
    "class above": ({"rows": [("small/2", 3)]}, "1 rows are outside the 3 classes"),
    "another name inside": ({"rows": [("small/2", 0)], "inside": "yours"}, "labels from other sources than 'mine'"),
    "a source that is there": (
        {"rows": [("small/2", 0)], "source": "original"},
        "has labels from 'original' of its own",
    ),
}


@pytest.mark.parametrize("fault", IMPORT_FAULTS)
def test_a_fault_of_imported_labels_is_named(raw: dict, fault: str) -> None:
    given, message = IMPORT_FAULTS[fault]
    path = imported(raw, **given)
    with pytest.raises(BenchError, match=message) as caught:
        index.run(config(raw))
    assert caught.value.where == str(path)
    assert "bench import labels" in caught.value.remedy


def test_imported_labels_are_those_that_are_pinned(raw: dict) -> None:
    path = imported(raw, [("small/2", 0)])
    raw["datasets"]["small"]["labels"]["mine"] = {"sha256": "0" * 64}
    with pytest.raises(BenchError, match=r"not the file that params\.yaml pins"):
        index.run(config(raw))
    path.unlink()
    with pytest.raises(BenchError, match=r"mine\.parquet: is missing.*dvc pull data\.dvc"):
        index.run(config(raw))
