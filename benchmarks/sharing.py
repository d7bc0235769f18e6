"""What sharing costs: time against copying the same bytes over the same TLS connection, and bytes on the wire.

python benchmarks/sharing.py [--heads 100] [--rom DIR]

Two processes on loopback. The far one serves peers as `edgecl serve` does, and takes copies: a body per head, kept in memory or
written as a file that is on the disk before the answer (the floor: a head that is shared is on the disk too). Wire bytes are
counted by a relay that both connections go through; they hold the handshake and all of TLS, not TCP's and IP's headers.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from edgecl.bench.synthetic import World, name
from edgecl.device import EdgeDevice
from edgecl.peering import give
from edgecl.registry import DEFAULT_MAPPERS
from edgecl.sharing.transport.https import Https
from edgecl.sharing.transport.tls import client_context
from edgecl.sharing.trust import Peer

ROUNDS = 3


def far(home: str, rom: str, copies: str) -> None:
    """The other device, until its standard input ends."""
    from edgecl.files import write_whole
    from edgecl.peering import Station, inbox
    from edgecl.serve.peers import PeerApp, listener, peers_socket
    from edgecl.serve.service import server

    class WithCopies(PeerApp):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if not scope["path"].startswith("/copy/"):
                await super().__call__(scope, receive, send)
                return
            body, more = bytearray(), True
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
            if scope["path"] == "/copy/file":
                write_whole(Path(copies) / str(time.monotonic_ns()), bytes(body))
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

    device = EdgeDevice(home, rom=rom, threads=1)
    _ = device.mapper
    app = WithCopies(Station(device), inbox(device))
    sock = peers_socket("127.0.0.1", 0)
    running = server(listener(app, device, sock))
    threading.Thread(target=running.run, args=([sock],), daemon=True).start()
    while not running.started:
        time.sleep(0.01)
    print(sock.getsockname()[1], flush=True)
    for line in sys.stdin:  # "usable TASK": answer for it
        task = line.split()[1]
        while task not in device.tasks:
            time.sleep(0.002)
        print(device.infer([np.full((300, 300, 3), 90, np.uint8)], task)[0].nearest_label, flush=True)


class Relay:
    """Passes bytes between a port of its own and another, and counts them."""

    def __init__(self, port: int) -> None:
        self.bytes = 0
        self._to = port
        self._listen = socket.create_server(("127.0.0.1", 0))
        self.port = self._listen.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listen.accept()
            end = socket.create_connection(("127.0.0.1", self._to))
            for a, b in ((near, end), (end, near)):
                threading.Thread(target=self._pass, args=(a, b), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 20):
                self.bytes += len(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def copied(port: int, device: EdgeDevice, key: str, way: str, bodies: list[bytes]) -> float:
    """Seconds to copy the bodies, one request each, over one connection that is open already."""
    context = client_context(device.trust.signer, [key])
    with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=context, trust_env=False) as client:
        client.post("/copy/memory", content=b"warm")
        started = time.perf_counter()
        for body in bodies:
            client.post(way, content=body)
        return time.perf_counter() - started


def round_of(rom: str, near: EdgeDevice, one: EdgeDevice, folder: Path) -> dict[str, float]:
    """All figures, with a far device that knows nothing yet. near: has all the heads.   one: has one more."""
    folder.mkdir()
    (folder / "copies").mkdir()
    with EdgeDevice(folder / "home", rom=rom, threads=1) as other:
        for number, device in enumerate((near, one)):
            other.trust.trust(Peer(f"near-{number}", device.trust.signer.key))
        key = other.trust.signer.key
    for device in (near, one):
        for known in device.trust.peers.values():  # of the round before
            device.trust.revoke(known.name)
        device.trust.trust(Peer(f"far-{folder.name}", key))
    command = [sys.executable, __file__, "--far", str(folder / "home"), "--copies", str(folder / "copies"), "--rom", rom]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    try:
        port = int(process.stdout.readline())
        relay = Relay(port)
        bodies = [near.export(task) for task in near.bank.current()]
        size = sum(map(len, bodies))
        figures = {"bytes": size / len(bodies)}
        with Https(f"127.0.0.1:{port}", near.trust.signer, [key]) as channel:
            channel.ask(b'{"ask":null}')
            started = time.perf_counter()
            outcomes = give(near, channel)
            figures["share"] = time.perf_counter() - started
        assert {o.state for o in outcomes} == {"shared"}, outcomes
        figures["copy to memory"] = copied(port, near, key, "/copy/memory", bodies)
        figures["copy to disk"] = copied(port, near, key, "/copy/file", bodies)
        with Https(f"127.0.0.1:{relay.port}", near.trust.signer, [key]) as channel:
            assert {o.state for o in give(near, channel)} == {"known"}
        time.sleep(0.2)
        figures["wire, unchanged"] = relay.bytes
        relay.bytes = 0
        (task,) = one.bank.current()
        with Https(f"127.0.0.1:{relay.port}", one.trust.signer, [key]) as channel:
            assert give(one, channel)[0].state == "shared"
            started = time.perf_counter()
            process.stdin.write(f"usable {task}\n")
            process.stdin.flush()
            process.stdout.readline()
            figures["usable"] = time.perf_counter() - started
        time.sleep(0.2)
        figures["wire, one head"] = relay.bytes / len(one.export(task))
        return figures
    finally:
        process.kill()
        process.wait()


def wire_of_all(rom: str, near: EdgeDevice, folder: Path) -> float:
    """Bytes on the wire for all heads in one share, against the bundles' own."""
    folder.mkdir()
    with EdgeDevice(folder / "home", rom=rom, threads=1) as other:
        other.trust.trust(Peer("near", near.trust.signer.key))
        key = other.trust.signer.key
    near.trust.trust(Peer(f"far-{folder.name}", key))
    command = [sys.executable, __file__, "--far", str(folder / "home"), "--copies", str(folder), "--rom", rom]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        relay = Relay(int(process.stdout.readline()))
        with Https(f"127.0.0.1:{relay.port}", near.trust.signer, [key]) as channel:
            assert {o.state for o in give(near, channel)} == {"shared"}
        time.sleep(0.2)
        return relay.bytes / sum(len(near.export(task)) for task in near.bank.current())
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", type=int, default=100)
    parser.add_argument("--rom", default="")
    parser.add_argument("--far", default="", help=argparse.SUPPRESS)
    parser.add_argument("--copies", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.far:
        far(given.far, given.rom, given.copies)
        return
    with tempfile.TemporaryDirectory() as place, EdgeDevice(Path(place) / "near", rom=given.rom or None, threads=1) as near:
        rom = str(near.rom.image.folder)
        with EdgeDevice(Path(place) / "one", rom=rom, threads=1) as one:
            world = World(near.rom.width, DEFAULT_MAPPERS)
            for number in range(given.heads + 1):
                device = one if number == given.heads else near
                bundle = device.trust.sign(world.bundle(number, near.rom.rom_id))
                device.bank.put(name(number), bundle.to_bytes(), "learn", bundle.mark)
            rounds = [round_of(rom, near, one, Path(place) / str(number)) for number in range(ROUNDS)]
            middle = {key: statistics.median(figures[key] for figures in rounds) for key in rounds[0]}
            wire = wire_of_all(rom, near, Path(place) / "wire")
    print(f"{given.heads} heads of {middle['bytes']:,.0f} bytes, median of {ROUNDS} rounds")
    for floor in ("copy to disk", "copy to memory"):
        print(f"share {middle['share']:.3f} s, {floor} {middle[floor]:.3f} s: {middle['share'] / middle[floor]:.2f} x")
    print(f"on the wire, all heads in one share: {wire:.4f} x their bytes; one head alone: {middle['wire, one head']:.4f} x")
    print(f"on the wire, share of an unchanged bank: {middle['wire, unchanged']:,.0f} bytes")
    print(f"a head is usable {middle['usable']:.3f} s after the push")


if __name__ == "__main__":
    main()
