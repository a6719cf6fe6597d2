"""Networks over sequences of range-Doppler maps: a 3-D CNN, and a CNN a frame with an LSTM over the frames. torch.

Outside a network a sequence is (N, T, R, D) in [0, 1], frames where images have channels: so attacks, their masks and
batches are those of images. Neither has a batch norm (its statistics would be those of padding) nor anything that
scales by the sequence itself, through which padding would change the frames of the action.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

Reading = Literal["all", "given", "inferred"]
"""Which frame's state of the LSTM answers: the last of all, the last of a length given beside the frames, or the last
frame that is not empty."""


class CNN3D(nn.Module):
    """Three 3-D convolutions (8, 16, 32 channels), the mean over time and place, a linear layer: (N, T, R, D) ->
    logits (N, K)."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(1, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv3d(8, 16, 3, stride=(1, 2, 2), padding=1),
            nn.ReLU(),
            nn.Conv3d(16, 32, 3, stride=(1, 2, 2), padding=1),
        )
        self.head = nn.Linear(32, n_classes)

    @property
    def last(self) -> nn.Module:
        """The convolution that Grad-CAM looks at: (N, 32, T / 2, R / 8, D / 8)."""
        return self.body[-1]

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As every module's, but in torch's default memory layout: channels_last is one of 4-D weights alone."""
        return super().to(*args, **{name: value for name, value in kwargs.items() if name != "memory_format"})

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, T, R, D)."""
        return self.head(self.body(x.contiguous()[:, None]).relu().mean(dim=(2, 3, 4)))


class CNNLSTM(nn.Module):
    """Three convolutions of each frame, an LSTM over the frames, a linear layer on one of its states.

    `given`: x is (N, T + 1, R, D), and every value of the last "frame" is the length over T, which no attack may change
    (`with_length` puts it there).
    """

    def __init__(self, n_classes: int, reading: Reading = "all", hidden: int = 48) -> None:
        super().__init__()
        self.reading: Reading = reading
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
        )
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.lstm = nn.LSTM(128, hidden, batch_first=True)
        with torch.no_grad():  # it starts by remembering (Jozefowicz et al. 2015): the action ends before the padding
            dict(self.lstm.named_parameters())["bias_ih_l0"][hidden : 2 * hidden] += 2
        self.head = nn.Linear(hidden, n_classes)

    @property
    def last(self) -> nn.Module:
        """The convolution that Grad-CAM looks at, frame by frame: (N T, 32, R / 8, D / 8)."""
        return self.body[-1]

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, T, R, D), or one more frame where the length is given."""
        frames = x[:, :-1] if self.reading == "given" else x
        n, t = frames.shape[:2]
        seen = self.pool(self.body(frames.contiguous().flatten(0, 1)[:, None]).relu())
        states, _ = self.lstm(seen.flatten(1).unflatten(0, (n, t)))
        return self.head(states[torch.arange(n, device=x.device), self.lengths(x) - 1])

    def lengths(self, x: Tensor) -> Tensor:
        """How many frames of each sequence are read, (N,): at least one."""
        if self.reading == "given":
            return (x[:, -1, 0, 0] * (x.shape[1] - 1)).round().long().clamp_min(1)
        places = torch.arange(1, x.shape[1] + 1, device=x.device)
        if self.reading == "inferred":
            return ((x.amax(dim=(2, 3)) > 0) * places).amax(dim=1).clamp_min(1)
        return places[-1].expand(len(x))


def with_length(frames: Tensor, lengths: Tensor) -> Tensor:
    """Sequences (N, T, R, D) with their lengths (N,) as one more frame."""
    share = (lengths / frames.shape[1]).to(frames.dtype)
    return torch.cat([frames, share[:, None, None, None].expand(-1, 1, *frames.shape[2:])], dim=1)


def train(network: nn.Module, x: Tensor, labels: Tensor, epochs: int, lr: float, seed: int) -> None:
    """Fit a network to sequences (N, T, R, D), with their length where it is given, and labels (N,), in place: AdamW,
    one cycle of the rate up to `lr`, batches of 32, gradients of at most length 1 (an LSTM's else explode)."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-4)
    steps = epochs * -(-len(x) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    network.train()
    for _ in range(epochs):
        for at in torch.randperm(len(x), generator=generator).split(32):
            loss = nn.functional.cross_entropy(network(x[at]), labels[at])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    network.eval().requires_grad_(False)
