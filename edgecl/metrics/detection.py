"""Telling known from unknown: curves over every threshold at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecl.types import Floats


def roc(known: Floats, unknown: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False-reject rate of the known and catch rate of the unknown, at every threshold, from (0, 0) to (1, 1).

    known, unknown: strangeness of pictures of known and of unknown tasks; larger is stranger. Ties share one point.
    """
    values = np.concatenate([known, unknown])
    order = np.argsort(-values, kind="stable")
    is_unknown = np.concatenate([np.zeros(len(known)), np.ones(len(unknown))])[order]
    ranked = values[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), np.arange(len(ranked))[-1:])
    caught, rejected = np.cumsum(is_unknown)[last], np.cumsum(1 - is_unknown)[last]
    return np.insert(rejected / max(len(known), 1), 0, 0.0), np.insert(caught / max(len(unknown), 1), 0, 0.0)


def auroc(known: Floats, unknown: Floats) -> float:
    """Probability that an unknown picture is stranger than a known one; ties count half. 0.5 is chance."""
    rejected, caught = roc(known, unknown)
    return float(((caught[1:] + caught[:-1]) / 2 * np.diff(rejected)).sum())
