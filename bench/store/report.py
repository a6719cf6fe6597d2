"""The headline table, in plain text, from results/bench.duckdb."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

from bench.config import Config
from bench.progress import TIMINGS
from bench.store import database

if TYPE_CHECKING:
    import duckdb

WIDTH = 120

_HEADLINE = """
SELECT m.model, m.family,
       t.value, t.ci_low, t.ci_high, k.rank, count(*) OVER (PARTITION BY k.rank) AS sharing,
       g.gap_pp, g.ci_low, g.ci_high,
       a.value, a.ci_low, a.ci_high,
       y.gap_pp, y.ci_low, y.ci_high,
       p.accuracy, NULL, NULL,
       r.value, r.ci_low, r.ci_high
FROM models m
JOIN metrics t ON t.model = m.model AND t.dataset = $original AND t.condition = 'clean' AND t.subset = 'all'
              AND t.label_source = 'original' AND t.metric = 'top1'
LEFT JOIN ranks k ON k.model = m.model AND k.dataset = $original AND k.condition = 'clean'
                 AND k.label_source = 'original'
LEFT JOIN replication g ON g.model = m.model AND g.original = $original AND g.replication = $other AND g.rule = 'R0'
                       AND g.scoring = 'top1'
LEFT JOIN replication y ON y.model = m.model AND y.original = $original AND y.replication = $other AND y.rule = 'R0'
                       AND y.scoring = 'any_of'
LEFT JOIN metrics a ON a.model = m.model AND a.dataset = $original AND a.condition = 'clean' AND a.subset = 'all'
                   AND a.label_source = y.labels_original AND a.metric = 'any_of'
LEFT JOIN representations p ON p.model = m.model AND p.dataset = $original
    AND p.probe = 'linear' AND p.label_source = 'original' AND p.label_noise = 0
                           AND p.labels_per_class = 0
LEFT JOIN metrics r ON r.model = m.model AND r.dataset = $original AND r.condition = $attack
                   AND r.subset = 'attack' AND r.label_source = 'original' AND r.metric = 'robust_accuracy'
ORDER BY t.value DESC, m.model
"""
_COLUMNS = ("gap", "any-of", "gap by any-of", "linear probe", "robust")
"""What stands right of the rank; a column that no model has a value in is left out."""


def run(config: Config, *, times: bool = False) -> None:
    """Print the headline table of every suite, with `times` also the seconds of each stage's last run."""
    import duckdb

    with duckdb.connect() as connection:
        path = str(database.ensure(config)).replace("'", "''")
        connection.execute(f"ATTACH '{path}' AS bench (READ_ONLY)")
        connection.execute("USE bench")
        for suite in config.suites:
            print(headline(config, connection, suite))
    if times:
        print(timings(config))


def headline(config: Config, connection: duckdb.DuckDBPyConnection, suite: str) -> str:
    """The models of a suite on its original dataset, best first, as lines of at most 120 columns."""
    original = config.original_of(suite)
    other = next((n for n, d in config.datasets.items() if d.replicates == original and d.role != "control"), "")
    attack = _attack(config, original)
    parameters = {"original": original, "other": other, "attack": attack}
    rows = connection.execute(_HEADLINE, parameters).fetchall()
    about = connection.execute("SELECT n_test, n_classes FROM datasets WHERE dataset = ?", [original]).fetchone()
    n_test, n_classes = about or (0, 1)
    confidence = f"{config.statistics.confidence:.0%}"
    shown = [i for i in range(len(_COLUMNS)) if any(row[7 + 3 * i] is not None for row in rows)]
    names = [_COLUMNS[i] for i in shown]
    notes = {
        "gap": f"gap: {original} minus {other} ({config.datasets[other].role} set), percentage points" if other else "",
        "any-of": "any-of: any label of a further source counts as right",
        "robust": f"robust: right before and after {attack}",
    }
    said = "; ".join(text for name, text in notes.items() if name in names)
    lines = [
        f"{original}: {n_test:,} test images, top-1 in % with {confidence} intervals; chance is {1 / n_classes:.1%}.",
        *textwrap.wrap(f"{said}." if said else "", WIDTH, initial_indent="  ", subsequent_indent="  "),
        "  '=' before a rank: shared, these cannot be told apart; '-': not measured.",
        "",
    ]
    cells = [["model", "family", "top-1", "rank", *names], *(_cells(row, shown) for row in rows)]
    widths = [max(map(len, column)) + 2 for column in zip(*cells, strict=True)]
    lines += ["".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    return "\n".join(lines) + "\n"


def latest_seconds(config: Config) -> dict[str, float]:
    """Seconds of the last run here of each stage that params.yaml declares, slowest first."""
    path = config.results / TIMINGS
    lines = path.read_text().splitlines() if path.is_file() else []
    latest = {entry["stage"]: entry["seconds"] for entry in map(json.loads, lines)}
    current = {
        stage: seconds
        for stage, seconds in latest.items()
        if (model := stage.partition(" ")[2]) == "" or model in config.models
    }
    return dict(sorted(current.items(), key=lambda item: (-item[1], item[0])))


def timings(config: Config) -> str:
    """`latest_seconds` in two columns, and their sum."""
    current = latest_seconds(config)
    if not current:
        return "No stage ran here: these results were pulled."
    cells = [f"{stage:<30}{seconds:>7.1f} s" for stage, seconds in current.items()]
    rows = ["   ".join(cells[i : i + 2]) for i in range(0, len(cells), 2)]
    return "\n".join(["Seconds of each stage's last run here:", *rows, f"{'sum':<30}{sum(current.values()):>7.1f} s"])


def _attack(config: Config, dataset: str) -> str:
    """The condition of the weakest declared attack on `dataset`, `` where there is none."""
    runs = [(attack.eps_255, name) for name, attack in config.attack_runs.items() if attack.dataset == dataset]
    return f"attack:{runs[0][1]}:{min(runs[0][0]):g}" if runs else ""


def _cells(row: tuple[Any, ...], shown: list[int]) -> list[str]:
    """One row of _HEADLINE in words; of _COLUMNS only those shown."""
    model, family, top1, low, high, rank, sharing = row[:7]
    cells = [model, family, _percent(top1, low, high), "-" if rank is None else f"{'=' if sharing > 1 else ''}{rank}"]
    for i in shown:
        says = _points if _COLUMNS[i].startswith("gap") else _percent
        cells.append(says(*row[7 + 3 * i : 10 + 3 * i]))
    return cells


def _percent(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    interval = "" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{100 * value:.1f}{interval}"


def _points(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:+.1f}" + ("" if low is None or high is None else f" [{low:.1f}, {high:.1f}]")
