"""Heads with weights of their own: what they compute, where they may, and that the ROM stays what it is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the tiny ROM is compacted in PyTorch; pip install 'edgecl[learn]'")
pytest.importorskip("onnxruntime", reason="the runtime under test; pip install 'edgecl[cpu]'")

from safetensors.numpy import load, save

from edgecl.errors import RomError, RomMismatch, RomTampered
from edgecl.rom import image as rom_image
from edgecl.rom.baking import bake
from edgecl.rom.base import Rom
from edgecl.rom.image import FREE, GRAPH, MANIFEST, WEIGHTS, RomImage
from edgecl.rom.opening import open_rom
from edgecl.rom.overlay import effective
from edgecl.rom.preprocess import normalise
from edgecl.rom.sockets import Plugs


@pytest.fixture(scope="module")
def freed(tiny_rom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny ROM with every third weight of its last five convolutions declared free: zero, whatever that does to it."""
    plain = RomImage.open(tiny_rom)
    model_weights = load(plain.read(WEIGHTS))
    free = {}
    for socket in plain.sockets[-5:]:
        weight = model_weights[f"{socket.name}.weight"]
        places = np.arange(weight.size).reshape(weight.shape) % 3 == 0
        weight[places], free[socket.name] = 0, places
    from export.compact import Compacted, written

    return written(tmp_path_factory.mktemp("freed") / "rom", plain, Compacted(model_weights, free), {}, {}).folder


@pytest.fixture(scope="module")
def roms(freed: Path) -> tuple[Rom, Rom]:
    with open_rom(freed, threads=1) as deployed, open_rom(freed, "pytorch", threads=1) as reference:
        yield deployed, reference


def overlay(image: RomImage, seed: int) -> Plugs:
    """Picks, own weights, gains and shifts everywhere in the last six convolutions; the first of them has nothing free."""
    rng = np.random.default_rng(seed)
    some = image.sockets[-6:]
    used = {s.name: rng.random(image.free[s.name].shape) < 0.9 for s in some}
    own = {name: rng.normal(0, 0.1, int((image.free[name] & bits).sum())).astype(np.float32) for name, bits in used.items()}
    small = [{s.name: rng.normal(0, 0.1, s.channels).astype(np.float32) for s in some} for _ in range(2)]
    return Plugs(shift=small[0], gain=small[1], used=used, own={name: v for name, v in own.items() if v.size})


def pictures(rom: Rom, n: int = 3) -> np.ndarray:
    s = rom.preprocess.size
    return np.random.default_rng(0).integers(0, 256, (n, s, s, 3), dtype=np.uint8)


def test_effective_weights_place_by_place() -> None:
    """Used kept weights as they are, own ones scaled as the norm does, the rest nothing, and all times one plus the gain."""
    weight = np.array([2.0, 0.0, 3.0, 0.0]).reshape(2, 2, 1, 1)
    free = weight == 0
    used = np.array([True, True, False, False]).reshape(weight.shape)
    plugs = Plugs(gain={"c": np.array([0.5, 0.0], np.float32)}, used={"c": used}, own={"c": np.array([7], np.float32)})
    found = effective(weight, free, plugs, "c", np.array([10.0, 20.0]))
    assert found.ravel().tolist() == [2 * 1.5, 7 * 10 * 1.5, 0, 0]
    assert effective(weight, free, plugs, "c").ravel().tolist() == [3, 10.5, 0, 0]
    assert weight.ravel().tolist() == [2, 0, 3, 0], "the ROM's own weights are written to"


def test_every_runtime_means_the_same_and_the_session_is_the_baked_one_bit_for_bit(roms: tuple[Rom, Rom]) -> None:
    import onnxruntime as ort

    deployed, reference = roms
    batch, plugs = pictures(deployed), overlay(deployed.image, 1)
    found = deployed.features(batch, plugs)
    assert np.abs(found - reference.features(batch, plugs)).max() < 1e-4 * np.abs(found).max()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(bake(deployed.image, plugs), options, providers=["CPUExecutionProvider"])
    baked = session.run(None, {session.get_inputs()[0].name: normalise(batch, deployed.preprocess)})[0]
    assert np.array_equal(found, baked)


def test_old_answers_stay_bit_for_bit_and_two_heads_fill_the_same_places(roms: tuple[Rom, Rom]) -> None:
    for rom in roms:
        batch = pictures(rom)
        heads = [overlay(rom.image, seed) for seed in range(3)]
        before = [rom.features(batch, plugs) for plugs in (None, *heads)]
        again = [rom.features(batch, plugs) for plugs in (*heads[::-1], None)][::-1]
        assert all(np.array_equal(a, b) for a, b in zip(before, again, strict=True))
        assert len({x.tobytes() for x in before}) == 4, "heads that differ answer differently"
        mixed = rom.features(batch, [heads[0], None, heads[1]])
        alone = [rom.features(batch[i : i + 1], p) for i, p in enumerate((heads[0], None, heads[1]))]
        assert np.abs(mixed - np.concatenate(alone)).max() < 1e-4 * np.abs(mixed).max()


def test_neutral_weights_are_the_plain_rom(roms: tuple[Rom, Rom]) -> None:
    for rom in roms:
        name = rom.image.sockets[-1].name
        kept = ~rom.image.free[name]
        plugs = Plugs(gain={name: np.zeros(len(kept), np.float32)}, used={name: kept})
        assert np.array_equal(rom.features(pictures(rom), plugs), rom.features(pictures(rom)))


def test_what_does_not_fit_is_refused(roms: tuple[Rom, Rom], tiny_rom: Path) -> None:
    rom = roms[0]
    plugs, name = overlay(rom.image, 1), rom.image.sockets[-1].name
    ones = np.ones(rom.image.free[name].shape, np.bool_)
    kernel = np.zeros((len(ones), 3, 3), np.float32)
    for bad, said in (
        (Plugs(used={"no such": ones}), "does not have"),
        (Plugs(used={name: ones[:, :1]}), "picks from weights|free places"),
        (Plugs(used={name: ones.astype(np.uint8)}), "not bool"),
        (Plugs(used={name: ones}), "has 0 weights for them"),
        (Plugs(own={name: np.ones(3, np.float32)}), "uses 0 free places"),
        (dataclasses.replace(plugs, own={**plugs.own, name: plugs.own[name][:-1]}), "another compacted ROM"),
        (Plugs(gain={name: np.zeros(len(ones), np.float32)}, kernel={name: kernel}), "one of them"),
    ):
        with pytest.raises(RomMismatch, match=said):
            rom.features(pictures(rom, 1), bad)
    with pytest.raises(RomError, match="out of range"):
        rom.features(pictures(rom, 1), dataclasses.replace(plugs, own={**plugs.own, name: plugs.own[name] * np.nan}))
    with open_rom(tiny_rom, threads=1) as other, pytest.raises(RomMismatch, match="another compacted ROM"):
        other.features(pictures(other, 1), plugs)


def test_the_image_declares_its_free_places_and_older_readers_are_told_to_update(freed: Path, tiny_rom: Path) -> None:
    image, manifest = RomImage.open(freed), json.loads((freed / MANIFEST).read_text())
    image.verify()
    assert manifest["format"] == 3 and json.loads((tiny_rom / MANIFEST).read_text())["format"] == 2
    assert not any(places.any() for places in RomImage.open(tiny_rom).free.values())
    last = image.sockets[-1].name
    expected = np.arange(image.free[last].size) % 3 == 0
    assert np.array_equal(image.free[last].ravel(), expected)


def _copied(freed: Path, to: Path, packed: dict[str, np.ndarray], digest: str | None = None) -> RomImage:
    """The image with other free places, all digests of files made right."""
    image = RomImage.open(freed)
    free = {name: np.unpackbits(bits, count=image.free[name].size).astype(np.bool_) for name, bits in packed.items()}
    rom_image.write(
        to,
        backbone=image.backbone,
        features=image.features,
        preprocess=image.preprocess,
        precision=image.precision,
        graph=image.read(GRAPH),
        weights=load(image.read(WEIGHTS)),
        parity={},
        made_with={},
        sockets=image.sockets,
        free={name: places.reshape(image.free[name].shape) for name, places in free.items()},
    )
    return RomImage.open(to)


def test_places_that_the_rom_uses_cannot_be_declared_free(freed: Path, tmp_path: Path) -> None:
    packed = dict(load((freed / FREE).read_bytes()))
    name = next(iter(packed))
    image = _copied(freed, tmp_path / "rom", {**packed, name: packed[name] | 0xFF})
    assert image.rom_id != RomImage.open(freed).rom_id, "what is free is part of a ROM's identity"
    with pytest.raises(RomTampered, match="other places free"):
        image.verify()


@pytest.mark.parametrize("name", [FREE, WEIGHTS])
def test_a_file_that_is_no_arrays_is_tampering(freed: Path, tmp_path: Path, name: str) -> None:
    """With its digest put right."""
    import hashlib
    import shutil

    folder = tmp_path / "rom"
    shutil.copytree(freed, folder)
    (folder / name).write_bytes(b"none")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(b"none").hexdigest(), "bytes": 4}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    image = RomImage.open(folder)
    with pytest.raises(RomTampered, match="no file of arrays"):
        _ = image.free
    with pytest.raises(RomTampered, match="no file of arrays"):
        image.verify()


def test_a_free_map_that_is_not_the_ones_own_is_tampering(freed: Path, tmp_path: Path) -> None:
    """A smaller map with its file's digest put right: the manifest's own digest of the places still gives it away."""
    import hashlib
    import shutil

    folder = tmp_path / "rom"
    shutil.copytree(freed, folder)
    packed = dict(load((folder / FREE).read_bytes()))
    data = save({name: bits & 0 for name, bits in packed.items()})
    (folder / FREE).write_bytes(data)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][FREE] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(RomTampered, match="other places free"):
        _ = RomImage.open(folder).free
    del manifest["files"][FREE]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(RomError, match="otherwise"):
        RomImage.open(folder)
