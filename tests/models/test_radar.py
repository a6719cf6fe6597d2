"""What padding can do to each network of sequences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.attacks import engine, losses, steps
from bench.config import Compute
from bench.models.radar import CNN3D, CNNLSTM, with_length

LENGTHS = torch.tensor([3, 5])


def _padded() -> tuple[Tensor, Tensor]:
    """Two sequences of 8 frames with zeros from their lengths on, and where that is."""
    torch.manual_seed(0)
    padding = (torch.arange(8) >= LENGTHS[:, None])[:, :, None, None].expand(2, 8, 16, 16)
    return torch.where(padding, 0, torch.rand(2, 8, 16, 16)), padding


def _changes(network: torch.nn.Module, before: Tensor, after: Tensor) -> bool:
    with torch.inference_mode():
        return not torch.equal(network.eval()(before), network(after))


@pytest.mark.parametrize("make", [CNN3D, CNNLSTM])
def test_padding_is_seen_by_networks_that_read_every_frame(make: type[torch.nn.Module]) -> None:
    x, padding = _padded()
    assert _changes(make(6), x, torch.where(padding, 0.5, x))


def test_padding_cannot_be_attacked_where_the_length_is_given() -> None:
    x, padding = _padded()
    network = CNNLSTM(6, "given").eval()
    held = with_length(x, LENGTHS).requires_grad_()
    (gradient,) = torch.autograd.grad(network(held).logsumexp(dim=1).sum(), held)
    assert (gradient[:, :-1][padding] == 0).all()
    assert (gradient[:, :-1][~padding] != 0).any()
    assert not _changes(network, held.detach(), with_length(torch.where(padding, 0.5, x), LENGTHS))
    assert _changes(network, held.detach(), with_length(torch.where(padding, x, 0.5), LENGTHS))


def test_a_length_that_is_inferred_from_the_frames_is_part_of_what_can_be_attacked() -> None:
    x, padding = _padded()
    network = CNNLSTM(6, "inferred").eval()
    assert network.lengths(x).tolist() == LENGTHS.tolist()
    touched = torch.where(padding, 1 / 255, x)
    assert network.lengths(touched).tolist() == [8, 8]
    assert _changes(network, x, touched)


@pytest.mark.parametrize("make", [CNN3D, CNNLSTM])
def test_the_engine_changes_padding_and_nothing_else(make: type[torch.nn.Module]) -> None:
    x, padding = _padded()
    clean, free = x.numpy(), padding.float().numpy()
    found = engine.iterate(
        make(6).requires_grad_(False),
        clean,
        LENGTHS.numpy() % 6,
        Compute(threads=1, batch_size=2),
        loss=losses.cross_entropy,
        step=steps.sign(1 / 255),
        iterations=3,
        low=0 * clean,
        high=0 * clean + 1,
        start=clean + free / 255,
        mask=free,
    )
    changed = found.images != clean
    assert changed[padding.numpy()].any()
    assert not changed[~padding.numpy()].any()
