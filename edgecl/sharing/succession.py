"""A device's new key, signed by the one it replaces: who trusted the old one may trust the new one. Pure functions, no files.

A succession names both keys. The old one signs it, else anybody could take its place; the new one signs it too, else a device
could declare another's key its own and be credited with what that one signs. A device's successions are a chain, oldest first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from typing import Any

from edgecl.errors import BundleError, Reason
from edgecl.sharing import signing
from edgecl.sharing.signing import Signer, fingerprint
from edgecl.sharing.trust import Peer
from edgecl.text import printable

FORMAT = 1
MOST = 32  # successions of one device; one a year is enough for its life
MAX_BYTES = 1 << 14  # of a chain; that many fill 14 kB
_DOMAIN = b"edgecl succession 1\0"
_KEY = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")


@dataclass(frozen=True)
class Succession:
    """One key in place of another.

    number: which of its device's, from 1.   signature: of `statement` by `old`; proof: by `new`; 128 hexadecimal digits.
    """

    old: str
    new: str
    number: int
    signature: str
    proof: str

    @property
    def statement(self) -> bytes:
        """What both keys sign, in the domain of successions."""
        return _statement(self.old, self.new, self.number)


def _statement(old: str, new: str, number: int) -> bytes:
    return bytes.fromhex(old) + bytes.fromhex(new) + number.to_bytes(8, "little")


def hand_over(old: Signer, new: Signer, number: int) -> Succession:
    """`new` in place of `old`, signed by both."""
    statement = _statement(old.key, new.key, number)
    return Succession(old.key, new.key, number, old.sign(statement, _DOMAIN), new.sign(statement, _DOMAIN))


def verify(link: Succession) -> None:
    """Raise BundleError unless both keys have signed it."""
    for key, signature in ((link.old, link.signature), (link.new, link.proof)):
        if not signing.verify(key, link.statement, signature, _DOMAIN):
            raise BundleError(
                f"that {fingerprint(link.new)} takes the place of {fingerprint(link.old)} is not signed by "
                f"{fingerprint(key)}: it was altered, or is somebody else's; nothing was changed",
                Reason.BAD_SIGNATURE,
            )


def require_chain(chain: Sequence[Succession]) -> None:
    """Raise BundleError unless each begins where the one before ends, in number too, and no key comes back."""
    if len(chain) > MOST:
        raise BundleError(f"a device's chain of keys has {len(chain):,} successions, accepted are {MOST}", Reason.TOO_LARGE)
    joined = all(b.old == a.new and b.number == a.number + 1 for a, b in pairwise(chain))
    if not joined or len({link.old for link in chain} | {link.new for link in chain[-1:]}) <= len(chain) > 0:
        raise BundleError("the successions of a device's keys are no chain: one is missing, or a key comes back")


def to_values(chain: Sequence[Succession]) -> list[dict[str, Any]]:
    """Plain JSON values, for a message that has more in it."""
    return [asdict(link) for link in chain]


def from_values(values: object) -> list[Succession]:
    """The inverse. Raises BundleError for anything but a chain; its signatures are looked at by `follow`."""
    if not isinstance(values, list):
        raise BundleError("the successions of a device's keys are no list")
    if len(values) > MOST:
        raise BundleError(f"a device's chain of keys has {len(values):,} successions, accepted are {MOST}", Reason.TOO_LARGE)
    chain = [_link(value) for value in values]
    require_chain(chain)
    return chain


def _link(value: object) -> Succession:
    if not isinstance(value, dict) or set(value) != {field.name for field in fields(Succession)}:
        raise BundleError("a succession has old, new, number, signature and proof, and nothing else")
    forms = {"old": _KEY, "new": _KEY, "signature": _SIGNATURE, "proof": _SIGNATURE}
    number = value["number"]
    if not all(isinstance(value[name], str) and form.fullmatch(value[name]) for name, form in forms.items()):
        raise BundleError("a succession's keys and signatures are hexadecimal, 64 and 128 small digits")
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST:
        raise BundleError(f"a succession's number must lie in 1 to {MOST}")
    return Succession(**value)


def to_json(chain: Sequence[Succession]) -> bytes:
    """The one file that means this chain; one line."""
    content = {"format": FORMAT, "successions": to_values(chain)}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def from_json(data: bytes) -> list[Succession]:
    """The inverse. Raises BundleError for anything else; the signatures are looked at by `follow`."""
    if len(data) > MAX_BYTES:
        raise BundleError(f"a chain of keys has more than the {MAX_BYTES:,} bytes that are accepted", Reason.TOO_LARGE)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"a chain of keys cannot be read: {printable(str(error), 200)}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BundleError(f"a chain of keys is not of format {FORMAT}; update edgecl, if it comes from a later one")
    chain = from_values(content.get("successions"))
    if to_json(chain) != data:
        raise BundleError("a chain of keys is not in canonical form; something was added or respelled")
    return chain


def follow(chain: Sequence[Succession], key: str) -> tuple[str, ...]:
    """The keys that came after `key`, oldest first; none where the chain does not say. Raises BundleError.

    Each is signed by the one before, so who trusts `key` may trust the last.
    """
    require_chain(chain)
    later = chain[next((at for at, link in enumerate(chain) if link.old == key), len(chain)) :]
    for link in later:
        verify(link)
    return tuple(link.new for link in later)


def succeed(peer: Peer, chain: Sequence[Succession]) -> Peer:
    """`peer` with its newest key; as it is where the chain says nothing new of it. Raises BundleError, with the reason.

    A key that is replaced a second time, by another one, is in two hands: `collision`.
    """
    require_chain(chain)
    for link in chain:
        if link.old in peer.former and link.new != (known := peer.line[peer.line.index(link.old) + 1]):
            verify(link)
            raise BundleError(
                f"the key {fingerprint(link.old)} of '{peer.name}' was replaced by {fingerprint(known)}, and now it names "
                f"{fingerprint(link.new)} too: somebody has a copy of it. Nothing was changed. Ask at '{peer.name}' what "
                f"`edgecl peers id` says there; unless it is {fingerprint(peer.key)}: edgecl peers revoke {peer.name}, and "
                f"trust the true one under another name",
                Reason.COLLISION,
            )
    after = follow(chain, peer.key)
    if not after:
        return peer
    line = (*peer.line, *after)
    if len(line) > len(set(line)):
        raise BundleError(f"'{peer.name}' goes back to a key that it has replaced; nothing was changed")
    if len(line) > MOST + 1:
        raise BundleError(
            f"'{peer.name}' has changed its key {len(line) - 1} times, accepted are {MOST}: remove it from peers.toml and "
            f"trust it anew, after comparing fingerprints",
            Reason.TOO_LARGE,
        )
    return replace(peer, key=after[-1], former=line[:-1])
