"""What two devices say to each other about heads: messages, and whose turn it is. No I/O, no clock, no trust.

One speaks first (the initiator), the other answers (the responder), in turns. To push, the initiator offers, is told what of
it is wanted, sends that, and is told what became of it. To pull, it asks, is offered, says what it wants, and is sent that.

    state     who speaks   says               then
    ready     initiator    Hello              greeted    I am who had those keys before; where the other does not know it
                           Glance             glanced    is what I have what you saw of me last?
                           Offers             offered
                           Ask                asked
    greeted   responder    Hello              ready
    glanced   responder    Verdict            ready
    offered   responder    Answers            answered   of each: wanted, known, refused
    answered  initiator    the stream         sent       of all that is wanted; or what it may say when ready
    sent      responder    Dones              ready      after the commit, never before
    asked     responder    Offers             listed
    listed    initiator    Wants              wanted     or what it may say when ready
    wanted    responder    the stream         listed

Where it is the responder's turn it may say Refusal instead; then the state is ready. A message is one JSON object whose one
key is its kind. Reading believes nothing: kinds, fields, types, lengths and numbers are checked, and what is not written
here is refused. The stream is that of `chunks.py`. docs/protocol.md has the same for other implementations.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any

from edgecl.errors import BundleError, ConfigError, ProtocolError
from edgecl.sharing.bundle import MAX_SEQUENCE
from edgecl.sharing.chunks import MOST_NAMED, Want
from edgecl.sharing.succession import MOST as MOST_SUCCESSIONS
from edgecl.sharing.succession import Succession, from_values, to_values
from edgecl.sharing.trust import Offer
from edgecl.text import printable
from edgecl.types import task_name

MAX_MESSAGE = 8 << 20  # bytes
MOST_HEADS = 10_000  # in one message
_MOST_SIZE = 1 << 48
_LONGEST = 1000  # characters of a sentence from a peer
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[0-9a-f]{32}")
_WORD = re.compile(r"[a-z-]{0,40}")


@dataclass(frozen=True)
class Hello:
    """How the speaker came to the key that it shows, oldest first; empty for a first key."""

    chain: tuple[Succession, ...] = ()


@dataclass(frozen=True)
class Glance:
    """Is there anything new? summary: of all that the speaker would offer, from `summary`."""

    summary: str


@dataclass(frozen=True)
class Verdict:
    """same: all of that was dealt with before, and nothing has changed here since."""

    same: bool


@dataclass(frozen=True)
class Offers:
    """What the speaker has."""

    heads: tuple[Offer, ...]


@dataclass(frozen=True)
class Answer:
    """What the speaker does with one offer.

    want: what it has of it, when it wants the rest; None when it does not.   state: "want", "known", "older", "foreign" or
    "refused".   reason, message: of a refusal.
    """

    state: str
    want: Want | None = None
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Answers:
    """One for each offer, in their order."""

    of: tuple[Answer, ...]


@dataclass(frozen=True)
class Ask:
    """What do you have?"""


@dataclass(frozen=True)
class Wants:
    """Of what was offered, by digest, what shall be sent."""

    of: Mapping[str, Want]


@dataclass(frozen=True)
class Done:
    """What became of a bundle that was sent. state: "taken", "known", "older", "foreign" or "refused"."""

    digest: str
    state: str
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Dones:
    """One for each bundle that was wanted. What is "taken" is kept, whatever happens to the speaker from now on."""

    of: tuple[Done, ...]


@dataclass(frozen=True)
class Refusal:
    """The speaker will not answer that. kind: the name of an error.   reason: in a word."""

    kind: str
    message: str
    reason: str = ""


class Stream:
    """Stands in the table for a stream of parts, which is no JSON."""


Message = Hello | Glance | Verdict | Offers | Answers | Ask | Wants | Dones | Refusal


class Side(Enum):
    """The two ends of a conversation."""

    INITIATOR = "initiator"
    RESPONDER = "responder"


class State(StrEnum):
    """Where a conversation stands."""

    READY = "ready"
    GREETED = "greeted"
    GLANCED = "glanced"
    OFFERED = "offered"
    ANSWERED = "answered"
    SENT = "sent"
    ASKED = "asked"
    LISTED = "listed"
    WANTED = "wanted"


_START: Mapping[type, State] = {
    Hello: State.GREETED,
    Glance: State.GLANCED,
    Offers: State.OFFERED,
    Ask: State.ASKED,
}
TABLE: Mapping[State, tuple[Side, Mapping[type, State]]] = {
    State.READY: (Side.INITIATOR, _START),
    State.GREETED: (Side.RESPONDER, {Hello: State.READY, Refusal: State.READY}),
    State.GLANCED: (Side.RESPONDER, {Verdict: State.READY, Refusal: State.READY}),
    State.OFFERED: (Side.RESPONDER, {Answers: State.ANSWERED, Refusal: State.READY}),
    State.ANSWERED: (Side.INITIATOR, {**_START, Stream: State.SENT}),
    State.SENT: (Side.RESPONDER, {Dones: State.READY, Refusal: State.READY}),
    State.ASKED: (Side.RESPONDER, {Offers: State.LISTED, Refusal: State.READY}),
    State.LISTED: (Side.INITIATOR, {**_START, Wants: State.WANTED}),
    State.WANTED: (Side.RESPONDER, {Stream: State.LISTED, Refusal: State.READY}),
}


class Conversation:
    """One conversation, as either end sees it: told all that is said, it refuses what does not belong there.

    offers: those on the table.   wanted: of them, by digest, those whose bundles are to be sent.
    """

    def __init__(self) -> None:
        self.state = State.READY
        self.offers: Mapping[str, Offer] = {}
        self.wanted: Mapping[str, tuple[Offer, Want]] = {}

    def hear(self, by: Side, said: Message | Stream) -> None:
        """Take note of what `by` says. Raises ProtocolError when it is not its turn, or not about what is on the table."""
        whose, then = TABLE[self.state]
        kind = type(said)
        if by is not whose or kind not in then:
            may = " or ".join(sorted(k.__name__ for k in then)) if by is whose else "nothing"
            raise ProtocolError(f"the {by.value} said {kind.__name__} in the state {self.state}, where it may say {may}")
        if isinstance(said, Offers):
            offers = {offer.digest: offer for offer in said.heads}
            if len(offers) != len(said.heads):
                raise ProtocolError("a bundle is offered twice in one message")
            if len({(offer.task, offer.key) for offer in said.heads}) != len(offers):  # each costs a look at what is here
                raise ProtocolError("a task of one signer is offered twice in one message")
            self.offers, self.wanted = offers, {}
        elif isinstance(said, Answers):
            if len(said.of) != len(self.offers):
                raise ProtocolError(f"{len(said.of)} answers to {len(self.offers)} offers")
            pairs = zip(self.offers.items(), said.of, strict=True)
            self.wanted = {digest: (offer, answer.want) for (digest, offer), answer in pairs if answer.want is not None}
        elif isinstance(said, Wants):
            if strange := set(said.of) - set(self.offers):
                raise ProtocolError(f"bundle {min(strange)[:12]} is wanted, but was not offered")
            self.wanted = {digest: (self.offers[digest], want) for digest, want in said.of.items()}
        elif isinstance(said, Dones) and [done.digest for done in said.of] != list(self.wanted):
            raise ProtocolError("what is said to be done is not what was sent")
        self.state = then[kind]


def summary(digests: Iterable[str]) -> str:
    """One name for a set of bundles."""
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


# -- bytes


def encode(message: Message) -> bytes:
    """The message as bytes."""
    kind, body = type(message).__name__.lower(), _BODY[type(message)](message)
    return json.dumps({kind: body}, separators=(",", ":"), ensure_ascii=False).encode()


def decode(data: bytes) -> Message:
    """The message in `data`. Raises ProtocolError for anything that is not exactly one."""
    if len(data) > MAX_MESSAGE:
        raise ProtocolError(f"a message has {len(data):,} bytes; it may have {MAX_MESSAGE:,}")
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
        ((kind, body),) = found.items()
        return _READERS[kind](body)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ConfigError, BundleError) as error:
        raise ProtocolError(f"a message cannot be read: {type(error).__name__}: {printable(str(error), 200)}") from error


def _offers_body(said: Any) -> dict[str, Any]:
    """Keys and ROMs are written once, and numbered: they are most of what offers consist of."""
    keys = list(dict.fromkeys(offer.key for offer in said.heads))
    roms = list(dict.fromkeys((offer.rom_id, offer.backbone, offer.precision) for offer in said.heads))
    key_at, rom_at = {key: i for i, key in enumerate(keys)}, {rom: i for i, rom in enumerate(roms)}
    heads = [
        [o.task, o.digest, o.size, key_at[o.key], o.sequence, rom_at[(o.rom_id, o.backbone, o.precision)]] for o in said.heads
    ]
    return {"keys": keys, "roms": roms, "heads": heads}


def _want_body(want: Want) -> list[Any]:
    return [want.prefix, want.mark, sorted(want.have)]


_BODY: Mapping[type, Callable[[Any], Any]] = {
    Hello: lambda m: to_values(m.chain),
    Glance: lambda m: m.summary,
    Verdict: lambda m: m.same,
    Offers: _offers_body,
    Answers: lambda m: [["want", *_want_body(a.want)] if a.want else [a.state, a.reason, a.message[:_LONGEST]] for a in m.of],
    Ask: lambda m: None,
    Wants: lambda m: {digest: _want_body(want) for digest, want in m.of.items()},
    Dones: lambda m: [[d.digest, d.state, d.reason, d.message[:_LONGEST]] for d in m.of],
    Refusal: lambda m: [m.kind, m.message[:_LONGEST], m.reason],
}


def _text(value: Any, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"'{str(value)[:80]}' is not of the form {pattern.pattern}")
    return value


def _said(value: Any, most: int = _LONGEST) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"a text of at most {most} characters is missing")
    return printable(value, most)


def _number(value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{str(value)[:40]} is no whole number in {low} to {high}")
    return value


def _list(value: Any, most: int = MOST_HEADS, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or len(value) > most or (length is not None and len(value) != length):
        raise ValueError(f"a list of {length if length is not None else f'at most {most}'} is missing")
    return value


def _state(value: Any, of: Sequence[str]) -> str:
    if value not in of:
        raise ValueError(f"'{str(value)[:40]}' is none of {', '.join(of)}")
    return str(value)


def _read_offers(body: Any) -> Offers:
    keys = [_text(key, _DIGEST) for key in _list(_only(body, "keys", "roms", "heads")["keys"])]
    roms = []
    for rom in _list(body["roms"]):
        rom_id, backbone, precision = _list(rom, length=3)
        roms.append((_text(rom_id, _DIGEST), _said(backbone, 60), _said(precision, 60)))
    heads = []
    for entry in _list(body["heads"]):
        task, digest, size, key, sequence, rom = _list(entry, length=6)
        if not isinstance(task, str) or task_name(task) != task:
            raise ValueError("the name of a task is not in normal form")
        heads.append(
            Offer(
                task,
                _text(digest, _DIGEST),
                _number(size, 1, _MOST_SIZE),
                keys[_number(key, 0, len(keys) - 1)],
                _number(sequence, 1, MAX_SEQUENCE),
                *roms[_number(rom, 0, len(roms) - 1)],
            )
        )
    return Offers(tuple(heads))


def _read_want(body: Any) -> Want:
    prefix, mark, have = _list(body, length=3)
    prefix = _number(prefix, 0, _MOST_SIZE)
    return Want(
        prefix,
        _text(mark, _NAME) if prefix else _text(mark, re.compile("")),
        frozenset(_text(n, _NAME) for n in _list(have, MOST_NAMED)),
    )


def _read_answers(body: Any) -> Answers:
    found = []
    for entry in _list(body):
        if _list(entry)[:1] == ["want"]:
            found.append(Answer("want", _read_want(entry[1:])))
        else:
            state, reason, message = _list(entry, length=3)
            found.append(
                Answer(_state(state, ("known", "older", "foreign", "refused")), None, _text(reason, _WORD), _said(message))
            )
    return Answers(tuple(found))


def _read_dones(body: Any) -> Dones:
    found = []
    for entry in _list(body):
        digest, state, reason, message = _list(entry, length=4)
        state = _state(state, ("taken", "known", "older", "foreign", "refused"))
        found.append(Done(_text(digest, _DIGEST), state, _text(reason, _WORD), _said(message)))
    return Dones(tuple(found))


def _read_wants(body: Any) -> Wants:
    if not isinstance(body, dict) or len(body) > MOST_HEADS:
        raise ValueError(f"an object of at most {MOST_HEADS} bundles is missing")
    return Wants({_text(digest, _DIGEST): _read_want(want) for digest, want in body.items()})


def _read_refusal(body: Any) -> Refusal:
    kind, message, reason = _list(body, length=3)
    return Refusal(_text(kind, re.compile(r"[A-Za-z]{1,40}")), _said(message), _text(reason, _WORD))


def _read_verdict(body: Any) -> Verdict:
    if not isinstance(body, bool):
        raise ValueError("a verdict is true or false")
    return Verdict(body)


def _read_ask(body: Any) -> Ask:
    if body is not None:
        raise ValueError("a question has no content")
    return Ask()


_READERS: Mapping[str, Callable[[Any], Message]] = {
    "hello": lambda body: Hello(tuple(from_values(_list(body, MOST_SUCCESSIONS)))),
    "glance": lambda body: Glance(_text(body, _DIGEST)),
    "verdict": _read_verdict,
    "offers": _read_offers,
    "answers": _read_answers,
    "ask": _read_ask,
    "wants": _read_wants,
    "dones": _read_dones,
    "refusal": _read_refusal,
}


def _only(body: Any, *keys: str) -> dict[str, Any]:
    if not isinstance(body, dict) or set(body) != set(keys):
        raise ValueError(f"an object of {', '.join(keys)} is missing")
    return body


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no JSON")
