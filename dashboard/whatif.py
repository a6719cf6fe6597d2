"""What votes that are not committed yet would change, before anything is published (bench/relabel/whatif.py)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import streamlit as st

from bench.config import Config
from bench.evaluate.correctness import CONSENSUS, ORIGINAL
from bench.relabel import consensus, events, votes, whatif
from bench.store import bits
from dashboard import annotate, db, parts, plots, relabelling, terms
from dashboard.frames import Frame, records

COMMANDS = """bench annotate commit
dvc repro"""


@dataclass(frozen=True)
class Now:
    """What is known of the votes on a set at this moment, committed or not. Shared by all sessions: never changed.

    said: table `votes`, without events about images or classes that these results lack, of which there are `n_foreign`;
    ballots: BALLOT, with imported votes and models that vote; decided: table `consensus`; disputed: see
    dashboard/relabelling.py.
    """

    said: Frame
    n_foreign: int
    ballots: Frame
    decided: Frame
    disputed: Frame


def now(source: db.Source, config: Config, dataset: str, store: votes.Store) -> Now:
    """The votes on a set at this moment, by the rule of params.yaml; read again where events were added."""
    return _now(source, dataset, store.url, votes.latest(store), config.consensus.model_dump_json(), config, store)


@st.cache_resource(max_entries=2, show_spinner=False)
def _now(
    source: db.Source,
    dataset: str,
    url: str,
    latest: tuple[int, int],
    settings: str,
    _config: Config,
    _store: votes.Store,
) -> Now:
    every: Frame = votes.events(_store, dataset=dataset)
    samples, n_classes = db.test_images(source, dataset), len(db.catalogue(source).class_names(dataset))
    said = every.loc[every["sample_id"].isin(samples["sample_id"]) & ~(every["class_id"] >= n_classes).fillna(False)]
    everyone = ballots(source, _config, said, dataset)
    refined = events.judged(said, (events.REFINE,))
    decided = consensus.decide(everyone, refined, samples, _config.consensus)
    return Now(said, len(every) - len(said), everyone, decided, relabelling.disputed(everyone, decided))


def pending(source: db.Source, said: Frame) -> Frame:
    """The events (table `votes`) that these results do not know yet."""
    return said.loc[~said["event_id"].isin(db.event_ids(source))]


def ballots(source: db.Source, config: Config, said: Frame, dataset: str) -> Frame:
    """All ballots on a set: of its events `said`, of imported votes, and of the models that vote."""
    mine = consensus.of_events(said)
    sql = """SELECT b.* FROM ballots b JOIN samples s USING (sample_id) WHERE s.dataset = ?
             AND b.annotator NOT IN (SELECT annotator FROM votes UNION SELECT model FROM models) ORDER BY ALL"""
    rows = [mine, db.query(source, sql, [dataset])]
    pairs = consensus.counted(pd.concat(rows))[["sample_id", "class_id"]].drop_duplicates()
    row = pd.Index(db.images(source, dataset).ids).get_indexer(pd.Index(pairs["sample_id"]))
    for model in config.consensus.machines:
        found = db.codes_of(source, dataset, db.PREDICTED, model)
        if found.models:
            rows.append(consensus.machine(pairs, model, found.codes[0, row].astype(np.int64)))
    return pd.concat(rows, ignore_index=True)


def labels_now(source: db.Source, dataset: str) -> Frame:
    """sample_id and class_id of the consensus as these results have it, else of the original labels."""
    name = CONSENSUS if CONSENSUS in db.catalogue(source).sources.get(dataset, []) else ORIGINAL
    sql = """SELECT l.sample_id, l.class_id FROM labels l JOIN samples s USING (sample_id)
             WHERE s.dataset = ? AND s.split = 'test' AND l.source = ? ORDER BY ALL"""
    return db.query(source, sql, [dataset, name])


def held_against(source: db.Source, dataset: str, models: tuple[str, ...]) -> list[whatif.Other]:
    """The original that a set is held against, or, of an original, the sets that are held against it.

    Each with those of the models that answered to it too.
    """
    catalogue = db.catalogue(source)
    against = str(catalogue.datasets.at[dataset, "replicates"])
    others = [(against, True)] if against else [(one, False) for one in catalogue.held_against(dataset)]
    out = []
    for name, is_original in others:
        block, origins = db.block(source, name, ORIGINAL), db.images(source, name).origins
        here, rows = block.some(models)
        if len(here):
            right = np.stack([bits.unpack(row, block.n) for row in rows])
            out.append(whatif.Other(name, tuple(here), right, block.labelled, origins, is_original))
    return out


def show(source: db.Source, config: Config, dataset: str, store: votes.Store) -> None:
    """The part of the page Relabelled that holds pending votes against what is released."""
    catalogue, known = db.catalogue(source), now(source, config, dataset, store)
    waiting = pending(source, known.said)
    name = catalogue.dataset_name(dataset)
    if waiting.empty:
        st.markdown(f"No votes on {name} are waiting: what was saved is part of these results.")
        foreign(known)
        st.caption("Votes that are saved on the page Annotate show here at once, before they are committed.")
        return
    images, decided = db.images(source, dataset), known.decided
    after_labels = consensus.labels_of(decided, db.test_images(source, dataset))
    before_labels = labels_now(source, dataset)

    pred = db.codes(source, dataset, db.PREDICTED)
    models = tuple(model for model in pred.models if model in catalogue.names)
    answers = pred.codes[[pred.models.index(model) for model in models]].astype(np.int64)
    n_classes = len(catalogue.class_names(dataset))
    before, after = (
        whatif.judge(answers, images.ids, whatif.label_sets(labels, n_classes))
        for labels in (before_labels, after_labels)
    )
    table: Frame = whatif.accuracies(config, models, before, after, dataset, images.origins)
    table = db.with_models(table, source)
    foreign(known)
    summary(catalogue, config, waiting, decided, images.ids, before, after, changed(before_labels, after_labels), table)
    st.caption(
        f"Accuracies are over all {len(images.ids):,} images of {name} that have a label: "
        f"{int(before.labelled.sum()):,} now, {int(after.labelled.sum()):,} then, by any of its labels. Then: by the "
        f"rule “{terms.RULES[config.consensus.rule]}” and what else params.yaml says at this moment."
    )
    drawn(table)
    ranks(table, dataset)
    for other in held_against(source, dataset, models):
        common = [models.index(model) for model in other.models]
        was, is_now = (replace(judged, right=judged.right[common]) for judged in (before, after))
        gaps(catalogue, config, was, is_now, images.origins, other, dataset)
    st.markdown("**To make it so**")
    whole = annotate.committed(config).issuperset(waiting["event_id"])
    st.code("dvc repro" if whole else COMMANDS, language="bash")


def foreign(known: Now) -> None:
    """Say how much of what was said is left out here."""
    if known.n_foreign:
        st.caption(
            f"{known.n_foreign:,} events are about images or classes that these results do not have, and are left out."
        )


def changed(before: Frame, after: Frame) -> set[str]:
    """Images whose label sets differ (frames: sample_id, class_id)."""
    was, is_now = (set(zip(f["sample_id"], f["class_id"], strict=True)) for f in (before, after))
    return {sample_id for sample_id, _ in was ^ is_now}


def summary(
    catalogue: db.Catalogue,
    config: Config,
    waiting: Frame,
    decided: Frame,
    ids: np.ndarray,
    before: whatif.Judged,
    after: whatif.Judged,
    other_labels: set[str],
    table: Frame,
) -> None:
    """What is waiting, and what it comes to, in sentences."""
    among = np.isin(ids.astype(str), decided["sample_id"].unique().astype(str))
    confidence = config.statistics.confidence
    shares = [whatif.multi_label_share(judged, among, confidence) for judged in (before, after)]
    people, seen = waiting["annotator"].nunique(), waiting["sample_id"].nunique()
    left = len(consensus.undecided(decided))
    st.markdown(
        f"##### What {people} annotator{'s' * (people != 1)} said of {seen:,} image{'s' * (seen != 1)} is not in these "
        f"results yet: the labels of **{len(other_labels):,}** would change."
    )
    was, is_now = (terms.percent(share, low, high) for share, low, high, _ in shares)
    lines = [f"Of the {shares[0][3]:,} images with votes, {is_now} would have several labels (now {was})."]
    if left:
        lines.append(f"{left:,} stay disputed, and keep their original label until they are refined.")
    sure = table.loc[(table["ci_low"] > 0) | (table["ci_high"] < 0)]
    moved = table.loc[table["rank_before"] != table["rank_after"]]
    lines.append(
        f"For {len(sure)} of {len(table)} models the {terms.level(confidence)} interval of the change of accuracy "
        f"leaves out 0, and {len(moved)} would have another rank."
    )
    st.markdown(" ".join(lines), help=terms.HELP["what_if"])


def drawn(table: Frame) -> None:
    """The change of every model's accuracy."""
    frame = table.sort_values("change_pp", ascending=False)
    parts.figure(
        plots.changes(frame, "Change of accuracy, percentage points"),
        frame[["model", "name", "family", "before", "after", "change_pp", "ci_low", "ci_high"]],
        "what-if",
        "Change of the accuracy of every model by the votes that are waiting",
    )


def ranks(table: Frame, dataset: str) -> None:
    """Accuracies and places before and after."""

    def place(row: object, when: str) -> str:
        low, high = getattr(row, f"rank_low_{when}"), getattr(row, f"rank_high_{when}")
        return f"{getattr(row, f'rank_{when}')}" + (f" ({low} to {high})" if low != high else "")

    rows = list(records(table.sort_values("after", ascending=False)))
    shown = pd.DataFrame(
        {
            "Model": [row.name for row in rows],
            "Accuracy now, %": [round(100 * row.before, 1) for row in rows],
            "Then, %": [round(100 * row.after, 1) for row in rows],
            "Change, pp": [round(row.change_pp, 2) for row in rows],
            "From": [round(row.ci_low, 2) for row in rows],
            "To": [round(row.ci_high, 2) for row in rows],
            "Rank now": [place(row, "before") for row in rows],
            "Rank then": [place(row, "after") for row in rows],
        }
    )
    parts.table(shown, f"what-if-{dataset}", alt="Accuracies and ranks before and after")


def gaps(
    catalogue: db.Catalogue,
    config: Config,
    before: whatif.Judged,
    after: whatif.Judged,
    origins: np.ndarray,
    other: whatif.Other,
    dataset: str,
) -> None:
    """The gap of every model to (or from) another set, which keeps its original labels."""
    table: Frame = whatif.gaps(config, before, after, origins, other)
    pair = (other.dataset, dataset) if other.is_original else (dataset, other.dataset)
    title = " → ".join(catalogue.dataset_name(one) for one in pair)
    rows = list(records(table.assign(name=table["model"].map(catalogue.names)).sort_values("gap_after_pp")))
    shown = pd.DataFrame(
        {
            "Model": [row.name for row in rows],
            "Gap now, pp": [round(row.gap_before_pp, 1) for row in rows],
            "Then, pp": [round(row.gap_after_pp, 1) for row in rows],
            "From": [round(row.ci_low, 1) for row in rows],
            "To": [round(row.ci_high, 1) for row in rows],
        }
    )
    with st.expander(f"Gaps {title}"):
        parts.table(shown, f"what-if-gap-{other.dataset}-{dataset}", alt=f"Gaps {title} before and after")
