"""A new key in place of an old one: what is believed of it, and every way in which it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from edgecl.errors import BundleError, Reason
from edgecl.sharing.signing import Signer, fingerprint
from edgecl.sharing.succession import (
    MAX_BYTES,
    MOST,
    Succession,
    follow,
    from_json,
    from_values,
    hand_over,
    succeed,
    to_json,
    to_values,
    verify,
)
from edgecl.sharing.trust import Peer

GOLDEN = (Path(__file__).parent / "golden" / "succession-1.json").read_bytes()
KEYS = (  # RFC 8032, 7.1, tests 1 to 3
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
)


def chain_of(signers: list[Signer]) -> list[Succession]:
    return [hand_over(a, b, at + 1) for at, (a, b) in enumerate(pairwise(signers))]


@pytest.fixture(scope="module")
def signers() -> list[Signer]:
    return [Signer.fresh() for _ in range(MOST + 3)]


@pytest.fixture(scope="module")
def chain(signers: list[Signer]) -> list[Succession]:
    return chain_of(signers[:4])


def test_the_golden_chain_is_read_and_written_again_byte_for_byte() -> None:
    chain = from_json(GOLDEN)
    assert to_json(chain) == GOLDEN and follow(chain, KEYS[0]) == KEYS[1:]


def test_the_page_of_the_format_is_enough_to_check_a_chain() -> None:
    """With nothing but json and an Ed25519 implementation."""
    content = json.loads(GOLDEN)
    assert content.keys() == {"format", "successions"} and content["format"] == 1
    trusted = KEYS[0]
    for number, link in enumerate(content["successions"], start=1):
        assert link.keys() == {"old", "new", "number", "signature", "proof"}
        assert link["old"] == trusted and link["number"] == number
        old, new = bytes.fromhex(link["old"]), bytes.fromhex(link["new"])
        statement = b"edgecl succession 1\0" + old + new + number.to_bytes(8, "little")
        Ed25519PublicKey.from_public_bytes(old).verify(bytes.fromhex(link["signature"]), statement)
        Ed25519PublicKey.from_public_bytes(new).verify(bytes.fromhex(link["proof"]), statement)
        trusted = link["new"]
    assert trusted == KEYS[2]


def test_who_trusts_any_key_of_a_chain_gets_to_the_last(signers: list[Signer], chain: list[Succession]) -> None:
    keys = tuple(signer.key for signer in signers[:4])
    for at in range(4):
        assert follow(chain, keys[at]) == keys[at + 1 :]
        peer = Peer("a", keys[at], tasks=("birds",), max_bytes=9, address="x:1")
        assert succeed(peer, chain) == replace(peer, key=keys[3], former=keys[at:3])
    assert follow(chain, Signer.fresh().key) == follow([], keys[0]) == ()
    assert from_values(to_values(chain)) == from_json(to_json(chain)) == chain and from_json(to_json([])) == []


def forged(chain: list[Succession]) -> list[Succession]:
    stranger = Signer.fresh()
    by_stranger = hand_over(stranger, stranger, 1)
    return [replace(chain[0], new=stranger.key, signature=by_stranger.signature, proof=by_stranger.proof)]


def another_keys_name(chain: list[Succession]) -> list[Succession]:
    """The old key names somebody else's, to be credited with what that one signs; it cannot sign for it."""
    victim, me = Signer.fresh(), Signer.fresh()
    link = hand_over(me, me, 1)
    return [replace(link, old=chain[0].old, new=victim.key)]


ATTACKS: list[tuple[str, Callable[[list[Succession]], list[Succession]], Reason]] = [
    ("forged by a stranger", forged, Reason.BAD_SIGNATURE),
    ("another's key, without its proof", another_keys_name, Reason.BAD_SIGNATURE),
    ("number altered", lambda c: [replace(c[0], number=2)], Reason.BAD_SIGNATURE),
    ("signatures exchanged", lambda c: [replace(c[0], signature=c[0].proof, proof=c[0].signature)], Reason.BAD_SIGNATURE),
    ("signatures of another link", lambda c: [replace(c[0], signature=c[1].signature)], Reason.BAD_SIGNATURE),
    ("link left out", lambda c: [c[0], c[2]], Reason.MALFORMED),
    ("order turned round", lambda c: [c[1], c[0]], Reason.MALFORMED),
    ("link twice", lambda c: [c[0], c[0]], Reason.MALFORMED),
]


@pytest.mark.parametrize(("change", "reason"), [row[1:] for row in ATTACKS], ids=[row[0] for row in ATTACKS])
def test_a_chain_that_is_not_the_devices_is_refused(
    change: Callable[[list[Succession]], list[Succession]], reason: Reason, chain: list[Succession]
) -> None:
    with pytest.raises(BundleError) as raised:
        succeed(Peer("a", chain[0].old), change(chain))
    assert raised.value.reason is reason


def test_no_altered_digit_of_a_link_is_believed(chain: list[Succession]) -> None:
    for name in ("old", "new", "signature", "proof"):
        text = getattr(chain[0], name)
        for at in range(0, len(text), 7):
            other = text[:at] + ("1" if text[at] == "0" else "0") + text[at + 1 :]
            with pytest.raises(BundleError):
                verify(replace(chain[0], **{name: other}))


def test_a_signature_on_a_bundle_is_none_on_a_succession(signers: list[Signer]) -> None:
    """And the other way round: each purpose has its domain."""
    a, b = signers[:2]
    link = hand_over(a, b, 1)
    with pytest.raises(BundleError):
        verify(replace(link, signature=a.sign(link.statement), proof=b.sign(link.statement)))


def test_a_chain_that_goes_in_a_circle_is_refused_in_one_piece_and_in_two(signers: list[Signer]) -> None:
    a, b = signers[:2]
    there, back = hand_over(a, b, 1), hand_over(b, a, 2)
    with pytest.raises(BundleError, match="comes back"):
        from_json(to_json([there, back]))
    moved = succeed(Peer("a", a.key), [there])
    with pytest.raises(BundleError, match="goes back"):
        succeed(moved, [back])
    with pytest.raises(BundleError):
        from_json(to_json([hand_over(a, a, 1)]))


def test_an_old_succession_replayed_changes_nothing(chain: list[Succession]) -> None:
    now = succeed(Peer("a", chain[0].old), chain)
    for at in range(len(chain)):
        for to in range(at, len(chain) + 1):
            assert succeed(now, chain[at:to]) == now


def test_a_stolen_old_key_names_no_second_successor(signers: list[Signer], chain: list[Succession]) -> None:
    """Also a key further back; the message has both fingerprints, and what to do."""
    now = succeed(Peer("a", chain[0].old), chain)
    for at in range(len(chain)):
        thief = Signer.fresh()
        with pytest.raises(BundleError) as raised:
            succeed(now, [hand_over(signers[at], thief, at + 1)])
        assert raised.value.reason is Reason.COLLISION
        for words in (fingerprint(thief.key), fingerprint(chain[at].new), "peers revoke a"):
            assert words in str(raised.value)


def test_a_stranger_alone_raises_no_alarm(chain: list[Succession]) -> None:
    """Only the old key itself can, or anybody could have a device distrusted."""
    now = succeed(Peer("a", chain[0].old), chain)
    with pytest.raises(BundleError) as raised:
        succeed(now, forged(chain))
    assert raised.value.reason is Reason.BAD_SIGNATURE


def test_a_device_changes_its_key_only_so_often(signers: list[Signer]) -> None:
    whole = chain_of(signers[: MOST + 1])
    assert len(whole) == MOST and from_json(to_json(whole)) == whole and len(to_json(whole)) <= MAX_BYTES
    now = succeed(Peer("a", signers[0].key), whole)
    with pytest.raises(BundleError) as raised:
        succeed(now, [hand_over(signers[MOST], signers[MOST + 1], 1)])
    assert raised.value.reason is Reason.TOO_LARGE


def test_ten_thousand_links_are_refused_unread(chain: list[Succession]) -> None:
    for attempt in (
        lambda: from_json(to_json(chain[:1] * 10_000)),
        lambda: from_values(to_values(chain[:1]) * 10_000),
        lambda: succeed(Peer("a", chain[0].old), chain[:1] * 10_000),
        lambda: from_json(b"[" * MAX_BYTES),
    ):
        with pytest.raises(BundleError):
            attempt()


def altered(**changes: Any) -> bytes:
    content = json.loads(GOLDEN)
    content["successions"] = [{**content["successions"][0], **changes}]
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"format":1}',
        b'{"format":2,"successions":[]}',
        b'{"format":1,"successions":null}',
        b'{"format":1,"successions":{}}',
        b'{"format":1,"successions":[null]}',
        b'{"format":1,"successions":[[]]}',
        b'{"format":1,"successions":[],"more":1}',
        b'{"format":true,"successions":[]}',
        b'{"format":1,"format":1,"successions":[]}',
        b"\xff\xfe",
        GOLDEN + b"\n",
        GOLDEN.replace(b'"number":1', b'"number":1.0'),
        GOLDEN.replace(b'"number":1', b'"number":' + b"9" * 5000),
        *(altered(number=n) for n in (0, -1, True, "1", None, MOST + 1, 2**63, [1], float("nan"))),
        *(
            altered(**{name: v})
            for name in ("old", "new", "signature", "proof")
            for v in (7, None, "", "zz", "A" * 64, "0" * 63)
        ),
        altered(more=1),
    ],
    ids=lambda data: str(len(data)),
)
def test_wrong_types_lengths_and_spellings_are_malformed(data: bytes) -> None:
    with pytest.raises(BundleError) as raised:
        from_json(data)
    assert raised.value.reason is Reason.MALFORMED and str(raised.value).isprintable()


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80) | st.sampled_from(KEYS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["old", "new", "number", "signature", "proof", "more"])


@given(
    data=st.binary(max_size=200)
    | plain.map(lambda value: json.dumps(value).encode())
    | st.tuples(names, plain).map(lambda change: altered(**{change[0]: change[1]}))
    | st.tuples(st.integers(0, len(GOLDEN) - 1), st.integers(0, 255)).map(
        lambda change: GOLDEN[: change[0]] + bytes([change[1]]) + GOLDEN[change[0] + 1 :]
    )
)
def test_whatever_comes_is_refused_or_is_exactly_what_it_says(data: bytes) -> None:
    try:
        chain = from_json(data)
    except BundleError as error:
        assert str(error).isprintable()
        return
    assert to_json(chain) == data and from_values(to_values(chain)) == chain
