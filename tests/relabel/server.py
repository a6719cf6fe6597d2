"""A server of votes for tests: `python -m tests.relabel.server ROOT PORT`. It acknowledges what is stored, no more."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench import config as configuration
from bench.relabel import votes

KNOWN = votes.Known("now", {f"d/{i}": "d" for i in range(1000)}, {"d": 10})


def main(root: str, port: str) -> None:
    store = votes.connect(configuration.load(Path(root) / "params.yaml"))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            items = [votes.submission(item) for item in said["items"]]
            receipts = votes.record(store, votes.Annotator(said["annotator"]), items, KNOWN)
            body = json.dumps([receipt.id for receipt in receipts if receipt.stored]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: fifty clients would fill the screen."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 200

    Server(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
