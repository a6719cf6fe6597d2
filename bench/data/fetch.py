"""`bench data fetch PRESET`: the data of a preset that may not be passed on, verified against the preset's manifest.

What a preset fetches lies in `fetched/<preset>/`, is no output of any stage, and never enters git, `data/` or a
snapshot. The manifest pins the files as they are written here, whatever source they come from. A preset of which the
project has no manifest is pinned by what it gives first (`Preset.pinned_here`): that goes into params.yaml with the
preset, and is what a later fetch must give, here or elsewhere.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from bench import progress
from bench.errors import BenchError
from bench.store import tables

if TYPE_CHECKING:
    from bench.config import Pinned
    from bench.presets.preset import Preset

THUMBNAILS = "thumbnails.parquet"
"""Table `images` of a fetched dataset, in its folder: what is shown of images that may not be passed on. Of a set that
comes without images `bench data attach` makes it, and it survives a new fetch."""
PINS = "files.sha256"
"""The manifest of what a preset gave here, where the project has none of it."""
ATTEMPTS = 5
TIMEOUT_S = 60
CHUNK = 2**20
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Reader:
    """How the data of one preset come: `download` gets the official sources into a folder, `read` takes that folder or
    a local one, and `write` makes of what was read the files that the manifest pins, and returns counts."""

    download: Callable[[Path, Preset], None]
    read: Callable[[Path], Any]
    write: Callable[[Any, Path], dict[str, int]]


def reader(preset: str) -> Reader:
    """The reader of a preset, by its name. BenchError where it fetches nothing."""
    from bench.data import cifar10, cifar10_replications, cifar10_resnets, cifar10n, fundus, imagenet, imagenet_lite

    known = {
        cifar10.PRESET: Reader(lambda folder, preset: cifar10.download(folder), cifar10.read, cifar10.write),
        cifar10_resnets.PRESET: Reader(
            lambda folder, preset: cifar10_resnets.download(folder), cifar10_resnets.read, cifar10_resnets.write
        ),
        cifar10n.PRESET: Reader(lambda folder, preset: cifar10n.download(folder), cifar10n.read, cifar10n.write),
        fundus.PRESET: Reader(lambda folder, preset: fundus.download(folder), fundus.read, fundus.write),
        imagenet.PRESET: Reader(_download_imagenet, imagenet.read, imagenet.write),
        imagenet_lite.PRESET: Reader(
            lambda folder, preset: imagenet_lite.download(folder), imagenet_lite.read, imagenet_lite.write
        ),
    }
    for name in cifar10_replications.PRESETS:
        known[name] = Reader(
            lambda folder, preset: cifar10_replications.download(folder, preset.name),
            partial(cifar10_replications.read, preset=name),
            cifar10_replications.write,
        )
    if preset not in known:
        raise BenchError(f"{preset!r} fetches nothing.", where="preset", remedy=f"Use one of: {', '.join(known)}.")
    return known[preset]


def _download_imagenet(folder: Path, preset: Preset) -> None:
    from bench.data import imagenet

    assert preset.refined_labels is not None, "imagenet.yaml pins them"
    imagenet.download(folder, list(preset.imported), preset.refined_labels)


def run(preset: Preset, fetched: Path, source: Path | None = None, held: Mapping[str, Pinned] | None = None) -> str:
    """Fill `fetched/<preset>/`, from the folder `source` or from the official sources; say what was done.

    Does nothing where all is there and verified. All or nothing: built beside, verified, renamed. Raises BenchError
    where a source is incomplete or malformed, or what it gives is not what the manifest pins; or, of a preset without
    one, what those that are `held` in params.yaml pin.
    """
    out, downloads = fetched / preset.name, fetched / f".{preset.name}.downloads"
    if not preset.fetches:
        return f"The preset {preset.name} has nothing to fetch: what it names is made here. Next: `dvc repro`."
    here = preset.as_fetched(fetched)
    if here.files and not wrong_files(here, out) and not _other_pins(here, held or {}):
        return f"{out} is complete: all {len(here.files)} files are as pinned. Nothing was done."
    if source is not None and not source.is_dir():
        raise BenchError("there is no such folder.", where=source, remedy="Correct --from.")
    how = reader(preset.name)
    with tables.replacing_folder(out) as temporary:
        if source is None:
            how.download(downloads, preset)
        counts = how.write(how.read(source or downloads), temporary)
        if preset.pinned_here:
            pinned = _pin(preset, temporary, held or {}, source)
        else:
            _verify(preset, temporary, source)
            pinned = f"all {len(preset.files)} files are as pinned."
        for kept in out.glob(f"*/{THUMBNAILS}"):
            if not (temporary / kept.parent.name / THUMBNAILS).exists():
                shutil.copy2(kept, temporary / kept.parent.name / THUMBNAILS)
    shutil.rmtree(downloads, ignore_errors=True)
    said = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    return f"{out}: {said}; {pinned}"


def _verify(preset: Preset, folder: Path, source: Path | None) -> None:
    wrong = wrong_files(preset, folder)
    if wrong:
        said = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise BenchError(
            f"{len(wrong)} of {len(preset.files)} files are not as pinned: {said}.",
            where=source or "the official sources",
            remedy="The pins hold for the versions of requirements.lock: run `make setup`. If that is not it, the "
            "source has changed; nothing was written.",
        )


def _pin(preset: Preset, folder: Path, held: Mapping[str, Pinned], source: Path | None) -> str:
    """Write the manifest of what a preset gave here, if it is what params.yaml pins already; say what holds."""
    files = hashes(folder)
    given = preset.model_copy(update={"files": files})
    if wrong := _other_pins(given, held):
        raise BenchError(
            f"does not give what params.yaml pins: {', '.join(wrong)}.",
            where=source or "the official sources",
            remedy="The pins hold for the versions of requirements.lock: run `make setup`. If that is not it, the "
            f"source has changed: `bench preset remove {preset.name}`, then fetch and add it again to take it as it "
            "is now. Nothing was written.",
        )
    (folder / PINS).write_text(manifest_of(files), encoding="utf-8")
    if preset.pins_held(held):
        return f"all {len(files)} files are as params.yaml pins them."
    return f"its {len(files)} files are pinned as they are now. `bench preset add {preset.name}` writes the pins down."


def _other_pins(preset: Preset, held: Mapping[str, Pinned]) -> list[str]:
    """What params.yaml pins of a preset that is pinned by what it gave here, otherwise than that."""
    mine = preset.pins()
    return [name for name, pin in preset.pins_held(held).items() if mine.get(name) != pin] if preset.pinned_here else []


def hashes(folder: Path) -> dict[str, str]:
    """File below `folder` -> hex sha256, but for a manifest."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {file: tables.sha256(folder / file) for file in files if file != PINS}


def manifest_of(files: Mapping[str, str]) -> str:
    """A manifest, as sha256sum writes it."""
    return "".join(f"{pin}  {file}\n" for file, pin in files.items())


def wrong_files(preset: Preset, folder: Path) -> list[str]:
    """The files of the manifest that are missing in `folder` or differ."""
    return [file for file, pin in preset.files.items() if not _is(folder / file, pin)]


def _is(path: Path, pin: str) -> bool:
    return path.is_file() and tables.sha256(path) == pin


def download(
    url: str, path: Path, *, max_bytes: int, pin: str | None = None, wait: Callable[[float], None] = time.sleep
) -> Path:
    """Get `url` into `path`, unless it is there. A lost connection is taken up where it broke, ATTEMPTS times.

    The part that has come lies in `<path>.part`, and a later call goes on from it too, as long as the server says that
    the file is the same (ETag or Last-Modified; If-Range). Raises BenchError where the server refuses, the file is
    larger than `max_bytes`, it keeps breaking off, or its sha256 is not `pin` (where that is known).
    """
    if path.is_file() and (pin is None or tables.sha256(path) == pin):
        return path
    if urlsplit(url).scheme not in ("https", "http"):
        raise BenchError("is not a web address.", where=url, remedy="Correct the source.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _append(url, part, max_bytes)
            break
        except HTTPError as fault:
            if fault.code == 416:  # the part is not a part of what is there now
                part.unlink(missing_ok=True)
            elif fault.code not in TRANSIENT:
                raise BenchError(
                    f"the server answers {fault.code} {fault.reason}.", where=url, remedy=_BY_HAND
                ) from None
            failure = f"{fault.code} {fault.reason}"
        except (OSError, HTTPException) as fault:  # no way there, a timeout, a reset, or an answer that is cut off
            failure = str(getattr(fault, "reason", fault))
        if attempt == ATTEMPTS:
            raise BenchError(f"could not be fetched: {failure}.", where=url, remedy=_BY_HAND)
        progress.log.warning("%s: %s; trying again", url, failure)
        wait(2.0 ** (attempt - 1))
    if pin is not None and tables.sha256(part) != pin:
        part.unlink()
        raise BenchError("is not the file that is pinned (sha256).", where=url, remedy=_BY_HAND)
    part.replace(path)
    _validator(part).unlink(missing_ok=True)
    return path


_BY_HAND = (
    "Run the command again to go on from what has come, or get the files by hand and name their folder: --from DIR."
)


def _validator(part: Path) -> Path:
    return part.with_name(f"{part.name}.validator")


def _append(url: str, part: Path, max_bytes: int) -> None:
    """One request: the rest of `part` if the server still has the same file, else all of it. OSError where cut off."""
    known = _validator(part).read_text() if part.is_file() and _validator(part).is_file() else ""
    have = part.stat().st_size if known else 0
    headers = {"User-Agent": "second-look"} | ({"Range": f"bytes={have}-", "If-Range": known} if have else {})
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
        if answer.status != 206:
            have = 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        if (total or 0) > max_bytes:
            raise _too_large(url, max_bytes)
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        _validator(part).write_text("" if tag.startswith("W/") else tag)
        with part.open("ab" if have else "wb") as stream:
            size = have + _copy(answer, stream, max_bytes - have, url)
    if total is not None and size != total:
        raise OSError(f"broke off at {size:,} of {total:,} bytes")


def _copy(answer: IO[bytes], stream: IO[bytes], room: int, url: str) -> int:
    size = 0
    while chunk := answer.read(CHUNK):
        size += len(chunk)
        if size > room:
            raise _too_large(url, room)
        stream.write(chunk)
    return size


def _too_large(url: str, limit: int) -> BenchError:
    return BenchError(f"is larger than the {limit:,} bytes that are expected at most.", where=url, remedy=_BY_HAND)
