"""What was made before an interruption, or by other processes, is not made again, and the results are the same."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from bench import compute
from bench.attacks import attack, norms, prepare, remake, shards
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


@pytest.fixture
def in_blocks_of_8(config: Config) -> Config:
    """20 images in three blocks, enough to try bfloat16 on the first one."""
    return config.model_copy(update={"compute": config.compute.model_copy(update={"batch_size": 8})})


def attacks_of(config: Config) -> pd.DataFrame:
    attack.run(config)
    return tables.read("attacks", config.results / "attacks.parquet").set_index("attack_id")


def lowered(config: Config) -> shards.Source:
    """The convolutional network as it is attacked in bfloat16."""
    data = shards.declared(config, config.attacks.runs[RUN])
    found = shards.source(with_run(config, dtype="bfloat16"), RUN, "cnn", data, zoo.load(config, "cnn"), {})
    assert found.in_bfloat16 is not None
    return found.in_bfloat16


@pytest.mark.parametrize("stop", ["never", "success"])
def test_bfloat16_is_used_where_as_many_images_stay_right_and_the_rows_say_so(
    in_blocks_of_8: Config, stop: str
) -> None:
    config = with_run(in_blocks_of_8, stop=stop)
    exact, found = attacks_of(config), attacks_of(with_run(config, dtype="bfloat16"))
    found = found.loc[exact.index]
    assert not exact["params_json"].str.contains("dtype").any()
    data = shards.declared(config, config.attacks.runs[RUN])
    first = data.ids[shards.shards_of(config.attacks.runs[RUN], data, config)[0].rows]
    used = found["params_json"].str.contains('"dtype": "bfloat16"')
    alike = ["l2", "linf", "success_float", "iterations"]
    for model in ("cnn", "linear"):
        for eps in ("8", "32"):
            mine = [f"{RUN}/{eps}/{model}/{one}" for one in data.ids]
            tried = [f"{RUN}/{eps}/{model}/{one}" for one in first]
            if used[mine].all():
                assert found.loc[tried, "success_float"].sum() == exact.loc[tried, "success_float"].sum()
                assert not found.loc[mine, "l2"].equals(exact.loc[mine, "l2"]), "other gradients"
            else:
                assert found.loc[mine, "params_json"].str.contains('"dtype": "float32"').all()
                assert found.loc[mine, alike].equals(exact.loc[mine, alike])
    assert used.any()
    eps = found.index.str.split("/").str[1].astype(float) / 255
    assert (found["linf"] <= eps * (1 + 1e-6)).all()
    early = used & (found["iterations"] < 5)
    assert found.loc[early, "success_float"].all(), "what left is wrong in float32"
    assert early.any() == (stop == "success")
    checks = [tables.read("attack_trust", config.results / "attack_trust.parquet")]
    attack.run(config)
    checks.append(tables.read("attack_trust", config.results / "attack_trust.parquet"))
    assert checks[0].equals(checks[1]), "checks are in float32"


def test_where_bfloat16_is_weaker_the_network_is_attacked_in_float32(
    in_blocks_of_8: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blind(nn.Module):
        """Logits that do not depend on the image."""

        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 3) + 0 * x.sum(dim=(1, 2, 3))[:, None]

    pool = in_blocks_of_8.attacks.model_copy(update={"pool": ["cnn"]})
    config = with_run(in_blocks_of_8.model_copy(update={"attacks": pool}), eps_255=[32])
    expected = attacks_of(config)
    asked = with_run(config, dtype="bfloat16")
    with monkeypatch.context() as patched:
        patched.setattr(prepare, "in_bfloat16", lambda network, example: prepare.Bfloat16(Blind()))
        found = attacks_of(asked)
    assert found["params_json"].str.contains('"dtype": "float32"').all()
    alike = found.columns.difference(["params_json"])
    assert found[alike].equals(expected[alike])
    monkeypatch.setattr(prepare, "in_bfloat16", lambda network, example: None)
    assert attacks_of(asked).equals(found), "a network that cannot compute so"


def test_what_bfloat16_was_tried_on_is_not_made_again(in_blocks_of_8: Config, counted: list[int]) -> None:
    """By the stage, by shares, and where images are made anew: of each model and strength three blocks in one of both,
    and the first in the other, and the checks."""
    asked = with_run(in_blocks_of_8, dtype="bfloat16")
    attack.run(asked)
    assert len(counted) == 2 * (2 * (3 + 1) + 3)
    expected, names = written(asked), kept(asked)
    counted.clear()
    attack.run(asked)
    found = remake.attacked(asked, RUN, 32, "cnn")
    assert not counted
    prune.run(asked)
    assert kept(asked) == names

    shutil.rmtree(asked.root / cache.FOLDER)
    for number in (2, 1):
        attack.share(asked, number, 2)
    counted.clear()
    attack.run(asked)
    assert not counted
    assert written(asked) == expected

    shutil.rmtree(asked.root / cache.FOLDER)
    again = remake.attacked(asked, RUN, 32, "cnn", keep=False)
    assert not kept(asked)
    assert np.array_equal(again.images, found.images)


def test_a_run_of_few_batches_does_not_try_bfloat16(config: Config) -> None:
    exact, found = attacks_of(config), attacks_of(with_run(config, dtype="bfloat16"))
    assert found["params_json"].str.contains('"dtype": "float32"').all()
    alike = found.columns.difference(["params_json"])
    assert found[alike].equals(exact[alike])


def test_in_bfloat16_neither_order_nor_number_of_images_nor_other_strengths_change_one(in_blocks_of_8: Config) -> None:
    """Property (6): of what one network makes, to the bit; and of a run."""
    config, run = in_blocks_of_8, in_blocks_of_8.attacks.runs[RUN]
    data, low = shards.declared(config, run), lowered(config).network
    start = shards.starts(config, RUN, data)
    whole = shards.made(low, data, start, 32 / 255, run, config).images
    for rows in (np.arange(1), np.arange(7), np.arange(len(data.ids))[::-1]):
        found = shards.made(low, data.rows(rows), start[rows], 32 / 255, run, config).images
        assert np.array_equal(found, whole[rows])
    asked = with_run(config, dtype="bfloat16", n_images=18, eps_255=[32])
    fewer, more = attacks_of(asked), attacks_of(with_run(asked, n_images=24, eps_255=[16, 32]))
    assert fewer.drop(columns="params_json").equals(more.loc[fewer.index].drop(columns="params_json"))


@pytest.mark.parametrize(
    "how", [{"kind": "apgd-ce"}, {"kind": "cw-l2"}, {"stop": "transfer"}, {"target": "drawn"}, {"kind": "square"}]
)
def test_bfloat16_is_for_attacks_that_take_only_the_gradient(how: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="dtype: bfloat16 is for fgsm, pgd-linf"):
        Attack.model_validate({**how, "dtype": "bfloat16"})
