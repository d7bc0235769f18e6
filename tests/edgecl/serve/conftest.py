"""Real servers on real sockets, in a thread of the test's process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgecl.device import EdgeDevice

pytest.importorskip("uvicorn", reason="serving needs packages: pip install 'edgecl[serve]'")
pytest.importorskip("starlette", reason="serving needs packages: pip install 'edgecl[serve]'")
pytest.importorskip("prometheus_client", reason="serving needs packages: pip install 'edgecl[serve]'")
pytest.importorskip("httpx", reason="serving needs packages: pip install 'edgecl[serve]'")

from edgecl.serve.api import app
from edgecl.serve.guard import LOOPBACK_NAMES, Limits
from edgecl.serve.replies import App
from edgecl.serve.service import Listener, Service, listen, server


@dataclass
class Running:
    """A service that answers. call: runs a function on its event loop and waits for it."""

    url: str
    port: int
    service: Service
    call: Callable[[Callable[[], Any]], Any]
    stop: Callable[[], None]


@contextlib.contextmanager
def in_a_thread(main: Callable[[Callable[..., None]], Any]) -> Iterator[tuple[Any, ...]]:
    """Run `main(ready)` on an event loop of its own; gives what it hands to `ready`. `main` must end by itself."""
    up, told, failed = threading.Event(), [], []

    def ready(*values: Any) -> None:
        told.extend(values)
        up.set()

    def run() -> None:
        try:
            asyncio.run(main(ready))
        except BaseException as error:
            failed.append(error)
        finally:
            up.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert up.wait(60)
    if failed:
        raise failed[0]
    try:
        yield tuple(told)
    finally:
        told[0]()
        thread.join(60)
        assert not thread.is_alive()
    if failed:
        raise failed[0]


@pytest.fixture
def guarded() -> Iterator[Callable[..., int]]:
    """Puts an ASGI app behind a guard: `guarded(app, limits, hosts)` gives its port."""
    with contextlib.ExitStack() as stack:

        def start(behind: App, limits: Limits, hosts: frozenset[str] | None = None) -> int:
            async def main(ready: Callable[..., None]) -> None:
                sock = listen("127.0.0.1", 0)
                one = server(Listener("test", behind, sock, hosts, limits=limits))
                loop = asyncio.get_running_loop()
                running = asyncio.create_task(one.serve([sock]))
                while not one.started:
                    await asyncio.sleep(0.005)
                ready(lambda: loop.call_soon_threadsafe(setattr, one, "should_exit", True), sock.getsockname()[1])
                await running

            return int(stack.enter_context(in_a_thread(main))[1])

        yield start


@pytest.fixture
def serving(home: Path, tiny_rom: Path) -> Iterator[Callable[..., Running]]:
    """Serves the device in the home: `serving(token="...", limits=..., batch=...)`."""
    with contextlib.ExitStack() as stack:

        def start(token: str = "", limits: Limits | None = None, **options: Any) -> Running:
            async def main(ready: Callable[..., None]) -> None:
                loop = asyncio.get_running_loop()
                async with Service(home, rom=str(tiny_rom), threads=1, **options) as service:
                    sock = listen("127.0.0.1", 0)
                    names = LOOPBACK_NAMES if not token else None
                    front = Listener("api", app(service, token), sock, names, limits=limits or Limits())

                    def call(function: Callable[[], Any]) -> Any:
                        async def there() -> Any:
                            return function()

                        return asyncio.run_coroutine_threadsafe(there(), loop).result(30)

                    def stop() -> None:
                        with contextlib.suppress(RuntimeError):  # it has ended already
                            loop.call_soon_threadsafe(service.stop)

                    port = sock.getsockname()[1]
                    await service.serve([front], lambda: ready(stop, front.url, port, service, call), signals=False)

            stop, url, port, service, call = stack.enter_context(in_a_thread(main))
            return Running(url, port, service, call, stop)

        yield start


@pytest.fixture
def learned(device: Callable[..., EdgeDevice], pictures_task: Mapping[str, Path]) -> EdgeDevice:
    """The home, with two tasks known."""
    edge = device(threads=1)
    for task in ("colours", "stripes"):
        edge.learn(task, pictures_task[task])
    return edge


@pytest.fixture
def picture(pictures_task: Mapping[str, Path]) -> bytes:
    """A red patch as JPEG."""
    return (pictures_task["colours"] / "test" / "red" / "01.jpg").read_bytes()
