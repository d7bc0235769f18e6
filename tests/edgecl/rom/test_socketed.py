"""Sockets as batched graph inputs compute what the sockets' definition says, with each picture's own plugs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecl.errors import ConfigError, RomError, RuntimeUnavailable
from edgecl.rom import socketed
from edgecl.rom.base import Rom
from edgecl.rom.image import WEIGHTS, RomImage
from edgecl.rom.opening import open_rom
from edgecl.rom.parity import compare
from edgecl.rom.preprocess import normalise
from edgecl.rom.sockets import Plugs, Socket, norm_of

SOCKETS = (Socket("a", 2, 3), Socket("b", 3, 1), Socket("c", 1, 5))
Ask = Callable[[str, list[Plugs | None]], Any]


@pytest.fixture(scope="module")
def image(tiny_rom: Path) -> RomImage:
    return RomImage.open(tiny_rom)


@pytest.fixture(scope="module")
def reference(tiny_rom: Path) -> Iterator[Rom]:
    with open_rom(tiny_rom, "pytorch", threads=1) as rom:
        yield rom


@pytest.fixture(scope="module")
def pixels(image: RomImage) -> Any:
    size = image.preprocess.size
    return np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8)


@pytest.fixture(scope="module")
def ask(image: RomImage, pixels: Any) -> Ask:
    """Features of `pixels` by ONNX Runtime on the CPU, from the graph with inputs of those kinds."""
    ort = pytest.importorskip("onnxruntime")
    sessions: dict[str, Any] = {}

    def run(kinds: str, plugs: list[Plugs | None]) -> Any:
        if kinds not in sessions:
            sessions[kinds] = ort.InferenceSession(socketed.with_inputs(image, kinds))
        feeds = socketed.pack(image.sockets, kinds, plugs, len(pixels))
        return sessions[kinds].run(None, {"pixels": normalise(pixels, image.preprocess), **feeds})[0]

    return run


def some_plugs(image: RomImage, seed: int, kernels: bool) -> Plugs:
    """In most sockets; kernels of a tenth of the batch norm's own scale, 3x3 or 1x1."""
    from safetensors.numpy import load

    rng, weights = np.random.default_rng(seed), load(image.read(WEIGHTS))
    shift = {s.name: rng.normal(0, 0.1, s.channels).astype(np.float32) for s in image.sockets if rng.random() < 0.7}
    kernel = {}
    for socket in image.sockets if kernels else ():
        norm = norm_of(socket, weights)
        scale = np.abs(norm.scale)[:, None, None] if norm else np.ones((socket.channels, 1, 1))
        side = 3 if socket.side > 1 and rng.random() < 0.8 else 1
        kernel[socket.name] = (0.1 * scale * rng.normal(size=(socket.channels, side, side))).astype(np.float32)
    return Plugs(shift=shift, kernel=kernel)


@pytest.mark.parametrize("kinds", socketed.KINDS)
def test_each_picture_gets_its_own_plugs(kinds: str, image: RomImage, reference: Rom, pixels: Any, ask: Ask) -> None:
    one, other = (some_plugs(image, seed, kinds != "shift") for seed in (1, 2))
    plugs = [one, None, other, one]
    expected = reference.features(pixels, plugs)
    assert compare(expected, ask(kinds, plugs)).holds()
    assert not compare(reference.features(pixels), expected).holds(relative=1e-2, cosine=0.999), "the plugs do something"


@pytest.mark.parametrize("kinds", socketed.KINDS)
def test_one_plug_serves_all_pictures(kinds: str, image: RomImage, reference: Rom, pixels: Any, ask: Ask) -> None:
    plugs = some_plugs(image, 3, kinds != "shift")
    assert compare(reference.features(pixels, plugs), ask(kinds, [plugs])).holds()


@pytest.mark.parametrize("kinds", socketed.KINDS)
def test_zeros_are_the_plain_rom(kinds: str, reference: Rom, pixels: Any, ask: Ask) -> None:
    assert compare(reference.features(pixels), ask(kinds, [None])).holds()


def test_one_socket_moves_only_with_its_own_plug(image: RomImage, reference: Rom, pixels: Any, ask: Ask) -> None:
    """A mistake in the order of the channels would show in the first or the last socket."""
    for socket in (image.sockets[0], image.sockets[-1]):
        plugs = Plugs(shift={socket.name: np.linspace(-1, 1, socket.channels, dtype=np.float32)})
        assert compare(reference.features(pixels, plugs), ask("shift+kernel", [plugs])).holds()


def test_graph_states_its_inputs(image: RomImage) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(socketed.with_inputs(image, "shift+kernel"))
    found = {i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    batch = found["pixels"][0]
    wanted = {name: [batch, *shape] for name, shape in socketed.inputs(image.sockets, "shift+kernel").items()}
    assert found == {"pixels": [batch, 3, 160, 160], **wanted}
    assert [o.name for o in model.graph.output] == ["features"]
    kept = {i.name for i in model.graph.initializer}
    assert kept <= {name for node in model.graph.node for name in node.input}, "folded weights that nobody reads are dropped"


def test_packing_lays_channels_in_the_order_of_the_sockets() -> None:
    shift = {"b": np.array([1, 2, 3], np.float32)}
    kernel = {
        "a": np.arange(18, dtype=np.float32).reshape(2, 3, 3),
        "b": np.full((3, 1, 1), 5, np.float32),
        "c": np.full((1, 1, 1), 7, np.float32),
    }
    plugs = Plugs(shift, kernel)
    packed = socketed.pack(SOCKETS, "shift+kernel", [None, plugs], 2)
    assert {k: v.shape for k, v in packed.items()} == {"shift": (2, 6), "kernel": (2, 3, 9), "gain": (2, 3)}
    assert all(v.dtype == np.float32 and v.flags["C_CONTIGUOUS"] and not v[0].any() for v in packed.values())
    assert packed["shift"][1].tolist() == [0, 0, 1, 2, 3, 0]
    assert packed["kernel"][1, :2].ravel().tolist() == list(range(18))
    assert packed["kernel"][1, 2].tolist() == [0, 0, 0, 0, 7, 0, 0, 0, 0], "a 1x1 kernel lies in the centre"
    assert packed["gain"][1].tolist() == [5, 5, 5]


def test_the_smaller_graph_where_it_suffices() -> None:
    shift, kernel = {"a": np.zeros(2, np.float32)}, {"a": np.zeros((2, 3, 3), np.float32)}
    assert socketed.needed([Plugs(shift)]) == "shift"
    assert socketed.needed([Plugs(shift), Plugs(kernel=kernel)]) == "shift+kernel"


def test_plugs_without_a_place_are_refused() -> None:
    wide = Plugs(kernel={"c": np.zeros((1, 5, 5), np.float32)})
    with pytest.raises(RuntimeUnavailable, match="'c' is a 5x5 kernel; as a graph input it may be 3x3 at most"):
        socketed.pack(SOCKETS, "shift+kernel", [wide], 1)
    with pytest.raises(RuntimeUnavailable, match="'b' is a 3x3 kernel; as a graph input it may be 1x1"):
        socketed.pack(SOCKETS, "shift+kernel", [Plugs(kernel={"b": np.zeros((3, 3, 3), np.float32)})], 1)
    with pytest.raises(RuntimeUnavailable, match="made for 'shift' only"):
        socketed.pack(SOCKETS, "shift", [wide], 1)
    with pytest.raises(RuntimeUnavailable, match="scrambled"):
        socketed.pack(SOCKETS, "shift", [Plugs(scrambled={"a": np.zeros(2, np.float32)})], 1)
    with pytest.raises(RomError, match="3 pictures, but 2 plugs"):
        socketed.pack(SOCKETS, "shift", [None, None], 3)


def test_rom_without_sockets_and_unknown_kinds_are_refused(image: RomImage) -> None:
    with pytest.raises(RomError, match="no sockets"):
        socketed.with_inputs(replace(image, sockets=()), "shift")
    with pytest.raises(ConfigError, match="not 'kernel'"):
        socketed.with_inputs(image, "kernel")
