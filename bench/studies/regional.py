"""Study 8: do attacks on a part of an image still transfer, and are their perturbations smaller?

After "Regional image perturbation reduces L_p norms of adversarial examples while still maintaining model-to-model
transferability" (ICML UDL workshop 2020), whose code gives the attack (bench/attacks/first.py) and the regions
(bench/attacks/masks.py); Grad-CAM regions, squares in corners and drawn regions are this benchmark's own. Attacked are
images that all models of the run get right, from each model, towards a class drawn by the image's id; success is that a
target answers any other class than the label.

`maintain` is the share of transfers of the attack on the whole image that the attack on the region makes too, within
the same number of steps (inferred: the abstract says 76 % "maintain" it). Sizes are compared on the images and pairs
that both transfer, each where the target first falls: as mean of the region over mean of the whole. To stop there asks
the target at each step, and is no transfer without queries: so beside it stand transfers

- after a `fixed` number of steps, without a query, and the sizes then: the equal-iteration comparison;
- within the L2 at which half of the transfers of the whole image have happened: the equal-L2 comparison.

Intervals resample images, with all their pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import compute, progress, stats
from bench.attacks import aims, masks, norms, sound
from bench.config import Config, Regional, Statistics
from bench.data import cache
from bench.data.samples import Samples
from bench.store import tables

if TYPE_CHECKING:
    from torch import nn


ALL = "all"
SIZES = ("l0", "l2", "linf")
FIXED = ("fixed_l2", "fixed_linf")


def run(config: Config) -> dict[str, int]:
    """Write results/{regional,regional_summary}.parquet."""
    from bench.models import zoo

    compute.prepare(config.compute, config.seed)
    found, summary = [], []
    for name, settings in config.regional.runs.items():
        data = cache.load(config, settings.dataset)
        networks = {model: zoo.load(config, model) for model in settings.models}
        mine = suitable(networks, settings.dataset, data, settings.n_images, config)
        if not len(mine.ids):
            continue
        rows = [
            attacked(model, networks, mine, settings, config)
            for model in progress.bar(settings.models, f"regional {name}")
        ]
        found.append(pd.concat(rows).assign(dataset=settings.dataset))
        summary.append(summed(found[-1], config.statistics, config.seed).assign(dataset=settings.dataset))
    written = {"regional": found, "regional_summary": summary}
    return {
        name: len(tables.write(name, tables.stacked(name, frames), config.results / f"{name}.parquet"))
        for name, frames in written.items()
    }


def suitable(networks: Mapping[str, nn.Module], dataset: str, data: Samples, n_images: int, config: Config) -> Samples:
    """The first `n_images` of the images that all networks get right, in the order of the sha256 of their ids."""
    right = np.ones(len(data.ids), bool)
    for name, network in networks.items():
        right &= sound.logits(name, network, dataset, data, config).argmax(axis=1) == data.labels
    data = data.rows(np.flatnonzero(right))
    return data.rows(compute.declared(data.ids, n_images))


def attacked(
    source: str, networks: Mapping[str, nn.Module], data: Samples, settings: Regional, config: Config
) -> pd.DataFrame:
    """Rows of table `regional`, without the dataset, of one source: every region, image and other network."""
    from bench.attacks import first

    regions = regions_of(networks[source], data, settings, config)
    k, n = len(regions), len(data.ids)
    clean = np.tile(data.images, (k, 1, 1, 1))
    labels = np.tile(data.labels, k)
    n_classes = compute.forward(networks[source], data.images[:1], config.compute).shape[1]
    towards = np.tile(aims.drawn(config.seed, data, n_classes), k)
    others = {name: network for name, network in networks.items() if name != source}
    found, last = first.walk(
        networks[source],
        others,
        clean,
        labels,
        towards,
        np.concatenate(list(regions.values())),
        config.compute,
        size=settings.step_255 / 255,
        iterations=settings.iterations,
        fixed=settings.fixed,
    )
    at_fixed = norms.sizes(last, clean)
    shared = {
        "region": np.repeat(list(regions), n),
        "source_model": source,
        "sample_id": np.tile(data.ids, k),
        "share": np.concatenate([mask.mean(axis=(1, 2)) for mask in regions.values()]),
        "towards": towards,
        "fixed_l2": at_fixed.l2,
        "fixed_linf": at_fixed.linf,
    }
    frames = []
    for target, one in found.items():
        answers, rounded, fixed = (
            compute.forward(networks[target], images, config.compute).argmax(axis=1)
            for images in (one.images, norms.round_u8(one.images), last)
        )
        size = norms.sizes(one.images, clean)
        frames.append(
            pd.DataFrame(
                {
                    **shared,
                    "target_model": target,
                    "iterations": one.iterations,
                    "success": one.fooled,
                    "success_u8": rounded != labels,
                    "pred": answers,
                    **{name: getattr(size, name) for name in SIZES},
                    "fixed_success": fixed != labels,
                }
            )
        )
    return pd.concat(frames)


def regions_of(network: nn.Module, data: Samples, settings: Regional, config: Config) -> dict[str, masks.Mask]:
    """Masks (N, H, W) of the whole image and of every region of a run; of those that are alike on images of this size
    the first, and none by Grad-CAM of a network that has no map of features."""
    from bench.attacks import looks

    shape = data.images.shape[2], data.images.shape[3]

    named = dict.fromkeys((masks.FULL, *settings.regions)) | settings.drawn
    looked = None
    if any(name.startswith("gradcam-") for name in settings.regions):
        looked = looks.grad_cam(network, data.images, data.labels, config.compute)
    out: dict[str, masks.Mask] = {}
    for name, drawn in named.items():
        if name.startswith("gradcam-") and looked is None:
            continue
        mask = masks.of(name, shape, list(data.ids), config.seed, looked, drawn)
        if not any(np.array_equal(mask, other) for other in out.values()):
            out[name] = mask
    return out


def summed(rows: pd.DataFrame, settings: Statistics, seed: int) -> pd.DataFrame:
    """Rows of table `regional_summary`, without the dataset: of each region over all pairs of models, and of each pair.

    What is compared with the attack on the whole image is not known where that, or the common part, is empty.
    """
    key = ["source_model", "target_model", "sample_id"]
    whole = rows.loc[rows["region"] == masks.FULL].set_index(key)
    models = rows[["source_model", "target_model"]].drop_duplicates().itertuples(index=False)
    pairs = [(ALL, ALL), *((str(source), str(target)) for source, target in models)]
    out = []
    for region in rows["region"].drop_duplicates().tolist():
        joined = rows.loc[rows["region"] == region].set_index(key).join(whole, rsuffix="_whole").reset_index()
        for source, target in pairs:
            some = joined
            if source != ALL:
                some = joined.loc[(joined["source_model"] == source) & (joined["target_model"] == target)]
            if some.empty:
                continue  # what the network looks at is not known, and the region was not attacked from it
            columns = {str(name): some[name].to_numpy() for name in some.columns}
            rng = compute.rng(seed, "regional", region, source, target)
            out.append(
                _row(columns, rng, settings) | {"region": region, "source_model": source, "target_model": target}
            )
    return pd.DataFrame(out)


def _row(
    columns: Mapping[str, npt.NDArray[np.generic]], rng: np.random.Generator, settings: Statistics
) -> dict[str, object]:
    """Of rows of one region, each beside that of the whole image (`..._whole`)."""
    ids = columns["sample_id"]
    success, whole, fixed, fixed_whole = (
        columns[name].astype(bool) for name in ("success", "success_whole", "fixed_success", "fixed_success_whole")
    )
    both, everything = success & whole, np.ones(len(ids), bool)
    within = everything & whole.any()  # else there is no L2 at which half have happened
    l2, l2_whole = columns["l2"].astype(float), columns["l2_whole"].astype(float)
    budget = float(np.median(l2_whole[whole])) if whole.any() else np.nan
    row: dict[str, object] = {
        "share": columns["share"].mean(),
        "n": len(ids),
        "n_images": len(np.unique(ids)),
        "n_whole": np.count_nonzero(whole),
        "n_common": np.count_nonzero(both),
        "l2_budget": budget,
    }
    for name, flags, of in (
        ("success", success, everything),
        ("success_u8", columns["success_u8"].astype(bool), everything),
        ("maintain", success, whole),
        ("fixed", fixed, everything),
        ("fixed_maintain", fixed, fixed_whole),
        ("equal_l2", success & (l2 <= budget), within),
        ("equal_l2_whole", whole & (l2_whole <= budget), within),
    ):
        found = np.nan, np.nan, np.nan
        if of.any():
            ends = stats.bootstrap_share(
                flags[of], rng, draws=settings.bootstrap, confidence=settings.confidence, clusters=ids[of]
            )
            found = float(flags[of].mean()), *ends
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))
    for size, of in (*((size, both) for size in (*SIZES, "iterations")), *((size, everything) for size in FIXED)):
        found = np.nan, np.nan, np.nan, np.nan
        if of.any():
            mine, other = columns[size][of].astype(float), columns[f"{size}_whole"][of].astype(float)
            ends = stats.bootstrap_ratio(
                mine, other, rng, draws=settings.bootstrap, confidence=settings.confidence, clusters=ids[of]
            )
            found = mine.mean(), mine.sum() / other.sum(), *ends
        row |= dict(zip((size, f"{size}_over", f"{size}_low", f"{size}_high"), found, strict=True))
    return row
