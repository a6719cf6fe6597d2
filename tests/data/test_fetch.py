"""A fetch is verified and all or nothing; a download goes on where it broke."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bench.data import fetch, imagenet, samples
from bench.errors import BenchError
from bench.presets import preset as presets
from bench.presets.preset import Figure, Preset
from bench.store import tables
from tests.data import test_imagenet as published

CONTENT = bytes(range(256)) * 4096


@dataclass
class Server:
    """What a loopback server does, and what it was asked: each answer may be cut after so many bytes."""

    cuts: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    content: bytes = CONTENT
    tag: str = '"one"'
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append((self.path, self.headers.get("Range")))
            if state.codes and (code := state.codes.pop(0)) != 200:
                self.send_error(code)
                return
            content = state.files.get(self.path, state.content) if state.files else state.content
            if state.files and self.path not in state.files:
                self.send_error(404)
                return
            start = 0
            if (given := self.headers.get("Range")) and self.headers.get("If-Range") == state.tag:
                start = int(given.removeprefix("bytes=").removesuffix("-"))
                if start >= len(content):
                    self.send_error(416)
                    return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            if state.tag:
                self.send_header("ETag", state.tag)
            self.end_headers()
            body = content[start:]
            cut = state.cuts.pop(0) if state.cuts else len(body)
            self.wfile.write(body[:cut])
            self.wfile.flush()
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def get(server: Server, path: Path, **more: Any) -> Path:
    return fetch.download(f"{server.url}/file", path, **{"max_bytes": 2**24, "wait": lambda _: None, **more})


def test_a_lost_connection_is_taken_up_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.cuts = [len(CONTENT) // 2, 1000]
    path = get(server, tmp_path / "new" / "file", pin=hashlib.sha256(CONTENT).hexdigest())
    assert path.read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert [given for _, given in server.asked] == [None, f"bytes={half}-", f"bytes={half + 1000}-"]
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    get(server, path)
    assert len(server.asked) == 3, "what is there is not asked for again"


def test_a_later_call_goes_on_with_the_part(server: Server, tmp_path: Path) -> None:
    server.cuts = [5000] + [0] * 4
    with pytest.raises(BenchError, match=r"could not be fetched: broke off at 5,000 of 1,048,576 bytes.*--from DIR"):
        get(server, tmp_path / "file")
    assert get(server, tmp_path / "file").read_bytes() == CONTENT
    assert server.asked[-1][1] == "bytes=5000-"


def test_a_file_that_changed_meanwhile_is_fetched_whole(server: Server, tmp_path: Path) -> None:
    server.cuts = [5000] + [0] * 4
    with pytest.raises(BenchError):
        get(server, tmp_path / "file")
    server.tag, server.content = '"two"', CONTENT[::-1]
    assert get(server, tmp_path / "file").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_without_a_strong_validator_nothing_is_joined(server: Server, tmp_path: Path, tag: str) -> None:
    server.tag, server.cuts = tag, [5000]
    assert get(server, tmp_path / "file").read_bytes() == CONTENT
    assert [given for _, given in server.asked] == [None, None]


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT + b"more")
    (tmp_path / "file.part.validator").write_text(server.tag)
    assert get(server, tmp_path / "file").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_and_a_refusal_is_final(server: Server, tmp_path: Path) -> None:
    server.codes = [503, 429]
    waits: list[float] = []
    assert get(server, tmp_path / "file", wait=waits.append).read_bytes() == CONTENT
    assert waits == [1, 2]
    server.codes = [404]
    with pytest.raises(BenchError, match="the server answers 404"):
        get(server, tmp_path / "other")
    assert len(server.asked) == 4


def test_what_is_too_large_or_another_file_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="larger than the 1,000 bytes"):
        get(server, tmp_path / "file", max_bytes=1000)
    with pytest.raises(BenchError, match="not the file that is pinned"):
        get(server, tmp_path / "file", pin="0" * 64)
    assert not (tmp_path / "file").exists()
    assert not (tmp_path / "file.part").exists()


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://host/file", "no address"])
def test_only_the_web_is_asked(tmp_path: Path, url: str) -> None:
    with pytest.raises(BenchError, match="is not a web address"):
        fetch.download(url, tmp_path / "file", max_bytes=1)


@pytest.fixture
def small(tmp_path: Path, real_labels: None) -> Preset:
    """A preset of five images and two models, pinned to what is written of them."""
    del real_labels
    out = tmp_path / "pinned"
    imagenet.write(imagenet.read(published.official(tmp_path / "source")), out)
    files = {path.relative_to(out).as_posix(): tables.sha256(path) for path in out.rglob("*.*")}
    datasets = {name: {"role": "original", "suite": "imagenet"} for name in published.STEMS}
    imported = {name: {"suite": "imagenet", "origin": "tests"} for name in ("alexnet", "fv_64k")}
    return Preset(
        name="imagenet",
        about="Small.",
        suites={"imagenet": {}},
        datasets=datasets,
        imported=imported,
        refined_labels=published.PIN,
        figures=[Figure(name="one", sql="SELECT 1", expected=1)],
        files=files,
    )


real_labels = published.real_labels


def test_a_fetch_is_verified_and_the_second_does_nothing(small: Preset, tmp_path: Path) -> None:
    out = tmp_path / "fetched"
    said = fetch.run(small, out, tmp_path / "source")
    assert "2 datasets, 2 models, 5 images; all 10 files are as pinned" in said
    assert published.files(out / "imagenet") == published.files(tmp_path / "pinned")
    assert "Nothing was done" in fetch.run(small, out, tmp_path / "nowhere")
    assert [path.name for path in out.iterdir()] == ["imagenet"]


def test_a_damaged_file_is_fetched_again_and_pictures_stay(small: Preset, tmp_path: Path) -> None:
    out = tmp_path / "fetched"
    fetch.run(small, out, tmp_path / "source")
    (out / "imagenet" / "imagenetv2" / "labels.parquet").write_bytes(b"")
    (out / "imagenet" / "imagenet" / fetch.THUMBNAILS).write_bytes(b"pictures")
    assert fetch.wrong_files(small, out / "imagenet") == ["imagenetv2/labels.parquet"]
    fetch.run(small, out, tmp_path / "source")
    assert fetch.wrong_files(small, out / "imagenet") == []
    assert (out / "imagenet" / "imagenet" / fetch.THUMBNAILS).read_bytes() == b"pictures"


def test_what_is_not_as_pinned_is_named_and_nothing_is_written(small: Preset, tmp_path: Path) -> None:
    pins = small.files | {"imagenet/labels.parquet": "0" * 64}
    with pytest.raises(BenchError, match=r"1 of 10 files are not as pinned: imagenet/labels\.parquet"):
        fetch.run(small.model_copy(update={"files": pins}), tmp_path / "fetched", tmp_path / "source")
    with pytest.raises(BenchError, match="there is no such folder"):
        fetch.run(small, tmp_path / "fetched", tmp_path / "nowhere")
    (tmp_path / "source" / imagenet.REFINED).unlink()
    with pytest.raises(BenchError, match="is missing"):
        fetch.run(small, tmp_path / "fetched", tmp_path / "source")
    assert list((tmp_path / "fetched").iterdir()) == []


def test_the_official_sources_end_in_the_same_files(
    small: Preset, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    (source / "data/predictions/imagenetv2-b-33/fv_64k_model.npy").rename(
        source / "data/predictions/imagenetv2-b-33/fv_64k.npy"
    )
    packed = published.archive(tmp_path / "m.tar.gz", {"Multilabelfy-main/labels/refined.json": published.WANTED})
    server.files = {
        f"/v2/{name}": content for name, content in published.files(source).items() if "refined" not in name
    }
    monkeypatch.setattr(imagenet, "IMAGENETV2_URL", f"{server.url}/v2")
    monkeypatch.setattr(imagenet, "MULTILABELFY_URL", f"{server.url}/m")
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    with pytest.raises(BenchError, match="the server answers 404"):
        fetch.run(small, tmp_path / "fetched")
    first = len(server.asked)
    server.files["/m"] = packed.read_bytes()
    fetch.run(small, tmp_path / "fetched")
    assert [path for path, _ in server.asked[first:]] == ["/m"], "what came before is kept"
    assert published.files(tmp_path / "fetched" / "imagenet") == published.files(tmp_path / "pinned")
    assert [path.name for path in (tmp_path / "fetched").iterdir()] == ["imagenet"], "downloads are removed"


def test_the_digest_follows_each_of_the_three_files(small: Preset, tmp_path: Path) -> None:
    folder = tmp_path / "pinned" / "imagenet"
    assert samples.digest(folder) == small.params()["datasets"]["imagenet"]["sha256"]
    seen = {samples.digest(folder)}
    for name in ("dataset.json", "samples.parquet", "labels.parquet"):
        with (folder / name).open("ab") as stream:
            stream.write(b" ")
        seen.add(samples.digest(folder))
    assert len(seen) == 4
    (folder / "labels.parquet").unlink()
    with pytest.raises(BenchError, match=r"lacks labels\.parquet.*bench data fetch pinned"):
        samples.digest(folder)


def test_the_manifest_of_the_preset_is_complete() -> None:
    preset = presets.load("imagenet")
    params = preset.params()
    counts = {name: len(entries) for name, entries in params.items() if entries}
    assert counts == {"suites": 1, "datasets": 2, "imported": 67}
    assert len(preset.files) == 2 * 3 + 2 * 67
    assert {entry["family"] for entry in params["imported"].values()} == {"supervised"}
