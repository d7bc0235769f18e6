"""Hostile devices against a real one: each attack is refused in its word, and leaves the device as it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecl.device import EdgeDevice
from edgecl.errors import UnknownName
from edgecl.rom.base import Rom
from edgecl.sharing.bundle import digest, from_bytes
from edgecl.sharing.succession import hand_over
from edgecl.sharing.trust import Peer
from firmware_sim.agents import seeded_signer
from firmware_sim.foes.attacks import ATTACKS, Outcome, possible, run
from firmware_sim.foes.foe import REVOKED, STRANGER, TRUSTED, Far, Foe, introduce, standing, wired
from firmware_sim.foes.forgery import POISONS, own_bundle, poisoned_bundle, signed
from firmware_sim.invariants import invariants

FOE = seeded_signer("foe")
ROBBED, HEIR = seeded_signer("robbed"), seeded_signer("heir")


@pytest.fixture(scope="module")
def loot(rom: Rom, tmp_path_factory: pytest.TempPathFactory, pictures_task) -> dict[str, bytes]:
    """Heads of an honest author, by task."""
    with EdgeDevice(tmp_path_factory.mktemp("author"), rom=rom, cache=tmp_path_factory.mktemp("cache")) as author:
        for task in ("colours", "shapes", "stripes"):
            author.learn(task, pictures_task[task])
        return {task: author.export(task) for task in author.tasks}


@pytest.fixture
def victim(rom: Rom, tmp_path: Path, loot: dict[str, bytes]) -> Iterator[EdgeDevice]:
    """Knows three tasks of an author whom it trusts, and a device that was robbed and has a new key since."""
    with EdgeDevice(tmp_path / "victim", rom=rom) as device:
        device.trust.trust(Peer("author", from_bytes(loot["colours"]).signer))
        device.trust.trust(Peer("robbed", ROBBED.key))
        device.trust.succeed([hand_over(ROBBED, HEIR, 1)])
        assert all(one.error is None for one in device.import_bundles(list(loot.values())))
        yield device


@pytest.fixture
def foe(loot: dict[str, bytes]) -> Foe:
    return Foe("foe", FOE, tuple(loot.values()), ROBBED)


def test_a_trusted_foe_is_refused_in_the_words_of_each_attack(foe: Foe, victim: EdgeDevice) -> None:
    introduce(victim, "foe", FOE.key, TRUSTED)
    kinds = possible(foe, victim)
    assert set(ATTACKS) - {*kinds} == {"not-allowed"}
    for kind in sorted(kinds, key=lambda kind: ATTACKS[kind].leaves):  # what leaves something behind comes last
        found, attack = run(kind, foe, victim, 1), ATTACKS[kind]
        said = {*found.refused.split(",")} - {""}
        assert (found.changed, found.problems) == (False, ()), kind
        assert said <= attack.refused if attack.leaves else said == attack.refused, f"{kind}: {said}"
        assert found.taken == () or attack.leaves, f"{kind}: what is taken of a trusted foe is said to be its right"
        assert found.bytes_sent > 0, kind


def test_a_foe_that_may_send_some_tasks_sends_no_others(foe: Foe, victim: EdgeDevice) -> None:
    introduce(victim, "foe", FOE.key, TRUSTED, tasks=("foe own*",))
    found = run("not-allowed", foe, victim, 1)
    assert (found.refused, found.taken, found.changed) == ("not-allowed", (), False)


@pytest.mark.parametrize("as_", [STRANGER, REVOKED])
def test_who_is_not_trusted_is_told_only_that(as_: str, foe: Foe, victim: EdgeDevice) -> None:
    """Or that what it said is no message; only keys that the victim knows are spoken of."""
    introduce(victim, "foe", FOE.key, as_)
    general = {"unknown-signer" if as_ == STRANGER else "revoked", "ProtocolError", "PeerRefused", "busy"}
    swarm = {"unknown-signer"}
    more = {"stolen-key": {"revoked"}, "second-successor": {"collision"} | swarm, "usurper": {"bad-signature"} | swarm}
    for kind in possible(foe, victim):
        found = run(kind, foe, victim, 2)
        assert (found.standing, found.taken, found.changed, found.problems) == (as_, (), False, ()), kind
        said = {*found.refused.split(",")}
        assert said <= general | more.get(kind, swarm if kind == "sybil" else set()), f"{kind}: {said}"


def test_the_same_seed_is_the_same_attack(foe: Foe, victim: EdgeDevice) -> None:
    """Sent bytes and answers, at one device and at another in the same state."""
    introduce(victim, "foe", FOE.key, TRUSTED)
    quiet = [kind for kind in possible(foe, victim) if not ATTACKS[kind].leaves]

    def all_of(seed: int) -> list[Outcome]:
        return [run(kind, foe, victim, seed) for kind in quiet]

    assert all_of(3) == all_of(3)


def test_an_attack_that_succeeds_is_seen(foe: Foe, victim: EdgeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """A victim that checks no signature takes what it must not, and `run` and the invariants say so."""
    introduce(victim, "foe", FOE.key, TRUSTED)
    made = {task: [named] for task, named in victim.bank.current().items()}
    trusted = {victim.trust.own_key, FOE.key, ROBBED.key, *(from_bytes(data).signer for data in foe.loot)}
    assert invariants(victim, made, trusted) == []
    monkeypatch.setattr("edgecl.importing.require_sound", lambda bundle: None)
    monkeypatch.setattr("edgecl.sharing.trust._of_time", lambda offer, here, older: None)
    monkeypatch.setattr("edgecl.collisions.check", lambda there, new, *rest: {name: {} for name in new})
    found = run("mix-and-match", foe, victim, 4)
    assert found.changed and any("was changed" in problem for problem in found.problems)
    assert any("none of its authors has made" in problem for problem in invariants(victim, made, trusted))


def test_an_unknown_attack_is_named(foe: Foe, victim: EdgeDevice) -> None:
    with pytest.raises(UnknownName, match="did you mean 'rollback'"):
        run("rolback", foe, victim, 0)


def test_what_a_foe_cannot_do_is_not_among_what_is_possible(foe: Foe, victim: EdgeDevice) -> None:
    assert "not-allowed" in possible(foe, victim), "a stranger may try"
    introduce(victim, "foe", FOE.key, TRUSTED)
    assert "not-allowed" not in possible(foe, victim)
    assert {"stolen-key", "second-successor"}.isdisjoint(possible(dataclasses.replace(foe, stolen=None), victim))


# -- validly signed, and wrong


def test_a_head_of_nothing_is_sound_and_harms_nobody(foe: Foe, victim: EdgeDevice, pictures_task) -> None:
    """Else what is refused above might be refused for another reason."""
    introduce(victim, "foe", FOE.key, TRUSTED)
    files = sorted(pictures_task["colours"].glob("test/*/*"))
    before = victim.infer(files)
    far = Far(victim, wired(victim))
    for seed in (1, 2):
        data = signed(own_bundle(from_bytes(foe.loot[0]), f"own {seed}", seed), FOE)
        far.line(FOE.key).push(data)
        assert victim.export(f"own {seed}") == data
    assert far.told == [] and [a.label for a in victim.infer(files)] == [a.label for a in before]


@pytest.mark.parametrize("how", sorted({*POISONS} - {"blinding"}))
def test_what_a_poisoned_head_does_and_how_it_ends(
    how: str, foe: Foe, victim: EdgeDevice, rom: Rom, tmp_path: Path, pictures_task, loot
) -> None:
    """Where the author's head has its place, each is refused. Where the foe comes first, its head keeps the author's
    out, until the foe is revoked."""
    introduce(victim, "foe", FOE.key, TRUSTED)
    poison, author = poisoned_bundle(loot["colours"], FOE, 1, how), from_bytes(loot["colours"]).signer
    far = Far(victim, wired(victim))
    far.line(FOE.key).push(poison)
    assert far.told == ["collision"] and digest(poison) not in victim.bank.current().values()
    with EdgeDevice(tmp_path / "late", rom=rom) as late:
        introduce(late, "foe", FOE.key, TRUSTED)
        introduce(late, "author", author, TRUSTED)
        far = Far(late, wired(late))
        far.line(FOE.key).push(poison)
        assert far.told == [] and list(late.bank.current().values()) == [digest(poison)]
        answers = late.infer(sorted(pictures_task["colours"].glob("test/*/*")))
        right = sum(a.nearest_label == a.source.split("/")[-2] for a in answers)
        assert (right < 0.7 * len(answers)) == (how in ("swapped-classes", "random-weights"))
        far.line(author).push(loot["colours"])
        assert far.told == ["collision"]
        assert late.trust.revoke("foe") == [from_bytes(poison).task]
        far.line(author).push(loot["colours"])
        assert far.told == ["collision"] and late.export("colours") == loot["colours"]


# -- invariants


def test_invariants_see_a_foreign_head_and_who_was_revoked(foe: Foe, victim: EdgeDevice, loot) -> None:
    made = {task: [digest(data)] for task, data in loot.items()}
    author = from_bytes(loot["colours"]).signer
    trusted = {victim.trust.own_key, ROBBED.key, author}
    assert invariants(victim, made, trusted) == []
    assert len(invariants(victim, made, trusted - {author})) == len(loot) + 1
    foreign = signed(own_bundle(from_bytes(loot["colours"]), "foreign", 1), FOE)
    victim.bank.put("foreign", foreign, "import")
    victim.bank.remove("foreign")
    words = invariants(victim, made, trusted)
    assert any("never trusted" in line for line in words) and any("none of its authors" in line for line in words)
    victim.bank.gc(keep=0)
    assert invariants(victim, made, trusted) == []
    victim.trust.revoke("author")
    assert invariants(victim, made, trusted) == [] and victim.tasks == ()
    victim.trust.trust(Peer("author", author))
    assert invariants(victim, made, trusted) == ["'author' is trusted again"]
    victim.trust.trust(Peer("foe", FOE.key))
    assert "'foe' is trusted, whom nobody has introduced" in invariants(victim, made, trusted)


def test_invariants_see_damage_unless_it_is_known(victim: EdgeDevice, loot) -> None:
    made = {task: [digest(data)] for task, data in loot.items()}
    trusted = {victim.trust.own_key, ROBBED.key, from_bytes(loot["colours"]).signer}
    victim.bank._all("UPDATE bundles SET data = zeroblob(length(data)) WHERE digest = ?", made["shapes"][0])
    assert any("differs from its digest" in line for line in invariants(victim, made, trusted))
    assert invariants(victim, made, trusted, sound=False) == []


def test_a_key_of_the_same_words_is_the_same(victim: EdgeDevice) -> None:
    assert seeded_signer("a", 1).key == seeded_signer("a", 1).key != seeded_signer("a", 2).key != seeded_signer("a2").key
    assert standing(victim, ROBBED.key) == "replaced" and standing(victim, HEIR.key) == TRUSTED
