"""Plugs as constants and as refilled constants; what is kept of heads stays under its bound and goes when it should."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="plugs are baked into ONNX graphs; pip install 'edgecl[cpu]'")
pytest.importorskip("onnxruntime", reason="plugs are baked for ONNX Runtime; pip install 'edgecl[cpu]'")

import onnx
import onnxruntime

from edgecl.checks.roms import KINDS, RELATIVE, pictures, plugs_for
from edgecl.config import load
from edgecl.errors import ConfigError, RomMismatch, RuntimeUnavailable
from edgecl.rom.baking import bake
from edgecl.rom.image import GRAPH, WEIGHTS, RomImage, write
from edgecl.rom.lru import Lru
from edgecl.rom.opening import open_rom
from edgecl.rom.ort import OrtRom
from edgecl.rom.parity import compare
from edgecl.rom.preprocess import normalise
from edgecl.rom.refill import Refillable
from edgecl.rom.sockets import Plugs


@pytest.fixture(scope="module")
def image(tiny_rom: Path) -> RomImage:
    return RomImage.open(tiny_rom)


@pytest.fixture
def rom(tiny_rom: Path) -> OrtRom:
    with open_rom(tiny_rom, threads=1) as opened:
        assert isinstance(opened, OrtRom)
        yield opened


def run(graph: bytes, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"]).run(None, {"pixels": x})[0]


def kinds(graph: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(graph).graph.node]


# -- baked


@pytest.mark.parametrize("what", KINDS)
def test_baked_graph_is_what_the_runtime_runs(rom: OrtRom, image: RomImage, what: str) -> None:
    """Two ways to the same bits: a session made from the baked file, and the session that is refilled for each head."""
    batch, plugs = pictures(rom, 3), plugs_for(rom, what)
    assert np.array_equal(run(bake(image, plugs), normalise(batch, rom.preprocess)), rom.features(batch, plugs))


def test_baked_graph_is_sound_and_no_larger_than_it_must_be(rom: OrtRom, image: RomImage) -> None:
    plain, plugs = image.read(GRAPH), plugs_for(rom)
    for what in KINDS:
        onnx.checker.check_model(onnx.load_from_string(bake(image, plugs_for(rom, what))), full_check=True)
    assert len(bake(image, Plugs(plugs.shift))) < len(plain) + 20_000
    assert len(bake(image, plugs)) < len(plain) + plugs.nbytes + 40_000


def test_baked_empty_plugs_are_the_sealed_graph_bit_for_bit(rom: OrtRom, image: RomImage) -> None:
    batch = pictures(rom, 2)
    assert np.array_equal(run(bake(image, Plugs()), normalise(batch, rom.preprocess)), rom.features(batch))


def test_sockets_without_a_plug_stay_as_they_are(image: RomImage) -> None:
    deep = image.sockets[-9:]
    plugs = Plugs(
        {s.name: np.ones(s.channels, np.float32) for s in deep},
        {s.name: np.ones((s.channels, 3, 3), np.float32) for s in deep if s.side > 1},
    )
    before, after = onnx.load_from_string(image.read(GRAPH)), onnx.load_from_string(bake(image, plugs))
    assert len(after.graph.node) == len(before.graph.node) + len(plugs.kernel) > len(before.graph.node)
    untouched = {f"{s.name}.weight" for s in image.sockets[:-9]}
    nodes = [[n for n in m.graph.node if n.op_type == "Conv" and n.input[1] in untouched] for m in (before, after)]
    assert nodes[0] == nodes[1] and len(nodes[0]) == len(untouched)


def test_shifts_alone_add_no_node(rom: OrtRom, image: RomImage) -> None:
    assert kinds(bake(image, plugs_for(rom, "shift"))) == kinds(image.read(GRAPH))


def test_scrambled_biases_are_refused_with_advice(rom: OrtRom, image: RomImage) -> None:
    plugs = Plugs(scrambled={image.sockets[0].name: np.ones(image.sockets[0].channels, np.float32)})
    with pytest.raises(RuntimeUnavailable, match="--runtime pytorch"):
        bake(image, plugs)
    with pytest.raises(RuntimeUnavailable, match="--runtime pytorch"):
        rom.features(pictures(rom, 1), plugs)


def test_quantised_roms_are_refused(rom: OrtRom, image: RomImage) -> None:
    with pytest.raises(RuntimeUnavailable, match="int8"):
        bake(dataclasses.replace(image, precision="int8"), plugs_for(rom))


def test_plugs_of_another_rom_are_refused(image: RomImage) -> None:
    with pytest.raises(RomMismatch, match="no such"):
        bake(image, Plugs({"no such": np.zeros(3, np.float32)}))


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_mambaout"])
def test_other_networks_bake_too(backbone: str, tmp_path: Path) -> None:
    """With residual sums fused into convolutions, convolutions without a norm, and biases of their own."""
    from export.seal import seal

    folder = seal(tmp_path / "rom", backbone, "random").folder
    with open_rom(folder, threads=1) as here, open_rom(folder, "pytorch", threads=1) as there:
        batch = pictures(here, 2)
        assert here.image.sockets
        for what in KINDS:
            plugs = plugs_for(here, what)
            parity = compare(there.features(batch, plugs), here.features(batch, plugs))
            assert parity.holds(RELATIVE), f"{backbone}, {what}: {parity}"


# -- kept


def test_heads_of_one_form_share_a_session(rom: OrtRom) -> None:
    batch = pictures(rom, 1)
    rom.features(batch, plugs_for(rom, "shift"))
    first, kept = rom.held, rom._heads.kept
    rom.features(batch, plugs_for(rom, "shift", 1))
    more = rom.held - first
    assert len(kept) == 3, "a session and two heads"
    numbers = sum(s.channels for s in rom.image.sockets) * 4
    assert numbers <= more <= numbers + 500 * len(rom.image.sockets), "a head costs its numbers"
    rom.features(batch, plugs_for(rom, "shift", 1))
    assert rom.held == first + more


def test_what_is_kept_stays_under_the_bound_and_answers_stay_right(rom: OrtRom) -> None:
    batch = pictures(rom, 1)
    heads = [plugs_for(rom, KINDS[seed % 3], seed) for seed in range(12)]
    free = [rom.features(batch, p) for p in heads]
    rom._heads.close()
    rom.session_cache = 20 << 20
    for _ in range(2):
        for p, expected in zip(heads, free, strict=True):
            assert np.array_equal(rom.features(batch, p), expected)
            assert 0 < rom.held <= rom.session_cache


def test_a_bound_below_one_session_keeps_that_one_and_says_so(rom: OrtRom, caplog: pytest.LogCaptureFixture) -> None:
    rom.session_cache = 1000
    batch, heads = pictures(rom, 1), [plugs_for(rom, what) for what in ("shift", "kernel", "shift")]
    with caplog.at_level(logging.WARNING):
        answers = [rom.features(batch, p) for p in heads]
    assert np.array_equal(answers[0], answers[2]) and len(rom._heads.kept) == 2
    assert len(caplog.records) == 1 and "session_cache_mb" in caplog.text


def test_closing_lets_everything_go(tiny_rom: Path) -> None:
    opened = open_rom(tiny_rom, threads=1)
    opened.features(pictures(opened, 1), plugs_for(opened))
    assert opened.held > 0
    opened.close()
    assert opened.held == 0


def test_least_recently_used_goes_first() -> None:
    lru = Lru("things", 30)
    for name in "abc":
        lru.put(name, name, 10)
    assert lru.get("a") == "a"
    lru.put("d", "d", 10)
    assert ("b" in lru, "a" in lru, lru.held, lru.evicted, lru.get("b")) == (False, True, 30, 1, None)
    lru.put("e", "e", 25, needed=("a",))
    assert "a" in lru and "e" in lru and len(lru) == 2
    lru.put("a", "A", 1)
    assert (lru.get("a"), lru.held) == ("A", 26)


def test_form_is_kept_on_disk_and_made_again_when_damaged(tiny_rom: Path, tmp_path: Path) -> None:
    with open_rom(tiny_rom, threads=1, cache=tmp_path) as rom:
        batch, plugs = pictures(rom, 2), plugs_for(rom)
        expected = rom.features(batch, plugs)
    (kept,) = tmp_path.glob("*.heads")
    good = kept.read_bytes()
    again = Refillable.from_bytes(Refillable.from_bytes(good).to_bytes())
    assert all(np.array_equal(v, again.feeds(plugs)[k]) for k, v in Refillable.from_bytes(good).feeds(plugs).items())
    for damage in (good, good[:-1] + bytes([good[-1] ^ 1]), good[:100], b""):
        kept.write_bytes(damage)
        with open_rom(tiny_rom, threads=1, cache=tmp_path) as rom:
            assert np.array_equal(rom.features(batch, plugs), expected)
        assert hashlib.sha256(kept.read_bytes()).hexdigest() == kept.with_suffix(".sha256").read_text()


def test_cached_form_needs_no_onnx(tiny_rom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor the time of making it again: what a fresh process pays."""
    with open_rom(tiny_rom, threads=1, cache=tmp_path) as rom:
        batch, plugs = pictures(rom, 1), plugs_for(rom)
        expected = rom.features(batch, plugs)
    monkeypatch.setattr("edgecl.rom.refill.refillable", lambda *_: pytest.fail("made again"))
    with open_rom(tiny_rom, threads=1, cache=tmp_path) as rom:
        assert np.array_equal(rom.features(batch, plugs), expected)


def test_optimiser_that_mixes_constants_up_is_found_out(rom: OrtRom, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ROM whose plugs cannot be followed through the optimiser is refused; it must not answer with half of them."""
    real = rom._heads._optimised

    def doubling(graph: bytes) -> bytes:
        made = onnx.load_from_string(real(graph))
        constant = next(i for i in made.graph.initializer if len(i.dims) == 1)
        changed = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(constant) * 2, constant.name)
        constant.CopyFrom(changed)
        return made.SerializeToString()

    monkeypatch.setattr(rom._heads, "_optimised", doubling)
    with pytest.raises(RuntimeUnavailable, match="beyond recognition"):
        rom.features(pictures(rom, 1), plugs_for(rom, "shift"))


def test_bound_is_a_setting(tmp_path: Path, tiny_rom: Path) -> None:
    (tmp_path / "config.toml").write_text("session_cache_mb = 64")
    assert load(tmp_path).session_cache_mb == 64
    with pytest.raises(ConfigError, match="session_cache_mb"):
        load(tmp_path, {"session_cache_mb": -1})
    with open_rom(tiny_rom, session_cache_mb=3) as rom:
        assert rom.session_cache == 3 << 20


def test_half_precision_roms_take_plugs_in_single_precision(rom: OrtRom, image: RomImage, tmp_path: Path) -> None:
    """Their weights are rounded, their arithmetic on a CPU is float32; so are the plugs."""
    from safetensors.numpy import load as tensors

    from edgecl.rom.half import halve

    weights = {name: value.astype(np.float16) if value.dtype == np.float32 else value
               for name, value in tensors(image.read(WEIGHTS)).items()}  # fmt: skip
    fields = {name: getattr(image, name) for name in ("backbone", "features", "preprocess", "sockets")}
    folder = tmp_path / "half"
    write(folder, **fields, precision="fp16", graph=halve(image.read(GRAPH)), weights=weights, parity={}, made_with={})
    batch = pictures(rom, 3)
    with open_rom(folder, threads=1) as half:
        for what in KINDS:
            plugs = plugs_for(rom, what)
            assert compare(rom.features(batch, plugs), half.features(batch, plugs)).holds(1e-2, cosine=0.9999)


@pytest.mark.gpu
def test_cuda_mixes_plugs_in_one_call(tiny_rom: Path) -> None:
    with open_rom(tiny_rom) as here, open_rom(tiny_rom, device="cuda") as there:
        assert there.mixes
        batch = pictures(here, 6)
        mine = [plugs_for(here, KINDS[i % 3], i) if i else None for i in range(6)]
        assert compare(here.features(batch, mine), there.features(batch, mine)).holds(1e-3, cosine=0.9999)
