"""The check of a preset prints every figure beside what is expected, and counts those that differ."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from bench.errors import BenchError
from bench.presets import check
from bench.presets import preset as presets

METRICS = {
    ("imagenet", "original", "top1"): 0.76128,
    ("imagenet", "real", "any_of"): 0.829629,
    ("imagenetv2", "original", "top1"): 0.6333,
    ("imagenetv2", "refined_v2", "any_of"): 0.753723,
    ("imagenetv2", "refined_v2", "any_of_empty_wrong"): 0.744,
}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The three tables that the figures are asked of, with values that round to what is expected, by hand."""
    path = tmp_path / "bench.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE metrics (model VARCHAR, dataset VARCHAR, condition VARCHAR, subset VARCHAR, "
            "label_source VARCHAR, metric VARCHAR, value DOUBLE, ci_low DOUBLE, ci_high DOUBLE)"
        )
        models = sorted(presets.load("imagenet").imported)
        rows = [
            (model, dataset, "clean", "all", source, metric, value, value - 0.01, value + 0.01)
            for model in models
            for (dataset, source, metric), value in METRICS.items()
        ]
        connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute(
            "CREATE TABLE label_sets AS FROM (VALUES ('imagenetv2', 'refined_v2', 0, 129), "
            "('imagenetv2', 'refined_v2', 1, 5083), ('imagenetv2', 'refined_v2', 2, 4000), "
            "('imagenetv2', 'refined_v2', 3, 788), ('imagenet', 'real', 2, 7443)) "
            "t(dataset, label_source, n_labels, n_images)"
        )
        connection.execute(
            "CREATE TABLE label_accuracy AS FROM (VALUES "
            "('resnet50', 'imagenetv2', 'refined_v2', 'top1', 1, 0.75, 5083), "
            "('resnet50', 'imagenetv2', 'refined_v2', 'top1', 2, 2300 / 4000, 4000), "
            "('resnet50', 'imagenetv2', 'refined_v2', 'top1', 3, 245 / 788, 788), "
            "('resnet50', 'imagenetv2', 'refined_v2', 'any_of', 2, 3000 / 4000, 4000), "
            "('resnet50', 'imagenetv2', 'refined_v2', 'any_of', 3, 522 / 788, 788)) "
            "t(model, dataset, label_source, scoring, n_labels, value, n)"
        )
    return path


def test_every_figure_is_asked_by_sql(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run("imagenet", database) == 0
    said = capsys.readouterr().out
    assert "11 of 11 figures are as expected." in said
    for figure in ("4788", "47.88", "129", "76.13", "82.96", "63.33", "75.37", "74.4", "53.15", "73.56", "67"):
        assert f" {figure}" in said


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("UPDATE metrics SET value = 0.7614 WHERE dataset = 'imagenet' AND metric = 'top1'", "validation, top-1"),
        ("UPDATE metrics SET ci_low = NULL WHERE model = 'xception'", "models with an interval"),
        ("DELETE FROM label_sets WHERE n_labels = 0", "without a refined label"),
    ],
)
def test_a_figure_that_differs_is_said_and_counted(
    database: Path, capsys: pytest.CaptureFixture[str], sql: str, name: str
) -> None:
    with duckdb.connect(str(database)) as connection:
        connection.execute(sql)
    assert check.run("imagenet", database) >= 1
    differing = [line for line in capsys.readouterr().out.splitlines() if line.endswith("differs")]
    assert any(name in line for line in differing)


def test_figures_of_votes_are_asked_by_sql(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of three images with five votes each: two have the label, one of them by a tie, one another class."""
    path = tmp_path / "bench.duckdb"
    rows = [("a", 0, 5, 0), ("b", 1, 2, 3), ("b", 2, 2, 3), ("b", 3, 1, 4), ("c", 0, 0, 5), ("c", 4, 5, 0)]
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE samples AS FROM (VALUES ('cifar10/a', 'cifar10', 0, 'test'), "
            "('cifar10/b', 'cifar10', 1, 'test'), ('cifar10/c', 'cifar10', 0, 'test'), "
            "('cifar10/train-d', 'cifar10', 2, 'train'), ('digits/a', 'digits', 0, 'test')) "
            "t(sample_id, dataset, label, split)"
        )
        connection.execute("CREATE TABLE images AS SELECT sample_id FROM samples WHERE label = 0")
        connection.execute(
            "CREATE TABLE ballots (sample_id VARCHAR, annotator VARCHAR, class_id INT, n_yes INT, n_no INT)"
        )
        connection.executemany("INSERT INTO ballots VALUES ('cifar10/' || ?, 'cifar10h', ?, ?, ?)", rows)
        connection.execute(
            "INSERT INTO ballots VALUES ('cifar10/a', 'somebody', 3, 9, 0), ('digits/a', 'cifar10h', 1, 9, 0)"
        )
    assert check.run("cifar10", path) == 7
    found = [line.split()[-2] for line in capsys.readouterr().out.splitlines() if line.endswith("differs")]
    assert found == ["3", "1", "2", "15", "66.67", "2", "2"]


def test_a_database_that_is_missing_or_another_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bench.duckdb"
    with pytest.raises(BenchError, match="is missing"):
        check.run("imagenet", path)
    duckdb.connect(str(path)).close()
    with pytest.raises(BenchError, match="label_sets does not exist"):
        check.run("imagenet", path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["check", "imagenet"])
    with pytest.raises(SystemExit, match=r"bench: .*is missing"):
        check.main()
