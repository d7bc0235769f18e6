"""Sockets and plugs as numbers: counts of the published methods, exact folding, and what a manifest may not say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecl.checks.roms import pictures, plugs_for
from edgecl.errors import ConfigError, RomError, RomMismatch
from edgecl.heads.parts.recipe import choose
from edgecl.rom.image import MANIFEST, RomImage
from edgecl.rom.opening import open_rom
from edgecl.rom.sites import Sites
from edgecl.rom.sockets import Norm, Plugs, Socket, fold, onward

RNG = np.random.default_rng(0)
SOCKET = Socket("conv", 4, 3, norm="bn", eps=1e-3)


def norm(channels: int = 4) -> Norm:
    return Norm(*RNG.normal(size=(3, channels)), RNG.uniform(0.01, 2, channels), 1e-3)


# -- folding, computed another way


def by_definition(c: np.ndarray, n: Norm, shift: Any, kernel: Any) -> np.ndarray:
    """y = norm(c) + shift + kernel (*) c, loop by loop."""
    y = n.scale[:, None, None] * c + n.offset[:, None, None]
    if shift is not None:
        y = y + shift[:, None, None]
    if kernel is not None:
        r = kernel.shape[-1] // 2
        padded = np.pad(c, ((0, 0), (r, r), (r, r)))
        for u in range(2 * r + 1):
            for v in range(2 * r + 1):
                y = y + kernel[:, u, v, None, None] * padded[:, u : u + c.shape[1], v : v + c.shape[2]]
    return y


def normed(x: np.ndarray, n: Norm) -> np.ndarray:
    columns = [value[:, None, None] for value in (n.gain, n.shift, n.mean, n.variance)]
    return columns[0] * (x - columns[2]) / np.sqrt(columns[3] + n.eps) + columns[1]


def convolved(c: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    zero = Norm(np.zeros(len(c)), np.zeros(len(c)), np.zeros(len(c)), np.ones(len(c)), 1e-3)
    return by_definition(c, zero, None, kernel)


@pytest.mark.parametrize("task", [False, True], ids=["the ROM's norm", "a norm of its own"])
@pytest.mark.parametrize("parts", ["bias", "kernel", "bias kernel", ""])
def test_what_a_head_learned_folds_into_plugs_exactly(parts: str, task: bool) -> None:
    rom, own, c = norm(), norm() if task else None, RNG.normal(size=(4, 7, 5))
    bias = RNG.normal(size=4) if "bias" in parts else None
    kernel = RNG.normal(size=(4, 3, 3)) if "kernel" in parts else None
    learned = c if kernel is None else convolved(c, kernel)
    learned = normed(learned if bias is None else learned + bias[:, None, None], own or rom)
    shift, difference = fold(SOCKET, rom, bias=bias, kernel=kernel, task=own)
    np.testing.assert_allclose(by_definition(c, rom, shift, difference), learned, rtol=0, atol=3e-6)
    if not parts and not task:
        assert shift is None and difference is None


def test_a_bias_alone_folds_into_a_shift_and_no_kernel() -> None:
    """shift' = gain * beta / sqrt(var + eps)."""
    n, beta = norm(), RNG.normal(size=4)
    shift, kernel = fold(SOCKET, n, bias=beta)
    assert kernel is None
    np.testing.assert_allclose(shift, n.gain * beta / np.sqrt(n.variance + n.eps), rtol=1e-6)


def test_identity_kernels_fold_into_zeros() -> None:
    identity = np.zeros((4, 3, 3))
    identity[:, 1, 1] = 1
    shift, kernel = fold(SOCKET, norm(), kernel=identity)
    assert not shift.any() and not kernel.any()
    assert (identity.reshape(4, -1).sum(1) == 1).all()


def test_absolute_kernel_does_the_whole_of_norm_and_plug() -> None:
    n, c, kernel = norm(), RNG.normal(size=(4, 6, 6)), RNG.normal(size=(4, 3, 3)).astype(np.float32)
    sites = Sites.laid_out(((SOCKET.name, 3),), {SOCKET.name: n.offset}, {SOCKET.name: n.scale})
    absolute = sites.part(sites.filled(Plugs(kernel={SOCKET.name: kernel})), "kernel", SOCKET.name).reshape(4, 3, 3)
    whole = convolved(c, absolute) + n.offset[:, None, None]
    np.testing.assert_allclose(whole, by_definition(c, n, None, kernel), atol=1e-5)


def test_a_depthwise_bias_moves_on_through_a_pointwise_convolution() -> None:
    n, beta, weight = norm(6), RNG.normal(size=4), RNG.normal(size=(6, 4, 1, 1))
    c = RNG.normal(size=(4, 3, 3))
    there = normed(np.einsum("oi,ihw->ohw", weight[:, :, 0, 0], c + beta[:, None, None]), n)
    here = by_definition(np.einsum("oi,ihw->ohw", weight[:, :, 0, 0], c), n, onward(beta, weight, n), None)
    np.testing.assert_allclose(here, there, atol=1e-12)


# -- plugs


def test_equal_plugs_have_equal_keys_and_any_change_another() -> None:
    a = Plugs({"x": np.arange(3, dtype=np.float32)}, {"y": np.ones((3, 1, 1), np.float32)})
    same = Plugs({"x": np.arange(3, dtype=np.float64)}, {"y": np.ones((3, 1, 1), np.float32)})
    others = (
        Plugs(a.shift),
        Plugs({"z": a.shift["x"]}, a.kernel),
        Plugs(a.shift, {"y": np.ones((1, 3, 1), np.float32)}),
        Plugs({"x": a.shift["x"] + np.float32(1e-6)}, a.kernel),
        Plugs(scrambled=a.shift),
    )
    assert a.key == same.key and len({a.key, *(p.key for p in others)}) == 6
    assert a.nbytes == 12 + 12 and not Plugs()


def test_last_sockets() -> None:
    sockets = [Socket(str(i), 1, 1) for i in range(5)]
    assert [s.name for s in choose(sockets, "last:2")] == ["3", "4"]
    assert len(choose(sockets, "all")) == len(choose(sockets, "last:9")) == 5 and len(choose(sockets, "deep")) == 3
    with pytest.raises(ConfigError, match="last:N"):
        choose(sockets, "last:0")


# -- a manifest is untrusted

GOOD = SOCKET.to_dict()


def test_a_socket_survives_json() -> None:
    assert Socket.from_dict(json.loads(json.dumps(GOOD))) == SOCKET


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        "conv",
        {},
        {**GOOD, "more": 1},
        {k: v for k, v in GOOD.items() if k != "eps"},
        {**GOOD, "name": ""},
        {**GOOD, "name": "a\nb"},
        {**GOOD, "name": "x" * 301},
        {**GOOD, "name": 7},
        {**GOOD, "norm": None},
        {**GOOD, "feeds": ["x"]},
        {**GOOD, "channels": 0},
        {**GOOD, "channels": True},
        {**GOOD, "channels": 10**9},
        {**GOOD, "side": -3},
        {**GOOD, "side": 3.0},
        {**GOOD, "eps": float("nan")},
        {**GOOD, "eps": 2.0},
        {**GOOD, "eps": 0},
        {**GOOD, "depthwise": 1},
    ],
    ids=lambda wrong: repr(wrong)[:40],
)
def test_a_malformed_socket_in_a_manifest_is_refused(tiny_rom: Path, tmp_path: Path, wrong: Any) -> None:
    folder = with_manifest(tiny_rom, tmp_path, lambda m: m["sockets"].append(wrong))
    with pytest.raises(RomError, match=MANIFEST):
        RomImage.open(folder)


@pytest.mark.parametrize(
    "sockets", [None, {}, "x", [GOOD, GOOD], [GOOD] * 5001], ids=["null", "table", "text", "twice", "many"]
)
def test_malformed_sockets_of_a_manifest_are_refused(tiny_rom: Path, tmp_path: Path, sockets: Any) -> None:
    folder = with_manifest(tiny_rom, tmp_path, lambda m: m.update(sockets=sockets))
    with pytest.raises(RomError, match=MANIFEST):
        RomImage.open(folder)


@pytest.mark.parametrize("runtime", ["onnxruntime", "pytorch"])
def test_a_socket_that_the_network_does_not_have_is_named(tiny_rom: Path, tmp_path: Path, runtime: str) -> None:
    ghost = {**GOOD, "name": "blocks.99.conv", "norm": ""}
    folder = with_manifest(tiny_rom, tmp_path, lambda m: m["sockets"].append(ghost))
    with pytest.raises(RomError, match=r"blocks\.99\.conv"), open_rom(folder, runtime, threads=1) as rom:
        rom.features(pictures(rom, 1), plugs_for(rom, "shift"))


@pytest.mark.parametrize("runtime", ["onnxruntime", "pytorch"])
def test_an_image_of_format_1_has_no_sockets_and_refuses_heads_with_plugs(tiny_rom: Path, tmp_path: Path, runtime: str) -> None:
    def first_format(manifest: dict) -> None:
        manifest["format"] = 1
        del manifest["sockets"]

    with open_rom(tiny_rom, runtime, threads=1) as rom:
        plugs, plain = plugs_for(rom), rom.features(pictures(rom, 2))
    with open_rom(with_manifest(tiny_rom, tmp_path, first_format), runtime, threads=1) as rom:
        assert rom.image.sockets == ()
        assert np.array_equal(rom.features(pictures(rom, 2)), plain)
        with pytest.raises(RomMismatch, match=r"it has 0.*Export the ROM again"):
            rom.features(pictures(rom, 2), plugs)


def with_manifest(tiny_rom: Path, tmp_path: Path, change: Any) -> Path:
    folder = Path(shutil.copytree(tiny_rom, tmp_path / "rom"))
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder
