"""How often the answer is right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgecl.types import Floats, Ints


def confusion(true: Ints, predicted: Ints, k: int) -> Ints:
    """(k, k) counts: row i, column j says how many of class i were called j. A prediction of -1 ("unknown") counts nowhere."""
    out = np.zeros((k, k), np.int64)
    named = predicted >= 0
    np.add.at(out, (true[named], predicted[named]), 1)
    return out


def among_best(scores: Floats, true: Ints, top: int = 1) -> NDArray[np.bool_]:
    """Which rows of scores (n, k) have their true class, (n,), among the `top` largest, (n,).

    Of equal scores the first counts as the larger, as in argmax; a score that is no number is never among them.
    """
    if top == 1:  # most asked for, and much quicker so
        first = scores.argmax(1)
        largest = scores[np.arange(len(scores)), first]
        right: NDArray[np.bool_] = (first == true) & (largest == largest)
        return right
    y, k = true[:, None], scores.shape[1]
    own = np.take_along_axis(scores, y, 1)
    beaten = (scores < own) | ((scores == own) & (np.arange(k) > y))
    best: NDArray[np.bool_] = beaten.sum(1) >= max(k - top, 0)
    return best & ~np.isnan(own[:, 0])


def macro(values: Sequence[float]) -> float:
    """The unweighted mean over tasks, so that a task with many pictures counts like one with few."""
    return float(np.mean(values)) if len(values) else 0.0


def forgetting(after_learning: Sequence[float], at_the_end: Sequence[float]) -> float:
    """The largest loss of accuracy of any task between the moment it was learned and the end; 0 when none lost anything."""
    return max([0.0, *(a - b for a, b in zip(after_learning, at_the_end, strict=True))])


def softmax(scores: Floats) -> Floats:
    """(n, k) logits -> (n, k) probabilities."""
    weights = np.exp(scores - scores.max(1, keepdims=True))
    out: Floats = weights / weights.sum(1, keepdims=True)
    return out
