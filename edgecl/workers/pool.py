"""Ops handed to workers by name, the same for all kinds.

    with Pool("processes", "firmware_sim.host:Host", {"rom": "rom/"}, workers=4) as pool:
        done = pool.submit("learn", {"agent": "agent-007", "task": "birds"}, affinity=7, homes=[home])
        print(done.result())

Each worker calls the start once with the settings; what it gives has a method for each op. Arguments and results are plain
JSON values.

Rules
- A worker does its ops one after another, in the order of their submission; `affinity` chooses it.
- An op names the homes that it touches. Ops on the same home run in the order of their submission, whichever workers they have.
- A worker that dies is replaced, and the op it was at is run again from its beginning, with its homes put back to what they
  were before it. Other workers are told to `forget` these homes first, that is to close what they have open there, so a host
  whose ops name homes has a method `forget(homes)`. Homes are on a disk that the pool and all workers see.
- The process that has the pool keeps no bank of these homes open (why: `homes`).
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from edgecl.errors import ConfigError, WorkerLost
from edgecl.workers import calls
from edgecl.workers.base import Cluster, Worker, WorkerDied
from edgecl.workers.homes import Home, read_home, restore
from edgecl.workers.local import Here
from edgecl.workers.processes import Child

KINDS = ("local", "processes", "ray")
FORGET = "forget"
_TRIES = 3  # an op whose workers die that often is what kills them


@dataclass(frozen=True)
class _Op:
    name: str
    text: str
    homes: tuple[Path, ...]
    after: tuple[Future[Any], ...]  # earlier ops on the same homes
    done: Future[Any]


class Pool:
    """Workers of one kind. Ends them all when it is closed, also by an error or Ctrl-C; ops not done are then cancelled."""

    def __init__(
        self,
        kind: str,
        start: str,
        settings: Mapping[str, Any],
        workers: int | None = None,
        most: int | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        """start: "module:function".   workers: how many; local has one. None: one for each core, or for each GPU of the cluster
        where a worker has one to itself, but no more than `most`.

        Returns when all workers are up. Raises what the start raises, ConfigError, MissingDependency without ray, or
        RuntimeUnavailable where the cluster cannot be had.
        """
        if kind not in KINDS:
            raise ConfigError(f"there is no kind of workers '{kind}'; known are {', '.join(KINDS)}")
        if workers is not None and workers < 1:
            raise ConfigError(f"at least 1 worker is needed, got {workers}")
        self.kind = kind
        self._last: dict[str, Future[Any]] = {}  # by home
        self._ray: Any = None
        self._lanes: list[_Lane] = []
        if kind == "local":
            self._here = Here(start, settings)
            self._here.start()
            return
        make: Callable[[str, Mapping[str, Any]], Worker] = Child
        if kind == "ray":
            from edgecl.workers.on_ray import Joined

            self._ray = Joined(cluster or Cluster())
            make = self._ray.worker
        try:
            room = self._ray.room(workers) if self._ray else os.cpu_count() or 1
            count = workers or min(room, most or room)
            self._lanes = [_Lane(make(start, settings)) for _ in range(count)]
            for lane in self._lanes:
                lane.others = [other for other in self._lanes if other is not lane]
                lane.start()
            for lane in self._lanes:
                lane.ready.result()
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """How many there are."""
        return len(self._lanes) or 1

    def submit(self, op: str, arguments: Mapping[str, Any], affinity: int = 0, homes: Iterable[str | Path] = ()) -> Future[Any]:
        """Have `op` run by worker number affinity modulo their count; local runs it before this returns.

        homes: folders of devices that the op touches.   The future raises the op's EdgeclError as it was, RuntimeError for
        any other error, WorkerLost when the op has ended several workers, CancelledError when the pool was closed before.
        """
        text = calls.request(op, arguments)
        done: Future[Any] = Future()
        if self.kind == "local":
            _settle(done, self._here.call(text))
            return done
        places = tuple(Path(os.path.abspath(home)) for home in homes)
        after = tuple(last for place in places if (last := self._last.get(str(place))) and not last.done())
        self._last.update(dict.fromkeys(map(str, places), done))
        self._lanes[affinity % len(self._lanes)].ops.put(_Op(op, text, places, after, done))
        return done

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers as they are now; for tests and for people who look."""
        return [lane.worker.pid for lane in self._lanes] or [os.getpid()]

    def close(self) -> None:
        """End all workers."""
        if self.kind == "local":
            self._here.stop()
        for lane in self._lanes:
            lane.closing.set()
            lane.ops.put(None)
        for lane in self._lanes:
            lane.worker.stop()
        for lane in self._lanes:
            if lane.ident:
                lane.join()
            lane.worker.stop()  # what it has begun in between
        if self._ray:
            self._ray.leave()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class _Lane(threading.Thread):
    """Feeds one worker, and replaces it."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(daemon=True)
        self.worker = worker
        self.ops: queue.SimpleQueue[_Op | None] = queue.SimpleQueue()
        self.ready: Future[None] = Future()
        self.closing = threading.Event()
        self.others: Sequence[_Lane] = ()
        self.at_work = threading.Lock()  # holds for a call; what recovers elsewhere comes in between

    def run(self) -> None:
        try:
            self.worker.start()
            self.ready.set_result(None)
        except BaseException as error:
            self.ready.set_exception(_lost("starting", 1) if isinstance(error, WorkerDied) else error)
        while op := self.ops.get():
            wait(op.after)
            if self.closing.is_set():
                op.done.cancel()
            if not op.done.set_running_or_notify_cancel():
                continue
            try:
                reply = self._do(op)
            except BaseException as error:
                op.done.set_exception(error)
            else:
                _settle(op.done, reply)

    def _do(self, op: _Op) -> str:
        before = [read_home(home) for home in op.homes]
        for _ in range(_TRIES):
            try:
                with self.at_work:
                    return self.worker.call(op.text)
            except WorkerDied:
                if self.closing.is_set():
                    raise CancelledError from None
                self._recover(before)
        raise _lost(f"'{op.name}'", _TRIES)

    def _recover(self, before: Sequence[Home]) -> None:
        if before:
            told = calls.request(FORGET, {"homes": [str(home.path) for home in before]})
            for other in self.others:
                with other.at_work, contextlib.suppress(WorkerDied):  # a dead one has nothing open; its own lane finds out
                    calls.result(other.worker.call(told))
            for home in before:
                restore(home)
        with self.at_work:
            try:
                self.worker.start()
            except WorkerDied:
                raise _lost("starting", 1) from None


def _settle(done: Future[Any], reply: str) -> None:
    try:
        done.set_result(calls.result(reply))
    except Exception as error:
        done.set_exception(error)


def _lost(what: str, times: int) -> WorkerLost:
    return WorkerLost(
        f"{times} worker{'s' * (times > 1)} died at {what}, without a word; look for what ends them (out of memory?) in the "
        f"system's log, or use fewer workers"
    )
