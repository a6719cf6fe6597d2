"""From the preset to the dashboard's database: CIFAR-10 and its published networks, on a few hundred images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
import yaml

from bench import config as configuration
from bench.data import cifar10, cifar10_resnets, fetch
from bench.presets import merge
from bench.presets import preset as presets
from bench.presets.preset import Preset
from bench.store import database, tables
from tests.pipeline.project import Project

pytestmark = pytest.mark.pipeline

SHARED = Path(__file__).parents[3] / "shared" / "data"
N_TRAIN, N_TEST = 200, 200
KEPT = "cifar10-resnet20"
LACKING = [name for name in ("cifar10", "cifar10h", "cifar10_resnets") if not (SHARED / name).is_dir()]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders as they are named with --from: the first images of each split, and the weights."""
    root = tmp_path_factory.mktemp("sources")
    for folder in ("cifar10", "cifar10h"):
        (root / folder).mkdir()
    for name, n in (("train", N_TRAIN), ("test", N_TEST)):
        frame = pd.read_parquet(SHARED / "cifar10" / f"{name}.parquet")
        frame = frame.sort_values("index") if "index" in frame else frame.sample(frac=1, random_state=0)
        frame.head(n).to_parquet(root / "cifar10" / f"{name}.parquet")
    (root / "cifar10" / "classes.json").write_bytes((SHARED / "cifar10" / "classes.json").read_bytes())
    counts = pd.read_parquet(SHARED / "cifar10h" / "counts.parquet").sort_values("index")
    counts.head(N_TEST).to_parquet(root / "cifar10h" / "counts.parquet")
    (root / "cifar10_resnets").symlink_to(SHARED / "cifar10_resnets")
    return root


def pinned(name: str, source: Path, out: Path) -> Preset:
    """The preset, pinned to what a smaller source gives."""
    reader = fetch.reader(name)
    reader.write(reader.read(source), out)
    pins = {path.relative_to(out).as_posix(): tables.sha256(path) for path in out.rglob("*.*")}
    found = presets.load(name).model_copy(update={"files": pins})
    models = {model: entry for model, entry in found.models.items() if model == KEPT}
    return found.model_copy(update={"models": models})


# Skipped on purpose, and only here: CIFAR-10 may not be passed on, so it is no part of this repository, and without it
# there is nothing to run. What this test joins is tested everywhere on made-up files of the same formats
# (tests/data/test_cifar10*.py).
@pytest.mark.skipif(bool(LACKING), reason=f"not in shared/data: {', '.join(LACKING)}")
def test_repro_after_adding_the_presets_runs_from_data_to_database(
    project: Project, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {cifar10.PRESET: sources / "cifar10", cifar10_resnets.PRESET: sources / "cifar10_resnets"}
    small = {name: pinned(name, folder, tmp_path / name) for name, folder in folders.items()}
    before = project.files()
    with monkeypatch.context() as patched:
        patched.setattr(presets, "load", small.__getitem__)
        for name, preset in small.items():
            merge.add(project.root / "params.yaml", name)
            said = fetch.run(preset, project.root / "fetched", folders[name])
            assert "as pinned" in said
    text = (project.root / "params.yaml").read_text()
    assert KEPT in yaml.safe_load(text)["models"]

    ran = project.repro()
    assert {f"train@{KEPT}", f"probe@{KEPT}", f"predict@{KEPT}", "index", "consensus", "database"} <= set(ran)
    assert [one for one in ran if one.startswith("train@")] == [f"train@{KEPT}"], "nothing else is trained again"
    after = project.files()
    same = [path for path in before if path.split("/")[0] in ("models", "predictions", "training", "representations")]
    assert all(after[path] == before[path] for path in same)

    config = configuration.load(project.root / "params.yaml")
    with duckdb.connect(str(config.results / database.FILE), read_only=True) as connection:
        rows: Any = connection.execute(
            "SELECT pred, label FROM predictions JOIN samples USING (sample_id, dataset) WHERE model = ? AND dataset = "
            "'cifar10' AND condition = 'clean' ORDER BY sample_id",
            [KEPT],
        ).fetchnumpy()
        [top1] = connection.execute(
            "SELECT value FROM metrics WHERE model = ? AND metric = 'top1' AND subset = 'all' AND condition = 'clean' "
            "AND label_source = 'original'",
            [KEPT],
        ).fetchone() or [None]
        [votes] = connection.execute("SELECT sum(n_yes) FROM ballots WHERE annotator = 'cifar10h'").fetchone() or [0]
        [about] = connection.execute("SELECT origin FROM models WHERE model = ?", [KEPT]).fetchone() or [""]
    assert len(rows["pred"]) == N_TEST
    assert top1 == pytest.approx(float(np.mean(rows["pred"] == rows["label"])))
    assert top1 > 0.85, "a published network knows these images"
    expected = np.stack(pd.read_parquet(sources / "cifar10h" / "counts.parquet")["counts"].tolist()).sum()
    assert votes == expected
    assert "akamaster" in about
    assert not list((project.root / "results").rglob("*thumbnails*")), "no picture of CIFAR-10 is a result"
