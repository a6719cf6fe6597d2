"""Until another network is fooled: one walk on a source network, and the place on it at which each other one falls.

Source: U. Ozbulak et al., Regional image perturbation reduces L_p norms of adversarial examples while maintaining
model-to-model transferability (ICML UDL 2020): X <- clip(X - a sign(grad CE(f_A(X), t)) * L), until argmax f_B(X) != y.
The walk does not depend on B, so one serves all targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench import compute
from bench.attacks import losses, norms
from bench.attacks.engine import Images, State, counted, kept, run, wide
from bench.config import Compute


@dataclass(frozen=True)
class First:
    """Of one target network: `images` (N, C, H, W) as they first fooled it, as they are at last where none did;
    iterations (N,): steps until then; fooled (N,)."""

    images: Images
    iterations: npt.NDArray[np.int64]
    fooled: npt.NDArray[np.bool_]


def walk(
    network: nn.Module,
    others: Mapping[str, nn.Module],
    clean: Images,
    labels: npt.NDArray[np.int64],
    towards: npt.NDArray[np.int64] | None,
    mask: npt.NDArray[np.float32],
    settings: Compute,
    *,
    size: float,
    iterations: int,
    fixed: int,
    eps: float = 1.0,
) -> tuple[dict[str, First], Images]:
    """For each of `others` where it first answers another class than `labels`; and the images after `fixed` steps.

    clean: (N, C, H, W) in [0, 1]; labels, towards: (N,), the class that the source is led to, which no target need
    answer; without it, away from `labels`. mask: (N, H, W), 1 where an image may change: elsewhere it stays clean to
    the bit. size: of a step of the sign; eps: how far a value may move, within [0, 1]. At most `iterations` steps, of
    which others are asked after each one.
    ValueError where `fixed` is more than `iterations`.
    """
    if fixed > iterations:
        raise ValueError(f"there is no step {fixed} of {iterations}")
    device = compute.device_of(settings)
    network = compute.placed(network, device)
    targets = {name: compute.placed(other, device) for name, other in others.items()}
    climbed, aim = losses.to_cross_entropy, "towards"
    if towards is None:
        climbed, aim = losses.cross_entropy, "labels"

    def advance(state: State) -> Tensor:
        taken, x = counted(state), state["images"].requires_grad_()
        (gradient,) = torch.autograd.grad(climbed(network(x), state[aim]).sum(), x)
        x = x.detach()
        over, everyone = taken >= iterations, torch.ones_like(taken, dtype=torch.bool)
        for name, target in targets.items():
            with torch.no_grad():
                wrong = target(x).argmax(dim=1) != state["labels"]
            fooled = kept(state, f"fooled:{name}", wrong)
            held, at = kept(state, f"images:{name}", x), kept(state, f"at:{name}", taken)
            now = ~fooled & (wrong | over)
            held.copy_(torch.where(wide(now), x, held))
            at.copy_(torch.where(now, taken, at))
            fooled |= wrong
            everyone &= fooled
        fixed_at = kept(state, "fixed", x)
        fixed_at.copy_(torch.where(wide(taken == fixed), x, fixed_at))
        over = over | (everyone & (taken >= fixed))
        boxed = torch.minimum(torch.maximum(x + size * gradient.sign(), state["low"]), state["high"])
        moved = torch.where(state["free"][:, None] > 0, boxed, x)
        state["images"] = torch.where(wide(over), x, moved)
        taken += ~over
        return over

    low, high = norms.linf_box(clean, eps)
    arrays = {"images": clean, "labels": labels, "free": mask, "low": low, "high": high}
    arrays |= {} if towards is None else {"towards": towards}
    wanted = [f"{what}:{name}" for name in targets for what in ("images", "at", "fooled")]
    found = run(arrays, settings, advance, ["fixed", *wanted])
    firsts = {
        name: First(found[f"images:{name}"], found[f"at:{name}"], found[f"fooled:{name}"].astype(bool))
        for name in targets
    }
    return firsts, found["fixed"]
