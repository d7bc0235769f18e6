"""Faults as they happen to devices: power that goes away in the middle of a write, a disk that is full or read-only.

A power cut is a process that the kernel ends at a chosen moment, without a chance to clean up:

    if cut_at_call(120).strikes(lambda: learn_something(home)):
        ...  # the child died at its 120th system call; look at what it left

| cut                     | moment                                                                    | same each time |
|-------------------------|---------------------------------------------------------------------------|-----|
| `cut_at_call(k)`        | before the k-th system call: between any two writes, syncs, truncations   | yes |
| `cut_at_instruction(k)` | at the k-th step of SQLite's machine: between what a statement does       | yes |
| `cut_at_byte(offset)`   | in the middle of a write, once `offset` bytes of it are in the file: torn | yes |
| `cut_after(seconds)`    | wherever the program is by then, inside the kernel too                    | no  |

Files change by system calls only, so `cut_at_call` with k = 1, 2, ... `count(cut_at_call, operation)` meets every state
that a kill can leave behind; `cut_at_byte` adds those within one call.

What is not simulated: a killed process loses nothing that it handed to the kernel, a dead board also loses what was not
synced. A program that syncs before it reports is safe from both; cut and then shorten the file to see the difference.

`strikes` forks, so it wants a process without threads (no onnxruntime, no torch). For those start a fresh interpreter,
call `arm()` in it, then the operation, and compare its return code with `-cut.signal`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_TRACEME, _SYSCALL, _SETOPTIONS = 0, 24, 0x4200  # requests of ptrace(2)
_SYSGOOD, _EXITKILL = 0x1, 0x10_0000  # its options
_CALL_STOP = signal.SIGTRAP | 0x80  # what a stop at a system call is told by, with _SYSGOOD
_PAGE = 4096  # of an SQLite file, unless it was made otherwise


@dataclass(frozen=True)
class PowerCut:
    """One way for a process to end. `arm` prepares it in the process that is to die; nothing disarms it."""

    name: str
    signal: signal.Signals  # that the process dies of
    arm: Callable[[], None]
    seen: memoryview = field(default_factory=lambda: memoryview(mmap.mmap(-1, 8)).cast("q"))  # [0]: events, over forks

    def strikes(self, operation: Callable[[], object]) -> bool:
        """Run `operation` in a forked child under this cut: True if it died of it, False if it was through before.

        The child leaves by `os._exit`: what the operation left open is not closed, as on a board that is switched off.
        Raises ChildProcessError when the child failed in another way; its traceback is on standard error.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            status = 1
            try:
                gc.disable()  # its passes come at random and make system calls of their own
                self.arm()
                operation()
                status = 0
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status not in (0, -self.signal):
            raise ChildProcessError(f"{self.name}: the child ended with {status}, not with 0 or {-self.signal}")
        return status != 0


def count(cut_at: Callable[[int], PowerCut], operation: Callable[[], object]) -> int:
    """How many moments `cut_at_call` or `cut_at_instruction` has in `operation`, which a forked child does for it."""
    cut = cut_at(sys.maxsize)
    if cut.strikes(operation):
        raise ChildProcessError(f"the operation was ended by signal {cut.signal}, which was not this cut")
    return int(cut.seen[0])


def cut_at_call(k: int) -> PowerCut:
    """Die before the k-th system call from now, k >= 1. Linux, where ptrace is allowed."""
    cut = PowerCut(f"cut at system call {k}", signal.SIGKILL, lambda: _trace(k, cut.seen))
    return cut


def cut_at_instruction(k: int) -> PowerCut:
    """Die at the k-th progress report, k >= 1, of SQLite's virtual machine, over all connections opened from now on.

    The machine reports at every jump and at the end of a statement, not at each opcode.
    """

    def report() -> int:
        cut.seen[0] += 1
        if cut.seen[0] == k:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    def arm() -> None:
        cut.seen[0] = 0
        _with_connections(lambda db: db.set_progress_handler(report, 1))

    cut = PowerCut(f"cut at SQLite instruction {k}", signal.SIGKILL, arm)
    return cut


def cut_at_byte(offset: int) -> PowerCut:
    """Die when any file is written past `offset`, in bytes from its start; all before `offset` still gets written.

    A write-ahead log begins at 0 after each checkpoint, so an `offset` below its final size tears one of its frames.
    Above that size and below the database's, it tears a page while a checkpoint copies it.
    """

    def arm() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        resource.setrlimit(resource.RLIMIT_FSIZE, (offset, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    return PowerCut(f"cut at byte {offset}", signal.SIGXFSZ, arm)


def cut_after(seconds: float) -> PowerCut:
    """Die this long from now."""

    def arm() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the kernel ends the process; no Python code runs
        signal.setitimer(signal.ITIMER_REAL, seconds)

    return PowerCut(f"cut after {seconds} s", signal.SIGALRM, arm)


@contextlib.contextmanager
def small_disk(folder: Path, size: int, real: bool | None = None) -> Iterator[str]:
    """Let `folder` hold only `size` bytes meanwhile; yields how: "tmpfs" or "max_page_count".

    tmpfs: a file system of its own (hides what the folder held; gone afterwards), which needs root; every write can
    fail. max_page_count: SQLite refuses to let a database opened meanwhile, wherever it lies, grow beyond; its log may.
    real: True insists on tmpfs (CalledProcessError when refused), False on the other, None takes what can be had.
    """
    if real is not False:
        with contextlib.ExitStack() as mounted:
            try:
                mounted.enter_context(_mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "edgecl-small"))
            except (subprocess.CalledProcessError, FileNotFoundError):
                if real:
                    raise
            else:
                yield "tmpfs"
                return
    former = _with_connections(lambda db: db.execute(f"PRAGMA max_page_count = {size // _PAGE}"))
    try:
        yield "max_page_count"
    finally:
        sqlite3.connect = former


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[str]:
    """Let nothing in `folder` be written meanwhile; yields how: "mount" (root) or "mode" (rights)."""
    if os.geteuid() == 0:
        with _mounted(folder, "--bind", str(folder)):
            subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True, capture_output=True)
            yield "mount"
        return
    modes = {path: path.stat().st_mode for path in (folder, *folder.iterdir())}
    try:
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        yield "mode"
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


# -- inside


def _with_connections(do: Callable[[sqlite3.Connection], object]) -> Any:
    """Do that to every SQLite connection that this process opens from now on. Returns the former `sqlite3.connect`."""
    former: Any = sqlite3.connect

    def connect(*arguments: Any, **named: Any) -> sqlite3.Connection:
        db: sqlite3.Connection = former(*arguments, **named)
        do(db)
        return db

    sqlite3.connect = connect  # type: ignore[assignment]
    return former


@contextlib.contextmanager
def _mounted(folder: Path, *arguments: str) -> Iterator[None]:
    subprocess.run(["mount", *arguments, str(folder)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


def _trace(k: int, seen: memoryview) -> None:
    """Go on in a child; this process lets it run from system call to system call, and ends as the child does."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    seen[0] = 0
    child = os.fork()
    if not child:
        if libc.ptrace(_TRACEME, 0, None, None):
            raise OSError(ctypes.get_errno(), "ptrace is not allowed here, so there is no cut at a system call")
        os.kill(os.getpid(), signal.SIGSTOP)  # until the other has taken the thread up
        return
    _, status = os.waitpid(child, 0)
    libc.ptrace(_SETOPTIONS, child, None, _SYSGOOD | _EXITKILL)
    stops = 0
    while os.WIFSTOPPED(status):
        by = os.WSTOPSIG(status)
        stops += by == _CALL_STOP
        seen[0] = (stops + 1) // 2  # each call stops twice, before and after
        if seen[0] == k:
            os.kill(child, signal.SIGKILL)
        libc.ptrace(_SYSCALL, child, None, None if by in (_CALL_STOP, signal.SIGSTOP, signal.SIGTRAP) else by)
        _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        with contextlib.suppress(OSError):  # SIGKILL has no handler to reset
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))
