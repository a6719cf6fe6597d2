"""Hand gestures as sequences of range-Doppler maps: simulated from the physics of an FMCW radar, or recorded ones.

A chirp of slope B / T that comes back from range R beats with a tone whose phase advances by 2 pi R / (N dR) a sample;
from chirp to chirp it advances by 2 pi 2 v Tc / lambda. So for scatterers i of amplitude a_i, fast-time sample n, chirp
m: s[n, m] = sum_i a_i exp(2 pi j (n R_i / (N dR) + m 2 v_i Tc / lambda)) + complex noise. A map is the magnitude of its
Fourier transform over both (Hann windows), in dB under a fixed reference, cut off at a fixed floor, on [0, 1]. The
gestures, hands and arms are this benchmark's own: nothing here was measured.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import compute
from bench.config import Config, Radar
from bench.errors import BenchError
from bench.store import tables

Floats = npt.NDArray[np.float32]
LIGHT = 299_792_458.0
"""Speed of light, m/s."""
GESTURES = ("push", "pull", "push-pull", "slow-circle", "fast-wave", "double-tap")
ZERO = 128
"""The byte of a stored change that says that nothing changed; one more is 1/255."""
ALONG = np.array([-0.03, 0.0, 0.03])
"""Where the three scatterers of a hand lie along the line of sight, m."""


@dataclass(frozen=True)
class Physics:
    """Resolution and reach: range_m (dR) = c / 2B, velocity_mps (dv) = lambda / (2 M Tc), v_max_mps = lambda / 4Tc."""

    wavelength_m: float
    range_m: float
    velocity_mps: float
    v_max_mps: float


@dataclass(frozen=True)
class Sequences:
    """frames (N, T, R, D) float32 in [0, 1], zeros from each one's length on; lengths, labels (N,) int64; subjects and
    ids (N,); `classes`: the names of the labels."""

    frames: Floats
    lengths: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    subjects: npt.NDArray[np.str_]
    ids: npt.NDArray[np.str_]
    classes: tuple[str, ...]

    def rows(self, at: npt.NDArray[Any]) -> Sequences:
        """Those at some indices, or where a mask (N,) is true."""
        return Sequences(
            self.frames[at], self.lengths[at], self.labels[at], self.subjects[at], self.ids[at], self.classes
        )


@dataclass(frozen=True)
class Subject:
    """How somebody gestures: extent (a factor), base_m, arm (amplitude and share of the hand's way), power_db."""

    extent: float
    base_m: float
    arm: float
    arm_share: float
    power_db: float


def physics(settings: Radar) -> Physics:
    """What the radar resolves, by the formulas of `Physics`."""
    wavelength, chirp = LIGHT / (settings.carrier_ghz * 1e9), settings.chirp_us * 1e-6
    return Physics(
        wavelength_m=wavelength,
        range_m=LIGHT / (2 * settings.bandwidth_ghz * 1e9),
        velocity_mps=wavelength / (2 * settings.chirps * chirp),
        v_max_mps=wavelength / (4 * chirp),
    )


def maps(
    ranges_m: npt.NDArray[Any],
    velocities_mps: npt.NDArray[Any],
    amplitudes: npt.NDArray[Any],
    settings: Radar,
    rng: np.random.Generator | None = None,
) -> Floats:
    """Range-Doppler maps (F, R, D) in [0, 1] of scatterers: ranges, velocities (positive: going away) and amplitudes
    are (F, P). Doppler bin D / 2 is standing still. Without `rng` there is no noise.

    What stands still is taken out before the transform: the mean over the chirps of a frame. 0 dB is a scatterer of
    amplitude 1 in the middle of a bin.
    """
    from scipy import fft

    about, n, m = physics(settings), settings.samples, settings.chirps
    by_sample = ranges_m / (n * about.range_m)
    by_chirp = 2 * velocities_mps * settings.chirp_us * 1e-6 / about.wavelength_m
    fast = amplitudes[..., None] * np.exp(2j * np.pi * by_sample[..., None] * np.arange(n))
    slow = np.exp(2j * np.pi * by_chirp[..., None] * np.arange(m))
    signal = (fast.swapaxes(1, 2) @ slow).astype(np.complex64)
    if rng is not None:
        noise = rng.standard_normal((*signal.shape, 2), np.float32).view(np.complex64)[..., 0]
        signal += np.float32(settings.noise / np.sqrt(2)) * noise
    signal -= signal.mean(axis=2, keepdims=True)
    window = np.outer(np.hanning(n), np.hanning(m)).astype(np.float32)
    spectrum = fft.fftshift(fft.fft2(signal * window, overwrite_x=True), axes=2)
    power = (spectrum.real**2 + spectrum.imag**2) / window.sum() ** 2
    decibels = 10 * np.log10(np.maximum(power, 10 ** (settings.floor_db / 10)))
    return np.clip(1 - decibels / settings.floor_db, 0, 1).astype(np.float32)


def trajectory(gesture: str, u: npt.NDArray[Any], phase: float) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Where a hand is along the line of sight at times u (F,) in [0, 1] of its gesture, m from where it starts, and how
    far its two ends turn against each other, m."""
    still = np.zeros_like(u)

    def reach(v: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """From 0 to 1 with the least jerk (Flash & Hogan 1985)."""
        v = np.clip(v, 0, 1)
        return v**3 * (10 - 15 * v + 6 * v**2)

    match gesture:
        case "push":
            return -0.3 * reach(u), still
        case "pull":
            return 0.3 * reach(u) - 0.3, still
        case "push-pull":
            return -0.25 * (reach(2 * u) - reach(2 * u - 1)), still
        case "slow-circle":
            return 0.08 * (np.cos(3 * np.pi * u + phase) - np.cos(phase)), still
        case "fast-wave":
            return 0.01 * np.sin(8 * np.pi * u + phase), 0.04 * np.sin(8 * np.pi * u + phase)
        case _:
            tap = [reach((u - at) / 0.12) - reach((u - at - 0.14) / 0.12) for at in (0.1, 0.55)]
            return -0.1 * (tap[0] + tap[1]), still


def subject(seed: int, index: int) -> Subject:
    """The habits of a simulated person, drawn by number."""
    rng = compute.rng(seed, "radar subject", index)
    return Subject(
        extent=float(rng.uniform(0.8, 1.25)),
        base_m=float(rng.uniform(0.5, 0.8)),
        arm=float(rng.uniform(0.2, 0.7)),
        arm_share=float(rng.uniform(0.3, 0.6)),
        power_db=float(rng.uniform(-12, 0)),
    )


def one(gesture: str, who: Subject, settings: Radar, rng: np.random.Generator) -> Floats:
    """One simulated gesture as maps (L, R, D), L drawn between the shortest and the longest length."""
    length = int(rng.integers(settings.min_frames, settings.max_frames + 1))
    base, extent = who.base_m + rng.normal(0, 0.04), who.extent * rng.uniform(0.85, 1.15)
    edges = np.linspace(0, 1, length + 1)
    way, turn = (extent * part for part in trajectory(gesture, edges, rng.uniform(0, 2 * np.pi)))
    hand = base + way[:, None] + (ALONG + rng.normal(0, 0.005, 3)) + turn[:, None] * np.array([-1.0, 0.0, 1.0])
    arm = base + 0.2 + who.arm_share * way[:, None] + np.array([0.0, 0.1])
    body = np.full((length + 1, 1), base + 0.35)
    places = np.concatenate([hand, arm, body], axis=1)
    speeds = np.diff(places, axis=0) / (settings.frame_ms * 1e-3)
    strength = 10 ** ((who.power_db + rng.normal(0, 1.5, (length, 6))) / 20)
    strength *= np.array([0.5, 0.6, 0.5, who.arm * 0.5, who.arm * 0.5, 1.0])
    turned = strength * np.exp(2j * np.pi * rng.random((length, 6)))
    return maps((places[1:] + places[:-1]) / 2, speeds, turned, settings, rng)


def simulate(settings: Radar, seed: int) -> Sequences:
    """`repeats` sequences of each gesture of each of `subjects` simulated people, each drawn by its id."""
    people = [subject(seed, index) for index in range(settings.subjects)]
    named = [
        (f"s{index:02d}", f"s{index:02d}-{gesture}-{repeat:02d}", label)
        for index in range(settings.subjects)
        for label, gesture in enumerate(GESTURES)
        for repeat in range(settings.repeats)
    ]
    frames = np.zeros((len(named), settings.frames, settings.samples, settings.chirps), np.float32)
    lengths = np.zeros(len(named), np.int64)
    for row, (person, name, label) in enumerate(named):
        found = one(GESTURES[label], people[int(person[1:])], settings, compute.rng(seed, "radar", name))
        lengths[row] = len(found)
        frames[row, : len(found)] = found
    who, ids, labels = zip(*named, strict=True)
    return Sequences(frames, lengths, np.array(labels, np.int64), np.array(who), np.array(ids), GESTURES)


def load(config: Config) -> Sequences:
    """The sequences of params.yaml: simulated, or the recorded ones of `radar.recorded`, which `radar.sha256` pins.

    Raises BenchError as `recorded` does, and where the folder is not the pinned one: stages know it by its hash.
    """
    settings = config.radar
    if settings.recorded is None:
        return simulate(settings, config.seed)
    folder = config.root / settings.recorded
    data = recorded(folder, settings.frames)
    if settings.sha256 != (found := digest(folder)):
        raise BenchError(
            "is not the folder that params.yaml pins (radar.sha256)." if settings.sha256 else "is not pinned.",
            where=folder,
            remedy=f"If these sequences are meant, set `radar.sha256: {found}` in params.yaml.",
        )
    return data


def digest(folder: Path) -> str:
    """Hex sha256 over the names and the bytes of all recorded sequences of a folder."""
    whole = hashlib.sha256()
    for path in _files(folder):
        whole.update(f"{path.relative_to(folder).as_posix()}\x1f{tables.sha256(path)}\n".encode())
    return whole.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _READERS) if folder.is_dir() else []


def recorded(folder: Path, frames: int) -> Sequences:
    """Recorded sequences of a folder: one file each, `.npz`, `.h5` or `.hdf5`, with `frames` (L, R, D) in [0, 1],
    `label` and `subject` (texts); shorter ones are padded with zeros to `frames`.

    Raises BenchError, naming the file, where one cannot be read, lacks a part, is empty, longer than `frames`, of
    another shape than the first, or has values that are not finite or outside [0, 1]; and where all labels are one.
    """
    if not (paths := _files(folder)):
        raise BenchError("holds no recorded sequences.", where=folder, remedy="Name a folder of .npz or .h5 files.")
    parts = [_READERS[path.suffix.lower()](path) for path in paths]
    shape: tuple[int, ...] = parts[0]["frames"].shape[1:]
    for path, part in zip(paths, parts, strict=True):
        if fault := _fault(part["frames"], shape, frames):
            raise BenchError(fault, where=path, remedy="Correct the file, or take it out of the folder.")
    classes = tuple(sorted({part["label"] for part in parts}))
    if len(classes) == 1:
        said = f"all sequences have the label {parts[0]['label']!r}."
        raise BenchError(said, where=folder, remedy="Add sequences of another gesture.")
    out = np.zeros((len(parts), frames, *shape), np.float32)
    for row, part in enumerate(parts):
        out[row, : len(part["frames"])] = part["frames"]
    return Sequences(
        out,
        np.array([len(part["frames"]) for part in parts], np.int64),
        np.array([classes.index(part["label"]) for part in parts], np.int64),
        np.array([part["subject"] for part in parts]),
        np.array([path.relative_to(folder).as_posix() for path in paths]),
        classes,
    )


def _fault(frames: npt.NDArray[Any], shape: Sequence[int], most: int) -> str:
    """What is wrong with the frames of one file; empty where nothing is."""
    if frames.ndim != 3 or frames.dtype.kind not in "fiu":
        return f"`frames` must be numbers of shape (L, R, D), not {frames.dtype} of {frames.shape}."
    if not frames.size:
        return "the sequence has no frames."
    if len(frames) > most:
        return f"the sequence has {len(frames)} frames, more than `radar.frames` ({most})."
    if frames.shape[1:] != tuple(shape):
        return f"its maps are {frames.shape[1:]}, those of the first file {tuple(shape)}."
    if bad := int((~np.isfinite(frames).all(axis=(1, 2))).sum()):
        return f"{bad} of {len(frames)} frames hold NaN or infinite values."
    if frames.min() < 0 or frames.max() > 1:
        return f"values lie between {frames.min():g} and {frames.max():g}, not in [0, 1]."
    return ""


LARGEST = 2**28
"""Bytes that a recorded sequence may have once it is unpacked."""


def _small(size: int, path: Path) -> None:
    if size > LARGEST:
        raise BenchError(
            f"has {size / 2**20:.0f} MiB unpacked, more than {LARGEST / 2**20:.0f}.",
            where=str(path),
            remedy="A file holds one sequence: split it.",
        )


def _npz(path: Path) -> dict[str, Any]:
    try:
        _small(sum(part.file_size for part in zipfile.ZipFile(path).infolist()), path)
        with np.load(path, allow_pickle=False) as held:
            return _checked({name: held[name][()] for name in _NAMES}, path)
    except KeyError as fault:
        raise _lacking(path, fault) from None
    except (OSError, EOFError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as fault:
        raise _unreadable(path, fault) from None


def _hdf5(path: Path) -> dict[str, Any]:
    import h5py

    try:
        with h5py.File(path, "r") as held:
            named: Any = held
            _small(sum(int(named[name].nbytes) for name in _NAMES), path)
            texts = {name: named[name].asstr()[()] for name in _NAMES[1:]}
            return _checked({"frames": named["frames"][()], **texts}, path)
    except KeyError as fault:
        raise _lacking(path, fault) from None
    except (OSError, AttributeError, TypeError, ValueError) as fault:
        raise _unreadable(path, fault) from None


def _checked(parts: dict[str, Any], path: Path) -> dict[str, Any]:
    """Parts of a file, whose `label` and `subject` must each be one text."""
    for name in _NAMES[1:]:
        if not (isinstance(parts[name], str) and parts[name].strip()):
            raise BenchError(f"`{name}` must be one text, and not empty.", where=path, remedy=_PARTS)
    return {"frames": np.asarray(parts["frames"]), **{name: str(parts[name]) for name in _NAMES[1:]}}


def _lacking(path: Path, fault: KeyError) -> BenchError:
    return BenchError(f"lacks a part: {fault.args[0]}.", where=path, remedy=_PARTS)


def _unreadable(path: Path, fault: Exception) -> BenchError:
    return BenchError(f"cannot be read: {fault or type(fault).__name__}.", where=path, remedy=_PARTS)


_NAMES = ("frames", "label", "subject")
_PARTS = "A file holds `frames` (L, R, D), `label` and `subject` (texts)."
_READERS = {".npz": _npz, ".h5": _hdf5, ".hdf5": _hdf5}
