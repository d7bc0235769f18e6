"""What a device signs with and whom it believes: its key, `peers.toml`, and the counters in its bank, behind one door."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from edgecl.bank.bank import HeadBank
from edgecl.errors import BankBusy, BankCorrupt, BundleError, ConfigError, IdentityError, Reason
from edgecl.files import sync_folder, write_whole
from edgecl.registry import check
from edgecl.rom.image import RomImage
from edgecl.sharing import peers, signing, succession
from edgecl.sharing.bundle import MAX_SEQUENCE, Bundle, digest, from_bytes
from edgecl.sharing.succession import Succession
from edgecl.sharing.transport import tls
from edgecl.sharing.trust import Offer, Peer, Seen, Standing, judge
from edgecl.text import printable

_LAST = "identity.sequence"  # holds the key and the last number that this device has signed with it
_BEGUN = "identity.rotating"  # holds the key that is being replaced, until the heads are signed with the new one


@dataclass(frozen=True)
class Custody:
    """Where a bundle comes from.

    signer: "this device", the name of a peer, or "a stranger"; "nobody" for an unsigned one.   fingerprint: of its key.
    sound: whether the signature is that key's.   trusted: whether that signer is, for this task.   former: whether he has
    replaced the key since; what is new and signed with it is not taken.
    """

    signer: str
    fingerprint: str
    sequence: int
    sound: bool
    trusted: bool
    former: bool = False


@dataclass(frozen=True)
class Rotation:
    """What `rotate` did.

    old, new: keys.   signed: tasks whose heads were signed again.   resumed: it went on with one that had been cut off.
    """

    old: str
    new: str
    signed: tuple[str, ...]
    resumed: bool


class TrustStore:
    """Safe to keep open: key and `peers.toml` are read again when they have changed."""

    def __init__(self, home: Path, bank: HeadBank, say: Callable[[str], None] = lambda line: None) -> None:
        self.home, self._bank, self._say = home, bank, say
        self._signer: signing.Signer | None = None
        self._holders: tuple[object, dict[str, Peer]] | None = None  # as of a stamp

    @property
    def signer(self) -> signing.Signer:
        """This device's key, made on first use."""
        if self._signer is None or self._signer.key != self.own_key:  # another process may have replaced it
            self._signer = signing.identity(self.home)
        return self._signer

    @property
    def own_key(self) -> str:
        """Its public half; "" where there is none yet: to look at bundles needs no key, and no home that can be written."""
        return signing.public_key(self.home)

    def successions(self) -> list[Succession]:
        """How this device came to its key, oldest first; empty for a first key. Raises IdentityError."""
        noted = signing.notes(self.home)
        if noted is None:
            return []
        try:
            chain = succession.from_json(noted[1])
        except BundleError as error:
            raise IdentityError(
                f"what {self.home / signing.KEY_FILE} says of former keys cannot be read: {error}; restore it from a copy"
            ) from error
        if [link.new for link in chain][-1:] != [noted[0]]:
            raise IdentityError(
                f"the former keys in {self.home / signing.KEY_FILE} lead to another key; restore it from a copy"
            )
        return chain

    @property
    def here(self) -> Peer:
        """This device as it would stand among the peers."""
        chain = self.successions()
        return Peer("this device", chain[-1].new if chain else self.own_key, former=tuple(link.old for link in chain))

    def holders(self) -> dict[str, Peer]:
        """By key, present ones and former: this device and all peers."""
        stamp, held = self.stamp(), self._holders
        if held is None or held[0] != stamp:
            held = stamp, {key: peer for peer in (*self.peers.values(), self.here) for key in peer.line if key}
            self._holders = held
        return held[1]

    def newest_key(self, key: str) -> str:
        """The key that whoever holds `key` signs with today: what tells whether two bundles are of one device."""
        holder = self.holders().get(key)
        return holder.line[-1] if holder else key

    @property
    def peers(self) -> dict[str, Peer]:
        """By name. Raises ConfigError when the file cannot be meant."""
        return peers.load(self.home)

    def stamp(self) -> object:
        """A value that differs after any change to `peers.toml` or to this device's key."""
        found = []
        for name in (peers.PEERS_FILE, signing.KEY_FILE):
            with contextlib.suppress(OSError):
                facts = os.stat(self.home / name)
                found.append((name, facts.st_ino, facts.st_mtime_ns, facts.st_size))
        return tuple(found)

    # -- signing

    def sign(self, bundle: Bundle) -> Bundle:
        """The bundle under this device's signature, with its next number; whose it was before is told by its provenance."""
        signer = self.signer
        numbered = replace(bundle, signer=signer.key, sequence=self._next_number(), signature="")
        return replace(numbered, signature=signer.sign(numbered.unsigned_digest()))

    def _next_number(self) -> int:
        """The next number to sign with. It is noted beside the key too: others remember the numbers of a bank that was lost."""
        path, key, noted = self.home / _LAST, self.own_key, 0
        with contextlib.suppress(OSError, ValueError):
            of, last = path.read_bytes()[:100].split()
            noted = int(last) if of == key.encode() else 0  # each key counts from 1
        number = self._bank.next_sequence(key, noted if 0 <= noted < MAX_SEQUENCE >> 8 else 0)
        try:
            write_whole(path, b"%s %d\n" % (key.encode(), number))
        except OSError as error:
            raise IdentityError(f"{path} cannot be written: {error.strerror}; nothing was signed") from error
        return number

    # -- deciding

    def standing(self, image: RomImage, quota: int | None) -> Standing:
        """What bundles are judged by now; of use for many. quota: bytes of all bundles."""
        me = self.here
        return Standing(
            key=me.key or "none yet",
            rom_id=image.rom_id,
            backbone=image.backbone,
            precision=image.precision,
            peers={peer.key: peer for peer in self.peers.values()},
            seen={pair: Seen(*seen) for pair, seen in self._bank.accepted().items()},
            room=None if quota is None else quota - self._bank.size(),
            former=me.former,
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
        for key in sorted(bundle.makers):
            if (maker := here.holder(key)) and not maker.trusted:
                raise BundleError(
                    f"'{bundle.task}' was made from a head of '{maker.name}', whose trust was revoked", Reason.REVOKED
                )

    def believed(self) -> tuple[object, Iterator[str]]:
        """(stamp, keys of the peers that are trusted): who may speak to this device. ConfigError is raised by the keys."""
        return self.stamp(), self._trusted()

    def _trusted(self) -> Iterator[str]:
        yield from (peer.key for peer in self.peers.values() if peer.trusted)

    def barred(self) -> Callable[[Bundle], str]:
        """What says of a bundle in the bank why it must not serve, or "".

        A revoked peer had a hand in it; or `peers.toml` is no TOML, and nobody can tell: then only own heads serve.
        """
        try:
            revoked = peers.revoked(self.home)
        except ConfigError as error:
            self._say(f"{error}. Until then only the heads that this device has learned answer")
            mine = {"", *self.here.line}
            return lambda bundle: "" if bundle.makers <= mine else "it came from elsewhere, and peers.toml cannot be read"

        def why(bundle: Bundle) -> str:
            names = [revoked[key] for key in sorted(bundle.makers) if key in revoked]
            return f"it came from '{names[0]}', whose trust was revoked" if names else ""

        return why

    def custody(self, bundle: Bundle, sound: bool | None = None) -> Custody:
        """Who signed it, and whether that holds. sound: whether the signature is good, where that is known already."""
        if not bundle.signer:
            return Custody("nobody", "", 0, False, False)
        words = signing.fingerprint(bundle.signer)
        if sound is None:
            sound = signing.verify(bundle.signer, bundle.unsigned_digest(), bundle.signature)
        peer = self.holders().get(bundle.signer)
        if peer is None:
            return Custody("a stranger", words, bundle.sequence, sound, False)
        trusted = sound and peer.trusted and peer.allows(bundle.task)
        return Custody(peer.name, words, bundle.sequence, sound, trusted, bundle.signer in peer.former)

    # -- changing

    def trust(self, peer: Peer) -> None:
        """Believe what this peer signs from now on. Raises ConfigError for this device's own key, or a name that is taken."""
        with self._bank.exclusive():  # of two processes that read, change and write, one would be lost
            self._trust(peer)

    def _trust(self, peer: Peer) -> None:
        known = self.peers
        if peer.key in self.here.line:
            raise ConfigError("that is this device's own key; it trusts itself")
        if old := next((p for p in known.values() if peer.key in p.former), None):
            raise ConfigError(f"'{old.name}' has replaced that key by {signing.fingerprint(old.key)}; trust that one, or none")
        same = next((p for p in known.values() if p.key == peer.key and p.name != peer.name), None)
        if same:
            raise ConfigError(f"that key is known as '{same.name}' already; edgecl peers trust {same.name} {peer.key[:8]}...")
        before = known.get(peer.name)
        if before and before.key != peer.key:
            raise ConfigError(
                f"'{peer.name}' is known by another key, {signing.fingerprint(before.key)}; give this one another name, or "
                f"remove that one from {self.home / peers.PEERS_FILE}. A device whose key was changed by `edgecl peers rotate` "
                f"says so itself, at the next pull"
            )
        peers.store(self.home, replace(peer, former=before.former) if before else peer)

    def revoke(self, name: str) -> list[str]:
        """Believe that peer no longer, and take what it had sent out of force. Returns those tasks."""
        with self._bank.exclusive():
            known = self.peers
            check("peer", known, name)
            peers.store(self.home, replace(known[name], trusted=False))  # first: nothing more comes in meanwhile
        gone = []
        for task, named in self._bank.current().items():
            with contextlib.suppress(BankCorrupt, BundleError):  # what cannot be read cannot answer either
                if from_bytes(self._bank.get(named)).makers & {*known[name].line}:
                    self._bank.remove(task, named)
                    gone.append(task)
        return gone

    def succeed(self, chain: Sequence[Succession]) -> list[str]:
        """Take the new keys of peers, as their old keys have signed them. Returns, and says, a line for each peer that has one.

        Who is revoked stays so under the new key. Raises BundleError for a chain that is forged, or that gives a key a second
        successor; whom that is about keeps the key that is known.
        """
        with self._bank.exclusive():
            known, here = self.peers, self.here
            self._require_own(here, chain)
            changed = [(peer, now) for peer in known.values() if (now := succession.succeed(peer, chain)) != peer]
            for peer, now in changed:
                taken = next((p.name for p in (*known.values(), here) if p.name != peer.name and {*p.line} & {*now.line}), "")
                if taken:
                    raise BundleError(
                        f"'{peer.name}' names {signing.fingerprint(now.key)} as its new key, which is known here as '{taken}': "
                        f"remove one of the two from {self.home / peers.PEERS_FILE}",
                        Reason.COLLISION,
                    )
            lines = []
            for peer, now in changed:
                peers.store(self.home, now)
                words = f"'{peer.name}' has a new key, signed by the old one: {signing.fingerprint(now.key)}"
                lines.append(words if peer.trusted else f"{words}; its trust was revoked, and stays so")
        for line in lines:
            self._say(line)
        return lines

    @staticmethod
    def _require_own(here: Peer, chain: Sequence[Succession]) -> None:
        """Raise BundleError where the chain gives this device's own key a successor that it has not made."""
        try:
            if succession.succeed(here, chain) == here:
                return
        except BundleError as error:
            if error.reason is not Reason.COLLISION:
                raise
        raise BundleError(
            f"a key of this device (it is {signing.fingerprint(here.key)} now) was given a successor elsewhere, by a copy of "
            f"this home or by a thief. Nothing was changed. Unless it was you: have this key revoked where it is trusted, "
            f"delete {signing.KEY_FILE} here, and have the next one trusted",
            Reason.COLLISION,
        )

    # -- a new key

    def rotate(self) -> Rotation:
        """Give this device a new key, signed by the one it had, and sign the heads in force that it has learned with that.

        Cut off at any moment, the device has the old key or the new one with its succession, and every head answers; the next
        call finishes. Raises IdentityError, or BankError where the heads cannot be written.
        """
        with self._bank.exclusive():
            old, resumed = self._replaced_key()
        self._say(f"this device's key is now {signing.fingerprint(self.own_key)}; its heads are signed again")
        done = Rotation(old, self.own_key, tuple(self._sign_again()), resumed)
        with contextlib.suppress(OSError):  # then the next call finds nothing to go on with, and takes it away
            (self.home / _BEGUN).unlink()
            sync_folder(self.home)
        return done

    def _replaced_key(self) -> tuple[str, bool]:
        """The key before the present one, and whether an earlier rotation had replaced it already and was cut off then."""
        chain, begun = self.successions(), self.home / _BEGUN
        with contextlib.suppress(OSError):
            if chain and begun.read_text().strip() == chain[-1].old:
                return chain[-1].old, True
        if not self.own_key:
            raise IdentityError("this device has no key yet: it is made when something is learned, or by edgecl peers id")
        if len(chain) >= succession.MOST:
            raise IdentityError(
                f"this device has replaced its key {len(chain)} times, and others follow no further. For a new line of keys "
                f"delete {self.home / signing.KEY_FILE}; others must trust the next one anew"
            )
        old, new = self.signer, signing.Signer.fresh()
        try:
            write_whole(begun, f"{old.key}\n".encode())
        except OSError as error:
            raise IdentityError(f"{begun} cannot be written: {error.strerror}; nothing was changed") from error
        chain.append(succession.hand_over(old, new, len(chain) + 1))
        signing.replace_key(self.home, new, succession.to_json(chain), tls.crossing(old, new.key))
        return old.key, False

    def _sign_again(self) -> list[str]:
        """Sign what is in force and was signed with a former key of this device; returns the tasks. The rest of it stays."""
        former, done = self.here.former, []
        for task, named in self._bank.current().items():
            with contextlib.suppress(BankCorrupt, BundleError):  # what cannot be read cannot answer either
                bundle = from_bytes(self._bank.get(named))
                if bundle.signer in former:
                    require_sound(bundle)
                    again = self.sign(bundle)
                    still, below = partial(self._require_same, task, named), self._bank.below(named)
                    self._bank.put(task, again.to_bytes(), "re-sign", again.mark, still, below=below)
                    done.append(task)
        return done

    def _require_same(self, task: str, named: str) -> None:
        if self._bank.current().get(task) != named:
            raise BankBusy(f"another process has changed '{task}' meanwhile; edgecl peers rotate goes on from here")


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
