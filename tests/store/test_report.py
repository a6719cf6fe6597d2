"""The headline says what the tables say, within 120 columns."""

from __future__ import annotations

import json

import pytest

from bench.config import Config
from bench.store import report, tables


def test_the_headline_holds_the_stored_figures(own: Config, capsys: pytest.CaptureFixture[str]) -> None:
    (own.results / ".timings.jsonl").write_text(
        "\n".join(
            json.dumps({"stage": stage, "seconds": seconds})
            for stage, seconds in [("index", 9.0), ("train pixels", 1.5), ("train gone", 7.0), ("index", 2.0)]
        )
    )
    report.run(own, times=True)
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert max(map(len, lines)) <= report.WIDTH
    metrics = tables.read("metrics", own.results / "metrics.parquet")
    gaps = tables.read("replication", own.results / "replication.parquet")
    ranks = tables.read("ranks", own.results / "ranks.parquet")
    for model in [*own.models, *own.uncertainty.ensembles]:
        line = next(line for line in lines if line.startswith(f"{model} "))
        top1 = metrics.query("model == @model and dataset == 'digits' and condition == 'clean' and metric == 'top1'")
        top1 = top1.query("subset == 'all' and label_source == 'original'").iloc[0]
        assert f"{100 * top1['value']:.1f} [{100 * top1['ci_low']:.1f}, {100 * top1['ci_high']:.1f}]" in line
        gap = gaps.query("model == @model and original == 'digits' and replication == 'optdigits'").iloc[0]
        assert f"{gap['gap_pp']:+.1f} [" in line
        rank = ranks.query("model == @model and dataset == 'digits' and condition == 'clean'").iloc[0]["rank"]
        assert f" {rank} " in line or f"={rank} " in line
    assert "chance is 10.0%" in said
    assert "shifted set" in said
    assert "sum                               3.5 s" in said
    assert "gone" not in said


def test_results_that_were_pulled_have_no_times(own: Config) -> None:
    assert "pulled" in report.timings(own)


def test_a_column_without_values_is_left_out(own: Config, capsys: pytest.CaptureFixture[str]) -> None:
    datasets = {name: d for name, d in own.datasets.items() if d.role not in ("shifted", "replication")}
    report.run(own.model_copy(update={"datasets": datasets}))
    lines = capsys.readouterr().out.splitlines()
    header = next(line for line in lines if line.startswith("model "))
    assert header.split()[-3:] == ["linear", "probe", "robust"]
    assert "gap" not in header
    assert next(line for line in lines if line.startswith("pixels ")).split()[-2:] == ["85.0", "-"]
