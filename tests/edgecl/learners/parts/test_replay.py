"""Who stays in a bounded memory, counted over many seeds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from edgecl.learners.parts.replay import Balanced, CoinFlip, Memory, Reservoir

RUNS, CAPACITY, N = 4000, 5, 12


def kept(make: type[Memory], **options: object) -> np.ndarray:
    """How often each of N samples is in memory at the end, (N,), as a share of the runs."""
    counts = np.zeros(N)
    for seed in range(RUNS):
        memory = make(CAPACITY, np.random.default_rng(seed), **options)
        memory.extend(np.arange(N)[:, None], np.zeros(N, np.int64))
        counts[memory.all((1,))[0][:, 0]] += 1
    return counts / RUNS


def test_reservoir_keeps_every_sample_with_the_same_probability() -> None:
    share = kept(Reservoir)
    sigma = np.sqrt(CAPACITY / N * (1 - CAPACITY / N) / RUNS)
    assert np.abs(share - CAPACITY / N).max() < 4.5 * sigma


def test_reservoir_that_counts_before_is_too_eager() -> None:
    """Sample t, the first is 0, is kept with capacity / t, and then survives t' = t+1.. with 1 - 1 / t'."""
    t = np.arange(1, N)
    expected = [min(1, CAPACITY / max(i, 1)) * np.prod(1 - 1 / t[max(i, CAPACITY - 1) :]) for i in range(N)]
    share = kept(Reservoir, counted_before=True)
    assert np.abs(share - expected).max() < 4.5 * np.sqrt(0.25 / RUNS)
    one = Reservoir(CAPACITY, np.random.default_rng(0), counted_before=True)
    one.extend(np.arange(CAPACITY + 1)[:, None], np.zeros(CAPACITY + 1, np.int64))
    assert CAPACITY in one.all((1,))[0], "the first sample that did not fit was not kept"


def test_coin_flip_forgets_exponentially() -> None:
    """Once full, the last one is there with 1/2, and each further step costs 1/2 * 1/capacity."""
    survives = 1 - 0.5 / CAPACITY
    expected = [0.5 * survives ** (N - 1 - i) if i >= CAPACITY else survives ** (N - CAPACITY) for i in range(N)]
    assert np.abs(kept(CoinFlip) - expected).max() < 4.5 * np.sqrt(0.25 / RUNS)


@pytest.mark.parametrize("order", ["sorted", "mixed"])
def test_balanced_ends_with_equal_classes(order: str) -> None:
    y = np.repeat(np.arange(6), [300, 20, 50, 5, 100, 40])
    if order == "mixed":
        y = np.random.default_rng(0).permutation(y)
    memory = Balanced(60, np.random.default_rng(1))
    memory.extend(np.zeros((len(y), 2)), y)
    counts = Counter(memory.all((2,))[1].tolist())
    assert counts[3] == 5, "the rare class lost samples"
    assert max(counts.values()) - min(n for c, n in counts.items() if c != 3) <= 2
    assert len(memory) >= 55, "greedy quotas leave no more places empty than the rare class lacks of its own"


def test_balanced_takes_a_new_class_however_small_it_is() -> None:
    """With more classes than places, the newest class has one; a class that was driven out does not come back."""
    memory = Balanced(3, np.random.default_rng(0))
    memory.extend(np.zeros((10, 1)), np.array([0, 1, 2, 3, 3, 4, 0, 1, 2, 4]))
    labels = memory.all((1,))[1].tolist()
    assert len(set(labels)) == 3 and 4 in labels


def test_what_is_drawn_is_different_and_bytes_are_those_of_the_samples() -> None:
    memory = Reservoir(10, np.random.default_rng(0))
    assert memory.nbytes == 0
    memory.extend(np.zeros((4, 7), np.uint8), np.arange(4))
    assert sorted(memory.sample(9)) == [0, 1, 2, 3] and len(memory.sample(3)) == 3
    assert memory.nbytes == 4 * (7 + 8)


def test_memory_hands_back_what_had_to_go() -> None:
    """So that a statistic can take over what a memory gives up: nothing is lost, nothing is doubled."""
    memory, gone = Reservoir(3, np.random.default_rng(0)), []
    for i in range(50):
        if (out := memory.add(np.array([i]), i)) is not None:
            gone.append(out[1])
            assert int(out[0][0]) == out[1]
    assert sorted(gone + memory.all((1,))[1].tolist()) == list(range(50))
