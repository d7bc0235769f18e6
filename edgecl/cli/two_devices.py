"""`edgecl demo --two-devices`: what one device has learned, the other can do."""

from __future__ import annotations

import json
import shlex
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgecl.cli.common import command, configured, console, out, progress, say
from edgecl.text import printable

if TYPE_CHECKING:
    from rich.table import Table

    from edgecl.two_devices.story import Result


def play(keep: Path | None, quick: bool, options: Mapping[str, object], as_json: bool) -> None:
    """Tell the story. options: of the device, as the command line has them."""
    from edgecl.serve.service import require_packages

    require_packages()
    from edgecl.demo import learned, vacant
    from edgecl.two_devices.story import run

    started = time.perf_counter()
    if keep:
        vacant(keep)
    tell = say if as_json else out
    tasks = learned(quick)
    tell("edgecl demo --two-devices: what one device has learned, the other can do.")
    tell(f"They live in {printable(keep) if keep else 'a temporary folder'}; your own bank is not touched.")
    settings = configured(tell, **options)
    exported = time.perf_counter() - started
    with nullcontext(str(keep)) if keep else tempfile.TemporaryDirectory(prefix="edgecl-demo-") as place:
        result = run(Path(place), tasks, settings, tell=tell, watch=progress, started=started)
    if as_json:
        print(json.dumps(result.to_dict()))
    else:
        _report(result, exported, tell)
        if keep:
            _play_on(keep, result.rows[0].task, tell)
        else:
            tell("With --keep FOLDER both devices stay, to play on with.")
    if not result.held:
        say("FAILED: " + "; ".join(claim.claim for claim in result.claims if not claim.held))
        raise typer.Exit(1)


def _report(result: Result, exported: float, tell: Callable[[str], None]) -> None:
    tell("")
    console().print(_tasks(result))
    tell("")
    tell("train, test: pictures; B has seen none before it was asked. kB: the bundle.")
    tell("right, unknown, wrong: B's answers, untold the task. as A: in every field.")
    tell("")
    console().print(_claims(result))
    tell("")
    made = f", {exported:.0f} s of it to load pictures and make the ROM" if exported > 1 else ""
    failed = sum(not claim.held for claim in result.claims)
    verdict = f"{failed} of {len(result.claims)} claims FAILED" if failed else f"All {len(result.claims)} claims held"
    tell(f"{verdict}; {result.seconds:.0f} s in all{made}.")


def _tasks(result: Result) -> Table:
    table = _table("task")
    for name in ("classes", "train", "kB", "test", "right", "unknown", "wrong", "as A"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in result.rows:
        shares = [f"{share:.0%}" for share in (row.right, row.unknown, row.wrong)]
        counts = [str(row.classes), str(row.train), f"{row.bytes / 1000:.0f}", str(row.test)]
        table.add_row(row.task, *counts, *shares, str(row.same))
    return table


def _claims(result: Result) -> Table:
    table = _table("claim")
    table.add_column("measured", no_wrap=True)
    table.add_column("held", no_wrap=True)
    for claim in result.claims:
        table.add_row(claim.claim, claim.measured, "yes" if claim.held else "NO", style=None if claim.held else "bold red")
    return table


def _table(first: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(first, no_wrap=True)
    return table


def _play_on(home: Path, task: str, tell: Callable[[str], None]) -> None:
    from edgecl.sharing.signing import fingerprint, public_key

    a, b = (f"{command()} --home {shlex.quote(str(home / name))}" for name in "AB")
    key, pictures = public_key(home / "A"), shlex.quote(str(home / "pictures"))
    tell("")
    tell(f"Both devices stay in {printable(home)}. Play on:")
    tell(f"  {a} infer {pictures}/*.png")
    tell(f"  {b} peers ls")
    tell(f"  {b} peers trust A {key} --fingerprint {fingerprint(key)}")
    tell(f"  {b} heads rollback {task}")
    tell(f"  {b} infer {pictures}/*.png")
