"""A device that changes its key, and those who trust it: over a stick, with thieves, and with the power going at any moment."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgecl.bank.bank import HeadBank
from edgecl.device import EdgeDevice
from edgecl.errors import BankBusy, BundleError, ConfigError, EdgeclError, IdentityError, Reason
from edgecl.exchange import Outcome, pull, share
from edgecl.sharing import peers, signing
from edgecl.sharing.bundle import MAX_SEQUENCE, Bundle, digest, from_bytes
from edgecl.sharing.signing import Signer, fingerprint
from edgecl.sharing.succession import MAX_BYTES, MOST, from_json, hand_over, succeed, to_json
from edgecl.sharing.transport.folder import Folder
from edgecl.sharing.trust import Peer
from edgecl.sharing.trust_store import TrustStore
from firmware_sim.faults import count, cut_at_call

GOLDEN = from_bytes((Path(__file__).parent / "golden" / "bundle-1.safetensors").read_bytes())


@pytest.fixture
def stick(tmp_path: Path) -> Folder:
    (tmp_path / "stick").mkdir()
    return Folder(tmp_path / "stick")


@pytest.fixture
def a(device: Callable[..., EdgeDevice], tmp_path: Path, pictures_task) -> EdgeDevice:
    edge = device(tmp_path / "a", threads=1)
    edge.learn("colours", pictures_task["colours"])
    return edge


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def b(device: Callable[..., EdgeDevice], tmp_path: Path, a: EdgeDevice, said: list[str]) -> EdgeDevice:
    """Trusts a."""
    edge = device(tmp_path / "b", threads=1, say=said.append)
    edge.trust.trust(Peer("a", a.trust.own_key, address="10.0.0.7:1"))
    return edge


def states(outcomes: list[Outcome]) -> list[tuple[str, str, str]]:
    return sorted((o.task, o.state, o.reason) for o in outcomes)


def signed(bundle: Bundle, by: Signer, sequence: int) -> bytes:
    numbered = replace(bundle, signer=by.key, sequence=sequence, signature="")
    return replace(numbered, signature=by.sign(numbered.unsigned_digest())).to_bytes()


def refused(edge: EdgeDevice, data: bytes, reason: Reason, **options: bool) -> str:
    before = edge.bank.current(), edge.bank.accepted(), edge.bank.size()
    with pytest.raises(EdgeclError) as raised:
        edge.import_bundle(data, **options)
    assert getattr(raised.value, "reason", None) is reason, raised.value
    assert (edge.bank.current(), edge.bank.accepted(), edge.bank.size()) == before
    return str(raised.value)


def test_a_new_key_and_the_same_answers(a: EdgeDevice, pictures_task) -> None:
    picture = sorted(pictures_task["colours"].glob("test/red/*"))[:1]
    before, answers, old = from_bytes(a.export("colours")), a.infer(picture), a.trust.signer
    done = a.trust.rotate()
    after = from_bytes(a.export("colours"))
    assert (done.old, done.new, done.signed, done.resumed) == (old.key, a.trust.own_key, ("colours",), False)
    assert after == replace(
        before, signer=done.new, sequence=1, signature=after.signature, head=after.head, anchors=after.anchors
    )
    assert a.infer(picture) == answers and a.verify() == [] and a.tasks == ("colours",)
    assert [g.action for g in a.bank.history("colours")] == ["learn", "re-sign"]
    assert a.trust.signer.key == done.new == signing.public_key(a.home) != old.key
    assert (a.home / signing.KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in a.home.glob("identity*")) == [signing.KEY_FILE, signing.PUBLIC_FILE, "identity.sequence"]
    assert old.to_pem() not in (a.home / signing.KEY_FILE).read_bytes()
    who = a.trust.custody(before)
    assert (who.signer, who.sound, who.trusted, who.former) == ("this device", True, True, True)
    a.bank.rollback("colours")
    assert a.tasks == ("colours",) and a.verify() == [], "what the former key has signed serves here"


def test_who_trusts_the_old_key_follows_over_a_stick(
    a: EdgeDevice, b: EdgeDevice, stick: Folder, said: list[str], pictures_task
) -> None:
    share(a, stick)
    pull(b, stick)
    old = a.trust.own_key
    for _ in range(2):
        a.trust.rotate()
    new = a.trust.own_key
    share(a, stick)
    assert states(pull(b, stick)) == [("colours", "older", ""), ("colours", "taken", "")]
    chain = a.trust.successions()
    assert b.trust.peers["a"] == Peer("a", new, address="10.0.0.7:1", former=(old, chain[0].new))
    assert [line for line in said if "new key" in line] == [f"'a' has a new key, signed by the old one: {fingerprint(new)}"]
    assert b.export("colours") == a.export("colours") and b.verify() == []
    assert states(pull(b, stick)) == [("colours", "known", ""), ("colours", "older", "")]
    a.learn("colours", pictures_task["colours"], seed=1)
    share(a, stick)
    assert ("colours", "taken", "") in states(pull(b, stick)) and b.export("colours") == a.export("colours")


def test_a_device_that_joins_late_takes_the_newest_of_all_keys(a: EdgeDevice, b: EdgeDevice, stick: Folder) -> None:
    """It trusts the first key, and meets what both have signed at once: one device, not two."""
    share(a, stick)
    a.trust.rotate()
    share(a, stick)
    assert states(pull(b, stick)) == [("colours", "older", ""), ("colours", "taken", "")]
    assert from_bytes(b.export("colours")).signer == a.trust.own_key


def test_a_stolen_key_before_the_rotation_is_known_is_believed_until_it_is_revoked(a: EdgeDevice, b: EdgeDevice) -> None:
    thief = a.trust.signer
    bundle = from_bytes(a.export("colours"))
    a.trust.rotate()
    b.import_bundle(signed(bundle, thief, 7))
    assert b.trust.succeed(a.trust.successions()) and b.tasks == ("colours",)
    assert b.trust.revoke("a") == ["colours"] and b.tasks == (), "a head that the former key has signed goes too"
    b.bank.rollback("colours")
    assert b.tasks == ()
    refused(b, a.export("colours"), Reason.REVOKED)
    refused(b, signed(bundle, thief, 8), Reason.REVOKED)


@pytest.mark.parametrize("held", [False, True])
def test_a_stolen_key_after_the_rotation_signs_nothing_new(held: bool, a: EdgeDevice, b: EdgeDevice, stick: Folder) -> None:
    thief, first = a.trust.signer, a.export("colours")
    bundle = from_bytes(first)
    if held:
        b.import_bundle(first)
    a.trust.rotate()
    b.trust.succeed(a.trust.successions())
    for task in ("colours", "shapes"):
        words = refused(b, signed(replace(bundle, task=task), thief, MAX_SEQUENCE), Reason.REVOKED)
        assert "was replaced by" in words and fingerprint(a.trust.own_key) in words
    refused(b, signed(bundle, thief, MAX_SEQUENCE), Reason.REVOKED, older=True, unsigned=True)
    if held:
        assert b.import_bundle(first).digest == digest(first), "what is held is no news"
    else:
        refused(b, first, Reason.REVOKED)
    stick.put(signed(bundle, thief, MAX_SEQUENCE))
    share(a, stick)
    assert ("colours", "taken", "") in states(pull(b, stick)), "and it hides nothing of what the new key has signed"


def test_a_stolen_key_signs_nothing_for_its_own_device(a: EdgeDevice) -> None:
    thief, first = a.trust.signer, a.export("colours")
    a.trust.rotate()
    refused(a, signed(from_bytes(first), thief, 9), Reason.REVOKED)
    refused(a, first, Reason.ROLLBACK)
    assert a.import_bundle(first, older=True).digest == digest(first)


def test_nothing_that_a_former_key_signed_comes_back_by_itself(a: EdgeDevice, b: EdgeDevice, pictures_task) -> None:
    """Rollback across the change, though each key counts from 1."""
    for seed in (1, 2):
        a.learn("colours", pictures_task["colours"], seed=seed)
    old = a.export("colours")
    b.import_bundle(old)
    a.trust.rotate()
    b.trust.succeed(a.trust.successions())
    b.import_bundle(a.export("colours"))
    assert from_bytes(b.export("colours")).sequence == 1
    assert "later key" in refused(b, old, Reason.ROLLBACK)
    b.bank.remove("colours")
    b.bank.gc(keep=0)
    refused(b, old, Reason.ROLLBACK)
    assert b.import_bundle(old, older=True).task == "colours"


def test_a_second_successor_of_a_stolen_key_is_refused_loudly(
    a: EdgeDevice, b: EdgeDevice, stick: Folder, tmp_path: Path
) -> None:
    old, thief = a.trust.signer, Signer.fresh()
    a.trust.rotate()
    b.trust.succeed(a.trust.successions())
    stick.put_note(old.key, to_json([hand_over(old, thief, 1)]))
    stick.put(a.export("colours"))
    found = pull(b, stick)
    (alarm,) = (o for o in found if o.state == "refused")
    assert alarm.reason == "collision" and fingerprint(thief.key) in alarm.message and "peers revoke a" in alarm.message
    assert ("colours", "taken", "") in states(found) and b.trust.peers["a"].key == a.trust.own_key
    assert [(o.reason, "this device" in o.message) for o in pull(a, stick) if o.state == "refused"] == [("collision", True)]
    share(a, stick)
    assert all(o.state != "refused" for o in pull(b, stick)), "the true chain is back in its place"


def test_the_alarm_rings_where_the_thief_was_first_too(a: EdgeDevice, b: EdgeDevice) -> None:
    old, thief = a.trust.signer, Signer.fresh()
    a.trust.rotate()
    b.trust.succeed([hand_over(old, thief, 1)])
    assert b.trust.peers["a"].key == thief.key
    with pytest.raises(BundleError) as raised:
        b.trust.succeed(a.trust.successions())
    assert raised.value.reason is Reason.COLLISION and fingerprint(a.trust.own_key) in str(raised.value)


def test_whose_own_key_got_a_successor_elsewhere_is_told(a: EdgeDevice) -> None:
    """A home that was restored from a copy made before, or a thief who was quicker."""
    with pytest.raises(BundleError, match=r"this device.*copy of this home") as raised:
        a.trust.succeed([hand_over(a.trust.signer, Signer.fresh(), 1)])
    assert raised.value.reason is Reason.COLLISION and a.trust.successions() == []


def test_a_strangers_succession_is_nobodys(a: EdgeDevice, b: EdgeDevice, stick: Folder) -> None:
    before = (b.home / peers.PEERS_FILE).read_bytes()
    one, two = Signer.fresh(), Signer.fresh()
    assert b.trust.succeed([hand_over(one, two, 1)]) == []
    stick.put_note(a.trust.own_key, to_json([hand_over(one, two, 1)]))
    stick.put_note(one.key, to_json([hand_over(one, two, 1)]))
    assert pull(b, stick) == [] and (b.home / peers.PEERS_FILE).read_bytes() == before


def test_nobody_succeeds_into_another_peers_name(a: EdgeDevice, b: EdgeDevice) -> None:
    other = Signer.fresh()
    b.trust.trust(Peer("c", other.key))
    for new in (other, b.trust.signer):
        with pytest.raises(BundleError) as raised:
            b.trust.succeed([hand_over(a.trust.signer, new, 1)])
        assert raised.value.reason is Reason.COLLISION and "is known here as" in str(raised.value)
    assert b.trust.peers["a"].former == ()


def test_who_is_revoked_stays_so_under_the_new_key(a: EdgeDevice, b: EdgeDevice) -> None:
    b.trust.revoke("a")
    a.trust.rotate()
    (line,) = b.trust.succeed(a.trust.successions())
    assert "stays so" in line and not b.trust.peers["a"].trusted
    refused(b, a.export("colours"), Reason.REVOKED)
    with pytest.raises(ConfigError, match="known as 'a'"):
        b.trust.trust(Peer("c", a.trust.own_key))


def test_trusting_again_forgets_no_former_key_and_takes_none(a: EdgeDevice, b: EdgeDevice) -> None:
    old = a.trust.own_key
    a.trust.rotate()
    b.trust.succeed(a.trust.successions())
    b.trust.trust(Peer("a", a.trust.own_key, tasks=("colours",)))
    assert b.trust.peers["a"].former == (old,)
    with pytest.raises(ConfigError, match="'a' has replaced that key"):
        b.trust.trust(Peer("c", old))
    with pytest.raises(ConfigError, match="own key"):
        a.trust.trust(Peer("me", old))


def test_a_head_made_from_a_former_keys_head_is_barred_with_its_maker(a: EdgeDevice, b: EdgeDevice) -> None:
    old = a.trust.own_key
    a.trust.rotate()
    b.trust.succeed(a.trust.successions())
    bundle = from_bytes(a.export("colours"))
    carried = b.trust.sign(replace(bundle, provenance={**bundle.provenance, "converted": {"from_signers": [old]}}))
    b.bank.put("colours", carried.to_bytes(), "convert", carried.mark)
    assert b.tasks == ("colours",) and b.trust.revoke("a") == ["colours"]
    refused(b, carried.to_bytes(), Reason.REVOKED)


def test_a_device_that_lost_its_bank_is_taken_again_after_a_new_key(
    a: EdgeDevice, b: EdgeDevice, device, stick: Folder, pictures_task
) -> None:
    for seed in (1, 2):
        a.learn("colours", pictures_task["colours"], seed=seed)
    share(a, stick)
    pull(b, stick)
    a.close()
    for file in (*a.home.glob("bank.sqlite*"), a.home / "identity.sequence"):  # all but its key
        file.unlink()
    again: EdgeDevice = device(a.home, threads=1)
    again.learn("colours", pictures_task["colours"], seed=3)
    assert "edgecl peers rotate" in refused(b, again.export("colours"), Reason.ROLLBACK)
    again.trust.rotate()
    share(again, stick)
    assert ("colours", "taken", "") in states(pull(b, stick)) and b.export("colours") == again.export("colours")


def test_an_open_device_signs_with_the_key_that_another_process_has_made(a: EdgeDevice, device, pictures_task) -> None:
    serving: EdgeDevice = device(a.home, threads=1)
    assert serving.trust.signer.key == a.trust.own_key
    new = a.trust.rotate().new
    serving.learn("shapes", pictures_task["shapes"])
    assert from_bytes(serving.export("shapes")).signer == new == serving.trust.signer.key


def test_what_a_former_key_has_signed_is_not_shared(a: EdgeDevice, b: EdgeDevice, stick: Folder) -> None:
    b.import_bundle(a.export("colours"))
    a.trust.rotate()
    a.bank.rollback("colours")
    (found,) = share(a, stick)
    assert (found.state, found.reason) == ("refused", "revoked") and "peers rotate signs it again" in found.message
    b.trust.succeed(a.trust.successions())
    (found,) = share(b, stick)
    assert found.state == "refused" and "pull it from there" in found.message
    assert a.trust.rotate().signed == ("colours",) and states(share(a, stick)) == [("colours", "shared", "")]


@pytest.mark.parametrize("what", ["rubbish", "endless", "link to a device", "folder", "cut off"])
def test_a_bad_note_on_the_stick_stops_no_head(what: str, a: EdgeDevice, b: EdgeDevice, stick: Folder) -> None:
    old = a.trust.own_key
    share(a, stick)
    place = stick.path / f"{old}.succession"
    if what == "rubbish":
        place.write_bytes(b"\x00" * 40)
    elif what == "endless":
        with place.open("wb") as file:
            file.truncate(MAX_BYTES * 1000)
    elif what == "link to a device":
        place.symlink_to("/dev/zero")
    elif what == "folder":
        place.mkdir()
    else:
        place.write_bytes(to_json([hand_over(a.trust.signer, Signer.fresh(), 1)])[:-40])
    found = pull(b, stick)
    assert [o.state for o in found] == ["refused", "taken"] and found[0].message.isprintable()
    assert b.trust.peers["a"].former == ()
    if what != "folder":
        a.trust.rotate()
        share(a, stick)
        assert all(o.state != "refused" for o in pull(b, stick)) and b.trust.peers["a"].former == (old,)


def test_a_passphrase_holds_for_the_new_key_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(signing.PASSPHRASE, "open sesame")
    store = store_in(tmp_path / "home")
    old = store.signer.key
    monkeypatch.setenv(signing.PASSPHRASE, "open barley")
    with pytest.raises(IdentityError, match=signing.PASSPHRASE):
        store_in(tmp_path / "home").rotate()
    monkeypatch.setenv(signing.PASSPHRASE, "open sesame")
    new = store.rotate().new
    assert b"ENCRYPTED" in (tmp_path / "home" / signing.KEY_FILE).read_bytes()
    monkeypatch.delenv(signing.PASSPHRASE)
    assert store.own_key == new != old and [link.new for link in store.successions()] == [new], "to look needs none"


def test_who_has_no_key_or_too_many_gets_no_new_one(tmp_path: Path) -> None:
    store = store_in(tmp_path / "home")
    with pytest.raises(IdentityError, match="no key yet"):
        store.rotate()
    _ = store.signer
    keys = [store.own_key, *(store.rotate().new for _ in range(MOST))]
    assert [link.old for link in store.successions()] == keys[:-1] and len(set(keys)) == MOST + 1
    with pytest.raises(IdentityError, match="32 times"):
        store.rotate()
    assert from_json(to_json(store.successions())) == store.successions() and store.own_key == keys[-1]


def test_a_key_file_put_together_from_two_is_not_used(tmp_path: Path) -> None:
    store = store_in(tmp_path / "home")
    _ = store.signer
    store.rotate()
    path = tmp_path / "home" / signing.KEY_FILE
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"-----BEGIN")] + Signer.fresh().to_pem())
    with pytest.raises(IdentityError, match="not the one named before it"):
        store_in(tmp_path / "home").rotate()
    path.write_bytes(whole.replace(b'"number":1', b'"number":0'))
    with pytest.raises(IdentityError, match="former keys cannot be read"):
        store.successions()


# -- power cuts


def store_in(home: Path) -> TrustStore:
    return TrustStore(home, HeadBank(home / "bank.sqlite"))


def home_with_two_heads(home: Path) -> None:
    store = store_in(home)
    for task in ("birds", "cars"):
        bundle = store.sign(replace(GOLDEN, task=task))
        store._bank.put(task, bundle.to_bytes(), "learn", bundle.mark)
    store._bank.close()


def test_a_power_cut_at_any_moment_of_it_leaves_one_key_and_all_heads(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """At every fifth system call, with --slow at all of them.

    The old key and all as it was, or the new one with its succession; the next call finishes.
    """
    home_with_two_heads(tmp_path / "first")
    old = signing.public_key(tmp_path / "first")

    def copy(name: str) -> Path:
        return Path(shutil.copytree(tmp_path / "first", tmp_path / name))

    def rotate(home: Path) -> None:
        store = store_in(home)
        store.rotate()
        store._bank.close()

    first = copy("count")
    calls = count(cut_at_call, lambda: rotate(first))
    died, kept, halfway = 0, 0, 0
    points = range(1, calls + 1, 1 if request.config.getoption("--slow") else 5)
    for k in points:
        home = copy(str(k))
        died += cut_at_call(k).strikes(lambda home=home: rotate(home))
        store = store_in(home)
        key, chain = store.own_key, store.successions()
        assert store.signer.key == key, "the private key that belongs to it is there"
        assert [link.old for link in chain] == ([] if key == old else [old])
        kept += key == old
        current = store._bank.current()
        assert set(current) == {"birds", "cars"} and store._bank.verify() == []
        bundles = [from_bytes(store._bank.get(named)) for named in current.values()]
        assert all((who := store.custody(bundle)).trusted and who.signer == "this device" for bundle in bundles)
        assert all(store.barred()(bundle) == "" for bundle in bundles)
        unfinished = (home / "identity.rotating").exists() and key != old
        halfway += unfinished
        done = store.rotate()
        assert done.resumed == unfinished and (done.old == old if unfinished else done.old == key)
        assert {from_bytes(store._bank.get(named)).signer for named in store._bank.current().values()} == {store.own_key}
        assert from_json(to_json(store.successions())), "still a chain"
        assert not [name for name in os.listdir(home) if name.startswith(".identity.pem")], "no key lies about"
        store._bank.close()
        shutil.rmtree(home)
    assert died > 100 and kept > 20 and halfway > 50


def test_processes_that_rotate_together_leave_one_line_of_keys(tmp_path: Path) -> None:
    """Each waits for the other, or goes on where that one is; whoever comes too late for a head says so."""
    home_with_two_heads(tmp_path)
    old, others = signing.public_key(tmp_path), []

    def rotate() -> None:
        store = store_in(tmp_path)
        try:
            store.rotate()
        except EdgeclError as error:
            others.append(error)
        store._bank.close()

    threads = [threading.Thread(target=rotate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = store_in(tmp_path)
    chain = store.successions()
    assert 1 <= len(chain) <= 4 and succeed(Peer("a", old), chain).key == store.own_key == store.signer.key
    assert all(isinstance(error, BankBusy) for error in others) and store._bank.verify() == []
