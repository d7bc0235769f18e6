"""`edgecl serve`: the device as one process that answers its peers and local programs."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgecl.cli.common import (
    DeviceOption,
    MapperOption,
    RomOption,
    RuntimeOption,
    ThreadsOption,
    say,
)
from edgecl.errors import ConfigError, EdgeclError
from edgecl.text import printable

if TYPE_CHECKING:
    from edgecl.serve.service import Service

DEFAULT = "127.0.0.1:7434"
PEERS = "0.0.0.0:7433"


def serve(
    peers: Annotated[
        str, typer.Option("--listen", help="HOST:PORT where trusted devices may share and pull; port 0: a free one; off: none.")
    ] = PEERS,
    name: Annotated[
        str, typer.Option("--name", help="What this device is called on the network. Default: its host name.")
    ] = "",
    announce: Annotated[bool, typer.Option(help="Be found by edgecl peers scan.")] = True,
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
    """Share with trusted devices, and answer and learn for programs on this machine, until Ctrl-C or SIGTERM.

    Prints `ready URL` for each of the two when it answers.
    """
    host, port = _address(api, "--api", DEFAULT) if api != "off" else ("", 0)
    peers_host, peers_port = _address(peers, "--listen", PEERS) if peers != "off" else ("", 0)
    if not host and not peers_host:
        raise ConfigError("nothing would be served: --api and --listen are off")
    from edgecl.files import write_whole
    from edgecl.serve.service import Listener, Service, event_loop, listen, require_packages

    require_packages()
    from edgecl.peering import Station, inbox
    from edgecl.serve.api import app
    from edgecl.serve.batching import BatchSettings
    from edgecl.serve.guard import LOOPBACK_NAMES
    from edgecl.serve.guard import host_name as plain
    from edgecl.serve.peers import PeerApp, listener, peers_socket
    from edgecl.serve.token import TOKEN_FILE, api_token
    from edgecl.sharing.signing import fingerprint

    local = not host or _is_loopback(host)
    if not local and not insecure:
        raise ConfigError(
            f"{printable(host, 80)} can be reached from other machines, and the API speaks plain HTTP: its token would travel "
            f"unencrypted. Keep {DEFAULT} behind a proxy that speaks HTTPS; or, on a network you trust, add --insecure"
        )

    async def run() -> None:
        # Before the ROM is opened: a taken port is known at once.
        socks = [listen(host, port) if host else None, peers_socket(peers_host, peers_port) if peers_host else None]
        options: dict[str, Any] = {"runtime": runtime, "device": device, "threads": threads, "mapper": mapper}
        options["rom"] = str(rom) if rom else None
        async with contextlib.AsyncExitStack() as stack:
            service = await stack.enter_async_context(Service(batch=BatchSettings(max_batch, max_queue), say=say, **options))
            listeners, token = [], ""
            say(f"{service.facts}; {len(service.tasks)} tasks{': ' if service.tasks else ''}{', '.join(service.tasks)}")
            if socks[0]:
                token = "" if local else api_token(service.home)
                names = LOOPBACK_NAMES | {host.lower()} | {plain(word.encode()) for word in host_name or ()}
                listeners.append(Listener("api", app(service, token), socks[0], hosts=names if local else None))
            if socks[1]:
                station = Station(service.device, service.run_here)
                peer_app = PeerApp(station, inbox(service.device), service.measures.peer)
                listeners.append(listener(peer_app, service.device, socks[1]))
                say(f"peers know this device by its fingerprint {fingerprint(service.device.trust.signer.key)}")
            for one in listeners:
                say(f"{one.name}: {one.url}")
            if token:
                say(
                    f"the API asks for the token in {service.home / TOKEN_FILE}, which travels unencrypted: anybody on the way "
                    f"can read it and use this device"
                )
            if socks[1] and announce:
                await _announce(stack, service, socks[1], name or socket.gethostname())

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


async def _announce(stack: contextlib.AsyncExitStack, service: Service, sock: socket.socket, name: str) -> None:
    """Be found on the network while the stack is open; where that cannot be, say so and go on."""
    from edgecl.sharing.discovery import Announcer

    host, port = sock.getsockname()[:2]
    anywhere = host in ("0.0.0.0", "::")
    announcer = Announcer(
        name, port, service.device.trust.signer.key, service.facts.rom_id, interfaces=None if anywhere else [host]
    )
    try:
        await asyncio.to_thread(announcer.start)
    except EdgeclError as error:
        say(f"not announced: {error}. Peers reach this device by its address")
        return
    stack.push_async_callback(asyncio.to_thread, announcer.stop)
    say(f"announced as '{announcer.name}'; edgecl peers scan finds it")


def _address(text: str, option: str, default: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{option} takes HOST:PORT, such as {default} or [::1]:7434, or off; got '{printable(text, 80)}'")
    return host, int(port)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
