"""The only SQL of the app: small frames out of one snapshot's database.

A database is read through an in-memory connection with the file attached read-only, keyed by (path, mtime, size): a
file that was replaced is a new key, hence a new connection. Every call uses a cursor of its own, so that sessions never
share one. Values go in as parameters only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import duckdb
import numpy as np
import pandas as pd
import streamlit as st
import yaml

from bench import config as configuration
from bench import schemas, stats
from bench.evaluate import correctness
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
    "effective_robustness",
    "gap_shrinkage",
    "gap_contrasts",
    "comparisons",
    "ranks",
    "representations",
    "proposals",
    "proposal_recall",
    "queue",
    "votes",
    "ballots",
    "consensus",
    "annotators",
    "agreement",
    "tick_rates",
    "vote_rules",
    "neighbours",
    "attack_answers",
    "attack_images",
    "attack_trust",
    "attacks",
    "transfers",
    "transfer_pairs",
    "transfer_images",
    "transfer_sampling",
    "transfer_proxies",
    "misclassifications",
    "misclassification_distances",
    "misclassification_leaving",
    "misclassification_flows",
    "class_groups",
    "objectives",
    "objective_gradients",
    "objective_curves",
    "objective_saturation",
    "objective_summary",
    "collisions",
    "collision_checks",
    "layers",
    "regional",
    "regional_summary",
    "detection",
    "detection_attacks",
    "retraining",
    "segmentation_attacks",
    "segmentation_images",
    "segmentation_runs",
    "segmentation_sets",
    "segmentation_summary",
    "radar_attacks",
    "radar_cam",
    "radar_cam_summary",
    "radar_frames",
    "radar_models",
    "radar_summary",
    "ssl_models",
    "ssl_pairs",
    "ssl_families",
    "corruption_error",
    "maps",
    "map_neighbours",
    "subsets",
    "subset_members",
    "bits",
    "valid",
    "codes",
    "label_sources",
    "label_sets",
    "label_accuracy",
    "label_correlation",
    "label_gaps",
    "snapshot",
)
"""Tables that the pages read."""

KEYS: Any = {tuple: repr}
"""How caches tell tuples of names apart: as one text, for a thousand names take milliseconds one by one."""

ORIGINAL = "original"
PREDICTED = "pred"


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
    definitions: dict[str, dict[int, str]]
    """label space -> class id -> what the class is, in words; only classes of which that is known"""
    subsets: Frame
    """subset, dataset, about, n"""
    sources: dict[str, list[str]]
    """dataset -> its label sources, the original first"""
    corruptions: list[str]
    attacks: dict[str, str]
    """attack -> its name for people"""
    answering: dict[str, frozenset[str]]
    """dataset -> the models that answered to its clean test images"""
    measured: frozenset[str]
    """the datasets of which some uncertainty is known"""
    groups: dict[str, tuple[str, frozenset[str]]]
    """token such as `@method:dino` -> its name and its models: what a picker of models offers besides single ones"""
    simulated: frozenset[str]
    """the datasets whose consensus rests on simulated annotators, wholly or in part"""

    @cached_property
    def names(self) -> dict[str, str]:
        """model -> its name for people"""
        return dict(zip(self.models["model"], self.models["name"], strict=True))

    @cached_property
    def remarks(self) -> dict[str, str]:
        """model -> what to mind of its answers: what follows the first `; ` or `. ` of where they came from"""
        origins = self.models.dropna(subset="origin")
        said = {row.model: re.split("; |[.] ", row.origin, maxsplit=1) for row in records(origins)}
        return {model: halves[1] for model, halves in said.items() if len(halves) > 1}

    @property
    def families(self) -> list[str]:
        present = set(self.models["family"])
        return [family for family in terms.FAMILY if family in present]

    def dataset_name(self, dataset: str) -> str:
        return str(self.datasets.at[dataset, "name"])

    def labels_name(self, dataset: str, labels: str) -> str:
        """A label source of a set for people, marked where simulated annotators made it."""
        name = terms.labels_name(labels)
        return f"{name} (simulated)" if labels == correctness.CONSENSUS and dataset in self.simulated else name

    def class_names(self, dataset: str) -> dict[int, str]:
        return self.classes[str(self.datasets.at[dataset, "label_space"])]

    def model_name(self, model: str) -> str:
        return self.names.get(model, model)

    def definition(self, dataset: str, class_id: int) -> str:
        """What a class is, in words; empty where it is not known."""
        return self.definitions.get(str(self.datasets.at[dataset, "label_space"]), {}).get(class_id, "")

    def subsets_of(self, dataset: str) -> list[str]:
        return ["all", *self.subsets.loc[self.subsets["dataset"] == dataset, "subset"]]

    def original_of(self, dataset: str) -> str:
        """The original that `dataset` is held against, else an original of its classes: where its figures start."""
        against = str(self.datasets.at[dataset, "replicates"])
        role, space = self.datasets["role"], self.datasets["label_space"]
        alike = self.datasets.index[(space == space[dataset]) & (role == "original")]
        if against and role[against] == "original":
            return against
        return dataset if role[dataset] == "original" or alike.empty else str(alike[0])

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

    def choose(self, families: Sequence[str], models: Sequence[str] = (), dataset: str = "") -> list[str]:
        """Names of the models that answer to `dataset` (empty: to any), of some families, and among some models.

        `models` holds names and tokens of `groups`; no families or models mean all of them.
        """
        keep = self.models["family"].isin(families) if families else np.ones(len(self.models), bool)
        chosen = self.models.loc[keep, "model"].tolist()
        if models:
            wanted = set(models).union(*(self.groups[one][1] for one in models if one in self.groups))
            chosen = [model for model in chosen if model in wanted]
        if dataset:
            here = self.answering.get(dataset, frozenset())
            chosen = [model for model in chosen if model in here]
        return chosen


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


@st.cache_data(max_entries=8, show_spinner=False)
def protocol(source: Source) -> tuple[configuration.Protocol, dict[str, list[str]]]:
    """What the parameters behind the figures say of study 3's protocol, and the ensembles with their members."""
    said = yaml.safe_load(snapshot(source).get("params", "")) or {}
    asked = configuration.Protocol(**said.get("protocol", {}))
    return asked, configuration.Uncertainty(**said.get("uncertainty", {})).ensembles


@st.cache_resource(max_entries=8, show_spinner=False)
def catalogue(source: Source) -> Catalogue:
    """Everything there is to choose from. Not copied on each use, so nobody writes into it."""
    models = query(source, "SELECT * FROM models")
    order = {family: i for i, family in enumerate(terms.FAMILY)}
    models = models.iloc[np.lexsort((models["model"], models["family"].map(order)))].reset_index(drop=True)
    rows = records(models[["model", "method", "arch", "source"]])
    names = [r.model if r.source == "imported" else terms.model_name(r.model, r.method, r.arch) for r in rows]
    models["name"] = terms.told_apart(names, models["model"].tolist())
    datasets = query(source, "SELECT * REPLACE (coalesce(replicates, '') AS replicates) FROM datasets")
    ranks = {role: i for i, role in enumerate(schemas.ROLES)}
    datasets = datasets.iloc[np.lexsort((datasets["dataset"], datasets["role"].map(ranks)))].set_index("dataset")
    rows = records(datasets[["title", "role", "synthetic"]])
    datasets["name"] = [terms.dataset_name(*row) for row in rows]
    classes = query(source, "SELECT label_space, class_id, name, definition FROM classes ORDER BY ALL")
    defined = classes.dropna(subset="definition")
    scored = query(source, f"SELECT DISTINCT dataset, label_source, model FROM metrics WHERE {_SCORED} ORDER BY ALL")
    sources = scored[["dataset", "label_source"]].drop_duplicates()
    sources = sources.sort_values("label_source", key=lambda names: names.map(correctness.source_order), kind="stable")
    conditions = query(source, "SELECT DISTINCT condition FROM metrics ORDER BY ALL")["condition"]
    named = {"corruption": [], "attack": []}
    for kind, *rest in conditions.str.split(":"):
        if kind in named and rest[0] not in named[kind]:
            named[kind].append(rest[0])
    return Catalogue(
        models=models,
        datasets=datasets,
        classes=_by_space(classes, "name"),
        definitions=_by_space(defined, "definition"),
        subsets=query(source, "SELECT * FROM subsets ORDER BY dataset, subset"),
        sources=sources.groupby("dataset")["label_source"].agg(list).to_dict(),
        corruptions=named["corruption"],
        attacks=_attack_names(source, named["attack"], dict(zip(models["model"], models["name"], strict=True))),
        answering={str(one): frozenset(rows["model"]) for one, rows in scored.groupby("dataset")},
        measured=frozenset(query(source, "SELECT DISTINCT dataset FROM codes WHERE measure <> 'pred'")["dataset"]),
        groups=_groups(models),
        simulated=frozenset(query(source, _SIMULATED)["dataset"]),
    )


_SIMULATED = """SELECT DISTINCT dataset FROM consensus JOIN samples USING (sample_id)
                WHERE contains(basis, 'simulated')"""
_SCORED = "condition = 'clean' AND subset = 'all' AND metric IN ('top1', 'any_of')"
"""Rows of `metrics` that say how many test images of a set have labels of a source, and who answered to them."""


def _attack_names(source: Source, attacks: Sequence[str], models: dict[str, str]) -> dict[str, str]:
    """By the parameters behind the figures."""
    known, out = declared_attacks(source), {}
    for attack in attacks:
        facts = known.get(attack, {})
        made_on, kind = str(facts.get("source") or ""), str(facts.get("kind") or "pgd-linf")
        stop, target = str(facts.get("stop") or "never"), str(facts.get("target") or "")
        out[attack] = terms.attack_name(attack, kind, models.get(made_on) or made_on, stop, target)
    return out


def declared_attacks(source: Source) -> dict[str, dict[str, Any]]:
    """Attack -> what the parameters behind the figures say of it: `kind`, `stop`, and of a transfer attack `source`."""
    said = yaml.safe_load(snapshot(source).get("params", "")) or {}
    of_suites = (one.get("attacks") or {} for one in (said.get("evaluations") or {}).values())
    runs = [(said.get("attacks") or {}).get("runs") or {}, *of_suites]
    return {name: facts for one in runs for name, facts in one.items()}


def _by_space(classes: Frame, column: str) -> dict[str, dict[int, str]]:
    return {str(space): dict(zip(g["class_id"], g[column], strict=True)) for space, g in classes.groupby("label_space")}


def _groups(models: Frame) -> dict[str, tuple[str, frozenset[str]]]:
    """Groups of at least two, but not all, models by family, method and architecture."""
    names = {"family": terms.FAMILY, "method": terms.METHOD, "arch": terms.ARCH}
    out = {}
    for kind, known in names.items():
        for value, rows in models.groupby(kind):
            if 1 < len(rows) < len(models) and (kind == "family" or value != "unknown"):
                name = f"All {terms.GROUP[kind]} {known.get(str(value), str(value))} ({len(rows)})"
                out[f"@{kind}:{value}"] = (name, frozenset(rows["model"]))
    return out


@st.cache_data(max_entries=8, show_spinner=False)
def has_images(source: Source) -> bool:
    """Whether the snapshot has rows of single images; a release of aggregates has none."""
    return snapshot(source).get("per_image", "yes") != "no"


@st.cache_data(max_entries=32, show_spinner=False)
def preset_of(source: Source, dataset: str) -> str:
    """The preset that fetches a set; empty where it is part of the project."""
    said = yaml.safe_load(snapshot(source).get("params", "")) or {}
    return str(said.get("datasets", {}).get(dataset, {}).get("fetched") or "")


@st.cache_data(max_entries=32, show_spinner=False)
def lacks_pictures(source: Source, dataset: str) -> bool:
    """Whether a set is known to have pictures of which none is here."""
    said = yaml.safe_load(snapshot(source).get("params", "")) or {}
    pinned = said.get("datasets", {}).get(dataset, {}).get("images")
    sql = "SELECT count(*) AS n FROM images WHERE starts_with(sample_id, ?)"
    return bool(pinned) and not query(source, sql, [f"{dataset}/"])["n"].iloc[0]


def with_models(frame: Frame, source: Source) -> Frame:
    """Adds name, family and arch; drops rows of models that are not listed."""
    models = catalogue(source).models[["model", "name", "family", "method", "ssl_family", "arch"]]
    return frame.merge(models, on="model")


@st.cache_data(max_entries=128, show_spinner=False, hash_funcs=KEYS)
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
                SELECT dataset FROM metrics WHERE label_source = ? AND condition = 'clean' AND metric = 'any_of')))
        ORDER BY m.dataset, m.value DESC, m.model
        """,
        [subset, subset, *models, label_source, label_source],
    )
    return with_models(frame, source)


@st.cache_data(max_entries=128, show_spinner=False, hash_funcs=KEYS)
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
    return with_models(frame, source)


_OF_PAIR = "original = ? AND replication = ? AND scoring = ?"


@st.cache_data(max_entries=16, show_spinner=False)
def gap_choices(source: Source, original: str, other: str) -> Frame:
    """What is stored of a pair of sets under rules: rule, uncertainty, uncertainty_of, coverage_q; nothing of R0."""
    sql = """
        SELECT DISTINCT rule, uncertainty, uncertainty_of, coverage_q FROM replication
        WHERE original = ? AND replication = ? AND rule <> 'R0' ORDER BY ALL"""
    return query(source, sql, [original, other])


@st.cache_data(max_entries=128, show_spinner=False, hash_funcs=KEYS)
def gap_rows(
    source: Source,
    original: str,
    other: str,
    scoring: str,
    rule: str,
    uncertainty: str,
    whose: str,
    models: tuple[str, ...],
) -> Frame:
    """Stored rows of table `replication` of some models under one rule at every stored coverage, and the model's."""
    frame = query(
        source,
        f"""
        SELECT * FROM replication WHERE {_OF_PAIR} AND rule = ? AND model IN ({_marks(models)})
          AND (rule = 'R0' OR (uncertainty = ? AND uncertainty_of = ?))
        ORDER BY coverage_q, gap_pp, model
        """,
        [original, other, scoring, rule, *models, uncertainty, whose],
    )
    return with_models(frame, source)


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=KEYS)
def robustness(source: Source, original: str, other: str, scoring: str, scale: str, models: tuple[str, ...]) -> Frame:
    """Stored effective robustness of some models, each against the line of all others: columns of the table, and the
    model's; the most robust first."""
    frame = query(
        source,
        f"""
        SELECT model, value_pp, ci_low, ci_high, accuracy_original, accuracy_replication, predicted, n_models
        FROM effective_robustness WHERE {_OF_PAIR} AND scale = ? AND model IN ({_marks(models)})
        ORDER BY value_pp DESC, model
        """,
        [original, other, scoring, scale, *models],
    )
    return with_models(frame, source)


@st.cache_data(max_entries=64, show_spinner=False)
def shrinkage(
    source: Source, original: str, other: str, scoring: str, rule: str, uncertainty: str, whose: str, coverage: float
) -> Frame:
    """Stored rows of table `gap_shrinkage` of one rule: family, n_models, n_shrinks, ..., `all` first."""
    sql = f"""
        SELECT family, n_models, n_shrinks, n_grows, n_ratio, n_ratio_falls, p_sign, median_shrink_pp, ci_low, ci_high
        FROM gap_shrinkage
        WHERE {_OF_PAIR} AND rule = ? AND uncertainty = ? AND uncertainty_of = ? AND abs(coverage_q - ?) < 1e-9
        ORDER BY family <> 'all', family"""
    return query(source, sql, [original, other, scoring, rule, uncertainty, whose, coverage])


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=KEYS)
def contrasts(source: Source, original: str, other: str, scoring: str, models: tuple[str, ...]) -> Frame:
    """Stored rows of table `gap_contrasts` between some models, by family of self-supervision."""
    return query(
        source,
        f"""
        SELECT * FROM gap_contrasts
        WHERE {_OF_PAIR} AND model IN ({_marks(models)}) AND baseline IN ({_marks(models)})
        ORDER BY ssl_family, gap_pp, model, baseline
        """,
        [original, other, scoring, *models, *models],
    )


@st.cache_data(max_entries=16, show_spinner=False)
def scorings(source: Source, original: str, other: str) -> list[str]:
    """How a pair of sets is scored: top1, and any_of where one of them has several labels an image."""
    sql = "SELECT DISTINCT scoring FROM replication WHERE original = ? AND replication = ? ORDER BY scoring DESC"
    return query(source, sql, [original, other])["scoring"].tolist()


@st.cache_data(max_entries=128, show_spinner=False, hash_funcs=KEYS)
def under(source: Source, kind: str, name: str, models: tuple[str, ...]) -> Frame:
    """Figures under one corruption (top1) or attack (robust accuracy) by its level: severity or eps in 1/255.

    Columns: those of the model, dataset, level, value, ci_low, ci_high, n. Level 0 of a corruption is the clean set,
    or of it the images that are corrupted.
    """
    metric, subset = ("top1", "all") if kind == "corruption" else ("robust_accuracy", "attack")
    part = query(
        source,
        "SELECT count(*) AS n FROM subsets WHERE subset = 'corrupted' AND dataset IN (SELECT DISTINCT "
        f"dataset FROM metrics WHERE starts_with(condition, ?) AND model IN ({_marks(models)}))",
        [f"{kind}:{name}:", *models],
    )
    before = "corrupted" if kind == "corruption" and part["n"].iloc[0] else subset
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
        [f"{kind}:{name}:", metric, subset, *models, before, *models, f"{kind}:{name}:", metric],
    )
    return with_models(frame, source)


@st.cache_data(max_entries=64, show_spinner=False)
def ssl_families(source: Source, dataset: str) -> Frame:
    """Study 2 on one set: the mean difference of each family of self-supervised methods to supervised networks.

    Columns: family, against, condition, measure, delta_pp, ci_low, ci_high, networks_low, networks_high, n, n_ssl,
    n_supervised, n_better.
    """
    return query(source, "SELECT * EXCLUDE dataset FROM ssl_families WHERE dataset = ? ORDER BY ALL", [dataset])


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=KEYS)
def ssl_pairs(source: Source, dataset: str, measure: str, models: tuple[str, ...]) -> Frame:
    """Study 2 pair by pair on one set, by one measure: all columns of table `ssl_pairs`."""
    return query(
        source,
        f"""
        SELECT * FROM ssl_pairs WHERE dataset = ? AND measure = ? AND model IN ({_marks(models)})
          AND baseline IN ({_marks(models)}) ORDER BY condition, model, baseline
        """,
        [dataset, measure, *models, *models],
    )


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs=KEYS)
def corruption_errors(source: Source, dataset: str, models: tuple[str, ...]) -> Frame:
    """Errors under corruption relative to the reference network: columns of the table, and those of the model."""
    frame = query(
        source,
        f"SELECT * FROM corruption_error WHERE dataset = ? AND model IN ({_marks(models)}) ORDER BY ALL",
        [dataset, *models],
    )
    return with_models(frame, source)


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs=KEYS)
def trained(source: Source, models: tuple[str, ...]) -> Frame:
    """What networks of the contrast were trained with: columns of table `ssl_models`, epochs and those of the model."""
    sql = f"""SELECT s.* EXCLUDE (arch, ssl_family), m.epochs FROM ssl_models s JOIN models m USING (model)
              WHERE model IN ({_marks(models)}) ORDER BY model"""
    return with_models(query(source, sql, models), source)


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs=KEYS)
def epochs(source: Source, models: tuple[str, ...]) -> Frame:
    """Every epoch of the trainings of some models: columns of table `training`, and those of the model."""
    frame = query(source, f"SELECT * FROM training WHERE model IN ({_marks(models)}) ORDER BY model, epoch", models)
    return with_models(frame, source)


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs=KEYS)
def noisy_heads(source: Source, models: tuple[str, ...]) -> Frame:
    """Heads on all labels as they are and with wrong ones: model, probe, label_source, label_noise, value, n."""
    frame = query(
        source,
        f"""
        SELECT model, probe, label_source, label_noise, avg(accuracy) AS value, CAST(max(n) AS INTEGER) AS n
        FROM representations WHERE model IN ({_marks(models)}) AND labels_per_class = 0
          AND probe IN (SELECT probe FROM representations WHERE label_noise > 0)
        GROUP BY model, probe, label_source, label_noise ORDER BY ALL
        """,
        models,
    )
    return with_models(frame, source)


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs=KEYS)
def calibration(source: Source, dataset: str, models: tuple[str, ...]) -> Frame:
    """How far confidence fits accuracy on the clean images of a set: model, metric, value, ci_low, ci_high, n."""
    frame = query(
        source,
        f"""
        SELECT model, metric, value, ci_low, ci_high, n FROM metrics
        WHERE dataset = ? AND condition = 'clean' AND subset = 'all' AND label_source = 'original'
          AND metric IN ('ece', 'ece_calibrated', 'nll', 'temperature') AND model IN ({_marks(models)}) ORDER BY ALL
        """,
        [dataset, *models],
    )
    return with_models(frame, source)


@st.cache_data(max_entries=32, show_spinner=False)
def attack_trust(source: Source, attack: str) -> Frame:
    """The checks of one attack: columns of table `attack_trust`, those of the model, and where the run asked for
    bfloat16, `lowered`: the strengths (1/255) at which the network was followed in that."""
    frame = query(
        source,
        """
        SELECT * FROM attack_trust LEFT JOIN (
            SELECT source_model AS model, dataset, list(DISTINCT eps_255) FILTER (dtype = 'bfloat16') AS lowered,
                count(dtype) > 0 AS asked
            FROM (
                SELECT *, json_extract_string(params_json, '$.dtype') AS dtype,
                    json_extract(params_json, '$.eps_255')::DOUBLE AS eps_255
                FROM attacks WHERE attack = ?
            ) GROUP BY source_model, dataset
        ) USING (model, dataset) WHERE attack = ? ORDER BY model
        """,
        [attack, attack],
    )
    return with_models(frame, source)


@st.cache_data(max_entries=8, show_spinner=False)
def attacked_sets(source: Source) -> list[str]:
    """The sets on which attacks were shown to other models."""
    return query(source, "SELECT DISTINCT dataset FROM transfer_pairs ORDER BY ALL")["dataset"].tolist()


@st.cache_data(max_entries=16, show_spinner=False)
def transfer_pairs(source: Source, dataset: str) -> Frame:
    """Study 6: every condition and pair of models of a set, all columns of table `transfer_pairs`."""
    return query(source, "SELECT * FROM transfer_pairs WHERE dataset = ? ORDER BY ALL", [dataset])


@st.cache_data(max_entries=16, show_spinner=False)
def transfer_images(source: Source, condition: str) -> Frame:
    """Study 6: the suitable images of one condition, all columns of table `transfer_images`, and their labels."""
    sql = "SELECT i.*, s.label FROM transfer_images i JOIN samples s USING (sample_id) WHERE condition = ? ORDER BY ALL"
    return query(source, sql, [condition])


@st.cache_data(max_entries=16, show_spinner=False)
def transfer_sampling(source: Source, condition: str) -> Frame:
    """Study 6: ranges over draws, all columns of table `transfer_sampling`."""
    return query(source, "SELECT * FROM transfer_sampling WHERE condition = ? ORDER BY ALL", [condition])


@st.cache_data(max_entries=16, show_spinner=False)
def transfer_proxies(source: Source, dataset: str) -> Frame:
    """Study 6: what foretells transfers on a set, all columns of table `transfer_proxies`."""
    return query(source, "SELECT * FROM transfer_proxies WHERE dataset = ? ORDER BY ALL", [dataset])


@st.cache_data(max_entries=16, show_spinner=False)
def misclassifications(source: Source, condition: str) -> Frame:
    """Study 5: all columns of table `misclassifications`, all classes first, then the largest groups."""
    sql = "SELECT * FROM misclassifications WHERE condition = ? ORDER BY n_classes DESC, collection, measure"
    return query(source, sql, [condition])


@st.cache_data(max_entries=4, show_spinner=False)
def segmentation_sets(source: Source) -> Frame:
    """Study 10: all columns of table `segmentation_sets`."""
    return query(source, "SELECT * FROM segmentation_sets ORDER BY synthetic DESC, dataset")


@st.cache_data(max_entries=8, show_spinner=False)
def segmentation_summary(source: Source, dataset: str) -> Frame:
    """Study 10 on a set with masks: all columns of table `segmentation_summary`."""
    return query(source, "SELECT * FROM segmentation_summary WHERE dataset = ? ORDER BY variant", [dataset])


@st.cache_data(max_entries=8, show_spinner=False)
def segmentation_curves(source: Source, dataset: str) -> Frame:
    """Study 10 on a set: variant, iteration, n, means over pairs of iou_clipped and l2_clipped, quartiles of the
    first."""
    sql = """
        SELECT variant, iteration, count(*) AS n, avg(iou_clipped) AS iou, avg(l2_clipped) AS l2,
            quantile_cont(iou_clipped, 0.25) AS low, quantile_cont(iou_clipped, 0.75) AS high
        FROM segmentation_attacks WHERE dataset = ? GROUP BY ALL ORDER BY ALL
    """
    return query(source, sql, [dataset])


@st.cache_data(max_entries=8, show_spinner=False)
def segmentation_missed(source: Source, dataset: str, reached: float) -> list[str]:
    """Study 10: images, and those of the targets, of the pairs of a set on which ASMA ends below an IoU."""
    sql = """SELECT sample_id || ' with ' || target_id AS pair FROM segmentation_runs
             WHERE dataset = ? AND variant = 'asma' AND iou < ? ORDER BY sample_id"""
    return query(source, sql, [dataset, reached])["pair"].tolist()


@st.cache_data(max_entries=8, show_spinner=False)
def segmentation_pictured(source: Source, dataset: str) -> Frame:
    """Study 10: rows of table `segmentation_runs` of a set that have pictures."""
    sql = """
        SELECT * FROM segmentation_runs WHERE dataset = ? AND run_id IN (SELECT run_id FROM segmentation_images)
        ORDER BY run_id
    """
    return query(source, sql, [dataset])


@st.cache_data(max_entries=16, show_spinner=False)
def segmentation_pictures(source: Source, run_id: str) -> Frame:
    """Study 10: iteration, iou_clipped, l2_clipped, kind and png of one run, PNG bytes."""
    sql = """
        SELECT iteration, kind, png, iou_clipped, l2_clipped FROM segmentation_images
        JOIN segmentation_attacks USING (run_id, iteration) WHERE run_id = ? ORDER BY ALL
    """
    return query(source, sql, [run_id])


def _named(frame: Frame, source: Source, column: str = "model", to: str = "name") -> Frame:
    """Adds the names of networks, of those too that are none of the models."""
    return frame.assign(**{to: frame[column].map(lambda one: catalogue(source).names.get(one, one))})


@st.cache_data(max_entries=4, show_spinner=False)
def collisions(source: Source) -> Frame:
    """Study 4: all columns of table `collisions`, and the name of the network."""
    return _named(query(source, "SELECT * FROM collisions ORDER BY model, kind, sample_id"), source)


@st.cache_data(max_entries=4, show_spinner=False)
def collision_checks(source: Source) -> Frame:
    """Study 4: all columns of table `collision_checks`, and the names of both networks; other tasks first."""
    sql = """SELECT * FROM collision_checks WHERE judge <> model OR task <> 'classify'
             ORDER BY task = 'classify', model, judge, task"""
    return _named(_named(query(source, sql), source), source, "judge", "judge_name")


@st.cache_data(max_entries=4, show_spinner=False)
def first_layers(source: Source) -> Frame:
    """Study 4: table `layers` of the map from the pixels to the first layer; where none is measured (published weights
    and architectures), of that layer itself."""
    sql = """SELECT * FROM layers WHERE layer = 'pixels to first layer'
                OR model NOT IN (SELECT model FROM layers WHERE layer = 'pixels to first layer')
             ORDER BY starts_with(model, 'timm:'), nullity DESC, model"""
    return _named(query(source, sql), source)


@st.cache_data(max_entries=16, show_spinner=False)
def misclassification(source: Source, table: str, condition: str) -> Frame:
    """Study 5: all columns of `distances` or `leaving`, all classes first, then the largest groups; or of `flows`."""
    order = {
        "distances": "n_classes DESC, collection, measure",
        "leaving": "collection != 'all', n_classes DESC, collection",
        "flows": "label, pred",
    }[table]
    sql = f"SELECT * FROM misclassification_{table} WHERE condition = ? ORDER BY {order}"
    return query(source, sql, [condition])


@st.cache_data(max_entries=16, show_spinner=False)
def class_groups(source: Source, dataset: str) -> Frame:
    """The named groups of the classes of a set: collection, class_id."""
    sql = """
        SELECT collection, class_id FROM class_groups JOIN datasets USING (label_space) WHERE dataset = ?
        ORDER BY collection, class_id
    """
    return query(source, sql, [dataset])


@st.cache_data(max_entries=16, show_spinner=False)
def objective_summary(source: Source, dataset: str) -> Frame:
    """Study 9 on a set: all columns of table `objective_summary`, and those of the model."""
    frame = query(source, "SELECT * FROM objective_summary WHERE dataset = ? ORDER BY ALL", [dataset])
    return with_models(frame, source)


@st.cache_data(max_entries=16, show_spinner=False)
def objective_saturation(source: Source, dataset: str) -> Frame:
    """Study 9 on a set: all columns of table `objective_saturation`, and those of the model."""
    frame = query(source, "SELECT * FROM objective_saturation WHERE dataset = ? ORDER BY ALL", [dataset])
    return with_models(frame, source)


@st.cache_data(max_entries=16, show_spinner=False)
def regional_summary(source: Source, dataset: str) -> Frame:
    """Study 8 on a set: all columns of table `regional_summary`, by kind and size of the region."""
    sql = """SELECT * FROM regional_summary WHERE dataset = ?
             ORDER BY split_part(region, '-', 1), share, region, source_model, target_model"""
    return query(source, sql, [dataset])


@st.cache_data(max_entries=16, show_spinner=False)
def of_set(source: Source, table: Literal["detection", "detection_attacks", "retraining"], dataset: str) -> Frame:
    """All columns of a table of study 9 on a set."""
    return query(source, f"SELECT * FROM {table} WHERE dataset = ? ORDER BY ALL", [dataset])


@st.cache_data(max_entries=16, show_spinner=False)
def objective_curves(source: Source, dataset: str, model: str) -> Frame:
    """Study 9 on a set and of a model: all columns of table `objective_curves`."""
    sql = "SELECT * FROM objective_curves WHERE dataset = ? AND model = ? ORDER BY ALL"
    return query(source, sql, [dataset, model])


@st.cache_data(max_entries=8, show_spinner=False)
def radar(source: Source, table: str) -> Frame:
    """Study 7: one of its tables (radar_models, radar_summary, radar_cam_summary, radar_frames), all columns."""
    return query(source, f"SELECT * FROM {table} ORDER BY ALL")


@st.cache_data(max_entries=32, show_spinner=False)
def attack_images(source: Source, condition: str, via: str) -> Frame:
    """The pictures that are kept of images made on one model under one attack: attack_id, sample_id, label, clean and
    png (PNG bytes)."""
    sql = """
        SELECT i.attack_id, a.sample_id, s.label, i.clean, i.png
        FROM attack_images i JOIN attacks a USING (attack_id) JOIN samples s USING (sample_id)
        WHERE a.source_model = ? AND 'attack:' || a.attack || ':' || split_part(i.attack_id, '/', 2) = ?
        ORDER BY a.sample_id
    """
    return query(source, sql, [via, condition])


def attack_size(source: Source, attack_id: str, until: str) -> float | None:
    """L2 of an attacked image: of `until`, which was made until a network fell, else of `attack_id`; None without."""
    sql = "SELECT l2 FROM attacks WHERE attack_id IN (?, ?) ORDER BY attack_id = ? DESC LIMIT 1"
    found = query(source, sql, [attack_id, until, until])
    return None if found.empty else float(found["l2"].iloc[0])


@st.cache_data(max_entries=64, show_spinner=False)
def attack_answers(source: Source, attack_id: str) -> Frame:
    """What every model says of a picture that is kept: model, pred, p_pred, p_label."""
    sql = "SELECT model, pred, p_pred, p_label FROM attack_answers WHERE attack_id = ? ORDER BY model"
    return query(source, sql, [attack_id])


@st.cache_data(max_entries=32, show_spinner=False)
def transferred(source: Source, condition: str, via: str, onto: str) -> Frame:
    """Suitable images that were made on one model and are answered wrongly by another: sample_id, label, pred,
    rank_clean, l2, linf; the smallest changes first."""
    sql = """
        SELECT a.sample_id, s.label, t.pred, t.rank_clean, a.l2, a.linf
        FROM transfers t JOIN attacks a USING (attack_id) JOIN samples s USING (sample_id)
        JOIN transfer_images i ON i.sample_id = a.sample_id AND i.condition = ?
        WHERE t.success AND t.target_model = ? AND a.source_model = ?
          AND 'attack:' || a.attack || ':' || split_part(t.attack_id, '/', 2) = ?
        ORDER BY a.l2, a.sample_id
    """
    return query(source, sql, [condition, onto, via, condition])


@st.cache_data(max_entries=16, show_spinner=False)
def landed(source: Source, condition: str, labels: tuple[int, ...] | None, preds: tuple[int, ...] | None) -> Frame:
    """Suitable images that transfer from a class of `labels` to one of `preds` (None: any): sample_id, label, pred, and
    n, the number of pairs of models by which they do; the largest first, each image once."""
    sql = """
        WITH found AS (
          SELECT a.sample_id, s.label, t.pred, count(*) AS n
          FROM transfers t JOIN attacks a USING (attack_id) JOIN samples s USING (sample_id)
          JOIN transfer_images i ON i.sample_id = a.sample_id AND i.condition = ?
          WHERE t.success AND 'attack:' || a.attack || ':' || split_part(t.attack_id, '/', 2) = ?
            AND coalesce(list_contains(?::INT[], s.label), true) AND coalesce(list_contains(?::INT[], t.pred), true)
          GROUP BY ALL
        )
        SELECT * FROM found QUALIFY row_number() OVER (PARTITION BY sample_id ORDER BY n DESC, pred) = 1
        ORDER BY n DESC, sample_id
    """
    lists = [None if one is None else list(one) for one in (labels, preds)]
    return query(source, sql, [condition, condition, *lists])


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=KEYS)
def pairs(
    source: Source, dataset: str, models: tuple[str, ...], label_source: str = ORIGINAL
) -> dict[tuple[str, str], Pair]:
    """All pairs (a, b) among some models on the clean images of a set, each both ways round: what a minus b is."""
    frame = query(
        source,
        f"""
        SELECT c.model_a, c.model_b, c.delta_pp, c.ci_low, c.ci_high, c.p_holm, v.n
        FROM comparisons c JOIN (
          SELECT dataset, label_source, max(n) AS n FROM metrics WHERE {_SCORED} GROUP BY ALL
        ) v USING (dataset, label_source)
        WHERE c.dataset = ? AND c.label_source = ? AND c.condition = 'clean'
          AND c.model_a IN ({_marks(models)}) AND c.model_b IN ({_marks(models)})
        """,
        [dataset, label_source, *models, *models],
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


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs=KEYS)
def heads(source: Source, models: tuple[str, ...]) -> Frame:
    """Heads fitted on labels as they are: probe, labels_per_class (0 = all), mean, lowest and highest accuracy over
    seeds, n."""
    frame = query(
        source,
        f"""
        SELECT model, probe, labels_per_class, avg(accuracy) AS value, min(accuracy) AS lowest,
               max(accuracy) AS highest, count(*) AS seeds, CAST(max(n) AS INTEGER) AS n,
               max(effective_rank) AS effective_rank, max(collapse_std) AS collapse_std
        FROM representations
        WHERE model IN ({_marks(models)}) AND label_source = 'original' AND label_noise = 0
        GROUP BY model, probe, labels_per_class ORDER BY model, probe, labels_per_class
        """,
        models,
    )
    return with_models(frame, source)


@dataclass(frozen=True)
class Images:
    """The test images of a set in the order of their ids: the order of all arrays and bits below."""

    ids: np.ndarray
    """(N,) str"""
    labels: np.ndarray
    """(N,) int32, the original labels"""
    origins: np.ndarray
    """(N,) str, the image that each is made from, else its own id"""


@dataclass(frozen=True)
class Block:
    """Which models are right on which clean test images of a set under one label source; shared by all sessions."""

    models: tuple[str, ...]
    """in the order of their names"""
    n: int
    """images"""
    rows: np.ndarray
    """(M, B) uint8, eight images a byte"""
    valid: np.ndarray
    """(B,) uint8: the images that have labels of the source"""
    place: dict[str, int]
    """model -> its row"""

    def some(self, models: Sequence[str]) -> tuple[list[str], np.ndarray]:
        """Those of some models that are here, in the order of their names, and their rows (M, B)."""
        here = sorted(model for model in models if model in self.place)
        if len(here) == len(self.models):
            return here, self.rows
        return here, self.rows[[self.place[model] for model in here]]

    def right(self, model: str) -> np.ndarray:
        """(N,) bool; nowhere right where the model has no answers."""
        found = self.place.get(model)
        return np.zeros(self.n, bool) if found is None else bits.unpack(self.rows[found], self.n)

    @property
    def labelled(self) -> np.ndarray:
        """(N,) bool"""
        return bits.unpack(self.valid, self.n)


@dataclass(frozen=True)
class Codes:
    """One measure of all models on the test images of a set, as 16-bit codes that keep its order."""

    models: tuple[str, ...]
    """in the order of their names"""
    low: np.ndarray
    """(M,) the value of code 0"""
    high: np.ndarray
    """(M,) the value just above code 65535"""
    codes: np.ndarray
    """(M, N) uint16"""


def _frozen(array: np.ndarray) -> np.ndarray:
    """The array, which nobody may write into any more: all sessions share it."""
    array.flags.writeable = False
    return array


@st.cache_resource(max_entries=24, show_spinner=False)
def images(source: Source, dataset: str) -> Images:
    """The test images of a set."""
    sql = "SELECT sample_id, label, source_id FROM samples WHERE dataset = ? AND split = 'test' ORDER BY sample_id"
    frame = query(source, sql, [dataset])
    ids, origins = (_frozen(frame[column].to_numpy(object)) for column in ("sample_id", "source_id"))
    return Images(ids, _frozen(frame["label"].to_numpy(np.int32)), origins)


def test_images(source: Source, dataset: str) -> Frame:
    """sample_id and (original) label of the test images of a set."""
    found = images(source, dataset)
    return pd.DataFrame({"sample_id": found.ids, "label": found.labels})


@st.cache_resource(max_entries=24, show_spinner=False)
def block(source: Source, dataset: str, label_source: str) -> Block:
    """The bits of all models on a set under one label source: 1 byte for 8 answers."""
    about = query(source, "SELECT n, mask FROM valid WHERE dataset = ? AND label_source = ?", [dataset, label_source])
    n = int(about["n"].iloc[0]) if len(about) else 0
    valid = bits.stack([bytes(about["mask"].iloc[0])])[0] if len(about) else np.zeros(0, np.uint8)
    frame = query(
        source,
        """
        SELECT model, correct FROM bits WHERE dataset = ? AND label_source = ? AND condition = 'clean' ORDER BY model
        """,
        [dataset, label_source],
    )
    rows = bits.stack([bytes(row) for row in frame["correct"]]) if len(frame) else np.zeros((0, len(valid)), np.uint8)
    models = tuple(frame["model"])
    return Block(models, n, _frozen(rows), _frozen(valid), {model: i for i, model in enumerate(models)})


@st.cache_resource(max_entries=24, show_spinner=False)
def measured(source: Source, dataset: str) -> dict[str, tuple[str, ...]]:
    """Measure of uncertainty -> the models for which it is known on the clean images of a set."""
    sql = "SELECT measure, model FROM codes WHERE dataset = ? AND condition = 'clean' ORDER BY measure, model"
    found = query(source, sql, [dataset])
    groups = {str(one): tuple(rows["model"]) for one, rows in found.groupby("measure") if one != PREDICTED}
    return {one: groups[one] for one in terms.MEASURE if one in groups}


def _codes(source: Source, sql: str, parameters: Sequence[object], n: int) -> Codes:
    """Read codes row by row, so that they are never in memory twice."""
    with _connection(source).cursor() as cursor:
        cursor.execute("USE snap")
        count = cursor.execute(f"SELECT count(*) FROM codes WHERE {sql}", list(parameters)).fetchone()
        out = np.empty((count[0] if count else 0, n), np.uint16)
        ends = np.full((len(out), 2), np.nan)
        names = []
        cursor.execute(f"SELECT model, low, high, codes FROM codes WHERE {sql} ORDER BY model", list(parameters))
        while rows := cursor.fetchmany(32):
            for model, low, high, packed in rows:
                out[len(names)] = np.frombuffer(packed, "<u2")
                ends[len(names)] = low, high
                names.append(model)
    return Codes(tuple(names), _frozen(ends[:, 0]), _frozen(ends[:, 1]), _frozen(out))


@st.cache_resource(max_entries=2, show_spinner=False)
def codes(source: Source, dataset: str, measure: str) -> Codes:
    """One measure (or `pred`) of all models on the clean images of a set: 2 bytes an answer, so only two are kept."""
    sql = "dataset = ? AND condition = 'clean' AND measure = ?"
    return _codes(source, sql, [dataset, measure], len(images(source, dataset).ids))


@st.cache_resource(max_entries=64, show_spinner=False)
def codes_of(source: Source, dataset: str, measure: str, model: str) -> Codes:
    """As `codes`, of one model."""
    sql = "dataset = ? AND condition = 'clean' AND measure = ? AND model = ?"
    return _codes(source, sql, [dataset, measure, model], len(images(source, dataset).ids))


def reference_of(source: Source, dataset: str, measure: str = "", reference: str = "") -> tuple[str, str]:
    """The measure and the model by which images are told to be uncertain; empty where nothing is known of a set.

    What is not chosen, or not there, is: entropy, else the first measure that there is; an ensemble, else the most
    accurate model.
    """
    known = measured(source, dataset)
    if not known:
        return "", ""
    if measure not in known:
        measure = "entropy_nats" if "entropy_nats" in known else next(iter(known))
    if reference not in known[measure]:
        models = catalogue(source).models
        ensembles = set(models.loc[models["method"] == "ensemble", "model"])
        found = block(source, dataset, ORIGINAL)
        names, rows = found.some(known[measure])
        best = names[int(np.argmax(bits.right_counts(rows, found.valid)))] if names else known[measure][0]
        reference = next((model for model in known[measure] if model in ensembles), best)
    return measure, reference


@st.cache_resource(max_entries=32, show_spinner=False)
def unsure(source: Source, dataset: str, measure: str, reference: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Uncertainty of each image and its place by rank in percent, ties sharing one, both (N,) float32.

    Chosen as in `reference_of`; None where nothing is known of the set.
    """
    measure, reference = reference_of(source, dataset, measure, reference)
    if not measure:
        return None
    found = codes_of(source, dataset, measure, reference)
    step = (found.high[0] - found.low[0]) / 65536
    values = found.low[0] + found.codes[0] * step
    place = 100 * pd.Series(found.codes[0]).rank(pct=True).to_numpy()
    return _frozen(values.astype(np.float32)), _frozen(place.astype(np.float32))


@st.cache_resource(max_entries=64, show_spinner=False)
def label_counts(source: Source, dataset: str, label_source: str) -> np.ndarray:
    """How many labels a source gives to each image, (N,) int32."""
    sql = """
        SELECT count(l.class_id)::INTEGER AS n FROM samples s
        LEFT JOIN labels l ON l.sample_id = s.sample_id AND l.source = ?
        WHERE s.dataset = ? AND s.split = 'test' GROUP BY s.sample_id ORDER BY s.sample_id"""
    return _frozen(query(source, sql, [label_source, dataset])["n"].to_numpy(np.int32))


@st.cache_resource(max_entries=64, show_spinner=False, hash_funcs=KEYS)
def models_right(source: Source, dataset: str, label_source: str, models: tuple[str, ...]) -> np.ndarray:
    """How many of some models are right on each image, (N,); 0 where it has no label of the source."""
    found = block(source, dataset, label_source)
    return _frozen(np.asarray(bits.models_right(found.some(models)[1], found.n)))


@st.cache_resource(max_entries=32, show_spinner=False, hash_funcs=KEYS)
def answers_given(source: Source, dataset: str, models: tuple[str, ...]) -> np.ndarray:
    """How many different answers some models give to each image, (N,) int32; 0 where their answers are not known."""
    found = codes(source, dataset, PREDICTED)
    chosen = set(models)
    rows = [i for i, model in enumerate(found.models) if model in chosen]
    out = np.zeros(found.codes.shape[1], np.int32)
    for start in range(0, len(out) if rows else 0, 4096):
        part = np.sort(found.codes[rows, start : start + 4096].T, axis=1)
        out[start : start + 4096] = 1 + (part[:, 1:] != part[:, :-1]).sum(axis=1)
    return _frozen(out)


@st.cache_resource(max_entries=16, show_spinner=False, hash_funcs=KEYS)
def images_of(source: Source, dataset: str, label_source: str, models: tuple[str, ...]) -> Frame:
    """One row a test image of a set, in the order of sample_id. Shared: nobody writes into it.

    sample_id, label, n_right (models right under the label source; 0 where it has no label), n_models, n_answers
    (different answers), uncertainty (as in `reference_of`; NaN where unknown), n_labels (of the source), labelled.
    """
    here, found = images(source, dataset), block(source, dataset, label_source)
    known = unsure(source, dataset, "", "")
    return pd.DataFrame(
        {
            "sample_id": here.ids,
            "label": here.labels,
            "n_right": models_right(source, dataset, label_source, models),
            "n_models": np.int32(len(found.some(models)[0])),
            "n_answers": answers_given(source, dataset, models),
            "uncertainty": np.full(len(here.ids), np.nan, np.float32) if known is None else known[0],
            "n_labels": label_counts(source, dataset, label_source),
            "labelled": found.labelled,
        }
    )


@st.cache_resource(max_entries=64, show_spinner=False)
def members(source: Source, dataset: str, subset: str) -> np.ndarray:
    """Which test images of a set are of a named subset, (N,) bool."""
    if subset == "all":
        return _frozen(np.ones(len(images(source, dataset).ids), bool))
    sql = """
        SELECT m.subset IS NOT NULL AS here FROM samples s
        LEFT JOIN subset_members m ON m.sample_id = s.sample_id AND m.subset = ?
        WHERE s.dataset = ? AND s.split = 'test' ORDER BY s.sample_id"""
    return _frozen(query(source, sql, [subset, dataset])["here"].to_numpy(bool))


def under_mask(
    source: Source, dataset: str, label_source: str, models: Sequence[str], mask: np.ndarray
) -> tuple[Frame, int]:
    """Accuracy of some models on the images of a packed mask (B,), by popcounts; and how many images those are.

    Columns: model, name, family, method, arch, value, ci_low, ci_high (Wilson), n, all_value (on all images of the
    set), delta_pp; the best on top. Images without a label of the source do not count. No rows where no image is left.
    """
    found = block(source, dataset, label_source)
    names, rows = found.some(models)
    mask = mask & found.valid
    n = bits.size(mask)
    if not n or not names:
        return pd.DataFrame(columns=["model", "name", "family", "value", "ci_low", "ci_high", "n"]), n
    right = bits.right_counts(rows, mask)
    low, high = stats.wilson(right, n, statistics(source)["confidence"])
    every = bits.right_counts(rows, found.valid) / bits.size(found.valid)
    order = np.argsort(-right, kind="stable")
    about = _about(source, tuple(names))
    columns = {name: values[order] for name, values in about.items()}
    value = right / n
    columns |= {"value": value[order], "ci_low": low[order], "ci_high": high[order], "n": np.full(len(order), n)}
    return pd.DataFrame(columns | {"all_value": every[order], "delta_pp": 100 * (value - every)[order]}), n


@st.cache_resource(max_entries=16, show_spinner=False, hash_funcs=KEYS)
def _about(source: Source, models: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Columns model, name, family, method and arch of some models, in that order."""
    frame = catalogue(source).models.set_index("model", drop=False).loc[list(models)]
    return {column: frame[column].to_numpy(object) for column in ("model", "name", "family", "method", "arch")}


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=KEYS)
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
    frame = with_models(frame, source)
    return frame.sort_values("model", key=lambda column: column.map(order), ignore_index=True)


@st.cache_data(max_entries=64, show_spinner=False)
def neighbours(source: Source, sample_id: str) -> Frame:
    """The nearest images: rank, neighbour_id, similarity, model, label."""
    sql = """
        SELECT n.rank, n.neighbour_id, n.similarity, n.model, s.label FROM neighbours n
        JOIN samples s ON s.sample_id = n.neighbour_id WHERE n.sample_id = ? ORDER BY n.rank"""
    return query(source, sql, [sample_id])


@st.cache_data(max_entries=16, show_spinner=False)
def encoders(source: Source, dataset: str = "") -> list[str]:
    """Models with a map of a set (empty: of any), in the order of the catalogue."""
    sql = "SELECT DISTINCT model FROM maps JOIN samples USING (sample_id) WHERE ? IN ('', dataset)"
    found = set(query(source, sql, [dataset])["model"])
    return [model for model in catalogue(source).models["model"] if model in found]


@st.cache_resource(max_entries=32, show_spinner=False)
def map_of(source: Source, model: str) -> Frame:
    """The map of an encoder, by sample_id: sample_id, dataset, label, origin (the image that it is made from), x, y.

    Not copied on each use, so nobody writes into it.
    """
    sql = """
        SELECT m.sample_id, s.dataset, s.label, s.source_id AS origin, m.x, m.y
        FROM maps m JOIN samples s USING (sample_id) WHERE m.model = ? ORDER BY m.sample_id"""
    return query(source, sql, [model])


@st.cache_resource(max_entries=32, show_spinner=False)
def map_neighbours(source: Source, model: str) -> Frame:
    """The nearest mapped images of every mapped image: sample_id, rank, neighbour_id, similarity, and of the neighbour
    label and origin. Not copied on each use, so nobody writes into it."""
    sql = """
        SELECT n.sample_id, n.rank, n.neighbour_id, n.similarity, s.label, s.source_id AS origin
        FROM map_neighbours n JOIN samples s ON s.sample_id = n.neighbour_id WHERE n.model = ?
        ORDER BY n.sample_id, n.rank"""
    return query(source, sql, [model])


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


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=KEYS)
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


@st.cache_data(max_entries=16, show_spinner=False)
def label_facts(source: Source) -> Frame:
    """What each source of labels besides the original ones gives to each set, in the order of the catalogue.

    dataset, label_source, n_images, n_empty, n_several (two labels or more), n_original (the original one among them),
    most (largest number of labels).
    """
    frame = query(
        source,
        """
        SELECT dataset, label_source, CAST(sum(n_images) AS INTEGER) AS n_images,
               CAST(coalesce(sum(n_images) FILTER (n_labels = 0), 0) AS INTEGER) AS n_empty,
               CAST(coalesce(sum(n_images) FILTER (n_labels > 1), 0) AS INTEGER) AS n_several,
               CAST(sum(n_with_original) AS INTEGER) AS n_original, max(n_labels) AS most
        FROM label_sets WHERE label_source <> 'original' GROUP BY ALL ORDER BY ALL
        """,
    )
    order = {dataset: i for i, dataset in enumerate(catalogue(source).datasets.index)}
    return frame.sort_values("dataset", key=lambda column: column.map(order), kind="stable", ignore_index=True)


@st.cache_data(max_entries=16, show_spinner=False)
def label_processes(source: Source) -> dict[tuple[str, str], str]:
    """(dataset, source of labels) -> how these labels were made, in words; only those of which that is known."""
    rows = query(source, "SELECT dataset, source, about FROM label_sources WHERE about <> '' ORDER BY ALL")
    return {(row.dataset, row.source): row.about for row in records(rows)}


@st.cache_data(max_entries=32, show_spinner=False)
def label_histogram(source: Source, dataset: str, label_source: str) -> Frame:
    """Test images of a set by their number of labels: n_labels (from 0 on), n_images, share."""
    sql = "SELECT n_labels, n_images FROM label_sets WHERE dataset = ? AND label_source = ? ORDER BY n_labels"
    frame = query(source, sql, [dataset, label_source])
    return frame.assign(share=frame["n_images"] / max(int(frame["n_images"].sum()), 1))


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=KEYS)
def label_metrics(source: Source, dataset: str, label_source: str, models: tuple[str, ...]) -> Frame:
    """Accuracies on all clean images by the original labels (top1) and by a source (all others), a row a metric.

    Columns: those of the model, metric, value, ci_low, ci_high, n.
    """
    frame = query(
        source,
        f"""
        SELECT model, metric, value, ci_low, ci_high, n FROM metrics
        WHERE dataset = ? AND condition = 'clean' AND subset = 'all' AND model IN ({_marks(models)})
          AND ((label_source = 'original' AND metric = 'top1')
            OR (label_source = ? AND metric IN ('any_of', 'any_of_empty_wrong', 'class_balanced', 'top_k')))
        ORDER BY model, metric
        """,
        [dataset, *models, label_source],
    )
    return with_models(frame, source)


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=KEYS)
def label_accuracy(source: Source, dataset: str, label_source: str, models: tuple[str, ...]) -> Frame:
    """Accuracy of models by the number of labels of an image: the columns of table `label_accuracy` and the model's."""
    frame = query(
        source,
        f"""
        SELECT model, scoring, n_labels, value, ci_low, ci_high, n, stratified_pp, stratified_low, stratified_high,
               n_classes
        FROM label_accuracy WHERE dataset = ? AND label_source = ? AND model IN ({_marks(models)})
        ORDER BY model, scoring, n_labels
        """,
        [dataset, label_source, *models],
    )
    return with_models(frame, source)


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=KEYS)
def label_correlation(source: Source, dataset: str, label_source: str, within: str, models: tuple[str, ...]) -> Frame:
    """Correlation of the number of labels with being right: the model's columns, scoring, rho, ci_low, ci_high, n."""
    frame = query(
        source,
        f"""
        SELECT model, scoring, rho, ci_low, ci_high, n FROM label_correlation
        WHERE dataset = ? AND label_source = ? AND within = ? AND model IN ({_marks(models)}) ORDER BY model, scoring
        """,
        [dataset, label_source, within, *models],
    )
    return with_models(frame, source)


@st.cache_data(max_entries=16, show_spinner=False)
def label_pairs(source: Source) -> list[tuple[str, str, str, str]]:
    """(original, replication, source of labels on each) of the gaps that are known by original and by any label."""
    sql = "SELECT DISTINCT original, replication, labels_original, labels_replication FROM label_gaps ORDER BY ALL"
    return [tuple(row) for row in query(source, sql).itertuples(index=False)]


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=KEYS)
def label_gaps(source: Source, pair: tuple[str, str, str, str], models: tuple[str, ...]) -> Frame:
    """Gaps of one of `label_pairs` by original and by any label: the model's columns, and those of table `label_gaps`.

    The smallest gap by original labels comes first; a row for images without labels left out, and one for wrong.
    """
    frame = query(
        source,
        f"""
        SELECT model, empty, gap_top1_pp, top1_low, top1_high, gap_any_of_pp, any_of_low, any_of_high,
               removed_pp, removed_low, removed_high, n_original, n_replication
        FROM label_gaps
        WHERE original = ? AND replication = ? AND labels_original = ? AND labels_replication = ?
          AND model IN ({_marks(models)})
        ORDER BY gap_top1_pp, model, empty
        """,
        [*pair, *models],
    )
    return with_models(frame, source)


@st.cache_resource(max_entries=8, show_spinner=False)
def queue(source: Source, dataset: str) -> Frame:
    """Table `queue` of a set. Not copied on each use, so nobody writes into it."""
    sql = "SELECT q.* FROM queue q JOIN samples s USING (sample_id) WHERE s.dataset = ? ORDER BY sample_id"
    return query(source, sql, [dataset])


@st.cache_resource(max_entries=4, show_spinner=False)
def sample_datasets(source: Source) -> dict[str, str]:
    """Test image -> its set."""
    frame = query(source, "SELECT sample_id, dataset FROM samples WHERE split = 'test'")
    return dict(zip(frame["sample_id"], frame["dataset"], strict=True))


@st.cache_resource(max_entries=16, show_spinner=False)
def pictured(source: Source, dataset: str) -> Frame:
    """label and source_id of the test images of a set that have a picture, by sample_id. Nobody writes into it."""
    sql = """SELECT s.sample_id, s.label, s.source_id FROM samples s JOIN images USING (sample_id)
             WHERE s.dataset = ? AND s.split = 'test' ORDER BY s.sample_id"""
    return query(source, sql, [dataset]).set_index("sample_id")


@st.cache_data(max_entries=8, show_spinner=False)
def simulated(source: Source) -> frozenset[str]:
    """Names that nobody here can take: of annotators that are no people, and of those whose votes were imported."""
    people = "SELECT annotator FROM votes WHERE kind = 'human'"
    sql = f"SELECT DISTINCT annotator FROM ballots WHERE annotator NOT IN ({people})"
    return frozenset(query(source, f"{sql} UNION SELECT annotator FROM votes WHERE kind <> 'human'")["annotator"])


def _of_set(table: str) -> str:
    return f"SELECT * FROM {table} WHERE dataset = ? ORDER BY ALL"


@st.cache_resource(max_entries=2, show_spinner=False)
def event_ids(source: Source) -> frozenset[str]:
    """Ids of all events of annotators that these results know."""
    return frozenset(query(source, "SELECT event_id FROM votes")["event_id"])


@st.cache_data(max_entries=16, show_spinner=False)
def annotators(source: Source, dataset: str) -> Frame:
    """Table `annotators` of a set; people first."""
    frame = query(source, _of_set("annotators"), [dataset])
    return frame.sort_values(["kind", "annotator"], ignore_index=True)


@st.cache_data(max_entries=16, show_spinner=False)
def agreement(source: Source, dataset: str) -> Frame:
    """Table `agreement` of a set; the row of all together has `*` for both."""
    return query(source, _of_set("agreement"), [dataset])


@st.cache_data(max_entries=16, show_spinner=False)
def tick_rates(source: Source, dataset: str) -> Frame:
    """Table `tick_rates` of a set."""
    return query(source, _of_set("tick_rates"), [dataset])


@st.cache_data(max_entries=16, show_spinner=False)
def vote_rules(source: Source, dataset: str) -> Frame:
    """Table `vote_rules` of a set."""
    return query(source, _of_set("vote_rules"), [dataset])


@st.cache_data(max_entries=16, show_spinner=False)
def proposal_recall(source: Source) -> Frame:
    """Table `proposal_recall`, the smallest ensemble of each set and source first."""
    return query(source, "SELECT * FROM proposal_recall ORDER BY dataset, label_source, n_models, ensemble")


@st.cache_data(max_entries=8, show_spinner=False)
def consensus(source: Source, dataset: str) -> Frame:
    """Table `consensus` of a set."""
    sql = "SELECT c.* FROM consensus c JOIN samples s USING (sample_id) WHERE s.dataset = ? ORDER BY ALL"
    return query(source, sql, [dataset])


@st.cache_data(max_entries=16, show_spinner=False)
def voted_datasets(source: Source) -> list[str]:
    """Sets that somebody voted on, in the order of the catalogue."""
    found = set(query(source, "SELECT DISTINCT dataset FROM vote_rules")["dataset"])
    return [dataset for dataset in catalogue(source).datasets.index if dataset in found]


@st.cache_data(max_entries=64, show_spinner=False)
def trail(source: Source, sample_id: str) -> tuple[Frame, Frame, Frame]:
    """Of one image: its events (table `votes`) in the order of time, its ballots, and table `consensus`."""
    tables = (("votes", "utc, event_id"), ("ballots", "kind, annotator, class_id"), ("consensus", "class_id"))
    events, ballots, decided = (
        query(source, f"SELECT * FROM {table} WHERE sample_id = ? ORDER BY {order}", [sample_id])
        for table, order in tables
    )
    return events, ballots, decided


@st.cache_data(max_entries=8, show_spinner=False)
def recall_wanted(source: Source) -> float:
    """The share of known labels that the parameters want to be proposed."""
    said = yaml.safe_load(snapshot(source).get("params", "")) or {}
    return configuration.Proposals(**said.get("proposals", {})).recall
