"""Every format gives the same table; every fault is named with its rows, and changes nothing; figures are scipy's."""

# ruff: noqa: E501 (one case a line)

from __future__ import annotations

import gzip
import json
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import special, stats
from typer.testing import CliRunner

from bench import cli
from bench import config as configuration
from bench.config import Config
from bench.errors import BenchError
from bench.imports import labels, predictions
from bench.imports.predictions import Options, Origin
from bench.presets import merge
from bench.store import tables
from tests.imports.conftest import CLASSES, IDS, LABELS, PARAMS, STEMS, WNIDS, K, N

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(N, K)) + 3 * np.eye(K)[LABELS]
P = special.softmax(LOGITS, axis=1)
PRED = LOGITS.argmax(axis=1)
TOP = np.argsort(-LOGITS, axis=1)[:, :5]
IN_ORDER = labels.Options(in_order=True)
SHUFFLED = RNG.permutation(N)
FILES = [f"val/n{label}/{stem}.JPEG" for label, stem in zip(LABELS, STEMS, strict=True)]


def load(project: Path) -> Config:
    return configuration.load(project / "params.yaml")


def frame(**columns: Any) -> pd.DataFrame:
    """Rows in another order than the dataset's."""
    made = pd.DataFrame({name: list(values) for name, values in columns.items()})
    return made.iloc[SHUFFLED].reset_index(drop=True)


def save(content: Any, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    if isinstance(content, pd.DataFrame):
        content.to_parquet(path) if path.suffix == ".parquet" else content.to_csv(path, index=False)
    elif path.suffix == ".json":
        path.write_text(json.dumps(content))
    elif path.suffix == ".npz":
        np.savez(path, **content)
    elif path.suffix == ".npy":
        np.save(path, content)
    else:
        path.write_text(content)
    return path


def imported(config: Config, model: str = "m") -> pd.DataFrame:
    return tables.read("imported", load(config.root).imported_predictions(model, "small"))


ANSWERS: dict[str, tuple[str, Any, Options]] = {
    "Parquet, ids, index": ("a.parquet", frame(sample_id=IDS, pred=PRED), Options()),
    "Parquet, files, wnid": ("a.parquet", frame(file=FILES, wnid=[WNIDS[p] for p in PRED]), Options()),
    "CSV, stems, names": ("a.csv", frame(file=STEMS, **{"class": [CLASSES[p] for p in PRED]}), Options()),
    "CSV, names otherwise written": (
        "a.csv",
        frame(file=FILES, label=[CLASSES[p].replace(" ", "_").title() for p in PRED]),
        Options(),
    ),
    "CSV.gz": ("a.csv.gz", frame(sample_id=IDS, pred=PRED), Options()),
    "counted from 1": ("a.csv", frame(sample_id=IDS, pred=PRED + 1), Options(one_based=True)),
    "JSON list": ("a.json", PRED.tolist(), Options(in_order=True)),
    "JSON list of wnids": ("a.json", [WNIDS[p] for p in PRED], Options(in_order=True)),
    "JSON map": ("a.json", {FILES[r]: int(PRED[r]) for r in SHUFFLED}, Options()),
    "JSON map of texts": ("a.json", {FILES[r]: str(PRED[r]) for r in SHUFFLED}, Options()),
    "JSON rows": ("a.json", [{"file": FILES[r], "pred": int(PRED[r])} for r in SHUFFLED], Options()),
    "npy": ("a.npy", PRED.astype(np.int16), Options(in_order=True)),
    "npy of floats": ("a.npy", PRED.astype(np.float32), Options(in_order=True)),
    "npz": ("a.npz", {"x": PRED}, Options(in_order=True)),
    "npz with ids": ("a.npz", {"sample_id": IDS[SHUFFLED].astype(str), "pred": PRED[SHUFFLED]}, Options()),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_format_gives_the_same_table(config: Config, tmp_path: Path, name: str) -> None:
    file, content, options = ANSWERS[name]
    said = predictions.run(config, [save(content, tmp_path / "in" / file)], "m", "small", options)
    found = imported(config)
    assert found["sample_id"].tolist() == sorted(IDS)
    assert dict(zip(found["sample_id"], found["pred"], strict=True)) == dict(zip(IDS, PRED, strict=True))
    assert found["p_top1"].isna().all()
    assert found["top5"].isna().all()
    assert f"{np.mean(PRED == LABELS):.2%}" in said


TOPS: dict[str, tuple[str, Any, Options]] = {
    "list column": ("a.parquet", frame(sample_id=IDS, pred=PRED, top5=TOP.tolist()), Options()),
    "columns": ("a.csv", frame(sample_id=IDS, **{f"top{k + 1}": TOP[:, k] for k in range(5)}), Options()),
    "list column of texts": ("a.csv", frame(sample_id=IDS, top5=[json.dumps(row) for row in TOP.tolist()]), Options()),
    "names": ("a.csv", frame(sample_id=IDS, **{f"top{k + 1}": [WNIDS[c] for c in TOP[:, k]] for k in range(5)}), Options()),
    "npy": ("a.npy", TOP, Options(in_order=True)),
    "JSON map": ("a.json", {FILES[r]: TOP[r].tolist() for r in SHUFFLED}, Options()),
}  # fmt: skip


@pytest.mark.parametrize("name", TOPS)
def test_best_classes(config: Config, tmp_path: Path, name: str) -> None:
    file, content, options = TOPS[name]
    predictions.run(config, [save(content, tmp_path / "in" / file)], "m", "small", options)
    found = imported(config).set_index("sample_id").loc[list(IDS)]
    assert found["pred"].tolist() == PRED.tolist()
    assert [list(row) for row in found["top5"]] == TOP.tolist()


SCORES: dict[str, tuple[str, Any, Options, bool]] = {
    "logits, list": ("a.parquet", frame(sample_id=IDS, logits=LOGITS.tolist()), Options(), True),
    "logits, columns": ("a.csv", frame(sample_id=IDS, **{f"logit_{c}": LOGITS[:, c] for c in range(K)}), Options(), True),
    "probabilities, list": ("a.parquet", frame(file=FILES, pred=PRED, probabilities=P.tolist()), Options(), False),
    "probabilities, columns": ("a.csv", frame(file=FILES, **{f"p_{c}": P[:, c] for c in range(K)}), Options(), False),
    "percent": ("a.csv", frame(file=FILES, **{f"p_{c}": 100 * P[:, c] for c in range(K)}), Options(percent=True), False),
    "npy of logits": ("a.npy", LOGITS, Options(in_order=True), True),
    "npy of probabilities": ("a.npy", P, Options(in_order=True), False),
}  # fmt: skip


@pytest.mark.parametrize("name", SCORES)
def test_uncertainties_are_those_of_scipy(config: Config, tmp_path: Path, name: str) -> None:
    file, content, options, logits = SCORES[name]
    predictions.run(config, [save(content, tmp_path / "in" / file)], "m", "small", options)
    found = imported(config).set_index("sample_id").loc[list(IDS)]
    best = np.sort(P, axis=1)[:, ::-1]
    wanted = {
        "p_top1": best[:, 0],
        "p_true": P[np.arange(N), LABELS],
        "msp": 1 - best[:, 0],
        "entropy_nats": stats.entropy(P, axis=1),
        "margin": 1 - (best[:, 0] - best[:, 1]),
    }
    for column, values in wanted.items():
        np.testing.assert_allclose(found[column], values, rtol=2**-15, err_msg=column)
    if logits:
        np.testing.assert_allclose(found["energy"], -special.logsumexp(LOGITS, axis=1), rtol=2**-15)
    else:
        assert found["energy"].isna().all()
    assert [list(row) for row in found["top5"]] == TOP.tolist()


def test_uncertainties_by_hand(config: Config, tmp_path: Path) -> None:
    rows = np.tile([0.5, 0.25, 0.25, 0, 0, 0], (N, 1))
    predictions.run(config, [save(rows, tmp_path / "a.npy")], "m", "small", Options(in_order=True))
    first = imported(config).iloc[0]
    assert first[["pred", "p_top1", "msp", "margin"]].tolist() == [0, 0.5, 0.5, 0.75]
    assert first["entropy_nats"] == pytest.approx(1.5 * np.log(2), rel=2**-15)
    assert list(first["top5"]) == [0, 1, 2, 3, 4]


def test_a_given_answer_settles_a_tie(config: Config, tmp_path: Path) -> None:
    table = frame(sample_id=IDS, pred=[2] * N, probabilities=[[0.0, 0.5, 0.5, 0, 0, 0]] * N)
    predictions.run(config, [save(table, tmp_path / "a.parquet")], "m", "small")
    assert [list(row) for row in imported(config)["top5"]] == [[2, 1, 0, 3, 4]] * N


def test_confidence_gives_msp_alone(config: Config, tmp_path: Path) -> None:
    table = frame(sample_id=IDS, pred=PRED, confidence=100 * P.max(axis=1))
    predictions.run(config, [save(table, tmp_path / "a.csv")], "m", "small", Options(percent=True))
    found = imported(config).set_index("sample_id").loc[list(IDS)]
    np.testing.assert_allclose(found["p_top1"], P.max(axis=1), rtol=2**-15)
    np.testing.assert_allclose(found["msp"], 1 - P.max(axis=1), rtol=2**-14, atol=1e-7)
    assert found[["margin", "entropy_nats", "energy"]].isna().to_numpy().all()


def test_parts_of_one_table(config: Config, tmp_path: Path) -> None:
    table = frame(sample_id=IDS, pred=PRED)
    parts = [save(table[:10], tmp_path / "a.csv"), save(table[10:], tmp_path / "b.parquet")]
    predictions.run(config, parts, "m", "small")
    assert imported(config).set_index("sample_id").loc[list(IDS), "pred"].tolist() == PRED.tolist()


def test_an_order_may_be_given(config: Config, tmp_path: Path) -> None:
    order = tmp_path / "order.txt"
    order.write_text("\n".join(FILES[row] for row in SHUFFLED) + "\n")
    predictions.run(config, [save(TOP[SHUFFLED], tmp_path / "a.npy")], "m", "small", Options(order=order))
    assert imported(config).set_index("sample_id").loc[list(IDS), "pred"].tolist() == PRED.tolist()


def changed(values: Any, row: int, value: Any) -> list[Any]:
    out = list(values)
    out[row] = value
    return out


def ids(**changes: Any) -> pd.DataFrame:
    return pd.DataFrame({"sample_id": IDS, "pred": PRED, **changes})


BAD: dict[str, tuple[str, Any, Options, str]] = {
    "missing": ("a.csv", ids()[3:], Options(), "3 of the 24 test images of 'small' are missing, the first: `small/val.0023`"),
    "extra": ("a.csv", pd.concat([ids(), pd.DataFrame({"sample_id": ["small/x"], "pred": [0]})]), Options(), "row 25 ('small/x')"),
    "duplicate": ("a.csv", pd.concat([ids(), ids()[:1]]), Options(), "1 ids are repeated: row 1 (small/val.0023), row 25"),
    "training images": ("a.csv", pd.concat([ids(), pd.DataFrame({"sample_id": ["small/train-0"], "pred": [0]})]), Options(), "not of the test split"),
    "another dataset": ("a.csv", pd.DataFrame({"sample_id": [f"other/{r:08x}" for r in range(10)], "pred": 0}), Options(), "They seem to belong to 'other'"),
    "files of another dataset": ("a.csv", pd.DataFrame({"file": [f"{r:08x}.png" for r in range(10)], "pred": 0}), Options(), "row 1 ('00000000.png')"),
    "files called ids": ("a.csv", ids(sample_id=FILES), Options(), "Call that column `file`"),
    "no id": ("a.parquet", ids(sample_id=changed(IDS, 4, None)), Options(), "1 rows have no `sample_id`: row 5"),
    "class too high": ("a.csv", ids(pred=changed(PRED, 2, 9)), Options(), "0 to 5: row 3 (9)"),
    "negative class": ("a.csv", ids(pred=changed(PRED, 2, -1)), Options(), "row 3 (-1)"),
    "counted from 1": ("a.csv", ids(pred=PRED + 1), Options(), "--one-based"),
    "not counted from 1": ("a.csv", ids(), Options(one_based=True), "counted from 1, 1 to 6: row"),
    "no class": ("a.csv", ids(pred=changed(PRED.astype(float), 7, np.nan)), Options(), "row 8 (nan)"),
    "no name": ("a.parquet", ids(pred=changed([CLASSES[p] for p in PRED], 7, None)), Options(), "row 8 (empty)"),
    "fraction": ("a.csv", ids(pred=PRED + 0.5), Options(), "a fraction"),
    "unknown name": ("a.csv", ids(pred=changed([CLASSES[p] for p in PRED], 1, "great white shrak")), Options(), "nearest to the first is 'great white shark'"),
    "another label space": ("a.csv", ids(pred=["airplane"] * N), Options(), "row 1 ('airplane'), row 2"),
    "unknown wnid": ("a.csv", ids(pred=changed([WNIDS[p] for p in PRED], 1, "n99999999")), Options(), "row 2 ('n99999999')"),
    "names said to be indices": ("a.csv", ids(pred=[CLASSES[p] for p in PRED]), Options(classes="index"), "have no class index"),
    "NaN confidence": ("a.csv", ids(confidence=changed(P.max(axis=1), 0, np.nan)), Options(), "row 1 (nan)"),
    "infinite logit": ("a.npy", np.where(np.eye(N, K) > 0, np.inf, LOGITS), Options(in_order=True), "row 1 (inf)"),
    "rows that do not sum to 1": ("a.parquet", ids(probabilities=(P * 0.9).tolist()), Options(), "does not sum to 1 in 24 rows: row 1 (sum 0.9)"),
    "negative probability": ("a.parquet", ids(probabilities=(P - 0.1).tolist()), Options(), "negative probabilities"),
    "percent": ("a.parquet", ids(probabilities=(100 * P).tolist()), Options(), "--percent"),
    "percent without a name": ("a.npy", 100 * P, Options(in_order=True), "--percent"),
    "confidence in percent": ("a.csv", ids(confidence=100 * P.max(axis=1)), Options(), "--percent"),
    "not in percent": ("a.csv", ids(confidence=P.max(axis=1)), Options(percent=True), "Leave --percent out"),
    "scores of other classes": ("a.npy", LOGITS[:, :4], Options(in_order=True), "4 numbers a row, but 'small' has 6 classes"),
    "columns of other classes": ("a.csv", frame(sample_id=IDS, p_0=P[:, 0], p_1=P[:, 1]), Options(), "2 columns `p_0`"),
    "the first is not the answer": ("a.csv", ids(**{f"top{k}": TOP[:, 2 - k] for k in (1, 2)}), Options(), "is not the answer in 24 rows"),
    "a class twice": ("a.npy", TOP[:, [0, 0, 1]], Options(in_order=True), "a class twice"),
    "the answer is not the best": ("a.parquet", ids(pred=(PRED + 1) % K, logits=LOGITS.tolist()), Options(), "not the class with the highest score"),
    "another confidence": ("a.parquet", ids(confidence=0.111, logits=LOGITS.tolist()), Options(), "not the probability of the answer"),
    "no order": ("a.npy", PRED, Options(), "--in-order"),
    "no order of a list": ("a.json", PRED.tolist(), Options(), "--order FILE"),
    "too few rows": ("a.npy", PRED[:-1], Options(in_order=True), "23 rows, but there are 24 ids"),
    "an order for keyed rows": ("a.csv", ids(), Options(in_order=True), "need no order"),
    "no answers": ("a.csv", ids().drop(columns="pred"), Options(), "no column with the answers"),
    "no key": ("a.csv", ids().drop(columns="sample_id"), Options(), "no key column"),
    "semicolons": ("a.csv", ids().to_csv(index=False, sep=";"), Options(), "it looks like `;` separates the columns"),
    "tabs": ("a.csv", ids().to_csv(index=False, sep="\t"), Options(), "it looks like a tab separates"),
    "ragged CSV": ("a.csv", ids().to_csv(index=False) + "small/x,1,2\n", Options(), "cannot be read as CSV"),
    "empty": ("a.csv", "", Options(), "is empty"),
    "only a header": ("a.csv", "sample_id,pred\n", Options(), "holds no rows"),
    "one row that does not sum to 1": ("a.npy", np.vstack([P[:-1], 2 * P[-1:]]), Options(in_order=True), "does not sum to 1 in 1 rows: row 24 (sum 2)"),
    "one negative probability": ("a.npy", np.where((np.eye(N, K) > 0) & (np.arange(K) == 0), -1, P), Options(in_order=True), "negative probabilities in 1 rows: row 1"),
    "rounded percentages": ("a.npy", np.round(100 * P), Options(in_order=True), "say --percent"),
    "scores that may be logits": ("a.npy", LOGITS + 10, Options(in_order=True), "--scores logits"),
    "no scores": ("a.csv", ids(), Options(scores="logits"), "Leave --scores out"),
    "one confidence above 1": ("a.csv", ids(confidence=changed(P.max(axis=1), 2, 73)), Options(), "outside 0 to 1 in 1 rows: row 3 (73)"),
    "shares said to be percentages": ("a.csv", ids(confidence=changed(P.max(axis=1), 2, 73)), Options(percent=True), "Leave --percent out"),
    "probabilities said to be percentages": ("a.parquet", ids(probabilities=P.tolist()), Options(percent=True), "Leave --percent out"),
    "a class beyond all integers": ("a.parquet", ids(pred=changed(PRED.astype(float), 2, 1e20)), Options(), "row 3 (100000000000000000000)"),
    "the largest integer": ("a.parquet", ids(pred=np.array(changed(PRED, 2, 2**64 - 1), np.uint64)), Options(), "row 3 (18446744073709551615)"),
    "a large integer in a list": ("a.json", changed(TOP.tolist(), 2, [10**30]), Options(in_order=True), "1 rows have no class index: row 3 (1000000"),
    "truth values": ("a.parquet", ids(pred=PRED > 2), Options(), "true and false"),
    "a map of maps": ("a.json", {stem: {"pred": 0} for stem in STEMS}, Options(), "no single class: row 1 ({'pred': 0})"),
    "unknown format": ("a.xlsx", "x", Options(), "no known format"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_refused_by_name(
    config: Config, tmp_path: Path, name: str, state: Callable[[], dict[str, bytes]]
) -> None:
    file, content, options, said = BAD[name]
    before = state()
    path = save(content, tmp_path / "in" / file)
    with pytest.raises(BenchError) as error:
        predictions.run(config, [path], "m", "small", options)
    assert said in str(error.value)
    assert state() == before


@pytest.mark.parametrize("kept", [0.2, 0.9, 0.999])
def test_truncated_parquet(config: Config, tmp_path: Path, kept: float, state: Callable[[], dict[str, bytes]]) -> None:
    path = save(ids(), tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    before = state()
    with pytest.raises(BenchError, match="truncated or damaged"):
        predictions.run(config, [path], "m", "small")
    assert state() == before


def test_json_that_names_an_image_twice(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a.png": 1, "b.png": 2, "a.png": 3}')
    with pytest.raises(BenchError, match=r"names `a\.png` twice"):
        predictions.run(config, [path], "m", "small")
    path.write_text('{"a.png": 1, ')
    with pytest.raises(BenchError, match="cannot be read as JSON"):
        predictions.run(config, [path], "m", "small")


def test_numpy_files_are_not_unpickled(config: Config, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}] * N), allow_pickle=True)
    with pytest.raises(BenchError, match="cannot be read as an array"):
        predictions.run(config, [tmp_path / "a.npy"], "m", "small", Options(in_order=True))


def test_file_names_that_do_not_tell_images_apart(project: Path, tmp_path: Path) -> None:
    from tests.imports.conftest import write_dataset

    write_dataset(project / "data" / "twins", ["a/1", "b/1"], np.array([0, 1]))
    text = PARAMS.replace("  other:", "  twins: {role: original, suite: small}\n  other:")
    (project / "params.yaml").write_text(text)
    with pytest.raises(BenchError, match="do not tell the images"):
        predictions.run(load(project), [save({"1.png": 0, "2.png": 1}, tmp_path / "a.json")], "m", "twins")


@pytest.mark.parametrize(
    ("pred", "said"),
    [((LABELS + 1) % K, "counted from 1"), (LABELS[::-1], "in the order of the sorted ids")],
)
def test_what_would_fit_better_is_asked_for(
    config: Config, tmp_path: Path, pred: np.ndarray, said: str, state: Callable[[], dict[str, bytes]]
) -> None:
    path = save(pred, tmp_path / "a.npy")
    before = state()
    with pytest.raises(BenchError, match=f"{said}.*--as-is"):
        predictions.run(config, [path], "m", "small", Options(in_order=True))
    assert state() == before
    out = predictions.run(config, [path], "m", "small", Options(in_order=True, as_is=True))
    assert "Warning" in out
    assert said in out


def test_low_accuracy_is_said_and_not_refused(config: Config, tmp_path: Path) -> None:
    path = save(np.zeros(N, int), tmp_path / "a.npy")
    assert "suspiciously low" in predictions.run(config, [path], "m", "small", Options(in_order=True))


def test_params_keep_every_other_line(config: Config, tmp_path: Path) -> None:
    name = "org/resnet50.a1_in1k"
    path = save(ids(), tmp_path / "a.csv")
    predictions.run(config, [path], name, "small", origin=Origin("a: paper #1", "ssl", "dino", "resnet50"))
    text = (config.root / "params.yaml").read_text()
    entry = next(line for line in text.splitlines(keepends=True) if line.startswith(f"  {name}:"))
    assert text.replace(entry, "").replace("imported:\n", "imported: {}\n") == PARAMS
    held = load(config.root).imported[name]
    assert (held.origin, held.family, held.method, held.arch) == ("a: paper #1", "ssl", "dino", "resnet50")
    file = config.data / "imported/predictions/small/org%2Fresnet50.a1_in1k.parquet"
    assert held.datasets == {"small": tables.sha256(file)}
    assert stat.S_IMODE(file.stat().st_mode) == 0o444


def test_another_dataset_of_the_same_model(config: Config, tmp_path: Path) -> None:
    predictions.run(config, [save(ids(), tmp_path / "a.csv")], "m", "small", origin=Origin(family="ssl", method="dino"))
    other = save({f"{r:08x}.png": r % K for r in range(10)}, tmp_path / "b.json")
    with pytest.raises(BenchError, match="contradicts 'dino'"):
        predictions.run(load(config.root), [other], "m", "other", origin=Origin(method="mae"))
    predictions.run(load(config.root), [other], "m", "other", origin=Origin(family="ssl"))
    held = load(config.root).imported["m"]
    assert set(held.datasets) == {"small", "other"}
    assert (held.method, held.origin) == ("dino", "a.csv; b.json")
    assert "# the original" in (config.root / "params.yaml").read_text()


def test_a_model_is_imported_once(config: Config, tmp_path: Path, state: Callable[[], dict[str, bytes]]) -> None:
    path = save(ids(), tmp_path / "a.csv")
    predictions.run(config, [path], "m", "small")
    before = state()
    with pytest.raises(BenchError, match="has predictions for 'small' already"):
        predictions.run(load(config.root), [path], "m", "small")
    assert state() == before


def test_names_that_are_taken_or_no_names(
    config: Config, tmp_path: Path, state: Callable[[], dict[str, bytes]]
) -> None:
    (config.root / "params.yaml").write_text(
        PARAMS.replace("small: {}", "small: {train: small}").replace(
            "models: {}",
            "models:\n  cnn: {family: supervised, method: supervised, arch: cnn, suite: small, epochs: 1}\n"
            "uncertainty:\n  ensembles:\n    both: [cnn]",
        )
    )
    path = save(ids(), tmp_path / "a.csv")
    before = state()
    faults = {
        "cnn": "trained here",
        "both": "an ensemble",
        "x" * 300: "too long",
        "-x": "the name is not valid",
        "": "the name is not valid",
        "CNN": "differs from 'cnn' only in upper and lower case",
        **{f"a{end}b": "the name is not valid" for end in "\n\x85\u2028\u2029"},
    }
    for name, said in faults.items():
        with pytest.raises(BenchError, match=said):
            predictions.run(load(config.root), [path], name, "small", dry_run=True)
    assert state() == before


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        (Origin(family="supervised", method="dino"), "'dino' does not belong to family 'supervised', but to 'ssl'"),
        (Origin(family="unknown", method="dino"), "'dino' does not belong to family 'unknown'"),
        (Origin(family="ssl", method="supervised"), "'supervised' does not belong to family 'ssl'"),
        (Origin(family="pixels"), "family is not valid"),
        (Origin(method="a b"), "method is not valid"),
        (Origin(arch="a\nb"), "arch is not valid"),
    ],
)
def test_what_cannot_be_said_of_a_model(config: Config, origin: Origin, said: str) -> None:
    with pytest.raises(BenchError, match=said):
        predictions.run(config, [Path("none.csv")], "m", "small", origin=origin, dry_run=True)


@pytest.mark.parametrize(
    ("origin", "family", "method"),
    [
        (Origin(method="supervised"), "supervised", "supervised"),
        (Origin(family="supervised"), "supervised", "supervised"),
        (Origin(method="mae"), "ssl", "mae"),
        (Origin(family="ssl", method="ours"), "ssl", "ours"),
        (Origin(method="ours"), "unknown", "ours"),
    ],
)
def test_family_and_method(config: Config, tmp_path: Path, origin: Origin, family: str, method: str) -> None:
    predictions.run(config, [save(ids(), tmp_path / "a.csv")], "m", "small", origin=origin)
    held = load(config.root).imported["m"]
    assert (held.family, held.method) == (family, method)


@pytest.mark.parametrize(
    ("file", "content", "options"),
    [
        ("a.npy", LOGITS + 10, Options(in_order=True, scores="logits")),
        ("a.npz", {"logits": LOGITS + 10}, Options(in_order=True)),
    ],
)
def test_positive_logits(config: Config, tmp_path: Path, file: str, content: Any, options: Options) -> None:
    predictions.run(config, [save(content, tmp_path / file)], "m", "small", options)
    found = imported(config).set_index("sample_id").loc[list(IDS)]
    np.testing.assert_allclose(found["p_top1"], P.max(axis=1), rtol=2**-15)


def test_damaged_and_hostile_files(config: Config, tmp_path: Path) -> None:
    good = tmp_path / "good.npz"
    np.savez_compressed(good, pred=np.arange(10_000))
    content = bytearray(good.read_bytes())
    content[len(content) // 2 :][:64] = bytes(64)
    content[200:264] = b"\xff" * 64
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d, %d), }"
    files = {
        "a.npz": bytes(content),
        "b.npy": good.read_bytes()[:300],
        "c.json": b"[" * 200_000,
        "d.json": b"[" + b"9" * 5000 + b"]",
        "e.csv": b'sample_id,pred\nx,"' + b"[" * 100_000 + b'"\n',
    }
    for n, shape in enumerate([(10**13, 6), (10**18, 10**18)]):
        text = (header % shape).ljust(117) + b"\n"
        files[f"{n}.npy"] = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(48)
    for name, written in files.items():
        (tmp_path / name).write_bytes(written)
        with pytest.raises(BenchError):
            predictions.run(config, [tmp_path / name], "m", "small", Options(in_order=name != "e.csv"))


def test_when_dvc_fails_nothing_has_changed(
    config: Config, tmp_path: Path, state: Callable[[], dict[str, bytes]]
) -> None:
    (config.root / "data.dvc").write_text("no: pointer\n")
    path = save(ids(), tmp_path / "a.csv")
    before = state()
    with pytest.raises(BenchError, match="`dvc add data` failed"):
        predictions.run(config, [path], "m", "small")
    assert state() == before


def test_dvc_versions_what_is_imported(config: Config, tmp_path: Path) -> None:
    for command in (["init", "--no-scm", "-q"], ["add", "-q", "data"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=config.root, check=True)
    predictions.run(config, [save(ids(), tmp_path / "a.csv")], "m", "small")
    pointer = yaml.safe_load((config.root / "data.dvc").read_text())["outs"][0]
    assert pointer["nfiles"] == 7
    assert load(config.root).imported_predictions("m", "small").is_file()


def test_remove(config: Config, tmp_path: Path, state: Callable[[], dict[str, bytes]]) -> None:
    before = state()
    predictions.run(config, [save(ids(), tmp_path / "a.csv")], "org/m", "small")
    after = state()
    other = save({f"{r:08x}.png": r % K for r in range(10)}, tmp_path / "b.json")
    predictions.run(load(config.root), [other], "org/m", "other", origin=Origin("a.csv"))
    predictions.remove(load(config.root), "org/m", "other")
    assert yaml.safe_load(state()["params.yaml"]) == yaml.safe_load(after["params.yaml"])
    assert set(state()) == set(after)
    predictions.remove(load(config.root), "org/m")
    assert state() == before
    with pytest.raises(BenchError, match="no imported predictions of 'org/m'"):
        predictions.remove(load(config.root), "org/m")


def test_the_commands(project: Path, tmp_path: Path, state: Callable[[], dict[str, bytes]]) -> None:
    path = str(save(ids(), tmp_path / "a.csv"))
    before = state()
    arguments = ["import", "predictions", path, "--model", "org/m", "--dataset", "small"]
    said = CliRunner().invoke(cli.app, [*arguments, "--dry-run"], catch_exceptions=False).output
    assert "key column `sample_id`" in said
    assert state() == before
    done = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert list(load(project).imported) == ["org/m"]
    CliRunner().invoke(cli.app, ["import", "remove", "--model", "org/m"], catch_exceptions=False)
    assert state() == before
    assert isinstance(CliRunner().invoke(cli.app, ["import", "remove"]).exception, BenchError)
    for flag in ("--classes", "--scores"):
        refused = CliRunner().invoke(cli.app, [*arguments, flag, "nme"])
        assert (refused.exit_code, state()) == (2, before)


def test_gzip_is_read(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(ids().to_csv(index=False, sep=";").encode()))
    with pytest.raises(BenchError, match="`;` separates"):
        predictions.run(config, [path], "m", "small")


def test_another_dataset_whose_files_have_the_same_names(project: Path, tmp_path: Path) -> None:
    from tests.imports.conftest import write_dataset

    write_dataset(project / "data" / "noisy", STEMS, LABELS)
    (project / "params.yaml").write_text(PARAMS.replace("  other:", "  noisy: {role: control, suite: small}\n  other:"))
    for name in ("small/{}", "./small/{}.png", "small\\{}.png"):
        table = pd.DataFrame({"file": [name.format(stem) for stem in STEMS], "pred": PRED})
        with pytest.raises(BenchError, match="They seem to belong to 'small'"):
            predictions.run(load(project), [save(table, tmp_path / "a.csv")], "m", "noisy")
    table = pd.DataFrame({"file": [f"noisy/{stem}.png" for stem in STEMS], "pred": PRED})
    predictions.run(load(project), [save(table, tmp_path / "a.csv")], "m", "noisy")


def test_imports_at_the_same_time_are_all_kept(config: Config, tmp_path: Path) -> None:
    path, other = save(ids(), tmp_path / "a.csv"), save(LABELS[:, None] == np.arange(K), tmp_path / "b.npy")
    with merge.locked(config.root / "params.yaml"):
        threads = [
            threading.Thread(target=predictions.run, args=(config, [path], name, "small")) for name in ("a", "b", "c")
        ]
        threads.append(threading.Thread(target=labels.run, args=(config, other, "mine", "small", "", IN_ORDER)))
        for thread in threads:
            thread.start()
        threads[0].join(timeout=1)
        assert all(thread.is_alive() for thread in threads), "they wait for the lock"
    for thread in threads:
        thread.join()
    assert set(load(config.root).imported) == {"a", "b", "c"}
    assert set(load(config.root).datasets["small"].labels) == {"mine"}


def test_ctrl_c_after_the_file_is_there_leaves_nothing(
    config: Config, tmp_path: Path, state: Callable[[], dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(ids(), tmp_path / "a.csv")
    before = state()
    write = tables.write

    def interrupted(*args: Any, **options: Any) -> None:
        write(*args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(tables, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predictions.run(config, [path], "m", "small")
    assert state() == before


def test_a_file_that_params_do_not_list_is_kept(config: Config, tmp_path: Path) -> None:
    orphan = config.data / "imported" / "predictions" / "small" / "m.parquet"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"whose?")
    with pytest.raises(BenchError, match="does not list it"):
        predictions.run(config, [save(ids(), tmp_path / "a.csv")], "m", "small")
    assert orphan.read_bytes() == b"whose?"
