"""What pictures are like, and near duplicates: against a loop, and on images whose encoding is known."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.data import pair, pictures, samples
from bench.errors import BenchError
from tests.data.pairs import SIDE, declared, encode, noise, put


@pytest.mark.parametrize("row", [0, 17, 23])
def test_a_broken_image_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: int) -> None:
    monkeypatch.setattr(pictures, "_PIXELS_AT_ONCE", 5 * SIDE * SIDE)
    put(tmp_path, "one", noise(), splits=["test"] * 20 + ["train"] * 4)
    put(tmp_path, "two", noise(seed=2))
    path = tmp_path / "data" / "one" / samples.SAMPLES
    frame = pq.read_table(path).to_pandas()
    frame.at[row, "image"] = frame["image"][row][:60]
    pq.write_table(pa.Table.from_pandas(frame, schema=samples.schema(), preserve_index=False), path)
    with pytest.raises(BenchError, match=rf"image 'one/o{row:03d}' cannot be decoded"):
        pair.check(declared(tmp_path), "one", "two")


def test_images_of_two_modes_are_refused_wherever_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_PIXELS_AT_ONCE", SIDE * SIDE)
    put(tmp_path, "one", noise())
    put(tmp_path, "two", noise(seed=2))
    encode(tmp_path, "two", mode="RGB", format="PNG", every=5)
    with pytest.raises(BenchError, match="'two/t001' has 1 channels, the first image has 3"):
        pair.check(declared(tmp_path), "one", "two")


def test_pixels_have_one_digest_in_grey_and_in_grey_colours_and_another_shape_another() -> None:
    image = noise(1)
    assert pictures.pixel_digest(image) == pictures.pixel_digest(np.repeat(image, 3, axis=0))
    assert pictures.pixel_digest(image) != pictures.pixel_digest(image.reshape(1, SIDE // 2, SIDE * 2))
    colour = np.repeat(image, 3, axis=0)
    colour[1, 0, 0] ^= 1
    assert pictures.pixel_digest(colour) != pictures.pixel_digest(image)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("quality", [1, 10, 33, 49, 50, 51, 75, 90, 95, 100])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(mode: str, quality: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise(1)[0]).convert(mode).save(buffer, "JPEG", quality=quality)
    qualities, standard = pictures.jpeg_qualities([buffer.getvalue()] * 2)
    assert np.abs(qualities - quality).max() <= 2
    assert standard.all()


def test_tables_of_another_family_have_the_nearest_quality() -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise(1)[0]).save(buffer, "JPEG", qtables=[[16] * 64])
    qualities, standard = pictures.jpeg_qualities([buffer.getvalue()])
    assert not standard.any()
    assert 50 <= qualities[0] <= 95


def random_keys(rng: np.random.Generator, n: int, groups: int) -> pictures.Keys:
    """Hashes in clusters a few bits wide, and sources, pixels and labels of which some are shared."""
    centres = np.random.default_rng(groups).integers(0, 2**64, groups, dtype=np.uint64)
    flips = np.bitwise_or.reduce(np.uint64(1) << rng.integers(0, 64, (n, 4), dtype=np.uint64), axis=1)
    codes = rng.integers(0, [[12], [40], [3]], (3, n))
    return pictures.Keys(rng.choice(centres, n) ^ flips, *codes)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 30),
    m=st.integers(1, 30),
    groups=st.integers(1, 4),
    cells=st.sampled_from([1, 7, 100, 2**20]),
    room=st.sampled_from([0, 3, 10_000]),
)
def test_near_pairs_are_those_of_a_loop(
    monkeypatch: pytest.MonkeyPatch, seed: int, n: int, m: int, groups: int, cells: int, room: int
) -> None:
    monkeypatch.setattr(pictures, "_CELLS_AT_ONCE", cells)
    monkeypatch.setattr(pictures, "MAX_PAIRS", room)
    rng = np.random.default_rng(seed)
    a, b = random_keys(rng, n, groups), random_keys(rng, m, groups)
    for other, pairs in (
        (b, [(i, j) for i in range(n) for j in range(m)]),
        (None, [(i, j) for i in range(n) for j in range(i + 1, n)]),
    ):
        second = other or a
        distance = {(i, j): (int(a.hashes[i]) ^ int(second.hashes[j])).bit_count() for i, j in pairs}
        close = [at for at in pairs if distance[at] <= pictures.NEAR_BITS]
        new = [(i, j) for i, j in close if a.sources[i] != second.sources[j] and a.pixels[i] != second.pixels[j]]
        found = pictures.near(a, other)
        counts = np.zeros(n, int)
        for i, j in new:
            counts[i] += 1
            if other is None:
                counts[j] += 1
        assert found.counts.tolist() == counts.tolist()
        assert found.pairs == len(new)
        assert found.relabelled == sum(a.labels[i] != second.labels[j] for i, j in new)
        assert found.changed == sum(
            a.sources[i] == second.sources[j] and a.pixels[i] != second.pixels[j] for i, j in close
        )
        kept = list(zip(found.row.tolist(), found.column.tolist(), strict=True))
        assert len(kept) == min(len(new), room)
        assert set(kept) <= set(new)
        assert [distance[at] for at in kept] == found.distance.tolist()
