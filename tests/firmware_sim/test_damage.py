"""A sector of the bank goes bad: what is damaged neither answers nor leaves, and comes back from a peer."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecl.device import EdgeDevice
from edgecl.errors import BankError, EdgeclError
from edgecl.peering import Station, fetch, give, inbox
from edgecl.sharing.peer import Responder
from edgecl.sharing.transport.wired import Wired
from edgecl.sharing.trust import Peer
from firmware_sim.damage import Damage, corrupt_sector, look, rebuild
from firmware_sim.flash import BANK


def wire(far: EdgeDevice, near: EdgeDevice) -> Wired:
    return Wired(Responder(Station(far), inbox(far), near.trust.signer.key), far.trust.signer.key)


@pytest.fixture
def pair(rom: Any, tmp_path: Path, pictures_task: Any) -> Iterator[tuple[EdgeDevice, Path]]:
    """A device, and the home of another; each has learned a task and given it to the other."""
    with EdgeDevice(tmp_path / "a", rom=rom, feature_cache_mb=0) as a:
        with EdgeDevice(tmp_path / "b", rom=rom, feature_cache_mb=0) as b:
            a.trust.trust(Peer("b", b.trust.signer.key))
            b.trust.trust(Peer("a", a.trust.signer.key))
            for edge, tasks in ((a, ("colours", "shapes")), (b, ("stripes",))):
                for task in tasks:
                    edge.learn(task, pictures_task[task])
            give(a, wire(b, a))
            give(b, wire(a, b))
        yield a, tmp_path / "b"


def test_whatever_sector_goes_bad_nothing_false_answers_or_leaves_and_all_of_it_heals(
    pair: tuple[EdgeDevice, Path], rom: Any, tmp_path: Path
) -> None:
    peer, origin = pair
    pixels = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3), np.uint8)
    right = {task: peer.answer(pixels, task) for task in peer.tasks}
    bytes_ = {task: peer.export(task) for task in peer.tasks}
    seen: Counter[Damage] = Counter()
    for seed in range(48):
        home = Path(shutil.copytree(origin, tmp_path / f"home-{seed}"))
        what = corrupt_sector(home, random.Random(seed))
        damage = look(home)
        seen[damage] += 1
        try:
            with EdgeDevice(home, rom=rom) as device:
                for task in device.tasks:
                    assert device.answer(pixels, task) == right[task], what
                for offer in Station(device).offers():
                    assert device.bank.get(offer.digest) == bytes_[offer.task], what
                assert damage is not Damage.NONE or (device.tasks == peer.tasks), what
                assert damage is Damage.NONE or device.verify(), what
        except EdgeclError:
            assert damage is Damage.BANK, what
        left = rebuild(home) if damage is Damage.BANK else []
        assert set(left) <= set(bytes_.values())
        with EdgeDevice(home, rom=rom) as device:
            if left:
                assert all(found.error is None for found in device.import_bundles(left)), what
            fetch(device, wire(peer, device))
            assert {task: device.export(task) for task in device.tasks} == bytes_, what
            assert {o.state for o in fetch(device, wire(peer, device))} == {"known"}
        assert look(home) is Damage.NONE, what
        shutil.rmtree(home)
    assert set(seen) == set(Damage), seen


def test_the_same_seed_damages_the_same_bytes(pair: tuple[EdgeDevice, Path], tmp_path: Path) -> None:
    _, origin = pair
    found = []
    for name in ("one", "two"):
        home = Path(shutil.copytree(origin, tmp_path / name))
        found.append((corrupt_sector(home, random.Random(4), 512), (home / BANK).read_bytes()))
    assert found[0] == found[1] and found[0][1] != (origin / BANK).read_bytes() and found[0][0].size == 512


def test_what_a_device_learns_after_a_rebuild_is_no_rollback_to_its_peers(
    pair: tuple[EdgeDevice, Path], rom: Any, pictures_task: Any
) -> None:
    """Once its own heads have come back, here from the peer alone: nothing could be read any more."""
    peer, home = pair
    (home / BANK).write_bytes(bytes(8192))
    assert look(home) is Damage.BANK and rebuild(home) == [] and not (home / BANK).exists()
    with EdgeDevice(home, rom=rom, feature_cache_mb=0) as device:
        fetch(device, wire(peer, device))
        device.learn("stripes", pictures_task["stripes"], seed=5)
        outcomes = give(device, wire(peer, device))
        assert {(o.task, o.state) for o in outcomes} == {("colours", "known"), ("shapes", "known"), ("stripes", "shared")}
        assert peer.export("stripes") == device.export("stripes")


def test_where_there_is_no_bank_no_sector_goes_bad(tmp_path: Path) -> None:
    with pytest.raises(BankError, match="learn something first"):
        corrupt_sector(tmp_path, random.Random(0))
