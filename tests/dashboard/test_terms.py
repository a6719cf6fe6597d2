"""Names for people."""

from __future__ import annotations

import pytest

from bench import schemas
from bench.config import SSL_FAMILY
from dashboard import plots, terms


def test_every_family_role_and_method_has_a_name_and_a_look() -> None:
    assert set(terms.FAMILY) == set(schemas.FAMILIES) == set(plots.COLOUR)
    assert set(terms.ROLE) == set(schemas.ROLES) == set(plots.SYMBOL)
    assert set(terms.SSL_FAMILY) == set(schemas.SSL_FAMILIES)
    assert set(SSL_FAMILY) <= set(terms.METHOD)
    assert len(set(plots.COLOUR.values())) == len(plots.COLOUR)
    assert len(set(plots.SYMBOL.values())) == len(plots.SYMBOL)


@pytest.mark.parametrize(
    ("model", "method", "arch", "name"),
    [
        ("simclr-cnn", "simclr", "cnn", "SimCLR CNN"),
        ("pixels", "pixels", "pixels", "Raw pixels"),
        ("ensemble-supervised", "ensemble", "ensemble", "Supervised ensemble"),
        ("Published Name v1", "unknown", "resnet", "Published Name v1"),
    ],
)
def test_model_names(model: str, method: str, arch: str, name: str) -> None:
    assert terms.model_name(model, method, arch) == name


@pytest.mark.parametrize(
    ("title", "role", "synthetic", "name"),
    [
        ("MNIST-5000", "original", "", "MNIST-5000"),
        ("UCI digits, boxed", "shifted", "", "UCI digits, boxed (shifted)"),
        ("Mosaic (composed)", "composite", "composed", "Mosaic (composed)"),
        ("Corrupted", "control", "corrupted", "Corrupted (control, corrupted)"),
    ],
)
def test_dataset_names_say_what_a_set_is(title: str, role: str, synthetic: str, name: str) -> None:
    assert terms.dataset_name(title, role, synthetic) == name


def test_numbers_for_people() -> None:
    assert terms.percent(0.931, 0.914, 0.946) == "93.1 % [91.4, 94.6]"
    assert terms.percent(1 / 3) == "33.3 %"
    assert terms.points(3.24, 1, 5.36) == "3.2 pp [1.0, 5.4]"
    assert terms.points(3.24, sign=True) == "+3.2 pp"
    assert terms.points(3.24, float("nan"), float("nan")) == "3.2 pp"
    assert terms.subset_name("certain-50") == "Most certain 50 %"


def test_attacks_say_what_they_are_made_on_and_where_they_stop() -> None:
    assert terms.attack_name("mine", "pgd-linf") == "PGD, L∞"
    assert terms.attack_name("mine", "another", "ResNet-20") == "mine, made on ResNet-20"
    assert terms.attack_name("mine", "pgd-linf", stop="transfer") == "PGD, L∞, until each other network falls"
    assert terms.attack_name("mine", "pgd-l2", "A", "success") == "PGD, L2, until its own network falls, made on A"


def test_how_far_an_attack_may_go_is_said_in_its_norm() -> None:
    attacks = {kind: terms.attack_name("mine", kind) for kind in ("pgd-linf", "pgd-l2", "pgd-l0", "deepfool")}
    assert terms.condition_name("attack:pgd-linf:8", attacks) == "PGD, L∞, 8/255"
    assert terms.condition_name("attack:pgd-l2:127.5", attacks) == "PGD, L2, within 0.5"
    assert terms.condition_name("attack:pgd-l0:25.5", attacks) == "PGD, L0, 10 % of positions"
    assert terms.norm_of("DeepFool, L2, made on A") == "L2"
    assert [terms.EPS_AXIS[terms.norm_of(name)] for name in attacks.values()][3] == terms.EPS_AXIS["L2"]
    assert set(map(terms.norm_of, terms.ATTACK.values())) == set(terms.EPS_AXIS)


def test_models_of_one_name_are_told_apart_by_what_their_own_names_end_in() -> None:
    zoo = {
        "cifar10-supervised": "Supervised ResNet-10",
        "cifar10-supervised-views": "Supervised ResNet-10",
        "cifar10-supervised-views-2": "Supervised ResNet-10",
        "cifar10-simclr": "SimCLR ResNet-10",
    }
    assert terms.told_apart(list(zoo.values()), list(zoo)) == [
        "Supervised ResNet-10",
        "Supervised ResNet-10, views",
        "Supervised ResNet-10, views 2",
        "SimCLR ResNet-10",
    ]
    assert terms.told_apart(["A", "A", "A, b"], ["x", "x-b", "y"]) == ["x", "x-b", "y"], "never two alike"
    assert terms.told_apart(["A", "A"], ["x", "z"]) == ["A, x", "A, z"]
    assert terms.told_apart([], []) == []
