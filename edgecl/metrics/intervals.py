"""How sure a mean over few repetitions is: Student's t interval, exact for whole degrees of freedom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.95
_HALVINGS = 200  # of the search for a quantile: down to neighbouring floats, from any start


@dataclass(frozen=True)
class Interval:
    """A mean with what is known about it.

    std: of the repetitions, by n - 1.   low, high: the true mean lies between them in `LEVEL` of all such experiments, if the
    repetitions are independent and about normal.   All three are None for a single repetition, which says nothing about spread.
    """

    mean: float
    n: int
    std: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def half(self) -> float | None:
        """Half its width."""
        return None if self.high is None else self.high - self.mean

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if self.half is None else f"{self.mean:.3f} ± {self.half:.3f}"


def interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean of independent repetitions and its two-sided confidence interval (Student, The probable error of a mean, 1908).

    Raises ValueError for no values.
    """
    n = len(values)
    if not n:
        raise ValueError("no interval of no values")
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, 1)
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = quantile((1 + level) / 2, n - 1) * std / math.sqrt(n)
    return Interval(mean, n, std, mean - half, mean + half)


def quantile(p: float, df: int) -> float:
    """The t below which a share `p` of Student's distribution with `df` degrees of freedom lies; 0 < p < 1, df >= 1."""
    if not (0 < p < 1 and df >= 1):
        raise ValueError(f"a quantile needs 0 < p < 1 and df >= 1, got p={p} and df={df}")
    if p < 0.5:
        return -quantile(1 - p, df)
    low, high = 0.0, 1.0
    while _within(high, df) < 2 * p - 1:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, df) < 2 * p - 1 else (low, middle)
    return (low + high) / 2


def _within(t: float, df: int) -> float:
    """Share of the distribution between -t and t (Abramowitz and Stegun, 26.7.3 and 26.7.4): a finite sum."""
    angle = math.atan(t / math.sqrt(df))
    cosine, sine = math.cos(angle), math.sin(angle)
    first = 0 if df % 2 == 0 else 1
    term, total = (1.0, 1.0) if first == 0 else (cosine, cosine)
    for power in range(first + 2, df - 1, 2):
        term *= cosine**2 * (power - 1) / power
        total += term
    if first == 0:
        return sine * total
    return 2 / math.pi * (angle + sine * total) if df > 1 else 2 / math.pi * angle
