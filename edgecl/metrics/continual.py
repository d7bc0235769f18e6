"""What an accuracy matrix says: R[i, j] is the accuracy on experience j after learning experience i; (N, N) throughout.

Pure functions; each names its paper. Rows before an experience was learned count where the paper counts them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def average_accuracy(r: Matrix) -> float:
    """Mean of the last row: what is left at the end, each experience counting alike (Lopez-Paz and Ranzato, GEM, 2017)."""
    return float(r[-1].mean())


def average_forgetting(r: Matrix) -> float:
    """Mean over all experiences but the last of what was lost from the best earlier row; 0 for one experience.

    The best is over all earlier rows, also those before the experience was learned (Chaudhry et al., Riemannian walk, 2018).
    """
    return float((r[:-1, :-1].max(0) - r[-1, :-1]).mean()) if len(r) > 1 else 0.0


def backward_transfer(r: Matrix) -> float:
    """Mean change of an experience's accuracy from just after it was learned to the end; below 0 is forgetting (GEM, 2017)."""
    return float((r[-1, :-1] - np.diag(r)[:-1]).mean()) if len(r) > 1 else 0.0


def positive_backward_transfer(r: Matrix) -> float:
    """Mean gain over all later rows, where it is a gain, else 0 (Diaz-Rodriguez et al., Don't forget, there is more, 2018)."""
    if len(r) == 1:
        return 0.0
    rows, columns = np.tril_indices(len(r), -1)
    return max(0.0, float((r[rows, columns] - r[columns, columns]).mean()))


def forward_accuracy(r: Matrix) -> float:
    """Mean accuracy on experiences that have not come yet, chance not taken off (Diaz-Rodriguez et al., 2018); 0 for one."""
    return float(r[np.triu_indices(len(r), 1)].mean()) if len(r) > 1 else 0.0


def forward_transfer(r: Matrix, untrained: NDArray[Any]) -> float:
    """Mean gain over an untrained learner, (N,), on each experience just before it is learned (GEM, 2017); 0 for one."""
    return float((np.diag(r, 1) - np.asarray(untrained)[1:]).mean()) if len(r) > 1 else 0.0


def average_incremental_accuracy(r: Matrix, counts: NDArray[Any]) -> float:
    """Mean over the rows of the accuracy on all experiences so far, by samples (Rebuffi et al., iCaRL, 2017).

    counts: (N,) test samples of each experience.
    """
    return float(np.mean([np.average(r[i, : i + 1], weights=counts[: i + 1]) for i in range(len(r))]))


def last_accuracy(r: Matrix, counts: NDArray[Any]) -> float:
    """Accuracy at the end on the test samples of all experiences, counts (N,) of them: large experiences count more."""
    return float(np.average(r[-1], weights=counts))


def learning_curve_area(curve: NDArray[Any]) -> float:
    """Mean height of the curve (m, 2) of samples seen and accuracy, by the trapezoid rule (Chaudhry et al., A-GEM, 2019).

    From the first point to the last; a single point gives its own height.
    """
    seen, accuracy = np.asarray(curve, np.float64).T
    if len(seen) == 1:
        return float(accuracy[0])
    return float(((accuracy[1:] + accuracy[:-1]) / 2 * np.diff(seen)).sum() / (seen[-1] - seen[0]))


def anytime_accuracy(curve: NDArray[Any]) -> float:
    """Mean accuracy over the points of the curve (m, 2): at a random moment (Caccia et al., New insights on reducing, 2022)."""
    return float(np.asarray(curve, np.float64)[:, 1].mean())
