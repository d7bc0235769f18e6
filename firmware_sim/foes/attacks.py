"""Every attack by its name, and what becomes of one: what the victim said, and whether it is as it was.

outcome = run("mix-and-match", foe, victim, seed=7)

Of docs/attacks.md these are not here, because what they are about is not between two conversations: slow senders and readers,
endless HTTP, certificates and the man in the middle, local calls, browsers and mDNS (sockets, time, the operating system);
dying peers, full disks and clocks (faults); trust that is taken back in the middle of a transfer (an event of a scenario).
A stolen key before its owner has replaced it is believed until it is revoked: there is nothing to refuse.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgecl.device import EdgeDevice
from edgecl.registry import check
from edgecl.sharing import protocol
from edgecl.sharing.peers import PEERS_FILE
from edgecl.sharing.protocol import Ask, Offers, Refusal
from edgecl.sharing.signing import KEY_FILE, public_key
from edgecl.sharing.trust import Offer
from firmware_sim.foes import bundles, keys, talk
from firmware_sim.foes.foe import REPLACED, TRUSTED, Attack, Connect, Far, Foe, standing, wired

ATTACKS: Mapping[str, Attack] = MappingProxyType({**bundles.ATTACKS, **talk.ATTACKS, **keys.ATTACKS})
_STOLEN = ("stolen-key", "second-successor")


@dataclass(frozen=True)
class Outcome:
    """What became of an attack.

    standing: of the foe at the victim.   refused: the victim's words, each once, joined by commas; "" when it refused nothing.
    bytes_sent: to the victim.   taken: (task, digest) of sound heads of the foe's own that the victim took, as it may.
    changed: whether anything else is not as it was.   problems: what, as sentences.
    """

    kind: str
    standing: str
    refused: str
    bytes_sent: int
    taken: tuple[tuple[str, str], ...]
    changed: bool
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _State:
    """What a device is, as far as a stranger might change it."""

    current: Mapping[str, str]
    generations: frozenset[tuple[str, str]]
    accepted: Mapping[tuple[str, str, str], tuple[int, str]]
    files: Mapping[str, bytes]

    @classmethod
    def of(cls, device: EdgeDevice) -> _State:
        files = {name: path.read_bytes() for name in (PEERS_FILE, KEY_FILE) if (path := device.home / name).exists()}
        bank = device.bank
        return cls(bank.current(), frozenset(bank.generations()), bank.accepted(), files)


def possible(foe: Foe, victim: EdgeDevice) -> list[str]:
    """The attacks that this foe can make on that device, by name."""
    out = set[str]()
    if foe.stolen is None or standing(victim, foe.stolen.key) != REPLACED:
        out |= {*_STOLEN}
    holder = victim.trust.holders().get(foe.signer.key)
    if holder is not None and holder.trusted and not holder.tasks:
        out.add("not-allowed")
    return [kind for kind in ATTACKS if kind not in out]


def run(kind: str, foe: Foe, victim: EdgeDevice, seed: int, connect: Connect | None = None) -> Outcome:
    """Make one attack, and look at the victim. The same seed sends the same bytes to a victim in the same state.

    connect: how the foe reaches the victim; None takes connections in memory. Raises UnknownName.
    """
    check("attack", ATTACKS, kind)
    _ = victim.trust.signer  # a device that has never spoken makes its key now, which is no harm that the foe did
    reach = connect or wired(victim)
    far, before = Far(victim, reach), _State.of(victim)
    what, honest = standing(victim, foe.signer.key), _honest(victim, foe)
    served = _offers(reach, honest)
    ATTACKS[kind].act(foe, far, random.Random(f"{seed} {kind} {foe.name}"))
    after = _State.of(victim)
    own = frozenset((t, d) for t, d in after.generations - before.generations if _is_own(victim, d, foe) and what == TRUSTED)
    problems = _problems(before, after, own, foe.signer.key) + victim.bank.verify()
    found = _offers(reach, honest)
    lost = set(served or ()) - set(found or ())
    if (served is None) != (found is None) or lost:
        problems.append(f"an honest peer is answered otherwise than before: {len(lost)} offers are missing")
    words = ",".join(dict.fromkeys(far.told))
    return Outcome(kind, what, words, far.sent, tuple(sorted(own)), bool(problems), tuple(problems))


def _is_own(victim: EdgeDevice, digest: str, foe: Foe) -> bool:
    return victim.bundle(digest).signer == foe.signer.key


def _problems(before: _State, after: _State, own: frozenset[tuple[str, str]], key: str) -> list[str]:
    """What is not as it was, but for the foe's `own` heads and the numbers of its `key`."""
    found = [f"'{task}' was changed" for task, digest in before.current.items() if after.current.get(task) != digest]
    new = {*after.generations, *after.current.items()} - before.generations - {*before.current.items()} - own
    found += [f"'{task}' holds {digest[:12]}, which nobody may bring" for task, digest in new]
    found += [f"an earlier generation of '{task}' is gone" for task, _ in before.generations - after.generations]
    marks = {mark for mark in {*before.accepted, *after.accepted} if mark[0] != key or not own}
    moved = [mark for mark in marks if before.accepted.get(mark) != after.accepted.get(mark)]
    found += [f"the number that is known of '{task}' was changed" for _, task, _ in moved]
    names = {*before.files, *after.files}
    found += [f"{name} was changed" for name in names if before.files.get(name) != after.files.get(name)]
    return sorted(found)


def _honest(victim: EdgeDevice, foe: Foe) -> str:
    """The key of a peer that the victim trusts and that is not the foe; a stranger's, where there is none."""
    keys_ = sorted(peer.key for peer in victim.trust.peers.values() if peer.trusted and peer.key != foe.signer.key)
    return keys_[0] if keys_ else public_key(victim.home)[::-1]


def _offers(reach: Connect, key: str) -> tuple[Offer, ...] | None:
    """What the victim says that it has, to the holder of that key; None where it tells nothing."""
    said = protocol.decode(reach(key).ask(protocol.encode(Ask())))
    assert isinstance(said, (Offers, Refusal))
    return said.heads if isinstance(said, Offers) else None
