"""The space in which a method compares inputs: as they come, or where ROM features are compared best."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgecl.learners.parts.settings import one_of
from edgecl.space import unit_sqrt
from edgecl.types import Floats

SPACES = ("auto", "plain", "unit_sqrt")
# Vectors as wide as this are pooled activations, of which `unit_sqrt` forgets the length; of a point in the plane, as in MODES,
# the length is half of what there is to know.
POOLED = 32


def check(name: str, space: str) -> None:
    """Raise ConfigError unless `space` is one of SPACES."""
    one_of(name, space, SPACES)


def choose(space: str, shape: tuple[int, ...]) -> str:
    """What `auto` is for inputs of this shape: `unit_sqrt` for vectors of POOLED numbers or more, else `plain`."""
    if space != "auto":
        return space
    return "unit_sqrt" if len(shape) == 1 and shape[0] >= POOLED else "plain"


def encode(x: Any, space: str) -> Floats:
    """Inputs (n, *shape) -> (n, d) float32 in a chosen space."""
    flat = np.asarray(x, np.float32).reshape(len(x), math.prod(x.shape[1:]))
    return unit_sqrt(flat) if space == "unit_sqrt" else flat
