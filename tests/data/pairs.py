"""Pairs of small datasets on disk, `one` and `two`, whose differences are known, and what the check says of them."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from bench import config as configuration
from bench.config import Config
from bench.data import findings, pair, samples, writer
from tests.data.conftest import META

N, K, SIDE = 24, 3, 48
CHECKS = ["balance", "duplicates", "encoding", "labels"]


def noise(n: int = N, seed: int = 0, side: int = SIDE) -> np.ndarray:
    """uint8 (n, side, side): smooth noise, so that hashes of two pictures are far apart and those of copies near."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 9, 9), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC)) for one in coarse])


def put(root: Path, name: str, images: np.ndarray, **changes: object) -> None:
    """A dataset of test images whose classes alternate; `changes` are fields of Content."""
    n = len(images)
    content = writer.Content(name, META, [f"{name[0]}{row:03d}" for row in range(n)], np.arange(n) % K, images)
    writer.write(replace(content, **changes), root / "data")  # pyright: ignore[reportArgumentType]


def encode(root: Path, name: str, mode: str = "L", format: str = "JPEG", every: int = 1, **options: object) -> None:
    """Encode every so many images of a dataset again."""
    path = root / "data" / name / samples.SAMPLES
    frame = pq.read_table(path).to_pandas()
    for row in range(0, len(frame), every):
        buffer = io.BytesIO()
        with Image.open(io.BytesIO(frame["image"][row])) as picture:
            picture.convert(mode).save(buffer, format, **options)
        frame.at[row, "image"] = buffer.getvalue()
        frame.at[row, "media_type"] = f"image/{format.lower()}"
    pq.write_table(pa.Table.from_pandas(frame, schema=samples.schema(), preserve_index=False), path)


def without_pictures(root: Path, name: str) -> None:
    path = root / "data" / name / samples.SAMPLES
    pq.write_table(pq.read_table(path).drop_columns(list(samples.PICTURE)), path)


def declared(root: Path, **more: Mapping[str, object]) -> Config:
    """The datasets `one` and `two`, and what else is named; written to params.yaml as well."""
    datasets: dict[str, Mapping[str, object]] = {
        "one": {"role": "original"},
        "two": {"role": "replication", "replicates": "one"},
    } | more
    raw = {"seed": 0, "suites": {"digits": {}}, "datasets": datasets, "models": {}}
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return configuration.load(root / "params.yaml")


def checked(root: Path) -> dict[str, findings.Finding]:
    report = pair.check(declared(root), "one", "two")
    assert [finding.check for finding in report.findings] == CHECKS
    assert report.found == [finding.check for finding in report.findings if finding.differs]
    text = report.text()
    assert re.search(r"\b(nan|inf)\b", text.lower()) is None
    assert all(len(line) <= findings.WIDTH for line in text.splitlines())
    return {finding.check: finding for finding in report.findings}


def said(finding: findings.Finding) -> str:
    """All details of a finding as one line."""
    return " | ".join(f"{label} {text}".strip() for label, text in finding.details)
