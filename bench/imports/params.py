"""What an import changes: one file below data/imported, one entry of params.yaml, data.dvc; all of it, or nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from bench import config as configuration
from bench.config import Config
from bench.errors import BenchError
from bench.presets import merge
from bench.store import tables

READ_ONLY = 0o444


def commit(
    config: Config, made: list[Path], write: Callable[[], object], edit: Callable[[str], str], gone: list[Path]
) -> None:
    """Write new files, edit params.yaml, take away the files `gone`, and let DVC version data/.

    For who holds the lock of params.yaml. `write` makes the files `made`; `edit` maps the text of params.yaml to the
    new one, once they are there. On any failure, Ctrl-C included, params.yaml, data.dvc and the files are as they were
    before. BenchError where one of `made` exists already: params.yaml does not list it, so it is not known whose it is.
    """
    for file in made:
        if file.exists():
            raise BenchError(
                "is there already, but params.yaml does not list it.",
                where=file,
                remedy="Remove it, or bring back the params.yaml that lists it; then import again.",
            )
    path = config.root / "params.yaml"
    pointer = config.root / "data.dvc"
    before = {file: file.read_bytes() for file in (path, pointer, *gone) if file.exists()}
    try:
        write()
        for file in made:
            file.chmod(READ_ONLY)
        text = edit(before[path].decode("utf-8"))
        with tables.replacing(path) as temporary:
            temporary.write_bytes(text.encode("utf-8"))
            _check(temporary)
        for file in gone:
            _remove(file, config.data)
        if pointer.exists():
            _version(config.root)
    except BaseException:
        for file in made:
            _remove(file, config.data)
        for file, content in before.items():
            if not file.exists() or file.read_bytes() != content:
                with tables.replacing(file) as temporary:
                    temporary.write_bytes(content)
                if file in gone:
                    file.chmod(READ_ONLY)
        raise


def _check(path: Path) -> None:
    try:
        configuration.load(path)
    except BenchError as error:
        raise BenchError(
            f"would not be valid any more: {error.what}", where="params.yaml", remedy="Correct that first."
        ) from None


def _remove(file: Path, root: Path) -> None:
    """Remove a file and the folders above it, below `root`, that are empty then."""
    file.unlink(missing_ok=True)
    for folder in file.parents:
        if folder == root or root not in folder.parents:
            break
        with suppress(OSError):  # it holds other files
            folder.rmdir()


def _version(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "add", "--quiet", "data"], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(
            f"`dvc add data` failed: {(done.stderr or done.stdout).strip()[-300:]}.",
            where="data",
            remedy="Make `dvc status` work in this folder, then import again; nothing was changed.",
        )


def with_entry(text: str, section: str, entry: str, value: dict[str, Any]) -> str:
    """YAML text with a new entry at the end of a section."""
    return merge.insert(text, section, {entry: value})


def without_entry(text: str, section: str, entry: str) -> str:
    """YAML text without an entry of a section."""
    return merge.cut(text, section, [entry])


def with_value(text: str, section: str, entry: str, key: str, value: Any) -> str:
    """YAML text in which one key of an entry has another value; None takes the key out. Nothing else changes.

    BenchError where there is no such entry, written as a map.
    """
    node = _mapping(text, section, entry)
    found = [(k, v) for k, v in node.value if k.value == key]
    if value is not None:
        said = merge.flow(value)
        if found:
            start, end = found[0][1].start_mark.index, _end(text, found[0][1])
            return f"{text[:start]}{said}{text[end:]}"
        return _appended(text, node, f"{key}: {said}")
    if not found:
        return text
    start, end = found[0][0].start_mark.index, _end(text, found[0][1])
    if not node.flow_style:
        return text[: text.rfind("\n", 0, start) + 1] + text[text.find("\n", end) + 1 :]
    left, right = text[:start].rstrip(), text[end:].lstrip()
    if left.endswith(","):
        return left[:-1].rstrip() + (right if right.startswith((",", "}")) else f" {right}")
    return left + right.removeprefix(",").lstrip()


def _appended(text: str, node: yaml.MappingNode, item: str) -> str:
    if node.flow_style:
        at = node.end_mark.index - 1
        before = text[:at].rstrip()
        return f"{before}{', ' if node.value else ''}{item}{text[at:]}"
    last = node.value[-1][1]
    at = _end(text, last)
    at = len(text) if (found := text.find("\n", at)) < 0 else found
    indent = " " * node.value[0][0].start_mark.column
    return f"{text[:at]}\n{indent}{item}{text[at:]}"


def _end(text: str, node: yaml.Node) -> int:
    """Where the value itself ends: a block's mark is at the next token, after blank lines and comments."""
    if isinstance(node, (yaml.MappingNode, yaml.SequenceNode)) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    return node.start_mark.index + len(text[node.start_mark.index : node.end_mark.index].rstrip())


def _mapping(text: str, section: str, entry: str) -> yaml.MappingNode:
    node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    for name in (section, entry):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for key, value in pairs if key.value == name), None)
    if not isinstance(node, yaml.MappingNode) or (not node.flow_style and not node.value):
        raise BenchError(
            f"`{section}.{entry}` is no map of keys.", where="params.yaml", remedy="Write it as `name: {key: value}`."
        )
    return node
