"""The memory head: learns from one labelled picture at a time, without replay and without forgetting.

What it knows is a `KeyMemory` in square-root space: keys that pictures compete for, and the scatter around them. New classes
come as they come. A head is read out of it in closed form: a key answers for its class by its squared distance under the
shrunk scatter, which is an affine map of the features; a class scores as its best key does. Means and scatter say all that
there is to say for that, so a picture is seen once, in any order, and the head is what a head learned from all of them at once
would be, but for the moments at which keys were written.

A class-balanced sample of the features that were seen stays on the device, for what a head needs beside its map: temperature,
thresholds, the mapper's anchors. The map is not learned from it.

`Config`, `learn`, `scores`, `check`, `width` and `plugs` are those of every head method; `Memory` is a learning under way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import BundleError, ConfigError, DataError
from edgecl.heads.base import QUIET, Head, Learned, Session, lead
from edgecl.heads.parts.described import drawn, lead_of_most
from edgecl.heads.parts.key_memory import KeyMemory
from edgecl.heads.parts.read_out import read_out, starts
from edgecl.heads.parts.reservoir import Reservoir
from edgecl.mapping.base import require
from edgecl.pictures.folders import class_name
from edgecl.rom.base import Rom
from edgecl.rom.sockets import Plugs
from edgecl.space import pack, unit_sqrt, unpack
from edgecl.types import Arrays, Floats, Ints, Task

_HALF_BOUND = 1e-2  # float16 is kept when no score of the sample moves by more; scores are logits
_LARGEST = 1e12  # of a stored number
_MOST_WINS = 100_000  # that another's head is believed of a key: it must still learn, and its wins must go on counting


@dataclass(frozen=True)
class Config:
    recipe: str = "default"
    seed: int = 0  # of the order in which a folder is gone through, and of what stays in the sample
    false_reject: float = 0.02  # share of a class's own pictures that may be called "unknown class"
    keys_per_class: int = 8  # at most
    sample: int = 512  # pictures whose features stay on the device, of all classes together

    def __post_init__(self) -> None:
        if self.recipe != "default":
            raise ConfigError(f"the memory head has no recipe '{self.recipe}', only default")
        if not 0 < self.false_reject < 0.5 or min(self.keys_per_class, self.sample) < 1:
            raise ConfigError(f"a setting of the memory head is out of range: {asdict(self)}")


class Memory:
    """One task's memory head under way. `classes` grows; the same pictures in the same order give the same bits."""

    def __init__(self, width: int, config: Config, space: Callable[[Floats], Floats] = unit_sqrt) -> None:
        """width: d of the features.   space: in which keys lie, (n, d) -> (n, d); heads for devices use the default."""
        self.width, self.config, self.space = width, config, space
        self.classes: tuple[str, ...] = ()
        self._number: dict[str, int] = {}
        self._keys = KeyMemory(width, config.keys_per_class)
        self._sample = Reservoir(width, config.sample, config.seed)
        self._lead = 0.0  # that most of the sample's made-up rows have, by the head that was gone on from; 0: not told

    @property
    def counts(self) -> Ints:
        """(k,) pictures learned of each class."""
        out = np.zeros(len(self.classes), np.int64)
        np.add.at(out, np.array(self._keys.owner, np.int64), np.array(self._keys.wins, np.int64))
        return out

    def observe(self, x: Floats, label: str) -> None:
        """Learn one picture: plain ROM features (d,), and its class, which may be new.

        Raises DataError, and has learned nothing, for features of another width or not finite, and for what is no class name.
        """
        if x.shape != (self.width,) or not np.isfinite(x).all():
            raise DataError(f"a picture must have {self.width} finite features, got {x.dtype} {x.shape}")
        number = self._number.get(label)
        if number is None:
            number = self._new(label)
        self._keys.observe(self.space(x[None])[0], number)
        self._sample.offer(x, number)

    def _new(self, label: str) -> int:
        name = class_name(label, "the label")
        if name not in self._number:
            self._number[name] = len(self.classes)
            self.classes += (name,)
        return self._number[name]

    @property
    def made_up(self) -> bool:
        """Whether pictures that were drawn from a description, and never seen, are still in the sample."""
        return bool((self._sample.rows()[2] < self._sample.made_up).any())

    def sample(self) -> tuple[Floats, Ints]:
        """Plain features (r, d) of some of the pictures, evenly over the classes, and their labels (r,)."""
        features, labels, _ = self._sample.rows()
        return features, labels

    def learned(self, rom_id: str, most: int | None = None) -> Learned:
        """The head as things stand, and its scores (r, k) of the sample's pictures, each left out.

        most: keys of one class in this head, for one that must be small; the memory keeps them all.
        """
        features, labels, numbers = self._sample.rows()
        made_up = numbers < self._sample.made_up
        k, most = len(self.classes), min(most or self.config.keys_per_class, self.config.keys_per_class)
        z = self.space(features)
        w, b, owner, held_out, keys, wins = read_out(
            self._keys, k, z, labels, made_up, most, self.config.false_reject, self._lead
        )
        w32, half = w.astype(np.float32), w.astype(np.float16)
        moved = np.inf
        if np.isfinite(half).all():
            moved = float(np.abs(z @ (w32 - half.astype(np.float32)).T).max(initial=0))
        packed, step = pack(keys)
        arrays = {
            "w": half if moved <= _HALF_BOUND else w32,
            "b": b.astype(np.float32),
            "owner": owner.astype(np.int32),
            "keys": packed,
            "keys_step": np.maximum(step, np.float32(1e-20)),
            "wins": wins.astype(np.int32),
        }
        typical, judged = lead(held_out), ~made_up if (~made_up).any() else made_up
        settings = {"recipe": "default", "unknown_below": float(np.quantile(typical, self.config.false_reject))}
        report = {
            "validation_accuracy": round(float((held_out.argmax(1) == labels)[judged].mean()), 4),
            "validation_pictures": int(judged.sum()),
            "keys": len(owner),
            "keys_written": self._keys.written,
            "weights_dtype": str(arrays["w"].dtype),
        }
        return Learned(Head("memory", self.classes, rom_id, arrays, settings), held_out, report)

    # -- to go on later

    def state(self) -> dict[str, NDArray[Any]]:
        """All but the names of the classes: with them, enough to go on to the same bits. It stays on the device."""
        keys = {f"keys.{name}": value for name, value in self._keys.state().items()}
        sample = {f"sample.{name}": value for name, value in self._sample.state().items()}
        return keys | sample | {"lead": np.array([self._lead])}

    @classmethod
    def resume(cls, width: int, config: Config, classes: Sequence[str], state: Mapping[str, Any]) -> Memory:
        """Go on from this device's own `state`, which is whole."""
        memory = cls(width, config)
        memory._name(classes)
        own = {part: {n.removeprefix(part): v for n, v in state.items() if n.startswith(part)} for part in ("keys.", "sample.")}
        memory._keys = KeyMemory.resume(width, config.keys_per_class, own["keys."])
        memory._sample = Reservoir.resume(width, config.sample, config.seed, own["sample."])
        memory._lead = float(state["lead"][0])
        return memory

    @classmethod
    def continued(cls, width: int, config: Config, head: Head, anchor: Arrays, counts: Ints) -> Memory:
        """Go on from what a bundle tells, whoever learned it and by whatever method: not to the same bits, but nothing is lost.

        head: of any method.   anchor: its Mahalanobis anchor: class means and scatter; where the head is no memory head, its
        means become the keys.   counts: (k,) pictures of each class. The sample is drawn from the anchor's description.
        Raises BundleError for an anchor without a mean for each class.
        """
        memory = cls(width, config)
        memory._name(head.classes)
        counts = np.clip(counts, 1, _MOST_WINS)
        if head.method == "memory":
            keys, owner, wins = unpack(head.arrays["keys"], head.arrays["keys_step"]), head.arrays["owner"], head.arrays["wins"]
        else:
            keys, wins = unpack(anchor["means"], anchor["means_step"]), counts
            owner = np.arange(len(head.classes))
        if len(anchor["means"]) != len(head.classes):
            raise BundleError(
                f"the anchor has {len(anchor['means'])} means for {len(head.classes)} classes; learning cannot go on from it"
            )
        wins = np.minimum(wins.astype(np.int64), _MOST_WINS)
        directions = unpack(anchor["directions"], anchor["directions_step"]).astype(np.float64)
        rest = float(anchor["rest"][0])
        covariance = (directions.T * np.maximum(anchor["variances"] - rest, 0)) @ directions + rest * np.eye(width)
        memory._keys = KeyMemory.begun(width, config.keys_per_class, keys, owner.astype(np.int64), wins, covariance)
        rows, labels = drawn(anchor, min(max(config.sample, len(head.classes)), int(counts.sum())), config.seed)
        for x, label in zip(rows, labels, strict=True):
            memory._sample.offer(x, int(label))
        memory._sample.made_up, memory._lead = len(rows), lead_of_most(head)
        return memory

    def _name(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self._number = {name: i for i, name in enumerate(self.classes)}

    def nbytes(self) -> int:
        """Bytes that it must keep to go on."""
        return self._keys.nbytes() + self._sample.nbytes()


def learn(task: Task, rom: Rom, config: Config, previous: Head | None = None, session: Session = QUIET) -> Learned:
    """One pass over the task's features in an order drawn by the seed; `previous` is ignored: a device goes on by `Memory`."""
    k, d = len(task.classes), task.features.shape[1]
    if session.head_bytes is not None:
        room = keys_within(session.head_bytes, task.name, k, d)
        config = replace(config, keys_per_class=min(config.keys_per_class, room))
    memory = Memory(d, config)
    memory._name(task.classes)
    order = np.random.default_rng(config.seed).permutation(len(task))
    for i in order:
        memory.observe(task.features[i], task.classes[task.labels[i]])
    learned = memory.learned(rom.rom_id)
    held_out = scores(learned.head, task.features)  # of those that are not in the sample, by a head that has seen them
    held_out[order[memory._sample.rows()[2]]] = learned.held_out
    return replace(learned, held_out=held_out)


def keys_within(head_bytes: int, task: str, k: int, d: int) -> int:
    """Keys that each of k classes may have in a head of that many bytes. Raises ConfigError where there is no room for one."""
    each = 5 * d + 16
    if head_bytes < k * each:
        raise ConfigError(
            f"'{task}': a memory head of {k} classes takes {k * each:,} bytes or more, {max(0, head_bytes):,} are left beside "
            f"anchors and card. Nothing was changed. Allow more"
        )
    return head_bytes // each // k


def scores(head: Head, features: Floats, plugged: Floats | None = None) -> Floats:
    """Calibrated logits (n, k) float32 from features (n, d): of each class's keys the best."""
    return by_class(head, unit_sqrt(features))


def by_class(head: Head, z: Floats) -> Floats:
    """Scores (n, k) of rows z (n, d) that are in the keys' space already."""
    by_key = z @ np.asarray(head.arrays["w"], np.float32).T + head.arrays["b"]
    out: Floats = np.maximum.reduceat(by_key, starts(head.arrays["owner"]), axis=1)
    return out


def check(head: Head) -> None:
    """Raise BundleError unless `head` has a map w (m, d), b (m,), and keys (m, d) of which each class has one or more."""
    k, arrays = len(head.classes), head.arrays
    dtype = "float16" if str(getattr(arrays.get("w"), "dtype", "")) == "float16" else "float32"
    layout = {"w": f"{dtype} m d", "b": "float32 m", "owner": "int32 m", "keys": "int8 m d", "keys_step": "float32 m"}
    bounds = {
        "w": (-_LARGEST, _LARGEST),
        "b": (-_LARGEST, _LARGEST),
        "owner": (0.0, k - 1.0),
        "keys_step": (1e-20, 0.01),
        "wins": (1.0, 2.0**31 - 1),
    }
    require(arrays, layout | {"wins": "int32 m"}, "a memory head", bounds)
    owner = arrays["owner"]
    if (np.diff(owner) < 0).any() or len(np.unique(owner)) != k:
        raise BundleError(f"a memory head of {k} classes needs keys of each of them, one class after another")
    below = head.settings.get("unknown_below", 0.0)
    if isinstance(below, bool) or not isinstance(below, (int, float)) or not abs(below) < _LARGEST:
        raise BundleError("a memory head's unknown_below must be a finite number")


def plugs(head: Head) -> Plugs:
    """None: the head reads plain features."""
    return Plugs()


def width(head: Head) -> int:
    """d of the features that the keys are in."""
    return int(head.arrays["w"].shape[1])
