"""Masks over shared weights: who owns a weight, which task uses it, what is pruned, and how little all that takes to store.

Pure functions of NumPy arrays, one layer at a time; none writes into what it is given. An owner map (uint8, of the weights'
shape) says for each weight 0, free, or which task, counted from 1, trained it. A task uses its own weights and those of earlier
tasks that it picks.
Hung et al., Compacting, Picking and Growing for Unforgetting Continual Learning, NeurIPS 2019; pruning by magnitude as in
Mallya and Lazebnik, PackNet, CVPR 2018; the rate's cubic as in Zhu and Gupta, To prune, or not to prune, 2017.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import BundleError, ConfigError
from edgecl.types import Floats

FREE = 0
MOST_TASKS = 255  # an owner is a uint8
TAU = 0.005  # a pick score above it picks
FIRST_SCORE = 0.01  # so that at first everything is picked
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)

Bits = NDArray[np.bool_]
Owners = NDArray[np.uint8]
Bytes = NDArray[np.uint8]


# -- who uses what


def picked(scores: Floats, tau: float = TAU) -> Bits:
    """Which weights the scores pick: strictly above `tau`."""
    return np.asarray(scores > np.float32(tau))


def ternary(scores: Floats, tau: float = TAU) -> NDArray[np.int8]:
    """Piggyback's three values: -1 below zero, +1 strictly above `tau`, otherwise 0."""
    return (scores > np.float32(tau)).astype(np.int8) - (scores < 0)


def old(owner: Owners, task: int) -> Bits:
    """Weights of tasks before `task`: those that it may pick."""
    return np.asarray((owner != FREE) & (owner < task))


def used(owner: Owners, task: int, picks: Bits | None = None) -> Bits:
    """What `task` reads: its own weights and, of older ones, what it picks.

    picks: of the weights' shape, their values elsewhere are irrelevant; None picks all (the first task, PackNet).
    """
    before = old(owner, task)
    return np.asarray((owner == task) | (before if picks is None else before & picks))


def effective(weight: Floats, use: Bits) -> Floats:
    """The weights that a task computes with: those in use, 0 elsewhere. A new array."""
    return np.where(use, weight, np.float32(0))


def released(owner: Owners, task: int) -> Owners:
    """The map in which `task` owns what was free."""
    check_task(task)
    return np.where(owner == FREE, np.uint8(task), owner)


# -- pruning


def rate(step: int, ramp: int, start: float, end: float) -> float:
    """The share to be pruned after `step` of `ramp` steps: from `start` quickly, then ever slower, to `end`."""
    done = min(max(step / ramp, 0.0), 1.0)
    return end + (start - end) * (1 - done) ** 3


def events(ramp: int, every: int) -> list[int]:
    """The steps after which is pruned: each `every`-th up to `ramp`."""
    return list(range(every, ramp + 1, every))


def prune(weight: Floats, owner: Owners, task: int, share: float, *, own_pool: bool = False) -> Owners:
    """The owner map after the smallest of `task`'s weights were given back.

    share: of the space that the task has, its own and free weights together; own_pool: of its own weights (PackNet). The cut is
    the magnitude of the round(share * pool)-th smallest of the pool; what equals it goes too. Where that number rounds to 0,
    the layer stays as it is.
    """
    own = owner == task
    pool = np.abs(weight[own if own_pool else own | (owner == FREE)])
    r = round(share * pool.size)
    if r == 0:
        return owner.copy()
    cut = np.partition(pool, r - 1)[r - 1]
    return np.where(own & (np.abs(weight) <= cut), np.uint8(FREE), owner)


def choose_level(records: Mapping[float, float], goal: float, at_cap: bool) -> float:
    """The largest pruning level whose recorded accuracy meets the goal; 0, unpruned, where none does.

    records: level -> accuracy as the float64 ratio of two counts. Such a ratio and a decimal goal are both the nearest double,
    so comparing them compares counts.   at_cap: the network may not grow and the goal was missed before pruning: the largest
    level that was recorded.
    """
    levels = sorted(records, reverse=True)
    if at_cap:
        return levels[0] if levels else 0.0
    return next((level for level in levels if records[level] >= goal), 0.0)


def must_free(task: int, tasks: int) -> float:
    """The pruning level at which a task that missed its goal at the widest network may stop, so that the rest find room."""
    return round(1 - round(1 / (tasks - task + 1), 1), 1)


# -- growing


def grown(before: NDArray[Any], after: NDArray[Any]) -> NDArray[Any]:
    """`after`, with `before` in its leading corner. Raises ConfigError where it does not fit."""
    if before.ndim != after.ndim or any(a > b for a, b in zip(before.shape, after.shape, strict=True)):
        raise ConfigError(f"an array of shape {before.shape} cannot grow to {after.shape}: growth only adds")
    out = after.copy()
    out[tuple(map(slice, before.shape))] = before
    return out


def corner(array: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """The leading corner of that shape: what a task of a narrower network sees. A view. Raises ConfigError."""
    if array.ndim != len(shape) or any(n > have for n, have in zip(shape, array.shape, strict=True)):
        raise ConfigError(f"an array of shape {array.shape} has no leading corner of shape {tuple(shape)}")
    return array[tuple(map(slice, shape))]


# -- packing


def pack_bits(bits: Bits) -> Bytes:
    """One bit a weight, (ceil(n / 8),) uint8, in C order; spare bits are 0."""
    return np.packbits(np.ascontiguousarray(bits).ravel())


def unpack_bits(packed: NDArray[Any], shape: Sequence[int]) -> Bits:
    """The inverse. packed: untrusted.   Raises BundleError unless it is exactly what `pack_bits` gives for that shape."""
    n = math.prod(shape)
    _check_packed(packed, n, 1)
    bits = np.unpackbits(packed)
    if bits[n:].any():
        raise BundleError(f"packed bits of {n} weights have spare bits that are not 0")
    return bits[:n].astype(np.bool_).reshape(tuple(shape))


def owner_width(tasks: int) -> int:
    """Bits for an owner among free and `tasks` tasks: ceil(log2(tasks + 1))."""
    check_task(tasks)
    return tasks.bit_length()


def pack_owners(owner: Owners, tasks: int) -> Bytes:
    """`owner_width(tasks)` bits a weight, most significant first, (ceil(n * width / 8),) uint8. Raises ConfigError."""
    width = owner_width(tasks)
    if owner.size and int(owner.max()) > tasks:
        raise ConfigError(f"an owner map names task {owner.max()}, of {tasks}")
    return np.packbits(np.unpackbits(owner.reshape(-1, 1), axis=1)[:, 8 - width :])


def unpack_owners(packed: NDArray[Any], shape: Sequence[int], tasks: int) -> Owners:
    """The inverse. packed: untrusted.   Raises BundleError unless `pack_owners` gives exactly it for that shape and `tasks`."""
    n, width = math.prod(shape), owner_width(tasks)
    _check_packed(packed, n, width)
    bits = np.unpackbits(packed)
    wide = np.zeros((n, 8), np.uint8)
    wide[:, 8 - width :] = bits[: n * width].reshape(n, width)
    owner = np.packbits(wide, axis=1).reshape(tuple(shape))
    if bits[n * width :].any() or (n and int(owner.max()) > tasks):
        raise BundleError(f"a packed owner map of {n} weights names tasks beyond {tasks}, or has spare bits that are not 0")
    return owner


def packed_bytes(weights: int, width: int = 1) -> int:
    """Of `width` bits for each of so many weights."""
    return -(-weights * width // 8)


def check_task(task: int) -> None:
    """Raise ConfigError unless a uint8 can name it as an owner."""
    if not 1 <= task <= MOST_TASKS:
        raise ConfigError(f"tasks of one network are numbered 1 to {MOST_TASKS}, got {task}")


def _check_packed(packed: NDArray[Any], n: int, width: int) -> None:
    wanted = packed_bytes(n, width)
    if packed.dtype != np.uint8 or packed.shape != (wanted,):
        raise BundleError(f"{n} weights at {width} bits are {wanted} uint8, got {packed.dtype} of shape {packed.shape[:4]}")


# -- what it takes to store, and what was made of the space


def stored_bytes(weights: int, private: int, *, masks: int = 0, owners: int = 0) -> int:
    """Of a network for several tasks.

    weights: shared, float32.   private: floats that tasks have of their own (batch norm, biases, heads), of all tasks together.
    masks: one-bit masks over all weights.   owners: tasks that an owner map distinguishes; 0 for no map.
    """
    mapped = packed_bytes(weights, owner_width(owners)) if owners else 0
    return 4 * (weights + private) + masks * packed_bytes(weights) + mapped


def leftover(owners: Sequence[Owners], multiplier: float) -> float:
    """Free weights, as a share of the network's before it grew (the published tables' Red)."""
    return sum(int((o == FREE).sum()) for o in owners) / sum(o.size for o in owners) * multiplier


def shared_share(owners: Sequence[Owners], picks: Sequence[Bits], task: int) -> float:
    """Of the older tasks' weights, the share that `task` picks; nan where there are none."""
    before = [old(o, task) for o in owners]
    count = sum(int(b.sum()) for b in before)
    chosen = sum(int((b & p).sum()) for b, p in zip(before, picks, strict=True))
    return chosen / count if count else math.nan
