"""`bench import votes`: votes that were cast elsewhere -> data/imported/votes and a pin in params.yaml.

Two kinds of files are understood:

- a number for every class (CIFAR-10H): how often people, of whom nothing else is known, chose it. Such votes are
  *pooled*: their one annotator is the source.
- a row for each answer, with a column that says whose it is. A column `vote` says yes or no to the class; without one a
  row is a yes to its class. Then what an annotator did not name is missing, not "no": whether it was looked at is not
  known. With `single_choice` a row is a choice among all classes, which says no to the others.

Who chooses one of all classes says no to all others. Of these, what is stored are the classes that anybody chose for
that image, and its original label; all others are "no" from everybody, and would be most of the file. Vote shares and
what a majority says do not depend on these. An annotator's specificity does: estimated from labels that somebody chose,
it is lower than over all classes, and compares annotators of one source with each other only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from bench.config import Config, ImportedVotes
from bench.errors import BenchError
from bench.imports import labels, params, target
from bench.imports.read import KEYS, PEOPLE, SHOWN, VALUE, Raw, listed, offending, read
from bench.imports.target import Target
from bench.presets import merge
from bench.presets import preset as presets
from bench.relabel import events
from bench.store import tables

if TYPE_CHECKING:
    from bench.frames import Frame

Kind = Literal["human", "machine", "simulated"]
VOTES = ("vote", "answer", "action", "judgement", "judgment", "response")
"""Names of the column that says yes or no, the first one that is there counts."""
YES, NO = ("yes", "y", "true", "1", "1.0"), ("no", "n", "false", "0", "0.0")
UNSURE = ("unsure", "not sure", "maybe", "?")
MAX_NAME = 120


@dataclass(frozen=True)
class Options:
    """How to read the file where it does not say it itself; `single_choice`: see the head of this module."""

    order: Path | None = None
    in_order: bool = False
    one_based: bool = False
    classes: str | None = None
    single_choice: bool = False


def run(
    config: Config,
    file: Path,
    source: str,
    dataset: str,
    process: str = "",
    kind: Kind = "human",
    options: Options = Options(),
    *,
    dry_run: bool = False,
) -> str:
    """Check and import votes on images of `dataset` from `source`; say what was understood and what was written.

    `process` says in words how they were cast, `kind` by whom. Annotators are called `source/name`, so that those of
    two sources are never one. Raises BenchError, with the first rows at fault; nothing has changed then.
    """
    _check_source(config, source, dataset)
    goal = target.load(config, dataset)
    frame, is_pooled, said = understand(goal, read([file]), source, options)
    if dry_run:
        return "\n".join([*said, "Nothing was written (--dry-run)."])
    path = _path(config, dataset, source)
    with merge.locked(config.root / "params.yaml") as config:
        _check_source(config, source, dataset)
        others = config.datasets[dataset].votes

        def edit(text: str) -> str:
            about = " ".join(process.split())
            held = ImportedVotes(sha256=tables.sha256(path), process=about, kind=kind, pooled=is_pooled)
            return _edited(text, dataset, {**others, source: held})

        params.commit(config, [path], lambda: tables.write("imported_votes", frame, path), edit, [])
    return "\n".join([*said, f"Written: {path.relative_to(config.root)}, pinned in params.yaml. Next: `dvc repro`."])


def remove(config: Config, source: str, dataset: str) -> str:
    """Take imported votes out of params.yaml and data/. BenchError where they are not there, or came with a preset."""
    with merge.locked(config.root / "params.yaml") as config:
        return _remove(config, source, dataset)


def _remove(config: Config, source: str, dataset: str) -> str:
    held = config.dataset(dataset).votes
    if source not in held:
        raise BenchError(
            f"there are no imported votes {source!r} of {dataset!r}.",
            where="params.yaml",
            remedy=f"Imported are: {listed(held) or 'none'}.",
        )
    preset = config.datasets[dataset].fetched
    if preset is not None and source in presets.load(preset).votes.get(dataset, {}):
        raise BenchError(
            f"the votes {source!r} come with the preset {preset!r}.",
            where="params.yaml",
            remedy=f"Remove that with `bench preset remove {preset}`.",
        )
    rest = {name: votes for name, votes in held.items() if name != source}
    gone = [_path(config, dataset, source)]
    params.commit(config, [], lambda: None, lambda text: _edited(text, dataset, rest), gone)
    return f"Removed: votes {source} of {dataset}. Next: `dvc repro`."


def _path(config: Config, dataset: str, source: str) -> Path:
    """Where an import is written; what a preset brings lies elsewhere."""
    return config.data / "imported" / "votes" / dataset / f"{source}.parquet"


def _edited(text: str, dataset: str, held: Mapping[str, ImportedVotes]) -> str:
    """The text of params.yaml in which these are the imported votes of a dataset."""
    value = {name: votes.model_dump(exclude_defaults=True) for name, votes in held.items()}
    return params.with_value(text, "datasets", dataset, "votes", value or None)


def _check_source(config: Config, source: str, dataset: str) -> None:
    if re.fullmatch(labels.NAME, source) is None:
        raise BenchError(
            f"{source!r} is no name for a source.", where="--source", remedy="Use letters, digits, `.`, `_` and `-`."
        )
    held = config.dataset(dataset).votes
    if source.casefold() in {name.casefold() for name in held}:
        again = f" (imported ones can be removed: `bench import remove --votes {source} --dataset {dataset}`)"
        raise BenchError(
            f"{dataset!r} has votes from {source!r} already.", where="--source", remedy=f"Choose another name{again}."
        )
    known = {*config.models, *config.imported, *config.uncertainty.ensembles}
    if source in known or (config.data / events.FOLDER / events.stem(source)).is_dir():
        whose = "a model" if source in known else "an annotator"
        raise BenchError(
            f"{source!r} is the name of {whose}, and pooled votes have the name of their source.",
            where="--source",
            remedy="Choose another name.",
        )


def understand(goal: Target, raw: Raw, source: str, options: Options) -> tuple[Frame, bool, list[str]]:
    """Table `imported_votes`, whether the votes are pooled, and what was understood, a line each."""
    names = {name.casefold(): name for name in raw.columns}
    who = next((names[name] for name in PEOPLE if name in names), None)
    if who is not None:
        frame, about = _of_people(goal, raw, who, source, options)
    else:
        frame, about = _of_counts(goal, raw, source, options)
    if frame.empty:
        raise BenchError("holds no votes.", where=raw.where, remedy="Give another file.")
    return frame, who is None, [f"{raw.where}: {raw.format}, {raw.n:,} rows; {about[0]}.", *about[1:]]


def pooled(ids: np.ndarray, original: np.ndarray, counts: np.ndarray, source: str) -> Frame:
    """Table `imported_votes` from numbers of choices: ids (N,), original labels (N,), counts (N, K) whole numbers.

    Every class that anybody chose for an image, and its original label: n_yes = its count, n_no = all other choices.
    Images without a choice have no rows.
    """
    import pandas as pd

    totals = counts.sum(axis=1)
    kept = counts > 0
    kept[np.arange(len(counts)), original] = True
    rows, classes = np.nonzero(kept & (totals > 0)[:, None])
    n_yes = counts[rows, classes].astype(np.int64)
    columns = {"sample_id": ids[rows], "annotator": source, "class_id": classes, "n_yes": n_yes}
    return pd.DataFrame({**columns, "n_no": totals[rows].astype(np.int64) - n_yes})


def _of_counts(goal: Target, raw: Raw, source: str, options: Options) -> tuple[Frame, list[str]]:
    if options.single_choice or options.one_based or options.classes:
        raise BenchError(
            f"has no column that says whose answers these are ({listed(PEOPLE)}): numbers of choices are all it can "
            "hold, which need neither --single-choice nor --classes nor --one-based.",
            where=raw.where,
            remedy="Name that column, or leave these options out.",
        )
    given = raw.columns.get(VALUE)
    wide = given is not None and given.ndim == 2 and given.shape[1] == len(goal.classes)
    counts = given if wide else labels.counts_of(goal, raw)
    if counts is None:
        raise BenchError(
            f"has neither a number for each of the {len(goal.classes)} classes of {goal.dataset!r} nor a column that "
            f"says whose answers these are ({listed(PEOPLE)}), only {listed(raw.columns)}.",
            where=raw.where,
            remedy="Give `counts` of every class, or name the annotator of each row.",
        )
    keyed = target.keyed(goal, raw, options.order, options.in_order)
    counts = _whole(counts, keyed.ids, raw.where)
    original = goal.labels[keyed.place].astype(np.int64)
    frame = pooled(goal.ids[keyed.place], original, counts, source)
    totals = counts.sum(axis=1)
    some = totals > 0
    if not some.any():
        return frame, [""]
    best = counts[some].max(axis=1)
    right = counts[some, original[some]] == best
    tied = (counts[some] == best[:, None]).sum(axis=1) > 1
    lines = [
        f"{keyed.about}, a number of choices for each class",
        f"{int(totals.sum()):,} votes on {int(some.sum()):,} of the {len(goal.ids):,} test images of {goal.dataset!r}, "
        f"{int(totals[some].min())} to {int(totals[some].max())} an image, pooled: each is taken as one choice among "
        f"all {len(goal.classes)} classes, by people of whom nothing else is known.",
        f"The original label alone has the most votes on {(right & ~tied).mean():.2%} of them"
        f"{f', and shares the most on {int((right & tied).sum()):,}' if (right & tied).any() else ''}.",
    ]
    return frame, lines


def _whole(counts: np.ndarray, ids: np.ndarray, where: str) -> np.ndarray:
    """Counts as int64 (N, K). BenchError where they are no numbers of votes."""
    if counts.dtype.kind not in "iuf" or bool(np.isin(counts, (0, 1)).all()):
        what = "only 0 and 1" if counts.dtype.kind in "iufb" else "texts"
        raise BenchError(
            f"holds {what} for the classes, not numbers of votes.",
            where=where,
            remedy="Import labels with `bench import labels`; of votes, give how many each class had.",
        )
    numbers = counts.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(numbers) & (numbers >= 0) & (numbers < 2**31)).all(axis=1))
    if len(bad):
        said = offending(bad, map(str, ids[bad[:SHOWN]]))
        raise BenchError(
            f"counts are missing, infinite, negative or too large in {len(bad):,} rows: {said}.",
            where=where,
            remedy="Give 0 for no vote.",
        )
    bad = np.flatnonzero((numbers % 1 != 0).any(axis=1))
    if len(bad):
        raise BenchError(
            f"holds shares, not numbers of votes, in {len(bad):,} rows: "
            f"{offending(bad, map(str, ids[bad[:SHOWN]]))}. How many people voted is not known from these.",
            where=where,
            remedy="Give the counts; or import shares as labels with `bench import labels --min-share`.",
        )
    return numbers.astype(np.int64)


def _of_people(goal: Target, raw: Raw, column: str, source: str, options: Options) -> tuple[Frame, list[str]]:
    import pandas as pd

    keyed = target.keyed(goal, raw, options.order, options.in_order, once=False)
    people = _names(raw.columns[column], column, raw.where)
    name, values = labels.classes_of(raw)
    answer = next((n for n in raw.columns if n.casefold() in VOTES and n != name), None)
    if answer is not None and options.single_choice:
        raise BenchError(
            f"says yes or no to each class in `{answer}`.", where=raw.where, remedy="Leave --single-choice out."
        )
    if values.ndim == 1 and not labels.is_lists(values):
        flat, rows = values, np.arange(raw.n)
    else:
        flat, rows = target.flat(values, raw.where)
    if not len(flat):
        return pd.DataFrame(), [""]
    given = target.class_ids(goal, flat, options.classes, options.one_based, raw.where, rows)
    said = np.ones(raw.n, np.int8) if answer is None else _answers(raw.columns[answer], answer, raw.where)
    votes: Frame = pd.DataFrame(
        {"place": keyed.place[rows], "annotator": people[rows], "class_id": given.ids, "yes": said[rows], "row": rows}
    )
    key = ["place", "annotator"] if options.single_choice else ["place", "annotator", "class_id"]
    _check_once(goal, votes, key, raw.where)
    skipped = int((votes["yes"] == _UNSURE).sum())
    votes = votes.loc[votes["yes"] != _UNSURE]
    expressed = len(votes)
    if options.single_choice:
        votes = _among_all(votes, goal.labels)
    n_images, n_people = votes["place"].nunique(), votes["annotator"].nunique()
    n_yes = (votes["yes"] == 1).to_numpy(np.int64)
    frame = pd.DataFrame(
        {
            "sample_id": goal.ids[votes["place"].to_numpy(np.int64)],
            "annotator": f"{source}/" + votes["annotator"].astype(str),
            "class_id": votes["class_id"].to_numpy(np.int64),
            "n_yes": n_yes,
            "n_no": 1 - n_yes,
        }
    )
    means = "each a yes to its class; what an annotator did not name is missing, not no"
    if options.single_choice:
        means = f"each a choice among all {len(goal.classes)} classes: no to those that others chose, and to "
        means += "the label; of classes that nobody chose nothing is kept, so specificities come out low"
    if answer is not None:
        means = f"{int(n_yes.sum()):,} yes and {int((1 - n_yes).sum()):,} no (`{answer}`)"
        means += f"; {skipped:,} unsure ones were left out" if skipped else ""
    stated = "" if name in (VALUE, *KEYS) else f" in `{name}`"
    lines = [
        f"{keyed.about}, annotators in `{column}`, each class as {given.about}{stated}",
        f"{expressed:,} votes of {n_people:,} annotator{'s' * (n_people > 1)} on {n_images:,} of the "
        f"{len(goal.ids):,} test images of {goal.dataset!r}, {means}.",
    ]
    return frame, lines


_UNSURE = -1


def _among_all(votes: Frame, original: np.ndarray) -> Frame:
    """What choices say of every class that anybody chose for the image, and of its original label."""
    import pandas as pd

    seen = votes["place"].unique()
    own = pd.DataFrame({"place": seen, "class_id": original[seen].astype(np.int64)})
    offered = pd.concat([votes[["place", "class_id"]], own]).drop_duplicates()
    every = votes.rename(columns={"class_id": "chosen"}).merge(offered, on="place")
    return every.assign(yes=(every["chosen"] == every["class_id"]).astype(np.int8))


def _check_once(goal: Target, votes: Frame, key: list[str], where: str) -> None:
    again = votes.duplicated(key).to_numpy()
    if again.any():
        at = votes.loc[again]
        shown = (
            f"{goal.ids[place]}, {who}, class {class_id}"
            for place, who, class_id in zip(at["place"], at["annotator"], at["class_id"], strict=True)
        )
        what = "answers repeat an image and an annotator" if len(key) == 2 else "votes are repeated"
        raise BenchError(
            f"{int(again.sum()):,} {what}: {offending(at['row'].to_numpy(), shown)}.",
            where=where,
            remedy="Keep one choice an image and annotator, or leave --single-choice out."
            if len(key) == 2
            else "Keep one vote of an annotator on a class of an image.",
        )


def _names(values: np.ndarray, column: str, where: str) -> np.ndarray:
    """The annotators (N,) as texts. BenchError where one is empty, too long or cannot be printed."""
    if values.ndim != 1 or labels.is_lists(values):
        raise BenchError(f"`{column}` holds lists.", where=where, remedy="Give one annotator a row.")
    texts = np.empty(len(values), object)
    texts[:] = [_text(value) for value in values.tolist()]
    bad = np.array([not 0 < len(text) <= MAX_NAME or not text.isprintable() for text in texts], bool)
    if bad.any():
        at = np.flatnonzero(bad)
        raise BenchError(
            f"{len(at):,} rows have no name of 1 to {MAX_NAME} printable characters in `{column}`: "
            f"{offending(at, (repr(text[:20]) for text in texts[at[:SHOWN]]))}.",
            where=where,
            remedy="Name the annotator of every row.",
        )
    return texts


def _text(value: object) -> str:
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _answers(values: np.ndarray, column: str, where: str) -> np.ndarray:
    """1 for yes, 0 for no, _UNSURE (N,). BenchError with the first rows that say something else."""
    known = dict.fromkeys(YES, 1) | dict.fromkeys(NO, 0) | dict.fromkeys(UNSURE, _UNSURE)
    texts = [_text(value).casefold() for value in values.tolist()]
    bad = np.flatnonzero([text not in known for text in texts])
    if len(bad):
        raise BenchError(
            f"`{column}` is neither yes nor no in {len(bad):,} rows: "
            f"{offending(bad, (repr(str(values[row])[:20]) for row in bad[:SHOWN]))}.",
            where=where,
            remedy="Use yes and no, 1 and 0, or true and false; `unsure` is left out.",
        )
    return np.array([known[text] for text in texts], np.int8)
