"""One device, one process: a thread that owns the device, and any number of servers in front of it, in one event loop.

    service = Service(home, rom=...)
    async with service:                        # the device is open, and has answered once
        api = Listener("api", api.app(service), listen("127.0.0.1", 7434), hosts=...)
        await service.serve([api, ...])        # until SIGTERM or SIGINT

Everything that touches device, mapper or ROM runs on the one thread, by `await service.run(function, *arguments)`; so nothing
in there needs a lock, and a change by another process is seen between two batches, never inside one.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgecl import config as configuration
from edgecl.device import EdgeDevice
from edgecl.errors import ConfigError, MissingDependency
from edgecl.pictures.decode import decode
from edgecl.serve.batching import Batcher, BatchSettings, answer_batch, warm_up
from edgecl.serve.door import Door
from edgecl.serve.guard import Limits, protocol
from edgecl.serve.jobs import STATES, Jobs, learn_options
from edgecl.serve.measures import Measures
from edgecl.serve.replies import App
from edgecl.text import printable

if TYPE_CHECKING:
    import uvicorn

T = TypeVar("T")
_STOP_SECONDS = 15  # for requests that are being answered


@dataclass(frozen=True)
class Facts:
    """What serves; it does not change while the service runs."""

    rom_id: str
    backbone: str
    runtime: str
    provider: str
    precision: str

    def __str__(self) -> str:
        return f"ROM {self.rom_id[:12]} ({self.backbone}, {self.precision}) on {self.runtime} {self.provider}"


@dataclass(frozen=True)
class Listener:
    """A server in front of the device.

    hosts: names it may be asked by, as `guard.host_name` gives them; None takes any.   tls: for HTTPS.
    sock: bound, not yet listening.   http: the class that speaks with a client, in place of `protocol(limits, hosts)`.
    """

    name: str
    app: App
    sock: socket.socket
    hosts: frozenset[str] | None = None
    tls: ssl.SSLContext | None = None
    limits: Limits = field(default_factory=Limits)
    http: type[asyncio.Protocol] | None = None

    @property
    def url(self) -> str:
        """Where it is reached, with the port it really has."""
        host, port = self.sock.getsockname()[:2]
        return f"http{'s' if self.tls else ''}://{f'[{host}]' if ':' in host else host}:{port}"


class Service:
    """The device in `home` with its worker, batcher and jobs. options: of `EdgeDevice`: rom, runtime, ..."""

    def __init__(
        self,
        home: str | Path | None = None,
        *,
        batch: BatchSettings | None = None,
        say: Callable[[str], None] = lambda line: None,
        **options: Any,
    ) -> None:
        self.home = configuration.home(home)
        self.measures = Measures()
        self._batch, self._say = batch or BatchSettings(), say
        self._options = {key: value for key, value in options.items() if value is not None}
        self._worker = ThreadPoolExecutor(1, "edgecl-device")
        self._servers: list[uvicorn.Server] = []
        self._stopping: asyncio.Event | None = None
        self.device: EdgeDevice  # touched on the worker only
        self.config: configuration.DeviceConfig
        self.facts: Facts
        self.tasks: tuple[str, ...] = ()  # when they were last looked at
        self.batcher: Batcher
        self.jobs: Jobs

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """`function(*arguments)` on the device's thread, after what waits there already."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, function, *arguments)

    def run_here(self, work: Callable[[], T]) -> T:
        """`run` for another thread than the event loop's: it waits."""
        return self._worker.submit(work).result()

    # -- from start to end

    async def __aenter__(self) -> Service:
        self._stopping = asyncio.Event()
        try:
            await self.run(self._open)
        except BaseException:
            await self._end()
            raise
        preprocess, limit = self.device.rom.preprocess, self._batch
        self.batcher = Batcher(
            lambda data: decode(data, preprocess),
            lambda pixels, tasks: answer_batch(self.device, pixels, tasks),
            self._worker,
            limit,
            self.measures.batches.observe,
        )
        self.jobs = Jobs(self.home, learn_options(self._options))
        self.measures.watch(lambda: self.batcher.queued, self.jobs.count, STATES)
        await self.look()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.jobs.close()
        await asyncio.to_thread(self.batcher.close)
        await self._end()

    def _open(self) -> None:
        self.device = EdgeDevice(self.home, say=self._say, **self._options)
        self.config = self.device.config
        rom = self.device.rom
        self.facts = Facts(rom.rom_id, rom.image.backbone, rom.runtime, rom.provider, rom.image.precision)
        warm_up(self.device)

    async def _end(self) -> None:
        if hasattr(self, "device"):
            await self.run(self.device.close)
        self._worker.shutdown()

    async def look(self) -> tuple[str, ...]:
        """The tasks answered for, after taking up what has changed in the bank. Raises what keeps the device from answering."""

        def see() -> tuple[tuple[str, ...], int]:
            return self.device.tasks, self.device.bank.size()

        self.tasks, size = await self.run(see)
        self.measures.tasks.set(len(self.tasks))
        self.measures.bank.set(size)
        return self.tasks

    async def serve(
        self, listeners: Sequence[Listener], ready: Callable[[], None] = lambda: None, signals: bool = True
    ) -> None:
        """Serve until `stop`, SIGTERM or SIGINT; requests that are being answered are answered.

        ready: called once all of them take requests.   signals: whether this process' signals are for the service.
        """
        assert self._stopping is not None
        self._servers = [server(listener) for listener in listeners]
        with self._signals() if signals else contextlib.nullcontext():
            running = [
                asyncio.create_task(one.serve([listener.sock]), name=listener.name)
                for one, listener in zip(self._servers, listeners, strict=True)
            ]
            until = asyncio.create_task(self._stopping.wait())
            try:
                while not all(one.started for one in self._servers) and not any(task.done() for task in running):
                    await asyncio.sleep(0.005)
                if all(one.started for one in self._servers):
                    ready()
                await asyncio.wait([until, *running], return_when=asyncio.FIRST_COMPLETED)
            finally:
                until.cancel()
                for one in self._servers:
                    one.should_exit = True
                learning = asyncio.create_task(self.jobs.close())  # at the same time: it may take a while to end
                await asyncio.gather(*running)
                await learning

    def stop(self) -> None:
        """Begin to end. Asked a second time: at once, whatever is being answered."""
        assert self._stopping is not None
        if self._stopping.is_set():
            for one in self._servers:
                one.force_exit = True
        self._stopping.set()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
        for number in numbers:
            try:
                loop.add_signal_handler(number, self.stop)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.stop))
        try:
            yield
        finally:
            for number in numbers:
                with contextlib.suppress(NotImplementedError):
                    loop.remove_signal_handler(number)


def server(listener: Listener) -> uvicorn.Server:
    """uvicorn for it, behind a guard, without a word in the log for each request, and leaving signals alone."""
    import uvicorn

    class Quiet(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup([] if listener.tls else sockets)
            if listener.tls:
                self.servers.append(Door(listener.sock, self._made, listener.tls, listener.limits))  # type: ignore[arg-type]

        def _made(self) -> asyncio.Protocol:
            made: Callable[..., asyncio.Protocol] = settings.http_protocol_class
            return made(config=settings, server_state=self.server_state, app_state=self.lifespan.state)

    settings = uvicorn.Config(
        listener.app,
        http=listener.http or protocol(listener.limits, listener.hosts),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,  # nobody's word is taken for where a request comes from
        server_header=False,
        date_header=False,  # a board may not know the time
        backlog=listener.limits.connections,
        timeout_keep_alive=int(listener.limits.idle_seconds),
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    return Quiet(settings)


def listen(host: str, port: int, buffer: int = 0) -> socket.socket:
    """A bound socket; port 0 takes a free one. buffer: bytes that it may receive ahead; 0: the system's choice.

    Raises ConfigError when the address cannot be had.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, number)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)  # those that it accepts have it too
            sock.bind(address)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
    except (OSError, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot listen on {printable(host, 80)}:{port}: {reason}; choose another address or port") from error
    return sock


def event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where that is installed, for `asyncio.Runner`."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def require_packages() -> None:
    """Raise MissingDependency unless what serving needs is installed."""
    try:
        import starlette
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            "the service needs packages that are not installed; add the extra: pip install 'edgecl[serve]'"
        ) from error
    del starlette
