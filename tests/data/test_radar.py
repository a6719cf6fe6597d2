"""The simulated radar against its formulas, and what is refused of recorded sequences."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from bench.config import Radar
from bench.data import radar
from bench.errors import BenchError
from benchmarks.radar import looped

RADAR = Radar(subjects=3, repeats=1)


def test_resolutions_are_those_of_the_formulas() -> None:
    about = radar.physics(RADAR)
    assert about.range_m == pytest.approx(0.0375, rel=1e-3)
    assert about.velocity_mps == pytest.approx(0.2433, rel=1e-3)
    assert about.v_max_mps == pytest.approx(3.893, rel=1e-3)
    assert about.v_max_mps == pytest.approx(about.velocity_mps * RADAR.chirps / 2)


@pytest.mark.parametrize(("bin_r", "bin_d"), [(5, 4), (20, -7), (31, 15), (0, 1)])
def test_a_point_peaks_in_the_bin_of_its_range_and_velocity(bin_r: int, bin_d: int) -> None:
    about = radar.physics(RADAR)
    at, speed = np.array([[bin_r * about.range_m]]), np.array([[bin_d * about.velocity_mps]])
    (found,) = radar.maps(at, speed, np.ones((1, 1)), RADAR)
    assert np.unravel_index(found.argmax(), found.shape) == (bin_r, bin_d + RADAR.chirps // 2)
    assert found.max() == pytest.approx(1, abs=0.01), "amplitude 1 is 0 dB"


def test_what_stands_still_is_taken_out() -> None:
    (found,) = radar.maps(np.array([[0.5, 0.9]]), np.zeros((1, 2)), np.ones((1, 2)), RADAR)
    assert (found == 0).all()


def test_maps_are_those_of_the_plain_double_loop() -> None:
    """The loop that the benchmark measures against; what is right of it the tests above hold by the formulas."""
    rng = np.random.default_rng(0)
    places, speeds, strengths = rng.uniform(0.1, 1, (1, 3)), rng.uniform(-2, 2, (1, 3)), rng.uniform(0.2, 1, (1, 3))
    expected = looped(places[0], speeds[0], strengths[0], RADAR)
    assert expected.max() > 0.5
    np.testing.assert_allclose(radar.maps(places, speeds, strengths, RADAR)[0], expected, atol=1e-3)


def test_sequences_are_drawn_by_their_ids_and_padded_with_zeros() -> None:
    few, more = radar.simulate(RADAR, 0), radar.simulate(RADAR.model_copy(update={"repeats": 2}), 0)
    again = more.rows(np.isin(more.ids, few.ids))
    np.testing.assert_array_equal(again.frames, few.frames)
    assert len(few.ids) == 3 * len(radar.GESTURES)
    assert ((few.lengths >= RADAR.min_frames) & (few.lengths <= RADAR.max_frames)).all()
    for frames, length in zip(few.frames, few.lengths, strict=True):
        assert (frames[length:] == 0).all()
        assert (frames[:length].max(axis=(1, 2)) > 0).all()


def _npz(folder: Path, name: str, frames: np.ndarray, **parts: object) -> None:
    np.savez(folder / name, frames=frames, **{"label": "push", "subject": "a"} | parts)  # pyright: ignore


def test_recorded_sequences_are_read_from_both_kinds_of_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one, two = rng.random((3, 4, 5), np.float32), rng.random((2, 4, 5), np.float32)
    _npz(tmp_path, "one.npz", one)
    with h5py.File(tmp_path / "two.h5", "w") as held:
        held["frames"], held["label"], held["subject"] = two, "pull", "b"
    found = radar.recorded(tmp_path, 6)
    assert found.classes == ("pull", "push")
    assert found.labels.tolist() == [1, 0]
    assert found.subjects.tolist() == ["a", "b"]
    assert found.lengths.tolist() == [3, 2]
    np.testing.assert_array_equal(found.frames[0, :3], one)
    assert (found.frames[1, 2:] == 0).all()


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (np.zeros((0, 4, 5)), "no frames"),
        (np.full((2, 4, 5), np.nan), "2 of 2 frames hold NaN"),
        (np.full((2, 4, 5), 2.0), "not in"),
        (np.zeros((9, 4, 5)), "more than"),
        (np.zeros((2, 5, 5)), "those of the first"),
        (np.zeros((4, 5)), "of shape"),
    ],
)
def test_bad_recordings_are_refused_by_name(tmp_path: Path, frames: np.ndarray, said: str) -> None:
    _npz(tmp_path, "a.npz", np.zeros((2, 4, 5)))
    _npz(tmp_path, "b.npz", frames)
    with pytest.raises(BenchError, match=said) as caught:
        radar.recorded(tmp_path, 6)
    assert "b.npz" in caught.value.where


@pytest.mark.parametrize("name", ["a.npz", "a.h5"])
def test_files_that_are_something_else_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BenchError, match="no recorded sequences"):
        radar.recorded(tmp_path, 6)
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(BenchError, match="cannot be read"):
        radar.recorded(tmp_path, 6)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(BenchError, match="cannot be read"):
        radar.recorded(tmp_path, 6)


@pytest.mark.parametrize(("parts", "said"), [({"label": ["push"]}, "one text"), ({"subject": " "}, "not empty")])
def test_labels_and_subjects_must_be_texts(tmp_path: Path, parts: dict[str, object], said: str) -> None:
    _npz(tmp_path, "a.npz", np.zeros((2, 4, 5)), **parts)
    with pytest.raises(BenchError, match=said):
        radar.recorded(tmp_path, 6)


def test_a_file_without_a_part_and_a_folder_of_one_gesture_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", frames=np.zeros((2, 4, 5)), label="push")
    with pytest.raises(BenchError, match="lacks a part: subject"):
        radar.recorded(tmp_path, 6)
    _npz(tmp_path, "a.npz", np.zeros((2, 4, 5)))
    with pytest.raises(BenchError, match="all sequences have the label 'push'"):
        radar.recorded(tmp_path, 6)


def test_lengths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="max_frames"):
        Radar(min_frames=20, max_frames=40)
