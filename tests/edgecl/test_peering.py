"""Two devices in conversation, wired in memory: what one has learned the other can do, and what a hostile one may try."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from edgecl.device import EdgeDevice
from edgecl.errors import PeerRefused, ProtocolError, TransferError, UnknownTask
from edgecl.exchange import Outcome, share
from edgecl.peering import Station, fetch, give, inbox
from edgecl.sharing.bundle import MAX_BYTES, digest, from_bytes
from edgecl.sharing.chunks import CHUNK, Want, parts
from edgecl.sharing.peer import Dealt, Responder
from edgecl.sharing.protocol import Answers, Ask, Glance, Offers, Refusal, Wants, decode, encode
from edgecl.sharing.signing import Signer
from edgecl.sharing.transport.folder import Folder
from edgecl.sharing.transport.wired import Wired
from edgecl.sharing.trust import Peer
from firmware_sim.faults import count, cut_at_call, small_disk

Make = Callable[..., EdgeDevice]


class PowerOff(Exception):
    """The wire is cut."""


def wire(far: EdgeDevice, near: EdgeDevice, through: Callable[[str, bytes], bytes] = lambda way, data: data) -> Wired:
    """A connection from `near` to `far`."""
    return Wired(Responder(Station(far), inbox(far), near.trust.signer.key), far.trust.signer.key, through)


def states(outcomes: Iterable[Outcome]) -> list[tuple[str, str, str]]:
    return sorted((o.task, o.state, o.reason) for o in outcomes)


@pytest.fixture
def a(device: Make, tmp_path: Path, pictures_task) -> EdgeDevice:
    edge = device(tmp_path / "a", threads=1)
    for task in ("colours", "shapes"):
        edge.learn(task, pictures_task[task])
    return edge


@pytest.fixture
def b(device: Make, tmp_path: Path, a: EdgeDevice) -> EdgeDevice:
    edge = device(tmp_path / "b", threads=1)
    edge.trust.trust(Peer("a", a.trust.signer.key))
    a.trust.trust(Peer("b", edge.trust.signer.key))
    return edge


def test_what_is_given_answers_alike_to_the_bit(a: EdgeDevice, b: EdgeDevice, pictures_task) -> None:
    assert states(give(a, wire(b, a))) == [("colours", "shared", ""), ("shapes", "shared", "")]
    files = sorted(pictures_task["colours"].glob("test/*/*")) + sorted(pictures_task["shapes"].glob("test/*/*"))
    assert a.infer(files) == b.infer(files)
    assert states(give(a, wire(b, a))) == [("colours", "known", ""), ("shapes", "known", "")]
    assert not list((b.home / "incoming").iterdir())


def test_what_is_fetched_is_what_was_asked_for(a: EdgeDevice, b: EdgeDevice) -> None:
    assert states(fetch(b, wire(a, b), ["shapes"])) == [("shapes", "taken", "")] and b.tasks == ("shapes",)
    with pytest.raises(UnknownTask, match="no 'birds'; it has colours, shapes"):
        fetch(b, wire(a, b), ["birds"])
    assert states(fetch(b, wire(a, b))) == [("colours", "taken", ""), ("shapes", "known", "")]
    assert a.export("colours") == b.export("colours")


def test_a_second_share_of_an_unchanged_bank_is_one_glance(
    a: EdgeDevice, b: EdgeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecl.sharing.peer._FEW", 1)
    dealt: dict[str, Dealt] = {}
    sent: list[int] = []

    def counted(way: str, data: bytes) -> bytes:
        sent.append(len(data))
        return data

    def once() -> list[Outcome]:
        far = Responder(Station(b), inbox(b), a.trust.signer.key, dealt)
        return give(a, Wired(far, b.trust.signer.key, counted))

    once()
    sent.clear()
    assert [o.state for o in once()] == ["known", "known"] and sum(sent) < 200
    b.bank.remove("shapes")  # whatever changes there, it is looked at again
    sent.clear()
    assert states(once()) == [("colours", "known", ""), ("shapes", "known", "")] and sum(sent) > 200
    assert b.tasks == ("colours",)


@pytest.mark.parametrize("when", ["by its offer", "by its pictures"])
def test_what_was_refused_does_not_come_again_and_is_never_called_known(
    when: str, a: EdgeDevice, b: EdgeDevice, monkeypatch: pytest.MonkeyPatch, pictures_task
) -> None:
    """Until something changes at the receiver: then it is looked at again."""
    monkeypatch.setattr("edgecl.sharing.peer._FEW", 1)
    if when == "by its offer":
        b.trust.trust(Peer("a", a.trust.signer.key, tasks=("colours",)))
        reason = "not-allowed"
    else:
        b.learn("forms", pictures_task["shapes"], seed=1)
        reason = "collision"
    dealt: dict[str, Dealt] = {}
    sent: list[int] = []

    def counted(way: str, data: bytes) -> bytes:
        sent.append(len(data) if way == "out" and data[:1] == b"\2" else 0)
        return data

    def once() -> list[tuple[str, str, str]]:
        sent.clear()
        return states(give(a, Wired(Responder(Station(b), inbox(b), a.trust.signer.key, dealt), b.trust.signer.key, counted)))

    assert once() == [("colours", "shared", ""), ("shapes", "refused", reason)] and sum(sent) > 10_000
    for _ in range(2):
        assert once() == [("colours", "known", ""), ("shapes", "refused", reason)] and not sum(sent)
    if when == "by its offer":
        b.trust.trust(Peer("a", a.trust.signer.key))
    else:
        b.bank.remove("forms")
    assert once() == [("colours", "known", ""), ("shapes", "shared", "")]
    assert once() == [("colours", "known", ""), ("shapes", "known", "")] and len(sent) == 2


def test_a_new_generation_sends_what_changed(a: EdgeDevice, b: EdgeDevice, pictures_task) -> None:
    give(a, wire(b, a))
    old = a.export("shapes")
    bundle = from_bytes(old)
    arrays = {name: v + 1 if name == "b" else v for name, v in bundle.head.arrays.items()}
    assert "b" in arrays
    changed = a.trust.sign(replace(bundle, head=replace(bundle.head, arrays=arrays))).to_bytes()
    a.bank.put("shapes", changed, "learn", from_bytes(changed).mark)
    sent: list[int] = []

    def counted(way: str, data: bytes) -> bytes:
        sent.append(len(data))
        return data

    assert states(give(a, wire(b, a, counted), ["shapes"])) == [("shapes", "shared", "")]
    assert b.export("shapes") == changed != old and sum(sent) < len(changed) / 2


@pytest.mark.parametrize("pull", [False, True])
def test_a_transfer_goes_on_where_it_broke_off(a: EdgeDevice, b: EdgeDevice, pull: bool) -> None:
    """Broken at every part of the stream: no byte that had arrived comes again, and nothing half is in the bank."""

    def run(through: Callable[[str, bytes], bytes]) -> list[Outcome]:
        return fetch(b, wire(a, b, through), ["shapes"]) if pull else give(a, wire(b, a, through), ["shapes"])

    def parts_of(cut_at: int | None) -> int:
        seen = [0, 0]

        def through(way: str, data: bytes) -> bytes:
            if data[:1] in (b"\1", b"\2", b"\3"):
                if seen[0] == cut_at:
                    raise PowerOff
                seen[0] += 1
                seen[1] += len(data)
            return data

        try:
            run(through)
        except PowerOff:
            assert b.tasks == () and not b.verify()
        return seen[1]

    size, total, cuts = len(a.export("shapes")), 0, 0
    while not b.tasks:
        total += parts_of(2)  # the beginning and one part a time
        cuts += 1
        assert cuts < 50
    assert cuts > 1 and total < size + cuts * 60
    assert b.export("shapes") == a.export("shapes")


@pytest.mark.parametrize("way", ["give", "fetch", "stick"])
def test_a_damaged_head_keeps_none_of_the_others_here(a: EdgeDevice, b: EdgeDevice, way: str, tmp_path: Path) -> None:
    damaged = a.bank.current()["colours"]
    with closing(sqlite3.connect(a.bank.path)) as db, db:
        db.execute("UPDATE bundles SET data = zeroblob(length(data)) WHERE digest = ?", (damaged,))
    if way == "fetch":
        assert states(fetch(b, wire(a, b))) == [("shapes", "taken", "")] and b.tasks == ("shapes",)
        return
    found = give(a, wire(b, a)) if way == "give" else share(a, Folder(tmp_path))
    assert states(found) == [("colours", "refused", ""), ("shapes", "shared", "")]


def damage(edge: EdgeDevice, task: str) -> None:
    """Its bytes on the disk are wrong, and the device is none the wiser."""
    with closing(sqlite3.connect(edge.bank.path)) as db, db:
        sql = "UPDATE bundles SET data = zeroblob(length(data)) WHERE digest = ?"
        assert db.execute(sql, (edge.bank.current()[task],)).rowcount == 1


@pytest.mark.parametrize("way", ["give", "fetch"])
def test_a_head_that_was_damaged_is_taken_again_and_repaired(
    a: EdgeDevice, b: EdgeDevice, device: Make, tmp_path: Path, way: str
) -> None:
    """Also where the quota has no room for one more: it takes its own place. The others do not come again."""
    give(a, wire(b, a))
    damage(b, "colours")
    b.close()
    again = device(tmp_path / "b", threads=1, heads_mb=1)
    again.bank.put("filler", bytes((1 << 20) - again.bank.size()), "learn")
    again.bank.remove("filler")  # it is kept for rollback, so it counts
    assert again.tasks == ("shapes",) and any("colours" in line for line in again.verify())
    found = give(a, wire(again, a)) if way == "give" else fetch(again, wire(a, again))
    assert states(found) == [("colours", "shared" if way == "give" else "taken", ""), ("shapes", "known", "")]
    assert again.export("colours") == a.export("colours") and again.tasks == ("colours", "shapes") and not again.verify()
    assert len(again.bank.history("colours")) == 1
    assert {o.state for o in give(a, wire(again, a))} == {"known"}


def test_a_damaged_head_is_followed_by_the_next_one_of_its_device_and_by_no_others(
    a: EdgeDevice, b: EdgeDevice, device: Make, tmp_path: Path, pictures_task
) -> None:
    """Nobody may have the old bytes any more. Whose they were, the bank remembers."""
    give(a, wire(b, a))
    damage(b, "colours")
    b.close()
    again, c = device(tmp_path / "b", threads=1), device(tmp_path / "c", threads=1)
    c.learn("colours", pictures_task["colours"], seed=3)
    again.trust.trust(Peer("c", c.trust.signer.key))
    c.trust.trust(Peer("b", again.trust.signer.key))
    assert states(give(c, wire(again, c))) == [("colours", "refused", "collision")]
    a.learn("colours", pictures_task["colours"], seed=1)
    assert states(give(a, wire(again, a), ["colours"])) == [("colours", "shared", "")]
    assert again.export("colours") == a.export("colours")


def test_a_damaged_second_opinion_is_not_put_in_force_as_its_task(
    a: EdgeDevice, b: EdgeDevice, device: Make, tmp_path: Path
) -> None:
    fetch(b, wire(a, b), ["shapes"], name="forms")
    damage(b, "forms")
    b.close()
    again = device(tmp_path / "b", threads=1)
    assert states(fetch(again, wire(a, again), ["shapes"])) == [("shapes", "known", "")]
    assert set(again.bank.current()) == {"forms"}


def test_a_device_that_has_lost_its_bank_gets_its_own_heads_back_and_counts_on(
    a: EdgeDevice, b: EdgeDevice, device: Make, tmp_path: Path, pictures_task
) -> None:
    """They are signed by its own key. What it learns afterwards is newer than all that peers have of it."""
    a.learn("colours", pictures_task["colours"], seed=1)
    give(a, wire(b, a))
    a.close()
    for path in (tmp_path / "a").glob("bank.sqlite*"):
        path.unlink()
    again = device(tmp_path / "a", threads=1)
    assert states(fetch(again, wire(b, again))) == [("colours", "taken", ""), ("shapes", "taken", "")]
    assert again.export("colours") == b.export("colours") and not again.verify()
    again.learn("shapes", pictures_task["shapes"], seed=2)
    assert from_bytes(again.export("shapes")).sequence > from_bytes(b.export("colours")).sequence
    assert states(give(again, wire(b, again))) == [("colours", "known", ""), ("shapes", "shared", "")]
    assert again.export("shapes") == b.export("shapes")


def test_what_is_named_twice_is_given_once(a: EdgeDevice, b: EdgeDevice) -> None:
    assert states(give(a, wire(b, a), ["shapes", "shapes"])) == [("shapes", "shared", "")]


def test_a_stranger_is_told_nothing(a: EdgeDevice, b: EdgeDevice) -> None:
    far = Responder(Station(b), inbox(b), Signer.fresh().key)
    for message in (Ask(), Offers(tuple(Station(a).offers())), Glance("0" * 64)):
        said = decode(far.answer(encode(message)))
        assert isinstance(said, Refusal) and said.reason == "unknown-signer"
    with pytest.raises(PeerRefused):
        far.receive()
    with pytest.raises(PeerRefused):
        far.stream(encode(Wants({})))


def test_what_was_not_offered_is_not_sent(a: EdgeDevice, b: EdgeDevice) -> None:
    """Nor when a peer puts it on the table itself, by a message that is refused."""
    removed = a.bank.current()["shapes"]
    a.bank.remove("shapes")
    far = Responder(Station(a), inbox(a), b.trust.signer.key)
    listed = decode(far.answer(encode(Ask())))
    assert isinstance(listed, Offers) and [offer.task for offer in listed.heads] == ["colours"]
    other = replace(listed.heads[0], digest=removed)
    assert isinstance(decode(far.answer(encode(Offers((other, other))))), Refusal)
    with pytest.raises(ProtocolError, match="was not offered"):
        far.stream(encode(Wants({removed: Want()})))
    (mine,) = listed.heads
    assert b"".join(far.stream(encode(Wants({mine.digest: Want()}))))


def test_nothing_is_sent_to_who_is_not_trusted(a: EdgeDevice, b: EdgeDevice) -> None:
    """The far end trusts a, but a does not trust it: pulling from it is refused here, before it is believed in anything."""
    a.trust.revoke("b")
    with pytest.raises(PeerRefused, match="revoked"):
        fetch(a, wire(b, a))


def test_trust_that_is_taken_back_ends_a_transfer_in_the_middle(a: EdgeDevice, b: EdgeDevice) -> None:
    def revoking(way: str, data: bytes) -> bytes:
        if data[:1] == b"\2" and b.trust.peers["a"].trusted:
            b.trust.revoke("a")
        return data

    with pytest.raises(PeerRefused, match="revoked") as refused:
        give(a, wire(b, a, revoking))
    assert refused.value.reason == "revoked" and b.tasks == ()


@pytest.mark.parametrize("pull", [False, True])
def test_who_is_revoked_in_the_middle_is_sent_nothing_more(a: EdgeDevice, b: EdgeDevice, pull: bool) -> None:
    sent = 0

    def revoking(way: str, data: bytes) -> bytes:
        nonlocal sent
        if data[:1] == b"\2":
            sent += 1
            a.trust.revoke("b")
        return data

    with pytest.raises(PeerRefused, match="revoked"):
        _ = fetch(b, wire(a, b, revoking)) if pull else give(a, wire(b, a, revoking))
    assert sent == 1 and b.tasks == ()


class Liar(Wired):
    """Sends other parts than were made."""

    def __init__(self, far: EdgeDevice, near: EdgeDevice, lie: Callable[[list[bytes]], Iterable[bytes]]) -> None:
        super().__init__(Responder(Station(far), inbox(far), near.trust.signer.key), far.trust.signer.key)
        self.lie = lie

    def send(self, stream: Iterable[bytes]) -> bytes:
        return super().send(self.lie(list(stream)))


def _endless(made: list[bytes]) -> Iterable[bytes]:
    yield made[0]
    while True:
        yield b"\2" + CHUNK.to_bytes(4, "big") + bytes(CHUNK)


LIES: dict[str, tuple[Callable[[list[bytes]], Iterable[bytes]], str]] = {
    "endless data": (_endless, "more of it comes"),
    "declared small, sent huge": (lambda made: [*made, b"\2" + (5).to_bytes(4, "big") + b"more!"], "belongs to no bundle"),
    "cut off": (lambda made: made[:-1], "before the end"),
    "cut off in a part": (lambda made: [*made[:-1], made[-1][:-1]], "middle|before the end"),
    "nothing": (lambda made: [], "not sent"),
    "another bundle": (lambda made: parts(b"another", Want()), "begins where none"),
    "the same twice": (lambda made: [*made, *made], "begins where none"),
    "an offset nobody asked for": (lambda made: [made[0][:-8] + (9).to_bytes(8, "big"), *made[1:]], "not asked for"),
    "an offset beyond all": (lambda made: [made[0][:-8] + b"\xff" * 8, *made[1:]], "not asked for"),
    "a byte changed": (lambda made: [*made[:-1], made[-1][:-1] + bytes([made[-1][-1] ^ 1])], "is not that bundle"),
    "a chunk that is not here": (lambda made: [made[0], b"\3" + bytes(16)], "not said to be here"),
    "no bundle begun": (lambda made: made[1:], "belongs to no bundle"),
    "garbage": (lambda made: [b"\xff" * 100], "not known"),
}


@pytest.mark.parametrize("attack", LIES)
def test_lies_in_the_stream_are_refused(a: EdgeDevice, b: EdgeDevice, attack: str) -> None:
    lie, words = LIES[attack]
    try:
        (outcome,) = give(a, Liar(b, a, lie), ["shapes"])
        message = outcome.message
        assert outcome.state == "refused"
    except TransferError as error:
        message = str(error)
    assert any(word in message for word in words.split("|")), message
    assert b.tasks == () and not b.bank.current()
    assert states(give(a, wire(b, a))) == [("colours", "shared", ""), ("shapes", "shared", "")]  # and it still serves


def test_mix_and_match(a: EdgeDevice, b: EdgeDevice) -> None:
    """The card of one bundle with the arrays of another, under a digest of its own: the signature is not for that."""
    one, other = from_bytes(a.export("colours")), from_bytes(a.export("shapes"))
    mixed = replace(one, head=other.head).to_bytes()
    offer = replace(Station(a).offers()[0], digest=digest(mixed), size=len(mixed))
    far = Responder(Station(b), inbox(b), a.trust.signer.key)
    answers = decode(far.answer(encode(Offers((offer,)))))
    assert isinstance(answers, Answers) and answers.of[0].want is not None
    with far.receive() as receiver:
        for part in parts(mixed, Want()):
            receiver.feed(part)
        (done,) = receiver.end()
    assert (done.state, done.reason) == ("refused", "bad-signature") and b.tasks == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": MAX_BYTES + 1}, "too-large"),
        ({"key": "0" * 64}, "unknown-signer"),
        ({"rom_id": "0" * 64}, "wrong-rom"),
        ({"rom_id": "0" * 64, "precision": "int8"}, "wrong-precision"),
    ],
)
def test_what_would_be_refused_is_refused_before_it_is_sent(a: EdgeDevice, b: EdgeDevice, change: dict, reason: str) -> None:
    offers = [replace(offer, **change) for offer in Station(a).offers()]
    answers = decode(Responder(Station(b), inbox(b), a.trust.signer.key).answer(encode(Offers(tuple(offers)))))
    assert isinstance(answers, Answers) and [x.reason for x in answers.of] == [reason] * 2
    assert not any(x.want for x in answers.of)


def test_a_card_that_differs_from_its_offer_changes_nothing(a: EdgeDevice, b: EdgeDevice) -> None:
    """Offered as allowed, sent as not allowed: what counts is the bundle."""
    b.trust.trust(Peer("a", a.trust.signer.key, tasks=("colours",)))
    data = a.export("shapes")
    offer = replace(Station(a).offers()[0], task="colours", digest=digest(data), size=len(data))
    far = Responder(Station(b), inbox(b), a.trust.signer.key)
    far.answer(encode(Offers((offer,))))
    with far.receive() as receiver:
        for part in parts(data, Want()):
            receiver.feed(part)
        assert [(d.state, d.reason) for d in receiver.end()] == [("refused", "not-allowed")]


def test_rollback_and_replay_over_the_wire(a: EdgeDevice, b: EdgeDevice, pictures_task) -> None:
    old = a.export("shapes")
    a.learn("shapes", pictures_task["shapes"], seed=1)
    give(a, wire(b, a))
    new = b.export("shapes")
    bundle = from_bytes(old)
    same_number = replace(from_bytes(new), report={"x": 1}, signature="")
    forged = replace(same_number, signature=a.trust.signer.sign(same_number.unsigned_digest())).to_bytes()
    for data, reason in ((old, "rollback"), (forged, "replay")):
        number = from_bytes(data).sequence
        offer = replace(Station(a).offers()[1], digest=digest(data), size=len(data), sequence=number)
        (answer,) = decode(Responder(Station(b), inbox(b), a.trust.signer.key).answer(encode(Offers((offer,))))).of
        assert answer.reason == reason and answer.want is None
        (done,) = Station(b).take([data])  # and if it came all the same
        assert done.reason == reason
    assert b.export("shapes") == new and bundle.task == "shapes"


def test_the_quota_is_for_all_that_is_offered_together(a: EdgeDevice, device: Make, tmp_path: Path) -> None:
    c = device(tmp_path / "c", threads=1, heads_mb=1)
    c.trust.trust(Peer("a", a.trust.signer.key))
    big = [replace(offer, size=700_000) for offer in Station(a).offers()]
    answers = Station(c).answers(big)
    assert [(x.state, x.reason) for x in answers] == [("want", ""), ("refused", "quota")]


def test_what_is_there_already_takes_nothing_of_the_quota(a: EdgeDevice, device: Make, tmp_path: Path) -> None:
    c = device(tmp_path / "c", threads=1, heads_mb=1)
    c.trust.trust(Peer("a", a.trust.signer.key))
    a.trust.trust(Peer("c", c.trust.signer.key))
    give(a, wire(c, a))
    offers = Station(a).offers()
    new = replace(offers[0], task="new", digest="0" * 64, size=(1 << 20) - c.bank.size())
    assert [x.state for x in Station(c).answers([*offers, new])] == ["known", "known", "want"]


def test_two_connections_that_push_the_same_head(a: EdgeDevice, b: EdgeDevice, device: Make, tmp_path: Path) -> None:
    """From one device the second waits; from two each goes its way, and the head is there once."""
    station, box = Station(b), inbox(b)
    data = a.export("shapes")
    (offer,) = [o for o in Station(a).offers() if o.task == "shapes"]
    c = device(tmp_path / "c", threads=1)
    b.trust.trust(Peer("c", c.trust.signer.key))
    ends = [Responder(station, box, key) for key in (a.trust.signer.key, a.trust.signer.key, c.trust.signer.key)]
    receivers = []
    for end in ends:
        end.answer(encode(Offers((offer,))))
        receivers.append(end.receive())
    stream = list(parts(data, Want()))
    receivers[0].feed(stream[0])
    with pytest.raises(PeerRefused, match="already"):
        receivers[1].feed(stream[0])
    receivers[2].feed(stream[0])
    for part in stream[1:]:
        receivers[0].feed(part)
        receivers[2].feed(part)
    assert [r.end()[0].state for r in (receivers[0], receivers[2])] == ["taken", "taken"]
    assert len(b.bank.history("shapes")) == 1 and b.export("shapes") == data
    assert not list((b.home / "incoming").iterdir())


def test_a_full_disk_refuses_and_leaves_what_was_there(a: EdgeDevice, b: EdgeDevice) -> None:
    give(a, wire(b, a), ["colours"])
    incoming = b.home / "incoming"
    with small_disk(incoming, 16 << 10) as how:
        if how != "tmpfs":
            pytest.skip("a small disk for files needs the right to mount one")
        with pytest.raises(PeerRefused, match="no room left on its disk"):
            give(a, wire(b, a))
    assert b.tasks == ("colours",) and not b.verify()
    assert states(give(a, wire(b, a))) == [("colours", "known", ""), ("shapes", "shared", "")]


def test_what_lies_half_is_bounded(a: EdgeDevice, tmp_path: Path) -> None:
    from edgecl.sharing.inbox import Inbox

    box = Inbox(tmp_path / "in", most=1000)
    for n in range(20):
        with box.open(f"{n:064x}", 300, a.trust.signer.key, 0) as arrival:
            arrival.append(bytes(200))
    assert sum(p.stat().st_size for p in (tmp_path / "in").iterdir()) <= 1000


def test_what_comes_at_one_time_is_bounded(a: EdgeDevice, tmp_path: Path) -> None:
    """By what is declared: a thousand that have just begun take no room yet."""
    from edgecl.sharing.inbox import Inbox

    box = Inbox(tmp_path / "in", most=1000)
    with box.open("0" * 64, 300, a.trust.signer.key, 0) as arrival:
        arrival.append(bytes(200))
    coming = [box.open(f"{n:064x}", 450, a.trust.signer.key, 0) for n in (1, 2)]
    with pytest.raises(PeerRefused, match="no room for more") as refused:
        box.open("3" * 64, 450, a.trust.signer.key, 0)
    assert refused.value.reason == "busy"
    for arrival in coming:
        with arrival:
            arrival.append(bytes(440))
    with box.open("3" * 64, 450, a.trust.signer.key, 0) as arrival:
        arrival.append(bytes(450))
    assert sum(p.stat().st_size for p in (tmp_path / "in").iterdir()) <= 1000


def test_a_peer_that_dies_at_any_point_of_its_turn(a: EdgeDevice, b: EdgeDevice) -> None:
    """Cut at each message and part in turn, in either way: what was told as done is there, and the next time all comes."""
    said: list[Outcome] = []
    done, at = False, 0
    while not done:
        left = at

        def through(way: str, data: bytes) -> bytes:
            nonlocal left
            left -= 1
            if left < 0:
                raise PowerOff
            return data

        try:
            said = give(a, wire(b, a, through))
            done = True
        except PowerOff:
            assert all(b.export(task) == a.export(task) for task in b.tasks) and not b.verify()
        at += 1
    assert at > 5 and {o.state for o in said} <= {"shared", "known"} and b.tasks == ("colours", "shapes")


def test_a_receiver_that_is_killed_at_any_system_call(a: EdgeDevice, b: EdgeDevice, tmp_path: Path) -> None:
    """Whatever it leaves, the next transfer completes it; of what lay there nothing comes again but what was in flight."""
    home, key = b.home, b.trust.signer.key
    kept = {p.relative_to(home): p.read_bytes() for p in home.rglob("*") if p.is_file()}
    rom = b.rom
    b.bank.close()
    size = len(a.export("shapes"))

    def receive(acknowledge: Path | None = None) -> int:
        """One transfer into the home, in this process; bytes of parts that were sent."""
        sent = [0]

        def counted(way: str, data: bytes) -> bytes:
            sent[0] += len(data) if data[:1] in (b"\1", b"\2", b"\3") else 0
            return data

        with EdgeDevice(home, threads=1) as edge:
            edge._rom = rom  # opened before: it changes no file
            try:
                outcomes = give(a, Wired(Responder(Station(edge), inbox(edge), a.trust.signer.key), key, counted), ["shapes"])
            finally:
                edge._rom = None
        if acknowledge and outcomes[0].state in ("shared", "known"):
            acknowledge.write_text("done")
        return sent[0]

    def fresh() -> None:
        import shutil

        shutil.rmtree(home)
        for name, data in kept.items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_bytes(data)
        (home / "identity.pem").chmod(0o600)

    told = tmp_path / "told"
    fresh()
    try:
        calls = count(cut_at_call, lambda: receive())
    except (OSError, ChildProcessError) as error:
        pytest.skip(f"system calls cannot be traced here: {error}")
    points, struck = range(1, calls + 1, max(1, calls // 60)), 0
    for k in points:
        fresh()
        told.unlink(missing_ok=True)
        struck += cut_at_call(k).strikes(lambda: receive(told))
        if told.exists():
            with EdgeDevice(home, threads=1) as edge:
                assert "shapes" in edge.bank.current()
        lying = sum(p.stat().st_size for p in (home / "incoming").glob("*")) if (home / "incoming").exists() else 0
        again = receive()
        assert again <= size - lying + 1000
        with EdgeDevice(home, threads=1) as edge:
            assert edge.bank.get(edge.bank.current()["shapes"]) == a.export("shapes") and not edge.bank.verify()
    assert struck > 0.9 * len(points)
