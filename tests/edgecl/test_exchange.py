"""Heads over a USB stick: what one device has learned another can do, and what is on the stick besides does no harm."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecl.device import EdgeDevice
from edgecl.errors import TransferError, UnknownTask
from edgecl.exchange import Outcome, pull, share
from edgecl.sharing.bundle import MAX_BYTES, MAX_SEQUENCE, digest, from_bytes
from edgecl.sharing.transport.folder import Folder
from edgecl.sharing.trust import Peer
from firmware_sim.faults import count, cut_at_byte, cut_at_call, small_disk


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    place = tmp_path / "stick"
    place.mkdir()
    return place


@pytest.fixture
def a(device: Callable[..., EdgeDevice], tmp_path: Path, pictures_task) -> EdgeDevice:
    edge = device(tmp_path / "a", threads=1)
    for task in ("colours", "shapes"):
        edge.learn(task, pictures_task[task])
    return edge


@pytest.fixture
def b(device: Callable[..., EdgeDevice], tmp_path: Path, a: EdgeDevice) -> EdgeDevice:
    """Trusts a."""
    edge = device(tmp_path / "b", threads=1)
    edge.trust.trust(Peer("a", a.trust.signer.key))
    return edge


def states(outcomes: list[Outcome]) -> list[tuple[str, str, str]]:
    return sorted((o.task, o.state, o.reason) for o in outcomes)


def bundles(stick: Path) -> list[Path]:
    return sorted((stick / "edgecl-heads").iterdir())


def test_what_a_has_learned_b_can_do(a: EdgeDevice, b: EdgeDevice, stick: Path, pictures_task) -> None:
    assert states(share(a, Folder(stick))) == [("colours", "shared", ""), ("shapes", "shared", "")]
    assert states(share(a, Folder(stick), ["shapes"])) == [("shapes", "known", "")]
    told: list[Outcome] = []
    assert states(pull(b, Folder(stick), tell=told.append)) == [("colours", "taken", ""), ("shapes", "taken", "")]
    assert len(told) == 2 and states(pull(b, Folder(stick))) == [("colours", "known", ""), ("shapes", "known", "")]
    files = sorted(pictures_task["colours"].glob("test/*/*")) + sorted(pictures_task["shapes"].glob("test/*/*"))
    assert a.infer(files) == b.infer(files)
    assert all(b.export(task) == a.export(task) for task in a.tasks)


def test_one_task_only_and_one_that_is_not_there(a: EdgeDevice, b: EdgeDevice, stick: Path) -> None:
    share(a, Folder(stick))
    with pytest.raises(UnknownTask, match=r"no 'birds'; it has colours, shapes"):
        pull(b, Folder(stick), ["birds", "shapes"])
    assert b.tasks == () and states(pull(b, Folder(stick), ["shapes"])) == [("shapes", "taken", "")]
    with pytest.raises(UnknownTask):
        share(b, Folder(stick), ["colours"])


def test_the_newest_is_taken_and_the_older_stays_where_it_is(a: EdgeDevice, b: EdgeDevice, stick: Path, pictures_task) -> None:
    share(a, Folder(stick), ["colours"])
    a.learn("colours", pictures_task["colours"], seed=1)
    share(a, Folder(stick), ["colours"])
    assert states(pull(b, Folder(stick))) == [("colours", "older", ""), ("colours", "taken", "")]
    assert b.export("colours") == a.export("colours")
    for path in bundles(stick):
        if path.name.startswith(digest(a.export("colours"))):
            path.unlink()
    held = b.export("colours")
    assert states(pull(b, Folder(stick))) == [("colours", "older", "rollback")] and b.export("colours") == held


def test_what_a_person_here_took_out_of_force_does_not_come_back_by_itself(a: EdgeDevice, b: EdgeDevice, stick: Path) -> None:
    share(a, Folder(stick), ["shapes"])
    pull(b, Folder(stick))
    b.bank.remove("shapes")
    (found,) = pull(b, Folder(stick))
    assert found.state == "known" and "rollback shapes" in found.message and b.tasks == ()
    assert states(pull(b, Folder(stick), replace=True)) == [("shapes", "taken", "")]


def test_one_stick_serves_devices_of_several_roms(a: EdgeDevice, b: EdgeDevice, stick: Path) -> None:
    """The newer head, for another ROM, does not hide the older one for this ROM, nor block its successor."""
    share(a, Folder(stick), ["shapes"])
    bundle = from_bytes(a.export("shapes"))
    other = a.trust.sign(replace(bundle, head=replace(bundle.head, rom_id="0" * 64)))
    Folder(stick).put(other.to_bytes())
    assert states(pull(b, Folder(stick))) == [("shapes", "foreign", "wrong-rom"), ("shapes", "taken", "")]
    b.bank.put("elsewhere", other.to_bytes(), "import", other.mark)
    assert states(pull(b, Folder(stick), replace=True))[1] == ("shapes", "known", "")


def test_two_trusted_devices_with_one_task_are_a_question_for_a_person(
    a: EdgeDevice, b: EdgeDevice, device, stick: Path, tmp_path: Path, pictures_task
) -> None:
    c: EdgeDevice = device(tmp_path / "c", threads=1)
    c.learn("shapes", pictures_task["shapes"])
    b.trust.trust(Peer("c", c.trust.signer.key))
    share(a, Folder(stick), ["shapes"])
    share(c, Folder(stick))
    for replace_ in (False, True):
        assert states(pull(b, Folder(stick), replace=replace_)) == [("shapes", "refused", "collision")] * 2 and b.tasks == ()
    b.trust.trust(Peer("c", c.trust.signer.key, tasks=("cars",)))
    assert states(pull(b, Folder(stick))) == [("shapes", "refused", "not-allowed"), ("shapes", "taken", "")]


def test_what_nobody_would_take_is_not_shared(a: EdgeDevice, b: EdgeDevice, stick: Path) -> None:
    b.import_bundle(a.export("colours"))
    unsigned = replace(from_bytes(a.export("shapes")), signer="", sequence=0, signature="").to_bytes()
    b.import_bundle(unsigned, unsigned=True)
    assert states(share(b, Folder(stick))) == [("colours", "shared", ""), ("shapes", "refused", "unknown-signer")]
    file = b.home / "peers.toml"
    file.write_text(file.read_text().replace("true", "false"))
    assert states(share(b, Folder(stick), ["colours"])) == [("colours", "refused", "revoked")]


def test_words_from_a_card_do_not_act_on_the_terminal(a: EdgeDevice, b: EdgeDevice, stick: Path) -> None:
    bundle = from_bytes(a.export("shapes"))
    rom = {"backbone": b.rom.image.backbone, "precision": "\x1b[2Jfp"}
    changed = replace(bundle, head=replace(bundle.head, rom_id="0" * 64), provenance={**bundle.provenance, "rom": rom})
    Folder(stick).put(a.trust.sign(changed).to_bytes())
    (found,) = pull(b, Folder(stick))
    assert found.reason == "wrong-precision" and found.message.isprintable() and "\\x1b" in found.message


def test_a_stick_of_strangers_and_rubbish_gives_what_is_sound_and_names_the_rest(
    a: EdgeDevice, b: EdgeDevice, device, stick: Path, tmp_path: Path, pictures_task
) -> None:
    share(a, Folder(stick))
    stranger: EdgeDevice = device(tmp_path / "c", threads=1)
    stranger.learn("stripes", pictures_task["stripes"])
    share(stranger, Folder(stick))
    heads, sound = stick / "edgecl-heads", a.export("colours")
    forged = replace(from_bytes(sound), sequence=MAX_SEQUENCE).to_bytes()  # would hide the true one, were it believed
    (heads / f"{digest(forged)}.bundle").write_bytes(forged)
    (heads / f"{'0' * 64}.bundle").write_bytes(sound)  # under another's name
    (heads / f"{'1' * 64}.bundle").write_bytes(b"")
    (heads / f"{'2' * 64}.bundle").symlink_to("/dev/zero")
    (heads / f"{'3' * 64}.bundle").mkdir()
    os.mkfifo(heads / f"{'4' * 64}.bundle")
    with (heads / f"{'5' * 64}.bundle").open("wb") as endless:
        endless.truncate(MAX_BYTES * 4)
    for name in ("..bundle", "../x.bundle".replace("/", "_"), "\x1b[2J.bundle", "readme.txt", f".{'6' * 64}.bundle-1f.part"):
        (heads / name).write_bytes(sound)
    found = pull(b, Folder(stick))
    assert [row for row in states(found) if row[1] != "refused"] == [("colours", "taken", ""), ("shapes", "taken", "")]
    assert sorted(o.reason for o in found if o.state == "refused") == ["", "", "", "bad-signature", "unknown-signer"]
    assert all(o.message.isprintable() for o in found) and b.tasks == ("colours", "shapes")


def test_another_devices_head_is_no_silent_successor(a: EdgeDevice, b: EdgeDevice, stick: Path, pictures_task) -> None:
    b.learn("colours", pictures_task["colours"])
    own = b.export("colours")
    share(a, Folder(stick))
    assert ("colours", "refused", "collision") in states(pull(b, Folder(stick)))
    assert b.export("colours") == own and b.tasks == ("colours", "shapes")
    assert states(pull(b, Folder(stick), ["colours"], replace=True)) == [("colours", "taken", "")]
    b.bank.rollback("colours")
    assert b.export("colours") == own


def test_a_damaged_copy_is_written_again(a: EdgeDevice, stick: Path) -> None:
    share(a, Folder(stick), ["shapes"])
    (path,) = bundles(stick)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert states(share(a, Folder(stick), ["shapes"])) == [("shapes", "shared", "")] and path.read_bytes() == whole


@pytest.mark.parametrize("place", ["nowhere", "a file"])
def test_a_place_that_is_not_there_is_no_new_folder_on_the_disk_behind_it(place: str, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(TransferError, match="is the stick mounted"):
        Folder(tmp_path / place)
    assert not (tmp_path / "nowhere").exists()


def test_a_full_stick_says_so_and_holds_nothing_half(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    with small_disk(place, 1 << 18) as how:
        if how != "tmpfs":
            pytest.skip("a small disk needs the right to mount one")
        folder = Folder(place)
        first = bytes(100_000)
        assert folder.put(first)
        with pytest.raises(TransferError, match=r"No space.*nothing half"):
            folder.put(np.random.default_rng(0).bytes(400_000))
        assert [entry.digest for entry in folder.ls()] == [digest(first)] and len(bundles(place)) == 1


@pytest.mark.parametrize("kind", ["system call", "byte"])
def test_pulled_out_at_any_moment_the_stick_has_the_bundle_or_has_it_not(kind: str, stick: Path) -> None:
    """A cut at every system call of writing, and at every twentieth of the bytes."""
    before, data = b"what was there", bytes(range(256)) * 400

    def write() -> None:
        Folder(stick).put(data)

    Folder(stick).put(before)
    if kind == "byte":
        cuts = [cut_at_byte(at) for at in range(0, len(data) + 5_000, 5_000)]
    else:
        (stick / "count").mkdir()
        calls = count(cut_at_call, lambda: Folder(stick / "count").put(data) and None)
        cuts = [cut_at_call(k) for k in range(1, calls + 1)]
    killed = 0
    for cut in cuts:
        died = cut.strikes(write)
        killed += died
        there = {entry.digest for entry in Folder(stick).ls()}
        assert digest(before) in there and there <= {digest(before), digest(data)}
        assert died or digest(data) in there, "what was reported as done is there"
        for one in there:
            Folder(stick).get(one, MAX_BYTES)
        assert Folder(stick).put(data) == (digest(data) not in there)
        names = [path.name for path in bundles(stick)]  # sharing again has taken away what was half written
        assert names == sorted(f"{digest(whole)}.bundle" for whole in (before, data))
        (stick / "edgecl-heads" / f"{digest(data)}.bundle").unlink()
    assert killed > 15


@pytest.mark.parametrize("open_already", [False, True])
def test_a_head_that_was_damaged_is_taken_from_the_stick_again(
    a: EdgeDevice, b: EdgeDevice, stick: Path, device: Callable[..., EdgeDevice], open_already: bool
) -> None:
    share(a, Folder(stick))
    pull(b, Folder(stick))
    with closing(sqlite3.connect(b.bank.path)) as db, db:
        sql = "UPDATE bundles SET data = zeroblob(length(data)) WHERE digest = ?"
        assert db.execute(sql, (b.bank.current()["colours"],)).rowcount == 1
    if not open_already:
        b.close()
        b = device(b.home, threads=1)
        assert b.tasks == ("shapes",)
    assert states(pull(b, Folder(stick))) == [("colours", "taken", ""), ("shapes", "known", "")]
    assert b.export("colours") == a.export("colours") and b.tasks == ("colours", "shapes") and not b.verify()


def test_a_device_that_has_lost_its_bank_gets_its_own_heads_back_from_a_stick(
    a: EdgeDevice, stick: Path, device: Callable[..., EdgeDevice], pictures_task
) -> None:
    share(a, Folder(stick))
    highest = max(from_bytes(a.export(task)).sequence for task in a.tasks)
    a.close()
    for path in a.home.glob("bank.sqlite*"):
        path.unlink()
    again = device(a.home, threads=1)
    assert states(pull(again, Folder(stick))) == [("colours", "taken", ""), ("shapes", "taken", "")]
    again.learn("colours", pictures_task["colours"], seed=1)
    assert from_bytes(again.export("colours")).sequence > highest
