from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import special, stats

from bench.config import Config
from bench.errors import BenchError
from bench.evaluate import calibration, logits, uncertainty
from bench.store import tables
from tests import factory

Z = arrays(np.float32, (4, 5), elements=st.floats(-300, 300, width=32))
SINGLE = "simclr-cnn"
WRITTEN = ("uncertainty", "calibration", "ensemble_models", "ensemble_predictions")


def test_scores_by_hand() -> None:
    found = uncertainty.scores(np.log([[0.5, 0.3, 0.2], [1.0, 1.0, 1.0]]))
    np.testing.assert_allclose(found["msp"], [0.5, 2 / 3])
    np.testing.assert_allclose(found["margin"], [0.8, 1.0])
    np.testing.assert_allclose(found["entropy_nats"], [stats.entropy([0.5, 0.3, 0.2]), np.log(3)])
    np.testing.assert_allclose(found["energy"], [0.0, -np.log(3)], atol=1e-15)
    np.testing.assert_allclose(uncertainty.normalised_entropy(found["entropy_nats"], 3)[1], 1.0)


def test_scores_keep_their_digits_where_the_largest_probability_rounds_to_one() -> None:
    """The others are e^-50 each: 1 - p1 in float64 is exactly 0, the truth is 2e-50 of the size 1e-22."""
    found = uncertainty.scores([[50.0, 0.0, 0.0]])
    tiny = np.exp(-50.0)
    np.testing.assert_allclose(found["msp"], 2 * tiny, rtol=1e-12)
    np.testing.assert_allclose(found["margin"], 3 * tiny, rtol=1e-12)
    np.testing.assert_allclose(found["entropy_nats"], 2 * tiny * 51, rtol=1e-12)
    far = uncertainty.scores([[1e30, 0.0]])
    assert [far[name][0] for name in ("msp", "margin", "entropy_nats", "energy")] == [0, 0, 0, -1e30]


@settings(max_examples=50, deadline=None)
@given(Z)
def test_scores_stay_in_bounds_and_agree_with_scipy(z: np.ndarray) -> None:
    found, p = uncertainty.scores(z), special.softmax(z.astype(np.float64), axis=1)
    for name, high in {"msp": 1 - 1 / 5, "margin": 1, "entropy_nats": np.log(5)}.items():
        assert (found[name] >= 0).all(), name
        assert (found[name] <= high + 1e-12).all(), name
    assert (found["msp"] <= found["margin"] + 1e-12).all()
    np.testing.assert_allclose(found["entropy_nats"], stats.entropy(p, axis=1), atol=1e-9)
    np.testing.assert_allclose(found["energy"], -special.logsumexp(z.astype(np.float64), axis=1), rtol=1e-9, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(Z)
def test_scores_of_probabilities_are_those_of_their_logits(z: np.ndarray) -> None:
    of_logits, of_p = uncertainty.scores(z), uncertainty.scores_of_probabilities(logits.softmax(z))
    for name, values in of_p.items():
        np.testing.assert_allclose(values, of_logits[name], rtol=1e-9, atol=1e-300, err_msg=name)


def test_mutual_information_by_hand() -> None:
    sure = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert uncertainty.mutual_information(sure) == pytest.approx([np.log(2)])  # all of it is disagreement
    unsure = np.array([[[0.5, 0.5]], [[0.5, 0.5]]])
    assert uncertainty.mutual_information(unsure).tolist() == [0.0]  # none of it is
    same = np.tile(np.random.default_rng(0).dirichlet(np.ones(7), 100), (3, 1, 1))
    found = uncertainty.mutual_information(same)
    assert (found >= 0).all()
    assert found.max() < 1e-14


def test_ensembles_have_what_models_lack_and_the_other_way_round(results: Config) -> None:
    frame = tables.read("uncertainty", results.results / "uncertainty.parquet")
    ensemble = frame["model"] == factory.ENSEMBLE
    assert frame.loc[ensemble, "mutual_information"].notna().all()
    assert frame.loc[ensemble, "energy"].isna().all()
    assert frame.loc[~ensemble, "mutual_information"].isna().all()
    assert frame.loc[~ensemble, "energy"].notna().all()


def test_stage_writes_every_image_of_every_model_and_the_same_bytes_again(own_results: Config) -> None:
    before = tables.read("predictions", own_results.results / "ensemble_predictions.parquet")
    uncertainty.run(own_results)
    paths = [own_results.results / f"{name}.parquet" for name in WRITTEN]
    first = [path.read_bytes() for path in paths]
    uncertainty.run(own_results)
    assert [path.read_bytes() for path in paths] == first
    frame = tables.read("uncertainty", paths[0])
    models = [*own_results.models, factory.ENSEMBLE]
    samples = tables.read("samples", own_results.results / "samples.parquet")
    assert len(frame) == len(models) * (samples["split"] == "test").sum()
    after = tables.read("predictions", paths[3])
    assert after["pred"].tolist() == before["pred"].tolist()
    np.testing.assert_allclose(after["p_top1"], before["p_top1"], rtol=1e-6)


def test_calibration_figures_and_their_intervals(own_results: Config) -> None:
    uncertainty.run(own_results)
    frame = tables.read("metrics", own_results.results / "calibration.parquet")
    assert frame["condition"].unique().tolist() == ["clean"]
    own = frame.pivot(index=["model", "dataset"], columns="metric", values="value")
    assert own.loc[factory.ENSEMBLE, ["ece_calibrated", "temperature"]].isna().all(axis=None)
    assert own.drop(index=factory.ENSEMBLE, level="model").notna().all(axis=None)
    bounded = frame[frame["metric"] != "temperature"]
    assert (bounded["ci_low"] <= bounded["value"]).all()
    assert (bounded["value"] <= bounded["ci_high"]).all()
    assert (bounded["ci_high"] - bounded["ci_low"] > 0).all()

    samples = tables.read("samples", own_results.results / "samples.parquet")
    digits = samples[(samples["dataset"] == "digits") & (samples["split"] == "test")]
    z = logits.read(own_results, SINGLE, samples[samples["split"] == "test"])["digits"].astype(np.float64)
    p, labels = logits.softmax(z), digits["label"].to_numpy()
    right = p.argmax(axis=1) == labels
    temperature = own.loc[(SINGLE, "digits"), "temperature"]
    expected = {
        "ece": calibration.ece(p.max(axis=1), right),
        "ece_calibrated": calibration.ece(logits.softmax(z / temperature).max(axis=1), right),
        "nll": calibration.nll(z, labels),
        "brier": calibration.brier(p, labels),
    }
    for metric, value in expected.items():
        assert own.loc[(SINGLE, "digits"), metric] == pytest.approx(value), metric


def test_the_interval_of_a_mean_is_that_of_the_bootstrap(own_results: Config) -> None:
    uncertainty.run(own_results)
    frame = tables.read("metrics", own_results.results / "calibration.parquet")
    row = frame[(frame["model"] == SINGLE) & (frame["dataset"] == "digits") & (frame["metric"] == "nll")].iloc[0]
    samples = tables.read("samples", own_results.results / "samples.parquet")
    test = samples[samples["split"] == "test"]
    z = logits.read(own_results, SINGLE, test)["digits"]
    losses = calibration.log_losses(z, test.loc[test["dataset"] == "digits", "label"])
    direct = stats.bootstrap((losses,), np.mean, method="percentile", n_resamples=2000, rng=0).confidence_interval
    assert row["ci_low"] == pytest.approx(direct.low, rel=0.1)
    assert row["ci_high"] == pytest.approx(direct.high, rel=0.1)


def test_missing_rows_stop_the_stage_before_it_writes(own_results: Config) -> None:
    path = own_results.results / "logits" / f"{SINGLE}.parquet"
    tables.write("logits", tables.read("logits", path).iloc[1:], path)
    outputs = [own_results.results / f"{name}.parquet" for name in WRITTEN]
    for output in outputs:
        output.unlink()
    with pytest.raises(
        BenchError, match=r"59 of the 60 test images of 'digits'.*dvc repro predict@simclr-cnn"
    ) as caught:
        uncertainty.run(own_results)
    assert str(path) in str(caught.value)
    assert not any(output.exists() for output in outputs)


def test_without_ensembles_their_tables_are_empty(own_results: Config) -> None:
    settings = own_results.uncertainty.model_copy(update={"ensembles": {}})
    uncertainty.run(own_results.model_copy(update={"uncertainty": settings}))
    for name, table in {"ensemble_models": "models", "ensemble_predictions": "predictions"}.items():
        assert tables.read(table, own_results.results / f"{name}.parquet").empty


def test_the_stage_imports_no_torch() -> None:
    code = "import sys; import bench.evaluate.uncertainty, bench.relabel.proposals; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
