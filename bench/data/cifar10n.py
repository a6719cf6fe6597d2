"""CIFAR-10N: what people said of CIFAR-10's 50,000 training images, as labels to fit heads on beside the right ones.

Sources, and their own layouts:

- github.com/UCSC-REAL/cifar-10-100n (CC BY-NC 4.0): `data/CIFAR-10_human.pt`, read as weights only: a dict of arrays
  (50000,) in the order of the training batches: `clean_label`, `random_label1` to `3`, `aggre_label`, `worse_label`.
- the training images of CIFAR-10 in that order: here the id of one is made of its pixels (bench/data/cifar10.py).

The file was not at hand when this was written, and no checksum of it was found, so no manifest pins what is made of it
(see `Preset.pinned_here`). What verifies it: its clean labels are those of the images beside it, one by one, and as
many of its other labels are wrong as its paper says (J. Wei, Z. Zhu, H. Cheng, T. Liu, G. Niu, Y. Liu, Learning with
noisy labels revisited, ICLR 2022, arXiv 2110.12088, table 1).
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.data import cifar10, fetch
from bench.errors import BenchError
from bench.store import tables

PRESET = "cifar10n"
FILE = "CIFAR-10_human.pt"
URL = f"https://raw.githubusercontent.com/UCSC-REAL/cifar-10-100n/main/data/{FILE}"
MAX_BYTES = 2**24
CLEAN = "clean_label"
SOURCES = {
    "cifar10n-aggregate": "aggre_label",
    "cifar10n-random1": "random_label1",
    "cifar10n-random2": "random_label2",
    "cifar10n-random3": "random_label3",
    "cifar10n-worst": "worse_label",
}
"""Source of labels here -> its name in the file."""
WRONG_PERCENT = {
    "cifar10n-aggregate": 9.03,
    "cifar10n-random1": 17.23,
    "cifar10n-random2": 18.12,
    "cifar10n-random3": 17.64,
    "cifar10n-worst": 40.21,
}
"""How many of the labels are not CIFAR-10's, as published."""
FOLDER = "noisy_labels"
_AGAIN = "Get it again from its source, or name another folder with --from."


@dataclass(frozen=True)
class Content:
    """Ids of the training images (N,) in the order of the batches, and for each source their labels (N,)."""

    ids: list[str]
    labels: dict[str, np.ndarray]


def download(folder: Path) -> None:
    """Get the labels, and CIFAR-10 for the order of its images; what is there already stays. BenchError as
    `cifar10.download`."""
    fetch.download(URL, folder / FILE, max_bytes=MAX_BYTES)
    cifar10.download(folder)


def read(folder: Path) -> Content:
    """The labels of a folder that holds FILE and CIFAR-10 too, in either layout of it. BenchError where a file is
    missing or unreadable, or the labels are not those that were published of these images."""
    path = folder / FILE
    arrays = _arrays(path)
    ids, clean = cifar10.training_order(folder)
    for name in (CLEAN, *SOURCES.values()):
        found = arrays.get(name)
        if found is None or found.shape != clean.shape or found.dtype.kind not in "iu":
            said = "no array" if found is None else f"{found.dtype} {found.shape}"
            raise BenchError(f"its `{name}` is {said}, not {len(clean):,} whole numbers.", where=path, remedy=_AGAIN)
        if found.min() < 0 or found.max() >= len(cifar10.CLASSES):
            raise BenchError(
                f"its `{name}` has a label outside 0 to {len(cifar10.CLASSES) - 1}.", where=path, remedy=_AGAIN
            )
    apart = int((arrays[CLEAN] != clean).sum())
    if apart:
        raise BenchError(
            f"its clean labels are not those of the training images beside it: {apart:,} of {len(clean):,} differ.",
            where=path,
            remedy=f"Put {cifar10.ARCHIVE} beside it, whose images are in the published order.",
        )
    for source, name in SOURCES.items():
        wrong = 100 * float((arrays[name] != clean).mean())
        if abs(wrong - WRONG_PERCENT[source]) > 0.006:
            raise BenchError(
                f"{wrong:.2f} % of its `{name}` are wrong, not {WRONG_PERCENT[source]} % as published.",
                where=path,
                remedy=_AGAIN,
            )
    return Content(ids, {source: arrays[name].astype(np.int64) for source, name in SOURCES.items()})


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file of torch that holds nothing else. BenchError where it is anything else."""
    import torch

    # What the pickle of an array of whole numbers names, under the module's former name too.
    rebuild = np.zeros(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("int8", "int16", "int32", "int64", "uint8")]
    allowed = [np.ndarray, np.dtype, rebuild, (rebuild, "numpy.core.multiarray._reconstruct"), *kinds]
    try:
        with torch.serialization.safe_globals(allowed):  # pyright: ignore[reportArgumentType]
            held = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BenchError("is missing.", where=path, remedy=_AGAIN) from None
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as fault:
        what = f"cannot be read as arrays of whole numbers ({type(fault).__name__})."
        raise BenchError(what, where=path, remedy=_AGAIN) from None
    if not isinstance(held, dict):
        raise BenchError("is no dict of arrays.", where=path, remedy=_AGAIN)
    return {str(name): np.asarray(value) for name, value in held.items()}


def write(content: Content, out: Path) -> dict[str, int]:
    """Write `out/noisy_labels/<source>.parquet` of every source; return counts. Equal content gives equal bytes."""
    import pandas as pd

    sample_ids = [f"{cifar10.DATASET}/{stable}" for stable in content.ids]
    for source, labels in content.labels.items():
        rows = {"sample_id": sample_ids, "source": source, "class_id": labels, "weight": 1.0}
        tables.write("labels", pd.DataFrame(rows), out / FOLDER / f"{source}.parquet", level=tables.FAST_LEVEL)
    return {"sources of labels": len(content.labels), "labels": sum(map(len, content.labels.values()))}
