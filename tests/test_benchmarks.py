"""The command that runs the benchmarks; the benchmarks themselves are run by `make benchmarks`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks


def test_every_benchmark_is_listed_and_is_there() -> None:
    folder = Path(benchmarks.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"} == set(benchmarks.MODULES)


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmarks.main(["nonsense"]) == 2
    assert "There is no benchmark nonsense" in capsys.readouterr().err


def test_figures_stand_beside_their_targets_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path)
    result = {"ratio": 4.5, "target_ratio": 4.0, "rounds": 3, "each": {"a": 1}, "met": False}
    assert benchmarks.table("speed", result).splitlines() == [
        "speed: NOT MET",
        "  ratio                                4.5   target 4.0",
        "  rounds                                 3",
    ]
    benchmarks.write("speed", result)
    written = json.loads((tmp_path / "speed.json").read_text())
    assert {key: written[key] for key in result} == result
    assert "torch" in written["versions"]
