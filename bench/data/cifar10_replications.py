"""CIFAR-10.1 (versions 4 and 6) and CIFAR-10.2: further test sets of CIFAR-10, in one reader and one writer.

Sources, and their own layouts:

- github.com/modestyachts/CIFAR-10.1: `datasets/cifar10.1_v4_data.npy`, uint8 (2021, 32, 32, 3), and
  `cifar10.1_v4_labels.npy`, (2021,); those of v6 with 2,000 images.
- github.com/modestyachts/cifar-10.2: `cifar102_test.npz` with `images`, uint8 (2000, 32, 32, 3), `labels` (2000,) and
  `label_names`. Its `cifar102_train.npz` is not used: nothing is trained on it here, and no checksum of it was found.

The images are from the 80 Million Tiny Images, as those of CIFAR-10 are, and may not be passed on. None of the files
was at hand when this was written, so no manifest pins what is made of them (see `Preset.pinned_here`). What verifies
them are checksums that others published: for CIFAR-10.1 those of tensorflow-datasets
(tensorflow_datasets/url_checksums/cifar10_1.txt), for CIFAR-10.2 that of a replication package that names commit
521467a of the repository. An image's id is its place in the file.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.data import cifar10, fetch, writer
from bench.data.samples import DatasetMeta
from bench.errors import BenchError
from bench.store import tables

CIFAR101_URL = "https://raw.githubusercontent.com/modestyachts/CIFAR-10.1/master/datasets"
CIFAR102_URL = "https://raw.githubusercontent.com/modestyachts/cifar-10.2/521467a52ad494b78ff9c70051099c0d9ba74d40"
MAX_BYTES = 2**26
_AGAIN = "Get it again from its source, or name another folder with --from."


@dataclass(frozen=True)
class Source:
    """One test set. `files`: name -> the sha256 that was published of it; `url`: the folder that they lie in; `n`: how
    many images it has; `about`, `paper`: in words."""

    files: dict[str, str]
    url: str
    n: int
    title: str
    about: str
    paper: str


_CIFAR101 = "B. Recht, R. Roelofs, L. Schmidt, V. Shankar, Do CIFAR-10 classifiers generalize to CIFAR-10? (2018), "
_CIFAR101 += "github.com/modestyachts/CIFAR-10.1"

PRESETS: dict[str, dict[str, Source]] = {
    "cifar10.1": {
        "cifar10.1-v4": Source(
            {
                "cifar10.1_v4_data.npy": "5aaedc268df8f4cffca2ac0cf9e608ae1897a8cddb630c7a850a2ea8f6558e75",
                "cifar10.1_v4_labels.npy": "1f9544300ded199539b6662364ce7fe6c2e1ea9f87408f06db4b1a6184cffb18",
            },
            CIFAR101_URL,
            2021,
            "CIFAR-10.1 v4",
            "2,021 new photographs, collected as those of CIFAR-10 were, under 25 keywords of each class.",
            _CIFAR101,
        ),
        "cifar10.1-v6": Source(
            {
                "cifar10.1_v6_data.npy": "2997188e5816f5bd545dc77771b6227828c28146049fcecf3fa10775474cacc6",
                "cifar10.1_v6_labels.npy": "ae40beda001693674edc94d925ee8268cfe68905f8f9aff800c8dcdfcd6c9448",
            },
            CIFAR101_URL,
            2000,
            "CIFAR-10.1 v6",
            "2,000 new photographs, 200 of each class, collected as those of CIFAR-10 were.",
            _CIFAR101,
        ),
    },
    "cifar10.2": {
        "cifar10.2": Source(
            {"cifar102_test.npz": "e4fd6462bd5141ed293acd52ea570952f65d1bfd4ec9b068f87742f75a7a632e"},
            CIFAR102_URL,
            2000,
            "CIFAR-10.2",
            "2,000 new photographs, 200 of each class, collected by other people: the test part of the set.",
            "S. Lu, B. Nott, A. Olson, A. Todeschini, P. Vahabi, Y. Carmon, L. Schmidt, Harder or different? A closer "
            "look at distribution shift in dataset reproduction (2020), github.com/modestyachts/cifar-10.2",
        ),
    },
}
"""Preset -> dataset -> where it comes from."""

Content = dict[str, tuple[np.ndarray, np.ndarray]]
"""Dataset -> images uint8 (N, 32, 32, 3) and labels int64 (N,)."""


def download(folder: Path, preset: str) -> None:
    """Get the files of a preset into `folder`; what is there already stays. BenchError as `fetch.download`."""
    for source in PRESETS[preset].values():
        for file, pin in source.files.items():
            fetch.download(f"{source.url}/{file}", folder / file, max_bytes=MAX_BYTES, pin=pin)


def read(folder: Path, preset: str) -> Content:
    """The sets of a preset. BenchError where a file is missing, is not the published one, or holds anything else."""
    return {name: _read(folder, source) for name, source in PRESETS[preset].items()}


def _read(folder: Path, source: Source) -> tuple[np.ndarray, np.ndarray]:
    paths = [folder / file for file in source.files]
    for path in paths:
        if not path.is_file():
            raise BenchError("is missing.", where=path, remedy=_AGAIN)
    arrays = _of_archive(paths[0]) if len(paths) == 1 else {"images": _array(paths[0]), "labels": _array(paths[1])}
    images, labels, at = arrays["images"], arrays["labels"], paths[-1]
    if (images.shape, images.dtype) != ((source.n, cifar10.SIDE, cifar10.SIDE, 3), np.uint8):
        raise BenchError(
            f"its images are {images.dtype} {images.shape}, not uint8 {(source.n, cifar10.SIDE, cifar10.SIDE, 3)}.",
            where=paths[0],
            remedy=_AGAIN,
        )
    if labels.shape != (source.n,) or labels.dtype.kind not in "iu":
        raise BenchError(
            f"its labels are {labels.dtype} {labels.shape}, not {source.n} whole numbers.", where=at, remedy=_AGAIN
        )
    if labels.min() < 0 or labels.max() >= len(cifar10.CLASSES):
        raise BenchError(f"has a label outside 0 to {len(cifar10.CLASSES) - 1}.", where=at, remedy=_AGAIN)
    names = arrays.get("label_names")
    if names is not None and names.tolist() != list(cifar10.CLASSES):
        raise BenchError("does not name the ten classes in their order.", where=at, remedy=_AGAIN)
    for path, pin in zip(paths, source.files.values(), strict=True):
        if tables.sha256(path) != pin:
            raise BenchError("is not the published file (sha256).", where=path, remedy=_AGAIN)
    return images, labels.astype(np.int64)


def _array(path: Path) -> np.ndarray:
    """A .npy file that is no pickle. BenchError where it is anything else."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as fault:
        raise BenchError(f"cannot be read as an array: {fault}.", where=path, remedy=_AGAIN) from None
    if not isinstance(array, np.ndarray):
        raise BenchError("is an archive, not an array.", where=path, remedy=_AGAIN)
    return array


def _of_archive(path: Path) -> dict[str, np.ndarray]:
    """`images`, `labels` and `label_names` of a .npz file, none of them a pickle. BenchError where it is not."""
    wanted = ("images", "labels", "label_names")
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {member.filename.removesuffix(".npy"): member.file_size for member in archive.infolist()}
        if lacking := [name for name in wanted if name not in sizes]:
            raise BenchError(f"holds no `{lacking[0]}`.", where=path, remedy=_AGAIN)
        if sum(sizes[name] for name in wanted) > MAX_BYTES:
            raise BenchError("unpacks to more than is expected.", where=path, remedy=_AGAIN)
        with np.load(path, allow_pickle=False) as held:
            return {name: held[name] for name in wanted}
    except (OSError, ValueError, EOFError, SyntaxError, zipfile.BadZipFile) as fault:
        raise BenchError(f"cannot be read as an archive of arrays: {fault}.", where=path, remedy=_AGAIN) from None


def write(content: Content, out: Path) -> dict[str, int]:
    """Write `out/<dataset>/` of every set, with its pictures; return counts. Equal content gives equal bytes."""
    sources = {name: source for preset in PRESETS.values() for name, source in preset.items()}
    for name, (images, labels) in content.items():
        source = sources[name]
        meta = DatasetMeta(
            title=source.title,
            about=source.about,
            label_space=cifar10.META.label_space,
            classes=list(cifar10.CLASSES),
            source=source.paper,
            license="none stated; for research",
            split_rule="all are test",
            label_sources={
                "original": "One label an image, as published: the class under whose keyword it was found, once its "
                "makers had looked at it."
            },
        )
        ids = [f"{index:04d}" for index in range(len(labels))]
        writer.write(writer.Content(name, meta, ids, labels, images), out, level=tables.FAST_LEVEL)
        cifar10.write_pictures([f"{name}/{stable}" for stable in ids], images, out / name)
    return {"images": sum(len(labels) for _, labels in content.values())}
