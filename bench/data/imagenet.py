"""ImageNet's validation set and ImageNetV2 (matched frequency), without images: labels, and the top 5 of 67 models.

Two readers (`read_tables`, `read_official`; `read` picks by what a folder holds) and one writer. The images may not be
passed on, and nothing here needs them; `bench data attach` adds pictures to look at.

Sources, and their own layouts:

- github.com/modestyachts/ImageNetV2 (MIT): `data/datasets/<set>.json`, whose `image_filenames` are pairs of file and
  wnid; `data/predictions/<set>/<model>.npy`, (N, 5) class indices, most probable first, in the order of that list;
  `data/metadata/class_info.json`, which index is which wnid. Layout as its code/prediction_data.py reads it.
- github.com/esla/Multilabelfy (Apache-2.0): one JSON object, file of ImageNetV2 -> list of class indices as text. Where
  in that repository it is, could not be seen when this was written: it is the JSON whose keys are the set's files.
- timm (Apache-2.0), as installed: ReaL's labels, wnids, lemmas and definitions.

The addresses below, and their files, were read in listings of those repositories, but could not be tried: there was no
way to the internet. So no checksum of a source is stated; what verifies any of them is the preset's manifest, which
pins the files that `write` makes of them.

A class is known by its wnid; its index is the place of that in the sorted list. Nothing follows from the name or the
place of a folder.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import progress
from bench.config import file_stem
from bench.data import fetch
from bench.data.samples import LABELS, META, SAMPLES, DatasetMeta
from bench.errors import BenchError
from bench.store import tables

if TYPE_CHECKING:
    import pandas as pd

PRESET = "imagenet"
LABEL_SPACE = "imagenet-1k"
THREADS = 2
N_CLASSES = 1000
N_VALIDATION = 50_000
OFFICIAL_SETS = {"imagenet": "imagenet-validation-original", "imagenetv2": "imagenetv2-b-33"}
"""Dataset -> its name in modestyachts/ImageNetV2; b-33 is the matched-frequency set in its last revision."""
IMAGENETV2_URL = "https://raw.githubusercontent.com/modestyachts/ImageNetV2/b14e00d85f3065a18486d1a43181990a538e0122"
MULTILABELFY_URL = "https://codeload.github.com/esla/Multilabelfy/tar.gz/HEAD"
MAX_BYTES = 64 * 2**20
MAX_ARCHIVE_BYTES = 4 * 2**30
TABLE_SETS = {"imagenet": "imagenet_val", "imagenetv2": "imagenetv2_matched_frequency"}
REFINED = "imagenetv2_refined_labels.json"
RENAMED = {"fv_16k_model": "fv_16k", "fv_64k_model": "fv_64k"}
"""Models that some sets of the source call otherwise."""
NAMED_APART = {
    "n02012849": "crane (bird)",
    "n03126707": "crane (machine)",
    "n03710637": "maillot (tights)",
    "n03710721": "maillot (tank suit)",
}
"""The classes whose first lemma another class has too."""

_V2 = "github.com/modestyachts/ImageNetV2 (B. Recht, R. Roelofs, L. Schmidt, V. Shankar; MIT)"
_TIMM = "timm (Apache-2.0): ReaL's labels, WordNet ids, lemmas and definitions"
_TEXTS: dict[str, dict[str, Any]] = {
    "imagenet": {
        "title": "ImageNet validation",
        "about": "The 50,000 validation images of ILSVRC 2012, without the images themselves.",
        "source": f"Labels and predictions: {_V2}; {_TIMM}",
        "license": "labels and predictions MIT, ReaL's labels Apache-2.0; the images, which are not here: research",
        "label_sources": {
            "original": "One label an image, as published with ILSVRC 2012.",
            "real": "ReaL: raters answered no, maybe or yes to proposed labels; their answers were combined by the "
            "algorithm of Dawid and Skene (1979). Images may have several labels or none.",
        },
    },
    "imagenetv2": {
        "title": "ImageNetV2, matched frequency",
        "about": "10,000 new images collected after the procedure of ImageNet and sampled to match how often people "
        "chose the label for its validation images; without the images themselves.",
        "source": f"Labels and predictions: {_V2}; refined labels: github.com/esla/Multilabelfy (Apache-2.0); {_TIMM}",
        "license": "labels and predictions MIT, refined labels Apache-2.0; the images, which are not here: research",
        "label_sources": {
            "original": "One label an image, as published: the class that workers were asked about.",
            "refined_v2": "Multilabelfy: models proposed 20 labels an image, annotators ticked every one that is "
            "valid, and images on which they disagreed were refined. Images may have several labels or none.",
        },
    },
}


@dataclass(frozen=True)
class Published:
    """One set as published: file stems (N,), class indices (N,) and for each model its top 5, (N, 5) class indices."""

    stems: np.ndarray
    labels: np.ndarray
    top5: Callable[[], Iterator[tuple[str, np.ndarray]]]


@dataclass(frozen=True)
class Content:
    """What a source holds: every dataset, and the refined labels of ImageNetV2 (file stem -> class indices)."""

    sets: dict[str, Published]
    refined: dict[str, list[int]]


@dataclass(frozen=True)
class Classes:
    """The classes in the order of their indices: wnids, unique names, definitions."""

    wnids: list[str]
    names: list[str]
    definitions: list[str]


@cache
def classes() -> Classes:
    """The 1,000 classes of ILSVRC 2012 from timm's lists. BenchError where these are not as expected."""
    wnids = _timm("imagenet_synsets.txt").split()
    if len(wnids) != N_CLASSES or wnids != sorted(set(wnids)):
        raise _timm_fault("imagenet_synsets.txt", "does not list 1,000 wnids in order")
    lemmas = dict(line.split("\t", 1) for line in _timm("imagenet_synset_to_lemma.txt").splitlines())
    meanings = dict(line.split("\t", 1) for line in _timm("imagenet_synset_to_definition.txt").splitlines())
    lacking = [wnid for wnid in wnids if not lemmas.get(wnid) or not meanings.get(wnid)]
    if lacking:
        raise _timm_fault("imagenet_synset_to_lemma.txt", f"says nothing of {lacking[0]}")
    names = [NAMED_APART.get(wnid, lemmas[wnid].split(",")[0].strip()) for wnid in wnids]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise _timm_fault("imagenet_synset_to_lemma.txt", f"gives {twice[0]!r} to several classes")
    return Classes(wnids, names, [meanings[wnid] for wnid in wnids])


def real_labels() -> dict[str, list[int]]:
    """ReaL: file stem -> class indices. Entry i of timm's list belongs to ILSVRC2012_val_{i + 1:08d}."""
    file = "imagenet_real_labels.json"
    every = json.loads(_timm(file))
    if len(every) != N_VALIDATION or not all(0 <= label < N_CLASSES for labels in every for label in labels):
        raise _timm_fault(file, "does not list the labels of 50,000 images")
    return {f"ILSVRC2012_val_{row:08d}": labels for row, labels in enumerate(every, start=1)}


def _timm(file: str) -> str:
    """A text of timm's package, found without importing it: that would import torch."""
    spec = find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        raise _timm_fault(file, "cannot be read: timm is not installed")
    try:
        return (Path(spec.submodule_search_locations[0]) / "data" / "_info" / file).read_text(encoding="utf-8")
    except OSError as fault:
        raise _timm_fault(file, f"cannot be read: {fault.strerror}") from None


def _timm_fault(file: str, what: str) -> BenchError:
    return BenchError(f"{what}.", where=f"timm's {file}", remedy="Install the locked versions with `make setup`.")


def read(folder: Path) -> Content:
    """What a local folder holds, in the layout of either reader. BenchError where it is neither."""
    if (folder / f"{TABLE_SETS['imagenet']}_samples.parquet").is_file():
        return read_tables(folder)
    if (folder / "data" / "datasets").is_dir():
        return read_official(folder)
    raise BenchError(
        "holds neither imagenet_val_samples.parquet nor data/datasets/.",
        where=folder,
        remedy="Name a folder with the tables, or a copy of github.com/modestyachts/ImageNetV2 that also holds "
        f"{REFINED} (github.com/esla/Multilabelfy); or leave out --from.",
    )


def read_tables(folder: Path) -> Content:
    """The published figures as tables: <set>_samples.parquet (file, label), <set>_top5.parquet (model, row, top1 to
    top5, where row counts the samples), and the refined labels."""
    sets = {}
    for dataset, name in TABLE_SETS.items():
        samples = _parquet(folder / f"{name}_samples.parquet", ["file", "label"])
        stems = _stems(samples["file"].tolist(), folder / f"{name}_samples.parquet")
        path = folder / f"{name}_top5.parquet"
        sets[dataset] = Published(stems, samples["label"].to_numpy(), _from_table(path, len(stems)))
    return Content(sets, _refined(folder / REFINED))


def _from_table(path: Path, n: int) -> Callable[[], Iterator[tuple[str, np.ndarray]]]:
    def each() -> Iterator[tuple[str, np.ndarray]]:
        ranks = [f"top{rank}" for rank in range(1, 6)]
        frame = _parquet(path, ["model", "row", *ranks])
        for model, rows in frame.groupby("model", observed=True):
            at = rows["row"].to_numpy()
            if not np.array_equal(np.sort(at), np.arange(n)):
                raise BenchError(
                    f"does not answer each of the {n} samples once for {model!r}.", where=path, remedy=_AGAIN
                )
            yield str(model), rows[ranks].to_numpy()[np.argsort(at)]

    return each


def read_official(folder: Path) -> Content:
    """A copy of modestyachts/ImageNetV2 (the parts in the head of this file) with the refined labels beside."""
    known = {wnid: index for index, wnid in enumerate(classes().wnids)}
    info = folder / "data" / "metadata" / "class_info.json"
    by_index = {entry["cid"]: entry["wnid"] for entry in _json(info)}
    if by_index != dict(enumerate(classes().wnids)):
        raise BenchError("numbers the classes in another way than their sorted wnids.", where=info, remedy=_AGAIN)
    sets = {}
    for dataset, name in OFFICIAL_SETS.items():
        path = folder / "data" / "datasets" / f"{name}.json"
        pairs = _json(path)["image_filenames"]
        unknown = [wnid for _, wnid in pairs if wnid not in known]
        if unknown:
            raise BenchError(f"names the unknown class {unknown[0]!r}.", where=path, remedy=_AGAIN)
        labels = np.array([known[wnid] for _, wnid in pairs])
        stems = _stems([file for file, _ in pairs], path)
        sets[dataset] = Published(stems, labels, _from_arrays(folder / "data" / "predictions" / name, len(stems)))
    return Content(sets, _refined(folder / REFINED))


def _from_arrays(folder: Path, n: int) -> Callable[[], Iterator[tuple[str, np.ndarray]]]:
    def each() -> Iterator[tuple[str, np.ndarray]]:
        for path in sorted(folder.glob("*.npy")):
            try:
                top5 = np.load(path, allow_pickle=False)
            except (OSError, ValueError, EOFError) as fault:
                raise BenchError(f"cannot be read as an array: {fault}.", where=path, remedy=_AGAIN) from None
            if top5.shape != (n, 5) or top5.dtype.kind not in "iu":
                raise BenchError(
                    f"is {top5.dtype} {top5.shape}, not ({n}, 5) whole numbers.", where=path, remedy=_AGAIN
                )
            yield path.stem, top5

    return each


_AGAIN = "Get it again from its source, or name another folder with --from."


def _parquet(path: Path, columns: list[str]) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=columns).to_pandas()
    except FileNotFoundError:
        raise BenchError("is missing.", where=path, remedy=_AGAIN) from None
    except (pa.ArrowInvalid, OSError) as fault:
        raise BenchError(f"cannot be read as Parquet: {fault}.", where=path, remedy=_AGAIN) from None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BenchError("is missing.", where=path, remedy=_AGAIN) from None
    except ValueError as fault:
        raise BenchError(f"is not JSON: {fault}.", where=path, remedy=_AGAIN) from None


def _stems(files: list[str], where: Path) -> np.ndarray:
    stems = np.array([Path(file).stem for file in files], dtype=object)
    if len(set(stems)) != len(stems):
        raise BenchError("lists a file twice.", where=where, remedy=_AGAIN)
    return stems


def _refined(path: Path) -> dict[str, list[int]]:
    return refined_labels(_json(path), path)


def refined_labels(content: Any, where: object) -> dict[str, list[int]]:
    """File stem -> class indices, from the JSON of Multilabelfy. BenchError where it is something else."""
    try:
        return {Path(file).stem: [int(label) for label in labels] for file, labels in content.items()}
    except (AttributeError, TypeError, ValueError):
        raise BenchError("is not a map of file to class indices.", where=where, remedy=_AGAIN) from None


def content_hash(refined: dict[str, list[int]]) -> str:
    """The sha256 of refined labels, however their file is laid out: sorted stems, each with its sorted indices."""
    text = json.dumps({stem: sorted(labels) for stem, labels in refined.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def download(folder: Path, models: list[str], refined_pin: str) -> None:
    """Get the official sources into `folder`, in the layout of `read_official`; what is there already stays.

    BenchError as `fetch.download`, and where no file of Multilabelfy has the labels that `refined_pin` pins.
    """
    paths = ["data/metadata/class_info.json"]
    for name in OFFICIAL_SETS.values():
        paths += [f"data/datasets/{name}.json", *(f"data/predictions/{name}/{model}.npy" for model in models)]
    for path in progress.bar(paths, "download"):
        fetch.download(f"{IMAGENETV2_URL}/{path}", folder / path, max_bytes=MAX_BYTES)
    if not (folder / REFINED).is_file():
        archive = fetch.download(MULTILABELFY_URL, folder / "multilabelfy.tar.gz", max_bytes=MAX_ARCHIVE_BYTES)
        (folder / REFINED).write_bytes(find_refined(archive, refined_pin))
        archive.unlink()


def find_refined(archive: Path, pin: str) -> bytes:
    """The JSON of a tar archive that holds the labels with `content_hash` == `pin`.

    Members are read in memory one by one, and nothing is unpacked: no name in the archive matters. BenchError where
    the archive is damaged or holds no such file.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and member.name.endswith(".json") and member.size <= MAX_BYTES:
                    stream = tar.extractfile(member)
                    text = stream.read() if stream else b""
                    if _hash_of(text) == pin:
                        return text
    except (tarfile.TarError, OSError, EOFError) as fault:
        archive.unlink(missing_ok=True)
        raise BenchError(
            f"is damaged ({fault}) and was removed.", where=archive, remedy="Run the command again."
        ) from None
    raise BenchError(
        "holds no file with the refined labels that the preset pins.",
        where=archive,
        remedy=f"Get the published labels from github.com/esla/Multilabelfy, save them as {REFINED} in "
        f"{archive.parent}, and run the command again.",
    )


def _hash_of(text: bytes) -> str:
    """`content_hash` of a file, or nothing where it is no map of labels."""
    try:
        return content_hash(refined_labels(json.loads(text), ""))
    except (ValueError, RecursionError, BenchError):
        return ""


def write(content: Content, out: Path) -> dict[str, int]:
    """Write `out/<dataset>/` and `out/predictions/<dataset>/<model>.parquet`; return counts.

    Equal content gives equal bytes. Raises BenchError where labels are of unknown images or classes, the two sets are
    not answered by the same models, or a table is refused.
    """
    import pandas as pd

    extra = {"imagenet": {"real": real_labels()}, "imagenetv2": {"refined_v2": content.refined}}
    models: dict[str, list[str]] = {}
    for dataset, published in content.sets.items():
        order = np.argsort(published.stems)
        ids = pd.Series([f"{dataset}/{stem}" for stem in published.stems[order]])
        _check_range(published.labels, f"labels of {dataset}")
        _write_dataset(out / dataset, ids, published.labels[order], extra[dataset])
        folder = out / "predictions" / dataset

        def one(answer: tuple[str, np.ndarray], folder: Path = folder, ids: Any = ids, order: Any = order) -> str:
            model, top5 = answer
            _check_range(top5, f"{model} on {folder.name}")
            path = folder / f"{file_stem(model)}.parquet"
            tables.write("imported", _answers(ids, top5[order]), path, level=tables.FAST_LEVEL)
            return model

        with ThreadPoolExecutor(THREADS) as pool:
            models[dataset] = list(progress.bar(pool.map(one, _joined(published.top5(), dataset)), f"write {dataset}"))
    first, second = (set(names) for names in models.values())
    if first != second:
        raise BenchError(
            f"not the same models answer both sets: {', '.join(sorted(first ^ second))}.",
            where="the source of imagenet",
            remedy=_AGAIN,
        )
    return {"datasets": len(models), "models": len(first), "images": sum(len(s.stems) for s in content.sets.values())}


def _joined(answers: Iterable[tuple[str, np.ndarray]], dataset: str) -> Iterator[tuple[str, np.ndarray]]:
    """The answers under the name that a model has in both sets. BenchError where one is there twice."""
    seen = set()
    for name, top5 in answers:
        model = RENAMED.get(name, name)
        if model != name:
            progress.log.info("%s: %r is joined to %r", dataset, name, model)
        if model in seen:
            raise BenchError(f"of the models of {dataset} one is there twice: {model}.", remedy=_AGAIN)
        seen.add(model)
        yield model, top5


def _check_range(indices: np.ndarray, what: str) -> None:
    if len(indices) and (indices.min() < 0 or indices.max() >= N_CLASSES):
        raise BenchError(f"a class index is outside 0 to {N_CLASSES - 1}.", where=what, remedy=_AGAIN)


def _write_dataset(folder: Path, ids: pd.Series, labels: np.ndarray, extra: dict[str, dict[str, list[int]]]) -> None:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    from bench.data.samples import PICTURE, schema

    folder.mkdir(parents=True)
    named = classes()
    meta = DatasetMeta(
        **_TEXTS[folder.name],
        label_space=LABEL_SPACE,
        classes=named.names,
        split_rule="all are test",
        wnids=named.wnids,
        definitions=named.definitions,
    )
    text = json.dumps(meta.model_dump(exclude_none=True), indent=1, ensure_ascii=False, sort_keys=True)
    (folder / META).write_text(text + "\n", encoding="utf-8")
    frame = pd.DataFrame({"sample_id": ids, "split": "test", "label": labels.astype(np.int32), "source_id": ids})
    kept = pa.schema([field for field in schema() if field.name not in PICTURE])
    pq.write_table(
        pa.Table.from_pandas(frame[kept.names], schema=kept, preserve_index=False).replace_schema_metadata(None),
        folder / SAMPLES,
        compression="zstd",
        compression_level=tables.COMPRESSION_LEVEL,
        use_dictionary=["split", "label"],  # pyright: ignore[reportArgumentType]
        column_encoding={"sample_id": "DELTA_BYTE_ARRAY", "source_id": "DELTA_BYTE_ARRAY"},
        store_schema=False,
    )
    parts = [pd.DataFrame({"sample_id": ids, "source": "original", "class_id": labels})]
    for source, by_stem in extra.items():
        by_id = {f"{folder.name}/{stem}": given for stem, given in by_stem.items()}
        if set(by_id) != set(ids):
            raise BenchError(
                f"its images are not those of {folder.name!r}: {len(set(by_id) ^ set(ids))} are in one alone.",
                where=f"label source {source!r}",
                remedy=_AGAIN,
            )
        long = pd.Series(by_id).explode().dropna().astype(np.int64)
        _check_range(long.to_numpy(), f"label source {source!r}")
        parts.append(pd.DataFrame({"sample_id": long.index, "source": source, "class_id": long.to_numpy()}))
    tables.write("labels", pd.concat(parts, ignore_index=True).assign(weight=1.0), folder / LABELS)


def _answers(ids: pd.Series, top5: np.ndarray) -> pd.DataFrame:
    """Table `imported`: what is known is the order of five classes; every probability is NULL."""
    import pandas as pd

    unknown = np.full(len(ids), np.nan, np.float32)
    measures = dict.fromkeys(("msp", "entropy_nats", "margin", "energy"), unknown)
    columns = {"sample_id": ids, "pred": top5[:, 0].astype(np.int32), "p_top1": unknown, "p_true": unknown}
    return pd.DataFrame({**columns, "top5": list(top5.astype(np.int16)), **measures})
