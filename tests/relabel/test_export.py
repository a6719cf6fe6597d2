"""Labels go out in every format and come back the same; the published refined labels are one such file."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import cleanlab
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from cleanlab import multilabel_classification
from typer.testing import CliRunner

from bench import cli
from bench import config as configuration
from bench.config import Config
from bench.data import fetch, imagenet, samples
from bench.errors import BenchError
from bench.imports import labels as imports
from bench.relabel import export
from bench.relabel.export import Labelled
from bench.store import tables
from tests.data import test_imagenet as published
from tests.imports import conftest as project_of_imports

SHARED = published.SHARED
real = published.real
pristine, project, config = (getattr(project_of_imports, name) for name in ("pristine", "project", "config"))

NAMES = ["hen", "=2+2", 'a "quoted", one', "-é"]
IDS = [f"d/{name}" for name in ("c", "a", "b", "e", "f")]
SAMPLES = pd.DataFrame({"sample_id": IDS, "label": [0, 1, 2, 3, 0]})
CLASSES = pd.DataFrame({"class_id": range(4), "name": NAMES})
DECIDED = pd.DataFrame(
    [
        ("d/a", 1, 0.6, 3, 2, 0, "yes", "human"),
        ("d/a", 3, 0.8, 4, 1, 1, "yes", "human"),
        ("d/a", 0, 0.0, 0, 5, 0, "no", "human"),
        ("d/b", 2, 0.0, 0, 2, 0, "no", "simulated"),
        ("d/c", 0, 0.5, 1, 1, 0, "disputed", "human + machine"),
        ("d/c", 2, 1.0, 2, 0, 0, "yes", "human + machine"),
    ],
    columns=["sample_id", "class_id", "score", "n_yes", "n_no", "n_unsure", "state", "basis"],
).assign(method="majority")
CONSENSUS = pd.DataFrame(
    [("d/a", 1, 0.6), ("d/a", 3, 0.8), ("d/c", 0, 1.0), ("d/e", 3, 1.0), ("d/f", 0, 1.0)],
    columns=["sample_id", "class_id", "weight"],
)
"""Annotators decided a (two labels) and b (none), and left c disputed; nobody saw e and f."""


def given(**changes: Any) -> Labelled:
    base = {"dataset": "d", "source": "consensus", "samples": SAMPLES, "classes": CLASSES}
    return Labelled(**{**base, "labels": CONSENSUS, "decided": DECIDED, **changes})


def test_refined_has_every_image_and_the_best_label_first() -> None:
    assert json.loads(export.refined(given())) == {
        "a.jpeg": ["3", "1"],
        "b.jpeg": [],
        "c.jpeg": ["0"],
        "e.jpeg": ["3"],
        "f.jpeg": ["0"],
    }
    even = CONSENSUS.assign(weight=1.0)
    other = given(source="mine", labels=even, decided=DECIDED.iloc[:0], extension=".png")
    assert json.loads(export.refined(other))["a.png"] == ["1", "3"], "without scores: by class"


def test_the_formats_do_not_depend_on_the_order_of_rows() -> None:
    mixed = given(samples=SAMPLES[::-1], labels=CONSENSUS[::-1], decided=DECIDED[::-1])
    for make, _, _ in export.FORMATS.values():
        assert make(given()) == make(mixed)


def test_parquet_tells_of_every_label_whose_it_is() -> None:
    table = pq.read_table(io.BytesIO(export.parquet(given())))
    assert table.column_names == list(export._COLUMNS)
    found = table.to_pandas()
    assert found["dataset"].unique().tolist() == ["d"]
    rows = found.drop(columns=["dataset", "source", "n_unsure"]).astype(object).where(found.notna(), None)
    assert [tuple(row) for row in rows.round(4).itertuples(index=False)] == [
        ("d/a", 1, "=2+2", 3, "-é", pytest.approx(0.8), 4, 1, "yes", "human"),
        ("d/a", 1, "=2+2", 1, "=2+2", pytest.approx(0.6), 3, 2, "yes", "human"),
        ("d/c", 0, "hen", 0, "hen", 0.5, 1, 1, "disputed", "original"),
        ("d/e", 3, "-é", 3, "-é", 1.0, None, None, None, "original"),
        ("d/f", 0, "hen", 0, "hen", 1.0, None, None, None, "original"),
    ]


def test_parquet_of_another_source_has_weights_and_no_votes() -> None:
    other = given(source="mine", labels=CONSENSUS.assign(weight=0.25), decided=DECIDED.iloc[:0])
    found = pq.read_table(io.BytesIO(export.parquet(other))).to_pandas()
    assert set(found["score"]) == {0.25}
    assert found[["n_yes", "n_no", "n_unsure", "state", "basis"]].isna().all(axis=None)


def read(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_csv_is_read_by_cleanlab() -> None:
    """By the two lines that the module shows, with cleanlab's own function; an image is better labelled where the
    probabilities agree."""
    file = io.BytesIO(export.csv(given()))
    labels = [json.loads(text) for text in pd.read_csv(file)["labels"]]
    assert labels == [[3, 1], [], [0], [3], [0]]
    agree = np.full((5, 4), 0.1)
    for row, mine in enumerate(labels):
        agree[row, mine] = 0.9
    quality = multilabel_classification.get_label_quality_scores(labels, agree)
    assert (quality > 0.85).all(), cleanlab.__version__
    agree[2, 0] = 0.05
    worse = multilabel_classification.get_label_quality_scores(labels, agree)
    assert worse.argmin() == 2


def test_csv_has_a_column_a_class_where_asked() -> None:
    rows = read(export.csv(given(), one_hot=True))
    flags = [[int(row[f"class_{c}"]) for c in range(4)] for row in rows]
    assert flags == [[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]]
    assert [row["basis"] for row in rows] == ["human", "simulated", "original", "original", "original"]
    assert [row["given_label"] for row in rows] == ["1", "2", "0", "3", "0"]


def test_csv_for_fiftyone_is_read_by_functions_of_columns() -> None:
    """As FiftyOne's importer does: a row is a dict of texts, each parsed where it is not empty."""
    rows = read(export.fiftyone(given()))
    assert [row["filepath"] for row in rows] == ["a.jpeg", "b.jpeg", "c.jpeg", "e.jpeg", "f.jpeg"]
    assert [json.loads(row["labels"]) for row in rows] == [["-é", "=2+2"], [], ["hen"], ["-é"], ["hen"]]
    assert [json.loads(row["given"]) for row in rows] == ["=2+2", NAMES[2], "hen", "-é", "hen"]
    assert all(row["labels"] for row in rows), "an empty list is parsed too"


@pytest.mark.parametrize("form", ["csv", "fiftyone"])
def test_no_name_of_a_class_begins_a_cell_like_a_formula(form: export.Format) -> None:
    rows = read(export.FORMATS[form][0](given()))
    assert not [cell for row in rows for cell in row.values() if cell.startswith(export.FORMULA)]
    assert export.formulas(given()) == 0
    odd = given(samples=SAMPLES.assign(sample_id=["d/-a", "d/=b", "d/c", "d/+", "d/f"]), labels=CONSENSUS.iloc[:0])
    assert export.formulas(odd) == 3


def test_a_file_that_has_a_suffix_keeps_it_and_two_of_one_name_are_refused() -> None:
    named = SAMPLES.assign(sample_id=["d/a.JPG", "d/b", "d/c.d", "d/e", "d/f"])
    found = json.loads(export.refined(given(samples=named, labels=CONSENSUS.iloc[:0])))
    assert list(found) == ["a.JPG", "b.jpeg", "c.d.jpeg", "e.jpeg", "f.jpeg"]
    with pytest.raises(BenchError, match="would have one file name"):
        export.refined(given(samples=named.assign(sample_id=["d/e.jpeg", *IDS[1:]])))


def test_the_summary_says_whose_labels_they_are() -> None:
    said = export.summary(given())
    assert said == (
        "5 images of d, labels consensus: 1 (20.00%) have two or more, 1 have none; votes decide 2 images, the others "
        "keep their original label; of those, 1 are decided by simulated annotators."
    )
    assert "votes" not in export.summary(given(source="mine"))


def results(config: Config, dataset: str, labels: pd.DataFrame, decided: pd.DataFrame) -> Config:
    """The results that an export reads, of one dataset of the project."""
    meta = samples.meta(config, dataset)
    frame = samples.read_table(config.folder(dataset), len(meta.classes))
    rows = frame[["sample_id", "split", "label", "source_id"]].assign(
        dataset=dataset, width=pd.array([None] * len(frame), "Int32"), height=pd.array([None] * len(frame), "Int32")
    )
    described = {
        "dataset": dataset,
        "label_space": meta.label_space,
        "role": "original",
        "replicates": None,
        "modality": "image",
        "n_samples": len(frame),
        "n_test": int((frame["split"] == "test").sum()),
        "n_classes": len(meta.classes),
        "title": meta.title,
        "about": meta.about,
        "synthetic": "",
        "source": meta.source,
        "license": meta.license,
    }
    classes = pd.DataFrame(
        {"class_id": range(len(meta.classes)), "name": meta.classes, "wnid": meta.wnids, "definition": None}
    ).assign(label_space=meta.label_space)
    for name, content in {
        "samples": rows,
        "datasets": pd.DataFrame([described]),
        "classes": classes,
        "labels": labels,
        "consensus": decided,
    }.items():
        tables.write(name, content, config.results / f"{name}.parquet")
    return config


NONE_DECIDED = tables.stacked("consensus", [])


@pytest.fixture
def refined_sets() -> dict[str, list[int]]:
    """Labels of the project's 24 test images: none, one, two or three, best first."""
    rng = np.random.default_rng(0)
    return {
        sample_id: rng.permutation(project_of_imports.K)[: row % 4].tolist()
        for row, sample_id in enumerate(project_of_imports.IDS)
    }


@pytest.mark.parametrize("form", ["refined", "csv", "parquet"])
@pytest.mark.parametrize("one_hot", [False, True])
def test_what_goes_out_comes_back_the_same(
    config: Config, tmp_path: Path, refined_sets: dict[str, list[int]], form: export.Format, one_hot: bool
) -> None:
    if one_hot and form != "csv":
        with pytest.raises(BenchError, match="is for the format csv"):
            export.run(config, "small", "mine", form, tmp_path / "a", one_hot=True)
        return
    path = tmp_path / "in.json"
    path.write_text(json.dumps({sample_id.split("/")[1]: mine for sample_id, mine in refined_sets.items()}))
    imports.run(config, path, "mine", "small")
    first = tables.read("labels", config.imported_labels("small", "mine"))
    results(config, "small", first, NONE_DECIDED)
    out = tmp_path / f"out{export.FORMATS[form][1]}"
    said = export.run(config, "small", "mine", form, out, one_hot=one_hot)
    assert f"{out}: 24 images of small, labels mine: 12 (50.00%) have two or more, 6 have none." in said
    again = configuration.load(config.root / "params.yaml")
    options = imports.Options(partial=form == "parquet")  # a row a label: none for images without
    imports.run(again, out, "again", "small", options=options)
    second = tables.read("labels", config.imported_labels("small", "again"))
    pd.testing.assert_frame_equal(first.drop(columns="source"), second.drop(columns="source"))


def test_the_command_writes_the_file_or_says_why_not(
    project: Path, config: Config, refined_sets: dict[str, list[int]], tmp_path: Path
) -> None:
    rows = [(sample_id, c, 1.0) for sample_id, mine in refined_sets.items() for c in mine]
    labels = pd.DataFrame(rows, columns=["sample_id", "class_id", "weight"])
    results(config, "small", labels.assign(source="consensus"), NONE_DECIDED)
    out = tmp_path / "a.json"
    words = ["annotate", "export", "--dataset", "small", "--format", "refined", "--out", str(out)]
    done = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert "votes decide 0 images" in done.output
    stem = project_of_imports.STEMS[1]
    assert json.loads(out.read_text())[f"{stem}.jpeg"] == [str(refined_sets[f"small/{stem}"][0])]
    CliRunner().invoke(cli.app, [*words, "--extension", ".JPEG"], catch_exceptions=False)
    assert f"{stem}.JPEG" in json.loads(out.read_text())
    for more, message in {
        ("--source", "mine"): "no labels 'mine' of 'small'.*`consensus`",
        ("--dataset", "smal"): "did you mean 'small'",
        ("--dataset", "other"): "holds no 'other'",
        ("--out", str(project)): "could not be written",
    }.items():
        with pytest.raises(BenchError, match=message):
            CliRunner().invoke(cli.app, [*words, *more], catch_exceptions=False)
    (project / "results" / "labels.parquet").unlink()
    with pytest.raises(BenchError, match="is missing"):
        CliRunner().invoke(cli.app, words, catch_exceptions=False)


def test_a_set_with_pictures_has_their_suffix(config: Config, refined_sets: dict[str, list[int]]) -> None:
    rows = [(sample_id, 0, 1.0, "mine") for sample_id in refined_sets]
    labels = pd.DataFrame(rows, columns=["sample_id", "class_id", "weight", "source"])
    results(config, "small", labels, NONE_DECIDED)
    pictures = pd.DataFrame({"sample_id": ["small/a", "other/b"], "thumbnail": b"x", "media_type": "image/jpeg"})
    pictures["media_type"] = ["image/png", "image/jpeg"]
    assert export.load(config, "small", "mine").extension == ".jpeg"
    tables.write("images", pictures, config.results / "images.parquet")
    assert export.load(config, "small", "mine").extension == ".png"
    tables.write("images", pictures.iloc[:1].assign(media_type="image/webp"), config.folder("small") / fetch.THUMBNAILS)
    assert export.load(config, "small", "mine").extension == ".webp"


@real
def test_the_refined_labels_of_imagenetv2_go_out_as_they_were_published(tmp_path: Path) -> None:
    """10,000 images, 47.88 % with two or more labels, the same file names, and image by image the same labels."""
    source = json.loads((SHARED / imagenet.REFINED).read_text())
    content = imagenet.read(SHARED)
    stems, order = content.sets["imagenetv2"].stems, np.argsort(content.sets["imagenetv2"].stems)
    folder = tmp_path / "fetched" / "imagenet"
    imagenet._write_dataset(
        folder / "imagenetv2",
        pd.Series([f"imagenetv2/{stem}" for stem in stems[order]]),
        content.sets["imagenetv2"].labels[order],
        {"refined_v2": content.refined},
    )
    pin = samples.digest(folder / "imagenetv2")
    (tmp_path / "params.yaml").write_text(
        "seed: 0\nsuites: {imagenet: {}}\nmodels: {}\ndatasets:\n  imagenetv2: {role: original, suite: imagenet, "
        f"fetched: imagenet, sha256: {pin}}}\n"
    )
    config = configuration.load(tmp_path / "params.yaml")
    labels = tables.read("labels", folder / "imagenetv2" / "labels.parquet")
    results(config, "imagenetv2", labels, NONE_DECIDED)
    said = export.run(config, "imagenetv2", "refined_v2", "refined", tmp_path / "out.json")
    assert "10,000 images of imagenetv2, labels refined_v2: 4,788 (47.88%) have two or more, 129 have none" in said
    found = json.loads((tmp_path / "out.json").read_text())
    assert found.keys() == source.keys()
    assert len(found) == 10_000
    assert {file: sorted(mine) for file, mine in found.items()} == {f: sorted(mine) for f, mine in source.items()}
    imports.run(config, tmp_path / "out.json", "again", "imagenetv2")
    again = tables.read("labels", config.imported_labels("imagenetv2", "again"))
    kept = labels.loc[labels["source"] == "refined_v2"]
    pairs = ["sample_id", "class_id"]
    pd.testing.assert_frame_equal(again[pairs], kept[pairs].reset_index(drop=True))
