"""Workers that are processes of this machine, each a fresh interpreter: nothing is inherited but the environment."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from edgecl.workers import calls
from edgecl.workers.base import Worker, WorkerDied
from edgecl.workers.child import put, take

# Modules are found where this process finds them, wherever it was told to look.
_PROGRAM = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from edgecl.workers.child import main; main()"
_PATIENCE = 5.0  # seconds that an idle worker gets to put its things away


class Child(Worker):
    """A child process at the other end of two pipes."""

    def __init__(self, start: str, settings: Mapping[str, Any]) -> None:
        self._first = json.dumps({"start": start, "settings": dict(settings)})
        self._process: subprocess.Popen[bytes] | None = None
        self._busy = self._stopped = False

    def start(self) -> None:
        self._kill()
        if self._stopped:
            raise WorkerDied
        command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        calls.result(self.call(self._first))

    def call(self, text: str) -> str:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise WorkerDied
        self._busy = True
        try:
            put(process.stdin, text)
            return take(process.stdout)
        except (OSError, EOFError, ValueError) as error:
            process.kill()  # if it only does not speak any more: nobody may write where others go on
            process.wait()
            raise WorkerDied from error
        finally:
            self._busy = False

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def stop(self) -> None:
        self._stopped = True
        process = self._process
        if process is not None and not self._busy and process.stdin is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                process.stdin.close()
                process.wait(_PATIENCE)
        self._kill()

    def _kill(self) -> None:
        process = self._process
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None and not self._busy:
                        pipe.close()
