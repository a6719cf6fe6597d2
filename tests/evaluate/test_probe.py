"""The stage `probe`: which heads are fitted on what, and that it says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import compute
from bench.config import Config, Evaluation, Finetuning, NoisyLabels, Probes
from bench.data import samples
from bench.errors import BenchError
from bench.evaluate import probe
from bench.models import probes, supervised, zoo
from bench.store import tables

SETTINGS = Probes(
    c_grid=[1.0],
    folds=2,
    labels_per_class=[3],
    seeds=[0, 1],
    knn_k=[20, 5],
    knn_temperature=0.2,
    label_noise=[0.3],
)


@pytest.fixture
def config(config_of_tiny: Config, tmp_path: Path) -> Config:
    root = shutil.copytree(config_of_tiny.root, tmp_path / "copy")
    return config_of_tiny.model_copy(update={"root": root, "evaluations": {"blocks": Evaluation(probes=SETTINGS)}})


def rows_of(config: Config, name: str) -> pd.DataFrame:
    return tables.read("representations", config.results / "representations" / f"{name}.parquet")


def test_heads_of_a_suite_with_its_own_settings(config: Config) -> None:
    assert probe.run(config, "cnn") == {"heads": 12}
    found = rows_of(config, "cnn")
    keys = ["probe", "labels_per_class", "label_noise"]
    expected = {(head, 0, 0.0): 1 for head in ("knn", "knn-5", "linear")}
    expected |= {(head, 3, 0.0): 2 for head in ("knn", "knn-5", "linear")}
    expected |= {(head, 0, 0.3): 1 for head in ("knn", "knn-5", "linear")}
    sizes = found.assign(label_noise=found["label_noise"].round(3)).groupby(keys).size()
    assert {(str(p), int(k), round(float(s), 3)): int(n) for (p, k, s), n in sizes.items()} == expected  # pyright: ignore
    linear = found["probe"] == "linear"
    assert found.loc[linear, "c"].eq(1.0).all()
    assert found.loc[linear, "temperature"].isna().all()
    assert found.loc[~linear, "temperature"].eq(0.2).all()
    first = (config.results / "representations" / "cnn.parquet").read_bytes()
    probe.run(config, "cnn")
    assert (config.results / "representations" / "cnn.parquet").read_bytes() == first


def test_accuracies_are_those_of_the_test_images_by_the_fitting_part_alone(config: Config) -> None:
    probe.run(config, "cnn")
    network = zoo.load(config, "cnn")
    data, test = (samples.load(config, "blocks", part) for part in ("train", "test"))
    data = data.rows(probes.split(config, config.models["cnn"], data.labels)[0])
    x, queries = (compute.forward(network, some.images, config.compute, features=True) for some in (data, test))
    n_classes = network.n_classes
    found = rows_of(config, "cnn").set_index(["probe", "labels_per_class", "label_noise", "seed"])["accuracy"]

    answers = probes.knn(x, data.labels, queries, n_classes, 5, 0.2)
    assert found["knn-5", 0, 0.0, 0] == pytest.approx((answers == test.labels).mean(), abs=1e-6)
    some = probes.few_labels(data.labels, 3, 1)
    head = probes.fit_linear(x[some], data.labels[some], n_classes, SETTINGS, 1)
    right = head.logits(queries).argmax(axis=1) == test.labels
    assert found["linear", 3, 0.0, 1] == pytest.approx(right.mean(), abs=1e-6)
    wrong = probes.noisy(data.labels, n_classes, 0.3, 0)
    right = probes.fit_linear(x, wrong, n_classes, SETTINGS, 0).logits(queries).argmax(axis=1) == test.labels
    noise = np.float32(0.3)
    assert found["linear", 0, noise, 0] == pytest.approx(right.mean(), abs=1e-6)


def test_heads_are_fitted_on_noisy_labels_too_and_say_how_many_are_wrong(config: Config) -> None:
    data = samples.load(config, "blocks", "train")
    given = data.labels.copy()
    given[::3] = (given[::3] + 1) % 3
    path = config.fetched / "people" / "noisy_labels" / "said.parquet"
    rows = {"sample_id": data.ids, "source": "said", "class_id": given, "weight": 1.0}
    tables.write("labels", pd.DataFrame(rows), path)
    held = NoisyLabels(dataset="blocks", fetched="people", sha256=tables.sha256(path))
    config = config.model_copy(update={"noisy_labels": {"said": held}})
    assert probe.run(config, "cnn") == {"heads": 15}
    found = rows_of(config, "cnn").set_index(["label_source", "probe"]).loc["said"]
    assert found["labels_per_class"].eq(0).all()
    fit, _ = probes.split(config, config.models["cnn"], data.labels)
    assert found["label_noise"].to_numpy() == pytest.approx(float((given != data.labels)[fit].mean()), abs=1e-6)

    network, test = zoo.load(config, "cnn"), samples.load(config, "blocks", "test")
    x, queries = (
        compute.forward(network, images, config.compute, features=True) for images in (data.images[fit], test.images)
    )
    head = probes.fit_linear(x, given[fit], network.n_classes, SETTINGS, 0)
    right = head.logits(queries).argmax(axis=1) == test.labels
    assert found["accuracy"]["linear"] == pytest.approx(right.mean(), abs=1e-6)

    tables.write("labels", pd.DataFrame(rows).iloc[1:], path)
    with pytest.raises(BenchError, match=r"said\.parquet: is not the file that params\.yaml pins"):
        probe.run(config, "cnn")
    short = held.model_copy(update={"sha256": tables.sha256(path)})
    with pytest.raises(BenchError, match="says nothing of 1 of"):
        probe._noisy_labels(config.model_copy(update={"noisy_labels": {"said": short}}), "said", path, data)
    path.unlink()
    with pytest.raises(BenchError, match=r"said\.parquet: is missing.*bench data fetch people"):
        probe.run(config, "cnn")


def test_finetuning_trains_a_copy_of_an_encoder_that_saw_no_labels_and_leaves_the_checkpoint_alone(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = Finetuning(labels_per_class=[2, 4], epochs=2, batch_size=4, lr=0.01, seeds=[0, 1])
    settings = SETTINGS.model_copy(update={"finetuning": how, "labels_per_class": [], "label_noise": []})
    control = config.models["cnn"].model_copy(update={"family": "random", "method": "random", "epochs": 0})
    config = config.model_copy(
        update={"evaluations": {"blocks": Evaluation(probes=settings)}, "models": {**config.models, "cnn": control}}
    )
    seen: list[tuple[int, int]] = []
    train = supervised.train

    def noted(network: zoo.Network, images: object, labels: np.ndarray, model: object, *more: object) -> object:
        seen.append((len(labels), model.epochs))  # pyright: ignore[reportAttributeAccessIssue]
        return train(network, images, labels, model, *more)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(supervised, "train", noted)
    before = zoo.path_of(config, "cnn").read_bytes()
    probe.run(config, "cnn")
    found = rows_of(config, "cnn")
    tuned = found.loc[found["probe"] == "finetune"]
    assert tuned.groupby("labels_per_class").size().to_dict() == {2: 2, 4: 2}
    n_classes = zoo.load(config, "cnn").n_classes
    assert seen == [(2 * n_classes, 2)] * 2 + [(4 * n_classes, 2)] * 2
    assert zoo.path_of(config, "cnn").read_bytes() == before


def test_an_encoder_that_saw_all_labels_is_not_trained_on(config: Config) -> None:
    settings = SETTINGS.model_copy(update={"finetuning": Finetuning(labels_per_class=[2], epochs=1)})
    config = config.model_copy(update={"evaluations": {"blocks": Evaluation(probes=settings)}})
    probe.run(config, "cnn")
    assert "finetune" not in set(rows_of(config, "cnn")["probe"])
