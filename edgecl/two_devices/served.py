"""A device in a process of its own, as `edgecl serve` runs it: started, asked over its local API, killed, started again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any

from edgecl.errors import EdgeclError
from edgecl.text import printable

WORDS = ("serve", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--no-announce")
_START_SECONDS = 120.0
_ANSWER_SECONDS = 60.0
_SETTLE_SECONDS = 10.0


class Served:
    """A context manager; on leaving it, however that comes, the process is gone.

    home: of the device.   port: where it answers its peers.   shown: the fingerprint that it prints when it starts.
    """

    def __init__(self, home: Path) -> None:
        self.home, self.port, self.shown = home, 0, ""
        self._api = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._log, self._ready = home / "serve.log", home / "ready"

    def start(self) -> float:
        """Start it; seconds until it answers. Raises EdgeclError with what it said when it does not."""
        self.kill()  # one process at a time
        self._ready.unlink(missing_ok=True)
        begun = time.perf_counter()
        with self._log.open("wb") as log:
            command = [*_edgecl(self.home), *WORDS, "--ready-file", str(self._ready)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while not self._ready.exists():
            if self._process.poll() is not None:
                raise EdgeclError(f"edgecl serve ended before it answered: {self._last_words()}")
            if time.perf_counter() - begun > _START_SECONDS:
                raise EdgeclError(f"edgecl serve did not answer within {_START_SECONDS:g} s: {self._last_words()}")
            time.sleep(0.005)
        ports = dict(re.findall(r"^(https?)://\S+:(\d+)$", self._ready.read_text(), re.M))
        self._api, self.port = int(ports["http"]), int(ports["https"])
        found = re.search(r"fingerprint (\S+)", self._log.read_text("utf-8", "replace"))
        self.shown = found[1] if found else ""
        return time.perf_counter() - begun

    def kill(self) -> None:
        """SIGKILL, as a power cut for a process: it has no last word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def ask(self, picture: bytes) -> tuple[int, dict[str, Any]]:
        """What it answers about an encoded picture: HTTP's status, and the JSON."""
        status, body = self._request("POST", "/v1/infer", picture)
        return status, json.loads(body)

    def heads(self) -> dict[str, str]:
        """The tasks that it answers for, with the digests of their bundles."""
        return {head["task"]: head["digest"] for head in json.loads(self._request("GET", "/v1/heads")[1]) if head["serves"]}

    def heard(self) -> int:
        """Requests of peers that it has answered since it was started."""
        text = self._request("GET", "/metrics")[1].decode()
        return sum(int(float(n)) for n in re.findall(r'^edgecl_requests_total\{.*route="peers .*\} (\S+)$', text, re.M))

    def lying(self) -> int:
        """Bytes of bundles that have come in part, once no more of them come."""
        begun, seen, still = time.perf_counter(), 0, 0
        while still < 20 and time.perf_counter() - begun < _SETTLE_SECONDS:
            now = sum(path.stat().st_size for path in (self.home / "incoming").glob("*"))
            still = still + 1 if now and now == seen else 0
            seen = now
            time.sleep(0.005)
        return seen

    def command(self, *words: str) -> str:
        """What an edgecl verb prints in that home, beside the process that serves. Raises EdgeclError when it fails."""
        done = subprocess.run(
            [*_edgecl(self.home), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            raise EdgeclError(f"edgecl {' '.join(words)} failed: {printable(done.stderr.strip(), 600)}")
        return done.stdout.strip()

    def _request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self._api, timeout=_ANSWER_SECONDS)
        try:
            connection.request(method, path, body, {"Content-Type": "image/png"} if body else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, HTTPException) as error:
            raise EdgeclError(f"edgecl serve does not answer {method} {path}: {error!r}; {self._last_words()}") from error
        finally:
            connection.close()

    def _last_words(self) -> str:
        said = self._log.read_text("utf-8", "replace").strip().splitlines() if self._log.exists() else []
        return printable("; ".join(said[-3:]), 600) or "it said nothing"

    def __enter__(self) -> Served:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()  # that is what a device is made for


def _edgecl(home: Path) -> list[str]:
    # -P: the working directory is the user's; a folder edgecl there is none of ours.
    return [sys.executable, "-P", "-m", "edgecl", "--home", str(home)]
