"""Claim: the simulator makes at least 200 sequences a second, one process, one thread.

Held against the plain double loop over fast-time samples and chirps for the same maps (without noise, so that they are
equal), which is timed on a few frames and told for one sequence of the mean length.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks import Targets, beside, met

ROUNDS, LOOPED = 3, 4
TARGETS: Targets = {"sequences_per_s": (">=", 200)}


def run() -> dict[str, Any]:
    """Median rates of ROUNDS, and the largest difference between the maps of both."""
    from bench.config import Radar
    from bench.data import radar

    settings, rng = Radar(repeats=3), np.random.default_rng(0)
    scene = rng.uniform(0.1, 1, (LOOPED, 6)), rng.uniform(-2, 2, (LOOPED, 6)), rng.uniform(0.2, 1, (LOOPED, 6))
    ours, loops, frames = [], [], 0.0
    worst = 0.0
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        made = radar.simulate(settings, 0)
        ours.append(len(made.ids) / (time.perf_counter() - begun))
        frames = float(made.lengths.mean())
        begun = time.perf_counter()
        slow = np.stack([looped(*(part[i] for part in scene), settings) for i in range(LOOPED)])
        loops.append(LOOPED / (time.perf_counter() - begun) / frames)
        worst = max(worst, float(np.abs(slow - radar.maps(*scene, settings)).max()))
    found = {"sequences_per_s": round(float(np.median(ours)), 1), "looped_per_s": round(float(np.median(loops)), 3)}
    ratio = round(found["sequences_per_s"] / float(np.median(loops)))
    equal = worst < 1e-3
    return {
        **beside(TARGETS, found),
        "looped_per_s": found["looped_per_s"],
        "times_the_loop": ratio,
        "largest_difference": worst,
        "frames": frames,
        "met": met(TARGETS, found) and equal,
    }


def looped(ranges: np.ndarray, velocities: np.ndarray, amplitudes: np.ndarray, settings: Any) -> np.ndarray:
    """One map (R, D) of scatterers (P,), sample by sample and chirp by chirp."""
    from bench.data import radar

    about, n, m = radar.physics(settings), settings.samples, settings.chirps
    signal = np.zeros((n, m), complex)
    for i in range(n):
        for k in range(m):
            for r, v, a in zip(ranges, velocities, amplitudes, strict=True):
                turns = i * r / (n * about.range_m) + k * 2 * v * settings.chirp_us * 1e-6 / about.wavelength_m
                signal[i, k] += a * np.exp(2j * np.pi * turns)
    signal -= signal.mean(axis=1, keepdims=True)
    window = np.outer(np.hanning(n), np.hanning(m))
    power = np.abs(np.fft.fftshift(np.fft.fft2(signal * window), axes=1)) ** 2 / window.sum() ** 2
    decibels = 10 * np.log10(np.maximum(power, 10 ** (settings.floor_db / 10)))
    return np.clip(1 - decibels / settings.floor_db, 0, 1)
