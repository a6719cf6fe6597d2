"""Attacked images that are made again: those that the stage made, and no others."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.attacks import attack, norms, remake
from bench.config import Config
from bench.errors import BenchError
from bench.pictures import pixels
from bench.store import tables
from tests.attacks.test_attack import RUN


@pytest.fixture
def config(config_of_tiny: Config, tmp_path: Path) -> Config:
    return config_of_tiny.model_copy(update={"root": shutil.copytree(config_of_tiny.root, tmp_path / "copy")})


def test_images_are_those_of_the_stage_all_or_one(config: Config) -> None:
    config = config.model_copy(update={"attacks": config.attacks.model_copy(update={"pool": ["linear", "cnn"]})})
    attack.run(config)
    rows = tables.read("attacks", config.results / "attacks.parquet")
    rows = rows.loc[rows["attack_id"].str.startswith(f"{RUN}/32/cnn/")].set_index("sample_id")
    found = remake.attacked(config, RUN, 32, "cnn")
    assert len(found.ids) == len(rows) == 20
    mine = rows.loc[found.ids]
    np.testing.assert_array_equal(norms.sizes(found.images, found.clean).l2.astype(np.float32), mine["l2"])
    said = remake.answers(config, found, ["cnn", "linear"])
    own = said.loc[said["model"] == "cnn"]
    assert ((own["pred"].to_numpy() != found.labels) == mine["success_u8"].to_numpy()).all()
    assert len(said) == 40
    one = remake.attacked(config, RUN, 32, "cnn", [found.ids[7]])
    np.testing.assert_array_equal(one.images[0], found.images[7])


def test_files_hold_the_images(config_of_tiny: Config, tmp_path: Path) -> None:
    found = remake.attacked(config_of_tiny, RUN, 32, "cnn")
    folder = remake.write(found, tmp_path / "made" / "here")
    assert len(list(folder.glob("*.png"))) == 20
    with np.load(folder / "images.npz") as held:
        np.testing.assert_array_equal(held["attacked"], found.images)
        np.testing.assert_array_equal(held["clean"], found.clean)
        assert held["ids"].tolist() == found.ids.tolist()
        picture = pixels((folder / f"{held['ids'][3].replace('/', '_')}.png").read_bytes())
        np.testing.assert_array_equal(picture, held["attacked_u8"][3].transpose(1, 2, 0).squeeze())
    with pytest.raises(BenchError, match="there already"):
        remake.write(found, folder)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("other", 32, "cnn", None), "no attack 'other'"),
        ((RUN, 31, "cnn", None), "has no eps 31"),
        ((RUN, 32, "nobody", None), "has no model nobody"),
        ((RUN, 32, "cnn", ["blocks/none"]), "blocks/none is not attacked"),
    ],
)
def test_what_was_not_made_cannot_be_made_again(
    config_of_tiny: Config, asked: tuple[str, float, str, list[str] | None], said: str
) -> None:
    with pytest.raises(BenchError, match=said):
        remake.attacked(config_of_tiny, *asked)
