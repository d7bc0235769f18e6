"""Attacks by keys: stolen ones, ones that claim to follow others, and many that nobody knows."""

from __future__ import annotations

import random
from itertools import pairwise

from edgecl.sharing.bundle import MAX_SEQUENCE, from_bytes
from edgecl.sharing.chunks import Want, parts
from edgecl.sharing.protocol import Ask, Glance, Hello, Wants
from edgecl.sharing.succession import MOST, Succession, hand_over
from firmware_sim.agents import seeded_signer
from firmware_sim.foes.foe import Attack, Far, Foe, catalogue, plain_offer
from firmware_sim.foes.forgery import own_bundle, signed

SWARM = 24  # devices of a Sybil flood


def usurper(foe: Foe, far: Far, rng: random.Random) -> None:
    """Its own key as the next one of whoever has signed the loot, whose key it does not have."""
    mine = seeded_signer(foe.name, "usurper", rng.random())
    for honest in sorted({plain_offer(data).key for data in foe.loot} - {foe.signer.key}):
        true = hand_over(foe.signer, mine, 1)
        forged = Succession(honest, mine.key, 1, true.signature, true.proof)
        far.line(mine.key).say(Hello((forged,)))
        far.line(foe.signer.key).say(Hello((forged,)))
    far.line(mine.key).say(Ask())


def broken_chain(foe: Foe, far: Far, rng: random.Random) -> None:
    """Chains that go in circles, lack a link, or are longer than any device's life."""
    a, b, c = (seeded_signer(foe.name, letter, rng.random()) for letter in "abc")
    long = [seeded_signer(foe.name, n, rng.random()) for n in range(MOST + 2)]
    for chain in (
        (hand_over(a, b, 1), hand_over(b, a, 2)),
        (hand_over(a, b, 1), hand_over(c, foe.signer, 2)),
        (hand_over(a, b, 1), hand_over(b, foe.signer, 7)),
        tuple(hand_over(one, two, n % MOST + 1) for n, (one, two) in enumerate(pairwise(long))),
    ):
        far.line(foe.signer.key).say(Hello(chain))


def stolen_key(foe: Foe, far: Far, rng: random.Random) -> None:
    """A key that its owner has replaced: over a connection of its own, and on heads that the foe brings itself."""
    assert foe.stolen is not None
    line = far.line(foe.stolen.key)
    line.say(Ask())
    for data in foe.loot:
        own = own_bundle(from_bytes(data), f"{foe.name[:40]} heir", rng.getrandbits(32))
        evil = signed(own, foe.stolen, MAX_SEQUENCE - rng.randrange(1000))
        line.push(evil)
        far.line(foe.signer.key).push(evil)
        far.line(foe.signer.key).push(evil, key=foe.signer.key, sequence=1)


def second_successor(foe: Foe, far: Far, rng: random.Random) -> None:
    """With a stolen former key, another heir than the true one; both signatures are good."""
    assert foe.stolen is not None
    heir = seeded_signer(foe.name, "heir", rng.random())
    for number in (1, 2):
        far.line(heir.key).say(Hello((hand_over(foe.stolen, heir, number),)))
    far.line(heir.key).say(Ask())


def sybil(foe: Foe, far: Far, rng: random.Random) -> None:
    """Many devices that nobody knows: each greets with a chain that is good in itself, offers, asks, sends and fetches."""
    for number in range(SWARM):
        first, now = (seeded_signer(foe.name, "swarm", number, word, rng.random()) for word in ("first", "now"))
        line = far.line(now.key)
        line.say(Hello((hand_over(first, now, 1),)))
        line.say(Hello())
        data = signed(own_bundle(foe.one(rng), f"swarm {number}", rng.getrandbits(32)), now)
        line.push(data)
        line.send(parts(data, Want()))
        line.say(Glance("0" * 64))
        line.say(Ask())
        line.fetch(Wants({plain_offer(data).digest: Want()}))


def _of(*words: str) -> frozenset[str]:
    return frozenset(words)


ATTACKS = catalogue(
    usurper=Attack(usurper, _of("bad-signature", "unknown-signer")),
    broken_chain=Attack(broken_chain, _of("ProtocolError")),
    stolen_key=Attack(stolen_key, _of("revoked")),
    second_successor=Attack(second_successor, _of("collision", "unknown-signer")),
    sybil=Attack(sybil, _of("unknown-signer")),
)
