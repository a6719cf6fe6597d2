"""Every form of labels gives the same table; every fault is named with its rows, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bench import cli
from bench import config as configuration
from bench.config import Config
from bench.errors import BenchError
from bench.imports import labels
from bench.imports.labels import Options
from bench.store import tables
from tests.imports.conftest import CLASSES, IDS, LABELS, STEMS, WNIDS, K, N
from tests.imports.test_predictions import FILES, changed, save

SETS = [
    [] if row == 3 else [int(label)] if row % 2 else [int(label), (int(label) + 1) % K]
    for row, label in enumerate(LABELS)
]
ONE_HOT = np.array([[int(c in some) for c in range(K)] for some in SETS])
LONG = [(row, c) for row, some in enumerate(SETS) for c in some]
ROWS = [row for row, _ in LONG]
WIDE = dict(zip(CLASSES, ONE_HOT.T, strict=True))


def written(config: Config, source: str = "refined") -> pd.DataFrame:
    return tables.read("labels", config.imported_labels("small", source))


def long(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({name: list(values) for name, values in columns.items()}).iloc[::-1]


FORMS: dict[str, tuple[str, Any, Options]] = {
    "map to lists": ("a.json", dict(zip(FILES, SETS, strict=True)), Options()),
    "map to lists of texts": ("a.json", {f: [str(c) for c in s] for f, s in zip(FILES, SETS, strict=True)}, Options()),
    "map to wnids": ("a.json", {f: [WNIDS[c] for c in s] for f, s in zip(STEMS, SETS, strict=True)}, Options()),
    "map to names, partial": (
        "a.json",
        {f: [CLASSES[c] for c in s] for f, s in zip(STEMS, SETS, strict=True) if s},
        Options(partial=True),
    ),
    "list of lists": ("a.json", SETS, Options(in_order=True)),
    "long": ("a.csv", long(file=[FILES[r] for r in ROWS], class_id=[c for _, c in LONG]), Options(partial=True)),
    "long, wnids": ("a.parquet", long(sample_id=IDS[ROWS], wnid=[WNIDS[c] for _, c in LONG]), Options(partial=True)),
    "long, from 1": (
        "a.csv",
        long(sample_id=IDS[ROWS], class_id=[c + 1 for _, c in LONG]),
        Options(one_based=True, partial=True),
    ),
    "list column": ("a.parquet", long(sample_id=IDS, labels=SETS), Options()),
    "multi-hot column": ("a.parquet", long(sample_id=IDS, counts=ONE_HOT.tolist()), Options()),
    "multi-hot columns": ("a.csv", long(file=FILES, **{f"c_{c}": ONE_HOT[:, c] for c in range(K)}), Options()),
    "columns by name": ("a.csv", long(file=FILES, **WIDE), Options()),
    "npy": ("a.npy", ONE_HOT, Options(in_order=True)),
    "npy of truth values": ("a.npy", ONE_HOT > 0, Options(in_order=True)),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_labels(config: Config, tmp_path: Path, name: str) -> None:
    file, content, options = FORMS[name]
    said = labels.run(config, save(content, tmp_path / "in" / file), "refined", "small", options=options)
    found = written(config)
    wanted = sorted((IDS[row], c) for row, c in LONG)
    assert list(zip(found["sample_id"], found["class_id"], strict=True)) == wanted
    assert set(found["weight"]) == {1.0}
    assert set(found["source"]) == {"refined"}
    assert "12 have several, 1 have none" in said


def test_single_labels(config: Config, tmp_path: Path) -> None:
    for source, (file, content, options) in {
        "a": ("a.npy", LABELS[::-1], Options(in_order=True)),
        "b": ("b.json", dict(zip(FILES, LABELS[::-1].tolist(), strict=True)), Options()),
        "c": ("c.csv", pd.DataFrame({"file": FILES, "label": [CLASSES[c] for c in LABELS[::-1]]}), Options()),
    }.items():
        current = configuration.load(config.root / "params.yaml")
        labels.run(current, save(content, tmp_path / file), source, "small", options=options)
        found = written(config, source).set_index("sample_id").loc[list(IDS), "class_id"]
        assert found.tolist() == LABELS[::-1].tolist()


def test_votes_become_shares(config: Config, tmp_path: Path) -> None:
    votes = np.zeros((N, K), int)
    votes[:, 0], votes[:, 2], votes[:, 5] = 6, 3, 1
    path = save(pd.DataFrame({"sample_id": IDS, "votes": votes.tolist()}), tmp_path / "a.parquet")
    labels.run(config, path, "all", "small")
    first = written(config, "all").iloc[:3]
    assert first["class_id"].tolist() == [0, 2, 5]
    np.testing.assert_allclose(first["weight"], [0.6, 0.3, 0.1], rtol=1e-6)
    current = configuration.load(config.root / "params.yaml")
    labels.run(current, path, "some", "small", options=Options(min_share=0.1))
    assert written(config, "some")["class_id"].unique().tolist() == [0, 2]


def test_shares_are_cut_where_it_is_said(config: Config, tmp_path: Path) -> None:
    path = save(np.tile([0.6, 0.3, 0.1, 0, 0, 0], (N, 1)), tmp_path / "a.npy")
    for share, kept in ((0.2, {0, 1}), (0.0, {0, 1, 2})):
        labels.run(config, path, f"m{share}", "small", options=Options(in_order=True, min_share=share))
        assert set(written(configuration.load(config.root / "params.yaml"), f"m{share}")["class_id"]) == kept


def test_weights_of_a_long_table(config: Config, tmp_path: Path) -> None:
    labels.run(
        config,
        save(pd.DataFrame({"sample_id": IDS, "class_id": LABELS, "weight": 0.25}), tmp_path / "a.csv"),
        "w",
        "small",
    )
    assert set(written(config, "w")["weight"]) == {0.25}


def single(**changes: Any) -> pd.DataFrame:
    return pd.DataFrame({"sample_id": IDS, "class_id": LABELS, **changes})


BAD: dict[str, tuple[str, Any, Options, str]] = {
    "another dataset": ("a.json", {f"{r:08x}.png": [0] for r in range(10)}, Options(), "seem to belong to 'other'"),
    "missing": (
        "a.json",
        dict(zip(FILES[2:], SETS[2:], strict=True)),
        Options(),
        "2 of the 24 test images of 'small' are missing",
    ),
    "missing in a long table": ("a.csv", single()[:-1], Options(), "say --partial"),
    "probabilities": ("a.npy", np.full((N, K), 1 / K), Options(in_order=True), "--min-share"),
    "truth values as classes": ("a.parquet", single(class_id=LABELS > 2), Options(), "true and false"),
    "no class": ("a.json", dict(zip(FILES, changed(SETS, 0, [6]), strict=True)), Options(), "row 1 (6)"),
    "from 1": ("a.csv", single(class_id=LABELS + 1), Options(), "--one-based"),
    "unknown name": (
        "a.csv",
        single(class_id=changed([CLASSES[c] for c in LABELS], 1, "crane")),
        Options(),
        "row 2 ('crane')",
    ),
    "twice": ("a.csv", pd.concat([single(), single()[:1]]), Options(), "1 labels are repeated: row 25"),
    "twice in a list": (
        "a.json",
        dict(zip(FILES, changed(SETS, 0, [1, 1]), strict=True)),
        Options(),
        "labels are repeated: row 1",
    ),
    "a list in a list": (
        "a.json",
        dict(zip(FILES, changed(SETS, 0, [[1]]), strict=True)),
        Options(),
        "in place of a class",
    ),
    "no weight": ("a.csv", single(weight=changed([1.0] * N, 5, 0.0)), Options(), "row 6 (0.0)"),
    "weights above 1": ("a.csv", single(weight=3), Options(), "`weight` is not above 0 and at most 1 in 24 rows"),
    "negative votes": ("a.npy", ONE_HOT - 1.0, Options(in_order=True), "negative in 24 rows"),
    "NaN votes": (
        "a.npy",
        np.where(np.eye(N, K) > 0, np.nan, 1.0),
        Options(in_order=True),
        "missing, infinite or negative in 6 rows",
    ),
    "other classes": (
        "a.parquet",
        pd.DataFrame({"sample_id": IDS, "votes": ONE_HOT[:, :3].tolist()}),
        Options(),
        "not 6 numbers a row",
    ),
    "too few columns": ("a.csv", pd.DataFrame({"sample_id": IDS, "c_0": 1, "c_1": 0}), Options(), "2 columns `c_...`"),
    "no order": ("a.npy", ONE_HOT, Options(), "--in-order"),
    "nothing": ("a.npy", ONE_HOT * 0, Options(in_order=True), "no label at all"),
    "no votes to cut": ("a.npy", ONE_HOT, Options(in_order=True, min_share=0.5), "Leave --min-share out"),
    "no column": ("a.csv", pd.DataFrame({"sample_id": IDS, "x": 1}), Options(), "no column with the classes"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_refused_by_name(
    config: Config, tmp_path: Path, name: str, state: Callable[[], dict[str, bytes]]
) -> None:
    file, content, options, said = BAD[name]
    before = state()
    with pytest.raises(BenchError) as error:
        labels.run(config, save(content, tmp_path / "in" / file), "refined", "small", options=options)
    assert said in str(error.value)
    assert state() == before


def test_sources_have_names_of_their_own(config: Config, tmp_path: Path) -> None:
    path = save(single(), tmp_path / "a.csv")
    labels.run(config, path, "mine", "small")
    current = configuration.load(config.root / "params.yaml")
    faults = {"original": "already", "mine": "bench import remove", "a/b": "no name", "MINE": "already"}
    for source, said in faults.items():
        with pytest.raises(BenchError, match=said):
            labels.run(current, path, source, "small")


def test_import_and_remove_leave_params_as_they_were(
    project: Path, tmp_path: Path, state: Callable[[], dict[str, bytes]]
) -> None:
    before = state()
    path = str(save(single(), tmp_path / "a.csv"))
    arguments = ["--source", "mine", "--dataset", "small"]
    done = CliRunner().invoke(cli.app, ["import", "labels", path, *arguments, "--process", "I looked."])
    assert done.exit_code == 0
    config = configuration.load(project / "params.yaml")
    held = config.datasets["small"].labels["mine"]
    assert held.sha256 == tables.sha256(config.imported_labels("small", "mine"))
    assert held.process == "I looked."
    CliRunner().invoke(cli.app, ["import", "remove", *arguments], catch_exceptions=False)
    assert state() == before
