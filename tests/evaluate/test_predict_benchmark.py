"""The benchmark of the stage counts decoded images as they are decoded, and names the configuration that it found."""

from __future__ import annotations

import pytest

from bench.config import Compute, Config
from bench.data import cache, samples
from benchmarks import predict as benchmark

TRIED = [benchmark.Configuration(8, 1, True, rough, True) for rough in (False, True)]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"RESNETS": ("resnet20", "resnet32"), "N_PICTURES": 8, "STAGE_ROUNDS": 1, "CONFIGURATIONS": TRIED}
    for name, value in small.items():
        monkeypatch.setattr(benchmark, name, value)


def test_images_are_decoded_once_and_the_best_configuration_is_named() -> None:
    found = benchmark.over_resnets(Compute(threads=1, batch_size=8))
    assert found["decoded_per_image"] == 1
    assert set(found["stage_s"]) == {"resnet20", "resnet32"}
    assert found["best_in_float32"] == "batch 8, 1 threads, channels_last, float32, inference_mode"
    assert found["best"] in map(str, TRIED)
    assert found["of_best_configuration"] <= found["of_best_in_float32"]
    assert set(found["per_s"]) == {"ours", *map(str, TRIED)}
    said = benchmark.details({"resnets": found})
    assert found["best"] in said


def test_without_kept_images_each_is_decoded_for_every_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "load", lambda config, dataset: samples.load(config, dataset))
    monkeypatch.setattr(benchmark, "_against_configurations", lambda config: {"seen": isinstance(config, Config)})
    found = benchmark.over_resnets(Compute(threads=1, batch_size=8))
    assert found["decoded_per_image"] == 2
    assert found["seen"]
