"""The L-BFGS attack: a targeted search by a quasi-Newton method in the box of the pixels.

Source: C. Szegedy et al., Intriguing properties of neural networks (2014, arXiv 1312.6199), section 4.1; the optimiser
is scipy's L-BFGS-B, whose box is [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bench import compute
from bench.attacks import losses
from bench.attacks.engine import Found, Images
from bench.config import Compute

Floats = npt.NDArray[np.float64]


def attack(
    network: nn.Module,
    clean: Images,
    targets: npt.NDArray[np.int64],
    settings: Compute,
    *,
    rounds: int = 5,
    iterations: int = 30,
    first: float = 1.0,
) -> Found:
    """Images (N, C, H, W) in [0, 1]: of those that are answered as `targets` (N,), the one nearest to `clean`; `clean`
    where none was found; and for each the evaluations of the network and its gradient. `iterations`: steps of a search.

    Minimised is |x - clean|^2 + c * cross-entropy(x, target); `rounds` weights c are tried, from `first`: ten times the
    last one until the target is reached, then half-way between the largest that failed and the smallest that did not.
    """
    out, counts = np.array(clean), np.zeros(len(clean), np.int64)
    for start in range(0, len(clean), settings.batch_size):
        rows = np.arange(start, min(start + settings.batch_size, len(clean)))
        searches = _Together(network, clean[rows], targets[rows], settings)

        def search(row: int, searches: _Together = searches, start: int = start) -> None:
            image = clean[start + row].ravel().astype(np.float64)
            found, n = _search(lambda x: searches.evaluate(row, x), image, rounds, iterations, first)
            counts[start + row] = n
            if found is not None:
                out[start + row] = found.reshape(clean.shape[1:])

        searches.run(search)
    return Found(out, counts)


def _search(
    evaluate: Callable[[Floats], tuple[float, Floats, bool]], clean: Floats, rounds: int, iterations: int, first: float
) -> tuple[npt.NDArray[np.float32] | None, int]:
    """The nearest image that reached its target, if one did, and the number of evaluations."""
    from scipy.optimize import minimize

    best, best_size, n = None, np.inf, 0
    low, high, c = 0.0, np.inf, first
    for _ in range(rounds):
        reached = False

        def objective(x: Floats, c: float = c) -> tuple[float, Floats]:
            nonlocal best, best_size, n, reached
            loss, gradient, hit = evaluate(x)
            n += 1
            change = x - clean
            size = float(change @ change)
            if hit:
                reached = True
                if size < best_size:
                    best, best_size = x.astype(np.float32), size
            return size + c * loss, 2 * change + c * gradient

        minimize(
            objective, clean, jac=True, method="L-BFGS-B", bounds=[(0, 1)] * len(clean), options={"maxiter": iterations}
        )
        low, high = (low, c) if reached else (c, high)
        c = 10 * c if np.isinf(high) else (low + high) / 2
    return best, n


class _Together:
    """Searches of one image each, in threads, whose evaluations are made together in batches of the fixed size.

    A batch is run when every search that is not over waits for its values: so what a batch holds, and with it every
    result, does not depend on how threads are scheduled.
    """

    def __init__(self, network: nn.Module, clean: Images, targets: npt.NDArray[np.int64], settings: Compute) -> None:
        self.device = compute.device_of(settings)
        self.network, self.size = compute.placed(network, self.device), settings.batch_size
        self.images = np.array(clean)
        self.targets = np.zeros(self.size, np.int64)
        self.targets[: len(targets)] = targets
        self.asked: Queue[int | None] = Queue()
        self.answers = [Queue[tuple[float, Floats, bool] | BaseException](1) for _ in clean]

    def evaluate(self, row: int, x: Floats) -> tuple[float, Floats, bool]:
        """The cross-entropy of one image (values,), its gradient, and whether the target is answered."""
        self.images[row] = x.reshape(self.images.shape[1:])
        self.asked.put(row)
        answer = self.answers[row].get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def run(self, search: Callable[[int], None]) -> None:
        """Run `search` of every row to its end."""

        def whole(row: int) -> None:
            try:
                search(row)
            finally:
                self.asked.put(None)

        n = len(self.answers)
        with ThreadPoolExecutor(n) as pool:
            futures = [pool.submit(whole, row) for row in range(n)]
            active = n
            while active:
                rows = []
                while len(rows) < active:
                    row = self.asked.get()
                    if row is None:
                        active -= 1
                    else:
                        rows.append(row)
                if rows:
                    self._answer(sorted(rows))
            for future in futures:
                future.result()

    def _answer(self, rows: list[int]) -> None:
        try:
            x = compute.padded(self.images, self.size, self.device).requires_grad_()
            y = torch.from_numpy(self.targets).to(self.device)
            logits = self.network(x)
            values = -losses.to_cross_entropy(logits, y)
            (gradient,) = torch.autograd.grad(values.sum(), x)
            hits, found = (logits.detach().argmax(dim=1) == y).tolist(), values.detach().double().tolist()
            gradients = gradient.double().cpu().numpy()
        except BaseException as fault:  # the threads that wait must not wait for ever: they raise it
            for row in rows:
                self.answers[row].put(fault)
            return
        for row in rows:
            self.answers[row].put((found[row], gradients[row].ravel(), hits[row]))
