"""Two readers, one writer: an archive of the official format and a folder of the same images end in the same bytes; the
real images are read where they are at hand."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bench.config import Config
from bench.data import cifar10, fetch, index, samples
from bench.errors import BenchError
from bench.presets import preset as presets
from bench.presets.preset import Figure, Preset
from bench.store import tables
from tests.data import test_fetch
from tests.data.test_imagenet import files

SHARED = Path(__file__).parents[3] / "shared" / "data"
real = pytest.mark.skipif(
    not (SHARED / "cifar10").is_dir() or not (SHARED / "cifar10h").is_dir(),
    reason="CIFAR-10 and CIFAR-10H (shared/data) are not here",
)
server = test_fetch.server

N = 12
N_TRAIN = 15
LABELS = np.arange(N) % 10
TRAIN_LABELS = np.arange(N_TRAIN) % 10
TRAIN_IMAGES = np.random.default_rng(1).integers(0, 256, (N_TRAIN, 32, 32, 3), dtype=np.uint8)
TRAIN_IMAGES[13] = TRAIN_IMAGES[4]
"""Two training images have the same pixels, and two labels."""
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 32, 32, 3), dtype=np.uint8)
COUNTS = np.zeros((N, 10), np.int64)
COUNTS[np.arange(N), LABELS] = 40
COUNTS[:, 3] += 9
COUNTS[5] = 0
COUNTS[6] = [0, 0, 0, 50, 0, 0, 0, 0, 0, 0]
"""Image 5 has no votes, image 6 none for its label."""


def batch(images: np.ndarray = IMAGES, labels: np.ndarray = LABELS) -> bytes:
    """A batch as published: a byte of class, then the red, green and blue plane of each image."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels[:, None].astype(np.uint8), planes], axis=1).tobytes()


def archive(path: Path, members: dict[str, bytes] | None = None) -> Path:
    """An archive as published, with files that are not wanted and names that lead out of it."""
    known = {
        "cifar-10-batches-bin/batches.meta.txt": ("\n".join(cifar10.CLASSES) + "\n\n").encode(),
        "../../test_batch.bin": batch(),
    }
    for n in range(5):
        part = slice(3 * n, 3 * n + 3)
        known[f"cifar-10-batches-bin/data_batch_{n + 1}.bin"] = batch(TRAIN_IMAGES[part], TRAIN_LABELS[part])
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        link = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
        for name, content in (known | (members or {})).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def official(folder: Path) -> Path:
    folder.mkdir(parents=True)
    archive(folder / cifar10.ARCHIVE)
    np.save(folder / cifar10.COUNTS, COUNTS)
    return folder


def webp(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "WEBP", lossless=True)
    return stream.getvalue()


def as_tables(folder: Path) -> Path:
    """The same content as a folder, its rows in another order, the counts beside it."""
    folder.mkdir(parents=True)
    (folder / "classes.json").write_text(json.dumps(list(cifar10.CLASSES)))
    rows = {"index": np.arange(N, dtype=np.int32), "label": LABELS.astype(np.int16), "image": [*map(webp, IMAGES)]}
    pd.DataFrame(rows).iloc[::-1].to_parquet(folder / "test.parquet")
    rows = {"file": "x", "label": TRAIN_LABELS.astype(np.int16), "image": [*map(webp, TRAIN_IMAGES)]}
    pd.DataFrame(rows).sample(frac=1, random_state=0).to_parquet(folder / "train.parquet")
    beside = folder.parent / "cifar10h"
    beside.mkdir()
    counts = pd.DataFrame({"index": np.arange(N), "counts": COUNTS.astype(np.int16).tolist()})
    counts.iloc[::-1].to_parquet(beside / "counts.parquet")
    return folder


WRITTEN = [
    "cifar10/dataset.json",
    "cifar10/labels.parquet",
    "cifar10/samples.parquet",
    "cifar10/thumbnails.parquet",
    "votes/cifar10/cifar10h.parquet",
]


def test_both_readers_end_in_the_same_bytes(tmp_path: Path) -> None:
    sources = {"one": official(tmp_path / "official"), "two": as_tables(tmp_path / "tables")}
    for name, source in sources.items():
        counts = cifar10.write(cifar10.read(source), tmp_path / name)
        assert counts == {"images": N + N_TRAIN, "votes": int(COUNTS.sum())}
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert sorted(files(tmp_path / "one")) == WRITTEN
    assert not (tmp_path.parent / "test_batch.bin").exists()


def test_what_is_written_is_what_was_published(tmp_path: Path) -> None:
    cifar10.write(cifar10.read(official(tmp_path / "official")), tmp_path / "out")
    folder = tmp_path / "out" / "cifar10"
    meta = samples.load_meta(folder)
    assert tuple(meta.classes) == cifar10.CLASSES
    whole = samples.read_table(folder, 10)
    frame = whole.loc[whole["split"] == "test"]
    assert frame["sample_id"].tolist() == [f"cifar10/{place:05d}" for place in range(N)]
    assert frame["label"].tolist() == LABELS.tolist()
    np.testing.assert_array_equal(samples.decode(frame, folder), IMAGES.transpose(0, 3, 1, 2))
    shown = tables.read("images", folder / fetch.THUMBNAILS)
    assert shown["thumbnail"].tolist() == frame["image"].tolist()
    train = whole.loc[whole["split"] == "train"]
    pixels = samples.decode(train, folder).transpose(0, 2, 3, 1)
    digests = [hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in pixels]
    named = train["sample_id"].str.removeprefix("cifar10/train-").str.removesuffix("-2")
    assert named.tolist() == digests == sorted(digests)
    assert train["sample_id"].is_unique
    known = {image.tobytes(): label for image, label in zip(TRAIN_IMAGES, TRAIN_LABELS.tolist(), strict=True)}
    twice = TRAIN_IMAGES[4].tobytes()
    rows = [(image.tobytes(), label) for image, label in zip(pixels, train["label"].tolist(), strict=True)]
    assert {image: label for image, label in rows if image != twice} == {k: v for k, v in known.items() if k != twice}
    assert [label for image, label in rows if image == twice] == [3, 4], "in the order of their labels"
    labels = tables.read("labels", folder / "labels.parquet")
    assert labels["source"].unique().tolist() == ["original"]


def test_votes_are_pooled_and_the_label_is_always_judged(tmp_path: Path) -> None:
    cifar10.write(cifar10.read(official(tmp_path / "official")), tmp_path / "out")
    votes = tables.read("imported_votes", tmp_path / "out" / "votes" / "cifar10" / "cifar10h.parquet")
    assert votes["annotator"].unique().tolist() == ["cifar10h"]
    dense = np.zeros_like(COUNTS)
    at = votes["sample_id"].str[-5:].astype(int)
    dense[at, votes["class_id"]] = votes["n_yes"]
    np.testing.assert_array_equal(dense, COUNTS)
    assert (votes["n_yes"] + votes["n_no"]).tolist() == COUNTS.sum(axis=1)[at].tolist()
    assert set(at) == set(range(N)) - {5}, "an image without votes has none"
    six = votes.loc[at == 6, ["class_id", "n_yes", "n_no"]].to_numpy().tolist()
    assert six == [[3, 50, 0], [6, 0, 50]]


def test_the_counts_may_lie_in_the_folder_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = as_tables(tmp_path / "tables")
    with caplog.at_level("INFO", "bench"):
        cifar10.read(source)
    assert f"{tmp_path / 'cifar10h' / 'counts.parquet'}" in caplog.text
    (tmp_path / "cifar10h" / "counts.parquet").rename(source / "counts.parquet")
    np.testing.assert_array_equal(cifar10.read(source).counts, COUNTS)


def test_the_folder_above_will_do(tmp_path: Path) -> None:
    source = as_tables(tmp_path / "data" / "cifar10")
    np.testing.assert_array_equal(cifar10.read(source.parent).images, cifar10.read(source).images)


def put(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


OFFICIAL_FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut off": (
        lambda f: (f / cifar10.ARCHIVE).write_bytes((f / cifar10.ARCHIVE).read_bytes()[:20_000]),
        "gz: is damaged",
    ),
    "no archive": (put(cifar10.ARCHIVE, b"nothing"), "is damaged"),
    "half a record": (
        lambda f: archive(f / cifar10.ARCHIVE, {"../../test_batch.bin": batch()[:-1]}),
        "no number of records of 3,073 bytes",
    ),
    "no batch": (lambda f: archive(f / cifar10.ARCHIVE, {"../../test_batch.bin": b""}), "no number of records"),
    "half a training batch": (
        lambda f: archive(f / cifar10.ARCHIVE, {"cifar-10-batches-bin/data_batch_3.bin": batch()[:-1]}),
        r"its data_batch_3\.bin is no number of records",
    ),
    "a class above": (
        lambda f: archive(f / cifar10.ARCHIVE, {"../../test_batch.bin": b"\x0a" + batch()[1:]}),
        "a label outside 0 to 9",
    ),
    "other classes": (
        lambda f: archive(f / cifar10.ARCHIVE, {"cifar-10-batches-bin/batches.meta.txt": b"cat\ndog\n"}),
        "does not name the ten classes",
    ),
    "no counts": (lambda f: (f / cifar10.COUNTS).unlink(), r"counts\.npy: is missing, and so is"),
    "pickled counts": (
        lambda f: np.save(f / cifar10.COUNTS, np.array([{}], dtype=object), allow_pickle=True),
        "cannot be read as an array",
    ),
    "fewer counts": (lambda f: np.save(f / cifar10.COUNTS, COUNTS[1:]), r"int64 \(11, 10\), not \(12, 10\)"),
    "shares": (lambda f: np.save(f / cifar10.COUNTS, COUNTS / 7), r"float64 \(12, 10\), not"),
    "negative counts": (lambda f: np.save(f / cifar10.COUNTS, -COUNTS), "numbers of votes"),
    "NaN": (lambda f: np.save(f / cifar10.COUNTS, np.full((N, 10), np.nan)), "numbers of votes"),
}


@pytest.mark.parametrize("fault", OFFICIAL_FAULTS)
def test_a_fault_of_the_archive_is_named(tmp_path: Path, fault: str) -> None:
    source = official(tmp_path / "official")
    break_it, message = OFFICIAL_FAULTS[fault]
    break_it(source)
    with pytest.raises(BenchError, match=message) as caught:
        cifar10.read(source)
    assert caught.value.remedy


def test_an_archive_of_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = official(tmp_path / "official")
    monkeypatch.setattr(cifar10, "MAX_UNPACKED_BYTES", 30_000)
    with pytest.raises(BenchError, match="unpacks to more than is expected"):
        cifar10.read(source)
    monkeypatch.undo()
    monkeypatch.setattr(cifar10, "MAX_MEMBER_BYTES", 30_000)
    with pytest.raises(BenchError, match=r"holds no test_batch\.bin"):
        cifar10.read(source)


def changed(**columns: Any) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        frame = pd.read_parquet(folder / "test.parquet").sort_values("index", ignore_index=True)
        frame.assign(**columns).dropna(axis=1, how="all").to_parquet(folder / "test.parquet")

    return change


def _encoded(image: np.ndarray, form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, form)
    return stream.getvalue()


FOLDER_FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no training images": (lambda f: (f / "train.parquet").unlink(), r"train\.parquet: cannot be read"),
    "a training label that is none": (
        lambda f: pd.read_parquet(f / "train.parquet").assign(label=10).to_parquet(f / "train.parquet"),
        r"train\.parquet: has a label outside",
    ),
    "an index twice": (changed(index=[0, *range(N - 1)]), "does not list each image once"),
    "no labels": (changed(label=None), "cannot be read|lacks the column `label`"),
    "a picture of another size": (changed(image=_encoded(IMAGES[0, :16], "PNG")), "image 0 is not 32 x 32 pixels"),
    "a grey picture": (changed(image=_encoded(IMAGES[0, :, :, 0], "PNG")), r"image 0 .* of RGB \(L,"),
    "another format": (changed(image=_encoded(IMAGES[0], "GIF")), "image 0 is not"),
    "no picture": (changed(image=b"no"), "image 0 is not"),
    "no Parquet": (put("test.parquet", b"PAR1 no"), "test.parquet: cannot be read"),
    "no classes": (lambda f: (f / "classes.json").unlink(), r"classes\.json: is missing"),
    "classes that are none": (put("classes.json", b"{"), "is not JSON"),
    "another order of classes": (
        lambda f: (f / "classes.json").write_text(json.dumps(sorted(cifar10.CLASSES, reverse=True))),
        "in their order",
    ),
    "counts of several lengths": (
        lambda f: pd.DataFrame({"index": range(N), "counts": [[1]] + [[1, 2]] * (N - 1)}).to_parquet(
            f / "counts.parquet"
        ),
        "rows of several lengths",
    ),
}


@pytest.mark.parametrize("fault", FOLDER_FAULTS)
def test_a_fault_of_a_folder_is_named(tmp_path: Path, fault: str) -> None:
    source = as_tables(tmp_path / "tables")
    break_it, message = FOLDER_FAULTS[fault]
    break_it(source)
    with pytest.raises(BenchError, match=message) as caught:
        cifar10.read(source)
    assert caught.value.remedy


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"holds neither test\.parquet nor cifar-10-binary\.tar\.gz"):
        cifar10.read(tmp_path)


def small(tmp_path: Path) -> Preset:
    """The preset, pinned to what is written of the generated images."""
    out = tmp_path / "pinned"
    cifar10.write(cifar10.read(official(tmp_path / "source")), out)
    pins = {path.relative_to(out).as_posix(): tables.sha256(path) for path in out.rglob("*.*")}
    return presets.load("cifar10").model_copy(
        update={"files": pins, "figures": [Figure(name="one", sql="SELECT 1", expected=1)]}
    )


def test_a_fetch_from_the_official_sources(
    tmp_path: Path, server: test_fetch.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset, out = small(tmp_path), tmp_path / "fetched"
    packed = (tmp_path / "source" / cifar10.ARCHIVE).read_bytes()
    server.files = {"/a": packed[:-9] + b"123456789", "/c": (tmp_path / "source" / cifar10.COUNTS).read_bytes()}
    monkeypatch.setattr(cifar10, "ARCHIVE_URL", f"{server.url}/a")
    monkeypatch.setattr(cifar10, "COUNTS_URL", f"{server.url}/c")
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5(packed).hexdigest())
    with pytest.raises(BenchError, match=r"is not the published archive .* was removed"):
        fetch.run(preset, out)
    server.files["/a"] = packed
    said = fetch.run(preset, out)
    assert f"{N + N_TRAIN} images, {int(COUNTS.sum())} votes; all 5 files are as pinned" in said
    assert files(out / "cifar10") == files(tmp_path / "pinned")
    assert [path.name for path in out.iterdir()] == ["cifar10"], "downloads are removed"


def test_a_damaged_picture_file_is_made_anew(tmp_path: Path) -> None:
    preset, out = small(tmp_path), tmp_path / "fetched"
    fetch.run(preset, out, tmp_path / "source")
    (out / "cifar10" / "cifar10" / fetch.THUMBNAILS).write_bytes(b"")
    assert "Nothing" not in fetch.run(preset, out, tmp_path / "source")
    assert files(out / "cifar10") == files(tmp_path / "pinned")


def test_the_index_takes_the_set_and_keeps_its_pictures_out_of_the_results(tmp_path: Path) -> None:
    preset = small(tmp_path)
    fetch.run(preset, tmp_path / "fetched", tmp_path / "source")
    config = Config.model_validate({"root": tmp_path, "seed": 0, "models": {}, **preset.params()})
    assert index.run(config) == {"datasets": 1, "samples": N + N_TRAIN, "pictures": 0, "labels": N + N_TRAIN}
    rows = tables.read("samples", tmp_path / "results" / "samples.parquet")
    assert set(rows["width"]) == set(rows["height"]) == {32}
    assert tables.read("images", tmp_path / "results" / "images.parquet").empty
    assert config.imported_votes("cifar10", "cifar10h").is_file()
    grey = preset.model_copy(update={"suites": {"cifar10": {"input_size": 32}}})
    with pytest.raises(BenchError, match="images have 3 channels, the suite 'cifar10' has 1"):
        index.run(Config.model_validate({"root": tmp_path, "seed": 0, "models": {}, **grey.params()}))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real images and votes, written."""
    out = tmp_path_factory.mktemp("published")
    cifar10.write(cifar10.read(SHARED / "cifar10"), out)
    return out


@real
def test_the_real_files_are_those_of_the_manifest(published: Path) -> None:
    preset = presets.load("cifar10")
    assert {file: tables.sha256(published / file) for file in files(published)} == preset.files
    held = preset.params()["datasets"]["cifar10"]
    assert held["sha256"] == samples.digest(published / "cifar10")
    assert held["votes"]["cifar10h"]["sha256"] == preset.files["votes/cifar10/cifar10h.parquet"]
    assert held["images"] == preset.files["cifar10/thumbnails.parquet"]


@real
def test_the_real_images_of_an_archive_give_the_same_bytes(published: Path, tmp_path: Path) -> None:
    """The images of the real folder, packed as the official archive is."""
    content = cifar10.read(SHARED / "cifar10")
    members = {"../../test_batch.bin": batch(content.images, content.labels)}
    order = np.random.default_rng(0).permutation(len(content.train_labels))
    for n, part in enumerate(np.array_split(order, 5), start=1):
        packed = batch(content.train_images[part], content.train_labels[part])
        members[f"cifar-10-batches-bin/data_batch_{n}.bin"] = packed
    archive(tmp_path / cifar10.ARCHIVE, members)
    np.save(tmp_path / cifar10.COUNTS, content.counts.astype(float))
    cifar10.write(cifar10.read(tmp_path), tmp_path / "out")
    assert files(tmp_path / "out") == files(published)


@real
def test_the_real_files_give_the_known_figures(published: Path) -> None:
    """By plain numpy on the source, and by pandas on what was written."""
    source = pq.read_table(SHARED / "cifar10h" / "counts.parquet").to_pandas().sort_values("index")
    counts = np.stack(source["counts"].to_list())
    images = pq.read_table(SHARED / "cifar10" / "test.parquet", columns=["index", "label"]).to_pandas()
    truth = images.sort_values("index")["label"].to_numpy()
    assert round(100 * float((counts.argmax(axis=1) == truth).mean()), 2) == 99.21
    votes = pq.read_table(published / "votes" / "cifar10" / "cifar10h.parquet").to_pandas()
    assert int(votes["n_yes"].sum()) == int(counts.sum()) == 511_000
    dense = np.zeros_like(counts)
    dense[votes["sample_id"].str.removeprefix("cifar10/").astype(int), votes["class_id"]] = votes["n_yes"]
    np.testing.assert_array_equal(dense, counts)
    frame = samples.read_table(published / "cifar10", 10)
    np.testing.assert_array_equal(frame.loc[frame["split"] == "test", "label"], truth)
    train = frame.loc[frame["split"] == "train"]
    assert train["label"].value_counts().tolist() == [5000] * 10
    assert not train["sample_id"].str.endswith("-2").any(), "no two training images are the same to the pixel"
