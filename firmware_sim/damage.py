"""What happens to the flash of a device that is switched off, and what its owner does about it.

| damage (`look`) | the device                                     | what helps                                        |
|-----------------|------------------------------------------------|---------------------------------------------------|
| `Damage.NONE`   | answers as before                              |                                                   |
| `Damage.HEADS`  | does without these heads, and gives none away  | to take the same bundles from a peer once more    |
| `Damage.BANK`   | may not even open its bank                     | `rebuild`, then to take everything, also its own  |
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from edgecl.bank.bank import HeadBank
from edgecl.errors import BankError, EdgeclError
from firmware_sim.flash import BANK, INDEX, LOG


class Damage(StrEnum):
    """How far it goes."""

    NONE = "none"
    HEADS = "heads"
    BANK = "bank"


@dataclass(frozen=True)
class BadSector:
    """What `corrupt_sector` has done: `kind` is "flipped", "zeroed" or "misplaced" (it has what belongs elsewhere)."""

    offset: int
    size: int
    kind: str


def corrupt_sector(home: Path, rng: random.Random, size: int = 4096) -> BadSector:
    """Damage one of the sectors, of `size` bytes, of the bank's file. The device is closed: an open one has it in memory.

    Raises BankError where there is no bank.
    """
    path = home / BANK
    data = bytearray(path.read_bytes()) if path.exists() else bytearray()
    if not data:
        raise BankError(f"{path} has no sector that could be damaged; let the device learn something first")
    sectors = range(0, len(data), size)
    at = rng.choice(sectors)
    sector = slice(at, min(at + size, len(data)))
    length = sector.stop - at
    other = rng.choice(sectors)
    kind = rng.choice(("flipped", "zeroed", "misplaced"))
    found = {"zeroed": bytes(length), "misplaced": bytes(data[other : other + length]).ljust(length, b"\0")}
    if found.get(kind, data[sector]) == data[sector]:  # else it would be no damage
        kind = "flipped"
        for bit in rng.sample(range(8 * length), rng.randint(1, 8)):
            data[at + bit // 8] ^= 1 << bit % 8
    else:
        data[sector] = found[kind]
    path.write_bytes(data)
    return BadSector(at, size, kind)


def look(home: Path) -> Damage:
    """How far the damage goes. One to what is not in force, or to a sketch beside a head, is none: nothing asks for it."""
    try:
        with HeadBank(home / BANK) as bank, contextlib.closing(sqlite3.connect(home / BANK)) as db:
            found = db.execute("PRAGMA integrity_check").fetchall() + db.execute("PRAGMA foreign_key_check").fetchall()
            if found != [("ok",)]:
                return Damage.BANK
            _ = bank.generations(), bank.accepted()  # a word there that is none keeps nobody from answering, but from taking
            for digest in bank.current().values():
                bank.sketch(digest)  # it may be unsound, but its table must be there
            return Damage.NONE if all(map(bank.sound, bank.current().values())) else Damage.HEADS
    except (EdgeclError, sqlite3.Error, UnicodeDecodeError):
        return Damage.BANK


def rebuild(home: Path) -> list[bytes]:
    """Take the bank away, so that the device makes a new one, and return the bundles in force that can still be read.

    As an owner does who copies them off first: `EdgeDevice.import_bundles` takes them back, the rest comes from peers, the
    device's own heads too. Key and `peers.toml` stay. The new bank counts from the highest number in own bundles that have
    come back: what is learned before that, peers refuse as older.
    """
    found = []
    with contextlib.suppress(EdgeclError), HeadBank(home / BANK) as bank:
        for digest in bank.current().values():
            with contextlib.suppress(EdgeclError):
                found.append(bank.get(digest))
    for name in (BANK, LOG, INDEX, f"{BANK}-journal"):
        (home / name).unlink(missing_ok=True)
    return found
