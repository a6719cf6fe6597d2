from __future__ import annotations

import numpy as np
import pytest
import torch

from bench import compute
from bench.config import Compute, Model, Suite
from bench.errors import BenchError
from bench.models import zoo

SETTINGS = Compute(threads=1, batch_size=16)


def network(arch: str, size: int = 16) -> zoo.Network:
    kind = "pixels" if arch == "pixels" else "supervised"
    model = Model.model_validate({"suite": "digits", "family": kind, "method": kind, "arch": arch, "epochs": 1})
    return zoo.build(model, Suite(train="digits", input_size=size), 10, 0, arch).eval()


def images(n: int, size: int = 28) -> np.ndarray:
    return np.random.default_rng(0).random((n, 1, size, size), dtype=np.float32)


def test_seeds_depend_on_every_part_and_on_their_borders() -> None:
    assert compute.seed_of(0, "a", "b") == compute.seed_of("0", "a", "b")
    assert len({compute.seed_of(*parts) for parts in [(0, "ab"), (0, "a", "b"), (1, "ab"), (0, "a b"), (0,)]}) == 5
    assert 0 <= compute.seed_of("x") < 2**63
    assert compute.rng(1, "x").random() == compute.rng(1, "x").random()


@pytest.mark.parametrize("arch", ["cnn", "resnet", "vit", "mixer", "pixels"])
def test_a_result_depends_neither_on_order_nor_on_number_of_images(arch: str) -> None:
    net, x = network(arch), images(37)
    whole = compute.forward(net, x, SETTINGS)
    order = np.random.default_rng(1).permutation(len(x))
    assert np.array_equal(compute.forward(net, x[order], SETTINGS), whole[order])
    for n in (1, 7, 16, 20):
        assert np.array_equal(compute.forward(net, x[:n], SETTINGS), whole[:n]), n


def test_logits_are_those_of_a_plain_pass_and_features_lead_to_them() -> None:
    net, x = network("cnn"), images(20)
    with torch.no_grad():
        plain = net(torch.from_numpy(x)).numpy()
    logits = compute.forward(net, x, SETTINGS)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, plain, atol=1e-5)
    features = compute.forward(net, x, SETTINGS, features=True)
    assert features.shape == (20, net.n_features)
    head = features @ net.head.weight.detach().numpy().T + net.head.bias.detach().numpy()
    np.testing.assert_allclose(logits, head, atol=1e-5)


def test_bfloat16_is_near_float32_and_not_it() -> None:
    net, x = network("cnn"), images(16)
    exact = compute.forward(net, x, SETTINGS)
    rough = compute.forward(net, x, Compute(threads=1, batch_size=16, dtype="bfloat16"))
    assert rough.dtype == np.float32
    assert not np.array_equal(rough, exact)
    np.testing.assert_allclose(rough, exact, atol=0.05)


def test_a_network_that_gives_nan_is_named() -> None:
    net = network("cnn")
    net.head.weight.data[3] = float("nan")
    with pytest.raises(BenchError, match=r"cnn: .* 5 of 5 images.*lower `lr`"):
        compute.forward(net, images(5), SETTINGS)


def test_no_images_is_an_error() -> None:
    with pytest.raises(BenchError, match="no images"):
        compute.forward(network("cnn"), images(0), SETTINGS)


def test_cuda_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BenchError, match=r"Use `auto`"):
        compute.device_of(Compute(device="cuda"))
    assert compute.device_of(Compute(device="auto")).type == "cpu"
