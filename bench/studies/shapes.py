"""What the first layers of published architectures must drop, by their shapes alone: no weight is read or made."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from bench.errors import BenchError
from bench.studies import layers, nullity
from bench.studies.nullity import Rank

ARCHITECTURES = (
    "beit_base_patch16_224", "cait_xxs24_224", "caformer_s18", "coat_tiny", "coatnet_0_rw_224", "convmixer_768_32",
    "convnext_tiny", "convnextv2_nano", "darknet53", "davit_tiny", "deit_small_patch16_224",
    "densenet121", "dla34", "dpn68", "edgenext_small", "efficientnet_b0", "efficientnetv2_rw_s",
    "eva02_tiny_patch14_224",
    "focalnet_tiny_srf", "ghostnet_100", "hrnet_w18", "inception_v3", "levit_128", "maxvit_tiny_rw_224",
    "mixer_b16_224",
    "mixer_b32_224", "mnasnet_100", "mobilenetv2_100", "mobilenetv3_large_100", "mobilevit_s", "nfnet_f0",
    "poolformer_s12",
    "pvt_v2_b0", "regnety_002", "resmlp_12_224", "resnet18", "resnet50", "resnet50d", "resnext50_32x4d",
    "seresnet50", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "tf_efficientnet_lite0",
    "tf_efficientnet_lite1", "tf_efficientnet_lite2", "twins_svt_small",
    "vgg16", "vit_base_patch16_224", "vit_base_patch32_224", "vit_large_patch16_224", "vit_small_patch14_dinov2",
    "vit_small_patch16_224", "vit_small_patch32_224", "vit_tiny_patch16_224", "xception41", "xcit_nano_12_p16_224",
)  # fmt: skip
"""Names in timm, of those whose image one layer takes alone: what two layers side by side drop, both must drop."""


def first(name: str) -> tuple[str, Rank]:
    """The first linear layer or convolution that the architecture `name` of timm runs on an image, and bounds of its
    rank and nullity there. BenchError where the layer does more than its sizes say."""
    import timm

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network: Any = timm.create_model(name).eval()
    size = network.pretrained_cfg["input_size"]
    at, shape = layers.first(network, torch.zeros(1, *size, device="meta"))
    layer = layers.of(network)[at]
    found = nullity.by_shape(layer, shape)
    if found.n_out != layer(torch.zeros(1, *shape, device="meta")).numel():
        raise BenchError("does more than its sizes say.", where=f"{name}: {at}", remedy="Name another architecture.")
    return at, found
