"""Every figure of an accuracy matrix, by hand and by the sums of its paper written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecl.metrics import continual
from edgecl.metrics.accuracy import among_best

R = np.array([[0.9, 0.3, 0.1], [0.6, 0.8, 0.2], [0.5, 0.9, 0.7]])
COUNTS = np.array([10, 30, 60])
ONE = np.array([[0.4]])


def test_by_hand() -> None:
    assert continual.average_accuracy(R) == pytest.approx((0.5 + 0.9 + 0.7) / 3)
    # best earlier: .9 and .8; at the end .5 and .9, so +.4 and -.1
    assert continual.average_forgetting(R) == pytest.approx((0.4 - 0.1) / 2)
    assert continual.backward_transfer(R) == pytest.approx((0.5 - 0.9 + 0.9 - 0.8) / 2)
    # later rows against the diagonal: .6-.9, .5-.9, .9-.8: a loss on the whole, so 0
    assert continual.positive_backward_transfer(R) == 0
    assert continual.forward_accuracy(R) == pytest.approx((0.3 + 0.1 + 0.2) / 3)
    # just before each is learned: .3 and .2, an untrained one gives .25 each
    assert continual.forward_transfer(R, np.full(3, 0.25)) == pytest.approx((0.05 - 0.05) / 2)
    assert continual.last_accuracy(R, COUNTS) == pytest.approx((5 + 27 + 42) / 100)
    assert continual.average_incremental_accuracy(R, COUNTS) == pytest.approx((9 / 10 + (6 + 24) / 40 + 74 / 100) / 3)


def test_what_was_known_before_it_was_learned_can_be_forgotten() -> None:
    """The best earlier row counts from the first on, as the specification of the memory head has it."""
    r = np.array([[0.5, 0.9, 0.0], [0.5, 0.6, 0.0], [0.5, 0.6, 0.0]])
    assert continual.average_forgetting(r) == pytest.approx((0 + 0.3) / 2)


def test_one_experience_has_nothing_to_forget_or_to_transfer() -> None:
    assert continual.average_accuracy(ONE) == continual.last_accuracy(ONE, np.array([7])) == 0.4
    assert continual.average_incremental_accuracy(ONE, np.array([7])) == 0.4
    for nothing in (continual.average_forgetting, continual.backward_transfer, continual.positive_backward_transfer):
        assert nothing(ONE) == 0
    assert continual.forward_accuracy(ONE) == continual.forward_transfer(ONE, np.array([0.1])) == 0


@given(st.integers(2, 6), st.integers(0, 10**6))
def test_the_papers_sums_written_out(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    r, untrained = rng.random((n, n)), rng.random(n)
    pairs = n * (n - 1)
    lost = [max(r[i, j] for i in range(n - 1)) - r[n - 1, j] for j in range(n - 1)]
    assert continual.average_forgetting(r) == pytest.approx(sum(lost) / (n - 1))
    gained = 2 / pairs * sum(r[i, j] - r[j, j] for i in range(n) for j in range(i))
    assert continual.positive_backward_transfer(r) == pytest.approx(max(0, gained))
    assert continual.forward_accuracy(r) == pytest.approx(2 / pairs * sum(r[i, j] for j in range(n) for i in range(j)))
    assert continual.backward_transfer(r) == pytest.approx(sum(r[n - 1, j] - r[j, j] for j in range(n - 1)) / (n - 1))
    ahead = sum(r[j - 1, j] - untrained[j] for j in range(1, n)) / (n - 1)
    assert continual.forward_transfer(r, untrained) == pytest.approx(ahead)


def test_the_area_counts_samples_and_anytime_counts_looks() -> None:
    curve = np.array([[0, 0.0], [10, 1.0], [30, 1.0]])
    assert continual.learning_curve_area(curve) == pytest.approx((10 * 0.5 + 20 * 1.0) / 30)
    assert continual.anytime_accuracy(curve) == pytest.approx(2 / 3)
    dense = np.interp(np.arange(31), *curve.T)
    assert continual.learning_curve_area(curve) == pytest.approx(((dense[1:] + dense[:-1]) / 2).mean())


def test_a_single_look_is_its_own_curve() -> None:
    assert continual.learning_curve_area(np.array([[5, 0.3]])) == continual.anytime_accuracy(np.array([[5, 0.3]])) == 0.3


@given(st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=20), st.integers(1, 7))
def test_among_the_best_is_a_sorts_head_ties_by_number(rows: list[list[int]], top: int) -> None:
    scores = np.array(rows, np.float32)
    true = np.arange(len(rows)) % 5
    expected = [y in sorted(range(5), key=lambda j, row=row: (-row[j], j))[:top] for y, row in zip(true, rows, strict=True)]
    assert among_best(scores, true, top).tolist() == expected
    if top == 1:
        assert expected == (scores.argmax(1) == true).tolist()


def test_a_score_that_is_no_number_is_never_right() -> None:
    scores = np.array([[np.nan, 1, 0], [np.nan, np.nan, np.nan], [0, 1, np.nan]], np.float32)
    assert among_best(scores, np.array([0, 0, 1]), 3).tolist() == [False, False, True]
    assert among_best(scores, np.array([1, 0, 1])).tolist() == [False, False, False]
