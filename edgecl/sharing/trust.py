"""Which bundle is believed, and if not, why. Pure functions: no files, no network, no clock.

A bundle is judged by what its card says and by what this device knows: whom it trusts and for what, which sequence number it
has accepted last from a signer for a task, which ROM it carries, how much room it gives. Sequence numbers take the place of
dates: boards wake up in 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from edgecl.errors import BundleError, Reason, RomMismatch
from edgecl.sharing.bundle import MAX_BYTES
from edgecl.sharing.signing import fingerprint


@dataclass(frozen=True)
class Peer:
    """A signer that somebody has decided about.

    key: its public key.   trusted: False once it is revoked.   tasks: patterns of task names ("birds", "line-3-*") that it may
    send; none means all.   max_bytes: of one bundle.   address: where it answers, "host:port" or "".
    former: the keys that it has replaced, oldest first.
    """

    name: str
    key: str
    trusted: bool = True
    tasks: tuple[str, ...] = ()
    max_bytes: int | None = None
    address: str = ""
    former: tuple[str, ...] = ()

    @property
    def line(self) -> tuple[str, ...]:
        """All its keys, oldest first."""
        return (*self.former, self.key)

    def allows(self, task: str) -> bool:
        """Whether it may send that task."""
        return not self.tasks or any(fnmatchcase(task, pattern) for pattern in self.tasks)


@dataclass(frozen=True)
class Seen:
    """The newest bundle accepted of a task, for a ROM, from a signer."""

    sequence: int
    digest: str


@dataclass(frozen=True)
class Offer:
    """What is judged; all of it is in the bundle's card, or known before its bytes are.

    digest: of the whole bundle.   backbone, precision: of its ROM as its provenance says; "" where it does not.
    """

    task: str
    digest: str
    size: int
    key: str
    sequence: int
    rom_id: str
    backbone: str = ""
    precision: str = ""


@dataclass(frozen=True)
class Standing:
    """What the judging device knows.

    key: its own, which it trusts.   former: those which that one has replaced, oldest first.   peers: by key.
    seen: by (key, task, rom_id).   room: bytes left for bundles; None: no quota.
    """

    key: str
    rom_id: str
    backbone: str = ""
    precision: str = ""
    peers: Mapping[str, Peer] = field(default_factory=dict)
    seen: Mapping[tuple[str, str, str], Seen] = field(default_factory=dict)
    room: int | None = None
    former: tuple[str, ...] = ()

    def holder(self, key: str) -> Peer | None:
        """Whose key that is, or was before it was replaced; None: a stranger's."""
        if key in self.peers:
            return self.peers[key]
        here = Peer("this device", self.key, former=self.former)
        return next((peer for peer in (here, *self.peers.values()) if key in peer.line), None)


def judge(offer: Offer, here: Standing, older: bool = False) -> BundleError | RomMismatch | None:
    """Why the offer is refused, or None. The signature must have been verified, or must be before the bundle is kept.

    older: a person asked for a generation that a newer one has followed; a stranger's word for it is never enough.
    """
    refused = _of_signer(offer, here) or _of_size(offer, here) or _of_rom(offer, here)
    return refused or _of_time(offer, here, older)


def _of_signer(offer: Offer, here: Standing) -> BundleError | None:
    if not offer.key:
        return BundleError(f"'{offer.task}' is not signed: nobody vouches for it", Reason.UNKNOWN_SIGNER)
    if offer.key == here.key:
        return None
    peer, words = here.holder(offer.key), fingerprint(offer.key)
    if peer is None:
        return BundleError(
            f"'{offer.task}' is signed by {words}, whom this device does not know. Compare that with what `edgecl peers id` "
            f"says on the device it should come from; if it is the same: edgecl peers trust NAME {offer.key}",
            Reason.UNKNOWN_SIGNER,
        )
    if not peer.trusted:
        return BundleError(f"'{offer.task}' is signed by '{peer.name}' ({words}), whose trust was revoked", Reason.REVOKED)
    if not peer.allows(offer.task):
        return BundleError(
            f"'{peer.name}' may send {', '.join(peer.tasks)}, not '{offer.task}'; peers.toml says so", Reason.NOT_ALLOWED
        )
    last = here.seen.get((offer.key, offer.task, offer.rom_id))
    if offer.key != peer.key and (last is None or last.digest != offer.digest):  # whoever has found or stolen it may sign too
        return BundleError(
            f"'{offer.task}' is signed by {words}, a key of '{peer.name}' that was replaced by {fingerprint(peer.key)}; share "
            f"it again from there",
            Reason.REVOKED,
        )
    return None


def _of_size(offer: Offer, here: Standing) -> BundleError | None:
    peer = here.holder(offer.key)
    most = min(MAX_BYTES, peer.max_bytes if peer and peer.max_bytes is not None else MAX_BYTES)
    if offer.size > most:
        of_whom = f" from '{peer.name}'" if peer else ""
        return BundleError(f"'{offer.task}' has {offer.size:,} bytes, accepted{of_whom} are up to {most:,}", Reason.TOO_LARGE)
    if here.room is not None and offer.size > here.room:
        return BundleError(
            f"'{offer.task}' has {offer.size:,} bytes, the quota for heads has {max(0, here.room):,} left; remove some, then "
            f"edgecl heads gc",
            Reason.QUOTA,
        )
    return None


def _of_rom(offer: Offer, here: Standing) -> RomMismatch | None:
    if offer.rom_id == here.rom_id:
        return None
    if offer.backbone and offer.backbone == here.backbone and offer.precision != here.precision:
        return RomMismatch(
            f"'{offer.task}' was learned on ROM {offer.rom_id[:12]}, the {offer.precision} form of this backbone; this device "
            f"carries {here.rom_id[:12]}, {here.precision}. Where it was learned: edgecl heads convert {offer.task} --to ROM",
            Reason.WRONG_PRECISION,
        )
    return RomMismatch(
        f"'{offer.task}' was learned on ROM {offer.rom_id[:12]}, this device carries {here.rom_id[:12]}; heads and ROM belong "
        f"together",
        Reason.WRONG_ROM,
    )


def _of_time(offer: Offer, here: Standing, older: bool) -> BundleError | None:
    last = here.seen.get((offer.key, offer.task, offer.rom_id))
    if last is None or (older and offer.sequence < last.sequence):
        return None
    if offer.digest == last.digest:
        return None if older else _of_line(offer, here)
    if offer.sequence > last.sequence:
        return None
    if offer.sequence == last.sequence:
        return BundleError(
            f"'{offer.task}' has the number {offer.sequence} of another bundle that this signer has sent before",
            Reason.REPLAY,
        )
    return BundleError(
        f"'{offer.task}' has number {offer.sequence}, but this signer's number {last.sequence} is known already: it is older. "
        f"If that is meant: edgecl heads rollback, or import it with --older. If its device has lost its bank and counts from "
        f"1 again: edgecl peers rotate there",
        Reason.ROLLBACK,
    )


def _of_line(offer: Offer, here: Standing) -> BundleError | None:
    """Each key of a device counts from 1, so what a later key has signed is newer, whatever its number."""
    peer = here.holder(offer.key)
    later = peer.line[peer.line.index(offer.key) + 1 :] if peer else ()
    if not any((key, offer.task, offer.rom_id) in here.seen for key in later):
        return None
    return BundleError(
        f"'{offer.task}' is signed by {fingerprint(offer.key)}, and one that was signed with a later key of that device is "
        f"known already: it is older. If that is meant: edgecl heads rollback, or import it with --older",
        Reason.ROLLBACK,
    )
