"""Training: every method learns something finite in a tiny run; the stage writes its outputs, always the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bench import compute
from bench.config import MASKED, SSL_FAMILY, Compute, Config, Dataset, Model, Suite, Weights
from bench.data import samples, writer
from bench.errors import BenchError
from bench.evaluate import probe
from bench.models import augment, probes, ssl, supervised, train, training, zoo
from bench.store import tables

SUITE = Suite(train="bars", input_size=16, channels=1)


def bars(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes of noisy 16 x 16 images: a bright band at the top, in the middle or at the bottom."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    images = rng.uniform(0, 0.4, (n, 1, 16, 16)).astype(np.float32)
    for label in range(3):
        images[labels == label, :, 1 + 5 * label : 5 + 5 * label] += 0.5
    return images, labels


def tensors(n: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = bars(n)
    return torch.from_numpy(images), torch.from_numpy(labels)


def ssl_model(method: str, **more: object) -> Model:
    arch = "vit" if method in MASKED else "cnn"
    return Model.model_validate(
        {
            "suite": "digits",
            "family": "ssl",
            "method": method,
            "arch": arch,
            "epochs": 2,
            "batch_size": 32,
            "lr": 2e-3,
            **more,
        }
    )


def test_every_ssl_method_has_an_objective() -> None:
    assert set(ssl.OBJECTIVES) == set(SSL_FAMILY)


@pytest.mark.parametrize("method", ssl.OBJECTIVES)
def test_a_tiny_training_is_finite_changes_the_encoder_and_repeats_itself(method: str) -> None:
    model = ssl_model(method)

    def once() -> tuple[dict[str, torch.Tensor], list[training.Epoch]]:
        network = zoo.build(model, SUITE, 3, 0, method)
        epochs = ssl.train(network, *tensors(), model, seed=0)
        return {key: value.clone() for key, value in network.state_dict().items()}, epochs

    start = zoo.build(model, SUITE, 3, 0, method).state_dict()
    state, epochs = once()
    again, epochs_again = once()
    assert [epoch.epoch for epoch in epochs] == [1, 2]
    told = ("loss", "collapse_std", "effective_rank", "alignment", "uniformity")
    assert all(np.isfinite([getattr(epoch, part) for part in told]).all() for epoch in epochs)
    assert all(epoch.knn_test is None for epoch in epochs), "nothing watches it"
    assert all(0 < epoch.collapse_std <= 1.01 for epoch in epochs)
    assert any(not torch.equal(state[key], start[key]) for key in start if key.startswith("encoder"))
    assert all(torch.equal(state[key], start[key]) for key in start if key.startswith("head"))
    assert epochs == epochs_again
    assert all(torch.equal(state[key], again[key]) for key in state)
    assert set(state) == set(start)


def test_the_loss_of_simclr_falls() -> None:
    model = ssl_model("simclr", epochs=6)
    epochs = ssl.train(zoo.build(model, SUITE, 3, 0, "simclr"), *tensors(), model, seed=0)
    assert epochs[-1].loss < epochs[0].loss


def test_an_option_that_a_method_does_not_have_names_those_it_has() -> None:
    model = ssl_model("swav", options={"prototypes": 8})
    with pytest.raises(BenchError, match=r"models\.m\.options: .*no option prototypes.*n_prototypes, temperature"):
        ssl.train(zoo.build(model, SUITE, 3, 0, "m"), *tensors(), model, seed=0)


def test_options_reach_the_objective() -> None:
    losses = [
        ssl.train(zoo.build(model, SUITE, 3, 0, "m"), *tensors(), model, seed=0)[0].loss
        for model in (ssl_model("simclr", epochs=1), ssl_model("simclr", epochs=1, options={"temperature": 1.0}))
    ]
    assert losses[0] != losses[1]


def test_options_of_a_model_without_any_are_refused(config: Config) -> None:
    model = config.models["pixels"].model_copy(update={"options": {"temperature": 1.0}})
    config = config.model_copy(update={"models": {"pixels": model}})
    with pytest.raises(BenchError, match=r"models\.pixels: a pixels model has no options"):
        train.run(config, "pixels")


def test_masked_modelling_of_a_convolutional_network_is_refused() -> None:
    model = ssl_model("mae", arch="cnn")
    with pytest.raises(BenchError, match=r"models\.m: method `mae` needs arch `vit`"):
        ssl.train(zoo.build(model, SUITE, 3, 0, "m"), *tensors(), model, seed=0)


@pytest.mark.parametrize("arch", ["cnn", "resnet", "vit", "mixer"])
def test_supervised_training_learns_three_bars(arch: str) -> None:
    model = Model.model_validate(
        {
            "suite": "digits",
            "family": "supervised",
            "method": "supervised",
            "arch": arch,
            "epochs": 15,
            "batch_size": 32,
            "lr": 5e-3,
        }
    )
    network = zoo.build(model, SUITE, 3, 0, arch)
    images, labels = tensors(192)
    network.normalise_by(images)
    epochs = supervised.train(network, images, labels, model, seed=0)
    assert len(epochs) == 15
    assert epochs[-1].loss < epochs[0].loss
    assert (network.eval()(images).argmax(dim=1) == labels).float().mean() > 0.9


def test_a_loss_that_is_not_finite_names_model_and_remedy() -> None:
    model = Model(suite="digits", family="supervised", method="supervised", arch="cnn", epochs=1)
    network = zoo.build(model, SUITE, 3, 0, "wild")
    with pytest.raises(BenchError, match=r"wild: the loss is nan in epoch 3\. Use a lower `lr`"):
        training.diagnose(network, tensors(), 3, torch.tensor([1.0, float("nan")]), training.ALONE)


def test_batches_cover_an_epoch_once_in_an_order_of_their_own() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.cat(list(training.batches(10, 4, generator)))
    second = torch.cat(list(training.batches(10, 4, generator)))
    assert len(first) == 8
    assert len(set(first.tolist())) == 8
    assert not torch.equal(first, second)
    assert [len(batch) for batch in training.batches(3, 4, generator)] == [3]


def test_the_validation_part_is_stratified_and_disjoint() -> None:
    labels = np.repeat([0, 1, 2], [40, 20, 3])
    fit, validation = probes.kept_back(labels, 0.1, seed=0)
    assert np.bincount(labels[validation]).tolist() == [4, 2, 1]
    assert sorted([*fit, *validation]) == list(range(63))
    assert not np.array_equal(validation, probes.kept_back(labels, 0.1, seed=1)[1])


def test_a_model_of_some_images_is_trained_on_as_many_of_each_class_and_keeps_back_the_same(config: Config) -> None:
    labels = np.repeat([0, 1, 2], [60, 50, 40])
    model = config.models["supervised-cnn"]
    fit, validation = probes.split(config, model, labels)
    some, same = probes.split(config, model.model_copy(update={"images": 30}), labels)
    assert np.bincount(labels[some]).tolist() == [10, 10, 10]
    assert set(some) < set(fit)
    assert np.array_equal(validation, same)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    images, labels = bars(180)
    meta = samples.DatasetMeta(
        title="Bars",
        about="For tests.",
        label_space="bars",
        classes=["top", "middle", "bottom"],
        source="tests",
        license="MIT",
        split_rule="the last third is test",
    )
    content = writer.Content(
        "bars",
        meta,
        [f"{row:03}" for row in range(180)],
        labels,
        (images[:, 0] * 255).astype(np.uint8),
        splits=["train"] * 120 + ["test"] * 60,
    )
    writer.write(content, tmp_path / "data")
    return Config(
        root=tmp_path,
        seed=0,
        compute=Compute(threads=1, batch_size=64),
        suites={"digits": SUITE},
        datasets={"bars": Dataset(role="original")},
        models={
            "supervised-cnn": Model(
                suite="digits", family="supervised", method="supervised", arch="cnn", epochs=2, batch_size=32
            ),
            "simclr-cnn": ssl_model("simclr", epochs=1),
            "random-cnn": Model(suite="digits", family="random", method="random", arch="cnn"),
            "pixels": Model(suite="digits", family="pixels", method="pixels", arch="pixels"),
        },
    )


def outputs(config: Config, name: str) -> dict[str, bytes]:
    paths = [zoo.path_of(config, name), *(config.results / t / f"{name}.parquet" for t in TABLES)]
    return {str(path.relative_to(config.results)): path.read_bytes() for path in paths}


TABLES = ("models", "training")


@pytest.mark.parametrize("name", ["supervised-cnn", "simclr-cnn", "random-cnn", "pixels"])
def test_the_stage_writes_its_outputs_and_repeats_them_to_the_byte(config: Config, name: str) -> None:
    counts = train.run(config, name)
    first = outputs(config, name)
    train.run(config, name)
    assert outputs(config, name) == first
    model = config.models[name]
    assert counts["images"] == 108
    assert counts["epochs"] == model.epochs

    record = tables.read("models", config.results / "models" / f"{name}.parquet").iloc[0]
    assert record["head"] == ("trained" if model.family == "supervised" else "linear")
    assert record["train_dataset"] == "bars"
    assert record["weights_sha256"] == tables.sha256(zoo.path_of(config, name))
    network = zoo.load(config, name)
    assert network.meta["temperature"] == record["temperature"]
    assert network.meta["temperature"] > 0
    assert len(tables.read("training", config.results / "training" / f"{name}.parquet")) == model.epochs


def test_a_training_is_watched_by_images_that_it_does_not_see(config: Config) -> None:
    train.run(config, "supervised-cnn")
    rows = tables.read("training", config.results / "training" / "supervised-cnn.parquet")
    assert rows["knn_validation"].between(0, 1).all()
    network, data = zoo.load(config, "supervised-cnn"), samples.load(config, "bars", "train")
    fit, validation = probes.split(config, config.models["supervised-cnn"], data.labels)
    features = compute.forward(network, data.images, config.compute, features=True)
    for part, name in ((validation, "knn_validation"), (None, "knn_test")):
        test = samples.load(config, "bars") if part is None else data.rows(part)
        queries = compute.forward(network, test.images, config.compute, features=True)
        answers = probes.knn(features[fit], data.labels[fit], queries, 3, training.NEIGHBOURS, training.TEMPERATURE)
        assert rows[name].iloc[-1] == pytest.approx((answers == test.labels).mean(), abs=1e-6)


def test_another_seed_starts_from_other_weights(config: Config) -> None:
    again = config.models["random-cnn"].model_copy(update={"seed": 1})
    config = config.model_copy(update={"models": {**config.models, "again": again}})
    for name in ("random-cnn", "again"):
        train.run(config, name)
    first, second = (zoo.load(config, name).encoder.state_dict() for name in ("random-cnn", "again"))
    assert not torch.equal(first["0.weight"], second["0.weight"])


def test_mixed_precision_and_half_a_checkpoint_train_nearly_the_same(config: Config) -> None:
    how = {"mixed": True, "stored": "float16"}
    models = {"whole": config.models["simclr-cnn"], "half": config.models["simclr-cnn"].model_copy(update=how)}
    config = config.model_copy(update={"models": models})
    losses = {}
    for name in models:
        train.run(config, name)
        losses[name] = tables.read("training", config.results / "training" / f"{name}.parquet")["loss"].iloc[-1]
    assert losses["half"] != losses["whole"]
    assert losses["half"] == pytest.approx(losses["whole"], rel=0.05)
    assert zoo.path_of(config, "half").stat().st_size < 0.6 * zoo.path_of(config, "whole").stat().st_size


def test_the_moving_average_takes_the_place_of_the_weights() -> None:
    model = Model(suite="digits", family="supervised", method="supervised", arch="cnn", epochs=2, batch_size=48)
    seen: list[torch.Tensor] = []

    def weights(ema: float) -> torch.Tensor:
        network = zoo.build(model, SUITE, 3, 0, "m")
        averaged = model.model_copy(update={"ema": ema})
        descend = training.Training.descend

        def noted(self: training.Training, loss: torch.Tensor) -> float:
            progress = descend(self, loss)
            seen.append(self.network.head.weight.detach().clone())
            return progress

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(training.Training, "descend", noted)
            supervised.train(network, *tensors(), averaged, seed=0)
        return network.head.weight.detach()

    assert torch.equal(weights(0.0), seen[-1])
    seen.clear()
    end = weights(0.5)
    expected = seen[0]
    for value in seen[1:]:
        expected = 0.5 * expected + 0.5 * value
    torch.testing.assert_close(end, expected)


def test_supervised_options_are_the_views_of_the_others_and_wrong_labels() -> None:
    setting, labels = training.Setting(augment.RECIPES["photos"]), torch.arange(300) % 3
    mild, same = supervised._chosen(setting, 3, labels)
    strong, wrong = supervised._chosen(setting, 3, labels, views=True, label_noise=0.4)
    assert mild == setting.recipe.supervised
    assert strong == setting.recipe.views
    assert torch.equal(same, labels)
    assert (wrong != labels).float().mean() == pytest.approx(0.4)
    model = Model.model_validate(
        {"suite": "digits", "family": "supervised", "method": "supervised", "arch": "cnn", "epochs": 1}
        | {"options": {"noise": 0.4}}
    )
    with pytest.raises(BenchError, match=r"models\.m\.options: .*no option noise.*views, label_noise"):
        supervised.train(zoo.build(model, SUITE, 3, 0, "m"), *tensors(), model, seed=0)


KINDS = {
    "supervised": "cnn",
    "moco": "cnn",
    "nnclr": "cnn",
    "swav": "cnn",
    "dino": "cnn",
    "mae": "vit",
    "simmim": "vit",
    "ijepa": "vit",
}
"""Methods with something of their own that changes: queues, prototypes, a centre, masks of the global generator."""


@pytest.mark.parametrize("method", KINDS)
def test_a_training_that_was_interrupted_ends_in_the_same_bytes(
    config: Config, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = "supervised" if method == "supervised" else "ssl"
    model = Model.model_validate(
        {"suite": "digits", "family": family, "method": method, "arch": KINDS[method], "epochs": 3, "batch_size": 32}
    )
    if method == "supervised":
        model = model.model_copy(update={"ema": 0.9})
    config = config.model_copy(update={"models": {"m": model}})
    train.run(config, "m")
    whole, kept = outputs(config, "m"), config.root / train.FOLDER / "m.pt"
    assert not kept.exists(), "a training that is done is not kept"
    assert _interrupt(config, "m", 3, monkeypatch) == kept
    assert kept.exists()
    torch.manual_seed(99)  # what another process has drawn makes no difference
    ran: list[int] = []
    diagnose = training.diagnose
    monkeypatch.setattr(
        training, "diagnose", lambda n, x, epoch, *more: (ran.append(epoch), diagnose(n, x, epoch, *more))[1]
    )
    train.run(config, "m")
    assert ran == [3], "only what is left is trained"
    assert outputs(config, "m") == whole
    assert not kept.exists()


def _interrupt(config: Config, name: str, at: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Interrupt a training at the end of an epoch, before it is kept; where the epochs before it are."""
    diagnose = training.diagnose

    def interrupted(network: zoo.Network, data: training.Labelled, epoch: int, *more: Any) -> training.Epoch:
        if epoch == at:
            raise KeyboardInterrupt
        return diagnose(network, data, epoch, *more)

    with monkeypatch.context() as patched:
        patched.setattr(training, "diagnose", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.run(config, name)
    return config.root / train.FOLDER / f"{name}.pt"


@pytest.mark.parametrize("fault", ["another lr", "another seed", "no file of torch", "half a file", "other content"])
def test_what_is_kept_of_another_training_is_not_taken_up(
    config: Config, fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept = _interrupt(config, "supervised-cnn", 2, monkeypatch)
    if fault == "another lr":
        other = config.models["supervised-cnn"].model_copy(update={"lr": 5e-4})
        config = config.model_copy(update={"models": {"supervised-cnn": other}})
    elif fault == "another seed":
        config = config.model_copy(update={"seed": 1})
    elif fault == "no file of torch":
        kept.write_bytes(b"no")
    elif fault == "half a file":
        kept.write_bytes(kept.read_bytes()[:2000])
    else:
        torch.save({"epochs": 7}, kept)
    train.run(config, "supervised-cnn")
    resumed = outputs(config, "supervised-cnn")
    assert ("is damaged" in caplog.text) == (not fault.startswith("another"))
    train.run(config, "supervised-cnn")
    assert outputs(config, "supervised-cnn") == resumed


@pytest.mark.parametrize("family", ["supervised", "ssl"])
def test_published_weights_get_heads_and_a_temperature_and_stay_as_they_are(config: Config, family: str) -> None:
    train.run(config, "supervised-cnn")
    theirs = config.root / "theirs.safetensors"
    theirs.write_bytes(zoo.path_of(config, "supervised-cnn").read_bytes())
    weights = Weights(file=theirs.name, sha256=tables.sha256(theirs), origin="tests; made up")
    method = {"supervised": "supervised", "ssl": "simclr"}[family]
    model = Model.model_validate(
        {"suite": "digits", "family": family, "method": method, "arch": "cnn", "weights": weights.model_dump()}
    )
    config = config.model_copy(update={"models": {**config.models, "theirs": model}})
    assert train.run(config, "theirs")["epochs"] == 0
    record = tables.read("models", config.results / "models" / "theirs.parquet").iloc[0]
    assert (record["source"], record["origin"]) == ("checkpoint", "tests; made up")
    assert pd.isna(record["epochs"])
    assert tables.read("training", config.results / "training" / "theirs.parquet").empty
    mine, other = (zoo.load(config, name).state_dict() for name in ("supervised-cnn", "theirs"))
    same = {key for key in mine if torch.equal(mine[key], other[key])}
    heads = {"head.weight", "head.bias"} if family == "ssl" else set()
    assert same == set(mine) - heads, "of a self-supervised encoder the head is the linear probe"
    zoo.save(zoo.build(model, SUITE, 4, 0, "theirs"), theirs, arch="cnn")
    other_weights = weights.model_copy(update={"sha256": tables.sha256(theirs)})
    other_model = model.model_copy(update={"weights": other_weights})
    with pytest.raises(BenchError, match=r"models\.theirs\.weights: its weights know 4 classes, 'bars' has 3"):
        train.run(config.model_copy(update={"models": {**config.models, "theirs": other_model}}), "theirs")


@pytest.mark.parametrize("name", ["random-cnn", "pixels"])
def test_the_head_of_a_control_is_its_linear_probe(config: Config, name: str) -> None:
    train.run(config, name)
    probe.run(config, name)
    test = samples.load(config, "bars")
    network = zoo.load(config, name)
    answers = compute.forward(network, test.images, config.compute).argmax(axis=1)
    heads = tables.read("representations", config.results / "representations" / f"{name}.parquet")
    probed = heads[(heads["probe"] == "linear") & (heads["labels_per_class"] == 0)]
    assert (answers == test.labels).mean() == pytest.approx(probed["accuracy"].item(), abs=1e-6)
    assert network.meta["c"] == probed["c"].item()


def test_the_random_control_is_where_the_others_of_its_architecture_start(config: Config) -> None:
    train.run(config, "random-cnn")
    control = zoo.load(config, "random-cnn").encoder.state_dict()
    start = zoo.build(
        config.models["simclr-cnn"], SUITE, 3, compute.seed_of(config.seed, "weights", "cnn"), "simclr-cnn"
    ).encoder.state_dict()
    assert all(torch.equal(control[key], start[key]) for key in start)


@pytest.mark.parametrize(("grid", "n_targets", "side"), [(4, 2, 2), (8, 4, 3), (2, 1, 1)])
def test_blocks_of_ijepa_are_squares_and_the_context_is_outside_of_them(grid: int, n_targets: int, side: int) -> None:
    torch.manual_seed(0)
    targets, context = ssl._blocks(200, grid, n_targets, torch.device("cpu"))
    assert [tuple(block.shape) for block in targets] == [(200, side**2)] * n_targets
    assert context.shape == (200, grid**2 - n_targets * side**2)
    for block in targets:
        rows, columns = block // grid, block % grid
        assert (rows.max(dim=1).values - rows.min(dim=1).values == side - 1).all()
        assert (columns.max(dim=1).values - columns.min(dim=1).values == side - 1).all()
    hidden = torch.cat(targets, dim=1)
    assert not (context[:, :, None] == hidden[:, None, :]).any()
    assert (context.sort(dim=1).values.diff(dim=1) > 0).all()
    corners = {int(block.min()) for block in targets[0]}
    assert len(corners) == (grid - side + 1) ** 2, "every place is drawn"
