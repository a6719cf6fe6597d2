"""Counts and single votes of others become one table; what is missing stays missing; every fault is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from bench import cli
from bench import config as configuration
from bench.config import Config
from bench.data import cifar10
from bench.errors import BenchError
from bench.imports import votes
from bench.imports.votes import Options
from bench.presets import merge
from bench.relabel import events
from bench.store import tables
from tests.data import test_cifar10
from tests.imports.conftest import CLASSES, IDS, LABELS, WNIDS, K, N
from tests.imports.test_predictions import FILES, save

SHARED = test_cifar10.SHARED
real = test_cifar10.real
COUNTS = np.random.default_rng(0).integers(0, 30, (N, K))
COUNTS[np.arange(N), LABELS] += 20
COUNTS[:, 4] = 0
COUNTS[4] = [9, 8, 0, 0, 0, 1]
COUNTS[7] = 0


def written(config: Config, source: str = "mine") -> pd.DataFrame:
    return tables.read("imported_votes", config.data / "imported" / "votes" / "small" / f"{source}.parquet")


def dense(frame: pd.DataFrame, column: str = "n_yes") -> np.ndarray:
    """(N, K) numbers of a table of votes, in the declared order; 0 where there is no row."""
    out = np.zeros((N, K), np.int64)
    place = {sample_id: row for row, sample_id in enumerate(IDS)}
    out[frame["sample_id"].map(place), frame["class_id"]] = frame[column]
    return out


FORMS: dict[str, tuple[str, Any, Options]] = {
    "list column": ("a.parquet", pd.DataFrame({"sample_id": IDS, "counts": COUNTS.tolist()})[::-1], Options()),
    "wide by name": ("a.csv", pd.DataFrame({"file": FILES, **dict(zip(CLASSES, COUNTS.T, strict=True))}), Options()),
    "wide by index": (
        "a.csv",
        pd.DataFrame({"file": FILES, **{f"c{c}": COUNTS[:, c] for c in range(K)}}),
        Options(),
    ),
    "array": ("a.npy", COUNTS, Options(in_order=True)),
    "array of floats": ("a.npy", COUNTS.astype(np.float32), Options(in_order=True)),
    "map": ("a.json", dict(zip(FILES, COUNTS.tolist(), strict=True)), Options()),
}


@pytest.mark.parametrize("name", FORMS)
def test_counts_are_pooled_votes(config: Config, tmp_path: Path, name: str) -> None:
    file, content, options = FORMS[name]
    said = votes.run(config, save(content, tmp_path / "in" / file), "mine", "small", options=options)
    found = written(config)
    np.testing.assert_array_equal(dense(found), COUNTS)
    assert found["annotator"].unique().tolist() == ["mine"]
    totals = dict(zip(IDS, COUNTS.sum(axis=1), strict=True))
    assert (found["n_yes"] + found["n_no"] == found["sample_id"].map(totals)).all()
    assert IDS[7] not in set(found["sample_id"])
    label = found.loc[(found["sample_id"] == IDS[4]) & (found["class_id"] == LABELS[4]), ["n_yes", "n_no"]]
    assert label.to_numpy().tolist() == [[0, 18]], "the label is judged even where nobody chose it"
    assert f"{COUNTS.sum():,} votes on 23 of the 24 test images of 'small', 18 to" in said
    held = configuration.load(config.root / "params.yaml").datasets["small"].votes["mine"]
    assert (held.pooled, held.kind, held.sha256) == (
        True,
        "human",
        tables.sha256(config.imported_votes("small", "mine")),
    )


def test_arrays_without_a_repeated_number_are_counts_too(config: Config, tmp_path: Path) -> None:
    content = np.tile(np.arange(K), (N, 1))
    votes.run(config, save(content, tmp_path / "a.npy"), "mine", "small", options=Options(in_order=True))
    np.testing.assert_array_equal(dense(written(config)), content)


def people(**columns: Any) -> pd.DataFrame:
    """Two annotators on image 0 (label 0), one on image 1 (label 1): one names two classes of image 0."""
    base = {"sample_id": IDS[[0, 0, 0, 1]], "worker": ["ann", "ann", "bob", "ann"], "class_id": [2, 3, 2, 1]}
    return pd.DataFrame({**base, **columns})


def triples(frame: pd.DataFrame) -> set[tuple[str, str, int, int, int]]:
    return set(frame[["sample_id", "annotator", "class_id", "n_yes", "n_no"]].itertuples(index=False, name=None))


def test_without_a_vote_a_row_is_a_yes_and_the_rest_is_missing(config: Config, tmp_path: Path) -> None:
    said = votes.run(config, save(people(), tmp_path / "a.csv"), "mine", "small", "A crowd.", "simulated")
    assert triples(written(config)) == {
        (IDS[0], "mine/ann", 2, 1, 0),
        (IDS[0], "mine/ann", 3, 1, 0),
        (IDS[0], "mine/bob", 2, 1, 0),
        (IDS[1], "mine/ann", 1, 1, 0),
    }
    assert "4 votes of 2 annotators on 2 of the 24" in said
    assert "missing, not no" in said
    held = configuration.load(config.root / "params.yaml").datasets["small"].votes["mine"]
    assert (held.pooled, held.kind, held.process) == (False, "simulated", "A crowd.")


def test_a_single_choice_says_no_to_what_others_chose_and_to_the_label(config: Config, tmp_path: Path) -> None:
    frame = people(worker=["ann", "cy", "bob", "ann"])
    votes.run(config, save(frame, tmp_path / "a.csv"), "mine", "small", options=Options(single_choice=True))
    chosen = {"ann": 2, "cy": 3, "bob": 2}
    wanted = {
        (IDS[0], f"mine/{who}", c, int(c == own), int(c != own)) for who, own in chosen.items() for c in (0, 2, 3)
    }
    assert triples(written(config)) == wanted | {(IDS[1], "mine/ann", 1, 1, 0)}


def test_single_choices_equal_their_counts(config: Config, tmp_path: Path) -> None:
    """A table of who chose what, and how often each class was chosen, come to the same numbers."""
    rng = np.random.default_rng(1)
    chosen = rng.integers(0, K, (N, 9))
    rows = pd.DataFrame(
        {"file": np.repeat(FILES, 9), "annotator_id": np.tile(np.arange(9), N), "class": chosen.ravel()}
    )
    votes.run(config, save(rows, tmp_path / "a.csv"), "one", "small", options=Options(single_choice=True))
    counts = np.stack([np.bincount(row, minlength=K) for row in chosen])
    current = configuration.load(config.root / "params.yaml")
    votes.run(current, save(counts, tmp_path / "a.npy"), "all", "small", options=Options(in_order=True))
    summed = written(config, "one").groupby(["sample_id", "class_id"], as_index=False)[["n_yes", "n_no"]].sum()
    pd.testing.assert_frame_equal(
        summed, written(config, "all")[["sample_id", "class_id", "n_yes", "n_no"]], check_dtype=False
    )


VOTES: dict[str, list[Any]] = {
    "words": ["yes", "No", " YES ", "no"],
    "numbers": [1, 0, 1, 0],
    "texts of numbers": ["1", "0", "1", "0"],
    "truth values": [True, False, True, False],
    "texts of truth values": ["true", "FALSE", "True", "false"],
}


@pytest.mark.parametrize("name", VOTES)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_votes_say_yes_or_no(config: Config, tmp_path: Path, name: str, suffix: str) -> None:
    said = votes.run(config, save(people(vote=VOTES[name]), tmp_path / f"a.{suffix}"), "mine", "small")
    found = triples(written(config))
    assert found == {
        (IDS[0], "mine/ann", 2, 1, 0),
        (IDS[0], "mine/ann", 3, 0, 1),
        (IDS[0], "mine/bob", 2, 1, 0),
        (IDS[1], "mine/ann", 1, 0, 1),
    }
    assert "2 yes and 2 no (`vote`)" in said


def test_who_is_unsure_is_left_out_and_counted(config: Config, tmp_path: Path) -> None:
    frame = people(answer=["yes", "unsure", "?", "no"])
    said = votes.run(config, save(frame, tmp_path / "a.csv"), "mine", "small")
    assert triples(written(config)) == {(IDS[0], "mine/ann", 2, 1, 0), (IDS[1], "mine/ann", 1, 0, 1)}
    assert "2 votes of 1 annotator on 2" in said
    assert "2 unsure ones were left out" in said


@pytest.mark.parametrize(
    ("column", "classes"),
    [
        ("class", [CLASSES[c] for c in (2, 3, 2, 1)]),
        ("wnid", [WNIDS[c] for c in (2, 3, 2, 1)]),
        ("class_id", [3, 4, 3, 2]),
        ("labels", [[2], [3], [2], [1]]),
    ],
)
def test_classes_are_given_in_every_way(config: Config, tmp_path: Path, column: str, classes: list[Any]) -> None:
    frame = people(**{column: classes})
    frame = frame.drop(columns=[] if column == "class_id" else ["class_id"])
    options = Options(one_based=column == "class_id")
    votes.run(config, save(frame, tmp_path / "a.parquet"), "mine", "small", options=options)
    assert written(config)["class_id"].tolist() == [1, 2, 3, 2]


def test_lists_of_classes_are_several_votes(config: Config, tmp_path: Path) -> None:
    frame = pd.DataFrame({"file": FILES[:3], "annotator": ["ann"] * 3, "labels": [[2, 3], [], [1]]})
    votes.run(config, save(frame, tmp_path / "a.parquet"), "mine", "small")
    assert {(s, c) for s, _, c, *_ in triples(written(config))} == {(IDS[0], 2), (IDS[0], 3), (IDS[2], 1)}


def test_names_that_look_like_numbers_stay_texts(config: Config, tmp_path: Path) -> None:
    frame = people(worker=["007", "007", "7", "007"])
    votes.run(config, save(frame, tmp_path / "a.csv"), "mine", "small")
    assert set(written(config)["annotator"]) == {"mine/007", "mine/7"}
    current = configuration.load(config.root / "params.yaml")
    votes.run(current, save(people(worker=[7.0, 7.0, 8.0, 7.0]), tmp_path / "b.parquet"), "other", "small")
    assert set(written(config, "other")["annotator"]) == {"other/7", "other/8"}


IN_ORDER = Options(in_order=True)
BAD: dict[str, tuple[str, Any, Options, str]] = {
    "shares": ("a.npy", COUNTS / 7, IN_ORDER, "holds shares, not numbers of votes, in 2"),
    "zeros and ones": ("a.npy", (COUNTS > 5).astype(int), IN_ORDER, "bench import labels"),
    "negative": ("a.npy", COUNTS - 1, IN_ORDER, "negative or too large in 24 rows"),
    "NaN": ("a.npy", np.where(np.eye(N, K) > 0, np.nan, 2.0), IN_ORDER, "missing, infinite"),
    "texts": ("a.json", dict(zip(FILES, [["a"] * K] * N, strict=True)), Options(), "holds texts"),
    "nothing": ("a.npy", COUNTS * 0, IN_ORDER, "holds only 0 and 1"),
    "other classes": ("a.parquet", pd.DataFrame({"file": FILES, "counts": [[2] * 9] * N}), Options(), "not 6 numbers"),
    "no order": ("a.npy", COUNTS, Options(), "--in-order"),
    "too few": ("a.npy", COUNTS[1:], IN_ORDER, "has 23 rows"),
    "an image twice": (
        "a.csv",
        pd.DataFrame({"file": FILES[:1] * 2, "counts": ["[9,1,0,0,0,0]"] * 2}),
        Options(),
        "1 ",
    ),
    "options of answers": ("a.npy", COUNTS, Options(in_order=True, single_choice=True), "neither --single-choice"),
    "nobody's": ("a.csv", people().drop(columns="worker"), Options(), "says whose answers these are (`annotator`"),
    "a name missing": ("a.csv", people(worker=["ann", "", "bob", "ann"]), Options(), "in `worker`: row 2 ('')"),
    "a name missing, NULL": ("a.parquet", people(worker=["a", None, "b", "c"]), Options(), "row 2 ('')"),
    "a name of control characters": (
        "a.parquet",
        people(worker=["ann", "a\u202eb", "bob", "ann"]),
        Options(),
        "printable characters in `worker`: row 2",
    ),
    "a long name": ("a.csv", people(worker=["ann", "a" * 121, "bob", "ann"]), Options(), "1 to 120"),
    "lists of names": ("a.parquet", people(worker=[["a"], ["b"], ["c"], ["d"]]), Options(), "`worker` holds lists"),
    "no vote": ("a.csv", people(vote=["yes", "perhaps", "no", "no"]), Options(), "neither yes nor no in 1 rows: row 2"),
    "an empty vote": ("a.parquet", people(vote=["yes", None, "no", "no"]), Options(), "neither yes nor no in 1 rows"),
    "a number as vote": ("a.csv", people(vote=[1, 2, 0, 0]), Options(), "neither yes nor no in 1 rows: row 2 ('2')"),
    "twice": ("a.csv", pd.concat([people(), people()[:1]]), Options(), "1 votes are repeated: row 5"),
    "yes and no": (
        "a.csv",
        people(class_id=[2, 2, 2, 1], vote=["yes", "no", "no", "no"]),
        Options(),
        f"1 votes are repeated: row 2 ({IDS[0]}, ann, class 2)",
    ),
    "two choices": (
        "a.csv",
        people(),
        Options(single_choice=True),
        "1 answers repeat an image and an annotator: row 2",
    ),
    "choices with votes": ("a.csv", people(vote=[1, 0, 1, 0]), Options(single_choice=True), "yes or no to each class"),
    "no class": ("a.csv", people(class_id=[2, 6, 2, 1]), Options(), "row 2 (6)"),
    "an unknown image": ("a.csv", people(sample_id=["small/x", *IDS[:3]]), Options(), "no test image of 'small'"),
    "an image to train on": (
        "a.csv",
        people(sample_id=["small/train-0", *IDS[:3]]),
        Options(),
        "not of the test split",
    ),
    "no classes at all": ("a.csv", people().drop(columns="class_id"), Options(), "no column with the classes"),
    "all unsure": ("a.csv", people(vote=["unsure"] * 4), Options(), "holds no votes"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_refused_by_name(
    config: Config, tmp_path: Path, name: str, state: Callable[[], dict[str, bytes]]
) -> None:
    file, content, options, said = BAD[name]
    before = state()
    with pytest.raises(BenchError) as error:
        votes.run(config, save(content, tmp_path / "in" / file), "mine", "small", options=options)
    assert said in str(error.value)
    assert error.value.remedy
    assert state() == before


def test_sources_have_names_of_their_own(config: Config, tmp_path: Path) -> None:
    path = save(people(), tmp_path / "a.csv")
    votes.run(config, path, "mine", "small")
    (config.data / events.FOLDER / events.stem("ann")).mkdir(parents=True)
    current = configuration.load(config.root / "params.yaml")
    for source, said in {"mine": "bench import remove --votes", "MINE": "already", "a/b": "no name"}.items():
        with pytest.raises(BenchError, match=said):
            votes.run(current, path, source, "small")
    with pytest.raises(BenchError, match="'ann' is the name of an annotator"):
        votes.run(current, path, "ann", "small")


def test_import_and_remove_leave_params_as_they_were(
    project: Path, tmp_path: Path, state: Callable[[], dict[str, bytes]]
) -> None:
    before = state()
    path = str(save(people(), tmp_path / "a.csv"))
    arguments = ["import", "votes", path, "--dataset", "small", "--process", "They looked."]
    run = CliRunner().invoke
    assert "Nothing was written" in run(cli.app, [*arguments, "--source", "one", "--dry-run"]).output
    assert state() == before
    for source in ("one", "two"):
        assert run(cli.app, [*arguments, "--source", source], catch_exceptions=False).exit_code == 0
    config = configuration.load(project / "params.yaml")
    assert list(config.datasets["small"].votes) == ["one", "two"]
    written = project / "data" / "imported" / "votes" / "small" / "one.parquet"
    assert config.datasets["small"].votes["one"].sha256 == tables.sha256(written)
    assert not written.stat().st_mode & 0o222
    for source in ("one", "two"):
        run(cli.app, ["import", "remove", "--votes", source, "--dataset", "small"], catch_exceptions=False)
    assert state() == before
    with pytest.raises(BenchError, match="there are no imported votes 'one'"):
        run(cli.app, ["import", "remove", "--votes", "one", "--dataset", "small"], catch_exceptions=False)
    for wrong in (["--votes", "one"], ["--votes", "a", "--source", "b", "--dataset", "small"], ["--dataset", "small"]):
        with pytest.raises(BenchError, match="say what to remove"):
            run(cli.app, ["import", "remove", *wrong], catch_exceptions=False)


PRESET_PARAMS = "seed: 0\nsuites: {}\ndatasets: {}\nmodels: {}\nimported: {}\n"


def test_votes_of_a_preset_and_of_ones_own_stand_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The votes that a preset brings cannot be removed alone; those added are no conflict, and not lost with it."""
    preset = test_cifar10.small(tmp_path)
    monkeypatch.setattr("bench.presets.preset.load", lambda name: preset)
    path = tmp_path / "params.yaml"
    path.write_text(PRESET_PARAMS)
    merge.add(path, "cifar10")
    cifar10.write(cifar10.read(tmp_path / "source"), tmp_path / "fetched" / "cifar10")
    config = configuration.load(path)
    counts = save(test_cifar10.COUNTS, tmp_path / "counts.npy")
    votes.run(config, counts, "again", "cifar10", options=IN_ORDER)
    config = configuration.load(path)
    assert list(config.datasets["cifar10"].votes) == ["cifar10h", "again"]
    own, theirs = (config.imported_votes("cifar10", name) for name in ("again", "cifar10h"))
    frame = tables.read("imported_votes", own).assign(annotator="cifar10h")
    pd.testing.assert_frame_equal(frame, tables.read("imported_votes", theirs))
    assert "already" in merge.add(path, "cifar10")
    assert merge.listed(path)[1].endswith("; added; fetched")
    with pytest.raises(BenchError, match="come with the preset 'cifar10'"):
        votes.remove(config, "cifar10h", "cifar10")
    with pytest.raises(BenchError, match=r"were changed since: datasets\.cifar10\."):
        merge.remove(path, "cifar10")
    votes.remove(config, "again", "cifar10")
    merge.remove(path, "cifar10")
    assert path.read_text() == PRESET_PARAMS
    merge.add(path, "cifar10")
    path.write_text(path.read_text().replace("pooled: true", "pooled: false"))
    with pytest.raises(BenchError, match=r"has other values already: datasets\.cifar10\."):
        merge.add(path, "cifar10")


@real
def test_cifar10h_comes_to_a_plain_count(tmp_path: Path) -> None:
    """Vote shares and majority of the import are those of numpy on the published counts, image by image."""
    path = tmp_path / "params.yaml"
    path.write_text(PRESET_PARAMS)
    merge.add(path, "cifar10")
    cifar10.write(cifar10.read(SHARED / "cifar10"), tmp_path / "fetched" / "cifar10")
    config = configuration.load(path)
    said = votes.run(config, SHARED / "cifar10h" / "counts.parquet", "mine", "cifar10", options=IN_ORDER)
    assert "511,000 votes on 10,000 of the 10,000 test images of 'cifar10', 47 to 63 an image, pooled" in said
    counts = np.stack(pq.read_table(SHARED / "cifar10h" / "counts.parquet").column("counts").to_pylist())
    found = tables.read("imported_votes", config.data / "imported" / "votes" / "cifar10" / "mine.parquet")
    shares = np.zeros(counts.shape)
    at = found["sample_id"].str.removeprefix("cifar10/").astype(int)
    shares[at, found["class_id"]] = found["n_yes"] / (found["n_yes"] + found["n_no"])
    np.testing.assert_array_equal(shares, counts / counts.sum(axis=1, keepdims=True))
    given = tables.read("labels", config.folder("cifar10") / "labels.parquet")
    labels = given.loc[~given["sample_id"].str.contains("/train-"), "class_id"].to_numpy()
    assert round(100 * float((shares.argmax(axis=1) == labels).mean()), 2) == 99.21
    majority = found.loc[found["n_yes"] > found["n_no"]].set_index("sample_id")["class_id"]
    np.testing.assert_array_equal(
        majority.index.str[-5:].astype(int), np.flatnonzero(2 * counts.max(1) > counts.sum(1))
    )
