"""Full fine-tuning, one network per task: the ceiling that heads are held against. It does not travel.

Tuned with as much care as the heads: it starts from the ROM, norms keep their statistics (batches of a few hundred pictures
would ruin them), the same variants of the pictures, the same cross-fitted loss and one-cycle schedule, the same closed-form
map on top. All weights and biases of all convolutions learn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgecl.heads.base import QUIET, Session, lead
from edgecl.heads.parts import crossfit, discriminant
from edgecl.heads.parts.folded import FoldedNetwork
from edgecl.heads.parts.recipe import read_pixels
from edgecl.heads.parts.views import Views, features
from edgecl.rom.base import Rom
from edgecl.space import unit_sqrt
from edgecl.types import Floats, Pixels, Task

EPOCHS, RATE, VARIANTS = 13, 1e-4, 4
_WEIGHT = 0.6  # of the tuned network's map beside the plain one, as heads with plugs have it
_KEEP = 64 << 20  # bytes of views; whole pictures are drawn again each time


class FineTuned:
    """A network of its own for one task.

    nbytes: of what would have to be stored: every weight in float32, and the map.
    """

    def __init__(
        self,
        task: Task,
        rom: Rom,
        seed: int,
        *,
        false_reject: float = 0.02,
        epochs: int = EPOCHS,
        rate: float = RATE,
        session: Session = QUIET,
    ) -> None:
        """false_reject: share of the training pictures that may be called "unknown class".   epochs, rate: of the learning."""
        y, k = task.labels, len(task.classes)
        pixels = read_pixels(task, rom)
        self._network = FoldedNetwork(rom.image, {}, weights=True)
        self._preprocess = rom.preprocess
        views = Views(pixels, rom.preprocess, self._network.lower, variants=VARIANTS, seed=seed, limit=_KEEP)
        total, done = epochs * len(y), 0

        def tick(pictures: int) -> None:
            nonlocal done
            done += pictures
            session.progress("fine-tuning the network", done, total)

        _, self.losses = crossfit.learn(
            self._network, views, y, k, task.features, crossfit.Schedule(epochs, rate=rate), seed=seed, tick=tick
        )
        own = discriminant.fit(unit_sqrt(features(self._network.upper, views, len(y))), y, k)
        plain = discriminant.fit(unit_sqrt(task.features), y, k)
        self._w = np.concatenate([(1 - _WEIGHT) * plain.w, _WEIGHT * own.w], 1).astype(np.float32)
        self._b = ((1 - _WEIGHT) * plain.b + _WEIGHT * own.b).astype(np.float32)
        held_out = (1 - _WEIGHT) * plain.held_out + _WEIGHT * own.held_out
        self._unknown_below = float(np.quantile(lead(held_out.astype(np.float32)), false_reject))
        self.nbytes = 4 * sum(v.numel() for _, v in self._network.parameters()) + self._w.nbytes + self._b.nbytes

    def features(self, pixels: Sequence[Pixels]) -> Floats:
        """(n, s, s, 3) uint8 -> (n, d), of the task's own network."""
        views = Views(np.asarray(pixels), self._preprocess, self._network.lower, variants=0, seed=0, limit=0)
        return features(self._network.upper, views, len(pixels))

    def scores(self, plain: Floats, own: Floats) -> Floats:
        """Scores (n, k) from plain features and those of the task's own network, (n, d) each."""
        out: Floats = np.concatenate([unit_sqrt(plain), unit_sqrt(own)], 1) @ self._w.T + self._b
        return out

    def knows(self, scores: Floats) -> NDArray[np.bool_]:
        """Which of the scored pictures are of one of the classes, (n,)."""
        known: NDArray[np.bool_] = lead(scores) >= self._unknown_below
        return known
