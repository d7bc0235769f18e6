"""The conversation: what may be said when, and bytes that are no message."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecl.errors import ProtocolError
from edgecl.sharing.bundle import MAX_SEQUENCE
from edgecl.sharing.chunks import Want
from edgecl.sharing.protocol import (
    TABLE,
    Answer,
    Answers,
    Ask,
    Conversation,
    Done,
    Dones,
    Glance,
    Hello,
    Offers,
    Refusal,
    Side,
    State,
    Stream,
    Verdict,
    Wants,
    decode,
    encode,
    summary,
)
from edgecl.sharing.signing import Signer
from edgecl.sharing.succession import hand_over
from edgecl.sharing.trust import Offer

A, B, KEY, ROM = "a" * 64, "b" * 64, "c" * 64, "d" * 64
BIRDS = Offer("birds", A, 1000, KEY, 7, ROM, "lite0", "fp32")
CARS = Offer("cars", B, 2000, KEY, 8, ROM, "lite0", "fp32")
WANT = Want(10, "e" * 32, frozenset({"f" * 32}))
SAID = {
    Hello: Hello((hand_over(Signer.fresh(), Signer.fresh(), 1),)),
    Glance: Glance(summary([A, B])),
    Verdict: Verdict(True),
    Offers: Offers((BIRDS, CARS)),
    Answers: Answers((Answer("want", WANT), Answer("refused", None, "revoked", "no"))),
    Ask: Ask(),
    Wants: Wants({A: WANT}),
    Dones: Dones((Done(A, "taken"),)),
    Refusal: Refusal("BankFull", "no room", "quota"),
    Stream: Stream(),
}


def on_the_way(state: State) -> Conversation:
    """A conversation in that state, by the shortest way."""
    ways: dict[State, list[tuple[Side, type]]] = {State.READY: []}
    todo = [State.READY]
    while state not in ways:
        here = todo.pop(0)
        side, then = TABLE[here]
        for kind, after in then.items():
            if after not in ways and kind is not Refusal:
                ways[after] = [*ways[here], (side, kind)]
                todo.append(after)
    talk = Conversation()
    for side, kind in ways[state]:
        talk.hear(side, SAID[kind])
    assert talk.state is state
    return talk


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("kind", SAID)
def test_only_what_the_table_has_may_be_said(state: State, side: Side, kind: type) -> None:
    talk = on_the_way(state)
    whose, then = TABLE[state]
    if side is whose and kind in then:
        talk.hear(side, SAID[kind])
        assert talk.state is then[kind]
    else:
        with pytest.raises(ProtocolError, match=f"{kind.__name__} in the state {state}"):
            talk.hear(side, SAID[kind])
        assert talk.state is state


def test_every_state_can_be_reached_and_left() -> None:
    assert set(TABLE) == set(State)
    for state in State:
        on_the_way(state)
        assert TABLE[state][1]
    assert all(Refusal in then for side, then in TABLE.values() if side is Side.RESPONDER)


@pytest.mark.parametrize("kind", [k for k in SAID if k is not Stream])
def test_messages_are_their_bytes(kind: type) -> None:
    assert decode(encode(SAID[kind])) == SAID[kind]


def test_an_offer_costs_little_more_than_its_digest() -> None:
    """Keys and ROMs are told once: a hundred heads of one device take 110 bytes each."""
    heads = tuple(Offer(f"task-{n:03}", f"{n:064x}", 80_000 + n, KEY, n + 1, ROM, "lite0", "fp32") for n in range(100))
    assert len(encode(Offers(heads))) < 110 * 100


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([Offers((BIRDS, BIRDS))], "twice"),
        ([Offers((BIRDS, replace(BIRDS, digest=B)))], "a task of one signer is offered twice"),
        ([Offers((BIRDS,)), Answers(())], "0 answers to 1"),
        ([Ask(), Offers((BIRDS,)), Wants({B: Want()})], "not offered"),
        ([Offers((BIRDS,)), Answers((Answer("want", Want()),)), Stream(), Dones(())], "not what was sent"),
        ([Offers((BIRDS,)), Answers((Answer("want", Want()),)), Stream(), Dones((Done(B, "taken"),))], "not what was sent"),
    ],
)
def test_what_is_not_about_what_is_on_the_table_is_refused(said: list, words: str) -> None:
    talk = Conversation()
    for message in said[:-1]:
        talk.hear(TABLE[talk.state][0], message)
    with pytest.raises(ProtocolError, match=words):
        talk.hear(TABLE[talk.state][0], said[-1])


OFFERED = {"keys": [KEY], "roms": [[ROM, "lite0", "fp32"]], "heads": [["birds", A, 1000, 0, 7, 0]]}


def altered(field: str, value: object, at: tuple[int, ...] = ()) -> dict:
    body = json.loads(json.dumps(OFFERED))
    if at:
        place = body[field]
        for step in at[:-1]:
            place = place[step]
        place[at[-1]] = value
    else:
        body[field] = value
    return {"offers": body}


@pytest.mark.parametrize(
    "message",
    [
        altered("heads", -1, (0, 2)),
        altered("heads", 0, (0, 2)),
        altered("heads", 1 << 63, (0, 2)),
        altered("heads", 1.0, (0, 2)),
        altered("heads", True, (0, 2)),
        altered("heads", 1 << 63, (0, 4)),  # fast-forward
        altered("heads", MAX_SEQUENCE + 1, (0, 4)),
        altered("heads", 0, (0, 4)),
        altered("heads", -1, (0, 3)),  # a key from the end of the list
        altered("heads", 1, (0, 3)),
        altered("heads", -1, (0, 5)),
        altered("heads", "../../etc/passwd", (0, 0)),
        altered("heads", "birds\x1b[2J", (0, 0)),
        altered("heads", "birds\r\nHost: x", (0, 0)),
        altered("heads", "", (0, 0)),
        altered("heads", "B" * 65, (0, 0)),
        altered("heads", A.upper(), (0, 1)),
        altered("heads", A + "\n", (0, 1)),
        altered("heads", [], (0,)),
        altered("heads", {}, ()),
        altered("heads", [OFFERED["heads"][0]] * 10_001, ()),
        altered("keys", ["x" * 64], ()),
        altered("keys", [], ()),
        altered("roms", [[ROM, 1, "fp32"]], ()),
        altered("roms", [[ROM, "x" * 61, "fp32"]], ()),
        altered("more", 1),
        {"offers": None},
        {"offers": OFFERED, "ask": None},
        {"unknown": None},
        {},
        [],
        None,
        {"ask": 1},
        {"hello": None},
        {"hello": [{}]},
        {"hello": [{"old": KEY, "new": KEY, "number": 1, "signature": "x", "proof": "y"}]},
        {"hello": [None] * 10_000},
        {"verdict": 1},
        {"glance": "x"},
        {"answers": [["want", 1, "", []]]},
        {"answers": [["want", 0, "e" * 32, []]]},
        {"answers": [["want", 0, "", ["e"]]]},
        {"answers": [["want", 0, "", ["e" * 32] * 4097]]},
        {"answers": [["taken", "", ""]]},
        {"answers": [["refused", "A", ""]]},
        {"answers": [["refused", "", "x" * 1001]]},
        {"answers": [["refused", "", 5]]},
        {"dones": [[A, "want", "", ""]]},
        {"dones": [["x", "taken", "", ""]]},
        {"wants": []},
        {"wants": {"x": [0, "", []]}},
        {"refusal": ["Not a name", "", ""]},
    ],
)
def test_what_is_no_message_is_refused(message: object) -> None:
    with pytest.raises(ProtocolError, match="cannot be read"):
        decode(json.dumps(message).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b'{"ask":null,"ask":null}',
        b'{"glance":NaN}',
        b"[" * 100_000,
        b'{"ask":' + b"[" * 100_000,
        b'{"glance":"\\ud800"}',
        b'{"verdict":' + b"9" * 5000 + b"}",
    ],
)
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


def test_a_message_is_bounded_before_it_is_parsed() -> None:
    with pytest.raises(ProtocolError, match="may have"):
        decode(b" " * (8 << 20) + b'{"ask":null}')


def test_what_a_peer_writes_cannot_act_on_a_terminal() -> None:
    said = decode(json.dumps({"refusal": ["X", "\x1b]0;owned\x07 \u202egood", ""]}).encode())
    assert isinstance(said, Refusal) and "\x1b" not in said.message and "\u202e" not in said.message


PLAIN = st.none() | st.booleans() | st.integers() | st.text() | st.floats()


@given(st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_of_any_form_is_a_message_or_refused(value: object) -> None:
    for message in (value, {"offers": value}, {"answers": value}, {"wants": value}, {"dones": value}):
        with contextlib.suppress(ProtocolError):
            decode(json.dumps(message).encode())
