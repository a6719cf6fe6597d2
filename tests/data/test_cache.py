"""What is read from the cache is what would be made, to the bit; whatever is wrong with an entry, it is made anew."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.config import Config
from bench.data import cache, samples, writer
from bench.data.samples import Samples
from bench.errors import BenchError
from tests.data.conftest import IMAGES, META, declared


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of `samples.decode` has decoded."""
    calls, decode = [], samples.decode

    def counted(frame, where: Path) -> np.ndarray:
        calls.append(len(frame))
        return decode(frame, where)

    monkeypatch.setattr(samples, "decode", counted)
    return calls


def same(a: Samples, b: Samples) -> bool:
    return all(
        (x.dtype, x.tobytes()) == (y.dtype, y.tobytes())
        for x, y in ((a.ids, b.ids), (a.labels, b.labels), (a.images, b.images))
    )


def entries(config: Config) -> list[Path]:
    return sorted((config.root / cache.FOLDER).rglob("*.npy"))


@pytest.mark.parametrize("split", samples.SPLITS)
def test_a_split_is_decoded_once_and_the_same_to_the_bit(config: Config, decoded: list[int], split: str) -> None:
    plain = samples.load(config, "small", split)
    decoded.clear()
    first, second = (cache.load(config, "small", split) for _ in range(2))
    assert decoded == [len(plain.ids)]
    assert same(first, plain)
    assert same(second, plain)
    assert entries(config) == [path for path in cache.splits(config, "small") if path.name.startswith(split)]


def test_every_value_of_a_pixel_comes_back_exactly(tmp_path: Path) -> None:
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    colours = np.stack([images, images[:, ::-1], images[:, :, ::-1]], axis=-1)
    for name, pixels in {"grey": images, "colour": colours}.items():
        writer.write(writer.Content(name, META, ["0"], np.array([0]), pixels), tmp_path / "data")
    config = declared(tmp_path, small={"role": "original"}, grey={"role": "composite"}, colour={"role": "composite"})
    for name in ("grey", "colour"):
        plain = samples.load(config, name)
        assert same(cache.load(config, name), plain)
        assert same(cache.load(config, name), plain)


def test_what_is_read_may_be_written_and_the_entry_stays(config: Config, tmp_path: Path) -> None:
    plain, at = cache.load(config, "small"), tmp_path / "an.entry.npy"
    for _ in range(2):
        cache.load(config, "small").images[:] = 0
        kept = cache.array(at, plain.images.shape, lambda: plain.images.copy())
        np.testing.assert_array_equal(kept, plain.images)
        kept[:] = 0
    assert same(cache.load(config, "small"), plain)


def test_changed_data_make_a_new_entry_in_place_of_the_old(
    config: Config, decoded: list[int], rewrite: Callable[..., None]
) -> None:
    cache.load(config, "small", "train")
    cache.load(config, "small")
    before = entries(config)
    rewrite("samples", label=[0, 1, 1, 0, 1, 2])
    assert cache.load(config, "small").labels.tolist() == [1, 0, 1, 2]
    after = entries(config)
    assert decoded == [2, 4, 4]
    assert len(after) == 2
    assert len(set(after) & set(before)) == 1  # the other split waits until it is asked for


def test_the_key_tells_code_versions_and_parameters_apart(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(*parts: object) -> str:
        return cache.key(config, "small", *parts, code=(writer,))

    keys = [key(), key(1), key(None, 1), key(1, None), cache.key(config, "small")]
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_source", lambda module: f"{module.__name__}, changed")
        keys.append(key())
    with monkeypatch.context() as patch:
        patch.setattr(cache.importlib.metadata, "version", lambda name: "99")
        keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]


def header(**changes: object) -> bytes:
    """The beginning of an .npy file that claims to hold something else."""
    said = {"descr": "<f4", "fortran_order": False, "shape": (4, 1, 4, 5), **changes}
    text = f"{said!r}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "only its beginning": lambda content: content[:40],
    "cut": lambda content: content[:-1],
    "longer": lambda content: content + b"x",
    "text": lambda content: b"not an array" * 50,
    "a zip": lambda content: b"PK\x03\x04" + content,
    "a pickle": lambda content: header(descr="|O") + b"\x80\x04N.",
    "another shape": lambda content: header(shape=(2, 1, 4, 5)) + bytes(160),
    "another type": lambda content: header(descr="<f8") + bytes(640),
    "an endless shape": lambda content: header(shape=(2**50,)),
    "a negative shape": lambda content: header(shape=(-1, 4)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_made_anew(config: Config, decoded: list[int], tmp_path: Path, damage: str) -> None:
    plain, at = cache.load(config, "small"), tmp_path / "an.entry.npy"
    cache.array(at, plain.images.shape, lambda: plain.images)
    for path in (at, *entries(config)):
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert same(cache.load(config, "small"), plain)
    np.testing.assert_array_equal(cache.array(at, plain.images.shape, lambda: plain.images), plain.images)
    assert decoded == [4, 4]
    assert same(cache.load(config, "small"), plain)
    np.testing.assert_array_equal(cache.array(at, plain.images.shape, pytest.fail), plain.images)
    assert decoded == [4, 4]


def test_any_damaged_byte_of_a_header_is_no_error(config: Config) -> None:
    plain = cache.load(config, "small")
    (path,) = entries(config)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in range(0, 128, 2):
        content = bytearray(whole)
        content[at] ^= int(rng.integers(1, 256))
        path.write_bytes(content)
        found = cache.load(config, "small")
        assert found.images.shape == plain.images.shape


def test_samples_of_another_dataset_are_refused(config: Config, decoded: list[int]) -> None:
    writer.write(writer.Content("other", META, ["0"], np.array([0]), IMAGES[:1]), config.data)
    both = declared(config.root, small={"role": "original"}, other={"role": "composite"})
    plain = cache.load(both, "small")
    cache.load(both, "other")
    (mine,) = (path for path in entries(both) if path.parent.name == "small")
    (others,) = (path for path in entries(both) if path.parent.name == "other")
    mine.write_bytes(others.read_bytes())
    assert same(cache.load(both, "small"), plain)
    assert decoded == [4, 1, 4]


def test_where_nothing_can_be_kept_one_goes_without(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    (config.root / cache.FOLDER).write_text("a file in its place")
    plain = samples.load(config, "small")
    assert same(cache.load(config, "small"), plain)
    assert "is not kept for the next model" in caplog.text
    assert (config.root / cache.FOLDER).read_text() == "a file in its place"


def test_faults_of_a_dataset_are_errors_and_nothing_is_kept(config: Config, rewrite: Callable[..., None]) -> None:
    rewrite("samples", label=[0, 1, 2, 0, 1, 7])
    with pytest.raises(BenchError, match="label outside the 3 classes"):
        cache.load(config, "small")
    (config.data / "small" / "samples.parquet").unlink()
    with pytest.raises(BenchError, match="is missing"):
        cache.load(config, "small")
    assert entries(config) == []


def test_a_file_that_is_replaced_meanwhile_is_not_kept_as_the_one_before(
    config: Config, monkeypatch: pytest.MonkeyPatch, rewrite: Callable[..., None]
) -> None:
    load = samples.load

    def replaced(*arguments: str) -> Samples:
        rewrite("samples", label=[2, 2, 2, 2, 2, 2])
        return load(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(samples, "load", replaced)
    assert cache.load(config, "small").labels.tolist() == [2] * 4
    assert entries(config) == []


def test_two_processes_at_once(config: Config) -> None:
    """Both begin without a cache, again and again, and each always gets the whole of it."""
    code = f"""
import sys
import numpy as np
from bench.config import Config
from bench.data import cache, samples
config = Config.model_validate_json({config.model_dump_json()!r})
plain = samples.load(config, "small").images
large = np.arange(2**20, dtype=np.float32)
at = cache.path(config, "small", "large", "0")
print(flush=True)
sys.stdin.readline()
for _ in range(20):
    assert np.array_equal(cache.load(config, "small").images, plain)
    assert np.array_equal(cache.array(at, large.shape, large.copy), large)
    for path in at.parent.glob("*.npy"):
        path.unlink(missing_ok=True)
"""
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        process.stdout.readline()  # ready
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in both:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert "damaged" not in said
    assert not list((config.root / cache.FOLDER).rglob("*.tmp"))
