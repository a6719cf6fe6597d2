"""The pages Agreement, Relabelled and Proposals: on annotations that are known, and where there are none."""

from __future__ import annotations

import io
import json
import shutil
import uuid
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from bench.config import Config, Consensus
from bench.relabel import consensus, events, votes
from bench.store import database, tables
from dashboard import db, relabelling, whatif
from tests import factory
from tests.dashboard.conftest import Open, text

NOISY, MOSAIC = "digits-noisy", "digits-mosaic"


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = factory.make_all(tmp_path_factory.mktemp("annotated"), annotated=True)
    database.run(config)
    return config


@pytest.fixture(autouse=True)
def no_cookies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit's test harness has no browser, and gives a mock in place of its cookies."""
    monkeypatch.setattr("streamlit.runtime.context.ContextProxy.cookies", {})


@pytest.fixture
def own(annotated: Config, tmp_path: Path) -> Config:
    """The same, to be changed."""
    return annotated.model_copy(update={"root": Path(shutil.copytree(annotated.root, tmp_path / "copy"))})


def fine(app: AppTest) -> str:
    """What a page says, which shows without a fault."""
    assert not app.exception
    assert not app.warning
    said = text(app)
    assert "None" not in said
    assert "nan" not in said.split()
    return said


def test_agreement_says_how_far_two_people_agree(annotated: Config, open_app: Open) -> None:
    said = fine(open_app(annotated.root, "agreement", dataset=NOISY))
    table = db.agreement(_source(annotated), NOISY).query("annotator_a == '*'").iloc[0]
    assert f"of {table['n_images']} images of Digits noisy (control, relabelled)" in said
    assert f"{100 * table['disagreement']:.1f} %" in said
    assert f"Krippendorff's alpha {table['alpha']:.2f}" in said


def test_simulated_annotators_are_marked_wherever_they_are(annotated: Config, open_app: Open) -> None:
    app = open_app(annotated.root, "agreement", dataset=MOSAIC)
    assert "has been annotated by two" in fine(app)
    people = app.dataframe[0].value
    assert people["Kind"].tolist() == ["simulated"]
    said = fine(open_app(annotated.root, "relabelled", dataset=MOSAIC))
    assert "**simulated annotators**" in said
    app = open_app(annotated.root, "relabelled", dataset=MOSAIC, sample=f"{MOSAIC}/00000")
    assert factory.SIMULATED in fine(app)
    assert relabelling.marked(factory.SIMULATED, "simulated") == factory.SIMULATED, "its name says so"
    assert relabelling.marked("Ada", "simulated") == "Ada (simulated)"
    assert relabelling.marked("net", "machine") == "net (model)"
    assert relabelling.marked("Ada", "human") == "Ada"


def test_who_said_what_is_hidden_until_it_is_asked_for(annotated: Config, open_app: Open) -> None:
    app = open_app(annotated.root, "agreement", dataset=NOISY, agree="disputed")
    said = fine(app)
    assert "disputed images of Digits noisy (control, relabelled), the most contested first" in said
    assert "annotators answer differently, and of " in said
    assert "Ada" not in said
    app = open_app(annotated.root, "agreement", dataset=NOISY, agree="disputed", who="shown")
    assert "Ada Núñez" in fine(app)
    assert "<b>" not in fine(app).replace(r"\<b\>", ""), "a name is text"


def test_refining_needs_a_name(annotated: Config, open_app: Open) -> None:
    app = open_app(annotated.root, "agreement", dataset=NOISY, agree="refine")
    fine(app)
    assert [field.label for field in app.text_input] == ["Name", "PIN"]


def test_relabelled_says_what_became_of_every_image(annotated: Config, open_app: Open) -> None:
    app = open_app(annotated.root, "relabelled", dataset=NOISY)
    said = fine(app)
    rows = _changes(annotated)
    assert f"Of **{len(rows)}** annotated images" in said
    assert f"{int(rows['disputed'].sum())} are still disputed" in said
    assert "2 annotators" in said
    for flag in ("changed", "gained", "lost", "empty", "disputed", "refined"):
        app = open_app(annotated.root, "relabelled", dataset=NOISY, changed=flag)
        fine(app)
        shown = [b.key for b in app.button if str(b.key).startswith("trail:")]
        assert {key.removeprefix("trail:") for key in shown} == set(rows.loc[rows[flag], "sample_id"])


def test_the_trail_of_an_image_leads_from_its_label_to_the_consensus(annotated: Config, open_app: Open) -> None:
    ids = sorted(_changes(annotated)["sample_id"])
    said = fine(open_app(annotated.root, "relabelled", dataset=NOISY, sample=ids[0]))
    assert "True: **" in said
    assert r"Ada Núñez, refining" in said
    assert "taken back or replaced" not in said
    said = fine(open_app(annotated.root, "relabelled", dataset=NOISY, sample=ids[2]))
    assert "taken back or replaced" in said
    said = fine(open_app(annotated.root, "relabelled", dataset=NOISY, sample=ids[5]))
    assert "alert" in said
    assert "<script>" not in said


def test_accuracies_by_given_labels_and_by_the_consensus(annotated: Config, open_app: Open) -> None:
    app = open_app(annotated.root, "relabelled", dataset=NOISY, about="accuracy")
    assert "models that propose the labels change by" in fine(app)
    table = app.dataframe[0].value
    metrics = db.query(
        _source(annotated),
        "SELECT * FROM metrics WHERE dataset = ? AND subset = 'annotated' AND metric = 'any_of' AND "
        "label_source = 'consensus' AND condition = 'clean'",
        [NOISY],
    )
    assert sorted(table["By the consensus, %"]) == sorted((100 * metrics["value"]).round(1))
    assert (table["Proposes"] == "yes").sum() == len(factory.MEMBERS) + 1


def test_rules_stand_beside_the_truth(annotated: Config, open_app: Open) -> None:
    app = open_app(annotated.root, "relabelled", dataset=MOSAIC, about="rules")
    assert "which is known to be true" in fine(app)
    assert app.dataframe[0].value["Rule"].tolist() == ["Union", "Intersection", "Majority", "Dawid and Skene"]


@pytest.mark.parametrize("page", ["agreement", "relabelled"])
def test_without_annotations_a_page_says_where_there_are_some(
    config: Config, annotated: Config, open_app: Open, page: str
) -> None:
    said = fine(open_app(annotated.root, page, dataset="digits"))
    assert "There are votes on" in said
    fine(open_app(config.root, page))
    for about in ("accuracy", "rules", "pending"):
        fine(open_app(config.root, page, about=about))
    for agree in ("disputed", "refine"):
        fine(open_app(config.root, page, agree=agree))


def test_pending_votes_are_held_against_what_there_is(own: Config, open_app: Open) -> None:
    said = fine(open_app(own.root, "relabelled", dataset="digits", about="pending"))
    assert "No votes on Digits are waiting" in said
    source, store = _source(own), votes.connect(own)
    samples = db.images(source, "digits")
    known = votes.Known("now", dict.fromkeys(samples.ids, "digits"), {"digits": 10})
    wrong = [(one, (label + 1) % 10) for one, label in zip(samples.ids[:20], samples.labels[:20].tolist(), strict=True)]

    def answers(new: int) -> tuple[votes.Answer, ...]:
        return votes.Answer(new, "yes", 1), votes.Answer((new + 9) % 10, "no", 2)

    for who in ("Eve", "Eva"):
        made = [
            votes.Submission(str(uuid.uuid4()), one, "annotate", answers(c), False, "", 5, "now", "s")
            for one, c in wrong
        ]
        assert all(receipt.stored for receipt in votes.record(store, votes.Annotator(who), made, known))
    app = open_app(own.root, "relabelled", dataset="digits", about="pending")
    said = fine(app)
    assert "What 2 annotators said of 20 images is not in these results yet: the labels of **20** would change." in said
    assert [block.value for block in app.code] == [whatif.COMMANDS]
    table = app.dataframe[0].value.set_index("Model")
    labels = pd.Series(dict(zip(samples.ids, samples.labels.tolist(), strict=True)))
    labels.update(pd.Series(dict(wrong)))
    answers = factory.predictions(own, "digits").query("condition == 'clean' and model == 'supervised-cnn'")
    right = (answers["pred"].to_numpy() == labels[answers["sample_id"]].to_numpy()).mean()
    assert table.loc["Supervised CNN", "Then, %"] == round(100 * right, 1)
    assert table.loc["Supervised CNN", "To"] < 0
    assert len(app.dataframe) > 1, "gaps to the sets that are held against it"


def test_votes_that_these_results_cannot_hold_are_left_out_and_said(own: Config, open_app: Open) -> None:
    """Of an image, and of a class, that other results had."""
    store, known = (
        votes.connect(own),
        votes.Known("before", dict.fromkeys([f"{NOISY}/gone", f"{NOISY}/00002"], NOISY), {NOISY: 99}),
    )
    for who, said in (("Eve", "yes"), ("Eva", "no")):
        answers = (votes.Answer(70, said, 1), votes.Answer(1, "yes", 2))
        made = [
            votes.Submission(str(uuid.uuid4()), one, "annotate", answers, False, "", 5, "before", "s")
            for one in known.dataset_of
        ]
        assert all(receipt.stored for receipt in votes.record(store, votes.Annotator(who), made, known))
    for view in ({"agree": "disputed"}, {"agree": "refine"}):
        said = fine(open_app(own.root, "agreement", dataset=NOISY, **view))
        assert "6 events are about images or classes that these results do not have, and are left out." in said
    assert "are left out" in fine(open_app(own.root, "relabelled", dataset=NOISY, about="pending"))


def test_imported_votes_of_machines_are_votes_here_too(own: Config) -> None:
    path = own.results / "ballots.parquet"
    rows = [("optdigits/00000", 3, "their/net", "machine", False, 1, 0, 0)]
    rows += [("optdigits/00000", 3, "pixels", "machine", False, 0, 1, 0)]
    both = pd.concat([tables.read("ballots", path), pd.DataFrame(rows, columns=BALLOT)])
    tables.write("ballots", both, path)
    database.run(own)
    found = whatif.ballots(_source(own), own, events.read(own.root / "nowhere"), "optdigits")
    assert found["annotator"].tolist() == ["their/net"], "models vote anew, by what params.yaml says"


def test_the_consensus_as_files(annotated: Config, open_app: Open) -> None:
    app = open_app(annotated.root, "relabelled", dataset=NOISY)
    fine(app)
    from bench.relabel import export

    source = _source(annotated)
    images = db.images(source, NOISY)
    given = export.Labelled(
        NOISY,
        "consensus",
        pd.DataFrame({"sample_id": images.ids, "label": images.labels}),
        pd.DataFrame({"class_id": range(10), "name": [str(k) for k in range(10)]}),
        db.query(source, "SELECT * FROM labels WHERE source = 'consensus' AND sample_id LIKE 'digits-noisy/%'"),
        db.consensus(source, NOISY),
        ".png",
    )
    made = json.loads(export.refined(given))
    assert len(made) == len(images.ids)
    assert sum(not labels for labels in made.values()) == int(_changes(annotated)["empty"].sum())
    assert len(pd.read_parquet(io.BytesIO(export.parquet(given)))) == sum(map(len, made.values()))


def test_proposals_say_how_many_right_labels_they_hold(annotated: Config, open_app: Open) -> None:
    said = fine(open_app(annotated.root, "relabel", dataset=NOISY))
    row = db.proposal_recall(_source(annotated)).query("role.str.contains('configured')", engine="python").iloc[0]
    assert f"**{100 * row['recall']:.1f} %" in said
    assert f"of the {row['n_labels']} labels of {row['n_images']} images" in said


def test_disputed_images_are_those_on_which_people_differ_or_that_are_undecided(annotated: Config) -> None:
    committed = events.read(annotated.data / events.FOLDER)
    source = _source(annotated)
    ballots = db.query(source, "SELECT * FROM ballots WHERE starts_with(sample_id, ?)", [f"{NOISY}/"])
    decided = db.consensus(source, NOISY)
    found = relabelling.disputed(ballots, decided)
    judged = events.judged(committed)
    people = set(judged.loc[judged["kind"] == "human", "sample_id"])
    judged = judged.loc[(judged["kind"] == "human") | ~judged["sample_id"].isin(people)]
    judged = judged.loc[judged["sample_id"].str.startswith(f"{NOISY}/")]
    sets = judged.groupby(["sample_id", "annotator"]).apply(
        lambda rows: frozenset(rows.query("action != 'no'")["class_id"])
    )
    unsure = set(judged.loc[judged["action"] == "unsure", "sample_id"])
    differ = {one for one, mine in sets.groupby("sample_id") if mine.nunique() > 1 or (one in unsure and len(mine) > 1)}
    undecided = set(decided.loc[decided["state"] == "disputed", "sample_id"])
    assert set(found.loc[found["differ"], "sample_id"]) == differ
    assert set(found.loc[found["open"], "sample_id"]) == undecided
    assert set(found["sample_id"]) == differ | undecided
    assert undecided - differ or differ - undecided


def test_where_nobody_says_yes_no_image_has_a_label() -> None:
    decided = pd.DataFrame({"sample_id": ["d/0", "d/1"], "class_id": [3, 4], "state": ["no", "disputed"]})
    decided = decided.assign(method="majority", basis="human")
    rows = relabelling.changes(decided, pd.DataFrame({"sample_id": ["d/0", "d/1", "d/2"], "label": [3, 4, 5]}))
    assert rows["now"].tolist() == [(), ()]
    assert rows[["empty", "lost", "disputed"]].to_numpy().tolist() == [[True, True, False], [False, False, True]]


BALLOT = ["sample_id", "class_id", "annotator", "kind", "pooled", "n_yes", "n_no", "n_unsure"]


def decisions(rows: list[tuple[str, int, str, str, bool, int, int, int]], original: dict[str, int]) -> pd.DataFrame:
    """The disputed ones of ballots; original: the given label of each image."""
    ballots = pd.DataFrame(rows, columns=BALLOT)
    samples = pd.DataFrame({"sample_id": list(original), "label": list(original.values())})
    nobody = pd.DataFrame(columns=["sample_id", "class_id", "annotator", "action"])
    return relabelling.disputed(ballots, consensus.decide(ballots, nobody, samples, Consensus()))


def test_refining_offers_every_kind_of_what_stays_undecided() -> None:
    ada, model, counts = ("Ada", "human", False), ("net", "machine", False), ("pool", "human", True)
    found = decisions(
        [
            ("d/0", 1, *ada, 0, 0, 1),  # one annotator, unsure
            ("d/1", 1, *ada, 1, 0, 0), ("d/1", 1, *model, 0, 1, 0),  # a tie with a model
            ("d/2", 1, *counts, 5, 5, 0),  # a tie of counts
            ("d/3", 1, *ada, 1, 0, 0), ("d/3", 1, *model, 1, 0, 0),
            ("d/4", 2, *ada, 1, 0, 0),  # the given label was not judged
            ("d/5", 1, *ada, 1, 0, 0), ("d/5", 7, *ada, 0, 0, 1),  # unsure of a label that was searched for
        ],
        {f"d/{i}": 1 for i in range(6)},
    )  # fmt: skip
    assert set(found["sample_id"]) == {"d/0", "d/1", "d/2", "d/4", "d/5"}
    assert found["open"].all()
    assert not found["differ"].any()
    said = {key: relabelling.said_of(rows) for key, rows in found.groupby(["sample_id", "class_id"])}
    assert said["d/1", 1] == [("Ada", "yes"), ("net (model)", "no")]
    assert said["d/2", 1] == [("pool", "5 yes, 5 no")]
    assert said["d/4", 1] == []
    assert said["d/5", 7] == [("Ada", "unsure")]


def _source(config: Config) -> db.Source:
    found = db.source_of(config.results / database.FILE)
    assert found is not None
    return found


def _changes(config: Config) -> pd.DataFrame:
    source = _source(config)
    images = db.images(source, NOISY)
    return relabelling.changes(
        db.consensus(source, NOISY), pd.DataFrame({"sample_id": images.ids, "label": images.labels})
    )
