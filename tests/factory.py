"""A small but complete results folder, made from nothing: for tests of everything that reads results.

Every accuracy is known: `accuracy(model, dataset, condition)` times the number of images, rounded, are right. What an
image is hard for one model it tends to be for the others, so that pairs, subsets and disputes look like real ones.

With `imported=True` there are also two sets without images, a replication of the other, and models whose answers were
made elsewhere: one of which everything is known, one of which nothing but the class, and one on two of the digits sets
of which the two most probable classes are known.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from bench import compute
from bench import config as configuration
from bench.config import SSL_FAMILY, Config
from bench.pictures import of_image
from bench.relabel import events
from bench.store import tables

N_CLASSES = 10
N_TRAIN = 20
SIZE = 16
EPS_255 = (8, 16)
N_ATTACKED = 30
N_MAPPED = 20

MODELS: dict[str, dict[str, object]] = {
    "supervised-cnn": {"family": "supervised", "method": "supervised", "arch": "cnn", "epochs": 3},
    "supervised-vit": {"family": "supervised", "method": "supervised", "arch": "vit", "epochs": 3},
    "simclr-cnn": {"family": "ssl", "method": "simclr", "arch": "cnn", "epochs": 3},
    "mae-vit": {"family": "ssl", "method": "mae", "arch": "vit", "epochs": 3},
    "random-cnn": {"family": "random", "method": "random", "arch": "cnn"},
    "random-vit": {"family": "random", "method": "random", "arch": "vit"},
    "pixels": {"family": "pixels", "method": "pixels", "arch": "pixels"},
}
ENSEMBLE = "ensemble-supervised"
MEMBERS = ["supervised-cnn", "supervised-vit"]

DATASETS: dict[str, dict[str, str]] = {
    "digits": {"role": "original"},
    "optdigits": {"role": "shifted", "replicates": "digits"},
    "optdigits-full": {"role": "shifted", "replicates": "digits"},
    "digits-null-a": {"role": "control"},
    "digits-null-b": {"role": "control", "replicates": "digits-null-a"},
    "digits-harder": {"role": "control", "replicates": "digits"},
    "digits-corrupted": {"role": "control", "replicates": "digits"},
    "digits-noisy": {"role": "control", "replicates": "digits"},
    "digits-mosaic": {"role": "composite"},
}
SYNTHETIC = {
    "digits-null-a": "selected",
    "digits-null-b": "selected",
    "digits-harder": "selected",
    "digits-corrupted": "corrupted",
    "digits-noisy": "relabelled",
    "digits-mosaic": "composed",
}
CORRUPTIONS = ("gaussian_noise", "gaussian_blur")
SEVERITIES = (1, 3, 5)

IMAGELESS: dict[str, dict[str, str]] = {
    "objects": {"role": "original", "suite": "objects"},
    "objects-v2": {"role": "replication", "replicates": "objects", "suite": "objects"},
}
LABEL_SOURCES = {"objects": "real", "objects-v2": "refined_v2"}
IMPORTED: dict[str, dict[str, Any]] = {
    "org/resnet50.a1": {"family": "supervised", "method": "supervised", "arch": "resnet50", "suite": "objects"},
    "plain": {"suite": "objects"},
    "org/cnn": {"family": "ssl", "method": "dino", "arch": "cnn", "suite": "digits"},
}
ANSWERED = {"objects": ("objects", "objects-v2"), "digits": ("digits", "optdigits")}
"""Suite -> the datasets that its imported models answer to."""

ON_IMPORTED = {"org/resnet50.a1": 0.85, "plain": 0.7, "org/cnn": 0.9}
ON_DIGITS = {
    "supervised-cnn": 0.95,
    "supervised-vit": 0.93,
    "simclr-cnn": 0.90,
    "mae-vit": 0.75,
    "random-cnn": 0.80,
    "random-vit": 0.70,
    "pixels": 0.85,
}
DROP = {
    "optdigits": 0.15,
    "optdigits-full": 0.10,
    "digits-harder": 0.20,
    "digits-corrupted": 0.05,
    "digits-mosaic": 0.3,
    "objects-v2": 0.15,
}


def accuracy(model: str, dataset: str, condition: str = "clean") -> float:
    """The share of images for which `model` gives the true class (on digits-mosaic: the largest digit)."""
    severity = int(condition.rsplit(":", 1)[1]) if condition.startswith("corruption:") else 0
    return {**ON_DIGITS, **ON_IMPORTED}[model] - DROP.get(dataset, 0.0) - 0.05 * severity


def params(n: int) -> dict[str, object]:
    """What params.yaml says for results of `n` test images."""
    return {
        "seed": 0,
        "compute": {"threads": 1},
        "suites": {"digits": {"train": "digits", "input_size": SIZE, "channels": 1}},
        "datasets": DATASETS,
        "models": {name: {"suite": "digits", **model} for name, model in MODELS.items()},
        "corruptions": {
            "datasets": ["digits"],
            "names": list(CORRUPTIONS),
            "severities": list(SEVERITIES),
            "reference": "supervised-cnn",
        },
        "uncertainty": {"ensembles": {ENSEMBLE: MEMBERS}},
        "attacks": {"runs": {"pgd-linf": {"eps_255": list(EPS_255), "n_images": min(n, N_ATTACKED)}}},
        "regional": {"runs": {"small": {"dataset": "digits", "models": ["supervised-cnn", "simclr-cnn"]}}},
        "segmentation": {"digits-scenes": {"composed_of": "digits", "size": 16, "widths": [4, 8], "n_pairs": 8}},
        "subsets": {"certain_fraction": [0.5], "reference_model": ENSEMBLE},
        "proposals": {"ensemble": ENSEMBLE, "datasets": ["digits", "digits-noisy", "digits-mosaic"]},
        "neighbours": {"model": "simclr-cnn", "k": 4},
        "maps": {"n_images": N_MAPPED, "k": 3},
        "statistics": {"bootstrap": 200},
    }


def make_config(root: Path, n: int = 60) -> Config:
    """Write root/params.yaml and return the Config that it gives."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / "params.yaml"
    path.write_text(yaml.safe_dump(params(n), sort_keys=False))
    return configuration.load(path)


def make_results(root: Path, *, seed: int = 0, n: int = 60, imported: bool = False, annotated: bool = False) -> Config:
    """Write every table that comes before the stage `subsets`, for `n` test images a dataset; return the Config."""
    from bench.imports import stage
    from bench.relabel import consensus, proposals

    config = make_config(root, n)
    rng = np.random.default_rng(seed)
    samples, labels, truth, composed = _samples(rng, n)
    test = samples[samples["split"] == "test"].reset_index(drop=True)
    if imported:
        more, more_labels = _imageless(n)
        everything = pd.concat([samples, more]).astype({"width": "Int32", "height": "Int32"})
        config = _write_imported(config, seed, everything[everything["split"] == "test"])
        _write_data(config, rng, everything, test, pd.concat([labels, more_labels]))
    else:
        _write_data(config, rng, samples, test, labels)
    stage.run(config)
    _write_models(config, rng)

    logits = {name: _logits(rng, name, test, truth, composed) for name in MODELS}
    clean = {name: _softmax(by_condition["clean"]) for name, by_condition in logits.items()}
    members = np.stack([clean[name] for name in MEMBERS])
    clean[ENSEMBLE] = members.mean(axis=0)
    for name, by_condition in logits.items():
        shards = [
            _predictions(name, condition, test, _softmax(z), config.corruptions.datasets)
            for condition, z in by_condition.items()
        ]
        tables.write("predictions", pd.concat(shards), config.results / "predictions" / f"{name}.parquet")
        frame = test[["dataset", "sample_id"]].assign(logits=list(by_condition["clean"].astype(np.float32)))
        tables.write("logits", frame, config.results / "logits" / f"{name}.parquet")
    ensemble = _predictions(ENSEMBLE, "clean", test, clean[ENSEMBLE], [])
    tables.write("predictions", ensemble, config.results / "ensemble_predictions.parquet")

    information = _entropy(clean[ENSEMBLE]) - _entropy(members).mean(axis=0)
    uncertainty = [_uncertainty(name, test, p, information if name == ENSEMBLE else None) for name, p in clean.items()]
    tables.write("uncertainty", pd.concat(uncertainty), config.results / "uncertainty.parquet")
    _write_calibration(config, rng, test, list(clean))
    _write_attacks(config, rng, test, truth, logits)
    _write_neighbours(config, rng, test)
    _write_maps(config, seed, test)
    proposals.run(config)
    (config.data / events.FOLDER).mkdir(parents=True)
    if annotated:
        annotate(config)
    consensus.run(config)
    return config


ADA, BEN = "Ada Núñez", "Ben <b>"
SIMULATED = "Simulated, careful"


def annotate(config: Config) -> None:
    """Write annotations: of two people on 12 images of digits-noisy, of a simulated one there and on digits-mosaic.

    Ada says yes to the true label alone. Ben says yes to the true label, and on every third image to the given one or,
    where that is the true one, to the next class too; on the fifth image he is unsure of the true label. Ada refines
    the first image: the true label alone. The simulated annotator says yes to every label proposed first. Nobody says
    yes to any label of the second image; Ada saved the third one twice, and took back what she said of the fourth.
    """
    labels = tables.read("labels", config.results / "given_labels.parquet")
    proposed = tables.read("proposals", config.results / "proposals.parquet")
    by_image = {sample_id: rows.sort_values("rank") for sample_id, rows in proposed.groupby("sample_id")}
    truth = labels[labels["source"] == "true"].set_index("sample_id")["class_id"]
    given = labels[labels["source"] == "original"].set_index("sample_id")["class_id"]
    noisy = sorted(one for one in by_image if one.startswith("digits-noisy/"))[:12]
    mosaic = sorted(one for one in by_image if one.startswith("digits-mosaic/"))[:12]
    written: dict[str, list[dict[str, Any]]] = {ADA: [], BEN: [], SIMULATED: []}

    def save(who: str, sample_id: str, answers: dict[int, str], stage: str = events.ANNOTATE, **more: Any) -> str:
        mine = written[who]
        submission = f"{who} {len(mine)}"
        common = {
            "sample_id": sample_id,
            "annotator": who,
            "kind": "simulated" if who == SIMULATED else "human",
            "stage": stage,
            "utc": f"2026-11-{list(written).index(who) + 10}T10:00:00.{len(mine):06d}Z",
            "ms_spent": 4000 + 10 * len(mine),
            "submission": submission,
            "snapshot": "made up",
            "sitting": "made up",
        }
        ranks = dict(zip(by_image[sample_id]["class_id"], by_image[sample_id]["rank"], strict=True))
        for class_id, action in answers.items():
            event = {"event_id": events.event_id(submission, action, class_id), "class_id": class_id, "action": action}
            mine.append({**common, **event, "rank_shown": ranks.get(class_id)})
        for action, fields in more.items():
            mine.append({**common, "event_id": events.event_id(submission, action), "action": action, **fields})
        return submission

    for i, sample_id in enumerate(noisy):
        shown = [int(c) for c in by_image[sample_id]["class_id"]]
        true, other = int(truth[sample_id]), int(given[sample_id])
        other = (true + 1) % N_CLASSES if other == true else other
        no = dict.fromkeys(shown, "no")
        if i == 1:
            for who in (ADA, BEN):
                save(who, sample_id, no, none={})
            continue
        if i == 2:
            save(ADA, sample_id, dict.fromkeys(shown, "yes"))
        taken_back = save(ADA, sample_id, {**no, true: "yes"})
        if i == 3:
            save(ADA, sample_id, {}, undo={"target": taken_back})
        extra = {other: "yes"} if i % 3 == 0 else {}
        comment = {"comment": {"comment": "<script>alert(1)</script> & 7?"}} if i == 5 else {}
        save(BEN, sample_id, {**no, true: "unsure" if i == 4 else "yes", **extra}, **comment)
    shown = [int(c) for c in by_image[noisy[0]]["class_id"]]
    everything = dict.fromkeys([*shown, *range(N_CLASSES)], "no")  # what Ben said yes to is among them
    save(ADA, noisy[0], {**everything, int(truth[noisy[0]]): "yes"}, events.REFINE)
    for sample_id in [*mosaic, *noisy[:2]]:
        ranked = [int(c) for c in by_image[sample_id]["class_id"]]
        save(SIMULATED, sample_id, {c: "yes" if place == 0 else "no" for place, c in enumerate(ranked)})
    for who, rows in written.items():
        events.write(config.data / events.FOLDER / events.stem(who) / "made-up.jsonl", rows)


def make_all(root: Path, *, seed: int = 0, n: int = 60, imported: bool = False, annotated: bool = False) -> Config:
    """`make_results`, and then the real stages from `subsets` on, but for `database`."""
    from bench.evaluate import comparisons, metrics, replication, subsets
    from bench.studies import labels, misclassification, ssl, transfer

    config = make_results(root, seed=seed, n=n, imported=imported, annotated=annotated)
    for stage in (subsets, metrics, replication, labels, ssl, transfer, misclassification, comparisons):
        stage.run(config)
    return config


def predictions(config: Config, dataset: str | None = None, *, attacked: bool = False) -> pd.DataFrame:
    """Every answer (to one dataset) that was written, as rows of table `predictions`; with `attacked` also those to
    attacked images."""
    results = config.results
    paths = [results / "ensemble_predictions.parquet", *sorted((results / "predictions").iterdir())]
    paths += sorted((results / "imported" / "predictions").iterdir())
    paths += [results / "attack_predictions.parquet"] if attacked else []
    which = None if dataset is None else [("dataset", "==", dataset)]
    return pd.concat([pd.read_parquet(path, filters=which) for path in paths], ignore_index=True)


def right(config: Config, dataset: str, source: str = "original") -> pd.DataFrame:
    """Models x images of `dataset` that `source` labels: whether the clean answer is among the labels. Both sorted."""
    labels = tables.read("labels", config.results / "labels.parquet")
    sets = labels[labels["source"] == source].groupby("sample_id")["class_id"].agg(frozenset)
    frame = predictions(config, dataset)
    frame = frame[(frame["condition"] == "clean") & frame["sample_id"].isin(sets.index)]
    among = [pred in sets[sample_id] for sample_id, pred in zip(frame["sample_id"], frame["pred"], strict=True)]
    return frame.assign(right=among).pivot(index="model", columns="sample_id", values="right").astype(bool)


def attacked_ids(config: Config, test_ids: list[str]) -> list[str]:
    """The declared attack subset: the first `n_images` in the order of the sha256 of the ids."""
    in_order = sorted(test_ids, key=lambda sample_id: hashlib.sha256(sample_id.encode()).hexdigest())
    return in_order[: config.attacks.runs["pgd-linf"].n_images]


def _samples(rng: np.random.Generator, n: int) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray, list[set[int]]]:
    """Samples, labels, and of each test row in order: its true class and the classes composed into it."""
    rows, labels, truth, composed = [], [], [], []

    def add(
        dataset: str, index: int, label: int, true: int, source: str, classes: set[int], split: str = "test"
    ) -> str:
        sample_id = f"{dataset}/{index:05d}"
        rows.append((sample_id, dataset, split, label, SIZE, SIZE, source or sample_id))
        labels.append((sample_id, "original", label, 1.0))
        if dataset == "digits-noisy":
            labels.append((sample_id, "true", true, 1.0))
        if dataset == "digits-mosaic":
            labels.extend((sample_id, "composed", c, 1.0) for c in sorted(classes))
        if split == "test":
            truth.append(true)
            composed.append(classes)
        return sample_id

    y = np.arange(n) % N_CLASSES
    digits = [add("digits", i, int(y[i]), int(y[i]), "", {int(y[i])}) for i in range(n)]
    for i in range(N_TRAIN):
        add("digits", n + i, i % N_CLASSES, i % N_CLASSES, "", set(), split="train")
    noisy = rng.permutation(n) < max(1, n // 10)
    for dataset in DATASETS:
        for i in range(n):
            label = int(y[i])
            source = digits[i] if dataset.startswith("digits-") else ""
            if dataset == "digits":
                continue
            if dataset in ("digits-null-a", "digits-null-b") and (i % 2 == 0) != dataset.endswith("a"):
                continue
            if dataset == "digits-harder" and i % 2:
                continue
            classes = {label}
            if dataset == "digits-mosaic":
                classes |= {int(c) for c in (label + 1 + rng.permutation(N_CLASSES - 1)[: i % 4]) % N_CLASSES}
            given = (label + 1) % N_CLASSES if dataset == "digits-noisy" and noisy[i] else label
            add(dataset, i, given, label, source, classes)
    samples = pd.DataFrame(rows, columns=["sample_id", "dataset", "split", "label", "width", "height", "source_id"])
    return (
        samples,
        pd.DataFrame(labels, columns=["sample_id", "source", "class_id", "weight"]),
        np.array(truth),
        composed,
    )


def _imageless(n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Samples and labels of the sets without images. Of ten images one has no label but the original, three or five
    have several."""
    rows, labels = [], []
    for dataset, source in LABEL_SOURCES.items():
        for i in range(n):
            sample_id, label = f"{dataset}/{i:08d}", i * 7 % N_CLASSES
            rows.append((sample_id, dataset, "test", label, None, None, sample_id))
            labels.append((sample_id, "original", label, 1.0))
            several = i % 10 < (3 if dataset == "objects" else 5)
            classes = set() if i % 10 == 9 else {label, (label + 1) % N_CLASSES, (label + i % 3) % N_CLASSES}
            labels.extend((sample_id, source, c, 1.0) for c in sorted(classes if several else classes & {label}))
    return (
        pd.DataFrame(rows, columns=["sample_id", "dataset", "split", "label", "width", "height", "source_id"]),
        pd.DataFrame(labels, columns=["sample_id", "source", "class_id", "weight"]),
    )


def _write_imported(config: Config, seed: int, test: pd.DataFrame) -> Config:
    """Write data/imported/predictions and name its files in params.yaml; the Config that this gives."""
    parameters = yaml.safe_load((config.root / "params.yaml").read_text())
    parameters["suites"]["objects"] = {"input_size": 224, "channels": 3}
    parameters["datasets"] |= IMAGELESS
    parameters["imported"] = {}
    for model, spec in IMPORTED.items():
        datasets = {}
        for dataset in ANSWERED[spec["suite"]]:
            rng = np.random.default_rng([seed, *f"{model} {dataset}".encode()])
            path = config.data / "imported" / "predictions" / dataset / f"{configuration.file_stem(model)}.parquet"
            tables.write("imported", _imported(rng, model, dataset, test[test["dataset"] == dataset]), path)
            datasets[dataset] = tables.sha256(path)
        parameters["imported"][model] = {**spec, "datasets": datasets, "origin": "made up for tests"}
    path = config.root / "params.yaml"
    path.write_text(yaml.safe_dump(parameters, sort_keys=False))
    return configuration.load(path)


def _imported(rng: np.random.Generator, model: str, dataset: str, test: pd.DataFrame) -> pd.DataFrame:
    labels, n = test["label"].to_numpy(np.int64), len(test)
    hard = np.random.default_rng(n).random(n)
    answers = _answers(rng, round(accuracy(model, dataset) * n), hard, labels, [set() for _ in range(n)])
    z = rng.normal(0, 1, (n, N_CLASSES))
    z[np.arange(n), answers] = z.max(axis=1) + rng.uniform(0.2, 4.0, n) * (1.2 - hard)
    frame = _predictions(model, "clean", test, _softmax(z), [])
    frame = frame.merge(_uncertainty(model, test, _softmax(z), None)).drop(columns=["model", "dataset", "condition"])
    frame = frame.drop(columns="mutual_information")
    if model == "org/resnet50.a1":
        return frame
    unknown = frame.columns.drop(["sample_id", "pred", "top5"])
    top5 = [top[:2] if model == "org/cnn" else None for top in frame["top5"]]
    return frame.assign(**dict.fromkeys(unknown, np.nan), top5=pd.Series(top5, dtype=object))


def _picture(rng: np.random.Generator, label: int) -> bytes:
    """A PNG with a block whose place tells the class."""
    from PIL import Image

    pixels = rng.integers(0, 60, (SIZE, SIZE), dtype=np.uint8)
    row, column = divmod(label, 4)
    pixels[row * 5 + 1 : row * 5 + 5, column * 4 : column * 4 + 4] = 230
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _write_data(
    config: Config, rng: np.random.Generator, samples: pd.DataFrame, test: pd.DataFrame, labels: pd.DataFrame
) -> None:
    def describe(name: str) -> dict[str, object]:
        return {
            "dataset": name,
            "label_space": config.datasets[name].suite,
            "role": config.datasets[name].role,
            "replicates": config.datasets[name].replicates,
            "modality": "image",
            "n_samples": int((samples["dataset"] == name).sum()),
            "n_test": int(((samples["dataset"] == name) & (samples["split"] == "test")).sum()),
            "n_classes": N_CLASSES,
            "title": name.replace("-", " ").capitalize(),
            "about": f"Made up for tests, under the name {name}.",
            "synthetic": SYNTHETIC.get(name, ""),
            "source": "made up",
            "license": "CC0-1.0",
        }

    names = ["class_id", "name", "wnid", "definition"]
    of_space = {
        "digits": [(k, str(k), None, None) for k in range(N_CLASSES)],
        "objects": [(k, f"object {k}", f"n{k:08d}", f"Made up for tests, number {k}.") for k in range(N_CLASSES)],
    }
    classes = pd.concat(
        [pd.DataFrame(of_space[suite], columns=names).assign(label_space=suite) for suite in config.suites]
    )
    sources = labels.assign(dataset=labels["sample_id"].str.split("/").str[0])[["dataset", "source"]].drop_duplicates()
    pictures = test[["sample_id"]].assign(
        thumbnail=[_picture(rng, int(label)) for label in test["label"]], media_type="image/png"
    )
    results = config.results
    described = pd.DataFrame([describe(name) for name in config.datasets])
    tables.write("datasets", described, results / "datasets.parquet")
    tables.write("classes", classes, results / "classes.parquet")
    sources = sources.assign(about="Made up for tests, as " + sources["source"] + ".")
    tables.write("label_sources", sources, results / "given_label_sources.parquet")
    tables.write("samples", samples, results / "samples.parquet")
    tables.write("images", pictures, results / "images.parquet")
    tables.write("labels", labels, results / "given_labels.parquet")
    index = {
        name: {"role": DATASETS[name]["role"], "replicates": DATASETS[name].get("replicates")} for name in DATASETS
    }
    (results / "index").mkdir(exist_ok=True)
    (results / "index" / "digits.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _model_row(name: str, family: str, method: str, arch: str) -> dict[str, object]:
    return {
        "model": name,
        "family": family,
        "method": method,
        "ssl_family": SSL_FAMILY.get(method),
        "arch": arch,
        "head": "trained" if family == "supervised" else "linear",
        "train_dataset": "digits",
        "params_m": 0.1,
        "dtype": "float32",
        "weights_sha256": hashlib.sha256(name.encode()).hexdigest(),
        "source": "trained",
        "input_size": SIZE,
        "epochs": 3 if family in ("supervised", "ssl") else 0,
        "temperature": 1.2,
        "origin": None,
    }


def _write_models(config: Config, rng: np.random.Generator) -> None:
    results = config.results
    (results / "checkpoints").mkdir(parents=True, exist_ok=True)
    for name, model in config.models.items():
        row = pd.DataFrame([_model_row(name, model.family, model.method, model.arch)])
        tables.write("models", row, results / "models" / f"{name}.parquet")
        probes = [("linear", 0, 0.0, 0), *(("linear", 10, 0.0, seed) for seed in range(3)), ("knn", 0, 0.0, 0)]
        probes.append(("linear", 0, 0.4, 0))
        heads = pd.DataFrame(probes, columns=["probe", "labels_per_class", "label_noise", "seed"])
        heads = heads.assign(label_source="original")
        heads.loc[len(heads)] = ["linear", 0, 0.2, 0, "people"]
        few = (
            np.where(heads["labels_per_class"] == 0, 0.1 * heads["label_noise"], 0.2)
            + 0.02 * heads["seed"]
            + (heads["probe"] == "knn") * 0.03
        )
        heads = heads.assign(
            model=name,
            dataset="digits",
            accuracy=accuracy(name, "digits") - few,
            n=60,
            effective_rank=float(rng.uniform(10, 30)),
            collapse_std=float(rng.uniform(0.6, 1.0)),
            c=np.where(heads["probe"] == "linear", 1.0, np.nan),
            temperature=np.where(heads["probe"] == "linear", np.nan, 0.1),
        )
        tables.write("representations", heads, results / "representations" / f"{name}.parquet")
        epochs = np.arange(1, model.epochs + 1)
        training = pd.DataFrame(
            {
                "model": [name] * len(epochs),
                "epoch": epochs,
                "loss": 2.0 / epochs,
                "collapse_std": 0.8,
                "effective_rank": 20.0,
                "alignment": 0.3,
                "uniformity": -1.5,
                "knn_validation": 0.5 + 0.02 * epochs,
                "knn_test": 0.5 + 0.019 * epochs,
            }
        )
        tables.write("training", training.astype({"model": "str"}), results / "training" / f"{name}.parquet")
    ensemble = _model_row(ENSEMBLE, "supervised", "ensemble", "ensemble")
    ensemble |= {"weights_sha256": None, "temperature": None, "params_m": 0.2, "epochs": None}
    tables.write("models", pd.DataFrame([ensemble]), results / "ensemble_models.parquet")


def _answers(
    rng: np.random.Generator, right: int, hard: np.ndarray, truth: np.ndarray, others: list[set[int]]
) -> np.ndarray:
    """Class given to each image: the true one for the `right` easiest, else another present one, else any other."""
    order = np.argsort(hard + rng.normal(0, 0.4, len(hard)))
    answers = truth.copy()
    for i in order[right:]:
        wrong = sorted(others[i] - {int(truth[i])}) or [c for c in range(N_CLASSES) if c != truth[i]]
        answers[i] = rng.choice(wrong)
    return answers


def _logits(
    rng: np.random.Generator, model: str, test: pd.DataFrame, truth: np.ndarray, composed: list[set[int]]
) -> dict[str, np.ndarray]:
    """Condition -> logits (N, K) of every test row; rows outside the corrupted dataset repeat the clean ones."""
    sources = test["source_id"].to_numpy()
    hardness = np.random.default_rng(len(test)).random(len(test))
    unique, position = np.unique(sources, return_inverse=True)
    hard = hardness[: len(unique)][position]
    conditions = ["clean"] + [f"corruption:{name}:{severity}" for name in CORRUPTIONS for severity in SEVERITIES]
    out: dict[str, np.ndarray] = {}
    for condition in conditions:
        z = rng.normal(0, 1, (len(test), N_CLASSES)) if condition == "clean" else out["clean"].copy()
        for dataset in DATASETS if condition == "clean" else ["digits"]:
            rows = np.flatnonzero(test["dataset"] == dataset)
            right = round(accuracy(model, dataset, condition) * len(rows))
            answers = _answers(rng, right, hard[rows], truth[rows], [composed[i] for i in rows])
            z[rows, answers] = z[rows].max(axis=1) + rng.uniform(0.2, 4.0, len(rows)) * (1.2 - hard[rows])
        out[condition] = z.astype(np.float32).astype(np.float64)
    return out


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _entropy(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(np.clip(p, 1e-30, None))).sum(axis=-1)


def _predictions(model: str, condition: str, test: pd.DataFrame, p: np.ndarray, only: list[str]) -> pd.DataFrame:
    keep = np.ones(len(test), bool) if condition == "clean" else test["dataset"].isin(only).to_numpy()
    rows, p = test[keep], p[keep]
    order = np.argsort(-p, axis=1, kind="stable")[:, :5]
    everyone = np.arange(len(p))
    return pd.DataFrame(
        {
            "model": model,
            "dataset": rows["dataset"].to_numpy(),
            "condition": condition,
            "sample_id": rows["sample_id"].to_numpy(),
            "pred": order[:, 0],
            "p_top1": p[everyone, order[:, 0]],
            "p_true": p[everyone, rows["label"].to_numpy()],
            "top5": list(order.astype(np.int16)),
        }
    )


def _uncertainty(model: str, test: pd.DataFrame, p: np.ndarray, information: np.ndarray | None) -> pd.DataFrame:
    first, second = np.sort(p, axis=1)[:, :-3:-1].T
    return test[["dataset", "sample_id"]].assign(
        model=model,
        condition="clean",
        msp=1 - first,
        entropy_nats=_entropy(p),
        margin=1 - (first - second),
        energy=-np.log(10 * first) if information is None else np.nan,
        mutual_information=np.nan if information is None else np.clip(information, 0, None),
    )


def _write_calibration(config: Config, rng: np.random.Generator, test: pd.DataFrame, models: list[str]) -> None:
    rows = []
    for model in models:
        for dataset, n in test["dataset"].value_counts().items():
            figures = {"ece": 0.05, "nll": 0.4, "brier": 0.2}
            if model != ENSEMBLE:
                figures |= {"ece_calibrated": 0.03, "temperature": 1.2}
            for metric, middle in figures.items():
                value = middle * rng.uniform(0.8, 1.2)
                rows.append((model, dataset, "clean", "all", "original", metric, value, 0.8 * value, 1.2 * value, n))
    columns = ["model", "dataset", "condition", "subset", "label_source", "metric", "value", "ci_low", "ci_high", "n"]
    tables.write("metrics", pd.DataFrame(rows, columns=columns), config.results / "calibration.parquet")


def _write_attacks(
    config: Config,
    rng: np.random.Generator,
    test: pd.DataFrame,
    truth: np.ndarray,
    logits: dict[str, dict[str, np.ndarray]],
) -> None:
    """Attacks that turn a share of the images that grows with eps; what was wrong before stays wrong. Of these, other
    models take over about half, more of some images than of others."""
    chosen = attacked_ids(config, test.loc[test["dataset"] == "digits", "sample_id"].tolist())
    keep = test["sample_id"].isin(chosen).to_numpy()
    subset = test[keep].reset_index(drop=True)
    rows, predictions, shown = [], [], []
    pool, own = config.attack_pool("digits"), np.random.default_rng(config.seed)
    ease = own.random(len(subset))
    images = [_source_images(model, subset, truth[keep], logits[model]["clean"][keep], ease) for model in pool]
    for model in pool:
        luck = rng.random(len(subset))
        for eps in EPS_255:
            z = logits[model]["clean"][keep].copy()
            turned = luck < 0.3 * eps / 8
            away = (truth[keep] + 1) % N_CLASSES
            z[turned, away[turned]] = z[turned].max(axis=1) + 1
            frame = _predictions(model, f"attack:pgd-linf:{eps:g}", subset, _softmax(z), ["digits"])
            predictions.append(frame)
            for other in (one for one in pool if one != model):
                clean = logits[other]["clean"][keep]
                over = turned & (own.random(len(subset)) < ease)
                pred = np.where(over, away, clean.argmax(axis=1))
                shown.append(
                    pd.DataFrame(
                        {
                            "attack_id": f"pgd-linf/{eps:g}/{model}/" + subset["sample_id"],
                            "target_model": other,
                            "success": pred != truth[keep],
                            "pred": pred,
                            "rank_clean": 1 + (clean > np.take_along_axis(clean, pred[:, None], axis=1)).sum(axis=1),
                        }
                    )
                )
            for sample_id, label, pred in zip(subset["sample_id"], subset["label"], frame["pred"], strict=True):
                rows.append(
                    {
                        "attack_id": f"pgd-linf/{eps:g}/{model}/{sample_id}",
                        "sample_id": sample_id,
                        "source_model": model,
                        "dataset": "digits",
                        "attack": "pgd-linf",
                        "params_json": json.dumps({"eps_255": eps, "steps": 20}, sort_keys=True),
                        "seed": 0,
                        "iterations": 20,
                        "success_float": bool(pred != label),
                        "success_u8": bool(pred != label),
                        "l0": 0.9,
                        "l2": eps / 255 * 10,
                        "linf": eps / 255,
                        "pred": pred,
                        "target": None,
                        "reached": None,
                    }
                )
    _write_attack_images(config, pd.DataFrame(rows), pool)
    checks = {"attack": "pgd-linf", "dataset": "digits", "n": len(subset), "zero_gradient": 0.0, "same_at_zero": 1.0}
    trust = pd.DataFrame({"model": config.attack_pool("digits")}).assign(
        **checks, repeat_difference=0.0, right_at_full=0.0, square_gains=0.0
    )
    tables.write("attack_trust", trust, config.results / "attack_trust.parquet")
    tables.write("transfers", pd.concat(shown), config.results / "transfers.parquet")
    tables.write("source_images", pd.concat(images), config.results / "source_images.parquet")
    _write_objectives(config, subset)
    _write_regional(config, subset)
    _write_detection(config)
    _write_segmentation(config)
    _write_collisions(config, subset)
    _write_radar(config)
    tables.write("attacks", pd.DataFrame(rows), config.results / "attacks.parquet")
    tables.write("predictions", pd.concat(predictions), config.results / "attack_predictions.parquet")


def _write_objectives(config: Config, subset: pd.DataFrame) -> None:
    """Two networks on which sign steps take a third more than others, and where the cross-entropy is lost past 17."""
    from bench.config import Objectives
    from bench.studies import objectives as study

    own, ids = np.random.default_rng(config.seed), subset["sample_id"].to_numpy()
    names = ("objectives", "objective_gradients", "objective_curves", "objective_summary", "objective_saturation")
    written: dict[str, list[pd.DataFrame]] = {name: [] for name in names}
    for model in ("supervised-cnn", "simclr-cnn"):
        targets = (subset["label"].to_numpy() + 1) % N_CLASSES
        efficiency = own.uniform(0.7, 0.8, len(ids))
        known = {"target": targets, "norm_ce": 2.0, "norm_logit": 2.5, "cosine": 0.9, "sign_efficiency": efficiency}
        gradients = pd.concat([pd.DataFrame({"target_rule": rule, "sample_id": ids, **known}) for rule in study.RULES])
        base, rows, curves = own.integers(10, 40, len(ids)), [], []
        for case in study.tried(Objectives(dataset="digits", models=[model])):
            shorter = 1.0 if case.target_rule == "random" else 0.5
            for kappa in (0.0, 20.0) if case.target_rule == "random" else (0.0,):
                n_steps = np.round(shorter * base * (1.33 if case.objective == "sign" else 1.0) * (1 + kappa / 5))
                arrives = kappa == 0 or case.objective == "logit" or case.variant == "equal"
                sizes = {"iterations": n_steps, "reached": arrives, "reached_u8": 1, "l2": 0.1 * n_steps, "linf": 0.2}
                seen = {"step_cosine": 0.8, "saturated_at": 60 if kappa else np.nan, "vanished_at": np.nan}
                about = {**vars(case), "kappa": kappa, "sample_id": ids, "target": targets}
                rows.append(pd.DataFrame({**about, **sizes, **seen}))
            at = np.arange(30)
            line = {"iteration": at, "p_target": at / 30, "gradient_norm": 1.0, "step_cosine": 0.8, "n": 30 - at}
            curves.append(pd.DataFrame({**vars(case), **line}))
        searched = rows[-1].head(8).assign(**study.SEARCH, iterations=90, l2=1.0, step_cosine=np.nan)
        margins = np.array(study.MARGINS)
        lost = margins > 17
        line = {"margin": margins, "p_other": np.exp(-margins) / 2, "saturated": lost.astype(float), "vanished": 0.0}
        line |= {"cosine": np.where(lost, 0.1, 1.0), "cosine_low": np.where(lost, -0.2, 0.99)}
        line |= {"cosine_high": np.where(lost, 0.4, 1.0), "cosine_mended": 1.0, "norm": np.exp(-margins), "n": len(ids)}
        frames = {
            "objectives": pd.concat([*rows, searched]),
            "objective_gradients": gradients,
            "objective_curves": pd.concat(curves),
            "objective_saturation": pd.DataFrame(line),
            "objective_summary": study.summed(
                pd.concat(rows), searched, gradients, config.statistics, config.seed, model
            ),
        }
        for name, frame in frames.items():
            written[name].append(frame.assign(model=model, dataset="digits"))
    for name, parts in written.items():
        tables.write(name, pd.concat(parts), config.results / f"{name}.parquet")


def _write_detection(config: Config) -> None:
    """A network whose detectors know marks and no attacks, and which learns the first round by heart."""
    from bench.studies import detection as study

    shared = {"model": "supervised-cnn", "dataset": "digits"}
    cells = []
    for against, inputs, attack in study.tried():
        shown = [*study.ATTACKS, *(["noise"] if against == "clean" else [])]
        for name in ["placebo"] if attack == "placebo" else shown:
            area = 0.5 if attack == "placebo" else 0.8 if against == "noise" else 0.9 if name == attack else 0.85
            ends = {"ci_low": area - 0.05, "ci_high": area + 0.05, "lowest": area - 0.02, "highest": area + 0.02}
            case = {"against": against, "inputs": inputs, "trained_on": attack, "tested_on": name, "auroc": area}
            cells.append({**shared, **case, **ends, "n": 40, "n_train": 60, "seeds": 3})
    made = [
        {**shared, "attack": name, "fooled": fooled, "ci_low": fooled - 0.1, "ci_high": fooled + 0.1}
        | {"reached": fooled, "l2": 2.5, "linf": 0.4, "n": 40, "n_train": 60}
        for name, fooled in {"ce": 0.85, "sign": 0.75, "logit": 0.8, "noise": 0.15}.items()
    ]
    fooled = {"before": {"clean": 0.02, "first": 0.9}, "clean": {"clean": 0.02, "first": 0.8}}
    fooled |= {"finetune": {"clean": 0.04, "first": 0.1, "second": 0.6}}
    fooled |= {"class": {"clean": 0.02, "first": 0.02, "second": 0.3}}
    answers = []
    for variant, rounds in fooled.items():
        for images, share in rounds.items():
            known = (
                ["none"] if images == "clean" else ["any", *study.ATTACKS, *(["noise"] if images == "first" else [])]
            )
            for objective in known:
                flagged = (0.03 if images == "clean" else 0.65) if variant == "class" else None
                right = 1 - share - (flagged or 0)
                row = {**shared, "variant": variant, "images": images, "objective": objective, "flagged": flagged}
                row |= {"right": right, "fooled": share, "lowest": right, "highest": right}
                for name in ("right", "flagged", "fooled"):
                    low = None if row[name] is None else max(row[name] - 0.02, 0.0)
                    row |= {f"{name}_low": low, f"{name}_high": None if low is None else low + 0.04}
                moved = (
                    None
                    if variant == "before"
                    else 100 * (right - 1 + fooled["before"][images.replace("second", "first")])
                )
                row |= {"change_pp": moved, "change_low": moved and moved - 2, "change_high": moved and moved + 2}
                answers.append(row | {"n": 200 if images == "clean" else 40, "seeds": 1 if variant == "before" else 3})
    for name, rows in {"detection": cells, "detection_attacks": made, "retraining": answers}.items():
        tables.write(name, pd.DataFrame(rows), config.results / f"{name}.parquet")


def _write_regional(config: Config, subset: pd.DataFrame) -> None:
    """Two networks on which a square keeps three transfers in four, at four fifths of the L2 and twice the Linf."""
    from bench.studies import regional as study

    own, ids, rows = np.random.default_rng(config.seed), subset["sample_id"].to_numpy(), []
    for source, target in (("supervised-cnn", "simclr-cnn"), ("simclr-cnn", "supervised-cnn")):
        steps = own.integers(10, 60, len(ids))
        for region, share, scale, linf in (("full", 1.0, 1.0, 1.0), ("centre-120", 0.29, 0.8, 2.0)):
            falls = np.ones(len(ids), bool) if region == "full" else np.arange(len(ids)) % 4 > 0
            sizes = {"l0": 0.8 * share, "l2": 0.05 * scale * steps, "linf": linf * steps / 255}
            fixed = {"fixed_success": falls & (steps < 20), "fixed_l2": scale, "fixed_linf": 0.1}
            about = {"region": region, "source_model": source, "target_model": target, "sample_id": ids, "share": share}
            about |= {"towards": (subset["label"].to_numpy() + 1) % N_CLASSES, "iterations": steps, "success": falls}
            about |= {"success_u8": falls, "pred": (subset["label"].to_numpy() + falls) % N_CLASSES}
            rows.append(pd.DataFrame({**about, **sizes, **fixed, "dataset": "digits"}))
    frame = pd.concat(rows)
    tables.write("regional", frame, config.results / "regional.parquet")
    summary = study.summed(frame, config.statistics, config.seed).assign(dataset="digits")
    tables.write("regional_summary", summary, config.results / "regional_summary.parquet")


def _write_segmentation(config: Config) -> None:
    """A set with masks on which asma draws every target, and its variants some: discs on grey."""
    from bench.attacks import asma
    from bench.data.masks import MaskMeta
    from bench.models.unet import UNet
    from bench.studies import segmentation as study

    settings = config.segmentation["digits-scenes"]
    n, size, at = settings.n_pairs, settings.size, np.array([0, 10, 20])
    own = np.random.default_rng(config.seed)
    ids, rows, curves = np.array([f"digits-scenes/{row}" for row in range(n)]), [], []
    masks = np.zeros((n, size, size), np.int64)
    for row in range(n):
        masks[row, row % 8 : row % 8 + 6, 4:10] = 1
    images = (own.uniform(0.3, 0.5, (n, 1, size, size)) + 0.4 * masks[:, None]).astype(np.float32)
    targets = np.roll(masks, 1, axis=0)
    for place, variant in enumerate(asma.RULES):
        end = np.clip(own.normal(0.96 - 0.1 * place, 0.02, n), 0, 1)
        iou = np.stack([np.full(n, 0.2), 0.6 * end, end], axis=1)
        values = np.stack([iou, 0.5 + iou / 2, np.tile(at / 20, (n, 1)), np.tile(at / 100, (n, 1))], axis=2)
        first = np.where(end >= settings.reached, 20, -1)
        frames = np.repeat(images[: settings.shown, None], len(at), axis=1)
        frames[:, 1:, :, :4] = 0.8
        drawn = np.stack([masks, masks, targets], axis=1)[: settings.shown].astype(np.uint8)
        course = asma.Course(
            images, at, {asma.RAW: values, asma.CUT: values}, np.full((n, 3), 0.1), first, np.ones(n), frames, drawn
        )
        run_ids = np.array([f"{variant}/{sample_id}" for sample_id in ids])
        about = {"run_id": run_ids, "dataset": "digits-scenes", "variant": variant, "sample_id": ids}
        about |= {"target_id": np.roll(ids, 1), "iou_start": 0.2, "iou_clean": 0.95, "tau": 0.1}
        rows.append(pd.DataFrame({**about, "iou": end, "iou_u8": end, **study.ends(course)}))
        curves.append(study.curve(course, run_ids, "digits-scenes", variant))
        if variant == "asma":
            pictures = study.pictures(course, study.Masked(ids, images, masks), targets, masks, run_ids)
            tables.write("segmentation_images", pd.concat(pictures), config.results / "segmentation_images.parquet")
    meta = MaskMeta(title="Discs", about="Squares on grey.", classes=["background", "disc"], source="made", license="-")
    meta = meta.model_copy(update={"synthetic": "composed"})
    network, train = UNet(1, 2, [4, 8]), study.Masked(ids, images, masks)
    right = np.ones_like(masks, bool)
    found = {
        "segmentation_attacks": pd.concat(curves),
        "segmentation_runs": pd.concat(rows),
        "segmentation_summary": study.summed(pd.concat(rows), settings.reached, config.statistics, config.seed),
        "segmentation_sets": study.set_row(config, "digits-scenes", meta, network, train, np.full(n, 0.95), right, n),
    }
    for name, frame in found.items():
        tables.write(name, frame, config.results / f"{name}.parquet")


def _write_collisions(config: Config, subset: pd.DataFrame) -> None:
    """Two networks that see 256 of 784 dimensions, and images that are one to them."""
    ids = subset["sample_id"].to_numpy()
    about = {"layer": "encoder.0", "kind": "exact", "sample_id": ids, "target_id": np.roll(ids, 1), "l2": 1.0}
    about |= {"linf": 0.5, "feature_error": 1e-15, "logit_gap_f64": 1e-14, "logit_gap_f32": 1e-6}
    about |= {"logit_gap_u8": 0.01, "same_top1": True, "moved": True, "null_gap": 1.0, "null_same": False}
    about |= {"logits": np.tile(np.arange(10.0), 3).tobytes()}
    about |= {"picture": tables.read("images", config.results / "images.parquet")["thumbnail"].iloc[0]}
    layer = {"layer": "pixels to first layer", "n_in": 784, "n_out": 4096, "rank": 256, "nullity": 528}
    models = ("supervised-cnn", "simclr-cnn")
    found = [pd.DataFrame({"collision_id": [f"{m}/{one}" for one in ids], "model": m, **about}) for m in models]
    layers = pd.DataFrame(
        [{"model": m, **layer, "sigma_min": 0.5, "method": "dense", "nullity_high": 528} for m in models]
    )
    tables.write("layers", layers, config.results / "layers.parquet")
    check = {
        "score": 0.9,
        "n": 10,
        "n_same": 10,
        "same": 1.0,
        "same_low": 0.72,
        "same_high": 1.0,
        "n_null": 4,
        "gap": 0.0,
    }
    checks = pd.DataFrame([{"model": models[0], "judge": one, "task": "classify", **check} for one in models])
    tables.write("collision_checks", checks, config.results / "collision_checks.parquet")
    tables.write("collisions", pd.concat(found), config.results / "collisions.parquet")


def _write_attack_images(config: Config, attacks: pd.DataFrame, pool: list[str]) -> None:
    """Pictures of the first three images under every attack, and what all models say of them: what the source does."""
    some = attacks.loc[attacks["sample_id"].isin(attacks["sample_id"].drop_duplicates().head(3).tolist())]
    pictures = [of_image(np.full((1, 8, 8), 0.5 + eps)) for eps in some["linf"]]
    answers = [
        pd.DataFrame(
            {"attack_id": some["attack_id"], "model": model, "pred": some["pred"], "p_pred": 0.8, "p_label": 0.1}
        )
        for model in pool
    ]
    images = pd.DataFrame({"attack_id": some["attack_id"], "clean": of_image(np.full((1, 8, 8), 0.5)), "png": pictures})
    tables.write("attack_images", images, config.results / "attack_images.parquet")
    tables.write("attack_answers", pd.concat(answers), config.results / "attack_answers.parquet")


def _write_radar(config: Config) -> None:
    """Study 7 of two networks that padding fools in three of four sequences, and of one that is told the length."""
    from bench.data.radar import GESTURES, Sequences
    from bench.studies import radar as study

    own, n = np.random.default_rng(config.seed), 4
    names, lengths = np.array([f"s09-{k}" for k in range(n)]), np.array([4, 5, 6, 5])
    clean = own.uniform(0.2, 0.8, (n, 8, 8, 8)).astype(np.float32)
    clean[np.arange(8) >= lengths[:, None]] = 0
    data = Sequences(clean, lengths, np.arange(n), np.full(n, "s09"), names, GESTURES)
    models, rows, cams, frames = [], [], [], []
    for arch in ("cnn3d", "cnnlstm", study.GIVEN):
        about = {"arch": arch, "trained_on": "A", "n_subjects": 3, "n_train": 216}
        right = {"n_test_subjects": 4, "accuracy": 0.9, "ci_low": 0.86, "ci_high": 0.93, "n": 288}
        models.append({"model": f"{arch}-A", **about, **right})
        for mask in study.MASKS:
            for goal in study.GOALS:
                hit = np.arange(n) < (0 if (arch, mask) == (study.GIVEN, "padding") else 3)
                reached = (arch, mask) != (study.GIVEN, "padding")
                answers = {
                    "reached": reached,
                    "success": hit,
                    "success_u8": hit,
                    "null_success": False,
                    "gesture": GESTURES[0],
                }
                sizes = {"l0_frames": 0.4, "l2": 2.0, "linf": 0.1, "n_frames": lengths}
                who = {"victim": f"{arch}-A", "attacker": f"{arch}-A", "threat": 1, "mask": mask, "goal": goal}
                ids = {"sequence_id": names, "subject": "s09", "target": GESTURES[1], "pred": GESTURES[1]}
                rows.append(pd.DataFrame({**who, **ids, **answers, **sizes}))
        if arch == study.GIVEN:
            continue
        moved = {mask: np.clip(clean + study.free(data, mask) * 0.05, 0, 1) for mask in study.MASKS}
        cam = own.random((n, 8, 2, 2)).astype(np.float32)
        frames.append(study.kept(f"{arch}-A", data, cam, moved, 2))
        for step in ("sign", "l2"):
            energy = cam.sum(axis=(2, 3)) + own.random((n, 8))
            cams.append(study.related(cam.sum(axis=(2, 3)), energy, data).assign(victim=f"{arch}-A", step=step))
    every, related = pd.concat(rows), pd.concat(cams)
    written = {
        "radar_models": pd.DataFrame(models),
        "radar_attacks": every,
        "radar_summary": study.summed(every, config.statistics),
        "radar_cam": related.drop(columns="shifted"),
        "radar_cam_summary": study.correlated(related, config.statistics, config.seed),
        "radar_frames": pd.concat(frames),
    }
    for name, frame in written.items():
        simulated = pd.array([True] * len(frame), dtype="boolean")
        tables.write(name, frame.assign(simulated=simulated), config.results / f"{name}.parquet")


def _source_images(
    model: str, subset: pd.DataFrame, truth: np.ndarray, z: np.ndarray, ease: np.ndarray
) -> pd.DataFrame:
    p = _softmax(z)
    return pd.DataFrame(
        {
            "model": model,
            "dataset": "digits",
            "sample_id": subset["sample_id"],
            "right": z.argmax(axis=1) == truth,
            "p_top1": p.max(axis=1),
            "entropy_nats": _entropy(p),
            "margin": 1 - ease,
            "gradient_norm": 0.1,
            "p": list(p.astype(np.float32)),
        }
    )


def _write_neighbours(config: Config, rng: np.random.Generator, test: pd.DataFrame) -> None:
    """Neighbours among images of the same label."""
    neighbours = []
    ids, labels = test["sample_id"].to_numpy(), test["label"].to_numpy()
    sources = test["source_id"].to_numpy()
    for i in range(len(test)):
        alike = np.flatnonzero((labels == labels[i]) & (sources != sources[i]))
        near = rng.permutation(alike)[: config.neighbours.k]
        neighbours += [
            (ids[i], r, ids[j], 0.99 - 0.05 * r, config.neighbours.model) for r, j in enumerate(near, start=1)
        ]
    columns = ["sample_id", "rank", "neighbour_id", "similarity", "model"]
    tables.write("neighbours", pd.DataFrame(neighbours, columns=columns), config.results / "neighbours.parquet")


def _write_maps(config: Config, seed: int, test: pd.DataFrame) -> None:
    """Maps on which images of a label lie together. Of the neighbours (other sources, none twice) the first mostly has
    the same label; the others are any."""
    declared = [compute.declared(rows["sample_id"].to_numpy(str), N_MAPPED) for _, rows in test.groupby("dataset")]
    parts = [rows.iloc[kept] for (_, rows), kept in zip(test.groupby("dataset"), declared, strict=True)]
    mapped = pd.concat(parts, ignore_index=True)
    ids, labels, sources = (mapped[c].to_numpy() for c in ("sample_id", "label", "source_id"))
    places, neighbours = [], []
    for name in config.models:
        rng = np.random.default_rng([seed, *name.encode()])
        xy = np.column_stack([labels % 4, labels // 4]) + rng.normal(0, 0.15, (len(ids), 2))
        places.append(pd.DataFrame({"model": name, "sample_id": ids, "x": xy[:, 0], "y": xy[:, 1]}))
        for i in range(len(ids)):
            order = rng.permutation(len(ids))
            order = order[sources[order] != sources[i]]
            alike = order[labels[order] == labels[i]][: rng.random() < 0.8]
            found: dict[str, int] = {}
            for j in [*alike, *order]:
                found.setdefault(sources[j], j)
            near = list(found.values())[: config.maps.k]
            neighbours += [(name, ids[i], r, ids[j], 1 - 0.05 * r) for r, j in enumerate(near, start=1)]
    columns = ["model", "sample_id", "rank", "neighbour_id", "similarity"]
    tables.write("maps", pd.concat(places), config.results / "maps.parquet")
    found = pd.DataFrame(neighbours, columns=columns)
    tables.write("map_neighbours", found, config.results / "map_neighbours.parquet")
