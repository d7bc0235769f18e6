"""What a teaching is made of: the device as what is taught, what became of a picture, and marks by which it is known again."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecl.bank.bank import HeadBank
from edgecl.config import DeviceConfig
from edgecl.heads.base import Head
from edgecl.learning import LearnReport
from edgecl.merging import parts
from edgecl.rom.base import Rom
from edgecl.sharing.bundle import Bundle


@dataclass(frozen=True)
class Taught:
    """What became of one picture.

    answer: what the head in force would have said before it was told, None where there is none yet; confidence: how sure it
    would have been, 0..1.   known: the picture was learned before, and was not again.   committed: it is in the bank, with
    all before it.   waiting: what it is not in the bank for, though it is on the disk; "" for nothing.
    """

    label: str
    answer: str | None
    confidence: float
    known: bool
    committed: bool
    waiting: str
    generation: int | None

    @property
    def right(self) -> bool | None:
        """Whether the answer was the label; None where there was no answer."""
        return None if self.answer is None else self.answer == self.label

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**dataclasses.asdict(self), "confidence": round(self.confidence, 6), "right": self.right}


@dataclass(frozen=True)
class Pupil:
    """A device as what is taught.

    folder: of all tasks' states.   bundle: reads one from the bank by its digest.   why_barred: why a bundle may not serve, "".
    keep: as `EdgeDevice.keep`, with `require` and `instead_of` as `HeadBank.put` takes them.
    """

    folder: Path
    bank: HeadBank
    rom: Rom
    config: DeviceConfig
    own_key: str
    bundle: Callable[[str], Bundle]
    why_barred: Callable[[Bundle], str]
    keep: Callable[..., LearnReport]
    say: Callable[[str], None]
    stopwatch: Callable[[], float]


def mark_of(digest: str, label: str) -> int:
    """By what a picture with its label is known again: 64 bits of both; equal for two of a million by a chance of 1 in 10^7.

    digest: sha256 of the picture, hexadecimal.
    """
    return int.from_bytes(hashlib.sha256(f"{digest}{label}".encode()).digest()[:8], "little", signed=True)


def ready(head: Head) -> Head | None:
    """The head with its numbers as they are used, so that no picture waits for that; None for one that asks the ROM again."""
    wide = {name: a.astype(np.float32) if a.dtype == np.float16 else a for name, a in head.arrays.items()}
    return None if head.plugs else dataclasses.replace(head, arrays=wide)


def lineage(bundle: Bundle, own_key: str) -> dict[str, Any]:
    """What provenance says of others who had a hand in the head that is continued; nothing where there are none."""
    others = bundle.makers - {"", own_key}
    if not others:
        return {}
    before = bundle.provenance.get("continued")
    known = before.get("from_digests") if isinstance(before, dict) and bundle.signer == own_key else None
    return {"continued": {"from_signers": sorted(others), "from_digests": known or sorted(parts(bundle))}}


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C takes effect only at the end: a memory in the middle of a picture, or a commit, is no state to go on from."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is None:
        yield
        return
    came: list[int] = []
    former = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
        if came:
            signal.raise_signal(signal.SIGINT)
