"""Two devices and what one believes of the other: bundles signed, taken, refused, revoked."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgecl import learning
from edgecl.bank.bank import HeadBank
from edgecl.conversion import Change, carry, convert
from edgecl.device import EdgeDevice
from edgecl.errors import BundleError, ConfigError, EdgeclError, IdentityError, Reason, UnknownName
from edgecl.sharing import peers, signing
from edgecl.sharing.bundle import MAX_SEQUENCE, digest, from_bytes
from edgecl.sharing.trust import Peer
from edgecl.sharing.trust_store import TrustStore
from firmware_sim.faults import count, cut_at_call, read_only


@pytest.fixture
def a(device: Callable[..., EdgeDevice], tmp_path: Path, pictures_task) -> EdgeDevice:
    edge = device(tmp_path / "a", threads=1)
    edge.learn("colours", pictures_task["colours"])
    return edge


@pytest.fixture
def b(device: Callable[..., EdgeDevice], tmp_path: Path, a: EdgeDevice) -> Iterator[EdgeDevice]:
    """Trusts a."""
    edge = device(tmp_path / "b", threads=1)
    edge.trust.trust(Peer("a", a.trust.signer.key))
    yield edge


def refused(edge: EdgeDevice, data: bytes, reason: Reason, **options: bool) -> None:
    """`data` is refused for that reason, and nothing has changed."""
    before = edge.bank.current(), edge.bank.accepted(), edge.bank.size()
    with pytest.raises(EdgeclError) as raised:
        edge.import_bundle(data, **options)
    assert getattr(raised.value, "reason", None) is reason, raised.value
    assert (edge.bank.current(), edge.bank.accepted(), edge.bank.size()) == before


def test_what_is_learned_is_signed_and_taken_by_who_trusts(a: EdgeDevice, b: EdgeDevice, pictures_task) -> None:
    data = a.export("colours")
    bundle = from_bytes(data)
    assert bundle.signer == a.trust.signer.key and bundle.sequence == 1 and a.verify() == []
    there = b.import_bundle(data)
    assert b.export("colours") == data and b.verify() == []
    assert b.import_bundle(data) == there, "the same again changes nothing"
    custody = b.trust.custody(from_bytes(data))
    assert (custody.signer, custody.sound, custody.trusted) == ("a", True, True)
    assert a.trust.custody(bundle).signer == "this device"
    picture = sorted(pictures_task["colours"].glob("test/red/*"))[:1]
    assert a.infer(picture) == b.infer(picture)


def test_every_altered_byte_is_refused(a: EdgeDevice, b: EdgeDevice) -> None:
    """One in each 61 of all bytes, in every region: header, card, signature, arrays."""
    data = a.export("colours")
    step = max(1, len(data) // 2000)
    for at in range(0, len(data), step):
        other = bytearray(data)
        other[at] ^= 1
        with pytest.raises(EdgeclError) as raised:
            b.trust.admit(bytes(other), b.rom.image, None)
        assert isinstance(raised.value, BundleError)
    assert b.bank.current() == {}


def test_a_signature_on_another_card_is_refused(a: EdgeDevice, b: EdgeDevice) -> None:
    bundle = from_bytes(a.export("colours"))
    for changes in (
        {"task": "birds"},
        {"sequence": bundle.sequence + 1},
        {"report": {**bundle.report, "validation_accuracy": 0.123}},
        {"extra": {"more": 1}},
        {"signature": "00" * 64},
        {"signer": b.trust.signer.key},
    ):
        refused(b, replace(bundle, **changes).to_bytes(), Reason.BAD_SIGNATURE)


@pytest.mark.parametrize("unsigned", [False, True])
def test_an_unsigned_bundle_needs_a_persons_word(unsigned: bool, a: EdgeDevice, b: EdgeDevice) -> None:
    data = replace(from_bytes(a.export("colours")), signer="", sequence=0, signature="").to_bytes()
    if unsigned:
        assert b.import_bundle(data, unsigned=True).task == "colours"
    else:
        refused(b, data, Reason.UNKNOWN_SIGNER)


def test_that_word_does_not_cover_a_strangers_signature(a: EdgeDevice, device, tmp_path: Path) -> None:
    c = device(tmp_path / "c", threads=1)
    refused(c, a.export("colours"), Reason.UNKNOWN_SIGNER, unsigned=True, older=True)


@pytest.mark.parametrize(
    "card",
    [
        {"signer": None},
        {"signature": "zz" * 64},
        {"sequence": 0},
        {"sequence": 2**63},
        {"sequence": MAX_SEQUENCE + 1},
        {"sequence": -1},
        {"sequence": True},
        {"signer": "A" * 64},
        {"signature": ""},
    ],
    ids=str,
)
def test_a_signer_or_counter_that_cannot_be_is_malformed(card: dict[str, object], a: EdgeDevice, b: EdgeDevice) -> None:
    """Among them the fast-forward: a counter after which nothing could come."""
    refused(b, replace(from_bytes(a.export("colours")), **card).to_bytes(), Reason.MALFORMED)


def test_rollback_and_replay_are_refused_even_after_the_bank_has_forgotten(a: EdgeDevice, b: EdgeDevice, pictures_task) -> None:
    first = a.export("colours")
    a.learn("colours", pictures_task["colours"], seed=1)
    second = a.export("colours")
    b.import_bundle(first)
    b.import_bundle(second)
    refused(b, first, Reason.ROLLBACK)
    b.bank.remove("colours")
    b.bank.gc(keep=0)
    refused(b, first, Reason.ROLLBACK)
    twin = a.trust.sign(replace(from_bytes(second), report={}))
    same_number = replace(twin, sequence=from_bytes(second).sequence, signature="")
    signed = replace(same_number, signature=a.trust.signer.sign(same_number.unsigned_digest()))
    refused(b, signed.to_bytes(), Reason.REPLAY)
    assert b.import_bundle(first, older=True).digest and from_bytes(b.export("colours")).sequence == 1
    refused(b, signed.to_bytes(), Reason.REPLAY)


@pytest.mark.parametrize("meanwhile", ["a newer one", "revoked"])
def test_what_happens_while_a_bundle_is_looked_at_counts(
    meanwhile: str, a: EdgeDevice, b: EdgeDevice, device, pictures_task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes a newer one, or revokes the peer, between the judgement and the commit."""
    first = a.export("colours")
    a.learn("colours", pictures_task["colours"], seed=1)
    second = a.export("colours")
    other: EdgeDevice = device(b.home, threads=1)
    exclusive = b.bank.exclusive

    def late() -> object:
        monkeypatch.undo()
        other.import_bundle(second) if meanwhile == "a newer one" else other.trust.revoke("a")
        return exclusive()

    monkeypatch.setattr(b.bank, "exclusive", late)
    with pytest.raises(BundleError) as raised:
        b.import_bundle(first)
    assert raised.value.reason is (Reason.ROLLBACK if meanwhile == "a newer one" else Reason.REVOKED)
    assert b.bank.current() == ({"colours": digest(second)} if meanwhile == "a newer one" else {})


def test_a_head_that_was_carried_over_is_still_of_the_one_who_learned_it(
    a: EdgeDevice, b: EdgeDevice, pictures_task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This device's signature on it must not wash a revoked peer's head, nor carry it on to others."""
    b.import_bundle(a.export("colours"))
    bundle = b.bundle(b.bank.current()["colours"])
    same = Change(12, 1.0, 1.0, 1.0, 0.0, 0.0)
    carried = b.trust.sign(carry(bundle, same, b.rom))
    twice = b.trust.sign(carry(carried, same, b.rom))
    for one in (carried, twice):
        assert one.makers == {a.trust.signer.key, b.trust.signer.key} and b.trust.custody(one).trusted
    b.bank.put("colours", twice.to_bytes(), "convert", twice.mark)
    assert b.trust.revoke("a") == ["colours"] and b.tasks == ()
    b.bank.rollback("colours")
    assert b.tasks == () and ["revoked" in problem for problem in b.verify()] == [True]
    refused(b, twice.to_bytes(), Reason.REVOKED)
    with pytest.raises(BundleError, match=r"not converted.*revoked"):
        convert(b, SimpleNamespace(rom_id="0" * 64, image=b.rom.image), pictures=pictures_task["colours"])


def test_a_limit_that_means_nothing_is_not_written(a: EdgeDevice, b: EdgeDevice) -> None:
    before = (b.home / peers.PEERS_FILE).read_bytes()
    for tasks in (("",), (" ",)):
        with pytest.raises(ConfigError, match="tasks must be"):
            b.trust.trust(Peer("a", a.trust.signer.key, tasks=tasks))
    assert (b.home / peers.PEERS_FILE).read_bytes() == before


def test_to_look_needs_no_passphrase_and_to_learn_asks_before_the_work(
    a: EdgeDevice, pictures_task, monkeypatch: pytest.MonkeyPatch, device
) -> None:
    key = a.trust.signer
    (a.home / signing.KEY_FILE).write_bytes(key.to_pem("open sesame"))
    again: EdgeDevice = device(a.home, threads=1)
    assert again.verify() == [] and again.trust.own_key == key.key
    monkeypatch.setattr(learning, "fit", lambda *rest, **named: pytest.fail("it began to learn"))
    with pytest.raises(IdentityError, match="needs a passphrase"):
        again.learn("shapes", pictures_task["shapes"])


def test_to_look_and_to_take_needs_no_key_of_ones_own(a: EdgeDevice, b: EdgeDevice) -> None:
    b.import_bundle(a.export("colours"))
    assert b.verify() == [] and b.trust.custody(from_bytes(b.export("colours"))).signer == "a"
    unsigned = replace(from_bytes(a.export("colours")), task="more", signer="", sequence=0, signature="").to_bytes()
    assert b.import_bundle(unsigned, unsigned=True, anyway=True).task == "more"
    assert not (b.home / signing.KEY_FILE).exists()


def test_limits_of_a_peer_hold(a: EdgeDevice, b: EdgeDevice) -> None:
    data, key = a.export("colours"), a.trust.signer.key
    b.trust.trust(Peer("a", key, tasks=("birds",)))
    refused(b, data, Reason.NOT_ALLOWED)
    b.trust.trust(Peer("a", key, max_bytes=len(data) - 1))
    refused(b, data, Reason.TOO_LARGE)
    b.trust.trust(Peer("a", key, max_bytes=len(data)))
    assert b.import_bundle(data).task == "colours"


def test_the_quota_holds(a: EdgeDevice, device, tmp_path: Path) -> None:
    c = device(tmp_path / "c", threads=1, heads_mb=1)
    c.trust.trust(Peer("a", a.trust.signer.key))
    c.bank.put("filler", bytes(1 << 20), "learn")
    refused(c, a.export("colours"), Reason.QUOTA)


def test_revoking_takes_heads_out_of_force_at_once_in_other_processes_too(
    a: EdgeDevice, b: EdgeDevice, device, pictures_task
) -> None:
    b.import_bundle(a.export("colours"))
    b.learn("shapes", pictures_task["shapes"])
    serving: EdgeDevice = device(b.home, threads=1)
    assert serving.tasks == ("colours", "shapes")
    assert b.trust.revoke("a") == ["colours"]
    assert serving.tasks == b.tasks == ("shapes",)
    refused(b, a.export("colours"), Reason.REVOKED)
    b.bank.rollback("colours")  # somebody brings it back by hand
    assert b.tasks == ("shapes",) and any("revoked" in problem or "trusted" in problem for problem in b.verify())
    with pytest.raises(UnknownName, match="'nobody'"):
        b.trust.revoke("nobody")
    b.trust.trust(Peer("a", a.trust.signer.key))
    assert b.tasks == ("colours", "shapes"), "trusted again, by hand"


def test_a_change_of_the_file_by_hand_counts_at_the_next_look(a: EdgeDevice, b: EdgeDevice) -> None:
    b.import_bundle(a.export("colours"))
    assert b.tasks == ("colours",)
    file = b.home / peers.PEERS_FILE
    file.write_text(file.read_text().replace("true", "false"))
    assert b.tasks == ()


def test_a_slip_in_the_file_lifts_no_revocation_and_stops_no_own_head(a: EdgeDevice, b: EdgeDevice, pictures_task) -> None:
    b.import_bundle(a.export("colours"))
    b.learn("shapes", pictures_task["shapes"])
    file = b.home / peers.PEERS_FILE
    sound = file.read_text()
    file.write_text(f'{sound}\n[x]\nkey = "no key"\n')
    assert b.tasks == ("colours", "shapes"), "another entry's slip"
    file.write_text(f'{sound.replace("true", "false")}\n[x]\nkey = "no key"\n')
    assert b.tasks == ("shapes",), "and it does not hide that a is revoked"
    file.write_text("[")
    assert b.tasks == ("shapes",), "nobody can tell"
    with pytest.raises(ConfigError):
        b.import_bundle(a.export("colours"))


def test_trust_is_given_to_one_name_one_key(a: EdgeDevice, b: EdgeDevice) -> None:
    key = a.trust.signer.key
    for peer, words in (
        (Peer("c", key), "known as 'a'"),
        (Peer("a", "c3" * 32), "another key"),
        (Peer("me", b.trust.signer.key), "own key"),  # which is made by asking for it
    ):
        with pytest.raises(ConfigError, match=words):
            b.trust.trust(peer)


def test_numbers_only_grow_whoever_asks(tmp_path: Path) -> None:
    with HeadBank(tmp_path / "bank.sqlite") as one, HeadBank(tmp_path / "bank.sqlite") as two:
        assert [bank.next_sequence("k") for bank in (one, two, two, one)] == [1, 2, 3, 4]
        one.put("birds", b"1", "learn", ("k", "rom", 9))
        assert two.next_sequence("k") == 10 and two.next_sequence("other") == 1
        assert two.accepted() == {("k", "birds", "rom"): (9, one.current()["birds"])}
        two.put("birds", b"0", "import", ("k", "rom", 3))
        assert one.accepted()["k", "birds", "rom"][0] == 9, "an older one that a person wanted does not lower the bar"


def format_1(path: Path) -> Path:
    """A bank as it was before `accepted`, with one task."""
    with HeadBank(path) as bank:
        bank.put("birds", b"1", "learn")
    with closing(sqlite3.connect(path)) as db:
        db.executescript("DROP TABLE accepted; PRAGMA user_version = 1; PRAGMA wal_checkpoint(TRUNCATE);")
    return path


def test_a_bank_of_format_1_is_taken_up_with_all_it_holds(tmp_path: Path) -> None:
    path = format_1(tmp_path / "bank.sqlite")
    with read_only(path.parent), HeadBank(path) as bank:
        assert bank.current().keys() == {"birds"} and bank.accepted() == {}
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchall() == [(1,)], "what cannot be written is left at its format"
    with HeadBank(path) as bank:
        assert bank.next_sequence("k") == 1 and bank.current().keys() == {"birds"} and bank.verify() == []


def test_a_power_cut_while_a_bank_is_taken_up_loses_nothing(tmp_path: Path) -> None:
    """At every system call of opening a bank of format 1."""
    old = format_1(tmp_path / "old.sqlite")

    def copy(name: str) -> Path:
        (tmp_path / name).mkdir()
        return Path(shutil.copy(old, tmp_path / name / "bank.sqlite"))

    first = copy("count")
    calls = count(cut_at_call, lambda: HeadBank(first).close())
    died = 0
    for k in range(1, calls + 1):
        path = copy(str(k))
        died += cut_at_call(k).strikes(lambda path=path: HeadBank(path).close())
        with HeadBank(path) as bank:
            assert bank.current().keys() == {"birds"} and bank.verify() == [] and bank.next_sequence("k") == 1
    assert died > 50


def test_a_device_that_has_lost_its_bank_signs_with_no_number_again(a: EdgeDevice, tmp_path: Path) -> None:
    """Else what it learns next would be refused elsewhere as older than what it had learned before."""
    bundle = replace(from_bytes(a.export(a.tasks[0])), signature="")
    last = max(a.trust.sign(bundle).sequence for _ in range(3))
    noted = a.home / "identity.sequence"
    home = tmp_path / "lost"
    home.mkdir()
    for name in ("identity.pem", "identity.pub", noted.name):
        shutil.copy2(a.home / name, home / name)
    with HeadBank(home / "bank.sqlite") as bank:
        store = TrustStore(home, bank)
        assert store.sign(bundle).sequence == last + 1
        key = a.trust.own_key.encode()
        for nonsense in (b"", b"x", key, key + b" -7\n", key + b" " + b"9" * 30, b"0" * 64 + b" 99\n", b"\xff"):
            (home / noted.name).write_bytes(nonsense)
            assert last + 1 < store.sign(bundle).sequence < last + 10
