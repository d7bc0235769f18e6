"""What holds on any honest device at any time, whatever its peers, its flash and its power do. Looked at after every event.

A look at a device on which nothing has changed costs two file states and two pragmas; a full one reads every bundle.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from edgecl.device import EdgeDevice
from edgecl.errors import BankError, BundleError, ConfigError
from edgecl.sharing.bundle import Bundle, card_only


@dataclass(frozen=True)
class _Look:
    """One look at a device: its state then, what it was judged by, and what was found.   heads: by digest, read before."""

    stamp: object
    made: int
    trusted: frozenset[str]
    sound: bool
    problems: list[str]
    heads: dict[str, Bundle]
    revoked: frozenset[str]


_LOOKS: weakref.WeakKeyDictionary[EdgeDevice, _Look] = weakref.WeakKeyDictionary()


def invariants(
    device: EdgeDevice, made: Mapping[str, Collection[str]], trusted: Collection[str], sound: bool = True
) -> list[str]:
    """What does not hold on an honest device, as sentences; an empty list when all does.

    made: task -> digests of all that its authors have made so far, `device` itself included.   trusted: keys that it may have
    believed at some time, its own included.   sound: False while its flash is known to be damaged: what cannot be read is then
    not held against it; what can be read still must be right.

    - the bank is sound, and every head in it, in force or in history, is byte for byte one that was made, for its task;
    - none is unsigned or signed by who was never trusted, not even in history;
    - none that answers was signed by, or made from, a revoked peer's;
    - nobody is trusted who is not in `trusted`, nor who was seen revoked before (a person may; a simulation says so by a new
      device object).
    """
    last = _LOOKS.get(device)
    stamp = device.bank.version(), device.trust.stamp()
    asked = frozenset(trusted)
    count = sum(map(len, made.values()))
    if last is not None and (last.stamp, last.made, last.trusted, last.sound) == (stamp, count, asked, sound):
        return list(last.problems)
    heads = last.heads if last is not None else {}
    revoked = last.revoked if last is not None else frozenset[str]()
    problems = [] if not sound else device.bank.verify()
    try:
        problems += _of_bank(device, made, asked, sound, heads)
        peers = device.trust.peers.values()
        problems += [f"'{p.name}' is trusted, whom nobody has introduced" for p in peers if p.trusted and not asked & {*p.line}]
        problems += [f"'{p.name}' is trusted again" for p in peers if p.trusted and revoked & {*p.line}]
        revoked |= frozenset(key for p in peers if not p.trusted for key in p.line)
        problems += _of_answers(device, revoked, heads)
    except (BankError, ConfigError) as error:
        problems += [str(error)] if sound else []
    stamp = device.bank.version(), device.trust.stamp()
    _LOOKS[device] = _Look(stamp, count, asked, sound, problems, heads, revoked)
    return list(problems)


def _of_bank(
    device: EdgeDevice, made: Mapping[str, Collection[str]], trusted: frozenset[str], sound: bool, heads: dict[str, Bundle]
) -> list[str]:
    found, kept = [], device.bank.generations()
    for task, digest in kept:
        try:
            card = heads.get(digest) or card_only(device.bank.get(digest))
        except (BankError, BundleError) as error:
            found += [f"'{task}': {error}"] if sound else []
            continue
        heads[digest] = card
        if digest not in made.get(card.task, ()):
            found.append(f"'{task}' holds {digest[:12]}, which none of its authors has made")
        if card.signer not in trusted:
            found.append(f"'{task}' holds {digest[:12]}, signed by {card.signer[:12] or 'nobody'}, who was never trusted")
    for digest in set(heads) - {digest for _, digest in kept}:
        del heads[digest]
    return found


def _of_answers(device: EdgeDevice, revoked: frozenset[str], heads: Mapping[str, Bundle]) -> list[str]:
    current = device.bank.current()
    names = (*device.tasks, *device.opinions)
    return [f"'{task}' answers, but a revoked peer made it" for task in names if heads[current[task]].makers & revoked]
