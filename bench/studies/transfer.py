"""Study 6: does it matter on which images transfer attacks are tried?

After "Selection of source images heavily influences effectiveness of adversarial attacks" (BMVC 2021). Suitable source
images are those that every model of the pool gets right when clean; rates are shares of these. Four tables:

| table | what it says |
|---|---|
| transfer_pairs | for each pair of models, how often what was made on one is answered wrongly by the other |
| transfer_images | for each image, by how many pairs of different models it transfers: T |
| transfer_sampling | the range of figures over random draws of images, beside what chance alone gives |
| transfer_proxies | how well a clean figure of an image foretells T, and the spread of T without its two ends |

A range over draws is no finding by itself: it grows with the number of draws, and images that are all alike have one
too. Over draws without replacement a mean rate has a standard deviation of that of T times a factor that depends on the
sizes alone, and the rate of a single pair is hypergeometric whatever the images are. So what can be found is that T is
spread wider than if each pair of models transferred, as often as it does, on images of its own. That null has no
relations between models: one adversarial image is shown to all targets, and relatives agree, so T is wider even where
no image is special.

What differs from the paper: the ranges are of the mean over all pairs, and of the one pair that ranges most, for the
paper's are of a pair; mean sizes are over each pair's own transfers. Images are fragile and hard under one attack, by
the paper's shares of pairs. Which proxies the paper tried is not known: these are this benchmark's own, and so is the
rule by which source images are recommended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import compute, stats
from bench.config import Config, Statistics
from bench.store import tables

DRAWS = 2000
NULLS = 200
SHARE_DRAWN = 4
"""A draw has the number of suitable images divided by this."""
FRAGILE, HARD = 30 / 42, 5 / 42
"""Images that transfer by at least, and at most, these shares of all pairs of models: the paper's 30 and 5 of 42."""
TRIMMED = 0.05
"""Share of images that vetting leaves out at either end of a proxy."""
EVERY = "all"
"""In the place of a condition: T summed over all attacks on a dataset."""
PROXIES = ("p_top1", "entropy_nats", "margin", "gradient_norm", "runner_up")

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
    labels = tables.read("samples", config.results / "samples.parquet").set_index("sample_id")["label"]
    settings, seed = config.statistics, config.seed
    proxies = proxies_of(images, labels.loc[images["sample_id"]].to_numpy(np.int64))
    shown = list(read(attacks, transfers, images))
    told = [foretold(one, proxies.loc[one.ids], settings, seed) for one in [*shown, *together(shown)]]
    by_dataset = {frame["dataset"].iloc[0]: frame for frame in told if frame["condition"].iloc[0] == EVERY}
    written = {
        "transfer_pairs": [pairs(one, attacks, settings.confidence) for one in shown],
        "transfer_images": [
            counts(one).assign(vetted=vetted(proxies.loc[one.ids], by_dataset[one.dataset])) for one in shown
        ],
        "transfer_sampling": [sampling(one, settings, seed) for one in shown],
        "transfer_proxies": told,
    }
    return {
        name: len(tables.write(name, tables.stacked(name, frames), config.results / f"{name}.parquet"))
        for name, frames in written.items()
    }


def proxies_of(images: pd.DataFrame, labels: npt.NDArray[np.int64]) -> pd.DataFrame:
    """The mean over models of each proxy, a row an image: from table `source_images` and its labels (R,)."""
    parts = []
    for dataset in images["dataset"].unique():  # each has its own number of classes
        mine = (images["dataset"] == dataset).to_numpy()
        others = without_label(np.array(images.loc[mine, "p"].tolist(), float), labels[mine])
        known = images.loc[mine].assign(runner_up=others.max(axis=1))
        parts.append(known.pivot_table(index="sample_id", values=list(PROXIES), aggfunc="mean").loc[:, list(PROXIES)])
    return pd.concat(parts) if parts else pd.DataFrame(columns=list(PROXIES))


def without_label(p: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    """Probabilities (N, K) of the other classes, given that it is not the label's (N,)."""
    rest = p.copy()
    rest[np.arange(len(p)), labels] = 0
    return rest / np.maximum(rest.sum(axis=1, keepdims=True), 1e-300)


def together(shown: Sequence[Shown]) -> Iterator[Shown]:
    """All attacks on each dataset as one: their T are added, so that strong attacks weigh most. Attacks that follow one
    model alone are left out where others follow each: their images are much the same."""
    for dataset in dict.fromkeys(one.dataset for one in shown):
        mine = [one for one in shown if one.dataset == dataset]
        mine = [one for one in mine if len(set(one.sources)) > 1] or mine
        sources, targets = (
            tuple(name for one in mine for name in getattr(one, side)) for side in ("sources", "targets")
        )
        stacked = (np.concatenate([getattr(one, name) for one in mine]) for name in ("success", "l2", "linf"))
        yield Shown(dataset, EVERY, sources, targets, mine[0].ids, *stacked)


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
    own = own.loc[~own["attack_id"].str.split("/", n=3).str[2].str.contains("@", regex=False)]  # made for no other
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


def sampling(one: Shown, settings: Statistics, seed: int) -> pd.DataFrame:
    """Rows of table `transfer_sampling`: the range over DRAWS draws of images without replacement of the mean transfer
    rate, of the rate of the pair that ranges most, and of the mean length of changes that transferred; and the variance
    of T. The null of the mean rate and of the variance: the transfers of each pair fall on images at random."""
    rng = compute.rng(seed, "transfer", one.dataset, one.condition)
    n, p = len(one.ids), len(one.sources)
    n_drawn = max(n // SHARE_DRAWN, 1)
    drawn = _draws(n, n_drawn, rng)
    t = one.success.sum(axis=0).astype(float)
    rates = drawn @ t / (n_drawn * p)
    nulls = np.stack([_shuffled(one.success, rng) for _ in range(NULLS)])
    ranges = np.ptp(nulls @ drawn.T / (n_drawn * p), axis=1)
    null_low, null_high = stats.percentile_interval(ranges, settings.confidence)
    low, high = stats.bootstrap_mean(t / p, rng, draws=settings.bootstrap, confidence=settings.confidence)
    singles = one.success.astype(np.float32) @ drawn.T / n_drawn
    widest = int(np.ptp(singles, axis=1).argmax())
    rows: list[dict[str, object]] = [
        {
            "statistic": "rate",
            "value": t.mean() / p,
            "ci_low": low,
            "ci_high": high,
            "lowest": rates.min(),
            "highest": rates.max(),
            "range_null_low": null_low,
            "range_null_high": null_high,
            "p_value": _share_of(ranges, np.ptp(rates)),
        },
        {
            "statistic": "pair",
            "value": one.success[widest].mean(),
            "lowest": singles[widest].min(),
            "highest": singles[widest].max(),
        },
        {"statistic": "spread", "value": t.var(), "p_value": _share_of(nulls.var(axis=1), t.var())},
    ]
    times = drawn @ t
    for name in ("l2", "linf"):
        sizes = getattr(one, name) * one.success
        means = (drawn @ sizes.sum(axis=0))[times > 0] / times[times > 0]
        if len(means):
            whole = sizes.sum() / t.sum()
            rows.append({"statistic": name, "value": whole, "lowest": means.min(), "highest": means.max()})
    shared = {"dataset": one.dataset, "condition": one.condition, "n_drawn": n_drawn, "draws": DRAWS, "n": n}
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


def foretold(one: Shown, proxies: pd.DataFrame, settings: Statistics, seed: int) -> pd.DataFrame:
    """Rows of table `transfer_proxies`: of each proxy (N, a column each) its rank correlation with T, how well it tells
    the fragile ones from all others, and how much of the spread of T is left without the images at its two ends.

    A proxy recommends source images where it is correlated with T (Holm over the proxies) and the interval of what is
    left is below 1: of several the one that leaves least, by however little (its interval knows nothing of the choice).
    """
    t = one.success.sum(axis=0).astype(float)
    fragile = (counts(one)["kind"] == "fragile").to_numpy()
    rng = compute.rng(seed, "proxies", one.dataset, one.condition)
    resamples = rng.integers(0, len(t), (settings.bootstrap, len(t)))
    rows = []
    for name in PROXIES:
        values = proxies[name].to_numpy(float)
        rho, p_value = _correlated(values, t, rng)
        left = [spread_left(values[rows_], t[rows_]) for rows_ in resamples]
        low, high = stats.percentiles(np.array(left), settings.confidence)
        rows.append(
            {
                "proxy": name,
                "spearman": rho,
                "p_value": p_value,
                "auroc": stats.auroc(values[fragile], values[~fragile]) if 0 < fragile.sum() < len(t) else None,
                "n_fragile": int(fragile.sum()),
                "spread_left": spread_left(values, t),
                "ci_low": float(low),
                "ci_high": float(high),
                "n": len(t),
            }
        )
    frame = pd.DataFrame(rows).assign(dataset=one.dataset, condition=one.condition)
    holm = stats.holm(frame["p_value"].astype(float).fillna(1.0))
    good = frame.loc[(holm < settings.alpha) & (frame["ci_high"] < 1), "spread_left"]
    return frame.assign(recommends=frame.index == (good.idxmin() if len(good) else -1))


def spread_left(values: Floats, t: Floats) -> float:
    """The standard deviation of t (N,) without the images at the two ends of `values` (N,), over that of all; NaN where
    all t are alike."""
    n_cut = int(TRIMMED * len(t))
    kept = np.argsort(values, kind="stable")[n_cut : len(t) - n_cut]
    whole = t.std()
    return float(t[kept].std() / whole) if whole > 0 else float("nan")


def vetted(proxies: pd.DataFrame, told: pd.DataFrame) -> Flags:
    """Which images (N,) are left without the twentieths at the two ends of the proxy that recommends; all where none
    does. The same for every attack on a dataset: told is of all of them together."""
    kept = np.ones(len(proxies), bool)
    best = told.loc[told["recommends"], "proxy"].tolist()
    if best:
        n_cut = int(TRIMMED * len(kept))
        order = np.argsort(proxies[best[0]].to_numpy(float), kind="stable")
        kept[order[:n_cut]] = kept[order[len(order) - n_cut :]] = False
    return kept


def _correlated(values: Floats, t: Floats, rng: np.random.Generator) -> tuple[float | None, float | None]:
    if np.ptp(values) == 0 or np.ptp(t) == 0:
        return None, None
    return stats.spearman(values, t, rng, permutations=999)
