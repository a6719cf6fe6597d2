"""`bench annotate export`: the labels of one source as files that other programs read. Functions from frames to bytes.

| format | what | one row or entry is |
|---|---|---|
| `refined` | JSON as Multilabelfy's refined labels: `{"<file>": ["<class index>", ...]}` | an image, `[]` for none |
| `parquet` | every label with its votes | a label |
| `csv` | for cleanlab: class indices | an image |
| `fiftyone` | CSV for FiftyOne: class names | an image |

Labels of an image are in the order of their scores, best first, then of their class index. A file is called as its
image's id without the dataset, with the suffix of the set's pictures, or `.jpeg` where there are none.

**cleanlab** (2.9, tested) takes lists of class indices; every class needs a column of `pred_probs`:

    labels = [json.loads(text) for text in pandas.read_csv(FILE)["labels"]]
    quality = cleanlab.multilabel_classification.get_label_quality_scores(labels, pred_probs)

**FiftyOne** (after its documentation of `CSVDataset`; not tested with the library) reads a column by a function:

    def several(text):
        return fo.Classifications(classifications=[fo.Classification(label=name) for name in json.loads(text)])

    fields = {"given": lambda text: fo.Classification(label=json.loads(text)), "labels": several, "basis": None}
    fo.Dataset.from_dir(dataset_type=fo.types.CSVDataset, data_path=IMAGES, labels_path=FILE, fields=fields)

**Spreadsheets** take a cell that begins with `=`, `+`, `-` or `@` for a formula. Nothing is escaped, as a changed name
would be of no image and no class: names of classes are JSON, so begin with `"` or `[`, ids begin with the dataset's
name, and `formulas` counts the names of files that do begin so.
"""

from __future__ import annotations

import csv as _csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from bench.config import Config
from bench.errors import BenchError
from bench.evaluate.correctness import CONSENSUS
from bench.frames import Frame
from bench.imports.read import listed
from bench.imports.target import IMAGE_SUFFIX
from bench.store import tables

Format = Literal["refined", "parquet", "csv", "fiftyone"]
EXTENSION = ".jpeg"
"""Of file names where a set has no pictures here: the published refined labels have it."""
EXTENSIONS = {"image/png": ".png", "image/webp": ".webp", "image/jpeg": ".jpeg"}
ORIGINAL = "original"
"""`basis` of a label that no votes decided."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Labelled:
    """The test images of one dataset with their labels of one source.

    samples: sample_id, label (the original one), of every test image; classes: class_id, name; labels: sample_id,
    class_id, weight; decided: table `consensus` of these images, without rows where the source is another one.
    """

    dataset: str
    source: str
    samples: Frame
    classes: Frame
    labels: Frame
    decided: Frame
    extension: str = EXTENSION


def rows(given: Labelled) -> Frame:
    """A row for each label, in the order of the images, then of scores, then of classes.

    sample_id, dataset, original_class_id, original_class, class_id, class_name, source, score, n_yes, n_no, n_unsure,
    state, basis. Of the source `consensus`, votes, score and state are those of this label where it was judged, and
    `basis` says whose votes decided the image: human, simulated, pooled ...; `original` where none did, or where they
    left a label disputed. Of other sources score is the weight of the label, and the votes are NULL.
    """
    names = given.classes.set_index("class_id")["name"]
    pair = ["sample_id", "class_id"]
    out = given.labels[[*pair, "weight"]].merge(given.samples.rename(columns={"label": "original_class_id"}))
    out = out.merge(given.decided[[*pair, "score", "n_yes", "n_no", "n_unsure", "state"]], on=pair, how="left")
    out = out.assign(
        dataset=given.dataset,
        source=given.source,
        score=out["score"].astype(float).fillna(out["weight"].astype(float)),
        class_name=out["class_id"].map(names),
        original_class=out["original_class_id"].map(names),
        basis=out["sample_id"].map(_basis(given)),
    )
    out = out.sort_values(["sample_id", "score", "class_id"], ascending=[True, False, True], ignore_index=True)
    return out[list(_COLUMNS)].astype({"n_yes": "Int32", "n_no": "Int32", "n_unsure": "Int32"})


_COLUMNS = {
    "sample_id": "string", "dataset": "string", "original_class_id": "int32", "original_class": "string",
    "class_id": "int32", "class_name": "string", "source": "string", "score": "float32", "n_yes": "int32",
    "n_no": "int32", "n_unsure": "int32", "state": "string", "basis": "string",
}  # fmt: skip
"""Column of `rows` -> Arrow type."""


def _basis(given: Labelled) -> Frame:
    """sample_id -> whose votes decided the image; NULL where the source is not made of votes here."""
    ids = given.samples["sample_id"]
    if given.source != CONSENSUS:
        return pd.Series(None, index=ids, dtype=object)
    open_ones = given.decided.loc[given.decided["state"] == "disputed", "sample_id"]
    settled = given.decided.loc[~given.decided["sample_id"].isin(open_ones)]
    whose = settled.drop_duplicates("sample_id").set_index("sample_id")["basis"]
    return whose.reindex(ids).fillna(ORIGINAL)


def _per_image(given: Labelled) -> Frame:
    """A row for each image, in the order of ids: sample_id, file, label, basis, and lists class_ids and scores."""
    found = rows(given).groupby("sample_id", sort=False).agg(class_ids=("class_id", list), scores=("score", list))
    out = given.samples[["sample_id", "label"]].sort_values("sample_id", ignore_index=True)
    out = out.merge(found, on="sample_id", how="left")
    for name in ("class_ids", "scores"):
        out[name] = [value if isinstance(value, list) else [] for value in out[name]]
    return out.assign(file=_files(given, out["sample_id"]), basis=out["sample_id"].map(_basis(given)).to_numpy())


def _files(given: Labelled, ids: Frame) -> list[str]:
    """Names of the images' files. BenchError where two are the same."""
    stable = [sample_id.split("/", 1)[1] for sample_id in ids]
    named = [name if re.search(IMAGE_SUFFIX, name) else f"{name}{given.extension}" for name in stable]
    if len(set(named)) < len(named):
        raise BenchError(
            f"two images of {given.dataset!r} would have one file name.",
            where="bench annotate export",
            remedy="Choose another --extension.",
        )
    return named


def refined(given: Labelled) -> bytes:
    """JSON object: file -> list of class indices as texts, every test image a key."""
    images = _per_image(given)
    lists = {file: [str(c) for c in ids] for file, ids in zip(images["file"], images["class_ids"], strict=True)}
    return (json.dumps(lists, ensure_ascii=False) + "\n").encode()


def parquet(given: Labelled) -> bytes:
    """Parquet with the columns of `rows`; images without a label have no row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in _COLUMNS.items()])
    table = pa.Table.from_pandas(rows(given), schema=schema, preserve_index=False).replace_schema_metadata(None)
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd", store_schema=False)
    return stream.getvalue()


def csv(given: Labelled, *, one_hot: bool = False) -> bytes:
    """CSV for cleanlab: sample_id, filepath, given_label (index), labels (JSON list of indices), scores, basis.

    With `one_hot` also `class_0` to `class_{K-1}`, 0 or 1.
    """
    images = _per_image(given)
    columns = {
        "sample_id": images["sample_id"],
        "filepath": images["file"],
        "given_label": images["label"],
        "labels": [json.dumps(ids) for ids in images["class_ids"]],
        "scores": _scores(images),
        "basis": images["basis"].fillna("").astype(str),
    }
    if one_hot:
        flags = np.zeros((len(images), len(given.classes)), np.int8)
        for row, ids in enumerate(images["class_ids"]):
            flags[row, ids] = 1
        columns |= {f"class_{place}": flags[:, place] for place in range(flags.shape[1])}
    return _as_csv(columns)


def fiftyone(given: Labelled) -> bytes:
    """CSV for FiftyOne: filepath, sample_id, given (JSON text), labels (JSON list of names), scores, basis."""
    images = _per_image(given)
    names = dict(zip(given.classes["class_id"], given.classes["name"], strict=True))
    columns = {
        "filepath": images["file"],
        "sample_id": images["sample_id"],
        "given": [json.dumps(names[label], ensure_ascii=False) for label in images["label"]],
        "labels": [json.dumps([names[c] for c in ids], ensure_ascii=False) for ids in images["class_ids"]],
        "scores": _scores(images),
        "basis": images["basis"].fillna("").astype(str),
    }
    return _as_csv(columns)


def _scores(images: Frame) -> list[str]:
    return [json.dumps([round(float(score), 6) for score in scores]) for scores in images["scores"]]


def _as_csv(columns: dict[str, Frame]) -> bytes:
    stream = io.StringIO(newline="")
    writer = _csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return stream.getvalue().encode()


FORMATS: dict[Format, tuple[Callable[[Labelled], bytes], str, str]] = {
    "refined": (refined, ".json", "application/json"),
    "parquet": (parquet, ".parquet", "application/vnd.apache.parquet"),
    "csv": (csv, ".csv", "text/csv"),
    "fiftyone": (fiftyone, ".csv", "text/csv"),
}
"""Format -> what makes it, the suffix of its file, its media type."""


def formulas(given: Labelled) -> int:
    """How many names of files a spreadsheet would take for formulas."""
    return sum(file.startswith(FORMULA) for file in _files(given, given.samples["sample_id"]))


def summary(given: Labelled) -> str:
    """What is exported, in words: images, labels, and whose votes they are."""
    n = len(given.samples)
    counts = given.labels.groupby("sample_id").size()
    several, none = int((counts >= 2).sum()), n - len(counts)
    said = f"{n:,} images of {given.dataset}, labels {given.source}: {several:,} ({several / n:.2%}) have two or more, "
    said += f"{none:,} have none"
    if given.source != CONSENSUS:
        return f"{said}."
    basis = _basis(given)
    decided = basis[basis != ORIGINAL]
    said += f"; votes decide {len(decided):,} images, the others keep their original label"
    simulated = int(decided.str.contains("simulated").sum())
    return f"{said}; of those, {simulated:,} are decided by simulated annotators." if simulated else f"{said}."


def run(
    config: Config,
    dataset: str,
    source: str,
    form: Format,
    out: Path,
    extension: str | None = None,
    *,
    one_hot: bool = False,
) -> str:
    """Write the labels of one source from the results to `out`; say what is in it.

    BenchError where there are no such labels, results are missing, or `out` cannot be written; it is then as it was.
    """
    if one_hot and form != "csv":
        raise BenchError("is for the format csv.", where="--one-hot", remedy="Leave it out.")
    given = load(config, dataset, source, extension)
    content = csv(given, one_hot=True) if one_hot else FORMATS[form][0](given)
    try:
        with tables.replacing(out) as temporary:
            temporary.write_bytes(content)
    except OSError as fault:
        raise BenchError(f"could not be written: {fault.strerror}.", where=out, remedy="Correct --out.") from None
    said = [f"{out}: {summary(given)}"]
    if form in ("csv", "fiftyone") and (n := formulas(given)):
        said.append(
            f"{n:,} names of files begin like a formula ({' '.join(FORMULA[:4])}): open it with no spreadsheet."
        )
    return "\n".join(said)


def load(config: Config, dataset: str, source: str, extension: str | None = None) -> Labelled:
    """The labels of one source of a dataset from results/. BenchError where there are none, or results are missing."""
    config.dataset(dataset)
    samples, described, classes, labels, decided = (
        tables.read(name, config.results / f"{name}.parquet")
        for name in ("samples", "datasets", "classes", "labels", "consensus")
    )
    mine = samples.loc[(samples["dataset"] == dataset) & (samples["split"] == "test"), ["sample_id", "label"]]
    spaces = described.loc[described["dataset"] == dataset, "label_space"]
    labels = labels.loc[labels["sample_id"].isin(mine["sample_id"])]
    if mine.empty or spaces.empty:
        raise BenchError(f"holds no {dataset!r}.", where=config.results, remedy="Run `dvc repro`.")
    if not (labels["source"] == source).any():
        raise BenchError(
            f"there are no labels {source!r} of {dataset!r}.",
            where="--source",
            remedy=f"Its sources are {listed(sorted(labels['source'].unique()))}.",
        )
    kept = decided["sample_id"].isin(mine["sample_id"]) & (source == CONSENSUS)
    return Labelled(
        dataset,
        source,
        mine.reset_index(drop=True),
        classes.loc[classes["label_space"] == spaces.iloc[0], ["class_id", "name"]],
        labels.loc[labels["source"] == source],
        decided.loc[kept],
        extension or _extension(config, dataset),
    )


def _extension(config: Config, dataset: str) -> str:
    """The suffix of the set's pictures, EXTENSION where there are none here."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from bench.data.fetch import THUMBNAILS

    for path in (config.folder(dataset) / THUMBNAILS, config.results / "images.parquet"):
        if path.is_file():
            table = pq.read_table(path, columns=["sample_id", "media_type"])
            table = table.filter(pc.starts_with(table["sample_id"], f"{dataset}/"))  # pyright: ignore[reportAttributeAccessIssue]
            kinds = table.column("media_type").unique().to_pylist()
            if len(kinds) == 1:
                return EXTENSIONS.get(kinds[0], EXTENSION)
    return EXTENSION
