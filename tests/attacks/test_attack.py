from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bench import compute, pictures
from bench.attacks import attack, kinds, norms, prepare, shards, sound
from bench.config import (
    Attack,
    Config,
    Detection,
    DetectionRuns,
    ObjectiveRuns,
    Objectives,
    Regional,
    RegionalRuns,
)
from bench.data import samples
from bench.errors import BenchError
from bench.models import zoo
from bench.store import tables
from bench.studies import detection, objectives, regional

RUN = "pgd-linf"


def declared(data: samples.Samples, n: int) -> samples.Samples:
    return data.rows(compute.declared(data.ids, n))


def attacked(config: Config, model: str, eps_255: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clean images, attacked images, and whether the model is right about these."""
    settings = config.attacks.runs[RUN]
    data = declared(samples.load(config, settings.dataset), settings.n_images)
    network = zoo.load(config, model)
    start = shards.starts(config, RUN, data)
    images = shards.made(network, data, start, eps_255 / 255, settings, config).images
    right = compute.forward(network, images, config.compute).argmax(axis=1) == data.labels
    return data.images, images, right


def made_on(network: nn.Module, run: Attack, data: samples.Samples, config: Config) -> dict[str, np.ndarray]:
    """Label -> images of a run on a network that has no checkpoint: nothing is kept."""
    one = shards.Source(RUN, "m", network, {})
    made = shards.whole(one, run, data, shards.starts(config, RUN, data), config)
    return {label: found.images[:, 0] for label, found in made.items()}


@pytest.mark.parametrize("model", ["cnn", "linear"])
@pytest.mark.parametrize("eps_255", [0.0, 0.5, 8.0, 32.0, 255.0])
def test_attacked_images_are_within_eps_and_the_box(config_of_tiny: Config, model: str, eps_255: float) -> None:
    clean, images, _ = attacked(config_of_tiny, model, eps_255)
    assert images.dtype == np.float32
    assert (images >= 0).all()
    assert (images <= 1).all()
    assert norms.sizes(images, clean).linf.max() <= eps_255 / 255
    if eps_255 == 0:
        assert np.array_equal(images, clean)
    again = attacked(config_of_tiny, model, eps_255)[1]
    assert np.array_equal(images, again)


@pytest.mark.parametrize("model", ["cnn", "linear"])
def test_a_larger_eps_leaves_fewer_right(config_of_tiny: Config, model: str) -> None:
    right = [attacked(config_of_tiny, model, eps)[2].mean() for eps in (0, 8, 32, 128)]
    assert right[0] > 0.9
    assert right[-1] < 0.5
    assert (np.diff(right) <= 0.05).all()  # an attack is a heuristic: one image may come back


def test_the_declared_images_do_not_depend_on_where_they_are(config_of_tiny: Config) -> None:
    data = samples.load(config_of_tiny, "blocks")
    chosen = declared(data, 7)
    by_hash = sorted(data.ids, key=lambda sample_id: hashlib.sha256(str(sample_id).encode()).hexdigest())
    assert chosen.ids.tolist() == sorted(by_hash[:7])
    np.testing.assert_array_equal(chosen.images[0], data.images[data.ids.tolist().index(chosen.ids[0])])
    starts = shards.starts(config_of_tiny, RUN, chosen)
    fewer = declared(data, 3)
    same = chosen.ids.tolist().index(fewer.ids[0])
    assert np.array_equal(shards.starts(config_of_tiny, RUN, fewer)[0], starts[same])
    assert (np.abs(starts) <= 1).all()


@pytest.fixture
def config(config_of_tiny: Config, tmp_path: Path) -> Config:
    return config_of_tiny.model_copy(update={"root": shutil.copytree(config_of_tiny.root, tmp_path / "copy")})


def outputs(config: Config) -> list[Path]:
    names = ("attacks", "attack_predictions", "attack_trust", "transfers", "source_images")
    return [config.results / f"{name}.parquet" for name in names]


def test_stage_tells_the_same_in_both_tables(config: Config) -> None:
    counts = attack.run(config)
    attacks, predictions = (
        tables.read(name, path) for name, path in zip(("attacks", "predictions"), outputs(config), strict=False)
    )
    assert counts["attacked images"] == len(attacks) == len(predictions) == 1 * 2 * 20  # models, eps, images
    assert set(attacks["source_model"]) == {"cnn"}  # raw pixels are a control, not of the pool
    assert set(predictions["condition"]) == {"attack:pgd-linf:8", "attack:pgd-linf:32"}
    key = "pgd-linf/" + predictions["condition"].str.split(":").str[2] + "/cnn/" + predictions["sample_id"]
    both = attacks.set_index("attack_id").loc[key].reset_index()
    assert both["pred"].tolist() == predictions["pred"].tolist()
    labels = tables.read("samples", config.results / "samples.parquet").set_index("sample_id")["label"]
    assert (both["success_float"].to_numpy() == (both["pred"].to_numpy() != labels.loc[both["sample_id"]])).all()
    eps = both["attack_id"].str.split("/").str[1].astype(float) / 255
    assert (both["linf"] <= eps * (1 + 1e-6)).all()
    assert (both["l2"] <= both["linf"] * 16 + 1e-6).all()
    assert both["l0"].between(0.5, 1).all()
    first = [path.read_bytes() for path in outputs(config)]
    attack.run(config)
    assert [path.read_bytes() for path in outputs(config)] == first


def test_success_in_8_bits_is_that_of_the_images_as_they_are_saved(config: Config, tmp_path: Path) -> None:
    """Property (5) of test_engine.py: from PNG files of what the stage makes, asked of the network anew."""
    attack.run(config)
    found = tables.read("attacks", outputs(config)[0]).set_index("attack_id")
    settings, network = config.attacks.runs[RUN], zoo.load(config, "cnn")
    data = declared(samples.load(config, settings.dataset), settings.n_images)
    start, fast = shards.starts(config, RUN, data), prepare.folded(network, torch.from_numpy(data.images[:8]))
    for eps_255 in settings.eps_255:
        saved = []
        made = shards.made(fast, data, start, eps_255 / 255, settings, config).images
        for at, image in enumerate(made[:, 0]):
            Image.fromarray(np.round(255 * image).astype(np.uint8)).save(tmp_path / f"{at}.png")
            saved.append(np.asarray(Image.open(tmp_path / f"{at}.png"), np.float32) / np.float32(255))
        wrong = compute.forward(network, np.stack(saved)[:, None], config.compute).argmax(axis=1) != data.labels
        ids = [f"{RUN}/{eps_255:g}/cnn/{one}" for one in data.ids]
        assert found.loc[ids, "success_u8"].tolist() == wrong.tolist()
    assert 0 < found["success_u8"].mean() < 1


def test_a_model_says_the_same_whoever_else_is_attacked(config: Config) -> None:
    attack.run(config)
    alone = tables.read("attacks", outputs(config)[0])
    settings = config.attacks.model_copy(update={"pool": ["linear", "cnn"]})
    attack.run(config.model_copy(update={"attacks": settings}))
    both = tables.read("attacks", outputs(config)[0])
    assert both[both["source_model"] == "cnn"].reset_index(drop=True).equals(alone)


def test_without_attacks_the_tables_are_empty(config: Config) -> None:
    settings = config.attacks.model_copy(update={"runs": {}})
    assert attack.run(config.model_copy(update={"attacks": settings})) == {"attacked images": 0, "successes": 0}
    assert tables.read("attacks", outputs(config)[0]).empty


def test_a_missing_checkpoint_stops_it_before_it_writes(config: Config) -> None:
    zoo.path_of(config, "cnn").unlink()
    with pytest.raises(BenchError, match=r"cnn.safetensors: is missing"):
        attack.run(config)
    assert not any(path.exists() for path in outputs(config))


def test_images_made_on_one_model_are_shown_to_all(config: Config) -> None:
    """A transfer attack: what is stored of the source is what a white-box attack of the same start would give it."""
    settings = config.attacks.runs[RUN].model_copy(update={"source": "cnn", "eps_255": [32.0]})
    both = config.attacks.model_copy(update={"pool": ["linear", "cnn"], "runs": {RUN: settings}})
    with_source = config.model_copy(update={"attacks": both})
    attack.run(with_source)
    attacks, predictions, trust = (
        tables.read(name, path)
        for name, path in zip(("attacks", "predictions", "attack_trust"), outputs(config), strict=False)
    )
    assert set(attacks["source_model"]) == set(trust["model"]) == {"cnn"}
    assert attacks["params_json"].str.contains('"source": "cnn"').all()
    assert predictions.groupby("model").size().to_dict() == {"cnn": 20, "linear": 20}
    data = declared(samples.load(config, settings.dataset), settings.n_images)
    start = shards.starts(config, RUN, data)
    fast = prepare.folded(zoo.load(config, "cnn"), torch.from_numpy(data.images[:8]))
    images = shards.made(fast, data, start, 32 / 255, settings, with_source).images
    for model in ("cnn", "linear"):
        mine = predictions[predictions["model"] == model].set_index("sample_id")["pred"].loc[data.ids]
        answers = compute.forward(zoo.load(config, model), images, config.compute).argmax(axis=1)
        assert mine.tolist() == answers.tolist()


def test_a_working_attack_is_told_from_one_that_cannot_move(config: Config) -> None:
    attack.run(config)
    row = tables.read("attack_trust", outputs(config)[2]).set_index("model").loc["cnn"]
    assert row["n"] == 20
    assert row["zero_gradient"] < 0.5
    assert row["repeat_difference"] == 0
    assert row["same_at_zero"] == 1
    assert row["right_at_full"] < 0.5

    class Masked(torch.nn.Module):
        """The same answers, rounded: no gradient reaches the image."""

        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.network(x.detach()) + 0 * x.sum()

    settings = config.attacks.runs[RUN]
    data = declared(samples.load(config, settings.dataset), settings.n_images)
    network = zoo.load(config, "cnn")
    masked, strong = Masked(network), settings.model_copy(update={"eps_255": [32.0]})
    found = attack.trust(masked, masked, data, made_on(masked, strong, data, config), strong, config)
    assert found["zero_gradient"] == 1
    assert float(str(found["square_gains"])) > 0.5, "a search without gradients finds what the attack does not"
    assert row["square_gains"] < 0.3
    clean = compute.forward(network, data.images, config.compute).argmax(axis=1) == data.labels
    assert clean.mean() > 0.9
    assert found["n"] == 20


def test_a_noisy_network_is_noticed(config: Config) -> None:
    class Noisy(torch.nn.Module):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.network(x + 0.01 * torch.randn_like(x))

    settings = config.attacks.runs[RUN]
    data = declared(samples.load(config, settings.dataset), settings.n_images)
    noisy = Noisy(zoo.load(config, "cnn"))
    found = attack.trust(noisy, noisy, data, made_on(noisy, settings, data, config), settings, config)
    assert float(str(found["repeat_difference"])) > 0


@pytest.mark.parametrize("kind", kinds.KINDS)
@pytest.mark.parametrize("model", ["cnn", "linear"])
def test_every_kind_stays_within_eps_and_says_the_same_of_an_image_whoever_else_is_there(
    config_of_tiny: Config, kind: str, model: str
) -> None:
    target = "drawn" if kind == "lbfgs" else None
    settings = config_of_tiny.attacks.runs[RUN].model_copy(update={"kind": kind, "steps": 8, "target": target})
    data = declared(samples.load(config_of_tiny, "blocks"), 20)
    network, norm = zoo.load(config_of_tiny, model), kinds.KINDS[kind].norm
    start = shards.starts(config_of_tiny, RUN, data)
    goal = shards.goal(network, data, settings, config_of_tiny)

    def limited(images: np.ndarray, eps: float) -> np.ndarray:
        made = shards.Made(images[:, None], np.zeros((len(images), 1), np.int64))
        return shards._limited(made, data, eps).images[:, 0] if kinds.KINDS[kind].minimal else images

    for eps in (0.0, 6.0) if norm == "l2" else (0.0, 0.05):
        found = shards.made(network, goal, start, eps, settings, config_of_tiny)
        images = limited(found.images, eps)
        assert images.dtype == np.float32
        assert ((images >= 0) & (images <= 1)).all()
        assert getattr(norms.sizes(images, data.images), norm).max() <= eps * (1 + 1e-6)
        assert np.array_equal(images, data.images) == (eps == 0)
        few = np.array([3, 17, 8])
        again = shards.made(network, goal.rows(few), start[few], eps, settings, config_of_tiny).images
        assert np.array_equal(again, found.images[few])


@pytest.mark.parametrize("kind", [kind for kind in kinds.KINDS if kind != "pgd-linf"])
def test_every_kind_fools_the_small_network_and_the_stage_runs_it(config: Config, kind: str) -> None:
    norm = kinds.KINDS[kind].norm
    target = "runner-up" if kind == "lbfgs" else None
    eps = [16.0, 900.0] if norm == "l2" else [2.0 if norm == "l0" else 1.0, 120.0]
    run = config.attacks.runs[RUN].model_copy(update={"kind": kind, "eps_255": eps, "steps": 30, "target": target})
    config = config.model_copy(update={"attacks": config.attacks.model_copy(update={"runs": {"one": run}})})
    attack.run(config)
    attacks = tables.read("attacks", outputs(config)[0])
    fooled = attacks.groupby(attacks["attack_id"].str.split("/").str[1])["success_float"].mean()
    weak, strong = (fooled[f"{one:g}"] for one in eps)
    assert weak < 0.3 < 0.7 < strong
    assert attacks["params_json"].str.contains(f'"kind": "{kind}"').all()
    trust = tables.read("attack_trust", outputs(config)[2])
    assert trust["square_gains"].isna().all() == (norm != "linf" or kind == "square")
    tried = trust["same_at_zero"].dropna()
    assert len(tried) == (0 if kinds.KINDS[kind].minimal else len(trust))
    assert (tried == 1).all()
    assert (trust["right_at_full"] < 0.3).all()
    assert attacks["target"].isna().all() == (target is None)


@pytest.mark.parametrize("kind", [name for name, kind in kinds.KINDS.items() if kind.targeted])
@pytest.mark.parametrize("target", ["drawn", "runner-up"])
def test_targeted_kinds_lead_to_the_class_that_is_named(config: Config, kind: str, target: str) -> None:
    eps = 1200.0 if kinds.KINDS[kind].norm == "l2" else 160.0
    run = config.attacks.runs[RUN].model_copy(update={"kind": kind, "eps_255": [eps], "steps": 30, "target": target})
    config = config.model_copy(update={"attacks": config.attacks.model_copy(update={"runs": {"one": run}})})
    attack.run(config)
    rows = tables.read("attacks", outputs(config)[0]).set_index("sample_id")
    data = declared(samples.load(config, "blocks"), 20)
    clean = compute.forward(zoo.load(config, "cnn"), data.images, config.compute)
    rows = rows.loc[data.ids]
    assert (rows["target"].to_numpy() != data.labels).all()
    if target == "runner-up":
        others = np.where(np.eye(clean.shape[1], dtype=bool)[data.labels], -np.inf, clean)
        assert rows["target"].tolist() == others.argmax(axis=1).tolist()
    assert rows["reached"].tolist() == (rows["pred"] == rows["target"]).tolist()
    assert rows["reached"].mean() > (0.3 if kind == "fgsm" else 0.8)
    assert rows["params_json"].str.contains(f'"target": "{target}"').all()


def test_a_minimal_attack_runs_once_and_leaves_what_is_further_away(config: Config) -> None:
    run = config.attacks.runs[RUN].model_copy(update={"kind": "cw-l2", "eps_255": [1e9], "steps": 30})
    config = config.model_copy(update={"attacks": config.attacks.model_copy(update={"runs": {RUN: run}})})
    data, network = shards.declared(config, run), zoo.load(config, "cnn")
    made_on = shards.source(config, RUN, "cnn", data, network, {})
    start = shards.starts(config, RUN, data)
    every = norms.sizes(shards.at(made_on, run, 1e9, data, start, config, np.arange(20)).images[:, 0], data.images).l2
    eps_255 = 255 * float(np.median(every))
    assert 0 < every.min() < eps_255 / 255 < every.max()
    both = run.model_copy(update={"eps_255": [eps_255, 1e9]})
    n_blocks = len(shards.blocks_of(len(data.ids), config))
    assert len(shards.shards_of(both, data, config)) == n_blocks, "one search for every strength and check"
    whole = shards.whole(made_on, both, data, start, config)
    some = norms.sizes(whole[f"{eps_255:g}"].images[:, 0], data.images).l2
    assert some.tolist() == np.where(every <= eps_255 / 255, every, 0).tolist()
    assert np.array_equal(whole["zero"].images[:, 0], data.images)


def test_pictures_are_kept_of_images_that_all_get_right_and_answers_are_to_them(config: Config) -> None:
    pool = config.attacks.model_copy(update={"pool": ["linear", "cnn"], "kept": 3})
    attack.run(config.model_copy(update={"attacks": pool}))
    images, answers, attacks, sources = (
        tables.read(name, config.results / f"{name}.parquet")
        for name in ("attack_images", "attack_answers", "attacks", "source_images")
    )
    right = sources.groupby("sample_id")["right"].all()
    order = declared(samples.load(config, "blocks"), 20).ids
    chosen = [one for one in order if right[one]][:3]
    about = attacks.set_index("attack_id").loc[images["attack_id"]]
    assert sorted(set(about["sample_id"])) == sorted(chosen)
    assert len(images) == 3 * 2 * 2, "each by both networks, at both eps"
    assert len(answers) == 2 * len(images)
    data = samples.load(config, "blocks")
    clean = dict(zip(data.ids, data.images, strict=True))
    held = [np.atleast_3d(pictures.pixels(one)).transpose(2, 0, 1) for one in images["png"]]
    stored = np.stack(held) / np.float32(255)
    for image, (_, row) in zip(stored, about.iterrows(), strict=True):
        assert norms.sizes(image[None], clean[row["sample_id"]][None]).linf[0] <= row["linf"] + norms.HALF_STEP + 1e-6
    for model in ("linear", "cnn"):
        z = compute.forward(zoo.load(config, model), stored, config.compute)
        mine = answers.loc[answers["model"] == model].set_index("attack_id").loc[images["attack_id"]]
        assert mine["pred"].tolist() == z.argmax(axis=1).tolist()
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(mine["p_pred"], p.max(axis=1), rtol=1e-4)
    own = answers.merge(attacks.assign(model=attacks["source_model"]), on=["attack_id", "model"])
    labels = own["sample_id"].map(dict(zip(data.ids, data.labels, strict=True)))
    assert len(own) == len(images)
    assert ((own["pred_x"] != labels) == own["success_u8"]).all(), "property (5): success of 8 bits, of the stored file"


class Wrapped(nn.Module):
    """A network with something after it."""

    def __init__(self, network: nn.Module, after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.after = network, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.network(x))


FAULTS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "probabilities": (lambda z: z.softmax(dim=1), "gives probabilities, not logits"),
    "too few classes": (lambda z: z[:, :2], "knows 2 classes, and blocks has"),
    "too many classes": (lambda z: torch.cat([z, z], dim=1), "classes, and blocks has"),
    "chance": (lambda z: z + 0.1 * torch.randn_like(z), "answers differently when asked again"),
    "NaN": (lambda z: z / 0 * 0, "NaN or infinite outputs"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_network_that_cannot_be_attacked_is_named_before_anything_is_written(
    config: Config, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    after, said = FAULTS[fault]
    load = zoo.load
    monkeypatch.setattr(zoo, "load", lambda config, name: Wrapped(load(config, name), after).eval())
    with pytest.raises(BenchError, match=said):
        attack.run(config)
    assert not any(path.exists() for path in outputs(config))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stage", [objectives, regional, detection])
def test_every_study_that_attacks_asks_its_networks_first(
    config: Config, stage: Any, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {
        "objectives": ObjectiveRuns(runs={"one": Objectives(dataset="blocks", models=["cnn"])}),
        "regional": RegionalRuns(runs={"one": Regional(dataset="blocks", models=["cnn", "linear"])}),
        "detection": DetectionRuns(runs={"one": Detection(dataset="blocks", models=["cnn"])}),
    }
    after, said = FAULTS[fault]
    load = zoo.load
    monkeypatch.setattr(zoo, "load", lambda config, name: Wrapped(load(config, name), after).eval())
    with pytest.raises(BenchError, match=said):
        stage.run(config.model_copy(update=runs))
    assert not list(config.results.glob("objective*"))
    assert not list(config.results.glob("regional*"))
    assert not list(config.results.glob("detection*"))


def test_other_faults_of_a_network_or_its_images_are_named(config_of_tiny: Config) -> None:
    network = zoo.load(config_of_tiny, "cnn")
    data = declared(samples.load(config_of_tiny, "blocks"), 4)

    def asked(images: np.ndarray = data.images, least: int = 2) -> np.ndarray:
        some = dataclasses.replace(data, images=images)
        return sound.logits("m", network, "blocks", some, config_of_tiny, least=least)

    assert asked().shape[0] == 4
    for outside in (255 * data.images, data.images - 0.1, np.full_like(data.images, np.nan)):
        with pytest.raises(BenchError, match=r"not in \[0, 1\]"):
            asked(outside)
    with pytest.raises(BenchError, match="this attack needs 99"):
        asked(least=99)
    network.train()
    with pytest.raises(BenchError, match="in training mode"):
        asked()
    network.eval()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_share_asks_the_same_of_its_networks(config: Config, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    after, said = FAULTS[fault]
    load = zoo.load
    monkeypatch.setattr(zoo, "load", lambda config, name: Wrapped(load(config, name), after).eval())
    with pytest.raises(BenchError, match=said):
        attack.share(config, 1, 1)
    assert not list((config.root / ".cache").rglob("attack+*"))


def test_what_is_made_on_one_is_shown_to_all_others(config: Config) -> None:
    pool = config.attacks.model_copy(update={"pool": ["linear", "cnn"]})
    both = config.model_copy(update={"attacks": pool})
    attack.run(both)
    attacks, shown = (tables.read(name, config.results / f"{name}.parquet") for name in ("attacks", "transfers"))
    assert len(shown) == len(attacks) == 2 * 2 * 20, "each image of one model to the other"
    made = attacks.set_index("attack_id")["source_model"].loc[shown["attack_id"]].to_numpy()
    assert (made != shown["target_model"].to_numpy()).all()

    data = declared(samples.load(config, "blocks"), 20)
    networks = {name: zoo.load(config, name) for name in ("linear", "cnn")}
    settings = pool.runs[RUN]
    start, fast = shards.starts(both, RUN, data), prepare.folded(networks["cnn"], torch.from_numpy(data.images[:8]))
    images = shards.made(fast, data, start, 32 / 255, settings, both).images
    z, clean = (compute.forward(networks["linear"], x, config.compute) for x in (images, data.images))
    rows = shown.set_index("attack_id").loc[[f"{RUN}/32/cnn/{one}" for one in data.ids]]
    assert rows["pred"].tolist() == z.argmax(axis=1).tolist()
    assert rows["success"].tolist() == (z.argmax(axis=1) != data.labels).tolist()
    places = [
        sorted(one, reverse=True).index(one[pred]) + 1 for one, pred in zip(clean.tolist(), rows["pred"], strict=True)
    ]
    assert rows["rank_clean"].tolist() == places


def test_what_is_known_of_the_clean_images_is_that_of_the_network(config: Config) -> None:
    attack.run(config)
    found = tables.read("source_images", config.results / "source_images.parquet").set_index("sample_id")
    data, network = declared(samples.load(config, "blocks"), 20), zoo.load(config, "cnn")
    found = found.loc[data.ids]
    z = compute.forward(network, data.images, config.compute).astype(float)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.array(found["p"].tolist()), p, atol=1e-6)
    assert found["right"].tolist() == (z.argmax(axis=1) == data.labels).tolist()
    np.testing.assert_allclose(found["entropy_nats"], -(p * np.log(p)).sum(axis=1), atol=1e-5)
    ordered = np.sort(z, axis=1)
    np.testing.assert_allclose(found["margin"], ordered[:, -1] - ordered[:, -2], rtol=1e-4)
    x = torch.from_numpy(data.images).requires_grad_()
    loss = torch.nn.functional.cross_entropy(network(x), torch.from_numpy(data.labels), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x)
    np.testing.assert_allclose(found["gradient_norm"], gradient.flatten(1).norm(dim=1), rtol=1e-3)
