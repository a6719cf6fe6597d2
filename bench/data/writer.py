"""The one writer of `data/<dataset>/`: the counterpart of `samples.py`. Equal content gives equal bytes, everywhere.

Images are PNG whose pixels are stored, not deflated: Parquet's zstd then compresses across images, which on these small
pictures is smaller than deflated PNG or lossless WebP, and no bytes depend on how a machine's zlib was built.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.data.samples import LABELS, META, SAMPLES, DatasetMeta, schema
from bench.store import tables

COMPRESSION_LEVEL = 19
PAGE_BYTES = 2**24


@dataclass(frozen=True)
class Content:
    """A dataset to write. `ids` (N,) are stable ids without the dataset's name; `labels` (N,); `images` uint8
    (N, H, W) grey or (N, H, W, 3) RGB; `splits` and `source_ids` (N,), by default all test and their own; `extra` maps
    further label sources to the classes of every image (N lists)."""

    name: str
    meta: DatasetMeta
    ids: list[str]
    labels: np.ndarray
    images: np.ndarray
    splits: list[str] = field(default_factory=list)
    source_ids: list[str] = field(default_factory=list)
    extra: dict[str, list[list[int]]] = field(default_factory=dict)


def write(content: Content, out: Path, *, level: int = COMPRESSION_LEVEL) -> int:
    """Write `out/<name>/`, whole or not at all (built beside it and renamed), and return its bytes.

    Raises BenchError where the folder cannot be written: no space, no permission.
    """
    with tables.replacing_folder(out / content.name) as temporary:
        _write_files(content, temporary, level)
        return sum(path.stat().st_size for path in temporary.iterdir())


def png(image: np.ndarray) -> bytes:
    """uint8 (H, W) or (H, W, 3) -> PNG with stored pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=0)
    return buffer.getvalue()


def _write_files(content: Content, folder: Path, level: int) -> None:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = [f"{content.name}/{stable}" for stable in content.ids]
    height, width = content.images.shape[1:3]
    frame = pd.DataFrame(
        {
            "sample_id": ids,
            "split": content.splits or "test",
            "label": content.labels.astype(np.int32),
            "width": np.int32(width),
            "height": np.int32(height),
            "source_id": content.source_ids or ids,
            "media_type": "image/png",
            "image": [png(image) for image in content.images],
        }
    ).sort_values("sample_id", ignore_index=True)
    sources = {"original": [[int(label)] for label in content.labels], **content.extra}
    labels = [
        (sample_id, source, class_id, 1.0)
        for source, every in sources.items()
        for sample_id, present in zip(ids, every, strict=True)
        for class_id in present
    ]
    text = json.dumps(content.meta.model_dump(exclude_none=True), indent=2, ensure_ascii=False, sort_keys=True)
    (folder / META).write_text(text + "\n", encoding="utf-8")
    pq.write_table(
        pa.Table.from_pandas(frame, schema=schema(), preserve_index=False).replace_schema_metadata(None),
        folder / SAMPLES,
        compression="zstd",
        compression_level=level,
        use_dictionary=["split", "label", "width", "height", "media_type"],  # pyright: ignore[reportArgumentType]
        data_page_size=PAGE_BYTES,
        store_schema=False,
    )
    columns = ["sample_id", "source", "class_id", "weight"]
    tables.write("labels", pd.DataFrame(labels, columns=columns), folder / LABELS)
