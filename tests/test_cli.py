"""The command line: fast, and every failure is one message with the right exit status."""

from __future__ import annotations

import ast
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import cli, progress, serve
from bench.config import Config
from bench.errors import BenchError
from bench.store import database
from tests import factory

ROOT = Path(__file__).parents[1]


def bench(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    command = [sys.executable, "-m", "bench.cli", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_products_do_not_go_by_the_number_of_processors() -> None:
    """numpy's and scipy's, by which the bytes of results would change; torch has threads of its own."""
    code = "import bench.cli, numpy, scipy.linalg, threadpoolctl as pools\n"
    code += "print([one['num_threads'] for one in pools.threadpool_info() if one['user_api'] == 'blas'])"
    environment = os.environ | {"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    found = ast.literal_eval(done.stdout)
    assert found
    assert set(found) == {1}


def test_help_names_every_command_and_is_quick() -> None:
    bench("--help")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = bench("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    for command in ("index", "train", "predict", "database", "report", "prune", "serve", "snapshot", "data"):
        assert command in done.stdout
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 1.0


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, bench.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "pandas", "numpy", "timm", "duckdb", "pyarrow", "streamlit"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "pixel"], "no 'pixel' under `models` (did you mean 'pixels'?)"),
        (["data", "build", "digit"], "there is no preset 'digit'"),
        (["attack", "--shard", "3/2"], "'3/2' is no share"),
        (["report"], "results"),
        (["snapshot", "open", "nothing"], "no release, tag or commit 'nothing'"),
    ],
)
def test_a_fault_is_one_message(tmp_path: Path, arguments: list[str], said: str) -> None:
    factory.make_config(tmp_path)
    done = bench(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("bench: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_outside_a_repository_it_says_where_to_go(tmp_path: Path) -> None:
    done = bench("index", cwd=tmp_path)
    assert done.returncode == 1
    assert "Run `bench` in the root of the repository" in done.stderr


def test_wrong_usage_has_its_own_status() -> None:
    assert bench("train").returncode == 2
    assert bench("nonsense").returncode == 2


def test_ctrl_c_is_status_130_and_no_traceback(tmp_path: Path) -> None:
    """A command that waits on a pipe for its params.yaml is interrupted while it waits."""
    os.mkfifo(tmp_path / "params.yaml")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.cli", "index"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    writer = os.open(tmp_path / "params.yaml", os.O_WRONLY)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    os.close(writer)
    assert process.returncode == 130
    assert said.startswith("bench: stopped")
    assert "Traceback" not in said


def test_a_stage_logs_one_line_and_its_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="bench"):
        progress.stage("count", lambda: {"things": 1234, "others": 5}, tmp_path)
    assert [record.message.rsplit(" in ")[0] for record in caplog.records] == ["count: 1,234 things, 5 others"]
    assert '"stage": "count"' in (tmp_path / progress.TIMINGS).read_text()


def test_bars_are_quiet_and_lose_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.bar(range(5), "five")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""


def test_an_empty_error_message_is_never_printed() -> None:
    assert str(BenchError("is wrong.", where="a.txt", remedy="Mend it.")) == "a.txt: is wrong. Mend it."
    assert str(BenchError("is wrong.")) == "is wrong."


def test_serve_becomes_streamlit_on_a_database_that_is_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = factory.make_all(tmp_path)
    database.run(config)
    (config.results / database.FILE).unlink()
    called = []
    monkeypatch.setattr(os, "execv", lambda path, arguments: called.append(arguments))
    monkeypatch.setattr(os, "chdir", lambda path: None)
    serve.run(config, 8599)
    assert (config.results / database.FILE).is_file()
    assert called[0][1:4] == ["-m", "streamlit", "run"]
    assert called[0][-2:] == ["--server.port", "8599"]
    assert os.environ.pop("BENCH_ROOT") == str(config.root)


def test_serve_without_results_or_release_says_what_to_run(tmp_path: Path) -> None:
    config: Config = factory.make_config(tmp_path)
    with pytest.raises(BenchError, match=r"there are no results.*make repro"):
        serve.prepare(config)


def test_serve_shows_earlier_results_where_the_new_ones_are_not_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = factory.make_all(tmp_path)
    database.run(config)
    (config.results / "ranks.parquet").unlink()
    serve.prepare(config)
    assert "earlier results" in capsys.readouterr().err


def test_every_command_says_what_it_does() -> None:
    for app in (cli.app, cli.data_app, cli.snapshot_app):
        assert all(command.callback and command.callback.__doc__ for command in app.registered_commands)
