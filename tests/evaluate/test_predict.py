from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bench import compute
from bench.config import Config
from bench.data import cache, corruptions, samples
from bench.errors import BenchError
from bench.evaluate import logits, predict
from bench.models import zoo
from bench.store import tables
from tests import tiny

CONDITIONS = [
    "clean",
    *(f"corruption:{name}:{severity}" for name in ("contrast", "gaussian_noise") for severity in (1, 5)),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tiny.make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def config(made: Config, tmp_path: Path) -> Config:
    return made.model_copy(update={"root": shutil.copytree(made.root, tmp_path / "copy")})


def outputs(config: Config, name: str) -> list[Path]:
    return [config.results / table / f"{name}.parquet" for table in ("logits", "predictions")]


def leftovers(config: Config) -> list[Path]:
    folders = (config.results / "logits", config.results / "predictions")
    return [path for folder in folders if folder.exists() for path in folder.iterdir()]


def test_every_image_under_every_declared_condition(config: Config) -> None:
    counts = predict.run(config, "cnn")
    frame = tables.read("predictions", outputs(config, "cnn")[1])
    rows = frame.groupby(["dataset", "condition"]).size()
    assert rows["blocks"].to_dict() == dict.fromkeys(CONDITIONS, tiny.N_TEST)
    assert rows["copies"].to_dict() == {"clean": tiny.N_COPIES}
    assert counts == {"predictions": 5 * tiny.N_TEST + tiny.N_COPIES, "datasets": 2}
    assert {len(row) for row in frame["top5"]} == {tiny.N_CLASSES}  # there are no five classes


def test_answers_are_those_of_the_network(config: Config) -> None:
    predict.run(config, "cnn")
    frame = tables.read("predictions", outputs(config, "cnn")[1])
    network, data = zoo.load(config, "cnn"), samples.load(config, "blocks")
    images = corruptions.corrupt(data.images, data.ids, "contrast", 5, config.seed)
    for condition, x in {"clean": data.images, "corruption:contrast:5": images}.items():
        p = logits.softmax(network(torch.from_numpy(x)).numpy())
        mine = frame[(frame["dataset"] == "blocks") & (frame["condition"] == condition)]
        assert mine["sample_id"].tolist() == data.ids.tolist()
        assert mine["pred"].tolist() == p.argmax(axis=1).tolist()
        np.testing.assert_allclose(mine["p_top1"], p.max(axis=1), atol=1e-5)
        np.testing.assert_allclose(mine["p_true"], p[np.arange(len(p)), data.labels], atol=1e-5)


def test_pictures_that_are_the_same_get_the_same_logits_in_every_dataset(config: Config) -> None:
    predict.run(config, "cnn")
    frame = tables.read("logits", outputs(config, "cnn")[0]).set_index("sample_id")["logits"]
    for sample_id in frame.index[frame.index.str.startswith("copies/")]:
        assert np.array_equal(frame[sample_id], frame[sample_id.replace("copies", "blocks")])


def test_the_same_bytes_again(config: Config) -> None:
    predict.run(config, "cnn")
    first = [path.read_bytes() for path in outputs(config, "cnn")]
    predict.run(config, "cnn")
    assert [path.read_bytes() for path in outputs(config, "cnn")] == first


def test_images_are_decoded_and_corrupted_once_over_several_models(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the tables are those of a run without a cache, byte for byte."""
    folder, plain = config.root / cache.FOLDER, {}
    for name in tiny.MODELS:
        shutil.rmtree(folder, ignore_errors=True)
        predict.run(config, name)
        plain[name] = [path.read_bytes() for path in outputs(config, name)]
    shutil.rmtree(folder)
    calls = []

    def counted(function):
        return lambda *arguments: calls.append((function.__name__, len(arguments[0]))) or function(*arguments)

    monkeypatch.setattr(samples, "decode", counted(samples.decode))
    monkeypatch.setattr(corruptions, "corrupt", counted(corruptions.corrupt))
    for name in [*tiny.MODELS, *tiny.MODELS]:
        predict.run(config, name)
        assert [path.read_bytes() for path in outputs(config, name)] == plain[name]
    corrupted = ("corrupt", tiny.N_TEST)
    assert sorted(calls) == sorted([("decode", tiny.N_TEST), ("decode", tiny.N_COPIES), *[corrupted] * 4])


def test_another_seed_or_fewer_images_take_the_place_of_what_was_kept(config: Config) -> None:
    def run(**changes: object) -> pd.DataFrame:
        changed = Config.model_validate({**config.model_dump(), **changes})
        predict.run(changed, "cnn")
        files = set(folder.rglob("*.npy"))
        assert len(files) == 6  # two test splits, four conditions
        assert set(predict.kept(changed, "blocks").values()) <= files
        frame = tables.read("predictions", outputs(config, "cnn")[1])
        return frame[frame["condition"] == "corruption:gaussian_noise:5"]

    folder = config.root / cache.FOLDER
    corrupted = {"names": ["gaussian_noise", "contrast"], "severities": [1, 5], "n_images": 7}
    first, other_seed, again = run(), run(seed=1), run()
    assert not np.array_equal(first["p_top1"], other_seed["p_top1"])
    assert first.equals(again)
    assert len(run(evaluations={"blocks": {"corruptions": corrupted}})) == 7


def test_a_set_with_too_many_images_is_corrupted_for_every_model(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict.run(config, "cnn")
    first = outputs(config, "cnn")[1].read_bytes()
    shutil.rmtree(config.root / cache.FOLDER)
    monkeypatch.setattr(predict, "KEPT_BYTES", 4 * tiny.N_TEST * tiny.SIZE**2 * 4 - 1)
    predict.run(config, "cnn")
    assert outputs(config, "cnn")[1].read_bytes() == first
    assert {path.name.split(".")[0] for path in (config.root / cache.FOLDER).rglob("*.npy")} == {"test"}


def test_nan_logits_are_an_error_and_nothing_is_written(config: Config) -> None:
    """Weights that are finite and overflow: a checkpoint with NaN is refused before it runs."""
    network = zoo.load(config, "linear")
    network.head.weight.fill_(3e38)
    zoo.save(network, zoo.path_of(config, "linear"), arch="pixels")
    with pytest.raises(BenchError, match=r"linear: .*NaN or infinite .* images"):
        predict.run(config, "linear")
    assert leftovers(config) == []


def test_ctrl_c_leaves_nothing(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def third_time_stopped(*arguments: object) -> np.ndarray:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return np.zeros((len(arguments[1]), tiny.N_CLASSES), np.float32)  # pyright: ignore[reportArgumentType]

    with monkeypatch.context() as patch:
        patch.setattr(compute, "forward", third_time_stopped)
        with pytest.raises(KeyboardInterrupt):
            predict.run(config, "cnn")
    assert leftovers(config) == []
    predict.run(config, "cnn")  # and the next run goes on
    assert all(path.exists() for path in outputs(config, "cnn"))


def test_no_space_is_one_clear_error_and_nothing_half_written(config: Config) -> None:
    """A real limit on the size of files, which the kernel enforces as it does a full disk."""
    code = f"""
import resource, signal
from bench.config import Config
from bench.errors import BenchError
from bench.evaluate import predict
config = Config.model_validate_json({config.model_dump_json()!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
try:
    predict.run(config, "cnn")
except BenchError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for part in ("cnn.parquet: could not be written", "File too large", "Free some disk space"):
        assert part in done.stdout
    assert leftovers(config) == []
