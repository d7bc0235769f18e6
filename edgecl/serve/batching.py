"""Pictures of many requests in one pass of the ROM.

A picture is decoded in a small pool and waits; when the device's thread is free it takes all that wait, up to `max_batch`, in
one pass. So a lone picture waits for nobody, and the busier the device, the larger the batches. Between decoding, the device
and the next batch nothing goes through the event loop, which has clients to talk to.

Places in the queue are counted from the moment a picture is taken until nobody works on it any more. Whose client has gone
leaves the queue, and what is already in work is let go at its next step.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from edgecl.device import EdgeDevice
from edgecl.errors import EdgeclError, Overloaded
from edgecl.types import Pixels, Prediction

_WEIGHT = 0.1  # of the newest batch in the measured pace


@dataclass(frozen=True)
class BatchSettings:
    """How pictures are put together."""

    max_batch: int = 16  # pictures
    max_queue: int = 64  # pictures taken and not answered, all stages
    delay: float = 0.0  # seconds that a batch with room in it waits for pictures that are being decoded
    decoders: int = min(2, os.cpu_count() or 1)  # threads; each may hold one picture at full size


@dataclass(eq=False)
class _Waiting:
    """One picture on its way. data is let go once it is decoded."""

    data: bytes
    task: str | None
    future: asyncio.Future[Prediction]
    pixels: Pixels | None = None
    outcome: Prediction | Exception | None = None


class Batcher:
    """answer: pixels and tasks of a batch -> an answer or an error for each, run on `worker`, which has one thread.

    observe: told the size of each batch.
    """

    def __init__(
        self,
        decode: Callable[[bytes], Pixels],
        answer: Callable[[Sequence[Pixels], Sequence[str | None]], Sequence[Prediction | Exception]],
        worker: Executor,
        settings: BatchSettings,
        observe: Callable[[int], None] = lambda size: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._decode, self._answer, self._worker, self.settings = decode, answer, worker, settings
        self._observe, self._clock = observe, clock
        self._loop = asyncio.get_running_loop()
        self._decoders = ThreadPoolExecutor(settings.decoders, "edgecl-decode")
        self._decoded = threading.Condition()  # guards what follows
        self._ready: deque[_Waiting] = deque()
        self._decoding = 0
        self._drains = False  # `_drain` runs or is about to
        self._places = 0  # taken; changed on the event loop only
        self._pace = 0.01  # seconds a picture, measured

    @property
    def queued(self) -> int:
        """Pictures taken and not answered."""
        return self._places

    @property
    def retry_after(self) -> float:
        """Seconds after which what waits now will be answered."""
        return self._places * self._pace

    async def infer(self, data: bytes, task: str | None = None) -> Prediction:
        """The answer for one encoded picture. Raises Overloaded, PictureError, and what the device raises for it alone."""
        if self._places >= self.settings.max_queue:
            raise Overloaded(f"{self._places} pictures are waiting, and no more are taken; ask again later", self.retry_after)
        item = _Waiting(data, task, self._loop.create_future())
        self._places += 1
        with self._decoded:
            self._decoding += 1
        self._decoders.submit(self._decode_one, item)
        try:
            return await item.future
        except asyncio.CancelledError:
            item.data = b""
            with self._decoded:
                if item in self._ready:
                    self._ready.remove(item)
                    self._places -= 1
            raise

    def close(self) -> None:
        """Decode no more. Before it, what was taken must have been answered."""
        self._decoders.shutdown(wait=True, cancel_futures=True)

    # -- on the decoders' threads

    def _decode_one(self, item: _Waiting) -> None:
        if not item.future.cancelled():
            try:
                item.pixels = self._decode(item.data)
            except Exception as error:
                item.outcome = error
        item.data = b""
        with self._decoded:
            self._decoding -= 1
            good = item.pixels is not None and not item.future.cancelled()
            if good:
                self._ready.append(item)
                if not self._drains:
                    self._drains = True
                    self._worker.submit(self._drain)
            self._decoded.notify()
        if not good:
            self._loop.call_soon_threadsafe(self._deliver, [item])

    # -- on the device's thread

    def _drain(self) -> None:
        """Answer one batch. More go to the end of the worker's own queue, so that other work gets its turn."""
        batch = self._take()
        if batch:
            began = self._clock()
            try:
                outcomes = self._answer([item.pixels for item in batch if item.pixels is not None], [i.task for i in batch])
            except Exception as error:
                outcomes = [error] * len(batch)
            for item, outcome in zip(batch, outcomes, strict=True):
                item.outcome, item.pixels = outcome, None
            self._pace += _WEIGHT * ((self._clock() - began) / len(batch) - self._pace)
            self._loop.call_soon_threadsafe(self._deliver, batch)
            self._observe(len(batch))
        with self._decoded:
            self._drains = bool(self._ready)
            if self._drains:
                self._worker.submit(self._drain)

    def _take(self) -> list[_Waiting]:
        settings = self.settings
        with self._decoded:
            if settings.delay:
                until = self._clock() + settings.delay
                while self._decoding and len(self._ready) < settings.max_batch and (left := until - self._clock()) > 0:
                    self._decoded.wait(left)
            return [self._ready.popleft() for _ in range(min(len(self._ready), settings.max_batch))]

    # -- on the event loop

    def _deliver(self, items: Sequence[_Waiting]) -> None:
        self._places -= len(items)
        for item in items:
            if item.future.done():
                continue
            if isinstance(item.outcome, Prediction):
                item.future.set_result(item.outcome)
            else:
                item.future.set_exception(item.outcome or EdgeclError("the picture was not answered for"))


def answer_batch(device: EdgeDevice, pixels: Sequence[Pixels], tasks: Sequence[str | None]) -> list[Prediction | Exception]:
    """An answer or an error for each picture: one pass of the ROM for all, one call of the device for each task named.

    What fails for several is asked again one by one, so that an error hits only the pictures it belongs to.
    """
    outcomes: list[Prediction | Exception | None] = [None] * len(pixels)
    groups: dict[str | None, list[int]] = {}
    for row, task in enumerate(tasks):
        groups.setdefault(task, []).append(row)
    for task in [task for task in groups if task is not None]:
        try:
            device.head(task)  # before a pass of the ROM is spent on a task that is not there
        except Exception as error:
            for row in groups.pop(task):
                outcomes[row] = error
    rows = sorted(row for group in groups.values() for row in group)
    if rows:
        try:
            features = device.rom.features([pixels[row] for row in rows])
            place = {row: at for at, row in enumerate(rows)}
            for task, group in groups.items():
                shown = [pixels[row] for row in group]
                answers = device.answer_features(features[[place[row] for row in group]], task, shown)
                for row, answer in zip(group, answers, strict=True):
                    outcomes[row] = answer
        except Exception as error:
            for row in rows:
                if outcomes[row] is None:
                    outcomes[row] = error if len(rows) == 1 else answer_batch(device, [pixels[row]], [tasks[row]])[0]
    return [outcome if outcome is not None else EdgeclError("the device gave no answer") for outcome in outcomes]


def warm_up(device: EdgeDevice) -> None:
    """The first pass of a runtime takes longer than all others; nobody should wait for it."""
    size = device.rom.preprocess.size
    device.rom.features(np.zeros((1, size, size, 3), np.uint8))
