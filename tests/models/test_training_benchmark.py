"""The bare steps of the benchmark are the project's steps, and its figures stand beside their targets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from benchmarks import training as benchmark

UNCHANGED = benchmark.augment.Recipe(benchmark.augment.UNCHANGED, benchmark.augment.UNCHANGED)
SMALL = benchmark.Kind(16, 3, 16, "cnn", False, UNCHANGED)


def descended(step: Callable[[], Tensor]) -> tuple[float, list[Tensor]]:
    """The loss of a step, and the gradients that its optimiser is given."""
    gradients: list[Tensor] = []

    def note(optimizer: torch.optim.Optimizer, *arguments: object) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients.extend(p.grad.clone() for p in parameters if p.grad is not None)

    hook = register_optimizer_step_pre_hook(note)
    try:
        torch.manual_seed(1)  # of the masks
        return float(step().detach()), gradients
    finally:
        hook.remove()


@pytest.mark.parametrize("method", benchmark.METHODS)
def test_a_bare_step_computes_what_the_step_of_the_project_does(method: str) -> None:
    torch.set_num_threads(1)
    network, made, images, labels = benchmark.built(method, SMALL)
    chosen = torch.arange(SMALL.batch)
    views = network.normalise(images[chosen])
    plain = benchmark.bare(network, method)
    wanted, gradients = descended(lambda: plain(views, views, labels[chosen]))
    step = benchmark.shipped(network, images, labels, made, UNCHANGED)
    found, mine = descended(lambda: step(chosen))
    assert found == pytest.approx(wanted, rel=1e-5)
    assert len(mine) == len(gradients) > 0
    for a, b in zip(mine, gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_every_figure_stands_beside_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"METHODS": ("supervised", "simclr"), "KINDS": {"small": SMALL}, "EXAMPLE": SMALL, "BATCHES": 2}
    for name, value in {**small, "ROUNDS": 1, "EXAMPLE_ROUNDS": 1}.items():
        monkeypatch.setattr(benchmark, name, value)
    result = benchmark.run()
    assert set(result["steps"]) == {"supervised, small", "simclr, small"}
    assert {key for key in result if key.startswith("target_")} == {f"target_{key}" for key in benchmark.TARGETS}
    worst = result["worst"]["step_to_bare"]
    assert result["step_to_bare"] == max(one["step_to_bare"] for one in result["steps"].values())
    assert result["steps"][worst]["step_to_bare"] == result["step_to_bare"]
    assert result["met"] == benchmark.met(benchmark.TARGETS, result)
    said = benchmark.details(result).splitlines()
    assert [line.split(",")[0].strip() for line in said[1:3]] == ["supervised", "simclr"]
    assert "lightly's transforms and data loader" in said[3]
