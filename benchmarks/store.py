"""Claim: with correctness as bits, a changed filter costs milliseconds at 60 million predictions and at a billion.

Synthetic answers (a skill per model, a difficulty per image, noise) of 564 models x 14,000 images, 1,000 x 60,000 and,
as random bits, 1,000 x 1,000,000, in a temporary folder that is removed. Against the bits of bench/store stand a DuckDB
table of one row a prediction, a DuckDB BIT column of one row a model, Polars (a lazy scan of one long Parquet file, and
the same in memory), and the bits in plain numpy. Every engine starts from the same condition on images, so making a
mask is part of its time; all find exactly the same numbers, which is asserted; Wilson's intervals of all models are in
the time of `accuracies`. Rounds alternate between engines and change the condition: medians of 7, of 3 where an engine
takes longer than half a second. What an engine was not run on is not in its table. A cold query is the first of a new
process, its file put out of the system's cache; it opens the store and reads what it needs. The peak of memory is that
of this process, of the bits after every figure but the sweep of own uncertainties, of the others after the accuracies.

`python -m benchmarks.store --quick` runs all of it on small numbers and writes nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from bench import stats
from bench.store import bits
from benchmarks import beside, met

Way = Callable[[int], tuple[npt.NDArray[Any], ...]]
"""From the bound of a condition to the figures that it finds."""
Ways = dict[str, dict[str, Way]]
"""Engine -> measure -> how it does it."""

SIZES = {"8m": (564, 14_000), "60m": (1000, 60_000)}
BILLION = 1000, 1_000_000
QUICK_SIZES, QUICK_BILLION = {"8m": (60, 1600), "60m": (70, 4000)}, (60, 16_000)
CLASSES, CHOSEN_CLASSES = 1000, 800
STEP, STEPS = 1310, 50
"""Thresholds are 1309, 2619, ...: then the first that a code is under is a division in every engine."""
THRESHOLDS = STEP * np.arange(1, STEPS + 1) - 1
BOUNDS = (40_000, 30_000, 45_000, 25_000, 35_000, 50_000, 20_000)
"""Largest uncertainty of the reference that a round of queries lets through."""
AGREEING = 50
SLOW_S = 0.5
MEASURES = {
    "accuracies": "filter, accuracies of all models, intervals",
    "difficulty": "images by number of models right",
    "sweep_shared": "50 thresholds of one uncertainty",
    "sweep_own": "50 thresholds of each model's own",
    "agreement": "agreement of 50 models",
}
ENGINES = {
    "bits": "bits",
    "numpy": "numpy",
    "long": "DuckDB long",
    "flat": "DuckDB flat",
    "bit_column": "DuckDB BIT",
    "polars_scan": "Polars scan",
    "polars_memory": "Polars memory",
}
TARGETS = {
    "accuracies_ms_60m": ("<=", 10),
    "ratio_to_duckdb_long_60m": (">=", 20),
    "sweep_shared_ms_60m": ("<=", 20),
    "sweep_own_ms_60m": ("<=", 60),
    "agreement_ms_60m": ("<=", 50),
    "accuracies_ms_1b": ("<=", 120),
    "index_bytes_per_prediction_1b": ("<=", 0.13),
    "peak_rss_mb_1b": ("<=", 1000),
    "ingest_s_60m": ("<=", 60),
    "parquet_bytes_per_prediction_60m": ("<=", 6),
}


def run(*, quick: bool = False) -> dict[str, Any]:
    """All figures of all sizes; `met` says whether every target is."""
    with tempfile.TemporaryDirectory(prefix="store-") as name:
        folder = Path(name)
        began = time.perf_counter()
        bits.warm()
        warm_s = time.perf_counter() - began
        sizes = {label: _size(folder / label, *shape) for label, shape in (QUICK_SIZES if quick else SIZES).items()}
        sizes["1b"] = _billion(folder / "1b", *(QUICK_BILLION if quick else BILLION))
    large, billion = sizes["60m"], sizes["1b"]
    found = {
        "accuracies_ms_60m": large["ms"]["accuracies"]["bits"],
        "ratio_to_duckdb_long_60m": min(large["ratio"]["accuracies"][engine] for engine in ("long", "flat")),
        "sweep_shared_ms_60m": large["ms"]["sweep_shared"]["bits"],
        "sweep_own_ms_60m": large["ms"]["sweep_own"]["bits"],
        "agreement_ms_60m": large["ms"]["agreement"]["bits"],
        "accuracies_ms_1b": billion["ms"]["accuracies"]["bits"],
        "index_bytes_per_prediction_1b": billion["index_bytes_per_prediction"],
        "peak_rss_mb_1b": billion["peak_rss_mb"]["bits"],
        "ingest_s_60m": large["ingest_s"]["bits"],
        "parquet_bytes_per_prediction_60m": large["parquet_bytes_per_prediction"],
    }
    return {
        **beside(TARGETS, found),
        "compile_s": round(warm_s, 2),
        "seconds": round(time.perf_counter() - began),
        "sizes": sizes,
        "met": met(TARGETS, found),
    }


def details(result: dict[str, Any]) -> str:
    """The table of every engine: milliseconds, and how many times as long as the bits take."""
    lines = []
    for label, size in result["sizes"].items():
        lines.append(f"{label}: {size['models']:,} models x {size['images']:,} images, ms (x what the bits take)")
        names = [name for name in ENGINES if any(name in row for row in size["ms"].values())]
        lines.append(f"  {'':<44}" + "".join(f"{ENGINES[name]:>20}" for name in names))
        for measure, row in size["ms"].items():
            cells = [
                f"{row[name]:,.2f}"
                + (f" ({size['ratio'][measure][name]:,.0f}x)" if name in size["ratio"][measure] else "")
                if name in row
                else "-"
                for name in names
            ]
            lines.append(f"  {MEASURES[measure]:<44}" + "".join(f"{cell:>20}" for cell in cells))
        for key in ("ingest_s", "file_bytes_per_prediction", "cold_ms", "peak_rss_mb"):
            row = size.get(key, {})
            lines.append(f"  {key:<44}" + "".join(f"{row.get(name, '-')!s:>20}" for name in names))
    return "\n".join(lines)


def compare(ways: Ways) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Measure -> engine -> median milliseconds, and how many times as long as the bits.

    Raises AssertionError where an engine finds other numbers than the bits do.
    """
    ms: dict[str, dict[str, float]] = {}
    for measure in MEASURES:
        mine = {engine: each[measure] for engine, each in ways.items() if measure in each}
        slow, spent = set(), {engine: [] for engine in mine}
        for number, bound in enumerate([BOUNDS[0], *BOUNDS]):  # the first round is not counted
            results = {}
            for engine, way in mine.items():
                if engine in slow and number % 3 != 1:
                    continue
                began = time.perf_counter()
                results[engine] = way(bound)
                seconds = time.perf_counter() - began
                if number:
                    spent[engine].append(1000 * seconds)
                elif seconds > SLOW_S and engine != "bits":  # what all are held against is there in every round
                    slow.add(engine)
            for engine, figures in results.items():
                for figure, wanted in zip(figures, results["bits"], strict=True):
                    assert np.array_equal(figure, wanted), f"{engine} and bits differ in {measure}"
        ms[measure] = {engine: round(statistics.median(values), 3) for engine, values in spent.items() if values}
    ms = {measure: row for measure, row in ms.items() if row}
    ratio = {
        measure: {engine: round(value / row["bits"], 1) for engine, value in row.items() if engine != "bits"}
        for measure, row in ms.items()
    }
    return ms, ratio


def _size(folder: Path, models: int, images: int) -> dict[str, Any]:
    """One size with every engine."""
    folder.mkdir(parents=True)
    columns = images_of(images)
    files = write_answers(folder / "answers", models, columns)
    total = models * images
    on_disk = sum(path.stat().st_size for path in files)
    seconds = {
        "bits": _timed(lambda: ingest_bits(folder / "bits.duckdb", files, columns)),
        "long": _timed(lambda: ingest_long(folder / "long.duckdb", files, columns)),
        "bit_column": _timed(lambda: ingest_column(folder / "bit_column.duckdb", files, columns)),
        "polars_scan": _timed(lambda: ingest_parquet(folder / "long.parquet", files, columns)),
    }
    seconds["flat"] = seconds["long"] + _timed(lambda: ingest_flat(folder / "long.duckdb"))
    shutil.rmtree(folder / "answers")
    stored = {"long": "long.duckdb", "bit_column": "bit_column.duckdb", "polars_scan": "long.parquet"}
    stored["bits"] = "bits.duckdb"
    index = _index_bytes(folder / "bits.duckdb") / total
    cold = {engine: _cold(folder, engine) for engine in ("bits", "long", "bit_column", "polars_scan")}
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        ways = {
            "bits": bits_ways(folder / "bits.duckdb", columns),
            "numpy": numpy_ways(folder / "bits.duckdb", columns),
            "long": long_ways(connection, folder / "long.duckdb"),
            "flat": flat_ways(connection),
            "bit_column": column_ways(connection, folder / "bit_column.duckdb", images),
            "polars_scan": polars_ways(folder / "long.parquet", models, columns, in_memory=False),
            "polars_memory": polars_ways(folder / "long.parquet", models, columns, in_memory=True),
        }
        ms, ratio = compare(ways)
    sizes = {engine: (folder / name).stat().st_size for engine, name in stored.items()}
    shutil.rmtree(folder)
    return {
        "models": models,
        "images": images,
        "ms": ms,
        "ratio": ratio,
        "ingest_s": {engine: round(value, 1) for engine, value in seconds.items()},
        "parquet_bytes_per_prediction": round(on_disk / total, 2),
        "index_bytes_per_prediction": round(index, 4),
        "file_bytes_per_prediction": {engine: round(value / total, 3) for engine, value in sizes.items()},
        "cold_ms": {engine: each["ms"] for engine, each in cold.items()},
        "peak_rss_mb": {engine: each["rss_mb"] for engine, each in cold.items()},
    }


def _billion(folder: Path, models: int, images: int) -> dict[str, Any]:
    """The largest size: bits that nobody could have as rows, so only the engines that hold bits."""
    folder.mkdir(parents=True)
    columns = images_of(images)
    seconds = _timed(lambda: write_random(folder, models, images))
    _images(folder / "bits.duckdb", columns)
    total = models * images
    index = _index_bytes(folder / "bits.duckdb") / total
    cold = {engine: _cold(folder, engine) for engine in ("bits", "bit_column")}
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        mine = bits_ways(folder / "bits.duckdb", columns, own=False)
        ways = {
            "bits": mine,
            "numpy": {
                name: way for name, way in numpy_ways(folder / "bits.duckdb", columns).items() if name == "accuracies"
            },
            "bit_column": column_ways(connection, folder / "bit_column.duckdb", images),
        }
        ms, ratio = compare(ways)
    sizes = {engine: (folder / f"{engine}.duckdb").stat().st_size for engine in cold}
    shutil.rmtree(folder)
    return {
        "models": models,
        "images": images,
        "ms": ms,
        "ratio": ratio,
        "write_s": round(seconds, 1),
        "index_bytes_per_prediction": round(index, 4),
        "file_bytes_per_prediction": {engine: round(value / total, 3) for engine, value in sizes.items()},
        "cold_ms": {engine: each["ms"] for engine, each in cold.items()},
        "peak_rss_mb": {engine: each["rss_mb"] for engine, each in cold.items()},
    }


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# What there is: images, and one Parquet file a model in the order of the images.


def images_of(n: int) -> dict[str, npt.NDArray[Any]]:
    """Columns of n images: difficulty, label, and `ref`, the uncertainty of a reference model in codes."""
    rng = np.random.default_rng(n)
    difficulty = rng.standard_normal(n).astype(np.float32)
    doubt = _squashed(difficulty + 0.5 * rng.standard_normal(n).astype(np.float32))
    return {
        "difficulty": difficulty,
        "label": rng.integers(0, CLASSES, n).astype(np.uint16),
        "ref": bits.quantise(doubt, 0, 1),
    }


def _squashed(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return 1 / (1 + np.exp(-values))


def write_answers(folder: Path, models: int, images: dict[str, npt.NDArray[Any]]) -> list[Path]:
    """`folder/model=<m>/answers.parquet`: pred, msp and entropy, each uint16, for every image in order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(models)
    n, files = len(images["label"]), []
    for model, skill in enumerate(np.sort(rng.normal(1.2, 0.5, models)).astype(np.float32)):
        margin = skill - images["difficulty"] + rng.standard_normal(n, np.float32)
        wrong = (images["label"] + rng.integers(1, CLASSES, n)) % CLASSES
        doubt = 0.7 * rng.standard_normal((2, n), np.float32) - margin
        table = pa.table(
            {
                "pred": np.where(margin > 0, images["label"], wrong).astype(np.uint16),
                "msp": bits.quantise(_squashed(doubt[0]), 0, 1),
                "entropy": bits.quantise(_squashed(doubt[1] - 1), 0, 1),
            }
        )
        path = folder / f"model={model}" / "answers.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(
            table,
            path,
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
            column_encoding=dict.fromkeys(table.column_names, "BYTE_STREAM_SPLIT"),
        )
        files.append(path)
    return files


# From those files to a store of each engine.


def ingest_bits(path: Path, files: list[Path], images: dict[str, npt.NDArray[Any]]) -> None:
    """Tables bits, valid and codes, as bench.duckdb has them."""
    import pyarrow.parquet as pq

    n = len(images["label"])
    _images(path, images)
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE bits (model USMALLINT, n INTEGER, correct BLOB)")
        connection.execute("CREATE TABLE valid (n INTEGER, mask BLOB)")
        connection.execute("INSERT INTO valid VALUES (?, ?)", [n, bits.pack(np.ones(n, bool))])
        connection.execute("CREATE TABLE codes (model USMALLINT, measure VARCHAR, n INTEGER, codes BLOB)")
        right, codes = [], []
        for model, file in enumerate(files):
            table = pq.ParquetFile(file).read()
            answers = {name: table[name].to_numpy() for name in ("pred", "msp", "entropy")}
            right.append((model, n, bits.pack(answers["pred"] == images["label"])))
            codes += [(model, name, n, column.astype("<u2").tobytes()) for name, column in answers.items()]
            if len(right) == 100 or model == len(files) - 1:
                _append(connection, "bits", right)
                _append(connection, "codes", codes)
                right, codes = [], []


def _append(connection: duckdb.DuckDBPyConnection, table: str, rows: list[tuple[Any, ...]]) -> None:
    import pyarrow as pa

    given = pa.table({f"c{place}": list(column) for place, column in enumerate(zip(*rows, strict=True))})
    connection.register("given", given)
    connection.execute(f"INSERT INTO {table} SELECT * FROM given")
    connection.unregister("given")


def _images(path: Path, images: dict[str, npt.NDArray[Any]]) -> None:
    """Table images(image, label, ref) in a DuckDB file."""
    import pyarrow as pa

    given = pa.table(
        {"image": np.arange(len(images["label"]), dtype=np.uint32), "label": images["label"], "ref": images["ref"]}
    )
    with duckdb.connect(path) as connection:
        connection.register("given", given)
        connection.execute("CREATE TABLE images AS SELECT * FROM given")
        connection.unregister("given")


LONG = """
SELECT model::USMALLINT AS model, file_row_number::UINTEGER AS image, pred = label AS correct, msp, entropy
FROM read_parquet($files, file_row_number = true, hive_partitioning = true) answers
JOIN images ON images.image = answers.file_row_number
"""


def ingest_long(path: Path, files: list[Path], images: dict[str, npt.NDArray[Any]]) -> None:
    """A row a prediction, in the order of model and image."""
    _images(path, images)
    with duckdb.connect(path, config={"threads": 2}) as connection:
        connection.execute(f"CREATE TABLE answers AS {LONG}", {"files": [str(file) for file in files]})


def ingest_flat(path: Path) -> None:
    """Beside the long table one that repeats what is known of an image in every row: a filter needs no join."""
    with duckdb.connect(path, config={"threads": 2}) as connection:
        connection.execute(
            "CREATE TABLE flat AS SELECT model, correct, label, ref FROM answers JOIN images USING (image)"
        )


def ingest_column(path: Path, files: list[Path], images: dict[str, npt.NDArray[Any]]) -> None:
    """A row a model, with a BIT of every image."""
    _images(path, images)
    with duckdb.connect(path, config={"threads": 2}) as connection:
        connection.execute(
            f"""
            CREATE TABLE answers AS
            SELECT model, bitstring_agg(image, 0, {len(images["label"]) - 1}) FILTER (correct) AS correct
            FROM ({LONG}) GROUP BY model ORDER BY model
            """,
            {"files": [str(file) for file in files]},
        )


def ingest_parquet(path: Path, files: list[Path], images: dict[str, npt.NDArray[Any]]) -> None:
    """One long Parquet file, in the order of model and image."""
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("CREATE TABLE images (image UINTEGER, label USMALLINT)")
        _append(connection, "images", list(enumerate(images["label"].tolist())))
        copy = f"COPY ({LONG}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)"
        connection.execute(copy, {"files": [str(file) for file in files]})


def write_random(folder: Path, models: int, images: int) -> None:
    """Random answers, three in four right, packed: as the table `bits` and as a BIT column; a few models at a time.

    In one transaction: DuckDB packs what is committed by itself anew at every commit, and leaves holes in the file.
    """
    rng = np.random.default_rng(images)
    with duckdb.connect(folder / "bits.duckdb") as mine, duckdb.connect(folder / "bit_column.duckdb") as other:
        mine.execute("CREATE TABLE bits (model USMALLINT, n INTEGER, correct BLOB)")
        other.execute("CREATE TABLE answers (model USMALLINT, correct BIT)")
        mine.begin()
        other.begin()
        for first in range(0, models, 50):
            size = min(50, models - first), images // 8
            packed = rng.integers(0, 256, size, np.uint8) | rng.integers(0, 256, size, np.uint8)
            rows = [(first + place, row.tobytes()) for place, row in enumerate(packed)]
            _append(mine, "bits", [(model, images, row) for model, row in rows])
            _append_bits(other, rows)
        mine.commit()
        other.commit()
    _images(folder / "bit_column.duckdb", images_of(images))


def _append_bits(connection: duckdb.DuckDBPyConnection, rows: list[tuple[int, bytes]]) -> None:
    import pyarrow as pa

    given = pa.table({"model": [model for model, _ in rows], "correct": [row for _, row in rows]})
    connection.register("given", given)
    connection.execute("INSERT INTO answers SELECT model, correct::BIT FROM given")
    connection.unregister("given")


def _index_bytes(path: Path) -> float:
    """Bytes of the column of bits in a store, without what else the file holds."""
    with duckdb.connect(path, read_only=True) as connection:
        found = connection.execute("SELECT sum(octet_length(correct)) FROM bits").fetchone()
    return float(found[0]) if found else 0.0


# How each engine finds the figures.


def rows_of(path: Path) -> npt.NDArray[np.uint8]:
    """The bits of all models, (M, B), read a few at a time."""
    with duckdb.connect(path, read_only=True) as connection:
        shape = connection.execute("SELECT count(*), any_value(n) FROM bits").fetchone()
        models, n = shape or (0, 0)
        rows = np.zeros((models, -(-n // 64) * 8), np.uint8)
        cursor = connection.execute("SELECT model, correct FROM bits")
        while part := cursor.fetchmany(50):
            for model, correct in part:
                rows[model, : len(correct)] = np.frombuffer(correct, np.uint8)
    return rows


def codes_of(path: Path, measure: str) -> npt.NDArray[np.uint16]:
    with duckdb.connect(path, read_only=True) as connection:
        found = connection.execute("SELECT codes FROM codes WHERE measure = ? ORDER BY model", [measure]).fetchall()
    return bits.stack_codes([row for (row,) in found])


def chosen(images: dict[str, npt.NDArray[Any]], bound: int) -> npt.NDArray[np.bool_]:
    """The condition of every query, as numpy; in SQL `WHERE ref <= ? AND label < 800`."""
    return (images["ref"] <= bound) & (images["label"] < CHOSEN_CLASSES)


def intervals(right: npt.NDArray[Any], n: Any) -> tuple[npt.NDArray[Any], ...]:
    """Counts with Wilson's bounds."""
    counted = np.asarray(right, np.int64), np.broadcast_to(np.asarray(n, np.int64), np.shape(right))
    return *counted, *stats.wilson(*counted)


def bits_ways(path: Path, images: dict[str, npt.NDArray[Any]], *, own: bool = True) -> dict[str, Way]:
    rows, n = rows_of(path), len(images["label"])

    def mask(bound: int) -> npt.NDArray[np.uint8]:
        return bits.mask_of(chosen(images, bound))

    def accuracies(bound: int) -> tuple[npt.NDArray[Any], ...]:
        under = mask(bound)
        return intervals(bits.right_counts(rows, under), bits.size(under))

    ways: dict[str, Way] = {
        "accuracies": accuracies,
        "difficulty": lambda bound: (bits.difficulty(rows, mask(bound), n),),
        "sweep_shared": lambda bound: bits.sweep_shared(rows, mask(bound), images["ref"], THRESHOLDS),
        "agreement": lambda bound: (bits.both_right(rows[:AGREEING], mask(bound)),),
    }
    if own:
        codes = codes_of(path, "entropy")
        ways["sweep_own"] = lambda bound: bits.sweep_own(rows, mask(bound), codes, THRESHOLDS)
    return ways


def numpy_ways(path: Path, images: dict[str, npt.NDArray[Any]]) -> dict[str, Way]:
    """The same bits without compiled code."""
    rows, n = rows_of(path), len(images["label"])

    def counted(under: npt.NDArray[np.uint8], some: slice = slice(None)) -> npt.NDArray[np.int64]:
        return np.bitwise_count(rows[some].view(np.uint64) & under.view(np.uint64)).sum(axis=1, dtype=np.int64)

    def accuracies(bound: int) -> tuple[npt.NDArray[Any], ...]:
        under = bits.mask_of(chosen(images, bound))
        return intervals(counted(under), bits.size(under))

    def difficulty(bound: int) -> tuple[npt.NDArray[Any], ...]:
        right = np.zeros(n, np.int64)
        for row in rows:
            right += np.unpackbits(row, count=n)
        return (np.bincount(right[chosen(images, bound)], minlength=len(rows) + 1),)

    def sweep_shared(bound: int) -> tuple[npt.NDArray[Any], ...]:
        masks = [bits.mask_of(chosen(images, bound) & (images["ref"] <= limit)) for limit in THRESHOLDS]
        right = np.stack([counted(under) for under in masks], axis=1)
        return right, np.array([bits.size(under) for under in masks])

    def agreement(bound: int) -> tuple[npt.NDArray[Any], ...]:
        under = chosen(images, bound)
        right = np.unpackbits(rows[:AGREEING], axis=1, count=n)[:, under].astype(np.float32)
        return ((right @ right.T).astype(np.int64),)

    return {
        "accuracies": accuracies,
        "difficulty": difficulty,
        "sweep_shared": sweep_shared,
        "agreement": agreement,
    }


WHERE = f"ref <= $bound AND label < {CHOSEN_CLASSES}"


def _numbers(connection: duckdb.DuckDBPyConnection, query: str, bound: int) -> list[npt.NDArray[np.int64]]:
    found = connection.cursor().execute(query, {"bound": bound}).fetchnumpy()
    return [np.asarray(column).astype(np.int64) for column in found.values()]


def _placed(values: npt.NDArray[Any], size: int, *places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Counts by model and place as (M, T), added up over the thresholds; what is under none of them is left out."""
    model, place = places
    table = np.zeros((size, STEPS + 1), np.int64)
    table[model, np.minimum(place, STEPS)] = values
    return table[:, :STEPS].cumsum(axis=1)


def long_ways(connection: duckdb.DuckDBPyConnection, path: Path) -> dict[str, Way]:
    connection.execute(f"ATTACH '{path}' AS long (READ_ONLY)")
    of = "FROM long.answers JOIN long.images USING (image)"
    models = _numbers(connection, "SELECT max(model) + 1, $bound FROM long.answers", 0)[0][0]

    def accuracies(bound: int) -> tuple[npt.NDArray[Any], ...]:
        query = f"SELECT sum(correct::INT), count(*) {of} WHERE {WHERE} GROUP BY model ORDER BY model"
        return intervals(*_numbers(connection, query, bound))

    def difficulty(bound: int) -> tuple[npt.NDArray[Any], ...]:
        each = f"SELECT image, sum(correct::INT) AS k {of} WHERE {WHERE} GROUP BY image"
        k, count = _numbers(connection, f"SELECT k, count(*) FROM ({each}) GROUP BY k", bound)
        return (np.bincount(k, count, models + 1).astype(np.int64),)

    def sweep(bound: int, column: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        query = f"""
            SELECT model, least({column} // {STEP}, {STEPS}) AS place, sum(correct::INT), count(*) {of} WHERE {WHERE}
            GROUP BY model, place
        """
        model, place, right, n = _numbers(connection, query, bound)
        return _placed(right, models, model, place), _placed(n, models, model, place)

    def sweep_shared(bound: int) -> tuple[npt.NDArray[Any], ...]:
        right, n = sweep(bound, "ref")
        return right, n[0]

    def agreement(bound: int) -> tuple[npt.NDArray[Any], ...]:
        query = f"""
            WITH picked AS (SELECT model, image, correct {of} WHERE {WHERE} AND model < {AGREEING})
            SELECT a.model AS a, b.model AS b, sum((a.correct AND b.correct)::INT)
            FROM picked a JOIN picked b USING (image)
            WHERE a.model <= b.model GROUP BY a.model, b.model
        """
        return (_square(*_numbers(connection, query, bound)),)

    return {
        "accuracies": accuracies,
        "difficulty": difficulty,
        "sweep_shared": sweep_shared,
        "sweep_own": lambda bound: sweep(bound, "entropy"),
        "agreement": agreement,
    }


def flat_ways(connection: duckdb.DuckDBPyConnection) -> dict[str, Way]:
    """The long table at its best for a filter: what `long_ways` attached, without the join."""

    def accuracies(bound: int) -> tuple[npt.NDArray[Any], ...]:
        query = f"SELECT sum(correct::INT), count(*) FROM long.flat WHERE {WHERE} GROUP BY model ORDER BY model"
        return intervals(*_numbers(connection, query, bound))

    return {"accuracies": accuracies}


def _square(a: Any, b: Any, values: Any) -> npt.NDArray[np.int64]:
    both = np.zeros((AGREEING, AGREEING), np.int64)
    both[a, b] = both[b, a] = values
    return both


def column_ways(connection: duckdb.DuckDBPyConnection, path: Path, n: int) -> dict[str, Way]:
    """One row a model; no rows of images, so neither difficulty nor sweeps of own uncertainties."""
    connection.execute(f"ATTACH '{path}' AS packed (READ_ONLY)")
    mask = f"SELECT bitstring_agg(image, 0, {n - 1}) AS mask FROM packed.images WHERE {WHERE}"

    def accuracies(bound: int) -> tuple[npt.NDArray[Any], ...]:
        query = f"SELECT bit_count(correct & mask), bit_count(mask) FROM packed.answers, ({mask}) ORDER BY model"
        return intervals(*_numbers(connection, query, bound))

    def sweep_shared(bound: int) -> tuple[npt.NDArray[Any], ...]:
        query = f"""
            WITH masks AS (
                SELECT least(ref // {STEP}, {STEPS}) AS place, bitstring_agg(image, 0, {n - 1}) AS mask
                FROM packed.images WHERE {WHERE} GROUP BY place
            )
            SELECT model, place, bit_count(correct & mask), bit_count(mask) FROM packed.answers, masks
        """
        model, place, right, under = _numbers(connection, query, bound)
        size = int(model.max()) + 1
        return _placed(right, size, model, place), _placed(under, size, model, place)[0]

    def agreement(bound: int) -> tuple[npt.NDArray[Any], ...]:
        query = f"""
            WITH picked AS (SELECT model, correct & mask AS k FROM packed.answers, ({mask}) WHERE model < {AGREEING})
            SELECT a.model AS a, b.model AS b, bit_count(a.k & b.k)
            FROM picked a JOIN picked b ON a.model <= b.model
        """
        return (_square(*_numbers(connection, query, bound)),)

    return {"accuracies": accuracies, "sweep_shared": sweep_shared, "agreement": agreement}


def polars_ways(path: Path, models: int, images: dict[str, npt.NDArray[Any]], *, in_memory: bool) -> dict[str, Way]:
    import polars as pl

    places = np.arange(len(images["label"]), dtype=np.uint32)
    sample = pl.DataFrame({"image": places, "label": images["label"], "ref": images["ref"]}).lazy()
    answers = pl.read_parquet(path).lazy() if in_memory else pl.scan_parquet(path)
    right = pl.col("correct").cast(pl.Int64).sum()

    def under(bound: int) -> pl.LazyFrame:
        picked = sample.filter((pl.col("ref") <= bound) & (pl.col("label") < CHOSEN_CLASSES))
        return answers.join(picked, on="image")

    def numbers(frame: pl.LazyFrame) -> list[npt.NDArray[np.int64]]:
        return [column.to_numpy().astype(np.int64) for column in frame.collect()]

    def accuracies(bound: int) -> tuple[npt.NDArray[Any], ...]:
        found = under(bound).group_by("model").agg(right, pl.len()).sort("model").select("correct", "len")
        return intervals(*numbers(found))

    def difficulty(bound: int) -> tuple[npt.NDArray[Any], ...]:
        k, count = numbers(under(bound).group_by("image").agg(right).group_by("correct").len())
        return (np.bincount(k, count, models + 1).astype(np.int64),)

    def sweep(bound: int, column: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        placed = under(bound).with_columns(place=pl.min_horizontal(pl.col(column) // STEP, pl.lit(STEPS)))
        model, place, k, n = numbers(placed.group_by("model", "place").agg(right, pl.len()))
        return _placed(k, models, model, place), _placed(n, models, model, place)

    def sweep_shared(bound: int) -> tuple[npt.NDArray[Any], ...]:
        k, n = sweep(bound, "ref")
        return k, n[0]

    def agreement(bound: int) -> tuple[npt.NDArray[Any], ...]:
        some = under(bound).filter(pl.col("model") < AGREEING).select("image", "model", "correct")
        wide = some.collect().pivot(on="model", index="image", values="correct")
        pairs = [(a, b) for a in range(AGREEING) for b in range(a, AGREEING)]
        both = wide.select((pl.col(str(a)) & pl.col(str(b))).sum().alias(f"{a}:{b}") for a, b in pairs)
        return (_square([a for a, _ in pairs], [b for _, b in pairs], both.row(0)),)

    return {
        "accuracies": accuracies,
        "difficulty": difficulty,
        "sweep_shared": sweep_shared,
        "sweep_own": lambda bound: sweep(bound, "entropy"),
        "agreement": agreement,
    }


# The first query of a new process.


def _cold(folder: Path, engine: str) -> dict[str, float]:
    """Milliseconds and peak MB of the process that opens the store of one engine and asks for the accuracies once."""
    os.sync()
    for path in folder.iterdir():
        if path.is_file():
            with path.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    command = [sys.executable, "-m", "benchmarks.store", "cold", str(folder), engine]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    return json.loads(done.stdout)


def _first_query(folder: Path, engine: str) -> dict[str, float]:
    """What `_cold` runs: the images, then the query; imports and the generator of the images are not timed."""
    stores = {"bits": "bits.duckdb", "long": "long.duckdb", "bit_column": "bit_column.duckdb"}
    with duckdb.connect(folder / stores.get(engine, "bits.duckdb"), read_only=True) as connection:
        found = connection.execute("SELECT count(*) FROM images").fetchone()
    images = images_of(found[0] if found else 0)
    if engine == "bits":
        bits.warm()
    if engine.startswith("polars"):
        import polars  # noqa: F401
    began = time.perf_counter()
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        ways = {
            "bits": lambda: bits_ways(folder / "bits.duckdb", images, own=False),
            "long": lambda: long_ways(connection, folder / "long.duckdb"),
            "bit_column": lambda: column_ways(connection, folder / "bit_column.duckdb", len(images["label"])),
            "polars_scan": lambda: polars_ways(folder / "long.parquet", 0, images, in_memory=False),
        }
        mine = ways[engine]()
        mine["accuracies"](BOUNDS[0])
        seconds = time.perf_counter() - began
        for way in mine.values() if engine == "bits" else []:  # so that its peak is that of every figure
            way(BOUNDS[0])
    return {"ms": round(1000 * seconds, 1), "rss_mb": round(_peak_bytes() / 1e6)}


def _peak_bytes() -> int:
    """The most memory that this process has had. Not `ru_maxrss`, which starts from that of the process before."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def main(arguments: Iterable[str]) -> int:
    """`--quick`: all of it on small numbers, printed. `cold FOLDER ENGINE`: one query, for `_cold`."""
    match list(arguments):
        case ["cold", folder, engine]:
            print(json.dumps(_first_query(Path(folder), engine)))
            return 0
        case ["--quick"]:
            print(details(run(quick=True)))
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
