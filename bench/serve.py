"""`bench serve`: a database that is up to date, then the dashboard."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import typer

from bench.config import Config
from bench.errors import BenchError
from bench.store import database, snapshot


def run(config: Config, port: int) -> NoReturn:
    """Pull the released results where there are none, build the database where it is stale, and become Streamlit.

    This process is replaced, so Ctrl-C and every other signal reach Streamlit itself. Raises BenchError where there are
    neither results nor a release to pull.
    """
    prepare(config)
    spec = find_spec("dashboard")
    if spec is None or spec.origin is None:
        raise BenchError("the package `dashboard` is not installed.", remedy="Run `make setup`.")
    app = Path(spec.origin).with_name("app.py")
    os.environ["BENCH_ROOT"] = str(config.root)
    arguments = ["-m", "streamlit", "run", str(app), "--server.port", str(port)]
    os.chdir(config.root)
    os.execv(sys.executable, [sys.executable, *arguments])


def prepare(config: Config) -> None:
    """Bring results/bench.duckdb up to date, from the release if nothing was computed here."""
    if not (config.results / database.HASHES).is_file():
        pull(config)
    try:
        if reason := database.stale(config):
            typer.echo(f"Building results/{database.FILE}: {reason}.", err=True)
            database.build(config)
    except BenchError as fault:
        if not (config.results / database.FILE).is_file():
            raise
        typer.secho(f"The dashboard shows earlier results. {fault}", fg="yellow", err=True)
    try:
        snapshot.open_aggregates(config)
    except BenchError as fault:
        typer.secho(f"A released snapshot cannot be shown: {fault}", fg="yellow", err=True)


def pull(config: Config) -> None:
    """`dvc pull` of the released results; a BenchError where there are none or it fails."""
    if not (config.root / "dvc.lock").is_file():
        raise BenchError("there are no results.", where=config.results, remedy="Run `make repro` to compute them.")
    typer.echo("No results here yet: pulling the released ones (`dvc pull`).", err=True)
    command = [sys.executable, "-m", "dvc", "pull", "--quiet"]
    if subprocess.run(command, cwd=config.root, check=False).returncode:
        raise BenchError(
            "the released results could not be pulled; see the message above.",
            where=config.results,
            remedy="Run `make repro` to compute them.",
        )
