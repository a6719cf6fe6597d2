"""params.yaml: what is wrong is named, with the nearest name that is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench import config
from bench.errors import BenchError
from tests import factory

SHIPPED = Path(__file__).parents[1] / "params.yaml"


def load(tmp_path: Path, edit: Callable[[dict[str, Any]], object]) -> config.Config:
    parameters = yaml.safe_load(yaml.safe_dump(factory.params(10), sort_keys=False))
    edit(parameters)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(parameters, sort_keys=False))
    return config.load(path)


def model(name: str, **changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda parameters: parameters["models"][name].update(changes)


PIN = "0" * 64
WEIGHTS = {"file": "w.safetensors", "sha256": PIN, "origin": "somewhere"}


def elsewhere(name: str = "org/net", **changes: object) -> Callable[[dict[str, Any]], object]:
    """Declares an imported model with some of its keys changed."""
    keys = {"suite": "digits", "datasets": {"digits": PIN}, "origin": "a paper", **changes}
    return lambda parameters: parameters.setdefault("imported", {}).update({name: keys})


def protocol(**changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda parameters: parameters.update(protocol=changes)


def dataset(name: str, **changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda parameters: parameters["datasets"][name].update(changes)


def untrained(parameters: dict[str, Any]) -> None:
    parameters["suites"]["digits"].pop("train")


BAD: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "unknown section": (lambda p: p.update(atacks={}), r"unknown key `atacks` \(did you mean 'attacks'\?\)"),
    "unknown key": (lambda p: p["compute"].update(thread=1), r"`compute\.thread` \(did you mean 'threads'\?\)"),
    "unknown key of a model": (model("pixels", epoch=3), r"`models\.pixels\.epoch` \(did you mean 'epochs'\?\)"),
    "unknown key of an attack": (
        lambda p: p["attacks"]["runs"]["pgd-linf"].update(step=3),
        r"`attacks\.runs\.pgd-linf\.step` \(did you mean 'steps'\?\)",
    ),
    "nothing is near": (lambda p: p.update(xyzzy=1), r"unknown key `xyzzy`\."),
    "missing": (lambda p: p.pop("seed"), "key `seed` is missing"),
    "wrong type": (lambda p: p["compute"].update(threads="two"), r"`compute\.threads`: .*integer.*got 'two'"),
    "not positive": (lambda p: p["compute"].update(threads=0), r"`compute\.threads`: .*greater than 0.*got 0"),
    "unknown value": (lambda p: p["compute"].update(device="gpu"), r"`compute\.device`: .*'cpu'.*got 'gpu'"),
    "a list where a mapping belongs": (lambda p: p.update(models=[]), r"`models`: .*dictionary.*got \[\]"),
    "a name with a slash": (lambda p: p["models"].update({"a/b": p["models"]["pixels"]}), r"`models\.a/b"),
    "undeclared suite": (model("pixels", suite="digit"), r"models\.pixels\.suite: 'digit' .*did you mean 'digits'\?"),
    "undeclared original": (
        lambda p: p["datasets"]["optdigits"].update(replicates="digit"),
        r"datasets\.optdigits\.replicates: 'digit' .*did you mean",
    ),
    "undeclared training set": (
        lambda p: p["suites"]["digits"].update(train="digitz"),
        r"suites\.digits\.train: 'digitz' is not declared \(did you mean 'digits'\?\)",
    ),
    "undeclared member": (
        lambda p: p["uncertainty"]["ensembles"].update({"e": ["supervised-cn"]}),
        r"uncertainty\.ensembles\.e: 'supervised-cn' .*did you mean 'supervised-cnn'",
    ),
    "an ensemble named like a model": (
        lambda p: p["uncertainty"]["ensembles"].update({"pixels": ["pixels"]}),
        r"uncertainty\.ensembles\.pixels: a model has this name",
    ),
    "undeclared in the pool": (lambda p: p["attacks"].update(pool=["x"]), r"attacks\.pool: 'x' is not declared"),
    "undeclared attacked set": (
        lambda p: p["attacks"]["runs"]["pgd-linf"].update(dataset="x"),
        r"attacks\.runs\.pgd-linf\.dataset: 'x'",
    ),
    "undeclared corrupted set": (lambda p: p["corruptions"].update(datasets=["x"]), r"corruptions\.datasets: 'x'"),
    "severity out of range": (lambda p: p["corruptions"].update(severities=[6]), r"`corruptions\.severities\.0`"),
    "undeclared reference": (lambda p: p["subsets"].update(reference_model="x"), r"subsets\.reference_model: 'x'"),
    "unknown key of the protocol": (protocol(bin=3), r"unknown key `protocol\.bin` \(did you mean 'bins'\?\)"),
    "undeclared reference of the protocol": (
        protocol(references=["pixels", "supervised-cn"]),
        r"protocol\.references: 'supervised-cn' is not declared \(did you mean 'supervised-cnn'\?\)",
    ),
    "a coverage of nothing": (protocol(coverages=[0.5, 0]), r"`protocol\.coverages\.1`: .*greater than 0.*got 0"),
    "a coverage of more than all": (protocol(coverages=[1.5]), r"`protocol\.coverages\.0`: .*equal to 1.*got 1\.5"),
    "a word of the tables as a name": (elsewhere("pool"), "no model may be called 'pool'"),
    "one bin": (protocol(bins=1), r"`protocol\.bins`: .*equal to 2.*got 1"),
    "too many bins": (protocol(bins=1001), r"`protocol\.bins`: .*equal to 1000"),
    "no measure": (protocol(measures=[]), r"`protocol\.measures`: .*at least 1"),
    "a measure that is none": (
        protocol(measures=["entropy"]),
        r"`protocol\.measures\.0`: .*'entropy_nats'.*got 'entropy'",
    ),
    "a share of nobody": (protocol(pool_share=0), r"`protocol\.pool_share`: .*greater than 0"),
    "undeclared proposals": (lambda p: p["proposals"].update(ensemble="pixels"), r"proposals\.ensemble: 'pixels'"),
    "undeclared neighbours": (lambda p: p["neighbours"].update(model="x"), r"neighbours\.model: 'x'"),
    "a replication of nothing": (
        lambda p: p["datasets"]["optdigits"].pop("replicates"),
        r"datasets\.optdigits`: role 'shifted' needs `replicates",
    ),
    "a method of another family": (model("pixels", family="ssl", arch="cnn"), "'pixels' does not belong to family"),
    "weights beside training": (model("simclr-cnn", weights=WEIGHTS), "`weights` take the place of training"),
    "weights of a control": (model("pixels", weights=WEIGHTS), "`weights` take the place of training"),
    "weights from nowhere": (
        model("simclr-cnn", epochs=0, weights={**WEIGHTS, "origin": ""}),
        r"`models\.simclr-cnn\.weights\.origin`",
    ),
    "no epochs": (model("simclr-cnn", epochs=0), "a ssl model needs `epochs`"),
    "an imported model of no suite": (elsewhere(suite="digit"), r"imported\.org/net\.suite: 'digit' .*did you mean"),
    "an imported model's dataset": (elsewhere(datasets={"digit": PIN}), r"imported\.org/net\.datasets: 'digit' is not"),
    "an imported model without answers": (elsewhere(datasets={}), r"`imported\.org/net\.datasets`: .*at least 1"),
    "an imported model from nowhere": (elsewhere(origin=""), r"`imported\.org/net\.origin`"),
    "a pin that is no sha256": (elsewhere(datasets={"digits": "abc"}), r"`imported\.org/net\.datasets\.digits`"),
    "an imported model named like a model": (elsewhere("pixels"), r"imported\.pixels: a model has this name already"),
    "an imported model named like an ensemble": (
        elsewhere(factory.ENSEMBLE),
        r"imported\.ensemble-supervised: a model has this name already",
    ),
    "an imported model of an unknown kind": (elsewhere(family="pixels"), r"`imported\.org/net\.family`"),
    "an imported model's method of another family": (
        elsewhere(family="unknown", method="dino"),
        r"imported\.org/net`: method 'dino' does not belong to family 'unknown', but to 'ssl'",
    ),
    "an imported model without its method's family": (elsewhere(method="supervised"), "but to 'supervised'"),
    "an imported model with a line break": (elsewhere("a\u2028b"), r"`imported\.a"),
    "an arch with a line break": (elsewhere(arch="a\x85b"), r"`imported\.org/net\.arch`"),
    "names that differ in case": (elsewhere("Pixels"), "'pixels' and 'Pixels' differ only in upper and lower case"),
    "label sources that differ in case": (
        dataset("digits", labels={"a": {"sha256": PIN}, "A": {"sha256": PIN}}),
        r"datasets\.digits\.labels: 'a' and 'A' differ only",
    ),
    "an unknown key of an imported model": (
        elsewhere(origins=1),
        r"`imported\.org/net\.origins` \(did you mean 'origin",
    ),
    "fetched without a pin": (dataset("digits", fetched="preset"), "`fetched: <preset>` and the `sha256`"),
    "a pin of nothing fetched": (dataset("digits", sha256=PIN), "`fetched: <preset>` and the `sha256`"),
    "pictures for a set that has its own": (
        dataset("digits", images=PIN),
        "`images` are attached to fetched sets only",
    ),
    "training where nothing is trained on": (untrained, "its suite 'digits' names no dataset to train on"),
    "a suite without datasets": (
        lambda p: p["suites"].update(empty={}),
        r"suites\.empty: no dataset belongs to it",
    ),
    "root": (lambda p: p.update(root="/"), "`root` cannot be set"),
}


@pytest.mark.parametrize("case", BAD)
def test_each_fault_is_one_clear_error(tmp_path: Path, case: str) -> None:
    edit, message = BAD[case]
    with pytest.raises(BenchError, match=message) as caught:
        load(tmp_path, edit)
    assert str(caught.value).startswith("params.yaml: ")


def test_a_good_file_loads_and_stays_as_it_is(tmp_path: Path) -> None:
    loaded = load(tmp_path, lambda p: None)
    assert loaded.root == tmp_path
    assert loaded.results == tmp_path / "results"
    with pytest.raises(Exception, match="frozen"):
        loaded.seed = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_the_shipped_file_is_valid() -> None:
    shipped = config.load(SHIPPED)
    assert {model.family for model in shipped.models.values()} == {"supervised", "ssl", "random", "pixels"}
    families = {config.SSL_FAMILY[m.method] for m in shipped.models.values() if m.family == "ssl"}
    assert families == set(config.SSL_FAMILY.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "not valid YAML"), ("- a", "must be a mapping"), ("", "must be a mapping"), (None, "no such file")],
)
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "params.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BenchError, match=message):
        config.load(path)


def test_looking_up_a_name(tmp_path: Path) -> None:
    loaded = load(tmp_path, lambda p: p["attacks"].update(pool=["mae-vit"]))
    assert loaded.model("pixels").family == "pixels"
    assert loaded.datasets_of("digits") == list(factory.DATASETS)
    assert loaded.attack_pool("digits") == ["mae-vit"]
    assert load(tmp_path, lambda p: None).attack_pool("digits") == [
        "supervised-cnn",
        "supervised-vit",
        "simclr-cnn",
        "mae-vit",
    ]
    with pytest.raises(BenchError, match=r"no 'pixel' under `models` \(did you mean 'pixels'\?\)"):
        loaded.model("pixel")
    with pytest.raises(BenchError, match="no 'mnist' under `datasets`"):
        loaded.dataset("mnist")


def test_images_may_be_chosen_by_any_model_of_which_confidences_may_be_known(tmp_path: Path) -> None:
    names = ["pixels", factory.ENSEMBLE, "net"]

    def edit(parameters: dict[str, Any]) -> None:
        elsewhere("net")(parameters)
        protocol(references=names, coverages=[0.5, 1], measures=["energy"], bins=2, pool_share=1)(parameters)

    assert load(tmp_path, edit).protocol.references == names
    assert load(tmp_path, lambda p: None).protocol == config.Protocol()


def test_where_the_files_of_imported_models_are(tmp_path: Path) -> None:
    def edit(parameters: dict[str, Any]) -> None:
        elsewhere()(parameters)
        elsewhere("fetched one", fetched="preset")(parameters)
        dataset("optdigits", fetched="preset", sha256=PIN)(parameters)

    loaded = load(tmp_path, edit)
    assert loaded.imported["org/net"].family == loaded.imported["org/net"].method == "unknown"
    own, fetched = tmp_path / "data" / "imported", tmp_path / "fetched" / "preset"
    assert loaded.imported_predictions("org/net", "digits") == own / "predictions" / "digits" / "org%2Fnet.parquet"
    assert loaded.imported_predictions("fetched one", "digits") == fetched / "predictions/digits/fetched one.parquet"
    assert loaded.imported_labels("digits", "people") == own / "labels" / "digits" / "people.parquet"
    assert loaded.folder("digits") == tmp_path / "data" / "digits"
    assert loaded.folder("optdigits") == fetched / "optdigits"


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("org/resnet50.a1_in1k", "org%2Fresnet50.a1_in1k"),
        ("ViT-B (32)", "ViT-B (32)"),
        ("50%", "50%25"),
        ("é", "%C3%A9"),
    ],
)
def test_names_of_files_are_names_that_no_other_model_has(name: str, stem: str) -> None:
    assert config.file_stem(name) == stem


def test_what_a_suite_starts_from(tmp_path: Path) -> None:
    def edit(parameters: dict[str, Any]) -> None:
        parameters["suites"]["objects"] = {}
        parameters["datasets"] |= {"control": {"role": "control", "suite": "objects"}, **factory.IMAGELESS}

    loaded = load(tmp_path, edit)
    assert loaded.original_of("digits") == "digits"
    assert loaded.original_of("objects") == "objects"


def test_coverages_of_the_protocol_are_put_in_order(tmp_path: Path) -> None:
    assert load(tmp_path, protocol(coverages=[0.9, 0.5, 0.9, 1.0])).protocol.coverages == [0.5, 0.9, 1.0]


def test_a_reference_of_the_protocol_may_be_imported(tmp_path: Path) -> None:
    def edit(parameters: dict[str, Any]) -> None:
        elsewhere()(parameters)
        protocol(references=["org/net"])(parameters)

    assert load(tmp_path, edit).protocol.references == ["org/net"]
