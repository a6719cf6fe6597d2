"""What was made before an interruption, or by other processes, is not made again, and the results are the same."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench import compute
from bench.attacks import attack, norms, prepare, shards
from bench.attacks.engine import Found, Images
from bench.config import Attack, Config
from bench.data import cache
from bench.data.samples import Samples
from bench.errors import BenchError
from bench.models import zoo
from bench.store import prune, tables
from bench.studies import transfer

RUN = "pgd-linf"
TABLES = ("attacks", "attack_predictions", "attack_trust", "transfers", "source_images")
N_SHARDS = 2 * (2 * 2 + 3)
"""Models x (strengths x blocks of 16 of 20 images + checks)."""


@pytest.fixture
def config(config_of_tiny: Config, tmp_path: Path) -> Config:
    root = shutil.copytree(config_of_tiny.root, tmp_path / "copy", ignore=shutil.ignore_patterns(cache.FOLDER))
    run = config_of_tiny.attacks.runs[RUN].model_copy(update={"squares": 5})
    both = config_of_tiny.attacks.model_copy(update={"pool": ["linear", "cnn"], "runs": {RUN: run}})
    return config_of_tiny.model_copy(update={"root": root, "attacks": both})


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each shard that is made has."""
    made, sizes = shards.made, []

    def counting(network: nn.Module, data: Samples, start: Images, eps: float, run: Attack, config: Config) -> Found:
        sizes.append(len(data.ids))
        return made(network, data, start, eps, run, config)

    monkeypatch.setattr(shards, "made", counting)
    return sizes


def written(config: Config) -> dict[str, bytes]:
    return {name: (config.results / f"{name}.parquet").read_bytes() for name in TABLES}


def kept(config: Config) -> set[Path]:
    return set((config.root / cache.FOLDER / "blocks").glob("attack+*"))


def with_run(config: Config, **changes: object) -> Config:
    run = Attack.model_validate({**config.attacks.runs[RUN].model_dump(), **changes})
    return config.model_copy(update={"attacks": config.attacks.model_copy(update={"runs": {RUN: run}})})


KILLED = """
import os, signal, sys
from pathlib import Path
from bench.attacks import attack, shards
from bench.attacks.engine import Found, Images
from bench.config import Config

made, seen = shards.made, []

def killing(*given):
    if len(seen) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    seen.append(1)
    return made(*given)

shards.made = killing
attack.run(Config.model_validate_json(Path(sys.argv[1]).read_text()))
"""


def test_a_killed_stage_goes_on_after_its_last_whole_shard(config: Config, counted: list[int], tmp_path: Path) -> None:
    attack.run(config)
    assert len(counted) == N_SHARDS == len(kept(config))
    expected = written(config)
    shutil.rmtree(config.root / cache.FOLDER)
    for name in TABLES:
        (config.results / f"{name}.parquet").unlink()

    (tmp_path / "config.json").write_text(config.model_dump_json())
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "config.json")], check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    (first,) = kept(config)
    assert not any((config.results / f"{name}.parquet").exists() for name in TABLES)
    before = first.stat().st_mtime_ns

    counted.clear()
    attack.run(config)
    assert len(counted) == N_SHARDS - 1
    assert first.stat().st_mtime_ns == before
    assert written(config) == expected
    counted.clear()
    attack.run(config)
    assert not counted
    assert written(config) == expected


def test_shares_are_made_apart_and_the_stage_uses_them(config: Config, counted: list[int]) -> None:
    attack.run(config)
    expected = written(config)
    shutil.rmtree(config.root / cache.FOLDER)
    for name in TABLES:
        (config.results / f"{name}.parquet").unlink()
    counts = [attack.share(config, number, 3) for number in (2, 3, 1)]
    assert [one["shards"] for one in counts] == [5, 4, 5]
    assert all(one["of"] == N_SHARDS for one in counts)
    assert not (config.results / "attacks.parquet").exists()
    counted.clear()
    attack.run(config)
    assert not counted
    assert written(config) == expected


def test_what_decides_a_shard_makes_it_anew_and_nothing_else_does(config: Config, counted: list[int]) -> None:
    attack.run(config)

    def made_anew(other: Config) -> int:
        counted.clear()
        attack.run(other)
        return len(counted)

    assert made_anew(with_run(config, eps_255=[8, 32, 64])) == 2 * 2, "two blocks of each model"
    pool = config.attacks.model_copy(update={"pool": ["cnn"]})
    assert made_anew(config.model_copy(update={"attacks": pool})) == 0
    assert made_anew(with_run(config, n_images=24)) == 2 * 2 * 1 + 2 * 3, "last blocks, and the checks on all"
    assert made_anew(config) == 2 * 2 * 1 + 2 * 3, "which took the place of the others"
    assert made_anew(with_run(config, steps=6)) == N_SHARDS - 2, "not Square"
    attack.run(config)
    assert made_anew(config.model_copy(update={"seed": 1})) == N_SHARDS
    attack.run(config)
    network = zoo.load(config, "cnn")
    for weight in network.parameters():
        weight.data *= 1.01
    zoo.save(network, zoo.path_of(config, "cnn"), arch="cnn", temperature=1.0)
    assert made_anew(config) == N_SHARDS // 2
    assert len(kept(config)) == 2 * (3 * 2 + 3), "one file a shard; those of the third strength wait to be pruned"
    prune.run(config)
    assert len(kept(config)) == N_SHARDS
    assert made_anew(config) == 0
    gone = config.attacks.model_copy(update={"runs": {}})
    prune.run(config.model_copy(update={"attacks": gone}))
    assert not kept(config)


def test_a_damaged_shard_is_made_anew(config: Config, counted: list[int]) -> None:
    attack.run(config)
    expected = written(config)
    one = sorted(kept(config))[3]
    one.write_bytes(one.read_bytes()[:-7])
    counted.clear()
    attack.run(config)
    assert len(counted) == 1
    assert written(config) == expected


def test_shards_that_are_too_large_are_not_kept(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    attack.run(config)
    expected = written(config)
    size = sum(path.stat().st_size for path in kept(config))
    told = shards.kept_bytes(config, "blocks", (1, 16, 16))
    assert told <= size <= told * 1.1, "headers and numbers of steps"
    shutil.rmtree(config.root / cache.FOLDER)
    monkeypatch.setattr(shards, "KEPT_BYTES", told - 1)
    attack.run(config)
    assert not kept(config)
    assert written(config) == expected
    with pytest.raises(BenchError, match="not kept"):
        attack.share(config, 1, 2)


def test_an_image_stops_where_its_own_network_falls(config: Config) -> None:
    attack.run(config)
    whole = tables.read("attacks", config.results / "attacks.parquet").set_index("attack_id")
    stopping = with_run(config, stop="success")
    attack.run(stopping)
    found = tables.read("attacks", config.results / "attacks.parquet").set_index("attack_id").loc[whole.index]
    fell = found["iterations"] < 5
    assert fell.any()
    assert not fell.all()
    assert found.loc[fell, "success_float"].all()
    assert found.loc[fell, "l2"].mean() < whole.loc[fell, "l2"].mean()
    alike = ["l2", "linf", "pred"]
    assert found.loc[~fell, alike].equals(whole.loc[~fell, alike]), "who does not fall takes the same steps"
    assert found["params_json"].str.contains('"stop": "success"').all()
    with pytest.raises(ValueError, match="stop: success is for pgd-linf"):
        Attack(kind="square", stop="success")


def test_strengths_and_steps_that_can_do_nothing_are_refused(config: Config) -> None:
    with pytest.raises(ValueError, match="pgd-l0 may change all positions"):
        Attack(kind="pgd-l0", eps_255=[8, 300])
    with pytest.raises(ValueError, match="one step finds nothing"):
        Attack(kind="cw-l2", steps=1)
    with pytest.raises(BenchError, match="less than one position of 16 x 16"):
        attack.run(with_run(config, kind="pgd-l0", eps_255=[0.9]))


def test_an_image_stops_where_each_other_network_first_falls(config: Config) -> None:
    stopping = with_run(config, stop="transfer", steps=12, eps_255=[48])
    attack.run(stopping)
    attacks, shown, images = (
        tables.read(name, config.results / f"{name}.parquet") for name in ("attacks", "transfers", "source_images")
    )
    assert len(attacks) == 2 * 2 * 20, "an image of each network for itself and for the other"
    assert len(shown) == 2 * 20
    by_id = attacks.set_index("attack_id")
    fell = by_id["iterations"].loc[shown["attack_id"]].to_numpy()
    success = shown["success"].to_numpy()
    assert success.any()
    assert (fell[~success] == 12).all()
    early = by_id.loc[shown.loc[success & (fell > 0), "attack_id"]]
    assert (early["linf"] <= early["iterations"] * 0.1 * 48 / 255 + 1e-6).all()

    data = shards.declared(stopping, stopping.attacks.runs[RUN])
    networks = {name: zoo.load(config, name) for name in ("linear", "cnn")}
    made_on = shards.source(stopping, RUN, "cnn", data, networks["cnn"], networks)
    assert list(made_on.targets) == ["cnn", "linear"]
    run = stopping.attacks.runs[RUN]
    (made,) = [
        one
        for label, one in shards.whole(made_on, run, data, np.zeros_like(data.images), stopping).items()
        if label == "48"
    ]
    rows = by_id.loc[[f"{RUN}/48/cnn@linear/{one}" for one in data.ids]]
    np.testing.assert_allclose(rows["l2"], norms.sizes(made.images[:, 1], data.images).l2, rtol=1e-5)
    assert rows["iterations"].tolist() == made.iterations[:, 1].tolist()
    answers = compute.forward(networks["linear"], made.images[:, 1], config.compute).argmax(axis=1)
    mine = shown.set_index("attack_id").loc[rows.index]
    assert mine["pred"].tolist() == answers.tolist()

    (one,) = transfer.read(attacks, shown, images)
    assert one.success.shape[0] == 2
    sizes = dict(zip(one.ids, one.l2[one.sources.index("cnn")], strict=True))
    assert all(sizes[sample_id] == by_id.loc[f"{RUN}/48/cnn@linear/{sample_id}", "l2"] for sample_id in one.ids)
    cells = transfer.pairs(one, attacks, 0.95).set_index(["source_model", "target_model"])
    own = by_id.loc[[f"{RUN}/48/cnn/{sample_id}" for sample_id in one.ids]]
    assert cells.loc[("cnn", "cnn"), "rate"] == pytest.approx(own["success_float"].mean())
    assert (cells["n"] == len(one.ids)).all()


def low_and_not(config: Config, model: str = "cnn") -> tuple[shards.Source, shards.Source]:
    """A model as it is attacked where bfloat16 is asked for, and where it is not."""
    data, network = shards.declared(config, config.attacks.runs[RUN]), zoo.load(config, model)
    return tuple(  # pyright: ignore[reportReturnType]
        shards.source(with_run(config, dtype=dtype), RUN, model, data, network, {}) for dtype in ("bfloat16", "float32")
    )


@pytest.mark.parametrize("stop", ["never", "success"])
def test_in_bfloat16_as_many_images_stay_right_and_the_run_says_that_it_was_used(config: Config, stop: str) -> None:
    exact, asked = (with_run(config, stop=stop, dtype=dtype) for dtype in ("float32", "bfloat16"))
    low, high = low_and_not(with_run(config, stop=stop))
    assert (low.dtype, high.dtype) == ("bfloat16", "float32")
    assert isinstance(low.network, prepare.Low)
    attack.run(exact)
    in_float32 = tables.read("attacks", config.results / "attacks.parquet").set_index("attack_id")
    assert not in_float32["params_json"].str.contains("dtype").any()
    attack.run(asked)
    found = tables.read("attacks", config.results / "attacks.parquet").set_index("attack_id").loc[in_float32.index]
    cnn = found["source_model"] == "cnn"
    assert found.loc[cnn, "params_json"].str.contains('"dtype": "bfloat16"').all()
    data = shards.declared(config, config.attacks.runs[RUN])
    first = data.ids[shards.shards_of(asked.attacks.runs[RUN], data, config)[0].rows]
    for eps in ("8", "32"):
        ids = [f"{RUN}/{eps}/cnn/{one}" for one in first]
        assert found.loc[ids, "success_float"].sum() == in_float32.loc[ids, "success_float"].sum()
    assert not found.loc[cnn, "l2"].equals(in_float32.loc[cnn, "l2"]), "other gradients"
    eps = found.index.str.split("/").str[1].astype(float) / 255
    assert (found["linf"] <= eps * (1 + 1e-6)).all()
    if stop == "success":
        early = cnn & (found["iterations"] < 5)
        assert early.any()
        assert found.loc[early, "success_float"].all(), "what left is wrong in float32"


def test_where_bfloat16_is_weaker_the_network_is_attacked_in_float32(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blind(nn.Module):
        """Logits that do not depend on the image."""

        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 3) + 0 * x.sum(dim=(1, 2, 3))[:, None]

    pool = config.attacks.model_copy(update={"pool": ["cnn"]})
    config = config.model_copy(update={"attacks": pool})
    exact, asked = (with_run(config, dtype=dtype) for dtype in ("float32", "bfloat16"))
    attack.run(exact)
    expected = tables.read("attacks", config.results / "attacks.parquet")
    monkeypatch.setattr(prepare, "low", lambda network, example: prepare.Low(Blind(), 0.0))
    low, _ = low_and_not(config)
    assert low.dtype == "float32"
    attack.run(asked)
    found = tables.read("attacks", config.results / "attacks.parquet")
    assert found["params_json"].str.contains('"dtype": "float32"').all()
    alike = found.columns.difference(["params_json"])
    assert found[alike].equals(expected[alike])


def test_what_bfloat16_was_tried_on_is_not_made_again(config: Config, counted: list[int]) -> None:
    """Of each model the first blocks of both, the other blocks of the one that is used, and its checks."""
    asked = with_run(config, dtype="bfloat16")
    attack.run(asked)
    assert len(counted) == N_SHARDS + 2 * 2
    kept_at_first = kept(config)
    counted.clear()
    attack.run(asked)
    assert not counted
    prune.run(asked)
    assert kept(config) == kept_at_first
    told = shards.kept_bytes(asked, "blocks", (1, 16, 16))
    assert told <= sum(path.stat().st_size for path in kept(config)) <= told * 1.1
    attack.run(with_run(config))
    counted.clear()
    prune.run(with_run(config))
    assert len(kept(config)) == N_SHARDS


def test_in_bfloat16_neither_order_nor_number_of_images_changes_one(config: Config) -> None:
    """Property (6), on the network that `source` gives."""
    run = config.attacks.runs[RUN]
    data = shards.declared(config, run)
    low, _ = low_and_not(config)
    start = shards.starts(config, RUN, data)
    whole = shards.made(low.network, data, start, 32 / 255, run, config).images
    for rows in (np.arange(1), np.arange(7), np.arange(len(data.ids))[::-1]):
        assert np.array_equal(
            shards.made(low.network, data.rows(rows), start[rows], 32 / 255, run, config).images, whole[rows]
        )


@pytest.mark.parametrize("how", [{"kind": "apgd-ce"}, {"kind": "cw-l2"}, {"kind": "pgd-linf", "stop": "transfer"}])
def test_bfloat16_is_for_attacks_that_take_only_the_gradient(how: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="dtype: bfloat16 is for fgsm, pgd-linf"):
        Attack.model_validate({**how, "dtype": "bfloat16"})
