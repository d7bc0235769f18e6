"""The local API: HTTP to one call of the service, its result to JSON. `openapi` describes it.

The body of a picture is its bytes, as they are; several pictures are several requests, which share a pass of the ROM anyway.
What must be a JSON body must say so: a page of another site, in a browser on this machine, cannot say that unasked.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from edgecl import __version__, registry
from edgecl.errors import ConfigError, MissingDependency, RequestRefused
from edgecl.serve import openapi
from edgecl.serve.guard import Limits
from edgecl.serve.jobs import LearnRequest
from edgecl.serve.measures import MEDIA
from edgecl.serve.replies import App, Message, Receive, Reply, Scope, Send, refusal, reply
from edgecl.serve.service import Service
from edgecl.serve.token import matches
from edgecl.text import printable
from edgecl.types import task_name

try:
    from starlette.requests import Request
    from starlette.routing import Match, Route
except ImportError as error:
    raise MissingDependency(
        "the service needs packages that are not installed; add the extra: pip install 'edgecl[serve]'"
    ) from error

_JSON_BYTES = 64 << 10  # of a request to learn
_HEALTH_SECONDS = 10.0
PICTURES = "pictures"  # folder in the home that may be learned from where there is no data_root
Handler = Callable[[Request], Awaitable[Reply]]


class Api:
    """An ASGI app. token: that every request but /health must carry; "" where none is asked for."""

    def __init__(self, service: Service, token: str = "", limits: Limits | None = None) -> None:
        self._service, self._token = service, token.encode()
        self._openapi = reply(openapi.description(limits or Limits()))
        handlers: list[tuple[str, str, Handler]] = [
            ("POST", "/v1/infer", self._infer),
            ("POST", "/v1/learn", self._learn),
            ("GET", "/v1/jobs", self._jobs),
            ("GET", "/v1/jobs/{id}", self._job),
            ("DELETE", "/v1/jobs/{id}", self._cancel),
            ("GET", "/v1/heads", self._heads),
            ("GET", "/v1/heads/{task}", self._head),
            ("GET", "/health", self._health),
            ("GET", "/metrics", self._metrics),
            ("GET", "/openapi.json", self._describe),
        ]
        # Starlette compiles and matches the paths; what it would add around a handler is not needed here.
        self.routes = [(Route(path, handler, methods=[method]), method, handler) for method, path, handler in handlers]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        method = scope["method"]
        route, status = "other", 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            route, handler, parameters = self._find(scope["path"], method)
            scope["path_params"] = parameters
            if route != "/health" and not self._knows_token(scope):
                raise RequestRefused("this needs the token of the device: Authorization: Bearer TOKEN", 401, "token")
            answer = await handler(Request(scope, receive))
        except Exception as error:
            answer = refusal(error)
        await answer.send(counted)
        known = method if method in ("GET", "POST", "DELETE") else "other"
        self._service.measures.requests.labels(route, known, str(status)).inc()
        self._service.measures.latency.labels(route).observe(time.perf_counter() - began)

    def _find(self, path: str, method: str) -> tuple[str, Handler, dict[str, str]]:
        allowed = []
        for route, verb, handler in self.routes:
            match, found = route.matches({"type": "http", "path": path, "method": verb, "root_path": ""})
            if match is Match.FULL:
                if verb == method:
                    return route.path, handler, found["path_params"]
                allowed.append(verb)
        if allowed:
            raise RequestRefused(f"this path takes {' and '.join(allowed)} only", 405, "method")
        raise RequestRefused("there is nothing at this path; GET /openapi.json says what there is", 404, "unknown-path")

    def _knows_token(self, scope: Scope) -> bool:
        if not self._token:
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and matches(given[0], self._token.decode())

    # -- answering

    async def _infer(self, request: Request) -> Reply:
        media = _media(request)
        if not (media.startswith("image/") or media == "application/octet-stream"):
            raise RequestRefused(
                "the body must be one encoded picture, of Content-Type image/... or application/octet-stream",
                415,
                "media-type",
            )
        if request.headers.get("content-encoding", "identity") != "identity":
            raise RequestRefused("a body with a Content-Encoding is not taken; send the picture as it is", 415, "media-type")
        task = _query(request, "task")
        answer = await self._service.batcher.infer(await request.body(), task_name(task) if task is not None else None)
        return reply({name: value for name, value in answer.to_dict().items() if name != "picture"})

    # -- learning

    async def _learn(self, request: Request) -> Reply:
        if _media(request) != "application/json":
            raise RequestRefused("the body must be JSON, with Content-Type application/json", 415, "media-type")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _JSON_BYTES:
                raise RequestRefused(f"a request to learn is longer than {_JSON_BYTES:,} bytes", 413, "too-large")
        job = self._service.jobs.submit(await asyncio.to_thread(self._learn_request, bytes(body)))
        return reply(job.to_dict(), 202, [("location", f"/v1/jobs/{job.id}")])

    def _learn_request(self, body: bytes) -> LearnRequest:
        try:
            given = json.loads(body)
        except (ValueError, RecursionError):
            raise RequestRefused("the body is no JSON") from None
        fields = openapi.SCHEMAS["LearnRequest"]["properties"]
        if not isinstance(given, dict) or not given.keys() <= fields.keys() or "task" not in given:
            raise RequestRefused(f"a request to learn is an object with task, and perhaps {', '.join(list(fields)[1:])}")
        for name in ("task", "data", "method"):
            if not isinstance(given.get(name, ""), str):
                raise RequestRefused(f"{name} must be a string")
        task = task_name(given["task"])
        method = given.get("method", "linear")
        registry.check("method", registry.METHODS, method)
        return LearnRequest(
            task=task,
            data=allowed_folder(given.get("data", task), self._service.config.data_root, self._service.home),
            method=method,
            seed=_whole(given, "seed", 0, 0, 2**63 - 1) or 0,
            budget=_seconds(given),
            max_bytes=_whole(given, "max_bytes", None, 1, 10**11),
        )

    async def _jobs(self, request: Request) -> Reply:
        return reply([job.to_dict() for job in self._service.jobs.all()])

    async def _job(self, request: Request) -> Reply:
        return reply(self._service.jobs.get(request.path_params["id"]).to_dict())

    async def _cancel(self, request: Request) -> Reply:
        job = self._service.jobs.cancel(request.path_params["id"])
        return reply(job.to_dict(), 200 if job.ended else 202)

    # -- looking

    async def _heads(self, request: Request) -> Reply:
        def look() -> list[dict[str, Any]]:
            device = self._service.device
            serving = set(device.tasks)
            return [
                {"task": g.task, "generation": g.number, "digest": g.digest, "bytes": g.bytes, "serves": g.task in serving}
                for task in device.bank.current()
                for g in device.bank.history(task)
                if g.current
            ]

        return reply(await self._service.run(look))

    async def _head(self, request: Request) -> Reply:
        def look() -> dict[str, Any]:
            device = self._service.device
            name = task_name(request.path_params["task"])
            digest = device.bank.current().get(name)
            if digest is None:
                raise device.bank.unknown(name)
            bundle = device.bundle(digest)
            custody, card = device.trust.custody(bundle), bundle.card()
            kept = ("task", "classes", "method", "rom_id", "report", "provenance")
            return {name: card[name] for name in kept} | {
                "digest": digest,
                "serves": name in device.tasks,
                "signer": custody.signer,
                "fingerprint": custody.fingerprint,
                "history": [
                    {"generation": g.number, "current": g.current, "action": g.action, "bytes": g.bytes, "digest": g.digest}
                    for g in device.bank.history(name)
                ],
            }

        return reply(await self._service.run(look))

    async def _health(self, request: Request) -> Reply:
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                tasks = await self._service.look()
        except TimeoutError:
            raise RequestRefused("the device is busy and did not answer in time", 503, "busy") from None
        except Exception as error:
            raise RequestRefused(f"the device cannot answer: {error}", 503, "unable") from error
        if not self._knows_token(request.scope):
            return reply({"status": "ok"})
        facts = vars(self._service.facts)
        return reply({"status": "ok", "version": __version__, **facts, "tasks": list(tasks)})

    async def _metrics(self, request: Request) -> Reply:
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                await self._service.look()
        except Exception:
            pass  # the other figures are told all the same, and /health says why
        return Reply(self._service.measures.text(), media=MEDIA)

    async def _describe(self, request: Request) -> Reply:
        return self._openapi


def app(service: Service, token: str = "", limits: Limits | None = None) -> App:
    """The ASGI app for a `Listener`."""
    return Api(service, token, limits)


def allowed_folder(data: str, data_root: str, home: Path) -> Path:
    """The folder to learn from, with all links followed: below `data_root`, or without one below pictures/ in the home.

    Raises RequestRefused (403) for any other place, whether there is something or not; ConfigError when nothing is there.
    """
    root = (Path(data_root).expanduser() if data_root else home / PICTURES).resolve()
    try:
        folder = (root / data).resolve()
        there = folder.is_dir()
    except (OSError, ValueError, RuntimeError):  # a NUL, a loop of links, too long
        raise RequestRefused("data is no name of a folder", 400) from None
    if not folder.is_relative_to(root):
        where = "data_root" if data_root else f"{PICTURES}/ in the home, because no data_root is set"
        raise RequestRefused(f"only folders below {where} may be learned from", 403, "outside-data-root")
    if not there:
        raise RequestRefused(f"there is no folder '{printable(data, 200)}' to learn from", 404, "no-data")
    return folder


def _media(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _query(request: Request, name: str) -> str | None:
    """Its one value. What is not known is refused: a misspelt word would be an answer to another question."""
    given = request.query_params.multi_items()
    if any(key != name for key, _ in given) or len(given) > 1:
        raise RequestRefused(f"of this path only one {name}=... may be asked")
    return given[0][1] if given else None


def _whole(given: dict[str, Any], name: str, default: int | None, least: int, most: int) -> int | None:
    value = given.get(name, default)
    if value is default:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigError(f"{name} must be a whole number from {least} to {most}")
    return value


def _seconds(given: dict[str, Any]) -> float | None:
    value = given.get("budget")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0.001 <= value <= 1e9:
        raise ConfigError("budget must be a number of seconds above 0")
    return float(value)
