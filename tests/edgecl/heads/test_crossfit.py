"""The learning of plugs, epoch by epoch: what it changes, what it leaves alone, and how it goes on after being cut off."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="plugs learn in PyTorch; pip install 'edgecl[learn]'")

from edgecl.checks import synthetic
from edgecl.heads.parts import crossfit
from edgecl.heads.parts.checkpoint import Checkpoint
from edgecl.heads.parts.folded import FoldedNetwork, PlugConv
from edgecl.heads.parts.recipe import read_pixels
from edgecl.heads.parts.views import Views, features
from edgecl.rom.base import Rom
from edgecl.rom.image import WEIGHTS, weights_digest
from edgecl.rom.sockets import Plugs, Socket
from edgecl.rom.torch_compat import torch
from edgecl.types import Task

EPOCHS, BATCH = 3, 8


class Cut(Exception):
    """The end of the process, as far as one test can have it."""


@pytest.fixture(scope="module")
def task(rom: Rom) -> Task:
    return synthetic.pictures_task(rom, 3, 8)


@pytest.fixture(scope="module")
def sides(rom: Rom) -> dict[str, int]:
    """The last five sockets; one of them has a kernel."""
    return {s.name: 3 if s.side > 1 else 0 for s in rom.image.sockets[-5:]}


@pytest.fixture(scope="module")
def views(rom: Rom, task: Task, sides: dict[str, int]) -> Views:
    """Two variants, seen through the lower half, which no learning changes."""
    lower = FoldedNetwork(rom.image, sides).lower
    return Views(read_pixels(task, rom), rom.preprocess, lower, variants=2, seed=0, limit=1 << 30)


@pytest.fixture(scope="module")
def learn(rom: Rom, task: Task, sides: dict[str, int], views: Views) -> Callable[..., tuple[FoldedNetwork, int, list[float]]]:
    """Learn on a fresh network; `tick` is told of every step."""

    def run(epochs: int = EPOCHS, seed: int = 0, network: FoldedNetwork | None = None, **options: object):
        network = network or FoldedNetwork(rom.image, sides)
        schedule = crossfit.Schedule(epochs, BATCH, 1e-2)
        done, losses = crossfit.learn(network, views, task.labels, 3, task.features, schedule, seed=seed, **options)
        return network, done, losses

    return run


@pytest.fixture(scope="module")
def whole(learn) -> tuple[FoldedNetwork, int, list[float]]:
    """The run that nothing interrupts."""
    return learn()


def after(steps: int, error: type[BaseException]) -> Callable[[int], None]:
    """A tick that raises at that step."""
    seen = 0

    def tick(pictures: int) -> None:
        nonlocal seen
        seen += 1
        if seen == steps:
            raise error

    return tick


# -- what is learned


def test_the_loss_on_pictures_not_seen_goes_down_on_an_easy_task(whole) -> None:
    _, done, losses = whole
    assert done == len(losses) == EPOCHS
    assert losses[-1] < losses[0] < 1.5 * math.log(3)


def test_the_same_seed_gives_the_same_plugs_and_another_seed_others(learn, whole) -> None:
    assert learn()[0].plugs().key == whole[0].plugs().key
    assert learn(seed=1)[0].plugs().key != whole[0].plugs().key


def test_only_plugs_change(learn, rom: Rom, sides: dict[str, int]) -> None:
    """A hash of all that is frozen, norms' statistics folded in, is the same; of the ROM's file too; all plugs moved."""
    network = FoldedNetwork(rom.image, sides)

    def frozen() -> str:
        state = {
            f"{half}/{name}": value
            for half in ("lower", "upper")
            for name, value in getattr(network, half).state_dict().items()
        }
        return weights_digest({name: value.numpy() for name, value in state.items()})

    before, file = frozen(), rom.image.read(WEIGHTS)
    learn(network=network)
    plugs = network.plugs()
    assert frozen() == before and rom.image.read(WEIGHTS) == file
    assert set(plugs.shift) == set(sides) and set(plugs.kernel) == {name for name, side in sides.items() if side}
    assert all(value.any() for _, arrays in plugs.kinds() for value in arrays.values())


def test_what_was_learned_is_what_the_deployed_rom_runs(rom: Rom, task: Task, views: Views, whole) -> None:
    """Plugs folded out of the folded network, on ONNX Runtime: the features that learning saw."""
    network = whole[0]
    learned, deployed = features(network.upper, views, len(task)), rom.features(read_pixels(task, rom), network.plugs())
    assert np.abs(learned - deployed).max() <= 2e-3 * np.abs(learned).max()  # the views are kept in half precision
    assert np.abs(task.features - deployed).max() > 10 * np.abs(learned - deployed).max()


def test_plugs_set_again_are_the_plugs_that_were_read(rom: Rom, sides: dict[str, int], whole) -> None:
    other, plugs = FoldedNetwork(rom.image, sides), whole[0].plugs()
    assert not any(value.any() for _, arrays in other.plugs().kinds() for value in arrays.values())  # starts plain
    other.set(plugs)
    for (_, before), (_, again) in zip(plugs.kinds(), other.plugs().kinds(), strict=True):
        assert all(np.allclose(before[name], again[name], atol=1e-6) for name in before)
    assert isinstance(plugs, Plugs)


def test_all_taps_have_a_slope_at_the_first_step(rom: Rom, sides: dict[str, int], views: Views) -> None:
    """The identity is no saddle: taps beside the centre move at once."""
    network = FoldedNetwork(rom.image, sides)
    network.upper(views.batch(0, np.arange(8))).square().mean().backward()
    kernels = [value.grad for name, value in network.parameters() if name.startswith("kernel/")]
    assert kernels
    for slope in kernels:
        beside = slope.clone()
        beside[:, 1, 1] = 0
        assert bool(beside.any()) and bool(slope[:, 1, 1].any())


@pytest.mark.parametrize("padding", [0, 1])
def test_a_bias_slope_is_that_of_the_convolution(padding: int) -> None:
    """Though it is computed beside it; the activation behind works in place, as those of most networks do."""
    generator = torch.Generator().manual_seed(0)
    conv = torch.nn.Conv2d(4, 6, 3, stride=2, padding=padding, groups=2).requires_grad_(False)
    weight, own = conv.weight.clone(), conv.bias.clone()
    x = torch.rand((3, 4, 9, 9), generator=generator, requires_grad=True)
    plugged = PlugConv(conv, Socket("conv", 6, 3), None)
    plugged.shift = torch.rand(6, generator=generator).requires_grad_(True)
    shift = plugged.shift.detach().clone().requires_grad_(True)
    expected = torch.nn.functional.conv2d(x, weight, own + shift, 2, padding, 1, 2).clamp(0, 1).square().sum()
    found = torch.nn.functional.hardtanh(plugged(x), 0, 1, inplace=True).square().sum()
    assert torch.allclose(found, expected)
    for a, b in zip(torch.autograd.grad(found, (x, plugged.shift)), torch.autograd.grad(expected, (x, shift)), strict=True):
        assert torch.allclose(a, b, atol=1e-5) and bool(a.any())


def test_the_schedule_is_one_cycle() -> None:
    """From a tenth up to the peak in the first quarter, down to nothing at the end."""
    rates = [crossfit.rate_at(step, 100, 0.5) for step in range(100)]
    assert rates[0] == pytest.approx(0.05) and max(rates) == rates[25] == 0.5
    assert rates[:26] == sorted(rates[:26]) and rates[25:] == sorted(rates[25:], reverse=True)
    assert 0 < rates[-1] < 1e-3
    assert crossfit.rate_at(0, 1, 0.5) == pytest.approx(0.05)  # a learning of one step


# -- cut off


@pytest.mark.parametrize("epoch", range(EPOCHS))
def test_a_learning_cut_off_within_any_epoch_goes_on_to_the_same_bits(epoch: int, learn, whole, tmp_path: Path) -> None:
    place = tmp_path / "state.safetensors"
    with pytest.raises(Cut):
        learn(saved=Checkpoint(place, "key", resume=False), tick=after(3 * epoch + 2, Cut))
    assert place.exists() == (epoch > 0)
    saved = Checkpoint(place, "key", resume=True)
    told: list[int] = []
    network, done, losses = learn(saved=saved, tick=told.append)
    assert sum(told) == 24 * (EPOCHS - epoch)  # epochs that were done are not done again
    assert (done, losses) == whole[1:]
    assert network.plugs().key == whole[0].plugs().key


def test_a_learning_that_was_complete_is_taken_up_complete(learn, whole, tmp_path: Path) -> None:
    learn(saved=Checkpoint(tmp_path / "state", "key", resume=False))
    network, done, losses = learn(saved=Checkpoint(tmp_path / "state", "key", resume=True), tick=after(1, Cut))
    assert (done, losses) == whole[1:] and network.plugs().key == whole[0].plugs().key


def test_ctrl_c_before_the_first_epoch_is_passed_on_and_leaves_nothing_learned(learn, rom: Rom, sides: dict[str, int]) -> None:
    network = FoldedNetwork(rom.image, sides)
    with pytest.raises(KeyboardInterrupt):
        learn(network=network, tick=after(2, KeyboardInterrupt))
    assert not any(value.any() for _, arrays in network.plugs().kinds() for value in arrays.values())


def test_ctrl_c_keeps_the_epochs_that_were_done(learn, whole) -> None:
    """In the middle of the third epoch or at its first step: bit for bit what two epochs gave."""
    network, done, losses = learn(tick=after(3 * 2 + 2, KeyboardInterrupt))
    again, *_ = learn(tick=after(3 * 2 + 1, KeyboardInterrupt))
    assert done == 2 and losses == whole[2][:2]
    assert network.plugs().key == again.plugs().key != whole[0].plugs().key


def test_ctrl_c_keeps_the_best_epoch_not_the_newest(learn, monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([1.0, 0.5, 0.9])

    def epoch(network, views, labels, classes, state, *rest):
        loss = next(told, None)
        if loss is None:
            raise KeyboardInterrupt
        with torch.no_grad():
            for value in state.values:
                value.fill_(loss)
        state.epoch += 1
        return loss

    monkeypatch.setattr(crossfit, "_epoch", epoch)
    network, done, losses = learn(epochs=9)
    assert (done, losses) == (3, [1.0, 0.5, 0.9])
    assert all((value == 0.5).all() for value in network.plugs().shift.values())
