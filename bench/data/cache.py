"""Images that do not depend on a model, kept on disk: made once, and not once for every model that is run on them. (And
those that attacks made on one, bench/attacks/shards.py.)

What an entry depends on is in its name: the dataset's file, the code, the libraries, the parameters. An entry that is
missing, damaged or cannot be written costs time and changes no result. Measured on 10,000 of CIFAR-10's images: reading
the dataset's file takes two to three times as long as decoding, so ids and labels are kept beside the pixels.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import compute, progress
from bench.config import Config
from bench.data import samples
from bench.data.samples import SAMPLES, SPLITS, Samples
from bench.errors import BenchError
from bench.store import tables

FOLDER = ".cache"
LIBRARIES = ("numpy", "pillow", "scipy")
"""With another version of these, the same code may give other pixels."""


def load(config: Config, dataset: str, split: str = "test") -> Samples:
    """`samples.load`, the same to the bit, which reads and decodes a split once. BenchError as there."""
    n_classes = len(samples.classes(config, dataset))
    if not (config.folder(dataset) / SAMPLES).is_file():
        return samples.load(config, dataset, split)  # which says what is wrong
    at = _split(config, dataset, split, n_classes)
    rows = _read(at)
    if rows is not None and _holds_samples(rows, dataset):
        images = rows["image"].astype(np.float32)
        images /= np.float32(255)
        return Samples(np.array(rows["id"]), np.array(rows["label"]), images)
    made = samples.load(config, dataset, split)
    if _split(config, dataset, split, n_classes) != at:
        return made  # the file was replaced meanwhile
    kind = [("id", made.ids.dtype), ("label", np.int64), ("image", np.uint8, made.images.shape[1:])]
    rows = np.empty(len(made.ids), kind)
    rows["id"], rows["label"] = made.ids, made.labels
    for pixels, image in zip(rows["image"], made.images, strict=True):  # one by one: no second set of floats
        pixels[...] = np.rint(image * 255)
    _keep(at, rows)
    return made


def array(
    at: Path,
    shape: tuple[int, ...],
    make: Callable[[], npt.NDArray[Any]],
    kind: npt.DTypeLike = np.float32,
) -> npt.NDArray[Any]:
    """What `make` gives, of `shape` and `kind`, from the file `at` where it is kept there already.

    What is read is mapped into memory, page by page; writing into it changes no file.
    """
    found = _read(at)
    if found is not None and found.dtype == np.dtype(kind) and found.shape == shape:
        return found
    made = make()
    _keep(at, made)
    return made


def key(config: Config, dataset: str, *parts: object, code: tuple[ModuleType, ...] = ()) -> str:
    """20 hex digits of all that entries of a dataset that is there depend on: besides its file, `parts` and `code`."""
    sources = [_source(module) for module in (sys.modules[__name__], compute, samples, *code)]
    versions = [importlib.metadata.version(name) for name in LIBRARIES]
    told = (tables.sha256(config.folder(dataset) / SAMPLES), *sources, *versions, *parts)
    return hashlib.sha256("\x1f".join(map(str, told)).encode()).hexdigest()[:20]


def path(config: Config, dataset: str, what: str, key: str) -> Path:
    """Where the entry `what` (without dots) of a dataset is kept."""
    return config.root / FOLDER / dataset / f"{what}.{key}.npy"


def splits(config: Config, dataset: str) -> list[Path]:
    """Where `load` keeps the splits of a dataset that is there."""
    n_classes = len(samples.classes(config, dataset))
    return [_split(config, dataset, split, n_classes) for split in SPLITS]


def _split(config: Config, dataset: str, split: str, n_classes: int) -> Path:
    return path(config, dataset, split, key(config, dataset, n_classes))


@cache
def _source(module: ModuleType) -> str:
    """The code of a module, read once a process: what is imported stays what it was."""
    return Path(str(module.__file__)).read_text(encoding="utf-8")


def _read(at: Path) -> npt.NDArray | None:
    """The array of a file as `numpy.save` writes it, or nothing where it is missing or damaged (by size or header)."""
    try:
        found = np.lib.format.open_memmap(at, mode="c")
        whole = at.stat().st_size == found.offset + found.nbytes
    except FileNotFoundError:
        return None
    except Exception:  # numpy's reader fails in a dozen ways on what is no header
        whole = False
    if not whole:
        progress.log.warning("%s is damaged: it is made anew", at)
        return None
    return found.view(np.ndarray)


def _holds_samples(rows: npt.NDArray, dataset: str) -> bool:
    kinds = rows.dtype
    return (
        kinds.names == ("id", "label", "image")
        and (kinds["id"].kind, kinds["label"], kinds["image"].base) == ("U", np.int64, np.uint8)
        and (rows.ndim, kinds["image"].ndim) == (1, 3)
        and bool(np.char.startswith(rows["id"], f"{dataset}/").all())
    )


def _keep(at: Path, content: npt.NDArray) -> None:
    """Write an entry, whole or not at all, and remove those that it supersedes. Where that is refused, go without."""
    try:
        with tables.replacing(at) as temporary, temporary.open("wb") as stream:
            np.save(stream, content, allow_pickle=False)
        for other in at.parent.glob(f"{at.name.split('.')[0]}.*.npy"):
            if other != at:
                other.unlink(missing_ok=True)
    except (OSError, BenchError) as fault:
        progress.log.warning("%s is not kept for the next model: %s", at, fault)
