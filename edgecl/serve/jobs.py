"""Learning as a job: a process of its own, so that its memory goes with it and its crash hurts nobody.

One learns at a time. What it commits, the service finds in the bank like anything another process has put there. To stop it is
to press Ctrl-C: methods that can, keep the best so far; the others change nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecl.errors import Overloaded, RequestRefused
from edgecl.text import printable

STATES = ("queued", "running", "done", "failed", "cancelled")
_KEPT = 100  # jobs that have ended, remembered
_SAID = 20  # lines of a job, remembered
_LONGEST_LINE = 1 << 16  # bytes
_LARGEST_REPORT = 16 << 20  # bytes; it names every picture that was left out
_NICENESS = 10  # answers go before learning


@dataclass(frozen=True)
class LearnRequest:
    """What shall be learned; checked already. budget: seconds.   max_bytes: of the bundle."""

    task: str
    data: Path
    method: str = "linear"
    seed: int = 0
    budget: float | None = None
    max_bytes: int | None = None

    def arguments(self) -> list[str]:
        """For `edgecl learn`. With `=`, so that no value is ever taken for an option."""
        words = [f"--task={self.task}", f"--data={self.data}", f"--method={self.method}", f"--seed={self.seed}"]
        if self.budget is not None:
            words.append(f"--budget={self.budget:.3f}s")
        if self.max_bytes is not None:
            words.append(f"--max-bytes={self.max_bytes}")
        return words


@dataclass(eq=False)
class Job:
    """One learning. stage, done, total: how far it is.   report: of `edgecl learn`, when it is done.

    interrupted: it was asked to stop; when it is done all the same, its report is of the best until then.
    """

    request: LearnRequest
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    state: str = "queued"
    stage: str = ""
    done: int = 0
    total: int = 0
    interrupted: bool = False
    report: dict[str, Any] | None = None
    error: dict[str, str] | None = None
    said: deque[str] = field(default_factory=lambda: deque(maxlen=_SAID))
    process: asyncio.subprocess.Process | None = None

    @property
    def ended(self) -> bool:
        """Nothing more will happen."""
        return self.state in ("done", "failed", "cancelled")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "id": self.id,
            "task": self.request.task,
            "method": self.request.method,
            "state": self.state,
            "interrupted": self.interrupted,
            "progress": {"stage": self.stage, "done": self.done, "total": self.total},
            "said": list(self.said),
            "report": self.report,
            "error": self.error,
        }


class Jobs:
    """The line of learnings. options: for `edgecl learn`, the same device's as the service's.   home: of the device.

    patience: seconds that a job has to end after it was asked to; then it is killed.
    """

    def __init__(self, home: Path, options: Sequence[str] = (), max_queued: int = 8, patience: float = 60.0) -> None:
        self._home, self._options, self._max_queued, self._patience = home, list(options), max_queued, patience
        self._jobs: dict[str, Job] = {}
        self._waiting: asyncio.Queue[Job] = asyncio.Queue()
        self._runner: asyncio.Task[None] | None = None
        self._closing = False

    def submit(self, request: LearnRequest) -> Job:
        """Put it at the end of the line. Raises Overloaded when the line is full."""
        if self._closing or self.count("queued") >= self._max_queued:
            raise Overloaded(f"{self.count('queued')} learnings are waiting, and no more are taken; ask again later", 30)
        job = Job(request)
        self._jobs[job.id] = job
        ended = [old.id for old in self._jobs.values() if old.ended]
        for old in ended[: max(0, len(ended) - _KEPT)]:
            del self._jobs[old]
        self._waiting.put_nowait(job)
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        return job

    def get(self, name: str) -> Job:
        """Raises RequestRefused (404)."""
        if name not in self._jobs:
            raise RequestRefused(
                f"there is no job '{printable(name, 40)}'; the last {_KEPT} are remembered", 404, "unknown-job"
            )
        return self._jobs[name]

    def all(self) -> list[Job]:
        """Oldest first."""
        return list(self._jobs.values())

    def count(self, state: str) -> int:
        """How many are in that state."""
        return sum(job.state == state for job in self._jobs.values())

    def cancel(self, name: str) -> Job:
        """Take it out of the line, or ask it to stop; what has ended stays as it is."""
        job = self.get(name)
        if job.state == "queued":
            job.state, job.interrupted = "cancelled", True
        elif job.state == "running" and not job.interrupted:
            job.interrupted = True
            _signal(job, signal.SIGINT)
            asyncio.get_running_loop().call_later(self._patience, _signal, job, signal.SIGKILL)
        return job

    async def close(self) -> None:
        """Cancel all, and wait until the one that runs has ended."""
        self._closing = True
        for job in self.all():
            self.cancel(job.id)
        if self._runner is not None:
            while any(not job.ended for job in self.all()):
                await asyncio.sleep(0.02)
            self._runner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._runner

    async def _run(self) -> None:
        while True:
            job = await self._waiting.get()
            if job.state != "queued":
                continue
            job.state = "running"
            try:
                await self._learn(job)
            except OSError as error:
                job.error = {"error": f"the learning could not be started: {error}", "kind": "OSError", "reason": ""}
                job.state = "failed"
            finally:
                job.process = None

    async def _learn(self, job: Job) -> None:
        command = [sys.executable, "-m", "edgecl", "learn", *job.request.arguments(), *self._options]
        process = await asyncio.create_subprocess_exec(
            *command,
            "--json",
            "--progress=json",
            env={**os.environ, "EDGECL_HOME": str(self._home)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the service's terminal reaches it once, from here
        )
        job.process = process
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
        if job.interrupted:  # between the line and the start
            _signal(job, signal.SIGINT)
        assert process.stdout and process.stderr
        said, _ = await asyncio.gather(_bounded(process.stdout), self._listen(job, process.stderr))
        code = await process.wait()
        if code == 0:
            job.report, job.state = _report(said), "done"
        elif job.interrupted:
            job.state = "cancelled"
        else:
            job.error, job.state = _error(job, code), "failed"

    async def _listen(self, job: Job, stream: asyncio.StreamReader) -> None:
        async for line in _lines(stream):
            progress = _progress(line)
            if progress:
                job.stage, job.done, job.total = progress
            elif line.strip():
                job.said.append(printable(line.strip(), 1000))


def _signal(job: Job, number: int) -> None:
    if job.process is not None and job.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            job.process.send_signal(number)


async def _bounded(stream: asyncio.StreamReader) -> bytes:
    """All of it, as far as a report may be long; the rest is read and dropped."""
    kept = bytearray()
    while chunk := await stream.read(1 << 16):
        kept += chunk[: max(0, _LARGEST_REPORT - len(kept))]
    return bytes(kept)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    rest = b""
    while chunk := await stream.read(1 << 16):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
        rest = rest[-_LONGEST_LINE:]
    if rest:
        yield rest.decode(errors="replace")


def _progress(line: str) -> tuple[str, int, int] | None:
    if not line.startswith('{"stage"'):
        return None
    try:
        said = json.loads(line)
        return str(said["stage"]), int(said["done"]), int(said["total"])
    except (ValueError, KeyError, TypeError):
        return None


def _report(said: bytes) -> dict[str, Any]:
    try:
        found = json.loads(said)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def _error(job: Job, code: int) -> dict[str, str]:
    """The sentence with which `edgecl learn` ended: "DataError: 'birds' has ..."."""
    if code < 0:
        return {"error": f"the learning was killed by signal {-code}; is there enough memory?", "kind": "Killed", "reason": ""}
    kind, colon, words = (job.said[-1] if job.said else "").partition(": ")
    if not colon or not kind.isidentifier():
        kind, words = "EdgeclError", job.said[-1] if job.said else f"it ended with exit code {code} and said nothing"
    return {"error": words, "kind": kind, "reason": ""}


def learn_options(options: Mapping[str, object]) -> list[str]:
    """The device's options of the service as words for `edgecl learn`."""
    return [f"--{name}={value}" for name, value in options.items() if value is not None]
