"""The stage `consensus` on annotations of which everything is known (tests/factory.py), and on imported votes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from bench import config as configuration
from bench.config import Config, Consensus
from bench.errors import BenchError
from bench.relabel import consensus, events
from bench.store import tables
from tests import factory


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return factory.make_results(tmp_path_factory.mktemp("consensus"), annotated=True)


@pytest.fixture
def own(results: Config, tmp_path: Path) -> Config:
    """The same results, to be changed."""
    return results.model_copy(update={"root": Path(shutil.copytree(results.root, tmp_path / "copy"))})


def table(config: Config, name: str) -> Any:
    return tables.read(name, config.results / f"{name}.parquet")


def noisy(config: Config) -> list[str]:
    """The twelve images of digits-noisy that people annotated."""
    judged = table(config, "votes")
    return sorted(judged.loc[judged["annotator"] == factory.ADA, "sample_id"].unique())


def truth(config: Config, source: str = "true") -> dict[str, int]:
    given = tables.read("labels", config.results / "given_labels.parquet")
    mine = given.loc[given["source"] == source]
    return dict(zip(mine["sample_id"], mine["class_id"], strict=True))


def state(config: Config, sample_id: str) -> dict[int, str]:
    rows = table(config, "consensus")
    mine = rows.loc[rows["sample_id"] == sample_id]
    return dict(zip(mine["class_id"], mine["state"], strict=True))


def labels(config: Config, sample_id: str) -> set[int]:
    rows = table(config, "labels")
    return set(rows.loc[(rows["source"] == "consensus") & (rows["sample_id"] == sample_id), "class_id"])


def test_what_two_say_is_a_label_and_what_one_says_is_disputed(results: Config) -> None:
    ids, true, given = noisy(results), truth(results), truth(results, "original")
    alone = ids[6]  # Ben said yes to a second label there, and Ada no
    other = given[alone] if given[alone] != true[alone] else (true[alone] + 1) % factory.N_CLASSES
    assert state(results, alone)[true[alone]] == "yes"
    assert state(results, alone)[other] == "disputed"
    assert labels(results, alone) == {given[alone]}, "an image that is disputed keeps its original label"
    agreed = ids[7]
    assert labels(results, agreed) == {true[agreed]}


def test_none_of_these_is_no_label_and_refinement_overrides(results: Config) -> None:
    ids, true = noisy(results), truth(results)
    assert labels(results, ids[1]) == set()
    assert set(state(results, ids[1]).values()) == {"no"}
    first = table(results, "consensus").query("sample_id == @ids[0]")
    assert set(first["method"]) == {"refined"}
    assert labels(results, ids[0]) == {true[ids[0]]}


def test_only_the_last_word_counts(results: Config) -> None:
    ids, true = noisy(results), truth(results)
    ballots = table(results, "ballots")
    ada = ballots.loc[ballots["annotator"] == factory.ADA]
    assert set(ada.loc[(ada["sample_id"] == ids[2]) & (ada["n_yes"] > 0), "class_id"]) == {true[ids[2]]}
    assert ids[3] not in set(ada["sample_id"]), "what was taken back is no ballot"
    votes = table(results, "votes")
    assert (votes.loc[votes["sample_id"] == ids[3], "annotator"] == factory.ADA).any(), "but it stays an event"
    ben = ballots.loc[(ballots["annotator"] == factory.BEN) & (ballots["sample_id"] == ids[4])]
    assert ben["n_unsure"].sum() == 1


def test_simulated_votes_count_where_no_person_voted(results: Config) -> None:
    ids = noisy(results)
    decided = table(results, "consensus")
    mine = decided.loc[decided["sample_id"] == ids[5]]
    assert set(mine["basis"]) == {"human"}
    assert (decided.loc[decided["sample_id"].isin(ids[:2]), ["n_yes", "n_no"]].sum(axis=1) <= 2).all()
    ballots = table(results, "ballots")
    both = ballots.loc[ballots["sample_id"] == ids[1]]
    assert factory.SIMULATED in set(both["annotator"])
    assert labels(results, ids[1]) == set(), "two people said none, a simulated annotator said yes"
    mosaic = decided.loc[decided["sample_id"].str.startswith("digits-mosaic/")]
    assert set(mosaic["basis"]) == {"simulated"}


def test_the_source_covers_the_whole_set(results: Config) -> None:
    rows = table(results, "labels")
    mine = rows.loc[rows["source"] == "consensus"]
    samples = table(results, "samples")
    test = samples.loc[(samples["dataset"] == "digits-noisy") & (samples["split"] == "test")].set_index("sample_id")
    held = mine.loc[mine["sample_id"].isin(test.index)]
    touched = set(table(results, "consensus")["sample_id"])
    rest = held.loc[~held["sample_id"].isin(touched)]
    assert len(rest) == len(set(test.index) - touched)
    assert (rest["class_id"].to_numpy() == test.loc[rest["sample_id"], "label"].to_numpy()).all()
    about = table(results, "label_sources").query("source == 'consensus'").set_index("dataset")["about"]
    assert "2 annotators" in about["digits-noisy"]
    assert "of 60 images" in about["digits-noisy"]
    assert "1 simulated annotator" in about["digits-mosaic"]


def test_people_are_told_apart_from_simulated_ones(results: Config) -> None:
    people = table(results, "annotators").set_index(["dataset", "annotator"])
    assert people.loc[("digits-noisy", factory.ADA), "kind"] == "human"
    assert people.loc[("digits-mosaic", factory.SIMULATED), "kind"] == "simulated"
    pairs = table(results, "agreement").query("dataset == 'digits-noisy' and annotator_a != '*'")
    assert set(map(tuple, pairs[["annotator_a", "annotator_b"]].to_numpy())) == {(factory.ADA, factory.BEN)}
    rates = table(results, "tick_rates").query("dataset == 'digits-mosaic'")
    assert rates.set_index("rank").loc[1, "rate"] == 1


def test_machines_say_yes_to_their_answer(own: Config) -> None:
    config = own.model_copy(update={"consensus": own.consensus.model_copy(update={"machines": ["supervised-cnn"]})})
    consensus.run(config)
    ballots = table(own, "ballots").query("kind == 'machine'")
    answers = factory.predictions(own).query("model == 'supervised-cnn' and condition == 'clean'")
    pred = dict(zip(answers["sample_id"], answers["pred"], strict=True))
    assert set(ballots["annotator"]) == {"supervised-cnn"}
    assert ((ballots["sample_id"].map(pred) == ballots["class_id"]) == (ballots["n_yes"] == 1)).all()
    people = table(own, "ballots").query("kind != 'machine'")[["sample_id", "class_id"]].drop_duplicates()
    assert len(ballots) == len(people), "on what somebody judged, and nothing else"
    assert set(table(own, "consensus")["basis"]) == {"human + machine", "simulated + machine"}


def test_without_annotations_the_labels_stay(own: Config) -> None:
    shutil.rmtree(own.data / events.FOLDER)
    (own.data / events.FOLDER).mkdir()
    counts = consensus.run(own)
    assert counts["votes"] == counts["consensus"] == 0
    given = tables.read("labels", own.results / "given_labels.parquet")
    pd.testing.assert_frame_equal(table(own, "labels"), given)


def _voted(own: Config, frame: pd.DataFrame, *, pooled: bool) -> Config:
    path = own.imported_votes("optdigits", "elsewhere")
    tables.write("imported_votes", frame, path)
    parameters = yaml.safe_load((own.root / "params.yaml").read_text())
    held = {"sha256": tables.sha256(path), "process": "made up", "pooled": pooled}
    parameters["datasets"]["optdigits"]["votes"] = {"elsewhere": held}
    (own.root / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False))
    return configuration.load(own.root / "params.yaml")


def test_pooled_votes_are_decided_by_their_share(own: Config) -> None:
    counts = [[9, 1, 0], [5, 5, 0], [2, 3, 5]]
    rows = [(f"optdigits/{i:05d}", c, n, 10 - n) for i, row in enumerate(counts) for c, n in enumerate(row)]
    frame = pd.DataFrame(rows, columns=["sample_id", "class_id", "n_yes", "n_no"]).assign(annotator="elsewhere")
    config = _voted(own, frame, pooled=True)
    for rule in ("majority", "dawid_skene"):
        update = {"consensus": config.consensus.model_copy(update={"rule": rule})}
        consensus.run(config.model_copy(update=update))
        mine = table(own, "consensus").query("sample_id.str.startswith('optdigits/')", engine="python")
        assert set(mine["method"]) == {"majority"}
        assert set(mine["basis"]) == {"pooled"}
        assert mine["score"].tolist() == pytest.approx([n / 10 for row in counts for n in row])
        assert mine["state"].tolist() == ["yes", "no", "no", "disputed", "disputed", "no", "no", "no", "disputed"]
    assert not (table(own, "annotators")["dataset"] == "optdigits").any(), "nobody's single votes are known"


def test_a_name_is_not_somebody_elses(own: Config) -> None:
    frame = pd.DataFrame(
        [("optdigits/00000", factory.ADA, 1, 1, 0)], columns=["sample_id", "annotator", "class_id", "n_yes", "n_no"]
    )
    config = _voted(own, frame, pooled=False)
    with pytest.raises(BenchError, match="somebody whose votes were imported"):
        consensus.run(config)


def test_imported_votes_are_those_that_are_pinned(own: Config) -> None:
    frame = pd.DataFrame(
        [("optdigits/00000", "x", 1, 1, 0)], columns=["sample_id", "annotator", "class_id", "n_yes", "n_no"]
    )
    config = _voted(own, frame, pooled=False)
    consensus.run(config)
    assert state(own, "optdigits/00000") == {0: "disputed", 1: "yes"}
    path = config.imported_votes("optdigits", "elsewhere")
    tables.write("imported_votes", frame.assign(class_id=2), path)
    with pytest.raises(BenchError, match="pins"):
        consensus.run(config)
    path.unlink()
    with pytest.raises(BenchError, match="is missing"):
        consensus.run(config)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sample_id": "digits-noisy/none"}, "is no test image here"),
        ({"class_id": 10}, "has no class 10"),
        ({"annotator": "supervised-cnn"}, "the name of an annotator and of a model"),
    ],
)
def test_a_wrong_event_is_named(own: Config, change: dict[str, Any], said: str) -> None:
    path = next((own.data / events.FOLDER).glob("*/*.jsonl"))
    rows = events.parse(path.read_text(), path)
    events.write(path, [{**rows[0], **change}, *rows[1:]])
    with pytest.raises(BenchError, match=said):
        consensus.run(own)


def test_a_label_that_nobody_judged_is_not_dropped(own: Config) -> None:
    """Votes that only say yes: of `x` to the original label of one image, and to another label of a second one."""
    given = truth(own, "original")
    one, other = "optdigits/00000", "optdigits/00001"
    rows = [(one, "x", given[one], 1, 0), (other, "x", (given[other] + 1) % 10, 1, 0)]
    frame = pd.DataFrame(rows, columns=["sample_id", "annotator", "class_id", "n_yes", "n_no"])
    consensus.run(_voted(own, frame, pooled=False))
    assert labels(own, one) == {given[one]}
    assert labels(own, other) == {given[other]}
    assert state(own, other) == {given[other]: "disputed", (given[other] + 1) % 10: "yes"}
    decided = table(own, "consensus").query("sample_id == @other and state == 'disputed'").iloc[0]
    assert decided[["n_yes", "n_no", "n_unsure"]].tolist() == [0, 0, 0]
    sources = table(own, "label_sources").query("source == 'consensus' and dataset == 'optdigits'")
    assert sources["about"].item().startswith("Consensus (majority) of 1 annotator on 1 of ")
    rule = table(own, "vote_rules").query("dataset == 'optdigits' and rule == 'union'").iloc[0]
    assert rule[["n_images", "n_disputed", "n_labels"]].tolist() == [2, 1, 1]


def test_it_is_said_whose_votes_these_are() -> None:
    def ballots(*rows: tuple[str, str, bool]) -> Any:
        columns = ["annotator", "kind", "pooled"]
        frame = pd.DataFrame(rows, columns=columns)
        return frame.assign(sample_id="d/0", class_id=0, n_yes=1, n_no=0, n_unsure=0)

    pooled, ada = ("counts", "human", True), ("Ada", "human", False)
    simulated, model = ("S", "simulated", False), ("m", "machine", False)
    settings = Consensus()
    samples = pd.DataFrame({"sample_id": ["d/0"], "label": 0})
    no_refinement = pd.DataFrame(columns=["sample_id", "class_id", "annotator", "action"])
    for rows, who, basis in (
        ([pooled], "the pooled votes counts", "pooled"),
        ([pooled, ada], "the pooled votes counts and 1 annotator", "human + pooled"),
        ([ada, simulated], "1 annotator", "human"),
        ([pooled, ada, model], "the pooled votes counts, 1 annotator and 1 model", "human + pooled + machine"),
        ([simulated, model], "1 simulated annotator and 1 model", "simulated + machine"),
    ):
        decided = consensus.decide(ballots(*rows), no_refinement, samples, settings)
        assert decided["basis"].tolist() == [basis]
        said = consensus.described(decided, ballots(*rows), 1, settings)
        assert said == f"Consensus (majority) of {who} on 1 of 1 images."
