from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import special

from bench.config import Config
from bench.errors import BenchError
from bench.evaluate import correctness, logits
from bench.store import tables

NAME = "simclr-cnn"


def test_softmax_is_that_of_scipy_and_does_not_overflow() -> None:
    z = np.random.default_rng(0).normal(0, 10, (50, 7)).astype(np.float32)
    np.testing.assert_allclose(logits.softmax(z), special.softmax(z.astype(np.float64), axis=1), rtol=1e-12)
    assert logits.softmax([[1e30, 0.0]]).tolist() == [[1.0, 0.0]]


def test_answers_by_hand() -> None:
    z = np.log([[0.1, 0.6, 0.3], [0.2, 0.4, 0.4]])
    found = logits.answers(z, logits.softmax(z), ["a", "b"], [2, 1])
    assert found["pred"].tolist() == [1, 1]  # the tie goes to the lowest class id
    assert [row.tolist() for row in found["top5"]] == [[1, 2, 0], [1, 2, 0]]
    np.testing.assert_allclose(found["p_top1"], [0.6, 0.4])
    np.testing.assert_allclose(found["p_true"], [0.3, 0.4])


def test_answers_keep_the_order_that_probabilities_lose() -> None:
    z = np.array([[0.0, 900.0, 1.0, 2.0, 3.0, 4.0]])
    found = logits.answers(z, logits.softmax(z), ["a"], [0])
    assert found["top5"][0].tolist() == [1, 5, 4, 3, 2]
    assert found["p_true"].tolist() == [0]


def test_stored_logits_come_in_the_order_of_the_samples(results: Config) -> None:
    samples = correctness.evaluated_samples(results)
    found = logits.read(results, NAME, samples)
    assert list(found) == list(results.datasets)
    frame = tables.read("logits", results.results / "logits" / f"{NAME}.parquet").set_index("sample_id")
    ids = samples.loc[samples["dataset"] == "optdigits", "sample_id"]
    np.testing.assert_array_equal(found["optdigits"], np.stack(frame.loc[ids, "logits"].tolist()))


def test_a_table_of_logits_with_missing_or_broken_rows_is_refused(own_results: Config) -> None:
    samples = correctness.evaluated_samples(own_results)
    path = own_results.results / "logits" / f"{NAME}.parquet"
    good = tables.read("logits", path)
    first = good.index[good["dataset"] == "digits"][0]

    def with_first(value: list[float]) -> pd.DataFrame:
        changed = good.copy()
        changed.at[first, "logits"] = np.array(value, np.float32)
        return changed

    cases: dict[str, Callable[[], pd.DataFrame]] = {
        "59 of the 60 test images of 'digits'": lambda: good.drop(index=first),
        "0 of the 60 test images of 'optdigits'": lambda: good[good["dataset"] != "optdigits"],
        "NaN or infinite logits for 1 images of 'digits'": lambda: with_first([np.nan] * 10),
        "different lengths for 'digits'": lambda: with_first([0.0] * 9),
        "logits of mnist, not of the suite": lambda: pd.concat([good, good[:1].assign(dataset="mnist")]),
    }
    for message, broken in cases.items():
        tables.write("logits", broken(), path)
        with pytest.raises(BenchError, match=message) as caught:
            logits.read(own_results, NAME, samples)
        assert str(path) in str(caught.value)
        assert f"dvc repro predict@{NAME}" in caught.value.remedy
    path.unlink()
    with pytest.raises(BenchError, match="is missing"):
        logits.read(own_results, NAME, samples)
