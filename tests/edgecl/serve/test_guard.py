"""What strangers may do to a connection, and how it ends. Deadlines are short here: the tests wait for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from edgecl.errors import Overloaded, RequestRefused
from edgecl.serve.guard import LOOPBACK_NAMES, Limits, host_name, refused_head
from edgecl.serve.replies import Receive, Scope, Send, refusal, reply

Guarded = Callable[..., int]
SHORT = Limits(
    body=100_000, held=150_000, head=4096, connections=8, head_seconds=0.4, body_seconds=0.4, body_rate=10**9,
    write_seconds=0.4, linger_seconds=0.4, idle_seconds=1.0,
)  # fmt: skip
ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def size(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers how long the body was, and the path."""
    try:
        total, more = 0, True
        while more:
            message = await receive()
            total, more = total + len(message["body"]), message["more_body"]
        answer = reply({"size": total, "path": scope["path"]})
    except RequestRefused as error:
        answer = refusal(error)
    await answer.send(send)


def talk(port: int, *parts: bytes, seconds: float = 20.0) -> bytes:
    """Send `parts` and read until the other side closes, or has been silent for a while; what it said."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as sock, contextlib.suppress(ConnectionError):
        for part in parts:
            sock.sendall(part)
        while chunk := sock.recv(1 << 16):
            said += chunk
    return said


def status(said: bytes) -> int:
    return int(said.split(b" ", 2)[1]) if said else 0


def error(said: bytes) -> dict[str, str]:
    found: dict[str, str] = json.loads(said.partition(b"\r\n\r\n")[2])
    return found


def test_a_connection_that_says_nothing_is_closed(guarded: Guarded) -> None:
    assert talk(guarded(size, SHORT)) == b""


def test_slow_loris_a_head_that_trickles_is_cut_off_though_it_never_stops(guarded: Guarded) -> None:
    port = guarded(size, SHORT)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        said = b""
        sock.settimeout(0.05)
        for number in range(400):
            try:
                sock.sendall(b"X-%d: y\r\n" % number)
                chunk = sock.recv(4096)
            except TimeoutError:
                continue
            except ConnectionError:
                break
            said += chunk
            if not chunk:
                break
        else:
            pytest.fail("it was never closed")
    assert status(said) == 408 and error(said)["reason"] == "slow"
    assert status(talk(port, ASK)) == 200  # and others are served


def test_slow_loris_a_body_that_stops_is_cut_off(guarded: Guarded) -> None:
    said = talk(guarded(size, SHORT), b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    assert status(said) == 408 and error(said)["kind"] == "RequestRefused"


def test_a_body_may_take_longer_than_the_grace_when_it_comes_fast_enough(guarded: Guarded) -> None:
    port = guarded(size, replace(SHORT, body_seconds=0.3, body_rate=10))
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\n")
        for _ in range(6):
            sock.sendall(b"0123456789")
            time.sleep(0.15)
        assert status(sock.recv(4096)) == 200


def test_declared_small_sent_huge_the_rest_is_another_request_and_refused_as_one(guarded: Guarded) -> None:
    said = talk(guarded(size, SHORT), b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n" + b"A" * 50_000)
    assert b'"size":5' in said or said.startswith(b"HTTP/1.1 400")
    assert b'"size":50' not in said


def test_a_body_declared_too_large_is_refused_before_it_is_sent(guarded: Guarded) -> None:
    said = talk(guarded(size, SHORT), b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\nExpect: 100-continue\r\n\r\n")
    assert status(said) == 413 and error(said)["reason"] == "too-large" and b"100 Continue" not in said


def test_an_endless_body_is_refused_and_the_connection_does_not_outlive_it(guarded: Guarded) -> None:
    port = guarded(size, SHORT)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(2_000_000):
                sock.sendall(b"2000\r\n" + b"A" * 0x2000 + b"\r\n")
    assert status(talk(port, ASK)) == 200


def test_many_bodies_at_once_are_bounded_together(guarded: Guarded) -> None:
    port = guarded(size, replace(SHORT, body_seconds=5.0))
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n"
    first = socket.create_connection(("127.0.0.1", port), timeout=20)
    first.sendall(head + b"A" * 89_999)
    time.sleep(0.2)
    said = talk(port, head + b"A" * 89_999)
    assert status(said) == 503 and b"retry-after: 1" in said
    first.sendall(b"A")
    assert status(first.recv(4096)) == 200
    first.close()


@pytest.mark.parametrize(
    "head",
    [b"".join(b"X-%d: %s\r\n" % (n, b"v" * 10) for n in range(200)), b"X: " + b"v" * 5000 + b"\r\n"],
    ids=["many", "long"],
)
def test_header_bombs_are_refused(guarded: Guarded, head: bytes) -> None:
    said = talk(guarded(size, SHORT), b"GET / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")
    assert status(said) == 431


def test_a_header_without_an_end_is_refused_long_before_it_fills_the_memory(guarded: Guarded) -> None:
    port = guarded(size, replace(SHORT, head_seconds=60.0))
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock, pytest.raises(ConnectionError):
        sock.sendall(b"GET / HTTP/1.1\r\nX: ")
        for _ in range(2_000_000):
            sock.sendall(b"v" * 8192)


def test_a_long_path_is_refused(guarded: Guarded) -> None:
    assert status(talk(guarded(size, SHORT), b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")) == 431


def test_a_reader_that_stands_still_is_cut_off(guarded: Guarded) -> None:
    ended = threading.Event()

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(1000):
                await send({"type": "http.response.body", "body": b"A" * 100_000, "more_body": True})
        finally:
            ended.set()

    port = guarded(large, SHORT)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", port))
        sock.sendall(ASK)
        assert ended.wait(20)


def test_a_request_whose_client_has_gone_is_cancelled(guarded: Guarded) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    port = guarded(slow, SHORT)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(ASK)
        assert begun.wait(20)
    assert cancelled.wait(20)


def test_connections_beyond_the_limit_are_told_to_come_again(guarded: Guarded) -> None:
    port = guarded(size, replace(SHORT, connections=2, head_seconds=20.0))
    open_ones = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(2)]
    time.sleep(0.1)
    said = talk(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status(said) == 503 and b"retry-after" in said
    for one in open_ones:
        one.close()
    time.sleep(0.1)
    assert status(talk(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == 200


def test_requests_sent_ahead_are_answered_in_order_and_not_without_bound(guarded: Guarded) -> None:
    port = guarded(size, SHORT)
    few = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(5))
    said = talk(port, few)
    assert [said.index(b'"path":"/%d"' % n) for n in range(5)] == sorted(said.index(b'"path":"/%d"' % n) for n in range(5))
    assert talk(port, ASK * 2000).count(b"200 OK") < 100


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +0\r\n\r\n" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 40\r\n\r\n" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + SMUGGLED,
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\rGET /smuggled HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n X: folded\r\n\r\n" + SMUGGLED,
    ],
)
def test_smuggling_what_two_readers_could_divide_differently_is_refused(guarded: Guarded, request_: bytes) -> None:
    said = talk(guarded(size, SHORT), request_)
    assert status(said) in (400, 501), said
    assert b"smuggled" not in said


@pytest.mark.parametrize(
    "rubbish",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\x00" * 64, b"SSH-2.0-x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
)
def test_what_is_no_http_gets_an_error_in_json_and_is_closed(guarded: Guarded, rubbish: bytes) -> None:
    said = talk(guarded(size, SHORT), rubbish)
    assert status(said) in (400, 408, 505) and set(error(said)) == {"error", "kind", "reason"}


def scope(*headers: tuple[str, str], path: bytes = b"/", version: str = "1.1") -> Scope:
    return {
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "raw_path": path, "query_string": b"", "http_version": version,
    }  # fmt: skip


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:7434", "127.0.0.1:80", "[::1]:7434", "localhost."])
def test_loopback_names_are_let_in(host: str) -> None:
    assert refused_head(scope(("host", host)), SHORT, LOOPBACK_NAMES, 1) is None


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:7434", "", "::1", "[::1].evil"]
)
def test_dns_rebinding_another_name_in_the_host_is_refused(host: str) -> None:
    refused = refused_head(scope(("host", host)), SHORT, LOOPBACK_NAMES, 1)
    assert refused is not None and refused.status == 421


def test_a_page_of_another_site_is_refused_and_one_of_this_machine_is_not() -> None:
    for origin, allowed in (("http://localhost:3000", True), ("https://evil.example", False), ("null", False)):
        refused = refused_head(scope(("host", "localhost"), ("origin", origin)), SHORT, LOOPBACK_NAMES, 1)
        assert (refused is None) == allowed


def test_two_hosts_or_none_are_refused() -> None:
    for headers in ((("host", "x"), ("host", "y")), ()):
        refused = refused_head(scope(*headers), SHORT, None, 1)
        assert refused is not None and refused.status == 400
    assert refused_head(scope(version="1.0"), SHORT, None, 1) is None


def test_the_name_in_a_host_header() -> None:
    assert [host_name(h) for h in (b"A:1", b"[::1]:7", b"[::1", b":80", b"\xff")] == ["a", "[::1]", "", "", "\xff"]


def test_too_many_connections_come_before_everything_else() -> None:
    assert isinstance(refused_head(scope(), SHORT, None, 9), Overloaded)
