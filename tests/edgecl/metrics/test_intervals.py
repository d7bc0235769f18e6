"""Intervals against printed tables, another library, and what "95 %" means."""

from __future__ import annotations

import numpy as np
import pytest

from edgecl.metrics.intervals import Interval, interval, quantile

# Two-sided 95 % and 99 %, as in any printed table of Student's t.
TABLE = {1: (12.706, 63.657), 2: (4.303, 9.925), 3: (3.182, 5.841), 4: (2.776, 4.604), 9: (2.262, 3.250), 30: (2.042, 2.750)}


@pytest.mark.parametrize("df", TABLE)
def test_quantiles_are_those_of_the_table(df: int) -> None:
    assert (round(quantile(0.975, df), 3), round(quantile(0.995, df), 3)) == TABLE[df]


@pytest.mark.parametrize("df", [1, 2, 5, 8, 119, 1000])
@pytest.mark.parametrize("p", [1e-3, 0.2, 0.5, 0.9, 0.9995])
def test_quantiles_are_scipys(df: int, p: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-9, abs=1e-12)


def test_an_interval_by_hand() -> None:
    # mean 2, deviations -1 0 1: std 1, standard error 1/sqrt(3), t(2) = 4.3027
    found = interval([1.0, 2.0, 3.0])
    assert (found.mean, found.n, found.std) == (2, 3, 1)
    assert found.half == pytest.approx(4.3027 / 3**0.5, abs=1e-4)
    assert str(found) == "2.000 ± 2.484"


def test_one_repetition_has_no_interval() -> None:
    assert interval([0.7]) == Interval(0.7, 1)
    assert str(interval([0.7])) == "0.700"


def test_equal_repetitions_have_an_interval_of_no_width() -> None:
    assert interval([0.5, 0.5]) == Interval(0.5, 2, 0, 0.5, 0.5)


def test_no_values_are_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        interval([])


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    rows = np.random.default_rng(0).normal(3.0, 2.0, (4000, 4))
    half = quantile(0.975, 3) * rows.std(1, ddof=1) / 2
    assert (abs(rows.mean(1) - 3) <= half).mean() == pytest.approx(0.95, abs=0.01)
