"""Maps of images, and the neighbours that they are drawn from."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from bench import compute
from bench.config import Config, Evaluation, Maps
from bench.data import samples
from bench.errors import BenchError
from bench.evaluate import maps, neighbours
from bench.models import zoo
from bench.store import tables
from tests import tiny

SETTINGS = Maps(n_neighbors=8, epochs=50, k=3)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = tiny.make(tmp_path_factory.mktemp("tiny"))
    maps.run(config)
    return config


def chosen(config: Config) -> list[samples.Samples]:
    sets = [samples.load(config, dataset) for dataset in config.datasets]
    return [one.rows(compute.declared(one.ids, config.maps.n_images)) for one in sets]


def test_every_encoder_maps_the_same_declared_images(config: Config) -> None:
    frame = tables.read("maps", config.results / "maps.parquet")
    expected = sorted(np.concatenate([one.ids for one in chosen(config)]))
    assert len(expected) == 20 + tiny.N_COPIES
    for name in config.models:
        mine = frame[frame["model"] == name]
        assert mine["sample_id"].tolist() == expected
        assert np.isfinite(mine[["x", "y"]]).all(axis=None)
        assert len(mine[["x", "y"]].drop_duplicates()) == len(mine)


def test_neighbours_are_those_of_all_distances(config: Config) -> None:
    """The oracle: scipy's cosine distances over all pairs, of each source the nearest image."""
    frame = tables.read("map_neighbours", config.results / "map_neighbours.parquet")
    origin = tables.read("samples", config.results / "samples.parquet").set_index("sample_id")["source_id"]
    sets = chosen(config)
    ids = np.concatenate([one.ids for one in sets])
    for name in config.models:
        network = zoo.load(config, name)
        features = np.concatenate([compute.forward(network, s.images, config.compute, features=True) for s in sets])
        distance = cdist(features, features, "cosine")
        mine = frame[frame["model"] == name].groupby("sample_id")
        assert set(mine.groups) == set(ids)
        for i, sample_id in enumerate(ids):
            best: dict[str, float] = {}
            for j, other in enumerate(ids):
                if origin[other] != origin[sample_id]:
                    best[origin[other]] = min(distance[i, j], best.get(origin[other], 2.0))
            rows = mine.get_group(sample_id)
            assert rows["rank"].tolist() == [1, 2, 3]
            assert origin[rows["neighbour_id"]].is_unique
            assert origin[sample_id] not in set(origin[rows["neighbour_id"]])
            found = [distance[i, list(ids).index(other)] for other in rows["neighbour_id"]]
            np.testing.assert_allclose(found, sorted(best.values())[:3], atol=2e-6)
            np.testing.assert_allclose(1 - rows["similarity"], found, atol=2e-3)


def test_two_runs_give_the_same_bytes_in_another_process(config: Config) -> None:
    paths = [config.results / f"{name}.parquet" for name in ("maps", "map_neighbours")]
    before = [path.read_bytes() for path in paths]
    code = "import sys; from bench.config import Config; from bench.evaluate import maps; "
    code += "maps.run(Config.model_validate_json(sys.stdin.read()))"
    for path in paths:
        path.unlink()
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], input=config.model_dump_json(), text=True, check=True, cwd=root)
    assert [path.read_bytes() for path in paths] == before


def test_images_of_a_group_lie_together_and_the_seed_is_all_that_chance_there_is() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], 30)
    features = (np.eye(3)[group] * 5 + rng.normal(0, 0.5, (90, 3))).astype(np.float32)
    ids = np.array([f"{i:02d}" for i in range(90)])
    near, cosine = neighbours.nearest(features, ids, ids, SETTINGS.n_neighbors - 1)
    xy = maps.layout(features, near, cosine, SETTINGS, 0)
    distance = cdist(xy, xy)
    np.fill_diagonal(distance, np.inf)
    assert (group[distance.argmin(axis=1)] == group).mean() > 0.95
    np.testing.assert_array_equal(maps.layout(features, near, cosine, SETTINGS, 0), xy)
    assert not np.array_equal(maps.layout(features, near, cosine, SETTINGS, 1), xy)
    np.testing.assert_array_equal(maps.layout(8 * features, near, cosine, SETTINGS, 0), xy)  # nothing but directions


@pytest.mark.parametrize("n", [maps.LEAST, maps.LEAST + 1, 9])
def test_few_images_can_be_mapped(n: int) -> None:
    features = np.random.default_rng(n).normal(size=(n, 4)).astype(np.float32)
    ids = np.array([f"{i:02d}" for i in range(n)])
    near, cosine = neighbours.nearest(features, ids, ids, n - 1)
    xy = maps.layout(features, near, cosine, SETTINGS, 0)
    assert xy.shape == (n, 2)
    assert np.isfinite(xy).all()


def test_too_few_images_are_a_message(config: Config) -> None:
    few = config.model_copy(update={"maps": Maps(n_images=2)})
    before = (config.results / "maps.parquet").read_bytes()
    with pytest.raises(BenchError, match=r"a map needs 5.*maps\.n_images"):
        maps.run(few)
    assert (config.results / "maps.parquet").read_bytes() == before


def test_a_suite_may_say_itself_how_many_images_its_maps_hold(config: Config, tmp_path: Path) -> None:
    root = shutil.copytree(config.root, tmp_path / "copy")
    own = config.model_copy(update={"root": root, "evaluations": {"blocks": Evaluation(map_images=7)}})
    maps.run(own)
    found = tables.read("maps", own.results / "maps.parquet")
    held = {name: len(samples.load(config, name).ids) for name in config.datasets_of("blocks")}
    assert set(found.groupby("model").size()) == {sum(min(7, n) for n in held.values())}
