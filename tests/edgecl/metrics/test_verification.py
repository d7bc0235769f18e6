"""Telling pairs apart: the threshold comes from other pairs than those that are judged."""

from __future__ import annotations

import numpy as np
import pytest

from edgecl.errors import DataError
from edgecl.metrics import verification


def test_similarity_is_the_cosine_of_neighbours() -> None:
    features = np.array([[1, 0], [2, 0], [0, 3], [1, 0], [1, 1], [-1, -1]], np.float32)
    np.testing.assert_allclose(verification.similarity(features), [1, 0, -1], atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_the_best_of_all_that_there_are(seed: int) -> None:
    draw = np.random.default_rng(seed)
    similar, same = draw.integers(0, 6, 30) / 5, draw.random(30) < 0.5
    chosen = float(np.mean((similar > verification.threshold(similar, same)) == same))
    assert chosen == max(float(np.mean((similar > limit) == same)) for limit in np.arange(-0.1, 1.2, 0.2))


def test_what_separates_in_nine_folds_is_held_against_the_tenth() -> None:
    same = np.tile([True, False], 50)
    similar = np.where(same, 0.8, 0.2)
    assert verification.accuracy(similar, same) == 1
    similar[:10] = np.where(same[:10], 0.2, 0.8)  # one fold is the other way round: the other nine cannot know
    assert verification.accuracy(similar, same) == pytest.approx(0.9)


def test_no_pair_to_choose_by_is_an_error() -> None:
    with pytest.raises(DataError, match="2 pairs"):
        verification.accuracy(np.array([0.5]), np.array([True]))
