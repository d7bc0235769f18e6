"""Drift: the classes stay, the inputs get worse as the stream goes on: noisier, or darker.

Every sample has a moment t in 0..1, drawn; training and test samples of an experience are from the same stretch of time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import ConfigError, DataError
from edgecl.streams.base import Dataset, Samples, Stream
from edgecl.streams.scenarios.parts import lay

_ROWS = 256  # changed at once
Change = Callable[[Any, NDArray[np.float32]], Any]  # values (n, ...) float32 and moments, broadcastable -> changed values


def drift(dataset: Dataset, seed: int = 0, *, kind: str = "noise", strength: float = 0.5, steps: int = 10) -> Stream:
    """`steps` experiences of equal length, with all classes.

    kind: noise adds normal noise of standard deviation strength * t; brightness multiplies by 1 - strength * t, pictures only.
    strength: of pictures (uint8), as a part of the range 0..255; of other inputs, in standard deviations of all values.
    """
    pictures = dataset.train.x.dtype == np.uint8
    if kind not in ("noise", "brightness"):
        raise ConfigError(f"the kind of drift is noise or brightness, got '{kind[:60]}'")
    if kind == "brightness" and not pictures:
        raise DataError(f"{dataset.name}: only pictures have a brightness; leave out the ROM, or let noise drift")
    if not 0 <= strength <= (1 if kind == "brightness" else 100):
        raise ConfigError(f"the strength of drift must lie between 0 and 1 (noise: 100), got {strength:g}")
    if not 1 <= steps <= (most := min(len(dataset.train), len(dataset.test))):
        raise ConfigError(f"a drifting stream of {dataset.name} has 1 to {most} steps, got {steps}")
    rng = np.random.default_rng(seed)
    unit = 255.0 if pictures else float(np.std(dataset.train.x[:], dtype=np.float64))

    def noisier(x: Any, t: NDArray[np.float32]) -> Any:
        return x + rng.standard_normal(x.shape, np.float32) * (strength * unit * t)

    def darker(x: Any, t: NDArray[np.float32]) -> Any:
        return x * (1 - strength * t)

    change: Change = noisier if kind == "noise" else darker
    train, val, test = (_drifted(part, rng, change) for part in (dataset.train, dataset.val, dataset.test))
    drifted = replace(dataset, train=train, val=val, test=test)
    lots = ([rows.astype(np.int64) for rows in np.array_split(np.arange(len(part)), steps)] for part in (train, val, test))
    return lay(drifted, "drift", [f"step {i + 1} of {steps}" for i in range(steps)], *lots)


def _drifted(samples: Samples, rng: np.random.Generator, change: Change) -> Samples:
    """The samples in the order of their moments, changed; x keeps its type."""
    samples = samples[rng.permutation(len(samples))]
    x = np.array(samples.x)
    t = ((np.arange(len(x)) + 0.5) / max(len(x), 1)).astype(np.float32).reshape(-1, *(1,) * (x.ndim - 1))
    for start in range(0, len(x), _ROWS):
        rows = slice(start, start + _ROWS)
        values = change(x[rows].astype(np.float32), t[rows])
        x[rows] = np.clip(np.rint(values), 0, 255) if x.dtype == np.uint8 else values
    return replace(samples, x=x)
