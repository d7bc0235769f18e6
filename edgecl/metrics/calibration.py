"""Does "90 % sure" mean right nine times in ten?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecl.types import Floats


def reliability(confidence: Floats, correct: NDArray[np.bool_], bins: int = 15) -> tuple[NDArray[np.float64], ...]:
    """Mean confidence, accuracy and count (bins,) of the answers in equal steps of confidence; empty bins hold zeros."""
    index = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    count = np.bincount(index, minlength=bins).astype(np.float64)
    some = np.maximum(count, 1)
    return np.bincount(index, confidence, bins) / some, np.bincount(index, correct, bins) / some, count


def expected_calibration_error(confidence: Floats, correct: NDArray[np.bool_], bins: int = 15) -> float:
    """Mean |confidence - accuracy| over the answers, binned (Guo et al., On Calibration of Modern Neural Networks, 2017)."""
    mean, accuracy, count = reliability(confidence, correct, bins)
    return float((count * np.abs(mean - accuracy)).sum() / max(count.sum(), 1))
