"""`edgecl teach`: labelled pictures, one at a time as they come -> a head that is committed again and again."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecl.cli.common import (
    DeviceOption,
    JsonOption,
    MapperOption,
    RomOption,
    RuntimeOption,
    ThreadsOption,
    amount,
    open_device,
    say,
    seconds,
)
from edgecl.errors import DataError, PictureError
from edgecl.text import printable, size

if TYPE_CHECKING:
    from edgecl.learning import LearnReport
    from edgecl.pictures.labelled import Labelled
    from edgecl.teaching.base import Taught
    from edgecl.teaching.session import Teaching

_LOOK = 1.0  # seconds between looks at a watched folder; a picture is taught at the second look that finds it the same


def teach(
    task: Annotated[str, typer.Option("--task", help="Name of the task; a known one is taught on, an unknown one begins.")],
    watch: Annotated[
        Path | None, typer.Option("--watch", help="Folder per class: teach what lies there and what appears, until Ctrl-C.")
    ] = None,
    every: Annotated[int, typer.Option("--every", min=1, help="Pictures after which what is new is committed.")] = 50,
    after: Annotated[str, typer.Option("--seconds", help="Time after which it is, such as 30s or 2m.")] = "30s",
    max_bytes: Annotated[
        str | None, typer.Option("--max-bytes", help="Size of head, anchors and card, such as 200k: kept, by fewer keys.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of a task that begins: the same pictures then give the same head.")] = 0,
    rom: RomOption = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    mapper: MapperOption = None,
    as_json: JsonOption = False,
) -> None:
    """Teach a task picture by picture, from lines on stdin: {"path": ..., "label": ...}, or the path, a tab and the label.

    What was learned is committed every so often, at the end, and on Ctrl-C. Giving pictures again teaches nothing twice.
    """
    limit = None if max_bytes is None else int(amount(max_bytes, "--max-bytes"))
    wait = seconds(after, "--seconds")
    with (
        open_device(rom=rom, runtime=runtime, device=device, threads=threads, mapper=mapper) as edge,
        _stopped() as stopped,
        edge.teach(task, every=every, seconds=wait, seed=seed, max_bytes=limit) as teaching,
    ):
        talk = _Talk(teaching, as_json)
        for item in _lines() if watch is None else _watched(watch, stopped):
            if item is None:
                talk.committed(teaching.commit_if_due())
            else:
                talk.teach(item)
            if stopped:
                break
        talk.end(teaching.commit())
    if stopped:
        raise KeyboardInterrupt
    if talk.failed:
        raise PictureError(f"{talk.failed} of the lines or pictures could not be taught; the others were")


def _lines() -> Iterator[Labelled | None]:
    from edgecl.pictures.labelled import lines

    if sys.stdin is None:
        raise DataError("standard input is closed; give it lines of path and label, or a folder with --watch")
    return lines(sys.stdin.fileno())


def _watched(folder: Path, stopped: list[int]) -> Iterator[Labelled | None]:
    from edgecl.pictures.labelled import Watch

    watch = Watch(folder)
    while not stopped:
        yield from watch.look()
        yield None
        due = time.monotonic() + _LOOK
        while not stopped and time.monotonic() < due:
            time.sleep(0.05)


@contextmanager
def _stopped() -> Iterator[list[int]]:
    """A list in which SIGINT and SIGTERM appear: both end the teaching between two pictures, with a commit."""
    came: list[int] = []
    former = {n: signal.signal(n, lambda number, frame: came.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class _Talk:
    """Teaches what comes, and says what became of it."""

    def __init__(self, teaching: Teaching, as_json: bool) -> None:
        self.failed = self.learned = self.known = self.asked = self.right = 0
        self._teaching, self._json = teaching, as_json

    def teach(self, item: Labelled) -> None:
        """One picture; what cannot be taught is named and passed over."""
        name = printable(item.path)
        try:
            if item.error is not None:
                raise item.error
            taught = self._teaching.observe(item.path, item.label)
        except (PictureError, DataError) as error:
            self.failed += 1
            if self._json:
                print(json.dumps({"picture": str(item.path), "error": str(error)}), flush=True)
            else:
                say(str(error))
            return
        self.known += taught.known
        self.learned += not taught.known
        self.asked += taught.answer is not None
        self.right += bool(taught.right)
        if self._json:
            print(json.dumps({"picture": str(item.path), **taught.to_dict()}), flush=True)
        else:
            print(f"{name}: {_sentence(taught)}", flush=True)

    def committed(self, report: LearnReport | None) -> None:
        """While nothing comes."""
        if report is not None and not self._json:
            print(f"committed generation {report.generation}", flush=True)

    def end(self, report: LearnReport | None) -> None:
        """What it was in all."""
        if self._json:
            total: dict[str, object] = {"learned": self.learned, "known": self.known, "failed": self.failed}
            total |= {"asked": self.asked, "right": self.right}
            total |= {"waiting": self._teaching.waiting, "generation": self._teaching.generation}
            print(json.dumps({"taught": total}), flush=True)
            return
        where = f"generation {self._teaching.generation}" if self._teaching.generation else "no new generation"
        before = f", {self.right} of {self.asked} answered right beforehand" if self.asked else ""
        more = f", {size(report.bytes)}" if report else ""
        print(f"taught '{self._teaching.task}' ({where}): {self.learned} pictures, {self.known} known already{before}{more}")


def _sentence(taught: Taught) -> str:
    if taught.known:
        return f"{taught.label}, known already"
    said = "" if taught.answer is None else ", as it said" if taught.right else f", it said {taught.answer}"
    kept = f"; generation {taught.generation}" if taught.generation else ""
    return f"{taught.label}{said}{kept}"
