"""`edgecl infer`: pictures -> task, class, how sure; or "unknown"."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from edgecl.cli.common import (
    DeviceOption,
    JsonOption,
    MapperOption,
    RomOption,
    RuntimeOption,
    ThreadsOption,
    open_device,
    say,
)
from edgecl.errors import PictureError
from edgecl.text import printable
from edgecl.types import Prediction


def infer(
    pictures: Annotated[list[str], typer.Argument(help="Files, folders, globs, or - for a list on stdin.")],
    task: Annotated[str | None, typer.Option("--task", help="The task, when it is known: the mapper is not asked.")] = None,
    opinions: Annotated[bool, typer.Option("--opinions", help="Also say what second opinions on the task say.")] = False,
    rom: RomOption = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    mapper: MapperOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer for pictures without being told the task. With --json one line each."""
    from edgecl.pictures.folders import expand

    failed = 0
    with open_device(rom=rom, runtime=runtime, device=device, threads=threads, mapper=mapper) as edge:
        for answer in edge.stream(expand(pictures, sys.stdin.buffer), task=task, live="-" in pictures, opinions=opinions):
            if as_json:
                print(json.dumps(answer.to_dict()), flush=True)
            elif answer.error is None:
                print(sentence(answer), flush=True)
            if answer.error is not None:
                failed += 1
                if not as_json:
                    say(answer.error)
    if failed:
        raise PictureError(f"{failed} of the pictures could not be answered for; the others were")


def sentence(answer: Prediction) -> str:
    """One line for a person."""
    name = printable(answer.source)
    said = "".join(f"; {other}: {label or 'unknown class'}, {sure:.0%}" for other, label, sure in answer.opinions)
    return _sentence(answer, name) + said


def _sentence(answer: Prediction, name: str) -> str:
    if answer.unknown == "task":
        return f"{name}: unknown (no known task; nearest is {answer.nearest_task}, {answer.strangeness:.2f} x its limit)"
    if answer.unknown == "class":
        return f"{name}: {answer.task}, unknown class (nearest is {answer.nearest_label}, {answer.confidence:.0%})"
    return f"{name}: {answer.task} / {answer.label}, {answer.confidence:.0%} sure"
