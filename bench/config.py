"""params.yaml -> one frozen, validated object. An unknown key is an error that names the nearest known one.

This module imports neither torch nor pandas, so that every command starts fast.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.errors import BenchError

Role = Literal["original", "replication", "shifted", "composite", "control"]
Family = Literal["supervised", "ssl", "random", "pixels"]
Method = Literal[
    "supervised",
    "simclr",
    "moco",
    "nnclr",
    "dcl",
    "swav",
    "byol",
    "simsiam",
    "dino",
    "vicreg",
    "barlow",
    "mae",
    "simmim",
    "ijepa",
    "random",
    "pixels",
]
ARCHS = (
    "cnn",
    "resnet",
    "vit",
    "mixer",
    "pixels",
    "resnet10",
    "squeezenet",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
)
TIMM = re.compile(
    r"timm:(?P<name>[A-Za-z0-9_.-]+)|(?P<hub>hf[-_]hub:[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+(@[A-Za-z0-9_.-]+)?)"
)
"""A model of timm: by its name there, or by its id at the hub (with a revision, if given)."""


def _known_arch(arch: str) -> str:
    if arch not in ARCHS and TIMM.fullmatch(arch) is None:
        raise ValueError(
            f"is no architecture{_nearest(arch, list(ARCHS))}: use one of {', '.join(ARCHS)}, or `timm:NAME`, or "
            "`hf-hub:ORG/NAME`"
        )
    return arch


Arch = Annotated[str, AfterValidator(_known_arch)]
Device = Literal["cpu", "cuda", "auto"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$", max_length=120)]
"""A model whose predictions were made elsewhere keeps its published name, e.g. `org/resnet50.a1_in1k`."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]

SSL_FAMILY: dict[str, str] = {
    "simclr": "contrastive",
    "moco": "contrastive",
    "nnclr": "contrastive",
    "dcl": "contrastive",
    "swav": "clustering",
    "byol": "distillation",
    "simsiam": "distillation",
    "dino": "distillation",
    "vicreg": "information_maximisation",
    "barlow": "information_maximisation",
    "mae": "masked_image_modelling",
    "simmim": "masked_image_modelling",
    "ijepa": "masked_image_modelling",
}
"""Method -> family of the survey "Know Your Self-supervised Learning" (TMLR 2023), in the terms of its abstract."""
MASKED = tuple(method for method, family in SSL_FAMILY.items() if family == "masked_image_modelling")
"""Methods that see an image once, unchanged but for what is hidden of it; their encoders are vision transformers."""


RESERVED = {"self": "each model itself", "pool": "all other models", "none": "no model"}
"""Words of table `replication` (column `uncertainty_of`)."""


class Frozen(BaseModel):
    """Base of every section: immutable, and no key that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Compute(Frozen):
    """Where and how computation runs. `batch_size` is the one fixed batch of every forward pass."""

    threads: Positive = 2
    device: Device = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    batch_size: Positive = 256


class ImportedLabels(Frozen):
    """A label source that was made elsewhere: the sha256 of its file, and in words how the labels were made."""

    sha256: Sha256
    process: str = ""


class ImportedVotes(Frozen):
    """Votes that were cast elsewhere: the sha256 of their file, how they were cast in words, and by whom.

    `pooled`: only counts are known, nobody's single votes.
    """

    sha256: Sha256
    process: str = ""
    kind: Literal["human", "machine", "simulated"] = "human"
    pooled: bool = False


class NoisyLabels(Frozen):
    """Labels of the training images of a dataset, wrong ones among them, on which heads are fitted besides: what
    fetches them, the sha256 of their file, and in words how they came about."""

    dataset: Name
    fetched: Name
    sha256: Sha256
    process: str = ""


class Dataset(Frozen):
    """How a folder `data/<name>/`, or of a preset `fetched/<preset>/<name>/`, takes part in the benchmark.

    `sha256` pins what was fetched (bench/data/fetch.py), `images` the pictures that were attached to a set that comes
    without, `labels` the imported label sources, `votes` the imported votes: stages depend on these, as on all of
    params.yaml, and check the files against them.
    """

    role: Role
    replicates: Name | None = None
    suite: Name = "digits"
    fetched: Name | None = None
    sha256: Sha256 | None = None
    images: Sha256 | None = None
    labels: dict[Name, ImportedLabels] = {}
    votes: dict[Name, ImportedVotes] = {}

    @model_validator(mode="after")
    def _names_its_original(self) -> Dataset:
        if self.role in ("replication", "shifted") and self.replicates is None:
            raise ValueError(f"role {self.role!r} needs `replicates: <the original dataset>`")
        return self

    @model_validator(mode="after")
    def _pins_what_is_fetched(self) -> Dataset:
        if (self.fetched is None) != (self.sha256 is None):
            raise ValueError("`fetched: <preset>` and the `sha256` of what it fetches go together")
        if self.images is not None and self.fetched is None:
            raise ValueError("`images` are attached to fetched sets only; others bring their own")
        return self


class Suite(Frozen):
    """Datasets that share a label space: one to train on, the others to evaluate on.

    Without `train`, no model is trained here: its models are imported, or supervised ones with published weights.
    `augmentation`: what its images bear while a network is trained on them (bench/models/augment.py).
    """

    train: Name | None = None
    input_size: Positive = 16
    channels: Literal[1, 3] = 1
    augmentation: Literal["digits", "photos"] = "digits"


class Weights(Frozen):
    """A checkpoint in place of training, as `zoo.save` writes it: its file (from the project's root) with its sha256,
    and in words where the weights come from and what to mind."""

    file: Annotated[str, Field(min_length=1)]
    sha256: Sha256
    origin: Annotated[str, Field(min_length=1)]


class Model(Frozen):
    """One model that runs here. What the names mean is in bench/models/zoo.py.

    With `weights`, or those that timm publishes for an arch of its own (`pretrained`), nothing is trained but the
    temperature and the heads on frozen features; not even those in a suite that names no dataset to train on. `seed`
    tells trainings of one kind apart. `images`: on how many it is trained at most, as many of each class. `mixed`: the
    encoder computes in bfloat16 while it is trained. `ema`: decay of the moving average of the weights that takes their
    place at the end (0: none). `stored`: type of the weights in the checkpoint.
    """

    family: Family
    method: Method
    arch: Arch
    suite: Name
    epochs: Annotated[int, Field(ge=0)] = 0
    batch_size: Positive = 128
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    seed: Annotated[int, Field(ge=0)] = 0
    images: Positive | None = None
    mixed: bool = False
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    stored: Literal["float32", "float16"] = "float32"
    options: dict[str, float | int | str | bool] = {}
    weights: Weights | None = None
    pretrained: bool = Field(default=False, exclude_if=lambda value: not value)

    @property
    def published(self) -> bool:
        """Whether its weights come from elsewhere."""
        return self.weights is not None or self.pretrained

    @model_validator(mode="after")
    def _method_fits_family(self) -> Model:
        fits = {"ssl": self.method in SSL_FAMILY}.get(self.family, self.method == self.family)
        if not fits:
            raise ValueError(f"method {self.method!r} does not belong to family {self.family!r}")
        if (self.family == "pixels") != (self.arch == "pixels"):
            raise ValueError("family `pixels` and arch `pixels` go together")
        if self.pretrained and (self.weights is not None or TIMM.fullmatch(self.arch) is None):
            raise ValueError("`pretrained` is for an arch `timm:NAME` or `hf-hub:ORG/NAME`, and in place of `weights`")
        if self.published and (self.epochs or self.options or self.family in ("random", "pixels")):
            said = "`pretrained`" if self.pretrained else "`weights`"
            raise ValueError(f"{said} take the place of training: they go with neither epochs nor options nor controls")
        if self.family in ("supervised", "ssl") and self.epochs == 0 and not self.published:
            raise ValueError(f"a {self.family} model needs `epochs` of at least 1")
        return self


def family_of(method: str | None) -> Literal["supervised", "ssl"] | None:
    """The family that a method tells, if it does."""
    return "ssl" if method in SSL_FAMILY else "supervised" if method == "supervised" else None


class Imported(Frozen):
    """A model whose predictions were made elsewhere. `datasets`: each with the sha256 of its file of predictions.

    The files are `data/imported/predictions/<dataset>/<model>.parquet`, or, where the model comes with a preset, under
    `fetched/<preset>/predictions/`. What is not known of a model stays `unknown`.
    """

    suite: Name
    datasets: Annotated[dict[Name, Sha256], Field(min_length=1)]
    origin: Annotated[str, Field(min_length=1)]
    family: Literal["supervised", "ssl", "unknown"] = "unknown"
    method: Name = "unknown"
    arch: ModelName = "unknown"
    fetched: Name | None = None

    @model_validator(mode="after")
    def _family_fits_method(self) -> Imported:
        family = family_of(self.method)
        if family not in (None, self.family):
            raise ValueError(f"method {self.method!r} does not belong to family {self.family!r}, but to {family!r}")
        return self


class Finetuning(Frozen):
    """All weights trained with few labels, from an encoder that was trained without any, or not at all.

    AdamW, a warm-up and a cosine, as in supervised training; for each of `labels_per_class`, once for each of `seeds`.
    """

    labels_per_class: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1)]
    epochs: Positive = 20
    batch_size: Positive = 64
    lr: Annotated[float, Field(gt=0)] = 1e-3
    seeds: Annotated[list[int], Field(min_length=1)] = [0]


class Probes(Frozen):
    """Heads on frozen features (STUDIES.md 2b). The regularisation is chosen by cross-validation on train.

    `choose_on`: how many images of train it is chosen on at most, as many of each class; the head is fitted on all.
    `label_noise`: shares of the labels, simulated as wrong, with which heads are fitted besides. `finetuning`: null
    where no encoder is trained on.
    """

    c_grid: list[Annotated[float, Field(gt=0)]] = [0.01, 0.1, 1.0, 10.0]
    folds: Annotated[int, Field(ge=2)] = 3
    choose_on: Annotated[int, Field(ge=100)] = 10_000
    labels_per_class: list[Annotated[int, Field(ge=2)]] = [10]
    seeds: list[int] = [0, 1, 2]
    knn_k: list[Positive] = [20]
    knn_temperature: Annotated[float, Field(gt=0)] = 0.1
    label_noise: list[Annotated[float, Field(gt=0, lt=1)]] = []
    finetuning: Finetuning | None = None


class Training(Frozen):
    """Shared by every model: threads of the stage, the split of train that fits temperatures, and the heads."""

    threads: Positive = 1
    validation_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    probes: Probes = Probes()


class Corruptions(Frozen):
    """Corruptions of the original sets: each name at each severity, seeded by sample id.

    `reference`: the network whose errors corruption errors are relative to; null: none are computed.
    """

    datasets: list[Name] = []
    names: list[Name] = []
    severities: list[Annotated[int, Field(ge=1, le=5)]] = [1, 3, 5]
    reference: Name | None = None


class Corrupted(Frozen):
    """How one set is corrupted: each name at each severity, of `n_images` test images (null: all), the first in the
    order of the sha256 of their ids. `reference` as in `Corruptions`."""

    names: list[Name] = []
    severities: list[Annotated[int, Field(ge=1, le=5)]] = [1, 2, 3, 4, 5]
    n_images: Positive | None = None
    reference: Name | None = None


class Uncertainty(Frozen):
    """Ensembles whose mutual information is stored, and the calibration bins."""

    ensembles: dict[Name, list[Name]] = {}
    ece_bins: Positive = 15


class Attack(Frozen):
    """One attack on the declared subset: the first `n_images` test images in the order of the sha256 of their ids.

    `kind` as in bench/attacks/kinds.py; `eps_255` in its norm, in 1/255 of the range of a pixel, over all channels;
    of `pgd-l0` in 1/255 of the positions.
    `squares`: queries of the Square attack that checks one that follows gradients (0: none).
    `stop`: never (all steps are taken), at the first success on the network that is followed, or for each other network
    at the first transfer to it, from the clean image on; the last asks that network after each step.
    `target`: the class that each image is led to, drawn by its id or the runner-up of its clean logits of the network
    that is followed; without it, images are led away from their labels.
    `dtype: bfloat16`, for LOWERED without `target` and `stop: transfer`: the network that is followed computes in it at
    strengths at which as many images of the first batch stay right, in float32, as when they are made in float32; tried
    where there are more than two batches.
    Without `source` each model of the pool is attacked with its own gradient; with it, all are shown the images that
    were made on that model (a transfer attack).
    """

    kind: Literal[
        "fgsm", "pgd-linf", "pgd-l2", "pgd-l0", "mi-fgsm", "apgd-ce", "apgd-dlr", "square", "deepfool", "cw-l2", "lbfgs"
    ] = "pgd-linf"
    dataset: Name = "digits"
    source: Name | None = None
    eps_255: list[Annotated[float, Field(gt=0)]] = [4, 8, 16]
    steps: Positive = 20
    relative_step: Fraction = 0.1
    n_images: Positive = 200
    squares: Annotated[int, Field(ge=0)] = Field(default=100, exclude_if=lambda value: value == 100)
    stop: Literal["never", "success", "transfer"] = Field(default="never", exclude_if=lambda value: value == "never")
    dtype: Literal["float32", "bfloat16"] = Field(default="float32", exclude_if=lambda value: value == "float32")

    @model_validator(mode="after")
    def _may_stop(self) -> Attack:
        fits = {"success": ("pgd-linf", "pgd-l2", "pgd-l0", "mi-fgsm"), "transfer": ("pgd-linf",)}
        if self.kind not in fits.get(self.stop, (self.kind,)):
            raise ValueError(f"stop: {self.stop} is for {', '.join(fits[self.stop])}")
        if self.dtype != "float32" and (self.kind not in LOWERED or self.stop == "transfer" or self.target):
            raise ValueError(f"dtype: {self.dtype} is for {', '.join(LOWERED)}, without `target` and `stop: transfer`")
        if self.kind == "pgd-l0" and max(self.eps_255) > 255:
            raise ValueError("eps_255: pgd-l0 may change all positions (255), and no more")
        if self.kind == "cw-l2" and self.steps < 2:
            raise ValueError("steps: cw-l2 asks before each step, so one step finds nothing")
        if len({f"{eps:g}" for eps in self.eps_255}) < len(self.eps_255):
            raise ValueError("eps_255: a value is named twice")
        if self.stop != "never" and self.target is not None:
            raise ValueError(f"stop: {self.stop} is for attacks without a target")
        return self

    target: Literal["drawn", "runner-up"] | None = Field(default=None, exclude_if=lambda value: value is None)

    @model_validator(mode="after")
    def _targets(self) -> Attack:
        if self.target is not None and self.kind in UNTARGETED:
            raise ValueError(f"target: {self.kind} leads away from a label, not to a class")
        if self.target is None and self.kind == "lbfgs":
            raise ValueError("target: lbfgs leads to a class: say which, `drawn` or `runner-up`")
        return self


LOWERED = ("fgsm", "pgd-linf", "pgd-l2", "pgd-l0", "mi-fgsm")
"""Kinds of attacks that take no more than the gradient from the network, and so may follow it in bfloat16."""
UNTARGETED = ("apgd-ce", "apgd-dlr", "square", "deepfool")
"""Kinds of attacks that lead to no class (bench/attacks/kinds.py)."""


class Evaluation(Frozen):
    """By what the models of one suite are evaluated: probes and corruptions of its original set, and how many images
    of each set its maps hold, in place of those of all suites; attacks beside those of `attacks.runs`."""

    probes: Probes | None = None
    corruptions: Corrupted | None = None
    attacks: dict[Name, Attack] = {}
    map_images: Positive | None = Field(default=None, exclude_if=lambda value: value is None)


class Attacks(Frozen):
    """What is attacked. `pool`: empty means every supervised and ssl model of the attacked dataset's suite. `kept`: of
    how many images of each dataset the pictures are stored that attacks make of them."""

    pool: list[Name] = []
    kept: Annotated[int, Field(ge=0)] = Field(default=0, exclude_if=lambda value: value == 0)
    runs: dict[Name, Attack] = {}


class Objectives(Frozen):
    """Study 9 on one dataset: its models move those of the first `n_images` test images that they get right to another
    class, in at most `iterations` steps of each length `step_l2` (units of [0, 1], over all channels). Where it was
    drawn by id, the first `kappa_images` go on, until its logit is the largest of `kappas` ahead (what 0 needs is told
    of all). The first `lbfgs_images` are moved by L-BFGS, too."""

    dataset: Name
    models: Annotated[list[Name], Field(min_length=1)]
    n_images: Positive = 100
    iterations: Positive = 300
    step_l2: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)] = [0.1]
    kappas: list[Annotated[float, Field(ge=0)]] = [20]
    kappa_images: Positive = 50
    lbfgs_images: Annotated[int, Field(ge=0)] = 30


class ObjectiveRuns(Frozen):
    """Study 9 (bench/studies/objectives.py)."""

    runs: dict[Name, Objectives] = {}


class Regional(Frozen):
    """Study 8 on one dataset: each of `models` attacks the first `n_images` test images that all of them get right, in
    steps of `step_255` in at most `iterations`, on the whole image and on each region (bench/attacks/masks.py).

    `fixed`: steps after which targets are asked without being asked before. `drawn`: regions by name as rows of signs,
    `.` where the image stays.
    """

    dataset: Name
    models: Annotated[list[Name], Field(min_length=2)]
    n_images: Positive = 100
    iterations: Positive = 120
    fixed: Positive = 30
    step_255: Annotated[float, Field(gt=0)] = 1.0
    regions: list[str] = []
    drawn: dict[Name, Annotated[list[str], Field(min_length=1)]] = {}

    @model_validator(mode="after")
    def _known(self) -> Regional:
        from bench.attacks.masks import FULL, KINDS, NAMED

        for region in self.regions:
            match = NAMED.fullmatch(region)
            if match is None or int(match[2]) > KINDS[match[1]]:
                raise ValueError(f"regions: {region!r} is none; say centre-90, corner-120, frame-17 or random-28")
        if len(set(self.models)) < len(self.models):
            raise ValueError("models: one is named twice")
        for name, rows in self.drawn.items():
            if len({len(row) for row in rows}) > 1 or not rows[0]:
                raise ValueError(f"drawn.{name}: rows are of one length")
            if not set("".join(rows)) - {"."}:
                raise ValueError(f"drawn.{name}: no position may change")
            if name.split("-")[0] in (*KINDS, FULL):
                raise ValueError(f"drawn.{name}: regions of another kind have such names")
        if self.fixed > self.iterations:
            raise ValueError("fixed: more than iterations")
        return self


class RegionalRuns(Frozen):
    """Study 8 (bench/studies/regional.py)."""

    runs: dict[Name, Regional] = {}


class Segmentation(Frozen):
    """Study 10 on one set of images with masks: `composed_of` the digits of a dataset, or `fetched` by a preset, whose
    masks.parquet has the hash `sha256`.

    A U-Net of `widths` channels is trained for `epochs` on images of `size` pixels a side (of a composed set `n_train`
    of them), `varied` in orientation and light. Then `n_pairs` of the test images (of a composed set `n_test`) are
    attacked for `iterations` steps, `attack_batch` of them at once, each with the mask of another one as target. tau
    makes the first step `step_l2` long (units of [0, 1]); `beta` is in units of tau. Each `every`-th iteration is
    recorded, an IoU of `reached` counts as success, and the pixels of `shown` pairs are kept.
    """

    composed_of: Name | None = None
    fetched: Name | None = None
    sha256: Sha256 | None = None
    size: Annotated[int, Field(ge=8, le=1024)] = 32
    widths: Annotated[list[Positive], Field(min_length=2, max_length=6)] = [8, 16, 32]
    epochs: Positive = 10
    batch_size: Positive = 32
    lr: Annotated[float, Field(gt=0)] = 4e-3
    varied: bool = False
    n_train: Positive = 600
    n_test: Annotated[int, Field(ge=2)] = 100
    n_pairs: Annotated[int, Field(ge=2)] = 50
    attack_batch: Positive = 50
    iterations: Positive = 300
    every: Positive = 10
    step_l2: Annotated[float, Field(gt=0)] = 5e-3
    beta: Annotated[float, Field(ge=0)] = 10.0
    reached: Fraction = 0.9
    shown: Positive = 4

    @model_validator(mode="after")
    def _one_origin(self) -> Segmentation:
        if (self.composed_of is None) == (self.fetched is None):
            raise ValueError("name one of `composed_of` and `fetched`")
        if self.size % 2 ** (len(self.widths) - 1):
            raise ValueError(
                f"`size` must be a multiple of {2 ** (len(self.widths) - 1)}, for {len(self.widths)} widths"
            )
        return self


Pinned = Dataset | NoisyLabels | Segmentation
"""What has `fetched` and `sha256`."""


class Detection(Frozen):
    """Detection and retraining on one dataset: of the first `n_train` train and `n_images` test images those that a
    network gets right are moved `steps` steps towards a class drawn by id, to a distance of `eps_l2` (units of [0, 1],
    over all channels); detectors and retrained networks see theirs `epochs` times, under each of `seeds` seeds."""

    dataset: Name
    models: Annotated[list[Name], Field(min_length=1)]
    n_train: Annotated[int, Field(ge=4)] = 384
    n_images: Annotated[int, Field(ge=4)] = 256
    eps_l2: Annotated[float, Field(gt=0)] = 2.5
    steps: Positive = 30
    epochs: Positive = 8
    seeds: Annotated[int, Field(ge=3)] = 3


class DetectionRuns(Frozen):
    """The second half of study 9 (bench/studies/detection.py)."""

    runs: dict[Name, Detection] = {}


class Collisions(Frozen):
    """Study 4 on one dataset: its first `n_images` test images, each moved towards one of another class without any
    change to what `models` see of it, in `iterations`. The same for small networks with `stems`, trained here for
    `epochs` under `seeds` seeds each (bench/studies/stems.py); on the frozen stem `tasks_on` other tasks are learnt.
    `pictures`: of how many images the one made is stored."""

    dataset: Name
    models: Annotated[list[Name], Field(min_length=1)]
    n_images: Positive = 30
    iterations: Positive = 200
    stems: list[str] = []
    seeds: Positive = 2
    epochs: Positive = 5
    tasks_on: str | None = None
    pictures: Positive = 20

    @model_validator(mode="after")
    def _of_stems(self) -> Collisions:
        if self.tasks_on is not None and self.tasks_on not in self.stems:
            raise ValueError(f"tasks_on: {self.tasks_on!r} is not among the stems")
        return self


class CollisionRuns(Frozen):
    """Study 4 (bench/studies/collisions.py)."""

    runs: dict[Name, Collisions] = {}
    shapes: bool = False
    """Whether published architectures are listed by their shapes (bench/studies/shapes.py)."""


class Radar(Frozen):
    """Study 7: an FMCW radar and the simulated people before it (bench/data/radar.py). `noise` is the standard
    deviation of a sample, where a scatterer of amplitude 1 is 0 dB in a map; a map ends at `floor_db`.

    Networks are trained on `trained` subjects of group A and as many of group B, for `epochs` at rate `lr`; the others
    are test, of whom `n_sequences` are attacked in `iterations` sign steps of 1/255. `recorded`: a folder of recorded
    sequences in the place of simulated ones, pinned by `sha256` (bench/data/radar.py: `digest`); `shown`: sequences
    whose frames are kept for the page.
    """

    carrier_ghz: Annotated[float, Field(gt=0)] = 77
    bandwidth_ghz: Annotated[float, Field(gt=0)] = 4
    samples: Annotated[int, Field(ge=8)] = 32
    chirps: Annotated[int, Field(ge=8)] = 32
    chirp_us: Annotated[float, Field(gt=0)] = 250
    frame_ms: Annotated[float, Field(gt=0)] = 40
    frames: Positive = 32
    min_frames: Positive = 16
    max_frames: Positive = 28
    noise: Annotated[float, Field(ge=0)] = 0.05
    floor_db: Annotated[float, Field(lt=0)] = -60
    subjects: Annotated[int, Field(ge=3)] = 10
    repeats: Positive = 12
    recorded: str | None = None
    sha256: Sha256 | None = None
    trained: Positive = 3
    epochs: Positive = 12
    lr: dict[Literal["cnn3d", "cnnlstm"], Annotated[float, Field(gt=0)]] = {"cnn3d": 4e-3, "cnnlstm": 1e-2}
    n_sequences: Positive = 36
    iterations: Positive = 25
    shown: Positive = 2

    @model_validator(mode="after")
    def _lengths(self) -> Radar:
        if not self.min_frames <= self.max_frames <= self.frames:
            raise ValueError("`min_frames` <= `max_frames` <= `frames` must hold")
        if self.frame_ms * 1000 < self.chirps * self.chirp_us:
            raise ValueError("`frame_ms` is shorter than the chirps of a frame")
        return self


class Subsets(Frozen):
    """Sets of test images that metrics are also computed on; `all` and `suitable` exist without being named."""

    certain_fraction: list[Fraction] = [0.5]
    uncertainty: Literal["msp", "entropy_nats", "margin", "energy"] = "entropy_nats"
    reference_model: Name | None = None


class Protocol(Frozen):
    """Study 3: the coverages and measures of uncertainty whose rows are stored (bench/evaluate/protocol.py).

    `references`: models and ensembles by whose first measure images are chosen too; empty means every ensemble. `bins`
    of uncertainty hold equally many images of the original; `pool_share` is the share of the other models that must be
    certain, or agree, under rule R4.
    """

    coverages: Annotated[list[Fraction], AfterValidator(lambda shares: sorted(set(shares)))] = [0.5, 0.6, 0.7, 0.8, 0.9]
    measures: Annotated[list[Literal["msp", "entropy_nats", "margin", "energy"]], Field(min_length=1)] = [
        "entropy_nats",
        "msp",
        "margin",
    ]
    references: list[ModelName] = []
    bins: Annotated[int, Field(ge=2, le=1000)] = 20
    pool_share: Fraction = 0.9


class Proposals(Frozen):
    """Ranked labels per image from an ensemble; the original label is always among them.

    `recall`: the share of known labels that proposals must hold for an ensemble to be suggested.
    """

    ensemble: Name | None = None
    datasets: list[Name] = []
    top_k: Positive = 5
    recall: Fraction = 0.97


Order = Literal["quality", "disagreement", "uncertainty", "labels", "random"]


class Annotations(Frozen):
    """How people annotate (study 1). None of this changes a result.

    `url`: a database of SQLAlchemy, where votes are kept until they are committed; empty: SQLite in
    `.annotations/votes.sqlite`. `overlap`: annotators that an image needs. `order`: what is annotated next. `examples`:
    example images of each class, the same for all. `shuffle`: labels of one page in random order, which is stored.
    """

    url: str = ""
    overlap: Positive = 2
    order: Order = "quality"
    examples: Annotated[int, Field(ge=0, le=10)] = 5
    shuffle: bool = False


class Consensus(Frozen):
    """How votes become labels (bench/relabel/consensus.py).

    `unsure`: what an "unsure" counts as, between no (0) and yes (1); null: as no vote. `smoothing` and `per_label` are
    of the rule dawid_skene: what is added to each count of an annotator's rates, and whether each class has its own.
    `machines`: models whose answer counts as a vote: yes for their class, no for the others that were shown.
    """

    rule: Literal["union", "intersection", "majority", "dawid_skene"] = "majority"
    unsure: Annotated[float, Field(ge=0, le=1)] | None = None
    smoothing: Annotated[float, Field(ge=0)] = 1.0
    per_label: bool = False
    machines: list[ModelName] = []


class Neighbours(Frozen):
    """Nearest test images in the feature space of one encoder (cosine)."""

    model: Name | None = None
    k: Positive = 6


class Maps(Frozen):
    """A map of images for each encoder (bench/evaluate/maps.py).

    `n_images`: of each dataset at most, the first in the order of the sha256 of their ids. `n_neighbors`, `min_dist`
    and `epochs` are UMAP's (an image counts as its own first neighbour); `k` nearest images of each are stored.
    """

    n_images: Positive = 150
    n_neighbors: Annotated[int, Field(ge=2)] = 15
    min_dist: Annotated[float, Field(ge=0, le=1)] = 0.1
    epochs: Positive = 200
    k: Positive = 5


class Statistics(Frozen):
    """Intervals and tests (STUDIES.md E)."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    bootstrap: Positive = 1000
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05


class Release(Frozen):
    """Limits of `bench snapshot publish`: its outputs are kept in the repository, and so are aggregates alone, the rows
    of single images that may go with them, and checkpoints."""

    max_mb: Positive = 8
    max_aggregates_mb: Positive = 4
    max_single_images_mb: Positive = 12
    max_checkpoints_mb: Positive = 25


class Config(Frozen):
    """The whole of params.yaml, plus `root`: the folder that holds it, to which every path is relative."""

    root: Path
    seed: int
    compute: Compute = Compute()
    suites: dict[Name, Suite]
    datasets: dict[Name, Dataset]
    training: Training = Training()
    models: dict[Name, Model]
    imported: dict[ModelName, Imported] = {}
    corruptions: Corruptions = Corruptions()
    uncertainty: Uncertainty = Uncertainty()
    attacks: Attacks = Attacks()
    objectives: ObjectiveRuns = ObjectiveRuns()
    regional: RegionalRuns = RegionalRuns()
    detection: DetectionRuns = DetectionRuns()
    segmentation: dict[Name, Segmentation] = {}
    collisions: CollisionRuns = CollisionRuns()
    radar: Radar = Radar()
    evaluations: dict[Name, Evaluation] = {}
    noisy_labels: dict[Name, NoisyLabels] = {}
    subsets: Subsets = Subsets()
    protocol: Protocol = Protocol()
    proposals: Proposals = Proposals()
    annotations: Annotations = Annotations()
    consensus: Consensus = Consensus()
    neighbours: Neighbours = Neighbours()
    maps: Maps = Maps()
    statistics: Statistics = Statistics()
    release: Release = Release()

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def fetched(self) -> Path:
        return self.root / "fetched"

    @property
    def pinned(self) -> dict[str, Pinned]:
        """All that may be fetched by a preset and is then pinned, by its name."""
        return {**self.datasets, **self.noisy_labels, **self.segmentation}

    def folder(self, dataset: str) -> Path:
        """The folder of a dataset: data/<name>, or fetched/<preset>/<name>."""
        preset = self.dataset(dataset).fetched
        return self.data / dataset if preset is None else self.fetched / preset / dataset

    def imported_predictions(self, model: str, dataset: str) -> Path:
        """The file with what an imported model answers to a dataset."""
        preset = self.imported[model].fetched
        base = self.data / "imported" if preset is None else self.fetched / preset
        return base / "predictions" / dataset / f"{file_stem(model)}.parquet"

    def imported_labels(self, dataset: str, source: str) -> Path:
        """The file with the labels of an imported source."""
        return self.data / "imported" / "labels" / dataset / f"{source}.parquet"

    def imported_votes(self, dataset: str, source: str) -> Path:
        """The file with imported votes; of a fetched dataset those that its preset fetches too."""
        preset = self.dataset(dataset).fetched
        own = self.data / "imported" / "votes" / dataset / f"{source}.parquet"
        fetched = None if preset is None else self.fetched / preset / "votes" / dataset / f"{source}.parquet"
        return fetched if fetched is not None and not own.is_file() else own

    def noisy_labels_of(self, suite: str) -> dict[str, Path]:
        """Source -> file of the noisy labels of what a suite trains on."""
        mine = {name: held for name, held in self.noisy_labels.items() if held.dataset == self.suites[suite].train}
        return {name: self.fetched / held.fetched / "noisy_labels" / f"{name}.parquet" for name, held in mine.items()}

    def original_of(self, suite: str) -> str:
        """The dataset that a suite's figures start from: what is trained on, else its first original."""
        train = self.suites[suite].train
        mine = self.datasets_of(suite)
        return train or next((name for name in mine if self.datasets[name].role == "original"), mine[0])

    def model(self, name: str) -> Model:
        """The model called `name`; a BenchError that names the nearest one if there is none."""
        return _lookup(self.models, name, "models")

    def dataset(self, name: str) -> Dataset:
        """The dataset called `name`; a BenchError that names the nearest one if there is none."""
        return _lookup(self.datasets, name, "datasets")

    def datasets_of(self, suite: str) -> list[str]:
        """Names of the datasets of a suite, in the order of params.yaml."""
        return [name for name, dataset in self.datasets.items() if dataset.suite == suite]

    def probes_of(self, suite: str) -> Probes:
        """The heads that are fitted on the features of a suite's models."""
        own = self.evaluations.get(suite, Evaluation()).probes
        return self.training.probes if own is None else own

    def map_images(self, suite: str) -> int:
        """How many images of each dataset the maps of a suite hold at most."""
        return self.evaluations.get(suite, Evaluation()).map_images or self.maps.n_images

    def corrupted(self, dataset: str) -> Corrupted:
        """How a dataset is corrupted; with no names where it is not."""
        suite = self.dataset(dataset).suite
        own = self.evaluations.get(suite, Evaluation()).corruptions
        if own is not None and dataset == self.original_of(suite):
            return own
        wanted = self.corruptions
        names = wanted.names if dataset in wanted.datasets else []
        return Corrupted(names=names, severities=wanted.severities, reference=wanted.reference)

    @property
    def attack_runs(self) -> dict[str, Attack]:
        """Every attack by its name: of all suites, then of each."""
        of_suites = {name: attack for one in self.evaluations.values() for name, attack in one.attacks.items()}
        return {**self.attacks.runs, **of_suites}

    def attack_pool(self, dataset: str) -> list[str]:
        """Names of the models that attacks on `dataset` run against (DESIGN: `attacks.pool`)."""
        suite = self.dataset(dataset).suite
        pool = self.attacks.pool or [n for n, m in self.models.items() if m.family in ("supervised", "ssl")]
        return [name for name in pool if self.model(name).suite == suite]

    @model_validator(mode="after")
    def _names_exist(self) -> Config:
        def known(names: object, among: Collection[str], where: str) -> None:
            for name in names if isinstance(names, (list, tuple)) else [names]:
                if name is not None and name not in among:
                    raise ValueError(f"{where}: {name!r} is not declared{_nearest(str(name), list(among))}")

        for name, dataset in self.datasets.items():
            known(dataset.suite, self.suites, f"datasets.{name}.suite")
            known(dataset.replicates, self.datasets, f"datasets.{name}.replicates")
        for name, suite in self.suites.items():
            known(suite.train, self.datasets, f"suites.{name}.train")
            if not self.datasets_of(name):
                raise ValueError(f"suites.{name}: no dataset belongs to it")
        for name, model in self.models.items():
            known(model.suite, self.suites, f"models.{name}.suite")
            if self.suites[model.suite].train is None and not (model.published and model.family == "supervised"):
                raise ValueError(f"models.{name}: its suite {model.suite!r} names no dataset to train on")
        for name, model in self.imported.items():
            known(model.suite, self.suites, f"imported.{name}.suite")
            for dataset in model.datasets:
                known(dataset, self.datasets_of(model.suite), f"imported.{name}.datasets")
            if name in self.models or name in self.uncertainty.ensembles:
                raise ValueError(f"imported.{name}: a model has this name already")
        for name in (*self.models, *self.uncertainty.ensembles, *self.imported):
            if name in RESERVED:
                raise ValueError(f"no model may be called {name!r}: tables use the word for {RESERVED[name]}")
        named = {"imported": [*self.models, *self.uncertainty.ensembles, *self.imported]}
        named |= {f"datasets.{name}.labels": list(dataset.labels) for name, dataset in self.datasets.items()}
        for where, names in named.items():
            if (pair := same_file(names)) is not None:
                raise ValueError(f"{where}: {pair[0]!r} and {pair[1]!r} differ only in upper and lower case")
        known(self.corruptions.datasets, self.datasets, "corruptions.datasets")
        known(self.corruptions.reference, self.models, "corruptions.reference")
        for name, members in self.uncertainty.ensembles.items():
            known(members, self.models, f"uncertainty.ensembles.{name}")
            if name in self.models:
                raise ValueError(f"uncertainty.ensembles.{name}: a model has this name already")
        known(self.attacks.pool, self.models, "attacks.pool")
        trained_on = [suite.train for suite in self.suites.values() if suite.train is not None]
        for name, held in self.noisy_labels.items():
            known(held.dataset, trained_on, f"noisy_labels.{name}.dataset")
        known(list(self.evaluations), self.suites, "evaluations")
        for suite, own in self.evaluations.items():
            if own.corruptions is not None:
                known(own.corruptions.reference, self.models, f"evaluations.{suite}.corruptions.reference")
        declared = [("attacks.runs", self.attacks.runs)]
        declared += [(f"evaluations.{suite}.attacks", own.attacks) for suite, own in self.evaluations.items()]
        seen: set[str] = set()
        for where, runs in declared:
            for name, attack in runs.items():
                known(attack.dataset, self.datasets, f"{where}.{name}.dataset")
                known(attack.source, self.attack_pool(attack.dataset), f"{where}.{name}.source")
                first = next(run for run in self.attack_runs.values() if run.dataset == attack.dataset)
                if attack.n_images != first.n_images:
                    raise ValueError(f"{where}.{name}.n_images: runs on one dataset attack the same images")
                if name in seen:
                    raise ValueError(f"{where}.{name}: another attack has this name")
                seen.add(name)
        studies = {
            "objectives": self.objectives.runs,
            "regional": self.regional.runs,
            "detection": self.detection.runs,
            "collisions": self.collisions.runs,
        }
        for section, runs in studies.items():
            moved = [run.dataset for run in runs.values()]
            if len(set(moved)) < len(moved):
                raise ValueError(f"{section}.runs: a dataset is named twice")
            for name, run in runs.items():
                known(run.dataset, self.datasets, f"{section}.runs.{name}.dataset")
                suite = self.datasets[run.dataset].suite
                here = [model for model, one in self.models.items() if one.suite == suite]
                known(run.models, here, f"{section}.runs.{name}.models")
        for name, run in self.segmentation.items():
            if run.fetched is not None and name in self.datasets:
                raise ValueError(f"segmentation.{name}: a dataset has this name already")
            known(run.composed_of, self.datasets, f"segmentation.{name}.composed_of")
        reference = [*self.models, *self.uncertainty.ensembles]
        known(self.subsets.reference_model, reference, "subsets.reference_model")
        known(self.protocol.references, [*reference, *self.imported], "protocol.references")
        known(self.proposals.ensemble, self.uncertainty.ensembles, "proposals.ensemble")
        known(self.proposals.datasets, self.datasets, "proposals.datasets")
        known(self.consensus.machines, [*reference, *self.imported], "consensus.machines")
        known(self.neighbours.model, self.models, "neighbours.model")
        return self


def file_stem(model: str) -> str:
    """The name of a model's files: its own, with what no file name may hold as %XX."""
    return quote(model, safe=" ()+,=@")


def same_file(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names whose files differ only in upper and lower case, which some file systems take for one."""
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(file_stem(name).casefold(), name)) != name:
            return other, name
    return None


T = TypeVar("T")


def _lookup(among: dict[str, T], name: str, where: str) -> T:
    if name not in among:
        raise BenchError(
            f"there is no {name!r} under `{where}`{_nearest(name, list(among))}.",
            where="params.yaml",
            remedy=f"Declare it there, or use one of: {', '.join(among)}.",
        )
    return among[name]


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _known_keys(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """The keys that are allowed where `location` points, for the message about an unknown one."""
    annotation: Any = model
    for part in location[:-1]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = annotation.model_fields[part].annotation
        else:
            annotation = annotation.__args__[-1]
    return [key for key in annotation.model_fields if key != "root"]


def _explain(error: ValidationError, path: Path) -> BenchError:
    lines = []
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            hint = _nearest(str(fault["loc"][-1]), _known_keys(Config, fault["loc"]))
            lines.append(f"unknown key `{where}`{hint}")
        elif fault["type"] == "missing":
            lines.append(f"key `{where}` is missing")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            lines.append(f"`{where}`: {message}, got {fault['input']!r}" if where else message)
    return BenchError("; ".join(lines) + ".", where=path.name, remedy="Correct params.yaml and run again.")


def load(path: Path | str = "params.yaml") -> Config:
    """Read and validate params.yaml. Raises BenchError naming the key, what is wrong, and the nearest known name."""
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise BenchError(
            "no such file.", where=path, remedy="Run `bench` in the root of the repository, where params.yaml is."
        ) from None
    except yaml.YAMLError as fault:
        raise BenchError(f"not valid YAML: {fault}.", where=path.name, remedy="Correct params.yaml.") from None
    if not isinstance(raw, dict):
        raise BenchError("must be a mapping of keys.", where=path.name, remedy="Start from the one in the repository.")
    try:
        return Config(root=path.resolve().parent, **raw)
    except ValidationError as error:
        raise _explain(error, path) from None
    except TypeError as error:
        raise BenchError(f"{error}.", where=path.name, remedy="`root` cannot be set; remove it.") from None
