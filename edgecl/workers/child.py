"""A worker process: takes requests on its standard input, answers on its standard output, ends with its parent.

A message is 4 bytes of length, big-endian, and so many bytes of JSON as UTF-8. Never pickle. Whatever the work prints goes to
the standard error instead.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from typing import IO

from edgecl.workers import calls

MAX_BYTES = 1 << 30  # of a message; a length above it is no length


def put(pipe: IO[bytes], text: str) -> None:
    """Write a message. Raises OSError when nobody reads any more."""
    data = text.encode()
    pipe.write(len(data).to_bytes(4, "big") + data)
    pipe.flush()


def take(pipe: IO[bytes]) -> str:
    """Read a message. Raises EOFError where there is none, or only a part of one."""
    head = pipe.read(4)
    size = int.from_bytes(head, "big")
    if len(head) < 4 or size > MAX_BYTES:
        raise EOFError
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data.decode()


def main() -> None:
    """Serve until the parent closes the pipe or is gone; in the middle of an op too: nobody waits for its result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the parent ends this one
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    idle = threading.Event()

    def read() -> None:
        try:
            while True:
                requests.put(take(sys.stdin.buffer))
        except (EOFError, OSError):
            if not idle.is_set():
                os._exit(1)
            requests.put(None)

    threading.Thread(target=read, daemon=True).start()
    try:
        host = calls.begin(**json.loads(requests.get() or ""))
        put(answers, '{"result": null}')
    except Exception as error:
        put(answers, calls.failure(error))
        return
    while True:
        idle.set()
        text = requests.get()
        idle.clear()
        if text is None:
            break
        put(answers, calls.answer(host, text))
    calls.end(host)
