"""`edgecl share` and `edgecl pull`: what one device has learned, others can do."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

from edgecl.cli.common import JsonOption, RomOption, open_device, say
from edgecl.errors import BundleError, ConfigError, TransferError
from edgecl.text import printable, size
from edgecl.types import task_name

if TYPE_CHECKING:
    from edgecl.exchange import Outcome


def _names(given: list[str] | None) -> list[str] | None:
    return given and [task_name(name) for name in given]


Tasks = Annotated[list[str] | None, typer.Argument(help="Tasks. Default: all.", callback=_names)]
PLACES = "a peer's name, HOST:PORT, a folder such as a USB stick, or s3://BUCKET/PREFIX"


def share(
    tasks: Tasks = None,
    to: Annotated[list[str] | None, typer.Option("--to", help=f"{PLACES}; several times for more.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Give heads to a trusted device, or put them where devices can take them; they say who learned them."""
    from edgecl.peering import share_to

    if not to:
        raise ConfigError(f"say where the heads shall go: edgecl share --to with {PLACES}")
    failed, refused = [], 0
    with open_device() as edge:
        for word in to:
            told: list[Outcome] = []

            def tell(outcome: Outcome, word: str = word, told: list[Outcome] = told) -> None:
                told.append(outcome)
                _tell(outcome, word, as_json)

            try:
                share_to(edge, word, tasks or (), tell)
            except TransferError as error:  # one stick that is full must not keep the others empty
                say(str(error))
                failed.append(word)
                continue
            refused += sum(outcome.state == "refused" for outcome in told)
            if not told and not as_json:
                print("the bank is empty; nothing to share")
    if refused:
        raise BundleError(f"{refused} heads were not shared: they would not be taken")
    if failed:
        raise TransferError(f"{len(failed)} of {len(to)} places could not be given all: {printable(', '.join(failed))}")


def pull(
    tasks: Tasks = None,
    source: Annotated[str | None, typer.Option("--from", help=f"{PLACES}.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All tasks that are there, as without names.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Also in place of a head that another device learned.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Even what takes known tasks' pictures.")] = False,
    name: Annotated[str | None, typer.Option("--as", help="Keep the one named under this name, as a second opinion.")] = None,
    rom: RomOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the heads of trusted signers (edgecl peers) that are new; each is checked before it is put in force."""
    from edgecl.importing import Wishes
    from edgecl.peering import pull_from

    if source is None:
        raise ConfigError(f"say where the heads are: edgecl pull --from with {PLACES}")
    if every and tasks:
        raise ConfigError("--all takes all tasks, so it names none; leave one of the two out")
    if name is not None and len(tasks or ()) != 1:
        raise ConfigError("--as names one head: edgecl pull TASK --from FOLDER --as NAME")
    with open_device(rom=rom) as edge:

        def tell(outcome: Outcome) -> None:
            _tell(outcome, source, as_json)

        outcomes = pull_from(edge, source, tasks or (), tell, Wishes(replace=replace, anyway=anyway), name)
    refused = [outcome for outcome in outcomes if outcome.state == "refused"]
    if not outcomes and not as_json:
        print(f"there are no heads in {printable(source)}")
    if refused:
        raise BundleError(f"{len(refused)} of {len(outcomes)} heads were refused; nothing of them was kept")


def _tell(outcome: Outcome, where: str, as_json: bool) -> None:
    from edgecl.collisions import percentages

    if as_json:
        print(json.dumps({**dataclasses.asdict(outcome), "place": where}), flush=True)
        return
    what, place = f"'{outcome.task}' ({size(outcome.size)})", printable(where)
    lost = "; if it has lost its bank: edgecl peers rotate there"
    older = f"here of that device{lost}" if outcome.reason else "there of that device"
    lines = {
        "shared": f"shared {what} to {place}",
        "taken": f"took {what} from {place}",
        "known": f"{what} was there already" + (f": {printable(outcome.message, 600)}" if outcome.message else ""),
        "foreign": f"{what} is left there: {printable(outcome.message, 600)}",
        "older": f"{what}, {outcome.digest[:12]}, is older than what is {older}",
    }
    if outcome.state == "refused":
        why = f" ({outcome.reason})" if outcome.reason else ""
        say(f"refused {outcome.digest[:12]}{why}: {printable(outcome.message, 600)}")
    else:
        print(lines[outcome.state], flush=True)
    if outcome.takes and outcome.state == "taken":
        say(f"'{outcome.task}' takes {percentages(outcome.takes)}")
    for note in outcome.notes:
        say(f"note on '{outcome.task}': {note}")
