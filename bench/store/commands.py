"""git, DVC and pip as commands: their output, or a BenchError with the last thing that they said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.errors import BenchError


def git(root: Path, *arguments: str, remedy: str) -> str:
    """The output of `git ARGUMENTS`; BenchError with `remedy` where it fails."""
    return _run(root, ["git", *arguments], f"git {' '.join(arguments[:2])}", remedy)


def dvc(root: Path, *arguments: str, remedy: str) -> str:
    """The output of `dvc ARGUMENTS`; BenchError with `remedy` where it fails."""
    return _run(root, [sys.executable, "-m", "dvc", *arguments], f"dvc {' '.join(arguments[:2])}", remedy)


def pip(root: Path, *arguments: str, remedy: str) -> str:
    """The output of `pip ARGUMENTS`; BenchError with `remedy` where it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return _run(root, command, f"pip {' '.join(arguments[:1])}", remedy)


def _run(root: Path, command: list[str], shown: str, remedy: str) -> str:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise BenchError(f"`{shown}` failed: {said[-1] if said else 'no message'}.", where=root, remedy=remedy)
    return done.stdout.strip()
