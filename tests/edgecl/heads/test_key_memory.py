"""Keys and the scatter around them, one row at a time, against the same computed from all rows at once."""

from __future__ import annotations

import numpy as np
import pytest

from edgecl.heads.parts.key_memory import KeyMemory


def rows(n: int = 300, d: int = 7, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(k, size=n)
    return (rng.normal(size=(k, d))[y] + rng.normal(size=(n, d))).astype(np.float32), y


def two_places(per: int = 60, places: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Places on a circle, one after another, of two classes in turn: each mean lies in the middle of all."""
    rng = np.random.default_rng(1)
    angles = np.linspace(0, 2 * np.pi, places, endpoint=False)
    centres = 3 * np.stack([np.cos(angles), np.sin(angles)], 1)
    z = np.concatenate([c + 0.2 * rng.normal(size=(per, 2)) for c in centres]).astype(np.float32)
    return z, np.repeat(np.arange(places) % 2, per)


def taught(z: np.ndarray, y: np.ndarray, limit: int = 1) -> KeyMemory:
    memory = KeyMemory(z.shape[1], limit)
    for row, label in zip(z, y, strict=True):
        memory.observe(row, int(label))
    return memory


@pytest.mark.parametrize("n", [5, 63, 67, 68, 130, 300])  # before, at and between the moments at which residuals enter
@pytest.mark.parametrize("d", [1, 7, 100])
def test_keys_are_class_means_and_the_scatter_is_what_lies_around_them(n: int, d: int) -> None:
    z, y = rows(n, d)
    memory = taught(z, y)
    for key, (owner, wins) in enumerate(zip(memory.owner, memory.wins, strict=True)):
        assert wins == (y == owner).sum()
        np.testing.assert_allclose(memory.keys[key], z[y == owner].mean(0), atol=1e-5)
    residuals = np.concatenate([z[y == c] - z[y == c].mean(0) for c in range(3)]).astype(np.float64)
    np.testing.assert_allclose(memory.scatter(), residuals.T @ residuals, atol=1e-3)


def test_a_class_in_two_places_gets_a_key_for_each() -> None:
    memory = taught(*two_places(), limit=4)
    assert memory.owner == [0, 1, 0, 1] and memory.written == 2
    np.testing.assert_allclose(memory.keys, [[3, 0], [0, 3], [-3, 0], [0, -3]], atol=0.15)


def test_a_class_in_one_place_keeps_one_key() -> None:
    z, y = rows(2000, 20, 5)
    assert len(taught(z, y, limit=8).owner) < 8  # of five classes


def test_a_class_never_has_more_keys_than_the_limit() -> None:
    z, y = two_places(places=10)
    assert max(taught(z, y, 3).owner.count(c) for c in (0, 1)) == 3
    assert max(taught(z, y, 8).owner.count(c) for c in (0, 1)) == 5


def test_only_the_winner_moves() -> None:
    memory = taught(*two_places(), limit=4)
    before = memory.keys.copy()
    memory.observe(np.float32([-2.9, 0.1]), 0)
    moved = (memory.keys != before).any(1)
    assert moved.tolist() == [False, False, True, False]


@pytest.mark.parametrize("cut", [0, 1, 64, 66, 67, 100, 131, 200])
def test_it_goes_on_from_its_state_to_the_same_bits(cut: int) -> None:
    z, y = two_places()
    order = np.random.default_rng(3).permutation(len(y))
    z, y = z[order], y[order]
    whole, first = taught(z, y, 4), taught(z[:cut], y[:cut], 4)
    second = KeyMemory.resume(2, 4, {name: value.copy() for name, value in first.state().items()})
    for row, label in zip(z[cut:], y[cut:], strict=True):
        second.observe(row, int(label))
    for name, value in whole.state().items():
        assert np.array_equal(value, second.state()[name]), name
    assert np.array_equal(whole.scatter(), second.scatter())


def test_what_it_must_keep_does_not_grow_with_the_pictures() -> None:
    z, y = rows(4000, 7)
    assert taught(z, y).nbytes() == taught(z[:500], y[:500]).nbytes()
