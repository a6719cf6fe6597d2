"""Regions: the paper's shares, the sizes of small images, and what belongs to an image's id."""

from __future__ import annotations

import numpy as np
import pytest

from bench.attacks import masks

IDS = [f"d/{i}" for i in range(40)]


@pytest.mark.parametrize(
    ("name", "percent"),
    [
        ("centre-90", 16.14),
        ("centre-120", 28.70),
        ("centre-150", 44.84),
        ("frame-10", 17.06),
        ("frame-17", 28.05),
        ("frame-29", 45.08),
        ("random-17", 17.0),
        ("random-45", 45.0),
        ("full", 100.0),
    ],
)
def test_shares_of_the_paper(name: str, percent: float) -> None:
    found = masks.of(name, (224, 224), IDS[:2], 0)
    assert 100 * found.mean() == pytest.approx(percent, abs=0.006)
    assert set(np.unique(found)) <= {0.0, 1.0}


def test_squares_and_frames_of_small_images() -> None:
    sides = [masks.of(f"centre-{side}", (32, 32), IDS[:1], 0)[0].any(axis=0).sum() for side in (90, 120, 150)]
    assert sides == [13, 17, 21]
    frame = masks.of("frame-17", (32, 32), IDS[:1], 0)[0]
    assert frame.sum() == 32**2 - 28**2
    assert frame[2:30, 2:30].sum() == 0
    odd = masks.of("centre-90", (16, 16), IDS[:1], 0)[0]
    assert odd.sum() == 36
    assert odd[5:11, 5:11].all()


def test_a_corner_is_a_square_that_touches_two_edges() -> None:
    found = masks.of("corner-120", (16, 16), IDS, 0)
    assert (found.sum(axis=(1, 2)) == 81).all()
    assert (
        (found[:, 0].any(axis=1) | found[:, -1].any(axis=1))
        & (found[:, :, 0].any(axis=1) | found[:, :, -1].any(axis=1))
    ).all()
    assert len(np.unique(found.reshape(len(IDS), -1), axis=0)) == 4


def test_scattered_positions_belong_to_the_image() -> None:
    found = masks.of("random-28", (16, 16), IDS, 0)
    assert (found.sum(axis=(1, 2)) == round(0.28 * 256)).all()
    assert np.array_equal(masks.of("random-28", (16, 16), IDS[7:9], 0), found[7:9])
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(masks.of("random-28", (16, 16), IDS, 1), found)


def test_what_is_looked_at_is_chosen_and_ties_are_drawn() -> None:
    looked = np.zeros((2, 4, 4))
    looked[0, 1, :2], looked[0, 3, 3] = 2.0, 1.0
    found = masks.of("gradcam-19", (4, 4), IDS[:2], 0, looked)
    assert np.argwhere(found[0]).tolist() == [[1, 0], [1, 1], [3, 3]]
    assert found[1].sum() == 3
    with pytest.raises(ValueError, match="needs to know what is looked at"):
        masks.of("gradcam-19", (4, 4), IDS[:2], 0)


def test_a_drawn_region_is_scaled() -> None:
    found = masks.of("mine", (4, 6), IDS[:2], 0, drawn=["#..", ".#."])
    assert found.shape == (2, 4, 6)
    assert found[0].astype(int).tolist() == [[1, 1, 0, 0, 0, 0]] * 2 + [[0, 0, 1, 1, 0, 0]] * 2


@pytest.mark.parametrize("name", ["centre", "frame-0", "circle-9", "random-28%"])
def test_unknown_regions_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no region"):
        masks.of(name, (8, 8), IDS[:1], 0)
