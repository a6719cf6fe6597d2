"""The datasets of the digits benchmark are what they are said to be, and their bytes are those of data.dvc."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from bench.config import load
from bench.data import build, digits, samples
from bench.store import tables

ROOT = Path(__file__).parents[2]
SIZES = {
    "digits": 5000,
    "optdigits": 1797,
    "optdigits-full": 1797,
    "digits-null-a": 500,
    "digits-null-b": 500,
    "digits-harder": 500,
    "digits-corrupted": 1000,
    "digits-noisy": 1000,
    "digits-mosaic": 500,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data")
    counts = build.run("digits", out)
    assert counts["datasets"] == len(SIZES)
    assert counts["samples"] == sum(SIZES.values())
    return out


@pytest.fixture(scope="module")
def frames(data: Path) -> dict[str, pd.DataFrame]:
    return {name: samples.read_table(data / name, 10) for name in SIZES}


def pixels(frames: dict[str, pd.DataFrame], name: str) -> np.ndarray:
    return samples.decode(frames[name], Path(name))[:, 0]


def test_the_split_is_stratified(frames: dict[str, pd.DataFrame]) -> None:
    sizes = pd.crosstab(frames["digits"]["label"], frames["digits"]["split"])
    assert sizes.to_dict("list") == {"test": [100] * 10, "train": [400] * 10}


def test_the_bytes_are_those_of_data_dvc(data: Path) -> None:
    built = {
        path.relative_to(data).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
        for path in data.rglob("*")
        if path.is_file()
    }
    [tracked] = yaml.safe_load((ROOT / "data.dvc").read_text())["outs"]
    name = f"files/md5/{tracked['md5'][:2]}/{tracked['md5'][2:]}"
    listing = next(path for path in (ROOT / "snapshots" / name, ROOT / ".dvc" / "cache" / name) if path.is_file())
    assert hashlib.md5(listing.read_bytes()).hexdigest() + ".dir" == tracked["md5"]
    held = {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_text())}
    assert len(held) == tracked["nfiles"]
    assert {name: md5 for name, md5 in held.items() if not name.startswith("annotations/")} == built


def test_every_dataset_of_params_is_built_and_small(data: Path, frames: dict[str, pd.DataFrame]) -> None:
    assert set(load(ROOT / "params.yaml").datasets_of("digits")) == set(SIZES)
    assert {name: len(frame) for name, frame in frames.items()} == SIZES
    assert sum(path.stat().st_size for path in data.rglob("*") if path.is_file()) < 3_000_000
    for name in SIZES:
        side = 40 if name == "digits-mosaic" else 28
        assert set(frames[name]["width"]) == set(frames[name]["height"]) == {side}
        meta = samples.load_meta(data / name)
        assert meta.label_space == "digits"
        assert "CC BY" in meta.license


def test_only_digits_has_a_train_split(frames: dict[str, pd.DataFrame]) -> None:
    assert {name for name, frame in frames.items() if (frame["split"] == "train").any()} == {"digits"}


def test_controls_are_made_of_test_images_alone(frames: dict[str, pd.DataFrame]) -> None:
    digits_frame = frames["digits"]
    test = set(digits_frame.loc[digits_frame["split"] == "test", "sample_id"])
    for name in SIZES:
        if name.startswith("digits-"):
            assert set(frames[name]["source_id"]) <= test
            if name != "digits-mosaic":
                own = frames[name]["sample_id"].str.removeprefix(f"{name}/")
                assert (own == frames[name]["source_id"].str.removeprefix("digits/")).all()


def test_null_halves_share_nothing_and_are_stratified(frames: dict[str, pd.DataFrame]) -> None:
    a, b = frames["digits-null-a"], frames["digits-null-b"]
    assert set(a["source_id"]).isdisjoint(b["source_id"])
    assert set(a["label"].value_counts()) == set(b["label"].value_counts()) == {50}


@pytest.mark.parametrize("name", ["digits-null-a", "digits-null-b", "digits-harder", "digits-noisy"])
def test_selected_and_relabelled_pixels_are_untouched(frames: dict[str, pd.DataFrame], name: str) -> None:
    original = dict(zip(frames["digits"]["sample_id"], frames["digits"]["image"], strict=True))
    assert [original[source] for source in frames[name]["source_id"]] == frames[name]["image"].tolist()


def test_the_distance_ratio_is_that_of_nearest_neighbours() -> None:
    from sklearn.neighbors import NearestNeighbors

    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (60, 28, 28)).astype(np.uint8), np.arange(60) % 3
    every = digits.Digits(np.arange(60).astype(str), labels, images)
    train, test = every.take(np.arange(45)), every.take(np.arange(45, 60))
    flat = images.reshape(60, -1).astype(float)
    expected = []
    for row in range(45, 60):
        own, other = (
            NearestNeighbors(n_neighbors=1).fit(flat[:45][part]).kneighbors(flat[row : row + 1])[0].item() ** 2
            for part in (labels[:45] == labels[row], labels[:45] != labels[row])
        )
        expected.append(own / other)
    np.testing.assert_allclose(digits.distance_ratio(train, test), expected, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")
def test_harder_is_harder_for_another_model_too(frames: dict[str, pd.DataFrame]) -> None:
    from sklearn.neighbors import NearestCentroid

    frame = frames["digits"]
    images, train = pixels(frames, "digits").reshape(5000, -1).astype(float), (frame["split"] == "train").to_numpy()
    right = NearestCentroid().fit(images[train], frame["label"][train]).predict(images) == frame["label"].to_numpy()
    hard = frame["sample_id"].isin(frames["digits-harder"]["source_id"]).to_numpy()
    assert set(frames["digits-harder"]["label"].value_counts()) == {50}
    assert right[hard].mean() < right[~train & ~hard].mean() - 0.1


def test_corrupted_is_mild_and_as_declared(frames: dict[str, pd.DataFrame]) -> None:
    frame = frames["digits"]
    clean = pixels(frames, "digits")[(frame["split"] == "test").to_numpy()].astype(int)
    changed = pixels(frames, "digits-corrupted").astype(int)
    faded = (clean * 70 + 50) // 100
    replaced = changed != faded
    assert set(np.unique(changed[replaced])) == {0, 255}
    assert (changed == 255).mean() == pytest.approx(0.02, abs=0.001)
    assert (changed[faded > 0] == 0).mean() == pytest.approx(0.02, abs=0.002)


def test_noisy_has_five_wrong_labels_a_class_and_keeps_the_true_ones(
    data: Path, frames: dict[str, pd.DataFrame]
) -> None:
    labels = tables.read("labels", data / "digits-noisy" / "labels.parquet")
    wide = labels.pivot(index="sample_id", columns="source", values="class_id")
    assert list(wide.columns) == ["original", "true"]
    frame = frames["digits-noisy"].set_index("sample_id")
    assert (wide["original"] == frame["label"]).all()
    truth = frames["digits"].set_index("sample_id")["label"]
    assert (wide["true"].to_numpy() == truth[frame.loc[wide.index, "source_id"]].to_numpy()).all()
    wrong = wide[wide["original"] != wide["true"]]
    assert set(wrong["true"].value_counts()) == {5}
    assert wrong["true"].nunique() == 10
    assert wrong["original"].nunique() > 5


def test_mosaics_are_balanced_and_labelled_by_their_parts(data: Path, frames: dict[str, pd.DataFrame]) -> None:
    frame = frames["digits-mosaic"]
    labels = tables.read("labels", data / "digits-mosaic" / "labels.parquet")
    composed = labels[labels["source"] == "composed"].groupby("sample_id")["class_id"].agg(list)
    assert composed.map(len).value_counts().to_dict() == {1: 125, 2: 125, 3: 125, 4: 125}
    assert set(frame["label"].value_counts()) == {50}
    assert frame["source_id"].is_unique
    assert all(label in composed[name] for name, label in zip(frame["sample_id"], frame["label"], strict=True))
    per_class = pd.crosstab(frame["label"], frame["sample_id"].map(composed.map(len)))
    assert set(np.unique(per_class)) == {12, 13}


def test_the_largest_digit_of_a_mosaic_is_26_pixels_long(frames: dict[str, pd.DataFrame]) -> None:
    from scipy.ndimage import find_objects, label

    images = pixels(frames, "digits-mosaic")
    longest = []
    for image in images:
        parts, _ = label(image > 0, np.ones((3, 3)))
        longest.append(max(max(s.stop - s.start for s in box) for box in find_objects(parts)))
    assert np.median(longest) == 26
    assert max(longest) == 26


def test_optdigits_differ_by_scaling_alone(frames: dict[str, pd.DataFrame]) -> None:
    from sklearn.datasets import load_digits

    boxed, full = pixels(frames, "optdigits"), pixels(frames, "optdigits-full")
    assert (boxed[:, :4] == 0).all()
    assert (boxed[:, :, 24:] == 0).all()
    coarse = load_digits().images
    blocks = full.reshape(-1, 4, 7, 4, 7).mean(axis=(2, 4))
    expected = coarse.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)) * 255 / 16
    assert np.corrcoef(blocks.ravel(), expected.ravel())[0, 1] > 0.99
    assert frames["optdigits"]["label"].tolist() == frames["optdigits-full"]["label"].tolist()
