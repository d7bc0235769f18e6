"""`edgecl share` and `edgecl pull`: what one device has learned, others can do."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

from edgecl.cli.common import JsonOption, RomOption, open_device, say, size
from edgecl.errors import BundleError, ConfigError, TransferError
from edgecl.text import printable
from edgecl.types import task_name

if TYPE_CHECKING:
    from edgecl.exchange import Outcome


def _names(given: list[str] | None) -> list[str] | None:
    return given and [task_name(name) for name in given]


Tasks = Annotated[list[str] | None, typer.Argument(help="Tasks. Default: all.", callback=_names)]


def share(
    tasks: Tasks = None,
    to: Annotated[
        list[str] | None, typer.Option("--to", help="Folder (a USB stick), or s3://BUCKET/PREFIX; repeatable.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put heads where other devices can take them (edgecl pull); they say who learned them, and are whole or not there."""
    from edgecl.exchange import share as run
    from edgecl.sharing.transport.opening import open_place

    if not to:
        raise ConfigError("say where the heads shall go: edgecl share --to FOLDER, or s3://BUCKET/PREFIX")
    failed, refused = [], 0
    with open_device() as edge:
        for word in to:
            try:
                outcomes = run(edge, open_place(word), tasks or ())
            except TransferError as error:  # one stick that is full must not keep the others empty
                say(str(error))
                failed.append(word)
                continue
            for outcome in outcomes:
                _tell(outcome, word, as_json)
                refused += outcome.state == "refused"
            if not outcomes and not as_json:
                print("the bank is empty; nothing to share")
    if refused:
        raise BundleError(f"{refused} heads were not shared: no other device would take them")
    if failed:
        raise TransferError(f"{len(failed)} of {len(to)} places could not be written: {printable(', '.join(failed))}")


def pull(
    tasks: Tasks = None,
    source: Annotated[str | None, typer.Option("--from", help="Folder or bucket that heads were shared to.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also in place of a head that another device learned.")] = False,
    rom: RomOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the heads of trusted signers (edgecl peers) that are new; each is checked before it is put in force."""
    from edgecl.exchange import pull as run
    from edgecl.sharing.transport.opening import open_place

    if source is None:
        raise ConfigError("say where the heads are: edgecl pull --from FOLDER, or s3://BUCKET/PREFIX")
    with open_device(rom=rom) as edge:
        outcomes = run(edge, open_place(source), tasks or (), replace, lambda outcome: _tell(outcome, source, as_json))
    refused = [outcome for outcome in outcomes if outcome.state == "refused"]
    if not outcomes and not as_json:
        print(f"there are no heads in {printable(source)}")
    if refused:
        raise BundleError(f"{len(refused)} of {len(outcomes)} heads were refused; nothing of them was kept")


def _tell(outcome: Outcome, where: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**dataclasses.asdict(outcome), "place": where}), flush=True)
        return
    what, place = f"'{outcome.task}' ({size(outcome.size)})", printable(where)
    lines = {
        "shared": f"shared {what} to {place}",
        "taken": f"took {what} from {place}",
        "known": f"{what} was there already" + (f": {printable(outcome.message, 600)}" if outcome.message else ""),
        "foreign": f"{what} is left there: {printable(outcome.message, 600)}",
        "older": f"{what}, {outcome.digest[:12]}, is older than what is {'here' if outcome.reason else 'there'} of that device",
    }
    if outcome.state == "refused":
        why = f" ({outcome.reason})" if outcome.reason else ""
        say(f"refused {outcome.digest[:12]}{why}: {printable(outcome.message, 600)}")
    else:
        print(lines[outcome.state], flush=True)
