"""A PostgreSQL of its own for a test session, from the system's binaries; skipped where it cannot be started."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    plain = shutil.which("initdb")
    return found[-1].parent if found else Path(plain).parent if plain else None


def _user() -> str | None:
    """Whom the server runs as: it refuses to be root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    pytest.skip("PostgreSQL does not run as root, and there is no other user")


@pytest.fixture(scope="session")
def _server() -> Iterator[int]:
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL on this machine (Debian package postgresql)")
    user = _user()
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp", ignore_cleanup_errors=True) as folder:
        if user:
            shutil.chown(folder, user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]

        def run(*command: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [str(binaries / command[0]), *command[1:]],
                cwd=folder,
                user=user,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            )

        made = run("initdb", "-D", f"{folder}/data", "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync")
        if made.returncode:
            pytest.skip(f"PostgreSQL cannot be set up: {made.stdout.strip().splitlines()[-1]}")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c max_connections=200"
        started = run("pg_ctl", "-D", f"{folder}/data", "-o", options, "-w", "-l", f"{folder}/log", "start")
        if started.returncode:
            pytest.skip(f"PostgreSQL cannot be started: {started.stdout.strip().splitlines()[-1]}")
        try:
            yield port
        finally:
            run("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")


_made = 0


@pytest.fixture
def postgres_url(_server: int) -> str:
    """The address of an empty database."""
    import psycopg

    global _made
    _made += 1
    name = f"votes{_made}"
    with psycopg.connect(f"postgresql://tester@127.0.0.1:{_server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # pyright: ignore[reportArgumentType]
    return f"postgresql+psycopg://tester@127.0.0.1:{_server}/{name}"
