"""What a model is: an encoder and a linear head that take images in [0, 1]; built, saved and loaded here.

Which models run is in params.yaml. timm is imported only by the architectures that come from it (3 s a process): some
of the table below, and any model of its own by name (`timm:NAME`) or hub id (`hf-hub:ORG/NAME`).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.config import TIMM, Model, Suite
from bench.errors import BenchError
from bench.store import tables

if TYPE_CHECKING:
    from bench.config import Config


class Network(nn.Module):
    """An encoder with a linear head. Input: float32 (N, C, H, W) in [0, 1] of any height and width.

    Resizing to `input_size` (bilinear where `interpolation` is not set otherwise, antialiased; of the square in the
    middle whose side is `crop` of the shorter side, where that is set) and normalisation by `mean` and `std` (a value
    per channel) happen inside, so that corruptions, attacks and norms all live in the one space of [0, 1].
    `meta` is what the checkpoint says of itself (`temperature`, ...); empty for a fresh network. While `mixed` is set,
    as a training in mixed precision does, the encoder computes in bfloat16.
    """

    def __init__(
        self, name: str, encoder: nn.Module, n_features: int, n_classes: int, input_size: int, channels: int
    ) -> None:
        super().__init__()
        self.name, self.input_size, self.channels = name, input_size, channels
        self.n_features, self.n_classes = n_features, n_classes
        self.meta: dict[str, Any] = {}
        self.mixed = False
        self.interpolation = "bilinear"
        self.crop: float | None = None
        self.encoder = encoder
        self.head = nn.Linear(n_features, n_classes)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.full((channels, 1, 1), 0.5))
        self.register_buffer("std", torch.full((channels, 1, 1), 0.5))

    def resize(self, x: Tensor) -> Tensor:
        """Images of the size that the encoder sees, still in [0, 1]: (N, C, input_size, input_size)."""
        if self.crop is not None:
            side = round(self.crop * min(x.shape[-2:]))
            top, left = ((whole - side) // 2 for whole in x.shape[-2:])
            x = x[..., top : top + side, left : left + side]
        if x.shape[-2:] == (self.input_size, self.input_size):
            return x
        size = (self.input_size, self.input_size)
        resized = F.interpolate(x, size=size, mode=self.interpolation, antialias=True, align_corners=False)
        return resized if self.interpolation == "bilinear" else resized.clamp(0, 1)

    def normalise(self, x: Tensor) -> Tensor:
        """What the encoder takes: resized, minus `mean`, divided by `std`."""
        return (self.resize(x) - self.mean) / self.std

    def normalise_by(self, images: Tensor) -> None:
        """Take `mean` and `std` of each channel from images (N, C, H, W) in [0, 1]: those of the training part."""
        self.mean.copy_(images.mean(dim=(0, 2, 3)).view(-1, 1, 1))
        self.std.copy_(images.std(dim=(0, 2, 3)).clamp_min(1e-3).view(-1, 1, 1))

    def encode(self, x: Tensor) -> Tensor:
        """Features (N, D) float32 of normalised images (N, C, S, S)."""
        with self.precision(x):
            return self.encoder(x).float()

    def precision(self, x: Tensor) -> torch.autocast:
        """The context in which the encoder is run on `x`."""
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.mixed)

    def features(self, x: Tensor) -> Tensor:
        """Features (N, D) of images (N, C, H, W) in [0, 1]."""
        return self.encode(self.normalise(x))

    @torch.no_grad()
    def take_head(self, weight: np.ndarray, bias: np.ndarray) -> None:
        """Take a linear head on the features: weight (K, D), bias (K,)."""
        self.head.weight.copy_(torch.from_numpy(weight))
        self.head.bias.copy_(torch.from_numpy(bias))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of images (N, C, H, W) in [0, 1]."""
        return self.head(self.features(x))


def _cnn(channels: int, size: int) -> tuple[nn.Module, int]:
    """Four 3x3 convolutions (at 1, 1/2, 1/2 and 1/4 of the size), a 1x1 one to 96 channels; the mean over space."""

    def block(n_in: int, n_out: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
        conv = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False)
        return [conv, nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)]

    layers = [*block(channels, 16), *block(16, 32, stride=2), *block(32, 32), *block(32, 64, stride=2)]
    return nn.Sequential(*layers, *block(64, 96, kernel=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 96


def _resnet(channels: int, size: int) -> tuple[nn.Module, int]:
    """timm's ResNet of basic blocks, one a stage, 16 to 48 channels; three 3x3 convolutions as stem, no max pooling."""
    from timm.models.resnet import BasicBlock, ResNet

    net = ResNet(
        BasicBlock,  # pyright: ignore[reportArgumentType]  (timm annotates the instance, and takes the class)
        layers=(1, 1, 1, 1),
        channels=(16, 24, 32, 48),
        stem_type="deep",
        stem_width=8,
        in_chans=channels,
        num_classes=0,
        output_stride=8,
    )
    net.maxpool = nn.Identity()
    return net, 48


def _vit(channels: int, size: int) -> tuple[nn.Module, int]:
    """timm's vision transformer: patches of 4, width 48, 3 blocks of 3 heads; features are the mean over patches."""
    from timm.models.vision_transformer import VisionTransformer

    net = VisionTransformer(
        img_size=size,
        patch_size=4,
        in_chans=channels,
        num_classes=0,
        global_pool="avg",
        fc_norm=False,
        class_token=False,
        embed_dim=48,
        depth=3,
        num_heads=3,
        mlp_ratio=2,
    )
    return net, 48


def _mixer(channels: int, size: int) -> tuple[nn.Module, int]:
    """timm's MLP-Mixer: patches of 4, width 64, 3 blocks."""
    from timm.models.mlp_mixer import MlpMixer

    net = MlpMixer(
        img_size=size, patch_size=4, in_chans=channels, num_classes=0, num_blocks=3, embed_dim=64, mlp_ratio=(0.5, 2.0)
    )
    return net, 64


def _pixels(channels: int, size: int) -> tuple[nn.Module, int]:
    """No encoder: the features are the pixels."""
    return nn.Flatten(), channels * size * size


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters: every second pixel, and channels of zeros (He et al.
    2016, arXiv 1512.03385, option A)."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.stride, self.padding = stride, (n_out - n_in) // 2
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)

    def forward(self, x: Tensor) -> Tensor:
        short = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(short + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class _CifarResNet(nn.Module):
    """The ResNet for images of 32 pixels (He et al. 2016, section 4.2): n blocks a stage, every stage but the first at
    half the size of the one before. Theirs of 6 n + 2 layers has 16, 32 and 64 channels."""

    def __init__(self, channels: int, n: int, widths: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.stages = [f"layer{k}" for k in range(1, len(widths) + 1)]
        n_in = widths[0]
        for stage, n_out in zip(self.stages, widths, strict=True):
            first = _Block(n_in, n_out, 1 if stage == "layer1" else 2)
            self.add_module(stage, nn.Sequential(first, *(_Block(n_out, n_out, 1) for _ in range(n - 1))))
            n_in = n_out

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        return x.mean(dim=(2, 3))


def _cifar_resnet(depth: int) -> Callable[[int, int], tuple[nn.Module, int]]:
    return lambda channels, size: (_CifarResNet(channels, (depth - 2) // 6), 64)


def _resnet10(channels: int, size: int) -> tuple[nn.Module, int]:
    """The same with a fourth stage of 128 channels, one block each: 0.3 M parameters, small enough for a CPU."""
    return _CifarResNet(channels, 1, (16, 32, 64, 128)), 128


class _Fire(nn.Module):
    """A 1x1 convolution to few channels, then a 1x1 and a 3x3 one side by side."""

    def __init__(self, n_in: int, n_few: int, n_out: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(n_in, n_few, 1)
        self.expand1 = nn.Conv2d(n_few, n_out, 1)
        self.expand3 = nn.Conv2d(n_few, n_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1(x)), F.relu(self.expand3(x))], dim=1)


def _squeezenet(channels: int, size: int) -> tuple[nn.Module, int]:
    """SqueezeNet 1.1 (Iandola et al. 2016, arXiv 1602.07360) up to its last 1x1 convolution; the mean over space.

    That convolution is the head here, as the mean of what it gives is what it gives for the mean. The ReLU that the
    authors have after it is left out, as in the package that the weights come from (bench/data/imagenet_lite.py): it
    would leave no gradient to classes below zero.
    """

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    stem = [nn.Conv2d(channels, 64, 3, 2, padding=1), nn.ReLU(inplace=True), pool()]
    first = [_Fire(64, 16, 64), _Fire(128, 16, 64), pool(), _Fire(128, 32, 128), _Fire(256, 32, 128), pool()]
    last = [_Fire(256, 48, 192), _Fire(384, 48, 192), _Fire(384, 64, 256), _Fire(512, 64, 256)]
    return nn.Sequential(*stem, *first, *last, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 512


ARCHITECTURES: dict[str, Callable[[int, int], tuple[nn.Module, int]]] = {
    "cnn": _cnn,
    "resnet": _resnet,
    "vit": _vit,
    "mixer": _mixer,
    "pixels": _pixels,
    "resnet10": _resnet10,
    "squeezenet": _squeezenet,
    **{f"resnet{depth}": _cifar_resnet(depth) for depth in (20, 32, 44, 56)},
}
"""arch of params.yaml -> function of (channels, input size) that gives the encoder and its number of features."""


class _Encoder(nn.Module):
    """A model of timm up to what its classifier takes: the features (N, D)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.forward_head(self.model.forward_features(x), pre_logits=True)


def _of_timm(model: Model, suite: Suite, n_classes: int, name: str, *, pretrained: bool) -> Network:
    """A network of timm, with its published weights if `pretrained`: it has the classes that these know then, and
    `n_classes` where they know none.

    The size of its input, the interpolation, `mean` and `std` are those of its configuration; with published weights,
    whatever their source, also the part of an image that it is shown. BenchError where timm knows no such model, its
    weights are not to be had, or its classifier is not one linear layer.
    """
    import timm
    from timm.data.config import resolve_model_data_config

    def fault(what: str, remedy: str) -> BenchError:
        return BenchError(what, where=f"params.yaml: models.{name}", remedy=remedy)

    match = TIMM.fullmatch(model.arch)
    assert match is not None, "who calls this looks first"
    known, hub = match["name"], match["hub"]
    if known is not None and not timm.is_model(known.split(".", 1)[0]):
        near = difflib.get_close_matches(known, timm.list_models(), n=1)
        raise fault(
            f"timm {timm.__version__} has no model {known!r}{f' (did you mean {near[0]!r}?)' if near else ''}.",
            "Name one of `timm.list_models()`.",
        )
    wanted: dict[str, Any] = {} if pretrained else {"num_classes": n_classes}
    try:
        net: Any = timm.create_model(known or hub, pretrained=pretrained, in_chans=suite.channels, **wanted)
    except Exception as error:  # whatever the ways to the hub, and what lies there, raise
        said = (str(error) or type(error).__name__).splitlines()[0]
        needs = "the weights" if pretrained else "its description"
        raise fault(
            f"timm cannot make {model.arch!r}: {said}",
            f"Where {needs} must come from the hub, this machine must reach it, or have been there before; else "
            "correct the name.",
        ) from None
    head = net.get_classifier()
    plain = isinstance(head, nn.Linear)
    if not plain and not (pretrained and model.family == "ssl" and isinstance(head, nn.Identity)):
        raise fault(
            f"the classifier of {model.arch!r} is no single linear layer.", "Name a model that has one, or family ssl."
        )
    how = resolve_model_data_config(net)
    n_features, n_known = (head.in_features, head.out_features) if plain else (net.num_features, n_classes)
    if plain:
        net.reset_classifier(0)
    network = Network(name, _Encoder(net), n_features, n_known, how["input_size"][-1], suite.channels)
    if plain:
        state = head.state_dict()
        network.head.load_state_dict({"bias": torch.zeros(n_known), **state})
    for key, buffer in (("mean", network.mean), ("std", network.std)):
        values = torch.tensor(how[key])
        buffer.copy_((values if len(values) == suite.channels else values.mean().expand(suite.channels)).view(-1, 1, 1))
    if how["interpolation"] == "bicubic":
        network.interpolation = "bicubic"
    network.crop = how["crop_pct"] if model.published else None
    return network


def build(model: Model, suite: Suite, n_classes: int, seed: int, name: str, *, pretrained: bool = False) -> Network:
    """A fresh network; the same seed gives the same weights, whatever was drawn before. `pretrained`: as timm publishes
    it. BenchError where timm cannot make one of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if TIMM.fullmatch(model.arch):
            return _of_timm(model, suite, n_classes, name, pretrained=pretrained)
        encoder, n_features = ARCHITECTURES[model.arch](suite.channels, suite.input_size)
        return Network(name, encoder, n_features, n_classes, suite.input_size, suite.channels)


def path_of(config: Config, name: str) -> Path:
    """Where the checkpoint of a model lies."""
    return config.results / "checkpoints" / f"{name}.safetensors"


def _as(value: Tensor, stored: str) -> Tensor:
    return value.to(getattr(torch, stored)) if value.is_floating_point() else value


@torch.no_grad()
def rounded(network: Network, stored: str) -> None:
    """Give the network the weights that its checkpoint of type `stored` will have."""
    for value in network.state_dict().values():
        value.copy_(_as(value, stored))


def save(network: Network, path: Path, stored: str = "float32", **meta: Any) -> None:
    """Write weights and `meta` (JSON values) as safetensors: equal content gives equal bytes, never half-written.

    One metadata entry only, as safetensors writes several in an order that changes from run to run.
    """
    from safetensors.torch import save as serialised

    said = {"n_classes": network.n_classes, "input_size": network.input_size, "channels": network.channels, **meta}
    state = {key: _as(value.detach().cpu().contiguous(), stored) for key, value in network.state_dict().items()}
    with tables.replacing(path) as temporary:
        temporary.write_bytes(serialised(state, metadata={"bench": json.dumps(said, sort_keys=True)}))


def load(config: Config, name: str) -> Network:
    """The trained network: in eval mode, weights without gradients, `meta` as saved.

    Raises BenchError naming the file where it is missing, unreadable, of another architecture or input, or holds NaN.
    """
    return _load(config, name, path_of(config, name), f"Run `dvc repro train@{name}`.")


def published(config: Config, name: str, n_classes: int = 0) -> Network:
    """The network of a model that has `weights` or is `pretrained`, as `load`; where these know no classes, it has
    `n_classes`. BenchError where the file of weights is missing or another one, or timm's are not to be had."""
    model = config.model(name)
    weights = model.weights
    if weights is None:
        network = build(model, config.suites[model.suite], n_classes, 0, name, pretrained=True)
        return network.eval().requires_grad_(False)
    path = config.root / weights.file
    again = "Get it again from its source; what a preset brings, with `bench data fetch PRESET`."
    if path.is_file() and tables.sha256(path) != weights.sha256:
        raise BenchError(f"is not the file that params.yaml pins (models.{name}.weights).", where=path, remedy=again)
    return _load(config, name, path, again)


def _load(config: Config, name: str, path: Path, again: str) -> Network:
    from safetensors import SafetensorError, safe_open

    model = config.model(name)
    suite = config.suites[model.suite]
    try:
        with safe_open(path, framework="pt") as stream:
            meta = json.loads((stream.metadata() or {}).get("bench", "{}"))
            state = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118  (not a mapping)
    except FileNotFoundError:
        raise BenchError("is missing.", where=path, remedy=again) from None
    except SafetensorError as fault:
        raise BenchError(f"is no safetensors file: {fault}.", where=path, remedy=f"Delete it. {again}") from None
    declared: dict[str, Any] = {"arch": model.arch, "input_size": suite.input_size, "channels": suite.channels}
    if TIMM.fullmatch(model.arch):
        del declared["input_size"]  # timm's models have their own
    for key, value in declared.items():
        if meta.get(key) != value:
            raise BenchError(f"has {key} {meta.get(key)!r}, but params.yaml says {value!r}.", where=path, remedy=again)
    network = build(model, suite, meta["n_classes"], 0, name)
    try:
        network.load_state_dict(state)
    except RuntimeError as fault:
        raise BenchError(f"does not fit arch {model.arch!r}: {fault}.", where=path, remedy=again) from None
    broken = sorted(key for key, value in state.items() if not torch.isfinite(value).all())
    if broken:
        raise BenchError(f"holds NaN or infinity in {', '.join(broken)}.", where=path, remedy=again)
    network.meta = meta
    return network.eval().requires_grad_(False)
