"""The stage `index`: read and check every declared dataset; write its samples, labels, classes and pictures."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

from bench import progress
from bench.config import Config
from bench.data import samples
from bench.errors import BenchError
from bench.store import tables

if TYPE_CHECKING:
    import pandas as pd

THUMBNAIL = 256


def run(config: Config) -> dict[str, int]:
    """Write results/{datasets,classes,samples,images,labels}.parquet and the hash files of each suite; return counts.

    Everything is read and checked before anything is written. Raises BenchError naming the file that is at fault, or
    params.yaml where the datasets of a suite do not share one label space, or their images have another number of
    channels than the suite.
    """
    import pandas as pd

    metas = {name: samples.load_meta(config.data / name) for name in config.datasets}
    spaces = _label_spaces(config, metas)
    datasets, rows, pictures, labels = [], [], [], []
    for name in progress.bar(config.datasets, "index"):
        folder = config.data / name
        frame = samples.read_table(folder, len(metas[name].classes))
        _check_images(config, name, frame)
        test = frame[frame["split"] == "test"]
        datasets.append(_dataset_row(config, name, metas[name], len(frame), len(test)))
        rows.append(frame.assign(dataset=name))
        pictures.append(test)
        labels.append(_labels(config, name, frame, len(metas[name].classes)))
    everything, shown = pd.concat(rows, ignore_index=True), pd.concat(pictures, ignore_index=True)
    out = {
        "datasets": pd.DataFrame(datasets),
        "classes": pd.DataFrame(
            [(space, i, name, None) for space, names in spaces.items() for i, name in enumerate(names)],
            columns=["label_space", "class_id", "name", "wnid"],
        ),
        "samples": everything.drop(columns=["image", "media_type"]),
        "images": _thumbnails(shown),
        "labels": pd.concat(labels, ignore_index=True),
    }
    for table, frame in out.items():
        tables.write(table, frame, config.results / f"{table}.parquet")
    for suite in config.suites:
        _write_hashes(config, suite)
    return {"datasets": len(datasets), "samples": len(everything), "pictures": len(shown), "labels": len(out["labels"])}


def _label_spaces(config: Config, metas: dict[str, samples.DatasetMeta]) -> dict[str, list[str]]:
    """Label space -> its classes; the datasets of a suite, and all that name a space, must agree on them."""
    spaces: dict[str, list[str]] = {}
    for name, meta in metas.items():
        train = metas[config.suites[config.datasets[name].suite].train]
        if spaces.setdefault(meta.label_space, meta.classes) != meta.classes or meta.label_space != train.label_space:
            raise BenchError(
                f"the classes of {name!r} (label space {meta.label_space!r}) are not those of its suite.",
                where=config.data / name / samples.META,
                remedy="Correct its `classes` and `label_space`, or give it another suite in params.yaml.",
            )
    return spaces


def _check_images(config: Config, name: str, frame: pd.DataFrame) -> None:
    """Decode every image once, so that no later stage meets one that cannot be read."""
    suite = config.suites[config.datasets[name].suite]
    channels = samples.decode(frame, config.data / name / samples.SAMPLES).shape[1]
    if channels != suite.channels:
        raise BenchError(
            f"images have {channels} channels, the suite {config.datasets[name].suite!r} has {suite.channels}.",
            where=config.data / name / samples.SAMPLES,
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
    path = config.data / name / samples.LABELS
    labels = tables.read("labels", path)
    original = labels[labels["source"] == "original"]
    faults = {
        "label samples that are not in samples.parquet": ~labels["sample_id"].isin(frame["sample_id"]),
        f"are outside the {n_classes} classes": labels["class_id"] >= n_classes,
    }
    for what, bad in faults.items():
        if bad.any():
            first = labels[bad].iloc[0].to_dict()
            raise BenchError(
                f"{int(bad.sum())} rows {what}, e.g. {first}.", where=path, remedy="Correct the dataset that was added."
            )
    if dict(zip(original["sample_id"], original["class_id"], strict=True)) != dict(
        zip(frame["sample_id"], frame["label"], strict=True)
    ) or len(original) != len(frame):
        raise BenchError(
            "the source `original` is not the column `label` of samples.parquet.",
            where=path,
            remedy="Correct the dataset that was added.",
        )
    return labels


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


def _write_hashes(config: Config, suite: str) -> None:
    """results/index/{train,evaluate}/<suite>.json: hashes of what a model of the suite is trained and evaluated on.

    A model's stages depend on these alone: another suite's data, a label source or a role re-runs none of them.
    """
    for use, names in {"train": [config.suites[suite].train], "evaluate": config.datasets_of(suite)}.items():
        known = {
            name: {file: tables.sha256(config.data / name / file) for file in (samples.META, samples.SAMPLES)}
            for name in names
        }
        with tables.replacing(config.results / "index" / use / f"{suite}.json") as temporary:
            temporary.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
