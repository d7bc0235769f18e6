"""BB and CLR as published: what learns, by what schedule and penalty, and that folding loses nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the recipes learn in PyTorch; pip install 'edgecl[learn]'")

from edgecl.checks import synthetic
from edgecl.errors import ConfigError
from edgecl.heads import bb, clr
from edgecl.heads.base import Learned, Session
from edgecl.heads.parts import paper
from edgecl.heads.parts.paper import Bias, Gated, Kernel, Reprogrammed, clr_rate, norm_penalty, stops
from edgecl.heads.parts.recipe import read_pixels
from edgecl.rom.base import Rom
from edgecl.rom.opening import open_rom
from edgecl.rom.preprocess import Preprocess
from edgecl.rom.pytorch import feature_network, load_network
from edgecl.rom.sockets import Plugs
from edgecl.rom.surgery import fill, find_sockets, install
from edgecl.rom.torch_compat import torch
from edgecl.types import Task

METHODS: dict[str, tuple[Any, Any]] = {
    "bb": (bb, bb.Config(recipe="paper", epochs=2)),
    "clr": (clr, clr.Config(recipe="paper", epochs=2)),
    "clr-full": (clr, clr.Config(recipe="paper", epochs=2, variant="full")),
    "clr-mixed": (clr, clr.Config(recipe="paper", epochs=2, variant="mixed")),
    "clr-gated": (clr, clr.Config(recipe="paper", epochs=2, variant="gated")),
}


@pytest.fixture(scope="module")
def rom(tiny_rom: Path) -> Iterator[Rom]:
    with open_rom(tiny_rom, "pytorch", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def task(rom: Rom) -> Task:
    return synthetic.pictures_task(rom, 3, 10)


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Reprogrammed, Plugs]]:
    """The trained networks, and what was folded out of them."""
    models: list[tuple[Reprogrammed, Plugs]] = []
    fold = paper._folded
    monkeypatch.setattr(paper, "_folded", lambda model, name: models.append((model, fold(model, name))) or models[-1][1])
    return models


# -- what learns


class Resnet18(Rom):
    """Random weights and small pictures stand in for a sealed image: what learns depends on neither. Features are made up."""

    runtime, version, provider = "none", "0", "cpu"

    def __init__(self) -> None:
        network = feature_network("resnet18")
        for module in network.modules():  # timm starts some of them at zero, which would hide what lies before
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.data.fill_(1)
        image: Any = SimpleNamespace(
            rom_id="0" * 64,
            features=512,
            preprocess=Preprocess(32, 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3),
            sockets=find_sockets(network, 32),
            network=network,
        )
        super().__init__(image)

    def _run(self, x: np.ndarray) -> np.ndarray:
        return np.zeros((len(x), 512), np.float32)

    def _run_plugged(self, x: np.ndarray, plugs: list[Plugs]) -> np.ndarray:
        return self._run(x)

    def _close(self) -> None:
        pass


@pytest.mark.parametrize(("variant", "gradients"), [("default", 59), ("mixed", 62), ("full", 62), ("gated", 82)])
def test_clr_on_resnet18_changes_kernels_and_norms_and_no_frozen_weight(
    variant: str, gradients: int, caught: list[tuple[Reprogrammed, Plugs]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors that receive gradients: 2 of the head, 40 of the norms, and 17 or 20 kernels (two each when gated)."""
    monkeypatch.setattr(paper, "load_network", lambda image: image.network)
    rom = Resnet18()
    frozen = {s.name: rom.image.network.get_submodule(s.name).weight.clone() for s in rom.image.sockets}
    norms = {
        s.norm: {n: v.clone() for n, v in rom.image.network.get_submodule(s.norm).state_dict().items()}
        for s in rom.image.sockets
    }
    clr.learn(synthetic.pictures_task(rom, 2, 5), rom, clr.Config(recipe="paper", variant=variant, epochs=1))
    ((model, _),) = caught
    assert sum(p.grad is not None for p in model.parameters()) == gradients
    for name, before in frozen.items():
        found = model.network.get_submodule(name)
        weight = (found[0] if isinstance(found, torch.nn.Sequential) else found).weight
        assert torch.equal(weight, before), f"the frozen convolution {name} changed"
        assert weight.grad is None
    for name, parts in norms.items():
        now = model.network.get_submodule(name).state_dict()
        assert not any(torch.equal(now[part], before) for part, before in parts.items()), f"of {name} something stayed"


def test_a_norm_that_no_socket_carries_keeps_its_statistics(
    caught: list[tuple[Reprogrammed, Plugs]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in networks whose norms come before the convolutions: what is learned there could not travel."""
    monkeypatch.setattr(paper, "load_network", lambda image: image.network)
    rom = Resnet18()
    last = rom.image.sockets[-1]
    rom.image.sockets = (*rom.image.sockets[:-1], replace(last, norm="", eps=0.0))
    norm = rom.image.network.get_submodule(last.norm)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    clr.learn(synthetic.pictures_task(rom, 2, 5), rom, clr.Config(recipe="paper", epochs=1))
    assert len(caught) == 1
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_bb_on_resnet18_changes_biases_and_head_only(
    caught: list[tuple[Reprogrammed, Plugs]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper, "load_network", lambda image: image.network)
    rom = Resnet18()
    before = {name: value.clone() for name, value in rom.image.network.state_dict().items()}
    bb.learn(synthetic.pictures_task(rom, 2, 5), rom, bb.Config(recipe="paper", epochs=1))
    ((model, _),) = caught
    after = {name.replace(".0.weight", ".weight"): value for name, value in model.network.state_dict().items()}
    after |= model.network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())  # statistics of the norms too
    assert sum(p.grad is not None for p in model.parameters()) == 2 + 20


def test_the_gated_form_starts_as_the_identity_and_learns_by_its_gates_first() -> None:
    layer, x = Gated(6, torch.Generator().manual_seed(0)), torch.randn(2, 6, 5, 5)
    y = layer(x)
    assert torch.equal(y, x)
    y.square().sum().backward()
    assert bool(layer.a.grad.any()) and not bool(layer.g.grad.any())


@pytest.mark.parametrize("side", [1, 3])
def test_a_kernel_starts_as_the_identity_with_a_slope_at_every_tap(side: int) -> None:
    layer, x = Kernel(6, side), torch.randn(2, 6, 5, 5)
    y = layer(x)
    assert torch.equal(y, x) and (layer.r.flatten(1).sum(1) == 1).all()
    y.square().sum().backward()
    assert bool((layer.r.grad != 0).all())


def test_a_bias_starts_at_nothing() -> None:
    for scrambled in (False, True):
        x = torch.randn(2, 6, 5, 5)
        assert torch.equal(Bias(6, scrambled)(x), x)


@pytest.mark.parametrize("method", METHODS)
def test_before_any_step_the_network_is_the_rom_bit_for_bit(method: str, rom: Rom) -> None:
    generator = torch.Generator().manual_seed(0)
    sides = (
        clr.kernel_sides(rom.image.sockets, {"clr": "default"}.get(method, method.removeprefix("clr-")))
        if method != "bb"
        else {}
    )

    def layer(socket: Any) -> Any:
        if method == "bb":
            return Bias(socket.channels)
        if not sides[socket.name]:
            return None
        return Gated(socket.channels, generator) if method == "clr-gated" else Kernel(socket.channels, sides[socket.name])

    model = Reprogrammed(load_network(rom.image), rom.image.sockets, layer, rom.width, 3, 0).eval()
    x = torch.randn(2, 3, rom.preprocess.size, rom.preprocess.size, generator=generator)
    with torch.inference_mode():
        assert torch.equal(model.network(x), load_network(rom.image)(x))


# -- penalty and schedule


def test_the_penalty_of_an_identity_kernel_is_the_root_of_its_channels() -> None:
    """64 channels: 8. Its slope lies on the centre taps only, 1/8 each: it pulls towards zero, not towards the identity."""
    kernel = Kernel(64, 3)
    penalty = norm_penalty([kernel.r])
    penalty.backward()
    assert float(penalty.detach()) == 8
    assert torch.allclose(kernel.r.grad[:, 1, 1], torch.full((64,), 1 / 8))
    assert int(kernel.r.grad.count_nonzero()) == 64


def test_the_penalty_adds_tensors_up_and_leaves_out_those_of_zeros() -> None:
    values = [torch.tensor([3.0, 4.0]), torch.zeros(5, requires_grad=True), torch.full((2, 2), 6.0)]
    assert float(norm_penalty(values)) == 5 + 12
    assert float(norm_penalty(values[1:2])) == float(norm_penalty([])) == 0


def test_clrs_rate_falls_to_a_tenth_after_each_third() -> None:
    rates = [clr_rate(epoch) for epoch in range(1, 61)]
    for third, rate in enumerate((1e-3, 1e-4, 1e-5)):
        np.testing.assert_allclose(rates[20 * third : 20 * (third + 1)], rate)
    assert clr_rate(1, 1) == clr_rate(1, 2) == 1e-3  # a short run has a rate too


@pytest.mark.parametrize(("patience", "last"), [(21, 23), (10, 12)])
def test_a_run_whose_best_epoch_is_the_first_stops_after_its_patience(patience: int, last: int) -> None:
    assert next(epoch for epoch in range(1, 100) if stops(epoch, 1, patience)) == last


# -- folding


@pytest.mark.parametrize("method", METHODS)
def test_the_rom_with_folded_plugs_is_the_trained_network(
    method: str, rom: Rom, task: Task, tiny_rom: Path, caught: list[tuple[Reprogrammed, Plugs]]
) -> None:
    """The raw network with its own norms, and the sealed ROM with what was folded: the same features, on both runtimes."""
    module, config = METHODS[method]
    learned: Learned = module.learn(task, rom, config)
    ((model, plugs),) = caught
    pixels = read_pixels(task, rom)
    with torch.inference_mode():
        raw = model.network(paper._input(pixels, rom)).numpy()
    with open_rom(tiny_rom, threads=1) as ort:
        for runtime in (rom, ort):
            folded = runtime.features(pixels, plugs)
            assert np.abs(folded - raw).max() <= 1e-4 * np.abs(raw).max(), runtime.runtime
            assert np.abs(task.features - raw).max() > 1e-2 * np.abs(raw).max()
            stored = learned.head.answer(runtime, pixels)
            assert np.abs(stored - learned.head.answer(rom, pixels)).max() < 1e-3 * np.abs(stored).max()
    if method != "bb":  # what the norms learned must travel: without it the features are others
        partly = rom.features(pixels, Plugs(kernel=plugs.kernel))
        assert np.abs(partly - raw).max() > 1e-3 * np.abs(raw).max()


def test_the_order_of_tasks_does_not_matter(rom: Rom, task: Task) -> None:
    """Each starts from the plain ROM with a seed of its own."""
    module, config = METHODS["clr"]
    other = synthetic.pictures_task(rom, 2, 6)
    first = module.learn(task, rom, config), module.learn(other, rom, config)
    second = module.learn(other, rom, config), module.learn(task, rom, config)
    assert [a.head.plugs.key for a in first] == [b.head.plugs.key for b in reversed(second)]


# -- bounds


def interrupting(epoch: int) -> Callable[[str, int, int], None]:
    def progress(stage: str, done: int, total: int) -> None:
        if done == epoch:
            raise KeyboardInterrupt

    return progress


def test_ctrl_c_keeps_the_best_epoch_and_before_the_first_is_passed_on(rom: Rom, task: Task) -> None:
    module, config = METHODS["bb"]
    said: list[str] = []
    session = Session(progress=interrupting(2), say=said.append)
    learned = module.learn(task, rom, bb.Config(recipe="paper", epochs=9), None, session)
    report = learned.report["training"]
    assert report["epochs"] == 2 and report["stopped_early"] and any("is kept" in line for line in said)
    with pytest.raises(KeyboardInterrupt):
        module.learn(task, rom, config, None, Session(progress=interrupting(1)))


@pytest.mark.parametrize("method", ["bb", "clr"])
def test_bounds_that_the_recipe_cannot_keep_are_refused_before_any_work(
    method: str, rom: Rom, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, config = METHODS[method]
    size = module.learn(task, rom, config).head.nbytes
    monkeypatch.setattr(paper, "_fit", lambda *rest: pytest.fail("it began to learn"))
    for session, words in (
        (Session(budget=1e6), "budget"),
        (Session(head_bytes=size // 2), "bytes"),
        (Session(resume=True), "resume"),
    ):
        with pytest.raises(ConfigError, match=words):
            module.learn(task, rom, config, None, session)


def test_biases_that_can_move_on_do_not_travel() -> None:
    """Xception: 50,312 learned biases travel as 27,264 shifts, and the network answers as with all of them."""
    network = feature_network("legacy_xception")
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):  # as trained ones do, random ones of this depth let nothing through
                module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=torch.Generator().manual_seed(0))
    sockets = find_sockets(network, 71)
    model = Reprogrammed(network, sockets, lambda s: Bias(s.channels), 2048, 2, 0)
    generator = torch.Generator().manual_seed(1)
    for layer in model.layers.values():
        layer.beta.data.normal_(0, 0.1, generator=generator)
    plugs = paper._folded(model, "x")
    assert sum(v.size for v in plugs.shift.values()) == 27_264 and not plugs.kernel
    x = torch.rand((1, 3, 71, 71), generator=generator)
    with torch.no_grad():
        learned = model.network(x)
        for layer in model.layers.values():
            layer.beta.zero_()
        places = install(model.network, [replace(s, name=f"{s.name}.0") for s in sockets])
        plain = model.network(x)
        fill(places, [Plugs(shift={f"{name}.0": value for name, value in plugs.shift.items()})])
        folded = model.network(x)
    scale = float((learned - plain).abs().max())
    assert scale > 0.1 and float((folded - learned).abs().max()) < 1e-4 * scale
