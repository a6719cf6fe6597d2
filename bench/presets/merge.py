"""`bench preset add|remove|list`: what a preset adds to params.yaml, put in and taken out as whole lines of text.

Nothing else of the file changes, to the byte: the YAML parser only says where a section ends. The new text is read by
`config.load` before it replaces the old.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from bench import config as configuration
from bench.config import Config
from bench.data import fetch
from bench.errors import BenchError
from bench.presets import preset as presets
from bench.presets.preset import RUNS, SECTIONS, Preset
from bench.store import tables

EMPTY = " {}"
INDENT = "  "
LOCK = ".params.lock"
"""Held, beside params.yaml, by whoever reads that file in order to change it."""
ADDED_LATER = ("sha256", "weights", "images", "labels", "votes")
"""Keys that a first fetch, `bench data attach`, `bench import labels` and `bench import votes` add to an entry of a
preset."""


@contextmanager
def locked(path: Path) -> Iterator[Config]:
    """Wait until no one else changes the params.yaml at `path`, and yield it as it is then. Not to be nested."""
    import fcntl

    with (path.parent / LOCK).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield configuration.load(path)


def add(path: Path, name: str) -> str:
    """Merge a preset into the params.yaml at `path`; say what was done. Twice is the same as once.

    Raises BenchError where an entry is there already with another value, or the result is no valid configuration;
    the file is then as it was.
    """
    with locked(path):
        return _add(path, name)


def _add(path: Path, name: str) -> str:
    preset = presets.load(name).as_fetched(path.parent / "fetched")
    text = _text(path)
    if preset.pinned_here and not preset.files:
        raise BenchError(
            "is pinned by what it fetches, and nothing of it is here yet.",
            where=f"preset {name}",
            remedy=f"Run `bench data fetch {name}` first, or name a folder: `bench preset add {name} --from DIR`.",
        )
    for other in preset.requires:
        if _compared(presets.load(other), text, ADDED_LATER)[2]:
            raise BenchError(
                f"needs the preset {other}.", where=f"preset {name}", remedy=f"Run `bench preset add {other}` first."
            )
    there, changed, absent = _compared(preset, text, ADDED_LATER)
    if changed:
        raise BenchError(
            f"has other values already: {_listed(changed)}.",
            where=path.name,
            remedy=f"Rename yours, or take the preset's older values out with `bench preset remove {name} --force`.",
        )
    if not absent:
        return f"{path.name} holds the preset {name} already; nothing was changed."
    for section in SECTIONS:
        entries = {key: value for part, key, value in absent if part == section}
        if entries:
            text = insert(text, section, entries)
    _replace(path, text)
    kept = f" ({len(there)} entries were there already)" if there else ""
    return f"{path.name}: {_counted(absent)} added{kept}."


def remove(path: Path, name: str, *, force: bool = False, files: bool = False) -> str:
    """Take out of the params.yaml at `path` what a preset added; with `files`, what it fetched too. Say what was done.

    Raises BenchError where the user changed an entry (unless `force`), or something else still needs one.
    """
    with locked(path):
        return _remove(path, name, force=force, files=files)


def _remove(path: Path, name: str, *, force: bool, files: bool) -> str:
    preset = presets.load(name).as_fetched(path.parent / "fetched")
    text = _text(path)
    there, changed, _ = _compared(preset, text, ("sha256", "weights", "images"))
    if changed and not force:
        raise BenchError(
            f"entries of the preset {name} were changed since: {_listed(changed)}.",
            where=path.name,
            remedy="Keep what you need under other names, or remove them as they are with --force.",
        )
    gone = [*there, *changed]
    for section in SECTIONS:
        text = cut(text, section, [key for part, key, _ in gone if part == section])
    if gone:
        _replace(path, text)
    said = [f"{path.name}: {_counted(gone)} removed." if gone else f"{path.name} holds nothing of the preset {name}."]
    folder = path.parent / "fetched" / name
    if files and folder.is_dir():
        shutil.rmtree(folder)
        said.append(f"{folder} was removed.")
    elif folder.is_dir():
        said.append(f"{folder} stays; --files removes it too.")
    if gone:
        said.append("`bench prune` removes its results, `dvc repro` computes the others anew.")
    return "\n".join(said)


def listed(path: Path) -> list[str]:
    """A line or two for every preset: what it adds, whether it is added and fetched."""
    lines = []
    for name in presets.names():
        preset = presets.load(name).as_fetched(path.parent / "fetched")
        there, changed, absent = _compared(preset, _text(path), ADDED_LATER)
        state = "added" if not absent and not changed else "not added" if not there and not changed else "added in part"
        fetched = bool(preset.files) and not fetch.wrong_files(preset, path.parent / "fetched" / name)
        got = "nothing to fetch" if not preset.fetches else "fetched" if fetched else "not fetched"
        lines += [f"{name}: {preset.about}", f"  {_counted([*there, *changed, *absent])}; {state}; {got}"]
    return lines


Entries = list[tuple[str, str, Any]]
"""(section, name, value)"""


def _compared(preset: Preset, text: str, ignored: tuple[str, ...]) -> tuple[Entries, Entries, Entries]:
    """The entries of a preset that params.yaml holds as they are, holds with other values, and does not hold.

    What was added to an entry under keys that are `ignored` makes no difference.
    """
    present = yaml.safe_load(text) or {}
    there, changed, absent = [], [], []
    for section, entries in preset.entries().items():
        held = present
        for part in section.split("."):
            held = held.get(part) or {}
        for key, value in entries.items():
            mine = _without_additions(held[key], value, ignored) if key in held else None
            part = absent if mine is None else there if mine == value else changed
            part.append((section, key, value))
    return there, changed, absent


def _without_additions(held: dict[str, Any], value: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """An entry `held` without the `keys` that the preset's `value` of it lacks; of those that are maps in `value`,
    such as votes, without what is beside the preset's own."""
    kept = {k: v for k, v in held.items() if k not in keys or k in value}
    for key in keys:
        if isinstance(value.get(key), dict) and isinstance(kept.get(key), dict):
            kept[key] = {name: v for name, v in kept[key].items() if name in value[key]}
    return kept


def _counted(entries: Entries) -> str:
    words = {"suites": "suite", "datasets": "dataset", "models": "model", "imported": "imported model"}
    words |= {"evaluations": "evaluation", "noisy_labels": "source", "segmentation": "set with mask"}
    words |= {f"{study}.runs": f"{study} run" for study in RUNS} | {"attacks.runs": "attack"}
    numbers = {section: sum(part == section for part, _, _ in entries) for section in SECTIONS}
    return ", ".join(f"{number} {words[s]}{'s' * (number > 1)}" for s, number in numbers.items() if number)


def _listed(entries: Entries, most: int = 5) -> str:
    names = [f"{section}.{key}" for section, key, _ in entries]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def insert(text: str, section: str, entries: dict[str, Any]) -> str:
    """YAML text with new entries at the end of a section, one line each; all other lines stay as they are.

    A section that is not there is added at the end of the text, or, as `regional.runs`, of the one that it is in.
    BenchError where it is neither a block nor `{}`.
    """
    return _put(text, section, [_line("", key, value) for key, value in entries.items()])


def _put(text: str, section: str, added: list[str]) -> str:
    """YAML text with lines, not indented yet, at the end of a section; "" is the whole text."""
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    if not section:
        return "".join([*lines, "\n", *added])
    key, node = _section(text, section)
    if key is None or node is None:
        outer, _, name = section.rpartition(".")
        return _put(text, outer, [f"{name}:\n", *(INDENT + line for line in added)])
    header = key.start_mark.line
    if not node.value:
        lines[header] = lines[header].replace(EMPTY, "", 1)
    column = node.value[0][0].start_mark.column if node.value else key.start_mark.column + len(INDENT)
    at = (_last_line(node.value[-1][1]) if node.value else header) + 1
    return "".join([*lines[:at], *(" " * column + line for line in added), *lines[at:]])


def cut(text: str, section: str, names: list[str]) -> str:
    """YAML text without the named entries of a section; one that has no other entry is `{}` then."""
    if not names:
        return text
    section_key, node = _section(text, section)
    lines = text.splitlines(keepends=True)
    spans = {key.value: (key.start_mark.line, _last_line(value) + 1) for key, value in (node.value if node else [])}
    drop = {line for name in names for line in range(*spans.get(name, (0, 0)))}
    if section_key is not None and spans and set(spans) <= set(names):
        header = section_key.start_mark.line
        lines[header] = lines[header].replace(":", f":{EMPTY}", 1)
    return "".join(line for number, line in enumerate(lines) if number not in drop)


def set_value(path: Path, section: str, entry: str, key: str, value: Any) -> None:
    """Set one key of one entry of the params.yaml at `path`, for who holds the lock; nothing else of the text changes.

    Raises BenchError where there is no such entry, or the result is no valid configuration.
    """
    text = _text(path)
    _, node = _section(text, section)
    found = [v for k, v in (node.value if node else []) if k.value == entry and isinstance(v, yaml.MappingNode)]
    if not found:
        raise BenchError(f"has no entry `{section}.{entry}`.", where=path.name, remedy="Add it first.")
    _replace(path, _with_value(text, found[0], key, value))


def _with_value(text: str, node: yaml.MappingNode, key: str, value: Any) -> str:
    held = [v for k, v in node.value if k.value == key]
    if held:
        start, end = held[0].start_mark.index, held[0].end_mark.index
        return text[:start] + flow(value) + text[end:]
    if node.flow_style:
        at = node.end_mark.index - 1
        before = text[:at].rstrip()
        return f"{before}{', ' if node.value else ''}{key}: {flow(value)}{text[at:]}"
    lines = text.splitlines(keepends=True)
    indent = " " * node.value[0][0].start_mark.column
    at = _last_line(node) + 1
    return "".join([*lines[:at], _line(indent, key, value), *lines[at:]])


def _line(indent: str, key: str, value: Any) -> str:
    name = yaml.safe_dump(key, width=float("inf"), allow_unicode=True).splitlines()[0]
    return f"{indent}{name}: {flow(value)}\n"


def flow(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"), allow_unicode=True)
    return text.splitlines()[0]


def _section(text: str, section: str) -> tuple[yaml.ScalarNode | None, yaml.MappingNode | None]:
    """The key of a section and its mapping, or None where the text has none. BenchError where it is no block."""
    key, node = None, yaml.compose(text, Loader=yaml.SafeLoader)
    for part in section.split("."):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        key, node = next(((k, v) for k, v in pairs if k.value == part), (None, None))
        if key is None:
            return None, None
        if not isinstance(node, yaml.MappingNode) or (node.flow_style and node.value):
            raise BenchError(
                f"`{section}` is not written as a block, one entry a line.",
                where="params.yaml",
                remedy=f"Write `{section.split('.')[-1]}:` on a line of its own and each entry below it, or remove the "
                "empty key.",
            )
    return key, node


def _last_line(node: yaml.Node) -> int:
    """The line on which a value ends; a block ends with its last entry, not with the comments after it."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _last_line(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _last_line(node.value[-1])
    return node.end_mark.line if node.end_mark.column else node.end_mark.line - 1


def _text(path: Path) -> str:
    configuration.load(path)
    return path.read_bytes().decode("utf-8")


def _replace(path: Path, text: str) -> None:
    """Put `text` in the place of `path`, if it is a valid configuration."""
    with tables.replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))
        try:
            configuration.load(temporary)
        except BenchError as error:
            raise BenchError(
                f"would not be valid any more: {error.what}", where=path.name, remedy="Correct that first."
            ) from None
