"""What is read is what was written, and every fault of a dataset is one error that names the file and the remedy."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from bench.config import Config
from bench.data import samples
from bench.errors import BenchError
from tests.data.conftest import IMAGES, declared


def encoded(*size: int, mode: str = "L", format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size or (5, 4)).save(buffer, format)
    return buffer.getvalue()


GOOD = encoded()


def test_a_split_is_read_in_the_order_of_its_ids(config: Config) -> None:
    test, train = samples.load(config, "small"), samples.load(config, "small", "train")
    assert test.ids.tolist() == ["small/2", "small/3", "small/4", "small/5"]
    assert test.labels.tolist() == [2, 0, 1, 2]
    assert train.ids.tolist() == ["small/0", "small/1"]
    assert test.labels.dtype == np.int64
    assert test.images.dtype == np.float32
    assert test.images.shape == (4, 1, 4, 5)
    np.testing.assert_array_equal(test.images[:, 0], IMAGES[2:].astype(np.float32) / np.float32(255))


def test_rows_are_sorted_whatever_their_order_on_disk(config: Config, rewrite: Callable[..., None]) -> None:
    rewrite("samples", sample_id=[f"small/{row}" for row in (5, 4, 3, 2, 1, 0)])
    assert samples.load(config, "small").ids.tolist() == ["small/0", "small/1", "small/2", "small/3"]
    np.testing.assert_array_equal(samples.load(config, "small").labels, [2, 1, 0, 2])


@pytest.mark.parametrize(
    ("media_type", "format"), [("image/png", "PNG"), ("image/webp", "WEBP"), ("image/jpeg", "JPEG")]
)
def test_colour_images_of_every_format(
    config: Config, rewrite: Callable[..., None], media_type: str, format: str
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4), (255, 0, 51)).save(buffer, format, **({"lossless": True} if format == "WEBP" else {}))
    rewrite("samples", image=[buffer.getvalue()] * 6, media_type=[media_type] * 6)
    images = samples.load(config, "small").images
    assert images.shape == (4, 3, 4, 5)
    np.testing.assert_allclose(images[0, :, 0, 0], [1, 0, 0.2], atol=0.02)


def test_classes_are_in_the_order_of_their_ids(config: Config) -> None:
    assert samples.classes(config, "small") == ["a", "b", "c"]


FAULTS: dict[str, tuple[dict[str, list[object]], str]] = {
    "undecodable": ({"image": [GOOD] * 5 + [b"\x89PNG not an image"]}, "'small/5' cannot be decoded"),
    "truncated": ({"image": [GOOD] * 5 + [GOOD[:45]]}, "'small/5' cannot be decoded"),
    "empty": ({"image": [GOOD] * 5 + [b""]}, "1 of 6 samples have an empty image, the first is 'small/5'"),
    "zero size": ({"width": [5] * 5 + [0]}, "1 of 6 samples have an empty image"),
    "another format than declared": ({"image": [encoded(format="WEBP")] * 6}, "'small/2' cannot be decoded"),
    "unknown media type": ({"media_type": ["image/svg+xml"] * 6}, "unknown media type"),
    "repeated id": ({"sample_id": [f"small/{row}" for row in (0, 1, 2, 3, 4, 4)]}, "repeated sample_id"),
    "another dataset's id": ({"sample_id": [f"other/{row}" for row in range(6)]}, "begin with `small/`"),
    "unknown split": ({"split": ["train"] * 5 + ["val"]}, "split other than train or test"),
    "label above": ({"label": [0, 1, 2, 0, 1, 3]}, "label outside the 3 classes, the first is 'small/5'"),
    "label below": ({"label": [0, 1, 2, 0, 1, -1]}, "label outside the 3 classes"),
    "mixed declared sizes": ({"width": [5] * 5 + [6]}, "another size than the first"),
    "not the declared size": ({"image": [GOOD] * 5 + [encoded(4, 4)]}, "is 4 x 4 pixels, not the declared 5 x 4"),
    "mixed modes": ({"image": [GOOD] * 5 + [encoded(mode="RGB")]}, "has 3 channels, the first image has 1"),
    "unknown mode": ({"image": [encoded(mode="RGBA")] * 6}, "mode RGBA, not 8-bit grey or RGB"),
    "too many pixels": ({"width": [2**13] * 6, "height": [2**13] * 6}, "image above 16,777,216 pixels"),
    "NULL": ({"label": [0, 1, 2, 0, 1, None]}, "has NULL in label"),
    "wrong type": ({"label": ["zero"] * 6}, "wrong types: label is string"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_samples_is_named(config: Config, rewrite: Callable[..., None], fault: str) -> None:
    columns, message = FAULTS[fault]
    rewrite("samples", **columns)
    with pytest.raises(BenchError) as caught:
        samples.load(config, "small")
    assert message in caught.value.what
    assert caught.value.where.endswith("data/small/samples.parquet")
    assert "dvc pull data.dvc" in caught.value.remedy


def test_a_missing_column_is_named(config: Config, rewrite: Callable[..., None]) -> None:
    rewrite("samples", drop="split")
    with pytest.raises(BenchError, match="lacks the columns split"):
        samples.load(config, "small")


def test_the_size_is_known_before_any_pixel_is_decoded(config: Config, rewrite: Callable[..., None]) -> None:
    bomb = bytearray(GOOD)
    bomb[16:24] = (5000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    rewrite("samples", image=[bytes(bomb)] * 6)
    with pytest.raises(BenchError, match="is 5000 x 5000 pixels, not the declared 5 x 4"):
        samples.load(config, "small")


def test_a_file_that_is_no_parquet_is_named(config: Config) -> None:
    path = config.data / "small" / "samples.parquet"
    path.write_bytes(b"PAR1 or not")
    with pytest.raises(BenchError, match=r"samples\.parquet: cannot be read as Parquet"):
        samples.load(config, "small")
    path.unlink()
    with pytest.raises(BenchError, match=r"samples\.parquet: is missing"):
        samples.load(config, "small")


def test_a_missing_folder_says_how_to_get_it(config: Config) -> None:
    config = declared(config.root, absent={"role": "composite"}, small={"role": "original"})
    with pytest.raises(BenchError, match=r"no such dataset folder.*dvc pull data\.dvc"):
        samples.load(config, "absent")


def test_a_split_without_samples_is_an_error(config: Config, rewrite: Callable[..., None]) -> None:
    rewrite("samples", split=["test"] * 6)
    with pytest.raises(BenchError, match="has no train samples"):
        samples.load(config, "small", "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["only one"]}, "`classes`"),
        ({"classes": "abc"}, "`classes`"),
        ({"synthetic": "painted"}, "`synthetic`"),
        ({"licence": "MIT"}, "`licence`"),
        ({"title": ""}, "`title`"),
    ],
)
def test_a_fault_of_the_description_is_named(config: Config, change: dict[str, object], message: str) -> None:
    path = config.data / "small" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BenchError) as caught:
        samples.load(config, "small")
    assert message in caught.value.what
    assert caught.value.where == str(path)


@pytest.mark.parametrize("text", ["{", "[]", "null", "\xff"])
def test_a_description_that_is_no_json_object_is_named(config: Config, text: str) -> None:
    path = config.data / "small" / "dataset.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(BenchError, match="is not a JSON object"):
        samples.load_meta(config.data / "small")
