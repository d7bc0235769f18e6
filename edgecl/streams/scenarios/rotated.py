"""Rotated inputs: the same samples again and again, turned a little further each time.

Source: Lopez-Paz and Ranzato, Gradient Episodic Memory for Continual Learning, NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from edgecl.errors import DataError
from edgecl.streams.base import Dataset, Stream
from edgecl.streams.scenarios.repeating import check_domains, repeated


def rotated(dataset: Dataset, seed: int = 0, *, domains: int = 5, degrees: float = 36.0) -> Stream:
    """All samples once an experience, shuffled, each time turned by `degrees` more, anticlockwise.

    Points in the plane (n, 2) turn around the origin, pictures (n, h, w) or (n, h, w, 3) uint8 around their middle (bilinear,
    black outside). Raises DataError for anything else.
    """
    check_domains("rotated", domains)
    shape, kind = dataset.train.shape, dataset.train.x.dtype
    points = shape == (2,)
    if not points and not (kind == np.uint8 and (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3))):
        raise DataError(f"{dataset.name}: inputs {shape} {kind} cannot be turned; give pictures, or points in the plane")

    def change(domain: int) -> Callable[[Any], Any]:
        return lambda x: _turned(x, domain * degrees, points)

    return repeated(dataset, "rotated", seed, [f"{i * degrees:g} degrees" for i in range(domains)], change)


def _turned(x: Any, angle: float, points: bool) -> Any:
    if not angle or not len(x):
        return x
    if points:
        c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        return (x @ np.array([[c, s], [-s, c]])).astype(x.dtype)
    return np.stack([np.asarray(Image.fromarray(p).rotate(angle, Image.Resampling.BILINEAR)) for p in x])
