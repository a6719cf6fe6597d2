"""Study 7: its masks, groups and the null of its correlations."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from bench.config import Compute, Config, Radar, Statistics
from bench.data import radar as sequences
from bench.data.radar import GESTURES, Sequences
from bench.errors import BenchError
from bench.models.radar import CNN3D, CNNLSTM
from bench.store import tables
from bench.studies import radar as study
from tests import factory

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


@pytest.mark.parametrize("make", [CNN3D, CNNLSTM])
def test_gradcam_is_as_long_as_the_sequence(make: type[CNN3D] | type[CNNLSTM]) -> None:
    torch.manual_seed(0)  # of other weights all of the map may be negative, which is cut off
    cam = study.gradcam(make(6).eval().requires_grad_(False), _data().frames, np.array([0, 1]))
    assert cam.shape == (2, 8, 2, 2)
    assert (cam >= 0).all()
    assert cam.max() > 0


@pytest.fixture
def recorded(tmp_path: Path) -> Config:
    """A project with 24 sequences in a folder, half of them as NPZ, half as HDF5."""
    size = {"samples": 16, "chirps": 16, "frames": 16, "min_frames": 8, "max_frames": 12}
    made = sequences.simulate(Radar(**size, subjects=3, repeats=4), 1)
    folder = tmp_path / "sequences"
    for row, name in enumerate(made.ids):
        parts = {
            "frames": made.frames[row, : made.lengths[row]],
            "label": made.classes[made.labels[row]],
            "subject": str(made.subjects[row]),
        }
        (folder / parts["subject"]).mkdir(parents=True, exist_ok=True)
        if row % 2:
            np.savez(folder / parts["subject"] / f"{name}.npz", **parts)
        else:
            with h5py.File(folder / parts["subject"] / f"{name}.h5", "w") as held:
                held.update(parts)
    settings = {"recorded": "sequences", "frames": 16, "max_frames": 12, "min_frames": 8, "trained": 1, "epochs": 40}
    config = factory.make_config(tmp_path)
    radar = Radar(**settings, sha256=sequences.digest(folder), n_sequences=4, iterations=2, shown=1)  # pyright: ignore
    return config.model_copy(update={"radar": radar})


def test_recorded_sequences_take_the_place_of_simulated_ones(recorded: Config) -> None:
    study.run(recorded)
    attacks, frames = (
        tables.read(name, recorded.results / f"{name}.parquet") for name in ("radar_attacks", "radar_frames")
    )
    for path in recorded.results.glob("radar_*.parquet"):
        assert not tables.read(path.stem, path)["simulated"].any()
    assert set(attacks["gesture"]) <= set(GESTURES)
    assert set(attacks["subject"]) == {"s02"}, "only the third subject is test"
    assert attacks["sequence_id"].str.match(r"s02/s02-.*\.(npz|h5)").all()
    assert set(frames["height"]) == {16}
    told = attacks.loc[attacks["victim"] == f"{study.GIVEN}-A"].groupby("mask")["reached"].mean()
    assert told["padding"] == 0, "not even by a bit"
    assert told["action"] == 1


def test_results_do_not_depend_on_the_number_of_threads(recorded: Config) -> None:
    found = []
    for threads in (1, 3):
        study.run(recorded.model_copy(update={"compute": recorded.compute.model_copy(update={"threads": threads})}))
        found.append({path.name: path.read_bytes() for path in recorded.results.glob("radar_*.parquet")})
    assert len(found[0]) == 6
    assert found[0] == found[1]


def test_a_folder_that_is_not_the_pinned_one_is_refused(recorded: Config) -> None:
    folder = recorded.root / "sequences"
    one = next(folder.rglob("*.npz"))
    with np.load(one) as held:
        parts = {name: held[name] for name in held}
    np.savez(one, **parts | {"frames": parts["frames"] * 0.5})
    now = sequences.digest(folder)
    with pytest.raises(BenchError, match=r"not the folder that params.yaml pins") as caught:
        study.run(recorded)
    assert f"radar.sha256: {now}" in str(caught.value)
    with pytest.raises(BenchError, match="is not pinned"):
        sequences.load(recorded.model_copy(update={"radar": recorded.radar.model_copy(update={"sha256": None})}))
    renamed = recorded.model_copy(update={"radar": recorded.radar.model_copy(update={"sha256": now})})
    assert len(sequences.load(renamed).ids) == 72
    one.rename(one.with_stem("another"))
    assert sequences.digest(folder) != now, "ids are names of files"
    assert not list(recorded.results.glob("radar_*"))


def _relation(planted: bool, n: int = 30, t: int = 24) -> tuple[np.ndarray, np.ndarray, Sequences]:
    """Importance and change (N, T) of sequences with bumps at random places, at the same ones where it is `planted`."""
    own = np.random.default_rng(3)
    at = own.integers(0, t, (n, 2))
    bumps = np.exp(-(((np.arange(t) - at[..., None] + t / 2) % t - t / 2) ** 2) / 18)
    importance, change = bumps[:, 0], bumps[:, 0 if planted else 1]
    noise = own.normal(0, 0.1, (2, n, t))
    nobody = np.zeros((n, t, 1, 1), np.float32)
    ids = np.array([f"x{k}" for k in range(n)])
    data = Sequences(nobody, np.full(n, t), np.zeros(n, np.int64), np.full(n, "a"), ids, GESTURES)
    return importance + noise[0], change + noise[1], data


def _summary(planted: bool) -> dict[str, float]:
    importance, change, data = _relation(planted)
    rows = study.related(importance, change, data).assign(victim="cnn3d-A", step="sign")
    found = study.correlated(rows, Statistics(bootstrap=500), 0)
    return found.loc[found["scope"] == "action"].iloc[0].to_dict()


def test_a_planted_relation_is_outside_its_null() -> None:
    found = _summary(planted=True)
    assert found["ci_low"] > found["null_high"]
    assert found["p_value"] == pytest.approx(1 / (1 + study.SHIFTS))
    assert found["overlap"] > 2 * found["null_overlap"]


def test_where_there_is_no_relation_it_is_inside_its_null() -> None:
    """Bumps are smooth over time: a null that shuffled frames would find a relation here too often."""
    found = _summary(planted=False)
    assert found["null_low"] < found["rho"] < found["null_high"]
    assert found["p_value"] > 0.05
    assert abs(found["null_mean"]) < 1e-2
    assert found["overlap"] == pytest.approx(found["null_overlap"], abs=0.1)


def test_p_values_of_single_sequences_are_uniform_where_there_is_no_relation() -> None:
    importance, change, data = _relation(planted=False, n=600)
    rows = study.related(importance, change, data)
    p = rows.loc[rows["scope"] == "action", "p_value"].to_numpy()
    for level in (0.1, 0.25, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=0.06)
    importance, change, data = _relation(planted=True)
    rows = study.related(importance, change, data)
    assert (rows["p_value"] <= 0.25).mean() > 0.95, "smooth over time: shifts by one frame correlate nearly as much"


def test_random_signs_fool_a_network_that_anything_fools_and_no_other() -> None:
    """The null of success, on both sides: by it an attack is nothing where any change of its size does as much."""
    data = _data()

    class Fragile(torch.nn.Module):
        """Answers `far` as soon as a frame differs from the clean ones by more than `room`."""

        def __init__(self, room: float) -> None:
            super().__init__()
            self.room, self.clean = room, torch.from_numpy(data.frames)
            self.label = torch.from_numpy(data.labels)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            moved = (x - self.clean[: len(x)]).abs().amax(dim=(1, 2, 3)) > self.room
            return torch.nn.functional.one_hot(torch.where(moved, 5, self.label), 6).float()

    found = np.clip(data.frames + 0.05, 0, 1)
    for room, share in ((0.01, 1.0), (0.2, 0.0)):
        one = study.Trained(Fragile(room), "cnn3d", "A")
        rows = study.answered(one, one, data, found, "full", "untargeted", SETTINGS, 0)
        assert rows["null_success"].mean() == share
        assert rows["success"].mean() == share
