"""Study 7: do attacks on range-Doppler sequences carry over between networks, and is padding enough for them?

After "Adversarial attacks and interpretability on radar-based gestures" (CVIU 2021, arXiv 2101.10562), of which the
abstract alone was at hand: threat models, masks and settings are this benchmark's own. Networks are trained on subjects
of group A or B; all others are test. The victims are those of A.

| threat | attacker |
|---|---|
| 1 | the victim itself |
| 2 | its architecture, other subjects |
| 3 | another architecture, the same subjects |
| 4 | both other |

An attack takes sign steps of 1/255, without a limit but their number, in all frames (`full`), in those from the length
on (`padding`) or in the others (`action`). It starts from noise of at most 1/255 in its mask, drawn by id: where no
ReLU is active over zeros, there is no gradient. It does not stop early: who attacks another network does not see when
that falls. Its null: in the same mask, every value up or down by the largest change of the attack, at random, cut off
at 0 and 1. A digital attack: not every changed map is one that a radar could see.

Grad-CAM (Selvaraju et al. 2017) of a clean sequence says how much each frame speaks for its label; Spearman's
correlation of that with the length of an attack's change in the frame is held against the same after a circular shift
of one side. A sequence has T shifts: its null is all of them. The null of a mean over sequences shifts each on its own,
SHIFTS times. Sign steps change all values alike, so steps of equal length along the gradient (`l2`) are tried besides.
Where padding counts in (`all`), frames are alike in being padding: `action` leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from bench import compute, stats
from bench.attacks import engine, losses, norms, steps
from bench.config import Compute, Config, Statistics
from bench.data import radar as sequences
from bench.data.radar import Sequences
from bench.errors import BenchError
from bench.models import radar as networks
from bench.store import tables

Floats = npt.NDArray[np.float32]
Task = TypeVar("Task")
Made = TypeVar("Made")
MASKS = ("full", "padding", "action")
GOALS = ("untargeted", "targeted")
GIVEN = "cnnlstm-given"
"""The CNN-LSTM that is told the length and reads no padding."""
BATCH, SHIFTS, TOP, STEP = 20, 1000, 0.2, 1 / 255


@dataclass(frozen=True)
class Trained:
    """A network, by what it was trained on: `arch` cnn3d, cnnlstm or cnnlstm-given, `group` A or B."""

    network: nn.Module
    arch: str
    group: str

    @property
    def name(self) -> str:
        return f"{self.arch}-{self.group}"

    def sees(self, data: Sequences, frames: Floats | None = None) -> Floats:
        """What it is shown of sequences, or of changed `frames` (N, T, R, D) of them."""
        x = data.frames if frames is None else frames
        if self.arch != GIVEN:
            return x
        return networks.with_length(torch.from_numpy(x), torch.from_numpy(data.lengths)).numpy()


def run(config: Config) -> dict[str, int]:
    """Write results/radar_{models,attacks,summary,cam,cam_summary,frames}.parquet."""
    settings, seed = config.radar, config.seed
    compute.prepare(config.compute.model_copy(update={"threads": 1}), seed)  # a network a thread, see `side_by_side`
    passes = config.compute.model_copy(update={"batch_size": min(BATCH, settings.n_sequences)})
    data = sequences.load(config)
    groups = split(data.subjects, settings.trained)
    test = data.rows(np.isin(data.subjects, groups["test"]))
    kinds = (("cnn3d", "A"), ("cnnlstm", "A"), ("cnn3d", "B"), ("cnnlstm", "B"), (GIVEN, "A"))
    pool = [untrained(config, len(data.classes), arch, group) for arch, group in kinds]

    def fit(one: Trained) -> None:
        fitted(config, data.rows(np.isin(data.subjects, groups[one.group])), one)

    side_by_side(fit, pool, config.compute.threads)
    logits = {one.name: compute.forward(one.network, one.sees(test), passes) for one in pool}
    right = np.array([logits[one.name].argmax(axis=1) == test.labels for one in pool])
    suitable = test.rows(np.flatnonzero(right.all(axis=0)))
    if not len(suitable.ids):
        raise BenchError("no test sequence is answered rightly by all networks.", remedy="Raise `radar.epochs`.")
    attacked = suitable.rows(compute.declared(suitable.ids, settings.n_sequences))
    models = [
        {
            "model": one.name,
            "arch": one.arch,
            "trained_on": one.group,
            "n_subjects": len(groups[one.group]),
            "n_train": int(np.isin(data.subjects, groups[one.group]).sum()),
            "n_test_subjects": len(groups["test"]),
            "accuracy": hit.mean(),
            **interval(hit, config.statistics.confidence),
            "n": len(hit),
        }
        for one, hit in zip(pool, right, strict=True)
    ]

    def attacks(attacker: Trained) -> dict[tuple[str, str], Floats]:
        found = {
            (mask, goal): attack(attacker, attacked, mask, goal, passes, settings.iterations, seed)
            for mask in MASKS
            for goal in GOALS
        }
        if attacker in pool[:2]:
            found["l2", "untargeted"] = attack(
                attacker, attacked, "full", "untargeted", passes, settings.iterations, seed, length=True
            )
        return found

    changes = dict(zip([one.name for one in pool], side_by_side(attacks, pool, config.compute.threads), strict=True))
    rows = [
        answered(attacker, victim, attacked, changes[attacker.name][mask, goal], mask, goal, passes, seed)
        for attacker in pool
        for mask in MASKS
        for goal in GOALS
        for victim in pool
        if victim.group == "A" and (victim.arch == GIVEN) == (attacker.arch == GIVEN)
    ]
    cams, shown = [], []
    for victim in pool[:2]:
        cam, mine = gradcam(victim.network, attacked.frames, attacked.labels), changes[victim.name]
        for step, moved in (("sign", mine["full", "untargeted"]), ("l2", mine["l2", "untargeted"])):
            energy = np.sqrt(((moved - attacked.frames).astype(np.float64) ** 2).sum(axis=(2, 3)))
            cams.append(related(cam.sum(axis=(2, 3)), energy, attacked).assign(victim=victim.name, step=step))
        moved = {mask: mine[mask, "untargeted"] for mask in MASKS}
        shown.append(kept(victim.name, attacked, cam, moved, settings.shown))
    every = pd.concat(rows)
    summary = summed(every, config.statistics)
    null = pd.concat(cams)
    written = {
        "radar_models": pd.DataFrame(models),
        "radar_attacks": every,
        "radar_summary": summary,
        "radar_cam": null.drop(columns="shifted"),
        "radar_cam_summary": correlated(null, config.statistics, seed),
        "radar_frames": pd.concat(shown),
    }
    simulated = settings.recorded is None
    for frame in written.values():
        frame["simulated"] = pd.array([simulated] * len(frame), dtype="boolean")
    return {name: len(tables.write(name, frame, config.results / f"{name}.parquet")) for name, frame in written.items()}


def split(subjects: npt.NDArray[np.str_], size: int) -> dict[str, list[str]]:
    """Subjects by their names: the first `size` are A, as many more B, and all others test, so that no subject is in
    two. BenchError where none would be left for test."""
    names = sorted({str(one) for one in subjects})
    if len(names) <= 2 * size:
        raise BenchError(
            f"{len(names)} subjects make no groups A and B of {size} with others left for test.",
            where="params.yaml",
            remedy="Lower `radar.trained`.",
        )
    return {"A": names[:size], "B": names[size : 2 * size], "test": names[2 * size :]}


def side_by_side(work: Callable[[Task], Made], tasks: Iterable[Task], threads: int) -> list[Made]:
    """What `work` makes of each task, in their order, `threads` at once; inside each, torch has one thread. So results
    do not depend on `threads`, and networks too small for two threads keep both busy. No network in two tasks."""
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as workers:
        return list(workers.map(work, tasks))


def untrained(config: Config, k: int, arch: str, group: str) -> Trained:
    """A network of `arch` for `k` classes, its weights drawn by its name."""
    with torch.random.fork_rng():
        torch.manual_seed(compute.seed_of(config.seed, "radar", arch, group))
        network = networks.CNN3D(k) if arch == "cnn3d" else networks.CNNLSTM(k, "given" if arch == GIVEN else "all")
    return Trained(network, arch, group)


def fitted(config: Config, data: Sequences, one: Trained) -> None:
    """Train a network on the sequences of its group, in place."""
    settings, seed = config.radar, compute.seed_of(config.seed, "radar", one.arch, one.group)
    x, labels = torch.from_numpy(one.sees(data)), torch.from_numpy(data.labels)
    lr = settings.lr["cnn3d" if one.arch == "cnn3d" else "cnnlstm"]
    networks.train(one.network, x, labels, settings.epochs, lr, seed)


def free(data: Sequences, mask: str) -> Floats:
    """1 where `mask` lets sequences change, 0 elsewhere: (N, T, R, D)."""
    padding = np.arange(data.frames.shape[1]) >= data.lengths[:, None]
    where = {"full": np.ones_like(padding), "padding": padding, "action": ~padding}[mask]
    return np.broadcast_to(where[:, :, None, None], data.frames.shape).astype(np.float32)


def targets_of(data: Sequences, seed: int) -> npt.NDArray[np.int64]:
    """Another class for each sequence (N,), drawn by its id."""
    away = [int(compute.rng(seed, "radar target", name).integers(1, len(data.classes))) for name in data.ids]
    return (data.labels + np.array(away, np.int64)) % len(data.classes)


def attack(
    attacker: Trained,
    data: Sequences,
    mask: str,
    goal: str,
    settings: Compute,
    iterations: int,
    seed: int,
    *,
    length: bool = False,
) -> Floats:
    """Attacked frames (N, T, R, D): sign steps of 1/255, or steps along the gradient of what length those have."""
    clean, where = data.frames, free(data, mask)
    noise = np.stack(
        [compute.rng(seed, "radar start", name).uniform(-STEP, STEP, clean.shape[1:]) for name in data.ids]
    )
    start = np.clip(clean + where * noise.astype(np.float32), 0, 1).astype(np.float32)
    x, first, mine = attacker.sees(data), attacker.sees(data, start), np.zeros_like(attacker.sees(data))
    mine[:, : clean.shape[1]] = where
    found = engine.iterate(
        attacker.network,
        x,
        data.labels if goal == "untargeted" else targets_of(data, seed),
        settings,
        loss=losses.cross_entropy if goal == "untargeted" else losses.to_cross_entropy,
        step=steps.l2(STEP * float(np.sqrt(clean[0].size))) if length else steps.sign(STEP),
        iterations=iterations,
        low=np.zeros_like(x),
        high=np.ones_like(x),
        start=first,
        mask=mine,
    )
    return found.images[:, : clean.shape[1]]


def null_of(data: Sequences, found: Floats, mask: str, seed: int) -> Floats:
    """Frames changed at random within `mask`, by the largest change of each attack, up or down, cut off at 0 and 1."""
    size = np.abs(found - data.frames).max(axis=(1, 2, 3), keepdims=True)
    signs = [compute.rng(seed, "radar null", name).choice([-1, 1], data.frames.shape[1:]) for name in data.ids]
    return np.clip(data.frames + free(data, mask) * size * np.array(signs, np.float32), 0, 1).astype(np.float32)


def answered(
    attacker: Trained,
    victim: Trained,
    data: Sequences,
    found: Floats,
    mask: str,
    goal: str,
    settings: Compute,
    seed: int,
) -> pd.DataFrame:
    """Rows of table `radar_attacks`: what a victim says of the attacked frames, of these in 8 bits, of their null."""
    clean, targets = data.frames, targets_of(data, seed)
    before, after, rounded, null = (
        compute.forward(victim.network, victim.sees(data, frames), settings)
        for frames in (clean, found, norms.round_u8(found), null_of(data, found, mask, seed))
    )
    pred, pred_u8, pred_null = (logits.argmax(axis=1) for logits in (after, rounded, null))

    def fooled(answers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        return answers != data.labels if goal == "untargeted" else answers == targets

    size = norms.sizes(found, clean)
    change = np.abs(found - clean).max(axis=(2, 3))
    return pd.DataFrame(
        {
            "victim": victim.name,
            "attacker": attacker.name,
            "threat": 1 + (attacker.group != victim.group) + 2 * (attacker.arch != victim.arch),
            "mask": mask,
            "goal": goal,
            "sequence_id": data.ids,
            "subject": data.subjects,
            "gesture": [data.classes[k] for k in data.labels],
            "target": [data.classes[k] for k in targets],
            "pred": [data.classes[k] for k in pred],
            "n_frames": data.lengths,
            "reached": ((after != before) | (null != before)).any(axis=1),
            "success": fooled(pred),
            "success_u8": fooled(pred_u8),
            "null_success": fooled(pred_null),
            "l0_frames": (change > norms.HALF_STEP).mean(axis=1),
            "l2": size.l2,
            "linf": size.linf,
        }
    )


def interval(hits: npt.ArrayLike, confidence: float) -> dict[str, float]:
    """Wilson's interval of the share of flags (N,)."""
    hits = np.asarray(hits, bool)
    low, high = stats.wilson(hits.sum(), len(hits), confidence)
    return {"ci_low": float(low), "ci_high": float(high)}


def summed(rows: pd.DataFrame, settings: Statistics) -> pd.DataFrame:
    """Rows of table `radar_summary`: shares of sequences by victim, threat model, mask and goal."""
    out = []
    keys = ["victim", "attacker", "threat", "mask", "goal"]
    for _, mine in rows.groupby(keys):
        null = interval(mine["null_success"], settings.confidence)
        out.append(
            {name: mine[name].iloc[0] for name in keys}
            | {
                name: mine[name].mean()
                for name in ("reached", "success", "success_u8", "null_success", "l0_frames", "l2")
            }
            | interval(mine["success"], settings.confidence)
            | {"null_low": null["ci_low"], "null_high": null["ci_high"], "linf": mine["linf"].max(), "n": len(mine)}
        )
    return pd.DataFrame(out)


def gradcam(
    network: networks.CNN3D | networks.CNNLSTM | nn.Module, frames: Floats, labels: npt.NDArray[np.int64]
) -> Floats:
    """Grad-CAM of the labels (N,) at the last convolution, in time as long as the frames (N, T, R, D): (N, T, r, d),
    not scaled, so that frames can be compared. Of a network that sees frame by frame, each has weights of its own."""
    from captum.attr import LayerAttribution, LayerGradCam

    n, t = frames.shape[:2]
    x = torch.from_numpy(frames).requires_grad_()
    layer = getattr(network, "last")  # noqa: B009
    found: Tensor = LayerGradCam(network, layer).attribute(x, torch.from_numpy(labels), relu_attributions=True)  # pyright: ignore[reportAssignmentType]
    if found.dim() == 5:
        size = (t, *found.shape[3:])
        return LayerAttribution.interpolate(found, size, "trilinear").detach()[:, 0].numpy()
    return found.detach()[:, 0].unflatten(0, (n, t)).numpy()


def shifted(importance: npt.NDArray[np.float64], energy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Spearman's correlation of two rows (T,) after each circular shift of the first, 0 to T - 1: (T,). NaN where one
    does not vary."""
    a, b = (pd.Series(row).rank().to_numpy() for row in (importance, energy))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    if size == 0:
        return np.full(len(a), np.nan)
    return np.array([np.roll(a, s) @ b for s in range(len(a))]) / size


def overlap(importance: npt.NDArray[np.float64], energy: npt.NDArray[np.float64]) -> float:
    """Intersection over union of the TOP share of frames of both (T,)."""
    k = max(1, round(TOP * len(importance)))
    a, b = (set(np.argsort(-row, kind="stable")[:k].tolist()) for row in (importance, energy))
    return len(a & b) / len(a | b)


def related(importance: npt.NDArray[np.float64], energy: npt.NDArray[np.float64], data: Sequences) -> pd.DataFrame:
    """Of frames' importance and change (N, T): correlation and overlap of each sequence, over all frames and over those
    of the action; `shifted`: the correlations after each shift. Sequences where one side does not vary are left out."""
    out = []
    for scope in ("all", "action"):
        for row, name in enumerate(data.ids):
            end = int(data.lengths[row]) if scope == "action" else importance.shape[1]
            a, b = importance[row, :end].astype(np.float64), energy[row, :end]
            rho = shifted(a, b)
            if np.isfinite(rho[0]):
                of_null = float(np.mean([overlap(np.roll(a, s), b) for s in range(end)]))
                out.append(
                    {
                        "scope": scope,
                        "sequence_id": name,
                        "rho": rho[0],
                        "null_mean": rho.mean(),
                        "p_value": (rho >= rho[0]).mean(),
                        "overlap": overlap(a, b),
                        "null_overlap": of_null,
                        "shifted": rho,
                    }
                )
    return pd.DataFrame(out)


def correlated(rows: pd.DataFrame, settings: Statistics, seed: int) -> pd.DataFrame:
    """Rows of table `radar_cam_summary`: the mean correlation, its bootstrap over sequences, and its null."""
    out = []
    for (victim, step, scope), mine in rows.groupby(["victim", "step", "scope"]):  # pyright: ignore[reportGeneralTypeIssues]
        rng = compute.rng(seed, "radar cam", victim, step, scope)
        null = np.mean([rng.choice(one, SHIFTS) for one in mine["shifted"]], axis=0)
        mean = mine["rho"].to_numpy(float).mean()
        low, high = stats.bootstrap_mean(mine["rho"], rng, draws=settings.bootstrap, confidence=settings.confidence)
        ends = stats.percentile_interval(null, settings.confidence)
        out.append(
            {
                "victim": victim,
                "step": step,
                "scope": scope,
                "rho": mean,
                "ci_low": low,
                "ci_high": high,
                "null_mean": null.mean(),
                "null_low": ends[0],
                "null_high": ends[1],
                "p_value": (1 + (null >= mean).sum()) / (1 + SHIFTS),
                "overlap": mine["overlap"].mean(),
                "null_overlap": mine["null_overlap"].mean(),
                "n": len(mine),
            }
        )
    return pd.DataFrame(out)


def kept(victim: str, data: Sequences, cam: Floats, moved: dict[str, Floats], n: int) -> pd.DataFrame:
    """Rows of table `radar_frames`: the first `n` sequences, of other gestures each where there are, frame by frame."""
    _, first = np.unique(data.labels, return_index=True)
    chosen = list(dict.fromkeys([*np.sort(first).tolist(), *range(len(data.ids))]))[:n]
    out = []
    for i in chosen:
        top = max(float(cam[i].max()), 1e-12)
        for t in range(data.frames.shape[1]):
            row: dict[str, object] = {
                "victim": victim,
                "sequence_id": data.ids[i],
                "frame": t,
                "gesture": data.classes[data.labels[i]],
                "n_frames": int(data.lengths[i]),
                "height": data.frames.shape[2],
                "width": data.frames.shape[3],
                "cam_height": cam.shape[2],
                "cam_width": cam.shape[3],
                "clean": np.round(255 * data.frames[i, t]).astype(np.uint8).tobytes(),
                "cam": np.round(255 * cam[i, t] / top).astype(np.uint8).tobytes(),
            }
            for mask in MASKS:
                change = np.round(255 * (moved[mask][i, t] - data.frames[i, t]))
                row[mask] = np.clip(change + sequences.ZERO, 0, 255).astype(np.uint8).tobytes()
            out.append(row)
    return pd.DataFrame(out)
