"""A real server on small results, and Chromium to look at it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench.config import Config
from bench.store import database
from tests import factory

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
APP = Path(__file__).parents[2] / "dashboard" / "app.py"
WAIT_MS = 60_000
MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium on this machine"),
]


@dataclass
class Server:
    """The dashboard on the results under `root`, at a port that stays when it is started again."""

    root: Path
    port: int
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = ["--server.port", str(self.port), "--server.address", "127.0.0.1", "--server.fileWatcherType", "none"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", str(APP), *options],
            cwd=APP.parents[1],
            env=os.environ | {"BENCH_ROOT": str(self.root)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1)
                return
            except OSError:
                time.sleep(0.5)
        raise TimeoutError(self.url)

    def kill(self) -> None:
        """SIGKILL: it has no time to finish anything."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)


@contextmanager
def serving(root: Path) -> Iterator[Server]:
    """A server on the results under `root`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(root, port)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(20)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = factory.make_all(tmp_path_factory.mktemp("browser"))
    database.run(config)
    return config


@pytest.fixture(scope="module")
def server(config: Config) -> Iterator[Server]:
    with serving(config.root) as server:
        yield server


@pytest.fixture(scope="module")
def address(server: Server) -> str:
    """The address of a server on these results."""
    return server.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


def settle(page: Any) -> None:
    """Wait until the server has run the page and the browser has drawn it."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=WAIT_MS)
    quiet = 0
    while quiet < 4:
        busy = page.locator('[data-testid="stStatusWidget"], [data-testid="stSkeleton"], [data-stale="true"]').count()
        quiet = 0 if busy else quiet + 1
        page.wait_for_timeout(150)
    assert page.locator('[data-testid="stException"]').count() == 0


def choose(page: Any, label: str, option: str) -> None:
    """Pick an option of a select box."""
    page.get_by_role("combobox", name=label).first.click()
    page.get_by_role("option", name=option, exact=True).click()
    settle(page)
