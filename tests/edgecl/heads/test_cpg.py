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
from edgecl.heads.base import Learned
from edgecl.heads.parts.folded import FoldedNetwork
from edgecl.heads.parts.overlays import PICKS
from edgecl.rom.base import Rom
from edgecl.rom.image import RomImage
from edgecl.rom.opening import open_rom
from edgecl.types import Task

OPTIONS = {"epochs": 1, "sockets": "last:5"}


@pytest.fixture(scope="module")
def freed(tiny_rom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from export.compact import free

    return free(RomImage.open(tiny_rom), tmp_path_factory.mktemp("freed") / "rom", 0.5).folder


@pytest.fixture(scope="module")
def compacted(freed: Path) -> Rom:
    with open_rom(freed, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def task(compacted: Rom) -> Task:
    return synthetic.pictures_task(compacted, 3, 8)


@pytest.fixture(scope="module")
def learned(compacted: Rom, task: Task) -> Learned:
    return cpg.learn(task, compacted, cpg.Config(**OPTIONS))


@pytest.mark.parametrize("check", heads.CHECKS, ids=lambda check: check.__name__)
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
    with pytest.raises(ConfigError, match="takes .* bytes"):
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


def test_a_head_goes_to_the_rom_it_was_made_for_and_no_other(learned: Learned, rom: Rom, task: Task) -> None:
    with pytest.raises(RomMismatch, match="another compacted ROM"):
        rom.require(learned.head.plugs)
    moved = dataclasses.replace(learned.head, rom_id=rom.rom_id)
    with pytest.raises(RomMismatch):
        moved.answer(rom, np.zeros((1, *[rom.preprocess.size] * 2, 3), np.uint8))


def test_a_device_learns_shares_and_rolls_back(freed: Path, tmp_path: Path, pictures_task: dict) -> None:
    """Two devices over one compacted ROM: what one learned answers bit for bit the same on the other; old tasks stay."""
    (first, folder), (second, other) = list(pictures_task.items())[:2]
    files = sorted((folder / "test").glob("*/*"))[:4]
    with EdgeDevice(tmp_path / "a", rom=freed, threads=1) as a, EdgeDevice(tmp_path / "b", rom=freed, threads=1) as b:
        a.learn(first, folder, method="cpg", sockets="last:4")
        before = [p.to_dict() for p in a.infer(files, task=first)]
        a.learn(second, other, method="cpg", sockets="last:4")
        assert [p.to_dict() for p in a.infer(files, task=first)] == before
