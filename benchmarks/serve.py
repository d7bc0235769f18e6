"""`edgecl serve` against the floor in the same run: the raw runtime on the same ROM, batch 1, one picture after the other.

    python benchmarks/serve.py PICTURES [--home HOME] [--rom ROM] [--rounds 10] [--seconds 2] [--requests 50000] [-o FILE]

HOME is a device that has learned something; PICTURES a folder of real ones. The service runs as users start it. All clients
live in one other process, on raw sockets, and share the machine's cores with it: `without_client` is what the ratio would be if
their CPU time were the service's. The floor and the service take short turns, and every figure of the service is held against
the floor just before and after it: other programs on the machine then reach both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import psutil

from edgecl.bench.conditions import conditions
from edgecl.bench.pictures import of_folder
from edgecl.config import home
from edgecl.device import EdgeDevice
from edgecl.pictures.decode import decode

SHOWN = 64  # pictures


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it is answered. After a 503 it waits `pause` seconds."""

    def __init__(self, load: Load) -> None:
        self._load, self._left, self._began = load, b"", 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        if self._load.over():
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(self._load.request())

    def data_received(self, data: bytes) -> None:
        self._left += data
        head, ends, body = self._left.partition(b"\r\n\r\n")
        if not ends:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if len(body) < int(fields[b"content-length"]):
            return
        status = int(head[9:12])
        self._left = b""
        self._load.answered(status, time.perf_counter() - self._began, b"retry-after" in fields)
        if status == 503 and self._load.pause:
            asyncio.get_running_loop().call_later(self._load.pause, self._ask)
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(exc, bool(self._left) or not self._load.over())


class Load:
    """A number of clients for some seconds, or until so many requests were answered."""

    def __init__(self, port: int, pictures: list[bytes], clients: int, seconds: float, requests: int, pause: float) -> None:
        head = f"POST /v1/infer HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: image/jpeg\r\n"
        self._requests = [f"{head}Content-Length: {len(p)}\r\n\r\n".encode() + p for p in pictures]
        random.Random(0).shuffle(self._requests)
        self._port, self._clients, self._seconds, self._most, self.pause = port, clients, seconds, requests, pause
        self._at = 0
        self._statuses: Counter[str] = Counter()
        self._times: list[float] = []
        self._open = 0

    def request(self) -> bytes:
        self._at += 1
        return self._requests[self._at % len(self._requests)]

    def over(self) -> bool:
        return time.perf_counter() > self._until or (self._most > 0 and self._at >= self._most)

    def answered(self, status: int, seconds: float, retry_after: bool) -> None:
        self._statuses[str(status) + ("" if status != 503 or retry_after else " without Retry-After")] += 1
        if status == 200:
            self._times.append(seconds)

    def lost(self, error: Exception | None, early: bool) -> None:
        self._open -= 1
        if error or early:
            self._statuses[f"lost: {error}"] += 1
        if not self._open:
            self._done.set_result(None)

    async def run(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        self._done = loop.create_future()
        began, cpu = time.perf_counter(), time.process_time()
        self._until = began + self._seconds
        self._open = self._clients
        for _ in range(self._clients):
            await loop.create_connection(lambda: Client(self), "127.0.0.1", self._port)
        await self._done
        return {
            "seconds": time.perf_counter() - began,
            "cpu": time.process_time() - cpu,
            "statuses": dict(self._statuses),
            "times": self._times,
        }


def clients(pipe: Connection) -> None:
    """The clients' process: loads come in, figures go out."""
    try:
        import uvloop

        factory = uvloop.new_event_loop
    except ImportError:
        factory = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        while order := pipe.recv():
            pipe.send(runner.run(Load(*order).run()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--home", type=Path, default=home())
    parser.add_argument("--rom", type=Path)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one turn")
    parser.add_argument("--overload", type=int, default=10, help="times the clients")
    parser.add_argument("--requests", type=int, default=50_000, help="for the memory; 0: none")
    parser.add_argument("--serve", default="", help="further words for edgecl serve")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    shown = of_folder(options.pictures, SHOWN)
    device = EdgeDevice(options.home, rom=options.rom, threads=options.threads)
    rom = device.rom
    found: dict[str, Any] = {"conditions": conditions(rom.runtime, rom.provider, options.threads)}
    words = [sys.executable, "-m", "edgecl", "--home", str(options.home), "serve", "--listen", "off", "--api", "127.0.0.1:0"]
    words += ["--threads", str(options.threads), *(["--rom", str(options.rom)] if options.rom else []), *options.serve.split()]
    with tempfile.TemporaryFile() as log:
        service = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert service.stdout
            port = int(service.stdout.readline().rpartition(":")[2])
            context = multiprocessing.get_context("spawn")
            pipe, other = context.Pipe()
            process = context.Process(target=clients, args=(other,), daemon=True)
            process.start()
            measure(options, found, shown, rom, port, pipe, psutil.Process(service.pid))
            pipe.send(None)
        finally:
            service.terminate()
            service.wait(30)
    device.close()
    print(json.dumps({key: value for key, value in found.items() if key != "conditions"}, indent=1))
    if options.output:
        options.output.write_text(json.dumps(found, indent=1))


def measure(
    options: Any, found: dict[str, Any], shown: list[bytes], rom: Any, port: int, pipe: Connection, service: psutil.Process
) -> None:
    def load(count: int, seconds: float, requests: int = 0, pause: float = 0.0) -> dict[str, Any]:
        pipe.send((port, shown, count, seconds, requests, pause))
        result: dict[str, Any] = pipe.recv()
        return result

    def floor(seconds: float) -> float:
        began, n = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            rom.features(decode(shown[n % len(shown)], rom.preprocess)[None])
            n += 1
        return n / (time.perf_counter() - began)

    def turns(count: int, pause: float = 0.0) -> dict[str, Any]:
        """The service under so many clients, and the floor, in turns."""
        rows, times, statuses = [], [], Counter[str]()
        before = floor(options.seconds / 2)
        for _ in range(options.rounds):
            busy = sum(service.cpu_times()[:2])
            result = load(count, options.seconds, pause=pause)
            busy = sum(service.cpu_times()[:2]) - busy
            after = floor(options.seconds / 2)
            raw, before = (before + after) / 2, after
            rate = len(result["times"]) / result["seconds"]
            rows.append((raw, rate, rate / raw, result["cpu"] / (result["cpu"] + busy)))
            times += result["times"]
            statuses.update(result["statuses"])
        raw, rate, ratio, share = (float(value) for value in np.median(rows, axis=0))
        p50, p99 = (float(value) * 1e3 for value in np.percentile(times, (50, 99)))
        return {
            "clients": count,
            "floor": round(raw, 1),
            "serve": round(rate, 1),
            "ratio": round(ratio, 3),
            "ratios": [round(row[2], 3) for row in rows],
            "without_client": round(ratio / (1 - share), 3),
            "p50_ms": round(p50, 1),
            "p99_ms": round(p99, 1),
            "statuses": dict(statuses),
        }

    floor(1.0)
    load(options.clients, 1.0)
    found["throughput"] = turns(options.clients)
    found["one_client"] = turns(1)
    if options.requests:
        memory = [service.memory_info().rss]
        answered = Counter[str]()
        for part in range(10):
            answered.update(load(options.clients, 3600.0, options.requests // 10)["statuses"])
            memory.append(service.memory_info().rss)
            print(f"{(part + 1) * options.requests // 10:,} requests: {memory[-1]:,} bytes", file=sys.stderr, flush=True)
        found["memory"] = {
            "statuses": dict(answered),
            "rss_mb": [round(value / 1e6, 2) for value in memory],
            "grown_after_the_first_tenth": round(memory[-1] / memory[1] - 1, 4),
        }
    # Last: what its large batches leave free in the heap would hide a leak.
    found["overload"] = turns(options.clients * options.overload, pause=0.05)


if __name__ == "__main__":
    main()
