"""Either side of a share is killed at many points; nothing that was acknowledged may be lost, and little is sent again.

    python benchmarks/kill_points.py [--points 120] [--rom DIR]

Two processes over real HTTPS on loopback. At a point, one of them gets SIGKILL: by bytes of the stream that were handed over
(evenly from the first to the last), and by time behind that: for the receiver behind the last byte, where it commits. Then
whoever died starts again and the share is repeated. Sent again is what the sender had handed over
and the receiver had not in its file; the receiver's own memory and the sockets' buffers are in it.
"""

from __future__ import annotations

import argparse
import contextlib
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecl.device import EdgeDevice
from edgecl.peering import Station, give, inbox
from edgecl.sharing.chunks import CHUNK
from edgecl.sharing.transport.https import Https
from edgecl.sharing.trust import Peer


@dataclass(frozen=True)
class Point:
    """Who dies, and when: `bytes` of the stream handed over, then `seconds` later."""

    side: str
    bytes: int
    seconds: float = 0.0


def serve(home: Path, rom: str, port: int) -> None:
    """The receiver. Tells its port through `port`, a pipe."""
    from edgecl.serve.peers import PeerApp, listener, peers_socket
    from edgecl.serve.service import server

    device = EdgeDevice(home, rom=rom, threads=1)
    _ = device.rom
    sock = peers_socket("127.0.0.1", 0)
    running = server(listener(PeerApp(Station(device), inbox(device)), device, sock))
    os.write(port, f"{sock.getsockname()[1]}\n".encode())
    running.run([sock])


def child(work: Callable[[], object]) -> int:
    """A process that does `work` and ends."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


class Sending(Https):
    """A channel that counts what it hands over, and kills at a point. seen: [0] bytes of the stream handed over."""

    def __init__(self, address: str, device: EdgeDevice, key: str, seen: memoryview, point: Point | None, victim: int) -> None:
        super().__init__(address, device.trust.signer, [key])
        self._seen, self._point, self._victim = seen, point, victim

    def ask(self, message: bytes) -> bytes:
        self._maybe()
        return super().ask(message)

    def send(self, stream: Iterable[bytes]) -> bytes:
        def counted() -> Iterable[bytes]:
            for part in stream:
                for at in range(0, len(part), 4096):
                    self._maybe()
                    piece = part[at : at + 4096]
                    self._seen[0] += len(piece)
                    yield piece
            self._maybe()

        with self._post("/v1/send", counted()) as pieces:  # not gathered: each piece is a point
            return b"".join(pieces)

    def _maybe(self) -> None:
        if self._point is not None and self._seen[0] >= self._point.bytes:
            if self._point.seconds:
                child(lambda seconds=self._point.seconds: _kill(self._victim, seconds))  # type: ignore[misc]
            else:
                _kill(self._victim)
            self._point = None


def _kill(victim: int, seconds: float = 0.0) -> None:
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):  # it was through before
        os.kill(victim, signal.SIGKILL)


def share(near: Path, far: Path, rom: str, point: Point | None, told: Path) -> int:
    """One share, in two processes; bytes of the stream that were handed over."""
    seen = memoryview(mmap.mmap(-1, 8)).cast("q")
    reading, writing = os.pipe()
    receiver = child(lambda: serve(far, rom, writing))
    os.close(writing)
    with os.fdopen(reading) as pipe:
        port = int(pipe.readline())

    def send() -> None:
        from edgecl.errors import TransferError

        with EdgeDevice(near, rom=rom, threads=1) as device:
            _ = device.rom
            key = device.trust.peers["far"].key
            victim = receiver if point and point.side == "receiver" else os.getpid()
            with Sending(f"127.0.0.1:{port}", device, key, seen, point, victim) as channel:
                try:
                    outcomes = give(device, channel)
                except TransferError:
                    return
            told.write_text(" ".join(o.digest for o in outcomes if o.state in ("shared", "known")))

    sender = child(send)
    os.waitpid(sender, 0)
    os.kill(receiver, signal.SIGKILL)
    os.waitpid(receiver, 0)
    return int(seen[0])


def prepared(place: Path, rom: str, kilobytes: int) -> tuple[Path, Path]:
    """A device with one head, and one that trusts it."""
    from edgecl.bench.synthetic import World
    from edgecl.registry import DEFAULT_MAPPERS

    near, far = place / "near", place / "far"
    with EdgeDevice(near, rom=rom, threads=1) as a, EdgeDevice(far, rom=rom, threads=1) as b:
        bundle = World(a.rom.width, DEFAULT_MAPPERS).bundle(0, a.rom.rom_id)
        filler = "".join(np.random.default_rng(0).choice(list("0123456789abcdef"), kilobytes * 1000))
        bundle = a.trust.sign(type(bundle)(bundle.task, bundle.head, bundle.anchors, extra={"filler": filler}))
        a.bank.put(bundle.task, bundle.to_bytes(), "learn", bundle.mark)
        a.trust.trust(Peer("far", b.trust.signer.key))
        b.trust.trust(Peer("near", a.trust.signer.key))
    return near, far


def strike(near: Path, far: Path, rom: str, point: Point, scratch: Path) -> tuple[bool, int]:
    """Share into a copy of `far` with a kill at `point`, then again: (acknowledged the first time, bytes sent again)."""
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(far, scratch)
    told = scratch.with_suffix(".told")
    told.unlink(missing_ok=True)
    sent = share(near, scratch, rom, point, told)
    acknowledged = told.exists()
    with EdgeDevice(near, rom=rom, threads=1) as a, EdgeDevice(scratch, rom=rom, threads=1) as b:
        ((task, digest),) = a.bank.current().items()
        whole, here = a.bank.get(digest), b.bank.current().get(task) == digest
        if acknowledged and not here:
            raise SystemExit(f"{point}: acknowledged, and lost")
        if problems := b.bank.verify():
            raise SystemExit(f"{point}: the bank is damaged: {problems}")
    lying = sum(p.stat().st_size for p in (scratch / "incoming").glob("*")) if (scratch / "incoming").exists() else 0
    share(near, scratch, rom, None, told)
    with EdgeDevice(scratch, rom=rom, threads=1) as b:
        if not told.exists() or b.bank.get(b.bank.current()[task]) != whole or b.bank.verify():
            raise SystemExit(f"{point}: the second share did not complete it")
    return acknowledged, 0 if here else max(0, min(sent, len(whole)) - lying)


def points(size: int, count: int, seed: int = 0) -> list[Point]:
    """That many for each side."""
    rng = random.Random(seed)
    found = [Point(side, round(size * n / (count * 3 // 4))) for side in ("sender", "receiver") for n in range(count * 3 // 4)]
    found += [Point("receiver", size, rng.uniform(0.0005, 0.06)) for _ in range(count - count * 3 // 4)]
    found += [Point("sender", rng.randrange(size), rng.uniform(0.0005, 0.02)) for _ in range(count - count * 3 // 4)]
    return found


def main() -> None:
    """Strike at all of them, and print what was sent again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=120, help="for each side")
    parser.add_argument("--kilobytes", type=int, default=500, help="by which the bundle is longer than a usual one")
    parser.add_argument("--rom", required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        near, far = prepared(Path(place), given.rom, given.kilobytes)
        with EdgeDevice(near, rom=given.rom) as a:
            size = len(a.bank.get(next(iter(a.bank.current().values()))))
        again: list[int] = []
        acknowledged = 0
        for number, point in enumerate(points(size, given.points)):
            was, resent = strike(near, far, given.rom, point, Path(place) / "scratch")
            acknowledged += was
            again.append(resent)
            if number % 20 == 19:
                print(f"{number + 1} points", file=sys.stderr)
        worst, middle = max(again), sorted(again)[len(again) // 2]
        print(
            f"{len(again)} points, a bundle of {size:,} bytes: nothing lost after an acknowledgement ({acknowledged} had one)"
        )
        print(f"every transfer completed; sent again: at most {worst:,} bytes, median {middle:,}; a chunk has {CHUNK:,}")


if __name__ == "__main__":
    main()
