"""What every baseline with a network does alike."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.learners.parts import spaces
from edgecl.learners.parts.nets import Tensor, build, is_pictures, kind, losses, nbytes, optimiser, torch
from edgecl.learners.parts.task_aware import TaskAware
from edgecl.rom.torch_compat import limited
from edgecl.types import Floats, Ints

ROWS = 256  # predicted at once


class NetLearner(TaskAware):
    """A learner with one network. A leaf implements `_step`, one step on a batch of tensors.

    Samples are kept in the form in which they are small: pictures as uint8, vectors in their space as float32.
    """

    config: Any

    def __init__(self, shape: tuple[int, ...], k: int, seed: int, config: Any) -> None:
        super().__init__(shape, k, seed, config)
        self._space = spaces.choose(config.space, shape)
        self._draw = torch.Generator().manual_seed(seed)
        self._renew()

    def _renew(self) -> None:
        """Start afresh: new weights, an optimiser that remembers nothing."""
        self._net = build(self.shape, self.k, self.config, self._draw)
        self._optimiser = optimiser(self._net, self.config)

    def _threads(self) -> AbstractContextManager[None]:
        """One thread for what is no picture: waking a second one for a few numbers takes longer than their work, on busy cores
        twenty times as long, and sums would depend on how many there are.
        """
        return limited(0 if kind(self.shape, self.config) == "conv" else 1)

    def observe(self, x: Any, y: Ints) -> None:
        with self._threads():
            super().observe(x, y)

    def predict(self, x: Any, task: int | None = None) -> Floats:
        with self._threads():
            return super().predict(x, task)

    def _observe(self, x: Any, y: Ints) -> None:
        self._step(self._kept(x), y)

    def _step(self, x: NDArray[Any], y: Ints) -> None:
        """Learn from samples in the form in which they are kept."""
        self._descend(self._loss(x, y))

    def _loss(self, x: NDArray[Any], y: Ints) -> Tensor:
        """Mean cross-entropy of samples in the form in which they are kept."""
        return losses(self._net(self._input(x)), y).mean()

    def _descend(self, loss: Tensor) -> None:
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()

    def _fit(self, x: NDArray[Any], y: Ints, epochs: int, batch: int, draw: np.random.Generator) -> None:
        """Epochs over samples in the form in which they are kept, each in another order."""
        with self._threads():
            for _ in range(epochs):
                order = draw.permutation(len(y))
                for start in range(0, len(y), batch):
                    rows = order[start : start + batch]
                    NetLearner._step(self, x[rows], y[rows])

    def _kept(self, x: Any) -> NDArray[Any]:
        return np.asarray(x, np.uint8) if is_pictures(self.shape) else spaces.encode(x, self._space)

    def _input(self, kept: NDArray[Any]) -> Tensor:
        """What the network takes: vectors; of pictures -1..1, for a conv net (n, 3, h, w)."""
        if not is_pictures(self.shape):
            return torch.tensor(kept)
        scaled = torch.tensor(kept).float() / 127.5 - 1
        return scaled.permute(0, 3, 1, 2) if kind(self.shape, self.config) == "conv" else scaled.flatten(1)

    def _scores(self, x: Any) -> Floats:
        out = np.empty((len(x), self.k), np.float32)
        with torch.no_grad():
            for start in range(0, len(x), ROWS):
                part = slice(start, start + ROWS)
                out[part] = self._net(self._input(self._kept(x[part]))).numpy()
        return out

    def _held(self) -> int:
        return nbytes(self._net, self._optimiser)
