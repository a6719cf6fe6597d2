"""Two readers, one writer: what the published files say is what the written ones say; the official layout is generated
small, the real tables are read where they are at hand."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from bench.data import imagenet, samples
from bench.errors import BenchError
from bench.presets import preset as presets
from bench.store import tables

SHARED = Path(__file__).parents[3] / "shared" / "data" / "imagenet_published"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the published ImageNet tables (shared/data) are not here")

STEMS = {"imagenet": [f"ILSVRC2012_val_{n:08d}" for n in (3, 1, 2)], "imagenetv2": ["b" * 40, "a" * 40]}
LABELS = {"imagenet": [10, 9, 1], "imagenetv2": [999, 0]}
TOP5 = {
    "imagenet": np.array([[10, 1, 2, 3, 4], [8, 9, 2, 3, 4], [1, 0, 2, 3, 4]]),
    "imagenetv2": np.array([[999, 1, 2, 3, 4], [5, 0, 2, 3, 4]]),
}
REFINED = {"a" * 40: [], "b" * 40: [7, 999]}


@pytest.fixture
def real_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """ReaL's labels of the three images: two, none, one."""
    monkeypatch.setattr(
        imagenet, "real_labels", lambda: dict(zip(STEMS["imagenet"], ([795, 10], [], [1]), strict=True))
    )


def official(folder: Path, models: tuple[str, ...] = ("alexnet", "fv_64k")) -> Path:
    """A copy of the official layout, cut down to five images and two models; one is called otherwise in one set."""
    wnids = imagenet.classes().wnids
    for dataset, name in imagenet.OFFICIAL_SETS.items():
        pairs = [
            [f"{stem}.JPEG" if dataset == "imagenet" else stem, wnids[label]]
            for stem, label in zip(STEMS[dataset], LABELS[dataset], strict=True)
        ]
        _put(folder / f"data/datasets/{name}.json", {"seed": 1, "image_filenames": pairs})
        (folder / f"data/predictions/{name}").mkdir(parents=True)
        for model in models:
            stored = f"{model}_model" if (model, dataset) == ("fv_64k", "imagenetv2") else model
            np.save(folder / f"data/predictions/{name}/{stored}.npy", TOP5[dataset])
    _put(folder / "data/metadata/class_info.json", [{"cid": i, "wnid": wnid} for i, wnid in enumerate(wnids)])
    _put(folder / imagenet.REFINED, {f"{stem}.jpeg": [str(i) for i in labels] for stem, labels in REFINED.items()})
    return folder


def as_tables(folder: Path) -> Path:
    """The same content as the tables of the other reader."""
    folder.mkdir()
    for dataset, name in imagenet.TABLE_SETS.items():
        suffix = ".JPEG" if dataset == "imagenet" else ""
        files = [stem + suffix for stem in STEMS[dataset]]
        pd.DataFrame({"file": files, "label": np.array(LABELS[dataset], np.int16)}).to_parquet(
            folder / f"{name}_samples.parquet"
        )
        rows = [
            {"model": model, "row": row} | {f"top{rank + 1}": index for rank, index in enumerate(answer)}
            for model in ("fv_64k", "alexnet")
            for row, answer in reversed(list(enumerate(TOP5[dataset])))
        ]
        pd.DataFrame(rows).to_parquet(folder / f"{name}_top5.parquet")
    _put(folder / imagenet.REFINED, {f"{stem}.jpeg": [str(i) for i in labels] for stem, labels in REFINED.items()})
    return folder


def _put(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("real_labels")
def test_both_readers_end_in_the_same_bytes(tmp_path: Path) -> None:
    for name, source in (("one", official(tmp_path / "official")), ("two", as_tables(tmp_path / "tables"))):
        counts = imagenet.write(imagenet.read(source), tmp_path / name)
        assert counts == {"datasets": 2, "models": 2, "images": 5}
    one = files(tmp_path / "one")
    assert one == files(tmp_path / "two")
    assert sorted(one) == sorted(
        [f"{d}/{f}" for d in STEMS for f in ("dataset.json", "samples.parquet", "labels.parquet")]
        + [f"predictions/{d}/{m}.parquet" for d in STEMS for m in ("alexnet", "fv_64k")]
    )


@pytest.mark.usefixtures("real_labels")
def test_what_is_written_is_what_was_published(tmp_path: Path) -> None:
    imagenet.write(imagenet.read(official(tmp_path / "official")), tmp_path / "out")
    meta = samples.load_meta(tmp_path / "out" / "imagenet")
    frame = samples.read_table(tmp_path / "out" / "imagenet", len(meta.classes))
    assert frame["sample_id"].tolist() == [f"imagenet/ILSVRC2012_val_{n:08d}" for n in (1, 2, 3)]
    assert frame["label"].tolist() == [9, 1, 10]
    assert not samples.has_images(frame)
    assert meta.wnids is not None
    assert meta.wnids[10] == "n01530575"
    labels = tables.read("labels", tmp_path / "out" / "imagenetv2" / "labels.parquet")
    assert list(zip(labels["sample_id"].str[-1], labels["source"], labels["class_id"], strict=True)) == [
        ("a", "original", 0),
        ("b", "original", 999),
        ("b", "refined_v2", 7),
        ("b", "refined_v2", 999),
    ]
    answers = tables.read("imported", tmp_path / "out" / "predictions" / "imagenet" / "alexnet.parquet")
    assert answers["pred"].tolist() == [8, 1, 10]
    assert [list(top5) for top5 in answers["top5"]] == [[8, 9, 2, 3, 4], [1, 0, 2, 3, 4], [10, 1, 2, 3, 4]]
    assert answers[["p_top1", "p_true", "msp", "entropy_nats", "margin", "energy"]].isna().all(axis=None)


def test_an_index_is_the_place_of_the_wnid(tmp_path: Path) -> None:
    classes = imagenet.classes()
    assert classes.wnids == sorted(classes.wnids)
    assert (classes.wnids[0], classes.names[0]) == ("n01440764", "tench")
    assert (classes.wnids[999], classes.names[999]) == ("n15075141", "toilet tissue")
    assert len(set(classes.names)) == len(classes.definitions) == 1000
    assert {"crane (bird)", "crane (machine)", "maillot (tights)", "maillot (tank suit)"} <= set(classes.names)
    content = imagenet.read(official(tmp_path / "official"))
    assert content.sets["imagenet"].labels.tolist() == LABELS["imagenet"]


def test_entry_i_of_real_is_image_i_plus_one() -> None:
    labels = imagenet.real_labels()
    assert labels["ILSVRC2012_val_00000001"] == []
    assert sorted(labels["ILSVRC2012_val_00000002"]) == [795, 970]
    counts = np.bincount([min(len(given), 2) for given in labels.values()])
    assert counts.tolist() == [3163, 39394, 7443]


def _save(path: str, array: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / path, array)


def _json(path: str, content: Any) -> Callable[[Path], None]:
    return lambda folder: _put(folder / path, content)


ALEXNET = "data/predictions/imagenetv2-b-33/alexnet.npy"
FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pickled array": (_save(ALEXNET, np.array([None, {}], dtype=object)), "alexnet.npy: cannot be read as an array"),
    "no array": (lambda folder: (folder / ALEXNET).write_bytes(b"\x80\x04K\x01."), "cannot be read as an array"),
    "cut off": (lambda folder: (folder / ALEXNET).write_bytes((folder / ALEXNET).read_bytes()[:150]), "cannot be read"),
    "too few rows": (_save(ALEXNET, np.zeros((1, 5), int)), r"int64 \(1, 5\), not \(2, 5\) whole numbers"),
    "fractions": (_save(ALEXNET, np.zeros((2, 5))), r"float64 \(2, 5\), not"),
    "1-based": (_save(ALEXNET, TOP5["imagenetv2"] + 1), "alexnet on imagenetv2: a class index is outside 0 to 999"),
    "a model of one set": (_save(ALEXNET.replace("alexnet", "vgg"), TOP5["imagenetv2"]), "not the same models.*: vgg"),
    "one model twice": (_save(ALEXNET.replace("alexnet", "fv_64k"), TOP5["imagenetv2"]), "one is there twice"),
    "another numbering": (_json("data/metadata/class_info.json", [{"cid": 0, "wnid": "n02"}]), "numbers the classes"),
    "an unknown class": (
        _json("data/datasets/imagenetv2-b-33.json", {"image_filenames": [["a", "n00000000"]]}),
        "unknown class 'n00000000'",
    ),
    "a file twice": (
        _json("data/datasets/imagenetv2-b-33.json", {"image_filenames": [["a.x", "n01440764"], ["a.y", "n01440764"]]}),
        "lists a file twice",
    ),
    "labels of other images": (_json(imagenet.REFINED, {"c": ["1"]}), "'refined_v2': its images are not those"),
    "labels that are names": (_json(imagenet.REFINED, {"a" * 40: ["tench"]}), "not a map of file to class indices"),
    "a label above": (_json(imagenet.REFINED, {"a" * 40: ["1000"], "b" * 40: []}), "outside 0 to 999"),
    "no JSON": (lambda folder: (folder / imagenet.REFINED).write_text("{"), "is not JSON"),
    "no labels": (lambda folder: (folder / imagenet.REFINED).unlink(), "labels.json: is missing"),
}


@pytest.mark.usefixtures("real_labels")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_source_is_named(tmp_path: Path, fault: str) -> None:
    source = official(tmp_path / "official")
    break_it, message = FAULTS[fault]
    break_it(source)
    with pytest.raises(BenchError, match=message) as caught:
        imagenet.write(imagenet.read(source), tmp_path / "out")
    assert caught.value.remedy


def test_rows_of_a_table_answer_every_sample_once(tmp_path: Path) -> None:
    source = as_tables(tmp_path / "tables")
    path = source / "imagenet_val_top5.parquet"
    frame = pd.read_parquet(path)
    frame.loc[0, "row"] = 1
    frame.to_parquet(path)
    with pytest.raises(BenchError, match="does not answer each of the 3 samples once for 'fv_64k'"):
        list(imagenet.read(source).sets["imagenet"].top5())


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"holds neither imagenet_val_samples\.parquet nor data/datasets/"):
        imagenet.read(tmp_path)


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("Multilabelfy-main/link.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    return path


PIN = imagenet.content_hash(REFINED)
WANTED = json.dumps({f"{stem}.jpeg": [str(i) for i in reversed(labels)] for stem, labels in REFINED.items()}).encode()


def test_the_labels_are_found_in_an_archive_by_their_content(tmp_path: Path) -> None:
    before = json.dumps({f"{stem}.jpeg": ["1"] for stem in REFINED}).encode()
    members = {"../../escaped.json": b"{}", "m/a.json": b"[" * 9999, "m/before.json": before, "m/after.json": WANTED}
    (tmp_path / "inner").mkdir()
    path = archive(tmp_path / "inner" / "m.tar.gz", members)
    assert imagenet.find_refined(path, PIN) == WANTED
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["inner", "m.tar.gz"]


def test_an_archive_without_the_labels_or_cut_off_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.tar.gz", {"m/a.json": b"{}"})
    with pytest.raises(BenchError, match="holds no file with the refined labels"):
        imagenet.find_refined(path, PIN)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(BenchError, match=r"is damaged.*and was removed"):
        imagenet.find_refined(path, PIN)
    assert not path.exists()


NAMES: dict[str, list[str]] = {}
"""The models of the real data on each dataset, noted while it is written."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real data, written; two models of the 67, to be quick."""
    content = imagenet.read(SHARED)

    def few(dataset: str, each: Callable[[], Any]) -> Callable[[], Any]:
        def chosen() -> Any:
            NAMES[dataset] = []
            for model, top5 in each():
                NAMES[dataset].append(model)
                if model in ("resnet50", "fv_16k"):
                    yield model, top5

        return chosen

    sets = {name: imagenet.Published(s.stems, s.labels, few(name, s.top5)) for name, s in content.sets.items()}
    out = tmp_path_factory.mktemp("published")
    imagenet.write(imagenet.Content(sets, content.refined), out)
    return out


@real
def test_the_real_files_are_those_of_the_manifest(published: Path) -> None:
    pinned = presets.load("imagenet").files
    found = {file: tables.sha256(published / file) for file in files(published)}
    assert len(found) == 10
    assert found == {file: pinned[file] for file in found}
    assert samples.digest(published / "imagenet") == presets.load("imagenet").params()["datasets"]["imagenet"]["sha256"]


@real
def test_the_real_files_give_the_known_figures(published: Path) -> None:
    """By plain pandas on the written files, without any code of the stages."""
    answers = {d: pq.read_table(published / "predictions" / d / "resnet50.parquet").to_pandas() for d in STEMS}
    labels = {d: pq.read_table(published / d / "labels.parquet").to_pandas() for d in STEMS}
    truth = {
        d: pq.read_table(published / d / "samples.parquet").to_pandas().set_index("sample_id")["label"] for d in STEMS
    }
    assert {d: len(t) for d, t in truth.items()} == {"imagenet": 50_000, "imagenetv2": 10_000}

    def any_of(dataset: str, source: str) -> tuple[pd.Series, pd.Series]:
        mine = labels[dataset][labels[dataset]["source"] == source]
        count = mine.groupby("sample_id").size().reindex(truth[dataset].index, fill_value=0)
        hit = mine.merge(answers[dataset], on="sample_id").query("class_id == pred")["sample_id"]
        return count, pd.Series(truth[dataset].index.isin(hit), truth[dataset].index)

    def top1(dataset: str) -> pd.Series:
        return answers[dataset].set_index("sample_id")["pred"] == truth[dataset]

    def percent(right: pd.Series) -> float:
        return round(100 * float(right.mean()), 2)

    assert [percent(top1(d)) for d in STEMS] == [76.13, 63.33]
    count, hit = any_of("imagenet", "real")
    assert percent(hit[count > 0]) == 82.96
    count, hit = any_of("imagenetv2", "refined_v2")
    assert [int((count >= 2).sum()), percent(count >= 2), int((count == 0).sum())] == [4788, 47.88, 129]
    assert [percent(hit[count > 0]), percent(hit)] == [75.37, 74.40]
    assert [percent(top1("imagenetv2")[count >= 2]), percent(hit[count >= 2])] == [53.15, 73.56]


@real
@pytest.mark.usefixtures("published")
def test_all_the_real_models_answer_both_sets() -> None:
    assert sorted(NAMES["imagenet"]) == sorted(NAMES["imagenetv2"]) == sorted(presets.load("imagenet").imported)
    assert len(NAMES["imagenet"]) == 67


@real
def test_one_model_is_kept_as_found_though_its_answers_look_reversed(published: Path) -> None:
    """The share of images for which each of the five answers is right, first to last (see imagenet.yaml)."""
    shares = {}
    for dataset in STEMS:
        truth = samples.read_table(published / dataset, 1000)["label"].to_numpy()
        answers = tables.read("imported", published / "predictions" / dataset / "fv_16k.parquet")
        shares[dataset] = (np.stack(answers["top5"].to_list()) == truth[:, None]).mean(axis=0).round(4).tolist()
    assert shares["imagenet"] == [0.2833, 0.0922, 0.0554, 0.0391, 0.0293]
    assert shares["imagenetv2"] == [0.0247, 0.0338, 0.0439, 0.0804, 0.1924]
    assert "reverse order" in presets.load("imagenet").imported["fv_16k"]["origin"]
