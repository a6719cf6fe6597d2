"""The stage `index`: read and check every declared dataset; write its samples, labels, classes and pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench import progress
from bench.config import Config, ImportedLabels
from bench.data import samples
from bench.errors import BenchError
from bench.store import tables

if TYPE_CHECKING:
    import pandas as pd

THUMBNAIL = 256
GIVEN = {"labels": "given_labels", "label_sources": "given_label_sources"}
"""Tables that the stage `consensus` completes, and the files that hold them before."""


def run(config: Config) -> dict[str, int]:
    """Write results/{datasets,classes,samples,images,given_labels,given_label_sources}.parquet and, for each suite, its
    hash files; return counts.

    Pictures of fetched sets may not be passed on, so `images` has none of them: the database takes those from fetched/.
    Everything is read and checked before anything is written. Raises BenchError naming the file that is at fault, or
    params.yaml where the datasets of a suite do not share one label space, their images have another number of channels
    than the suite, or they have none though the suite trains models.
    """
    import pandas as pd

    metas = {name: samples.meta(config, name) for name in config.datasets}
    spaces = _label_spaces(config, metas)
    datasets, rows, pictures, labels, sources = [], [], [], [], []
    for name in progress.bar(config.datasets, "index"):
        _check_pin(config, name)
        frame = samples.read_table(config.folder(name), len(metas[name].classes), samples.remedy(config, name))
        _check_images(config, name, frame)
        test = frame[frame["split"] == "test"]
        datasets.append(_dataset_row(config, name, metas[name], len(frame), len(test)))
        rows.append(frame.drop(columns=["image", "media_type"], errors="ignore").assign(dataset=name))
        if samples.has_images(frame) and config.datasets[name].fetched is None:
            pictures.append(test)
        mine = [_labels(config, name, frame, len(metas[name].classes))]
        mine += _imported_labels(config, name, frame, metas[name], set(mine[0]["source"]))
        labels += mine
        found = {str(source) for part in mine for source in part["source"].unique()}
        sources.append(_label_sources(name, metas[name], config.datasets[name].labels, sorted(found)))
    everything = _with_sizes(pd.concat(rows, ignore_index=True))
    shown = [_thumbnails(pd.concat(pictures, ignore_index=True))] if pictures else []
    out = {
        "datasets": pd.DataFrame(datasets),
        "classes": pd.concat([_classes(meta) for meta in spaces.values()], ignore_index=True),
        "samples": everything,
        "images": tables.stacked("images", shown),
        "labels": pd.concat(labels, ignore_index=True),
        "label_sources": pd.concat(sources, ignore_index=True),
    }
    for table, frame in out.items():
        tables.write(table, frame, config.results / f"{GIVEN.get(table, table)}.parquet")
    (config.results / "index").mkdir(exist_ok=True)
    for name, suite in config.suites.items():
        _write_hashes(config, name, suite.train)
    counted = {"samples": len(everything), "pictures": len(out["images"]), "labels": len(out["labels"])}
    return {"datasets": len(datasets), **counted}


def _label_spaces(config: Config, metas: dict[str, samples.DatasetMeta]) -> dict[str, samples.DatasetMeta]:
    """Label space -> the first dataset that names it; the sets of a suite, and all that name a space, must agree."""
    spaces: dict[str, samples.DatasetMeta] = {}
    for name, meta in metas.items():
        suite = config.datasets[name].suite
        leader = metas[config.suites[suite].train or config.datasets_of(suite)[0]]
        first = spaces.setdefault(meta.label_space, meta)
        same = (first.classes, first.wnids, first.definitions) == (meta.classes, meta.wnids, meta.definitions)
        if not same or meta.label_space != leader.label_space:
            raise BenchError(
                f"the classes of {name!r} (label space {meta.label_space!r}) are not those of its suite.",
                where=config.folder(name) / samples.META,
                remedy="Correct its `classes` and `label_space`, or give it another suite in params.yaml.",
            )
    return spaces


def _classes(meta: samples.DatasetMeta) -> pd.DataFrame:
    """Rows of `classes` of one label space."""
    import pandas as pd

    unknown = [None] * len(meta.classes)
    return pd.DataFrame(
        {
            "label_space": meta.label_space,
            "class_id": range(len(meta.classes)),
            "name": meta.classes,
            "wnid": meta.wnids or unknown,
            "definition": meta.definitions or unknown,
        },
        dtype=object,
    ).astype({"class_id": "int32"})


def _check_pin(config: Config, name: str) -> None:
    """A fetched dataset is the one that params.yaml pins."""
    declared = config.datasets[name]
    if declared.fetched is not None and samples.digest(config.folder(name)) != declared.sha256:
        raise BenchError(
            f"its files are not those that params.yaml pins (datasets.{name}.sha256).",
            where=config.folder(name),
            remedy=f"Fetch them again with `bench data fetch {declared.fetched}`; where the preset itself was renewed, "
            f"run `bench preset remove {declared.fetched}` and add it again.",
        )


def _with_sizes(frame: pd.DataFrame) -> pd.DataFrame:
    """Width and height as whole numbers, NULL where there is no picture."""
    import pandas as pd

    for column in ("width", "height"):
        frame[column] = frame[column].astype("Int32") if column in frame else pd.array([None] * len(frame), "Int32")
    return frame


def _check_images(config: Config, name: str, frame: pd.DataFrame) -> None:
    """Decode every image once, so that no later stage meets one that cannot be read."""
    suite = config.suites[config.datasets[name].suite]
    where = config.folder(name) / samples.SAMPLES
    if not samples.has_images(frame):
        if suite.train is not None:
            raise BenchError(
                f"has no images, though the suite {config.datasets[name].suite!r} trains models, which need them.",
                where=where,
                remedy="Add the images, or give the dataset a suite without `train` in params.yaml.",
            )
        return
    channels = samples.decode(frame, where).shape[1]
    if channels != suite.channels:
        raise BenchError(
            f"images have {channels} channels, the suite {config.datasets[name].suite!r} has {suite.channels}.",
            where=where,
            remedy="Convert the images, or give the dataset another suite in params.yaml.",
        )


def _dataset_row(
    config: Config, name: str, meta: samples.DatasetMeta, n_samples: int, n_test: int
) -> dict[str, str | int | None]:
    declared = config.datasets[name]
    return {
        "dataset": name,
        "label_space": meta.label_space,
        "role": declared.role,
        "replicates": declared.replicates,
        "modality": meta.modality,
        "n_samples": n_samples,
        "n_test": n_test,
        "n_classes": len(meta.classes),
        "title": meta.title,
        "about": meta.about,
        "synthetic": meta.synthetic,
        "source": meta.source,
        "license": meta.license,
    }


def _labels(config: Config, name: str, frame: pd.DataFrame, n_classes: int) -> pd.DataFrame:
    """labels.parquet: every label is of one of the samples and classes, and `original` repeats the column `label`."""
    path = config.folder(name) / samples.LABELS
    labels = tables.read("labels", path)
    _check_labels(labels, frame, n_classes, path, "Correct the dataset that was added.")
    original = labels.loc[labels["source"] == "original", ["sample_id", "class_id"]]
    both = frame[["sample_id", "label"]].merge(original, on="sample_id", how="left")
    if len(both) != len(frame) or len(original) != len(frame) or not both["label"].equals(both["class_id"]):
        raise BenchError(
            "the source `original` is not the column `label` of samples.parquet.",
            where=path,
            remedy="Correct the dataset that was added.",
        )
    return labels


def _imported_labels(
    config: Config, name: str, frame: pd.DataFrame, meta: samples.DatasetMeta, own: set[str]
) -> list[pd.DataFrame]:
    """The imported label sources of a dataset, each checked against its pin, the samples and the classes."""
    parts = []
    for source, held in config.datasets[name].labels.items():
        path = config.imported_labels(name, source)
        again = f"Import them again with `bench import labels FILE --source {source} --dataset {name}`, or remove "
        again += f"`datasets.{name}.labels.{source}` from params.yaml."
        if source in own or source in (meta.label_sources or {}):
            raise BenchError(f"{name!r} has labels from {source!r} of its own.", where=path, remedy=again)
        if not path.is_file():
            raise BenchError("is missing.", where=path, remedy=f"Run `dvc pull data.dvc`. {again}")
        if tables.sha256(path) != held.sha256:
            raise BenchError(
                f"is not the file that params.yaml pins (datasets.{name}.labels).", where=path, remedy=again
            )
        labels = tables.read("labels", path)
        _check_labels(labels, frame, len(meta.classes), path, again)
        if set(labels["source"]) - {source}:
            raise BenchError(f"holds labels from other sources than {source!r}.", where=path, remedy=again)
        parts.append(labels)
    return parts


def _check_labels(labels: pd.DataFrame, frame: pd.DataFrame, n_classes: int, path: object, remedy: str) -> None:
    faults = {
        "label samples that are not in samples.parquet": ~labels["sample_id"].isin(frame["sample_id"]),
        f"are outside the {n_classes} classes": labels["class_id"] >= n_classes,
    }
    for what, bad in faults.items():
        if bad.any():
            first = labels[bad].iloc[0].to_dict()
            raise BenchError(f"{int(bad.sum())} rows {what}, e.g. {first}.", where=path, remedy=remedy)


def _label_sources(
    name: str, meta: samples.DatasetMeta, imported: dict[str, ImportedLabels], found: Iterable[str]
) -> pd.DataFrame:
    """A row for every source of labels that a dataset declares or has."""
    import pandas as pd

    about = dict.fromkeys(found, "") | {source: held.process for source, held in imported.items()}
    about |= meta.label_sources or {}
    return pd.DataFrame({"dataset": name, "source": list(about), "about": list(about.values())}, dtype=object)


def _thumbnails(frame: pd.DataFrame) -> pd.DataFrame:
    """The table `images`: the encoded bytes themselves where they are small, else a PNG of at most THUMBNAIL pixels."""
    shown = frame.loc[:, ["sample_id", "image", "media_type"]].rename(columns={"image": "thumbnail"})
    large = frame[["width", "height"]].max(axis=1) > THUMBNAIL
    shown.loc[large, "thumbnail"] = shown.loc[large, "thumbnail"].map(_shrunk)
    shown.loc[large, "media_type"] = "image/png"
    return shown


def _shrunk(encoded: bytes) -> bytes:
    from PIL import Image

    with Image.open(io.BytesIO(encoded), formats=tuple(samples.FORMATS.values())) as picture:
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _write_hashes(config: Config, suite: str, train: str | None) -> None:
    """results/index/{train,probe,evaluate}/<suite>.json: hashes of what a model of the suite is trained and evaluated
    on, and by what its features are probed and its answers evaluated, where the suite says so.

    A model's stages depend on these alone: another suite's data, a label source or a role re-runs none of them.
    """
    own = config.evaluations.get(suite)
    for use, names in {"train": [train] if train else [], "probe": [], "evaluate": config.datasets_of(suite)}.items():
        known: dict[str, Any] = {
            name: {file: tables.sha256(config.folder(name) / file) for file in (samples.META, samples.SAMPLES)}
            for name in names
        }
        if use == "probe":
            known["probes"] = None if own is None or own.probes is None else own.probes.model_dump(mode="json")
            known["noisy_labels"] = {name: config.noisy_labels[name].sha256 for name in config.noisy_labels_of(suite)}
        if use == "evaluate" and own is not None:
            known["evaluation"] = own.model_dump(mode="json", include={"corruptions"})
        with tables.replacing(config.results / "index" / use / f"{suite}.json") as temporary:
            temporary.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
