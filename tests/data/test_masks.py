"""Images with masks: composed ones, a preset's, and what is wrong with others."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bench import config as configuration
from bench.config import Segmentation
from bench.data import fetch, fundus, masks
from bench.data.samples import Samples
from bench.errors import BenchError
from bench.presets import merge
from bench.presets import preset as presets
from bench.store import tables


def png(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=kind)
    return stream.getvalue()


def pair(seed: int, size: tuple[int, int] = (12, 12), top: int = 255) -> tuple[np.ndarray, np.ndarray]:
    own = np.random.default_rng(seed)
    mask = np.zeros(size, np.uint8)
    mask[2:6, 3:8] = top
    return own.integers(0, 255, (*size, 3), dtype=np.uint8), mask


def folder_of(path: Path, n: int = 4, **more: np.ndarray) -> Path:
    """A user's own folder: images/ and masks/ of n stems, and `more` masks by stem."""
    for part in ("images", "masks"):
        (path / part).mkdir(parents=True)
    for row in range(n):
        image, mask = pair(row)
        (path / "images" / f"eye{row}.png").write_bytes(png(image))
        (path / "masks" / f"eye{row}.png").write_bytes(png(more.get(f"eye{row}", mask)))
    return path


def test_a_composed_image_has_its_digit_where_its_mask_is() -> None:
    ink = np.zeros((3, 1, 6, 6), np.float32)
    ink[:, 0, 1:4, 2:4] = 1
    ids = np.array(["digits/a", "digits/b", "digits/c"])
    made = masks.composed(Samples(ids, np.zeros(3, int), ink), 16, "scenes", 0)
    assert made.ids.tolist() == ["scenes/a", "scenes/b", "scenes/c"]
    assert made.masks.sum(axis=(1, 2)).tolist() == [6, 6, 6]
    assert len({tuple(np.argwhere(mask)[0]) for mask in made.masks}) > 1, "at places of their own"
    for image, mask in zip(made.images[:, 0], made.masks, strict=True):
        assert image[mask == 1].min() > image[mask == 0].max()
    part = masks.composed(Samples(ids[1:], np.zeros(2, int), ink[1:]), 16, "scenes", 0)
    np.testing.assert_array_equal(part.images, made.images[1:])
    with pytest.raises(BenchError, match="6 x 6"):
        masks.composed(Samples(ids, np.zeros(3, int), ink), 4, "scenes", 0)


def test_a_table_of_images_and_masks_is_written_and_read_again(tmp_path: Path) -> None:
    pairs = [pair(row) for row in range(5)]
    columns = {
        "name": [f"g{row}" for row in range(5)],
        "split": ["train", "train", "test", "test", "test"],
        "image": [png(image) for image, _ in pairs],
        "disc_mask": [png(mask) for _, mask in pairs],
    }
    pq.write_table(pa.table(columns), tmp_path / fundus.TABLE)
    for name in ("a", "b"):
        assert fundus.write(fundus.read(tmp_path), tmp_path / name) == {"train images": 2, "test images": 3}
    one, two = (tmp_path / name / "fundus" / masks.MASKS for name in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()
    meta = masks.read_meta(tmp_path / "a" / "fundus", "")
    assert meta.classes == ["background", "optic disc"]
    test = masks.read(tmp_path / "a" / "fundus", "test", 2, 12, "")
    assert test.ids.tolist() == ["fundus/g2", "fundus/g3", "fundus/g4"]
    np.testing.assert_allclose(test.images[0], pairs[2][0].transpose(2, 0, 1) / 255, atol=1e-7)
    np.testing.assert_array_equal(test.masks[0], pairs[2][1] // 255)
    half = masks.read(tmp_path / "a" / "fundus", "train", 2, 6, "")
    assert half.images.shape == (2, 3, 6, 6)
    assert set(np.unique(half.masks)) == {0, 1}


def test_a_folder_of_ones_own_may_have_more_classes_and_any_shape(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "own")
    wide = np.zeros((12, 20), np.uint8)
    wide[4:8, 5:9] = 128
    (folder / "images" / "eye1.png").write_bytes(png(pair(1, (12, 20))[0]))
    (folder / "masks" / "eye1.png").write_bytes(png(wide))
    (folder / fundus.CLASSES).write_text(json.dumps({"background": 0, "disc": 128, "cup": 255}))
    content = fundus.read(folder)
    assert content.meta.classes == ["background", "disc", "cup"]
    fundus.write(content, tmp_path / "out")
    found = [masks.read(tmp_path / "out" / "fundus", split, 3, 20, "") for split in ("train", "test")]
    ids = np.concatenate([part.ids for part in found]).tolist()
    every = np.concatenate([part.masks for part in found])
    mine = every[ids.index("fundus/eye1")]
    assert (mine[8:12, 5:9] == 1).all(), "padded above and below to a square"
    assert (mine == 1).sum() == 16
    assert set(np.unique(every)) == {0, 1, 2}


def test_a_class_that_a_size_has_no_pixel_for_is_not_lost_in_silence(tmp_path: Path) -> None:
    small = np.zeros((12, 12), np.uint8)
    small[5, 5] = 255
    fundus.write(fundus.read(folder_of(tmp_path / "own", eye0=small)), tmp_path / "out")
    whole = {split: masks.read(tmp_path / "out" / "fundus", split, 2, 12, "") for split in ("train", "test")}
    where = next(split for split, found in whole.items() if "fundus/eye0" in found.ids)
    with pytest.raises(BenchError, match="has no pixel left of class 1 at 4 pixels a side") as fault:
        masks.read(tmp_path / "out" / "fundus", where, 2, 4, "")
    assert "eye0" in str(fault.value.where)


def test_an_empty_mask_is_one(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "own", eye0=np.zeros((12, 12), np.uint8))
    assert len(fundus.read(folder).rows) == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"eye2": np.zeros((12, 10), np.uint8)}, "10 x 12 pixels, the image 12 x 12"),
        ({"eye2": np.full((12, 12), 7, np.uint8)}, "values 7, of which no class is known"),
        ({"eye2": np.zeros((12, 12, 3), np.uint8)}, "mode RGB"),
    ],
)
def test_masks_that_do_not_fit_are_refused_by_name(tmp_path: Path, change: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(BenchError, match="eye2") as fault:
        fundus.read(folder_of(tmp_path / "own", **change))
    assert said in fault.value.what


def test_folders_that_are_incomplete_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "own")
    (folder / "masks" / "eye3.png").unlink()
    with pytest.raises(BenchError, match="eye3"):
        fundus.read(folder)
    (folder / "images" / "eye3.png").write_bytes(b"no image")
    (folder / "masks" / "eye3.png").write_bytes(png(pair(3)[1]))
    with pytest.raises(BenchError, match="cannot be decoded"):
        fundus.read(folder)
    with pytest.raises(BenchError, match="fewer than two"):
        fundus.read(folder_of(tmp_path / "few", n=2))
    with pytest.raises(BenchError, match="no images with masks"):
        fundus.read(tmp_path)
    with pytest.raises(BenchError, match="on request"):
        fundus.download(tmp_path)
    folder = folder_of(tmp_path / "named")
    (folder / fundus.CLASSES).write_text('{"a": 0, "b": 0}')
    with pytest.raises(BenchError, match="distinct"):
        fundus.read(folder)


def test_what_was_changed_after_it_was_fetched_is_refused(tmp_path: Path) -> None:
    fundus.write(fundus.read(folder_of(tmp_path / "own")), tmp_path / "out")
    folder = tmp_path / "out" / "fundus"
    table = pq.read_table(folder / masks.MASKS).to_pydict()
    table["mask"][0] = png(np.full((12, 12), 9, np.uint8))
    pq.write_table(pa.table(table), folder / masks.MASKS)
    split = table["split"][0]
    with pytest.raises(BenchError, match="values 9"):
        masks.read(folder, split, 2, 12, "")
    with pytest.raises(BenchError, match="no other images"):
        masks.read(folder, "other", 2, 12, "")
    (folder / masks.META).write_text("{}")
    with pytest.raises(BenchError, match="no description"):
        masks.read_meta(folder, "")
    with pytest.raises(BenchError, match="is missing"):
        masks.read(tmp_path, "test", 2, 12, "")


def test_the_preset_is_fetched_pinned_added_loaded_and_removed(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    shutil.copy(Path(masks.__file__).parents[2] / "params.yaml", params)
    before, preset = params.read_text(), presets.load("fundus")
    with pytest.raises(BenchError, match="pinned by what it fetches"):
        merge.add(params, "fundus")
    own = folder_of(tmp_path / "own", n=6)
    said = fetch.run(preset, tmp_path / "fetched", own, {})
    assert "3 train images, 3 test images" in said
    merge.add(params, "fundus")
    config = configuration.load(params)
    assert config.segmentation["fundus"].sha256 == tables.sha256(tmp_path / "fetched/fundus/fundus/masks.parquet")
    meta, train, test = masks.load(config, "fundus")
    assert meta.classes == ["background", "optic disc"]
    assert (train.images.shape, test.masks.shape) == ((3, 3, 64, 64), (3, 64, 64))
    assert "all 2 files are as params.yaml pins them" in fetch.run(preset, tmp_path / "elsewhere", own, config.pinned)
    with pytest.raises(BenchError, match=r"does not give what params\.yaml pins"):
        fetch.run(preset, tmp_path / "third", folder_of(tmp_path / "other", n=8), config.pinned)
    with (tmp_path / "fetched/fundus/fundus/masks.parquet").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(BenchError, match=r"not the file that params\.yaml pins"):
        masks.load(config, "fundus")
    merge.remove(params, "fundus")
    assert params.read_text() == before


def test_a_set_has_one_origin_and_a_size_that_halves() -> None:
    for wrong in ({}, {"composed_of": "digits", "fetched": "fundus"}, {"composed_of": "digits", "size": 30}):
        with pytest.raises(ValueError, match=r"one of|multiple of 4"):
            Segmentation.model_validate(wrong)
