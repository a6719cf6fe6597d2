"""Study 10: can an attack make a network draw any mask, and which part of it does the work?

After Ozbulak et al., "Impact of Adversarial Examples on Deep Learning Models for Biomedical Image Segmentation" (MICCAI
2019). A U-Net is trained on each set here; then test images are attacked, each with the mask of another one as target:

| variant | climbs | step |
|---|---|---|
| asma | target logits of the pixels that are not right yet | gradient times beta * IoU + tau |
| static-mask | target logits of all pixels | the same |
| static-multiplier | as asma | gradient times tau |
| static-both | target logits of all pixels | gradient times tau |
| ce-pgd | log of the target's probability, all pixels | of one length, within a ball |
| logit-pgd | target logit minus the largest other one, all pixels | of one length, within a ball |

tau makes the first step of an image `step_l2` long (the published 1e-7 is one network's), and is the same for all
variants of a pair. The balls of the last two, this benchmark's own comparisons, are as large as what asma ended with on
the pair, and their steps 2.5 / iterations of that: so they have as many steps and as large a change at the end.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import compute, progress, stats
from bench.attacks import asma, norms
from bench.attacks.asma import Course, Masks
from bench.attacks.steps import VANISHED
from bench.config import Compute, Config, Segmentation, Statistics
from bench.data import masks
from bench.data.masks import Masked
from bench.errors import BenchError
from bench.models.unet import UNet
from bench.pictures import of_image, png
from bench.store import tables

PGD_STEP = 2.5
"""Length of all steps of PGD together, over the radius of its ball (Madry et al. 2018)."""
TABLES = ("segmentation_attacks", "segmentation_runs", "segmentation_summary", "segmentation_sets")


def run(config: Config) -> dict[str, int]:
    """Write results/segmentation_{attacks,runs,summary,sets,images}.parquet."""
    compute.prepare(config.compute, config.seed)
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in (*TABLES, "segmentation_images")}
    for name, settings in progress.bar(config.segmentation.items(), "segmentation"):
        for table, frame in studied(config, name, settings).items():
            found[table].append(frame)
    return {
        name: len(tables.write(name, tables.stacked(name, frames), config.results / f"{name}.parquet"))
        for name, frames in found.items()
    }


def studied(config: Config, name: str, settings: Segmentation) -> dict[str, pd.DataFrame]:
    """Table -> its rows of one set."""
    meta, train, test = masks.load(config, name)
    if len(test.ids) < 2:
        raise BenchError("has one test image: a target mask is another image's.", where=name, remedy="Add images.")
    own = config.compute.model_copy(update={"batch_size": settings.attack_batch})
    network = trained(train, len(meta.classes), settings, config.compute, compute.seed_of(config.seed, name))
    truth = answers(network, test.images, own)
    segmented = _iou(truth, test.masks)
    chosen = compute.declared(test.ids, settings.n_pairs)
    sources, at = test.rows(chosen), others(test.ids, chosen, config.seed)
    targets, target_ids = test.masks[at], test.ids[at]
    start = _iou(truth[chosen], targets)
    first = asma.first_norms(network, sources.images, targets, own)
    tau = first_steps(settings.step_l2, first)
    rows, curves, stills = [], [], []
    ball: npt.NDArray[np.float32] | None = None
    for variant, rule in asma.RULES.items():
        course = asma.attack(
            network,
            sources.images,
            targets,
            rule,
            own,
            iterations=settings.iterations,
            every=settings.every,
            tau=tau if ball is None or not rule.pgd else (PGD_STEP / settings.iterations * ball).astype(np.float32),
            beta=settings.beta,
            ball=ball if rule.pgd else None,
            reached=settings.reached,
            shown=settings.shown,
        )
        if ball is None:
            ball = course.measures[asma.CUT][:, -1, asma.MEASURES.index("l2")].astype(np.float32)
        run_ids = np.array([f"{variant}/{sample_id}" for sample_id in sources.ids])
        about = {"run_id": run_ids, "dataset": name, "variant": variant, "sample_id": sources.ids}
        rounded = _iou(answers(network, norms.round_u8(course.images), own), targets)
        runs = {"target_id": target_ids, "iou_start": start, "iou_clean": segmented[chosen], "tau": tau}
        last = {"iou": course.measures[asma.CUT][:, -1, 0], "iou_u8": rounded} | ends(course)
        rows.append(pd.DataFrame({**about, **runs, **last}))
        curves.append(curve(course, run_ids, name, variant))
        if variant == "asma":
            stills = pictures(course, sources, targets, truth[chosen], run_ids)
    runs = pd.concat(rows, ignore_index=True)
    return {
        "segmentation_attacks": pd.concat(curves, ignore_index=True),
        "segmentation_runs": runs,
        "segmentation_summary": summed(runs, settings.reached, config.statistics, config.seed),
        "segmentation_sets": set_row(config, name, meta, network, train, segmented, truth == test.masks, len(chosen)),
        "segmentation_images": pd.concat(stills, ignore_index=True),
    }


def trained(train: Masked, n_classes: int, settings: Segmentation, place: Compute, seed: int) -> UNet:
    """A U-Net in eval mode that was trained on images with masks: AdamW, one cycle of its rate, cross-entropy.

    BenchError where the loss is no longer finite.
    """
    device = compute.device_of(place)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(train.images.shape[1], n_classes, settings.widths)
    network = network.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    images = torch.from_numpy(train.images).to(device)
    targets = torch.from_numpy(train.masks).to(device)
    size = min(settings.batch_size, len(images))
    steps = settings.epochs * (len(images) // size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=settings.lr, total_steps=steps)
    draw = torch.Generator(device).manual_seed(seed)
    for epoch in range(1, settings.epochs + 1):
        total = torch.zeros((), device=device)
        for batch in torch.randperm(len(images), generator=draw, device=device)[: len(images) // size * size].split(
            size
        ):
            x, y = images[batch], targets[batch]
            if settings.varied:
                x, y = varied(x, y, draw)
            loss = F.cross_entropy(network(x.contiguous(memory_format=torch.channels_last)), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
        if not bool(torch.isfinite(total)):
            raise BenchError(f"the loss is not finite in epoch {epoch}.", where="U-Net", remedy="Use a lower `lr`.")
        progress.log.info("U-Net: epoch %d of %d, loss %.4f", epoch, settings.epochs, float(total) * size / len(images))
    return network.eval().requires_grad_(False)


def varied(x: Tensor, y: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) and masks (B, H, W), each mirrored or not along both axes, and the images of another
    brightness and contrast, by up to a fifth."""
    for axis in (-1, -2):
        turned = torch.rand(len(x), generator=draw, device=x.device) < 0.5
        x = torch.where(turned[:, None, None, None], x.flip(axis), x)
        y = torch.where(turned[:, None, None], y.flip(axis), y)
    by = 0.8 + 0.4 * torch.rand(2, len(x), 1, 1, 1, generator=draw, device=x.device)
    middle = x.mean(dim=(2, 3), keepdim=True)
    return ((x - middle) * by[0] + middle * by[1]).clamp(0, 1), y


def answers(network: nn.Module, images: npt.NDArray[np.float32], settings: Compute) -> Masks:
    """Masks (N, H, W) that a network draws of images (N, C, H, W)."""
    return compute.forward(network, images, settings).argmax(axis=1)


def others(ids: np.ndarray, chosen: np.ndarray, seed: int) -> npt.NDArray[np.int64]:
    """For each chosen index (P,) that of another one of all images (N,), any alike, drawn by the image's id."""
    away = [int(compute.rng(seed, "target mask", ids[row]).integers(1, len(ids))) for row in chosen]
    return (chosen + np.array(away, np.int64)) % len(ids)


def _iou(drawn: Masks, wanted: Masks) -> npt.NDArray[np.float64]:
    return asma.iou(torch.from_numpy(drawn), torch.from_numpy(wanted)).double().numpy()


def ends(course: Course) -> dict[str, npt.NDArray[np.float64]]:
    """What runs ended with, and when they reached the IoU that counts."""
    arrived = course.first >= 0
    last = dict(zip(asma.MEASURES[1:], course.measures[asma.CUT][:, -1, 1:].T, strict=True))
    return {
        **last,
        "iterations": np.where(arrived, course.first, np.nan),
        "l2_reached": np.where(arrived, course.first_l2, np.nan),
    }


def curve(course: Course, run_ids: np.ndarray, name: str, variant: str) -> pd.DataFrame:
    """Rows of table `segmentation_attacks`."""
    n, steps = len(run_ids), len(course.at)
    frame = pd.DataFrame(
        {
            "run_id": np.repeat(run_ids, steps),
            "iteration": np.tile(course.at, n),
            "dataset": name,
            "variant": variant,
            "multiplier": course.multiplier.ravel(),
        }
    )
    for kind, ending in ((asma.RAW, ""), (asma.CUT, "_clipped")):
        for number, measure in enumerate(asma.MEASURES):
            frame[f"{measure}{ending}"] = course.measures[kind][:, :, number].ravel()
    return frame


def first_steps(length: float, first: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """tau (N,), by which the first step is `length` long; 0 where there is no first gradient (N,), as where the target
    is drawn already: such an image stays as it is under every variant."""
    moves = first > VANISHED
    return np.where(moves, length / np.where(moves, first, 1), 0).astype(np.float32)


def pictures(course: Course, sources: Masked, targets: Masks, truth: Masks, run_ids: np.ndarray) -> list[pd.DataFrame]:
    """Rows of table `segmentation_images`, of the pairs whose pixels were kept: PNG."""
    out = []
    for row in range(len(course.frames)):
        fixed = {"clean": of_image(sources.images[row]), "target": _mask_png(targets[row])}
        fixed |= {"mask": _mask_png(sources.masks[row]), "clean_answer": _mask_png(truth[row])}
        for number, iteration in enumerate(course.at):
            moving = {"image": of_image(course.frames[row, number])}
            moving["answer"] = _mask_png(course.answers[row, number])
            if number in (0, len(course.at) - 1):
                moving |= fixed
            kinds = list(moving)
            rows = {"run_id": run_ids[row], "iteration": iteration, "kind": kinds, "png": [moving[k] for k in kinds]}
            out.append(pd.DataFrame(rows))
    return out


def _mask_png(mask: npt.NDArray[np.integer]) -> bytes:
    return png(mask.astype(np.uint8))


def set_row(
    config: Config,
    name: str,
    meta: masks.MaskMeta,
    network: UNet,
    train: Masked,
    segmented: npt.NDArray[np.float64],
    right: npt.NDArray[np.bool_],
    n_pairs: int,
) -> pd.DataFrame:
    """The row of table `segmentation_sets`."""
    settings, how = config.segmentation[name], config.statistics
    rng = compute.rng(config.seed, "segmentation set", name)
    low, high = stats.bootstrap_mean(segmented, rng, draws=how.bootstrap, confidence=how.confidence)
    return pd.DataFrame(
        [
            {
                "dataset": name,
                "title": meta.title,
                "about": meta.about,
                "synthetic": meta.synthetic,
                "source": meta.source,
                "license": meta.license,
                "classes": ", ".join(meta.classes),
                "size": settings.size,
                "n_train": len(train.ids),
                "n_test": len(segmented),
                "n_pairs": n_pairs,
                "iterations": settings.iterations,
                "step_l2": settings.step_l2,
                "beta": settings.beta,
                "reached": settings.reached,
                "params_m": sum(p.numel() for p in network.parameters()) / 1e6,
                "iou": segmented.mean(),
                "ci_low": low,
                "ci_high": high,
                "pixel_accuracy": right.mean(),
            }
        ]
    )


def summed(runs: pd.DataFrame, reached: float, settings: Statistics, seed: int) -> pd.DataFrame:
    """Rows of table `segmentation_summary` of one set from those of `segmentation_runs`: what each variant ended with,
    and less that of asma on the same pairs, with bootstraps over pairs.

    Steps and L2 at success are compared on pairs on which both succeeded.
    """
    name = runs["dataset"].iloc[0]
    base = runs.loc[runs["variant"] == "asma", :].set_index("sample_id")

    def interval(values: npt.ArrayLike, *parts: str) -> tuple[float, float]:
        rng = compute.rng(seed, "segmentation", name, *parts)
        return stats.bootstrap_mean(values, rng, draws=settings.bootstrap, confidence=settings.confidence)

    out = []
    for variant in asma.RULES:
        mine = runs.loc[runs["variant"] == variant, :].set_index("sample_id")
        arrived = int((mine["iou"] >= reached).sum())
        low, high = stats.wilson(arrived, len(mine), settings.confidence)
        row: dict[str, object] = {"dataset": name, "variant": variant, "n": len(mine)}
        row |= {"reached": arrived / len(mine), "reached_low": float(low), "reached_high": float(high)}
        row |= {"reached_u8": (mine["iou_u8"] >= reached).mean(), "iou_start": mine["iou_start"].mean()}
        for measure in ("iou", "l2"):
            row[measure] = mine[measure].mean()
            row[f"{measure}_low"], row[f"{measure}_high"] = interval(mine[measure], variant, measure)
        row |= {
            "iou_sd": mine["iou"].std(),
            "linf": mine["linf"].mean(),
            "pixel_accuracy": mine["pixel_accuracy"].mean(),
        }
        both = mine["iterations"].notna() & base["iterations"].reindex(mine.index).notna()
        row |= {"n_both": int(both.sum()), "iterations": mine["iterations"].median()}
        row["l2_reached"] = mine["l2_reached"].mean()
        kept = pd.Series(data=True, index=mine.index)
        for measure, pairs in {"iou": kept, "iterations": both, "l2_reached": both}.items():
            ends = dict.fromkeys(("value", "low", "high"), np.nan)
            if variant != "asma" and pairs.any():
                delta = (mine[measure] - base[measure].reindex(mine.index))[pairs]
                ends = dict(zip(ends, (delta.mean(), *interval(delta, variant, "delta", measure)), strict=True))
            row |= {f"{measure}_delta": ends["value"], f"{measure}_delta_low": ends["low"]}
            row[f"{measure}_delta_high"] = ends["high"]
        out.append(row)
    return pd.DataFrame(out)
