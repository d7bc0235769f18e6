"""What a device signs with and whom it believes: its key, `peers.toml`, and the counters in its bank, behind one door."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edgecl.bank.bank import HeadBank
from edgecl.errors import BankCorrupt, BundleError, ConfigError, Reason
from edgecl.registry import check
from edgecl.rom.image import RomImage
from edgecl.sharing import peers, signing
from edgecl.sharing.bundle import Bundle, digest, from_bytes
from edgecl.sharing.trust import Offer, Peer, Seen, Standing, judge
from edgecl.text import printable


@dataclass(frozen=True)
class Custody:
    """Where a bundle comes from.

    signer: "this device", the name of a peer, or "a stranger"; "nobody" for an unsigned one.   fingerprint: of its key.
    sound: whether the signature is that key's.   trusted: whether it would be taken today.
    """

    signer: str
    fingerprint: str
    sequence: int
    sound: bool
    trusted: bool


class TrustStore:
    """Safe to keep open: `peers.toml` is read again when it is needed."""

    def __init__(self, home: Path, bank: HeadBank, say: Callable[[str], None] = lambda line: None) -> None:
        self.home, self._bank, self._say = home, bank, say

    @cached_property
    def signer(self) -> signing.Signer:
        """This device's key, made on first use."""
        return signing.identity(self.home)

    @property
    def own_key(self) -> str:
        """Its public half; "" where there is none yet: to look at bundles needs no key, and no home that can be written."""
        return signing.public_key(self.home)

    @property
    def peers(self) -> dict[str, Peer]:
        """By name. Raises ConfigError when the file cannot be meant."""
        return peers.load(self.home)

    def stamp(self) -> tuple[int, int]:
        """A value that differs after any change to `peers.toml`."""
        try:
            found = os.stat(self.home / peers.PEERS_FILE)
        except OSError:
            return (0, 0)
        return found.st_mtime_ns, found.st_size

    # -- signing

    def sign(self, bundle: Bundle) -> Bundle:
        """The bundle under this device's signature, with its next number; whose it was before is told by its provenance."""
        key = self.signer.key
        numbered = replace(bundle, signer=key, sequence=self._bank.next_sequence(key), signature="")
        return replace(numbered, signature=self.signer.sign(numbered.unsigned_digest()))

    # -- deciding

    def standing(self, image: RomImage, quota: int | None) -> Standing:
        """What bundles are judged by now; of use for many. quota: bytes of all bundles."""
        return Standing(
            key=self.own_key or "none yet",
            rom_id=image.rom_id,
            backbone=image.backbone,
            precision=image.precision,
            peers={peer.key: peer for peer in self.peers.values()},
            seen={pair: Seen(*seen) for pair, seen in self._bank.accepted().items()},
            room=None if quota is None else quota - self._bank.size(),
        )

    def admit(self, data: bytes, here: Standing, older: bool = False, unsigned: bool = False) -> Bundle:
        """The bundle in `data`, if it may be kept here. Raises BundleError or RomMismatch, with the reason.

        older, unsigned: a person wants it although a newer one is known, or nobody signed it.
        """
        bundle = from_bytes(data)
        require_sound(bundle)
        self.require(bundle, data, here, older, unsigned)
        return bundle

    def require(self, bundle: Bundle, data: bytes, here: Standing, older: bool = False, unsigned: bool = False) -> None:
        """Raise, as `admit` does, unless a sound bundle may be kept by what is known now; asked again when it is kept."""
        offer = offer_of(bundle, data)
        taken_on_word = unsigned and not offer.key  # a person's, who stands in for this device
        refused = judge(replace(offer, key=here.key) if taken_on_word else offer, here, older or taken_on_word)
        if refused:
            raise refused
        for key in bundle.makers & set(here.peers):
            if not here.peers[key].trusted:
                raise BundleError(
                    f"'{bundle.task}' was made from a head of '{here.peers[key].name}', whose trust was revoked", Reason.REVOKED
                )

    def barred(self) -> Callable[[Bundle], str]:
        """What says of a bundle in the bank why it must not serve, or "".

        A revoked peer had a hand in it; or `peers.toml` is no TOML, and nobody can tell: then only own heads serve.
        """
        try:
            revoked = peers.revoked(self.home)
        except ConfigError as error:
            self._say(f"{error}. Until then only the heads that this device has learned answer")
            mine = {"", self.own_key}
            return lambda bundle: "" if bundle.makers <= mine else "it came from elsewhere, and peers.toml cannot be read"

        def why(bundle: Bundle) -> str:
            names = [revoked[key] for key in sorted(bundle.makers) if key in revoked]
            return f"it came from '{names[0]}', whose trust was revoked" if names else ""

        return why

    def custody(self, bundle: Bundle) -> Custody:
        """Who signed it, and whether that holds."""
        if not bundle.signer:
            return Custody("nobody", "", 0, False, False)
        words = signing.fingerprint(bundle.signer)
        sound = signing.verify(bundle.signer, bundle.unsigned_digest(), bundle.signature)
        if bundle.signer == self.own_key:
            return Custody("this device", words, bundle.sequence, sound, sound)
        peer = next((p for p in self.peers.values() if p.key == bundle.signer), None)
        trusted = sound and peer is not None and peer.trusted and peer.allows(bundle.task)
        return Custody(peer.name if peer else "a stranger", words, bundle.sequence, sound, trusted)

    # -- changing

    def trust(self, peer: Peer) -> None:
        """Believe what this peer signs from now on. Raises ConfigError for this device's own key, or a name that is taken."""
        with self._bank.exclusive():  # of two processes that read, change and write, one would be lost
            self._trust(peer)

    def _trust(self, peer: Peer) -> None:
        known = self.peers
        if peer.key == self.own_key:
            raise ConfigError("that is this device's own key; it trusts itself")
        same = next((p for p in known.values() if p.key == peer.key and p.name != peer.name), None)
        if same:
            raise ConfigError(f"that key is known as '{same.name}' already; edgecl peers trust {same.name} {peer.key[:8]}...")
        before = known.get(peer.name)
        if before and before.key != peer.key:
            raise ConfigError(
                f"'{peer.name}' is known by another key, {signing.fingerprint(before.key)}; give this one another name, or "
                f"remove that one from {self.home / peers.PEERS_FILE}"
            )
        peers.store(self.home, peer)

    def revoke(self, name: str) -> list[str]:
        """Believe that peer no longer, and take what it had sent out of force. Returns those tasks."""
        with self._bank.exclusive():
            known = self.peers
            check("peer", known, name)
            peers.store(self.home, replace(known[name], trusted=False))  # first: nothing more comes in meanwhile
        gone = []
        for task, named in self._bank.current().items():
            with contextlib.suppress(BankCorrupt, BundleError):  # what cannot be read cannot answer either
                if known[name].key in from_bytes(self._bank.get(named)).makers:
                    self._bank.remove(task, named)
                    gone.append(task)
        return gone


def require_sound(bundle: Bundle) -> None:
    """Raise BundleError when the bundle names a signer who did not sign it."""
    if bundle.signer and not signing.verify(bundle.signer, bundle.unsigned_digest(), bundle.signature):
        raise BundleError(
            f"the signature of '{bundle.task}' is not that of {signing.fingerprint(bundle.signer)}: it was altered, or is "
            f"somebody else's",
            Reason.BAD_SIGNATURE,
        )


def offer_of(bundle: Bundle, data: bytes) -> Offer:
    """What is judged of a bundle and its bytes."""
    rom = bundle.provenance.get("rom")
    said: Mapping[str, Any] = rom if isinstance(rom, dict) else {}
    words = {key: printable(v, 60) for key in ("backbone", "precision") if isinstance(v := said.get(key), str)}
    return Offer(bundle.task, digest(data), len(data), bundle.signer, bundle.sequence, bundle.head.rom_id, **words)
