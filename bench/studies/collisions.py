"""Study 4: can two different images be one to a network?

After "Exact feature collisions" (arXiv 2205.15763; Scientific Reports 2026), of which the abstract alone was at hand:
how images are searched for is this benchmark's own. Everything up to the first layer of a network is linear in the
pixels: resizing, normalisation, the layer. Two images whose difference is in the kernel of that map are one to the
network, whatever follows. Each of the declared test images is moved there towards one of another class.
"""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from bench import compute, progress, stats
from bench.config import Collisions, Config
from bench.data import cache
from bench.errors import BenchError
from bench.models.zoo import Network
from bench.pictures import of_image
from bench.store import tables
from bench.studies import layers, nullity, nullspace, stems
from bench.studies.nullspace import Flags, Floats

PIXELS = "pixels to first layer"
"""Name, among the layers, of the whole linear map from the pixels of the data set on."""


class _Seen(Exception):
    """Carries what the first layer gave."""

    def __init__(self, output: Tensor) -> None:
        self.output = output


def in_double(network: nn.Module) -> nn.Module:
    """A copy of a network that computes in float64 throughout (the `encode` of a `Network` ends in float32)."""
    nullspace.unhooked(network)
    double = copy.deepcopy(network).double().eval()
    if isinstance(double, Network):
        double.__dict__["encode"] = double.encoder
    return double


def at_layer(network: nn.Module, name: str, images: Tensor) -> Tensor:
    """What the layer `name` of a network gives for images (N, C, H, W): nothing after it is computed."""

    def stop(_: nn.Module, __: object, output: Tensor) -> None:
        raise _Seen(output)

    modules = dict(network.named_modules())
    hook = modules[name].register_forward_hook(stop) if name in modules else None
    try:
        network(images)
    except _Seen as seen:
        return seen.output
    finally:
        if hook is not None:
            hook.remove()
    raise BenchError(
        "is not run by itself: it is part of an attention, or not used.",
        where=f"layer {name}",
        remedy="Name a layer that is; a network that begins or ends with attention cannot be in `collisions`.",
    )


LONGEST, HALVINGS = 100.0, 60
"""How many times longer than a change noise may be before it is cut to the box, and how often that is halved."""
LARGEST = 1e8
"""Entries of a network's operator, 0.8 GB, that are written down, some of it four times."""
ALONE = 1e-6
"""Change of a logit in float64 from which on a network is taken to see the image by a second way."""


def run(config: Config) -> dict[str, int]:
    """Write results/{layers,collisions,collision_checks}.parquet."""
    compute.prepare(config.compute, config.seed)
    rows: dict[str, list[pd.DataFrame]] = {"layers": [], "collisions": [], "collision_checks": []}
    for settings in config.collisions.runs.values():
        for name, frames in one_set(config, settings).items():
            rows[name] += frames
    if config.collisions.shapes:
        rows["layers"] += [by_shapes(), by_weights(config)]
    return {
        name: len(tables.write(name, tables.stacked(name, frames), config.results / f"{name}.parquet"))
        for name, frames in rows.items()
    }


def one_set(config: Config, settings: Collisions) -> dict[str, list[pd.DataFrame]]:
    """The rows of one set of images: of its networks, of the small ones, and of both under each other's collisions."""
    every = cache.load(config, settings.dataset)
    data = every.rows(compute.declared(every.ids, settings.n_images))
    shape = data.images.shape[1:]
    other = targets_of(config.seed, data.ids, data.labels, every.ids, every.labels)
    x, t = (np.rint(255 * one.reshape(len(one), -1).astype(float)) / 255 for one in (data.images, every.images[other]))
    networks, tasks = trained(config, settings)
    ranks, found = [], []
    made_of: dict[str, tuple[Floats, Flags]] = {}
    known: list[tuple[Floats, tuple[Floats, Flags], Floats]] = []
    about = {"sample_id": data.ids, "target_id": every.ids[other]}
    for model, plain in progress.bar(networks.items(), f"collisions {settings.dataset}"):
        network = in_double(plain)
        of = layers.of(network)
        shapes = layers.shapes(network, torch.from_numpy(data.images[:1]).double())
        name = next(iter(shapes))
        first = partial(at_layer, network, name)
        whole = nullity.measure_map(first, shape)
        measured = {one: nullity.measure(of[one], at) for one, at in shapes.items()}
        ranks.append(
            pd.DataFrame([{"model": model, "layer": one, **vars(m)} for one, m in ({PIXELS: whole} | measured).items()])
        )
        noise = compute.rng(config.seed, "noise", model).standard_normal(x.shape)

        def add(
            kind: str, layer: str, made: Floats, moved: Flags, error: Floats, m: str = model,
            both: tuple[nn.Module, nn.Module] = (network, plain), noise: Floats = noise,
        ) -> None:  # fmt: skip
            ids = [f"{m}/{kind}/{sample_id}" for sample_id in data.ids]
            judged_, logits = judged(*both, (x, made, noised(x, made, noise), t), shape)
            pictures = [of_image(one.reshape(shape)) if k < settings.pictures else None for k, one in enumerate(made)]
            sizes = {"l2": np.linalg.norm(made - x, axis=1), "linf": np.abs(made - x).max(axis=1)}
            said = [logits[:, k].tobytes() if k < settings.pictures else None for k in range(len(made))]
            more = {"moved": moved, "feature_error": error, "picture": pictures, "logits": said}
            found.append(
                pd.DataFrame(
                    {"collision_id": ids, "model": m, "layer": layer, "kind": kind, **about, **sizes, **more, **judged_}
                )
            )

        if whole.method == "lanczos" or (whole.nullity and whole.n_in * whole.n_out > LARGEST):
            raise BenchError(
                f"are too large for exact collisions: {whole.n_in:,} values, of which {whole.n_out:,} are made.",
                where=f"images of {settings.dataset}",
                remedy="Name a set of smaller images; published weights are measured without one.",
            )
        if whole.nullity:
            matrix = nullspace.operator(first, shape)
            same = next((one for one in known if _sees(matrix, one[0], whole.rank)), None)
            if same is None:
                parts = nullspace.blocks(matrix)
                span, of_kernel = nullspace.span_of(parts), nullspace.collide(x, t, parts, settings.iterations)
                same = span, of_kernel, nullspace.on_grid(of_kernel[0], x, span.T)
                known.append(same)
            _, (made, moved), whole_steps = same
            made_of[model] = made, moved
            add("exact", name, made, moved, np.abs((made - x) @ matrix.T).max(axis=1))
            alone(model, name, found[-1])
            changed = np.abs(whole_steps - x).max(axis=1) > nullspace.MOVED
            add("integer", name, whole_steps, changed, np.abs((whole_steps - x) @ matrix.T).max(axis=1))
        if model in settings.models:
            last = list(shapes)[-1]
            near, error = optimised(network, last, x, t, shape, settings.iterations)
            add("optimised", last, near, np.abs(near - x).max(axis=1) > nullspace.MOVED, error)
    checks = []
    for model, (made, moved) in made_of.items():
        noise = noised(x, made, compute.rng(config.seed, "noise", model).standard_normal(x.shape))
        judges = {(judge, "classify"): network for judge, network in networks.items()}
        own = {(model, task): network for (stem, task), network in tasks.items() if stem == model}
        for (judge, task), network in (judges | own).items():
            score, same, null, gap = compared(network, task, (x, made, noise), moved, shape, data.labels)
            n, k = int(moved.sum()), int(same.sum())
            if not n:
                continue  # nothing to judge
            low, high = stats.wilson(k, n, config.statistics.confidence)
            row = {"model": model, "judge": judge, "task": task, "score": score, "n": n, "n_same": k, "same": k / n}
            row |= {"same_low": float(low), "same_high": float(high), "n_null": int(null.sum()), "gap": gap}
            checks.append(pd.DataFrame([row]))
    return {"layers": ranks, "collisions": found, "collision_checks": checks}


def trained(config: Config, settings: Collisions) -> tuple[dict[str, nn.Module], dict[tuple[str, str], nn.Module]]:
    """Networks by name, those of the set and the small ones, trained here; and those of more tasks on a stem."""
    from bench.models import zoo

    networks: dict[str, nn.Module] = {model: zoo.load(config, model) for model in settings.models}
    tasks: dict[tuple[str, str], nn.Module] = {}
    if settings.stems:
        train = cache.load(config, settings.dataset, "train")
        n_classes = int(train.labels.max()) + 1
        for stem in settings.stems:
            for seed in range(settings.seeds):
                own = compute.rng(config.seed, "stem", stem, str(seed)).integers(2**31)
                name = f"stem-{stem}-{seed}"
                net = stems.classifier(stem, train.images, train.labels, n_classes, settings.epochs, int(own))
                networks[name] = net
                if stem == settings.tasks_on and not seed:
                    for task in stems.TASKS[1:]:
                        tasks[name, task] = stems.on_stem(net.stem, task, train.images, settings.epochs, int(own))
    return networks, tasks


def by_shapes() -> pd.DataFrame:
    """Rows of table `layers` of the first layers of published architectures, by their shapes alone."""
    from bench.studies import shapes

    found = {name: shapes.first(name) for name in progress.bar(shapes.ARCHITECTURES, "shapes")}
    return pd.DataFrame([{"model": f"timm:{name}", "layer": at, **vars(m)} for name, (at, m) in found.items()])


def by_weights(config: Config) -> pd.DataFrame:
    """Rows of table `layers` of the first layer of each model with published weights, by these: beside the bounds that
    shapes give. Its input is what the network makes of an image of its own size."""
    from bench.models import zoo

    rows = []
    for model, about in config.models.items():
        if about.weights is None and not about.pretrained:
            continue
        network = in_double(zoo.load(config, model))
        assert isinstance(network, Network)
        image = torch.zeros(1, network.channels, network.input_size, network.input_size, dtype=torch.float64)
        name, shape = layers.first(network, image)
        rows.append({"model": model, "layer": name, **vars(nullity.measure(layers.of(network)[name], shape))})
    return pd.DataFrame(rows)


def alone(model: str, layer: str, rows: pd.DataFrame) -> None:
    """BenchError where exact collisions of a layer change what a network says: then the image also goes by it."""
    if (apart := float(rows["logit_gap_f64"].to_numpy().max())) > ALONE:
        raise BenchError(
            f"its logits change by {apart:.2g} though `{layer}` gives the same: it sees the image by another way too.",
            where=f"model {model}",
            remedy="Leave it out of `collisions`: only networks with one first layer are supported.",
        )


def _sees(matrix: Floats, span: Floats, rank: int) -> bool:
    """Whether the rows of a matrix (m, n) of this rank span the same space as an orthonormal basis (n, rank)."""
    beside = np.abs(matrix - (matrix @ span) @ span.T).max(initial=0)
    return span.shape[1] == rank and bool(beside < 1e-9 * np.abs(matrix).max(initial=0))


def noised(x: Floats, made: Floats, noise: Floats) -> Floats:
    """Images (N, n) in [0, 1] that noise moved as far from x, by L2, as `made` is: what chance would do. How long noise
    must be for that before it is cut to the box is found by halving; 0 where an image was not moved."""
    wanted = np.linalg.norm(made - x, axis=1, keepdims=True)
    unit = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    low, high = np.zeros_like(wanted), LONGEST * np.maximum(wanted, 1e-12)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        short = np.linalg.norm(np.clip(x + middle * unit, 0, 1) - x, axis=1, keepdims=True) < wanted
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return np.clip(x + low * unit, 0, 1)


def optimised(
    network: nn.Module, layer: str, x: Floats, target: Floats, shape: tuple[int, ...], iterations: int
) -> tuple[Floats, Floats]:
    """Images (N, n) moved towards `target` that `layer`, whatever lies before it, gives nearly the same for; and the
    largest difference of what it gives (N,).

    Adam on both distances, each over what it is between x and the target, that of the layer 100 times as heavy; for the
    last third on that of the layer alone. Every step is cut to [0, 1].
    """
    with torch.no_grad():
        wanted, far = (
            at_layer(network, layer, torch.from_numpy(one.reshape(-1, *shape))).flatten(1) for one in (x, target)
        )
        scale = (far - wanted).square().sum(1).clamp_min(1e-12)
    goal = torch.from_numpy(target)
    way = (goal - torch.from_numpy(x)).square().sum(1).clamp_min(1e-12)
    y = torch.from_numpy(x).clone().requires_grad_()
    adam = torch.optim.Adam([y], lr=0.02)
    for k in range(iterations):
        gap = (at_layer(network, layer, y.reshape(-1, *shape)).flatten(1) - wanted).square().sum(1) / scale
        near = (y - goal).square().sum(1) / way
        late = 3 * k >= 2 * iterations
        for group in adam.param_groups:
            group["lr"] = 0.02 * (1 - k / iterations)
        loss = (gap if late else 100 * gap + near).sum()
        (y.grad,) = torch.autograd.grad(loss, y)
        adam.step()
        with torch.no_grad():
            y.clamp_(0, 1)
    with torch.no_grad():
        error = at_layer(network, layer, y.reshape(-1, *shape)).flatten(1) - wanted
    return y.detach().numpy(), error.abs().amax(1).numpy()


def compared(
    network: nn.Module,
    task: str,
    images: tuple[Floats, Floats, Floats],
    moved: Flags,
    shape: tuple[int, ...],
    labels: npt.NDArray[np.int64],
) -> tuple[float, Flags, Flags, float]:
    """How good a network is on images (N, n), of which it answers the same to the image made and to that with noise
    (moved ones alone), and the largest change of an output from the image to that made."""
    double = in_double(network)
    with torch.inference_mode():
        outputs = [double(torch.from_numpy(one.reshape(-1, *shape))).numpy() for one in images]
    first, second, third = (stems.said(task, one, shape[-1]) for one in outputs)
    if task == "classify":
        score = float((first[:, 0] == labels).mean())
    else:
        truth = stems.wanted(task, images[0].reshape(-1, *shape).astype(np.float32))
        score = stems.overlap(task, outputs[0], truth)
    same, null = ((first == one).all(axis=1)[moved] for one in (second, third))
    return score, same, null, float(np.abs(outputs[1] - outputs[0])[moved].max(initial=0))


def targets_of(seed: int, ids: np.ndarray, labels: np.ndarray, among: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """For each image (N,) the index of one of another class among others (M,), drawn by its id."""
    return np.array(
        [
            compute.rng(seed, "collision", sample_id).choice(np.flatnonzero(classes != label))
            for sample_id, label in zip(ids, labels, strict=True)
        ]
    )


def judged(
    network: nn.Module, plain: nn.Module, images: tuple[Floats, Floats, Floats, Floats], shape: tuple[int, ...]
) -> tuple[dict[str, np.ndarray], Floats]:
    """What a network, in float64 and `plain`ly, says of images (N, n), of those made of them, of those with noise and
    of the targets: columns of table `collisions`, and the logits (3, N, K) of the images, the made and the targets."""
    x, made, noise, target = images

    def logits(net: nn.Module, images: Floats, kind: torch.dtype) -> np.ndarray:
        with torch.inference_mode():
            return net(torch.from_numpy(images.reshape(-1, *shape)).to(kind)).double().numpy()

    clean, other, random, wanted = (logits(network, one, torch.float64) for one in (x, made, noise, target))
    rounded = logits(network, np.rint(255 * made) / 255, torch.float64)
    single = logits(plain, made, torch.float32) - logits(plain, x, torch.float32)
    found = {
        "logit_gap_f64": np.abs(other - clean).max(axis=1),
        "logit_gap_f32": np.abs(single).max(axis=1),
        "logit_gap_u8": np.abs(rounded - clean).max(axis=1),
        "same_top1": clean.argmax(axis=1) == other.argmax(axis=1),
        "null_gap": np.abs(random - clean).max(axis=1),
        "null_same": clean.argmax(axis=1) == random.argmax(axis=1),
    }
    return found, np.stack([clean, other, wanted])
