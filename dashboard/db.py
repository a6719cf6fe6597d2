"""The only SQL of the app: small frames out of one snapshot's database.

A database is read through an in-memory connection with the file attached read-only, keyed by (path, mtime, size): a
file that was replaced is a new key, hence a new connection. Every call uses a cursor of its own, so that sessions never
share one. Values go in as parameters only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import streamlit as st
import yaml

from bench import schemas
from bench.store import bits
from dashboard import terms
from dashboard.findings import Pair
from dashboard.frames import Frame, records

NEEDED = (
    "datasets",
    "classes",
    "samples",
    "images",
    "labels",
    "models",
    "predictions",
    "uncertainty",
    "metrics",
    "replication",
    "comparisons",
    "ranks",
    "representations",
    "proposals",
    "neighbours",
    "subsets",
    "subset_members",
    "bits",
    "valid",
    "snapshot",
)
"""Tables that the pages read."""

ORIGINAL = "original"


@dataclass(frozen=True)
class Source:
    """One state of one database file: what connections and cached frames are keyed by."""

    path: str
    mtime_ns: int
    size: int


@dataclass(frozen=True)
class Catalogue:
    """What there is to choose from, in the order in which it is shown."""

    models: Frame
    """model, name, family, method, ssl_family, arch, params_m, source; in the order of families, then by name"""
    datasets: Frame
    """dataset (index), name, title, about, role, replicates (empty: none), synthetic, n_test, label_space, ..."""
    classes: dict[str, dict[int, str]]
    """label space -> class id -> name"""
    subsets: Frame
    """subset, dataset, about, n"""
    sources: dict[str, list[str]]
    """dataset -> its label sources, the original first"""
    corruptions: list[str]
    attacks: list[str]

    @property
    def families(self) -> list[str]:
        present = set(self.models["family"])
        return [family for family in terms.FAMILY if family in present]

    def dataset_name(self, dataset: str) -> str:
        return str(self.datasets.at[dataset, "name"])

    def class_names(self, dataset: str) -> dict[int, str]:
        return self.classes[str(self.datasets.at[dataset, "label_space"])]

    def model_name(self, model: str) -> str:
        return dict(zip(self.models["model"], self.models["name"], strict=True)).get(model, model)

    def subsets_of(self, dataset: str) -> list[str]:
        return ["all", *self.subsets.loc[self.subsets["dataset"] == dataset, "subset"]]

    def held_against(self, original: str) -> list[str]:
        """Sets that are compared with `original`, replications and shifted ones first."""
        mine = self.datasets.loc[self.datasets["replicates"] == original]
        order = {"replication": 0, "shifted": 1, "composite": 2, "control": 3}
        return mine.index[np.argsort([order[role] for role in mine["role"]], kind="stable")].tolist()

    def null_halves(self) -> tuple[str, str] | None:
        """Two halves of one set: a control that is held against a control. None where there are none."""
        for one, against in self.datasets["replicates"].items():
            if against and self.datasets.at[against, "role"] == "control":
                return str(against), str(one)
        return None

    def choose(self, families: Sequence[str]) -> list[str]:
        """Names of the models of some families; of none means of all."""
        keep = self.models["family"].isin(families) if families else np.ones(len(self.models), bool)
        return self.models.loc[keep, "model"].tolist()


def source_of(path: Path) -> Source | None:
    """The key of a database file as it is now; None where there is no such file."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return Source(str(path), stat.st_mtime_ns, stat.st_size)


@st.cache_resource(max_entries=4, show_spinner=False, on_release=lambda connection: connection.close())
def _connection(source: Source) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    quoted = source.path.replace("'", "''")
    connection.execute(f"ATTACH '{quoted}' AS snap (READ_ONLY)")
    return connection


def query(source: Source, sql: str, parameters: Sequence[object] = ()) -> Frame:
    """Run one statement on a cursor of its own and return all rows."""
    with _connection(source).cursor() as cursor:
        cursor.execute("USE snap")
        return cursor.execute(sql, list(parameters)).df()


def _marks(values: Sequence[object]) -> str:
    """Placeholders of an IN list; for no values one that nothing equals."""
    return ", ".join("?" * len(values)) or "NULL"


@st.cache_data(max_entries=8, show_spinner=False)
def fault(source: Source) -> str:
    """What is wrong with a database, in words; empty where it can be shown."""
    try:
        found = query(source, "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = 'snap'")
    except duckdb.Error:
        return "it cannot be read as a database"
    if found.empty:
        return "it is empty"
    columns = found.groupby("table_name")["column_name"].agg(set).to_dict()
    for table in NEEDED:
        lacking = set(schemas.TABLES[table].columns) - columns.get(table, set())
        if table not in columns:
            return f"it has no table `{table}`"
        if lacking:
            return f"its table `{table}` has no column `{sorted(lacking)[0]}`: another version wrote it"
    for table in ("models", "datasets", "metrics"):
        if query(source, f"SELECT 1 FROM {table} LIMIT 1").empty:
            return f"its table `{table}` is empty"
    return ""


def is_outdated(source: Source, hashes: Path) -> bool:
    """Whether the hashes in results/database.json are not those of the Parquet that the database was built from."""
    return hashes.is_file() and hashes.read_text() != snapshot(source).get("hashes")


@st.cache_data(max_entries=8, show_spinner=False)
def snapshot(source: Source) -> dict[str, str]:
    """What produced the database: key -> value."""
    frame = query(source, "SELECT key, value FROM snapshot")
    return dict(zip(frame["key"], frame["value"], strict=True))


@st.cache_data(max_entries=8, show_spinner=False)
def statistics(source: Source) -> dict[str, float]:
    """`alpha`, `confidence` and `bootstrap` that the figures were made with."""
    said = yaml.safe_load(snapshot(source).get("params", "")) or {}
    return {"alpha": 0.05, "confidence": 0.95, "bootstrap": 1000} | said.get("statistics", {})


@st.cache_resource(max_entries=8, show_spinner=False)
def catalogue(source: Source) -> Catalogue:
    """Everything there is to choose from. Not copied on each use, so nobody writes into it."""
    models = query(source, "SELECT * FROM models")
    order = {family: i for i, family in enumerate(terms.FAMILY)}
    models = models.iloc[np.lexsort((models["model"], models["family"].map(order)))].reset_index(drop=True)
    names = [terms.model_name(*row) for row in records(models[["model", "method", "arch"]])]
    repeated = pd.Series(names).duplicated(keep=False).to_numpy()
    models["name"] = np.where(repeated, models["model"], names)
    datasets = query(source, "SELECT * REPLACE (coalesce(replicates, '') AS replicates) FROM datasets")
    ranks = {role: i for i, role in enumerate(schemas.ROLES)}
    datasets = datasets.iloc[np.lexsort((datasets["dataset"], datasets["role"].map(ranks)))].set_index("dataset")
    rows = records(datasets[["title", "role", "synthetic"]])
    datasets["name"] = [terms.dataset_name(*row) for row in rows]
    classes = query(source, "SELECT label_space, class_id, name FROM classes ORDER BY ALL")
    sources = query(source, "SELECT dataset, label_source FROM valid ORDER BY label_source <> 'original', label_source")
    conditions = query(source, "SELECT DISTINCT condition FROM metrics ORDER BY ALL")["condition"]
    named = {"corruption": [], "attack": []}
    for kind, *rest in conditions.str.split(":"):
        if kind in named and rest[0] not in named[kind]:
            named[kind].append(rest[0])
    return Catalogue(
        models=models,
        datasets=datasets,
        classes={
            space: dict(zip(g["class_id"], g["name"], strict=True)) for space, g in classes.groupby("label_space")
        },
        subsets=query(source, "SELECT * FROM subsets ORDER BY dataset, subset"),
        sources=sources.groupby("dataset")["label_source"].agg(list).to_dict(),
        corruptions=named["corruption"],
        attacks=named["attack"],
    )


def _with_models(frame: Frame, source: Source) -> Frame:
    """Adds name, family and arch; drops rows of models that are not listed."""
    models = catalogue(source).models[["model", "name", "family", "method", "ssl_family", "arch"]]
    return frame.merge(models, on="model")


@st.cache_data(max_entries=128, show_spinner=False)
def accuracies(source: Source, subset: str, label_source: str, models: tuple[str, ...]) -> Frame:
    """Accuracy on clean images of every set that has the subset and label source: one row a model and dataset.

    Columns: model, name, family, method, ssl_family, arch, dataset, label_source, value, ci_low, ci_high, n, rank,
    rank_low, rank_high. Sets without the label source are scored by their original labels. Ranks only for `all`.
    """
    frame = query(
        source,
        f"""
        SELECT m.model, m.dataset, m.label_source, m.value, m.ci_low, m.ci_high, m.n, r.rank, r.rank_low, r.rank_high
        FROM metrics m LEFT JOIN ranks r
          ON ? = 'all' AND r.model = m.model AND r.dataset = m.dataset AND r.condition = m.condition
         AND r.label_source = m.label_source
        WHERE m.condition = 'clean' AND m.subset = ? AND m.model IN ({_marks(models)})
          AND m.metric = CASE WHEN m.label_source = 'original' THEN 'top1' ELSE 'any_of' END
          AND (m.label_source = ? OR (m.label_source = 'original' AND m.dataset NOT IN (
                SELECT dataset FROM valid WHERE label_source = ?)))
        ORDER BY m.dataset, m.value DESC, m.model
        """,
        [subset, subset, *models, label_source, label_source],
    )
    return _with_models(frame, source)


@st.cache_data(max_entries=128, show_spinner=False)
def gaps(source: Source, original: str, other: str, scoring: str, models: tuple[str, ...]) -> Frame:
    """Gap of each model under rule R0: model, name, family, arch, gap_pp, ci_low, ci_high, label_pp, n_original, ..."""
    frame = query(
        source,
        f"""
        SELECT model, original, replication, scoring, labels_original, labels_replication, gap_pp, ci_low, ci_high,
               label_pp, error_ratio, n_original, n_replication
        FROM replication
        WHERE original = ? AND replication = ? AND scoring = ? AND rule = 'R0' AND model IN ({_marks(models)})
        ORDER BY gap_pp, model
        """,
        [original, other, scoring, *models],
    )
    return _with_models(frame, source)


@st.cache_data(max_entries=16, show_spinner=False)
def scorings(source: Source, original: str, other: str) -> list[str]:
    """How a pair of sets is scored: top1, and any_of where one of them has several labels an image."""
    sql = "SELECT DISTINCT scoring FROM replication WHERE original = ? AND replication = ? ORDER BY scoring DESC"
    return query(source, sql, [original, other])["scoring"].tolist()


@st.cache_data(max_entries=128, show_spinner=False)
def under(source: Source, kind: str, name: str, models: tuple[str, ...]) -> Frame:
    """Figures under one corruption (top1) or attack (robust accuracy) by its level: severity or eps in 1/255.

    Columns: those of the model, dataset, level, value, ci_low, ci_high, n. Level 0 of a corruption is the clean set.
    """
    metric, subset = ("top1", "all") if kind == "corruption" else ("robust_accuracy", "attack")
    frame = query(
        source,
        f"""
        SELECT model, dataset, CAST(string_split(condition, ':')[3] AS DOUBLE) AS level, value, ci_low, ci_high, n
        FROM metrics
        WHERE starts_with(condition, ?) AND metric = ? AND subset = ? AND label_source = 'original'
          AND model IN ({_marks(models)})
        UNION ALL
        SELECT model, dataset, 0, value, ci_low, ci_high, n
        FROM metrics
        WHERE condition = 'clean' AND metric = 'top1' AND subset = ? AND label_source = 'original'
          AND model IN ({_marks(models)})
          AND (model, dataset) IN (SELECT (model, dataset) FROM metrics WHERE starts_with(condition, ?) AND metric = ?)
        ORDER BY model, dataset, level
        """,
        [f"{kind}:{name}:", metric, subset, *models, subset, *models, f"{kind}:{name}:", metric],
    )
    return _with_models(frame, source)


@st.cache_resource(max_entries=32, show_spinner=False)
def pairs(source: Source, dataset: str, label_source: str = ORIGINAL) -> dict[tuple[str, str], Pair]:
    """All pairs of models (a, b) on the clean images of a set, each both ways round: what a minus b is."""
    frame = query(
        source,
        """
        SELECT c.model_a, c.model_b, c.delta_pp, c.ci_low, c.ci_high, c.p_holm, v.n
        FROM comparisons c JOIN (
          SELECT dataset, label_source, CAST(sum(bit_count(CAST(mask AS BIT))) AS INTEGER) AS n FROM valid GROUP BY ALL
        ) v USING (dataset, label_source)
        WHERE c.dataset = ? AND c.label_source = ? AND c.condition = 'clean'
        """,
        [dataset, label_source],
    )
    out = {}
    for row in records(frame):
        found = Pair(row.model_a, row.model_b, row.delta_pp, row.ci_low, row.ci_high, row.n, row.p_holm)
        out |= {(found.a, found.b): found, (found.b, found.a): found.turned()}
    return out


@st.cache_data(max_entries=32, show_spinner=False)
def robust_pair(source: Source, a: str, b: str, condition: str) -> tuple[int, int, int]:
    """How many attacked images only model a, and only b, gets right before and after the attack; and of how many."""
    row = query(
        source,
        """
        WITH robust AS (
          SELECT t.sample_id, t.model, (t.pred = s.label AND c.pred = s.label) AS kept
          FROM predictions t
          JOIN samples s USING (sample_id)
          JOIN predictions c ON c.sample_id = t.sample_id AND c.model = t.model AND c.condition = 'clean'
          WHERE t.condition = ? AND t.model IN (?, ?)
        )
        SELECT count(*) FILTER (x.kept AND NOT y.kept), count(*) FILTER (y.kept AND NOT x.kept), count(*)
        FROM robust x JOIN robust y USING (sample_id) WHERE x.model = ? AND y.model = ?
        """,
        [condition, a, b, a, b],
    ).iloc[0]
    return int(row.iloc[0]), int(row.iloc[1]), int(row.iloc[2])


@st.cache_data(max_entries=32, show_spinner=False)
def heads(source: Source, models: tuple[str, ...]) -> Frame:
    """Heads on frozen features: probe, labels_per_class (0 = all), mean, lowest and highest accuracy over seeds, n."""
    frame = query(
        source,
        f"""
        SELECT model, probe, labels_per_class, avg(accuracy) AS value, min(accuracy) AS lowest,
               max(accuracy) AS highest, count(*) AS seeds, CAST(max(n) AS INTEGER) AS n,
               max(effective_rank) AS effective_rank, max(collapse_std) AS collapse_std
        FROM representations WHERE model IN ({_marks(models)})
        GROUP BY model, probe, labels_per_class ORDER BY model, probe, labels_per_class
        """,
        models,
    )
    return _with_models(frame, source)


@st.cache_data(max_entries=32, show_spinner=False)
def images_of(source: Source, dataset: str, label_source: str, models: tuple[str, ...]) -> Frame:
    """One row a test image of a set, in the order of sample_id; what the grid is filtered by.

    sample_id, label, n_right (models right under the label source; 0 where it has no label), n_models, n_answers
    (different answers), uncertainty (entropy in nats of the most certain source: the ensemble, else the mean of the
    models; NaN where unknown), n_labels (of the source), subsets are not in it.
    """
    frame = query(
        source,
        f"""
        WITH answers AS (
          SELECT sample_id, count(DISTINCT pred) AS n_answers FROM predictions
          WHERE dataset = ? AND condition = 'clean' AND model IN ({_marks(models)}) GROUP BY sample_id
        ), unsure AS (
          SELECT sample_id, avg(entropy_nats) AS every, avg(entropy_nats) FILTER (mutual_information IS NOT NULL) AS one
          FROM uncertainty WHERE dataset = ? AND condition = 'clean' GROUP BY sample_id
        ), named AS (
          SELECT sample_id, count(*) AS n_labels FROM labels WHERE source = ? GROUP BY sample_id
        )
        SELECT s.sample_id, s.label, coalesce(a.n_answers, 0) AS n_answers, coalesce(u.one, u.every) AS uncertainty,
               coalesce(n.n_labels, 0) AS n_labels
        FROM samples s LEFT JOIN answers a USING (sample_id) LEFT JOIN unsure u USING (sample_id)
        LEFT JOIN named n USING (sample_id)
        WHERE s.dataset = ? AND s.split = 'test' ORDER BY s.sample_id
        """,
        [dataset, *models, dataset, label_source, dataset],
    )
    right = correct(source, dataset, label_source, models)
    return frame.assign(n_right=right.sum(axis=0, dtype=np.int64), n_models=len(right))


@st.cache_data(max_entries=32, show_spinner=False)
def correct(source: Source, dataset: str, label_source: str, models: tuple[str, ...]) -> np.ndarray:
    """Who is right on which clean image: (M, N) bool, models by name, images by sample_id, from the bits."""
    frame = query(
        source,
        f"""
        SELECT n, correct FROM bits WHERE dataset = ? AND label_source = ? AND condition = 'clean'
          AND model IN ({_marks(models)}) ORDER BY model
        """,
        [dataset, label_source, *models],
    )
    rows = [bits.unpack(bytes(blob), n) for n, blob in zip(frame["n"], frame["correct"], strict=True)]
    n = query(source, "SELECT n FROM valid WHERE dataset = ? LIMIT 1", [dataset])["n"].sum()
    return np.stack(rows) if rows else np.zeros((0, int(n)), bool)


@st.cache_data(max_entries=64, show_spinner=False)
def members(source: Source, dataset: str, subset: str) -> frozenset[str]:
    """Ids of the images of a named subset of a set."""
    sql = "SELECT sample_id FROM subset_members JOIN samples USING (sample_id) WHERE subset = ? AND dataset = ?"
    return frozenset(query(source, sql, [subset, dataset])["sample_id"])


@st.cache_data(max_entries=64, show_spinner=False)
def pictures(source: Source, sample_ids: tuple[str, ...]) -> dict[str, tuple[bytes, str]]:
    """sample_id -> encoded thumbnail and its media type."""
    sql = f"SELECT sample_id, thumbnail, media_type FROM images WHERE sample_id IN ({_marks(sample_ids)})"
    frame = query(source, sql, sample_ids)
    return {row.sample_id: (bytes(row.thumbnail), row.media_type) for row in records(frame)}


def sample(source: Source, sample_id: str) -> dict[str, object] | None:
    """One test image: dataset, label, width, height, source_id; None where there is none of that id."""
    sql = "SELECT * FROM samples WHERE sample_id = ? AND split = 'test'"
    frame = query(source, sql, [sample_id])
    return None if frame.empty else {str(key): value for key, value in frame.iloc[0].to_dict().items()}


@st.cache_data(max_entries=64, show_spinner=False)
def labels_of(source: Source, sample_id: str) -> Frame:
    """Labels of one image: source, class_id; the original ones first."""
    sql = "SELECT source, class_id FROM labels WHERE sample_id = ? ORDER BY source <> 'original', source, class_id"
    return query(source, sql, [sample_id])


@st.cache_data(max_entries=64, show_spinner=False)
def answers(source: Source, sample_id: str) -> Frame:
    """Every model's answer to one clean image: pred, p_top1, p_true, entropy_nats, and the columns of the model."""
    frame = query(
        source,
        """
        SELECT p.model, p.pred, p.p_top1, p.p_true, u.entropy_nats FROM predictions p
        LEFT JOIN uncertainty u USING (model, dataset, condition, sample_id)
        WHERE p.sample_id = ? AND p.condition = 'clean'
        """,
        [sample_id],
    )
    order = {model: i for i, model in enumerate(catalogue(source).models["model"])}
    frame = _with_models(frame, source)
    return frame.sort_values("model", key=lambda column: column.map(order), ignore_index=True)


@st.cache_data(max_entries=64, show_spinner=False)
def neighbours(source: Source, sample_id: str) -> Frame:
    """The nearest images: rank, neighbour_id, similarity, model, label."""
    sql = """
        SELECT n.rank, n.neighbour_id, n.similarity, n.model, s.label FROM neighbours n
        JOIN samples s ON s.sample_id = n.neighbour_id WHERE n.sample_id = ? ORDER BY n.rank"""
    return query(source, sql, [sample_id])


@st.cache_data(max_entries=32, show_spinner=False)
def disputed(source: Source, dataset: str) -> Frame:
    """Disputed images of a set, the strongest doubt first: sample_id, label, given_score, best, best_score, proposer.

    `best` is the proposal with the highest score besides the given label.
    """
    return query(
        source,
        """
        WITH ranked AS (
          SELECT p.*, s.label FROM proposals p JOIN samples s USING (sample_id)
          JOIN subset_members m USING (sample_id) WHERE m.subset = 'disputed' AND s.dataset = ?
        )
        SELECT sample_id, any_value(label) AS label, any_value(proposer) AS proposer,
               max(score) FILTER (class_id = label) AS given_score,
               arg_max(class_id, score) FILTER (class_id <> label) AS best,
               max(score) FILTER (class_id <> label) AS best_score
        FROM ranked GROUP BY sample_id ORDER BY best_score - given_score DESC, sample_id
        """,
        [dataset],
    )


@st.cache_data(max_entries=64, show_spinner=False)
def proposals(source: Source, sample_ids: tuple[str, ...]) -> Frame:
    """Proposed labels of some images: sample_id, class_id, rank, score."""
    sql = f"""SELECT sample_id, class_id, rank, score FROM proposals WHERE sample_id IN ({_marks(sample_ids)})
              ORDER BY sample_id, rank"""
    return query(source, sql, sample_ids)


@st.cache_data(max_entries=16, show_spinner=False)
def proposed_datasets(source: Source) -> list[str]:
    """Sets for whose images there are proposals."""
    sql = "SELECT DISTINCT dataset FROM proposals JOIN samples USING (sample_id)"
    found = set(query(source, sql)["dataset"])
    return [dataset for dataset in catalogue(source).datasets.index if dataset in found]
