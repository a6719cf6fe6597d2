"""A dataset is written whole or not at all, and equal content gives equal bytes."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import build, samples, writer
from bench.errors import BenchError
from bench.store import tables
from tests.data.conftest import IMAGES, small


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    sizes = [writer.write(small(), tmp_path / out) for out in ("one", "two")]
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert sizes[0] == sum(map(len, files(tmp_path / "one").values()))
    assert sorted(files(tmp_path / "one")) == [
        f"small/{n}" for n in ("dataset.json", "labels.parquet", "samples.parquet")
    ]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    writer.write(small(), tmp_path)
    assert samples.load_meta(tmp_path / "small") == small().meta
    frame = samples.read_table(tmp_path / "small", 3)
    np.testing.assert_array_equal(samples.decode(frame, tmp_path)[:, 0], IMAGES)
    assert frame["source_id"].tolist() == frame["sample_id"].tolist()
    labels = tables.read("labels", tmp_path / "small" / "labels.parquet")
    assert labels["class_id"].tolist() == [0, 1, 2, 0, 1, 2]
    assert set(labels["source"]) == {"original"}


def test_a_picture_is_a_png(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(writer.png(IMAGES[3]))
    with Image.open(path, formats=("PNG",)) as picture:
        np.testing.assert_array_equal(np.asarray(picture), IMAGES[3])


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_what_stops_half_way_leaves_the_old_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    writer.write(small(), tmp_path)
    before = files(tmp_path)

    def fail(*_: object) -> None:
        raise stop

    monkeypatch.setattr(tables, "write", fail)
    with pytest.raises((KeyboardInterrupt, BenchError)) as caught:
        writer.write(small(), tmp_path)
    if isinstance(caught.value, BenchError):
        assert "No space left on device" in caught.value.what
        assert caught.value.where == str(tmp_path / "small")
        assert "disk space" in caught.value.remedy
    assert files(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_a_failed_rename_puts_the_old_dataset_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer.write(small(), tmp_path)
    before, rename = files(tmp_path), Path.rename

    def fail_for_the_new(self: Path, target: Path) -> Path:
        if self.suffix == ".tmp":
            raise OSError(errno.EACCES, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(BenchError, match="Permission denied"):
        writer.write(small(), tmp_path)
    assert files(tmp_path) == before


def test_an_unknown_preset_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"no preset 'digit'.*digits"):
        build.run("digit", tmp_path)
    assert not list(tmp_path.iterdir())
