"""What goes into one pass, and whom an error hits. A thread per picture, as the service has it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from edgecl.errors import Overloaded, PictureError, RomError, UnknownTask
from edgecl.serve.batching import Batcher, BatchSettings, answer_batch
from edgecl.types import Pixels, Prediction


def pixel(value: bytes) -> Pixels:
    if not value:
        raise PictureError("empty")
    return np.full((1, 1, 3), value[0], np.uint8)


class Worker:
    """Answers with the picture's own value; holds the first batch until it is let go."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.go = threading.Event()

    def __call__(self, pixels: Sequence[Pixels], tasks: Sequence[str | None]) -> list[Prediction | Exception]:
        self.go.wait(30)
        self.sizes.append(len(pixels))
        return [Prediction(str(p[0, 0, 0]), task) for p, task in zip(pixels, tasks, strict=True)]


async def together(settings: BatchSettings, bodies: Sequence[bytes]) -> tuple[Worker, list[Any]]:
    worker = Worker()
    with ThreadPoolExecutor(1) as device:
        batcher = Batcher(pixel, worker, device, settings)
        asking = [asyncio.create_task(batcher.infer(body, str(body[:1]))) for body in bodies]
        while batcher._decoding or not batcher._drains:
            await asyncio.sleep(0.001)
        worker.go.set()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert batcher.queued == 0
        batcher.close()
    return worker, answers


def test_what_waits_when_the_device_becomes_free_goes_together_and_each_gets_its_own() -> None:
    bodies = [bytes([n]) for n in range(1, 12)]
    worker, answers = asyncio.run(together(BatchSettings(max_batch=4), bodies))
    assert sum(worker.sizes) == 11 and max(worker.sizes) <= 4 and worker.sizes.count(4) >= 2
    assert [(a.source, a.task) for a in answers] == [(str(b[0]), str(b)) for b in bodies]


def test_what_cannot_be_decoded_is_an_error_of_its_own() -> None:
    _, answers = asyncio.run(together(BatchSettings(), [b"\1", b"", b"\2"]))
    assert [type(answer) for answer in answers] == [Prediction, PictureError, Prediction]


def test_a_full_queue_says_when_to_come_again_and_frees_itself() -> None:
    _, answers = asyncio.run(together(BatchSettings(max_queue=3), [b"\1"] * 5))
    assert [type(answer) for answer in answers] == [Prediction] * 3 + [Overloaded] * 2
    assert answers[4].retry_after >= 1 and answers[4].status == 503


class Device:
    """Two tasks; a picture of value 9 blows up inside the network, 8 inside the head of 'bad'."""

    def __init__(self) -> None:
        self.passes = 0
        self.rom = self

    def features(self, pixels: Sequence[Pixels]) -> Any:
        self.passes += 1
        values = np.array([float(p[0, 0, 0]) for p in pixels], np.float32)
        if 9 in values:
            raise RomError("non-finite")
        return values[:, None]

    def head(self, task: str) -> None:
        if task not in ("good", "bad"):
            raise UnknownTask(task)

    def answer_features(self, features: Any, task: str | None, pixels: Sequence[Pixels]) -> list[Prediction]:
        if 8 in features and task == "bad":
            raise RomError("head")
        return [Prediction(str(int(value)), task) for value in features[:, 0]]


def answered(values: Sequence[int], tasks: Sequence[str | None]) -> tuple[Device, list[Any]]:
    device = Device()
    answers: list[Any] = answer_batch(device, [pixel(bytes([v])) for v in values], tasks)  # type: ignore[arg-type]
    return device, answers


def test_one_pass_serves_all_tasks_in_order() -> None:
    device, answers = answered([1, 2, 3, 4], [None, "good", None, "bad"])
    assert device.passes == 1
    assert [(a.source, a.task) for a in answers] == [("1", None), ("2", "good"), ("3", None), ("4", "bad")]


@pytest.mark.parametrize(
    ("values", "tasks", "wrong"),
    [
        ([1, 9, 3], [None, None, None], {1: RomError}),
        ([1, 8, 3, 8], ["good", "bad", "bad", None], {1: RomError}),
        ([1, 2, 3], ["none", None, "none"], {0: UnknownTask, 2: UnknownTask}),
        ([9], [None], {0: RomError}),
    ],
)
def test_an_error_hits_only_the_pictures_it_belongs_to(
    values: list[int], tasks: list[str | None], wrong: dict[int, type]
) -> None:
    _, answers = answered(values, tasks)
    for row, answer in enumerate(answers):
        assert isinstance(answer, wrong.get(row, Prediction))


def test_no_pass_is_spent_on_a_task_that_is_not_there() -> None:
    device, _ = answered([1], ["none"])
    assert device.passes == 0
