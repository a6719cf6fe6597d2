"""`bench data check`: every verdict both ways on small sets whose differences are known, and the command."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats as distributions
from typer.testing import CliRunner

from bench import cli, stats
from bench import config as configuration
from bench.data import pair, pictures, samples
from bench.errors import BenchError
from tests.data.conftest import META
from tests.data.pairs import CHECKS, SIDE, K, N, checked, declared, encode, noise, put, said, without_pictures


def test_two_sets_of_a_kind_differ_in_nothing(tmp_path: Path) -> None:
    put(tmp_path, "one", noise(seed=1))
    put(tmp_path, "two", noise(seed=2))
    found = checked(tmp_path)
    assert {name: finding.verdict for name, finding in found.items()} == {
        "balance": "both sets are balanced; class shares do not differ (chi-square p = 1)",
        "duplicates": "no images of two share a source, none have the same pixels; no near duplicates",
        "encoding": "same size, mode, media type, brightness and contrast",
        "labels": "same label space; no shared images",
    }
    assert not any(finding.differs for finding in found.values())
    assert "one 24 test images, 3 classes: 8 of each (balanced)" in said(found["balance"])
    assert "both 48 x 48 pixels" in said(found["encoding"])
    text = pair.check(declared(tmp_path), "one", "two").text()
    lines = text.splitlines()
    assert lines[0] == "one (original) and two (replication): the test images of both"
    assert [line.split(":")[0] for line in lines[1:6]] == [*CHECKS, "checks that found something"]
    assert lines[5].endswith(": none")


# Balance


def test_an_imbalanced_set_names_its_classes_and_what_to_do(tmp_path: Path) -> None:
    put(tmp_path, "one", noise(30))
    put(tmp_path, "two", noise(31, seed=2))
    found = checked(tmp_path)["balance"]
    assert found.differs
    assert found.verdict.startswith("one is balanced, two is imbalanced (10 to 11 images a class); class shares do not")
    assert "smallest 10 ('b', 'c'), largest 11 ('a') (imbalanced)" in said(found)
    assert "class-balanced accuracy" in said(found)
    assert "most apart: 'a', 33.3 % of one and 35.5 % of two; 2.2 % of the images" in said(found)


def test_class_shares_that_differ_beyond_chance_are_found(tmp_path: Path) -> None:
    put(tmp_path, "one", noise(60))
    put(tmp_path, "two", noise(60, seed=2), labels=np.repeat([0, 1, 2], [40, 10, 10]))
    found = checked(tmp_path)["balance"]
    expected = distributions.chi2_contingency([[20, 20, 20], [40, 10, 10]], correction=False)[1]
    assert f"class shares differ (chi-square p = {expected:.2g})" in found.verdict
    assert "'a', 33.3 % of one and 66.7 % of two; 33.3 % of the images" in said(found)


def test_few_images_are_tested_by_permutation(tmp_path: Path) -> None:
    put(tmp_path, "one", noise(6))
    put(tmp_path, "two", noise(6, seed=2), labels=np.array([0, 0, 0, 0, 0, 1]))
    found = checked(tmp_path)["balance"]
    assert re.search(r"class shares do not differ \(permutation p = 0\.\d+\)", found.verdict)
    assert "expected count is 1, too small (< 5)" in said(found)
    assert "1 class has images in one set only" in found.verdict
    assert "one set only two has no image of 'c'; the other set has" in said(found)
    assert "; 1 class without an image" in said(found)


# Encoding


def test_png_against_jpeg(tmp_path: Path) -> None:
    put(tmp_path, "one", noise(seed=1))
    put(tmp_path, "two", noise(seed=2))
    encode(tmp_path, "two", quality=85)
    found = checked(tmp_path)["encoding"]
    assert found.differs
    assert found.verdict == "media type differs; same size, mode, brightness and contrast"
    assert "media type one image/png 100.0 %, two image/jpeg 100.0 %" in said(found)
    assert "one none is a JPEG, two median 85, range 85 to 85 (24 images)" in said(found)


@pytest.mark.parametrize(("qualities", "differs"), [((90, 60), True), ((75, 75), False), ((75, 77), False)])
def test_two_qualities_of_jpeg(tmp_path: Path, qualities: tuple[int, int], differs: bool) -> None:
    for seed, (name, quality) in enumerate(zip(("one", "two"), qualities, strict=True)):
        put(tmp_path, name, noise(seed=seed + 1))
        encode(tmp_path, name, mode="RGB", quality=quality)
    found = checked(tmp_path)["encoding"]
    assert found.differs == differs
    assert found.verdict.startswith("JPEG quality differs" if differs else "same size, mode, media type, JPEG quality")
    assert "both colour (RGB)" in said(found)


def test_tables_of_another_family_are_counted(tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "two")):
        put(tmp_path, name, noise(seed=seed + 1))
        encode(tmp_path, name, qtables=[[16] * 64])
    assert "(24 images, 24 with tables of another kind)" in said(checked(tmp_path)["encoding"])


def test_shares_of_media_types_may_differ_by_chance_but_not_by_more(tmp_path: Path) -> None:
    for seed, (name, every) in enumerate((("one", 2), ("two", 3))):
        put(tmp_path, name, noise(seed=seed + 1))
        encode(tmp_path, name, every=every)
    found = checked(tmp_path)["encoding"]
    assert "media type" not in found.verdict.split("same")[0]
    assert "two image/png 66.7 % and image/jpeg 33.3 %" in said(found)
    encode(tmp_path, "one", every=1)
    encode(tmp_path, "one", every=12, format="PNG")
    assert checked(tmp_path)["encoding"].verdict.startswith("media type differs")


def test_brightness_and_contrast_are_found_where_the_processing_differs(tmp_path: Path) -> None:
    images = noise(seed=1)
    put(tmp_path, "one", images)
    put(tmp_path, "two", (noise(seed=2) * 0.6).astype(np.uint8))
    found = checked(tmp_path)["encoding"]
    assert found.verdict == "brightness and contrast differ; same size, mode and media type"
    mean, deviation = images.mean() / 255, images.std() / 255
    assert f"one mean {mean:.3f}, standard deviation {deviation:.3f}" in said(found)


def test_uniform_sets_differ_in_brightness_without_a_spread_to_judge_by(tmp_path: Path) -> None:
    put(tmp_path, "one", np.full((3, 8, 8), 10, np.uint8))
    put(tmp_path, "two", np.full((3, 8, 8), 200, np.uint8))
    found = checked(tmp_path)
    assert found["encoding"].verdict.startswith("brightness differs; same size")
    assert "0.039 and 0.784 on average; the same for all images of a set" in said(found["encoding"])


# Labels


def test_relabelled_images_of_one_source_are_counted_with_an_interval(tmp_path: Path) -> None:
    labels = np.arange(N) % K
    given = labels.copy()
    given[:2] = (given[:2] + 1) % K
    put(tmp_path, "one", noise())
    put(tmp_path, "two", noise(), labels=given, source_ids=[f"one/o{row:03d}" for row in range(N)])
    found = checked(tmp_path)["labels"]
    assert found.differs
    assert found.verdict == "same label space; 2 of 24 (8.3 % [2.3, 25.8]) shared images have another original label"
    assert "two/t000 is 'b', one/o000 is 'a'" in said(found)
    put(tmp_path, "two", noise(), source_ids=[f"one/o{row:03d}" for row in range(N)])
    found = checked(tmp_path)["labels"]
    assert not found.differs
    assert "0 of 24 (0.0 % [0.0, 13.8]) shared images have another original label" in found.verdict


def test_relabelled_images_are_found_by_their_pixels_too(tmp_path: Path) -> None:
    put(tmp_path, "one", noise()[[0, 1, 2, 2]], labels=np.array([0, 1, 2, 0]))
    put(tmp_path, "two", noise()[:3], labels=np.array([1, 1, 0]))
    found = checked(tmp_path)["labels"]
    assert "; 1 of 3 (33.3 % [6.1, 79.2]) shared images have another original label" in found.verdict
    assert "two/t000 is 'b', one/o000 is 'a'" in said(found)


def test_more_relabelled_images_than_are_shown_are_counted(tmp_path: Path) -> None:
    put(tmp_path, "one", noise())
    put(tmp_path, "two", noise(), labels=(np.arange(N) + 1) % K)
    assert "and 19 more" in said(checked(tmp_path)["labels"])


def test_label_sources_are_described_each(tmp_path: Path) -> None:
    put(tmp_path, "one", noise(seed=1))
    refined = [[] if row < 2 else [row % K] if row < 18 else [(row + 1) % K, (row + 2) % K] for row in range(N)]
    put(tmp_path, "two", noise(seed=2), extra={"refined": refined})
    found = checked(tmp_path)["labels"]
    assert found.differs
    assert found.verdict == "same label space; label sources differ; no shared images"
    assert "besides `original`: one none, two `refined`" in said(found)
    assert (
        "two `refined`: two or more labels 6 of 24 (25.0 % [12.0, 44.9]); none 2 of 24 (8.3 % [2.3, 25.8]); the "
        "original label among them 16 of 24 (66.7 % [46.7, 82.0])" in said(found)
    )
    put(tmp_path, "one", noise(seed=1), extra={"refined": refined})
    assert not checked(tmp_path)["labels"].differs


SPACES: dict[str, tuple[dict[str, object], str, str]] = {
    "another name": ({"label_space": "abc2"}, "same classes;", "one `abc`, two `abc2`; the same 3 classes"),
    "another order": ({"classes": ["b", "a", "c"]}, "the order of the classes differs;", "means another class"),
    "other classes": ({"classes": ["a", "b", "d"]}, "label spaces differ;", "only two has 1 of its 3 classes: 'd'"),
    "no common class": ({"classes": ["x", "y", "z"]}, "label spaces differ;", "0 classes are in both"),
}


@pytest.mark.parametrize("space", SPACES)
def test_label_spaces_are_compared_by_name(tmp_path: Path, space: str) -> None:
    changes, verdict, detail = SPACES[space]
    put(tmp_path, "one", noise())
    put(tmp_path, "two", noise(), meta=META.model_copy(update=changes))
    found = checked(tmp_path)
    assert found["labels"].verdict.startswith(verdict)
    assert detail in said(found["labels"])
    assert found["labels"].differs == (space != "another name")
    # the images are the same and so are the indices of their classes, but not always the classes
    wrong = {"another name": 0, "another order": 16, "other classes": 8, "no common class": 24}[space]
    assert f"; {wrong} of 24 (" in found["labels"].verdict
    assert ("not compared" in said(found["balance"])) == (space == "no common class")


@pytest.mark.parametrize("names", [["one"], ["two"], ["one", "two"]])
def test_sets_without_pictures_get_the_other_checks(tmp_path: Path, names: list[str]) -> None:
    put(tmp_path, "one", noise())
    put(tmp_path, "two", noise(), labels=np.arange(N) % 2, source_ids=[f"one/o{row:03d}" for row in range(N)])
    for name in names:
        without_pictures(tmp_path, name)
    found = checked(tmp_path)
    assert found["balance"].verdict.startswith("one is balanced, two is imbalanced (0 to 12 images a class)")
    assert found["duplicates"].verdict == "24 of 24 images of two share a source; pixels and hashes need pictures"
    assert found["duplicates"].differs
    assert found["encoding"].verdict == "not checked: it needs pictures"
    assert not found["encoding"].differs
    lacking = "one and two come" if len(names) == 2 else f"{names[0]} comes"
    assert f"{lacking} without pictures, which this check needs." in said(found["encoding"])
    assert "of 24 (66.7 %" in found["labels"].verdict


# All checks


def test_one_image_each_has_no_spread_and_no_others(tmp_path: Path) -> None:
    put(tmp_path, "one", noise(1))
    put(tmp_path, "two", noise(1, seed=2))
    found = checked(tmp_path)
    assert "have one within one itself (0 others)" in said(found["duplicates"])
    put(tmp_path, "two", noise(1, side=40))
    assert "1 image has a near duplicate, above the base rate" in checked(tmp_path)["duplicates"].verdict


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    levels=st.integers(1, 3),
    side=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_no_set_is_too_poor_to_be_told_about(
    tmp_path: Path, sizes: tuple[int, int], levels: int, side: int, seed: int
) -> None:
    """Tiny, uniform, repeated, unlabelled: `checked` refuses a NaN."""
    rng = np.random.default_rng(seed)
    for name, n in zip(("one", "two"), sizes, strict=True):
        images = 100 * rng.integers(0, levels, (n, side, side)).astype(np.uint8)
        put(tmp_path, name, images, labels=rng.integers(0, K, n), extra={"none": [[]] * (n - 1) + [[0]]})
    checked(tmp_path)


def test_parts_make_no_difference_and_the_text_is_the_same_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "one", noise())
    put(tmp_path, "two", np.concatenate([noise(9, seed=2), noise(6)]), labels=np.zeros(15, int))
    encode(tmp_path, "two", quality=60, every=2)
    config = declared(tmp_path)
    text = pair.check(config, "one", "two").text()
    monkeypatch.setattr(pictures, "_PIXELS_AT_ONCE", 4 * SIDE * SIDE)
    monkeypatch.setattr(stats, "_CELLS_AT_ONCE", 400)
    monkeypatch.setattr(pictures, "_CELLS_AT_ONCE", 40)
    assert pair.check(config, "one", "two").text() == text
    code = "import sys; from bench import config; from bench.data import pair; "
    code += "assert 'imagehash' not in sys.modules and 'scipy.stats' not in sys.modules; "
    code += "print(pair.check(config.load(), 'one', 'two').text())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == text + "\n"


def test_what_a_terminal_takes_for_a_command_is_not_printed(tmp_path: Path) -> None:
    put(tmp_path, "one", noise())
    put(
        tmp_path,
        "two",
        noise(),
        meta=META.model_copy(update={"label_space": "\x1b[31mabc", "classes": ["a", "\x07", "c"]}),
    )
    text = pair.check(declared(tmp_path), "one", "two").text()
    assert all(line.isprintable() for line in text.splitlines())


# The command


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    declared(tmp_path)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli.app, ["data", "check", *words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output

    return run


def test_the_command_fails_only_where_it_is_asked_to(tmp_path: Path, command: Callable[..., tuple[int, str]]) -> None:
    put(tmp_path, "one", noise(seed=1))
    put(tmp_path, "two", noise(seed=2))
    status, text = command("one", "two")
    assert (status, text) == (0, pair.check(configuration.load(), "one", "two").text() + "\n")
    assert command("one", "two", "--strict") == (0, text)
    put(tmp_path, "two", noise(seed=2)[:-1])
    status, text = command("one", "two")
    assert status == 0
    assert "checks that found something: balance" in text
    assert command("one", "two", "--strict") == (1, text)
    with pytest.raises(BenchError, match="did you mean 'two'"):
        command("one", "twoo")
    with pytest.raises(BenchError, match="given twice"):
        command("two", "two", "--strict")


@pytest.mark.parametrize("check", CHECKS)
def test_each_check_alone_makes_strict_fail(
    tmp_path: Path, command: Callable[..., tuple[int, str]], check: str
) -> None:
    labels = np.arange(N) % K
    other: dict[str, object] = {
        "balance": {"labels": np.where(labels == 0, 1, labels)},
        "duplicates": {"source_ids": ["one/o000", *(f"two/t{row:03d}" for row in range(1, N))]},
        "encoding": {"images": noise(seed=2, side=40)},
        "labels": {"extra": {"mine": [[0]] * N}},
    }[check]
    put(tmp_path, "one", noise(seed=1))
    put(tmp_path, "two", **{"images": noise(seed=2), **other})  # pyright: ignore[reportArgumentType]
    status, text = command("one", "two", "--strict")
    assert status == 1
    assert f"checks that found something: {check}\n" in text


def test_the_sets_here_are_told_as_they_were_made() -> None:
    """On the data of this repository: 5 % of the labels of digits-noisy are replaced, the null halves share nothing."""
    root = Path(__file__).parents[2]
    if not (root / "data" / "digits" / samples.SAMPLES).is_file():
        pytest.skip("the data is not here: dvc pull data.dvc")
    config = configuration.load(root / "params.yaml")
    noisy = pair.check(config, "digits", "digits-noisy")
    assert "50 of 1,000 (5.0 % [3.8, 6.5]) shared images have another original label" in noisy.findings[3].verdict
    assert (
        "1,000 of 1,000 images of digits-noisy share a source, 1,000 have the same pixels" in noisy.findings[1].verdict
    )
    assert pair.check(config, "digits-null-a", "digits-null-b").found == []
    assert pair.check(config, "digits", "digits-harder").found == ["duplicates"]
