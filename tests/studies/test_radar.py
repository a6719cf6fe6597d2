"""Study 7: its masks, groups and the null of its correlations."""

from __future__ import annotations

import numpy as np
import pytest

from bench.config import Compute
from bench.data.radar import GESTURES, Sequences
from bench.errors import BenchError
from bench.models.radar import CNN3D, CNNLSTM
from bench.studies import radar as study

SETTINGS = Compute(threads=1, batch_size=2)


def _data() -> Sequences:
    own, lengths = np.random.default_rng(0), np.array([4, 6])
    frames = own.uniform(0, 1, (2, 8, 16, 16)).astype(np.float32)
    frames[np.arange(8) >= lengths[:, None]] = 0
    return Sequences(frames, lengths, np.array([0, 1]), np.array(["a", "b"]), np.array(["x", "y"]), GESTURES)


def test_no_subject_is_in_two_groups() -> None:
    names = np.array(["c", "a", "b", "d", "a"])
    assert study.split(names, 1) == {"A": ["a"], "B": ["b"], "test": ["c", "d"]}
    with pytest.raises(BenchError, match="4 subjects"):
        study.split(names, 2)


@pytest.mark.parametrize("mask", study.MASKS)
def test_attack_and_null_stay_in_their_mask_and_box(mask: str) -> None:
    data = _data()
    one = study.Trained(CNN3D(6).requires_grad_(False), "cnn3d", "A")
    found = study.attack(one, data, mask, "untargeted", SETTINGS, 3, 0)
    null = study.null_of(data, found, mask, 0)
    for frames in (found, null):
        assert (frames[study.free(data, mask) == 0] == data.frames[study.free(data, mask) == 0]).all()
        assert frames.min() >= 0
        assert frames.max() <= 1
        assert 0 < np.abs(frames - data.frames).max() <= 4 / 255 + 1e-6


def test_padding_cannot_fool_a_network_that_is_told_the_length() -> None:
    data = _data()
    one = study.Trained(CNNLSTM(6, "given").requires_grad_(False), study.GIVEN, "A")
    found = study.attack(one, data, "padding", "untargeted", SETTINGS, 3, 0)
    assert (found != data.frames).any(), "padding did change"
    before = study.compute.forward(one.network, one.sees(data), SETTINGS)
    assert (study.compute.forward(one.network, one.sees(data, found), SETTINGS) == before).all()


def test_shifted_correlations_by_hand() -> None:
    rho = study.shifted(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0]))
    assert rho == pytest.approx([1.0, -0.5, -0.5])
    assert np.isnan(study.shifted(np.ones(3), np.arange(3.0))).all()
    assert study.overlap(np.arange(10.0), np.arange(10.0)) == 1
    assert study.overlap(np.arange(10.0), -np.arange(10.0)) == 0


@pytest.mark.parametrize("network", [CNN3D(6), CNNLSTM(6)])
def test_gradcam_is_as_long_as_the_sequence(network: CNN3D | CNNLSTM) -> None:
    cam = study.gradcam(network.eval().requires_grad_(False), _data().frames, np.array([0, 1]))
    assert cam.shape == (2, 8, 2, 2)
    assert (cam >= 0).all()
    assert cam.max() > 0
