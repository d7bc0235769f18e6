"""What a head is, whatever method learned it.

A method is a module with six names: `Config` (a frozen dataclass), `learn(task, rom, config, previous, session) -> Learned`,
`scores(head, features, plugged) -> (n, k)` in NumPy, `check(head)`, which refuses arrays that do not belong to the method,
`width(head)`, the d of its features, and `plugs(head)`, what it puts into the ROM's sockets (nothing, for most). Where heads
from unlike pictures add up, it also has `merge(a, b, a_counts, b_counts, order) -> Head`; where it learns one picture at a
time, `Memory` (see `edgecl.heads.memory_head`).
It is found through `registry.HEADS`; the checks in `edgecl.checks.heads` run over every registered one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl import registry
from edgecl.errors import BundleError, ConfigError, Reason, RomError, RomMismatch
from edgecl.rom.base import Rom
from edgecl.rom.overlay import Below
from edgecl.rom.sockets import Plugs
from edgecl.types import Arrays, Floats, Pixels, task_name

MAX_CLASSES = 10_000
MOST_BELOW = 32  # heads that one may stand on
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Base:
    """A head that another one stands on, as that one declares it. digest: of its bundle, so one version and no other."""

    task: str
    method: str
    digest: str

    def __str__(self) -> str:
        return f"'{self.task}' ({self.digest[:12]})"


@dataclass(frozen=True)
class Head:
    """What one task learned on one ROM. Never changed; learning again makes another head.

    arrays: the method's own, as they are stored.   settings: plain values needed to score, and the method's options.
    below: what the heads it stands on have put into the ROM; None until they are at hand (`edgecl.sharing.bases`), and for a
    head that stands on none.
    """

    method: str
    classes: tuple[str, ...]
    rom_id: str
    arrays: Arrays
    settings: Mapping[str, Any] = field(default_factory=dict)
    below: Below | None = field(default=None, compare=False, repr=False)

    @cached_property
    def plugs(self) -> Plugs:
        """What the head puts into the ROM's sockets, with what it picks from heads below; empty where it reads plain features
        only. Raises BundleError for a head whose bases are not at hand, RomMismatch where they are not those it was made for.
        """
        found: Plugs = _method(self.method).plugs(self)
        if self.over and self.below is None:
            raise BundleError(f"a head that stands on {self.over[-1]} was asked without it", Reason.MISSING_BASE)
        return self.below.composed(found) if self.below else found

    @cached_property
    def over(self) -> tuple[Base, ...]:
        """The heads that it stands on and picks weights from, each on those before it. Raises BundleError."""
        declared = self.settings.get("over", [])
        if not isinstance(declared, list) or len(declared) > MOST_BELOW or not all(map(_is_base, declared)):
            raise BundleError(f"a head declares what it stands on as a list of at most {MOST_BELOW} [task, method, digest]")
        found = tuple(Base(*one) for one in declared)
        if len({base.task for base in found}) != len(found) or ("over" in self.settings and not found):
            raise BundleError("a head that stands on others names each of them once")
        return found

    def ground(self, rom: Rom) -> Below:
        """What a head that stands on this one finds in the ROM's free places. Raises RomMismatch."""
        return (self.below or Below(rom.image.free)).with_own(_method(self.method).plugs(self))

    def scores(self, features: Floats, plugged: Floats | None = None) -> Floats:
        """Calibrated logits (n, k) float32, whose softmax is the class probability.

        features: (n, d) float32, of the plain ROM.   plugged: (n, d), of the ROM with this head's plugs; only a head that
        has any reads it, and cannot do without.
        """
        if self.plugs and plugged is None:
            raise RomError(f"a {self.method} head needs the features of the ROM with its plugs; ask `Head.answer` with pixels")
        out: Floats = _method(self.method).scores(self, features, plugged)
        return out

    def answer(self, rom: Rom, pixels: Pixels | Sequence[Pixels], features: Floats | None = None) -> Floats:
        """Scores (n, k) of decoded pictures; features: their plain ones, where they are known."""
        plain = rom.features(pixels) if features is None else features
        return self.scores(plain, rom.features(pixels, self.plugs) if self.plugs else None)

    @property
    def width(self) -> int:
        """d of the features that it scores."""
        return int(_method(self.method).width(self))

    @property
    def unknown_below(self) -> float:
        """The `lead` under which a picture is no class of this task; -inf where the head has no such threshold."""
        return float(self.settings.get("unknown_below", -np.inf))

    def knows(self, scores: Floats) -> NDArray[np.bool_]:
        """Which of the scored pictures (n, k) are of one of the classes, (n,); False means "unknown class"."""
        known: NDArray[np.bool_] = lead(scores) >= self.unknown_below
        return known

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return sum(int(value.nbytes) for value in self.arrays.values())

    def check(self) -> None:
        """Raise BundleError unless the arrays and settings are what the method needs to score."""
        _ = self.over
        _method(self.method).check(self)

    def require_rom(self, rom_id: str, task: str) -> None:
        """Raise RomMismatch unless the head was learned on that ROM."""
        if self.rom_id != rom_id:
            raise RomMismatch(
                f"head '{task}' was learned on ROM {self.rom_id[:12]}, this device carries {rom_id[:12]}. Ask for a head on "
                f"{rom_id[:12]}, or learn it here: edgecl learn --task {task} --data ..."
            )


@dataclass(frozen=True)
class Session:
    """The circumstances of one learning, which must not change what is learned.

    progress: told stage, done, total.   say: takes lines for a person.   budget: seconds that it may take; None sets no bound.
    head_bytes: that the head's arrays may take; None sets no bound.   checkpoint: file for the state of a learning that takes
    long; None keeps none.   resume: go on from there.
    """

    progress: Callable[[str, int, int], None] = lambda stage, done, total: None
    say: Callable[[str], None] = lambda line: None
    budget: float | None = None
    head_bytes: int | None = None
    checkpoint: Path | None = None
    resume: bool = False
    clock: Callable[[], float] = time.monotonic


QUIET = Session()


def lead(scores: Floats) -> Floats:
    """(n, k) scores -> (n,): the best over the mean one; low for a picture of none of the classes."""
    out: Floats = scores.max(1) - scores.mean(1)
    return out


@dataclass(frozen=True)
class Learned:
    """A fresh head and what is known about it.

    held_out: (n, k) scores of the training pictures, by heads that had not seen them; a recipe that holds out only a part
        returns its own head's scores for the rest.   report: what was measured.
    """

    head: Head
    held_out: Floats
    report: Mapping[str, Any]


def _is_base(entry: Any) -> bool:
    if not isinstance(entry, list) or len(entry) != 3 or not all(isinstance(word, str) for word in entry):
        return False
    task, method, digest = entry
    return bool(_DIGEST.fullmatch(digest)) and method in registry.HEADS and _is_task(task)


def _is_task(name: str) -> bool:
    try:
        return task_name(name) == name
    except ConfigError:
        return False


def _method(name: str) -> Any:
    return registry.load("head method", registry.HEADS, name)


def checked_classes(classes: Any) -> tuple[str, ...]:
    """Class names from an untrusted card: a list of distinct, printable, not too long names. Raises BundleError."""
    if not isinstance(classes, Sequence) or isinstance(classes, str) or not 2 <= len(classes) <= MAX_CLASSES:
        raise BundleError(f"the bundle is malformed: classes must be a list of 2 to {MAX_CLASSES} names")
    for name in classes:
        if not isinstance(name, str) or not 0 < len(name) <= 200 or not name.isprintable():
            raise BundleError(f"the bundle is malformed: {str(name).encode('unicode_escape')[:60]!r} is no class name")
    if len(set(classes)) != len(classes):
        raise BundleError("the bundle is malformed: a class name occurs twice", Reason.DUPLICATE_CLASSES)
    return tuple(classes)
