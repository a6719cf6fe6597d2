"""The check `duplicates`: sets with copies that are known, and sets that look alike without any."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from bench.data import findings
from tests.data.pairs import SIDE, K, N, checked, encode, noise, put, said


def test_images_of_one_source_are_counted_and_the_hash_is_tried_on_them(tmp_path: Path) -> None:
    images = noise()
    put(tmp_path, "one", images)
    changed = np.clip(images[:9].astype(int) + 20, 0, 255).astype(np.uint8)
    put(tmp_path, "two", changed, source_ids=[f"one/o{row:03d}" for row in range(9)])
    found = checked(tmp_path)["duplicates"]
    assert found.differs
    assert found.verdict == "9 of 9 images of two share a source, none have the same pixels; no near duplicates"
    assert "same source 9 of 24 images of one and 9 of 9 images of two" in said(found)
    assert "recall the hash finds 9 of 9 (100.0 % [70.1, 100.0]) pairs" in said(found)


def test_identical_pixels_are_found_whatever_the_ids_and_the_encoding(tmp_path: Path) -> None:
    put(tmp_path, "one", noise())
    put(tmp_path, "two", np.concatenate([noise(3, seed=2), noise()[4:8]]))
    encode(tmp_path, "two", mode="RGB", format="WEBP", lossless=True)
    found = checked(tmp_path)
    assert found["duplicates"].verdict == "no images of two share a source, 4 have the same pixels; no near duplicates"
    assert "same pixels 4 of 24 images of one and 4 of 7 images of two are identical" in said(found["duplicates"])
    assert "copies" not in said(found["duplicates"])
    assert found["encoding"].verdict.startswith("mode and media type differ; same size")


def test_copies_within_one_set_are_told(tmp_path: Path) -> None:
    put(tmp_path, "one", noise()[[0, 1, 2, 2, 2]])
    put(tmp_path, "two", noise(seed=2))
    assert "copies within one set: 2 in one, 0 in two" in said(checked(tmp_path)["duplicates"])


def test_changed_copies_are_near_duplicates(tmp_path: Path) -> None:
    images, small = noise(), noise(6, side=32)
    put(tmp_path, "one", images)
    put(tmp_path, "two", np.concatenate([noise(8, seed=2, side=32), small]), labels=np.array([0, 1] * 7))
    encode(tmp_path, "two", quality=70)
    found = checked(tmp_path)
    assert found["duplicates"].differs
    assert found["duplicates"].verdict.endswith(
        "; 6 images have near duplicates, above the base rate, 6 pairs alike in pixels"
    )
    text = said(found["duplicates"])
    assert "near perceptual hashes (64 bits) at most 6 bits apart" in text
    assert "6 of 24 (25.0 % [12.0, 44.9]) images of one have one in two (14 images)" in text
    assert "base rate 0 of 24 (0.0 % [0.0, 13.8]) have one within one itself (23 others)" in text
    # one has the labels 0 1 2 0 1 2, two has 0 1 0 1 0 1
    assert "candidates 6 pairs, 4 of them with different original labels; the most alike:" in text
    assert re.search(
        r"one/o00[0-5] and two/t0(08|09|10|11|12|13): [0246] bits, r = 1\.00, labels '[abc]' and '[ab]'", text
    )
    assert text.count(" bits, r = ") == findings.SHOWN
    assert found["encoding"].verdict.startswith("size and media type differ")


@pytest.mark.parametrize("n", [9, 24, 60])
def test_images_that_all_look_alike_to_the_hash_are_no_duplicates(tmp_path: Path, n: int) -> None:
    """Halves of one brightness each. Sets of unlike size are held against equally many images."""

    def halves(n: int, darkest: int) -> np.ndarray:
        images = np.zeros((n, SIDE, SIDE), np.uint8)
        images[:, :, : SIDE // 2] = (darkest + 2 * np.arange(n))[:, None, None]
        return images

    put(tmp_path, "one", halves(N, 100))
    put(tmp_path, "two", halves(n, 101))
    found = checked(tmp_path)["duplicates"]
    assert not found.differs
    assert found.verdict.endswith("; near duplicates not above the base rate")
    assert "base rate 24 of 24 (100.0 % [86.2, 100.0]) have one within one itself (23 others)" in said(found)
    assert f"held against equally many images ({min(n, 23)}): 100.0 % across the sets" in said(found)
    assert "and 100.0 % within one, difference 0.0 [0.0, 0.0] percentage points" in said(found)
    assert "this hash cannot tell these images apart" in said(found)
    assert f"candidates {24 * n:,} pairs, {16 * n:,} of them" in said(found)


def test_a_larger_set_is_no_nearer_for_being_larger(tmp_path: Path) -> None:
    """Both sets are drawn from 40 motifs: with 300 images, the other set has almost all of them."""
    rng = np.random.default_rng(0)
    motifs = noise(40).astype(int)
    for name, n in (("one", 40), ("two", 300)):
        images = motifs[rng.integers(0, 40, n)] + rng.integers(-9, 10, (n, 1, 1))
        put(tmp_path, name, np.clip(images, 0, 255).astype(np.uint8))
    found = checked(tmp_path)["duplicates"]
    rates = re.search(r"images \(39\): (.*) % across the sets and (.*) % within one, difference", said(found))
    assert rates is not None
    assert float(rates[1]) == pytest.approx(float(rates[2]), abs=15)
    assert re.search(r"(39|40) of 40 \(.*\) images of one have one in two \(300 images\)", said(found))
    assert found.verdict.endswith("near duplicates not above the base rate")


def test_an_original_that_repeats_itself_does_not_hide_copies_in_the_other_set(tmp_path: Path) -> None:
    images, lighter = noise(60), np.clip(noise(60).astype(int) + 9, 0, 255).astype(np.uint8)
    put(tmp_path, "one", np.concatenate([images, lighter[:1]]))
    put(tmp_path, "two", np.concatenate([noise(59, seed=2), lighter[5:6]]))
    found = checked(tmp_path)["duplicates"]
    assert found.differs
    assert found.verdict.endswith("; near duplicates not above the base rate, 1 pair alike in pixels")
    assert "base rate 2 of 61" in said(found)
    assert "in pixels 1 of 1 pair across the sets and 1 of 1 within one correlate" in said(found)
    assert "one also repeats itself, so look at them" in said(found)


def test_training_images_in_the_other_test_set_are_found(tmp_path: Path) -> None:
    images = noise()
    put(tmp_path, "one", images, splits=["train"] * 10 + ["test"] * 14)
    own = [f"two/t{row:03d}" for row in range(8)]
    put(tmp_path, "two", np.concatenate([images[:2], noise(6, seed=2)]), source_ids=[*own[:7], "one/o009"])
    found = checked(tmp_path)["duplicates"]
    assert found.differs
    assert ", 3 are training images of the other set; no near" in found.verdict
    assert "in training 3 of 8 test images of two are training images of one (source or pixels)" in said(found)


def test_shared_ids_without_a_declared_source_are_asked_about(tmp_path: Path) -> None:
    ids = [f"{row}" for row in range(N)]
    put(tmp_path, "one", noise(), ids=ids)
    put(tmp_path, "two", noise(seed=2), ids=ids)
    found = checked(tmp_path)["duplicates"]
    assert found.differs
    assert ", 24 share their id without a declared source; no near duplicates" in found.verdict
    assert "24 of 24 (100.0 % [86.2, 100.0]) of them one original label" in said(found)
    put(tmp_path, "two", noise(seed=2), ids=ids, labels=np.random.default_rng(0).integers(0, K, N))
    assert "share their id" not in checked(tmp_path)["duplicates"].verdict
    put(tmp_path, "two", noise(seed=2), ids=ids, source_ids=[f"one/{one}" for one in ids])
    assert "share their id" not in checked(tmp_path)["duplicates"].verdict
