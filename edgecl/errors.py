"""Everything that edgecl refuses, as one tree.

    EdgeclError
    |-- ConfigError              a setting is unknown or out of range
    |-- UnknownName              no method, mapper, runtime of that name
    |-- RuntimeUnavailable       the runtime or provider asked for cannot run here
    |-- MissingDependency        an optional package is not installed
    |-- PictureError             one picture cannot be read
    |-- DataError                a task's pictures cannot be learned from
    |   `-- EmptyTask            nothing to learn from
    |-- RomError                 the ROM image is unusable
    |   |-- RomTampered          a file differs from its digest
    |   `-- RomMismatch          head and ROM do not belong together
    |-- BundleError              bytes that are no acceptable bundle; `reason` says why in one word
    |-- IdentityError            the device's own key cannot be used
    |-- StateError               the state of a learning under way is missing or damaged
    |-- WorkerLost               a process that was given work died, again and again
    |-- TransferError            a place or peer that bundles cannot be read from or written to
    |   |-- PeerRefused          the peer says no; `reason` says why in one word, where there is one
    |   `-- ProtocolError        a peer said what does not belong there
    `-- BankError                the bank cannot do what was asked
        |-- UnknownTask          no head of that name
        |-- BankBusy             another process holds the writer's place
        |-- BankFull             no space left on the disk
        |-- BankReadOnly         the file or its folder cannot be written
        |-- BankCorrupt          the file is damaged
        `-- BankTooNew           written by a newer edgecl

Each message says what happened, with which values, and what to do. The command line prints the message alone
and ends with `exit_code`; a traceback there is a bug.
"""

from __future__ import annotations

import math
from enum import StrEnum

from edgecl.text import printable

_LONGEST = 1000  # characters of a message that quotes what a stranger wrote


class Reason(StrEnum):
    """Why a bundle is refused, in a word that programs may rely on."""

    MALFORMED = "malformed"
    NON_FINITE = "non-finite"
    DUPLICATE_CLASSES = "duplicate-classes"
    TOO_LARGE = "too-large"
    BAD_SIGNATURE = "bad-signature"
    UNKNOWN_SIGNER = "unknown-signer"
    REVOKED = "revoked"
    NOT_ALLOWED = "not-allowed"  # the signer is trusted, but not for this task
    ROLLBACK = "rollback"
    REPLAY = "replay"
    WRONG_ROM = "wrong-rom"
    WRONG_PRECISION = "wrong-precision"
    MISSING_BASE = "missing-base"  # it picks from the weights of a head that is not here
    COLLISION = "collision"  # another signer's head answers for that task, or for its pictures
    QUOTA = "quota"


class EdgeclError(Exception):
    """Base of all errors that edgecl raises on purpose."""

    exit_code = 1


class ConfigError(EdgeclError):
    """A setting is unknown, has the wrong type or is out of range."""

    exit_code = 2


class UnknownName(ConfigError):
    """A registered name was asked for that does not exist; the message lists those that do."""


class RuntimeUnavailable(EdgeclError):
    """The runtime or provider that was asked for cannot run here. There is no silent fall-back."""

    exit_code = 3


class MissingDependency(RuntimeUnavailable):
    """An optional package is needed; the message names the extra that installs it."""


class PictureError(EdgeclError):
    """One picture cannot be read: missing, truncated, too large, or not a picture. `source` is what was asked for."""

    exit_code = 4

    def __init__(self, message: str, source: str = "") -> None:
        super().__init__(message)
        self.source = source


class DataError(EdgeclError):
    """A task's pictures cannot be learned from as they are."""

    exit_code = 4


class EmptyTask(DataError):
    """There is nothing, or next to nothing, to learn from."""


class RomError(EdgeclError):
    """The ROM image is missing, malformed or of a newer format."""

    exit_code = 5


class RomTampered(RomError):
    """A file of the ROM image differs from the digest in its manifest."""


class RomMismatch(RomError):
    """A head was learned on another ROM than the one this device carries."""

    def __init__(self, message: str, reason: Reason = Reason.WRONG_ROM) -> None:
        super().__init__(message)
        self.reason = reason


class BundleError(EdgeclError):
    """Bytes that are no acceptable bundle: malformed, too large, altered, from a stranger. `reason` is for programs."""

    exit_code = 6

    def __init__(self, message: str, reason: Reason = Reason.MALFORMED) -> None:
        super().__init__(printable(message, _LONGEST))  # it may quote names out of the bundle
        self.reason = reason


class IdentityError(EdgeclError):
    """The device's own key cannot be read, written, or kept to itself."""

    exit_code = 8


class StateError(EdgeclError):
    """The state that a phase of a learning starts from is missing, damaged, or of another learning."""

    exit_code = 7


class WorkerLost(EdgeclError):
    """A process that was given work died, and so did those that were given it afterwards."""


class TransferError(EdgeclError):
    """Bundles cannot be read from a place or written there; what was there before is still there."""

    exit_code = 9


class PeerRefused(TransferError):
    """The peer at the other end answered, and said no. `reason` is for programs, "" where it gave none."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(printable(message, _LONGEST))
        self.reason = printable(reason, 40)


class ProtocolError(TransferError):
    """A peer said what does not belong there: nothing of it was believed."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message, _LONGEST))


class RequestRefused(EdgeclError):
    """A request that a service does not take. `status` is HTTP's; `reason` is for programs."""

    def __init__(self, message: str, status: int = 400, reason: str = "malformed") -> None:
        super().__init__(printable(message, _LONGEST))  # it may quote the request
        self.status = status
        self.reason = reason


class Overloaded(RequestRefused):
    """There is no room for the request now; it was not begun. `retry_after`: whole seconds, at least 1."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message, 503, "overloaded")
        self.retry_after = max(1, math.ceil(retry_after))


class BankError(EdgeclError):
    """The bank cannot do what was asked; what it held before, it still holds."""

    exit_code = 7


class UnknownTask(BankError):
    """No head of that name is in the bank."""


class BankBusy(BankError):
    """Another process is writing and did not finish in time."""


class BankFull(BankError):
    """The disk is full; the change was not made."""


class BankReadOnly(BankError):
    """The bank's file or folder cannot be written."""


class BankCorrupt(BankError):
    """The bank's file, or one of its bundles, is damaged."""


class BankTooNew(BankError):
    """The bank was written by a newer edgecl than this one."""
