"""CPG over the ROM: picks alone on a plain ROM, own weights where places are free, within the head's size."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgecl.errors import ConfigError, RomMismatch
from edgecl.heads import cpg

pytest.importorskip("torch", reason="picks learn in PyTorch; pip install 'edgecl[learn]'")

from edgecl import EdgeDevice
from edgecl.checks import heads, synthetic
from edgecl.heads.base import Learned, Session
from edgecl.heads.parts import plugged
from edgecl.heads.parts.compaction import LEVELS
from edgecl.heads.parts.folded import FoldedNetwork
from edgecl.heads.parts.overlays import PICKS
from edgecl.pictures.decode import decode
from edgecl.rom.base import Rom
from edgecl.rom.opening import open_rom
from edgecl.sharing.trust import Peer
from edgecl.types import Task

OPTIONS = {"epochs": 1, "sockets": "last:5"}


@pytest.fixture(scope="module")
def compacted(tiny_freed: Path) -> Rom:
    with open_rom(tiny_freed, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def task(compacted: Rom) -> Task:
    return synthetic.pictures_task(compacted, 3, 8)


@pytest.fixture(scope="module")
def learned(compacted: Rom, task: Task) -> Learned:
    return cpg.learn(task, compacted, cpg.Config(**OPTIONS))


QUICK = (heads.check_survives_bytes, heads.check_refuses_arrays_that_do_not_fit)


@pytest.mark.parametrize(
    "check",
    [check if check in QUICK else pytest.param(check, marks=pytest.mark.slow) for check in heads.CHECKS + heads.ACCURATE],
    ids=lambda check: check.__name__,
)
def test_a_head_with_own_weights_has_every_manner_of_a_head(compacted: Rom, check: heads.Check) -> None:
    check(cpg, compacted, OPTIONS)


def test_on_a_plain_rom_it_only_picks(rom: Rom) -> None:
    plain = cpg.learn(synthetic.pictures_task(rom, 3, 8), rom, cpg.Config(epochs=3, sockets="last:5"))
    plugs = plain.head.plugs
    assert not plugs.own and plugs.gain.keys() == plugs.shift.keys() == {s.name for s in rom.image.sockets[-5:]}
    assert "own" not in plain.head.arrays


def test_own_weights_lie_in_free_places_alone(compacted: Rom, learned: Learned) -> None:
    plugs, free = learned.head.plugs, compacted.image.free
    assert sum(v.size for v in plugs.own.values()) > 0
    for name, values in plugs.own.items():
        assert values.size == int((free[name] & plugs.used[name]).sum()), "as many own weights as used free places"
    compacted.require(plugs)


def test_the_head_keeps_its_size_and_gives_back_the_smallest(compacted: Rom, task: Task, learned: Learned) -> None:
    sizes = []
    for size in (learned.head.nbytes - 1_000, learned.head.nbytes - 4_000):
        head = cpg.learn(task, compacted, cpg.Config(**OPTIONS, size=size)).head
        sizes.append(sum(v.size for v in head.plugs.own.values()))
        assert head.nbytes <= size
    assert sizes[0] > sizes[1] > 0
    with pytest.raises(ConfigError, match="Allow more"):
        cpg.learn(task, compacted, cpg.Config(**OPTIONS, size=1_000))


def test_what_is_learned_becomes_plugs_and_back(compacted: Rom, learned: Learned) -> None:
    """Through plugs into a fresh network: the same plugs come out, up to the rounding of the norms' scales."""
    plugs = learned.head.plugs
    network = FoldedNetwork(compacted.image, dict.fromkeys(plugs.gain, PICKS))
    network.set(plugs)
    again = network.plugs()
    assert again.used.keys() >= plugs.used.keys()
    assert all(np.array_equal(again.used[n], bits) for n, bits in plugs.used.items() if n not in plugs.own)
    for name, values in plugs.own.items():
        found = np.zeros(plugs.used[name].shape)
        found[compacted.image.free[name] & again.used[name]] = again.own[name]
        kept = found[compacted.image.free[name] & plugs.used[name]]
        np.testing.assert_allclose(kept, values, rtol=1e-4, atol=1e-7)  # a step of int8 may be 0, which is no own weight
    for name, values in plugs.gain.items():
        assert np.array_equal(again.gain[name], values)


def test_thinning_keeps_the_largest_of_each_layer(compacted: Rom) -> None:
    import torch

    name = compacted.image.sockets[-1].name
    network = FoldedNetwork(compacted.image, {name: PICKS})
    conv, places = network.convs[name], int(compacted.image.free[name].sum())
    with torch.no_grad():
        conv.own.copy_(torch.randn(conv.own.shape, generator=torch.Generator().manual_seed(0)))
    before = np.sort(np.abs(network.plugs().own[name] * 1))
    network.thin(0.25)
    after = network.plugs().own[name]
    assert len(before) == places and len(after) == round(0.25 * places)
    weight = conv.own.detach() * conv.room  # in the folded network's units, in which they were compared
    assert int((weight != 0).sum()) == len(after)


def test_a_goal_gives_the_smallest_head_that_meets_it(compacted: Rom, task: Task, learned: Learned) -> None:
    easy = cpg.learn(task, compacted, cpg.Config(epochs=1, goal=0.34))
    assert list(easy.report["goal"]["tried"]) == ["last:5"] and easy.report["goal"]["met"]
    assert easy.report["own"]["level"] == LEVELS[-1], "what no picture needs is given back"
    assert easy.head.nbytes < learned.head.nbytes


def test_a_goal_out_of_reach_is_grown_towards_and_missed_aloud(rom: Rom) -> None:
    """Pictures that say nothing: labels are drawn, so no head is right for all that are held out."""
    task = synthetic.pictures_task(rom, 3, 10)
    noise = dataclasses.replace(task, labels=np.random.default_rng(0).permutation(task.labels))
    said: list[str] = []
    missed = cpg.learn(noise, rom, cpg.Config(epochs=1, goal=1.0), None, Session(say=said.append))
    goal, count = missed.report["goal"], len(rom.image.sockets)
    assert not goal["met"] and next(iter(goal["tried"])) == "last:5" and list(goal["tried"])[-1] == f"last:{count}"
    assert missed.report["validation_accuracy"] == max(goal["tried"].values())
    assert any("is missed" in line for line in said)


class Cut(BaseException):
    """The power goes."""


@pytest.mark.parametrize("goal", [0.0, 0.34])
def test_after_a_power_cut_it_learns_the_same_to_the_last_bit(compacted: Rom, task: Task, tmp_path: Path, goal: float) -> None:
    """Cut in the short epochs: which weights were given back is in no state, and must come out the same again."""
    room = plugged.smallest(len(task.classes), compacted, dict.fromkeys([s.name for s in compacted.image.sockets[-5:]], PICKS))
    config = cpg.Config(**OPTIONS, goal=goal, size=room + 3_000)
    seen: list[int] = []
    whole = cpg.learn(task, compacted, config, None, Session(progress=lambda stage, done, total: seen.append(done)))
    assert 0 < sum(values.size for values in whole.head.plugs.own.values()) <= 3_000, "some own weights are given back, not all"

    def progress(stage: str, done: int, total: int) -> None:
        if done >= seen[-1] - 4:
            raise Cut

    place = tmp_path / "state"
    with pytest.raises(Cut):
        cpg.learn(task, compacted, config, None, Session(checkpoint=place, progress=progress))
    said: list[str] = []
    again = cpg.learn(task, compacted, config, None, Session(checkpoint=place, resume=True, say=said.append))
    assert any("going on from the state on disk" in line for line in said)
    assert set(again.head.arrays) == set(whole.head.arrays)
    assert all(np.array_equal(again.head.arrays[name], whole.head.arrays[name]) for name in whole.head.arrays)


def test_no_time_is_said_before_the_work(compacted: Rom, task: Task) -> None:
    for goal in (0.0, 0.9):
        with pytest.raises(ConfigError, match="the budget has"):
            cpg.learn(task, compacted, cpg.Config(goal=goal), None, Session(budget=0.1))


def test_what_is_out_of_range_is_refused() -> None:
    for wrong in ({"goal": 1.5}, {"goal": -0.1}, {"size": 0}, {"recipe": "paper"}, {"sockets": "some"}, {"epochs": -1}):
        with pytest.raises(ConfigError):
            cpg.Config(**wrong)


def test_a_head_goes_to_the_rom_it_was_made_for_and_no_other(learned: Learned, rom: Rom, task: Task) -> None:
    with pytest.raises(RomMismatch, match="another compacted ROM"):
        rom.require(learned.head.plugs)
    moved = dataclasses.replace(learned.head, rom_id=rom.rom_id)
    with pytest.raises(RomMismatch):
        moved.answer(rom, np.zeros((1, *[rom.preprocess.size] * 2, 3), np.uint8))


def test_a_device_learns_shares_and_rolls_back(tiny_freed: Path, tiny_rom: Path, tmp_path: Path, pictures_task: dict) -> None:
    """What one device learned answers the same to the last bit on another; old answers stay, and come back after a rollback.

    A device with the uncompacted ROM, whose convolutions have the same shapes, refuses it and is left as it was.
    """
    (first, folder), (second, other) = list(pictures_task.items())[:2]
    with EdgeDevice(tmp_path / "a", rom=tiny_freed, threads=1) as a, EdgeDevice(tmp_path / "b", rom=tiny_freed, threads=1) as b:
        pixels = [decode(path, a.rom.preprocess) for path in sorted((folder / "test").glob("*/*"))[:4]]

        def scores(edge: EdgeDevice) -> list[float]:
            return edge.head(first).answer(edge.rom, pixels).ravel().tolist()

        a.learn(first, folder, method="cpg", sockets="last:4")
        before = scores(a)
        a.learn(second, other, method="cpg", sockets="last:4")
        assert scores(a) == before
        b.trust.trust(Peer("a", a.trust.signer.key))
        b.import_bundle(a.export(first))
        assert scores(b) == before
        with EdgeDevice(tmp_path / "c", rom=tiny_rom, threads=1) as c:
            c.trust.trust(Peer("a", a.trust.signer.key))
            with pytest.raises(RomMismatch):
                c.import_bundle(a.export(first))
            assert not c.bank.current() and not c.mapper.tasks
        assert not a.bank.verify() and not b.bank.verify()
        a.learn(first, folder, method="cpg", sockets="last:4", seed=1)
        assert scores(a) != before
        a.bank.rollback(first)
        assert scores(a) == before
