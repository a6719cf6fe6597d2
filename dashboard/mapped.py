"""The nearest images of mapped images: whether they have the image's label, and what two encoders have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from bench import compute, stats
from dashboard import db
from dashboard.frames import Frame


@dataclass(frozen=True)
class Share:
    """A share of neighbours, averaged over images, with its interval and what chance gives."""

    value: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True)
class Agreement:
    """Of the nearest images of `n` images of a set, `k` each: those with the image's own label, of each encoder, and
    those that two encoders have in common; `more_pp` (with its interval): label shares, the first minus the second."""

    n: int
    k: int
    same: tuple[Share, ...]
    common: Share | None
    more_pp: tuple[float, float, float] | None


def same_label(images: Frame, near: Frame) -> pd.Series:
    """Share of each image's neighbours that have its label, by sample_id. images: sample_id, label; near: as of
    `db.map_neighbours`, of these images alone."""
    own = images.set_index("sample_id")["label"].loc[near["sample_id"]].to_numpy()
    return (near["label"] == own).groupby(near["sample_id"]).mean()


def in_common(a: Frame, b: Frame) -> pd.Series:
    """Share of each image's neighbours that are in both of two lists of the same images, by sample_id.

    Images made from one image count as one: which of them stands in a list is next to nothing.
    """
    size = a.groupby("sample_id").size()
    both = a[["sample_id", "origin"]].merge(b[["sample_id", "origin"]]).groupby("sample_id").size()
    return both.reindex(size.index, fill_value=0) / size


def by_chance(images: Frame, every: Frame) -> float:
    """Share of neighbours with the image's label if they were drawn at random from `every` mapped image of another
    origin. images, every: label, origin."""
    alike = every["label"].value_counts().loc[images["label"]].to_numpy()
    kin = every.groupby("origin").size().reindex(images["origin"], fill_value=0).to_numpy()
    twins = every.groupby(["origin", "label"]).size()
    twins = twins.reindex(pd.MultiIndex.from_frame(images[["origin", "label"]]), fill_value=0).to_numpy()
    return float(np.mean((alike - twins) / (len(every) - kin)))


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=db.KEYS)
def agreement(source: db.Source, dataset: str, models: tuple[str, ...]) -> Agreement:
    """`Agreement` of the mapped images of a set under one encoder or two.

    Intervals by bootstrap over images, those made from one image together.
    """
    numbers = db.statistics(source)
    draws, confidence = int(numbers["bootstrap"]), numbers["confidence"]
    every = db.map_of(source, models[0])
    images = every.loc[every["dataset"] == dataset]
    origins = images["origin"].to_numpy(str)
    near = [db.map_neighbours(source, model) for model in models]
    near = [one.loc[one["sample_id"].isin(images["sample_id"])] for one in near]
    same = [same_label(images, one).loc[images["sample_id"]].to_numpy() for one in near]
    chance = by_chance(images, every)
    k = int(near[0]["rank"].max())

    def share(values: np.ndarray, chance: float, *parts: str) -> Share:
        rng = compute.rng("map", dataset, *parts)
        ends = stats.bootstrap_mean(values, rng, draws=draws, confidence=confidence, clusters=origins)
        return Share(float(values.mean()), *ends, chance)

    shares = tuple(share(values, chance, model) for values, model in zip(same, models, strict=True))
    if len(models) == 1:
        return Agreement(len(images), k, shares, None, None)
    common = in_common(near[0], near[1]).loc[images["sample_id"]].to_numpy()
    rng = compute.rng("map", dataset, *models)
    low, high = stats.bootstrap_paired(same[0], same[1], rng, draws=draws, confidence=confidence, clusters=origins)
    more = (100 * float(np.mean(same[0] - same[1])), 100 * low, 100 * high)
    others = every["origin"].nunique() - 1
    return Agreement(len(images), k, shares, share(common, k / others, *models), more)
