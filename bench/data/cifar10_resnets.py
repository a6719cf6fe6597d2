"""The published ResNet-20, 32, 44 and 56 of CIFAR-10: two readers (`read` picks by what a folder holds) and one writer.

Sources, and their own layouts:

- github.com/akamaster/pytorch_resnet_cifar10 (BSD 2-clause): `pretrained_models/resnet20-12fca82f.th` and so on, a
  pickle that is read as weights only, with `state_dict` of a network in `DataParallel`; the eight digits in the name
  begin the file's sha256.
- the same tensors as `resnet20.safetensors` and so on.

The addresses could not be tried when this was written: there was no way to the internet. What verifies everything is
the preset's manifest, which pins the files that `write` makes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data import fetch
from bench.errors import BenchError
from bench.store import tables

if TYPE_CHECKING:
    from torch import Tensor

PRESET, SUITE = "cifar10-resnets", "cifar10"
PUBLISHED = {"resnet20": "12fca82f", "resnet32": "d509ac18", "resnet44": "014dd654", "resnet56": "4bfd9763"}
"""Architecture -> the first digits of the sha256 of its published file."""
URL = "https://raw.githubusercontent.com/akamaster/pytorch_resnet_cifar10/master/pretrained_models"
MAX_BYTES = 2**24
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What the networks were trained with: ImageNet's, though the images are CIFAR-10's."""
_AGAIN = "Get it again from its source, or name another folder with --from."
Weights = dict[str, "dict[str, Tensor]"]
"""Architecture -> the state of its network, by the names of its source."""


def _name(arch: str) -> str:
    return f"{arch}-{PUBLISHED[arch]}.th"


def download(folder: Path) -> None:
    """Get the published files into `folder`; what is there already stays. BenchError as `fetch.download`, and where a
    file is not the published one (it is removed then)."""
    for arch, digits in PUBLISHED.items():
        path = fetch.download(f"{URL}/{_name(arch)}", folder / _name(arch), max_bytes=MAX_BYTES)
        if not tables.sha256(path).startswith(digits):
            path.unlink()
            raise BenchError(
                f"is not the published file (its sha256 does not begin with {digits}) and was removed.",
                where=f"{URL}/{_name(arch)}",
                remedy="Run the command again; or get the files by hand and name their folder: --from DIR.",
            )


def read(folder: Path) -> Weights:
    """The weights that a local folder holds, in either layout. BenchError where one is missing or unreadable."""
    return {arch: _state(folder, arch) for arch in PUBLISHED}


def _state(folder: Path, arch: str) -> dict[str, Tensor]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    plain, pickled = folder / f"{arch}.safetensors", folder / _name(arch)
    try:
        if plain.is_file():
            return load_file(plain)
        held: Any = torch.load(pickled, map_location="cpu", weights_only=True)
        return {key.removeprefix("module."): value for key, value in held["state_dict"].items()}
    except FileNotFoundError:
        what, where = f"holds neither {plain.name} nor {pickled.name}", folder
    except SafetensorError as fault:
        what, where = f"is no safetensors file: {fault}", plain
    except Exception as fault:  # unpickling raises whatever its content makes it raise
        what, where = f"holds no weights of a network ({type(fault).__name__})", pickled
    raise BenchError(f"{what}.", where=where, remedy=_AGAIN)


def write(weights: Weights, out: Path) -> dict[str, int]:
    """Write `out/weights/<arch>.safetensors`, as checkpoints of this project; return counts.

    Equal weights give equal bytes. BenchError where they are not those of the architecture.
    """
    import torch

    from bench.config import Model, Suite
    from bench.models import zoo

    suite = Suite(input_size=32, channels=3)
    for arch, state in weights.items():
        model = Model.model_validate(
            {"family": "supervised", "method": "supervised", "arch": arch, "suite": SUITE, "epochs": 1}
        )
        network = zoo.build(model, suite, 10, 0, arch)
        mine = {_renamed(key): value for key, value in state.items()}
        mine |= {"mean": torch.tensor(MEAN).view(3, 1, 1), "std": torch.tensor(STD).view(3, 1, 1)}
        for key, value in network.state_dict().items():
            if key.endswith("num_batches_tracked"):
                mine.setdefault(key, value)
        try:
            network.load_state_dict(mine)
        except RuntimeError as fault:
            raise BenchError(
                f"are not the weights of {arch}: {fault}.", where=f"{PRESET}: {arch}", remedy=_AGAIN
            ) from None
        path = out / "weights" / f"{arch}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        zoo.save(network, path, arch=arch)
    return {"networks": len(weights)}


def _renamed(key: str) -> str:
    """The name of a tensor here."""
    return key.replace("linear.", "head.", 1) if key.startswith("linear.") else f"encoder.{key}"
