"""A bounded, class-balanced sample of what has passed."""

from __future__ import annotations

import numpy as np
import pytest

from edgecl.heads.parts.reservoir import Reservoir


def filled(labels: list[int], capacity: int = 12, seed: int = 0) -> Reservoir:
    sample = Reservoir(2, capacity, seed)
    for i, label in enumerate(labels):
        sample.offer(np.float32([i, label]), label)
    return sample


def test_all_rows_are_in_it_while_there_is_room() -> None:
    features, labels, numbers = filled([0, 1, 0, 2]).rows()
    assert features.tolist() == [[0, 0], [1, 1], [2, 0], [3, 2]]
    assert labels.tolist() == [0, 1, 0, 2] and numbers.tolist() == [0, 1, 2, 3]


def test_classes_have_the_same_room_also_those_that_come_late() -> None:
    labels = filled([0] * 100 + [1] * 50 + [2] * 4).rows()[1]
    assert np.bincount(labels).tolist() == [4, 4, 4]


def test_every_row_of_a_class_is_as_likely_to_stay() -> None:
    stayed = np.zeros(40)
    for seed in range(600):
        stayed[filled([0] * 40, 10, seed).rows()[2]] += 1
    # 600 x 10 / 40 = 150 each, with a standard deviation of 10.6
    assert np.abs(stayed - 150).max() < 5 * 10.6


@pytest.mark.parametrize("cut", [0, 7, 30, 49])
def test_it_goes_on_from_its_state_to_the_same_rows(cut: int) -> None:
    labels = [int(c) for c in np.random.default_rng(5).integers(4, size=60)]
    whole = filled(labels)
    part = Reservoir.resume(2, 12, 0, filled(labels[:cut]).state())
    for i in range(cut, 60):
        part.offer(np.float32([i, labels[i]]), labels[i])
    assert all(np.array_equal(a, part.state()[name]) for name, a in whole.state().items())


def test_a_row_beyond_what_float16_holds_stays_finite() -> None:
    sample = Reservoir(1, 4, 0)
    sample.offer(np.float32([1e9]), 0)
    assert np.isfinite(sample.rows()[0]).all()
