"""`edgecl serve`: the device as one process that answers local programs."""

from __future__ import annotations

import asyncio
import ipaddress
from pathlib import Path
from typing import Annotated, Any

import typer

from edgecl.cli.common import (
    DeviceOption,
    MapperOption,
    RomOption,
    RuntimeOption,
    ThreadsOption,
    say,
)
from edgecl.errors import ConfigError
from edgecl.text import printable

DEFAULT = "127.0.0.1:7434"


def serve(
    api: Annotated[str, typer.Option("--api", help="HOST:PORT of the local API; port 0: a free one; off: none.")] = DEFAULT,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Let the API be asked from other machines: with a token, which travels unencrypted."),
    ] = False,
    host_name: Annotated[
        list[str] | None, typer.Option("--host-name", help="A further name by which the API may be asked on loopback.")
    ] = None,
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, max=256, help="Pictures in one pass of the ROM.")] = 16,
    max_queue: Annotated[
        int, typer.Option("--max-queue", min=1, max=10_000, help="Pictures that may wait; beyond it: 503.")
    ] = 64,
    ready_file: Annotated[
        Path | None, typer.Option("--ready-file", help="File that gets the addresses, one a line, once they answer.")
    ] = None,
    rom: RomOption = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    mapper: MapperOption = None,
) -> None:
    """Answer and learn for programs on this machine, over HTTP, until Ctrl-C or SIGTERM. Prints `ready URL` when it does."""
    host, port = _address(api) if api != "off" else ("", 0)
    if not host:
        raise ConfigError("nothing would be served: --api is off")
    from edgecl.files import write_whole
    from edgecl.serve.service import Listener, Service, event_loop, listen, require_packages

    require_packages()
    from edgecl.serve.api import app
    from edgecl.serve.batching import BatchSettings
    from edgecl.serve.guard import LOOPBACK_NAMES
    from edgecl.serve.guard import host_name as plain
    from edgecl.serve.token import TOKEN_FILE, api_token

    local = _is_loopback(host)
    if not local and not insecure:
        raise ConfigError(
            f"{printable(host, 80)} can be reached from other machines, and the API speaks plain HTTP: its token would travel "
            f"unencrypted. Keep {DEFAULT} behind a proxy that speaks HTTPS; or, on a network you trust, add --insecure"
        )

    async def run() -> None:
        sock = listen(host, port)  # before the ROM is opened: a taken port is known at once
        options: dict[str, Any] = {"runtime": runtime, "device": device, "threads": threads, "mapper": mapper}
        options["rom"] = str(rom) if rom else None
        async with Service(batch=BatchSettings(max_batch, max_queue), say=say, **options) as service:
            token = "" if local else api_token(service.home)
            names = LOOPBACK_NAMES | {host.lower()} | {plain(name.encode()) for name in host_name or ()}
            listeners = [Listener("api", app(service, token), sock, hosts=names if local else None)]
            say(f"{service.facts}; {len(service.tasks)} tasks{': ' if service.tasks else ''}{', '.join(service.tasks)}")
            for one in listeners:
                say(f"{one.name}: {one.url}")
            if token:
                say(
                    f"the API asks for the token in {service.home / TOKEN_FILE}, which travels unencrypted: anybody on the way "
                    f"can read it and use this device"
                )

            def ready() -> None:
                if ready_file:
                    write_whole(ready_file, "".join(f"{one.url}\n" for one in listeners).encode())
                for one in listeners:
                    print(f"ready {one.url}", flush=True)

            try:
                await service.serve(listeners, ready)
            finally:
                say("stopping")

    with asyncio.Runner(loop_factory=event_loop()) as runner:
        runner.run(run())


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"--api takes HOST:PORT, such as {DEFAULT} or [::1]:7434, or off; got '{printable(text, 80)}'")
    return host, int(port)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
