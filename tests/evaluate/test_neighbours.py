from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from bench.config import Config
from bench.evaluate import neighbours
from bench.store import tables
from tests import tiny


def at(*degrees: float) -> np.ndarray:
    return np.column_stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]).astype(np.float32)


def ids_of(near: np.ndarray, ids: np.ndarray) -> list[list[str]]:
    return [[str(ids[i]) for i in row if i >= 0] for row in near]


def test_by_hand() -> None:
    ids = np.array(["a", "b", "c", "d"])
    near, cosine = neighbours.nearest(5 * at(0, 10, 40, 180), ids, ids, 2)
    assert ids_of(near, ids) == [["b", "c"], ["a", "c"], ["b", "a"], ["c", "b"]]
    np.testing.assert_allclose(cosine[0], np.cos(np.radians([10, 40])), rtol=1e-6)


def test_no_image_of_the_same_source_and_no_source_twice() -> None:
    """x/1 and y/1 are made from a/1, y/2 from a/2: of equals, the source itself is shown."""
    ids = np.array(["a/1", "x/1", "y/1", "a/2", "y/2", "a/3"])
    source = np.array(["a/1", "a/1", "a/1", "a/2", "a/2", "a/3"])
    near, _ = neighbours.nearest(at(0, 0, 1, 20, 20, 90), ids, source, 3)
    assert ids_of(near, ids) == [
        ["a/2", "a/3"],
        ["a/2", "a/3"],
        ["a/2", "a/3"],
        ["y/1", "a/3"],
        ["y/1", "a/3"],
        ["a/2", "y/1"],
    ]


def test_ties_do_not_depend_on_the_order_of_the_images() -> None:
    rng = np.random.default_rng(0)
    features = rng.integers(-1, 2, (60, 3)).astype(np.float32)
    ids = np.array([f"{i:02d}" for i in range(60)])
    near, _ = neighbours.nearest(features, ids, ids, 5)
    order = rng.permutation(60)
    shuffled, _ = neighbours.nearest(features[order], ids[order], ids[order], 5)
    assert ids_of(shuffled, ids[order]) == [ids_of(near, ids)[i] for i in order]


def test_against_all_distances() -> None:
    features = np.random.default_rng(0).normal(size=(2100, 6)).astype(np.float32)
    ids = np.array([f"{i:04d}" for i in range(len(features))])
    near, cosine = neighbours.nearest(features, ids, ids, 4)
    distance = cdist(features, features, "cosine")
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_allclose(1 - cosine, np.sort(distance, axis=1)[:, :4], atol=2e-6)
    assert (near != np.arange(len(near))[:, None]).all()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tiny.make(tmp_path_factory.mktemp("tiny"))


def test_stage(config: Config) -> None:
    neighbours.run(config)
    path = config.results / "neighbours.parquet"
    frame = tables.read("neighbours", path)
    assert frame.groupby("sample_id").size().to_dict().keys() == set(
        tables.read("samples", config.results / "samples.parquet").query("split == 'test'")["sample_id"]
    )
    assert (frame.groupby("sample_id")["rank"].agg(list).map(lambda ranks: ranks == [1, 2, 3])).all()
    stable = lambda column: column.str.split("/").str[1]  # noqa: E731
    assert (stable(frame["sample_id"]) != stable(frame["neighbour_id"])).all()
    assert (frame.sort_values(["sample_id", "rank"]).groupby("sample_id")["similarity"].diff().dropna() <= 1e-6).all()
    assert (frame["model"] == "cnn").all()
    first = path.read_bytes()
    neighbours.run(config)
    assert path.read_bytes() == first


def test_no_model_no_neighbours(config: Config) -> None:
    settings = config.neighbours.model_copy(update={"model": None})
    assert neighbours.run(config.model_copy(update={"neighbours": settings})) == {"neighbours": 0}
    assert tables.read("neighbours", config.results / "neighbours.parquet").empty
