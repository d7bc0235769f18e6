"""BB: where it learns, what it leaves out, and the scrambled layout of the reference code."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgecl.errors import ConfigError, RuntimeUnavailable
from edgecl.heads import bb
from edgecl.heads.parts import plugged
from edgecl.heads.parts.recipe import MOST_PICTURES, Recipe, choose, hold_out
from edgecl.rom.sockets import Socket

pytest.importorskip("torch", reason="plugs learn in PyTorch; pip install 'edgecl[learn]'")

from edgecl import EdgeDevice
from edgecl.checks import synthetic
from edgecl.heads.base import Learned
from edgecl.rom.base import Rom
from edgecl.rom.opening import open_rom
from edgecl.sharing.bundle import Bundle
from edgecl.types import Task


@pytest.fixture(scope="module")
def reference(tiny_rom: Path) -> Rom:
    with open_rom(tiny_rom, "pytorch", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def task(reference: Rom) -> Task:
    return synthetic.pictures_task(reference, 3, 6)


@pytest.fixture(scope="module")
def scrambled(reference: Rom, task: Task) -> Learned:
    return bb.learn(task, reference, bb.Config(recipe="paper", scrambled=True, epochs=1))


def test_where_it_may_act() -> None:
    sockets = tuple(Socket(str(i), 1, 1) for i in range(10))
    assert [s.name for s in choose(sockets, "last:3")] == ["7", "8", "9"]
    assert choose(sockets, "all") == choose(sockets, "last:99") == sockets
    assert len(choose(sockets, "deep")) == 7 and len(choose(sockets[:1], "deep")) == 1
    with pytest.raises(ConfigError, match="no sockets"):
        choose((), "all")


def test_a_bias_that_the_next_convolution_takes_over_is_not_learned(
    reference: Rom, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a depthwise convolution without a norm: it would be the same as one behind the pointwise that follows."""
    given: dict[str, int] = {}
    monkeypatch.setattr(plugged, "learn", lambda task, rom, method, recipe, sides, *rest: given.update(sides))
    sockets = (Socket("a", 2, 3, depthwise=True, feeds="b"), Socket("b", 2, 1, norm="n", eps=1e-3))
    fake = type("Fake", (), {"image": dataclasses.replace(reference.image, sockets=sockets)})()
    bb.learn(task, fake, bb.Config(sockets="all"))
    assert given == {"b": 0}


def test_a_fifth_of_each_class_is_held_out_and_the_same_for_every_method() -> None:
    labels = np.repeat([0, 1, 2], [50, 3, 10])
    held = hold_out(labels, 4)
    assert [int(held[labels == c].sum()) for c in range(3)] == [10, 1, 2]
    assert np.array_equal(held, hold_out(labels, 4)) and not np.array_equal(held, hold_out(labels, 5))


def test_epochs_follow_from_the_number_of_pictures() -> None:
    recipe = Recipe()
    assert [recipe.main_epochs(n) for n in (0, 50, 400, 800, 10**6)] == [14, 14, 10, 5, 4]
    assert Recipe(epochs=3).main_epochs(50) == 3


def test_of_many_pictures_some_of_every_class_are_learned_from() -> None:
    """Else no fold could score the rare class, and a mean over nothing would make every plug no number."""
    from edgecl.heads.parts.training import _some

    labels = np.repeat([0, 1, 2], [9000, 3, 500])
    held = hold_out(labels, 0)
    rows = _some(labels, held, 0)
    assert len(rows) == len(set(rows)) == MOST_PICTURES and sorted(rows) == rows.tolist()
    assert (~held[rows[labels[rows] == 1]]).sum() == 2  # all there are
    assert np.array_equal(rows, _some(labels, held, 0)) and not np.array_equal(rows, _some(labels, held, 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scrambled": True}, "--recipe paper"),
        ({"recipe": "papr"}, "known are default and paper"),
        ({"sockets": "last:0"}, "all, deep or last:N"),
        ({"epochs": -1}, "epochs"),
        ({"false_reject": 0}, "false_reject"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        bb.Config(**options)


# -- scrambled


def test_scrambled_biases_run_in_pytorch(scrambled: Learned, reference: Rom, task: Task) -> None:
    plugs = scrambled.head.plugs
    assert set(plugs.scrambled) == {s.name for s in reference.image.sockets} and not plugs.shift and not plugs.kernel
    assert all(v.any() for v in plugs.scrambled.values())
    pixels = synthetic.pictures(3, 6, reference.preprocess.size)[0]
    changed = reference.features(list(pixels), plugs)
    assert not np.allclose(changed, reference.features(list(pixels)))


def test_scrambled_biases_are_refused_on_onnxruntime_before_any_work(
    tiny_rom: Path, task: Task, scrambled: Learned, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecl.heads.parts import paper

    monkeypatch.setattr(paper, "_fit", lambda *rest: pytest.fail("it began to learn"))
    with open_rom(tiny_rom, threads=1) as rom:
        with pytest.raises(RuntimeUnavailable, match=r"scrambled.*--runtime pytorch"):
            bb.learn(task, rom, bb.Config(recipe="paper", scrambled=True, epochs=1))
        with pytest.raises(RuntimeUnavailable, match=r"scrambled.*--runtime pytorch"):
            scrambled.head.answer(rom, [synthetic.pictures(3, 1, rom.preprocess.size)[0][0]])


def test_a_scrambled_head_among_others_in_one_batch(scrambled: Learned, reference: Rom) -> None:
    """It cannot share a call of the network with other plugs; the answers are those of one by one."""
    from edgecl.checks.roms import pictures, plugs_for

    batch, other = pictures(reference, 6), plugs_for(reference)
    plugs = [scrambled.head.plugs, other, None, scrambled.head.plugs, None, other]
    mixed = reference.features(batch, plugs)
    alone = np.concatenate([reference.features(batch[i : i + 1], p) for i, p in enumerate(plugs)])
    assert np.abs(mixed - alone).max() <= 1e-4 * np.abs(alone).max()


def test_a_device_that_cannot_run_a_scrambled_head_refuses_it_and_answers_for_the_rest(
    device, scrambled: Learned, task: Task
) -> None:
    """The bank may hold one: a runtime is a setting, and can be changed."""
    from edgecl.mapping.mahalanobis import Mahalanobis

    said: list[str] = []
    anchors = {"mahalanobis": Mahalanobis.anchor(task.features, task.labels, 0.05, 0)}
    data = Bundle("odd", scrambled.head, anchors, scrambled.report).to_bytes()
    edge: EdgeDevice = device(threads=1, say=said.append)
    with pytest.raises(RuntimeUnavailable, match="pytorch"):
        edge.import_bundle(data, unsigned=True)
    assert edge.bank.current() == {}
    edge.learn_pictures("plain", task.pictures, task.labels.tolist(), task.classes)
    edge.bank.put("odd", data, "import")
    assert [a.nearest_task for a in edge.answer([task.pictures[0]])] == ["plain"]
    assert any("'odd' is left out" in line and "pytorch" in line for line in said)
    assert ["odd" in problem and "pytorch" in problem for problem in edge.verify()] == [True]
    torch_edge: EdgeDevice = device(edge.home, runtime="pytorch", threads=1)
    assert torch_edge.tasks == ("odd", "plain") and torch_edge.verify() == []
