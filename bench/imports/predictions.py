"""`bench import predictions`: files with one model's answers -> data/imported and an entry of params.yaml."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from bench.config import Config, Imported, ModelName, family_of, file_stem, same_file
from bench.errors import BenchError
from bench.imports import params, target
from bench.imports.read import KEYS, SCORES, SHOWN, VALUE, Raw, listed, offending, read
from bench.imports.target import Target
from bench.presets import merge
from bench.store import tables

if TYPE_CHECKING:
    import pandas as pd

CLASSES = (
    "pred", "prediction", "predicted", "pred_class", "class", "class_id", "class_index", "class_name", "wnid", "label",
)  # fmt: skip
"""Names of the column with the answer, the first one that is there counts. The same for the next three."""
CONFIDENCES = ("p_top1", "confidence", "probability", "prob")
TOPS = ("top5", "topk", "top_k")
PREFIXES = {"logits": "logit_", "probabilities": "p_"}
KEPT = 5
TOLERANCE = 1e-3
"""How far the sum of a row of probabilities may be from 1, and a confidence from the probability of the answer."""
PERCENT_TOLERANCE = 2
"""How far the middle sum of rows of percentages, which may be rounded, may be from 100."""
CHUNK = 4096
MAX_STEM = 200
MEASURES = ("msp", "entropy_nats", "margin", "energy")


@dataclass(frozen=True)
class Options:
    """How to read the files where they do not say it themselves; `as_is`: even where that seems to be wrong."""

    order: Path | None = None
    in_order: bool = False
    one_based: bool = False
    percent: bool = False
    classes: str | None = None
    scores: str | None = None
    as_is: bool = False


@dataclass(frozen=True)
class Origin:
    """What is known of the model."""

    origin: str = ""
    family: str | None = None
    method: str | None = None
    arch: str | None = None


def run(
    config: Config,
    files: list[Path],
    model: str,
    dataset: str,
    options: Options = Options(),
    origin: Origin = Origin(),
    *,
    dry_run: bool = False,
) -> str:
    """Check and import the answers of `model` to `dataset`; say what was understood and what was written.

    Raises BenchError, with the first rows at fault; nothing has changed then.
    """
    _entry(config, files, model, dataset, origin)
    goal = target.load(config, dataset)
    frame, said = understand(goal, read(files), options)
    if dry_run:
        return "\n".join([*said, "Nothing was written (--dry-run)."])
    path = config.data / "imported" / "predictions" / dataset / f"{file_stem(model)}.parquet"
    with merge.locked(config.root / "params.yaml") as config:
        entry = _entry(config, files, model, dataset, origin)
        known = config.imported.get(model)

        def edit(text: str) -> str:
            pins = {**(known.datasets if known else {}), dataset: tables.sha256(path)}
            if known is None:
                return params.with_entry(text, "imported", model, {**entry, "datasets": pins})
            for key, value in {**entry, "datasets": pins}.items():
                if value != getattr(known, key):
                    text = params.with_value(text, "imported", model, key, value)
            return text

        params.commit(config, [path], lambda: tables.write("imported", frame, path, level=tables.FAST_LEVEL), edit, [])
    return "\n".join([*said, f"Written: {path.relative_to(config.root)}, pinned in params.yaml. Next: `dvc repro`."])


def remove(config: Config, model: str, dataset: str | None = None) -> str:
    """Take an imported model, or its answers to one dataset, out of params.yaml and data/. BenchError where it is not
    there, or came with a preset."""
    with merge.locked(config.root / "params.yaml") as config:
        return _remove(config, model, dataset)


def _remove(config: Config, model: str, dataset: str | None) -> str:
    held = config.imported.get(model)
    if held is None or (dataset is not None and dataset not in held.datasets):
        there = listed(config.imported) if held is None else listed(held.datasets)
        raise BenchError(
            f"there are no imported predictions of {model!r}{f' for {dataset!r}' if dataset else ''}.",
            where="params.yaml",
            remedy=f"Imported are: {there or 'none'}.",
        )
    if held.fetched is not None:
        raise BenchError(
            f"{model!r} came with the preset {held.fetched!r}.",
            where="params.yaml",
            remedy=f"Remove that with `bench preset remove {held.fetched}`.",
        )
    dropped = [dataset] if dataset is not None else list(held.datasets)
    rest = {name: pin for name, pin in held.datasets.items() if name not in dropped}

    def edit(text: str) -> str:
        if rest:
            return params.with_value(text, "imported", model, "datasets", rest)
        return params.without_entry(text, "imported", model)

    gone = [config.imported_predictions(model, name) for name in dropped]
    params.commit(config, [], lambda: None, edit, gone)
    return f"Removed: {model} on {', '.join(dropped)}. `bench prune` removes its results, `dvc repro` renews the rest."


def _entry(config: Config, files: list[Path], model: str, dataset: str, origin: Origin) -> dict[str, Any]:
    """What params.yaml says of the model, but for `datasets`. BenchError where the name is taken, or contradicts."""
    suite = config.dataset(dataset).suite
    if model in config.models or model in config.uncertainty.ensembles:
        kind = "a model that is trained here" if model in config.models else "an ensemble"
        raise BenchError(f"{model!r} is the name of {kind}.", where="params.yaml", remedy="Choose another --model.")
    if len(file_stem(model).encode()) > MAX_STEM:
        raise BenchError(f"{model!r} is too long for a file name.", where="--model", remedy="Choose a shorter name.")
    if (pair := same_file([*config.models, *config.uncertainty.ensembles, *config.imported, model])) is not None:
        raise BenchError(
            f"{model!r} differs from {pair[0]!r} only in upper and lower case, which not all file systems tell apart.",
            where="--model",
            remedy="Choose another name.",
        )
    said = " ".join(origin.origin.split()) or ", ".join(file.name for file in files)
    given = {"family": origin.family, "method": origin.method, "arch": origin.arch}
    if origin.family is None:
        given["family"] = family_of(origin.method)
    if given["family"] == "supervised" and given["method"] is None:
        given["method"] = "supervised"
    entry = {"suite": suite, "origin": said, **{key: value for key, value in given.items() if value is not None}}
    _check_entry(model, {**entry, "datasets": {dataset: "0" * 64}})
    known = config.imported.get(model)
    if known is None:
        return entry
    if dataset in known.datasets:
        raise BenchError(
            f"{model!r} has predictions for {dataset!r} already.",
            where="params.yaml",
            remedy=f"Choose another --model, or `bench import remove --model {model!r} --dataset {dataset}` first.",
        )
    if known.fetched is not None:
        raise BenchError(
            f"{model!r} comes with the preset {known.fetched!r}.", where="params.yaml", remedy="Choose another --model."
        )
    if known.suite != suite:
        raise BenchError(
            f"{model!r} belongs to the suite {known.suite!r}, {dataset!r} to {suite!r}.",
            where="params.yaml",
            remedy="Choose another --model.",
        )
    for key, value in given.items():
        if value is not None and value != getattr(known, key):
            raise BenchError(
                f"{key} {value!r} contradicts {getattr(known, key)!r}, which params.yaml says of {model!r}.",
                where=f"--{key}",
                remedy=f"Leave --{key} out, choose another --model, or correct params.yaml.",
            )
    parts = known.origin.split("; ")
    return {"origin": known.origin if said in parts else f"{known.origin}; {said}"}


def _check_entry(model: str, entry: dict[str, Any]) -> None:
    """BenchError where params.yaml could not hold the model's name or what is said of it."""
    try:
        TypeAdapter(ModelName).validate_python(model)
        Imported(**entry)
    except ValidationError as fault:
        first = fault.errors()[0]
        named = "the name" if fault.title != "Imported" else " ".join(map(str, first["loc"])) or "the model"
        raise BenchError(
            f"{named} is not valid: {first['msg'].removeprefix('Value error, ')}.",
            where=repr(model),
            remedy="A name begins with a letter or digit, and has at most 120 characters and no control characters; "
            "correct --model, --family, --method or --arch.",
        ) from None


def understand(goal: Target, raw: Raw, options: Options) -> tuple[pd.DataFrame, list[str]]:
    """Rows of table `imported` for every test image of `goal`, and what was understood, a line each."""
    import pandas as pd

    keyed = target.keyed(goal, raw, options.order, options.in_order)
    target.check_complete(goal, keyed.place, raw.where, "Give an answer to every test image.")
    found, used = _find(goal, raw)
    pred, top, about = _classes(goal, raw, found, options)
    columns: dict[str, Any] = {"sample_id": goal.ids[keyed.place]}
    labels = goal.labels[keyed.place].astype(np.int64)
    confidence, kind = None, ""
    if options.percent and not found.confidence and found.scores is None:
        raise BenchError("has no confidences.", where=raw.where, remedy="Leave --percent out.")
    if options.scores and found.scores is None:
        raise BenchError("has no scores of all classes.", where=raw.where, remedy="Leave --scores out.")
    if found.confidence:
        confidence = _numbers(raw, found.confidence)
        confidence = _shares(confidence, options.percent, f"`{found.confidence}`", raw.where)
    if found.scores is not None:
        scores, kind = _scores(raw, found, goal, options)
        scored = _from_scores(scores, kind == "logits", labels, pred)
        if pred is not None:
            _check_answers(goal, scores, pred, raw.where)
        if confidence is not None:
            _check_confidence(confidence, scored["p_top1"], raw.where)
        columns |= scored
        top, pred = scored["top5"], scored["pred"]
        about = about or f"answers from `{used[-1]}`"
    elif pred is None:
        raise BenchError(
            f"has no column with the answers, only {listed(raw.columns)}.",
            where=raw.where,
            remedy=f"Name it `pred`, or give `top5`, `probabilities` or `logits`; also known are {listed(CLASSES)}.",
        )
    else:
        unknown = np.full(len(pred), np.nan, np.float32)
        columns |= {"pred": pred, "p_top1": unknown, "p_true": unknown, **dict.fromkeys(MEASURES, unknown)}
        columns["top5"] = top if top is not None else [None] * len(pred)
        if confidence is not None:
            columns |= {"p_top1": confidence, "msp": 1 - confidence}
    frame = pd.DataFrame({name: _held(values) for name, values in columns.items()})
    unused = [name for name in raw.columns if name not in used and name not in KEYS]
    said = [
        f"{raw.where}: {raw.format}, {keyed.about}, {raw.n:,} rows = all test images of {goal.dataset!r}.",
        f"Answers: {about}. {_optional(found, kind, top)}",
        *([f"Not used: {listed(unused)}."] if unused else []),
        f"Accuracy on the original labels: {np.mean(pred == labels):.2%}.",
        *_suspicions(goal, keyed.place, pred, labels, None if options.as_is else raw.where),
    ]
    return frame, said


@dataclass(frozen=True)
class _Found:
    """Names of the columns that are used: of the answer, the confidence, the k best, the scores of all classes."""

    answer: str | None
    confidence: str | None
    top: list[str]
    scores: list[str] | None
    kind: str


def _find(goal: Target, raw: Raw) -> tuple[_Found, list[str]]:
    names = {name.casefold(): name for name in raw.columns}

    def first(among: tuple[str, ...]) -> str | None:
        return next((names[name] for name in among if name in names), None)

    n = len(goal.classes)
    scores, kind = None, ""
    for guess, among in SCORES.items():
        wide = {int(m[1]): names[m[0]] for m in (re.fullmatch(rf"{PREFIXES[guess]}(\d+)", name) for name in names) if m}
        if (one := first(among)) is not None:
            scores, kind = [one], guess
        elif wide:
            if sorted(wide) != list(range(n)):
                raise BenchError(
                    f"has {len(wide)} columns `{PREFIXES[guess]}0`, ..., but {goal.dataset!r} has {n} classes.",
                    where=raw.where,
                    remedy="Give one for each class of this label space, counted from 0.",
                )
            scores, kind = [wide[place] for place in range(n)], guess
        if scores:
            break
    value = names.get(VALUE) if set(names) - {VALUE} <= set(KEYS) else None
    if value is not None:
        array = raw.columns[value]
        if array.ndim == 2 and array.dtype.kind == "f":
            return _Found(None, None, [], [value], "scores"), [value]
        if array.ndim == 2 or (array.dtype.kind == "O" and any(isinstance(one, list) for one in array[:1000])):
            return _Found(None, None, [value], None, ""), [value]
        return _Found(value, None, [], None, ""), [value]
    one = first(TOPS)
    several = []
    while f"top{len(several) + 1}" in names:
        several.append(names[f"top{len(several) + 1}"])
    top = [one] if one and (raw.columns[one].ndim == 2 or _is_lists(raw.columns[one])) else several
    found = _Found(first(CLASSES), first(CONFIDENCES), top, scores, kind)
    return found, [*filter(None, (found.answer, found.confidence)), *top, *(scores or [])]


def _is_lists(array: np.ndarray) -> bool:
    return array.dtype.kind == "O" and any(isinstance(one, list) for one in array[:1000])


def _classes(
    goal: Target, raw: Raw, found: _Found, options: Options
) -> tuple[np.ndarray | None, list[Any] | np.ndarray | None, str]:
    """The answer to each row, its best classes, and in words what they were given as; None where there are none."""
    parts, rows = [], []
    if found.answer:
        array = raw.columns[found.answer]
        if array.ndim == 2 or _is_lists(array):
            raise BenchError(
                f"`{found.answer}` has lists in place of a class.", where=raw.where, remedy="Call that column `top5`."
            )
        parts.append(array)
        rows.append(np.arange(raw.n))
    if len(found.top) > 1:
        parts.append(_stacked([raw.columns[name] for name in found.top]).ravel())
        rows.append(np.repeat(np.arange(raw.n), len(found.top)))
    elif found.top:
        values, at = target.flat(raw.columns[found.top[0]], raw.where)
        parts.append(values)
        rows.append(at)
    if not parts:
        return None, None, ""
    values = parts[0] if len(parts) == 1 else _stacked(parts, join=True)
    given = target.class_ids(goal, values, options.classes, options.one_based, raw.where, np.concatenate(rows))
    pred = given.ids[: raw.n] if found.answer else None
    if not found.top:
        return pred, None, f"{given.about} in `{found.answer}`"
    flat, at = given.ids[raw.n if found.answer else 0 :], rows[-1]
    top, pred = _checked_top(flat, at, pred, raw)
    names = listed(found.top if len(found.top) == 1 or not found.answer else [found.answer, *found.top])
    return pred, top, f"{given.about} in {names}"


def _stacked(parts: list[np.ndarray], *, join: bool = False) -> np.ndarray:
    kinds = {part.dtype.kind for part in parts}
    if "O" in kinds and len(kinds) > 1:
        parts = [part.astype(object) for part in parts]
    return np.concatenate(parts) if join else np.column_stack(parts)


def _checked_top(flat: np.ndarray, rows: np.ndarray, pred: np.ndarray | None, raw: Raw) -> tuple[Any, np.ndarray]:
    """The best classes of each row, at most KEPT of them, and the answer. BenchError where they contradict."""
    lengths = np.bincount(rows, minlength=raw.n)
    starts = np.cumsum(lengths) - lengths
    pairs = np.unique(rows * (int(flat.max(initial=0)) + 1) + flat, return_counts=True)
    if (pairs[1] > 1).any():
        bad = np.unique(pairs[0][pairs[1] > 1] // (int(flat.max(initial=0)) + 1))
        said = offending(bad, (str(flat[starts[r] : starts[r] + lengths[r]].tolist()) for r in bad[:SHOWN]))
        raise BenchError(
            f"{len(bad):,} rows have a class twice among their best: {said}.",
            where=raw.where,
            remedy="Give each class once, the most probable first.",
        )
    known = lengths > 0
    if pred is None:
        if not known.all():
            bad = np.flatnonzero(~known)
            raise BenchError(
                f"{len(bad):,} rows have no class: {offending(bad, ['empty'] * SHOWN)}.",
                where=raw.where,
                remedy="Give at least the answer.",
            )
        pred = flat[starts]
    else:
        best = flat[np.minimum(starts, max(len(flat) - 1, 0))] if len(flat) else pred
        bad = np.flatnonzero(known & (best != pred))
        if len(bad):
            said = offending(bad, (f"answer {pred[r]}, best {best[r]}" for r in bad[:SHOWN]))
            raise BenchError(
                f"the first of the best classes is not the answer in {len(bad):,} rows: {said}.",
                where=raw.where,
                remedy="Give the most probable class first, or leave one of the two columns out.",
            )
    assert pred is not None, "it was given, or is the first of the best"
    if (lengths == lengths[0]).all() and lengths[0]:
        return flat.reshape(raw.n, -1)[:, :KEPT].astype(np.int16), pred
    cut = np.minimum(lengths, KEPT)
    return [flat[s : s + n].astype(np.int16) if n else None for s, n in zip(starts, cut, strict=True)], pred


def _numbers(raw: Raw, name: str) -> np.ndarray:
    values = raw.columns[name]
    if values.dtype.kind not in "iuf" or values.ndim != 1:
        raise BenchError(f"`{name}` holds no numbers.", where=raw.where, remedy="Correct it, or leave it out.")
    values = values.astype(np.float64)
    _check_finite(values, f"`{name}`", raw.where)
    return values


def _check_finite(values: np.ndarray, name: str, where: str) -> None:
    fine = np.isfinite(values)
    bad = np.flatnonzero(~(fine if fine.ndim == 1 else fine.all(axis=1)))
    if len(bad):
        said = offending(bad, (_short(values[row][~np.isfinite(values[row])]) for row in bad[:SHOWN]))
        raise BenchError(
            f"{name} is missing, NaN or infinite in {len(bad):,} rows: {said}.",
            where=where,
            remedy="Correct these rows, or leave the column out.",
        )


def _short(values: Any) -> str:
    return ", ".join(f"{value:g}" for value in np.atleast_1d(values)[:3])


def _shares(values: np.ndarray, percent: bool, name: str, where: str) -> np.ndarray:
    """Confidences as shares. BenchError where they are none, or seem to be percentages and nothing says so."""
    large = bool(np.median(values) > 1)
    if percent:
        if not large:
            said = "the median is at most 1"
            raise BenchError(f"{name} is not in percent, {said}.", where=where, remedy="Leave --percent out.")
        values = values / 100
    bad = np.flatnonzero((values < 0) | (values > 1 + TOLERANCE))
    if len(bad):
        said = offending(bad, map(_short, values[bad[:SHOWN]]))
        if not percent and large and values.min() >= 0 and values.max() <= 100 * (1 + TOLERANCE):
            raise BenchError(
                f"{name} seems to be in percent: {len(bad):,} rows are above 1: {said}.",
                where=where,
                remedy="If so, say --percent.",
            )
        raise BenchError(
            f"{name} is outside 0 to 1 in {len(bad):,} rows: {said}.",
            where=where,
            remedy="Give probabilities, or leave the column out.",
        )
    return np.minimum(values, 1)


def _scores(raw: Raw, found: _Found, goal: Target, options: Options) -> tuple[np.ndarray, str]:
    """(N, K) `logits`, or `probabilities` whose rows sum to 1, and which. BenchError with the first rows at fault."""
    assert found.scores is not None, "asked for where there are some"
    columns = [raw.columns[name] for name in found.scores]
    scores = columns[0] if len(columns) == 1 else np.column_stack(columns)
    name, n = f"`{found.scores[0]}`", len(goal.classes)
    if scores.dtype.kind not in "iuf" or scores.ndim != 2 or scores.shape[1] != n:
        width = f"{scores.shape[1]} numbers a row" if scores.ndim == 2 else "no list of one length a row"
        raise BenchError(
            f"{name} has {width}, but {goal.dataset!r} has {n} classes.",
            where=raw.where,
            remedy="Give one number for each class of this label space.",
        )
    _check_finite(scores, name, raw.where)
    kind = options.scores or found.kind
    sums = scores.sum(axis=1, dtype=np.float64)
    middle = float(np.median(sums))
    in_percent = abs(middle - 100) <= PERCENT_TOLERANCE
    if kind == "scores":
        sure = scores.min() < 0 and abs(middle - 1) > TOLERANCE and not in_percent
        kind = "logits" if sure else "probabilities"
    if kind == "logits":
        return scores, kind
    if options.percent:
        if middle <= 1 + TOLERANCE:
            raise BenchError(
                f"{name} is not in percent, its rows sum to {middle:g}.",
                where=raw.where,
                remedy="Leave --percent out.",
            )
        scores, sums = scores / 100, sums / 100
    negative = np.flatnonzero((scores < 0).any(axis=1))
    if len(negative):
        said = offending(negative, (_short(scores[row].min()) for row in negative[:SHOWN]))
        raise BenchError(
            f"{name} has negative probabilities in {len(negative):,} rows: {said}.",
            where=raw.where,
            remedy="Say `--scores logits` if it holds logits.",
        )
    bad = np.flatnonzero(np.abs(sums - 1) > TOLERANCE)
    if len(bad):
        said = offending(bad, (f"sum {_short(total)}" for total in sums[bad[:SHOWN]]))
        if in_percent and not options.percent:
            raise BenchError(
                f"{name} seems to be in percent, rows sum to 100: {said}.",
                where=raw.where,
                remedy="If so, say --percent.",
            )
        raise BenchError(
            f"{name} does not sum to 1 in {len(bad):,} rows: {said}.",
            where=raw.where,
            remedy="Give the probabilities of all classes, or say `--scores logits` if it holds logits.",
        )
    return scores, kind


def _from_scores(scores: np.ndarray, logits: bool, labels: np.ndarray, pred: np.ndarray | None) -> dict[str, Any]:
    """Every column but `sample_id` from (N, K) scores, in double precision; of equal classes the lower id is first,
    but for the answer `pred` where it is given."""
    n, k = scores.shape
    keep = min(KEPT, k)
    out: dict[str, Any] = {name: np.empty(n) for name in ("p_top1", "p_true", *MEASURES)}
    out |= {"top5": np.empty((n, keep), np.int16), "pred": np.empty(n, np.int64)}
    for start in range(0, n, CHUNK):
        part = slice(start, start + CHUNK)
        z = scores[part].astype(np.float64)
        rows = np.arange(len(z))
        if logits:
            peak = z.max(axis=1, keepdims=True)
            spread = np.exp(z - peak)
            total = spread.sum(axis=1, keepdims=True)
            p = spread / total
            out["energy"][part] = -(np.log(total) + peak)[:, 0]
        else:
            p = z / z.sum(axis=1, keepdims=True)
            out["energy"][part] = np.nan
        if pred is not None:
            z[rows, pred[part]] = np.nextafter(z[rows, pred[part]], np.inf)
        best = np.argsort(-z, axis=1, kind="stable")[:, :keep]
        first, second = p[rows, best[:, 0]], p[rows, best[:, 1]]
        out["top5"][part], out["pred"][part] = best, best[:, 0]
        out["p_top1"][part], out["p_true"][part] = first, p[rows, labels[part]]
        out["msp"][part], out["margin"][part] = 1 - first, 1 - (first - second)
        out["entropy_nats"][part] = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1)
    return out


def _check_answers(goal: Target, scores: np.ndarray, pred: np.ndarray, where: str) -> None:
    bad = np.flatnonzero(scores[np.arange(len(scores)), pred] < scores.max(axis=1))
    if len(bad):
        said = offending(bad, (f"answer {pred[r]}, most probable {int(scores[r].argmax())}" for r in bad[:SHOWN]))
        raise BenchError(
            f"the answer is not the class with the highest score in {len(bad):,} rows: {said}.",
            where=where,
            remedy=f"The scores must be in the order of the classes of {goal.dataset!r}; or leave one column out.",
        )


def _check_confidence(confidence: np.ndarray, p_top1: np.ndarray, where: str) -> None:
    bad = np.flatnonzero(np.abs(confidence - p_top1) > TOLERANCE)
    if len(bad):
        said = offending(bad, (f"{confidence[r]:g}, not {p_top1[r]:g}" for r in bad[:SHOWN]))
        raise BenchError(
            f"the confidence is not the probability of the answer in {len(bad):,} rows: {said}.",
            where=where,
            remedy="Leave one of the two out.",
        )


def _held(values: Any) -> Any:
    return list(values) if isinstance(values, np.ndarray) and values.ndim == 2 else values


def _optional(found: _Found, kind: str, top: Any) -> str:
    names = [f"confidence in `{found.confidence}`"] * bool(found.confidence)
    if found.scores is not None:
        names.append(f"{kind} in `{found.scores[0]}`" + ", ..." * (len(found.scores) > 1))
    elif top is not None:
        names.append("best classes, most probable first")
    return f"Also: {', '.join(names)}." if names else "No confidence, best classes or scores."


def _suspicions(goal: Target, place: np.ndarray, pred: np.ndarray, labels: np.ndarray, where: str | None) -> list[str]:
    """A line where few answers are right. BenchError, but for `where` None, where a change would make many right."""
    accuracy = float(np.mean(pred == labels))
    chance = float(np.bincount(labels).max() / len(labels))
    others = {
        "if classes were counted from 1 (--one-based)": np.mean(pred - 1 == labels),
        "if every class were one higher": np.mean(pred + 1 == labels),
        "if the rows were in the order of the dataset": np.mean(pred == goal.labels),
        "if the rows were in the order of the sorted ids": np.mean(pred == goal.labels[np.argsort(goal.ids)]),
    }
    pairs, counts = np.unique(pred * len(goal.classes) + labels, return_counts=True)
    most = np.zeros(len(goal.classes))
    np.maximum.at(most, pairs // len(goal.classes), counts)
    if len(labels) >= 10 * len(goal.classes):
        others["if the classes were numbered in another order"] = most.sum() / len(labels)
    better = {what: share for what, share in others.items() if share > max(2 * accuracy, accuracy + 0.2, 2 * chance)}
    if accuracy > 2 * chance and not better:
        return []
    said = f"; it would be {max(better.values()):.2%} {max(better, key=lambda what: better[what])}" if better else ""
    if better and where is not None:
        raise BenchError(
            f"an accuracy of {accuracy:.2%} is suspiciously low{said}.",
            where=where,
            remedy="Correct the classes or the order of the rows; if they are right, say --as-is.",
        )
    return [f"Warning: {accuracy:.2%} is suspiciously low (the largest class has {chance:.2%}){said}."]
