"""Attacks by what is said and when: lies in the stream, messages that are none, and a foe that waits to be asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace

from edgecl.errors import ProtocolError
from edgecl.sharing import protocol
from edgecl.sharing.chunks import CHUNK, Want, parts
from edgecl.sharing.peer import Channel
from edgecl.sharing.protocol import MAX_MESSAGE, Answers, Ask, Dones, Glance, Message, Offers, Verdict, Wants
from edgecl.sharing.trust import Offer
from firmware_sim.foes.foe import Attack, Far, Foe, catalogue, plain_offer
from firmware_sim.foes.forgery import own_bundle, signed

Lie = Callable[[list[bytes]], Iterable[bytes]]  # the parts of a sound stream -> what is sent


def _sound(foe: Foe, rng: random.Random) -> bytes:
    name = f"{foe.name[:40]} stream {rng.getrandbits(32):08x}"
    return signed(own_bundle(foe.one(rng), name, rng.getrandbits(32)), foe.signer)


def _endless(made: list[bytes]) -> Iterator[bytes]:
    yield made[0]
    while True:
        yield b"\2" + CHUNK.to_bytes(4, "big") + bytes(CHUNK)


def _flipped(part: bytes) -> bytes:
    return part[:-1] + bytes([part[-1] ^ 1])


ENDLESS: tuple[Lie, ...] = (_endless, lambda made: [*made, b"\2" + (5).to_bytes(4, "big") + b"more!"])
OTHER: tuple[Lie, ...] = (
    lambda made: parts(b"another", Want()),
    lambda made: [*made[:-1], _flipped(made[-1])],
    lambda made: [*made, *made],
)
FOREIGN: tuple[Lie, ...] = (
    lambda made: [made[0], b"\3" + bytes(16)],
    lambda made: [made[0][:-8] + (9).to_bytes(8, "big"), *made[1:]],
    lambda made: [made[0][:-8] + b"\xff" * 8, *made[1:]],
    lambda made: made[1:],
    lambda made: [b"\xff" * 100],
    lambda made: [made[0], b"\2" + bytes(4)],
)
CUT: tuple[Lie, ...] = (lambda made: made[:-1], lambda made: [*made[:-1], made[-1][:-1]], lambda made: [])


def _lying(lies: tuple[Lie, ...]) -> Callable[[Foe, Far, random.Random], None]:
    def act(foe: Foe, far: Far, rng: random.Random) -> None:
        for lie in lies:
            data = _sound(foe, rng)
            sent = list(lie(list(parts(data, Want())))) if lie is not _endless else lie(list(parts(data, Want())))
            far.line(foe.signer.key).push(data, lambda offer, sent=sent: sent)  # type: ignore[misc]

    return act


def declared_small(foe: Foe, far: Far, rng: random.Random) -> None:
    """Offered with a size of a few bytes, sent whole."""
    data = _sound(foe, rng)
    far.line(foe.signer.key).push(data, size=rng.randrange(1, 1000))


def two_senders(foe: Foe, far: Far, rng: random.Random) -> None:
    """One bundle over two connections at once: the second begins while the first is at work."""
    data = _sound(foe, rng)
    second = far.line(foe.signer.key)

    def meanwhile(offer: Offer) -> Iterator[bytes]:
        for number, part in enumerate(parts(data, Want())):
            yield part
            if number == 0:
                second.push(data)

    far.line(foe.signer.key).push(data, meanwhile)


def no_messages(foe: Foe, far: Far, rng: random.Random) -> None:
    """Bytes that are no message: garbage, other JSON, nested without end, endless numbers, a key twice, too long."""
    line = far.line(foe.signer.key)
    for data in (
        b"",
        rng.randbytes(300),
        b"{}",
        b"[]",
        b"null",
        b'{"hello":[],"ask":null}',
        b'{"ask":null,"ask":null}',
        b'{"offers":' + b"[" * 100_000,
        b'{"glance":' + b"9" * 10_000 + b"}",
        b'{"offers":{"keys":[NaN],"roms":[],"heads":[]}}',
        b'{"\\ud800":"\\ud800"}',
        b'{"offers":{"keys":["\\ud800"],"roms":[],"heads":[]}}',
        b'{"shutdown":true}',
        b" " * (MAX_MESSAGE + 1),
    ):
        line.say(data)


def out_of_state(foe: Foe, far: Far, rng: random.Random) -> None:
    """What the other side says, streams that nobody waits for, and bundles that were not offered."""
    line = far.line(foe.signer.key)
    offer = plain_offer(foe.loot[0])
    for message in (Verdict(True), Answers(()), Dones(()), Wants({}), protocol.Refusal("BankError", "no", "")):
        line.say(message)
    line.send(parts(foe.loot[0], Want()))
    line.fetch(Wants({offer.digest: Want()}))
    line.fetch(Ask())
    line.offer(offer, offer)
    line.say(Ask())
    line.fetch(Wants({f"{rng.getrandbits(256):064x}": Want()}))


def eavesdrop(foe: Foe, far: Far, rng: random.Random) -> None:
    """Everything that could make the victim tell what it has, and bundles by names that the foe has overheard."""
    line = far.line(foe.signer.key)
    line.fetch(Wants({plain_offer(data).digest: Want() for data in foe.loot}))
    line.say(Glance("0" * 64))
    line.say(Ask())


# -- the victim comes


class Ambush(Channel):
    """A foe that is asked. answer: to every message.   stream: to what is wanted."""

    def __init__(self, far: Far, key: str, answer: Message | bytes, stream: Iterable[bytes] = ()) -> None:
        self.key, self.where = key, f"the device {key[:8]}"
        self._far, self._stream = far, stream
        self._answer = answer if isinstance(answer, bytes) else protocol.encode(answer)

    def ask(self, message: bytes) -> bytes:
        self._far.sent += len(self._answer)
        return self._answer

    def send(self, stream: Iterable[bytes]) -> bytes:
        raise ProtocolError("nothing is sent to an ambush")

    def fetch(self, message: bytes) -> Generator[bytes, None, None]:
        yield from self._far.counted(self._stream)


def ambush_words(foe: Foe, far: Far, rng: random.Random) -> None:
    """To the question what there is, everything but an honest list."""
    offer = plain_offer(_sound(foe, rng))
    for answer in (
        b"",
        rng.randbytes(200),
        b" " * (MAX_MESSAGE + 1),
        Verdict(True),
        Offers((offer, offer)),
        Offers((replace(offer, task="../../peers.toml"),)),
        Offers((replace(offer, size=0),)),
        Offers((replace(offer, sequence=1 << 63),)),
        protocol.Refusal("PeerRefused", "\x1b[2J", "busy"),
    ):
        far.lure(Ambush(far, foe.signer.key, answer))


def ambush_stream(foe: Foe, far: Far, rng: random.Random) -> None:
    """An honest list, and another stream than the one that is wanted."""
    for lie in (*ENDLESS, *OTHER, *FOREIGN, *CUT):
        data = _sound(foe, rng)
        far.lure(Ambush(far, foe.signer.key, Offers((plain_offer(data),)), lie(list(parts(data, Want())))))


def _of(*words: str) -> frozenset[str]:
    return frozenset(words)


ATTACKS = catalogue(
    declared_small=Attack(declared_small, _of("ProtocolError")),
    endless_stream=Attack(_lying(ENDLESS), _of("ProtocolError")),
    other_bundle=Attack(_lying(OTHER), _of("ProtocolError")),
    foreign_chunk=Attack(_lying(FOREIGN), _of("ProtocolError")),
    truncated=Attack(_lying(CUT), _of("ProtocolError", "refused")),
    two_senders=Attack(two_senders, _of("busy"), "over the first connection its own sound head comes, and is taken"),
    no_messages=Attack(no_messages, _of("ProtocolError")),
    out_of_state=Attack(out_of_state, _of("ProtocolError", "PeerRefused")),
    eavesdrop=Attack(eavesdrop, _of("PeerRefused"), "who is trusted may ask what there is"),
    ambush_words=Attack(ambush_words, _of("ProtocolError", "busy")),
    ambush_stream=Attack(ambush_stream, _of("ProtocolError", "refused")),
)
