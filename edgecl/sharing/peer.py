"""A device in conversation with another: protocol, inbox and a host that knows what it has and what it believes. No sockets.

The bytes go over a `Channel`. `Responder` is what answers at its other end, one for each connection; `push` and `pull` speak
first. All that a peer says goes through `protocol.decode` and `Conversation`; whether a bundle is kept is the host's decision
alone, by its signature and not by who brought it.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, TypeVar

from edgecl.errors import BankFull, BundleError, EdgeclError, PeerRefused, ProtocolError, RomMismatch, TransferError
from edgecl.sharing import protocol
from edgecl.sharing.chunks import Begin, PartsReader, Want, chunks, parts, resolved
from edgecl.sharing.inbox import Arrival, Inbox
from edgecl.sharing.protocol import (
    Answer,
    Answers,
    Ask,
    Conversation,
    Done,
    Dones,
    Glance,
    Hello,
    Message,
    Offers,
    Refusal,
    Side,
    Stream,
    Verdict,
    Wants,
)
from edgecl.sharing.succession import Succession
from edgecl.sharing.trust import Offer
from edgecl.text import printable

M = TypeVar("M", bound=Message)
_FEW = 4  # offers that take no more bytes than to ask whether anything is new
AT_ONCE = 32 << 20  # bytes of bundles that are held in memory and committed together


class Host(Protocol):
    """What a device is for a conversation; `edgecl.exchange` makes one of an EdgeDevice."""

    def chain(self) -> Sequence[Succession]:
        """How it came to its key."""

    def meet(self, sender: str, chain: Sequence[Succession]) -> None:
        """Know `sender` by the key that it shows now, if `chain` leads there from one that is known. Raises BundleError."""

    def require(self, sender: str) -> None:
        """Raise PeerRefused unless the device of that key may speak to this one; asked again and again."""

    def offers(self) -> list[Offer]:
        """What it gives to those it trusts: signed, sound, in force."""

    def data(self, digest: str) -> bytes:
        """The bytes of a bundle that it offered. Raises BankError when it is gone."""

    def answers(self, offers: Sequence[Offer]) -> list[Answer]:
        """What it would do with each, before a byte is sent; a state of "want" has no `want` yet."""

    def relatives(self, task: str) -> list[bytes]:
        """Bundles of that task that it has, for their chunks."""

    def take(self, bundles: Sequence[bytes]) -> list[Done]:
        """Judge each, and keep what is good: durably, before this returns. One that is refused stops none of the others."""

    def stamp(self) -> object:
        """A value that differs after any change to what it has or believes."""


class Channel(ABC):
    """A way to one responder. Raises TransferError. The answers are bytes that nobody has checked.

    where: for messages.   key: of the peer at its other end; "" before anything was said.
    """

    where: str
    key: str

    @abstractmethod
    def ask(self, message: bytes) -> bytes:
        """Say something, get the answer."""

    @abstractmethod
    def send(self, stream: Iterable[bytes]) -> bytes:
        """Send a stream of parts, get the answer."""

    @abstractmethod
    def fetch(self, message: bytes) -> Generator[bytes, None, None]:
        """Say something that is answered by a stream of parts, or by a Refusal: then PeerRefused is raised."""


# -- receiving


class Receiver:
    """Takes a stream of parts for what is wanted; whichever end it is. A context manager."""

    def __init__(self, host: Host, inbox: Inbox, sender: str, wanted: Mapping[str, tuple[Offer, Want]]) -> None:
        self._host, self._inbox, self._sender, self._wanted = host, inbox, sender, wanted
        self._reader = PartsReader()
        self._begun: set[str] = set()
        self._now: Arrival | None = None
        self._have: Mapping[str, bytes] = {}
        self._ready: list[bytes] = []
        self._dones: dict[str, Done] = {}

    def feed(self, data: bytes) -> None:
        """Raises ProtocolError for what was not wanted or declared, PeerRefused once the sender is not believed; BankFull."""
        self._host.require(self._sender)
        for part in self._reader.feed(data):
            if isinstance(part, Begin):
                self._begin(part)
            else:
                if self._now is None:
                    raise ProtocolError("a part belongs to no bundle")
                self._now.append(resolved(part, self._have))
            self._finish()

    def end(self) -> list[Done]:
        """What became of each, in the order in which they were wanted; all that is "taken" is committed."""
        self._reader.end()
        if self._now is not None:
            raise ProtocolError(f"the stream stops {self._now.left:,} bytes before the end of bundle {self._now.digest[:12]}")
        self._commit()
        return [self._dones.get(digest) or Done(digest, "refused", "", "it was not sent") for digest in self._wanted]

    def _begin(self, part: Begin) -> None:
        if self._now is not None or part.digest in self._begun or part.digest not in self._wanted:
            raise ProtocolError(f"bundle {part.digest[:12]} begins where none of that name can")
        offer, want = self._wanted[part.digest]
        if part.offset not in (0, want.prefix):
            raise ProtocolError(f"bundle {part.digest[:12]} begins at byte {part.offset:,}, which was not asked for")
        if offer.size + sum(map(len, self._ready)) > AT_ONCE:
            self._commit()
        self._begun.add(part.digest)
        self._have = chunks(self._host.relatives(offer.task)) if want.have else {}
        self._now = self._inbox.open(part.digest, offer.size, self._sender, part.offset)

    def _finish(self) -> None:
        if self._now is not None and not self._now.left:
            with self._now as arrival:
                self._now = None
                self._ready.append(arrival.whole())

    def _commit(self) -> None:
        if self._ready:
            self._host.require(self._sender)  # it may have been revoked since the first byte
            for done in self._host.take(self._ready):
                self._dones[done.digest] = done
                self._inbox.forget(done.digest, self._sender)
            self._ready = []

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *error: object) -> None:
        if self._now is not None:
            self._now.__exit__(None, None, None)


def _with_wants(
    host: Host, inbox: Inbox, sender: str, offers: Sequence[Offer], refused: Mapping[str, Done] = MappingProxyType({})
) -> list[Answer]:
    """The host's answers; what it wants is told with what is here of it already. refused: what it would refuse again."""
    found = []
    related: dict[str, frozenset[str]] = {}
    for offer, answer in zip(offers, host.answers(offers), strict=True):
        if answer.state == "want" and (done := refused.get(offer.digest)):
            answer = Answer(done.state, None, done.reason, done.message)
        if answer.state != "want":
            found.append(answer)
            continue
        if offer.task not in related:
            related[offer.task] = frozenset(chunks(host.relatives(offer.task)))
        begun = inbox.begun(offer.digest, sender)
        if begun.prefix > offer.size:
            begun = Want()
        found.append(Answer("want", Want(begun.prefix, begun.mark, related[offer.task])))
    return found


def _stream(host: Host, to: str, wants: Mapping[str, Want]) -> Iterator[bytes]:
    """The parts that `to` wants, as long as it is believed."""
    for digest, want in wants.items():
        for part in parts(host.data(digest), want):
            host.require(to)
            yield part


# -- answering


@dataclass(frozen=True)
class Dealt:
    """What was settled with a sender, as long as the host's stamp is the same.

    summary: of all that it offered last, if that is here.   refused: by digest, what of it came and was not taken.
    """

    stamp: object
    summary: str = ""
    refused: Mapping[str, Done] = field(default_factory=dict)


class Responder:
    """The end that is spoken to, for one connection. sender: public key of the peer at its other end."""

    def __init__(self, host: Host, inbox: Inbox, sender: str, dealt: dict[str, Dealt] | None = None) -> None:
        """dealt: by sender; shared by the connections of one process."""
        self._host, self._inbox, self.sender = host, inbox, sender
        self._dealt = {} if dealt is None else dealt
        self._talk = Conversation()
        self._rest_is_here = False  # what was offered and is not wanted

    def answer(self, data: bytes) -> bytes:
        """The answer to one message. Never raises for what a peer says: it is then a Refusal."""
        try:
            said = protocol.decode(data)
            if not isinstance(said, Hello):
                self._host.require(self.sender)
            self._talk.hear(Side.INITIATOR, said)
        except TransferError as error:
            return protocol.encode(refusal(error))
        try:
            answer = self._answer(said)
        except EdgeclError as error:
            answer = refusal(error)
        self._talk.hear(Side.RESPONDER, answer)
        return protocol.encode(answer)

    def _answer(self, said: Message) -> Message:
        if isinstance(said, Hello):
            self._host.meet(self.sender, said.chain)
            self._host.require(self.sender)
            return Hello(tuple(self._host.chain()))
        if isinstance(said, Glance):
            return Verdict(self._settled().summary == said.summary)
        if isinstance(said, Offers):
            settled = self._settled()
            answers = _with_wants(self._host, self._inbox, self.sender, said.heads, settled.refused)
            self._rest_is_here = {a.state for a in answers} <= {"known", "want"}
            here = self._rest_is_here and not any(a.want for a in answers)
            self._dealt[self.sender] = self._of_offers(said.heads, settled.stamp, here, settled.refused)
            return Answers(tuple(answers))
        if isinstance(said, Ask):
            return Offers(tuple(self._host.offers()))
        raise ProtocolError(f"{type(said).__name__} is not answered by a message")

    def receive(self) -> Receiver:
        """For the stream that comes next. Raises ProtocolError when none is due, PeerRefused."""
        self._host.require(self.sender)
        self._talk.hear(Side.INITIATOR, Stream())
        return Receiver(self._host, self._inbox, self.sender, self._talk.wanted)

    def received(self, outcome: Sequence[Done] | EdgeclError) -> bytes:
        """What to say behind the stream."""
        answer = refusal(outcome) if isinstance(outcome, EdgeclError) else Dones(tuple(outcome))
        offers = self._talk.offers.values()
        self._talk.hear(Side.RESPONDER, answer)
        if isinstance(answer, Dones):
            said = {done.digest: done for done in answer.of if done.state != "taken" and done.reason}
            here = self._rest_is_here and {done.state for done in answer.of} <= {"known", "taken"}
            settled = self._settled()  # anew, where something was taken
            self._dealt[self.sender] = self._of_offers(offers, settled.stamp, here, {**settled.refused, **said})
        return protocol.encode(answer)

    def stream(self, data: bytes) -> Iterator[bytes]:
        """The stream of parts that is asked for. Raises ProtocolError, or BankError when one is gone, before it begins.

        Once it has: PeerRefused when the peer is not believed any more, and BankError.
        """
        self._host.require(self.sender)
        said = protocol.decode(data)
        if not isinstance(said, Wants):
            raise ProtocolError(f"{type(said).__name__} is not answered by a stream")
        self._talk.hear(Side.INITIATOR, said)
        try:
            for digest in said.of:
                self._host.data(digest)
        except EdgeclError as error:
            self._talk.hear(Side.RESPONDER, refusal(error))
            raise
        self._talk.hear(Side.RESPONDER, Stream())
        return _stream(self._host, self.sender, said.of)

    def _settled(self) -> Dealt:
        """What need not be looked at again now."""
        stamp = self._host.stamp()
        found = self._dealt.get(self.sender)
        return found if found is not None and found.stamp == stamp else Dealt(stamp)

    @staticmethod
    def _of_offers(offers: Iterable[Offer], stamp: object, here: bool, refused: Mapping[str, Done]) -> Dealt:
        digests = [offer.digest for offer in offers]
        return Dealt(stamp, protocol.summary(digests) if here else "", {d: refused[d] for d in digests if d in refused})


def refusal(error: EdgeclError) -> Refusal:
    """An error as it is told to a peer: what is the peer's matter; of this device's own troubles only that there are some."""
    if isinstance(error, BankFull):
        message = "there is no room left on its disk; nothing was changed"
    elif isinstance(error, (BundleError, RomMismatch, TransferError)):
        message = printable(str(error), 600)
    else:
        message = "it cannot do that now; what is wrong is told there"
    return Refusal(type(error).__name__, message, str(getattr(error, "reason", "") or ""))


# -- speaking first


def greet(host: Host, channel: Channel) -> None:
    """Make each other's present keys known, where one knows the other by a former one. Raises TransferError, BundleError."""
    answer = _said(Conversation(), channel, Hello(tuple(host.chain())), Hello)
    host.meet(channel.key, answer.chain)


def push(host: Host, channel: Channel, offers: Sequence[Offer], tell: Callable[[Offer, Done], None]) -> None:
    """Give the peer what it does not have of `offers`; tell: called with what became of each. Raises TransferError."""
    talk = Conversation()
    glance = Glance(protocol.summary(offer.digest for offer in offers))
    if len(offers) > _FEW and _said(talk, channel, glance, Verdict).same:
        for offer in offers:
            tell(offer, Done(offer.digest, "known"))
        return
    answers = _said(talk, channel, Offers(tuple(offers)), Answers)
    for offer, answer in zip(offers, answers.of, strict=True):
        if answer.want is None:
            tell(offer, Done(offer.digest, answer.state, answer.reason, answer.message))
    if not talk.wanted:
        return
    wanted = dict(talk.wanted)
    talk.hear(Side.INITIATOR, Stream())
    stream = _stream(host, channel.key, {digest: want for digest, (_, want) in wanted.items()})
    dones = _checked(talk, channel.send(stream), Dones)
    for done in dones.of:
        tell(wanted[done.digest][0], done)


def listed(channel: Channel) -> tuple[Conversation, tuple[Offer, ...]]:
    """What the peer offers, and the conversation to go on with. Raises TransferError."""
    talk = Conversation()
    return talk, _said(talk, channel, Ask(), Offers).heads


def pull(
    host: Host,
    channel: Channel,
    talk: Conversation,
    offers: Sequence[Offer],
    inbox: Inbox,
    tell: Callable[[Offer, Done], None],
) -> None:
    """Take from the peer what this host wants of `offers`, which it has listed. Raises TransferError."""
    sender = channel.key
    host.require(sender)
    answers = _with_wants(host, inbox, sender, offers)
    wants: dict[str, Want] = {}
    for offer, answer in zip(offers, answers, strict=True):
        if answer.want is None:
            tell(offer, Done(offer.digest, answer.state, answer.reason, answer.message))
        else:
            wants[offer.digest] = answer.want
    if not wants:
        return
    message = Wants(wants)
    talk.hear(Side.INITIATOR, message)
    wanted = dict(talk.wanted)
    with Receiver(host, inbox, sender, wanted) as receiver:
        with contextlib.closing(channel.fetch(protocol.encode(message))) as stream:
            talk.hear(Side.RESPONDER, Stream())
            for piece in stream:
                receiver.feed(piece)
        for done in receiver.end():
            tell(wanted[done.digest][0], done)


def _said(talk: Conversation, channel: Channel, message: Message, answer: type[M]) -> M:
    talk.hear(Side.INITIATOR, message)
    return _checked(talk, channel.ask(protocol.encode(message)), answer)


def _checked(talk: Conversation, data: bytes, wanted: type[M]) -> M:
    said = protocol.decode(data)
    talk.hear(Side.RESPONDER, said)
    if isinstance(said, Refusal):
        raise PeerRefused(f"it says no: {said.message}", said.reason)
    if not isinstance(said, wanted):
        raise ProtocolError(f"{type(said).__name__} came in place of {wanted.__name__}")
    return said
