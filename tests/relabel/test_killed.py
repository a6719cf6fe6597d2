"""Fifty annotators, five thousand votes, a server that is killed again and again: what was acknowledged is there."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from pathlib import Path

import pytest
import yaml

from bench import config as configuration
from bench.relabel import votes
from tests import factory

ANNOTATORS, SUBMISSIONS, ANSWERS = 50, 25, 4
KILLED_AT = (0.2, 0.45, 0.7)
"""The shares of all submissions after whose acknowledgement the server is killed: always amid its work."""
ROOT = Path(__file__).parents[2]


class Served:
    """The server of tests/relabel/server.py, which can be killed and started again at the same address."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.relabel.server", str(self.root), str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT)

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_acknowledged_vote_is_there_once(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    config = factory.make_config(tmp_path)
    url = request.getfixturevalue("postgres_url") if kind == "postgresql" else ""
    parameters = yaml.safe_load((tmp_path / "params.yaml").read_text()) | {"annotations": {"url": url}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(parameters))
    config = configuration.load(tmp_path / "params.yaml")
    served = Served(tmp_path)
    acknowledged: dict[str, set[str]] = {f"annotator {n}": set() for n in range(ANNOTATORS)}
    stop = time.monotonic() + 150

    def annotate(who: str) -> None:
        """Keep an outbox, send all of it each time, and drop what is acknowledged, as the page does."""
        rng, outbox = random.Random(who), []
        todo = [
            {
                "id": str(uuid.uuid4()),
                "sample_id": f"d/{i}",
                "stage": "annotate",
                "answers": [{"class_id": c, "action": "yes", "rank": c + 1} for c in range(ANSWERS)],
                "ms": 1,
                "snapshot": "now",
                "sitting": "t",
            }
            for i in range(SUBMISSIONS)
        ]
        while (todo or outbox) and time.monotonic() < stop:
            outbox += [todo.pop() for _ in range(min(len(todo), rng.randint(0, 2)))]
            body = json.dumps({"annotator": who, "items": outbox}).encode()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{served.port}/", body, timeout=20) as reply:
                    stored = set(json.loads(reply.read()))
            except (OSError, http.client.HTTPException):  # not there, or killed amid its reply
                time.sleep(0.2 + 0.2 * rng.random())
                continue
            if rng.random() < 0.1:
                continue  # a reply that was lost: the same is sent again
            acknowledged[who] |= stored
            outbox = [one for one in outbox if one["id"] not in stored]
            time.sleep(0.1 * rng.random())

    threads = [threading.Thread(target=annotate, args=(who,)) for who in acknowledged]
    for thread in threads:
        thread.start()
    kills: list[int] = []
    try:
        for share in KILLED_AT:
            while sum(map(len, acknowledged.values())) < share * ANNOTATORS * SUBMISSIONS and time.monotonic() < stop:
                time.sleep(0.01)
            served.kill()
            kills.append(sum(map(len, acknowledged.values())))
            time.sleep(0.5)
            served.start()
        for thread in threads:
            thread.join()
    finally:
        served.kill()
    assert all(share * ANNOTATORS * SUBMISSIONS <= n for share, n in zip(KILLED_AT, kills, strict=True))
    assert kills[-1] < 0.95 * ANNOTATORS * SUBMISSIONS, "the last kill came amid the work"
    frame = votes.events(votes.connect(config))
    assert {len(ids) for ids in acknowledged.values()} == {SUBMISSIONS}, "everyone got an answer to everything"
    assert len(frame) == ANNOTATORS * SUBMISSIONS * ANSWERS == 5000
    assert frame["event_id"].is_unique
    assert frame["counts"].all()
    for who, rows in frame.groupby("annotator"):
        assert set(rows["submission"]) == acknowledged[str(who)]
