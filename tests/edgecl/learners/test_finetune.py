"""Full fine-tuning, the ceiling of the tables: it moves all weights of its own network and none of the ROM's."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="fine-tuning is done in PyTorch; pip install 'edgecl[learn]'")

from edgecl.checks import synthetic
from edgecl.errors import ConfigError
from edgecl.evaluate import FINETUNE, evaluate
from edgecl.heads.base import Session
from edgecl.heads.parts.folded import FoldedNetwork
from edgecl.heads.parts.recipe import read_pixels
from edgecl.learners.finetune import FineTuned
from edgecl.rom.base import Rom
from edgecl.rom.image import WEIGHTS
from edgecl.rom.pytorch import load_network
from edgecl.streams.folders import find_tasks
from edgecl.types import Task

EPOCHS = 3


@pytest.fixture(scope="module")
def task(rom: Rom) -> Task:
    return synthetic.pictures_task(rom, 3, 8)


@pytest.fixture(scope="module")
def told() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture(scope="module")
def tuned(rom: Rom, task: Task, told: list[tuple[str, int, int]]) -> FineTuned:
    return FineTuned(task, rom, 0, epochs=EPOCHS, session=Session(progress=lambda *what: told.append(what)))


def test_it_learns_and_says_how_far_it_is(tuned: FineTuned, rom: Rom, told: list[tuple[str, int, int]]) -> None:
    assert len(tuned.losses) == EPOCHS and tuned.losses[-1] < tuned.losses[0]
    assert told[-1] == ("fine-tuning the network", 24 * EPOCHS, 24 * EPOCHS)
    new = synthetic.pictures_task(rom, 3, 8, seed=1)
    scores = tuned.scores(new.features, tuned.features(read_pixels(new, rom)))
    assert scores.shape == (24, 3) and scores.dtype == np.float32
    assert (scores.argmax(1) == new.labels).mean() > 0.9


def test_every_weight_and_offset_of_every_convolution_moves(tuned: FineTuned, rom: Rom) -> None:
    plain = dict(FoldedNetwork(rom.image, {}, weights=True).parameters())
    moved = dict(tuned._network.parameters())
    assert set(moved) == {f"{kind}/{s.name}" for s in rom.image.sockets for kind in ("weight", "offset")}
    assert [name for name, value in moved.items() if bool((value == plain[name]).all())] == []


def test_the_rom_stays_as_it_is(tuned: FineTuned, rom: Rom, task: Task) -> None:
    rom.image.read(WEIGHTS)  # refuses a file that differs from its digest
    pixels = read_pixels(task, rom)
    assert np.array_equal(rom.features(pixels), task.features)
    assert not np.allclose(tuned.features(pixels), task.features, rtol=1e-2)


def test_it_is_counted_with_every_weight(tuned: FineTuned, rom: Rom) -> None:
    weights = sum(value.numel() for _, value in tuned._network.parameters())
    state = load_network(rom.image).state_dict().values()
    assert weights == sum(v.numel() for v in state if v.ndim == 4) + sum(s.channels for s in rom.image.sockets)
    assert tuned.nbytes == 4 * (weights + 3 * 2 * rom.width + 3)


def test_the_same_seed_gives_the_same_network(rom: Rom, task: Task) -> None:
    scores = []
    for _ in range(2):
        one = FineTuned(task, rom, 5, epochs=1)
        scores.append(one.scores(task.features, one.features(read_pixels(task, rom))))
    assert np.array_equal(*scores)


def test_evaluate_judges_it_in_place_of_heads(device, pictures_task, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mapper's part is as with heads; bytes and seconds are those of whole networks; old answers stay bit for bit."""
    monkeypatch.setitem(FineTuned.__init__.__kwdefaults__, "epochs", 1)
    root = next(iter(pictures_task.values())).parent
    some = [task for task in find_tasks(root) if task.name in ("stripes", "shapes")]
    result = evaluate(device(threads=1), some, method=FINETUNE)
    assert result.conditions["method"] == FINETUNE
    assert result.summary["old_answers_bit_identical"] == 1 and result.summary["forgetting"] == 0
    assert result.summary["bytes_per_task"] > 390_000 and result.summary["oracle"] > 0.8
    with pytest.raises(ConfigError, match="--unknown-classes"):
        evaluate(device(threads=1), some, method=FINETUNE, unknown_classes=True)
