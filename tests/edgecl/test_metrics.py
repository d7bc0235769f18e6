"""Metrics against values computed another way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, roc_auc_score

from edgecl.metrics.accuracy import confusion, forgetting, macro, softmax
from edgecl.metrics.calibration import expected_calibration_error, reliability
from edgecl.metrics.detection import auroc, roc

LEVELS = st.lists(st.integers(0, 6), min_size=1, max_size=40)  # few levels, so that there are ties


@given(LEVELS, LEVELS)
def test_auroc_equals_sklearns_ties_included(known: list[int], unknown: list[int]) -> None:
    expected = roc_auc_score([0] * len(known) + [1] * len(unknown), known + unknown)
    assert auroc(np.array(known, np.float32), np.array(unknown, np.float32)) == pytest.approx(expected, abs=1e-12)


@given(LEVELS, LEVELS)
def test_auroc_is_the_share_of_pairs_in_order(known: list[int], unknown: list[int]) -> None:
    pairs = [(u > k) + (u == k) / 2 for k in known for u in unknown]
    assert auroc(np.array(known, np.float32), np.array(unknown, np.float32)) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_roc_goes_from_corner_to_corner_and_never_back() -> None:
    rejected, caught = roc(np.array([0.1, 0.5, 0.5], np.float32), np.array([0.5, 0.9], np.float32))
    assert (rejected[0], caught[0], rejected[-1], caught[-1]) == (0, 0, 1, 1)
    assert (np.diff(rejected) >= 0).all() and (np.diff(caught) >= 0).all()
    assert list(zip(rejected.tolist(), caught.tolist(), strict=True))[1:3] == [(0, 0.5), (pytest.approx(2 / 3), 1)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=50))
def test_confusion_equals_sklearns(pairs: list[tuple[int, int]]) -> None:
    true, predicted = np.array(pairs, np.int64).T
    assert np.array_equal(confusion(true, predicted, 4), confusion_matrix(true, predicted, labels=range(4)))


def test_confusion_leaves_unknown_answers_out() -> None:
    assert confusion(np.array([0, 1, 1]), np.array([0, -1, 0]), 2).tolist() == [[1, 0], [1, 0]]
    assert confusion(np.array([], np.int64), np.array([], np.int64), 2).sum() == 0


def test_expected_calibration_error_of_known_cases() -> None:
    assert expected_calibration_error(np.ones(10, np.float32), np.ones(10, bool)) == 0
    assert expected_calibration_error(np.ones(10, np.float32), np.zeros(10, bool)) == 1
    assert expected_calibration_error(np.full(10, 0.8, np.float32), np.arange(10) < 8) == pytest.approx(0, abs=1e-6)
    assert expected_calibration_error(np.full(10, 0.8, np.float32), np.arange(10) < 5) == pytest.approx(0.3, abs=1e-6)
    # two bins: 4 answers at 0.6, half right; 6 at 0.9, all right -> 0.4 * 0.1 + 0.6 * 0.1
    confidence, correct = np.repeat([0.6, 0.9], [4, 6]).astype(np.float32), np.array([1, 1, 0, 0] + [1] * 6, bool)
    assert expected_calibration_error(confidence, correct) == pytest.approx(0.1, abs=1e-6)
    assert expected_calibration_error(np.zeros(0, np.float32), np.zeros(0, bool)) == 0


def test_over_and_under_confidence_in_one_bin_do_not_hide_in_another() -> None:
    confidence, correct = np.repeat([0.1, 0.9], 10).astype(np.float32), np.repeat([True, False], 10)
    assert expected_calibration_error(confidence, correct) == pytest.approx(0.9, abs=1e-6)


def test_reliability_puts_the_ends_into_the_outer_bins() -> None:
    mean, accuracy, count = reliability(np.array([0, 1, 1], np.float32), np.array([False, True, False]), 4)
    assert count.tolist() == [1, 0, 0, 2] and mean.tolist() == [0, 0, 0, 1] and accuracy.tolist() == [0, 0, 0, 0.5]


def test_forgetting_is_the_largest_loss_and_zero_without_one() -> None:
    assert forgetting([0.9, 0.8, 0.7], [0.9, 0.6, 0.6]) == pytest.approx(0.2)
    assert forgetting([0.5, 0.5], [0.5, 0.5]) == 0
    assert forgetting([], []) == 0
    assert forgetting([0.5, 0.5], [0.6, 0.7]) == 0, "a gain everywhere is no negative forgetting"
    with pytest.raises(ValueError, match="argument"):
        forgetting([0.5], [])


def test_macro_counts_tasks_not_pictures() -> None:
    assert macro([1.0, 0.0, 0.5]) == 0.5 and macro([]) == 0


def test_softmax_stands_large_logits_and_sums_to_one() -> None:
    p = softmax(np.array([[1e4, 0, -1e4], [0, 0, 0], [-1e30, 1e30, 0]], np.float32))
    assert np.isfinite(p).all() and np.allclose(p.sum(1), 1) and p[0, 0] == 1 and np.allclose(p[1], 1 / 3)
