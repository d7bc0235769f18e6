"""Whether two pictures show the same: how often a threshold on their similarity is right, cross-validated.

Huang et al., Labeled faces in the wild, 2007: ten folds, the threshold for each chosen on the other nine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import DataError
from edgecl.types import Floats

FOLDS = 10


def similarity(features: Floats) -> Floats:
    """(m,) cosines of features (2 m, d), pair after pair."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(length, 1e-12)
    return np.asarray(np.einsum("nd,nd->n", unit[::2], unit[1::2]))


def accuracy(similar: Floats, same: NDArray[Any], folds: int = FOLDS) -> float:
    """The mean over the folds of the share of pairs that are judged rightly.

    similar: (m,), the more alike the larger.   same: (m,) bool.   Folds are stretches of the pairs in their order; with fewer
    pairs than folds, one fold a pair.   Raises DataError for fewer than two pairs.
    """
    if len(similar) < 2:
        raise DataError(f"verification needs 2 pairs or more, one to choose the threshold by; there are {len(similar)}")
    right = []
    for fold in np.array_split(np.arange(len(similar)), min(folds, len(similar))):
        others = np.setdiff1d(np.arange(len(similar)), fold)
        limit = threshold(similar[others], same[others])
        right.append(float(np.mean((similar[fold] > limit) == same[fold])))
    return float(np.mean(right))


def threshold(similar: Floats, same: NDArray[Any]) -> float:
    """The limit above which pairs count as the same that is right about most of them; of equals the lowest.

    It lies half way between two neighbours, or below all.
    """
    order = np.argsort(similar, kind="stable")
    values, is_same = similar[order], same[order]
    # With the limit above the first i values: these are called different, the rest the same.
    right = np.concatenate([[0], np.cumsum(~is_same)]) + is_same.sum() - np.concatenate([[0], np.cumsum(is_same)])
    possible = np.concatenate([[True], values[1:] > values[:-1], [True]])
    best = int(np.argmax(np.where(possible, right, -1)))
    if best == 0:
        return float(values[0] - 1)
    return float(values[-1]) if best == len(values) else float((values[best - 1] + values[best]) / 2)
