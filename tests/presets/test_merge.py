"""A preset goes into params.yaml and out of it again, and no other byte changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bench.config import load
from bench.errors import BenchError
from bench.presets import merge
from bench.presets import preset as presets

ROOT = Path(__file__).parents[2]
COMMENTED = """\
# Mine.
seed: 7
suites:
    digits:   # four spaces, and a block
        train: digits
        input_size: 16

datasets:
    digits: {role: original}   # the first

    # about the next section
models: {}
imported: {}   # none yet
"""


FEW = ("alexnet", "resnet50", "xception")


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A params.yaml without the preset, whose models are three of the 67, to be quick."""
    whole = presets.load("imagenet")
    small = whole.model_copy(update={"imported": {model: whole.imported[model] for model in FEW}})
    known = presets.load
    monkeypatch.setattr(presets, "load", lambda name: small if name == "imagenet" else known(name))
    path = tmp_path / "params.yaml"
    path.write_text(COMMENTED)
    return path


def test_the_whole_preset_goes_in_and_out_of_the_file_of_this_repository(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    merge.remove(path, "imagenet", force=True)
    before = path.read_bytes()
    assert "1 suite, 2 datasets, 67 imported models added" in merge.add(path, "imagenet")
    assert len(load(path).imported) >= 67
    merge.remove(path, "imagenet")
    assert path.read_bytes() == before


def test_a_preset_with_images_and_votes_goes_in_and_out_of_it_too(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    merge.remove(path, "cifar10", force=True)
    before = path.read_bytes()
    assert "1 suite, 1 dataset added" in merge.add(path, "cifar10")
    assert "already" in merge.add(path, "cifar10")
    held = load(path).datasets["cifar10"]
    files = presets.load("cifar10").files
    assert held.votes["cifar10h"].sha256 == files["votes/cifar10/cifar10h.parquet"]
    assert held.votes["cifar10h"].pooled
    assert "Mechanical Turk" in held.votes["cifar10h"].process
    assert held.images == files["cifar10/thumbnails.parquet"]
    merge.remove(path, "cifar10")
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", [COMMENTED, COMMENTED.rstrip("\n"), COMMENTED.replace("\n", "\r\n")])
def test_out_again_is_as_before_to_the_byte(params: Path, text: str) -> None:
    params.write_bytes(text.encode())
    before = params.read_bytes()
    assert "1 suite, 2 datasets, 3 imported models added" in merge.add(params, "imagenet")
    added = params.read_bytes()
    rest = iter(added.splitlines())
    kept = [line.replace(b"imported: {}", b"imported:") for line in before.splitlines()]
    assert all(line in rest for line in kept), "every line stays, in its order"
    config = load(params)
    assert config.datasets["imagenetv2"].replicates == "imagenet"
    assert config.suites["imagenet"].train is None
    assert list(config.imported) == list(FEW)
    assert len(added.splitlines()) == len(before.splitlines()) + 1 + 2 + 3
    merge.remove(params, "imagenet")
    assert params.read_bytes() == (before if before.endswith(b"\n") else before + b"\n")


def test_twice_is_once(params: Path) -> None:
    merge.add(params, "imagenet")
    before = params.read_bytes()
    assert "holds the preset imagenet already" in merge.add(params, "imagenet")
    assert params.read_bytes() == before


def test_it_joins_imported_models_that_are_there(params: Path) -> None:
    mine = "imported:\n  mine: {suite: digits, origin: me, datasets: {digits: " + "a" * 64 + "}}  # my own\n"
    params.write_text(params.read_text().replace("imported: {}   # none yet\n", mine))
    before = params.read_text()
    merge.add(params, "imagenet")
    assert next(iter(load(params).imported)) == "mine"
    assert len(load(params).imported) == 4
    merge.remove(params, "imagenet")
    assert params.read_text() == before


def change(old: str, new: str) -> Callable[[str], str]:
    def changed(text: str) -> str:
        assert text.count(old) == 1
        return text.replace(old, new)

    return changed


def test_another_value_is_refused_and_named(params: Path) -> None:
    text = change("datasets:\n", "datasets:\n    imagenet: {role: original, suite: digits}\n")(params.read_text())
    params.write_text(text)
    with pytest.raises(BenchError, match=r"params\.yaml: has other values already: datasets\.imagenet\."):
        merge.add(params, "imagenet")
    assert params.read_text() == text


@pytest.mark.parametrize(
    ("old", "new"),
    [("arch: xception", "arch: Xception"), ("{role: replication, replicates: imagenet", "{role: control")],
)
def test_what_the_user_changed_stays_unless_forced(params: Path, old: str, new: str) -> None:
    before = params.read_bytes()
    merge.add(params, "imagenet")
    text = change(old, new)(params.read_text())
    params.write_text(text)
    name = "imported.xception" if "arch" in old else "datasets.imagenetv2"
    with pytest.raises(BenchError, match=rf"were changed since: {name}\.") as caught:
        merge.remove(params, "imagenet")
    assert "--force" in caught.value.remedy
    assert params.read_text() == text
    merge.remove(params, "imagenet", force=True)
    assert params.read_bytes() == before


def test_imported_labels_are_not_lost_but_a_pin_of_pictures_goes(params: Path) -> None:
    before = params.read_bytes()
    merge.add(params, "imagenet")
    merge.set_value(params, "datasets", "imagenet", "images", "1" * 64)
    assert load(params).datasets["imagenet"].images == "1" * 64
    merge.set_value(params, "datasets", "imagenetv2", "labels", {"mine": {"sha256": "2" * 64}})
    merge.set_value(params, "datasets", "imagenetv2", "votes", {"mine": {"sha256": "3" * 64}})
    assert "already" in merge.add(params, "imagenet"), "what was added to its entries is no conflict"
    with pytest.raises(BenchError, match=r"changed since: datasets\.imagenetv2\."):
        merge.remove(params, "imagenet")
    merge.remove(params, "imagenet", force=True)
    assert params.read_bytes() == before


def test_what_still_needs_it_is_named(params: Path) -> None:
    merge.add(params, "imagenet")
    mine = f"  mine: {{suite: imagenet, origin: me, datasets: {{imagenet: {'a' * 64}}}}}\n"
    params.write_text(params.read_text() + mine)
    before = params.read_bytes()
    with pytest.raises(BenchError, match=r"imported\.mine\.suite: 'imagenet' is not declared"):
        merge.remove(params, "imagenet")
    assert params.read_bytes() == before


def test_files_go_only_when_asked(params: Path) -> None:
    folder = params.parent / "fetched" / "imagenet"
    folder.mkdir(parents=True)
    merge.add(params, "imagenet")
    said = merge.remove(params, "imagenet")
    assert "--files" in said
    assert "bench prune" in said
    assert folder.is_dir()
    assert "holds nothing of the preset imagenet" in merge.remove(params, "imagenet", files=True)
    assert not folder.exists()


def test_the_list_says_where_each_preset_stands(params: Path) -> None:
    of = 2 * presets.names().index("imagenet") + 1
    assert "not added; not fetched" in merge.listed(params)[of]
    merge.add(params, "imagenet")
    assert "3 imported models; added; not fetched" in merge.listed(params)[of]
    params.write_text(merge.cut(params.read_text(), "imported", ["xception"]))
    assert "added in part" in merge.listed(params)[of]
    assert "1 imported model added (5 entries were there already)" in merge.add(params, "imagenet")


def test_a_section_that_is_no_block_is_refused(params: Path) -> None:
    entry = "{suite: digits, origin: here, datasets: {digits: " + 64 * "a" + "}}"
    params.write_text(params.read_text().replace("imported: {}", f"imported: {{a: {entry}}}"))
    before = params.read_bytes()
    with pytest.raises(BenchError, match="`imported` is not written as a block"):
        merge.add(params, "imagenet")
    assert params.read_bytes() == before


RUNS = """\
seed: 7
attacks:
    pool: []
    # about the runs
    runs:   # by name
        mine: {dataset: digits}   # the first

regional: {}
detection:
  runs: {}   # none
"""


def test_runs_of_studies_go_into_the_sections_inside_theirs() -> None:
    text = RUNS
    for study in ("attacks", "regional", "objectives", "detection"):
        text = merge.insert(text, f"{study}.runs", {"a": {"x": 1}, "b": {"x": [2]}})
    found = yaml.safe_load(text)
    assert list(found["attacks"]["runs"]) == ["mine", "a", "b"]
    assert found["attacks"]["pool"] == []
    for study in ("regional", "objectives", "detection"):
        assert found[study] == {"runs": {"a": {"x": 1}, "b": {"x": [2]}}}
    assert (
        "        mine: {dataset: digits}   # the first\n        a: {x: 1}\n        b: {x: [2]}\n\nregional:\n" in text
    )
    assert "\ndetection:\n  runs:   # none\n    a: {x: 1}\n" in text
    text = merge.insert(text, "regional.runs", {"c": {}})
    assert list(yaml.safe_load(text)["regional"]["runs"]) == ["a", "b", "c"]
    for study in ("attacks", "regional", "objectives", "detection"):
        text = merge.cut(text, f"{study}.runs", ["a", "b", "c"])
    assert yaml.safe_load(text)["regional"] == {"runs": {}}
    assert text.startswith(RUNS[: RUNS.index("regional")])
    assert "detection:\n  runs: {}   # none\n" in text
    with pytest.raises(BenchError, match=r"`regional\.runs` is not written as a block"):
        merge.insert("regional:\n  runs: {a: {}}\n", "regional.runs", {"b": {}})


def test_the_preset_of_attacks_needs_its_networks_and_goes_out_again(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    for name in ("cifar10-attacks", "cifar10-zoo", "cifar10-resnets", "cifar10"):
        merge.remove(path, name, force=True)
    with pytest.raises(BenchError, match=r"needs the preset cifar10\."):
        merge.add(path, "cifar10-attacks")
    for name in ("cifar10", "cifar10-resnets"):
        merge.add(path, name)
    before = path.read_bytes()
    assert "1 attack, 1 regional run, 1 objectives run, 1 detection run added" in merge.add(path, "cifar10-attacks")
    config = load(path)
    assert config.attack_runs["cifar10-pgd40"].n_images == 2000
    assert config.attack_pool("cifar10") == list(config.regional.runs["cifar10"].models)
    assert "already" in merge.add(path, "cifar10-attacks")
    with pytest.raises(BenchError, match="runs on one dataset attack the same images"):
        merge.add(path, "cifar10-zoo")
    merge.remove(path, "cifar10-attacks")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "entry",
    [
        "  d: {role: original}\n",
        "  d: {}\n",
        "  d:\n    role: original   # said\n",
        "  d: {role: original, images: x}  # c\n",
    ],
)
def test_a_value_is_set_in_place(tmp_path: Path, entry: str) -> None:
    text = f"# top\ndatasets:\n{entry}  e: {{role: control}}\n\n# end\nseed: 1\n"
    node = yaml.compose(text, Loader=yaml.SafeLoader).value[0][1].value[0][1]
    changed = merge._with_value(text, node, "images", "0123")
    assert yaml.safe_load(changed)["datasets"]["d"]["images"] == "0123"
    other = [line for line in changed.splitlines() if "images" not in line]
    assert all(line in text.splitlines() for line in other)
    assert changed.endswith("\n  e: {role: control}\n\n# end\nseed: 1\n")


def test_an_unknown_preset_names_the_known(params: Path) -> None:
    with pytest.raises(BenchError, match=r"no preset 'imagent' to add.*imagenet"):
        merge.add(params, "imagent")
    assert presets.names() == [
        "cifar10",
        "cifar10-attacks",
        "cifar10-resnets",
        "cifar10-zoo",
        "cifar10.1",
        "cifar10.2",
        "cifar10n",
        "fundus",
        "imagenet",
        "imagenet-lite",
    ]
