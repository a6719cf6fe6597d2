"""Study 6: does it matter on which images transfer attacks are tried?

After "Selection of source images heavily influences effectiveness of adversarial attacks" (BMVC 2021). Suitable source
images are those that every model of the pool gets right when clean; rates are shares of these. Four tables:

| table | what it says |
|---|---|
| transfer_pairs | for each pair of models, how often what was made on one is answered wrongly by the other |
| transfer_images | for each image, by how many pairs of different models it transfers: T |
| transfer_sampling | the range of figures over random draws of images, beside what chance alone gives |
| transfer_proxies | how well a clean figure of an image foretells T, and what to leave out its extremes does |

A range over draws is no finding by itself: it grows with the number of draws, and images that are all alike have one
too. So beside it stands that of a null in which each pair of models transfers as often as it does, on images at random;
what shows that images differ is the variance of T against that null. Which proxies the paper tried is not known: these
are this benchmark's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import compute, stats
from bench.config import Config
from bench.store import tables

DRAWS = 2000
NULLS = 200
SHARE_DRAWN = 4
"""A draw has the number of suitable images divided by this."""
FRAGILE, HARD = 30 / 42, 5 / 42
"""Images that transfer by at least, and at most, these shares of all pairs of models: the paper's 30 and 5 of 42."""
TRIMMED = 0.05
"""Share of images that vetting leaves out at either end of a proxy."""
PROXIES = ("p_top1", "entropy_nats", "margin", "gradient_norm", "null_top2")

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Shown:
    """What P pairs of different models make of N suitable images under one condition: `success` (P, N), and the sizes
    of the changes that were made, `l2` and `linf` (P, N). `sources`, `targets`: the models of each pair."""

    dataset: str
    condition: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    ids: npt.NDArray[np.object_]
    success: Flags
    l2: Floats
    linf: Floats


def run(config: Config) -> dict[str, int]:
    """Write results/{transfer_pairs,transfer_images,transfer_sampling,transfer_proxies}.parquet."""
    attacks = tables.read("attacks", config.results / "attacks.parquet")
    transfers = tables.read("transfers", config.results / "transfers.parquet")
    images = tables.read("source_images", config.results / "source_images.parquet")
    shown = list(read(attacks, transfers, images))
    known = [means_of(one, images) for one in shown]
    told = [foretold(one, proxies, config.seed) for one, proxies in zip(shown, known, strict=True)]
    chosen = [vetted(*three)[1] for three in zip(shown, known, told, strict=True)]
    written = {
        "transfer_pairs": [pairs(one, attacks, config.statistics.confidence) for one in shown],
        "transfer_images": [counts(one).assign(vetted=kept) for one, kept in zip(shown, chosen, strict=True)],
        "transfer_sampling": [sampling(one, config.seed) for one in shown],
        "transfer_proxies": told,
    }
    return {
        name: len(tables.write(name, tables.stacked(name, frames), config.results / f"{name}.parquet"))
        for name, frames in written.items()
    }


def means_of(one: Shown, images: pd.DataFrame) -> pd.DataFrame:
    """The mean over models of each proxy (N, a column each), from table `source_images`."""
    mine = images.loc[images["dataset"] == one.dataset]
    return mine.pivot_table(index="sample_id", values=list(PROXIES), aggfunc="mean").loc[one.ids, list(PROXIES)]


def suitable(images: pd.DataFrame) -> pd.Index:
    """The images that every model of the pool gets right when clean, from table `source_images`."""
    right = images.groupby("sample_id")["right"].all()
    return pd.Index(right.index[right.to_numpy(bool)])


def condition_of(attacks: pd.DataFrame) -> pd.Series:
    """The condition of each row of table `attacks`: attack:<name>:<eps_255>."""
    eps = attacks["attack_id"].str.split("/", n=2).str[1]
    return "attack:" + attacks["attack"] + ":" + eps


def on_suitable(attacks: pd.DataFrame, transfers: pd.DataFrame, images: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """For each condition the rows of table `transfers` on suitable images, with what `attacks` says of them; none of a
    condition under which no image is suitable or nothing was shown to another model."""
    about = ["attack_id", "sample_id", "source_model", "dataset", "condition", "l2", "linf"]
    known = attacks.assign(condition=condition_of(attacks))
    rows = transfers.merge(known.loc[known["sample_id"].isin(suitable(images).tolist()), about], on="attack_id")
    for _, mine in rows.groupby("condition"):
        yield mine.reset_index(drop=True)


def read(attacks: pd.DataFrame, transfers: pd.DataFrame, images: pd.DataFrame) -> Iterator[Shown]:
    """What `on_suitable` gives, as arrays."""
    for rows in on_suitable(attacks, transfers, images):
        wide = {
            name: rows.pivot(index=["source_model", "target_model"], columns="sample_id", values=name)
            for name in ("success", "l2", "linf")
        }
        sources, targets = (tuple(wide["success"].index.get_level_values(level)) for level in (0, 1))
        yield Shown(
            str(rows["dataset"].iloc[0]),
            str(rows["condition"].iloc[0]),
            sources,
            targets,
            wide["success"].columns.to_numpy(object),
            wide["success"].to_numpy(bool),
            wide["l2"].to_numpy(float),
            wide["linf"].to_numpy(float),
        )


def pairs(one: Shown, attacks: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Rows of table `transfer_pairs`: each pair of different models, and each model with itself."""
    own = attacks.loc[(condition_of(attacks) == one.condition) & attacks["sample_id"].isin(one.ids.tolist())]
    cells = list(zip(one.sources, one.targets, one.success, one.l2, one.linf, strict=True))
    for model, mine in own.groupby("source_model"):
        values = (mine[name].to_numpy() for name in ("success_float", "l2", "linf"))
        cells.append((str(model), str(model), *values))
    rows = []
    for source, target, success, l2, linf in cells:
        low, high = stats.wilson(success.sum(), len(success), confidence)
        rows.append(
            {
                "source_model": source,
                "target_model": target,
                "rate": success.mean(),
                "ci_low": float(low),
                "ci_high": float(high),
                "l2": l2[success].mean() if success.any() else None,
                "linf": linf[success].mean() if success.any() else None,
                "n": len(success),
            }
        )
    return pd.DataFrame(rows).assign(dataset=one.dataset, condition=one.condition)


def counts(one: Shown) -> pd.DataFrame:
    """Rows of table `transfer_images`, but for `vetted`."""
    t, n_pairs = one.success.sum(axis=0), len(one.sources)
    share = t / n_pairs
    return pd.DataFrame(
        {
            "dataset": one.dataset,
            "condition": one.condition,
            "sample_id": one.ids,
            "count": t,
            "n_pairs": n_pairs,
            "kind": np.select([share >= FRAGILE, share <= HARD], ["fragile", "hard"], "middle"),
        }
    )


def sampling(one: Shown, seed: int) -> pd.DataFrame:
    """Rows of table `transfer_sampling`: of the mean over pairs of the transfer rate, and of the mean sizes of changes
    that transferred, the range over DRAWS draws of images without replacement; and of T the variance.

    The null: the transfers of each pair fall on images at random, NULLS times. Of a size it says nothing, which is a
    property of the image's change and not of whether it transfers.
    """
    rng = compute.rng(seed, "transfer", one.dataset, one.condition)
    n = len(one.ids)
    n_drawn = max(n // SHARE_DRAWN, 1)
    drawn = _draws(n, n_drawn, rng)
    t = one.success.sum(axis=0).astype(float)
    p = len(one.sources)
    rates = drawn @ t / (n_drawn * p)
    nulls = np.stack([_shuffled(one.success, rng) for _ in range(NULLS)])
    null_rates = nulls @ drawn.T / (n_drawn * p)
    ranges = np.ptp(null_rates, axis=1)
    low, high = np.quantile(ranges, [0.025, 0.975])
    shared = {"dataset": one.dataset, "condition": one.condition, "n_drawn": n_drawn, "draws": DRAWS, "n": n}
    rows = [
        {
            "statistic": "rate",
            "value": t.mean() / p,
            "lowest": rates.min(),
            "highest": rates.max(),
            "range_null_low": low,
            "range_null_high": high,
            "p_value": _share_of(ranges, np.ptp(rates)),
        },
        {"statistic": "spread", "value": t.var(), "p_value": _share_of(nulls.var(axis=1), t.var())},
    ]
    for name, size in (("l2", one.l2), ("linf", one.linf)):
        total, times = drawn @ (size * one.success).sum(axis=0), drawn @ t
        means = total[times > 0] / times[times > 0]
        if len(means):
            whole = (size * one.success).sum() / t.sum()
            rows.append(
                {"statistic": name, "value": whole, "lowest": means.min(), "highest": means.max(), "p_value": None}
            )
    return pd.DataFrame(rows).assign(**shared)


def _draws(n: int, n_drawn: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """(DRAWS, n): 1 for the `n_drawn` images of each draw."""
    out = np.zeros((DRAWS, n), np.float32)
    np.put_along_axis(out, np.argsort(rng.random((DRAWS, n)), axis=1)[:, :n_drawn], 1, axis=1)
    return out


def _shuffled(success: Flags, rng: np.random.Generator) -> Floats:
    """T (N,) where the transfers of each pair fall on images at random."""
    return rng.permuted(success, axis=1).sum(axis=0).astype(float)


def _share_of(nulls: Floats, value: float) -> float:
    """The share of nulls, the value itself among them, that are at least as large."""
    return float((1 + (nulls >= value - 1e-12).sum()) / (1 + len(nulls)))


def foretold(one: Shown, proxies: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Rows of table `transfer_proxies`: of each proxy (N, a column each) its rank correlation with T, how well it tells
    the fragile ones from all others, and the range of the rate over draws without the images at its two ends."""
    t = one.success.sum(axis=0).astype(float)
    fragile = (counts(one)["kind"] == "fragile").to_numpy()
    n, p = len(t), len(one.sources)
    n_drawn, n_left = max(n // SHARE_DRAWN, 1), n - 2 * int(TRIMMED * n)

    def spread(kept: npt.NDArray[np.int64], rng: np.random.Generator) -> float:
        return float(np.ptp(_draws(len(kept), min(n_drawn, len(kept)), rng) @ t[kept]) / (n_drawn * p))

    rng = compute.rng(seed, "proxies", one.dataset, one.condition)
    whole = spread(np.arange(n), rng)
    at_random = np.mean([spread(rng.permutation(n)[:n_left], rng) for _ in range(20)])
    rows = []
    for name in PROXIES:
        values = proxies[name].to_numpy(float)
        order = np.argsort(values, kind="stable")[int(TRIMMED * n) : n - int(TRIMMED * n)]
        rho, p_value = _correlated(values, t, rng)
        rows.append(
            {
                "proxy": name,
                "spearman": rho,
                "p_value": p_value,
                "auroc": auroc(values, fragile),
                "range_all_pp": 100 * whole,
                "range_vetted_pp": 100 * spread(order, rng),
                "range_random_pp": 100 * at_random,
                "n": n,
            }
        )
    return pd.DataFrame(rows).assign(dataset=one.dataset, condition=one.condition)


def vetted(one: Shown, proxies: pd.DataFrame, told: pd.DataFrame) -> tuple[str | None, Flags]:
    """The proxy that is correlated most with T, and which images (N,) are left without the twentieths at its two ends:
    the source images that this study recommends. All of them, by none, where no proxy is correlated with T."""
    n, strength = len(one.ids), told.set_index("proxy")["spearman"].astype(float).abs()
    kept = np.ones(n, bool)
    if strength.isna().to_numpy().all():
        return None, kept
    best = str(strength.idxmax())
    order = np.argsort(proxies[best].to_numpy(float), kind="stable")
    kept[order[: int(TRIMMED * n)]] = kept[order[n - int(TRIMMED * n) :]] = False
    return best, kept


def _correlated(values: Floats, t: Floats, rng: np.random.Generator) -> tuple[float | None, float | None]:
    if np.ptp(values) == 0 or np.ptp(t) == 0:
        return None, None
    return stats.spearman(values, t, rng, permutations=999)


def auroc(values: Floats, flags: Flags) -> float | None:
    """The chance that a flagged one has the larger of two values, ties counted half; None where all are alike."""
    from scipy.stats import rankdata

    n_in, n_out = int(flags.sum()), int((~flags).sum())
    if not n_in or not n_out:
        return None
    return float((rankdata(values)[flags].sum() - n_in * (n_in + 1) / 2) / (n_in * n_out))
