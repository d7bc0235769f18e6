"""A hostile device, and the victim as it reaches it: over connections that prove a key, or by waiting until the victim comes.

What a foe says goes over the channels that devices use, as bytes; what the victim answers is noted by its reasons alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType

from edgecl.device import EdgeDevice
from edgecl.errors import EdgeclError
from edgecl.peering import Station, fetch, inbox
from edgecl.sharing import protocol
from edgecl.sharing.bundle import Bundle, card_only, digest, from_bytes
from edgecl.sharing.chunks import Want, parts
from edgecl.sharing.peer import Channel, Dealt, Responder, refusal
from edgecl.sharing.protocol import Answers, Dones, Message, Offers, Refusal
from edgecl.sharing.signing import Signer
from edgecl.sharing.transport.wired import Wired
from edgecl.sharing.trust import Offer, Peer
from edgecl.sharing.trust_store import offer_of
from edgecl.types import task_name

STRANGER, TRUSTED, REVOKED, REPLACED = "stranger", "trusted", "revoked", "replaced"
_MOST_PARTS = 256  # that a foe ever sends of one stream: an endless one ends, where the victim does not end it

Connect = Callable[[str], Channel]  # a new connection to the victim, from whoever proves that key
Send = Callable[[Offer], Iterable[bytes]]


@dataclass(frozen=True)
class Foe:
    """A hostile device.

    signer: its own key pair.   loot: sound bundles for the victim's ROM that it has learned or overheard, one or more.
    stolen: a former key of a device that the victim trusts, if it has one.
    """

    name: str
    signer: Signer
    loot: tuple[bytes, ...]
    stolen: Signer | None = None

    def one(self, rng: random.Random) -> Bundle:
        """One of the loot."""
        return from_bytes(rng.choice(self.loot))


def standing(victim: EdgeDevice, key: str) -> str:
    """What the holder of `key` is to that device: STRANGER, TRUSTED, REVOKED, or REPLACED for a former key."""
    holder = victim.trust.holders().get(key)
    if holder is None:
        return STRANGER
    if not holder.trusted:
        return REVOKED
    return TRUSTED if holder.key == key else REPLACED


def introduce(victim: EdgeDevice, name: str, key: str, as_: str, tasks: tuple[str, ...] = ()) -> None:
    """Give the holder of `key` that standing at the victim. tasks: patterns that a trusted one may send."""
    if as_ in (TRUSTED, REVOKED):
        victim.trust.trust(Peer(name, key, tasks=tasks))
    if as_ == REVOKED:
        victim.trust.revoke(name)


def wired(victim: EdgeDevice) -> Connect:
    """Connections in memory to one process of that device, as `edgecl serve` has them: one station, one inbox."""
    station, box, dealt = Station(victim), inbox(victim), dict[str, Dealt]()
    return lambda key: Wired(Responder(station, box, key, dealt), victim.trust.own_key)


class Far:
    """The victim, as a foe reaches it. sent: bytes that went to it.   told: why it refused, in words, as often as it said."""

    def __init__(self, victim: EdgeDevice, connect: Connect) -> None:
        self._victim, self._connect = victim, connect
        self.sent = 0
        self.told: list[str] = []

    def line(self, key: str) -> Line:
        """A new connection by who proves `key`."""
        return Line(self, self._connect(key))

    def lure(self, channel: Channel) -> None:
        """The victim comes to that channel and asks for all that is new."""
        try:
            outcomes = fetch(self._victim, channel)
        except EdgeclError as error:
            self.note(error)
            return
        self.told += [one.reason or "refused" for one in outcomes if one.state in ("refused", "older", "foreign")]

    def counted(self, stream: Iterable[bytes]) -> Iterator[bytes]:
        """The parts of a stream, as they are sent to the victim; of an endless one no more than it should ever ask for."""
        for part in islice(stream, _MOST_PARTS):
            self.sent += len(part)
            yield part

    def note(self, error: EdgeclError) -> None:
        """Note why that was refused."""
        self.told.append(str(getattr(error, "reason", "") or type(error).__name__))


class Line:
    """One connection to the victim. Nothing that the victim says or does raises here."""

    def __init__(self, far: Far, channel: Channel) -> None:
        self._far, self._channel = far, channel

    def say(self, message: Message | bytes) -> Message:
        """Its answer to a message; a Refusal also where the connection gives none."""
        data = message if isinstance(message, bytes) else protocol.encode(message)
        self._far.sent += len(data)
        return self._heard(lambda: self._channel.ask(data))

    def send(self, stream: Iterable[bytes]) -> Message:
        """Its answer to a stream of parts, due or not."""
        return self._heard(lambda: self._channel.send(self._far.counted(stream)))

    def fetch(self, message: Message) -> bytes:
        """What it sends when asked for bundles; nothing where it refuses."""
        data = protocol.encode(message)
        self._far.sent += len(data)
        try:
            return b"".join(self._channel.fetch(data))
        except EdgeclError as error:
            self._far.note(error)
            return b""

    def offer(self, *offers: Offer) -> list[str]:
        """What it would do with them: a state each; nothing where it does not even look."""
        said = self.say(Offers(offers))
        return [answer.state for answer in said.of] if isinstance(said, Answers) else []

    def push(self, data: bytes, stream: Send | None = None, **lies: object) -> None:
        """Offer a bundle and send it, if it is wanted.

        lies: fields of its offer that are not as its card says.   stream: what is sent in place of it, for that offer.
        """
        offer = replace(plain_offer(data), **lies)  # type: ignore[arg-type]
        if self.offer(offer) == ["want"]:
            self.send(stream(offer) if stream else parts(data, Want()))

    def _heard(self, speak: Callable[[], bytes]) -> Message:
        try:
            said = protocol.decode(speak())
        except EdgeclError as error:
            said = refusal(error)
        if isinstance(said, Refusal):
            self._far.told.append(said.reason or said.kind)
        elif isinstance(said, (Answers, Dones)):
            self._far.told += [one.reason or "refused" for one in said.of if one.state in ("refused", "older", "foreign")]
        return said


def plain_offer(data: bytes) -> Offer:
    """The offer that is true of a bundle; of bytes that are none, one that a victim would want to see."""
    try:
        found = offer_of(card_only(data), data)
        task_name(found.task)
        return found
    except (EdgeclError, ValueError, KeyError, TypeError):
        return Offer("new", digest(data), len(data), "0" * 64, 1, "0" * 64)


Act = Callable[[Foe, Far, random.Random], None]


@dataclass(frozen=True)
class Attack:
    """One way to harm. act: does it.   refused: all words that a victim which trusts the foe refuses parts of it with.

    leaves: of what a trusted foe is within its rights to do, a phrase; "" where all of it is refused.
    """

    act: Act
    refused: frozenset[str]
    leaves: str = ""


def catalogue(**attacks: Attack) -> MappingProxyType[str, Attack]:
    """By kind: words with hyphens."""
    return MappingProxyType({name.replace("_", "-"): attack for name, attack in attacks.items()})
