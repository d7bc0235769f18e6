"""The algebra of masks against hand-made values and slower ways to the same result."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecl.errors import BundleError, ConfigError
from edgecl.heads.parts import masks

MIB = 1 << 20


def a_layer(seed: int = 0, tasks: int = 3, shape: tuple[int, ...] = (8, 4, 3, 3)) -> tuple[masks.Floats, masks.Owners]:
    draw = np.random.default_rng(seed)
    return draw.normal(size=shape).astype(np.float32), draw.integers(0, tasks + 1, shape).astype(np.uint8)


def test_the_threshold_is_strict() -> None:
    at = np.float32(masks.TAU)
    scores = np.array([at, np.nextafter(at, np.float32(1)), -1, 0, masks.FIRST_SCORE], np.float32)
    assert masks.picked(scores).tolist() == [False, True, False, False, True]
    assert masks.ternary(scores).tolist() == [0, 1, -1, 0, 1]


def test_a_task_uses_its_own_and_what_it_picks_of_older_ones() -> None:
    owner = np.array([0, 1, 1, 2, 2, 3], np.uint8)
    picks = np.array([1, 1, 0, 0, 1, 1], bool)
    assert masks.used(owner, 2, picks).tolist() == [False, True, False, True, True, False]
    assert masks.used(owner, 2).tolist() == [False, True, True, True, True, False]
    assert masks.used(owner, 1, picks).tolist() == [False, True, True, False, False, False]


def test_effective_weights_are_a_copy() -> None:
    weight, owner = a_layer()
    before = weight.tobytes()
    found = masks.effective(weight, masks.used(owner, 2))
    assert weight.tobytes() == before and not np.shares_memory(found, weight)
    assert (found[(owner == 0) | (owner > 2)] == 0).all() and (found[owner == 2] == weight[owner == 2]).all()


def test_the_schedule_has_the_published_values() -> None:
    published = {10: 0.0091964, 20: 0.0178110, 100: 0.0680626, 200: 0.0950533, 310: 0.0999993}
    for step, value in published.items():
        assert masks.rate(step, 316, 0.0, 0.1) == pytest.approx(value, abs=5e-8)
        assert masks.rate(step, 316, 0.1, 0.2) == pytest.approx(value + 0.1, abs=5e-8)
    assert masks.events(316, 10) == [c for c in range(317) if c and c % 10 == 0] and len(masks.events(316, 10)) == 31


@pytest.mark.parametrize("own_pool", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.37, 0.95])
def test_pruning_gives_back_the_smallest(share: float, own_pool: bool) -> None:
    weight, owner = a_layer()
    after = masks.prune(weight, owner, 3, share, own_pool=own_pool)
    pool = [(abs(w), o) for w, o in zip(weight.ravel(), owner.ravel(), strict=True) if o == 3 or (o == 0 and not own_pool)]
    cut = sorted(pool)[round(share * len(pool)) - 1][0]
    expected = [0 if o == 3 and abs(w) <= cut else o for w, o in zip(weight.ravel(), owner.ravel(), strict=True)]
    assert after.ravel().tolist() == expected


def test_free_places_count_in_the_pool() -> None:
    """Half of the space: what is free already is part of it, so a task that owns a half loses nothing more."""
    weight = np.array([0, 0, 0, 0, 1, 2, 3, 4], np.float32)
    owner = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.uint8)
    assert (masks.prune(weight, owner, 1, 0.5) == owner).all()
    assert masks.prune(weight, owner, 1, 0.75).tolist() == [0, 0, 0, 0, 0, 0, 1, 1]


def test_ties_go_together() -> None:
    """Weights that were never touched since their release are all 0: half of them cannot be chosen."""
    weight, owner = np.array([0, 0, 0, 5], np.float32), np.ones(4, np.uint8)
    assert masks.prune(weight, owner, 1, 0.25).tolist() == [0, 0, 0, 1]


def test_a_layer_too_small_for_the_rate_is_left() -> None:
    weight, owner = np.ones(4, np.float32), np.ones(4, np.uint8)
    assert masks.prune(weight, owner, 1, 0.1).tolist() == [1, 1, 1, 1]
    assert masks.prune(weight[:0], owner[:0], 1, 0.9).size == 0


def test_the_level_is_the_largest_that_meets_the_goal() -> None:
    records = {0.0: 0.80, 0.1: 0.81, 0.2: 0.79, 0.3: 0.80, 0.4: 0.70}
    assert masks.choose_level(records, 0.80, at_cap=False) == 0.3
    assert masks.choose_level(records, 0.85, at_cap=False) == 0.0
    assert masks.choose_level(records, 0.85, at_cap=True) == 0.4


def test_accuracies_as_ratios_of_counts_meet_decimal_goals() -> None:
    """410 of 500 is 0.82; as a float32 mean it would not be."""
    for total in (500, 2500, 777):
        for correct in range(total + 1):
            if correct * 100 % total == 0:
                goal = float(f"{correct * 100 // total / 100:.2f}")
                assert masks.choose_level({0.1: correct / total}, goal, at_cap=False) == 0.1
    assert float(np.float32(0.82)) < 0.82


def test_the_at_cap_rule_has_the_published_table() -> None:
    table = {**dict.fromkeys(range(1, 15), 0.9), **dict.fromkeys((15, 16, 17), 0.8), 18: 0.7, 19: 0.5, 20: 0.0}
    assert {t: masks.must_free(t, 20) for t in range(1, 21)} == table


def test_growing_keeps_the_leading_corner() -> None:
    small, large = np.arange(6.0).reshape(2, 3), np.full((4, 4), -1.0)
    out = masks.grown(small, large)
    assert (out[:2, :3] == small).all() and (out == -1).sum() == 10 and (large == -1).all()
    assert (masks.corner(out, (2, 3)) == small).all()
    with pytest.raises(ConfigError, match="only adds"):
        masks.grown(large, small)
    with pytest.raises(ConfigError, match="no leading corner"):
        masks.corner(small, (4, 4))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 70), st.integers(1, 255))
def test_packing_loses_nothing_and_has_its_exact_size(seed: int, n: int, tasks: int) -> None:
    draw = np.random.default_rng(seed)
    bits, owner = draw.integers(0, 2, (n, 1)).astype(bool), draw.integers(0, tasks + 1, (1, n)).astype(np.uint8)
    packed, owners = masks.pack_bits(bits), masks.pack_owners(owner, tasks)
    assert (masks.unpack_bits(packed, bits.shape) == bits).all() and packed.nbytes == math.ceil(n / 8)
    assert (masks.unpack_owners(owners, owner.shape, tasks) == owner).all()
    assert owners.nbytes == math.ceil(n * math.ceil(math.log2(tasks + 1)) / 8)


def test_twenty_tasks_take_five_bits() -> None:
    assert [masks.owner_width(t) for t in (1, 2, 3, 4, 7, 8, 20, 255)] == [1, 2, 2, 3, 3, 4, 5, 8]
    with pytest.raises(ConfigError, match="1 to 255"):
        masks.owner_width(256)


def test_what_is_no_packed_array_is_refused() -> None:
    bits, owner = np.ones((3, 3), bool), np.full((3, 3), 2, np.uint8)
    packed, owners = masks.pack_bits(bits), masks.pack_owners(owner, 2)
    for bad in (packed[:-1], packed.astype(np.int8), packed.reshape(1, -1), packed | 1):
        with pytest.raises(BundleError):
            masks.unpack_bits(bad, (3, 3))
    for bad in (owners[:-1], owners | 1, np.full_like(owners, 0b11111111)):
        with pytest.raises(BundleError):
            masks.unpack_owners(bad, (3, 3), 2)
    with pytest.raises(ConfigError, match="names task 2"):
        masks.pack_owners(owner, 1)


def test_storage_has_the_published_sizes() -> None:
    """ResNet-50 with six tasks, in MiB, to 0.01."""
    weights, norm, heads = 23_454_912, 4 * 26_560, 3_981_207
    private = 6 * norm + heads
    assert (6 * 4 * (weights + norm) + 4 * heads) / MIB == pytest.approx(554.46, abs=0.01)
    assert masks.stored_bytes(weights, private) / MIB == pytest.approx(107.09, abs=0.01)
    assert masks.stored_bytes(weights, private, owners=6) / MIB == pytest.approx(115.48, abs=0.01)
    assert masks.stored_bytes(weights, private, masks=5) / MIB == pytest.approx(121.07, abs=0.01)


def test_what_is_left_and_what_is_shared() -> None:
    owners = [np.array([0, 1, 1, 2], np.uint8), np.array([0, 0, 1, 2, 2, 3], np.uint8)]
    assert masks.leftover(owners, 1.5) == pytest.approx(3 / 10 * 1.5)
    picks = [np.array([1, 1, 0, 1], bool), np.array([1, 1, 1, 0, 1, 1], bool)]
    assert masks.shared_share(owners, picks, 3) == pytest.approx(4 / 6)
    assert math.isnan(masks.shared_share(owners, picks, 1))
